"""The elementwise losses that Numba compiles; elementwise_losses.pyx has the same for compiled kernels.

One pass over memory: blocks go through the first-level cache, where those of any strides and types become contiguous, and the
values are weighted and summed.
"""

from __future__ import annotations

import functools
from array import array

import numpy as np

from .numba_avx512 import cross_entropy_step
from .numba_intrinsics import (
    array_loop,
    as_kernel,
    called_from_python,
    compiled,
    entry,
    fence,
    fill,
    has,
    keep,
    load,
    real,
    stack,
    store,
    word,
)
from .numba_jobs import address, computed_in
from .numba_operands import lies_so, placed, placed_result, readable, transfer
from .numba_row_losses import loss_formulas
from .numba_row_steps import toolbox
from .numba_threads import share, team
from .numba_vectors import LANES

BLOCK = 512
UNIT = 32 * BLOCK  # elements of a partial sum, or more of them, so that their order does not depend on threads
SUMS = 256
TOTALS_BYTES = 16 * SUMS
BUFFER_BYTES, LANES_BYTES = 8 * BLOCK, 8 * 2 * 16

# A job: addresses, 0 for what there is not; those of the words of numba_operands.py, 0 for what is direct and SINGLE for one number;
# the length of a unit; the addresses of the sums, and of the factor and the numbers.
X, TARGET, THIRD, WEIGHT, VALUE, GRAD, THIRD_GRAD = range(0, 56, 8)
DESCRIBED = 56
JOB_UNIT, TOTALS, NUMBERS = range(112, 136, 8)
SINGLE = 1
ARRAYS = 7
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
def piece(name, T, third, numbers, gradients, as_they_lie):
    """The work of the team: whole units, each from its beginning, and their sums. gradients: how many are wanted.

    ``as_they_lie``: there are no weights, and no array is described by words; what those need is not compiled.
    """
    element = _element(loss_formulas(T)[name], third, numbers)
    t = toolbox(T)
    row, size, clear, add_all, add_up = t.row, t.size, t.clear, t.add_all, t.add_up
    times = t.scalar["times"]

    @array_loop
    def losses(x, target, third, value, grad, third_grad, n, p, q, r, factor):
        as_kernel()
        for i in range(n):
            result = element(x[i], target[i], third[i], p, q, r)
            value[i] = result[0]
            if gradients > 0:
                grad[i] = result[1] * factor
            if gradients > 1:
                third_grad[i] = result[2] * factor

    if name == "sigmoid_cross_entropy" and T is np.float32 and has("avx512f"):
        loop = _by_hand()
        find = compiled(lambda x, t, w, value, grad, third_grad, n, p, q, r, factor: loop(x, t, w, value, grad, n, factor))
    else:

        @compiled
        def find(x, target, third, value, grad, third_grad, n, p, q, r, factor):
            losses(row(x), row(target), row(third), row(value), row(grad), row(third_grad), n, p, q, r, factor)

    @compiled
    def block_of(job, field, start, buffers):
        """Where a block of elements from start on is, or the buffer that is to hold it."""
        address = word(job, field)
        if word(job, DESCRIBED + field):
            return buffers + BUFFER_BYTES // 8 * field
        return address + start * size if address else 0

    if as_they_lie:
        source_of = compiled(lambda job, field, start, n, buffers: block_of(job, field, start, buffers))
        finish = compiled(lambda job, start, n, value, buffers: None)
    else:

        @array_loop
        def weigh(y, weight, n):
            """What does not count is 0, even if it is infinite."""
            as_kernel()
            for i in range(n):
                y[i] = times(weight[i], y[i])

        @compiled
        def source_of(job, field, start, n, buffers):
            block, operand = block_of(job, field, start, buffers), word(job, DESCRIBED + field)
            if operand > SINGLE:
                transfer(operand, start, n, block, size)
            return block

        @compiled
        def finish(job, start, n, value, buffers):
            weight = source_of(job, WEIGHT, start, n, buffers)
            if weight:
                weigh(row(value), row(weight), n)
                for field in range(GRAD, GRAD + 8 * gradients, 8):
                    weigh(row(block_of(job, field, start, buffers)), row(weight), n)
            for field in range(VALUE, DESCRIBED, 8):
                operand = word(job, DESCRIBED + field)
                if operand:
                    transfer(operand, start, n, block_of(job, field, start, buffers), size)

    @entry
    def run(job, first, count):
        buffers, block, totals = stack(BUFFERS_BYTES), stack(BUFFER_BYTES), stack(LANES_BYTES)
        unit = word(job, JOB_UNIT)
        for field in range(0, VALUE, 8):
            if word(job, DESCRIBED + field) == SINGLE:
                fill(row(buffers + BUFFER_BYTES // 8 * field), load(T, word(job, field)), BLOCK)
        values = word(job, NUMBERS)
        factor, p, q, r = (T(real(values, 0)), T(real(values, 8)), T(real(values, 16)),
                           T(real(values, 24)))  # fmt: skip
        start = first
        while start < first + count:
            clear(totals)
            end = min(first + count, (start // unit + 1) * unit)
            number = start // unit
            while start < end:
                n = min(BLOCK, end - start)
                x, target = source_of(job, X, start, n, buffers), source_of(job, TARGET, start, n, buffers)
                third_source = source_of(job, THIRD, start, n, buffers)
                value, grad = block_of(job, VALUE, start, buffers), block_of(job, GRAD, start, buffers)
                third_grad = block_of(job, THIRD_GRAD, start, buffers)
                value = value if value else block
                find(x, target, third_source, value, grad, third_grad, n, p, q, r, factor)
                finish(job, start, n, value, buffers)
                add_all(value, n, totals)
                start += n
            total, rest = add_up(totals)
            keep(word(job, TOTALS), 16 * number, total)
            keep(word(job, TOTALS), 16 * number + 8, rest)
        fence()

    return run


BUFFERS_BYTES = ARRAYS * BUFFER_BYTES


class ElementwiseLoss:
    """The loops of one formula, which takes a third array or not and as many numbers; ``cost`` is nanoseconds an element."""

    def __init__(self, name, third, numbers, cost):
        self.name, self.third, self.numbers, self.cost = name, third, numbers, cost

    def compile(self, dtype):
        """Compile what arrays of a dtype need, now."""
        for gradients in range(3 if self.name == "gaussian_nll" else 2):
            for as_they_lie in (True, False):
                piece(self.name, np.float64 if dtype == np.float64 else np.float32, self.third, self.numbers, gradients, as_they_lie)

    def total(self, sources, results, numbers, mean):
        """The sum or the mean of the losses of all elements, as elementwise_losses.pyx has it."""
        x = sources[0]
        T, count = computed_in(x.dtype), x.size
        if count == 0:
            return 0.0
        wheres, operands, kept, as_they_lie = [0] * ARRAYS, [0] * ARRAYS, [], sources[WEIGHT // 8] is None
        for k, source in enumerate(sources):
            if source is None:
                continue
            if source.size == count and lies_so(source, T):
                wheres[k] = address(source)
                continue
            if source.ndim == 0:
                source = _number(source, T)
                wheres[k], operands[k] = address(source), SINGLE
            else:
                source = readable(source, T)
                wheres[k], operand = placed(source, T)
                if operand:
                    operands[k], as_they_lie = address(operand), False
                    kept.append(operand)
            kept.append(source)
        for k, result in enumerate(results, len(sources)):
            wheres[k], operand = placed_result(result, T, sources)
            if operand:
                operands[k], as_they_lie = address(operand), False
                kept.append(operand)
        unit = max(UNIT, (-(-count // SUMS) + BLOCK - 1) // BLOCK * BLOCK)
        values = array("d", (1.0 / count if mean else 1.0, *numbers, *NO_NUMBERS[len(numbers) :]))
        job = array("q", (*wheres, *operands, unit, 0, address(values)))
        gradients = 2 if results[2] is not None else 1 if results[1] is not None else 0
        work = piece(self.name, T, self.third, self.numbers, gradients, as_they_lie)
        picoseconds = int(count * self.cost * (2000 if T is np.float64 else 1000))
        value = _totaller()(work.address, address(job), count, unit, picoseconds)
        return value / count if mean else value


@functools.cache
def _totaller():
    @called_from_python
    def total(work, job, count, unit, picoseconds) -> float:
        """The work on all units, and the sum of their sums (Knuth's two-sum)."""
        totals = stack(TOTALS_BYTES)
        keep(job, TOTALS, totals)
        share(work, job, count, unit, team(picoseconds))
        total = rest = 0.0
        for number in range((count + unit - 1) // unit):
            part = real(totals, 16 * number)
            after = total + part
            share_of_it = after - total
            rest += (total - (after - share_of_it)) + (part - share_of_it) + real(totals, 16 * number + 8)
            total = after
        return total + rest if rest == rest else total

    return total


def _number(source, T):
    if source.dtype == T:
        return source
    with np.errstate(all="ignore"):
        return source.astype(T)
