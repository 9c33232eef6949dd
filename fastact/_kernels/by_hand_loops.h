/* Loops over the formulas of by_hand.h. Where there is neither AVX-512 nor AVX2 they do nothing and say so: the caller has its own. */
#ifndef FASTACT_BY_HAND_LOOPS_H
#define FASTACT_BY_HAND_LOOPS_H

#include "by_hand.h"

/* F(NAME) for those functions; parameters have their default values. The gated ones: of which function, which input goes into
   it, and which one is its factor. */
#define FASTACT_BY_HAND(F) \
    F(sigmoid) F(tanh) F(elu) F(selu) F(celu) F(silu) F(swish) F(gelu) F(gelu_quick) F(gelu_tanh) F(softplus) F(logsigmoid) F(softsign) F(squareplus) F(tanhshrink)
#define FASTACT_GATED_BY_HAND(F) F(glu, sigmoid, v, u) F(swiglu, silu, u, v) F(geglu, gelu, u, v)

#ifdef FASTACT_LANES

ALWAYS floats once(floats x)
{
    __asm__("" : "+v"(x)); /* or else GCC loads x again for each of its uses */
    return x;
}

/* Both loops over pairs of vectors; STEP(LOAD, STORE) is what is done for one. They say that they did it. */
#define FASTACT_LOAD(k, p) once(load(p))
#define FASTACT_LOAD_REST(k, p) load_some(p, rest##k)
#define FASTACT_STORE(k, p, x) store(p, x)
#define FASTACT_STORE_REST(k, p, x) store_some(p, rest##k, x)
/* Arrays that no cache holds, of 2^24 floats, on two cores: by way of a buffer, from which results were copied past the cache,
   gelu and sigmoid ran at 3.3 and 5.3 Gelem/s, since memory waits while it is filled and arithmetic while it is emptied;
   stored directly at 4.0 and 5.6, with what comes next called to the first-level cache at 4.2 and 6.0, relu being at 6.0.
   Called to the second-level cache, or half as far ahead, sigmoid came to between 5.1 and 5.9. */
#define FASTACT_LOAD_AHEAD(k, p) (_mm_prefetch((const char *)((p) + 1024), _MM_HINT_T0), once(load(p)))
#define FASTACT_STORE_PAST_CACHE(k, p, x) store_past_cache(p, x)
/* Half types, converted on the way. */
#define FASTACT_LOAD_half(k, p) once(load_half(p))
#define FASTACT_STORE_half(k, p, x) store_half(p, x)
#define FASTACT_LOAD_bfloat(k, p) once(load_bfloat(p))
#define FASTACT_STORE_bfloat(k, p, x) store_bfloat(p, x)
/* n is a multiple of 32. */
#define FASTACT_TILES(LOAD, STORE, STEP, ...)                        \
    {                                                                \
        for (ptrdiff_t i = 0; i < n; i += 2 * FASTACT_LANES) {       \
            STEP(LOAD, STORE, __VA_ARGS__)                           \
        }                                                            \
        return 1;                                                    \
    }
#define FASTACT_LOOP(LOAD, STORE, STEP, ...)                                                          \
    {                                                                                                 \
        ptrdiff_t i = 0;                                                                              \
        for (; i + 2 * FASTACT_LANES <= n; i += 2 * FASTACT_LANES) {                                  \
            STEP(LOAD, STORE, __VA_ARGS__)                                                            \
        }                                                                                             \
        if (i < n) {                                                                                  \
            const mask rest0 = left_after(0, n - i), rest1 = left_after(FASTACT_LANES, n - i);        \
            STEP(FASTACT_LOAD_REST, FASTACT_STORE_REST, __VA_ARGS__)                                  \
        }                                                                                             \
        return 1;                                                                                     \
    }

/* y0 and y1: TIMES(m, NAME(x)) of both, then for elements where NAME_near is not right. */
#define FASTACT_NEAR(y, NAME, x, TIMES, m) \
    floats y##0 = TIMES(m##0, NAME##_near(x##0)), y##1 = TIMES(m##1, NAME##_near(x##1));
#define FASTACT_FAR(y, NAME, x, TIMES, m)                                               \
    {                                                                                   \
        const mask far0 = NAME##_past(x##0), far1 = NAME##_past(x##1);                  \
        if (__builtin_expect(any(either(far0, far1)), 0)) {                             \
            if (any(far0))                                                              \
                y##0 = chosen(far0, TIMES(m##0, NAME##_far(x##0)), y##0);               \
            if (any(far1))                                                              \
                y##1 = chosen(far1, TIMES(m##1, NAME##_far(x##1)), y##1);               \
        }                                                                               \
    }
ALWAYS floats second(floats m, floats y) { return y; }
/* A gate that is shut lets nothing through, were it infinite. */
ALWAYS floats times_gate(floats m, floats y)
{
    return times(chosen(zero(y), tamed(m), m), y);
}

#define FASTACT_LOADED(LOAD, x, p) floats x##0 = LOAD(0, p + i), x##1 = LOAD(1, p + i + FASTACT_LANES);
#define FASTACT_STORED(STORE, p, x) STORE(0, p + i, x##0); STORE(1, p + i + FASTACT_LANES, x##1);
#define FASTACT_FUNCTION_STEP(LOAD, STORE, NAME)       \
    FASTACT_LOADED(LOAD, u, a)                         \
    FASTACT_NEAR(f, NAME, u, second, u)                \
    FASTACT_FAR(f, NAME, u, second, u)                 \
    FASTACT_STORED(STORE, y, f)
