"""Softmax and its relatives along any axis, with their backward passes."""

from __future__ import annotations

import functools
import operator

import numpy as np
from numpy.lib.array_utils import normalize_axis_index

from . import backends, ufuncs
from .backends import kernels, learn_bfloat16
from .devices import any_on_gpu, gpu_functions, no_stream

__all__ = ["gumbel_softmax", "log_softmax", "logsumexp", "softmax", "softmin", "sparsemax"]

NOISE_BLOCK = 1 << 14
"""How many random numbers are drawn at a time: they stay in the cache."""


class _RowFunction:
    """A function of rows: the kernels of either backend, those of Numba when they are first asked for."""

    def __init__(self, name, kernel, **options):
        self.arguments, self.options = (name, kernel), options
        if kernels is not None:
            addresses = {key.removeprefix(kernel + "_"): address for key, address in kernels.items()
                         if key.startswith((f"{kernel}_rows", f"{kernel}_columns"))}  # fmt: skip
            self.compiled = backends.compiled_kernels("rows").RowFunction(name, addresses, **options)
        ufuncs.FINDERS[name] = lambda: self.running.gufunc
        ufuncs.FINDERS[f"{name}_general"] = lambda: self.running.general

    @functools.cached_property
    def numba(self):
        return backends.numba_kernels("gufuncs").RowFunction(*self.arguments, **self.options)

    @property
    def running(self):
        """That of the backend that runs."""
        return self.numba if backends.active == "numba" else self.compiled

    def compile(self, dtypes):
        """Have Numba compile what these dtypes need (see `fastact.warmup`)."""
        for dtype in dtypes:
            self.numba.compile(dtype)

    @property
    def gufunc(self):
        """That of the backend that is compiled, if there is one: a function cannot have an attribute that changes."""
        return self.compiled.gufunc if kernels is not None else lambda *args, **kwargs: self.numba.gufunc(*args, **kwargs)


_SOFTMAX = _RowFunction("softmax", "softmax")
_LOG_SOFTMAX = _RowFunction("log_softmax", "log_softmax", masked=-np.inf)
_SOFTMIN = _RowFunction("softmin", "softmax", negated=True)
_LOGSUMEXP = _RowFunction("logsumexp", "logsumexp", result="()")
_SOFTMAX_BACKWARD = _RowFunction("softmax_backward", "softmax_backward", grad="(n)", with_mask=False)
_SOFTMIN_BACKWARD = _RowFunction("softmin_backward", "softmax_backward", grad="(n)", with_mask=False, negated=True)
_LOG_SOFTMAX_BACKWARD = _RowFunction("log_softmax_backward", "log_softmax_backward", grad="(n)", with_mask=False)
_SPARSEMAX = _RowFunction("sparsemax", "sparsemax", cost=3.0)
_SPARSEMAX_BACKWARD = _RowFunction("sparsemax_backward", "sparsemax_backward", grad="(n)", with_mask=False)
_LOGSUMEXP_BACKWARD = _RowFunction("logsumexp_backward", "softmax", grad="()")


def softmax(x, axis=-1, *, where=None, temperature=1.0, out=None, stream=None):
    """Softmax along an axis: ``exp(x / T) / sum(exp(x / T))``, T being the temperature.

    Parameters
    ----------
    x : array_like
        Logits; float16, bfloat16, float32, float64, or integers, which follow the rule of ``np.exp``. A 0-d array is a
        row of one.
    axis : int, default -1
    where : array_like of bool, broadcastable to ``x``, optional
        Elements that count. The others are 0 in the result, whatever they are in ``x``, also where none counts. On a GPU if
        ``x`` is.
    temperature : float, default 1
        Positive; the larger, the more even the result.
    out : ndarray, optional
        Receives the result; may be ``x``.
    stream : optional
        Where arrays on a GPU are worked on, instead of their library's current stream: a stream or its handle.

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
    return _call(_SOFTMAX, x, None, axis, where, temperature, out, stream)


def log_softmax(x, axis=-1, *, where=None, temperature=1.0, out=None, stream=None):
    """Logarithm of the softmax along an axis: ``x / T - log(sum(exp(x / T)))``, T being the temperature.

    Parameters, dtypes and errors are those of `softmax`; elements that do not count are -inf.

    Notes
    -----
    The logarithm is ``max + log1p`` of the terms beside the largest, so that a dominant class keeps its digits: of
    [20, 0] in float32 the first is -2.0611537e-09. Within 2 ULP in float32 and 2.5 in float64.

    Examples
    --------
    >>> log_softmax([20.0, 0.0])
    array([-2.06115362e-09, -2.00000000e+01])
    """
    return _call(_LOG_SOFTMAX, x, None, axis, where, temperature, out, stream)


def softmin(x, axis=-1, *, where=None, temperature=1.0, out=None, stream=None):
    """Softmax of ``-x`` along an axis.

    Parameters, dtypes, errors and accuracy are those of `softmax`, whose bits for ``-x`` it has.

    Examples
    --------
    >>> softmin([1.0, 2.0])
    array([0.73105858, 0.26894142])
    """
    return _call(_SOFTMIN, x, None, axis, where, temperature, out, stream)


def logsumexp(x, axis=-1, keepdims=False, *, where=None, temperature=1.0, out=None, stream=None):
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
    ``max + log1p`` of the terms beside the largest: within 1.5 ULP in float32 and 2.5 in float64 of the largest of the two and
    their sum.

    Examples
    --------
    >>> float(logsumexp([1000.0, 1000.0]))
    1000.6931471805599
    """
    if any_on_gpu((x,)):
        return gpu_functions().rows("logsumexp", x, None, axis, where, _positive(temperature, "temperature"), out, stream, keepdims)
    if keepdims and out is not None:
        _call(_LOGSUMEXP, x, None, axis, where, temperature, np.squeeze(out, axis), stream)
        return out
    y = _call(_LOGSUMEXP, x, None, axis, where, temperature, out, stream)
    return np.expand_dims(y, axis) if keepdims and np.ndim(x) else y


