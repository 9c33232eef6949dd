"""The elementwise losses: values and gradients, every option, layout and dtype, checked before anything is written."""

import inspect
import math
import pickle

import numpy as np
import oracle
import pytest
from cases import DTYPES, HALF_TYPES, same_bits
from ulp import worst

import fastact as fa
from fastact._kernels import reference
from fastact.table import ELEMENTWISE_LOSSES, HALF_ULP

ROWS = {row.name: row for row in ELEMENTWISE_LOSSES}
NAMES = list(ROWS)
EPS = {"float16": 2.0**-11, "bfloat16": 2.0**-8, "float32": 2.0**-24, "float64": 2.0**-53}
INTEGERS = "?bBhHiIlLqQ"
LOGITS = ("sigmoid_cross_entropy", "sigmoid_focal")
ZERO_TO_ONE = (*LOGITS, "binary_cross_entropy")
every_loss = pytest.mark.parametrize("name", NAMES)

OPTIONS = {
    "sigmoid_cross_entropy": [{"pos_weight": 3.0}, {"pos_weight": np.array([0.5, 1, 2, 4, 8])}],
    "huber": [{"delta": 0.3}, {"delta": 5.0}],
    "smooth_l1": [{"beta": 0.3}, {"beta": 0.0}],
    "sigmoid_focal": [{"alpha": 0.25}, {"gamma": 0.0}, {"gamma": 0.5}, {"alpha": 0.9, "gamma": 5.0}],
    "poisson_nll": [{"full": True}, {"log_input": False}, {"log_input": False, "full": True, "eps": 1e-3}],
    "gaussian_nll": [{"full": True}, {"eps": 0.5}],
}
every_option = pytest.mark.parametrize(("name", "options"), [
    pytest.param(name, options, id="-".join([name, *options])) for name in NAMES for options in [{}, *OPTIONS.get(name, [])]
])  # fmt: skip


def problem(name, rng, shape=(13, 5), dtype="float64"):
    """(input, target) and the variance if there is one; half of the targets that may be soft are."""
    x, t = rng.normal(size=shape) * 3, rng.normal(size=shape)
    if name in ZERO_TO_ONE:
        t = np.where(rng.random(shape) < 0.5, t > 0, rng.random(shape))
    if name == "binary_cross_entropy":
        x = rng.uniform(0.01, 0.99, shape)
    if name in ("hinge", "squared_hinge"):
        t = np.sign(t)
    if name == "poisson_nll":
        x, t = np.abs(x) / 2, rng.poisson(2.0, shape)
    return [x.astype(dtype), t.astype(dtype), *([rng.uniform(0.1, 3, shape).astype(dtype)] if name == "gaussian_nll" else [])]


def twin(name, arrays, **options):
    return reference.VALUE_AND_GRAD[name](*arrays, **options)


def value_and_grad(name, arrays, **options):
    return getattr(fa, name).value_and_grad(*arrays, **options)


def check(name, arrays, **options):
    """Within a few roundings of the largest terms; the value alone has the same bits."""
    x = arrays[0]
    value, grad = value_and_grad(name, arrays, **options)
    wanted_value, wanted_grad, *_ = twin(name, arrays, **options)
    assert value.dtype == grad.dtype == x.dtype
    assert np.shape(value) == np.shape(wanted_value) and grad.shape == x.shape
    assert same_bits(getattr(fa, name)(*arrays, **options), value)
    eps = EPS[x.dtype.name]
    size = np.abs(twin(name, arrays, **{**options, "reduction": "none"})[0]).max(initial=0)
    scale = size if options.get("reduction", "mean") != "sum" else size * x.size
    np.testing.assert_allclose(np.asarray(value, float), wanted_value, rtol=16 * eps, atol=8 * eps * scale)
    np.testing.assert_allclose(grad.astype(float), wanted_grad, rtol=32 * eps, atol=8 * eps * np.abs(wanted_grad).max(initial=1e-30))


