"""Activations of the user's own, from a Python function of one number."""

from __future__ import annotations

import functools
import inspect
from dataclasses import dataclass

import numpy as np

from . import backends
from .activations import Activation
from .table import Row

__all__ = ["activation"]

MAX_PARAMETERS = 2


@dataclass(frozen=True, eq=False)
class CustomRow(Row):
    """What the table says about fastact's own functions, and two Python functions."""

    function: object = None
    slope: object = None
    custom = True

    @functools.lru_cache(None)  # noqa: B019 - there are few, and they stay
    def compiled(self, T, kind):
        """The function, or for another kind its derivative, compiled for numbers of a NumPy type."""
        from ._kernels.numba_intrinsics import compiled, of_users

        function = of_users(self.function if kind == "forward" else self.slope)
        return compiled((
            lambda x: T(function(x)),
            lambda x, p: T(function(x, p)),
            lambda x, p, q: T(function(x, p, q)),
        )[len(self.parameters)])  # fmt: skip


def activation(function=None, *, derivative=None):
    """Decorator: make an activation of a Python function of one number.

    Parameters
    ----------
    function : callable
        Of a number and at most two parameters, in the part of Python that Numba compiles.
    derivative : callable, optional
        Of the same arguments. Else it is found from the source of the function, if that holds nothing but assignments,
        conditions, arithmetic, ``abs``, ``min``, ``max``, functions of one argument of the math module or NumPy, and
        activations.

    Returns
    -------
    Activation
        With ``derivative``, ``backward``, ``ufunc`` and all that the others have but a promised accuracy. Numba compiles it,
        whatever the backend, one dtype at a time; half types are computed in float32.

    Raises
    ------
    TypeError
        If there are more parameters, Numba does not compile one of the functions, or the derivative cannot be found.
    ImportError
        If Numba is not installed.

    Examples
    --------
    >>> @activation
    ... def bent_identity(x, scale=0.5):
    ...     return scale * (math.sqrt(x * x + 1) - 1) + x
    >>> bent_identity(np.array([-1.0, 0.0, 1.0]))
    array([-0.79289322,  0.        ,  1.20710678])
    >>> bent_identity.derivative(np.array([0.0, np.inf]), scale=0.25)
    array([1.  , 1.25])
    """
    if function is None:
        return functools.partial(activation, derivative=derivative)
    if "numba" not in backends.available():
        raise ImportError("activations of one's own are compiled by Numba, which is not installed")
    function, derivative = (getattr(f, "py_func", f) for f in (function, derivative))
    if not inspect.isfunction(function):
        raise TypeError(f"an activation is made of a Python function, not of {function!r}")
    parameters = _parameters(function)
    if derivative is None:
        from .differentiate import derivative_of

        derivative = derivative_of(function)
    summary = (inspect.getdoc(function) or f"{function.__name__}, an activation of one's own.").splitlines()[0]
    row = CustomRow(function.__name__, summary, "as its source says", "as given, or found from the source of f", (np.inf, np.inf),
                    (np.inf, np.inf), parameters, function=function, slope=derivative)  # fmt: skip
    _check(function, len(parameters))
    _check(derivative, len(parameters))
    made = Activation(row)
    made.max_ulp = dict.fromkeys(made.max_ulp, np.inf)
    for part in (made, made.derivative, made.backward):
        part.__module__ = function.__module__
        part.__qualname__ = part.__name__.replace(function.__name__, function.__qualname__, 1)
        part.owner = made
    return made


def _parameters(function):
    """(name, default) of all but the first."""
    first, *rest = inspect.signature(function).parameters.values() or [None]
    positional = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.POSITIONAL_ONLY
    if first is None or any(p.kind not in positional for p in (first, *rest)) or len(rest) > MAX_PARAMETERS:
        raise TypeError(f"{function.__name__} must take a number and at most {MAX_PARAMETERS} parameters")
    for p in rest:
        if p.default is not p.empty and not isinstance(p.default, (int, float)):
            raise TypeError(f"the default of {p.name} must be a number, not {p.default!r}")
    return tuple((p.name, None if p.default is p.empty else float(p.default)) for p in rest)


def _check(function, parameters):
    """Raise TypeError unless Numba can make a function of numbers of it."""
    from numba import types
    from numba.core.errors import NumbaError

    from ._kernels import numba_extending
    from ._kernels.numba_intrinsics import of_users

    numba_extending.init()  # where the package is not installed, only found, nobody else does
    numbers = (types.float64,) * (1 + parameters)
    try:
        dispatcher = of_users(function)
        dispatcher.compile(numbers)
        returned = dispatcher.overloads[numbers].signature.return_type
    except NumbaError as error:
        raise TypeError(f"Numba cannot compile {function.__name__}: {error}") from None
    if not isinstance(returned, (types.Float, types.Integer, types.Boolean)):
        raise TypeError(f"{function.__name__} must return a number, not {returned}")
