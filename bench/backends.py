"""Numba's kernels beside the compiled ones: how many times as long each case takes, in one process, taking turns."""

from __future__ import annotations

import argparse
import statistics
import time
from timeit import Timer

import fastact as fa

from . import cases
from .cases import SIZES, Memory, Setting
from .peers.of_fastact import bind
from .timing import take_turns

CLASSES = (1000, 64)
"""Elements in a row, long ones and short ones."""
BACKENDS = ("cython", "numba")
OPTIMIZERS = {case.name for case in cases.OPTIMIZERS}  # which have no kernels of Numba's


def choose(backend):
    """What a timer does first, when nobody counts: the choice holds for the calls that follow."""
    return lambda: fa.set_backend(backend)


def ratio(case, setting, timer, rounds, seconds):
    """Numba's time over that of the compiled kernels, and the latter in nanoseconds an element."""
    call = bind(case, setting, case.arrays(Memory(setting)))
    with fa.use_backend("numba"):
        call()
    times, _ = take_turns({backend: Timer(call, choose(backend), timer) for backend in BACKENDS}, rounds, seconds)
    fa.set_backend("auto")
    elements = setting.shape[0] * (setting.shape[1] if len(setting.shape) > 1 else 1)
    return times["numba"] / times["cython"], 1e9 * times["cython"] / elements


def shapes_of(case, size, classes):
    return [(size,)] if case in cases.VECTORS else [(max(1, size // n), n) for n in classes]


def main():
    parser = argparse.ArgumentParser(prog="python -m bench.backends", description=__doc__)
    parser.add_argument("names", nargs="*", help="functions, all by default")
    parser.add_argument("--sizes", nargs="+", type=int, default=SIZES, metavar="N", help="elements")
    parser.add_argument("--classes", nargs="+", type=int, default=CLASSES, metavar="N", help="elements in a row")
    parser.add_argument("--dtype", choices=cases.DTYPES, default="float32")
    parser.add_argument("--threads", type=int, default=fa.get_num_threads(),
                        help="with 1, time is that of the CPU alone, which other processes disturb less")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each")
    parser.add_argument("--seconds", type=float, default=0.02, help="a turn")
    arguments = parser.parse_args()
    fa.set_num_threads(arguments.threads)
    timer = time.thread_time if arguments.threads == 1 else time.perf_counter
    chosen = [case for case in cases.VECTORS + cases.MATRICES
              if case.name not in OPTIMIZERS and (not arguments.names or {case.name, case.function} & {*arguments.names})]  # fmt: skip

    print(f"Numba's time / compiled kernels' time (and these in ns an element), {arguments.dtype}, {arguments.threads} threads")
    print(f"{'':42}" + "".join(f"{size:>20,}" for size in arguments.sizes))
    ratios = {size: [] for size in arguments.sizes}
    for case in chosen:
        for shapes in zip(*(shapes_of(case, size, arguments.classes) for size in arguments.sizes)):
            row = ""
            for size, shape in zip(arguments.sizes, shapes):
                times, nanoseconds = ratio(case, Setting(shape, arguments.dtype), timer, arguments.rounds, arguments.seconds)
                ratios[size].append(times)
                row += f"{times:11.2f} ({nanoseconds:6.3f})"
            width = f" of {shapes[0][1]}" if len(shapes[0]) > 1 else ""
            print(f"{case.name + width:42}{row}", flush=True)
    if chosen:
        print(f"{'geometric mean':42}" + "".join(f"{statistics.geometric_mean(r):11.2f}{'':9}" for r in ratios.values()))


if __name__ == "__main__":
    main()