class TestValues:
    @every_option
    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
    def test_equal_their_twins(self, name, options, dtype, reduction, rng):
        check(name, problem(name, rng, dtype=dtype), reduction=reduction, **options)

    @every_loss
    @pytest.mark.parametrize("shape", [(), (1,), (5,), (13, 1), (13, 5)])
    def test_weights_of_elements_are_broadcast(self, name, shape, rng):
        arrays = problem(name, rng)
        for weight in (rng.uniform(0, 2, shape), np.full(shape, 3, "u1")):
            for reduction in ("mean", "sum", "none"):
                check(name, arrays, weight=weight, reduction=reduction)

    @every_loss
    @pytest.mark.parametrize("shape", [(), (1,), (7,), (600,), (3, 4, 5), (2, 1, 700, 1)])
    def test_every_shape(self, name, shape, rng):
        check(name, problem(name, rng, shape))

    @every_loss
    def test_a_single_target(self, name, rng):
        x, t, *rest = problem(name, rng)
        t = t[0, 0]
        for single in (t, float(t), np.float32(t), np.array(t)):
            got = value_and_grad(name, [x, single, *rest], reduction="none")
            wanted = value_and_grad(name, [x, np.full_like(x, single), *rest], reduction="none")
            assert same_bits(got[0], wanted[0]) and same_bits(got[1], wanted[1])

    @every_loss
    def test_lists_scalars_and_integers(self, name):
        rest = [0.5] if name == "gaussian_nll" else []
        assert isinstance(getattr(fa, name)(0.25, 1, *rest), np.float64)
        assert isinstance(getattr(fa, name)(np.float32(0.25), 1.0, *rest), np.float32)
        value, grad = value_and_grad(name, [[0, 1], [1, 0], *rest])
        assert isinstance(value, np.float64) and grad.dtype == np.float64 and grad.shape == (2,)
        assert getattr(fa, name)(np.zeros(2, "i1"), [1, 0], *rest).dtype == np.exp(np.zeros(1, "i1")).dtype

    @every_loss
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_targets_and_weights_of_every_real_dtype(self, name, dtype, rng):
        x, _, *rest = problem(name, rng, dtype=dtype)
        small = rng.integers(0, 2, x.shape)
        wanted = value_and_grad(name, [x, small.astype(dtype), *rest], weight=small.astype(dtype))
        for other in [*INTEGERS, "e", "f", "d", "g", ">i4", ">f8"]:
            got = value_and_grad(name, [x, small.astype(other), *rest], weight=small.astype(other))
            assert same_bits(got[0], wanted[0]) and same_bits(got[1], wanted[1])

    def test_known_values(self):
        """The half-square of one text is mse / 2; per element, by hand."""
        x, t = np.array([0.0, 2.0, -1.0]), np.array([1.0, 0.0, -1.5])
        for name, wanted in (
            ("mse", [1, 4, 0.25]), ("mae", [1, 2, 0.5]), ("huber", [0.5, 1.5, 0.125]), ("smooth_l1", [0.5, 1.5, 0.125]),
            ("hinge", [1, 1, 0]), ("squared_hinge", [1, 1, 0]), ("log_cosh", np.log(np.cosh([1, 2, 0.5]))),
        ):  # fmt: skip
            np.testing.assert_allclose(getattr(fa, name)(x, t, reduction="none"), wanted, rtol=1e-14, err_msg=name)
        assert fa.binary_cross_entropy(0.7, 1) == pytest.approx(-np.log(0.7), rel=1e-15)
        assert fa.sigmoid_cross_entropy(0.0, 1) == pytest.approx(np.log(2), rel=1e-15)
        assert fa.sigmoid_focal(0.0, 1, alpha=0.25) == pytest.approx(np.log(2) / 16, rel=1e-15)

    def test_pos_weight_counts_class_one(self, rng):
        x = rng.normal(size=50)
        for t, factor in ((1, 5), (0, 1)):
            np.testing.assert_allclose(fa.sigmoid_cross_entropy(x, t, pos_weight=5), factor * fa.sigmoid_cross_entropy(x, t), rtol=1e-14)

    def test_huber_and_smooth_l1_are_one_family(self, rng):
        x, t = problem("huber", rng)
        np.testing.assert_allclose(fa.huber(x, t, delta=0.7), 0.7 * fa.smooth_l1(x, t, beta=0.7), rtol=1e-14)
        assert same_bits(fa.smooth_l1(x, t, beta=0, reduction="none"), fa.mae(x, t, reduction="none"))


