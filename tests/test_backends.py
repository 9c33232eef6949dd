"""The choice between compiled kernels and Numba's, and that Numba's keep the same promises."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cases import FROM_OUTPUT, NAMES, defaults, same_bits

import fastact as fa
from fastact import backends

pytest.importorskip("numba")

HERE = Path(__file__).parent
COMPILED = pytest.mark.skipif(backends.dispatch is None, reason="there are no compiled kernels")
DTYPES = [np.float32, np.float64]


def child(*arguments, **environment):
    environment = {**os.environ, **environment}
    return subprocess.run([sys.executable, *arguments], env=environment, cwd=HERE, capture_output=True, text=True)


class TestChoice:
    def test_of_a_block(self):
        before = fa.get_backend()
        with fa.use_backend("numba"):
            assert fa.get_backend() == "numba"
            with fa.use_backend("auto"):
                assert fa.get_backend() == backends.available()[0]
            assert fa.get_backend() == "numba"
        assert fa.get_backend() == before

    def test_is_undone_after_an_exception(self):
        before = fa.get_backend()
        with pytest.raises(KeyError), fa.use_backend("numba"):
            raise KeyError
        assert fa.get_backend() == before

    def test_for_good(self):
        with fa.use_backend(fa.get_backend()):
            for name in backends.available():
                fa.set_backend(name)
                assert fa.get_backend() == name

    def test_functions_stay_the_same_objects(self):
        gelu, backward = fa.gelu, fa.gelu.backward
        with fa.use_backend("numba"):
            assert fa.gelu is gelu and fa.gelu.backward is backward

    @COMPILED
    def test_decides_whose_ufunc_it_is(self):
        compiled = fa.gelu.ufunc
        with fa.use_backend("numba"):
            assert isinstance(fa.gelu.ufunc, np.ufunc) and fa.gelu.ufunc is not compiled
            assert fa.gelu.ufunc.types == compiled.types
        assert fa.gelu.ufunc is compiled

    @pytest.mark.parametrize("bad", ["fortran", "", None])
    def test_unknown_ones_are_refused(self, bad):
        with pytest.raises(ValueError, match="'auto', 'cython' or 'numba'"):
            fa.set_backend(bad)

    def test_impossible_ones_are_refused_and_the_others_listed(self, monkeypatch):
        monkeypatch.setattr(backends, "available", lambda: ["cython"])
        before = fa.get_backend()
        with pytest.raises(ImportError, match="'numba'.*only cython"):
            fa.set_backend("numba")
        assert fa.get_backend() == before

    @pytest.mark.parametrize("name", backends.available())
    def test_by_the_environment(self, name):
        result = child("-c", "import fastact as fa; fa.show_config()", FASTACT_BACKEND=name)
        assert [line.split()[1] for line in result.stdout.splitlines() if line.startswith("backend ")] == [name]

    def test_by_the_environment_explains_mistakes(self):
        result = child("-c", "import fastact", FASTACT_BACKEND="fortran")
        assert "ImportError" in result.stderr and "'auto', 'cython' or 'numba'" in result.stderr


class TestWarmup:
    def test_compiles_what_is_asked_for(self):
        with fa.use_backend("numba"):
            fa.warmup("softshrink", fa.hardshrink.derivative, dtypes=["float16"])
            for function in (fa.softshrink, fa.softshrink.derivative, fa.softshrink.backward, fa.hardshrink.derivative):
                ready = {storage for (storage, _), kernel in function._numba.loops.items() if kernel.ready}
                assert ready == {0, 2, 3}, function  # what computes in float32

    @COMPILED
    def test_is_nothing_for_compiled_kernels(self):
        with fa.use_backend("cython"):
            fa.warmup()
            fa.warmup("gelu")

    @pytest.mark.parametrize(
        "error, function", [(ValueError, "no_such_function"), (TypeError, np.tanh), (TypeError, 3)]
    )
    def test_refuses_other_functions(self, error, function):
        with pytest.raises(error):
            fa.warmup(function)

    def test_refuses_other_dtypes(self):
        with pytest.raises(TypeError, match="int32"):
            fa.warmup("gelu", dtypes=["int32"])


class TestNumba:
    def test_accuracy_limits_and_layouts(self):
        """The tests of every function, in a process that runs Numba's kernels."""
        chosen = "dense_sample and not backward or float64 and forward and (limits or every_layout or in_place)"
        files = ["test_accuracy.py", "test_specials.py", "test_ufunc.py"]
        result = child("-m", "pytest", "-q", "--tb=line", "-p", "no:cacheprovider", *files, "-k", chosen,
                       FASTACT_BACKEND="numba")  # fmt: skip
        assert result.returncode == 0, result.stdout[-4000:]

    def test_rows_and_their_losses(self):
        chosen = "not float64 and not PyTorch and not scipy or mpmath"
        files = ["test_rowwise.py", "test_softmax_cross_entropy.py", "test_row_losses.py"]
        result = child("-m", "pytest", "-q", "--tb=line", "-p", "no:cacheprovider", *files, "-k", chosen,
                       FASTACT_BACKEND="numba")  # fmt: skip
        assert result.returncode == 0, result.stdout[-4000:]

    def test_accuracy_without_fused_multiply_add(self):
        """... nor half-type conversions nor wide vectors, as on the plainest processor of this kind."""
        chosen = "(dense_sample or every_half) and (silu or gelu or softplus or tanhshrink or squareplus) and forward"
        result = child("-m", "pytest", "-q", "--tb=line", "-p", "no:cacheprovider", "test_accuracy.py", "-k", chosen,
                       FASTACT_BACKEND="numba", NUMBA_CPU_NAME="generic", NUMBA_CPU_FEATURES="")  # fmt: skip
        assert result.returncode == 0, result.stdout[-4000:]

    @COMPILED
    @pytest.mark.parametrize("name", FROM_OUTPUT)
    def test_backward_from_output_agrees_with_compiled_kernels(self, name):
        y = getattr(fa, name)(np.linspace(-6, 6, 301, dtype="f"), *defaults(name))
        parameters = dict(zip(getattr(fa, name).parameters, defaults(name)))
        wanted = getattr(fa, name).backward(np.ones_like(y), output=y, **parameters)
        with fa.use_backend("numba"):
            np.testing.assert_allclose(
                getattr(fa, name).backward(np.ones_like(y), output=y, **parameters), wanted, 5e-7
            )


