/* What Cython cannot say: fused operations, bit casts, restrict, register-level stores and conversions. */
#ifndef FASTACT_PRIMITIVES_H
#define FASTACT_PRIMITIVES_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>
#define FASTACT_X86 1
#endif

#define ALWAYS static inline __attribute__((always_inline))

#if defined(__AVX512F__)
#define FASTACT_VECTOR 64
#elif defined(__AVX__)
#define FASTACT_VECTOR 32
#else
#define FASTACT_VECTOR 16
#endif

#if defined(__FMA__) || defined(__aarch64__) || defined(__FP_FAST_FMA)
#define FASTACT_FMA 1
#endif

/* In-place calls are fine although input and output then are one array: every element is loaded before it is stored. */
typedef float *__restrict fa_restrict_float;
typedef double *__restrict fa_restrict_double;
typedef uint16_t *__restrict fa_restrict_half;

static inline int32_t bits_f(float x) { int32_t i; memcpy(&i, &x, sizeof i); return i; }
static inline int64_t bits_d(double x) { int64_t i; memcpy(&i, &x, sizeof i); return i; }
static inline float from_bits_f(int32_t i) { float x; memcpy(&x, &i, sizeof x); return x; }
static inline double from_bits_d(int64_t i) { double x; memcpy(&x, &i, sizeof x); return x; }

