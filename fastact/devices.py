"""Arrays in the memory of a GPU: whose they are, and how the kernels get at them.

Nothing of Numba or CUDA is imported until such an array comes.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import math
import sys
from typing import Any, NamedTuple

import numpy as np

from . import dlpack
from ._kernels.cuda_kernels import SIZES

EXTRA = "pip install 'fastact[cuda]'"


# --- The libraries whose arrays these are -----------------------------------------------------------------------------


class Operand(NamedTuple):
    """An array as the kernels see it; strides in bytes. ``stream`` is where it says that it is worked on, if it does."""

    array: Any
    address: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: str
    device: int = 0
    writeable: bool = True
    stream: int | None = None

    @property
    def size(self):
        return math.prod(self.shape)

    @property
    def extent(self):
        """The addresses between which its elements are."""
        first = last = self.address
        for n, step in zip(self.shape, self.strides):
            first, last = (first, last + (n - 1) * step) if step > 0 else (first + (n - 1) * step, last)
        return (first, last + ITEM_SIZES[self.dtype]) if self.size else (first, first)

    def reshaped(self, shape, strides):
        """The same memory in another shape."""
        return Operand(self.array, self.address, shape, strides, self.dtype, self.device, self.writeable)

    def broadcast(self, shape):
        """The same with that shape."""
        if self.shape == shape:
            return self
        extra = len(shape) - len(self.shape)
        strides = (0,) * extra + tuple(step if n > 1 else 0 for n, step in zip(self.shape, self.strides))
        return self.reshaped(shape, strides)


ITEM_SIZES = SIZES | {"bool": 1} | {f"{sign}int{8 * size}": size for sign in ("", "u") for size in (1, 2, 4, 8)}


@functools.cache
def name_of_dtype(dtype):
    """The name of a dtype of PyTorch, or of what NumPy knows as one."""
    name = str(dtype)
    return name.removeprefix("torch.") if name.startswith("torch.") else np.dtype(dtype).name


@functools.lru_cache(1024)
def c_strides(shape, size):
    """Of an array without gaps, its last axis first in memory."""
    strides = []
    for n in reversed(shape):
        strides.append(size)
        size *= max(n, 1)
    return tuple(reversed(strides))


class Interface:
    """What a library's arrays are asked for; this one for Numba and for all that say no more than __cuda_array_interface__."""

    dtypes: tuple[str, ...] = tuple(ITEM_SIZES)
    calculates = False
    """Whether its arrays have operators, products of matrices among them."""
    writeable = True
    """Whether anybody but the library may write to its arrays."""

    def holds(self, array) -> bool:
        """Whether an array of the library is on a GPU."""
        return getattr(array, "__cuda_array_interface__", None) is not None

    def operand(self, array) -> Operand:
        about = array.__cuda_array_interface__
        dtype = np.dtype(about["typestr"])
        shape = tuple(about["shape"])
        address, read_only = about["data"]
        strides = about.get("strides") or c_strides(shape, dtype.itemsize)
        name = dtype.name if dtype.isnative else about["typestr"]
        return Operand(array, address, shape, tuple(strides), name, self.device(array), not read_only, about.get("stream"))

    def plain(self, array):
        """The same memory as an array whose history nobody records."""
        return array

    def device(self, array) -> int:
        from numba import cuda

        return cuda.get_current_device().id

    def stream(self, array) -> int:
        """Where work on the array belongs: the handle of the library's current stream."""
        return array.__cuda_array_interface__.get("stream") or LEGACY_DEFAULT_STREAM

    def allocating_on(self, stream, like):
        """A context in which new arrays belong to a stream, whose work on them ends before their memory is used again."""
        return contextlib.nullcontext()  # Numba frees memory when all streams have come so far

    def empty(self, like, shape, dtype, stream):
        """A new array beside ``like``, on which a stream will work; in the same order where the library has such arrays."""
        from numba import cuda

        return cuda.device_array(shape, np.dtype(dtype), stream=0 if stream == LEGACY_DEFAULT_STREAM else cuda.external_stream(stream))

    def finished(self, array, stream):
        """What the caller gets of an array that ``empty`` made, when all that works on it is launched on the stream."""
        return array

    def will_change(self, array):
        """Told of arrays that are about to be written to."""


