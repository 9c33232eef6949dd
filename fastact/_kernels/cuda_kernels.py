"""What a kernel for a GPU is, and where such kernels get their numbers of threads from. Imports no Numba."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

WARP = 32
VECTOR = 16
"""Bytes that a thread reads or writes at once."""
SIZES = {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8}


@dataclass(frozen=True)
class Kernel:
    """What a factory makes: a function of words of 64 bits.

    ``arguments`` has for each of them None for a word, or for a tuple of words how many these are. It takes no more registers
    than let a multiprocessor run so many blocks at once.
    """

    function: Any
    arguments: tuple[int | None, ...]
    threads: int
    blocks: int = 1


class Target(SimpleNamespace):
    """What factories build on: numba.cuda with the instructions that it lacks, or the emulator of the tests."""

    __eq__, __hash__ = object.__eq__, object.__hash__

    def __init__(self, **parts):
        super().__init__(made={}, **parts)


def made_once(factory):
    """A decorator for factories of the functions that kernels call: what a target has been given, it compiles only once."""

    @functools.wraps(factory)
    def made(target, *specification, **options):
        key = factory, specification, *options.items()
        if key not in target.made:
            target.made[key] = factory(target, *specification, **options)
        return target.made[key]

    return made


def lanes(storage):
    """How many numbers a thread reads at once."""
    return VECTOR // SIZES[storage]


def computed_as(storage):
    """The type in which numbers of a storage are computed, itself a storage."""
    return "float64" if storage == "float64" else "float32"
