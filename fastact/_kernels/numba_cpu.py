"""The elementwise kernels that Numba compiles, and their ufuncs: strides, half types, threads, streaming stores.

What dispatch.pyx is to the compiled kernels. One loop serves all ufuncs; the kernel for a function and a type is compiled
when an array of that type first arrives.
"""

from __future__ import annotations

import functools

import numpy as np

from . import numba_avx512_loops, numba_scalar
from .numba_avx512_loops import AHEAD
from .numba_intrinsics import (
    C_CLEAR_STATUS,
    TILE,
    array_loop,
    as_kernel,
    assign,
    call,
    compiled,
    entry,
    fence,
    float_to_half,
    half_to_float,
    has,
    keep,
    load,
    machine,
    pointers,
    prefetch_line,
    routine,
    stack,
    store,
    stream_line,
    transpose_tile,
    word,
)
from .numba_lazy import Lazy, kernel_at
from .numba_threads import offered, share, team
from .ufuncs import make_ufunc, register_loop

BLOCK = 512  # elements of a stack buffer
STREAMED = 128
"""Elements that are computed before they go past the cache: relu of 2^24 takes 1.0 of the compiled kernel's time, with 512
1.2, and with 32 1.7, since LLVM unrolls so short a loop before it vectorises it (``python -m bench.backends relu --threads 1
--sizes 16777216``)."""
MAX_INPUTS, MAX_PARAMETERS, MAX_OUTPUTS = 3, 2, 2
OPERANDS = MAX_INPUTS + MAX_PARAMETERS + MAX_OUTPUTS
BUFFER = 8 * BLOCK  # bytes on the stack
HALVES, BUFFERS, POINTERS, JOB = 2 * BLOCK, OPERANDS * BLOCK * 8, OPERANDS * 8, 5 * 8  # bytes on the stack

# How numbers are stored. Integers of one size are all the same to the few functions that keep them.
FLOAT, DOUBLE, HALF, BFLOAT, INT8, INT16, INT32, INT64 = range(8)
COMPUTED = {FLOAT: np.float32, DOUBLE: np.float64, HALF: np.float32, BFLOAT: np.float32,
            INT8: np.int8, INT16: np.int16, INT32: np.int32, INT64: np.int64}  # fmt: skip
STORAGE_OF_INTEGERS = {1: INT8, 2: INT16, 4: INT32, 8: INT64}

# A loop as the compiled code sees it: words of memory.
(KERNEL, INPUTS, PARAMETERS, OUTPUTS, STORAGE, COST, NUMBER, PAST_CACHE, PAST_CACHE_NUMBER) = range(0, 72, 8)
# How results get to memory: straight, past the cache, or (where they overlap an input) by way of a buffer.
PLAIN, STREAMING, BUFFERED = range(3)

streaming_from = np.full(1, 1 << 62)  # bytes of a result, from which on it goes past the cache
STREAMING_FROM = streaming_from.ctypes.data


@functools.cache
def formulas(T):
    """numba_scalar's formulas for this CPU; for an integer type, those that keep integers."""
    if np.issubdtype(T, np.integer):
        return numba_scalar.integer_formulas(T, compiled)
    return numba_scalar.formulas(T, machine(T))


def bind(last_level_cache):
    """Stream outputs that, with their input, exceed that cache."""
    streaming_from[0] = last_level_cache // 2


# --- Half types -------------------------------------------------------------------------------------------------------


