"""Optimizers: how a vector of parameters follows its gradient.

An optimizer holds only its settings. ``start`` makes the state for one vector of parameters, and ``step`` changes the
parameters and that state in place, in one pass that threads share, without allocating.

Weight decay is added to the gradient, ``gradient + weight_decay parameter``, except by `AdamW`, which takes it from the
parameters directly; only weights decay, no biases, slopes of `PReLU` or scales of normalisations (see ``Layer.decaying``).
A learning rate is a number or a schedule, a function of the number of steps taken (see `schedules`).
"""

from __future__ import annotations

import math

import numpy as np

from . import kernels


class Optimizer:
    """Base of the optimizers; subclasses say what they remember and how a step goes.

    Attributes
    ----------
    memory : tuple of str
        Names of the arrays in the state, each like the parameters.
    kernel : callable
        The compiled step; it takes the values from ``settings``.
    decoupled : bool
        Whether weight decay takes from the parameters directly.
    """

    memory: tuple[str, ...] = ()
    decoupled = False

    def __init__(self, learning_rate, weight_decay, **settings):
        check(learning_rate=learning_rate, weight_decay=weight_decay, **settings)
        self.learning_rate, self.weight_decay = learning_rate, weight_decay
        vars(self).update(settings)

    def start(self, parameters):
        """The state before the first step."""
        return {"steps": 0, **{name: np.zeros_like(parameters) for name in self.memory}}

    def step(self, parameters, gradients, state, *, scale=1.0, limit=math.inf, spans=None):
        """Change `parameters` and `state` in place.

        Parameters
        ----------
        parameters, gradients : ndarray
            Contiguous vectors of one dtype, float32 or float64.
        state : dict
            From ``start``.
        scale, limit : float
            Gradients are multiplied by `scale` and then cut to [-limit, limit].
        spans : sequence of (begin, end, decays), optional
            Of which parameters weight decay takes hold; by default of all.
        """
        size = parameters.size
        if parameters.shape != gradients.shape:
            raise ValueError(f"there are {size} parameters and {gradients.size} gradients")
        steps = state["steps"]
        rate = self.rate(steps)
        state["steps"] = steps = steps + 1
        arrays = (parameters, gradients, *[state[name] for name in self.memory])
        for begin, end, decays in spans if spans and self.weight_decay else ((0, size, True),):
            decay = self.weight_decay if decays else 0.0
            # Slicing takes longer than a step of a few hundred parameters.
            part = arrays if end - begin == size else tuple([array[begin:end] for array in arrays])
            self.kernel(end - begin, part, (), (scale, limit, 0.0 if self.decoupled else decay, *self.settings(rate, steps, decay)))

    def rate(self, steps):
        """The learning rate after so many steps."""
        return float(self.learning_rate(steps) if callable(self.learning_rate) else self.learning_rate)

    def settings(self, rate, steps, decay):
        """What the kernel takes beside the gradient's scale, limit and decay."""
        raise NotImplementedError

    def __repr__(self):
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in vars(self).items())})"


class SGD(Optimizer):
    """Gradient descent, ``velocity = momentum velocity + gradient``, ``parameter -= learning_rate velocity``.

    Parameters
    ----------
    learning_rate : float or schedule
    momentum : float
        In [0, 1); 0 is plain gradient descent (Polyak 1964 for the rest).
    nesterov : bool
        Whether to look ahead: the step follows ``momentum velocity + gradient`` (Nesterov 1983; Sutskever et al. 2013).
    weight_decay : float
    """

    def __init__(self, learning_rate=0.01, momentum=0.0, nesterov=False, weight_decay=0.0):
        super().__init__(learning_rate, weight_decay, momentum=momentum)
        if nesterov and not momentum:
            raise ValueError("nesterov must have a momentum")
        self.nesterov = bool(nesterov)

    memory = property(lambda self: ("velocity",) if self.momentum else ())
    kernel = property(lambda self: NESTEROV if self.nesterov else MOMENTUM if self.momentum else GRADIENT)

    def settings(self, rate, steps, decay):
        return (rate, self.momentum) if self.momentum else (rate,)


class Momentum(SGD):
    """`SGD` with momentum."""

    def __init__(self, learning_rate=0.01, momentum=0.9, weight_decay=0.0):
        super().__init__(learning_rate, momentum, False, weight_decay)


