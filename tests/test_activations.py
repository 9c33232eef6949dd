"""The activation objects: what they carry, how parameters are given, derivative, backward, and properties."""

import copy
import inspect
import math
import pickle

import numpy as np
import pytest
from cases import (
    DTYPES,
    FROM_OUTPUT,
    KINDS,
    NAMES,
    PARAMETERS,
    ROWS,
    Method,
    backward,
    breaking_points,
    defaults,
    same_bits,
)
from hypothesis import given
from hypothesis import strategies as st

import fastact as fa

x5 = np.array([-4.0, -0.25, 0.0, 0.75, 5.0])


@pytest.mark.parametrize("name", NAMES)
class TestObject:
    def test_is_listed_and_public(self, name):
        assert name in fa.list_activations()
        assert name in fa.__all__
        assert name in dir(fa)

    def test_says_what_it_is(self, name):
        activation, row = getattr(fa, name), ROWS[name]
        assert activation.name == activation.__name__ == name
        assert activation.nin == 1 + len(row.parameters)
        assert activation.backward_needs == ("output" if row.from_output else "input")
        assert [parameter for parameter, _ in row.parameters] == list(activation.parameters)
        assert name in repr(activation)

    def test_ufunc(self, name):
        ufunc = getattr(fa, name).ufunc
        assert isinstance(ufunc, np.ufunc)
        assert ufunc.nin == getattr(fa, name).nin
        assert ufunc.nout == 1
        assert list(getattr(fa, name).types) == list(ufunc.types)
        for code in "efd":
            parameters = ("f" if code == "e" else code) * len(ROWS[name].parameters)
            assert code + parameters + "->" + code in ufunc.types

    def test_signature(self, name):
        """x is positional only, the parameters follow with their defaults, then out, then NumPy's keywords."""
        for method in (getattr(fa, name), getattr(fa, name).derivative, getattr(fa, name).backward):
            parameters = inspect.signature(method).parameters
            for parameter, default in ROWS[name].parameters:
                assert parameters[parameter].kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
                if default is not None:
                    assert parameters[parameter].default == default
            assert parameters["out"].default is None
            for keyword in ("where", "dtype", "casting", "order", "subok"):
                assert parameters[keyword].kind is inspect.Parameter.KEYWORD_ONLY
        first = next(iter(inspect.signature(getattr(fa, name)).parameters.values()))
        assert (first.name, first.kind) == ("x", inspect.Parameter.POSITIONAL_ONLY)

    def test_documentation(self, name):
        activation, row = getattr(fa, name), ROWS[name]
        assert row.summary.split()[0] in activation.__doc__
        assert row.formula in activation.__doc__
        for method in (activation.derivative, activation.backward):
            assert method.__doc__

    def test_pickles_by_name(self, name):
        activation = getattr(fa, name)
        assert pickle.loads(pickle.dumps(activation)) is activation
        assert copy.copy(activation) is activation
        assert copy.deepcopy(activation) is activation
        for method in (activation.derivative, activation.backward):
            assert pickle.loads(pickle.dumps(method)) is method

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_keeps_the_dtype(self, name, dtype, kind):
        y = Method(name, kind)(x5.astype(dtype), *defaults(name))
        assert type(y) is np.ndarray
        assert y.dtype == dtype and y.shape == x5.shape

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_backward_of_one_is_the_derivative(self, name, dtype):
        x = breaking_points("float32", 500).astype(np.float64).clip(-6e4, 6e4).astype(dtype)
        gradient = backward(getattr(fa, name), np.ones_like(x), x, *defaults(name))
        assert same_bits(gradient, getattr(fa, name).derivative(x, *defaults(name)))

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_backward_multiplies(self, name, dtype, rng):
        x, g = (rng.uniform(-4, 4, 300).astype(dtype) for _ in range(2))
        got = backward(getattr(fa, name), g, x, *defaults(name))
        slope = getattr(fa, name).derivative(x.astype(np.float64), *defaults(name))
        x, g = x.astype(np.float64), g.astype(np.float64)
        bits = {"float16": 11, "bfloat16": 8, "float32": 24, "float64": 53}[np.dtype(dtype).name]
        assert np.all(np.abs(got.astype(np.float64) - g * slope) <= 6 * 2.0**-bits * np.abs(g) * np.maximum(1, slope))

    def test_backward_broadcasts_and_writes_into_the_gradient(self, name):
        if name == "prelu":
            pytest.skip("returns two gradients")
        activation, parameters = getattr(fa, name), defaults(name)
        x = np.linspace(-3, 3, 12).reshape(3, 4)
        wanted = activation.backward(np.full((3, 4), 2.0), x, *parameters)
        assert same_bits(activation.backward(2.0, x, *parameters), wanted)
        assert same_bits(activation.backward(np.full(4, 2.0), x, *parameters), wanted)
        g = np.full((3, 4), 2.0)
        assert activation.backward(g, x, *parameters, out=g) is g
        assert same_bits(g, wanted)

    def test_python_scalars_give_numpy_scalars(self, name):
        parameters = defaults(name)
        for method in (getattr(fa, name), getattr(fa, name).derivative):
            y = method(0.5, *parameters)
            assert type(y) is np.float64
            assert y == method(np.array([0.5]), *parameters)[0]
        assert type(getattr(fa, name)(np.float32(0.5), *parameters)) is np.float32

    def test_lists_are_arrays(self, name):
        y = getattr(fa, name)([[0.5, -1.0]], *defaults(name))
        assert same_bits(y, getattr(fa, name)(np.array([[0.5, -1.0]]), *defaults(name)))

    @pytest.mark.parametrize(
        "bad", [np.array([1j]), np.array([None]), np.array(["a"]), "a", None, {}, np.array([b"a"])]
    )
    def test_other_kinds_raise_type_error(self, name, bad):
        for method in (getattr(fa, name), getattr(fa, name).derivative):
            with pytest.raises(TypeError):
                method(bad, *defaults(name))
        with pytest.raises(TypeError):
            getattr(fa, name).backward(bad, bad, *defaults(name))

    def test_missing_and_surplus_arguments_raise_type_error(self, name):
        activation = getattr(fa, name)
        with pytest.raises(TypeError):
            activation()
        with pytest.raises(TypeError):
            activation(x5, *defaults(name), None, 1.0)
        with pytest.raises(TypeError):
            activation(x5, *defaults(name), no_such_option=1)
        with pytest.raises(TypeError):
            activation.backward(x5)


