"""The terms of softmax.h once more, for Numba: the same formulas under the same names, and the same bits."""

from __future__ import annotations

import math
import re
from pathlib import Path

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .numba_intrinsics import WORD, halves, has, pointer, prefetch
from .numba_vectors import FLOATS, INT, INTS, LANES, Floats, absolute, chosen, looked_up, minus_times, times_plus

BY_HAND = has("avx512f")
MAGIC, HEADROOM, LOG2E, REACH, NEAR, LONG = 1.5 * 2.0**19, 64, 1.44269504, 208, 26, 256
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
        """... and what rounding took from it."""
        z = x - self.base
        t = times_plus(z, LOG2E, self.shift)
        power, missing = power_and_missing(t.bits())
        p = growth(reduced(z, t - self.shift), missing)
        y = times_plus(p, power, power)
        none = x.builder.fcmp_ordered("<", x.value, self.floor.value)
        return chosen(none, 0.0, y), chosen(none, 0.0, times_plus(p, power, power - y))

    def for_row(self):
        """term(x) where m is the same in all of its vectors: the sixteen powers are made once."""
        builder = self.rest.builder
        tables = (Floats(builder, Floats.constant(row_of_table(name))) for name in TABLES)
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


def _constant(builder, number):
    return Floats(builder, ir.Constant(FLOATS, [number] * LANES))


def _spread(builder, number):
    undefined = ir.Constant(FLOATS, ir.Undefined)
    first = builder.insert_element(undefined, number, ir.Constant(INT, 0))
    return Floats(builder, builder.shuffle_vector(first, undefined, integers(0)))


def _loaded(builder, address, kind=FLOATS, align=4):
    value = builder.load(pointer(builder, address, kind))
    value.align = align
    return value


def _masked(builder, name, *args):
    """LLVM's load or store of some elements of a vector."""
    result = args[-1].type if name == "load" else ir.VoidType()
    kind = ir.FunctionType(result, [argument.type for argument in args])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.masked.{name}.v{LANES}f32.p0"), args)


class Last:
    """What the last vector of n elements has that the one before it has not, as last_of in softmax.h has it."""

    def __init__(self, builder, n):
        bits = ir.IntType(LANES)
        self.builder, self.rest = builder, builder.and_(n, WORD(LANES - 1))
        rest = builder.trunc(self.rest, bits)
        alone = builder.icmp_unsigned("<", builder.and_(n, WORD(255)), WORD(LANES))
        self.start = builder.sub(n, builder.select(alone, self.rest, WORD(LANES)))
        few = builder.sub(builder.shl(bits(1), rest), bits(1))
        masks = builder.select(alone, few, bits(-1)), builder.select(alone, few, builder.not_(builder.lshr(bits(-1), rest)))
        self.loaded, self.counted = (builder.bitcast(mask, ir.VectorType(ir.IntType(1), LANES)) for mask in masks)

    def load(self, address):
        place = pointer(self.builder, address, FLOATS)
        return Floats(self.builder, _masked(self.builder, "load", place, INT(4), self.loaded, ir.Constant(FLOATS, [0.0] * LANES)))

    def store(self, y, address):
        _masked(self.builder, "store", y.value, pointer(self.builder, address, FLOATS), INT(4), self.loaded)

    def of_counted(self, y, others):
        return chosen(self.counted, y, others)


def _over(builder, n, sources, body, ahead=None):
    """body(vectors, offset, last) for each vector of n elements, ``last`` being None for whole ones.

    The last one is loaded first: it may share elements with that before it, and results may go to where the sources are.
    ``ahead`` is the distance in bytes to what is called to the cache.
    """
    last = Last(builder, n)
    start = builder.shl(last.start, WORD(2))
    shared = [last.load(builder.add(source, start)) for source in sources]
    with cgutils.for_range_slice(builder, WORD(0), builder.sub(n, last.rest), WORD(LANES), WORD) as (index, _):
        offset = builder.shl(index, WORD(2))
        places = [builder.add(source, offset) for source in sources]
        for place in places if ahead else []:
            prefetch(builder, builder.add(place, ahead))
        body([Floats(builder, _loaded(builder, place)) for place in places], offset, None)
    with builder.if_then(builder.icmp_signed("!=", last.rest, WORD(0))):
        body(shared, start, last)


class _Lanes:
    """The lanes of a sum, which begin as two vectors."""

    def __init__(self, builder, begin):
        self.builder = builder
        self.memory = [cgutils.alloca_once_value(builder, vector) for vector in begin]

    def add(self, y, last):
        y = (last.of_counted(y, 0.0) if last else y).value
        for k, memory in enumerate(self.memory):
            part = self.builder.shuffle_vector(y, y, ir.Constant(ir.VectorType(INT, HALF), [*range(HALF * k, HALF * (k + 1))]))
            self.builder.store(self.builder.fadd(self.builder.load(memory), self.builder.fpext(part, DOUBLES)), memory)

    def vectors(self):
        return [self.builder.load(memory) for memory in self.memory]

    def sum(self):
        """As add_up_lanes has it."""
        total = self.builder.fadd(*self.vectors())
        while total.type.count > 1:
            total = self.builder.fadd(*halves(self.builder, total))
        return self.builder.extract_element(total, ir.Constant(INT, 0))


