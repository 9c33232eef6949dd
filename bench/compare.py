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
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from timeit import Timer

import numpy as np
from tqdm import tqdm

import fastact as fa
from bench import peers
from bench.cases import CALL_SIZE, ELEMENTWISE, LOSSES, REQUIRED_PARAMETERS, ROWWISE, SHAPES, SIZES
from fastact._kernels import dispatch

COPY = "copy"
BAR = ("NumPy", "SciPy", "PyTorch", "PyTorch out")
"""The libraries that must not be faster; ONNX Runtime is shown beside them."""
COLUMNS = ("fastact", *BAR, "ONNX Runtime", COPY)
SECTIONS = ("forward", "derivative", "backward", "rows", "loss")
CALL_FORMS = ("f(x{})", "f(x{}, out=y)")
LAST_LEVEL_CACHE = 2**26
"""Bytes of an input from which on the share of a copy through memory is shown."""
CHECKED_ROWS = {1: slice(2**16), 2: slice(64)}


@dataclass
class Result:
    """Median seconds of one call, for each library."""

    section: str
    name: str
    shape: tuple
    moved: int
    seconds: dict

    def against(self, names):
        """How many times faster than the fastest of ``names``."""
        others = [self.seconds[name] for name in names if name in self.seconds]
        return min(others) / self.seconds["fastact"] if others else None

    @property
    def share_of_copy(self):
        """Bytes per second over those of the copy, which moves two arrays."""
        if COPY in self.seconds:
            return self.moved / 2 * self.seconds[COPY] / self.seconds["fastact"]
        return None


def go_quiet():
    """Wait, at most 0.2 s, until no thread of this process spins any more."""
    for _ in range(20):
        before = time.process_time()
        time.sleep(0.01)
        if time.process_time() - before < 0.002:
            return


def take_turns(timers, rounds, turn):
    """Median seconds of one call for each timer; ``turn`` is how long each may take, in seconds."""
    calls = {}
    for name, timer in timers.items():
        timer.timeit(1)
        calls[name] = max(1, int(turn / timer.timeit(1)))
    samples = {name: [] for name in timers}
    for _ in range(rounds):
        for name, timer in timers.items():
            go_quiet()
            timer.timeit(max(1, calls[name] // 10))
            samples[name].append(timer.timeit(calls[name]) / calls[name])
    return {name: statistics.median(sample) for name, sample in samples.items()}


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


def measure_case(case, shape, threads, rounds, turn):
    arrays = case.arrays(shape)
    runs = peers.bind(case, arrays, threads)
    for library, run in runs.items():
        check(case, arrays, library, run)
    if arrays[0].nbytes >= LAST_LEVEL_CACHE:
        source, target = arrays[0], np.empty_like(arrays[0])
        runs[COPY] = lambda: dispatch.stream_copy(target, source)
    seconds = take_turns({library: Timer(run) for library, run in runs.items()}, rounds, turn)
    return Result(case.kind, case.name, shape, case.moved, seconds)


def measure_call(case, form, threads, rounds, turn):
    """A call on few elements: what the call itself costs. For NumPy np.tanh, whichever the function."""
    arrays = case.arrays((CALL_SIZE,))
    required = "".join(f", {value}" for value in REQUIRED_PARAMETERS.get(case.name, ()))
    functions = {"fastact": (getattr(fa, case.name), required), "NumPy": (np.tanh, "")}
    timers = {
        library: Timer(form.format(parameters), globals={"f": function, "x": arrays[0], "y": arrays[1]})
        for library, (function, parameters) in functions.items()
    }
    if "out" in form:
        runs = peers.bind(case, arrays, threads)
        timers |= {library: Timer(runs[library]) for library in ("PyTorch", "ONNX Runtime") if library in runs}
    return Result("call " + form.format(""), case.name, (CALL_SIZE,), 2, take_turns(timers, rounds, turn))


def measure_all(sizes, shapes, functions, threads, rounds, turn):
    """Every case in question, one Result each."""

    def wanted(cases):
        return [case for case in cases if not functions or case.name in functions or case.function in functions]

    work = [(case, (size,)) for size in sizes for case in wanted(ELEMENTWISE)
            if case.kind != "derivative" or case.name in functions]
    work += [(case, shape) for shape in shapes for case in wanted(ROWWISE + LOSSES)]
    calls = [(case, form) for form in CALL_FORMS for case in wanted(ELEMENTWISE) if case.kind == "forward"]
    work.sort(key=lambda pair: SECTIONS.index(pair[0].kind))
    with tqdm(total=len(work) + len(calls), leave=False, disable=None) as progress:
        for case, shape in work:
            progress.set_description(f"{case.name} {'x'.join(map(str, shape))}")
            yield measure_case(case, shape, threads, rounds, turn)
            progress.update()
        for case, form in calls:
            progress.set_description(f"call {case.name}")
            yield measure_call(case, form, threads, rounds, turn)
            progress.update()


def machine(threads):
    """What the figures depend on."""
    cpu = platform.processor()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), cpu)
    versions = {}
    for package in ("fastact", "numpy", "scipy", "torch", "onnxruntime"):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return {"cpu": cpu, "threads": threads, "load": os.getloadavg()[0], "versions": versions, "fastact": fa.show_config()}


