"""Loops over the functions of numba_avx512.py and numba_avx512_doubles.py, as by_hand_loops.h has them for by_hand.h."""

from __future__ import annotations

import functools
import math

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from . import numba_avx512, numba_avx512_doubles
from .numba_intrinsics import array_loop, as_kernel, has, load, pointer, prefetch, stack, store, store_past_cache
from .numba_vectors import Doubles, Floats, absolute, at_least, at_most, chosen

FUNCTIONS = {np.float32: numba_avx512, np.float64: numba_avx512_doubles}
VECTORS = {np.float32: Floats, np.float64: Doubles}


def times_gate(m, y):
    """A gate that is shut lets nothing through, were it infinite."""
    shut, large = y.builder.fcmp_ordered("==", y.value, y.of(0)), FUNCTIONS[y.T].LARGE
    return chosen(shut, at_least(at_most(m, large), -large), m) * y


def values(name, vectors, near_times, far_times):
    """near_times(k, y) of what the function gives for each vector, but far_times where it is far."""
    functions = FUNCTIONS[vectors[0].T]
    name = functions.ALIASES.get(name, name)
    builder, near, end = vectors[0].builder, getattr(functions, f"{name}_near"), functions.ENDS[name]
    results = [near_times(k, near(x)) for k, x in enumerate(vectors)]
    if end == math.inf:
        return results
    far = getattr(functions, f"{name}_far")
    masks = [absolute(x).compared(">", end) if end > 0 else x.compared("<", end) for x in vectors]
    memory = [cgutils.alloca_once_value(builder, result.value) for result in results]
    for slot in memory:
        slot.align = 64
    bits = ir.IntType(vectors[0].count)
    some = [builder.bitcast(mask, bits) for mask in masks]
    with builder.if_then(builder.icmp_unsigned("!=", functools.reduce(builder.or_, some), bits(0)), likely=False):
        for k, (x, mask, result, slot) in enumerate(zip(vectors, masks, results, memory)):
            with builder.if_then(builder.icmp_unsigned("!=", some[k], bits(0))):
                builder.store(chosen(mask, far_times(k, far(x)), result).value, slot)
    return [x.made(builder.load(slot)) for x, slot in zip(vectors, memory)]


AHEAD = 4096
"""Bytes by which the next elements are called to the cache where results go past it; see by_hand_loops.h."""


@functools.cache
def step(name, kind, T, past_cache):
    """What is done for two vectors at the addresses a, b, c, y and z; past_cache, y and z are multiples of 64."""
    made, size = VECTORS[T], np.dtype(T).itemsize
    gates = FUNCTIONS[T].GATED

    def generate(context, builder, signature, args):
        def loaded(address):
            vectors = []
            for offset in 0, 64:
                if past_cache:
                    prefetch(builder, builder.add(address, address.type(offset + AHEAD)))
                value = builder.load(pointer(builder, builder.add(address, address.type(offset)), made.kind))
                value.align = size
                vectors.append(made(builder, value))
            return vectors

        def stored(address, vectors):
            for k, vector in enumerate(vectors):
                place = pointer(builder, builder.add(address, address.type(64 * k)), made.kind)
                if past_cache:
                    store_past_cache(builder, vector.value, place)
                else:
                    builder.store(vector.value, place, align=size)

        a, b, c, y, z = args
        alone = lambda k, value: value  # noqa: E731
        if name not in gates:
            if kind == "backward":
                grad, x = loaded(a), loaded(b)
                stored(y, values(f"{name}_derivative", x, lambda k, v: grad[k] * v, lambda k, v: grad[k] * v))
            else:
                stored(y, values(name if kind == "forward" else f"{name}_derivative", loaded(a), alone, alone))
            return context.get_dummy_value()
        gate, which = gates[name]
        if kind == "forward":
            inputs = loaded(a), loaded(b)
            x, m = inputs[which], inputs[1 - which]
            stored(y, values(gate, x, lambda k, v: m[k] * v, lambda k, v: times_gate(m[k], v)))
            return context.get_dummy_value()
        grad, inputs = loaded(a), (loaded(b), loaded(c))
        x, m = inputs[which], inputs[1 - which]
        both = [g * other for g, other in zip(grad, m)]
        for_m = values(gate, x, lambda k, v: grad[k] * v, lambda k, v: times_gate(grad[k], v))
        for_x = values(f"{gate}_derivative", x, lambda k, v: both[k] * v, lambda k, v: times_gate(both[k], v))
        stored((y, z)[1 - which], for_m)
        stored((y, z)[which], for_x)
        return context.get_dummy_value()

    @intrinsic
    def step_of(typing, a, b, c, y, z):
        return types.void(*[types.intp] * 5), generate

    return step_of


def known(name, kind, T):
    """Whether there is a loop."""
    functions = FUNCTIONS.get(T)
    return (functions is not None and name in {*functions.GATED, *functions.ENDS, *functions.ALIASES}
            and kind in ("forward", "derivative", "backward") and has("avx512f"))  # fmt: skip


def loop(name, kind, T, past_cache=False):
    """A loop over contiguous memory, for parameters that have their default values. Results that go past the cache begin at
    multiples of 64 bytes.
    """
    of_step, of_rest = step(name, kind, T, past_cache), step(name, kind, T, False)
    gated = name in FUNCTIONS[T].GATED
    inputs = {"forward": 1, "derivative": 1, "backward": 2}[kind] + gated
    outputs = 2 if gated and kind == "backward" else 1
    size, both = np.dtype(T).itemsize, 128  # bytes of two vectors
    whole_step = both // size

    @array_loop
    def run(a, b, c, y, z, n):
        as_kernel()
        whole = n // whole_step * whole_step * size
        for i in range(0, whole, both):
            of_step(a + i, b + i, c + i, y + i, z + i)
        rest = n * size - whole
        if rest:
            rest_a, rest_b, rest_c, rest_y, rest_z = stack(both), stack(both), stack(both), stack(both), stack(both)
            for i in range(0, both, size):
                inside = i < rest
                store(T, rest_a + i, load(T, a + whole + i) if inside else T(0))
                if inputs > 1:
                    store(T, rest_b + i, load(T, b + whole + i) if inside else T(0))
                if inputs > 2:
                    store(T, rest_c + i, load(T, c + whole + i) if inside else T(0))
            of_rest(rest_a, rest_b, rest_c, rest_y, rest_z)
            for i in range(0, rest, size):
                store(T, y + whole + i, load(T, rest_y + i))
                if outputs > 1:
                    store(T, z + whole + i, load(T, rest_z + i))

    return run
