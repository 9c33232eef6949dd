/* Functions of doubles as by_hand.h has them of floats: NAME_near, and NAME_far for elements NAME_past.

   Polynomials on intervals would have fourteen terms to look up: sigmoid ran at 1.6 Gelem/s, and its exponential with the powers of
   two from a table, divided by, at 1.8. That reaches to where results become subnormal, which is what is past here. */
#ifndef FASTACT_BY_HAND_DOUBLES_H
#define FASTACT_BY_HAND_DOUBLES_H

#include "doubles.h"

#ifdef FASTACT_LANES
#include "tables.h"

/* e (1 + r + s), r exact, |r| < 0.022, |s| < 0.0003 */
typedef struct {
    doubles e, r, s;
} power;

/* exp(z) 2^shift */
ALWAYS power power_of(doubles z, double shift)
{
    const doubles magic = each(0x1.8p48 + shift), t = fused(z, each(1.4426950408889634), magic), n = t - magic;
    doubles reduced, missing;
    LOOKED_UP_IN_DOUBLES(powers_of_two_in_double, t, reduced, missing)
    const doubles low = fused(n, each(-1.90821492927058770002e-10), missing);
    power p;
    p.r = fused(n, each(-6.93147180369123816490e-01), z);
    const doubles r = p.r + low, square = r * r;
    doubles q = fused(r, each(0.00019841402978444905), each(0.001388910141426428));
    q = fused(square, q, fused(r, each(0.008333333333251461), each(0.04166666666141057)));
    q = fused(square, q, fused(r, each(0.16666666666666666), each(0.5)));
    p.s = fused(square, q, low);
    p.e = with_sixteenths(reduced, t);
    return p;
}
/* exp(z + low) from exp(z) */
ALWAYS power and_low(power p, doubles low)
{
    p.s = p.s + fused(low, p.r, low);
    return p;
}

/* high + low */
typedef struct {
    doubles high, low;
} parts;

/* a + b, |a| > |b| */
ALWAYS parts sum_of_parts(doubles a, doubles b)
{
    const doubles y = a + b;
    return (parts){y, b - (y - a)};
}
ALWAYS parts parts_of(power p) { return sum_of_parts(p.e, p.e * (p.r + p.s)); }
ALWAYS parts one_plus_parts(parts e)
{
    const doubles d = 1.0 + e.high;
    return (parts){d, (e.high - (d - 1.0)) + e.low};
}
ALWAYS parts product_of(parts a, parts b)
{
    const doubles y = a.high * b.high;
    return (parts){y, fused(a.low, b.high, fused(a.high, b.low, fused_less(a.high, b.high, y)))};
}
ALWAYS parts square_of_parts(parts a)
{
    const doubles y = a.high * a.high;
    return (parts){y, fused(a.high + a.high, a.low, fused_less(a.high, a.high, y))};
}
/* a / d as q + r rest */
typedef struct {
    doubles q, r, rest;
} quotient;

ALWAYS quotient ratio(parts a, parts d)
{
    const doubles r = 1.0 / d.high, q = a.high * r;
    return (quotient){q, r, less_fused(q, d.high, a.high) + less_fused(q, d.low, a.low)};
}
ALWAYS doubles rounded(quotient y) { return fused(y.r, y.rest, y.q); }

ALWAYS doubles scaled(parts factor, parts y) { return fused(factor.high, y.high, fused(factor.high, y.low, factor.low * y.high)); }
/* factor exp(z + low), z < 0, down to the subnormals */
ALWAYS doubles decayed_by(parts factor, doubles z, doubles low)
{
    const parts e = parts_of(and_low(power_of(no_less(z, -800), 1000), low));
    return scaled(factor, e) * 0x1p-1000;
}
ALWAYS parts exactly(doubles x) { return (parts){x, each(0)}; }
/* From what a function is for -|x|. */
ALWAYS doubles up_to_one(doubles x, doubles y) { return chosen_doubles(rising(x), 1.0 - y, y); }
ALWAYS doubles up_to_itself(doubles x, doubles y) { return chosen_doubles(rising(x), x, y); }

