// The moments of each unit (feature, channel) of a tensor over its rows (samples, tokens, positions):
// count, mean, m2 and largest magnitude of its finite values.
//
// Summed are the deviations from one of the unit's own values. So a unit that is the same in every row
// has an m2 of exactly 0, and a mean far from 0 costs no digits. Let k be how many standard deviations
// that value lies from the mean: float64 sums are within 1e-15 (1 + k^2) of m2, for magnitudes from
// 1e-150 to 1e150; where the CPU sums in float32 first, within 4e-6 (1 + k^2) at worst, about 1e-7 as
// a rule, and the mean within 2e-6 (1 + k) standard deviations.
#pragma once

#include "math/moments.h"

namespace initfast {

// The columns of a unit's row of moments: count, mean, m2, largest.
constexpr int64_t kUnitColumns = 4;

}  // namespace initfast

namespace initfast::INITFAST_ISA {

// Of the deviations from `first`. V: a double or a vector of them. With kFinite the caller knows the
// count, and sees by `sum` whether every value was finite.
template <class V, Values kValues>
struct UnitSums {
  V count, sum, square, largest;

  INITFAST_INLINE UnitSums()
      : count(splat<V>(0)), sum(splat<V>(0)), square(splat<V>(0)), largest(splat<V>(0)) {}

  INITFAST_INLINE void add(V x, V first) {
    V deviation = x - first, magnitude = abs(x);
    if constexpr (kValues == Values::kAny) {
      const auto finite = is_finite(x);
      deviation = select(finite, deviation, splat<V>(0));
      magnitude = select(finite, magnitude, splat<V>(0));
      count = count + select(finite, splat<V>(1), splat<V>(0));
    }
    sum = sum + deviation;
    square = mul_add(deviation, deviation, square);
    largest = greater(magnitude, largest);
  }

  INITFAST_INLINE void join(const UnitSums& other) {
    count = count + other.count;
    sum = sum + other.sum;
    square = square + other.square;
    largest = greater(other.largest, largest);
  }
};

// A mean of 0 where nothing is finite.
template <class V>
struct UnitMoments {
  V count, mean, m2, largest;

  INITFAST_INLINE UnitMoments(V count, V first, V sum, V square, V largest)
      : count(count), mean(first), m2(square), largest(largest) {
    const auto some = count > splat<V>(0);
    const V shift = sum / select(some, count, splat<V>(1));
    mean = select(some, first + shift, splat<V>(0));
    m2 = square - sum * shift;
    m2 = select(m2 > splat<V>(0), m2, splat<V>(0));
  }

  // Chan, Golub & LeVeque (1979), as `merge` of moments.h.
  INITFAST_INLINE void join(const UnitMoments& b) {
    const V zero = splat<V>(0), total = count + b.count;
    const V of_b = b.count / select(total > zero, total, splat<V>(1));
    const V delta = select(count > zero, select(b.count > zero, b.mean - mean, zero), zero);
    mean = select(count > zero, mean + delta * of_b, b.mean);
    m2 = m2 + b.m2 + delta * delta * count * of_b;
    largest = select(b.largest > largest, b.largest, largest);
    count = total;
  }
};

}  // namespace initfast::INITFAST_ISA
