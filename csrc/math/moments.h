// The moment accumulator: count, mean and spread of a stream of numbers, right at any scale.
//
// A run (a few thousand numbers in the nearest cache, or a thread block's registers) is measured in
// two passes. The first finds its extent and a centre near its mean. The second sums the deviations
// from that centre and their squares, after multiplying by a power of two that brings the largest
// magnitude near one: exact, so squares of 1e-37 and 1e37 neither vanish nor overflow in float32.
// Runs are merged in float64 by the pairwise formula of Chan, Golub & LeVeque (1979).
#pragma once

#include "math/portable.h"

namespace initfast {

// mean, m2 (the sum of squared deviations), min and max are of the finite values alone.
struct Moments {
  int64_t count, nonfinite, zero, saturated;
  double mean, m2, min, max;
};

}  // namespace initfast

namespace initfast::INITFAST_ISA {

INITFAST_INLINE Moments no_moments() { return {0, 0, 0, 0, 0.0, 0.0, INFINITY, -INFINITY}; }

// a := the moments of both. The mean moves by delta * (nb / n): the equal (na ma + nb mb) / n would
// overflow first, and loses the mean where na = nb = large.
INITFAST_INLINE void merge(Moments& a, const Moments& b) {
  const double na = double(a.count - a.nonfinite);
  const double nb = double(b.count - b.nonfinite);
  if (nb > 0) {
    const double share = nb / (na + nb);
    const double delta = b.mean - a.mean;
    a.mean = na > 0 ? a.mean + delta * share : b.mean;
    a.m2 = na > 0 ? a.m2 + b.m2 + delta * delta * na * share : b.m2;
    a.min = b.min < a.min ? b.min : a.min;
    a.max = b.max > a.max ? b.max : a.max;
  }
  a.count += b.count;
  a.nonfinite += b.nonfinite;
  a.zero += b.zero;
  a.saturated += b.saturated;
}

template <class V>
INITFAST_INLINE auto is_finite(V x) {
  constexpr ScalarOf<V> kLargest =
      kIsDouble<V> ? ScalarOf<V>(1.7976931348623157e308) : ScalarOf<V>(3.4028234663852886e38f);
  return abs(x) <= splat<V>(kLargest);
}

// First pass. With kAllFinite the caller only needs to see afterwards that `sum` is finite: every
// infinity, NaN and overflow leaves its mark there.
template <class V, bool kAllFinite>
struct Extent {
  V low, high, sum;  // sum: only with kAllFinite
  IntOf<V> zero, nonfinite;

  INITFAST_INLINE Extent()
      : low(splat<V>(INFINITY)), high(splat<V>(-INFINITY)), sum(splat<V>(0)), zero{}, nonfinite{} {}

  INITFAST_INLINE void add(V x) {
    tally(zero, x == splat<V>(0));
    if constexpr (kAllFinite) {
      low = select(x < low, x, low);
      high = select(x > high, x, high);
      sum = sum + x;
    } else {
      const auto finite = is_finite(x);
      tally(nonfinite, !finite);
      low = select(finite & (x < low), x, low);
      high = select(finite & (x > high), x, high);
    }
  }

  INITFAST_INLINE void join(const Extent& other) {
    low = select(other.low < low, other.low, low);
    high = select(other.high > high, other.high, high);
    sum = sum + other.sum;
    zero = zero + other.zero;
    nonfinite = nonfinite + other.nonfinite;
  }
};

// Second pass: deviations d = x * scale - centre (one rounding: the product is exact).
template <class V, bool kAllFinite>
struct Deviation {
  V first, second;

  INITFAST_INLINE Deviation() : first(splat<V>(0)), second(splat<V>(0)) {}

  INITFAST_INLINE void add(V x, V scale, V centre) {
    V d = mul_add(x, scale, -centre);
    if constexpr (!kAllFinite) d = select(is_finite(x), d, splat<V>(0));
    first = first + d;
    second = mul_add(d, d, second);
  }

  INITFAST_INLINE void join(const Deviation& other) {
    first = first + other.first;
    second = second + other.second;
  }
};

// The power of two that brings `magnitude` into [1, 2), kept within the normal numbers so that it
// and its inverse are exact even where subnormals are flushed.
INITFAST_INLINE float power_of_two_scale(float magnitude) {
  int exponent = int(bit_cast<int32_t>(magnitude) >> 23) - 127;
  exponent = exponent < -126 ? -126 : exponent > 126 ? 126 : exponent;
  return bit_cast<float>((127 - exponent) << 23);
}
INITFAST_INLINE double power_of_two_scale(double magnitude) {
  int64_t exponent = (bit_cast<int64_t>(magnitude) >> 52) - 1023;
  exponent = exponent < -1022 ? -1022 : exponent > 1022 ? 1022 : exponent;
  return bit_cast<double>((1023 - exponent) << 52);
}

// The mean and m2 of n numbers from their scaled deviations. Rounding can carry the mean past the
// extremes or m2 below zero by an ulp of what cancelled; both are known bounds.
INITFAST_INLINE void set_mean_and_m2(Moments& m, double n, double scale, double centre,
                                     double first, double second) {
  const double mean = (centre + first / n) / scale;
  m.mean = mean < m.min ? m.min : mean > m.max ? m.max : mean;
  const double m2 = second - first * first / n;
  m.m2 = m2 > 0 && m.min < m.max ? m2 / scale / scale : 0;
}

}  // namespace initfast::INITFAST_ISA
