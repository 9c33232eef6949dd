"""Copies of functions that other packages take: what is in them, and that they work there; formulas that others cimport."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastact as fa
from fastact.vendor import names, vendor

PACKAGE = Path(fa.__file__).resolve().parent


def child(*arguments, cwd, **environment):
    environment = os.environ | {"FASTACT_BACKEND": ""} | environment
    result = subprocess.run([sys.executable, *arguments], cwd=cwd, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def contents(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


class TestWhatIsCopied:
    def test_no_more_than_is_needed(self, tmp_path):
        vendor(tmp_path / "act", ["gelu"], numba=False)
        copied = contents(tmp_path / "act")
        assert {"__init__.py", "LICENSE", "test_vendored.py", "activations.py", "_kernels/scalar.pxd"} <= copied
        assert not {"rowwise.py", "gated.py", "row_losses.py", "_kernels/rows.pyx", "_kernels/rowwise.pxi.in"} & copied
        assert not any("numba" in name or name.startswith("nn") for name in copied)
        table = runpy.run_path(str(tmp_path / "act" / "table.py"))
        assert [row.name for row in table["ACTIVATIONS"]] == ["gelu"] and not table["GATED"] + table["ELEMENTWISE_LOSSES"]

    def test_no_compiler_is_needed_for_numba(self, tmp_path):
        vendor(tmp_path / "act", ["gelu"], cython=False)
        others = {name for name in contents(tmp_path / "act") if Path(name).suffix != ".py"}
        assert others == {"LICENSE", "_kernels/tables.h"}  # numbers alone

    def test_everything_but_the_trainer_and_the_figures(self, tmp_path):
        files = vendor(tmp_path / "act")
        assert set(names()) == set(fa.__all__) - {"nn", "plot"}
        assert {str(file.relative_to(tmp_path / "act")) for file in files} == contents(tmp_path / "act")
        sources = {name for name in contents(PACKAGE / "_kernels") if Path(name).suffix in (".pyx", ".pxd", ".h", ".in")}
        training = {"training.pyx", "training.pxd", "layers.pxi.in", "optimizers.pxi.in"}
        assert sources - contents(tmp_path / "act" / "_kernels") == training

    def test_the_licence_goes_along(self, tmp_path):
        vendor(tmp_path / "act", ["mse"])
        assert "Redistribution and use" in (tmp_path / "act" / "LICENSE").read_text()

    @pytest.mark.parametrize("module", sorted(set(names().values())))
    def test_nothing_that_is_needed_is_missing(self, module, tmp_path):
        """Each copy can be imported and knows its functions, with Numba's kernels, which are compiled when they are used."""
        pytest.importorskip("numba")
        wanted = [name for name in names() if names()[name] == module]
        vendor(tmp_path / "act", wanted, cython=False)
        program = "import act; print(all(callable(getattr(act, name)) for name in act.__all__))"
        assert child("-c", program, cwd=tmp_path).split() == ["True"]


@pytest.mark.parametrize("options, error, match", [
    (dict(only=["gelu", "gleu"]), ValueError, "no function 'gleu' to copy; there are .*gelu"),
    (dict(only=["nn"]), ValueError, "no function 'nn' to copy"),
    (dict(only=[]), ValueError, "nothing is to be copied"),
    (dict(only=["activation"], numba=False), ValueError, "nothing is to be copied"),
    (dict(cython=False, numba=False), ValueError, "Cython's, Numba's or both"),
])  # fmt: skip
def test_mistakes_copy_nothing(options, error, match, tmp_path):
    with pytest.raises(error, match=match):
        vendor(tmp_path / "act", **options)
    assert not (tmp_path / "act").exists()


def test_nothing_is_overwritten(tmp_path):
    (tmp_path / "act").mkdir()
    (tmp_path / "act" / "mine.py").write_text("")
    with pytest.raises(FileExistsError):
        vendor(tmp_path / "act")
    with pytest.raises(ValueError, match="cannot be the name of a package"):
        vendor(tmp_path / "my-act")
    assert contents(tmp_path) == {"act/mine.py"}


WITHOUT = "import sys; sys.modules['fastact'] = sys.modules['{}'] = None; "
"""What a copy must do without, and the other backend."""


class TestCopiesAtWork:
    def test_compiled_inside_another_package(self, tmp_path):
        pytest.importorskip("Cython")
        pytest.importorskip("setuptools")
        (tmp_path / "host" / "parts").mkdir(parents=True)
        for folder in ("host", "host/parts"):
            (tmp_path / folder / "__init__.py").write_text("")
        child("-m", "fastact", "vendor", "host/parts/act", "--only", "gelu", "--cython", cwd=tmp_path, PYTHONPATH=str(PACKAGE.parent))
        child("host/parts/act/_kernels/build.py", cwd=tmp_path)
        program = WITHOUT.format("numba") + "from host.parts.act.test_vendored import *; test_every_function(); " \
            "import pickle; f = PACKAGE.gelu; print(pickle.loads(pickle.dumps(f)) is f, f(1.0))"  # fmt: skip
        printed = child("-c", program, cwd=tmp_path)
        assert "1 functions of host.parts.act work on the backend cython" in printed
        assert printed.split()[-2:] == ["True", str(fa.gelu(1.0))]

    def test_with_numba(self, tmp_path):
        pytest.importorskip("numba")
        child("-m", "fastact", "vendor", "act", "--only", "silu,softmax", "--numba", cwd=tmp_path, PYTHONPATH=str(PACKAGE.parent))
        printed = child("-c", WITHOUT.format("Cython") + "from act.test_vendored import *; test_every_function()", cwd=tmp_path)
        assert "2 functions of act work on the backend numba" in printed

    def test_the_test_is_one_for_the_package_too(self):
        from fastact.selftest import test_every_function

        test_every_function()


def test_formulas_can_be_cimported(tmp_path):
    """... from the package as it is installed."""
    pytest.importorskip("Cython")
    pytest.importorskip("setuptools")
    (tmp_path / "mine.pyx").write_text("""
from fastact._kernels.scalar cimport gelu, gelu_derivative, softplus

def at(double x, float y):
    return gelu(x), gelu_derivative(x), softplus(y, <float>0.5)
""")
    (tmp_path / "setup.py").write_text("""
import sys
from pathlib import Path
from Cython.Build import cythonize
from setuptools import Extension, setup

kernels = Path(sys.argv.pop()) / "_kernels"
setup(ext_modules=cythonize(Extension("mine", ["mine.pyx"], include_dirs=[str(kernels)]), include_path=[str(kernels.parents[1])]))
""")
    child("setup.py", "-q", "build_ext", "--inplace", str(PACKAGE), cwd=tmp_path)
    printed = child("-c", "import mine; print(*mine.at(0.7, 0.3))", cwd=tmp_path)
    value, slope, single = (float(number) for number in printed.split())
    np.testing.assert_allclose((value, slope), (fa.gelu(0.7), fa.gelu.derivative(0.7)), 1e-15)
    assert single == pytest.approx(fa.softplus(np.float32(0.3), 0.5), 2e-7)
