"""The public activations, made from the table."""

from __future__ import annotations

import functools
import inspect
import math

import numpy as np

from . import backends, ufuncs
from .backends import NARROW_INTEGERS, kernels, learn_bfloat16
from .devices import any_on_gpu, gpu_functions
from .table import ACTIVATIONS, HALF_ULP, Row

if backends.dispatch is not None:
    from ._kernels.dispatch import Elementwise, callable_like_builtin
else:

    def callable_like_builtin(cls):
        """Nothing is compiled: Python's way of calling will do."""
        return cls

    class Elementwise:
        """The way in where nothing is compiled: all calls go to ``general``."""

        def __init__(self, name, doc, kernels, inputs, parameters, cost, general, integers=None, outputs=1):
            self.general = general

        def admit(self, loop, data):
            """No lane is faster."""

        def __call__(self, *args, **kwargs):
            return self.general(*args, **kwargs)


NANOSECONDS = {True: 0.05, False: 0.25}
"""What an element of a cheap function costs, and of another: measured at 64 K elements, only the order matters."""

UFUNC_KEYWORDS = ("where", "dtype", "casting", "order", "subok")
ONE_TO_ONE_FROM_ZERO = {"negative_slope", "alpha", "lower", "upper"}
"""Parameters that must not be negative where the derivative is told from the output: several inputs would share it."""


def _doc(row: Row, kind: str) -> str:
    """A numpydoc docstring for an activation, its derivative or its backward pass."""
    title = {"forward": row.summary, "derivative": f"Derivative of {row.name}.",
             "backward": f"Gradient of {row.name}: grad_output times the derivative, in one pass."}[kind]  # fmt: skip
    formula = {"forward": f"f(x) = {row.formula}", "derivative": f"f'(x) = {row.derivative}",
               "backward": f"grad_output f'(x), f'(x) = {row.derivative}"}[kind]  # fmt: skip
    x = "x : array_like\n    float16, bfloat16 (ml_dtypes), float32 or float64, computed in that type, half types in float32\n" \
        "    and rounded once. Integers are converted as np.exp converts them"
    x += ", but stay integers." if row.integers and kind == "forward" else "."
    parameters = "".join(f"{name} : array_like{'' if default is None else f', default {default:.7g}'}\n    Broadcast with the input.\n"
                         for name, default in row.parameters)  # fmt: skip
    gradient = "grad_output : array_like\n    Gradient with respect to the output, of the shape of x.\n" if kind == "backward" else ""
    output = ""
    if kind == "backward":
        output = "output : array_like, keyword only\n    What the function returned, instead of x" + (
            ".\n" if row.from_output else "; not possible for this function, whose derivative needs x.\n")
    single, double = row.max_ulp if kind == "forward" else row.max_ulp_derivative
    notes = f"At most {single} ULP in float32, {double} in float64, {HALF_ULP} in half types, tails included." if kind != "backward" else \
        "One rounding more than the derivative."
    if kind == "backward" and row.from_output:
        notes += (" From the output, which is rounded, it is as exact beside 1: where the function levels off, as sigmoid does at 17 in float32, "
                  "it gives 0.")
    notes += " NaN gives NaN, infinities the limit; no floating-point warning."
    if row.custom:
        notes = "Compiled by Numba as its source says, which also decides what becomes of NaN and infinities; no floating-point warning."
    source = f"\n\nReferences\n----------\n{row.source}" if row.source else ""
    return f"""{title}

{formula}

Parameters
----------
{gradient}{x}
{parameters}out : ndarray, optional
    Where to put the result; may be {'grad_output or ' if kind == 'backward' else ''}x.
{output}where, dtype, casting, order, subok
    As for any NumPy ufunc. Arrays on a GPU go with where, which must be one too, dtype, and stream: where they are worked on
    instead of their library's current stream.

Returns
-------
ndarray or scalar

Raises
------
TypeError
    For complex, object or string input, or an unknown argument.
ValueError
    If shapes do not broadcast or out does not fit.

Notes
-----
{notes}{source}"""


