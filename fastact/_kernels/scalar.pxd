# cython: language_level=3, cdivision=True
"""Every formula once, for float and double: the function and, next to it, its derivative.

All are branch-free, so that a loop over them vectorises, and use only operations with one defined rounding, so that
a value gets the same bits wherever it stands in an array. Arguments are clamped where the result has reached its
limit; a comparison written ``low if x < low else x`` lets NaN through. ``bench/coefficients.py`` makes the polynomial
coefficients.
"""

cdef extern from "primitives.h" nogil:
    float muladd_f(float, float, float)
    double muladd_d(double, double, double)
    float fused_f(float, float, float)
    double fused_d(double, double, double)
    float sixth_f(float)
    double sixth_d(double)
    float power_of_two_f(float)
    double power_of_two_d(double)
    float half_power_f(float, float*)
    double half_power_d(double, double*)
    float split_f(float, float*)
    double split_d(double, double*)

cdef extern from "<math.h>" nogil:
    const float INFINITY
    const float NAN
    float fabsf(float)
    double fabs(double)
    float sqrtf(float)
    double sqrt(double)
    float copysignf(float, float)
    double copysign(double, double)

ctypedef fused real:
    float
    double


# --- The fused types' spelling of C functions --------------------------------------------------------------------

cdef inline real muladd(real a, real b, real c) noexcept nogil:
    if real is float:
        return muladd_f(a, b, c)
    else:
        return muladd_d(a, b, c)

cdef inline real fused(real a, real b, real c) noexcept nogil:
    """a b + c rounded once: always in float, in double without the instruction only where c is about -a b."""
    if real is float:
        return fused_f(a, b, c)
    else:
        return fused_d(a, b, c)

cdef inline real sixth(real x) noexcept nogil:
    if real is float:
        return sixth_f(x)
    else:
        return sixth_d(x)

cdef inline real absolute(real x) noexcept nogil:
    if real is float:
        return fabsf(x)
    else:
        return fabs(x)

cdef inline real square_root(real x) noexcept nogil:
    if real is float:
        return sqrtf(x)
    else:
        return sqrt(x)

cdef inline real with_sign(real x, real sign) noexcept nogil:
    if real is float:
        return copysignf(x, sign)
    else:
        return copysign(x, sign)

cdef inline real clip(real x, real low, real high) noexcept nogil:
    x = low if x < low else x
    return high if x > high else x


# --- Numbers as high + low, twice as precise (Dekker, Numer. Math. 18, 1971); each returns high -------------------

cdef inline real sum_parts(real a, real a_low, real b, real b_low, real* low) noexcept nogil:
    cdef real high = a + b, share = high - a
    low[0] = ((a - (high - share)) + (b - share)) + (a_low + b_low)
    return high

cdef inline real product_parts(real a, real a_low, real b, real b_low, real* low) noexcept nogil:
    cdef real high = a * b
    low[0] = muladd(a_low, b, muladd(a, b_low, fused(a, b, -high)))
    return high

cdef inline real multiple_parts(real a, real b, real b_low, real* low) noexcept nogil:
    """a (b + b_low); the compiler would not leave a low part of 0 away."""
    cdef real high = a * b
    low[0] = muladd(a, b_low, fused(a, b, -high))
    return high

cdef inline real normalised(real high, real* low) noexcept nogil:
    """The same number with a low part below the last place of the high one."""
    cdef real sum = high + low[0]
    low[0] = low[0] - (sum - high)
    return sum

cdef inline real reciprocal_parts(real d, real d_low, real* low) noexcept nogil:
    cdef real q = <real>1 / d
    low[0] = (fused(-q, d, <real>1) - q * d_low) * q
    return q


# --- Limits -------------------------------------------------------------------------------------------------------

cdef inline real largest(real kind) noexcept nogil:
    if real is float:
        return <real>3.4028234663852886e38
    else:
        return <real>1.7976931348623157e308

cdef inline real tail(real kind) noexcept nogil:
    """Beyond -tail() even x exp(x) is zero; the sum of tail() and its logarithm still fits the scales below."""
    if real is float:
        return 112
    else:
        return 760


# --- The exponential, from which nearly everything is made -------------------------------------------------------

cdef inline real magic(real kind) noexcept nogil:
    """Adding it rounds to an integer, which then stands in the low bits, with the exponent's bias added."""
    if real is float:
        return 12582912 + 127
    else:
        return <real>6755399441055744.0 + 1023

cdef inline real wide_magic(real kind) noexcept nogil:
    """The same with twice the bias, for the two scales of half_power."""
    if real is float:
        return 12582912 + 254
    else:
        return <real>6755399441055744.0 + 2046

cdef inline real power_of_two(real t) noexcept nogil:
    if real is float:
        return power_of_two_f(t)
    else:
        return power_of_two_d(t)

cdef inline real half_power(real t, real* other) noexcept nogil:
    if real is float:
        return half_power_f(t, other)
    else:
        return half_power_d(t, other)

cdef inline real exp_polynomial(real r) noexcept nogil:
    """(exp(r) - 1 - r) / r^2 for |r| <= log(2) / 2."""
    cdef real q
    if real is float:
        q = muladd(r, <real>0.00139412307, <real>0.00836937129)
        q = muladd(r, q, <real>0.041666396)
        q = muladd(r, q, <real>0.166665152)
        return muladd(r, q, <real>0.5)
    else:
        q = muladd(r, <real>2.511513040624762e-08, <real>2.7632935466700194e-07)
        q = muladd(r, q, <real>2.7557225626417084e-06)
        q = muladd(r, q, <real>2.4801485443651228e-05)
        q = muladd(r, q, <real>0.00019841269905930518)
        q = muladd(r, q, <real>0.0013888888951196672)
        q = muladd(r, q, <real>0.00833333333331317)
        q = muladd(r, q, <real>0.04166666666650026)
        q = muladd(r, q, <real>0.16666666666666688)
        return muladd(r, q, <real>0.5000000000000014)

