"""Callbacks: what happens between the epochs of a training run."""

from __future__ import annotations

import math


class Callback:
    """Base of all callbacks; every method may be left out."""

    def on_fit_begin(self, trainer, epochs, batches):
        """Called before the first epoch, with the number of epochs and of batches in an epoch."""

    def on_batch_end(self, trainer):
        """Called after each step of the optimizer."""

    def on_epoch_end(self, trainer, history):
        """Called after each epoch; returning True ends the training."""

    def on_fit_end(self, trainer):
        """Called after the last epoch."""


class EarlyStopping(Callback):
    """Stop once the validation loss has not improved for some epochs.

    Parameters
    ----------
    patience : int
        Epochs without improvement to allow.
    restore_best : bool
        Whether to leave the model with the parameters of its best epoch, also when training ran to its end.
    """

    def __init__(self, patience, restore_best=True):
        if patience < 1:
            raise ValueError(f"patience must be at least 1, not {patience!r}")
        self.patience, self.restore_best = patience, restore_best

    def on_fit_begin(self, trainer, epochs, batches):
        self.best_loss, self.best_epoch, self.best_parameters = math.inf, 0, None

    def on_epoch_end(self, trainer, history):
        if "val_loss" not in history:
            raise ValueError("EarlyStopping watches the validation loss: give fit(..., validation=(x, y))")
        epoch, loss = len(history["val_loss"]), history["val_loss"][-1]
        if loss < self.best_loss:
            self.best_loss, self.best_epoch = loss, epoch
            if self.restore_best:
                self.best_parameters = trainer.model.parameters.copy()
        return epoch - self.best_epoch >= self.patience

    def on_fit_end(self, trainer):
        if self.best_parameters is not None:
            trainer.model.parameters[...] = self.best_parameters


class ProgressBar(Callback):
    """A bar over all batches with the latest value of everything in the history."""

    def __init__(self):
        # Imported where it is used: training without a bar works without tqdm.
        try:
            from tqdm import tqdm
        except ImportError as error:
            raise ImportError("the bar needs tqdm: pip install 'fastact[nn]', or fit(..., verbose=False)") from error
        self.tqdm = tqdm

    def on_fit_begin(self, trainer, epochs, batches):
        self.epochs = epochs
        self.bar = self.tqdm(total=epochs * batches, desc=f"epoch 0/{epochs}", unit="batch")

    def on_batch_end(self, trainer):
        self.bar.update()

    def on_epoch_end(self, trainer, history):
        self.bar.set_description(f"epoch {len(history['loss'])}/{self.epochs}", refresh=False)
        self.bar.set_postfix({name: f"{values[-1]:.4f}" for name, values in history.items()}, refresh=False)

    def on_fit_end(self, trainer):
        self.bar.close()