class TestDigits:
    """Against mpmath: the table's promises, and the tails that other forms lose."""

    @staticmethod
    def points(name, dtype, rng, count=150):
        info = np.finfo(dtype)
        reach = -np.log(float(info.smallest_subnormal))
        x = np.concatenate([
            rng.normal(size=count) * 3, rng.uniform(-40, 40, count), rng.uniform(-1.1 * reach, 1.1 * reach, count),
            np.exp2(rng.uniform(-info.nmant, 6, count)) * rng.choice([-1, 1], count),
        ])  # fmt: skip
        t = np.where(rng.random(x.size) < 0.3, 0, rng.normal(size=x.size))
        if name in ZERO_TO_ONE:
            t = np.where(rng.random(x.size) < 0.7, rng.random(x.size) < 0.5, rng.random(x.size))
        if name == "binary_cross_entropy":
            x = np.concatenate([
                rng.random(2 * count), np.exp2(rng.uniform(info.minexp - info.nmant, 0, count)),
                1 - np.exp2(rng.uniform(-info.nmant - 1, 0, count)),
            ])  # fmt: skip
            x = np.clip(x.astype(dtype), info.smallest_subnormal, 1 - info.epsneg)
        if name in ("hinge", "squared_hinge"):
            t = rng.choice([-1, 1], x.size)
        if name == "poisson_nll":
            x, t = np.minimum(x, reach * 0.8), rng.poisson(3, x.size)
        arrays = [x, t] + ([np.exp(3 * rng.normal(size=x.size))] if name == "gaussian_nll" else [])
        return [a.astype(dtype) for a in arrays]

    @every_loss
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_promised_errors(self, name, dtype, rng):
        arrays = self.points(name, dtype, rng)
        taken = {"gaussian_nll": ("eps",)}.get(name, ("delta", "beta", "gamma"))  # by the oracle
        parameters = [np.dtype(dtype).type(default) for key, default in ROWS[name].parameters if key in taken]
        third = [np.ones_like(arrays[0])] if name == "sigmoid_cross_entropy" else []
        value, slope, value_term, slope_term = oracle.evaluate_loss(name, arrays + third, parameters)
        results = value_and_grad(name, arrays, reduction="none")
        promises = ROWS[name].max_ulp, ROWS[name].max_ulp_gradient
        for got, exact, terms, promise in zip(results, (value, slope), (value_term, slope_term), promises):
            error, where = worst(got, exact, dtype, arrays[0], terms)
            assert error <= promise[dtype == "float64"], where

    @every_loss
    @pytest.mark.parametrize("dtype", HALF_TYPES)
    def test_half_types_are_rounded_once(self, name, dtype, rng):
        arrays = [np.clip(a.astype(float), -9, 9).astype(dtype) for a in problem(name, rng, (40, 25))]
        results = value_and_grad(name, arrays, reduction="none")
        wide = value_and_grad(name, [a.astype("f") for a in arrays], reduction="none")
        for got, wanted in zip(results, wide):
            assert same_bits(got, wanted.astype(dtype))
        assert HALF_ULP > 0.5

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_tails(self, dtype):
        info = np.finfo(dtype)
        for name, arguments, value, slope in (
            ("sigmoid_cross_entropy", (40, 1), 4.248354255291589e-18, -4.248354255291589e-18),
            ("sigmoid_cross_entropy", (-80, 0), 1.8048513878454153e-35, 1.8048513878454153e-35),
            ("sigmoid_cross_entropy", (1000, 0), 1000, 1),
            ("sigmoid_cross_entropy", (-1000, 1), 1000, -1),
            ("binary_cross_entropy", (1e-30, 0), 1e-30, 1),
            ("binary_cross_entropy", (1e-30, 1), 69.07755278982137, -1e30),
            ("log_cosh", (1e-4, 0), 4.9999999916666667e-09, 9.999999966666667e-05),
            ("log_cosh", (1000, 0), 999.3068528194401, 1),
            ("sigmoid_focal", (20, 1), 8.757e-27, -2.627e-26),
            ("poisson_nll", (-80, 0), 1.8048513878454153e-35, 1.8048513878454153e-35),
        ):  # fmt: skip
            arrays = [np.full(40, a, dtype) for a in arguments]
            got = value_and_grad(name, arrays, reduction="none")
            # The arguments as rounded to the dtype, so a factor for the slope of steep logarithms.
            rtol = 1e-3 if name == "sigmoid_focal" else 20 * info.eps
            for array, wanted in zip(got, (value, slope)):
                np.testing.assert_allclose(array.astype(float), wanted, rtol=rtol, err_msg=f"{name}{arguments}")

    def test_gradient_does_not_vanish_when_saturated_and_wrong(self):
        """Why cross-entropy goes with sigmoid: its gradient is s(z) - y, that of the squared error after sigmoid s'(z)."""
        for z in (40.0, 500.0):
            assert value_and_grad("sigmoid_cross_entropy", [z, 0.0])[1] == 1
            assert value_and_grad("sigmoid_cross_entropy", [-z, 1.0])[1] == -1

    def test_focal_keeps_its_digits_for_every_gamma(self):
        """u^gamma where u itself is below the smallest number."""
        x = np.array([200.0, 1000.0])
        value = fa.sigmoid_focal(x.astype("f"), 1.0, gamma=0.1, reduction="none")
        assert value[0] == 0  # the cross-entropy is exp(-200)
        wrong = fa.sigmoid_focal.value_and_grad(-x, 1.0, gamma=2.0, reduction="none")
        np.testing.assert_array_equal(wrong, [x, [-1, -1]])

    def test_sums_keep_the_digits_of_float32(self):
        """10^8 elements, of which a sum in float32 would lose all: here the array takes no memory."""
        x = np.broadcast_to(np.float32(0.1), 10**8)
        assert fa.mae(x, 0.0) == np.float32(0.1)
        assert fa.mae(x, 0.0, reduction="sum") == np.float32(np.float64(np.float32(0.1)) * 10**8)

    def test_sums_of_float64_are_compensated(self, rng):
        x = np.exp(rng.normal(size=300_001) * 8)
        assert fa.mae(x, 0.0, reduction="sum") == pytest.approx(math.fsum(x), rel=2e-16)