cdef inline real exp_parts(real x, real x_low, real shift, real* t, real* low) noexcept nogil:
    """exp(x + x_low) = 2^n (high + low) with high in [0.7, 1.42]; returns high and leaves n + shift in t.

    Cody and Waite's reduction (1980) in two steps; the second step's rounding error and that of 1 + r are kept, so
    that high + low is good to about 0.02 ULP of float and 0.1 ULP of double.
    """
    cdef real n, a, b, r, q, h, v, high
    if real is float:
        t[0] = muladd(x, <real>1.4426950408889634, shift)
        n = t[0] - shift
        a = muladd(n, -<real>0.693145751953125, x)
        b = muladd(n, -<real>1.428606820309417e-06, x_low)
    else:
        t[0] = muladd(x, <real>1.4426950408889634, shift)
        n = t[0] - shift
        a = muladd(n, -<real>6.93147180369123816490e-01, x)
        b = muladd(n, -<real>1.90821492927058770002e-10, x_low)
    r = a + b
    q = exp_polynomial(r)
    v = muladd(r * r, q, (a - r) + b)
    h = <real>1 + r
    v = v + (r - (h - <real>1))
    high = h + v
    low[0] = v - (high - h)
    return high

cdef inline real brief_exp_parts(real x, real minus_low, real shift, real* t, real* low) noexcept nogil:
    """The same for exp(x - minus_low) to about 0.4 ULP, five operations shorter, where speed counts most."""
    cdef real n, r, p, high
    t[0] = muladd(x, <real>1.4426950408889634, shift)
    n = t[0] - shift
    if real is float:
        r = muladd(n, -<real>1.428606820309417e-06, muladd(n, -<real>0.693145751953125, x)) - minus_low
    else:
        r = muladd(n, -<real>1.90821492927058770002e-10, muladd(n, -<real>6.93147180369123816490e-01, x)) - minus_low
    p = muladd(r * r, exp_polynomial(r), r)
    high = <real>1 + p
    low[0] = p - (high - <real>1)
    return high

cdef inline real exp(real x) noexcept nogil:
    """exp(x), subnormal results included. 0.51 ULP."""
    cdef real t, low, high, first, second
    if real is float:
        x = clip(x, -<real>104, <real>89)
    else:
        x = clip(x, -<real>746, <real>710)
    high = exp_parts(x, <real>0, wide_magic(<real>0), &t, &low)
    first = half_power(t, &second)
    return high * first * second

cdef inline real decay_floor(real kind) noexcept nogil:
    """What the scales of decay_parts can hold; the exponential has long been zero."""
    if real is float:
        return -120
    else:
        return -775

cdef inline real decay_magic(real kind) noexcept nogil:
    """magic() for 2^n / decay_rest()."""
    if real is float:
        return 12582912 + 127 + 48
    else:
        return <real>6755399441055744.0 + 1023 + 100

cdef inline real decay_rest(real kind) noexcept nogil:
    if real is float:
        return <real>3.552713678800501e-15               # 2^-48
    else:
        return <real>7.888609052210118e-31               # 2^-100

cdef inline real decay_parts(real z, real z_low, real* low, real* first, real* second) noexcept nogil:
    """exp(z + z_low) for z <= 0, down to the subnormals, as (high + low) first second; returns high."""
    cdef real t, high
    z = decay_floor(z) if z < decay_floor(z) else z
    high = exp_parts(z, z_low, decay_magic(z), &t, low)
    first[0] = power_of_two(t)
    second[0] = decay_rest(z)
    return high

cdef inline real expm1_parts(real z, real z_low, real* low) noexcept nogil:
    """exp(z + z_low) - 1 for z <= 0 as high + low; returns high.

    With exp = 2^n (1 + r + s): (2^n - 1) + 2^n r is summed without loss, and is r itself near 0.
    """
    cdef real t, n, a, b, r, scale, base, high
    z = -<real>60 if z < -60 else z
    t = muladd(z, <real>1.4426950408889634, magic(<real>0))
    n = t - magic(<real>0)
    if real is float:
        a = muladd(n, -<real>0.693145751953125, z)
        b = muladd(n, -<real>1.428606820309417e-06, z_low)
    else:
        a = muladd(n, -<real>6.93147180369123816490e-01, z)
        b = muladd(n, -<real>1.90821492927058770002e-10, z_low)
    r = a + b
    scale = power_of_two(t)
    base = scale - <real>1
    a = muladd(r * r, exp_polynomial(r), (a - r) + b)
    b = scale * r
    high = base + b
    low[0] = muladd(scale, a, b - (high - base)) + (scale - (base + <real>1))
    return high

cdef inline real product_low(real a, real b, real product) noexcept nogil:
    """a b - product, or 0 where it no longer matters and might not be finite."""
    cdef real low = fused(a, b, -product)
    return low if absolute(low) < <real>0.0001 else 0

cdef inline real times(real beta, real x) noexcept nogil:
    """beta x, 0 for a beta of 0 and an infinite x."""
    cdef real z = beta * x, sum = x + beta               # NaN for either; a test of beta alone would not vectorise
    sum = 0 if sum == sum else sum
    return z if z == z else sum


# --- The logarithm ------------------------------------------------------------------------------------------------

cdef inline real plus_log1p_parts(real base, real base_low, real e, real e_low, real* low) noexcept nogil:
    """base + base_low + log(1 + e + e_low) as high + low, not yet normal, for e from -0.3 to 1; returns high.

    With s = e / (2 + e): log(1 + e) = e - (e^2 / 2 - s (e^2 / 2 + s^2 R(s^2))), FreeBSD's arrangement of log1p
    (s_log1p.c). base + e is summed without loss, so that there is one rounding of note.
    """
    cdef real half = e / <real>2, s = e / (<real>2 + e), q = s * s, p
    if real is float:
        p = muladd(q, <real>0.246528447, <real>0.214033291)
        p = muladd(q, p, <real>0.286122084)
        p = muladd(q, p, <real>0.399992973)
        p = muladd(q, p, <real>0.666666687)
    else:
        p = muladd(q, <real>0.0866223782863425, <real>0.11368505065494938)
        p = muladd(q, p, <real>0.09928589765112027)
        p = muladd(q, p, <real>0.11854289718919273)
        p = muladd(q, p, <real>0.1332568143077735)
        p = muladd(q, p, <real>0.1538500921021188)
        p = muladd(q, p, <real>0.1818180601999046)
        p = muladd(q, p, <real>0.2222222243608845)
        p = muladd(q, p, <real>0.28571428569528645)
        p = muladd(q, p, <real>0.4000000000000653)
        p = muladd(q, p, <real>0.6666666666666666)
    p = muladd(e, half, -s * muladd(e, half, q * p)) - muladd(-e_low, half, e_low)
    return sum_parts(base, base_low, e, -p, low)

cdef inline real split(real x, real* n) noexcept nogil:
    if real is float:
        return split_f(x, n)
    else:
        return split_d(x, n)

