"""NumPy and SciPy: their functions, or a few of them one after the other, without temporaries where memory is given."""

import functools

import numpy as np
from threadpoolctl import threadpool_limits

import fastact as fa

from .optional import from_table, optional, version

special = optional("scipy.special")


def of_exp(inner, outer, x, y):
    """x, or where it is negative outer (exp(inner x) - 1)."""
    y = np.minimum(x, 0, out=y)
    y = np.multiply(np.expm1(np.multiply(y, inner, out=y), out=y), outer, out=y)
    return np.maximum(x, y, out=y)


def threshold(x, y, threshold, value):
    y = np.empty_like(x) if y is None else y
    np.copyto(y, value)
    np.copyto(y, x, where=x > threshold)
    return y


def softsign_derivative(x, y):
    y = np.add(np.abs(x, out=y), 1, out=y)
    return np.reciprocal(np.square(y, out=y), out=y)


def sigmoid_derivative(x, y):
    y = np.reciprocal(np.add(np.exp(np.negative(x, out=y), out=y), 1, out=y), out=y)
    return np.subtract(y, np.square(y), out=y)


def tanh_derivative(x, y):
    y = np.square(np.tanh(x, out=y), out=y)
    return np.subtract(1, y, out=y)


def sparsemax(x, y, axis):
    """By sorting, as the paper does."""
    x, y = np.moveaxis(x, axis, -1), None if y is None else np.moveaxis(y, axis, -1)
    ordered = -np.sort(-x, axis=-1)
    sums = np.cumsum(ordered, axis=-1) - 1
    size = np.count_nonzero(ordered * np.arange(1, x.shape[-1] + 1) > sums, axis=-1, keepdims=True)
    shifted = np.subtract(x, np.take_along_axis(sums, size - 1, -1) / size, out=y, dtype=x.dtype, casting="same_kind")
    return np.moveaxis(np.maximum(shifted, 0, out=y), -1, axis)


def linear_cross_entropy(x, weight, target, dx):
    """What a call in chunks must not take much longer than: the matrix products at once, and the fused loss between them."""
    logits = x @ weight.T
    fa.softmax_cross_entropy.value_and_grad(logits, target, grad_out=logits)
    np.matmul(logits, weight, out=dx)
    logits.T @ x  # noqa: B018


NUMPY = {
    "identity": lambda x, y: np.positive(x, out=y),
    "sigmoid": lambda x, y: np.reciprocal(np.add(np.exp(np.negative(x, out=y), out=y), 1, out=y), out=y),
    "sigmoid.derivative": sigmoid_derivative,
    "tanh": lambda x, y: np.tanh(x, out=y),
    "tanh.derivative": tanh_derivative,
    "relu": lambda x, y: np.maximum(x, 0, out=y),
    "relu.derivative": lambda x, y: np.greater(x, 0, out=y, casting="unsafe"),
    "relu.backward": lambda g, x, y, dx: np.multiply(g, x > 0, out=dx),
    "relu6": lambda x, y: np.clip(x, 0, 6, out=y),
    "leaky_relu": lambda x, y, slope: np.maximum(np.multiply(x, slope, out=y), x, out=y),
    "prelu": lambda x, y, weight: np.maximum(np.multiply(x, weight, out=y), x, out=y),
    "rrelu": lambda x, y, lower, upper: np.maximum(np.multiply(x, (lower + upper) / 2, out=y), x, out=y),
    "elu": lambda x, y, alpha: of_exp(1, alpha, x, y),
    "celu": lambda x, y, alpha: of_exp(1 / alpha, alpha, x, y),
    "mish": lambda x, y: np.multiply(x, np.tanh(np.logaddexp(x, 0, out=y), out=y), out=y),
    "softplus": lambda x, y, beta: np.logaddexp(x, 0, out=y),
    "softsign": lambda x, y: np.divide(x, np.add(np.abs(x, out=y), 1, out=y), out=y),
    "softsign.derivative": softsign_derivative,
    "softshrink": lambda x, y, lambd: np.subtract(x, np.clip(x, -lambd, lambd, out=y), out=y),
    "hardshrink": lambda x, y, lambd: np.multiply(x, np.greater(np.abs(x, out=y), lambd), out=y),
    "tanhshrink": lambda x, y: np.subtract(x, np.tanh(x, out=y), out=y),
    "tanhshrink.derivative": lambda x, y: np.square(np.tanh(x, out=y), out=y),
    "threshold": threshold,
    "threshold.derivative": lambda x, y, threshold, value: np.greater(x, threshold, out=y, casting="unsafe"),
    "hardtanh": lambda x, y, low, high: np.clip(x, low, high, out=y),
    "hardsigmoid": lambda x, y, a, b: np.clip(np.add(np.multiply(x, a, out=y), b, out=y), 0, 1, out=y),
    "hardswish": lambda x, y: np.multiply(x, np.clip(np.add(np.divide(x, 6, out=y), 0.5, out=y), 0, 1, out=y), out=y),
    "squareplus": lambda x, y, b: np.multiply(
        np.add(np.sqrt(np.add(np.square(x, out=y), b, out=y), out=y), x, out=y), 0.5, out=y
    ),
    "relu_squared": lambda x, y: np.square(np.maximum(x, 0, out=y), out=y),
    "relu_squared.derivative": lambda x, y: np.multiply(np.maximum(x, 0, out=y), 2, out=y),
    "reglu": lambda a, b, y: np.multiply(np.maximum(a, 0, out=y), b, out=y),
    "maxout": lambda x, y: np.max(x, axis=-1, out=y),
    "sparsemax": sparsemax,
    "linear_softmax_cross_entropy": linear_cross_entropy,
}

