"""Sequential: layers in a row, their parameters in one vector, and the file they are saved in."""

from __future__ import annotations

import contextlib
import json
import math
import os
import struct
import zipfile
import zlib

import numpy as np

import fastact as fa

from ..backends import check_real
from .layers import LAYERS, Layer
from .layers.base import positive
from .places import as_array, beside, is_array, on_host, prototype


class Sequential:
    """Layers in a row.

    All learned parameters live in one vector and their gradients in another, and each layer holds views of them: an
    optimizer takes one step over one array. The buffers between the layers grow to the largest batch seen and stay, so a
    model serves one Python thread at a time; a copy (``copy.deepcopy``) has its own.

    Parameters
    ----------
    layers : sequence of layers
    input_shape : tuple, optional
        Shape of one row, such as (32, 32, 3) for images; None stands for any length. Needed where the first layer does not
        tell, as `Dense`, `Embedding` and the recurrent layers do.
    seed : int, numpy.random.Generator or None
        For the initial weights and for dropout: the same seed gives the same, None different ones each time.
    dtype : {float32, float64}
        Of the parameters and of everything that is computed.
    like : array, optional
        The model computes where this array is: one of CuPy, such as the training data, puts it on CuPy's current GPU. The
        same seed draws the same weights there.

    Attributes
    ----------
    layers : list
    like : ndarray
        An empty array where the model is, of its dtype.
    parameters, gradients : ndarray, one-dimensional
    spans : list of (begin, end, decays)
        Where in the vector the parameters lie that weight decay takes hold of, and where the others.

    Raises
    ------
    ValueError
        If a layer does not fit behind the one before.
    TypeError
        If `like` is no array of NumPy or CuPy.
    """

    def __init__(self, layers, *, input_shape=None, seed=0, dtype=np.float32, like=None):
        self.connect(layers, input_shape, dtype, like)
        self.initialise(seed)

    def connect(self, layers, input_shape, dtype, like):
        """Put the layers in a row and give them their parameters, which are not drawn yet."""
        self.layers = list(layers)
        self.dtype = np.dtype(dtype)
        if self.dtype not in (np.float32, np.float64):
            raise ValueError(f"a model computes in float32 or float64, not in {self.dtype}")
        self.like = prototype(like, self.dtype)
        if not self.layers:
            raise ValueError("a model needs at least one layer")
        for layer in self.layers:
            if not isinstance(layer, Layer):
                raise TypeError(f"a model is made of layers, such as nn.Dense(4, 3) and nn.Activation('gelu'), not of {layer!r}")
        if len(set(self.layers)) < len(self.layers) or any(hasattr(layer, "parameters") for layer in self.layers):
            raise ValueError("a layer has one place in one model: make a new object for each place")
        shape = self.layers[0].input_shape if input_shape is None else tuple(input_shape)
        for previous, layer in zip([None, *self.layers], self.layers):
            layer.like = self.like
            layer.connect(previous, shape)
            shape = layer.output_shape
        self.input_shape, self.output_shape = self.layers[0].input_shape, shape
        self.share_out_parameters()

    def initialise(self, seed=0):
        """Draw all parameters anew."""
        rng = np.random.default_rng(seed)
        for position, layer in enumerate(self.layers):
            behind = (other for other in self.layers[position + 1 :] if not other.transparent)
            layer.initialise(rng, next(behind, None))

    def share_out_parameters(self):
        """Make the two vectors, and for each layer its views of them."""
        count = sum(math.prod(shape) for layer in self.layers for shape in layer.shapes.values())
        self.parameters, self.gradients = np.zeros((2, count), self.dtype, like=self.like)
        self.spans = []
        end = 0
        for layer in self.layers:
            layer.parameters, layer.gradients = {}, {}
            for name, shape in layer.shapes.items():
                begin, end = end, end + math.prod(shape)
                layer.parameters[name] = self.parameters[begin:end].reshape(shape)
                layer.gradients[name] = self.gradients[begin:end].reshape(shape)
                decays = name in layer.decaying
                if self.spans and self.spans[-1][2] == decays:
                    begin = self.spans.pop()[0]
                self.spans.append((begin, end, decays))

    inputs = property(lambda self: self.input_shape[-1], doc="Features of a row before the first layer.")
    outputs = property(lambda self: self.output_shape[-1], doc="Features of a row after the last one.")

    def as_input(self, x):
        """`x` as the C-contiguous array that the layers take: of the model's dtype, or of int64 where numbers are looked up.

        Those are given in NumPy's memory, where they can be checked without waiting for a GPU.

        Raises
        ------
        ValueError
            If the shape does not fit.
        TypeError
            If integers are wanted and `x` has others, or real numbers and it has none, or `x` is on a GPU and the model is not.
        """
        if self.layers[0].takes_integers:
            x = x if isinstance(x, np.ndarray) else on_host(beside(self.like, x))
            if x.dtype.kind not in "iu":
                raise TypeError(f"{self.layers[0]!r} takes integers, not {x.dtype}")
            x = np.ascontiguousarray(x, np.int64)
        else:
            x = as_array(x)
            if isinstance(x, np.ndarray):
                check_real(x, "what the model takes")
            x = beside(self.like, x, self.dtype)
        if x.ndim != 1 + len(self.input_shape) or any(
            n not in (None, m) for n, m in zip(self.input_shape, x.shape[1:])
        ):
            wanted = ", ".join("any" if n is None else str(n) for n in self.input_shape)
            raise ValueError(f"the model takes an array of shape (rows, {wanted}), not {x.shape}")
        return x

    def forward(self, x, training=False):
        """Output for one batch from `as_input`: a view of a buffer, valid until the next call."""
        for layer in self.layers:
            x = layer.forward(x, training)
        return x

    def backward(self, grad_output):
        """Fill ``gradients`` from the gradient of the last output; `grad_output` is used as scratch space."""
        for layer in reversed(self.layers):
            grad_output = layer.backward(grad_output)

    def predict(self, x, batch_size=256):
        """Output of the model, computed `batch_size` rows at a time.

        Parameters
        ----------
        x : array_like of shape (rows, *input_shape)
            A model on a GPU copies each batch there if it is not there yet.

        Returns
        -------
        array of shape (rows, *output_shape)
            Where the model is.
        """
        positive(batch_size=batch_size)
        if not (is_array(x) and x.ndim == 1 + len(self.input_shape)):
            x = self.as_input(x)
        if not len(x):
            return np.empty((0, *self.output_shape_for(self.as_input(x))), self.dtype, like=self.like)
        output = None
        with np.errstate(all="ignore"):  # NaN and infinities pass; NumPy's products would warn of them
            for begin in range(0, len(x), batch_size):
                rows = slice(begin, begin + batch_size)
                part = self.forward(self.as_input(x[rows]))  # so that an array larger than memory is converted in parts
                if output is None:
                    output = np.empty((len(x), *part.shape[1:]), self.dtype, like=self.like)
                output[rows] = part
        return output

    def output_shape_for(self, x):
        """Shape of a row of the output, lengths that were open taken from `x`."""
        return tuple(x.shape[1] if n is None else n for n in self.output_shape)

    def state(self):
        """Copies of everything that training changes: the parameters, and by position and name the states of the layers."""
        return {name: array.copy() for name, array in self._changing().items()}

    def set_state(self, state):
        """Take over what `state` returned. Raises ValueError where it belongs to another model."""
        mine = self._changing()
        if mine.keys() != state.keys():
            raise ValueError(f"saved are {', '.join(sorted(state))}; the model has {', '.join(sorted(mine))}")
        for name, array in mine.items():
            if array.shape != state[name].shape or array.dtype != state[name].dtype:
                raise ValueError(f"saved are {name} of {state[name].dtype} and shape {state[name].shape}; {self!r} has "
                                 f"{array.dtype} and {array.shape}")  # fmt: skip
        for name, array in mine.items():
            array[...] = beside(array, state[name])

    def _changing(self):
        states = {
            f"{position}.{name}": array
            for position, layer in enumerate(self.layers)
            for name, array in layer.states.items()
        }
        return {"parameters": self.parameters, **states}

    def configuration(self):
        """The layers, as (class name, positional, keyword arguments), and the input's shape, as `in_json` takes them."""
        return {"layers": [[type(layer).__name__, *layer.arguments()] for layer in self.layers],
                "input_shape": list(self.input_shape)}  # fmt: skip

    def save(self, path):
        """Write architecture, parameters and states to a .npz file, for `load`."""
        write(path, self.configuration(), self.state())

    def __repr__(self):
        return f"Sequential([{', '.join(map(repr, self.layers))}])"

    def __reduce__(self):
        # By its parts: a plain copy would hold views that are no longer views of one vector.
        return restore, (self.configuration(), self.state(), self.like)


