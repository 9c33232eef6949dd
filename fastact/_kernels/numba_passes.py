"""What no ufunc does in one pass over an array, compiled by Numba: prelu with the gradient of its weight, and maxout.

As passes.pyx has them for compiled kernels.
"""

from __future__ import annotations

import functools

import numpy as np

from .numba_cpu import (
    BLOCK,
    BUFFER,
    COMPUTED,
    DOUBLE,
    FLOAT,
    KERNEL,
    gather,
    scatter,
    storage_of,
    streaming_from,
    width,
)
from .numba_intrinsics import (
    add_falling_lanes,
    add_up_lanes,
    array_loop,
    as_kernel,
    assign,
    call,
    doubles,
    entry,
    fence,
    fill,
    keep,
    pointers,
    routine,
    stack,
    word,
)
from .numba_jobs import run_pieces, words

RUN, FEWEST_ROWS = 65536, 64  # as in passes.pyx
TOTALS = 256  # bytes of the lanes of a sum, and of what rounding took from them


@functools.cache
def loop(make, T):
    """The address of one of the loops below for a type."""
    function = make(T)
    loops.append(function)
    return function.address


loops = []


bytes_at = pointers(np.int8)


def arrays_of(T):
    """Pointers to numbers of that type, and to integers of its size."""
    return pointers(T), pointers(np.int64 if T is np.float64 else np.int32)

# --- prelu with the gradient of its weight ----------------------------------------------------------------------------


def prelu_shared(T):
    lanes, size, numbers = 64 // np.dtype(T).itemsize, np.dtype(T).itemsize, pointers(T)

    @entry
    def add(grad, x, totals, n):
        add_falling_lanes(T, grad, x, n & -lanes, totals)
        rest = n & (lanes - 1)
        if rest:
            few_grad, few_x = stack(64), stack(64)
            for to, source in ((few_grad, grad), (few_x, x)):
                fill(numbers(to), T(0), lanes)
                assign(numbers(to), numbers(source + (n - rest) * size), rest)
            add_falling_lanes(T, few_grad, few_x, lanes, totals)

    return add


def prelu_each(T):
    numbers = pointers(T)

    @array_loop
    def add(grad, x, sums, n):
        as_kernel()
        for i in range(n):
            sums[i] += 0.0 if x[i] > 0 else np.float64(grad[i]) * x[i]

    return entry(lambda grad, x, sums, n: add(numbers(grad), numbers(x), doubles(sums), n))


CHUNK, TERMS, STORAGE, GRAD, INPUT, GRAD_X, WEIGHT, WEIGHTS, LENGTH, TOTAL, RUNS, SUMS = range(0, 96, 8)


@routine
def prelu_part(job, first, count, weight, single, sums):
    """Elements that follow each other: their gradients, and their terms added to the lanes of one sum, or to as many sums."""
    storage = word(job, STORAGE)
    computed = DOUBLE if storage == DOUBLE else FLOAT
    size, wide = width(storage), width(computed)
    grads, inputs, results = stack(BUFFER), stack(BUFFER), stack(BUFFER)
    most = 4 * BLOCK if storage == computed else BLOCK  # the less often is begun anew
    for done in range(0, count, most):
        block, offset = min(count - done, most), (first + done) * size
        grad = gather(storage, word(job, GRAD) + offset, size, block, grads)
        x = gather(storage, word(job, INPUT) + offset, size, block, inputs)
        call(word(job, TERMS), (grad, x, sums if single else sums + 8 * done, block))
        w = word(job, WEIGHT) + (weight if single else weight + done) * wide
        target = word(job, GRAD_X) + offset
        y = target if storage == computed else results
        call(word(job, CHUNK), (grad, x, 0, w, 0, y, 0, block, single))
        if storage != computed:
            scatter(storage, y, target, size, block, 0)


