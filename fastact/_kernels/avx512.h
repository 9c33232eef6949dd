/* The functions that are used most, sixteen floats at a time.

   Elsewhere, and for double, the compiler vectorises the loops over scalar.pxd's formulas. It makes four instructions of a
   clamp that keeps NaN, and knows neither the scaling instruction nor tables in registers; by hand the same accuracy takes
   (ns per 16 floats in the first-level cache, Zen 4): sigmoid 6.2 against 8.0, silu 6.6 / 9.3, tanh 4.3 / 10.5, gelu 9.1 / 20.8.

   In each formula max and min get the constant first, so that NaN, if the second is one, is what comes out. */
#ifndef FASTACT_AVX512_H
#define FASTACT_AVX512_H

#include <float.h>
#include <stddef.h>

/* F(NAME) for those functions, which have a NAME_16 and a NAME_derivative_16. */
#define FASTACT_BY_HAND(F) F(sigmoid) F(tanh) F(silu) F(gelu)

#ifdef __AVX512F__

#include <immintrin.h>
#include "tables.h"

typedef __m512 floats;
#define ALWAYS static inline __attribute__((always_inline))

ALWAYS floats all(float x) { return _mm512_set1_ps(x); }
ALWAYS floats plus(floats a, floats b) { return _mm512_add_ps(a, b); }
ALWAYS floats minus(floats a, floats b) { return _mm512_sub_ps(a, b); }
ALWAYS floats times(floats a, floats b) { return _mm512_mul_ps(a, b); }
ALWAYS floats times_plus(floats a, floats b, floats c) { return _mm512_fmadd_ps(a, b, c); }
ALWAYS floats times_minus(floats a, floats b, floats c) { return _mm512_fmsub_ps(a, b, c); }
ALWAYS floats minus_times(floats a, floats b, floats c) { return _mm512_fnmadd_ps(a, b, c); } /* c - a b */
ALWAYS floats scale(floats x, floats n) { return _mm512_scalef_ps(x, n); }                    /* x 2^floor(n), also subnormal */
ALWAYS __mmask16 negative(floats x) { return _mm512_movepi32_mask(_mm512_castps_si512(x)); }
ALWAYS floats capped(floats x, float limit) { return _mm512_min_ps(all(limit), _mm512_abs_ps(x)); } /* min(|x|, limit) */
ALWAYS floats bounded(floats x, float limit) { return _mm512_range_ps(x, all(limit), 0x0a); } /* the same, limit for NaN */
ALWAYS floats from_table(const float *row, __m512i place)
{
    return _mm512_permutex2var_ps(_mm512_load_ps(row), place, _mm512_load_ps(row + 16));
}

/* exp(z) = 2^n (1 + p), |p| < 0.42; about 0.3 ULP. */
ALWAYS floats exp_of(floats z, floats *n)
{
    const floats magic = all(0x1.8p23f);
    floats t = times_plus(z, all(1.44269504f), magic), r, q;
    *n = minus(t, magic);
    r = times_plus(*n, all(-0.693145751953125f), z);
    r = times_plus(*n, all(-1.428606820309417e-06f), r);
    q = times_plus(r, all(0.00139412307f), all(0.00836937129f));
    q = times_plus(r, q, all(0.041666396f));
    q = times_plus(r, q, all(0.166665152f));
    q = times_plus(r, q, all(0.5f));
    return times_plus(times(r, r), q, r);
}

/* With e = exp(-|x|) = 2^n (whole + low): N / (1 + e), N = whole + low for x < 0, else 1, as high + factor * rest. */
ALWAYS floats logistic(floats z, __mmask16 below, floats *n, floats *factor, floats *rest)
{
    floats p = exp_of(z, n), whole = plus(all(1), p), low = minus(p, minus(whole, all(1))), e = scale(whole, *n);
    floats numerator = _mm512_mask_blend_ps(below, all(1), whole), q;
    *factor = _mm512_rcp14_ps(plus(all(1), e));
    q = times(numerator, *factor);
    *rest = minus_times(q, e, minus(numerator, q));
    *rest = _mm512_mask_add_ps(*rest, below, *rest, low);
    return q;
}