INF = np.inf
# name: (input, target, value, gradient)
LIMITS = {
    "sigmoid_cross_entropy": [(INF, 1, 0, 0), (-INF, 0, 0, 0), (INF, 0, INF, 1), (-INF, 1, INF, -1), (INF, 0.5, INF, 0.5)],
    "binary_cross_entropy": [(0, 0, 0, 1), (1, 1, 0, -1), (0, 1, INF, -INF), (1, 0, INF, INF), (0.5, 0.5, np.log(2), 0)],
    "mse": [(INF, 0, INF, INF), (-INF, 0, INF, -INF)],
    "mae": [(INF, 0, INF, 1), (-INF, 0, INF, -1), (2, 2, 0, 0)],
    "huber": [(INF, 0, INF, 1), (-INF, 0, INF, -1)],
    "smooth_l1": [(INF, 0, INF, 1), (-INF, 0, INF, -1)],
    "log_cosh": [(INF, 0, INF, 1), (-INF, 0, INF, -1), (3, 3, 0, 0)],
    "hinge": [(INF, 1, 0, 0), (-INF, 1, INF, -1), (1, 1, 0, 0), (INF, -1, INF, 1)],
    "squared_hinge": [(INF, 1, 0, 0), (-INF, 1, INF, -INF), (1, 1, 0, 0)],
    "sigmoid_focal": [(INF, 1, 0, 0), (-INF, 0, 0, 0), (INF, 0, INF, 1), (-INF, 1, INF, -1)],
    "poisson_nll": [(-INF, 0, 0, 0), (-INF, 2, INF, -2), (INF, 2, INF, INF), (INF, 0, INF, INF)],
    "gaussian_nll": [(INF, 0, INF, INF), (-INF, 0, INF, -INF)],
}


class TestExtremes:
    @every_loss
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_limits(self, name, dtype):
        for x, t, value, slope in LIMITS[name]:
            for n in (1, 50):
                rest = [np.ones(n, dtype)] if name == "gaussian_nll" else []
                got = value_and_grad(name, [np.full(n, x, dtype), np.full(n, t, dtype), *rest], reduction="none")
                for array, wanted in zip(got, (value, slope)):
                    np.testing.assert_allclose(array.astype(float), wanted, rtol=1e-2, err_msg=f"{name}({x}, {t})")

    @every_loss
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_infinite_losses_make_infinite_sums(self, name, dtype):
        x, t = next((x, t) for x, t, value, _ in LIMITS[name] if value == INF)
        arrays = [np.ones(1000, dtype) / 2, np.ones(1000, dtype)]
        arrays[0][77], arrays[1][77] = x, t
        rest = [np.ones(1000, dtype)] if name == "gaussian_nll" else []
        assert getattr(fa, name)(*arrays, *rest) == getattr(fa, name)(*arrays, *rest, reduction="sum") == INF

    @every_option
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_nan_in_nan_out(self, name, options, dtype, rng):
        """From each of the arrays, and nowhere else."""
        arrays = problem(name, rng, (40, 5), dtype)
        clean = value_and_grad(name, arrays, reduction="none", **options)
        for k in range(len(arrays)):
            broken = [a.copy() for a in arrays]
            broken[k][::3] = np.nan
            for array, wanted in zip(value_and_grad(name, broken, reduction="none", **options), clean):
                assert np.isnan(array[::3].astype(float)).all()
                assert same_bits(array[1::3], wanted[1::3]) and same_bits(array[2::3], wanted[2::3])
            assert np.isnan(getattr(fa, name)(*broken, **options))

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_what_is_no_probability_is_nan(self, dtype):
        x = np.array([-0.5, 1.5, -INF, INF], dtype)
        for t in (0, 0.5, 1):
            for array in fa.binary_cross_entropy.value_and_grad(x, t, reduction="none"):
                assert np.isnan(array.astype(float)).all()

    def test_negative_variance_is_nan(self):
        for array in fa.gaussian_nll.value_and_grad([0.0], [1.0], [-1.0], reduction="none"):
            assert np.isnan(array).all()

    def test_weight_zero_counts_nothing(self):
        """Even where the loss is infinite."""
        value, grad = fa.mse.value_and_grad([INF, 1.0], [0.0, 0.0], weight=[0.0, 1.0], reduction="sum")
        assert value == 1 and list(grad) == [0, 2]

    @every_option
    def test_never_a_floating_point_warning(self, name, options):
        extremes = np.array([0, -0.0, 1, -1, 0.5, INF, -INF, np.nan, 1e-45, 3e38, -3e38, 88.8, -104, 1e-8], np.float32)
        options = {k: v for k, v in options.items() if np.ndim(v) == 0}
        with np.errstate(all="raise"):
            for dtype in ("float32", "float64"):
                x, t = (a.ravel().astype(dtype) for a in np.meshgrid(extremes, extremes))
                rest = [np.abs(t[::-1])] if name == "gaussian_nll" else []
                for reduction in ("mean", "sum", "none"):
                    value_and_grad(name, [x, t, *rest], reduction=reduction, weight=t, **options)
            value_and_grad(name, [np.full(9, 6e4, "e"), np.full(9, 1, "e"), *([np.ones(9)] * len(rest))], reduction="sum")


