"""Softmax, log_softmax, softmin and logsumexp along any axis, with their backward passes."""

from __future__ import annotations

import operator
import sys

import numpy as np

from ._kernels import operands, rows
from .backends import kernels, last_level_cache

__all__ = ["log_softmax", "logsumexp", "softmax", "softmin"]

operands.bind(kernels, last_level_cache)


def _row_function(name, kernel, **options):
    addresses = {key.removeprefix(kernel + "_"): address for key, address in kernels.items()
                 if key.startswith((f"{kernel}_rows", f"{kernel}_columns"))}  # fmt: skip
    return rows.RowFunction(name, addresses, **options)


_SOFTMAX = _row_function("softmax", "softmax")
_LOG_SOFTMAX = _row_function("log_softmax", "log_softmax", masked=-np.inf)
_SOFTMIN = _row_function("softmin", "softmax", negated=True)
_LOGSUMEXP = _row_function("logsumexp", "logsumexp", result="()")
_SOFTMAX_BACKWARD = _row_function("softmax_backward", "softmax_backward", grad="(n)", with_mask=False)
_SOFTMIN_BACKWARD = _row_function("softmin_backward", "softmax_backward", grad="(n)", with_mask=False, negated=True)
_LOG_SOFTMAX_BACKWARD = _row_function("log_softmax_backward", "log_softmax_backward", grad="(n)", with_mask=False)
_LOGSUMEXP_BACKWARD = _row_function("logsumexp_backward", "softmax", grad="()")


def softmax(x, axis=-1, *, where=None, temperature=1.0, out=None):
    """Softmax along an axis: ``exp(x / T) / sum(exp(x / T))``, T being the temperature.

    Parameters
    ----------
    x : array_like
        Logits; float16, bfloat16, float32, float64, or integers, which follow the rule of ``np.exp``. A 0-d array is a
        row of one.
    axis : int, default -1
    where : array_like of bool, broadcastable to ``x``, optional
        Elements that count. The others are 0 in the result, whatever they are in ``x``, also where none counts.
    temperature : float, default 1
        Positive; the larger, the more even the result.
    out : ndarray, optional
        Receives the result; may be ``x``.

    Returns
    -------
    ndarray
        Of the shape and dtype of ``x``. A row that holds NaN or +inf, or nothing but -inf, is NaN.

    Raises
    ------
    ValueError
        If the temperature is not positive, or ``where`` or ``out`` has another shape.
    TypeError
        If ``x`` is complex, no number, or cannot be cast to the dtype of ``out``.
    numpy.exceptions.AxisError
        If there is no such axis.

    Notes
    -----
    Within 2 ULP in float32 and 3 in float64, also where a probability is tiny; half types are computed in float32 and
    rounded once. A row has the same bits whatever its axis, its strides, its neighbours and the number of threads.
    ``softmax.gufunc`` is the generalised ufunc "(n)->(n)".

    Source: Bridle 1990.

    Examples
    --------
    >>> softmax([[1000.0, 1001.0], [1.0, 2.0]])
    array([[0.26894142, 0.73105858],
           [0.26894142, 0.73105858]])
    """
    return _call(_SOFTMAX, x, None, axis, where, temperature, out)


def log_softmax(x, axis=-1, *, where=None, temperature=1.0, out=None):
    """Logarithm of the softmax along an axis: ``x / T - log(sum(exp(x / T)))``, T being the temperature.

    Parameters, dtypes and errors are those of `softmax`; elements that do not count are -inf.

    Notes
    -----
    The logarithm is ``max + log1p`` of the terms beside the largest, so that a dominant class keeps its digits: of
    [20, 0] in float32 the first is -2.0611537e-09. Within 2 ULP in float32 and in float64.

    Examples
    --------
    >>> log_softmax([20.0, 0.0])
    array([-2.06115362e-09, -2.00000000e+01])
    """
    return _call(_LOG_SOFTMAX, x, None, axis, where, temperature, out)


def softmin(x, axis=-1, *, where=None, temperature=1.0, out=None):
    """Softmax of ``-x`` along an axis.

    Parameters, dtypes, errors and accuracy are those of `softmax`, whose bits for ``-x`` it has.

    Examples
    --------
    >>> softmin([1.0, 2.0])
    array([0.73105858, 0.26894142])
    """
    return _call(_SOFTMIN, x, None, axis, where, temperature, out)


def logsumexp(x, axis=-1, keepdims=False, *, where=None, temperature=1.0, out=None):
    """Logarithm of the sum of exponentials along an axis: ``log(sum(exp(x / T)))``, T being the temperature.

    Parameters, dtypes and errors are those of `softmax`, and

    keepdims : bool, default False
        Whether the axis stays, with length 1.

    Returns
    -------
    ndarray or scalar
        Of the dtype of ``x`` and its shape without the axis. -inf for a row that is empty, masked out or nothing but
        -inf; +inf for one with +inf; NaN for one with NaN.

    Notes
    -----
    ``max + log1p`` of the terms beside the largest: within 1 ULP of its larger term.

    Examples
    --------
    >>> float(logsumexp([1000.0, 1000.0]))
    1000.6931471805599
    """
    if keepdims and out is not None:
        _call(_LOGSUMEXP, x, None, axis, where, temperature, np.squeeze(out, axis))
        return out
    y = _call(_LOGSUMEXP, x, None, axis, where, temperature, out)
    return np.expand_dims(y, axis) if keepdims and np.ndim(x) else y