def sparsemax(x, axis=-1, *, where=None, out=None, stream=None):
    """Sparsemax along an axis: of all probabilities the nearest to x, ``max(x - t, 0)`` with the t that makes their sum 1.

    Parameters, dtypes and errors are those of `softmax`; elements that do not count are 0.

    Returns
    -------
    ndarray
        Of the shape and dtype of ``x``; many elements are exactly 0. A row that holds NaN or +inf, or nothing but -inf,
        is NaN.

    Notes
    -----
    t is exact to a rounding in float64 (on a GPU to one of the type that is computed in): found by Newton's method, with
    bisection where that takes long, so that a row of n elements takes O(n) operations for each digit at worst. No element is off
    by more than 2 units in the last place of the largest of the row.

    Source: Martins and Astudillo 2016, arXiv:1602.02068.

    Examples
    --------
    >>> sparsemax([1.0, 0.5, -1.0])
    array([0.75, 0.25, 0.  ])
    """
    return _call(_SPARSEMAX, x, None, axis, where, 1.0, out, stream)


def gumbel_softmax(x, tau=1.0, hard=False, axis=-1, rng=None, *, stream=None):
    """A random sample of the classes whose logits are x, made smooth: ``softmax((x + noise) / tau)``.

    Its largest element is at each place as often as `softmax` says.

    Parameters
    ----------
    x : array_like
        Logits; dtypes as for `softmax`.
    tau : float, default 1
        The temperature, positive; the closer to 0, the closer to one-hot.
    hard : bool, default False
        Whether to return the one-hot array of the largest element instead, of the first among equals.
    axis : int, default -1
    rng : numpy.random.Generator or what `numpy.random.default_rng` takes, optional
        The same seed gives the same sample, hard or not.
    stream : optional
        As for `softmax`.

    Returns
    -------
    ndarray
        Of the shape and dtype of ``x``. A row that holds NaN or +inf, or nothing but -inf, is NaN.

    Notes
    -----
    The noise is minus the logarithm of an exponential variate, drawn in float64 for every dtype and always finite. On a GPU
    it is drawn there, in the type that is computed in, from a seed that comes from ``rng``: the samples are others.

    The gradient with respect to x is that of the smooth sample. For the straight-through estimator, which takes the hard
    sample forward and the smooth one's gradient back, draw both from one seed::

        hard = gumbel_softmax(x, tau, hard=True, rng=seed)
        soft = gumbel_softmax(x, tau, rng=seed)
        grad_x = gumbel_softmax.backward(grad_hard, output=soft, tau=tau)

    Source: Jang et al. 2016, arXiv:1611.01144; Maddison et al. 2016, arXiv:1611.00712.

    Examples
    --------
    >>> gumbel_softmax([[2.0, 1.0, 0.0]], hard=True, rng=0)
    array([[0., 0., 1.]])
    """
    tau = _positive(tau, "tau")
    if any_on_gpu((x,)):
        return gpu_functions().gumbel_softmax(x, tau, hard, operator.index(axis), rng, stream)
    no_stream(stream)
    x = np.asarray(backends.unmasked(x))
    axis = normalize_axis_index(axis, max(x.ndim, 1))
    dtype = softmax(np.empty(0, x.dtype)).dtype
    noisy = x.astype(np.float64 if dtype == np.float64 else np.float32, order="C")
    rng = np.random.default_rng(rng)
    flat = noisy.reshape(-1)
    with np.errstate(all="ignore"):
        for start in range(0, flat.size, NOISE_BLOCK):
            noise = rng.standard_exponential(min(NOISE_BLOCK, flat.size - start))
            flat[start : start + noise.size] -= np.log(np.maximum(noise, np.finfo(float).tiny))
    rows = np.atleast_1d(noisy)
    largest = np.argmax(rows, axis, keepdims=True) if hard and rows.size else None
    softmax(rows, axis, temperature=tau, out=rows)
    if largest is not None:
        # Of a row of NaN everything stays NaN.
        at_largest = np.take_along_axis(rows, largest, axis)
        rows[...] = np.where(np.isnan(at_largest), at_largest, 0)
        np.put_along_axis(rows, largest, np.where(np.isnan(at_largest), at_largest, 1), axis)
    with np.errstate(all="ignore"):
        return noisy.astype(dtype, copy=False)[()]