class TestReductions:
    @every_loss
    def test_mean_sum_none(self, name, rng):
        """The mean is over all elements, whatever their weights; the gradient for "none" is that of the sum."""
        arrays = problem(name, rng)
        weight = rng.uniform(0, 2, (13, 5))
        values, grads = value_and_grad(name, arrays, weight=weight, reduction="none")
        total, total_grad = value_and_grad(name, arrays, weight=weight, reduction="sum")
        mean, mean_grad = value_and_grad(name, arrays, weight=weight)
        assert total == pytest.approx(values.sum(), rel=1e-13) and mean == pytest.approx(values.mean(), rel=1e-13)
        assert same_bits(grads, total_grad)
        np.testing.assert_allclose(mean_grad, grads / 65, rtol=1e-14)

    @every_loss
    @pytest.mark.parametrize("shape", [(0,), (3, 0)])
    def test_of_nothing(self, name, shape):
        arrays = [np.ones(shape, "f")] * (3 if name == "gaussian_nll" else 2)
        for reduction in ("mean", "sum"):
            value, grad = value_and_grad(name, arrays, reduction=reduction)
            assert value == 0 and value.dtype == grad.dtype == np.float32 and grad.shape == shape
        assert getattr(fa, name)(*arrays, reduction="none").shape == shape


class TestMemory:
    """Layouts, outputs and threads."""

    @every_loss
    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("weighted", [False, True])
    def test_in_place(self, name, dtype, weighted, rng):
        """The gradient over an array that is read, or the losses over it."""
        arrays = problem(name, rng, (70, 30), dtype)
        options = {"weight": rng.uniform(0.5, 2, 30)} if weighted else {}
        wanted = value_and_grad(name, arrays, reduction="none", **options)
        for k, array in enumerate(arrays):
            if array.shape != arrays[0].shape or array.dtype != arrays[0].dtype:
                continue
            own = array.copy()
            given = [*arrays[:k], own, *arrays[k + 1 :]]
            value, grad = value_and_grad(name, given, grad_out=own, reduction="none", **options)
            assert grad is own and same_bits(own, wanted[1]) and same_bits(value, wanted[0])
            own[...] = array
            value, grad = value_and_grad(name, given, out=own, reduction="none", **options)
            assert value is own and same_bits(own, wanted[0]) and same_bits(grad, wanted[1])
        own = arrays[0].copy()
        out = np.empty_like(own)
        assert getattr(fa, name)(*arrays, out=out, reduction="none", **options) is out and same_bits(out, wanted[0])

    @pytest.mark.parametrize("k", [1, 2, 3])
    def test_the_gradient_over_another_array(self, k, rng):
        """It may share memory with any of them."""
        arrays = [*problem("gaussian_nll", rng, (70, 30)), rng.uniform(0.5, 2, (70, 30))]
        wanted = value_and_grad("gaussian_nll", arrays[:3], weight=arrays[3])
        value, grad = value_and_grad("gaussian_nll", arrays[:3], weight=arrays[3], grad_out=arrays[k])
        assert grad is arrays[k] and same_bits(grad, wanted[1]) and same_bits(value, wanted[0])

    def test_overlap(self, rng):
        base, target = problem("log_cosh", rng, (1001,))
        wanted = fa.log_cosh.value_and_grad(base[:-1], target[:-1])
        value, grad = fa.log_cosh.value_and_grad(base[:-1], target[:-1], grad_out=base[1:])
        assert same_bits(grad, wanted[1]) and same_bits(value, wanted[0])

    @every_loss
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_every_layout_has_the_same_bits(self, name, dtype, rng):
        arrays = problem(name, rng, (24, 40), dtype)
        value, grad = value_and_grad(name, arrays)
        values = getattr(fa, name)(*arrays, reduction="none")

        def wide(a):
            memory = np.zeros((48, 80), dtype)
            memory[::2, ::2] = a
            return memory[::2, ::2]

        def misaligned(a):
            return np.frombuffer(b"\0" + a.tobytes(), np.uint8)[1:].view(dtype).reshape(a.shape)

        layouts = [np.asfortranarray, lambda a: a[::-1].copy()[::-1], lambda a: a[:, ::-1].copy()[:, ::-1], wide, misaligned]
        for layout in layouts:
            some = [layout(arrays[0]), *arrays[1:]]
            for views in (some, [layout(a) for a in arrays]):
                out, losses = (np.zeros((48, 80), dtype)[::2, ::2] for _ in range(2))
                for got in (value_and_grad(name, views), value_and_grad(name, views, grad_out=out)):
                    assert same_bits(got[0], value) and same_bits(got[1].copy(), grad)
                assert same_bits(getattr(fa, name)(*views, reduction="none", out=losses).copy(), values)
        repeated = [np.broadcast_to(a[:1], a.shape) for a in arrays]
        for got, wanted in zip(value_and_grad(name, repeated), value_and_grad(name, [a.copy() for a in repeated])):
            assert same_bits(got, wanted)

    @every_loss
    def test_bits_do_not_depend_on_threads_nor_on_length(self, name, rng, set_num_threads):
        arrays = problem(name, rng, (300_001,), "float32")
        set_num_threads(1)
        wanted = value_and_grad(name, arrays)
        elements = value_and_grad(name, arrays, reduction="none")
        for threads in (2, 3):
            set_num_threads(threads)
            for got, one in zip(value_and_grad(name, arrays), wanted):
                assert same_bits(got, one)
        some = value_and_grad(name, [a[3:1004] for a in arrays], reduction="none")
        for got, one in zip(some, elements):
            assert same_bits(got, one[3:1004])

    def test_results_past_the_cache(self, rng):
        """Big ones are written with other stores, from and to any address."""
        x = rng.normal(size=(5_000_011,)).astype("f")
        memory = np.zeros(x.size + 3, "f")
        out, losses = memory[1:-2], np.zeros(x.size + 5, "f")[3:-2]
        value, grad = fa.huber.value_and_grad(x, 0.5, reduction="none", grad_out=out, out=losses)
        assert grad is out and memory[0] == memory[-1] == memory[-2] == 0
        for start in (0, 1_234_567, 4_990_000):
            piece = slice(start, start + 10_011)
            wanted = fa.huber.value_and_grad(x[piece], 0.5, reduction="none")
            assert same_bits(value[piece], wanted[0]) and same_bits(grad[piece], wanted[1])

    def test_read_only_inputs(self, rng):
        arrays = problem("gaussian_nll", rng)
        for array in arrays:
            array.flags.writeable = False
        fa.gaussian_nll.value_and_grad(*arrays, weight=arrays[2])


