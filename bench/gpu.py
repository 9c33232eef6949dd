"""Speed on a GPU beside PyTorch, eager and compiled, Triton and Liger: ``python -m bench.gpu``. Needs PyTorch and fastact[cuda].

Every figure is bytes that must move, each input read once and each result written once, by the time of a call; beside it what
share that is of a plain copy in the same run. Two times are taken, both medians: of many calls in a CUDA graph, which go round
over sets of arrays larger than three times the second-level cache (without the graph for Liger, which waits for the GPU), and
"cold" of single calls after that cache has been overwritten. Small arrays have what a call keeps Python busy for, too. The first contender is timed twice: the difference is noise.
Results are checked against float64 before, over NaN where they are written to memory that is given. Arrays hold random numbers.

``--json FILE`` keeps every figure when it is measured, and goes on with those that the file has not.
"""

from __future__ import annotations

import argparse
import collections
import functools
import importlib
import itertools
import json
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import fastact as fa

DEVICE = "cuda"
LAUNCHES, REPEATS = 200, 5
"""Calls of a graph, at most and if they take less than ``TURN`` together, and how often it runs."""
TURN, WARM_UP = 0.05, 0.2
"""Seconds."""
CACHES = 3
"""How many times the second-level cache the arrays of a case take together, so that none is found there."""
FEW = 1 << 14
"""Elements, up to which Python's share is of interest."""
OTHER = 1 << 30
"""Bytes that are overwritten before a call is timed alone, which takes longer than Python does to get there."""
CHECKED = 1 << 22
"""Of how many elements of a result the error is looked at."""
FEW_ROWS = 8, 1 << 20
"""For which one block each would leave most of the GPU idle."""
PACKAGES = ("numba", "numba-cuda", "cuda-core", "torch", "triton", "liger-kernel", "numpy")


