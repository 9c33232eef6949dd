"""numexpr: formulas over blocks in the cache, shared out among its threads."""

import functools

import numpy as np

from .optional import optional, version

numexpr = optional("numexpr")

# Parameters are variables of the array's type: a number that is not whole would make the whole expression double.
EXPRESSIONS = {
    "sigmoid": "1 / (1 + exp(-x))",
    "tanh": "tanh(x)",
    "tanh.derivative": "1 - tanh(x) * tanh(x)",
    "relu": "where(x > 0, x, 0)",
    "relu6": "where(x > 0, where(x < 6, x, 6), 0)",
    "leaky_relu": "where(x > 0, x, p * x)",
    "prelu": "where(x > 0, x, p * x)",
    "rrelu": "where(x > 0, x, (p + q) / 2 * x)",
    "elu": "where(x > 0, x, p * expm1(x))",
    "celu": "where(x > 0, x, p * expm1(x / p))",
    "silu": "x / (1 + exp(-x))",
    "swish": "x / (1 + exp(-p * x))",
    "mish": "x * tanh(log1p(exp(x)))",
    "softplus": "log1p(exp(p * x)) / p",
    "softsign": "x / (1 + abs(x))",
    "softsign.derivative": "1 / ((1 + abs(x)) * (1 + abs(x)))",
    "softshrink": "where(x > p, x - p, where(x < -p, x + p, 0))",
    "hardshrink": "where(abs(x) > p, x, 0)",
    "tanhshrink": "x - tanh(x)",
    "threshold": "where(x > p, x, q)",
    "hardtanh": "where(x > p, where(x < q, x, q), p)",
    "hardsigmoid": "where(p * x + q > 0, where(p * x + q < 1, p * x + q, 1), 0)",
    "hardswish": "x * where(x > -3, where(x < 3, (x + 3) / 6, 1), 0)",
    "logsigmoid": "-log1p(exp(-x))",
    "squareplus": "(x + sqrt(x * x + p)) / 2",
    "relu_squared": "where(x > 0, x * x, 0)",
    "relu_squared.derivative": "where(x > 0, 2 * x, 0)",
    "glu": "a / (1 + exp(-b))",
    "swiglu": "a / (1 + exp(-a)) * b",
    "reglu": "where(a > 0, a, 0) * b",
}
TYPES = {"float32": float, "float64": np.float64}
"""In numexpr's language float means float32."""


def bind(case, setting, arrays):
    if case.name not in EXPRESSIONS or setting.dtype not in TYPES:
        return None
    *inputs, out = arrays
    parameters = [out.dtype.type(value) for value in case.parameters(setting)]
    names = "x" if len(inputs) == 1 else "ab"
    signature = [(name, TYPES[setting.dtype]) for name in (*names, *"pq"[: len(parameters)])]
    evaluate = numexpr.NumExpr(EXPRESSIONS[case.name], signature)
    return functools.partial(evaluate, *inputs, *parameters, out=out if setting.out else None, ex_uses_vml=False)


LIBRARIES = {"numexpr": bind} if numexpr else {}
NAMES = tuple(EXPRESSIONS)
VERSIONS = version("numexpr") if numexpr else {}


def set_num_threads(n):
    if numexpr:
        numexpr.set_num_threads(n)
