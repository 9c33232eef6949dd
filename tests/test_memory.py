"""In place means in place: nothing that grows with the array is allocated; and what big results leave is kept, within limits."""

import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from cases import FROM_OUTPUT, NAMES, defaults

import fastact as fa
from fastact import backends
from fastact.table import ELEMENTWISE_LOSSES

LIMIT = 100_000  # bytes; every array below has two million


def allocated(function, *arguments, **options):
    """The peak of what Python and NumPy allocate during a call."""
    function(*arguments, **options)
    tracemalloc.start()
    try:
        function(*arguments, **options)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.fixture
def x(rng):
    return rng.normal(size=(500, 1000)).astype("f")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_elementwise(name, dtype, x):
    activation, parameters = getattr(fa, name), defaults(name)
    x = x.astype(dtype)
    assert allocated(activation, x, *parameters, out=x) < LIMIT
    assert allocated(activation.derivative, x, *parameters, out=x) < LIMIT
    assert allocated(activation, x.T, *parameters, out=x.T) < LIMIT
    if name != "prelu":  # sums the gradient of its slope
        assert allocated(activation.backward, x, np.ones_like(x), *parameters, out=x) < LIMIT
    if name in FROM_OUTPUT:
        named = dict(zip(activation.parameters, parameters))
        assert allocated(activation.backward, x, output=np.ones_like(x), out=x, **named) < LIMIT


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("name", ["softmax", "log_softmax", "softmin"])
def test_rowwise(name, axis, x):
    function = getattr(fa, name)
    assert allocated(function, x, axis, out=x) < LIMIT
    y = np.full_like(x, 1e-3)
    assert allocated(function.backward, x, output=y, axis=axis, out=x) < LIMIT


@pytest.mark.parametrize("axis", [0, 1])
def test_cross_entropy(axis, x):
    target = np.zeros(x.shape[1 - axis], int)
    for options in ({}, {"label_smoothing": 0.1, "z_loss": 0.1, "reduction": "sum"}, {"reduction": "none"}):
        assert allocated(fa.softmax_cross_entropy.value_and_grad, x, target, axis=axis, grad_out=x, **options) < LIMIT
    soft = np.full_like(x, 1 / x.shape[axis])
    assert allocated(fa.softmax_cross_entropy.value_and_grad, x, soft, axis=axis, grad_out=x) < LIMIT
    assert allocated(fa.softmax_cross_entropy, x, target, axis=axis) < LIMIT


@pytest.mark.parametrize("name", [row.name for row in ELEMENTWISE_LOSSES])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_elementwise_losses(name, dtype, x):
    loss, x = getattr(fa, name), x.astype(dtype)
    sources = [np.ones_like(x), *([np.ones_like(x)] if name == "gaussian_nll" else [])]
    weight = np.ones(x.shape[1])
    for options in ({}, {"weight": weight}, {"reduction": "none", "out": np.empty_like(x)}):
        assert allocated(loss.value_and_grad, x, *sources, grad_out=x, **options) < LIMIT
        assert allocated(loss, x, *sources, **options) < LIMIT
    for target in (0.5, np.ones(x.shape, int)):
        assert allocated(loss.value_and_grad, x, target, *sources[1:], grad_out=x) < LIMIT
    if name == "gaussian_nll":
        assert allocated(loss.value_and_grad, x, *sources, grad_out=x, var_grad=sources[1]) < LIMIT


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the peak resident set as Linux reports it")
def test_the_process_does_not_grow():
    """What the kernels allocate themselves counts too: the peak resident set stays where the arrays put it."""
    program = """if True:
        import resource, numpy as np, fastact as fa
        from cases import NAMES, defaults
        x = np.ones((4096, 2048), np.float32)
        x[:] = np.linspace(-3, 3, 2048)
        target = np.zeros(4096, int)
        calls = [lambda n=n, p=p: getattr(fa, n)(x, *p, out=x) for n in NAMES for p in [defaults(n)]]
        calls += [lambda: fa.softmax(x, out=x), lambda: fa.softmax(x, 0, out=x),
                  lambda: fa.softmax_cross_entropy.value_and_grad(x, target, grad_out=x),
                  lambda: fa.softmax_cross_entropy.value_and_grad(x, target[:2048], axis=0, grad_out=x)]
        fa.softmax(x[:512], out=x[:512])  # threads and their stacks
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for call in calls:
            call()
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
        """
    result = subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).parent, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) < 6000  # KiB, of an array of 32768


@pytest.mark.skipif(sys.platform != "linux" or backends.get_backend() != "cython", reason="compiled kernels on Linux only")
class TestKeptMemory:
    """Results that fastact allocates reuse the memory of big ones that are gone."""

    X = np.linspace(-4, 4, 2**20, dtype=np.float32)

    def test_is_given_to_the_next(self):
        y = fa.gelu(self.X)
        wanted, place = y.copy(), y.ctypes.data
        del y
        y = fa.gelu(self.X)
        assert y.ctypes.data == place and np.array_equal(y, wanted)

    def test_is_nobody_elses_while_in_use(self):
        results = [fa.relu(self.X) for _ in range(12)]
        views = [y[::7] for y in results]
        del results
        assert len({view.ctypes.data for view in views}) == 12
        fa.sigmoid(self.X)
        for view in views:
            np.testing.assert_array_equal(view, np.maximum(self.X, 0)[::7])

    @pytest.mark.parametrize("size", [2**20 + 5, 2**21, 10])
    def test_can_be_resized(self, size):
        y = fa.identity(self.X)
        y.resize(size, refcheck=False)
        wanted = np.zeros(size, np.float32)
        wanted[: self.X.size] = self.X[:size]
        np.testing.assert_array_equal(y, wanted)

    def test_has_a_limit(self):
        program = """if True:
            import resource, numpy as np, fastact as fa
            x = np.zeros(2**20, np.float32)
            mapped = lambda: int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize() >> 20
            fa.relu(x)
            before = mapped()
            results = [fa.relu(x) for _ in range(40)]
            del results
            print(mapped() - before <= 16)
            """
        for limit, kept in (("16", "True"), ("0", "True"), ("64", "False")):
            result = subprocess.run([sys.executable, "-c", program], env={**os.environ, "FASTACT_KEEP_MIB": limit},
                                    capture_output=True, text=True, timeout=60)  # fmt: skip
            assert result.stdout.split() == [kept], (limit, result.stderr)
