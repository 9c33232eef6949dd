"""The losses of rows of logits that Numba compiles; row_losses.pyx and row_losses.pxi.in have the same for compiled kernels.

The rows that a kernel sees are contiguous float32 or float64; those of other types and strides are brought there one by one.
"""

from __future__ import annotations

import functools
import math

import numba
import numpy as np
from numba import types

from . import numba_loss_formulas
from .numba_intrinsics import (
    C_FREE,
    C_MALLOC,
    add_lanes,
    array_loop,
    as_kernel,
    call,
    call_for_word,
    compiled,
    load,
    machine,
    stack,
    store,
)
from .numba_jobs import computed_in, run_pieces, words
from .numba_lazy import need_kernel
from .numba_operands import described, readable, transfer
from .numba_rows import BATCH, BATCH_BYTES, LANES_BYTES, TERMS, TERMS_BYTES, batch_of, doubles, logarithms, toolbox

# A job for the team: addresses (0 for what there is not), those of the words of numba_operands.py (0 for what is direct), whether
# rows need buffers, and where the numbers are. Targets that are probabilities are multiplied by KEEP, raised by FLOOR and weighted.
X, GRAD, SPREAD, X_WORDS, GRAD_WORDS, SPREAD_WORDS, BUFFERED, LABELS, SHARES, WEIGHTS, VALUES, N, IGNORE, NUMBERS = range(0, 112, 8)
LINE = 64
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


@functools.cache
def movers(T):
    """find(job, field, start, buffer): where elements from start on are, or the buffer that is to hold them, 0 for what there is not;
    get(job, field, start, n, buffer) reads them, too, and put(...) writes what the buffer holds.
    """
    size = np.dtype(T).itemsize

    @compiled
    def find(job, field, start, buffer):
        address = load(np.int64, job + field)
        return buffer if load(np.int64, job + X_WORDS + field) else address + start * size if address else 0

    @compiled
    def put(job, field, start, n, buffer):
        words = load(np.int64, job + X_WORDS + field)
        if words:
            transfer(words, start, n, buffer, size)

    @compiled
    def get(job, field, start, n, buffer):
        put(job, field, start, n, buffer)  # the words know which way
        return find(job, field, start, buffer)

    @array_loop
    def scale(target, to, keep, floor):
        as_kernel()
        for i in range(len(to)):
            to[i] = keep * target[i] + floor

    @array_loop
    def weigh(to, weights):
        as_kernel()
        for i in range(len(to)):
            to[i] = to[i] * weights[i]

    row = toolbox(T).row

    @compiled
    def shaped(job, target, first, n, buffer):
        """Targets, elements of their row from first on, as they are compared with."""
        numbers, weights = load(np.int64, job + NUMBERS), load(np.int64, job + WEIGHTS)
        keep, floor = T(load(np.float64, numbers + KEEP)), T(load(np.float64, numbers + FLOOR))
        if keep == 1 and floor == 0 and weights == 0:
            return target
        scale(row(target, n), row(buffer, n), keep, floor)
        if weights:
            weigh(row(buffer, n), row(weights + first * size, n))
        return buffer

    return find, get, put, shaped


