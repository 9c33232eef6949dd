"""What the kernels are made of on a GPU: every place where Numba's Python does not suffice, and LLVM's instructions do.

A kernel comes from a factory that takes a ``Target``. This one compiles with numba.cuda; the emulator of the tests is another,
under which the same source runs in plain Python.
"""

from __future__ import annotations

import functools
import math
from types import SimpleNamespace

import numpy as np
from llvmlite import ir
from numba import cuda, types
from numba.cuda.extending import intrinsic

from . import cuda_intervals, numba_half, numba_loss_formulas, numba_scalar
from .cuda_kernels import SIZES, VECTOR, Target
from .numba_intrinsics import instructions
from .tables import table

WORD, HALF_WORD, QUARTER = ir.IntType(64), ir.IntType(32), ir.IntType(16)
GLOBAL_MEMORY, SHARED_MEMORY = 1, 3
"""Their address spaces. An address that is not said to be there could be anywhere, which is slower."""


# --- The tables of cuda_intervals.py ----------------------------------------------------------------------------------


def _table_memory(builder, name, space):
    """A pointer to a table, or to the block's copy of it: one in all that a kernel consists of."""
    symbol, found = f"fastact_{name}_{space}", builder.module.globals
    if symbol not in found:
        rows = [[float(np.float32(number)) for number in row] for row in table(name)]
        kind = ir.ArrayType(ir.ArrayType(ir.FloatType(), len(rows[0])), len(rows))
        memory = ir.GlobalVariable(builder.module, kind, symbol, space)
        memory.initializer = ir.Constant(kind, rows if space == GLOBAL_MEMORY else ir.Undefined)
        memory.linkage, memory.align = "linkonce_odr", VECTOR
    return found[symbol]


@functools.cache
def lookup(name):
    """The function of a row and a place in the block's copy of a table."""

    @intrinsic
    def number(typing, row, place):
        def generate(context, builder, signature, args):
            return builder.load(builder.gep(_table_memory(builder, name, SHARED_MEMORY), [WORD(0), *args], inbounds=True))

        return types.float32(types.int64, types.int64), generate

    return number