class TestPlainPython:
    """The formulas are Python too, for anyone to step through."""

    @pytest.mark.parametrize("T", DTYPES)
    @pytest.mark.parametrize("name", NAMES)
    def test_agrees_with_compiled_kernels(self, name, T):
        from fastact._kernels import numba_scalar

        formulas = numba_scalar.formulas(T, numba_scalar.plain(T))
        x = np.array([-np.inf, -100, -3.3, -1, -0.4, -1e-3, -0.0, 0.0, 0.25, 0.7, 2, 30, np.inf, np.nan], T)
        parameters = [T(value) for value in defaults(name)]
        for suffix, function in (("", getattr(fa, name)), ("_derivative", getattr(fa, name).derivative)):
            with np.errstate(all="ignore"):
                values = [formulas[name + suffix](value, *parameters) for value in x]
            assert {type(value) for value in values} == {T}
            np.testing.assert_allclose(np.array(values), function(x, *defaults(name)), 5 * np.finfo(T).eps)


def test_threads_share_the_same_bits(set_num_threads, rng):
    x = rng.normal(size=1_000_003).astype("f")
    with fa.use_backend("numba"):
        set_num_threads(1)
        wanted = fa.silu(x)
        for n in (2, 3, 16):
            set_num_threads(n)
            for _ in range(5):
                assert same_bits(fa.silu(x), wanted)


