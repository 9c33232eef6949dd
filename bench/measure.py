"""Speed beside other libraries, in one process with equal threads for all.

Every library writes to memory that it reuses, its result is checked before it is timed, and the libraries take turns.
Figures are medians over the turns.
"""

from __future__ import annotations

import functools
import os
import platform
from pathlib import Path
from timeit import Timer

import numpy as np
from tqdm import tqdm

import fastact as fa
from fastact._kernels import reference
from fastact.backends import config, dispatch, last_level_cache

from . import cases, peers, training
from .cases import AXIS_0, CALL_SIZE, Memory, Setting
from .results import COPY, OURS, Cell, Result
from .timing import take_turns

CALL, TRAINING = "call", "training step"
CALL_FORMS = {False: "f(x{})", True: "f(x{}, out=y)"}
"""By whether memory is given."""
CHECKED = 2**16
"""About so many elements of each result."""
TOLERANCE = {"float64": 1e-3, "float32": 1e-3, "float16": 0.02, "bfloat16": 0.1}
"""Relative; functions are equal by definition, some only approximately, and many compute in half types."""
SMOOTH = 0.99
"""Of the elements that are checked so many must be right: at a kink, where half types often are, libraries differ."""
SAMPLE = 2**20
"""Of all float32 values, for errors in ULP; taken where the arrays have so many elements."""
CASES = {case.name: case for case in peers.CASES}


# Checks -------------------------------------------------------------------------------------------------------------


