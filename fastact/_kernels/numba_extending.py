"""fastact's functions inside users' own compiled code: ``fa.gelu(v)`` and ``fa.gelu.derivative(v)``, v a number or an array.

Numba calls init() before it first compiles anything, by the entry point "numba_extensions". ``extend`` serves other compilers that
are made as Numba is, too: cuda_extending.py.
"""

from __future__ import annotations

import functools
from types import FunctionType

import numba
import numpy as np
from numba import extending, types
from numba.core.datamodel import models
from numba.core.typing import templates

INLINED = {"error_model": "numpy", "forceinline": True}


def extend(extending, templates, models, compiled, options, formula, arrays):
    """Tell a compiler what kind of thing an activation is, with the modules by which it is extended.

    ``compiled`` is its decorator of functions, with these ``options``; ``formula(function, T)`` is its function of a number of a
    NumPy type; ``arrays`` tells whether functions may return new ones.
    """
    from ..activations import _Function

    class ActivationType(types.Dispatcher):
        """The type of an activation or its derivative: that of a compiled function, which has attributes besides."""

        def __init__(self, function):
            self.function = function
            # The base class only refers to it.
            self.kept = _dispatcher(function, extending.overload, compiled, options, formula, arrays)
            super().__init__(self.kept)

    type_of = functools.cache(ActivationType)
    extending.register_model(ActivationType)(models.OpaqueModel)

    @templates.infer_getattr
    class Attributes(templates.AttributeTemplate):
        key = ActivationType

        def generic_resolve(self, kind, name):
            if name == "derivative" and hasattr(kind.function, "derivative"):
                return type_of(kind.function.derivative)

    @extending.lower_getattr_generic(ActivationType)
    def lower_attribute(context, builder, kind, value, name):
        return context.get_dummy_value()

    @extending.typeof_impl.register(_Function)
    def type_of_activation(function, context):
        return type_of(function) if function.kind in ("forward", "derivative") and len(function.inputs) == 1 else None


def _dispatcher(function, overload, compiled, options, formula, arrays):
    """A compiled function of a number or an array, and of the parameters by their names and defaults."""

    def chosen(x, *parameters):
        raise NotImplementedError

    @overload(chosen, jit_options=options)
    def choose(x, *parameters):
        array = arrays and isinstance(x, types.Array)
        number = x.dtype if array else x
        keeps = isinstance(number, types.Integer) and function.row.integers and function.kind == "forward"
        if (
            not keeps
            and number not in (types.float32, types.float64)
            and not isinstance(number, (types.Integer, types.Boolean))
        ):
            return None
        T = getattr(np, number.name) if keeps or number == types.float32 else np.float64
        of_number = _of_number(formula(function, T), T)[len(function.row.parameters)]
        return _of_array(compiled(of_number), T, x.layout) if array else of_number

    by_count = (lambda x: chosen(x)), (lambda x, p: chosen(x, p)), (lambda x, p, q: chosen(x, p, q))
    names, defaults = zip(*function.row.parameters) if function.row.parameters else ((), ())
    template = by_count[len(names)]
    named = FunctionType(template.__code__.replace(co_varnames=("x", *names)), globals(), function.__name__,
                         tuple(value for value in defaults if value is not None), template.__closure__)  # fmt: skip
    return compiled(named)


def _of_number(formula, T):
    return (
        (lambda x, *parameters: formula(T(x))),
        (lambda x, *parameters: formula(T(x), T(parameters[0]))),
        (lambda x, *parameters: formula(T(x), T(parameters[0]), T(parameters[1]))),
    )


def _of_array(one, T, layout):
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


@functools.cache
def init():
    """Tell Numba what kind of thing an activation is."""
    extend(extending, templates, models, numba.njit(**INLINED), INLINED, lambda function, T: function.formula(T), arrays=True)