class TestNeverKillsTheProcess:
    """... as Numba's own threading layers do when two threads use them at once, or the child of a fork does."""

    def run(self, program, **environment):
        result = child("-c", program, FASTACT_BACKEND="numba", FASTACT_NUM_THREADS="2", **environment)
        assert result.returncode == 0, result.stderr
        return result.stdout.split()

    @pytest.mark.parametrize("layer", ["workqueue", "omp", "tbb"])
    def test_beside_any_threading_layer(self, layer):
        """Eight Python threads call functions while another runs the user's parallel Numba code, then a fork does."""
        program = """if True:
            import concurrent.futures, os, warnings, numpy as np, numba, fastact as fa
            warnings.simplefilter("ignore")

            @numba.njit(parallel=True)
            def mine(x):
                total = 0.0
                for i in numba.prange(len(x)):
                    total += x[i]
                return total

            x = np.linspace(-4, 4, 300_000, dtype="f")
            try:
                mine(x)
            except ValueError:
                print("absent")
                raise SystemExit
            functions = fa.gelu, fa.silu.derivative, fa.relu
            wanted = [f(x) for f in functions]
            with concurrent.futures.ThreadPoolExecutor(9) as pool:
                users = pool.submit(lambda: [mine(x) for _ in range(30)])
                calls = [pool.submit(lambda: [np.array_equal(f(x), y) for f, y in zip(functions, wanted)]) for _ in range(60)]
                ok = all(all(call.result()) for call in calls)
                users.result()
            child = os.fork() if hasattr(os, "fork") else None
            if child == 0:
                fine = fa.get_num_threads() == 1 and all(np.array_equal(f(x), y) for f, y in zip(functions, wanted))
                fa.set_num_threads(2)
                fine = fine and all(np.array_equal(f(x), y) for f, y in zip(functions, wanted))
                os._exit(0 if fine else 1)
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) if child else 0
            print(ok, status, all(np.array_equal(f(x), y) for f, y in zip(functions, wanted)))
            """
        printed = self.run(program, NUMBA_THREADING_LAYER=layer)
        if printed == ["absent"]:
            pytest.skip(f"this Numba has no layer {layer}")
        assert printed == ["True", "0", "True"]

    def test_at_the_end_of_the_interpreter(self):
        """Workers are at work, or have just been, when it ends."""
        program = """if True:
            import threading, numpy as np, fastact as fa
            x = np.linspace(-4, 4, 3_000_000, dtype="f")
            fa.gelu(x)
            threading.Thread(target=lambda: [fa.gelu(x) for _ in range(1000)], daemon=True).start()
            fa.gelu(x)
            print("done")
            """
        assert self.run(program) == ["done"]

    def test_first_calls_from_many_threads(self):
        program = """if True:
            import concurrent.futures, numpy as np, fastact as fa
            x = np.linspace(-4, 4, 200_000, dtype="f")
            with concurrent.futures.ThreadPoolExecutor(8) as pool:
                print(len(set(pool.map(lambda i: float(fa.silu(x).sum() + fa.tanh(x).sum()), range(32)))))
            """
        assert self.run(program) == ["1"]

    def test_an_interrupt_waits_for_the_kernel(self):
        """Ctrl-C while a loop waits for its kernel must not let something else pass for a result."""
        program = """if True:
            import time, numpy as np, fastact as fa
            from fastact._kernels.numba_lazy import Lazy
            fa.gelu.ufunc
            compile, times = Lazy.compile, []
            def interrupted(self):
                times.append(1)
                if len(times) < 3:
                    raise KeyboardInterrupt
                compile(self)
            Lazy.compile = interrupted
            y = np.empty(3)
            try:
                fa.silu(np.zeros(3), out=y)
                time.sleep(10)
            except KeyboardInterrupt:
                print(*y)
            """
        assert self.run(program) == ["0.0", "0.0", "0.0"]
