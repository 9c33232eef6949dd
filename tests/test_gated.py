"""Gated functions: two arrays or the halves of one, both gradients in one pass; maxout."""

import inspect
import pickle

import mpmath
import numpy as np
import oracle
import pytest
from cases import DTYPES, HALF_TYPES, same_bits
from ulp import worst

import fastact as fa
from fastact._kernels import reference
from fastact.table import GATED, HALF_ULP

ROWS = {row.name: row for row in GATED}
NAMES = list(ROWS)
PAIRED = [name for name in NAMES if name != "glu"]


def forward(name, a, b, **options):
    """Of two arrays, whichever way the function takes them."""
    if name == "glu":
        return fa.glu(np.stack([a, b]), 0, **options)[0] if "out" not in options else fa.glu(np.stack([a, b]), 0, **options)
    return getattr(fa, name)(a, b, **options)


def backward(name, grad, a, b):
    if name == "glu":
        return tuple(fa.glu.backward(np.asarray(grad)[None], np.stack([a, b]), 0))
    return getattr(fa, name).backward(grad, a, b)


def gates(name, dtype, count, rng):
    """Gates whose activation is a normal number."""
    low = {"geglu": {"float64": -37.0}.get(dtype, -12.8)}.get(name, {"float64": -700.0}.get(dtype, -86.0))
    spread = np.concatenate([rng.uniform(low, -low, count // 4), rng.normal(size=count // 2) * 3, rng.normal(size=count - count // 4 - count // 2)])
    return np.clip(spread, low, -low).astype(dtype)


def operands(name, dtype, count, seed=0):
    """grad_output and the two inputs, in the function's order."""
    rng = np.random.default_rng(seed)
    gate, up, grad = gates(name, dtype, count, rng), rng.normal(size=count) * 10.0 ** rng.uniform(-4, 4, count), rng.normal(size=count)
    pair = (up.astype(dtype), gate) if name == "glu" else (gate, up.astype(dtype))
    return grad.astype(dtype), *pair


def largest_term(name, grad, a, b):
    """Of the gradient of the gate, where its two terms cancel."""
    if name not in ("swiglu", "geglu"):
        return 0.0
    grad, gate, up = (v.astype(np.float64) for v in (grad, a, b))
    activation = {"swiglu": "silu", "geglu": "gelu"}[name]
    share = reference.FORWARD[activation](gate) / np.where(gate == 0, 1, gate)
    return np.abs(grad * up) * np.maximum(np.abs(share), np.abs(reference.DERIVATIVE[activation](gate) - share))


def check(computed, exact, points, promise, term=0.0):
    """Where the exact result is a normal number."""
    info = np.finfo("float32" if computed.dtype.itemsize == 2 and computed.dtype != np.float16 else computed.dtype)
    normal = np.abs(exact.astype(float)) >= float(info.tiny)
    term = term[normal] if np.ndim(term) else term
    error, where = worst(computed[normal], exact[normal], computed.dtype, points[normal], term)
    assert error <= promise, where


@pytest.mark.parametrize("name", NAMES)
class TestAccuracy:
    def test_float32(self, name):
        grad, a, b = operands(name, "float32", 400_000)
        check(forward(name, a, b), reference.GATED[name](a, b), a, ROWS[name].max_ulp[0])
        exact = reference.GATED_BACKWARD[name](grad, a, b)
        for computed, wanted, term in zip(backward(name, grad, a, b), exact, (largest_term(name, grad, a, b), 0.0)):
            check(computed, wanted, a, ROWS[name].max_ulp_backward[0], term)

    def test_float64_against_mpmath(self, name):
        grad, a, b = operands(name, "float64", 1500)
        activation = {"swiglu": "silu", "geglu": "gelu", "reglu": "relu"}.get(name)

        def each(formula, *arrays):
            with mpmath.workprec(oracle.PRECISION):
                return np.array([mpmath.mpf(formula(*(mpmath.mpf(v) for v in point))) for point in zip(*arrays)] + [None])[:-1]

        if name == "glu":
            formulas = (lambda g, a, b: a * oracle.sigmoid(b), lambda g, a, b: g * oracle.sigmoid(b),
                        lambda g, a, b: g * a * oracle.sigmoid_derivative(b))  # fmt: skip
        else:
            f, slope = oracle.FORWARD[activation], oracle.DERIVATIVE[activation]
            formulas = (lambda g, a, b: f(a) * b, lambda g, a, b: g * b * slope(a), lambda g, a, b: g * f(a))
        exact = [each(formula, grad, a, b) for formula in formulas]
        check(forward(name, a, b), exact[0], a, ROWS[name].max_ulp[1])
        for computed, wanted, term in zip(backward(name, grad, a, b), exact[1:], (largest_term(name, grad, a, b), 0.0)):
            check(computed, wanted, a, ROWS[name].max_ulp_backward[1], term)

    @pytest.mark.parametrize("dtype", HALF_TYPES)
    def test_half_types_are_rounded_once(self, name, dtype):
        grad, a, b = (v.astype(dtype) for v in operands(name, "float32", 50_000))
        limit = 6e4 if np.dtype(dtype) == np.float16 else 1e30
        exact = reference.GATED[name](a, b)
        inside = np.abs(exact) < limit
        check(forward(name, a, b)[inside], exact[inside], a[inside], HALF_ULP)
        for computed, wanted in zip(backward(name, grad, a, b), reference.GATED_BACKWARD[name](grad, a, b)):
            inside = np.abs(wanted) < limit
            check(computed[inside], wanted[inside], a[inside], HALF_ULP, largest_term(name, grad, a, b)[inside] if name in ("swiglu", "geglu") else 0.0)

    def test_deep_tails_keep_their_digits(self, name):
        """Where the activation alone is subnormal, the product has the digits that it has."""
        gate = np.linspace(-100, -80, 200, dtype=np.float32) if name != "geglu" else np.linspace(-13.8, -12, 200, dtype=np.float32)
        up = np.full_like(gate, 20)
        a, b = (up, gate) if name == "glu" else (gate, up)
        np.testing.assert_allclose(forward(name, a, b), reference.GATED[name](a, b), rtol=1e-6, atol=20 * 1e-45)

    def test_against_torch(self, name):
        torch = pytest.importorskip("torch", reason="needs PyTorch")
        grad, a, b = operands(name, "float64", 2000)
        ta, tb = (torch.from_numpy(v).requires_grad_() for v in (a, b))
        functional = torch.nn.functional
        act = {"glu": torch.sigmoid, "swiglu": functional.silu, "geglu": functional.gelu, "reglu": functional.relu}[name]
        y = ta * act(tb) if name == "glu" else act(ta) * tb
        close = dict(rtol=1e-12, atol=1e-13 * np.abs(b if name != "glu" else a).max())
        np.testing.assert_allclose(forward(name, a, b), y.detach().numpy(), **close)
        for ours, theirs in zip(backward(name, grad, a, b), torch.autograd.grad(y, (ta, tb), torch.from_numpy(grad))):
            np.testing.assert_allclose(ours, theirs.numpy(), **close)


SPECIAL = np.array([-np.inf, -1e30, -200.0, -1.0, -0.0, 0.0, 1.0, 1e30, np.inf, np.nan])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", NAMES)
class TestSpecials:
    def test_finite_factor(self, name, dtype):
        """Gates at their limits: shut is 0, open is the factor times the gate."""
        gate, up = (v.ravel() for v in np.meshgrid(SPECIAL, [-2.0, 0.5]))
        a, b = ((up, gate) if name == "glu" else (gate, up))
        a, b = a.astype(dtype), b.astype(dtype)
        with np.errstate(all="raise"):
            y = forward(name, a, b)
            gradients = backward(name, np.ones_like(a), a, b)
        np.testing.assert_allclose(y, reference.GATED[name](a, b), rtol=1e-6, atol=1e-40)
        for ours, wanted in zip(gradients, reference.GATED_BACKWARD[name](np.ones_like(a), a, b)):
            np.testing.assert_allclose(ours, wanted, rtol=1e-6, atol=1e-40)

    def test_nan_in_nan_out(self, name, dtype):
        nan, one = np.array([np.nan, 1.0, 1.0], dtype), np.array([-300.0, np.nan, 2.0], dtype)
        for a, b in ((nan, one), (one, nan)):
            assert list(np.isnan(forward(name, a, b))) == [True, True, False]
        grad = np.array([np.nan], dtype)
        for gradient in backward(name, grad, np.array([1.0], dtype), np.array([1.0], dtype)):
            assert np.isnan(gradient[0])

    def test_infinite_factor(self, name, dtype):
        gate = np.array([-np.inf, 2.0, 2.0], dtype)
        up = np.array([np.inf, np.inf, -np.inf], dtype)
        y = forward(name, up, gate) if name == "glu" else forward(name, gate, up)
        assert list(y) == [0, np.inf, -np.inf]


@pytest.mark.parametrize("name", NAMES)
class TestPacked:
    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("shape, axis", [((6,), 0), ((5, 8), -1), ((8, 5), 0), ((3, 4, 5), 1), ((200, 2), 1), ((2, 3000), 0),
                                             ((3, 4, 100), -2), ((0, 4), 1), ((4, 0), 0)])  # fmt: skip
    def test_halves_along_any_axis(self, name, dtype, shape, axis, rng):
        x = rng.normal(size=shape).astype(dtype)
        a, b = np.split(x, 2, axis=axis)
        grad = rng.normal(size=a.shape).astype(dtype)
        function = getattr(fa, name)
        y = function(x, axis=axis)
        assert same_bits(y, function.ufunc(a, b))
        wanted = np.concatenate(function.backward.ufunc(grad, a, b), axis=axis)
        assert same_bits(function.backward(grad, x, axis=axis), wanted)
        if name != "glu":
            assert same_bits(y, function(np.ascontiguousarray(a), np.ascontiguousarray(b)))
        # Not contiguous: through the ufunc.
        for view in (np.repeat(x, 2, axis=-1)[..., ::2], np.asfortranarray(x), x[::-1][::-1]):
            assert same_bits(function(view, axis=axis), y)
            assert same_bits(function.backward(grad, view, axis=axis), wanted)
        assert same_bits(function.backward(np.asfortranarray(grad), x, axis=axis), wanted)

    def test_out(self, name, rng):
        x, grad = rng.normal(size=(5, 8)).astype("f"), rng.normal(size=(5, 4)).astype("f")
        function = getattr(fa, name)
        y, wanted = function(x), function.backward(grad, x)
        for out in (np.empty((5, 4), "f"), np.empty((5, 8), "f")[:, ::2], np.empty((5, 4), order="F"), x.copy()[:, :4], x.copy()[:, 1:5]):
            assert function(x, out=out) is out
            assert np.array_equal(out, y)
        for out in (np.empty((5, 8), "f"), np.empty((8, 5), "f").T, np.empty((5, 8))):
            assert function.backward(grad, x, out=out) is out
            assert np.array_equal(out, wanted)
        z = x.copy()
        assert function.backward(grad, z, out=z) is z and same_bits(z, wanted)
        z = np.concatenate([grad, x], axis=1)  # out overlaps what is read, though not element by element
        out = z[:, 2:10]
        function.backward(z[:, :4], x, out=out)
        assert same_bits(out.copy(), wanted)

    def test_subclasses_and_dask(self, name, rng):
        x, function = rng.normal(size=(5, 8)), getattr(fa, name)
        masked = function(np.ma.array(x, mask=x > 2))
        assert isinstance(masked, np.ma.MaskedArray)
        array = pytest.importorskip("dask.array", reason="needs dask")
        lazy = array.from_array(x, chunks=(2, 4))
        assert isinstance(function(lazy), array.Array)
        np.testing.assert_array_equal(function(lazy), function(x))

    def test_errors(self, name):
        function = getattr(fa, name)
        with pytest.raises(ValueError, match="even length"):
            function(np.ones((2, 3)))
        with pytest.raises(np.exceptions.AxisError):
            function(np.ones((2, 4)), axis=2)
        with pytest.raises(np.exceptions.AxisError):
            function(1.0)
        with pytest.raises(TypeError):
            function(np.ones((2, 4), complex))
        with pytest.raises(TypeError):
            function()
        with pytest.raises(TypeError):
            function(np.ones((2, 4)), no_such_option=1)
        with pytest.raises(ValueError, match="shape"):
            function.backward(np.ones((3, 2)), np.ones((2, 4)))
        for bad in (np.full((2, 3), 7.0), np.full((2, 4), 7)):
            with pytest.raises((ValueError, TypeError)):
                function.backward(np.ones((2, 2)), np.ones((2, 4)), out=bad)
            assert np.all(bad == 7)
        with pytest.raises(ValueError):
            function(np.ones((2, 4)), out=np.ones((2, 4)))


@pytest.mark.parametrize("name", PAIRED)
class TestPair:
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_same_bits_however_laid_out(self, name, dtype, rng):
        function = getattr(fa, name)
        grad, gate, up = (rng.normal(size=(6, 70)).astype(dtype) for _ in range(3))
        y, pair = function(gate, up), function.backward(grad, gate, up)
        assert y.dtype == dtype and all(d.dtype == dtype and d.shape == gate.shape for d in pair)
        for view in (np.s_[::2], np.s_[:, ::-1], np.s_[::-1, 3::4], np.s_[2], np.s_[:, 5], np.s_[..., None]):
            assert same_bits(function(gate[view], up[view]), y[view])
            for ours, wanted in zip(function.backward(grad[view], gate[view], up[view]), pair):
                assert same_bits(ours, wanted[view])
        for length in range(70):
            assert same_bits(function(gate[0, :length], up[0, :length]), y[0, :length])
            for ours, wanted in zip(function.backward(grad[0, :length], gate[0, :length], up[0, :length]), pair):
                assert same_bits(ours, wanted[0, :length])

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_past_the_cache(self, name, dtype, rng, request):
        function = getattr(fa, name)
        arrays = [rng.normal(size=1200).astype(dtype) for _ in range(3)]
        y, pair = function(*arrays[1:]), function.backward(*arrays)
        request.getfixturevalue("no_cache")
        for part in (np.s_[:], np.s_[5:1111]):
            parts = [a[part] for a in arrays]
            assert same_bits(function(*parts[1:]), y[part])
            for first in (0, 16, 3):  # the two results in step, as lines of the cache go, and not
                memory = np.zeros((2, 1280), dtype)
                out = memory[0, : parts[0].size], memory[1, first:][: parts[0].size]
                function.backward(*parts, out=out)
                assert all(same_bits(ours, wanted[part]) for ours, wanted in zip(out, pair))
                assert np.count_nonzero(memory) == sum(map(np.count_nonzero, out))

    @pytest.mark.parametrize("size", [5, 700, 300_000])
    @pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
    def test_in_place(self, name, dtype, size, rng):
        """Both results may go where any two of the inputs are."""
        function = getattr(fa, name)
        arrays = [rng.normal(size=size).astype(dtype) for _ in range(3)]
        wanted = function.backward(*arrays)
        for places in ((1, 2), (2, 1), (0, 1), (0, 2), (2, 0)):
            inputs = [a.copy() for a in arrays]
            out = tuple(inputs[k] for k in places)
            assert function.backward(*inputs, out=out)[0] is out[0]
            assert all(same_bits(ours, w) for ours, w in zip(out, wanted))
            inputs = [np.repeat(a, 2)[::2] for a in arrays]  # the ufunc's lane
            function.backward(*inputs, out=tuple(inputs[k] for k in places))
            assert all(same_bits(inputs[k].copy(), w) for k, w in zip(places, wanted))
        gate = arrays[1].copy()
        assert function(gate, arrays[2], out=gate) is gate
        assert same_bits(gate, function(arrays[1], arrays[2]))

    def test_overlapping_outputs(self, name, rng):
        function = getattr(fa, name)
        grad, gate, up = (rng.normal(size=1000) for _ in range(3))
        wanted = function.backward(grad, gate, up)
        memory = np.concatenate([gate, up, [0.0]])
        out = memory[1:1001], memory[1001:]
        function.backward(grad, memory[:1000], memory[1000:2000], out=out)
        assert all(same_bits(ours, w) for ours, w in zip(out, wanted))

    def test_threads_and_big_outputs(self, name, set_num_threads, rng):
        function = getattr(fa, name)
        small = [rng.normal(size=1009).astype("f") for _ in range(3)]
        big = [np.tile(v, 9000) for v in small]
        y, pair = np.tile(function(*small[1:]), 9000), [np.tile(d, 9000) for d in function.backward(*small)]
        for threads in (1, 2, 5):
            set_num_threads(threads)
            assert same_bits(function(*big[1:]), y)
            out = tuple(np.empty(big[0].size + k, "f")[k:] for k in (1, 3))
            assert all(same_bits(ours, w) for ours, w in zip(function.backward(*big, out=out), pair))
        packed = np.stack(big[1:])
        assert same_bits(function(packed, axis=0)[0], y)
        assert same_bits(function.backward(big[0][None], packed, axis=0), np.stack(pair))

    def test_is_called_like_a_ufunc(self, name, rng):
        function = getattr(fa, name)
        gate, up = rng.normal(size=(3, 4)), rng.normal(size=4)
        y = function(gate, up)
        assert same_bits(y, function(gate, np.broadcast_to(up, (3, 4)).copy()))
        mask = np.array([True, False, True, True])
        out = np.full((3, 4), 7.0)
        function(gate, up, out=out, where=mask)
        assert np.all(out[:, ~mask] == 7) and same_bits(out[:, mask], y[:, mask])
        outs = np.full((3, 4), 7.0), np.full((3, 4), 7.0)
        function.backward(1.0, gate, up, out=outs, where=mask)
        for ours, wanted in zip(outs, function.backward(1.0, gate, up)):
            assert np.all(ours[:, ~mask] == 7) and same_bits(ours[:, mask], wanted[:, mask])
        first, second = np.empty((3, 4)), np.empty((3, 4))
        assert function.backward(1.0, gate, up, first, second)[1] is second
        assert function.backward(np.ones((3, 4)), gate, gate, out=(first, None))[0] is first
        assert function(gate, up, dtype="f").dtype == np.float32
        assert type(function(0.5, 2.0)) is np.float64
        assert function(np.float32([1, 2]), 2.0).dtype == np.float32
        assert function(np.arange(3), np.arange(3)).dtype == np.float64

    def test_agrees_with_numba(self, name, rng):
        pytest.importorskip("numba", reason="needs Numba")
        gate, up = rng.normal(size=(2, 100))
        function = getattr(fa, name)
        y, pair = function(gate, up), function.backward(up, gate, up)
        with fa.use_backend("numba"):
            for ours, wanted in zip((function(gate, up), *function.backward(up, gate, up)), (y, *pair)):
                np.testing.assert_allclose(ours, wanted, 1e-14, 1e-15)  # fused or not, bits may differ

    def test_errors(self, name):
        function, ones = getattr(fa, name), np.ones(3)
        with pytest.raises(ValueError):
            function(ones, np.ones(4))
        with pytest.raises(TypeError, match="axis"):
            function(ones, ones, axis=0)
        with pytest.raises(TypeError):
            function.backward(ones)
        with pytest.raises(TypeError):
            function(ones, ones, ones, ones)
        with pytest.raises((TypeError, ValueError)):
            function.backward(ones, ones, ones, out=np.ones(3))
        with pytest.raises(ValueError):
            function.backward(ones, ones, ones, out=(np.ones(3), np.ones(4)))


@pytest.mark.parametrize("name", NAMES)
class TestObject:
    def test_says_what_it_is(self, name):
        function, row = getattr(fa, name), ROWS[name]
        assert function.name == function.__name__ == name and name in fa.__all__
        assert row.summary[:-1] in function.__doc__ and row.formula in function.__doc__
        assert row.gradients[0] in function.backward.__doc__
        assert function.max_ulp["float32"] == row.max_ulp[0]
        assert (function.ufunc.nin, function.ufunc.nout) == (2, 1)
        assert (function.backward.ufunc.nin, function.backward.ufunc.nout) == (3, 2)
        assert "fff->ff" in function.backward.types
        parameters = inspect.signature(function).parameters
        assert list(parameters)[: 2 - (name == "glu")] == (["x"] if name == "glu" else list(row.inputs))
        assert parameters["axis"].default == -1
        for method in (function, function.backward):
            assert pickle.loads(pickle.dumps(method)) is method


class TestMaxout:
    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("shape, axis", [((5,), 0), ((4, 3), -1), ((3, 4), 0), ((2, 3, 5), 1), ((1500, 2), 1), ((3, 1500), 0),
                                             ((2, 0, 3), -1), ((6, 1), 1), ((700, 4), 1), ((300, 12), 1), ((5, 1024), 1), ((3, 2050), 1)])  # fmt: skip
    def test_against_the_reference(self, shape, axis, dtype, rng):
        """Small integers, so that pieces tie."""
        x = rng.integers(-3, 3, shape).astype(dtype)
        y = fa.maxout(x, axis)
        assert y.dtype == x.dtype and np.array_equal(y, reference.maxout(x, axis))
        grad = rng.normal(size=y.shape).astype(dtype)
        wanted = reference.maxout_backward(grad, x, axis).astype(dtype)
        assert same_bits(fa.maxout.backward(grad, x, axis), wanted)
        assert same_bits(fa.maxout.backward(grad, np.asfortranarray(x), axis), wanted)
        assert np.array_equal(fa.maxout(np.repeat(x, 2, axis=-1)[..., ::2], axis), y)
        z = x.copy()
        assert fa.maxout.backward(grad, z, axis, out=z) is z and same_bits(z, wanted)

    def test_first_of_the_largest_wins(self):
        assert list(fa.maxout.backward(2.0, np.array([1.0, 3.0, 3.0]))) == [0, 2, 0]

    def test_nan_and_infinities(self):
        x = np.array([[1, np.nan, np.nan], [-np.inf, -np.inf, -np.inf], [np.inf, 0, np.inf]])
        np.testing.assert_array_equal(fa.maxout(x), [np.nan, -np.inf, np.inf])
        np.testing.assert_array_equal(fa.maxout.backward(np.ones(3), x), [[0, np.nan, 0], [1, 0, 0], [1, 0, 0]])

    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("pieces", [2, 3, 4, 6])
    def test_nan_in_any_place(self, pieces, dtype):
        x = np.arange(1000 * pieces).reshape(1000, pieces).astype(dtype)
        x[np.arange(1000), np.arange(1000) % pieces] = np.where(np.arange(1000) % 7, np.nan, -1)
        np.testing.assert_array_equal(fa.maxout(x).astype("d"), x.astype("d").max(axis=1))
        np.testing.assert_array_equal(fa.maxout(np.ascontiguousarray(x.T), 0).astype("d"), x.astype("d").max(axis=1))

    def test_out_dtype_and_scalars(self, rng):
        x = rng.normal(size=(4, 3))
        for out in (np.empty(4), np.empty(8)[::2], np.empty(4, "f"), x[:, 0]):
            wanted = fa.maxout(x).astype(out.dtype)
            assert fa.maxout(x, out=out) is out and np.array_equal(out, wanted)
        assert fa.maxout([1, 3, 2]) == 3 and fa.maxout(np.int8([[1, 2]])).dtype == np.int8
        assert type(fa.maxout(np.float32([1, 2]))) is np.float32
        assert fa.maxout.backward(1.0, np.float32([1, 2])).dtype == np.float32
        assert fa.maxout.backward(1.0, [1, 2]).dtype == np.float64
        out = np.empty(1, "f")
        assert fa.maxout([[1e300, 1.0]], out=(out,)) is out and out == np.inf  # and no warning
        with pytest.raises(ValueError, match="one result, and out has 2"):
            fa.maxout([[1.0]], out=(out, out))

    @pytest.mark.parametrize("dtype", [">f2", ">f4", ">f8", ">i4"])
    def test_other_byte_order(self, dtype):
        x = np.array([[1, 2, 3], [4, 9, 6]], dtype)
        assert list(fa.maxout(x)) == [3, 9] and fa.maxout(x).dtype.isnative
        assert fa.maxout.backward(np.ones(2), x).tolist() == [[0, 0, 1], [0, 1, 0]]

    def test_dtypes_without_kernels(self):
        """NumPy's maximum is as exact; gradients there are none."""
        x = np.array([[1, 2, 3], [4, 9, 6]], np.longdouble)
        assert list(fa.maxout(x)) == [3, 9] and fa.maxout(x).dtype == np.longdouble
        if x.dtype != np.float64:
            with pytest.raises(TypeError, match="no kernels for"):
                fa.maxout.backward(np.ones(2), x)

    def test_threads(self, set_num_threads, rng):
        x, grad = rng.normal(size=(100_000, 3)).astype("f"), rng.normal(size=100_000).astype("f")
        for threads in (1, 3):
            set_num_threads(threads)
            assert np.array_equal(fa.maxout(x), x.max(axis=1))
            assert np.array_equal(fa.maxout.backward(grad, x), reference.maxout_backward(grad, x).astype("f"))

    def test_errors(self):
        with pytest.raises(ValueError, match="no pieces"):
            fa.maxout(np.empty((3, 0)))
        with pytest.raises(np.exceptions.AxisError):
            fa.maxout(np.ones(3), 1)
        for bad in (np.ones(3, complex), np.ones(3, [("number", float)])):
            with pytest.raises(TypeError):
                fa.maxout(bad)
        with pytest.raises(ValueError, match="shape"):
            fa.maxout(np.ones((2, 3)), out=np.ones(3))
        with pytest.raises(ValueError, match="shape"):
            fa.maxout.backward(np.ones(3), np.ones((2, 3)))
        with pytest.raises(TypeError):
            fa.maxout.backward(np.ones(2), np.ones((2, 3)), out=np.ones((2, 3), int))
