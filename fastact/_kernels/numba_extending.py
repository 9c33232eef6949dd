"""fastact's functions inside users' own compiled code: ``fa.gelu(v)`` and ``fa.gelu.derivative(v)``, v a number or an array.

Numba calls init() before it first compiles anything, by the entry point "numba_extensions".
"""

from __future__ import annotations

import functools
from types import FunctionType

import numba
import numpy as np
from numba import types
from numba.core.datamodel.models import OpaqueModel
from numba.core.typing.templates import AttributeTemplate, infer_getattr
from numba.extending import lower_getattr_generic, overload, register_model, typeof_impl

INLINED = {"error_model": "numpy", "forceinline": True}


class ActivationType(types.Dispatcher):
    """The type of an activation or its derivative: that of a compiled function, which has attributes besides."""

    def __init__(self, function):
        self.function = function
        self.kept = _dispatcher(function)  # the base class only refers to it
        super().__init__(self.kept)


register_model(ActivationType)(OpaqueModel)


@infer_getattr
class _Attributes(AttributeTemplate):
    key = ActivationType

    def generic_resolve(self, kind, name):
        if name == "derivative" and hasattr(kind.function, "derivative"):
            return type_of(kind.function.derivative)


@lower_getattr_generic(ActivationType)
def _lower_attribute(context, builder, kind, value, name):
    return context.get_dummy_value()


@functools.cache
def type_of(function):
    return ActivationType(function)


def _dispatcher(function):
    """A compiled function of a number or an array, and of the parameters by their names and defaults."""

    def chosen(x, *parameters):
        raise NotImplementedError

    @overload(chosen, jit_options=INLINED)
    def choose(x, *parameters):
        number = x.dtype if isinstance(x, types.Array) else x
        keeps = isinstance(number, types.Integer) and function.row.integers and function.kind == "forward"
        if (
            not keeps
            and number not in (types.float32, types.float64)
            and not isinstance(number, (types.Integer, types.Boolean))
        ):
            return None
        T = getattr(np, number.name) if keeps or number == types.float32 else np.float64
        formula = function.formula(T)
        return (_of_array(formula, T, x.layout) if isinstance(x, types.Array) else _of_number(formula, T))[
            len(function.row.parameters)
        ]

    by_count = (lambda x: chosen(x)), (lambda x, p: chosen(x, p)), (lambda x, p, q: chosen(x, p, q))
    names, defaults = zip(*function.row.parameters) if function.row.parameters else ((), ())
    template = by_count[len(names)]
    named = FunctionType(template.__code__.replace(co_varnames=("x", *names)), globals(), function.__name__,
                         () if None in defaults else defaults, template.__closure__)  # fmt: skip
    return numba.njit(**INLINED)(named)


def _of_number(formula, T):
    return (
        (lambda x, *parameters: formula(T(x))),
        (lambda x, *parameters: formula(T(x), T(parameters[0]))),
        (lambda x, *parameters: formula(T(x), T(parameters[0]), T(parameters[1]))),
    )


def _of_array(formula, T, layout):
    def elements(count):
        one = numba.njit(**INLINED)(_of_number(formula, T)[count])

        def contiguous(x, *parameters):
            y = np.empty(x.shape, T)
            source, target = x.ravel(), y.ravel()
            for i in range(target.size):
                target[i] = one(source[i], *parameters)
            return y

        def strided(x, *parameters):
            y = np.empty(x.shape, T)
            target = y.ravel()
            for i, value in enumerate(x.flat):
                target[i] = one(value, *parameters)
            return y

        return contiguous if layout == "C" else strided

    return [elements(count) for count in range(3)]


@functools.cache
def init():
    """Tell Numba what kind of thing an activation is."""
    from ..activations import _Function

    @typeof_impl.register(_Function)
    def type_of_activation(function, context):
        return type_of(function) if function.kind in ("forward", "derivative") and len(function.inputs) == 1 else None
