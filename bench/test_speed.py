"""The cases under pytest-benchmark: ``python -m pytest bench --benchmark-only -k "gelu-" --sizes 2^20 --dtypes float16``."""

import numpy as np
import pytest

import fastact as fa
from bench import measure, peers, training
from bench.cases import CALL_SIZE, ELEMENTWISE, Memory, Setting

pytestmark = pytest.mark.benchmark(max_time=0.05, warmup=True, warmup_iterations=5)


@pytest.fixture(scope="session", autouse=True)
def threads(pytestconfig):
    peers.set_num_threads(pytestconfig.getoption("threads") or fa.get_num_threads())


def pytest_generate_tests(metafunc):
    if "cell" not in metafunc.fixturenames:
        return
    option = metafunc.config.getoption
    settings = [
        {"dtype": dtype, "layout": layout, "out": not option("new_memory")}
        for dtype in option("dtypes")
        for layout in option("layouts")
    ]
    libraries = [name for name in peers.LIBRARIES if name != peers.COMPILED or option("compiled")]
    found = [
        pytest.param(
            cell, library, id=f"{cell.name}-{'x'.join(map(str, cell.setting.shape))}-{cell.setting.dtype}-{library}"
        )
        for cell in measure.cells_of_cases([], option("sizes"), option("shapes"), settings, option("threads"))
        for library in libraries
    ]
    metafunc.parametrize(("cell", "library"), found)


def test_throughput(benchmark, cell, library):
    """After its result was found to be right."""
    case = measure.CASES[cell.name]
    runs, left_out = measure.ready(case, cell.setting, case.arrays(Memory(cell.setting)), [library])
    if library not in runs:
        pytest.skip(left_out.get(library, f"{library} does not have it"))
    benchmark.group = f"{cell.name}: {cell.kind}, {cell.setting}"
    benchmark(runs[library])


@pytest.mark.parametrize("case", [case for case in ELEMENTWISE if case.kind != "backward"], ids=lambda case: case.name)
def test_call(benchmark, case):
    """What a call costs: the same on few elements, without ``out``."""
    benchmark.group = f"call on {CALL_SIZE} elements"
    setting = Setting((CALL_SIZE,))
    function = getattr(fa, case.function)
    function = function.derivative if case.kind == "derivative" else function
    benchmark(function, case.arrays(Memory(setting))[0], *case.parameters(setting))


def test_call_of_numpy(benchmark):
    benchmark.group = f"call on {CALL_SIZE} elements"
    benchmark(np.tanh, np.zeros(CALL_SIZE, np.float32))


@pytest.mark.parametrize("library", training.SMALL)
def test_training(benchmark, library):
    """An epoch of a small network."""
    benchmark.group = "training"
    benchmark(training.SMALL[library]())
