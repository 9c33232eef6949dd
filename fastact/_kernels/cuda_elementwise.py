"""Kernels of the elementwise functions for GPUs: factories over the formulas of numba_scalar.py, one for every layout.

Sources are the arrays that a kernel reads: the inputs, then those parameters that vary from element to element. Numbers
are the other parameters, as words that hold their bits. A thread keeps what it reads in ``values``: those of the k-th source
from k * width on.
"""

from __future__ import annotations

from .cuda_intervals import TABLES
from .cuda_kernels import SIZES, Kernel, made_once

THREADS = 256
BLOCKS_WITH_TABLES = 5
"""At once on a multiprocessor. The compiler would rather look up all numbers of a thread at once, which takes more registers.
Gated functions, which look up more, need these."""
SUFFIXES = {"forward": "", "derivative": "_derivative", "backward": "_derivative",
            "backward_from_output": "_derivative_from_output"}  # fmt: skip


def name_of(row, kind):
    """That of the formula, which for a backward pass is the derivative's."""
    return row.name + (kind.removeprefix("gated") if kind.startswith("gated") else SUFFIXES[kind])


def formula_of(target, row, kind, storage):
    if not row.custom:
        return target.formulas(storage)[name_of(row, kind)]
    T, function = target.number(storage), target.device(row.function if kind == "forward" else row.slope)
    return target.device((
        lambda x: T(function(x)),
        lambda x, p: T(function(x, p)),
        lambda x, p, q: T(function(x, p, q)),
    )[len(row.parameters)])  # fmt: skip


def is_brief(row, kind, storage):
    """Whether cuda_intervals.py has the formula."""
    return storage == "float32" and not row.custom and name_of(row, kind) in TABLES


def tables_of(row, kind, storage):
    """The tables in which a kernel looks numbers up."""
    return TABLES[name_of(row, kind)] if is_brief(row, kind, storage) else ()


def body(target, row, kind, storage, varying, width):
    """The function that computes ``width`` results from ``values``, with the numbers in p; how many sources it has, and results.

    ``varying`` tells of each parameter whether it is among the sources. The kinds "gated" and "gated_backward" are of functions
    of two arrays.
    """
    inputs, outputs = {"gated": (2, 1), "gated_backward": (3, 2)}.get(kind, (2 if kind.startswith("backward") else 1, 1))
    exact = formula_of(target, row, kind, storage)
    of_each = each(target, exact, kind, varying, width)
    if not is_brief(row, kind, storage):

        @target.device
        def compute(values, results, p):
            for k in range(width):
                of_each(values, results, k, p)

    else:
        compute = brief_body(target, name_of(row, kind), exact, kind, varying, width, inputs + sum(varying), outputs)

    return compute, inputs + sum(varying), outputs


def brief_body(target, name, exact, kind, varying, width, source_count, result_count):
    """The same where a formula is right for most elements, and the others, one after the other, are left to the exact one."""
    near, far = (formulas[name] for formulas in target.intervals())
    of_near, is_far = each(target, near, kind, varying, width), applied(target, far, kind, varying, width)
    of_one, cuda, T = each(target, exact, kind, varying, 1), target.cuda, target.number("float32")

    @target.device
    def compute(values, results, p):
        given, made = cuda.local.array(source_count, T), cuda.local.array(result_count, T)
        left = 0
        for k in range(width):
            of_near(values, results, k, p)
            if is_far(values, k, p):
                left += 1 << k
        while left != 0:  # no address depends on which it is, so that all stays in registers
            place = 0
            for k in range(1, width):
                place = k if left >> k & 1 else place
            for j in range(source_count):
                given[j] = values[j * width]
                for k in range(1, width):
                    given[j] = values[j * width + k] if left >> k & 1 else given[j]
            of_one(given, made, 0, p)
            for j in range(result_count):
                for k in range(width):
                    results[j * width + k] = made[j] if place == k else results[j * width + k]
            left -= 1 << place

    return compute


def each(target, formula, kind, varying, width):
    """The function that computes the k-th results."""
    value = applied(target, formula, kind, varying, width)

    if kind == "gated_backward":

        @target.device
        def compute(values, results, k, p):
            results[k], results[width + k] = value(values, k, p)

    elif kind.startswith("backward"):

        @target.device
        def compute(values, results, k, p):
            results[k] = values[k] * value(values, k, p)

    else:

        @target.device
        def compute(values, results, k, p):
            results[k] = value(values, k, p)

    return compute