@dataclass(frozen=True)
class Case:
    """What is measured: arrays from a function of a generator, the last of them for the result, and callables of those.

    ``reference`` gives the beginning of the result, in float64. ``moved`` is what a call must read and write, in bytes.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    arrays: Callable
    contenders: dict[str, Callable]
    reference: Callable
    moved: int

    @property
    def key(self):
        return f"{self.name} {'x'.join(map(str, self.shape))} {self.dtype}"


def torch_module():
    try:
        import torch
    except ImportError:
        sys.exit("bench.gpu needs PyTorch")
    if not torch.cuda.is_available():
        sys.exit("bench.gpu needs a GPU")
    return torch


def compiled(function, mode=None):
    import torch

    torch._dynamo.reset()  # which else compiles the same code a few times only, and then no more
    return torch.compile(lambda *arrays: function(*arrays), dynamic=False, mode=mode)


def item_size(torch, dtype):
    return getattr(torch, dtype).itemsize


def some(array):
    """The first rows of an array, in float64."""
    return array[: max(1, CHECKED // math.prod(array.shape[1:]))].double()


# --- Contenders of other projects -------------------------------------------------------------------------------------


def where_there_is_triton(kernels):
    """A decorator for functions of Triton and its language that make kernels, by names: without Triton there are none."""

    @functools.cache
    def made():
        try:
            return kernels(importlib.import_module("triton"), importlib.import_module("triton.language"))
        except ImportError:
            return {}

    return made


@where_there_is_triton
def triton_elementwise(triton, tl):
    """{name: a function of one or two arrays and the result}: one kernel, in which each has its expression."""

    @triton.jit
    def of_elements(a, b, y, n, EXPRESSION: tl.constexpr, TWO: tl.constexpr, WIDTH: tl.constexpr):
        places = tl.program_id(0).to(tl.int64) * WIDTH + tl.arange(0, WIDTH)
        first = tl.load(a + places, mask=places < n).to(tl.float32)
        if TWO:
            value = EXPRESSION(first, tl.load(b + places, mask=places < n).to(tl.float32))
        else:
            value = EXPRESSION(first)
        tl.store(y + places, value.to(y.dtype.element_ty), mask=places < n)

    @triton.jit
    def relu(x):
        return tl.where(x < 0, 0.0, x)

    @triton.jit
    def gelu(x):
        return 0.5 * x * (1 + tl.erf(x * 0.7071067811865476))

    @triton.jit
    def silu(x):
        return x * tl.sigmoid(x)

    @triton.jit
    def tanh(x):
        return 2 * tl.sigmoid(2 * x) - 1

    @triton.jit
    def softplus(x):
        return tl.maximum(x, 0.0) + tl.log(1 + tl.exp(-tl.abs(x)))

    @triton.jit
    def mish(x):
        e = tl.exp(tl.minimum(x, 20.0))
        return x * (e * (e + 2) / (e * (e + 2) + 2))

    @triton.jit
    def gelu_backward(g, x):
        return g * (0.5 * (1 + tl.erf(x * 0.7071067811865476)) + x * tl.exp(-0.5 * x * x) * 0.3989422804014327)

    @triton.jit
    def silu_backward(g, x):
        p = tl.sigmoid(x)
        return g * p * (1 + x * (1 - p))

    @triton.jit
    def swiglu(gate, up):
        return gate * tl.sigmoid(gate) * up

    def launching(expression, two):
        def run(*arrays):
            y, width = arrays[-1], 1024
            of_elements[(-(-y.numel() // width),)](arrays[0], arrays[-2], y, y.numel(), EXPRESSION=expression, TWO=two, WIDTH=width)
            return y

        return run

    one = {"relu": relu, "gelu": gelu, "silu": silu, "tanh": tanh, "softplus": softplus, "mish": mish}
    two = {"gelu.backward": gelu_backward, "silu.backward": silu_backward, "swiglu": swiglu}
    return {name: launching(expression, name in two) for name, expression in (one | two).items()}


@where_there_is_triton
def triton_rows(triton, tl):
    """{"softmax", "cross entropy"}: a program for a row, which is held, or read twice a block at a time."""

    @triton.jit
    def softmax_of_row(x, y, n, WIDTH: tl.constexpr):
        row, columns = tl.program_id(0).to(tl.int64), tl.arange(0, WIDTH)
        inside = columns < n
        values = tl.load(x + row * n + columns, mask=inside, other=-float("inf")).to(tl.float32)
        terms = tl.exp(values - tl.max(values, axis=0))
        tl.store(y + row * n + columns, (terms / tl.sum(terms, axis=0)).to(y.dtype.element_ty), mask=inside)

    @triton.jit
    def loss_of_row(x, target, y, losses, n, share, WIDTH: tl.constexpr):
        row, columns = tl.program_id(0).to(tl.int64), tl.arange(0, WIDTH)
        label = tl.load(target + row)
        largest, total = -float("inf"), 0.0
        for first in range(0, n, WIDTH):
            values = tl.load(x + row * n + first + columns, mask=first + columns < n, other=-float("inf")).to(tl.float32)
            after = tl.maximum(largest, tl.max(values, axis=0))
            total = total * tl.exp(largest - after) + tl.sum(tl.exp(values - after), axis=0)
            largest = after
        of_all = largest + tl.log(total)
        tl.store(losses + row, of_all - tl.load(x + row * n + label).to(tl.float32))
        for first in range(0, n, WIDTH):
            values = tl.load(x + row * n + first + columns, mask=first + columns < n, other=-float("inf")).to(tl.float32)
            slopes = tl.exp(values - of_all) - tl.where(first + columns == label, 1.0, 0.0)
            tl.store(y + row * n + first + columns, (slopes * share).to(y.dtype.element_ty), mask=first + columns < n)

    def warps(width):
        return min(max(width // 256, 4), 32)

    def softmax(x, y):
        width = triton.next_power_of_2(x.shape[1])
        softmax_of_row[(x.shape[0],)](x, y, x.shape[1], WIDTH=width, num_warps=warps(width))
        return y

    def cross_entropy(x, target, y):
        width = min(triton.next_power_of_2(x.shape[1]), 1 << 15)
        losses = x.new_empty(x.shape[0], dtype=target.new_empty(0).float().dtype)
        loss_of_row[(x.shape[0],)](x, target, y, losses, x.shape[1], 1 / x.shape[0], WIDTH=width, num_warps=warps(width))
        return y

    return {"softmax": softmax, "cross entropy": cross_entropy}


@functools.cache
def liger_cross_entropy():
    """Liger's, or None: it puts the gradient over the logits, and multiplies that once more, as a loss among others needs it."""
    try:
        function = importlib.import_module("liger_kernel.transformers.functional").liger_cross_entropy
    except ImportError:
        return None

    def cross_entropy(x, target, y):
        leaf = x.detach().requires_grad_()
        (2 * function(leaf, target)).backward()
        return leaf.grad / 2

    cross_entropy.waits = True  # it has the CPU look at the classes
    return cross_entropy


# --- Cases ------------------------------------------------------------------------------------------------------------


