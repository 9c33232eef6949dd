"""Which kernels run: those compiled with the package, or those that Numba compiles when they are first used."""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import os
import sys
import threading

import numpy as np

from . import devices, threads

DEFAULT_LAST_LEVEL_CACHE = 32 << 20
"""Bytes, where the operating system does not tell."""

missing = ""
"""Why there are no compiled kernels, if there are none."""

try:
    from ._kernels import dispatch, memory, operands
    from ._kernels import threads as _threads
except ImportError as _problem:
    dispatch = None
    missing = str(_problem)


def _load():
    supported = dispatch.supported_instruction_sets()
    wanted = os.environ.get("FASTACT_ISA")
    if wanted and wanted not in supported:
        raise ImportError(f"FASTACT_ISA={wanted!r} is not to be had here; this CPU runs {', '.join(supported)}")
    name = wanted or supported[0]
    return name, importlib.import_module(f"._kernels.cython_{name}", __package__).kernels


def _last_level_cache() -> int:
    try:  # glibc's sysconf has been seen to answer ten times as much
        with open("/sys/devices/system/cpu/cpu0/cache/index3/size") as file:
            return int(file.read().strip().removesuffix("K")) << 10
    except (OSError, ValueError):
        return DEFAULT_LAST_LEVEL_CACHE


def _memory_to_keep() -> int:
    """Bytes: what FASTACT_KEEP_MIB says, else 1/16 of the machine's memory, at most 1 GiB."""
    wanted = os.environ.get("FASTACT_KEEP_MIB")
    if wanted:
        if not wanted.isdecimal():
            raise ImportError(f"FASTACT_KEEP_MIB must be a number of MiB, not {wanted!r}")
        return int(wanted) << 20
    try:
        return min(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 16, 1 << 30)
    except (AttributeError, OSError, ValueError):
        return 0


last_level_cache = _last_level_cache()
instruction_set, kernels = None, None
if dispatch is not None:
    instruction_set, kernels = _load()
    dispatch.bind(kernels)
    operands.bind(kernels, last_level_cache)
    memory.keep_memory(_memory_to_keep())
    empty = memory.empty
    threads.govern("cython", _threads.set_limit, threaded=bool(_threads.can_be_shared()))
else:

    def empty(array):
        """A new C-contiguous array of that shape and dtype."""
        return np.empty(array.shape, array.dtype)


# --- The choice -------------------------------------------------------------------------------------------------------


def available() -> list[str]:
    """The backends that can run here, best first."""
    compiled = ["cython"] if dispatch is not None else []
    has_numba = importlib.util.find_spec("._kernels.numba_cpu", __package__) and importlib.util.find_spec("numba")
    return compiled + (["numba"] if has_numba else [])


def get_backend() -> str:
    """The backend that runs: "cython" or "numba"."""
    return active


def set_backend(name: str) -> None:
    """Choose the kernels, for all threads.

    Parameters
    ----------
    name : {"auto", "cython", "numba"}
        "cython" are those compiled with the package; "numba" those that Numba compiles when they are first used, one
        function and dtype at a time; "auto" the former if there are any. At the start it is ``FASTACT_BACKEND``, or else
        "auto".

    Raises
    ------
    ValueError
        If there is no such backend.
    ImportError
        If it cannot run here, because the package was built without it or Numba is not installed.
    """
    global active
    if name not in ("auto", "cython", "numba"):
        raise ValueError(f"the backend must be 'auto', 'cython' or 'numba', not {name!r}")
    there = available()
    if not there:
        raise ImportError(f"nothing is compiled ({missing}), and there is no Numba to do it: pip install numba, or install this "
                          f"package with a C compiler")
    name = there[0] if name == "auto" else name
    if name not in there:
        why = f": {missing}" if name == "cython" else ": Numba is not installed"
        raise ImportError(f"the backend {name!r} is not to be had here, only {' and '.join(there)}{why}")
    with _choosing:
        active = name
        threads.serve(name)
        if dispatch is not None:
            dispatch.open_fast_lanes(name == "cython")


class _Block:
    """A ``with`` block, and the backend that ran before it."""

    def __init__(self, before):
        self.before = before


@contextlib.contextmanager
def use_backend(name: str):
    """Choose the kernels, as `set_backend` does for all threads, for the length of a ``with`` block.

    Of blocks that overlap, in several threads or tasks, the last to begin decides; when all have ended, the backend is the one
    before the first.
    """
    with _choosing:
        block = _Block(active)
        set_backend(name)
        _blocks.append(block)
    try:
        yield
    finally:
        with _choosing:
            place = _blocks.index(block)
            if block is _blocks[-1]:
                set_backend(block.before)
            else:
                _blocks[place + 1].before = block.before
            del _blocks[place]


_choosing = threading.RLock()
_blocks: list[_Block] = []
"""Those that have begun and not ended, in that order."""


def _start():
    wanted = os.environ.get("FASTACT_BACKEND") or "auto"
    try:
        set_backend(wanted)
    except ValueError as error:
        raise ImportError(f"FASTACT_BACKEND={wanted!r}: {error}") from None


active = ""
_start()


# --- dtypes -----------------------------------------------------------------------------------------------------------

NARROW_INTEGERS = [np.dtype(code) for code in "?bBhH"]
"""Of which np.exp makes float16 and float32; a Python float beside them would make them float64."""


def has_kernels(dtype):
    """Whether arrays of it are computed without a conversion of ours."""
    return dtype.char in "efd" or dtype.name == "bfloat16"


def computed_in(dtype):
    """The dtype in which kernels compute for arrays of that; TypeError if there are none."""
    if not has_kernels(dtype):
        raise TypeError(f"there are no kernels for {dtype}, but for real numbers of 16, 32 and 64 bits")
    return np.float64 if dtype.char == "d" else np.float32


