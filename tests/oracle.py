"""The mathematical functions in mpmath, for finite arguments: what the accuracy tests measure against.

Arguments and parameters are taken as the exact numbers that the floating-point values are. Constants are those of the
definition: 1.702 and 0.044715 are decimal fractions, the two of selu are the doubles that define it.
"""

from __future__ import annotations

import mpmath as mp
import numpy as np

PRECISION = 200  # bits; the worst cancellation left in the formulas below costs about 40
SELU_ALPHA, SELU_SCALE = mp.mpf(1.6732632423543772), mp.mpf(1.0507009873554805)


def decimal(digits):
    with mp.workprec(PRECISION):
        return mp.mpf(digits)


QUICK = decimal("1.702")
CUBIC = decimal("0.044715")


def sigmoid(x):
    return 1 / (1 + mp.exp(-x))


def sigmoid_derivative(x):
    return sigmoid(x) * sigmoid(-x)


def elu(x, alpha):
    return x if x > 0 else alpha * mp.expm1(x)


def elu_derivative(x, alpha):
    return mp.mpf(1) if x > 0 else alpha * mp.exp(x)


def gaussian_cdf(x):
    if abs(x) > 10000:  # mpmath's erfc overflows on huge arguments
        return mp.mpf(x > 0)
    return mp.erfc(-x / mp.sqrt(2)) / 2


def swish(x, beta=1):
    return x * sigmoid(beta * x)


def swish_derivative(x, beta=1):
    z = beta * x
    return sigmoid(z) + z * sigmoid_derivative(z)


def gelu_tanh_argument(x):
    return 2 * mp.sqrt(2 / mp.pi) * (x + CUBIC * x**3)


def gelu_tanh_derivative(x):
    z = gelu_tanh_argument(x)
    return sigmoid(z) + x * 2 * mp.sqrt(2 / mp.pi) * (1 + 3 * CUBIC * x**2) * sigmoid_derivative(z)


def mish_derivative(x):
    n = mp.exp(x) * (mp.exp(x) + 2)
    return n / (n + 2) + x * 4 * (1 + n) / (n + 2) ** 2 * sigmoid(x)


def mish(x):
    n = mp.exp(x) * (mp.exp(x) + 2)
    return x * n / (n + 2)


def softplus(x, beta=1):
    z = beta * x
    return (max(z, 0) + mp.log1p(mp.exp(-abs(z)))) / beta


def tanhshrink(x):
    if abs(x) < mp.ldexp(1, -20):
        return x**3 / 3 * (1 - x**2 * 2 / 5 + x**4 * 17 / 105 - x**6 * 62 / 945)
    return x - mp.tanh(x)


def clip(x, low, high):
    return min(max(x, low), high)


def step(condition, value=1):
    return mp.mpf(value if condition else 0)


def squareplus(x, b):
    r = mp.sqrt(x * x + b)
    return (x + r) / 2 if x > 0 else b / (2 * (r - x))


FORWARD = {
    "identity": lambda x: x,
    "sigmoid": sigmoid,
    "tanh": mp.tanh,
    "relu": lambda x: max(x, 0),
    "relu6": lambda x: clip(x, 0, 6),
    "leaky_relu": lambda x, slope: x if x > 0 else slope * x,
    "prelu": lambda x, weight: x if x > 0 else weight * x,
    "rrelu": lambda x, lower, upper: x if x > 0 else (lower + upper) / 2 * x,
    "elu": elu,
    "selu": lambda x: SELU_SCALE * elu(x, SELU_ALPHA),
    "celu": lambda x, alpha: x if x > 0 else alpha * mp.expm1(x / alpha),
    "gelu": lambda x: x * gaussian_cdf(x),
    "gelu_tanh": lambda x: x * sigmoid(gelu_tanh_argument(x)),
    "gelu_quick": lambda x: swish(x, QUICK),
    "silu": swish,
    "swish": swish,
    "mish": mish,
    "softplus": softplus,
    "softsign": lambda x: x / (1 + abs(x)),
    "softshrink": lambda x, lambd: mp.sign(x) * max(abs(x) - lambd, 0),
    "hardshrink": lambda x, lambd: x if abs(x) > lambd else 0,
    "tanhshrink": tanhshrink,
    "threshold": lambda x, threshold, value: x if x > threshold else value,
    "hardtanh": clip,
    "hardsigmoid": lambda x, alpha, beta: clip(alpha * x + beta, 0, 1),
    "hardswish": lambda x: x * clip(x + 3, 0, 6) / 6,
    "logsigmoid": lambda x: -softplus(-x),
    "squareplus": squareplus,
    "relu_squared": lambda x: max(x, 0) ** 2,
}