def applied(target, formula, kind, varying, width):
    """A formula as a function of the k-th of ``values``."""
    twice = 2 * width
    if kind == "gated":
        return target.device(lambda values, k, p: formula(values[k], values[width + k]))
    if kind == "gated_backward":
        return target.device(lambda values, k, p: formula(values[k], values[width + k], values[twice + k]))
    at = width if kind.startswith("backward") else 0
    getters, place, numbers = [], at + width, 0
    for varies in varying:
        getters.append(getter(target, varies, place if varies else numbers))
        place, numbers = place + width * varies, numbers + (not varies)
    if not getters:
        return target.device(lambda values, k, p: formula(values[at + k]))
    if len(getters) == 1:
        (first,) = getters
        return target.device(lambda values, k, p: formula(values[at + k], first(values, k, p)))
    first, second = getters
    return target.device(lambda values, k, p: formula(values[at + k], first(values, k, p), second(values, k, p)))


@made_once
def getter(target, varies, place):
    """The function that finds a parameter."""
    if varies:
        return target.device(lambda values, k, p: values[place + k])
    return target.device(lambda values, k, p: p[place])


def tables_ready(target, row, kind, storage):
    """The function that all threads of a block call before the formula, which may look numbers up."""
    names = tables_of(row, kind, storage)
    cuda, copy = target.cuda, target.copy_tables(names)

    @target.device
    def ready():
        if names:
            copy(cuda.threadIdx.x)
            cuda.syncthreads()

    return ready


def contiguous(target, row, kind, storage, varying, width):
    """A kernel for arrays without gaps, in one order, which reads ``width`` numbers at once.

    kernel(n, addresses of the sources, those of the results, numbers)
    """
    compute, source_count, result_count = body(target, row, kind, storage, varying, width)
    compute_one, *_ = body(target, row, kind, storage, varying, 1)
    wide, narrow = target.access(storage, width), target.access(storage, 1)
    read, write, read_one, write_one = wide.read, wide.write, narrow.read, narrow.write
    cuda, word, T, from_word, size = target.cuda, target.word, target.number(storage), target.from_word(storage), SIZES[storage]
    number_count = len(varying) - sum(varying)
    value_count, made_count, places = width * source_count, width * result_count, max(number_count, 1)
    ready = tables_ready(target, row, kind, storage)

    def kernel(n, sources, results, numbers):
        values, made = cuda.local.array(value_count, T), cuda.local.array(made_count, T)
        p = cuda.local.array(places, T)
        for j in range(number_count):
            p[j] = from_word(numbers[j])
        i = (word(cuda.blockIdx.x) * THREADS + word(cuda.threadIdx.x)) * width
        whole = i + width <= n
        if whole:  # and while these are on their way, the tables
            for j in range(source_count):
                read(values, j * width, sources[j] + i * size)
        ready()
        if whole:
            compute(values, made, p)
            for j in range(result_count):
                write(results[j] + i * size, made, j * width)
        else:
            while i < n:
                for j in range(source_count):
                    read_one(values, j, sources[j] + i * size)
                compute_one(values, made, p)
                for j in range(result_count):
                    write_one(results[j] + i * size, made, j)
                i += 1

    blocks = BLOCKS_WITH_TABLES if tables_of(row, kind, storage) and not kind.startswith("gated") else 1
    return Kernel(kernel, (None, source_count, result_count, number_count), THREADS, blocks)


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
    arrays, places = source_count + result_count, max(number_count, 1)
    locate, ready = where_elements_are(target, arrays, dims), tables_ready(target, row, kind, storage)

    def kernel(n, shape, starts, strides, numbers):
        ready()
        values, made = cuda.local.array(source_count, T), cuda.local.array(result_count, T)
        p = cuda.local.array(places, T)
        addresses = cuda.local.array(arrays, word)
        i = word(cuda.blockIdx.x) * THREADS + word(cuda.threadIdx.x)
        if i < n:
            for j in range(number_count):
                p[j] = from_word(numbers[j])
            locate(addresses, i, shape, starts, strides)
            for j in range(source_count):
                read(values, j, addresses[j])
            compute(values, made, p)
            for j in range(result_count):
                write(addresses[source_count + j], made, j)

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
