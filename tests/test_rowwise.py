"""softmax, log_softmax, softmin, logsumexp: any axis and stride, masks, temperature, extreme rows, gradients."""

import inspect
import itertools
import pickle

import mpmath
import numpy as np
import pytest
from cases import DTYPES, HALF_TYPES, same_bits
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from ulp import FORMATS, errors

import fastact as fa
from fastact import backends
from fastact._kernels import reference
from fastact.table import HALF_ULP

SAME_SHAPE = ["softmax", "log_softmax", "softmin"]
ALL = [*SAME_SHAPE, "logsumexp"]
PROMISED_ULP = {"softmax": (2, 3), "log_softmax": (2, 2.5), "softmin": (2, 3), "logsumexp": (1.5, 2.5)}  # float32, float64
EPS = {"float16": 2.0**-11, "bfloat16": 2.0**-8, "float32": 2.0**-24, "float64": 2.0**-53}
ROW_LENGTHS = [1, 2, 3, 7, 8, 15, 16, 17, 31, 33, 64, 100, 127, 1000, 4099]


def logits(rng, *shape, dtype="float32", spread=5.0):
    return (rng.normal(size=shape) * spread).astype(dtype)


def unit(larger, dtype):
    """The spacing at the largest of logsumexp, max and log(sum(exp(x - max))): it is the sum of the others."""
    return np.ldexp(1.0, np.frexp(np.asarray(larger, float))[1] - FORMATS[np.dtype(dtype).name][0])


def check(name, x, axis=-1, **options):
    """Within the promise, whether a probability is tiny or not."""
    got = getattr(fa, name)(x, axis, **options)
    wanted = reference.ROWWISE[name](x, axis, **options)
    assert got.dtype == x.dtype and got.shape == wanted.shape
    promised = PROMISED_ULP[name][0] if x.dtype == np.float32 else HALF_ULP
    if x.dtype == np.float64:
        np.testing.assert_allclose(got, wanted, rtol=1e-13, atol=1e-14)  # and see test_float64_against_mpmath
    elif name == "logsumexp":
        largest = np.max(x.astype(np.float64), axis=axis)
        larger = np.max(np.abs([largest, wanted - largest, wanted]), axis=0)
        assert np.all(np.abs(got.astype(np.float64) - wanted) <= promised * unit(larger, x.dtype))
    else:
        assert np.max(errors(got, wanted, x.dtype)) <= promised


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("spread, n", [(0.1, 3), (2.0, 17), (5.0, 64), (60.0, 40), (300.0, 20)])
def test_float64_against_mpmath(name, n, spread, rng):
    check_against_mpmath(name, logits(rng, 10, n, dtype="float64", spread=spread))


def test_the_worst_rows_known():
    """Of millions at random: where x - max is rounded and the terms beside the largest are a small share, or cancel with it."""
    for row in ("0x1.08826a9d6937dp+2 0x1.08768965d0e9cp+2 0x1.b85a4e286e713p+2 -0x1.0b25c70119b34p+1",
                "0x1.f0383cb19f40cp+0 -0x1.d112991dc3fdap+0 -0x1.6e36ab684c476p+1"):  # fmt: skip
        check_against_mpmath("log_softmax", np.array([[float.fromhex(number) for number in row.split()]]))
    for row in ("-0x1.2ff9c55737f3bp+0 -0x1.5ead88338a141p+0 -0x1.7e49f6e9bcc31p-9",
                "-0x1.1790daf70a9a0p+2 -0x1.731df76bc7401p+0 -0x1.154fa240d4237p-4"):  # fmt: skip
        check_against_mpmath("logsumexp", np.array([[float.fromhex(number) for number in row.split()]]))
    check("logsumexp", np.array([[-2.0798257, -0.04508225], [-2.050998, -0.018094523]], np.float32))


def check_against_mpmath(name, x):
    got = getattr(fa, name)(x)
    for row, y in zip(-x if name == "softmin" else x, got):
        with mpmath.workprec(3000):  # a dominant element leaves e^-600 of the others
            row = [mpmath.mpf(v) for v in row]
            total = mpmath.log(mpmath.fsum(map(mpmath.exp, row)))
            if name == "logsumexp":
                larger = max(abs(max(row)), total - max(row), abs(total))
                assert abs(mpmath.mpf(y) - total) <= PROMISED_ULP[name][1] * unit(larger, "float64")
                continue
            wanted = [v - total if name == "log_softmax" else mpmath.exp(v - total) for v in row]
        assert np.max(errors(y, np.array(wanted, dtype=object), "float64")) <= PROMISED_ULP[name][1]


