"""Kernels that are compiled when a loop first needs them."""

from __future__ import annotations

import _thread
import ctypes
import threading

_every: list[Lazy] = []
_compiling = threading.RLock()


class Lazy:
    """A place among the words of a function, which holds the address of a kernel once ``make()`` has made that.

    A loop that finds 0 there calls the function at COMPILE with ``number``, which the words tell too.
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


@ctypes.CFUNCTYPE(None, ctypes.c_int64)
def _compile(number):
    """Called by a loop, without the GIL until here, that cannot go on; a number of -1 says that there is no memory."""
    interrupted = False
    while True:
        try:
            if number < 0:
                raise MemoryError
            _every[number].compile()
            break
        except KeyboardInterrupt:
            interrupted = True
        except BaseException as problem:  # raised wherever the thread is next; there is no result
            raise_in = ctypes.pythonapi.PyThreadState_SetAsyncExc
            raise_in(ctypes.c_ulong(threading.get_ident()), ctypes.py_object(type(problem)))
            return
    if interrupted:  # raised now it would end here, and be lost
        threading.Timer(0.02, _thread.interrupt_main).start()


COMPILE = ctypes.cast(_compile, ctypes.c_void_p).value
