"""Kernels of the losses for GPUs: the cross-entropy of rows of logits, other losses of rows, those of elements, and what sums up.

A row is read once, or where registers do not hold it twice, and its gradient is written once, over the row itself if need be.
Nothing waits for the host: what the mean is divided by is in the GPU's memory, a class that does not exist makes its row NaN.
"""

from __future__ import annotations

import numpy as np

from .cuda_elementwise import getter
from .cuda_kernels import SIZES, Kernel, computed_as, made_once
from .cuda_rows import (
    BLOCKS_OF_PARTS,
    PHASES,
    exponentials,
    gathering,
    knowing_parts,
    moving,
    owning,
    rows_of_teams,
    summing,
    threads_of,
    where_rows_are,
    words_of,
)

THREADS = 512
"""Of a block that sums up."""
PART = 32 * THREADS
"""How many numbers it sums up, for which a thread of it waits 32 times."""


@made_once
def class_weights(target, storage, width, vectors, team):
    """fetch(values, at, weights, first, count): the weights of the elements from ``first`` on that a thread has, as ``moving``."""
    read, size, reach = target.access(computed_as(storage), 1).read, SIZES[computed_as(storage)], team * width
    zero, within = target.number(storage)(0), target.within

    @target.device
    def fetch(values, at, weights, first, count):
        for u in range(vectors):
            for k in range(width):
                i = first + u * reach + k
                values[at + u * width + k] = zero
                if within(i, count):
                    read(values, at + u * width + k, weights + i * size)

    return fetch


def arguments_of_losses(looped=False):
    """The arguments of kernels of losses of rows: rows, n, inner count, addresses of x, its gradients, the target and the losses,
    their strides, the class to ignore, addresses of the weights of the classes, of their alpha and of the factor, or 0 for what
    there is not, numbers. These are 1 - smoothing, times alpha where that is one number; smoothing / n; z; the factor; gamma.
    """
    return None, None, None, words_of(4, looped), 12, None, None, None, None, 5


