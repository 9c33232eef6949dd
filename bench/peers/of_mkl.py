"""Intel MKL's vector functions (VML) in their high-accuracy mode, one after the other as a function needs them."""

import ctypes
import functools
from importlib import metadata

from ..cases import CONTIGUOUS
from .optional import version

HIGH_ACCURACY = 2
GNU_THREADS = 3
"""PyTorch brings GNU's OpenMP; a second runtime beside it would bring threads that wait for a fifth of a second."""
PREFIX = {"float32": "vms", "float64": "vmd"}
SCALAR = {"float32": ctypes.c_float, "float64": ctypes.c_double}


def load():
    try:
        files = metadata.files("mkl") or []
        path = next(str(file.locate().resolve()) for file in files if "mkl_rt" in file.name)
        library = ctypes.CDLL(path)
    except (metadata.PackageNotFoundError, StopIteration, OSError):
        return None
    library.MKL_Set_Threading_Layer(GNU_THREADS)
    return library


mkl = load()


class Functions:
    """VML's functions of arrays of one type: ``Tanh(x, y)`` writes y."""

    def __init__(self, dtype):
        self.prefix, self.scalar = PREFIX[dtype], SCALAR[dtype]

    def __getattr__(self, name):
        function = getattr(mkl, self.prefix + name)
        function.restype = None

        def call(*arrays):
            pointers = [ctypes.c_void_p(array.ctypes.data) for array in arrays]
            function(ctypes.c_int(arrays[0].size), *pointers, ctypes.c_int64(HIGH_ACCURACY))

        return call

    def linear(self, x, scale, shift, y):
        """scale x + shift"""
        function = getattr(mkl, self.prefix + "LinearFrac")
        function.restype = None
        numbers = [self.scalar(value) for value in (scale, shift, 0, 1)]
        pointer = ctypes.c_void_p(x.ctypes.data)
        function(
            ctypes.c_int(x.size),
            pointer,
            pointer,
            *numbers,
            ctypes.c_void_p(y.ctypes.data),
            ctypes.c_int64(HIGH_ACCURACY),
        )


def sigmoid(v, x, y):
    v.linear(x, -1, 0, y)
    v.Exp(y, y)
    v.linear(y, 1, 1, y)
    v.Inv(y, y)


def gelu(v, x, y):
    v.CdfNorm(x, y)
    v.Mul(x, y, y)


def silu(v, x, y):
    sigmoid(v, x, y)
    v.Mul(x, y, y)


def softplus(v, x, y, beta):
    v.linear(x, beta, 0, y)
    v.Exp(y, y)
    v.Log1p(y, y)
    v.linear(y, 1 / beta, 0, y)


def mish(v, x, y):
    v.Exp(x, y)
    v.Log1p(y, y)
    v.Tanh(y, y)
    v.Mul(x, y, y)


def tanhshrink(v, x, y):
    v.Tanh(x, y)
    v.Sub(x, y, y)


FUNCTIONS = {
    "sigmoid": sigmoid,
    "tanh": lambda v, x, y: v.Tanh(x, y),
    "gelu": gelu,
    "silu": silu,
    "softplus": softplus,
    "mish": mish,
    "tanhshrink": tanhshrink,
}


def bind(case, setting, arrays):
    if case.name not in FUNCTIONS or setting.dtype not in PREFIX or setting.layout != CONTIGUOUS or not setting.out:
        return None
    return functools.partial(FUNCTIONS[case.name], Functions(setting.dtype), *arrays, *case.parameters(setting))


LIBRARIES = {"MKL VML": bind} if mkl else {}
NAMES = tuple(FUNCTIONS)
VERSIONS = version("mkl") if mkl else {}


def set_num_threads(n):
    if mkl:
        mkl.MKL_Set_Num_Threads(n)
