"""The kernels for short rows that Numba compiles: a panel of rows becomes columns, which are worked on side by side.

They add up as those for rows do (numba_rows.py). A row's length alone decides which is taken, so it has the same bits everywhere.
"""

from __future__ import annotations

import functools
from types import SimpleNamespace

import numpy as np

from . import numba_softmax
from .numba_cpu import transpose
from .numba_intrinsics import TILE, array_loop, as_kernel, compiled, doubles, fill, load, real, stack, word
from .numba_row_steps import (
    G_ROW,
    NOWHERE,
    PANEL,
    ROWS,
    SHORT,
    TEMPERATURE,
    TERMS_BYTES,
    X_ROW,
    Y_ROW,
    G,
    N,
    X,
    Y,
    logarithms,
    term_steps,
    toolbox,
)

PANEL_BYTES, PANEL_SUMS_BYTES = 8 * PANEL * SHORT, 8 * PANEL * 16 * 2


@functools.cache
def panel_toolbox(T, tempered):
    """Steps over rows side by side: element i of row j is at values[64 i + j]."""
    t, steps = toolbox(T), term_steps(T, tempered)
    row, size, lanes, zero, one = t.row, t.size, t.lanes, t.zero, t.one
    term, rest_of, sum_kept, scaling, unscaling = steps.term, t.rest_of, t.sum_kept, t.scaling, t.unscaling
    minus_infinity = t.minus_infinity
    single = T is np.float32

    @array_loop
    def load_panel(values, x, x_row, rows, n, sign):
        panel = row(values)
        if min(rows, n) >= TILE:
            transpose(size, x, x_row, values, PANEL * size, rows, n)
        else:
            for j in range(rows):
                source = row(x + j * x_row)
                for i in range(n):
                    panel[i * PANEL + j] = source[i]
        for i in range(n if rows < PANEL else 0):
            for j in range(rows, PANEL):
                panel[i * PANEL + j] = zero
        for i in range(n * PANEL if sign != one else 0):
            panel[i] = -panel[i]

    @array_loop
    def store_panel(values, y, y_row, rows, n):
        if min(rows, n) >= TILE:
            transpose(size, values, PANEL * size, y, y_row, n, rows)
        else:
            panel = row(values)
            for j in range(rows):
                target = row(y + j * y_row)
                for i in range(n):
                    target[i] = panel[i * PANEL + j]

    @array_loop
    def raise_peaks(values, m):
        as_kernel()
        for j in range(PANEL):
            x = values[j]
            m[j] = x if x > m[j] or x != x else m[j]

    @array_loop
    def find_terms(values, m, scale, scale_low):
        as_kernel()
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
        fill(doubles(totals), 0.0, 2 * PANEL * lanes)
        for i in range(n):
            lane = 8 * PANEL * (i % lanes)
            add(row(values + size * PANEL * i), doubles(totals + lane), doubles(lows + lane))
        half = lanes
        while half > 1:
            half //= 2
            for k in range(half):
                lane, other = 8 * PANEL * k, 8 * PANEL * (k + half)
                fold(doubles(totals + lane), doubles(lows + lane), doubles(totals + other), doubles(lows + other))
        if not single:
            finish(doubles(totals), doubles(lows))

    @array_loop
    def sum_others(values, n, totals, rows):
        """All terms but the largest, which is 1, in the place of the sums."""
        block = stack(TERMS_BYTES)
        column = row(block)
        total, low = doubles(totals), doubles(totals + 8 * PANEL * lanes)
        terms = row(values)
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

    if steps.by_hand:
        find_terms_of_columns = numba_softmax.find_terms

        @array_loop
        def find_all_terms(values, m, n, scale, scale_low, lost):
            as_kernel()
            find_terms_of_columns(values, m, n, PANEL, lost)

    else:

        @compiled
        def find_all_terms(values, m, n, scale, scale_low, lost):
            for i in range(n):
                find_terms(row(values + size * PANEL * i), row(m), scale, scale_low)

    @compiled
    def find_peaks(values, m, n):
        fill(m, minus_infinity, PANEL)
        for i in range(n):
            raise_peaks(row(values + size * PANEL * i), m)

    @compiled
    def sum_terms(x, x_row, rows, n, values, peaks, totals, scale, scale_low, sign, lost):
        """The terms of some rows, in values, their largest elements and their sums. Unless ``lost`` is 0, it holds zeros, and
        the terms are those of softmax, which where that is near takes 0 for the largest element.
        """
        load_panel(values, x, x_row, rows, n, sign)
        find_peaks(values, row(peaks), n)
        find_all_terms(values, peaks, n, scale, scale_low, lost)
        sum_panel(values, n, totals)
        if lost != NOWHERE:
            add(row(lost), doubles(totals), doubles(totals + 8 * PANEL * lanes))

    @compiled
    def scale_all(values, n, f, f_low):
        for i in range(n):
            scale_panel(row(values + size * PANEL * i), row(f), row(f_low))

    return SimpleNamespace(**{name: value for name, value in locals().items() if name not in ("T", "t")})


