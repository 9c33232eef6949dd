"""Every formula of scalar.pxd once more, for Numba: the function and, next to it, its derivative.

``formulas(T, machine)`` makes plain functions of scalars of one type. The machine says how they are compiled and what
they are made of beside arithmetic: ``compiled`` (a decorator), ``muladd``, ``fused``, ``bits`` and ``from_bits``, as
primitives.h describes them. So the same source serves the CPU, the GPU and, with ``plain(T)``, Python itself.

All are branch-free, so that a loop over them vectorises. Every constant is of the type T: a bare number beside a float32
would make the expression float64. The derivations of the formulas stand in scalar.pxd.
"""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np

# For float32 and float64, from the highest power to the lowest. python -m bench.coefficients makes them.
EXP = ((0.00139412307, 0.00836937129, 0.041666396, 0.166665152, 0.5),
       (2.511513040624762e-08, 2.7632935466700194e-07, 2.7557225626417084e-06, 2.4801485443651228e-05, 0.00019841269905930518,
        0.0013888888951196672, 0.00833333333331317, 0.04166666666650026, 0.16666666666666688, 0.5000000000000014))  # fmt: skip
LOG1P = ((0.246528447, 0.214033291, 0.286122084, 0.399992973, 0.666666687),
         (0.0866223782863425, 0.11368505065494938, 0.09928589765112027, 0.11854289718919273, 0.1332568143077735,
          0.1538500921021188, 0.1818180601999046, 0.2222222243608845, 0.28571428569528645, 0.4000000000000653,
          0.6666666666666666))  # fmt: skip
TANHSHRINK = ((-0.00309422659, 0.00907383673, -0.0220028125, 0.0539901331, -0.133334488),
              (-4.315098928499881e-06, 2.690254342857894e-05, -8.889280565502712e-05, 0.0002358110583806022,
               -0.0005891257576467954, 0.0014556720631454677, -0.003592108916960692, 0.008863234108600723,
               -0.021869488473975296, 0.053968253966849095, -0.13333333333332087))  # fmt: skip
NEAR_TAIL = ((8.59082065e-05, -0.000731274195, 0.00318445242, -0.0100009255, 0.0264243092, -0.0624590516, 0.132975772,
              -0.249999762),
             (2.2049102049150642e-09, -2.7446724296500908e-08, 1.7375941459367484e-07, -7.877649696839589e-07,
              3.0449526615942624e-06, -1.1023442975946339e-05, 3.857270271217205e-05, -0.000130358010104737,
              0.00042224292606218297, -0.0013021152580837366, 0.003799459092424656, -0.01041666833449312,
              0.026596152233735505, -0.06250000001554151, 0.1329807601344257, -0.25000000000000966))  # fmt: skip
FAR_TAIL = ((-0.0015843471, 0.00882507861, -0.0242778528, 0.0479648262, -0.0742400736, 0.0908852592, -0.0850392208, 0.051905293),
            (-1.6656011148864982e-08, -1.9707872863361118e-08, 2.098425376134865e-07, 6.112562451681882e-08,
             -1.534707040592245e-06, 5.967525681612616e-07, 1.032414773137219e-05, -1.653733813674459e-05,
             -5.456765350884231e-05, 0.0002427608967559521, -0.00012648540451900105, -0.001895622983499085,
             0.008900845036090897, -0.024161785960618083, 0.04795086373094222, -0.07425639525018995, 0.09088622964936267,
             -0.08503844346004386, 0.05190527343000293))  # fmt: skip


def plain(T):
    """The machine for Python itself: functions of NumPy scalars. Call them under ``np.errstate(all="ignore")``."""
    integer = np.int32 if T is np.float32 else np.int64
    if T is np.float32:

        def fused(a, b, c):
            return T(np.float64(a) * np.float64(b) + np.float64(c))

    elif hasattr(math, "fma"):

        def fused(a, b, c):
            try:
                return T(math.fma(a, b, c))
            except (OverflowError, ValueError):  # which Python raises where arithmetic gives infinity or NaN
                return a * b + c

    else:
        fused = split_fused(T, bits=lambda x: x.view(integer), from_bits=lambda i: i.view(T))
    return SimpleNamespace(compiled=lambda function: function, muladd=lambda a, b, c: a * b + c, fused=fused,
                           bits=lambda x: x.view(integer), from_bits=lambda i: i.view(T),
                           square_root=np.sqrt, with_sign=np.copysign)  # fmt: skip


def split_fused(T, bits, from_bits):
    """fused for float64 without the instruction: Dekker's splitting, exact where c is close to -a b (primitives.h)."""
    mask = np.int64(~0x7FFFFFF)

    def fused(a, b, c):
        p = a * b
        ah = from_bits(np.int64(bits(a) & mask))
        bh = from_bits(np.int64(bits(b) & mask))
        al = a - ah
        bl = b - bh
        total = (p + c) + (((ah * bh - p) + ah * bl + al * bh) + al * bl)
        return p + c if (total != total) | (total == T(0)) else total

    return fused


