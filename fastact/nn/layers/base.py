"""What a model asks of a layer.

Every array is C-contiguous, of the model's dtype and where the model is, its first axis the rows. A layer may write over its
input wherever the layer before does not need its output in its own backward pass: activations whose derivative follows from
their output work in place, the others keep their input, and the gradient of a ``Dense`` layer's input replaces that input.

Layers use those of NumPy's functions that CuPy has, too; a new array is a ``buffer``, or made with ``like=self.like``.
"""

from __future__ import annotations

import math

import numpy as np


class Layer:
    """Base of all layers.

    Attributes
    ----------
    input_shape, output_shape : tuple
        Of one row; None stands for a length that is only known when data come.
    shapes : dict
        Shapes of the learned parameters. The model makes ``parameters`` and ``gradients``, dicts of arrays with the
        same keys; they are views of the model's own vectors, so change them in place (``weight[...] = 0``).
    decaying : set
        Those of the parameters that weight decay takes hold of: weights, but no biases, slopes or scales.
    states : dict
        Arrays that are saved but not learned.
    needs_output : bool
        Whether ``backward`` reads the output of ``forward``, so that nobody may write over it.
    transparent : bool
        Whether the activation that a weight in front of this layer is drawn for stands behind it.
    takes_integers : bool
        Whether the input is an array of int64, which is always in NumPy's memory.
    like : ndarray
        An empty array where the layer is to compute, of its dtype; the model sets it.
    """

    shapes: dict[str, tuple[int, ...]] = {}
    decaying: frozenset[str] = frozenset()
    needs_output = False
    transparent = False
    takes_integers = False
    like: np.ndarray
    input_shape: tuple | None = None

    dtype = property(lambda self: self.like.dtype)

    def connect(self, previous, shape):
        """Take place behind `previous`, which is None for the first layer, and take rows of that shape."""
        if shape is None:
            raise ValueError("a model starts with Dense or another layer that says how many features it takes, or is given "
                             f"input_shape=; {self!r} does not say")  # fmt: skip
        self.is_first = previous is None
        self.overwrites_input = previous is not None and not previous.needs_output
        self.input_shape = shape
        self.output_shape = self.shape_after(shape, previous)
        self.states, self.stores, self.buffers = {}, {}, {}

    def shape_after(self, shape, previous):
        """Shape of a row of the output, or a ValueError that says why rows of `shape` do not fit."""
        return shape

    def initialise(self, rng, following):
        """Draw the parameters; `following` is the layer that they are drawn for, or None."""

    def forward(self, x, training=False):
        """Output for `x`, valid until the next call."""
        raise NotImplementedError

    def backward(self, grad_output):
        """Gradient with respect to the last input of `forward`; fills ``gradients``, may write over `grad_output`."""
        raise NotImplementedError

    def arguments(self):
        """Positional and keyword arguments that make this layer again: what JSON has, and activations of the user's own."""
        return [], {}

    def buffer(self, name, shape, dtype=None):
        """An array that stays between calls; it grows to the largest shape seen."""
        array = self.buffers.get(name)
        if array is None or array.shape != shape:
            size = math.prod(shape)
            store = self.stores.get(name)
            if store is None or store.size < size:
                store = self.stores[name] = np.empty(size, dtype or self.dtype, like=self.like)
            array = self.buffers[name] = store[:size].reshape(shape)
        return array

    def input_or_buffer(self, x):
        """Memory of the shape of the input that may be written: the input itself where nobody needs it any more."""
        return x if self.overwrites_input else self.buffer("grad_input", x.shape)

    def output_or_input(self, x):
        """The same for the output of a layer that can work in place."""
        return x if self.overwrites_input else self.buffer("output", x.shape)

    def __repr__(self):
        args, kwargs = self.arguments()
        arguments = [repr(value) for value in args] + [f"{name}={value!r}" for name, value in kwargs.items()]
        return f"{type(self).__name__}({', '.join(arguments)})"


def rows_of(x):
    """The array as a matrix whose columns are its last axis."""
    return x.reshape(-1, x.shape[-1])


def positive(**numbers):
    """Raise ValueError unless all are integers of at least 1."""
    for name, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
            raise ValueError(f"{name} must be an integer of at least 1, not {value!r}")


def match_features(layer, shape, previous, features):
    """Raise ValueError unless rows of that shape end in so many features."""
    if shape[-1] != features:
        source = f"follows {previous!r}, which gives" if previous is not None else "is given"
        raise ValueError(f"{layer!r} {source} {shape[-1]} features")
