"""Obvious float64 NumPy twins of every function: the oracle of the tests and the last fallback.

Each dict maps a public name to a plain function. Inputs are taken to float64; the formulas are the stable ones, good to
about 1e-13 relative for every float32 input (``tests/test_accuracy.py`` holds them against mpmath), which is what
measuring float32 and the half types needs. Nothing here is fast, and nothing here warns.
"""

from __future__ import annotations

import functools
import math

import numpy as np

SELU_ALPHA = 1.6732632423543772
SELU_SCALE = 1.0507009873554805
SQRT_2_OVER_PI = math.sqrt(2 / math.pi)

erfc = np.vectorize(math.erfc, otypes=[np.float64])


def times(a, b):
    """a b with 0 inf = 0, the limit wherever one factor decays exponentially."""
    unsure = ((a == 0) & np.isinf(b)) | (np.isinf(a) & (b == 0))
    return np.where(unsure, np.copysign(0.0, a) * np.copysign(1.0, b), a * b)


def elementwise(functions):
    """The functions with what all of them share: float64 in and out, NaN in gives NaN out, no warning."""

    def twin(function):
        @functools.wraps(function)
        def quiet(x, *parameters):
            x, *parameters = (np.asarray(v, np.float64) for v in (x, *parameters))
            with np.errstate(all="ignore"):
                return np.where(np.isnan(x), np.nan, function(x, *parameters))

        return quiet

    return {name: twin(function) for name, function in functions.items()}


# Functions -----------------------------------------------------------------------------------------------------------


def sigmoid(x):
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, e) / (1 + e)


def leaky_relu(x, negative_slope=0.01):
    return np.where(x > 0, x, times(negative_slope, x))


def rrelu(x, lower=1 / 8, upper=1 / 3):
    return leaky_relu(x, (lower + upper) / 2)


def elu(x, alpha=1.0):
    return np.where(x > 0, x, alpha * np.expm1(x))


def celu(x, alpha=1.0):
    return np.where(x > 0, x, alpha * np.expm1(x / alpha))


def gaussian_cdf(x):
    return erfc(-x / math.sqrt(2)) / 2


def gaussian_pdf(x):
    return np.exp(-x * x / 2) / math.sqrt(2 * math.pi)


def gelu_tanh_argument(x):
    """2u and 2u' of x s(2u) = x (1 + tanh(u)) / 2."""
    return 2 * SQRT_2_OVER_PI * (x + 0.044715 * x**3), 2 * SQRT_2_OVER_PI * (1 + 3 * 0.044715 * x**2)


def swish(x, beta=1.0):
    return times(x, sigmoid(times(beta, x)))


def softplus(x, beta=1.0):
    return np.logaddexp(0, times(beta, x)) / beta


def mish_gate(x):
    return np.tanh(softplus(x))


def tanhshrink(x):
    taylor = [-21844 / 6081075, 1382 / 155925, -62 / 2835, 17 / 315, -2 / 15, 1 / 3]
    series = x**3 * np.polyval(taylor, x * x)
    return np.where(np.abs(x) < 0.1, series, x - np.tanh(x))


def hardtanh(x, min_val=-1.0, max_val=1.0):
    return np.minimum(np.maximum(x, min_val), max_val)


def squareplus(x, b=4.0):
    r = np.hypot(x, np.sqrt(b))
    return np.where(x >= 0, (x + r) / 2, b / 2 / (r - x))


