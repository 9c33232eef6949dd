/* The functions that are used most, sixteen or eight floats at a time.

   Elsewhere the compiler vectorises the loops over scalar.pxd's formulas. It knows no tables in registers:
   here a function of |x| is a polynomial on one of 16 to 64 intervals (bench/tables.py), some eight multiplications where exp
   and a division take twenty: NAME_near. A vector with an element NAME_past the intervals, or with NaN, is computed by a second,
   slower formula too, NAME_far, and each element takes the one for its own place: results do not depend on neighbours. */
#ifndef FASTACT_BY_HAND_H
#define FASTACT_BY_HAND_H

#include "floats.h"

#ifdef FASTACT_LANES
#include "tables.h"

/* A function of a >= 0 is main + h rest. */
typedef struct {
    floats h, main, rest;
} piece;

/* The last bits of a, rounded to a multiple of 1 / per_unit. */
ALWAYS ints multiple(floats a, float per_unit)
{
    return bits_of(times_plus(a, all(per_unit), all(0x1.8p23f)));
}

/* The same of (factor a + offset)^2. */
ALWAYS ints rounded_square(floats a, float factor, float offset)
{
    const floats s = times_plus(a, all(factor), all(offset));
    return bits_of(times_plus(s, s, all(0x1.8p23f)));
}

ALWAYS piece piece_at(ints place, const float *table, int columns, int rows, floats a)
{
#define FROM_TABLE(k) looked_up(table + columns * (k), columns, place)
    piece p = {minus(a, FROM_TABLE(0)), FROM_TABLE(1), FROM_TABLE(rows - 1)};
    for (int k = rows - 2; k > 1; k--)
        p.rest = times_plus(p.h, p.rest, FROM_TABLE(k));
    return p;
#undef FROM_TABLE
}
#define LENGTH(array) (int)(sizeof(array) / sizeof((array)[0]))
#define PIECE(PLACE, NAME, A) piece_at(PLACE, NAME##_table[0], LENGTH(NAME##_table[0]), LENGTH(NAME##_table), A)

#define ON_INTERVALS(NAME, PLACE) ALWAYS piece NAME(floats a) { return PIECE(PLACE, NAME, a); }
ON_INTERVALS(logistic, multiple(a, 1 / 0.7f))     /* s(-a) */
ON_INTERVALS(log_logistic, multiple(a, 1 / 0.7f)) /* log(1 + exp(-a)) */
ON_INTERVALS(bell, multiple(a, 1 / 0.7f))         /* s(a) s(-a) */
/* NAME_tail: -NAME(-a); NAME_slope: NAME'(-a). */
ON_INTERVALS(silu_tail, multiple(a, 1 / 0.7f))
ON_INTERVALS(silu_slope, multiple(a, 1 / 0.7f))
#define LOGISTIC_END 10.8f
ON_INTERVALS(scaled_normal_tail, multiple(a, 2)) /* Phi(-a) exp(a^2 / 2) for a > 7 */

ALWAYS floats sum_of(piece p) { return times_plus(p.h, p.rest, p.main); }
/* In the first interval, where main is 0, a / 2 instead: one rounding less where the function is nearly that. */
ALWAYS floats tail_of(piece p, floats a)
{
    p.main = chosen(zero(p.main), times(a, all(0.5f)), p.main);
    return sum_of(p);
}

/* From what a function is for -|x|. */
ALWAYS floats rising_to_one(floats x, floats y) { return chosen(compared(x, all(0), _CMP_NLT_UQ), minus(all(1), y), y); }
ALWAYS floats rising_to(floats x, floats y) { return minus(at_least(x, -0.0f), y); }

