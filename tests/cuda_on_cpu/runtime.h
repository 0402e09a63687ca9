// The CUDA dialect on the host: what csrc/cuda includes in place of cuda_runtime.h, so that the
// kernels' own source runs as ordinary C++ under sanitizers. Needs no CUDA toolkit.
//
// One fiber stands for one CUDA thread; all fibers share one operating system thread and switch only
// inside this runtime, in an order drawn from a seed. runtime.cpp says what is checked.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <tuple>
#include <type_traits>

// ---- types and keywords ----

struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
// 16 bytes moved at once. Copying through functions makes UBSan check the alignment of both sides.
struct alignas(16) [[gnu::may_alias]] uint4 {
  unsigned x, y, z, w;
  uint4() = default;
  uint4(unsigned x, unsigned y, unsigned z, unsigned w) : x(x), y(y), z(z), w(w) {}
  uint4(const uint4& from) : x(from.x), y(from.y), z(from.z), w(from.w) {}
  uint4& operator=(const uint4& from) {
    x = from.x, y = from.y, z = from.z, w = from.w;
    return *this;
  }
};

using cudaError_t = int;
using cudaStream_t = void*;
constexpr cudaError_t cudaSuccess = 0;

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)

namespace cuda_on_cpu {

// ---- the runtime ----

struct Thread {
  uint3 thread_index, block_index;
  dim3 block_size, grid_size;
  unsigned lane, warp;
};
extern const Thread* current_thread;

struct Schedule {
  unsigned seed = 1;    // of the order in which threads and blocks run; 0 keeps them in sequence
  int resident = 2;     // blocks that run interleaved
};
extern Schedule schedule;
extern int taken_out;  // the ordering statement that a build of test_mutants.py skips; -1: none

struct Place {  // in the kernel's source
  const char* file;
  int line;
};

// Asked before every launch, where set; anything but cudaSuccess becomes the launch's error.
extern cudaError_t (*before_launch)();
void run_grid(dim3 grid, dim3 block, size_t shared_bytes, const std::function<void()>& kernel);
void block_barrier(Place);
void warp_barrier(unsigned mask, Place);
// Every lane of the mask gives a word; all[lane] receives them.
void warp_exchange(unsigned mask, uint32_t word, uint32_t (&all)[32], Place);
void fence(bool device_wide);
void* shared_variable(const void* key, size_t bytes);
void* dynamic_shared();
void before_atomic(const void*);
void after_atomic(const void*);

template <class... Parameter, class... Argument>
cudaError_t launch(void (*kernel)(Parameter...), dim3 grid, dim3 block, size_t shared_bytes,
                   Argument... argument) {
  if (before_launch) {
    if (const cudaError_t error = before_launch()) return error;
  }
  const std::tuple<std::decay_t<Parameter>...> arguments(argument...);
  run_grid(grid, block, shared_bytes, [&] { std::apply(kernel, arguments); });
  return cudaSuccess;
}

// ---- shuffles, as cuda_runtime.h has them for 32-bit values ----

constexpr uint32_t kUndefined = 0x7fc0dead;  // what an absent lane gives: a NaN

template <class T>
T shuffle(Place place, unsigned mask, T value, unsigned source) {
  static_assert(sizeof(T) == 4);
  uint32_t word, all[32];
  memcpy(&word, &value, 4);
  warp_exchange(mask, word, all, place);
  word = mask >> source & 1 ? all[source] : kUndefined;
  memcpy(&value, &word, 4);
  return value;
}

template <class T>
T shuffle_xor(Place place, unsigned mask, T value, int lanes) {
  return shuffle(place, mask, value, current_thread->lane ^ unsigned(lanes));
}

// The lanes of the mask where the condition holds.
inline unsigned ballot(Place place, unsigned mask, bool condition) {
  uint32_t all[32];
  warp_exchange(mask, uint32_t(condition), all, place);
  unsigned lanes = 0;
  for (unsigned lane = 0; lane < 32; ++lane) {
    if (mask >> lane & 1) lanes |= unsigned(all[lane]) << lane;
  }
  return lanes;
}

// ---- atomics: relaxed, as CUDA's are ----

// change() gives the old value.
template <class T, class Change>
T atomic(T* p, Change change) {
  before_atomic(p);
  const T old = change();
  after_atomic(p);
  return old;
}

template <class T>
T atomic_add(T* p, T value) {
  return atomic(p, [=] { return __atomic_fetch_add(p, value, __ATOMIC_RELAXED); });
}

template <class T>
T atomic_exchange(T* p, T value) {
  return atomic(p, [=] { return __atomic_exchange_n(p, value, __ATOMIC_RELAXED); });
}

// ---- tensor cores ----

// mma.sync.m16n8k16 (row, col), float32 accumulators: d = a b + d. to_float widens a 16-bit value.
template <class ToFloat>
void mma_m16n8k16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Place place,
                  ToFloat to_float) {
  uint32_t a_of[4][32], b_of[2][32];
  for (int i = 0; i < 4; ++i) warp_exchange(~0u, a[i], a_of[i], place);
  for (int i = 0; i < 2; ++i) warp_exchange(~0u, b[i], b_of[i], place);
  // PTX ISA, "Matrix fragments for mma.m16n8k16": a lane holds pairs along k in one register.
  const auto half = [&](uint32_t pair, int k) { return to_float(uint16_t(pair >> 16 * (k & 1))); };
  const auto a_at = [&](int row, int k) {
    return half(a_of[row / 8 + 2 * (k / 8)][row % 8 * 4 + k % 8 / 2], k);
  };
  const auto b_at = [&](int k, int col) { return half(b_of[k / 8][col * 4 + k % 8 / 2], k); };
  for (int i = 0; i < 4; ++i) {
    const int row = int(current_thread->lane / 4) + i / 2 * 8;
    const int col = int(current_thread->lane % 4) * 2 + i % 2;
    for (int k = 0; k < 16; ++k) d[i] = std::fma(a_at(row, k), b_at(k, col), d[i]);
  }
}

}  // namespace cuda_on_cpu

