"""Sequential: layers in a row, their parameters in one vector, and the file they are saved in."""

from __future__ import annotations

import json
import math

import numpy as np

from .layers import Activation, Dense, PReLU

LAYERS = {layer.__name__: layer for layer in (Dense, Activation, PReLU)}


class Sequential:
    """Layers in a row.

    All learned parameters live in one vector and their gradients in another, and each layer holds views of them: an
    optimizer takes one step over one array. The buffers between the layers grow to the largest batch seen and stay, so
    a model serves one Python thread at a time; a copy (``copy.deepcopy``) has its own.

    Parameters
    ----------
    layers : sequence of layers
        The first one is a `Dense`.
    seed : int, numpy.random.Generator or None
        For the initial weights: the same seed gives the same weights, None different ones each time.

    Attributes
    ----------
    layers : list
    parameters, gradients : ndarray of float32, one-dimensional
    """

    def __init__(self, layers, *, seed=0):
        self.layers = list(layers)
        if not self.layers:
            raise ValueError("a model needs at least one layer")
        if len(set(self.layers)) < len(self.layers) or any(hasattr(layer, "parameters") for layer in self.layers):
            raise ValueError("a layer has one place in one model: make a new object for each place")
        for previous, layer in zip([None, *self.layers], self.layers):
            layer.connect(previous)
        self.inputs, self.outputs = self.layers[0].inputs, self.layers[-1].outputs
        self.rows = 0

        count = sum(math.prod(shape) for layer in self.layers for shape in layer.shapes.values())
        self.parameters, self.gradients = np.zeros((2, count), np.float32)
        end = 0
        for layer in self.layers:
            layer.parameters, layer.gradients = {}, {}
            for name, shape in layer.shapes.items():
                begin, end = end, end + math.prod(shape)
                layer.parameters[name] = self.parameters[begin:end].reshape(shape)
                layer.gradients[name] = self.gradients[begin:end].reshape(shape)

        rng = np.random.default_rng(seed)
        for layer, following in zip(self.layers, [*self.layers[1:], None]):
            layer.initialise(rng, following)

    def as_input(self, x):
        """`x` as the C-contiguous float32 array of shape (rows, inputs) that the layers take."""
        x = np.ascontiguousarray(x, np.float32)
        if x.ndim != 2 or x.shape[1] != self.inputs:
            raise ValueError(f"the model takes an array of shape (rows, {self.inputs}), not {x.shape}")
        return x

    def reserve(self, rows):
        """Make sure that the buffers hold `rows` rows."""
        if rows > self.rows:
            for layer in self.layers:
                layer.allocate(rows)
            self.rows = rows

    def forward(self, x):
        """Output for one batch from `as_input`: a view of a buffer, valid until the next call."""
        self.reserve(len(x))
        for layer in self.layers:
            x = layer.forward(x)
        return x

    def backward(self, grad_output):
        """Fill ``gradients`` from the gradient of the last output; `grad_output` is used as scratch space."""
        for layer in reversed(self.layers):
            grad_output = layer.backward(grad_output)

    def predict(self, x, batch_size=256):
        """Output of the model, computed `batch_size` rows at a time.

        Parameters
        ----------
        x : array_like of shape (rows, inputs)

        Returns
        -------
        ndarray of float32, shape (rows, outputs)
        """
        x = self.as_input(x)
        output = np.empty((len(x), self.outputs), np.float32)
        for begin in range(0, len(x), batch_size):
            rows = slice(begin, begin + batch_size)
            output[rows] = self.forward(x[rows])
        return output

    def configuration(self):
        """The layers as (class name, positional, keyword arguments), in types that JSON has."""
        return [[type(layer).__name__, *layer.arguments()] for layer in self.layers]

    def save(self, path):
        """Write layers and parameters to a .npz file, for `load`."""
        with open(path, "wb") as file:
            np.savez(file, layers=json.dumps(self.configuration()), parameters=self.parameters)

    def __repr__(self):
        return f"Sequential([{', '.join(map(repr, self.layers))}])"

    def __reduce__(self):
        # By its parts: a plain copy would hold views that are no longer views of one vector.
        return restore, (self.configuration(), self.parameters.copy())


def load(path):
    """The `Sequential` that ``model.save(path)`` wrote. The file is data only: nothing in it is executed.

    Raises
    ------
    ValueError
        If the file is no saved model.
    """
    with np.load(path, allow_pickle=False) as file:
        missing = {"layers", "parameters"} - set(file)
        if missing:
            raise ValueError(f"{path} is no saved model: it lacks {' and '.join(sorted(missing))}")
        return restore(json.loads(str(file["layers"])), file["parameters"])


def restore(configuration, parameters):
    """The model with this configuration and these parameters."""
    unknown = {name for name, *_ in configuration} - set(LAYERS)
    if unknown:
        raise ValueError(f"unknown layers {sorted(unknown)}; this version has {sorted(LAYERS)}")
    model = Sequential([LAYERS[name](*args, **kwargs) for name, args, kwargs in configuration])
    if parameters.shape != model.parameters.shape:
        raise ValueError(f"{model!r} has {model.parameters.size} parameters, but {parameters.size} were saved")
    model.parameters[...] = parameters
    return model