def restore(configuration, state, like, activations=()):
    """The model with this configuration and these arrays, where `like` is; ValueError if they make none."""
    own = {activation.__name__: activation for activation in activations}
    if len(own) < len(activations):
        raise ValueError(f"of {activations!r} two have the same name")

    def argument(value):
        if not isinstance(value, dict):
            return value
        if value["own"] not in own:
            raise ValueError(f"it has an activation of one's own: nn.load(path, activations=[{value['own']}])")
        return own[value["own"]]

    try:
        described, shape = configuration["layers"], configuration.get("input_shape")
        unknown = {name for name, _, _ in described} - set(LAYERS)
        if unknown:
            raise ValueError(f"unknown layers {sorted(unknown)}; this version has {sorted(LAYERS)}")
        model = Sequential.__new__(Sequential)  # drawing the parameters would be wasted
        model.connect(
            [LAYERS[name](*map(argument, args), **{key: argument(value) for key, value in kwargs.items()})
             for name, args, kwargs in described], shape, state["parameters"].dtype, like)  # fmt: skip
        model.set_state(state)
    except (KeyError, TypeError, AttributeError, MemoryError, OverflowError) as error:
        raise ValueError(f"this does not describe a model: {error!r}") from error
    return model


# Files ----------------------------------------------------------------------------------------------------------------

