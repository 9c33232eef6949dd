"""Vectors of AVX-512 in code that Numba's kernels are generated with: sixteen floats, or eight doubles."""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba.core import cgutils

LANES = 16
FLOAT, DOUBLE, INT, LONG = ir.FloatType(), ir.DoubleType(), ir.IntType(32), ir.IntType(64)
FLOATS, INTS = ir.VectorType(FLOAT, LANES), ir.VectorType(INT, LANES)


class Vector:
    """A vector in the code that a builder makes; numbers beside it stand for vectors."""

    def __init__(self, builder, value):
        self.builder, self.value = builder, value

    def of(self, other):
        """The LLVM value of another vector or number."""
        return other.value if isinstance(other, Vector) else self.constant([other] * self.count)

    @classmethod
    def constant(cls, numbers):
        return ir.Constant(cls.kind, [float(cls.T(number)) for number in numbers])  # as LLVM takes a float's constant

    def made(self, value):
        return type(self)(self.builder, value)

    def __add__(self, other):
        return self.made(self.builder.fadd(self.value, self.of(other)))

    def __sub__(self, other):
        return self.made(self.builder.fsub(self.value, self.of(other)))

    def __rsub__(self, other):
        return self.made(self.builder.fsub(self.of(other), self.value))

    def __mul__(self, other):
        return self.made(self.builder.fmul(self.value, self.of(other)))

    def __neg__(self):
        return self.made(self.builder.fneg(self.value))

    def __rtruediv__(self, other):
        return self.made(self.builder.fdiv(self.of(other), self.value))

    __radd__, __rmul__ = __add__, __mul__

    def compared(self, relation, other):
        return self.builder.fcmp_unordered(relation, self.value, self.of(other))

    def call(self, name, result, *arguments):
        kind = ir.FunctionType(result, [argument.type for argument in arguments])
        return self.made(self.builder.call(cgutils.get_or_insert_function(self.builder.module, kind, name), arguments))

    def bits(self):
        return self.builder.bitcast(self.value, self.integers)

    def from_bits(self, bits):
        return self.made(self.builder.bitcast(bits, self.kind))

    def integer(self, number):
        return ir.Constant(self.integers, [number] * self.count)


class Floats(Vector):
    T, count, kind, integers, suffix = np.float32, LANES, FLOATS, INTS, "v16f32"
    permutations, packed = ("llvm.x86.avx512.permvar.sf.512", "llvm.x86.avx512.vpermi2var.ps.512"), "ps"


class Doubles(Vector):
    T, count, kind, integers, suffix = np.float64, LANES // 2, ir.VectorType(DOUBLE, LANES // 2), ir.VectorType(LONG, LANES // 2), "v8f64"
    permutations, packed = ("llvm.x86.avx512.permvar.df.512", "llvm.x86.avx512.vpermi2var.pd.512"), "pd"


def chosen(mask, a, b):
    """a where the mask is set, else b, one of which must be a vector."""
    vector = a if isinstance(a, Vector) else b
    return vector.made(vector.builder.select(mask, vector.of(a), vector.of(b)))


def times_plus(a, b, c):
    vector = next(v for v in (a, b, c) if isinstance(v, Vector))
    return vector.call(f"llvm.fma.{vector.suffix}", vector.kind, vector.of(a), vector.of(b), vector.of(c))


def times_minus(a, b, c):
    return times_plus(a, b, -c)


def minus_times(a, b, c):
    return times_plus(-a, b, c)


def estimated(name, x):
    """rcp14 or rsqrt14, good to 2^-14"""
    everywhere = ir.Constant(ir.IntType(x.count), -1)
    return x.call(f"llvm.x86.avx512.{name}.{x.packed}.512", x.kind, x.value, x.value, everywhere)


def negative(x):
    """Whether the sign is set. For the opposite LLVM compares with -1, which it makes from a register that may wait for the vector before."""
    return x.builder.icmp_signed("<", x.bits(), x.integer(0))


def absolute(x):
    return x.call(f"llvm.fabs.{x.suffix}", x.kind, x.value)


def with_sign_of(x, sign):
    mask = sign.builder.and_(sign.bits(), sign.integer(-(1 << (512 // sign.count - 1))))
    return x.from_bits(x.builder.xor(x.bits(), mask))


def at_most(x, limit):
    return _bounded(x, limit, "<")


def at_least(x, limit):
    return _bounded(x, limit, ">")


def _bounded(x, limit, relation):
    """The limit where it is so related to x; NaN stays."""
    return chosen(x.builder.fcmp_ordered(relation, x.of(limit), x.value), limit, x)


def rising_to_one(x, y):
    """From what a function is for -|x|."""
    return chosen(x.compared(">=", 0), 1 - y, y)


def looked_up(x, row, place):
    """The number of a table's row at each place, whose last bits count."""
    if len(row) > 2 * x.count:
        second = x.builder.icmp_signed("!=", x.builder.and_(place, x.integer(2 * x.count)), x.integer(0))
        return chosen(second, looked_up(x, row[2 * x.count :], place), looked_up(x, row[: 2 * x.count], place))
    parts = [x.constant(row[k : k + x.count]) for k in range(0, len(row), x.count)]
    name = x.permutations[len(parts) - 1]
    return x.call(name, x.kind, parts[0], place, *parts[1:])
