// Which units (features, channels) are not zero everywhere: one flag each, set by whoever sees it.
//
// Flags are only ever set, so no order between threads matters; they are read first because in a
// healthy net there is nothing left to set after the first rows.
#pragma once

#include "elements.cuh"

namespace initfast::cuda {

// Division by a number fixed for the launch: of what fits 31 bits by one multiplication, with the
// rounded-up reciprocal of Granlund & Montgomery (1994).
struct Divisor {
  int64_t value;
  uint32_t multiplier, shift;

  explicit Divisor(int64_t d) : value(d), multiplier(0), shift(0) {
    if (d >= int64_t(1) << 31) return;
    while ((int64_t(1) << shift) < d) ++shift;
    multiplier = uint32_t(((uint64_t(1) << 32) * ((uint64_t(1) << shift) - uint64_t(d))) / uint64_t(d) + 1);
  }
  __device__ __forceinline__ int64_t divide(int64_t n) const {
    if ((n | value) >> 31) return n / value;
    return int64_t((__umulhi(uint32_t(n), multiplier) + uint32_t(n)) >> shift);
  }
};

struct UnitsOfElements {
  Divisor count, inner;
  uint8_t* live;

  explicit UnitsOfElements(const Units& units)
      : count(units.count), inner(units.inner), live(units.live) {}

  __device__ __forceinline__ int64_t unit_of(int64_t index) const {
    const int64_t outer = inner.value == 1 ? index : inner.divide(index);
    return outer - count.divide(outer) * count.value;
  }
};

// Unsigned integers that hold one byte for each element of a vector.
template <int kBytes>
struct FlagsOf;
template <>
struct FlagsOf<2> {
  using Type = uint16_t;
};
template <>
struct FlagsOf<4> {
  using Type = uint32_t;
};
template <>
struct FlagsOf<8> {
  using Type = uint64_t;
};

// Marks the units of the lane's part of a run of y.
template <class T, class S, int N>
__device__ __forceinline__ void mark_run(const UnitsOfElements& units, int64_t start,
                                         const S (&y)[N], uint32_t present) {
  constexpr int W = kVector<T>;
  uint32_t nonzero = 0;
#pragma unroll
  for (int i = 0; i < N; ++i) nonzero |= uint32_t(y[i] != S(0)) << i;
  nonzero &= present;
  const bool together = units.inner.value % W == 0;  // a vector's elements are of one unit
  const bool in_sequence = units.inner.value == 1 && units.count.value % W == 0 &&
                           reinterpret_cast<uintptr_t>(units.live) % W == 0;
#pragma unroll 1
  for (int i = 0; i < N; i += together || in_sequence ? W : 1) {
    const uint32_t here = nonzero >> i & (together || in_sequence ? (1u << W) - 1 : 1u);
    if (here == 0) continue;
    uint8_t* flag = units.live + units.unit_of(start + element_of<T>(i));
    if (!in_sequence) {
      if (!read_flag(flag)) set_flag(flag);
      continue;
    }
    const auto flags = read_flags<typename FlagsOf<W>::Type>(flag);
#pragma unroll
    for (int j = 0; j < W; ++j) {
      if ((here >> j & 1) && !(flags >> 8 * j & 1)) set_flag(flag + j);
    }
  }
}

}  // namespace initfast::cuda
