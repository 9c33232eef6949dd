"""Losses over rows beside softmax_cross_entropy: values, gradients, layouts and errors."""

import inspect
import pickle
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from cases import DTYPES, HALF_TYPES, same_bits
from ulp import errors

import fastact as fa
from fastact._kernels import reference

EPS = {"float16": 2.0**-11, "bfloat16": 2.0**-8, "float32": 2.0**-24, "float64": 2.0**-53}
CLASSES = 37


def logits(rng, shape, dtype, axis=-1):
    return (rng.normal(size=shape) * 3).astype(dtype)


def classes(rng, shape, dtype, axis=-1):
    target = rng.integers(0, shape[axis], np.delete(shape, axis))
    target[..., ::4] = 3
    return target


def log_probs(rng, shape, dtype, axis=-1):
    return fa.log_softmax(logits(rng, shape, "float64"), axis).astype(dtype)


def probs(rng, shape, dtype, axis=-1):
    return fa.softmax(logits(rng, shape, "float64"), axis).astype(dtype)


def positive(rng, shape, dtype, axis=-1):
    return rng.uniform(0.05, 1, shape).astype(dtype)


@dataclass
class Variant:
    """A loss with a kind of target."""

    loss: str
    input: Callable
    target: Callable
    fixed: dict
    options: dict

    def problem(self, rng, shape=(13, CLASSES), dtype="float64", axis=-1):
        return self.input(rng, shape, dtype, axis), self.target(rng, shape, dtype, axis)

    def value(self, *arrays, **options):
        return getattr(fa, self.loss)(*arrays, **self.fixed, **options)

    def value_and_grad(self, *arrays, **options):
        return getattr(fa, self.loss).value_and_grad(*arrays, **self.fixed, **options)

    def reference(self, *arrays, **options):
        return reference.VALUE_AND_GRAD[self.loss](*arrays, **self.fixed, **options)


WEIGHT = np.linspace(0, 2, CLASSES)
REDUCTIONS = {"mean": {}, "sum": {"reduction": "sum"}, "none": {"reduction": "none"}}
OF_CLASSES = REDUCTIONS | {
    "ignore": {"ignore_index": 3},
    "weight": {"weight": WEIGHT},
    "everything": {"weight": WEIGHT, "ignore_index": 3, "reduction": "none"},
}
FOCAL = OF_CLASSES | {
    "alpha": {"alpha": 0.25, "gamma": 0.5},
    "alphas": {"alpha": WEIGHT[::-1], "weight": WEIGHT, "gamma": 3.0},
    "cross_entropy": {"gamma": 0.0},
}
VARIANTS = {
    "softmax_focal": Variant("softmax_focal", logits, classes, {}, FOCAL),
    "nll_loss": Variant("nll_loss", log_probs, classes, {}, OF_CLASSES),
    "categorical-classes": Variant("categorical_cross_entropy", positive, classes, {}, OF_CLASSES),
    "categorical-probabilities": Variant(
        "categorical_cross_entropy", positive, probs, {}, REDUCTIONS | {"weight": {"weight": WEIGHT}}
    ),
    "kl_div": Variant("kl_div", log_probs, probs, {}, REDUCTIONS),
    "kl_div-logs": Variant("kl_div", log_probs, log_probs, {"log_target": True}, REDUCTIONS),
}
every_variant = pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
every_option = pytest.mark.parametrize("variant, options", [
    pytest.param(variant, options, id=f"{name}-{key}")
    for name, variant in VARIANTS.items() for key, options in variant.options.items()
])  # fmt: skip


def check(variant, x, target, **options):
    """Value and gradient within a few roundings of the largest numbers in them; the value alone has the same bits."""
    value, grad = variant.value_and_grad(x, target, **options)
    wanted_value, wanted_grad = variant.reference(x, target, **options)
    assert value.dtype == grad.dtype == x.dtype
    assert np.shape(value) == np.shape(wanted_value) and grad.shape == x.shape
    assert same_bits(variant.value(x, target, **options), value)
    eps = EPS[x.dtype.name]
    np.testing.assert_allclose(np.asarray(value, float), wanted_value, rtol=20 * eps, atol=20 * eps)
    largest = np.abs(wanted_grad[np.isfinite(wanted_grad)]).max(initial=1e-30)
    np.testing.assert_allclose(grad.astype(float), wanted_grad, rtol=40 * eps, atol=10 * eps * largest)