ALWAYS floats sigmoid_16(floats x)
{
    __mmask16 below = negative(x);
    floats n, factor, rest, q = logistic(_mm512_max_ps(all(-110), _mm512_or_ps(x, all(-0.0f))), below, &n, &factor, &rest);
    q = times_plus(rest, factor, q);
    return _mm512_mask_scalef_ps(q, below, q, n);
}

ALWAYS floats silu_16(floats x)
{
    __mmask16 below = negative(x);
    floats n, factor, rest, q = logistic(minus(all(-0.0f), bounded(x, 114)), below, &n, &factor, &rest);
    x = _mm512_max_ps(all(-114), x);
    q = times_plus(x, q, times(times(_mm512_min_ps(all(FLT_MAX), x), factor), rest)); /* inf * 0 */
    return _mm512_mask_scalef_ps(q, below, q, n);
}

/* exp(-a) = 2^n (1 + p) and 1 / (1 + exp(-a)) = factor (1 + rest), |rest| < 2^-13 */
ALWAYS floats reciprocal_of_one_plus_exp(floats a, floats *n, floats *p, floats *rest)
{
    floats e, d, factor;
    *p = exp_of(minus(all(0), a), n);
    e = scale(plus(all(1), *p), *n);
    d = plus(all(1), e);
    factor = _mm512_rcp14_ps(d);
    *rest = minus_times(factor, minus(e, minus(d, all(1))), minus_times(factor, d, all(1)));
    return factor;
}

/* 2^k exp(-|z|) / (1 + exp(-|z|))^2 */
ALWAYS floats bell(floats z, float k)
{
    floats n, p, rest, f = reciprocal_of_one_plus_exp(capped(z, 110), &n, &p, &rest), square = times(f, f);
    floats y = times_plus(p, square, square), low = times_plus(p, square, minus(square, y));
    low = times_plus(plus(all(1), p), times_minus(f, f, square), low);
    return scale(plus(y, times_plus(y, plus(rest, rest), low)), plus(n, all(k)));
}

ALWAYS floats sigmoid_derivative_16(floats x) { return bell(x, 0); }
ALWAYS floats tanh_derivative_16(floats x) { return bell(plus(x, x), 2); }

/* With a = |x|, r = 1 / (1 + exp(-a)): d = exp(-a) r (1 - a r) for x < 0, else 1 - d */
ALWAYS floats silu_derivative_16(floats x)
{
    floats a = capped(x, 118), n, p, rest, f = reciprocal_of_one_plus_exp(a, &n, &p, &rest);
    floats part = times_plus(p, f, f), s = minus_times(a, f, all(1)), d;
    d = scale(times_plus(part, s, times(times(part, rest), minus(plus(s, s), all(1)))), n);
    return _mm512_mask_sub_ps(d, _mm512_knot(negative(x)), all(1), d);
}

/* A polynomial on one of 32 intervals: bench/tables.py. */
ALWAYS floats tanh_16(floats x)
{
    floats a = capped(x, 9.1f), h, y;
    __m512i place = _mm512_srli_epi32(_mm512_castps_si512(plus(a, all(0.75f))), 20);
    h = minus(a, from_table(tanh_table[0], place));
    y = from_table(tanh_table[6], place);
    for (int k = 5; k > 0; k--)
        y = times_plus(h, y, from_table(tanh_table[k], place));
    return _mm512_or_ps(y, _mm512_and_ps(x, all(-0.0f)));
}

/* For a = min(|x|, 14.5): Phi(-a) exp(a^2 / 2) as high + low, and exp(-a^2 / 2) = 2^n (e + e_low).

   The exponential is a table's power of two times 1 + p, p < 0.03, so that rounding errors stay with what is small. */