@pytest.mark.parametrize("name", FROM_OUTPUT)
class TestBackwardFromOutput:
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_agrees_with_backward_from_input(self, name, dtype):
        x = np.linspace(-3, 3, 61).astype(dtype)
        activation, parameters = getattr(fa, name), defaults(name)
        named = dict(zip(activation.parameters, parameters))
        from_output = activation.backward(np.ones_like(x), output=activation(x, *parameters), **named)
        assert from_output.dtype == dtype
        np.testing.assert_allclose(
            from_output, activation.derivative(x, *parameters), rtol=0, atol=8 * np.finfo(dtype).eps
        )

    def test_in_place(self, name):
        y, g = getattr(fa, name)(x5), np.full(5, 2.0)
        wanted = getattr(fa, name).backward(g, output=y)
        assert getattr(fa, name).backward(g, output=y, out=g) is g
        assert same_bits(g, wanted)

    def test_input_and_output_together_raise(self, name):
        with pytest.raises(TypeError):
            getattr(fa, name).backward(x5, x5, output=x5)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in FROM_OUTPUT])
def test_backward_from_output_is_refused_where_impossible(name):
    """... and the message names the input."""
    named = dict(zip(getattr(fa, name).parameters, defaults(name)))
    with pytest.raises(TypeError, match="input|x"):
        getattr(fa, name).backward(np.ones(3), output=np.ones(3), **named)


