"""The terms of softmax.h once more, for Numba: the same formulas under the same names, and the same bits."""

from __future__ import annotations

import contextlib
import math
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


def _over(builder, n, sources, body):
    """body(vectors, offset, counted) for each vector of n >= 16 elements; the last one overlaps that before it.

    ``counted`` tells which of the last one's elements are new, None of the others. It is loaded first, since results may go to
    where the sources are.
    """
    rest = builder.and_(n, WORD(LANES - 1))

    def vectors(offset):
        return [Floats(builder, _loaded(builder, builder.add(source, offset))) for source in sources]

    overlapping = builder.shl(builder.sub(n, WORD(LANES)), WORD(2))
    last = vectors(overlapping)
    with cgutils.for_range_slice(builder, WORD(0), builder.sub(n, rest), WORD(LANES), WORD) as (index, _):
        offset = builder.shl(index, WORD(2))
        body(vectors(offset), offset, None)
    with builder.if_then(builder.icmp_signed("!=", rest, WORD(0))):
        undefined = ir.Constant(INTS, ir.Undefined)
        first = builder.insert_element(undefined, builder.trunc(builder.sub(WORD(LANES), rest), INT), ir.Constant(INT, 0))
        first = builder.shuffle_vector(first, undefined, integers(0))
        body(last, overlapping, builder.icmp_signed(">=", integers(*range(LANES)), first))


@contextlib.contextmanager
def _lanes(builder, totals):
    """add(y, counted), which adds a vector's elements to the lanes of a sum."""
    places = [builder.add(totals, WORD(8 * HALF * k)) for k in range(2)]
    sums = [cgutils.alloca_once_value(builder, _loaded(builder, place, DOUBLES, 8)) for place in places]

    def add(y, counted):
        y = (y if counted is None else chosen(counted, y, 0.0)).value
        for k, memory in enumerate(sums):
            part = builder.shuffle_vector(y, y, ir.Constant(ir.VectorType(INT, HALF), [*range(HALF * k, HALF * (k + 1))]))
            builder.store(builder.fadd(builder.load(memory), builder.fpext(part, DOUBLES)), memory)

    yield add
    for place, memory in zip(places, sums):
        builder.store(builder.load(memory), pointer(builder, place, DOUBLES), align=8)


def _stored(builder, y, address, offset):
    builder.store(y.value, pointer(builder, builder.add(address, offset), FLOATS), align=4)


@intrinsic
def add_terms(typing, x, e, n, m, totals):
    """The terms of n >= 16 elements whose largest is m, kept in e unless that is 0 and added to the lanes of a sum; e may be x."""

    def generate(context, builder, signature, args):
        x, e, n, m, totals = args
        term = Origin(_spread(builder, m)).for_row()
        with _lanes(builder, totals) as add:

            def body(vectors, offset, counted):
                y = term(*vectors)
                with builder.if_then(builder.icmp_signed("!=", e, WORD(0))):
                    _stored(builder, y, e, offset)
                add(y, counted)

            _over(builder, n, [x], body)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, types.intp, types.float32, types.intp), generate


def adding(combine):
    """Adds combine(u, v) of n >= 16 elements of two arrays to the lanes of a sum."""

    @intrinsic
    def add(typing, a, b, n, totals):
        def generate(context, builder, signature, args):
            with _lanes(builder, args[3]) as add_to_lanes:
                _over(builder, args[2], args[:2], lambda vectors, offset, counted: add_to_lanes(combine(*vectors), counted))
            return context.get_dummy_value()

        return types.void(*[types.intp] * 4), generate

    return add


def is_out(x):
    return x.builder.fcmp_ordered("==", x.value, x.of(-math.inf))


add_products = adding(lambda a, b: a * b)
add_where_finite = adding(lambda g, x: chosen(is_out(x), 0.0, g))


@intrinsic
def log_gradient(typing, x, g, y, n, total, factor):
    """y = (g - exp(x) total) factor, 0 where x is -inf, of n >= 16 elements; for |total| < 1e15. y may be x or g."""

    def generate(context, builder, signature, args):
        x, g, y, n, total, factor = args
        total, factor = _spread(builder, total), _spread(builder, factor)
        term = Origin(Floats(builder, ir.Constant(FLOATS, [0.0] * LANES))).for_row()

        def body(vectors, offset, counted):
            x, g = vectors
            result = minus_times(term(x) * total, 2.0**-HEADROOM, g) * factor
            _stored(builder, chosen(is_out(x), 0.0, result), y, offset)

        _over(builder, n, [x, g], body)
        return context.get_dummy_value()

    return types.void(*[types.intp] * 4, types.float32, types.float32), generate


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
                _stored(builder, y, values, offset)
        return context.get_dummy_value()

    return types.void(*[types.intp] * 4), generate