class Nesterov(SGD):
    """`SGD` with momentum that looks ahead."""

    def __init__(self, learning_rate=0.01, momentum=0.9, weight_decay=0.0):
        super().__init__(learning_rate, momentum, True, weight_decay)


class AdaGrad(Optimizer):
    """Steps divided by the root of the sum of all squared gradients, ``square`` (Duchi et al. 2011).

    Parameters
    ----------
    learning_rate : float or schedule
    epsilon : float
        Added to the root.
    weight_decay : float
    """

    memory = ("square",)

    def __init__(self, learning_rate=0.01, epsilon=1e-10, weight_decay=0.0):
        super().__init__(learning_rate, weight_decay, epsilon=epsilon)

    kernel = property(lambda self: ADAGRAD)

    def settings(self, rate, steps, decay):
        return rate, self.epsilon


class RMSProp(Optimizer):
    """Steps divided by the root of a running mean of the squared gradients, ``square`` (Tieleman & Hinton 2012).

    Parameters
    ----------
    learning_rate : float or schedule
    decay : float
        In [0, 1): of the running mean.
    epsilon : float
        Added to the root.
    weight_decay : float
    """

    memory = ("square",)

    def __init__(self, learning_rate=0.001, decay=0.9, epsilon=1e-8, weight_decay=0.0):
        super().__init__(learning_rate, weight_decay, decay=decay, epsilon=epsilon)

    kernel = property(lambda self: RMSPROP)

    def settings(self, rate, steps, decay):
        return rate, self.epsilon, self.decay, 1 - self.decay


class Adam(Optimizer):
    """Adam, with bias correction (Kingma & Ba 2014, arXiv:1412.6980).

    Parameters
    ----------
    learning_rate : float or schedule
    beta1, beta2 : float
        In [0, 1): decay of the running means of the gradient and of its square.
    epsilon : float
        Added to the root of the mean square.
    weight_decay : float
    """

    memory = ("mean", "square")

    def __init__(self, learning_rate=0.001, beta1=0.9, beta2=0.999, epsilon=1e-8, weight_decay=0.0):
        super().__init__(learning_rate, weight_decay, beta1=beta1, beta2=beta2, epsilon=epsilon)

    kernel = property(lambda self: ADAM)

    def settings(self, rate, steps, decay):
        # mean / correction1 / (sqrt(square) / correction2 + epsilon), with the scalars gathered.
        correction1, correction2 = 1 - self.beta1**steps, math.sqrt(1 - self.beta2**steps)
        kept = 1 - rate * decay if self.decoupled else 1.0
        return (rate * correction2 / correction1, self.epsilon * correction2, self.beta1, 1 - self.beta1, self.beta2, 1 - self.beta2,
                kept)  # fmt: skip


class AdamW(Adam):
    """Adam with decoupled weight decay: every step multiplies the weights by ``1 - learning_rate weight_decay``.

    After Loshchilov & Hutter 2017, arXiv:1711.05101. Parameters are those of `Adam`.
    """

    decoupled = True

    def __init__(self, learning_rate=0.001, beta1=0.9, beta2=0.999, epsilon=1e-8, weight_decay=0.01):
        super().__init__(learning_rate, beta1, beta2, epsilon, weight_decay)


# Nanoseconds for a parameter; a step is bound by memory.
GRADIENT = kernels.kernel("sgd_step", "xx", 0.2)
MOMENTUM = kernels.kernel("momentum_step", "xxx", 0.3)
NESTEROV = kernels.kernel("nesterov_step", "xxx", 0.3)
ADAGRAD = kernels.kernel("adagrad_step", "xxx", 0.4)
RMSPROP = kernels.kernel("rmsprop_step", "xxx", 0.4)
ADAM = kernels.kernel("adam_step", "xxxx", 0.5)


def check(**settings):
    """Raise ValueError unless rates and epsilons are positive, weight decay not negative, and the decays in [0, 1)."""
    for name, value in settings.items():
        if name == "learning_rate" and callable(value):
            continue
        if name in ("learning_rate", "epsilon"):
            if not 0 < value < math.inf:
                raise ValueError(f"{name} must be positive, not {value!r}")
        elif name == "weight_decay":
            if not 0 <= value < math.inf:
                raise ValueError(f"{name} must not be negative, but is {value!r}")
        elif not 0 <= value < 1:
            raise ValueError(f"{name} must lie in [0, 1), not {value!r}")
