"""Kernels of the elementwise functions for GPUs: factories over the formulas of numba_scalar.py, one for every layout.

Sources are the arrays that a kernel reads: the inputs, then those parameters that vary from element to element. Numbers
are the other parameters, as words that hold their bits. A thread keeps what it reads in ``values``: those of the k-th source
from k * width on, where the results are put, too.
"""

from __future__ import annotations

from .cuda_kernels import SIZES, Kernel, made_once

THREADS = 256
SUFFIXES = {"forward": "", "derivative": "_derivative", "backward": "_derivative",
            "backward_from_output": "_derivative_from_output"}  # fmt: skip


def formula_of(target, row, kind, storage):
    """The function of a number, or for a backward pass its derivative."""
    if not row.custom:
        return target.formulas(storage)[row.name + SUFFIXES[kind]]
    T, function = target.number(storage), target.device(row.function if kind == "forward" else row.slope)
    return target.device((
        lambda x: T(function(x)),
        lambda x, p: T(function(x, p)),
        lambda x, p, q: T(function(x, p, q)),
    )[len(row.parameters)])  # fmt: skip


def body(target, row, kind, storage, varying, width):
    """The function that computes the k-th of ``values``, with the numbers in p; how many sources it has, and results.

    ``varying`` tells of each parameter whether it is among the sources. The kinds "gated" and "gated_backward" are of functions
    of two arrays.
    """
    if kind.startswith("gated"):
        return _gated(target, target.formulas(storage)[row.name + kind.removeprefix("gated")], kind, width)
    formula = formula_of(target, row, kind, storage)
    inputs = 2 if kind.startswith("backward") else 1
    at = (inputs - 1) * width
    getters, sources, numbers = [], inputs, 0
    for varies in varying:
        getters.append(getter(target, varies, sources * width if varies else numbers))
        sources, numbers = sources + varies, numbers + (not varies)

    if not getters:

        @target.device
        def value(values, k, p):
            return formula(values[at + k])

    elif len(getters) == 1:
        (first,) = getters

        @target.device
        def value(values, k, p):
            return formula(values[at + k], first(values, k, p))

    else:
        first, second = getters

        @target.device
        def value(values, k, p):
            return formula(values[at + k], first(values, k, p), second(values, k, p))

    if inputs == 1:

        @target.device
        def compute(values, k, p):
            values[k] = value(values, k, p)

    else:

        @target.device
        def compute(values, k, p):
            values[k] = values[k] * value(values, k, p)

    return compute, sources, 1


def _gated(target, formula, kind, width):
    twice = 2 * width

    if kind == "gated":

        @target.device
        def compute(values, k, p):
            values[k] = formula(values[k], values[width + k])

        return compute, 2, 1

    @target.device
    def compute_both(values, k, p):
        values[k], values[width + k] = formula(values[k], values[width + k], values[twice + k])

    return compute_both, 3, 2


@made_once
def getter(target, varies, place):
    """The function that finds a parameter."""
    if varies:
        return target.device(lambda values, k, p: values[place + k])
    return target.device(lambda values, k, p: p[place])


def contiguous(target, row, kind, storage, varying, width):
    """A kernel for arrays without gaps, in one order, which reads ``width`` numbers at once.

    kernel(n, addresses of the sources, those of the results, numbers)
    """
    compute, source_count, result_count = body(target, row, kind, storage, varying, width)
    wide, narrow = target.access(storage, width), target.access(storage, 1)
    read, write, read_one, write_one = wide.read, wide.write, narrow.read, narrow.write
    cuda, word, T, from_word, size = target.cuda, target.word, target.number(storage), target.from_word(storage), SIZES[storage]
    number_count = len(varying) - sum(varying)
    registers, places = width * max(source_count, result_count), max(number_count, 1)

    def kernel(n, sources, results, numbers):
        values = cuda.local.array(registers, T)
        p = cuda.local.array(places, T)
        for j in range(number_count):
            p[j] = from_word(numbers[j])
        i = (word(cuda.blockIdx.x) * THREADS + word(cuda.threadIdx.x)) * width
        if i + width <= n:
            for j in range(source_count):
                read(values, j * width, sources[j] + i * size)
            for k in range(width):
                compute(values, k, p)
            for j in range(result_count):
                write(results[j] + i * size, values, j * width)
        else:
            while i < n:
                for j in range(source_count):
                    read_one(values, j * width, sources[j] + i * size)
                compute(values, 0, p)
                for j in range(result_count):
                    write_one(results[j] + i * size, values, j * width)
                i += 1

    return Kernel(kernel, (None, source_count, result_count, number_count), THREADS)


