"""linear_softmax_cross_entropy: equal to the products and the loss one after the other, in little memory."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cases import DTYPES, HALF_TYPES, bfloat16, same_bits

import fastact as fa
from fastact import linear
from fastact._kernels import reference

loss = fa.linear_softmax_cross_entropy
twin = reference.VALUE_AND_GRAD["linear_softmax_cross_entropy"]
FEATURES, CLASSES = 7, 30
EPS = {"float16": 2.0**-11, "bfloat16": 2.0**-8, "float32": 2.0**-24, "float64": 2.0**-53}
OPTIONS = {
    "plain": {},
    "sum": {"reduction": "sum"},
    "none": {"reduction": "none", "ignore_index": 3},
    "everything": {"class_weight": True, "label_smoothing": 0.2, "z_loss": 1e-3, "ignore_index": 3},
}
options = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())


def problem(rng, shape=(20,), dtype="float64", bias=True):
    x, weight = rng.normal(size=(*shape, FEATURES)), rng.normal(size=(CLASSES, FEATURES))
    arrays = x, weight, rng.normal(size=CLASSES) if bias else None
    target = rng.integers(0, CLASSES, shape)
    target[..., :1] = 3
    x, weight, bias = (a if a is None else a.astype(dtype) for a in arrays)
    return x, weight, target, bias


def keywords(options, rng):
    return {**options, "class_weight": rng.uniform(0.5, 2, CLASSES)} if options.get("class_weight") else options


def check(problem, eps, **options):
    value, grads = loss.value_and_grad(*problem, **options)
    wanted_value, wanted_grads = twin(*problem, **{k: v for k, v in options.items() if k != "chunk"})
    assert same_bits(loss(*problem, **options), value)
    np.testing.assert_allclose(np.asarray(value, float), wanted_value, rtol=20 * eps, atol=20 * eps)
    x, weight, _, bias = problem
    for grad, wanted, array in zip(grads, wanted_grads, (x, weight, bias)):
        if array is None:
            assert grad is None
            continue
        assert grad.shape == array.shape and grad.dtype == array.dtype
        scale = np.abs(wanted).max(initial=1e-30)
        np.testing.assert_allclose(grad.astype(float) / scale, wanted / scale, rtol=0, atol=30 * eps)


class TestValues:
    @options
    @pytest.mark.parametrize("chunk", [None, 1, 3, 20, 100])
    @pytest.mark.parametrize("shape", [(), (1,), (20,), (4, 5), (2, 0, 3)])
    def test_classes(self, options, chunk, shape, rng):
        check(problem(rng, shape) if shape else problem_of_one_row(rng), EPS["float64"], chunk=chunk, **keywords(options, rng))

    @options
    @pytest.mark.parametrize("bias", [False, True])
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_every_dtype(self, options, bias, dtype, rng):
        """Half types are computed in float32 and rounded once."""
        check(problem(rng, (33,), dtype, bias), EPS[np.dtype(dtype).name], chunk=10, **keywords(options, rng))

    @options
    def test_probabilities(self, options, rng):
        x, weight, target, bias = problem(rng, (4, 5))
        soft = fa.softmax(rng.normal(size=(*target.shape, CLASSES)))
        check((x, weight, soft, bias), EPS["float64"], chunk=3, **keywords(options, rng))

    def test_several_blocks_of_classes(self, rng, monkeypatch):
        monkeypatch.setattr(linear, "CLASSES", 8)
        for dtype in ("float16", "float64"):
            check(problem(rng, dtype=dtype), EPS[dtype], chunk=7, label_smoothing=0.1)

    @pytest.mark.parametrize("dtype", HALF_TYPES)
    def test_half_gradients_are_summed_in_float32(self, dtype, rng):
        """Whatever the chunks: those of one row each would lose the weight's gradient in half precision."""
        arrays = problem(rng, (600,), dtype)
        whole, single = (loss.value_and_grad(*arrays, chunk=chunk)[1] for chunk in (600, 1))
        for a, b in zip(whole, single):
            np.testing.assert_allclose(a.astype(float), b.astype(float), rtol=2 * EPS[np.dtype(dtype).name], atol=1e-6)

    def test_mixed_dtypes(self, rng):
        x, weight, target, bias = problem(rng)
        value, grads = loss.value_and_grad(x.astype("f"), weight, target, bias.astype("e"))
        assert value.dtype == np.float64
        assert [g.dtype.name for g in grads] == ["float32", "float64", "float16"]
        assert isinstance(loss(np.eye(2, dtype=int), np.eye(3, 2), [0, 1]), np.float64)

    def test_softmax_cross_entropy_of_the_products(self, rng):
        x, weight, target, bias = problem(rng)
        logits = x @ weight.T + bias
        for given in ({}, {"label_smoothing": 0.1, "z_loss": 0.01, "reduction": "none"}):
            np.testing.assert_allclose(loss(*problem_of(x, weight, target, bias), **given),
                                       fa.softmax_cross_entropy(logits, target, **given), rtol=1e-13)  # fmt: skip