@pytest.mark.parametrize("name", list(PARAMETERS))
class TestParameters:
    def test_by_position_and_by_name(self, name):
        activation = getattr(fa, name)
        for parameters in PARAMETERS[name]:
            named = dict(zip(activation.parameters, parameters))
            assert same_bits(activation(x5, *parameters), activation(x5, **named))
            assert same_bits(activation.derivative(x5, *parameters), activation.derivative(x5, **named))

    def test_out_after_the_parameters(self, name):
        activation, parameters = getattr(fa, name), PARAMETERS[name][0]
        out = np.empty(5)
        assert activation(x5, *parameters, out) is out
        assert same_bits(out, activation(x5, *parameters))

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_python_numbers_are_weak(self, name, dtype):
        assert getattr(fa, name)(x5.astype(dtype), *PARAMETERS[name][0]).dtype == dtype

    def test_strong_parameters_take_part_in_the_promotion(self, name):
        parameters = [np.float64(p) for p in PARAMETERS[name][0]]
        assert getattr(fa, name)(x5.astype("f"), *parameters).dtype == np.float64

    @pytest.mark.parametrize("kind", ["forward", "derivative"])
    def test_arrays_broadcast(self, name, kind):
        method = Method(name, kind)
        arrays = [np.array([p, 2 * p]) for p in PARAMETERS[name][0]]
        y = method(x5[:, None], *arrays)
        assert y.shape == (5, 2)
        for column in range(2):
            assert same_bits(np.ascontiguousarray(y[:, column]), method(x5, *(float(a[column]) for a in arrays)))

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_scalar_and_array_parameters_give_the_same_bits(self, name, dtype):
        """As long as the dtype holds the parameter."""
        parameters = [float(np.float32(np.array(p).astype(dtype))) for p in PARAMETERS[name][0]]
        x = np.linspace(-5, 5, 301).astype(dtype)
        arrays = [np.full(x.shape, p).astype(dtype) for p in parameters]
        assert same_bits(getattr(fa, name)(x, *parameters), getattr(fa, name)(x, *arrays))

    def test_wrong_shapes_raise_value_error(self, name):
        with pytest.raises(ValueError):
            getattr(fa, name)(x5, *(np.ones(3) for _ in PARAMETERS[name][0]))


def test_every_function_with_parameters_is_tested_with_others():
    assert sorted(PARAMETERS) == sorted(name for name in NAMES if ROWS[name].parameters)


class TestUnusualParameters:
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_nan(self, dtype):
        x = np.array([-2, -0.5, 0.5, 2], dtype)
        for function in (fa.swish, fa.swish.derivative, fa.leaky_relu.derivative, fa.elu, fa.softplus, fa.squareplus):
            assert np.isnan(function(x, np.nan)[:2].astype(float)).all()
        assert np.isnan(fa.swish(x, np.nan).astype(float)).all()

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    @pytest.mark.parametrize("alpha", [4.0, 100.0, 1e20])
    def test_celu_where_x_by_alpha_is_subnormal(self, alpha, dtype):
        x = -np.finfo(dtype).tiny * np.arange(1, 200, dtype=dtype)
        assert same_bits(fa.celu(x, alpha), x)

    def test_a_number_that_overflows_is_no_warning(self):
        x = np.ones(10, "f")
        for y in (fa.leaky_relu(-x[::2], 1e300), fa.leaky_relu(-x, 1e300), fa.leaky_relu.backward(x, -x, 1e300)):
            assert np.isinf(y).all()


