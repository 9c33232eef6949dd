"""Softmax cross-entropy of a linear layer, chunk by chunk: the whole matrix of logits never exists."""

from __future__ import annotations

import math
import operator

import numpy as np

from .losses import as_input, gradient_of, output_like, plain, register, rounded, same_elements
from .row_losses import as_target, computed_in, cross_entropy_terms, kernels

__all__ = ["linear_softmax_cross_entropy"]

# NumPy's matrix products and the loss's kernel have a pool of threads each, which wait for work by spinning for some
# milliseconds and then are in the other's way. So chunks are large; smaller ones, which would stay in the last-level
# cache, take up to three times as long.
CHUNK_BYTES = 64 << 20
"""Of the logits of a chunk."""
FEWEST_ROWS = 256
"""Of a chunk: with 128, matrix products are slower by a quarter."""
CLASSES = 4096
"""For which the gradient of the weight is found at a time, to be added to that of the chunks before."""


@register
def linear_softmax_cross_entropy(x, weight, target, bias=None, *, class_weight=None, ignore_index=-100, label_smoothing=0.0,
                                 z_loss=0.0, reduction="mean", chunk=None):
    """Cross-entropy between a target and the softmax of ``x @ weight.T + bias``, in little memory.

    Parameters
    ----------
    x : array_like of shape (..., features)
        float16, bfloat16, float32, float64, or integers, which follow the rule of ``np.exp``.
    weight : array_like of shape (classes, features)
    target : array_like
        Either classes, of any integer dtype and shape (...), or probabilities, of shape (..., classes).
    bias : array_like of shape (classes,), optional
    class_weight : array_like of shape (classes,), optional
        How much each class counts: the ``weight`` of `softmax_cross_entropy`.
    ignore_index, label_smoothing, z_loss, reduction
        As for `softmax_cross_entropy`. Rows that are ignored cost nothing, whatever they hold.
    chunk : int, optional
        How many rows are computed at a time. By default their logits take 64 MiB, but there are at least 256 of them.

    Returns
    -------
    scalar or ndarray
        Of the dtype that the logits would have; for "none" an array of the losses of the rows.

    Raises
    ------
    IndexError
        If a class does not exist.
    ValueError
        If shapes do not fit, or an option is not one of the above.
    TypeError
        If arrays are complex or no numbers, or classes no integers.

    See Also
    --------
    linear_softmax_cross_entropy.value_and_grad

    Notes
    -----
    Beside the gradients it takes the logits of one chunk and a block of 4096 rows of the weight, twice where half types
    are widened: these are computed in float32 throughout and rounded once. The matrix products are NumPy's, whose threads
    `set_num_threads` does not set and whose last bits may depend on their number and on ``chunk``.

    Source: Wijmans et al. 2024, Cut Your Losses in Large-Vocabulary Language Models, arXiv:2411.09009, for the problem.

    Examples
    --------
    >>> round(float(linear_softmax_cross_entropy(np.eye(2), [[2.0, 0.0], [1.0, 0.0], [0.0, 0.0]], [0, 0])), 12)
    0.753109126556
    """
    return _evaluate(x, weight, target, bias, None, class_weight, ignore_index, label_smoothing, z_loss, reduction, chunk)[0]


@gradient_of(linear_softmax_cross_entropy)
def _value_and_grad(x, weight, target, bias=None, *, class_weight=None, ignore_index=-100, label_smoothing=0.0, z_loss=0.0,
                    reduction="mean", chunk=None, grad_out=None):
    """The loss and its gradients with respect to x, weight and bias.

    Parameters are those of `linear_softmax_cross_entropy`, and

    grad_out : tuple of ndarrays, optional
        (dx, dweight, dbias), which receive the gradients: of the shapes and dtypes of x, weight and bias; dx may be x.
        None instead of one makes a new array.

    Returns
    -------
    value : scalar or ndarray
    grads : tuple
        (dx, dweight, dbias), the last of them None without a bias; for ``reduction="none"`` those of the sum.
    """
    grad_out = (None, None, None) if grad_out is None else tuple(grad_out)
    return _evaluate(x, weight, target, bias, grad_out, class_weight, ignore_index, label_smoothing, z_loss, reduction, chunk)


