"""softmax_cross_entropy and its gradient: every kind of target and option, checked before anything is written."""

import inspect
import itertools
import pickle

import numpy as np
import pytest
from cases import DTYPES, HALF_TYPES, same_bits
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from ulp import errors

import fastact as fa
from fastact._kernels import reference

loss = fa.softmax_cross_entropy
twin = reference.VALUE_AND_GRAD["softmax_cross_entropy"]
EPS = {"float16": 2.0**-11, "bfloat16": 2.0**-8, "float32": 2.0**-24, "float64": 2.0**-53}
INTEGERS = "bBhHiIlLqQ"


def problem(rng, rows=13, classes=37, dtype="float64", spread=3.0):
    return (rng.normal(size=(rows, classes)) * spread).astype(dtype), rng.integers(0, classes, rows)


def check(logits, target, **options):
    """Value and gradient within a few roundings of the largest numbers in them; the value alone has the same bits."""
    value, grad = loss.value_and_grad(logits, target, **options)
    wanted_value, wanted_grad = twin(logits, target, **options)
    assert value.dtype == grad.dtype == logits.dtype
    assert np.shape(value) == np.shape(wanted_value) and grad.shape == logits.shape
    assert same_bits(loss(logits, target, **options), value)
    eps = EPS[logits.dtype.name]
    finite = wanted_grad[np.isfinite(wanted_grad)]
    np.testing.assert_allclose(
        np.asarray(value, float), wanted_value, rtol=8 * eps, atol=np.abs(logits.astype(float)).max() * eps
    )
    np.testing.assert_allclose(
        grad.astype(float), wanted_grad, rtol=40 * eps, atol=8 * eps * np.abs(finite).max(initial=1e-30)
    )


OPTIONS = {
    "plain": {},
    "sum": {"reduction": "sum"},
    "none": {"reduction": "none"},
    "weight": {"weight": True},
    "weight_none": {"weight": True, "reduction": "none"},
    "smoothing": {"label_smoothing": 0.1},
    "all_smoothing": {"label_smoothing": 1.0, "reduction": "sum"},
    "z_loss": {"z_loss": 1e-2},
    "ignore": {"ignore_index": 3},
    "everything": {"weight": True, "label_smoothing": 0.2, "z_loss": 1e-3, "ignore_index": 3},
    "everything_none": {"weight": True, "label_smoothing": 0.2, "z_loss": 1e-3, "ignore_index": 3, "reduction": "none"},
}  # fmt: skip
options = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())


def with_weight(options, rng, classes):
    return {**options, "weight": rng.uniform(0.5, 2, classes)} if options.get("weight") else options


