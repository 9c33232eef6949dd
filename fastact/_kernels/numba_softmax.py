"""The terms of softmax.h once more, for Numba: the same formulas under the same names, and the same bits."""

from __future__ import annotations

import re
from pathlib import Path

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .numba_avx512 import FLOATS, INT, INTS, LANES, Floats, absolute, chosen, looked_up, minus_times, single, times_plus
from .numba_intrinsics import WORD, has, pointer

BY_HAND = has("avx512f")
MAGIC, HEADROOM, LOG2E, REACH = 1.5 * 2.0**19, 64, 1.44269504, 208
TABLES = "sixteenths", "sixteenths_low"
HALF = LANES // 2
DOUBLES = ir.VectorType(ir.DoubleType(), HALF)


def row_of_table(name):
    text = (Path(__file__).parent / "softmax.h").read_text()
    (numbers,) = re.findall(rf"\b{name}\[16\].*? = {{(.*?)}};", text, re.S)
    return [float.fromhex(n) if "x" in n else float(n) for n in numbers.replace("f,", ",").rstrip("f").split(",")]


def integers(*values):
    return ir.Constant(INTS, [*values] * (LANES // len(values)))


def reduced(z, n):
    return minus_times(n, 1.428606820309417e-06, minus_times(n, 0.693145751953125, z))


def growth(r, low):
    """exp(r) - 1, plus low"""
    return times_plus(r, times_plus(r, times_plus(r, 0.16666667, 0.5000162), 1), low)


class Origin:
    """What the terms of a row need to know of its largest element m, or those of 16 columns of theirs."""

    def __init__(self, m):
        far = absolute(m)
        self.base = chosen(far.builder.fcmp_ordered(">", far.value, far.of(REACH)), m, 0.0)
        z = m - self.base
        n = times_plus(z, LOG2E, MAGIC) - MAGIC
        self.shift = (MAGIC + HEADROOM) - n
        self.rest = growth(0 - reduced(z, n), 0.0)
        self.floor = m - 130

    def power(self, power, low):
        """A sixteenth power times exp(-r_m), and what rounding took from it, as a share."""
        high = times_plus(power, self.rest, power)
        error = times_plus(power, self.rest, power - high)
        return high, times_plus(error, minus_times(high, 0.5, 1.457), low)

    def term(self, x, power_and_missing):
        z = x - self.base
        t = times_plus(z, LOG2E, self.shift)
        power, missing = power_and_missing(t.bits())
        y = times_plus(growth(reduced(z, t - self.shift), missing), power, power)
        return chosen(x.builder.fcmp_ordered("<", x.value, self.floor.value), 0.0, y)

    def for_row(self):
        """term(x) where m is the same in all of its vectors: the sixteen powers are made once."""
        builder = self.rest.builder
        tables = (Floats(builder, ir.Constant(FLOATS, [single(v) for v in row_of_table(name)])) for name in TABLES)
        high, missing = self.power(*tables)
        # Less what their places add, when the bits of t are shifted to where the exponent is.
        powers = builder.sub(high.bits(), integers(*(k << 19 for k in range(LANES))))

        def power_and_missing(bits):
            power = high.call("llvm.x86.avx512.permvar.si.512", INTS, powers, bits).value
            power = builder.bitcast(builder.add(power, builder.shl(bits, integers(19))), FLOATS)
            return high.made(power), high.call("llvm.x86.avx512.permvar.sf.512", FLOATS, missing.value, bits)

        return lambda x: self.term(x, power_and_missing)

    def term_of_columns(self, x):
        builder = x.builder

        def power_and_missing(bits):
            high, missing = self.power(*(looked_up(x, row_of_table(name), bits) for name in TABLES))
            power = builder.add(high.bits(), builder.shl(builder.and_(bits, integers(-16)), integers(19)))
            return x.made(builder.bitcast(power, FLOATS)), missing

        return self.term(x, power_and_missing)


# --- Loops ------------------------------------------------------------------------------------------------------------


def _spread(builder, number):
    undefined = ir.Constant(FLOATS, ir.Undefined)
    first = builder.insert_element(undefined, number, ir.Constant(INT, 0))
    return Floats(builder, builder.shuffle_vector(first, undefined, integers(0)))


def _loaded(builder, address, kind=FLOATS, align=4):
    value = builder.load(pointer(builder, address, kind))
    value.align = align
    return value


def _add_to_lanes(builder, y, sums):
    for k, memory in enumerate(sums):
        part = builder.shuffle_vector(y, y, ir.Constant(ir.VectorType(INT, HALF), [*range(HALF * k, HALF * (k + 1))]))
        builder.store(builder.fadd(builder.load(memory), builder.fpext(part, DOUBLES)), memory)


@intrinsic
def add_terms(typing, x, e, n, m, totals):
    """The terms of n >= 16 elements whose largest is m, kept in e unless that is 0 and added to the lanes of a sum; e may be x."""

    def generate(context, builder, signature, args):
        x, e, n, m, totals = args
        origin = Origin(_spread(builder, m))
        term = origin.for_row()
        places = [builder.add(totals, WORD(8 * HALF * k)) for k in range(2)]
        sums = [cgutils.alloca_once_value(builder, _loaded(builder, place, DOUBLES, 8)) for place in places]
        rest = builder.and_(n, WORD(LANES - 1))
        # In place, what the last vector shares with the one before it is loaded first.
        before_last = builder.shl(builder.sub(n, WORD(LANES)), WORD(2))
        x_last = Floats(builder, _loaded(builder, builder.add(x, before_last)))

        def step(value, offset, counted=None):
            y = term(value)
            with builder.if_then(builder.icmp_signed("!=", e, WORD(0))):
                builder.store(y.value, pointer(builder, builder.add(e, offset), FLOATS), align=4)
            _add_to_lanes(builder, (y if counted is None else chosen(counted, y, 0.0)).value, sums)

        with cgutils.for_range_slice(builder, WORD(0), builder.sub(n, rest), WORD(LANES), WORD) as (index, _):
            offset = builder.shl(index, WORD(2))
            step(Floats(builder, _loaded(builder, builder.add(x, offset))), offset)
        with builder.if_then(builder.icmp_signed("!=", rest, WORD(0))):
            first = builder.trunc(builder.sub(WORD(LANES), rest), INT)
            undefined = ir.Constant(INTS, ir.Undefined)
            first = builder.shuffle_vector(builder.insert_element(undefined, first, ir.Constant(INT, 0)), undefined, integers(0))
            step(x_last, before_last, builder.icmp_signed(">=", integers(*range(LANES)), first))
        for place, memory in zip(places, sums):
            builder.store(builder.load(memory), pointer(builder, place, DOUBLES), align=8)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, types.intp, types.float32, types.intp), generate


@intrinsic
def find_terms(typing, values, m, n, width):
    """The terms of n times width elements, the largest of each column being in m, in their place; width counts whole vectors."""

    def generate(context, builder, signature, args):
        values, m, n, width = args
        step, stop = builder.shl(width, WORD(2)), builder.shl(builder.mul(n, width), WORD(2))
        with cgutils.for_range_slice(builder, WORD(0), step, WORD(4 * LANES), WORD) as (column, _):
            origin = Origin(Floats(builder, _loaded(builder, builder.add(m, column))))
            with cgutils.for_range_slice(builder, column, stop, step, WORD) as (offset, _):
                place = builder.add(values, offset)
                y = origin.term_of_columns(Floats(builder, _loaded(builder, place)))
                builder.store(y.value, pointer(builder, place, FLOATS), align=4)
        return context.get_dummy_value()

    return types.void(*[types.intp] * 4), generate