class TestErrors:
    """... are raised before anything is written."""

    def raises(self, kind, name, arrays, match=None, **options):
        shape = np.shape(arrays[0])
        grad_out = np.full(shape, 7.0)
        with pytest.raises(kind, match=match):
            value_and_grad(name, arrays, grad_out=grad_out, **options)
        assert np.all(grad_out == 7)
        with pytest.raises(kind, match=match):
            getattr(fa, name)(*arrays, **options)

    @every_loss
    @pytest.mark.parametrize("shapes", [((3, 1), (3,)), ((3,), (3, 1)), ((3,), (1,)), ((2, 3), (3,)), ((), (1,)), ((3,), (4,))])
    def test_target_of_another_shape(self, name, shapes):
        """No silent (n, 1) against (n,)."""
        rest = [1.0] if name == "gaussian_nll" else []
        self.raises(ValueError, name, [np.ones(shapes[0]), np.ones(shapes[1]), *rest], match="shape")

    @every_loss
    def test_what_does_not_broadcast(self, name):
        rest = [1.0] if name == "gaussian_nll" else []
        arrays = [np.ones((2, 3)), np.ones((2, 3)), *rest]
        for shape in ((2,), (3, 1), (1, 2, 3), (2, 3, 1)):
            self.raises(ValueError, name, arrays, match="weight.*shape", weight=np.ones(shape))
        if name == "sigmoid_cross_entropy":
            self.raises(ValueError, name, arrays, match="pos_weight", pos_weight=np.ones(2))
        if name == "gaussian_nll":
            self.raises(ValueError, name, [*arrays[:2], np.ones(2)], match="var")

    @pytest.mark.parametrize(("name", "options"), [
        ("huber", {"delta": 0.0}), ("huber", {"delta": -1.0}), ("huber", {"delta": np.nan}), ("smooth_l1", {"beta": -1.0}),
        ("smooth_l1", {"beta": np.nan}), ("sigmoid_focal", {"gamma": -1.0}), ("sigmoid_focal", {"gamma": np.inf}), ("sigmoid_focal", {"alpha": 1.5}),
        ("sigmoid_focal", {"alpha": np.nan}), ("poisson_nll", {"eps": -1.0}), ("gaussian_nll", {"eps": -1.0}),
        ("mse", {"reduction": "avg"}), ("mse", {"reduction": None}),
    ])  # fmt: skip
    def test_bad_options(self, name, options):
        self.raises(ValueError, name, [np.ones(3)] * (3 if name == "gaussian_nll" else 2), **options)

    @every_loss
    @pytest.mark.parametrize("bad", [np.zeros(2, complex), np.array(["a", "b"]), np.array([None, 1]), np.zeros(2, "M8[s]"),
                                     np.zeros(2, [("number", float)])])  # fmt: skip
    def test_what_is_no_real_number(self, name, bad):
        good = [np.ones(2)] * (3 if name == "gaussian_nll" else 2)
        for k in range(len(good)):
            arrays = list(good)
            arrays[k] = bad
            with pytest.raises(TypeError):
                getattr(fa, name)(*arrays)
        with pytest.raises(TypeError):
            getattr(fa, name)(*good, weight=bad)

    @every_loss
    def test_bad_outputs(self, name):
        arrays = [np.ones((2, 3))] * (3 if name == "gaussian_nll" else 2)
        fixed = np.zeros((2, 3))
        fixed.flags.writeable = False
        for bad, kind in ((np.zeros((3, 2)), ValueError), (np.zeros(3), ValueError), (fixed, ValueError),
                          (np.zeros((2, 3), "f"), TypeError), ([[0.0] * 3] * 2, TypeError)):  # fmt: skip
            with pytest.raises(kind, match="grad_out"):
                value_and_grad(name, arrays, grad_out=bad)
            with pytest.raises(kind, match="out"):
                getattr(fa, name)(*arrays, out=bad, reduction="none")
        with pytest.raises(ValueError, match="out"):
            getattr(fa, name)(*arrays, out=np.empty((2, 3)))
        both = np.empty((2, 3))
        with pytest.raises(ValueError, match="share memory"):
            value_and_grad(name, arrays, out=both, grad_out=both, reduction="none")

    @every_loss
    def test_masked_elements(self, name):
        """They would count."""
        good, masked = [np.ones(2)] * (3 if name == "gaussian_nll" else 2), np.ma.array([1.0, 1.0], mask=[True, False])
        for k in range(len(good)):
            with pytest.raises(TypeError, match="masked elements would count"):
                getattr(fa, name)(*good[:k], masked, *good[k + 1 :])
        with pytest.raises(TypeError, match="masked elements would count"):
            getattr(fa, name)(*good, weight=masked)
        assert getattr(fa, name)(*good[1:], masked.data) == getattr(fa, name)(*good)

    def test_a_target_beyond_every_dtype_with_kernels(self):
        with np.errstate(all="raise"):
            assert fa.mae(np.ones(2), np.array(["1e400", "1"], np.longdouble)) == np.inf

    def test_dtypes_without_kernels(self):
        if np.dtype(np.longdouble) != np.float64:
            for loss in (fa.mse, fa.softmax_cross_entropy):
                with pytest.raises(TypeError, match="no kernels for"):
                    loss(np.ones((2, 2), np.longdouble), np.ones((2, 2)))

    def test_bad_arguments(self):
        for call, match in (
            (lambda: fa.mse([1.0]), "target"), (lambda: fa.mse([1.0], [1.0], [1.0]), "positional"),
            (lambda: fa.mse([1.0], [1.0], delta=1.0), "delta"), (lambda: fa.mse([1.0], [1.0], target=[1.0]), "multiple values"),
            (lambda: fa.mse([1.0], [1.0], grad_out=None), "grad_out"), (lambda: fa.gaussian_nll([1.0], [1.0]), "var"),
            (lambda: fa.sigmoid_cross_entropy([1.0], [1.0], [1.0]), "positional"),
        ):  # fmt: skip
            with pytest.raises(TypeError, match=match):
                call()