/* exp(z + low) = 2^n (1 + p + p_low), |p| < 0.42 */
ALWAYS floats exp_of(floats z, floats low, floats *n, floats *p_low)
{
    const floats magic = all(0x1.8p23f);
    floats t = times_plus(z, all(1.44269504f), magic), r, q, p;
    *n = minus(t, magic);
    z = times_plus(*n, all(-0.693145751953125f), z);
    low = times_plus(*n, all(-1.428606820309417e-06f), low);
    r = plus(z, low);
    q = times_plus(r, all(0.00139412307f), all(0.00836937129f));
    q = times_plus(r, q, all(0.041666396f));
    q = times_plus(r, q, all(0.166665152f));
    q = times(times(r, r), times_plus(r, q, all(0.5f)));
    p = plus(r, q);
    *p_low = plus(minus(q, minus(p, r)), minus(low, minus(r, z)));
    return p;
}

/* factor exp(z) for z from -200 to 0: of a table's power of two times 1 + p, p < 0.03, so that rounding errors stay with what is small. */
ALWAYS floats exponential(float factor, floats z)
{
    const floats magic = all(0x1.8p19f);
    floats t = times_plus(z, all(1.44269504f), magic), n = minus(t, magic), r, p, power, low;
    r = times_plus(n, all(-1.428606820309417e-06f), times_plus(n, all(-0.693145751953125f), z));
    p = times(r, times_plus(r, times_plus(r, all(0.16666667f), all(0.5000162f)), all(1)));
    power = looked_up(powers_of_two_table[0], 16, bits_of(t));
    low = times_plus(power, p, looked_up(powers_of_two_table[1], 16, bits_of(t)));
    return scale(factor == 1 ? plus(power, low) : times_plus(all(factor), power, times(all(factor), low)), n);
}

/* e (factor + factor_low - second e), e = exp(-(a + low)): what functions of e are where e^3 no longer counts. */
ALWAYS floats decayed_product(floats a, floats low, floats factor, floats factor_low, floats second)
{
    floats n, p_low, p = exp_of(minus(all(0), at_most(a, 200)), minus(all(0), low), &n, &p_low), whole = plus(all(1), p);
    floats rest = times_plus(factor, plus(minus(p, minus(whole, all(1))), p_low), times(whole, factor_low));
    rest = minus_times(times(second, whole), scale(whole, n), rest);
    return scale(times_plus(factor, whole, rest), n);
}
ALWAYS floats decayed(floats a, floats factor, floats second) { return decayed_product(a, all(0), factor, all(0), second); }

/* e (1 - g - (1 - 2 g) e) for g + g_low > 1 */
ALWAYS floats decayed_slope(floats a, floats low, floats g, floats g_low)
{
    floats factor = minus(all(1), g), factor_low = minus(minus(all(1), plus(factor, g)), g_low);
    return decayed_product(a, low, factor, factor_low, minus(factor, g));
}
/* Without infinities, but NaN. */
ALWAYS floats tamed(floats x) { return at_least(at_most(x, 1e30f), -1e30f); }

ALWAYS floats sigmoid_near(floats x) { return rising_to_one(x, sum_of(logistic(absolute(x)))); }
ALWAYS floats sigmoid_far(floats x) { return rising_to_one(x, decayed(absolute(x), all(1), all(1))); }
ALWAYS floats sigmoid_derivative_near(floats x) { return sum_of(bell(absolute(x))); }
ALWAYS floats sigmoid_derivative_far(floats x) { return decayed(absolute(x), all(1), all(2)); }
#define sigmoid_past(x) above(absolute(x), LOGISTIC_END)
#define sigmoid_derivative_past(x) above(absolute(x), LOGISTIC_END)

/* The function is even to 1 past 9.1. */
ALWAYS piece tanh_piece(floats a)
{
    a = at_most(a, 9.1f);
    return PIECE(shifted_right(bits_of(plus(a, all(0.625f))), 21), tanh, a);
}
ALWAYS floats tanh_near(floats x) { return with_sign_of(sum_of(tanh_piece(absolute(x))), x); }
#define tanh_far tanh_near
#define tanh_past(x) nowhere()

/* In the first interval, where main is 0, slope a apart from what else there is: one rounding less where the function is nearly that. */
ALWAYS floats sum_from(piece p, float slope)
{
    const mask first = zero(p.main);
    p.main = chosen(first, times(p.h, p.rest), p.main);
    p.rest = chosen(first, all(slope), p.rest);
    return sum_of(p);
}