def cross_entropy(target, storage, labels, losses, width, vectors, team, looped, inner, with_grad, weighted, smooth, focal):
    """A kernel of the loss of rows of logits x. With t the target, T its sum, m the largest logit, s the sum of the other
    terms exp(x - m), l = log1p(s) and p the softmax, the loss is T m - sum(t x) + T l + z (m + l)^2, and the gradient of x
    (T + 2 z (m + l)) p - t, times a factor. At the largest logit, if most of the target is there, p is 1 - s / (1 + s), and the two
    parts are added separately. If it is ``focal``, a loss of classes is multiplied by (1 - p)^gamma.

    ``labels`` is the integer type of the classes, or None for probabilities; ``losses`` the storage of the losses; ``smooth``
    whether other classes than that of the row have a share of the target.
    """
    cuda, word, T, from_word = target.cuda, target.word, target.number(storage), target.from_word(storage)
    log1p, fma, held = target.log1p, target.fma, width * vectors
    of_classes, load, size = labels is not None, target.load, SIZES[computed_as(storage)]
    spread_out = smooth or not of_classes
    by_weight = weighted and spread_out
    summed = by_weight or not of_classes
    sums = 1 + spread_out + summed
    fetch, put = moving(target, storage, width, vectors, team)
    fetch_weights = class_weights(target, storage, width, vectors, team)
    gather = gathering(target, storage, team, sums)
    absorb = summing(target, storage, held)
    e = exponentials(target, storage)
    anchor, difference, exponential, add = e.anchor, e.difference, e.exponential, e.add
    log_parts, decay_parts, product_low = (target.formulas(storage)[name] for name in ("log_parts", "decay_parts", "product_low"))
    read_one, write_one = target.access(storage, 1).read, target.access(storage, 1).write
    read_number, write_loss = target.access(computed_as(storage), 1).read, target.access(losses, 1).write
    integer = target.integer(labels or "int64")
    enter, (of_parts, of_whole) = rows_of_teams(target, 4, width, team, inner, looped), (looped == phase for phase in PHASES)
    owns, within, stride, reach = owning(target, width, team), target.within, team * held, team * width
    weights_at = held if of_classes else 2 * held
    registers, length = weights_at + by_weight * held, 1 + 2 * sums
    known = length + 1
    keep_known, recall = knowing_parts(target, storage, 4, known)
    zero, one, two, nothing, undefined = T(0), T(1), T(2), T(-np.inf), T(np.nan)

    @target.device
    def take(values, addresses, strides, weights, first, count):
        fetch(values, 0, addresses[0], strides[2], first, count, nothing)
        if not of_classes:
            fetch(values, held, addresses[2], strides[8], first, count, zero)
        if by_weight:
            fetch_weights(values, weights_at, weights, first, count)

    @target.device
    def share_of(values, i, keep, floor):
        """The target at an element."""
        share = floor if of_classes else fma(keep, values[held + i], floor)
        return share * values[weights_at + i] if by_weight else share

    @target.device
    def add_products(values, state, keep, floor, first, count):
        """To the sums of t x and of t. What there is no element for does not count."""
        for u in range(vectors):
            for k in range(width):
                i = u * width + k
                if within(first + u * reach + k, count):
                    t, x = share_of(values, i, keep, floor), values[i]
                    product = t * x
                    rest = fma(t, x, -product)
                    if t == zero:
                        product = zero if x == x else x
                    state[3], state[4] = add(state[3], state[4] + (rest if rest - rest == zero else zero), product)
                    if summed:
                        state[5], state[6] = add(state[5], state[6], t)

    @target.device
    def all_of(values, addresses, strides, weights, state, keep, floor, first, count):
        take(values, addresses, strides, weights, first, count)
        absorb(values, state, one, zero)
        if spread_out:
            add_products(values, state, keep, floor, first, count)

    @target.device
    def focus(surprise, p, rest, is_peak, gamma):
        """(1 - p)^gamma, by which -log(p) = surprise is multiplied, and what the share of the class is in the gradient."""
        q = rest / (one + rest) if is_peak else one - p
        logarithm, low = log_parts(q)
        z = gamma * logarithm
        high, low, first, second = decay_parts(z, gamma * low + product_low(gamma, logarithm, z))
        power = (high + low) * first * second if q > zero else q
        slope = one + gamma * p * (surprise / q if q > zero else one)
        return power, power if p == zero else power * slope

    def kernel(rows, n, inner_count, starts, strides, ignore_index, weights, alphas, factor_at, numbers):
        values, given, state = cuda.local.array(registers, T), cuda.local.array(1, T), cuda.local.array(known, T)
        addresses = cuda.local.array(4, word)
        keep, floor, z_loss, factor = from_word(numbers[0]), from_word(numbers[1]), from_word(numbers[2]), from_word(numbers[3])
        if factor_at != 0:
            read_number(given, 0, factor_at)
            factor = given[0]
        _, is_row, stop, start = enter(addresses, rows, n, inner_count, starts, strides)
        label, counts, share, at_label, floor_at_label = word(-1), is_row, zero, zero, floor
        if of_classes & is_row:
            label = word(load(integer, addresses[2]))
            counts = label != ignore_index
            share = keep
            if (label >= 0) & (label < n):
                read_one(given, 0, addresses[0] + label * strides[2])
                at_label = given[0]
                if weighted:
                    read_number(given, 0, weights + label * size)
                    share, floor_at_label = keep * given[0], floor * given[0]
                if alphas != 0:
                    read_number(given, 0, alphas + label * size)
                    share *= given[0]
            elif counts:
                share, factor, label = undefined, undefined, word(-1)
        count = stop if counts else word(0)
        for j in range(length):
            state[j] = zero
        state[0] = nothing
        if of_whole:
            read_number(given, 0, recall(state, starts) + length * size)
            at_label = given[0]  # by now there may be the gradient where that was
        elif looped:
            first = start
            while first < count:
                all_of(values, addresses, strides, weights, state, keep, floor, first, count)
                first += stride
        else:
            all_of(values, addresses, strides, weights, state, keep, floor, start, count)
        gather(state, one, zero)
        if of_parts:
            state[length] = at_label
            keep_known(state, starts)
            return

        m, rest = state[0], (state[1] - one) + state[2]
        logarithm = log1p(rest) + (m - m)
        of_all = logarithm + m
        inverse = one / (state[1] + state[2]) + (m - m)
        p = zero
        if of_classes:
            high, low = difference(at_label, anchor(m), one, zero)
            p = exponential(high, low) * inverse
        loss = zero if share == zero else share * (m - at_label)
        spread = zero
        if spread_out:
            spread = state[5] + state[6] if summed else T(n) * floor
            high, low = spread * m, fma(spread, m, -(spread * m))
            if summed:
                low += m * (state[6] - (spread - state[5]))
            loss += (high - state[3]) + (low - (state[4] if state[4] == state[4] else zero))
        loss += (share + spread) * logarithm
        if focal:
            power, slope = focus((m - at_label) + logarithm, p, rest, at_label == m, from_word(numbers[4]))
            loss = zero if share == zero else loss * power
            share = zero if share == zero else share * slope
        loss += z_loss * of_all * of_all
        given[0] = loss if counts else zero
        if (start <= 0) & is_row:
            write_loss(addresses[3], given, 0)
        if with_grad:
            rise = two * z_loss * of_all
            slope = share + spread + rise
            beside = slope * (-rest * inverse) + rise
            at_class, others = slope * p - (share + floor_at_label), spread - floor_at_label
            if (at_label == m) & (two * others <= share + spread):
                at_class = others + beside
            at = anchor(m)
            scale = slope * inverse
            first = start
            while first < stop:
                if looped:
                    take(values, addresses, strides, weights, first, count)
                for k in range(held):
                    high, low = difference(values[k], at, one, zero)
                    t = share_of(values, k, keep, floor)
                    g = scale * exponential(high, low) - t
                    if not of_classes:
                        others = spread - t
                        if (values[k] == m) & (two * others <= spread):
                            g = others + beside
                    values[k] = g * factor if counts else zero
                put(values, 0, addresses[1], strides[5], first, stop)
                first += stride
            if of_classes & counts & within(label, stop) & owns(start, label):
                given[0] = at_class * factor
                write_one(addresses[1] + label * strides[5], given, 0)

    blocks = BLOCKS_OF_PARTS if looped in PHASES and not by_weight else 1  # weights beside logits and targets would be spilled
    return Kernel(kernel, arguments_of_losses(looped), threads_of(team), blocks)