class TestPrelu:
    x = np.linspace(-2, 2, 24).reshape(2, 3, 4)

    def test_backward_returns_both_gradients(self):
        g = np.arange(24.0).reshape(2, 3, 4)
        dx, dweight = fa.prelu.backward(g, self.x, 0.25)
        assert same_bits(dx, g * np.where(self.x > 0, 1, 0.25))
        np.testing.assert_allclose(dweight, np.sum(g * np.minimum(self.x, 0)), rtol=1e-14)
        assert np.shape(dweight) == ()

    @pytest.mark.parametrize("shape", [(4,), (1,), (3, 1), (1, 3, 1), (2, 3, 4)])
    def test_gradient_of_the_weight_has_its_shape(self, shape, rng):
        g, weight = rng.normal(size=self.x.shape), rng.uniform(0, 1, shape)
        dweight = fa.prelu.backward(g, self.x, weight)[1]
        assert dweight.shape == shape and dweight.dtype == np.float64
        contribution = g * np.minimum(self.x, 0)
        lead = self.x.ndim - len(shape)
        axes = tuple(range(lead)) + tuple(lead + i for i, n in enumerate(shape) if n == 1)
        np.testing.assert_allclose(dweight, contribution.sum(axis=axes).reshape(shape), rtol=1e-12)

    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("x_shape, shape", [
        ((70_000,), ()), ((3, 70_000), (1,)), ((300, 7), (7,)), ((40_000, 3), (3,)), ((2, 900), (900,)), ((4, 5, 700), (5, 1)),
        ((2, 3, 70_000), (3, 1)), ((3, 4, 5, 6), (4, 5, 1)), ((6, 5), (6, 1)), ((6, 5), (6, 5)), ((3, 4, 5), (3, 1, 5)),
        ((5, 1, 3), (1, 3)), ((0, 3), (3,)),
    ])  # fmt: skip
    def test_one_pass_gives_what_two_would(self, x_shape, shape, dtype, rng):
        x, g, weight = (rng.normal(size=size).astype(dtype) for size in (x_shape, x_shape, shape))
        weight = np.abs(weight).astype(dtype)
        dx, dweight = fa.prelu.backward(g, x, weight)
        others = fa.prelu.backward(g, x, weight, where=np.ones(x_shape, bool))
        assert same_bits(dx, others[0]) and dweight.dtype == dtype and np.shape(dweight) == shape
        terms = np.abs(g.astype(float) * np.minimum(x.astype(float), 0))
        atol = 1e-12 * terms.sum()
        rtol = {"float16": 2e-3, "bfloat16": 2e-2, "float32": 3e-7, "float64": 1e-12}[np.dtype(dtype).name]
        np.testing.assert_allclose(np.float64(dweight), np.float64(others[1]), rtol=rtol, atol=atol)
        out = g.copy()
        assert fa.prelu.backward(out, x, weight, out=out)[0] is out
        assert same_bits(out, dx)

    @pytest.mark.parametrize("shape", [(), (300,), (500, 1)])
    @pytest.mark.parametrize("view", [
        lambda a: np.repeat(a, 2, axis=-1)[..., ::2], lambda a: a[::-1, ::-1].copy()[::-1, ::-1], np.asfortranarray,
        lambda a: np.repeat(a, 3, axis=0)[::3], lambda a: a.astype(a.dtype.newbyteorder()),
    ], ids=["gaps", "backwards", "fortran", "gaps between rows", "other byte order"])  # fmt: skip
    def test_same_bits_whatever_the_strides(self, shape, view, rng):
        x, g, weight = rng.normal(size=(500, 300)).astype("f"), rng.normal(size=(500, 300)).astype("f"), np.full(shape, 0.25, "f")
        wanted = fa.prelu.backward(g, x, weight)
        out = view(np.zeros_like(x))
        for found in (fa.prelu.backward(view(g), x, weight), fa.prelu.backward(g, view(x), weight), fa.prelu.backward(g, x, weight, out=out)):
            assert same_bits(found[0].astype("f"), wanted[0]) and same_bits(found[1], wanted[1])
        assert found[0] is out

    def test_one_number_as_gradient_for_all(self):
        x = np.linspace(-1, 1, 1000)
        one, all_ = (fa.prelu.backward(g, x, 0.25) for g in (np.broadcast_to(2.0, 1000), np.full(1000, 2.0)))
        assert same_bits(one[0], all_[0]) and one[1] == all_[1]

    @pytest.mark.parametrize("end", [slice(0, 1000), slice(1, 1001), slice(1000, 0, -1), slice(0, 2000, 2)])
    def test_an_output_that_overlaps_an_input(self, end, rng):
        memory = rng.normal(size=2000)
        x, g = memory[:1000], rng.normal(size=1000)
        wanted = fa.prelu.backward(g, x.copy(), 0.25)
        found = fa.prelu.backward(g, x, 0.25, out=memory[end])
        assert same_bits(found[0], wanted[0]) and same_bits(found[1], wanted[1])

    def test_an_output_that_holds_the_weight(self):
        weight = np.full((2, 5000), 0.5)
        dx, dweight = fa.prelu.backward(np.full((2, 5000), 2.0), np.full((2, 5000), -2.0), weight[0, :1], out=weight)
        assert dx is weight and (dx == 1).all() and list(dweight) == [-40000]

    @pytest.mark.parametrize("options", [{}, {"where": True}])
    @pytest.mark.parametrize("weight", [0.5, [0.5]])
    def test_what_is_positive_does_not_count(self, weight, options):
        """Were its gradient infinite or NaN."""
        dx, dweight = fa.prelu.backward(np.array([np.inf, np.nan, 1.0]), np.array([2.0, 1.0, -1.0]), weight, **options)
        assert same_bits(dx, [np.inf, np.nan, 0.5]) and dweight == -1

    def test_a_weight_that_is_too_large(self):
        """... is told of before anything is written."""
        out = np.zeros((2, 3))
        with pytest.raises(ValueError, match=r"shape \(3,\) of its arrays, not one of shape \(2, 3\)"):
            fa.prelu.backward(np.ones(3), -np.ones(3), np.ones((2, 3)), out=out)
        assert not out.any()
        assert fa.prelu.backward(np.ones(3, "f"), -np.ones(3, "f"), 1e300)[0][0] == np.inf  # and no warning

    def test_what_is_missing(self):
        with pytest.raises(TypeError, match="needs x and weight"):
            fa.prelu.backward(np.ones(3))
        with pytest.raises(TypeError, match="grad_output must be real numbers"):
            fa.prelu.backward(np.ones(3, complex), np.ones(3), 0.5)

    def test_scalars_for_scalars(self):
        for x in (-2.0, np.float64(-2), np.array(-2.0)):
            assert [type(v) for v in fa.prelu.backward(np.float64(1), x, 0.5)] == [np.float64] * 2

    @pytest.mark.parametrize("weight", [np.float32(0.25), np.array(0.25, "f")])
    def test_a_weight_of_numpy_s_is_a_number_too(self, weight):
        """It takes the same pass."""
        g = self.x.astype("f")
        wanted, found = fa.prelu.backward(g, g, 0.25), fa.prelu.backward(g, g, weight)
        assert type(found[1]) is np.float32 and all(map(same_bits, found, wanted))

    @pytest.mark.parametrize("shape", [(), (300,), (500, 1)])
    def test_same_bits_for_any_number_of_threads(self, shape, set_num_threads, rng):
        x, g = rng.normal(size=(2, 500, 300)).astype("f"), rng.normal(size=(2, 500, 300)).astype("f")
        wanted = None
        for threads in (1, 2, 5):
            set_num_threads(threads)
            dx, dweight = fa.prelu.backward(g, x, np.full(shape, 0.25, "f"))
            wanted = wanted or (dx, dweight)
            assert same_bits(dx, wanted[0]) and same_bits(dweight, wanted[1])

    def test_what_where_leaves_out_does_not_count(self, rng):
        g, weight, where = rng.normal(size=self.x.shape), rng.uniform(size=(3, 1)), rng.random(self.x.shape) < 0.5
        dx, dweight = fa.prelu.backward(g, self.x, weight, out=np.zeros_like(g), where=where)
        wanted = fa.prelu.backward(np.where(where, g, 0), self.x, weight)
        assert np.array_equal(dx, wanted[0])
        np.testing.assert_allclose(dweight, wanted[1], rtol=1e-14)

    def test_float32(self):
        x = np.linspace(-1, 1, 1001, dtype=np.float32)
        dx, dweight = fa.prelu.backward(np.ones_like(x), x, np.array([0.25], np.float32))
        assert dx.dtype == dweight.dtype == np.float32
        np.testing.assert_allclose(dweight, x[x < 0].astype(np.float64).sum(keepdims=True), rtol=1e-6)