/* RISING, x or a multiple of it, for x > 0; below a multiple of exp(x) - 1, which is even to -1 past 17.33. */
#define EXPONENTIAL_LINEAR(NAME, RISING, SCALE, SLOPE)                                                                 \
    ALWAYS floats NAME##_near(floats x)                                                                                \
    {                                                                                                                  \
        floats a = at_most(absolute(x), 17.34f);                                                                       \
        piece p = PIECE(shifted_right(bits_of(plus(a, all(1.25f))), 21), NAME, a);                                     \
        return chosen(compared(x, all(0), _CMP_NLT_UQ), RISING, sum_from(p, -SLOPE));                                  \
    }                                                                                                                  \
    ALWAYS floats NAME##_derivative_near(floats x)                                                                     \
    {                                                                                                                  \
        floats y = exponential(SLOPE, at_most(at_least(x, -200), 0));                                                  \
        return chosen(compared(x, all(0), _CMP_GT_OQ), all(SCALE), y);                                                 \
    }
EXPONENTIAL_LINEAR(elu, x, 1.0f, 1.0f)
EXPONENTIAL_LINEAR(selu, times_plus(all(1.05070102f), x, times(all(-3.47926523e-08f), at_most(x, 1e38f))), 1.05070102f, 1.75809932f)
#define elu_far elu_near
#define elu_derivative_far elu_derivative_near
#define elu_past(x) nowhere()
#define elu_derivative_past(x) nowhere()
#define selu_far selu_near
#define selu_derivative_far selu_derivative_near
#define selu_past(x) nowhere()
#define selu_derivative_past(x) nowhere()
#define celu_near elu_near
#define celu_far elu_near
#define celu_derivative_near elu_derivative_near
#define celu_derivative_far elu_derivative_near
#define celu_past(x) nowhere()
#define celu_derivative_past(x) nowhere()

/* Up to 0.6 as a^3 times a polynomial of a^2, which is scalar.pxd's too. */
ALWAYS floats tanhshrink_near(floats x)
{
    floats a = absolute(x), z = times(a, a), cube = times(z, a), p, product;
    const piece t = tanh_piece(a);
    p = times_plus(z, all(-0.00309422659f), all(0.00907383673f));
    p = times_plus(z, p, all(-0.0220028125f));
    p = times_plus(z, p, all(0.0539901331f));
    p = times_plus(z, p, all(-0.133334488f));
    product = times_plus(z, p, all(0.333333343f));
    p = times_plus(z, p, minus(all(0.333333343f), product));
    z = times_plus(times_minus(a, a, z), a, times_minus(z, a, cube));
    product = times_plus(cube, product, times_plus(cube, p, times(z, product))); /* p and z: what rounding took from both */
    return with_sign_of(chosen(compared(a, all(0.6f), _CMP_LT_OQ), product, minus_times(t.h, t.rest, minus(a, t.main))), x);
}
ALWAYS floats tanhshrink_derivative_near(floats x)
{
    const piece t = tanh_piece(absolute(x));
    floats c = times(t.h, t.rest), y = plus(t.main, c), low = plus(plus(minus(t.main, y), c), times_minus(t.h, t.rest, c));
    return times_plus(y, y, times(plus(y, y), low));
}
#define tanhshrink_far tanhshrink_near
#define tanhshrink_derivative_far tanhshrink_derivative_near
#define tanhshrink_past(x) nowhere()
#define tanhshrink_derivative_past(x) nowhere()

/* max(x, 0) + log(1 + exp(-|x|)), nearly to the last bit */
ALWAYS floats softplus_near(floats x)
{
    piece p = log_logistic(absolute(x));
    floats m = at_least(x, 0), sum = plus(m, p.main), share = minus(sum, m);
    return plus(sum, times_plus(p.h, p.rest, plus(minus(m, minus(sum, share)), minus(p.main, share))));
}
ALWAYS floats softplus_far(floats x) { return plus(at_least(x, 0), decayed(absolute(x), all(1), all(0.5f))); }
#define softplus_derivative_near sigmoid_near
#define softplus_derivative_far sigmoid_far
#define softplus_past(x) above(absolute(x), LOGISTIC_END)
#define softplus_derivative_past(x) above(absolute(x), LOGISTIC_END)

