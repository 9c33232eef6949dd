"""The functions of by_hand_doubles.h once more, for Numba, as numba_avx512.py has those of floats: the same bits."""

from __future__ import annotations

import math
from types import SimpleNamespace

from .numba_vectors import (
    absolute,
    at_least,
    at_most,
    chosen,
    estimated,
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


def scaled(factor, factor_low, y, y_low):
    return times_plus(factor, y, times_plus(factor, y_low, factor_low * y))


def decayed_by(factor, factor_low, z, low):
    """factor exp(z + low), z < 0, down to the subnormals"""
    return scaled(factor, factor_low, *parts_of(and_low(power_of(at_least(z, -800), 1000), low))) * 2.0**-1000


def one_minus(p):
    """1 - p, of which no digit is lost near 0; its second part may be a hundredth of the first."""
    rest = 1 - p.e
    main = minus_times(p.e, p.r, rest)
    return main, minus_times(p.e, p.s, minus_times(p.e, p.r, rest - main) + ((1 - rest) - p.e))


def log_of_one_plus(e, e_low):
    """log(1 + e), 0 <= e <= 1: of a table's number near 1 / (1 + e), and of their product, which is nearly 1"""
    place = times_plus(e, 15, 1.5 * 2.0**52).bits()
    number, logarithm = (looked_up(e, row, place) for row in table("logarithms_in_double"))
    r = times_plus(number, e, number - 1)
    square = r * r
    q = times_plus(square, -0.10025726009542378, times_plus(r, 0.11136291789820943, -0.12499971861380522))
    q = times_plus(square, q, times_plus(r, 0.14285690260397538, -0.1666666667936789))
    start = times_plus(square, times_plus(r, 0.2000000000902885, -0.24999999999998054), times_plus(r, 0.3333333333333228, -0.5))
    high, low = sum_of_parts(logarithm, r)
    return high, low + times_plus(square, times_plus(square * square, q, start), number * e_low)


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
    "gelu_tanh": GELU_TANH_END, "gelu_tanh_derivative": GELU_TANH_END, "tanhshrink": math.inf, "tanhshrink_derivative": math.inf,
    "elu": math.inf, "elu_derivative": EXPONENTIAL_END, "selu": math.inf, "selu_derivative": EXPONENTIAL_END,
    "softplus": EXPONENTIAL_END, "logsigmoid": EXPONENTIAL_END, "logsigmoid_derivative": EXPONENTIAL_END,
    "softsign": math.inf, "softsign_derivative": math.inf, "squareplus": 1e12, "squareplus_derivative": 1e12,
}  # fmt: skip
"""Up to which |x| each NAME_near below is right; from there on NAME_far is."""
ALIASES = {
    "swish": "silu", "swish_derivative": "silu_derivative", "celu": "elu", "celu_derivative": "elu_derivative",
    "softplus_derivative": "sigmoid",
}  # fmt: skip
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


def tanh_of(x):
    z = at_least(falling(x), -30)
    a, a_low = sum_of_parts(*one_minus(power_of(z + z, 0)))
    d = 2 - a
    return ratio((a, a_low), (d, ((2 - d) - a) - a_low))


def tanh_near(x):
    return with_sign_of(rounded(*tanh_of(x)), x)


def tanh_derivative_near(x):
    z = falling(x)
    return density_of(power_of(z + z, 2), 4)


def tanh_derivative_far(x):
    z = falling(x)
    return decayed_by(4.0, 0.0, z + z, 0.0)


def tanhshrink_near(x):
    a = absolute(x)
    z = a * a
    cube = z * a
    q, r, rest = tanh_of(x)
    p = times_plus(z, -0.0005341552931379687, 0.0014503370058481448)
    for c in (-0.0035918449844150545, 0.008863227493258545, -0.021869488414006724, 0.05396825396737435, -0.1333333333333312):
        p = times_plus(z, p, c)
    third = 0.3333333333333333
    product = times_plus(z, p, third)
    low = times_plus(z, p, third - product) + 1.850371707708594e-17
    cube_low = times_plus(times_minus(a, a, z), a, times_minus(z, a, cube))
    small = times_plus(cube, product, times_plus(cube, low, cube_low * product))
    return with_sign_of(chosen(a.compared(">", 0.25), minus_times(r, rest, a - q), small), x)


