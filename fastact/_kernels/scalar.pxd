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
    float residual_f(float, float, float)
    double residual_d(double, double, double)
    float power_of_two_f(float)
    double power_of_two_d(double)
    float half_power_f(float, float*)
    double half_power_d(double, double*)

cdef extern from "<math.h>" nogil:
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

cdef inline real residual(real a, real b, real c) noexcept nogil:
    """a b + c, exact where c is about -a b."""
    if real is float:
        return residual_f(a, b, c)
    else:
        return residual_d(a, b, c)

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
    if real is float:
        q = muladd(r, <real>0.00139412307, <real>0.00836937129)
        q = muladd(r, q, <real>0.041666396)
        q = muladd(r, q, <real>0.166665152)
        q = muladd(r, q, <real>0.5)
    else:
        q = muladd(r, <real>2.511513040624762e-08, <real>2.7632935466700194e-07)
        q = muladd(r, q, <real>2.7557225626417084e-06)
        q = muladd(r, q, <real>2.4801485443651228e-05)
        q = muladd(r, q, <real>0.00019841269905930518)
        q = muladd(r, q, <real>0.0013888888951196672)
        q = muladd(r, q, <real>0.00833333333331317)
        q = muladd(r, q, <real>0.04166666666650026)
        q = muladd(r, q, <real>0.16666666666666688)
        q = muladd(r, q, <real>0.5000000000000014)
    v = muladd(r * r, q, (a - r) + b)
    h = 1 + r
    v = v + (r - (h - 1))
    high = h + v
    low[0] = v - (high - h)
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
    """What the two scales of half_power can hold; the exponential has long been zero."""
    if real is float:
        return -170
    else:
        return -1400

cdef inline real decay_parts(real z, real z_low, real* low, real* first, real* second) noexcept nogil:
    """exp(z + z_low) for z <= 0, down to the subnormals, as (high + low) first second; returns high."""
    cdef real t, high
    z = decay_floor(z) if z < decay_floor(z) else z
    high = exp_parts(z, z_low, wide_magic(<real>0), &t, low)
    first[0] = half_power(t, second)
    return high

cdef inline real expm1_parts(real z, real z_low, real* low) noexcept nogil:
    """exp(z + z_low) - 1 for z <= 0 as high + low; returns high."""
    cdef real t, tail_, high, scale, scaled
    z = -<real>60 if z < -60 else z
    high = exp_parts(z, z_low, magic(<real>0), &t, &tail_)
    scale = power_of_two(t)
    scaled = scale * high
    high = scaled - 1
    low[0] = (scaled - (high + 1)) + scale * tail_
    return high

cdef inline real product_low(real a, real b, real product) noexcept nogil:
    """a b - product, or 0 where the product has overflowed."""
    cdef real low = residual(a, b, -product)
    return low if absolute(product) < largest(<real>0) else 0


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
    """(1 + exp(z + z_low)) shrink() as high + low; returns high."""
    cdef real t, tail_, scale, grown, c = shrink(<real>0), high, share
    if real is float:
        z = clip(z, -<real>60, tail(<real>0))
    else:
        z = clip(z, -<real>600, tail(<real>0))
    grown = exp_parts(z, z_low, shrunk_magic(<real>0), &t, &tail_)
    scale = power_of_two(t)
    grown = scale * grown
    high = c + grown
    share = high - c                                     # Knuth's two-sum
    low[0] = ((c - (high - share)) + (grown - share)) + scale * tail_
    return high

cdef inline real logistic(real z, real z_low) noexcept nogil:
    """1 / (1 + exp(-z - z_low))"""
    cdef real d, d_low, q, c = shrink(<real>0)
    d = logistic_denominator(-z, -z_low, &d_low)
    q = c / d
    return muladd(residual(-q, d, c) - q * d_low, q / c, q)

cdef inline real sigmoid(real x) noexcept nogil:
    return logistic(x, <real>0)

