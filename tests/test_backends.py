"""The choice between compiled kernels and Numba's, and that Numba's keep the same promises."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cases import FROM_OUTPUT, NAMES, Method, breaking_points, defaults, same_bits

import fastact as fa
from fastact import backends
from fastact.table import ACTIVATIONS

pytest.importorskip("numba")

HERE = Path(__file__).parent
COMPILED = pytest.mark.skipif(backends.dispatch is None, reason="there are no compiled kernels")
DTYPES = [np.float32, np.float64]


def by_hand_on_both():
    """Whether compiled kernels and Numba's have the same loops by hand."""
    from fastact._kernels.numba_softmax import BY_HAND

    return BY_HAND and backends.instruction_set == "avx512"


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
        with fa.use_backend("cython"):
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
        def ready(function):
            return {storage for (storage, _), kernel in function._numba.loops.items() if kernel.ready}

        whole, part = (fa.activation(lambda x: x * x, derivative=lambda x: x + x) for _ in range(2))  # which nobody has used
        with fa.use_backend("numba"):
            fa.warmup("softshrink", whole, part.derivative, dtypes=["float16"])
        for function in (whole, whole.derivative, whole.backward, part.derivative):
            assert ready(function) == {0, 2, 3}, function  # what computes in float32
        assert not ready(part) and ready(fa.softshrink) >= {0, 2, 3}

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

    @pytest.mark.parametrize("dtype", ["float32", np.float32, np.dtype("f")], ids=repr)
    def test_takes_one_dtype(self, dtype):
        fa.warmup("gelu", dtypes=dtype)

    def test_refuses_other_dtypes(self):
        with pytest.raises(TypeError, match="int32"):
            fa.warmup("gelu", dtypes=["int32"])