cdef inline real log_parts_above_zero(real x, real x_low, real* low) noexcept nogil:
    """log(x + x_low) as high + low for positive finite x; x_low may be other than 0 only for x from 0.5 to 1. Returns high."""
    cdef real n, m = split(x, &n), e, f
    x_low = x_low if n == 0 else x_low + x_low
    f = m - <real>1
    e = f + x_low
    x_low = x_low - (e - f)
    if real is float:
        e = plus_log1p_parts(n * <real>0.693145751953125, n * <real>1.428606820309417e-06, e, x_low, low)
    else:
        e = plus_log1p_parts(n * <real>6.93147180369123816490e-01, n * <real>1.90821492927058770002e-10, e, x_low, low)
    return normalised(e, low)

cdef inline real log_limit(real x) noexcept nogil:
    """What the logarithm is at 0, at infinity and below 0."""
    cdef real limit = -<real>INFINITY if x == 0 else <real>NAN
    return x if x > 0 else limit

cdef inline real log_parts(real x, real* low) noexcept nogil:
    """log(x) as high + low; returns high."""
    cdef real high = log_parts_above_zero(x, <real>0, low)
    low[0] = low[0] if (x > 0) & (x < <real>INFINITY) else 0
    return high if (x > 0) & (x < <real>INFINITY) else log_limit(x)

cdef inline real log(real x) noexcept nogil:
    cdef real low, high = log_parts(x, &low)
    return high + low

cdef inline real log1m(real p) noexcept nogil:
    """log(1 - p) for p from 0 to 1, NaN elsewhere"""
    cdef real low, rest_low, rest = sum_parts(<real>1, <real>0, -p, <real>0, &rest_low)
    low = log_parts_above_zero(rest, rest_low, &rest_low) + rest_low
    return low if (p >= 0) & (p < 1) else log_limit(-<real>1 if p < 0 else rest)


# --- The logistic family ------------------------------------------------------------------------------------------

cdef inline real shrink(real kind) noexcept nogil:
    """2^-k by which 1 + exp(z) is scaled so that it does not overflow where 1 / (1 + exp(z)) is subnormal."""
    if real is float:
        return <real>9.094947017729282e-13
    else:
        return <real>7.888609052210118e-31

cdef inline real shrunk_magic(real kind) noexcept nogil:
    """magic() for 2^n shrink()."""
    if real is float:
        return 12582912 + 127 - 40
    else:
        return <real>6755399441055744.0 + 1023 - 100

cdef inline real logistic_denominator(real z, real z_low, real* low) noexcept nogil:
    """(1 + exp(-z - z_low)) shrink() as high + low; returns high."""
    cdef real t, tail_, scale, grown, c = shrink(<real>0), high, share
    if real is float:
        z = clip(z, -tail(<real>0), <real>60)
    else:
        z = clip(z, -tail(<real>0), <real>600)
    grown = brief_exp_parts(-z, z_low, shrunk_magic(<real>0), &t, &tail_)
    scale = power_of_two(t)
    grown = scale * grown
    high = c + grown
    share = high - c                                     # Knuth's two-sum
    low[0] = muladd(scale, tail_, (c - (high - share)) + (grown - share))
    return high

cdef inline real logistic(real z, real z_low) noexcept nogil:
    """1 / (1 + exp(-z - z_low))"""
    cdef real d, d_low, q, c = shrink(<real>0)
    d = logistic_denominator(z, z_low, &d_low)
    q = c / d
    return muladd(fused(-q, d, c) - q * d_low, q / c, q)

cdef inline real sigmoid(real x) noexcept nogil:
    return logistic(x, <real>0)

cdef inline real falling_logistic(real z, real z_low, real* low, real* scale, real* d, real* d_low) noexcept nogil:
    """exp(z + z_low) as (high + low) scale decay_rest(), and d + d_low = 1 + exp(z + z_low), for z from decay_floor() to 0.

    s(z) is their quotient. Returns high.
    """
    cdef real t, e, whole, high = brief_exp_parts(z, -z_low, decay_magic(z), &t, low)
    scale[0] = power_of_two(t)
    whole = scale[0] * decay_rest(z)
    e = high * whole
    d[0] = <real>1 + e
    d_low[0] = muladd(low[0], whole, e - (d[0] - <real>1))
    return high

cdef inline real over_square(real a, real a_low, real d, real d_low) noexcept nogil:
    """(a + a_low) / (d + d_low)^2, rounded once."""
    cdef real square = d * d, r = <real>1 / square, q = a * r
    cdef real square_low = muladd(d + d, d_low, fused(d, d, -square))
    return muladd(fused(-q, square, a) + muladd(-q, square_low, a_low), r, q)

cdef inline real logistic_density(real z, real factor) noexcept nogil:
    """factor exp(-|z|) / (1 + exp(-|z|))^2"""
    cdef real high, low, scale, d, d_low
    z = -absolute(z)
    high = falling_logistic(decay_floor(z) if z < decay_floor(z) else z, <real>0, &low, &scale, &d, &d_low)
    return over_square(factor * high, factor * low, d, d_low) * scale * decay_rest(z)

cdef inline real sigmoid_derivative(real x) noexcept nogil:
    return logistic_density(x, <real>1)

cdef inline real sigmoid_derivative_from_output(real y) noexcept nogil:
    return fused(-y, y, y)

cdef inline real gated(real x, real z, real z_low) noexcept nogil:
    """x / (1 + exp(-z - z_low)) where |z| is at least about |x|."""
    cdef real d, d_low, r, q, n = clip(x, -tail(<real>0), <real>64)
    d = logistic_denominator(z, z_low, &d_low)
    r = <real>1 / d
    q = n * r
    q = muladd(fused(-q, d, n) - q * d_low, r, q) * shrink(<real>0)
    return x if x > 64 else q

cdef inline real gated_derivative(bint rising, real z, real z_low, real g, real g_low) noexcept nogil:
    """The derivative s(z) (1 + g s(-z)) of x s(z), g = x z' being an odd function, for z from decay_floor() to 0; if rising, for -z.

    It is exp(z) (1 + exp(z) + g) / (1 + exp(z))^2, and for -z what that lacks to 1.
    """
    cdef real high, low, scale, d, d_low, n, n_low
    high = falling_logistic(z, z_low, &low, &scale, &d, &d_low)
    n = sum_parts(d, d_low, g, g_low, &n_low)
    n = product_parts(n, n_low, high, low, &n_low)
    n = over_square(n, n_low, d, d_low) * scale * decay_rest(z)
    return 1 - n if rising else n

