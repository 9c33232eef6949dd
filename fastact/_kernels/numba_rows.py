"""The kernels over rows that Numba compiles: softmax and its relatives, and what they share with the losses.

The formulas and the order of the sums are those of rowwise.pxi.in: terms exp((x - m) / temperature), m being the largest
element, scaled by 2^headroom and summed in lanes.

A kernel takes the address of a task: rows of contiguous numbers. For short rows there is another that turns a panel of
rows into columns and works on these side by side; a row's length alone decides, so it has the same bits everywhere.
"""

from __future__ import annotations

import functools
from types import SimpleNamespace

import numba
import numpy as np
from numba import carray, types

from . import numba_softmax
from .numba_intrinsics import add_lanes, add_up_lanes, array_loop, as_kernel, at, compiled, load, machine, stack, store
from .numba_scalar import LOG1P, formulas

# A task: addresses, steps in bytes from row to row, and the temperature, negative where the input is to be negated.
X, G, Y, X_ROW, G_ROW, Y_ROW, ROWS, N, TEMPERATURE = range(0, 72, 8)
G_ONE, G_ROWS = 1, 2

TERMS = 256  # elements whose terms are summed while they are in the first-level cache
BATCH, BATCH_ELEMENTS = 8, 1024  # rows that go through each step together: of one row alone the steps wait for each other
PANEL = 64
SHORT = 48  # shorter rows go through panels
TERMS_BYTES, LANES_BYTES = 8 * TERMS, 8 * 2 * 16
BATCH_BYTES = 8 * BATCH
PANEL_BYTES, PANEL_SUMS_BYTES = 8 * PANEL * SHORT, 8 * PANEL * 16 * 2


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
def logarithms(T):
    """log1p of each of the sums of a row's terms but the largest, in their place; NaN where the largest element is not finite."""
    log1p_of = log1p()

    @array_loop
    def replace(rest, m):
        as_kernel()
        for j in range(len(rest)):
            rest[j] = log1p_of(rest[j]) if m[j] - m[j] == 0 else np.nan

    return replace


def hand_made(T):
    """Whether there is numba_softmax.py for numbers of that type."""
    return T is np.float32 and numba_softmax.BY_HAND


