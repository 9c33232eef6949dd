/* Loops over the formulas of by_hand.h and by_hand_doubles.h. Where there is neither AVX-512 nor AVX2 they do nothing and say so: the caller has its own. */
#ifndef FASTACT_BY_HAND_LOOPS_H
#define FASTACT_BY_HAND_LOOPS_H

#include "by_hand.h"
#include "by_hand_doubles.h"

/* F(NAME) for those functions; parameters have their default values. The gated ones: of which function, which input goes into
   it, and which one is its factor. */
#define FASTACT_BY_HAND(F) \
    F(sigmoid) F(tanh) F(elu) F(selu) F(celu) F(silu) F(swish) F(gelu) F(gelu_quick) F(gelu_tanh) F(mish) F(softplus) F(logsigmoid) F(softsign) F(squareplus) \
    F(tanhshrink)
#define FASTACT_GATED_BY_HAND(F) F(glu, sigmoid, v, u) F(swiglu, silu, u, v) F(geglu, gelu, u, v)
#define FASTACT_DOUBLES_BY_HAND(F) \
    F(sigmoid) F(tanh) F(elu) F(selu) F(celu) F(silu) F(swish) F(gelu_quick) F(gelu_tanh) F(softplus) F(logsigmoid) F(softsign) F(squareplus) F(tanhshrink)
#define FASTACT_GATED_DOUBLES_BY_HAND(F) F(glu, sigmoid, v, u) F(swiglu, silu, u, v)

#ifdef FASTACT_LANES

/* x, which GCC would else load again for each of its uses. */
#define ONCE(x) ({ __auto_type once = (x); __asm__("" : "+v"(once)); once; })
#define LANES(V) (ptrdiff_t)(sizeof(V) / sizeof((V){0}[0]))

/* Both loops over pairs of vectors V, floats or doubles; STEP(V, LOAD, STORE) is what is done for one. They say that they did it. */
#define FASTACT_LOAD(V, x, p) V x##0 = ONCE(load_##V(p)), x##1 = ONCE(load_##V(p + LANES(V)));
#define FASTACT_LOAD_REST(V, x, p) V x##0 = load_some_##V(p, rest0), x##1 = load_some_##V(p + LANES(V), rest1);
#define FASTACT_STORE(V, x, p) store_##V(p, x##0), store_##V(p + LANES(V), x##1);
#define FASTACT_STORE_REST(V, x, p) store_some_##V(p, rest0, x##0), store_some_##V(p + LANES(V), rest1, x##1);
/* Arrays that no cache holds, of 2^24 floats, on two cores: by way of a buffer, from which results were copied past the cache,
   gelu and sigmoid ran at 3.3 and 5.3 Gelem/s, since memory waits while it is filled and arithmetic while it is emptied;
   stored directly at 4.0 and 5.6, with what comes next called to the first-level cache at 4.2 and 6.0, relu being at 6.0.
   Called to the second-level cache, or half as far ahead, sigmoid came to between 5.1 and 5.9. */
#define FASTACT_LOAD_AHEAD(V, x, p)                                 \
    _mm_prefetch((const char *)(p) + 4096, _MM_HINT_T0);            \
    _mm_prefetch((const char *)(p + LANES(V)) + 4096, _MM_HINT_T0); \
    FASTACT_LOAD(V, x, p)