@pytest.mark.parametrize("name", ALL)
class TestValues:
    @pytest.mark.parametrize("n", ROW_LENGTHS)
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_rows_of_every_length(self, name, n, dtype, rng):
        check(name, logits(rng, 5, n, dtype=dtype))

    @pytest.mark.parametrize("spread", [1e-3, 0.1, 1.0, 30.0])
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_narrow_and_wide_rows(self, name, dtype, spread, rng):
        check(name, logits(rng, 40, 129, dtype=dtype, spread=spread))

    @pytest.mark.parametrize("axis", [0, 1, 2, 3, -1, -2, -3, -4])
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_every_axis(self, name, axis, dtype, rng):
        check(name, logits(rng, 3, 4, 5, 18, dtype=dtype), axis)

    @pytest.mark.parametrize("axis", [0, 1, 2])
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_every_axis_gives_the_bits_of_the_last(self, name, axis, dtype, rng):
        """... of a contiguous copy with that axis last."""
        x = logits(rng, 9, 17, 33, dtype=dtype)
        moved = np.ascontiguousarray(np.moveaxis(x, axis, -1))
        got, wanted = getattr(fa, name)(x, axis), getattr(fa, name)(moved, -1)
        assert same_bits(got, wanted if name == "logsumexp" else np.moveaxis(wanted, -1, axis))

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_every_layout(self, name, dtype, rng):
        x = logits(rng, 12, 14, 40, dtype=dtype)
        function = getattr(fa, name)
        for view in (np.s_[::2], np.s_[:, ::-1], np.s_[..., ::-1], np.s_[..., ::3], np.s_[:, 1:, 3:],
                     np.s_[::-2, ::3, ::-7], np.s_[3], np.s_[3, 4], np.s_[..., :1]):  # fmt: skip
            assert same_bits(function(x[view]), function(x[view].copy()))
        assert same_bits(function(x.T), function(x.T.copy()))
        assert same_bits(function(np.asfortranarray(x)), function(x))
        for broadcast in (np.broadcast_to(x[0, :1], (5, 40)), np.broadcast_to(x[0, :, :1], (14, 9))):
            assert same_bits(function(broadcast), function(broadcast.copy()))
        buffer = np.zeros(x.nbytes + 1, np.uint8)[1:].view(x.dtype).reshape(x.shape)
        buffer[...] = x
        assert same_bits(function(buffer), function(x))

    @pytest.mark.parametrize("axis", [0, 1])
    def test_bits_do_not_depend_on_threads_or_neighbours(self, name, axis, rng, set_num_threads):
        x = logits(rng, 700, 1301)
        function = getattr(fa, name)
        set_num_threads(1)
        wanted = function(x, axis)
        for threads in (2, 3):
            set_num_threads(threads)
            assert same_bits(function(x, axis), wanted)
        one = function(x[5] if axis else x[:, 5])
        assert same_bits(one, wanted[5] if axis or name == "logsumexp" else wanted[:, 5])

    @pytest.mark.parametrize("n", [5, 16, 17, 47, 64, 260, 300, 4100])
    def test_wherever_the_largest_element_is(self, name, n, rng):
        """Rows far from 0 among near ones, as rows, side by side and in place: the values, and the bits of a row alone."""
        far = [0, 25, 26, 27, -25, -26, -27, 0, 45, -45, 200, 210, -210, 0, 1e30, -1e30, 0]
        x = logits(rng, len(far), n, spread=0.5) + np.float32(far)[:, None]
        check(name, x)
        x = np.concatenate([x, np.full((1, n), -np.inf, "f"), x[:3], np.full((1, n), np.nan, "f"), x[3:]])
        x[1, n // 2] = -np.inf
        function = getattr(fa, name)
        wanted = np.stack([function(row) for row in x])
        assert same_bits(function(x), wanted)
        assert same_bits(function(x.T.copy(), axis=0), wanted if name == "logsumexp" else wanted.T)
        assert same_bits(function(x, where=np.ones(x.shape, bool)), wanted)
        if name != "logsumexp":
            assert same_bits(function(x, out=x), wanted)

    def test_long_rows_share_threads(self, name, rng, set_num_threads):
        x = logits(rng, 2, 1_000_003)
        set_num_threads(1)
        wanted = getattr(fa, name)(x)
        set_num_threads(2)
        assert same_bits(getattr(fa, name)(x), wanted)
        np.testing.assert_allclose(wanted, reference.ROWWISE[name](x), rtol=3e-6)

    def test_no_floating_point_warning(self, name):
        rows = np.array([[1e38, -1e38, 0], [np.nan, 0, 1], [np.inf, 0, 1], [-np.inf] * 3, [-np.inf, 0, 1],
                         [-1e-40, 1e-40, 0], [-110, 0, 89]])  # fmt: skip
        with np.errstate(all="raise"):
            for dtype in ("float16", "float32", "float64"):
                with np.errstate(all="ignore"):
                    x = rows.astype(dtype)
                for axis in (0, 1):
                    getattr(fa, name)(x, axis)
            getattr(fa, name)(np.array([[1e308, -1e308]]))


class TestSoftmax:
    def test_dominant_class_keeps_its_digits(self):
        """log1p over the other terms, not log over all of them."""
        y = fa.log_softmax(np.array([20, 0], np.float32))
        assert errors(y, np.array([-2.061153620314381e-09, -20.000000002061153]), "float32").max() <= 1
        y = fa.log_softmax(np.array([40.0, 0.0]))
        np.testing.assert_allclose(y, [-4.248354255291589e-18, -40], rtol=1e-15)
        y = fa.log_softmax(np.array([[20, 0, 0, 0] * 100, [0] * 399 + [40]], np.float64)[:, :2])
        np.testing.assert_allclose(y[0, 0], -2.061153620314381e-09, rtol=1e-14)

    @pytest.mark.parametrize("position", [0, 1, 7, 16, 63, 99])
    def test_the_dominant_class_may_be_anywhere(self, position):
        x = np.zeros(100, np.float32)
        x[position] = 25
        exact = -np.log1p(99 * np.exp(-25.0))
        assert errors(fa.log_softmax(x)[[position]], np.array([exact]), "float32").max() <= 2
        assert errors(fa.logsumexp(x), np.array(25 - exact), "float32").max() <= 1

    @pytest.mark.parametrize("row, wanted", [
        ([np.nan, 0], [np.nan, np.nan]), ([np.inf, 0], [np.nan, np.nan]), ([-np.inf, -np.inf], [np.nan, np.nan]),
        ([-np.inf, 0], [0, 1]), ([3e38, -3e38], [1, 0]), ([1000, 1000], [0.5, 0.5]), ([-1000, -1000], [0.5, 0.5]),
    ])  # fmt: skip
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    @pytest.mark.parametrize("repeat", [1, 20])
    def test_extreme_rows(self, row, wanted, dtype, repeat):
        rows = np.tile(np.array(row, dtype), (repeat, 1))
        np.testing.assert_array_equal(fa.softmax(rows), np.tile(wanted, (repeat, 1)))
        np.testing.assert_array_equal(fa.softmax(rows.T, axis=0).T, np.tile(wanted, (repeat, 1)))

    def test_log_softmax_of_extreme_rows(self):
        assert list(fa.log_softmax(np.array([-np.inf, 0.0]))) == [-np.inf, 0]
        assert np.all(np.isnan(fa.log_softmax(np.array([[np.inf, 0], [-np.inf, -np.inf], [np.nan, 1]]))))
        assert list(fa.log_softmax(np.array([1e308, -1e308]))) == [0, -np.inf]

    def test_logsumexp_of_extreme_rows(self):
        rows = np.array([[np.inf, 0], [-np.inf, -np.inf], [np.nan, 0], [-np.inf, 3], [1e308, 1e308], [np.inf, -np.inf]])
        np.testing.assert_array_equal(fa.logsumexp(rows), [np.inf, -np.inf, np.nan, 3, 1e308, np.inf])
        assert np.isnan(fa.logsumexp(np.array([np.inf, np.nan])))

    def test_one_bad_row_leaves_the_others_alone(self, rng):
        x = logits(rng, 30, 50)
        wanted = fa.softmax(x)
        x[3], x[17] = np.nan, np.inf
        for y in (fa.softmax(x), fa.softmax(x.T, axis=0).T):
            assert np.all(np.isnan(y[[3, 17]]))
            assert same_bits(np.delete(y, [3, 17], 0), np.delete(wanted, [3, 17], 0))

    @pytest.mark.parametrize("dtype", HALF_TYPES)
    def test_long_half_rows_are_summed_in_float32(self, dtype):
        """70,000 equal logits: a sum in float16 would overflow."""
        for x in (np.zeros(70_000), np.full(70_000, 5.0)):
            y = fa.softmax(x.astype(dtype))
            assert np.all(y == np.array(1 / 70_000).astype(dtype))
            assert fa.logsumexp(x.astype(dtype)) == np.array(x[0] + np.log(70_000)).astype(dtype)

    @pytest.mark.parametrize("dtype", HALF_TYPES)
    def test_half_types_are_rounded_once(self, dtype, rng):
        x = logits(rng, 64, 50, dtype=dtype, spread=2)
        for name in ALL:
            check(name, x)

    def test_no_maximum_subtraction_no_axis(self):
        """A tutorial's softmax: NaN at 1000, and a matrix normalised as a whole."""
        y = fa.softmax(np.array([[1000.0, 1001.0], [1.0, 2.0]]))
        np.testing.assert_allclose(y, [[0.2689414213699951, 0.7310585786300049]] * 2, rtol=1e-15)

    def test_softmin_is_softmax_of_the_negative(self, rng):
        x = logits(rng, 20, 37)
        assert same_bits(fa.softmin(x), fa.softmax(-x))
        assert same_bits(fa.softmin(x, axis=0), fa.softmax(-x, axis=0))


@pytest.mark.parametrize("name", ALL)
class TestShapes:
    def test_zero_d(self, name):
        for value in (2.5, np.array(2.5), np.float64(2.5)):
            for axis in (0, -1):
                y = getattr(fa, name)(value, axis)
                assert y == {"log_softmax": 0, "logsumexp": 2.5}.get(name, 1)
                assert np.shape(y) == ()

    @pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 3), (2, 0, 4)])
    @pytest.mark.parametrize("axis", [0, -1])
    def test_empty(self, name, shape, axis):
        y = getattr(fa, name)(np.empty(shape, np.float32), axis)
        assert y.dtype == np.float32
        if name != "logsumexp":
            assert y.shape == shape
        else:
            assert y.shape == np.empty(shape).sum(axis).shape
            assert np.all(y == -np.inf)

    @pytest.mark.parametrize("axis", [2, -3, 100])
    def test_axis_out_of_range(self, name, axis):
        with pytest.raises(np.exceptions.AxisError):
            getattr(fa, name)(np.ones((2, 3)), axis)

    @pytest.mark.parametrize("axis", [1.0, "0", (0, 1.0)])
    def test_axis_of_a_wrong_kind(self, name, axis):
        with pytest.raises(TypeError):
            getattr(fa, name)(np.ones((2, 3)), axis)

    @pytest.mark.parametrize("bad", [np.array([1j, 2]), np.array([None, 1]), np.array(["a", "b"]), None, "ab"])
    def test_other_kinds_raise_type_error(self, name, bad):
        with pytest.raises(TypeError):
            getattr(fa, name)(bad)

    @pytest.mark.parametrize("dtype", "?bBhHiIlLqQ")
    def test_integers_follow_exp(self, name, dtype):
        x = np.array([[1, 0, 1], [0, 0, 1]]).astype(dtype)
        y = getattr(fa, name)(x)
        assert y.dtype == np.exp(x).dtype
        assert same_bits(y, getattr(fa, name)(x.astype(y.dtype)))

    def test_lists(self, name):
        assert same_bits(getattr(fa, name)([[1, 2.5]]), getattr(fa, name)(np.array([[1, 2.5]])))

    def test_object(self, name):
        function = getattr(fa, name)
        assert function.__name__ == name and function.__doc__
        parameters = inspect.signature(function).parameters
        assert list(parameters)[:2] == ["x", "axis"] and parameters["axis"].default == -1
        assert "out" in parameters
        assert pickle.loads(pickle.dumps(function)) is function


