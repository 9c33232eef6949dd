"""Speed beside NumPy, SciPy, PyTorch and ONNX Runtime, in one run with equal threads.

Every library writes to memory that it reuses, its result is checked before it is timed, and the libraries take turns
(A, B, C, A, B, C, ...), so that whatever else the machine does hits all alike. Figures are medians over the turns.
"""

# Threads that wait by spinning (OpenMP's for some 10 ms, ONNX Runtime's for some 50) would take a core from whoever is
# next, and telling them not to spin would slow down their own library: so a turn begins once this process has gone
# quiet, and with calls that are not timed.

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import time
from dataclasses import asdict
from pathlib import Path
from timeit import Timer

import numpy as np
from tqdm import tqdm

import fastact as fa
from bench import cases, peers
from bench.report import COPY, Result, as_markdown, as_text, page
from fastact._kernels import dispatch
from fastact.backends import config, last_level_cache

CALL_FORMS = ("f(x{})", "f(x{}, out=y)")
CHECKED_ROWS = {1: slice(2**16), 2: slice(64)}
WARM_UP = 0.02
"""Seconds. After a pause, threaded calls have been seen to take 8 ms until the scheduler had spread the threads."""
DISTURBANCE = 0.1
STAT = Path("/proc/stat")


def go_quiet():
    """Wait, at most 0.2 s, until no thread of this process spins any more."""
    for _ in range(20):
        before = time.process_time()
        time.sleep(0.01)
        if time.process_time() - before < 0.002:
            return


def warm_up(timer):
    """Call for a while, at least once; the seconds of the fastest call."""
    fastest = math.inf
    end = time.perf_counter() + WARM_UP
    while True:
        fastest = min(fastest, timer.timeit(1))
        if time.perf_counter() > end:
            return fastest


def cpu_seconds_of_others():
    """What other processes, and other guests of this machine, have used so far; 0 where there is no /proc/stat."""
    if not STAT.exists():
        return 0.0
    user, nice, system, _, _, *rest = map(int, STAT.read_text().split("\n", 1)[0].split()[1:9])
    return (user + nice + system + sum(rest)) / os.sysconf("SC_CLK_TCK") - time.process_time()


def take_turns(timers, rounds, seconds):
    """Median seconds of one call for each timer, whose turns last about so long, and whether others disturbed them."""
    calls = {name: max(1, int(seconds / warm_up(timer))) for name, timer in timers.items()}
    samples = {name: [] for name in timers}
    begin, begin_others = time.perf_counter(), cpu_seconds_of_others()
    for _ in range(rounds):
        for name, timer in timers.items():
            go_quiet()
            warm_up(timer)
            samples[name].append(timer.timeit(calls[name]) / calls[name])
    disturbed = cpu_seconds_of_others() - begin_others > DISTURBANCE * (time.perf_counter() - begin)
    return {name: statistics.median(sample) for name, sample in samples.items()}, disturbed


def check(case, arrays, library, run):
    """Raise AssertionError if the library computes something else."""
    out = arrays[-1]
    out.fill(np.nan)
    returned = run()
    rows = CHECKED_ROWS[arrays[0].ndim]
    # A few of PyTorch's functions cannot be told where to write.
    got = out[rows] if not np.isnan(out.flat[0]) else np.asarray(returned)[rows]
    expected = case.expected(rows, *arrays)
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-4, err_msg=f"{library}, {case.name}")


def measure_case(case, shape, threads, **turns):
    arrays = case.arrays(shape)
    runs = {library: peers.bind(library, case, arrays, threads) for library in peers.libraries(case)}
    for library, run in runs.items():
        check(case, arrays, library, run)
    if arrays[0].nbytes > last_level_cache:
        source, target = arrays[0], np.empty_like(arrays[0])
        runs[COPY] = lambda: dispatch.stream_copy(target, source)
    timers = {library: Timer(run) for library, run in runs.items()}
    return Result(case.kind, case.name, shape, case.moved, *take_turns(timers, **turns))


def measure_call(case, form, threads, **turns):
    """A call on few elements: what the call itself costs. For NumPy np.tanh, whichever the function."""
    arrays = case.arrays((cases.CALL_SIZE,))
    required = "".join(f", {value}" for value in cases.REQUIRED_PARAMETERS.get(case.name, ()))
    functions = {"fastact": (getattr(fa, case.name), required), "NumPy": (np.tanh, "")}
    timers = {
        library: Timer(form.format(parameters), globals={"f": function, "x": arrays[0], "y": arrays[1]})
        for library, (function, parameters) in functions.items()
    }
    if "out" in form:
        others = [library for library in peers.libraries(case) if library in ("PyTorch", "ONNX Runtime")]
        timers |= {library: Timer(peers.bind(library, case, arrays, threads)) for library in others}
    return Result("call " + form.format(""), case.name, (cases.CALL_SIZE,), 2, *take_turns(timers, **turns))


