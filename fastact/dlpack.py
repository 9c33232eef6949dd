"""Memory that goes from one library to another by DLPack, and what its capsules say."""

from __future__ import annotations

import ctypes
import types

import numpy as np

CUDA = 2
"""DLPack's number for GPUs of CUDA."""
CODES = {"int": 0, "uint": 1, "float": 2, "bfloat": 4, "bool": 6}
"""Its numbers for kinds of dtypes."""


class DType(ctypes.Structure):
    """DLPack's DLDataType."""

    _fields_ = (("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16))


class Tensor(ctypes.Structure):
    """Its DLTensor, which a capsule begins with that names no version; strides count elements, or are NULL where there are no gaps."""

    _fields_ = (("data", ctypes.c_void_p), ("device_type", ctypes.c_int32), ("device_id", ctypes.c_int32), ("ndim", ctypes.c_int32),
                ("dtype", DType), ("shape", ctypes.POINTER(ctypes.c_int64)), ("strides", ctypes.POINTER(ctypes.c_int64)),
                ("byte_offset", ctypes.c_uint64))  # fmt: skip


_pointer_in = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(("PyCapsule_GetPointer", ctypes.pythonapi))


def tensor_in(capsule):
    """What a capsule says that nobody has taken yet; it is there as long as the capsule."""
    return Tensor.from_address(_pointer_in(capsule, b"dltensor"))


class Parcel:
    """An array without gaps for another library, which frees the memory when it needs it no more.

    ``memory`` is any object with an ``address``, free when the last reference to it is gone; ``place`` is DLPack's
    (kind of device, its number).
    """

    def __init__(self, memory, shape, dtype, place):
        self.memory, self.shape, self.dtype, self.place = memory, shape, dtype, place

    def __dlpack_device__(self):
        return self.place

    def __dlpack__(self, **options):
        """A capsule of its memory; no stream needs to wait, as all that writes to it has ended."""
        # NumPy makes it, which reads nothing: its deleter may be called on any thread, and when Python has ended, ours in
        # Python could not. NumPy has neither GPUs nor bfloat16, so both are put in afterwards.
        kind = self.dtype.rstrip("0123456789")
        typestr = f"<u{int(self.dtype.removeprefix(kind) or 8) // 8}"
        about = {"data": (self.memory.address, False), "shape": self.shape, "typestr": typestr, "version": 3}
        capsule = np.asarray(types.SimpleNamespace(memory=self.memory, __array_interface__=about)).__dlpack__()
        tensor = tensor_in(capsule)
        tensor.device_type, tensor.device_id = self.place
        tensor.dtype.code = CODES[kind]
        return capsule