class TestValues:
    @options
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_classes(self, options, dtype, rng):
        logits, target = problem(rng, dtype=dtype)
        target[::4] = 3
        check(logits, target, **with_weight(options, rng, 37))

    @options
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_probabilities(self, options, dtype, rng):
        logits, _ = problem(rng, dtype=dtype)
        target = fa.softmax(rng.normal(size=logits.shape))
        check(logits, target.astype(dtype), **with_weight(options, rng, 37))

    @pytest.mark.parametrize("dtype, wide", [("float32", np.float64), ("float64", np.longdouble)])
    @pytest.mark.parametrize("classes", [3, 64, 1000])
    def test_gradient_for_probabilities_to_the_last_digits(self, classes, dtype, wide, rng):
        """Also at the largest logit, whose probability is small where there are many classes."""
        logits, _ = problem(rng, 500, classes, dtype, spread=2.0)
        target = fa.softmax(rng.normal(size=logits.shape)).astype(dtype)
        terms = np.exp(logits.astype(wide) - logits.max(1, keepdims=True))
        p = terms / terms.sum(1, keepdims=True) * target.astype(wide).sum(1, keepdims=True)
        got = loss.value_and_grad(logits, target, reduction="none")[1]
        assert np.all(np.abs(got - (p - target)) <= 3 * np.finfo(dtype).eps * np.maximum(p, target))

    @pytest.mark.parametrize("classes", [1, 2, 3, 7, 8, 15, 16, 17, 33, 100, 1000, 4099])
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_rows_of_every_length(self, classes, dtype, rng):
        for rows in (1, 2, 9):
            check(*problem(rng, rows, classes, dtype))

    @options
    @pytest.mark.parametrize("axis", [0, 1, 2, -1, -2, -3])
    def test_every_axis(self, options, axis, rng):
        logits = rng.normal(size=(5, 6, 7))
        classes = logits.shape[axis]
        target = rng.integers(0, classes, np.delete(logits.shape, axis))
        check(logits, target, axis=axis, **with_weight(options, rng, classes))
        check(logits, fa.softmax(rng.normal(size=logits.shape), axis), axis=axis, **with_weight(options, rng, classes))

    @pytest.mark.parametrize("integer", INTEGERS)
    def test_classes_of_every_integer_dtype(self, integer, rng):
        logits, target = problem(rng)
        assert same_bits(loss.value_and_grad(logits, target.astype(integer))[1], loss.value_and_grad(logits, target)[1])
        assert loss(logits, target.astype(integer)) == loss(logits, target)
        assert loss(logits, target.astype(integer).astype(np.dtype(integer).newbyteorder(">"))) == loss(logits, target)

    def test_lists_and_single_rows(self):
        assert loss([[2.0, 1.0, 0.0]], [0]) == loss(np.array([2.0, 1.0, 0.0]), 0) == pytest.approx(0.4076059644443802)
        value, grad = loss.value_and_grad([2.0, 1.0, 0.0], 0)
        assert isinstance(value, np.float64) and grad.shape == (3,)
        assert isinstance(loss(np.zeros((2, 3), "f"), [0, 1]), np.float32)
        assert isinstance(loss([[0, 1, 2]], [0]), np.float64)

    def test_one_hot_probabilities_are_classes(self, rng):
        logits, target = problem(rng)
        by_class, by_probability = loss.value_and_grad(logits, target), loss.value_and_grad(logits, np.eye(37)[target])
        for a, b in zip(by_class, by_probability):
            np.testing.assert_allclose(a, b, rtol=1e-13, atol=1e-16)

    def test_source_text_mistakes(self):
        """One text's categorical cross-entropy was the binary one, in log2, summed, and NaN on a perfect prediction."""
        p = np.array([[0.7, 0.2, 0.1]])
        assert loss(np.log(p), [0]) == pytest.approx(-np.log(0.7), rel=1e-14)
        assert loss(np.array([[1000.0, 0, 0]]), [0]) == 0

    def test_double_softmax_cannot_reach_zero(self):
        """1.461 is the least loss of ten classes whose logits are probabilities."""
        assert loss(np.eye(10), np.arange(10)) == pytest.approx(np.log(np.e + 9) - 1)
        assert loss(np.eye(10), np.arange(10)) == pytest.approx(1.461, abs=5e-4)


