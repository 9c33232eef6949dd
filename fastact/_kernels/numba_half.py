"""Brief formulas for float16 and bfloat16 on a GPU, where those of numba_scalar.py would take longer than reading and writing.

Computed in float32, to about a hundredth of the last place of float16, with exponentials and reciprocals that are not exact.
Those that are not here are brief as they are, or rare.
"""

from __future__ import annotations

import numpy as np

from . import numba_scalar
from .cuda_kernels import SIZES

# python -m bench.coefficients makes them: Phi(-t) exp(t^2 / 2) / u in u = 1 / (1 + 0.3 t), from the highest power to the lowest.
TAIL = (0.0352044441, -0.155246109, 0.202987134, -0.0505917855, 0.12693055, 0.10040576, 0.120675549, 0.119634368)
# log((1 + s) / (1 - s)) / s and tanh(x) / x, and (exp(x) - 1) / x, by Taylor.
LOG1P = tuple(2 / k for k in (11, 9, 7, 5, 3, 1))
TANH = (2 / 15, -1 / 3, 1)
EXPM1 = (1 / 120, 1 / 24, 1 / 6, 1 / 2, 1)


def formulas(storage, machine):
    """All formulas by name, as numba_scalar.py has them, for what arrays of a storage are computed in.

    The machine has ``exp2``, for which results below 2^-126 are 0, ``reciprocal`` and ``reciprocal_root``, too.
    """
    exact = numba_scalar.formulas(np.float64 if storage == "float64" else np.float32, machine)
    return exact | brief_formulas(exact, machine) if SIZES[storage] == 2 else exact