@every_option
class TestValues:
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_every_dtype(self, variant, options, dtype, rng):
        check(variant, *variant.problem(rng, dtype=dtype), **options)

    @pytest.mark.parametrize("axis", [0, 1, 2, -2])
    def test_every_axis(self, variant, options, axis, rng):
        shape = [5, 6, 7]
        shape[axis] = CLASSES
        check(variant, *variant.problem(rng, tuple(shape), axis=axis), axis=axis, **options)

    def test_finite_differences(self, variant, options, rng):
        x, target = variant.problem(rng, (3, CLASSES))
        grad = variant.value_and_grad(x, target, **options)[1]
        for i in list(np.ndindex(x.shape))[::3]:
            step = np.zeros_like(x)
            step[i] = 1e-6 * abs(x[i])
            slope = np.sum(variant.value(x + step, target, **options) - variant.value(x - step, target, **options)) / (2 * step[i])
            assert grad[i] == pytest.approx(slope, rel=1e-6, abs=1e-8)


@every_variant
class TestRows:
    @pytest.mark.parametrize("columns", [1, 2, 3, 7, 16, 17, 100, 1000, 4099])
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_of_every_length(self, variant, columns, dtype, rng):
        for rows in (1, 2, 9):
            x, target = variant.problem(rng, (rows, columns), dtype)
            check(variant, x, target % columns if target.dtype.kind == "i" else target)

    def test_single_ones(self, variant, rng):
        x, target = variant.problem(rng, (1, CLASSES))
        value, grad = variant.value_and_grad(x[0], target[0])
        assert isinstance(value, np.float64) and grad.shape == (CLASSES,)
        assert value == variant.value(x.tolist(), target.tolist())

    @pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
    def test_none(self, variant, reduction, rng):
        value, grad = variant.value_and_grad(*variant.problem(rng, (0, 5)), reduction=reduction)
        assert np.all(value == 0) and grad.shape == (0, 5)

    def test_bits_do_not_depend_on_threads_neighbours_or_layout(self, variant, rng, set_num_threads):
        x, target = variant.problem(rng, (700, 301), "float32")
        set_num_threads(1)
        value, grad = variant.value_and_grad(x, target, reduction="none")
        total = variant.value(x, target)
        for threads in (2, 3):
            set_num_threads(threads)
            again = variant.value_and_grad(x, target, reduction="none")
            assert same_bits(again[0], value) and same_bits(again[1], grad) and same_bits(variant.value(x, target), total)
        views = [np.asfortranarray(x), np.repeat(x, 2, 1)[:, ::2], np.ascontiguousarray(x[::-1])[::-1]]
        for view in views:
            again = variant.value_and_grad(view, target, reduction="none")
            assert same_bits(again[0], value) and same_bits(again[1].copy(), grad)
        again = variant.value_and_grad(x[5], target[5], reduction="none")
        assert same_bits(again[0], value[5]) and same_bits(again[1], grad[5])

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_in_place(self, variant, dtype, rng):
        x, target = variant.problem(rng, dtype=dtype)
        value, grad = variant.value_and_grad(x, target)
        in_place = variant.value_and_grad(x, target, grad_out=x)
        assert in_place[1] is x and same_bits(x, grad) and same_bits(in_place[0], value)


@pytest.mark.parametrize("variant", [v for v in VARIANTS.values() if v.target is classes], ids=lambda v: v.loss)
class TestClasses:
    def test_ignored_rows_may_hold_anything(self, variant, rng):
        x, target = variant.problem(rng)
        counts = np.arange(13) % 3 > 0
        target[~counts] = -100
        x[~counts] = np.nan
        value, grad = variant.value_and_grad(x, target)
        wanted_value, wanted_grad = variant.value_and_grad(x[counts], target[counts])
        assert value == pytest.approx(wanted_value, rel=1e-14)
        assert not grad[~counts].any()
        np.testing.assert_allclose(grad[counts], wanted_grad, rtol=1e-14)

    def test_nothing_counts(self, variant):
        value, grad = variant.value_and_grad(np.ones((4, 5)), np.full(4, -100))
        assert value == 0 and not grad.any()

    def test_out_of_range(self, variant):
        """The message names the class and the row, and nothing is written."""
        for bad in (5, -1):
            grad = np.full((4, 5), 7.0)
            with pytest.raises(IndexError, match=rf"class {bad} at row 2"):
                variant.value_and_grad(np.ones((4, 5)), [0, 1, bad, 2], grad_out=grad)
            assert np.all(grad == 7)


