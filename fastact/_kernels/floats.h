/* Vectors of as many floats as the instruction set has, 16 or 8, and masks for them: what by_hand.h is written in. */
#ifndef FASTACT_FLOATS_H
#define FASTACT_FLOATS_H

#include "primitives.h"

#if defined(__AVX512F__)
#define FASTACT_LANES 16
typedef __m512 floats;
typedef __m512i ints;
typedef __mmask16 mask;
#define OF_FLOATS(operation) _mm512_##operation
#define compared _mm512_cmp_ps_mask
#elif defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#define FASTACT_LANES 8
typedef __m256 floats;
typedef __m256i ints;
typedef __m256 mask; /* sign bits count */
#define OF_FLOATS(operation) _mm256_##operation
#define compared _mm256_cmp_ps
#endif

#ifdef FASTACT_LANES

ALWAYS floats all(float x) { return OF_FLOATS(set1_ps)(x); }
ALWAYS floats plus(floats a, floats b) { return OF_FLOATS(add_ps)(a, b); }
ALWAYS floats minus(floats a, floats b) { return OF_FLOATS(sub_ps)(a, b); }
ALWAYS floats times(floats a, floats b) { return OF_FLOATS(mul_ps)(a, b); }
ALWAYS floats over(floats a, floats b) { return OF_FLOATS(div_ps)(a, b); }
ALWAYS floats times_plus(floats a, floats b, floats c) { return OF_FLOATS(fmadd_ps)(a, b, c); }
ALWAYS floats times_minus(floats a, floats b, floats c) { return OF_FLOATS(fmsub_ps)(a, b, c); }
ALWAYS floats minus_times(floats a, floats b, floats c) { return OF_FLOATS(fnmadd_ps)(a, b, c); } /* c - a b */
ALWAYS floats smaller(floats a, floats b) { return OF_FLOATS(min_ps)(a, b); }
ALWAYS floats larger(floats a, floats b) { return OF_FLOATS(max_ps)(a, b); }
/* The constant comes first, so that NaN, if the second is one, is what comes out. */
ALWAYS floats at_most(floats x, float limit) { return smaller(all(limit), x); }
ALWAYS floats at_least(floats x, float limit) { return larger(all(limit), x); }
ALWAYS floats absolute(floats x) { return OF_FLOATS(andnot_ps)(all(-0.0f), x); }
ALWAYS floats with_sign_of(floats x, floats sign) { return OF_FLOATS(xor_ps)(x, OF_FLOATS(and_ps)(sign, all(-0.0f))); }
ALWAYS mask above(floats x, float limit) { return compared(x, all(limit), _CMP_NLE_UQ); } /* or NaN */
ALWAYS mask below(floats x, float limit) { return compared(x, all(limit), _CMP_NGE_UQ); } /* or NaN */
ALWAYS mask zero(floats x) { return compared(x, all(0), _CMP_EQ_OQ); }
#if FASTACT_LANES == 16
ALWAYS ints bits_of(floats x) { return _mm512_castps_si512(x); }
ALWAYS ints shifted_right(ints i, int n) { return _mm512_srli_epi32(i, n); }
ALWAYS mask positive(floats x) { return _mm512_knot(_mm512_movepi32_mask(bits_of(x))); }
ALWAYS mask either(mask a, mask b) { return a | b; }
ALWAYS mask nowhere(void) { return 0; }
ALWAYS int any(mask m) { return m; }
ALWAYS floats chosen(mask m, floats yes, floats no) { return _mm512_mask_mov_ps(no, m, yes); }
ALWAYS floats scale(floats x, floats n) { return _mm512_scalef_ps(x, n); } /* x 2^floor(n), also subnormal */
ALWAYS floats about_inverse(floats x) { return _mm512_rcp14_ps(x); }
ALWAYS floats about_inverse_root(floats x) { return _mm512_rsqrt14_ps(x); }

/* The elements at these places, modulo 16, 32 or 64, of a row of so many columns. */
ALWAYS floats of_32(const float *row, ints place) { return _mm512_permutex2var_ps(_mm512_load_ps(row), place, _mm512_load_ps(row + 16)); }
ALWAYS floats looked_up(const float *row, int columns, ints place)
{
    if (columns == 16)
        return _mm512_permutexvar_ps(place, _mm512_load_ps(row));
    return columns == 32 ? of_32(row, place)
                         : chosen(_mm512_test_epi32_mask(place, _mm512_set1_epi32(32)), of_32(row + 32, place), of_32(row, place));
}