@compiled
def batch_of(n):
    return max(1, min(BATCH, BATCH_ELEMENTS // n))


@functools.cache
def toolbox(T):
    """What the kernels for one type are made of."""
    single = T is np.float32
    I = np.int32 if single else np.int64  # noqa: E741
    here = machine(T)
    muladd, fused, bits, from_bits = here.muladd, here.fused, here.bits, here.from_bits
    scalar = formulas(T, here)
    exp_polynomial, power_of_two = scalar["exp_polynomial"], scalar["power_of_two"]
    lanes, headroom = (16, 64) if single else (8, 500)
    scaling, unscaling = T(2.0**headroom), 2.0**-headroom
    dominant = 2.0**-22 if single else 2.0**-40
    log2e, log2_high, log2_low = (T(c) for c in (1.4426950408889634, 0.693145751953125, 1.428606820309417e-06))
    if not single:
        log2_high, log2_low = 6.93147180369123816490e-01, 1.90821492927058770002e-10
    rounding = 12582912 + 127 if single else 6755399441055744 + 1023
    shift, floor = T(rounding + headroom), T(-130 if single else -1040)
    zero, one = T(0), T(1)
    minus_infinity = T(-np.inf)
    size = np.dtype(T).itemsize
    smallest, order = np.iinfo(I).min, I(np.iinfo(I).max)
    sign_shift = I(31 if single else 63)

    @compiled
    def ordered(i):
        """Bits as an integer that is the larger the larger the number is, and back; NaN lies beyond the infinities."""
        return I(i ^ I(I(i >> sign_shift) & order))

    @array_loop
    def largest(x, sign):
        as_kernel()
        m = I(smallest)
        for i in range(len(x)):
            k = ordered(bits(x[i] * sign))
            m = k if k > m else m
        return from_bits(ordered(m))

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
    def term(x, m, scale, scale_low):
        """... of (x - m) (scale + scale_low), whose rounding errors would else come out multiplied by |x - m|."""
        d = x - m
        low = (-m if x < -m else x) - (d - (x if x < -m else -m))
        z = d * scale
        return exp(z, muladd(low, scale, muladd(d, scale_low, fused(d, scale, -z))))

    @compiled
    def plain_term(x, m):
        d = x - m
        low = (-m if x < -m else x) - (d - (x if x < -m else -m))
        return exp(d, low)

    @array_loop
    def terms(x, e, m, sign, scale, scale_low):
        as_kernel()
        if scale == one and scale_low == zero:
            for i in range(len(e)):
                e[i] = plain_term(x[i] * sign, m)
        else:
            for i in range(len(e)):
                e[i] = term(x[i] * sign, m, scale, scale_low)

    @compiled
    def scale_of(temperature):
        """1 / |temperature| as high and low, and the sign."""
        sign = -one if temperature < 0.0 else one
        high = T(1.0 / abs(temperature))
        low = T(1.0 / abs(temperature) - np.float64(high)) if single else -fused(high, T(abs(temperature)), -one) / T(abs(temperature))
        return high, low, sign

    @compiled
    def row(address, n):
        return carray(at(address), (n,), T)

    @compiled
    def add_up(totals):
        """The sum of the lanes, and what rounding took from it."""
        return add_up_lanes(T, totals)

    @compiled
    def clear(totals):
        total = carray(at(totals), (2 * lanes,), np.float64)
        for j in range(2 * lanes):
            total[j] = 0.0

    def blockwise_sum(element):
        """A function that sums element(a[i], b[i], p) in lanes: the sum, and what rounding took from it."""

        @array_loop
        def elements(a, b, to, p):
            as_kernel()
            for i in range(len(a)):
                to[i] = element(a[i], b[i], p)

        @array_loop
        def sum_of(a, b, n, p):
            block, totals = stack(TERMS_BYTES), stack(LANES_BYTES)
            clear(totals)
            for i in range(0, n, TERMS):
                count = min(n - i, TERMS)
                elements(row(a + i * size, count), row(b + i * size, count), row(block, count), p)
                padded = (count + lanes - 1) // lanes * lanes
                rest = row(block + count * size, padded - count)
                for j in range(padded - count):
                    rest[j] = zero
                add_lanes(T, block, padded, totals)
            return add_up(totals)

        return sum_of

    if hand_made(T):
        add_terms = numba_softmax.add_terms

        @compiled
        def added_by_hand(x, e, n, m, skip, sign, totals):
            if n >= lanes and skip < 0 and sign == one:
                add_terms(x, e, n, m, totals)
                return True
            copy = stack(TERMS_BYTES)
            for i in range(0, n, TERMS):
                count = min(n - i, TERMS)
                source, values = row(x + i * size, count), row(copy, TERMS)
                for j in range(count):
                    values[j] = minus_infinity if i + j == skip else source[j] * sign
                for j in range(count, lanes):
                    values[j] = minus_infinity
                add_terms(copy, copy, max(count, lanes), m, totals)
                if e != 0:
                    row(e + i * size, count)[:] = row(copy, count)
            return True

    else:
        added_by_hand = compiled(lambda x, e, n, m, skip, sign, totals: False)

    @array_loop
    def sum_of_terms(x, e, n, m, skip, sign, scale, scale_low):
        """The sum without term number skip, -1 for none, and what rounding took from it; x and e are addresses.

        The terms are kept in e unless that is 0; e may be x.
        """
        copy, block, totals = stack(TERMS_BYTES), stack(TERMS_BYTES), stack(LANES_BYTES)
        clear(totals)
        if scale == one and scale_low == zero and added_by_hand(x, e, n, m, skip, sign, totals):
            return add_up(totals)
        for i in range(0, n, TERMS):
            count = min(n - i, TERMS)
            source = x + i * size
            padded = (count + PANEL - 1) // PANEL * PANEL
            target = block if e == 0 or padded > count else e + i * size
            if padded > count:  # whole vectors: what LLVM makes of a loop's rest is slow
                values, all_values = row(source, count), row(copy, padded)
                for j in range(count):
                    all_values[j] = values[j]
                for j in range(count, padded):
                    all_values[j] = minus_infinity * sign
                source = copy
            terms(row(source, padded), row(target, padded), m, sign, scale, scale_low)
            if i <= skip < i + count:
                row(target, count)[skip - i] = zero
            for j in range(count, padded):  # NaN where m is infinite
                row(target, padded)[j] = zero
            add_lanes(T, target, padded, totals)
            if e != 0 and padded > count:
                kept, values = row(e + i * size, count), row(target, count)
                for j in range(count):
                    kept[j] = values[j]
        return add_up(totals)

    @compiled
    def rest_of(total, low):
        """What remains of a sum without the largest term, which is 1; -1 if too little of it remains to be exact."""
        rest = (total * unscaling - 1.0) + low * unscaling
        return -1.0 if rest < dominant else rest

    @compiled
    def find(x, n, value, sign):
        """The first position of value, 0 if it is nowhere."""
        values = row(x, n)
        for i in range(n):
            if values[i] * sign == value:
                return i
        return 0

    @compiled
    def whole(address, n, buffer):
        """The elements where they are, or where they are too few for a vector in a buffer, followed by zeros."""
        if n >= lanes:
            return address
        row(buffer, lanes)[:] = zero
        row(buffer, n)[:] = row(address, n)
        return buffer

    def sum_by_hand(add):
        """The same as blockwise_sum by a function of numba_softmax.py."""

        @compiled
        def sum_of(a, b, n, p):
            first, second, totals = stack(LANES_BYTES), stack(LANES_BYTES), stack(LANES_BYTES)
            clear(totals)
            add(whole(a, n, first), whole(b, n, second), max(n, lanes), totals)
            return add_up(totals)

        return sum_of

    sum_kept = blockwise_sum(compiled(lambda a, b, p: a))

    @array_loop
    def sum_of_others(x, e, n, m, scale, scale_low):
        """The sum of all terms but the largest, which is 1; the terms are kept in e unless it is 0."""
        total, low = sum_of_terms(x, e, n, m, -1, one, scale, scale_low)
        rest = rest_of(total, low)
        if rest < 0.0:
            if e == 0:
                total, low = sum_of_terms(x, 0, n, m, find(x, n, m, one), one, scale, scale_low)
            else:
                peak = find(e, n, scaling, one)
                kept = row(e, n)
                kept[peak] = zero
                total, low = sum_kept(e, e, n, zero)
                kept[peak] = scaling
            rest = total * unscaling
        return rest

    @compiled
    def quotient(dividend, divisor, divisor_low):
        """dividend / (divisor + divisor_low) as two numbers."""
        if single:
            q = dividend / (divisor + divisor_low)
            high = T(q)
            return high, T(q - high) if high - high == zero else zero
        q = 1.0 / divisor
        return T(q * dividend), T(-(fused(q, divisor, -1.0) + q * divisor_low) * q * dividend)

    @array_loop
    def scale_by(y, f, f_low):
        as_kernel()
        for i in range(len(y)):
            y[i] = fused(y[i], f, y[i] * f_low)

    return SimpleNamespace(**{name: value for name, value in locals().items() if name != "T"})


# --- Kernels for rows -------------------------------------------------------------------------------------------------


@compiled
def field(task, offset):
    return load(np.int64, task + offset)


@compiled
def doubles(address, n):
    return carray(at(address), (n,), np.float64)


def softmax_rows(T):
    """softmax, or with g, one number a row, g softmax / temperature."""
    t = toolbox(T)
    largest, row, scale_of, sum_of_terms, quotient, scale_by = t.largest, t.row, t.scale_of, t.sum_of_terms, t.quotient, t.scale_by

    def kernel(task):
        peaks, totals, lows = stack(BATCH_BYTES), stack(BATCH_BYTES), stack(BATCH_BYTES)
        m, total, low = row(peaks, BATCH), doubles(totals, BATCH), doubles(lows, BATCH)
        n, g, rows = field(task, N), field(task, G), field(task, ROWS)
        temperature = load(np.float64, task + TEMPERATURE)
        scale, scale_low, sign = scale_of(temperature)
        batch = batch_of(n)
        for first in range(0, rows, batch):
            count = min(batch, rows - first)
            x, y = field(task, X) + first * field(task, X_ROW), field(task, Y) + first * field(task, Y_ROW)
            for r in range(count):
                m[r] = largest(row(x + r * field(task, X_ROW), n), sign)
            for r in range(count):
                total[r], low[r] = sum_of_terms(x + r * field(task, X_ROW), y + r * field(task, Y_ROW), n, m[r], -1, sign, scale, scale_low)
            for r in range(count):
                dividend = 1.0 if g == 0 else np.float64(load(T, g + (first + r) * field(task, G_ROW))) / temperature
                f, f_low = quotient(dividend, total[r] if m[r] - m[r] == 0 else np.nan, low[r])
                scale_by(row(y + r * field(task, Y_ROW), n), f, f_low)

    return kernel


def log_rows(T, finish):
    """finish(x, y, n, m, log_total, temperature, scale) for each row; log_total is log1p of the sum of the terms but the largest."""
    t = toolbox(T)
    largest, row, scale_of, sum_of_others, find_logarithms = t.largest, t.row, t.scale_of, t.sum_of_others, logarithms(T)

    def kernel(task):
        peaks, rests = stack(BATCH_BYTES), stack(BATCH_BYTES)
        m, rest = row(peaks, BATCH), doubles(rests, BATCH)
        m[:], rest[:] = t_zero, 0.0
        n, rows = field(task, N), field(task, ROWS)
        temperature = load(np.float64, task + TEMPERATURE)
        scale, scale_low, sign = scale_of(temperature)
        batch = batch_of(n)
        for first in range(0, rows, batch):
            count = min(batch, rows - first)
            x, y = field(task, X) + first * field(task, X_ROW), field(task, Y) + first * field(task, Y_ROW)
            for r in range(count):
                m[r] = largest(row(x + r * field(task, X_ROW), n), sign)
            for r in range(count):
                rest[r] = sum_of_others(x + r * field(task, X_ROW), 0, n, m[r], scale, scale_low)
            find_logarithms(rest, m)
            for r in range(count):
                finish(x + r * field(task, X_ROW), y + r * field(task, Y_ROW), n, m[r], rest[r], temperature, scale)

    t_zero = t.zero

    return kernel


@functools.cache
def log_softmax_of_row(T):
    row = toolbox(T).row

    @array_loop
    def shift(x, y, m, scale, log_total):
        as_kernel()
        for i in range(len(y)):
            y[i] = (x[i] - m) * scale - log_total

    @compiled
    def finish(x, y, n, m, log_total, temperature, scale):
        shift(row(x, n), row(y, n), m, scale, T(log_total))

    return finish


@functools.cache
def logsumexp_of_row(T):
    row = toolbox(T).row

    @compiled
    def finish(x, y, n, m, log_total, temperature, scale):
        value = m
        if m - m == 0:
            value = T(np.float64(m) / temperature + log_total)
        else:
            for item in row(x, n):
                value = item if item != item else value
        store(T, y, value)

    return finish


def backward_rows(T, element, total_element, unit, add=None, by_hand=None):
    """A backward pass: element(g, y, s, 1 / temperature) with s the sum of total_element(g, y).

    ``add`` finds that sum by hand; by_hand(g, y, result, n, s, 1 / temperature) does what there is to do, or returns False.
    """
    t = toolbox(T)
    row = t.row
    sum_of = t.sum_by_hand(add) if add and hand_made(T) else t.blockwise_sum(compiled(lambda a, b, p: total_element(a, b)))
    by_hand = by_hand or compiled(lambda g, x, y, n, s, scale: False)

    @array_loop
    def apply(g, x, y, s, scale):
        as_kernel()
        for i in range(len(y)):
            y[i] = element(g[i], x[i], s, scale)

    def kernel(task):
        n = field(task, N)
        scale = T(1.0 / load(np.float64, task + TEMPERATURE))
        for r in range(field(task, ROWS)):
            x, y = field(task, X) + r * field(task, X_ROW), field(task, Y) + r * field(task, Y_ROW)
            g = field(task, G) + r * field(task, G_ROW)
            total, low = sum_of(g, x, n, scale)
            s = unit(T(total), x, n)
            if not by_hand(g, x, y, n, s, scale):
                apply(row(g, n), row(x, n), row(y, n), s, scale)

    return kernel


def softmax_backward_rows(T):
    """x holds softmax's output p: p (g - sum(p g)) / temperature."""
    element = compiled(lambda g, p, s, scale: p * (g - s) * scale)
    return backward_rows(T, element, compiled(lambda g, p: p * g), compiled(lambda total, x, n: total), numba_softmax.add_products)


def log_softmax_backward_rows(T):
    """x holds log_softmax's output y: (g - exp(y) sum(g)) / temperature; nothing where y is -inf, which a mask made."""
    exp, zero, masked = toolbox(T).scalar["exp"], T(0), T(-np.inf)
    element = compiled(lambda g, y, s, scale: zero if y == masked else (g - exp(y) * s) * scale)
    return backward_rows(T, element, compiled(lambda g, y: zero if y == masked else g), compiled(lambda total, x, n: total),
                         numba_softmax.add_where_finite, log_gradient() if hand_made(T) else None)  # fmt: skip


@functools.cache
def log_gradient():
    t = toolbox(np.float32)
    row, whole, lanes, gradient, limit = t.row, t.whole, t.lanes, numba_softmax.log_gradient, np.float32(1e15)

    @compiled
    def by_hand(g, x, y, n, s, scale):
        if not -limit < s < limit:
            return False
        few_x, few_g, few_y = stack(LANES_BYTES), stack(LANES_BYTES), stack(LANES_BYTES)
        to = y if n >= lanes else few_y
        gradient(whole(x, n, few_x), whole(g, n, few_g), to, max(n, lanes), s, scale)
        if to != y:
            row(y, n)[:] = row(few_y, n)
        return True

    return by_hand


def sparsemax_backward_rows(T):
    """x holds sparsemax's output: g less its mean over the elements that are not 0, and 0 at the others."""
    row, zero = toolbox(T).row, T(0)

    @compiled
    def mean(total, x, n):
        kept = 0
        for value in row(x, n):
            kept += value != zero
        return T(total / kept) if kept > 0 else zero

    element = compiled(lambda g, p, s, scale: zero if p == zero else g - s)
    return backward_rows(T, element, compiled(lambda g, p: zero if p == zero else g + (p - p)), mean)


def sparsemax_rows(T):
    """max(x - m - t, 0) with t such that the sum is 1; rowwise.pxi.in says how it is found."""
    t = toolbox(T)
    largest, row, size, one = t.largest, t.row, t.size, T(1)
    wide = toolbox(np.float64)
    clear, add_up, wide_row = wide.clear, wide.add_up, wide.row
    newton = 8

    @array_loop
    def take_above(x, block, m, t):
        """Those of the x - m that are larger than t, else 0; how many they are, and how many are NaN."""
        as_kernel()
        above, nan = 0, 0
        for j in range(len(block)):
            d = np.float64(x[j]) - m
            nan += d != d
            above += d > t
            block[j] = d if d > t else 0.0
        return above, nan

    @array_loop
    def sum_above(x, n, m, t):
        block, totals = stack(TERMS_BYTES), stack(LANES_BYTES)
        clear(totals)
        kept, bad = 0, 0
        for i in range(0, n, TERMS):
            count = min(n - i, TERMS)
            above, nan = take_above(row(x + i * size, count), wide_row(block, count), m, t)
            kept += above
            bad += nan
            padded = (count + 7) & ~7
            for j in range(count, padded):
                wide_row(block, padded)[j] = 0.0
            add_lanes(np.float64, block, padded, totals)
        total, low = add_up(totals)
        return kept if bad == 0 else -1, total

    @array_loop
    def threshold(x, n, m):
        low, high, t = -1.0, 0.0, -1.0
        step = 0
        if m - m != 0:
            return np.nan
        while True:
            kept, total = sum_above(x, n, m, t)
            if kept < 0:
                return np.nan
            root = (total - 1.0) / kept
            if t == low and root <= low:
                return low
            high = t if root < t else high
            low = root if root > low else low
            step += 1
            t = (low + high) / 2.0 if step > newton and step % 2 else low

    @array_loop
    def apply(x, y, m, t):
        as_kernel()
        for i in range(len(y)):
            d = (np.float64(x[i]) - m) - t
            y[i] = T(0.0 if d < 0.0 else d)

    def kernel(task):
        n = field(task, N)
        for r in range(field(task, ROWS)):
            x, y = field(task, X) + r * field(task, X_ROW), field(task, Y) + r * field(task, Y_ROW)
            m = np.float64(largest(row(x, n), one))
            apply(row(x, n), row(y, n), m, threshold(x, n, m))

    return kernel


# --- Kernels for panels of short rows ---------------------------------------------------------------------------------


@functools.cache
def panel_toolbox(T):
    """Steps over rows side by side: element i of row j is at values[64 i + j]."""
    t = toolbox(T)
    row, size, lanes, zero, one = t.row, t.size, t.lanes, t.zero, t.one
    plain_term, term, rest_of, sum_kept, scaling, unscaling = t.plain_term, t.term, t.rest_of, t.sum_kept, t.scaling, t.unscaling
    minus_infinity = t.minus_infinity
    single = T is np.float32

    @array_loop
    def load_panel(values, x, x_row, rows, n, sign):
        as_kernel()
        for j in range(rows):
            source = row(x + j * x_row, n)
            for i in range(n):
                values[np.uintp(i * PANEL + j)] = source[i] * sign
        for i in range(n if rows < PANEL else 0):
            for j in range(rows, PANEL):
                values[i * PANEL + j] = zero

    @array_loop
    def store_panel(values, y, y_row, rows, n):
        as_kernel()
        for j in range(rows):
            target = row(y + j * y_row, n)
            for i in range(n):
                target[i] = values[np.uintp(i * PANEL + j)]

    @array_loop
    def raise_peaks(values, m):
        as_kernel()
        for j in range(PANEL):
            x = values[j]
            m[j] = x if x > m[j] or x != x else m[j]

    @array_loop
    def find_terms(values, m, scale, scale_low):
        as_kernel()
        if scale == one and scale_low == zero:
            for j in range(PANEL):
                values[j] = plain_term(values[j], m[j])
        else:
            for j in range(PANEL):
                values[j] = term(values[j], m[j], scale, scale_low)

    @array_loop
    def add(x, total, low):
        as_kernel()
        for j in range(PANEL):
            if single:
                total[j] += np.float64(x[j])
            else:
                after = total[j] + x[j]
                share = after - total[j]
                low[j] += (total[j] - (after - share)) + (x[j] - share)
                total[j] = after

    @array_loop
    def fold(total, low, other, other_low):
        as_kernel()
        for j in range(PANEL):
            after = total[j] + other[j]
            if not single:
                share = after - total[j]
                low[j] += other_low[j] + ((total[j] - (after - share)) + (other[j] - share))
            total[j] = after

    @array_loop
    def finish(total, low):
        as_kernel()
        for j in range(PANEL):
            s = total[j] + low[j]
            low[j] = low[j] - (s - total[j])
            total[j] = s

    @array_loop
    def sum_panel(values, n, totals):
        """The sums by row are then in the first 64 numbers, what rounding took from them in those after all lanes."""
        lows = totals + 8 * PANEL * lanes
        sums = carray(at(totals), (2 * PANEL * lanes,), np.float64)
        sums[:] = 0.0
        for i in range(n):
            lane = 8 * PANEL * (i % lanes)
            add(row(values + size * PANEL * i, PANEL), wide_row(totals + lane), wide_row(lows + lane))
        half = lanes
        while half > 1:
            half //= 2
            for k in range(half):
                lane, other = 8 * PANEL * k, 8 * PANEL * (k + half)
                fold(wide_row(totals + lane), wide_row(lows + lane), wide_row(totals + other), wide_row(lows + other))
        if not single:
            finish(wide_row(totals), wide_row(lows))

    @compiled
    def wide_row(address):
        return carray(at(address), (PANEL,), np.float64)

    @array_loop
    def sum_others(values, n, totals, rows):
        """All terms but the largest, which is 1, in the place of the sums."""
        block = stack(TERMS_BYTES)
        column = row(block, n)
        total, low = wide_row(totals), wide_row(totals + 8 * PANEL * lanes)
        terms = row(values, PANEL * n)
        for j in range(rows):
            rest = rest_of(total[j], low[j])
            if rest < 0.0:
                skipped = False
                for i in range(n):
                    column[i] = terms[i * PANEL + j]
                    if column[i] == scaling and not skipped:
                        column[i] = zero
                        skipped = True
                others, _ = sum_kept(block, block, n, zero)
                rest = others * unscaling
            total[j] = rest

    @array_loop
    def scale_panel(values, f, f_low):
        as_kernel()
        for j in range(PANEL):
            values[j] = t_fused(values[j], f[j], values[j] * f_low[j])

    t_fused = t.fused

    if hand_made(T):
        find_terms_of_columns = numba_softmax.find_terms

        @array_loop
        def found_by_hand(values, peaks, n):
            as_kernel()
            find_terms_of_columns(values, peaks, n, PANEL)
            return True

    else:
        found_by_hand = compiled(lambda values, peaks, n: False)

    @compiled
    def find_all_terms(values, peaks, n, scale, scale_low):
        m = row(peaks, PANEL)
        for j in range(PANEL):
            m[j] = minus_infinity
        for i in range(n):
            raise_peaks(row(values + size * PANEL * i, PANEL), m)
        if scale == one and scale_low == zero and found_by_hand(values, peaks, n):
            return
        for i in range(n):
            find_terms(row(values + size * PANEL * i, PANEL), m, scale, scale_low)

    @compiled
    def scale_all(values, n, f, f_low):
        for i in range(n):
            scale_panel(row(values + size * PANEL * i, PANEL), row(f, PANEL), row(f_low, PANEL))

    return SimpleNamespace(**{name: value for name, value in locals().items() if name not in ("T", "t")})


PANEL_ROW = 8 * PANEL


def softmax_panels(T):
    t, p = toolbox(T), panel_toolbox(T)
    row, scale_of, quotient, lanes = t.row, t.scale_of, t.quotient, t.lanes
    load_panel, store_panel, find_all_terms, sum_panel, scale_all, wide_row = (
        p.load_panel, p.store_panel, p.find_all_terms, p.sum_panel, p.scale_all, p.wide_row)  # fmt: skip

    def kernel(task):
        values, totals, peaks = stack(PANEL_BYTES), stack(PANEL_SUMS_BYTES), stack(PANEL_ROW)
        factors, factors_low = stack(PANEL_ROW), stack(PANEL_ROW)
        n, g, count = field(task, N), field(task, G), field(task, ROWS)
        temperature = load(np.float64, task + TEMPERATURE)
        scale, scale_low, sign = scale_of(temperature)
        m, f, f_low = row(peaks, PANEL), row(factors, PANEL), row(factors_low, PANEL)
        total, low = wide_row(totals), wide_row(totals + 8 * PANEL * lanes)
        for first in range(0, count, PANEL):
            rows = min(count - first, PANEL)
            x, y = field(task, X) + first * field(task, X_ROW), field(task, Y) + first * field(task, Y_ROW)
            load_panel(row(values, PANEL * n), x, field(task, X_ROW), rows, n, sign)
            find_all_terms(values, peaks, n, scale, scale_low)
            sum_panel(values, n, totals)
            for j in range(rows):
                dividend = 1.0 if g == 0 else np.float64(load(T, g + (first + j) * field(task, G_ROW))) / temperature
                f[j], f_low[j] = quotient(dividend, total[j] if m[j] - m[j] == 0 else np.nan, low[j])
            scale_all(values, n, factors, factors_low)
            store_panel(row(values, PANEL * n), y, field(task, Y_ROW), rows, n)

    return kernel


def log_panels(T, finish):
    """The same for short rows."""
    t, p = toolbox(T), panel_toolbox(T)
    row, scale_of, find_logarithms = t.row, t.scale_of, logarithms(T)
    load_panel, find_all_terms, sum_panel, sum_others, wide_row = (
        p.load_panel, p.find_all_terms, p.sum_panel, p.sum_others, p.wide_row)  # fmt: skip

    def kernel(task):
        values, totals, peaks = stack(PANEL_BYTES), stack(PANEL_SUMS_BYTES), stack(PANEL_ROW)
        n, count = field(task, N), field(task, ROWS)
        temperature = load(np.float64, task + TEMPERATURE)
        scale, scale_low, sign = scale_of(temperature)
        m, rest = row(peaks, PANEL), wide_row(totals)
        for first in range(0, count, PANEL):
            rows = min(count - first, PANEL)
            x, y = field(task, X) + first * field(task, X_ROW), field(task, Y) + first * field(task, Y_ROW)
            load_panel(row(values, PANEL * n), x, field(task, X_ROW), rows, n, sign)
            find_all_terms(values, peaks, n, scale, scale_low)
            sum_panel(values, n, totals)
            sum_others(values, n, totals, rows)
            find_logarithms(rest, m)
            for j in range(rows):
                finish(x + j * field(task, X_ROW), y + j * field(task, Y_ROW), n, m[j], rest[j], temperature, scale)

    return kernel


KERNELS = {
    "softmax": (softmax_rows, softmax_panels),
    "log_softmax": (lambda T: log_rows(T, log_softmax_of_row(T)), lambda T: log_panels(T, log_softmax_of_row(T))),
    "logsumexp": (lambda T: log_rows(T, logsumexp_of_row(T)), lambda T: log_panels(T, logsumexp_of_row(T))),
    "softmax_backward": (softmax_backward_rows, None),
    "log_softmax_backward": (log_softmax_backward_rows, None),
    "sparsemax": (sparsemax_rows, None),
    "sparsemax_backward": (sparsemax_backward_rows, None),
}
"""For every function the maker of its kernel for rows, and of that for panels where there is one."""


def task_kernel(make, T):
    """A C function of the address of a task."""
    return numba.cfunc(types.void(types.intp), error_model="numpy")(make(T))
