"""The package as installed: what importing it costs and brings along, and what it says about itself."""

import doctest
import importlib
import importlib.metadata
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import fastact as fa
from fastact import backends

PACKAGE = Path(fa.__file__).resolve().parent
CLONE = Path(__file__).resolve().parents[1]


def run(program, *options, **environment):
    result = subprocess.run(
        [sys.executable, *options, "-c", program],
        cwd=PACKAGE.parent,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


class TestImport:
    def test_costs_little(self, tmp_path):
        """At most 0.6 of NumPy's own import (30 ms where that takes 50; measured: 19), both in the time of one thread.

        A slower machine slows both. The sources are compiled before, as installers do.
        """
        program = """if True:
            from time import thread_time
            start = thread_time()
            import numpy
            middle = thread_time()
            import fastact
            print((thread_time() - middle) / (middle - start))
            """
        compiled = {"PYTHONPYCACHEPREFIX": str(tmp_path), "PYTHONDONTWRITEBYTECODE": ""}
        assert min(float(run(program, **compiled)) for _ in range(5)) < 0.6

    def test_brings_nothing_heavy(self):
        program = """if True:
            import sys, numpy
            before = set(sys.modules)
            import fastact
            print(*set(sys.modules) - before)
            """
        brought = {name.partition(".")[0] for name in run(program).split()}
        heavy = "numba llvmlite scipy torch matplotlib sklearn tqdm ml_dtypes pandas dask"
        assert "fastact" in brought and not brought & set(heavy.split())

    def test_brings_the_trainer_when_asked(self):
        program = """if True:
            import sys, fastact
            before = "fastact.nn" in sys.modules
            fastact.nn.Dense
            print(before, "fastact.nn" in sys.modules)
            """
        assert run(program).split() == ["False", "True"]

    def test_warns_of_nothing(self):
        run("import fastact", "-W", "error")

    def test_comes_from_where_it_is_installed(self):
        """Not from the clone, which holds no compiled kernels."""
        assert PACKAGE != CLONE / "fastact"
        program = """if True:
            import sys, fastact
            for name, module in sys.modules.items():
                if name.startswith("fastact"):
                    print(module.__file__)
            """
        assert all(Path(file).resolve().is_relative_to(PACKAGE) for file in run(program).splitlines())

    @pytest.mark.skipif(not (CLONE / "fastact").is_dir(), reason="no clone around these tests")
    def test_comes_from_there_in_the_clone_too(self):
        """``python -m pytest`` puts the working directory first."""
        program = f"""if True:
            import sys
            sys.path.insert(0, {str(CLONE / "tests")!r})
            import conftest, fastact
            print(fastact.__file__)
            """
        result = subprocess.run([sys.executable, "-c", program], cwd=CLONE, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        assert Path(result.stdout.strip()).resolve().parent == PACKAGE


class TestContents:
    def test_all_is_there_and_sorted_in_dir(self):
        for name in fa.__all__:
            assert getattr(fa, name) is not None
        assert len(fa.__all__) == len(set(fa.__all__))
        assert set(fa.__all__) <= set(dir(fa))
        namespace = {}
        exec("from fastact import *", namespace)
        assert set(fa.__all__) <= set(namespace)

    def test_unknown_names(self):
        with pytest.raises(AttributeError, match="no_such_function"):
            fa.no_such_function  # noqa: B018

    def test_version(self):
        assert fa.__version__ == importlib.metadata.version("fastact")

    def test_is_typed(self):
        assert (PACKAGE / "py.typed").exists() and (PACKAGE / "__init__.pyi").exists()

    def test_kernels_work_under_another_package_s_name(self):
        """Relative imports only."""
        for file in (PACKAGE / "_kernels").glob("*.p*"):
            if file.suffix in (".py", ".pxd", ".pyx", ".pxi"):
                assert not re.search(r"^\s*(from|import|cimport) fastact", file.read_text(), re.M), file.name


class TestConfiguration:
    def test_shows_what_runs(self, capsys):
        fa.show_config()
        text = capsys.readouterr().out
        config = backends.config()
        for fact in (
            fa.__version__,
            config["instruction_set"],
            *config["instruction_sets_supported"],
            str(fa.get_num_threads()),
        ):
            assert fact in text
        assert re.search(r"threading +(POSIX threads|none|fastact's own)", text)

    def test_runs_the_best_there_is(self):
        program = """if True:
            import os
            os.environ.pop("FASTACT_ISA", None)
            from fastact import backends
            print(backends.config()["instruction_set"], backends.config()["instruction_sets_supported"][0])
            """
        running, best = run(program).split()
        assert running == best

    def test_doctests(self):
        """The examples in the documentation."""
        for module in ("gated", "gradients", "names", "rowwise", "row_losses", "linear"):
            module = importlib.import_module(f"fastact.{module}")
            failed, attempted = doctest.testmod(module)
            assert attempted and not failed
