"""Activations as layers, and the one whose slope is learned."""

from __future__ import annotations

import numpy as np

import fastact as fa

from .. import kernels
from ..names import find, named
from ..places import beside, on_host
from .base import Layer, rows_of

ROWWISE = ("softmax", "log_softmax", "softmin")


class Activation(Layer):
    """Layer around an activation of fastact.

    It keeps only what the backward pass of the activation needs: its output, written over its input, or its input. Behind
    a layer with a bias it adds that bias in the same pass.

    Parameters
    ----------
    activation : str or fastact activation
        Such as ``"gelu"`` or ``fa.gelu``; also ``"softmax"``, ``"log_softmax"`` and ``"softmin"`` over the last axis.
    **parameters : float or array_like
        Parameters of the activation, such as ``negative_slope=0.03``; of those over the last axis, ``temperature``.
    """

    def __init__(self, activation, **parameters):
        self.function = find("activation", activation, [*fa.list_activations(), *ROWWISE])
        if self.function is fa.prelu:
            raise ValueError("the slope of prelu is learned: use nn.PReLU(), or leaky_relu for a fixed slope")
        self.is_rowwise = self.function in (fa.softmax, fa.log_softmax, fa.softmin)
        if not self.is_rowwise and not isinstance(self.function, fa.Activation):
            raise TypeError(f"Activation takes an activation of fastact or its name, not {activation!r}")
        known = ["temperature"] if self.is_rowwise else list(self.function.parameters)
        if unknown := parameters.keys() - known:  # the function itself takes more, such as axis, which a layer would not heed
            raise TypeError(f"Activation({self.function.__name__!r}) takes {' and '.join(known) or 'no parameters'}, not "
                            f"{' and '.join(sorted(unknown))}")  # fmt: skip
        self.options = {name: float(value) if np.ndim(value) == 0 else np.asarray(value, np.float64)
                        for name, value in parameters.items()}  # fmt: skip
        self.function(np.zeros(1), **self.options)  # a missing or wrong parameter is reported here, not while training
        # A falling function has the same output on both sides of its kink.
        rising = all(np.all(self.options.get(name, 0) >= 0) for name in ("negative_slope", "alpha"))
        self.needs_output = self.is_rowwise or rising and self.function.backward_needs == "output"

    def connect(self, previous, shape):
        super().connect(previous, shape)
        self.in_place = self.needs_output and self.overwrites_input
        self.biased = None
        if self.is_rowwise or self.function.row.custom or any(np.ndim(value) for value in self.options.values()):
            self.options = {name: beside(self.like, value, self.dtype) if np.ndim(value) else value
                            for name, value in self.options.items()}  # fmt: skip
            return
        if getattr(previous, "has_bias", False):
            self.biased, previous.adds_bias = previous, False
        values = {**self.function.parameters, **self.options}
        self.values = tuple(map(float, values.values()))
        kind = "backward_from_output" if self.needs_output else "backward"
        self.chunks = [kernels.chunk(self.function, kind, self.like) for kind in ("forward", kind)]

    def forward(self, x, training=False):
        y = x if self.in_place else self.buffer("output", x.shape)
        if self.biased is None:
            self.function(x, out=y, **self.options)
        else:
            features = x.shape[-1]
            kernels.bias_activation(
                x.size // features, (x, self.biased.parameters["bias"], y), (features, self.chunks[0]), self.values
            )
        self.kept = y if self.needs_output else x
        return y

    def backward(self, grad_output):
        if self.biased is not None:
            self.biased.bias_backward(grad_output, self.kept, self.chunks[1], self.values)
            return grad_output
        if self.needs_output:
            return self.function.backward(grad_output, output=self.kept, out=grad_output, **self.options)
        return self.function.backward(grad_output, self.kept, out=grad_output, **self.options)

    def dead_share(self):
        """Share of the units whose derivative was 0 everywhere in the last `forward`."""
        kept = rows_of(self.kept)
        alive = np.zeros(kept.shape[1], bool, like=kept)
        count = max(1, 16384 // kept.shape[1])
        for part in (kept[begin : begin + count] for begin in range(0, len(kept), count)):
            slopes = (self.function.backward(np.ones_like(part), output=part, **self.options) if self.needs_output
                      else self.function.derivative(part, **self.options))  # fmt: skip
            alive |= slopes.any(axis=0)
        return 1 - float(alive.mean())

    def arguments(self):
        options = {name: value if np.ndim(value) == 0 else on_host(value).astype(np.float64).tolist()
                   for name, value in self.options.items()}  # fmt: skip
        return [named(self.function)], options


class PReLU(Layer):
    """Leaky rectifier that learns one slope for each feature, ``x if x > 0 else weight x``.

    The slopes, which weight decay would pull towards those of a rectifier, are left out of it. After He et al. 2015,
    arXiv:1502.01852.

    Parameters
    ----------
    initial : float
        Slope before training.
    """

    def __init__(self, initial=0.25):
        self.initial = float(initial)

    def shape_after(self, shape, previous):
        self.shapes = {"weight": shape[-1:]}
        return shape

    def initialise(self, rng, following):
        self.parameters["weight"][...] = self.initial

    def forward(self, x, training=False):
        self.x = x
        return fa.prelu(x, self.parameters["weight"], out=self.buffer("output", x.shape))

    def backward(self, grad_output):
        features = self.x.shape[-1]
        rows = self.x.size // features
        unit, count = kernels.units(rows, features)
        totals = self.buffer("totals", (count, features), np.float64)
        kernels.slopes_backward(count, (grad_output, self.x, self.parameters["weight"], totals), (features, unit, rows))
        kernels.fold_units(totals, self.gradients["weight"])
        return grad_output

    def arguments(self):
        return [self.initial], {}
