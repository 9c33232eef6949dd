"""The losses of rows of logits that Numba compiles; row_losses.pyx and row_losses.pxi.in have the same for compiled kernels.

Half types and strides go through copies, the rows that a kernel sees are contiguous float32 or float64.
"""

from __future__ import annotations

import functools
import math

import numba
import numpy as np
from numba import types

from . import numba_loss_formulas
from .numba_intrinsics import add_lanes, array_loop, as_kernel, compiled, load, machine, stack, store
from .numba_jobs import computed_in, contiguous, run_pieces, words
from .numba_rows import LANES_BYTES, TERMS, TERMS_BYTES, log1p, toolbox

# A job for the team: addresses (0 for what there is not), steps in bytes, and where the numbers are.
X, GRAD, LABELS, SHARES, SPREAD, SPREAD_ROW, VALUES, N, IGNORE, NUMBERS = range(0, 80, 8)
KEEP, SPREAD_SUM, Z_LOSS, GAMMA, FACTOR = range(0, 40, 8)
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
def cross_entropy(T):
    """The loss of some rows, as a piece of work for the team.

    With t the target, T its sum, m the largest logit, s the sum of the other terms exp(x - m), l = log1p(s) and p the
    softmax, the loss is sum(t (m - x)) + T l + z (m + l)^2, and the gradient (T + 2 z (m + l)) p - t. At the largest logit
    p is 1 - s / (1 + s), and the two parts are added separately.
    """
    t = toolbox(T)
    row, largest, sum_of_others, find, scale_by, size = t.row, t.largest, t.sum_of_others, t.find, t.scale_by, t.size
    one, zero, scaling, unscaling, sum_kept, logarithm = t.one, t.zero, t.scaling, t.unscaling, t.sum_kept, log1p()
    distance = t.blockwise_sum(compiled(lambda x, s, m: zero if s == zero else s * (m - x)))

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
                peak = find(y, n, scaling, one)
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

    @array_loop
    def loss(x, grad, n, label, share, spread, spread_sum, z_loss, gamma, factor):
        m = largest(row(x, n), one)
        peak, value, label_is_peak = np.float64(m), 0.0, False
        if share != 0.0:
            at_label = row(x, n)[label]
            value = share * (peak - at_label)
            label_is_peak = at_label == m
        if spread:
            total, low = distance(x, spread, n, m)
            value += total
        rest = sum_of_others(x, grad, n, m, one, zero)
        if m - m != zero:
            rest = np.nan
        log_total = logarithm(rest)
        value += (share + spread_sum) * log_total
        if gamma != 0.0 and share != 0.0:
            power, slope = focus(value / share, rest, label_is_peak, gamma)
            value *= power
            share *= slope
        log_total += peak
        if grad:
            gradient(grad, n, spread, share, spread_sum, label, label_is_peak, rest, 2.0 * z_loss * log_total, factor)
        return value + z_loss * log_total * log_total

    @numba.cfunc(types.void(types.intp, types.intp, types.intp), error_model="numpy")
    def piece(job, first, count):
        n, labels = load(np.int64, job + N), load(np.int64, job + LABELS)
        shares, spread = load(np.int64, job + SHARES), load(np.int64, job + SPREAD)
        grad, numbers = load(np.int64, job + GRAD), load(np.int64, job + NUMBERS)
        for r in range(first, first + count):
            x, to = load(np.int64, job + X) + r * n * size, grad + r * n * size if grad else 0
            target = spread + r * load(np.int64, job + SPREAD_ROW)
            spread_sum, share, label, value = load(np.float64, numbers + SPREAD_SUM), 0.0, -1, 0.0
            if labels:
                label = load(np.int64, labels + 8 * r)
                share = load(np.float64, shares + 8 * label) if shares and label >= 0 else load(np.float64, numbers + KEEP)
            else:
                spread_sum, low = sum_kept(target, target, n, zero)
            if labels and label == load(np.int64, job + IGNORE):
                if grad:
                    row(to, n)[:] = zero
            else:
                value = loss(x, to, n, label, share, target, spread_sum, load(np.float64, numbers + Z_LOSS),
                             load(np.float64, numbers + GAMMA), load(np.float64, numbers + FACTOR))  # fmt: skip
            store(np.float64, load(np.int64, job + VALUES) + 8 * r, value)

    return piece


