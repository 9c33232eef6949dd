"""Losses: the value, and the value with its gradient in one pass."""

from __future__ import annotations

import math
import operator

import numpy as np

from ._kernels import rows
from .rowwise import knows_bfloat16

__all__ = ["list_losses", "softmax_cross_entropy"]

LOSSES = {}
"""Every loss by its name, in the order of registration."""


def register(loss):
    """Decorator: enter a loss, which has a ``value_and_grad``, under its name."""
    LOSSES[loss.__name__] = loss
    return loss


def list_losses() -> list[str]:
    """The names of all losses."""
    return list(LOSSES)


def check_reduction(reduction):
    """Raise ValueError unless it is one of the three."""
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"reduction must be 'mean', 'sum' or 'none', not {reduction!r}")


def as_input(array):
    """What a loss takes its gradient of: floating-point, native and aligned; integers follow the rule of np.exp."""
    array = np.asarray(array)
    knows_bfloat16()
    if array.dtype.kind in "?biu":
        array = array.astype(np.exp(np.empty(0, array.dtype)).dtype)
    return plain(array)


def plain(array):
    """Native and aligned."""
    return array if array.flags.aligned and array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def output_like(array, out, name):
    """``out`` if it fits the array, a new one if it is None; ``name`` is what errors call it."""
    if out is None:
        return np.empty_like(array, subok=False)
    if not isinstance(out, np.ndarray):
        raise TypeError(f"{name} must be an ndarray, not {type(out).__name__}")
    if out.shape != array.shape or not out.flags.writeable:
        raise ValueError(f"{name} must be a writeable array of shape {array.shape}")
    if out.dtype != array.dtype:
        raise TypeError(f"{name} must be of dtype {array.dtype}, not {out.dtype}")
    return out


@register
def softmax_cross_entropy(logits, target, *, axis=-1, weight=None, ignore_index=-100, label_smoothing=0.0, z_loss=0.0,
                          reduction="mean"):
    """Cross-entropy between a target distribution and the softmax of logits.

    For each row, with q the target, w the weights and e the smoothing,
    ``-sum(w ((1 - e) q + e / C) log_softmax(logits)) + z_loss logsumexp(logits)^2``.

    Parameters
    ----------
    logits : array_like
        One value for each of the C classes along ``axis``; float16, bfloat16, float32, float64, or integers, which
        follow the rule of ``np.exp``.
    target : array_like
        Either classes, of any integer dtype and the shape of ``logits`` without the axis, or probabilities, of the
        shape of ``logits``.
    axis : int, default -1
    weight : array_like of C numbers, optional
        How much each class counts.
    ignore_index : int, default -100
        Rows of this class do not count: their loss and their gradient are 0.
    label_smoothing : float, default 0
        Between 0 and 1.
    z_loss : float, default 0
        Not negative.
    reduction : {"mean", "sum", "none"}
        The mean is over the rows that count, by the sum of the weights of their classes if there are weights; with
        probabilities, over all rows. It is 0 if no row counts.

    Returns
    -------
    scalar or ndarray
        Of the dtype of ``logits``; for "none" an array of the losses of the rows. NaN where a row holds NaN or +inf or
        nothing but -inf.

    Raises
    ------
    IndexError
        If a class does not exist.
    ValueError
        If shapes do not fit, or an option is not one of the above.
    TypeError
        If logits are complex or no numbers, or classes no integers.

    See Also
    --------
    softmax_cross_entropy.value_and_grad

    Notes
    -----
    The loss of a dominant class keeps its digits, as in `log_softmax`, and so does its gradient. Terms of probability 0
    count nothing, even where the logit is -inf. Sums run in an order that depends on the shape alone.

    Source: Goodfellow et al., Deep Learning, 2016, 6.2.2.3; label smoothing: Szegedy et al. 2015, arXiv:1512.00567;
    z_loss: Chowdhery et al. 2022, arXiv:2204.02311.

    Examples
    --------
    >>> float(softmax_cross_entropy([[2.0, 1.0, 0.0]], [0]))
    0.4076059644443803
    """
    return _reduce(as_input(logits), None, target, axis, weight, ignore_index, label_smoothing, z_loss, reduction)


