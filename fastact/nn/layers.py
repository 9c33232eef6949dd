"""Layers: a forward and a backward pass over buffers that are made once.

Every array is C-contiguous float32 of shape (rows, features). A layer may write over its input wherever the layer
before does not need its output in its own backward pass: activations whose derivative follows from their output work in
place, the others keep their input, and the gradient of a ``Dense`` layer's input replaces that input.
"""

from __future__ import annotations

import math
import operator

import numpy as np

import fastact as fa

from .names import find

ROWWISE = ("softmax", "log_softmax", "softmin")

# The initialisation whose variance suits what follows; every other activation is a rectifier or shaped like one (He).
XAVIER = {"identity", "sigmoid", "tanh", "softsign", "softshrink", "hardshrink", "tanhshrink", "hardtanh",
          "hardsigmoid", "logsigmoid", *ROWWISE}
LECUN = {"selu"}


class Layer:
    """What `Sequential` asks of a layer.

    Attributes
    ----------
    outputs : int
        Features of the output.
    needs_output : bool
        Whether ``backward`` reads the output of ``forward``, so that nobody may write over it.
    shapes : dict
        Shapes of the learned parameters. The model makes ``parameters`` and ``gradients``, dicts of arrays with the
        same keys; they are views of the model's own vectors, so change them in place (``weight[...] = 0``).
    """

    needs_output = False
    shapes: dict[str, tuple[int, ...]] = {}

    def connect(self, previous):
        """Take place behind `previous`, which is None for the first layer."""
        if previous is None:
            raise ValueError(f"a model starts with Dense, which says how many features it takes, not with {self!r}")
        self.outputs = previous.outputs
        self.overwrites_input = not previous.needs_output

    def initialise(self, rng, following):
        """Draw the parameters; `following` is the layer behind this one, or None."""

    def allocate(self, rows):
        """Make the buffers for batches of up to `rows` rows."""

    def forward(self, x):
        """Output for `x`, valid until the next call."""
        raise NotImplementedError

    def backward(self, grad_output):
        """Gradient with respect to the last input of `forward`; fills ``gradients``, may write over `grad_output`."""
        raise NotImplementedError

    def arguments(self):
        """Positional and keyword arguments that make this layer again; plain enough for JSON."""
        raise NotImplementedError

    def __repr__(self):
        args, kwargs = self.arguments()
        arguments = [repr(value) for value in args] + [f"{name}={value!r}" for name, value in kwargs.items()]
        return f"{type(self).__name__}({', '.join(arguments)})"


class Dense(Layer):
    """Fully connected layer, ``x @ weight + bias``.

    The weights start as normal draws whose variance suits the activation that follows: 2 / inputs before rectifiers and
    their smooth relatives (He et al. 2015), 1 / inputs before selu (LeCun et al. 1998), else 2 / (inputs + outputs)
    (Glorot & Bengio 2010). The bias starts at zero.

    Parameters
    ----------
    inputs, outputs : int
        Features of a row before and after.
    """

    def __init__(self, inputs, outputs):
        if inputs < 1 or outputs < 1:
            raise ValueError(f"Dense needs at least one input and one output, not {inputs} and {outputs}")
        self.inputs, self.outputs = operator.index(inputs), operator.index(outputs)
        self.shapes = {"weight": (self.inputs, self.outputs), "bias": (self.outputs,)}

    def connect(self, previous):
        if previous is not None and previous.outputs != self.inputs:
            raise ValueError(f"{self!r} follows {previous!r}, which gives {previous.outputs} features")
        self.is_first = previous is None
        self.overwrites_input = not self.is_first and not previous.needs_output

    def initialise(self, rng, following):
        weight = self.parameters["weight"]
        rng.standard_normal(dtype=np.float32, out=weight)
        weight *= math.sqrt(self._variance(following))
        self.parameters["bias"][...] = 0

    def _variance(self, following):
        if isinstance(following, PReLU):
            return 2 / (1 + following.initial**2) / self.inputs
        if not isinstance(following, Activation) or following.function.__name__ in XAVIER:
            return 2 / (self.inputs + self.outputs)
        return (1 if following.function.__name__ in LECUN else 2) / self.inputs

    def allocate(self, rows):
        self.output = np.empty((rows, self.outputs), np.float32)
        if not self.is_first and not self.overwrites_input:
            self.grad_input = np.empty((rows, self.inputs), np.float32)

    def forward(self, x):
        self.x = x
        y = np.matmul(x, self.parameters["weight"], out=self.output[: len(x)])
        y += self.parameters["bias"]
        return y

    def backward(self, grad_output):
        np.matmul(self.x.T, grad_output, out=self.gradients["weight"])
        np.sum(grad_output, axis=0, out=self.gradients["bias"])
        if self.is_first:
            return None
        grad_input = self.x if self.overwrites_input else self.grad_input[: len(grad_output)]
        return np.matmul(grad_output, self.parameters["weight"].T, out=grad_input)

    def arguments(self):
        return [self.inputs, self.outputs], {}