FORWARD = elementwise({
    "identity": lambda x: x,
    "sigmoid": sigmoid,
    "tanh": np.tanh,
    "relu": lambda x: np.maximum(x, 0),
    "relu6": lambda x: hardtanh(x, 0, 6),
    "leaky_relu": leaky_relu,
    "prelu": leaky_relu,
    "rrelu": rrelu,
    "elu": elu,
    "selu": lambda x: SELU_SCALE * elu(x, SELU_ALPHA),
    "celu": celu,
    "gelu": lambda x: times(x, gaussian_cdf(x)),
    "gelu_tanh": lambda x: times(x, sigmoid(gelu_tanh_argument(x)[0])),
    "gelu_quick": lambda x: swish(x, 1.702),
    "silu": swish,
    "swish": swish,
    "mish": lambda x: times(x, mish_gate(x)),
    "softplus": softplus,
    "softsign": lambda x: np.where(np.isinf(x), np.sign(x), x / (1 + np.abs(x))),
    "softshrink": lambda x, lambd=0.5: np.sign(x) * np.maximum(np.abs(x) - lambd, 0),
    "hardshrink": lambda x, lambd=0.5: np.where(np.abs(x) > lambd, x, 0),
    "tanhshrink": tanhshrink,
    "threshold": lambda x, threshold, value: np.where(x > threshold, x, value),
    "hardtanh": hardtanh,
    "hardsigmoid": lambda x, alpha=1 / 6, beta=0.5: hardtanh(times(alpha, x) + beta, 0, 1),
    "hardswish": lambda x: times(x, hardtanh(x + 3, 0, 6) / 6),
    "logsigmoid": lambda x: -softplus(-x),
    "squareplus": squareplus,
    "relu_squared": lambda x: np.maximum(x, 0) ** 2,
})


# Derivatives ---------------------------------------------------------------------------------------------------------


def sigmoid_derivative(x):
    return sigmoid(x) * sigmoid(-x)


def swish_derivative(x, beta=1.0):
    z = times(beta, x)
    return sigmoid(z) + times(z, sigmoid_derivative(z))


def leaky_relu_derivative(x, negative_slope=0.01):
    return np.where(x > 0, 1, negative_slope)


def rrelu_derivative(x, lower=1 / 8, upper=1 / 3):
    return leaky_relu_derivative(x, (lower + upper) / 2)


def elu_derivative(x, alpha=1.0):
    return np.where(x > 0, 1, alpha * np.exp(x))


def gelu_tanh_derivative(x):
    z, dz = gelu_tanh_argument(x)
    return sigmoid(z) + times(x * dz, sigmoid_derivative(z))


def mish_derivative(x):
    w = mish_gate(x)
    return w + times(x, (1 - w * w) * sigmoid(x))


def shrink_derivative(x, lambd=0.5):
    return np.abs(x) > lambd


def inside(x, low, high):
    return (low < x) & (x < high)


def squareplus_derivative(x, b=4.0):
    r = np.hypot(x, np.sqrt(b))
    return np.where(np.isinf(x), x > 0, squareplus(x, b) / r)


DERIVATIVE = elementwise({
    "identity": np.ones_like,
    "sigmoid": sigmoid_derivative,
    "tanh": lambda x: 4 * sigmoid_derivative(2 * x),
    "relu": lambda x: x > 0,
    "relu6": lambda x: inside(x, 0, 6),
    "leaky_relu": leaky_relu_derivative,
    "prelu": leaky_relu_derivative,
    "rrelu": rrelu_derivative,
    "elu": elu_derivative,
    "selu": lambda x: SELU_SCALE * elu_derivative(x, SELU_ALPHA),
    "celu": lambda x, alpha=1.0: np.where(x > 0, 1, np.exp(x / alpha)),
    "gelu": lambda x: gaussian_cdf(x) + times(x, gaussian_pdf(x)),
    "gelu_tanh": gelu_tanh_derivative,
    "gelu_quick": lambda x: swish_derivative(x, 1.702),
    "silu": swish_derivative,
    "swish": swish_derivative,
    "mish": mish_derivative,
    "softplus": lambda x, beta=1.0: sigmoid(times(beta, x)),
    "softsign": lambda x: (1 / (1 + np.abs(x))) ** 2,
    "softshrink": shrink_derivative,
    "hardshrink": shrink_derivative,
    "tanhshrink": lambda x: np.tanh(x) ** 2,
    "threshold": lambda x, threshold, value: x > threshold,
    "hardtanh": lambda x, min_val=-1.0, max_val=1.0: inside(x, min_val, max_val),
    "hardsigmoid": lambda x, alpha=1 / 6, beta=0.5: np.where(inside(times(alpha, x) + beta, 0, 1), alpha, 0),
    "hardswish": lambda x: np.where(x <= -3, 0, np.where(x >= 3, 1, x / 3 + 0.5)),
    "logsigmoid": lambda x: sigmoid(-x),
    "squareplus": squareplus_derivative,
    "relu_squared": lambda x: 2 * np.maximum(x, 0),
})