@functools.cache
def cross_entropy(T):
    """The loss of some rows, as a piece of work for the team.

    With t the target, T its sum, m the largest logit, s the sum of the other terms exp(x - m), l = log1p(s) and p the
    softmax, the loss is sum(t (m - x)) + T l + z (m + l)^2, and the gradient (T + 2 z (m + l)) p - t. At the largest logit
    p is 1 - s / (1 + s), and the two parts are added separately.
    """
    t = toolbox(T)
    row, largest, sum_of_others, position, scale_by, size = t.row, t.largest, t.sum_of_others, t.find, t.scale_by, t.size
    one, zero, scaling, unscaling, sum_kept, find_logarithms = t.one, t.zero, t.scaling, t.unscaling, t.sum_kept, logarithms(T)
    distance = t.blockwise_sum(compiled(lambda x, s, m: zero if s == zero else s * (m - x)))
    find, get, put, shaped = movers(T)

    @array_loop
    def subtract(y, spread, factor):
        as_kernel()
        for i in range(len(y)):
            y[i] = y[i] - spread[i] * factor

    @array_loop
    def gradient(y, n, spread, share, spread_sum, label, label_is_peak, rest, rise, factor):
        """From the terms that y holds."""
        values, spreads = row(y, n), row(spread if spread else y, n)
        peak = label if label_is_peak else -1
        slope = (share + spread_sum + rise) / (1.0 + rest)
        of_terms = factor * slope * unscaling
        others = spread_sum
        if spread:
            if peak < 0:
                peak = position(y, n, scaling, one)
                others += share
            others -= spreads[peak]
        at_label = zero
        if share != 0.0:
            at_label = T(of_terms * values[label] - factor * (share + (np.float64(spreads[label]) if spread else 0.0)))
        f = T(of_terms)
        scale_by(values, f, T(of_terms - f) if f - f == zero else zero)
        if spread:
            subtract(values, spreads, T(factor))
        if share != 0.0:
            values[label] = at_label
        if peak >= 0:
            values[peak] = T(factor * (others + rise - slope * rest))

    @compiled
    def begin(x, n, m, label, share, spread):
        """What a row's loss is without log1p of the sum; whether the label's logit is the largest."""
        value, label_is_peak = 0.0, False
        if share != 0.0:
            at_label = row(x, n)[label]
            value = share * (np.float64(m) - at_label)
            label_is_peak = at_label == m
        if spread:
            total, low = distance(x, spread, n, m)
            value += total
        return value, label_is_peak

    @array_loop
    def finish(grad, n, m, rest, log_total, value, label, label_is_peak, share, spread, spread_sum, z_loss, gamma, factor):
        if m - m != zero:
            rest = np.nan
        value += (share + spread_sum) * log_total
        if gamma != 0.0 and share != 0.0:
            power, slope = focus(value / share, rest, label_is_peak, gamma)
            value *= power
            share *= slope
        log_total += np.float64(m)
        if grad:
            gradient(grad, n, spread, share, spread_sum, label, label_is_peak, rest, 2.0 * z_loss * log_total, factor)
        return value + z_loss * log_total * log_total

    @compiled
    def class_of(job, r):
        """The class of a row and what it counts, -1 and 0 where targets are probabilities; whether the row does not count."""
        labels, shares = load(np.int64, job + LABELS), load(np.int64, job + SHARES)
        if labels == 0:
            return -1, 0.0, False
        label = load(np.int64, labels + 8 * r)
        share = load(np.float64, shares + 8 * label) if shares and label >= 0 else load(np.float64, load(np.int64, job + NUMBERS) + KEEP)
        return label, share, label == load(np.int64, job + IGNORE)

    @numba.cfunc(types.void(types.intp, types.intp, types.intp), error_model="numpy")
    def piece(job, first, count):
        n, labels, numbers = load(np.int64, job + N), load(np.int64, job + LABELS), load(np.int64, job + NUMBERS)
        peaks, rests, logs, kept = stack(BATCH_BYTES), stack(BATCH_BYTES), stack(BATCH_BYTES), stack(BATCH_BYTES)
        peak_labels, spreads, spread_sums = stack(BATCH_BYTES), stack(BATCH_BYTES), stack(BATCH_BYTES)
        m, rest, log_total, value, spread_sum = (
            row(peaks, BATCH), doubles(rests, BATCH), doubles(logs, BATCH), doubles(kept, BATCH), doubles(spread_sums, BATCH))  # fmt: skip
        row_bytes = (n * size + LINE - 1) & -LINE
        memory, batch = 0, batch_of(n)
        if load(np.int64, job + BUFFERED):
            batch = 1
            memory = call_for_word(C_MALLOC, (3 * row_bytes,))
            if memory == 0:
                need_kernel(-1)
                return
        for start in range(first, first + count, batch):
            m[:], rest[:] = zero, 0.0
            rows = min(batch, first + count - start)
            for k in range(rows):
                label, share, ignored = class_of(job, start + k)
                begins = (start + k) * n
                if ignored:
                    continue
                x = get(job, X, begins, n, memory)
                m[k] = largest(row(x, n), one)
                spread, spread_sum[k] = load(np.int64, job + SPREAD), load(np.float64, numbers + SPREAD_SUM)
                if labels == 0:
                    buffer = memory + 2 * row_bytes
                    spread = shaped(job, get(job, SPREAD, begins, n, buffer), 0, n, buffer)
                    spread_sum[k], low = sum_kept(spread, spread, n, zero)
                store(np.int64, spreads + 8 * k, spread)
                value[k], is_peak = begin(x, n, m[k], label, share, spread)
                store(np.int64, peak_labels + 8 * k, np.int64(is_peak))
            for k in range(rows):
                begins = (start + k) * n
                if not class_of(job, start + k)[2]:
                    grad = find(job, GRAD, begins, memory + row_bytes)
                    rest[k] = sum_of_others(find(job, X, begins, memory), grad, n, m[k], one, zero)
            log_total[:] = rest
            find_logarithms(log_total, m)
            for k in range(rows):
                label, share, ignored = class_of(job, start + k)
                grad, result = find(job, GRAD, (start + k) * n, memory + row_bytes), 0.0
                if not ignored:
                    result = finish(grad, n, m[k], rest[k], log_total[k], value[k], label, load(np.int64, peak_labels + 8 * k) != 0, share,
                                    load(np.int64, spreads + 8 * k), spread_sum[k], load(np.float64, numbers + Z_LOSS),
                                    load(np.float64, numbers + GAMMA), load(np.float64, numbers + FACTOR))  # fmt: skip
                elif grad:
                    row(grad, n)[:] = zero
                put(job, GRAD, (start + k) * n, n, grad)
                store(np.float64, load(np.int64, job + VALUES) + 8 * (start + k), result)
        if memory:
            call(C_FREE, (memory,))

    return piece


