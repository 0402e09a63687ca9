// The 16-bit floats as storage: conversions to and from float32, rounding to nearest even.
#pragma once

#include "math/portable.h"

namespace initfast::INITFAST_ISA {

struct BFloat16 {
  uint16_t bits;
};

struct Float16 {
  uint16_t bits;
};

INITFAST_INLINE float to_float(BFloat16 h) { return bit_cast<float>(uint32_t(h.bits) << 16); }

INITFAST_INLINE BFloat16 to_bfloat16(float f) {
  const uint32_t u = bit_cast<uint32_t>(f);
  const uint32_t rounded = (u + 0x7fff + ((u >> 16) & 1)) >> 16;
  return {uint16_t(f != f ? 0x7fc0 : rounded)};
}

// Exponents move by 2^112 in one exact multiplication, which also normalises subnormals;
// infinities and NaN keep their fraction.
INITFAST_INLINE float to_float(Float16 h) {
  const uint32_t sign = uint32_t(h.bits & 0x8000) << 16;
  const uint32_t magnitude = uint32_t(h.bits & 0x7fff) << 13;
  const float scaled = bit_cast<float>(magnitude) * bit_cast<float>(uint32_t(239) << 23);
  const uint32_t special = magnitude | 0x7f800000;
  const uint32_t value = (h.bits & 0x7c00) == 0x7c00 ? special : bit_cast<uint32_t>(scaled);
  return bit_cast<float>(value | sign);
}

// Normal results: round the 13 dropped bits in integer arithmetic. Subnormal results: adding 0.5
// lines the fraction up with float32's last bits, and the addition rounds.
INITFAST_INLINE Float16 to_float16(float f) {
  const uint32_t u = bit_cast<uint32_t>(f);
  const uint32_t sign = (u >> 16) & 0x8000;
  const uint32_t magnitude = u & 0x7fffffff;
  const uint32_t normal = (magnitude - (112u << 23) + 0xfff + ((magnitude >> 13) & 1)) >> 13;
  const uint32_t subnormal =
      bit_cast<uint32_t>(bit_cast<float>(magnitude) + 0.5f) - bit_cast<uint32_t>(0.5f);
  uint32_t half = magnitude < (113u << 23) ? subnormal : normal;
  half = magnitude >= 0x477ff000 ? 0x7c00 : half;
  half = magnitude > 0x7f800000 ? 0x7e00 : half;
  return {uint16_t(half | sign)};
}

}  // namespace initfast::INITFAST_ISA
