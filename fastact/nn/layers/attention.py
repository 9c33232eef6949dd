"""Self-attention, whose heart is a masked softmax."""

from __future__ import annotations

import math
import operator

import numpy as np

import fastact as fa

from .. import kernels
from ..initialisation import normal
from .base import Layer, match_features, positive, rows_of


class Attention(Layer):
    """Self-attention over (rows, steps, features): every step looks at all steps of its row.

    ``softmax(q k^T / sqrt(d)) v`` for each head, with queries, keys and values made from the input; the heads side by side
    go through a last matrix. Steps that an `Embedding` in front marks as padding are not looked at. After Vaswani et al.
    2017, arXiv:1706.03762.

    Parameters
    ----------
    features : int
        Of a step, before and after.
    heads : int
        A divisor of `features`.
    causal : bool
        Whether a step looks only at itself and those before.
    """

    decaying = frozenset({"weight", "output"})

    def __init__(self, features, heads=1, *, causal=False):
        positive(features=features, heads=heads)
        if features % heads:
            raise ValueError(f"{features} features cannot be shared out among {heads} heads")
        self.features, self.heads, self.causal = operator.index(features), operator.index(heads), bool(causal)
        n = self.features
        self.shapes = {"weight": (n, 3 * n), "bias": (3 * n,), "output": (n, n), "output_bias": (n,)}
        self.input_shape = (None, n)

    def connect(self, previous, shape):
        super().connect(previous, shape)
        self.previous = previous

    def shape_after(self, shape, previous):
        if len(shape) != 2:
            raise ValueError(f"{self!r} takes rows of shape (steps, {self.features}), not {shape}")
        match_features(self, shape, previous, self.features)
        return shape

    def initialise(self, rng, following):
        for name in ("weight", "output"):
            normal(self.parameters[name], rng, self.features, self.features, None, "xavier")
        for name in ("bias", "output_bias"):
            self.parameters[name][...] = 0

    def where(self, steps):
        """What each step may look at, to broadcast with (rows, heads, steps, steps), or None for everything."""
        layer = self.previous
        while layer is not None and not hasattr(layer, "mask"):
            layer = getattr(layer, "previous", None)
        mask = None if layer is None or layer.mask is None else layer.mask[:, None, None, :]
        if not self.causal:
            return mask
        earlier = np.tri(steps, dtype=bool, like=self.like)
        return earlier if mask is None else earlier & mask

    def parts(self, combined):
        """Queries, keys and values as views of shape (rows, heads, steps, features of a head)."""
        rows, steps = combined.shape[:2]
        return combined.reshape(rows, steps, 3, self.heads, -1).transpose(2, 0, 3, 1, 4)

    def add_bias(self, y, bias):
        kernels.bias_activation(len(y), (y, self.parameters[bias], y), (y.shape[1], 0), (0.0, 0.0))

    def bias_gradient(self, grad, bias):
        unit, count = kernels.units(*grad.shape)
        totals = self.buffer(f"{bias}_totals", (count, grad.shape[1]), np.float64)
        kernels.column_sums(count, (grad, totals, None), (grad.shape[1], unit, len(grad)))
        kernels.fold_units(totals, self.gradients[bias])

    def forward(self, x, training=False):
        rows, steps, n = x.shape
        self.x = x
        self.combined = self.buffer("combined", (rows, steps, 3 * n))
        np.matmul(rows_of(x), self.parameters["weight"], out=rows_of(self.combined))
        self.add_bias(rows_of(self.combined), "bias")
        query, key, value = self.parts(self.combined)
        self.p = self.buffer("p", (rows, self.heads, steps, steps))
        np.matmul(query, key.swapaxes(2, 3), out=self.p)
        fa.softmax(self.p, where=self.where(steps), temperature=self.temperature, out=self.p)
        self.seen = self.buffer("seen", (rows, steps, n))
        np.matmul(self.p, value, out=self.by_head(self.seen))
        y = self.buffer("output", x.shape)
        np.matmul(rows_of(self.seen), self.parameters["output"], out=rows_of(y))
        self.add_bias(rows_of(y), "output_bias")
        return y

    @property
    def temperature(self):
        return math.sqrt(self.features // self.heads)

    def by_head(self, x):
        return x.reshape(*x.shape[:2], self.heads, -1).swapaxes(1, 2)

    def backward(self, grad_output):
        grad = rows_of(grad_output)
        np.matmul(rows_of(self.seen).T, grad, out=self.gradients["output"])
        self.bias_gradient(grad, "output_bias")
        np.matmul(grad, self.parameters["output"].T, out=rows_of(self.seen))
        seen = self.by_head(self.seen)
        query, key, value = self.parts(self.combined)
        gradient = self.buffer("gradient", self.combined.shape)
        grad_query, grad_key, grad_value = self.parts(gradient)
        np.matmul(self.p.swapaxes(2, 3), seen, out=grad_value)
        scores = np.matmul(seen, value.swapaxes(2, 3), out=self.buffer("scores", self.p.shape))
        fa.softmax.backward(scores, output=self.p, temperature=self.temperature, out=scores)
        np.matmul(scores, key, out=grad_query)
        np.matmul(scores.swapaxes(2, 3), query, out=grad_key)
        np.matmul(rows_of(self.x).T, rows_of(gradient), out=self.gradients["weight"])
        self.bias_gradient(rows_of(gradient), "bias")
        if self.is_first:
            return None
        grad_input = self.input_or_buffer(self.x)
        np.matmul(rows_of(gradient), self.parameters["weight"].T, out=rows_of(grad_input))
        return grad_input

    def arguments(self):
        return [self.features, self.heads], {"causal": True} if self.causal else {}
