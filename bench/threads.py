"""What a second thread costs and from what size it pays: the measurements behind GRAIN in fastact/_kernels/threads.pyx.

First an OpenMP region that does nothing, entered again at once (its threads still spin) and after a pause (they sleep).
Then functions on one thread and on all, in both states.
"""

from __future__ import annotations

import argparse
import ctypes
import functools
import statistics
import time

import numpy as np

import fastact as fa
from bench.cases import PARAMETERS, normal

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


def empty_region(threads):
    """A call that enters and leaves an OpenMP region of GCC's runtime, in which each thread calls labs()."""
    nothing = ctypes.cast(ctypes.CDLL(None).labs, ctypes.c_void_p)
    return functools.partial(ctypes.CDLL("libgomp.so.1").GOMP_parallel, nothing, None, threads, 0)


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

    one, many = empty_region(1), empty_region(threads)
    print(f"microseconds on 1 thread and on {threads}")
    print(f"{'':20}{'at once':>26}{'after a pause':>30}")
    print(f"{'empty region':20}" + "".join(comparison([(1, one), (threads, many)], pause) for pause in PAUSES))
    for name in arguments.functions:
        for size in arguments.sizes:
            x = normal((size,), 0)
            call = functools.partial(getattr(fa, name), x, *PARAMETERS[name], out=np.empty_like(x))
            row = "".join(comparison([(1, call), (threads, call)], pause) for pause in PAUSES)
            print(f"{name:12}{size:8,}{row}", flush=True)


if __name__ == "__main__":
    main()
