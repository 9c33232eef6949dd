"""Softmax cross-entropy of a linear layer, chunk by chunk: the whole matrix of logits never exists."""

from __future__ import annotations

import functools
import math
import operator

import numpy as np

from . import backends
from ._kernels.cuda_kernels import SIZES, computed_as
from .devices import Call, any_on_gpu, c_strides, gpu_functions, no_stream
from .losses import as_input, gradient_of, output_like, plain, register, rounded, same_elements
from .row_losses import EITHER, as_target, check_options, cross_entropy_terms, kernels, which_target

__all__ = ["linear_softmax_cross_entropy"]

# NumPy's matrix products and the loss's kernel have a pool of threads each, which wait for work by spinning for some
# milliseconds and then are in the other's way. So chunks are large; smaller ones, which would stay in the last-level
# cache, take up to three times as long. For 65,536 classes of 512 features this is 512 rows, whose products with the weight take
# 1.06 times as long as those of all 4,096 at once, while 256 take 1.2 times as long.
CHUNK_BYTES = 128 << 20
"""Of the logits of a chunk."""
FEWEST_ROWS = 256
"""Of a chunk: with 128, matrix products are slower by a quarter."""
CLASSES = 4096
"""For which the gradient of the weight is found at a time, to be added to that of the chunks before."""
GPU_CHUNK_BYTES, GPU_CLASSES = 256 << 20, 16384
"""The same on a GPU, which needs more to do at a time."""


