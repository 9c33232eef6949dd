"""Layers of matrix products and look-ups: Dense, Maxout, Embedding; and Flatten."""

from __future__ import annotations

import math
import operator

import numpy as np

import fastact as fa

from .. import kernels
from ..initialisation import check_scheme, normal
from ..places import beside, gather
from .base import Layer, match_features, positive, rows_of


class Biased(Layer):
    """A layer that adds a bias to its last axis, unless the activation behind it does so in its own pass."""

    has_bias = True
    adds_bias = True
    decaying = frozenset({"weight"})

    def connect(self, previous, shape):
        super().connect(previous, shape)
        self.adds_bias = True

    def add_bias(self, y):
        if self.adds_bias:
            features = y.shape[-1]
            kernels.bias_activation(y.size // features, (y, self.parameters["bias"], y), (features, 0), (0.0, 0.0))
        return y

    def bias_backward(self, grad_output, kept=None, chunk=0, values=(0.0, 0.0)):
        """The gradient of the bias; with the chunk of an activation's backward pass, `grad_output` is taken back through it first."""
        features = grad_output.shape[-1]
        rows = grad_output.size // features
        unit, count = kernels.units(rows, features)
        totals = self.buffer("totals", (count, features), np.float64)
        kernels.activation_backward(count, (grad_output, kept, totals), (features, chunk, unit, rows), values)
        kernels.fold_units(totals, self.gradients["bias"])


class Dense(Biased):
    """Fully connected layer, ``x @ weight + bias``, over the last axis.

    The bias starts at zero.

    Parameters
    ----------
    inputs, outputs : int
        Features before and after.
    initialisation : {None, "xavier", "he", "lecun"}
        How the weights are drawn; by default as suits the activation that follows: "he" before rectifiers and their
        smooth relatives, "lecun" before selu, else "xavier".
    """

    def __init__(self, inputs, outputs, *, initialisation=None):
        if inputs < 1 or outputs < 1:
            raise ValueError(f"Dense needs at least one input and one output, not {inputs} and {outputs}")
        self.inputs, self.outputs = operator.index(inputs), operator.index(outputs)
        self.initialisation = check_scheme(initialisation)
        self.shapes = {"weight": (self.inputs, self.outputs), "bias": (self.outputs,)}
        self.input_shape = (self.inputs,)

    def shape_after(self, shape, previous):
        match_features(self, shape, previous, self.inputs)
        return (*shape[:-1], self.outputs)

    def initialise(self, rng, following):
        normal(self.parameters["weight"], rng, self.inputs, self.outputs, following, self.initialisation)
        self.parameters["bias"][...] = 0

    def forward(self, x, training=False):
        self.x = x
        y = self.buffer("output", (*x.shape[:-1], self.outputs))
        np.matmul(rows_of(x), self.parameters["weight"], out=rows_of(y))
        return self.add_bias(y)

    def backward(self, grad_output):
        x, grad = rows_of(self.x), rows_of(grad_output)
        np.matmul(x.T, grad, out=self.gradients["weight"])
        if self.adds_bias:
            self.bias_backward(grad_output)
        if self.is_first:
            return None
        grad_input = self.input_or_buffer(self.x)
        np.matmul(grad, self.parameters["weight"].T, out=rows_of(grad_input))
        return grad_input

    def arguments(self):
        return [self.inputs, self.outputs], {"initialisation": self.initialisation} if self.initialisation else {}


class Maxout(Biased):
    """The largest of several linear functions of the input, ``max_k(x @ weight_k + bias_k)``.

    After Goodfellow et al. 2013, arXiv:1302.4389.

    Parameters
    ----------
    inputs, outputs : int
        Features before and after.
    pieces : int
        How many linear functions each output chooses from.
    """

    def __init__(self, inputs, outputs, pieces=2):
        positive(inputs=inputs, outputs=outputs, pieces=pieces)
        self.inputs, self.outputs, self.pieces = map(operator.index, (inputs, outputs, pieces))
        # Piece by piece, so that outputs lie side by side and the maximum is taken between rows.
        self.shapes = {"weight": (self.inputs, self.pieces * self.outputs), "bias": (self.pieces * self.outputs,)}
        self.input_shape = (self.inputs,)

    has_bias = False  # of the pieces: the activation behind must not add it after the maximum

    def shape_after(self, shape, previous):
        match_features(self, shape, previous, self.inputs)
        return (*shape[:-1], self.outputs)

    def initialise(self, rng, following):
        normal(self.parameters["weight"], rng, self.inputs, self.outputs, None, "lecun")
        self.parameters["bias"][...] = 0

    def forward(self, x, training=False):
        self.x = x
        z = self.buffer("pieces", (x.size // self.inputs, self.pieces * self.outputs))
        np.matmul(rows_of(x), self.parameters["weight"], out=z)
        self.z = self.add_bias(z).reshape(-1, self.pieces, self.outputs)
        y = self.buffer("output", (*x.shape[:-1], self.outputs))
        fa.maxout(self.z, axis=1, out=rows_of(y))
        return y

    def backward(self, grad_output):
        grad = fa.maxout.backward(rows_of(grad_output), self.z, axis=1, out=self.buffer("grad_pieces", self.z.shape))
        grad = grad.reshape(len(grad), -1)
        np.matmul(rows_of(self.x).T, grad, out=self.gradients["weight"])
        self.bias_backward(grad)
        if self.is_first:
            return None
        grad_input = self.input_or_buffer(self.x)
        np.matmul(grad, self.parameters["weight"].T, out=rows_of(grad_input))
        return grad_input

    def arguments(self):
        return [self.inputs, self.outputs, self.pieces], {}


class Embedding(Layer):
    """Rows of a learned table by their number: integers of shape (rows, steps) become (rows, steps, features).

    Parameters
    ----------
    count : int
        Rows of the table; what is looked up lies in 0...count - 1.
    features : int
        Numbers in a row.
    padding : int, optional
        A number that only fills up short sequences: an `Attention` behind does not look at it.
    """

    takes_integers = True
    decaying = frozenset({"weight"})
    input_shape = (None,)

    def __init__(self, count, features, *, padding=None):
        positive(count=count, features=features)
        self.count, self.features, self.padding = operator.index(count), operator.index(features), padding
        self.shapes = {"weight": (self.count, self.features)}

    def shape_after(self, shape, previous):
        if previous is not None:
            raise ValueError(f"{self!r} takes integers, so it is the first layer; here it follows {previous!r}")
        return (*shape, self.features)

    def initialise(self, rng, following):
        normal(self.parameters["weight"], rng, self.features, self.features, None, "lecun")

    def forward(self, x, training=False):
        check_range(self, x, self.count)
        self.x = beside(self.like, x)
        self.mask = None if self.padding is None else self.x != self.padding
        return gather(self.parameters["weight"], self.x, self.buffer("output", (*x.shape, self.features)))

    def backward(self, grad_output):
        self.gradients["weight"][...] = 0
        kernels.scatter(self.features, (grad_output, self.gradients["weight"], self.x), (self.features, self.x.size))

    def arguments(self):
        return [self.count, self.features], {} if self.padding is None else {"padding": self.padding}


def check_range(layer, x, count, lowest=0):
    """Raise IndexError unless all of `x` lie in lowest...count - 1."""
    if x.size and not (lowest <= x.min() and x.max() < count):
        raise IndexError(f"{layer!r} is asked for number {x.min() if x.min() < lowest else x.max()}")


class Flatten(Layer):
    """All features of a row, such as the places and channels of an image, side by side."""

    transparent = True

    def connect(self, previous, shape):
        super().connect(previous, shape)
        # The output is the memory of the input.
        self.needs_output = previous is None or previous.needs_output

    def shape_after(self, shape, previous):
        if None in shape:
            raise ValueError(f"Flatten needs rows of a known shape, not {shape}: give input_shape=")
        return (math.prod(shape),)

    def forward(self, x, training=False):
        self.shape = x.shape
        return x.reshape(len(x), -1)

    def backward(self, grad_output):
        return grad_output.reshape(self.shape)
