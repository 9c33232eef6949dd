"""The functions of by_hand_doubles.h once more, for Numba, as numba_avx512.py has those of floats: the same bits."""

from __future__ import annotations

import math
from types import SimpleNamespace

from .numba_vectors import (
    absolute,
    at_least,
    chosen,
    looked_up,
    minus_times,
    rising_to_one,
    times_minus,
    times_plus,
    with_sign_of,
)
from .tables import table


def falling(x):
    """-|x|"""
    return -absolute(x)


def power_of(z, shift):
    """exp(z) 2^shift = e (1 + r + s)"""
    magic = 1.5 * 2.0**48 + shift
    t = times_plus(z, 1.4426950408889634, magic)
    n = t - magic
    reduced, missing = (looked_up(z, row, t.bits()) for row in table("powers_of_two_in_double"))
    low = times_plus(n, -1.90821492927058770002e-10, missing)
    exact = times_plus(n, -6.93147180369123816490e-01, z)
    r = exact + low
    square = r * r
    q = times_plus(r, 0.00019841402978444905, 0.001388910141426428)
    q = times_plus(square, q, times_plus(r, 0.008333333333251461, 0.04166666666141057))
    q = times_plus(square, q, times_plus(r, 0.16666666666666666, 0.5))
    shifted = z.builder.shl(t.bits(), z.integer(48))
    return SimpleNamespace(e=z.from_bits(z.builder.add(reduced.bits(), shifted)), r=exact, s=times_plus(square, q, low))


def and_low(p, low):
    """exp(z + low) from exp(z)"""
    return SimpleNamespace(e=p.e, r=p.r, s=p.s + times_plus(low, p.r, low))


# --- Numbers of two parts, and quotients q + r rest ---------------------------------------------------------------------


def sum_of_parts(a, b):
    """a + b, |a| > |b|"""
    y = a + b
    return y, b - (y - a)


def parts_of(p):
    return sum_of_parts(p.e, p.e * (p.r + p.s))


def one_plus_parts(high, low):
    d = 1 + high
    return d, (high - (d - 1)) + low


def product_of(a, b):
    y = a[0] * b[0]
    return y, times_plus(a[1], b[0], times_plus(a[0], b[1], times_minus(a[0], b[0], y)))


def square_of_parts(high, low):
    y = high * high
    return y, times_plus(high + high, low, times_minus(high, high, y))


def ratio(a, d):
    r = 1 / d[0]
    q = a[0] * r
    return q, r, minus_times(q, d[0], a[0]) + minus_times(q, d[1], a[1])


def rounded(q, r, rest):
    return times_plus(r, rest, q)


# --- Of exponentials --------------------------------------------------------------------------------------------------


def decayed_by(factor, factor_low, z, low):
    """factor exp(z + low), z < 0, down to the subnormals"""
    e, e_low = parts_of(and_low(power_of(at_least(z, -800), 1000), low))
    return times_plus(factor, e, times_plus(factor, e_low, factor_low * e)) * 2.0**-1000


def rising_to_itself(x, y):
    return chosen(x.compared(">=", 0), x, y)


def logistic_of(x, p):
    up = x.compared(">=", 0)
    high, low = parts_of(p)
    return ratio((chosen(up, 1, high), chosen(up, 0, low)), one_plus_parts(high, low))


def gated_of(x, p):
    q, r, rest = logistic_of(x, p)
    return times_plus(x, q, x * (r * rest))


def density_of(p, factor):
    """p / (1 + p / factor)^2"""
    high, low = parts_of(p)
    return rounded(*ratio((high, low), square_of_parts(*one_plus_parts(high * (1 / factor), low * (1 / factor)))))


def slope_of(x, p, minus_g, minus_g_low):
    e = parts_of(p)
    d, d_low = one_plus_parts(*e)
    total = d + minus_g
    share = total - d
    a = total, ((d - (total - share)) + (minus_g - share)) + (d_low + minus_g_low)
    return rising_to_one(x, rounded(*ratio(product_of(e, a), square_of_parts(d, d_low))))


# --- The functions ----------------------------------------------------------------------------------------------------

EXPONENTIAL_END, GELU_QUICK_END, GELU_TANH_END, LARGE = 660.0, 387, 20.6, 1e300
ENDS = {
    "sigmoid": EXPONENTIAL_END, "sigmoid_derivative": EXPONENTIAL_END, "tanh": math.inf, "tanh_derivative": EXPONENTIAL_END / 2,
    "silu": EXPONENTIAL_END, "silu_derivative": EXPONENTIAL_END, "gelu_quick": GELU_QUICK_END, "gelu_quick_derivative": GELU_QUICK_END,
    "gelu_tanh": GELU_TANH_END, "gelu_tanh_derivative": GELU_TANH_END,
}  # fmt: skip
"""Up to which |x| each NAME_near below is right; from there on NAME_far is."""
ALIASES = {"swish": "silu", "swish_derivative": "silu_derivative"}
GATED = {"glu": ("sigmoid", 1), "swiglu": ("silu", 0)}
"""Of which function, and which of the inputs goes into it."""


