"""Estimators for scikit-learn: a fully connected network with the interface of its pipelines and searches."""

from __future__ import annotations

import numpy as np

try:
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import check_is_fitted, check_random_state, validate_data
except ImportError as error:
    raise ImportError("Classifier and Regressor need scikit-learn 1.6 or later: pip install 'fastact[nn]'") from error

import fastact as fa

from .callbacks import EarlyStopping
from .data import ZScore
from .layers import Activation, Dense, PReLU
from .model import Sequential
from .optimizers import AdamW
from .trainer import Trainer

PRECISIONS = [np.float64, np.float32]
"""The inputs' own if it is one of these, else the first."""


class Network(BaseEstimator):
    """What Classifier and Regressor share. They compute in the precision of their inputs.

    Parameters
    ----------
    hidden : tuple of int
        Sizes of the hidden layers.
    activation : str
        Behind each of them; also "prelu".
    learning_rate : float
        Of AdamW.
    weight_decay : float
    batch_size : int
    epochs : int
        At most, where `patience` is given.
    patience : int, optional
        Epochs without a better validation loss after which to stop; a tenth of the rows is then kept for validation.
    random_state : int, RandomState or None
        For the weights and the order of the rows.
    verbose : bool
        Whether to show a progress bar.

    Attributes
    ----------
    model_ : Sequential
    history_ : History
    n_features_in_ : int
    """

    def __init__(self, hidden=(100,), activation="relu", learning_rate=0.005, weight_decay=1e-4, batch_size=32, epochs=100,
                 patience=None, random_state=None, verbose=False):  # fmt: skip
        self.hidden = hidden
        self.activation = activation
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.batch_size = batch_size
        self.epochs = epochs
        self.patience = patience
        self.random_state = random_state
        self.verbose = verbose

    def _train(self, x, y, outputs, loss):
        seeds = check_random_state(self.random_state).randint(2**31 - 1, size=2)
        sizes = (x.shape[1], *self.hidden, outputs)
        layers = []
        for before, after in zip(sizes, sizes[1:]):
            layers += [Dense(before, after), PReLU() if self.activation == "prelu" else Activation(self.activation)]
        # The inputs are brought to one scale here, so that the learning rate suits data of any.
        self.scaler_ = ZScore().fit(x)
        self.model_ = Sequential(layers[:-1], seed=int(seeds[0]), dtype=x.dtype)
        trainer = Trainer(
            self.model_, loss, AdamW(self.learning_rate, weight_decay=self.weight_decay), seed=int(seeds[1])
        )
        stopping = self.patience is not None
        self.history_ = trainer.fit(self.scaler_.transform(x), y, self.epochs, self.batch_size, verbose=self.verbose,
                                    validation_split=0.1 if stopping else None,
                                    callbacks=[EarlyStopping(self.patience)] if stopping else [])  # fmt: skip
        self.n_iter_ = trainer.epochs
        return self

    def _outputs(self, x):
        check_is_fitted(self)
        return self.model_.predict(self.scaler_.transform(validate_data(self, x, reset=False, dtype=PRECISIONS)))


class Classifier(ClassifierMixin, Network):
    __doc__ = f"""A network that tells classes apart, trained with softmax cross-entropy.

    {Network.__doc__.partition(".")[2].strip()}
    classes_ : ndarray
    """

    def fit(self, X, y):
        """Train anew on rows `X` and their classes `y`."""
        X, y = validate_data(self, X, y, dtype=PRECISIONS)
        check_classification_targets(y)
        self.classes_, numbers = np.unique(y, return_inverse=True)
        return self._train(X, numbers, len(self.classes_), "softmax_cross_entropy")

    def predict_proba(self, X):
        """Probability of each class, in the order of ``classes_``."""
        return fa.softmax(self._outputs(X).astype(np.float64))

    def predict(self, X):
        """The most probable class of each row."""
        chosen = self._outputs(X).argmax(axis=1)
        return self.classes_[chosen]


class Regressor(RegressorMixin, Network):
    __doc__ = f"""A network that predicts numbers, trained with the mean squared error.

    {Network.__doc__.partition(".")[2].strip()}
    """

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def fit(self, X, y):
        """Train anew on rows `X` and their targets `y`, of shape (rows,) or (rows, outputs)."""
        X, y = validate_data(self, X, y, dtype=PRECISIONS, multi_output=True, y_numeric=True)
        self.single_ = y.ndim == 1
        y = y.reshape(len(y), -1).astype(np.float64)
        self.target_scaler_ = ZScore().fit(y)
        return self._train(X, self.target_scaler_.transform(y), y.shape[1], "mse")

    def predict(self, X):
        """The predicted numbers of each row."""
        outputs = self._outputs(X).astype(np.float64)
        y = self.target_scaler_.inverse_transform(outputs)
        return y[:, 0] if self.single_ else y
