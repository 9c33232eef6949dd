"""The losses that take a number for a number, made from the table."""

from __future__ import annotations

import functools
import inspect
import math

import numpy as np

from . import backends
from .devices import any_on_gpu, gpu_functions, no_stream
from .losses import as_input, check_reduction, output_like, plain, register, rounded, same_elements
from .table import ELEMENTWISE_LOSSES, LossRow

NANOSECONDS = {True: 0.2, False: 1.5}
"""What value and gradient of an element of a cheap loss cost, and of another: only the order matters."""


# --- What the parameters of a loss mean to its kernels: (which of the row's kernels, the numbers that it takes) ----------


def _positive(name, value, *, or_zero=False):
    value = float(value)
    if not (value > 0 or or_zero and value == 0):
        raise ValueError(f"{name} must be {'0 or more' if or_zero else 'positive'}, not {value}")
    return value


def _sigmoid_focal(alpha, gamma):
    gamma = _positive("gamma", gamma, or_zero=True)
    if gamma == math.inf:
        raise ValueError("gamma must be finite")
    if alpha is None:
        return 0, (1.0, 1.0, gamma)
    alpha = float(alpha)
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha must be from 0 to 1 or None, not {alpha}")
    return 0, (alpha, 1 - alpha, gamma)


NUMBERS = {
    "huber": lambda delta: (0, (_positive("delta", delta),)),
    "smooth_l1": lambda beta: (int(beta == 1), (_positive("beta", beta, or_zero=True),)),
    "sigmoid_focal": _sigmoid_focal,
    "poisson_nll": lambda log_input, full, eps: (
        2 * (not log_input) + bool(full), (_positive("eps", eps, or_zero=True),)),
    "gaussian_nll": lambda full, eps: (
        0, (0.5 * math.log(2 * math.pi) if full else 0.0, _positive("eps", eps, or_zero=True))),
}  # fmt: skip


# --- Public functions ----------------------------------------------------------------------------------------------------

ABOUT = {
    "pos_weight": "pos_weight : array_like, optional\n    How much the target's share of 1 counts; broadcast to logits. Default 1.",
    "var": "var : array_like\n    Variance, not negative; broadcast to input.",
    "delta": "delta : float, default 1\n    Where the loss turns from squared to absolute; positive.",
    "beta": "beta : float, default 1\n    Where the loss turns from squared to absolute; 0 or more.",
    "alpha": "alpha : float, optional\n    How much class 1 counts, from 0 to 1; class 0 then counts 1 - alpha. Default: both 1.",
    "gamma": "gamma : float, default 2\n    How fast the loss of what is predicted rightly falls; 0 or more.",
    "log_input": "log_input : bool, default True\n    Whether input is the logarithm of the rate, or the rate itself.",
    "full": "full : bool, default False\n    Whether to add {constant}.",
    "eps": "eps : float\n    {eps}",
}
CONSTANTS = {
    "poisson_nll": "Stirling's approximation of log(target!) where target > 1",
    "gaussian_nll": "log(2 pi) / 2",
}
EPS = {
    "poisson_nll": "Added to a rate before the logarithm; default 1e-8.",
    "gaussian_nll": "The least variance; default 1e-6. A lesser one counts as this, also in the gradients.",
}


