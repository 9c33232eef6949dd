"""Activation, softmax and loss functions of neural networks for NumPy: fast, exact to the last digit, with gradients."""

from __future__ import annotations

__version__ = "0.1.0"


def _use_installed_files():
    """In a clone, ``python -m fastact`` finds the clone's folder, where nothing is compiled: go on in the installed one.

    If there is none, or this is no clone, nothing has been compiled, and backends.py sees to what there is.
    """
    import sys
    from importlib.machinery import PathFinder
    from pathlib import Path

    here = Path(__file__).resolve().parent
    installed = PathFinder.find_spec(__name__, [entry for entry in sys.path if Path(entry).resolve() != here.parent])
    if installed is not None and (here.parent / "pyproject.toml").exists():
        __path__[:] = installed.submodule_search_locations
        del sys.modules[f"{__name__}._kernels"]


try:
    from ._kernels import dispatch as _dispatch  # noqa: F401
except ImportError:
    _use_installed_files()

from .activations import *  # noqa: F403
from .activations import Activation, list_activations
from .backends import get_backend, set_backend, show_config, use_backend, warmup
from .elementwise_losses import *  # noqa: F403
from .gated import *  # noqa: F403
from .gradients import GradientCheck, GradientError, check_grad
from .linear import linear_softmax_cross_entropy
from .losses import list_losses
from .names import get
from .row_losses import categorical_cross_entropy, kl_div, nll_loss, softmax_cross_entropy, softmax_focal
from .rowwise import gumbel_softmax, log_softmax, logsumexp, softmax, softmin, sparsemax
from .threads import get_num_threads, set_num_threads

__all__ = [
    *activations.__all__,
    *elementwise_losses.__all__,
    *gated.__all__,
    "Activation",
    "GradientCheck",
    "GradientError",
    "activation",
    "categorical_cross_entropy",
    "check_grad",
    "get",
    "get_backend",
    "get_num_threads",
    "gumbel_softmax",
    "kl_div",
    "linear_softmax_cross_entropy",
    "list_activations",
    "list_losses",
    "log_softmax",
    "logsumexp",
    "nll_loss",
    "nn",
    "plot",
    "set_backend",
    "set_num_threads",
    "show_config",
    "softmax",
    "softmax_cross_entropy",
    "softmax_focal",
    "softmin",
    "sparsemax",
    "use_backend",
    "warmup",
]


def __getattr__(name):
    # The trainer and the figures need packages that the functions do not, and most users have no activations of their own.
    if name in ("nn", "plot", "activation"):
        import importlib

        module = importlib.import_module(f".{'custom' if name == 'activation' else name}", __name__)
        return module.activation if name == "activation" else module
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted(__all__)
