"""Losses: what the trainer calls, made from a name or from a plain function."""

from __future__ import annotations

import numpy as np

import fastact as fa

from .layers import Activation
from .names import find


class CallableLoss:
    """A function (prediction, target) -> (value, gradient) with the interface of fastact's losses."""

    def __init__(self, function):
        self.function = function

    def __call__(self, prediction, target):
        return self.function(prediction, target)[0]

    def value_and_grad(self, prediction, target, *, grad_out):
        value, gradient = self.function(prediction, target)
        if np.shape(gradient) != prediction.shape:
            raise ValueError(f"the loss returned a gradient of shape {np.shape(gradient)} for a prediction of shape "
                             f"{prediction.shape}; the target has shape {target.shape}")
        # Copied because the backward pass writes over it, and it may be an array that the function still needs.
        np.copyto(grad_out, gradient, casting="same_kind")
        return value, grad_out


def as_loss(loss, model):
    """The loss for training `model`, refused where the model already applies the softmax that is part of the loss."""
    loss = find("loss", loss, fa.list_losses())
    last = model.layers[-1]
    if loss is fa.softmax_cross_entropy and isinstance(last, Activation) and last.function in (fa.softmax, fa.softmin):
        raise ValueError(
            f"softmax_cross_entropy takes logits and applies softmax itself, but the model ends in {last!r}: with "
            "softmax applied twice the loss stays above log(1 + (classes - 1) / e), 1.461 for 10 classes, and the "
            "gradients are too small. Remove the last layer.")
    if hasattr(loss, "value_and_grad"):
        return loss
    if callable(loss):
        return CallableLoss(loss)
    raise TypeError(f"loss must be a name or a function (prediction, target) -> (value, gradient), not {loss!r}")