@made_once
def where_elements_are(target, arrays, dims):
    """locate(addresses, i, shape, starts, strides): where the i-th element is in every array; the strides of one after the other."""
    quotient = target.quotient

    @target.device
    def locate(addresses, i, shape, starts, strides):
        for j in range(arrays):
            addresses[j] = starts[j]
        for axis in range(dims - 1, -1, -1):
            above = quotient(i, shape[axis])
            place = i - above * shape[axis]
            for j in range(arrays):
                addresses[j] += place * strides[j * dims + axis]
            i = above

    return locate


def strided(target, row, kind, storage, varying, dims):
    """A kernel for arrays of any strides, one element a thread.

    kernel(n, shape, addresses of the sources and results, their strides one array after the other, numbers)
    """
    compute, source_count, result_count = body(target, row, kind, storage, varying, 1)
    access = target.access(storage, 1)
    read, write = access.read, access.write
    cuda, word, T, from_word = target.cuda, target.word, target.number(storage), target.from_word(storage)
    number_count = len(varying) - sum(varying)
    arrays, registers, places = source_count + result_count, max(source_count, result_count), max(number_count, 1)
    locate = where_elements_are(target, arrays, dims)

    def kernel(n, shape, starts, strides, numbers):
        values = cuda.local.array(registers, T)
        p = cuda.local.array(places, T)
        addresses = cuda.local.array(arrays, word)
        i = word(cuda.blockIdx.x) * THREADS + word(cuda.threadIdx.x)
        if i < n:
            for j in range(number_count):
                p[j] = from_word(numbers[j])
            locate(addresses, i, shape, starts, strides)
            for j in range(source_count):
                read(values, j, addresses[j])
            compute(values, 0, p)
            for j in range(result_count):
                write(addresses[source_count + j], values, j)

    return Kernel(kernel, (None, dims, arrays, arrays * dims, number_count), THREADS)


def of_integers(target, row, kind, dims):
    """A kernel of a function that keeps integers of a kind what they are, for arrays of any strides.

    kernel(n, shape, addresses of the source and the result, their strides one array after the other)
    """
    cuda, word, load, store, integer = target.cuda, target.word, target.load, target.store, target.integer(kind)
    formula, locate = target.integer_formulas(kind)[row.name], where_elements_are(target, 2, dims)

    def kernel(n, shape, starts, strides):
        addresses = cuda.local.array(2, word)
        i = word(cuda.blockIdx.x) * THREADS + word(cuda.threadIdx.x)
        if i < n:
            locate(addresses, i, shape, starts, strides)
            store(integer, addresses[1], formula(load(integer, addresses[0])))

    return Kernel(kernel, (None, dims, 2, 2 * dims), THREADS)


def convert(target, source, result, masked, dims):
    """A kernel that copies numbers of one type to places of another, with any strides, where no mask says False.

    Types are storages, and integers; sources may be bool, too. From floating-point to integers there is no way.

    kernel(n, shape, addresses of the source, the result and the mask, their strides one array after the other)
    """
    cuda, word, load, store = target.cuda, target.word, target.load, target.store
    bits, from_bits = target.bits, target.from_bits
    arrays, zero = 3 if masked else 2, target.number("float64")(0)
    locate = where_elements_are(target, arrays, dims)
    from_float, to_float = source in SIZES, result in SIZES
    read = target.access(source if from_float else "float32", 1).read
    write = target.access(result if to_float else "float32", 1).write
    wide = target.number(source if from_float else "float32")
    T = target.number(result if to_float else "float32")
    byte = target.integer("uint8")
    kind, goal = (byte if name in SIZES or name == "bool" else target.integer(name) for name in (source, result))
    to_half = source == "float64" and SIZES.get(result) == 2

    @target.device
    def narrowed(x):
        """Of the two numbers of T next to x that whose last bit is 1, so that rounding once more is rounding once."""
        y = T(x)
        rest = x - y
        if to_half & (y != T(0)) & ((rest < zero) | (rest > zero)):
            pattern = bits(y)
            if pattern % 2 == 0:
                y = from_bits(pattern + 1 if (rest > zero) == (y > T(0)) else pattern - 1)
        return y

    def kernel(n, shape, starts, strides):
        given, made, addresses = cuda.local.array(1, wide), cuda.local.array(1, T), cuda.local.array(arrays, word)
        i = word(cuda.blockIdx.x) * THREADS + word(cuda.threadIdx.x)
        if i < n:
            locate(addresses, i, shape, starts, strides)
            if load(byte, addresses[arrays - 1]) != 0 if masked else True:
                if not to_float:
                    store(goal, addresses[1], goal(load(kind, addresses[0])))
                else:
                    if from_float:
                        read(given, 0, addresses[0])
                        made[0] = narrowed(given[0]) if to_half else T(given[0])
                    else:
                        made[0] = T(load(kind, addresses[0]))
                    write(addresses[1], made, 0)

    return Kernel(kernel, (None, dims, arrays, arrays * dims), THREADS)
