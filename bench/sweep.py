"""Accuracy over every float32.

Evaluates functions on all 2**32 bit patterns (or on every K-th) and compares with the float64 reference, printing the
worst input, its error in ULP and how many inputs exceed 0.5, 1 and 1.5 ULP. Exits with 1 if a promise is broken.
"""

# Why float64 suffices: float32 arguments and their squares are exact in it; every exponential has an argument of at
# most 104 in size where float32 results are not yet constant, so that 2**-53 there is 2**-46 in the value; and
# subnormal float32 results are normal numbers in it. The reference is good to 1e-13 relative (tests hold it against
# mpmath), that is 2e-6 ULP of float32; next to a zero of a derivative it is so relative to the larger of its two terms,
# which is what the error is counted in there.

from __future__ import annotations

import argparse
import importlib
import multiprocessing
import operator
import os
import re
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from tqdm import tqdm

import fastact as fa
from fastact._kernels import dispatch, reference
from fastact.backends import kernels
from fastact.table import ACTIVATIONS

from .cases import PARAMETERS

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))
from oracle import largest_terms  # noqa: E402
from ulp import errors  # noqa: E402

FORWARD = {"exp": np.exp} | reference.FORWARD
DERIVATIVE = reference.DERIVATIVE
PATTERNS = 2**32
TASK = 2**24
BLOCK = 2**15
LIMITS = (0.5, 1.0, 1.5)
SLACK = 1e-5
"""What the error of the reference may add."""
MARKDOWN_HEAD = """\
# Accuracy in float32

The largest error over float32 inputs: all 2^32 bit patterns where the last column says so. One ULP is the float32
spacing at the true value, 2^-149 below 2^-126; next to a zero of a derivative, the spacing at the larger of its two
terms. Parameters have their defaults (`prelu`: weight 0.25, `threshold`: 0.5 and -1). `exp` is the exponential inside
the other kernels. A row is measured, and replaced here, by
`python -m bench.sweep NAME [--derivative] --markdown docs/accuracy.md`.

| function | promised ULP | worst ULP | at | over 0.5 | over 1 | over 1.5 | inputs |
|---|--:|--:|--:|--:|--:|--:|---|"""


def load(target, name, derivative):
    """The function under test, of x alone: ``module:attribute``, or fastact's own of that name."""
    if target:
        module, _, attribute = target.partition(":")
        return operator.attrgetter(attribute)(importlib.import_module(module))
    if name == "exp":
        loops = {dtype: kernels[f"exp_forward_{dtype}"] for dtype in ("float", "double")}
        return dispatch.Elementwise("exp", "The exponential of the other kernels.", loops, 1, (), 0.25, False, None)
    function = getattr(fa, name)
    parameters = np.float32(PARAMETERS[name])
    return lambda x: (function.derivative if derivative else function)(x, *parameters)


def label(name, derivative):
    return name + ".derivative" * derivative


def block_errors(function, name, derivative, x):
    """The error in ULP at every float32 of ``x``."""
    parameters = np.float32(PARAMETERS.get(name, ()))
    computed = function(x)
    with np.errstate(all="ignore"):
        wide = x.astype(np.float64)
        forward = FORWARD[name](wide, *parameters)
        exact = DERIVATIVE[name](wide, *parameters) if derivative else forward
        largest = largest_terms(name, wide, parameters, forward, exact)[derivative]
        return errors(computed, exact, np.float32, largest)


def sweep_task(name, derivative, target, start, stop, stride):
    """Worst error, its input, and how many exceed each limit, over the patterns start, start + stride, ..."""
    function = load(target, name, derivative)
    worst, worst_input, exceeding = -1.0, np.float32(0), np.zeros(len(LIMITS), np.int64)
    for block in range(start, stop, BLOCK * stride):
        patterns = np.arange(block, min(block + BLOCK * stride, stop), stride, dtype=np.int64)
        x = patterns.astype(np.uint32).view(np.float32)
        error = block_errors(function, name, derivative, x)
        exceeding += [np.count_nonzero(error > limit + SLACK) for limit in LIMITS]
        at = error.argmax()
        if error[at] > worst:
            worst, worst_input = error[at], x[at]
    return worst, worst_input, exceeding


