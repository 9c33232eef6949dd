"""Gated functions: an activation of one array times another, from two arrays or from the two halves of one; maxout."""

from __future__ import annotations

import inspect
import operator

import numpy as np

from . import backends
from .activations import UFUNC_KEYWORDS, _Function, callable_like_builtin
from .backends import dispatch, learn_bfloat16
from .devices import any_on_gpu, gpu_functions, library_of, no_stream
from .table import GATED, HALF_ULP, GatedRow

__all__ = [*(row.name for row in GATED), "maxout"]


def _doc(row: GatedRow, kind: str, packed_only: bool) -> str:
    """A numpydoc docstring for a gated function or its backward pass."""
    first, second = row.inputs
    backward = kind == "backward"
    formula = f"f({first}, {second}) = {row.formula}" if not backward else \
        f"With g = grad_output: grad_{first} = {row.gradients[0]}, grad_{second} = {row.gradients[1]}."  # fmt: skip
    arrays = f"x : array_like\n    Its first half along the axis is the {first}, its second half the {second}.\naxis : int, default -1\n"
    if not packed_only:
        arrays = f"{first}, {second} : array_like\n    Or one array alone, that holds both: its first half along the axis is the {first}.\n"
    gradient = f"grad_output : array_like\n    Gradient with respect to the output, of the shape of {first}.\n" if backward else ""
    out = "Where to put the result."
    returns = "ndarray or scalar"
    if backward:
        pair = f"\n(grad_{first}, grad_{second}) : tuple of ndarray or scalar"
        packed = "ndarray\n    Both gradients, as x holds its halves."
        returns = packed if packed_only else pair.lstrip() + f"\n    For one array alone: {packed}"
        out = "Where to put the result; may be x." if packed_only else \
            "A tuple of two for the gradients, which may be any of the inputs; one, which may be x, for one array alone."  # fmt: skip
    axis = "" if packed_only else "axis : int, default -1, keyword only\n    Of the halves of one array.\n"
    single, double = row.max_ulp_backward if backward else row.max_ulp
    return f"""{'Gradients' if backward else row.summary[:-1]}{f' of {row.name}, in one pass' if backward else ''}.

{formula}

Parameters
----------
{gradient}{arrays}out : ndarray{' or tuple of ndarray' if backward and not packed_only else ''}, optional
    {out}
{axis}where, dtype, casting, order, subok
    As for any NumPy ufunc. Arrays on a GPU go with where, which must be one too, dtype, and stream: where they are worked on
    instead of their library's current stream.

Returns
-------
{returns}

Raises
------
TypeError
    For complex, object or string input, or an unknown argument.
ValueError
    If shapes do not broadcast, out does not fit, or the axis to halve is of odd length.

Notes
-----
At most {single} ULP in float32, {double} in float64, {HALF_ULP} in half types, which are computed in float32, wherever
the activation of the gate and the result are normal numbers. A gate too far out for its activation to be one (below
-112 in float32; -14.9 for gelu) is shut. NaN gives NaN; a shut gate gives 0, against an infinity too; no
floating-point warning.

References
----------
{row.source}"""