def _loops(name):
    """Where the compiled loops of a function lie; not all can store past the cache, skip elements or take half types as they are."""
    kinds = "float_past_cache", "double_past_cache", "float_strided", "double_strided", "half", "bfloat"
    optional = {kind: kernels.get(f"{name}_{kind}", 0) for kind in kinds}
    return optional | {kind: kernels[f"{name}_{kind}"] for kind in ("float", "double")}


@callable_like_builtin
class _Function(Elementwise):
    """One elementwise callable: an activation, its derivative, or one of its backward passes."""

    def __init__(self, row: Row, kind: str, inputs: tuple[str, ...], doc: str, outputs: int = 1):
        self.row = row
        self.kind = kind
        self.inputs = inputs
        self.outputs = outputs
        self._defaults = tuple(default for _, default in row.parameters)
        # NumPy takes arrays three times as fast as numbers.
        self._typed_defaults = {} if None in self._defaults else {
            char: tuple(np.array(default, char) for default in self._defaults) for char in "fd"}  # fmt: skip
        self.__name__ = row.name if kind == "forward" else f"{row.name}.{kind}"
        self.__qualname__ = self.__name__
        self.__module__ = __package__
        self.__doc__ = doc
        self.__signature__ = self._signature()
        super().__init__(
            self.__name__.replace(".", "_"),
            doc,
            None if row.custom or not kernels else _loops(f"{row.name}_{kind}"),
            len(inputs),
            row.parameters,
            NANOSECONDS[row.cheap] * outputs,
            self._general,
            integers=row.integers if kind == "forward" else None,
            outputs=outputs,
        )
        if not row.custom:  # of which one may have the name of ours
            ufuncs.FINDERS[self.__name__.replace(".", "_")] = lambda: self.ufunc

    def _signature(self):
        parameter = inspect.Parameter
        empty = parameter.empty
        return inspect.Signature(
            [parameter(name, parameter.POSITIONAL_ONLY) for name in self.inputs]
            + [parameter(name, parameter.POSITIONAL_OR_KEYWORD, default=empty if default is None else default)
               for name, default in self.row.parameters]
            + [parameter("out", parameter.POSITIONAL_OR_KEYWORD, default=None)]
            + [parameter(name, parameter.KEYWORD_ONLY, default=default)
               for name, default in zip(UFUNC_KEYWORDS, (True, None, "same_kind", "K", True))]
        )  # fmt: skip

    def _general(self, *args, **kwargs):
        """Anything that NumPy understands, through the ufunc."""
        if self._is_plain(args, kwargs):
            return self.ufunc(*args, *self._typed_defaults[args[0].dtype.char], **kwargs)
        operands = list(args[: len(self.inputs)])
        if len(operands) < len(self.inputs):
            raise TypeError(f"{self.__name__}() needs {' and '.join(self.inputs)}")
        rest = list(args[len(self.inputs) :])
        on_gpu = any_on_gpu(operands)
        narrow = not on_gpu and kwargs.get("dtype") is None and all(getattr(x, "dtype", None) in NARROW_INTEGERS for x in operands)
        for name, default in self.row.parameters:
            if rest:
                if name in kwargs:
                    raise TypeError(f"{self.__name__}() got {name} twice")
                value = rest.pop(0)
            else:
                value = kwargs.pop(name, default)
            if value is None:
                raise TypeError(f"{self.__name__}() needs {name}")
            if narrow and isinstance(value, (int, float)):
                value = np.float32(value)
            operands.append(value)
        results = self.outputs
        if len(rest) == results and "out" not in kwargs:
            kwargs["out"] = rest.pop() if results == 1 else tuple(rest)
            rest = []
        if rest:
            raise TypeError(f"{self.__name__}() takes {len(self.inputs) + len(self.row.parameters) + results} positional arguments "
                            f"at most, {len(args)} were given")
        for name in kwargs:
            if name != "out" and name not in UFUNC_KEYWORDS and not (on_gpu and name == "stream"):
                raise TypeError(f"{self.__name__}() got an unexpected keyword argument {name!r}")
        if on_gpu:
            return gpu_functions().elementwise(self, operands, **kwargs)
        learn_bfloat16()
        if self.row.parameters and kwargs.get("dtype") is not None:
            kwargs["signature"] = self.signature_in(kwargs.pop("dtype"))
        if not self.row.parameters and kwargs.keys().isdisjoint(("out", "dtype", "signature")):
            return self.ufunc(*operands, **kwargs)
        with np.errstate(all="ignore"):  # a cast to a narrower type may overflow, as it should, also of a parameter
            return self.ufunc(*operands, **kwargs)

    def signature_in(self, dtype):
        """The dtypes of operands and results of a call in one dtype: parameters beside half types are float32."""
        dtype = np.dtype(dtype)
        parameter = np.dtype(np.float32) if dtype.itemsize == 2 else dtype
        return (dtype,) * len(self.inputs) + (parameter,) * len(self.row.parameters) + (dtype,) * self.outputs

    def _is_plain(self, args, kwargs):
        """Whether there are only arrays of one type that the ufunc takes as they are, and the parameters are the default ones."""
        arrays = (*args, kwargs.get("out")) if kwargs else args
        if len(args) != len(self.inputs) or len(kwargs) > 1 or not self._typed_defaults or type(args[0]) is not np.ndarray:
            return False
        dtype = args[0].dtype
        if dtype.char not in "fd":
            return False
        for array in arrays:
            if type(array) is not np.ndarray or array.dtype is not dtype:
                return False
        return True

    @property
    def ufunc(self):
        """The np.ufunc of the backend that runs."""
        return self._numba.ufunc if self.row.custom or backends.active == "numba" else super().ufunc

    @functools.cached_property
    def _numba(self):
        numba = backends.numba_kernels().Ufunc(
            self.__name__.replace(".", "_"),
            self.__doc__,
            self.formula,
            inputs=len(self.inputs),
            parameters=len(self.row.parameters),
            outputs=self.outputs,
            backward=self.kind.startswith("backward") and self.outputs == 1,
            cost=NANOSECONDS[self.row.cheap],
            integers=self.row.integers if self.kind == "forward" else None,
            known=None if self.row.custom else (self.row.name, self.kind),
            defaults=self._defaults,
        )
        self.admit(*numba.floating)
        return numba

    def formula(self, T):
        """Numba's function of a number of that NumPy type: this function, or for a backward pass the derivative."""
        if self.row.custom:
            return self.row.compiled(T, self.kind)
        return backends.numba_kernels().formulas(T)[self.row.name + self._suffixes.get(self.kind, "_derivative")]

    _suffixes = {"forward": "", "backward_from_output": "_derivative_from_output"}

    nin = property(lambda self: self.ufunc.nin)
    types = property(lambda self: self.ufunc.types)
    name = property(lambda self: self.row.name)
    parameters = property(lambda self: dict(self.row.parameters))

    def compile(self, dtypes):
        """Have Numba compile what these dtypes need (see `fastact.warmup`)."""
        for dtype in dtypes:
            self._numba.compile(dtype)

    def __repr__(self):
        return f"<{__package__} function {self.__name__!r}>"

    def __reduce__(self):
        return getattr, (self.owner, self.kind)


