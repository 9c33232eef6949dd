"""Kernels of the losses for GPUs: the cross-entropy of rows of logits, those of elements, and what sums up.

A row is read once, or where registers do not hold it twice, and its gradient is written once, over the row itself if need be.
Nothing waits for the host: what the mean is divided by is in the GPU's memory, a class that does not exist makes its row NaN.
"""

from __future__ import annotations

import numpy as np

from .cuda_elementwise import getter
from .cuda_kernels import SIZES, Kernel, computed_as
from .cuda_rows import exponentials, gathering, moving, summing, threads_of, where_rows_are

THREADS = 512
"""Of the one block that sums up."""


def cross_entropy(target, storage, labels, losses, width, vectors, team, looped, inner, with_grad, weighted):
    """A kernel of the loss of rows of logits x. With t the target, T its sum, m the largest logit, s the sum of the other
    terms exp(x - m), l = log1p(s) and p the softmax, the loss is T m - sum(t x) + T l + z (m + l)^2, and the gradient of x
    (T + 2 z (m + l)) p - t, times a factor. Where the class is the largest, p - 1 is -s / (1 + s).

    ``labels`` is the integer type of the classes, or None for probabilities; ``losses`` the storage of the losses.

    kernel(rows, n, inner count, addresses of logits, gradients, target and losses, their strides, the class to ignore, addresses
    of the weights of the classes and of the factor, or 0, numbers): the numbers are 1 - smoothing, smoothing / n, z, the factor.
    """
    cuda, word, T, from_word = target.cuda, target.word, target.number(storage), target.from_word(storage)
    log1p, fma, held = target.log1p, target.fma, width * vectors
    fetch, put = moving(target, storage, width, vectors, team)
    sums = 2 if labels is not None else 3
    gather = gathering(target, storage, team, sums)
    absorb = summing(target, storage, held)
    e = exponentials(target, storage)
    anchor, difference, exponential, add = e.anchor, e.difference, e.exponential, e.add
    read_one, write_one = target.access(storage, 1).read, target.access(storage, 1).write
    read_number, write_loss = target.access(computed_as(storage), 1).read, target.access(losses, 1).write
    of_classes, load, size = labels is not None, target.load, SIZES[computed_as(storage)]
    integer = target.integer(labels or "int64")
    locate = where_rows_are(target, 4, inner)
    threads = threads_of(team)
    teams, stride, reach = threads // team, team * held, team * width
    registers, length = held if of_classes else 2 * held, 1 + 2 * sums
    zero, one, two, nothing, undefined = T(0), T(1), T(2), T(-np.inf), T(np.nan)

    @target.device
    def take(values, addresses, strides, first, count):
        fetch(values, 0, addresses[0], strides[2], first, count, nothing)
        if not of_classes:
            fetch(values, held, addresses[2], strides[8], first, count, zero)

    @target.device
    def share_of(values, i, keep, floor):
        """The target at an element."""
        return floor if of_classes else fma(keep, values[held + i], floor)

    @target.device
    def add_products(values, state, keep, floor, first, count):
        """To the sums of t x and of t. What there is no element for does not count."""
        for u in range(vectors):
            for k in range(width):
                i = u * width + k
                if first + u * reach + k < count:
                    t, x = share_of(values, i, keep, floor), values[i]
                    product = t * x
                    rest = fma(t, x, -product)
                    if t == zero:
                        product = zero if x == x else x
                    state[3], state[4] = add(state[3], state[4] + (rest if rest - rest == zero else zero), product)
                    if not of_classes:
                        state[5], state[6] = add(state[5], state[6], t)

    @target.device
    def all_of(values, addresses, strides, state, keep, floor, first, count):
        take(values, addresses, strides, first, count)
        absorb(values, state, one, zero)
        if (not of_classes) | (floor != zero):
            add_products(values, state, keep, floor, first, count)

    def kernel(rows, n, inner_count, starts, strides, ignore_index, weights, factor_at, numbers):
        values, given, state = cuda.local.array(registers, T), cuda.local.array(1, T), cuda.local.array(length, T)
        addresses = cuda.local.array(4, word)
        keep, floor, z_loss, factor = from_word(numbers[0]), from_word(numbers[1]), from_word(numbers[2]), from_word(numbers[3])
        if factor_at != 0:
            read_number(given, 0, factor_at)
            factor = given[0]
        thread = word(cuda.threadIdx.x)
        row = word(cuda.blockIdx.x) * teams + thread // team
        is_row = row < rows
        locate(addresses, row if is_row else word(0), inner_count, starts, strides)
        start = thread % team * width
        label, counts, share, at_label = word(-1), is_row, zero, zero
        if of_classes & is_row:
            label = word(load(integer, addresses[2]))
            counts = label != ignore_index
            share = keep
            if (label >= 0) & (label < n):
                read_one(given, 0, addresses[0] + label * strides[2])
                at_label = given[0]
                if weighted:
                    read_number(given, 0, weights + label * size)
                    share = keep * given[0]
            elif counts:
                share, factor, label = undefined, undefined, word(-1)
        count = n if counts else word(0)
        for j in range(length):
            state[j] = zero
        state[0] = nothing
        if looped:
            first = start
            while first < count:
                all_of(values, addresses, strides, state, keep, floor, first, count)
                first += stride
        else:
            all_of(values, addresses, strides, state, keep, floor, start, count)
        gather(state, one, zero)

        m, rest = state[0], (state[1] - one) + state[2]
        products_low = state[4] if state[4] == state[4] else zero
        spread = T(n) * floor if of_classes else state[5] + state[6]
        logarithm = log1p(rest) + (m - m)
        of_all = logarithm + m
        loss = zero if share == zero else share * (m - at_label)
        if of_classes:
            if floor != zero:
                high, low = spread * m, fma(spread, m, -(spread * m))
                loss += (high - state[3]) + (low - products_low)
        else:
            high, low = spread * m, fma(spread, m, -(spread * m)) + m * (state[6] - (spread - state[5]))
            loss += (high - state[3]) + (low - products_low)
        loss += (share + spread) * logarithm + z_loss * of_all * of_all
        given[0] = loss if counts else zero
        if (start == 0) & is_row:
            write_loss(addresses[3], given, 0)
        if with_grad:
            rise = two * z_loss * of_all
            slope = share + spread + rise
            inverse = one / (state[1] + state[2]) + (m - m)
            high, low = difference(at_label, anchor(m), one, zero)
            p = exponential(high, low) * inverse
            peak = slope * (-rest * inverse) + (rise + (spread - floor))
            other = slope * p - (share + floor)
            at = anchor(m)
            scale = slope * inverse
            first = start
            while (first < n) & is_row:
                if looped:
                    take(values, addresses, strides, first, count)
                for k in range(held):
                    high, low = difference(values[k], at, one, zero)
                    g = (scale * exponential(high, low) - share_of(values, k, keep, floor)) * factor
                    values[k] = g if counts else zero
                put(values, 0, addresses[1], strides[5], first, n)
                first += stride
            if of_classes & counts & (label >= 0):
                if label // width % team == thread % team:
                    given[0] = (peak if at_label == m else other) * factor
                    write_one(addresses[1] + label * strides[5], given, 0)

    return Kernel(kernel, (None, None, None, 4, 12, None, None, None, 4), threads)


