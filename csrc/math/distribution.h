// From random words to numbers: uniform, and any distribution through a table of its inverse.
//
// Only operations that IEEE 754 rounds exactly (conversion, +, *, fma, comparison) are used, so
// every machine computes the same bits; initfast/ops/reference_sampling.py is the same in plain PyTorch.
#pragma once

#include "math/portable.h"

namespace initfast {

enum class Shape {
  kUniform,    // no table
  kSymmetric,  // the left half mirrors the right: one table
  kSkewed,     // a table for the left half, then one for the right
  kOneSided    // a table for the whole
};

}  // namespace initfast

namespace initfast::INITFAST_ISA {

// A table has one column for each octave of the probability, a row for each coefficient.
template <class T>
constexpr int kOctaves = 8 * sizeof(T);
template <class T>
constexpr int kDegree = sizeof(T) == 8 ? 18 : 6;
template <class T>
constexpr int kTableSize = (kDegree<T> + 1) * kOctaves<T>;

// value = location + scale * x, within [low, high].
template <class T>
struct Affine {
  T scale, location, low, high;
};

// The bounds that a value may pass; where it cannot, a comparison is saved.
enum class Clamp { kBoth, kAbove, kNone };

template <Clamp kClamp = Clamp::kBoth, class V>
INITFAST_INLINE V bounded(V x, const Affine<ScalarOf<V>>& a) {
  V value = fma(x, splat<V>(a.scale), splat<V>(a.location));
  if constexpr (kClamp == Clamp::kBoth) value = max(value, splat<V>(a.low));
  if constexpr (kClamp != Clamp::kNone) value = min(value, splat<V>(a.high));
  return value;
}

// A signed integer to the nearest number.
INITFAST_INLINE float to_number(int32_t i) { return float(i); }
INITFAST_INLINE double to_number(int64_t i) { return double(i); }

// |i|, the most negative integer staying as it is: its bits are those of 2^31 (2^63).
INITFAST_INLINE int32_t magnitude(int32_t i) { return i < 0 ? int32_t(0u - uint32_t(i)) : i; }
INITFAST_INLINE int64_t magnitude(int64_t i) { return i < 0 ? int64_t(0ull - uint64_t(i)) : i; }

INITFAST_INLINE float look_up(const float* row, int32_t octave) { return row[octave & 31]; }
INITFAST_INLINE double look_up(const double* row, int64_t octave) { return row[octave & 63]; }

// Whether every octave is in the upper half of the table, which may be faster to look up: all but one
// number in 2^14 are. A SIMD vector's answer may differ; see cpu/simd_words.h.
template <class I>
INITFAST_INLINE constexpr bool all_upper(I) {
  return false;
}
template <class S, class I>
INITFAST_INLINE auto look_up_upper(const S* row, I octave) {
  return look_up(row, octave);
}

// x of the word read as a signed integer w: the host scales by the interval over 2^32 (or 2^64).
template <class V, Clamp kClamp = Clamp::kBoth>
INITFAST_INLINE V uniform(IntOf<V> w, const Affine<ScalarOf<V>>& affine) {
  return bounded<kClamp>(to_number(w), affine);
}

// The inverse of a distribution function. The sign of w says which half of the distribution, and
// v = |w| / 2^32 (2^64 for double) is the probability beyond x: 2^-32 to 1/2, which puts the
// normal's extremes at 6.2 (9.1) standard deviations. In each octave of v, x is a polynomial in the
// fraction of v less 1/2, read off the number's own bits: exponent modulo 32 (64), then fraction.
// (w = 0 falls in with |w| = 2.) One-sided, the sign is not used, and v is twice that.
template <class V, Clamp kClamp = Clamp::kBoth>
INITFAST_INLINE V quantile(IntOf<V> w, Shape shape, const ScalarOf<V>* table,
                           const Affine<ScalarOf<V>>& affine) {
  using S = ScalarOf<V>;
  using I = IntOf<V>;
  using Unsigned = std::make_unsigned_t<IntOf<S>>;
  constexpr int kFraction = sizeof(S) == 8 ? 52 : 23;
  constexpr IntOf<S> kFractionMask = (IntOf<S>(1) << kFraction) - 1;
  constexpr IntOf<S> kSign = IntOf<S>(Unsigned(1) << (8 * sizeof(S) - 1));
  const IntOf<V> v = bit_cast<I>(to_number(magnitude(w)));
  const I octave = v >> kFraction;
  const V fraction = bit_cast<V>((v & kFractionMask) | bit_cast<IntOf<S>>(S(1))) - S(1.5);
  if (shape != Shape::kSkewed) {
    const auto polynomial = [&](auto coefficient) {
      V x = coefficient(table);
      INITFAST_UNROLL(32)
      for (int d = 1; d <= kDegree<S>; ++d) x = fma(x, fraction, coefficient(table + d * kOctaves<S>));
      return x;
    };
    V x = all_upper(octave) ? polynomial([&](const S* row) { return look_up_upper(row, octave); })
                            : polynomial([&](const S* row) { return look_up(row, octave); });
    if (shape == Shape::kSymmetric) x = bit_cast<V>(bit_cast<I>(x) ^ (w & kSign));
    return bounded<kClamp>(x, affine);
  }
  const auto left = w < 0;
  V x{};
  INITFAST_UNROLL(32)
  for (int d = 0; d <= kDegree<S>; ++d) {
    const S* row = table + d * kOctaves<S>;
    const V c = select(left, look_up(row, octave), look_up(row + kTableSize<S>, octave));
    x = d == 0 ? c : fma(x, fraction, c);
  }
  return bounded<kClamp>(x, affine);
}

// A shape and the bounds that its values may pass, for the compiler.
template <Shape kShape, Clamp kClamp>
struct Distribution {
  // x of the word.
  template <class V>
  static INITFAST_INLINE V number(IntOf<V> w, const ScalarOf<V>* table,
                                  const Affine<ScalarOf<V>>& affine) {
    if constexpr (kShape == Shape::kUniform) {
      return uniform<V, kClamp>(w, affine);
    } else {
      return quantile<V, kClamp>(w, kShape, table, affine);
    }
  }
};

// Calls f with the Distribution.
template <class S, class F>
INITFAST_INLINE void with_distribution(Shape shape, const Affine<S>& affine, F f) {
  constexpr IntOf<S> kLeast = ~kAllButSign<S>;  // of all words
  switch (shape) {
    case Shape::kUniform:
      // Rounding is monotonic: if the least word does not fall below, none does.
      return fma(S(kLeast), affine.scale, affine.location) >= affine.low
                 ? f(Distribution<Shape::kUniform, Clamp::kAbove>())
                 : f(Distribution<Shape::kUniform, Clamp::kBoth>());
    case Shape::kSymmetric:
      return affine.low == -S(INFINITY) && affine.high == S(INFINITY)
                 ? f(Distribution<Shape::kSymmetric, Clamp::kNone>())
                 : f(Distribution<Shape::kSymmetric, Clamp::kBoth>());
    case Shape::kSkewed: return f(Distribution<Shape::kSkewed, Clamp::kBoth>());
    default: return f(Distribution<Shape::kOneSided, Clamp::kBoth>());
  }
}

}  // namespace initfast::INITFAST_ISA