@functools.cache
def copy_tables(names):
    """The function of a thread's number that copies its share of the tables, of which there is one for 4 numbers."""
    vector = ir.VectorType(ir.FloatType(), VECTOR // 4)

    @intrinsic
    def copied(typing, thread):
        def generate(context, builder, signature, args):
            for name in names:
                share = WORD(sum(map(len, table(name))) * 4 // VECTOR)
                source, target = (
                    builder.gep(builder.bitcast(_table_memory(builder, name, space), ir.PointerType(vector, space)), [args[0]])
                    for space in (GLOBAL_MEMORY, SHARED_MEMORY))  # fmt: skip
                with builder.if_then(builder.icmp_unsigned("<", args[0], share)):
                    builder.store(builder.load(source, align=VECTOR), target, align=VECTOR)
            return context.get_dummy_value()

        return types.void(types.int64), generate

    return copied


# --- The machine of numba_scalar.py -----------------------------------------------------------------------------------


def device_function(function):
    """A function for use inside kernels."""
    return cuda.jit(device=True)(function)


fma, bits, from_bits = instructions(intrinsic)


def approximate(instruction):
    """An instruction on float32 that is right to 2 units in the last place, and takes and gives 0 for subnormal numbers."""

    @intrinsic
    def value(typing, x):
        def generate(context, builder, signature, args):
            kind = ir.FunctionType(ir.FloatType(), [ir.FloatType()])
            return builder.call(ir.InlineAsm(kind, f"{instruction}.approx.ftz.f32 $0, $1;", "=f,f"), args)

        return types.float32(types.float32), generate

    return value


MACHINE = SimpleNamespace(compiled=device_function, muladd=fma, fused=fma, bits=bits, from_bits=from_bits,
                          square_root=math.sqrt, with_sign=math.copysign, exp2=approximate("ex2"), reciprocal=approximate("rcp"),
                          reciprocal_root=approximate("rsqrt"), lookup=lookup)  # fmt: skip


@intrinsic
def quotient(typing, a, b):
    """a // b of words that are not negative."""
    return types.int64(types.int64, types.int64), lambda context, builder, signature, args: builder.udiv(*args)


@intrinsic
def within(typing, i, n):
    """0 <= i < n, of an n that is not negative."""
    return types.boolean(types.int64, types.int64), lambda context, builder, signature, args: builder.icmp_unsigned("<", *args)


# --- Memory -----------------------------------------------------------------------------------------------------------


def pointer(builder, address, kind):
    return builder.inttoptr(address, ir.PointerType(kind, GLOBAL_MEMORY))


@intrinsic
def load(typing, kind, address):
    """The number of that type at an address."""
    number = kind.dtype

    def generate(context, builder, signature, args):
        return builder.load(pointer(builder, args[1], context.get_value_type(number)))

    return number(kind, types.int64), generate


@intrinsic
def store(typing, kind, address, value):
    number = kind.dtype

    def generate(context, builder, signature, args):
        builder.store(args[2], pointer(builder, args[1], context.get_value_type(number)))
        return context.get_dummy_value()

    return types.void(kind, types.int64, number), generate


def _widen(builder, storage, number):
    """A number of 16 bits as float."""
    if storage == "float16":
        return builder.fpext(builder.bitcast(number, ir.HalfType()), ir.FloatType())
    return builder.bitcast(builder.shl(builder.zext(number, HALF_WORD), HALF_WORD(16)), ir.FloatType())


def _narrow(builder, storage, number, has_bfloat16):
    """A float as a number of 16 bits, rounded to nearest even."""
    if storage == "float16":
        return builder.bitcast(builder.fptrunc(number, ir.HalfType()), QUARTER)
    if has_bfloat16:
        kind = ir.FunctionType(QUARTER, [ir.FloatType()])
        return builder.call(ir.InlineAsm(kind, "cvt.rn.bf16.f32 $0, $1;", "=h,f"), [number])
    word = builder.bitcast(number, HALF_WORD)
    odd = builder.and_(builder.lshr(word, HALF_WORD(16)), HALF_WORD(1))
    rounded = builder.lshr(builder.add(word, builder.add(odd, HALF_WORD(0x7FFF))), HALF_WORD(16))
    quiet = builder.or_(builder.lshr(word, HALF_WORD(16)), HALF_WORD(0x40))
    return builder.trunc(builder.select(builder.fcmp_unordered("uno", number, number), quiet, rounded), QUARTER)


def _element(context, builder, array_type, array, first, k):
    """A pointer to an element of an array in registers."""
    data = context.make_array(array_type)(context, builder, array).data
    return builder.gep(data, [builder.add(first, WORD(k))])


def memory_access(storage, width, has_bfloat16):
    """read(values, first, address) and write(address, values, first), of ``width`` numbers of a storage at once.

    ``values`` is an array in registers of the type in which the numbers are computed.
    """
    size = SIZES[storage]
    half = size == 2
    # Pairs of half numbers, since vectors of them would be read in two instructions.
    unit = {2: QUARTER, 4: ir.FloatType(), 8: ir.DoubleType()}[size] if not half or width == 1 else HALF_WORD
    units = width if not half or width == 1 else width // 2
    whole = unit if units == 1 else ir.VectorType(unit, units)
    alignment = size * width

    @intrinsic
    def read(typing, values, first, address):
        def generate(context, builder, signature, args):
            loaded = builder.load(pointer(builder, args[2], whole), align=alignment)
            parts = [loaded] if units == 1 else [builder.extract_element(loaded, HALF_WORD(k)) for k in range(units)]
            if half and unit is HALF_WORD:
                parts = [builder.trunc(number, QUARTER) for part in parts for number in (part, builder.lshr(part, HALF_WORD(16)))]
            for k, part in enumerate(parts):
                value = _widen(builder, storage, part) if half else part
                builder.store(value, _element(context, builder, values, args[0], args[1], k))
            return context.get_dummy_value()

        return types.void(values, types.int64, types.int64), generate

    @intrinsic
    def write(typing, address, values, first):
        def generate(context, builder, signature, args):
            numbers = [builder.load(_element(context, builder, values, args[1], args[2], k)) for k in range(width)]
            if half:
                numbers = [_narrow(builder, storage, number, has_bfloat16) for number in numbers]
            if half and unit is HALF_WORD:
                wide = [builder.zext(number, HALF_WORD) for number in numbers]
                numbers = [builder.or_(low, builder.shl(high, HALF_WORD(16))) for low, high in zip(wide[::2], wide[1::2])]
            value = numbers[0]
            if units > 1:
                value = ir.Constant(whole, ir.Undefined)
                for k, number in enumerate(numbers):
                    value = builder.insert_element(value, number, HALF_WORD(k))
            builder.store(value, pointer(builder, args[0], whole), align=alignment)
            return context.get_dummy_value()

        return types.void(types.int64, values, types.int64), generate

    return SimpleNamespace(read=read, write=write, size=size, width=width, bytes=alignment)


# --- The target -------------------------------------------------------------------------------------------------------


def target(capability):
    """What factories of kernels build on, for GPUs of a compute capability such as (9, 0)."""
    return _target(has_bfloat16=capability >= (8, 0))


@functools.cache
def _target(has_bfloat16):
    @functools.cache
    def access(storage, width):
        return memory_access(storage, width, has_bfloat16)

    @functools.cache
    def formulas(storage):
        return numba_half.formulas(storage, MACHINE)

    @functools.cache
    def intervals():
        return cuda_intervals.formulas(formulas("float32"), MACHINE)

    @functools.cache
    def loss_formulas(storage):
        return numba_loss_formulas.formulas(np.float64 if storage == "float64" else np.float32, MACHINE)

    @functools.cache
    def integer_formulas(name):
        return numba_scalar.integer_formulas(np.dtype(name).type, device_function)

    @device_function
    def single(word):
        return from_bits(types.int32(word))

    return Target(
        cuda=cuda, word=types.int64, device=device_function, load=load, store=store, quotient=quotient, within=within, access=access,
        formulas=formulas, intervals=intervals, copy_tables=copy_tables, integer_formulas=integer_formulas, loss_formulas=loss_formulas, fma=fma, exp2=MACHINE.exp2, log1p=math.log1p,
        number=lambda storage: types.float64 if storage == "float64" else types.float32, integer=lambda name: getattr(types, name),
        from_word=lambda storage: from_bits if storage == "float64" else single, bits=bits, from_bits=from_bits,
    )  # fmt: skip
