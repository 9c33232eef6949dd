"""Losses over rows beside softmax_cross_entropy: values, gradients, layouts and errors."""

import inspect
import pickle

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


# name: (input, target), each of (rng, shape, dtype, axis)
LOSSES = {"softmax_focal": (logits, classes)}
OPTIONS = {
    "softmax_focal": {
        "plain": {},
        "none": {"reduction": "none", "alpha": 0.25},
        "sum": {"reduction": "sum", "gamma": 0.5, "ignore_index": 3},
        "weight": {"weight": np.linspace(0.5, 2, CLASSES), "alpha": np.linspace(1, 0, CLASSES), "gamma": 3.0},
        "cross_entropy": {"gamma": 0.0},
    },
}
every_loss = pytest.mark.parametrize("name", LOSSES)
every_option = pytest.mark.parametrize("name, options", [
    pytest.param(name, options, id=f"{name}-{key}") for name in LOSSES for key, options in OPTIONS[name].items()
])  # fmt: skip


def problem(name, rng, shape=(13, CLASSES), dtype="float64", axis=-1):
    return [make(rng, shape, dtype, axis) for make in LOSSES[name]]


def check(name, x, target, **options):
    """Value and gradient within a few roundings of the largest numbers in them; the value alone has the same bits."""
    loss, twin = getattr(fa, name), reference.VALUE_AND_GRAD[name]
    value, grad = loss.value_and_grad(x, target, **options)
    wanted_value, wanted_grad = twin(x, target, **options)
    assert value.dtype == grad.dtype == x.dtype
    assert np.shape(value) == np.shape(wanted_value) and grad.shape == x.shape
    assert same_bits(loss(x, target, **options), value)
    eps = EPS[x.dtype.name]
    np.testing.assert_allclose(np.asarray(value, float), wanted_value, rtol=20 * eps, atol=20 * eps)
    largest = np.abs(wanted_grad[np.isfinite(wanted_grad)]).max(initial=1e-30)
    np.testing.assert_allclose(grad.astype(float), wanted_grad, rtol=40 * eps, atol=10 * eps * largest)


@every_option
class TestValues:
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_every_dtype(self, name, options, dtype, rng):
        check(name, *problem(name, rng, dtype=dtype), **options)

    @pytest.mark.parametrize("axis", [0, 1, 2, -2])
    def test_every_axis(self, name, options, axis, rng):
        shape = [5, 6, 7]
        shape[axis] = CLASSES
        check(name, *problem(name, rng, tuple(shape), axis=axis), axis=axis, **options)

    def test_finite_differences(self, name, options, rng):
        x, target = problem(name, rng, (3, CLASSES))
        loss = getattr(fa, name)
        grad = loss.value_and_grad(x, target, **options)[1]
        for i in list(np.ndindex(x.shape))[::3]:
            step = np.zeros_like(x)
            step[i] = 1e-6 * abs(x[i])
            slope = np.sum(loss(x + step, target, **options) - loss(x - step, target, **options)) / (2 * step[i])
            assert grad[i] == pytest.approx(slope, rel=1e-6, abs=1e-8)


@every_loss
class TestRows:
    @pytest.mark.parametrize("columns", [1, 2, 3, 7, 16, 17, 100, 1000, 4099])
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_of_every_length(self, name, columns, dtype, rng):
        for rows in (1, 2, 9):
            x, target = problem(name, rng, (rows, columns), dtype)
            check(name, x, target % columns if target.dtype.kind == "i" else target)

    def test_single_ones(self, name, rng):
        x, target = problem(name, rng, (1, CLASSES))
        value, grad = getattr(fa, name).value_and_grad(x[0], target[0])
        assert isinstance(value, np.float64) and grad.shape == (CLASSES,)
        assert value == getattr(fa, name)(x.tolist(), target.tolist())

    @pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
    def test_none(self, name, reduction):
        value, grad = getattr(fa, name).value_and_grad(np.ones((0, 5)), np.empty(0, int), reduction=reduction)
        assert np.all(value == 0) and grad.shape == (0, 5)

    def test_bits_do_not_depend_on_threads_neighbours_or_layout(self, name, rng, set_num_threads):
        x, target = problem(name, rng, (700, 301), "float32")
        loss = getattr(fa, name)
        set_num_threads(1)
        value, grad = loss.value_and_grad(x, target, reduction="none")
        total = loss(x, target)
        for threads in (2, 3):
            set_num_threads(threads)
            again = loss.value_and_grad(x, target, reduction="none")
            assert same_bits(again[0], value) and same_bits(again[1], grad) and same_bits(loss(x, target), total)
        views = [np.asfortranarray(x), np.repeat(x, 2, 1)[:, ::2], np.ascontiguousarray(x[::-1])[::-1]]
        for view in views:
            again = loss.value_and_grad(view, target, reduction="none")
            assert same_bits(again[0], value) and same_bits(again[1].copy(), grad)
        again = loss.value_and_grad(x[5], target[5], reduction="none")
        assert same_bits(again[0], value[5]) and same_bits(again[1], grad[5])

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_in_place(self, name, dtype, rng):
        x, target = problem(name, rng, dtype=dtype)
        loss = getattr(fa, name)
        value, grad = loss.value_and_grad(x, target)
        in_place = loss.value_and_grad(x, target, grad_out=x)
        assert in_place[1] is x and same_bits(x, grad) and same_bits(in_place[0], value)


