"""Trainer: mini-batches, epochs, history."""

from __future__ import annotations

import math

import numpy as np

from .callbacks import ProgressBar
from .losses import as_loss


class History(dict):
    """Values per epoch by name: ``loss``, and where they apply ``accuracy``, ``val_loss``, ``val_accuracy``."""

    def record(self, **values):
        for name, value in values.items():
            self.setdefault(name, []).append(value)


class Trainer:
    """Fits a model to data by mini-batches, in float32.

    Parameters
    ----------
    model : Sequential
    loss : str or callable
        The name of a loss of fastact, such as ``"softmax_cross_entropy"``, or a function (prediction, target) ->
        (value, gradient), where the value is a mean over the rows and the gradient has the shape of the prediction.
    optimizer : SGD, Adam or an object with their methods
    clip_norm : float, optional
        Gradients whose norm, over all parameters together, is larger are scaled down to it.
    seed : int, numpy.random.Generator or None
        For the order of the rows; with the model's seed it determines the whole run.

    Raises
    ------
    ValueError
        For an unknown loss, and for a model that ends in the softmax which softmax_cross_entropy applies itself.
    """

    def __init__(self, model, loss, optimizer, *, clip_norm=None, seed=0):
        if clip_norm is not None and not clip_norm > 0:
            raise ValueError(f"clip_norm must be positive, not {clip_norm!r}")
        self.model, self.loss, self.optimizer, self.clip_norm = model, as_loss(loss, model), optimizer, clip_norm
        self.state = optimizer.start(model.parameters)
        self.rng = np.random.default_rng(seed)

    def fit(self, x, y, epochs=1, batch_size=32, *, validation=None, callbacks=(), verbose=True):
        """Train for some epochs, each of which visits every row once in a new random order.

        Parameters
        ----------
        x : array_like of shape (rows, inputs)
        y : array_like of length rows
            Integer classes, or whatever else the loss takes.
        epochs, batch_size : int
            The last batch of an epoch may be smaller.
        validation : (x, y), optional
            Evaluated after each epoch.
        callbacks : sequence of Callback
        verbose : bool
            Whether to show a progress bar (needs tqdm).

        Returns
        -------
        History
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, not {batch_size!r}")
        x, y = self._data(x, y)
        validation = validation and self._data(*validation)
        batch_size = min(batch_size, len(x))
        order = np.arange(len(x))
        x_batch, y_batch = (np.empty((batch_size, *array.shape[1:]), array.dtype) for array in (x, y))
        # The gradient of the loss replaces the prediction unless the last layer needs its output in the backward pass.
        model = self.model
        gradient = np.empty((batch_size, model.outputs), np.float32) if model.layers[-1].needs_output else None
        meter = Meter(model, y, batch_size)
        history = History()
        callbacks = [*callbacks, *([ProgressBar()] if verbose else [])]

        for callback in callbacks:
            callback.on_fit_begin(self, epochs, math.ceil(len(x) / batch_size))
        for _ in range(epochs):
            self.rng.shuffle(order)
            meter.reset()
            for begin in range(0, len(x), batch_size):
                rows = order[begin : begin + batch_size]
                # Indices of our own making need no check, and mode="raise" would buffer the output.
                self._step(np.take(x, rows, axis=0, out=x_batch[: len(rows)], mode="clip"),
                           np.take(y, rows, axis=0, out=y_batch[: len(rows)], mode="clip"), gradient, meter)
                for callback in callbacks:
                    callback.on_batch_end(self)
            history.record(**meter.means())
            if validation:
                history.record(**{f"val_{name}": value for name, value in self._evaluate(*validation).items()})
            if any([callback.on_epoch_end(self, history) for callback in callbacks]):
                break
        for callback in callbacks:
            callback.on_fit_end(self)
        return history

    def evaluate(self, x, y):
        """Mean loss over the rows and, for integer classes, the share of rows that are classified rightly.

        Returns
        -------
        dict
            With keys ``loss`` and, for integer classes, ``accuracy``.
        """
        return self._evaluate(*self._data(x, y))

    def predict(self, x):
        """Same as ``model.predict(x)``."""
        return self.model.predict(x)

    def _data(self, x, y):
        x, y = self.model.as_input(x), np.ascontiguousarray(y)
        if y.dtype.kind == "f":
            y = y.astype(np.float32, copy=False)
        if len(x) != len(y) or not len(x):
            raise ValueError(f"there are {len(x)} rows of x and {len(y)} of y")
        return x, y

    def _step(self, x, y, gradient, meter):
        model = self.model
        prediction = model.forward(x)
        hits = meter.hits(prediction, y)
        grad_out = prediction if gradient is None else gradient[: len(x)]
        value, grad_output = self.loss.value_and_grad(prediction, y, grad_out=grad_out)
        meter.add(value, hits, len(x))
        model.backward(grad_output)
        if self.clip_norm is not None:
            clip(model.gradients, self.clip_norm)
        self.optimizer.step(model.parameters, model.gradients, self.state)

    def _evaluate(self, x, y, batch_size=256):
        meter = Meter(self.model, y, batch_size)
        for begin in range(0, len(x), batch_size):
            rows = slice(begin, begin + batch_size)
            prediction = self.model.forward(x[rows])
            meter.add(self.loss(prediction, y[rows]), meter.hits(prediction, y[rows]), len(prediction))
        return meter.means()


class Meter:
    """Means of the loss and, for integer classes, of the hits over the rows seen."""

    def __init__(self, model, y, batch_size):
        self.has_classes = y.ndim == 1 and y.dtype.kind in "iu" and model.outputs > 1
        self.classes, self.equal = np.empty(batch_size, np.intp), np.empty(batch_size, bool)
        self.reset()

    def reset(self):
        self.rows = self.loss = self.right = 0

    def hits(self, prediction, y):
        if not self.has_classes:
            return 0
        classes = np.argmax(prediction, axis=1, out=self.classes[: len(y)])
        return np.count_nonzero(np.equal(classes, y, out=self.equal[: len(y)]))

    def add(self, value, hits, rows):
        self.loss += float(value) * rows
        self.right += hits
        self.rows += rows

    def means(self):
        means = {"loss": self.loss / self.rows}
        if self.has_classes:
            means["accuracy"] = self.right / self.rows
        return means


def clip(gradients, norm):
    """Scale a vector down to the given norm where it is longer."""
    length = math.sqrt(np.dot(gradients, gradients))
    if length > norm:
        gradients *= norm / length