@callable_like_builtin
class _GatedFunction(_Function):
    """A function of two arrays or of the halves of one, or its backward pass."""

    packed_only = False

    def __init__(self, row: GatedRow, kind: str):
        inputs = ("grad_output",) * (kind == "backward") + row.inputs
        super().__init__(row, kind, inputs, _doc(row, kind, self.packed_only), outputs=2 if kind == "backward" else 1)

    def _signature(self):
        parameter = inspect.Parameter
        arrays = [parameter(name, parameter.POSITIONAL_ONLY) for name in self.inputs]
        axis = parameter("axis", parameter.KEYWORD_ONLY, default=-1)
        if self.packed_only:
            arrays[-2:] = [parameter("x", parameter.POSITIONAL_ONLY), axis.replace(kind=parameter.POSITIONAL_OR_KEYWORD)]
        else:
            arrays[-1] = arrays[-1].replace(default=None)
        rest = super()._signature().parameters
        return inspect.Signature(arrays + [rest["out"]] + [axis] * (not self.packed_only) + [rest[name] for name in UFUNC_KEYWORDS])

    _suffixes = {"forward": "", "backward": "_backward"}

    def _general(self, *args, axis=-1, **kwargs):
        arrays = args[len(self.inputs) - 2 :]
        if not arrays or len(arrays) > 1 and arrays[1] is not None:
            if axis != -1:
                raise TypeError(f"{self.__name__}() takes an axis only for one array that holds both halves")
            return super()._general(*args, **kwargs)
        if len(arrays) > 2:
            raise TypeError(f"{self.__name__}() takes out by name where one array holds both halves")
        return self._halves(*args[: len(self.inputs) - 1], axis=axis, **kwargs)

    def _halves(self, *args, axis, out=None, **kwargs):
        """The same for one array: (x) or (grad_output, x)."""
        *grad, x = args
        axis = operator.index(axis)
        out = backends.single(out)
        if not kwargs and type(x) is np.ndarray and backends.active == "cython":
            y = dispatch.packed(self, x, axis + x.ndim if axis < 0 else axis, *grad or (None,), out)
            if y is not None:
                return y
        on_gpu = any_on_gpu((x,))
        if not on_gpu:
            x, *grad = (a if hasattr(type(a), "__array_ufunc__") or isinstance(a, (int, float)) else np.asarray(a)
                        for a in (x, *grad))  # fmt: skip
        if not -np.ndim(x) <= axis < np.ndim(x):
            raise np.exceptions.AxisError(axis, np.ndim(x))
        if x.shape[axis] % 2:
            raise ValueError(f"{self.__name__}() halves axis {axis}, which must be of even length, not {x.shape[axis]}")
        first, second = _split(x, axis)
        if not grad:
            return super()._general(first, second, **({} if out is None else {"out": out}), **kwargs)
        if np.broadcast_shapes(np.shape(grad[0]), first.shape) != first.shape:
            raise ValueError(f"grad_output has shape {np.shape(grad[0])}, not {first.shape} as the output")
        if out is None and not kwargs and type(x) is np.ndarray and getattr(grad[0], "dtype", None) == x.dtype and x.dtype.kind == "f":
            out = np.empty_like(x)
        if out is None and on_gpu and library_of(x).writeable:
            out = gpu_functions().empty_like(x, kwargs.get("stream"))
        if out is None:
            concatenate = x.__array_namespace__().concat if on_gpu else np.concatenate
            return concatenate(super()._general(*grad, first, second, **kwargs), axis=axis)
        if not isinstance(out, np.ndarray) and not on_gpu:
            raise TypeError(f"out must be an ndarray, not {type(out).__name__}")
        if out.shape != x.shape:
            raise ValueError(f"out has shape {out.shape}, x has {x.shape}")
        super()._general(*grad, first, second, out=_split(out, axis), **kwargs)
        return out

    def __reduce__(self):
        return self.__name__ if self.kind == "forward" else (getattr, (globals()[self.row.name], self.kind))


class _PackedFunction(_GatedFunction):
    """The same of one array only, whose axis may be given by position."""

    packed_only = True

    def __call__(self, *args, **kwargs):
        *args, axis = args if len(args) == len(self.inputs) else (*args, kwargs.pop("axis", -1))
        if len(args) != len(self.inputs) - 1:
            raise TypeError(f"{self.__name__}() takes {', '.join(self.__signature__.parameters)}")
        return self._halves(*args, axis=axis, **kwargs)


def maxout(x, axis=-1, *, out=None, stream=None):
    """The largest of the pieces along an axis, which disappears.

    f(x) = max over the axis. A layer of k pieces a unit gives its output as (..., units, k).

    Parameters
    ----------
    x : array_like
        float16, bfloat16 (ml_dtypes), float32 or float64; integers stay integers.
    axis : int, default -1
        Of the pieces; at least one.
    out : ndarray, optional
        Of the shape of x without the axis.
    stream : optional
        Where arrays on a GPU, floating-point there, are worked on, instead of their library's current stream: a stream or its
        handle.

    Returns
    -------
    ndarray or scalar
        Exact. NaN where a piece is NaN.

    Raises
    ------
    TypeError
        For complex, object or string input.
    ValueError
        If there are no pieces, axis is out of range, or out does not fit.

    See Also
    --------
    maxout.backward

    References
    ----------
    Goodfellow et al. 2013, arXiv:1302.4389

    Examples
    --------
    >>> maxout([[1.0, 3.0], [2.0, -1.0]])
    array([3., 2.])
    """
    if any_on_gpu((x,)):
        return gpu_functions().rows("maxout", x, axis=_axis_of_pieces(x.shape, axis), out=out, stream=stream)
    no_stream(stream)
    x, axis = _pieces(x, axis)
    out = backends.single(out)
    if type(x) is not np.ndarray or not backends.has_kernels(x.dtype):
        return np.maximum.reduce(x, axis=axis, out=out)
    shape = x.shape[:axis] + x.shape[axis + 1 :]
    plain = _fits(out, shape, x.dtype) and out.flags.c_contiguous and not np.may_share_memory(out, x)
    y = out if plain else backends.empty(x[(slice(None),) * axis + (0, ...)])
    _maxout(np.ascontiguousarray(x), axis, y)
    return _given(y[()], out, plain)