def comparison(target, storage, loss, labels, losses, width, vectors, team, looped, inner, with_grad, weighted):
    """A kernel of a loss that takes its rows x element by element: "nll_loss", "categorical_cross_entropy", "kl_div" or
    "kl_div_of_logs". Of classes it is the element of the class alone, which the thread reads that writes its gradient: that
    may take its place.
    """
    cuda, word, T, from_word = target.cuda, target.word, target.number(storage), target.from_word(storage)
    of_classes, load, size, held = labels is not None, target.load, SIZES[computed_as(storage)], width * vectors
    by_weight, logarithmic = weighted and not of_classes, loss == "categorical_cross_entropy"
    log, element = target.formulas(storage)["log"], target.loss_formulas(storage)["kl_div" if of_classes else loss]
    fetch, put = moving(target, storage, width, vectors, team)
    fetch_weights = class_weights(target, storage, width, vectors, team)
    gather, add = gathering(target, storage, team, with_largest=False), exponentials(target, storage).add
    read_one, write_one, write_loss = target.access(storage, 1).read, target.access(storage, 1).write, target.access(losses, 1).write
    read_number, integer = target.access(computed_as(storage), 1).read, target.integer(labels or "int64")
    enter, owns, stride = rows_of_teams(target, 4, width, team, inner), owning(target, width, team), team * held
    weights_at = 2 * held
    registers = held if of_classes else weights_at + by_weight * held
    zero, one, undefined = T(0), T(1), T(np.nan)
    absent = T(-np.inf) if loss == "kl_div_of_logs" else zero

    @target.device
    def by_class(values, addresses, strides, start, n, is_row, label, ignore_index, weights, factor):
        given, everywhere, slope, share, place = cuda.local.array(1, T), zero, zero, zero, word(0)
        if is_row & (label != ignore_index):
            if (label >= 0) & (label < n):
                place, share = label, one
                if weighted:
                    read_number(given, 0, weights + label * size)
                    share = given[0]
            else:
                everywhere = undefined
        owned = is_row & owns(start, place)
        if owned:
            loss, slope = everywhere, everywhere
            if share != zero:
                read_one(given, 0, addresses[0] + place * strides[2])
                x = given[0]
                loss = -share * (log(x) if logarithmic else x)
                slope = -share / x * factor if logarithmic else -share * factor
            given[0] = loss
            write_loss(addresses[3], given, 0)
        if with_grad:
            for k in range(held):
                values[k] = everywhere
            first = start
            while (first < n) & is_row:
                put(values, 0, addresses[1], strides[5], first, n)
                first += stride
            if owned:
                given[0] = slope
                write_one(addresses[1] + place * strides[5], given, 0)

    @target.device
    def by_element(values, addresses, strides, start, n, is_row, weights, factor):
        state = cuda.local.array(2, T)
        state[0], state[1] = zero, zero
        count, first = n if is_row else word(0), start
        while first < count:
            fetch(values, 0, addresses[0], strides[2], first, count, zero)
            fetch(values, held, addresses[2], strides[8], first, count, absent)
            if by_weight:
                fetch_weights(values, weights_at, weights, first, count)
            for k in range(held):
                t = values[held + k] * values[weights_at + k] if by_weight else values[held + k]
                found = element(values[k], t)
                state[0], state[1] = add(state[0], state[1], found[0])
                values[k] = found[1] * factor
            if with_grad:
                put(values, 0, addresses[1], strides[5], first, count)
            first += stride
        gather(state, one, zero)
        if (start <= 0) & is_row:
            values[0] = state[0] + (state[1] if state[1] == state[1] else zero)
            write_loss(addresses[3], values, 0)

    def kernel(rows, n, inner_count, starts, strides, ignore_index, weights, alphas, factor_at, numbers):
        values, addresses, given = cuda.local.array(registers, T), cuda.local.array(4, word), cuda.local.array(1, T)
        factor = from_word(numbers[3])
        if factor_at != 0:
            read_number(given, 0, factor_at)
            factor = given[0]
        _, is_row, _, start = enter(addresses, rows, n, inner_count, starts, strides)
        if of_classes:
            label = word(load(integer, addresses[2]))
            by_class(values, addresses, strides, start, n, is_row, label, ignore_index, weights, factor)
        else:
            by_element(values, addresses, strides, start, n, is_row, weights, factor)

    return Kernel(kernel, arguments_of_losses(), threads_of(team))


