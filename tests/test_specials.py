"""Zero, infinity, NaN: values and derivatives are the limits of the function, signs of zero included."""

import numpy as np
import pytest
from cases import DTYPES, FROM_OUTPUT, KINDS, NAMES, PARAMETERS, Method, backward, defaults

import fastact as fa
from fastact._kernels import reference

INF = np.inf
SCALE, ALPHA = 1.0507009873554805, 1.6732632423543772

# name: f at -inf, -0, +0, +inf; f' at the same, with the default parameters.
LIMITS = {
    "identity": ((-INF, -0.0, 0.0, INF), (1, 1, 1, 1)),
    "sigmoid": ((0.0, 0.5, 0.5, 1), (0, 0.25, 0.25, 0)),
    "tanh": ((-1, -0.0, 0.0, 1), (0, 1, 1, 0)),
    "relu": ((0, 0, 0, INF), (0, 0, 0, 1)),
    "relu6": ((0, 0, 0, 6), (0, 0, 0, 0)),
    "leaky_relu": ((-INF, 0, 0, INF), (0.01, 0.01, 0.01, 1)),
    "prelu": ((-INF, 0, 0, INF), (0.25, 0.25, 0.25, 1)),
    "rrelu": ((-INF, 0, 0, INF), (11 / 48, 11 / 48, 11 / 48, 1)),
    "elu": ((-1, 0, 0, INF), (0, 1, 1, 1)),
    "selu": ((-SCALE * ALPHA, 0, 0, INF), (0, SCALE * ALPHA, SCALE * ALPHA, SCALE)),
    "celu": ((-1, 0, 0, INF), (0, 1, 1, 1)),
    "gelu": ((-0.0, 0, 0, INF), (0, 0.5, 0.5, 1)),
    "gelu_tanh": ((-0.0, 0, 0, INF), (0, 0.5, 0.5, 1)),
    "gelu_quick": ((-0.0, 0, 0, INF), (0, 0.5, 0.5, 1)),
    "silu": ((-0.0, 0, 0, INF), (0, 0.5, 0.5, 1)),
    "swish": ((-0.0, 0, 0, INF), (0, 0.5, 0.5, 1)),
    "mish": ((-0.0, 0, 0, INF), (0, 0.6, 0.6, 1)),
    "softplus": ((0.0, np.log(2), np.log(2), INF), (0, 0.5, 0.5, 1)),
    "softsign": ((-1, -0.0, 0.0, 1), (0, 1, 1, 0)),
    "softshrink": ((-INF, 0, 0, INF), (1, 0, 0, 1)),
    "hardshrink": ((-INF, 0, 0, INF), (1, 0, 0, 1)),
    "tanhshrink": ((-INF, -0.0, 0.0, INF), (1, 0, 0, 1)),
    "threshold": ((-1, -1, -1, INF), (0, 0, 0, 1)),
    "hardtanh": ((-1, -0.0, 0.0, 1), (0, 1, 1, 0)),
    "hardsigmoid": ((0, 0.5, 0.5, 1), (0, 1 / 6, 1 / 6, 0)),
    "hardswish": ((-0.0, 0, 0, INF), (0, 0.5, 0.5, 1)),
    "logsigmoid": ((-INF, -np.log(2), -np.log(2), 0), (1, 0.5, 0.5, 0)),
    "squareplus": ((0.0, 1, 1, INF), (0, 0.5, 0.5, 1)),
    "relu_squared": ((0, 0, 0, INF), (0, 0, 0, INF)),
}
POINTS = np.array([-INF, -0.0, 0.0, INF])


def test_every_function_has_its_limits():
    assert sorted(LIMITS) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
