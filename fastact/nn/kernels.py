"""The kernels of the layers and optimizers, and what they are given."""

from __future__ import annotations

import numpy as np

from .. import backends
from ..backends import kernels as addresses
from . import plain_kernels

UNITS, UNIT_ELEMENTS = 16, 4096
"""Sums over rows are taken over at most so many units, each of at least so many elements."""

training = backends.compiled_kernels("training")


def kernel(name, operands, cost):
    """The compiled kernel for arrays of NumPy, which leaves all others to the plain one."""
    plain = plain_kernels.Kernel(name)
    return plain if training is None else training.Kernel(name, addresses, operands, cost, plain)


def chunk(function, kind, like):
    """An activation as kernels of arrays like this one take it: where its compiled loop lies, or a function."""
    if training is None or not isinstance(like, np.ndarray):
        return plain_kernels.chunk(function, kind)
    return addresses[f"{function.name}_{kind}_{'double' if like.dtype == np.float64 else 'float'}"]


# Costs in nanoseconds for an element of the first array, on one thread; only their order matters.
bias_activation = kernel("bias_activation", "xxx", 0.3)
activation_backward = kernel("activation_backward", "xxd", 0.4)
slopes_backward = kernel("slopes_backward", "xxxd", 0.4)
fold = kernel("fold", "xd", 1.0)
dropout = kernel("dropout", "xx", 0.3)
column_sums = kernel("column_sums", "xdd", 0.3)
column_products = kernel("column_products", "xxdd", 0.5)
normalise_columns = kernel("normalise_columns", "xxxdxxx", 0.4)
unnormalise_columns = kernel("unnormalise_columns", "xxxdd", 0.4)
normalise_rows = kernel("normalise_rows", "xxxxxx", 0.8)
unnormalise_rows = kernel("unnormalise_rows", "xxxxx", 1.0)
patches = kernel("patches", "xx", 0.15)
add_patches = kernel("add_patches", "xx", 0.3)
pool = kernel("pool", "xxn", 0.5)
pool_backward = kernel("pool_backward", "xxn", 0.5)
scatter = kernel("scatter", "xxi", 0.0)
lstm = kernel("lstm", "xxxxxx", 0.8)
lstm_backward = kernel("lstm_backward", "xxxxx", 0.5)
gru = kernel("gru", "xxxxx", 0.8)
gru_backward = kernel("gru_backward", "xxxx", 0.5)
squares = kernel("squares", "xd", 0.3)


def units(rows, features):
    """Rows in a unit, and how many units there are: they depend on the shape alone, and so do the bits of the sums."""
    unit = max(-(-rows // UNITS), -(-UNIT_ELEMENTS // features), 1)
    return unit, max(-(-rows // unit), 1)


def fold_units(totals, out):
    """The sums of the columns of `totals`, an array of (units, features) in float64."""
    fold(out.size, (out, totals), (out.size, len(totals)))
    return out


def sum_of_squares(x):
    """Sum of the squares of a vector, in float64, the same on any number of threads."""
    unit = 4096
    totals = np.empty(-(-x.size // unit), like=x)
    squares(totals.size, (x, totals), (x.size, unit))
    return float(totals.sum())