@pytest.mark.parametrize("name", [name for name, (_, target) in LOSSES.items() if target is classes])
class TestClasses:
    def test_ignored_rows_may_hold_anything(self, name, rng):
        x, target = problem(name, rng)
        counts = np.arange(13) % 3 > 0
        target[~counts] = -100
        x[~counts] = np.nan
        value, grad = getattr(fa, name).value_and_grad(x, target)
        wanted_value, wanted_grad = getattr(fa, name).value_and_grad(x[counts], target[counts])
        assert value == pytest.approx(wanted_value, rel=1e-14)
        assert not grad[~counts].any()
        np.testing.assert_allclose(grad[counts], wanted_grad, rtol=1e-14)

    def test_nothing_counts(self, name):
        value, grad = getattr(fa, name).value_and_grad(np.ones((4, 5)), np.full(4, -100))
        assert value == 0 and not grad.any()

    def test_out_of_range(self, name):
        """The message names the class and the row, and nothing is written."""
        for bad in (5, -1):
            grad = np.full((4, 5), 7.0)
            with pytest.raises(IndexError, match=rf"class {bad} at row 2"):
                getattr(fa, name).value_and_grad(np.ones((4, 5)), [0, 1, bad, 2], grad_out=grad)
            assert np.all(grad == 7)


@every_loss
def test_errors(name, rng):
    loss = getattr(fa, name)
    x, target = problem(name, rng)
    grad = np.full_like(x, 7)
    cases = [
        (ValueError, x, target, {"reduction": "avg"}),
        (ValueError, x, target[:5], {}),
        (np.exceptions.AxisError, x, target, {"axis": 2}),
        (TypeError, x + 0j, target, {}),
        (TypeError, x.astype(str), target, {}),
        (TypeError, x, target.astype(complex), {}),
        (ValueError, np.empty((2, 0)), np.empty(2, int), {}),
    ]
    for kind, a, b, options in cases:
        with pytest.raises(kind):
            loss(a, b, **options)
        with pytest.raises(kind):
            loss.value_and_grad(a, b, grad_out=grad if a is x else None, **options)
    assert np.all(grad == 7)
    for bad, kind in ((x[:5], ValueError), (x.astype("f"), TypeError), ([1.0], TypeError)):
        with pytest.raises(kind):
            loss.value_and_grad(x, target, grad_out=bad)


@every_loss
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
        x, target = problem("softmax_focal", rng)
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
        x, target = problem("softmax_focal", rng)
        assert fa.softmax_focal(x, target, alpha=0.25) == fa.softmax_focal(x, target) / 4
        weight = np.full(CLASSES, 0.25)
        assert fa.softmax_focal(x, target, weight=weight) == pytest.approx(fa.softmax_focal(x, target), rel=1e-15)

    @pytest.mark.parametrize("options", [{"gamma": -1}, {"gamma": np.nan}, {"alpha": [1.0, 2.0]}, {"weight": [1.0]}])
    def test_bad_options(self, options):
        with pytest.raises(ValueError):
            fa.softmax_focal(np.zeros((2, 3)), [0, 1], **options)
        with pytest.raises(ValueError):
            fa.softmax_focal(np.zeros((2, 3)), np.zeros((2, 3)))
