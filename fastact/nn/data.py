"""Data: rows in arrays, also those larger than memory, in mini-batches; and scaling."""

from __future__ import annotations

import numpy as np

from .layers.base import positive
from .places import as_array, gather


class Dataset:
    """Rows of inputs and their targets.

    A ``np.memmap`` stays on disk: a batch reads the rows it needs, and only those are converted. In the same way arrays that
    are too large for a GPU stay in NumPy's memory, and a model there is sent one batch after the other.

    Parameters
    ----------
    x, y : array_like of the same length

    Raises
    ------
    ValueError
        If the lengths differ, or there are no rows.
    """

    def __init__(self, x, y):
        self.x, self.y = map(as_array, (x, y))
        lengths = [len(array) if array.ndim else 0 for array in (self.x, self.y)]
        if lengths[0] != lengths[1] or not lengths[0]:
            raise ValueError(f"there are {lengths[0]} rows of x and {lengths[1]} of y")

    def __len__(self):
        return len(self.x)

    def __getitem__(self, rows):
        """Inputs and targets of some rows."""
        return self.x[rows], self.y[rows]


class DataLoader:
    """Mini-batches of a dataset: iterating gives pairs (x, y), the last of which may be smaller.

    Parameters
    ----------
    dataset : Dataset
    batch_size : int
    shuffle : bool
        Whether each pass has a new random order.
    seed : int, numpy.random.Generator or None
        For that order; `Trainer.fit` uses the trainer's own generator instead, so that a resumed run goes on as it would
        have.

    Notes
    -----
    A shuffled batch is gathered in buffers that the next one overwrites: copy what is to be kept.
    """

    def __init__(self, dataset, batch_size=32, *, shuffle=False, seed=0):
        positive(batch_size=batch_size)
        self.dataset, self.batch_size, self.shuffle = dataset, min(batch_size, len(dataset)), shuffle
        self.rng = np.random.default_rng(seed)
        self.order = None

    def __len__(self):
        return -(-len(self.dataset) // self.batch_size)

    def __iter__(self):
        return self.batches(self.rng)

    def batches(self, rng, rank=0, size=1):
        """The same in an order drawn from `rng`; of each batch, the share of process `rank` of `size`."""
        rows, x, y = len(self.dataset), self.dataset.x, self.dataset.y
        if self.shuffle:
            if self.order is None:
                self.order = np.empty(rows, np.intp)
                self.buffers = [np.empty((self.batch_size, *array.shape[1:]), array.dtype, like=array)
                                for array in (x, y)]  # fmt: skip
            self.order[:] = np.arange(rows)
            rng.shuffle(self.order)
        for begin in range(0, rows, self.batch_size):
            count = min(self.batch_size, rows - begin)
            part = slice(begin + count * rank // size, begin + count * (rank + 1) // size)
            if self.shuffle:
                chosen = self.order[part]
                yield tuple(gather(array, chosen, buffer[: len(chosen)]) for array, buffer in zip((x, y), self.buffers))
            else:
                yield x[part], y[part]


class Scaler:
    """Base of the scalers: ``fit`` learns from training data what ``transform`` then does to all data."""

    def transform(self, x):
        """The features brought to scale."""
        return (x - self.centre) / self.width

    def inverse_transform(self, x):
        """The features that `transform` made these from."""
        return x * self.width + self.centre

    def fit_transform(self, x):
        """``fit(x).transform(x)``"""
        return self.fit(x).transform(x)

    def _set(self, centre, width):
        self.centre, self.width = centre, np.where(width > 0, width, 1)
        return self


class ZScore(Scaler):
    """Each feature to mean 0 and standard deviation 1 over the rows; constant features to 0."""

    def fit(self, x):
        x = as_array(x)
        return self._set(x.mean(axis=0, dtype=np.float64), x.std(axis=0, dtype=np.float64))


class MinMax(Scaler):
    """Each feature to [0, 1] over the rows; constant features to 0."""

    def fit(self, x):
        x = as_array(x).astype(np.float64, copy=False)
        return self._set(x.min(axis=0), np.ptp(x, axis=0))