@register
def linear_softmax_cross_entropy(x, weight, target, bias=None, *, class_weight=None, ignore_index=-100, label_smoothing=0.0,
                                 z_loss=0.0, reduction="mean", chunk=None, stream=None):
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
        How many rows are computed at a time. By default their logits take 128 MiB, 256 on a GPU, but there are at least 256 rows.
    stream : optional
        Where arrays on a GPU are worked on, instead of their library's current stream: a stream or its handle. They are those of
        CuPy or PyTorch, x, weight and bias of one dtype; classes that do not exist make NaN, and nothing waits for the GPU.

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
    `set_num_threads` does not set and whose last bits may depend on their number and on ``chunk``; those of arrays on a GPU
    are their library's.

    Source: Wijmans et al. 2024, Cut Your Losses in Large-Vocabulary Language Models, arXiv:2411.09009, for the problem.

    Examples
    --------
    >>> round(float(linear_softmax_cross_entropy(np.eye(2), [[2.0, 0.0], [1.0, 0.0], [0.0, 0.0]], [0, 0])), 12)
    0.753109126556
    """
    return _evaluate(x, weight, target, bias, None, class_weight, ignore_index, label_smoothing, z_loss, reduction, chunk, stream)[0]


@gradient_of(linear_softmax_cross_entropy)
def _value_and_grad(x, weight, target, bias=None, *, class_weight=None, ignore_index=-100, label_smoothing=0.0, z_loss=0.0,
                    reduction="mean", chunk=None, grad_out=None, stream=None):
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
    return _evaluate(x, weight, target, bias, grad_out, class_weight, ignore_index, label_smoothing, z_loss, reduction, chunk, stream)


def _evaluate(x, weight, target, bias, grad_out, class_weight, ignore_index, label_smoothing, z_loss, reduction, chunk, stream):
    """The value, and the gradients unless grad_out is None."""
    if any_on_gpu((x, weight, target)):
        check_options(reduction, label_smoothing, z_loss)
        options = {"ignore_index": ignore_index, "label_smoothing": label_smoothing, "z_loss": z_loss}
        return _on_gpu(x, weight, target, bias, grad_out, class_weight, options, reduction, chunk, stream)
    no_stream(stream)
    x, weight = as_input(x), as_input(weight)
    bias = None if bias is None else as_input(bias)
    outer, classes = _check_shapes(x.shape, weight.shape, None if bias is None else bias.shape)
    inputs = [a for a in (x, weight, bias) if a is not None]
    dtype = np.result_type(*inputs)
    compute = backends.computed_in(dtype)
    target, kind = as_target(plain(target), outer, classes, compute)
    factor, terms = cross_entropy_terms(target, kind, classes, compute, reduction, weight=class_weight, ignore_index=ignore_index,
                                        label_smoothing=label_smoothing, z_loss=z_loss)  # fmt: skip
    chunk = _rows_of_chunk(chunk, classes * np.dtype(compute).itemsize, CHUNK_BYTES)
    grads = None
    if grad_out is not None:
        grads = [output_like(a, g, name) for a, g, name in zip(inputs, grad_out, ("dx", "dweight", "dbias"))]

    rows = x.reshape(math.prod(outer), x.shape[-1])
    targets = target.reshape(len(rows), *target.shape[len(outer) :])
    counts = np.ones(len(rows), bool) if kind == "probabilities" else targets != terms["ignore_index"]
    counted = np.flatnonzero(counts)
    chunks = np.array_split(counted, -(-len(counted) // chunk)) if len(counted) else []
    memory = np.empty((max(map(len, chunks), default=0), classes), compute)
    if len(counted) == len(rows):
        chunks = [slice(part[0], part[-1] + 1) for part in chunks]  # which copies nothing
    values = np.zeros(len(rows) if reduction == "none" else 0, dtype)
    sums = None if grads is None else _GradientSums(rows, weight, bias, target, compute, grads)
    total = 0.0
    with np.errstate(all="ignore"):
        for part in chunks:
            some = rows[part].astype(compute, copy=False)
            logits = memory[: len(some)]
            for block in [np.s_[:]] if weight.dtype == compute else _blocks(classes):
                np.matmul(some, weight[block].astype(compute, copy=False).T, out=logits[:, block])
            if bias is not None:
                logits += bias
            losses = np.empty(len(some), compute) if reduction == "none" else None
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


def _check_shapes(x, weight, bias):
    """(shape of the rows, number of classes)"""
    if len(weight) != 2 or len(x) == 0 or x[-1] != weight[1]:
        raise ValueError(f"x has shape {x} and weight {weight}, not (..., features) and (classes, features)")
    classes = weight[0]
    if bias is not None and bias != (classes,):
        raise ValueError(f"bias has shape {bias}, not ({classes},)")
    if classes == 0 and math.prod(x[:-1]) > 0:
        raise ValueError("there are rows but no classes")
    return x[:-1], classes


def _rows_of_chunk(chunk, row_bytes, chunk_bytes):
    """As the caller says, or as many as fit."""
    chunk = operator.index(max(FEWEST_ROWS, chunk_bytes // max(row_bytes, 1)) if chunk is None else chunk)
    if chunk < 1:
        raise ValueError(f"chunk must be positive, not {chunk}")
    return chunk


def _blocks(classes, size=CLASSES):
    return [slice(start, start + size) for start in range(0, classes, size)]


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
        self.first, self.kept = True, {}

    def add(self, part, x, dlogits):
        blocks = _blocks(len(self.weight))
        ones = np.ones(len(x), x.dtype)
        for block in blocks:
            dweight = self.dweight[block]
            product = np.matmul(dlogits[:, block].T, x, out=dweight if self.first else self.scratch("dweight", dweight.shape, x.dtype))
            if not self.first:
                dweight += product
            if self.dbias is not None:
                self.dbias[block] += np.matmul(ones, dlogits[:, block])
        # From here on x is not read, where the gradient may go.
        in_place = isinstance(part, slice) and self.dx.dtype == x.dtype
        dx = self.dx[part] if in_place else self.scratch("dx", x.shape, x.dtype)
        if self.weight.dtype == x.dtype:
            np.matmul(dlogits, self.weight, out=dx)
        else:
            for block in blocks:
                product = self.scratch("share", x.shape, x.dtype) if block.start else dx
                np.matmul(dlogits[:, block], self.weight[block].astype(x.dtype), out=product)
                if block.start:
                    dx += product
        if not in_place:
            self.dx[part] = dx
        self.first = False

    def scratch(self, name, shape, dtype):
        """Memory for a product, the same for all chunks: NumPy's own would be new each time, and its pages cleared."""
        if name not in self.kept:
            self.kept[name] = np.empty(shape, dtype)
        return self.kept[name][: shape[0]]

    def write(self, ignored):
        self.dx[ignored] = 0
        if self.first:
            self.dweight[...] = 0
        for grad, total in zip(self.grads, (self.dx.reshape(self.grads[0].shape), self.dweight, self.dbias)):
            if not np.may_share_memory(grad, total):
                grad[...] = total


