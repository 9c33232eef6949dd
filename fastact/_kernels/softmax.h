/* Softmax's terms, sixteen floats at a time: what the loops of rowwise.pxi are where there is AVX-512.

   Vectorised by the compiler those and their sum take 5.0 ns per 16 floats in the first-level cache (Zen 4), these 3.8, of
   which the sum is 1.3. */
#ifndef FASTACT_SOFTMAX_H
#define FASTACT_SOFTMAX_H

#include "primitives.h"

#ifdef __AVX512F__
#define FASTACT_TERMS_BY_HAND 1

/* 2^(k / 16), and what rounding took from it, as a share. */
static const float sixteenths[16] __attribute__((aligned(64))) = {
    0x1.000000p+0f, 0x1.0b5586p+0f, 0x1.172b84p+0f, 0x1.2387a6p+0f, 0x1.306fe0p+0f, 0x1.3dea64p+0f, 0x1.4bfdaep+0f, 0x1.5ab07ep+0f,
    0x1.6a09e6p+0f, 0x1.7a1148p+0f, 0x1.8ace54p+0f, 0x1.9c4918p+0f, 0x1.ae89fap+0f, 0x1.c199bep+0f, 0x1.d5818ep+0f, 0x1.ea4afap+0f};
static const float sixteenths_low[16] __attribute__((aligned(64))) = {
    0.000e+00f, 4.629e-08f, -1.199e-08f, 4.730e-08f, 3.193e-08f, 3.621e-08f, -3.099e-08f, -7.475e-09f,
    1.711e-08f, -3.048e-08f, 5.233e-09f, 6.108e-09f, -1.472e-08f, -5.259e-09f, -6.128e-09f, 5.141e-09f};

/* With n = round(16 z log2(e)) / 16 and r = z - n log(2), of |r| < 0.022, for any z and for the largest one, m,

       exp(z - m) = 2^(n - n_m) exp(-r_m) exp(r),

   in which no difference of two floats is rounded: exp would multiply that error by |z - m|. The term of m comes out as 1.
   Beyond REACH n has too many digits; there all z that count are so close to m that z - m is exact. */
typedef struct {
    __m512 base;   /* m beyond REACH, else 0: z = x - base */
    __m512 shift;  /* rounds to sixteenths, and adds HEADROOM - n_m */
    __m512 rest;   /* exp(-r_m) - 1 */
    __m512 floor;  /* below it terms are 0 */
} origin_16;

ALWAYS __m512 reduced_16(__m512 z, __m512 n)
{
    z = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693145751953125f), z);
    return _mm512_fnmadd_ps(n, _mm512_set1_ps(1.428606820309417e-06f), z);
}

/* exp(r) - 1, plus low */
ALWAYS __m512 growth_16(__m512 r, __m512 low)
{
    __m512 p = _mm512_fmadd_ps(r, _mm512_set1_ps(0.16666667f), _mm512_set1_ps(0.5000162f));
    return _mm512_fmadd_ps(r, _mm512_fmadd_ps(r, p, _mm512_set1_ps(1)), low);
}

ALWAYS origin_16 origin_of_16(__m512 m)
{
    const __m512 magic = _mm512_set1_ps(0x1.8p19f), reach = _mm512_set1_ps(208), zero = _mm512_setzero_ps();
    origin_16 o;
    __m512 z, n;
    o.base = _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(_mm512_abs_ps(m), reach, _CMP_GT_OQ), m);
    z = _mm512_sub_ps(m, o.base);
    n = _mm512_sub_ps(_mm512_fmadd_ps(z, _mm512_set1_ps(1.44269504f), magic), magic);
    o.shift = _mm512_sub_ps(_mm512_set1_ps(0x1.8p19f + 64), n);
    o.rest = growth_16(_mm512_sub_ps(zero, reduced_16(z, n)), zero);
    o.floor = _mm512_sub_ps(m, _mm512_set1_ps(130));
    return o;
}

/* Where the largest element of a row is at most NEAR from 0, softmax takes 0 for it: nothing overflows, no term that counts is
   subnormal, and the terms do not wait for it, nor does it have to be looked for before. The largest term then is not 1, and
   what rounding took from it would be an error of the whole row: the sum is that of the terms before they were rounded. */
