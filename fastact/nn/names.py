"""Public functions of fastact by name."""

from __future__ import annotations

import difflib

import fastact as fa


def find(kind, function, names):
    """The function of fastact called `function`, which must be one of `names`; anything but a string comes back as it is."""
    return (
        find_in(kind, function, {name: getattr(fa, name) for name in names}) if isinstance(function, str) else function
    )


def named(function):
    """The name by which `find` has a function again; one of the user's own, which has none there, stands for itself."""
    name = function.__name__
    return name if getattr(fa, name, None) is function else function


def find_in(kind, function, functions):
    """The same from a dict of functions."""
    if not isinstance(function, str):
        return function
    if function in functions:
        return functions[function]
    near = difflib.get_close_matches(function, functions, n=4, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(functions)}"
    raise ValueError(f"unknown {kind} {function!r}; {hint}")