LEGACY_DEFAULT_STREAM = 1
"""Its handle in CUDA, which waits for the others."""


class CuPy(Interface):
    """Arrays of CuPy, on its current stream."""

    calculates = True

    def holds(self, array):
        return isinstance(array, sys.modules["cupy"].ndarray)  # whose interface takes as long to get as a kernel to launch

    def operand(self, array):
        return Operand(array, array.data.ptr, array.shape, array.strides, array.dtype.name, array.device.id)

    def stream(self, array):
        return sys.modules["cupy"].cuda.get_current_stream(array.device.id).ptr or LEGACY_DEFAULT_STREAM

    def allocating_on(self, stream, like):
        return sys.modules["cupy"].cuda.ExternalStream(stream, like.device.id)

    def empty(self, like, shape, dtype, stream):
        cupy = sys.modules["cupy"]
        with like.device:
            dtype = like.dtype if like.dtype.name == dtype else dtype
            return cupy.empty_like(like, dtype) if like.shape == shape else cupy.empty(shape, dtype)


class PyTorch(Interface):
    """Tensors of PyTorch, on its current stream; gradients are not recorded."""

    calculates = True

    def holds(self, array):
        return getattr(array, "is_cuda", False)

    def plain(self, array):
        return array.detach()

    def operand(self, array):
        if array.is_neg():
            raise ValueError("a tensor of numbers that are still to be negated: resolve_neg() does that")
        size = array.element_size()
        return Operand(array, array.data_ptr(), tuple(array.shape), tuple([size * step for step in array.stride()]),
                       name_of_dtype(array.dtype), array.get_device())  # fmt: skip

    def stream(self, array):
        # What Triton, too, asks: torch.cuda.current_stream() takes longer than all else that a call does.
        return sys.modules["torch"]._C._cuda_getCurrentRawStream(array.get_device()) or LEGACY_DEFAULT_STREAM

    def allocating_on(self, stream, like):
        cuda = sys.modules["torch"].cuda
        its_own = stream == LEGACY_DEFAULT_STREAM  # which by that handle PyTorch does not know
        return cuda.stream(cuda.default_stream(like.device) if its_own else cuda.ExternalStream(stream, device=like.device))

    def empty(self, like, shape, dtype, stream):
        torch = sys.modules["torch"]
        dtype = getattr(torch, dtype)
        return torch.empty_like(like, dtype=dtype, requires_grad=False) if like.shape == shape else \
            torch.empty(shape, dtype=dtype, device=like.device)

    def will_change(self, array):
        # Else a backward pass that has kept what was there would not know.
        sys.modules["torch"].autograd.graph.increment_version(array)


class JAX(Interface):
    """Arrays of JAX, which nobody else may make or write to: results are handed over when they are done, in memory of Numba's."""

    writeable = False
    device_type = dlpack.CUDA

    def holds(self, array):
        jax = sys.modules["jax"]
        traced = isinstance(array, jax.core.Tracer)
        return isinstance(array, jax.Array) and not traced and any(device.platform == "gpu" for device in array.devices())

    def operand(self, array):
        if isinstance(array, dlpack.Parcel):
            strides = c_strides(array.shape, ITEM_SIZES[array.dtype])
            return Operand(array, array.memory.address, array.shape, strides, array.dtype, array.place[1])
        kind, device = array.__dlpack_device__()
        if kind != self.device_type:
            raise TypeError(f"an array of JAX must be in the memory of a GPU of CUDA, not on DLPack's device {int(kind)}")
        # Not by __cuda_array_interface__, which knows no bfloat16. Nobody takes the capsule: it keeps the memory until it goes.
        capsule = array.block_until_ready().__dlpack__()
        tensor, size = dlpack.tensor_in(capsule), array.dtype.itemsize
        strides = tuple(size * step for step in tensor.strides[: tensor.ndim]) if tensor.strides else c_strides(array.shape, size)
        return Operand(capsule, (tensor.data or 0) + tensor.byte_offset, array.shape, strides, array.dtype.name, device, writeable=False)

    def stream(self, array):
        return LEGACY_DEFAULT_STREAM  # JAX's own are its secret

    def empty(self, like, shape, dtype, stream):
        _, device = like.__dlpack_device__()
        memory = launcher().allocate(math.prod(shape) * ITEM_SIZES[dtype], device)
        return dlpack.Parcel(memory, shape, dtype, (self.device_type, device))

    def finished(self, array, stream):
        # JAX would wait for the stream with what it does to the result, but not before it uses the memory of operands anew.
        launcher().finish(stream, array.place[1])
        return sys.modules["jax"].dlpack.from_dlpack(array)