cdef inline real falling(real x, real end) noexcept nogil:
    """-|x|, or -end if that is nearer to 0."""
    x = -absolute(x)
    return -end if x < -end else x

cdef inline real silu(real x) noexcept nogil:
    return gated(x, x, <real>0)

cdef inline real silu_derivative(real x) noexcept nogil:
    cdef real z = falling(x, tail(x))
    return gated_derivative(x > 0, z, <real>0, z, <real>0)

cdef inline real wide_floor(real kind) noexcept nogil:
    """What half_power can hold: x exp(beta x) is zero below, but for a huge x and a tiny beta."""
    if real is float:
        return -170
    else:
        return -1400

cdef inline real swish(real x, real beta) noexcept nogil:
    cdef real z = times(beta, x), z_low, high, low, first, second, whole, e, d, d_low, r, q, n, y, t
    z_low = product_low(beta, x, z)
    high = exp_parts(-absolute(z), -z_low if z >= 0 else z_low, wide_magic(z), &t, &low)
    first = half_power(t, &second)
    whole = first * second
    e = high * whole
    d = <real>1 + e
    d_low = muladd(low, whole, e - (d - <real>1))
    n = x if z >= 0 else x * first
    high = 1 if z >= 0 else high
    low = 0 if z >= 0 else low
    second = 1 if z >= 0 else second
    r = <real>1 / d
    q = high * r
    low = muladd(-q, d_low, fused(-q, d, high) + low) * r
    y = fused(n, q, n * low) * second
    y = y if y == y else n + (z - z)                     # an infinite x and a beta of 0
    y = with_sign(<real>0, x) if z < wide_floor(z) else y
    return x if z > 64 else y

cdef inline real swish_derivative(real x, real beta) noexcept nogil:
    cdef real signed = times(beta, x), low = product_low(beta, x, signed), z = falling(signed, tail(x))
    low = -low if signed > 0 else low
    return gated_derivative(signed > 0, z, low, z, low)

cdef inline real quick_argument(real x, real* low) noexcept nogil:
    """1.702 x as high + low; returns high."""
    cdef real c_low
    if real is float:
        c_low = -<real>2.19345093e-08
    else:
        c_low = <real>4.2632564145606012e-17
    return multiple_parts(x, <real>1.702, c_low, low)

cdef inline real gelu_quick(real x) noexcept nogil:
    cdef real z, z_low
    z = quick_argument(clip(x, -tail(x), tail(x)), &z_low)
    return gated(x, z, z_low)

cdef inline real gelu_quick_derivative(real x) noexcept nogil:
    cdef real z, z_low
    z = quick_argument(falling(x, tail(x) / <real>1.7), &z_low)
    return gated_derivative(x > 0, z, z_low, z, z_low)

cdef inline real tanh_argument(real x, real* low, real* cubic, real* cubic_low) noexcept nogil:
    """2 sqrt(2 / pi) (x + 0.044715 x^3) as high + low, for |x| <= 30; cubic is its term in x^3. Returns high."""
    cdef real c_low, k_low, square, square_low
    if real is float:
        c_low = -<real>4.53406804e-08
        k_low = <real>2.39883240e-09
    else:
        c_low = -<real>9.9693088091109203e-17
        k_low = -<real>6.1751499181553155e-19
    square = x * x
    square_low = fused(x, x, -square)
    square = product_parts(square, square_low, <real>0.07135481627260025, k_low, &square_low)
    cubic[0] = multiple_parts(x, square, square_low, cubic_low)
    square = sum_parts(<real>1.5957691216057308, c_low, square, square_low, &square_low)
    return multiple_parts(x, square, square_low, low)

cdef inline real gelu_tanh(real x) noexcept nogil:
    cdef real z, z_low, cubic, cubic_low
    z = tanh_argument(clip(x, -<real>30, <real>30), &z_low, &cubic, &cubic_low)
    return gated(x, z, z_low)

cdef inline real gelu_tanh_reach(real kind) noexcept nogil:
    """The argument there is still above decay_floor()."""
    if real is float:
        return <real>11.1
    else:
        return <real>21.8

cdef inline real gelu_tanh_derivative(real x) noexcept nogil:
    """x z' = z + 2 cubic"""
    cdef real z, z_low, cubic, cubic_low, g, g_low
    z = tanh_argument(falling(x, gelu_tanh_reach(x)), &z_low, &cubic, &cubic_low)
    g = sum_parts(z, z_low, <real>2 * cubic, <real>2 * cubic_low, &g_low)
    return gated_derivative(x > 0, z, z_low, g, g_low)


# --- tanh ---------------------------------------------------------------------------------------------------------

cdef inline real tanh_parts(real x, real* low) noexcept nogil:
    """tanh(|x|) = -m / (2 + m), m = exp(-2|x|) - 1, as high + low; returns high."""
    cdef real m, m_low, d, d_low, r, q
    r = expm1_parts(-<real>2 * absolute(x), <real>0, &m_low)
    m = r + m_low
    m_low = m_low - (m - r)
    d = <real>2 + m
    d_low = (m - (d - <real>2)) + m_low
    r = <real>1 / d
    q = -m * r
    low[0] = ((fused(-q, d, -m) - m_low) - q * d_low) * r
    return q

cdef inline real tanh(real x) noexcept nogil:
    cdef real low, high = tanh_parts(x, &low)
    return with_sign(high + low, x)

cdef inline real tanh_derivative(real x) noexcept nogil:
    return logistic_density(<real>2 * x, <real>4)

cdef inline real tanh_derivative_from_output(real y) noexcept nogil:
    return fused(-y, y, <real>1)

cdef inline real tanhshrink(real x) noexcept nogil:
    cdef real z = x * x, p, low, high = tanh_parts(x, &low), a = absolute(x), cube, start, product
    if real is float:
        p = muladd(z, -<real>0.00309422659, <real>0.00907383673)
        p = muladd(z, p, -<real>0.0220028125)
        p = muladd(z, p, <real>0.0539901331)
        p = muladd(z, p, -<real>0.133334488)
        start = <real>0.333333343
    else:
        p = muladd(z, -<real>4.315098928499881e-06, <real>2.690254342857894e-05)
        p = muladd(z, p, -<real>8.889280565502712e-05)
        p = muladd(z, p, <real>0.0002358110583806022)
        p = muladd(z, p, -<real>0.0005891257576467954)
        p = muladd(z, p, <real>0.0014556720631454677)
        p = muladd(z, p, -<real>0.003592108916960692)
        p = muladd(z, p, <real>0.008863234108600723)
        p = muladd(z, p, -<real>0.021869488473975296)
        p = muladd(z, p, <real>0.053968253966849095)
        p = muladd(z, p, -<real>0.13333333333332087)
        start = <real>0.3333333333333333
    cube = z * x
    product = muladd(z, p, start)
    p = muladd(z, p, start - product)
    z = fused(z, x, -cube) + fused(x, x, -z) * x
    z = muladd(cube, product, muladd(cube, p, z * product))
    return with_sign(z if a < <real>0.6 else (a - high) - low, x)