def check_real(array, name):
    """Raise TypeError unless an array holds real numbers; NumPy would take some other things for them, when it casts."""
    if array.dtype.kind in "cOSUTMm" or array.dtype.type is np.void:
        raise TypeError(f"{name} must be real numbers, not {array.dtype}")


def unmasked(array):
    """A masked array without its mask; TypeError if anything is masked, of which sums would know nothing."""
    if "numpy.ma" not in sys.modules or not isinstance(array, np.ma.MaskedArray):
        return array
    if np.ma.is_masked(array):
        raise TypeError("masked elements would count; give an array without a mask, and what is to count by where=, weight= or ignore_index=")
    return array.data


def single(out):
    """The array where out is a tuple of one, as NumPy's functions take it too."""
    if not isinstance(out, tuple):
        return out
    if len(out) != 1:
        raise ValueError(f"there is one result, and out has {len(out)} arrays")
    return out[0]


_bfloat16 = None
_registers = []


def learn_bfloat16() -> None:
    """Give the ufuncs their loops for bfloat16 once ml_dtypes has been imported, by whoever made an array of it."""
    global _bfloat16
    if _bfloat16 is None and "ml_dtypes" in sys.modules:
        _bfloat16 = np.dtype(sys.modules["ml_dtypes"].bfloat16)
        for register in _registers:
            register(_bfloat16)


def _teach_bfloat16(register):
    """Have a module learn of it, now if it is known, or else as soon as it is."""
    _registers.append(register)
    if _bfloat16 is not None:
        register(_bfloat16)


if dispatch is not None:
    _teach_bfloat16(dispatch.register_bfloat16)
    _teach_bfloat16(operands.register_bfloat16)


# --- Modules of kernels ------------------------------------------------------------------------------------------------


@functools.cache
def numba_kernels(subject="cpu"):
    """The module of Numba's kernels for a subject, made when it is first needed."""
    from ._kernels import numba_cpu, numba_threads

    if subject == "cpu":
        numba_cpu.bind(last_level_cache)
        threads.govern("numba", numba_threads.set_limit, threaded=True)
        _teach_bfloat16(numba_cpu.register_bfloat16)
        return numba_cpu
    numba_kernels()
    return importlib.import_module(f"._kernels.numba_{subject}", __package__)


@functools.cache
def compiled_kernels(subject):
    """The compiled module for a subject, with its kernels; None where nothing is compiled."""
    if dispatch is None:
        return None
    module = importlib.import_module(f"._kernels.{subject}", __package__)
    if hasattr(module, "bind"):
        module.bind(kernels)
    if hasattr(module, "register_bfloat16"):
        _teach_bfloat16(module.register_bfloat16)
    return module


def warmup(*functions, dtypes=("float32", "float64")) -> None:
    """Compile kernels now that would else be compiled when they are first used; nothing for the backend "cython".

    Parameters
    ----------
    *functions
        Names, or functions such as ``fa.gelu``, which brings its derivative and backward, and ``fa.gelu.derivative``, which
        brings itself. Without any, all that there are.
    dtypes : dtype or sequence of dtypes, default float32 and float64
        The half types compute in float32.

    Raises
    ------
    ValueError
        If there is no function of a name.
    TypeError
        If something else than a function of this package is given, or a dtype is not floating-point.
    """
    package = importlib.import_module(__package__)
    dtypes = [np.dtype(dtype) for dtype in ([dtypes] if isinstance(dtypes, (str, type, np.dtype)) else dtypes)]
    for dtype in dtypes:
        if dtype.name not in ("float16", "bfloat16", "float32", "float64"):
            raise TypeError(f"there are no kernels for {dtype}")
    everything = [name for name in package.__all__ if hasattr(getattr(package, name), "compile")]
    for function in functions or everything:
        if isinstance(function, str):
            if function not in everything:
                raise ValueError(f"there is no function {function!r}; there are {', '.join(everything)}")
            function = getattr(package, function)
        if not hasattr(function, "compile"):
            raise TypeError(f"{function!r} is not a function of {__package__}")
        if active == "numba":
            function.compile(dtypes)


# --- What runs --------------------------------------------------------------------------------------------------------


def config() -> dict[str, object]:
    """What runs: backend, instruction set, threads, versions."""
    from . import __version__

    about = {__package__: __version__, "numpy": np.__version__, "backend": active}
    if dispatch is None:
        about["no_compiled_kernels"] = missing
    if active == "numba":
        import llvmlite.binding
        import numba

        about["numba"] = numba.__version__
        about["instruction_set"] = numba.config.CPU_NAME or llvmlite.binding.get_host_cpu_name()
        about["instruction_sets_supported"] = [about["instruction_set"]]
        threading = "fastact's own, running Numba's code"
    else:
        about["instruction_set"] = instruction_set
        about["instruction_sets_supported"] = dispatch.supported_instruction_sets()
        threading = "POSIX threads" if _threads.can_be_shared() else ""
    return {**about, "threads": threads.get_num_threads(), "threading": threading, "last_level_cache": last_level_cache,
            "cuda": devices.about()}  # fmt: skip


def show_config() -> None:
    """Print which kernels run, on how many threads, and what they were built with."""
    about = config()
    about["instruction_sets_supported"] = ", ".join(about["instruction_sets_supported"])
    about["threading"] = about["threading"] or "none: the package was built without, so every function uses one thread"
    about["last_level_cache"] = f"{about['last_level_cache'] / 2**20:.0f} MiB"
    for key, value in about.items():
        print(f"{key.replace('_', ' '):28} {value}")