def sigmoid_near(x):
    return rounded(*logistic_of(x, power_of(falling(x), 0)))


def sigmoid_far(x):
    return rising_to_one(x, decayed_by(1.0, 0.0, falling(x), 0.0))


def sigmoid_derivative_near(x):
    return density_of(power_of(falling(x), 0), 1)


def sigmoid_derivative_far(x):
    return decayed_by(1.0, 0.0, falling(x), 0.0)


def silu_near(x):
    return gated_of(x, power_of(falling(x), 0))


def silu_far(x):
    return rising_to_itself(x, decayed_by(at_least(x, -800), 0.0, x, 0.0))


def silu_derivative_near(x):
    z = falling(x)
    return slope_of(x, power_of(z, 0), z, -0.0)


def silu_derivative_far(x):
    z = at_least(falling(x), -800)
    return rising_to_one(x, decayed_by(1 + z, 0.0, z, 0.0))


def tanh_near(x):
    z = at_least(falling(x), -30)
    p = power_of(z + z, 0)
    rest = 1 - p.e
    main = minus_times(p.e, p.r, rest)
    a, a_low = sum_of_parts(main, minus_times(p.e, p.s, minus_times(p.e, p.r, rest - main) + ((1 - rest) - p.e)))
    d = 2 - a
    return with_sign_of(rounded(*ratio((a, a_low), (d, ((2 - d) - a) - a_low))), x)


def tanh_derivative_near(x):
    z = falling(x)
    return density_of(power_of(z + z, 2), 4)


def tanh_derivative_far(x):
    z = falling(x)
    return decayed_by(4.0, 0.0, z + z, 0.0)


def quick_argument_of(z):
    """1.702 z as high + low"""
    y = 1.702 * z
    return y, times_plus(z, 4.2632564145606012e-17, times_minus(z, 1.702, y))


def gelu_quick_near(x):
    z, low = quick_argument_of(falling(x))
    return gated_of(x, and_low(power_of(z, 0), low))


def gelu_quick_far(x):
    a = at_least(x, -800)
    return rising_to_itself(x, decayed_by(a, 0.0, *quick_argument_of(a)))


def gelu_quick_derivative_near(x):
    z, low = quick_argument_of(falling(x))
    return slope_of(x, and_low(power_of(z, 0), low), z, low)


def gelu_quick_derivative_far(x):
    z, low = quick_argument_of(at_least(falling(x), -800))
    return rising_to_one(x, decayed_by(1 + z, low, z, low))


def tanh_argument_of(x):
    """2 sqrt(2 / pi) (x + 0.044715 x^3) as high + low, and of its second term both parts"""
    square, c = x * x, 1.5957691216057308
    factor, factor_low = product_of((square, times_minus(x, x, square)), (0.07135481627260025, -6.1751499181553155e-19))
    total = c + factor
    share = total - c
    z = x * total
    total_low = ((c - (total - share)) + (factor - share)) + (factor_low + -9.9693088091109203e-17)
    low = times_plus(x, total_low, times_minus(x, total, z))
    cubic = x * factor
    return z, low, cubic, times_plus(x, factor_low, times_minus(x, factor, cubic))


def tanh_argument_slope(z, low, cubic, cubic_low):
    """x z' = z + 2 cubic"""
    twice = cubic + cubic
    g = z + twice
    share = g - z
    return g, ((z - (g - share)) + (twice - share)) + times_plus(2, cubic_low, low)


def gelu_tanh_near(x):
    z, low, *_ = tanh_argument_of(falling(x))
    return gated_of(x, and_low(power_of(z, 0), low))


def gelu_tanh_far(x):
    a = at_least(x, -30)
    return rising_to_itself(x, decayed_by(a, 0.0, *tanh_argument_of(a)[:2]))


def gelu_tanh_derivative_near(x):
    argument = z, low, *_ = tanh_argument_of(falling(x))
    return slope_of(x, and_low(power_of(z, 0), low), *tanh_argument_slope(*argument))


def gelu_tanh_derivative_far(x):
    argument = z, low, *_ = tanh_argument_of(at_least(falling(x), -30))
    g, g_low = tanh_argument_slope(*argument)
    return rising_to_one(x, decayed_by(1 + g, g_low, z, low))