class TestGradient:
    @every_option
    @pytest.mark.parametrize("weighted", [False, True])
    def test_finite_differences(self, name, options, weighted, rng):
        arrays = problem(name, rng, (4, 5))
        x = arrays[0]
        margin = {"mae": x - arrays[1], "smooth_l1": x - arrays[1], "hinge": 1 - x * arrays[1]}.get(name, np.ones(1))
        assert np.abs(margin).min() > 1e-4, "a kink"
        options = {**options, "weight": rng.uniform(0.5, 2, (4, 5))} if weighted else options
        grad = value_and_grad(name, arrays, reduction="sum", **options)[1]
        step = 1e-6
        up, down = (getattr(fa, name)(x + s, *arrays[1:], reduction="none", **options) for s in (step, -step))
        np.testing.assert_allclose(grad, (up - down) / (2 * step), rtol=1e-6, atol=1e-8)

    @pytest.mark.parametrize("shape", [(4, 5), (4, 1), (5,), (1, 1), ()])
    @pytest.mark.parametrize("reduction", ["mean", "sum"])
    @pytest.mark.parametrize("weight", [None, 3.0])
    def test_gradient_of_the_variance(self, shape, reduction, weight, rng):
        x, t, _ = problem("gaussian_nll", rng, (4, 5))
        var = rng.uniform(0.5, 2, shape)
        options = {"reduction": reduction, "weight": weight}
        value, (grad, var_grad) = fa.gaussian_nll.value_and_grad(x, t, var, var_grad=True, **options)
        plain_value, plain_grad = fa.gaussian_nll.value_and_grad(x, t, var, **options)
        assert same_bits(value, plain_value) and same_bits(grad, plain_grad) and var_grad.shape == shape
        for i in np.ndindex(shape):
            step = np.zeros(shape)
            step[i] = 1e-6
            slope = (fa.gaussian_nll(x, t, var + step, **options) - fa.gaussian_nll(x, t, var - step, **options)) / 2e-6
            assert var_grad[i] == pytest.approx(slope, rel=1e-6, abs=1e-8)
        out = np.empty(shape)
        assert fa.gaussian_nll.value_and_grad(x, t, var, var_grad=out, **options)[1][1] is out
        np.testing.assert_allclose(out, var_grad, rtol=1e-15)

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_gradient_of_the_variance_in_place(self, dtype, rng):
        """Over the variance, beside that of the input over the input."""
        x, t, var = problem("gaussian_nll", rng, (40, 30), dtype)
        _, wanted = fa.gaussian_nll.value_and_grad(x, t, var, var_grad=True)
        twins = twin("gaussian_nll", [x, t, var])[1:]
        eps = EPS[x.dtype.name]
        for got, exact in zip(wanted, twins):
            assert got.dtype == x.dtype
            np.testing.assert_allclose(got.astype(float), exact, rtol=16 * eps, atol=8 * eps * np.abs(exact).max())
        _, grads = fa.gaussian_nll.value_and_grad(x, t, var, grad_out=x, var_grad=var)
        assert grads[0] is x and grads[1] is var and same_bits(x, wanted[0]) and same_bits(var, wanted[1])


