"""From a factory of kernels to a kernel that runs: numba.cuda compiles it to PTX, nvJitLink to machine code, cuda.core launches it."""

from __future__ import annotations

import collections
import contextlib
import functools
import re
import threading

import numpy as np
from cuda.bindings import driver
from cuda.core import Device, LaunchConfig, Linker, LinkerOptions, ObjectCode, Stream, launch
from cuda.pathfinder import DynamicLibNotFoundError
from numba import cuda, types
from numba.cuda.compiler import _compile_pyfunc_with_fixup

from . import cuda_extending
from .cuda_intrinsics import target

cuda_extending.init()  # users' own activations may call others; where the package is not installed, only found, nobody else does

OLDEST = (7, 5)
"""The compute capability below which CUDA 13 has no compiler."""


def signature(kernel):
    """The types of its arguments, all words."""
    return types.void(*(types.int64 if count is None else types.UniTuple(types.int64, count) for count in kernel.arguments))


def lowered(kernel, capability):
    """The kernel as LLVM's instructions, in a library of Numba.

    In its PTX nothing is rounded but what the formulas say: a multiplication and an addition are two roundings.
    numba.cuda.compile() is the same, but always lets the compiler fuse them.
    """
    library, _ = _compile_pyfunc_with_fixup(kernel.function, signature(kernel), cc=capability, device=False, abi="numba",
                                            launch_bounds=(kernel.threads, kernel.blocks), **COMPILE_OPTIONS)  # fmt: skip
    library._nvvm_options["fma"] = False
    return library


COMPILE_OPTIONS = {"debug": None, "lineinfo": False, "fastmath": False, "opt": None, "abi_info": None, "forceinline": False, "lto": False}


def link(ptx, capability):
    """(machine code, what the assembler says of its registers and memory)"""
    options = LinkerOptions(arch=f"sm_{capability[0]}{capability[1]}", ptxas_options=["-v"])
    linker = Linker(ObjectCode.from_ptx(ptx.encode()), options=options)
    return linker.link("cubin"), linker.get_info_log()


@functools.lru_cache(256)
def stream_of(handle):
    """cuda.core's object for a stream that somebody else has made; making it takes as long as three launches."""
    return Stream.from_handle(handle)


def current_device():
    """The number of the GPU that this thread works on, None before it has chosen one."""
    error, device = driver.cuCtxGetDevice()
    return int(device) if error == driver.CUresult.CUDA_SUCCESS else None


@contextlib.contextmanager
def working_on(device):
    """A context in which the thread works on a GPU; after it on that of before, which the arrays' library relies on."""
    _, before = driver.cuCtxGetCurrent()
    device.set_current()
    try:
        yield
    finally:
        driver.cuCtxSetCurrent(before)


class Memory:
    """Of a GPU. Its last reference may go where CUDA must not be called, so the array that it is in is only put aside then."""

    def __init__(self, array, aside):
        self._array, self._aside = array, aside
        self.address = array.__cuda_array_interface__["data"][0]

    def __del__(self):
        self._aside.append(self._array)


class Launcher:
    """The kernels that are loaded, and launching them."""

    def __init__(self):
        self._kernels = {}
        self._lock = threading.Lock()

    @functools.cache
    def _device(self, number):
        device = Device(number)
        return device, tuple(device.compute_capability)

    @functools.cache
    def processors(self, number):
        """How many multiprocessors a GPU has."""
        return self._device(number)[0].properties.multiprocessor_count

    def _load(self, factory, specification, capability):
        if capability < OLDEST:
            raise RuntimeError(f"a GPU of compute capability {capability[0]}.{capability[1]} is too old, the least is 7.5")
        kernel = factory(target(capability), *specification)
        try:
            ptx = lowered(kernel, capability).get_asm_str(cc=capability)
            code, _ = link(ptx, capability)
        except DynamicLibNotFoundError as error:
            raise ImportError(f"the compiler of kernels for GPUs lacks a library, which fastact[cuda] brings: {error}") from error
        name = re.search(r"\.visible \.entry (\w+)", ptx).group(1)
        return kernel, ObjectCode.from_cubin(bytes(code.code)).get_kernel(name)

    def launch(self, factory, specification, grid, arguments, device=0, stream=0):
        """Run ``factory(target, *specification)`` on a stream, in ``grid`` blocks; arguments are words and tuples of words."""
        current = current_device()
        if current is None:
            self._device(device)[0].set_current()
        elif current != device:
            with working_on(self._device(device)[0]):
                return self.launch(factory, specification, grid, arguments, device, stream)
        found = self._kernels.get((factory, specification, device))
        kernel, loaded = found or self._loaded(factory, specification, device)
        words = []
        for argument in arguments:
            if isinstance(argument, tuple):
                words += argument
            else:
                words.append(argument)
        launch(stream_of(stream), LaunchConfig(grid=grid, block=kernel.threads), loaded, *words)

    def wait(self, stream, other):
        """Have what is launched on a stream from now on come after what another one has to do by now."""
        stream_of(stream).wait(stream_of(other))

    def finish(self, stream, device):
        """Wait until all is done that is launched on a stream of a GPU."""
        with working_on(self._device(device)[0]):
            stream_of(stream).sync()

    @functools.cache
    def _aside(self, number):
        """Memory of a GPU that nobody has any more."""
        return collections.deque()

    def allocate(self, size, device):
        """Memory of a GPU that is free when nobody has it any more, from the next allocation on."""
        with working_on(self._device(device)[0]):
            self._aside(device).clear()
            return Memory(cuda.device_array(max(size, 1), np.uint8), self._aside(device))

    def _loaded(self, factory, specification, device):
        """The kernel, and what launches it, compiled if this is the first that comes."""
        key = factory, specification, device
        with self._lock:
            if key not in self._kernels:
                self._kernels[key] = self._load(factory, specification, self._device(device)[1])
        return self._kernels[key]