cdef inline real logistic_density(real z, real factor) noexcept nogil:
    """factor exp(-|z|) / (1 + exp(-|z|))^2"""
    cdef real high, low, first, second, d, d_low, q, e
    high = decay_parts(-absolute(z), <real>0, &low, &first, &second)
    e = high * first * second
    d = 1 + e
    d_low = (e - (d - 1)) + low * first * second
    q = 1 / d
    q = muladd(residual(-q, d, <real>1) - q * d_low, q, q)
    return (high + low) * q * q * factor * first * second

cdef inline real sigmoid_derivative(real x) noexcept nogil:
    return logistic_density(x, <real>1)

cdef inline real sigmoid_derivative_from_output(real y) noexcept nogil:
    return y * (1 - y)

cdef inline real gated(real x, real z, real z_low) noexcept nogil:
    """x / (1 + exp(-z - z_low)) where |z| is at least about |x|."""
    cdef real d, d_low, r, q, n = -tail(<real>0) if x < -tail(<real>0) else x
    d = logistic_denominator(-z, -z_low, &d_low)
    r = 1 / d
    q = n * r
    q = muladd(residual(-q, d, n) - q * d_low, r, q) * shrink(<real>0)
    return x if x > 64 else q

cdef inline real gated_derivative(real z, real z_low, real g) noexcept nogil:
    """s(z) (1 + g s(-z)), the derivative of x s(z) with g = x z'."""
    cdef real high, low, first, second, e, d, d_low, q, y
    z = clip(z, decay_floor(z), -decay_floor(z))
    high = decay_parts(-absolute(z), -z_low if z > 0 else z_low, &low, &first, &second)
    e = high * first * second
    d = 1 + e
    d_low = (e - (d - 1)) + low * first * second
    q = 1 / d
    q = muladd(residual(-q, d, <real>1) - q * d_low, q, q)
    y = muladd(g * q, e if z > 0 else 1, <real>1)
    high = 1 if z > 0 else high
    first = 1 if z > 0 else first
    second = 1 if z > 0 else second
    return (q * high) * y * first * second

cdef inline real silu(real x) noexcept nogil:
    return gated(x, x, <real>0)

cdef inline real silu_derivative(real x) noexcept nogil:
    return gated_derivative(x, <real>0, clip(x, -tail(<real>0), tail(<real>0)))

cdef inline real swish(real x, real beta) noexcept nogil:
    cdef real z = beta * x, z_low, high, low, first, second, e, d, d_low, q, n
    z_low = product_low(beta, x, z)
    high = decay_parts(-absolute(z), -z_low if z > 0 else z_low, &low, &first, &second)
    e = high * first * second
    d = 1 + e
    d_low = (e - (d - 1)) + low * first * second
    n = x if z > 0 else clip(x, -largest(<real>0), largest(<real>0)) * first
    high = 1 if z > 0 else high
    low = 0 if z > 0 else low
    q = high / d
    low = (residual(-q, d, high) + (low - q * d_low)) / d
    second = 1 if z > 0 else (0 if z < decay_floor(z) else second)
    e = muladd(n, q, n * low) * second
    return x if z > 64 else e

cdef inline real swish_derivative(real x, real beta) noexcept nogil:
    cdef real z = beta * x
    return gated_derivative(z, product_low(beta, x, z), clip(z, -tail(<real>0), tail(<real>0)))

cdef inline real quick_argument(real x, real* low) noexcept nogil:
    cdef real z
    x = clip(x, -tail(<real>0), tail(<real>0))
    if real is float:
        z = <real>1.702 * x
        low[0] = muladd(<real>(1.702 - <double><float>1.702), x, residual(<real>1.702, x, -z))
    else:
        z = <real>1.702 * x
        low[0] = residual(<real>1.702, x, -z)
    return z

cdef inline real gelu_quick(real x) noexcept nogil:
    cdef real z, z_low
    z = quick_argument(x, &z_low)
    return gated(x, z, z_low)

cdef inline real gelu_quick_derivative(real x) noexcept nogil:
    cdef real z, z_low
    z = quick_argument(x, &z_low)
    return gated_derivative(z, z_low, z)