def _doc(row: LossRow, with_grad: bool) -> str:
    """A numpydoc docstring for a loss or its value_and_grad."""
    x, target, *third = row.inputs
    title = f"{row.name}({', '.join(row.inputs)})"
    formula, gradient = ("    " + text.replace("; ", ";\n    ") for text in (row.formula, row.gradient))
    options = "\n".join(ABOUT[name].format(constant=CONSTANTS.get(row.name), eps=EPS.get(row.name))
                        for name in [*third, *(name for name, _ in row.parameters)])  # fmt: skip
    if with_grad:
        summary = f"The loss {title} and its gradient with respect to {x}, in one pass over memory."
        formula += f"\n\nand the gradient of an element\n\n{gradient}"
        grad = f"grad_out : ndarray, optional\n    Receives the gradient; may be {x} itself."
        returns = "value : scalar or ndarray\ngrad : ndarray\n    Of the mean or of the sum; for \"none\" of the sum."
        if row.third_gradient:
            grad += (f"\n{third[0]}_grad : bool or ndarray, default False\n    Whether to compute the gradient of {third[0]} too; "
                     f"an array of the shape of {third[0]} receives it.")  # fmt: skip
            returns += f"\n    With ``{third[0]}_grad`` a pair of arrays, for {x} and for {third[0]}."
    else:
        summary, grad, returns = row.summary, "", "scalar or ndarray"
    single, double = row.max_ulp_gradient if with_grad else row.max_ulp
    what = "Gradients" if with_grad else "The losses"
    source = f"\n\nReferences\n----------\n{row.source}" if row.source else ""
    return "\n".join(filter(None, [f"{summary}\n\nOf every element\n\n{formula}\n", f"""Parameters
----------
{x} : array_like
    float16, bfloat16 (ml_dtypes), float32 or float64, computed in that type, half types in float32. Integers are
    converted as np.exp converts them.
{target} : array_like
    Of the same shape, or a single number; of any real dtype. {row.target}""", options, f"""weight : array_like, optional
    How much each element counts; broadcast to {x}. An element of weight 0 is 0, even where its loss is infinite.
reduction : {{"mean", "sum", "none"}}
    The mean is over all elements, whatever their weights.
out : ndarray, optional
    Receives the losses, for ``reduction="none"`` only; may be {x} itself.""", grad, f"""stream : optional
    Where arrays on a GPU are worked on, instead of their library's current stream: a stream or its handle.

Returns
-------
{returns}
    Of the dtype of {x}. The mean of no elements is 0.

Raises
------
ValueError
    If shapes do not fit, which are never broadcast silently, or an option is not one of the above.
TypeError
    For complex, object or string input, or an array for a result that is of another dtype.

Notes
-----
{what} are within {single:g} ULP in float32 and {double:g} in float64, next to a zero in units of the largest term. Sums of
float32 and half types run in float64, those of float64 are compensated, in an order that depends on the shape alone. NaN
gives NaN; no floating-point warning.{source}"""]))  # fmt: skip


def _signature(row: LossRow, with_grad: bool) -> inspect.Signature:
    parameter = inspect.Parameter
    x, target, *third = row.inputs
    inputs = [x, target, *(third if row.third_gradient else [])]
    options = {} if row.third_gradient else dict.fromkeys(third)
    options |= {**dict(row.parameters), "weight": None, "reduction": "mean", "out": None}
    if with_grad:
        options |= {"grad_out": None} | ({f"{third[0]}_grad": False} if row.third_gradient else {})
    options["stream"] = None
    return inspect.Signature([parameter(name, parameter.POSITIONAL_OR_KEYWORD) for name in inputs]
                             + [parameter(name, parameter.KEYWORD_ONLY, default=default) for name, default in options.items()])  # fmt: skip


class _Loops:
    """The loops of one of a row's kernels: those of either backend, those of Numba when they are first asked for."""

    def __init__(self, row: LossRow, kernel: str):
        self.arguments = kernel, len(row.inputs) == 3, row.numbers, NANOSECONDS[row.cheap]
        if backends.kernels is not None:
            self.compiled = backends.compiled_kernels("elementwise_losses").ElementwiseLoss(kernel, backends.kernels, NANOSECONDS[row.cheap])

    @functools.cached_property
    def numba(self):
        return backends.numba_kernels("elementwise_losses").ElementwiseLoss(*self.arguments)

    def total(self, *arguments):
        return (self.numba if backends.active == "numba" else self.compiled).total(*arguments)


def _make(row: LossRow):
    """The public function of a row, with its value_and_grad."""
    loops = [_Loops(row, kernel) for kernel in row.kernels]

    def entry(name, with_grad):
        signature = _signature(row, with_grad)
        defaults = {key: p.default for key, p in signature.parameters.items() if p.default is not p.empty}
        required = [key for key in signature.parameters if key not in defaults]

        def function(*args, **kwargs):
            given = {**defaults, **dict(zip(required, args)), **kwargs}
            if (len(given) > len(signature.parameters) or len(args) > len(required) or not given.keys() >= set(required)
                    or not kwargs.keys().isdisjoint(required[: len(args)])):  # fmt: skip
                signature.bind(*args, **kwargs)  # which says what is wrong
            return _run(row, loops, given, with_grad)

        function.__signature__ = signature
        function.__doc__ = _doc(row, with_grad)
        function.__module__ = __name__
        function.__name__ = name.rpartition(".")[2]
        function.__qualname__ = name
        return function

    loss = entry(row.name, False)
    loss.compile = lambda dtypes: [loop.numba.compile(dtype) for loop in loops for dtype in dtypes]
    loss.value_and_grad = entry(f"{row.name}.value_and_grad", True)
    return loss


