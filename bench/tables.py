"""The tables of ``fastact/_kernels/tables.h``: ``python -m bench.tables`` writes them.

A function f(a), a >= 0, is a polynomial c0 + c1 h + c2 h^2 + ... of h = a - centre on each of 16 or 32 intervals: around
successive multiples of a width or, where f flattens, quarters or eighths of the binades of a + offset. Every centre is chosen so that f
is very nearly a float there: c0 then is exact, and all other terms are small beside it. Errors of derivatives are counted in
units of their largest term.
"""

from pathlib import Path

import mpmath as mp
import numpy as np

from .coefficients import fit, relative

TARGET = Path(__file__).parent.parent / "fastact" / "_kernels" / "tables.h"
TRIES = 4000  # floats that are tried as a centre


def multiples(width, count=16):
    """(low, high) of what rounds to 0, 1 ... widths."""
    width, half = mp.mpf(width), mp.mpf("0.5")
    return [(max(k - half, mp.mpf(0)) * width, (k + half) * width) for k in range(count)]


def parts_of_binades(offset, end, count):
    """(low, high) at the place that two bits of the exponent and the highest of the mantissa of a + offset give."""
    spans = [None] * count
    shift = 25 - count.bit_length() + 1
    place = np.float32(offset).view(np.uint32) >> shift
    while True:
        low, high = (mp.mpf(float(np.uint32(bits << shift).view(np.float32))) - offset for bits in (place, place + 1))
        if low > end:
            return spans
        spans[place % count] = max(low, mp.mpf(0)), min(high, mp.mpf(end))
        place += 1


def centre(function, low, high):
    """A float near the middle where the function is nearest to a float, and that value."""
    middle = np.float32(float((low + high) / 2))
    best = None
    for k in range(TRIES):
        c = mp.mpf(float(middle + np.float32((k + 1) // 2 * (1 if k % 2 else -1)) * np.spacing(middle)))
        value = function(c)
        nearest = mp.mpf(float(np.float32(float(value))))
        if best is None or abs(value - nearest) < best[0]:
            best = abs(value - nearest), c, nearest
        if best[0] < abs(value) * mp.mpf(2) ** -31:
            break
    return best[1:]


def table(function, intervals, degree, scale=relative, odd=False):
    """Columns centre, c0, c1 ... c_degree; of an odd function the first interval starts with c0 = 0, c1 = 1, c2 = 0."""
    columns, errors = [], []
    for span in intervals:
        if span is None:
            columns.append([0.0] * (degree + 2))
            continue
        if odd and span[0] == 0:
            c, given = mp.mpf(0), (0, 1, 0)
        else:
            c, *given = centre(function, *span)
        limits = span[0] - c, span[1] - c
        coefficients, error = fit(lambda h: function(c + h), *limits, degree, np.float32, lambda h, y: scale(c + h, y), given)
        columns.append([float(c), *coefficients])
        errors.append(error)
    return np.float32(columns), max(errors)


def logistic(a):
    """s(-a)"""
    return 1 / (1 + mp.exp(a))


def log_logistic(a):
    return mp.log1p(mp.exp(-a))


def bell(a):
    return logistic(a) * logistic(-a)


def silu_slope(a):
    """silu'(-a)"""
    return logistic(a) - a * bell(a)


def unit_of_silu_slope(a, _):
    return 1 / max(logistic(a), a * bell(a))


def normal_tail(a):
    """Phi(-a)"""
    return mp.erfc(a / mp.sqrt(2)) / 2


def scaled_normal_tail(a):
    """Phi(-a) exp(a^2 / 2)"""
    return normal_tail(a) * mp.exp(a * a / 2)


def powers_of_two():
    """2^(k / 16) as high + low."""
    exact = [mp.mpf(2) ** (mp.mpf(k) / 16) for k in range(16)]
    high = [np.float32(float(v)) for v in exact]
    return [high, [np.float32(float(v - mp.mpf(float(h)))) for v, h in zip(exact, high)]]


TABLES = {
    "tanh": (mp.tanh, parts_of_binades(0.625, 9.2, 16), 6, relative, True),
    "logistic": (logistic, multiples("0.7"), 6),
    "log_logistic": (log_logistic, multiples("0.7"), 6),
    "bell": (bell, multiples("0.7"), 7),
    "silu_slope": (silu_slope, multiples("0.7"), 7, unit_of_silu_slope),
    "scaled_normal_tail": (scaled_normal_tail, parts_of_binades(1.0, 14.99, 32), 5),
}


def literal(value):
    text = f"{value:.9g}"
    return text + ("f" if set(text) & {".", "e"} else ".0f")


def as_c(name, rows):
    lines = [f"static const float {name}_table[{len(rows)}][{len(rows[0])}] __attribute__((aligned(64))) = {{"]
    lines += ["    {" + ", ".join(map(literal, row)) + "}," for row in rows]
    return "\n".join([*lines, "};"])


if __name__ == "__main__":
    text = ["/* Written by python -m bench.tables, which says what this is. */"]
    for name, about in TABLES.items():
        columns, error = table(*about)
        print(f"{name}: 2^{error:.1f}")
        text.append(as_c(name, columns.T))
    text.append(as_c("powers_of_two", powers_of_two()))
    TARGET.write_text("\n".join(text) + "\n")
