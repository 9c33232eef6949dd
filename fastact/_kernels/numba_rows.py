"""The kernels over rows that Numba compiles, softmax and its relatives, each of which takes the address of a task."""

from __future__ import annotations

import functools

import numpy as np

from . import numba_softmax
from .numba_intrinsics import (
    add_lanes,
    array_loop,
    as_kernel,
    compiled,
    doubles,
    entry,
    fill,
    load,
    real,
    stack,
    store,
    word,
)
from .numba_panels import log_panels, softmax_panels
from .numba_row_steps import (
    BATCH,
    BATCH_BYTES,
    G_ROW,
    LANES_BYTES,
    MORE,
    NEXT_IN_CACHE,
    NO_TERM,
    NOWHERE,
    ROWS,
    TEMPERATURE,
    TERMS,
    TERMS_BYTES,
    X_ROW,
    Y_ROW,
    G,
    N,
    X,
    Y,
    ahead_of,
    batch_of,
    hand_made,
    logarithms,
    term_steps,
    toolbox,
)


def batch_kernel(T, tempered, work, near_rows=None):
    """A kernel that takes rows a batch at a time: work(task, first, count, m, scale, scale_low, sign), m being the largest elements.

    If there are ``near_rows(task, first, count, sign)``, they do the work where all the largest elements are near 0, or return False.
    """
    t = toolbox(T)
    largest, row, scale_of, zero = t.largest, t.row, term_steps(T, tempered).scale_of, t.zero
    some_near = near_rows is not None
    near_rows = near_rows or compiled(lambda task, first, count, sign: False)

    def kernel(task):
        peaks = stack(BATCH_BYTES)
        m = row(peaks)
        fill(m, zero, BATCH)
        n, rows = word(task, N), word(task, ROWS)
        scale, scale_low, sign = scale_of(real(task, TEMPERATURE))
        batch = batch_of(n)
        near = some_near
        for first in range(0, rows, batch):
            count = min(batch, rows - first)
            near = near and near_rows(task, first, count, sign)  # where one is far, so are probably the others
            if near:
                continue
            for r in range(count):
                m[r] = largest(word(task, X) + (first + r) * word(task, X_ROW), n, sign)
            work(task, first, count, m, scale, scale_low, sign)

    return kernel


def softmax_rows(T, tempered):
    """softmax, or with g, one number a row, g softmax / temperature."""
    t, steps = toolbox(T), term_steps(T, tempered)
    row, quotient, scale_by, zero, one = t.row, t.quotient, t.scale_by, t.zero, t.one
    sum_of_terms, by_hand, end, long = steps.sum_of_terms, steps.by_hand, T(numba_softmax.NEAR), numba_softmax.LONG

    @compiled
    def scale_rows(task, first, count, m, total, low):
        n, g, temperature, y = word(task, N), word(task, G), real(task, TEMPERATURE), word(task, Y) + first * word(task, Y_ROW)
        for r in range(count):
            dividend = 1.0 if g == 0 else np.float64(load(T, g + (first + r) * word(task, G_ROW))) / temperature
            f, f_low = quotient(dividend, total[r] if m[r] - m[r] == 0 else np.nan, low[r])
            scale_by(y + r * word(task, Y_ROW), n, f, f_low)

    near_rows = None
    if by_hand:
        sum_near, sum_far, sum_long = numba_softmax.sum_of_near_terms, numba_softmax.sum_of_terms, numba_softmax.sum_of_long_terms

        @array_loop
        def signed(x, y, n, sign):
            """Where n elements times the sign are: at x, or now at y."""
            if sign == one:
                return x
            source, negated = row(x), row(y)
            for i in range(n):
                negated[i] = -source[i]
            return y

        @array_loop
        def sum_terms(x, y, n, m, sign, scale, scale_low, ahead):
            at = signed(x, y, n, sign)
            ahead += x - at
            if n >= long:
                return sum_long(at, y, n, m, ahead), 0.0
            if -end <= m <= end:
                return sum_near(at, y, n, ahead), 0.0
            return sum_far(at, y, n, m, ahead), 0.0

        @compiled
        def near_rows(task, first, count, sign):
            totals, lows, peaks = stack(BATCH_BYTES), stack(BATCH_BYTES), stack(BATCH_BYTES)
            total, n = doubles(totals), word(task, N)
            x, y = word(task, X) + first * word(task, X_ROW), word(task, Y) + first * word(task, Y_ROW)
            ahead = ahead_of(n, word(task, X_ROW), word(task, ROWS) + word(task, MORE) - first)
            if n >= long or x == y:  # in place a row that turns out to be far would be gone
                return False
            for r in range(count):
                terms = y + r * word(task, Y_ROW)
                source = x + r * word(task, X_ROW)
                at = signed(source, terms, n, sign)
                total[r] = sum_near(at, terms, n, ahead + source - at)
                if total[r] < 0.0:
                    return False
            fill(doubles(lows), 0.0, BATCH)
            fill(row(peaks), zero, BATCH)
            scale_rows(task, first, count, row(peaks), total, doubles(lows))
            return True

    else:
        sum_terms = compiled(lambda x, y, n, m, sign, scale, scale_low, ahead: (
            sum_of_terms(x, y, n, m, NO_TERM, sign, scale, scale_low, ahead)))  # fmt: skip

    @compiled
    def work(task, first, count, m, scale, scale_low, sign):
        totals, lows = stack(BATCH_BYTES), stack(BATCH_BYTES)
        total, low, n = doubles(totals), doubles(lows), word(task, N)
        x, y = word(task, X) + first * word(task, X_ROW), word(task, Y) + first * word(task, Y_ROW)
        ahead = ahead_of(n, word(task, X_ROW), word(task, ROWS) + word(task, MORE) - first)
        for r in range(count):
            source, terms = x + r * word(task, X_ROW), y + r * word(task, Y_ROW)
            total[r], low[r] = sum_terms(source, terms, n, m[r], sign, scale, scale_low, ahead)
        scale_rows(task, first, count, m, total, low)

    return batch_kernel(T, tempered, work, near_rows)