def conversions():
    """Between float32 and, as their bits, float16 and bfloat16; see primitives.h."""
    bits, from_bits = machine(np.float32).bits, machine(np.float32).from_bits
    i32 = np.int32
    rebias, tiny = np.float32(2.0**112), np.float32(0.5)

    @compiled
    def from_half(h):
        h = i32(h)
        rest = i32((h & i32(0x7FFF)) << i32(13))
        scaled = bits(from_bits(rest) * rebias)
        special = i32(rest | i32(0x7F800000))
        magnitude = special if (h & i32(0x7C00)) == i32(0x7C00) else scaled
        return from_bits(i32(magnitude | i32((h & i32(0x8000)) << i32(16))))

    @compiled
    def to_half(x):
        whole = bits(x)
        sign = (whole >> i32(16)) & i32(0x8000)
        a = i32(whole & i32(0x7FFFFFFF))
        normal = i32((a - i32(0x38000000) + i32(0xFFF) + ((a >> i32(13)) & i32(1))) >> i32(13))
        subnormal = i32(bits(from_bits(a) + tiny) - i32(0x3F000000))
        h = subnormal if a < i32(0x38800000) else (i32(0x7C00) if a >= i32(0x47800000) else normal)
        h = i32(i32(0x7E00) | ((a >> i32(13)) & i32(0x3FF))) if a > i32(0x7F800000) else h
        return np.uint16(h | sign)

    @compiled
    def from_bfloat(h):
        return from_bits(i32(i32(h) << i32(16)))

    @compiled
    def to_bfloat(x):
        whole = bits(x)
        a = i32(whole & i32(0x7FFFFFFF))
        upper = (whole >> i32(16)) & i32(0xFFFF)
        rounded = i32((a + i32(0x7FFF) + (upper & i32(1))) >> i32(16)) | (upper & i32(0x8000))
        return np.uint16(upper | i32(0x40) if a > i32(0x7F800000) else rounded)

    if has("f16c"):
        return half_to_float, float_to_half, from_bfloat, to_bfloat
    return from_half, to_half, from_bfloat, to_bfloat


def mapping(function):
    """A loop of a function of one number over contiguous arrays."""

    @array_loop
    def kernel(x, y, n):
        as_kernel()
        for i in range(n):
            y[i] = function(x[i])

    return kernel


def conversion(k):
    """The C function (source, target, count) that widens a half type's bits (0, 2), or narrows to them (1, 3)."""
    kernel = mapping(conversions()[k])
    source, target = (pointers(T) for T in ((np.float32, np.uint16) if k & 1 else (np.uint16, np.float32)))
    return entry(lambda x, y, n: kernel(source(x), target(y), n))


WIDEN_HALF, NARROW_HALF, WIDEN_BFLOAT, NARROW_BFLOAT = range(4)
_converters = np.zeros(4, np.int64)
FIRST_CONVERSION = [Lazy(_converters, 8 * k, functools.partial(conversion, k)) for k in range(4)][0].number
CONVERTERS = _converters.ctypes.data


@routine
def convert(k, source, target, count):
    kernel = kernel_at(CONVERTERS + 8 * k, FIRST_CONVERSION + k)
    if kernel:
        call(kernel, (source, target, count))


@routine
def width(storage):
    if storage == DOUBLE or storage == INT64:
        return 8
    if storage == FLOAT or storage == INT32:
        return 4
    return 1 if storage == INT8 else 2


@routine
def copy_strided(size, source, source_step, target, target_step, count):
    if size == 8:
        for i in range(count):
            store(np.int64, target + i * target_step, load(np.int64, source + i * source_step))
    elif size == 4:
        for i in range(count):
            store(np.int32, target + i * target_step, load(np.int32, source + i * source_step))
    elif size == 2:
        for i in range(count):
            store(np.int16, target + i * target_step, load(np.int16, source + i * source_step))
    else:
        for i in range(count):
            store(np.int8, target + i * target_step, load(np.int8, source + i * source_step))


@routine
def transpose(size, source, source_step, target, target_step, lines, n):
    """Make n lines of as many lines of n numbers of 4 or 8 bytes, at least TILE of both: the last tiles share some with others."""
    for i in range(0, lines, TILE):
        line = min(i, lines - TILE)
        for k in range(0, n, TILE):
            first = min(k, n - TILE)
            there, here = source + line * source_step + first * size, target + first * target_step + line * size
            if size == 4:
                transpose_tile(np.float32, there, source_step, here, target_step)
            else:
                transpose_tile(np.float64, there, source_step, here, target_step)


@routine
def stream(target, source, size):
    """Copy to memory past the cache; fence() before anyone else reads."""
    head = min(-target & 63, size)
    copy_strided(1, source, 1, target, 1, head)
    lines = (size - head) // 64
    for i in range(lines):
        stream_line(target + head + 64 * i, source + head + 64 * i)
    done = head + 64 * lines
    copy_strided(1, source + done, 1, target + done, 1, size - done)


