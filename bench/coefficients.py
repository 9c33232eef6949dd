"""The polynomial coefficients of ``fastact/_kernels/scalar.pxd`` and ``by_hand_doubles.h``: ``python -m bench.coefficients``.

Each is a least-squares fit at Chebyshev nodes, reweighted a few times towards equal error (Lawson's algorithm),
in 60-digit arithmetic; ``scale(x, value)`` says what an error in the fit costs in the result. Coefficients are rounded to the target format one by one from the constant term up, and
the later ones refitted, so that they absorb the rounding of the earlier ones.
"""

import mpmath as mp
import numpy as np

mp.mp.dps = 60


def fit(function, low, high, degree, dtype, scale, given=()):
    """Coefficients, constant term first and in double (to be split in two), and log2 of the largest error.

    The first ones may be given.
    """
    count = 3 * degree + 12
    nodes = [(low + high) / 2 + (high - low) / 2 * mp.cos(mp.pi * (k + mp.mpf(1) / 2) / count) for k in range(count)]
    values = [function(x) for x in nodes]
    unit = [scale(x, v) for x, v in zip(nodes, values)]
    fixed = [mp.mpf(c) for c in given]
    while len(fixed) <= degree:
        first = len(fixed)
        rest = [v - sum(c * x**k for k, c in enumerate(fixed)) for v, x in zip(values, nodes)]
        weight = [mp.mpf(1)] * count
        for _ in range(12):
            rows = mp.matrix([[mp.sqrt(w) * u * x**k for k in range(first, degree + 1)] for x, u, w in zip(nodes, unit, weight)])
            right = mp.matrix([mp.sqrt(w) * u * r for r, u, w in zip(rest, unit, weight)])
            solution = mp.lu_solve(rows, right)
            error = [abs(u * (r - sum(solution[k - first] * x**k for k in range(first, degree + 1))))
                     for x, u, r in zip(nodes, unit, rest)]
            weight = [w * (e + max(error) / 1000) for w, e in zip(weight, error)]
            total = sum(weight)
            weight = [w / total for w in weight]
        fixed.append(mp.mpf(float((dtype if fixed else np.float64)(mp.nstr(solution[0], 30)))))
    error = max(u * abs(v - sum(c * x**k for k, c in enumerate(fixed))) for x, v, u in zip(nodes, values, unit))
    return [float(c) for c in fixed], float(mp.log(error, 2))


def tail_product(centre):
    """t Phi(-t) exp(t^2 / 2) in u = (t - centre) / (t + centre)"""
    def function(u):
        t = centre * (1 + u) / (1 - u)
        z = t / mp.sqrt(2)
        return t * mp.erfc(z) * mp.exp(z * z) / 2
    return function


def shifted_tail_product(centre):
    """(t + centre) Phi(-t) exp(t^2 / 2) in the same variable"""
    def function(u):
        t = centre * (1 + u) / (1 - u)
        z = t / mp.sqrt(2)
        return (t + centre) * mp.erfc(z) * mp.exp(z * z) / 2
    return function


def tail_by_reciprocal(slope):
    """Phi(-t) exp(t^2 / 2) / u in u = 1 / (1 + slope t)"""
    def function(u):
        z = (1 / u - 1) / mp.mpf(slope) / mp.sqrt(2)
        return mp.erfc(z) * mp.exp(z * z) / 2 / u
    return function


def tail_start(t):
    """(1/2 - Phi(-t) exp(t^2 / 2)) / t"""
    z = t / mp.sqrt(2)
    return (mp.mpf(1) / 2 - mp.erfc(z) * mp.exp(z * z) / 2) / t


def interval(low, high, centre):
    return [(mp.mpf(t) - centre) / (mp.mpf(t) + centre) for t in (low, high)]


def exponential(r):
    """(exp(r) - 1 - r) / r^2"""
    return mp.hyp2f2(1, 1, 3, 1, r) / 2 if abs(r) < 1e-3 else (mp.expm1(r) - r) / r**2


def logarithm(z):
    """log((1 + s) / (1 - s)) = 2 s + s z R(z), z = s^2"""
    s = mp.sqrt(z)
    return (2 * mp.atanh(s) / s - 2) / z


def logarithm_of_one_plus(r):
    """(log(1 + r) - r) / r^2"""
    return -mp.hyp2f1(2, 1, 3, -r) / 2


def tanh_remainder(z):
    """tanh(t) = t - t^3 R(t^2)"""
    t = mp.sqrt(z)
    return (t - mp.tanh(t)) / (t * z)


def tanh_remainder_beside_third(z):
    """tanh(t) = t - t^3 (1/3 - t^2 R(t^2))"""
    return (mp.mpf(1) / 3 - tanh_remainder(z)) / z


TINY = mp.mpf("1e-12")
def relative(x, value):
    return 1 / abs(value)


def times_square(x, value):
    return x * x


def times_argument(x, value):
    return abs(x)


FITS = {
    "exponential": (exponential, times_square, -mp.log(2) / 2 * 1.01, mp.log(2) / 2 * 1.01, 4, 9),
    "exponential of a 32nd": (exponential, times_argument, -mp.log(2) / 32 * mp.mpf("1.01"), mp.log(2) / 32 * mp.mpf("1.01"), None, 5),
    "logarithm": (logarithm, relative, TINY, mp.mpf(1) / 9, 4, 10),
    "logarithm next to 1": (logarithm_of_one_plus, times_argument, -mp.mpf("1.01") / 30, mp.mpf("1.01") / 30, None, 8),
    "tanh remainder": (tanh_remainder, relative, TINY, mp.mpf("0.36"), 5, 11),
    "tanh remainder beside 1/3": (tanh_remainder_beside_third, times_argument, TINY, mp.mpf("0.0626"), None, 6),
    "tail start": (tail_start, relative, TINY, mp.mpf("1.25"), 8, 16),
    "tail product": (tail_product(5), relative, *interval("1.25", 15, 5), 8, None),
    "shifted tail product": (shifted_tail_product(4), relative, *interval(0, 15, 4), 9, None),
    "tail by a reciprocal, for half types": (tail_by_reciprocal("0.3"), relative, 1 / mp.mpf("5.5"), mp.mpf(1), 7, None),
    "tail product to 39.5": (tail_product(5), relative, *interval("1.25", "39.5", 5), None, 19),
}

if __name__ == "__main__":
    for name, (function, scale, low, high, single, double) in FITS.items():
        for dtype, degree in ((np.float32, single), (np.float64, double)):
            if degree is not None:
                coefficients, error = fit(function, low, high, degree, dtype, scale)
                print(f"{name}, {dtype.__name__}, degree {degree}: 2^{error:.1f}")
                for k, c in enumerate(coefficients):
                    print(f"    {c:.9g}" if dtype is np.float32 and k else f"    {c!r}")