cdef inline real tanhshrink_derivative(real x) noexcept nogil:
    cdef real low, high = tanh_parts(x, &low), y = high + low
    return fused(y, y, <real>2 * y * (low - (y - high)))


# --- The exponential-linear family --------------------------------------------------------------------------------

cdef inline real elu(real x, real alpha) noexcept nogil:
    cdef real low, high = expm1_parts(0 if x > 0 else x, <real>0, &low)
    return x if x > 0 else fused(alpha, high, alpha * low)

cdef inline real elu_derivative(real x, real alpha) noexcept nogil:
    cdef real low, first, second, high
    high = decay_parts(0 if x > 0 else x, <real>0, &low, &first, &second)
    return 1 if x > 0 else alpha * high * first * second

cdef inline real elu_derivative_from_output(real y, real alpha) noexcept nogil:
    return 1 if y > 0 else y + alpha

cdef inline real selu(real x) noexcept nogil:
    cdef real low, high = expm1_parts(0 if x > 0 else x, <real>0, &low)
    cdef real scale = <real>1.0507009873554805, scale_low, both = <real>1.7580993408473766, both_low
    if real is float:
        scale_low = <real>(1.0507009873554805 - <double><float>1.0507009873554805)
        both_low = <real>(1.7580993408473766 - <double><float>1.7580993408473766)
    else:
        both_low = <real>5.75014648756476e-17
    if real is float:
        x = fused(scale, x, scale_low * clip(x, <real>0, largest(x))) if x > 0 else x
    else:
        x = scale * x if x > 0 else x
    return x if x > 0 else fused(both, high, muladd(both, low, both_low * high))

cdef inline real selu_derivative(real x) noexcept nogil:
    cdef real low, first, second, high
    high = decay_parts(0 if x > 0 else x, <real>0, &low, &first, &second)
    return <real>1.0507009873554805 if x > 0 else <real>1.7580993408473766 * high * first * second

cdef inline real selu_derivative_from_output(real y) noexcept nogil:
    return <real>1.0507009873554805 if y > 0 else y + <real>1.7580993408473766

cdef inline real quotient(real x, real alpha, real* low) noexcept nogil:
    cdef real z = x / alpha
    low[0] = fused(-z, alpha, x) / alpha if absolute(z) < 2000 else 0
    return z

cdef inline real nothing_beside_one(real kind) noexcept nogil:
    if real is float:
        return <real>7.450580596923828e-09               # 2^-27
    else:
        return <real>5.551115123125783e-17               # 2^-54

cdef inline real celu(real x, real alpha) noexcept nogil:
    cdef real z, z_low, low, high
    z = quotient(x, alpha, &z_low)
    z = 0 if x > 0 else z
    high = expm1_parts(z, 0 if x > 0 else z_low, &low)
    # Where z is subnormal, x need not be.
    return x if absolute(z) < nothing_beside_one(z) else fused(alpha, high, alpha * low)

cdef inline real celu_derivative(real x, real alpha) noexcept nogil:
    cdef real z, z_low, low, first, second, high
    z = quotient(x, alpha, &z_low)
    high = decay_parts(0 if x > 0 else z, 0 if x > 0 else z_low, &low, &first, &second)
    return 1 if x > 0 else high * first * second

cdef inline real celu_derivative_from_output(real y, real alpha) noexcept nogil:
    return 1 if y > 0 else 1 + y / alpha


# --- gelu ---------------------------------------------------------------------------------------------------------

cdef inline real scaled_tail(real t, real* low) noexcept nogil:
    """Phi(-t) exp(t^2 / 2) for t <= 1.25 as high + low; returns high."""
    cdef real p, start, start_low, slope, high
    if real is float:
        p = muladd(t, <real>8.59082065e-05, -<real>0.000731274195)
        p = muladd(t, p, <real>0.00318445242)
        p = muladd(t, p, -<real>0.0100009255)
        p = muladd(t, p, <real>0.0264243092)
        p = muladd(t, p, -<real>0.0624590516)
        p = muladd(t, p, <real>0.132975772)
        p = muladd(t, p, -<real>0.249999762)
        start = <real>0.3989422785302972
        start_low = <real>(0.3989422785302972 - <double><float>0.3989422785302972)
    else:
        p = muladd(t, <real>2.2049102049150642e-09, -<real>2.7446724296500908e-08)
        p = muladd(t, p, <real>1.7375941459367484e-07)
        p = muladd(t, p, -<real>7.877649696839589e-07)
        p = muladd(t, p, <real>3.0449526615942624e-06)
        p = muladd(t, p, -<real>1.1023442975946339e-05)
        p = muladd(t, p, <real>3.857270271217205e-05)
        p = muladd(t, p, -<real>0.000130358010104737)
        p = muladd(t, p, <real>0.00042224292606218297)
        p = muladd(t, p, -<real>0.0013021152580837366)
        p = muladd(t, p, <real>0.003799459092424656)
        p = muladd(t, p, -<real>0.01041666833449312)
        p = muladd(t, p, <real>0.026596152233735505)
        p = muladd(t, p, -<real>0.06250000001554151)
        p = muladd(t, p, <real>0.1329807601344257)
        p = muladd(t, p, -<real>0.25000000000000966)
        start = <real>0.3989422804014327
        start_low = 0
    slope = muladd(t, p, start)
    p = muladd(t, p, start - slope) + start_low
    high = muladd(-t, slope, <real>0.5)
    low[0] = muladd(-t, slope, <real>0.5 - high) - t * p
    return high

