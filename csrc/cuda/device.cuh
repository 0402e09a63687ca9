// The dialect the kernels are written in: CUDA, less what cannot also run on the host.
//
// With INITFAST_CUDA_ON_CPU the host runtime of tests/cuda_on_cpu stands in for CUDA's headers, and
// the kernels' own source runs as ordinary C++. So kernels declare shared memory, launch and use
// inline PTX through the names below, and nothing else in this directory asks who compiles it.
#pragma once

#if defined(INITFAST_CUDA_ON_CPU)
#include "runtime.h"
#else
#include <cuda_runtime.h>
#endif

#include "math/half.h"
#include "math/portable.h"

namespace initfast::cuda {

using namespace initfast::generic;

// In every block. A race checker that can tell few threads apart builds with fewer.
#ifndef INITFAST_CUDA_THREADS
#define INITFAST_CUDA_THREADS 256
#endif
constexpr int kWarp = 32;
constexpr int kThreads = INITFAST_CUDA_THREADS;
constexpr int kWarps = kThreads / kWarp;
constexpr unsigned kAllLanes = 0xffffffffu;

#if defined(INITFAST_CUDA_ON_CPU)

#define INITFAST_SHARED_ARRAY(T, name, n)          \
  static const char name##_key = 0;                \
  T(&name)[n] = *static_cast<T(*)[n]>(             \
      ::cuda_on_cpu::shared_variable(&name##_key, sizeof(T) * (n)))

template <class Args>
cudaError_t launch(void (*kernel)(Args), int64_t blocks, cudaStream_t, const Args& args) {
  return ::cuda_on_cpu::launch(kernel, dim3(unsigned(blocks)), dim3(kThreads), 0, args);
}

inline void store_global(uint4* p, const uint4& v) { *p = v; }

inline bool read_flag(const uint8_t* p) { return __atomic_load_n(p, __ATOMIC_RELAXED) != 0; }
inline void set_flag(uint8_t* p) { __atomic_store_n(p, uint8_t(1), __ATOMIC_RELAXED); }
template <class Word>
Word read_flags(const uint8_t* p) {
  return __atomic_load_n(reinterpret_cast<const Word*>(p), __ATOMIC_RELAXED);
}

inline void mma_m16n8k16(BFloat16, float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  ::cuda_on_cpu::mma_m16n8k16(d, a, b, CUDA_ON_CPU_HERE,
                              [](uint16_t bits) { return to_float(BFloat16{bits}); });
}
inline void mma_m16n8k16(Float16, float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  ::cuda_on_cpu::mma_m16n8k16(d, a, b, CUDA_ON_CPU_HERE,
                              [](uint16_t bits) { return to_float(Float16{bits}); });
}

#else

#define INITFAST_SHARED_ARRAY(T, name, n) __shared__ __align__(16) T name[n]

// cudaLaunchKernel and not <<<>>>: it returns this launch's error, and no earlier one.
template <class Args>
cudaError_t launch(void (*kernel)(Args), int64_t blocks, cudaStream_t stream, const Args& args) {
  void* parameters[] = {const_cast<Args*>(&args)};
  return cudaLaunchKernel(reinterpret_cast<const void*>(kernel), dim3(unsigned(blocks)),
                          dim3(kThreads), parameters, 0, stream);
}

// A plain store beside a branch that stores the same numbers one by one would be merged with it.
__device__ __forceinline__ void store_global(uint4* p, const uint4& v) { __stwb(p, v); }

// Flags only ever go from 0 to 1, so a stale value costs a second store and nothing else: they are
// read through the first-level cache.
__device__ __forceinline__ bool read_flag(const uint8_t* p) { return *p != 0; }
__device__ __forceinline__ void set_flag(uint8_t* p) {
  asm volatile("st.relaxed.gpu.global.u8 [%0], %1;" ::"l"(p), "r"(1) : "memory");
}
template <class Word>
__device__ __forceinline__ Word read_flags(const uint8_t* p) {
  return *reinterpret_cast<const Word*>(p);
}

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
#define INITFAST_MMA(type) __trap()  // the launcher refuses such a card: linear_act_tensor_cores
#else
#define INITFAST_MMA(type)                                                                    \
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32." type "." type ".f32 "                 \
               "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"              \
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])                               \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]))
#endif
__device__ __forceinline__ void mma_m16n8k16(BFloat16, float (&d)[4], const uint32_t (&a)[4],
                                             const uint32_t (&b)[2]) {
  INITFAST_MMA("bf16");
}
__device__ __forceinline__ void mma_m16n8k16(Float16, float (&d)[4], const uint32_t (&a)[4],
                                             const uint32_t (&b)[2]) {
  INITFAST_MMA("f16");
}
#undef INITFAST_MMA

#endif

INITFAST_INLINE int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

__device__ __forceinline__ int lane_index() { return int(threadIdx.x) % kWarp; }
__device__ __forceinline__ int warp_index() { return int(threadIdx.x) / kWarp; }

// Shuffles of anything made of 32-bit words.
template <class T, class Move>
__device__ __forceinline__ T move_words(T value, Move move) {
  static_assert(sizeof(T) % 4 == 0 && std::is_trivially_copyable_v<T>);
  uint32_t word[sizeof(T) / 4];
  memcpy(word, &value, sizeof(T));
#pragma unroll
  for (uint32_t& w : word) w = move(w);
  memcpy(&value, word, sizeof(T));
  return value;
}
template <class T>
__device__ __forceinline__ T from_lane_xor(T value, int lanes) {
  return move_words(value, [=](uint32_t w) { return __shfl_xor_sync(kAllLanes, w, lanes); });
}

template <class T>
__device__ __forceinline__ T from_lane(T value, int lane) {
  return move_words(value, [=](uint32_t w) { return __shfl_sync(kAllLanes, w, lane); });
}

template <class T>
__device__ __forceinline__ T warp_sum(T x) {
#pragma unroll
  for (int lanes = kWarp / 2; lanes > 0; lanes /= 2) x += from_lane_xor(x, lanes);
  return x;
}

// The same of four numbers. Each step but the last three sends half of what a lane holds, and so sums
// the other half of it: 10 shuffles in place of 20.
template <class T>
__device__ __forceinline__ void warp_sums(T (&x)[4]) {
  const bool upper = lane_index() & 16, odd = lane_index() & 8;
  const T first = (upper ? x[2] : x[0]) + from_lane_xor(upper ? x[0] : x[2], 16);
  const T second = (upper ? x[3] : x[1]) + from_lane_xor(upper ? x[1] : x[3], 16);
  T sum = (odd ? second : first) + from_lane_xor(odd ? first : second, 8);
#pragma unroll
  for (int lanes = 4; lanes > 0; lanes /= 2) sum += from_lane_xor(sum, lanes);
#pragma unroll
  for (int i = 0; i < 4; ++i) x[i] = from_lane(sum, 8 * i);
}

// The largest of numbers none of which is negative or NaN.
template <class T>
__device__ __forceinline__ T warp_max_magnitude(T x) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  constexpr bool kByBits = sizeof(T) == 4;  // which are in the same order
#else
  constexpr bool kByBits = false;
#endif
  if constexpr (kByBits) {
    return bit_cast<T>(__reduce_max_sync(kAllLanes, bit_cast<uint32_t>(x)));
  } else {
#pragma unroll
    for (int lanes = kWarp / 2; lanes > 0; lanes /= 2) x = greater(from_lane_xor(x, lanes), x);
    return x;
  }
}

}  // namespace initfast::cuda
