"""sparsemax, gumbel_softmax and softmax.jacobian."""

import numpy as np
import pytest
from cases import DTYPES, HALF_TYPES, same_bits
from ulp import errors

import fastact as fa
from fastact._kernels import reference

EPS = {"float16": 2.0**-11, "bfloat16": 2.0**-8, "float32": 2.0**-24, "float64": 2.0**-53}


def normal(rng, *shape, dtype="float64", spread=1.0):
    return (rng.normal(size=shape) * spread).astype(dtype)


class TestSparsemax:
    def check(self, x, axis=-1, **options):
        y = fa.sparsemax(x, axis, **options)
        wanted = reference.ROWWISE["sparsemax"](x, axis, **options)
        assert y.dtype == x.dtype and y.shape == x.shape
        np.testing.assert_allclose(y.astype(float), wanted, rtol=0, atol=2 * EPS[x.dtype.name])

    @pytest.mark.parametrize("spread", [0.001, 0.1, 1.0, 30.0])
    @pytest.mark.parametrize("n", [1, 2, 3, 8, 17, 100, 1000, 4099])
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_rows_of_every_length(self, n, spread, dtype, rng):
        self.check(normal(rng, 4, n, dtype=dtype, spread=spread))

    @pytest.mark.parametrize("axis", [0, 1, 2, -2])
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_every_axis_and_layout(self, axis, dtype, rng):
        x = normal(rng, 7, 18, 33, dtype=dtype)
        self.check(x, axis)
        moved = np.ascontiguousarray(np.moveaxis(x, axis, -1))
        assert same_bits(fa.sparsemax(x, axis), np.moveaxis(fa.sparsemax(moved), -1, axis))
        assert same_bits(fa.sparsemax(x[::2, ::-1, ::3]), fa.sparsemax(x[::2, ::-1, ::3].copy()))

    def test_known_rows(self):
        for row, wanted in (([0, 0, 0], [1 / 3] * 3), ([1, 0], [1, 0]), ([0.5, 0], [0.75, 0.25]), ([2, 1.5, -9], [0.75, 0.25, 0]),
                            ([-1e300, 1e300], [0, 1]), ([-np.inf, 3], [0, 1]), ([5], [1])):  # fmt: skip
            np.testing.assert_allclose(fa.sparsemax(np.array(row, float)), wanted, rtol=1e-15)
        assert fa.sparsemax(3.0) == 1 and fa.sparsemax(np.empty((3, 0))).shape == (3, 0)

    @pytest.mark.parametrize("bad", [[np.nan, 0, 0], [0, 0, np.nan], [np.inf, 0, 0], [-np.inf] * 3])
    def test_bad_rows(self, bad):
        y = fa.sparsemax(np.array([[0.0, 1, 2], bad, [2, 1, 0]]))
        assert np.all(np.isnan(y[1])) and list(y[0]) == [0, 0, 1] and list(y[2]) == [1, 0, 0]

    def test_rows_that_give_up_one_element_at_a_step(self):
        """Newton's method alone would take as many steps as there are elements."""
        n = 2000
        x = np.zeros(n)
        for k in range(2, n):  # each element just under the threshold of those before
            x[k] = (x[:k].sum() - 1) / k + 1e-12 * (-1) ** k if k < 40 else -1 + 1e-9 * k
        self.check(x)
        self.check(-np.logspace(-300, 0, 5000))
        self.check(-np.logspace(-12, 0, 5000))

    def test_sums_to_one_and_shifts(self, rng):
        x = normal(rng, 50, 200)
        y = fa.sparsemax(x)
        np.testing.assert_allclose(y.sum(axis=-1), 1, rtol=1e-14)
        np.testing.assert_allclose(fa.sparsemax(x + 100), y, atol=1e-13)
        assert np.mean(y == 0) > 0.8

    def test_where_and_out(self, rng):
        x = normal(rng, 20, 30, dtype="float32")
        where = rng.random(x.shape) < 0.5
        where[3] = False
        self.check(x[:3], where=where[:3])
        y = fa.sparsemax(x, where=where)
        assert not y[~where].any() and not y[3].any()
        wanted = fa.sparsemax(x)
        assert fa.sparsemax(x, out=x) is x and same_bits(x, wanted)

    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("axis", [0, 1])
    def test_backward(self, dtype, axis, rng):
        y = fa.sparsemax(normal(rng, 20, 300, dtype=dtype), axis)
        g = normal(rng, 20, 300, dtype=dtype)
        wanted = reference.ROWWISE_BACKWARD["sparsemax"](g, y, axis)
        dx = fa.sparsemax.backward(g, output=y, axis=axis)
        np.testing.assert_allclose(dx.astype(float), wanted, rtol=EPS[y.dtype.name] * 4, atol=EPS[y.dtype.name] * 8)
        assert dx.dtype == y.dtype and not dx[y == 0].any()
        assert fa.sparsemax.backward(g, output=y, axis=axis, out=g) is g and same_bits(g, dx)

    def test_backward_by_differences(self, rng):
        x, g = normal(rng, 3, 6, spread=0.3), normal(rng, 3, 6)
        dx = fa.sparsemax.backward(g, output=fa.sparsemax(x))
        for i in np.ndindex(x.shape):
            step = np.zeros_like(x)
            step[i] = 1e-7
            slope = np.sum(g * (fa.sparsemax(x + step) - fa.sparsemax(x - step))) / 2e-7
            assert dx[i] == pytest.approx(slope, abs=1e-6)

    def test_threads_and_warnings(self, rng, set_num_threads):
        x = normal(rng, 600, 500, dtype="float32")
        set_num_threads(1)
        wanted = fa.sparsemax(x)
        set_num_threads(3)
        assert same_bits(fa.sparsemax(x), wanted)
        with np.errstate(all="raise"):
            y = fa.sparsemax(np.array([[1e38, -3e38], [np.nan, 0], [np.inf, 0], [-np.inf, -np.inf], [1e-45, 0]], "f"))
            fa.sparsemax.backward(y, output=y)

    def test_errors(self):
        with pytest.raises(np.exceptions.AxisError):
            fa.sparsemax(np.zeros((2, 3)), 2)
        with pytest.raises(TypeError):
            fa.sparsemax(np.zeros(3, complex))
        with pytest.raises(ValueError):
            fa.sparsemax.backward(np.zeros((2, 3)), output=np.zeros((3, 2)))