def total_weight(target, storage, labels, inner, weighted):
    """A kernel, of one block, of 1 / the sum of the weights of the classes of the rows that count; 1 if none does.

    kernel(rows, n, inner count, addresses of the target and of the result, strides of the target, class to ignore, address of the
    weights): weights are 1 where that is not ``weighted``.
    """
    cuda, word, T, load = target.cuda, target.word, target.number(storage), target.load
    storage = computed_as(storage)
    read, write, size = target.access(storage, 1).read, target.access(storage, 1).write, SIZES[storage]
    integer, locate = target.integer(labels), where_rows_are(target, 1, inner)
    gather, add = gathering(target, storage, THREADS, with_largest=False), exponentials(target, storage).add
    zero, one = T(0), T(1)

    def kernel(rows, n, inner_count, starts, strides, ignore_index, weights, result):
        addresses, given, state = cuda.local.array(1, word), cuda.local.array(1, T), cuda.local.array(2, T)
        total, low = zero, zero
        row = word(cuda.threadIdx.x)
        while row < rows:
            locate(addresses, row, inner_count, starts, strides)
            label = word(load(integer, addresses[0]))
            if (label != ignore_index) & (label >= 0) & (label < n):
                given[0] = one
                if weighted:
                    read(given, 0, weights + label * size)
                total, low = add(total, low, given[0])
            row += THREADS
        state[0], state[1] = total, low
        gather(state, one, zero)
        if word(cuda.threadIdx.x) == 0:
            total = state[0] + state[1]
            given[0] = one if total == zero else one / total
            write(result, given, 0)

    return Kernel(kernel, (None, None, None, 1, 3, None, None, None), THREADS)


def add_up(target, storage):
    """A kernel, of one block, of the sum of numbers that follow each other, as they are computed with, times a factor.

    kernel(count, address of the numbers, that of the result, of the storage, that of the factor or 0, number: the factor)
    """
    cuda, word, T, from_word = target.cuda, target.word, target.number(storage), target.from_word(storage)
    read, write, size = target.access(computed_as(storage), 1).read, target.access(storage, 1).write, SIZES[computed_as(storage)]
    gather, add = gathering(target, storage, THREADS, with_largest=False), exponentials(target, storage).add
    zero, one = T(0), T(1)

    def kernel(count, numbers, result, factor_at, factors):
        given, state = cuda.local.array(1, T), cuda.local.array(2, T)
        total, low = zero, zero
        i = word(cuda.threadIdx.x)
        while i < count:
            read(given, 0, numbers + i * size)
            total, low = add(total, low, given[0])
            i += THREADS
        state[0], state[1] = total, low
        gather(state, one, zero)
        if word(cuda.threadIdx.x) == 0:
            factor = from_word(factors[0])
            if factor_at != 0:
                read(given, 0, factor_at)
                factor = given[0]
            low = state[1] if state[1] == state[1] else zero
            given[0] = (state[0] + low) * factor
            write(result, given, 0)

    return Kernel(kernel, (None, None, None, None, 1), THREADS)


