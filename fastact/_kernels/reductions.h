/* Sums, extremes and searches over contiguous arrays: plain loops, which without -ffast-math a compiler leaves scalar. */
#ifndef FASTACT_REDUCTIONS_H
#define FASTACT_REDUCTIONS_H

#include <string.h>

#include "primitives.h"

#define FASTACT_DOUBLES (FASTACT_VECTOR / 8)

typedef double doubles __attribute__((vector_size(FASTACT_VECTOR), aligned(8), may_alias));

typedef float piece_float __attribute__((vector_size(FASTACT_VECTOR / 2), aligned(4), may_alias));
typedef int32_t mask_float __attribute__((vector_size(FASTACT_VECTOR / 2), aligned(4), may_alias));
typedef doubles piece_double;
typedef int64_t mask_double __attribute__((vector_size(FASTACT_VECTOR), aligned(8), may_alias));

static inline doubles widen_float(piece_float x)
{
#if defined(__AVX512F__)
    return (doubles)_mm512_cvtps_pd((__m256)x); /* GCC 12 makes two of the conversion below */
#elif defined(__AVX__)
    return (doubles)_mm256_cvtps_pd((__m128)x);
#else
    return __builtin_convertvector(x, doubles);
#endif
}
static inline doubles widen_double(piece_double x) { return x; }

/* What is added to a sum: floats in double, doubles with their rounding errors in low (Knuth's two-sum). */
static inline void add_float(doubles x, doubles *sum, doubles *low)
{
    (void)low;
    *sum += x;
}
static inline void add_double(doubles x, doubles *sum, doubles *low)
{
    doubles old = *sum, share;
    *sum = old + x;
    share = *sum - old;
    *low += (old - (*sum - share)) + (x - share);
}

/* Halves of the lanes of a sum are added until one is left; what rounding took from it is in rest. */
static inline double add_up_float(double *total, double *low, double *rest)
{
    (void)low;
    for (int j = 0; j < 8; j++)
        total[j] += total[j + 8];
    for (int j = 0; j < 4; j++)
        total[j] += total[j + 4];
    *rest = 0;
    return (total[0] + total[2]) + (total[1] + total[3]);
}
static inline double add_up_double(double *total, double *low, double *rest)
{
    double sum;
    for (int half = 4; half; half /= 2)
        for (int j = 0; j < half; j++) {
            double a = total[j], b = total[j + half], s = a + b, share = s - a;
            low[j] += low[j + half] + ((a - (s - share)) + (b - share));
            total[j] = s;
        }
    if (!(*low - *low == 0))
        *low = 0; /* the sum is infinite or NaN */
    sum = *total + *low;
    *rest = *low - (sum - *total);
    return sum;
}

/* add_lanes_T adds n elements to 64 / sizeof(T) lanes of a sum, always in one order, however wide the vectors are: lane j
   takes elements j, j + lanes, ... What is left over at the end goes to the last lanes, or to the first if there are fewer
   elements than lanes. */