ALWAYS floats normal_tail(floats a, floats *low, floats *n, floats *e, floats *e_low)
{
    const floats magic = all(0x1.8p19f);
    floats square = times(a, a), t = times_plus(square, all(-0.72134752f), magic), r, p, h;
    __m512i place = _mm512_castps_si512(t);
    *n = minus(t, magic);
    r = plus(times_plus(*n, all(0x1.62e43p0f), square), times_plus(*n, all(-0x1.05c61p-28f), times_minus(a, a, square)));
    p = times(r, times_plus(r, times_plus(r, all(-1.0f / 48), all(0.125f)), all(-0.5f)));
    *e = _mm512_permutexvar_ps(place, _mm512_load_ps(powers_of_two_table[0]));
    *e_low = times_plus(*e, p, _mm512_permutexvar_ps(place, _mm512_load_ps(powers_of_two_table[1])));
    place = _mm512_srli_epi32(_mm512_castps_si512(plus(a, all(1))), 20);
    h = minus(a, from_table(scaled_normal_tail_table[0], place));
    p = from_table(scaled_normal_tail_table[6], place);
    for (int k = 5; k > 1; k--)
        p = times_plus(h, p, from_table(scaled_normal_tail_table[k], place));
    *low = times(h, p);
    return from_table(scaled_normal_tail_table[1], place);
}

/* max(x, 0) - a Phi(-a), a = |x| */
ALWAYS floats gelu_16(floats x)
{
    floats a = bounded(x, 14.5f), n, e, e_low, g_low, g = normal_tail(a, &g_low, &n, &e, &e_low), q = times(g, e);
    floats q_low = times_plus(e_low, plus(g, g_low), times_plus(g_low, e, times_minus(g, e, q)));
    return minus(_mm512_max_ps(all(-0.0f), x), scale(times_plus(a, q, times(a, q_low)), n));
}

/* d = exp(-a^2 / 2) (Phi(-a) exp(a^2 / 2) - a / sqrt(2 pi)) for x < 0, else 1 - d */
ALWAYS floats gelu_derivative_16(floats x)
{
    floats a = capped(x, 14.99f), n, e, e_low, g_low, g = normal_tail(a, &g_low, &n, &e, &e_low), d;
    g = plus(minus_times(a, all(0.398942280f), g), g_low);
    d = scale(times_plus(g, e, times(g, e_low)), n);
    return _mm512_mask_sub_ps(d, _mm512_knot(negative(x)), all(1), d);
}

/* Loops NAME(a, b, y, n), y = RESULT in terms of u from a and v from b; they say whether they did it. */
#define FASTACT_LOOP(NAME, RESULT)                                                              \
    ALWAYS int NAME(const float *a, const float *b, float *y, ptrdiff_t n)                      \
    {                                                                                           \
        ptrdiff_t i = 0;                                                                        \
        for (; i + 16 <= n; i += 16) {                                                          \
            floats u = _mm512_loadu_ps(a + i), v = _mm512_loadu_ps(b + i);                      \
            (void)v;                                                                            \
            _mm512_storeu_ps(y + i, RESULT);                                                    \
        }                                                                                       \
        if (i < n) {                                                                            \
            __mmask16 rest = (__mmask16)(0xffff >> (16 - (n - i)));                             \
            floats u = _mm512_maskz_loadu_ps(rest, a + i), v = _mm512_maskz_loadu_ps(rest, b + i); \
            (void)v;                                                                            \
            _mm512_mask_storeu_ps(y + i, rest, RESULT);                                         \
        }                                                                                       \
        return 1;                                                                               \
    }
#define FASTACT_LOOPS(NAME)                                                                     \
    FASTACT_LOOP(NAME##_forward_by_hand, NAME##_16(u))                                          \
    FASTACT_LOOP(NAME##_derivative_by_hand, NAME##_derivative_16(u))                            \
    FASTACT_LOOP(NAME##_backward_by_hand, times(u, NAME##_derivative_16(v)))

#else

#define FASTACT_LOOPS(NAME)                                                                     \
    static inline int NAME##_forward_by_hand(const float *a, const float *b, float *y, ptrdiff_t n) { return 0; } \
    static inline int NAME##_derivative_by_hand(const float *a, const float *b, float *y, ptrdiff_t n) { return 0; } \
    static inline int NAME##_backward_by_hand(const float *a, const float *b, float *y, ptrdiff_t n) { return 0; }

#endif
FASTACT_BY_HAND(FASTACT_LOOPS)

#endif