def _softmax_backward(grad_output, *, output, axis=-1, temperature=1.0, out=None):
    """The gradient of `softmax` from its output y: ``y (g - sum(y g)) / T``.

    Parameters
    ----------
    grad_output, output : array_like
        g and y, of one shape.
    axis, temperature
        As they were in the forward pass.
    out : ndarray, optional
        Receives the result; may be ``grad_output`` or ``output``.

    Raises
    ------
    ValueError
        If the shapes differ, and as `softmax` does.
    """
    return _call(_SOFTMAX_BACKWARD, output, grad_output, axis, None, temperature, out)


def _log_softmax_backward(grad_output, *, output, axis=-1, temperature=1.0, out=None):
    """The gradient of `log_softmax` from its output y: ``(g - exp(y) sum(g)) / T``.

    Elements whose output is -inf, as that of masked ones is, have the gradient 0, and theirs does not count.
    Parameters and errors are those of ``softmax.backward``.
    """
    return _call(_LOG_SOFTMAX_BACKWARD, output, grad_output, axis, None, temperature, out)


def _softmin_backward(grad_output, *, output, axis=-1, temperature=1.0, out=None):
    """The gradient of `softmin` from its output y: ``-y (g - sum(y g)) / T``.

    Parameters and errors are those of ``softmax.backward``.
    """
    return _call(_SOFTMIN_BACKWARD, output, grad_output, axis, None, temperature, out)


def _logsumexp_backward(grad_output, x, axis=-1, *, where=None, temperature=1.0, out=None):
    """The gradient of `logsumexp`: ``g softmax(x) / T``.

    Parameters
    ----------
    grad_output : array_like
        g, of the shape of ``x`` without the axis, or with it at length 1.
    x, axis, where, temperature
        As they were in the forward pass.
    out : ndarray, optional
        Receives the result; may be ``x``.
    """
    if np.ndim(grad_output) == np.ndim(x) > 0:
        grad_output = np.squeeze(grad_output, axis)
    return _call(_LOGSUMEXP_BACKWARD, x, grad_output, axis, where, temperature, out)


for _function, _forward, _backward in (
    (softmax, _SOFTMAX, _softmax_backward),
    (log_softmax, _LOG_SOFTMAX, _log_softmax_backward),
    (softmin, _SOFTMIN, _softmin_backward),
    (logsumexp, _LOGSUMEXP, _logsumexp_backward),
):
    _backward.__name__ = "backward"
    _backward.__qualname__ = f"{_function.__name__}.backward"
    _function.gufunc = _forward.gufunc
    _function.backward = _backward


def _call(function, x, grad, axis, where, temperature, out):
    """The fast lane if all is plain, else the gufunc."""
    if where is None:
        y = function.direct(x, grad, axis, temperature, out)
        if y is not None:
            return y
    axis = operator.index(axis)
    temperature = float(temperature)
    if not temperature > 0:
        raise ValueError(f"temperature must be positive, not {temperature}")
    x = _operand(x)
    grad = grad if grad is None else _operand(grad)
    if function.grad_is_row and grad.shape != x.shape:
        raise ValueError(f"grad_output has shape {grad.shape}, output has {x.shape}")
    if x.ndim == 0 and axis in (0, -1):
        y = _call(function, x.reshape(1), grad.reshape(1) if function.grad_is_row else grad, 0, where, temperature,
                  out.reshape(1) if function.result_is_row and out is not None else out)
        return out if out is not None else y[0] if function.result_is_row else y
    knows_bfloat16()
    operands = [x] if grad is None else [grad, x]
    gufunc = function.gufunc
    if where is not None or temperature != 1:
        gufunc = function.general
        if function.with_mask:
            operands.append(_mask(where, x))
        operands.append(temperature)
    with np.errstate(all="ignore"):  # a cast to a narrower out may overflow, as it should
        return gufunc(*operands, axis=axis, out=out)


def _mask(where, x):
    where = True if where is None else where
    if isinstance(x, np.ndarray):
        return np.broadcast_to(where, x.shape)
    return np.logical_and(np.ones_like(x, dtype=bool), where)  # of the same kind as x, in the same chunks


def _operand(x):
    return x if hasattr(type(x), "__array_ufunc__") else np.asarray(x)


_bfloat16_known = False


def knows_bfloat16():
    """Give the gufuncs loops for bfloat16 once ml_dtypes has been imported, by whoever made such an array."""
    global _bfloat16_known
    if not _bfloat16_known and "ml_dtypes" in sys.modules:
        bfloat16 = np.dtype(sys.modules["ml_dtypes"].bfloat16)
        operands.know_bfloat16(bfloat16)
        rows.register_bfloat16(bfloat16.num)
        _bfloat16_known = True
