/* Sums, extremes and searches over contiguous arrays: plain loops, which without -ffast-math a compiler leaves scalar. */
#ifndef FASTACT_REDUCTIONS_H
#define FASTACT_REDUCTIONS_H

#include <stddef.h>
#include <stdint.h>

#if defined(__AVX512F__)
#define FASTACT_VECTOR 64
#elif defined(__AVX__)
#define FASTACT_VECTOR 32
#else
#define FASTACT_VECTOR 16
#endif

#define FASTACT_VECTORS(T, I)                                                                           \
    typedef T vector_##T __attribute__((vector_size(FASTACT_VECTOR), aligned(sizeof(T)), may_alias));   \
    typedef I mask_##T __attribute__((vector_size(FASTACT_VECTOR), aligned(sizeof(I)), may_alias));     \
    static const I last_lanes_##T[128 / sizeof(T)] = {[64 / sizeof(T) ... 128 / sizeof(T) - 1] = -1};   \
    static inline vector_##T load_##T(const T *x) { return *(const vector_##T *)x; }                    \
    static inline vector_##T load_last_##T(const T *x, ptrdiff_t count)                                 \
    {                                                                                                   \
        return (vector_##T)(*(const mask_##T *)x & *(const mask_##T *)(last_lanes_##T + count));        \
    }
FASTACT_VECTORS(float, int32_t)
FASTACT_VECTORS(double, int64_t)

/* x is added to lanes of a sum: floats in double, doubles with the rounding errors in low (Knuth's two-sum). */
static inline void add_float(vector_float x, double *sum, double *low)
{
    (void)low;
    for (int j = 0; j < (int)(FASTACT_VECTOR / sizeof(float)); j++)
        sum[j] += x[j];
}
static inline void add_double(vector_double x, double *sum, double *low)
{
    vector_double old = load_double(sum), next = old + x, share = next - old;
    *(vector_double *)sum = next;
    *(vector_double *)low += (old - (next - share)) + (x - share);
}

/* add_lanes_T adds n elements to 64 / sizeof(T) lanes of a sum, always in one order, however wide the vectors are: lane j
   takes elements j, j + lanes, ... What is left over at the end goes to the last lanes, or to the first if there are fewer
   elements than lanes. */
#define FASTACT_REDUCTIONS(T, I)                                                                        \
    static inline void add_lanes_##T(const T *x, ptrdiff_t n, double *total, double *low)               \
    {                                                                                                   \
        const ptrdiff_t lanes = 64 / sizeof(T), part = FASTACT_VECTOR / sizeof(T);                      \
        T few[64 / sizeof(T)] = {0};                                                                    \
        double sum[64 / sizeof(T)], rest[64 / sizeof(T)];                                               \
        ptrdiff_t i = 0;                                                                                \
        for (int j = 0; j < lanes; j++)                                                                 \
            sum[j] = total[j], rest[j] = low[j];                                                        \
        for (; i + lanes <= n; i += lanes)                                                              \
            for (int k = 0; k < lanes; k += part)                                                       \
                add_##T(load_##T(x + i + k), sum + k, rest + k);                                        \
        if (i < n && n >= lanes)                                                                        \
            for (int k = 0; k < lanes; k += part)                                                       \
                add_##T(load_last_##T(x + n - lanes + k, n - i + k), sum + k, rest + k);                \
        else if (i < n) {                                                                               \
            for (; i < n; i++)                                                                          \
                few[i] = x[i];                                                                          \
            for (int k = 0; k < lanes; k += part)                                                       \
                add_##T(load_##T(few + k), sum + k, rest + k);                                          \
        }                                                                                               \
        for (int j = 0; j < lanes; j++)                                                                 \
            total[j] = sum[j], low[j] = rest[j];                                                        \
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

#endif
