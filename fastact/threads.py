"""How many threads the kernels may use."""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np

MOST = 2**31 - 1
"""That the kernels can count."""

_limit = 1
_threaded = True
_backends: dict[str, tuple[Callable[[int], None], bool]] = {}


def set_num_threads(n: int) -> None:
    """Let the kernels use at most ``n`` threads.

    Small arrays use fewer. The default is ``FASTACT_NUM_THREADS``, else ``OMP_NUM_THREADS``, else the CPUs that this
    process may run on; 1 where the package was built without threads, and in a child process after a fork.

    Raises
    ------
    ValueError
        If ``n`` is not a positive integer.
    """
    global _limit
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < 1:
        raise ValueError(f"the number of threads must be a positive integer, not {n!r}")
    _limit = min(int(n), MOST)
    for set_limit, threaded in _backends.values():
        set_limit(_limit if threaded else 1)


def get_num_threads() -> int:
    """The most threads that the kernels use."""
    return _limit if _threaded else 1


def govern(backend: str, set_limit: Callable[[int], None], threaded: bool) -> None:
    """Tell a backend's kernels about the limit from now on; one that has no threads gets 1."""
    _backends[backend] = set_limit, threaded
    set_limit(_limit if threaded else 1)


def serve(backend: str) -> None:
    """Speak for the backend that runs."""
    global _threaded
    _threaded = backend not in _backends or _backends[backend][1]


def _default() -> int:
    for variable in ("FASTACT_NUM_THREADS", "OMP_NUM_THREADS"):
        wanted = os.environ.get(variable, "")
        first = wanted.split(",")[0].strip()
        if first.isdecimal() and int(first) > 0:
            return int(first)
        if wanted and variable == "FASTACT_NUM_THREADS":
            raise ImportError(f"{variable} must be a positive integer, not {wanted!r}")
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


set_num_threads(_default())
if hasattr(os, "register_at_fork"):
    # Children tend to be many, one for each CPU.
    os.register_at_fork(after_in_child=lambda: set_num_threads(1))