class TestNumba:
    def test_accuracy_limits_and_layouts(self):
        """The tests of every function, in a process that runs Numba's kernels."""
        names = "gelu or softplus or leaky_relu or hardtanh"
        chosen = f"dense_sample and forward or ({names}) and (dense_sample or float64 and (limits or every_layout or in_place))"
        files = ["test_accuracy.py", "test_specials.py", "test_ufunc.py"]
        result = child("-m", "pytest", "-q", "--tb=line", "-p", "no:cacheprovider", *files, "-k", chosen,
                       FASTACT_BACKEND="numba")  # fmt: skip
        assert result.returncode == 0, result.stdout[-4000:]

    @COMPILED
    @pytest.mark.skipif(not by_hand_on_both(), reason="needs AVX-512")
    @pytest.mark.parametrize("n", [1, 5, 16, 17, 47, 48, 64, 100, 257, 1000])
    def test_the_bits_of_what_is_made_by_hand_for_rows(self, n, rng):
        x, g = rng.normal(size=(2, 70, n)).astype("f") * 10
        x[::3] /= 10  # near 0, where softmax does not look for the largest element, unlike most of the others
        x[0], x[1, 0], x[2], x[3, -1], x[4] = 0, np.inf, -np.inf, np.nan, 1e4
        y = np.abs(g) / 30
        results = []
        for backend in ("cython", "numba"):
            with fa.use_backend(backend):
                results.append([fa.softmax(x), fa.softmin(x), fa.log_softmax(x), fa.logsumexp(x), fa.softmax.backward(g, output=y),
                                fa.log_softmax.backward(g, output=-y), fa.softmax(in_place := x.copy(), out=in_place)])  # fmt: skip
        for compiled, numba in zip(*results):
            assert same_bits(compiled, numba)

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    @pytest.mark.parametrize("classes, pixels", [(8, 8), (7, 9), (9, 7), (19, 21), (40, 16), (1500, 49)])
    def test_columns_have_the_bits_of_rows(self, classes, pixels, dtype, rng):
        """They are transposed in tiles, and nothing beside the result is touched."""
        x = rng.normal(size=(3, classes, pixels)).astype(dtype)
        rows = np.ascontiguousarray(x.swapaxes(1, 2))
        target = rng.integers(0, classes, (3, pixels))
        around = np.full((3, classes, pixels + 2), 7, dtype)
        out = around[..., 1:-1]
        with fa.use_backend("numba"):
            fa.softmax(x, 1, out=out)
            assert same_bits(out.swapaxes(1, 2).copy(), fa.softmax(rows))
            value, _ = fa.softmax_cross_entropy.value_and_grad(x, target, axis=1, grad_out=out)
            wanted = fa.softmax_cross_entropy.value_and_grad(rows, target)
            assert same_bits(out.swapaxes(1, 2).copy(), wanted[1]) and value == wanted[0]
        assert np.all(around[..., [0, -1]] == 7)

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    @pytest.mark.parametrize("n", [768, 1003])
    def test_zeros_past_the_cache(self, n, dtype, rng, request):
        """All but those on the line of the class, wherever a row begins, and nothing beside the gradient."""
        x, target = rng.random((9, n)).astype(dtype) + np.dtype(dtype).type(0.1), rng.integers(0, n, 9)
        target[:4] = 0, n - 1, -100, 0
        memory = np.empty(x.size + 32, dtype)
        losses = fa.nll_loss, fa.categorical_cross_entropy
        with fa.use_backend("numba"):
            results = [loss.value_and_grad(x, target) for loss in losses]
            request.getfixturevalue("no_cache")
            for first in (0, 3, 16):
                grad = memory[first:][: x.size].reshape(x.shape)
                for loss, (value, wanted) in zip(losses, results):
                    memory[:] = 7
                    assert loss.value_and_grad(x, target, grad_out=grad)[0] == value
                    assert same_bits(grad, wanted) and np.count_nonzero(memory == 7) == 32

    def test_rows_and_their_losses(self):
        chosen = "float32 and (test_rowwise or promises or limits or half) and not torch or probabilities or ignore"
        files = ["test_rowwise.py", "test_softmax_cross_entropy.py", "test_row_losses.py", "test_gated.py",
                 "test_elementwise_losses.py"]  # fmt: skip
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


    @COMPILED
    @pytest.mark.skipif(backends.instruction_set != "avx512", reason="Numba has formulas by hand for AVX-512 alone")
    @pytest.mark.parametrize("kind", ["forward", "derivative"])
    @pytest.mark.parametrize("name, T", [(row.name, T) for row in ACTIVATIONS for T in row.by_hand.split()])
    def test_formulas_by_hand_have_the_bits_of_the_compiled_ones(self, name, T, kind):
        dtype = {"float": "float32", "double": "float64"}[T]
        x = np.concatenate([breaking_points(dtype, 2000), np.random.default_rng(0).normal(0, 4, 20000).astype(dtype)])
        function = Method(name, kind)
        wanted = function(x)
        with fa.use_backend("numba"):
            assert same_bits(function(x), wanted)

    @COMPILED
    @pytest.mark.skipif(not by_hand_on_both(), reason="needs AVX-512")
    @pytest.mark.parametrize("name", ["glu", "swiglu"])
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_the_bits_of_gated_functions_by_hand(self, name, dtype, rng):
        x, g = np.concatenate([breaking_points(np.dtype(dtype).name, 500), rng.normal(0, 4, 2001)]).astype(dtype), rng.normal(size=4)
        up = rng.permutation(x)
        inputs = (np.concatenate([x, up]),) if name == "glu" else (x, up)
        grad = np.resize(g, x.size).astype(dtype)
        results = []
        for backend in ("cython", "numba"):
            with fa.use_backend(backend):
                function = getattr(fa, name)
                results.append([function(*inputs), *np.atleast_2d(function.backward(grad, *inputs))])
        assert all(same_bits(compiled, numba) for compiled, numba in zip(*results))

    @COMPILED
    @pytest.mark.skipif(not by_hand_on_both(), reason="needs AVX-512")
    @pytest.mark.parametrize("share", [0, 1, 0.3])
    def test_the_bits_of_sigmoid_cross_entropy(self, share, rng):
        x = np.concatenate([rng.normal(0, 30, 5001), [0, -0.0, 200, -200, np.inf, -np.inf, np.nan]]).astype("f")
        target = np.full_like(x, share)
        results = []
        for backend in ("cython", "numba"):
            with fa.use_backend(backend):
                results.append(fa.sigmoid_cross_entropy.value_and_grad(x, target, reduction="none"))
        assert all(same_bits(compiled, numba) for compiled, numba in zip(*results))


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


@pytest.fixture(scope="module")
def uncompiled(tmp_path_factory):
    """A folder with the package as it is installed where nothing could be compiled."""
    folder = tmp_path_factory.mktemp("uncompiled")
    package = Path(fa.__file__).parent
    shutil.copytree(package, folder / "fastact", ignore=shutil.ignore_patterns("*.so", "*.pyd", "__pycache__"))
    return folder


