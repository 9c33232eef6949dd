"""Real ufuncs from the addresses of loops, where no compiled module can make them: NumPy's C API through ctypes."""

from __future__ import annotations

import ctypes

import numpy as np

_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_pointer.restype, _pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
# The table that NumPy's headers use too; its order is part of the binary interface.
_table = ctypes.cast(_pointer(np._core._multiarray_umath._UFUNC_API, None), ctypes.POINTER(ctypes.c_void_p))
_int, _memory, _text = ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p
_from_loops = ctypes.PYFUNCTYPE(ctypes.py_object, _memory, _memory, _memory, _int, _int, _int, _int, _text, _text, _int,
                                _text)(_table[31])  # fmt: skip
_register = ctypes.PYFUNCTYPE(_int, ctypes.py_object, _int, _memory, _memory, _memory)(_table[2])

_kept = []  # NumPy holds on to pointers for good


def make_ufunc(name, doc, loop, types, data, outputs=1, signature=None):
    """A ufunc, or with a signature a gufunc, whose loops are one function.

    ``types`` lists the type numbers of all operands for each kind of them, ``data`` the address that the function gets.
    """
    count, operands = len(types), len(types[0])
    arrays = (np.full(count, loop, np.uintp), np.array(data, np.uintp), np.array(types, np.int8).ravel())
    texts = name.encode(), doc.encode(), signature and signature.encode()
    _kept.append((arrays, texts))
    functions, data, codes = (array.ctypes.data for array in arrays)
    none_identity = -1
    return _from_loops(functions, data, codes, count, operands - outputs, outputs, none_identity, texts[0], texts[1], 0, texts[2])


def register_loop(ufunc, dtype, loop, types, data):
    """Give a ufunc a loop for a dtype that NumPy does not have itself."""
    codes = np.array(types, np.intc)
    _kept.append(codes)
    if _register(ufunc, dtype.num, loop, codes.ctypes.data, data) < 0:
        raise TypeError(f"NumPy refuses loops of {dtype} for {ufunc.__name__}")
