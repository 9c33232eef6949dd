"""What a kernel for a GPU is, and where such kernels get their numbers of threads from. Imports no Numba."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

WARP = 32
VECTOR = 16
"""Bytes that a thread reads or writes at once."""
SIZES = {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8}


@dataclass(frozen=True)
class Kernel:
    """What a factory makes: a function of words of 64 bits.

    ``arguments`` has for each of them None for a word, or for a tuple of words how many these are.
    """

    function: Any
    arguments: tuple[int | None, ...]
    threads: int


def lanes(storage):
    """How many numbers a thread reads at once."""
    return VECTOR // SIZES[storage]


def computed_as(storage):
    """The type in which numbers of a storage are computed, itself a storage."""
    return "float64" if storage == "float64" else "float32"
