"""Layers that change the statistics of what passes through: Dropout, BatchNorm, LayerNorm."""

from __future__ import annotations

import numpy as np

from .. import kernels
from .base import Layer

GOLDEN = 0x9E3779B97F4A7C15
"""Odd, and far from any pattern in binary: its multiples make the keys of the batches."""


class Dropout(Layer):
    """Sets each number to zero with probability `rate` while training, and scales the others so that the mean stays.

    Which ones, a hash of their place and of a key that changes with every batch decides: no mask is stored, the backward
    pass asks the hash again, and the same seed drops the same on any number of threads. After Srivastava et al. 2014.

    Parameters
    ----------
    rate : float
        In [0, 1).
    """

    transparent = True

    def __init__(self, rate):
        if not 0 <= rate < 1:
            raise ValueError(f"the rate of dropout must lie in [0, 1), not {rate!r}")
        self.rate = float(rate)

    def connect(self, previous, shape):
        super().connect(previous, shape)
        self.needs_output = previous is None or previous.needs_output  # where nothing is dropped, output is input
        self.states["key"] = np.zeros((), np.uint64)

    def initialise(self, rng, following):
        self.states["key"][...] = rng.integers(2**63)

    def drop(self, x, out):
        key = int(self.states["key"])
        kernels.dropout(
            x.size, (x, out), (int(self.rate * 2**32), key - 2**64 if key >= 2**63 else key), (1 / (1 - self.rate),)
        )
        return out

    def forward(self, x, training=False):
        if not training or self.rate == 0:
            return x
        self.states["key"][...] = (int(self.states["key"]) + GOLDEN) % 2**64
        return self.drop(x, self.output_or_input(x))

    def backward(self, grad_output):
        return self.drop(grad_output, grad_output)

    def arguments(self):
        return [self.rate], {}


class Normalisation(Layer):
    """What BatchNorm and LayerNorm share: a learned scale (gamma) and shift (beta) for each feature."""

    transparent = True

    def __init__(self, epsilon):
        if not epsilon > 0:
            raise ValueError(f"epsilon must be positive, not {epsilon!r}")
        self.epsilon = float(epsilon)

    def shape_after(self, shape, previous):
        self.shapes = {"gamma": shape[-1:], "beta": shape[-1:]}
        return shape

    def initialise(self, rng, following):
        self.parameters["gamma"][...] = 1
        self.parameters["beta"][...] = 0

    def column_products(self, grad_output):
        """Sums over the rows of g and of g z, which are the gradients of beta and gamma."""
        features = self.z.shape[-1]
        rows = self.z.size // features
        unit, count = kernels.units(rows, features)
        totals, products = (self.buffer(name, (count, features), np.float64) for name in ("totals", "products"))
        kernels.column_products(count, (grad_output, self.z, totals, products), (features, unit, rows))
        kernels.fold_units(totals, self.gradients["beta"])
        kernels.fold_units(products, self.gradients["gamma"])
        return totals, products


class BatchNorm(Normalisation):
    """Brings every feature to mean 0 and variance 1 over the batch, then scales and shifts it: ``gamma z + beta``.

    While training, the mean and variance of the batch serve, and running means of them are kept for prediction; the
    running variance is the unbiased one. Over images, a feature is a channel. After Ioffe & Szegedy 2015,
    arXiv:1502.03167.

    Parameters
    ----------
    momentum : float
        In (0, 1]: weight of a new batch in the running means.
    epsilon : float
        Added to the variance.
    """

    def __init__(self, momentum=0.1, epsilon=1e-5):
        super().__init__(epsilon)
        if not 0 < momentum <= 1:
            raise ValueError(f"momentum must lie in (0, 1], not {momentum!r}")
        self.momentum = float(momentum)

    def connect(self, previous, shape):
        super().connect(previous, shape)
        self.states["mean"], self.states["variance"] = np.zeros((2, shape[-1]), like=self.like)

    def initialise(self, rng, following):
        super().initialise(rng, following)
        self.states["mean"][...], self.states["variance"][...] = 0, 1

    def forward(self, x, training=False):
        features = x.shape[-1]
        rows = x.size // features
        mean, variance = (
            self.batch_statistics(x, rows, features) if training else (self.states["mean"], self.states["variance"])
        )
        # The double root, for what comes out must be as exact as the input.
        factor = self.buffer("factor", (features,))
        factor[...] = 1 / np.sqrt(variance + self.epsilon)
        self.z = self.input_or_buffer(x)
        y = self.buffer("output", x.shape)
        kernels.normalise_columns(
            rows, (x, self.z, y, mean, factor, self.parameters["gamma"], self.parameters["beta"]), (features,)
        )
        return y

    def batch_statistics(self, x, rows, features):
        if rows < 2:
            raise ValueError(f"{self!r} needs at least two rows to train on: one has no variance")
        unit, count = kernels.units(rows, features)
        totals = self.buffer("totals", (count, features), np.float64)
        kernels.column_sums(count, (x, totals, None), (features, unit, rows))
        mean = totals.sum(axis=0) / rows
        kernels.column_sums(count, (x, totals, mean), (features, unit, rows))
        variance = totals.sum(axis=0) / rows
        for name, value in (("mean", mean), ("variance", variance * (rows / (rows - 1)))):
            self.states[name] += self.momentum * (value - self.states[name])
        return mean, variance

    def backward(self, grad_output):
        totals, products = self.column_products(grad_output)
        features = self.z.shape[-1]
        rows = self.z.size // features
        factor = self.buffer("factor", (features,))
        factor *= self.parameters["gamma"]
        kernels.unnormalise_columns(
            rows, (grad_output, self.z, factor, totals.sum(axis=0) / rows, products.sum(axis=0) / rows), (features,)
        )
        return grad_output

    def arguments(self):
        return [self.momentum, self.epsilon], {}


class LayerNorm(Normalisation):
    """Brings the features of each row to mean 0 and variance 1, then scales and shifts them: ``gamma z + beta``.

    After Ba et al. 2016, arXiv:1607.06450.

    Parameters
    ----------
    epsilon : float
        Added to the variance.
    """

    def __init__(self, epsilon=1e-5):
        super().__init__(epsilon)

    def forward(self, x, training=False):
        features = x.shape[-1]
        rows = x.size // features
        self.z = self.input_or_buffer(x)
        self.y, self.factor = self.buffer("output", x.shape), self.buffer("factor", (rows,))
        kernels.normalise_rows(
            rows,
            (x, self.z, self.y, self.factor, self.parameters["gamma"], self.parameters["beta"]),
            (features,),
            (self.epsilon,),
        )
        return self.y

    def backward(self, grad_output):
        self.column_products(grad_output)
        # What the layer behind has made of the output is not needed any more: it may have been overwritten with the gradient.
        scratch = self.y if not np.may_share_memory(self.y, grad_output) else self.buffer("scratch", self.y.shape)
        kernels.unnormalise_rows(
            len(self.factor), (grad_output, self.z, scratch, self.factor, self.parameters["gamma"]), (self.z.shape[-1],)
        )
        return grad_output

    def arguments(self):
        return [self.epsilon], {}
