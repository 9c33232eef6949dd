"""What is measured: a case for every function of the tables, every row-wise function, every loss and every optimizer.

Pure data and arrays; the modules of ``peers`` know how each library is asked for it.
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

DTYPES = ("float32", "float64", "float16", "bfloat16")
CONTIGUOUS, STRIDED, AXIS_0 = LAYOUTS = ("contiguous", "strided", "axis 0")
"""One after the other; every other element of memory; rows that lie along the first axis."""

REQUIRED_PARAMETERS = {"prelu": (0.25,), "threshold": (0.5, -1.0)}
LEARNED = ("prelu",)
"""Whose backward passes are to have the gradient of their parameter too, as ours cannot leave it out."""
PARAMETERS = {
    row.name: REQUIRED_PARAMETERS.get(row.name) or tuple(default for _, default in row.parameters)
    for row in ACTIVATIONS
}


@dataclass(frozen=True)
class Setting:
    """What arrays a case gets: ``shape`` is (elements,) or (rows, classes); ``out`` tells whether memory for the result
    is given."""

    shape: tuple
    dtype: str = "float32"
    layout: str = CONTIGUOUS
    out: bool = True

    @property
    def axis(self):
        return 0 if self.layout == AXIS_0 else -1


@dataclass(frozen=True)
class Case:
    """One function on arrays.

    ``arrays(memory)`` makes its arguments, the last of which is the one that it writes; ``expected(rows, *arrays)`` is
    what then stands in those rows of it, in float64, the rows being along the last axis. ``moved`` counts the arrays of
    that shape that must pass through memory.
    """

    name: str
    kind: str
    moved: int
    arrays: Callable
    expected: Callable
    layouts: tuple = (CONTIGUOUS, STRIDED)
    dtypes: tuple = DTYPES

    @property
    def function(self):
        return self.name.partition(".")[0]

    @property
    def allocates(self):
        """Whether to measure it without ``out`` too."""
        return self.kind in ("forward", "gated", "rows") and not self.name.endswith(".backward")

    def parameters(self, setting):
        """What follows the arrays in a call."""
        return (setting.axis,) if self.kind == "rows" else PARAMETERS.get(self.function, ())

    def suits(self, setting):
        return setting.layout in self.layouts and setting.dtype in self.dtypes and (setting.out or self.allocates)


# Arrays -------------------------------------------------------------------------------------------------------------


@functools.lru_cache(4)
def normal(shape, seed):
    return np.float32(3) * np.random.default_rng(seed).standard_normal(shape, np.float32)


def dtype_of(name):
    if name != "bfloat16":
        return np.dtype(name)
    import ml_dtypes

    return np.dtype(ml_dtypes.bfloat16)


class Memory:
    """Arrays as a setting wants them."""

    def __init__(self, setting):
        self.shape = setting.shape[::-1] if setting.layout == AXIS_0 else setting.shape
        self.rows = setting.shape[:-1]
        self.axis, self.dtype, self.strided = setting.axis, dtype_of(setting.dtype), setting.layout == STRIDED

    def empty(self, shape=None):
        shape = self.shape if shape is None else shape
        return (
            np.empty((*shape[:-1], 2 * shape[-1]), self.dtype)[..., ::2]
            if self.strided
            else np.empty(shape, self.dtype)
        )

    def holding(self, values):
        array = self.empty(values.shape)
        array[...] = values
        return array

    def normal(self, seed, shape=None):
        return self.holding(normal(self.shape if shape is None else shape, seed))

    def classes(self):
        return np.random.default_rng(1).integers(self.shape[-1], size=self.rows)


def one_input(memory):
    return memory.normal(0), memory.empty()


def row_totals(memory):
    return memory.normal(0), memory.empty(memory.rows)


def with_classes(memory):
    return memory.normal(0), memory.classes(), memory.empty()


def of_probabilities(memory):
    return memory.holding(fa.softmax(normal(memory.shape, 0))), memory.classes(), memory.empty()


def with_probabilities(memory):
    log_p, p = fa.log_softmax(normal(memory.shape, 0)), fa.softmax(normal(memory.shape, 1))
    return memory.holding(log_p), memory.holding(p), memory.empty()


def linear_layer(memory):
    """Rows and the weight of a layer that makes logits of that shape of them."""
    rows, classes = memory.shape
    x = memory.normal(0, (rows, FEATURES))
    return x, memory.holding(normal((classes, FEATURES), 1) / FEATURES), memory.classes(), memory.empty(x.shape)


def with_output(function, memory):
    """Arrays (grad_output, x, output, grad_input) of a backward function."""
    x, output = memory.normal(0), memory.empty()
    function(x, out=output)
    return memory.normal(1), x, output, memory.empty()


# Elementwise functions ----------------------------------------------------------------------------------------------


def elementwise(name):
    parameters = PARAMETERS[name]

    def forward(rows, x, *_):
        return reference.FORWARD[name](x[rows], *parameters)

    def derivative(rows, x, *_):
        return reference.DERIVATIVE[name](x[rows], *parameters)

    def backward(rows, grad_output, x, *_):
        return grad_output[rows].astype(np.float64) * derivative(rows, x)

    def backward_arrays(memory):
        return with_output(lambda x, out: getattr(fa, name)(x, *parameters, out=out), memory)

    return (
        Case(name, "forward", 2, one_input, forward),
        Case(f"{name}.derivative", "derivative", 2, one_input, derivative),
        Case(f"{name}.backward", "backward", 3, backward_arrays, backward),
    )


def gated_inputs(memory):
    return memory.normal(0), memory.normal(1)


def gated(name):
    """Forward, and forward with both gradients, as training has it: (grad_output, inputs, output, their gradients)."""

    def forward(rows, a, b, _):
        return reference.GATED[name](a[rows], b[rows])

    def second_gradient(rows, grad_output, a, b, *_):
        return reference.GATED_BACKWARD[name](grad_output[rows], a[rows], b[rows])[1]

    def arrays(memory):
        return *gated_inputs(memory), memory.empty()

    def backward_arrays(memory):
        return memory.normal(2), *gated_inputs(memory), memory.empty(), memory.empty(), memory.empty()

    return Case(name, "gated", 3, arrays, forward), Case(
        f"{name}.backward", "gated", 8, backward_arrays, second_gradient
    )


def pieces(memory):
    """Of maxout: as many outputs as the shape has elements, each from two pieces."""
    return memory.normal(0, (*memory.shape, 2)), memory.empty()


def maxout(rows, x, _):
    return reference.maxout(x[rows])


# Functions of rows --------------------------------------------------------------------------------------------------


def rowwise(name):
    def forward(rows, x, _):
        return reference.ROWWISE[name](x[rows])

    def backward(rows, grad_output, x, output, _):
        return reference.ROWWISE_BACKWARD[name](grad_output[rows], output[rows])

    if name == "logsumexp":
        return (Case(name, "rows", 1, row_totals, forward, LAYOUTS),)

    def backward_arrays(memory):
        return with_output(functools.partial(getattr(fa, name), axis=memory.axis), memory)

    return (
        Case(name, "rows", 2, one_input, forward, LAYOUTS),
        Case(f"{name}.backward", "rows", 3, backward_arrays, backward, LAYOUTS),
    )


# Losses -------------------------------------------------------------------------------------------------------------


def loss(name, moved, arrays=with_classes, dtypes=DTYPES):
    """The gradient with respect to rows."""

    def gradient(rows, x, target, _):
        return reference.VALUE_AND_GRAD[name](x[rows], target[rows], reduction="sum")[1] / len(target)

    return Case(name, "loss", moved, arrays, gradient, dtypes=dtypes)


def linear_gradient(rows, x, weight, target, _):
    gradients = reference.VALUE_AND_GRAD["linear_softmax_cross_entropy"](
        x[rows], weight, target[rows], reduction="sum"
    )[1]
    return gradients[0] / len(x)


def elementwise_target(name, memory):
    """(input, target, what else the loss takes, memory for the gradient)"""
    x, t = normal(memory.shape, 0), normal(memory.shape, 1)
    if name in ("sigmoid_cross_entropy", "sigmoid_focal"):
        t = np.float32(t > 0)
    if name == "binary_cross_entropy":
        # Away from 0 and 1, to which the half types would round.
        x, t = fa.sigmoid(x / 3), np.float32(t > 0)
    if name in ("hinge", "squared_hinge"):
        t = np.sign(t)
    if name == "poisson_nll":
        x, t = x / 3, np.floor(np.abs(t))
    var = [np.abs(normal(memory.shape, 2)) + np.float32(0.1)] if name == "gaussian_nll" else []
    return *map(memory.holding, (x, t, *var)), memory.empty()


def elementwise_loss(row):
    """Value and gradient of the sum over all elements."""

    def gradient(rows, *arrays):
        *sources, _ = arrays
        return reference.VALUE_AND_GRAD[row.name](*(source[rows] for source in sources), reduction="sum")[1]

    moved = 3 + row.third_gradient
    return Case(row.name, "elementwise loss", moved, functools.partial(elementwise_target, row.name), gradient)


# Optimizers ---------------------------------------------------------------------------------------------------------


def optimizer_step(name, moved, first_step):
    """A step of an optimizer with its defaults: (gradient, parameters at the start, nothing).

    Every library steps with parameters and a state of its own; what is checked is its first step.
    """

    def arrays(memory):
        return memory.normal(0), memory.normal(1), memory.empty((1,))

    def parameters(rows, gradient, start, _):
        gradient, start = (array[rows].astype(np.float64) for array in (gradient, start))
        return first_step(start, gradient)

    return Case(name, "optimizer", moved, arrays, parameters, (CONTIGUOUS,), ("float32", "float64"))


ELEMENTWISE = tuple(case for row in ACTIVATIONS for case in elementwise(row.name))
GATED = (
    *(case for row in GATED_ROWS for case in gated(row.name)),
    Case("maxout", "gated", 3, pieces, maxout, (CONTIGUOUS,)),
)
ROWWISE = tuple(case for name in reference.ROWWISE for case in rowwise(name))
ELEMENTWISE_LOSSES = tuple(elementwise_loss(row) for row in table.ELEMENTWISE_LOSSES)
LOSSES = (
    *(loss(name, 2) for name in ("softmax_cross_entropy", "softmax_focal")),
    loss("nll_loss", 1),
    # float16 holds neither the smallest probabilities nor their reciprocals.
    loss("categorical_cross_entropy", 1, of_probabilities, ("float32", "float64", "bfloat16")),
    loss("kl_div", 3, with_probabilities),
    Case(
        "linear_softmax_cross_entropy", "loss", 2, linear_layer, linear_gradient, (CONTIGUOUS,), ("float32", "float64")
    ),
)
OPTIMIZERS = (
    optimizer_step("SGD", 3, lambda p, g: p - 0.01 * g),
    optimizer_step("Momentum", 5, lambda p, g: p - 0.01 * g),
    optimizer_step("Nesterov", 5, lambda p, g: p - 0.01 * 1.9 * g),
    optimizer_step("AdaGrad", 5, lambda p, g: p - 0.01 * g / (np.abs(g) + 1e-10)),
    optimizer_step("RMSProp", 5, lambda p, g: p - 0.001 * g / (np.sqrt(0.1) * np.abs(g) + 1e-8)),
    optimizer_step("Adam", 7, lambda p, g: p - 0.001 * g / (np.abs(g) + 1e-8)),
    optimizer_step("AdamW", 7, lambda p, g: p * (1 - 0.001 * 0.01) - 0.001 * g / (np.abs(g) + 1e-8)),
)
VECTORS = ELEMENTWISE + GATED + ELEMENTWISE_LOSSES + OPTIMIZERS
"""The cases whose shape is a number of elements."""
MATRICES = ROWWISE + LOSSES
"""Those whose shape is (rows, classes)."""


def training_rows():
    """Rows and classes that depend on them."""
    x = normal((TRAINING_ROWS, LAYERS[0]), 0)
    return x, x[:, : LAYERS[-1]].argmax(axis=1)
