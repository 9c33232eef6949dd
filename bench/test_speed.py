"""The cases under pytest-benchmark: ``pytest bench --benchmark-only -k "gelu and 1048576"``."""

import numpy as np
import pytest

import fastact as fa
from bench import peers
from bench.cases import CALL_SIZE, ELEMENTWISE, ELEMENTWISE_LOSSES, GATED, LOSSES, ROWWISE, SHAPES, SIZES

pytestmark = pytest.mark.benchmark(max_time=0.05, warmup=True, warmup_iterations=5)


def parameters(cases, shapes):
    for case in cases:
        for shape in shapes:
            text = "x".join(map(str, shape))
            for library in peers.libraries(case):
                yield pytest.param(case, shape, library, id=f"{case.name}-{text}-{library}")


@pytest.mark.parametrize(("case", "shape", "library"), [
    *parameters(ELEMENTWISE + GATED + ELEMENTWISE_LOSSES, [(size,) for size in SIZES]),
    *parameters(ROWWISE + LOSSES, SHAPES),
])
def test_throughput(benchmark, case, shape, library):
    benchmark.group = f"{case.name} {shape}"
    benchmark(peers.bind(library, case, case.arrays(shape), fa.get_num_threads()))


@pytest.mark.parametrize("case", [case for case in ELEMENTWISE if case.kind != "backward"], ids=lambda case: case.name)
def test_call(benchmark, case):
    """What a call costs: the same on few elements, without ``out``."""
    benchmark.group = f"call on {CALL_SIZE} elements"
    function = getattr(fa, case.function)
    function = function.derivative if case.kind == "derivative" else function
    benchmark(function, *case.arrays((CALL_SIZE,))[:1], *case.parameters)


def test_call_of_numpy(benchmark):
    benchmark.group = f"call on {CALL_SIZE} elements"
    benchmark(np.tanh, np.zeros(CALL_SIZE, np.float32))


@pytest.mark.parametrize("library", peers.TRAINING)
def test_training(benchmark, library):
    """An epoch of a small network."""
    benchmark.group = "training"
    benchmark(peers.TRAINING[library]())
