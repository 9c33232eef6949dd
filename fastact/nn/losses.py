"""Losses: what the trainer calls, made from a name or from a plain function."""

from __future__ import annotations

import inspect

import numpy as np

import fastact as fa

from .layers import Activation, Flatten
from .names import find

APPLIED_BY_LOSS = {"softmax_cross_entropy": ("softmax", "softmin"), "softmax_focal": ("softmax", "softmin"),
                   "sigmoid_cross_entropy": ("sigmoid",), "sigmoid_focal": ("sigmoid",)}  # fmt: skip
"""Losses that take logits, and the last layers that would apply the same once more."""
BOUND = {"softmax_cross_entropy": "the loss stays above log(1 + (classes - 1) / e), 1.461 for 10 classes, and ",
         "sigmoid_cross_entropy": "the loss stays above log(1 + 1 / e), 0.313, and "}  # fmt: skip


class CallableLoss:
    """A function (prediction, target) -> (value, gradient) with the interface of fastact's losses."""

    def __init__(self, function):
        self.function = function
        self.__name__ = getattr(function, "__name__", type(function).__name__)

    def __call__(self, prediction, target):
        return self._pair(prediction, target)[0]

    def value_and_grad(self, prediction, target, *, grad_out):
        value, gradient = self._pair(prediction, target)
        if np.shape(gradient) != prediction.shape:
            raise ValueError(f"the loss returned a gradient of shape {np.shape(gradient)} for a prediction of shape "
                             f"{prediction.shape}; the target has shape {target.shape}")  # fmt: skip
        # Copied because the backward pass writes over it, and it may be an array that the function still needs.
        np.copyto(grad_out, gradient, casting="same_kind")
        return value, grad_out

    def _pair(self, prediction, target):
        returned = self.function(prediction, target)
        if not isinstance(returned, (tuple, list)) or len(returned) != 2:
            raise TypeError(f"a function that is to be a loss must return (value, gradient), and {self.__name__} does not")
        return returned


def as_loss(loss, model):
    """The loss for training `model`, refused where the model already applies what is part of the loss."""
    loss = find("loss", loss, fa.list_losses())
    last = next((layer for layer in reversed(model.layers) if not isinstance(layer, Flatten)), None)
    name = getattr(loss, "__name__", "")
    # By the object, too: a function of the user's own may have any name.
    applied = APPLIED_BY_LOSS.get(name, ()) if getattr(fa, name, None) is loss else ()
    if isinstance(last, Activation) and last.function.__name__ in applied:
        twice = applied[0]
        raise ValueError(f"{name} takes logits and applies {twice} itself, but the model ends in {last!r}: with {twice} applied "
                         f"twice {BOUND.get(name, '')}the gradients are too small. Remove the last layer.")  # fmt: skip
    if hasattr(loss, "value_and_grad"):
        required = [
            p.name
            for p in inspect.signature(loss).parameters.values()
            if p.default is p.empty and p.kind is not p.VAR_KEYWORD
        ]
        if len(required) > 2:
            raise TypeError(
                f"{name} needs {', '.join(required)}, more than a prediction and a target: give a function of these two"
            )
        return loss
    # A function of fastact that is none would take the target for its out= or its parameter.
    if callable(loss) and not isinstance(loss, fa.Activation) and str(getattr(loss, "__module__", "")).split(".")[0] != fa.__name__:
        return CallableLoss(loss)
    raise TypeError(f"loss must be a name or a function (prediction, target) -> (value, gradient), not {loss!r}")
