"""What the kernels over rows that Numba compiles are made of: the task, the largest element, terms, sums, logarithms.

The formulas and the order of the sums are those of rowwise.pxi.in: terms exp((x - m) / temperature), m being the largest
element, scaled by 2^headroom and summed in lanes.
"""

from __future__ import annotations

import functools
from types import SimpleNamespace

import numpy as np

from . import numba_softmax
from .numba_intrinsics import (
    add_lanes,
    add_up_lanes,
    array_loop,
    as_kernel,
    assign,
    compiled,
    doubles,
    fill,
    machine,
    pointers,
    stack,
)
from .numba_scalar import LOG1P, formulas

# A task: addresses, steps in bytes from row to row, and the temperature, negative where the input is to be negated. MORE rows follow
# that are not for this call.
X, G, Y, X_ROW, G_ROW, Y_ROW, ROWS, N, TEMPERATURE, MORE = range(0, 80, 8)

TERMS = 256  # elements whose terms are summed while they are in the first-level cache
BATCH, BATCH_ELEMENTS = 8, 4096  # rows that go through each step together: of one row alone the steps wait for each other
NEXT_IN_CACHE = 65536  # shorter rows are called to the cache while those before them are worked on
PANEL = 64
SHORT = 48  # shorter rows go through panels
TERMS_BYTES, LANES_BYTES = 8 * TERMS, 8 * 2 * 16
BATCH_BYTES = 8 * BATCH
NOWHERE, NO_TERM = np.int64(0), np.int64(-1)
"""For an address or a distance and the number of a term; for 0 and -1 themselves Numba would compile a function once more."""


@functools.cache
def log1p():
    """log(1 + x) for x >= 0 in float64. 1 ULP."""
    here = machine(np.float64)
    muladd, bits, from_bits = here.muladd, here.bits, here.from_bits
    polynomial = formulas(np.float64, here)["polynomial"](LOG1P)
    exponent_mask, shift, bias = np.int64(0x7FF0000000000000), np.int64(52), np.int64(1023)

    @compiled
    def log1p(x):
        exponent = np.int64(bits(1.0 + x) & exponent_mask)
        power = from_bits(exponent)
        k = np.float64(np.int64(exponent >> shift) - bias)
        f = (x - (power - 1.0)) / power
        half = f / 2.0
        s = f / (2.0 + f)
        q = s * s
        p = f * half - s * muladd(f, half, q * polynomial(q))
        return k * 6.93147180369123816490e-01 + (f - (p - k * 1.90821492927058770002e-10))

    return log1p


@functools.cache
def logarithms(T, count):
    """log1p of so many sums of a row's terms but the largest, in their place; NaN where the largest element is not finite.

    The number is known to LLVM, or else it would make vectors of more rows than a batch has.
    """
    log1p_of = log1p()

    @array_loop
    def replace(rest, m):
        as_kernel()
        for j in range(count):
            rest[j] = log1p_of(rest[j] if m[j] - m[j] == 0 else np.nan)

    return replace


def hand_made(T):
    """Whether there is numba_softmax.py for numbers of that type."""
    return T is np.float32 and numba_softmax.BY_HAND


