"""The tables of ``tables.h``, for the kernels that Numba compiles."""

from __future__ import annotations

import functools
import re
from pathlib import Path


@functools.cache
def table(name):
    """The rows of one of them."""
    text = (Path(__file__).parent / "tables.h").read_text()
    (rows,) = re.findall(rf"\b{name}_table.*? = {{(.*?)}};", text, re.S)
    return tuple(tuple(float(number.rstrip("f")) for number in row.split(", ")) for row in re.findall(r"{(.*?)}", rows))
