"""JAX, jitted. It has no memory to be given: every call makes a new array."""

import functools

import numpy as np

from ..cases import LEARNED, STRIDED
from .optional import optional, version

jax = optional("jax")
if jax:
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)

FORWARD = {
    "identity": lambda x: jnp.array(x, copy=True),
    "sigmoid": lambda x: jax.nn.sigmoid(x),
    "tanh": lambda x: jnp.tanh(x),
    "relu": lambda x: jax.nn.relu(x),
    "relu6": lambda x: jax.nn.relu6(x),
    "leaky_relu": lambda x, slope: jax.nn.leaky_relu(x, slope),
    "prelu": lambda x, weight: jax.nn.leaky_relu(x, weight),
    "rrelu": lambda x, lower, upper: jax.nn.leaky_relu(x, (lower + upper) / 2),
    "elu": lambda x, alpha: jax.nn.elu(x, alpha),
    "selu": lambda x: jax.nn.selu(x),
    "celu": lambda x, alpha: jax.nn.celu(x, alpha),
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),
    "gelu_tanh": lambda x: jax.nn.gelu(x),
    "gelu_quick": lambda x: x * jax.nn.sigmoid(1.702 * x),
    "silu": lambda x: jax.nn.silu(x),
    "swish": lambda x, beta: x * jax.nn.sigmoid(beta * x),
    "mish": lambda x: jax.nn.mish(x),
    "softplus": lambda x, beta: jax.nn.softplus(beta * x) / beta,
    "softsign": lambda x: jax.nn.soft_sign(x),
    "softshrink": lambda x, lambd: x - jnp.clip(x, -lambd, lambd),
    "hardshrink": lambda x, lambd: jnp.where(jnp.abs(x) > lambd, x, 0),
    "tanhshrink": lambda x: x - jnp.tanh(x),
    "threshold": lambda x, threshold, value: jnp.where(x > threshold, x, value),
    "hardtanh": lambda x, low, high: jnp.clip(x, low, high),
    "hardsigmoid": lambda x, a, b: jnp.clip(a * x + b, 0, 1),
    "hardswish": lambda x: jax.nn.hard_swish(x),
    "logsigmoid": lambda x: jax.nn.log_sigmoid(x),
    "squareplus": lambda x, b: jax.nn.squareplus(x, b),
    "relu_squared": lambda x: jnp.square(jax.nn.relu(x)),
    "glu": lambda a, b: a * jax.nn.sigmoid(b),
    "swiglu": lambda a, b: jax.nn.silu(a) * b,
    "geglu": lambda a, b: jax.nn.gelu(a, approximate=False) * b,
    "reglu": lambda a, b: jax.nn.relu(a) * b,
    "maxout": lambda x: jnp.max(x, axis=-1),
    "softmax": lambda x, axis: jax.nn.softmax(x, axis),
    "log_softmax": lambda x, axis: jax.nn.log_softmax(x, axis),
    "softmin": lambda x, axis: jax.nn.softmax(-x, axis),
    "logsumexp": lambda x, axis: jax.nn.logsumexp(x, axis),
}
"""Functions of the inputs and the parameters; derivatives and backward passes are theirs by reverse mode."""


def of_classes(log_p, t):
    return -jnp.take_along_axis(log_p, t[:, None], -1)


def softmax_focal(x, t):
    log_p = -of_classes(jax.nn.log_softmax(x), t)
    return -jnp.mean((1 - jnp.exp(log_p)) ** 2 * log_p)


def binary(x, t):
    """Cross-entropy of logits, element by element."""
    return jax.nn.softplus(x) - t * x


def sigmoid_focal(x, t):
    p = jax.nn.sigmoid(x)
    return jnp.sum((p * (1 - t) + (1 - p) * t) ** 2 * binary(x, t))


def huber(x, t):
    d = jnp.abs(x - t)
    return jnp.sum(jnp.where(d <= 1, d * d / 2, d - 0.5))