def problem_of(*arrays):
    return arrays


def problem_of_one_row(rng):
    x, weight, target, bias = problem(rng, (1,))
    return x[0], weight, target[0], bias


class TestIgnoredRows:
    def test_cost_nothing_whatever_they_hold(self, rng):
        x, weight, target, bias = problem(rng)
        counts = np.arange(20) % 3 > 0
        target[~counts] = -100
        x[~counts] = np.nan
        value, (dx, dweight, dbias) = loss.value_and_grad(x, weight, target, bias, chunk=4)
        wanted, (wanted_dx, *others) = loss.value_and_grad(x[counts], weight, target[counts], bias)
        assert value == pytest.approx(wanted, rel=1e-14)
        assert not dx[~counts].any()
        for a, b in zip((dx[counts], dweight, dbias), (wanted_dx, *others)):
            np.testing.assert_allclose(a, b, atol=1e-15)

    @pytest.mark.parametrize("rows", [0, 5])
    def test_nothing_counts(self, rows, rng):
        x, weight, _, bias = problem(rng, (rows,))
        out = [np.full_like(a, 7) for a in (x, weight, bias)]
        value, grads = loss.value_and_grad(x, weight, np.full(rows, -100), bias, grad_out=out)
        assert value == 0 and all(g is o and not g.any() for g, o in zip(grads, out))


class TestMemory:
    def test_outputs(self, rng):
        arrays = problem(rng)
        wanted = loss.value_and_grad(*arrays)[1]
        out = tuple(np.full_like(a, np.nan) for a in (arrays[0], arrays[1], arrays[3]))
        grads = loss.value_and_grad(*arrays, grad_out=out)[1]
        assert all(g is o and same_bits(g, w) for g, o, w in zip(grads, out, wanted))
        some = loss.value_and_grad(*arrays, grad_out=(None, out[1], None))[1]
        assert some[1] is out[1] and same_bits(some[0], wanted[0])

    @pytest.mark.parametrize("chunk", [None, 3])
    def test_in_place(self, chunk, rng):
        """Each gradient may be written over what it is the gradient of."""
        x, weight, target, bias = problem(rng)
        wanted = loss.value_and_grad(x, weight, target, bias, chunk=chunk)[1]
        loss.value_and_grad(x, weight, target, bias, chunk=chunk, grad_out=(x, weight, bias))
        assert all(same_bits(a, w) for a, w in zip((x, weight, bias), wanted))

    def test_every_layout(self, rng):
        x, weight, target, bias = problem(rng, (4, 5))
        wanted = loss.value_and_grad(x, weight, target, bias)[1]
        views = np.asfortranarray(x), np.asfortranarray(weight), np.repeat(target, 2, 1)[:, ::2], np.repeat(bias, 2)[::2]
        out = np.zeros_like(views[0]), np.zeros_like(views[1]), np.zeros(2 * CLASSES)[::-2]
        for a, b in zip(loss.value_and_grad(*views, grad_out=out, chunk=6)[1], wanted):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-15)

    @pytest.mark.parametrize("dtype", ["float16", "float32"])
    def test_the_matrix_of_logits_never_exists(self, dtype):
        """1,024 rows of 65,536 classes: their logits are 256 MiB in float32."""
        program = f"""if True:
            import resource, numpy as np, fastact as fa
            x, weight, bias = np.zeros((1024, 64), "{dtype}"), np.zeros((65536, 64), "{dtype}"), np.zeros(65536, "{dtype}")
            target = np.arange(1024)
            fa.linear_softmax_cross_entropy.value_and_grad(x[:8], weight[:8], target[:8], bias[:8])  # threads, their stacks
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            fa.linear_softmax_cross_entropy.value_and_grad(x, weight, target, bias, label_smoothing=0.1)
            print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
            """
        if not sys.platform.startswith("linux"):
            pytest.skip("reads the peak resident set as Linux reports it")
        result = subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).parent, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        assert int(result.stdout) < 200_000  # KiB: 128 MiB of logits, the gradients, BLAS's buffers