class _FloatSum:
    """The sum of the terms of a long row: 1 more, and what rounding took from it."""

    def __init__(self, builder):
        self.one = _constant(builder, 2.0**HEADROOM)
        self.memory = [cgutils.alloca_once_value(builder, vector) for vector in (self.one.value, self.one.of(0.0))]

    def vectors(self):
        return [self.one.made(self.one.builder.load(memory)) for memory in self.memory]

    def add(self, y, last):
        y = last.of_counted(y, 0.0) if last else y
        before, rest = self.vectors()
        after = before + y
        for vector, memory in zip((after, rest + (y - (after - before))), self.memory):
            y.builder.store(vector.value, memory)

    def sum(self):
        after, rest = self.vectors()
        lanes = _Lanes(rest.builder, NOTHING)
        lanes.add(after - self.one, None)
        lanes.add(rest, None)
        return lanes.sum()


def _stored(builder, y, address, offset, last=None):
    place = builder.add(address, offset)
    if last:
        last.store(y, place)
    else:
        builder.store(y.value, pointer(builder, place, FLOATS), align=4)


def _add_terms(builder, x, e, n, m, ahead, lanes):
    """The terms of n elements whose largest is m, kept in e unless that is 0 and added to lanes; e may be x."""
    term = Origin(_spread(builder, m)).for_row()

    def body(vectors, offset, last):
        y, _ = term(*vectors)
        with builder.if_then(builder.icmp_signed("!=", e, WORD(0))):
            _stored(builder, y, e, offset, last)
        lanes.add(y, last)

    _over(builder, n, [x], body, ahead)


@intrinsic
def add_terms(typing, x, e, n, m, totals):
    """... to those in memory."""

    def generate(context, builder, signature, args):
        places = [builder.add(args[-1], WORD(8 * HALF * k)) for k in range(2)]
        lanes = _Lanes(builder, [_loaded(builder, place, DOUBLES, 8) for place in places])
        _add_terms(builder, *args[:-1], WORD(0), lanes)
        for place, vector in zip(places, lanes.vectors()):
            builder.store(vector, pointer(builder, place, DOUBLES), align=8)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, types.intp, types.float32, types.intp), generate


NOTHING = [ir.Constant(DOUBLES, [0.0] * HALF)] * 2


def summing_terms(lanes_in):
    """... and these added up; ahead: the distance in bytes to what is needed next."""

    @intrinsic
    def sum_of_terms(typing, x, e, n, m, ahead):
        def generate(context, builder, signature, args):
            lanes = lanes_in(builder)
            _add_terms(builder, *args, lanes)
            return lanes.sum()

        return types.float64(types.intp, types.intp, types.intp, types.float32, types.intp), generate

    return sum_of_terms


sum_of_terms = summing_terms(lambda builder: _Lanes(builder, NOTHING))
sum_of_long_terms = summing_terms(_FloatSum)


def _any(builder, mask):
    return builder.icmp_unsigned("!=", builder.bitcast(mask, ir.IntType(LANES)), ir.Constant(ir.IntType(LANES), 0))


@intrinsic
def sum_of_near_terms(typing, x, e, n, ahead):
    """The terms of n elements from 0 as the largest, kept in e, and their sum; -1 if the largest is not that near to 0."""

    def generate(context, builder, signature, args):
        x, e, n, ahead = args
        term, lanes = Origin(_constant(builder, 0.0)).for_row(), _Lanes(builder, NOTHING)
        start = _constant(builder, -math.inf), _constant(builder, 0.0)
        memory = [cgutils.alloca_once_value(builder, vector.value) for vector in start]

        def body(vectors, offset, last):
            (x,) = vectors
            y, lost = term(x)
            _stored(builder, y, e, offset, last)
            lanes.add(y, last)
            if last:
                x, lost = last.of_counted(x, -math.inf), last.of_counted(lost, 0.0)
            peak, total = (x.made(builder.load(place)) for place in memory)
            builder.store(chosen(builder.fcmp_ordered(">", x.value, peak.value), x, peak).value, memory[0])
            builder.store((total + lost).value, memory[1])

        _over(builder, n, [x], body, ahead)
        peak, lost = (Floats(builder, builder.load(place)) for place in memory)
        lanes.add(lost, None)
        beyond = _any(builder, builder.fcmp_ordered(">", peak.value, peak.of(NEAR)))
        near = builder.and_(builder.not_(beyond), _any(builder, builder.fcmp_ordered(">=", peak.value, peak.of(-NEAR))))
        return builder.select(near, lanes.sum(), ir.Constant(ir.DoubleType(), -1.0))

    return types.float64(*[types.intp] * 4), generate


