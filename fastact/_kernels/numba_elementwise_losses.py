"""The elementwise losses that Numba compiles; elementwise_losses.pyx has the same for compiled kernels.

One pass over memory: blocks go through the first-level cache, where those of any strides and types become contiguous, and the
values are weighted and summed.
"""

from __future__ import annotations

import functools

import numba
import numpy as np
from numba import carray, types

from .numba_avx512 import LANES, cross_entropy_step
from .numba_intrinsics import add_lanes, array_loop, as_kernel, at, compiled, has, load, stack, store
from .numba_jobs import computed_in, run_pieces, words
from .numba_operands import described, readable, transfer
from .numba_row_losses import loss_formulas
from .numba_rows import toolbox

BLOCK = 512
UNIT = 32 * BLOCK  # elements of a partial sum, or more of them, so that their order does not depend on threads
SUMS = 256
BUFFER_BYTES, LANES_BYTES = 8 * BLOCK, 8 * 2 * 16

# A job: addresses, 0 for what there is not; those of the words of numba_operands.py, 0 for what is direct; whether a source is
# one number; the address of the factor and the numbers.
X, TARGET, THIRD, WEIGHT, VALUE, GRAD, THIRD_GRAD = range(0, 56, 8)
DESCRIBED = 56
SINGLE, JOB_UNIT, TOTALS, NUMBERS = range(112, 144, 8)
SOURCES, ARRAYS = 4, 7
NO_NUMBERS = (0.0, 0.0, 0.0)
REST_BYTES = 5 * 4 * LANES


def _element(formula, third, numbers):
    """The formula as a function of three arrays' elements and three numbers, whatever it needs."""
    return compiled({
        (False, 0): lambda x, t, v, p, q, r: formula(x, t),
        (False, 1): lambda x, t, v, p, q, r: formula(x, t, p),
        (False, 3): lambda x, t, v, p, q, r: formula(x, t, p, q, r),
        (True, 0): lambda x, t, v, p, q, r: formula(x, t, v),
        (True, 2): lambda x, t, v, p, q, r: formula(x, t, v, p, q),
    }[third, numbers])  # fmt: skip


@functools.cache
def _by_hand():
    """sigmoid_cross_entropy's loop over blocks in float32, for AVX-512."""

    @array_loop
    def run(x, t, w, value, grad, n, factor):
        for i in range(0, n & -LANES, LANES):
            cross_entropy_step(x + 4 * i, t + 4 * i, w + 4 * i, value + 4 * i, grad + 4 * i if grad else 0, factor)
        if n % LANES:
            done, rest = n & -LANES, stack(REST_BYTES)
            for i in range(done, n):
                place = rest + 4 * (i - done)
                store(np.float32, place, load(np.float32, x + 4 * i))
                store(np.float32, place + 4 * LANES, load(np.float32, t + 4 * i))
                store(np.float32, place + 8 * LANES, load(np.float32, w + 4 * i))
            cross_entropy_step(rest, rest + 4 * LANES, rest + 8 * LANES, rest + 12 * LANES, rest + 16 * LANES, factor)
            for i in range(done, n):
                place = rest + 4 * (i - done)
                store(np.float32, value + 4 * i, load(np.float32, place + 12 * LANES))
                if grad:
                    store(np.float32, grad + 4 * i, load(np.float32, place + 16 * LANES))

    return run


