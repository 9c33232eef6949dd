"""What the tests of arrays on a GPU run on: real GPUs where there are some, and everywhere the emulator.

Its arrays lie in NumPy's memory and say no more of themselves than __cuda_array_interface__ does.
"""

from __future__ import annotations

import contextlib
import importlib.util

import numpy as np
import pytest
from emulator import Emulator, greenlet, poisoned, storage_dtype

from fastact import devices

SHIFT = 64
"""Bytes before and after the memory of an array, which kernels must leave alone."""


class FakeArray:
    """An array on the GPU that the emulator is."""

    __module__ = "fake_gpu"

    def __init__(self, values):
        self.values = values

    shape = property(lambda self: self.values.shape)
    ndim = property(lambda self: self.values.ndim)

    def __getitem__(self, index):
        found = self.values[index]
        return FakeArray(found if isinstance(found, np.ndarray) else self.values[(*index, ...)])

    @property
    def __cuda_array_interface__(self):
        values = self.values
        return {"shape": values.shape, "strides": values.strides, "typestr": values.dtype.str, "version": 3, "stream": None,
                "data": (values.ctypes.data, not values.flags.writeable)}  # fmt: skip


def _values(array):
    return array.values if isinstance(array, FakeArray) else array


class CalculatingArray(FakeArray):
    """One with what the operators of a library's arrays do, of which results are new arrays."""

    __module__ = "fake_gpu"

    def _made(self, values):
        copy = aligned(values.shape, values.dtype)
        copy[...] = values
        return CalculatingArray(copy)

    T = property(lambda self: CalculatingArray(self.values.T))

    def __getitem__(self, index):
        return CalculatingArray(self.values[index])

    def __setitem__(self, index, value):
        self.values[_values(index)] = _values(value)

    def __eq__(self, other):
        return self._made(self.values == _values(other))

    def __matmul__(self, other):
        with np.errstate(all="ignore"):
            return self._made(self.values @ _values(other))

    def __iadd__(self, other):
        self.values += _values(other)
        return self

    def __imul__(self, other):
        self.values *= _values(other)
        return self

    def sum(self, axis):
        return self._made(self.values.sum(axis))

    def reshape(self, *shape):
        return CalculatingArray(self.values.reshape(*shape))


class FakeLibrary(devices.Interface):
    """The library of those arrays, which tells bfloat16 as real ones do: by its own dtype."""

    array = FakeArray

    def __init__(self, emulator):
        self.emulator = emulator

    def operand(self, array):
        values = array.values
        self.emulator.memory.add(values)
        return devices.Operand(array, values.ctypes.data, values.shape, values.strides, values.dtype.name, 0, values.flags.writeable)

    def stream(self, array):
        return 1

    def empty(self, like, shape, dtype, stream):
        return self.array(aligned(shape, storage_dtype(dtype)))


class CalculatingLibrary(FakeLibrary):
    calculates, array = True, CalculatingArray


def aligned(shape, dtype, offset=0):
    """Memory that nobody has written to, at a multiple of 16 bytes and as many elements after that."""
    dtype = np.dtype(dtype)
    size = int(np.prod(shape)) * dtype.itemsize
    raw = poisoned(size + 2 * SHIFT + 16, np.uint8)
    start = SHIFT + -(raw.ctypes.data + SHIFT) % 16 + offset * dtype.itemsize
    return raw[start : start + size].view(dtype).reshape(shape)


class Fake:
    """A GPU for a test: arrays to it and from it."""

    real = False
    kind = FakeLibrary

    def __init__(self, seed=0):
        if greenlet is None:
            pytest.skip("needs greenlet")
        self.emulator = Emulator(seed)
        self.library = self.kind(self.emulator)

    def array(self, values):
        """Copied, with its strides where these are not plain."""
        values = np.asarray(values)
        if values.flags.c_contiguous:
            copy = aligned(values.shape, values.dtype)
            copy[...] = values
            return self.library.array(copy)
        return self.library.array(values)

    def numpy(self, array):
        assert type(array) is self.library.array
        return array.values

    @contextlib.contextmanager
    def running(self, monkeypatch):
        monkeypatch.setitem(devices.LIBRARIES, "fake_gpu", self.library)
        monkeypatch.setattr(devices, "launcher", lambda: self.emulator)
        yield self


class Calculating(Fake):
    """One whose arrays have operators."""

    kind = CalculatingLibrary


