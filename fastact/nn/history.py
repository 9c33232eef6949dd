"""What a training run leaves behind: values per epoch, and the means over the rows that they are made from."""

from __future__ import annotations

import math

import numpy as np

from . import kernels
from .layers import Activation
from .names import find_in

PROBE_ROWS = 256
"""Rows of the training data on which units are counted as dead."""


class History(dict):
    """Values per epoch by name: ``loss``, the metrics, and ``val_...`` for those of the validation data.

    Attributes
    ----------
    gradient_norms : list of dict
        For each epoch, the norm of the gradient of each layer's parameters in the last batch, before clipping. Layers are
        named by position and kind, such as "0 Dense".
    dead_units : list of dict
        For each epoch and each elementwise activation, the share of the units whose derivative is 0 on every one of up to
        256 rows of the training data: nothing passes back through them.
    """

    def __init__(self, values=(), gradient_norms=(), dead_units=()):
        super().__init__(values)
        self.gradient_norms, self.dead_units = list(gradient_norms), list(dead_units)

    def record(self, **values):
        for name, value in values.items():
            self.setdefault(name, []).append(value)

    def record_layers(self, model, probe):
        """Look at the gradients of the last batch, and at the activations of `probe`."""
        self.gradient_norms.append(
            {label(k, layer): gradient_norm(layer) for k, layer in enumerate(model.layers) if layer.shapes}
        )
        model.forward(probe)
        self.dead_units.append({label(k, layer): layer.dead_share() for k, layer in enumerate(model.layers)
                                if isinstance(layer, Activation) and not layer.is_rowwise})  # fmt: skip

    def extend(self, other):
        """Append the epochs of another history."""
        for name, values in other.items():
            self.setdefault(name, []).extend(values)
        self.gradient_norms += other.gradient_norms
        self.dead_units += other.dead_units


def label(position, layer):
    return f"{position} {type(layer).__name__}"


def gradient_norm(layer):
    return math.sqrt(sum(kernels.sum_of_squares(gradient.reshape(-1)) for gradient in layer.gradients.values()))


# Metrics: (prediction, target) -> the sum over the rows -----------------------------------------------------------------


def accuracy(prediction, target):
    """Share of the rows whose class is right: the largest output, or with a single one whether it exceeds `threshold`."""
    if prediction.shape[-1:] == (1,) or prediction.shape == target.shape:
        raise ValueError(f"accuracy is of integer classes and an output for each; here the outputs have shape {prediction.shape}, "
                         f"the targets {target.shape}")  # fmt: skip
    return np.mean(prediction.argmax(axis=-1) == target)


def mean_absolute_error(prediction, target):
    return np.mean(np.abs(prediction - target), dtype=np.float64)


def mean_squared_error(prediction, target):
    return np.mean(np.square(prediction - target), dtype=np.float64)


METRICS = {metric.__name__: metric for metric in (accuracy, mean_absolute_error, mean_squared_error)}


class Meter:
    """Means over the rows of the loss and the metrics."""

    def __init__(self, metrics):
        self.metrics = metrics
        self.reset()

    def reset(self):
        self.totals = np.zeros(2 + len(self.metrics))  # rows, loss, metrics

    def measure(self, prediction, target):
        """The metrics of a batch, before the gradient overwrites the prediction."""
        return [metric(prediction, target) for metric in self.metrics.values()]

    def add(self, value, measured, rows):
        totals = self.totals
        totals[0] += rows
        totals[1] += value * rows
        for k, number in enumerate(measured, 2):
            totals[k] += number * rows

    def means(self):
        rows, *totals = self.totals.tolist()
        return {name: total / rows for name, total in zip(("loss", *self.metrics), totals)}


def as_metrics(metrics, model, y):
    """Name and function of each metric; where there are none given, accuracy for integer classes."""
    if not metrics:
        has_classes = y.dtype.kind in "iu" and model.outputs > 1 and y.ndim == len(model.output_shape)
        return {"accuracy": accuracy} if has_classes else {}
    found = [find_in("metric", metric, METRICS) for metric in metrics]
    return {metric.__name__: metric for metric in found}
