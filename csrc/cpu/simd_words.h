// SIMD vectors of random words under the names of philox.h and distribution.h. Included before them,
// so that their templates see these functions.
#pragma once

#include "simd.h"

namespace initfast::INITFAST_ISA {

constexpr int kWideLanes = kLanes / 2;  // 64-bit lanes per register

INITFAST_INLINE void broadcast(U64& lanes, uint64_t value) { lanes = U64{} + value; }

#if INITFAST_LANES == 16

INITFAST_INLINE U64 mul_low(U64 a, U64 b) { return (U64)_mm512_mul_epu32((__m512i)a, (__m512i)b); }
// A shuffle: more units do those than shifts.
INITFAST_INLINE U64 high_half(U64 a) { return (U64)_mm512_shuffle_epi32((__m512i)a, (_MM_PERM_ENUM)0xF5); }
INITFAST_INLINE U64 xor3(U64 a, U64 b, U64 c) {
  return (U64)_mm512_ternarylogic_epi64((__m512i)a, (__m512i)b, (__m512i)c, 0x96);
}
INITFAST_INLINE U64 final_words(U64 product, U64 word, U64 key) {
  const __m512i swapped = _mm512_shuffle_epi32((__m512i)product, (_MM_PERM_ENUM)0xB1);
  return (U64)_mm512_mask_ternarylogic_epi32(swapped, 0x5555, (__m512i)word, (__m512i)key, 0x96);
}
INITFAST_INLINE U64 even_lanes(U64 a, U64 b) {
  return (U64)_mm512_unpacklo_epi64((__m512i)a, (__m512i)b);
}
INITFAST_INLINE U64 odd_lanes(U64 a, U64 b) {
  return (U64)_mm512_unpackhi_epi64((__m512i)a, (__m512i)b);
}
INITFAST_INLINE I32 magnitude(I32 i) { return (I32)_mm512_abs_epi32((__m512i)i); }
INITFAST_INLINE I64 magnitude(I64 i) { return (I64)_mm512_abs_epi64((__m512i)i); }
// Two registers hold a row of the table: a permutation instead of sixteen loads.
INITFAST_INLINE F32 look_up(const float* row, I32 octave) {
  return (F32)_mm512_permutex2var_ps(_mm512_loadu_ps(row), (__m512i)octave,
                                     _mm512_loadu_ps(row + 16));
}
INITFAST_INLINE F64 look_up(const double* row, I64 octave) {
  return (F64)_mm512_i64gather_pd((__m512i)(octave & 63), row, 8);
}
// The last sixteen numbers of a row fit two registers.
INITFAST_INLINE bool all_upper(I64 octave) {
  return _mm512_cmpge_epu64_mask((__m512i)(octave & 63), _mm512_set1_epi64(48)) == 0xFF;
}
INITFAST_INLINE F64 look_up_upper(const double* row, I64 octave) {
  return (F64)_mm512_permutex2var_pd(_mm512_loadu_pd(row + 48), (__m512i)octave,
                                     _mm512_loadu_pd(row + 56));
}

#elif INITFAST_LANES == 8

INITFAST_INLINE U64 mul_low(U64 a, U64 b) { return (U64)_mm256_mul_epu32((__m256i)a, (__m256i)b); }
INITFAST_INLINE U64 high_half(U64 a) { return (U64)_mm256_shuffle_epi32((__m256i)a, 0xF5); }
INITFAST_INLINE U64 xor3(U64 a, U64 b, U64 c) { return a ^ b ^ c; }
INITFAST_INLINE U64 final_words(U64 product, U64 word, U64 key) {
  const __m256i swapped = _mm256_shuffle_epi32((__m256i)product, 0xB1);
  return (U64)_mm256_blend_epi32(_mm256_xor_si256(swapped, (__m256i)(word ^ key)), swapped, 0xAA);
}
INITFAST_INLINE U64 even_lanes(U64 a, U64 b) {
  return (U64)_mm256_unpacklo_epi64((__m256i)a, (__m256i)b);
}
INITFAST_INLINE U64 odd_lanes(U64 a, U64 b) {
  return (U64)_mm256_unpackhi_epi64((__m256i)a, (__m256i)b);
}
INITFAST_INLINE I32 magnitude(I32 i) { return (I32)_mm256_abs_epi32((__m256i)i); }
INITFAST_INLINE I64 magnitude(I64 i) { return i < 0 ? -i : i; }
INITFAST_INLINE F32 look_up(const float* row, I32 octave) {
  return (F32)_mm256_i32gather_ps(row, (__m256i)(octave & 31), 4);
}
INITFAST_INLINE F64 look_up(const double* row, I64 octave) {
  return (F64)_mm256_i64gather_pd(row, (__m256i)(octave & 63), 8);
}

#else

#if defined(__x86_64__)
INITFAST_INLINE U64 mul_low(U64 a, U64 b) { return (U64)_mm_mul_epu32((__m128i)a, (__m128i)b); }
INITFAST_INLINE U64 even_lanes(U64 a, U64 b) {
  return (U64)_mm_unpacklo_epi64((__m128i)a, (__m128i)b);
}
INITFAST_INLINE U64 odd_lanes(U64 a, U64 b) {
  return (U64)_mm_unpackhi_epi64((__m128i)a, (__m128i)b);
}
#elif defined(__aarch64__)
INITFAST_INLINE U64 mul_low(U64 a, U64 b) {
  return (U64)vmull_u32(vmovn_u64((uint64x2_t)a), vmovn_u64((uint64x2_t)b));
}
INITFAST_INLINE U64 even_lanes(U64 a, U64 b) {
  return (U64)vzip1q_u64((uint64x2_t)a, (uint64x2_t)b);
}
INITFAST_INLINE U64 odd_lanes(U64 a, U64 b) {
  return (U64)vzip2q_u64((uint64x2_t)a, (uint64x2_t)b);
}
#else
INITFAST_INLINE U64 mul_low(U64 a, U64 b) { return (a & 0xffffffffu) * (b & 0xffffffffu); }
INITFAST_INLINE U64 even_lanes(U64 a, U64 b) { return U64{a[0], b[0]}; }
INITFAST_INLINE U64 odd_lanes(U64 a, U64 b) { return U64{a[1], b[1]}; }
#endif
INITFAST_INLINE U64 high_half(U64 a) { return a >> 32; }
INITFAST_INLINE U64 xor3(U64 a, U64 b, U64 c) { return a ^ b ^ c; }
INITFAST_INLINE U64 final_words(U64 product, U64 word, U64 key) {
  return (((product >> 32) ^ word ^ key) & 0xffffffffu) | (product << 32);
}
INITFAST_INLINE I32 magnitude(I32 i) { return i < 0 ? -i : i; }
INITFAST_INLINE I64 magnitude(I64 i) { return i < 0 ? -i : i; }
INITFAST_INLINE F32 look_up(const float* row, I32 octave) {
  octave &= 31;
  F32 found;
  for (int i = 0; i < kLanes; ++i) found[i] = row[octave[i]];
  return found;
}
INITFAST_INLINE F64 look_up(const double* row, I64 octave) {
  octave &= 63;
  F64 found;
  for (int i = 0; i < kWideLanes; ++i) found[i] = row[octave[i]];
  return found;
}

#endif

INITFAST_INLINE F32 to_number(I32 i) { return __builtin_convertvector(i, F32); }
INITFAST_INLINE F64 to_number(I64 i) { return __builtin_convertvector(i, F64); }

}  // namespace initfast::INITFAST_ISA
