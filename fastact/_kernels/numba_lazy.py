"""Kernels that are compiled when a loop first needs them."""

from __future__ import annotations

import ctypes
import threading

from .numba_intrinsics import call, call_for_int, keep, routine, stack, word

_every: list[Lazy] = []
_compiling = threading.RLock()
_failures = []
"""The classes of what has been raised: a thread that is to raise one does not count as its owner."""


class Lazy:
    """A place among the words of a function, which holds the address of a kernel once ``make()`` has made that.

    A loop that finds 0 there calls need_kernel() with ``number``, which the words tell too.
    """

    def __init__(self, words, place, make):
        self.words, self.place, self.make = words, place // 8, make
        self.number = len(_every)
        _every.append(self)

    @property
    def ready(self):
        return bool(self.words[self.place])

    def compile(self):
        with _compiling:
            if not self.ready:
                self.kernel = self.make()
                self.words[self.place] = self.kernel.address


@ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.POINTER(ctypes.c_int64))
def _compile(number, failure):
    """Called by a loop, without the GIL until here. What is raised here is lost; the class and thread of it go to failure."""
    while True:
        try:
            if number < 0:
                raise MemoryError
            _every[number].compile()
            return
        except BaseException as problem:
            # A class, for that is all that another thread may raise in this one.
            name, text = type(problem).__name__, str(problem)
            _failures.append(
                type(name, (type(problem),), {"__str__": lambda self: text, "__init__": lambda self: None})
            )
            failure[0], failure[1] = id(_failures[-1]), threading.get_ident()
            if not isinstance(problem, KeyboardInterrupt):
                return


def _address(function):
    return ctypes.cast(function, ctypes.c_void_p).value


COMPILE = _address(_compile)
ENSURE, RELEASE, RAISE = (_address(getattr(ctypes.pythonapi, name))
                          for name in ("PyGILState_Ensure", "PyGILState_Release", "PyThreadState_SetAsyncExc"))  # fmt: skip
FAILURE_BYTES = 16


@routine
def need_kernel(number):
    """Have a kernel compiled. What goes wrong is raised where the ufunc was called, as soon as that returns.

    Ctrl-C waits until there is a kernel. A number of -1 raises MemoryError.
    """
    failure = stack(FAILURE_BYTES)
    keep(failure, 0, 0)
    call(COMPILE, (number, failure))
    if word(failure, 0):
        state = call_for_int(ENSURE, ())
        call(RAISE, (word(failure, 8), word(failure, 0)))
        call(RELEASE, (state,))


@routine
def kernel_at(place, number):
    """The address that a place has, where the kernel of that number is compiled if there is none; 0 if that fails."""
    if word(place, 0) == 0:
        need_kernel(number)
    return word(place, 0)
