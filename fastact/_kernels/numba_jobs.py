"""Work on whole arrays that Python hands to the team: what its kernels need, and how it is started."""

from __future__ import annotations

import ctypes
import functools
from array import array

import numpy as np

from .numba_intrinsics import called_from_python
from .numba_threads import share, team

HEADER = object.__basicsize__
_word_at = ctypes.c_void_p.from_address


def address(memory):
    """Where an array's elements begin: what NumPy's C API reads too, at a fifth of the cost of ``array.ctypes.data``."""
    return memory.buffer_info()[0] if type(memory) is array else _word_at(id(memory) + HEADER).value


def words(*values):
    """A job: integers, arrays, whose addresses it gets, and 0 for None. The arrays must live as long as it does."""
    return array("q", [value if type(value) is int else 0 if value is None else address(value) for value in values])


def computed_in(dtype):
    """The type in which kernels compute for arrays of a dtype that they have."""
    return np.float64 if dtype.char == "d" else np.float32


@functools.cache
def _runner():
    @called_from_python
    def run(work, job, total, chunk, picoseconds):
        share(work, job, total, chunk, team(picoseconds))

    return run


def run_pieces(work, job, total, chunk, picoseconds):
    """The C function work(job, first, count) for chunks of 0...total, by as many threads as work of that length gets."""
    _runner()(work.address, address(job), total, chunk, int(picoseconds))
