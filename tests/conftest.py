"""Warnings are errors, hypothesis is seeded, and no test leaves another number of threads behind."""

import sys
from pathlib import Path

import hypothesis
import numpy as np
import pytest

# The helpers beside this file can be imported; the clone's own fastact/, which holds no compiled kernels, comes last.
HERE = Path(__file__).resolve().parent
in_clone = [entry for entry in sys.path if Path(entry).resolve() == HERE.parent]
sys.path[:] = [str(HERE), *(entry for entry in sys.path if entry not in in_clone), *in_clone]

import fastact as fa  # noqa: E402
from fastact import backends  # noqa: E402

hypothesis.settings.register_profile("fastact", deadline=None, derandomize=True, database=None, max_examples=50)
hypothesis.settings.load_profile("fastact")


def pytest_configure(config):
    # What NumPy or another package will drop one day fails only where fastact uses it.
    for line in ("error", "ignore::DeprecationWarning", "ignore::FutureWarning", "error:::fastact"):
        config.addinivalue_line("filterwarnings", line)


def pytest_report_header():
    return f"fastact from {Path(fa.__file__).parent}"


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def set_num_threads():
    """fa.set_num_threads, undone at the end."""
    before = fa.get_num_threads()
    yield fa.set_num_threads
    fa.set_num_threads(before)


@pytest.fixture
def no_cache():
    """Outputs of any size are stored as those that no cache holds."""

    def set_size(size):
        if backends.kernels is not None:
            backends.operands.bind(backends.kernels, size)
        if numba_cpu := sys.modules.get("fastact._kernels.numba_cpu"):
            numba_cpu.bind(size)

    set_size(0)
    yield
    set_size(backends.last_level_cache)