DERIVATIVE_FROM_OUTPUT = elementwise({
    "identity": np.ones_like,
    "sigmoid": lambda y: y * (1 - y),
    "tanh": lambda y: (1 - y) * (1 + y),
    "relu": lambda y: y > 0,
    "relu6": lambda y: inside(y, 0, 6),
    "leaky_relu": leaky_relu_derivative,
    "rrelu": rrelu_derivative,
    "elu": lambda y, alpha=1.0: np.where(y > 0, 1, y + alpha),
    "selu": lambda y: np.where(y > 0, SELU_SCALE, y + SELU_SCALE * SELU_ALPHA),
    "celu": lambda y, alpha=1.0: np.where(y > 0, 1, y / alpha + 1),
    "softplus": lambda y, beta=1.0: -np.expm1(-beta * y),
    "hardtanh": lambda y, min_val=-1.0, max_val=1.0: inside(y, min_val, max_val),
    "logsigmoid": lambda y: -np.expm1(y),
})


# Gated ---------------------------------------------------------------------------------------------------------------


def gated(functions):
    """The functions of float64 arrays, NaN for NaN, without a warning."""

    def twin(function):
        @functools.wraps(function)
        def quiet(*arrays):
            arrays = [np.asarray(a, np.float64) for a in arrays]
            bad = np.isnan(sum(np.where(np.isnan(a), a, 0) for a in arrays))
            with np.errstate(all="ignore"):
                result = function(*arrays)
                return tuple(np.where(bad, np.nan, r) for r in result) if isinstance(result, tuple) else np.where(bad, np.nan, result)

        return quiet

    return {name: twin(function) for name, function in functions.items()}


def gated_by(activation):
    return lambda gate, up: times(FORWARD[activation](gate), up)


def gated_by_backward(activation):
    def backward(grad, gate, up):
        return times(grad * up, DERIVATIVE[activation](gate)), times(grad, FORWARD[activation](gate))

    return backward


GATED = gated({
    "glu": lambda value, gate: times(value, sigmoid(gate)),
    "swiglu": gated_by("silu"),
    "geglu": gated_by("gelu"),
    "reglu": gated_by("relu"),
})

GATED_BACKWARD = gated({
    "glu": lambda grad, value, gate: (times(grad, sigmoid(gate)), times(grad * value, sigmoid_derivative(gate))),
    "swiglu": gated_by_backward("silu"),
    "geglu": gated_by_backward("gelu"),
    "reglu": gated_by_backward("relu"),
})


def maxout(x, axis=-1):
    return np.max(np.asarray(x, np.float64), axis=axis)


def maxout_backward(grad_output, x, axis=-1):
    """To the first of the largest; np.argmax takes the first NaN before all."""
    x = np.asarray(x, np.float64)
    winner = np.expand_dims(np.argmax(x, axis=axis), axis)
    routed = np.where(np.isnan(np.take_along_axis(x, winner, axis)), np.nan, np.expand_dims(grad_output, axis))
    grad = np.zeros_like(x)
    np.put_along_axis(grad, winner, routed, axis)
    return grad


# Rows ----------------------------------------------------------------------------------------------------------------