@every_variant
def test_errors(variant, rng):
    x, target = variant.problem(rng)
    grad = np.full_like(x, 7)
    cases = [
        (ValueError, x, target, {"reduction": "avg"}),
        (ValueError, x, target[:5], {}),
        (np.exceptions.AxisError, x, target, {"axis": 2}),
        (TypeError, x + 0j, target, {}),
        (TypeError, x.astype(str), target, {}),
        (TypeError, np.ma.array(x, mask=x == x[0, 0]), target, {}),
        (TypeError, x, np.ma.array(target, mask=target == target.flat[0]), {}),
        (TypeError, x, target.astype(complex), {}),
        (TypeError, x, target.astype([("number", target.dtype)]), {}),
        (ValueError, np.empty((2, 0)), np.empty(2, int), {}),
    ]
    for kind, a, b, options in cases:
        with pytest.raises(kind):
            variant.value(a, b, **options)
        with pytest.raises(kind):
            variant.value_and_grad(a, b, grad_out=grad if a is x else None, **options)
    assert np.all(grad == 7)
    for bad, kind in ((x[:5], ValueError), (x.astype("f"), TypeError), ([1.0], TypeError)):
        with pytest.raises(kind):
            variant.value_and_grad(x, target, grad_out=bad)


@pytest.mark.parametrize("name", dict.fromkeys(variant.loss for variant in VARIANTS.values()))
def test_object(name):
    loss = getattr(fa, name)
    assert pickle.loads(pickle.dumps(loss)) is loss
    for function in (loss, loss.value_and_grad):
        assert function.__doc__
        parameters = list(inspect.signature(function).parameters.values())
        assert all(p.kind is p.KEYWORD_ONLY for p in parameters[2:])
    assert inspect.signature(loss.value_and_grad).parameters["grad_out"].default is None


class TestFocal:
    def test_gamma_zero_is_cross_entropy(self, rng):
        x, target = VARIANTS["softmax_focal"].problem(rng)
        for a, b in zip(fa.softmax_focal.value_and_grad(x, target, gamma=0.0),
                        fa.softmax_cross_entropy.value_and_grad(x, target)):  # fmt: skip
            assert same_bits(a, b)

    def test_keeps_its_digits_where_the_class_is_certain(self):
        """(1 - p)^2 -log(p) of p = 1 - 2e-9, and its gradient."""
        for dtype in ("float32", "float64"):
            value, grad = fa.softmax_focal.value_and_grad(np.array([[20, 0]], dtype), [0])
            q = 2.061153618190204e-09
            np.testing.assert_allclose(value, q**3, rtol=1e-8 + 2 * np.finfo(dtype).eps)
            np.testing.assert_allclose(grad, [[-3 * q**3, 3 * q**3]], rtol=1e-8 + 2 * np.finfo(dtype).eps)

    @pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
    def test_extremes(self, gamma):
        """A class that is certain costs nothing, one that is impossible what it costs in the cross-entropy."""
        value, grad = fa.softmax_focal.value_and_grad(np.array([[800.0, 0], [0, 800]]), [0, 0], gamma=gamma, reduction="none")
        assert list(value) == [0, 800] and not grad[0].any() and list(grad[1]) == [-1, 1]
        value, grad = fa.softmax_focal.value_and_grad(np.array([[-np.inf, 0]]), [0], gamma=gamma)
        assert value == np.inf and list(grad[0]) == [-1, 1]
        for row in ([np.nan, 0], [np.inf, 0], [-np.inf, -np.inf]):
            value, grad = fa.softmax_focal.value_and_grad([row], [0], gamma=gamma)
            assert np.isnan(value) and np.all(np.isnan(grad))

    @pytest.mark.parametrize("dtype", HALF_TYPES)
    def test_half_gradients_are_rounded_once(self, dtype):
        x = np.array([[7.5, 0, 0, 0]]).astype(dtype)
        grad = fa.softmax_focal.value_and_grad(x, [0])[1]
        assert errors(grad, reference.VALUE_AND_GRAD["softmax_focal"](x, [0])[1], dtype).max() <= 0.51

    def test_alpha_does_not_divide(self, rng):
        x, target = VARIANTS["softmax_focal"].problem(rng)
        assert fa.softmax_focal(x, target, alpha=0.25) == fa.softmax_focal(x, target) / 4
        weight = np.full(CLASSES, 0.25)
        assert fa.softmax_focal(x, target, weight=weight) == pytest.approx(fa.softmax_focal(x, target), rel=1e-15)

    @pytest.mark.parametrize("options", [{"gamma": -1}, {"gamma": np.nan}, {"alpha": [1.0, 2.0]}, {"weight": [1.0]}])
    def test_bad_options(self, options):
        with pytest.raises(ValueError):
            fa.softmax_focal(np.zeros((2, 3)), [0, 1], **options)
        with pytest.raises(ValueError):
            fa.softmax_focal(np.zeros((2, 3)), np.zeros((2, 3)))


