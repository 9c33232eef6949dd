"""What is measured: a case for every function of the table, every row-wise function and every loss.

Pure data and arrays; ``peers.py`` knows how each library is asked for it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

import fastact as fa
from fastact import table
from fastact._kernels import reference
from fastact.table import ACTIVATIONS
from fastact.table import GATED as GATED_ROWS

SIZES = (2**16, 2**20, 2**24)
"""Elements: in the second-level cache, in the last-level cache, in memory."""
SHAPES = ((1024, 1000), (256, 32000), (4096, 4096), (4096, 64))
FEATURES = 256
"""Of the layer before a loss."""
CALL_SIZE = 16
TRAINING_ROWS, BATCH, LAYERS = 1792, 64, (64, 256, 10)
"""An epoch over as many rows as there are scanned digits, through one hidden layer."""

REQUIRED_PARAMETERS = {"prelu": (0.25,), "threshold": (0.5, -1.0)}
PARAMETERS = {
    row.name: REQUIRED_PARAMETERS.get(row.name) or tuple(default for _, default in row.parameters)
    for row in ACTIVATIONS
}


@dataclass(frozen=True)
class Case:
    """One function on float32 arrays.

    ``arrays(shape)`` makes its arguments, the last of which is the one that it writes; ``expected(rows, *arrays)`` is
    what then stands in those rows of it, in float64. ``moved`` counts the arrays of that shape that must pass through
    memory.
    """

    name: str
    kind: str
    moved: int
    arrays: Callable
    expected: Callable

    @property
    def function(self):
        return self.name.partition(".")[0]

    @property
    def parameters(self):
        return PARAMETERS.get(self.function, ())


@functools.lru_cache(4)
def normal(shape, seed):
    return np.float32(3) * np.random.default_rng(seed).standard_normal(shape, np.float32)


def one_input(shape):
    return normal(shape, 0), np.empty(shape, np.float32)


def row_totals(shape):
    return normal(shape, 0), np.empty(shape[:-1], np.float32)


def with_classes(shape):
    return normal(shape, 0), np.random.default_rng(1).integers(shape[-1], size=shape[0]), np.empty(shape, np.float32)


def of_probabilities(shape):
    x, target, grad = with_classes(shape)
    return fa.softmax(x), target, grad


def with_probabilities(shape):
    return fa.log_softmax(normal(shape, 0)), fa.softmax(normal(shape, 1)), np.empty(shape, np.float32)


def linear_layer(shape):
    """Rows and the weight of a layer that makes logits of that shape of them."""
    rows, classes = shape
    x, weight = normal((rows, FEATURES), 0), normal((classes, FEATURES), 1) / np.float32(FEATURES)
    return x, weight, np.random.default_rng(1).integers(classes, size=rows), np.empty_like(x)


def with_output(function, shape):
    """Arrays (grad_output, x, output, grad_input) of a backward function."""
    x = normal(shape, 0)
    return normal(shape, 1), x, function(x), np.empty_like(x)


def elementwise(name):
    parameters = PARAMETERS[name]

    def forward(rows, x, *_):
        return reference.FORWARD[name](x[rows], *parameters)

    def derivative(rows, x, *_):
        return reference.DERIVATIVE[name](x[rows], *parameters)

    def backward(rows, grad_output, x, *_):
        return grad_output[rows] * derivative(rows, x)

    def backward_arrays(shape):
        return with_output(lambda x: getattr(fa, name)(x, *parameters), shape)

    return (
        Case(name, "forward", 2, one_input, forward),
        Case(f"{name}.derivative", "derivative", 2, one_input, derivative),
        Case(f"{name}.backward", "backward", 3, backward_arrays, backward),
    )


def gated_inputs(shape):
    return normal(shape, 0), normal(shape, 1)


def gated(name):
    """Forward, and forward with both gradients, as training has it: (grad_output, inputs, output, their gradients)."""

    def forward(rows, a, b, _):
        return reference.GATED[name](a[rows], b[rows])

    def second_gradient(rows, grad_output, a, b, *_):
        return reference.GATED_BACKWARD[name](grad_output[rows], a[rows], b[rows])[1]

    def arrays(shape):
        return *gated_inputs(shape), np.empty(shape, np.float32)

    def backward_arrays(shape):
        return normal(shape, 2), *gated_inputs(shape), *(np.empty(shape, np.float32) for _ in range(3))

    return Case(name, "gated", 3, arrays, forward), Case(f"{name}.backward", "gated", 8, backward_arrays, second_gradient)


def pieces(shape):
    """Of maxout: as many outputs as the shape has elements, each from two pieces."""
    return normal((*shape, 2), 0), np.empty(shape, np.float32)


def maxout(rows, x, _):
    return reference.maxout(x[rows])


def rowwise(name):
    def forward(rows, x, _):
        return reference.ROWWISE[name](x[rows])

    def backward(rows, grad_output, x, output, _):
        return reference.ROWWISE_BACKWARD[name](grad_output[rows], output[rows])

    if name == "logsumexp":
        return (Case(name, "rows", 1, row_totals, forward),)
    return (
        Case(name, "rows", 2, one_input, forward),
        Case(f"{name}.backward", "rows", 3, functools.partial(with_output, getattr(fa, name)), backward),
    )


def loss(name, moved, arrays=with_classes):
    """The gradient with respect to rows."""

    def gradient(rows, x, target, _):
        return reference.VALUE_AND_GRAD[name](x[rows], target[rows], reduction="sum")[1] / len(target)

    return Case(name, "loss", moved, arrays, gradient)


def linear_gradient(rows, x, weight, target, _):
    return reference.VALUE_AND_GRAD["linear_softmax_cross_entropy"](x[rows], weight, target[rows], reduction="sum")[1][0] / len(x)


def elementwise_target(name, shape):
    """(input, target, what else the loss takes, memory for the gradient)"""
    x, t = normal(shape, 0), normal(shape, 1)
    if name in ("sigmoid_cross_entropy", "sigmoid_focal"):
        t = np.float32(t > 0)
    if name == "binary_cross_entropy":
        x, t = fa.sigmoid(x), np.float32(t > 0)
    if name in ("hinge", "squared_hinge"):
        t = np.sign(t)
    if name == "poisson_nll":
        x, t = x / 3, np.floor(np.abs(t))
    return x, t, *([np.abs(normal(shape, 2)) + np.float32(0.1)] if name == "gaussian_nll" else []), np.empty_like(x)


def elementwise_loss(row):
    """Value and gradient of the sum over all elements."""

    def gradient(rows, *arrays):
        *sources, _ = arrays
        return reference.VALUE_AND_GRAD[row.name](*(source[rows] for source in sources), reduction="sum")[1]

    moved = 3 + row.third_gradient
    return Case(row.name, "elementwise loss", moved, functools.partial(elementwise_target, row.name), gradient)


ELEMENTWISE = tuple(case for row in ACTIVATIONS for case in elementwise(row.name))
GATED = (*(case for row in GATED_ROWS for case in gated(row.name)), Case("maxout", "gated", 3, pieces, maxout))
ROWWISE = tuple(case for name in reference.ROWWISE for case in rowwise(name))
ELEMENTWISE_LOSSES = tuple(elementwise_loss(row) for row in table.ELEMENTWISE_LOSSES)
LOSSES = (
    *(loss(name, 2) for name in ("softmax_cross_entropy", "softmax_focal")),
    loss("nll_loss", 1),
    loss("categorical_cross_entropy", 1, of_probabilities),
    loss("kl_div", 3, with_probabilities),
    Case("linear_softmax_cross_entropy", "loss", 2, linear_layer, linear_gradient),
)


def training_rows():
    """Rows and classes that depend on them."""
    x = normal((TRAINING_ROWS, LAYERS[0]), 0)
    return x, x[:, : LAYERS[-1]].argmax(axis=1)
