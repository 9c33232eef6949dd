"""fastact itself."""

import functools

import fastact as fa

from .optional import optional

nn = optional("fastact.nn")


def bind(case, setting, arrays):
    *inputs, out = arrays
    if case.kind == "optimizer":
        return bind_optimizer(case, *inputs)
    function = getattr(fa, case.function)
    if case.kind == "gated":
        return bind_gated(case, setting, function, arrays)
    if case.function == "linear_softmax_cross_entropy":
        return functools.partial(function.value_and_grad, *inputs, grad_out=(out, None, None))
    if case.kind == "elementwise loss":
        return functools.partial(function.value_and_grad, *inputs, reduction="sum", grad_out=out)
    if case.kind == "loss":
        return functools.partial(function.value_and_grad, *inputs, grad_out=out)
    keywords = {"out": out} if setting.out else {}
    if case.kind == "rows":
        keywords["axis"] = setting.axis
    if case.name.endswith(".backward"):
        grad_output, x, output = inputs
        if case.kind == "rows" or function.backward_needs == "output":
            return functools.partial(function.backward, grad_output, output=output, **keywords)
        return functools.partial(function.backward, grad_output, x, *case.parameters(setting), **keywords)
    method = function.derivative if case.kind == "derivative" else function
    parameters = () if case.kind == "rows" else case.parameters(setting)
    return functools.partial(method, *inputs, *parameters, **keywords)


def bind_gated(case, setting, function, arrays):
    """Forward alone, or with both gradients. glu itself takes its two arrays in one, its ufuncs do not."""
    forward, backward = (
        (function.ufunc, function.backward.ufunc) if function is fa.glu else (function, function.backward)
    )
    if not case.name.endswith(".backward"):
        *inputs, out = arrays
        return functools.partial(forward, *inputs, **({"out": out} if setting.out else {}))
    grad_output, a, b, y, *gradients = arrays

    def both():
        forward(a, b, out=y)
        backward(grad_output, a, b, out=tuple(gradients))

    return both


def bind_optimizer(case, gradient, start):
    optimizer, parameters = getattr(nn, case.name)(), start.copy()
    state = optimizer.start(parameters)

    def step():
        optimizer.step(parameters, gradient, state)
        return parameters

    return step


LIBRARIES = {"fastact": bind}
NAMES = ()
VERSIONS = {"fastact": fa.__version__}
set_num_threads = fa.set_num_threads
