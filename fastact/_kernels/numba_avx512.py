"""The functions of by_hand.h once more, for Numba: generated sixteen floats at a time, from the same tables.

How they work, and how exact they are, is said there; here are the same formulas under the same names, and the results have
the same bits. A vector's element is what NAME_near gives, and NAME_far where it is past ENDS[NAME], or NaN.
"""

from __future__ import annotations

import math
from types import SimpleNamespace

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .numba_intrinsics import pointer
from .numba_vectors import (
    FLOATS,
    INT,
    INTS,
    LANES,
    Floats,
    absolute,
    at_least,
    at_most,
    chosen,
    estimated,
    looked_up,
    minus_times,
    negative,
    rising_to_one,
    times_minus,
    times_plus,
    with_sign_of,
)
from .tables import table

MAGIC = 1.5 * 2.0**23


def scale(x, n):
    """x 2^floor(n), also subnormal"""
    everywhere, nearest = ir.Constant(ir.IntType(16), -1), ir.Constant(INT, 4)
    return x.call("llvm.x86.avx512.mask.scalef.ps.512", FLOATS, x.value, n.value, x.value, everywhere, nearest)


# --- Functions of a >= 0 on intervals: main + h rest ------------------------------------------------------------------


def multiple(a, per_unit):
    return times_plus(a, per_unit, MAGIC).bits()


def rounded_square(a, factor, offset):
    s = times_plus(a, factor, offset)
    return times_plus(s, s, MAGIC).bits()


def piece(name, place, a):
    centre, main, *rows = table(name)
    h = a - looked_up(a, centre, place)
    rest = looked_up(a, rows[-1], place)
    for row in rows[-2::-1]:
        rest = times_plus(h, rest, looked_up(a, row, place))
    return SimpleNamespace(h=h, main=looked_up(a, main, place), rest=rest)


def on_intervals(place, *arguments):
    """Of a table's name: the function whose interval place(a, *arguments) tells."""
    return lambda name: lambda a: piece(name, place(a, *arguments), a)


logistic, log_logistic, bell = map(on_intervals(multiple, 1 / 0.7), ("logistic", "log_logistic", "bell"))
tanh_slope = on_intervals(multiple, 1 / 0.35)("tanh_slope")
silu_tail, silu_slope = map(on_intervals(multiple, 1 / 0.7), ("silu_tail", "silu_slope"))
gelu_tail, gelu_slope = map(on_intervals(rounded_square, 0.55, 0.95), ("gelu_tail", "gelu_slope"))
gelu_tanh_tail, gelu_tanh_slope = map(on_intervals(rounded_square, 0.63, 0.95), ("gelu_tanh_tail", "gelu_tanh_slope"))
gelu_quick_tail, gelu_quick_slope = map(on_intervals(multiple, 1 / 0.35), ("gelu_quick_tail", "gelu_quick_slope"))
mish, mish_slope = map(on_intervals(multiple, 1 / 0.35), ("mish", "mish_slope"))
scaled_normal_tail = on_intervals(multiple, 2)("scaled_normal_tail")
LOGISTIC_END, GELU_END, GELU_TANH_END, GELU_QUICK_END, MISH_END = 10.8, 8.63, 7.53, 11.0, 11.0


def sum_of(p):
    return times_plus(p.h, p.rest, p.main)


def tail_of(p, a):
    first = p.main.builder.fcmp_ordered("==", p.main.value, p.main.of(0))
    p.main = chosen(first, a * 0.5, p.main)
    return sum_of(p)


def sum_from(p, slope):
    first = p.main.builder.fcmp_ordered("==", p.main.value, p.main.of(0))
    return times_plus(p.h, chosen(first, slope, p.rest), chosen(first, p.h * p.rest, p.main))


def rising_to(x, y):
    return at_least(x, -0.0) - y


# --- Exponentials -----------------------------------------------------------------------------------------------------


def exp_of(z, low):
    """exp(z + low) = 2^n (1 + p + p_low): p, p_low, n"""
    n = times_plus(z, 1.44269504, MAGIC) - MAGIC
    z = times_plus(n, -0.693145751953125, z)
    low = times_plus(n, -1.428606820309417e-06, low)
    r = z + low
    q = times_plus(r, 0.00139412307, 0.00836937129)
    for c in (0.041666396, 0.166665152):
        q = times_plus(r, q, c)
    q = r * r * times_plus(r, q, 0.5)
    p = r + q
    return p, (q - (p - r)) + (low - (r - z)), n