#define FASTACT_STORE_PAST_CACHE(V, x, p) store_past_cache_##V(p, x##0), store_past_cache_##V(p + LANES(V), x##1);
/* Half types, converted on the way. */
#define FASTACT_LOAD_half(V, x, p) V x##0 = ONCE(load_half(p)), x##1 = ONCE(load_half(p + LANES(V)));
#define FASTACT_STORE_half(V, x, p) store_half(p, x##0), store_half(p + LANES(V), x##1);
#define FASTACT_LOAD_bfloat(V, x, p)  \
    V x##0, x##1;                     \
    load_two_bfloat(p, &x##0, &x##1); \
    x##0 = ONCE(x##0), x##1 = ONCE(x##1);
#define FASTACT_STORE_bfloat(V, x, p) store_two_bfloat(p, x##0, x##1);
/* n is a multiple of 32. */
#define FASTACT_TILES(V, LOAD, STORE, STEP, ...)                     \
    {                                                                \
        for (ptrdiff_t i = 0; i < n; i += 2 * LANES(V)) {            \
            STEP(V, LOAD, STORE, __VA_ARGS__)                        \
        }                                                            \
        return 1;                                                    \
    }
#define FASTACT_LOOP(V, LOAD, STORE, STEP, ...)                                                       \
    {                                                                                                 \
        ptrdiff_t i = 0;                                                                              \
        for (; i + 2 * LANES(V) <= n; i += 2 * LANES(V)) {                                            \
            STEP(V, LOAD, STORE, __VA_ARGS__)                                                         \
        }                                                                                             \
        if (i < n) {                                                                                  \
            const mask rest0 = left_after_##V(0, n - i), rest1 = left_after_##V(LANES(V), n - i);     \
            STEP(V, FASTACT_LOAD_REST, FASTACT_STORE_REST, __VA_ARGS__)                               \
        }                                                                                             \
        return 1;                                                                                     \
    }

/* y0 and y1: TIMES(m, NAME(x)) of both, then for elements where NAME_near is not right. */
#define FASTACT_NEAR(V, y, NAME, x, TIMES, m) \
    V y##0 = TIMES(V, m##0, NAME##_near(x##0)), y##1 = TIMES(V, m##1, NAME##_near(x##1));
#define FASTACT_FAR(V, y, NAME, x, TIMES, m)                                            \
    {                                                                                   \
        const mask far0 = NAME##_past(x##0), far1 = NAME##_past(x##1);                  \
        if (__builtin_expect(any(either(far0, far1)), 0)) {                             \
            if (any(far0))                                                              \
                y##0 = chosen_##V(far0, TIMES(V, m##0, NAME##_far(x##0)), y##0);        \
            if (any(far1))                                                              \
                y##1 = chosen_##V(far1, TIMES(V, m##1, NAME##_far(x##1)), y##1);        \
        }                                                                               \
    }
#define chosen_floats chosen
#define ALONE(V, m, y) y
#define TIMES(V, m, y) m * y
/* A gate that is shut lets nothing through, were it infinite. */
#define TIMES_GATE(V, m, y) times_gate_##V(m, y)
ALWAYS floats times_gate_floats(floats m, floats y) { return times(chosen(zero(y), tamed(m), m), y); }
ALWAYS doubles times_gate_doubles(doubles m, doubles y)
{
    return chosen_doubles(nought(y), no_more(no_less(m, -1e300), 1e300), m) * y;
}

#define FASTACT_FUNCTION_STEP(V, LOAD, STORE, NAME)    \
    LOAD(V, u, a + i)                                  \
    FASTACT_NEAR(V, f, NAME, u, ALONE, u)              \
    FASTACT_FAR(V, f, NAME, u, ALONE, u)               \
    STORE(V, f, y + i)
#define FASTACT_PRODUCT_STEP(V, LOAD, STORE, NAME, x, m, FAR) \
    LOAD(V, u, a + i)                                         \
    LOAD(V, v, b + i)                                         \
    FASTACT_NEAR(V, f, NAME, x, TIMES, m)                     \
    FASTACT_FAR(V, f, NAME, x, FAR, m)                        \
    STORE(V, f, y + i)
#define FASTACT_GRADIENTS_STEP(V, LOAD, STORE, NAME, x, m)                  \
    LOAD(V, w, a + i)                                                       \
    LOAD(V, u, b + i)                                                       \
    LOAD(V, v, c + i)                                                       \
    V both0 = w0 * m##0, both1 = w1 * m##1;                                 \
    /* One after the other, without a branch between, so that GCC finds what they share. */ \
    FASTACT_NEAR(V, f, NAME, x, TIMES, w)                                   \
    FASTACT_NEAR(V, d, NAME##_derivative, x, TIMES, both)                   \
    FASTACT_FAR(V, f, NAME, x, TIMES_GATE, w)                               \
    FASTACT_FAR(V, d, NAME##_derivative, x, TIMES_GATE, both)               \
    STORE(V, f, FASTACT_GRADIENT_OF_##m + i)                                \
    STORE(V, d, FASTACT_GRADIENT_OF_##x + i)
#define FASTACT_GRADIENT_OF_u y
#define FASTACT_GRADIENT_OF_v z

#define FASTACT_BODY(V, ...) FASTACT_LOOP(V, FASTACT_LOAD, FASTACT_STORE, __VA_ARGS__)
#define FASTACT_BODY_PAST_CACHE(V, ...) FASTACT_TILES(V, FASTACT_LOAD_AHEAD, FASTACT_STORE_PAST_CACHE, __VA_ARGS__)
#define FASTACT_BODY_OF(H, ...) FASTACT_TILES(floats, FASTACT_LOAD_##H, FASTACT_STORE_##H, __VA_ARGS__)

#define FASTACT_LOSS_STEP(LOAD, STORE)                                                                    \
    {                                                                                                     \
        floats slope, y = cross_entropy_of(LOAD(x + i), LOAD(t + i), LOAD(w + i), &slope);                \
        STORE(value + i, y);                                                                              \
        if (grad)                                                                                         \
            STORE(grad + i, times(slope, f));                                                             \
    }
#define FASTACT_LOAD_REST_OF_LOSS(p) load_some_floats(p, rest)
#define FASTACT_STORE_REST_OF_LOSS(p, x) store_some_floats(p, rest, x)
#define FASTACT_LOSS_BODY                                                                                 \
    {                                                                                                     \
        const floats f = all((float)factor);                                                              \
        ptrdiff_t i = 0;                                                                                  \
        for (; i + FASTACT_LANES <= n; i += FASTACT_LANES)                                                \
            FASTACT_LOSS_STEP(load_floats, store_floats)                                                  \
        if (i < n) {                                                                                      \
            const mask rest = left_after_floats(0, n - i);                                                \
            FASTACT_LOSS_STEP(FASTACT_LOAD_REST_OF_LOSS, FASTACT_STORE_REST_OF_LOSS)                      \
        }                                                                                                 \
        return 1;                                                                                         \
    }

#else

#define FASTACT_BODY(...) { return 0; }
#define FASTACT_BODY_PAST_CACHE(...) { return 0; }
#define FASTACT_BODY_OF(...) { return 0; }
#define FASTACT_LOSS_BODY { return 0; }

#endif

/* Each several times: all but the first for whole tiles, the second for outputs at multiples of 64 bytes that are to go past the cache. */
#define FASTACT_FLOAT_LOOPS(NAME, ARGUMENTS, ...)                                                  \
    static inline int NAME##_by_hand_float ARGUMENTS(float) FASTACT_BODY(floats, __VA_ARGS__)      \
    static inline int NAME##_by_hand_float_past_cache ARGUMENTS(float) FASTACT_BODY_PAST_CACHE(floats, __VA_ARGS__) \
    static inline int NAME##_by_hand_half ARGUMENTS(uint16_t) FASTACT_BODY_OF(half, __VA_ARGS__)   \
    static inline int NAME##_by_hand_bfloat ARGUMENTS(uint16_t) FASTACT_BODY_OF(bfloat, __VA_ARGS__)
#define FASTACT_DOUBLE_LOOPS(NAME, ARGUMENTS, ...)                                                 \
    static inline int NAME##_by_hand_double ARGUMENTS(double) FASTACT_BODY(doubles, __VA_ARGS__)   \
    static inline int NAME##_by_hand_double_past_cache ARGUMENTS(double) FASTACT_BODY_PAST_CACHE(doubles, __VA_ARGS__)
#define FASTACT_TO_ONE(T) (const T *a, const T *b, T *y, ptrdiff_t n)
#define FASTACT_TO_TWO(T) (const T *a, const T *b, const T *c, T *y, T *z, ptrdiff_t n)
#define FASTACT_LOOPS(LOOPS, NAME, FORMULA)                                             \
    LOOPS(NAME##_forward, FASTACT_TO_ONE, FASTACT_FUNCTION_STEP, FORMULA)               \
    LOOPS(NAME##_derivative, FASTACT_TO_ONE, FASTACT_FUNCTION_STEP, FORMULA##_derivative) \
    LOOPS(NAME##_backward, FASTACT_TO_ONE, FASTACT_PRODUCT_STEP, FORMULA##_derivative, v, u, TIMES)
#define FASTACT_GATED_LOOPS(LOOPS, NAME, FORMULA, GATE, FACTOR)                         \
    LOOPS(NAME##_forward, FASTACT_TO_ONE, FASTACT_PRODUCT_STEP, FORMULA, GATE, FACTOR, TIMES_GATE) \
    LOOPS(NAME##_backward, FASTACT_TO_TWO, FASTACT_GRADIENTS_STEP, FORMULA, GATE, FACTOR)
#define FASTACT_LOOPS_OF_FLOATS(NAME) FASTACT_LOOPS(FASTACT_FLOAT_LOOPS, NAME, NAME)
#define FASTACT_LOOPS_OF_DOUBLES(NAME) FASTACT_LOOPS(FASTACT_DOUBLE_LOOPS, NAME, NAME##_double)
#define FASTACT_GATED_LOOPS_OF_FLOATS(NAME, FUNCTION, ...) FASTACT_GATED_LOOPS(FASTACT_FLOAT_LOOPS, NAME, FUNCTION, __VA_ARGS__)
#define FASTACT_GATED_LOOPS_OF_DOUBLES(NAME, FUNCTION, ...) FASTACT_GATED_LOOPS(FASTACT_DOUBLE_LOOPS, NAME, FUNCTION##_double, __VA_ARGS__)
static inline int sigmoid_cross_entropy_by_hand_float(const float *x, const float *t, const float *w, float *value, float *grad, ptrdiff_t n,
                                                double factor)
    FASTACT_LOSS_BODY
FASTACT_BY_HAND(FASTACT_LOOPS_OF_FLOATS)
FASTACT_GATED_BY_HAND(FASTACT_GATED_LOOPS_OF_FLOATS)
FASTACT_DOUBLES_BY_HAND(FASTACT_LOOPS_OF_DOUBLES)
FASTACT_GATED_DOUBLES_BY_HAND(FASTACT_GATED_LOOPS_OF_DOUBLES)

#endif
