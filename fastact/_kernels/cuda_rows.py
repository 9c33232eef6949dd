"""Kernels of softmax and its relatives for GPUs, over rows along any axis.

A team of threads has a row: 1, 8 or 32 threads of a block, or all of it. Each reads some elements at a time, ``vectors`` times
``width`` of them, into registers. Where that is the row, it is read once; else, if it is ``looped``, once for its sum and once more
for the results. Of rows that are few and long several blocks have one, and then those are two launches: in the "parts" each block
leaves in memory what it knows of its part, in the "whole" it takes what all know. No block waits for another.

Rows may begin beside multiples of 16 bytes, all arrays' rows in the same way. The first thread then begins as many elements
before the row, so that each reads and writes 16 bytes at once but at the ends, where the elements that there are come one by one.

With m the largest element so far, a thread adds up the terms exp(x - m) as the unevaluated sum of two numbers, so that neither
long rows nor dominant elements cost digits: all but the largest term are the sum less 1, which log1p takes. Terms come from a
difference that is exact, as the sum of two numbers; half types do without, and with an exponential to 2 units of float32.
Sums are added up in an order that depends on the shape, the kernel and how many multiprocessors the GPU has.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from .cuda_kernels import SIZES, VECTOR, WARP, Kernel, computed_as, made_once

THREADS = 256
"""Of a block that several teams share."""
EVERYONE = 0xFFFFFFFF
BLOCKS_OF_PARTS = 2
"""Of a multiprocessor, which has room for so many where several have a row."""
PHASES = ("parts", "whole")
"""What ``looped`` is where several blocks have a row."""
KNOWN = 8
"""How many numbers a block may leave of its part of a row."""


@made_once
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


@made_once
def gathering(target, storage, team, sums=1, with_largest=True):
    """gather(state, c, c_low): what the threads of a team know, made what the team knows.

    The state is m, if ``with_largest``, and then as many sums, each of two numbers; the first is of terms exp((x - m) c). All
    threads of a warp must call it, those of a bigger team once in a kernel, whose shared memory it takes.
    """
    cuda, word, T = target.cuda, target.word, target.number(storage)
    e = exponentials(target, storage)
    anchor, difference, exponential, add, scaled = e.anchor, e.difference, e.exponential, e.add, e.scaled
    steps, warps = min(team, WARP).bit_length() - 1, team // WARP
    first = 1 if with_largest else 0
    length = first + 2 * sums
    shared_length = length * WARP
    zero, nothing = T(0), T(-np.inf)

    @target.device
    def within_warp(state, c, c_low):
        if with_largest:
            m = state[0]
            for k in range(steps):
                other = cuda.shfl_xor_sync(EVERYONE, m, 1 << k)
                m = other if other > m else m
            high, rest = difference(anchor(state[0]), anchor(m), c, c_low)
            state[0] = m
            state[1], state[2] = scaled(state[1], state[2], exponential(high, rest))
        for j in range(sums):
            total, low = state[first + 2 * j], state[first + 2 * j + 1]
            for k in range(steps):
                other, other_low = cuda.shfl_xor_sync(EVERYONE, total, 1 << k), cuda.shfl_xor_sync(EVERYONE, low, 1 << k)
                total, low = add(total, low + other_low, other)
            state[first + 2 * j], state[first + 2 * j + 1] = total, low

    if team <= WARP:
        return within_warp

    @target.device
    def gather(state, c, c_low):
        parts = cuda.shared.array(shared_length, T)
        within_warp(state, c, c_low)
        thread = word(cuda.threadIdx.x)
        lane = thread % WARP
        if lane == 0:
            for j in range(length):
                parts[thread // WARP * length + j] = state[j]
        cuda.syncthreads()
        for j in range(length):
            state[j] = zero
        if with_largest:
            state[0] = nothing
        if lane < warps:
            for j in range(length):
                state[j] = parts[lane * length + j]
        within_warp(state, c, c_low)

    return gather


@made_once
def moving(target, storage, width, vectors, team):
    """fetch(values, at, address, step, first, count, fill) and put(values, at, address, step, first, count).

    They move the elements from ``first`` on of a thread to and from ``values``; before 0 and beyond ``count`` there is ``fill``,
    and nothing is put. With a width beyond 1 the step must be the size of an element, and where ``first`` is a multiple of 16.
    """
    wide, narrow = target.access(storage, width), target.access(storage, 1)
    read, write, read_one, write_one, within = wide.read, wide.write, narrow.read, narrow.write, target.within
    stride, size = team * width, wide.size

    @target.device
    def apart(step):
        """What lies between elements: where that is known, as a constant, which saves registers."""
        return size if width > 1 else step

    @target.device
    def fetch(values, at, address, step, first, count, fill):
        step = apart(step)
        for u in range(vectors):
            i = first + u * stride
            if width > 1 and 0 <= i and i + width <= count:
                read(values, at + u * width, address + i * step)
            else:
                for k in range(width):
                    values[at + u * width + k] = fill
                    if within(i + k, count):
                        read_one(values, at + u * width + k, address + (i + k) * step)

    @target.device
    def put(values, at, address, step, first, count):
        step = apart(step)
        for u in range(vectors):
            i = first + u * stride
            if width > 1 and 0 <= i and i + width <= count:
                write(address + i * step, values, at + u * width)
            else:
                for k in range(width):
                    if within(i + k, count):
                        write_one(address + (i + k) * step, values, at + u * width + k)

    return fetch, put


@made_once
def owning(target, width, team):
    """owns(start, i): whether an element of the row, as ``moving`` has them, is one of those of the thread that begins there."""
    reach = team * width

    @target.device
    def owns(start, i):
        return (i >= start) & ((i - start) % reach < width)

    return owns


@made_once
def hiding(target, width, vectors, team):
    """hide(values, fill, mask, step, first, count): a fill for those of a thread's elements, as ``moving`` has them, of which
    the mask, of bytes, says that they do not count.
    """
    load, byte, reach, within = target.load, target.integer("uint8"), team * width, target.within

    @target.device
    def hide(values, fill, mask, step, first, count):
        for u in range(vectors):
            at = mask + (first + u * reach) * step
            for k in range(width):
                if within(first + u * reach + k, count):
                    if load(byte, at) == 0:
                        values[u * width + k] = fill
                at += step

    return hide


@made_once
def summing(target, storage, held):
    """absorb(values, state, c, c_low): m and the sum of terms, with those of ``held`` elements more."""
    e = exponentials(target, storage)
    anchor, difference, exponential, add, scaled = e.anchor, e.difference, e.exponential, e.add, e.scaled

    @target.device
    def absorb(values, state, c, c_low):
        m = state[0]
        for k in range(held):
            m = values[k] if values[k] > m else m
        at = anchor(m)
        high, rest = difference(anchor(state[0]), at, c, c_low)
        total, low = scaled(state[1], state[2], exponential(high, rest))
        for k in range(held):
            high, rest = difference(values[k], at, c, c_low)
            total, low = add(total, low, exponential(high, rest))
        state[0], state[1], state[2] = m, total, low

    return absorb


@made_once
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


@made_once
def rows_of_teams(target, arrays, width, team, inner, looped=False):
    """enter(addresses, rows, n, inner_count, starts, strides): (row, whether there is that row, where the thread's elements end,
    which of them is its first: 0 or less for one thread alone). Addresses become those of the row; a team without one comes along
    with nothing to do.

    Where several blocks have a row, ``starts`` goes on: how many parts it has, of how many elements, where KNOWN numbers of each are.
    """
    cuda, word, quotient, locate = target.cuda, target.word, target.quotient, where_rows_are(target, arrays, inner)
    teams, size = threads_of(team) // team, VECTOR // width

    @target.device
    def before(address):
        """How many elements before it those begin that are read at once."""
        return quotient(address & (VECTOR - 1), word(size)) if width > 1 else word(0)

    @target.device
    def enter(addresses, rows, n, inner_count, starts, strides):
        thread = word(cuda.threadIdx.x)
        row = word(cuda.blockIdx.x) * teams + thread // team
        is_row = row < rows
        locate(addresses, row if is_row else word(0), inner_count, starts, strides)
        return row, is_row, n if is_row else word(0), thread % team * width - before(addresses[0])

    @target.device
    def enter_part(addresses, rows, n, inner_count, starts, strides):
        parts, length = starts[arrays], starts[arrays + 1]
        row = quotient(word(cuda.blockIdx.x), parts)
        part = word(cuda.blockIdx.x) - row * parts
        locate(addresses, row, inner_count, starts, strides)
        first = part * length - before(addresses[0])
        return row, row < rows, first + length if part < parts - 1 else n, first + word(cuda.threadIdx.x) * width

    return enter_part if looped in PHASES else enter


@made_once
def knowing_parts(target, storage, arrays, length):
    """keep(state, starts): leave so many numbers of the block's part; recall(state, starts): have those of one part for each
    thread, as far as there are parts. It returns where those of the row's first part are.
    """
    cuda, word, quotient = target.cuda, target.word, target.quotient
    one = target.access(computed_as(storage), 1)
    read, write, size = one.read, one.write, one.size

    @target.device
    def place(starts, part):
        return starts[arrays + 2] + part * (KNOWN * size)

    @target.device
    def keep(state, starts):
        if word(cuda.threadIdx.x) == 0:
            for j in range(length):
                write(place(starts, word(cuda.blockIdx.x)) + j * size, state, j)

    @target.device
    def recall(state, starts):
        parts, thread = starts[arrays], word(cuda.threadIdx.x)
        first = quotient(word(cuda.blockIdx.x), parts) * parts
        if thread < parts:
            for j in range(length):
                read(state, j, place(starts, first + thread) + j * size)
        return place(starts, first)

    return keep, recall


def words_of(arrays, looped):
    """How many words tell a kernel where the arrays are."""
    return arrays + (3 if looped in PHASES else 0)


def forward(target, function, storage, width, vectors, team, looped, inner, masked=False):
    """A kernel of "softmax", "log_softmax", "logsumexp", or "logsumexp_backward", whose second source is a number for a row; if
    ``masked``, of those elements of rows that count.

    kernel(rows, n, inner count, addresses of the sources, the result and the mask, their strides, numbers): the numbers are 1
    or -1, by which elements are multiplied, and 1 / temperature as high and low.
    """
    cuda, word, T, from_word = target.cuda, target.word, target.number(storage), target.from_word(storage)
    log1p, held = target.log1p, width * vectors
    fetch, put = moving(target, storage, width, vectors, team)
    gather = gathering(target, storage, team)
    absorb = summing(target, storage, held)
    e = exponentials(target, storage)
    anchor, difference, exponential = e.anchor, e.difference, e.exponential
    read_one, write_one = target.access(storage, 1).read, target.access(storage, 1).write
    of_row, times_row, logarithmic = function == "logsumexp", function == "logsumexp_backward", function == "log_softmax"
    last = 2 if times_row else 1
    arrays = last + 1 + masked
    mask = arrays - 1
    enter, stride = rows_of_teams(target, arrays, width, team, inner, looped), team * held
    (keep, recall), (of_parts, of_whole) = knowing_parts(target, storage, arrays, 3), (looped == phase for phase in PHASES)
    hide = hiding(target, width, vectors, team)
    zero, one, nothing = T(0), T(1), T(-np.inf)
    hidden = nothing if logarithmic else zero

    @target.device
    def take_all(values, addresses, strides, first, count, sign):
        fetch(values, 0, addresses[0], strides[2], first, count, nothing * sign)
        for k in range(held):
            values[k] = values[k] * sign

    @target.device
    def take(values, addresses, strides, first, count, sign):
        take_all(values, addresses, strides, first, count, sign)
        if masked:
            hide(values, nothing, addresses[mask], strides[3 * mask + 2], first, count)

    def kernel(rows, n, inner_count, starts, strides, numbers):
        values, given = cuda.local.array(held, T), cuda.local.array(1, T)
        addresses = cuda.local.array(arrays, word)
        sign, c, c_low = from_word(numbers[0]), from_word(numbers[1]), from_word(numbers[2])
        _, is_row, count, start = enter(addresses, rows, n, inner_count, starts, strides)
        state = cuda.local.array(3, T)
        state[0], state[1], state[2] = nothing, zero, zero
        if of_whole:
            recall(state, starts)
        elif looped:
            first = start
            while first < count:
                take(values, addresses, strides, first, count, sign)
                absorb(values, state, c, c_low)
                first += stride
        else:
            take(values, addresses, strides, start, count, sign)
            absorb(values, state, c, c_low)
        gather(state, c, c_low)
        if of_parts:
            keep(state, starts)
            return
        m, total, low = state[0], state[1], state[2]
        at, undefined = anchor(m), m - m
        logarithm = log1p((total - one) + low)
        if of_row:
            given[0] = m * c + logarithm
            if (start <= 0) & is_row:
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
                    take_all(values, addresses, strides, first, count, sign)
                for k in range(held):
                    high, rest = difference(values[k], at, c, c_low)
                    values[k] = (high - logarithm) + rest if logarithmic else exponential(high, rest) * scale
                if masked:
                    hide(values, hidden, addresses[mask], strides[3 * mask + 2], first, count)
                put(values, 0, addresses[last], strides[3 * last + 2], first, count)
                first += stride

    return Kernel(kernel, (None, None, None, words_of(arrays, looped), 3 * arrays, 3), threads_of(team))


def backward(target, function, storage, width, vectors, team, looped, inner):
    """A kernel of "softmax_backward" or "log_softmax_backward", of sources grad_output and output.

    kernel(rows, n, inner count, addresses of the sources and the result, their strides, numbers): the number is what the
    result is multiplied by.
    """
    cuda, word, T, from_word, fma = target.cuda, target.word, target.number(storage), target.from_word(storage), target.fma
    held = width * vectors
    fetch, put = moving(target, storage, width, vectors, team)
    gather = gathering(target, storage, team, with_largest=False)
    e = exponentials(target, storage)
    difference, exponential, add = e.difference, e.exponential, e.add
    logarithmic = function == "log_softmax_backward"
    enter, stride, both = rows_of_teams(target, 3, width, team, inner, looped), team * held, 2 * held
    (keep, recall), (of_parts, of_whole) = knowing_parts(target, storage, 3, 2), (looped == phase for phase in PHASES)
    zero, one, nothing = T(0), T(1), T(-np.inf)
    absent = nothing if logarithmic else zero

    @target.device
    def take(values, addresses, strides, first, count):
        fetch(values, 0, addresses[0], strides[2], first, count, zero)
        fetch(values, held, addresses[1], strides[5], first, count, absent)

    @target.device
    def absorb(values, state):
        total, low = state[0], state[1]
        for k in range(held):
            g, y = values[k], values[held + k]
            if logarithmic:
                total, low = add(total, low, zero if y == nothing else g)
            else:
                product = y * g
                rest = fma(y, g, -product)
                total, low = add(total, low + (rest if rest == rest else zero), product)
        state[0], state[1] = total, low

    def kernel(rows, n, inner_count, starts, strides, numbers):
        values = cuda.local.array(both, T)
        addresses = cuda.local.array(3, word)
        c = from_word(numbers[0])
        _, _, count, start = enter(addresses, rows, n, inner_count, starts, strides)
        state = cuda.local.array(2, T)
        state[0], state[1] = zero, zero
        if of_whole:
            recall(state, starts)
        elif looped:
            first = start
            while first < count:
                take(values, addresses, strides, first, count)
                absorb(values, state)
                first += stride
        else:
            take(values, addresses, strides, start, count)
            absorb(values, state)
        gather(state, one, zero)
        if of_parts:
            keep(state, starts)
            return
        total, low = state[0], state[1]
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

    return Kernel(kernel, (None, None, None, words_of(3, looped), 9, 1), threads_of(team))


def sums(target, function, storage, width, vectors, team, looped, inner):
    """A kernel of the sums of rows: ``function`` is "numbers", or for the "slopes" of prelu, g min(x, 0) for sources g and x,
    and the storage of the result.

    kernel(rows, n, inner count, addresses of the sources and of the result, their strides, nothing)
    """
    terms, result = function
    cuda, word, T, held = target.cuda, target.word, target.number(storage), width * vectors
    fetch, _ = moving(target, storage, width, vectors, team)
    gather, add = gathering(target, storage, team, with_largest=False), exponentials(target, storage).add
    write_one, of_slopes = target.access(result, 1).write, terms == "slopes"
    arrays = 3 if of_slopes else 2
    last, registers = arrays - 1, (arrays - 1) * held
    enter, stride = rows_of_teams(target, arrays, width, team, inner), team * held
    zero, one = T(0), T(1)

    def kernel(rows, n, inner_count, starts, strides, numbers):
        values, state, addresses = cuda.local.array(registers, T), cuda.local.array(2, T), cuda.local.array(arrays, word)
        _, is_row, count, start = enter(addresses, rows, n, inner_count, starts, strides)
        first = start
        state[0], state[1] = zero, zero
        while first < count:
            for j in range(last):
                fetch(values, j * held, addresses[j], strides[3 * j + 2], first, count, zero)
            for k in range(held):
                term = values[k]
                if of_slopes:
                    x = values[held + k]
                    term = zero if x > zero else term * x
                state[0], state[1] = add(state[0], state[1], term)
            first += stride
        gather(state, one, zero)
        if (start <= 0) & is_row:
            values[0] = state[0] + state[1]
            write_one(addresses[last], values, 0)

    return Kernel(kernel, (None, None, None, arrays, 3 * arrays, 0), threads_of(team))
