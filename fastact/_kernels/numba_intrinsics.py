"""What Numba's Python cannot say, as LLVM instructions: fused operations, bit casts, memory by address, atomics, calls by address."""

from __future__ import annotations

import ctypes
import functools
import os
from types import SimpleNamespace

import llvmlite.binding
import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils, config
from numba.extending import intrinsic
from numba.np.numpy_support import from_dtype

from .numba_compiler import Part, Whole
from .numba_scalar import split_fused

WORD = ir.IntType(64)
# No exceptions: they would keep a loop from being vectorised. And nothing that only Python would need to call it.
# What is not said here, Numba takes from the function around it.
OPTIONS = {"error_model": "numpy", "nogil": True, "forceinline": False, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
VECTOR_BITS = 512  # LLVM would rather use half of what some CPUs have; what they do not have is never used


def compiled(function):
    """A function for use inside kernels, and inlined there."""
    return numba.njit(**OPTIONS | {"forceinline": True}, pipeline_class=Part)(function)


def of_users(function):
    """The same of a function that somebody else wrote, in any way that Numba understands."""
    return numba.njit(**OPTIONS | {"forceinline": True})(function)


def routine(function):
    """A function of words for use inside kernels, compiled once, when the first of them is."""
    made = numba.njit(**OPTIONS, pipeline_class=Part)(function)
    template_for = made.get_call_template
    # For each number that is an argument, and for truth values, Numba would compile it once more.
    made.get_call_template = lambda args, keywords: template_for([types.intp] * len(args), keywords)
    return made


def array_loop(function):
    """A loop over arrays, which are pointers, for use inside kernels; it must begin with as_kernel()."""
    return numba.njit(**OPTIONS, pipeline_class=Part)(function)


def entry(function):
    """A C function of words, which is compiled here and now and called by its ``address``."""
    return numba.cfunc(_signature(function), error_model=OPTIONS["error_model"], pipeline_class=Whole)(function)


def called_from_python(function):
    """A function of words that is compiled here and now and lets other Python threads run. Arrays would take Numba longer to hand over."""
    return numba.njit(_signature(function), nogil=True, error_model=OPTIONS["error_model"], pipeline_class=Whole)(function)


def _signature(function):
    result = {None: types.void, "int": types.intp, "float": types.float64}[function.__annotations__.get("return")]
    return result(*[types.intp] * function.__code__.co_argcount)


# --- The machine of numba_scalar.py -----------------------------------------------------------------------------------


def instructions(intrinsic):
    """fma, and the bits of a number as an integer and back; with Numba's intrinsic for the CPU or for CUDA."""
    integers = {types.float32: types.int32, types.float64: types.int64}
    floats = {integer: kind for kind, integer in integers.items()}

    @intrinsic
    def fma(typing, a, b, c):
        return a(a, a, a), lambda context, builder, signature, args: builder.fma(*args)

    @intrinsic
    def bits(typing, x):
        target = integers[x]
        return target(x), lambda context, builder, signature, args: builder.bitcast(args[0], context.get_value_type(target))

    @intrinsic
    def from_bits(typing, x):
        target = floats[x]
        return target(x), lambda context, builder, signature, args: builder.bitcast(args[0], context.get_value_type(target))

    return fma, bits, from_bits


fma, bits, from_bits = instructions(intrinsic)


def has(feature):
    """Whether kernels may use instructions ("fma" or "f16c") that LLVM would else make slow calls of."""
    features = config.CPU_FEATURES
    if features is None:
        features = llvmlite.binding.get_host_cpu_features().flatten()
    return f"+{feature}," in f"{features}," or llvmlite.binding.get_process_triple().startswith(("aarch64", "arm64"))


@intrinsic
def half_to_float(typing, h):
    def generate(context, builder, signature, args):
        return builder.fpext(builder.bitcast(args[0], ir.HalfType()), ir.FloatType())

    return types.float32(types.uint16), generate


@intrinsic
def float_to_half(typing, x):
    def generate(context, builder, signature, args):
        return builder.bitcast(builder.fptrunc(args[0], ir.HalfType()), ir.IntType(16))

    return types.uint16(types.float32), generate


def machine(T):
    """What numba_scalar.formulas needs for kernels on this CPU."""
    if has("fma"):
        muladd = fused = fma
    else:

        @compiled
        def muladd(a, b, c):
            return a * b + c

        if T is np.float32:

            @compiled
            def fused(a, b, c):
                return np.float32(np.float64(a) * np.float64(b) + np.float64(c))

        else:
            fused = compiled(split_fused(T, bits, from_bits))
    return SimpleNamespace(compiled=compiled, muladd=muladd, fused=fused, bits=bits, from_bits=from_bits,
                           square_root=np.sqrt, with_sign=np.copysign)  # fmt: skip


# --- Kernels ----------------------------------------------------------------------------------------------------------


@intrinsic
def as_kernel(typing):
    """To be called first in a loop over arrays that are the same or do not overlap: it may then be vectorised."""

    def generate(context, builder, signature, args):
        function = builder.function
        function.attributes.add("noinline")
        # llvmlite knows attributes that are single words only.
        set.add(function.attributes, f'"prefer-vector-width"="{VECTOR_BITS}"')
        for argument in function.args:
            if argument.type.is_pointer:
                argument.add_attribute("noalias")
        return context.get_dummy_value()

    return types.void(), generate


# --- Memory -----------------------------------------------------------------------------------------------------------


def pointer(builder, address, kind):
    return builder.inttoptr(address, kind.as_pointer())


@functools.cache
def pointers(T):
    """A function that makes a pointer to numbers of a NumPy type of an address: an array that takes half as long to compile."""
    kind = types.CPointer(from_dtype(np.dtype(T)))

    @intrinsic
    def at(typing, address):
        return kind(types.intp), lambda context, builder, signature, args: builder.inttoptr(args[0], context.get_value_type(kind))

    return at


doubles = pointers(np.float64)


@compiled
def assign(to, source, n):
    for i in range(n):
        to[i] = source[i]


@compiled
def fill(to, number, n):
    for i in range(n):
        to[i] = number


@intrinsic
def load(typing, kind, address):
    """The number of that type at an address, which need not be a multiple of its size."""
    number = kind.dtype

    def generate(context, builder, signature, args):
        value = builder.load(pointer(builder, args[1], context.get_value_type(number)))
        value.align = 1
        return value

    return number(kind, types.intp), generate


@intrinsic
def store(typing, kind, address, value):
    number = kind.dtype

    def generate(context, builder, signature, args):
        builder.store(args[2], pointer(builder, args[1], context.get_value_type(number)), align=1)
        return context.get_dummy_value()

    return types.void(kind, types.intp, number), generate


@intrinsic
def word(typing, address, offset):
    """The integer that far from an address: load(np.int64, address + offset), which takes longer to compile."""

    def generate(context, builder, signature, args):
        return builder.load(pointer(builder, builder.add(*args), WORD))

    return types.intp(types.intp, types.intp), generate


@intrinsic
def real(typing, address, offset):
    """The same for a float64."""

    def generate(context, builder, signature, args):
        return builder.load(pointer(builder, builder.add(*args), ir.DoubleType()))

    return types.float64(types.intp, types.intp), generate


@intrinsic
def keep(typing, address, offset, value):
    """Store an integer, or a float64, that far from an address."""
    kept = types.float64 if isinstance(value, types.Float) else types.intp

    def generate(context, builder, signature, args):
        builder.store(args[2], pointer(builder, builder.add(*args[:2]), args[2].type))
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, kept), generate


