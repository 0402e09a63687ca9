// Elementary functions for the activations, over float, a SIMD vector of floats, or double.
//
// float: polynomials fitted by Chebyshev interpolation on the stated interval, the error of the fit
// below the rounding of float. Every function is within 4 units in the last place of the true value
// at an argument one such unit away: where a function is steep (e^-x^2), that is the most that can be
// asked. tests/ops/test_activations.py holds them to it. double: the C library.
#pragma once

#include "math/portable.h"

namespace initfast::INITFAST_ISA {

// Apply a C library function to every lane of a double vector.
template <class V, class F>
INITFAST_INLINE V each_lane(V x, F f) {
  if constexpr (Lane<V>::kLanes == 1) {
    return f(x);
  } else {
    for (int i = 0; i < Lane<V>::kLanes; ++i) x[i] = f(x[i]);
    return x;
  }
}

// Horner's rule, highest degree first.
template <class V, int N>
INITFAST_INLINE V polynomial(V x, const float (&c)[N]) {
  V p = splat<V>(c[0]);
  INITFAST_UNROLL(16)
  for (int i = 1; i < N; ++i) p = mul_add(p, x, splat<V>(c[i]));
  return p;
}

// e^x = 2^n e^r with n = round(x / ln 2), |r| <= ln(2)/2 in two steps (Cody & Waite 1980), and
// e^r = 1 + r + r^2 p(r). 2^n is multiplied in two halves so that subnormal results are rounded
// once and nothing overflows early.
template <class V>
INITFAST_INLINE V exp(V x) {
  if constexpr (kIsDouble<V>) {
    return each_lane(x, [](double v) { return ::exp(v); });
  } else {
    constexpr float kP[] = {1.9891981e-4f, 1.3934542e-3f, 8.3333100e-3f,
                            4.1666457e-2f, 1.6666667e-1f, 0.5f};
    constexpr float kRound = 12582912.f;  // 1.5 * 2^23: adding it rounds to an integer
    x = min(max(x, splat<V>(-104.f)), splat<V>(89.f));
    const V shifted = x * 1.44269504f + kRound;
    const V n = shifted - kRound;
    V r = mul_add(n, splat<V>(-0.693359375f), x);
    r = mul_add(n, splat<V>(2.12194440e-4f), r);
    const V e = 1.f + mul_add(r * r, polynomial(r, kP), r);
    const IntOf<V> power = bit_cast<IntOf<V>>(shifted) - 0x4b400000;
    const IntOf<V> half = power >> 1;
    const V first = bit_cast<V>(shift_left(half + 127, 23));
    const V second = bit_cast<V>(shift_left(power - half + 127, 23));
    return e * first * second;
  }
}

// tanh x = x + x^3 p(x^2) near zero, 1 - 2 / (e^(2|x|) + 1) beyond.
template <class V>
INITFAST_INLINE V tanh(V x) {
  if constexpr (kIsDouble<V>) {
    return each_lane(x, [](double v) { return ::tanh(v); });
  } else {
    constexpr float kP[] = {2.2925577e-3f,  -8.3437804e-3f, 2.1768868e-2f,
                            -5.3959253e-2f, 1.3333304e-1f,  -3.3333333e-1f};
    const V magnitude = abs(x);
    const V x2 = x * x;
    const V near = mul_add(magnitude * x2, polynomial(x2, kP), magnitude);
    const V far = 1.f - quotient(splat<V>(2.f), exp(magnitude + magnitude) + 1.f);
    return copysign(select(magnitude > splat<V>(0.625f), far, near), x);
  }
}

// e^x - 1 without cancellation near zero: 2 t / (1 - t) with t = tanh(x / 2). For x <= 0.
template <class V>
INITFAST_INLINE V expm1_nonpositive(V x) {
  if constexpr (kIsDouble<V>) {
    return each_lane(x, [](double v) { return ::expm1(v); });
  } else {
    const V t = tanh(x * 0.5f);
    return quotient(t + t, 1.f - t);
  }
}

// log(1 + u) = 2 atanh(u / (2 + u)) for u in [0, 1].
template <class V>
INITFAST_INLINE V log1p_unit(V u) {
  if constexpr (kIsDouble<V>) {
    return each_lane(u, [](double v) { return ::log1p(v); });
  } else {
    constexpr float kP[] = {1.1612165e-1f, 1.0853288e-1f, 1.4296179e-1f, 1.9999853e-1f,
                            3.3333334e-1f};
    const V s = quotient(u, u + 2.f);
    const V s2 = s * s;
    const V atanh = mul_add(s * s2, polynomial(s2, kP), s);
    return atanh + atanh;
  }
}

// 1 / (1 + e^-x) and, below zero, e^x / (1 + e^x): the lower tail is accurate until e^-x overflows.
// From there on it is zero, as in torch, which divides by 1 + e^-x: zeros are what a net computes.
template <class V>
INITFAST_INLINE V sigmoid(V x) {
  using S = ScalarOf<V>;
  constexpr S kLeast = kIsDouble<V> ? S(-709.782712893384) : S(-88.7228317f);  // -log of the largest
  const V e = exp(-abs(x));
  const V numerator = select(x < splat<V>(0), select(x < splat<V>(kLeast), splat<V>(0), e), splat<V>(1));
  return quotient(numerator, S(1) + e);
}

// log(1 + e^x) = max(x, 0) + log(1 + e^-|x|).
template <class V>
INITFAST_INLINE V softplus(V x) {
  return max(x, splat<V>(0)) + log1p_unit(exp(-abs(x)));
}

// The standard normal's distribution function, Phi(x) = erfc(-x / sqrt 2) / 2, relatively accurate
// in the lower tail: erfc(t) = e^(-t^2) p(q) / (1 + 2 t), q = (t - 3) / (t + 3)
// (the variable of Shepherd & Laframboise, Math. Comp. 36, 1981). Within 6 units in the last place:
// near zero q carries the rounding of t - 3.
template <class V>
INITFAST_INLINE V normal_cdf(V x) {
  if constexpr (kIsDouble<V>) {
    return each_lane(x, [](double v) { return 0.5 * ::erfc(v * -0.70710678118654752440); });
  } else {
    constexpr float kP[] = {-2.7826570e-4f, -8.0095179e-4f, 1.9925210e-3f, 2.5799843e-3f,
                            -2.3789118e-2f, 6.8293667e-2f,  -1.1927283e-1f, 1.2964654e-1f,
                            -4.7562272e-2f, -1.3562114e-1f, 1.2530081f};
    const V magnitude = min(abs(x), splat<V>(14.85f));
    const V t = magnitude * 0.70710678f;
    const V q = (t - 3.f) / (t + 3.f);
    const V gauss = exp(magnitude * magnitude * -0.5f);  // t * t would have one more rounding in it
    const V tail = 0.5f * gauss * polynomial(q, kP) / (1.f + 2.f * t);
    return select(x > splat<V>(0), 1.f - tail, tail);
  }
}

// The standard normal's density, e^(-x^2 / 2) / sqrt(2 pi).
template <class V>
INITFAST_INLINE V normal_pdf(V x) {
  return ScalarOf<V>(0.39894228040143267794) * exp(x * x * ScalarOf<V>(-0.5));
}

}  // namespace initfast::INITFAST_ISA