def exponential(factor, z):
    """factor exp(z) for z from -200 to 0"""
    t = times_plus(z, 1.44269504, 1.5 * 2.0**19)
    n = t - 1.5 * 2.0**19
    r = times_plus(n, -1.428606820309417e-06, times_plus(n, -0.693145751953125, z))
    p = r * times_plus(r, times_plus(r, 0.16666667, 0.5000162), 1)
    power, low = (looked_up(z, row, t.bits()) for row in table("powers_of_two"))
    return scale(times_plus(factor, power, factor * times_plus(power, p, low)), n)


def decayed_product(a, low, factor, factor_low, second):
    """e (factor + factor_low - second e), e = exp(-(a + low))"""
    p, p_low, n = exp_of(0 - at_most(a, 200), 0 - low)
    whole = 1 + p
    rest = times_plus(factor, (p - (whole - 1)) + p_low, whole * factor_low)
    rest = minus_times(second * whole, scale(whole, n), rest)
    return scale(times_plus(factor, whole, rest), n)


def decayed(a, factor, second):
    return decayed_product(a, 0.0, factor, 0.0, second)


def decayed_slope(a, low, g, g_low):
    """e (1 - g - (1 - 2 g) e) for g + g_low > 1"""
    factor = 1 - g
    return decayed_product(a, low, factor, 1 - (factor + g) - g_low, factor - g)


LARGE = 1e30


def tamed(x):
    return at_least(at_most(x, LARGE), -LARGE)


# --- The functions ----------------------------------------------------------------------------------------------------

ENDS = {
    "sigmoid": LOGISTIC_END, "sigmoid_derivative": LOGISTIC_END, "tanh": math.inf, "tanh_derivative": 11.0,
    "tanhshrink": math.inf, "tanhshrink_derivative": math.inf,
    "elu": math.inf, "elu_derivative": math.inf, "selu": math.inf, "selu_derivative": math.inf,
    "softplus": LOGISTIC_END, "logsigmoid": LOGISTIC_END, "logsigmoid_derivative": LOGISTIC_END,
    "silu": LOGISTIC_END, "silu_derivative": LOGISTIC_END, "gelu": -GELU_END, "gelu_derivative": -GELU_END,
    "gelu_quick": -GELU_QUICK_END, "gelu_quick_derivative": -GELU_QUICK_END,
    "gelu_tanh": -GELU_TANH_END, "gelu_tanh_derivative": -GELU_TANH_END,
    "mish": -MISH_END, "mish_derivative": -MISH_END, "softsign": math.inf, "softsign_derivative": math.inf, "squareplus": 1e12, "squareplus_derivative": 1e12,
}  # fmt: skip
"""Up to which |x|, or if that is negative down to which x, each NAME_near below is right; from there on NAME_far is."""
ALIASES = {
    "softplus_derivative": "sigmoid", "swish": "silu", "swish_derivative": "silu_derivative",
    "celu": "elu", "celu_derivative": "elu_derivative",
}  # fmt: skip
GATED = {"glu": ("sigmoid", 1), "swiglu": ("silu", 0), "geglu": ("gelu", 0)}
"""Of which function, and which of the inputs goes into it."""


def sigmoid_near(x):
    return rising_to_one(x, sum_of(logistic(absolute(x))))


def sigmoid_far(x):
    return rising_to_one(x, decayed(absolute(x), 1.0, 1.0))


def sigmoid_derivative_near(x):
    return sum_of(bell(absolute(x)))


def sigmoid_derivative_far(x):
    return decayed(absolute(x), 1.0, 2.0)


def by_exponent(name, offset, end):
    """Of |x|: the piece on the interval that the first bits of its sum with the offset tell; the function is even past the end."""

    def found(x):
        a = at_most(absolute(x), end)
        return piece(name, a.builder.lshr((a + offset).bits(), ir.Constant(INTS, [21] * LANES)), a)

    return found


tanh_piece = by_exponent("tanh", 0.625, 9.1)


