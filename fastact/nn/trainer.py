"""Trainer: mini-batches, epochs, history, checkpoints."""

from __future__ import annotations

import contextlib
import json
import math

import numpy as np

from . import kernels
from .callbacks import ProgressBar
from .data import DataLoader, Dataset
from .history import History, Meter, as_metrics, probe_rows
from .losses import as_loss
from .model import in_json, read, write
from .places import beside, gather, is_array


class Trainer:
    """Fits a model to data by mini-batches.

    Parameters
    ----------
    model : Sequential
    loss : str or callable
        The name of a loss of fastact, such as ``"softmax_cross_entropy"``, or a function (prediction, target) ->
        (value, gradient), where the value is a mean over the rows and the gradient has the shape of the prediction.
    optimizer : Optimizer or an object with its methods
    clip_norm : float, optional
        Gradients whose norm, over all parameters together, is larger are scaled down to it.
    clip_value : float, optional
        Gradients are cut to [-clip_value, clip_value], after clip_norm.
    metrics : sequence of str or callable
        "accuracy", "mean_absolute_error", "mean_squared_error", or functions (prediction, target) -> mean over the rows. By
        default accuracy for integer classes.
    seed : int, numpy.random.Generator or None
        For the order of the rows; with the model's seed it determines the whole run.
    comm : mpi4py communicator, optional
        Of processes that run the same program on the same data: each takes its share of every batch, and the mean of the
        gradients is everybody's. What one process computes, they compute, to rounding; but BatchNorm takes its statistics
        from the share of one process, and dropout drops something else. Not for models on a GPU.

    Attributes
    ----------
    epochs : int
        How many have been trained.
    history : History
        Of all of them.

    Raises
    ------
    ValueError
        For an unknown loss, and for a model that ends in the softmax or sigmoid which the loss applies itself.
    TypeError
        For what is no loss or no optimizer, and for `comm` with a model on a GPU.
    """

    def __init__(self, model, loss, optimizer, *, clip_norm=None, clip_value=None, metrics=(), seed=0, comm=None):
        for name, value in (("clip_norm", clip_norm), ("clip_value", clip_value)):
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be positive, not {value!r}")
        if isinstance(optimizer, type) or not hasattr(optimizer, "start"):
            raise TypeError(f"optimizer must be one such as nn.Adam(1e-3), not {optimizer!r}")
        if comm is not None and not isinstance(model.parameters, np.ndarray):
            raise TypeError("several processes exchange gradients in NumPy's memory: comm is not for a model on a GPU")
        self.model, self.loss, self.optimizer = model, as_loss(loss, model), optimizer
        self.clip_norm, self.clip_value, self.metrics, self.comm = clip_norm, clip_value, tuple(metrics), comm
        self.state = optimizer.start(model.parameters)
        self.rng = np.random.default_rng(seed)
        self.split_seed = int(self.rng.integers(2**63))
        self.epochs, self.history = 0, History()
        self.rank, self.processes = (0, 1) if comm is None else (comm.Get_rank(), comm.Get_size())
        self.is_first_process = self.rank == 0
        self.received = {}

    def fit(
        self, x, y=None, epochs=1, batch_size=32, *, validation=None, validation_split=None, callbacks=(), verbose=True
    ):
        """Train for some epochs, each of which visits every row once in a new random order.

        Parameters
        ----------
        x : array_like of shape (rows, *input_shape), Dataset or DataLoader
            A DataLoader has its own batch size, and shuffles or not. Arrays are brought where the model is as a whole; the
            batches of a Dataset one by one.
        y : array_like of length rows
            Integer classes, or whatever else the loss takes. None if `x` holds both.
        epochs, batch_size : int
            The last batch of an epoch may be smaller.
        validation : (x, y), Dataset or DataLoader, optional
            Evaluated after each epoch.
        validation_split : float, optional
            Instead: the share of the rows, chosen by the seed, that is kept out of training for it.
        callbacks : sequence of Callback
        verbose : bool
            Whether to show a progress bar (needs tqdm).

        Returns
        -------
        History
            Of these epochs.

        Raises
        ------
        FloatingPointError
            If the loss is NaN or infinite; the message names the layer that made it first.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, not {batch_size!r}")
        if validation_split is not None:
            x, y, validation = self._split(x, y, validation, validation_split)
        loader = self._loader(x, y, batch_size, shuffle=True)
        validation = None if validation is None else self._loader(*_pair(validation), 256, shuffle=False)
        self.meter = Meter(as_metrics(self.metrics, self.model, loader.dataset.y))
        probe = self.model.as_input(loader.dataset.x[: probe_rows(len(loader.dataset))])
        history = History()
        callbacks = [*callbacks, *([ProgressBar()] if verbose and self.is_first_process else [])]
        self._same_start()

        for callback in callbacks:
            callback.on_fit_begin(self, epochs, len(loader))
        # What is not finite is reported where it matters, with the layer that made it; NumPy would warn first.
        with contextlib.ExitStack() as stack:
            stack.enter_context(np.errstate(all="ignore"))
            for callback in callbacks:
                stack.callback(callback.on_fit_end, self)
            for _ in range(epochs):
                self.meter.reset()
                for x_batch, y_batch in loader.batches(self.rng, self.rank, self.processes):
                    self._step(self.model.as_input(x_batch), self._target(y_batch))
                    for callback in callbacks:
                        callback.on_batch_end(self)
                epoch = History()
                epoch.record(**self.meter.means())
                if validation is not None:
                    epoch.record(**{f"val_{name}": value for name, value in self._evaluate(validation).items()})
                epoch.record_layers(self.model, probe)
                history.extend(epoch)
                self.history.extend(epoch)
                self.epochs += 1
                if any([callback.on_epoch_end(self, history) for callback in callbacks]):
                    break
        return history

    def evaluate(self, x, y=None):
        """Means over the rows of the loss and the metrics.

        Returns
        -------
        dict
            With keys ``loss`` and the names of the metrics; ``accuracy`` for integer classes.
        """
        return self._evaluate(self._loader(x, y, 256, shuffle=False))

    def predict(self, x):
        """Same as ``model.predict(x)``."""
        return self.model.predict(x)

    def save(self, path):
        """Write a checkpoint: the model, the optimizer's state, the random generator and the history."""
        arrays = {f"trainer.{name}": value for name, value in self.state.items() if is_array(value)}
        numbers = {name: value for name, value in self.state.items() if not is_array(value)}
        about = {"optimizer": type(self.optimizer).__name__, "numbers": numbers, "epochs": self.epochs,
                 "rng": _plain(self.rng.bit_generator.state), "split_seed": self.split_seed,
                 "history": [dict(self.history), self.history.gradient_norms, self.history.dead_units]}  # fmt: skip
        write(path, {**self.model.configuration(), "trainer": about}, {**self.model.state(), **arrays})

    def resume(self, path):
        """Go on where the trainer stood that wrote this checkpoint: what follows has the bits that it would have had.

        The model must have the same layers, and the optimizer be of the same kind; its settings are those of this trainer.
        Callbacks begin anew.

        Raises
        ------
        ValueError
            If the file is broken, or a checkpoint of something else; nothing has been changed then.
        """
        about, arrays = read(path)
        if "trainer" not in about:
            raise ValueError(f"{path} is a saved model, not a checkpoint: use nn.load")
        if about != {**json.loads(in_json(self.model.configuration())), "trainer": about["trainer"]}:
            raise ValueError(f"{path} is a checkpoint of another model, {about['layers']}")
        about, kind = about["trainer"], type(self.optimizer).__name__
        memory = {name.removeprefix("trainer."): array for name, array in arrays.items() if name.startswith("trainer.")}
        expected = {name: value.shape for name, value in self.state.items() if is_array(value)}
        if about["optimizer"] != kind or {name: array.shape for name, array in memory.items()} != expected:
            raise ValueError(f"{path} was written with {about['optimizer']}, and this trainer has {self.optimizer!r}")
        try:
            rng = np.random.Generator(getattr(np.random, about["rng"]["bit_generator"])())
            rng.bit_generator.state = _arrays(about["rng"])
            values = History(*about["history"])
            numbers, epochs, split_seed = dict(about["numbers"]), int(about["epochs"]), int(about["split_seed"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"{path} is a broken checkpoint: {error}") from error
        self.model.set_state({name: array for name, array in arrays.items() if not name.startswith("trainer.")})
        self.state = {**numbers, **{name: beside(self.model.like, array) for name, array in memory.items()}}
        self.rng, self.history, self.epochs, self.split_seed = rng, values, epochs, split_seed

    # --- Data ---------------------------------------------------------------------------------------------------------

    def _loader(self, x, y, batch_size, shuffle):
        if isinstance(x, DataLoader):
            return x
        if not isinstance(x, Dataset):
            # What is in memory is converted once, what is on disk batch by batch.
            x = x if isinstance(x, np.memmap) else self.model.as_input(x)
            y = y if isinstance(y, np.memmap) else self._target(y)
            x = Dataset(x, y)
        return DataLoader(x, batch_size, shuffle=shuffle)

    def _target(self, y):
        y = beside(self.model.like, y)
        return y.astype(self.model.dtype, copy=False) if y.dtype.kind == "f" else y

    def _split(self, x, y, validation, share):
        if validation is not None:
            raise ValueError("give either validation or validation_split")
        if isinstance(x, (Dataset, DataLoader)):
            raise ValueError("validation_split is for arrays; give a dataset of its own as validation")
        if not 0 < share < 1:
            raise ValueError(f"validation_split must lie between 0 and 1, not {share!r}")
        x, y = self.model.as_input(x), self._target(y)
        order = np.random.default_rng(self.split_seed).permutation(len(x))
        count = math.ceil(len(x) * share)
        left, kept = ([gather(array, rows) for array in (x, y)] for rows in (order[count:], order[:count]))
        return (*left, kept)

    # --- Steps --------------------------------------------------------------------------------------------------------

    def _step(self, x, y):
        model, rows = self.model, len(x)
        if rows:
            prediction = model.forward(x, training=True)
            measured = self.meter.measure(prediction, y)
            # The gradient replaces the prediction unless the last layer needs its output in the backward pass.
            last = model.layers[-1]
            grad_out = last.buffer("loss gradient", prediction.shape) if last.needs_output else prediction
            value, grad_output = self.loss.value_and_grad(prediction, y, grad_out=grad_out)
            model.backward(grad_output)
            value = float(value)  # waits for a GPU, so only now
        else:  # a process whose share of a small batch is empty
            value, measured = 0.0, [0.0] * len(self.meter.metrics)
            model.gradients[...] = 0
        sums = [rows, value * rows, *(number * rows for number in measured)]
        if self.comm is None:
            self._check(value, x)
        else:
            self._check(value, x, sums := self._sum(np.array(sums)))
            model.gradients *= model.dtype.type(rows / sums[0])
            model.gradients[...] = self._sum(model.gradients)
        self.meter.add(sums)
        self.optimizer.step(model.parameters, model.gradients, self.state, **self._step_options())

    def _step_options(self):
        """What the step does on the way; nothing for an optimizer that knows nothing of it."""
        options = {}
        if self.clip_norm is not None:
            length = math.sqrt(kernels.sum_of_squares(self.model.gradients))
            if not math.isfinite(length):
                self._stop_at_gradients()
            options["scale"] = min(1.0, self.clip_norm / length) if length else 1.0
        if self.clip_value is not None:
            options["limit"] = self.clip_value
        if getattr(self.optimizer, "weight_decay", 0):
            options["spans"] = self.model.spans
        return options

    def _evaluate(self, loader):
        meter = Meter(as_metrics(self.metrics, self.model, loader.dataset.y))
        with np.errstate(all="ignore"):
            for x, y in DataLoader(loader.dataset, loader.batch_size):
                x, y = self.model.as_input(x), self._target(y)
                prediction = self.model.forward(x)
                values = [float(self.loss(prediction, y)), *meter.measure(prediction, y)]
                meter.add([len(x), *(value * len(x) for value in values)])
        return meter.means()

    # --- Not a number -------------------------------------------------------------------------------------------------

    def _check(self, value, x, sums=None):
        """Raise FloatingPointError if the loss, here or in another process, is not finite."""
        if not math.isfinite(value):
            raise FloatingPointError(f"the loss is {value} in epoch {self.epochs + 1}: {self._culprit(x)}")
        if sums is not None and not math.isfinite(sums[1]):
            raise FloatingPointError(f"the loss of another process is not finite in epoch {self.epochs + 1}")

    def _culprit(self, x):
        """Where the first NaN or infinity comes from."""
        if not np.isfinite(x).all():
            return "the input has NaN or infinity"
        for position, layer in enumerate(self.model.layers):
            for name, parameter in layer.parameters.items():
                if not np.isfinite(parameter).all():
                    return (f"the {name} of layer {position}, {layer!r}, has NaN or infinity after the last step; a smaller learning "
                            "rate or clip_norm may help")  # fmt: skip
            x = layer.forward(x, True)
            if not np.isfinite(x).all():
                return f"the first layer whose output has NaN or infinity is number {position}, {layer!r}"
        return f"the output of the model is finite, so the loss, {getattr(self.loss, '__name__', self.loss)}, made it"

    def _stop_at_gradients(self):
        for position, layer in reversed(list(enumerate(self.model.layers))):
            for name, gradient in layer.gradients.items():
                if not np.isfinite(gradient).all():
                    raise FloatingPointError(f"the gradient of the {name} of layer {position}, {layer!r}, has NaN or infinity in "
                                             f"epoch {self.epochs + 1}")  # fmt: skip
        raise FloatingPointError(f"the norm of the gradients overflows in epoch {self.epochs + 1}")

    # --- Several processes --------------------------------------------------------------------------------------------

    def _same_start(self):
        """Everybody goes on from what the first process has."""
        if self.comm is not None:
            state = self.comm.bcast(self.model.state() if self.is_first_process else None, root=0)
            self.model.set_state(state)
            self.rng = self.comm.bcast(self.rng, root=0)

    def _sum(self, numbers):
        """The sum over all processes, in memory that the next call with as many numbers overwrites."""
        if numbers.size not in self.received:
            self.received[numbers.size] = np.empty_like(numbers)
        received = self.received[numbers.size]
        self.comm.Allreduce(numbers, received)
        return received


def _pair(validation):
    if isinstance(validation, (Dataset, DataLoader)):
        return validation, None
    if not isinstance(validation, (tuple, list)) or len(validation) != 2:
        raise TypeError("validation must be a pair (x, y), a Dataset or a DataLoader")
    return validation


def _plain(value):
    """Of a random generator's state, what JSON has."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return {"array": value.tolist(), "dtype": value.dtype.name} if isinstance(value, np.ndarray) else value


def _arrays(value):
    """The reverse."""
    if isinstance(value, dict):
        if value.keys() == {"array", "dtype"}:
            return np.array(value["array"], value["dtype"])
        return {name: _arrays(item) for name, item in value.items()}
    return value
