"""Public functions of fastact by name."""

from __future__ import annotations

import difflib

import fastact as fa


def find(kind, function, names):
    """The function called `function`, which must be one of `names`; anything but a string comes back as it is."""
    if not isinstance(function, str):
        return function
    if function in names:
        return getattr(fa, function)
    near = difflib.get_close_matches(function, names, n=4, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(names)}"
    raise ValueError(f"unknown {kind} {function!r}; {hint}")
