"""One row, everywhere: what has no formula, reference, oracle, benchmark, stub or line in the README fails here."""

import ast
import importlib
import re
from pathlib import Path

import numpy as np
import oracle
import pytest
from cases import FROM_OUTPUT, NAMES, PARAMETERS, ROWS

import fastact as fa
from fastact._kernels import numba_loss_formulas, numba_scalar, reference
from fastact.table import ELEMENTWISE_LOSSES, GATED

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = Path(fa.__file__).parent


def in_clone(*parts):
    path = ROOT.joinpath(*parts)
    return path if path.exists() else pytest.skip(f"no {'/'.join(parts)} beside these tests")


@pytest.fixture
def bench(monkeypatch):
    """Imports a module of the benchmarks."""
    in_clone("bench")
    monkeypatch.syspath_prepend(ROOT)
    return lambda name: importlib.import_module(f"bench.{name}")


class TestRows:
    def test_names_are_unique(self):
        assert len(NAMES) == len(set(NAMES))
        assert NAMES == fa.list_activations()

    @pytest.mark.parametrize("name", NAMES)
    def test_says_everything(self, name):
        row = ROWS[name]
        assert row.summary.endswith(".") and row.formula and row.derivative
        assert len(row.max_ulp) == len(row.max_ulp_derivative) == 2
        assert all(0.5 <= ulp <= 5 for ulp in row.max_ulp + row.max_ulp_derivative)
        for parameter, default in row.parameters:
            assert parameter.isidentifier() and (default is None or isinstance(default, float))
            assert parameter in row.formula

    def test_design_is_complete(self):
        """The functions promised, with their parameters and defaults."""
        promised = """identity sigmoid tanh relu relu6 leaky_relu(negative_slope=0.01) prelu(weight)
            rrelu(lower=0.125,upper=0.3333333333333333) elu(alpha=1.0) selu
            celu(alpha=1.0) gelu gelu_tanh gelu_quick silu swish(beta=1.0) mish softplus(beta=1.0) softsign
            softshrink(lambd=0.5) hardshrink(lambd=0.5) tanhshrink threshold(threshold,value)
            hardtanh(min_val=-1.0,max_val=1.0) hardsigmoid(alpha=0.16666666666666666,beta=0.5) hardswish logsigmoid
            squareplus(b=4.0) relu_squared"""
        for entry in promised.split():
            name, _, parameters = entry.rstrip(")").partition("(")
            wanted = [p.partition("=")[::2] for p in parameters.split(",") if p]
            assert [(p, float(v) if v else None) for p, v in wanted] == list(ROWS[name].parameters)


@pytest.mark.parametrize("name", NAMES)
class TestEveryRowHas:
    def test_a_scalar_formula(self, name):
        """... and its derivatives, side by side."""
        text = (PACKAGE / "_kernels" / "scalar.pxd").read_text()
        for suffix in ("", "_derivative") + ("_derivative_from_output",) * ROWS[name].from_output:
            assert re.search(rf"^cdef inline \w+ {name}{suffix}\(", text, re.M), f"{name}{suffix}"

    def test_a_formula_for_numba(self, name):
        for T in (np.float32, np.float64):
            formulas = numba_scalar.formulas(T, numba_scalar.plain(T))
            assert {name, f"{name}_derivative"} <= set(formulas)
            assert (f"{name}_derivative_from_output" in formulas) == (name in FROM_OUTPUT)

    def test_a_reference(self, name):
        assert name in reference.FORWARD and name in reference.DERIVATIVE
        assert (name in reference.DERIVATIVE_FROM_OUTPUT) == (name in FROM_OUTPUT)

    def test_an_oracle(self, name):
        assert name in oracle.FORWARD and name in oracle.DERIVATIVE
        assert (name in oracle.DERIVATIVE_FROM_OUTPUT) == (name in FROM_OUTPUT)

    def test_test_cases(self, name):
        assert (name in PARAMETERS) == bool(ROWS[name].parameters)

    def test_a_benchmark(self, name, bench):
        cases = {case.name for case in bench("cases").ELEMENTWISE}
        assert {name, f"{name}.derivative", f"{name}.backward"} <= cases


def test_every_gated_function_has_a_reference_and_a_benchmark(bench):
    names = [row.name for row in GATED]
    assert list(reference.GATED) == list(reference.GATED_BACKWARD) == names
    assert {*names, *(f"{name}.backward" for name in names), "maxout"} == {case.name for case in bench("cases").GATED}


def test_every_row_wise_function_and_loss_has_a_reference_and_a_benchmark(bench):
    rowwise = ["softmax", "log_softmax", "softmin", "logsumexp", "sparsemax"]
    assert sorted(reference.ROWWISE) == sorted(reference.ROWWISE_BACKWARD) == sorted(rowwise)
    assert sorted(reference.VALUE_AND_GRAD) == sorted(fa.list_losses())
    cases = bench("cases")
    assert set(rowwise) <= {case.name for case in cases.ROWWISE}
    assert set(fa.list_losses()) <= {case.name for case in cases.LOSSES + cases.ELEMENTWISE_LOSSES}


@pytest.mark.parametrize("T", [np.float32, np.float64])
def test_every_gated_function_and_loss_has_a_formula_for_numba(T):
    plain = numba_scalar.plain(T)
    assert {name + kind for name in reference.GATED for kind in ("", "_backward")} <= set(numba_scalar.formulas(T, plain))
    kernels = {kernel for row in ELEMENTWISE_LOSSES for kernel in row.kernels}
    assert kernels <= set(numba_loss_formulas.formulas(T, plain))


@pytest.fixture(scope="module")
def stubs():
    """Every name that the stubs declare, with its syntax tree."""
    names = {}
    for node in ast.parse((PACKAGE / "__init__.pyi").read_text()).body:
        if isinstance(node, ast.AnnAssign):
            names[node.target.id] = node
        elif isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            names[node.name] = node
        elif isinstance(node, ast.ImportFrom):
            names |= {alias.asname: node for alias in node.names if alias.asname}
    return names


class TestStubs:
    def test_declare_what_is_public(self, stubs):
        assert set(fa.__all__) <= set(stubs)
        for name in stubs:
            assert hasattr(fa, name) or name.startswith("_"), name

    @pytest.mark.parametrize("name", NAMES)
    def test_parameters_are_the_table_s(self, name, stubs):
        declared = stubs[stubs[name].annotation.id]
        if not ROWS[name].parameters:
            assert declared.name == "Activation"
            return
        call = next(node for node in declared.body if getattr(node, "name", "") == "__call__").args
        assert [argument.arg for argument in call.posonlyargs] == ["self", "x"]
        arguments = [argument.arg for argument in call.args]
        assert arguments == [parameter for parameter, _ in ROWS[name].parameters] + ["out"]
        defaults = [ast.literal_eval(default) for default in call.defaults]
        assert defaults == [default for _, default in ROWS[name].parameters if default is not None] + [None]

    def test_are_as_generated(self, bench):
        text = in_clone("fastact", "__init__.pyi").read_text()
        assert bench("docs").stubs(text) == text


def test_readme_is_as_generated(bench):
    text = in_clone("README.md").read_text()
    assert bench("docs").readme(text) == text
    for name in NAMES:
        assert re.search(rf"^\| `{name}[`(]", text, re.M)
