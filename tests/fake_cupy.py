"""A stand-in for CuPy: its arrays lie in NumPy's memory, and fastact's kernels reach them through the emulator.

It is as strict as CuPy or stricter. Only those functions are here that CuPy has, with CuPy's parameters, and nothing ever turns
into an array of NumPy, or mixes with one, without being told to. Where CuPy's versions differ, or where it says nothing,
the stand-in refuses: NumPy's scalars of another dtype than the arrays', or a product that is written over its operands.
"""

from __future__ import annotations

import contextlib
import inspect
import operator
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
from emulator import Emulator
from fake_gpu import aligned

from fastact import devices


class Waits:
    """How often the CPU waited for the GPU: each number that is looked at, and each array that is fetched."""

    count = 0


class ndarray:  # noqa: N801 - as CuPy's
    """``cupy.ndarray``; `values` is the memory, a view for a view."""

    __module__ = "cupy"
    emulator = None

    def __init__(self, values):
        self.values = values

    # --- What it is ---------------------------------------------------------------------------------------------------

    shape = property(lambda self: self.values.shape)
    strides = property(lambda self: self.values.strides)
    dtype = property(lambda self: self.values.dtype)
    ndim = property(lambda self: self.values.ndim)
    size = property(lambda self: self.values.size)
    T = property(lambda self: ndarray(self.values.T))
    device = property(lambda self: Device())

    def __len__(self):
        return len(self.values)

    @property
    def data(self):
        memory = self.values
        while isinstance(memory.base, np.ndarray):
            memory = memory.base
        self.emulator.memory.add(memory)
        return SimpleNamespace(ptr=self.values.ctypes.data)

    @property
    def __cuda_array_interface__(self):
        return {"shape": self.shape, "strides": self.strides, "typestr": self.dtype.str, "version": 3, "stream": 1,
                "data": (self.data.ptr, False)}  # fmt: skip

    # --- To the CPU ---------------------------------------------------------------------------------------------------

    def __array__(self, dtype=None, copy=None):
        raise TypeError("Implicit conversion to a NumPy array is not allowed.")

    def get(self):
        Waits.count += 1
        return self.values.copy()

    def _number(kind):  # noqa: N805
        def number(self):
            Waits.count += 1
            return kind(self.values.item())

        return number

    __float__, __int__, __bool__, __index__ = map(_number, (float, int, bool, operator.index))

    # --- Elements -----------------------------------------------------------------------------------------------------

    def __getitem__(self, index):
        return wrapped(self.values[as_index(index)])

    def __setitem__(self, index, value):
        self.values[as_index(index)] = unwrapped(value, self.dtype)

    def __iter__(self):
        return (self[k] for k in range(len(self)))

    def reshape(self, *shape):
        shape = shape[0] if isinstance(shape[0], tuple) else shape
        return ndarray(self.values.reshape(shape))

    def transpose(self, *axes):
        return ndarray(self.values.transpose(*axes))

    def swapaxes(self, axis1, axis2):
        return ndarray(self.values.swapaxes(axis1, axis2))

    def copy(self, order="C"):
        return made(self.values.copy(order))

    def astype(self, dtype, order="K", casting=None, subok=None, copy=True):
        assert casting is None, "CuPy's astype has no casting"
        return made(self.values.astype(dtype, order, copy=True)) if copy or dtype != self.dtype else self

    # --- Through NumPy's functions ------------------------------------------------------------------------------------

    def __array_ufunc__(self, ufunc, method, *inputs, out=(None,), dtype=None):
        if ufunc.__name__ not in UFUNCS:
            return NotImplemented
        inputs = [
            unwrapped(value, *(array.dtype for array in inputs if isinstance(array, ndarray))) for value in inputs
        ]
        with np.errstate(all="ignore"):
            if method == "at":
                assert ufunc is np.add, "CuPy scatters with few functions"
                ufunc.at(*inputs)
                return None
            assert method == "__call__", method
            (out,) = out
            if out is None:
                return made(ufunc(*inputs, dtype=dtype))
            if not isinstance(out, ndarray):
                raise TypeError("CuPy writes to its own arrays only")
            if ufunc is np.matmul:
                assert not any(np.may_share_memory(out.values, array) for array in inputs), (
                    "a product over its operands"
                )
                assert {array.dtype for array in inputs} == {out.dtype}, "a product of another dtype"
            ufunc(*inputs, out=out.values, dtype=dtype)
            return out

    def __array_function__(self, function, types, args, kwargs):
        if function.__module__ != "numpy" or function.__name__ not in FUNCTIONS:
            return NotImplemented
        return call(function.__name__, *args, **kwargs)


