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

/* factor exp(z + low), z < 0, down to the subnormals */
ALWAYS doubles decayed_by(parts factor, doubles z, doubles low)
{
    const parts e = parts_of(and_low(power_of(no_less(z, -800), 1000), low));
    return fused(factor.high, e.high, fused(factor.high, e.low, factor.low * e.high)) * 0x1p-1000;
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

/* (1 - e) / (1 + e), e = exp(-2 |x|), of which no digit may be lost near 0. */
ALWAYS quotient tanh_of(doubles x)
{
    const doubles z = no_less(falling(x), -30);
    const power p = power_of(z + z, 0);
    const doubles rest = 1.0 - p.e, main = less_fused(p.e, p.r, rest);
    const parts a = sum_of_parts(main, less_fused(p.e, p.s, less_fused(p.e, p.r, rest - main) + ((1.0 - rest) - p.e)));
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

#endif

#endif
