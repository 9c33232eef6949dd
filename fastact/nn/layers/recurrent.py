"""Recurrent layers: SimpleRNN, LSTM and GRU over arrays of shape (rows, steps, features).

Inside, the steps come first, so that each is contiguous. What the inputs give is one matrix product over all steps; a step
itself is the product with the last output and one fused pass over the gates. Backward, the gates are replaced by their
gradients, and those of the weights again are one product over all steps.
"""

from __future__ import annotations

import operator

import numpy as np

import fastact as fa

from .. import kernels
from ..initialisation import normal, orthogonal
from ..names import find, named
from .base import match_features, positive, rows_of
from .dense import Biased


class Recurrent(Biased):
    """What the recurrent layers share; subclasses have ``gates``, ``step`` and ``step_back``.

    The state starts at zero. Input weights are drawn after Glorot & Bengio, recurrent ones are random rotations.

    Parameters
    ----------
    inputs, outputs : int
        Features of a step before and after.
    return_sequences : bool
        Whether to return the outputs of all steps, (rows, steps, outputs), or only that of the last, (rows, outputs).
    """

    has_bias = False  # not one that an activation behind could add
    decaying = frozenset({"weight", "recurrent"})
    gates = 1

    def __init__(self, inputs, outputs, *, return_sequences=False):
        positive(inputs=inputs, outputs=outputs)
        self.inputs, self.outputs, self.return_sequences = (
            operator.index(inputs),
            operator.index(outputs),
            bool(return_sequences),
        )
        width = self.gates * self.outputs
        self.shapes = {"weight": (self.inputs, width), "recurrent": (self.outputs, width), "bias": (width,)}
        self.input_shape = (None, self.inputs)

    def shape_after(self, shape, previous):
        if len(shape) != 2:
            raise ValueError(f"{self!r} takes rows of shape (steps, {self.inputs}), not {shape}")
        match_features(self, shape, previous, self.inputs)
        return (shape[0], self.outputs) if self.return_sequences else (self.outputs,)

    def connect(self, previous, shape):
        super().connect(previous, shape)
        chunks = (kernels.chunk(function, "forward", self.like) for function in (fa.sigmoid, fa.tanh))
        self.sizes = (self.outputs, *chunks)

    def initialise(self, rng, following):
        normal(self.parameters["weight"], rng, self.inputs, self.outputs, None, "xavier")
        orthogonal(self.parameters["recurrent"], rng)
        self.parameters["bias"][...] = 0

    def forward(self, x, training=False):
        rows, steps = x.shape[:2]
        if steps == 0:
            raise ValueError(f"{self!r} is given sequences without a step")
        self.x = self.buffer("x", (steps, rows, self.inputs))
        self.x[...] = x.transpose(1, 0, 2)
        self.a = self.buffer("gates", (steps, rows, self.gates * self.outputs))
        np.matmul(rows_of(self.x), self.parameters["weight"], out=rows_of(self.a))
        self.add_bias(self.a)
        self.h = self.buffer("h", (steps + 1, rows, self.outputs))
        self.h[0] = 0
        self.begin(steps, rows)
        recurrent = self.parameters["recurrent"]
        for t in range(steps):
            self.step(t, rows, np.matmul(self.h[t], recurrent, out=self.from_last(t)))
        if not self.return_sequences:
            y = self.buffer("output", (rows, self.outputs))
            y[...] = self.h[steps]
            return y
        y = self.buffer("output", (rows, steps, self.outputs))
        y[...] = self.h[1:].transpose(1, 0, 2)
        return y

    def begin(self, steps, rows):
        """Make the buffers for so many steps and rows."""
        self.b = self.buffer("from_last", (rows, self.gates * self.outputs))

    def from_last(self, t):
        """Where what the last output gives goes."""
        return self.b

    def backward(self, grad_output):
        steps, rows = self.a.shape[:2]
        # Turned around once and not in each of the products, which then take a fifth less time.
        recurrent = self.buffer("turned", self.parameters["recurrent"].shape[::-1])
        recurrent[...] = self.parameters["recurrent"].T
        self.dh = self.buffer("dh", (rows, self.outputs))
        self.dh[...] = 0 if self.return_sequences else grad_output
        self.begin_back(rows)
        for t in reversed(range(steps)):
            if self.return_sequences:
                self.dh += grad_output[:, t]
            self.step_back(t, rows, recurrent)
        a, before = rows_of(self.a), self.h[:-1].reshape(-1, self.outputs)
        np.matmul(before.T, rows_of(self.gradient_from_last()), out=self.gradients["recurrent"])
        np.matmul(rows_of(self.x).T, a, out=self.gradients["weight"])
        self.bias_backward(a)
        if self.is_first:
            return None
        np.matmul(a, self.parameters["weight"].T, out=rows_of(self.x))
        grad_input = self.buffer("grad_input", (rows, steps, self.inputs))
        grad_input[...] = self.x.transpose(1, 0, 2)
        return grad_input

    def begin_back(self, rows):
        """Make what the steps back need."""

    def gradient_from_last(self):
        """The gradient of what the last outputs gave, for all steps."""
        return self.a

    def arguments(self):
        return [self.inputs, self.outputs], {"return_sequences": True} if self.return_sequences else {}