/* s(z) of z with the sign of x, p = exp(-|z|) */
ALWAYS quotient logistic_of(doubles x, power p)
{
    const mask up = rising(x);
    parts e = parts_of(p), d = one_plus_parts(e);
    e.high = chosen_doubles(up, each(1), e.high);
    e.low = chosen_doubles(up, each(0), e.low);
    return ratio(e, d);
}
/* x s(z) */
ALWAYS doubles gated_of(doubles x, power p)
{
    const quotient s = logistic_of(x, p);
    return fused(x, s.q, x * (s.r * s.rest));
}
/* p / (1 + p / factor)^2 */
ALWAYS doubles density_of(power p, double factor)
{
    const parts e = parts_of(p), d = one_plus_parts((parts){e.high / factor, e.low / factor});
    return rounded(ratio(e, square_of_parts(d)));
}
/* The derivative s(z) (1 + g s(-z)) of x s(z), g = x z', is p (1 + p - |g|) / (1 + p)^2 for x < 0; see scalar.pxd. */
ALWAYS doubles slope_of(doubles x, power p, doubles minus_g, doubles minus_g_low)
{
    const parts e = parts_of(p), d = one_plus_parts(e);
    const doubles sum = d.high + minus_g, share = sum - d.high;
    const parts a = {sum, ((d.high - (sum - share)) + (minus_g - share)) + (d.low + minus_g_low)};
    return up_to_one(x, rounded(ratio(product_of(e, a), square_of_parts(d))));
}

#define EXPONENTIAL_END 660.0
ALWAYS doubles sigmoid_double_near(doubles x) { return rounded(logistic_of(x, power_of(falling(x), 0))); }
ALWAYS doubles sigmoid_double_far(doubles x) { return up_to_one(x, decayed_by(exactly(each(1)), falling(x), each(0))); }
ALWAYS doubles sigmoid_double_derivative_near(doubles x) { return density_of(power_of(falling(x), 0), 1); }
ALWAYS doubles sigmoid_double_derivative_far(doubles x) { return decayed_by(exactly(each(1)), falling(x), each(0)); }
#define sigmoid_double_past(x) beyond(x, EXPONENTIAL_END)
#define sigmoid_double_derivative_past sigmoid_double_past

ALWAYS doubles silu_double_near(doubles x) { return gated_of(x, power_of(falling(x), 0)); }
ALWAYS doubles silu_double_far(doubles x) { return up_to_itself(x, decayed_by(exactly(no_less(x, -800)), x, each(0))); }
ALWAYS doubles silu_double_derivative_near(doubles x)
{
    const doubles z = falling(x);
    return slope_of(x, power_of(z, 0), z, each(-0.0));
}
ALWAYS doubles silu_double_derivative_far(doubles x)
{
    const doubles z = no_less(falling(x), -800);
    return up_to_one(x, decayed_by(exactly(1.0 + z), z, each(0)));
}
#define silu_double_past sigmoid_double_past
#define silu_double_derivative_past sigmoid_double_past

/* 1 - p, of which no digit is lost near 0; its second part may be a hundredth of the first. */
ALWAYS parts one_minus(power p)
{
    const doubles rest = 1.0 - p.e, main = less_fused(p.e, p.r, rest);
    return (parts){main, less_fused(p.e, p.s, less_fused(p.e, p.r, rest - main) + ((1.0 - rest) - p.e))};
}
/* (1 - e) / (1 + e), e = exp(-2 |x|) */
ALWAYS quotient tanh_of(doubles x)
{
    const doubles z = no_less(falling(x), -30);
    const parts fall = one_minus(power_of(z + z, 0)), a = sum_of_parts(fall.high, fall.low);
    const doubles d = 2.0 - a.high;
    return ratio(a, (parts){d, ((2.0 - d) - a.high) - a.low});
}
ALWAYS doubles tanh_double_near(doubles x) { return signed_as(rounded(tanh_of(x)), x); }
ALWAYS doubles tanh_double_derivative_near(doubles x)
{
    const doubles z = falling(x);
    return density_of(power_of(z + z, 2), 4);
}
ALWAYS doubles tanh_double_derivative_far(doubles x)
{
    const doubles z = falling(x);
    return decayed_by(exactly(each(4)), z + z, each(0));
}
#define tanh_double_far tanh_double_near
#define tanh_double_past(x) nowhere()
#define tanh_double_derivative_past(x) beyond(x, EXPONENTIAL_END / 2)