def _add_operators():
    """To the class: operators, and the methods that NumPy has as functions, too."""
    unary = {"neg": np.negative, "invert": np.invert}
    binary = {"add": np.add, "sub": np.subtract, "mul": np.multiply, "truediv": np.true_divide, "matmul": np.matmul,
              "and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor, "rshift": np.right_shift}  # fmt: skip
    compare = {
        "lt": np.less,
        "le": np.less_equal,
        "gt": np.greater,
        "ge": np.greater_equal,
        "eq": np.equal,
        "ne": np.not_equal,
    }
    for name, ufunc in (unary | binary | compare).items():
        setattr(ndarray, f"__{name}__", lambda *args, ufunc=ufunc: ufunc(*args))
    for name, ufunc in binary.items():
        setattr(ndarray, f"__r{name}__", lambda self, other, ufunc=ufunc: ufunc(other, self))
        setattr(ndarray, f"__i{name}__", lambda self, other, ufunc=ufunc: ufunc(self, other, out=self))
    for name in ("sum", "mean", "std", "min", "max", "any", "all", "argmax"):
        setattr(ndarray, name, lambda *args, name=name, **kwargs: call(name, *args, **kwargs))


# --- What CuPy has ----------------------------------------------------------------------------------------------------

UFUNCS = {"absolute", "add", "bitwise_and", "bitwise_or", "bitwise_xor", "divide", "equal", "greater", "greater_equal", "invert",
          "isfinite", "isnan", "less", "less_equal", "matmul", "multiply", "negative", "not_equal", "right_shift", "sqrt", "square",
          "subtract"}  # fmt: skip

FUNCTIONS = {name: inspect.signature(eval(f"lambda {parameters}: 0")) for name, parameters in {
    "all": "a, axis=None, out=None, keepdims=False",
    "any": "a, axis=None, out=None, keepdims=False",
    "arange": "start, stop=None, step=1, dtype=None",
    "argmax": "a, axis=None, dtype=None, out=None, keepdims=False",
    "asarray": "a, dtype=None, order=None, *, copy=None, blocking=False",
    "ascontiguousarray": "a, dtype=None",
    "clip": "a, a_min, a_max, out=None",
    "copyto": "dst, src, casting='same_kind', where=None",
    "empty": "shape, dtype=float, order='C'",
    "empty_like": "prototype, dtype=None, order='K', subok=None, shape=None",
    "max": "a, axis=None, out=None, keepdims=False",
    "may_share_memory": "a, b, max_work=None",
    "mean": "a, axis=None, dtype=None, out=None, keepdims=False",
    "min": "a, axis=None, out=None, keepdims=False",
    "ndim": "a",
    "ones_like": "a, dtype=None, order='K', subok=None, shape=None",
    "ptp": "a, axis=None, out=None, keepdims=False",
    "shape": "a",
    "split": "ary, indices_or_sections, axis=0",
    "std": "a, axis=None, dtype=None, out=None, ddof=0, keepdims=False",
    "sum": "a, axis=None, dtype=None, out=None, keepdims=False",
    "take": "a, indices, axis=None, out=None",
    "tri": "N, M=None, k=0, dtype=float",
    "where": "condition, x=None, y=None",
    "zeros": "shape, dtype=float, order='C'",
    "zeros_like": "a, dtype=None, order='K', subok=None, shape=None",
}.items()}  # fmt: skip
"""The parameters that each has in CuPy."""


def call(name, *args, **kwargs):
    """A function of CuPy on its arrays."""
    FUNCTIONS[name].bind(*args, **kwargs)
    if name == "asarray":
        return asarray(*args, **kwargs)
    if name == "ascontiguousarray":
        return args[0] if args[0].values.flags.c_contiguous else args[0].copy()
    options = {"mode": "wrap"} if name == "take" else {}
    if kwargs.get("out") is not None:
        out = kwargs["out"]
        assert name != "take" or out.dtype == args[0].dtype, "CuPy's take does not cast"
        kwargs["out"] = unwrapped(out)
    args = [unwrapped(value) for value in args]
    kwargs = {key: unwrapped(value) if key == "where" else value for key, value in kwargs.items()}
    with np.errstate(all="ignore"):
        result = getattr(np, name)(*args, **kwargs, **options)
    if kwargs.get("out") is not None:
        return out
    if isinstance(result, list):
        return [ndarray(array) for array in result]
    return made(result) if isinstance(result, (np.ndarray, np.generic)) else result


def asarray(a, dtype=None, order=None, *, copy=None, blocking=False):
    """The way from the CPU; what others have on the GPU is taken as it is."""
    if not hasattr(a, "__cuda_array_interface__"):
        return made(np.asarray(a, dtype))
    a = a if isinstance(a, ndarray) else ndarray(a.values)
    return a if dtype is None or dtype == a.dtype else a.astype(dtype)


# --- Between the two --------------------------------------------------------------------------------------------------


def made(values):
    """A new array of CuPy's, in memory of its own."""
    if not isinstance(values, np.ndarray) or not values.flags.c_contiguous:
        return ndarray(np.array(values))
    copy = aligned(values.shape, values.dtype)
    copy[...] = values
    return ndarray(copy)


def wrapped(found):
    return ndarray(np.asarray(found)) if isinstance(found, np.generic) else ndarray(found)


def unwrapped(value, *dtypes):
    """The memory of an array; a scalar as it is. Raises TypeError for an array of NumPy."""
    if isinstance(value, ndarray):
        return value.values
    if isinstance(value, np.ndarray):
        raise TypeError("Unsupported type <class 'numpy.ndarray'>")
    if isinstance(value, np.generic) and dtypes and value.dtype not in dtypes:
        raise TypeError(f"what a scalar of {value.dtype} makes of {dtypes[0]} depends on CuPy's version")
    return value


def as_index(index):
    """Of integers, slices and CuPy's own arrays."""
    parts = index if isinstance(index, tuple) else (index,)
    if any(isinstance(part, (np.ndarray, list)) for part in parts):
        raise TypeError("an index that would be copied to the GPU")
    return tuple(part.values if isinstance(part, ndarray) else part for part in parts)


_add_operators()


# --- The module -------------------------------------------------------------------------------------------------------


class Device(contextlib.nullcontext):
    id = 0


def module():
    """What ``import cupy`` gives."""
    cupy = ModuleType("cupy")
    cupy.ndarray, cupy.asarray = ndarray, asarray
    cupy.cuda = SimpleNamespace(get_current_stream=lambda device=None: SimpleNamespace(ptr=0))
    for name in ("empty", "empty_like"):
        setattr(cupy, name, lambda *args, name=name, **kwargs: call(name, *args, **kwargs))
    return cupy


@contextlib.contextmanager
def installed(monkeypatch):
    """``cupy``, with the emulator for a GPU."""
    monkeypatch.setitem(sys.modules, "cupy", cupy := module())
    monkeypatch.setattr(ndarray, "emulator", Emulator())
    monkeypatch.setattr(devices, "launcher", lambda: ndarray.emulator)
    yield cupy