@callable_like_builtin
class _Backward(_Function):
    """grad_output times the derivative, at the input or, with ``output=``, at what the saved output tells of it."""

    def __init__(self, row: Row):
        super().__init__(row, "backward", ("grad_output", "x"), _doc(row, "backward"))
        if row.from_output:
            self._from_output = _Function(row, "backward_from_output", ("grad_output", "output"), _doc(row, "backward"))

    def _signature(self):
        signature = super()._signature()
        parameters = [p.replace(default=None) if k > 0 and p.default is p.empty else p
                      for k, p in enumerate(signature.parameters.values())]
        return signature.replace(parameters=parameters + [inspect.Parameter("output", inspect.Parameter.KEYWORD_ONLY, default=None)])

    def compile(self, dtypes):
        super().compile(dtypes)
        if self.row.from_output:
            self._from_output.compile(dtypes)

    def _general(self, *args, output=None, **kwargs):
        if output is None:
            return super()._general(*args, **kwargs)
        if not self.row.from_output:
            raise TypeError(f"the derivative of {self.row.name} cannot be told from its output; it needs the input: "
                            f"{self.row.name}.backward(grad_output, x)")
        if len(args) != 1:
            raise TypeError(f"{self.__name__}() takes either x or output, and what follows them by name")
        for name in ONE_TO_ONE_FROM_ZERO & kwargs.keys():
            if np.any(np.less(kwargs[name], 0)):
                raise ValueError(f"with a negative {name} the output of {self.row.name} does not tell the derivative; give the input")
        return self._from_output(args[0], output, **kwargs)