#define FASTACT_REDUCTIONS(T, I)                                                                        \
    static const I last_lanes_##T[128 / sizeof(T)] = {[64 / sizeof(T) ... 128 / sizeof(T) - 1] = -1};   \
    static inline void add_lanes_##T(const T *x, ptrdiff_t n, double *total, double *low)               \
    {                                                                                                   \
        enum { LANES = 64 / sizeof(T), PIECES = LANES / FASTACT_DOUBLES };                              \
        T few[LANES] = {0};                                                                             \
        const T *last = x + n - LANES;                                                                  \
        doubles sum[PIECES], rest[PIECES];                                                              \
        ptrdiff_t i, missing = (LANES - n % LANES) % LANES;                                             \
        for (int k = 0; k < PIECES; k++)                                                                \
            sum[k] = ((doubles *)total)[k], rest[k] = ((doubles *)low)[k];                              \
        for (i = 0; i + LANES <= n; i += LANES)                                                         \
            for (int k = 0; k < PIECES; k++)                                                            \
                add_##T(widen_##T(((const piece_##T *)(x + i))[k]), sum + k, rest + k); \
        if (n < LANES) {                                                                                \
            for (i = 0; i < n; i++)                                                                     \
                few[i] = x[i];                                                                          \
            last = few;                                                                                 \
            missing = 0;                                                                                \
        }                                                                                               \
        if (n % LANES)                                                                                  \
            for (int k = 0; k < PIECES; k++) {                                                          \
                mask_##T kept = ((const mask_##T *)last)[k] & ((const mask_##T *)(last_lanes_##T + LANES - missing))[k]; \
                add_##T(widen_##T((piece_##T)kept), sum + k, rest + k);          \
            }                                                                                           \
        for (int k = 0; k < PIECES; k++)                                                                \
            ((doubles *)total)[k] = sum[k], ((doubles *)low)[k] = rest[k];                              \
    }                                                                                                   \
    /* The products of n elements with grad, in double, where they are not positive, to those lanes in that order. */ \
    static inline void add_falling_##T(const T *grad, const T *x, ptrdiff_t n, double *total, double *low) \
    {                                                                                                   \
        enum { LANES = 64 / sizeof(T), PIECES = LANES / FASTACT_DOUBLES };                              \
        T few_grad[LANES] = {0}, few_x[LANES] = {0};                                                    \
        doubles sum[PIECES], rest[PIECES];                                                              \
        for (int k = 0; k < PIECES; k++)                                                                \
            sum[k] = ((doubles *)total)[k], rest[k] = ((doubles *)low)[k];                              \
        for (ptrdiff_t i = 0; i < n; i += LANES) {                                                      \
            const piece_##T *g = (const piece_##T *)(grad + i), *a = (const piece_##T *)(x + i);        \
            if (n - i < LANES) {                                                                        \
                memcpy(few_grad, g, (n - i) * sizeof(T));                                               \
                memcpy(few_x, a, (n - i) * sizeof(T));                                                  \
                g = (const piece_##T *)few_grad, a = (const piece_##T *)few_x;                          \
            }                                                                                           \
            for (int k = 0; k < PIECES; k++) {                                                          \
                const doubles wide = widen_##T(a[k]), product = widen_##T(g[k]) * wide;                 \
                add_##T((doubles)((mask_double)product & ~(wide > 0)), sum + k, rest + k);              \
            }                                                                                           \
        }                                                                                               \
        for (int k = 0; k < PIECES; k++)                                                                \
            ((doubles *)total)[k] = sum[k], ((doubles *)low)[k] = rest[k];                              \
    }                                                                                                   \
    /* Each of n elements, whole vectors of 64 bytes, to a sum of its own. */                           \
    static inline void add_line_##T(const T *x, ptrdiff_t n, double *total, double *low)                \
    {                                                                                                   \
        for (ptrdiff_t j = 0; j < n; j += FASTACT_DOUBLES)                                              \
            add_##T(widen_##T(*(const piece_##T *)(x + j)), (doubles *)(total + j), (doubles *)(low + j));\
    }                                                                                                   \
    /* The largest of start and the elements that are not NaN. */                                       \
    static inline T largest_##T(const T *x, ptrdiff_t n, T start)                                       \
    {                                                                                                   \
        _Pragma("omp simd reduction(max:start)")                                                        \
        for (ptrdiff_t i = 0; i < n; i++)                                                               \
            start = x[i] > start ? x[i] : start;                                                        \
        return start;                                                                                   \
    }                                                                                                   \
    static inline T smallest_##T(const T *x, ptrdiff_t n, T start)                                      \
    {                                                                                                   \
        _Pragma("omp simd reduction(min:start)")                                                        \
        for (ptrdiff_t i = 0; i < n; i++)                                                               \
            start = x[i] < start ? x[i] : start;                                                        \
        return start;                                                                                   \
    }                                                                                                   \
    /* The first index of value, or n. */                                                               \
    static inline ptrdiff_t position_##T(const T *x, ptrdiff_t n, T value)                              \
    {                                                                                                   \
        I first = (I)n;                                                                                 \
        _Pragma("omp simd reduction(min:first)")                                                        \
        for (I i = 0; i < (I)n; i++)                                                                    \
            first = x[i] == value && i < first ? i : first;                                             \
        return first;                                                                                   \
    }
FASTACT_REDUCTIONS(float, int32_t)
FASTACT_REDUCTIONS(double, int64_t)

/* The sum of what two arrays have as VALUE, as add_lanes has it of blocks of 256. By way of such blocks, and with a loop for each step, softmax's
   gradient of 1024 x 1000 doubles went at 2.3 and 5.3 Gelem/s on one thread and two, so at 3.1 and 6.7 (Zen 5). */
#define FASTACT_SUM_OF_BOTH(NAME, T, VALUE)                                                             \
    static inline double NAME##_##T(const T *a, const T *b, ptrdiff_t n)                                \
    {                                                                                                   \
        enum { LANES = 64 / sizeof(T), PIECES = LANES / FASTACT_DOUBLES };                              \
        T few_a[LANES] = {0}, few_b[LANES] = {0};                                                       \
        double total[LANES], low[LANES], lost;                                                          \
        doubles sum[PIECES] = {0}, rest[PIECES] = {0};                                                  \
        const ptrdiff_t left = n % LANES, whole = n - left, place = n % 256 < LANES ? 0 : LANES - left; \
        for (ptrdiff_t i = 0; i < whole; i += LANES)                                                    \
            for (int k = 0; k < PIECES; k++)                                                            \
                add_##T(widen_##T(VALUE(T, ((const piece_##T *)(a + i))[k], ((const piece_##T *)(b + i))[k])), sum + k, rest + k); \
        memcpy(few_a + place, a + whole, left * sizeof(T));                                             \
        memcpy(few_b + place, b + whole, left * sizeof(T));                                             \
        for (int k = 0; k < PIECES; k++) {                                                              \
            add_##T(widen_##T(VALUE(T, ((const piece_##T *)few_a)[k], ((const piece_##T *)few_b)[k])), sum + k, rest + k); \
            ((doubles *)total)[k] = sum[k], ((doubles *)low)[k] = rest[k];                              \
        }                                                                                               \
        return add_up_##T(total, low, &lost);                                                           \
    }
#define FASTACT_PRODUCT(T, u, v) ((u) * (v))
#define FASTACT_WHERE_FINITE(T, u, v) ((piece_##T)((mask_##T)(u) & ((v) != -(T)INFINITY))) /* u, or 0 where v is -inf */
FASTACT_SUM_OF_BOTH(sum_of_products, float, FASTACT_PRODUCT)
FASTACT_SUM_OF_BOTH(sum_of_products, double, FASTACT_PRODUCT)
FASTACT_SUM_OF_BOTH(sum_where_finite, float, FASTACT_WHERE_FINITE)
FASTACT_SUM_OF_BOTH(sum_where_finite, double, FASTACT_WHERE_FINITE)

#endif