def exponential_linear(name, rising, factor, slope):
    """NAME_near and NAME_derivative_near of what is rising(x), about a multiple of x, for x > 0, and one of exp(x) - 1 below."""
    fall = by_exponent(name, 1.25, 17.34)

    def derivative(x):
        y = exponential(slope, at_most(at_least(x, -200), 0))
        return chosen(x.builder.fcmp_ordered(">", x.value, x.of(0)), factor, y)

    return lambda x: chosen(x.compared(">=", 0), rising(x), sum_from(fall(x), -slope)), derivative


elu_near, elu_derivative_near = exponential_linear("elu", lambda x: x, 1, 1)
selu_near, selu_derivative_near = exponential_linear(
    "selu", lambda x: times_plus(1.05070102, x, at_most(x, 1e38) * -3.47926523e-08), 1.05070102, 1.75809932
)


def tanh_near(x):
    return with_sign_of(sum_of(tanh_piece(x)), x)


def tanh_derivative_near(x):
    return sum_of(tanh_slope(absolute(x)))


def tanh_derivative_far(x):
    return decayed(absolute(x + x), 4.0, 8.0)


def tanhshrink_near(x):
    a = absolute(x)
    z = a * a
    cube, t = z * a, tanh_piece(x)
    p = times_plus(z, -0.00309422659, 0.00907383673)
    for c in (-0.0220028125, 0.0539901331, -0.133334488):
        p = times_plus(z, p, c)
    product = times_plus(z, p, 0.333333343)
    p = times_plus(z, p, 0.333333343 - product)
    z = times_plus(times_minus(a, a, z), a, times_minus(z, a, cube))
    product = times_plus(cube, product, times_plus(cube, p, z * product))
    small = a.builder.fcmp_ordered("<", a.value, a.of(0.6))
    return with_sign_of(chosen(small, product, minus_times(t.h, t.rest, a - t.main)), x)


def tanhshrink_derivative_near(x):
    t = tanh_piece(x)
    c = t.h * t.rest
    y = t.main + c
    low = ((t.main - y) + c) + times_minus(t.h, t.rest, c)
    return times_plus(y, y, (y + y) * low)


def softplus_near(x):
    p, m = log_logistic(absolute(x)), at_least(x, 0)
    total = m + p.main
    share = total - m
    return total + times_plus(p.h, p.rest, (m - (total - share)) + (p.main - share))


def softplus_far(x):
    return at_least(x, 0) + decayed(absolute(x), 1.0, 0.5)


def logsigmoid_near(x):
    return 0 - softplus_near(0 - x)


def logsigmoid_far(x):
    return at_most(x, -0.0) - decayed(absolute(x), 1.0, 0.5)


def logsigmoid_derivative_near(x):
    return sigmoid_near(0 - x)


def logsigmoid_derivative_far(x):
    return sigmoid_far(0 - x)


def silu_near(x):
    a = absolute(x)
    return rising_to(x, tail_of(silu_tail(a), a))


def silu_far(x):
    return rising_to(x, decayed(absolute(x), tamed(absolute(x)), tamed(absolute(x))))


def silu_derivative_near(x):
    return rising_to_one(x, sum_of(silu_slope(absolute(x))))


def silu_derivative_far(x):
    a = at_most(absolute(x), 200)
    return rising_to_one(x, decayed_slope(a, 0.0, a, 0.0))


def fading(tail, slope, end):
    """NAME_near and NAME_derivative_near of a function of which nothing is left beside x, or 1, at the end of the intervals."""

    def near(x):
        a = at_most(absolute(x), end)
        return rising_to(x, tail_of(tail(a), a))

    return near, lambda x: rising_to_one(x, sum_of(slope(at_most(absolute(x), end))))


gelu_near, gelu_derivative_near = fading(gelu_tail, gelu_slope, GELU_END)
gelu_tanh_near, gelu_tanh_derivative_near = fading(gelu_tanh_tail, gelu_tanh_slope, GELU_TANH_END)
gelu_quick_near, gelu_quick_derivative_near = fading(gelu_quick_tail, gelu_quick_slope, GELU_QUICK_END)


def mish_near(x):
    return chosen(x.compared(">", 8.575), x, tail_of(mish(x), x))


def mish_derivative_near(x):
    return chosen(x.builder.fcmp_ordered(">", x.value, x.of(11)), 1, sum_of(mish_slope(x)))