class TestOut:
    @pytest.mark.parametrize("name", SAME_SHAPE)
    @pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
    def test_without_one_results_lie_in_memory_as_x_does(self, name, dtype, rng):
        x, function = logits(rng, 4, 6, 8, dtype=dtype), getattr(fa, name)
        for source, axis in itertools.product((x, x.transpose(1, 2, 0), np.asfortranarray(x)), (0, 1, 2)):
            results = function(source, axis), function(source, axis, temperature=2.0), function.backward(source, output=source, axis=axis)
            assert all(y.strides == source.strides for y in results)

    @pytest.mark.parametrize("name", SAME_SHAPE)
    @pytest.mark.parametrize("axis", [0, 1])
    def test_out(self, name, axis, rng):
        x = logits(rng, 40, 50)
        wanted = getattr(fa, name)(x, axis)
        for out in (np.empty_like(x), np.empty_like(x, order="F"), np.empty((80, 100), "f")[::2, ::-2], x.copy()):
            assert getattr(fa, name)(x, axis, out=out) is out
            assert same_bits(out, wanted)
        y = x.copy()
        assert getattr(fa, name)(y, axis, out=y) is y
        assert same_bits(y, wanted)
        wide = np.empty(x.shape)
        getattr(fa, name)(x, axis, out=wide)
        assert np.array_equal(wide.astype("f"), wanted)

    @pytest.mark.parametrize("name", SAME_SHAPE)
    def test_overlap(self, name, rng):
        for axis in (0, 1):
            x = logits(rng, 41, 50)
            wanted = getattr(fa, name)(x[:-1], axis)
            getattr(fa, name)(x[:-1], axis, out=x[1:])
            assert same_bits(x[1:], wanted)
            square = logits(rng, 40, 40)
            wanted = getattr(fa, name)(square, axis)
            getattr(fa, name)(square, axis, out=square.T)
            assert same_bits(square.T.copy(), wanted)

    @pytest.mark.parametrize("name", ALL)
    def test_bad_out(self, name, rng):
        x = logits(rng, 4, 5)
        fixed = np.full(np.shape(getattr(fa, name)(x)), 7, "f")
        fixed.flags.writeable = False
        for bad, kind in ((np.full((5, 3), 7, "f"), ValueError), (np.full((2, *fixed.shape), 7, "f"), ValueError),
                          (np.full(fixed.shape, 7), TypeError), (fixed, ValueError), ([0.0], TypeError)):  # fmt: skip
            with pytest.raises(kind):
                getattr(fa, name)(x, out=bad)
            assert np.all(np.asarray(bad)[..., 0] == (0 if isinstance(bad, list) else 7))

    def test_logsumexp_out_and_keepdims(self, rng):
        x = logits(rng, 6, 7)
        for axis, shape in ((0, (7,)), (1, (6,))):
            out = np.empty(shape, "f")
            assert fa.logsumexp(x, axis, out=out) is out
            assert same_bits(out, fa.logsumexp(x, axis))
            kept = fa.logsumexp(x, axis, keepdims=True)
            assert kept.shape == ((1, 7) if axis == 0 else (6, 1))
            assert same_bits(kept.reshape(shape), out)