def elementwise_cases(torch, sizes, dtypes, modes):
    functional, aten = torch.nn.functional, torch.ops.aten
    forward = {"relu": torch.relu, "gelu": functional.gelu, "silu": functional.silu, "tanh": torch.tanh,
               "softplus": functional.softplus, "mish": functional.mish}  # fmt: skip
    backward = {"gelu": lambda g, x: aten.gelu_backward(g, x), "silu": lambda g, x: aten.silu_backward(g, x)}

    def by_triton(name):
        return {"Triton": triton_elementwise()[name]} if name in triton_elementwise() else {}

    for dtype, size in itertools.product(dtypes, sizes):
        width = item_size(torch, dtype)

        def arrays(new, count, size=size):
            return [new(size) for _ in range(count)]

        for name, theirs in forward.items():
            ours = getattr(fa, name)
            contenders = {"fastact": lambda x, y, f=ours: f(x, out=y), "PyTorch": lambda x, y, f=theirs: f(x), **by_triton(name)}
            contenders |= {label: lambda x, y, f=compiled(theirs, mode): f(x) for label, mode in modes.items()}
            yield Case(name, (size,), dtype, functools.partial(arrays, count=2), contenders,
                       lambda x, y, f=theirs: f(some(x)), 2 * width * size)  # fmt: skip
        for name, theirs in backward.items():
            ours = getattr(fa, name).backward
            contenders = {"fastact": lambda g, x, y, f=ours: f(g, x, out=y), "PyTorch": lambda g, x, y, f=theirs: f(g, x)}
            contenders |= by_triton(f"{name}.backward")
            yield Case(f"{name}.backward", (size,), dtype, functools.partial(arrays, count=3), contenders,
                       lambda g, x, y, f=theirs: f(some(g), some(x)), 3 * width * size)  # fmt: skip

        def gated(gate, up):
            return functional.silu(gate) * up

        contenders = {"fastact": lambda gate, up, y: fa.swiglu(gate, up, out=y), "PyTorch": lambda gate, up, y, f=gated: f(gate, up)}
        contenders |= {label: lambda gate, up, y, f=compiled(gated, mode): f(gate, up) for label, mode in modes.items()}
        contenders |= by_triton("swiglu")
        yield Case("swiglu", (size,), dtype, functools.partial(arrays, count=3), contenders,
                   lambda gate, up, y, f=gated: f(some(gate), some(up)), 3 * width * size)  # fmt: skip


def softmax_cases(torch, shapes, dtypes, modes):
    def theirs(x):
        return torch.softmax(x, -1)

    def theirs_backward(g, y):
        return torch.ops.aten._softmax_backward_data(g, y, -1, y.dtype)

    for dtype, shape in itertools.product(dtypes, shapes):
        moved = item_size(torch, dtype) * math.prod(shape)

        def arrays(new, shape=shape):
            return new(*shape), new(*shape)

        def of_a_backward_pass(new, shape=shape):
            return new(*shape), torch.softmax(new(*shape), -1), new(*shape)

        contenders = {"fastact": lambda x, y: fa.softmax(x, out=y), "PyTorch": lambda x, y: torch.softmax(x, -1, out=y)}
        contenders |= {label: lambda x, y, f=compiled(theirs, mode): f(x) for label, mode in modes.items()}
        if triton_rows() and shape[1] <= 1 << 16:
            contenders["Triton"] = triton_rows()["softmax"]
        yield Case("softmax", shape, dtype, arrays, contenders, lambda x, y: theirs(some(x)), 2 * moved)
        yield Case("softmax.backward", shape, dtype, of_a_backward_pass,
                   {"fastact": lambda g, y, out: fa.softmax.backward(g, output=y, out=out),
                    "PyTorch": lambda g, y, out: theirs_backward(g, y)},
                   lambda g, y, out: theirs_backward(some(g), some(y)), 3 * moved)  # fmt: skip