// ---- the names of CUDA ----

#define threadIdx (::cuda_on_cpu::current_thread->thread_index)
#define blockIdx (::cuda_on_cpu::current_thread->block_index)
#define blockDim (::cuda_on_cpu::current_thread->block_size)
#define gridDim (::cuda_on_cpu::current_thread->grid_size)
#define CUDA_ON_CPU_HERE (::cuda_on_cpu::Place{__FILE__, __LINE__})
#define __syncthreads() ::cuda_on_cpu::block_barrier(CUDA_ON_CPU_HERE)
#define __syncwarp() ::cuda_on_cpu::warp_barrier(~0u, CUDA_ON_CPU_HERE)
#define __threadfence() ::cuda_on_cpu::fence(true)
#define __threadfence_block() ::cuda_on_cpu::fence(false)
#define __shfl_xor_sync(...) ::cuda_on_cpu::shuffle_xor(CUDA_ON_CPU_HERE, __VA_ARGS__)
#define __shfl_sync(mask, value, lane) \
  ::cuda_on_cpu::shuffle(CUDA_ON_CPU_HERE, mask, value, unsigned(lane))
#define __ballot_sync(mask, condition) ::cuda_on_cpu::ballot(CUDA_ON_CPU_HERE, mask, condition)
#define __all_sync(mask, condition) (__ballot_sync(mask, condition) == (mask))
#define atomicAdd(p, value) ::cuda_on_cpu::atomic_add((p), (value))
#define atomicExch(p, value) ::cuda_on_cpu::atomic_exchange((p), (value))
inline int __ffs(int bits) { return __builtin_ffs(bits); }
inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
inline unsigned __umulhi(unsigned a, unsigned b) { return unsigned(uint64_t(a) * b >> 32); }
inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned bits) {
  return unsigned((uint64_t(high) << 32 | low) >> (bits & 31));
}
