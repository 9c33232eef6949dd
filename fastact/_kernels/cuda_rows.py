"""Kernels of softmax and its relatives for GPUs, over rows along any axis.

A team of threads has a row: 1, 8 or 32 threads of a block, or all of it. Each reads some elements at a time, ``vectors`` times
``width`` of them, into registers. Where that is the row, it is read once; else once for its sum and once more for the results.

With m the largest element so far, a thread adds up the terms exp(x - m) as the unevaluated sum of two numbers, so that neither
long rows nor dominant elements cost digits: all but the largest term are the sum less 1, which log1p takes. Terms come from a
difference that is exact, as the sum of two numbers; half types do without, and with an exponential to 2 units of float32.
Sums are added up in an order that depends on the shape and the kernel alone.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from .cuda_kernels import SIZES, WARP, Kernel

THREADS = 256
"""Of a block that several teams share."""
EVERYONE = 0xFFFFFFFF


def exponentials(target, storage):
    """difference(x, m, c, c_low): (x - m) c as high + low, 0 at most; exponential(high, low); scaled(a, low, f)."""
    T, fma = target.number(storage), target.fma
    single = storage != "float64"
    largest, zero = T(np.finfo(np.float32 if single else np.float64).max), T(0)
    reach = T(1000)

    @target.device
    def anchor(m):
        """The nearest finite number: what is taken from the elements."""
        m = largest if m > largest else m
        return -largest if m < -largest else m

    if SIZES[storage] == 2:
        log2e, exp2 = T(1.4426950408889634), target.exp2

        @target.device
        def difference(x, m, c, c_low):
            z = (x - m) * c
            return (zero if z > zero else z), zero

        @target.device
        def exponential(high, low):
            return exp2(high * log2e)

    else:
        decay_parts = target.formulas(storage)["decay_parts"]

        @target.device
        def difference(x, m, c, c_low):
            z = x - m
            share = z - x
            low = (x - (z - share)) - (m + share)
            y = z * c
            low = fma(z, c, -y) + (low * c + z * c_low)
            low = low if (y > -reach) & (y < zero) else zero
            return (zero if y > zero else y), low

        @target.device
        def exponential(high, low):
            high, low, first, second = decay_parts(high, low)
            return high * first * second

    @target.device
    def add(total, low, x):
        """total + low + x"""
        after = total + x
        share = after - total
        return after, low + ((total - (after - share)) + (x - share))

    @target.device
    def scaled(total, low, f):
        y = total * f
        return y, fma(total, f, -y) + low * f

    return SimpleNamespace(anchor=anchor, difference=difference, exponential=exponential, add=add, scaled=scaled)


def gathering(target, storage, team):
    """What a team knows together: functions of (m, total, low) and of (total, low) of each of its threads.

    All threads of a warp must call them, those of a bigger team once in a kernel.
    """
    cuda, word, T = target.cuda, target.word, target.number(storage)
    e = exponentials(target, storage)
    anchor, difference, exponential, add, scaled = e.anchor, e.difference, e.exponential, e.add, e.scaled
    span = min(team, WARP)
    steps = span.bit_length() - 1
    warps = team // WARP
    zero, nothing = T(0), T(-np.inf)
    three_each, two_each = 3 * WARP, 2 * WARP

    @target.device
    def add_within_warp(total, low):
        for k in range(steps):
            mask = 1 << k
            other, other_low = cuda.shfl_xor_sync(EVERYONE, total, mask), cuda.shfl_xor_sync(EVERYONE, low, mask)
            total, low = add(total, low + other_low, other)
        return total, low

    @target.device
    def within_warp(m, total, low, c, c_low):
        together = m
        for k in range(steps):
            other = cuda.shfl_xor_sync(EVERYONE, together, 1 << k)
            together = other if other > together else together
        high, rest = difference(anchor(m), anchor(together), c, c_low)
        total, low = scaled(total, low, exponential(high, rest))
        total, low = add_within_warp(total, low)
        return together, total, low

    if team <= WARP:
        return SimpleNamespace(exponentials=e, gather=within_warp, add_up=add_within_warp)

    @target.device
    def gather(m, total, low, c, c_low):
        parts = cuda.shared.array(three_each, T)
        m, total, low = within_warp(m, total, low, c, c_low)
        lane = word(cuda.threadIdx.x) % WARP
        if lane == 0:
            at = word(cuda.threadIdx.x) // WARP * 3
            parts[at], parts[at + 1], parts[at + 2] = m, total, low
        cuda.syncthreads()
        m, total, low = nothing, zero, zero
        if lane < warps:
            m, total, low = parts[lane * 3], parts[lane * 3 + 1], parts[lane * 3 + 2]
        return within_warp(m, total, low, c, c_low)

    @target.device
    def add_up(total, low):
        parts = cuda.shared.array(two_each, T)
        total, low = add_within_warp(total, low)
        lane = word(cuda.threadIdx.x) % WARP
        if lane == 0:
            at = word(cuda.threadIdx.x) // WARP * 2
            parts[at], parts[at + 1] = total, low
        cuda.syncthreads()
        total, low = zero, zero
        if lane < warps:
            total, low = parts[lane * 2], parts[lane * 2 + 1]
        return add_within_warp(total, low)

    return SimpleNamespace(exponentials=e, gather=gather, add_up=add_up)


def moving(target, storage, width, vectors, team):
    """fetch(values, at, address, step, first, count, fill) and put(values, at, address, step, first, count).

    They move the elements from ``first`` on of a thread to and from ``values``; beyond ``count`` there is ``fill``, and nothing
    is put. With a width beyond 1 the step must be the size of an element, and the address a multiple of 16.
    """
    wide, narrow = target.access(storage, width), target.access(storage, 1)
    read, write, read_one, write_one = wide.read, wide.write, narrow.read, narrow.write
    stride = team * width

    @target.device
    def fetch(values, at, address, step, first, count, fill):
        for u in range(vectors):
            i = first + u * stride
            if i + width <= count:
                read(values, at + u * width, address + i * step)
            else:
                for k in range(width):
                    values[at + u * width + k] = fill
                    if i + k < count:
                        read_one(values, at + u * width + k, address + (i + k) * step)

    @target.device
    def put(values, at, address, step, first, count):
        for u in range(vectors):
            i = first + u * stride
            if i + width <= count:
                write(address + i * step, values, at + u * width)
            else:
                for k in range(width):
                    if i + k < count:
                        write_one(address + (i + k) * step, values, at + u * width + k)

    return fetch, put


def summing(target, storage, held):
    """absorb(values, m, total, low, c, c_low): the sum with the terms of ``held`` elements more."""
    e = exponentials(target, storage)
    anchor, difference, exponential, add, scaled = e.anchor, e.difference, e.exponential, e.add, e.scaled

    @target.device
    def absorb(values, m, total, low, c, c_low):
        above = m
        for k in range(held):
            above = values[k] if values[k] > above else above
        at = anchor(above)
        high, rest = difference(anchor(m), at, c, c_low)
        total, low = scaled(total, low, exponential(high, rest))
        for k in range(held):
            high, rest = difference(values[k], at, c, c_low)
            total, low = add(total, low, exponential(high, rest))
        return above, total, low

    return absorb


def where_rows_are(target, arrays, inner):
    """locate(addresses, row, inner_count, starts, strides): where a row begins in every array.

    An array has three strides: of outer rows, of the inner rows that follow each other (if ``inner``), and within a row.
    """
    word, quotient = target.word, target.quotient

    @target.device
    def locate(addresses, row, inner_count, starts, strides):
        outer, place = row, word(0)
        if inner:
            outer = quotient(row, inner_count)
            place = row - outer * inner_count
        for j in range(arrays):
            addresses[j] = starts[j] + outer * strides[3 * j] + place * strides[3 * j + 1]

    return locate


def threads_of(team):
    """Of a block: one team, or several small ones."""
    return team if team > WARP else THREADS


def forward(target, function, storage, width, vectors, team, looped, inner):
    """A kernel of "softmax", "log_softmax", "logsumexp", or "logsumexp_backward", whose second source is a number for a row.

    kernel(rows, n, inner count, addresses of the sources and the result, their strides, numbers): the numbers are 1 or -1, by
    which elements are multiplied, and 1 / temperature as high and low.
    """
    cuda, word, T, from_word = target.cuda, target.word, target.number(storage), target.from_word(storage)
    log1p, held = target.log1p, width * vectors
    fetch, put = moving(target, storage, width, vectors, team)
    gather = gathering(target, storage, team).gather
    absorb = summing(target, storage, held)
    e = exponentials(target, storage)
    anchor, difference, exponential = e.anchor, e.difference, e.exponential
    read_one, write_one = target.access(storage, 1).read, target.access(storage, 1).write
    of_row, times_row, logarithmic = function == "logsumexp", function == "logsumexp_backward", function == "log_softmax"
    arrays = 3 if times_row else 2
    last = arrays - 1
    locate = where_rows_are(target, arrays, inner)
    threads = threads_of(team)
    teams, stride = threads // team, team * held
    zero, one, nothing = T(0), T(1), T(-np.inf)

    @target.device
    def take(values, address, step, first, count, sign):
        fetch(values, 0, address, step, first, count, nothing * sign)
        for k in range(held):
            values[k] = values[k] * sign

    def kernel(rows, n, inner_count, starts, strides, numbers):
        values, given = cuda.local.array(held, T), cuda.local.array(1, T)
        addresses = cuda.local.array(arrays, word)
        sign, c, c_low = from_word(numbers[0]), from_word(numbers[1]), from_word(numbers[2])
        thread = word(cuda.threadIdx.x)
        row = word(cuda.blockIdx.x) * teams + thread // team
        is_row = row < rows
        count = n if is_row else word(0)
        locate(addresses, row if is_row else word(0), inner_count, starts, strides)
        step, start = strides[2], thread % team * width
        m, total, low = nothing, zero, zero
        if looped:
            first = start
            while first < count:
                take(values, addresses[0], step, first, count, sign)
                m, total, low = absorb(values, m, total, low, c, c_low)
                first += stride
        else:
            take(values, addresses[0], step, start, count, sign)
            m, total, low = absorb(values, m, total, low, c, c_low)
        m, total, low = gather(m, total, low, c, c_low)
        at, undefined = anchor(m), m - m
        logarithm = log1p((total - one) + low)
        if of_row:
            given[0] = m * c + logarithm
            if (start == 0) & is_row:
                write_one(addresses[last], given, 0)
        else:
            logarithm += undefined
            scale = one / (total + low) + undefined
            if times_row:
                if is_row:
                    read_one(given, 0, addresses[1])
                scale *= given[0] * c
            first = start
            while first < count:
                if looped:
                    take(values, addresses[0], step, first, count, sign)
                for k in range(held):
                    high, rest = difference(values[k], at, c, c_low)
                    values[k] = (high - logarithm) + rest if logarithmic else exponential(high, rest) * scale
                put(values, 0, addresses[last], strides[3 * last + 2], first, count)
                first += stride

    return Kernel(kernel, (None, None, None, arrays, 3 * arrays, 3), threads)


def backward(target, function, storage, width, vectors, team, looped, inner):
    """A kernel of "softmax_backward" or "log_softmax_backward", of sources grad_output and output.

    kernel(rows, n, inner count, addresses of the sources and the result, their strides, numbers): the number is what the
    result is multiplied by.
    """
    cuda, word, T, from_word, fma = target.cuda, target.word, target.number(storage), target.from_word(storage), target.fma
    held = width * vectors
    fetch, put = moving(target, storage, width, vectors, team)
    add_up = gathering(target, storage, team).add_up
    e = exponentials(target, storage)
    difference, exponential, add = e.difference, e.exponential, e.add
    logarithmic = function == "log_softmax_backward"
    locate = where_rows_are(target, 3, inner)
    threads, both = threads_of(team), 2 * held
    teams, stride = threads // team, team * held
    zero, one, nothing = T(0), T(1), T(-np.inf)
    absent = nothing if logarithmic else zero

    @target.device
    def take(values, addresses, strides, first, count):
        fetch(values, 0, addresses[0], strides[2], first, count, zero)
        fetch(values, held, addresses[1], strides[5], first, count, absent)

    @target.device
    def absorb(values, total, low):
        for k in range(held):
            g, y = values[k], values[held + k]
            if logarithmic:
                total, low = add(total, low, zero if y == nothing else g)
            else:
                product = y * g
                rest = fma(y, g, -product)
                total, low = add(total, low + (rest if rest == rest else zero), product)
        return total, low

    def kernel(rows, n, inner_count, starts, strides, numbers):
        values = cuda.local.array(both, T)
        addresses = cuda.local.array(3, word)
        c = from_word(numbers[0])
        thread = word(cuda.threadIdx.x)
        row = word(cuda.blockIdx.x) * teams + thread // team
        is_row = row < rows
        count = n if is_row else word(0)
        locate(addresses, row if is_row else word(0), inner_count, starts, strides)
        start = thread % team * width
        total, low = zero, zero
        if looped:
            first = start
            while first < count:
                take(values, addresses, strides, first, count)
                total, low = absorb(values, total, low)
                first += stride
        else:
            take(values, addresses, strides, start, count)
            total, low = absorb(values, total, low)
        total, low = add_up(total, low)
        first = start
        while first < count:
            if looped:
                take(values, addresses, strides, first, count)
            for k in range(held):
                g, y = values[k], values[held + k]
                if logarithmic:
                    high, rest = difference(y, zero, one, zero)
                    p = exponential(high, rest)
                    values[k] = zero if y == nothing else ((g - p * total) - p * low) * c
                else:
                    values[k] = y * ((g - total) - low) * c
            put(values, 0, addresses[2], strides[8], first, count)
            first += stride

    return Kernel(kernel, (None, None, None, 3, 9, 1), threads)