#define FASTACT_NEAR_16 26
/* Of rows that long softmax always looks for the largest element, and adds the terms as floats: none being larger than 1, the
   sum 1 + y keeps what rounding takes from it as y - ((1 + y) - 1) (Dekker, Numer. Math. 18, 1971). ns per 16 floats, all steps
   in the first-level cache, near 0 and so: 64 floats 6.6 and 7.8, 128 5.9 and 5.9, 256 5.4 and 5.0, 1000 5.3 and 4.5 (Zen 4). */
#define FASTACT_LONG_16 256
enum { IN_DOUBLE, NEAR_0, IN_FLOAT };
typedef struct {
    __m512d low, high; /* the terms by lane, as add_lanes has them */
    __m512 sum;        /* or these as floats, and 1 more */
    __m512 rest;       /* what rounding took: from the sum IN_FLOAT, from the terms NEAR_0 */
    __m512 peak;       /* the largest elements NEAR_0 */
} sums_16;

ALWAYS sums_16 no_sums_16(void)
{
    const __m512d none = _mm512_setzero_pd();
    const sums_16 s = {none, none, _mm512_set1_ps(0x1p64f), _mm512_setzero_ps(), _mm512_set1_ps(-INFINITY)};
    return s;
}

ALWAYS origin_16 origin_near_16(void)
{
    const origin_16 o = {_mm512_setzero_ps(), _mm512_set1_ps(0x1.8p19f + 64), _mm512_setzero_ps(), _mm512_set1_ps(-130)};
    return o;
}

/* Bits of power exp(-r_m), and in missing what rounding took from it, as a share: from a sixteenth power and its own share. */
ALWAYS __m512i power_16(__m512 power, __m512 low, __m512 rest, __m512 *missing)
{
    __m512 high = _mm512_fmadd_ps(power, rest, power), error = _mm512_fmadd_ps(power, rest, _mm512_sub_ps(power, high));
    __m512 inverse = _mm512_fnmadd_ps(high, _mm512_set1_ps(0.5f), _mm512_set1_ps(1.457f)); /* to 5 percent */
    *missing = _mm512_fmadd_ps(error, inverse, low);
    return _mm512_castps_si512(high);
}

/* The sixteen powers of a row, less k 2^19, which is what the index of the power adds when the bits of t are shifted to where
   the exponent is. */
ALWAYS __m512i less_index(__m512i powers)
{
    const __m512i index = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    return _mm512_sub_epi32(powers, _mm512_slli_epi32(index, 19));
}

ALWAYS __m512i powers_of_row(origin_16 o, __m512 *missing)
{
    return less_index(power_16(_mm512_load_ps(sixteenths), _mm512_load_ps(sixteenths_low), o.rest, missing));
}

/* power (1 + p), 0 for x < floor, and in lost, unless that is NULL, what rounding took from it. */
ALWAYS __m512 product_16(__m512 x, origin_16 o, __m512 p, __m512 power, __m512 *lost)
{
    const __mmask16 counts = _mm512_cmp_ps_mask(x, o.floor, _CMP_NLT_UQ);
    const __m512 y = _mm512_maskz_fmadd_ps(counts, p, power, power);
    if (lost)
        *lost = _mm512_maskz_fmadd_ps(counts, p, power, _mm512_sub_ps(power, y));
    return y;
}

/* exp(x - m) 2^HEADROOM; 0 for x < floor. */
ALWAYS __m512 term_of_row_16(__m512 x, origin_16 o, int based, __m512i powers, __m512 missing, __m512 *lost)
{
    __m512 z = based ? _mm512_sub_ps(x, o.base) : x, t = _mm512_fmadd_ps(z, _mm512_set1_ps(1.44269504f), o.shift), p;
    __m512i bits = _mm512_castps_si512(t), power = _mm512_add_epi32(_mm512_permutexvar_epi32(bits, powers), _mm512_slli_epi32(bits, 19));
    p = growth_16(reduced_16(z, _mm512_sub_ps(t, o.shift)), _mm512_permutexvar_ps(bits, missing));
    return product_16(x, o, p, _mm512_castsi512_ps(power), lost);
}

