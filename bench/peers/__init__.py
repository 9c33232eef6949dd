"""How each library is asked for the functions of ``cases.py``.

A module a library. Its ``LIBRARIES`` holds, by the names that reports show, functions ``bind(case, setting, arrays)`` that
return a callable of no arguments, or None where the library has no such function. A callable writes the last array of
the case if it can, and returns its result. Functions are equal by definition, not in every digit. What a library is
asked for stands in tables from names of cases to functions of the arrays and parameters; memory for the result is the
last array, or None where none is given.
"""

from __future__ import annotations

import os

from .. import cases
from . import of_fastact, of_jax, of_mkl, of_numexpr, of_numpy, of_onnx, of_torch

OURS = "fastact"
MODULES = {
    "fastact": of_fastact,
    "numpy": of_numpy,
    "numexpr": of_numexpr,
    "torch": of_torch,
    "jax": of_jax,
    "onnxruntime": of_onnx,
    "mkl": of_mkl,
}
"""By the name that pip has for the library."""
LIBRARIES = {name: bind for module in MODULES.values() for name, bind in module.LIBRARIES.items()}
COMPILED = of_torch.COMPILED
"""The one that takes seconds to compile a case."""
VERSIONS = {name: version for module in MODULES.values() for name, version in module.VERSIONS.items()}
MISSING = [name for name, module in MODULES.items() if not module.LIBRARIES]

CASES = cases.VECTORS + cases.MATRICES
if missing := {case.function for case in CASES} - {
    name.partition(".")[0] for m in MODULES.values() for name in m.NAMES
}:
    raise LookupError(f"no library in bench/peers has {', '.join(sorted(missing))}")


def set_num_threads(n):
    """For all libraries; those whose number cannot be set start with as many as there are CPUs for this process.

    To be called before anything is computed.
    """
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:n])
    for module in MODULES.values():
        module.set_num_threads(n)