ALWAYS floats logsigmoid_near(floats x) { return minus(all(0), softplus_near(minus(all(0), x))); }
ALWAYS floats logsigmoid_far(floats x) { return minus(at_most(x, -0.0f), decayed(absolute(x), all(1), all(0.5f))); }
ALWAYS floats logsigmoid_derivative_near(floats x) { return sigmoid_near(minus(all(0), x)); }
ALWAYS floats logsigmoid_derivative_far(floats x) { return sigmoid_far(minus(all(0), x)); }
#define logsigmoid_past(x) above(absolute(x), LOGISTIC_END)
#define logsigmoid_derivative_past(x) above(absolute(x), LOGISTIC_END)

ALWAYS floats silu_near(floats x) { return rising_to(x, tail_of(silu_tail(absolute(x)), absolute(x))); }
ALWAYS floats silu_far(floats x) { return rising_to(x, decayed(absolute(x), tamed(absolute(x)), tamed(absolute(x)))); }
ALWAYS floats silu_derivative_near(floats x) { return rising_to_one(x, sum_of(silu_slope(absolute(x)))); }
ALWAYS floats silu_derivative_far(floats x)
{
    floats a = at_most(absolute(x), 200);
    return rising_to_one(x, decayed_slope(a, all(0), a, all(0)));
}
#define silu_past(x) above(absolute(x), LOGISTIC_END)
#define silu_derivative_past(x) above(absolute(x), LOGISTIC_END)
#define swish_near silu_near
#define swish_far silu_far
#define swish_derivative_near silu_derivative_near
#define swish_derivative_far silu_derivative_far
#define swish_past(x) above(absolute(x), LOGISTIC_END)
#define swish_derivative_past(x) above(absolute(x), LOGISTIC_END)

#if FASTACT_LANES == 16
#define ON_MANY_INTERVALS ON_INTERVALS
#else
/* ns for 8 floats on a Zen 5: eight loads and their transposition 4.5, four permutations and three choices for each number 7.5, gathers
   15; Intel's cores do one permutation a cycle. On 16 intervals permutations take 3.1, of which there are half as many. */