def _maxout_backward(grad_output, x, axis=-1, *, out=None, stream=None):
    """The gradient of `maxout`: grad_output for the first of the largest pieces, 0 for the others, in one pass.

    Parameters
    ----------
    grad_output : array_like
        Of the shape of x without the axis, or a scalar.
    x, axis
        As they were in the forward pass.
    out : ndarray, optional
        Of the shape of x, which it may be.
    stream : optional
        As for `maxout`; there grad_output is no scalar.

    Returns
    -------
    ndarray
        Of the shape of x. Where a piece is NaN, the first such piece gets NaN.

    Raises
    ------
    TypeError, ValueError
        As `maxout` does, and if grad_output has another shape.
    """
    if any_on_gpu((grad_output, x)):
        return gpu_functions().rows("maxout_backward", x, grad_output, _axis_of_pieces(np.shape(x), axis), out=out, stream=stream)
    no_stream(stream)
    x, axis = _pieces(np.asarray(x), axis)
    shape = x.shape[:axis] + x.shape[axis + 1 :]
    dtype = np.result_type(grad_output if isinstance(grad_output, (int, float)) else np.asarray(grad_output),
                           x.dtype if x.dtype.kind not in "?biu" else np.exp(np.empty(0, x.dtype)).dtype)  # fmt: skip
    backends.computed_in(dtype)
    grad_output, out = np.asarray(grad_output), backends.single(out)
    backends.check_real(grad_output, "grad_output")
    if np.ndim(grad_output) and np.shape(grad_output) != shape:
        raise ValueError(f"grad_output has shape {np.shape(grad_output)}, not {shape} as the output")
    with np.errstate(all="ignore"):
        grad = np.ascontiguousarray(np.broadcast_to(grad_output, shape), dtype)
    x = np.ascontiguousarray(x, dtype)
    plain = _fits(out, x.shape, dtype) and out.flags.c_contiguous and not np.may_share_memory(out, grad) and (
        out is x or not np.may_share_memory(out, x))  # fmt: skip
    y = out if plain else backends.empty(x)
    _maxout(x, axis, grad, y)
    return _given(y, out, plain)


def _maxout(*arguments):
    """The pass of the backend that runs."""
    passes = backends.compiled_kernels("passes") if backends.active == "cython" else backends.numba_kernels("passes")
    passes.maxout(*arguments)


def _given(y, out, plain):
    """The result where the caller wants it, in which it is already if that is plain."""
    if out is None:
        return y
    if not plain:
        with np.errstate(all="ignore"):  # a cast to a narrower type may overflow, as it should
            np.copyto(out, y, casting="same_kind")
    return out


_maxout_backward.__name__ = "backward"
_maxout_backward.__qualname__ = "maxout.backward"
maxout.backward = _maxout_backward


def _pieces(x, axis):
    """x as an array with such an axis, which comes back counted from the front, and pieces along it."""
    x = x if hasattr(type(x), "__array_ufunc__") else np.asarray(x)
    backends.check_real(x, "the pieces")
    x = x if x.dtype.isnative else x.astype(x.dtype.newbyteorder("="))
    axis = _axis_of_pieces(x.shape, axis)
    learn_bfloat16()
    return x, axis


def _axis_of_pieces(shape, axis):
    """Counted from the front."""
    axis = operator.index(axis)
    if not -len(shape) <= axis < len(shape):
        raise np.exceptions.AxisError(axis, len(shape))
    if shape[axis] == 0:
        raise ValueError(f"maxout has no pieces along axis {axis} of shape {tuple(shape)}")
    return axis % len(shape)


def _fits(out, shape, dtype):
    """Whether out is there and of that shape and dtype; raises where it is no writeable array of that shape."""
    if out is None:
        return False
    if not isinstance(out, np.ndarray):
        raise TypeError(f"out must be an ndarray, not {type(out).__name__}")
    if out.shape != shape or not out.flags.writeable:
        raise ValueError(f"out must be a writeable array of shape {shape}, not {out.shape}")
    return type(out) is np.ndarray and out.dtype == dtype and out.flags.aligned


def _split(x, axis):
    """Its halves, as views."""
    lead = (slice(None),) * (axis % x.ndim)
    half = x.shape[axis] // 2
    return x[(*lead, slice(None, half))], x[(*lead, slice(half, None))]


def _made(row: GatedRow):
    kind = _PackedFunction if row.name == "glu" else _GatedFunction
    function = kind(row, "forward")
    function.backward = kind(row, "backward")
    function.max_ulp = {"float16": HALF_ULP, "bfloat16": HALF_ULP, "float32": row.max_ulp[0], "float64": row.max_ulp[1]}
    return function


for _row in GATED:
    globals()[_row.name] = _made(_row)