def loss_cases(torch, shapes, dtypes, modes):
    cross_entropy = torch.nn.functional.cross_entropy

    def gradient(loss, x, target):
        leaf = x.detach().requires_grad_()
        return torch.autograd.grad(loss(leaf, target), leaf)[0]

    def reference(x, target, y):
        slopes = torch.softmax(some(x), -1)
        slopes[torch.arange(len(slopes)), target[: len(slopes)]] -= 1
        return slopes / len(x)

    for dtype, shape in itertools.product(dtypes, shapes):
        moved = item_size(torch, dtype) * math.prod(shape)

        def arrays(new, shape=shape):
            return new(*shape), torch.randint(0, shape[1], shape[:1], device=DEVICE), new(*shape)

        losses = {"PyTorch": cross_entropy} | {label: compiled(cross_entropy, mode) for label, mode in modes.items()}
        yield Case("softmax_cross_entropy", shape, dtype, arrays,
                   {"fastact": lambda x, t, y: fa.softmax_cross_entropy(x, t)}
                   | {label: lambda x, t, y, f=loss: f(x, t) for label, loss in losses.items()},
                   lambda x, t, y: cross_entropy(x.float() if shape[0] * shape[1] > CHECKED else x.double(), t), moved)  # fmt: skip
        contenders = {"fastact": lambda x, t, y: fa.softmax_cross_entropy.value_and_grad(x, t, grad_out=y)[1]}
        contenders |= {label: lambda x, t, y, f=loss: gradient(f, x, t) for label, loss in losses.items()}
        if triton_rows():
            contenders["Triton"] = triton_rows()["cross entropy"]
        if liger_cross_entropy():  # the last, for what it leaves of the logits
            contenders["Liger"] = liger_cross_entropy()
        yield Case("softmax_cross_entropy.value_and_grad", shape, dtype, arrays, contenders, reference, 2 * moved)


# --- Measuring --------------------------------------------------------------------------------------------------------