def shifted_and_log_sum(x):
    """Along the last axis x - max and log(sum(exp(x - max))), the latter from the terms beside the largest."""
    if x.shape[-1] == 0:
        return x, np.zeros(x.shape[:-1] + (1,))
    largest = np.argmax(x, axis=-1)[..., None]
    shifted = x - np.take_along_axis(x, largest, -1)
    others = np.exp(shifted)
    np.put_along_axis(others, largest, np.exp(np.take_along_axis(shifted, largest, -1)) - 1, -1)
    return shifted, np.log1p(np.sum(others, axis=-1, keepdims=True))


def log_softmax(x, axis=-1, *, where=None, temperature=1.0):
    x = np.moveaxis(x / temperature, axis, -1)
    if where is not None:
        where = np.moveaxis(np.broadcast_to(where, np.moveaxis(x, -1, axis).shape), axis, -1)
        x = np.where(where, x, -np.inf)
    shifted, log_sum = shifted_and_log_sum(x)
    y = shifted - log_sum
    return np.moveaxis(y if where is None else np.where(where, y, -np.inf), -1, axis)


def softmax(x, axis=-1, *, where=None, temperature=1.0):
    return np.exp(log_softmax(x, axis, where=where, temperature=temperature))


def logsumexp(x, axis=-1, keepdims=False):
    x = np.moveaxis(x, axis, -1)
    largest = np.max(x, axis=-1, keepdims=True, initial=-np.inf)
    # An infinite maximum is the answer itself: inf - inf would hide it.
    y = np.where(np.isinf(largest), largest, largest + shifted_and_log_sum(x)[1])
    y = np.moveaxis(y, -1, axis)
    return y if keepdims else np.squeeze(y, axis)


def softmax_backward(grad_output, y, axis=-1):
    return y * (grad_output - np.sum(grad_output * y, axis=axis, keepdims=True))


def log_softmax_backward(grad_output, y, axis=-1):
    return grad_output - np.exp(y) * np.sum(grad_output, axis=axis, keepdims=True)


def logsumexp_backward(grad_output, x, axis=-1):
    return np.expand_dims(grad_output, axis) * softmax(x, axis)


def sparsemax(x, axis=-1, *, where=None):
    x = np.moveaxis(x, axis, -1)
    if where is not None:
        where = np.moveaxis(np.broadcast_to(where, np.moveaxis(x, -1, axis).shape), axis, -1)
        x = np.where(where, x, -np.inf)
    x = x - np.max(x, axis=-1, keepdims=True)
    ordered = -np.sort(-x, axis=-1)
    sums = np.cumsum(ordered, axis=-1) - 1
    size = np.sum(ordered * np.arange(1, x.shape[-1] + 1) > sums, axis=-1, keepdims=True)
    y = np.maximum(x - np.take_along_axis(sums, np.maximum(size, 1) - 1, -1) / size, 0)
    return np.moveaxis(y if where is None else np.where(where, y, 0), -1, axis)


def sparsemax_backward(grad_output, y, axis=-1):
    support = y != 0
    mean = np.sum(np.where(support, grad_output, 0), axis=axis, keepdims=True) / np.sum(support, axis=axis, keepdims=True)
    return np.where(support, grad_output - mean, 0)


def rowwise(inputs, functions):
    """The functions with their first ``inputs`` arguments in float64, a 0-d array as a row of one, and no warning."""

    def twin(function):
        @functools.wraps(function)
        def quiet(*arguments, **options):
            arrays = [np.asarray(a, np.float64) for a in arguments[:inputs]]
            with np.errstate(all="ignore"):
                if arrays[-1].ndim == 0:
                    return function(*(a[None] for a in arrays), *arguments[inputs:], **options).reshape(())
                return function(*arrays, *arguments[inputs:], **options)

        return quiet

    return {name: twin(function) for name, function in functions.items()}