def log_rows(T, tempered, finish):
    """finish(x, y, n, m, log_total, temperature, scale) for each row; log_total is log1p of the sum of the terms but the largest."""
    sum_of_others, find_logarithms = term_steps(T, tempered).sum_of_others, logarithms(T, BATCH)

    @compiled
    def work(task, first, count, m, scale, scale_low, sign):
        rests = stack(BATCH_BYTES)
        rest = doubles(rests)
        fill(rest, 0.0, BATCH)
        n, temperature = word(task, N), real(task, TEMPERATURE)
        x, y = word(task, X) + first * word(task, X_ROW), word(task, Y) + first * word(task, Y_ROW)
        ahead = ahead_of(n, word(task, X_ROW), word(task, ROWS) + word(task, MORE) - first)
        for r in range(count):
            rest[r] = sum_of_others(x + r * word(task, X_ROW), NOWHERE, n, m[r], scale, scale_low, ahead)
        find_logarithms(rest, m)
        for r in range(count):
            finish(x + r * word(task, X_ROW), y + r * word(task, Y_ROW), n, m[r], rest[r], temperature, scale)

    return batch_kernel(T, tempered, work)


@functools.cache
def log_softmax_of_row(T, tempered):
    row = toolbox(T).row
    if term_steps(T, tempered).by_hand:
        shift_by_hand = numba_softmax.shift

        @array_loop
        def shift(x, y, n, m, scale, log_total):
            shift_by_hand(x, y, n, m, log_total)

    else:

        @array_loop
        def shift_items(x, y, n, m, scale, log_total):
            as_kernel()
            for i in range(n):
                y[i] = (x[i] - m) * scale - log_total

        @compiled
        def shift(x, y, n, m, scale, log_total):
            shift_items(row(x), row(y), n, m, scale, log_total)

    @compiled
    def finish(x, y, n, m, log_total, temperature, scale):
        shift(x, y, n, m, scale, T(log_total))

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
            items = row(x)
            for i in range(n):
                value = items[i] if items[i] != items[i] else value
        store(T, y, value)

    return finish


def backward_rows(T, element, total_element, unit, sum_by_hand=None, by_hand=None):
    """A backward pass: element(g, y, s, 1 / temperature) with s the sum of total_element(g, y).

    ``sum_by_hand`` and ``by_hand`` are what numba_softmax.py has for that sum and for the gradient.
    """
    t = toolbox(T)
    row = t.row
    if sum_by_hand and hand_made(T):
        sum_of = compiled(lambda a, b, n, p: (sum_by_hand(a, b, n), 0.0))
    else:
        sum_of = t.blockwise_sum(compiled(lambda a, b, p: total_element(a, b)))
    found_by_hand = gradient_by_hand(by_hand) if by_hand and hand_made(T) else compiled(lambda g, x, y, n, s, scale, ahead: False)

    @array_loop
    def apply(g, x, y, n, s, scale):
        as_kernel()
        for i in range(n):
            y[i] = element(g[i], x[i], s, scale)

    def kernel(task):
        n = word(task, N)
        scale = T(1.0 / real(task, TEMPERATURE))
        alike = word(task, G_ROW) == word(task, X_ROW) and n < NEXT_IN_CACHE
        for r in range(word(task, ROWS)):
            x, y = word(task, X) + r * word(task, X_ROW), word(task, Y) + r * word(task, Y_ROW)
            g = word(task, G) + r * word(task, G_ROW)
            ahead = word(task, X_ROW) if alike and r + 1 < word(task, ROWS) + word(task, MORE) else 0
            total, low = sum_of(g, x, n, scale)
            s = unit(T(total), x, n)
            if not found_by_hand(g, x, y, n, s, scale, ahead):
                apply(row(g), row(x), row(y), n, s, scale)

    return kernel


