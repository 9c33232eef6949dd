"""Activation, softmax and loss functions of neural networks for NumPy: fast, exact to the last digit, with gradients."""

from __future__ import annotations

__version__ = "0.1.0"

from .activations import *  # noqa: F403
from .activations import Activation, list_activations
from .backends import show_config
from .losses import list_losses, softmax_cross_entropy
from .rowwise import log_softmax, logsumexp, softmax, softmin
from .threads import get_num_threads, set_num_threads

__all__ = [
    *activations.__all__,  # noqa: F405
    "Activation",
    "get_num_threads",
    "list_activations",
    "list_losses",
    "log_softmax",
    "logsumexp",
    "nn",
    "plot",
    "set_num_threads",
    "show_config",
    "softmax",
    "softmax_cross_entropy",
    "softmin",
]


def __getattr__(name):
    # The trainer and the figures are imported on first use: they need packages that the functions do not.
    if name in ("nn", "plot"):
        import importlib

        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted(__all__)
