// The moment accumulator: count, mean, spread and shape of a stream of numbers, right at any scale.
//
// A run (a few thousand numbers in the nearest cache, or a thread block's registers) is measured in
// two passes. The first finds its extent and a centre near its mean. The second sums the first four
// powers of the deviations from that centre, after multiplying by a power of two that brings the
// largest magnitude near one: exact, so powers of 1e-37 and 1e37 neither vanish nor overflow in
// float32. Runs are merged in float64 by the pairwise formulas of Chan, Golub & LeVeque (1979) for the
// second and of Pébay (2008, "Formulas for robust, one-pass parallel computation of covariances and
// arbitrary-order statistical moments") for the third and fourth.
#pragma once

#include "math/portable.h"

namespace initfast {

// A row of moments in the order of its columns. mean, m2, m3 and m4 (the sums of the second to fourth
// powers of the deviations from the mean), min, max and smallest (the least magnitude but zero) are of
// the finite values alone; nan is a part of nonfinite.
struct Moments {
  int64_t count, nonfinite, zero, saturated;
  double mean, m2, min, max;
  int64_t nan;
  double m3, m4, smallest;
};
constexpr int64_t kColumns = 12;

}  // namespace initfast

namespace initfast::INITFAST_ISA {

INITFAST_INLINE Moments no_moments() {
  return {0, 0, 0, 0, 0.0, 0.0, INFINITY, -INFINITY, 0, 0.0, 0.0, INFINITY};
}

// The row of kColumns numbers.
INITFAST_INLINE void write_row(const Moments& m, double* row) {
  row[0] = double(m.count);
  row[1] = double(m.nonfinite);
  row[2] = double(m.zero);
  row[3] = double(m.saturated);
  row[4] = m.mean;
  row[5] = m.m2;
  row[6] = m.min;
  row[7] = m.max;
  row[8] = double(m.nan);
  row[9] = m.m3;
  row[10] = m.m4;
  row[11] = m.smallest;
}

// a := the moments of both. The mean moves by delta * (nb / n): the equal (na ma + nb mb) / n would
// overflow first, and loses the mean where na = nb = large.
INITFAST_INLINE void merge(Moments& a, const Moments& b) {
  const double na = double(a.count - a.nonfinite);
  const double nb = double(b.count - b.nonfinite);
  if (nb > 0 && na > 0) {
    const double of_b = nb / (na + nb), of_a = na / (na + nb);
    const double delta = b.mean - a.mean;
    const double between = delta * delta * na * of_b;
    a.m4 += b.m4 + between * delta * delta * (of_a * of_a - of_a * of_b + of_b * of_b) +
            6 * delta * delta * (of_a * of_a * b.m2 + of_b * of_b * a.m2) +
            4 * delta * (of_a * b.m3 - of_b * a.m3);
    a.m3 += b.m3 + between * delta * (of_a - of_b) + 3 * delta * (of_a * b.m2 - of_b * a.m2);
    a.mean += delta * of_b;
    a.m2 = a.m2 + b.m2 + between;
  } else if (nb > 0) {
    a.mean = b.mean;
    a.m2 = b.m2;
    a.m3 = b.m3;
    a.m4 = b.m4;
  }
  a.min = b.min < a.min ? b.min : a.min;
  a.max = b.max > a.max ? b.max : a.max;
  a.smallest = b.smallest < a.smallest ? b.smallest : a.smallest;
  a.count += b.count;
  a.nonfinite += b.nonfinite;
  a.nan += b.nan;
  a.zero += b.zero;
  a.saturated += b.saturated;
}

template <class V>
INITFAST_INLINE auto is_finite(V x) {
  constexpr ScalarOf<V> kLargest =
      kIsDouble<V> ? ScalarOf<V>(1.7976931348623157e308) : ScalarOf<V>(3.4028234663852886e38f);
  return abs(x) <= splat<V>(kLargest);
}

// What a run is known to hold: the less it may, the fewer the instructions. Whoever expects less than
// there is sees it afterwards: `sum` is finite only if every number is (infinities, NaN and overflow
// leave their mark there), and `smallest` is zero only with kNoZero, where a number is.
enum class Values { kNoZero, kFinite, kAny };

// First pass.
template <class V, Values kValues>
struct Extent {
  V low, high, smallest, sum;  // sum: not with kAny
  IntOf<V> zero, nonfinite, nan;