def gradient_by_hand(gradient):
    """A function that finds the gradient of a row, or returns False."""
    limit = np.float32(1e15)

    @compiled
    def by_hand(g, x, y, n, s, scale, ahead):
        if not -limit < s < limit:
            return False
        gradient(x, g, y, n, s, scale, ahead)
        return True

    return by_hand


def softmax_backward_rows(T):
    """x holds softmax's output p: p (g - sum(p g)) / temperature."""
    element = compiled(lambda g, p, s, scale: p * (g - s) * scale)
    return backward_rows(T, element, compiled(lambda g, p: p * g), compiled(lambda total, x, n: total),
                         numba_softmax.sum_of_products, numba_softmax.softmax_gradient)  # fmt: skip


def log_softmax_backward_rows(T):
    """x holds log_softmax's output y: (g - exp(y) sum(g)) / temperature; nothing where y is -inf, which a mask made."""
    exp, zero, masked = toolbox(T).scalar["exp"], T(0), T(-np.inf)
    element = compiled(lambda g, y, s, scale: zero if y == masked else (g - exp(y) * s) * scale)
    return backward_rows(T, element, compiled(lambda g, y: zero if y == masked else g), compiled(lambda total, x, n: total),
                         numba_softmax.sum_where_finite, numba_softmax.log_gradient)  # fmt: skip


def sparsemax_backward_rows(T):
    """x holds sparsemax's output: g less its mean over the elements that are not 0, and 0 at the others."""
    row, zero = toolbox(T).row, T(0)

    @compiled
    def mean(total, x, n):
        kept, values = 0, row(x)
        for i in range(n):
            kept += values[i] != zero
        return T(total / kept) if kept > 0 else zero

    element = compiled(lambda g, p, s, scale: zero if p == zero else g - s)
    return backward_rows(T, element, compiled(lambda g, p: zero if p == zero else g + (p - p)), mean)


def sparsemax_rows(T):
    """max(x - m - t, 0) with t such that the sum is 1; rowwise.pxi.in says how it is found."""
    t = toolbox(T)
    largest, row, size, one = t.largest, t.row, t.size, T(1)
    wide = toolbox(np.float64)
    clear, add_up = wide.clear, wide.add_up
    newton = 8

    @array_loop
    def take_above(x, block, n, m, t):
        """Those of the x - m that are larger than t, else 0; how many they are, and how many are NaN."""
        as_kernel()
        above, nan = 0, 0
        for j in range(n):
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
            above, nan = take_above(row(x + i * size), doubles(block), count, m, t)
            kept += above
            bad += nan
            padded = (count + 7) & ~7
            fill(doubles(block + 8 * count), 0.0, padded - count)
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
    def apply(x, y, n, m, t):
        as_kernel()
        for i in range(n):
            d = (np.float64(x[i]) - m) - t
            y[i] = T(0.0 if d < 0.0 else d)

    def kernel(task):
        n = word(task, N)
        for r in range(word(task, ROWS)):
            x, y = word(task, X) + r * word(task, X_ROW), word(task, Y) + r * word(task, Y_ROW)
            m = np.float64(largest(x, n, one))
            apply(row(x), row(y), n, m, threshold(x, n, m))

    return kernel


KERNELS = {
    "softmax": (softmax_rows, softmax_panels),
    "log_softmax": (lambda T, tempered: log_rows(T, tempered, log_softmax_of_row(T, tempered)),
                    lambda T, tempered: log_panels(T, tempered, log_softmax_of_row(T, tempered))),
    "logsumexp": (lambda T, tempered: log_rows(T, tempered, logsumexp_of_row(T)),
                  lambda T, tempered: log_panels(T, tempered, logsumexp_of_row(T))),
    "softmax_backward": (softmax_backward_rows,),
    "log_softmax_backward": (log_softmax_backward_rows,),
    "sparsemax": (sparsemax_rows,),
    "sparsemax_backward": (sparsemax_backward_rows,),
}  # fmt: skip
"""For every function the maker of its kernel for rows, and of that for panels where there is one: then both depend on whether
the temperature is another than 1 or -1."""


@functools.cache
def task_kernel(name, variant, T):
    """A C function of the address of a task. The variants are rows, panels, rows that are tempered and panels that are."""
    makers = KERNELS[name]
    return entry(makers[variant % 2](T, variant > 1) if len(makers) > 1 else makers[0](T))


def variants(name):
    return 4 if len(KERNELS[name]) > 1 else 1
