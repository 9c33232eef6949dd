"""The tool that finds loops which the compiler left scalar: ``python -m bench.vectorised`` runs it on the package."""

import importlib
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).resolve().parents[1]

# As Cython writes it: the second loop leaves as soon as it can, which GCC does not vectorise.
SOURCE = """\
static void __pyx_f_7fastact_8_kernels_13cython_avx2_relu_forward_float(float *x, float *y, long n) {
  long __pyx_t_1, __pyx_v_i;
  for (__pyx_t_1 = 0; __pyx_t_1 < n; __pyx_t_1+=1) {
    __pyx_v_i = __pyx_t_1;
    y[__pyx_v_i] = x[__pyx_v_i] > 0 ? x[__pyx_v_i] : 0;
  }
}

static void __pyx_f_7fastact_8_kernels_13cython_avx2_gelu_forward_float(float *x, float *y, long n) {
  long __pyx_t_1;
  for (__pyx_t_1 = 0; __pyx_t_1 < n; __pyx_t_1+=1) {
    if (x[__pyx_t_1] == 0) break;
    y[__pyx_t_1] = x[__pyx_t_1];
  }
}

static void another(float *y, long __pyx_t_1) {
  for (__pyx_t_1 = 0; __pyx_t_1 < 8; __pyx_t_1+=1) {
    y[__pyx_t_1] = 0;
  }
}

void all(float *x, float *y, long n) {
  __pyx_f_7fastact_8_kernels_13cython_avx2_relu_forward_float(x, y, n);
  __pyx_f_7fastact_8_kernels_13cython_avx2_gelu_forward_float(x, y, n);
  another(y, n);
}
"""
REPORT = "build/k.c:3:35: optimized: loop vectorized using 32 byte vectors\nk.h:11:1: optimized: loop vectorized using 32 byte vectors\n"


@pytest.fixture
def tool(monkeypatch):
    if not (ROOT / "bench").exists():
        pytest.skip("no bench beside these tests")
    monkeypatch.syspath_prepend(ROOT)
    return importlib.import_module("bench.vectorised")


def test_loops_are_those_of_the_kernels(tool):
    assert tool.loops(SOURCE) == {3: "relu_forward_float", 11: "gelu_forward_float"}


def test_kernels_by_hand_have_no_loops_of_their_own(tool):
    source = SOURCE.replace("  long __pyx_t_1;\n", "  long __pyx_t_1; __pyx_t_1 = gelu_forward_by_hand_float(x, y, n);\n")
    assert tool.loops(source, by_hand=True) == {3: "relu_forward_float"}
    assert tool.loops(source) == tool.loops(SOURCE)


def test_what_is_not_reported_is_scalar(tool):
    assert tool.vectorised(REPORT, "k.c") == {3}
    assert tool.scalar_loops(SOURCE, REPORT, "k.c") == {"gelu_forward_float": [11]}


def test_what_the_compiler_says(tool, tmp_path):
    compiler = shutil.which("gcc")
    if (
        not compiler
        or "Free Software" not in subprocess.run([compiler, "--version"], capture_output=True, text=True).stdout
    ):
        pytest.skip("no GCC")
    source = tmp_path / "k.c"
    source.write_text(SOURCE)
    extension = SimpleNamespace(include_dirs=[], define_macros=[], extra_compile_args=["-O3"], sources=[str(source)])
    assert tool.scalar_loops(SOURCE, tool.compile_report(extension), "k.c") == {"gelu_forward_float": [11]}


def test_which_kernels_are_over_elements(tool):
    kernels = tool.over_elements()
    for name in ("gelu_forward_float", "relu_backward_from_output_double", "swiglu_backward_float", "mse_grad_float"):
        assert kernels.fullmatch(name), name
    for name in ("softmax_rows_float", "prelu_terms_float", "lstm_float"):
        assert not kernels.fullmatch(name), name