def brief_formulas(exact, machine):
    """Those that are briefer than the exact ones."""
    T, found = np.float32, {}
    compiled, muladd, exp2, reciprocal, reciprocal_root, with_sign = (
        getattr(machine, name) for name in ("compiled", "muladd", "exp2", "reciprocal", "reciprocal_root", "with_sign"))  # fmt: skip
    zero, half, one, two, four = (T(c) for c in (0, 0.5, 1, 2, 4))
    log2e = T(1.4426950408889634)
    # Of bfloat16 float32 has no smaller numbers: what is multiplied by a decaying exponential is grown until the end.
    growth, shrink = T(24), T(2.0**-24)
    floor, near = T(-200), T(0.15)
    absolute, clip, times = exact["absolute"], exact["clip"], exact["times"]

    def public(function):
        found[function.__name__] = compiled(function)
        return found[function.__name__]

    def polynomial(coefficients):
        c = tuple(T(value) for value in coefficients)

        @compiled
        def value(x):
            p = c[0]
            for k in range(1, len(c)):
                p = muladd(p, x, c[k])
            return p

        return value

    tail, log1p_of_quotient, tanh_near, expm1_near, tanhshrink_near = (
        polynomial(c) for c in (TAIL, LOG1P, TANH, EXPM1, (*numba_scalar.TANHSHRINK[0], 1 / 3)))  # fmt: skip

    @compiled
    def grown_exp(z):
        """exp(z) 2^24 for z <= 20"""
        return exp2(muladd(z, log2e, growth))

    @compiled
    def logistic_parts(z):
        """s(|z|), and s(-|z|) 2^24"""
        e = grown_exp(-absolute(z))
        r = reciprocal(muladd(e, shrink, one))
        return r, e * r

    @public
    def sigmoid(x):
        r, e = logistic_parts(x)
        return r if x > zero else e * shrink

    @public
    def sigmoid_derivative(x):
        r, e = logistic_parts(x)
        return r * e * shrink

    @compiled
    def tanh_far(a):
        e = exp2(a * (-two * log2e))
        return (one - e) * reciprocal(one + e)

    @public
    def tanh(x):
        a = absolute(x)
        return with_sign(a * tanh_near(a * a) if a < near else tanh_far(a), x)

    @public
    def tanh_derivative(x):
        return four * sigmoid_derivative(two * x)

    small = T(0.6)

    @public
    def tanhshrink(x):
        a = absolute(x)
        square = a * a
        return with_sign(a * (square * tanhshrink_near(square)) if a < small else a - tanh_far(a), x)

    @public
    def tanhshrink_derivative(x):
        y = tanh(x)
        return y * y

    @compiled
    def gated(x, z):
        """x s(z) where |z| is at least about |x|."""
        r, e = logistic_parts(z)
        return x * r if z > zero else clip(x, floor, -floor) * e * shrink

    reach = T(1e6)

    @compiled
    def gated_derivative(z, g):
        """s(z) (1 + g s(-z)), the derivative of x s(z) with g = x z'."""
        r, e = logistic_parts(z)
        g = clip(g, -reach, reach)
        return r * muladd(g, e * shrink, one) if z > zero else e * muladd(g, r, one) * shrink

    @public
    def silu(x):
        return gated(x, x)

    @public
    def silu_derivative(x):
        return gated_derivative(x, x)

    quick = T(1.702)

    @public
    def gelu_quick(x):
        return gated(x, quick * x)

    @public
    def gelu_quick_derivative(x):
        return gated_derivative(quick * x, quick * x)

    linear, cubic = T(1.5957691216057308), T(1.5957691216057308 * 0.044715)

    @public
    def gelu_tanh(x):
        return gated(x, x * muladd(cubic, x * x, linear))

    tanh_reach, three = T(30), T(3)

    @public
    def gelu_tanh_derivative(x):
        x = clip(x, -tanh_reach, tanh_reach)
        square = x * x
        return gated_derivative(x * muladd(cubic, square, linear), x * muladd(three * cubic, square, linear))

    gelu_reach, slope = T(15), T(0.3)
    bell = T(0.3989422804014327)

    @compiled
    def tail_parts(x):
        """t = |x|, Phi(-t) exp(t^2 / 2), and exp(-t^2 / 2) 2^24: the square of a half number is exact."""
        t = absolute(x)
        t = gelu_reach if t > gelu_reach else t
        u = reciprocal(muladd(slope, t, one))
        return t, u * tail(u), grown_exp(-half * t * t)

    @public
    def gelu(x):
        t, p, e = tail_parts(x)
        y = t * p * e * shrink
        return x - y if x > zero else -y

    @public
    def gelu_derivative(x):
        t, p, e = tail_parts(x)
        y = muladd(t, -bell, p) * e * shrink
        return one - y if x > zero else y

    softplus_reach = T(40)

    @public
    def softplus(x, beta):
        z = times(beta, x)
        e = grown_exp(-absolute(z))
        s = e * reciprocal(muladd(e, shrink, two))
        q = s * shrink
        y = s * log1p_of_quotient(q * q) * shrink
        y = (y + z if z > zero else y) * reciprocal(beta)
        return x if z > softplus_reach else y

    @public
    def softplus_derivative(x, beta):
        return sigmoid(times(beta, x))

    @public
    def logsigmoid(x):
        return -softplus(-x, one)

    @public
    def logsigmoid_derivative(x):
        return sigmoid(-x)

    mish_reach = T(20)

    @compiled
    def mish_parts(x):
        """x, exp(x) 2^24, exp(x), exp(x) + 2, 1 / (exp(x) (exp(x) + 2) + 2)"""
        x = clip(x, floor, mish_reach)
        grown = grown_exp(x)
        e = grown * shrink
        return x, grown, e, e + two, reciprocal(muladd(e, e + two, two))

    @public
    def mish(x):
        y, grown, e, a, r = mish_parts(x)
        return x if x > mish_reach else y * grown * a * r * shrink

    @public
    def mish_derivative(x):
        y, grown, e, a, r = mish_parts(x)
        return one if x > mish_reach else muladd(four * y * (e + one), r, a) * grown * r * shrink

    @compiled
    def expm1(z):
        """For z <= 0"""
        return z * expm1_near(z) if z > -near else grown_exp(z) * shrink - one

    @public
    def elu(x, alpha):
        return x if x > zero else alpha * expm1(x)

    @public
    def elu_derivative(x, alpha):
        return one if x > zero else alpha * (grown_exp(x) * shrink)

    scale, both = T(1.0507009873554805), T(1.7580993408473766)

    @public
    def selu(x):
        return scale * x if x > zero else both * expm1(x)

    @public
    def selu_derivative(x):
        return scale if x > zero else both * (grown_exp(x) * shrink)

    @public
    def celu(x, alpha):
        return x if x >= zero else alpha * expm1(x * reciprocal(alpha))

    @public
    def celu_derivative(x, alpha):
        return one if x >= zero else grown_exp(x * reciprocal(alpha)) * shrink

    least, infinite, sixteenth, sixty_fourth = T(2.0**-126), T(np.inf), T(1 / 16), T(1 / 64)

    @compiled
    def squareplus_parts(x, b):
        """The function, 1 / sqrt(x^2 + b), and whether there is nothing beside x in that root, or float32 has no such square."""
        a = absolute(x)
        square = muladd(a, a, b)
        of_x_alone = (square < least) | (square == infinite)
        inverse = reciprocal(least if a < least else a) if of_x_alone else reciprocal_root(square)
        h = half * a + half * (a if of_x_alone else square * inverse)
        below = h * sixteenth
        return h if x >= zero else b * sixty_fourth * reciprocal(least if below < least else below), inverse, of_x_alone

    @public
    def squareplus(x, b):
        y, _, _ = squareplus_parts(x, b)
        return y

    @public
    def squareplus_derivative(x, b):
        y, inverse, of_x_alone = squareplus_parts(x, b)
        return one if of_x_alone & (x > zero) else y * inverse

    return found | numba_scalar.gated_formulas(T, machine, exact | found)