@functools.cache
def comparison(loss, T):
    """The same for a loss that compares rows with probabilities."""
    element, t = loss_formulas(T)[loss], toolbox(T)
    row, size, lanes, clear, add_up, zero = t.row, t.size, t.lanes, t.clear, t.add_up, t.zero
    _, get, put, shaped = movers(T)

    @array_loop
    def elements(x, target, value, slope, factor):
        as_kernel()
        for i in range(len(x)):
            v, s = element(x[i], target[i])
            value[i] = v
            slope[i] = s * factor

    @numba.cfunc(types.void(types.intp, types.intp, types.intp), error_model="numpy")
    def piece(job, first, count):
        inputs, targets, values, slopes, totals = (
            stack(TERMS_BYTES), stack(TERMS_BYTES), stack(TERMS_BYTES), stack(TERMS_BYTES), stack(LANES_BYTES))  # fmt: skip
        n, grad = load(np.int64, job + N), load(np.int64, job + GRAD)
        factor = T(load(np.float64, load(np.int64, job + NUMBERS) + FACTOR))
        for r in range(first, first + count):
            clear(totals)
            for i in range(0, n, TERMS):
                m, start = min(n - i, TERMS), r * n + i
                x, target = get(job, X, start, m, inputs), get(job, SPREAD, start, m, targets)
                target = shaped(job, target, i, m, targets)
                elements(row(x, m), row(target, m), row(values, m), row(slopes, m), factor)
                padded = (m + lanes - 1) // lanes * lanes
                row(values + m * size, padded - m)[:] = zero
                add_lanes(T, values, padded, totals)
                put(job, GRAD, start, m, slopes)
                if grad and load(np.int64, job + GRAD_WORDS) == 0:
                    row(grad + start * size, m)[:] = row(slopes, m)
            total, rest = add_up(totals)
            store(np.float64, load(np.int64, job + VALUES) + 8 * r, total)

    return piece


def evaluate(loss, x, target, grad, values, factor, **terms):
    """As row_losses.pyx has it: factor times the sum of the losses of rows, along the last axis of x."""
    if x.size == 0:
        return 0.0
    losses = np.empty(x.size // x.shape[-1])
    labels = None if target.ndim == x.ndim else np.ascontiguousarray(target).astype(np.int64, copy=False).ravel()
    with np.errstate(all="ignore"):
        if loss != "softmax_cross_entropy" and labels is not None:
            _at_labels(loss != "nll_loss", x, labels, grad, losses, factor, **terms)
        else:
            _by_rows(loss, x, target, labels, grad, losses, factor, **terms)
        if values is not None:
            values[...] = losses.reshape(values.shape)
        return float(losses.sum()) * factor


def _at_labels(logarithm, x, labels, grad, losses, factor, *, shares=None, keep=1.0, ignore_index=0, **_):
    """Losses that read nothing but the element of the row's class."""
    x = np.atleast_2d(x)
    counts = labels != ignore_index
    if shares is not None:
        counts[counts] = shares[labels[counts]] != 0
    rows, columns = np.flatnonzero(counts), labels[counts]
    elements = *np.unravel_index(rows, x.shape[:-1]), columns
    value = x[elements].astype(np.float64)
    share_of = keep if shares is None else shares[columns]
    losses[...] = 0
    losses[rows] = 0 - share_of * (np.log(value) if logarithm else value)
    if grad is not None:
        grad[...] = 0
        np.atleast_2d(grad)[elements] = np.asarray(-share_of * factor / (value if logarithm else 1.0), computed_in(x.dtype))


def _by_rows(loss, x, target, labels, grad, losses, factor, *, shares=None, spread_weight=None, spread=None, spread_sum=0.0,
             ignore_index=0, keep=1.0, floor=0.0, z_loss=0.0, gamma=0.0):
    n, T = x.shape[-1], computed_in(x.dtype)
    if labels is None:
        spread = readable(target)
    numbers = np.array((keep, floor, spread_sum, z_loss, gamma, factor))
    operands = described(x, T), described(grad, T, writing=True), described(spread, T)
    buffered = any(words is not None for words in operands) or labels is None and (keep != 1 or floor != 0 or spread_weight is not None)
    job = words(x, grad, spread, *operands, int(buffered), labels, shares, spread_weight, losses, n, ignore_index, numbers)
    work = cross_entropy(T) if loss == "softmax_cross_entropy" else comparison(loss, T)
    run_pieces(work, job, len(losses), max(1, len(losses) // 64), x.size * PICOSECONDS * np.dtype(T).itemsize // 4)


def total_weight(target, classes, ignore_index, weight):
    """The sum of the weights of the rows that count, 1 each if weight is None; IndexError for a class that does not exist."""
    target = target.ravel()
    if weight is None and target.size and not 0 <= ignore_index < classes and 0 <= target.min() and target.max() < classes:
        return float(target.size)
    counts = target != ignore_index
    bad = counts & ((target < 0) | (target >= classes))
    if bad.any():
        row = int(bad.argmax())
        raise IndexError(f"class {target[row]} at row {row} is not one of the {classes} classes")
    return float(np.count_nonzero(counts)) if weight is None else float(weight[target[counts]].sum())