ALWAYS __m512 term_of_columns_16(__m512 x, origin_16 o, __m512 *lost)
{
    __m512 z = _mm512_sub_ps(x, o.base), t = _mm512_fmadd_ps(z, _mm512_set1_ps(1.44269504f), o.shift), p, missing;
    __m512i bits = _mm512_castps_si512(t), power;
    power = power_16(_mm512_permutexvar_ps(bits, _mm512_load_ps(sixteenths)), _mm512_permutexvar_ps(bits, _mm512_load_ps(sixteenths_low)),
                     o.rest, &missing);
    power = _mm512_add_epi32(power, _mm512_slli_epi32(_mm512_andnot_si512(_mm512_set1_epi32(15), bits), 19));
    p = growth_16(reduced_16(z, _mm512_sub_ps(t, o.shift)), missing);
    return product_16(x, o, p, _mm512_castsi512_ps(power), lost);
}

ALWAYS void add_to_lanes(__m512 y, __m512d *low, __m512d *high)
{
    *low = _mm512_add_pd(*low, _mm512_cvtps_pd(_mm512_castps512_ps256(y)));
    *high = _mm512_add_pd(*high, _mm512_cvtps_pd(_mm512_extractf32x8_ps(y, 1)));
}

/* The elements z that counted has: their terms y, and what rounding took from these. */
ALWAYS void add_16(sums_16 *s, int how, __mmask16 counted, __m512 z, __m512 y, __m512 lost)
{
    y = _mm512_maskz_mov_ps(counted, y);
    if (how == IN_FLOAT) {
        const __m512 sum = _mm512_add_ps(s->sum, y);
        s->rest = _mm512_add_ps(s->rest, _mm512_sub_ps(y, _mm512_sub_ps(sum, s->sum)));
        s->sum = sum;
        return;
    }
    add_to_lanes(y, &s->low, &s->high);
    if (how == NEAR_0) {
        s->peak = _mm512_mask_max_ps(s->peak, counted, z, s->peak);
        s->rest = _mm512_mask_add_ps(s->rest, counted, s->rest, lost);
    }
}

/* What is kept beside the lanes, in them. */
ALWAYS void close_16(sums_16 *s, int how)
{
    if (how == IN_FLOAT)
        add_to_lanes(_mm512_sub_ps(s->sum, _mm512_set1_ps(0x1p64f)), &s->low, &s->high);
    if (how != IN_DOUBLE)
        add_to_lanes(s->rest, &s->low, &s->high);
}

/* What the last vector of n elements has that the one before it has not, as add_lanes adds it: the first elements if they are
   all there is of the last 256, else the last of sixteen. */
typedef struct {
    ptrdiff_t from;
    __mmask16 loaded, counted;
} last_16;

ALWAYS last_16 last_of(ptrdiff_t n)
{
    const ptrdiff_t rest = n & 15;
    const __mmask16 few = (__mmask16)((1u << rest) - 1);
    const last_16 alone = {n - rest, few, few}, overlapping = {n - 16, 0xffff, (__mmask16)~(0xffffu >> rest)};
    return (n & 255) < 16 ? alone : overlapping;
}

/* The terms of n elements of a row, kept in e unless that is NULL, and their sums. e may be x. ahead: the distance to what is to
   be in the cache next. negated: the terms of -x. */
ALWAYS void terms_from(origin_16 o, int based, int negated, __m512i powers, __m512 missing, const float *x, float *e, ptrdiff_t n, ptrdiff_t ahead,
                       int how, sums_16 *s)
{
    const last_16 last = last_of(n);
    /* In place, what the last vector shares with the one before it is loaded first. */
    const __m512 sign = _mm512_set1_ps(-0.0f);
    __m512 y, z, lost = _mm512_setzero_ps(), x_last = _mm512_maskz_loadu_ps(last.loaded, x + last.from);
    if (negated)
        x_last = _mm512_xor_ps(x_last, sign);
    for (ptrdiff_t i = 0; i + 16 <= n; i += 16) {
        _mm_prefetch((const char *)(x + i + ahead), _MM_HINT_T1);
        z = _mm512_loadu_ps(x + i);
        __asm__("" : "+v"(z)); /* or else GCC loads it twice */
        if (negated)
            z = _mm512_xor_ps(z, sign);
        y = term_of_row_16(z, o, based, powers, missing, how == NEAR_0 ? &lost : NULL);
        if (e)
            _mm512_storeu_ps(e + i, y);
        add_16(s, how, 0xffff, z, y, lost);
    }
    if (last.counted) {
        y = term_of_row_16(x_last, o, based, powers, missing, how == NEAR_0 ? &lost : NULL);
        if (e)
            _mm512_mask_storeu_ps(e + last.from, last.loaded, y);
        add_16(s, how, last.counted, x_last, y, lost);
    }
}