class TestWithoutCompiledKernels:
    def run(self, uncompiled, program, **environment):
        environment = {"PYTHONPATH": str(uncompiled), "FASTACT_BACKEND": "", "FASTACT_ISA": "", **environment}
        return child("-c", program, **environment)

    def test_numba_steps_in_and_says_so_once(self, uncompiled):
        program = """if True:
            import sys, fastact as fa
            print("numba" in sys.modules)
            fa.show_config()
            """
        printed = self.run(uncompiled, program, PYTHONWARNINGS="error").stdout.splitlines()
        assert printed[0] == "False"
        assert [line.split()[-1] for line in printed if line.startswith("backend ")] == ["numba"]
        assert len([line for line in printed if "compiled kernels" in line]) == 1

    def test_everything_is_there(self, uncompiled):
        program = """if True:
            import pickle, numpy as np, fastact as fa
            x = np.linspace(-3, 3, 24, dtype="f").reshape(4, 6)
            for f, *parameters in [fa.gelu], [fa.leaky_relu, 0.2], [fa.prelu, 0.5]:
                f(x, *parameters), f.derivative(x, *parameters), f.backward(x, x, *parameters)
            fa.sigmoid.backward(x, output=x)
            fa.softmax(x), fa.softmax(x, 0, where=x > 0), fa.sparsemax(x)
            print(fa.softmax.gufunc(x).shape, fa.logsumexp.backward(x[:, 0], x).dtype, fa.relu(np.arange(-1, 2)))
            value, grad = fa.softmax_cross_entropy.value_and_grad(x, np.arange(4))
            print(round(float(value), 3), fa.maxout(x).shape, fa.glu(x).shape, fa.swiglu.backward(x, x, x)[1].shape)
            assert pickle.loads(pickle.dumps(fa.gelu)) is fa.gelu
            """
        result = self.run(uncompiled, program)
        assert result.returncode == 0, result.stderr
        assert result.stdout.split("\n")[0] == "(4, 6) float32 [0 0 1]"

    def test_compiled_kernels_cannot_be_demanded(self, uncompiled):
        result = self.run(uncompiled, "import fastact", FASTACT_BACKEND="cython")
        assert "ImportError" in result.stderr and "'cython' is not to be had here, only numba" in result.stderr

    def test_nor_anything_without_numba(self, uncompiled):
        program = "import sys; sys.modules['numba'] = None; sys.path_importer_cache; import fastact"
        result = self.run(uncompiled, program)
        assert "ImportError" in result.stderr and "pip install numba" in result.stderr

    def test_the_trainer_s_kernels_are_numpy_s(self, uncompiled):
        result = child("-m", "pytest", "-q", "--tb=line", "-p", "no:cacheprovider", "test_nn_layers.py", "test_nn_training.py",
                       "-k", "test_gradients[ or dropout or optimizers_as", PYTHONPATH=str(uncompiled), FASTACT_BACKEND="")  # fmt: skip
        assert result.returncode == 0, result.stdout[-4000:]
        assert f"fastact from {uncompiled}" in self.run(uncompiled, "import fastact.nn as nn; print('fastact from', nn.__file__)").stdout

    @pytest.mark.skipif(not (HERE.parent / "setup.py").exists(), reason="no clone around these tests")
    def test_pip_installs_it_without_a_compiler(self, tmp_path):
        clone = tmp_path / "clone"
        ignored = shutil.ignore_patterns("build", ".git", "*.so", "*.egg-info", "__pycache__")
        shutil.copytree(HERE.parent, clone, ignore=ignored)
        pip = child("-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--target", str(tmp_path / "site"), str(clone),
                    FASTACT_NO_EXTENSIONS="1", CC="no-such-compiler")  # fmt: skip
        if (
            "No module named 'setuptools'" in pip.stdout + pip.stderr
            or "Cannot import 'setuptools" in pip.stdout + pip.stderr
        ):
            pytest.skip("needs setuptools")
        assert pip.returncode == 0, pip.stdout + pip.stderr
        program = """if True:
            import numba, numpy as np, fastact as fa

            @numba.njit
            def slope(v):
                return fa.gelu.derivative(v)

            print(fa.get_backend(), round(slope(0.0), 3))
            """
        result = child("-c", program, PYTHONPATH=str(tmp_path / "site"), FASTACT_BACKEND="")
        assert result.stdout.split() == ["numba", "0.5"], result.stderr


@COMPILED
def test_either_backend_may_meet_bfloat16_first():
    pytest.importorskip("ml_dtypes")
    program = """if True:
        import ml_dtypes, numpy as np, fastact as fa
        x = np.ones(3, ml_dtypes.bfloat16)
        with fa.use_backend("{}"):
            fa.gelu(x)
        for name in ("cython", "numba"):
            with fa.use_backend(name):
                print(fa.gelu(x).dtype, fa.gelu.ufunc(x).dtype, fa.softmax(x).dtype)
        """
    for first in ("numba", "cython"):
        assert set(child("-c", program.format(first)).stdout.split()) == {"bfloat16"}


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
            import numpy as np, fastact as fa
            from fastact._kernels.numba_lazy import Lazy
            fa.gelu.ufunc
            compile, times = Lazy.compile, []
            def interrupted(self):
                times.append(1)
                if len(times) < 3:
                    raise KeyboardInterrupt
                compile(self)
            Lazy.compile = interrupted
            y = np.ones(3)
            try:
                fa.silu.ufunc(np.zeros(3), y)
                print("passed for a result")
            except KeyboardInterrupt:
                print(*y)
            """
        assert self.run(program) == ["0.0", "0.0", "0.0"]

    def test_a_kernel_that_cannot_be_compiled_is_an_error(self):
        program = """if True:
            import numpy as np, fastact as fa
            from fastact._kernels.numba_lazy import Lazy
            def failing(self):
                raise RuntimeError("no such luck")
            compile, Lazy.compile = Lazy.compile, failing
            for call in lambda: fa.silu(np.ones(3)), lambda: fa.softmax(np.ones(3)):
                try:
                    call()
                    print("passed for a result")
                except RuntimeError as error:
                    print(error)
            Lazy.compile = compile
            print(fa.silu(0.0))
            """
        assert self.run(program) == "no such luck no such luck 0.0".split()
