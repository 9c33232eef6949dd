"""Libraries that may not be there."""

import functools
import importlib
from importlib import metadata


def optional(name):
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def version(name):
    return {name: metadata.version(name)}


def from_table(table):
    """The ``bind`` of a library that works on the arrays themselves."""

    def bind(case, setting, arrays):
        if case.name not in table:
            return None
        *inputs, out = arrays
        return functools.partial(table[case.name], *inputs, out if setting.out else None, *case.parameters(setting))

    return bind
