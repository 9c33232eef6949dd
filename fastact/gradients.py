"""Gradients held against differences of the function itself."""

from __future__ import annotations

import functools
import inspect
from dataclasses import dataclass, field

import numpy as np

from .names import get

STEP = 2.0**-10
"""Times max(1, |x|). The stencil's error is then about STEP^4 / 30 of the fifth derivative, the rounding error 1e-13."""
TRUST = 0.25
"""A place is judged where two stencils agree to this share of what is allowed; they do not next to a kink."""
KEEN = 0.75
"""Right at a kink they may agree, but there the slopes to the left and to the right differ by this share as much again with
half the step; where the function is smooth, by half."""


@dataclass(frozen=True)
class GradientCheck:
    """What `check_grad` found, at the place where analytic and numeric gradient differ most.

    Attributes
    ----------
    passed : bool
        Whether every judged place is within the tolerance; so is the truth of the object.
    what : str
        Which gradient: "derivative", "backward", "backward from the output", "value_and_grad", and of which argument.
    index : tuple of int
    analytic, numeric : float
        What the function says there, and what differences say.
    error, tolerance : float
        Their distance, relative to the larger of them (and at least 1e-3 of the largest gradient), and what is allowed.
    judged, unjudged : int
        Places where they were compared, and where differences say nothing, as at a kink.
    """

    passed: bool
    what: str
    index: tuple = field(default=())
    analytic: float = 0.0
    numeric: float = 0.0
    error: float = 0.0
    tolerance: float = 0.0
    judged: int = 0
    unjudged: int = 0

    def __bool__(self):
        return self.passed

    def __str__(self):
        verdict = "agrees with differences" if self.passed else "does not agree with differences"
        return (f"{self.what} {verdict}: at {self.index} it is {self.analytic!r}, differences say {self.numeric!r}; relative error "
                f"{self.error:.2g}, allowed {self.tolerance:.2g}; {self.judged} places judged, {self.unjudged} not")  # fmt: skip


class GradientError(AssertionError):
    """A gradient that is not the function's; ``result`` is the `GradientCheck`."""

    def __init__(self, result):
        super().__init__(str(result))
        self.result = result

    def __reduce__(self):
        return type(self), (self.result,)


def check_grad(function, x, *args, tolerance=1e-6, places=200, seed=0, **kwargs):
    """Compare the gradients of a function with central differences, in float64.

    Parameters
    ----------
    function : str or callable
        Anything with ``derivative``, ``backward`` or ``value_and_grad`` as the functions here have them, all of which are
        checked; or a loss of one's own that returns (value, gradient).
    x : array_like
        Where. Keep away from kinks: a place where differences disagree with each other is not judged.
    *args, **kwargs
        What the function takes besides: parameters, target, axis, ... The gradients of arrays of floats among them are checked
        too if the function gives them; integers stay what they are, as they may be classes.
    tolerance : float, default 1e-6
        Allowed relative error.
    places : int, default 200
        At how many elements of each array at most, chosen at random where there are more.
    seed : int, default 0
        Of that choice and of the gradient given to ``backward``.

    Returns
    -------
    GradientCheck
        The worst place of all gradients.

    Raises
    ------
    GradientError
        If a gradient is off by more; its ``result`` says where.
    TypeError
        If the function has none of those methods and does not return a pair.

    Notes
    -----
    Differences are those of the five-point stencil, once with a step of 2^-10 max(1, |x|) and once with half of it.

    Examples
    --------
    >>> from fastact import check_grad
    >>> check_grad("silu", [-2.0, 0.5, 3.0]).passed
    True
    >>> print(check_grad(lambda p, t: (((p - t) ** 2).sum(), 2 * (p - t)), [1.0, 2.0], 0.5).what)
    value_and_grad
    """
    function = get(function)
    rng = np.random.default_rng(seed)
    x = np.asarray(x).astype(np.float64, casting="same_kind")
    args = tuple(_float64(a) for a in args)
    kwargs = {name: _float64(a) for name, a in kwargs.items()}
    if not any(hasattr(function, method) for method in ("derivative", "backward", "value_and_grad")):
        function = _Pair(function, x, args, kwargs)
    results = list(_results(function, x, args, kwargs, tolerance, places, rng))
    worst = max(results, key=lambda result: (not result.passed, result.error / result.tolerance))
    if not worst:
        raise GradientError(worst)
    return worst


class _Pair:
    """A function that returns (value, gradient), with the methods of a loss."""

    def __init__(self, function, x, args, kwargs):
        self.value_and_grad = function
        returned = function(x, *args, **kwargs)
        if not isinstance(returned, tuple) or len(returned) != 2:
            raise TypeError(f"{function!r} has no derivative, backward or value_and_grad, and does not return (value, gradient)")

    def __call__(self, *args, **kwargs):
        return self.value_and_grad(*args, **kwargs)[0]