class TestLimits:
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_limits(self, name, dtype, kind):
        """In vectors and in their scalar rest."""
        wanted = np.array(LIMITS[name][kind != "forward"])
        for repeats in (1, 50):
            y = Method(name, kind)(np.tile(POINTS, repeats).astype(dtype), *defaults(name)).astype(np.float64)
            rtol = {"float16": 1e-3, "bfloat16": 8e-3, "float32": 2e-7, "float64": 5e-16}[np.dtype(dtype).name]
            np.testing.assert_allclose(y, np.tile(wanted, repeats), rtol=rtol, atol=0)

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_sign_of_zero(self, name, dtype):
        """Where the table above writes 0.0 or -0.0; a plain 0 there may have either sign."""
        y = getattr(fa, name)(POINTS.astype(dtype), *defaults(name)).astype(np.float64)
        for got, wanted in zip(y, LIMITS[name][0]):
            if isinstance(wanted, float) and wanted == 0:
                assert np.signbit(got) == np.signbit(wanted)

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_nan_in_nan_out(self, name, dtype, kind):
        for size in (1, 7, 100):
            x = np.full(size, np.nan).astype(dtype)
            x[1::2] = 1
            y = Method(name, kind)(x, *defaults(name)).astype(np.float64)
            assert np.all(np.isnan(y[::2])) and not np.any(np.isnan(y[1::2]))

    def test_nan_gradient_stays(self, name):
        assert np.isnan(backward(getattr(fa, name), np.array([np.nan]), np.array([-1.0]), *defaults(name)))

    def test_reference_has_the_same_limits(self, name):
        forward, derivative = LIMITS[name]
        np.testing.assert_allclose(reference.FORWARD[name](POINTS, *defaults(name)), forward, rtol=1e-15)
        np.testing.assert_allclose(reference.DERIVATIVE[name](POINTS, *defaults(name)), derivative, rtol=1e-15)
        assert np.isnan(reference.FORWARD[name](np.nan, *defaults(name)))
        assert np.isnan(reference.DERIVATIVE[name](np.nan, *defaults(name)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name, parameters", [(name, p) for name in PARAMETERS for p in PARAMETERS[name]])
def test_limits_with_other_parameters(name, parameters, dtype):
    """0 inf never makes a NaN, not even with a slope of 0."""
    x = np.array([-INF, INF] * 20).astype(dtype)
    for method, twin in ((getattr(fa, name), reference.FORWARD[name]),
                         (getattr(fa, name).derivative, reference.DERIVATIVE[name])):  # fmt: skip
        y = method(x, *parameters).astype(np.float64)
        np.testing.assert_allclose(y, twin(x, *parameters), rtol=8e-3)


# What the output is at the ends of its range, and the derivative there.
ENDS = {
    "sigmoid": ([0, 1], [0, 0]), "tanh": ([-1, 1], [0, 0]), "relu": ([0, INF], [0, 1]), "relu6": ([0, 6], [0, 0]),
    "leaky_relu": ([-INF, INF], [0.01, 1]), "rrelu": ([-INF, INF], [11 / 48, 1]), "elu": ([-1, INF], [0, 1]), "celu": ([-1, INF], [0, 1]),
    "selu": ([INF], [SCALE]), "softplus": ([0, INF], [0, 1]), "hardtanh": ([-1, 1], [0, 0]),
    "logsigmoid": ([-INF, 0], [1, 0]), "identity": ([-INF, INF], [1, 1]),
}  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", FROM_OUTPUT)
def test_derivative_from_the_ends_of_the_output(name, dtype):
    y, wanted = ENDS[name]
    y = np.array([*y, np.nan]).astype(dtype)
    got = getattr(fa, name).backward(np.ones_like(y), output=y)
    assert got.dtype == y.dtype
    np.testing.assert_array_equal(got.astype(float), np.array([*wanted, np.nan]).astype(dtype).astype(float))


class TestWhatPeersGetWrong:
    """Tails that one obvious formula or another loses. Values from mpmath."""

    @pytest.mark.parametrize("function, x, wanted", [
        (fa.silu, -90, -7.374611361591464e-38), (fa.silu, -100, -3.720075976020836e-42),
        (fa.gelu, -6, -5.9195258702261885e-09), (fa.gelu, -13, -7.952313719414843e-38),
        (fa.gelu_tanh, -6, -8.439646700762297e-11), (fa.mish, -90, -7.374611361591464e-38),
        (fa.softplus, 20, 20.000000002061153), (fa.softplus, -40, 4.248354255291589e-18),
        (fa.logsigmoid, 40, -4.248354255291589e-18), (fa.squareplus, -4000, 0.00024999998437500196),
        (fa.tanhshrink, 2**-13, 6.063297975679449e-13), (fa.sigmoid.derivative, 40, 4.248354255291589e-18),
        (fa.sigmoid.derivative, -80, 1.8048513878454153e-35), (fa.tanh.derivative, 20, 1.6993417021166355e-17),
        (fa.logsigmoid.derivative, 90, 8.194012623990515e-40), (fa.gelu.derivative, -9, -9.138937373906639e-18),
        (fa.silu.derivative, -30, -2.713710660963134e-12),
    ])  # fmt: skip
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_tail(self, function, x, wanted, dtype):
        info = np.finfo(dtype)
        got = function(np.full(40, x, dtype)).astype(np.float64)
        np.testing.assert_allclose(got, wanted, rtol=4 * info.eps, atol=float(info.smallest_subnormal))