/* a * b + c, fused where the hardware can: for polynomials, where either rounding will do. */
#ifdef FASTACT_FMA
static inline float muladd_f(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
static inline double muladd_d(double a, double b, double c) { return __builtin_fma(a, b, c); }
#else
static inline float muladd_f(float a, float b, float c) { return a * b + c; }
static inline double muladd_d(double a, double b, double c) { return a * b + c; }
#endif

/* a * b + c with one rounding, for the rounding error of a product or a quotient (c close to -a * b) and for last steps.
   Without the instruction float goes through double, which holds the product exactly, and double through Dekker's
   splitting (Numer. Math. 18, 1971), which is exact only where c is close to -a * b. */
#ifdef FASTACT_FMA
#define fused_f muladd_f
#define fused_d muladd_d
#else
/* Long enough that GCC would else leave some calls, which keep the loop around them from being vectorised. */
ALWAYS float fused_f(float a, float b, float c) { return (float)((double)a * b + c); }
ALWAYS double high_half(double a) { return from_bits_d(bits_d(a) & ~(int64_t)0x7ffffff); }
ALWAYS double fused_d(double a, double b, double c)
{
    double p = a * b, ah = high_half(a), al = a - ah, bh = high_half(b), bl = b - bh;
    double error = ((ah * bh - p) + ah * bl + al * bh) + al * bl;
    double rough = p + c, sum = rough + error;
    sum = sum == sum ? sum : rough; /* infinities cannot be split */
    return sum == 0 ? rough : sum;  /* the sign of zero */
}
#endif

/* x / 6, to half an ULP as the division, which is six times as long as the two operations that can be fused. */
#ifdef FASTACT_FMA
static inline float sixth_f(float x) { return __builtin_fmaf(x, 0x1.555556p-3f, x * -0x1.555556p-28f); }
static inline double sixth_d(double x) { return __builtin_fma(x, 0x1.5555555555555p-3, x * 0x1.5555555555555p-57); }
#else
static inline float sixth_f(float x) { return x / 6; }
static inline double sixth_d(double x) { return x / 6; }
#endif

/* Powers of two from t = magic + n, whose low bits hold n plus a bias (see exp_parts in scalar.pxd). */
static inline float power_of_two_f(float t) { return from_bits_f((int32_t)((uint32_t)bits_f(t) << 23)); }
static inline double power_of_two_d(double t) { return from_bits_d((int64_t)((uint64_t)bits_d(t) << 52)); }
/* The same beyond the range of the exponent, as a product of two; here n has twice the bias. */
static inline float half_power_f(float t, float *other)
{
    uint32_t n = (uint32_t)bits_f(t), h = (n & 0xfff) >> 1;
    *other = from_bits_f((int32_t)((n - h) << 23));
    return from_bits_f((int32_t)(h << 23));
}
static inline double half_power_d(double t, double *other)
{
    uint64_t n = (uint64_t)bits_d(t), h = (n & 0xffff) >> 1;
    *other = from_bits_d((int64_t)((n - h) << 52));
    return from_bits_d((int64_t)(h << 52));
}

/* x = 2^n m, m from sqrt(1/2) to sqrt(2), for positive finite x; returns m. AVX2 has no conversion from 64-bit integers, so
   the exponent of a double goes to where the low bits of 2^52 are. */
static inline float split_f(float x, float *n)
{
    int tiny = x < 0x1p-126f;
    uint32_t i = (uint32_t)bits_f(tiny ? x * 0x1p24f : x) + (0x3f800000u - 0x3f3504f3u);
    *n = (float)(int32_t)(i >> 23) - (tiny ? 127.0f + 24.0f : 127.0f);
    return from_bits_f((int32_t)((i & 0x7fffff) + 0x3f3504f3u));
}
static inline double split_d(double x, double *n)
{
    int tiny = x < 0x1p-1022;
    uint64_t i = (uint64_t)bits_d(tiny ? x * 0x1p54 : x) + (0x3ff0000000000000u - 0x3fe6a09e667f3bcdu);
    *n = from_bits_d((int64_t)(i >> 52 | 0x4330000000000000u)) - (tiny ? 0x1p52 + 1023 + 54 : 0x1p52 + 1023);
    return from_bits_d((int64_t)((i & 0xfffffffffffffu) + 0x3fe6a09e667f3bcdu));
}

/* NumPy looks at the status register after a loop and would warn about what the formulas mean to happen. */
static inline void clear_fp_status(void)
{
#ifdef FASTACT_X86
    _mm_setcsr(_mm_getcsr() & ~0x3fu);
#elif defined(__aarch64__)
    uint64_t zero = 0;
    __asm__ volatile("msr fpsr, %0" : : "r"(zero));
#endif
}

/* Brings a line to the second-level cache. */
static inline void prefetch(const void *address) { __builtin_prefetch(address, 0, 2); }

/* Brings what comes 4 KiB later to the first-level cache, for as many bytes. */
static inline void prefetch_ahead(const void *address, ptrdiff_t bytes)
{
    for (ptrdiff_t k = 0; k < bytes; k += 64)
        __builtin_prefetch((const char *)address + 4096 + k, 0, 3);
}

/* 64 bytes, past the cache, to a multiple of 64. */
ALWAYS void stream_line(char *to, const char *from)
{
#if defined(__AVX512F__)
    _mm512_stream_si512((__m512i *)to, _mm512_loadu_si512(from));
#elif defined(__AVX__)
    for (int k = 0; k < 64; k += 32)
        _mm256_stream_si256((__m256i *)(to + k), _mm256_loadu_si256((const __m256i *)(from + k)));
#elif defined(FASTACT_X86)
    for (int k = 0; k < 64; k += 16)
        _mm_stream_si128((__m128i *)(to + k), _mm_loadu_si128((const __m128i *)(from + k)));
#else
    memcpy(to, from, 64);
#endif
}

/* Copies to memory past the cache, but for lines that are not whole: those that others write to as well would be written to memory
   part by part, which takes 0.4 us. to is aligned as its type. Call stream_fence before anyone else reads. */
static inline void stream_copy(char *to, const char *from, ptrdiff_t bytes)
{
#ifdef FASTACT_X86
    ptrdiff_t head = (ptrdiff_t)(-(uintptr_t)to & 63), i;
    if (head > bytes)
        head = bytes;
    memcpy(to, from, (size_t)head);
    to += head, from += head, bytes -= head;
    for (i = 0; i + 64 <= bytes; i += 64)
        stream_line(to + i, from + i);
    memcpy(to + i, from + i, (size_t)(bytes - i));
#else
    memcpy(to, from, (size_t)bytes);
#endif
}
static inline void stream_zeros(char *to, ptrdiff_t bytes)
{
    static const char zeros[4096];
    for (ptrdiff_t i = 0, count; i < bytes; i += count) {
        /* Up to where a line begins, so that all pieces but the last are whole lines. In stores of 16 bytes instead, rows that do
           not begin where lines do took twice as long. */
        count = 4096 - (ptrdiff_t)((uintptr_t)(to + i) & 63);
        count = count < bytes - i ? count : bytes - i;
        stream_copy(to + i, zeros, count);
    }
}
/* Zeros, but for an element of so many bytes at a place. */
static inline void stream_element(char *to, ptrdiff_t bytes, ptrdiff_t at, const void *element, ptrdiff_t size)
{
    char line[64] = {0};
    const ptrdiff_t start = at - (ptrdiff_t)((uintptr_t)(to + at) & 63), first = start > 0 ? start : 0;
    const ptrdiff_t end = start + 64 < bytes ? start + 64 : bytes;
    memcpy(line + (at - first), element, (size_t)size);
    stream_zeros(to, first);
    stream_copy(to + first, line, end - first);
    stream_zeros(to + end, bytes - end);
}
static inline void stream_fence(void)
{
#ifdef FASTACT_X86
    _mm_sfence();
#endif
}

/* Up to FASTACT_GAPPED elements that lie step bytes apart side by side, and back; n are left. Every other element comes by whole vectors
   and permutations, which read what lies between too, and one element more: the compiler leaves the last of such a loop scalar. */
#define FASTACT_GAPPED 64
#ifdef __AVX512F__
#define FASTACT_EVERY_OTHER 1
#else
#define FASTACT_EVERY_OTHER 0 /* no masked stores worth it */
#endif
#define FASTACT_GAPS(T, STORE_EVERY_OTHER)                                                   \
    static inline void collect_##T(const char *from, ptrdiff_t step, ptrdiff_t n, T *to)     \
    {                                                                                        \
        const T *x = (const T *)from;                                                        \
        const ptrdiff_t count = n < FASTACT_GAPPED ? n : FASTACT_GAPPED;                     \
        if (n > FASTACT_GAPPED && step == 2 * sizeof(T))                                     \
            for (ptrdiff_t j = 0; j <= FASTACT_GAPPED; j++)                                  \
                to[j] = x[2 * j];                                                            \
        else if (count == FASTACT_GAPPED && step == sizeof(T))                               \
            memcpy(to, from, FASTACT_GAPPED * sizeof(T));                                    \
        else                                                                                 \
            for (ptrdiff_t j = 0; j < count; j++)                                            \
                to[j] = *(const T *)(from + j * step);                                       \
    }                                                                                        \
    static inline void spread_##T(const T *from, char *to, ptrdiff_t step, ptrdiff_t n)      \
    {                                                                                        \
        const ptrdiff_t count = n < FASTACT_GAPPED ? n : FASTACT_GAPPED;                     \
        if (count == FASTACT_GAPPED && step == sizeof(T))                                    \
            memcpy(to, from, FASTACT_GAPPED * sizeof(T));                                    \
        else if (count < FASTACT_GAPPED || step != 2 * sizeof(T) || !STORE_EVERY_OTHER(from, (T *)to)) \
            for (ptrdiff_t j = 0; j < count; j++)                                            \
                *(T *)(to + j * step) = from[j];                                             \
    }
#ifdef __AVX512F__
/* What lies between is not written to: it may be someone else's. */
static inline int store_every_other_float(const float *from, float *to)
{
    const __m512i twice = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
    for (int j = 0; j < FASTACT_GAPPED; j += 8)
        _mm512_mask_storeu_ps(to + 2 * j, 0x5555, _mm512_permutexvar_ps(twice, _mm512_castps256_ps512(_mm256_loadu_ps(from + j))));
    return 1;
}
static inline int store_every_other_double(const double *from, double *to)
{
    const __m512i twice = _mm512_setr_epi64(0, 0, 1, 1, 2, 2, 3, 3);
    for (int j = 0; j < FASTACT_GAPPED; j += 4)
        _mm512_mask_storeu_pd(to + 2 * j, 0x55, _mm512_permutexvar_pd(twice, _mm512_castpd256_pd512(_mm256_loadu_pd(from + j))));
    return 1;
}
FASTACT_GAPS(float, store_every_other_float)
FASTACT_GAPS(double, store_every_other_double)
#else
#define FASTACT_ONE_BY_ONE(from, to) 0
FASTACT_GAPS(float, FASTACT_ONE_BY_ONE)
FASTACT_GAPS(double, FASTACT_ONE_BY_ONE)
#endif
/* Any number of them. A masked store that finds no line in the cache is slow, so the lines are called there for the next block of 512:
   every other float of 2^20, gathered, computed and scattered, 2.4 Gelem/s one by one, so 4.0, without the call 3.0, of 2^22 2.2, 1.9 and
   1.15 (Zen 5, one thread). Doubles had better go one by one, as these are past the second-level cache 0.9 of that. */
static inline void collect_floats(const char *from, ptrdiff_t step, ptrdiff_t n, float *to)
{
    for (; n > 0; n -= FASTACT_GAPPED, from += FASTACT_GAPPED * step, to += FASTACT_GAPPED)
        collect_float(from, step, n, to);
}
static inline void spread_floats(const float *from, char *to, ptrdiff_t step, ptrdiff_t n)
{
    for (; n > 0; n -= FASTACT_GAPPED, from += FASTACT_GAPPED, to += FASTACT_GAPPED * step) {
        if (FASTACT_EVERY_OTHER && step == 2 * sizeof(float))
            prefetch_ahead(to, FASTACT_GAPPED * step);
        spread_float(from, to, step, n);
    }
}

/* Half formats <-> float. Integer arithmetic so that every build vectorises it; the hardware's own where there is one. */
static inline float half_to_float(uint16_t h)
{
#ifdef __F16C__
    return _cvtsh_ss(h);
#else
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, rest = (uint32_t)(h & 0x7fff) << 13;
    float scaled = from_bits_f((int32_t)rest) * 0x1p112f;            /* rebias; subnormals come out right */
    uint32_t bits = (uint32_t)bits_f(scaled);
    bits = (h & 0x7c00) == 0x7c00 ? rest | 0x7f800000u : bits;
    return from_bits_f((int32_t)(bits | sign));
#endif
}
static inline uint16_t float_to_half(float x)
{
#ifdef __F16C__
    return _cvtss_sh(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
#else
    uint32_t bits = (uint32_t)bits_f(x), sign = (bits >> 16) & 0x8000, a = bits & 0x7fffffffu;
    uint32_t normal = (a - 0x38000000u + 0xfffu + ((a >> 13) & 1)) >> 13;
    uint32_t subnormal = (uint32_t)bits_f(from_bits_f((int32_t)a) + 0.5f) - 0x3f000000u; /* the addition rounds at 2^-24 */
    uint32_t h = a < 0x38800000u ? subnormal : a >= 0x47800000u ? 0x7c00u : normal;
    h = a > 0x7f800000u ? 0x7e00u | ((a >> 13) & 0x3ff) : h;
    return (uint16_t)(h | sign);
#endif
}
static inline void widen_half(const uint16_t *from, float *to, ptrdiff_t n)
{
    ptrdiff_t i = 0;
#if defined(__AVX512F__)
    for (; i + 16 <= n; i += 16)
        _mm512_storeu_ps(to + i, _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(from + i))));
#elif defined(__F16C__)
    for (; i + 8 <= n; i += 8)
        _mm256_storeu_ps(to + i, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(from + i))));