class Clock:
    """How long calls take: on the GPU, and until Python can go on."""

    def __init__(self, torch, cache):
        self.torch = torch
        self.other = torch.empty(max(CACHES * cache, OTHER), dtype=torch.uint8, device=DEVICE)

    def elapsed(self, function):
        """Seconds on the GPU of what a function asks it for."""
        start, end = (self.torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        function()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / 1e3

    def warm(self, function, sets):
        """Call for a while; seconds of a call, Python's share included."""
        self.torch.cuda.synchronize()
        begin, calls = time.perf_counter(), 0
        while time.perf_counter() - begin < WARM_UP:
            for arrays in sets:
                function(*arrays)
            self.torch.cuda.synchronize()
            calls += len(sets)
        return (time.perf_counter() - begin) / calls

    def in_turn(self, function, sets, launches):
        """Of one of many calls in a graph, each of which has its result where none of the last ones has it; one after the other
        if the function ``waits`` for the GPU, which no graph can.
        """
        results, turn = collections.deque(maxlen=len(sets)), itertools.cycle(sets)

        def calls():
            for _ in range(launches):
                results.append(function(*next(turn)))

        if not getattr(function, "waits", False):
            graph = self.torch.cuda.CUDAGraph()
            with self.torch.cuda.graph(graph):
                calls()
            graph.replay()
            calls = graph.replay
        return statistics.median(self.elapsed(calls) / launches for _ in range(REPEATS))

    def cold(self, function, arrays, launches):
        """Of a call whose arrays are in no cache."""

        def single():
            self.other.zero_()
            return self.elapsed(lambda: function(*arrays))

        return statistics.median(single() for _ in range(max(launches // 10, REPEATS)))

    def python(self, function, sets):
        """Until a call returns."""
        found = []
        for _ in range(REPEATS):
            self.torch.cuda.synchronize()
            begin = time.perf_counter()
            for arrays in itertools.islice(itertools.cycle(sets), LAUNCHES):
                function(*arrays)
            found.append((time.perf_counter() - begin) / LAUNCHES)
        return statistics.median(found)


def copy_speeds(torch, clock):
    """Bytes a second, read and written, of a copy of 1 GiB: PyTorch's, and the simplest of our kernels."""
    source = torch.randn(1 << 28, device=DEVICE)
    target = torch.empty_like(source)
    copies = {"PyTorch": lambda: target.copy_(source), "fastact": lambda: fa.identity(source, out=target)}
    for copy in copies.values():
        clock.warm(copy, [()])
    return {name: 2 * source.nbytes / clock.in_turn(copy, [()], launches=20) for name, copy in copies.items()}


def measured(torch, clock, case, cache):
    """{contender: its times and its largest error next to the largest result, or a problem}"""
    dtype = getattr(torch, case.dtype)

    def new(*shape):
        return torch.randn(shape, device=DEVICE).mul_(2).to(dtype)

    sets = [case.arrays(new) for _ in range(min(64, max(1, -(-CACHES * cache // case.moved))))]
    wanted = case.reference(*sets[0])
    found, repeated = {}, dict(case.contenders)
    first = next(iter(repeated))
    repeated = {first: repeated.pop(first), f"{first} again": case.contenders[first], **repeated}
    for name, function in repeated.items():
        try:
            sets[0][-1].fill_(float("nan"))
            result = function(*sets[0])
            result = result[: len(wanted)] if result.ndim else result
            error = ((result.double() - wanted).abs().max() / wanted.abs().max()).item()
            launches = max(REPEATS, min(LAUNCHES, int(TURN / clock.warm(function, sets))))
            found[name] = {"error": error, "seconds": clock.in_turn(function, sets, launches), "cold": clock.cold(function, sets[0], launches)}
            if math.prod(case.shape) <= FEW:
                found[name]["python"] = clock.python(function, sets)
        except Exception as problem:  # one that cannot is not the end of the others
            found[name] = {"problem": f"{type(problem).__name__}: {problem}".splitlines()[0]}
        torch.cuda.empty_cache()
    return found


def described(case, found, copy):
    """Figures of a case as lines of text."""
    lines = [case.key]
    for name, result in found.items():
        if "problem" in result:
            lines.append(f"    {name:<16} {result['problem']}")
            continue
        speed = case.moved / result["seconds"]
        lines.append(f"    {name:<16} {1e6 * result['seconds']:9.1f} us {speed / 1e9:6.0f} GB/s {speed / copy:5.0%} of a copy, "
                     f"cold {1e6 * result['cold']:.1f} us, error {result['error']:.0e}"
                     + (f", Python {1e6 * result['python']:.1f} us" if "python" in result else ""))  # fmt: skip
    return "\n".join(lines)


def gpu_now():
    """What the driver says of the GPU, clocks and all."""
    asked = "name,driver_version,clocks.sm,clocks.mem,temperature.gpu,power.draw"
    try:
        return subprocess.run(["nvidia-smi", f"--query-gpu={asked}", "--format=csv,noheader"], capture_output=True, text=True).stdout.strip()
    except OSError:
        return "no nvidia-smi"


def versions():
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            pass
    return found


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="python -m bench.gpu", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="cases, by the beginning of their names; default all")
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--quick", action="store_true", help="two sizes of each")
    parser.add_argument("--autotune", action="store_true", help="torch.compile with max-autotune, too, which takes minutes")
    parser.add_argument("--json", type=Path, help="the file of the figures, which goes on with what it has not")
    options = parser.parse_args(arguments)
    torch = torch_module()
    device = torch.cuda.get_device_properties(0)
    cache = device.L2_cache_size
    clock = Clock(torch, cache)
    copies = copy_speeds(torch, clock)
    copy = max(copies.values())
    print(gpu_now(), versions(), *(f"copy by {name} {speed / 1e9:.0f} GB/s" for name, speed in copies.items()), sep="\n", flush=True)

    modes = {"compiled": None} | ({"autotuned": "max-autotune-no-cudagraphs"} if options.autotune else {})
    sizes = [1 << 10, 1 << 26] if options.quick else [1 << k for k in (10, 14, 18, 22, 26, 28, 30)]
    widths = [1024, 32768] if options.quick else [32, 128, 781, 1000, 1024, 2048, 4096, 8192, 32768, 50257, 65536, 128256, 1 << 18, 1 << 20]
    vocabularies = [32000] if options.quick else [4096, 32000, 50257, 131072, 262144]
    tokens = [8192] if options.quick else [1024, 8192, 16384]
    cases = itertools.chain(
        elementwise_cases(torch, sizes, options.dtypes, modes),
        softmax_cases(torch, [*((max(1, (1 << 28) // n), n) for n in widths), FEW_ROWS], options.dtypes, modes),
        loss_cases(torch, [(1 << 10, 10), (1 << 20, 100), *itertools.product(tokens, vocabularies), FEW_ROWS], options.dtypes, modes),
    )
    figures = json.loads(options.json.read_text()) if options.json and options.json.exists() else {"cases": {}}
    figures |= {"gpu": device.name, "versions": versions(), "copy": copies}
    for case in cases:
        if case.key in figures["cases"] or not case.name.startswith(tuple(options.names) or ""):
            continue
        found = measured(torch, clock, case, cache)
        print(described(case, found, copy), flush=True)
        figures["cases"][case.key] = {"bytes": case.moved, "found": found}
        if options.json:
            options.json.write_text(json.dumps(figures, indent=1))
    print(gpu_now())


if __name__ == "__main__":
    main()
