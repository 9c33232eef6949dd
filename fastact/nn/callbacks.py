"""Callbacks: what happens between the epochs of a training run."""

from __future__ import annotations

import math
import os
import time


class Callback:
    """Base of all callbacks; every method may be left out."""

    def on_fit_begin(self, trainer, epochs, batches):
        """Called before the first epoch, with the number of epochs and of batches in an epoch."""

    def on_batch_end(self, trainer):
        """Called after each step of the optimizer; ``trainer.meter.means()`` is how the epoch goes."""

    def on_epoch_end(self, trainer, history):
        """Called after each epoch; returning True ends the training."""

    def on_fit_end(self, trainer):
        """Called after the last epoch."""


class Watching(Callback):
    """What callbacks share that follow one value of the history.

    Parameters
    ----------
    monitor : str
        Name in the history.
    mode : {"min", "max"}, optional
        Whether less or more is better; by default "max" for names that end in "accuracy".
    """

    def __init__(self, monitor="val_loss", mode=None):
        mode = mode or ("max" if monitor.endswith("accuracy") else "min")
        if mode not in ("min", "max"):
            raise ValueError(f"mode must be 'min' or 'max', not {mode!r}")
        self.monitor, self.sign = monitor, 1 if mode == "min" else -1

    def value(self, history):
        """The watched value of the last epoch, the less the better."""
        if self.monitor not in history:
            hint = ": give fit(..., validation=(x, y))" if self.monitor.startswith("val_") else ""
            raise ValueError(f"{type(self).__name__} watches {self.monitor}, which is not in the history{hint}")
        return self.sign * history[self.monitor][-1]


class EarlyStopping(Watching):
    """Stop once the validation loss has not improved for some epochs.

    Parameters
    ----------
    patience : int
        Epochs without improvement to allow.
    restore_best : bool
        Whether to leave the model with the parameters of its best epoch, also when training ran to its end.
    monitor : str
        What is watched instead of the validation loss.
    mode : {"min", "max"}, optional
        Whether less or more of it is better.
    min_delta : float
        Changes that do not exceed it are no improvement.
    """

    def __init__(self, patience, restore_best=True, monitor="val_loss", mode=None, min_delta=0.0):
        super().__init__(monitor, mode)
        if patience < 1:
            raise ValueError(f"patience must be at least 1, not {patience!r}")
        self.patience, self.restore_best, self.min_delta = patience, restore_best, min_delta

    def on_fit_begin(self, trainer, epochs, batches):
        self.best_loss, self.best_epoch, self.epoch, self.best_state = math.inf, 0, 0, None

    def on_epoch_end(self, trainer, history):
        value = self.value(history)
        self.epoch += 1
        if value < self.best_loss - self.min_delta:
            self.best_loss, self.best_epoch = value, self.epoch
            if self.restore_best:
                self.best_state = trainer.model.state()
        return self.epoch - self.best_epoch >= self.patience

    def on_fit_end(self, trainer):
        if self.best_state is not None:
            trainer.model.set_state(self.best_state)


class ModelCheckpoint(Watching):
    """Write a checkpoint after each epoch, from which `Trainer.resume` goes on to the same bits and `load` takes the model.

    Parameters
    ----------
    path : str or path
        May hold ``{epoch}``; else every checkpoint replaces the one before.
    best_only : bool
        Whether to write only where the watched value is the best so far.
    monitor : str
        What is watched.
    mode : {"min", "max"}, optional
        Whether less or more of it is better.
    """

    def __init__(self, path, best_only=False, monitor="val_loss", mode=None):
        super().__init__(monitor, mode)
        self.path, self.best_only = os.fspath(path), best_only
        self.best = math.inf

    def on_epoch_end(self, trainer, history):
        if self.best_only:
            value = self.value(history)
            if not value < self.best:
                return
            self.best = value
        if trainer.is_first_process:
            trainer.save(self.path.replace("{epoch}", str(trainer.epochs)))


class ProgressBar(Callback):
    """A bar over all batches with the loss and metrics so far, and at the end of an epoch all of the history."""

    REFRESH = 0.2
    """Seconds between two looks at the running means."""

    def __init__(self):
        # Imported where it is used: training without a bar works without tqdm.
        try:
            from tqdm import tqdm
        except ImportError as error:
            raise ImportError("the bar needs tqdm: pip install 'fastact[nn]', or fit(..., verbose=False)") from error
        self.tqdm = tqdm

    def on_fit_begin(self, trainer, epochs, batches):
        self.epochs, self.epoch, self.shown = epochs, 0, time.monotonic()
        self.bar = self.tqdm(total=epochs * batches, desc=f"epoch 0/{epochs}", unit="batch")

    def on_batch_end(self, trainer):
        now = time.monotonic()
        if now - self.shown > self.REFRESH:
            self.shown = now
            self.show(trainer.meter.means())
        self.bar.update()

    def on_epoch_end(self, trainer, history):
        self.epoch += 1
        self.bar.set_description(f"epoch {self.epoch}/{self.epochs}", refresh=False)
        self.show({name: values[-1] for name, values in history.items()})

    def show(self, values):
        self.bar.set_postfix({name: f"{value:.4f}" for name, value in values.items()}, refresh=False)

    def on_fit_end(self, trainer):
        self.bar.close()
