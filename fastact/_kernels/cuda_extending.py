"""fastact's functions inside users' own CUDA kernels: ``fa.gelu(v)`` and ``fa.gelu.derivative(v)``, v a number.

numba-cuda calls init() before it first compiles anything, by the entry point "numba_cuda_extensions".

It lets the compiler fuse multiplications with additions, which fastact's own kernels forbid. Tried on a CPU with float32 and
float64, that leaves every function as accurate as it was, and NaN and infinity where they were.
"""

from __future__ import annotations

import functools

import numpy as np
from numba import cuda
from numba.cuda import extending
from numba.cuda.datamodel import models
from numba.cuda.typing import templates

from .cuda_elementwise import formula_of
from .cuda_intrinsics import device_function, target
from .numba_extending import extend
from .numba_scalar import integer_formulas

INLINED = {"forceinline": True}
ANY_CAPABILITY = 8, 0
"""Formulas are the same for all."""


def formula(function, T):
    """numba-cuda's function of a number of that NumPy type."""
    if np.issubdtype(T, np.integer):
        return integer_formulas(T, device_function)[function.row.name]
    return formula_of(target(ANY_CAPABILITY), function.row, function.kind, np.dtype(T).name)


@functools.cache
def init():
    """Tell numba-cuda what kind of thing an activation is."""
    extend(extending, templates, models, cuda.jit(device=True, **INLINED), INLINED, formula, arrays=False)
