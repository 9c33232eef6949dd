"""Whether the functions of this package work, or of a copy that ``python -m fastact vendor`` made: gradients against differences.

pytest runs it, and so does ``python -m`` with its name.
"""

import importlib
import inspect

import numpy as np

PACKAGE = importlib.import_module(__package__)
STEP = 1e-5
INPUT = np.array([[0.31, 0.77, 0.12, 0.63], [0.23, 0.94, 0.58, 0.46]])
WEIGHT = np.array([[0.7, -1.3, 0.4, 2.1], [-0.6, 0.9, 1.7, -0.2]])
GIVEN = {"weight": 0.2, "threshold": 0.2, "value": 0.2, "var": 0.5 + INPUT, "probs": INPUT / INPUT.sum(1, keepdims=True)}
"""What functions need beside their first array."""


def arguments(name, function):
    """What a function is called with after its first array, by name."""
    if name == "gumbel_softmax":
        return {"rng": 0}
    if name == "linear_softmax_cross_entropy":
        return {"weight": WEIGHT, "target": np.array([1, 0])}
    parameters = inspect.signature(function).parameters
    target = {"target": np.array([1, 3]) if "axis" in parameters else 1 - INPUT}
    return {key: (GIVEN | target)[key] for key, p in list(parameters.items())[1:]
            if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD}  # fmt: skip


def check(name):
    """The gradients of a function against differences; a NaN stays one."""
    function = getattr(PACKAGE, name)
    options = arguments(name, function)

    def gradient(x):
        """That of the sum of WEIGHT times the results, or of the loss, and that sum."""
        if hasattr(function, "value_and_grad"):
            value, grad = function.value_and_grad(x, **options)
            return value, grad[0] if isinstance(grad, tuple) else grad
        y = function(x, **options)
        weight = WEIGHT.ravel()[: np.size(y)].reshape(np.shape(y))
        takes = inspect.signature(function.backward).parameters
        if "output" in takes and takes["output"].default is inspect.Parameter.empty:
            grad = function.backward(weight, output=y)
        else:
            grad = function.backward(weight, x, **options)
        return np.sum(weight * y), grad[0] if isinstance(grad, tuple) else grad

    numeric = np.empty_like(INPUT)
    for index in np.ndindex(INPUT.shape):
        step = np.zeros_like(INPUT)
        step[index] = STEP
        numeric[index] = (gradient(INPUT + step)[0] - gradient(INPUT - step)[0]) / (2 * STEP)
    np.testing.assert_allclose(gradient(INPUT)[1], numeric, 1e-6, 1e-8, err_msg=name)
    narrow = {key: np.float32(value) if np.asarray(value).dtype.kind == "f" else value for key, value in options.items()}
    single = function(np.float32(INPUT), **narrow)
    assert np.asarray(single).dtype == np.float32, name
    np.testing.assert_allclose(single, function(INPUT, **options), 1e-5, 1e-6, err_msg=name)
    assert np.all(np.isnan(function(np.full_like(INPUT, np.nan), **options))), name


def test_every_function():
    names = [name for name in PACKAGE.__all__
             if any(hasattr(getattr(PACKAGE, name), method) for method in ("backward", "value_and_grad"))
             and not inspect.isclass(getattr(PACKAGE, name))]  # fmt: skip
    assert names
    for name in names:
        check(name)
    print(f"{len(names)} functions of {PACKAGE.__name__} work on the backend {PACKAGE.get_backend()}")


if __name__ == "__main__":
    test_every_function()