class TestGumbelSoftmax:
    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("hard", [False, True])
    def test_rows_are_distributions(self, dtype, hard, rng):
        x = normal(rng, 50, 20, dtype=dtype)
        for axis in (0, 1, -1):
            y = fa.gumbel_softmax(x, 0.7, hard, axis, rng=1)
            assert y.dtype == x.dtype and y.shape == x.shape
            np.testing.assert_allclose(y.astype(float).sum(axis=axis), 1, rtol=20 * EPS[y.dtype.name])
            if hard:
                assert set(np.unique(y.astype(float))) == {0, 1}

    def test_seed(self, rng):
        x = normal(rng, 30, 9)
        assert same_bits(fa.gumbel_softmax(x, rng=5), fa.gumbel_softmax(x, rng=5))
        assert not same_bits(fa.gumbel_softmax(x, rng=5), fa.gumbel_softmax(x, rng=6))
        assert not same_bits(fa.gumbel_softmax(x), fa.gumbel_softmax(x))
        generator = np.random.default_rng(5)
        first, second = fa.gumbel_softmax(x, rng=generator), fa.gumbel_softmax(x, rng=generator)
        assert same_bits(first, fa.gumbel_softmax(x, rng=5)) and not same_bits(first, second)

    def test_hard_is_the_one_hot_of_the_same_sample(self, rng):
        x = normal(rng, 200, 9, spread=3)
        soft, hard = (fa.gumbel_softmax(x, 0.3, hard, rng=2) for hard in (False, True))
        assert np.array_equal(hard, np.arange(9) == soft.argmax(axis=-1)[:, None])

    def test_samples_follow_the_softmax(self):
        x = np.array([2.0, 0.0, 1.0, -1.0])
        hits = fa.gumbel_softmax(np.broadcast_to(x, (200_000, 4)), hard=True, rng=0).mean(axis=0)
        np.testing.assert_allclose(hits, fa.softmax(x), atol=0.004)

    def test_the_noise_is_finite(self):
        """Whatever the generator returns, a zero included."""

        class Zeros(np.random.Generator):
            def standard_exponential(self, size):
                return np.zeros(size)

        for dtype in ("float16", "float32", "float64"):
            y = fa.gumbel_softmax(np.zeros((3, 4), dtype), rng=Zeros(np.random.PCG64()))
            assert np.all(y == 0.25)

    @pytest.mark.parametrize("hard", [False, True])
    def test_bad_rows_are_nan(self, hard):
        y = fa.gumbel_softmax([[np.nan, 0], [np.inf, 0], [-np.inf, -np.inf], [-np.inf, 0]], hard=hard)
        assert np.all(np.isnan(y[:3])) and list(y[3]) == [0, 1]

    def test_shapes(self):
        assert fa.gumbel_softmax(2.0) == 1 == fa.gumbel_softmax(2.0, hard=True)
        assert fa.gumbel_softmax(np.empty((0, 3)), hard=True).shape == (0, 3)
        assert fa.gumbel_softmax(np.empty((3, 0)), hard=True).shape == (3, 0)
        assert fa.gumbel_softmax([1, 2, 3]).dtype == np.float64

    def test_backward_by_differences(self, rng):
        x, g = normal(rng, 3, 4), normal(rng, 3, 4)
        dx = fa.gumbel_softmax.backward(g, output=fa.gumbel_softmax(x, 0.5, rng=3), tau=0.5)
        for i in np.ndindex(x.shape):
            step = np.zeros_like(x)
            step[i] = 1e-6
            ahead, behind = (fa.gumbel_softmax(x + s, 0.5, rng=3) for s in (step, -step))
            assert dx[i] == pytest.approx(np.sum(g * (ahead - behind)) / 2e-6, abs=1e-8)

    @pytest.mark.parametrize("tau", [0, -1.0, np.nan])
    def test_tau_is_positive(self, tau):
        with pytest.raises(ValueError, match="tau"):
            fa.gumbel_softmax([1.0, 2.0], tau)
        with pytest.raises(ValueError, match="tau"):
            fa.gumbel_softmax.backward([1.0, 2.0], output=[0.5, 0.5], tau=tau)

    def test_errors_draw_nothing(self):
        generator = np.random.default_rng(0)
        for x, axis, kind in (([1.0], 1, np.exceptions.AxisError), ([1j], 0, TypeError), (["a"], 0, TypeError)):
            with pytest.raises(kind):
                fa.gumbel_softmax(x, axis=axis, rng=generator)
        assert generator.random() == np.random.default_rng(0).random()

    def test_never_a_floating_point_warning(self):
        with np.errstate(all="raise"):
            for dtype in ("float16", "float32", "float64"):
                fa.gumbel_softmax(np.array([[60000, -60000], [np.nan, 1]], dtype), 1e-3, rng=0)