class TestRrelu:
    x = np.linspace(-2, 2, 1000)

    def test_evaluation_uses_the_mean_slope(self):
        slope = (1 / 8 + 1 / 3) / 2
        np.testing.assert_allclose(fa.rrelu(self.x), np.where(self.x > 0, self.x, slope * self.x), rtol=1e-15)
        np.testing.assert_allclose(fa.rrelu.derivative(self.x), np.where(self.x > 0, 1, slope), rtol=1e-15)
        np.testing.assert_allclose(fa.rrelu.backward(self.x, self.x), self.x * np.where(self.x > 0, 1, slope), rtol=1e-15)
        y, slopes = fa.rrelu(self.x, return_slopes=True)
        assert slopes == slope and same_bits(y, fa.rrelu(self.x))

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_training_draws_a_slope_for_every_element(self, dtype):
        x = self.x.astype(dtype)
        y, slopes = fa.rrelu(x, 0.1, 0.5, training=True, rng=3, return_slopes=True)
        assert y.dtype == x.dtype and slopes.shape == x.shape
        assert slopes.min() >= 0.1 and slopes.max() <= 0.5 and abs(slopes.mean() - 0.3) < 0.02
        assert same_bits(y, fa.leaky_relu(x, slopes))
        grad = np.ones_like(x)
        gradient = fa.rrelu.backward(grad, x, slopes=slopes)
        assert same_bits(gradient, fa.leaky_relu.backward(grad, x, slopes))
        assert same_bits(fa.rrelu.backward(grad, x, slopes), gradient)
        assert same_bits(fa.rrelu.backward(grad, output=y, slopes=slopes)[x != 0], gradient[x != 0])

    def test_rng(self):
        first = fa.rrelu(self.x, training=True, rng=5)
        assert same_bits(fa.rrelu(self.x, 1 / 8, 1 / 3, True, 5), first)
        assert same_bits(fa.rrelu(self.x, training=True, rng=np.random.default_rng(5)), first)
        assert not same_bits(fa.rrelu(self.x, training=True, rng=6), first)
        assert not same_bits(fa.rrelu(self.x, training=True), fa.rrelu(self.x, training=True))

    def test_out_and_broadcasting(self):
        out = self.x.copy()
        assert fa.rrelu(out, training=True, rng=1, out=out) is out
        assert same_bits(out, fa.rrelu(self.x, training=True, rng=1))
        y = fa.rrelu(self.x[:, None], [0.0, 0.5], [0.0, 0.5], training=True)
        assert same_bits(y[:, 1].copy(), fa.leaky_relu(self.x, 0.5))

    def test_errors(self):
        with pytest.raises(ValueError, match="between"):
            fa.rrelu(self.x, 0.5, 0.1, training=True)
        with pytest.raises(TypeError):
            fa.rrelu(self.x, 0.1, lower=0.1, training=True)
        with pytest.raises(TypeError):
            fa.rrelu(self.x.astype(complex), training=True)
        with pytest.raises(TypeError, match="slopes"):
            fa.rrelu.backward(self.x, self.x, slopes=self.x, lower=0.1)