BLOCK = 256
ROUNDS = 8
"""How often a thread of an elementwise loss reads, which makes the sums of blocks fewer."""


def elementwise(target, storage, name, varying, weighted, losses, width, with_grad):
    """A kernel of an elementwise loss, of arrays without gaps in one order.

    Operands are x, the target, what else the formula takes, and, if ``weighted``, the weight. ``varying`` tells which of those
    after x are arrays; the others are among the numbers, after the factor of the gradient. ``losses`` is the storage of the
    losses of the elements, or None for sums of blocks.

    kernel(n, addresses of the arrays, of the losses or sums, of the gradient, numbers)
    """
    formula = target.loss_formulas(storage)[name]
    cuda, word, T, from_word, size = target.cuda, target.word, target.number(storage), target.from_word(storage), SIZES[storage]
    getters, arrays, numbers = [], 1, 1
    for varies in varying:
        getters.append(getter(target, varies, arrays * width if varies else numbers))
        arrays, numbers = arrays + varies, numbers + (not varies)
    goal, *others = getters
    weight_of = others.pop() if weighted else goal
    a, b, c = (*others, goal, goal, goal)[:3]
    evaluate = target.device((
        lambda values, k, p: formula(values[k], goal(values, k, p)),
        lambda values, k, p: formula(values[k], goal(values, k, p), a(values, k, p)),
        lambda values, k, p: formula(values[k], goal(values, k, p), a(values, k, p), b(values, k, p)),
        lambda values, k, p: formula(values[k], goal(values, k, p), a(values, k, p), b(values, k, p), c(values, k, p)),
    )[len(others)])  # fmt: skip
    wide, narrow = target.access(storage, width), target.access(storage, 1)
    read, write, read_one, write_one = wide.read, wide.write, narrow.read, narrow.write
    summed = losses is None
    loss_size = SIZES[losses or computed_as(storage)]
    write_loss = target.access(losses or computed_as(storage), 1).write
    gather, add = gathering(target, storage, BLOCK, with_largest=False), exponentials(target, storage).add
    loss_at, registers = arrays * width, (arrays + 1) * width
    tile, zero, one = BLOCK * width, T(0), T(1)

    @target.device
    def compute(values, k, p, state):
        """The loss of the k-th element; its gradient takes the place of x."""
        found = evaluate(values, k, p)
        loss, slope = found[0], found[1]
        if weighted:
            w = weight_of(values, k, p)
            loss = zero if w == zero else loss * w
            slope = zero if w == zero else slope * w
        values[k] = slope * p[0]
        values[loss_at + k] = loss
        if summed:
            state[0], state[1] = add(state[0], state[1], loss)

    def kernel(n, sources, losses_at, grad, words):
        values, p, state = cuda.local.array(registers, T), cuda.local.array(numbers, T), cuda.local.array(2, T)
        for j in range(numbers):
            p[j] = from_word(words[j])
        state[0], state[1] = zero, zero
        thread = word(cuda.threadIdx.x)
        i = word(cuda.blockIdx.x) * (tile * ROUNDS) + thread * width
        stop = min(n, (word(cuda.blockIdx.x) + 1) * (tile * ROUNDS))
        while i < stop:
            if i + width <= n:
                for j in range(arrays):
                    read(values, j * width, sources[j] + i * size)
                for k in range(width):
                    compute(values, k, p, state)
                    if not summed:
                        write_loss(losses_at + (i + k) * loss_size, values, loss_at + k)
                if with_grad:
                    write(grad + i * size, values, 0)
            else:
                for k in range(width):
                    if i + k < n:
                        for j in range(arrays):
                            read_one(values, j * width, sources[j] + (i + k) * size)
                        compute(values, 0, p, state)
                        if with_grad:
                            write_one(grad + (i + k) * size, values, 0)
                        if not summed:
                            write_loss(losses_at + (i + k) * loss_size, values, loss_at)
            i += tile
        if summed:
            gather(state, one, zero)
            if thread == 0:
                low = state[1] if state[1] == state[1] else zero
                values[0] = state[0] + low
                write_loss(losses_at + word(cuda.blockIdx.x) * loss_size, values, 0)

    return Kernel(kernel, (None, arrays, None, None, numbers), BLOCK)
