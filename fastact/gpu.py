"""The functions of arrays on a GPU: which kernels they launch, on what."""

from __future__ import annotations

import math

import numpy as np

from ._kernels import cuda_elementwise
from ._kernels.cuda_kernels import SIZES, VECTOR, lanes
from .devices import Call, library_of
from .table import Row

IDENTITY = Row("identity", "Identity function.", "x", "1")  # a copy of the package need not have it among its functions


def number_word(value, dtype):
    """The bits of a number of the type in which arrays of a dtype are computed."""
    if dtype == "float64":
        return int(np.float64(value).view(np.int64))
    with np.errstate(over="ignore"):
        return int(np.float32(value).view(np.int32))


def blocks(count, each):
    """Of ``each``, to hold ``count``."""
    return -(-count // each)


def joined(shape, strides):
    """Shape and strides of arrays, given as one list for each, with those axes made one that can be walked as one."""
    order = sorted((axis for axis, n in enumerate(shape) if n != 1), key=lambda axis: -abs(strides[-1][axis]))
    dims, steps = [], [[] for _ in strides]
    for axis in order:
        n = shape[axis]
        if dims and all(old[-1] == n * new[axis] for old, new in zip(steps, strides)):
            dims[-1] *= n
            for old, new in zip(steps, strides):
                old[-1] = new[axis]
        else:
            dims.append(n)
            for old, new in zip(steps, strides):
                old.append(new[axis])
    return tuple(dims), steps


def apart(call, result, sources):
    """The result itself if elements may be written to it while others of the sources are still to be read, else another."""
    first, last = result.extent
    for source in sources:
        start, end = source.extent
        same = (source.address, source.strides, source.shape) == (result.address, result.strides, result.shape)
        if first < end and start < last and not same:
            return call.new(result.shape, result.dtype)
    return result


def run_elementwise(call, row, kind, dtype, sources, results, numbers, varying):
    """Launch the kernel of a function for operands of one shape."""
    shape = results[0].shape
    count = math.prod(shape)
    if count == 0:
        return
    arrays = [*sources, *results]
    dims, strides = joined(shape, [array.strides for array in arrays])
    words = tuple(number_word(number, dtype) for number in numbers)
    if all(tuple(steps) in ((), (SIZES[dtype],)) for steps in strides):
        width = 1 if any(array.address % VECTOR for array in arrays) else lanes(dtype)
        call.launch(cuda_elementwise.contiguous, (row, kind, dtype, varying, width), blocks(count, cuda_elementwise.THREADS * width),
                    count, tuple(array.address for array in sources), tuple(array.address for array in results), words)  # fmt: skip
    else:
        call.launch(cuda_elementwise.strided, (row, kind, dtype, varying, len(dims)), blocks(count, cuda_elementwise.THREADS),
                    count, dims, tuple(array.address for array in arrays), tuple(step for steps in strides for step in steps),
                    words)  # fmt: skip


def copy(call, source, target):
    """Copy an operand's elements to another's."""
    run_elementwise(call, IDENTITY, "forward", source.dtype, [source], [target], (), ())


def elementwise(function, operands, out=None, stream=None, **keywords):
    """A function of the table, of its inputs and then its parameters."""
    name, inputs = function.__name__, len(function.inputs)
    for keyword in keywords:
        raise TypeError(f"{name}() takes no {keyword} where arrays are on a GPU")
    varying = tuple(library_of(value) is not None for value in operands[inputs:])
    numbers = [value for value, varies in zip(operands[inputs:], varying) if not varies]
    if any(np.ndim(number) for number in numbers):
        raise TypeError(f"the parameters of {name}() must be numbers or arrays on the GPU, as the input is")
    names = [*function.inputs, *function.parameters]
    call = Call(name, {key: value for k, (key, value) in enumerate(zip(names, operands)) if k < inputs or varying[k - inputs]}, stream)
    dtype = call.real(*call.operands)
    shape = np.broadcast_shapes(*(operand.shape for operand in call.operands.values()))
    sources = [operand.broadcast(shape) for operand in call.operands.values()]
    outs = out if isinstance(out, tuple) else (out,) * (out is not None)
    if outs and len(outs) != function.outputs:
        raise ValueError(f"{name}() has {function.outputs} results, not {len(outs)}")
    results = [call.result(out, shape, dtype) for out in outs or (None,) * function.outputs]
    written = [apart(call, result, sources) for result in results]
    run_elementwise(call, function.row, function.kind, dtype, sources, written, numbers, varying)
    for result, array in zip(results, written):
        if array is not result:
            copy(call, array, result)
    found = tuple(result.array for result in results)
    return found if function.outputs > 1 else found[0]