class _PreluBackward:
    """As prelu's slope is learned, its gradient comes along: ``(grad_input, grad_weight)``, the latter of weight's shape.

    Both come from one pass over memory where the weight is one number, or one for every place along axes that follow each
    other. Terms, 0 where x > 0, are summed in float64, then in an order that depends on the shape alone.
    """

    def __init__(self, row: Row):
        self._grad_input = _Backward(row)
        for name in ("__name__", "__qualname__", "__module__", "__signature__"):
            setattr(self, name, getattr(self._grad_input, name))
        self.__doc__ = type(self).__doc__ + "\n\n" + self._grad_input.__doc__

    def __reduce__(self):
        return getattr, (self.owner, "backward")

    def compile(self, dtypes):
        self._grad_input.compile(dtypes)

    def __call__(self, grad_output=None, x=None, weight=None, out=None, **kwargs):
        weight = np.asarray(weight) if isinstance(weight, np.generic) else weight
        given = {"grad_output": grad_output, "x": x, "weight": weight}
        if any(value is None for value in given.values()):
            raise TypeError(f"{self.__name__}() needs {' and '.join(name for name, value in given.items() if value is None)}")
        if any_on_gpu((grad_output, x)):
            return gpu_functions().prelu_backward(self._grad_input, grad_output, x, weight, out, **kwargs)
        if not kwargs:
            gradients = self._in_one_pass(grad_output, x, weight, out) or self._of_copies(grad_output, x, weight, out)
            if gradients is not None:
                return gradients
        for name, array in given.items():
            if isinstance(array, np.ndarray):
                backends.check_real(array, name)
        with np.errstate(all="ignore"):
            # Before out= may overwrite what they are made of.
            terms = np.where(np.greater(x, 0), 0.0, np.multiply(grad_output, x, dtype=np.float64))
            if kwargs.get("where", True) is not True:
                terms = np.where(kwargs["where"], terms, 0)
            shape = np.shape(weight)
            _check_weight(shape, terms.shape)
            grad_input = self._grad_input(grad_output, x, weight, out=out, **kwargs)
            extra = terms.ndim - len(shape)
            axes = tuple(range(extra)) + tuple(extra + k for k, n in enumerate(shape) if n == 1)
            dtype = getattr(grad_input, "dtype", None)
            dtype = dtype if isinstance(dtype, np.dtype) else np.asarray(grad_input).dtype  # of pandas and PyTorch
            return grad_input, terms.sum(axis=axes).reshape(shape).astype(dtype)

    def _of_copies(self, grad_output, x, weight, out):
        """Both gradients of arrays that lie otherwise, by way of contiguous ones: so that sums have the same bits. None for other types."""
        arrays = [a for a in (grad_output, x, out, weight) if a is not None and type(a) not in (int, float)]
        dtype = x.dtype.newbyteorder("=") if type(x) is np.ndarray else None
        if any(type(a) is not np.ndarray or a.dtype.newbyteorder("=") != dtype for a in arrays):
            return None
        shape = np.broadcast_shapes(grad_output.shape, x.shape)
        _check_weight(np.shape(weight), shape)
        if out is not None and (out.shape != shape or not out.flags.writeable):
            return None
        weight = weight.astype(dtype) if isinstance(weight, np.ndarray) else weight
        copies = (np.ascontiguousarray(np.broadcast_to(a, shape), dtype) for a in (grad_output, x))
        gradients = self._in_one_pass(*copies, weight, None)
        if gradients is None:
            return None
        if out is None and x.shape != shape:
            return gradients
        out = np.empty_like(x, dtype) if out is None else out
        out[...] = gradients[0]
        return out, gradients[1]

    def _in_one_pass(self, grad_output, x, weight, out):
        """Both gradients, or None for what is not plain enough."""
        if not type(x) is type(grad_output) is np.ndarray or type(weight) not in (int, float, np.ndarray) or type(out) not in (type(None), np.ndarray):
            return None
        shape = weight.shape if type(weight) is np.ndarray else ()
        if type(weight) is np.ndarray and weight.dtype != x.dtype or len(shape) > x.ndim:
            return None
        # Axes of the weight: those before, those that it has, those after.
        own = [k + x.ndim - len(shape) for k, n in enumerate(shape) if n > 1]
        first, last = (own[0], own[-1] + 1) if own else (0, 0)
        if shape and any(n not in (1, x.shape[k]) for n, k in zip(shape[::-1], range(x.ndim)[::-1])):
            return None
        if [k for k in range(first, last) if x.shape[k] > 1] != own:
            return None
        channels, inner = math.prod(x.shape[first:last]), math.prod(x.shape[last:])
        wide = np.float64 if x.dtype == np.float64 else np.float32
        if out is not None and type(weight) is np.ndarray and np.may_share_memory(out, weight):
            weight = weight.copy()
        with np.errstate(all="ignore"):
            weight = np.ascontiguousarray(weight, wide).reshape(-1)
            copies = 1
            if inner == 1 and channels > 1:
                copies = max(1, SHORT // channels)  # so that the innermost loop is a long one
                weight = np.tile(weight, copies)
            learn_bfloat16()
            if backends.active == "cython":
                done = backends.compiled_kernels("passes").prelu_backward(grad_output, x, weight, inner, out)
            else:
                done = backends.numba_kernels("passes").prelu_backward(self._grad_input._numba, grad_output, x, weight, inner, out)
            if done is None:
                return None
            grad_input, sums = done
            if sums.size > channels:
                runs = sums.shape[-1] if inner > 1 or channels == 1 else 1
                sums = sums.reshape(-1, channels, runs).sum(axis=(0, 2))
            return grad_input[()] if out is None else out, sums.astype(x.dtype).reshape(shape)[()]


def _check_weight(shape, of_x):
    if np.broadcast_shapes(shape, of_x) != of_x:
        raise ValueError(f"prelu.backward() takes a weight that broadcasts to the shape {of_x} of its arrays, not one of shape {shape}")


SHORT = 256
"""Numbers; an inner loop shorter than that costs more than what it does."""


@callable_like_builtin
class _RreluBackward(_Backward):
    """With the slopes that a call in training returned, or in evaluation without."""

    def __init__(self, row: Row):
        super().__init__(row)
        self.__doc__ = self.__doc__.replace("lower : array_like", "slopes : array_like, keyword, or alone after x\n    What "
                                            "rrelu(..., training=True, return_slopes=True) gave.\nlower : array_like")  # fmt: skip

    def _signature(self):
        signature = super()._signature()
        slopes = inspect.Parameter("slopes", inspect.Parameter.KEYWORD_ONLY, default=None)
        return signature.replace(parameters=[*signature.parameters.values(), slopes])

    def _general(self, *args, slopes=None, output=None, **kwargs):
        if slopes is None and len(args) == 3 and np.ndim(args[2]) > 0 and "upper" not in kwargs:
            *args, slopes = args
        if slopes is None:
            return super()._general(*args, output=output, **kwargs)
        if kwargs.keys() & {"lower", "upper"}:
            raise TypeError("rrelu.backward() takes either slopes or lower and upper")
        return leaky_relu.backward(*args, output=output, negative_slope=slopes, **kwargs)  # noqa: F821


@callable_like_builtin
class Activation(_Function):
    """An activation function: a NumPy ufunc with a faster way in, a derivative and a backward pass.

    Attributes
    ----------
    derivative, backward
        Callables of the same kind.
    ufunc : numpy.ufunc
        What handles everything but plain contiguous arrays.
    max_ulp : dict
        The promised largest error in units in the last place, by dtype.
    backward_needs : str
        ``"output"`` if ``backward(grad_output, output=y)`` is possible, else ``"input"``.
    name, parameters, nin, types
        As the table and the ufunc have them.
    """

    def __init__(self, row: Row):
        super().__init__(row, "forward", ("x",), _doc(row, "forward"))
        self.derivative = _Function(row, "derivative", ("x",), _doc(row, "derivative"))
        self.backward = {"prelu": _PreluBackward, "rrelu": _RreluBackward}.get(row.name, _Backward)(row)
        self.derivative.owner = self.backward.owner = self
        self.backward_needs = "output" if row.from_output else "input"
        self.max_ulp = {"float16": HALF_ULP, "bfloat16": HALF_ULP, "float32": row.max_ulp[0], "float64": row.max_ulp[1]}

    def __reduce__(self):
        return self.__qualname__

    def compile(self, dtypes):
        for function in (super(), self.derivative, self.backward):
            function.compile(dtypes)


@callable_like_builtin
class _Rrelu(Activation):
    """In training every negative element gets a slope of its own."""

    def __init__(self, row: Row):
        super().__init__(row)
        self.__doc__ = self.__doc__.replace("out : ndarray, optional", """training : bool, default False
    Whether each element gets a slope of its own, uniform between lower and upper; else all get the mean of these.
rng : int or numpy.random.Generator, optional
    Where the slopes come from; a number seeds a generator. On a GPU they are drawn there, between two numbers, from a seed that
    comes from it.
return_slopes : bool, default False
    Whether to return (result, slopes), the latter for ``rrelu.backward(grad_output, x, slopes=slopes)``.
out : ndarray, optional""", 1)

    def _signature(self):
        signature = super()._signature()
        return signature.replace(parameters=[*signature.parameters.values(),
                                             *(inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default)
                                               for name, default in (("training", False), ("rng", None), ("return_slopes", False)))])  # fmt: skip

    def _general(self, *args, training=False, rng=None, return_slopes=False, **kwargs):
        if len(args) in (4, 5) and isinstance(args[3], (bool, np.bool_)):  # as PyTorch has it: x, lower, upper, training
            training, rng, args = args[3], args[4] if len(args) == 5 else rng, args[:3]
        if not training and not return_slopes:
            return super()._general(*args, **kwargs)
        given = dict(zip(self.parameters, args[1:]))
        if not args or len(args) > 3 or given.keys() & kwargs.keys():
            raise TypeError("rrelu() takes x, lower and upper once each, and out by name where it draws slopes")
        lower, upper = ({**self.parameters, **given} | {k: kwargs.pop(k) for k in self.parameters.keys() & kwargs.keys()}).values()
        if not any_on_gpu((lower, upper)) and not np.all(np.less_equal(lower, upper)):
            raise ValueError(f"slopes cannot be drawn between {lower} and {upper}")
        x, on_gpu = args[0], any_on_gpu(args)
        if not on_gpu and not hasattr(type(x), "__array_ufunc__"):
            x = np.asarray(x)
        if not on_gpu:
            backends.check_real(x, "what rrelu takes")
        if training and on_gpu:
            slopes = gpu_functions().uniform(x, lower, upper, rng, kwargs.get("stream"))
        elif training:
            narrow = np.float64 if x.dtype.kind in "fiu" and x.dtype.itemsize > 4 else np.float32
            slopes = np.random.default_rng(rng).random(np.broadcast_shapes(x.shape, np.shape(lower), np.shape(upper)), narrow)
            slopes *= np.subtract(upper, lower)
            slopes += lower
        else:
            slopes = np.add(lower, upper) / 2
        y = leaky_relu(x, slopes if np.ndim(slopes) or training and on_gpu else float(slopes), **kwargs)  # noqa: F821
        return (y, slopes) if return_slopes else y


def list_activations() -> list[str]:
    """The names of all elementwise activations."""
    return [row.name for row in ACTIVATIONS]


for _row in ACTIVATIONS:
    globals()[_row.name] = (_Rrelu if _row.name == "rrelu" else Activation)(_row)
__all__ = list_activations()