class TestWhere:
    @pytest.mark.parametrize("name", SAME_SHAPE)
    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("axis", [0, 1, -1])
    def test_is_the_row_without_the_masked(self, name, dtype, axis, rng):
        x = logits(rng, 12, 33, dtype=dtype)
        mask = rng.random(x.shape) < 0.6
        mask[np.arange(12), np.arange(12)] = True
        mask[:, 12:] |= ~mask[:, 12:].any(axis=0)
        y = np.moveaxis(getattr(fa, name)(x, axis, where=mask), axis, -1)
        for row, got, counts in zip(np.moveaxis(x, axis, -1), y, np.moveaxis(mask, axis, -1)):
            wanted = reference.ROWWISE[name](row[counts])
            bound = 8 * EPS[x.dtype.name] * np.maximum(np.abs(wanted), 1e-3)
            assert np.all(np.abs(got[counts].astype(float) - wanted) <= bound * (1 + np.ptp(row.astype(float))))
            assert np.all(got[~counts] == (-np.inf if name == "log_softmax" else 0))

    def test_a_row_masked_out_is_zero(self, rng):
        x = logits(rng, 5, 20)
        x[2] = np.nan
        mask = np.ones((5, 1), bool)
        mask[2] = False
        for y in (fa.softmax(x, where=mask), fa.softmax(x.T, axis=0, where=mask.T).T):
            assert np.all(y[2] == 0)
            assert same_bits(np.delete(y, 2, 0), fa.softmax(np.delete(x, 2, 0)))
        assert np.all(fa.softmin(x, where=mask)[2] == 0)

    def test_masked_values_do_not_count(self):
        """Not even NaN and infinity."""
        x = np.array([1.0, np.nan, 2.0, np.inf, -np.inf])
        y = fa.softmax(x, where=np.array([True, False, True, False, False]))
        np.testing.assert_allclose(y, [0.2689414213699951, 0, 0.7310585786300049, 0, 0], rtol=1e-15)

    def test_mask_broadcasts(self, rng):
        x = logits(rng, 3, 4, 6)
        mask = np.array([True, True, False, True, False, True])
        wanted = fa.softmax(x, where=np.broadcast_to(mask, x.shape).copy())
        assert same_bits(fa.softmax(x, where=mask), wanted)
        assert same_bits(fa.softmax(x, where=True), fa.softmax(x))
        assert np.all(fa.softmax(x, where=False) == 0)
        with pytest.raises(ValueError):
            fa.softmax(x, where=mask[:5])

    def test_true_everywhere_changes_no_bit(self, rng):
        x = logits(rng, 20, 33)
        for axis in (0, 1):
            for name in SAME_SHAPE:
                assert same_bits(getattr(fa, name)(x, axis, where=np.ones(x.shape, bool)), getattr(fa, name)(x, axis))

    def test_other_masks_are_refused(self):
        for bad in ([1, 0, 1], [0.5, 1.0, 0.0]):
            with pytest.raises(TypeError, match="where must be boolean"):
                fa.softmax(np.ones(3), where=bad)

    def test_no_warning_and_in_place(self):
        x = np.array([[np.nan, np.inf, 1.0], [-np.inf, 2.0, 3.0]])
        with np.errstate(all="raise"):
            fa.softmax(x, where=np.array([[False, False, True], [True, True, True]]), out=x)
        np.testing.assert_allclose(x, [[0, 0, 1], [0, 0.2689414213699951, 0.7310585786300049]], rtol=1e-15)