ALWAYS piece piece_from_rows(ints place, const float (*by_interval)[8], const float *table, int columns, int rows, floats a)
{
    floats numbers[10];
    piece p;
    looked_up_side_by_side(by_interval, columns, place, numbers);
    for (int k = 8; k < rows; k++)
        numbers[k] = looked_up(table + k * columns, columns, place);
    p.h = minus(a, numbers[0]), p.main = numbers[1], p.rest = numbers[rows - 1];
    for (int k = rows - 2; k > 1; k--)
        p.rest = times_plus(p.h, p.rest, numbers[k]);
    return p;
}
#define ON_MANY_INTERVALS(NAME, PLACE)                                                                                 \
    ALWAYS piece NAME(floats a)                                                                                        \
    {                                                                                                                  \
        return piece_from_rows(PLACE, NAME##_by_interval, NAME##_table[0], LENGTH(NAME##_table[0]), LENGTH(NAME##_table), a); \
    }
#endif

ON_MANY_INTERVALS(tanh_slope, multiple(a, 1 / 0.35f)) /* tanh'(a) */
ALWAYS floats tanh_derivative_near(floats x) { return sum_of(tanh_slope(absolute(x))); }
ALWAYS floats tanh_derivative_far(floats x) { return decayed(absolute(plus(x, x)), all(4), all(8)); }
#define tanh_derivative_past(x) above(absolute(x), 11)

/* Functions of which, and of whose derivatives, nothing is left beside x or 1 where the intervals end: past are only x < -END. */
#define FADING(NAME, END, PLACE)                                                                                       \
    ON_MANY_INTERVALS(NAME##_tail, PLACE)                                                                                \
    ON_MANY_INTERVALS(NAME##_slope, PLACE)                                                                               \
    ALWAYS floats NAME##_near(floats x)                                                                                \
    {                                                                                                                  \
        floats a = at_most(absolute(x), END);                                                                          \
        return rising_to(x, tail_of(NAME##_tail(a), a));                                                               \
    }                                                                                                                  \
    ALWAYS floats NAME##_derivative_near(floats x)                                                                     \
    {                                                                                                                  \
        return rising_to_one(x, sum_of(NAME##_slope(at_most(absolute(x), END))));                                      \
    }                                                                                                                  \
    ALWAYS mask NAME##_past(floats x) { return below(x, -END); }                                                       \
    ALWAYS mask NAME##_derivative_past(floats x) { return below(x, -END); }
FADING(gelu, 8.63f, rounded_square(a, 0.55f, 0.95f))
FADING(gelu_tanh, 7.53f, rounded_square(a, 0.63f, 0.95f))
FADING(gelu_quick, 11.0f, multiple(a, 1 / 0.35f))

/* -a s(-(z + low)) */
ALWAYS floats gated_far(floats a, floats z, floats low)
{
    return minus(all(-0.0f), decayed_product(z, low, tamed(a), all(0), tamed(a)));
}

/* 1.702 a as high + low */
ALWAYS floats quick_argument(floats a, floats *low)
{
    floats z = times(all(1.702f), a = at_most(a, 150));
    *low = times_plus(all(-2.19345093e-08f), a, times_minus(all(1.702f), a, z));
    return z;
}
ALWAYS floats gelu_quick_far(floats x) { floats a = absolute(x), low, z = quick_argument(a, &low); return gated_far(a, z, low); }
ALWAYS floats gelu_quick_derivative_far(floats x)
{
    floats low, z = quick_argument(absolute(x), &low);
    return decayed_slope(z, low, z, low);
}

/* mish on intervals on both sides of 0. It is x past 8.575, its derivative 1 past 11; below -11 e^3 no longer counts in
   x (e - e^2 / 2), e = exp(x). */
ON_MANY_INTERVALS(mish, multiple(a, 1 / 0.35f))
ON_MANY_INTERVALS(mish_slope, multiple(a, 1 / 0.35f))
ALWAYS floats mish_near(floats x) { return chosen(above(x, 8.575f), x, tail_of(mish(x), x)); }
ALWAYS floats mish_derivative_near(floats x) { return chosen(compared(x, all(11), _CMP_GT_OQ), all(1), sum_of(mish_slope(x))); }
ALWAYS floats mish_far(floats x) { return decayed(absolute(x), tamed(x), times(all(0.5f), tamed(x))); }
ALWAYS floats mish_derivative_far(floats x)
{
    floats a = at_most(absolute(x), 200), factor = minus(all(1), a);
    return decayed_product(a, all(0), factor, minus(all(1), plus(factor, a)), minus(all(0.5f), a));
}
#define mish_past(x) below(x, -11)
#define mish_derivative_past(x) below(x, -11)

#define TWO_ROOT_TWO_OVER_PI 1.59576917f
#define TWO_ROOT_TWO_OVER_PI_LOW -4.53406804e-08f
/* 2 sqrt(2 / pi) (a + 0.044715 a^3) as high + low; linear is its term in a */
ALWAYS floats tanh_argument(floats a, floats *low, floats *linear)
{
    const floats c = all(TWO_ROOT_TWO_OVER_PI), d = all(0.0713548139f);
    floats square, square_low, cube, sum, share, z;
    square = times(a, a);
    square_low = times_minus(a, a, square);
    cube = times(d, square);
    sum = plus(c, cube);
    share = minus(sum, c);
    square_low = times_plus(d, square_low, times_plus(all(2.39883240e-09f), square, times_minus(d, square, cube)));
    square_low = plus(plus(square_low, all(TWO_ROOT_TWO_OVER_PI_LOW)), plus(minus(c, minus(sum, share)), minus(cube, share)));
    z = times(a, sum);
    *low = times_plus(a, square_low, times_minus(a, sum, z));
    *linear = times(c, a);
    return z;
}
ALWAYS floats gelu_tanh_far(floats x)
{
    floats a = at_most(absolute(x), 30), low, linear, z = tanh_argument(a, &low, &linear);
    return gated_far(a, z, low);
}
/* The factor of s(z) s(-z) is g = a z'(a) = 3 z - 2 linear. */
ALWAYS floats gelu_tanh_derivative_far(floats x)
{
    floats a = at_most(absolute(x), 30), low, linear, z = tanh_argument(a, &low, &linear);
    floats linear_low = times_plus(all(TWO_ROOT_TWO_OVER_PI_LOW), a, times_minus(all(TWO_ROOT_TWO_OVER_PI), a, linear));
    floats part = minus(z, plus(linear, linear)), twice = plus(z, z), g = plus(twice, part);
    floats g_low = minus(times_plus(all(2), low, low), plus(linear_low, linear_low));
    return decayed_slope(z, low, g, plus(minus(part, minus(g, twice)), g_low));
}

/* For 8 < a < 14.99: Phi(-a) exp(a^2 / 2) as high + low, and exp(-a^2 / 2) = 2^n (e + e_low).

   The exponential is made as exponential() does. */
ALWAYS floats scaled_normal_tail_at(floats a, floats *low, floats *n, floats *e, floats *e_low)
{
    const floats magic = all(0x1.8p19f);
    floats square = times(a, a), t = times_plus(square, all(-0.72134752f), magic), r, p;
    const ints place = bits_of(t);
    piece g;
    *n = minus(t, magic);
    r = plus(times_plus(*n, all(0x1.62e43p0f), square), times_plus(*n, all(-0x1.05c61p-28f), times_minus(a, a, square)));
    p = times(r, times_plus(r, times_plus(r, all(-1.0f / 48), all(0.125f)), all(-0.5f)));
    *e = looked_up(powers_of_two_table[0], 16, place);
    *e_low = times_plus(*e, p, looked_up(powers_of_two_table[1], 16, place));
    g = scaled_normal_tail(a);
    *low = times(g.h, g.rest);
    return g.main;
}

/* -a Phi(-a) */
ALWAYS floats gelu_far(floats x)
{
    floats a = at_most(absolute(x), 14.99f), n, e, e_low, g_low, g = scaled_normal_tail_at(a, &g_low, &n, &e, &e_low), q = times(g, e);
    floats q_low = times_plus(e_low, plus(g, g_low), times_plus(g_low, e, times_minus(g, e, q)));
    return minus(all(-0.0f), scale(times_plus(a, q, times(a, q_low)), n));
}

/* exp(-a^2 / 2) (Phi(-a) exp(a^2 / 2) - a / sqrt(2 pi)) */
ALWAYS floats gelu_derivative_far(floats x)
{
    floats a = at_most(absolute(x), 14.99f), n, e, e_low, g_low, g = scaled_normal_tail_at(a, &g_low, &n, &e, &e_low);
    floats b = times(a, all(0.398942292f)), b_low = times_plus(a, all(-1.13351701e-08f), times_minus(a, all(0.398942292f), b));
    floats d = minus(g, b), d_low = plus(minus(g, plus(d, b)), minus(g_low, b_low)), q = times(d, e);
    d_low = times_plus(plus(d, d_low), e_low, times_plus(d_low, e, times_minus(d, e, q)));
    return scale(plus(q, d_low), n);
}

/* 1 / (high + low) as r (1 + error), r good to 2^-26 */
ALWAYS floats reciprocal(floats high, floats low, floats *error)
{
    floats r = about_inverse(high);
    r = times_plus(r, minus_times(low, r, minus_times(high, r, all(1))), r);
    *error = minus_times(low, r, minus_times(high, r, all(1)));
    return r;
}

/* The square of that. */
ALWAYS floats square_of(floats r, floats error)
{
    floats y = times(r, r);
    return plus(y, times_plus(plus(y, y), error, times_minus(r, r, y)));
}

/* 1 + a as high + low */
ALWAYS floats one_plus(floats a, floats *low)
{
    floats d = plus(all(1), a);
    *low = minus(smaller(all(1), a), minus(d, larger(all(1), a)));
    return d;
}

ALWAYS floats softsign_near(floats x)
{
    floats a = at_most(absolute(x), 1e30f), low, d = one_plus(a, &low), error, r = reciprocal(d, low, &error), y = times(a, r);
    return with_sign_of(times_plus(minus_times(low, y, minus_times(d, y, a)), r, y), x);
}
ALWAYS floats softsign_derivative_near(floats x)
{
    floats a = at_most(absolute(x), 1e30f), low, d = one_plus(a, &low), error, r = reciprocal(d, low, &error);
    return square_of(r, error);
}
#define softsign_far softsign_near
#define softsign_derivative_far softsign_derivative_near
#define softsign_past(x) nowhere()
#define softsign_derivative_past(x) nowhere()

/* What squareplus is more than max(x, 0): (root - |x|) / 2, root = sqrt(x^2 + 4). It is the t for which t^2 + |x| t is 1: main, and Newton's
   step to there, the rest divided by 2 t + |x|, which is the root; h is about 1 / root. 1 - |x| t is small beside 1 where 1 - t^2 is not. */
ALWAYS piece squareplus_tail(floats x)
{
    floats a = absolute(x), s = times_plus(a, a, all(4)), half;
    piece p;
    p.h = about_inverse_root(s);
    half = about_inverse(times_plus(s, p.h, a));
    p.main = plus(half, half);
    p.rest = minus_times(p.main, p.main, minus_times(p.main, a, all(1)));
    return p;
}

ALWAYS floats squareplus_near(floats x) { return plus(at_least(x, 0), sum_of(squareplus_tail(x))); }
ALWAYS floats squareplus_far(floats x) { return rising_to(x, over(all(-1), absolute(x))); }
/* For x < 0 it is t / root, the q for which q |x| + 2 q t is t. */
ALWAYS floats squareplus_derivative_near(floats x)
{
    piece t = squareplus_tail(x);
    floats q = times(t.h, t.main), twice = plus(q, q), rest = minus_times(twice, t.main, minus_times(q, absolute(x), t.main));
    rest = times_plus(times(t.h, t.rest), minus(all(1), twice), rest);
    return rising_to_one(x, times_plus(t.h, rest, q));
}
ALWAYS floats squareplus_derivative_far(floats x)
{
    floats error, r = reciprocal(at_most(absolute(x), 1e30f), all(0), &error);
    return rising_to_one(x, square_of(r, error));
}
#define squareplus_past(x) above(absolute(x), 1e12f)
#define squareplus_derivative_past squareplus_past

/* b log(1 + exp(-x)) + c log(1 + exp(x)), and its derivative; b = t w counts for class 1, c = 1 - t for class 0 */
ALWAYS floats cross_entropy_of(floats x, floats t, floats w, floats *slope)
{
    const mask up = positive(x);
    floats a = absolute(x), b = times(t, w), c = minus(all(1), t);
    floats wrong = chosen(up, c, b), right = chosen(up, b, c);
    floats main = times(wrong, a), l = sum_of(log_logistic(a)), s = sum_of(logistic(a));
    const mask far = above(a, LOGISTIC_END);
    if (__builtin_expect(any(far), 0)) {
        l = chosen(far, decayed(a, all(1), all(0.5f)), l);
        s = chosen(far, decayed(a, all(1), all(1)), s);
        main = chosen(zero(wrong), times(tamed(a), wrong), main); /* 0 inf is 0 */
    }
    *slope = with_sign_of(times_minus(wrong, minus(all(1), s), times(right, s)), x);
    return times_plus(plus(wrong, right), l, main);
}

#endif

#endif
