"""Every promise of accuracy in the table, measured.

mpmath judges float64 and, on the points where formulas break, the float64 twins of ``reference.py``; those in turn
judge large samples of float32 and every value of the half types.
"""

import functools

import numpy as np
import oracle
import pytest
from cases import (
    FROM_OUTPUT,
    HALF_TYPES,
    KINDS,
    ROWS,
    Method,
    as_used,
    breaking_points,
    defaults,
    every_half,
    float32_sample,
    parameter_cases,
    promised_ulp,
)
from ulp import FORMATS, errors, worst

import fastact as fa
from fastact._kernels import reference


@functools.cache
def from_mpmath(name, parameters, dtype, count):
    """The breaking points with mpmath's function and derivative, each with its largest term."""
    x = decided(name, parameters, breaking_points(dtype, count))
    forward = oracle.evaluate(oracle.FORWARD[name], x, parameters)
    derivative = oracle.evaluate(oracle.DERIVATIVE[name], x, parameters)
    terms = oracle.largest_terms(name, x, parameters, forward, derivative)
    return x, *zip((forward, derivative), terms)


@functools.cache
def output_from_mpmath(name, parameters, dtype, count):
    """The outputs at the breaking points, mpmath's derivative from them, and its largest term."""
    y = outputs(name, parameters, breaking_points(dtype, count))
    derivative = oracle.evaluate(oracle.DERIVATIVE_FROM_OUTPUT[name], y, parameters)
    return y, derivative, oracle.largest_term_from_output(name, parameters)


def from_reference(name, parameters, x):
    """The reference's function and derivative, each with its largest term."""
    x = x.astype(np.float64)
    forward = reference.FORWARD[name](x, *parameters)
    derivative = reference.DERIVATIVE[name](x, *parameters)
    return tuple(zip((forward, derivative), oracle.largest_terms(name, x, parameters, forward, derivative)))


def outputs(name, parameters, x):
    """All finite values that the function takes at x, rounded to the dtype of x."""
    with np.errstate(over="ignore"):
        y = reference.FORWARD[name](x, *parameters).astype(x.dtype).astype(np.float64)
    return np.unique(y[np.isfinite(y)]).astype(x.dtype)


def decided(name, parameters, x):
    """x without the points next to hardsigmoid's kinks, where rounding decides on which side they are."""
    if name != "hardsigmoid":
        return x
    alpha, beta = parameters
    z = alpha * x.astype(np.float64) + beta
    resolution = 4 * 2.0 ** (1 - FORMATS[x.dtype.name][0])
    return x[np.minimum(np.abs(z), np.abs(z - 1)) > resolution]


def check(computed, wanted, x, promise):
    error, where = worst(computed, wanted[0], x.dtype, x, wanted[1])
    assert error <= promise, where


@pytest.mark.parametrize("name, parameters", parameter_cases())
def test_reference_agrees_with_mpmath(name, parameters):
    """Within 1e-4 float32 ULP: the reference may judge float32."""
    parameters = as_used(parameters, "float32")
    x, forward, derivative = from_mpmath(name, parameters, "float32", 400)
    assert np.max(errors(reference.FORWARD[name](x, *parameters), forward[0], "float32", forward[1])) < 1e-4
    assert np.max(errors(reference.DERIVATIVE[name](x, *parameters), derivative[0], "float32", derivative[1])) < 1e-4
    if name in FROM_OUTPUT:
        y, derivative, term = output_from_mpmath(name, parameters, "float32", 400)
        twin = reference.DERIVATIVE_FROM_OUTPUT[name]
        assert np.max(errors(twin(y, *parameters), derivative, "float32", term)) < 1e-4


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name, parameters", parameter_cases())
def test_float64_against_mpmath(name, parameters, kind):
    x, forward, derivative = from_mpmath(name, parameters, "float64", 2500 if parameters == defaults(name) else 500)
    wanted = forward if kind == "forward" else derivative
    check(Method(name, kind)(x, *parameters), wanted, x, promised_ulp(name, "float64", kind))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name, parameters", parameter_cases())
def test_float32_on_a_dense_sample(name, parameters, kind):
    used = as_used(parameters, "float32")
    x = float32_sample() if parameters == defaults(name) else breaking_points("float32", 20_000)
    x = decided(name, used, x)
    wanted = from_reference(name, used, x)[kind != "forward"]
    check(Method(name, kind)(x, *parameters), wanted, x, promised_ulp(name, "float32", kind))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", HALF_TYPES)
@pytest.mark.parametrize("name, parameters", parameter_cases())
def test_every_half(name, parameters, dtype, kind):
    used = as_used(parameters, dtype)
    x = decided(name, used, every_half(dtype))
    wanted = from_reference(name, used, x)[kind != "forward"]
    check(Method(name, kind)(x, *parameters), wanted, x, promised_ulp(name, dtype, kind))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name, parameters", parameter_cases(FROM_OUTPUT))
def test_derivative_from_output_against_mpmath(name, parameters, dtype):
    """backward(1, output=y) is the derivative as a function of that very y."""
    if name == "leaky_relu" and parameters[0] <= 0:
        pytest.skip("without a positive slope the output does not tell the sign of the input")
    y, *wanted = output_from_mpmath(name, as_used(parameters, dtype), dtype, 500)
    got = backward_from_output(name, parameters, y)
    check(got, wanted, y, promised_ulp(name, dtype, "derivative"))


@pytest.mark.parametrize("dtype", HALF_TYPES)
@pytest.mark.parametrize("name", FROM_OUTPUT)
def test_derivative_from_every_half_output(name, dtype):
    used = as_used(defaults(name), dtype)
    y = outputs(name, used, every_half(dtype))
    wanted = reference.DERIVATIVE_FROM_OUTPUT[name](y, *used), oracle.largest_term_from_output(name, used)
    got = backward_from_output(name, defaults(name), y)
    check(got, wanted, y, promised_ulp(name, dtype, "derivative"))


def backward_from_output(name, parameters, y):
    names = [parameter for parameter, _ in ROWS[name].parameters]
    return getattr(fa, name).backward(np.ones_like(y), output=y, **dict(zip(names, parameters)))


@pytest.mark.parametrize("name", list(fa.list_activations()))
def test_max_ulp_states_the_promise(name):
    """The object's own figure is the table's."""
    stated = getattr(fa, name).max_ulp
    for dtype in ("float16", "float32", "float64"):
        assert stated[dtype] == promised_ulp(name, dtype, "forward")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["sigmoid", "tanh", "gelu", "silu", "softplus", "mish", "relu", "hardswish"])
def test_backward_is_gradient_times_derivative(name, dtype, rng):
    x = rng.uniform(-8, 8, 5000).astype(dtype)
    g = rng.normal(size=x.size).astype(dtype)
    activation = getattr(fa, name)
    product = g * activation.derivative(x)
    limit = 4 * np.finfo(dtype).eps * np.abs(g)
    assert np.all(np.abs(activation.backward(g, x) - product) <= limit)