#endif
    for (; i < n; i++)
        to[i] = half_to_float(from[i]);
}
static inline void narrow_half(const float *from, uint16_t *to, ptrdiff_t n)
{
    ptrdiff_t i = 0;
#if defined(__AVX512F__)
    for (; i + 16 <= n; i += 16)
        _mm256_storeu_si256((__m256i *)(to + i), _mm512_cvtps_ph(_mm512_loadu_ps(from + i), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
#elif defined(__F16C__)
    for (; i + 8 <= n; i += 8)
        _mm_storeu_si128((__m128i *)(to + i), _mm256_cvtps_ph(_mm256_loadu_ps(from + i), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
#endif
    for (; i < n; i++)
        to[i] = float_to_half(from[i]);
}
/* The same for the FASTACT_TILE elements of a tile, for loops that compute on it in registers: the formula's own loop over a tile,
   between these two, becomes a few instructions, and the arrays around it disappear (GCC 12's report and assembly). More
   elements do not, and up to 16 are taken apart before the vectoriser sees them. The elements of a tile of bfloat16 are in
   another order, those at even places first, which takes a shift or a mask instead of an unpacking. */
#define FASTACT_TILE 32
/* Past the cache, to a multiple of 64. */
static inline void stream_tile_float(const float *from, float *to)
{
    for (int k = 0; k < FASTACT_TILE; k += 16)
        stream_line((char *)(to + k), (const char *)(from + k));
}
static inline void stream_tile_double(const double *from, double *to)
{
    for (int k = 0; k < FASTACT_TILE; k += 8)
        stream_line((char *)(to + k), (const char *)(from + k));
}
/* Every other element of a tile. */
#ifdef __AVX512F__
static inline void alternate_tile_float(const float *from, float *to)
{
    for (int k = 0; k < FASTACT_TILE; k += 16)
        _mm512_mask_storeu_ps(to + k, 0x5555, _mm512_loadu_ps(from + k));
}
static inline void alternate_tile_double(const double *from, double *to)
{
    for (int k = 0; k < FASTACT_TILE; k += 8)
        _mm512_mask_storeu_pd(to + k, 0x55, _mm512_loadu_pd(from + k));
}
#else
static inline void alternate_tile_float(const float *from, float *to) {}
static inline void alternate_tile_double(const double *from, double *to) {}
#endif
#ifdef __F16C__
#define FASTACT_HALF_TILES 1
#else
#define FASTACT_HALF_TILES 0 /* without the instruction it is half as fast as by way of buffers */
#endif
static inline void widen_tile_half(const uint16_t *from, float *to) { widen_half(from, to, FASTACT_TILE); }
static inline void narrow_tile_half(const float *from, uint16_t *to) { narrow_half(from, to, FASTACT_TILE); }
/* In vectors: GCC takes loops of 16 elements apart and does not always find its way back (relu_squared at a fifteenth of its speed). */
typedef float fa_floats __attribute__((vector_size(FASTACT_VECTOR)));
typedef uint32_t fa_words __attribute__((vector_size(FASTACT_VECTOR)));
enum { FASTACT_WORDS = FASTACT_VECTOR / 4 };
static inline void widen_tile_bfloat(const uint16_t *from, float *to)
{
    for (int i = 0; i < FASTACT_TILE / 2; i += FASTACT_WORDS) {
        fa_words two, low, high;
        memcpy(&two, from + 2 * i, sizeof two);
        low = two << 16, high = two & 0xffff0000u;
        memcpy(to + i, &low, sizeof low);
        memcpy(to + i + FASTACT_TILE / 2, &high, sizeof high);
    }
}
static inline fa_words rounded_to_bfloats(fa_floats x)
{
    const fa_words bits = (fa_words)x, rounded = bits + 0x7fff + ((bits >> 16) & 1), quiet = bits | 0x400000;
#ifdef __AVX512F__
    return (fa_words)_mm512_mask_mov_epi32((__m512i)rounded, _mm512_cmp_ps_mask((__m512)x, (__m512)x, _CMP_UNORD_Q), (__m512i)quiet);
#else
    const fa_words nan = (fa_words)(x != x);
    return (rounded & ~nan) | (quiet & nan);
#endif
}
static inline void narrow_tile_bfloat(const float *from, uint16_t *to)
{
    for (int i = 0; i < FASTACT_TILE / 2; i += FASTACT_WORDS) {
        fa_floats low, high;
        fa_words two;
        memcpy(&low, from + i, sizeof low);
        memcpy(&high, from + i + FASTACT_TILE / 2, sizeof high);
        two = rounded_to_bfloats(low) >> 16 | (rounded_to_bfloats(high) & 0xffff0000u);
        memcpy(to + 2 * i, &two, sizeof two);
    }
}
static inline void widen_bfloat(const uint16_t *__restrict from, float *__restrict to, ptrdiff_t n)
{
    for (ptrdiff_t i = 0; i < n; i++)
        to[i] = from_bits_f((int32_t)((uint32_t)from[i] << 16));
}
static inline void narrow_bfloat(const float *__restrict from, uint16_t *__restrict to, ptrdiff_t n)
{
    for (ptrdiff_t i = 0; i < n; i++) {
        uint32_t bits = (uint32_t)bits_f(from[i]);
        uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1)) >> 16;
        to[i] = (uint16_t)((bits & 0x7fffffffu) > 0x7f800000u ? (bits >> 16) | 0x40 : rounded);
    }
}

#ifdef __AVX512F__
/* Sixteen elements as floats, those that in has, and back; where it has all GCC leaves the mask away. */
ALWAYS __m512 load_16_float(const float *p, __mmask16 in) { return _mm512_maskz_loadu_ps(in, p); }
ALWAYS void store_16_float(float *p, __mmask16 in, __m512 x) { _mm512_mask_storeu_ps(p, in, x); }
ALWAYS __m512 load_16_half(const uint16_t *p, __mmask16 in) { return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(in, p)); }
ALWAYS void store_16_half(uint16_t *p, __mmask16 in, __m512 x)
{
    _mm256_mask_storeu_epi16(p, in, _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
ALWAYS __m512 load_16_bfloat(const uint16_t *p, __mmask16 in)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(in, p)), 16));
}
ALWAYS void store_16_bfloat(uint16_t *p, __mmask16 in, __m512 x)
{
    _mm256_mask_storeu_epi16(p, in, _mm512_cvtepi32_epi16((__m512i)(rounded_to_bfloats((fa_floats)x) >> 16)));
}
#endif

#endif