class TestDigits:
    def test_dominant_class(self):
        """Neither the loss nor the gradient of a class that is nearly certain rounds to 0."""
        for dtype in ("float32", "float64"):
            value, grad = loss.value_and_grad(np.array([[20, 0]], dtype), [0])
            exact = np.array([[-2.061153618190204e-09, 2.061153618190204e-09]])
            np.testing.assert_allclose(value, 2.061153620314381e-09, rtol=2 * np.finfo(dtype).eps)
            np.testing.assert_allclose(grad, exact, rtol=2 * np.finfo(dtype).eps)
        value, grad = loss.value_and_grad(np.array([[0.0, 80.0, 0.0]]), [1], reduction="none")
        np.testing.assert_allclose(value, 2 * np.exp(-80.0), rtol=1e-15)
        np.testing.assert_allclose(grad, np.exp(-80.0) * np.array([[1, -2, 1]]), rtol=1e-15)

    @pytest.mark.parametrize("dtype", HALF_TYPES)
    def test_gradient_of_the_true_class_is_rounded_once(self, dtype):
        """p - 1 from a rounded p would lose every digit."""
        logits = np.array([[7.5, 0, 0, 0]]).astype(dtype)
        grad = loss.value_and_grad(logits, [0])[1]
        assert errors(grad, twin(logits, [0])[1], dtype).max() <= 0.51

    def test_gradient_does_not_vanish_when_saturated_and_wrong(self):
        value, grad = loss.value_and_grad(np.array([[-500.0, 500.0]]), [0])
        assert value == 1000 and list(grad[0]) == [-1, 1]

    def test_long_half_rows(self):
        """70,000 classes: a sum in float16 would overflow."""
        logits = np.zeros((1, 70_000), np.float16)
        value, grad = loss.value_and_grad(logits, [5])
        assert value == np.float16(np.log(70_000)) and grad[0, 0] == np.float16(1 / 70_000) and grad[0, 5] == -1


class TestExtremes:
    def test_zero_times_log_zero_is_zero(self):
        logits = np.array([[0.0, -np.inf, 1.0]])
        value, grad = loss.value_and_grad(logits, np.array([[0.5, 0.0, 0.5]]))
        assert value == pytest.approx(loss(logits[:, [0, 2]], np.array([[0.5, 0.5]])))
        assert grad[0, 1] == 0 and np.all(np.isfinite(grad))
        value, grad = loss.value_and_grad(logits, [0])
        assert value == pytest.approx(np.log1p(np.e)) and grad[0, 1] == 0
        assert loss(logits, [1]) == np.inf

    def test_a_row_of_weight_zero_is_nothing(self):
        value, grad = loss.value_and_grad(np.array([[1.0, 2.0]]), [0], weight=[0.0, 1.0], reduction="sum")
        assert value == 0 and not grad.any()

    @pytest.mark.parametrize("bad", [[np.nan, 0], [np.inf, 0], [-np.inf, -np.inf]])
    def test_bad_rows_are_nan_and_leave_the_others_alone(self, bad, rng):
        logits = rng.normal(size=(3, 2))
        wanted = loss.value_and_grad(logits, [0, 1, 0], reduction="none")
        logits[1] = bad
        value, grad = loss.value_and_grad(logits, [0, 1, 0], reduction="none")
        assert np.isnan(value[1]) and np.all(np.isnan(grad[1]))
        assert same_bits(value[[0, 2]], wanted[0][[0, 2]]) and same_bits(grad[[0, 2]], wanted[1][[0, 2]])

    def test_never_a_floating_point_warning(self):
        rows = [
            [np.nan, 0, 1],
            [np.inf, 0, 1],
            [-np.inf] * 3,
            [-np.inf, 0, 1],
            [3e38, -3e38, 0],
            [-1e-40, 1e-45, 0],
            [-110, 0, 89],
        ]
        inputs = [np.array(rows, dtype) for dtype in ("float32", "float64")] + [
            np.array(rows[:4] + [[6e4, -6e4, 0]], np.float16)
        ]
        with np.errstate(all="raise"):
            for logits in inputs:
                for reduction, target in itertools.product(("mean", "sum", "none"), (0, 1)):
                    loss.value_and_grad(
                        logits, np.full(len(logits), target), reduction=reduction, z_loss=0.1, label_smoothing=0.1
                    )
                    loss.value_and_grad(
                        logits, np.eye(3, dtype=logits.dtype)[np.full(len(logits), target)], reduction=reduction
                    )

    @pytest.mark.parametrize("probability", [1e-60, 1e300])
    def test_nor_from_a_target_or_weights_of_a_wider_type(self, probability):
        logits = np.array([[1, 2, 3]], np.float32)
        with np.errstate(all="raise"):
            loss(logits, np.array([[1, probability, 0]]))
            loss(logits, np.array([[1.0, 0, 0]]), weight=[1, probability, 1])
            fa.kl_div(logits, np.array([[1, probability, 0]]))
            fa.categorical_cross_entropy(np.abs(logits) / 3, np.array([[1, probability, 0]]))