def integer_formulas(T, compiled):
    """Those that keep integers."""
    zero = T(0)
    return {"identity": compiled(lambda x: x), "relu": compiled(lambda x: zero if x < zero else x)}


def formulas(T, machine):
    """All formulas for one type, by name, as functions that ``machine.compiled`` has made."""
    single = T is np.float32
    I = np.int32 if single else np.int64  # noqa: E741
    compiled, muladd, fused, bits, from_bits = machine.compiled, machine.muladd, machine.fused, machine.bits, machine.from_bits
    square_root, with_sign = machine.square_root, machine.with_sign
    zero, half, one, two, three, four, five, six, ten = (T(c) for c in (0, 0.5, 1, 2, 3, 4, 5, 6, 10))
    quarter = T(0.25)

    def typed(for_single, for_double):
        return T(for_single if single else for_double)

    def rest(c):
        """What rounding takes from a float64 constant."""
        return T(c - float(T(c)))

    # --- Elements ------------------------------------------------------------------------------------------------

    @compiled
    def absolute(x):
        return abs(x)

    @compiled
    def clip(x, low, high):
        x = low if x < low else x
        return high if x > high else x

    def polynomial(both):
        """The function of those coefficients, in two loops that are short enough for LLVM to unroll."""
        c = tuple(T(value) for value in both[not single])
        upper, lower = c[: len(c) // 2], c[len(c) // 2 :]

        @compiled
        def value(x):
            p = upper[0]
            for k in range(1, len(upper)):
                p = muladd(p, x, upper[k])
            for k in range(len(lower)):
                p = muladd(p, x, lower[k])
            return p

        return value

    # --- Numbers as high + low -----------------------------------------------------------------------------------

    @compiled
    def sum_parts(a, a_low, b, b_low):
        high = a + b
        share = high - a
        return high, ((a - (high - share)) + (b - share)) + (a_low + b_low)

    @compiled
    def product_parts(a, a_low, b, b_low):
        high = a * b
        return high, fused(a, b, -high) + muladd(a, b_low, a_low * b)

    @compiled
    def reciprocal_parts(d, d_low):
        q = one / d
        return q, (fused(-q, d, one) - q * d_low) * q

    # --- The exponential -----------------------------------------------------------------------------------------

    largest = T(np.finfo(T).max)
    tail = typed(112, 760)
    wide_floor = typed(-170, -1400)
    decay_floor = typed(-120, -775)
    bias = 127 if single else 1023
    rounding = 12582912 if single else 6755399441055744
    magic, wide_magic = T(rounding + bias), T(rounding + 2 * bias)
    decay_shift = 48 if single else 100
    decay_magic, decay_scale = T(rounding + bias + decay_shift), T(2.0**-decay_shift)
    log2e = T(1.4426950408889634)
    log2_high, log2_low = typed(0.693145751953125, 6.93147180369123816490e-01), typed(1.428606820309417e-06, 1.90821492927058770002e-10)
    exp_low, exp_high = typed(-104, -746), typed(89, 710)
    mantissa = I(23 if single else 52)
    exponent_mask = I(0xFFF if single else 0xFFFF)
    exp_polynomial = polynomial(EXP)

    @compiled
    def power_of_two(t):
        return from_bits(I(bits(t) << mantissa))

    @compiled
    def half_power(t):
        n = bits(t)
        h = I((n & exponent_mask) >> I(1))
        return from_bits(I(h << mantissa)), from_bits(I(I(n - h) << mantissa))

    @compiled
    def exp_parts(x, x_low, shift):
        """exp(x + x_low) = 2^n (high + low); returns high, low and n + shift."""
        t = muladd(x, log2e, shift)
        n = t - shift
        a = muladd(n, -log2_high, x)
        b = muladd(n, -log2_low, x_low)
        r = a + b
        v = muladd(r * r, exp_polynomial(r), (a - r) + b)
        h = one + r
        v = v + (r - (h - one))
        high = h + v
        return high, v - (high - h), t

    @compiled
    def brief_exp_parts(x, minus_low, shift):
        t = muladd(x, log2e, shift)
        n = t - shift
        r = muladd(n, -log2_low, muladd(n, -log2_high, x)) - minus_low
        p = muladd(r * r, exp_polynomial(r), r)
        high = one + p
        return high, p - (high - one), t

    @compiled
    def exp(x):
        high, low, t = exp_parts(clip(x, exp_low, exp_high), zero, wide_magic)
        first, second = half_power(t)
        return high * first * second

    @compiled
    def decay_parts(z, z_low):
        """exp(z + z_low) for z <= 0 as (high + low) first second."""
        z = decay_floor if z < decay_floor else z
        high, low, t = exp_parts(z, z_low, decay_magic)
        return high, low, power_of_two(t), decay_scale

    expm1_floor = T(-60)

    @compiled
    def expm1_parts(z, z_low):
        """exp(z + z_low) - 1 for z <= 0 as high + low."""
        z = expm1_floor if z < expm1_floor else z
        t = muladd(z, log2e, magic)
        n = t - magic
        a = muladd(n, -log2_high, z)
        b = muladd(n, -log2_low, z_low)
        r = a + b
        scale = power_of_two(t)
        base = scale - one
        a = muladd(r * r, exp_polynomial(r), (a - r) + b)
        b = scale * r
        high = base + b
        return high, muladd(scale, a, b - (high - base)) + (scale - (base + one))

    product_limit = T(2000)

    @compiled
    def product_low(a, b, product):
        """a b - product, or 0 where it no longer matters and might not be finite."""
        low = fused(a, b, -product)
        return low if (absolute(product) < product_limit) & (low == low) else zero

    @compiled
    def times(beta, x):
        """beta x, 0 for a beta of 0 and an infinite x."""
        z = beta * x
        return zero if (z != z) & (x == x) & (beta == beta) else z

    # --- The logarithm -------------------------------------------------------------------------------------------

    log1p_polynomial = polynomial(LOG1P)
    tiniest, enlarged, shrunk = T(np.finfo(T).tiny), T(2.0 ** (24 if single else 54)), T(24 if single else 54)
    root_half = I(0x3F3504F3 if single else 0x3FE6A09E667F3BCD)
    below_one = I(int(I(0x3F800000 if single else 0x3FF0000000000000)) - int(root_half))
    fraction = I(0x7FFFFF if single else 0xFFFFFFFFFFFFF)
    exponent_digits = I(0x4B000000 if single else 0x4330000000000000)  # where adding an exponent adds to the number
    exponent_base = T(8388608 + 127 if single else 4503599627370496 + 1023)
    infinity, nan = T(np.inf), T(np.nan)

    @compiled
    def normalised(high, low):
        """The same number with a low part below the last place of the high one."""
        total = high + low
        return total, low - (total - high)

    @compiled
    def plus_log1p_parts(base, base_low, e, e_low):
        """base + base_low + log(1 + e + e_low) as high + low, not yet normal, for e from -0.3 to 1."""
        halved = e / two
        s = e / (two + e)
        q = s * s
        p = log1p_polynomial(q)
        p = muladd(e, halved, -s * muladd(e, halved, q * p)) - muladd(-e_low, halved, e_low)
        return sum_parts(base, base_low, e, -p)

    @compiled
    def split(x):
        """m and n: x = 2^n m, m from sqrt(1/2) to sqrt(2), for positive finite x."""
        tiny = x < tiniest
        i = I(bits(x * enlarged if tiny else x) + below_one)
        n = from_bits(I(I(i >> mantissa) | exponent_digits)) - exponent_base
        return from_bits(I(I(i & fraction) + root_half)), n - shrunk if tiny else n

    @compiled
    def log_parts_above_zero(x, x_low):
        """log(x + x_low) as high + low for positive finite x; x_low may be other than 0 only for x from 0.5 to 1."""
        m, n = split(x)
        x_low = x_low if n == zero else x_low + x_low
        f = m - one
        e = f + x_low
        high, low = plus_log1p_parts(n * log2_high, n * log2_low, e, x_low - (e - f))
        return normalised(high, low)

    @compiled
    def log_limit(x):
        """What the logarithm is at 0, at infinity and below 0."""
        limit = -infinity if x == zero else nan
        return x if x > zero else limit

    @compiled
    def log_parts(x):
        """log(x) as high + low."""
        high, low = log_parts_above_zero(x, zero)
        return high if (x > zero) & (x < infinity) else log_limit(x), low if (x > zero) & (x < infinity) else zero

    @compiled
    def log(x):
        high, low = log_parts(x)
        return high + low

    @compiled
    def log1m(p):
        """log(1 - p) for p from 0 to 1, NaN elsewhere"""
        rest, rest_low = sum_parts(one, zero, -p, zero)
        high, low = log_parts_above_zero(rest, rest_low)
        return high + low if (p >= zero) & (p < one) else log_limit(-one if p < zero else rest)

    # --- The logistic family -------------------------------------------------------------------------------------

    shrink_shift = 40 if single else 100
    shrink, shrunk_magic = T(2.0**-shrink_shift), T(rounding + bias - shrink_shift)
    logistic_reach = typed(60, 600)
    gate_reach = T(64)

    @compiled
    def logistic_denominator(z, z_low):
        """(1 + exp(-z - z_low)) shrink as high + low."""
        grown, tail_, t = brief_exp_parts(-clip(z, -tail, logistic_reach), z_low, shrunk_magic)
        scale = power_of_two(t)
        grown = scale * grown
        high = shrink + grown
        share = high - shrink
        return high, muladd(scale, tail_, (shrink - (high - share)) + (grown - share))

    @compiled
    def logistic(z, z_low):
        """1 / (1 + exp(-z - z_low))"""
        d, d_low = logistic_denominator(z, z_low)
        q = shrink / d
        return muladd(fused(-q, d, shrink) - q * d_low, q / shrink, q)

    @compiled
    def sigmoid(x):
        return logistic(x, zero)

    @compiled
    def times_square(a, a_low, q, q_low):
        """(a + a_low) (q + q_low)^2, rounded once."""
        y = a * q
        return fused(y, q, q * (fused(a, q, -y) + a_low * q) + two * y * q_low)

    @compiled
    def logistic_density(z, factor):
        """factor exp(-|z|) / (1 + exp(-|z|))^2"""
        high, low, first, second = decay_parts(-absolute(z), zero)
        e = high * first * second
        d = one + e
        q, q_low = reciprocal_parts(d, (e - (d - one)) + low * first * second)
        return times_square(factor * high, factor * low, q, q_low) * first * second

    @compiled
    def sigmoid_derivative(x):
        return logistic_density(x, one)

    @compiled
    def sigmoid_derivative_from_output(y):
        return fused(-y, y, y)

    @compiled
    def gated(x, z, z_low):
        """x / (1 + exp(-z - z_low)) where |z| is at least about |x|."""
        n = clip(x, -tail, gate_reach)
        d, d_low = logistic_denominator(z, z_low)
        r = one / d
        q = n * r
        q = muladd(fused(-q, d, n) - q * d_low, r, q) * shrink
        return x if x > gate_reach else q

    @compiled
    def gated_derivative(z, z_low, g, g_low):
        """s(z) (1 + g s(-z)), the derivative of x s(z) with g = x z'."""
        z = clip(z, decay_floor, -decay_floor)
        high, low, first, second = decay_parts(-absolute(z), -z_low if z > zero else z_low)
        e = high * first * second
        e_low = low * first * second
        q, q_low = sum_parts(one, zero, e, e_low)
        q, q_low = reciprocal_parts(q, q_low)
        w, w_low = product_parts(g, g_low, q, q_low)
        e = e if z > zero else one
        e_low = e_low if z > zero else zero
        w, w_low = product_parts(w, w_low, e, e_low)
        w, w_low = sum_parts(one, zero, w, w_low)
        w, w_low = product_parts(w, w_low, q, q_low)
        high = one if z > zero else high
        low = zero if z > zero else low
        first = one if z > zero else first
        second = one if z > zero else second
        return fused(high, w, muladd(high, w_low, low * w)) * first * second

    @compiled
    def silu(x):
        return gated(x, x, zero)

    @compiled
    def silu_derivative(x):
        return gated_derivative(x, zero, clip(x, -tail, tail), zero)

    @compiled
    def swish(x, beta):
        z = times(beta, x)
        z_low = product_low(beta, x, z)
        t = -absolute(z)
        t = wide_floor if t < wide_floor else t
        high, low, t = exp_parts(t, -z_low if z > zero else z_low, wide_magic)
        first, second = half_power(t)
        e = high * first * second
        d = one + e
        d_low = (e - (d - one)) + low * first * second
        n = x if z >= zero else clip(x, -largest, largest) * first
        high = one if z >= zero else high
        low = zero if z >= zero else low
        q = high / d
        low = (fused(-q, d, high) + (low - q * d_low)) / d
        second = one if z >= zero else (zero if z < wide_floor else second)
        e = fused(n, q, clip(n, -largest, largest) * low) * second
        return x if z > gate_reach else e

    @compiled
    def swish_derivative(x, beta):
        z = times(beta, x)
        z_low = product_low(beta, x, z)
        return gated_derivative(z, z_low, clip(z, -tail, tail), z_low)

    quick, quick_low = T(1.702), typed(-2.19345093e-08, 4.2632564145606012e-17)

    @compiled
    def quick_argument(x):
        """1.702 x as high + low."""
        return product_parts(quick, quick_low, clip(x, -tail, tail), zero)

    @compiled
    def gelu_quick(x):
        z, z_low = quick_argument(x)
        return gated(x, z, z_low)

    @compiled
    def gelu_quick_derivative(x):
        z, z_low = quick_argument(x)
        return gated_derivative(z, z_low, z, z_low)

    linear_factor, linear_factor_low = T(1.5957691216057308), typed(-4.53406804e-08, -9.9693088091109202e-17)
    cubic_factor, cubic_factor_low = T(0.044715), typed(1.54614449e-09, 2.1960211427085595e-18)
    tanh_reach = T(30)

    @compiled
    def tanh_argument(x):
        """2 sqrt(2 / pi) x (1 + 0.044715 x^2) for |x| <= 30, and its term in x, each as high and low."""
        square, square_low = product_parts(x, zero, x, zero)
        square, square_low = product_parts(square, square_low, cubic_factor, cubic_factor_low)
        square, square_low = sum_parts(one, zero, square, square_low)
        linear, linear_low = product_parts(x, zero, linear_factor, linear_factor_low)
        high, low = product_parts(linear, linear_low, square, square_low)
        return high, low, linear, linear_low

    @compiled
    def gelu_tanh(x):
        z, z_low, linear, linear_low = tanh_argument(clip(x, -tanh_reach, tanh_reach))
        return gated(x, z, z_low)

    @compiled
    def gelu_tanh_derivative(x):
        """x z' = 3 z - 2 linear"""
        z, z_low, linear, linear_low = tanh_argument(clip(x, -tanh_reach, tanh_reach))
        g, g_low = sum_parts(z, z_low, -linear, -linear_low)
        g, g_low = sum_parts(z, z_low, two * g, two * g_low)
        return gated_derivative(z, z_low, g, g_low)

    # --- tanh ----------------------------------------------------------------------------------------------------

    @compiled
    def tanh_parts(x):
        """tanh(|x|) = -m / (2 + m), m = exp(-2|x|) - 1, as high + low."""
        r, m_low = expm1_parts(-two * absolute(x), zero)
        m = r + m_low
        m_low = m_low - (m - r)
        d = two + m
        d_low = (m - (d - two)) + m_low
        r = one / d
        q = -m * r
        return q, ((fused(-q, d, -m) - m_low) - q * d_low) * r

    @compiled
    def tanh(x):
        high, low = tanh_parts(x)
        return with_sign(high + low, x)

    @compiled
    def tanh_derivative(x):
        return logistic_density(two * x, four)

    @compiled
    def tanh_derivative_from_output(y):
        return fused(-y, y, one)

    tanhshrink_polynomial = polynomial(TANHSHRINK)
    third = T(1 / 3)
    tanhshrink_bound = T(0.6)

    @compiled
    def small_tanhshrink(x):
        """For |x| < 0.6"""
        z = x * x
        p = tanhshrink_polynomial(z)
        cube = z * x
        product = muladd(z, p, third)
        p = muladd(z, p, third - product)
        z = fused(z, x, -cube) + fused(x, x, -z) * x
        return muladd(cube, product, muladd(cube, p, z * product))

    @compiled
    def tanhshrink(x):
        high, low = tanh_parts(x)
        a = absolute(x)
        return with_sign(small_tanhshrink(x) if a < tanhshrink_bound else (a - high) - low, x)

    @compiled
    def tanhshrink_derivative(x):
        high, low = tanh_parts(x)
        y = high + low
        return fused(y, y, two * y * (low - (y - high)))

    # --- The exponential-linear family ---------------------------------------------------------------------------

    @compiled
    def elu(x, alpha):
        high, low = expm1_parts(zero if x > zero else x, zero)
        return x if x > zero else fused(alpha, high, alpha * low)

    @compiled
    def elu_derivative(x, alpha):
        high, low, first, second = decay_parts(zero if x > zero else x, zero)
        return one if x > zero else alpha * high * first * second

    @compiled
    def elu_derivative_from_output(y, alpha):
        return one if y > zero else y + alpha

    scale, scale_low = T(1.0507009873554805), rest(1.0507009873554805)
    both, both_low = T(1.7580993408473766), typed(rest(1.7580993408473766), 5.75014648756476e-17)

    @compiled
    def selu(x):
        high, low = expm1_parts(zero if x > zero else x, zero)
        y = fused(scale, x, scale_low * clip(x, zero, largest))
        return y if x > zero else fused(both, high, muladd(both, low, both_low * high))

    @compiled
    def selu_derivative(x):
        high, low, first, second = decay_parts(zero if x > zero else x, zero)
        return scale if x > zero else both * high * first * second

    @compiled
    def selu_derivative_from_output(y):
        return scale if y > zero else y + both

    nothing_beside_one = typed(2.0**-27, 2.0**-54)

    @compiled
    def quotient(x, alpha):
        z = x / alpha
        return z, fused(-z, alpha, x) / alpha if absolute(z) < product_limit else zero

    @compiled
    def celu(x, alpha):
        z, z_low = quotient(x, alpha)
        z = zero if x > zero else z
        high, low = expm1_parts(z, zero if x > zero else z_low)
        return x if absolute(z) < nothing_beside_one else fused(alpha, high, alpha * low)

    @compiled
    def celu_derivative(x, alpha):
        z, z_low = quotient(x, alpha)
        high, low, first, second = decay_parts(zero if x > zero else z, zero if x > zero else z_low)
        return one if x > zero else high * first * second

    @compiled
    def celu_derivative_from_output(y, alpha):
        return one if y > zero else one + y / alpha

    # --- gelu ----------------------------------------------------------------------------------------------------

    near_polynomial, far_polynomial = polynomial(NEAR_TAIL), polynomial(FAR_TAIL)
    near_start, near_start_low = typed(0.3989422785302972, 0.3989422804014327), typed(rest(0.3989422785302972), 0)
    far_start, far_start_low = typed(0.38459653074661404, 0.3845965248750315), typed(rest(0.38459653074661404), 0)
    slope_2, slope_1, slope_0 = T(0.27), T(-0.17), T(0.05)
    near_bound = T(1.25)
    gelu_reach = typed(15, 39.5)
    gelu_smallest = T(1e-18)
    bell, bell_low = T(0.3989422804014327), typed(-1.13351701e-08, -2.49232720e-17)

    @compiled
    def scaled_tail(t):
        """Phi(-t) exp(t^2 / 2) for t <= 1.25 as high + low."""
        p = near_polynomial(t)
        slope = muladd(t, p, near_start)
        p = muladd(t, p, near_start - slope) + near_start_low
        high = muladd(-t, slope, half)
        return high, muladd(-t, slope, half - high) - t * p

    @compiled
    def tail_product(t):
        """t Phi(-t) exp(t^2 / 2) for t >= 1.25 as high + low."""
        u, p = sum_parts(t, zero, five, zero)
        u, u_low = reciprocal_parts(u, p)
        u, u_low = product_parts(-ten, zero, u, u_low)
        u, u_low = sum_parts(one, zero, u, u_low)
        p = far_polynomial(u)
        high = muladd(u, p, far_start)
        p = muladd(u, p, far_start - high)
        return high, p + muladd(u_low, muladd(u, muladd(u, slope_2, slope_1), slope_0), far_start_low)

    @compiled
    def tail_parts(t, square, square_low):
        """t Phi(-t) = (high + low) (1 + e) first second, where (1 + e) first second is exp(-t^2 / 2)."""
        high, low, first, second = decay_parts(-square / two, -square_low / two)
        e = low + (high - one)
        far, far_low = tail_product(t)
        high, low = scaled_tail(t)
        high, low = product_parts(t, zero, high, low)
        return high if t < near_bound else far, low if t < near_bound else far_low, e, first, second

    @compiled
    def gelu(x):
        """max(x, 0) - |x| Phi(-|x|)"""
        t = absolute(x)
        t = gelu_reach if t > gelu_reach else t
        square = t * t
        high, low, e, first, second = tail_parts(t, square, fused(t, t, -square))
        high = (high + muladd(high, e, low)) * first * second
        return x - high if x > zero else -high

    @compiled
    def gelu_derivative(x):
        """Phi(-t) - t phi(t), from 1 for x > 0; multiplied by t until the end."""
        t = clip(absolute(x), gelu_smallest, gelu_reach)
        square = t * t
        square_low = fused(t, t, -square)
        high, low, e, first, second = tail_parts(t, square, square_low)
        square, square_low = product_parts(square, square_low, bell, bell_low)
        high, low = sum_parts(high, low, -square, -square_low)
        high = (high + muladd(high, e, low)) / t * first * second
        high = one - high if x > zero else high
        return high if x == x else x

    # --- Logarithms of the exponential ---------------------------------------------------------------------------

    vanishing = T(-40)

    @compiled
    def plus_log1p_exp(base, base_low, z, z_low):
        """base + base_low + log(1 + exp(z + z_low)) for z <= 0."""
        high, low, first, second = decay_parts(z, z_low)
        high, low = plus_log1p_parts(base, base_low, high * first * second, low * first * second)
        return high + low

    @compiled
    def softplus(x, beta):
        z = times(beta, x)
        z_low = product_low(beta, x, z)
        decay_low = -z_low if z > zero else z_low
        y = plus_log1p_exp(clip(z, zero, tail), z_low if z > zero else zero, -absolute(z), decay_low) / beta
        high, low, first, second = decay_parts(-absolute(z), decay_low)
        y = high / beta * first * second if z < vanishing else y
        return x if z > tail else y

    @compiled
    def softplus_derivative(x, beta):
        z = times(beta, x)
        return logistic(z, product_low(beta, x, z))

    @compiled
    def softplus_derivative_from_output(y, beta):
        z = -beta * y
        z_low = product_low(-beta, y, z)
        high, low = expm1_parts(zero if z > zero else z, zero if z > zero else z_low)
        return -high - low

    @compiled
    def logsigmoid(x):
        y = -plus_log1p_exp(clip(-x, zero, tail), zero, -absolute(x), zero)
        return x if x < -tail else y

    @compiled
    def logsigmoid_derivative(x):
        return logistic(-x, zero)

    @compiled
    def logsigmoid_derivative_from_output(y):
        high, low = expm1_parts(zero if y > zero else y, zero)
        return -high - low

    # --- mish: x n / (n + 2), n = exp(x) (exp(x) + 2) ------------------------------------------------------------

    mish_reach = typed(20, 40)

    @compiled
    def mish_parts(x):
        """exp(x) = (high + low) first second; a = exp(x) + 2; r = 1 / (n + 2)."""
        high, low, t = exp_parts(x, zero, wide_magic)
        first, second = half_power(t)
        e = high * first * second
        e_low = low * first * second
        a, a_low = sum_parts(e, e_low, two, zero)
        r, r_low = product_parts(e, e_low, a, a_low)
        r, r_low = sum_parts(r, r_low, two, zero)
        r, r_low = reciprocal_parts(r, r_low)
        return high, low, first, second, a, a_low, r, r_low

    @compiled
    def mish(x):
        y = clip(x, -tail, mish_reach)
        high, low, first, second, a, a_low, r, r_low = mish_parts(y)
        a, a_low = product_parts(a, a_low, high, low)
        a, a_low = product_parts(a, a_low, r, r_low)
        a = fused(y, a, y * a_low) * first * second
        return x if x > mish_reach else a

    @compiled
    def mish_derivative(x):
        """exp(x) r (a + 4 x (1 + exp(x)) r)"""
        y = clip(x, -tail, mish_reach)
        high, low, first, second, a, a_low, r, r_low = mish_parts(y)
        v, v_low = sum_parts(a, a_low, -one, zero)
        v, v_low = product_parts(v, v_low, four * y, zero)
        v, v_low = product_parts(v, v_low, r, r_low)
        v, v_low = sum_parts(a, a_low, v, v_low)
        v, v_low = product_parts(v, v_low, r, r_low)
        v = fused(high, v, muladd(high, v_low, low * v)) * first * second
        return one if x > mish_reach else v

    # --- Algebraic and piecewise linear --------------------------------------------------------------------------

    @compiled
    def step(inside, x, slope):
        """slope where inside, else 0; NaN for NaN."""
        slope = slope if inside else zero
        return slope if x == x else x

    @compiled
    def identity(x):
        return x

    @compiled
    def identity_derivative(x):
        return step(x == x, x, one)

    @compiled
    def identity_derivative_from_output(y):
        return identity_derivative(y)

    @compiled
    def relu(x):
        return zero if x < zero else x

    @compiled
    def relu_derivative(x):
        return step(x > zero, x, one)

    @compiled
    def relu_derivative_from_output(y):
        return relu_derivative(y)

    @compiled
    def relu6(x):
        return clip(x, zero, six)

    @compiled
    def relu6_derivative(x):
        return step((x > zero) & (x < six), x, one)

    @compiled
    def relu6_derivative_from_output(y):
        return relu6_derivative(y)

    @compiled
    def leaky_relu(x, negative_slope):
        y = negative_slope * x
        y = -negative_slope if (y != y) & (x == x) else y  # a slope of 0 at -inf
        return x if x > zero else y

    @compiled
    def leaky_relu_derivative(x, negative_slope):
        slope = one if x > zero else negative_slope
        return slope if x == x else x

    @compiled
    def leaky_relu_derivative_from_output(y, negative_slope):
        return leaky_relu_derivative(y, negative_slope)

    @compiled
    def prelu(x, weight):
        return leaky_relu(x, weight)

    @compiled
    def prelu_derivative(x, weight):
        return leaky_relu_derivative(x, weight)

    @compiled
    def rrelu(x, lower, upper):
        return leaky_relu(x, (lower + upper) / two)

    @compiled
    def rrelu_derivative(x, lower, upper):
        return leaky_relu_derivative(x, (lower + upper) / two)

    @compiled
    def rrelu_derivative_from_output(y, lower, upper):
        return rrelu_derivative(y, lower, upper)

    @compiled
    def relu_squared(x):
        return relu(x) * relu(x)

    @compiled
    def relu_squared_derivative(x):
        return two * relu(x)

    @compiled
    def softsign(x):
        x = clip(x, -quarter * largest, quarter * largest)
        d, d_low = sum_parts(absolute(x), zero, one, zero)
        q, d_low = reciprocal_parts(d, d_low)
        return fused(x, q, x * d_low)

    @compiled
    def softsign_derivative(x):
        d, d_low = sum_parts(clip(absolute(x), zero, quarter * largest), zero, one, zero)
        q, d_low = reciprocal_parts(d, d_low)
        return fused(q, q, two * q * d_low)

    @compiled
    def softshrink(x, lambd):
        return x - clip(x, -lambd, lambd)

    @compiled
    def softshrink_derivative(x, lambd):
        return step(absolute(x) > lambd, x, one)

    @compiled
    def hardshrink(x, lambd):
        return zero if absolute(x) <= lambd else x

    @compiled
    def hardshrink_derivative(x, lambd):
        return step(absolute(x) > lambd, x, one)

    @compiled
    def threshold(x, threshold, value):
        return value if x <= threshold else x

    @compiled
    def threshold_derivative(x, threshold, value):
        return step(x > threshold, x, one)

    @compiled
    def hardtanh(x, min_val, max_val):
        return clip(x, min_val, max_val)

    @compiled
    def hardtanh_derivative(x, min_val, max_val):
        return step((x > min_val) & (x < max_val), x, one)

    @compiled
    def hardtanh_derivative_from_output(y, min_val, max_val):
        return hardtanh_derivative(y, min_val, max_val)

    @compiled
    def hardsigmoid(x, alpha, beta):
        return clip(alpha * x + beta, zero, one)  # rounded twice, so that alpha = 1/6 gives 0 at -3

    @compiled
    def hardsigmoid_derivative(x, alpha, beta):
        y = alpha * x + beta
        return step((y > zero) & (y < one), x, alpha)

    @compiled
    def hardswish(x):
        total = x + three
        share = x - (total - three)
        return -zero if x <= -three else (x if x >= three else fused(x, total, x * share) / six)

    @compiled
    def hardswish_derivative(x):
        return zero if x <= -three else (one if x >= three else (two * x + three) / six)

    huge = T(1e18)

    @compiled
    def squareplus_parts(x, b):
        """The function as high + low, without the cancellation of x + root for x < 0; root = sqrt(x^2 + b) as high and low."""
        a = absolute(x)
        a = huge if a > huge else a
        square = a * a
        total = square + b
        share = total - square
        share = ((square - (total - share)) + (b - share)) + fused(a, a, -square)
        root = square_root(total)
        y = zero if total == zero else half / root
        root_low = (fused(-root, root, total) + share) * y
        h = a + root
        h_low = (a - (h - root)) + root_low
        q = zero if total == zero else b / two / h
        y = zero if total == zero else (fused(-q, h, b / two) - q * h_low) / h
        return q if x < zero else h / two, y if x < zero else h_low / two, root, root_low

    @compiled
    def squareplus(x, b):
        high, low, root, root_low = squareplus_parts(x, b)
        return x if x > huge else (b / four / -x if x < -huge else high + low)

    @compiled
    def squareplus_derivative(x, b):
        high, low, root, root_low = squareplus_parts(x, b)
        q = zero if root == zero else high / root
        q = zero if root == zero else q + ((fused(-q, root, high) + low) - q * root_low) / root
        q = one if x > huge else (b / four / x / x if x < -huge else q)
        return q if x == x else x

    found = {name: value for name, value in locals().items() if callable(value)}
    return found | gated_formulas(T, machine, found)


def gated_formulas(T, machine, made):
    """act(gate) up, by name, of functions that have been ``made``."""
    compiled, zero, tail = machine.compiled, T(0), T(112 if T is np.float32 else 760)
    absolute, sigmoid, sigmoid_derivative, silu, silu_derivative, gelu, gelu_derivative = (made[name] for name in (
        "absolute", "sigmoid", "sigmoid_derivative", "silu", "silu_derivative", "gelu", "gelu_derivative"))  # fmt: skip
    normal_reach = T(14.9 if T is np.float32 else 38.9)  # gelu(-x) and its derivative are zero beyond

    @compiled
    def unless_shut(shut, b, y):
        """y, but 0 where the gate lets nothing of b through, were it infinite."""
        return zero if shut & (b == b) else y

    @compiled
    def glu(value, gate):
        return unless_shut(gate < -tail, value, value * sigmoid(gate))

    @compiled
    def glu_backward(grad, value, gate):
        both = grad * value
        for_gate = unless_shut(absolute(gate) > tail, both, both * sigmoid_derivative(gate))
        return unless_shut(gate < -tail, grad, grad * sigmoid(gate)), for_gate

    @compiled
    def swiglu(gate, up):
        return unless_shut(gate < -tail, up, silu(gate) * up)

    @compiled
    def swiglu_backward(grad, gate, up):
        both = grad * up
        for_up = unless_shut(gate < -tail, grad, grad * silu(gate))
        return unless_shut(gate < -tail, both, both * silu_derivative(gate)), for_up

    @compiled
    def geglu(gate, up):
        return unless_shut(gate < -normal_reach, up, gelu(gate) * up)

    @compiled
    def geglu_backward(grad, gate, up):
        both = grad * up
        for_up = unless_shut(gate < -normal_reach, grad, grad * gelu(gate))
        return unless_shut(gate < -normal_reach, both, both * gelu_derivative(gate)), for_up

    @compiled
    def passed(gate, a, b):
        """a b where gate > 0, else 0; NaN for NaN."""
        closed = zero if (a == a) & (b == b) else a + b
        closed = a * b if gate > zero else closed
        return closed if gate == gate else gate

    @compiled
    def reglu(gate, up):
        return passed(gate, gate, up)

    @compiled
    def reglu_backward(grad, gate, up):
        return passed(gate, grad, up), passed(gate, grad, gate)

    return {"glu": glu, "glu_backward": glu_backward, "swiglu": swiglu, "swiglu_backward": swiglu_backward,
            "geglu": geglu, "geglu_backward": geglu_backward, "reglu": reglu, "reglu_backward": reglu_backward}  # fmt: skip