ALWAYS floats load_floats(const float *p) { return _mm512_loadu_ps(p); }
ALWAYS void store_floats(float *p, floats x) { _mm512_storeu_ps(p, x); }
/* Of the n < 32 elements that are left, those that come after so many others. */
ALWAYS mask left_after_floats(int others, ptrdiff_t n) { return (mask)(((1u << n) - 1) >> others); }
ALWAYS floats load_some_floats(const float *p, mask in) { return _mm512_maskz_loadu_ps(in, p); }
ALWAYS void store_some_floats(float *p, mask in, floats x) { _mm512_mask_storeu_ps(p, in, x); }
ALWAYS void store_past_cache_floats(float *p, floats x) { _mm512_stream_ps(p, x); }
ALWAYS floats load_half(const uint16_t *p) { return load_16_half(p, 0xffff); }
ALWAYS void store_half(uint16_t *p, floats x) { store_16_half(p, 0xffff, x); }
#else
ALWAYS ints bits_of(floats x) { return _mm256_castps_si256(x); }
ALWAYS ints shifted_right(ints i, int n) { return _mm256_srli_epi32(i, n); }
ALWAYS mask positive(floats x) { return _mm256_xor_ps(x, all(-0.0f)); }
ALWAYS mask either(mask a, mask b) { return _mm256_or_ps(a, b); }
ALWAYS mask nowhere(void) { return all(0); }
ALWAYS int any(mask m) { return _mm256_movemask_ps(m); }
ALWAYS floats chosen(mask m, floats yes, floats no) { return _mm256_blendv_ps(no, yes, m); }
/* The first product is exact where not both are 0, so that a subnormal result is rounded once, as by AVX-512's instruction. */
ALWAYS floats scale(floats x, floats n)
{
    const ints whole = _mm256_cvtps_epi32(_mm256_floor_ps(at_least(n, -252))), half = _mm256_srai_epi32(whole, 1), bias = _mm256_set1_epi32(127);
    const ints first = _mm256_slli_epi32(_mm256_add_epi32(half, bias), 23);
    const ints second = _mm256_slli_epi32(_mm256_add_epi32(_mm256_sub_epi32(whole, half), bias), 23);
    return times(times(x, _mm256_castsi256_ps(first)), _mm256_castsi256_ps(second));
}
ALWAYS floats about_inverse(floats x) { return over(all(1), x); }
/* 2^-11.4 and a step of Newton's method, while the divider is at the inverse: squareplus takes 1.9 ns for 8 floats of a Zen 5. With root and
   division it took 2.9, and with an approximate inverse too 2.1; softsign, which has no root, then was slower by 1.07. */
ALWAYS floats about_inverse_root(floats x)
{
    const floats y = _mm256_rsqrt_ps(x);
    return times_plus(minus_times(times(x, y), y, all(1)), times(all(0.5f), y), y);
}

/* Permutations know eight columns; bits 3 and 4 of the place choose among these. */
ALWAYS mask bit(int k, ints place) { return _mm256_castsi256_ps(_mm256_slli_epi32(place, 31 - k)); }
ALWAYS floats of_8(const float *row, ints place) { return _mm256_permutevar8x32_ps(_mm256_load_ps(row), place); }
ALWAYS floats of_16(const float *row, ints place) { return chosen(bit(3, place), of_8(row + 8, place), of_8(row, place)); }
ALWAYS floats looked_up(const float *row, int columns, ints place)
{
    return columns == 16 ? of_16(row, place) : chosen(bit(4, place), of_16(row + 16, place), of_16(row, place));
}

/* The eight numbers each of one of count rows for each element. */
ALWAYS void looked_up_side_by_side(const float (*rows)[8], int count, ints place, floats *numbers)
{
    const char *start = (const char *)rows;
    uint32_t at[8] __attribute__((aligned(32)));
    _mm256_store_si256((ints *)at, _mm256_slli_epi32(_mm256_and_si256(place, _mm256_set1_epi32(count - 1)), 5));
    /* By way of memory: GCC would take them out of the vector one by one, and of two vectors side by side, more than there are registers. */
    __asm__ volatile("" : "+m"(at));
    for (int k = 0; k < 8; k += 4) {
        floats x[4], low[2], high[2];
        for (int j = 0; j < 4; j++)
            x[j] = _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_load_ps((const float *)(start + at[j]) + k)),
                                        _mm_load_ps((const float *)(start + at[j + 4]) + k), 1);
        for (int j = 0; j < 2; j++)
            low[j] = _mm256_unpacklo_ps(x[2 * j], x[2 * j + 1]), high[j] = _mm256_unpackhi_ps(x[2 * j], x[2 * j + 1]);
        numbers[k] = _mm256_shuffle_ps(low[0], low[1], 0x44);
        numbers[k + 1] = _mm256_shuffle_ps(low[0], low[1], 0xee);
        numbers[k + 2] = _mm256_shuffle_ps(high[0], high[1], 0x44);
        numbers[k + 3] = _mm256_shuffle_ps(high[0], high[1], 0xee);
    }
}

ALWAYS floats load_floats(const float *p) { return _mm256_loadu_ps(p); }
ALWAYS void store_floats(float *p, floats x) { _mm256_storeu_ps(p, x); }
ALWAYS mask left_after_floats(int others, ptrdiff_t n)
{
    return _mm256_castsi256_ps(_mm256_cmpgt_epi32(_mm256_set1_epi32((int)n - others), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)));
}
ALWAYS floats load_some_floats(const float *p, mask in) { return _mm256_maskload_ps(p, _mm256_castps_si256(in)); }
ALWAYS void store_some_floats(float *p, mask in, floats x) { _mm256_maskstore_ps(p, _mm256_castps_si256(in), x); }
ALWAYS void store_past_cache_floats(float *p, floats x) { _mm256_stream_ps(p, x); }
ALWAYS floats load_half(const uint16_t *p) { return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p)); }
ALWAYS void store_half(uint16_t *p, floats x)
{
    _mm_storeu_si128((__m128i *)p, _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
#endif

/* Two vectors of bfloat16, those at even places first, which takes a shift or a mask instead of an unpacking. A NaN that is stored has no
   low bits, which the sum might carry into its sign: it comes from bfloat16 or from the processor. */
ALWAYS void load_two_bfloat(const uint16_t *p, floats *even, floats *odd)
{
    fa_words two;
    memcpy(&two, p, sizeof two);
    *even = (floats)(two << 16), *odd = (floats)(two & 0xffff0000u);
}
ALWAYS fa_words rounded_number(floats x) { return (fa_words)x + 0x7fff + ((fa_words)x >> 16 & 1); }
ALWAYS void store_two_bfloat(uint16_t *p, floats even, floats odd)
{
    const fa_words two = rounded_number(even) >> 16 | (rounded_number(odd) & 0xffff0000u);
    memcpy(p, &two, sizeof two);
}

#endif

#endif
