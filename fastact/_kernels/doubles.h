/* Vectors of doubles as floats.h has them of floats, eight or four of them; the masks are the same. */
#ifndef FASTACT_DOUBLES_H
#define FASTACT_DOUBLES_H

#include "floats.h"

#ifdef FASTACT_LANES
#if FASTACT_LANES == 16
typedef __m512d doubles; /* whose operators GCC and Clang have */
#define OF_DOUBLES(operation) _mm512_##operation
#define compared_doubles _mm512_cmp_pd_mask
#else
typedef __m256d doubles;
#define OF_DOUBLES(operation) _mm256_##operation
#define compared_doubles(a, b, relation) _mm256_castpd_ps(_mm256_cmp_pd(a, b, relation))
#endif

ALWAYS doubles each(double x) { return OF_DOUBLES(set1_pd)(x); }
ALWAYS doubles fused(doubles a, doubles b, doubles c) { return OF_DOUBLES(fmadd_pd)(a, b, c); }
ALWAYS doubles less_fused(doubles a, doubles b, doubles c) { return OF_DOUBLES(fnmadd_pd)(a, b, c); } /* c - a b */
ALWAYS doubles fused_less(doubles a, doubles b, doubles c) { return OF_DOUBLES(fmsub_pd)(a, b, c); }
ALWAYS doubles no_less(doubles x, double limit) { return OF_DOUBLES(max_pd)(each(limit), x); } /* NaN stays */
ALWAYS doubles no_more(doubles x, double limit) { return OF_DOUBLES(min_pd)(each(limit), x); } /* NaN stays */
ALWAYS doubles falling(doubles x) { return OF_DOUBLES(or_pd)(x, each(-0.0)); }                 /* -|x| */
ALWAYS doubles signed_as(doubles x, doubles sign) { return OF_DOUBLES(or_pd)(x, OF_DOUBLES(and_pd)(sign, each(-0.0))); } /* x >= 0 */
ALWAYS mask rising(doubles x) { return compared_doubles(x, each(0), _CMP_NLT_UQ); } /* or NaN */
ALWAYS mask above_nought(doubles x) { return compared_doubles(x, each(0), _CMP_GT_OQ); }
ALWAYS mask nought(doubles x) { return compared_doubles(x, each(0), _CMP_EQ_OQ); }
ALWAYS mask beyond(doubles x, double limit) { return compared_doubles(falling(x), each(-limit), _CMP_NGE_UQ); } /* or NaN */

#if FASTACT_LANES == 16
ALWAYS doubles chosen_doubles(mask m, doubles yes, doubles no) { return _mm512_mask_mov_pd(no, (__mmask8)m, yes); }
/* Of two rows, or of pairs, the numbers at the places that the last four bits tell. */
ALWAYS doubles looked_up_in_doubles(const double *row, doubles place)
{
    return _mm512_permutex2var_pd(_mm512_load_pd(row), _mm512_castpd_si512(place), _mm512_load_pd(row + 8));
}
#define LOOKED_UP_IN_DOUBLES(NAME, place, first, second) \
    first = looked_up_in_doubles(NAME##_table[0], place), second = looked_up_in_doubles(NAME##_table[1], place);
/* x 2^n / 16, x having been divided by 2^(n % 16 / 16) in its bits; the last bits of t hold n. */
ALWAYS doubles with_sixteenths(doubles x, doubles t)
{
    return _mm512_castsi512_pd(_mm512_add_epi64(_mm512_castpd_si512(x), _mm512_slli_epi64(_mm512_castpd_si512(t), 48)));
}
/* To 2^-28, from 2^-14. */
ALWAYS doubles about_two_over(doubles x)
{
    const doubles y = _mm512_rcp14_pd(x), twice = y + y;
    return fused(twice, less_fused(x, y, each(1)), twice);
}
/* To 2^-40, from 2^-14. */
ALWAYS doubles about_one_over_root(doubles x)
{
    const doubles y = _mm512_rsqrt14_pd(x), error = less_fused(x * y, y, each(1));
    return fused(y * error, fused(error, each(0.375), each(0.5)), y);
}
ALWAYS mask left_after_doubles(int others, ptrdiff_t n) { return left_after_floats(others, n); }
ALWAYS doubles load_some_doubles(const double *p, mask in) { return _mm512_maskz_loadu_pd((__mmask8)in, p); }
ALWAYS void store_some_doubles(double *p, mask in, doubles x) { _mm512_mask_storeu_pd(p, (__mmask8)in, x); }
#else
ALWAYS doubles chosen_doubles(mask m, doubles yes, doubles no) { return _mm256_blendv_pd(no, yes, _mm256_castps_pd(m)); }
/* By instructions that gather, sigmoid.backward ran at 0.4 instead of 0.6 Gelem/s, other functions as fast. */
ALWAYS void looked_up_in_pairs(const double (*pairs)[2], doubles place, doubles *first, doubles *second)
{
    uint64_t at[4] __attribute__((aligned(32)));
    _mm256_store_si256((__m256i *)at, _mm256_and_si256(_mm256_castpd_si256(place), _mm256_set1_epi64x(15)));
    __asm__ volatile("" : "+m"(at)); /* as in looked_up_side_by_side */
#define BOTH_OF(a, b) _mm256_insertf128_pd(_mm256_castpd128_pd256(_mm_load_pd(pairs[at[a]])), _mm_load_pd(pairs[at[b]]), 1)
    const doubles even = BOTH_OF(0, 2), odd = BOTH_OF(1, 3);
#undef BOTH_OF
    *first = _mm256_unpacklo_pd(even, odd), *second = _mm256_unpackhi_pd(even, odd);
}
#define LOOKED_UP_IN_DOUBLES(NAME, place, first, second) looked_up_in_pairs(NAME##_by_interval, place, &first, &second);
ALWAYS doubles with_sixteenths(doubles x, doubles t)
{
    return _mm256_castsi256_pd(_mm256_add_epi64(_mm256_castpd_si256(x), _mm256_slli_epi64(_mm256_castpd_si256(t), 48)));
}
ALWAYS doubles about_two_over(doubles x) { return 2.0 / x; }
/* To 2^-42, from 2^-11.4 of numbers that floats hold. */
ALWAYS doubles about_one_over_root(doubles x)
{
    const __m128 s = _mm256_cvtpd_ps(x), r = _mm_rsqrt_ps(s), half = _mm_mul_ps(r, _mm_set1_ps(0.5f));
    const doubles y = _mm256_cvtps_pd(_mm_fmadd_ps(_mm_fnmadd_ps(_mm_mul_ps(s, r), r, _mm_set1_ps(1)), half, r));
    return fused(0.5 * y, less_fused(x * y, y, each(1)), y);
}
ALWAYS mask left_after_doubles(int others, ptrdiff_t n)
{
    return _mm256_castsi256_ps(_mm256_cmpgt_epi64(_mm256_set1_epi64x(n - others), _mm256_setr_epi64x(0, 1, 2, 3)));
}
ALWAYS doubles load_some_doubles(const double *p, mask in) { return _mm256_maskload_pd(p, _mm256_castps_si256(in)); }
ALWAYS void store_some_doubles(double *p, mask in, doubles x) { _mm256_maskstore_pd(p, _mm256_castps_si256(in), x); }
#endif
ALWAYS doubles load_doubles(const double *p) { return OF_DOUBLES(loadu_pd)(p); }
ALWAYS void store_doubles(double *p, doubles x) { OF_DOUBLES(storeu_pd)(p, x); }
ALWAYS void store_past_cache_doubles(double *p, doubles x) { OF_DOUBLES(stream_pd)(p, x); }

#endif

#endif