# What the reader sees -------------------------------------------------------------------------------------------------


def figure(result, library):
    seconds = result.seconds.get(library)
    if seconds is None:
        return ""
    if result.section.startswith("call"):
        return f"{seconds * 1e9:.0f}"
    return f"{math.prod(result.shape) / seconds / 1e9:.2f}"


def optional(value):
    return "" if value is None else f"{value:.2f}"


def tables(results):
    """(title, rows of cells) for every section and shape."""
    for section, shape in dict.fromkeys((result.section, result.shape) for result in results):
        group = [result for result in results if (result.section, result.shape) == (section, shape)]
        libraries = [name for name in COLUMNS if any(name in result.seconds for result in group)]
        header = ["", *libraries, "vs best", "vs ORT", "of copy"]
        rows = [
            [result.name, *(figure(result, name) for name in libraries), optional(result.against(BAR)),
             optional(result.against(["ONNX Runtime"])), optional(result.share_of_copy)]
            for result in group
        ]
        used = [any(row[column] for row in rows) for column in range(len(header))]
        unit = "ns a call" if section.startswith("call") else "Gelem/s"
        title = f"{section}, float32, {' x '.join(f'{n:,}' for n in shape)}: {unit}"
        yield title, [[cell for cell, use in zip(row, used) if use] for row in [header, *rows]]


def as_text(title, rows):
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows]
    return "\n".join(["", title, *lines])


def as_markdown(title, rows):
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines.insert(1, "|---" + "|--:" * (len(rows[0]) - 1) + "|")
    return "\n".join(["", title, "", *lines])


def verdict(results):
    """Where a peer is faster."""
    lines = []
    for names, label in ((BAR, "the best of NumPy, SciPy and PyTorch"), (["ONNX Runtime"], "ONNX Runtime")):
        compared = [result for result in results if result.against(names)]
        slower = sorted((result for result in compared if result.against(names) < 1), key=lambda r: r.against(names))
        lines += ["", f"Slower than {label} in {len(slower)} of {len(compared)} cells{':' if slower else '.'}"]
        lines += [f"- {result.against(names):.2f} {result.name}, {result.section}, {result.shape}" for result in slower]
    return "\n".join(lines)


def shape_of(text):
    return tuple(int(n) for n in text.split("x"))


def parse():
    parser = argparse.ArgumentParser(prog="python -m bench.compare", description=__doc__)
    parser.add_argument("--functions", nargs="+", default=[], metavar="NAME",
                        help="only these: gelu, gelu.derivative, softmax, ... (default: all but the derivatives)")
    parser.add_argument("--sizes", nargs="+", type=int, metavar="N", help=f"elements, default {SIZES}")
    parser.add_argument("--shapes", nargs="+", type=shape_of, metavar="RxC", help="for row-wise functions and losses")
    parser.add_argument("--threads", type=int, default=fa.get_num_threads(), help="for every library (default %(default)s)")
    parser.add_argument("--quick", action="store_true", help="fewer sizes and turns, under a minute")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures, in seconds")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables")
    return parser.parse_args()


def main():
    arguments = parse()
    sizes = arguments.sizes or (SIZES[1:2] if arguments.quick else SIZES)
    shapes = arguments.shapes or (SHAPES[:1] if arguments.quick else SHAPES)
    rounds, turn = (3, 0.005) if arguments.quick else (7, 0.01)
    peers.set_num_threads(arguments.threads)
    about = machine(arguments.threads)
    results = list(measure_all(sizes, shapes, arguments.functions, arguments.threads, rounds, turn))
    heading = (f"{about['cpu']}, {about['threads']} threads, load average {about['load']:.1f} at the start; "
               + ", ".join(f"{name} {version}" for name, version in about["versions"].items()))
    print(heading, *(as_text(*table) for table in tables(results)), verdict(results), sep="\n")
    if arguments.markdown:
        parts = [heading, *(as_markdown(*table) for table in tables(results)), verdict(results)]
        arguments.markdown.write_text("\n".join(parts) + "\n")
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": about, "results": [asdict(r) for r in results]}, indent=1))


if __name__ == "__main__":
    main()
