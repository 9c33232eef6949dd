"""fa.check_grad: every gradient of the package passes, wrong ones are found and located."""

import pickle

import numpy as np
import pytest
from cases import NAMES, defaults, parameter_cases

import fastact as fa
from fastact.table import GATED

RNG = np.random.default_rng(4)
X = RNG.uniform(-4, 4, (4, 6))
CLASSES = RNG.integers(0, 6, 4)
P = fa.softmax(RNG.normal(size=(4, 6)))
SIGNS = np.sign(RNG.normal(size=(4, 6)))
OTHER = RNG.uniform(-4, 4, (4, 6))

# The arguments of every loss, the first of them in its domain.
LOSSES = {
    "softmax_cross_entropy": (X, CLASSES),
    "softmax_focal": (X, CLASSES),
    "linear_softmax_cross_entropy": (X, RNG.normal(size=(5, 6)), RNG.integers(0, 5, 4), RNG.normal(size=5)),
    "sigmoid_cross_entropy": (X, P),
    "sigmoid_focal": (X, (P > 0.2).astype(float)),
    "nll_loss": (np.log(P), CLASSES),
    "categorical_cross_entropy": (P, CLASSES),
    "binary_cross_entropy": (P, 1 - P[::-1]),
    "mse": (X, OTHER),
    "mae": (X, OTHER),
    "huber": (X, OTHER),
    "smooth_l1": (X, OTHER),
    "log_cosh": (X, OTHER),
    "kl_div": (np.log(P), P[::-1].copy()),
    "hinge": (X, SIGNS),
    "squared_hinge": (X, SIGNS),
    "poisson_nll": (X, np.abs(OTHER)),
    "gaussian_nll": (X, OTHER, np.exp(OTHER)),
}


class TestEveryFunction:
    @pytest.mark.parametrize("name, parameters", parameter_cases())
    def test_activation(self, name, parameters):
        if name in ("elu", "celu", "leaky_relu") and parameters[0] <= 0:
            pytest.skip("the output does not tell the derivative")
        result = fa.check_grad(name, X, *parameters)
        assert result.judged > 20

    @pytest.mark.parametrize("shape", [(), (6,), (4, 1), (4, 6)])
    def test_prelu_s_weight(self, shape):
        assert fa.check_grad("prelu", X, np.full(shape, 0.25)).judged

    @pytest.mark.parametrize("name", [row.name for row in GATED])
    def test_gated(self, name):
        assert fa.check_grad(name, X, axis=0)
        if name != "glu":
            assert fa.check_grad(name, X, OTHER)

    @pytest.mark.parametrize("axis", [0, 1])
    @pytest.mark.parametrize("name", ["softmax", "log_softmax", "softmin", "logsumexp", "sparsemax", "maxout"])
    def test_row_wise(self, name, axis):
        assert fa.check_grad(name, X, axis=axis)

    @pytest.mark.parametrize("name", fa.list_losses())
    @pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
    def test_loss(self, name, reduction):
        assert fa.check_grad(name, *LOSSES[name], reduction=reduction)


@pytest.mark.parametrize("x", [[1, 2], 3, [True, False], np.arange(4, dtype=np.int8), np.float16([0.1, 2])], ids=repr)
def test_any_real_numbers(x):
    for function in ("silu", "softmax" if np.ndim(x) else "tanh", lambda p: ((p**2).sum(), 2 * p)):
        assert fa.check_grad(function, x)


def test_only_real_numbers():
    for x in ([1j], ["1"], np.array(["2020"], "M8[D]")):
        with pytest.raises(TypeError):
            fa.check_grad("silu", x)


class TestWrongGradients:
    def test_are_located(self):
        def loss(p, t):
            gradient = 2 * (p - t)
            gradient[2, 3] *= 1.001
            return ((p - t) ** 2).sum(), gradient

        with pytest.raises(fa.GradientError) as caught:
            fa.check_grad(loss, X, OTHER)
        result = caught.value.result
        assert not result and result.index == (2, 3) and result.what == "value_and_grad"
        np.testing.assert_allclose(result.analytic / result.numeric, 1.001, rtol=1e-6)
        np.testing.assert_allclose(result.error, 1e-3, rtol=2e-3)
        assert "(2, 3)" in str(caught.value) and "does not agree" in str(caught.value)
        assert fa.check_grad(loss, X, OTHER, tolerance=1e-2)
        assert pickle.loads(pickle.dumps(caught.value)).result == result

    def test_derivative(self):
        class Wrong:
            @staticmethod
            def derivative(x):
                return np.tanh(1 - np.tanh(x))

            __call__ = staticmethod(np.tanh)

        with pytest.raises(fa.GradientError, match="derivative"):
            fa.check_grad(Wrong(), X)

    def test_nan(self):
        with pytest.raises(fa.GradientError):
            fa.check_grad(lambda p: (p.sum(), np.full(p.shape, np.nan)), X)

    def test_of_the_wrong_shape(self):
        with pytest.raises(ValueError, match="shape"):
            fa.check_grad(lambda p: (p.sum(), np.ones(3)), X)


def test_kinks_are_not_judged():
    result = fa.check_grad("relu", np.array([0.0, 1e-5, 1.0, -1.0]))
    assert (result.judged, result.unjudged) == (2, 2)
    with pytest.raises(fa.GradientError):
        fa.check_grad("relu", [0.0])


def test_many_elements_are_sampled():
    result = fa.check_grad(lambda p: (np.sin(p).sum(), np.cos(p)), np.linspace(-3, 3, 5000), places=50)
    assert result.judged == 50
    assert result == fa.check_grad(lambda p: (np.sin(p).sum(), np.cos(p)), np.linspace(-3, 3, 5000), places=50)


def test_float32_input_is_checked_in_float64():
    assert fa.check_grad("gelu", X.astype("f")).error < 1e-7


def test_something_else():
    with pytest.raises(TypeError, match="derivative, backward or value_and_grad"):
        fa.check_grad(np.tanh, X)
    with pytest.raises(ValueError, match="did you mean"):
        fa.check_grad("gleu", X)
    assert fa.check_grad("silu", np.empty(0))


def test_every_activation_is_covered():
    assert set(NAMES) == {case.values[0] for case in parameter_cases()} and all(defaults(name) is not None for name in NAMES)