LIBRARIES = {"torch": PyTorch(), "cupy": CuPy(), "jax": JAX(), "jaxlib": JAX()}
"""By the package that defines the type of an array."""
ANY_OTHER = Interface()
PLAIN = (np.ndarray, int, float, bool, list, tuple, type(None), np.generic)


@functools.cache
def package_of(kind):
    """The package that defines a type or, of those in LIBRARIES, one that it is derived from; None if nothing of it is on a GPU."""
    if issubclass(kind, PLAIN):
        return None
    packages = [base.__module__.partition(".")[0] for base in kind.__mro__]
    return next((package for package in packages if package in LIBRARIES), packages[0])


def library_of(array):
    """The library of an array on a GPU, or None for anything else."""
    package = package_of(type(array))
    if package is None:
        return None
    library = LIBRARIES.get(package, ANY_OTHER)
    return library if library.holds(array) else None


def any_on_gpu(arrays):
    """Whether one of them is on a GPU."""
    for array in arrays:
        if type(array) is not np.ndarray and library_of(array) is not None:
            return True
    return False


@functools.cache
def gpu_functions():
    """The functions of arrays on a GPU, imported with the first of these: few users have any."""
    from . import gpu

    return gpu


def no_stream(stream):
    """Raise TypeError where NumPy's arrays come with a stream."""
    if stream is not None:
        raise TypeError("stream is for arrays on a GPU")


# --- The kernels ------------------------------------------------------------------------------------------------------


@functools.cache
def launcher():
    """What runs kernels; made when the first array on a GPU comes."""
    if importlib.util.find_spec("numba_cuda") is None:
        raise ImportError(f"functions of arrays on a GPU need numba-cuda: {EXTRA}")
    try:
        from numba import cuda

        from ._kernels.cuda_launch import Launcher
    except ImportError as error:
        raise ImportError(f"functions of arrays on a GPU need numba-cuda and what it needs ({error}): {EXTRA}") from error
    if not cuda.is_available():
        reason = " ".join(str(cuda.cuda_error() or "CUDA finds none").split())
        raise RuntimeError(f"arrays on a GPU need a GPU that fastact[cuda] can use: {reason}")
    return Launcher()


def about():
    """What there is of CUDA, in words."""
    if importlib.util.find_spec("numba_cuda") is None:
        return f"none; {EXTRA}"
    from importlib.metadata import version

    from numba import cuda

    about = f"numba-cuda {version('numba-cuda')}"
    if not cuda.is_available():
        return f"{about}, but no GPU"
    device = cuda.get_current_device()
    major, minor = device.compute_capability
    return f"{about}, {device.name.decode() if isinstance(device.name, bytes) else device.name} (sm_{major}{minor})"