SCIPY = {
    "sigmoid": lambda x, y: special.expit(x, out=y),
    "gelu": lambda x, y: np.multiply(x, special.ndtr(x, out=y), out=y),
    "gelu_quick": lambda x, y: np.multiply(x, special.expit(np.multiply(x, 1.702, out=y), out=y), out=y),
    "silu": lambda x, y: np.multiply(x, special.expit(x, out=y), out=y),
    "swish": lambda x, y, beta: np.multiply(x, special.expit(np.multiply(x, beta, out=y), out=y), out=y),
    "softplus.derivative": lambda x, y, beta: special.expit(np.multiply(x, beta, out=y), out=y),
    "logsigmoid": lambda x, y: special.log_expit(x, out=y),
    "logsigmoid.derivative": lambda x, y: special.expit(np.negative(x, out=y), out=y),
    "softmax": lambda x, y, axis: special.softmax(x, axis=axis),
    "log_softmax": lambda x, y, axis: special.log_softmax(x, axis=axis),
    "logsumexp": lambda x, y, axis: special.logsumexp(x, axis=axis),
    "glu": lambda a, b, y: np.multiply(a, special.expit(b, out=y), out=y),
    "swiglu": lambda a, b, y: np.multiply(np.multiply(a, special.expit(a, out=y), out=y), b, out=y),
    "geglu": lambda a, b, y: np.multiply(np.multiply(a, special.ndtr(a, out=y), out=y), b, out=y),
}


# Optimizers: as the text books have them, in place with one array for what lies between. -------------------------------


def sgd(g, p):
    between = np.empty_like(p)

    def step():
        return np.subtract(p, np.multiply(g, 0.01, out=between), out=p)

    return step


def momentum(g, p, nesterov=False):
    velocity, between = np.zeros_like(p), np.empty_like(p)

    def step():
        np.add(np.multiply(velocity, 0.9, out=velocity), g, out=velocity)
        direction = np.add(np.multiply(velocity, 0.9, out=between), g, out=between) if nesterov else velocity
        return np.subtract(p, np.multiply(direction, 0.01, out=between), out=p)

    return step


def adagrad(g, p):
    square, between = np.zeros_like(p), np.empty_like(p)

    def step():
        np.add(square, np.square(g, out=between), out=square)
        np.add(np.sqrt(square, out=between), 1e-10, out=between)
        return np.subtract(p, np.multiply(np.divide(g, between, out=between), 0.01, out=between), out=p)

    return step


def rmsprop(g, p):
    square, between = np.zeros_like(p), np.empty_like(p)

    def step():
        np.multiply(np.square(g, out=between), 0.1, out=between)
        np.add(np.multiply(square, 0.9, out=square), between, out=square)
        np.add(np.sqrt(square, out=between), 1e-8, out=between)
        return np.subtract(p, np.multiply(np.divide(g, between, out=between), 0.001, out=between), out=p)

    return step


def adam(g, p, decay=0.0):
    mean, square, between, steps = np.zeros_like(p), np.zeros_like(p), np.empty_like(p), 0

    def step():
        nonlocal steps
        steps += 1
        np.add(np.multiply(mean, 0.9, out=mean), np.multiply(g, 0.1, out=between), out=mean)
        np.multiply(np.square(g, out=between), 0.001, out=between)
        np.add(np.multiply(square, 0.999, out=square), between, out=square)
        root = np.sqrt(np.divide(square, 1 - 0.999**steps, out=between), out=between)
        np.divide(mean, np.add(root, 1e-8, out=between), out=between)
        if decay:
            np.multiply(p, 1 - 0.001 * decay, out=p)
        return np.subtract(p, np.multiply(between, 0.001 / (1 - 0.9**steps), out=between), out=p)

    return step


STEPS = {
    "SGD": sgd,
    "Momentum": momentum,
    "Nesterov": functools.partial(momentum, nesterov=True),
    "AdaGrad": adagrad,
    "RMSProp": rmsprop,
    "Adam": adam,
    "AdamW": functools.partial(adam, decay=0.01),
}


def bind(case, setting, arrays):
    if case.name in STEPS:
        gradient, start, _ = arrays
        return STEPS[case.name](gradient, start.copy())
    return from_table(NUMPY)(case, setting, arrays)


LIBRARIES = {"NumPy": bind} | ({"SciPy": from_table(SCIPY)} if special else {})
NAMES = (*NUMPY, *SCIPY, *STEPS)
VERSIONS = version("numpy") | (version("scipy") if special else {})


def set_num_threads(n):
    """Of the matrix products; all else in NumPy and SciPy has one."""
    threadpool_limits(n, user_api="blas")