class TestReductions:
    def test_mean_sum_none(self, rng):
        logits, target = problem(rng)
        rows, grad = loss.value_and_grad(logits, target, reduction="none")
        assert rows.shape == (13,)
        total, total_grad = loss.value_and_grad(logits, target, reduction="sum")
        mean, mean_grad = loss.value_and_grad(logits, target)
        assert total == pytest.approx(rows.sum()) and mean == pytest.approx(rows.mean())
        np.testing.assert_array_equal(grad, total_grad)
        np.testing.assert_allclose(mean_grad, total_grad / 13, rtol=1e-15)

    def test_none_has_the_shape_of_the_rows(self, rng):
        logits = rng.normal(size=(2, 3, 4, 5))
        assert loss(logits, rng.integers(0, 4, (2, 3, 5)), axis=2, reduction="none").shape == (2, 3, 5)
        assert np.shape(loss(logits[0, 0, 0], 1, reduction="none")) == ()

    def test_mean_of_weights(self, rng):
        """Divided by the sum of the weights of the targets, as PyTorch does; with probabilities by the rows."""
        logits, target = problem(rng)
        weight = rng.uniform(0, 2, 37)
        rows = loss(logits, target, weight=weight, reduction="none")
        assert loss(logits, target, weight=weight) == pytest.approx(rows.sum() / weight[target].sum())
        soft = np.eye(37)[target]
        assert loss(logits, soft, weight=weight) == pytest.approx(rows.sum() / 13)

    def test_ignored_rows(self, rng):
        logits, target = problem(rng)
        counts = np.arange(13) % 3 > 0
        for ignored in (-100, 5, -1, 1000, -(2**60)):
            masked = np.where(counts, np.where(target == ignored, 0, target), ignored)
            value, grad = loss.value_and_grad(logits, masked, ignore_index=ignored)
            wanted_value, wanted_grad = loss.value_and_grad(logits[counts], masked[counts])
            assert value == pytest.approx(wanted_value, rel=1e-14)
            assert not grad[~counts].any()
            np.testing.assert_allclose(grad[counts], wanted_grad, rtol=1e-14)
            assert not loss(logits, masked, ignore_index=ignored, reduction="none")[~counts].any()

    def test_ignored_rows_may_hold_anything(self):
        logits = np.array([[np.nan, np.inf], [0.0, 1.0]])
        value, grad = loss.value_and_grad(logits, [-100, 1])
        assert value == pytest.approx(np.log1p(np.exp(-1)))
        assert list(grad[0]) == [0, 0]

    def test_ignore_index_that_the_dtype_cannot_hold(self, rng):
        """-100 is no uint8: nothing is ignored, and 156 is out of range as ever."""
        logits, target = problem(rng)
        assert loss(logits, target.astype("u1")) == loss(logits, target)
        with pytest.raises(IndexError):
            loss(logits, np.full(13, 156, "u1"))

    @pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
    @pytest.mark.parametrize("weight", [None, np.ones(5), np.zeros(5)])
    def test_nothing_counts(self, reduction, weight):
        """PyTorch's mean is NaN here."""
        for target in (np.full(4, -100), np.empty(0, int)):
            value, grad = loss.value_and_grad(np.ones((len(target), 5)), target, reduction=reduction, weight=weight)
            assert np.all(value == 0) and not grad.any()

    def test_weights_that_sum_to_zero(self):
        value, grad = loss.value_and_grad(np.ones((3, 2)), [0, 0, 0], weight=[0.0, 1.0])
        assert value == 0 and not grad.any()