@entry
def prelu_piece(job, start, count):
    totals = stack(TOTALS)
    length, runs, total, sums = word(job, LENGTH), word(job, RUNS), word(job, TOTAL), word(job, SUMS)
    for unit in range(start, start + count):
        if runs > 0:
            fill(doubles(totals), 0.0, TOTALS // 8)
            row = unit // runs
            first = (unit - row * runs) * RUN
            prelu_part(job, row * length + first, min(RUN, length - first), row % word(job, WEIGHTS), 1, totals)
            wide = word(job, STORAGE) == DOUBLE
            keep(sums, 8 * unit, (add_up_lanes(np.float64, totals) if wide else add_up_lanes(np.float32, totals))[0])
        else:
            columns = sums + 8 * unit * length
            fill(doubles(columns), 0.0, length)
            for row in range(unit * -runs, (unit + 1) * -runs):
                if row * length < total:
                    prelu_part(job, row * length, min(length, total - row * length), 0, 0, columns)


def prelu_backward(ufunc, grad, x, weight, inner, out):
    """As passes.pyx has it, for prelu's backward ufunc."""
    storage = storage_of(x.dtype)
    arrays = [grad, x] if out is None else [grad, x, out]
    if storage is None or not x.dtype.isnative or x.size == 0 or not all(
        type(a) is np.ndarray and a.dtype == x.dtype and a.shape == x.shape and a.flags.c_contiguous and a.flags.aligned
        for a in arrays
    ):
        return None
    if out is None:
        out = np.empty_like(x)
    elif not out.flags.writeable or np.may_share_memory(out, x) or np.may_share_memory(out, grad):
        return None
    if len(weight) == 1 or inner > 1:
        length = x.size if len(weight) == 1 else inner
        runs = -(-length // RUN)
        shape = x.size // length, runs
    else:
        length = len(weight)
        runs = -max(RUN // length, FEWEST_ROWS)
        shape = -(-x.size // (length * -runs)), length
    sums = np.empty(shape)
    (lazy,) = (lazy for (stored, _), lazy in ufunc.loops.items() if stored == storage)
    lazy.compile()
    job = words(int(lazy.words[KERNEL // 8]), loop(prelu_shared if runs > 0 else prelu_each, COMPUTED[storage]), storage, grad, x, out, weight, len(weight), length,
                x.size, runs, sums)  # fmt: skip
    run_pieces(prelu_piece, job, shape[0] * runs if runs > 0 else shape[0], 1, 500 * x.size)
    return out, sums


# --- Maxout -----------------------------------------------------------------------------------------------------------


def maxout_larger(T):
    numbers, _ = arrays_of(T)

    @array_loop
    def larger(x, other, y, n):
        as_kernel()
        for i in range(n):
            y[i] = other[i] if (other[i] > x[i]) | (other[i] != other[i]) else x[i]

    return entry(lambda x, other, y, n: larger(numbers(x), numbers(other), numbers(y), n))


def maxout_pairs(T):
    """The larger of each two neighbours."""
    numbers, _ = arrays_of(T)

    @array_loop
    def larger(x, y, n):
        as_kernel()
        for i in range(n):
            a, b = x[2 * i + 1], x[2 * i]
            y[i] = a if (a > b) | (a != a) else b

    return entry(lambda x, y, n: larger(numbers(x), numbers(y), n))


def maxout_fold(T):
    """Piece k into the best ones so far and the numbers of these; the first NaN stays."""
    numbers, integers = arrays_of(T)

    @array_loop
    def fold(x, best, winner, n, k):
        as_kernel()
        for i in range(n):
            wins = (x[i] > best[i]) | ((x[i] != x[i]) & (best[i] == best[i]))
            best[i] = x[i] if wins else best[i]
            winner[i] = k if wins else winner[i]

    @entry
    def folded(x, best, winner, k, n):
        fold(numbers(x), numbers(best), integers(winner), n, k)

    return folded


def maxout_route(T):
    """What piece k gets of the gradient."""
    numbers, integers = arrays_of(T)
    zero = T(0)

    @array_loop
    def route(grad, best, winner, n, k, to):
        as_kernel()
        for i in range(n):
            won = grad[i] if best[i] == best[i] else best[i]
            to[i] = won if winner[i] == k else zero

    @entry
    def routed(grad, best, winner, k, to, n):
        route(numbers(grad), numbers(best), integers(winner), n, k, numbers(to))

    return routed


FOLD, ROUTE, MAXOUT_STORAGE, PIECES, INNER, MAXOUT_INPUT, OUTPUT, MAXOUT_GRAD = range(0, 64, 8)
LARGER, PAIRS, STREAMED = FOLD, ROUTE, MAXOUT_GRAD  # of the forward pass


@routine
def maxout_run(job, start, count):
    """Of how many outputs from start on the pieces of one number are evenly spaced; where those of the first one begin, and the space."""
    pieces, inner, size = word(job, PIECES), word(job, INNER), width(word(job, MAXOUT_STORAGE))
    row = start // inner
    block = min(count, BLOCK) if inner == 1 else min(min(count, BLOCK), (row + 1) * inner - start)
    return block, (row * (pieces - 1) * inner + start) * size, pieces * size if inner == 1 else size


@entry
def maxout_piece(job, start, count):
    """Outputs start ... start + count, as passes.pyx has them."""
    best, spare, read = stack(BUFFER), stack(BUFFER), stack(BUFFER)
    stored, inner, streamed = word(job, MAXOUT_STORAGE), word(job, INNER), word(job, STREAMED)
    size = width(stored)
    computed = DOUBLE if stored == DOUBLE else FLOAT
    while count > 0:
        block, first, step = maxout_run(job, start, count)
        storage, pieces, apart, x = stored, word(job, PIECES), inner * size, word(job, MAXOUT_INPUT) + first
        if inner == 1 and pieces & 1 == 0 and pieces <= 2 * BLOCK:
            block = min(block, 2 * BLOCK // pieces)
            x = gather(storage, x, size, block * pieces, read)
            while pieces & 1 == 0:
                pieces >>= 1
                call(word(job, PAIRS), (x, best, block * pieces))
                x, best, spare = best, spare, best
            storage, apart = computed, width(computed)
            step = pieces * apart
        top = gather(storage, x, step, block, best)
        for k in range(1, pieces):
            call(word(job, LARGER), (top, gather(storage, x + k * apart, step, block, read), best, block))
            top = best
        to = word(job, OUTPUT) + start * size
        if stored == computed and not streamed:
            assign(bytes_at(to), bytes_at(top), block * size)  # scatter's copy is no vector loop: a third more in all
        else:
            scatter(stored, top, to, size, block, streamed)
        start += block
        count -= block
    if streamed:
        fence()


@entry
def maxout_backward_piece(job, start, count):
    best, winner, read, routed, grads = stack(BUFFER), stack(BUFFER), stack(BUFFER), stack(BUFFER), stack(BUFFER)
    storage, pieces = word(job, MAXOUT_STORAGE), word(job, PIECES)
    size = width(storage)
    wide, apart = width(DOUBLE if storage == DOUBLE else FLOAT), word(job, INNER) * size
    while count > 0:
        block, first, step = maxout_run(job, start, count)
        for k in range(pieces):
            element = gather(storage, word(job, MAXOUT_INPUT) + first + k * apart, step, block, read)
            if k == 0:
                assign(bytes_at(best), bytes_at(element), block * wide)
                fill(bytes_at(winner), np.int8(0), block * wide)
            else:
                call(word(job, FOLD), (element, best, winner, k, block))
        grad = gather(storage, word(job, OUTPUT) + start * size, size, block, grads)
        for k in range(pieces):
            call(word(job, ROUTE), (grad, best, winner, k, routed, block))
            scatter(storage, routed, word(job, MAXOUT_GRAD) + first + k * apart, step, block, 0)
        start += block
        count -= block


def maxout(x, axis, y, grad=None):
    """As passes.pyx has it: the largest along an axis, which y lacks, into y; or the gradient y into grad, which is like x."""
    storage = storage_of(x.dtype)
    T, inner = COMPUTED[storage], int(np.prod(x.shape[axis + 1 :], dtype=int))
    steps = (maxout_larger, maxout_pairs) if grad is None else (maxout_fold, maxout_route)
    last = int(y.nbytes > streaming_from[0]) if grad is None else grad
    job = words(*(loop(step, T) for step in steps), storage, x.shape[axis], inner, x, y, last)
    if y.size:
        piece, cost = (maxout_piece, 100) if grad is None else (maxout_backward_piece, 600)
        run_pieces(piece, job, y.size, min(max(y.size // 8, 1024), 16384) & ~63, cost * y.size * x.shape[axis])