  INITFAST_INLINE Extent()
      : low(splat<V>(INFINITY)),
        high(splat<V>(-INFINITY)),
        smallest(splat<V>(INFINITY)),
        sum(splat<V>(0)),
        zero{},
        nonfinite{},
        nan{} {}

  INITFAST_INLINE void add(V x) {
    const V magnitude = abs(x);
    if constexpr (kValues == Values::kNoZero) {
      smallest = lesser(magnitude, smallest);
    } else {
      const auto is_zero = x == splat<V>(0);
      tally(zero, is_zero);
      const V counted = select(is_zero, splat<V>(INFINITY), magnitude);
      smallest = lesser(counted, smallest);
    }
    if constexpr (kValues == Values::kAny) {
      const auto finite = is_finite(x);
      tally(nonfinite, !finite);
      tally(nan, x != x);
      low = select(finite & (x < low), x, low);
      high = select(finite & (x > high), x, high);
    } else {
      low = lesser(x, low);
      high = greater(x, high);
      sum = sum + x;
    }
  }

  INITFAST_INLINE void join(const Extent& other) {
    low = lesser(other.low, low);
    high = greater(other.high, high);
    smallest = lesser(other.smallest, smallest);
    sum = sum + other.sum;
    zero = zero + other.zero;
    nonfinite = nonfinite + other.nonfinite;
    nan = nan + other.nan;
  }
};

// Second pass: sums of the powers of the deviations d = x * scale - centre (one rounding: the product
// is exact).
template <class V, Values kValues>
struct Deviation {
  V first, second, third, fourth;

  INITFAST_INLINE Deviation()
      : first(splat<V>(0)), second(splat<V>(0)), third(splat<V>(0)), fourth(splat<V>(0)) {}

  INITFAST_INLINE void add(V x, V scale, V centre) {
    V d = mul_add(x, scale, -centre);
    if constexpr (kValues == Values::kAny) d = select(is_finite(x), d, splat<V>(0));
    const V square = d * d;
    first = first + d;
    second = second + square;
    third = mul_add(square, d, third);
    fourth = mul_add(square, square, fourth);
  }

  INITFAST_INLINE void join(const Deviation& other) {
    first = first + other.first;
    second = second + other.second;
    third = third + other.third;
    fourth = fourth + other.fourth;
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

// The mean and the central moments of n numbers from the sums of their scaled deviations' powers.
INITFAST_INLINE void set_central_moments(Moments& m, double n, double scale, double centre,
                                         const Deviation<double, Values::kFinite>& sums) {
  const double unscaled = 1 / scale;  // exact, as the scale is a power of two
  const double shift = sums.first / n;
  m.mean = (centre + shift) * unscaled;
  const double m2 = sums.second - sums.first * shift;
  if (!(m2 > 0)) return;
  const double square = shift * shift;
  const double m3 = sums.third - 3 * shift * sums.second + 2 * sums.first * square;
  const double m4 = sums.fourth - 4 * shift * sums.third + 6 * square * sums.second -
                    3 * sums.first * shift * square;
  const double least = m2 * m2 / n;
  m.m2 = m2 * unscaled * unscaled;
  m.m3 = m3 * unscaled * unscaled * unscaled;
  m.m4 = (m4 < least ? least : m4) * unscaled * unscaled * unscaled * unscaled;
}

// Rounding can carry the mean past the extremes, m2 below zero by an ulp of what cancelled, or m4 below
// m2^2 / n, which Cauchy and Schwarz give; numbers that are all the same deviate by nothing.
INITFAST_INLINE void keep_within_extremes(Moments& m) {
  if (m.count == m.nonfinite) return;
  m.mean = m.mean < m.min ? m.min : m.mean > m.max ? m.max : m.mean;
  if (!(m.min < m.max)) m.m2 = m.m3 = m.m4 = 0;
}

}  // namespace initfast::INITFAST_ISA