/* ... m being the largest element. */
ALWAYS void terms_in_lanes(const float *x, float *e, ptrdiff_t n, float m, int negated, ptrdiff_t ahead, int how, sums_16 *s)
{
    const origin_16 o = origin_of_16(_mm512_set1_ps(m));
    __m512 missing;
    const __m512i powers = powers_of_row(o, &missing);
    if (_mm512_cvtss_f32(o.base) == 0)
        terms_from(o, 0, negated, powers, missing, x, e, n, ahead, how, s);
    else
        terms_from(o, 1, negated, powers, missing, x, e, n, ahead, how, s);
}

static inline void add_terms_16(const float *x, float *e, ptrdiff_t n, float m, double *total)
{
    sums_16 s = no_sums_16();
    s.low = _mm512_loadu_pd(total), s.high = _mm512_loadu_pd(total + 8);
    terms_in_lanes(x, e, n, m, 0, 0, IN_DOUBLE, &s);
    _mm512_storeu_pd(total, s.low);
    _mm512_storeu_pd(total + 8, s.high);
}

/* The sum of lanes as add_up has it. */
ALWAYS double sum_of_lanes(__m512d low, __m512d high)
{
    __m256d half;
    __m128d pair;
    low = _mm512_add_pd(low, high);
    half = _mm256_add_pd(_mm512_castpd512_pd256(low), _mm512_extractf64x4_pd(low, 1));
    pair = _mm_add_pd(_mm256_castpd256_pd128(half), _mm256_extractf128_pd(half, 1));
    return _mm_cvtsd_f64(pair) + _mm_cvtsd_f64(_mm_unpackhi_pd(pair, pair));
}

static inline double sum_terms_16(const float *x, float *e, ptrdiff_t n, float m, ptrdiff_t ahead)
{
    sums_16 s = no_sums_16();
    if (e)
        terms_in_lanes(x, e, n, m, 0, ahead, IN_DOUBLE, &s);
    else
        terms_in_lanes(x, NULL, n, m, 0, ahead, IN_DOUBLE, &s);
    return sum_of_lanes(s.low, s.high);
}

/* Of at least LONG elements, times -1 if negated. */
static inline double sum_long_terms_16(const float *x, float *e, ptrdiff_t n, float m, int negated, ptrdiff_t ahead)
{
    sums_16 s = no_sums_16();
    if (negated)
        terms_in_lanes(x, e, n, m, 1, ahead, IN_FLOAT, &s);
    else
        terms_in_lanes(x, e, n, m, 0, ahead, IN_FLOAT, &s);
    close_16(&s, IN_FLOAT);
    return sum_of_lanes(s.low, s.high);
}

ALWAYS int sum_near_row_16(const float *x, float *e, ptrdiff_t n, int negated, ptrdiff_t ahead, double *total)
{
    const origin_16 o = origin_near_16();
    const __m512 end = _mm512_set1_ps(FASTACT_NEAR_16), missing = _mm512_load_ps(sixteenths_low);
    const __m512i powers = less_index(_mm512_castps_si512(_mm512_load_ps(sixteenths)));
    sums_16 s = no_sums_16();
    terms_from(o, 0, negated, powers, missing, x, e, n, ahead, NEAR_0, &s);
    close_16(&s, NEAR_0);
    *total = sum_of_lanes(s.low, s.high);
    return !_mm512_cmp_ps_mask(s.peak, end, _CMP_GT_OQ) && _mm512_cmp_ps_mask(s.peak, _mm512_sub_ps(_mm512_setzero_ps(), end), _CMP_GE_OQ);
}

/* The terms of rows of less than LONG elements and their sums, from 0 as the largest element. How many rows there are before one
   that is not near enough: from there on e is not theirs, and where e is x so is nothing else. ahead: from a row to what is to be
   in the cache next. */
static inline ptrdiff_t sum_near_rows_16(const float *x, ptrdiff_t x_row, float *e, ptrdiff_t e_row, ptrdiff_t n, ptrdiff_t rows,
                                         int negated, ptrdiff_t ahead, double *total)
{
    ptrdiff_t r = 0;
    if (negated)
        while (r < rows && sum_near_row_16(x + r * x_row, e + r * e_row, n, 1, ahead, total + r))
            r++;
    else
        while (r < rows && sum_near_row_16(x + r * x_row, e + r * e_row, n, 0, ahead, total + r))
            r++;
    return r;
}

