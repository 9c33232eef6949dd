"""The tables of ``fastact/_kernels/tables.h``: ``python -m bench.tables`` writes them.

A function f(a), a >= 0, is a polynomial c0 + c1 h + c2 h^2 + ... of h = a - centre on each of 16, 32 or 64 intervals: around
successive multiples of a width, of mish on both sides of 0; where f flattens, quarters of the binades of a + offset; where f falls ever faster,
what a square rounds to. Every centre is chosen so that f is very nearly a float there: c0 then is exact, and all other terms
are small beside it. Errors of derivatives are counted in units of their largest term.
"""

from pathlib import Path

import mpmath as mp
import numpy as np

from .coefficients import fit, relative

TARGET = Path(__file__).parent.parent / "fastact" / "_kernels" / "tables.h"
TRIES = 4000  # floats that are tried as a centre


def multiples(width, count=16, first=0):
    """(low, high) at the place of a multiple of a width, of what rounds to it; from the first multiple on."""
    width, half, least = mp.mpf(width), mp.mpf("0.5"), mp.mpf(0 if first >= 0 else "-inf")
    spans = [(max(k - half, least) * width, (k + half) * width) for k in range(first, first + count)]
    return spans[-first % count :] + spans[: -first % count]


def quarters_of_binades(offset, end):
    """(low, high) at the place that two bits of the exponent and two of the mantissa of a + offset give."""
    spans = [None] * 16
    shift = 21
    place = np.float32(offset).view(np.uint32) >> shift
    while True:
        low, high = (mp.mpf(float(np.uint32(bits << shift).view(np.float32))) - offset for bits in (place, place + 1))
        if low > end:
            return spans
        spans[place % 16] = max(low, mp.mpf(0)), min(high, mp.mpf(end))
        place += 1


def roundings_of_square(factor, offset, count=32):
    """(low, high) at the place that (factor a + offset)^2 rounds to, for count places from where a is 0."""
    factor, offset, half = mp.mpf(factor), mp.mpf(offset), mp.mpf("0.5")
    spans = [None] * count
    first = int(mp.nint(offset**2))
    for k in range(first, first + count):
        low, high = ((mp.sqrt(edge) - offset) / factor for edge in (k - half, k + half))
        spans[k % count] = max(low, mp.mpf(0)), high
    return spans


