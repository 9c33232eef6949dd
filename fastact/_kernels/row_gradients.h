/* The gradients of softmax and log_softmax, sixteen elements at a time, of float and of half types as they are stored: what some
   loops of rowwise.pxi are where there is AVX-512. Sums are in the order of reductions.h.

   Vectorised by the compiler, and with half types brought into buffers as floats, softmax's ran at 1.3 Gelem/s for rows of 16 floats
   and 3.2 for those of 64, these at 2.3 and 5.2 (Zen 4, one thread). */
#ifndef FASTACT_ROW_GRADIENTS_H
#define FASTACT_ROW_GRADIENTS_H

#include "softmax.h"

#ifdef __AVX512F__

ALWAYS __mmask16 first_of(ptrdiff_t n) { return n >= 16 ? 0xffff : (__mmask16)((1u << n) - 1); }

/* (g - exp(x) total) factor, 0 where x is -inf, from total scaled so that nothing overflows: total 2^-64 and 1, or total and 2^-64. */
typedef struct {
    __m512 total, other;
} scaled_16;

ALWAYS scaled_16 scaled_total_16(__m512 total)
{
    const __m512 one = _mm512_set1_ps(1), small = _mm512_set1_ps(0x1p-64f);
    const __mmask16 large = _mm512_cmp_ps_mask(_mm512_abs_ps(total), one, _CMP_GT_OQ);
    const scaled_16 s = {_mm512_mask_mul_ps(total, large, total, small), _mm512_mask_mov_ps(small, large, one)};
    return s;
}

ALWAYS __m512 log_gradient_of_16(__m512 x, __m512 g, scaled_16 s, __m512 factor, origin_16 o, __m512i powers, __m512 missing)
{
    const __mmask16 kept = _mm512_cmp_ps_mask(x, _mm512_set1_ps(-INFINITY), _CMP_NEQ_UQ);
    __m512 e = term_of_row_16(x, o, 0, powers, missing, NULL);
    e = _mm512_fnmadd_ps(_mm512_mul_ps(e, s.total), s.other, g);
    return _mm512_maskz_mul_ps(kept, e, factor);
}

/* Sums of a[i] b[i], and of those g[i] whose x[i] is not -inf. */
#define FASTACT_SUM_16(NAME, KIND, T, A, B, VALUE)                                                             \
    static inline double NAME(const T *A, const T *B, ptrdiff_t n)                                             \
    {                                                                                                          \
        const __m512 out = _mm512_set1_ps(-INFINITY);                                                          \
        __m512d low = _mm512_setzero_pd(), high = low;                                                         \
        ptrdiff_t i = 0;                                                                                       \
        (void)out;                                                                                             \
        for (; i + 16 <= n; i += 16) {                                                                         \
            const __m512 u = load_16_##KIND(A + i, 0xffff), v = load_16_##KIND(B + i, 0xffff);                 \
            add_to_lanes(VALUE, &low, &high);                                                                  \
        }                                                                                                      \
        if (i < n) {                                                                                           \
            const last_16 last = last_of(n);                                                                   \
            const __m512 u = load_16_##KIND(A + last.from, last.loaded);                                       \
            const __m512 v = load_16_##KIND(B + last.from, last.loaded);                                       \
            add_to_lanes(_mm512_maskz_mov_ps(last.counted, VALUE), &low, &high);                               \
        }                                                                                                      \
        return sum_of_lanes(low, high);                                                                        \
    }

/* For each type: the sums; y = p (g - sum of p g) factor; and the gradient of log_softmax, where ahead is as for terms_from: the sum
   over a row waits for memory alone, so it had better be there: 2.7 -> 2.5 ms for (256, 32000). */