@functools.cache
def comparison(loss, T):
    """The same for a loss that compares rows with probabilities."""
    element, t = loss_formulas(T)[loss], toolbox(T)
    row, size, lanes, clear, add_up, zero = t.row, t.size, t.lanes, t.clear, t.add_up, t.zero

    @array_loop
    def elements(x, target, value, slope, factor):
        as_kernel()
        for i in range(len(x)):
            v, s = element(x[i], target[i])
            value[i] = v
            slope[i] = s * factor

    @numba.cfunc(types.void(types.intp, types.intp, types.intp), error_model="numpy")
    def piece(job, first, count):
        values, slopes, totals = stack(TERMS_BYTES), stack(TERMS_BYTES), stack(LANES_BYTES)
        n, grad = load(np.int64, job + N), load(np.int64, job + GRAD)
        factor = T(load(np.float64, load(np.int64, job + NUMBERS) + FACTOR))
        for r in range(first, first + count):
            x, target = load(np.int64, job + X) + r * n * size, load(np.int64, job + SPREAD) + r * n * size
            clear(totals)
            for i in range(0, n, TERMS):
                m = min(n - i, TERMS)
                elements(row(x + i * size, m), row(target + i * size, m), row(values, m), row(slopes, m), factor)
                padded = (m + lanes - 1) // lanes * lanes
                row(values + m * size, padded - m)[:] = zero
                add_lanes(T, values, padded, totals)
                if grad:
                    row(grad + (r * n + i) * size, m)[:] = row(slopes, m)
            total, rest = add_up(totals)
            store(np.float64, load(np.int64, job + VALUES) + 8 * r, total)

    return piece


def evaluate(loss, x, target, grad, values, factor, **terms):
    """As row_losses.pyx has it: factor times the sum of the losses of rows, along the last axis of x."""
    n = x.shape[-1]
    if x.size == 0:
        return 0.0
    rows = x.size // n
    T = computed_in(x.dtype)
    x = contiguous(x, T)
    written = grad if grad is None or grad.dtype == T and grad.flags.c_contiguous else np.empty(x.shape, T)
    losses = np.empty(rows)
    labels = None if target.ndim == x.ndim else np.ascontiguousarray(target).astype(np.int64, copy=False).ravel()
    with np.errstate(all="ignore"):
        if loss != "softmax_cross_entropy" and labels is not None:
            _at_labels(loss != "nll_loss", x.reshape(rows, n), labels, written, losses, factor, **terms)
        else:
            _by_rows(loss, x, target, labels, written, losses, factor, **terms)
        if written is not grad:
            grad[...] = written
        if values is not None:
            values[...] = losses.reshape(values.shape)
        return float(losses.sum()) * factor


def _at_labels(logarithm, x, labels, grad, losses, factor, *, shares=None, keep=1.0, ignore_index=0, **_):
    """Losses that read nothing but the element of the row's class."""
    counts = labels != ignore_index
    if shares is not None:
        counts[counts] = shares[labels[counts]] != 0
    rows, columns = np.flatnonzero(counts), labels[counts]
    value = x[rows, columns].astype(np.float64)
    share_of = keep if shares is None else shares[columns]
    losses[...] = 0
    losses[rows] = 0 - share_of * (np.log(value) if logarithm else value)
    if grad is not None:
        grad[...] = 0
        grad.reshape(x.shape)[rows, columns] = -share_of * factor / (value if logarithm else 1.0)


def _by_rows(loss, x, target, labels, grad, losses, factor, *, shares=None, spread_weight=None, spread=None, spread_sum=0.0,
             ignore_index=0, keep=1.0, floor=0.0, z_loss=0.0, gamma=0.0):
    n, T = x.shape[-1], x.dtype.type
    if labels is None:
        spread = np.ascontiguousarray(target, T)
        if loss == "softmax_cross_entropy":
            spread = T(keep) * spread + T(floor)
        if spread_weight is not None:
            spread = spread * spread_weight
    numbers = np.array((keep, spread_sum, z_loss, gamma, factor))
    step = n * x.itemsize if labels is None else 0
    job = words(x, grad, labels, shares, spread, step, losses, n, ignore_index, numbers)
    work = cross_entropy(T) if loss == "softmax_cross_entropy" else comparison(loss, T)
    run_pieces(work, job, len(losses), max(1, len(losses) // 64), x.size * PICOSECONDS * x.itemsize // 4)


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
