"""Arrays of any strides and real types, brought into contiguous memory and back a block at a time; operands.pyx has the same.

An array that is neither contiguous nor of the type that is computed with is described by words: where it lies, the address of
the function that moves a run of its elements, which way numbers that are just copied go (TO_BUFFER or FROM_BUFFER, else 0),
how many dimensions it has, and for each of these the length and the step.
"""

from __future__ import annotations

import functools

import numpy as np

from . import numba_cpu
from .numba_cpu import BLOCK, BUFFER, copy_strided, gather, mapping, scatter, storage_of, transpose
from .numba_intrinsics import TILE, call, compiled, entry, load, pointers, routine, stack
from .numba_jobs import address, words

DATA, MOVE, COPIED, NDIM, DIMS = range(0, 40, 8)
TO_BUFFER, FROM_BUFFER = 1, 2


def lies_so(array, T):
    """Whether kernels for a type can work on an array as it lies."""
    flags = array.flags
    return array.dtype == T and flags.c_contiguous and flags.aligned


def placed(array, T, writing=False, streaming=False):
    """Where an array lies, or 0 if it is None, and the words that describe it, or None for what kernels work on as it lies.

    ``writing``: it receives numbers, if ``streaming`` past the cache.
    """
    if array is None:
        return 0, None
    if not streaming and lies_so(array, T):
        return address(array), None
    dims = []
    for n, step in zip(array.shape, array.strides):
        if dims and dims[-1][1] == n * step:
            dims[-1] = dims[-1][0] * n, step
        elif n != 1:
            dims.append((n, step))
    dims = dims or [(1, 0)]
    move = writer(array.dtype, T, streaming) if writing else reader(array.dtype, T)
    copied = 0 if array.dtype != T or streaming else FROM_BUFFER if writing else TO_BUFFER
    where = address(array)
    return where, words(where, move.address, copied, len(dims), *(word for dim in dims for word in dim))


def exceeds_cache(result, sources):
    """Whether a result goes past the cache: it does not fit there, and its lines are not there already as a source's."""
    return (result is not None and result.nbytes > numba_cpu.streaming_from[0] and result.flags.c_contiguous
            and all(source is None or address(source) != address(result) for source in sources))  # fmt: skip


def placed_result(array, T, sources):
    """The same for a result, which may go past the cache."""
    return placed(array, T, True, exceeds_cache(array, sources))


def readable(array, T):
    """The array, or a copy where there is no reader of its type."""
    dtype = array.dtype
    if dtype.isnative and (dtype == T or dtype.kind in "biu" or storage_of(dtype) is not None and not (dtype.itemsize == 2 and T is np.float64)):
        return array
    with np.errstate(all="ignore"):
        return array.astype(np.float64)


# What moves a run: (an element, the step to the next, how many, their place in a buffer, its step).


@functools.cache
def reader(dtype, T):
    """From an array of a dtype to a buffer, at most BLOCK elements."""
    storage, size = storage_of(dtype), dtype.itemsize
    wide = np.dtype(T).itemsize
    if dtype == T:
        return entry(lambda source, step, count, buffer, buffer_step: copy_strided(size, source, step, buffer, buffer_step, count))
    if size == 2 and storage is not None:

        @compiled
        def widen(source, step, count, to):
            gather(storage, source, step, count, to)

    else:
        numbers, results = pointers(np.uint8 if dtype.kind == "b" else dtype.type), pointers(T)
        convert = mapping(compiled(lambda x: T(x)))

        @compiled
        def widen(source, step, count, to):
            run = stack(BUFFER)
            if step != size or source % size:
                copy_strided(size, source, step, run, size, count)
                source = run
            convert(numbers(source), results(to), count)

    @entry
    def read(source, step, count, buffer, buffer_step):
        if buffer_step == wide:
            widen(source, step, count, buffer)
        else:
            numbers = stack(BUFFER)
            widen(source, step, count, numbers)
            copy_strided(wide, numbers, wide, buffer, buffer_step, count)

    return read


@functools.cache
def writer(dtype, T, streaming):
    """From a buffer to an array of a dtype in which T's numbers are stored, past the cache if ``streaming``."""
    storage, size = storage_of(dtype), dtype.itemsize
    wide = np.dtype(T).itemsize

    @entry
    def write(target, step, count, buffer, buffer_step):
        if buffer_step == wide:
            scatter(storage, buffer, target, step, count, streaming)
        elif size == wide:
            copy_strided(size, buffer, buffer_step, target, step, count)
        else:
            numbers = stack(BUFFER)
            copy_strided(wide, buffer, buffer_step, numbers, wide, count)
            scatter(storage, numbers, target, step, count, 0)

    return write


@routine
def dim(operand, k):
    """Where the length of a dimension is; its step is the next word."""
    return operand + DIMS + 16 * k


@routine
def locate(operand, last, start):
    """Where number start of the elements is that the dimensions up to the last one have."""
    place = load(np.int64, operand + DATA)
    for k in range(last, 0, -1):
        n = load(np.int64, dim(operand, k))
        place += start % n * load(np.int64, dim(operand, k) + 8)
        start //= n
    return place + start * load(np.int64, dim(operand, 0) + 8)


@routine
def transfer(operand, start, count, buffer, size):
    """Move count elements from number start of the flattened operand on, to or from a buffer of numbers of that size."""
    last = load(np.int64, operand + NDIM) - 1
    n, step = load(np.int64, dim(operand, last)), load(np.int64, dim(operand, last) + 8)
    while count > 0:
        run = min(min(count, BLOCK), n - start % n)
        call(load(np.int64, operand + MOVE), (locate(operand, last, start), step, run, buffer, size))
        start += run
        count -= run
        buffer += run * size


@routine
def transfer_rows(operand, first, rows, n, buffer, size):
    """The same for rows of n elements: in tiles or column by column where rows are nearer to each other than their elements."""
    last = load(np.int64, operand + NDIM) - 1
    step = load(np.int64, dim(operand, last) + 8)
    row_step = load(np.int64, dim(operand, last - 1) + 8) if last > 0 else step
    if load(np.int64, dim(operand, last)) != n or abs(step) <= abs(row_step):
        transfer(operand, first * n, rows * n, buffer, size)
        return
    side_by_side = load(np.int64, dim(operand, last - 1))
    while rows > 0:
        run = min(min(rows, BLOCK), side_by_side - first % side_by_side)
        place = locate(operand, last - 1, first)
        copied = load(np.int64, operand + COPIED) if row_step == size and min(run, n) >= TILE else 0
        if copied == TO_BUFFER:
            transpose(size, place, step, buffer, n * size, n, run)
        elif copied == FROM_BUFFER:
            transpose(size, buffer, n * size, place, step, run, n)
        else:
            for i in range(n):
                call(load(np.int64, operand + MOVE), (place + i * step, row_step, run, buffer + i * size, n * size))
        first += run
        rows -= run
        buffer += run * n * size
