"""The losses of rows of logits that Numba compiles; row_losses.pyx and row_losses.pxi.in have the same for compiled kernels.

The rows that a kernel sees are contiguous float32 or float64; those of other types and strides are brought there one by one.
"""

from __future__ import annotations

import functools
import math
from array import array

import numpy as np

from . import numba_loss_formulas
from .numba_intrinsics import (
    C_FREE,
    C_MALLOC,
    array_loop,
    as_kernel,
    assign,
    call,
    call_for_word,
    called_from_python,
    compiled,
    doubles,
    entry,
    fence,
    fill,
    keep,
    machine,
    real,
    routine,
    stack,
    stream_line,
    word,
)
from .numba_jobs import address, computed_in, words
from .numba_lazy import need_kernel
from .numba_operands import exceeds_cache, lies_so, placed, placed_result, readable, transfer_rows
from .numba_panels import PANEL_BYTES, PANEL_ROW, PANEL_SUMS_BYTES, panel_toolbox
from .numba_row_steps import (
    BATCH,
    BATCH_BYTES,
    LANES_BYTES,
    NOWHERE,
    PANEL,
    SHORT,
    TERMS,
    TERMS_BYTES,
    ahead_of,
    batch_of,
    logarithms,
    term_steps,
    toolbox,
)
from .numba_threads import share, team

# A job for the team: addresses (0 for what there is not), those of the words of numba_operands.py (0 for what is direct), the bytes
# of a row, where the numbers are, and the work that is done for some rows. SPREAD are targets that are probabilities, or
# what is subtracted from every gradient beside its label. Targets that are probabilities are multiplied by KEEP, raised by FLOOR
# and weighted.
X, GRAD, SPREAD, X_WORDS, GRAD_WORDS, SPREAD_WORDS, ROW, LABELS, SHARES, WEIGHTS, VALUES, N, IGNORE, NUMBERS, WORK = range(0, 120, 8)
LINE, GROUP = 64, 16384  # elements that are brought into contiguous rows at a time
LONG_ROW = 3072  # bytes, as in operands.pyx
KEEP, FLOOR, SPREAD_SUM, Z_LOSS, GAMMA, FACTOR = range(0, 48, 8)
loss_formulas = functools.cache(lambda T: numba_loss_formulas.formulas(T, machine(T)))
PICOSECONDS = 500
"""What an element costs."""


@compiled
def focus(surprise, rest, is_peak, gamma):
    """(1 - p)^gamma, by which the focal loss multiplies -log(p) = surprise, and what it multiplies the gradient by."""
    p = math.exp(-surprise)
    q = rest / (1.0 + rest) if is_peak else 1.0 - p
    power = q**gamma
    return power, power if p == 0.0 else power * (1.0 + gamma * p * (surprise / q if q > 0.0 else 1.0))


@compiled
def settle(value, share, spread_sum, m, rest, log_total, is_peak, numbers):
    """The loss of a row, from what it is without log1p of the sum; the label's share, and what z_loss adds, in the gradient."""
    z_loss, gamma = real(numbers, Z_LOSS), real(numbers, GAMMA)
    value += (share + spread_sum) * log_total
    if gamma != 0.0 and share != 0.0:
        power, slope = focus(value / share, rest, is_peak, gamma)
        value *= power
        share *= slope
    log_total += np.float64(m)
    return value + z_loss * log_total * log_total, share, 2.0 * z_loss * log_total


@compiled
def class_of(job, r):
    """The class of a row and what it counts, -1 and 0 where targets are probabilities; whether the row does not count."""
    labels, shares = word(job, LABELS), word(job, SHARES)
    if labels == 0:
        return -1, 0.0, False
    label = word(labels, 8 * r)
    share = real(shares, 8 * label) if shares and label >= 0 else real(word(job, NUMBERS), KEEP)
    return label, share, label == word(job, IGNORE)


