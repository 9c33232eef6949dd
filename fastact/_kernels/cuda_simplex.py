"""Kernels for GPUs that go over rows as those of cuda_rows.py do: sparsemax, the largest elements of rows, the derivatives of
softmax; and random numbers.

As in cuda_rows.py a team of threads has a row; all kernels of rows take (rows, n, inner count, addresses of the sources, the
result and the mask, their strides, numbers).
"""

from __future__ import annotations

import numpy as np

from .cuda_kernels import SIZES, WARP, Kernel, computed_as, made_once
from .cuda_rows import EVERYONE, exponentials, hiding, moving, owning, rows_of_teams, threads_of


@made_once
def meeting(target, team, length, combine):
    """meet(parts, state, other): of what the threads of a team have in ``state``, all get what ``combine`` makes of it.

    ``combine(state, other)`` puts it into state; ``other`` is room for as many numbers, ``parts`` shared memory for as many of
    every warp, which may be used again and again. All threads of a warp must call it.
    """
    cuda, word = target.cuda, target.word
    warps = team // WARP
    within, between = min(team, WARP).bit_length() - 1, max(warps, 1).bit_length() - 1

    @target.device
    def exchange(state, other, steps):
        for k in range(steps):
            for j in range(length):
                other[j] = cuda.shfl_xor_sync(EVERYONE, state[j], 1 << k)
            combine(state, other)

    @target.device
    def meet(parts, state, other):
        exchange(state, other, within)
        if warps > 1:
            thread = word(cuda.threadIdx.x)
            cuda.syncthreads()  # for who still reads what was there
            if thread % WARP == 0:
                for j in range(length):
                    parts[thread // WARP * length + j] = state[j]
            cuda.syncthreads()
            for j in range(length):
                state[j] = parts[thread % warps * length + j]
            exchange(state, other, between)

    return meet


@made_once
def combining(target, storage):
    """larger(state, other), of one number, NaN being the largest; sum_up(state, other), of two sums of two numbers."""
    add = exponentials(target, storage).add

    @target.device
    def larger(state, other):
        if (other[0] > state[0]) | (other[0] != other[0]):
            state[0] = other[0]

    @target.device
    def sum_up(state, other):
        for j in range(0, 4, 2):
            state[j], state[j + 1] = add(state[j], state[j + 1] + other[j + 1], other[j])

    return larger, sum_up


@made_once
def anyone_of_warp(target, team):
    """anyone(flag): whether the flag of a thread of the warp is not 0, which teams of a warp and more agree on anyway."""
    cuda, steps = target.cuda, WARP.bit_length() - 1 if team < WARP else 0

    @target.device
    def anyone(flag):
        for k in range(steps):
            flag |= cuda.shfl_xor_sync(EVERYONE, flag, 1 << k)
        return flag

    return anyone


def sparsemax(target, function, storage, width, vectors, team, looped, inner, masked=False):
    """A kernel of max(x - m - t, 0), m being the largest, with the t that makes the sum 1: by Newton's method, every second
    step a bisection where that takes long. The t are bounds from below, so that it ends where there is no larger one. If
    ``masked``, of those elements of rows that count.
    """
    cuda, word, T, held = target.cuda, target.word, target.number(storage), width * vectors
    fetch, put = moving(target, storage, width, vectors, team)
    larger, sum_up = combining(target, storage)
    meet_largest, meet_sums = meeting(target, team, 1, larger), meeting(target, team, 4, sum_up)
    anyone, add = anyone_of_warp(target, team), exponentials(target, storage).add
    arrays = 2 + masked
    mask = arrays - 1
    enter, stride, shared = rows_of_teams(target, arrays, width, team, inner), team * held, 4 * WARP
    hide = hiding(target, width, vectors, team)
    zero, one, half, nothing = T(0), T(1), T(0.5), T(-np.inf)
    newton = 8

    @target.device
    def take(values, addresses, strides, first, count):
        fetch(values, 0, addresses[0], strides[2], first, count, nothing)
        if masked:
            hide(values, nothing, addresses[mask], strides[3 * mask + 2], first, count)

    @target.device
    def find_largest(values, state):
        for k in range(held):
            x = values[k]
            state[0] = x if (x > state[0]) | (x != x) else state[0]

    @target.device
    def take_sums(values, state, m, t):
        """Of the x - m that are larger than t, and how many they are. NaN makes the sum NaN."""
        for k in range(held):
            d = values[k] - m
            if not d <= t:
                state[0], state[1] = add(state[0], state[1], d)
                state[2], state[3] = add(state[2], state[3], one)

    def kernel(rows, n, inner_count, starts, strides, numbers):
        values, addresses = cuda.local.array(held, T), cuda.local.array(arrays, word)
        state, other, parts = cuda.local.array(4, T), cuda.local.array(4, T), cuda.shared.array(shared, T)
        _, _, count, start = enter(addresses, rows, n, inner_count, starts, strides)
        state[0] = nothing
        if looped:
            first = start
            while first < count:
                take(values, addresses, strides, first, count)
                find_largest(values, state)
                first += stride
        else:
            take(values, addresses, strides, start, count)
            find_largest(values, state)
        meet_largest(parts, state, other)
        m = state[0]
        low, high, t, step, busy = -one, zero, -one, word(0), word(1)
        while busy != 0:
            for j in range(4):
                state[j] = zero
            if looped:
                first = start
                while first < count:
                    take(values, addresses, strides, first, count)
                    take_sums(values, state, m, t)
                    first += stride
            else:
                take_sums(values, state, m, t)
            meet_sums(parts, state, other)
            root = ((state[0] - one) + state[1]) / (state[2] + state[3])
            busy = word(0)
            if root != root:
                low = root
            elif (t != low) | (root > low):
                high = t if root < t else high
                low = root if root > low else low
                step += 1
                t = (low + high) * half if (step > newton) & (step % 2 == 1) else low
                busy = word(1)
            busy = anyone(busy)
        first = start
        while first < count:
            if looped:
                fetch(values, 0, addresses[0], strides[2], first, count, nothing)
            for k in range(held):
                d = (values[k] - m) - low
                values[k] = zero if d < zero else d
            if masked:
                hide(values, zero, addresses[mask], strides[3 * mask + 2], first, count)
            put(values, 0, addresses[1], strides[5], first, count)
            first += stride

    return Kernel(kernel, (None, None, None, arrays, 3 * arrays, 0), threads_of(team))


def sparsemax_backward(target, function, storage, width, vectors, team, looped, inner):
    """A kernel of g less its mean over the elements that are not 0, and 0 at the others, of sources g and output."""
    cuda, word, T, held = target.cuda, target.word, target.number(storage), width * vectors
    fetch, put = moving(target, storage, width, vectors, team)
    meet, add = meeting(target, team, 4, combining(target, storage)[1]), exponentials(target, storage).add
    enter, stride, shared, both = rows_of_teams(target, 3, width, team, inner), team * held, 4 * WARP, 2 * held
    zero, one = T(0), T(1)

    @target.device
    def take(values, addresses, strides, first, count):
        fetch(values, 0, addresses[0], strides[2], first, count, zero)
        fetch(values, held, addresses[1], strides[5], first, count, zero)

    @target.device
    def take_sums(values, state):
        for k in range(held):
            y = values[held + k]
            if y != zero:
                state[0], state[1] = add(state[0], state[1], values[k] + (y - y))
                state[2], state[3] = add(state[2], state[3], one)

    def kernel(rows, n, inner_count, starts, strides, numbers):
        values, addresses = cuda.local.array(both, T), cuda.local.array(3, word)
        state, other, parts = cuda.local.array(4, T), cuda.local.array(4, T), cuda.shared.array(shared, T)
        _, _, count, start = enter(addresses, rows, n, inner_count, starts, strides)
        for j in range(4):
            state[j] = zero
        if looped:
            first = start
            while first < count:
                take(values, addresses, strides, first, count)
                take_sums(values, state)
                first += stride
        else:
            take(values, addresses, strides, start, count)
            take_sums(values, state)
        meet(parts, state, other)
        kept = state[2] + state[3]
        mean = (state[0] + state[1]) / kept if kept > zero else zero
        first = start
        while first < count:
            if looped:
                take(values, addresses, strides, first, count)
            for k in range(held):
                values[k] = zero if values[held + k] == zero else values[k] - mean
            put(values, 0, addresses[2], strides[8], first, count)
            first += stride

    return Kernel(kernel, (None, None, None, 3, 9, 0), threads_of(team))


def largest(target, function, storage, width, vectors, team, looped, inner):
    """A kernel of the first of the largest elements of rows, NaN being larger than all. "maxout" is its value, "maxout_backward"
    0 but there, where it is the second source's number for the row, or NaN. "one_hot" is 0 but there, where it is 1; all is
    NaN if the largest is not finite.
    """
    cuda, word, T, held = target.cuda, target.word, target.number(storage), width * vectors
    fetch, put = moving(target, storage, width, vectors, team)
    larger, _ = combining(target, storage)
    read_one, write_one = target.access(storage, 1).read, target.access(storage, 1).write
    of_row, backward = function == "maxout", function == "maxout_backward"
    arrays = 3 if backward else 2
    last, reach = arrays - 1, team * width
    enter, owns, stride = rows_of_teams(target, arrays, width, team, inner), owning(target, width, team), team * held
    zero, one, nothing = T(0), T(1), T(-np.inf)

    @target.device
    def earlier(place, other):
        place[0] = min(place[0], other[0])

    meet_value, meet_place = meeting(target, team, 1, larger), meeting(target, team, 1, earlier)

    def kernel(rows, n, inner_count, starts, strides, numbers):
        values, addresses = cuda.local.array(held, T), cuda.local.array(arrays, word)
        state, other, parts = cuda.local.array(1, T), cuda.local.array(1, T), cuda.shared.array(WARP, T)
        place, other_place, places = cuda.local.array(1, word), cuda.local.array(1, word), cuda.shared.array(WARP, word)
        _, is_row, count, start = enter(addresses, rows, n, inner_count, starts, strides)
        mine, at = nothing, word(0)
        first = start
        while first < count:
            fetch(values, 0, addresses[0], strides[2], first, count, nothing)
            for u in range(vectors):
                for k in range(width):
                    x = values[u * width + k]
                    if (x > mine) | ((x != x) & (mine == mine)):
                        mine, at = x, first + u * reach + k
            first += stride
        state[0] = mine
        meet_value(parts, state, other)
        m = state[0]
        place[0] = at if (mine == m) | ((mine != mine) & (m != m)) else n
        meet_place(places, place, other_place)
        if of_row:
            if (start <= 0) & is_row:
                write_one(addresses[last], state, 0)
        else:
            there, elsewhere = one, zero
            if backward:
                if is_row:
                    read_one(state, 0, addresses[1])
                there = m if m != m else state[0]
            elif m - m != zero:
                there, elsewhere = m - m, m - m
            for k in range(held):
                values[k] = elsewhere
            first = start
            while first < count:
                put(values, 0, addresses[last], strides[3 * last + 2], first, count)
                first += stride
            if is_row & owns(start, place[0]):
                state[0] = there
                write_one(addresses[last] + place[0] * strides[3 * last + 2], state, 0)

    return Kernel(kernel, (None, None, None, arrays, 3 * arrays, 0), threads_of(team))


def jacobian(target, function, storage, width, vectors, team, looped, inner):
    """A kernel of the derivatives of an element of softmax's rows: a row is -p_i p, but p_i times the sum of the others at i,
    which is the number of the row, in a matrix of n of them. Sources are p and, a number for the row, p_i.
    """
    cuda, word, T, from_word, held = target.cuda, target.word, target.number(storage), target.from_word(storage), width * vectors
    fetch, put = moving(target, storage, width, vectors, team)
    meet, add = meeting(target, team, 4, combining(target, storage)[1]), exponentials(target, storage).add
    read_one, enter = target.access(storage, 1).read, rows_of_teams(target, 3, width, team, inner)
    stride, reach, shared = team * held, team * width, 4 * WARP
    zero = T(0)

    def kernel(rows, n, inner_count, starts, strides, numbers):
        values, given, addresses = cuda.local.array(held, T), cuda.local.array(1, T), cuda.local.array(3, word)
        state, other, parts = cuda.local.array(4, T), cuda.local.array(4, T), cuda.shared.array(shared, T)
        c = from_word(numbers[0])
        row, is_row, count, start = enter(addresses, rows, n, inner_count, starts, strides)
        mine = row % n
        for j in range(4):
            state[j] = zero
        first = start
        while first < count:
            fetch(values, 0, addresses[0], strides[2], first, count, zero)
            for u in range(vectors):
                for k in range(width):
                    if first + u * reach + k != mine:
                        state[0], state[1] = add(state[0], state[1], values[u * width + k])
            first += stride
        meet(parts, state, other)
        others = state[0] + state[1]
        given[0] = zero
        if is_row:
            read_one(given, 0, addresses[1])
        first = start
        while first < count:
            fetch(values, 0, addresses[0], strides[2], first, count, zero)
            for u in range(vectors):
                for k in range(width):
                    i = u * width + k
                    values[i] = given[0] * (others if first + u * reach + k == mine else -values[i]) * c
            put(values, 0, addresses[2], strides[8], first, count)
            first += stride

    return Kernel(kernel, (None, None, None, 3, 9, 1), threads_of(team))


# --- Random numbers ---------------------------------------------------------------------------------------------------

THREADS = 256
ONES = 0xFFFFFFFF


@made_once
def philox(target):
    """random(words, counter, key): four words of 32 random bits, for a counter and a key of 64. Salmon et al. 2011."""

    @target.device
    def random(words, counter, key):
        a, b, c, d = counter & ONES, (counter >> 32) & ONES, counter - counter, counter - counter
        first, second = key & ONES, (key >> 32) & ONES
        for _ in range(10):
            low, high = c * 0xCD9E8D57, a * 0xD2511F53
            a, b, c, d = ((low >> 32) & ONES) ^ b ^ first, low & ONES, ((high >> 32) & ONES) ^ d ^ second, high & ONES
            first, second = (first + 0x9E3779B9) & ONES, (second + 0xBB67AE85) & ONES
        words[0], words[1], words[2], words[3] = a, b, c, d

    return random


def noise(target, function, storage):
    """A kernel of random numbers for arrays without gaps, each from its place and the seed alone: "uniform" between the two
    numbers, or "gumbel", minus the logarithm of an exponential variate, which is added to what there is.

    kernel(n, address, seed, numbers)
    """
    cuda, word, T, from_word, size = target.cuda, target.word, target.number(storage), target.from_word(storage), SIZES[storage]
    read, write, random = target.access(storage, 1).read, target.access(storage, 1).write, philox(target)
    log, log1m = (target.formulas(computed_as(storage))[name] for name in ("log", "log1m"))
    single, gumbel = computed_as(storage) == "float32", function == "gumbel"
    half, scale, low_scale = T(0.5), T(2.0**-32), T(2.0**-53)
    most = T(1 - (2.0**-24 if single else 2.0**-53))

    def kernel(n, address, seed, numbers):
        words, given = cuda.local.array(4, word), cuda.local.array(1, T)
        i = word(cuda.blockIdx.x) * THREADS + word(cuda.threadIdx.x)
        if i < n:
            random(words, i, seed)
            # 32 bits, of which float32 holds all where a number is small, and uniform numbers take but 24; 53 of float64.
            bits = words[0] if single else (words[0] << 21) + (words[1] >> 11)
            if gumbel:
                u = (T(bits) + half) * (scale if single else low_scale)
                read(given, 0, address + i * size)
                given[0] -= log(-log1m(u if u < most else most))
            else:
                low, high = from_word(numbers[0]), from_word(numbers[1])
                u = T(bits >> 8 << 8) * scale if single else T(bits) * low_scale
                given[0] = low + u * (high - low)
            write(address + i * size, given, 0)

    return Kernel(kernel, (None, None, None, 2), THREADS)