/* What a is more than tanh(a), and where that is little beside a, a polynomial. */
ALWAYS doubles tanhshrink_double_near(doubles x)
{
    const doubles a = -falling(x), z = a * a, cube = z * a, third = each(0.3333333333333333);
    const quotient t = tanh_of(x);
    doubles p = fused(z, each(-0.0005341552931379687), each(0.0014503370058481448));
    p = fused(z, p, each(-0.0035918449844150545));
    p = fused(z, p, each(0.008863227493258545));
    p = fused(z, p, each(-0.021869488414006724));
    p = fused(z, p, each(0.05396825396737435));
    p = fused(z, p, each(-0.1333333333333312));
    const doubles product = fused(z, p, third), rest = fused(z, p, third - product) + 1.850371707708594e-17;
    const doubles cube_low = fused(fused_less(a, a, z), a, fused_less(z, a, cube));
    const doubles small = fused(cube, product, fused(cube, rest, cube_low * product));
    return signed_as(chosen_doubles(beyond(x, 0.25), less_fused(t.r, t.rest, a - t.q), small), x);
}
ALWAYS doubles tanhshrink_double_derivative_near(doubles x)
{
    const quotient t = tanh_of(x);
    const doubles low = t.r * t.rest, y = t.q + low;
    return fused(y, y, (y + y) * (low - (y - t.q)));
}
#define tanhshrink_double_far tanhshrink_double_near
#define tanhshrink_double_past(x) nowhere()
#define tanhshrink_double_derivative_far tanhshrink_double_derivative_near
#define tanhshrink_double_derivative_past(x) nowhere()

/* The exponential-linear family: what exp(x) - 1 is for x < 0, times a constant, and its derivative. */
ALWAYS doubles elu_double_near(doubles x)
{
    const parts fall = one_minus(power_of(no_less(x, -50), 0));
    return up_to_itself(x, -(fall.high + fall.low));
}
ALWAYS doubles elu_double_derivative_near(doubles x)
{
    const power p = power_of(x, 0);
    return chosen_doubles(above_nought(x), each(1), fused(p.e, p.r + p.s, p.e));
}
ALWAYS doubles elu_double_derivative_far(doubles x)
{
    return chosen_doubles(above_nought(x), each(1), decayed_by(exactly(each(1)), x, each(0)));
}
#define elu_double_far elu_double_near
#define elu_double_past(x) nowhere()
#define elu_double_derivative_past sigmoid_double_past

#define celu_double_near elu_double_near
#define celu_double_far elu_double_far
#define celu_double_past elu_double_past
#define celu_double_derivative_near elu_double_derivative_near
#define celu_double_derivative_far elu_double_derivative_far
#define celu_double_derivative_past elu_double_derivative_past

#define SELU_SLOPE 1.0507009873554805
#define SELU_FALL (parts){each(1.7580993408473766), each(5.75014648756476e-17)}
ALWAYS doubles selu_double_near(doubles x)
{
    return chosen_doubles(rising(x), SELU_SLOPE * x, -scaled(SELU_FALL, one_minus(power_of(no_less(x, -50), 0))));
}
ALWAYS doubles selu_double_derivative_near(doubles x)
{
    const power p = power_of(x, 0);
    return chosen_doubles(above_nought(x), each(SELU_SLOPE), scaled(SELU_FALL, (parts){p.e, p.e * (p.r + p.s)}));
}
ALWAYS doubles selu_double_derivative_far(doubles x)
{
    return chosen_doubles(above_nought(x), each(SELU_SLOPE), decayed_by(SELU_FALL, x, each(0)));
}
#define selu_double_far selu_double_near
#define selu_double_past elu_double_past
#define selu_double_derivative_past elu_double_derivative_past