def measure_training(threads, **turns):
    timers = {library: Timer(make()) for library, make in peers.TRAINING.items()}
    epochs, disturbed = take_turns(timers, **turns)
    steps = cases.TRAINING_ROWS // cases.BATCH
    seconds = {library: epoch / steps for library, epoch in epochs.items()}
    name = "-".join(map(str, cases.LAYERS))
    return Result("training step", name, (cases.BATCH, cases.LAYERS[0]), 0, seconds, disturbed)


def work_for(functions, sizes, shapes):
    """(function that measures, its arguments ...) for everything in question."""

    def wanted(case):
        if case.kind == "derivative":  # no other library has those
            return case.name in functions
        return not functions or case.name in functions or case.function in functions

    elementwise = filter(wanted, cases.ELEMENTWISE + cases.GATED + cases.ELEMENTWISE_LOSSES)
    elementwise = sorted(elementwise, key=lambda case: case.kind, reverse=True)
    forward = [case for case in elementwise if case.kind == "forward"]
    rows = list(filter(wanted, cases.ROWWISE + cases.LOSSES))
    return [
        *((measure_case, case, (size,)) for size in sizes for case in elementwise),
        *((measure_case, case, shape) for shape in shapes for case in rows),
        *((measure_call, case, form) for form in CALL_FORMS for case in forward),
        *([(measure_training,)] if not functions or "training" in functions else []),
    ]


def measure_all(work, attempts, **settings):
    """One Result for each; those that were disturbed once more at the end, up to that many attempts."""
    results = [None] * len(work)
    for _ in range(attempts):
        remaining = [k for k, result in enumerate(results) if result is None or result.disturbed]
        for k in (progress := tqdm(remaining, leave=False, disable=None)):
            measure, *what = work[k]
            progress.set_description(" ".join(str(getattr(item, "name", item)) for item in what) or "training")
            results[k] = measure(*what, **settings)
    return results


def machine(threads):
    """What the figures depend on."""
    cpu = platform.processor()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), cpu)
    versions = {module.__name__: module.__version__ for module in peers.MODULES if module}
    return config() | versions | {"cpu": cpu, "threads": threads, "load_average": round(os.getloadavg()[0], 1)}


def shape_of(text):
    return tuple(int(n) for n in text.split("x"))


def parse():
    parser = argparse.ArgumentParser(prog="python -m bench.compare", description=__doc__)
    parser.add_argument("--functions", nargs="+", default=[], metavar="NAME",
                        help="only these: gelu, gelu.derivative, softmax, training, ... (default: all but derivatives)")
    parser.add_argument("--sizes", nargs="+", type=int, metavar="N", help="elements of the elementwise functions")
    parser.add_argument("--shapes", nargs="+", type=shape_of, metavar="RxC", help="of row-wise functions and losses")
    parser.add_argument("--threads", type=int, default=fa.get_num_threads(), help="of each library (all cores)")
    parser.add_argument("--quick", action="store_true", help="one size, fewer and shorter turns: under a minute")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures, in seconds")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write what is printed as Markdown")
    return parser.parse_args()


def main():
    arguments = parse()
    sizes = arguments.sizes or (cases.SIZES[1:2] if arguments.quick else cases.SIZES)
    shapes = arguments.shapes or (cases.SHAPES[:1] if arguments.quick else cases.SHAPES)
    attempts, rounds, seconds = (1, 3, 0.005) if arguments.quick else (2, 5, 0.01)
    peers.set_num_threads(arguments.threads)
    about = machine(arguments.threads)
    work = work_for(arguments.functions, sizes, shapes)
    if not work:
        raise SystemExit(f"nothing is called {', '.join(arguments.functions)}")
    results = measure_all(work, attempts, threads=arguments.threads, rounds=rounds, seconds=seconds)
    print(page(about, results, as_text), end="")
    if arguments.markdown:
        arguments.markdown.write_text(page(about, results, as_markdown))
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": about, "results": [asdict(r) for r in results]}, indent=1))


if __name__ == "__main__":
    main()