class TestMemory:
    """Layouts, outputs and threads."""

    @options
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_in_place(self, options, dtype, rng):
        logits, target = problem(rng, dtype=dtype)
        keywords = with_weight(options, rng, 37)
        wanted = loss.value_and_grad(logits, target, **keywords)
        own = logits.copy()
        value, grad = loss.value_and_grad(own, target, grad_out=own, **keywords)
        assert grad is own and same_bits(own, wanted[1]) and same_bits(value, wanted[0])

    @pytest.mark.parametrize("axis", [0, 1, 2])
    def test_in_place_along_any_axis(self, axis, rng):
        logits = rng.normal(size=(6, 7, 8)).astype("f")
        target = rng.integers(0, 6, np.delete(logits.shape, axis))
        wanted = loss.value_and_grad(logits, target, axis=axis)
        value, grad = loss.value_and_grad(logits, target, axis=axis, grad_out=logits)
        assert grad is logits and same_bits(grad, wanted[1]) and same_bits(value, wanted[0])

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_every_layout_has_the_same_bits(self, dtype, rng):
        logits, target = problem(rng, 24, 40, dtype)
        value, grad = loss.value_and_grad(logits, target)
        wide = np.zeros((48, 80), dtype)
        wide[::2, ::2] = logits
        layouts = [
            np.asfortranarray(logits),
            np.ascontiguousarray(logits[::-1])[::-1],
            np.ascontiguousarray(logits[:, ::-1])[:, ::-1],
            wide[::2, ::2],
            np.frombuffer(b"\0" + logits.tobytes(), np.uint8)[1:].view(dtype).reshape(24, 40),  # misaligned
        ]
        for view in layouts:
            got_value, got_grad = loss.value_and_grad(view, target)
            assert same_bits(got_value, value) and same_bits(got_grad, grad)
            out = np.zeros_like(wide)[::2, ::2]
            assert same_bits(loss.value_and_grad(view, target, grad_out=out)[1].copy(), grad)
        assert same_bits(loss.value_and_grad(logits, np.repeat(target, 2)[::2])[1], grad)
        assert same_bits(loss.value_and_grad(logits.T, target, axis=0)[1], grad.T)
        repeated = np.broadcast_to(logits[:1], logits.shape)
        assert same_bits(loss.value_and_grad(repeated, target)[1], loss.value_and_grad(repeated.copy(), target)[1])

    def test_read_only_inputs(self, rng):
        logits, target = problem(rng)
        for array in (logits, target):
            array.flags.writeable = False
        loss.value_and_grad(logits, target)

    @pytest.mark.parametrize("shape", [(700, 1001), (3, 300_001), (200_001, 4)])
    @pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1, "ignore_index": 3}])
    def test_bits_do_not_depend_on_threads(self, shape, options, rng, set_num_threads):
        logits, target = problem(rng, *shape, dtype="float32")
        set_num_threads(1)
        wanted = loss.value_and_grad(logits, target, **options)
        for threads in (2, 3):
            set_num_threads(threads)
            value, grad = loss.value_and_grad(logits, target, **options)
            assert same_bits(value, wanted[0]) and same_bits(grad, wanted[1])
        rows = loss.value_and_grad(logits, target, reduction="none", **options)
        some = loss.value_and_grad(logits[:3], target[:3], reduction="none", **options)
        assert same_bits(rows[0][:3], some[0]) and same_bits(rows[1][:3], some[1])

    def test_overlap(self, rng):
        """The gradient into memory that the logits or the target share."""
        base, target = problem(rng, 14, 37)
        wanted = loss.value_and_grad(base[:-1], target[:-1])[1]
        own = base.copy()
        loss.value_and_grad(own[:-1], target[:-1], grad_out=own[1:])
        assert same_bits(own[1:], wanted)
        soft = fa.softmax(base)
        wanted = loss.value_and_grad(base, soft)[1]
        loss.value_and_grad(base, soft, grad_out=soft)
        assert same_bits(soft, wanted)