cdef inline real tanh_argument(real x, real* low) noexcept nogil:
    """2 sqrt(2 / pi) x (1 + 0.044715 x^2) as high + low, for |x| <= 30; returns high."""
    cdef real square, square_low, cube, p, share, p_low, w, w_low, z
    cdef real c = <real>1.5957691216057308, c_low, k = <real>0.044715, k_low
    if real is float:
        c_low = <real>(1.5957691216057308 - <double><float>1.5957691216057308)
        k_low = <real>(0.044715 - <double><float>0.044715)
    else:
        c_low = -<real>9.96930880911092e-17
        k_low = 0
    square = x * x
    square_low = residual(x, x, -square)
    cube = k * square
    p = 1 + cube
    share = p - cube
    p_low = (1 - share) + (cube - (p - share))
    p_low += muladd(k, square_low, muladd(k_low, square, residual(k, square, -cube)))
    w = c * x
    w_low = muladd(c_low, x, residual(c, x, -w))
    z = w * p
    low[0] = residual(w, p, -z) + muladd(w, p_low, w_low * p)
    return z

cdef inline real gelu_tanh(real x) noexcept nogil:
    cdef real z, z_low
    z = tanh_argument(clip(x, -<real>30, <real>30), &z_low)
    return gated(x, z, z_low)

cdef inline real gelu_tanh_derivative(real x) noexcept nogil:
    cdef real z, z_low
    x = clip(x, -<real>30, <real>30)
    z = tanh_argument(x, &z_low)
    return gated_derivative(z, z_low, <real>1.5957691216057308 * x * muladd(<real>0.134145, x * x, <real>1))


# --- tanh ---------------------------------------------------------------------------------------------------------

cdef inline real tanh_parts(real x, real* low) noexcept nogil:
    """tanh(|x|) = -m / (2 + m), m = exp(-2|x|) - 1, as high + low; returns high."""
    cdef real m, m_low, d, d_low, r, q
    m = expm1_parts(-2 * absolute(x), <real>0, &m_low)
    d = 2 + m
    d_low = (m - (d - 2)) + m_low
    r = 1 / d
    q = -m * r
    low[0] = ((residual(-q, d, -m) - m_low) - q * d_low) * r
    return q

cdef inline real tanh(real x) noexcept nogil:
    cdef real low, high = tanh_parts(x, &low)
    return with_sign(high + low, x)

cdef inline real tanh_derivative(real x) noexcept nogil:
    return logistic_density(2 * x, <real>4)

cdef inline real tanh_derivative_from_output(real y) noexcept nogil:
    return (1 - y) * (1 + y)

cdef inline real tanhshrink(real x) noexcept nogil:
    cdef real z = x * x, p, low, high = tanh_parts(x, &low), a = absolute(x)
    if real is float:
        p = muladd(z, -<real>0.00309422659, <real>0.00907383673)
        p = muladd(z, p, -<real>0.0220028125)
        p = muladd(z, p, <real>0.0539901331)
        p = muladd(z, p, -<real>0.133334488)
        p = muladd(z, p, <real>0.333333343)
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
        p = muladd(z, p, <real>0.3333333333333333)
    return z * x * p if a < <real>0.6 else with_sign((a - high) - low, x)

cdef inline real tanhshrink_derivative(real x) noexcept nogil:
    cdef real low, high = tanh_parts(x, &low), y = high + low
    return y * y


# --- The exponential-linear family --------------------------------------------------------------------------------

cdef inline real elu(real x, real alpha) noexcept nogil:
    cdef real low, high = expm1_parts(0 if x > 0 else x, <real>0, &low)
    return x if x > 0 else muladd(alpha, high, alpha * low)

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
        scale_low = 0
        both_low = <real>5.75014648756476e-17
    return muladd(scale, x, scale_low * clip(x, <real>0, largest(x))) if x > 0 else muladd(both, high, muladd(both, low, both_low * high))

cdef inline real selu_derivative(real x) noexcept nogil:
    cdef real low, first, second, high
    high = decay_parts(0 if x > 0 else x, <real>0, &low, &first, &second)
    return <real>1.0507009873554805 if x > 0 else <real>1.7580993408473766 * high * first * second