def total_weight(target, storage, labels, inner, weighted, all_at_once):
    """A kernel of the sum of the weights of the classes of the rows that count, for each block that of PART rows; if one block
    sees them ``all_at_once``, of 1 / that, 1 if none counts.

    kernel(rows, n, inner count, address of the target, its strides, class to ignore, address of the weights, that of the
    results): weights are 1 where that is not ``weighted``.
    """
    cuda, word, T, load = target.cuda, target.word, target.number(storage), target.load
    storage = computed_as(storage)
    read, write, size = target.access(storage, 1).read, target.access(storage, 1).write, SIZES[storage]
    integer, locate = target.integer(labels), where_rows_are(target, 1, inner)
    gather, add = gathering(target, storage, THREADS, with_largest=False), exponentials(target, storage).add
    zero, one = T(0), T(1)

    def kernel(rows, n, inner_count, starts, strides, ignore_index, weights, results):
        addresses, given, state = cuda.local.array(1, word), cuda.local.array(1, T), cuda.local.array(2, T)
        total, low = zero, zero
        block = word(cuda.blockIdx.x)
        row, stop = block * PART + word(cuda.threadIdx.x), min(rows, (block + 1) * PART)
        while row < stop:
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
            given[0] = total
            if all_at_once:
                given[0] = one if total == zero else one / total
            write(results + block * size, given, 0)

    return Kernel(kernel, (None, None, None, 1, 3, None, None, None), THREADS)