class TestJacobian:
    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("axis", [0, 1, 2])
    def test_is_diag_p_minus_p_p(self, dtype, axis, rng):
        x = normal(rng, 3, 4, 5, dtype=dtype)
        p = np.moveaxis(fa.softmax(x.astype(float), axis), axis, -1)
        jacobian = fa.softmax.jacobian(x, axis)
        assert jacobian.dtype == x.dtype and jacobian.shape == (*p.shape, p.shape[-1])
        wanted = p[..., None] * (np.eye(p.shape[-1]) - p[..., None, :])
        np.testing.assert_allclose(jacobian.astype(float), wanted, rtol=8 * EPS[x.dtype.name], atol=1e-8)

    def test_backward_is_the_product_with_it(self, rng):
        x, g = normal(rng, 6, 7), normal(rng, 6, 7)
        by_matrix = np.einsum("rij,rj->ri", fa.softmax.jacobian(x, temperature=2.0), g)
        by_backward = fa.softmax.backward(g, output=fa.softmax(x, temperature=2.0), temperature=2.0)
        np.testing.assert_allclose(by_matrix, by_backward, atol=1e-15)

    def test_keeps_its_digits_where_a_class_is_certain(self):
        """p (1 - p) with p = 1 - 2e-9 or 1 - 4e-18, which rounds to 1."""
        for dtype, x in (("float32", 20.0), ("float64", 40.0)):
            p = np.exp(-x) / (1 + np.exp(-x))
            wanted = p * (1 - p) * np.array([[1, -1], [-1, 1]])
            np.testing.assert_allclose(fa.softmax.jacobian(np.array([x, 0], dtype)), wanted, rtol=3 * np.finfo(dtype).eps)

    @pytest.mark.parametrize("dtype", HALF_TYPES)
    def test_half_types_are_rounded_once(self, dtype, rng):
        x = normal(rng, 5, 6, dtype=dtype, spread=0.5)
        p = fa.softmax(x.astype(float))
        wanted = p[..., None] * (np.eye(6) - p[..., None, :])
        assert errors(fa.softmax.jacobian(x), wanted, dtype).max() <= 0.51

    def test_edges(self):
        assert fa.softmax.jacobian(5.0).tolist() == [[0]] and fa.softmax.jacobian([5.0]).tolist() == [[0]]
        assert fa.softmax.jacobian(np.empty((3, 0))).shape == (3, 0, 0)
        assert np.all(np.isnan(fa.softmax.jacobian([np.nan, 0])))
        with np.errstate(all="raise"):
            fa.softmax.jacobian(np.array([[0.0, -800], [1e-3, 5]]), temperature=0.5)
        with pytest.raises(ValueError):
            fa.softmax.jacobian([1.0, 2.0], temperature=0)