cdef inline real selu_derivative_from_output(real y) noexcept nogil:
    return <real>1.0507009873554805 if y > 0 else y + <real>1.7580993408473766

cdef inline real quotient(real x, real alpha, real* low) noexcept nogil:
    cdef real z = x / alpha
    low[0] = residual(-z, alpha, x) / alpha if absolute(z) < largest(<real>0) else 0
    return z

cdef inline real celu(real x, real alpha) noexcept nogil:
    cdef real z, z_low, low, high
    z = quotient(x, alpha, &z_low)
    high = expm1_parts(0 if x > 0 else z, 0 if x > 0 else z_low, &low)
    return x if x > 0 else muladd(alpha, high, alpha * low)

cdef inline real celu_derivative(real x, real alpha) noexcept nogil:
    cdef real z, z_low, low, first, second, high
    z = quotient(x, alpha, &z_low)
    high = decay_parts(0 if x > 0 else z, 0 if x > 0 else z_low, &low, &first, &second)
    return 1 if x > 0 else high * first * second

cdef inline real celu_derivative_from_output(real y, real alpha) noexcept nogil:
    return 1 if y > 0 else 1 + y / alpha


# --- gelu ---------------------------------------------------------------------------------------------------------

cdef inline real upper_tail(real t, real* r, real* low, real* first, real* second) noexcept nogil:
    """P, with Phi(-t) = P r (1 + low) first second, r = 1 / (t + centre): Mills' ratio as a polynomial in
    u = (t - centre) / (t + centre) (the variable of Shepherd & Laframboise, Math. Comp. 36, 1981) times
    exp(-t^2 / 2), whose argument is kept to twice the precision."""
    cdef real square = t * t, high, p, u, centre
    high = decay_parts(-square / 2, -residual(t, t, -square) / 2, low, first, second)
    if real is float:
        centre = <real>3.5
    else:
        centre = 5
    r[0] = 1 / (t + centre)
    u = (t - centre) * r[0]
    if real is float:
        p = muladd(u, -<real>2.35983734e-05, <real>3.73822877e-05)
        p = muladd(u, p, <real>0.000378971628)
        p = muladd(u, p, -<real>0.000444180769)
        p = muladd(u, p, -<real>0.00312948646)
        p = muladd(u, p, <real>0.00648229988)
        p = muladd(u, p, <real>0.0173934214)
        p = muladd(u, p, -<real>0.116052203)
        p = muladd(u, p, <real>0.315426201)
        p = muladd(u, p, -<real>0.565561771)
        p = muladd(u, p, <real>0.744416058)
    else:
        p = muladd(u, -<real>3.205387293430562e-10, <real>1.6214025146079653e-09)
        p = muladd(u, p, <real>8.448844635607199e-09)
        p = muladd(u, p, -<real>8.654074011001631e-09)
        p = muladd(u, p, -<real>6.748853675598309e-08)
        p = muladd(u, p, <real>4.098330071583218e-08)
        p = muladd(u, p, <real>4.348153562164499e-07)
        p = muladd(u, p, -<real>3.352682039827438e-07)
        p = muladd(u, p, -<real>2.770387884449644e-06)
        p = muladd(u, p, <real>3.980066656027379e-06)
        p = muladd(u, p, <real>1.66817012176259e-05)
        p = muladd(u, p, -<real>4.9762493839850966e-05)
        p = muladd(u, p, -<real>5.9375867312904675e-05)
        p = muladd(u, p, <real>0.0005448989889995116)
        p = muladd(u, p, -<real>0.0007978693728942018)
        p = muladd(u, p, -<real>0.0029933767599044634)
        p = muladd(u, p, <real>0.02079506679705359)
        p = muladd(u, p, -<real>0.06911863870711098)
        p = muladd(u, p, <real>0.16502036617055044)
        p = muladd(u, p, -<real>0.3135331566712775)
        p = muladd(u, p, <real>0.4953056159699725)
        p = muladd(u, p, -<real>0.665382502890057)
        p = muladd(u, p, <real>0.769193049750063)
    low[0] = low[0] + (high - 1)
    return p