def _softmax_backward(grad_output, *, output, axis=-1, temperature=1.0, out=None, stream=None):
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
    return _call(_SOFTMAX_BACKWARD, output, grad_output, axis, None, temperature, out, stream)


def _softmax_jacobian(x, axis=-1, *, temperature=1.0, stream=None):
    """The derivatives of every element of `softmax` with respect to every element of its row: ``(diag(p) - p p^T) / T``.

    For looking at: the backward pass does without it.

    Parameters are those of `softmax`.

    Returns
    -------
    ndarray
        Of shape (..., n, n), the axes of x without ``axis`` and twice its length, and of the dtype of softmax's result.

    Notes
    -----
    p (1 - p) on the diagonal is p times the sum of the others, which keeps its digits where p is close to 1.

    Examples
    --------
    >>> softmax.jacobian([0.0, 0.0])
    array([[ 0.25, -0.25],
           [-0.25,  0.25]])
    """
    if any_on_gpu((x,)):
        return gpu_functions().softmax_jacobian(x, operator.index(axis), _positive(temperature, "temperature"), stream)
    no_stream(stream)
    x = np.asarray(backends.unmasked(x))
    dtype = softmax(np.empty(0, x.dtype)).dtype
    p = np.atleast_1d(softmax(x.astype(np.float64 if dtype == np.float64 else np.float32), axis, temperature=temperature))
    p = np.moveaxis(p, axis, -1)
    with np.errstate(all="ignore"):
        jacobian = p[..., :, None] * -p[..., None, :]
        diagonal = np.einsum("...ii->...i", jacobian)
        diagonal[...] = 0
        diagonal[...] = (p - p) - jacobian.sum(axis=-1)  # also of one element NaN for NaN
        return np.divide(jacobian, temperature, out=jacobian).astype(dtype, copy=False)


def _gumbel_softmax_backward(grad_output, *, output, tau=1.0, axis=-1, out=None, stream=None):
    """The gradient of the smooth `gumbel_softmax` from its output y: ``y (g - sum(y g)) / tau``.

    Parameters and errors are those of ``softmax.backward``, with ``tau`` for the temperature.
    """
    return _softmax_backward(grad_output, output=output, axis=axis, temperature=_positive(tau, "tau"), out=out, stream=stream)


def _sparsemax_backward(grad_output, *, output, axis=-1, out=None, stream=None):
    """The gradient of `sparsemax` from its output: g less its mean over the elements that are not 0, and 0 at the others.

    Parameters and errors are those of ``softmax.backward``.
    """
    return _call(_SPARSEMAX_BACKWARD, output, grad_output, axis, None, 1.0, out, stream)


def _log_softmax_backward(grad_output, *, output, axis=-1, temperature=1.0, out=None, stream=None):
    """The gradient of `log_softmax` from its output y: ``(g - exp(y) sum(g)) / T``.

    Elements whose output is -inf, as that of masked ones is, have the gradient 0, and theirs does not count.
    Parameters and errors are those of ``softmax.backward``.
    """
    return _call(_LOG_SOFTMAX_BACKWARD, output, grad_output, axis, None, temperature, out, stream)


def _softmin_backward(grad_output, *, output, axis=-1, temperature=1.0, out=None, stream=None):
    """The gradient of `softmin` from its output y: ``-y (g - sum(y g)) / T``.

    Parameters and errors are those of ``softmax.backward``.
    """
    return _call(_SOFTMIN_BACKWARD, output, grad_output, axis, None, temperature, out, stream)


def _logsumexp_backward(grad_output, x, axis=-1, *, where=None, temperature=1.0, out=None, stream=None):
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
    if np.ndim(grad_output) == np.ndim(x) > 0 and not any_on_gpu((x,)):
        grad_output = np.squeeze(grad_output, axis)
    return _call(_LOGSUMEXP_BACKWARD, x, grad_output, axis, where, temperature, out, stream)


