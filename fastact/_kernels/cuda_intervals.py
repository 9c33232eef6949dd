"""Brief formulas for float32 on a GPU, where those of numba_scalar.py would take longer than reading and writing.

They are those of by_hand.h, on the same intervals with the same tables: main + h rest, with a polynomial rest of the distance h
from the interval's centre. What is past the intervals, or has other parameters than the usual, is left to the exact formula.
Of celu and squareplus, which have no table, the usual parameters spare the divisions.

A block has the tables in shared memory. Threads of a warp read one row of a table at a time, of 16 or 32 neighbouring numbers,
which never lie in the same bank: so nobody waits, whatever the elements are. Of mish's 64 those do that are 11.2 apart.
"""

from __future__ import annotations

import numpy as np

from . import numba_scalar
from .tables import table

TABLES = {
    "sigmoid": ("logistic",), "sigmoid_derivative": ("bell",), "tanh": ("tanh",), "tanh_derivative": ("bell",),
    "tanhshrink": ("tanh",), "tanhshrink_derivative": ("tanh",),
    "softplus": ("log_logistic",), "softplus_derivative": ("logistic",),
    "logsigmoid": ("log_logistic",), "logsigmoid_derivative": ("logistic",),
    "silu": ("silu_tail",), "silu_derivative": ("silu_slope",), "swish": ("silu_tail",), "swish_derivative": ("silu_slope",),
    "gelu": ("gelu_tail",), "gelu_derivative": ("gelu_slope",),
    "gelu_tanh": ("gelu_tanh_tail",), "gelu_tanh_derivative": ("gelu_tanh_slope",),
    "gelu_quick": ("gelu_quick_tail",), "gelu_quick_derivative": ("gelu_quick_slope",),
    "mish": ("mish",), "mish_derivative": ("mish_slope",), "celu": (), "celu_derivative": (),
    "squareplus": (), "squareplus_derivative": (),
    "glu": ("logistic",), "glu_backward": ("logistic", "bell"), "swiglu": ("silu_tail",), "swiglu_backward": ("silu_tail", "silu_slope"),
    "geglu": ("gelu_tail",), "geglu_backward": ("gelu_tail", "gelu_slope"),
}  # fmt: skip
"""Of every such formula, in which tables it looks numbers up."""