@functools.cache
def direct_rows():
    """A piece of work for the team: the job's work(job, first, count, n, x, target, grad), the last three being the addresses of rows
    that follow each other, or 0 where there are none.
    """

    @routine
    def find(job, field, first):
        address = word(job, field)
        return address + first * word(job, ROW) if address else 0

    @entry
    def piece(job, first, count):
        x, target, grad = find(job, X, first), word(job, SPREAD), find(job, GRAD, first)
        if word(job, LABELS) == 0:
            target = find(job, SPREAD, first)
        # By its address: together with each of the losses this would be compiled once more.
        call(word(job, WORK), (job, first, count, word(job, N), x, target, grad))

    return piece


@functools.cache
def buffered_rows(T):
    """The same where some of them must be brought there, a group at a time."""
    size, row = np.dtype(T).itemsize, toolbox(T).row

    @compiled
    def find(job, field, first, n, buffer):
        address = word(job, field)
        return buffer if word(job, X_WORDS + field) else address + first * n * size if address else 0

    @compiled
    def move(job, field, first, rows, n, buffer):
        """To the buffer or back: the words know which way."""
        words = word(job, X_WORDS + field)
        if words:
            transfer_rows(words, first, rows, n, buffer, size)

    @array_loop
    def scale(target, to, n, keep, floor):
        as_kernel()
        for i in range(n):
            to[i] = keep * target[i] + floor

    @array_loop
    def weigh(to, weights, n):
        as_kernel()
        for i in range(n):
            to[i] = to[i] * weights[i]

    @compiled
    def shaped(job, target, rows, n, buffer):
        """Targets as they are compared with."""
        numbers, weights = word(job, NUMBERS), word(job, WEIGHTS)
        keep, floor = T(real(numbers, KEEP)), T(real(numbers, FLOOR))
        if keep == 1 and floor == 0 and weights == 0:
            return target
        scale(row(target), row(buffer), rows * n, keep, floor)
        for r in range(rows if weights else 0):
            weigh(row(buffer + r * n * size), row(weights), n)
        return buffer

    @entry
    def piece(job, first, count):
        n = word(job, N)
        group = min(count, max(BATCH, GROUP // n))
        buffer = (group * n * size + LINE - 1) & -LINE
        memory = call_for_word(C_MALLOC, (3 * buffer,))
        if memory == 0:
            need_kernel(-1)
            return
        for start in range(first, first + count, group):
            rows = min(group, first + count - start)
            move(job, X, start, rows, n, memory)
            target = word(job, SPREAD)
            if word(job, LABELS) == 0:
                move(job, SPREAD, start, rows, n, memory + 2 * buffer)
                target = shaped(job, find(job, SPREAD, start, n, memory + 2 * buffer), rows, n, memory + 2 * buffer)
            grad = find(job, GRAD, start, n, memory + buffer)
            call(word(job, WORK), (job, start, rows, n, find(job, X, start, n, memory), target, grad))
            move(job, GRAD, start, rows, n, memory + buffer)
        call(C_FREE, (memory,))
        fence()

    return piece


@functools.cache
def cross_entropy(T, spreading):
    """The loss of some rows, as `direct_rows` calls it; ``spreading`` if targets are probabilities, or are subtracted as those would be.

    With t the target, T its sum, m the largest logit, s the sum of the other terms exp(x - m), l = log1p(s) and p the
    softmax, the loss is sum(t (m - x)) + T l + z (m + l)^2, and the gradient (T + 2 z (m + l)) p - t. At the largest logit
    p is 1 - s / (1 + s), and the two parts are added separately.
    """
    t = toolbox(T)
    row, largest, sum_of_others, position, scale_by, size = t.row, t.largest, term_steps(T, False).sum_of_others, t.find, t.scale_by, t.size
    one, zero, scaling, unscaling, sum_kept, low_part = t.one, t.zero, t.scaling, t.unscaling, t.sum_kept, t.low_part
    find_logarithms = logarithms(T, BATCH)
    distance = t.blockwise_sum(compiled(lambda x, s, m: zero if s == zero else s * (m - x)))

    @array_loop
    def subtract(y, spread, n, factor):
        as_kernel()
        for i in range(n):
            y[i] = y[i] - spread[i] * factor

    @array_loop
    def gradient(y, n, spread, share, spread_sum, label, label_is_peak, rest, rise, factor):
        """From the terms that y holds."""
        values, spreads = row(y), row(spread)
        peak = label if label_is_peak else -1
        slope = (share + spread_sum + rise) / (1.0 + rest)
        of_terms = factor * slope * unscaling
        others = spread_sum
        if spreading:
            if peak < 0:
                peak = position(y, n, scaling, one)
                others += share
            others -= spreads[peak]
            if 2.0 * others > share + spread_sum:
                peak = -1
        at_label = zero
        if share != 0.0:
            at_label = T(of_terms * values[label] - factor * (share + (np.float64(spreads[label]) if spreading else 0.0)))
        scale_by(y, n, T(of_terms), low_part(of_terms))
        if spreading:
            subtract(values, spreads, n, T(factor))
        if share != 0.0:
            values[label] = at_label
        if peak >= 0:
            values[peak] = T(factor * (others + rise - slope * rest))

    @compiled
    def begin(x, n, m, label, share, spread):
        """What a row's loss is without log1p of the sum; whether the label's logit is the largest."""
        value, label_is_peak = 0.0, False
        if share != 0.0:
            at_label = row(x)[label]
            value = share * (np.float64(m) - at_label)
            label_is_peak = at_label == m
        if spreading:
            total, low = distance(x, spread, n, m)
            value += total
        return value, label_is_peak

    @array_loop
    def finish(grad, n, m, rest, log_total, value, label, label_is_peak, share, spread, spread_sum, numbers):
        if m - m != zero:
            rest = np.nan
        value, share, rise = settle(value, share, spread_sum, m, rest, log_total, label_is_peak, numbers)
        if grad:
            gradient(grad, n, spread, share, spread_sum, label, label_is_peak, rest, rise, real(numbers, FACTOR))
        return value

    @entry
    def work(job, first, count, n, x, target, grad):
        labels, numbers, batch = word(job, LABELS), word(job, NUMBERS), batch_of(n)
        peaks, rests, logs, kept = stack(BATCH_BYTES), stack(BATCH_BYTES), stack(BATCH_BYTES), stack(BATCH_BYTES)
        peak_labels, spread_sums = stack(BATCH_BYTES), stack(BATCH_BYTES)
        m, rest, log_total, value, spread_sum = (
            row(peaks), doubles(rests), doubles(logs), doubles(kept), doubles(spread_sums))  # fmt: skip
        row_bytes = n * size
        spread_row = 0 if labels else row_bytes
        for start in range(0, count, batch):
            fill(m, zero, BATCH)
            fill(rest, 0.0, BATCH)
            rows = min(batch, count - start)
            for k in range(rows):
                label, share, ignored = class_of(job, first + start + k)
                if ignored:
                    continue
                row_of_x, spread = x + (start + k) * row_bytes, target + (start + k) * spread_row
                m[k] = largest(row_of_x, n, one)
                spread_sum[k] = real(numbers, SPREAD_SUM)
                if spreading and labels == 0:
                    spread_sum[k], low = sum_kept(spread, spread, n, zero)
                value[k], is_peak = begin(row_of_x, n, m[k], label, share, spread)
                keep(peak_labels, 8 * k, is_peak)
            ahead = ahead_of(n, row_bytes, count - start)
            for k in range(rows):
                label, share, ignored = class_of(job, first + start + k)
                if not ignored:
                    terms = grad + (start + k) * row_bytes if grad else 0
                    rest[k] = sum_of_others(x + (start + k) * row_bytes, terms, n, m[k], one, zero, ahead)
            assign(log_total, rest, BATCH)
            find_logarithms(log_total, m)
            for k in range(rows):
                label, share, ignored = class_of(job, first + start + k)
                slopes, result = grad + (start + k) * row_bytes if grad else 0, 0.0
                if not ignored:
                    result = finish(slopes, n, m[k], rest[k], log_total[k], value[k], label, word(peak_labels, 8 * k) != 0, share,
                                    target + (start + k) * spread_row, spread_sum[k], numbers)  # fmt: skip
                elif slopes:
                    fill(row(slopes), zero, n)
                keep(word(job, VALUES), 8 * (first + start + k), result)

    return work


@functools.cache
def cross_entropy_of_panels(T):
    """The same for short rows, side by side, whose targets are classes."""
    t, p = toolbox(T), panel_toolbox(T, False)
    row, size, zero, one, unscaling, low_part, find_logarithms = t.row, t.size, t.zero, t.one, t.unscaling, t.low_part, logarithms(T, PANEL)
    sum_terms, sum_others, scale_all, store_panel = p.sum_terms, p.sum_others, p.scale_all, p.store_panel

    @entry
    def work(job, first, count, n, x, target, grad):
        values, totals, peaks, logs = stack(PANEL_BYTES), stack(PANEL_SUMS_BYTES), stack(PANEL_ROW), stack(PANEL_ROW)
        factors, factors_low, ends, places = stack(PANEL_ROW), stack(PANEL_ROW), stack(PANEL_ROW), stack(PANEL_ROW)
        m, rest, log_total, f, f_low, at_label, panel = (
            row(peaks), doubles(totals), doubles(logs), row(factors), row(factors_low), row(ends), row(values))  # fmt: skip
        numbers, row_bytes = word(job, NUMBERS), n * size
        factor = real(numbers, FACTOR)
        for start in range(0, count, PANEL):
            rows = min(count - start, PANEL)
            logits = x + start * row_bytes
            sum_terms(logits, row_bytes, rows, n, values, peaks, totals, one, zero, one, NOWHERE)
            sum_others(values, n, totals, rows)
            assign(log_total, rest, PANEL)
            find_logarithms(log_total, m)
            for j in range(rows):
                label, share, ignored = class_of(job, first + start + j)
                result, place = 0.0, j
                f[j] = f_low[j] = at_label[j] = zero
                if ignored:
                    for i in range(n):
                        panel[i * PANEL + j] = zero
                else:
                    place += label * PANEL
                    logit = row(logits + j * row_bytes)[label]
                    is_peak, kept = logit == m[j], panel[place]
                    result = share * (np.float64(m[j]) - logit) if share != 0.0 else 0.0
                    result, share, rise = settle(result, share, 0.0, m[j], rest[j], log_total[j], is_peak, numbers)
                    slope = (share + rise) / (1.0 + rest[j]) if m[j] - m[j] == 0 else np.nan
                    of_terms = factor * slope * unscaling
                    f[j] = T(of_terms)
                    f_low[j] = low_part(of_terms)
                    at_label[j] = T(factor * (rise - slope * rest[j]) if is_peak else of_terms * kept - factor * share)
                keep(places, 8 * j, place)
                keep(word(job, VALUES), 8 * (first + start + j), result)
            if grad:
                scale_all(values, n, factors, factors_low)
                for j in range(rows):
                    panel[word(places, 8 * j)] = at_label[j]
                store_panel(values, grad + start * row_bytes, row_bytes, rows, n)

    return work


@functools.cache
def comparison(loss, T):
    """The same for a loss that compares rows with probabilities; short ones go through the formula several at a time."""
    element, t = loss_formulas(T)[loss], toolbox(T)
    row, size, clear, add_all, add_up = t.row, t.size, t.clear, t.add_all, t.add_up

    @array_loop
    def elements(x, target, value, slope, n, factor):
        as_kernel()
        for i in range(n):
            v, s = element(x[i], target[i])
            value[i] = v
            slope[i] = s * factor

    @entry
    def work(job, first, count, n, x, target, grad):
        values, slopes, totals = stack(TERMS_BYTES), stack(TERMS_BYTES), stack(LANES_BYTES)
        sums, factor = word(job, VALUES), T(real(word(job, NUMBERS), FACTOR))
        together = max(1, TERMS // n)
        for start in range(0, count, together):
            rows = min(together, count - start)
            for i in range(0, n, TERMS):
                m, offset = min(n - i, TERMS), (start * n + i) * size
                to = grad + offset if grad else slopes
                elements(row(x + offset), row(target + offset), row(values), row(to), rows * m, factor)
                for r in range(rows):
                    if i == 0:
                        clear(totals)
                    add_all(values + r * m * size, m, totals)
                    if i + m == n:
                        keep(sums, 8 * (first + start + r), add_up(totals)[0])

    return work


@functools.cache
def at_labels(logarithm, past_cache, T):
    """The same for a loss that reads nothing but the element of the row's class, or its logarithm.

    ``past_cache``: that is where the zeros of the gradient go, but for the line of the class.
    """
    row, size, zero = toolbox(T).row, np.dtype(T).itemsize, T(0)

    @compiled
    def clear(grad, n, label):
        zeros, line, end = stack(LINE), (grad + LINE - 1) & -LINE, grad + n * size
        fill(row(zeros), zero, LINE // size)
        fill(row(grad), zero, (line - grad) // size)
        while line + LINE <= end:
            if line <= grad + label * size < line + LINE:
                fill(row(line), zero, LINE // size)
            else:
                stream_line(line, zeros)
            line += LINE
        fill(row(line), zero, (end - line) // size)

    @entry
    def work(job, first, count, n, x, target, grad):
        elements, factor = stack(PANEL_ROW), real(word(job, NUMBERS), FACTOR)
        value = doubles(elements)
        for start in range(0, count, PANEL):
            rows, group = min(count - start, PANEL), start * n * size
            for r in range(rows):  # all at once, as each is on a cache line of its own, and before a gradient takes their place
                label, share, ignored = class_of(job, first + start + r)
                value[r] = row(x + group)[r * n + (0 if ignored else label)]
            if grad and not past_cache:
                fill(row(grad + group), zero, rows * n)
            for r in range(rows):
                label, share, ignored = class_of(job, first + start + r)
                result = 0.0
                if grad and past_cache:
                    clear(grad + group + r * n * size, n, label)
                if not ignored and share != 0.0:
                    result = 0.0 - share * (math.log(value[r]) if logarithm else value[r])
                    if grad:
                        row(grad + group)[r * n + label] = T(-share * factor / (value[r] if logarithm else 1.0))
                keep(word(job, VALUES), 8 * (first + start + r), result)
        if past_cache:
            fence()

    return work


def evaluate(loss, x, target, grad, values, factor, **terms):
    """As row_losses.pyx has it: factor times the sum of the losses of rows, along the last axis of x."""
    if x.size == 0:
        return 0.0
    losses = np.empty(x.size // x.shape[-1])
    labels = None if target.ndim == x.ndim else np.ascontiguousarray(target, np.int64)
    at_label = loss != "softmax_cross_entropy" and labels is not None
    if at_label and not all(array is None or lies_so(array, computed_in(x.dtype)) for array in (x, grad)):
        _elements_at_labels(loss != "nll_loss", x, labels.ravel(), grad, losses, factor, **terms)
        total = _totaller()(0, 0, address(losses), losses.size, 1, 0)
    else:
        total = _by_rows(loss, x, target, labels, grad, losses, factor, **terms)
    if values is not None:
        with np.errstate(all="ignore"):
            values[...] = losses.reshape(values.shape)
    return total * factor


def _elements_at_labels(logarithm, x, labels, grad, losses, factor, *, shares=None, keep=1.0, ignore_index=0, **_):
    """What at_labels does, for arrays of any type and strides."""
    x = np.atleast_2d(x)
    counts = labels != ignore_index
    if shares is not None:
        counts[counts] = shares[labels[counts]] != 0
    rows, columns = np.flatnonzero(counts), labels[counts]
    elements = *np.unravel_index(rows, x.shape[:-1]), columns
    value = x[elements].astype(np.float64)
    share_of = keep if shares is None else shares[columns]
    losses[...] = 0
    with np.errstate(all="ignore"):
        losses[rows] = 0 - share_of * (np.log(value) if logarithm else value)
        if grad is not None:
            grad[...] = 0
            np.atleast_2d(grad)[elements] = np.asarray(-share_of * factor / (value if logarithm else 1.0), computed_in(x.dtype))


def _by_rows(loss, x, target, labels, grad, losses, factor, *, shares=None, spread_weight=None, spread=None, spread_sum=0.0,
             ignore_index=0, keep=1.0, floor=0.0, z_loss=0.0, gamma=0.0):
    n, T = x.shape[-1], computed_in(x.dtype)
    if labels is None:
        spread = readable(target, T)
    numbers = array("d", (keep, floor, spread_sum, z_loss, gamma, factor))
    panels = at_label = False
    if loss == "softmax_cross_entropy":
        panels = labels is not None and spread is None and n < SHORT
        work = cross_entropy_of_panels(T) if panels else cross_entropy(T, spread is not None)
    elif labels is None:
        work = comparison(loss, T)
    else:
        past_cache = exceeds_cache(grad, [x]) and n * np.dtype(T).itemsize >= LONG_ROW
        work, at_label = at_labels(loss != "nll_loss", past_cache, T), True
    result = placed(grad, T, True) if at_label else placed_result(grad, T, [x])
    wheres, operands = zip(placed(x, T), result, placed(spread, T))
    buffered = operands != (None, None, None) or labels is None and (keep != 1 or floor != 0 or spread_weight is not None)
    job = words(*wheres, *operands, n * np.dtype(T).itemsize, labels, shares, spread_weight, losses, n, ignore_index, numbers, work.address)
    piece = buffered_rows(T) if buffered else direct_rows()
    chunk, picoseconds = max(PANEL if panels else 1, len(losses) // 64), x.size * PICOSECONDS * np.dtype(T).itemsize // 4
    return _totaller()(piece.address, address(job), address(losses), len(losses), chunk, picoseconds)


@functools.cache
def _totaller():
    wide = toolbox(np.float64)
    clear, add_all, add_up = wide.clear, wide.add_all, wide.add_up

    @called_from_python
    def total(work, job, losses, rows, chunk, picoseconds) -> float:
        """The work on all rows, unless it is 0, and the sum of their losses."""
        if work:
            share(work, job, rows, chunk, team(picoseconds))
        totals = stack(LANES_BYTES)
        clear(totals)
        add_all(losses, rows, totals)
        return add_up(totals)[0]

    return total


@functools.cache
def _counter():
    @called_from_python
    def count(labels, rows, classes, ignore_index) -> int:
        """How many of the labels count; -1 if one of those is no class."""
        kept, bad = 0, 0
        for r in range(rows):
            label = word(labels, 8 * r)
            counts = np.int64(label != ignore_index)
            kept += counts
            bad += counts & np.int64((label < 0) | (label >= classes))
        return -1 if bad else kept

    return count


def total_weight(target, classes, ignore_index, weight):
    """The sum of the weights of the rows that count, 1 each if weight is None; IndexError for a class that does not exist."""
    if weight is None and target.dtype == np.int64:
        kept = _counter()(address(target), target.size, classes, ignore_index)
        if kept >= 0:
            return float(kept)
    target = target.ravel()
    counts = target != ignore_index
    bad = counts & ((target < 0) | (target >= classes))
    if bad.any():
        row = int(bad.argmax())
        raise IndexError(f"class {target[row]} at row {row} is not one of the {classes} classes")
    return float(np.count_nonzero(counts)) if weight is None else float(weight[target[counts]].sum())