def _evaluate(x, weight, target, bias, grad_out, class_weight, ignore_index, label_smoothing, z_loss, reduction, chunk):
    """The value, and the gradients unless grad_out is None."""
    x, weight = as_input(x), as_input(weight)
    bias = None if bias is None else as_input(bias)
    if weight.ndim != 2 or x.ndim == 0 or x.shape[-1] != weight.shape[1]:
        raise ValueError(f"x has shape {x.shape} and weight {weight.shape}, not (..., features) and (classes, features)")
    outer, classes = x.shape[:-1], len(weight)
    if bias is not None and bias.shape != (classes,):
        raise ValueError(f"bias has shape {bias.shape}, not ({classes},)")
    if classes == 0 and math.prod(outer) > 0:
        raise ValueError("there are rows but no classes")
    inputs = [a for a in (x, weight, bias) if a is not None]
    dtype = np.result_type(*inputs)
    compute = computed_in(dtype)
    target, kind = as_target(plain(np.asarray(target)), outer, classes, compute)
    factor, terms = cross_entropy_terms(target, kind, classes, compute, reduction, weight=class_weight, ignore_index=ignore_index,
                                        label_smoothing=label_smoothing, z_loss=z_loss)  # fmt: skip
    if chunk is None:
        chunk = max(FEWEST_ROWS, CHUNK_BYTES // (max(classes, 1) * np.dtype(compute).itemsize))
    chunk = operator.index(chunk)
    if chunk < 1:
        raise ValueError(f"chunk must be positive, not {chunk}")
    grads = None
    if grad_out is not None:
        grads = [output_like(a, g, name) for a, g, name in zip(inputs, grad_out, ("dx", "dweight", "dbias"))]

    rows = x.reshape(math.prod(outer), x.shape[-1])
    targets = target.reshape(len(rows), *target.shape[len(outer) :])
    counts = np.ones(len(rows), bool) if kind == "probabilities" else targets != terms["ignore_index"]
    counted = np.flatnonzero(counts)
    chunks = np.array_split(counted, -(-len(counted) // chunk)) if len(counted) else []
    memory = np.empty((max(map(len, chunks), default=0), classes), compute)
    values = np.zeros(len(rows) if reduction == "none" else 0, dtype)
    sums = None if grads is None else _GradientSums(rows, weight, bias, target, compute, grads)
    total = 0.0
    with np.errstate(all="ignore"):
        for part in chunks:
            some, logits = rows[part].astype(compute, copy=False), memory[: len(part)]
            for block in _blocks(classes):
                np.matmul(some, weight[block].astype(compute, copy=False).T, out=logits[:, block])
                if bias is not None:
                    logits[:, block] += bias[block]
            losses = np.empty(len(part), compute) if reduction == "none" else None
            total += kernels.evaluate(
                "softmax_cross_entropy", logits, targets[part], logits if sums else None, losses, factor, **terms)  # fmt: skip
            if losses is not None:
                values[part] = losses
            if sums:
                sums.add(part, some, logits)
        if sums:
            sums.write(~counts)
    value = values.reshape(outer)[()] if reduction == "none" else rounded(total, dtype)
    return value, None if grads is None else (*grads, None)[:3]


def _blocks(classes):
    return [slice(start, start + CLASSES) for start in range(0, classes, CLASSES)]


class _GradientSums:
    """The gradients of x, row by row, and of weight and bias, summed over chunks: in their own arrays where these serve."""

    def __init__(self, rows, weight, bias, target, compute, grads):
        self.weight, self.grads = weight, grads
        # The rows of x are not read again; everything else is.
        others = [a for a in (weight, bias, target) if a is not None]
        self.dx, self.dweight = grads[0].reshape(rows.shape), grads[1]
        is_x = same_elements(self.dx, rows)
        if not np.may_share_memory(self.dx, grads[0]) or any(
            np.may_share_memory(self.dx, a) for a in (others if is_x else [rows, *others])
        ):
            self.dx = np.empty(rows.shape, rows.dtype)
        if grads[1].dtype != compute or any(np.may_share_memory(grads[1], a) for a in [rows, *others]):
            self.dweight = np.empty(weight.shape, compute)
        self.dbias = None if bias is None else np.zeros(len(weight))
        self.first = True

    def add(self, part, x, dlogits):
        dx = np.zeros_like(x)
        share = np.empty_like(x)
        ones = np.ones(len(x), x.dtype)
        for block in _blocks(len(self.weight)):
            dx += np.matmul(dlogits[:, block], self.weight[block].astype(x.dtype, copy=False), out=share)
            if self.first:
                np.matmul(dlogits[:, block].T, x, out=self.dweight[block])
            else:
                self.dweight[block] += np.matmul(dlogits[:, block].T, x)
            if self.dbias is not None:
                self.dbias[block] += np.matmul(ones, dlogits[:, block])
        self.dx[part] = dx
        self.first = False

    def write(self, ignored):
        self.dx[ignored] = 0
        if self.first:
            self.dweight[...] = 0
        for grad, total in zip(self.grads, (self.dx.reshape(self.grads[0].shape), self.dweight, self.dbias)):
            if not np.may_share_memory(grad, total):
                grad[...] = total