class TestKinks:
    """The derivative at a kink, where PyTorch has it."""

    @pytest.mark.parametrize("name, x, wanted", [
        ("relu", 0, 0), ("relu6", 0, 0), ("relu6", 6, 0), ("leaky_relu", 0, 0.01), ("elu", 0, 1), ("celu", 0, 1),
        ("selu", 0, 1.0507009873554805 * 1.6732632423543772), ("hardtanh", -1, 0), ("hardtanh", 1, 0),
        ("hardsigmoid", -3, 0), ("hardsigmoid", 3, 0), ("hardswish", -3, 0), ("hardswish", 3, 1),
        ("softshrink", 0.5, 0), ("softshrink", -0.5, 0), ("hardshrink", 0.5, 0), ("hardshrink", -0.5, 0),
        ("relu_squared", 0, 0),
    ])  # fmt: skip
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_derivative(self, name, x, wanted, dtype):
        x = np.full(20, x).astype(dtype)
        assert np.all(getattr(fa, name).derivative(x) == np.array(wanted).astype(dtype))
        if name in FROM_OUTPUT and name != "selu":
            assert np.all(getattr(fa, name).backward(np.ones_like(x), output=x) == np.array(wanted).astype(dtype))

    def test_with_parameters(self):
        assert fa.elu.derivative(0.0, 2.0) == 2.0
        assert fa.prelu.derivative(0.0, 0.25) == 0.25
        assert fa.threshold.derivative(1.0, 1.0, 5.0) == 0
        assert fa.threshold(1.0, 1.0, 5.0) == 5.0

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_hardsigmoid_saturates_exactly(self, dtype):
        assert list(fa.hardsigmoid(np.array([-3, 0, 3]).astype(dtype)).astype(float)) == [0, 0.5, 1]