def _on_gpu(x, weight, target, bias, grad_out, class_weight, options, reduction, chunk, stream):
    """The same by the operators of the arrays' library. Ignored rows are not left out, of which the host knows nothing, but 0."""
    gpu = gpu_functions()
    names = ("x", "weight") if bias is None else ("x", "weight", "bias")
    arrays = dict(zip(names, (x, weight, bias))) | {"target": target} | ({} if class_weight is None else {"class_weight": class_weight})
    call = Call("linear_softmax_cross_entropy", arrays, stream)
    library = call.library
    if not library.calculates:
        raise TypeError(f"linear_softmax_cross_entropy() needs arrays that can be multiplied, of CuPy or PyTorch, not {type(x).__name__}")
    dtype = call.real(*names)
    compute = computed_as(dtype)
    operands = [call.operands[name] for name in names]
    outer, classes = _check_shapes(*(operand.shape for operand in operands), *[None] * (bias is None))
    kind = which_target(call.operands["target"].shape, outer, (*outer, classes), EITHER)
    chunk = _rows_of_chunk(chunk, classes * SIZES[compute], GPU_CHUNK_BYTES)
    outs = () if grad_out is None else grad_out
    outs = [out if out is None else call.result(out, operand.shape, dtype, name)
            for operand, out, name in zip(operands, outs, ("dx", "dweight", "dbias"))]  # fmt: skip

    def widened(operand):
        """An array of the type that is computed in, the operand's own if it is that."""
        if operand.dtype == compute:
            return library.plain(operand.array)
        made = call.new(operand.shape, compute)
        gpu.copy(call, operand, made)
        return made.array

    count, features = math.prod(outer), x.shape[-1]
    with call.on_its_stream():
        rows, targets = library.plain(x).reshape(count, features), target.reshape(count, *target.shape[len(outer) :])
        w, *b = (widened(operand) for operand in operands[1:])
        losses = call.new((count,), compute)
        grads = [call.new(shape, compute).array for shape in ((count, features), (classes, features), (classes,))[: len(outs)]]
        for grad in grads[1:]:
            grad[...] = 0
        for part in _blocks(count, chunk):
            some = call.new(rows[part].shape, compute)
            gpu.copy(call, library.operand(rows[part]), some)
            some = some.array
            if kind == "classes":
                some[targets[part] == options["ignore_index"]] = 0
            logits = some @ w.T
            if b:
                logits += b[0]
            found = gpu.row_loss("softmax_cross_entropy", {"logits": logits, "target": targets[part]}, -1, "none",
                                 functools.partial(which_target, takes=(kind,)), weight=class_weight, **options,
                                 grad_out=logits if grads else None, with_grad=bool(grads), stream=stream)  # fmt: skip
            losses.array[part] = found[0] if grads else found
            if grads:
                grads[0][part] = logits @ w
                for block in _blocks(classes, GPU_CLASSES):
                    grads[1][block] += logits[:, block].T @ some
                if b:
                    grads[2] += logits.sum(0)

        share = None
        if reduction == "mean" and kind == "classes" and count:
            weights = gpu.class_numbers(call, "class_weight", classes, compute)
            share = gpu.share_of_rows(call, library.operand(targets), (count, classes), 1, options["ignore_index"], weights, compute)
        factor = 1.0 / max(count, 1) if reduction == "mean" and share is None else 1.0
        for k, (grad, operand, out) in enumerate(zip(grads, operands, outs)):
            if reduction == "mean":
                grad *= factor if share is None else share.array
            if out is not None or dtype != compute:
                out = call.new(operand.shape, dtype) if out is None else out
                gpu.copy(call, library.operand(grad.reshape(operand.shape)), out)
            grads[k] = grad.reshape(operand.shape) if out is None else out.array
        if reduction == "none":
            value = call.new(outer, dtype)
            gpu.copy(call, losses.reshaped(outer, c_strides(outer, SIZES[compute])), value)
        else:
            value = gpu.add_up(call, losses, dtype, factor, 0 if share is None else share.address)
    return value.array, None if grad_out is None else (*grads, None)[:3]