@intrinsic(prefer_literal=True)
def stack(typing, size):
    """The address of that many bytes for as long as the function runs, a multiple of 64."""
    count = size.literal_value

    def generate(context, builder, signature, args):
        with builder.goto_entry_block():
            memory = builder.alloca(ir.ArrayType(ir.IntType(8), count))
            memory.align = 64
        return builder.ptrtoint(memory, WORD)

    return types.intp(size), generate


def store_past_cache(builder, vector, place):
    saved = builder.store(vector, place, align=64)
    saved.set_metadata("nontemporal", builder.module.add_metadata([ir.IntType(32)(1)]))


def prefetch(builder, address):
    """Call memory to the first-level cache, to be read."""
    byte, i32 = ir.IntType(8).as_pointer(), ir.IntType(32)
    kind = ir.FunctionType(ir.VoidType(), [byte, i32, i32, i32])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
    builder.call(function, [builder.inttoptr(address, byte), i32(0), i32(3), i32(1)])


@intrinsic
def prefetch_line(typing, address):
    """The same of the 64 bytes around an address."""

    def generate(context, builder, signature, args):
        prefetch(builder, args[0])
        return context.get_dummy_value()

    return types.void(types.intp), generate


TILE = 8


@intrinsic
def transpose_tile(typing, kind, source, source_step, target, target_step):
    """Make rows of TILE columns of as many numbers; the steps are those from column to column and from row to row."""

    def generate(context, builder, signature, args):
        vector = ir.VectorType(context.get_value_type(kind.dtype), TILE)
        _, source, source_step, target, target_step = args

        def place(address, step, k):
            return pointer(builder, builder.add(address, builder.mul(step, WORD(k))), vector)

        lines = [builder.load(place(source, source_step, k)) for k in range(TILE)]
        for line in lines:
            line.align = 1
        # Each round interleaves the first half of all numbers with the second: row and column of each change a bit.
        order = [ir.Constant(ir.VectorType(ir.IntType(32), TILE), [k // 2 + k % 2 * TILE for k in range(first, first + TILE)])
                 for first in (0, TILE)]  # fmt: skip
        for _ in range(TILE.bit_length() - 1):
            lines = [builder.shuffle_vector(a, b, mask) for a, b in zip(lines, lines[TILE // 2 :]) for mask in order]
        for k, line in enumerate(lines):
            builder.store(line, place(target, target_step, k), align=1)
        return context.get_dummy_value()

    return types.void(kind, types.intp, types.intp, types.intp, types.intp), generate


@intrinsic
def stream_line(typing, target, source):
    """Copy 64 bytes to a multiple of 64, past the cache."""
    vector = ir.VectorType(ir.FloatType(), 16)

    def generate(context, builder, signature, args):
        value = builder.load(pointer(builder, args[1], vector))
        value.align = 4
        store_past_cache(builder, value, pointer(builder, args[0], vector))
        return context.get_dummy_value()

    return types.void(types.intp, types.intp), generate


@intrinsic
def fence(typing):
    def generate(context, builder, signature, args):
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), generate


# --- Atomic words -----------------------------------------------------------------------------------------------------


@intrinsic
def atomic_load(typing, address):
    def generate(context, builder, signature, args):
        return builder.load_atomic(pointer(builder, args[0], WORD), "seq_cst", 8)

    return types.intp(types.intp), generate


@intrinsic
def atomic_store(typing, address, value):
    def generate(context, builder, signature, args):
        builder.store_atomic(args[1], pointer(builder, args[0], WORD), "seq_cst", 8)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp), generate


@intrinsic
def atomic_add(typing, address, value):
    """The word before."""

    def generate(context, builder, signature, args):
        return builder.atomic_rmw("add", pointer(builder, args[0], WORD), args[1], "seq_cst")

    return types.intp(types.intp, types.intp), generate


@intrinsic
def atomic_exchange(typing, address, value):
    """The word before."""

    def generate(context, builder, signature, args):
        return builder.atomic_rmw("xchg", pointer(builder, args[0], WORD), args[1], "seq_cst")

    return types.intp(types.intp, types.intp), generate


@intrinsic
def pause(typing):
    """A moment's wait that leaves the core to its other thread."""
    on_x86 = llvmlite.binding.get_process_triple().startswith(("x86_64", "i686"))

    def generate(context, builder, signature, args):
        if on_x86:
            function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(ir.VoidType(), []), "llvm.x86.sse2.pause")
            builder.call(function, [])
        return context.get_dummy_value()

    return types.void(), generate


# --- Calls ------------------------------------------------------------------------------------------------------------


@intrinsic
def call(typing, address, arguments):
    """Call a C function that takes 64-bit integers and returns nothing that matters."""

    def generate(context, builder, signature, args):
        words = cgutils.unpack_tuple(builder, args[1])
        function = ir.FunctionType(ir.VoidType(), [WORD] * len(words))
        builder.call(builder.inttoptr(args[0], function.as_pointer()), words)
        return context.get_dummy_value()

    return types.void(types.intp, arguments), generate


def _call_for(typing, arguments, result):
    def generate(context, builder, signature, args):
        words = cgutils.unpack_tuple(builder, args[1])
        function = ir.FunctionType(result, [WORD] * len(words))
        value = builder.call(builder.inttoptr(args[0], function.as_pointer()), words)
        return value if result is WORD else builder.sext(value, WORD)

    return types.intp(types.intp, arguments), generate


@intrinsic
def call_for_int(typing, address, arguments):
    """The same for one that returns a C int."""
    return _call_for(typing, arguments, ir.IntType(32))


@intrinsic
def call_for_word(typing, address, arguments):
    """The same for one that returns a pointer."""
    return _call_for(typing, arguments, WORD)


def c_function(name):
    """The address of a function of the C library."""
    library = ctypes.CDLL("ucrtbase" if os.name == "nt" else None)
    return ctypes.cast(getattr(library, name), ctypes.c_void_p).value


C_MALLOC, C_FREE, C_CLEAR_STATUS = (c_function(name) for name in ("malloc", "free", "feclearexcept"))


# --- Sums -------------------------------------------------------------------------------------------------------------


def _adding(kind, term):
    """Code for (kind, address of each array, count, totals) that adds up terms, which ``term`` makes of vectors of float64."""
    number = kind.dtype
    size = number.bitwidth // 8
    lanes = 64 // size
    doubles = ir.VectorType(ir.DoubleType(), lanes)

    def generate(context, builder, signature, args):
        numbers = ir.VectorType(context.get_value_type(number), lanes)
        *sources, count, totals = args[1:]
        addresses = [totals, builder.add(totals, WORD(8 * lanes))]
        kept = [cgutils.alloca_once(builder, doubles) for _ in addresses]
        for address, memory in zip(addresses, kept):
            value = builder.load(pointer(builder, address, doubles))
            value.align = 8
            builder.store(value, memory)
        with cgutils.for_range_slice(builder, WORD(0), count, WORD(lanes), WORD) as (index, _):
            vectors = [builder.load(pointer(builder, builder.add(source, builder.mul(index, WORD(size))), numbers)) for source in sources]
            for vector in vectors:
                vector.align = size
            before = builder.load(kept[0])
            if number == types.float32:
                x = term(builder, *(builder.fpext(vector, doubles) for vector in vectors))
                builder.store(builder.fadd(before, x), kept[0])
            else:
                x = term(builder, *vectors)
                after = builder.fadd(before, x)
                share = builder.fsub(after, before)
                lost = builder.fadd(builder.fsub(before, builder.fsub(after, share)), builder.fsub(x, share))
                builder.store(after, kept[0])
                builder.store(builder.fadd(builder.load(kept[1]), lost), kept[1])
        for address, memory in zip(addresses, kept):
            builder.store(builder.load(memory), pointer(builder, address, doubles), align=8)
        return context.get_dummy_value()

    return generate


@intrinsic
def add_lanes(typing, kind, source, count, totals):
    """Add count numbers, a multiple of LANES = 64 / size, to sums in LANES lanes; lane j takes j, j + LANES, ...

    As reductions.h does: float32 in float64, float64 with its rounding errors in as many numbers again.
    """
    return types.void(kind, types.intp, types.intp, types.intp), _adding(kind, lambda builder, x: x)


@intrinsic
def add_falling_lanes(typing, kind, grad, source, count, totals):
    """The same for the products of numbers with their gradients, where the numbers are not positive."""

    def term(builder, g, x):
        zero = ir.Constant(x.type, [0.0] * x.type.count)
        return builder.select(builder.fcmp_ordered(">", x, zero), zero, builder.fmul(g, x))

    return types.void(kind, types.intp, types.intp, types.intp, types.intp), _adding(kind, term)


def halves(builder, vector):
    half = vector.type.count // 2
    return [builder.shuffle_vector(vector, vector, ir.Constant(ir.VectorType(ir.IntType(32), half), list(range(first, first + half))))
            for first in (0, half)]  # fmt: skip


@intrinsic
def add_up_lanes(typing, kind, totals):
    """The sum of the lanes that add_lanes left, halves first, and what rounding took from it; an infinite sum has no rest."""
    lanes = 512 // kind.dtype.bitwidth
    compensated = kind.dtype == types.float64

    def generate(context, builder, signature, args):
        doubles = ir.VectorType(ir.DoubleType(), lanes)

        def loaded(address):
            value = builder.load(pointer(builder, address, doubles))
            value.align = 8
            return value

        total, low = loaded(args[1]), loaded(builder.add(args[1], WORD(8 * lanes)))
        while total.type.count > 1:
            a, b = halves(builder, total)
            total = builder.fadd(a, b)
            if compensated:
                share = builder.fsub(total, a)
                lost = builder.fadd(builder.fsub(a, builder.fsub(total, share)), builder.fsub(b, share))
                low_a, low_b = halves(builder, low)
                low = builder.fadd(builder.fadd(low_a, low_b), lost)
        total, low = (builder.extract_element(vector, ir.Constant(ir.IntType(32), 0)) for vector in (total, low))
        rest = ir.Constant(ir.DoubleType(), 0.0)
        if compensated:
            whole = builder.fadd(total, low)
            finite = builder.fcmp_ordered("ord", whole, whole)
            rest = builder.select(finite, builder.fsub(low, builder.fsub(whole, total)), rest)
            total = builder.select(finite, whole, total)
        return context.make_tuple(builder, signature.return_type, (total, rest))

    return types.UniTuple(types.float64, 2)(kind, totals), generate