def test_jacobian_of_nan_is_nan():
    for x in ([np.nan], [np.nan, 1.0]):
        assert np.isnan(fa.softmax.jacobian(x)).all()


class TestTemperature:
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_near_0_and_infinity_has_its_limits(self, dtype):
        x = np.array([[1, 3, -np.inf, 2]] * 9, dtype)
        for y, z in ((fa.softmax(x, temperature=t), fa.softmax(x.T, 0, temperature=t).T) for t in (5e-324, 1e-310, 1e-39)):
            assert np.array_equal(y, z) and np.array_equal(y[3], [0, 1, 0, 0])
        for temperature in (1e300, 1.79e308, np.inf):
            y = fa.softmax(x, temperature=temperature)
            np.testing.assert_allclose(y.astype("f8")[3], np.array([1, 1, 0, 1]) / 3, rtol=EPS[np.dtype(dtype).name])

    @pytest.mark.parametrize("temperature", [0.25, 0.7, 1.0, 3.0, 100.0])
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_divides_the_input(self, temperature, dtype, rng):
        x = logits(rng, 20, 45, dtype=dtype, spread=2)
        for name in SAME_SHAPE:
            wanted = reference.ROWWISE[name](x, temperature=float(np.dtype(dtype).type(temperature)))
            for y in (
                getattr(fa, name)(x, temperature=temperature),
                getattr(fa, name)(x.T, 0, temperature=temperature).T,
            ):
                np.testing.assert_allclose(y, wanted, rtol=60 * EPS[dtype] / min(temperature, 1))

    def test_one_changes_no_bit(self, rng):
        x = logits(rng, 20, 33)
        assert same_bits(fa.softmax(x, temperature=1.0), fa.softmax(x))

    @pytest.mark.parametrize("bad", [0.0, -1.0, np.nan])
    def test_must_be_positive(self, bad):
        out = np.full(3, 7.0)
        with pytest.raises(ValueError):
            fa.softmax(np.ones(3), temperature=bad, out=out)
        assert np.all(out == 7)


