"""Every formula of loss_formulas.pxd once more, for Numba: functions that return the value and the derivative.

As numba_scalar.py, on whose functions they rest. x is the input, t the target.
"""

from __future__ import annotations

import numpy as np

from . import numba_scalar


def formulas(T, machine):
    """All losses for one type, by name, as functions that ``machine.compiled`` has made."""
    compiled, muladd, fused = machine.compiled, machine.muladd, machine.fused
    single = T is np.float32
    scalar = numba_scalar.formulas(T, machine)
    absolute, clip, tanh, log, log1m, log_parts, normalised = (
        scalar[name] for name in ("absolute", "clip", "tanh", "log", "log1m", "log_parts", "normalised"))  # fmt: skip
    sum_parts, product_parts, reciprocal_parts, product_low, plus_log1p_parts = (scalar[name] for name in (
        "sum_parts", "product_parts", "reciprocal_parts", "product_low", "plus_log1p_parts"))  # fmt: skip
    exp_parts, half_power, decay_parts, expm1_parts = (
        scalar[name] for name in ("exp_parts", "half_power", "decay_parts", "expm1_parts"))  # fmt: skip
    zero, half, one, two = (T(c) for c in (0, 0.5, 1, 2))
    largest, nan = T(np.finfo(T).max), T(np.nan)
    bound = T(largest / 4)

    # --- Distances -----------------------------------------------------------------------------------------------

    @compiled
    def sign(d):
        return one if d > zero else (-one if d < zero else d)

    @compiled
    def mse(x, t):
        d = x - t
        return d * d, two * d

    @compiled
    def mae(x, t):
        d = x - t
        return absolute(d), sign(d)

    @compiled
    def huber(x, t, delta):
        d = x - t
        a = absolute(d)
        return half * d * d if a <= delta else delta * (a - half * delta), clip(d, -delta, delta)

    @compiled
    def smooth_l1(x, t, beta):
        d = x - t
        a = absolute(d)
        r = d / beta
        return half * r * d if a < beta else a - half * beta, r if a < beta else sign(d)

    @compiled
    def smooth_l1_of_one(x, t, beta):
        """The same for a beta of 1, without the division."""
        d = x - t
        a = absolute(d)
        return half * d * d if a < one else a - half, d if a < one else sign(d)

    reach = T(1e9 if single else 1e18)
    log_two = T(0.693147182464599609375 if single else 0.6931471805599453094)
    log_two_low = T(-1.90465429995776767e-09 if single else 2.319046813846299615e-17)

    @compiled
    def log_cosh(x, t):
        """With E = exp(-|d|) - 1: log1p(E^2 / (2 (1 + E))) near 0, else |d| - log(2) + log1p((1 + E)^2)."""
        d = x - t
        a = absolute(d)
        a = reach if a > reach else a
        high, low = expm1_parts(-a, zero)
        m = high + low
        m_low = low - (m - high)
        q, q_low = sum_parts(one, zero, m, m_low)
        far = q * q
        q, q_low = reciprocal_parts(q, q_low)
        q, q_low = product_parts(half * m, half * m_low, q, q_low)
        q, q_low = product_parts(q, q_low, m, m_low)
        q = q if a < one else far
        q_low = q_low if a < one else zero
        far, far_low = sum_parts(a, zero, -log_two, -log_two_low)
        far = far if a >= one else zero
        far_low = far_low if a >= one else zero
        high, low = plus_log1p_parts(far, far_low, q, q_low)
        a = absolute(d)
        return a if a > reach else high + low, tanh(d)

    # --- Margins, for targets of -1 and 1 ------------------------------------------------------------------------

    @compiled
    def hinge(x, t):
        margin = fused(-x, t, one)
        return zero if margin <= zero else margin, zero if margin <= zero else (-t if margin > zero else margin)

    @compiled
    def squared_hinge(x, t):
        margin, ignored = hinge(x, t)
        return margin * margin, -two * t * margin

    # --- Logits and probabilities of two classes, for targets from 0 to 1 ----------------------------------------

    @compiled
    def share(a, y):
        """a y, 0 for an a of 0 whatever y is."""
        return zero if a == zero else a * y

    @compiled
    def two_classes(x, a, b):
        """a log(1 + exp(-x)) + b log(1 + exp(x)) and its derivative; e = exp(-|x|), log_one + log_low = log(1 + e), r = 1 / (1 + e)."""
        high, low, first, second = decay_parts(-absolute(x), zero)
        e = high * first * second
        low = low * first * second
        high, log_low = plus_log1p_parts(zero, zero, e, low)
        log_one, log_low = normalised(high, log_low)
        r, r_low = sum_parts(one, zero, e, low)
        r, r_low = reciprocal_parts(r, r_low)
        p = b if x > zero else -a
        q = -a if x > zero else b
        p, p_low = sum_parts(p, zero, q * e, q * low)
        slope = fused(p, r, p * r_low + p_low * r)
        value = fused(a + b, log_one, share(b if x > zero else a, absolute(x)) + (a + b) * log_low)
        return value, slope, e, log_one, log_low, r

    @compiled
    def sigmoid_cross_entropy(x, t, pos_weight):
        value, slope, e, log_one, log_low, r = two_classes(x, t * pos_weight, one - t)
        return value, slope

    @compiled
    def binary_cross_entropy(x, t):
        """-t log(x) - (1 - t) log(1 - x); the derivative (x - t) / (x (1 - x)) is 1 or -1 where x = t is 0 or 1."""
        q = x * (one - x)
        d = x - t
        value = -share(t, log(x)) - share(one - t, log1m(x))
        r = d / absolute(q)
        end = one - two * x if d == zero else r
        r = end if q == zero else r
        return value if q >= zero else nan, r if q >= zero else nan

    @compiled
    def sigmoid_focal(x, t, alpha, other_alpha, gamma):
        """c w u^gamma, c the cross-entropy, w = alpha t + other_alpha (1 - t) and u = t s(-x) + (1 - t) s(x)."""
        c, slope, e, log_one, log_low, r = two_classes(x, t, one - t)
        main = one - t if x > zero else t
        rest = t if x > zero else one - t
        n = rest if main == zero else main + rest * e
        log_n, log_n_low = log_parts(n)
        z = absolute(x)
        z = bound if z > bound else z
        high, low = sum_parts(-z if main == zero else zero, zero, -log_one, -log_low)
        high, low = sum_parts(high, low, log_n, log_n_low)
        z = gamma * high
        high, low, first, second = decay_parts(z, gamma * low + product_low(gamma, high, z))
        high = (high + low) * (alpha * t + other_alpha * (one - t))
        ratio = (one - two * t) * r * (one if main == zero else e) / n
        return c * high * first * second, (slope + gamma * share(ratio, c)) * high * first * second

    # --- Rows of probabilities: what one element adds. Where t is a probability of 0 that is nothing, but for NaN --------

    exp = scalar["exp"]

    @compiled
    def categorical_cross_entropy(x, t):
        nothing = zero if x == x else x
        return nothing if t == zero else -t * log(x), nothing if t == zero else -t / x

    @compiled
    def kl_div(x, t):
        nothing = zero if x == x else x
        return nothing if t == zero else t * (log(t) - x), nothing if t == zero else -t

    @compiled
    def kl_div_of_logs(x, t):
        nothing = zero if x == x else x
        p = exp(t)
        return nothing if p == zero else p * (t - x), nothing if p == zero else -p

    # --- Negative log-likelihoods --------------------------------------------------------------------------------

    log_root_two_pi = T(0.9189385332046727)
    exp_low, exp_high = T(-104 if single else -746), T(89 if single else 710)
    wide_magic = T(12582912 + 2 * 127 if single else 6755399441055744 + 2 * 1023)

    @compiled
    def stirling(t):
        """log(t!) for t > 1: t log(t) - t + log(2 pi t) / 2, else 0."""
        high, low = log_parts(t)
        high = fused(t + half, high, log_root_two_pi - t) + (t + half) * low
        return high if t > one else zero

    @compiled
    def poisson_nll(x, t, eps):
        """exp(x) - t x, whose first term decides at infinity and whose second is 0 for t = 0. No use for eps."""
        high, low, s = exp_parts(clip(x, exp_low, exp_high), zero, wide_magic)
        first, second = half_power(s)
        high = high * first * second
        low = low * first * second
        s = fused(-t, x, high) + low
        s = high + low if t == zero else s
        return high - t if high > largest else s, (high - t) + low

    @compiled
    def poisson_nll_of_rate(x, t, eps):
        """x - t log(x + eps), whose first term decides at infinity and whose second is 0 for t = 0."""
        y = x + eps
        high, low = log_parts(y)
        high = x if t == zero else fused(-t, high, x) - t * low
        return x - t if x > largest else high, one if (t == zero) & (x == x) else one - t / y

    @compiled
    def poisson_nll_full(x, t, eps):
        value, slope = poisson_nll(x, t, eps)
        return value + stirling(t), slope

    @compiled
    def poisson_nll_of_rate_full(x, t, eps):
        value, slope = poisson_nll_of_rate(x, t, eps)
        return value + stirling(t), slope

    @compiled
    def gaussian_nll(x, t, var, constant, eps):
        """(log(v) + d^2 / v) / 2 + constant, v = max(var, eps), which counts as var in the derivatives."""
        d = x - t
        v = var if var >= zero else nan
        v = eps if v < eps else v
        high, low = log_parts(v)
        q = d / v
        return half * (fused(q, d, high) + low) + constant, q, fused(-q, d, one) / (v + v)

    return {name: value for name, value in locals().items() if callable(value)}
