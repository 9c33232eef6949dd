# cython: language_level=3, cdivision=True
"""Every elementwise loss once, for float and double: it returns the value and leaves the derivative in ``slope``.

Rules as in ``scalar.pxd``, from which the toolkit comes. x is the input, t the target. A loop that only wants values
costs no derivatives: what is left in ``slope`` is then dead code.
"""

from .scalar cimport (
    INFINITY, NAN, absolute, clip, decay_parts, exp_parts, expm1_parts, fused, half_power, largest, log, log1m, log_parts,
    normalised, plus_log1p_parts, product_low, product_parts, real, reciprocal_parts, sum_parts, tanh, wide_magic,
)


# --- Distances ----------------------------------------------------------------------------------------------------

cdef inline real sign(real d) noexcept nogil:
    return <real>1 if d > 0 else (-<real>1 if d < 0 else d)

cdef inline real mse(real x, real t, real* slope) noexcept nogil:
    cdef real d = x - t
    slope[0] = <real>2 * d
    return d * d

cdef inline real mae(real x, real t, real* slope) noexcept nogil:
    cdef real d = x - t
    slope[0] = sign(d)
    return absolute(d)

cdef inline real huber(real x, real t, real delta, real* slope) noexcept nogil:
    cdef real d = x - t, a = absolute(d)
    slope[0] = clip(d, -delta, delta)
    return <real>0.5 * d * d if a <= delta else delta * (a - <real>0.5 * delta)

cdef inline real smooth_l1(real x, real t, real beta, real* slope) noexcept nogil:
    cdef real d = x - t, a = absolute(d), r = d / beta
    slope[0] = r if a < beta else sign(d)
    return <real>0.5 * r * d if a < beta else a - <real>0.5 * beta

cdef inline real smooth_l1_of_one(real x, real t, real beta, real* slope) noexcept nogil:
    """The same for a beta of 1, without the division."""
    cdef real d = x - t, a = absolute(d)
    slope[0] = d if a < 1 else sign(d)
    return <real>0.5 * d * d if a < 1 else a - <real>0.5

cdef inline real log_cosh(real x, real t, real* slope) noexcept nogil:
    """With E = exp(-|d|) - 1: log1p(E^2 / (2 (1 + E))) near 0, else |d| - log(2) + log1p((1 + E)^2)."""
    cdef real d = x - t, a = absolute(d), m, m_low, high, low, q, q_low, far, far_low, log_two, log_two_low, reach
    if real is float:
        reach = <real>1e9
        log_two = <real>0.693147182464599609375
        log_two_low = -<real>1.90465429995776767e-09
    else:
        reach = <real>1e18
        log_two = <real>0.6931471805599453094
        log_two_low = <real>2.319046813846299615e-17
    slope[0] = tanh(d)
    a = reach if a > reach else a
    high = expm1_parts(-a, <real>0, &low)
    m = high + low
    m_low = low - (m - high)
    q = sum_parts(<real>1, <real>0, m, m_low, &q_low)
    far = q * q
    q = reciprocal_parts(q, q_low, &q_low)
    q = product_parts(<real>0.5 * m, <real>0.5 * m_low, q, q_low, &q_low)
    q = product_parts(q, q_low, m, m_low, &q_low)
    q = q if a < 1 else far
    q_low = q_low if a < 1 else 0
    far = sum_parts(a, <real>0, -log_two, -log_two_low, &far_low)
    far = far if a >= 1 else 0
    far_low = far_low if a >= 1 else 0
    high = plus_log1p_parts(far, far_low, q, q_low, &low)
    a = absolute(d)
    return a if a > reach else high + low


# --- Margins, for targets of -1 and 1 -----------------------------------------------------------------------------

cdef inline real hinge(real x, real t, real* slope) noexcept nogil:
    cdef real margin = fused(-x, t, <real>1)
    slope[0] = <real>0 if margin <= 0 else (-t if margin > 0 else margin)
    return <real>0 if margin <= 0 else margin

cdef inline real squared_hinge(real x, real t, real* slope) noexcept nogil:
    cdef real ignored, margin = hinge(x, t, &ignored)
    slope[0] = -<real>2 * t * margin
    return margin * margin


# --- Logits and probabilities of two classes, for targets from 0 to 1 ---------------------------------------------

cdef inline real share(real a, real y) noexcept nogil:
    """a y, 0 for an a of 0 whatever y is."""
    return <real>0 if a == 0 else a * y

cdef inline real two_classes(real x, real a, real b, real* slope, real* e, real* l, real* l_low, real* r) noexcept nogil:
    """a log(1 + exp(-x)) + b log(1 + exp(x)), the cross-entropy of a logit with a for class 1 and b for class 0.

    With e = exp(-|x|), l + l_low = log(1 + e) and r = 1 / (1 + e) it is (a + b) l and b |x| for x > 0, else a |x|; the
    derivative b s(x) - a s(-x) is (b - a e) r or (b e - a) r. Terms of one sign: nothing cancels for hard targets.
    """
    cdef real high, low, first, second, p, q, p_low, r_low
    high = decay_parts(-absolute(x), <real>0, &low, &first, &second)
    e[0] = high * first * second
    low = low * first * second
    l[0] = normalised(plus_log1p_parts(<real>0, <real>0, e[0], low, l_low), l_low)
    r[0] = sum_parts(<real>1, <real>0, e[0], low, &r_low)
    r[0] = reciprocal_parts(r[0], r_low, &r_low)
    p = b if x > 0 else -a
    q = -a if x > 0 else b
    p = sum_parts(p, <real>0, q * e[0], q * low, &p_low)
    slope[0] = fused(p, r[0], p * r_low + p_low * r[0])
    return fused(a + b, l[0], share(b if x > 0 else a, absolute(x)) + (a + b) * l_low[0])