class TestBackward:
    @pytest.mark.parametrize("axis", [0, 1, 2])
    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("name", SAME_SHAPE)
    def test_formula(self, name, dtype, axis, rng):
        x, g = logits(rng, 5, 6, 18, dtype=dtype, spread=2), logits(rng, 5, 6, 18, dtype=dtype, spread=1)
        y = getattr(fa, name)(x, axis)
        got = getattr(fa, name).backward(g, output=y, axis=axis)
        wanted = reference.ROWWISE_BACKWARD[name](g, y, axis)
        scale = np.abs(g.astype(np.float64)).max() * 20
        assert got.dtype == x.dtype
        assert np.all(np.abs(got.astype(np.float64) - wanted) <= scale * EPS[x.dtype.name] * 2)

    @pytest.mark.parametrize("axis", [0, 1, -1])
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_logsumexp(self, axis, dtype, rng):
        x = logits(rng, 7, 19, dtype=dtype, spread=2)
        g = logits(rng, 7 if axis else 19, dtype=dtype)
        got = fa.logsumexp.backward(g, x, axis=axis)
        wanted = reference.ROWWISE_BACKWARD["logsumexp"](g, x, axis)
        assert got.dtype == x.dtype and got.shape == x.shape
        np.testing.assert_allclose(got.astype(float), wanted, rtol=40 * EPS[x.dtype.name], atol=1e-7)

    @pytest.mark.parametrize("axis", [0, 1])
    @pytest.mark.parametrize("name", ALL)
    def test_finite_differences(self, name, axis, rng):
        function, x = getattr(fa, name), rng.normal(size=(4, 5))
        g = rng.normal(size=np.shape(function(x, axis)))
        got = (
            function.backward(g, x, axis=axis)
            if name == "logsumexp"
            else function.backward(g, output=function(x, axis), axis=axis)
        )
        for i in np.ndindex(x.shape):
            step = np.zeros_like(x)
            step[i] = 1e-6
            slope = np.sum(g * (function(x + step, axis) - function(x - step, axis))) / 2e-6
            assert abs(got[i] - slope) < 1e-8

    @pytest.mark.parametrize("name", SAME_SHAPE)
    def test_in_place_and_layouts(self, name, rng):
        x, g = logits(rng, 30, 40), logits(rng, 30, 40)
        y = getattr(fa, name)(x)
        wanted = getattr(fa, name).backward(g, output=y)
        for arguments in ((g.copy(), y), (np.asfortranarray(g), y), (g[::-1][::-1], np.asfortranarray(y))):
            out = arguments[0]
            got = getattr(fa, name).backward(out, output=arguments[1], out=out)
            assert got is out and same_bits(out.copy(), wanted)
            g = g.copy()
        assert same_bits(getattr(fa, name).backward(g.T, output=y.T, axis=0), wanted.T)

    def test_no_gradient_for_a_constant(self, rng):
        """Softmax does not change when all logits move together."""
        y = fa.softmax(logits(rng, 10, 20, dtype="float64"))
        assert np.abs(fa.softmax.backward(np.ones_like(y), output=y)).max() < 1e-15

    def test_bad_arguments(self):
        y = np.full((2, 3), 1 / 3)
        with pytest.raises(ValueError):
            fa.softmax.backward(np.ones((3, 2)), output=y)
        with pytest.raises(np.exceptions.AxisError):
            fa.softmax.backward(np.ones((2, 3)), output=y, axis=2)
        with pytest.raises(TypeError):
            fa.softmax.backward(np.ones((2, 3)))