def centre(function, low, high, scale):
    """A float near the middle where the function is nearest to a float, and that value.

    Where what errors are counted in falls to less than 0.4, or rises from there, within the interval: near where it is the
    harmonic mean of what it is at the ends. So the terms of h, which bring the errors, are no larger beside it at one end than at the other.
    """
    def size(a):
        return 1 / scale(a, function(a))

    middle, ends = (low + high) / 2, (size(low), size(high))
    if min(ends) < mp.mpf("0.4") * max(ends):
        wanted = 2 / (1 / ends[0] + 1 / ends[1])
        middle = mp.findroot(lambda a: mp.log(size(a) / wanted), (low, high), solver="anderson", tol=1e-6)
    if abs(middle) < (high - low) / 64:  # next to 0 floats are so close that the function does not change
        middle = (high - low) / 64
    middle = np.float32(float(middle))
    best = None
    for step in (np.spacing(middle), np.float32((high - low) / (8 * TRIES))):  # for mish, which nears x, the second
        for k in range(TRIES):
            c = mp.mpf(float(middle + np.float32((k + 1) // 2 * (1 if k % 2 else -1)) * step))
            value = function(c)
            nearest = mp.mpf(float(np.float32(float(value))))
            if best is None or abs(value - nearest) < best[0]:
                best = abs(value - nearest), c, nearest
            if best[0] < abs(value) * mp.mpf(2) ** -31:
                break
        if best[0] < abs(value) * mp.mpf(2) ** -27:
            break
    return best[1:]


def table(function, intervals, degree, scale=relative, start=None, added=0):
    """Columns centre, c0, c1 ... c_degree; ``start`` are the first two of these, or fewer, around 0, where the kernel adds so
    many a by itself."""
    columns, errors = [], []
    for span in intervals:
        if span is None:
            columns.append([0.0] * (degree + 2))
            continue
        slope = mp.mpf(0)
        if start and span[0] <= 0 <= span[1]:
            c, slope = mp.mpf(0), mp.mpf(added)
            given = [first - k * slope for k, first in enumerate(start)]
        else:
            c, *given = centre(function, *span, scale)
        limits = span[0] - c, span[1] - c
        coefficients, error = fit(lambda h: function(c + h) - slope * h, *limits, degree, np.float32,
                                  lambda h, y: scale(c + h, y + slope * h), given)
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


def tanh_slope(a):
    """tanh'(a)"""
    return mp.sech(a) ** 2


def elu(a):
    """elu(-a)"""
    return mp.expm1(-a)


def selu(a):
    """selu(-a)"""
    return mp.mpf("1.0507009873554805") * mp.mpf("1.6732632423543772") * mp.expm1(-a)


def normal_tail(a):
    """Phi(-a)"""
    return mp.erfc(a / mp.sqrt(2)) / 2


def quick_argument(a):
    return mp.mpf("1.702") * a, mp.mpf("1.702")


def tanh_argument(a):
    c, d = 2 * mp.sqrt(2 / mp.pi), mp.mpf("0.044715")
    return c * (a + d * a**3), c * (1 + 3 * d * a**2)


def tail(argument):
    """a s(-z(a)): less the function for -a."""
    return lambda a: a * logistic(mp.mpf(argument(a)[0]))


def slope(argument):
    """The function's derivative for -a."""
    def function(a):
        z, dz = argument(a)
        return logistic(z) - a * dz * bell(z)
    return function


def unit_of_slope(argument):
    def unit(a, _):
        z, dz = argument(a)
        return 1 / max(logistic(z), a * dz * bell(z))
    return unit


def gelu_tail(a):
    return a * normal_tail(a)


def gelu_slope(a):
    """gelu'(-a)"""
    return normal_tail(a) - a * mp.npdf(a)


def unit_of_gelu_slope(a, _):
    return 1 / max(normal_tail(a), a * mp.npdf(a))


def scaled_normal_tail(a):
    """Phi(-a) exp(a^2 / 2)"""
    return normal_tail(a) * mp.exp(a * a / 2)


def softened(x):
    """w = tanh(log(1 + exp(x))), and its derivative"""
    n = mp.exp(x) * (mp.exp(x) + 2)
    return n / (n + 2), 4 * mp.exp(x) * (mp.exp(x) + 1) / (n + 2) ** 2


def mish(x):
    return x * softened(x)[0]


def mish_slope(x):
    w, dw = softened(x)
    return w + x * dw


def unit_of_mish_slope(x, _):
    w, dw = softened(x)
    return 1 / max(w, abs(x) * dw)


def powers_of_two():
    """2^(k / 16) as high + low."""
    exact = [mp.mpf(2) ** (mp.mpf(k) / 16) for k in range(16)]
    high = [np.float32(float(v)) for v in exact]
    return [high, [np.float32(float(v - mp.mpf(float(h)))) for v, h in zip(exact, high)]]


def powers_of_two_in_double():
    """2^(k / 16) less k units of 2^48 in its bits, to which a kernel adds 16 n + k of them for 2^(n + k / 16); and what rounding took, as a share."""
    exact = [mp.mpf(2) ** (mp.mpf(k) / 16) for k in range(16)]
    nearest = [np.float64(mp.nstr(v, 30)) for v in exact]
    reduced = [(v.view(np.int64) - (k << 48)).view(np.float64) for k, v in enumerate(nearest)]
    return [reduced, [float(1 - mp.mpf(float(near)) / v) for v, near in zip(exact, nearest)]]


def logarithms_in_double():
    """About 15 / (15 + k), and less its logarithm, which is very nearly a double."""
    columns = [(1.0, 0.0)]
    for k in range(1, 16):
        tried = (15 / (15 + k) + step * 2.0**-30 for step in range(TRIES))
        found = ((number, -mp.log(mp.mpf(number))) for number in tried)
        number, value = min(found, key=lambda pair: abs(pair[1] - mp.mpf(float(pair[1]))) / pair[1])
        columns.append((number, float(value)))
    return list(zip(*columns))


def identity(a):
    return a, 1


HALF = (0, mp.mpf("0.5"))
GELU, GELU_TANH = roundings_of_square("0.55", "0.95"), roundings_of_square("0.63", "0.95")
MISH = multiples("0.35", 64, -32)
TABLES = {
    "tanh": (mp.tanh, quarters_of_binades(0.625, 9.2), 6, relative, (0, 1, 0)),
    "elu": (elu, quarters_of_binades(1.25, 17.4), 6, relative, (0, -1), -1),
    "selu": (selu, quarters_of_binades(1.25, 17.4), 6, relative, (0,), float(np.float32(-1.75809932))),
    "logistic": (logistic, multiples("0.7"), 6),
    "log_logistic": (log_logistic, multiples("0.7"), 6),
    "bell": (bell, multiples("0.7"), 7),
    "tanh_slope": (tanh_slope, multiples("0.35", 32), 7),
    "silu_tail": (tail(identity), multiples("0.7"), 7, relative, HALF, 0.5),
    "silu_slope": (slope(identity), multiples("0.7"), 7, unit_of_slope(identity)),
    "gelu_tail": (gelu_tail, GELU, 7, relative, HALF, 0.5),
    "gelu_slope": (gelu_slope, GELU, 7, unit_of_gelu_slope),
    "gelu_tanh_tail": (tail(tanh_argument), GELU_TANH, 8, relative, HALF, 0.5),
    "gelu_tanh_slope": (slope(tanh_argument), GELU_TANH, 8, unit_of_slope(tanh_argument)),
    "gelu_quick_tail": (tail(quick_argument), multiples("0.35", 32), 6, relative, HALF, 0.5),
    "gelu_quick_slope": (slope(quick_argument), multiples("0.35", 32), 6, unit_of_slope(quick_argument)),
    "mish": (mish, MISH, 6, relative, (0,), 0.5),
    "mish_slope": (mish_slope, MISH, 6, unit_of_mish_slope),
    "scaled_normal_tail": (scaled_normal_tail, multiples("0.5", 16, 15), 4),
}


def literal(value):
    text = f"{value:.9g}"
    return text + ("f" if set(text) & {".", "e"} else ".0f")


def literal_of_double(value):
    return repr(float(value))


def as_c(name, rows, kind="float", literal=literal):
    lines = [f"static const {kind} {name}[{len(rows)}][{len(rows[0])}] __attribute__((aligned(64))) = {{"]
    lines += ["    {" + ", ".join(map(literal, row)) + "}," for row in rows]
    return "\n".join([*lines, "};"])


if __name__ == "__main__":
    text = ["/* Written by python -m bench.tables, which says what this is. */", "#pragma once"]
    for name, about in TABLES.items():
        columns, error = table(*about)
        print(f"{name}: 2^{error:.1f}")
        text.append(as_c(f"{name}_table", columns.T))
        if len(columns) > 16:  # AVX2 has no permutation of that many
            text.append(as_c(f"{name}_by_interval", columns[:, :8]))
    text.append(as_c("powers_of_two_table", powers_of_two()))
    for name, rows in ("powers_of_two", powers_of_two_in_double()), ("logarithms", logarithms_in_double()):
        text.append(as_c(f"{name}_in_double_table", rows, "double", literal_of_double))
        text.append(as_c(f"{name}_in_double_by_interval", list(zip(*rows)), "double", literal_of_double))
    TARGET.write_text("\n".join(text) + "\n")