DERIVATIVE = {
    "identity": lambda x: 1,
    "sigmoid": sigmoid_derivative,
    "tanh": lambda x: 4 * sigmoid_derivative(2 * x),
    "relu": lambda x: step(x > 0),
    "relu6": lambda x: step(0 < x < 6),
    "leaky_relu": lambda x, slope: 1 if x > 0 else slope,
    "prelu": lambda x, weight: 1 if x > 0 else weight,
    "rrelu": lambda x, lower, upper: 1 if x > 0 else (lower + upper) / 2,
    "elu": elu_derivative,
    "selu": lambda x: SELU_SCALE * elu_derivative(x, SELU_ALPHA),
    "celu": lambda x, alpha: 1 if x > 0 else mp.exp(x / alpha),
    "gelu": lambda x: gaussian_cdf(x) + x * mp.exp(-x * x / 2) / mp.sqrt(2 * mp.pi),
    "gelu_tanh": gelu_tanh_derivative,
    "gelu_quick": lambda x: swish_derivative(x, QUICK),
    "silu": swish_derivative,
    "swish": swish_derivative,
    "mish": mish_derivative,
    "softplus": lambda x, beta: sigmoid(beta * x),
    "softsign": lambda x: 1 / (1 + abs(x)) ** 2,
    "softshrink": lambda x, lambd: step(abs(x) > lambd),
    "hardshrink": lambda x, lambd: step(abs(x) > lambd),
    "tanhshrink": lambda x: mp.tanh(x) ** 2,
    "threshold": lambda x, threshold, value: step(x > threshold),
    "hardtanh": lambda x, min_val, max_val: step(min_val < x < max_val),
    "hardsigmoid": lambda x, alpha, beta: step(0 < alpha * x + beta < 1, alpha),
    "hardswish": lambda x: mp.mpf(0) if x <= -3 else mp.mpf(1) if x >= 3 else x / 3 + mp.mpf(1) / 2,
    "logsigmoid": lambda x: sigmoid(-x),
    "squareplus": lambda x, b: squareplus(x, b) / mp.sqrt(x * x + b),
    "relu_squared": lambda x: 2 * max(x, 0),
}

DERIVATIVE_FROM_OUTPUT = {
    "identity": lambda y: 1,
    "sigmoid": lambda y: y * (1 - y),
    "tanh": lambda y: (1 - y) * (1 + y),
    "relu": lambda y: step(y > 0),
    "relu6": lambda y: step(0 < y < 6),
    "leaky_relu": lambda y, slope: 1 if y > 0 else slope,
    "rrelu": lambda y, lower, upper: 1 if y > 0 else (lower + upper) / 2,
    "elu": lambda y, alpha: 1 if y > 0 else y + alpha,
    "selu": lambda y: SELU_SCALE if y > 0 else y + SELU_SCALE * SELU_ALPHA,
    "celu": lambda y, alpha: 1 if y > 0 else y / alpha + 1,
    "softplus": lambda y, beta: -mp.expm1(-beta * y),
    "hardtanh": lambda y, min_val, max_val: step(min_val < y < max_val),
    "logsigmoid": lambda y: -mp.expm1(y),
}

# x w(x): the derivative is w + x w' and has a zero where the two terms cancel.
SELF_GATED = {"gelu", "gelu_tanh", "gelu_quick", "silu", "swish", "mish", "hardswish"}

# y + c, the derivative from the output, has a zero at the lower bound of the function: here is c.
OFFSET_FROM_OUTPUT = {
    "elu": lambda alpha: alpha,
    "selu": lambda: float(SELU_SCALE * SELU_ALPHA),
    "celu": lambda alpha: 1.0,
}


def two_classes(x, a, b):
    """a log(1 + exp(-x)) + b log(1 + exp(x)), its derivative and the terms of both."""
    terms = a * softplus(-x), b * softplus(x)
    slopes = -a * sigmoid(-x), b * sigmoid(x)
    return sum(terms), sum(slopes), terms, slopes