cdef inline real gelu_reach(real kind) noexcept nogil:
    """gelu(-x) and its derivative are zero beyond."""
    if real is float:
        return 15
    else:
        return <real>39.5

cdef inline real gelu(real x) noexcept nogil:
    cdef real t = absolute(x), p, r, low, first, second, w
    t = gelu_reach(<real>0) if t > gelu_reach(<real>0) else t
    p = upper_tail(t, &r, &low, &first, &second)
    w = (t * r) * p
    w = muladd(w, low, w) * first * second
    return (x if x > 0 else 0) - w

cdef inline real gelu_derivative(real x) noexcept nogil:
    cdef real t = absolute(x), p, r, low, first, second, w
    t = gelu_reach(<real>0) if t > gelu_reach(<real>0) else t
    p = upper_tail(t, &r, &low, &first, &second)
    w = muladd(p, r, -<real>0.3989422804014327 * t)
    w = muladd(w, low, w) * first * second
    return 1 - w if x > 0 else w


# --- Logarithms of the exponential --------------------------------------------------------------------------------

cdef inline real log1p_exp(real z, real z_low) noexcept nogil:
    """log(1 + exp(z + z_low)) for z <= 0.

    With e = exp(z), s = e / (2 + e): log(1 + e) = e - (e^2 / 2 - s (e^2 / 2 + s^2 R(s^2))), FreeBSD's arrangement
    of log1p (s_log1p.c), all but the argument of R divided by the scale of e, so that only the last step can be
    subnormal.
    """
    cdef real high, low, first, second, e, half, g, s, q, p
    high = decay_parts(z, z_low, &low, &first, &second)
    e = high * first * second
    half = e / 2
    g = high / (2 + e)
    s = g * first * second
    q = s * s
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
    low = muladd(-low, half, low)
    p = muladd(high, half, -g * muladd(e, half, q * p))
    return (high - (p - low)) * first * second

cdef inline real softplus(real x, real beta) noexcept nogil:
    cdef real z = beta * x, z_low = product_low(beta, x, z), y
    y = log1p_exp(-absolute(z), -z_low if z > 0 else z_low) / beta
    return (x if z > 0 else 0) + y

cdef inline real softplus_derivative(real x, real beta) noexcept nogil:
    cdef real z = beta * x
    return logistic(z, product_low(beta, x, z))

cdef inline real softplus_derivative_from_output(real y, real beta) noexcept nogil:
    cdef real z = -beta * y, low, high = expm1_parts(0 if z > 0 else z, <real>0, &low)
    return -high - low

cdef inline real logsigmoid(real x) noexcept nogil:
    return (0 if x > 0 else x) - log1p_exp(-absolute(x), <real>0)

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

cdef inline real mish_parts(real x, real* first, real* second, real* high, real* a, real* a_low, real* d, real* d_low) noexcept nogil:
    """exp(x) = (high + low) first second; a = exp(x) + 2, d = n + 2; returns low."""
    cdef real t, low, e, n, n_low
    high[0] = exp_parts(x, <real>0, wide_magic(<real>0), &t, &low)
    first[0] = half_power(t, second)
    e = high[0] * first[0] * second[0]
    a[0] = e + 2
    t = a[0] - 2
    a_low[0] = ((e - t) + (2 - (a[0] - t))) + low * first[0] * second[0]
    n = e * a[0]
    n_low = residual(e, a[0], -n) + muladd(e, a_low[0], low * first[0] * second[0] * a[0])
    d[0] = n + 2
    t = d[0] - 2
    d_low[0] = ((n - t) + (2 - (d[0] - t))) + n_low
    return low

cdef inline real mish(real x) noexcept nogil:
    cdef real first, second, high, low, a, a_low, d, d_low, y, n, n_low, r, q, q_low
    y = clip(x, -tail(<real>0), mish_reach(<real>0))
    low = mish_parts(y, &first, &second, &high, &a, &a_low, &d, &d_low)
    n = high * a
    n_low = residual(high, a, -n) + muladd(low, a, high * a_low)
    r = 1 / d
    q = n * r
    q_low = (residual(-q, d, n) + (n_low - q * d_low)) * r
    q = muladd(y, q, y * q_low) * first * second
    return x if x > mish_reach(<real>0) else q

