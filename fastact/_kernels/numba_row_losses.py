"""The losses of rows of logits that Numba compiles; row_losses.pyx and row_losses.pxi.in have the same for compiled kernels.

Half types and strides go through copies, the rows that a kernel sees are contiguous float32 or float64.
"""

from __future__ import annotations

import functools
import math

import numba
import numpy as np
from numba import types

from .numba_intrinsics import OPTIONS, array_loop, as_kernel, compiled, load, store
from .numba_rows import log1p, toolbox
from .numba_threads import share, team

# A job for the team: addresses (0 for what there is not), steps in bytes, and numbers.
X, GRAD, LABELS, SHARES, SPREAD, SPREAD_ROW, VALUES, N, IGNORE = range(0, 72, 8)
KEEP, SPREAD_SUM, Z_LOSS, GAMMA, FACTOR = range(72, 112, 8)
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
        grad = load(np.int64, job + GRAD)
        for r in range(first, first + count):
            x, to = load(np.int64, job + X) + r * n * size, grad + r * n * size if grad else 0
            target = spread + r * load(np.int64, job + SPREAD_ROW)
            spread_sum, share, label, value = load(np.float64, job + SPREAD_SUM), 0.0, -1, 0.0
            if labels:
                label = load(np.int64, labels + 8 * r)
                share = load(np.float64, shares + 8 * label) if shares and label >= 0 else load(np.float64, job + KEEP)
            else:
                spread_sum, low = sum_kept(target, target, n, zero)
            if labels and label == load(np.int64, job + IGNORE):
                if grad:
                    row(to, n)[:] = zero
            else:
                value = loss(x, to, n, label, share, target, spread_sum, load(np.float64, job + Z_LOSS),
                             load(np.float64, job + GAMMA), load(np.float64, job + FACTOR))  # fmt: skip
            store(np.float64, load(np.int64, job + VALUES) + 8 * r, value)

    return piece


@functools.cache
def _runner():
    @numba.njit(types.void(*[types.intp] * 5), nogil=True, error_model=OPTIONS["error_model"])
    def run(work, job, total, chunk, picoseconds):
        share(work, job, total, chunk, team(picoseconds))

    return run


def run_pieces(work, job, total, chunk, picoseconds):
    """work(job, first, count) for chunks of 0...total, by as many threads as work of that length gets."""
    _runner()(work, job, total, chunk, picoseconds)


def softmax_cross_entropy(logits, target, grad, values, factor, *, shares=None, spread_weight=None, spread=None, spread_sum=0.0,
                          ignore_index=0, keep=1.0, floor=0.0, z_loss=0.0, gamma=0.0):
    """As row_losses.pyx has it: factor times the sum of the losses of rows, along the last axis of logits."""
    n = logits.shape[-1]
    rows = logits.size // n if n else 0
    if rows == 0:
        return 0.0
    T = np.float64 if logits.dtype == np.float64 else np.float32
    x = np.ascontiguousarray(logits, T)
    written, losses = None, np.empty(rows)
    labels = None
    with np.errstate(all="ignore"):
        if target.ndim == logits.ndim:
            spread = T(keep) * np.ascontiguousarray(target, T) + T(floor)
            if spread_weight is not None:
                spread *= spread_weight
        else:
            labels = np.ascontiguousarray(target).astype(np.int64, copy=False)
    if grad is not None:
        written = grad if grad.dtype == T and grad.flags.c_contiguous else np.empty(logits.shape, T)
    arrays = x, written, labels, shares, spread, losses
    addresses = [0 if array is None else array.ctypes.data for array in arrays]
    job = np.zeros(16, np.int64)
    for offset, value in zip((X, GRAD, LABELS, SHARES, SPREAD, VALUES), addresses):
        job[offset // 8] = value
    job[N // 8], job[IGNORE // 8] = n, ignore_index
    job[SPREAD_ROW // 8] = n * x.itemsize if labels is None else 0
    numbers = job.view(np.float64)
    for offset, value in ((KEEP, keep), (SPREAD_SUM, spread_sum), (Z_LOSS, z_loss), (GAMMA, gamma), (FACTOR, factor)):
        numbers[offset // 8] = value
    run_pieces(cross_entropy(T).address, job.ctypes.data, rows, max(1, rows // 64), rows * n * PICOSECONDS * x.itemsize // 4)
    with np.errstate(all="ignore"):
        if written is not grad:
            grad[...] = written
        if values is not None:
            values[...] = losses.reshape(values.shape)
        return float(losses.sum()) * factor


def evaluate(loss, x, target, grad, values, factor, **options):
    """The same for any loss of rows; those that leave little to compile are done by NumPy."""
    if loss == "softmax_cross_entropy":
        return softmax_cross_entropy(x, target, grad, values, factor, **options)
    T = np.float64 if x.dtype == np.float64 else np.float32
    with np.errstate(all="ignore"):
        if target.ndim == x.ndim:
            losses, slopes = _compared(loss, np.asarray(x, T), np.asarray(target, T), options.get("spread_weight"))
        else:
            losses, slopes = _of_labels(loss, x, target, options)
        if grad is not None:
            grad[...] = slopes * T(factor)
        if values is not None:
            values[...] = losses
        return float(losses.sum()) * factor


def _compared(loss, x, t, weight):
    """Losses of rows compared with probabilities, and the derivatives of their terms."""
    t = t if weight is None else t * weight
    p = np.exp(t) if loss == "kl_div_of_logs" else t
    terms = -p * np.log(x) if loss == "categorical_cross_entropy" else p * ((t if p is not t else np.log(t)) - x)
    slopes = -p / x if loss == "categorical_cross_entropy" else -p
    nothing = np.where(np.isnan(x), x, 0)  # 0 log(0) = 0
    return np.where(p == 0, nothing, terms).sum(axis=-1, dtype=np.float64), np.where(p == 0, nothing, slopes)


def _of_labels(loss, x, target, options):
    """Losses that depend on the element of the class alone, and their derivatives."""
    counts = target != options["ignore_index"]
    label = np.where(counts, target, 0)[..., None].astype(np.int64)
    shares = options.get("shares")
    share = np.where(counts, options["keep"] if shares is None else shares[label[..., 0]], 0)
    at = np.take_along_axis(x, label, -1)[..., 0].astype(np.float64)
    logarithm = loss != "nll_loss"
    slopes = np.zeros(x.shape)
    np.put_along_axis(slopes, label, np.where(share == 0, 0, -share / (at if logarithm else 1))[..., None], -1)
    return np.where(share == 0, 0, 0 - share * (np.log(at) if logarithm else at)), slopes


def total_weight(target, classes, ignore_index, weight):
    """The sum of the weights of the rows that count, 1 each if weight is None; IndexError for a class that does not exist."""
    target = target.ravel()
    counts = target != ignore_index
    bad = counts & ((target < 0) | (target >= classes))
    if bad.any():
        row = int(bad.argmax())
        raise IndexError(f"class {target[row]} at row {row} is not one of the {classes} classes")
    return float(np.count_nonzero(counts)) if weight is None else float(weight[target[counts]].sum())


def same_elements(a, b):
    """Whether two arrays of one shape and dtype are the same memory in the same order."""
    return a.ctypes.data == b.ctypes.data and a.strides == b.strides