def formulas(exact, machine):
    """These formulas by name, given the exact ones, and functions of the same arguments that tell where not to use them.

    The machine has ``lookup``, too: for a table's name the function of a row and a place in it. And it has ``reciprocal`` and
    ``reciprocal_root``, which are good to 2^-22.
    """
    T, I = np.float32, np.int32  # noqa: E741
    found, beyond = {}, {}
    compiled, fused, bits, with_sign, absolute = machine.compiled, machine.fused, machine.bits, machine.with_sign, exact["absolute"]
    zero, half, one, two, four = (T(c) for c in (0, 0.5, 1, 2, 4))
    magic = T(1.5 * 2.0**23)

    def multiple(per_unit):
        per_unit = T(per_unit)
        return compiled(lambda a: bits(fused(a, per_unit, magic)))

    def rounded_square(factor, offset):
        factor, offset = T(factor), T(offset)

        @compiled
        def place(a):
            s = fused(a, factor, offset)
            return bits(fused(s, s, magic))

        return place

    def piece(name, place):
        """The main number, h and the rest for a >= 0."""
        look, rows = machine.lookup(name), table(name)
        last, places = len(rows) - 1, I(len(rows[0]) - 1)

        @compiled
        def parts(a):
            k = place(a) & places
            h = a - look(0, k)
            rest = look(last, k)
            for row in range(last - 1, 1, -1):
                rest = fused(h, rest, look(row, k))
            return look(1, k), h, rest

        return parts

    def on_intervals(name, place):
        parts = piece(name, place)

        @compiled
        def value(a):
            main, h, rest = parts(a)
            return fused(h, rest, main)

        return value

    def tail(name, place):
        """The same where the main number around 0 is a / 2."""
        parts = piece(name, place)

        @compiled
        def value(a):
            main, h, rest = parts(a)
            return fused(h, rest, a * half if main == zero else main)

        return value

    @compiled
    def rising_to(x, y):
        return (-zero if x < zero else x) - y

    @compiled
    def rising_to_one(x, y):
        return one - y if x >= zero else y

    def public(name, near, end=None, slope=False):
        """A formula that is right for |x| <= end, or with a negative end for x >= end; with a slope for that of 1."""
        reach = T(end or 0)
        if slope:
            found[name] = compiled(lambda x, beta: near(x))
            beyond[name] = compiled(lambda x, beta: (absolute(x) > reach) | (beta != one))
            return
        found[name] = near
        if end is None:
            beyond[name] = compiled(lambda x: False)
        elif end > 0:
            beyond[name] = compiled(lambda x: absolute(x) > reach)
        else:
            beyond[name] = compiled(lambda x: x < reach)

    def beyond_gate(beyond, second):
        """What that is for a gated function whose gate is the first or the second input, and for its backward pass."""
        if second:
            return compiled(lambda value, gate: beyond(gate)), compiled(lambda grad, value, gate: beyond(gate))
        return compiled(lambda gate, up: beyond(gate)), compiled(lambda grad, gate, up: beyond(gate))

    # --- The logistic family -------------------------------------------------------------------------------------

    steps, logistic_end = multiple(1 / 0.7), 10.8
    logistic, bell = on_intervals("logistic", steps), on_intervals("bell", steps)
    silu_tail, silu_slope, log_logistic = tail("silu_tail", steps), on_intervals("silu_slope", steps), piece("log_logistic", steps)

    @compiled
    def sigmoid(x):
        return rising_to_one(x, logistic(absolute(x)))

    @compiled
    def softplus(x):
        main, h, rest = log_logistic(absolute(x))
        base = zero if x < zero else x
        total = base + main
        share = total - base
        return total + fused(h, rest, (base - (total - share)) + (main - share))

    @compiled
    def silu(x):
        return rising_to(x, silu_tail(absolute(x)))

    @compiled
    def silu_derivative(x):
        return rising_to_one(x, silu_slope(absolute(x)))

    public("sigmoid", sigmoid, logistic_end)
    public("sigmoid_derivative", compiled(lambda x: bell(absolute(x))), logistic_end)
    public("softplus", softplus, logistic_end, slope=True)
    public("softplus_derivative", sigmoid, logistic_end, slope=True)
    public("logsigmoid", compiled(lambda x: -softplus(-x)), logistic_end)
    public("logsigmoid_derivative", compiled(lambda x: sigmoid(-x)), logistic_end)
    public("silu", silu, logistic_end)
    public("silu_derivative", silu_derivative, logistic_end)
    public("swish", silu, logistic_end, slope=True)
    public("swish_derivative", silu_derivative, logistic_end, slope=True)
    public("tanh_derivative", compiled(lambda x: four * bell(absolute(x + x))), logistic_end / 2)

    # --- Functions of which nothing is left beside x, or 1, where the intervals end ------------------------------

    def fading(name, place, end):
        lost, slope = tail(f"{name}_tail", place), on_intervals(f"{name}_slope", place)
        start, end = -end, T(end)

        @compiled
        def reached(x):
            a = absolute(x)
            return end if a > end else a

        public(name, compiled(lambda x: rising_to(x, lost(reached(x)))), start)
        public(f"{name}_derivative", compiled(lambda x: rising_to_one(x, slope(reached(x)))), start)

    fading("gelu", rounded_square(0.55, 0.95), 8.63)
    fading("gelu_tanh", rounded_square(0.63, 0.95), 7.53)
    fading("gelu_quick", multiple(1 / 0.35), 11.0)

    # --- mish, on intervals on both sides of 0 -------------------------------------------------------------------

    mish_steps, is_x, is_one, mish_end = multiple(1 / 0.35), T(8.575), T(11), -11.0
    mish, mish_slope = tail("mish", mish_steps), on_intervals("mish_slope", mish_steps)
    public("mish", compiled(lambda x: x if x > is_x else mish(x)), mish_end)
    public("mish_derivative", compiled(lambda x: one if x > is_one else mish_slope(x)), mish_end)

    # --- tanh ----------------------------------------------------------------------------------------------------

    tanh_end, offset, digits = T(9.1), T(0.625), I(21)
    tanh_parts = piece("tanh", compiled(lambda a: bits(a + offset) >> digits))

    @compiled
    def tanh_of(x):
        a = absolute(x)
        return tanh_parts(tanh_end if a > tanh_end else a)

    @compiled
    def tanh(x):
        main, h, rest = tanh_of(x)
        return with_sign(fused(h, rest, main), x)

    @compiled
    def tanhshrink_derivative(x):
        main, h, rest = tanh_of(x)
        change = h * rest
        y = main + change
        low = ((main - y) + change) + fused(h, rest, -change)
        return fused(y, y, (y + y) * low)

    small, small_tanhshrink = T(0.6), exact["small_tanhshrink"]

    @compiled
    def tanhshrink(x):
        main, h, rest = tanh_of(x)
        a = absolute(x)
        return with_sign(small_tanhshrink(x) if a < small else fused(-h, rest, a - main), x)

    public("tanh", tanh)
    public("tanhshrink", tanhshrink)
    public("tanhshrink_derivative", tanhshrink_derivative)

    # --- celu and squareplus -------------------------------------------------------------------------------------

    elu, elu_derivative, reciprocal, reciprocal_root = exact["elu"], exact["elu_derivative"], machine.reciprocal, machine.reciprocal_root
    usual_b, farthest = four, T(1e12)

    found["celu"] = compiled(lambda x, alpha: elu(x, one))
    found["celu_derivative"] = compiled(lambda x, alpha: elu_derivative(x, one))
    beyond["celu"] = beyond["celu_derivative"] = compiled(lambda x, alpha: alpha != one)

    @compiled
    def squareplus_parts(x):
        """(|x| + root) / 2 as high + low, root = sqrt(x^2 + 4) as high and low, and 1 / root"""
        a = absolute(x)
        square = a * a
        s = square + four
        share = s - square
        y = reciprocal_root(s)
        s_low = ((square - (s - share)) + (four - share)) + fused(a, a, -square)
        root, halved = s * y, half * y
        root = fused(fused(-root, root, s), halved, root)
        root_low = (fused(-root, root, s) + s_low) * halved
        h = a + root
        return half * h, half * ((a - (h - root)) + root_low), root, root_low, fused(fused(-root, y, one), y, y)

    @compiled
    def reciprocal_parts(high, low):
        r = reciprocal(high)
        r = fused(fused(-low, r, fused(-high, r, one)), r, r)
        return r, r * fused(-low, r, fused(-high, r, one))

    @compiled
    def squareplus(x, b):
        high, low, _, _, _ = squareplus_parts(x)
        r, r_low = reciprocal_parts(high, low)
        return r + r_low if x < zero else high + low

    @compiled
    def squareplus_derivative(x, b):
        high, low, root, root_low, inverse = squareplus_parts(x)
        r, r_low = reciprocal_parts(high, low)
        high, low = (r, r_low) if x < zero else (high, low)
        q = high * inverse
        return fused(fused(-q, root_low, fused(-q, root, high) + low), inverse, q)

    for name, formula in {"squareplus": squareplus, "squareplus_derivative": squareplus_derivative}.items():
        found[name] = formula
        beyond[name] = compiled(lambda x, b: (absolute(x) > farthest) | (b != usual_b))

    # --- Gated functions -----------------------------------------------------------------------------------------

    gated = numba_scalar.gated_formulas(T, machine, exact | found)
    for name, gate in {"glu": "sigmoid", "swiglu": "silu", "geglu": "gelu"}.items():
        beyond[name], beyond[f"{name}_backward"] = beyond_gate(beyond[gate], 1 if name == "glu" else 0)
    return found | {name: gated[name] for name in TABLES if name in gated}, beyond