PANEL_ROW = 8 * PANEL


def softmax_panels(T, tempered):
    t, p = toolbox(T), panel_toolbox(T, tempered)
    row, scale_of, quotient, lanes, zero = t.row, term_steps(T, tempered).scale_of, t.quotient, t.lanes, t.zero
    sum_terms, scale_all, store_panel = p.sum_terms, p.scale_all, p.store_panel

    def kernel(task):
        values, totals, peaks = stack(PANEL_BYTES), stack(PANEL_SUMS_BYTES), stack(PANEL_ROW)
        factors, factors_low, lost = stack(PANEL_ROW), stack(PANEL_ROW), stack(PANEL_ROW)
        fill(row(lost), zero, PANEL)
        n, g, count = word(task, N), word(task, G), word(task, ROWS)
        temperature = real(task, TEMPERATURE)
        scale, scale_low, sign = scale_of(temperature)
        m, f, f_low = row(peaks), row(factors), row(factors_low)
        total, low = doubles(totals), doubles(totals + 8 * PANEL * lanes)
        for first in range(0, count, PANEL):
            rows = min(count - first, PANEL)
            sum_terms(word(task, X) + first * word(task, X_ROW), word(task, X_ROW), rows, n, values, peaks, totals,
                      scale, scale_low, sign, lost)  # fmt: skip
            for j in range(rows):
                dividend = 1.0 if g == 0 else np.float64(load(T, g + (first + j) * word(task, G_ROW))) / temperature
                f[j], f_low[j] = quotient(dividend, total[j] if m[j] - m[j] == 0 else np.nan, low[j])
            scale_all(values, n, factors, factors_low)
            store_panel(values, word(task, Y) + first * word(task, Y_ROW), word(task, Y_ROW), rows, n)

    return kernel


def log_panels(T, tempered, finish):
    """The same for short rows."""
    t, p = toolbox(T), panel_toolbox(T, tempered)
    row, scale_of, find_logarithms = t.row, term_steps(T, tempered).scale_of, logarithms(T, PANEL)
    sum_terms, sum_others = p.sum_terms, p.sum_others

    def kernel(task):
        values, totals, peaks = stack(PANEL_BYTES), stack(PANEL_SUMS_BYTES), stack(PANEL_ROW)
        n, count = word(task, N), word(task, ROWS)
        temperature = real(task, TEMPERATURE)
        scale, scale_low, sign = scale_of(temperature)
        m, rest = row(peaks), doubles(totals)
        for first in range(0, count, PANEL):
            rows = min(count - first, PANEL)
            x, y = word(task, X) + first * word(task, X_ROW), word(task, Y) + first * word(task, Y_ROW)
            sum_terms(x, word(task, X_ROW), rows, n, values, peaks, totals, scale, scale_low, sign, NOWHERE)
            sum_others(values, n, totals, rows)
            find_logarithms(rest, m)
            for j in range(rows):
                finish(x + j * word(task, X_ROW), y + j * word(task, Y_ROW), n, m[j], rest[j], temperature, scale)

    return kernel