# --- A call --------------------------------------------------------------------------------------------------------------


def _source(name, value, shape):
    """An array that the loops read, broadcast unless it is a single number."""
    array = plain(value)
    backends.check_real(array, name)
    if array.dtype.char == "g":
        with np.errstate(all="ignore"):  # what is too large becomes inf, as it should
            array = array.astype(np.float64)
    if array.ndim == 0 or array.shape == shape:
        return array
    try:
        return np.broadcast_to(array, shape)
    except ValueError:
        raise ValueError(f"{name} has shape {array.shape}, which does not broadcast to {shape}") from None


def _run(row, loops, given, with_grad):
    """The value, with ``with_grad`` also the gradient."""
    reduction = given["reduction"]
    check_reduction(reduction)
    which, numbers = 0, ()
    if row.parameters:
        which, numbers = NUMBERS[row.name](**{name: given[name] for name, _ in row.parameters})
    if any_on_gpu((given[row.inputs[0]], given["target"])):
        return gpu_functions().elementwise_loss(row, row.kernels[which], numbers, given, with_grad)
    no_stream(given["stream"])
    x = as_input(given[row.inputs[0]])
    backends.computed_in(x.dtype)
    if np.ndim(given["target"]) > 0 and np.shape(given["target"]) != x.shape:
        raise ValueError(f"target has shape {np.shape(given['target'])}, {row.inputs[0]} has {x.shape}; "
                         "they must be equal, or the target a single number")  # fmt: skip
    third, weight = None, None
    if len(row.inputs) == 3:
        third = given[row.inputs[2]]
        third = _source(row.inputs[2], 1.0 if third is None else third, x.shape)
    if given["weight"] is not None:
        weight = _source("weight", given["weight"], x.shape)
    sources = [x, _source("target", given["target"], x.shape), third, weight]

    if reduction != "none" and given["out"] is not None:
        raise ValueError("out receives the losses of the elements, which only reduction='none' returns")
    values = output_like(x, given["out"], "out") if reduction == "none" else None
    grad = output_like(x, given["grad_out"], "grad_out") if with_grad else None
    third_grad = finish = None
    if with_grad and row.third_gradient and given[f"{row.inputs[2]}_grad"] is not False:
        third_grad, finish = _third_gradient(row.inputs[2], given[row.inputs[2]], given[f"{row.inputs[2]}_grad"], x)

    results = [values, grad, third_grad]
    written = [_apart(result, sources) for result in results]
    for k in range(3):
        for other in results[:k]:
            if other is not None and results[k] is not None and np.may_share_memory(other, results[k]):
                raise ValueError("the arrays for the results share memory")
    total = loops[which].total(sources, written, numbers, reduction == "mean")
    for result, array in zip(results, written):
        if array is not result:
            result[...] = array
    if values is None:
        value = rounded(total, x.dtype)
    else:
        value = values if given["out"] is not None else values[()]
    if not with_grad:
        return value
    return value, grad if third_grad is None else (grad, finish())


def _apart(result, sources):
    """The result itself if the loops may write it while they read the sources, else another array."""
    if result is None:
        return None
    for k, source in enumerate(sources):
        if source is None or not np.may_share_memory(result, source):
            continue
        same = source.dtype == result.dtype and source.shape == result.shape and same_elements(result, source)
        if not same or k == 3:  # the weight comes after the loops have written
            return np.empty(result.shape, result.dtype)
    return result if result.flags.aligned and result.dtype.isnative else np.empty(result.shape, sources[0].dtype)


def _third_gradient(name, third, wanted, x):
    """(array for the gradient of every element, function that returns the gradient in the shape of the array)"""
    shape = np.shape(third)
    out = output_like(np.broadcast_to(x.dtype.type(0), shape), None if wanted is True else wanted, f"{name}_grad")
    if shape == x.shape:
        return out, lambda: out
    elements = np.empty(x.shape, np.float64 if x.dtype == np.float64 else np.float32)
    extra = x.ndim - len(shape)
    axes = tuple(range(extra)) + tuple(extra + k for k, n in enumerate(shape) if n == 1 != x.shape[extra + k])

    def finish():
        with np.errstate(all="ignore"):
            out[...] = elements.sum(axis=axes, dtype=np.float64).reshape(shape)
        return out

    return elements, finish


for _row in ELEMENTWISE_LOSSES:
    globals()[_row.name] = register(_make(_row))
__all__ = [row.name for row in ELEMENTWISE_LOSSES]