DESCRIPTIONS = ("layers", "input_shape", "trainer")
"""What is JSON in a file; all else are arrays."""
BROKEN = (ValueError, OSError, EOFError, KeyError, TypeError, AttributeError, IndexError, RuntimeError, SyntaxError, MemoryError,
          OverflowError, RecursionError, zipfile.BadZipFile, zlib.error, struct.error)  # fmt: skip
"""What NumPy, zipfile and json are known to raise on files that are not theirs."""


def load(path, like=None, activations=()):
    """The `Sequential` that ``model.save(path)`` wrote, or the one in a checkpoint.

    The file is data only: nothing in it is executed. It does not say where the model was.

    Parameters
    ----------
    path : str or path
    like : array, optional
        The model is made where this array is, as by `Sequential`.
    activations : sequence of Activation
        Those of one's own that the model has, by `fastact.activation`; the file has their names alone.

    Raises
    ------
    ValueError
        If the file is broken, or no saved model.
    TypeError
        If `like` is no array of NumPy or CuPy.
    """
    like = prototype(like, np.float32)
    descriptions, arrays = read(path)
    try:
        state = {name: array for name, array in arrays.items() if not name.startswith("trainer.")}
        return restore(descriptions, state, like, activations)
    except ValueError as error:
        raise ValueError(f"{path} is no model that can be loaded: {error}") from error


def write(path, descriptions, arrays):
    """A .npz file of descriptions and arrays; moved into place when it is whole."""
    arrays = {name: on_host(array) for name, array in arrays.items()}
    temporary = f"{os.fspath(path)}.part"
    with contextlib.ExitStack() as failed:
        with open(temporary, "wb") as file:
            failed.callback(os.remove, temporary)
            np.savez(file, **{name: in_json(value) for name, value in descriptions.items()}, **arrays)
        os.replace(temporary, path)
        failed.pop_all()


def in_json(description):
    """A description in JSON, where an activation of the user's own is an object with its name."""

    def plain(value):
        if isinstance(value, fa.Activation):
            return {"own": value.__name__}
        raise TypeError(f"{value!r} cannot be saved")

    return json.dumps(description, default=plain)


def read(path):
    """Descriptions and arrays of a file that `write` wrote; ValueError if it is none."""
    with open(path, "rb") as opened:
        try:
            with np.load(opened, allow_pickle=False) as file:
                content = {name: file[name] for name in file}
            missing = {"layers", "parameters"} - set(content)
            if missing:
                raise ValueError(f"it lacks {' and '.join(sorted(missing))}")
            descriptions = {name: json.loads(str(content.pop(name))) for name in DESCRIPTIONS if name in content}
        except BROKEN as error:
            raise ValueError(f"{path} is broken, or no saved model: {error}") from error
    return descriptions, content
