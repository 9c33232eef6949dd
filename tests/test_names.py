"""fa.get: the names that other libraries have."""

import pickle

import numpy as np
import pytest

import fastact as fa
from fastact.names import ELSEWHERE, SPELLINGS

# Promised losses; those that are not there yet are unknown names.
LOSSES = """softmax_cross_entropy linear_softmax_cross_entropy softmax_focal sigmoid_cross_entropy sigmoid_focal nll_loss
    categorical_cross_entropy binary_cross_entropy mse mae huber smooth_l1 log_cosh kl_div hinge squared_hinge poisson_nll
    gaussian_nll""".split()


@pytest.mark.parametrize("name, wanted", [
    ("gelu", "gelu"), ("nn.GELU", "gelu"), ("torch.nn.functional.gelu", "gelu"), ("keras.activations.gelu", "gelu"),
    ("Gelu", "gelu"), ("jax.nn.gelu", "gelu_tanh"), ("gelu_new", "gelu_tanh"), ("gelu_pytorch_tanh", "gelu_tanh"),
    ("keras.ops.gelu", "gelu_tanh"), ("quick_gelu", "gelu_quick"), ("LeakyReLU", "leaky_relu"), ("leaky_relu", "leaky_relu"),
    ("PReLU", "prelu"), ("PRelu", "prelu"), ("hard_sigmoid", "hardsigmoid"), ("HardSigmoid", "hardsigmoid"),
    ("Hardsigmoid", "hardsigmoid"), ("hard_silu", "hardswish"), ("Hardswish", "hardswish"), ("log_sigmoid", "logsigmoid"),
    ("LogSigmoid", "logsigmoid"), ("expit", "sigmoid"), ("scipy.special.log_expit", "logsigmoid"), ("Swish", "swish"),
    ("SiLU", "silu"), ("linear", "identity"), ("nn.Identity", "identity"), ("soft_sign", "softsign"), ("ReLU6", "relu6"),
    ("hard_tanh", "hardtanh"), ("Tanhshrink", "tanhshrink"), ("soft_shrink", "softshrink"), ("relu2", "relu_squared"),
    ("Softmax", "softmax"), ("LogSoftmax", "log_softmax"), ("LogSumExp", "logsumexp"), ("GumbelSoftmax", "gumbel_softmax"),
    ("GLU", "glu"), ("SwiGLU", "swiglu"), ("Maxout", "maxout"),
    ("CrossEntropyLoss", "softmax_cross_entropy"), ("cross_entropy", "softmax_cross_entropy"),
    ("SoftmaxCrossEntropyLoss", "softmax_cross_entropy"),
    ("binary_cross_entropy_with_logits", "sigmoid_cross_entropy"), ("BCEWithLogitsLoss", "sigmoid_cross_entropy"),
    ("optax.sigmoid_binary_cross_entropy", "sigmoid_cross_entropy"), ("BCELoss", "binary_cross_entropy"),
    ("NLLLoss", "nll_loss"), ("NegativeLogLikelihoodLoss", "nll_loss"), ("L1Loss", "mae"), ("l1_loss", "mae"),
    ("MSELoss", "mse"), ("mse_loss", "mse"), ("MeanSquaredError", "mse"), ("mean_absolute_error", "mae"), ("HuberLoss", "huber"),
    ("SmoothL1Loss", "smooth_l1"), ("LogCosh", "log_cosh"), ("KLDivLoss", "kl_div"), ("kl_divergence", "kl_div"),
    ("KLDivergence", "kl_div"), ("hinge_loss", "hinge"), ("SquaredHinge", "squared_hinge"), ("PoissonNLLLoss", "poisson_nll"),
    ("gaussian_nll_loss", "gaussian_nll"), ("sparse_categorical_crossentropy", "categorical_cross_entropy"),
])  # fmt: skip
def test_spellings(name, wanted):
    if wanted in LOSSES and wanted not in fa.list_losses():
        pytest.skip(f"there is no {wanted} yet")
    assert fa.get(name) is getattr(fa, wanted)


def test_every_function_has_a_line_and_every_spelling_one_meaning():
    names = {*fa.list_activations(), *fa.list_losses(), "glu", "swiglu", "geglu", "reglu", "maxout", "softmax", "log_softmax",
             "softmin", "logsumexp", "sparsemax", "gumbel_softmax"}  # fmt: skip
    assert names <= SPELLINGS.keys() <= names | set(LOSSES)
    spellings = [spelling for others in SPELLINGS.values() for spelling in others.split()]
    assert len(spellings) == len(set(spellings)) and not SPELLINGS.keys() & set(spellings)
    for name in names:
        assert fa.get(name) is getattr(fa, name)


def test_the_module_says_which_is_meant():
    x = np.linspace(-4, 4, 9)
    np.testing.assert_array_equal(fa.get("onnx.HardSigmoid")(x), fa.hardsigmoid(x, 0.2))
    np.testing.assert_array_equal(fa.get("keras.layers.LeakyReLU")(x), fa.leaky_relu(x, 0.3))
    np.testing.assert_array_equal(fa.get("tf.keras.activations.leaky_relu")(x), fa.leaky_relu(x, 0.2))
    np.testing.assert_array_equal(fa.get("ThresholdedRelu")(x), np.where(x > 1, x, 0))
    assert all(hasattr(fa, name) for _, name, _ in ELSEWHERE)


def test_a_bound_function_has_derivative_and_backward():
    bound, x = fa.get("onnx.HardSigmoid"), np.linspace(-4, 4, 9)
    np.testing.assert_array_equal(bound.derivative(x), fa.hardsigmoid.derivative(x, 0.2))
    np.testing.assert_array_equal(bound.backward(x, x), fa.hardsigmoid.backward(x, x, 0.2))
    assert fa.check_grad(bound, x[1:-1] + 0.1)
    assert pickle.loads(pickle.dumps(bound)).keywords == {"alpha": 0.2}


def test_a_callable_comes_back():
    assert fa.get(fa.gelu) is fa.gelu and fa.get(np.tanh) is np.tanh


@pytest.mark.parametrize("name, near", [("sigmoyd", "sigmoid"), ("LeekyReLU", "leaky_relu"), ("CrosEntropyLoss", "cross_entropy"),
                                        ("torch.nn.GLEU", "gelu")])  # fmt: skip
def test_unknown_names_get_the_nearest(name, near):
    with pytest.raises(ValueError, match=f"unknown function '{name}'; did you mean .*{near}"):
        fa.get(name)


def test_no_names():
    with pytest.raises(ValueError, match="there are identity, sigmoid"):
        fa.get("zzzzzz")
    with pytest.raises(TypeError):
        fa.get(3)