class TorchOnEmulator(Fake):
    """PyTorch's tensors, on the CPU but taken to be on the GPU that the emulator is."""

    def array(self, values):
        import torch

        values = np.asarray(values)
        if min(values.strides, default=0) < 0:
            values = values.copy()
        if values.dtype.name == "bfloat16":
            return torch.from_numpy(values.astype(np.float32)).bfloat16()
        return torch.from_numpy(values)

    def numpy(self, array):
        import ml_dtypes
        import torch

        assert isinstance(array, torch.Tensor)
        return array.float().numpy().astype(ml_dtypes.bfloat16) if array.dtype == torch.bfloat16 else array.numpy()

    @contextlib.contextmanager
    def running(self, monkeypatch):
        fake = self

        class OnCPU(devices.PyTorch):
            def holds(self, array):
                return hasattr(array, "data_ptr")

            def operand(self, array):
                operand = super().operand(array)
                first, last = operand.extent
                fake.emulator.memory.add_range(first, last - first, keep=array)
                return operand

            def stream(self, array):
                return 1

        monkeypatch.setitem(devices.LIBRARIES, "torch", OnCPU())
        monkeypatch.setattr(devices, "launcher", lambda: fake.emulator)
        yield self


class JAXOnEmulator(Fake):
    """JAX's arrays, on the CPU but taken to be on the GPU that the emulator is."""

    def array(self, values):
        import jax

        return jax.numpy.array(values)

    def numpy(self, array):
        import jax

        assert isinstance(array, jax.Array)
        return np.asarray(array)

    @contextlib.contextmanager
    def running(self, monkeypatch):
        import jax

        fake = self

        class OnCPU(devices.JAX):
            device_type = 1

            def holds(self, array):
                return isinstance(array, jax.Array) and not isinstance(array, jax.core.Tracer)

            def operand(self, array):
                operand = super().operand(array)
                first, last = operand.extent
                if last > first:
                    fake.emulator.memory.add_range(first, last - first, operand.writeable, keep=operand)
                return operand

        monkeypatch.setitem(devices.LIBRARIES, "jaxlib", OnCPU())
        monkeypatch.setattr(devices, "launcher", lambda: fake.emulator)
        with jax.enable_x64(True):
            yield self


class CuPyOnGPU:
    real = True

    def array(self, values):
        import cupy

        try:
            return cupy.asarray(values)
        except (TypeError, ValueError) as error:
            pytest.skip(f"CuPy has no such arrays: {error}")

    def numpy(self, array):
        import cupy

        assert isinstance(array, cupy.ndarray)
        return cupy.asnumpy(array)

    @contextlib.contextmanager
    def running(self, monkeypatch):
        yield self


class TorchOnGPU(TorchOnEmulator):
    real = True

    def __init__(self):
        pass

    def array(self, values):
        return super().array(values).cuda()

    def numpy(self, array):
        assert array.is_cuda
        return super().numpy(array.cpu())

    running = CuPyOnGPU.running


class JAXOnGPU(JAXOnEmulator):
    real = True

    def __init__(self):
        pass

    @contextlib.contextmanager
    def running(self, monkeypatch):
        import jax

        if jax.default_backend() != "gpu":
            pytest.skip("JAX has no GPU")
        with jax.enable_x64(True):
            yield self


class NumbaOnGPU(CuPyOnGPU):
    def array(self, values):
        from numba import cuda

        values = np.asarray(values)
        if values.dtype.name == "bfloat16":
            pytest.skip("Numba has no arrays of bfloat16")
        return cuda.to_device(values.copy(order="K"))

    def numpy(self, array):
        return array.copy_to_host()


def part(array, index):
    """A view of an array on a GPU; where its library has no such views, a reason to skip."""
    try:
        found = array[index]
    except (IndexError, NotImplementedError, TypeError, ValueError) as error:
        pytest.skip(f"{type(array).__module__} has no such views: {error}")
    if devices.library_of(found) is None:
        pytest.skip(f"{type(array).__module__} has single elements on the CPU")
    return found


def why_no_gpu():
    """Why tests on a real GPU cannot run, or nothing."""
    if importlib.util.find_spec("numba_cuda") is None:
        return "needs numba-cuda"
    from numba import cuda

    return "" if cuda.is_available() else "needs a GPU"


GPUS, CALCULATING = [Fake], [Calculating]
if importlib.util.find_spec("torch"):
    CALCULATING.append(TorchOnEmulator)
if not why_no_gpu():
    GPUS += [pytest.param(kind, marks=pytest.mark.gpu) for kind, package in
             ((CuPyOnGPU, "cupy"), (TorchOnGPU, "torch"), (NumbaOnGPU, "numba_cuda")) if importlib.util.find_spec(package)]  # fmt: skip
    CALCULATING += [kind for kind in GPUS[1:] if kind.values[0] is not NumbaOnGPU]
"""What every test of arrays on a GPU runs on; those whose arrays have operators."""
JAX = [JAXOnEmulator] + ([] if why_no_gpu() else [pytest.param(JAXOnGPU, marks=pytest.mark.gpu)])
"""The same for JAX's, which take no ``out``."""