class TestOfProbabilities:
    def test_source_text_mistake(self):
        """One text's categorical cross-entropy was the binary one, in log2, summed, and NaN on a perfect prediction."""
        p = np.array([[0.7, 0.2, 0.1]])
        assert fa.categorical_cross_entropy(p, [0]) == pytest.approx(0.3567, abs=5e-5)
        assert fa.categorical_cross_entropy(p, [[1.0, 0, 0]]) == fa.categorical_cross_entropy(p, [0])
        assert fa.categorical_cross_entropy([[1.0, 0, 0]], [[1.0, 0, 0]]) == 0 == fa.categorical_cross_entropy([[1.0, 0, 0]], [0])

    def test_nothing_is_clipped(self):
        for target in ([1], [[0.0, 1.0]]):
            value, grad = fa.categorical_cross_entropy.value_and_grad([[1.0, 0.0]], target)
            assert value == np.inf and list(grad[0]) == [0, -np.inf]
        tiny = np.array([[1.0, 1e-300]])
        assert fa.categorical_cross_entropy(tiny, [1]) == pytest.approx(300 * np.log(10))
        assert fa.categorical_cross_entropy(tiny, [[0.0, 1]]) == pytest.approx(300 * np.log(10))

    def test_a_weight_of_zero_is_nothing(self):
        for target in ([1], [[0.0, 1.0]]):
            value, grad = fa.categorical_cross_entropy.value_and_grad([[1.0, 0.0]], target, weight=[1.0, 0], reduction="sum")
            assert value == 0 and not grad.any()

    def test_zero_times_log_zero_is_zero(self):
        x = np.array([[0.0, np.log(0.5), -np.inf, np.log(0.5)]])
        t = np.array([[0.0, 0.5, 0.0, 0.5]])
        for given, options in ((t, {}), (np.log(t, where=t > 0, out=np.full_like(t, -np.inf)), {"log_target": True})):
            value, grad = fa.kl_div.value_and_grad(x, given, **options)
            assert value == pytest.approx(0, abs=1e-16) and grad.tolist() == [[0, -0.5, 0, -0.5]]
            assert fa.kl_div([[0.0, -np.inf]], given[:, :2], **options) == np.inf

    @pytest.mark.parametrize("name", ["categorical_cross_entropy", "kl_div"])
    def test_nan_in_nan_out(self, name):
        loss = getattr(fa, name)
        for x, t in (([[np.nan, 0.5]], [[0.0, 1.0]]), ([[0.5, 0.5]], [[np.nan, 1.0]])):
            assert np.isnan(loss(x, t))

    def test_against_the_losses_of_logits(self, rng):
        x = rng.normal(size=(20, 30))
        target, soft = rng.integers(0, 30, 20), fa.softmax(rng.normal(size=(20, 30)))
        for t in (target, soft):
            np.testing.assert_allclose(fa.categorical_cross_entropy(fa.softmax(x), t), fa.softmax_cross_entropy(x, t), rtol=1e-13)
        np.testing.assert_allclose(fa.nll_loss(fa.log_softmax(x), target), fa.softmax_cross_entropy(x, target), rtol=1e-13)
        entropy = fa.categorical_cross_entropy(soft, soft)
        np.testing.assert_allclose(fa.kl_div(fa.log_softmax(x), soft), fa.softmax_cross_entropy(x, soft) - entropy, rtol=1e-13)

    def test_sums_keep_their_digits(self):
        """10 million terms in float32: a running sum in float32 would lose four of seven digits."""
        n = 10_000_000
        assert fa.kl_div(np.full((1, n), -1, "f"), np.full((1, n), 1, "f")) == n
        assert fa.nll_loss(np.full((n, 1), np.float32(-0.1)), np.zeros(n, "i1"), reduction="sum") == np.float32(n * float(np.float32(0.1)))

    def test_big_arrays(self, rng):
        """Gradients that go past the cache."""
        x = fa.log_softmax(rng.normal(size=(300, 40_000)).astype("f"))
        target = rng.integers(0, 40_000, 300)
        target[::7] = -100
        value, grad = fa.nll_loss.value_and_grad(x, target)
        wanted = np.zeros_like(x)
        wanted[np.arange(300), np.maximum(target, 0)] = np.where(target >= 0, -np.float32(1 / np.sum(target >= 0)), 0)
        assert np.array_equal(grad, wanted)
        soft = fa.softmax(x)
        assert same_bits(fa.kl_div.value_and_grad(x, soft)[1], -soft * np.float32(1 / 300))

    def test_wants_probabilities(self):
        with pytest.raises(ValueError, match="probabilities"):
            fa.kl_div(np.zeros((2, 3)), [0, 1])
        with pytest.raises(ValueError, match="classes"):
            fa.nll_loss(np.zeros((2, 3)), np.zeros((2, 3)))

    def test_never_a_floating_point_warning(self):
        with np.errstate(all="raise"):
            for dtype in ("float16", "float32", "float64"):
                x = np.array([[0, 1, -1, np.nan], [np.inf, -np.inf, 6e4, 1e-7]], dtype)
                for t in (x, x[:, ::-1], np.array([0, 1])):
                    fa.categorical_cross_entropy.value_and_grad(x, t)
                fa.kl_div.value_and_grad(x, x[:, ::-1])
                fa.kl_div.value_and_grad(x, x[:, ::-1], log_target=True)
                fa.nll_loss.value_and_grad(x, [0, 1])