def torch_focal(functional, x, t, alpha=None, gamma=2.0, reduction="mean"):
    loss = functional.binary_cross_entropy_with_logits(x, t, reduction="none")
    p = x.sigmoid()
    loss = loss * (1 - (p * t + (1 - p) * (1 - t))) ** gamma
    loss = loss if alpha is None else loss * (alpha * t + (1 - alpha) * (1 - t))
    return {"mean": loss.mean, "sum": loss.sum, "none": lambda: loss}[reduction]()


IN_PYTORCH = {
    "sigmoid_cross_entropy": "binary_cross_entropy_with_logits",
    "binary_cross_entropy": "binary_cross_entropy",
    "mse": "mse_loss",
    "mae": "l1_loss",
    "huber": "huber_loss",
    "smooth_l1": "smooth_l1_loss",
    "sigmoid_focal": torch_focal,
    "poisson_nll": "poisson_nll_loss",
    "gaussian_nll": "gaussian_nll_loss",
}
# PyTorch's mse and mae divide by the sum of the weights, its other losses by the number of elements, as all of ours do.
WEIGHTED_IN_PYTORCH = {
    **dict.fromkeys(("sigmoid_cross_entropy", "binary_cross_entropy", "huber"), ("mean", "sum", "none")),
    **dict.fromkeys(("mse", "mae"), ("sum", "none")),
}


class TestPyTorch:
    """In float64, to 1e-12, where definitions agree."""

    @pytest.fixture
    def torch(self):
        return pytest.importorskip("torch", reason="needs PyTorch")

    @pytest.mark.parametrize(("name", "options", "reduction", "weighted"), [
        pytest.param(name, options, reduction, weighted, id="-".join([name, *options, reduction] + ["weighted"] * weighted))
        for name in IN_PYTORCH for options in [{}, *OPTIONS.get(name, [])] for reduction in ("mean", "sum", "none")
        for weighted in (False, True) if not weighted or reduction in WEIGHTED_IN_PYTORCH.get(name, ())
    ])  # fmt: skip
    def test_equal(self, torch, name, options, reduction, weighted, rng):
        arrays = problem(name, rng)
        x, *rest = map(torch.from_numpy, arrays)
        x.requires_grad_()
        theirs = {key: torch.as_tensor(value) if key == "pos_weight" else value for key, value in options.items()}
        if weighted:
            options = {**options, "weight": rng.uniform(0.5, 2, (13, 5))}
            theirs["weight"] = torch.from_numpy(options["weight"])
        function = IN_PYTORCH[name]
        if isinstance(function, str):
            wanted = getattr(torch.nn.functional, function)(x, *rest, reduction=reduction, **theirs)
        else:
            wanted = function(torch.nn.functional, x, *rest, reduction=reduction, **theirs)
        wanted.sum().backward()
        value, grad = value_and_grad(name, arrays, reduction=reduction, **options)
        np.testing.assert_allclose(value, wanted.detach().numpy(), rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(grad, x.grad.numpy(), rtol=1e-12, atol=1e-15)

    def test_gradient_of_the_variance(self, torch, rng):
        arrays = problem("gaussian_nll", rng)
        arrays[2][0] = 1e-9  # under eps, which PyTorch's gradient too takes for it
        x, t, var = map(torch.from_numpy, arrays)
        var.requires_grad_()
        torch.nn.functional.gaussian_nll_loss(x, t, var).backward()
        np.testing.assert_allclose(fa.gaussian_nll.value_and_grad(*arrays, var_grad=True)[1][1], var.grad.numpy(), rtol=1e-12)


@every_loss
class TestObject:
    def test_is_a_function_like_any_other(self, name):
        loss, row = getattr(fa, name), ROWS[name]
        assert name in fa.list_losses() and pickle.loads(pickle.dumps(loss)) is loss
        assert loss.__name__ == loss.__qualname__ == name and loss.value_and_grad.__qualname__ == f"{name}.value_and_grad"
        for function, results in ((loss, ["out"]), (loss.value_and_grad, ["out", "grad_out"])):
            parameters = inspect.signature(function).parameters
            assert list(parameters)[:2] == list(row.inputs[:2])
            for key, default in [*row.parameters, ("weight", None), ("reduction", "mean"), *((key, None) for key in results)]:
                assert parameters[key].default == default and parameters[key].kind is inspect.Parameter.KEYWORD_ONLY
                assert key in function.__doc__
            assert row.formula in " ".join(function.__doc__.split()) and "{" not in function.__doc__.replace('{"mean"', "")
            assert all(len(line) < 130 for line in function.__doc__.splitlines())

    def test_arguments_by_name(self, name, rng):
        arrays = problem(name, rng)
        named = dict(zip(ROWS[name].inputs, arrays))
        assert getattr(fa, name)(**named) == getattr(fa, name)(*arrays)

    def test_row_is_complete(self, name):
        row = ROWS[name]
        assert row.summary.endswith(".") and row.formula and row.gradient and row.source
        assert all(0.5 <= ulp <= 8 for ulp in row.max_ulp + row.max_ulp_gradient)
        assert name in oracle.LOSSES and name in LIMITS and (name in OPTIONS) == bool(row.parameters or "pos_weight" in row.inputs)
