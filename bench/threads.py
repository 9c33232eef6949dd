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

PAUSE = 0.02
"""Seconds after which waiting threads have gone to sleep."""
FUNCTIONS = ("relu", "hardswish", "sigmoid", "gelu", "mish")
SIZES = tuple(2**k for k in range(12, 20))


def median_microseconds(call, pause=0.0, samples=100):
    """Median time of one call, each preceded by a pause, or by the same call."""
    times = []
    for _ in range(samples):
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


def main():
    parser = argparse.ArgumentParser(prog="python -m bench.threads", description=__doc__)
    parser.add_argument("--threads", type=int, default=fa.get_num_threads())
    parser.add_argument("--functions", nargs="+", default=FUNCTIONS, metavar="NAME")
    parser.add_argument("--sizes", nargs="+", type=int, default=SIZES, metavar="N")
    arguments = parser.parse_args()
    threads = arguments.threads

    one, many = empty_region(1), empty_region(threads)
    for state, pause in (("at once", 0.0), (f"after {PAUSE:g} s", PAUSE)):
        overhead = median_microseconds(one, pause)
        print(f"empty region {state}: {median_microseconds(many, pause) - overhead:.1f} us more on {threads} threads than on 1")

    for name in arguments.functions:
        print(f"\n{name}, microseconds  {'at once: 1':>12}{threads:>9}{'ratio':>8}  {'after a pause: 1':>18}{threads:>9}{'ratio':>8}")
        for size in arguments.sizes:
            x = normal((size,), 0)
            call = functools.partial(getattr(fa, name), x, *PARAMETERS[name], out=np.empty_like(x))
            cells = f"{size:>{len(name) + 14},}"
            for pause, width in ((0.0, 12), (PAUSE, 20)):
                microseconds = []
                for n in (1, threads):
                    fa.set_num_threads(n)
                    microseconds.append(median_microseconds(call, pause, 200 if not pause else 20))
                serial, parallel = microseconds
                cells += f"{serial:>{width}.1f}{parallel:>9.1f}{serial / parallel:>8.2f}"
            print(cells, flush=True)


if __name__ == "__main__":
    main()
