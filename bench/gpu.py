"""Speed on a GPU beside PyTorch, eager and compiled, and Triton: ``python -m bench.gpu``. Needs PyTorch and fastact[cuda].

Every figure is bytes that must move, each input read once and each result written once, by the median time of a launch; beside
it what share that is of a plain copy in the same run. Launches go round over sets of arrays larger than three times the
second-level cache, between two events; results are checked against float64 before. Arrays hold random numbers, never zeros.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import fastact as fa

LAUNCHES, REPEATS, WARM_UP = 200, 5, 20
CACHES = 3
"""How many times the second-level cache the arrays of a case take together, so that none is found there."""
FEW = 1 << 10
"""Elements, for the time of a launch itself."""


@dataclass(frozen=True)
class Case:
    """What is measured: arrays from a function of a generator, and callables of those, the first fastact's.

    ``bytes_moved`` is what a call must read and write.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    arrays: Callable
    contenders: dict[str, Callable]
    reference: Callable
    bytes_moved: int


def torch_module():
    try:
        import torch
    except ImportError:
        sys.exit("bench.gpu needs PyTorch")
    if not torch.cuda.is_available():
        sys.exit("bench.gpu needs a GPU")
    return torch


def compiled(function):
    import torch

    return torch.compile(function, dynamic=False)


# --- Triton -----------------------------------------------------------------------------------------------------------