def mish_far(x):
    return decayed(absolute(x), tamed(x), 0.5 * tamed(x))


def mish_derivative_far(x):
    a = at_most(absolute(x), 200)
    factor = 1 - a
    return decayed_product(a, 0.0, factor, 1 - (factor + a), 0.5 - a)


def gated_far(a, z, low):
    """-a s(-(z + low))"""
    return -0.0 - decayed_product(z, low, tamed(a), 0.0, tamed(a))


def quick_argument(a):
    """1.702 a as high + low"""
    a = at_most(a, 150)
    z = 1.702 * a
    return z, times_plus(-2.19345093e-08, a, times_minus(1.702, a, z))


def gelu_quick_far(x):
    a = absolute(x)
    return gated_far(a, *quick_argument(a))


def gelu_quick_derivative_far(x):
    z, low = quick_argument(absolute(x))
    return decayed_slope(z, low, z, low)


TWO_ROOT_TWO_OVER_PI, TWO_ROOT_TWO_OVER_PI_LOW = 1.59576917, -4.53406804e-08


def tanh_argument(a):
    """2 sqrt(2 / pi) (a + 0.044715 a^3) as high + low, and its term in a"""
    c, d = TWO_ROOT_TWO_OVER_PI, 0.0713548139
    square = a * a
    square_low = times_minus(a, a, square)
    cube = d * square
    total = c + cube
    share = total - c
    square_low = times_plus(d, square_low, times_plus(2.39883240e-09, square, times_minus(d, square, cube)))
    square_low = square_low + TWO_ROOT_TWO_OVER_PI_LOW + ((c - (total - share)) + (cube - share))
    z = a * total
    return z, times_plus(a, square_low, times_minus(a, total, z)), c * a


def gelu_tanh_far(x):
    a = at_most(absolute(x), 30)
    return gated_far(a, *tanh_argument(a)[:2])


def gelu_tanh_derivative_far(x):
    a = at_most(absolute(x), 30)
    z, low, linear = tanh_argument(a)
    linear_low = times_plus(TWO_ROOT_TWO_OVER_PI_LOW, a, times_minus(TWO_ROOT_TWO_OVER_PI, a, linear))
    part, twice = z - (linear + linear), z + z
    g = twice + part
    g_low = times_plus(2, low, low) - (linear_low + linear_low)
    return decayed_slope(z, low, g, (part - (g - twice)) + g_low)


def scaled_normal_tail_at(a):
    """Phi(-a) exp(a^2 / 2) as high + low, and exp(-a^2 / 2) = 2^n (e + e_low): high, low, n, e, e_low"""
    magic = 1.5 * 2.0**19
    square = a * a
    t = times_plus(square, -0.72134752, magic)
    place, n = t.bits(), t - magic
    r = times_plus(n, float.fromhex("0x1.62e43p0"), square) + times_plus(n, float.fromhex("-0x1.05c61p-28"), times_minus(a, a, square))
    p = r * times_plus(r, times_plus(r, -1 / 48, 0.125), -0.5)
    powers, lows = table("powers_of_two")
    e = looked_up(a, powers, place)
    g = scaled_normal_tail(a)
    return g.main, g.h * g.rest, n, e, times_plus(e, p, looked_up(a, lows, place))


def gelu_far(x):
    a = at_most(absolute(x), 14.99)
    g, g_low, n, e, e_low = scaled_normal_tail_at(a)
    q = g * e
    q_low = times_plus(e_low, g + g_low, times_plus(g_low, e, times_minus(g, e, q)))
    return -0.0 - scale(times_plus(a, q, a * q_low), n)


def gelu_derivative_far(x):
    a = at_most(absolute(x), 14.99)
    g, g_low, n, e, e_low = scaled_normal_tail_at(a)
    b = a * 0.398942292
    b_low = times_plus(a, -1.13351701e-08, times_minus(a, 0.398942292, b))
    d = g - b
    d_low = (g - (d + b)) + (g_low - b_low)
    q = d * e
    d_low = times_plus(d + d_low, e_low, times_plus(d_low, e, times_minus(d, e, q)))
    return scale(q + d_low, n)


def reciprocal(high, low):
    """1 / (high + low) as r (1 + error): r, error"""
    r = estimated("rcp14", high)
    r = times_plus(r, minus_times(low, r, minus_times(high, r, 1)), r)
    return r, minus_times(low, r, minus_times(high, r, 1))