def wrong(case, setting, arrays, returned):
    """What is wrong with a result, or None."""
    last = [np.moveaxis(a, 0, -1) if setting.layout == AXIS_0 else a for a in arrays]
    rows = slice(max(1, CHECKED // setting.shape[-1])) if len(setting.shape) > 1 else slice(CHECKED)
    written = setting.out and not np.isnan(float(arrays[-1].flat[0]))
    got = (
        last[-1]
        if written
        else np.moveaxis(as_array(returned), 0, -1)
        if setting.layout == AXIS_0
        else as_array(returned)
    )
    expected = case.expected(rows, *last)
    got = got[rows].astype(np.float64)
    if got.shape != expected.shape:
        return f"shape {got.shape}, not {expected.shape}"
    error = np.abs(got - expected) / np.maximum(np.abs(expected), 0.1 * np.abs(expected).max())
    error = np.quantile(error, SMOOTH)
    return None if error <= TOLERANCE[setting.dtype] else f"wrong by {error:.2g}"


def as_array(returned):
    return (
        returned
        if isinstance(returned, np.ndarray)
        else np.asarray(returned.float() if is_bfloat(returned) else returned)
    )


def is_bfloat(value):
    """Whether it is a tensor that NumPy cannot take."""
    return str(getattr(value, "dtype", "")) == "torch.bfloat16"


@np.errstate(all="ignore")
def ready(case, setting, arrays, libraries):
    """The calls whose results are right, and why others are left out; AssertionError if ours is wrong."""
    runs, left_out = {}, {}
    for library in libraries:
        arrays[-1].fill(np.nan)
        try:
            run = peers.LIBRARIES[library](case, setting, arrays)
            problem = run and wrong(case, setting, arrays, run())
        except Exception as error:  # noqa: BLE001 - libraries refuse what they cannot do with errors of all kinds
            if library == OURS:
                raise
            run, problem = None, f"{type(error).__name__}: {str(error).strip().splitlines()[0][:100]}"
        if problem and library == OURS:
            raise AssertionError(f"{case.name}, {setting}: {problem}")
        if problem:
            left_out[library] = problem
        elif run:
            runs[library] = run
    return runs, left_out


LARGEST = 2.0**128
"""The power of two after the largest float32, as which infinities count."""

TERMS = {"hardsigmoid": 0.5}
"""Of sums that cancel: next to their zeros errors count in units of this term, as the promised ones do."""


@functools.lru_cache(1)
def float32_sample():
    """Evenly spaced bit patterns without the infinities and NaNs."""
    values = (np.arange(SAMPLE, dtype=np.uint32) * np.uint32(2**32 // SAMPLE) + np.uint32(0x555)).view(np.float32)
    return np.where(np.isfinite(values), values, np.float32(0))


@np.errstate(all="ignore")
def largest_errors(case, setting, libraries):
    """In ULP of float32, for each library, where the result is a normal number: some libraries have no others."""
    x = float32_sample()
    exact = reference.FORWARD[case.name](x, *np.float32(case.parameters(setting)))
    exact = np.where(np.abs(exact) < np.finfo(np.float32).tiny, np.nan, np.clip(exact, -LARGEST, LARGEST))
    term = TERMS.get(case.name, 0.0)
    unit = np.ldexp(1.0, np.frexp(np.where(2 * np.abs(exact) < term, term, exact))[1] - 24)
    found = {}
    for library in libraries:
        out = np.full_like(x, np.nan)
        returned = peers.LIBRARIES[library](case, setting, (x.copy(), out))()
        got = np.clip((out if not np.isnan(out[0]) else as_array(returned)).astype(np.float64), -LARGEST, LARGEST)
        error = np.abs(got - exact) / unit
        error[np.isnan(got)] = np.inf
        found[library] = float(np.nanmax(error))
    return found


# What is measured -----------------------------------------------------------------------------------------------------


def measure_case(cell, libraries, **turns):
    case, setting = CASES[cell.name], cell.setting
    arrays = case.arrays(Memory(setting))
    runs, left_out = ready(case, setting, arrays, libraries)
    accuracy = case.kind == "forward" and setting == Setting((SAMPLE,))
    ulp = largest_errors(case, setting, runs) if accuracy else {}
    if arrays[0].nbytes > last_level_cache and setting.layout == cases.CONTIGUOUS:
        source, target = arrays[0], np.empty_like(arrays[0])
        copy = dispatch.stream_copy if dispatch else np.copyto
        runs[COPY] = functools.partial(copy, target, source)
    timers = {library: Timer(run) for library, run in runs.items()}
    return Result(cell, case.moved, *take_turns(timers, **turns), left_out, ulp)


def measure_call(cell, libraries, **turns):
    """A call on few elements: what the call itself costs. For NumPy np.tanh, whichever the function."""
    case, setting = CASES[cell.name], cell.setting
    arrays = case.arrays(Memory(setting))
    required = "".join(f", {value}" for value in cases.REQUIRED_PARAMETERS.get(case.name, ()))
    functions = {OURS: (getattr(fa, case.name), required), "np.tanh": (np.tanh, "")}
    timers = {
        library: Timer(
            CALL_FORMS[setting.out].format(parameters), globals={"f": function, "x": arrays[0], "y": arrays[1]}
        )
        for library, (function, parameters) in functions.items()
    }
    others = [library for library in libraries if library in ("PyTorch", "JAX", "ONNX Runtime")]
    runs, left_out = ready(case, setting, arrays, others)
    timers |= {library: Timer(run) for library, run in runs.items()}
    return Result(cell, 2, *take_turns(timers, **turns), left_out)


def measure_training(cell, libraries, **turns):
    timers = {library: Timer(make()) for library, make in training.SMALL.items() if library in libraries}
    epochs, disturbed = take_turns(timers, **turns)
    steps = cases.TRAINING_ROWS // cases.BATCH
    return Result(cell, 0, {library: epoch / steps for library, epoch in epochs.items()}, disturbed)


def cells_of_cases(names, sizes, shapes, settings, threads):
    """The cells of the named cases in those of the settings, dicts without a shape, that suit them."""
    return [
        Cell(case.kind, case.name, setting, threads)
        for group, forms in ((cases.VECTORS, [(size,) for size in sizes]), (cases.MATRICES, shapes))
        for shape in forms
        for kind in dict.fromkeys(case.kind for case in group)
        for case in group
        if case.kind == kind and named(case, names)
        for setting in (Setting(shape, **choice) for choice in settings)
        if case.suits(setting) and (case.kind != "optimizer" or dispatch)
    ]


def named(case, names):
    return not names or case.name in names or case.function in names


def cells_of_calls(names, threads):
    return [
        Cell(CALL, case.name, Setting((CALL_SIZE,), out=out), threads)
        for out in CALL_FORMS
        for case in cases.ELEMENTWISE
        if case.kind == "forward" and named(case, names)
    ]


def cells_of_training(threads):
    """None without compiled kernels, which the trainer needs."""
    name = "-".join(map(str, cases.LAYERS))
    return [Cell(TRAINING, name, Setting((cases.BATCH, cases.LAYERS[0])), threads)] if dispatch else []


MEASURE = {CALL: measure_call, TRAINING: measure_training}


@np.errstate(all="ignore")
def measure_all(cells, libraries_of, attempts=1, keep=lambda result: None, **turns):
    """One Result for each; those that were disturbed once more at the end, up to that many attempts.

    ``libraries_of`` says which libraries to ask for a cell; ``keep`` is given each result as it comes.
    """
    results = {}
    for _ in range(attempts):
        remaining = [cell for cell in cells if cell not in results or results[cell].disturbed]
        for cell in (progress := tqdm(remaining, leave=False, disable=None)):
            progress.set_description(f"{cell.name} {'x'.join(map(str, cell.setting.shape))}")
            results[cell] = MEASURE.get(cell.kind, measure_case)(cell, libraries_of(cell), **turns)
            keep(results[cell])
    return list(results.values())


def machine():
    """What the figures depend on."""
    cpu = platform.processor()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), cpu)
    facts = config()
    return {
        "cpu": cpu,
        "cpus": os.cpu_count(),
        "last_level_cache": last_level_cache,
        "instruction_set": facts["instruction_set"],
        "backend": facts["backend"],
        "python": platform.python_version(),
        "system": platform.platform(),
        "versions": peers.VERSIONS,
        "missing": peers.MISSING,
    }