ROWWISE = rowwise(1, {
    "softmax": softmax,
    "log_softmax": log_softmax,
    "softmin": lambda x, axis=-1, **options: softmax(-x, axis, **options),
    "logsumexp": logsumexp,
    "sparsemax": sparsemax,
})

ROWWISE_BACKWARD = rowwise(2, {
    "softmax": softmax_backward,
    "log_softmax": log_softmax_backward,
    "softmin": lambda grad_output, y, axis=-1: -softmax_backward(grad_output, y, axis),
    "logsumexp": logsumexp_backward,
    "sparsemax": sparsemax_backward,
})


# Losses --------------------------------------------------------------------------------------------------------------


def softmax_cross_entropy(logits, target, *, axis=-1, weight=None, ignore_index=-100, label_smoothing=0.0, z_loss=0.0,
                          reduction="mean"):
    """Value and gradient of -sum(c log_softmax) + z_loss logsumexp^2, c the smoothed and weighted target."""
    logits, target = np.moveaxis(np.asarray(logits, np.float64), axis, -1), np.asarray(target)
    classes = logits.shape[-1]
    weight = np.ones(classes) if weight is None else np.asarray(weight, np.float64)
    if target.ndim == logits.ndim:
        probabilities = np.moveaxis(target.astype(np.float64), axis, -1)
        counts = np.ones(logits.shape[:-1])
        share = counts
    else:
        counts = target != ignore_index
        probabilities = np.eye(classes)[np.where(counts, target, 0)]
        share = counts * weight[np.where(counts, target, 0)]
    with np.errstate(all="ignore"):
        c = weight * ((1 - label_smoothing) * probabilities + label_smoothing / classes)
        log_p = log_softmax(logits)
        log_total = logsumexp(logits, keepdims=True)
        p = np.exp(log_p)
        value = -np.sum(np.where(c == 0, 0, c * log_p), axis=-1) + z_loss * log_total[..., 0] ** 2
        # p sum(c) - c with the element's own share written as c (p - 1), so that a dominant class keeps its digits.
        grad = p * (np.sum(c, axis=-1, keepdims=True) - c) + c * np.expm1(log_p) + 2 * z_loss * log_total * p
        divisor = {"mean": np.sum(share), "sum": 1.0, "none": 1.0}[reduction]
        value = np.where(counts, value, 0)
        grad = np.where(counts[..., None], grad, 0) / (divisor or 1.0)
    return value if reduction == "none" else np.sum(value) / (divisor or 1.0), np.moveaxis(grad, -1, axis)


def softmax_focal(logits, target, *, axis=-1, alpha=None, gamma=2.0, weight=None, ignore_index=-100, reduction="mean"):
    """Value and gradient of -w alpha (1 - p)^gamma log(p), p the softmax at the class of the row."""
    logits, target = np.moveaxis(np.asarray(logits, np.float64), axis, -1), np.asarray(target)
    classes = logits.shape[-1]
    weight = np.ones(classes) if weight is None else np.asarray(weight, np.float64)
    alpha = np.broadcast_to(1.0 if alpha is None else alpha, classes)
    counts = target != ignore_index
    label = np.where(counts, target, 0)[..., None]
    with np.errstate(all="ignore"):
        log_p = log_softmax(logits)
        u = np.take_along_axis(log_p, label, -1)
        p, q = np.exp(u), -np.expm1(u)
        share = (weight * alpha)[label]
        value = -share * q**gamma * u
        slope = share * q**gamma * (1 + gamma * np.where(p == 0, 0, p * np.where(q == 0, 1, -u / q)))
        onehot = np.arange(classes) == label
        grad = slope * np.where(onehot, -q, np.exp(log_p))
    divisor = {"mean": np.sum(np.where(counts, weight[label[..., 0]], 0)), "sum": 1.0, "none": 1.0}[reduction] or 1.0
    value = np.where(counts, value[..., 0], 0)
    grad = np.moveaxis(np.where(counts[..., None], grad, 0), -1, axis) / divisor
    return value if reduction == "none" else np.sum(value) / divisor, grad


