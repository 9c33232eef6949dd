"""Which kernels run."""

from __future__ import annotations

import importlib
import os
from pathlib import Path

import numpy as np

from . import threads
from ._kernels import dispatch
from ._kernels import threads as _threads

DEFAULT_LAST_LEVEL_CACHE = 32 << 20
"""Bytes, where the operating system does not tell."""


def _load():
    supported = dispatch.supported_instruction_sets()
    wanted = os.environ.get("FASTACT_ISA")
    if wanted and wanted not in supported:
        raise ImportError(f"FASTACT_ISA={wanted!r} is not to be had here; this CPU runs {', '.join(supported)}")
    name = wanted or supported[0]
    return name, importlib.import_module(f"._kernels.cython_{name}", __package__).kernels


def _last_level_cache() -> int:
    try:  # glibc's sysconf has been seen to answer ten times as much
        return int(Path("/sys/devices/system/cpu/cpu0/cache/index3/size").read_text().strip().removesuffix("K")) << 10
    except (OSError, ValueError):
        return DEFAULT_LAST_LEVEL_CACHE


instruction_set, kernels = _load()
last_level_cache = _last_level_cache()
dispatch.bind(kernels, last_level_cache)


def config() -> dict[str, object]:
    """What runs: backend, instruction set, threads, versions."""
    from . import __version__

    return {
        "fastact": __version__,
        "numpy": np.__version__,
        "backend": "cython",
        "instruction_set": instruction_set,
        "instruction_sets_supported": dispatch.supported_instruction_sets(),
        "threads": threads.get_num_threads(),
        "threading": _threads.can_be_shared(),
        "last_level_cache": last_level_cache,
    }


def show_config() -> None:
    """Print which kernels run, on how many threads, and what they were built with."""
    about = config()
    about["instruction_sets_supported"] = ", ".join(about["instruction_sets_supported"])
    about["threading"] = "POSIX threads" if about["threading"] else "none: the package was built without, so every function uses one thread"
    about["last_level_cache"] = f"{about['last_level_cache'] / 2**20:.0f} MiB"
    for key, value in about.items():
        print(f"{key.replace('_', ' '):28} {value}")
