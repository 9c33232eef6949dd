"""What a second thread costs and from what size it pays: the measurements behind GRAIN in fastact/_kernels/threads.pyx.

Functions on one thread and on all, called again at once (the others still wait awake) and after a pause (they sleep).
"""

from __future__ import annotations

import argparse
import functools
import statistics
import time

import numpy as np

import fastact as fa

from .cases import PARAMETERS, normal

PAUSES = (0.0, 0.02)
"""Seconds before each call; after the longer one waiting threads have gone to sleep."""
FUNCTIONS = ("relu", "hardswish", "sigmoid", "gelu", "mish")
SIZES = tuple(2**k for k in range(12, 20))


def median_microseconds(call, pause):
    """Median time of one call, each preceded by a pause, or else by the same call."""
    times = []
    for _ in range(30 if pause else 300):
        if pause:
            time.sleep(pause)
        else:
            call()
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    return 1e6 * statistics.median(times)


def comparison(calls, pause):
    """Cells for one thread, all threads and their ratio."""
    microseconds = []
    for threads, call in calls:
        fa.set_num_threads(threads)
        microseconds.append(median_microseconds(call, pause))
    serial, parallel = microseconds
    return f"{serial:12.1f}{parallel:9.1f}{serial / parallel:7.2f}"


def main():
    parser = argparse.ArgumentParser(prog="python -m bench.threads", description=__doc__)
    parser.add_argument("--threads", type=int, default=fa.get_num_threads())
    parser.add_argument("--functions", nargs="+", default=FUNCTIONS, metavar="NAME")
    parser.add_argument("--sizes", nargs="+", type=int, default=SIZES, metavar="N")
    arguments = parser.parse_args()
    threads = arguments.threads

    print(f"microseconds on 1 thread and on {threads}")
    print(f"{'':20}{'at once':>26}{'after a pause':>30}")
    for name in arguments.functions:
        for size in arguments.sizes:
            x = normal((size,), 0)
            call = functools.partial(getattr(fa, name), x, *PARAMETERS[name], out=np.empty_like(x))
            row = "".join(comparison([(1, call), (threads, call)], pause) for pause in PAUSES)
            print(f"{name:12}{size:8,}{row}", flush=True)


if __name__ == "__main__":
    main()