cdef inline real sigmoid_cross_entropy(real x, real t, real pos_weight, real* slope) noexcept nogil:
    cdef real e, l, l_low, r
    return two_classes(x, t * pos_weight, <real>1 - t, slope, &e, &l, &l_low, &r)

cdef inline real binary_cross_entropy(real x, real t, real* slope) noexcept nogil:
    """-t log(x) - (1 - t) log(1 - x); the derivative (x - t) / (x (1 - x)) is 1 or -1 where x = t is 0 or 1."""
    cdef real q = x * (<real>1 - x), d = x - t, value = -share(t, log(x)) - share(<real>1 - t, log1m(x))
    cdef real r = d / absolute(q), end = <real>1 - <real>2 * x if d == 0 else r
    r = end if q == 0 else r
    slope[0] = r if q >= 0 else <real>NAN                # q < 0: not a probability
    return value if q >= 0 else <real>NAN

cdef inline real sigmoid_focal(real x, real t, real alpha, real other_alpha, real gamma, real* slope) noexcept nogil:
    """c w u^gamma, c the cross-entropy, w = alpha t + other_alpha (1 - t) and u = t s(-x) + (1 - t) s(x).

    u is r n with n = (1 - t) + t e for x > 0, else t + (1 - t) e. Where the first term is 0, log(u) is taken as
    -|x| - l + log(other term), so that no power of u is lost when e is. The derivative is w u^gamma (c' + gamma c u' / u),
    u' / u = (1 - 2 t) e r / n.
    """
    cdef real e, l, l_low, r, c, main, rest, n, ratio, high, low, log_n, log_n_low, z, first, second, bound = largest(x) / <real>4
    c = two_classes(x, t, <real>1 - t, slope, &e, &l, &l_low, &r)
    main = <real>1 - t if x > 0 else t
    rest = t if x > 0 else <real>1 - t
    n = rest if main == 0 else main + rest * e
    log_n = log_parts(n, &log_n_low)
    z = absolute(x)
    z = bound if z > bound else z
    high = sum_parts(-z if main == 0 else <real>0, <real>0, -l, -l_low, &low)
    high = sum_parts(high, low, log_n, log_n_low, &low)
    z = gamma * high
    high = decay_parts(z, gamma * low + product_low(gamma, high, z), &low, &first, &second)
    high = (high + low) * (alpha * t + other_alpha * (<real>1 - t))
    ratio = (<real>1 - <real>2 * t) * r * (<real>1 if main == 0 else e) / n
    slope[0] = (slope[0] + gamma * share(ratio, c)) * high * first * second
    return c * high * first * second


# --- Negative log-likelihoods -------------------------------------------------------------------------------------

cdef inline real stirling(real t) noexcept nogil:
    """log(t!) for t > 1: t log(t) - t + log(2 pi t) / 2, else 0."""
    cdef real low, high = log_parts(t, &low)
    high = fused(t + <real>0.5, high, <real>0.9189385332046727 - t) + (t + <real>0.5) * low
    return high if t > 1 else <real>0

cdef inline real poisson_nll(real x, real t, real eps, real* slope) noexcept nogil:
    """exp(x) - t x, whose first term decides at infinity and whose second is 0 for t = 0. No use for eps."""
    cdef real low, high, first, second, s
    if real is float:
        high = exp_parts(clip(x, -<real>104, <real>89), <real>0, wide_magic(x), &s, &low)
    else:
        high = exp_parts(clip(x, -<real>746, <real>710), <real>0, wide_magic(x), &s, &low)
    first = half_power(s, &second)
    high = high * first * second
    low = low * first * second
    slope[0] = (high - t) + low
    s = fused(-t, x, high) + low
    s = high + low if t == 0 else s
    return high - t if high > largest(x) else s

cdef inline real poisson_nll_of_rate(real x, real t, real eps, real* slope) noexcept nogil:
    """x - t log(x + eps), whose first term decides at infinity and whose second is 0 for t = 0."""
    cdef real y = x + eps, low, high = log_parts(y, &low)
    slope[0] = <real>1 if (t == 0) & (x == x) else <real>1 - t / y
    high = x if t == 0 else fused(-t, high, x) - t * low
    return x - t if x > largest(x) else high

cdef inline real poisson_nll_full(real x, real t, real eps, real* slope) noexcept nogil:
    return poisson_nll(x, t, eps, slope) + stirling(t)

cdef inline real poisson_nll_of_rate_full(real x, real t, real eps, real* slope) noexcept nogil:
    return poisson_nll_of_rate(x, t, eps, slope) + stirling(t)

cdef inline real gaussian_nll(real x, real t, real var, real constant, real eps, real* slope, real* var_slope) noexcept nogil:
    """(log(v) + d^2 / v) / 2 + constant, v = max(var, eps), which counts as var in the derivatives."""
    cdef real d = x - t, low, high, v, q
    v = var if var >= 0 else <real>NAN
    v = eps if v < eps else v
    high = log_parts(v, &low)
    q = d / v
    slope[0] = q
    var_slope[0] = fused(-q, d, <real>1) / (v + v)
    return <real>0.5 * (fused(q, d, high) + low) + constant