cdef inline real tail_product(real t, real* low) noexcept nogil:
    """t Phi(-t) exp(t^2 / 2) as high + low for t >= 1.25; returns high.

    A polynomial in u = (t - 5) / (t + 5), the variable of Shepherd & Laframboise (Math. Comp. 36, 1981): the product
    changes little with u, so that the rounding of u is hardly felt (nearer 0 it would cost several ULP).
    """
    cdef real u, u_low, p, start, start_low, high
    u = sum_parts(t, <real>0, <real>5, <real>0, &p)
    u = reciprocal_parts(u, p, &u_low)
    u = product_parts(-<real>10, <real>0, u, u_low, &u_low)
    u = sum_parts(<real>1, <real>0, u, u_low, &u_low)
    if real is float:
        p = muladd(u, -<real>0.0015843471, <real>0.00882507861)
        p = muladd(u, p, -<real>0.0242778528)
        p = muladd(u, p, <real>0.0479648262)
        p = muladd(u, p, -<real>0.0742400736)
        p = muladd(u, p, <real>0.0908852592)
        p = muladd(u, p, -<real>0.0850392208)
        p = muladd(u, p, <real>0.051905293)
        start = <real>0.38459653074661404
        start_low = <real>(0.38459653074661404 - <double><float>0.38459653074661404)
    else:
        p = muladd(u, -<real>1.6656011148864982e-08, -<real>1.9707872863361118e-08)
        p = muladd(u, p, <real>2.098425376134865e-07)
        p = muladd(u, p, <real>6.112562451681882e-08)
        p = muladd(u, p, -<real>1.534707040592245e-06)
        p = muladd(u, p, <real>5.967525681612616e-07)
        p = muladd(u, p, <real>1.032414773137219e-05)
        p = muladd(u, p, -<real>1.653733813674459e-05)
        p = muladd(u, p, -<real>5.456765350884231e-05)
        p = muladd(u, p, <real>0.0002427608967559521)
        p = muladd(u, p, -<real>0.00012648540451900105)
        p = muladd(u, p, -<real>0.001895622983499085)
        p = muladd(u, p, <real>0.008900845036090897)
        p = muladd(u, p, -<real>0.024161785960618083)
        p = muladd(u, p, <real>0.04795086373094222)
        p = muladd(u, p, -<real>0.07425639525018995)
        p = muladd(u, p, <real>0.09088622964936267)
        p = muladd(u, p, -<real>0.08503844346004386)
        p = muladd(u, p, <real>0.05190527343000293)
        start = <real>0.3845965248750315
        start_low = 0
    high = muladd(u, p, start)
    p = muladd(u, p, start - high)
    # The slope at u, roughly, is all that u_low needs.
    low[0] = p + muladd(u_low, muladd(u, muladd(u, <real>0.27, -<real>0.17), <real>0.05), start_low)
    return high

cdef inline real gelu_reach(real kind) noexcept nogil:
    """gelu(-x) and its derivative are zero beyond."""
    if real is float:
        return 15
    else:
        return <real>39.5

cdef inline real bell_low(real kind) noexcept nogil:
    """1 / sqrt(2 pi), less its rounded value."""
    if real is float:
        return -<real>1.13351701e-08
    else:
        return -<real>2.49232720e-17

cdef inline real tail_parts(real t, real square, real square_low, real* low, real* e, real* first, real* second) noexcept nogil:
    """t Phi(-t) = (high + low) (1 + e) first second, where (1 + e) first second is exp(-t^2 / 2); returns high."""
    cdef real high, far, far_low
    high = decay_parts(-square / <real>2, -square_low / <real>2, low, first, second)
    e[0] = low[0] + (high - <real>1)
    far = tail_product(t, &far_low)
    high = scaled_tail(t, low)
    high = multiple_parts(t, high, low[0], low)
    low[0] = low[0] if t < <real>1.25 else far_low
    return high if t < <real>1.25 else far

cdef inline real gelu(real x) noexcept nogil:
    """max(x, 0) - |x| Phi(-|x|)"""
    cdef real t = absolute(x), square, high, low, e, first, second
    t = gelu_reach(t) if t > gelu_reach(t) else t
    square = t * t
    high = tail_parts(t, square, fused(t, t, -square), &low, &e, &first, &second)
    high = (high + muladd(high, e, low)) * first * second
    return x - high if x > 0 else -high

cdef inline real gelu_derivative(real x) noexcept nogil:
    """Phi(-t) - t phi(t), from 1 for x > 0; multiplied by t until the end."""
    cdef real t = absolute(x), square, square_low, high, low, e, first, second
    t = clip(t, <real>1e-18, gelu_reach(t))
    square = t * t
    square_low = fused(t, t, -square)
    high = tail_parts(t, square, square_low, &low, &e, &first, &second)
    square = product_parts(square, square_low, <real>0.3989422804014327, bell_low(t), &square_low)
    high = sum_parts(high, low, -square, -square_low, &low)
    high = (high + muladd(high, e, low)) / t * first * second
    high = <real>1 - high if x > 0 else high
    return high if x == x else x


# --- Logarithms of the exponential --------------------------------------------------------------------------------

cdef inline real plus_log1p_exp(real base, real base_low, real z, real z_low) noexcept nogil:
    """base + base_low + log(1 + exp(z + z_low)) for z <= 0"""
    cdef real high, low, first, second
    high = decay_parts(z, z_low, &low, &first, &second)
    high = plus_log1p_parts(base, base_low, high * first * second, low * first * second, &low)
    return high + low

cdef inline real softplus(real x, real beta) noexcept nogil:
    cdef real z = times(beta, x), z_low = product_low(beta, x, z), far = tail(x), y, low, first, second, near_zero
    y = clip(z, <real>0, far)
    y = plus_log1p_exp(y, z_low if z > 0 else 0, -absolute(z), -z_low if z > 0 else z_low) / beta
    # log(1 + e) = e down there; dividing before the last scaling keeps what a small beta brings back from the subnormals.
    near_zero = decay_parts(-absolute(z), -z_low if z > 0 else z_low, &low, &first, &second) / beta * first * second
    y = near_zero if z < -40 else y
    return x if z > far else y

cdef inline real softplus_derivative(real x, real beta) noexcept nogil:
    cdef real z = times(beta, x)
    return logistic(z, product_low(beta, x, z))

cdef inline real softplus_derivative_from_output(real y, real beta) noexcept nogil:
    cdef real z = -beta * y, z_low = product_low(-beta, y, z), low, high
    high = expm1_parts(0 if z > 0 else z, 0 if z > 0 else z_low, &low)
    return -high - low

cdef inline real logsigmoid(real x) noexcept nogil:
    cdef real y = -plus_log1p_exp(clip(-x, <real>0, tail(x)), <real>0, -absolute(x), <real>0)
    return x if x < -tail(x) else y