/* log(1 + e), 0 <= e <= 1: of a table's number near 1 / (1 + e), and of their product, which is nearly 1 */
ALWAYS parts log_of_one_plus(parts e)
{
    const doubles t = fused(e.high, each(15), each(0x1.8p52));
    doubles number, logarithm;
    LOOKED_UP_IN_DOUBLES(logarithms_in_double, t, number, logarithm)
    const doubles r = fused(number, e.high, number - 1.0), square = r * r, fourth = square * square;
    doubles q = fused(square, each(-0.10025726009542378), fused(r, each(0.11136291789820943), each(-0.12499971861380522)));
    q = fused(square, q, fused(r, each(0.14285690260397538), each(-0.1666666667936789)));
    const doubles q0 = fused(square, fused(r, each(0.2000000000902885), each(-0.24999999999998054)), fused(r, each(0.3333333333333228), each(-0.5)));
    parts y = sum_of_parts(logarithm, r);
    y.low = y.low + fused(square, fused(fourth, q, q0), number * e.low);
    return y;
}
ALWAYS doubles softplus_double_near(doubles x)
{
    const parts log = log_of_one_plus(parts_of(power_of(falling(x), 0)));
    const doubles m = no_less(x, 0), y = m + log.high, share = y - m;
    return y + (log.low + ((m - (y - share)) + (log.high - share)));
}
ALWAYS doubles softplus_double_far(doubles x) { return up_to_itself(x, decayed_by(exactly(each(1)), x, each(0))); }
#define softplus_double_past sigmoid_double_past
#define softplus_double_derivative_near sigmoid_double_near
#define softplus_double_derivative_far sigmoid_double_far
#define softplus_double_derivative_past sigmoid_double_past

ALWAYS doubles logsigmoid_double_near(doubles x) { return -softplus_double_near(-x); }
ALWAYS doubles logsigmoid_double_far(doubles x) { return -softplus_double_far(-x); }
ALWAYS doubles logsigmoid_double_derivative_near(doubles x) { return sigmoid_double_near(-x); }
ALWAYS doubles logsigmoid_double_derivative_far(doubles x) { return sigmoid_double_far(-x); }
#define logsigmoid_double_past sigmoid_double_past
#define logsigmoid_double_derivative_past sigmoid_double_past

#define swish_double_near silu_double_near
#define swish_double_far silu_double_far
#define swish_double_past silu_double_past
#define swish_double_derivative_near silu_double_derivative_near
#define swish_double_derivative_far silu_double_derivative_far
#define swish_double_derivative_past silu_double_derivative_past

/* 1.702 z, where only |z| < 400 counts */
ALWAYS doubles quick_argument_of(doubles z, doubles *low)
{
    const doubles y = 1.702 * z;
    *low = fused(z, each(4.2632564145606012e-17), fused_less(z, each(1.702), y));
    return y;
}
ALWAYS doubles gelu_quick_double_near(doubles x)
{
    doubles low, z = quick_argument_of(falling(x), &low);
    return gated_of(x, and_low(power_of(z, 0), low));
}
ALWAYS doubles gelu_quick_double_far(doubles x)
{
    doubles a = no_less(x, -800), low, z = quick_argument_of(a, &low);
    return up_to_itself(x, decayed_by(exactly(a), z, low));
}
ALWAYS doubles gelu_quick_double_derivative_near(doubles x)
{
    doubles low, z = quick_argument_of(falling(x), &low);
    return slope_of(x, and_low(power_of(z, 0), low), z, low);
}
ALWAYS doubles gelu_quick_double_derivative_far(doubles x)
{
    doubles low, z = quick_argument_of(no_less(falling(x), -800), &low);
    return up_to_one(x, decayed_by((parts){1.0 + z, low}, z, low));
}
#define gelu_quick_double_past(x) beyond(x, 387)
#define gelu_quick_double_derivative_past gelu_quick_double_past