@compiled
def batch_of(n):
    return max(1, min(BATCH, BATCH_ELEMENTS // n))


@compiled
def ahead_of(n, row, rest):
    """The distance to the rows after a batch of rows, of which there are ``rest`` with this one; 0 if they would not stay in the cache."""
    return batch_of(n) * row if batch_of(n) < rest and n < NEXT_IN_CACHE else 0


@functools.cache
def toolbox(T):
    """What the kernels for one type are made of."""
    single = T is np.float32
    I = np.int32 if single else np.int64  # noqa: E741
    here = machine(T)
    muladd, fused, bits, from_bits = here.muladd, here.fused, here.bits, here.from_bits
    scalar = formulas(T, here)
    lanes, headroom = (16, 64) if single else (8, 500)
    scaling, unscaling = T(2.0**headroom), 2.0**-headroom
    dominant = 2.0**-22 if single else 2.0**-40
    zero, one = T(0), T(1)
    minus_infinity = T(-np.inf)
    size = np.dtype(T).itemsize
    smallest, order = np.iinfo(I).min, I(np.iinfo(I).max)
    sign_shift = I(31 if single else 63)

    @compiled
    def ordered(i):
        """Bits as an integer that is the larger the larger the number is, and back; NaN lies beyond the infinities."""
        return I(i ^ I(I(i >> sign_shift) & order))

    row = pointers(T)
    if hand_made(T):
        largest_by_hand, scale_by_hand = numba_softmax.largest, numba_softmax.scale

        @array_loop
        def largest(x, n, sign):
            """The largest of n elements times the sign, from the address x on; NaN or else any other where one is NaN."""
            return largest_by_hand(x, n, sign)

        @array_loop
        def scale_by(y, n, f, f_low):
            scale_by_hand(y, y, n, f, f_low)

    else:

        @array_loop
        def largest(x, n, sign):
            as_kernel()
            m, values = I(smallest), row(x)
            for i in range(n):
                k = ordered(bits(values[i] * sign))
                m = k if k > m else m
            return from_bits(ordered(m))

        @array_loop
        def scale_by(y, n, f, f_low):
            as_kernel()
            values = row(y)
            for i in range(n):
                values[i] = fused(values[i], f, values[i] * f_low)

    @compiled
    def add_up(totals):
        """The sum of the lanes, and what rounding took from it."""
        return add_up_lanes(T, totals)

    @compiled
    def clear(totals):
        fill(doubles(totals), 0.0, 2 * lanes)

    @compiled
    def add_all(x, n, totals):
        """Add n numbers, which need not fill the lanes."""
        add_lanes(T, x, n & -lanes, totals)
        rest = n & (lanes - 1)
        if rest:
            padded = stack(LANES_BYTES)
            fill(row(padded), zero, lanes)
            assign(row(padded), row(x + (n - rest) * size), rest)
            add_lanes(T, padded, lanes, totals)

    def blockwise_sum(element):
        """A function that sums element(a[i], b[i], p) in lanes: the sum, and what rounding took from it."""

        @array_loop
        def elements(a, b, to, n, p):
            as_kernel()
            for i in range(n):
                to[i] = element(a[i], b[i], p)

        @array_loop
        def sum_of(a, b, n, p):
            block, totals = stack(TERMS_BYTES), stack(LANES_BYTES)
            clear(totals)
            for i in range(0, n, TERMS):
                count = min(n - i, TERMS)
                elements(row(a + i * size), row(b + i * size), row(block), count, p)
                add_all(block, count, totals)
            return add_up(totals)

        return sum_of

    @compiled
    def rest_of(total, low):
        """What remains of a sum without the largest term, which is 1; -1 if too little of it remains to be exact."""
        rest = (total * unscaling - 1.0) + low * unscaling
        return -1.0 if rest < dominant else rest

    @compiled
    def find(x, n, value, sign):
        """The first position of value, 0 if it is nowhere."""
        values = row(x)
        for i in range(n):
            if values[i] * sign == value:
                return i
        return 0

    sum_kept = blockwise_sum(compiled(lambda a, b, p: a))

    @compiled
    def low_part(factor):
        """What the conversion to T takes from it."""
        high = T(factor)
        return T(factor - high) if high - high == zero else zero

    @compiled
    def quotient(dividend, divisor, divisor_low):
        """dividend / (divisor + divisor_low) as two numbers."""
        if single:
            q = dividend / (divisor + divisor_low)
            return T(q), low_part(q)
        q = 1.0 / divisor
        return T(q * dividend), T(-(fused(q, divisor, -1.0) + q * divisor_low) * q * dividend)

    return SimpleNamespace(**{name: value for name, value in locals().items() if name != "T"})


@functools.cache
def term_steps(T, tempered):
    """Terms and their sums. Unless ``tempered``, the temperature is 1 or -1, and what another one needs is not compiled."""
    t = toolbox(T)
    muladd, fused, row, size, zero, one, minus_infinity, scaling, unscaling = (
        t.muladd, t.fused, t.row, t.size, t.zero, t.one, t.minus_infinity, t.scaling, t.unscaling)  # fmt: skip
    exp_polynomial, power_of_two, clear, add_up, find, rest_of, sum_kept = (
        t.scalar["exp_polynomial"], t.scalar["power_of_two"], t.clear, t.add_up, t.find, t.rest_of, t.sum_kept)  # fmt: skip
    single = T is np.float32
    by_hand = single and numba_softmax.BY_HAND and not tempered
    log2e, log2_high, log2_low = (T(c) for c in (1.4426950408889634, 0.693145751953125, 1.428606820309417e-06))
    if not single:
        log2_high, log2_low = 6.93147180369123816490e-01, 1.90821492927058770002e-10
    rounding = 12582912 + 127 if single else 6755399441055744 + 1023
    shift, floor = T(rounding + t.headroom), T(-130 if single else -1040)

    @compiled
    def exp(z, z_low):
        """exp(z + z_low) 2^headroom for z <= 0; 0 where it is beyond T. 1 ULP."""
        t = muladd(z, log2e, shift)
        n = t - shift
        r = muladd(n, -log2_high, z) + muladd(n, -log2_low, z_low)
        power = power_of_two(t)
        power = muladd(muladd(r * r, exp_polynomial(r), r), power, power)
        return zero if z < floor else power

    @compiled
    def difference(x, m):
        """x - m, and what rounding took from it, which exp would else multiply by |x - m|."""
        d = x - m
        return d, (-m if x < -m else x) - (d - (x if x < -m else -m))

    if tempered:
        # As rowwise.pxi.in has them.
        coldest, hottest = (2.94e-39, 7e44) if single else (5.6e-309, 1.7e308)

        @compiled
        def term(x, m, scale, scale_low):
            d, low = difference(x, m)
            z = d * scale
            return exp(z, muladd(low, scale, muladd(d, scale_low, fused(d, scale, -z))))

        @compiled
        def scale_of(temperature):
            """1 / |temperature| as high and low, and the sign."""
            sign = -one if temperature < 0.0 else one
            temperature = min(max(abs(temperature), coldest), hottest)
            high = T(1.0 / temperature)
            low = T(1.0 / temperature - np.float64(high)) if single else -fused(high, T(temperature), -one) / T(temperature)
            return high, low, sign

    else:

        @compiled
        def term(x, m, scale, scale_low):
            d, low = difference(x, m)
            return exp(d, low)

        scale_of = compiled(lambda temperature: (one, zero, -one if temperature < 0.0 else one))

    @array_loop
    def terms(x, e, n, m, sign, scale, scale_low):
        as_kernel()
        for i in range(n):
            e[i] = term(x[i] * sign, m, scale, scale_low)

    if by_hand:
        add_terms, sum_by_hand = numba_softmax.add_terms, numba_softmax.sum_of_terms

        @array_loop
        def sum_of_terms(x, e, n, m, skip, sign, scale, scale_low, ahead):
            """The sum without term number skip, -1 for none, and what rounding took from it; x and e are addresses.

            The terms are kept in e unless that is 0; e may be x. ahead: the distance in bytes to memory that is needed next, or 0.
            By hand nothing is kept if a term is skipped, and the sign is 1.
            """
            if skip < 0:
                return sum_by_hand(x, e, n, m, ahead), 0.0
            copy, totals = stack(TERMS_BYTES), stack(LANES_BYTES)
            clear(totals)
            for i in range(0, n, TERMS):
                count = min(n - i, TERMS)
                assign(row(copy), row(x + i * size), count)
                if i <= skip < i + count:
                    row(copy)[skip - i] = minus_infinity
                add_terms(copy, NOWHERE, count, m, totals)
            return add_up(totals)

    else:

        @array_loop
        def sum_of_terms(x, e, n, m, skip, sign, scale, scale_low, ahead):
            copy, block, totals = stack(TERMS_BYTES), stack(TERMS_BYTES), stack(LANES_BYTES)
            clear(totals)
            for i in range(0, n, TERMS):
                count = min(n - i, TERMS)
                source = x + i * size
                padded = (count + PANEL - 1) // PANEL * PANEL
                target = block if e == 0 or padded > count else e + i * size
                if padded > count:  # whole vectors: what LLVM makes of a loop's rest is slow
                    values, all_values = row(source), row(copy)
                    for j in range(count):
                        all_values[j] = values[j]
                    for j in range(count, padded):
                        all_values[j] = minus_infinity * sign
                    source = copy
                terms(row(source), row(target), padded, m, sign, scale, scale_low)
                if i <= skip < i + count:
                    row(target)[skip - i] = zero
                for j in range(count, padded):  # NaN where m is infinite
                    row(target)[j] = zero
                add_lanes(T, target, padded, totals)
                if e != 0 and padded > count:
                    kept, values = row(e + i * size), row(target)
                    for j in range(count):
                        kept[j] = values[j]
            return add_up(totals)

    @array_loop
    def sum_of_others(x, e, n, m, scale, scale_low, ahead):
        """The sum of all terms but the largest, which is 1; the terms are kept in e unless it is 0."""
        total, low = sum_of_terms(x, e, n, m, NO_TERM, one, scale, scale_low, ahead)
        rest = rest_of(total, low)
        if rest < 0.0:
            if e == 0:
                total, low = sum_of_terms(x, NOWHERE, n, m, find(x, n, m, one), one, scale, scale_low, NOWHERE)
            else:
                peak = find(e, n, scaling, one)
                kept = row(e)
                kept[peak] = zero
                total, low = sum_kept(e, e, n, zero)
                kept[peak] = scaling
            rest = total * unscaling
        return rest

    return SimpleNamespace(by_hand=by_hand, term=term, scale_of=scale_of, sum_of_terms=sum_of_terms, sum_of_others=sum_of_others)