cdef inline real logsigmoid_derivative(real x) noexcept nogil:
    return logistic(-x, <real>0)

cdef inline real logsigmoid_derivative_from_output(real y) noexcept nogil:
    cdef real low, high = expm1_parts(0 if y > 0 else y, <real>0, &low)
    return -high - low


# --- mish: x n / (n + 2), n = exp(x) (exp(x) + 2) -----------------------------------------------------------------

cdef inline real mish_reach(real kind) noexcept nogil:
    """mish(x) is x beyond."""
    if real is float:
        return 20
    else:
        return 40

cdef inline void mish_parts(real x, real* high, real* low, real* first, real* second, real* a, real* a_low, real* r, real* r_low) noexcept nogil:
    """exp(x) = (high + low) first second; a = exp(x) + 2; r = 1 / (n + 2)."""
    cdef real t, e, e_low
    high[0] = exp_parts(x, <real>0, wide_magic(x), &t, low)
    first[0] = half_power(t, second)
    e = high[0] * first[0] * second[0]
    e_low = low[0] * first[0] * second[0]
    a[0] = sum_parts(e, e_low, <real>2, <real>0, a_low)
    r[0] = product_parts(e, e_low, a[0], a_low[0], r_low)
    r[0] = sum_parts(r[0], r_low[0], <real>2, <real>0, r_low)
    r[0] = reciprocal_parts(r[0], r_low[0], r_low)

cdef inline real mish(real x) noexcept nogil:
    cdef real high, low, first, second, a, a_low, r, r_low, y = clip(x, -tail(x), mish_reach(x))
    mish_parts(y, &high, &low, &first, &second, &a, &a_low, &r, &r_low)
    a = product_parts(a, a_low, high, low, &a_low)
    a = product_parts(a, a_low, r, r_low, &a_low)
    a = fused(y, a, y * a_low) * first * second
    return x if x > mish_reach(x) else a

cdef inline real mish_derivative(real x) noexcept nogil:
    """exp(x) r (a + 4 x (1 + exp(x)) r)"""
    cdef real high, low, first, second, a, a_low, r, r_low, v, v_low, y = clip(x, -tail(x), mish_reach(x))
    mish_parts(y, &high, &low, &first, &second, &a, &a_low, &r, &r_low)
    v = sum_parts(a, a_low, -<real>1, <real>0, &v_low)
    v = product_parts(v, v_low, <real>4 * y, <real>0, &v_low)
    v = product_parts(v, v_low, r, r_low, &v_low)
    v = sum_parts(a, a_low, v, v_low, &v_low)
    v = product_parts(v, v_low, r, r_low, &v_low)
    v = fused(high, v, muladd(high, v_low, low * v)) * first * second
    return 1 if x > mish_reach(x) else v


# --- Algebraic and piecewise linear -------------------------------------------------------------------------------

cdef inline real step(bint inside, real x, real slope) noexcept nogil:
    """slope where inside, else 0; NaN for NaN."""
    slope = slope if inside else 0
    return slope if x == x else x

cdef inline real identity(real x) noexcept nogil:
    return x

cdef inline real identity_derivative(real x) noexcept nogil:
    return step(x == x, x, <real>1)

cdef inline real identity_derivative_from_output(real y) noexcept nogil:
    return step(y == y, y, <real>1)

cdef inline real relu(real x) noexcept nogil:
    return 0 if x < 0 else x

cdef inline real relu_derivative(real x) noexcept nogil:
    return step(x > <real>0, x, <real>1)

cdef inline real relu_derivative_from_output(real y) noexcept nogil:
    return step(y > <real>0, y, <real>1)

cdef inline real relu6(real x) noexcept nogil:
    return clip(x, <real>0, <real>6)

cdef inline real relu6_derivative(real x) noexcept nogil:
    return step((x > 0) & (x < 6), x, <real>1)

cdef inline real relu6_derivative_from_output(real y) noexcept nogil:
    return step((y > 0) & (y < 6), y, <real>1)

cdef inline real leaky_relu(real x, real negative_slope) noexcept nogil:
    cdef real y = negative_slope * x
    y = -negative_slope if (y != y) & (x == x) else y    # a slope of 0 at -inf
    return x if x > 0 else y

cdef inline real leaky_relu_derivative(real x, real negative_slope) noexcept nogil:
    negative_slope = 1 if x > 0 else negative_slope
    return negative_slope if x == x else x

cdef inline real leaky_relu_derivative_from_output(real y, real negative_slope) noexcept nogil:
    return leaky_relu_derivative(y, negative_slope)

cdef inline real prelu(real x, real weight) noexcept nogil:
    return leaky_relu(x, weight)

cdef inline real prelu_derivative(real x, real weight) noexcept nogil:
    return leaky_relu_derivative(x, weight)

cdef inline real rrelu(real x, real lower, real upper) noexcept nogil:
    return leaky_relu(x, (lower + upper) / <real>2)

cdef inline real rrelu_derivative(real x, real lower, real upper) noexcept nogil:
    return leaky_relu_derivative(x, (lower + upper) / <real>2)

cdef inline real rrelu_derivative_from_output(real y, real lower, real upper) noexcept nogil:
    return rrelu_derivative(y, lower, upper)

cdef inline real relu_squared(real x) noexcept nogil:
    return relu(x) * relu(x)

cdef inline real relu_squared_derivative(real x) noexcept nogil:
    return <real>2 * relu(x)

cdef inline real softsign(real x) noexcept nogil:
    cdef real d, d_low, q
    x = clip(x, -<real>0.25 * largest(x), <real>0.25 * largest(x))
    d = sum_parts(absolute(x), <real>0, <real>1, <real>0, &d_low)
    q = reciprocal_parts(d, d_low, &d_low)
    return fused(x, q, x * d_low)

cdef inline real softsign_derivative(real x) noexcept nogil:
    cdef real d, d_low, q
    d = sum_parts(clip(absolute(x), <real>0, <real>0.25 * largest(x)), <real>0, <real>1, <real>0, &d_low)
    q = reciprocal_parts(d, d_low, &d_low)
    return fused(q, q, <real>2 * q * d_low)

cdef inline real softshrink(real x, real lambd) noexcept nogil:
    return x - clip(x, -lambd, lambd)

cdef inline real softshrink_derivative(real x, real lambd) noexcept nogil:
    return step(absolute(x) > lambd, x, <real>1)

cdef inline real hardshrink(real x, real lambd) noexcept nogil:
    return 0 if absolute(x) <= lambd else x