class TestPyTorch:
    """In float64, to 1e-12."""

    @pytest.fixture
    def functional(self):
        return pytest.importorskip("torch", reason="needs PyTorch").nn.functional

    def check(self, ours, theirs, x, target, **given):
        import torch

        tensor = torch.from_numpy(x).requires_grad_()
        wanted = theirs(tensor, torch.from_numpy(target))
        wanted.sum().backward()
        value, grad = ours.value_and_grad(x, target, **given)
        np.testing.assert_allclose(value, wanted.detach().numpy(), rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(grad, tensor.grad.numpy(), rtol=1e-12, atol=1e-15)

    @pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
    def test_nll_loss(self, functional, reduction, rng):
        import torch

        x, target = VARIANTS["nll_loss"].problem(rng)
        for weight in (None, WEIGHT):
            given = {"reduction": reduction, "ignore_index": 3}
            theirs = None if weight is None else torch.from_numpy(weight)
            self.check(fa.nll_loss, lambda a, b: functional.nll_loss(a, b, weight=theirs, **given), x, target, weight=weight, **given)

    @pytest.mark.parametrize("log_target", [False, True])
    @pytest.mark.parametrize("reduction, theirs", [("mean", "batchmean"), ("sum", "sum")])
    def test_kl_div(self, functional, log_target, reduction, theirs, rng):
        x, target = VARIANTS["kl_div-logs" if log_target else "kl_div"].problem(rng)
        self.check(fa.kl_div, lambda a, b: functional.kl_div(a, b, reduction=theirs, log_target=log_target), x, target,
                   reduction=reduction, log_target=log_target)  # fmt: skip
