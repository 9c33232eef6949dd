"""Arrays of any strides and real types, brought into contiguous memory and back a block at a time; operands.pyx has the same.

An array that is neither contiguous nor of the type that is computed with is described by words: where it lies, the address of
the function that moves a run of its elements, how many dimensions it has, and for each of these the length and the step.
"""

from __future__ import annotations

import functools

import numba
import numpy as np
from numba import carray, types

from .numba_cpu import BLOCK, BUFFER, copy_strided, gather, mapping, scatter
from .numba_intrinsics import at, call, compiled, load, routine, stack
from .numba_jobs import address
from .numba_passes import storage_of

DATA, MOVE, NDIM, DIMS = range(0, 32, 8)


def is_direct(array, T):
    """Whether kernels may work on the array as it lies in memory."""
    return array.dtype == T and array.flags.c_contiguous and array.flags.aligned


def described(array, T, writing=False):
    """The words, or None for what is direct or nothing. ``writing``: the array receives numbers."""
    if array is None or is_direct(array, T):
        return None
    dims = []
    for n, step in zip(array.shape, array.strides):
        if dims and dims[-1][1] == n * step:
            dims[-1] = dims[-1][0] * n, step
        elif n != 1:
            dims.append((n, step))
    dims = dims or [(1, 0)]
    move = writer(array.dtype, T) if writing else reader(array.dtype, T)
    return np.array((address(array), move.address, len(dims), *(word for dim in dims for word in dim)))


def readable(array):
    """The array, or a copy where its type is none that the kernels read."""
    known = array.dtype.isnative and (array.dtype.kind in "biu" or storage_of(array.dtype) is not None)
    return array if known else array.astype(np.float64)


_MOVER = types.void(*[types.intp] * 4)  # (where the first element is, the step from each to the next, how many, buffer)


@functools.cache
def reader(dtype, T):
    """From an array of a dtype to a buffer, at most BLOCK elements."""
    storage, size = storage_of(dtype), dtype.itemsize
    if size == 2 and storage is not None:
        return numba.cfunc(_MOVER)(lambda source, step, count, buffer: _ignore(gather(storage, source, step, count, buffer)))
    kind = np.uint8 if dtype.kind == "b" else dtype.type
    convert = mapping(compiled(lambda x: T(x)))

    @numba.cfunc(_MOVER)
    def read(source, step, count, buffer):
        run = stack(BUFFER)
        if step != size or source % size:
            copy_strided(size, source, step, run, size, count)
            source = run
        convert(carray(at(source), (count,), kind), carray(at(buffer), (count,), T))

    return read


@compiled
def _ignore(address):
    pass


@functools.cache
def writer(dtype, T):
    """From a buffer to an array of a dtype in which T's numbers are stored."""
    storage = storage_of(dtype)
    return numba.cfunc(_MOVER)(lambda target, step, count, buffer: scatter(storage, buffer, target, step, count, 0))


@routine
def transfer(operand, start, count, buffer, size):
    """Move count elements from number start of the flattened operand on, to or from a buffer of numbers of that size."""
    last = load(np.int64, operand + NDIM) - 1
    step = load(np.int64, operand + DIMS + 16 * last + 8)
    while count > 0:
        position, place = start, load(np.int64, operand + DATA)
        for k in range(last, 0, -1):
            n = load(np.int64, operand + DIMS + 16 * k)
            place += position % n * load(np.int64, operand + DIMS + 16 * k + 8)
            position //= n
        place += position * load(np.int64, operand + DIMS + 8)
        n = load(np.int64, operand + DIMS + 16 * last)
        run = min(min(count, BLOCK), n - start % n)
        call(load(np.int64, operand + MOVE), (place, step, run, buffer))
        start += run
        count -= run
        buffer += run * size