def linear_softmax_cross_entropy(x, weight, target, bias=None, *, class_weight=None, **options):
    """Value and gradients (dx, dweight, dbias) of softmax_cross_entropy of x @ weight.T + bias."""
    x, weight = np.asarray(x, np.float64), np.asarray(weight, np.float64)
    counts = np.ones(x.shape[:-1], bool) if np.ndim(target) == x.ndim else np.asarray(target) != options.get("ignore_index", -100)
    x = np.where(counts[..., None], x, 0)
    logits = x @ weight.T + (0.0 if bias is None else np.asarray(bias, np.float64))
    value, grad = softmax_cross_entropy(logits, target, weight=class_weight, **options)
    rows = grad.reshape(-1, len(weight))
    return value, (grad @ weight, rows.T @ x.reshape(-1, x.shape[-1]), None if bias is None else rows.sum(axis=0))


def share(a, y):
    """a y with 0 y = 0."""
    return np.where(a == 0, 0, a * y)


def two_classes(x, a, b):
    """Cross-entropy of a logit with a for class 1 and b for class 0."""
    return share(a, softplus(-x)) + share(b, softplus(x)), b * sigmoid(x) - a * sigmoid(-x)


def sigmoid_cross_entropy(x, t, pos_weight=1.0):
    return two_classes(x, t * pos_weight, 1 - t)


def binary_cross_entropy(x, t):
    value = -share(t, np.log(x)) - share(1 - t, np.log1p(-x))
    return np.where(x > 1, np.nan, value), share(1 - t, 1 / (1 - x)) - share(t, 1 / x)


def mse(x, t):
    return (x - t) ** 2, 2 * (x - t)


def mae(x, t):
    return np.abs(x - t), np.sign(x - t)


def huber(x, t, delta=1.0):
    d = x - t
    a = np.abs(d)
    return np.where(a <= delta, d * d / 2, delta * (a - delta / 2)), np.clip(d, -delta, delta)


def smooth_l1(x, t, beta=1.0):
    if beta == 0:
        return np.abs(x - t), np.sign(x - t)
    value, grad = huber(x, t, beta)
    return value / beta, grad / beta


def log_cosh(x, t):
    a = np.abs(x - t)
    near, far = np.log1p(2 * np.sinh(np.minimum(a, 1) / 2) ** 2), a + np.log1p(np.exp(-2 * a)) - math.log(2)
    return np.where(a < 1, near, far), np.tanh(x - t)


def hinge(x, t):
    margin = np.maximum(1 - x * t, 0)
    return margin, np.where(margin > 0, -t, 0 * margin)


def squared_hinge(x, t):
    margin = np.maximum(1 - x * t, 0)
    return margin**2, -2 * t * margin


def sigmoid_focal(x, t, alpha=None, gamma=2.0):
    w = 1.0 if alpha is None else alpha * t + (1 - alpha) * (1 - t)
    value, grad = sigmoid_cross_entropy(x, t)
    log_u = np.logaddexp(np.log(t) + FORWARD["logsigmoid"](-x), np.log(1 - t) + FORWARD["logsigmoid"](x))
    # u' / u, in which the denominators of u and of s(x) s(-x) cancel.
    slope = (1 - 2 * t) * np.exp(FORWARD["logsigmoid"](x) + FORWARD["logsigmoid"](-x) - log_u)
    power = np.exp(times(gamma, log_u))
    return w * power * value, w * power * (grad + gamma * share(np.where(np.isnan(slope), 0, slope), value))


def poisson_nll(x, t, log_input=True, full=False, eps=1e-8):
    rate = np.exp(x) if log_input else x
    value = rate - share(t, x if log_input else np.log(x + eps))
    if full:
        value = value + np.where(t > 1, t * np.log(t) - t + np.log(2 * math.pi * t) / 2, 0)
    return value, rate - t if log_input else 1 - share(t, 1 / (x + eps))