def add_up(target, storage, inverse):
    """A kernel of the sum of numbers that follow each other, as they are computed with, times a factor; for each block that of
    PART numbers. The ``inverse`` is 1 / the sum, 1 if that is 0.

    kernel(count, address of the numbers, that of the results, of the storage, that of the factor or 0, number: the factor)
    """
    cuda, word, T, from_word = target.cuda, target.word, target.number(storage), target.from_word(storage)
    read, write, size = target.access(computed_as(storage), 1).read, target.access(storage, 1).write, SIZES[computed_as(storage)]
    gather, add = gathering(target, storage, THREADS, with_largest=False), exponentials(target, storage).add
    zero, one, step = T(0), T(1), SIZES[storage]

    def kernel(count, numbers, results, factor_at, factors):
        given, state = cuda.local.array(1, T), cuda.local.array(2, T)
        total, low = zero, zero
        block = word(cuda.blockIdx.x)
        i, stop = block * PART + word(cuda.threadIdx.x), min(count, (block + 1) * PART)
        while i < stop:
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
            total = state[0] + low
            given[0] = (one if total == zero else one / total) if inverse else total * factor
            write(results + block * step, given, 0)

    return Kernel(kernel, (None, None, None, None, 1), THREADS)


BLOCK = 256
ROUNDS = 8
"""How often a thread of an elementwise loss reads, which makes the sums of blocks fewer."""


def elementwise(target, storage, name, varying, weighted, losses, width, gradients):
    """A kernel of an elementwise loss, of arrays without gaps in one order.

    Operands are x, the target, what else the formula takes, and, if ``weighted``, the weight. ``varying`` tells which of those
    after x are arrays; the others are among the numbers, after the factor of the gradients. ``losses`` is the storage of the
    losses of the elements, or None for sums of blocks. ``gradients`` is how many are written: first that of x, then that of
    what comes after the target.

    kernel(n, addresses of the arrays, of the losses or sums, of the gradients, numbers)
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
    made, registers = arrays * width, (arrays + 1 + gradients) * width
    tile, zero, one = BLOCK * width, T(0), T(1)

    @target.device
    def compute(values, k, p, state):
        """The loss and the gradients of the k-th element, which are put after what was read."""
        found = evaluate(values, k, p)
        loss, slope, other_slope = found[0], found[1], found[-1]
        if weighted:
            w = weight_of(values, k, p)
            loss = zero if w == zero else loss * w
            slope = zero if w == zero else slope * w
            other_slope = zero if w == zero else other_slope * w
        values[made + k] = loss
        if gradients > 0:
            values[made + width + k] = slope * p[0]
        if gradients > 1:
            values[made + 2 * width + k] = other_slope * p[0]
        if summed:
            state[0], state[1] = add(state[0], state[1], loss)

    def kernel(n, sources, losses_at, grads, words):
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
                        write_loss(losses_at + (i + k) * loss_size, values, made + k)
                for j in range(gradients):
                    write(grads[j] + i * size, values, made + (1 + j) * width)
            else:
                for k in range(width):
                    if i + k < n:
                        for j in range(arrays):
                            read_one(values, j * width, sources[j] + (i + k) * size)
                        compute(values, 0, p, state)
                        for j in range(gradients):
                            write_one(grads[j] + (i + k) * size, values, made + (1 + j) * width)
                        if not summed:
                            write_loss(losses_at + (i + k) * loss_size, values, made)
            i += tile
        if summed:
            gather(state, one, zero)
            if thread == 0:
                low = state[1] if state[1] == state[1] else zero
                values[0] = state[0] + low
                write_loss(losses_at + word(cuda.blockIdx.x) * loss_size, values, 0)

    return Kernel(kernel, (None, arrays, None, gradients, numbers), BLOCK)