@intrinsic
def largest(typing, x, n, sign):
    """Of n elements times sign those that are not NaN; -inf if there are none."""

    def generate(context, builder, signature, args):
        x, n, sign = args
        sign = _spread(builder, sign)
        memory = cgutils.alloca_once_value(builder, sign.of(-math.inf))

        def body(vectors, offset, last):
            x = vectors[0] * sign
            x = last.of_counted(x, -math.inf) if last else x
            peak = x.made(builder.load(memory))
            builder.store(chosen(builder.fcmp_ordered(">", x.value, peak.value), x, peak).value, memory)

        _over(builder, n, [x], body)
        peak = builder.load(memory)
        while peak.type.count > 1:
            a, b = halves(builder, peak)
            peak = builder.select(builder.fcmp_ordered(">", a, b), a, b)
        return builder.extract_element(peak, ir.Constant(INT, 0))

    return types.float32(types.intp, types.intp, types.float32), generate


def summing(combine):
    """The sum of combine(u, v) of n elements of two arrays."""

    @intrinsic
    def sum_of(typing, a, b, n):
        def generate(context, builder, signature, args):
            lanes = _Lanes(builder, NOTHING)
            _over(builder, args[2], args[:2], lambda vectors, offset, last: lanes.add(combine(*vectors), last))
            return lanes.sum()

        return types.float64(*[types.intp] * 3), generate

    return sum_of


def is_out(x):
    return x.builder.fcmp_ordered("==", x.value, x.of(-math.inf))


sum_of_products = summing(lambda a, b: a * b)
sum_where_finite = summing(lambda g, x: chosen(is_out(x), 0.0, g))


def with_numbers(combine, fetching=False):
    """How to make combine(*vectors, a, b) of n elements of some arrays, for two numbers, which goes to y; that may be one of the arrays.

    ``fetching`` takes another argument: what is so many bytes ahead of them is called to the cache.
    """

    def generate(context, builder, signature, args):
        (*sources, y, n, a, b), ahead = (args[:-1], args[-1]) if fetching else (args, None)
        a, b = _spread(builder, a), _spread(builder, b)
        _over(builder, n, sources, lambda vectors, offset, last: _stored(builder, combine(*vectors, a, b), y, offset, last), ahead)
        return context.get_dummy_value()

    return generate


FROM_ONE = types.void(*[types.intp] * 3, types.float32, types.float32)
FROM_TWO = types.void(*[types.intp] * 4, types.float32, types.float32, types.intp)


@intrinsic
def scale(typing, e, y, n, f, f_low):
    return FROM_ONE, with_numbers(lambda e, f, f_low: times_plus(e, f, e * f_low))


@intrinsic
def shift(typing, x, y, n, m, log_total):
    return FROM_ONE, with_numbers(lambda x, m, log_total: x - m - log_total)


@intrinsic
def softmax_gradient(typing, p, g, y, n, inner, factor, ahead):
    return FROM_TWO, with_numbers(lambda p, g, inner, factor: p * (g - inner) * factor, fetching=True)


@intrinsic
def log_gradient(typing, x, g, y, n, total, factor, ahead):
    """(g - exp(x) total) factor, 0 where x is -inf; for |total| < 1e15."""

    def combine(x, g, total, factor):
        term, _ = Origin(_constant(x.builder, 0.0)).for_row()(x)
        return chosen(is_out(x), 0.0, minus_times(term * total, 2.0**-HEADROOM, g) * factor)

    return FROM_TWO, with_numbers(combine, fetching=True)


@intrinsic
def find_terms(typing, values, m, n, width, lost):
    """The terms of n times width elements, the largest of each column being in m, in their place; width counts whole vectors.

    Unless ``lost`` is 0, columns that are near 0 have 0 for the largest, and what rounding took from them goes there.
    """

    def generate(context, builder, signature, args):
        values, m, n, width, lost = args
        step, stop = builder.shl(width, WORD(2)), builder.shl(builder.mul(n, width), WORD(2))
        wanted = builder.icmp_signed("!=", lost, WORD(0))
        with cgutils.for_range_slice(builder, WORD(0), step, WORD(4 * LANES), WORD) as (column, _):
            peak = Floats(builder, _loaded(builder, builder.add(m, column)))
            end = builder.select(wanted, peak.of(NEAR), peak.of(-1.0))
            near = builder.fcmp_ordered("<=", absolute(peak).value, end)
            origin = Origin(chosen(near, 0.0, peak))
            total = cgutils.alloca_once(builder, FLOATS)
            builder.store(peak.of(0.0), total)
            with cgutils.for_range_slice(builder, column, stop, step, WORD) as (offset, _):
                y, taken = origin.term_of_columns(Floats(builder, _loaded(builder, builder.add(values, offset))))
                _stored(builder, y, values, offset)
                builder.store((taken + peak.made(builder.load(total))).value, total)
            with builder.if_then(wanted):
                _stored(builder, chosen(near, peak.made(builder.load(total)), 0.0), lost, column)
        return context.get_dummy_value()

    return types.void(*[types.intp] * 5), generate