def gaussian_nll(x, t, var, full=False, eps=1e-6):
    v = np.maximum(np.where(var < 0, np.nan, var), eps)
    d = x - t
    value = (np.log(v) + d * d / v) / 2 + (math.log(2 * math.pi) / 2 if full else 0)
    return value, d / v, (1 - d * d / v) / v / 2


def elementwise_losses(functions):
    """The functions with weights and reductions, in float64 and without a warning."""

    def twin(function):
        @functools.wraps(function)
        def quiet(*arguments, weight=1.0, reduction="mean", **options):
            arrays = [np.asarray(a, np.float64) for a in arguments]
            with np.errstate(all="ignore"):
                results = [share(np.asarray(weight), y) for y in function(*arrays, **options)]
                divisor = np.size(arrays[0]) or 1 if reduction == "mean" else 1
                value, *grads = results
                return value if reduction == "none" else value.sum() / divisor, *(grad / divisor for grad in grads)

        return quiet

    return {function.__name__: twin(function) for function in functions}


def of_rows(log_p, target, slope, axis, weight=None, ignore_index=-100, reduction="mean"):
    """Value and gradient of -sum(w q log_p), q the target; slope is d log_p / dx."""
    log_p, slope = np.moveaxis(log_p, axis, -1), np.moveaxis(slope, axis, -1)
    target = np.asarray(target)
    weight = np.ones(log_p.shape[-1]) if weight is None else np.asarray(weight, np.float64)
    if target.ndim == log_p.ndim:
        c = weight * np.moveaxis(target.astype(np.float64), axis, -1)
        divisor = c.size // c.shape[-1]
    else:
        counts = target != ignore_index
        label = np.where(counts, target, 0)[..., None]
        c = np.where((np.arange(log_p.shape[-1]) == label) & counts[..., None], weight, 0)
        divisor = np.sum(c)
    divisor = (divisor if reduction == "mean" else 1.0) or 1.0
    with np.errstate(all="ignore"):
        value = -np.sum(np.where(c == 0, 0, c * log_p), axis=-1)
        grad = np.where(c == 0, 0, -c * slope) / divisor
    return value if reduction == "none" else np.sum(value) / divisor, np.moveaxis(grad, -1, axis)


def nll_loss(log_probs, target, *, axis=-1, **options):
    log_probs = np.asarray(log_probs, np.float64)
    return of_rows(log_probs, target, np.ones_like(log_probs), axis, **options)


def categorical_cross_entropy(probs, target, *, axis=-1, **options):
    probs = np.asarray(probs, np.float64)
    with np.errstate(all="ignore"):
        return of_rows(np.log(probs), target, 1 / probs, axis, **options)


def kl_div(log_probs, probs, *, log_target=False, axis=-1, reduction="mean"):
    x, t = np.asarray(log_probs, np.float64), np.asarray(probs, np.float64)
    with np.errstate(all="ignore"):
        p, log_p = (np.exp(t), t) if log_target else (t, np.log(t))
        value = np.sum(np.where(p == 0, 0, p * (log_p - x)), axis=axis)
    divisor = (value.size if reduction == "mean" else 1.0) or 1.0
    return value if reduction == "none" else np.sum(value) / divisor, -p / divisor


VALUE_AND_GRAD = elementwise_losses([
    sigmoid_cross_entropy, binary_cross_entropy, mse, mae, huber, smooth_l1, log_cosh, hinge, squared_hinge, sigmoid_focal,
    poisson_nll, gaussian_nll,
]) | {
    "nll_loss": nll_loss,
    "categorical_cross_entropy": categorical_cross_entropy,
    "kl_div": kl_div,
    "softmax_cross_entropy": softmax_cross_entropy,
    "softmax_focal": softmax_focal,
    "linear_softmax_cross_entropy": linear_softmax_cross_entropy,
}
