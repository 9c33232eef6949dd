"""What the tests iterate over: the table's functions, their parameters, dtypes, and points where formulas break."""

from __future__ import annotations

import functools

import numpy as np
import pytest

import fastact as fa
from fastact.table import ACTIVATIONS, HALF_ULP

try:
    from ml_dtypes import bfloat16
except ImportError:
    bfloat16 = None

ROWS = {row.name: row for row in ACTIVATIONS}
NAMES = list(ROWS)
FROM_OUTPUT = [row.name for row in ACTIVATIONS if row.from_output]
HALF_TYPES = [
    "float16",
    pytest.param(bfloat16, id="bfloat16", marks=pytest.mark.skipif(bfloat16 is None, reason="needs ml_dtypes")),
]
DTYPES = [*HALF_TYPES, "float32", "float64"]

# For every function with parameters: values beside the defaults.
PARAMETERS = {
    "leaky_relu": [(0.2,), (1.0,), (0.0,), (-0.5,)],
    "prelu": [(0.25,), (1.5,), (0.0,), (-0.1,)],
    "rrelu": [(0.1, 0.3), (0.25, 0.25)],
    "elu": [(0.3,), (2.5,)],
    "celu": [(0.3,), (2.5,)],
    "swish": [(0.1,), (1.702,), (-1.5,), (0.0,)],
    "softplus": [(0.1,), (3.0,)],
    "softshrink": [(0.1,), (2.0,), (0.0,)],
    "hardshrink": [(0.1,), (2.0,), (0.0,)],
    "threshold": [(0.5, -1.0), (-2.0, 20.0)],
    "hardtanh": [(0.0, 20.0), (-0.1, 0.3)],
    "hardsigmoid": [(0.2, 0.5), (1.0, 0.0)],
    "squareplus": [(1.0,), (0.1,)],
}


def defaults(name):
    """The table's defaults, or for a function that has none the first of its other parameters."""
    values = tuple(value for _, value in ROWS[name].parameters)
    return PARAMETERS[name][0] if None in values else values


def parameter_cases(names=NAMES):
    """(name, parameters) with the defaults and with others."""
    return [
        pytest.param(name, parameters, id="-".join([name, *(f"{p:g}" for p in parameters)]))
        for name in names
        for parameters in dict.fromkeys([defaults(name), *PARAMETERS.get(name, [])])
    ]


class Method:
    """One of the three ways to use an activation: forward, derivative, or the derivative through backward."""

    def __init__(self, name, kind):
        self.activation = getattr(fa, name)
        self.kind = kind

    def __call__(self, x, *parameters, **options):
        if self.kind == "forward":
            return self.activation(x, *parameters, **options)
        if self.kind == "derivative":
            return self.activation.derivative(x, *parameters, **options)
        return backward(self.activation, np.ones_like(x), x, *parameters, **options)


def backward(activation, grad_output, x, *parameters, **options):
    """The gradient of x alone, where prelu also returns that of its weight."""
    gradient = activation.backward(grad_output, x, *parameters, **options)
    return gradient[0] if activation is fa.prelu else gradient


KINDS = ["forward", "derivative", "backward"]


def as_used(parameters, dtype):
    """The parameters as a computation in ``dtype`` sees them: the half types compute in float32."""
    return tuple(float(np.float64(p) if np.dtype(dtype) == np.float64 else np.float32(p)) for p in parameters)


def promised_ulp(name, dtype, kind):
    """The table's promise for the function ("forward") or its derivative, in ULP of the dtype."""
    dtype = np.dtype(dtype)
    if dtype.itemsize == 2:
        return HALF_ULP
    row = ROWS[name]
    return (row.max_ulp if kind == "forward" else row.max_ulp_derivative)[dtype == np.float64]


# Kinks of the piecewise functions, zeros of the derivatives of silu, gelu, gelu_tanh, gelu_quick and mish, and the
# arguments at which exp, erfc or a sum leaves the normal range, the subnormal range or the precision.
BREAKS = [0.1, 0.3, 0.5, 1, 1.5, 2, 2.5, 3, 6, 20]
BREAKS += [1.2784645427610738, 0.7517915246935645, 0.7524614220710162, 0.7511542554412301, 1.1924312167959143]
BREAKS += [8.317766, 9.010913, 13.1, 14.17, 16.635532, 17.32868, 87.33654, 88.72284, 103.27893, 103.97208]
BREAKS += [18.714973875118524, 19.06154746539849, 36.7368005696771, 37.51, 38.47, 708.3964185322641, 709.782712893384]
BREAKS += [744.4400719213812, 745.1332191019412]


def neighbours(values, dtype, reach):
    """Every value with the ``reach`` floating-point numbers on either side of it."""
    values = np.asarray(values, dtype)
    bits = values.view(f"i{values.itemsize}")
    return (bits[:, None] + np.arange(-reach, reach + 1)).astype(bits.dtype).view(dtype).ravel()


@functools.cache
def breaking_points(dtype, count, seed=1):
    """Both signs of zero, the range's ends, the breaks and their neighbours, and random points of every size."""
    info, rng = np.finfo(dtype), np.random.default_rng(seed)
    ends = [info.smallest_subnormal, info.tiny, info.eps, info.eps / 2, info.max, info.max / 2, np.sqrt(info.max)]
    widest = np.ceil(-np.log(float(info.smallest_subnormal))) + 10
    positive = np.concatenate(
        [
            [0],
            neighbours(ends[1:-3], dtype, 2),
            [ends[0], *ends[-3:]],
            neighbours(BREAKS, dtype, 3),
            np.exp2(rng.uniform(info.minexp - info.nmant, info.maxexp, count // 10)),
            np.exp2(rng.uniform(-info.nmant, 5, count // 4)),
            rng.uniform(0, 1, count // 10),
            rng.uniform(0, 6, count // 8),
            rng.uniform(0, 40, count // 4),
            rng.uniform(0, widest, count // 4),
            rng.uniform(0, 10 * widest, count // 8),  # for parameters of 0.1
        ]
    ).astype(dtype)
    points = np.concatenate([positive, -positive])
    points.flags.writeable = False
    return points


@functools.cache
def float32_sample(count=300_000):
    """Finite float32 numbers: evenly through all bit patterns, and as many again where no function is constant."""
    rng = np.random.default_rng(2)
    bits = np.arange(rng.integers(2**32 // count), 2**32, 2**32 // count, dtype=np.uint64).astype(np.uint32)
    everywhere = bits.view(np.float32)
    points = np.concatenate(
        [
            everywhere[np.isfinite(everywhere)],
            rng.uniform(-110, 110, count // 2).astype("f"),
            rng.uniform(-15, 15, count // 2).astype("f"),
            breaking_points("float32", 2000),
        ]
    )
    points.flags.writeable = False
    return points


def every_half(dtype):
    """All 65,536 values of a half type but the NaN and the infinities."""
    values = np.arange(2**16, dtype=np.uint16).view(dtype)
    return values[np.isfinite(values.astype(np.float32))]


def same_bits(a, b):
    """Equal to the bit, any NaN equal to any other."""
    a, b = np.asarray(a), np.asarray(b)
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    integers = f"u{a.dtype.itemsize}"
    a, b = np.ascontiguousarray(a), np.ascontiguousarray(b)
    return bool(np.all((a.view(integers) == b.view(integers)) | ((a != a) & (b != b))))