@routine
def gather(storage, source, step, count, buffer):
    """The address of the elements as contiguous numbers to compute with: where they are if that is what they are, or in buffer."""
    size = width(storage)
    half = storage == HALF or storage == BFLOAT
    if step == size and not half:
        return source
    if not half:
        copy_strided(size, source, step, buffer, size, count)
        return buffer
    halves = stack(HALVES)
    if step != 2 or source & 1:
        copy_strided(2, source, step, halves, 2, count)
        source = halves
    convert(WIDEN_HALF if storage == HALF else WIDEN_BFLOAT, source, buffer, count)
    return buffer


@routine
def scatter(storage, buffer, target, step, count, streaming):
    size = width(storage)
    halves = stack(HALVES)
    if storage == HALF or storage == BFLOAT:
        direct = step == 2 and not streaming and target & 1 == 0
        convert(NARROW_HALF if storage == HALF else NARROW_BFLOAT, buffer, target if direct else halves, count)
        if direct:
            return
        buffer = halves
    if streaming:
        stream(target, buffer, count * size)
    else:
        copy_strided(size, buffer, size, target, step, count)


# --- Loops over chunks ------------------------------------------------------------------------------------------------


# A piece of work: words of memory on the stack.
JOB_LOOP, JOB_ARGS, JOB_STEPS, JOB_MODE, JOB_SINGLE = range(0, 40, 8)


@routine
def argument(k, inputs, last):
    """Where among the arguments of a kernel operand k is."""
    if k < inputs:
        return 8 * k
    return 8 * (MAX_INPUTS + k - inputs if k < last else MAX_INPUTS + MAX_PARAMETERS + k - last)


@routine
def call_kernel(kernel, where, count, single):
    call(kernel, (word(where, 0), word(where, 8), word(where, 16), word(where, 24), word(where, 32), word(where, 40), word(where, 48),
                  count, single))  # fmt: skip


@routine
def run_on(kernel, job, first, count):
    """... elements that lie as kernels take them."""
    about, args, steps = word(job, JOB_LOOP), word(job, JOB_ARGS), word(job, JOB_STEPS)
    inputs = word(about, INPUTS)
    last = inputs + word(about, PARAMETERS)
    where = stack(POINTERS)
    for k in range(OPERANDS):
        keep(where, 8 * k, 0)
    for k in range(last + word(about, OUTPUTS)):
        keep(where, argument(k, inputs, last), word(args, 8 * k) + first * word(steps, 8 * k))
    call_kernel(kernel, where, count, word(job, JOB_SINGLE))


@entry
def run_direct(job, first, count):
    run_on(word(word(job, JOB_LOOP), KERNEL), job, first, count)