/* z(x) = 2 sqrt(2 / pi) (x + 0.044715 x^3); cubic is its second term */
ALWAYS doubles tanh_argument_of(doubles x, doubles *low, parts *cubic)
{
    const doubles square = x * x, c = each(1.5957691216057308);
    const parts factor = product_of((parts){square, fused_less(x, x, square)}, (parts){each(0.07135481627260025), each(-6.1751499181553155e-19)});
    const doubles sum = c + factor.high, share = sum - c, z = x * sum;
    const doubles sum_low = ((c - (sum - share)) + (factor.high - share)) + (factor.low + -9.9693088091109203e-17);
    *low = fused(x, sum_low, fused_less(x, sum, z));
    cubic->high = x * factor.high;
    cubic->low = fused(x, factor.low, fused_less(x, factor.high, cubic->high));
    return z;
}
/* x z' = z + 2 cubic */
ALWAYS parts tanh_argument_slope(doubles z, doubles low, parts cubic)
{
    const doubles twice = cubic.high + cubic.high, g = z + twice, share = g - z;
    return (parts){g, ((z - (g - share)) + (twice - share)) + fused(each(2), cubic.low, low)};
}
ALWAYS doubles gelu_tanh_double_near(doubles x)
{
    parts cubic;
    doubles low, z = tanh_argument_of(falling(x), &low, &cubic);
    return gated_of(x, and_low(power_of(z, 0), low));
}
ALWAYS doubles gelu_tanh_double_far(doubles x)
{
    parts cubic;
    doubles a = no_less(x, -30), low, z = tanh_argument_of(a, &low, &cubic);
    return up_to_itself(x, decayed_by(exactly(a), z, low));
}
ALWAYS doubles gelu_tanh_double_derivative_near(doubles x)
{
    parts cubic;
    doubles low, z = tanh_argument_of(falling(x), &low, &cubic);
    const parts g = tanh_argument_slope(z, low, cubic);
    return slope_of(x, and_low(power_of(z, 0), low), g.high, g.low);
}
ALWAYS doubles gelu_tanh_double_derivative_far(doubles x)
{
    parts cubic;
    doubles low, z = tanh_argument_of(no_less(falling(x), -30), &low, &cubic);
    const parts g = tanh_argument_slope(z, low, cubic);
    return up_to_one(x, decayed_by((parts){1.0 + g.high, g.low}, z, low));
}
#define gelu_tanh_double_past(x) beyond(x, 20.6)
#define gelu_tanh_double_derivative_past gelu_tanh_double_past

/* a = |x|, 1 + a = d + low, and about 1 / d */
typedef struct {
    doubles a, d, low, r;
} softsign_parts;

ALWAYS softsign_parts softsign_parts_of(doubles x)
{
    const doubles a = no_more(-falling(x), 1e300), d = 1.0 + a;
    return (softsign_parts){a, d, no_more(a, 1) - (d - no_less(a, 1)), 0.5 * about_two_over(d)};
}
ALWAYS doubles softsign_double_near(doubles x)
{
    const softsign_parts p = softsign_parts_of(x);
    const doubles y = p.a * p.r, rest = less_fused(p.low, y, less_fused(p.d, y, p.a));
    return signed_as(fused(rest, p.r, y), x);
}
ALWAYS doubles softsign_double_derivative_near(doubles x)
{
    const softsign_parts p = softsign_parts_of(x);
    const doubles error = less_fused(p.low, p.r, less_fused(p.d, p.r, each(1)));
    return fused(p.r, p.r, (p.r + p.r) * (p.r * error));
}
#define softsign_double_far softsign_double_near
#define softsign_double_past(x) nowhere()
#define softsign_double_derivative_far softsign_double_derivative_near
#define softsign_double_derivative_past(x) nowhere()

/* squareplus as by_hand.h has it, of z = -|x|. */
ALWAYS quotient squareplus_double_tail(doubles z)
{
    const doubles s = fused(z, z, each(4)), r = about_one_over_root(s), t = about_two_over(fused_less(s, r, z));
    return (quotient){t, r, less_fused(t, t, fused(t, z, each(1)))};
}
ALWAYS doubles squareplus_double_near(doubles x) { return no_less(x, 0) + rounded(squareplus_double_tail(falling(x))); }
ALWAYS doubles squareplus_double_far(doubles x) { return up_to_itself(x, -1.0 / falling(x)); }
ALWAYS doubles squareplus_double_derivative_near(doubles x)
{
    const doubles z = falling(x);
    const quotient t = squareplus_double_tail(z);
    const doubles q = t.r * t.q, twice = q + q, rest = fused(t.r * t.rest, 1.0 - twice, less_fused(twice, t.q, fused(q, z, t.q)));
    return up_to_one(x, fused(t.r, rest, q));
}
ALWAYS doubles squareplus_double_derivative_far(doubles x)
{
    const doubles z = no_less(falling(x), -1e300), r = 1.0 / z, error = less_fused(r, z, each(1));
    return up_to_one(x, fused(r, r, (r + r) * (r * error)));
}
#define squareplus_double_past(x) beyond(x, 1e12)
#define squareplus_double_derivative_past squareplus_double_past

#endif

#endif