class TestSourceTextMistakes:
    """What the tutorials that this package starts from got wrong."""

    def test_tanh_is_finite_everywhere_and_keeps_its_digits_near_zero(self):
        assert list(fa.tanh(np.array([-1000.0, 1000.0]))) == [-1, 1]
        assert fa.tanh(1e-10) == 1e-10
        np.testing.assert_allclose(fa.tanh(np.array([-1.0, 0, 1])), [-0.7615941559557649, 0, 0.7615941559557649])

    def test_sigmoid_does_not_overflow(self):
        with np.errstate(all="raise"):
            assert list(fa.sigmoid(np.array([-710.0, -1000.0, 1000.0])))[1:] == [0, 1]
            assert list(fa.sigmoid(np.array([-89.0, -1000.0, 1000.0], np.float32)))[1:] == [0, 1]

    def test_sigmoid_is_steepest_at_zero(self):
        x = np.linspace(-5, 5, 101)
        assert fa.sigmoid.derivative(0.0) == 0.25 == fa.sigmoid.derivative(x).max()

    def test_tanh_derivative_is_one_minus_its_square(self):
        x = np.linspace(-3, 3, 100)
        np.testing.assert_allclose(fa.tanh.derivative(x), 1 - np.tanh(x) ** 2, rtol=1e-13)

    def test_relu_shows_divergence(self):
        assert np.isnan(fa.relu(np.nan))


FLOATS = st.floats(allow_nan=False, allow_infinity=False)
INCREASING = ["identity", "sigmoid", "tanh", "relu", "relu6", "leaky_relu", "rrelu", "elu", "selu", "celu", "softplus",
              "softsign", "softshrink", "hardshrink", "tanhshrink", "hardtanh", "hardsigmoid", "logsigmoid",
              "squareplus", "relu_squared"]  # fmt: skip
ODD = ["identity", "tanh", "softsign", "softshrink", "hardshrink", "tanhshrink", "hardtanh"]
BOUNDS = {"sigmoid": (0, 1), "tanh": (-1, 1), "softsign": (-1, 1), "relu6": (0, 6), "hardtanh": (-1, 1),
          "hardsigmoid": (0, 1), "elu": (-1, None), "celu": (-1, None), "logsigmoid": (None, 0), "softplus": (0, None),
          "squareplus": (0, None), "relu": (0, None), "relu_squared": (0, None), "silu": (-0.2784645427610739, None),
          "gelu": (-0.16997120747990369, None), "mish": (-0.30884021625962126, None)}  # fmt: skip