@functools.cache
def piece(name, T, third, numbers, gradients):
    """The work of the team: whole units, each from its beginning, and their sums. gradients: how many are wanted."""
    element = _element(loss_formulas(T)[name], third, numbers)
    t = toolbox(T)
    size, lanes, clear, add_up = t.size, t.lanes, t.clear, t.add_up
    times = t.scalar["times"]

    @array_loop
    def losses(x, target, third, value, grad, third_grad, p, q, r, factor):
        as_kernel()
        for i in range(len(value)):
            result = element(x[i], target[i], third[i], p, q, r)
            value[i] = result[0]
            if gradients > 0:
                grad[i] = result[1] * factor
            if gradients > 1:
                third_grad[i] = result[2] * factor

    @compiled
    def array(address, n):
        return carray(at(address), (n,), T)

    if name == "sigmoid_cross_entropy" and T is np.float32 and has("avx512f"):
        loop = _by_hand()
        find = compiled(lambda x, t, w, value, grad, third_grad, n, p, q, r, factor: loop(x, t, w, value, grad, n, factor))
    else:

        @compiled
        def find(x, target, third, value, grad, third_grad, n, p, q, r, factor):
            losses(array(x, n), array(target, n), array(third, n), array(value, n), array(grad, n), array(third_grad, n), p, q, r, factor)

    @array_loop
    def weigh(y, weight):
        """What does not count is 0, even if it is infinite."""
        as_kernel()
        for i in range(len(y)):
            y[i] = times(weight[i], y[i])

    @compiled
    def block_of(job, field, start, buffers):
        """Where a block of elements from start on is, or the buffer that is to hold it."""
        address = load(np.int64, job + field)
        buffered = load(np.int64, job + DESCRIBED + field) or load(np.int64, job + SINGLE) >> (field // 8) & 1
        return buffers + BUFFER_BYTES * (field // 8) if buffered else address + start * size if address else 0

    @compiled
    def source_of(job, field, start, n, buffers):
        block, operand = block_of(job, field, start, buffers), load(np.int64, job + DESCRIBED + field)
        if operand:
            transfer(operand, start, n, block, size)
        return block

    @numba.cfunc(types.void(types.intp, types.intp, types.intp), error_model="numpy")
    def run(job, first, count):
        buffers, block, totals = stack(BUFFERS_BYTES), stack(BUFFER_BYTES), stack(LANES_BYTES)
        unit = load(np.int64, job + JOB_UNIT)
        for k in range(SOURCES):
            if load(np.int64, job + SINGLE) >> k & 1:
                array(buffers + BUFFER_BYTES * k, BLOCK)[:] = load(T, load(np.int64, job + 8 * k))
        values = load(np.int64, job + NUMBERS)
        factor, p, q, r = (T(load(np.float64, values)), T(load(np.float64, values + 8)), T(load(np.float64, values + 16)),
                           T(load(np.float64, values + 24)))  # fmt: skip
        start = first
        while start < first + count:
            clear(totals)
            end = min(first + count, (start // unit + 1) * unit)
            number = start // unit
            while start < end:
                n = min(BLOCK, end - start)
                x, target = source_of(job, X, start, n, buffers), source_of(job, TARGET, start, n, buffers)
                third_source, weight = source_of(job, THIRD, start, n, buffers), source_of(job, WEIGHT, start, n, buffers)
                value, grad = block_of(job, VALUE, start, buffers), block_of(job, GRAD, start, buffers)
                third_grad = block_of(job, THIRD_GRAD, start, buffers)
                value = value if value else block
                find(x, target, third_source, value, grad, third_grad, n, p, q, r, factor)
                if weight:
                    weigh(array(value, n), array(weight, n))
                    if gradients > 0:
                        weigh(array(grad, n), array(weight, n))
                    if gradients > 1:
                        weigh(array(third_grad, n), array(weight, n))
                padded = (n + lanes - 1) // lanes * lanes
                summed = value
                if padded > n:
                    summed = block
                    array(block, n)[:] = array(value, n)
                    array(block + size * n, padded - n)[:] = T(0)
                add_lanes(T, summed, padded, totals)
                for field in range(VALUE, DESCRIBED, 8):
                    operand = load(np.int64, job + DESCRIBED + field)
                    if operand:
                        transfer(operand, start, n, block_of(job, field, start, buffers), size)
                start += n
            total, rest = add_up(totals)
            place = load(np.int64, job + TOTALS) + 16 * number
            store(np.float64, place, total)
            store(np.float64, place + 8, rest)

    return run


BUFFERS_BYTES = ARRAYS * BUFFER_BYTES


class ElementwiseLoss:
    """The loops of one formula, which takes a third array or not and as many numbers; ``cost`` is nanoseconds an element."""

    def __init__(self, name, third, numbers, cost):
        self.name, self.third, self.numbers, self.cost = name, third, numbers, cost

    def compile(self, dtype):
        """Compile what arrays of a dtype need, now."""
        for gradients in range(3 if self.name == "gaussian_nll" else 2):
            piece(self.name, np.float64 if dtype == np.float64 else np.float32, self.third, self.numbers, gradients)

    def total(self, sources, results, numbers, mean):
        """The sum or the mean of the losses of all elements, as elementwise_losses.pyx has it."""
        x = sources[0]
        T = computed_in(x.dtype)
        if x.size == 0:
            return 0.0
        is_single = [source is not None and source.ndim == 0 and (k > 0 or x.size == 1) for k, source in enumerate(sources)]
        with np.errstate(all="ignore"):
            arrays = [source if source is None else np.asarray(source, T) if single else readable(source)
                      for source, single in zip(sources, is_single)]  # fmt: skip
        operands = [described(array, T) for array in arrays] + [described(result, T, writing=True) for result in results]
        singles = sum(single << k for k, single in enumerate(is_single))
        unit = max(UNIT, (-(-x.size // SUMS) + BLOCK - 1) // BLOCK * BLOCK)
        totals = np.empty((-(-x.size // unit), 2))
        values = np.array((1.0 / x.size if mean else 1.0, *numbers, *NO_NUMBERS[len(numbers) :]))
        job = words(*arrays, *results, *operands, singles, unit, totals, values)
        gradients = 2 if results[2] is not None else 1 if results[1] is not None else 0
        work = piece(self.name, T, self.third, self.numbers, gradients)
        run_pieces(work, job, x.size, unit, x.size * self.cost * (2000 if T is np.float64 else 1000))
        total, rest = _sum(totals)
        value = total + rest if rest == rest else total
        return value / x.size if mean else value


def _sum(totals):
    """The sum of numbers with rests, and what rounding took from it (Knuth's two-sum)."""
    total = rest = 0.0
    for part, part_rest in totals.tolist():
        after = total + part
        share = after - total
        rest += (total - (after - share)) + (part - share) + part_rest
        total = after
    return total, rest