cdef inline real hardshrink_derivative(real x, real lambd) noexcept nogil:
    return step(absolute(x) > lambd, x, <real>1)

cdef inline real threshold(real x, real threshold, real value) noexcept nogil:
    return value if x <= threshold else x

cdef inline real threshold_derivative(real x, real threshold, real value) noexcept nogil:
    return step(x > threshold, x, <real>1)

cdef inline real hardtanh(real x, real min_val, real max_val) noexcept nogil:
    return clip(x, min_val, max_val)

cdef inline real hardtanh_derivative(real x, real min_val, real max_val) noexcept nogil:
    return step((x > min_val) & (x < max_val), x, <real>1)

cdef inline real hardtanh_derivative_from_output(real y, real min_val, real max_val) noexcept nogil:
    return hardtanh_derivative(y, min_val, max_val)

cdef inline real hardsigmoid(real x, real alpha, real beta) noexcept nogil:
    return clip(alpha * x + beta, <real>0, <real>1)      # rounded twice, so that alpha = 1/6 gives 0 at -3

cdef inline real hardsigmoid_derivative(real x, real alpha, real beta) noexcept nogil:
    cdef real y = alpha * x + beta
    return step((y > 0) & (y < 1), x, alpha)

cdef inline real hardswish(real x) noexcept nogil:
    cdef real sum = x + <real>3, share = x - (sum - <real>3)
    return -<real>0.0 if x <= -3 else (x if x >= 3 else sixth(fused(x, sum, x * share)))

cdef inline real hardswish_derivative(real x) noexcept nogil:
    return 0 if x <= -3 else (1 if x >= 3 else sixth(<real>2 * x + <real>3))

cdef inline real squareplus_parts(real x, real b, real* low, real* root, real* root_low, real* inverse) noexcept nogil:
    """The function as high + low, without the cancellation of x + root for x < 0; root = sqrt(x^2 + b) too, and 1 / root. Returns high."""
    cdef real a = absolute(x), near = <real>1e18 if a > <real>1e18 else a, square = near * near, sum = square + b
    cdef real share = sum - square, h, h_low, q, y
    share = ((square - (sum - share)) + (b - share)) + fused(near, near, -square)
    root[0] = square_root(sum)
    h_low = fused(-root[0], root[0], sum) + share
    h = near + root[0]
    y = near - (h - root[0])
    # Past 1e18 nothing is left of b, but for x < 0.
    root[0] = a if a > <real>1e18 else root[0]
    h = a if a > <real>1e18 else h / <real>2
    inverse[0] = <real>1 / (<real>INFINITY if sum == 0 else root[0])
    root_low[0] = h_low * (inverse[0] / <real>2)
    h_low = (y + root_low[0]) / <real>2
    q = b / <real>4 / (<real>INFINITY if sum == 0 else h)
    # What rounding took from that, times 1 / h = 2 / (root + a), to a hundredth: a quadratic of a / root, divided by root.
    y = a * inverse[0]
    y = muladd(y, muladd(y, <real>0.646, -<real>1.616), <real>1.98) * inverse[0]
    y = (fused(-q, h, b / <real>4) - q * h_low) * y
    y = 0 if a > <real>1e18 else y
    low[0] = y if x < 0 else h_low
    return q if x < 0 else h

cdef inline real squareplus(real x, real b) noexcept nogil:
    cdef real low, root, root_low, inverse, high = squareplus_parts(x, b, &low, &root, &root_low, &inverse)
    return high + low

cdef inline real squareplus_derivative(real x, real b) noexcept nogil:
    cdef real low, root, root_low, inverse, high = squareplus_parts(x, b, &low, &root, &root_low, &inverse), q
    q = high * inverse
    q = muladd(fused(-q, root, high) + muladd(-q, root_low, low), inverse, q)
    q = 0 if absolute(x) == <real>INFINITY else q
    return 1 if x > <real>1e18 else q


# --- Gated: act(gate) up ------------------------------------------------------------------------------------------

cdef inline real unless_shut(bint shut, real b, real y) noexcept nogil:
    """y, but 0 where the gate lets nothing of b through, were it infinite."""
    return 0 if shut & (b == b) else y

cdef inline real glu(real value, real gate) noexcept nogil:
    return unless_shut(gate < -tail(gate), value, value * sigmoid(gate))

cdef inline void glu_backward(real grad, real value, real gate, real* grad_value, real* grad_gate) noexcept nogil:
    cdef real both = grad * value
    grad_value[0] = unless_shut(gate < -tail(gate), grad, grad * sigmoid(gate))
    grad_gate[0] = unless_shut(absolute(gate) > tail(gate), both, both * sigmoid_derivative(gate))

cdef inline real swiglu(real gate, real up) noexcept nogil:
    return unless_shut(gate < -tail(gate), up, silu(gate) * up)

cdef inline void swiglu_backward(real grad, real gate, real up, real* grad_gate, real* grad_up) noexcept nogil:
    cdef real both = grad * up
    grad_gate[0] = unless_shut(gate < -tail(gate), both, both * silu_derivative(gate))
    grad_up[0] = unless_shut(gate < -tail(gate), grad, grad * silu(gate))

cdef inline real normal_reach(real kind) noexcept nogil:
    """gelu(-x) and its derivative are zero beyond."""
    if real is float:
        return <real>14.9
    else:
        return <real>38.9

cdef inline real geglu(real gate, real up) noexcept nogil:
    return unless_shut(gate < -normal_reach(gate), up, gelu(gate) * up)

cdef inline void geglu_backward(real grad, real gate, real up, real* grad_gate, real* grad_up) noexcept nogil:
    cdef real both = grad * up
    grad_gate[0] = unless_shut(gate < -normal_reach(gate), both, both * gelu_derivative(gate))
    grad_up[0] = unless_shut(gate < -normal_reach(gate), grad, grad * gelu(gate))

cdef inline real passed(real gate, real a, real b) noexcept nogil:
    """a b where gate > 0, else 0; NaN for NaN."""
    cdef real closed = 0 if (a == a) & (b == b) else a + b
    closed = a * b if gate > 0 else closed
    return closed if gate == gate else gate

cdef inline real reglu(real gate, real up) noexcept nogil:
    return passed(gate, gate, up)

cdef inline void reglu_backward(real grad, real gate, real up, real* grad_gate, real* grad_up) noexcept nogil:
    grad_gate[0] = passed(gate, grad, up)
    grad_up[0] = passed(gate, grad, gate)