ROWS_OF_FLOATS = arrays(np.float64, array_shapes(min_dims=1, max_dims=3, max_side=6), elements=st.floats(-1e3, 1e3))


class TestProperties:
    @given(x=ROWS_OF_FLOATS)
    def test_sums_to_one(self, x):
        for axis in range(x.ndim):
            y = fa.softmax(x, axis)
            assert np.all((y >= 0) & (y <= 1))
            np.testing.assert_allclose(y.sum(axis), 1, rtol=1e-15)

    @given(x=ROWS_OF_FLOATS, shift=st.integers(-1000, 1000))
    def test_shift_invariant(self, x, shift):
        x = np.round(x * 1024) / 1024
        for name in SAME_SHAPE:
            assert same_bits(getattr(fa, name)(x + shift), getattr(fa, name)(x))

    @given(x=ROWS_OF_FLOATS)
    def test_log_softmax_is_its_logarithm(self, x):
        y = fa.log_softmax(x)
        assert np.all(y <= 0)
        np.testing.assert_allclose(np.exp(y), fa.softmax(x), rtol=1e-12, atol=1e-300)
        np.testing.assert_allclose(fa.logsumexp(x, keepdims=True) + y, x, rtol=1e-13, atol=1e-13)

    @given(x=arrays(np.float64, 7, elements=st.floats(-50, 50)), order=st.permutations(range(7)))
    def test_permutes_with_its_input(self, x, order):
        np.testing.assert_allclose(fa.softmax(x[order]), fa.softmax(x)[order], rtol=1e-15)

    @given(x=ROWS_OF_FLOATS)
    def test_logsumexp_is_at_least_the_maximum(self, x):
        y = fa.logsumexp(x)
        assert np.all(y >= x.max(-1)) and np.all(y <= x.max(-1) + np.log(x.shape[-1]) + 1e-12)