/* y = e (f + f_low) */
static inline void scale_16(const float *e, float *y, ptrdiff_t n, float f, float f_low)
{
    const __m512 high = _mm512_set1_ps(f), low = _mm512_set1_ps(f_low);
    ptrdiff_t i = 0;
    for (; i + 16 <= n; i += 16) {
        const __m512 z = _mm512_loadu_ps(e + i);
        _mm512_storeu_ps(y + i, _mm512_fmadd_ps(z, high, _mm512_mul_ps(z, low)));
    }
    if (i < n) {
        const __mmask16 in = (__mmask16)((1u << (n - i)) - 1);
        const __m512 z = _mm512_maskz_loadu_ps(in, e + i);
        _mm512_mask_storeu_ps(y + i, in, _mm512_fmadd_ps(z, high, _mm512_mul_ps(z, low)));
    }
}

/* The terms of n times width elements, the largest of each column being in m, in their place; width counts whole vectors.
   lost: NULL, or what rounding took from terms of columns that are near 0 for each of the lanes in which they will be summed. */
static inline void find_terms_16(float *values, const float *m, ptrdiff_t n, ptrdiff_t width, float *lost)
{
    const ptrdiff_t whole = n & ~(ptrdiff_t)15, last = last_of(n).from;
    for (ptrdiff_t j = 0; j < width; j += 16) {
        const __m512 peak = _mm512_loadu_ps(m + j);
        const __mmask16 near = lost ? _mm512_cmp_ps_mask(_mm512_abs_ps(peak), _mm512_set1_ps(FASTACT_NEAR_16), _CMP_LE_OQ) : 0;
        const origin_16 o = origin_of_16(_mm512_maskz_mov_ps((__mmask16)~near, peak));
        for (ptrdiff_t i = 0; i < n; i++) {
            float *p = values + i * width + j;
            __m512 taken;
            _mm512_storeu_ps(p, term_of_columns_16(_mm512_loadu_ps(p), o, &taken));
            if (near) {
                float *lane = lost + (i < whole ? i & 15 : i - last) * width + j;
                _mm512_mask_storeu_ps(lane, near, _mm512_add_ps(_mm512_loadu_ps(lane), taken));
            }
        }
    }
}

/* The sums of columns of at least LONG terms by lane: of lane k at total + k width. */
static inline void sum_long_columns_16(const float *e, ptrdiff_t n, ptrdiff_t width, double *total)
{
    const ptrdiff_t whole = n & ~(ptrdiff_t)15, last = last_of(n).from;
    for (ptrdiff_t j = 0; j < width; j += 16)
        for (ptrdiff_t lane = 0; lane < 16; lane++) {
            sums_16 s = no_sums_16();
            for (ptrdiff_t i = lane; i < whole; i += 16)
                add_16(&s, IN_FLOAT, 0xffff, s.rest, _mm512_loadu_ps(e + i * width + j), s.rest);
            if (last + lane >= whole && last + lane < n)
                add_16(&s, IN_FLOAT, 0xffff, s.rest, _mm512_loadu_ps(e + (last + lane) * width + j), s.rest);
            close_16(&s, IN_FLOAT);
            _mm512_storeu_pd(total + lane * width + j, s.low);
            _mm512_storeu_pd(total + lane * width + j + 8, s.high);
        }
}
#else
#define FASTACT_TERMS_BY_HAND 0
#define FASTACT_NEAR_16 0
#define FASTACT_LONG_16 0
static inline void add_terms_16(const float *x, float *e, ptrdiff_t n, float m, double *total) {}
static inline double sum_terms_16(const float *x, float *e, ptrdiff_t n, float m, ptrdiff_t ahead) { return 0; }
static inline double sum_long_terms_16(const float *x, float *e, ptrdiff_t n, float m, int negated, ptrdiff_t ahead) { return 0; }
static inline ptrdiff_t sum_near_rows_16(const float *x, ptrdiff_t x_row, float *e, ptrdiff_t e_row, ptrdiff_t n, ptrdiff_t rows,
                                         int negated, ptrdiff_t ahead, double *total) { return 0; }
static inline void sum_long_columns_16(const float *e, ptrdiff_t n, ptrdiff_t width, double *total) {}
static inline void scale_16(const float *e, float *y, ptrdiff_t n, float f, float f_low) {}
static inline void find_terms_16(float *values, const float *m, ptrdiff_t n, ptrdiff_t width, float *lost) {}
#endif

#endif