def run_past_cache(job, first, count):
    """The same for a kernel whose one result goes past the cache, from the first whole line on."""
    about, args, steps = word(job, JOB_LOOP), word(job, JOB_ARGS), word(job, JOB_STEPS)
    last = 8 * (word(about, INPUTS) + word(about, PARAMETERS))
    step = word(steps, last)
    head = min((-(word(args, last) + first * step) & 63) // step, count)
    run_on(word(about, KERNEL), job, first, head)
    run_on(word(about, PAST_CACHE), job, first + head, count - head)
    fence()


def run_blocks(job, first, count):
    """Operands of all kinds, which buffers make such."""
    about, args, steps = word(job, JOB_LOOP), word(job, JOB_ARGS), word(job, JOB_STEPS)
    mode, single = word(job, JOB_MODE), word(job, JOB_SINGLE)
    inputs, storage = word(about, INPUTS), word(about, STORAGE)
    last = inputs + word(about, PARAMETERS)
    stop = last + word(about, OUTPUTS)
    computed = FLOAT if storage == HALF or storage == BFLOAT else storage
    buffers, where = stack(BUFFERS), stack(POINTERS)
    for k in range(OPERANDS):
        keep(where, 8 * k, 0)
    while count > 0:
        block = min(count, BLOCK)
        if mode == STREAMING:
            y = word(args, 8 * last) + first * word(steps, 8 * last)
            if y & 63:
                block = min(block, (64 - (y & 63)) // word(steps, 8 * last))  # whole cache lines from here on
        for k in range(stop):
            step, buffer = word(steps, 8 * k), buffers + k * BLOCK * 8
            place = word(args, 8 * k) + first * step
            if k >= last:
                place = buffer
            elif k < inputs or single == 0:
                place = gather(storage if k < inputs else computed, place, step, block, buffer)
            keep(where, argument(k, inputs, last), place)
        call_kernel(word(about, KERNEL), where, block, single)
        for k in range(last, stop):
            step = word(steps, 8 * k)
            scatter(storage, buffers + k * BLOCK * 8, word(args, 8 * k) + first * step, step, block, mode == STREAMING)
        first += block
        count -= block
    if mode == STREAMING:
        fence()


_pieces = np.zeros(2, np.int64)
BLOCKS, LINES = _pieces.ctypes.data, _pieces.ctypes.data + 8
BLOCKS_NUMBER, LINES_NUMBER = (Lazy(_pieces, 8 * k, lambda function=function: entry(function)).number
                               for k, function in enumerate((run_blocks, run_past_cache)))  # fmt: skip
RUN_DIRECT = run_direct.address


@routine
def runs_into(a, a_step, b, b_step, count):
    """Whether two operands share memory other than element by element."""
    a_reach, b_reach = a_step * (count - 1), b_step * (count - 1)
    if a == b and a_step == b_step:
        return a_step == 0 and count > 1
    return a + min(a_reach, 0) < b + max(b_reach, 0) + 8 and b + min(b_reach, 0) < a + max(a_reach, 0) + 8


ALL_EXCEPTIONS = 0x3F  # on every processor; what one does not have it ignores


@entry
def ufunc_loop(args, dimensions, steps, about):
    """Where the output overlaps an input, one result goes into the next, as for ufunc.accumulate; else NumPy makes copies."""
    if kernel_at(about + KERNEL, word(about, NUMBER)) == 0:
        return
    count, storage, inputs = word(dimensions, 0), word(about, STORAGE), word(about, INPUTS)
    last = inputs + word(about, PARAMETERS)
    stop, size = last + word(about, OUTPUTS), width(storage)
    mode = STREAMING if count * size > word(STREAMING_FROM, 0) else PLAIN
    overlapping, single, direct = False, True, storage != HALF and storage != BFLOAT
    for k in range(inputs, last):
        single = single and word(steps, 8 * k) == 0
    for k in range(stop):
        direct = direct and (word(steps, 8 * k) == size or single and inputs <= k < last)
    for j in range(last, stop):
        y, y_step = word(args, 8 * j), word(steps, 8 * j)
        if y_step != size or y % size:
            mode = PLAIN
        for k in range(last):
            overlapping = overlapping or runs_into(word(args, 8 * k), word(steps, 8 * k), y, y_step, count)
            if k < inputs and word(args, 8 * k) == y:
                mode = PLAIN  # in place, the line is in the cache already
    if overlapping:
        mode = BUFFERED
    work = RUN_DIRECT
    if direct and single and mode == STREAMING and word(about, PAST_CACHE_NUMBER) >= 0:
        work = kernel_at(LINES, LINES_NUMBER) if kernel_at(about + PAST_CACHE, word(about, PAST_CACHE_NUMBER)) else 0
    elif not direct or mode != PLAIN:
        work = kernel_at(BLOCKS, BLOCKS_NUMBER)
    if work == 0:
        return
    job = stack(JOB)
    keep(job, JOB_LOOP, about)
    keep(job, JOB_ARGS, args)
    keep(job, JOB_STEPS, steps)
    keep(job, JOB_MODE, mode)
    keep(job, JOB_SINGLE, single)
    picoseconds = count * word(about, COST)
    threads = team(picoseconds)
    # Whole cache lines of any type.
    if overlapping:
        for i in range(count):
            call(work, (job, i, 1))
    elif threads == 1:
        share(work, job, count, max(count // 8, 4096) & ~63, offered(picoseconds))
    else:
        share(work, job, count, min(max(count // (4 * threads), 4096), 65536) & ~63, threads)
    call(C_CLEAR_STATUS, (ALL_EXCEPTIONS,))


# --- Kernels and ufuncs -----------------------------------------------------------------------------------------------


def _element(formula, inputs, parameters, backward):
    """formula, or its product with a gradient, as a function of three inputs and two parameters, whatever it needs."""
    if backward:
        return compiled((
            lambda a, b, c, p, q: a * formula(b),
            lambda a, b, c, p, q: a * formula(b, p),
            lambda a, b, c, p, q: a * formula(b, p, q),
        )[parameters])  # fmt: skip
    return compiled({
        (1, 0): lambda a, b, c, p, q: formula(a),
        (1, 1): lambda a, b, c, p, q: formula(a, p),
        (1, 2): lambda a, b, c, p, q: formula(a, p, q),
        (2, 0): lambda a, b, c, p, q: formula(a, b),
        (3, 0): lambda a, b, c, p, q: formula(a, b, c),
    }[inputs, parameters])  # fmt: skip


def chunk_kernel(element, T, parameters, outputs, by_hand=None, defaults=(), past_cache=False, alone=False):
    """The loop of an element over contiguous arrays, parameters being single numbers or arrays; a C function.

    With ``by_hand`` that loop runs instead where the parameters are the ``defaults``. With ``past_cache``, for single parameters, the
    one result goes there, to a multiple of 64, and the one input, if it is ``alone``, is called to the cache ahead.
    """
    varying = parameters > 0
    pair = outputs > 1

    @array_loop
    def kernel(a, b, c, p, q, y, z, n, single):
        as_kernel()
        if varying and not single:
            for i in range(n):
                y[i] = element(a[i], b[i], c[i], p[i], q[i])
        elif pair:
            for i in range(n):
                y[i], z[i] = element(a[i], b[i], c[i], p[0], q[0])
        else:
            p0, q0 = p[0], q[0]
            for i in range(n):
                y[i] = element(a[i], b[i], c[i], p0, q0)

    array = pointers(T)

    @compiled
    def run(a, b, c, p, q, y, z, n, single):
        kernel(array(a), array(b), array(c), array(p), array(q), array(y), array(z), n, single)

    size = np.dtype(T).itemsize

    @compiled
    def run_pair(a, b, c, p, q, y, z, n, single):
        """Results may go where two of the inputs are, and LLVM may read these again after the first result was written."""
        first, second = stack(BUFFER), stack(BUFFER)
        for done in range(0, n, BLOCK):
            count, offset = min(BLOCK, n - done), done * size
            run(a + offset, b + offset, c + offset, p, q, first, second, count, single)
            assign(array(y + offset), array(first), count)
            assign(array(z + offset), array(second), count)

    @compiled
    def run_past_cache(a, b, c, p, q, y, z, n, single):
        tile = stack(BUFFER)
        whole = n // STREAMED * STREAMED
        for i in range(0, whole * size, STREAMED * size):
            run(a + i, b + i, c + i, p, q, tile, z, STREAMED, single)
            for k in range(0, STREAMED * size, 64):
                if alone:
                    prefetch_line(a + i + k + AHEAD)
                stream_line(y + i + k, tile + k)
        rest = whole * size
        run(a + rest, b + rest, c + rest, p, q, y + rest, z, n - whole, single)

    usual = run_pair if pair else run_past_cache if past_cache else run
    if by_hand is None:
        chunk = usual
    elif not defaults:
        chunk = compiled(lambda a, b, c, p, q, y, z, n, single: by_hand(a, b, c, y, z, n))
    else:
        (default,) = defaults

        @compiled
        def chunk(a, b, c, p, q, y, z, n, single):
            if single and load(T, p) == default:
                by_hand(a, b, c, y, z, n)
            elif single:
                usual(a, b, c, p, q, y, z, n, single)
            else:
                # The same bits for the same number, though others are beside it.
                start = 0
                while start < n:
                    end = start
                    while end < n and load(T, p + end * size) != default:
                        end += 1
                    at = start * size
                    usual(a + at, b + at, c + at, p + at, q + at, y + at, z + at, end - start, single)
                    start = end
                    while end < n and load(T, p + end * size) == default:
                        end += 1
                    at = start * size
                    by_hand(a + at, b + at, c + at, y + at, z + at, end - start)
                    start = end

    return entry(lambda a, b, c, p, q, y, z, n, single: chunk(a, b, c, p, q, y, z, n, single))


@functools.cache
def _kernel(formula, T, inputs, parameters, outputs, backward, name, defaults, past_cache=False):
    by_hand = numba_avx512_loops.loop(*name, T, past_cache) if name and numba_avx512_loops.known(*name, T) else None
    element = _element(formula(T), inputs, parameters, backward)
    return chunk_kernel(element, T, parameters, outputs, by_hand, defaults, past_cache, alone=inputs == 1)


class Ufunc:
    """What makes a ufunc of a formula: ``formula(T)`` is its compiled function of the inputs and the parameters.

    With ``backward`` the ufunc takes a gradient first and multiplies by it, the formula having the other input. ``integers`` "keep" or "clamp" gives loops
    for them, for which ``formula`` is asked with integer types. ``cost`` is nanoseconds an element. ``known`` is the name and the kind
    that numba_avx512_loops.py may know it by, for parameters that are the ``defaults``. ``floating`` is the address of its loop, and what
    that takes last for each way to store floating-point numbers.
    """

    def __init__(self, name, doc, formula, *, inputs=1, parameters=0, outputs=1, backward=False, cost, integers=None, known=None,
                 defaults=()):  # fmt: skip
        self.codes = lambda dtype: [dtype.num] * inputs + [_parameter_type(dtype).num] * parameters + [dtype.num] * outputs
        self.loops = {}

        def loop(storage, formula=formula):
            """The address of a loop's words, which are kept for good."""
            if (storage, formula) not in self.loops:
                words, T = np.zeros(9, np.int64), COMPUTED[storage]
                described = formula, T, inputs, parameters, outputs, backward, known, defaults
                lazy, past_cache = Lazy(words, KERNEL, lambda: _kernel(*described)), -1
                if storage in (FLOAT, DOUBLE) and outputs == 1:
                    past_cache = Lazy(words, PAST_CACHE, lambda: _kernel(*described, past_cache=True)).number
                picoseconds = cost * (2000 if storage == DOUBLE else 1000)
                for offset, value in ((INPUTS, inputs), (PARAMETERS, parameters), (OUTPUTS, outputs), (STORAGE, storage),
                                      (COST, picoseconds), (NUMBER, lazy.number), (PAST_CACHE_NUMBER, past_cache)):  # fmt: skip
                    words[offset // 8] = value
                self.loops[storage, formula] = lazy
            return self.loops[storage, formula].words.ctypes.data

        kinds, data = [], []
        for code in "bBhHiIlLqQ" if integers else "":
            dtype = np.dtype(code)
            kinds.append(self.codes(dtype))
            clamps = integers == "clamp" and dtype.kind == "i"
            data.append(loop(STORAGE_OF_INTEGERS[dtype.itemsize], formula if clamps else _kept))
        for code, storage in (("e", HALF), ("f", FLOAT), ("d", DOUBLE)):
            kinds.append(self.codes(np.dtype(code)))
            data.append(loop(storage))
        self.floating = ufunc_loop.address, [loop(storage) for storage in (FLOAT, DOUBLE, HALF, BFLOAT)]
        self.ufunc = make_ufunc(name, doc, ufunc_loop.address, kinds, data, outputs)
        if bfloat16 is not None:
            self.learn(bfloat16)
        ufuncs.append(self)

    def learn(self, bfloat16):
        register_loop(self.ufunc, bfloat16, ufunc_loop.address, self.codes(bfloat16), self.floating[1][BFLOAT])

    def compile(self, dtype):
        """Compile the kernel that arrays of a dtype need, now."""
        for (storage, _), lazy in self.loops.items():
            if COMPUTED[storage] == (np.float32 if dtype.itemsize == 2 else dtype.type):
                lazy.compile()


def _parameter_type(dtype):
    # The parameters of half types are float: rounding 0.01 to ten bits would be felt in the result.
    return np.dtype(np.float32) if dtype.itemsize == 2 and dtype.kind not in "iu" else dtype


def _kept(T):
    return formulas(T)["identity"]


ufuncs = []
"""All that must know of bfloat16 when it comes, and it once it has."""
bfloat16 = None


def storage_of(dtype):
    """How numbers of a dtype are stored, None if there are no kernels for them."""
    return {"e": HALF, "f": FLOAT, "d": DOUBLE}.get(dtype.char, BFLOAT if dtype == bfloat16 else None)


def register_bfloat16(dtype):
    """Give every ufunc a loop for ml_dtypes.bfloat16."""
    global bfloat16
    bfloat16 = dtype
    for ufunc in ufuncs:
        ufunc.learn(dtype)