def binary_cross_entropy(x, t):
    terms = [-t * mp.log(x) if t else mp.mpf(0), -(1 - t) * mp.log1p(-x) if t != 1 else mp.mpf(0)]
    slopes = [-t / x if t else mp.mpf(0), (1 - t) / (1 - x) if t != 1 else mp.mpf(0)]
    return sum(terms), sum(slopes), terms, [sum(slopes)]


def huber(x, t, delta):
    d = x - t
    return d * d / 2 if abs(d) <= delta else delta * (abs(d) - delta / 2), clip(d, -delta, delta), [], []


def smooth_l1(x, t, beta):
    value, slope, *terms = huber(x, t, beta)
    return value / beta, slope / beta, *terms


def log_cosh(x, t):
    d = abs(x - t)
    value = mp.log1p(2 * mp.sinh(d / 2) ** 2) if d < 1 else d + mp.log1p(mp.exp(-2 * d)) - mp.log(2)
    return value, mp.tanh(x - t), [], []


def hinge(x, t):
    margin = max(1 - x * t, 0)
    return margin, -t if margin > 0 else mp.mpf(0), [], []


def squared_hinge(x, t):
    margin = max(1 - x * t, 0)
    return margin**2, -2 * t * margin, [], []


def sigmoid_focal(x, t, gamma):
    """With both classes counting alike."""
    c, slope, terms, slopes = two_classes(x, t, 1 - t)
    u = t * sigmoid(-x) + (1 - t) * sigmoid(x)
    steeper = gamma * c * (1 - 2 * t) * sigmoid_derivative(x) / u
    power = u**gamma
    return power * c, power * (slope + steeper), [power * v for v in terms], [power * v for v in (*slopes, steeper)]


def poisson_nll(x, t):
    return mp.exp(x) - t * x, mp.exp(x) - t, [mp.exp(x), -t * x], [mp.exp(x), -t]


def gaussian_nll(x, t, var, eps):
    v = max(var, eps)
    d = x - t
    return (mp.log(v) + d * d / v) / 2, d / v, [mp.log(v) / 2, d * d / v / 2], []


# Value, slope and, where these are sums that may have a zero, the terms of both.
LOSSES = {
    "sigmoid_cross_entropy": lambda x, t, pos_weight: two_classes(x, t * pos_weight, 1 - t),
    "binary_cross_entropy": binary_cross_entropy,
    "mse": lambda x, t: ((x - t) ** 2, 2 * (x - t), [], []),
    "mae": lambda x, t: (abs(x - t), mp.sign(x - t), [], []),
    "huber": huber,
    "smooth_l1": smooth_l1,
    "log_cosh": log_cosh,
    "hinge": hinge,
    "squared_hinge": squared_hinge,
    "sigmoid_focal": sigmoid_focal,
    "poisson_nll": poisson_nll,
    "gaussian_nll": gaussian_nll,
}


def evaluate_loss(name, arrays, parameters):
    """Arrays of the values, of the slopes and of the largest terms of both, in mpmath numbers."""
    with mp.workprec(PRECISION):
        parameters = [mp.mpf(float(p)) for p in parameters]
        rows = []
        for numbers in zip(*arrays):
            value, slope, terms, slopes = LOSSES[name](*(mp.mpf(float(v)) for v in numbers), *parameters)
            rows.append((mp.mpf(value), mp.mpf(slope), *(max(map(abs, v), default=mp.mpf(0)) for v in (terms, slopes))))
    return [np.array([*column, None], dtype=object)[:-1] for column in zip(*rows)]


def evaluate(formula, points, parameters):
    """The formula at every point, as an object array of mpmath numbers."""
    with mp.workprec(PRECISION):
        parameters = [mp.mpf(float(p)) for p in parameters]
        values = [mp.mpf(formula(mp.mpf(float(v)), *parameters)) for v in np.ravel(points)]
    return np.array(values + [None], dtype=object)[:-1].reshape(np.shape(points))


def largest_terms(name, points, parameters, forward, derivative):
    """Of the function and of its derivative, for numbers of either kind; 0 for what is no sum with a zero."""
    zeros = np.zeros(np.shape(points))
    if name == "hardsigmoid":
        return zeros + parameters[1], zeros
    if name not in SELF_GATED:
        return zeros, zeros
    w = np.where(points == 0, derivative, forward / np.where(points == 0, 1, points))
    return zeros, np.maximum(np.abs(w), np.abs(derivative - w))


def largest_term_from_output(name, parameters):
    """The same of the derivative from the output."""
    return OFFSET_FROM_OUTPUT.get(name, lambda *_: 0.0)(*parameters)