def linear_cross_entropy(x, weight, t):
    return jnp.mean(of_classes(jax.nn.log_softmax(x @ weight.T), t))


LOSSES = {
    "softmax_cross_entropy": lambda x, t: jnp.mean(of_classes(jax.nn.log_softmax(x), t)),
    "softmax_focal": softmax_focal,
    "nll_loss": lambda x, t: jnp.mean(of_classes(x, t)),
    "categorical_cross_entropy": lambda x, t: jnp.mean(of_classes(jnp.log(x), t)),
    "kl_div": lambda x, t: jnp.sum(jax.scipy.special.xlogy(t, t) - t * x) / len(x),
    "linear_softmax_cross_entropy": linear_cross_entropy,
    "sigmoid_cross_entropy": lambda x, t: jnp.sum(binary(x, t)),
    "binary_cross_entropy": lambda x, t: -jnp.sum(t * jnp.log(x) + (1 - t) * jnp.log1p(-x)),
    "mse": lambda x, t: jnp.sum(jnp.square(x - t)),
    "mae": lambda x, t: jnp.sum(jnp.abs(x - t)),
    "huber": huber,
    "smooth_l1": huber,
    "log_cosh": lambda x, t: jnp.sum(jnp.logaddexp(x - t, t - x)),
    "hinge": lambda x, t: jnp.sum(jnp.maximum(1 - x * t, 0)),
    "squared_hinge": lambda x, t: jnp.sum(jnp.square(jnp.maximum(1 - x * t, 0))),
    "sigmoid_focal": sigmoid_focal,
    "poisson_nll": lambda x, t: jnp.sum(jnp.exp(x) - t * x),
    "gaussian_nll": lambda x, t, v: jnp.sum(jnp.log(v) + jnp.square(x - t) / v) / 2,
}


def reverse(function, g, *inputs):
    return jax.vjp(function, *inputs)[1](g)


def of_loss(loss, variables):
    """A function that returns the value and the gradients of so many of the first inputs, that of the first one last."""

    def value_and_gradients(*inputs):
        value, gradients = jax.value_and_grad(loss, tuple(range(variables)))(*inputs)
        return value, *reversed(gradients)

    return value_and_gradients


def program(case, parameters, inputs):
    """The function to be compiled, whose last result is the one that is checked, and what it is given."""
    if case.name in LOSSES:
        return of_loss(LOSSES[case.name], 2 if case.function == "linear_softmax_cross_entropy" else 1), inputs

    def forward(*inputs):
        return FORWARD[case.function](*inputs, *parameters)

    if case.kind == "derivative":
        return lambda x: reverse(forward, jnp.ones_like(x), x), inputs
    if not case.name.endswith(".backward"):
        return lambda *inputs: (forward(*inputs),), inputs
    if case.kind == "gated":
        return lambda g, a, b: (forward(a, b), *reverse(forward, g, a, b)), inputs[:3]
    if case.function in LEARNED:
        weights = (np.asarray(value, inputs[1].dtype) for value in parameters)
        return lambda g, *inputs: reverse(FORWARD[case.function], g, *inputs)[::-1], (*inputs[:2], *weights)
    return lambda g, x: reverse(forward, g, x), inputs[:2]


def bind(case, setting, arrays):
    if setting.layout == STRIDED or case.function not in FORWARD.keys() | LOSSES.keys():
        return None
    function, inputs = program(case, case.parameters(setting), arrays[:-1])
    run = functools.partial(jax.jit(function), *map(jnp.asarray, inputs))
    return lambda: jax.block_until_ready(run())[-1]


LIBRARIES = {"JAX": bind} if jax else {}
NAMES = (*FORWARD, *LOSSES)
VERSIONS = version("jax") if jax else {}


def set_num_threads(n):
    """XLA starts, with the first computation, as many threads as this process has CPUs."""
