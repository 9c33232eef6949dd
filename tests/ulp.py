"""Errors in units in the last place (ULP).

The unit is that of the *exact* value: with ``p`` bits of precision and ``2^e <= |exact| < 2^(e + 1)`` it is
``2^(e - p + 1)``, and never less than the smallest subnormal. A correctly rounded result is within 0.5.

* Subnormal results are held to the same number of units, each the smallest subnormal.
* Beyond the largest number both sides count as the power of two that follows it: an infinity that rounding explains
  costs no more than rounding.
* An exact zero must be hit, NaN must meet NaN: anything else is an infinite error. Signs of zero are not judged here.
* Where the terms of a sum cancel by more than one bit, i.e. next to a zero of a derivative or at the foot of
  hardsigmoid's ramp, the unit is that of the largest term.
"""

from __future__ import annotations

import mpmath
import numpy as np

# name: (bits of precision, exponent of the smallest subnormal, exponent of the power of two after the largest number)
FORMATS = {
    "float16": (11, -24, 16),
    "bfloat16": (8, -133, 128),
    "float32": (24, -149, 128),
    "float64": (53, -1074, 1024),
}


def _error(computed, exact, largest_term, precision, smallest, after_largest):
    """The error of one number against an mpmath number."""
    if np.isnan(computed) or mpmath.isnan(exact):
        return 0.0 if np.isnan(computed) and mpmath.isnan(exact) else np.inf
    if exact == 0:
        return 0.0 if computed == 0 else np.inf
    bound = mpmath.ldexp(1, after_largest)
    unit_of = largest_term if 2 * abs(exact) < largest_term else exact
    exact, computed, unit_of = (max(-bound, min(bound, mpmath.mpf(v))) for v in (exact, float(computed), unit_of))
    exponent = mpmath.frexp(unit_of)[1]
    unit = max(min(exponent, after_largest) - precision, smallest)
    return float(mpmath.ldexp(abs(computed - exact), -unit))


def errors(computed, exact, dtype, largest_term=0.0):
    """The error of every element of ``computed`` in ULP of ``dtype``.

    ``exact`` holds mpmath numbers (any dtype) or, for formats narrower than float64, float64 numbers that are accurate
    to far less than a unit of that format; the latter is the fast way for large samples.
    """
    precision, smallest, after_largest = FORMATS[np.dtype(dtype).name]
    exact = np.asarray(exact)
    if exact.dtype == object:
        with mpmath.workprec(2 * precision + 60):
            computed = np.asarray(computed, np.float64)
            return np.vectorize(_error, otypes=[float])(
                computed, exact, largest_term, precision, smallest, after_largest
            )
    assert precision < 53, "float64 results need an mpmath oracle"
    computed = np.asarray(computed).astype(np.float64)
    bound = np.ldexp(1.0, after_largest)
    with np.errstate(invalid="ignore"):
        unit_of = np.where(2 * np.abs(exact) < largest_term, largest_term, exact)
        exponents = np.minimum(np.frexp(np.clip(unit_of, -bound, bound))[1], after_largest)
        unit = np.ldexp(1.0, np.maximum(exponents - precision, smallest))
        error = np.abs(np.clip(computed, -bound, bound) - np.clip(exact, -bound, bound)) / unit
    error = np.where((exact == 0) & (computed != 0), np.inf, error)
    return np.where(
        np.isnan(exact) | np.isnan(computed), np.where(np.isnan(exact) & np.isnan(computed), 0.0, np.inf), error
    )


def worst(computed, exact, dtype, points, largest_term=0.0):
    """The largest error and a line that says where it is."""
    error = np.ravel(errors(computed, exact, dtype, largest_term))
    at = int(np.argmax(error))
    point, got, want = (np.ravel(v)[at] for v in (points, computed, exact))
    return error[at], f"{error[at]:.3f} ULP at x = {float(point)!r} ({float(point).hex()}): {got!r}, exact {want}"
