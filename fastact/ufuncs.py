"""The ufuncs of this package by their names, as pickle looks for them: it takes a ufunc for the global of its name in some module.

``fastact.ufuncs.gelu_derivative`` is ``fastact.gelu.derivative.ufunc``, that of the backend which runs.
"""

from __future__ import annotations

FINDERS = {}
"""By name functions that return the ufunc."""


def __getattr__(name):
    if name not in FINDERS:
        raise AttributeError(f"there is no ufunc {name!r}")
    return FINDERS[name]()