#define FASTACT_PRODUCT_STEP(LOAD, STORE, NAME, x, m, FAR) \
    FASTACT_LOADED(LOAD, u, a)                             \
    FASTACT_LOADED(LOAD, v, b)                             \
    FASTACT_NEAR(f, NAME, x, times, m)                     \
    FASTACT_FAR(f, NAME, x, FAR, m)                        \
    FASTACT_STORED(STORE, y, f)
#define FASTACT_GRADIENTS_STEP(LOAD, STORE, NAME, x, m)                     \
    FASTACT_LOADED(LOAD, w, a)                                              \
    FASTACT_LOADED(LOAD, u, b)                                              \
    FASTACT_LOADED(LOAD, v, c)                                              \
    floats both0 = times(w0, m##0), both1 = times(w1, m##1);                \
    /* One after the other, without a branch between, so that GCC finds what they share. */ \
    FASTACT_NEAR(f, NAME, x, times, w)                                      \
    FASTACT_NEAR(d, NAME##_derivative, x, times, both)                      \
    FASTACT_FAR(f, NAME, x, times_gate, w)                                  \
    FASTACT_FAR(d, NAME##_derivative, x, times_gate, both)                  \
    FASTACT_STORED(STORE, FASTACT_GRADIENT_OF_##m, f)                       \
    FASTACT_STORED(STORE, FASTACT_GRADIENT_OF_##x, d)
#define FASTACT_GRADIENT_OF_u y
#define FASTACT_GRADIENT_OF_v z

#define FASTACT_BODY(...) FASTACT_LOOP(FASTACT_LOAD, FASTACT_STORE, __VA_ARGS__)
#define FASTACT_BODY_PAST_CACHE(...) FASTACT_TILES(FASTACT_LOAD_AHEAD, FASTACT_STORE_PAST_CACHE, __VA_ARGS__)
#define FASTACT_BODY_OF(H, ...) FASTACT_TILES(FASTACT_LOAD_##H, FASTACT_STORE_##H, __VA_ARGS__)

#define FASTACT_LOSS_STEP(LOAD, STORE)                                                                    \
    {                                                                                                     \
        floats slope, y = cross_entropy_of(LOAD(0, x + i), LOAD(0, t + i), LOAD(0, w + i), &slope);       \
        STORE(0, value + i, y);                                                                           \
        if (grad)                                                                                         \
            STORE(0, grad + i, times(slope, f));                                                          \
    }
#define FASTACT_LOSS_BODY                                                                                 \
    {                                                                                                     \
        const floats f = all((float)factor);                                                              \
        ptrdiff_t i = 0;                                                                                  \
        for (; i + FASTACT_LANES <= n; i += FASTACT_LANES)                                                \
            FASTACT_LOSS_STEP(FASTACT_LOAD, FASTACT_STORE)                                                \
        if (i < n) {                                                                                      \
            const mask rest0 = left_after(0, n - i);                                                      \
            FASTACT_LOSS_STEP(FASTACT_LOAD_REST, FASTACT_STORE_REST)                                      \
        }                                                                                                 \
        return 1;                                                                                         \
    }

#else

#define FASTACT_BODY(...) { return 0; }
#define FASTACT_BODY_PAST_CACHE(...) { return 0; }
#define FASTACT_BODY_OF(...) { return 0; }
#define FASTACT_LOSS_BODY { return 0; }

#endif

/* Each four times: all but the first for whole tiles, the second for outputs at multiples of 64 bytes that are to go past the cache. */
#define FASTACT_LOOPS_OF(NAME, ARGUMENTS, ...)                                          \
    static inline int NAME##_by_hand ARGUMENTS(float) FASTACT_BODY(__VA_ARGS__)         \
    static inline int NAME##_by_hand_float_past_cache ARGUMENTS(float) FASTACT_BODY_PAST_CACHE(__VA_ARGS__) \
    static inline int NAME##_by_hand_half ARGUMENTS(uint16_t) FASTACT_BODY_OF(half, __VA_ARGS__) \
    static inline int NAME##_by_hand_bfloat ARGUMENTS(uint16_t) FASTACT_BODY_OF(bfloat, __VA_ARGS__)
#define FASTACT_TO_ONE(T) (const T *a, const T *b, T *y, ptrdiff_t n)
#define FASTACT_TO_TWO(T) (const T *a, const T *b, const T *c, T *y, T *z, ptrdiff_t n)
#define FASTACT_LOOPS(NAME)                                                             \
    FASTACT_LOOPS_OF(NAME##_forward, FASTACT_TO_ONE, FASTACT_FUNCTION_STEP, NAME)       \
    FASTACT_LOOPS_OF(NAME##_derivative, FASTACT_TO_ONE, FASTACT_FUNCTION_STEP, NAME##_derivative) \
    FASTACT_LOOPS_OF(NAME##_backward, FASTACT_TO_ONE, FASTACT_PRODUCT_STEP, NAME##_derivative, v, u, times)
#define FASTACT_GATED_LOOPS(NAME, FUNCTION, GATE, FACTOR)                               \
    FASTACT_LOOPS_OF(NAME##_forward, FASTACT_TO_ONE, FASTACT_PRODUCT_STEP, FUNCTION, GATE, FACTOR, times_gate) \
    FASTACT_LOOPS_OF(NAME##_backward, FASTACT_TO_TWO, FASTACT_GRADIENTS_STEP, FUNCTION, GATE, FACTOR)
static inline int sigmoid_cross_entropy_by_hand(const float *x, const float *t, const float *w, float *value, float *grad, ptrdiff_t n,
                                                double factor)
    FASTACT_LOSS_BODY
FASTACT_BY_HAND(FASTACT_LOOPS)
FASTACT_GATED_BY_HAND(FASTACT_GATED_LOOPS)

#endif
