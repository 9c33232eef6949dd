"""The tables of ``fastact/_kernels/tables.h``: ``python -m bench.tables`` writes them.

A function f(a), a >= 0, is a polynomial c0 + c1 h + c2 h^2 + ... of h = a - centre on each of 32 intervals, which the
highest five of the bits of a + offset that differ tell apart: two of the exponent, three of the mantissa. Every centre is
chosen so that f is very nearly a float there: c0 then is exact, and all other terms are small beside it.
"""

from pathlib import Path

import mpmath as mp
import numpy as np

from .coefficients import fit, relative

TARGET = Path(__file__).parent.parent / "fastact" / "_kernels" / "tables.h"
COUNT = 32
TRIES = 4000  # floats that are tried as a centre


def intervals(offset, end):
    """(low, high) at the place that the bits of a + offset give; None where there is nothing."""
    found = [None] * COUNT
    place = np.float32(offset).view(np.uint32) >> 20
    while True:
        low, high = (mp.mpf(float(np.uint32(bits << 20).view(np.float32))) - offset for bits in (place, place + 1))
        if low > end:
            return found
        found[place % COUNT] = max(low, mp.mpf(0)), high
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


def table(function, offset, end, degree, odd=False):
    """Columns centre, c0, c1 ... c_degree; of an odd function the first interval starts with c0 = 0, c1 = 1, c2 = 0."""
    columns = np.zeros((COUNT, degree + 2), np.float32)
    errors = []
    for place, span in enumerate(intervals(offset, end)):
        if span is None:
            continue
        if odd and span[0] == 0:
            c, given = mp.mpf(0), (0, 1, 0)
        else:
            c, *given = centre(function, *span)
        coefficients, error = fit(lambda h: function(c + h), span[0] - c, span[1] - c, degree, np.float32, relative, given)
        columns[place] = float(c), *coefficients
        errors.append(error)
    return columns, max(errors)


def scaled_normal_tail(a):
    """Phi(-a) exp(a^2 / 2)"""
    z = a / mp.sqrt(2)
    return mp.erfc(z) * mp.exp(z * z) / 2


def powers_of_two():
    """2^(k / 16) as high + low."""
    exact = [mp.mpf(2) ** (mp.mpf(k) / 16) for k in range(16)]
    high = [np.float32(float(v)) for v in exact]
    return [high, [np.float32(float(v - mp.mpf(float(h)))) for v, h in zip(exact, high)]]


TABLES = {
    "tanh": (mp.tanh, 0.75, 9.1, 5, True),
    "scaled_normal_tail": (scaled_normal_tail, 1.0, 14.5, 5),
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
