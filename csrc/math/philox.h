// Philox4x32-10 (Salmon, Moraes, Dror & Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3"):
// 128 random bits for any 128-bit counter and 64-bit key, by ten rounds of two 32 x 32 -> 64 bit
// products. Here the counter is a 64-bit block number; its upper half is zero.
//
// Every 32-bit word lives in the low half of a 64-bit lane: one product then gives both its halves,
// and the high half needs a single shift. A lane is a uint64_t, or a SIMD vector of them.
#pragma once

#include "math/portable.h"

namespace initfast::INITFAST_ISA {

constexpr int kPhiloxRounds = 10;

// The product of the low halves; what is in the high halves does not matter.
INITFAST_INLINE uint64_t mul_low(uint64_t a, uint64_t b) {
  return uint64_t(uint32_t(a)) * uint32_t(b);
}
// The high half, in the place of the low one; what is in the high half then does not matter.
INITFAST_INLINE uint64_t high_half(uint64_t a) { return a >> 32; }
INITFAST_INLINE uint64_t xor3(uint64_t a, uint64_t b, uint64_t c) { return a ^ b ^ c; }
// The last round's word that comes of a product's high half, and above it the low half itself.
INITFAST_INLINE uint64_t final_words(uint64_t product, uint64_t word, uint64_t key) {
  return uint64_t(uint32_t(product >> 32 ^ word ^ key)) | product << 32;
}
INITFAST_INLINE void broadcast(uint64_t& lane, uint64_t value) { lane = value; }

// The key of every round, in every lane.
template <class W>
struct PhiloxKeys {
  W first[kPhiloxRounds], second[kPhiloxRounds];

  INITFAST_INLINE explicit PhiloxKeys(uint64_t key) {
    uint32_t low = uint32_t(key), high = uint32_t(key >> 32);
    for (int r = 0; r < kPhiloxRounds; ++r) {
      broadcast(first[r], low);
      broadcast(second[r], high);
      low += 0x9E3779B9u;   // the golden ratio
      high += 0xBB67AE85u;  // sqrt(3) - 1
    }
  }
};

// The four words of kBlocks blocks: words 0 and 1 in `front`, 2 and 3 in `back`, the earlier word
// in the low half. `low` and `high` are the halves of the block numbers. The blocks advance
// together, because one alone would wait for the latency of each product.
template <int kBlocks, class W>
INITFAST_INLINE void philox(const PhiloxKeys<W>& key, const W (&low)[kBlocks], W high,
                            W (&front)[kBlocks], W (&back)[kBlocks]) {
  W m0, m1;
  broadcast(m0, 0xD2511F53u);
  broadcast(m1, 0xCD9E8D57u);
  W c0[kBlocks], c1[kBlocks], c2[kBlocks], c3[kBlocks];
  // The first round: the second product is zero.
  INITFAST_UNROLL(8)
  for (int b = 0; b < kBlocks; ++b) {
    const W product = mul_low(low[b], m0);
    c0[b] = high ^ key.first[0];
    c1[b] = W{};
    c2[b] = high_half(product) ^ key.second[0];
    c3[b] = product;
  }
  INITFAST_UNROLL(16)
  for (int r = 1; r < kPhiloxRounds - 1; ++r) {
    INITFAST_UNROLL(8)
    for (int b = 0; b < kBlocks; ++b) {
      const W p0 = mul_low(c0[b], m0);
      const W p1 = mul_low(c2[b], m1);
      c0[b] = xor3(high_half(p1), c1[b], key.first[r]);
      c2[b] = xor3(high_half(p0), c3[b], key.second[r]);
      c1[b] = p1;
      c3[b] = p0;
    }
  }
  INITFAST_UNROLL(8)
  for (int b = 0; b < kBlocks; ++b) {
    front[b] = final_words(mul_low(c2[b], m1), c1[b], key.first[kPhiloxRounds - 1]);
    back[b] = final_words(mul_low(c0[b], m0), c3[b], key.second[kPhiloxRounds - 1]);
  }
}

// ---- the stream: element i of a tensor is decided by word i of the key's words ----

// Words are 32 bits for float and for the 16-bit types, 64 bits for double.
template <class T>
struct WordOf {
  using Type = uint32_t;
};
template <>
struct WordOf<double> {
  using Type = uint64_t;
};

// One word by its index alone.
template <class Word>
INITFAST_INLINE Word stream_word(const PhiloxKeys<uint64_t>& key, uint64_t index) {
  constexpr int kPerBlock = 16 / sizeof(Word);
  const uint64_t block = index / kPerBlock;
  const uint64_t low[1] = {block};
  uint64_t front[1], back[1];
  philox<1>(key, low, block >> 32, front, back);
  const int place = int(index % kPerBlock);
  const uint64_t half = place < kPerBlock / 2 ? front[0] : back[0];
  if constexpr (kPerBlock == 2) {
    return half;
  } else {
    return uint32_t(half >> (32 * (place % 2)));
  }
}

}  // namespace initfast::INITFAST_ISA