def square_of(r, error):
    y = r * r
    return y + times_plus(y + y, error, times_minus(r, r, y))


def softsign_parts(x):
    """a = |x|, 1 + a as high + low, and the reciprocal of that"""
    a = at_most(absolute(x), 1e30)
    d = 1 + a
    low = at_most(a, 1) - (d - at_least(a, 1))
    return a, d, low, *reciprocal(d, low)


def softsign_near(x):
    a, d, low, r, error = softsign_parts(x)
    y = a * r
    return with_sign_of(times_plus(minus_times(low, y, minus_times(d, y, a)), r, y), x)


def softsign_derivative_near(x):
    return square_of(*softsign_parts(x)[3:])


def squareplus_tail(x):
    """(sqrt(x^2 + 4) - |x|) / 2"""
    a = absolute(x)
    s = times_plus(a, a, 4)
    h = estimated("rsqrt14", s)
    half = estimated("rcp14", times_plus(s, h, a))
    main = half + half
    return SimpleNamespace(h=h, main=main, rest=minus_times(main, main, minus_times(main, a, 1)))


def squareplus_near(x):
    return at_least(x, 0) + sum_of(squareplus_tail(x))


def squareplus_far(x):
    return rising_to(x, -1 / absolute(x))


def squareplus_derivative_near(x):
    t = squareplus_tail(x)
    q = t.h * t.main
    twice = q + q
    rest = minus_times(twice, t.main, minus_times(q, absolute(x), t.main))
    rest = times_plus(t.h * t.rest, 1 - twice, rest)
    return rising_to_one(x, times_plus(t.h, rest, q))


def squareplus_derivative_far(x):
    return rising_to_one(x, square_of(*reciprocal(at_most(absolute(x), 1e30), 0.0)))


# --- sigmoid_cross_entropy --------------------------------------------------------------------------------------------


def cross_entropy_of(x, t, w):
    """The loss and its derivative, t w being the weight of class 1."""
    builder = x.builder
    down, a, b, c = negative(x), absolute(x), t * w, 1 - t
    wrong, right = chosen(down, b, c), chosen(down, c, b)
    near = wrong * a, sum_of(log_logistic(a)), sum_of(logistic(a))
    slots = [cgutils.alloca_once_value(builder, vector.value) for vector in near]
    far = a.compared(">", LOGISTIC_END)
    some = builder.bitcast(far, ir.IntType(LANES))
    with builder.if_then(builder.icmp_unsigned("!=", some, ir.Constant(some.type, 0)), likely=False):
        shut = builder.fcmp_ordered("==", wrong.value, wrong.of(0))  # 0 inf is 0
        past = (shut, tamed(a) * wrong), (far, decayed(a, 1.0, 0.5)), (far, decayed(a, 1.0, 1.0))
        for (mask, value), other, slot in zip(past, near, slots):
            builder.store(chosen(mask, value, other).value, slot)
    main, log, s = (x.made(builder.load(slot)) for slot in slots)
    slope = with_sign_of(times_minus(wrong, 1 - s, right * s), x)
    return times_plus(wrong + right, log, main), slope


@intrinsic
def cross_entropy_step(typing, x, t, w, value, grad, factor):
    """Losses and, unless that is 0, gradients times the factor of LANES elements."""

    def generate(context, builder, signature, args):
        def place(address):
            return pointer(builder, address, FLOATS)

        vectors = []
        for address in args[:3]:
            vectors.append(Floats(builder, builder.load(place(address))))
            vectors[-1].value.align = 4
        y, slope = cross_entropy_of(*vectors)
        builder.store(y.value, place(args[3]), align=4)
        with builder.if_then(builder.icmp_signed("!=", args[4], args[4].type(0))):
            undefined = ir.Constant(FLOATS, ir.Undefined)
            factor = builder.insert_element(undefined, args[5], ir.Constant(INT, 0))
            factor = builder.shuffle_vector(factor, undefined, ir.Constant(INTS, [0] * LANES))
            builder.store(builder.fmul(slope.value, factor), place(args[4]), align=4)
        return context.get_dummy_value()

    return types.void(*[types.intp] * 5, types.float32), generate