@functools.cache
def triton_softmax():
    """Softmax of rows, a program for each, or None where Triton is missing."""
    try:
        import triton
        import triton.language as tl
    except ImportError:
        return None

    @triton.jit
    def kernel(x, y, n, WIDTH: tl.constexpr):
        row, columns = tl.program_id(0).to(tl.int64), tl.arange(0, WIDTH)
        inside = columns < n
        values = tl.load(x + row * n + columns, mask=inside, other=-float("inf")).to(tl.float32)
        terms = tl.exp(values - tl.max(values, axis=0))
        tl.store(y + row * n + columns, (terms / tl.sum(terms, axis=0)).to(y.dtype.element_ty), mask=inside)

    def softmax(x, y):
        width = triton.next_power_of_2(x.shape[1])
        kernel[(x.shape[0],)](x, y, x.shape[1], WIDTH=width, num_warps=min(max(width // 256, 4), 32))
        return y

    return softmax


# --- Cases ------------------------------------------------------------------------------------------------------------


def elementwise_cases(torch, sizes, dtypes):
    functional = torch.nn.functional
    theirs = {"relu": torch.relu, "gelu": functional.gelu, "silu": functional.silu, "tanh": torch.tanh, "softplus": functional.softplus}
    backwards = {"gelu": lambda g, x: torch.ops.aten.gelu_backward(g, x), "silu": lambda g, x: torch.ops.aten.silu_backward(g, x)}
    for (name, function), size, dtype in itertools.product(theirs.items(), sizes, dtypes):
        width = torch.empty(0, dtype=getattr(torch, dtype)).element_size()
        ours = getattr(fa, name)
        yield Case(name, (size,), dtype, lambda new, size=size: (new(size), new(size)),
                   {"fastact": lambda x, y, f=ours: f(x, out=y), "PyTorch": lambda x, y, f=function: f(x),
                    "compiled": lambda x, y, f=compiled(function): f(x)},
                   lambda x, y, f=function: f(x.double()), 2 * width * size)  # fmt: skip
        if name in backwards:
            back = backwards[name]
            yield Case(f"{name}.backward", (size,), dtype, lambda new, size=size: (new(size), new(size), new(size)),
                       {"fastact": lambda g, x, y, f=ours: f.backward(g, x, out=y), "PyTorch": lambda g, x, y, f=back: f(g, x)},
                       lambda g, x, y, f=back: f(g.double(), x.double()), 3 * width * size)  # fmt: skip


def row_cases(torch, shapes, dtypes):
    for (rows, n), dtype in itertools.product(shapes, dtypes):
        width = torch.empty(0, dtype=getattr(torch, dtype)).element_size()
        moved = 2 * width * rows * n

        def arrays(new, rows=rows, n=n):
            return new(rows, n), new(rows, n)

        contenders = {"fastact": lambda x, y: fa.softmax(x, out=y), "PyTorch": lambda x, y: torch.softmax(x, -1, out=y),
                      "compiled": lambda x, y, f=compiled(functools.partial(torch.softmax, dim=-1)): f(x)}  # fmt: skip
        if triton_softmax() and n <= 1 << 16:
            contenders["Triton"] = triton_softmax()
        yield Case("softmax", (rows, n), dtype, arrays, contenders, lambda x, y: torch.softmax(x.double(), -1), moved)

        def logits(new, rows=rows, n=n):
            return new(rows, n), torch.randint(0, n, (rows,), device="cuda"), new(rows, n)

        def theirs(x, t, y):
            x = x.detach().requires_grad_()
            return torch.autograd.grad(torch.nn.functional.cross_entropy(x, t), x)[0]

        yield Case("softmax_cross_entropy and gradient", (rows, n), dtype, logits,
                   {"fastact": lambda x, t, y: fa.softmax_cross_entropy.value_and_grad(x, t, grad_out=y)[1],
                    "PyTorch": theirs, "compiled": compiled(theirs)},
                   lambda x, t, y: theirs(x.double(), t, y), moved)  # fmt: skip


# --- Measuring --------------------------------------------------------------------------------------------------------


def seconds(torch, function, sets):
    """Of a call: the median over repeats of many launches between two events."""
    turn = itertools.cycle(sets)
    for _ in range(WARM_UP):
        function(*next(turn))
    found = []
    for _ in range(REPEATS):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for _ in range(LAUNCHES):
            function(*next(turn))
        end.record()
        end.synchronize()
        found.append(start.elapsed_time(end) / 1e3 / LAUNCHES)
    return statistics.median(found)


def copy_speed(torch):
    """Bytes a second, read and written, of a copy of 1 GiB."""
    source = torch.randn(1 << 28, device="cuda")
    target = torch.empty_like(source)
    return 2 * source.nbytes / seconds(torch, lambda: target.copy_(source), [()])


def measured(torch, case, cache):
    """{contender: (seconds, largest error next to the largest result)}, an error message for who fails."""
    dtype = getattr(torch, case.dtype)

    def new(*shape):
        return torch.randn(shape, device="cuda").mul_(2).to(dtype)

    count = min(64, max(1, -(-CACHES * cache // case.bytes_moved)))
    sets = [case.arrays(new) for _ in range(count)]
    wanted = case.reference(*sets[0])
    found = {}
    for name, function in case.contenders.items():
        try:
            result = function(*sets[0])
            error = ((result.double() - wanted).abs().max() / wanted.abs().max()).item()
            found[name] = {"seconds": seconds(torch, function, sets), "error": error}
        except Exception as problem:  # one that cannot is not the end of the others
            found[name] = {"problem": f"{type(problem).__name__}: {problem}".splitlines()[0]}
    return found


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="python -m bench.gpu", description=__doc__.splitlines()[0])
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--quick", action="store_true", help="two sizes of each")
    parser.add_argument("--json", type=Path, help="where to put the figures")
    options = parser.parse_args(arguments)
    torch = torch_module()
    device = torch.cuda.get_device_properties(0)
    copy = copy_speed(torch)
    print(f"{device.name}, PyTorch {torch.__version__}, NumPy {np.__version__}, copy {copy / 1e9:.0f} GB/s")
    sizes = [FEW, 1 << 26] if options.quick else [FEW, 1 << 16, 1 << 20, 1 << 24, 1 << 28]
    widths = [1024, 32768] if options.quick else [32, 128, 781, 1024, 4096, 8192, 32768, 50257, 131072, 1 << 20]
    shapes = [(max(1, (1 << 28) // n), n) for n in widths]
    figures = {"gpu": device.name, "copy": copy, "cases": []}
    for case in itertools.chain(elementwise_cases(torch, sizes, options.dtypes), row_cases(torch, shapes, options.dtypes)):
        found = measured(torch, case, device.L2_cache_size)
        figures["cases"].append({"name": case.name, "shape": case.shape, "dtype": case.dtype, "bytes": case.bytes_moved, "found": found})
        line = f"{case.name} {'x'.join(map(str, case.shape))} {case.dtype}"
        for name, result in found.items():
            if "problem" in result:
                line += f" | {name}: {result['problem']}"
                continue
            speed = case.bytes_moved / result["seconds"]
            line += f" | {name} {1e6 * result['seconds']:.1f} us, {speed / 1e9:.0f} GB/s, {speed / copy:.0%} (error {result['error']:.0e})"
        print(line, flush=True)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
