"""Losses over rows: the value, and the value with its gradient in one pass."""

from __future__ import annotations

import functools
import math
import operator

import numpy as np

from . import backends
from .devices import any_on_gpu, gpu_functions, no_stream
from .losses import as_input, check_reduction, gradient_of, output_like, plain, register, rounded, same_elements

__all__ = ["categorical_cross_entropy", "kl_div", "nll_loss", "softmax_cross_entropy", "softmax_focal"]

CLASSES, PROBABILITIES = ("classes",), ("probabilities",)
EITHER = CLASSES + PROBABILITIES
"""What a target may hold, told by its shape."""
KL_DIV = ("kl_div", "kl_div_of_logs")
ARGUMENTS = {"softmax_cross_entropy": ("logits", "target"), "categorical_cross_entropy": ("probs", "target"),
             "nll_loss": ("log_probs", "target")} | dict.fromkeys(KL_DIV, ("log_probs", "probs"))  # fmt: skip
"""What the arrays are called in errors."""


class _Kernels:
    """The functions of the module that serves the backend which runs."""

    def __getattr__(self, name):
        return getattr(backends.numba_kernels("row_losses") if backends.active == "numba" else compiled, name)


compiled, kernels = backends.compiled_kernels("row_losses"), _Kernels()


@register
def softmax_cross_entropy(logits, target, *, axis=-1, weight=None, ignore_index=-100, label_smoothing=0.0, z_loss=0.0,
                          reduction="mean", stream=None):
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
    stream : optional
        Where arrays on a GPU are worked on, instead of their library's current stream: a stream or its handle. There the
        weights are an array of the type that is computed in, a value is an array without dimensions, and the row of a class
        that does not exist is NaN: nothing waits for the GPU.

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
    >>> round(float(softmax_cross_entropy([[2.0, 1.0, 0.0]], [0])), 12)
    0.407605964444
    """
    return _value("softmax_cross_entropy", logits, target, axis, reduction, weight=weight,
                  ignore_index=ignore_index, label_smoothing=label_smoothing, z_loss=z_loss, stream=stream)


@gradient_of(softmax_cross_entropy)
def _value_and_grad(logits, target, *, axis=-1, weight=None, ignore_index=-100, label_smoothing=0.0, z_loss=0.0,
                    reduction="mean", grad_out=None, stream=None):
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
    return _with_gradient("softmax_cross_entropy", logits, grad_out, target, axis, reduction, weight=weight,
                          ignore_index=ignore_index, label_smoothing=label_smoothing, z_loss=z_loss, stream=stream)


@register
def softmax_focal(logits, target, *, axis=-1, alpha=None, gamma=2.0, weight=None, ignore_index=-100, reduction="mean", stream=None):
    """Focal loss of the softmax of logits: cross-entropy that counts the less, the surer the right class is.

    For each row, with p the softmax at the class t of the target, ``-w[t] alpha[t] (1 - p)^gamma log(p)``.

    Parameters
    ----------
    logits, axis, ignore_index, reduction, stream
        As for `softmax_cross_entropy`.
    target : array_like
        Classes, of any integer dtype and the shape of ``logits`` without the axis.
    alpha : float or array_like of C numbers, optional
        A factor for all classes or one for each, which the mean does not divide by.
    gamma : float, default 2
        Not negative; 0 makes it the cross-entropy.
    weight : array_like of C numbers, optional
        How much each class counts; the mean divides by the sum over the rows that count.

    Returns and errors are those of `softmax_cross_entropy`.

    Notes
    -----
    Neither the value nor the gradient loses digits where p is close to 1 or to 0: 1 - p is the sum of the other terms.

    Source: Lin et al. 2017, arXiv:1708.02002.

    Examples
    --------
    >>> round(float(softmax_focal([[2.0, 1.0, 0.0]], [0])), 12)
    0.045677798968
    """
    return _value("softmax_cross_entropy", logits, target, axis, reduction, CLASSES, weight=weight,
                  ignore_index=ignore_index, alpha=1.0 if alpha is None else alpha, gamma=gamma, stream=stream)


@gradient_of(softmax_focal)
def _focal_value_and_grad(logits, target, *, axis=-1, alpha=None, gamma=2.0, weight=None, ignore_index=-100,
                          reduction="mean", grad_out=None, stream=None):
    """The loss and its gradient with respect to the logits, in one pass over memory.

    Parameters are those of `softmax_focal`, and

    grad_out : ndarray, optional
        Receives the gradient: of the shape and dtype of ``logits``, which it may be.
    """
    return _with_gradient("softmax_cross_entropy", logits, grad_out, target, axis, reduction, CLASSES, weight=weight,
                          ignore_index=ignore_index, alpha=1.0 if alpha is None else alpha, gamma=gamma, stream=stream)


@register
def nll_loss(log_probs, target, *, axis=-1, weight=None, ignore_index=-100, reduction="mean", stream=None):
    """Negative log-likelihood of classes whose log-probabilities are given, such as those of `log_softmax`.

    For each row, with t the class, ``-w[t] log_probs[t]``. `softmax_cross_entropy` does both in one.

    Parameters
    ----------
    log_probs : array_like
        One value for each of the C classes along ``axis``; dtypes as for `softmax_cross_entropy`.
    target : array_like
        Classes, of any integer dtype and the shape of ``log_probs`` without the axis.
    axis, weight, ignore_index, reduction, stream
        As for `softmax_cross_entropy`.

    Returns and errors are those of `softmax_cross_entropy`. Nothing but the element of the class is looked at.

    Examples
    --------
    >>> round(float(nll_loss(np.log([[0.7, 0.2, 0.1]]), [0])), 12)
    0.356674943939
    """
    return _value("nll_loss", log_probs, target, axis, reduction, CLASSES, weight=weight,
                  ignore_index=ignore_index, stream=stream)  # fmt: skip


@gradient_of(nll_loss)
def _nll_value_and_grad(log_probs, target, *, axis=-1, weight=None, ignore_index=-100, reduction="mean", grad_out=None, stream=None):
    """The loss and its gradient with respect to the log-probabilities, in one pass over memory.

    Parameters are those of `nll_loss`, and

    grad_out : ndarray, optional
        Receives the gradient: of the shape and dtype of ``log_probs``, which it may be.
    """
    return _with_gradient("nll_loss", log_probs, grad_out, target, axis, reduction, CLASSES, weight=weight,
                          ignore_index=ignore_index, stream=stream)  # fmt: skip


@register
def categorical_cross_entropy(probs, target, *, axis=-1, weight=None, ignore_index=-100, reduction="mean", stream=None):
    """Cross-entropy between a target distribution and probabilities, such as those of `softmax`.

    For each row, with q the target and w the weights, ``-sum(w q log(probs))``. Of logits, `softmax_cross_entropy` keeps
    more digits.

    Parameters
    ----------
    probs : array_like
        One value for each of the C classes along ``axis``, which is not normalised; dtypes as for
        `softmax_cross_entropy`.
    target : array_like
        Either classes, of any integer dtype and the shape of ``probs`` without the axis, or probabilities, of the shape
        of ``probs``.
    axis, weight, ignore_index, reduction, stream
        As for `softmax_cross_entropy`.

    Returns and errors are those of `softmax_cross_entropy`.

    Notes
    -----
    Nothing is clipped: a class of probability 0 costs infinitely much, and nothing where the target is 0, too. With
    classes, nothing but the element of the class is looked at.

    Examples
    --------
    >>> round(float(categorical_cross_entropy([[0.7, 0.2, 0.1]], [0])), 12)
    0.356674943939
    """
    return _value("categorical_cross_entropy", probs, target, axis, reduction, weight=weight,
                  ignore_index=ignore_index, stream=stream)  # fmt: skip


@gradient_of(categorical_cross_entropy)
def _categorical_value_and_grad(probs, target, *, axis=-1, weight=None, ignore_index=-100, reduction="mean", grad_out=None, stream=None):
    """The loss and its gradient with respect to the probabilities, in one pass over memory.

    Parameters are those of `categorical_cross_entropy`, and

    grad_out : ndarray, optional
        Receives the gradient: of the shape and dtype of ``probs``, which it may be.
    """
    return _with_gradient("categorical_cross_entropy", probs, grad_out, target, axis, reduction, weight=weight,
                          ignore_index=ignore_index, stream=stream)  # fmt: skip


@register
def kl_div(log_probs, probs, *, log_target=False, axis=-1, reduction="mean", stream=None):
    """Kullback-Leibler divergence of a target distribution from one whose log-probabilities are given.

    For each row, with t the target, ``sum(t (log(t) - log_probs))``.

    Parameters
    ----------
    log_probs : array_like
        Logarithms of probabilities along ``axis``, such as those of `log_softmax`; dtypes as for
        `softmax_cross_entropy`.
    probs : array_like
        The target, of the shape of ``log_probs``.
    log_target : bool, default False
        Whether ``probs``, too, holds logarithms.
    axis : int, default -1
    reduction : {"mean", "sum", "none"}
        The mean is over the rows, as PyTorch's "batchmean", the only one that is the divergence; "none" gives a value for
        each row.
    stream
        As for `softmax_cross_entropy`.

    Returns and errors are those of `softmax_cross_entropy`.

    Notes
    -----
    0 log(0) = 0, and what the target gives a probability of 0 counts nothing, whatever its logarithm is in
    ``log_probs``.

    Source: Kullback and Leibler 1951.

    Examples
    --------
    >>> round(float(kl_div(np.log([[0.5, 0.5]]), [[0.75, 0.25]])), 12)
    0.130812035941
    """
    return _value(KL_DIV[bool(log_target)], log_probs, probs, axis, reduction, PROBABILITIES, stream=stream)


@gradient_of(kl_div)
def _kl_div_value_and_grad(log_probs, probs, *, log_target=False, axis=-1, reduction="mean", grad_out=None, stream=None):
    """The divergence and its gradient with respect to ``log_probs``, in one pass over memory.

    Parameters are those of `kl_div`, and

    grad_out : ndarray, optional
        Receives the gradient: of the shape and dtype of ``log_probs``, which it may be.
    """
    return _with_gradient(KL_DIV[bool(log_target)], log_probs, grad_out, probs, axis, reduction, PROBABILITIES, stream=stream)


# What the losses share ------------------------------------------------------------------------------------------------


def check_options(reduction, label_smoothing=0.0, z_loss=0.0, gamma=0.0):
    """Raise ValueError unless each is one that there is."""
    check_reduction(reduction)
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"label_smoothing must be between 0 and 1, not {label_smoothing}")
    for name, number in (("z_loss", z_loss), ("gamma", gamma)):
        if not 0 <= number < math.inf:
            raise ValueError(f"{name} must be a number and not negative, not {number}")


def class_numbers(numbers, classes, name="weight"):
    """One number for each class, as float64."""
    numbers = plain(numbers)
    backends.check_real(numbers, name)
    numbers = np.ascontiguousarray(numbers, np.float64)
    if numbers.shape != (classes,):
        raise ValueError(f"{name} has shape {numbers.shape}, not ({classes},)")
    return numbers


def classes_last(x, grad, target, axis, takes=EITHER):
    """The arrays with the classes along the last axis, and which of the two target holds; it is checked."""
    axis = operator.index(axis)
    if not -x.ndim <= axis < x.ndim:
        raise np.exceptions.AxisError(axis, x.ndim)
    target = plain(target)
    if axis not in (-1, x.ndim - 1):
        if target.shape == x.shape:
            target = np.moveaxis(target, axis, -1)
        x, grad = (a if a is None else np.moveaxis(a, axis, -1) for a in (x, grad))
    if x.shape[-1] == 0 and math.prod(x.shape[:-1]) > 0:
        raise ValueError("there are rows but no classes")
    return x, grad, *as_target(target, x.shape[:-1], x.shape[-1], x.dtype, takes)


def as_target(target, rows, classes, dtype, takes=EITHER):
    """Target, by its shape classes for the rows or probabilities, which become dtype; and which of the two."""
    kind = which_target(target.shape, rows, (*rows, classes), takes)
    if kind == "classes" and target.dtype.kind not in "iu":
        raise TypeError(f"classes must be integers, not {target.dtype}")
    if kind == "probabilities":
        backends.check_real(target, kind)
        target = _cast(target, dtype)
    return target, kind


def _cast(numbers, dtype):
    """To a narrower type too, in which some may overflow, or become 0."""
    with np.errstate(all="ignore"):
        return numbers.astype(dtype, copy=False)


def which_target(shape, rows, all_shape, takes):
    """Which of those that a loss takes a target of that shape holds."""
    shapes = {"classes": rows, "probabilities": all_shape}
    kind = next((kind for kind in takes if shape == shapes[kind]), None)
    if kind is None:
        wanted = " nor ".join(f"{shapes[kind]} for {kind}" for kind in takes)
        raise ValueError(f"target has shape {shape}, which is {'neither' if len(takes) > 1 else 'not'} {wanted}")
    return kind


def cross_entropy_terms(target, kind, classes, dtype, reduction, *, weight=None, ignore_index=-100, label_smoothing=0.0,
                        z_loss=0.0, alpha=1.0, gamma=0.0):
    """What the sum over the rows is multiplied by, and the options of the kernel, for logits that are computed in dtype."""
    check_options(reduction, label_smoothing, z_loss, gamma)
    weight = None if weight is None else class_numbers(weight, classes)
    if not isinstance(alpha, float):
        alpha = float(alpha) if np.ndim(alpha) == 0 else class_numbers(alpha, classes, "alpha")
    ignore_index = operator.index(ignore_index)
    keep, floor = float(1 - label_smoothing), label_smoothing / max(classes, 1)
    terms = dict(keep=keep, floor=floor, z_loss=z_loss, gamma=gamma, ignore_index=ignore_index)
    if kind == "probabilities":
        terms["spread_weight"] = None if weight is None else _cast(weight, dtype)
        total = target.size // max(classes, 1)
    else:
        total = kernels.total_weight(np.ascontiguousarray(target), classes, ignore_index, weight)
        shares = keep * alpha if weight is None else keep * alpha * weight
        terms["keep" if isinstance(shares, float) else "shares"] = shares
        if label_smoothing > 0:
            spread = np.full(classes, floor) if weight is None else floor * weight
            terms |= {"spread": _cast(spread, dtype), "spread_sum": spread.sum()}
    return 1.0 / (total or 1.0) if reduction == "mean" else 1.0, terms


def _value(loss, x, target, *arguments, stream, **options):
    """The value."""
    if any_on_gpu((x, target)):
        return _on_gpu(loss, x, target, *arguments, **options, stream=stream)
    no_stream(stream)
    return _evaluate(loss, as_input(x), None, target, *arguments, **options)


def _evaluate(loss, x, grad, target, axis, reduction, takes=EITHER, **options):
    """The value; the gradient goes to grad unless that is None."""
    x, grad, target, kind = classes_last(x, grad, target, axis, takes)
    factor, terms = cross_entropy_terms(target, kind, x.shape[-1], backends.computed_in(x.dtype), reduction, **options)
    return run(loss, x, grad, target, factor, reduction, **terms)


def _with_gradient(loss, x, grad_out, target, *arguments, stream, **options):
    """The value, and the gradient in grad_out unless that is None."""
    if any_on_gpu((x, target)):
        return _on_gpu(loss, x, target, *arguments, **options, grad_out=grad_out, with_grad=True, stream=stream)
    no_stream(stream)
    x = as_input(x)
    grad = output_like(x, grad_out, "grad_out")
    return _evaluate(loss, x, grad, target, *arguments, **options), grad


def _on_gpu(loss, x, target, axis, reduction, takes=EITHER, **options):
    """The same for arrays on a GPU."""
    check_options(reduction, **{name: options[name] for name in ("label_smoothing", "z_loss", "gamma") if name in options})
    arrays = dict(zip(ARGUMENTS[loss], (x, target)))
    return gpu_functions().row_loss(loss, arrays, axis, reduction, functools.partial(which_target, takes=takes), **options)


def run(loss, x, grad, target, factor, reduction, **terms):
    """The value by the kernels of a loss over the last axis of x; the gradient goes to grad unless that is None."""
    # The gradient may overwrite the input, row by row, but nothing else that is still to be read.
    written = grad
    if grad is not None and (not grad.flags.aligned or np.may_share_memory(grad, target)
                             or np.may_share_memory(grad, x) and not same_elements(grad, x)):  # fmt: skip
        written = np.empty(x.shape, x.dtype)
    values = np.empty(x.shape[:-1], x.dtype) if reduction == "none" else None
    total = kernels.evaluate(loss, x, target, written, values, factor, **terms)
    if total is None:
        # More than two levels of strides over the rows: through copies.
        written = grad if grad is None else np.empty(x.shape, x.dtype)
        contiguous = np.ascontiguousarray(x), np.ascontiguousarray(target)
        total = kernels.evaluate(loss, *contiguous, written, values, factor, **terms)
    if written is not grad:
        grad[...] = written
    return values[()] if values is not None else rounded(total, x.dtype)