class Call:
    """One call with arrays of one library on one GPU: its operands, its results, and the launches that it needs."""

    def __init__(self, name, arrays, stream=None):
        launcher()  # which says what is missing
        self.name, self.operands, self.library = name, {}, None
        for key, array in arrays.items():
            library = library_of(array)
            if library is None:
                raise TypeError(f"{name}() has arrays on a GPU, so {key} must be one too, not {type(array).__name__}")
            if self.library is None:
                self.library, self.like = library, array
            elif library is not self.library:
                kinds = " and ".join(sorted({str(package_of(type(array))) for array in arrays.values()}))
                raise TypeError(f"{name}() takes arrays of one library, not of {kinds}")
            operand = self.operands[key] = library.operand(array)
            if array is self.like:
                self.device = operand.device
            elif operand.device != self.device:
                raise ValueError(f"{key} is on GPU {operand.device}, the others are on GPU {self.device}")
        self._stream = self.library.stream(self.like) if stream is None else stream_handle(stream)
        self._elsewhere = stream is not None
        for operand in self.operands.values():
            self._follow(operand)

    def _follow(self, operand):
        """Launch nothing before what is done to an operand on a stream of its own by now."""
        if operand.stream is not None and operand.stream != self._stream:
            launcher().wait(self._stream, operand.stream)

    def real(self, *keys):
        """The dtype that those operands share, which is one of the four."""
        dtypes = {key: self.operands[key].dtype for key in keys}
        dtype = dtypes[keys[0]]
        if dtype not in SIZES:
            raise TypeError(f"{self.name}() takes float16, bfloat16, float32 or float64 on a GPU, not {dtype}")
        for key, other in dtypes.items():
            if other != dtype:
                raise TypeError(f"{key} must be {dtype} as {keys[0]} is, not {other}")
        return dtype

    def on_its_stream(self):
        """A context in which the library, too, works where this call does."""
        return self.library.allocating_on(self._stream, self.like) if self._elsewhere else contextlib.nullcontext()

    def new(self, shape, dtype):
        with self.on_its_stream():
            return self.library.operand(self.library.empty(self.like, shape, dtype, self._stream))

    def scratch(self, shape, dtype):
        """Memory for this call, in the order of a plain array."""
        return self.new((math.prod(shape),), dtype).reshaped(shape, c_strides(shape, ITEM_SIZES[dtype]))

    def result(self, out, shape, dtype, name="out", may_cast=False):
        """The operand that receives a result: ``out`` if that was given and fits, by ``may_cast`` also if of another dtype."""
        if out is None:
            return self.new(shape, dtype)
        if library_of(out) is not self.library:
            raise TypeError(f"{name} must be an array like {type(self.like).__name__} on the GPU, not {type(out).__name__}")
        if not self.library.writeable:
            raise TypeError(f"{name} cannot be an array of {package_of(type(out))}, which never changes: take the result that is returned")
        operand = self.library.operand(out)
        if operand.shape != shape or not operand.writeable:
            raise ValueError(f"{name} must be a writeable array of shape {shape}, not {operand.shape}")
        if operand.dtype != dtype and not (may_cast and operand.dtype in SIZES):
            raise TypeError(f"{name} must be of dtype {dtype}, not {operand.dtype}")
        if operand.device != self.device:
            raise ValueError(f"{name} is on GPU {operand.device}, the others are on GPU {self.device}")
        if any(step == 0 and n > 1 for n, step in zip(operand.shape, operand.strides)):
            raise ValueError(f"{name} has several elements in one place")
        self._follow(operand)
        self.library.will_change(out)
        return operand

    def finished(self, *results):
        """What the caller gets of results: an array, or a tuple of those."""
        arrays = tuple([self.library.finished(result.array, self._stream) for result in results])
        return arrays[0] if len(arrays) == 1 else arrays

    @property
    def processors(self):
        """How many multiprocessors the GPU has."""
        return launcher().processors(self.device)

    def launch(self, factory, specification, grid, *arguments):
        launcher().launch(factory, specification, grid, arguments, self.device, self._stream)


def stream_handle(stream):
    """The handle of a stream: of a number, or an object of CuPy, PyTorch, Numba or cuda.core."""
    if isinstance(stream, int):
        return stream or LEGACY_DEFAULT_STREAM
    for name in ("ptr", "cuda_stream", "handle"):
        handle = getattr(stream, name, None)
        if handle is not None:
            return int(getattr(handle, "value", handle) or 0) or LEGACY_DEFAULT_STREAM
    raise TypeError(f"stream must be a stream or the handle of one, not {type(stream).__name__}")
