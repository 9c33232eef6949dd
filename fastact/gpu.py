"""The functions of arrays on a GPU: which kernels they launch, on what."""

from __future__ import annotations

import functools
import itertools
import math
import operator
import struct

import numpy as np
from numpy.lib.array_utils import normalize_axis_index

from ._kernels import cuda_elementwise, cuda_losses, cuda_rows, cuda_simplex
from ._kernels.cuda_kernels import SIZES, VECTOR, WARP, computed_as, lanes
from .backends import NARROW_INTEGERS, learn_bfloat16
from .devices import ITEM_SIZES, Call, library_of, name_of_dtype
from .table import GatedRow, Row

IDENTITY = Row("identity", "Identity function.", "x", "1")  # a copy of the package need not have it among its functions


def number_word(value, dtype):
    """The bits of a number of the type in which arrays of a dtype are computed."""
    value = float(value)
    if dtype == "float64":
        return INT64.unpack(FLOAT64.pack(value))[0]
    try:
        return INT32.unpack(FLOAT32.pack(value))[0]
    except OverflowError:
        return INT32.unpack(FLOAT32.pack(math.copysign(math.inf, value)))[0]


INT32, INT64, FLOAT32, FLOAT64 = (struct.Struct(f"<{code}") for code in "iqfd")  # thrice as fast as NumPy's numbers
PLANS = 1024
"""How many of each kind are remembered: what depends on shapes and strides alone is found once for a layer of a network."""