class TestErrors:
    """... are raised before anything is written."""

    def raises(self, kind, logits, target, match=None, **keywords):
        grad_out = np.full(np.shape(logits), 7.0)
        with pytest.raises(kind, match=match):
            loss.value_and_grad(logits, target, grad_out=grad_out, **keywords)
        assert np.all(grad_out == 7)
        with pytest.raises(kind, match=match):
            loss(logits, target, **keywords)

    @pytest.mark.parametrize("integer", INTEGERS)
    def test_class_out_of_range(self, integer):
        """The message names the class and the row."""
        target = np.zeros(200, integer)
        target[150] = 101
        self.raises(IndexError, np.zeros((200, 100)), target, match=r"101.*150|150.*101")
        target[150] = 100
        self.raises(IndexError, np.zeros((200, 100)), target, match=r"100.*150|150.*100")
        if np.dtype(integer).kind == "i":
            target[150] = -1
            self.raises(IndexError, np.zeros((200, 100)), target, match=r"-1.*150|150.*-1")

    def test_class_far_out_of_range(self):
        for value, dtype in ((2**63, "u8"), (2**64 - 1, "u8"), (2**32, "i8"), (-(2**63), "i8"), (2**64 - 100, "u8")):
            self.raises(IndexError, np.zeros((2, 3)), np.array([0, value], dtype))

    def test_class_out_of_range_in_several_dimensions(self):
        target = np.zeros((4, 6), int)
        target[2, 5] = 9
        self.raises(IndexError, np.zeros((4, 6, 3)), target)
        self.raises(IndexError, np.zeros((4, 3, 6)), target, axis=1)

    def test_an_in_place_error_keeps_the_logits(self):
        logits = np.ones((100, 3), "f")
        with pytest.raises(IndexError):
            loss.value_and_grad(logits, np.r_[np.zeros(99, int), 3], grad_out=logits)
        assert np.all(logits == 1)

    @pytest.mark.parametrize("keywords", [
        {"reduction": "avg"}, {"reduction": None}, {"label_smoothing": -0.1}, {"label_smoothing": 1.1},
        {"label_smoothing": np.nan}, {"weight": [1.0]}, {"weight": np.ones((3, 1))}, {"z_loss": -1.0},
        {"z_loss": np.nan},
    ])  # fmt: skip
    def test_bad_options(self, keywords):
        self.raises(ValueError, np.zeros((2, 3)), [0, 1], **keywords)

    @pytest.mark.parametrize("shape", [(3,), (1,), (), (2, 1), (3, 2), (2, 3, 1)])
    def test_bad_target_shapes(self, shape):
        self.raises(ValueError, np.zeros((2, 3)), np.zeros(shape, int))

    def test_bad_axis(self):
        for axis in (2, -3):
            self.raises(np.exceptions.AxisError, np.zeros((2, 3)), [0, 1], axis=axis)
        self.raises(np.exceptions.AxisError, np.array(1.0), 0)
        self.raises(TypeError, np.zeros((2, 3)), [0, 1], axis=1.0)

    @pytest.mark.parametrize(
        "target", [np.zeros(2), np.array([0j, 1]), np.array(["a", "b"]), np.array([None, 1]), np.array([True, False])]
    )
    def test_classes_are_integers(self, target):
        self.raises(TypeError, np.zeros((2, 3)), target)

    @pytest.mark.parametrize("logits", [np.zeros((2, 3), complex), np.full((2, 3), "a"), np.full((2, 3), None)])
    def test_logits_are_numbers(self, logits):
        with pytest.raises(TypeError):
            loss(logits, [0, 1])

    @pytest.mark.parametrize("weight", [np.ones(3, complex), np.array(["1", "2", "3"]), np.ones(3, object)])
    def test_weights_are_numbers(self, weight):
        self.raises(TypeError, np.zeros((2, 3)), [0, 1], weight=weight)

    def test_bad_grad_out(self):
        logits = np.zeros((2, 3))
        fixed = np.zeros((2, 3))
        fixed.flags.writeable = False
        for bad, kind in ((np.zeros((3, 2)), ValueError), (np.zeros(3), ValueError), (fixed, ValueError),
                          (np.zeros((2, 3), "f"), TypeError), (np.zeros((2, 3), int), TypeError),
                          ([[0.0] * 3] * 2, TypeError)):  # fmt: skip
            with pytest.raises(kind):
                loss.value_and_grad(logits, [0, 1], grad_out=bad)
        with pytest.raises(ValueError):
            loss(np.empty((2, 0)), [0, 0])


