"""What all losses have in common, and the list of them."""

from __future__ import annotations

import numpy as np

from .backends import empty, learn_bfloat16, unmasked
from .devices import any_on_gpu

__all__ = ["list_losses"]

LOSSES = {}
"""Every loss by its name, in the order of registration."""


def register(loss):
    """Decorator: enter a loss, which has a ``value_and_grad``, under its name."""
    LOSSES[loss.__name__] = loss
    return loss


def gradient_of(loss):
    """Decorator: make a function the method ``value_and_grad`` of a loss."""

    def attach(function):
        function.__name__ = "value_and_grad"
        function.__qualname__ = f"{loss.__name__}.value_and_grad"
        loss.value_and_grad = function
        return function

    return attach


def list_losses() -> list[str]:
    """The names of all losses."""
    return list(LOSSES)


def check_reduction(reduction):
    """Raise ValueError unless it is one of the three."""
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"reduction must be 'mean', 'sum' or 'none', not {reduction!r}")


def as_input(array):
    """What a loss takes its gradient of: floating-point, native and aligned; integers follow the rule of np.exp."""
    if any_on_gpu((array,)):
        raise TypeError("this loss has no kernels for arrays on a GPU")
    array = plain(array)
    learn_bfloat16()
    return array.astype(np.exp(np.empty(0, array.dtype)).dtype) if array.dtype.kind in "?biu" else array


def plain(array):
    """An array, native and aligned; TypeError if anything in it is masked."""
    array = np.asarray(unmasked(array))
    return array if array.flags.aligned and array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def output_like(array, out, name):
    """``out`` if it fits the array, a new one if it is None; ``name`` is what errors call it."""
    if out is None:
        return empty(array)
    if not isinstance(out, np.ndarray):
        raise TypeError(f"{name} must be an ndarray, not {type(out).__name__}")
    if out.shape != array.shape or not out.flags.writeable:
        raise ValueError(f"{name} must be a writeable array of shape {array.shape}")
    if out.dtype != array.dtype:
        raise TypeError(f"{name} must be of dtype {array.dtype}, not {out.dtype}")
    return out


def same_elements(a, b):
    """Whether two arrays of one shape and dtype are the same memory in the same order."""
    return a.strides == b.strides and a.ctypes.data == b.ctypes.data


def rounded(number, dtype):
    """A scalar of a dtype, which may overflow."""
    if 1e-4 < abs(number) < 6e4:  # in every dtype a normal number; np.errstate takes three times as long as the rest
        return dtype.type(number)
    with np.errstate(all="ignore"):
        return dtype.type(number)