#define FASTACT_ROW_GRADIENTS(KIND, T)                                                                         \
    FASTACT_SUM_16(inner_product_16_##KIND, KIND, T, a, b, _mm512_mul_ps(u, v))                                \
    FASTACT_SUM_16(sum_where_finite_16_##KIND, KIND, T, g, x,                                                  \
                   _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(v, out, _CMP_NEQ_UQ), u))                            \
    ALWAYS void shares_16_##KIND(const T *p, const T *g, T *y, __mmask16 in, __m512 inner, __m512 f)           \
    {                                                                                                          \
        const __m512 d = _mm512_sub_ps(load_16_##KIND(g, in), inner);                                          \
        store_16_##KIND(y, in, _mm512_mul_ps(_mm512_mul_ps(load_16_##KIND(p, in), d), f));                     \
    }                                                                                                          \
    static inline void softmax_gradient_16_##KIND(const T *p, const T *g, T *y, ptrdiff_t n, float factor)     \
    {                                                                                                          \
        const __m512 inner = _mm512_set1_ps((float)inner_product_16_##KIND(p, g, n)), f = _mm512_set1_ps(factor); \
        ptrdiff_t i = 0;                                                                                       \
        for (; i + 16 <= n; i += 16)                                                                           \
            shares_16_##KIND(p + i, g + i, y + i, 0xffff, inner, f);                                           \
        if (i < n)                                                                                             \
            shares_16_##KIND(p + i, g + i, y + i, first_of(n - i), inner, f);                                  \
    }                                                                                                          \
    static inline void log_gradient_16_##KIND(const T *x, const T *g, T *y, ptrdiff_t n, float total, float factor, ptrdiff_t ahead) \
    {                                                                                                          \
        const origin_16 o = origin_of_16(_mm512_setzero_ps());                                                 \
        const scaled_16 s = scaled_total_16(_mm512_set1_ps(total));                                            \
        const __m512 f = _mm512_set1_ps(factor);                                                               \
        __m512 missing;                                                                                        \
        const __m512i powers = powers_of_row(o, &missing);                                                     \
        for (ptrdiff_t i = 0; i < n; i += 16) {                                                                \
            const __mmask16 in = first_of(n - i);                                                              \
            _mm_prefetch((const char *)(x + i + ahead), _MM_HINT_T1);                                          \
            _mm_prefetch((const char *)(g + i + ahead), _MM_HINT_T1);                                          \
            store_16_##KIND(y + i, in, log_gradient_of_16(load_16_##KIND(x + i, in), load_16_##KIND(g + i, in), s, f, o, powers, missing)); \
        }                                                                                                      \
    }
FASTACT_ROW_GRADIENTS(float, float)
FASTACT_ROW_GRADIENTS(half, uint16_t)
FASTACT_ROW_GRADIENTS(bfloat, uint16_t)

/* The gradient of log_softmax for at most 64 columns, width of them; element i of x is at x + i x_item. Line by line: sixteen columns at a
   time, each of whose lines is on a page of its own, the panels of 1000 x 1024 went at 1.1 Gelem/s, with what was stored twice, so at 2.3. */
static inline void log_gradient_of_columns_16(const float *x, ptrdiff_t x_item, const float *g, ptrdiff_t g_item, float *y,
                                              ptrdiff_t y_item, ptrdiff_t n, ptrdiff_t width, const float *total, float factor)
{
    const origin_16 o = origin_of_16(_mm512_setzero_ps());
    const __m512 f = _mm512_set1_ps(factor);
    scaled_16 s[4];
    __m512 missing;
    const __m512i powers = powers_of_row(o, &missing);
    for (ptrdiff_t j = 0; j < width; j += 16)
        s[j / 16] = scaled_total_16(_mm512_maskz_loadu_ps(first_of(width - j), total + j));
    for (ptrdiff_t i = 0; i < n; i++, x += x_item, g += g_item, y += y_item)
        for (ptrdiff_t j = 0; j < width; j += 16) {
            const __mmask16 in = first_of(width - j);
            _mm512_mask_storeu_ps(y + j, in, log_gradient_of_16(_mm512_maskz_loadu_ps(in, x + j), _mm512_maskz_loadu_ps(in, g + j), s[j / 16], f, o,
                                                                powers, missing));
        }
}
#else
#define FASTACT_NO_GRADIENTS(KIND, T)                                                                          \
    static inline double sum_where_finite_16_##KIND(const T *g, const T *x, ptrdiff_t n) { return 0; }         \
    static inline void softmax_gradient_16_##KIND(const T *p, const T *g, T *y, ptrdiff_t n, float factor) {}  \
    static inline void log_gradient_16_##KIND(const T *x, const T *g, T *y, ptrdiff_t n, float total, float factor, ptrdiff_t ahead) {}
FASTACT_NO_GRADIENTS(float, float)
FASTACT_NO_GRADIENTS(half, uint16_t)
FASTACT_NO_GRADIENTS(bfloat, uint16_t)
static inline void log_gradient_of_columns_16(const float *x, ptrdiff_t x_item, const float *g, ptrdiff_t g_item, float *y,
                                              ptrdiff_t y_item, ptrdiff_t n, ptrdiff_t width, const float *total, float factor) {}
#endif

#endif