def blocks(count, each):
    """Of ``each``, to hold ``count``."""
    return -(-count // each)


def joined(shape, strides):
    """Shape and strides of arrays, given as one tuple for each, with those axes made one that can be walked as one."""
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
    return tuple(dims), tuple(map(tuple, steps))


def strides_of(operands):
    return tuple([operand.strides for operand in operands])


def addresses_of(operands):
    return tuple([operand.address for operand in operands])


def flat(strides):
    return tuple(itertools.chain.from_iterable(strides))


@functools.lru_cache(PLANS)
def layout(shape, strides, size=None):
    """The same, the strides of one array after the other; and whether they are all without gaps, of elements of a size."""
    dims, steps = joined(shape, strides)
    return dims, flat(steps), all(step in ((), (size,)) for step in steps)


def meet(one, other):
    """Whether operands may have memory in common."""
    (first, last), (start, end) = one.extent, other.extent
    return first < end and start < last


def apart(call, result, sources):
    """The result itself if elements may be written to it while others of the sources are still to be read, else another."""
    for source in sources:
        same = (source.address, source.strides, source.shape) == (result.address, result.strides, result.shape)
        if not same and meet(source, result):
            return call.new(result.shape, result.dtype)
    return result


def run_elementwise(call, row, kind, dtype, sources, results, numbers, varying):
    """Launch the kernel of a function for operands of one shape."""
    shape = results[0].shape
    count = math.prod(shape)
    if count == 0:
        return
    arrays = [*sources, *results]
    addresses = addresses_of(arrays)
    dims, strides, gapless = layout(shape, strides_of(arrays), SIZES.get(dtype))
    if dtype not in SIZES:
        call.launch(cuda_elementwise.of_integers, (row, dtype, len(dims)), blocks(count, cuda_elementwise.THREADS),
                    count, dims, addresses, strides)  # fmt: skip
        return
    words = tuple([number_word(number, dtype) for number in numbers])
    if gapless:
        width = aligned_lanes(addresses, dtype)
        call.launch(cuda_elementwise.contiguous, (row, kind, dtype, varying, width), blocks(count, cuda_elementwise.THREADS * width),
                    count, addresses[: len(sources)], addresses[len(sources) :], words)  # fmt: skip
    else:
        call.launch(cuda_elementwise.strided, (row, kind, dtype, varying, len(dims)), blocks(count, cuda_elementwise.THREADS),
                    count, dims, addresses, strides, words)  # fmt: skip


def aligned_lanes(addresses, dtype):
    """How many numbers of a dtype can be read at once from all of those addresses."""
    together = 0
    for address in addresses:
        together |= address
    return 1 if together % VECTOR else lanes(dtype)


def copy(call, source, target, mask=None):
    """Copy an operand's elements to another's, which may be of another dtype, where the mask, if there is one, is True."""
    if source.dtype == target.dtype and source.dtype in SIZES and mask is None:
        run_elementwise(call, IDENTITY, "forward", source.dtype, [source], [target], (), ())
    elif target.size:
        arrays = [source, target] + ([] if mask is None else [mask])
        dims, strides, _ = layout(target.shape, strides_of(arrays))
        specification = source.dtype, target.dtype, mask is not None, len(dims)
        call.launch(cuda_elementwise.convert, specification, blocks(target.size, cuda_elementwise.THREADS),
                    target.size, dims, addresses_of(arrays), strides)  # fmt: skip


def copied(call, operand, dtype):
    """A copy of that dtype, in the order of a plain array."""
    made = call.scratch(operand.shape, dtype)
    copy(call, operand, made)
    return made


def as_dtype(call, operand, dtype):
    """The operand, or a copy of that dtype."""
    if operand.dtype == dtype:
        return operand
    if operand.dtype not in ITEM_SIZES:
        raise TypeError(f"{call.name}() takes real numbers of 64 bits at most, not {operand.dtype}")
    return copied(call, operand, dtype)


def broadcast(name, operand, shape):
    """The operand with a shape that it must not make larger."""
    if len(operand.shape) > len(shape) or any(n not in (1, m) for n, m in zip(operand.shape[::-1], shape[::-1])):
        raise ValueError(f"{name} has shape {operand.shape}, which does not broadcast to {shape}")
    return operand.broadcast(shape)


def take_mask(call):
    """That operand of the call, which is one no more, which says where results are wanted or what counts; None for everywhere."""
    mask = call.operands.pop("where", None)
    if mask is not None and mask.dtype != "bool":
        raise TypeError(f"where must be of dtype bool, not {mask.dtype}")
    return mask


def empty_like(x, stream):
    """A new array of the same library, shape and dtype."""
    call = Call("empty_like", {"x": x}, stream)
    return call.new(call.operands["x"].shape, call.operands["x"].dtype).array


@functools.lru_cache(PLANS)
def loop_for(function, arrays, varying, dtype):
    """(dtype that is computed in, dtype of the results), as the ufunc of NumPy's arrays has them.

    ``arrays`` are the dtypes of the operands but for parameters that are numbers, as ``varying`` tells; ``dtype`` is what the
    caller wants.
    """
    first, inputs = arrays[0], len(function.inputs)
    if dtype is None and first in SIZES and arrays[:inputs].count(first) == inputs and {first, computed_as(first)} >= set(arrays):
        return first if arrays.count(first) == len(arrays) else computed_as(first), first
    if "bfloat16" in (*arrays, dtype):
        import ml_dtypes  # noqa: F401  from which NumPy knows it
    learn_bfloat16()
    number = np.dtype(np.float32) if all(np.dtype(kind) in NARROW_INTEGERS for kind in arrays) else float
    results, signature = (None,) * function.outputs, {}
    if dtype is not None:
        signature["signature"] = function.signature_in(dtype)
    given = iter(arrays)
    kinds = [np.dtype(next(given)) if is_array else number for is_array in (*(True,) * inputs, *varying)]
    found = [kind.name for kind in function.ufunc.resolve_dtypes((*kinds, *results), casting="same_kind", **signature)]
    used = {found[k] for k, kind in enumerate(kinds) if kind is not number}
    return found[-1] if used == {found[-1]} else computed_as(found[-1]), found[-1]


def elementwise(function, operands, out=None, stream=None, where=True, dtype=None, **keywords):
    """A function of the table, of its inputs and then its parameters."""
    name, inputs = function.__name__, len(function.inputs)
    for keyword in keywords:
        raise TypeError(f"{name}() takes no {keyword} where arrays are on a GPU")
    arrays, numbers, varying = dict(zip(function.inputs, operands)), [], []
    for (key, _), value in zip(function.row.parameters, operands[inputs:]):
        varies = library_of(value) is not None
        varying.append(varies)
        if varies:
            arrays[key] = value
        elif type(value) is float or np.ndim(value) == 0:
            numbers.append(value)
        else:
            raise TypeError(f"the parameters of {name}() must be numbers or arrays on the GPU, as the input is")
    call = Call(name, arrays if where is True else arrays | {"where": where}, stream)
    mask = take_mask(call)
    kinds = [operand.dtype for operand in call.operands.values()]
    computed, dtype = loop_for(function, tuple(kinds), tuple(varying), None if dtype is None else name_of_dtype(dtype))
    shapes = {operand.shape for operand in call.operands.values()}
    if mask is not None:
        shapes.add(mask.shape)
    shape = shapes.pop() if len(shapes) == 1 else np.broadcast_shapes(*shapes)
    outs = out if isinstance(out, tuple) else (out,) * (out is not None)
    if outs and len(outs) != function.outputs:
        raise ValueError(f"{name}() has {function.outputs} results, not {len(outs)}")
    results = [call.result(out, shape, dtype, may_cast=True) for out in outs or (None,) * function.outputs]
    sources = [as_dtype(call, operand, computed).broadcast(shape) for operand in call.operands.values()]
    written = results
    if outs or computed != dtype or mask is not None:
        written = [apart(call, result, sources) if result.dtype == computed and mask is None else call.scratch(shape, computed)
                   for result in results]  # fmt: skip
    kind = function.kind
    if isinstance(function.row, GatedRow):
        kind = "gated" + kind.removeprefix("forward").replace("backward", "_backward")
    run_elementwise(call, function.row, kind, computed, sources, written, numbers, tuple(varying))
    for result, array in zip(results, written):
        if array is not result:
            copy(call, array, result, None if mask is None else mask.broadcast(shape))
    return call.finished(*results)


# --- Rows -------------------------------------------------------------------------------------------------------------

HELD = {2: 16, 4: 16, 8: 8}
"""How many numbers of each size a thread keeps in registers."""
TEAMS = (8, WARP, 128, 512)
LOOPED = {2: 512, 4: 512, 8: 256}
"""The team of a row that registers do not hold. Numbers of 64 bits take two registers, and addresses of loops many."""
MANY_ROWS = 4096
"""From so many on a thread for each is enough, if their elements are apart."""
PEELED = 512
"""Elements from which on rows that begin beside multiples of 16 bytes are read 16 at once all the same, but for their ends. Up to
here a warp holds the row by single elements; not measured yet."""


@functools.lru_cache(PLANS)
def rows_of(shape, axis, strides):
    """(rows, n, inner count, strides of the operands): of outer rows, of inner rows and along the axis.

    Operands without the axis have 0 for the last. None if rows do not fit into two levels.
    """
    along, others = [], []
    for steps in strides:
        has_axis = len(steps) == len(shape)
        along.append(steps[axis] if has_axis else 0)
        others.append(steps[:axis] + steps[axis + 1 :] if has_axis else steps)
    dims, strides = joined(shape[:axis] + shape[axis + 1 :], tuple(others))
    if len(dims) > 2:
        return None
    outer, inner = (*dims, 1, 1)[:2]
    return outer * inner, shape[axis], inner, [((*steps, 0, 0)[:2] + (step,)) for steps, step in zip(strides, along)]


def team_for(rows, n, size, width, apart, sources=1):
    """(team, vectors, looped) for rows of n elements; ``apart`` if these do not follow each other."""
    held = HELD[size] // sources
    if apart and (rows >= MANY_ROWS or n <= 2 * held):
        return 1, min(8, held), True
    for team in TEAMS:
        vectors = 1
        while vectors * width <= held:
            if team * width * vectors >= n:
                return team, vectors, False
            vectors *= 2
    return LOOPED[size], max(1, held // 2 // width), True


def plan_of_rows(shape, axis, operands, dtype, sources=1):
    """How a kernel goes over rows of operands: (rows, n, inner count, strides), (width, vectors, team, looped, inner) and the grid.

    None if rows do not fit into two levels.
    """
    full = tuple([len(operand.shape) == len(shape) and operand.dtype in SIZES for operand in operands])
    beside = tuple([operand.address % VECTOR for operand, is_full in zip(operands, full) if is_full])
    return _plan_of_rows(shape, axis, strides_of(operands), full, beside, dtype, sources)


@functools.lru_cache(PLANS)
def _plan_of_rows(shape, axis, strides, full, beside, dtype, sources):
    found = rows_of(shape, axis, strides)
    if found is None:
        return None
    rows, n, inner, strides = found
    size = SIZES[dtype]
    steps_of_full = [steps for steps, is_full in zip(strides, full) if is_full]
    apart = n > 1 and any(steps[2] != size for steps in steps_of_full)
    ways = {(first, *(step % VECTOR for step in steps[:2])) for first, steps in zip(beside, steps_of_full)}
    aligned = ways == {(0, 0, 0)}
    width = lanes(dtype) if not apart and (aligned or len(ways) == 1 and n >= PEELED) else 1
    team, vectors, looped = team_for(rows, n if aligned else n + width - 1, size, width, apart, sources)
    return (rows, n, inner, flat(strides)), (width, vectors, team, looped, inner > 1), blocks(rows, cuda_rows.threads_of(team) // team)


LONG_ROW = 1 << 15
"""Elements from which on several blocks may have a row: two launches take a few microseconds more than one."""
IN_PARTS = (cuda_rows.forward, cuda_rows.backward, cuda_losses.cross_entropy)


@functools.lru_cache(PLANS)
def parts_of_rows(rows, n, layout, processors):
    """(how many blocks have a row, how many elements each has of it): several where else most multiprocessors had nothing to do."""
    width, vectors, team, _, _ = layout
    step = team * width * vectors
    parts = min(cuda_rows.BLOCKS_OF_PARTS * processors // rows, team)
    if n < LONG_ROW or parts < 2:
        return 1, n
    size = blocks(blocks(n, parts), step) * step
    return blocks(n, size), size


def launch_rows(call, factory, specification, plan, options, dtype, addresses, *rest):
    """Launch a kernel of rows by a plan of them, in two steps where several blocks have a row."""
    (rows, n, inner, strides), layout, grid = plan
    parts, size = parts_of_rows(rows, n, layout, call.processors) if factory in IN_PARTS else (1, n)
    if parts == 1:
        call.launch(factory, (*specification, *layout, *options), grid, rows, n, inner, addresses, strides, *rest)
        return
    known = call.scratch((rows * parts * cuda_rows.KNOWN,), computed_as(dtype))
    width, vectors, team, _, has_inner = layout
    for phase in cuda_rows.PHASES:
        call.launch(factory, (*specification, width, vectors, team, phase, has_inner, *options), rows * parts,
                    rows, n, inner, (*addresses, parts, size, known.address), strides, *rest)  # fmt: skip


def run_rows(call, factory, function, dtype, shape, axis, operands, numbers, mask=None):
    """Launch a kernel of rows on its sources and, last of the operands, its result; ``mask`` says which elements count."""
    if math.prod(operands[-1].shape) == 0:
        return
    arrays, masked = (operands, ()) if mask is None else ([*operands, mask], (True,))
    plan = plan_of_rows(shape, axis, arrays, dtype, len(arrays) - 1)
    if plan is None:
        *sources, result = operands
        written = call.scratch(result.shape, result.dtype)
        sources, mask = [copied(call, source, source.dtype) for source in sources], mask and copied(call, mask, "bool")
        run_rows(call, factory, function, dtype, shape, axis, [*sources, written], numbers, mask)
        copy(call, written, result)
        return
    launch_rows(call, factory, (function, dtype), plan, masked, dtype, addresses_of(arrays),
                tuple([number_word(number, dtype) for number in numbers]))  # fmt: skip


ROW_KERNELS = {
    "softmax": (cuda_rows.forward, "softmax"),
    "softmin": (cuda_rows.forward, "softmax"),
    "log_softmax": (cuda_rows.forward, "log_softmax"),
    "logsumexp": (cuda_rows.forward, "logsumexp"),
    "logsumexp_backward": (cuda_rows.forward, "logsumexp_backward"),
    "softmax_backward": (cuda_rows.backward, "softmax_backward"),
    "softmin_backward": (cuda_rows.backward, "softmax_backward"),
    "log_softmax_backward": (cuda_rows.backward, "log_softmax_backward"),
    "sparsemax": (cuda_simplex.sparsemax, None),
    "sparsemax_backward": (cuda_simplex.sparsemax_backward, None),
    "maxout": (cuda_simplex.largest, "maxout"),
    "maxout_backward": (cuda_simplex.largest, "maxout_backward"),
}
"""What computes a function; those of -x have a negative temperature."""
OF_ROWS, TIMES_ROWS = ("logsumexp", "maxout"), ("logsumexp_backward", "maxout_backward")
"""Those whose result, and whose grad_output, has a number for a row."""


def rows(name, x, grad=None, axis=-1, where=None, temperature=1.0, out=None, stream=None, keepdims=False):
    """A function of rows, as ``rowwise.py`` names them; of a backward pass x is what that takes beside grad_output."""
    of_row, times_row = name in OF_ROWS, name in TIMES_ROWS
    second = "x" if grad is None or times_row else "output"
    masks = {} if where is None or where is True else {"where": where}
    call = Call(name, {second: x} | ({} if grad is None else {"grad_output": grad}) | masks, stream)
    mask = take_mask(call)
    dtype = call.real(*call.operands)
    source = call.operands[second]
    shape = source.shape or (1,)
    axis = normalize_axis_index(axis, len(shape))
    mask = mask and broadcast("where", mask, shape)
    rest = shape[:axis] + shape[axis + 1 :] if source.shape else ()
    kept = shape[:axis] + (1,) + shape[axis + 1 :] if source.shape else ()
    sources = [as_rows(source, shape)]
    if grad is not None:
        given = call.operands["grad_output"]
        if given.shape not in ((rest, kept) if times_row else (source.shape,)):
            raise ValueError(f"grad_output has shape {given.shape}, not {rest if times_row else source.shape}")
        sources.insert(times_row, without(given, axis, rest) if times_row else as_rows(given, shape))
    result = call.result(out, (kept if keepdims else rest) if of_row else source.shape, dtype)
    target = result if out is None else apart(call, result, call.operands.values())
    written = without(target, axis, rest) if of_row else as_rows(target, shape)
    scale = (-1 if name.startswith("softmin") else 1) / temperature
    factory, function = ROW_KERNELS[name]
    numbers = {cuda_rows.forward: powers_of(scale, dtype), cuda_rows.backward: (scale,)}.get(factory, ())
    run_rows(call, factory, function, dtype, shape, axis, [*sources, written], numbers, mask)
    if target is not result:
        copy(call, target, result)
    return call.finished(result)


def as_rows(operand, shape):
    """The same, or a row of one for a single number."""
    return operand.reshaped(shape, operand.strides or (0,))


def without(operand, axis, rest):
    """The same without an axis that has length 1, if it is there."""
    if len(operand.shape) == len(rest):
        return operand
    return operand.reshaped(rest, operand.strides[:axis] + operand.strides[axis + 1 :])


def powers_of(scale, dtype):
    """What kernels of exponentials multiply by: a sign, and the rest as the sum of two numbers of the type that is computed in.

    Neither infinite nor 0, which would make NaN of 0 or of -inf.
    """
    info = np.finfo("float64" if dtype == "float64" else "float32")
    size = min(max(abs(scale), float(info.smallest_subnormal)), float(info.max))
    high = float(info.dtype.type(size))
    return math.copysign(1, scale), high, size - high


def gumbel_softmax(x, tau, hard, axis, rng, stream):
    """As ``rowwise.py`` has it, but for the noise: that of an element is told by a number from rng and its place alone."""
    call = Call("gumbel_softmax", {"x": x}, stream)
    source, dtype = call.operands["x"], call.real("x")
    computed, shape = computed_as(dtype), source.shape or (1,)
    axis = normalize_axis_index(axis, len(shape))
    result, noisy = call.new(source.shape, dtype), call.scratch(shape, computed)
    copy(call, as_rows(source, shape), noisy)
    add_noise(call, "gumbel", noisy, rng)
    target = as_rows(result, shape) if dtype == computed else call.scratch(shape, computed)
    if hard:
        run_rows(call, cuda_simplex.largest, "one_hot", computed, shape, axis, [noisy, target], ())
    else:
        run_rows(call, cuda_rows.forward, "softmax", computed, shape, axis, [noisy, target], powers_of(1 / tau, computed))
    if dtype != computed:
        copy(call, target, as_rows(result, shape))
    return call.finished(result)


def uniform(x, lower, upper, rng, stream):
    """Random slopes for rrelu: an array of the shape of x, of float32 where half types are computed in that."""
    if library_of(lower) is not None or library_of(upper) is not None or np.ndim(lower) or np.ndim(upper):
        raise TypeError("rrelu() draws slopes between two numbers where arrays are on a GPU")
    call = Call("rrelu", {"x": x}, stream)
    result = call.new(call.operands["x"].shape, computed_as(call.real("x")))
    add_noise(call, "uniform", result, rng, (lower, upper))
    return call.finished(result)


def add_noise(call, kind, operand, rng, numbers=(0.0, 0.0)):
    """Random numbers of a kind for an array without gaps."""
    if operand.size:
        seed = int(np.random.default_rng(rng).integers(1 << 63))
        call.launch(cuda_simplex.noise, (kind, operand.dtype), blocks(operand.size, cuda_simplex.THREADS),
                    operand.size, operand.address, seed, tuple(number_word(number, operand.dtype) for number in numbers))  # fmt: skip


def softmax_jacobian(x, axis, temperature, stream):
    """As ``rowwise.py`` has it."""
    call = Call("softmax.jacobian", {"x": x}, stream)
    source, dtype = call.operands["x"], call.real("x")
    computed, shape = computed_as(dtype), source.shape or (1,)
    axis = normalize_axis_index(axis, len(shape))
    rest, n, p = shape[:axis] + shape[axis + 1 :], shape[axis], call.scratch(shape, computed)
    run_rows(call, cuda_rows.forward, "softmax", computed, shape, axis, [as_dtype(call, as_rows(source, shape), computed), p],
             powers_of(1 / temperature, computed))  # fmt: skip
    result = call.new((*rest, n, n), dtype)
    target = result if dtype == computed else call.scratch(result.shape, computed)
    steps, step = p.strides[:axis] + p.strides[axis + 1 :], p.strides[axis]
    along, each = p.reshaped((*rest, n, n), (*steps, 0, step)), p.reshaped((*rest, n), (*steps, step))
    run_rows(call, cuda_simplex.jacobian, None, computed, target.shape, len(rest) + 1, [along, each, target], (1 / temperature,))
    if target is not result:
        copy(call, target, result)
    return call.finished(result)


def prelu_backward(gradient, grad_output, x, weight, out=None, stream=None, **keywords):
    """(grad_input, grad_weight): ``gradient`` is the function of the former, the latter sums up what elements give it."""
    arrays = {"grad_output": grad_output, "x": x} | ({"weight": weight} if library_of(weight) is not None else {})
    call = Call("prelu.backward", arrays, stream)
    dtype = call.real(*arrays)
    sources = [call.operands["grad_output"], call.operands["x"]]
    shape, wanted = sources[1].shape, call.operands["weight"].shape if "weight" in arrays else ()
    if sources[0].shape != shape or np.broadcast_shapes(shape, wanted) != shape:
        raise ValueError(f"grad_output has shape {sources[0].shape} and weight {wanted}, x has {shape}")
    grad_weight = call.new(wanted, dtype)
    sum_to(call, "slopes", sources, grad_weight)
    found = gradient(grad_output, x, weight, out=out, **({} if stream is None else {"stream": stream}), **keywords)
    return found, call.finished(grad_weight)


def sum_to(call, terms, sources, result):
    """The sums of terms, as ``cuda_rows.sums`` has them, over those axes of the sources along which the result broadcasts."""
    shape, wanted = sources[0].shape, result.shape
    extra = len(shape) - len(wanted)
    axes = [axis for axis, n in enumerate(shape) if axis < extra or n != wanted[axis - extra]]
    kept = tuple(axis for axis in range(len(shape)) if axis not in axes)
    goal = result.reshaped(tuple(shape[axis] for axis in kept), tuple(result.strides[axis - extra] for axis in kept))
    if not axes:  # rows of one
        axes, shape = [len(shape)], (*shape, 1)
        sources = [operand.reshaped(shape, (*operand.strides, 0)) for operand in sources]
    for axis in reversed(axes):
        rest = shape[:axis] + shape[axis + 1 :]
        target = goal if axis == axes[0] else call.scratch(rest, computed_as(result.dtype))
        run_rows(call, cuda_rows.sums, (terms, target.dtype), sources[0].dtype, shape, axis, [*sources, target], ())
        shape, sources, terms = rest, [target], "numbers"


# --- Losses -----------------------------------------------------------------------------------------------------------


def row_loss(loss, arrays, axis, reduction, kind_of, weight=None, ignore_index=-100, label_smoothing=0.0, z_loss=0.0, alpha=1.0,
             gamma=0.0, grad_out=None, with_grad=False, stream=None):  # fmt: skip
    """A loss as ``row_losses.py`` names them: the value, with ``with_grad`` also the gradient. Nothing waits for the GPU.

    ``arrays`` are x and the target by their names. ``kind_of(shape, shape of the rows, shape of x)`` tells what the target holds.
    """
    x_name, target_name = arrays
    arrays = arrays | ({} if weight is None else {"weight": weight})
    if library_of(alpha) is not None or np.ndim(alpha):
        arrays["alpha"] = alpha
    call = Call(loss.removesuffix("_of_logs"), arrays, stream)
    dtype = call.real(x_name)
    x, t = call.operands[x_name], call.operands[target_name]
    axis, ignore_index = normalize_axis_index(axis, len(x.shape)), operator.index(ignore_index)
    n, rest = x.shape[axis], x.shape[:axis] + x.shape[axis + 1 :]
    rows = math.prod(rest)
    of_classes = kind_of(t.shape, rest, x.shape) == "classes"
    if of_classes and not t.dtype.startswith(("int", "uint")):
        raise TypeError(f"classes must be integers, not {t.dtype}")
    if n == 0 and rows:
        raise ValueError("there are rows but no classes")
    grad = call.result(grad_out, x.shape, dtype, "grad_out") if with_grad else x
    weights, alphas = (class_numbers(call, name, n, computed_as(dtype)) for name in ("weight", "alpha"))

    each = reduction == "none"
    losses, result = call.new(rest, dtype) if each else call.scratch(rest, computed_as(dtype)), dtype
    labels = t.dtype if of_classes else None
    if not of_classes and t.dtype != dtype:  # half types do not hold what they may be compared with
        dtype = computed_as(dtype)
        x, t = as_dtype(call, x, dtype), as_dtype(call, t, dtype)
    written = (apart(call, grad, [t, x]) if grad.dtype == dtype else call.scratch(x.shape, dtype)) if with_grad else x
    smooth = not of_classes or label_smoothing > 0
    sources = 1 + (not of_classes) + (smooth and weights != 0)
    plan = plan_of_rows(x.shape, axis, [x, written, t, losses], dtype, sources)
    if plan is None:
        x, t = copied(call, x, dtype), copied(call, t, t.dtype)
        written = call.scratch(x.shape, dtype) if with_grad else x
        plan = plan_of_rows(x.shape, axis, [x, written, t, losses], dtype, sources)
    factor, factor_at = 1.0, 0
    if reduction == "mean" and of_classes and rows:
        share = share_of_rows(call, t, x.shape, axis, ignore_index, weights, dtype)
        factor_at = share.address
    elif reduction == "mean":
        factor = 1.0 / max(rows, 1)
    if rows:
        factory, specification = cuda_losses.comparison, (dtype, loss, labels, losses.dtype)
        options = (with_grad, weights != 0)
        if loss == "softmax_cross_entropy":
            factory, specification, options = cuda_losses.cross_entropy, (dtype, labels, losses.dtype), (*options, smooth, gamma != 0)
        elif of_classes and not with_grad:  # all that there is to do is to read one element
            where, (*_, has_inner), _ = plan
            plan = where, (1, 1, 1, True, has_inner), blocks(rows, cuda_rows.threads_of(1))
        keep = (1.0 - label_smoothing) * (1.0 if alphas else alpha)
        launch_rows(call, factory, specification, plan, options, dtype, (x.address, written.address, t.address, losses.address),
                    ignore_index, weights, alphas, factor_at,
                    tuple(number_word(number, dtype) for number in (keep, label_smoothing / n, z_loss, factor, gamma)))  # fmt: skip
    value = losses if each else add_up(call, losses, result, factor, factor_at)
    if with_grad and written is not grad:
        copy(call, written, grad)
    return call.finished(value, grad) if with_grad else call.finished(value)


def share_of_rows(call, classes, shape, axis, ignore_index, weights, dtype):
    """One number on the GPU: 1 / the sum of the weights of the classes of the rows that count; weights are their address or 0."""
    rows, n, inner, ((outer, beside, _),) = rows_of(shape, axis, (classes.strides,))
    grid = blocks(rows, cuda_losses.PART)
    sums = call.scratch((grid,), computed_as(dtype))
    call.launch(cuda_losses.total_weight, (dtype, classes.dtype, inner > 1, weights != 0, grid == 1), grid,
                rows, n, inner, (classes.address,), (outer, beside, 0), ignore_index, weights, sums.address)  # fmt: skip
    return sums if grid == 1 else add_up(call, sums, sums.dtype, inverse=True)


def add_up(call, numbers, dtype, factor=1.0, factor_at=0, inverse=False):
    """The sum of numbers that follow each other, times a factor or what is at an address, or the ``inverse`` of the sum: an array
    of a dtype without dimensions.
    """
    while numbers.size > cuda_losses.PART:
        grid = blocks(numbers.size, cuda_losses.PART)
        sums = call.scratch((grid,), numbers.dtype)
        call.launch(cuda_losses.add_up, (sums.dtype, False), grid, numbers.size, numbers.address, sums.address, 0,
                    (number_word(1.0, sums.dtype),))  # fmt: skip
        numbers = sums
    value = call.new((), dtype)
    call.launch(cuda_losses.add_up, (dtype, inverse), 1, numbers.size, numbers.address, value.address, factor_at,
                (number_word(factor, dtype),))  # fmt: skip
    return value


def class_numbers(call, name, n, dtype):
    """The address of one number for each class, that follow each other; 0 if the call has none of that name."""
    if name not in call.operands:
        return 0
    numbers = call.operands[name]
    if numbers.shape != (n,):
        raise ValueError(f"{name} has shape {numbers.shape}, not ({n},)")
    if numbers.dtype != dtype or numbers.strides != (SIZES[dtype],):
        given, numbers = numbers, call.scratch((n,), dtype)
        copy(call, given, numbers)
        call.operands[name] = numbers  # which keeps the memory
    return numbers.address


def elementwise_loss(row, kernel, numbers, given, with_grad):
    """A loss of the table by one of its kernels, which takes these numbers; ``given`` holds the arguments of the call by name."""
    x_name, target_name, *third = row.inputs
    operands = {target_name: given[target_name]}
    if third:
        operands[third[0]] = 1.0 if given[third[0]] is None else given[third[0]]
    if given["weight"] is not None:
        operands["weight"] = given["weight"]
    for name, value in operands.items():
        if library_of(value) is None and np.ndim(value):
            raise TypeError(f"{name} must be a number or an array on the GPU, as {x_name} is")
    arrays = {name: value for name, value in operands.items() if library_of(value) is not None}
    call = Call(row.name, {x_name: given[x_name], **arrays}, given["stream"])
    x, dtype = call.operands[x_name], call.real(x_name)
    third_grad, summed = f"{third[0]}_grad" if third else None, False
    if third_grad and with_grad and given.get(third_grad, False) is not False:
        third_shape = call.operands[third[0]].shape if third[0] in arrays else ()
        summed = third_shape != x.shape
    else:
        third_grad = None
    # Half types do not hold all that others do, nor what is summed up.
    alike = not summed and all(operand.dtype == dtype for operand in call.operands.values())
    computed = dtype if alike else computed_as(dtype)
    sources = [as_dtype(call, x, computed)]
    for name in arrays:
        operand = call.operands[name]
        if name == target_name and operand.shape not in (x.shape, ()):
            raise ValueError(f"target has shape {operand.shape}, {x_name} has {x.shape}; they must be equal, or the target a single number")
        sources.append(broadcast(name, as_dtype(call, operand, computed), x.shape))
    reduction, each = given["reduction"], given["reduction"] == "none"
    if not each and given["out"] is not None:
        raise ValueError("out receives the losses of the elements, which only reduction='none' returns")
    results = {}
    if each:
        results["out"] = call.result(given["out"], x.shape, dtype)
    if with_grad:
        results["grad_out"] = call.result(given["grad_out"], x.shape, dtype, "grad_out")
    if third_grad:
        results[third_grad] = call.result(None if given[third_grad] is True else given[third_grad], third_shape, dtype, third_grad)
    if any(meet(one, other) for one, other in itertools.combinations(results.values(), 2)):
        raise ValueError("the arrays for the results share memory")

    count = x.size
    written = {name: call.scratch(x.shape, computed) if summed and name == third_grad else apart(call, result, sources)
               for name, result in results.items()}  # fmt: skip
    _, _, gapless = layout(x.shape, strides_of((*sources, *written.values())), SIZES[computed])
    if computed != dtype or not gapless:
        sources, written = [copied(call, source, computed) for source in sources], {name: call.scratch(x.shape, computed) for name in results}
    width = aligned_lanes(addresses_of((*sources, *written.values())), computed)
    grid = blocks(count, cuda_losses.BLOCK * cuda_losses.ROUNDS * width)
    losses = written["out"] if each else call.scratch((max(grid, 1),), computed_as(computed))
    factor = 1.0 / max(count, 1) if reduction == "mean" else 1.0
    weight = {"weight": operands.pop("weight")} if "weight" in operands else {}
    every = {**operands, **dict(enumerate(numbers)), **weight}
    varying = tuple(name in arrays for name in every)
    fixed = [value for name, value in every.items() if name not in arrays]
    slopes = tuple(array.address for name, array in written.items() if name != "out")
    if count:
        call.launch(cuda_losses.elementwise, (computed, kernel, varying, bool(weight), computed if each else None, width, len(slopes)), grid,
                    count, tuple(source.address for source in sources), losses.address, slopes,
                    tuple(number_word(number, computed) for number in (factor, *fixed)))  # fmt: skip
    for name, result in results.items():
        if summed and name == third_grad:
            sum_to(call, "numbers", [written[name]], result)
        elif written[name] is not result:
            copy(call, written[name], result)
    value = results["out"] if each else add_up(call, losses.reshaped((grid,), losses.strides), dtype, factor, 0)
    value, gradients = call.finished(value), [result for name, result in results.items() if name != "out"]
    return (value, call.finished(*gradients)) if with_grad else value