@pytest.mark.parametrize("name", ALL)
class TestProtocol:
    def test_gufunc(self, name, rng):
        """The bare gufunc does what the function does along the last axis, and takes NumPy's keywords."""
        gufunc, x = getattr(fa, name).gufunc, logits(rng, 3, 4, 5)
        if backends.kernels is not None:  # else a function that asks Numba for it
            assert isinstance(gufunc, np.ufunc) and gufunc.signature == ("(n)->()" if name == "logsumexp" else "(n)->(n)")
        assert same_bits(gufunc(x), getattr(fa, name)(x))
        assert same_bits(gufunc(x, axis=1), getattr(fa, name)(x, 1))
        assert gufunc(x, dtype=np.float64).dtype == np.float64

    def test_dask(self, name, rng):
        array = pytest.importorskip("dask.array", reason="needs dask")
        x = logits(rng, 6, 8)
        for axis, chunks in ((1, (2, 8)), (0, (6, 2))):
            y = getattr(fa, name)(array.from_array(x, chunks=chunks), axis)
            assert isinstance(y, array.Array)
            assert same_bits(y.compute(), getattr(fa, name)(x, axis))
            assert same_bits(pickle.loads(pickle.dumps(y)).compute(), getattr(fa, name)(x, axis))
            if name != "sparsemax":
                y = getattr(fa, name)(array.from_array(x, chunks=chunks), axis, temperature=2.0)
                assert same_bits(pickle.loads(pickle.dumps(y)).compute(), getattr(fa, name)(x, axis, temperature=2.0))

    def test_xarray(self, name, rng):
        xarray = pytest.importorskip("xarray", reason="needs xarray")
        x = xarray.DataArray(logits(rng, 6, 8), dims=("row", "class"))
        y = xarray.apply_ufunc(
            getattr(fa, name),
            x,
            input_core_dims=[["class"]],
            output_core_dims=[[] if name == "logsumexp" else ["class"]],
        )
        y = y if name == "logsumexp" else y.transpose("row", "class")
        assert same_bits(y.values, getattr(fa, name)(x.values))

    def test_subclasses_are_kept(self, name, rng):
        class Sub(np.ndarray):
            pass

        x = logits(rng, 6, 8)
        for options in ({}, {"temperature": 2.0}):
            y = getattr(fa, name)(x.view(Sub), **options)
            assert type(y) is Sub and same_bits(y.view(np.ndarray), getattr(fa, name)(x, **options))

    def test_masked_elements_are_refused(self, name):
        """They would count."""
        x = np.ma.array([[1.0, 2.0], [3.0, 4.0]], mask=[[True, False], [False, False]])
        with pytest.raises(TypeError, match="masked elements would count"):
            getattr(fa, name)(x)
        assert same_bits(getattr(fa, name)(x[1:]), getattr(fa, name)(x.data[1:]))
        if name != "logsumexp":
            with pytest.raises(TypeError, match="masked elements would count"):
                getattr(fa, name).backward(x, output=x.data)


@pytest.mark.parametrize("function", [fa.gumbel_softmax, fa.softmax.jacobian])
def test_masked_elements_are_refused_by_what_is_made_of_softmax(function):
    with pytest.raises(TypeError, match="masked elements would count"):
        function(np.ma.array([1.0, 2.0], mask=[True, False]))


def test_against_scipy(rng):
    special = pytest.importorskip("scipy.special", reason="needs SciPy")
    x = rng.normal(size=(30, 41)) * 10
    for axis in (0, 1):
        for name in ("softmax", "log_softmax", "logsumexp"):
            wanted = getattr(special, name)(x, axis=axis)
            np.testing.assert_allclose(getattr(fa, name)(x, axis), wanted, rtol=1e-12, atol=1e-14)