def _value_and_grad(logits, target, *, axis=-1, weight=None, ignore_index=-100, label_smoothing=0.0, z_loss=0.0,
                    reduction="mean", grad_out=None):
    """The loss and its gradient with respect to the logits, in one pass over memory.

    Parameters are those of `softmax_cross_entropy`, and

    grad_out : ndarray, optional
        Receives the gradient: of the shape and dtype of ``logits``, which it may be.

    Returns
    -------
    value : scalar or ndarray
    grad : ndarray
        ``grad_out`` if that was given; for ``reduction="none"`` the gradient of the sum.

    Examples
    --------
    >>> value, grad = softmax_cross_entropy.value_and_grad([[2.0, 1.0, 0.0]], [0])
    >>> grad
    array([[-0.33475904,  0.24472847,  0.09003057]])
    """
    logits = as_input(logits)
    grad_out = output_like(logits, grad_out, "grad_out")
    value = _reduce(logits, grad_out, target, axis, weight, ignore_index, label_smoothing, z_loss, reduction)
    return value, grad_out


_value_and_grad.__name__ = "value_and_grad"
_value_and_grad.__qualname__ = "softmax_cross_entropy.value_and_grad"
softmax_cross_entropy.value_and_grad = _value_and_grad


def _reduce(logits, grad, target, axis, weight, ignore_index, label_smoothing, z_loss, reduction):
    """The value; the gradient goes to grad unless that is None."""
    axis = operator.index(axis)
    if not -logits.ndim <= axis < logits.ndim:
        raise np.exceptions.AxisError(axis, logits.ndim)
    check_reduction(reduction)
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"label_smoothing must be between 0 and 1, not {label_smoothing}")
    if not 0 <= z_loss < math.inf:
        raise ValueError(f"z_loss must be a number and not negative, not {z_loss}")
    target = plain(np.asarray(target))
    probabilities = target.shape == logits.shape
    if axis not in (-1, logits.ndim - 1):
        logits, grad = (a if a is None else np.moveaxis(a, axis, -1) for a in (logits, grad))
        target = np.moveaxis(target, axis, -1) if probabilities else target
    *outer, classes = logits.shape
    if probabilities:
        if target.dtype.kind in "cOSUMm":
            raise TypeError(f"probabilities must be real numbers, not {target.dtype}")
        target = target.astype(logits.dtype, copy=False)
    elif target.shape != tuple(outer):
        raise ValueError(f"target has shape {target.shape}, which is neither {tuple(outer)} for classes nor that of the logits "
                         "for probabilities")
    elif target.dtype.kind not in "iu":
        raise TypeError(f"classes must be integers, not {target.dtype}")
    if classes == 0 and math.prod(outer) > 0:
        raise ValueError("there are rows but no classes")

    keep, floor = 1.0 - label_smoothing, label_smoothing / max(classes, 1)
    computed = np.float64 if logits.dtype == np.float64 else np.float32
    spread = spread_weight = None
    if weight is not None:
        weight = np.ascontiguousarray(weight, np.float64)
        if weight.shape != (classes,):
            raise ValueError(f"weight has shape {weight.shape}, not ({classes},)")
        spread_weight = weight.astype(computed)
    if label_smoothing > 0 and not probabilities:
        spread = np.full(classes, floor, computed) if weight is None else (floor * weight).astype(computed)

    # The gradient may overwrite the logits, row by row, but nothing else that is still to be read.
    written = grad
    if grad is not None and (not grad.flags.aligned or np.may_share_memory(grad, target)
                             or np.may_share_memory(grad, logits) and not rows.same_elements(grad, logits)):  # fmt: skip
        written = np.empty(logits.shape, logits.dtype)
    values = np.empty(outer, logits.dtype) if reduction == "none" else None
    options = weight, spread_weight, spread, operator.index(ignore_index), keep, floor, float(z_loss), reduction == "mean"
    total = rows.softmax_cross_entropy(logits, target, written, values, *options)
    if total is None:
        # More than two levels of strides over the rows: through copies.
        written = grad if grad is None else np.empty(logits.shape, logits.dtype)
        total = rows.softmax_cross_entropy(np.ascontiguousarray(logits), np.ascontiguousarray(target), written, values, *options)
    if written is not grad:
        grad[...] = written
    if values is not None:
        return values[()]
    with np.errstate(all="ignore"):
        return logits.dtype.type(total)