cdef inline real mish_derivative(real x) noexcept nogil:
    """exp(x) ((exp(x) + 2) + 4 x (1 + exp(x)) / d) / d"""
    cdef real first, second, high, low, a, a_low, d, d_low, y, r, w
    y = clip(x, -tail(<real>0), mish_reach(<real>0))
    low = mish_parts(y, &first, &second, &high, &a, &a_low, &d, &d_low)
    r = 1 / d
    r = muladd(residual(-r, d, <real>1) - r * d_low, r, r)
    w = muladd(4 * y * (a - 1), r, a)
    w = (high + low) * (w * r) * first * second
    return 1 if x > mish_reach(<real>0) else w


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
    return step(x > 0, x, <real>1)

cdef inline real relu_derivative_from_output(real y) noexcept nogil:
    return step(y > 0, y, <real>1)

cdef inline real relu6(real x) noexcept nogil:
    return clip(x, <real>0, <real>6)

cdef inline real relu6_derivative(real x) noexcept nogil:
    return step((x > 0) & (x < 6), x, <real>1)

cdef inline real relu6_derivative_from_output(real y) noexcept nogil:
    return step((y > 0) & (y < 6), y, <real>1)

cdef inline real leaky_relu(real x, real negative_slope) noexcept nogil:
    return x if x > 0 else negative_slope * x

cdef inline real leaky_relu_derivative(real x, real negative_slope) noexcept nogil:
    negative_slope = 1 if x > 0 else negative_slope
    return negative_slope if x == x else x

cdef inline real leaky_relu_derivative_from_output(real y, real negative_slope) noexcept nogil:
    return leaky_relu_derivative(y, negative_slope)

cdef inline real prelu(real x, real weight) noexcept nogil:
    return leaky_relu(x, weight)

cdef inline real prelu_derivative(real x, real weight) noexcept nogil:
    return leaky_relu_derivative(x, weight)

cdef inline real relu_squared(real x) noexcept nogil:
    return relu(x) * relu(x)

cdef inline real relu_squared_derivative(real x) noexcept nogil:
    return 2 * relu(x)

cdef inline real softsign(real x) noexcept nogil:
    x = clip(x, -largest(<real>0), largest(<real>0))
    return x / (1 + absolute(x))

cdef inline real softsign_derivative(real x) noexcept nogil:
    cdef real d = 1 + absolute(x)
    return 1 / d / d

cdef inline real softshrink(real x, real lambd) noexcept nogil:
    return x - lambd if x > lambd else (x + lambd if x < -lambd else step(False, x, <real>0))

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
    return clip(muladd(alpha, x, beta), <real>0, <real>1)

cdef inline real hardsigmoid_derivative(real x, real alpha, real beta) noexcept nogil:
    cdef real y = muladd(alpha, x, beta)
    return step((y > 0) & (y < 1), x, alpha)

cdef inline real hardswish(real x) noexcept nogil:
    return -<real>0.0 if x <= -3 else (x if x >= 3 else x * (x + 3) / 6)

cdef inline real hardswish_derivative(real x) noexcept nogil:
    return 0 if x <= -3 else (1 if x >= 3 else (2 * x + 3) / 6)

cdef inline real squareplus_parts(real x, real b, real* r) noexcept nogil:
    """The function, without the cancellation of x + r for x < 0, and r = sqrt(x^2 + b)."""
    cdef real a = absolute(x), q
    r[0] = a if a > <real>1e18 else square_root(muladd(x, x, b))
    q = a + r[0]
    return b / (2 * q) if x < 0 else q / 2

cdef inline real squareplus(real x, real b) noexcept nogil:
    cdef real r
    return squareplus_parts(x, b, &r)

cdef inline real squareplus_derivative(real x, real b) noexcept nogil:
    cdef real r, y = squareplus_parts(x, b, &r)
    y = 0 if r == 0 else y / r
    return 1 if x > <real>1e18 else y