class TestGradient:
    @options
    @pytest.mark.parametrize("soft", [False, True])
    def test_finite_differences(self, options, soft, rng):
        logits, target = problem(rng, 4, 5)
        options = with_weight(options, rng, 5)
        target = fa.softmax(rng.normal(size=(4, 5))) if soft else target
        grad = loss.value_and_grad(logits, target, **options)[1]
        for i in np.ndindex(logits.shape):
            step = np.zeros_like(logits)
            step[i] = 1e-6
            slope = np.sum(loss(logits + step, target, **options) - loss(logits - step, target, **options)) / 2e-6
            assert abs(grad[i] - slope) < 1e-8

    @given(
        logits=arrays(np.float64, (3, 4), elements=st.floats(-50, 50)),
        target=arrays(np.int64, 3, elements=st.integers(0, 3)),
    )
    def test_properties(self, logits, target):
        value, grad = loss.value_and_grad(logits, target, reduction="none")
        assert np.all(value >= 0)
        np.testing.assert_allclose(grad.sum(axis=-1), 0, atol=1e-15)
        np.testing.assert_allclose(value, -fa.log_softmax(logits)[np.arange(3), target], rtol=1e-13, atol=1e-300)
        assert np.all(grad[np.arange(3), target] <= 0)


class TestPyTorch:
    """In float64, to 1e-12."""

    @pytest.fixture
    def torch(self):
        return pytest.importorskip("torch", reason="needs PyTorch")

    @pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
    @pytest.mark.parametrize("smoothing", [0.0, 0.1])
    @pytest.mark.parametrize("weighted", [False, True])
    @pytest.mark.parametrize("soft", [False, True])
    @pytest.mark.parametrize("shape", [(17, 23), (5, 7, 3, 2)])
    def test_equal(self, torch, reduction, smoothing, weighted, soft, shape, rng):
        logits = rng.normal(size=shape) * 4
        classes = shape[1]
        target = rng.integers(0, classes, (shape[0], *shape[2:]))
        target[0] = 4
        weight = rng.uniform(0.1, 2, classes) if weighted else None
        if soft:
            target = fa.softmax(rng.normal(size=shape), axis=1)
        given = dict(reduction=reduction, label_smoothing=smoothing, **({} if soft else {"ignore_index": 4}))
        x = torch.from_numpy(logits).requires_grad_()
        theirs = torch.nn.functional.cross_entropy(
            x, torch.from_numpy(target), weight=None if weight is None else torch.from_numpy(weight), **given
        )
        theirs.sum().backward()
        value, grad = loss.value_and_grad(logits, target, axis=1, weight=weight, **given)
        np.testing.assert_allclose(value, theirs.detach().numpy(), rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(grad, x.grad.numpy(), rtol=1e-12, atol=1e-15)


def test_object():
    assert "softmax_cross_entropy" in fa.list_losses()
    assert pickle.loads(pickle.dumps(loss)) is loss
    for function in (loss, loss.value_and_grad):
        assert function.__doc__
        parameters = inspect.signature(function).parameters
        assert list(parameters)[:2] == ["logits", "target"]
        defaults = dict(axis=-1, weight=None, ignore_index=-100, label_smoothing=0.0, z_loss=0.0, reduction="mean")
        for name, default in defaults.items():
            assert parameters[name].default == default
            assert parameters[name].kind is inspect.Parameter.KEYWORD_ONLY
    assert inspect.signature(loss.value_and_grad).parameters["grad_out"].default is None