class Activation(Layer):
    """Layer around an activation of fastact.

    It keeps only what the backward pass of the activation needs: its output, written over its input, or its input.

    Parameters
    ----------
    activation : str or fastact activation
        Such as ``"gelu"`` or ``fa.gelu``; also ``"softmax"``, ``"log_softmax"`` and ``"softmin"`` over the features.
    **parameters : float or array_like
        Parameters of the activation, such as ``negative_slope=0.03``.
    """

    def __init__(self, activation, **parameters):
        self.function = find("activation", activation, [*fa.list_activations(), *ROWWISE])
        if self.function is fa.prelu:
            raise ValueError("the slope of prelu is learned: use nn.PReLU(), or leaky_relu for a fixed slope")
        is_rowwise = self.function in (fa.softmax, fa.log_softmax, fa.softmin)
        if not is_rowwise and not isinstance(self.function, fa.Activation):
            raise TypeError(f"Activation takes an activation of fastact or its name, not {activation!r}")
        self.options = {name: float(value) if np.ndim(value) == 0 else np.asarray(value, np.float32)
                        for name, value in parameters.items()}
        self.function(np.zeros(1, np.float32), **self.options)  # a wrong parameter is reported here, not while training
        # A falling function has the same output on both sides of its kink.
        rising = all(np.all(self.options.get(name, 0) >= 0) for name in ("negative_slope", "alpha"))
        self.needs_output = is_rowwise or rising and self.function.backward_needs == "output"

    def connect(self, previous):
        super().connect(previous)
        self.in_place = self.needs_output and self.overwrites_input

    def allocate(self, rows):
        if not self.in_place:
            self.output = np.empty((rows, self.outputs), np.float32)

    def forward(self, x):
        y = self.function(x, out=x if self.in_place else self.output[: len(x)], **self.options)
        self.kept = y if self.needs_output else x
        return y

    def backward(self, grad_output):
        if self.needs_output:
            return self.function.backward(grad_output, output=self.kept, out=grad_output, **self.options)
        return self.function.backward(grad_output, self.kept, out=grad_output, **self.options)

    def arguments(self):
        options = {name: value if np.ndim(value) == 0 else value.tolist() for name, value in self.options.items()}
        return [self.function.__name__], options


class PReLU(Layer):
    """Leaky rectifier that learns one slope per feature, ``x if x > 0 else weight x``.

    After He et al. 2015, arXiv:1502.01852.

    Parameters
    ----------
    initial : float
        Slope before training.
    """

    def __init__(self, initial=0.25):
        self.initial = float(initial)

    def connect(self, previous):
        super().connect(previous)
        self.shapes = {"weight": (self.outputs,)}

    def initialise(self, rng, following):
        self.parameters["weight"][...] = self.initial

    def allocate(self, rows):
        self.output = np.empty((rows, self.outputs), np.float32)

    def forward(self, x):
        self.x = x
        return fa.prelu(x, self.parameters["weight"], out=self.output[: len(x)])

    def backward(self, grad_output):
        grad_input, self.gradients["weight"][...] = fa.prelu.backward(grad_output, self.x, self.parameters["weight"])
        return grad_input

    def arguments(self):
        return [self.initial], {}
