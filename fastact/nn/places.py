"""Where a model is: with NumPy, or on a GPU as arrays of CuPy, which NumPy's functions pass on to CuPy.

So functions of arrays need nothing more. Only a new array must be told where it belongs, by ``like=`` of NumPy's functions,
and what comes from elsewhere is brought along by `beside`.
"""

from __future__ import annotations

import numpy as np

from ..devices import library_of


def prototype(like, dtype):
    """An empty array of that dtype where `like` is; None stands for an array of NumPy.

    Raises
    ------
    TypeError
        If `like` is an array that NumPy's functions cannot work with.
    """
    if like is None or isinstance(like, np.ndarray):
        return np.empty(0, dtype)
    if library_of(like) is None or not hasattr(like, "__array_function__"):
        raise TypeError(f"like must be an array of NumPy or CuPy, not {type(like).__module__}.{type(like).__name__}; "
                        "cupy.asarray takes what others have on a GPU without copying it")  # fmt: skip
    return np.empty(0, dtype, like=like)


def is_array(x):
    """Whether `x` is an array, of NumPy or on a GPU, and nothing yet to be made into one."""
    return isinstance(x, np.ndarray) or library_of(x) is not None


def as_array(x):
    """`x` itself if it is an array, else one of NumPy."""
    return x if is_array(x) else np.asarray(x)


def beside(like, x, dtype=None):
    """`x` as a C-contiguous array where `like` is: itself, if it is one.

    Raises
    ------
    TypeError
        If `like` is with NumPy and `x` on a GPU: that is rarely meant.
    """
    if not isinstance(like, np.ndarray):
        return np.ascontiguousarray(np.asarray(x, dtype, like=like), like=like)
    if library_of(x) is not None:
        raise TypeError(f"the model is in NumPy's memory and {type(x).__module__}.{type(x).__name__} on a GPU: "
                        "nn.Sequential(..., like=x) or nn.load(path, like=x) makes a model there")  # fmt: skip
    return np.ascontiguousarray(x, dtype)


def on_host(x):
    """`x` as an array of NumPy; where it is on a GPU, this waits for it."""
    return np.asarray(x) if library_of(x) is None else x.get()


def gather(x, index, out=None):
    """Elements along the first axis, by numbers that must have been checked."""
    if isinstance(x, np.ndarray):
        return np.take(x, index, axis=0, out=out, mode="clip")  # mode="raise" would buffer the output
    return np.take(x, np.asarray(index, like=x), axis=0, out=out)
