// The vocabulary of the shared mathematics: what a template over "a number or a vector of
// numbers" may call, given here for plain scalars on host and device. cpu/simd.h adds the same
// names for SIMD vectors.
//
// Every translation unit defines INITFAST_ISA (a namespace name) before its first include, so that
// a function compiled for one instruction set can never be merged by the linker with its twin
// compiled for another.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

#ifndef INITFAST_ISA
#define INITFAST_ISA generic
#endif

#if defined(__CUDACC__)
#define INITFAST_INLINE __host__ __device__ __forceinline__
#else
// GCC gives a function it writes itself (a defaulted constructor) no compiler target: a class that
// holds SIMD vectors spells its constructor out.
#define INITFAST_INLINE inline __attribute__((always_inline))
#endif

// Before a loop of a known number of turns, at most n: unroll it whole.
#define INITFAST_PRAGMA(words) _Pragma(#words)
#if defined(__CUDACC__)
#define INITFAST_UNROLL(n) INITFAST_PRAGMA(unroll)
#else
#define INITFAST_UNROLL(n) INITFAST_PRAGMA(GCC unroll n)
#endif

// Whether the target multiplies and adds in one instruction.
#ifndef INITFAST_HAS_FMA
#if defined(__CUDA_ARCH__) || defined(__aarch64__)
#define INITFAST_HAS_FMA 1
#else
#define INITFAST_HAS_FMA 0
#endif
#endif

namespace initfast::INITFAST_ISA {

#define INITFAST_STRING_OF(x) #x
#define INITFAST_STRING(x) INITFAST_STRING_OF(x)

// The scalar under a number or vector, and the integers of the same width and shape.
template <class V>
struct Lane;

template <>
struct Lane<float> {
  using Scalar = float;
  using Int = int32_t;
  static constexpr int kLanes = 1;
};

template <>
struct Lane<double> {
  using Scalar = double;
  using Int = int64_t;
  static constexpr int kLanes = 1;
};

template <class V>
using ScalarOf = typename Lane<V>::Scalar;
template <class V>
using IntOf = typename Lane<V>::Int;

template <class To, class From>
INITFAST_INLINE To bit_cast(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  memcpy(&to, &from, sizeof to);
  return to;
}

// Bits shifted left, those that leave lost: of a signed scalar C++17 leaves that undefined.
template <class I>
INITFAST_INLINE I shift_left(I bits, int places) {
  if constexpr (std::is_integral_v<I>) {
    return I(std::make_unsigned_t<I>(bits) << places);
  } else {
    return bits << places;
  }
}

// A constant in every lane.
template <class V>
INITFAST_INLINE V splat(ScalarOf<V> value) {
  if constexpr (Lane<V>::kLanes == 1) {
    return value;
  } else {
    return V{} + value;
  }
}

template <class Mask, class V>
INITFAST_INLINE V select(Mask mask, V yes, V no) {
  return mask ? yes : no;
}

// Add one to the counter where the mask holds: a bool, or a vector of 0 and -1.
template <class Int, class Mask>
INITFAST_INLINE void tally(Int& counter, Mask mask) {
  if constexpr (std::is_integral_v<Mask>) {
    counter += mask;
  } else {
    counter -= mask;
  }
}

template <class V>
constexpr bool kIsDouble = sizeof(ScalarOf<V>) == 8;

// a * b + c, rounded once.
INITFAST_INLINE float fma(float a, float b, float c) { return ::fmaf(a, b, c); }
INITFAST_INLINE double fma(double a, double b, double c) { return ::fma(a, b, c); }

// a * b + c by whichever is faster, fused or not: where bits need not agree between machines. (The
// macro is for the overloads: a template would not see the vectors' fma, which is declared later.)
#if INITFAST_HAS_FMA
#define INITFAST_MUL_ADD(a, b, c) fma(a, b, c)
#else
#define INITFAST_MUL_ADD(a, b, c) ((a) * (b) + (c))
#endif
INITFAST_INLINE float mul_add(float a, float b, float c) { return INITFAST_MUL_ADD(a, b, c); }
INITFAST_INLINE double mul_add(double a, double b, double c) { return INITFAST_MUL_ADD(a, b, c); }

INITFAST_INLINE float sqrt(float x) { return ::sqrtf(x); }
INITFAST_INLINE double sqrt(double x) { return ::sqrt(x); }

template <class V>
constexpr IntOf<ScalarOf<V>> kAllButSign = ~(IntOf<ScalarOf<V>>(1) << (8 * sizeof(ScalarOf<V>) - 1));

// Clear the sign bit.
template <class V>
INITFAST_INLINE V abs(V x) {
  return bit_cast<V>(bit_cast<IntOf<V>>(x) & kAllButSign<V>);
}

// The magnitude of x with the sign of s.
template <class V>
INITFAST_INLINE V copysign(V x, V s) {
  return bit_cast<V>((bit_cast<IntOf<V>>(x) & kAllButSign<V>) |
                     (bit_cast<IntOf<V>>(s) & ~kAllButSign<V>));
}

// The smaller and the larger; where x is NaN, NaN, so that `min(x, bound)` keeps a NaN alive.
template <class V>
INITFAST_INLINE V min(V x, V bound) {
  return select(x > bound, bound, x);
}
template <class V>
INITFAST_INLINE V max(V x, V bound) {
  return select(x < bound, bound, x);
}


// The smaller and the larger; where x is NaN, the other.
template <class V>
INITFAST_INLINE V lesser(V x, V than) {
  return select(x < than, x, than);
}
template <class V>
INITFAST_INLINE V greater(V x, V than) {
  return select(x > than, x, than);
}

// a / b where b is between 2^-126 and 2^126, or infinite.
template <class V>
INITFAST_INLINE V quotient(V a, V b) {
  return a / b;
}

#if defined(__CUDA_ARCH__)
// By one step of Newton's method, within a unit in the last place: IEEE's division branches.
INITFAST_INLINE float quotient(float a, float b) {
  float inverse;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(inverse) : "f"(b));
  const float near = a * inverse, left = fma(-near, b, a);
  return left == left ? fma(left, inverse, near) : near;
}

// One instruction each, which the compiler does not see in a selection.
INITFAST_INLINE float lesser(float x, float than) { return ::fminf(x, than); }
INITFAST_INLINE float greater(float x, float than) { return ::fmaxf(x, than); }
#endif

}  // namespace initfast::INITFAST_ISA