def _results(function, x, args, kwargs, tolerance, places, rng):
    compare = functools.partial(_compare, tolerance=tolerance, places=places, rng=rng)
    if hasattr(function, "value_and_grad"):
        gradients = function.value_and_grad(x, *args, **kwargs)[1]
        weight = 1.0
        what = "value_and_grad"
    else:
        y = np.asarray(function(x, *args, **kwargs))
        weight = rng.standard_normal(y.shape)
        what = "backward"
        if hasattr(function, "derivative"):
            # Element by element, where a random weight would hide nothing but blur the message.
            yield from compare("derivative", lambda v: function(v, *args, **kwargs), np.broadcast_to(x, y.shape),
                               function.derivative(x, *args, **kwargs), None)  # fmt: skip
        if not hasattr(function, "backward"):
            return
        takes = inspect.signature(function.backward).parameters
        options = {name: value for name, value in kwargs.items() if name in takes}
        from_output = functools.partial(function.backward, weight, output=y)
        if "output" in takes and takes["output"].default is inspect.Parameter.empty:
            gradients = from_output(**options)
        else:
            gradients = function.backward(weight, x, *args, **options)
            if getattr(function, "backward_needs", "input") == "output":
                yield from compare("backward from the output", lambda v: function(v, *args, **kwargs), x,
                                   from_output(**dict(zip(function.parameters, args)), **options), weight)  # fmt: skip
    if not isinstance(gradients, tuple):
        yield from compare(what, lambda v: function(v, *args, **kwargs), x, gradients, weight)
        return
    names = list(inspect.signature(function).parameters)
    # One gradient for each array in the order of the signature.
    arrays = [("positional", 0), *(("positional", k + 1) for k, a in enumerate(args) if _is_float(a)),
              *(("named", name) for name, a in kwargs.items() if _is_float(a))]  # fmt: skip
    inputs = (x, *args)
    for (kind, key), gradient in zip(arrays, gradients):

        def of_one(v):
            if kind == "named":
                return function(*inputs, **kwargs | {key: v})
            return function(*inputs[:key], v, *inputs[key + 1 :], **kwargs)

        where = inputs[key] if kind == "positional" else kwargs[key]
        yield from compare(f"{what} of {names[key] if kind == 'positional' else key}", of_one, where, gradient, weight)


def _compare(what, function, x, analytic, weight, *, tolerance, places, rng):
    """The GradientCheck of one gradient; with a weight of None each element of the result depends on that of x alone."""
    x, analytic = np.array(x), np.asarray(analytic, np.float64)
    if analytic.shape != x.shape:
        raise ValueError(f"{what} has shape {analytic.shape}, its argument {x.shape}")
    if x.size == 0:
        yield GradientCheck(True, what, tolerance=tolerance)
        return
    chosen = np.arange(x.size) if x.size <= places else np.sort(rng.choice(x.size, places, replace=False))
    indices = [tuple(int(i) for i in index) for index in zip(*np.unravel_index(chosen, x.shape))] if x.ndim else [()]
    points = np.array([x[index] for index in indices])
    steps = STEP * np.maximum(1, np.abs(points))
    if weight is None:
        value = np.asarray(function(x))
        everywhere = STEP * np.maximum(1, np.abs(x))
        coarse, bend, fine, fine_bend = (np.ravel(d)[chosen] for h in (everywhere, everywhere / 2) for d in _stencil(function, x, value, h))
        size = np.abs(np.ravel(value)[chosen])
    else:
        coarse, bend, fine, fine_bend = np.empty((4, len(indices)))
        terms = weight * np.asarray(function(x))
        size = np.sum(np.abs(terms))
        for k, index in enumerate(indices):

            def along(value):
                moved = x.copy()
                moved[index] = value
                return np.sum(weight * np.asarray(function(moved)))

            coarse[k], bend[k] = _stencil(along, points[k], np.sum(terms), steps[k])
            fine[k], fine_bend[k] = _stencil(along, points[k], np.sum(terms), steps[k] / 2)
    given = np.array([analytic[index] for index in indices])
    scale = np.maximum(np.maximum(np.abs(given), np.abs(fine)), 1e-3 * np.max(np.abs(analytic), initial=0))
    rounding = 64 * np.finfo(np.float64).eps * size / steps
    allowed = tolerance * scale + rounding
    smooth = (np.abs(coarse - fine) <= np.maximum(TRUST * allowed, 4 * rounding)) & ((fine_bend <= KEEN * bend) | (fine_bend <= allowed))
    judged = smooth | ~np.isfinite(given)
    distance = np.where(judged, np.abs(given - fine), 0)
    distance = np.where(judged & ~np.isfinite(distance), np.inf, distance)
    ratio = distance / np.where(allowed == 0, 1, allowed)
    at = int(np.argmax(ratio))
    error = float(ratio[at] * tolerance)
    yield GradientCheck(bool(ratio[at] <= 1 and judged.any()), what, indices[at], float(given[at]), float(fine[at]), error,
                        tolerance, int(judged.sum()), int((~judged).sum()))  # fmt: skip


def _stencil(function, x, value, h):
    """The slope, and by how much it is another to the right than to the left."""
    right, left = np.asarray(function(x + h)), np.asarray(function(x - h))
    far = function(x + 2 * h) - function(x - 2 * h)
    return (8 * (right - left) - far) / (12 * h), np.abs(right - 2 * value + left) / h


def _is_float(value):
    return isinstance(value, np.ndarray) and value.dtype.kind == "f"


def _float64(value):
    """Real numbers as float64; whatever else, classes and options among them, as it is."""
    if isinstance(value, (list, tuple)) or hasattr(value, "dtype"):
        array = np.asarray(value)
        floating = array.dtype.kind == "f" or array.dtype.name == "bfloat16"
        return array.astype(np.float64) if floating else array if array.ndim else value
    return value