def _method_of(function, name, method):
    method.__name__ = name
    method.__qualname__ = f"{function.__name__}.{name}"
    setattr(function, name, method)


def _compile_both(forward, backward):
    def compile(dtypes):
        forward.compile(dtypes)
        backward.compile(dtypes)

    return compile


for _function, _forward, _backward, _method in (
    (softmax, _SOFTMAX, _SOFTMAX_BACKWARD, _softmax_backward),
    (log_softmax, _LOG_SOFTMAX, _LOG_SOFTMAX_BACKWARD, _log_softmax_backward),
    (softmin, _SOFTMIN, _SOFTMIN_BACKWARD, _softmin_backward),
    (logsumexp, _LOGSUMEXP, _LOGSUMEXP_BACKWARD, _logsumexp_backward),
    (sparsemax, _SPARSEMAX, _SPARSEMAX_BACKWARD, _sparsemax_backward),
):
    _function.gufunc = _forward.gufunc
    _function.compile = _compile_both(_forward, _backward)
    _method_of(_function, "backward", _method)
_method_of(gumbel_softmax, "backward", _gumbel_softmax_backward)
_method_of(softmax, "jacobian", _softmax_jacobian)


def _call(which, x, grad, axis, where, temperature, out, stream=None):
    """The fast lane if all is plain, else the gufunc."""
    if type(x) is not np.ndarray and any_on_gpu((x, grad)):
        return gpu_functions().rows(which.arguments[0], x, grad, operator.index(axis), where, _positive(temperature, "temperature"), out,
                        stream)  # fmt: skip
    no_stream(stream)
    function = which.running
    if where is None:
        y = function.direct(x, grad, axis, temperature, out)
        if y is not None:
            return y
    axis = operator.index(axis)
    temperature = _positive(temperature, "temperature")
    x = _operand(x)
    grad = grad if grad is None else _operand(grad)
    if function.grad_is_row and grad.shape != x.shape:
        raise ValueError(f"grad_output has shape {grad.shape}, output has {x.shape}")
    out = backends.single(out)
    if hasattr(out, "shape"):
        _check_out(out, x.shape, None if function.result_is_row else axis)
    if x.ndim == 0 and axis in (0, -1):
        y = _call(which, x.reshape(1), grad.reshape(1) if function.grad_is_row else grad, 0, where, temperature,
                  out.reshape(1) if function.result_is_row and out is not None else out)
        return out if out is not None else y[0] if function.result_is_row else y
    learn_bfloat16()
    if out is None and function.result_is_row and (grad is None or function.grad_is_row):
        out = _like(x)
    operands = [x] if grad is None else [grad, x]
    gufunc = function.gufunc
    if where is not None or temperature != 1:
        gufunc = function.general
        if function.with_mask:
            operands.append(_mask(where, x))
        operands.append(temperature)
    if out is None:
        return gufunc(*operands, axis=axis)
    if getattr(out, "dtype", None) is x.dtype:
        return gufunc(*operands, axis=axis, out=out)
    with np.errstate(all="ignore"):  # a cast to a narrower out may overflow, as it should
        return gufunc(*operands, axis=axis, out=out)


def _like(x):
    """Memory for a result that lies as x does; None for others than NumPy's arrays. That of a gufunc has the axis in its rows."""
    if type(x) is not np.ndarray or not backends.has_kernels(x.dtype) or not x.dtype.isnative:
        return None
    return backends.empty(x) if x.flags.c_contiguous else np.empty_like(x)


def _positive(number, name):
    number = float(number)
    if not number > 0:
        raise ValueError(f"{name} must be positive, not {number}")
    return number


def _check_out(out, shape, without):
    """Raise ValueError unless out has that shape, without an axis unless that is None: a gufunc would repeat the result."""
    if without is not None and shape:
        without = normalize_axis_index(without, len(shape))
        shape = shape[:without] + shape[without + 1 :]
    if out.shape != shape:
        raise ValueError(f"out has shape {out.shape}, not {shape}")


def _mask(where, x):
    where = True if where is None else where
    dtype = where.dtype if hasattr(where, "dtype") else np.asarray(where).dtype
    if dtype.kind != "b":
        raise TypeError(f"where must be boolean, not {dtype}")
    if isinstance(x, np.ndarray):
        return np.broadcast_to(where, x.shape)
    return np.logical_and(np.ones_like(x, dtype=bool), where)  # of the same kind as x, in the same chunks


def _operand(x):
    x = backends.unmasked(x)
    return x if hasattr(type(x), "__array_ufunc__") else np.asarray(x)
