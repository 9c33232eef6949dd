"""Learning rates that change: functions of the number of steps taken, for the ``learning_rate`` of an optimizer."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .layers.base import positive
from .optimizers import check


@dataclass(frozen=True)
class StepDecay:
    """``learning_rate factor^floor(step / every)``"""

    learning_rate: float
    every: int
    factor: float = 0.1

    def __post_init__(self):
        check(learning_rate=self.learning_rate, factor=self.factor)
        positive(every=self.every)

    def __call__(self, step):
        return self.learning_rate * self.factor ** (step // self.every)


@dataclass(frozen=True)
class ExponentialDecay:
    """``learning_rate factor^(step / every)``"""

    learning_rate: float
    every: int
    factor: float = 0.5

    def __post_init__(self):
        check(learning_rate=self.learning_rate, factor=self.factor)
        positive(every=self.every)

    def __call__(self, step):
        return self.learning_rate * self.factor ** (step / self.every)


@dataclass(frozen=True)
class CosineDecay:
    """From ``learning_rate`` to ``final`` along half a cosine, over ``steps`` (Loshchilov & Hutter 2016, arXiv:1608.03983)."""

    learning_rate: float
    steps: int
    final: float = 0.0

    def __post_init__(self):
        check(learning_rate=self.learning_rate)
        positive(steps=self.steps)
        if not 0 <= self.final <= self.learning_rate:
            raise ValueError(f"final must lie between 0 and the learning rate, not {self.final!r}")

    def __call__(self, step):
        done = min(step / self.steps, 1.0)
        return self.final + (self.learning_rate - self.final) * (1 + math.cos(math.pi * done)) / 2


@dataclass(frozen=True)
class Warmup:
    """Rises in a straight line over the first ``steps``, then follows ``after``, a rate or a schedule of its own steps."""

    after: object
    steps: int

    def __post_init__(self):
        check(learning_rate=self.after)
        positive(steps=self.steps)

    def __call__(self, step):
        after = self.after(max(step - self.steps, 0)) if callable(self.after) else self.after
        return after * min((step + 1) / (self.steps + 1), 1.0)
