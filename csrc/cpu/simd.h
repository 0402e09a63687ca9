// SIMD vectors under the names of portable.h, through the compilers' vector extension: the same
// source for SSE2, NEON, AVX2 and AVX-512. Included once per instruction set, after
// INITFAST_LANES (floats per register) is defined.
#pragma once

#include "math/portable.h"

namespace initfast::INITFAST_ISA {

constexpr int kLanes = INITFAST_LANES;
typedef float F32 __attribute__((vector_size(4 * kLanes)));
typedef int32_t I32 __attribute__((vector_size(4 * kLanes)));
typedef uint32_t U32 __attribute__((vector_size(4 * kLanes)));
typedef double F64 __attribute__((vector_size(4 * kLanes)));
typedef int64_t I64 __attribute__((vector_size(4 * kLanes)));
typedef uint64_t U64 __attribute__((vector_size(4 * kLanes)));
// As many numbers of float32 as a register has of float64.
typedef float HalfF32 __attribute__((vector_size(2 * kLanes)));

template <>
struct Lane<F32> {
  using Scalar = float;
  using Int = I32;
  static constexpr int kLanes = INITFAST_LANES;
};

template <>
struct Lane<F64> {
  using Scalar = double;
  using Int = I64;
  static constexpr int kLanes = INITFAST_LANES / 2;
};

#if INITFAST_LANES == 16
INITFAST_INLINE F32 fma(F32 a, F32 b, F32 c) { return (F32)_mm512_fmadd_ps(a, b, c); }
INITFAST_INLINE F64 fma(F64 a, F64 b, F64 c) { return (F64)_mm512_fmadd_pd(a, b, c); }
#elif INITFAST_LANES == 8
INITFAST_INLINE F32 fma(F32 a, F32 b, F32 c) { return (F32)_mm256_fmadd_ps(a, b, c); }
INITFAST_INLINE F64 fma(F64 a, F64 b, F64 c) { return (F64)_mm256_fmadd_pd(a, b, c); }
#else
INITFAST_INLINE F32 fma(F32 a, F32 b, F32 c) {
  for (int i = 0; i < Lane<F32>::kLanes; ++i) c[i] = ::fmaf(a[i], b[i], c[i]);
  return c;
}
INITFAST_INLINE F64 fma(F64 a, F64 b, F64 c) {
  for (int i = 0; i < Lane<F64>::kLanes; ++i) c[i] = ::fma(a[i], b[i], c[i]);
  return c;
}
#endif

INITFAST_INLINE F32 mul_add(F32 a, F32 b, F32 c) { return INITFAST_MUL_ADD(a, b, c); }
INITFAST_INLINE F64 mul_add(F64 a, F64 b, F64 c) { return INITFAST_MUL_ADD(a, b, c); }

// The number in every lane, read once; `splat` adds it to zeros, which the compiler must not leave
// out.
INITFAST_INLINE F32 repeat(float value) {
#if INITFAST_LANES == 16
  return (F32)_mm512_set1_ps(value);
#elif INITFAST_LANES == 8
  return (F32)_mm256_set1_ps(value);
#else
  return F32{value, value, value, value};
#endif
}

// Loads and stores at any alignment.
template <class V>
INITFAST_INLINE V load(const ScalarOf<V>* p) {
  V v;
  memcpy(&v, p, sizeof v);
  return v;
}
template <class V>
INITFAST_INLINE void store(ScalarOf<V>* p, V v) {
  memcpy(p, &v, sizeof v);
}

// Numbers as float64, as many as V has lanes.
template <class V, class S>
INITFAST_INLINE V load_wide(const S* p) {
  if constexpr (Lane<V>::kLanes == 1) {
    return V(*p);
  } else if constexpr (std::is_same_v<S, double>) {
    return load<V>(p);
  } else {
    HalfF32 half;
    memcpy(&half, p, sizeof half);
    return __builtin_convertvector(half, V);
  }
}

// As V's own numbers.
template <class V, class S>
INITFAST_INLINE V load_as(const S* p) {
  if constexpr (std::is_same_v<S, ScalarOf<V>>) {
    return load<V>(p);
  } else {
    return load_wide<V>(p);
  }
}

// The first n < kLanes numbers at p, zeros beyond; nothing past p[n - 1] is touched.
INITFAST_INLINE F32 load_first(const float* p, int n) {
#if INITFAST_LANES == 16
  return (F32)_mm512_maskz_loadu_ps(__mmask16((1u << n) - 1), p);
#else
  F32 v{};
  for (int i = 0; i < n; ++i) v[i] = p[i];
  return v;
#endif
}

}  // namespace initfast::INITFAST_ISA
