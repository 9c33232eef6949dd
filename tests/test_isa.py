"""Every instruction set of compiled kernels that this CPU runs: the suite above ran the best of them, these run the others."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cases import FROM_OUTPUT, NAMES, breaking_points, defaults, promised_ulp, same_bits
from test_accuracy import decided, from_mpmath, output_from_mpmath
from ulp import worst

from fastact import backends

HERE = Path(__file__).parent
if backends.dispatch is None:
    pytest.skip("there are no compiled kernels", allow_module_level=True)
SUPPORTED = backends.dispatch.supported_instruction_sets()
OTHERS = [name for name in SUPPORTED if name != backends.instruction_set]


def child(isa, *arguments):
    environment = {**os.environ, "FASTACT_BACKEND": "cython", "FASTACT_ISA": isa}  # Numba has instruction sets of its own
    return subprocess.run([sys.executable, *arguments], env=environment, cwd=HERE, capture_output=True, text=True)


def test_baseline_runs_everywhere():
    assert SUPPORTED[-1] == "baseline"


@pytest.mark.parametrize("isa", SUPPORTED)
def test_is_chosen_by_the_environment(isa):
    result = child(isa, "-c", "import fastact as fa; fa.show_config()")
    assert isa in next(line for line in result.stdout.splitlines() if line.startswith("instruction set "))


def test_an_unknown_one_is_an_error_that_lists_what_there_is():
    result = child("avx9000", "-c", "import fastact")
    assert result.returncode != 0
    assert "ImportError" in result.stderr and ", ".join(SUPPORTED) in result.stderr


@pytest.mark.parametrize("isa", OTHERS)
def test_accuracy_specials_rows_and_losses(isa):
    files = ["test_accuracy.py", "test_specials.py", "test_gated.py", "test_rowwise.py", "test_softmax_cross_entropy.py",
             "test_row_losses.py", "test_elementwise_losses.py", "test_simplex.py"]
    result = child(isa, "-m", "pytest", "-q", "--tb=line", "-p", "no:cacheprovider", *files, "-k",
                   "not mpmath and not scipy and not PyTorch and not backward")  # fmt: skip
    assert result.returncode == 0, result.stdout[-4000:]


@pytest.mark.parametrize("isa", OTHERS)
def test_same_bits_for_every_length_and_layout(isa):
    result = child(isa, "-m", "pytest", "-q", "--tb=line", "-p", "no:cacheprovider", "test_ufunc.py", "-k",
                   "TestSameBits and (length or layout) and not float16 and not backward")  # fmt: skip
    assert result.returncode == 0, result.stdout[-4000:]


BITS = """
import sys
import numpy as np
import fastact as fa
from cases import Method, breaking_points
from fastact.table import ACTIVATIONS, GATED

results = {}
for dtype, T in (("float32", "float"), ("float16", "float"), ("float64", "double")):
    # The last ones end within a vector, and all are far from 0 somewhere.
    x = np.concatenate([breaking_points(dtype, 3000), np.random.default_rng(0).normal(0, 4, 20_001).astype(dtype)])
    for row in ACTIVATIONS:
        if T in row.by_hand:
            for kind in ("forward", "derivative"):
                results[f"{row.name} {kind} {dtype}"] = Method(row.name, kind)(x)
    for row in GATED:
        if T in row.by_hand:
            function = getattr(fa, row.name)
            halves = (np.concatenate([x, x[::-1]]),) if row.name == "glu" else (x, x[::-1].copy())
            gradients = function.backward(np.ones_like(x), *halves)
            results[f"{row.name} forward {dtype}"] = function(*halves)
            results[f"{row.name} backward {dtype}"] = np.concatenate(np.atleast_2d(gradients))
    if T == "float":
        value = fa.sigmoid_cross_entropy.value_and_grad(x, np.full_like(x, 0.3), reduction="none")
        results[f"sigmoid_cross_entropy {dtype}"] = np.stack(value)
np.savez(sys.argv[1], **results)
"""


@pytest.mark.skipif("avx512" not in SUPPORTED, reason="needs AVX-512")
def test_kernels_by_hand_have_the_same_bits_for_avx2_and_avx512(tmp_path):
    results = []
    for isa in ("avx2", "avx512"):
        result = child(isa, "-c", BITS, str(tmp_path / f"{isa}.npz"))
        assert result.returncode == 0, result.stderr
        results.append(np.load(tmp_path / f"{isa}.npz"))
    # softsign and squareplus begin with AVX-512's approximations, or else divide.
    names = [name for name in results[0] if not name.startswith(("softsign", "squareplus"))]
    assert {*names} >= {"gelu forward float32", "geglu backward float16", "silu derivative float64", "swiglu backward float64"}
    assert [name for name in names if not same_bits(results[0][name], results[1][name])] == []


PROGRAM = """
import sys
import numpy as np
import fastact as fa
from cases import FROM_OUTPUT, NAMES, Method, defaults

arrays = dict(np.load(sys.argv[1]))
results = {}
for name in NAMES:
    parameters = dict(zip(getattr(fa, name).parameters, defaults(name)))
    for kind in ("forward", "derivative"):
        results[f"{name} {kind}"] = Method(name, kind)(arrays[f"{name} x"], *defaults(name))
    if name in FROM_OUTPUT:
        y = arrays[f"{name} y"]
        results[f"{name} from output"] = getattr(fa, name).backward(np.ones_like(y), output=y, **parameters)
np.savez(sys.argv[2], **results)
"""


@pytest.fixture(scope="module", params=OTHERS)
def float64_results(request, tmp_path_factory):
    """Of all functions with their defaults, from a process that runs another instruction set."""
    points = {f"{name} x": decided(name, defaults(name), breaking_points("float64", 2500)) for name in NAMES}
    points |= {f"{name} y": output_from_mpmath(name, defaults(name), "float64", 500)[0] for name in FROM_OUTPUT}
    folder = tmp_path_factory.mktemp(request.param)
    np.savez(folder / "points.npz", **points)
    result = child(request.param, "-c", PROGRAM, str(folder / "points.npz"), str(folder / "results.npz"))
    assert result.returncode == 0, result.stderr
    return np.load(folder / "results.npz")


@pytest.mark.parametrize("name", NAMES)
def test_float64_against_mpmath(name, float64_results):
    x, forward, derivative = from_mpmath(name, defaults(name), "float64", 2500)
    measured = [("forward", forward, x), ("derivative", derivative, x)]
    if name in FROM_OUTPUT:
        y, *wanted = output_from_mpmath(name, defaults(name), "float64", 500)
        measured.append(("from output", wanted, y))
    for kind, (exact, largest_term), points in measured:
        error, where = worst(float64_results[f"{name} {kind}"], exact, "float64", points, largest_term)
        assert error <= promised_ulp(name, "float64", kind), where