def sweep(pool, name, derivative=False, target=None, stride=1):
    """The same over every ``stride``-th float32, in the processes of ``pool``."""
    step = max(TASK // stride, 1) * stride
    tasks = [
        pool.submit(sweep_task, name, derivative, target, start, min(start + step, PATTERNS), stride)
        for start in range(0, PATTERNS, step)
    ]
    results = [task.result() for task in tqdm(tasks, desc=label(name, derivative), leave=False, disable=None)]
    worst, worst_input, _ = max(results, key=operator.itemgetter(0))
    return worst, worst_input, sum(exceeding for _, _, exceeding in results)


def promise(name, derivative):
    for row in ACTIVATIONS:
        if row.name == name:
            return (row.max_ulp_derivative if derivative else row.max_ulp)[0]
    return None


def write_markdown(path, rows):
    """Write the table of worst cases; what the file has of other functions stays."""
    if path.exists():
        rows = dict(re.findall(r"^\| `([^`]+)` (.*)$", path.read_text(), re.MULTILINE)) | rows
    order = [label(name, derivative) for name in FORWARD for derivative in (False, True)]
    lines = [f"| `{name}` {rows[name]}" for name in order if name in rows]
    path.write_text("\n".join((MARKDOWN_HEAD, *lines)) + "\n")


def parse():
    parser = argparse.ArgumentParser(prog="python -m bench.sweep", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="functions of the table, or exp: the kernels' own")
    parser.add_argument("--derivative", action="store_true", help="their derivatives")
    parser.add_argument("--all", action="store_true", help="every function and every derivative")
    parser.add_argument("--stride", type=int, default=1, metavar="K", help="every K-th bit pattern only")
    parser.add_argument("--jobs", type=int, default=1, help="processes (default 1)")
    parser.add_argument("--function", metavar="MODULE:NAME", help="what to measure instead of fastact's NAME")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="also write the table there; other rows stay")
    arguments = parser.parse_args()
    if arguments.all:
        work = [(name, False) for name in FORWARD] + [(name, True) for name in DERIVATIVE]
    else:
        work = [(name, arguments.derivative) for name in arguments.names]
    known = DERIVATIVE if arguments.derivative else FORWARD
    if not work or not known.keys() >= set(arguments.names):
        parser.error(f"NAME is one of {', '.join(known)}")
    if arguments.function and len(work) > 1:
        parser.error("--function measures one NAME")
    return arguments, work


def main():
    arguments, work = parse()
    os.environ["FASTACT_NUM_THREADS"] = "1"
    rows, broken = {}, False
    print(f"{'':24}{'worst ULP':>9}{'promise':>9}  {'at':16}" + "".join(f"{f'> {limit}':>14}" for limit in LIMITS))
    with ProcessPoolExecutor(arguments.jobs, multiprocessing.get_context("spawn")) as pool:
        for name, derivative in work:
            begin = time.perf_counter()
            worst, at, exceeding = sweep(pool, name, derivative, arguments.function, arguments.stride)
            promised = None if arguments.function else promise(name, derivative)
            counts = [f"{count:,}" for count in exceeding]
            print(
                f"{label(name, derivative):24}{worst:9.3f}{promised or '':>9}  {at!s:16}"
                + "".join(f"{count:>14}" for count in counts)
                + f"{time.perf_counter() - begin:8.0f} s",
                flush=True,
            )
            broken |= promised is not None and worst > promised + SLACK
            tested = "all" if arguments.stride == 1 else f"1 in {arguments.stride}"
            cells = (f"{promised or ''}", f"{worst:.3f}", f"{at!s}", *counts, tested)
            rows[label(name, derivative)] = f"| {' | '.join(cells)} |"
            if arguments.markdown:
                write_markdown(arguments.markdown, rows)
    sys.exit(int(broken))


if __name__ == "__main__":
    main()
