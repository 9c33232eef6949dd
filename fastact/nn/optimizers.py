"""Optimizers: how a vector of parameters follows its gradient.

An optimizer holds only its settings. ``start`` makes the state for one vector of parameters, and ``step`` changes the
parameters and that state in place, without allocating.
"""

from __future__ import annotations

import math

import numpy as np


class SGD:
    """Gradient descent, ``velocity = momentum velocity + gradient``, ``parameter -= learning_rate velocity``.

    Parameters
    ----------
    learning_rate : float
    momentum : float
        In [0, 1); 0 is plain gradient descent (Polyak 1964 for the rest).
    """

    def __init__(self, learning_rate=0.01, momentum=0.0):
        check(learning_rate=learning_rate, momentum=momentum)
        self.learning_rate, self.momentum = learning_rate, momentum

    def start(self, parameters):
        return {"velocity": np.zeros_like(parameters), "scratch": np.empty_like(parameters)}

    def step(self, parameters, gradients, state):
        velocity, scratch = state["velocity"], state["scratch"]
        velocity *= self.momentum
        velocity += gradients
        parameters -= np.multiply(velocity, self.learning_rate, out=scratch)


class Adam:
    """Adam, with bias correction (Kingma & Ba 2014, arXiv:1412.6980).

    Parameters
    ----------
    learning_rate : float
    beta1, beta2 : float
        In [0, 1): decay of the running means of the gradient and of its square.
    epsilon : float
        Added to the root of the mean square.
    """

    def __init__(self, learning_rate=0.001, beta1=0.9, beta2=0.999, epsilon=1e-8):
        check(learning_rate=learning_rate, epsilon=epsilon, beta1=beta1, beta2=beta2)
        self.learning_rate, self.beta1, self.beta2, self.epsilon = learning_rate, beta1, beta2, epsilon

    def start(self, parameters):
        return {"steps": 0, "mean": np.zeros_like(parameters), "square": np.zeros_like(parameters),
                "scratch": np.empty_like(parameters)}

    def step(self, parameters, gradients, state):
        mean, square, scratch = state["mean"], state["square"], state["scratch"]
        state["steps"] += 1
        correction1 = 1 - self.beta1 ** state["steps"]
        correction2 = math.sqrt(1 - self.beta2 ** state["steps"])

        mean *= self.beta1
        mean += np.multiply(gradients, 1 - self.beta1, out=scratch)
        square *= self.beta2
        np.multiply(gradients, gradients, out=scratch)
        scratch *= 1 - self.beta2
        square += scratch

        # mean / correction1 / (sqrt(square) / correction2 + epsilon), with the scalars gathered.
        np.sqrt(square, out=scratch)
        scratch += self.epsilon * correction2
        np.divide(mean, scratch, out=scratch)
        scratch *= self.learning_rate * correction2 / correction1
        parameters -= scratch


def check(**settings):
    """Raise ValueError unless rates and epsilons are positive and the decays lie in [0, 1)."""
    for name, value in settings.items():
        if name in ("learning_rate", "epsilon"):
            if not 0 < value < math.inf:
                raise ValueError(f"{name} must be positive, not {value!r}")
        elif not 0 <= value < 1:
            raise ValueError(f"{name} must lie in [0, 1), not {value!r}")