class TestErrors:
    """... are raised before anything is written."""

    def raises(self, kind, x, weight, target, bias=None, **keywords):
        out = [np.full(np.shape(a), 7.0) for a in (x, weight, bias) if a is not None]
        with pytest.raises(kind):
            loss.value_and_grad(x, weight, target, bias, **{"grad_out": out, **keywords})
        assert all(np.all(o == 7) for o in out)

    def test_shapes(self):
        x, weight, target, bias = np.ones((4, 3)), np.ones((5, 3)), np.zeros(4, int), np.ones(5)
        for bad in ((x, weight[:, :2], target), (x, weight[0], target), (x, weight, target[:3]), (x, weight, target, bias[:4]),
                    (x, weight, np.ones((4, 4))), (np.ones(()), weight, np.zeros((), int)), (x, np.ones((0, 3)), target)):  # fmt: skip
            self.raises(ValueError, *bad)
        for given in ({"class_weight": np.ones(4)}, {"chunk": 0}, {"chunk": -1}, {"label_smoothing": 2}, {"reduction": "avg"}):
            self.raises(ValueError, x, weight, target, bias, **given)

    def test_class_out_of_range(self):
        self.raises(IndexError, np.ones((4, 3)), np.ones((5, 3)), [0, 1, 5, 2], chunk=1)

    def test_dtypes(self):
        x, weight, target = np.ones((4, 3)), np.ones((5, 3)), np.zeros(4, int)
        self.raises(TypeError, x, weight, np.zeros(4))
        for bad in ((x + 0j, weight), (x, weight.astype(object)), (x, weight.astype(str))):
            with pytest.raises(TypeError):
                loss(*bad, target)

    def test_grad_out(self):
        x, weight, target = np.ones((4, 3)), np.ones((5, 3)), np.zeros(4, int)
        for bad, kind in ((weight, weight), ValueError), ((x, weight.astype("f")), TypeError), (([1.0], None), TypeError):
            with pytest.raises(kind):
                loss.value_and_grad(x, weight, target, grad_out=bad)

    def test_never_a_floating_point_warning(self):
        x = np.array([[1e38, np.nan], [np.inf, 0], [3e38, 3e38]], "f")
        with np.errstate(all="raise"):
            loss.value_and_grad(x, np.array([[1, 1], [3e38, -3e38]], "f"), [0, 1, 0], np.array([1, np.inf], "f"))


@options
def test_finite_differences(options, rng):
    x, weight, target, bias = problem(rng, (4,))
    options = keywords(options, rng)
    grads = loss.value_and_grad(x, weight, target, bias, chunk=2, **options)[1]
    for grad, array in zip(grads, (x, weight, bias)):
        for i in list(np.ndindex(array.shape))[::5]:
            values = []
            for step in (1e-6, -1e-6):
                before, array[i] = array[i], array[i] + step
                values.append(np.sum(loss(x, weight, target, bias, **options)))
                array[i] = before
            assert grad[i] == pytest.approx((values[0] - values[1]) / 2e-6, abs=1e-8)


@pytest.mark.skipif(bfloat16 is None, reason="needs ml_dtypes")
def test_bfloat16_beside_float32(rng):
    x, weight, target, bias = problem(rng)
    value, grads = loss.value_and_grad(x.astype(bfloat16), weight.astype("f"), target, bias.astype("f"))
    assert value.dtype == np.float32 and grads[0].dtype == bfloat16
