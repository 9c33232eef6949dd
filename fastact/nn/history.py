"""What a training run leaves behind: values per epoch, and the means over the rows that they are made from."""

from __future__ import annotations

import math

import numpy as np

from . import kernels
from .layers import Activation
from .names import find_in


def probe_rows(rows):
    """On how many of the rows of the training data units are counted as dead: enough, and no work to speak of."""
    return min(rows, max(32, rows // 32), 256)


class History(dict):
    """Values per epoch by name: ``loss``, the metrics, and ``val_...`` for those of the validation data.

    Attributes
    ----------
    gradient_norms : list of dict
        For each epoch, the norm of the gradient of each layer's parameters in the last batch, before clipping. Layers are
        named by position and kind, such as "0 Dense".
    dead_units : list of dict
        For each epoch and each elementwise activation, the share of the units whose derivative is 0 on every one of the
        first rows of the training data, of which a thirty-second part is taken, but 32 to 256 rows: nothing passes back
        through them.
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
        activations = [
            k for k, layer in enumerate(model.layers) if isinstance(layer, Activation) and not layer.is_rowwise
        ]
        dead = {}
        for k, layer in enumerate(model.layers[: max(activations, default=-1) + 1]):
            probe = layer.forward(probe)
            if k in activations:
                dead[label(k, layer)] = layer.dead_share()
        self.dead_units.append(dead)

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
        self.totals = [np.float64(0)] * (2 + len(self.metrics))  # rows, loss, metrics

    def measure(self, prediction, target):
        """The metrics of a batch, before the gradient overwrites the prediction."""
        return [metric(prediction, target) for metric in self.metrics.values()]

    def add(self, sums):
        """Rows, and the sums over them of the loss and the metrics; those of a GPU stay there, and nobody waits for them."""
        self.totals = [total + number for total, number in zip(self.totals, sums)]

    def means(self):
        rows, *totals = map(float, self.totals)
        return {name: total / rows for name, total in zip(("loss", *self.metrics), totals)}


def as_metrics(metrics, model, y):
    """Name and function of each metric; where there are none given, accuracy for integer classes."""
    if not metrics:
        has_classes = y.dtype.kind in "iu" and model.outputs > 1 and y.ndim == len(model.output_shape)
        return {"accuracy": accuracy} if has_classes else {}
    found = [find_in("metric", metric, METRICS) for metric in metrics]
    return {metric.__name__: metric for metric in found}