def tanhshrink_derivative_near(x):
    q, r, rest = tanh_of(x)
    low = r * rest
    y = q + low
    return times_plus(y, y, (y + y) * (low - (y - q)))


def above_nought(x):
    return x.builder.fcmp_ordered(">", x.value, x.of(0))


def elu_near(x):
    high, low = one_minus(power_of(at_least(x, -50), 0))
    return rising_to_itself(x, -(high + low))


def elu_derivative_near(x):
    p = power_of(x, 0)
    return chosen(above_nought(x), 1, times_plus(p.e, p.r + p.s, p.e))


def elu_derivative_far(x):
    return chosen(above_nought(x), 1, decayed_by(1.0, 0.0, x, 0.0))


SELU_SLOPE, SELU_FALL = 1.0507009873554805, (1.7580993408473766, 5.75014648756476e-17)


def selu_near(x):
    return chosen(x.compared(">=", 0), SELU_SLOPE * x, -scaled(*SELU_FALL, *one_minus(power_of(at_least(x, -50), 0))))


def selu_derivative_near(x):
    p = power_of(x, 0)
    return chosen(above_nought(x), SELU_SLOPE, scaled(*SELU_FALL, p.e, p.e * (p.r + p.s)))


def selu_derivative_far(x):
    return chosen(above_nought(x), SELU_SLOPE, decayed_by(*SELU_FALL, x, 0.0))


def softplus_near(x):
    log, log_low = log_of_one_plus(*parts_of(power_of(falling(x), 0)))
    m = at_least(x, 0)
    y = m + log
    share = y - m
    return y + (log_low + ((m - (y - share)) + (log - share)))


def softplus_far(x):
    return rising_to_itself(x, decayed_by(1.0, 0.0, x, 0.0))


def logsigmoid_near(x):
    return -softplus_near(-x)


def logsigmoid_far(x):
    return -softplus_far(-x)


def logsigmoid_derivative_near(x):
    return sigmoid_near(-x)


def logsigmoid_derivative_far(x):
    return sigmoid_far(-x)


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


def about_two_over(x):
    y = estimated("rcp14", x)
    twice = y + y
    return times_plus(twice, minus_times(x, y, 1), twice)


def about_one_over_root(x):
    y = estimated("rsqrt14", x)
    error = minus_times(x * y, y, 1)
    return times_plus(y * error, times_plus(error, 0.375, 0.5), y)


def softsign_parts(x):
    a = at_most(absolute(x), 1e300)
    d = 1 + a
    return a, d, at_most(a, 1) - (d - at_least(a, 1)), 0.5 * about_two_over(d)


def softsign_near(x):
    a, d, low, r = softsign_parts(x)
    y = a * r
    return with_sign_of(times_plus(minus_times(low, y, minus_times(d, y, a)), r, y), x)


def softsign_derivative_near(x):
    _, d, low, r = softsign_parts(x)
    error = minus_times(low, r, minus_times(d, r, 1))
    return times_plus(r, r, (r + r) * (r * error))


def squareplus_tail(z):
    s = times_plus(z, z, 4)
    r = about_one_over_root(s)
    t = about_two_over(times_minus(s, r, z))
    return t, r, minus_times(t, t, times_plus(t, z, 1))


def squareplus_near(x):
    return at_least(x, 0) + rounded(*squareplus_tail(falling(x)))


def squareplus_far(x):
    return rising_to_itself(x, -1 / falling(x))


def squareplus_derivative_near(x):
    z = falling(x)
    t, r, rest = squareplus_tail(z)
    q = r * t
    twice = q + q
    rest = times_plus(r * rest, 1 - twice, minus_times(twice, t, times_plus(q, z, t)))
    return rising_to_one(x, times_plus(r, rest, q))


def squareplus_derivative_far(x):
    z = at_least(falling(x), -1e300)
    r = 1 / z
    error = minus_times(r, z, 1)
    return rising_to_one(x, times_plus(r, r, (r + r) * (r * error)))