class SimpleRNN(Recurrent):
    __doc__ = (
        "``h = f(x @ weight + h_before @ recurrent + bias)`` (Elman 1990)."
        + Recurrent.__doc__.partition(".")[2]
        + """\
activation : str or fastact activation
        f, such as "tanh", the default, "sigmoid" or "relu".
    """
    )

    def __init__(self, inputs, outputs, *, activation="tanh", return_sequences=False):
        super().__init__(inputs, outputs, return_sequences=return_sequences)
        self.function = find("activation", activation, fa.list_activations())
        if not isinstance(self.function, fa.Activation) or None in self.function.parameters.values():
            raise ValueError(
                f"SimpleRNN takes an activation of fastact whose parameters have defaults, not {activation!r}"
            )

    def step(self, t, rows, b):
        self.a[t] += b
        self.function(self.a[t], out=self.h[t + 1])

    def step_back(self, t, rows, recurrent):
        if self.function.backward_needs == "output":
            self.function.backward(self.dh, output=self.h[t + 1], out=self.a[t])
        else:
            self.function.backward(self.dh, self.a[t], out=self.a[t])
        np.matmul(self.a[t], recurrent, out=self.dh)

    def arguments(self):
        args, kwargs = super().arguments()
        return args, {"activation": named(self.function), **kwargs}


class LSTM(Recurrent):
    __doc__ = "Long short-term memory (Hochreiter & Schmidhuber 1997; forget gate: Gers et al. 2000)." + """

    With the gates i, f, o and the candidate g, made from x and the last h: ``c = f c_before + i g``, ``h = o tanh(c)``. The
    gates stand in the weights in the order i, f, o, g. The bias of the forget gate starts at 1, so that the cell remembers.
    """ + Recurrent.__doc__.partition(".")[2]  # fmt: skip

    gates = 4

    def initialise(self, rng, following):
        super().initialise(rng, following)
        self.parameters["bias"][self.outputs : 2 * self.outputs] = 1

    def begin(self, steps, rows):
        super().begin(steps, rows)
        self.c = self.buffer("c", (steps + 1, rows, self.outputs))
        self.tanh_c = self.buffer("tanh_c", (steps, rows, self.outputs))
        self.c[0] = 0

    def step(self, t, rows, b):
        kernels.lstm(rows, (self.a[t], b, self.c[t], self.c[t + 1], self.tanh_c[t], self.h[t + 1]), self.sizes)

    def begin_back(self, rows):
        self.dc = self.buffer("dc", (rows, self.outputs))
        self.dc[...] = 0

    def step_back(self, t, rows, recurrent):
        kernels.lstm_backward(rows, (self.a[t], self.c[t], self.tanh_c[t], self.dh, self.dc), (self.outputs,))
        np.matmul(self.a[t], recurrent, out=self.dh)


class GRU(Recurrent):
    __doc__ = "Gated recurrent unit (Cho et al. 2014, arXiv:1406.1078)." + """

    With the gates r and z, made from x and the last h: ``n = tanh(x_n + r (h_n + b_n))``, ``h = z h_before + (1 - z) n``,
    where x_n and h_n are what the two give; b_n is ``recurrent_bias``. This is the form that PyTorch and cuDNN have. The
    gates stand in the weights in the order r, z, n.
    """ + Recurrent.__doc__.partition(".")[2]  # fmt: skip

    gates = 3

    def __init__(self, inputs, outputs, *, return_sequences=False):
        super().__init__(inputs, outputs, return_sequences=return_sequences)
        self.shapes["recurrent_bias"] = (self.outputs,)

    def initialise(self, rng, following):
        super().initialise(rng, following)
        self.parameters["recurrent_bias"][...] = 0

    def begin(self, steps, rows):
        self.b = self.buffer("from_last", (steps, rows, 3 * self.outputs))

    def from_last(self, t):
        return self.b[t]

    def step(self, t, rows, b):
        kernels.gru(rows, (self.a[t], b, self.parameters["recurrent_bias"], self.h[t], self.h[t + 1]), self.sizes)

    def begin_back(self, rows):
        self.share = self.buffer("share", (rows, self.outputs))

    def step_back(self, t, rows, recurrent):
        kernels.gru_backward(rows, (self.a[t], self.b[t], self.h[t], self.dh), (self.outputs,))
        self.dh += np.matmul(self.b[t], recurrent, out=self.share)

    def gradient_from_last(self):
        np.sum(rows_of(self.b)[:, 2 * self.outputs :], axis=0, out=self.gradients["recurrent_bias"])
        return self.b