class TestProperties:
    @pytest.mark.parametrize("name", INCREASING)
    @given(a=FLOATS, b=FLOATS)
    def test_increasing(self, name, a, b):
        """To within the promised error."""
        low, high = map(float, getattr(fa, name)(np.array([min(a, b), max(a, b)])))
        assert low <= high + 2 * ROWS[name].max_ulp[1] * math.ulp(high)

    @pytest.mark.parametrize("name", ODD)
    @given(x=FLOATS)
    def test_odd(self, name, x):
        positive, negative = getattr(fa, name)(np.array([x, -x]))
        assert positive == -negative

    @pytest.mark.parametrize("name", BOUNDS)
    @given(x=FLOATS)
    def test_bounds(self, name, x):
        low, high = BOUNDS[name]
        y = getattr(fa, name)(x)
        assert low is None or y >= low
        assert high is None or y <= high

    @given(x=st.floats(-700, 700))
    def test_reflections(self, x):
        """s(x) + s(-x) = 1, and f(x) - f(-x) = x for what is x times such a gate, or an integral of one."""
        pair = np.array([x, -x])
        assert abs(fa.sigmoid(pair).sum() - 1) <= 4e-16
        for gated in (fa.silu, fa.gelu, fa.gelu_tanh, fa.gelu_quick, fa.softplus, fa.squareplus):
            positive, negative = gated(pair)
            assert abs(positive - negative - x) <= 1e-15 * max(1, abs(x))

    @given(x=st.floats(-30, 30))
    def test_identities(self, x):
        close = dict(rtol=1e-14, atol=1e-300)
        np.testing.assert_allclose(fa.tanh(x / 2), 2 * fa.sigmoid(x) - 1, rtol=1e-12, atol=1e-15)
        np.testing.assert_allclose(fa.logsigmoid(x), -fa.softplus(-x), **close)
        np.testing.assert_allclose(fa.swish(x), fa.silu(x), **close)
        np.testing.assert_allclose(fa.swish(x, 1.702), fa.gelu_quick(x), rtol=1e-13)
        np.testing.assert_allclose(fa.softplus.derivative(x), fa.sigmoid(x), **close)
        np.testing.assert_allclose(fa.elu(x, 1.0), fa.celu(x, 1.0), **close)
        np.testing.assert_allclose(fa.hardswish(x), x * fa.hardsigmoid(x), rtol=1e-14, atol=1e-15)

    @pytest.mark.parametrize("name", NAMES)
    def test_derivative_is_the_slope(self, name, rng):
        """Central differences, away from the kinks."""
        x = rng.uniform(-5, 5, 500)
        kinks = np.array([-3, -1, -0.5, 0, 0.25, 0.5, 1, 3, 6])
        x = x[np.min(np.abs(x[:, None] - kinks), axis=1) > 1e-3]
        function, h = getattr(fa, name), 1e-5
        slope = (function(x + h, *defaults(name)) - function(x - h, *defaults(name))) / (2 * h)
        np.testing.assert_allclose(function.derivative(x, *defaults(name)), slope, rtol=1e-8, atol=1e-9)


class TestIntegers:
    """Integers follow np.exp's rule for the result's dtype; relu and identity keep them."""

    @pytest.mark.parametrize("dtype", "?bBhHiIlLqQ")
    @pytest.mark.parametrize("name", NAMES)
    def test_result_dtype_and_value(self, name, dtype):
        x = np.array([0, 1, 3, 100]).astype(dtype)
        if dtype == "?" and ROWS[name].integers:
            pytest.skip("booleans are no integers")
        y = getattr(fa, name)(x, *defaults(name))
        if ROWS[name].integers:
            assert same_bits(y, x)
        else:
            with np.errstate(over="ignore"):
                wanted = np.exp(x).dtype
            assert y.dtype == wanted
            assert same_bits(y, getattr(fa, name)(x.astype(wanted), *defaults(name)))

    def test_relu_of_integers(self):
        for dtype in (np.int8, np.int64):
            info = np.iinfo(dtype)
            x = np.array([info.min, -1, 0, 1, info.max], dtype)
            assert same_bits(fa.relu(x), np.maximum(x, dtype(0)))
            assert same_bits(fa.identity(x), x)
        assert fa.relu(-3) == 0 and isinstance(fa.relu(-3), np.integer)

    def test_big_endian_input(self):
        x = np.array([-1.0, 0.5, 2.0])
        for dtype in (">f2", ">f4", ">f8"):
            swapped = x.astype(dtype)
            assert same_bits(fa.gelu(swapped), fa.gelu(x.astype(swapped.dtype.newbyteorder("="))))


class TestPreluBackward:
    def test_weight_gradient_when_out_is_grad_output(self):
        grad, x = np.array([1.0, 2.0, 3.0]), np.array([-1.0, 2.0, -3.0])
        expected = fa.prelu.backward(grad, x, 0.25)
        dx, dweight = fa.prelu.backward(grad, x, 0.25, out=grad)
        assert dx is grad and np.array_equal(dx, expected[0]) and dweight == expected[1] == -10

    @pytest.mark.parametrize("name", ["leaky_relu", "elu", "celu"])
    def test_output_does_not_tell_with_a_negative_parameter(self, name):
        function = getattr(fa, name)
        (parameter,) = function.parameters
        with pytest.raises(ValueError, match=parameter):
            function.backward(np.ones(3), output=np.ones(3), **{parameter: -0.1})
