// How a warp walks over a tensor's elements: runs of kRun<S>, 16 bytes at a time and lane.
//
// Lane l of a run holds vectors l, l + 32, ... of W = 16 / sizeof(T) consecutive elements, whatever
// the pointer's alignment, so that the moments' bits do not depend on it. A run that is not aligned, or
// not whole, is read element by element.
#pragma once

#include "device.cuh"
#include "kernels.h"

namespace initfast::cuda {

// Numbers held by a lane: several 16-byte loads in flight, and still 2 blocks of 256 threads on a
// multiprocessor.
template <class S>
constexpr int kPerLane = kIsDouble<S> ? 4 : 16;
template <class S>
constexpr int kRun = kWarp * kPerLane<S>;

template <class T>
constexpr int kVector = 16 / int(sizeof(T));

// ---- dtypes: what is stored, and what is computed with ----

// Calls f with a value of the storage type; all of a kernel's storage types compute in S.
template <class S, class F>
__device__ __forceinline__ void with_storage(Dtype dtype, F f) {
  if constexpr (kIsDouble<S>) {
    f(double());
  } else {
    switch (dtype) {
      case Dtype::kBFloat16: return f(BFloat16());
      case Dtype::kFloat16: return f(Float16());
      default: return f(float());
    }
  }
}

__device__ __forceinline__ float widen(float x) { return x; }
__device__ __forceinline__ double widen(double x) { return x; }
__device__ __forceinline__ float widen(BFloat16 x) { return to_float(x); }
__device__ __forceinline__ float widen(Float16 x) { return to_float(x); }

__device__ __forceinline__ void narrow(float x, float& to) { to = x; }
__device__ __forceinline__ void narrow(double x, double& to) { to = x; }
__device__ __forceinline__ void narrow(float x, BFloat16& to) { to = to_bfloat16(x); }
__device__ __forceinline__ void narrow(float x, Float16& to) { to = to_float16(x); }

// x as the dtype stores it: what is measured is what is stored.
template <class S>
__device__ __forceinline__ S rounded(S x, Dtype dtype) {
  if (dtype == Dtype::kBFloat16) return S(to_float(to_bfloat16(float(x))));
  if (dtype == Dtype::kFloat16) return S(to_float(to_float16(float(x))));
  return x;
}

// ---- vectors ----

template <class T>
struct Vector {
  T element[kVector<T>];
};

__device__ __forceinline__ bool is_aligned(const void* p) {
  return reinterpret_cast<uintptr_t>(p) % 16 == 0;
}

template <class T>
__device__ __forceinline__ Vector<T> load_vector(const T* p) {
  return bit_cast<Vector<T>>(*reinterpret_cast<const uint4*>(p));
}
template <class T>
__device__ __forceinline__ void store_vector(T* p, const Vector<T>& v) {
  *reinterpret_cast<uint4*>(p) = bit_cast<uint4>(v);
}

// The first n elements at p; zeros beyond.
template <class T, class Index>
__device__ __forceinline__ Vector<T> load_first(const T* p, Index n, bool aligned) {
  if (aligned && n >= kVector<T>) return load_vector(p);
  Vector<T> v{};
#pragma unroll
  for (int i = 0; i < kVector<T>; ++i) {
    if (i < n) v.element[i] = p[i];
  }
  return v;
}

// ---- a lane's corner of shared memory ----

// Registers cannot be indexed by a loop that is not unrolled whole. Where the loop's body is long
// (19 activations, divisions), the lane's numbers go through memory of its own, four at a time: a
// sixteenth or a quarter of the code.
constexpr int kGroup = 4;
template <class S>
constexpr int kStage = kThreads * kPerLane<S>;

template <class S>
class Stage {
 public:
  __device__ __forceinline__ explicit Stage(S (&memory)[kStage<S>])
      : mine_(memory + int(threadIdx.x) * kGroup) {}
  __device__ __forceinline__ S& at(int i) const {
    return mine_[i / kGroup * (kThreads * kGroup) + i % kGroup];
  }
  template <int N>
  __device__ __forceinline__ void put(const S (&x)[N]) const {
#pragma unroll
    for (int i = 0; i < N; ++i) at(i) = x[i];
  }
  template <int N>
  __device__ __forceinline__ void get(S (&x)[N]) const {
#pragma unroll
    for (int i = 0; i < N; ++i) x[i] = at(i);
  }

 private:
  S* mine_;
};

// ---- runs ----

// The element that number i of this lane is, counted from the start of its run.
template <class T>
__device__ __forceinline__ int element_of(int i) {
  return (i / kVector<T> * kWarp + lane_index()) * kVector<T> + i % kVector<T>;
}

// Which of this lane's numbers are among the first `left` elements of the run.
template <class T, int N>
__device__ __forceinline__ uint32_t present_of(int64_t left) {
  if (left >= N * kWarp) return (1u << N) - 1;
  uint32_t present = 0;
#pragma unroll
  for (int i = 0; i < N; ++i) present |= uint32_t(element_of<T>(i) < int(left)) << i;
  return present;
}

// The run from element `start` of a contiguous tensor; zeros past its end. Nothing stands between the
// loads, so that all are in flight at once.
template <class T, class S, int N>
__device__ __forceinline__ void load_run(const T* data, int64_t start, int64_t numel, S (&x)[N]) {
  if (is_aligned(data) && start + N * kWarp <= numel) {
    const T* mine = data + start + element_of<T>(0);
    Vector<T> v[N / kVector<T>];
#pragma unroll
    for (int i = 0; i < N; i += kVector<T>) v[i / kVector<T>] = load_vector(mine + i * kWarp);
#pragma unroll
    for (int i = 0; i < N; ++i) x[i] = widen(v[i / kVector<T>].element[i % kVector<T>]);
  } else {
    const uint32_t present = present_of<T, N>(numel - start);
    T element[N];
#pragma unroll
    for (int i = 0; i < N; ++i) {
      element[i] = present >> i & 1 ? data[start + element_of<T>(i)] : T{};
    }
#pragma unroll
    for (int i = 0; i < N; ++i) x[i] = widen(element[i]);
  }
}

// Where element `index` of a strided tensor lies.
__device__ __forceinline__ int64_t offset_of(const Layout& layout, int64_t index) {
  int64_t offset = 0;
#pragma unroll 1
  for (int d = layout.dims - 1; d > 0; --d) {
    const int64_t outer = index / layout.size[d];
    offset += (index - outer * layout.size[d]) * layout.stride[d];
    index = outer;
  }
  return offset + index * layout.stride[0];
}

// The same of a strided tensor.
template <class T, class S, int N>
__device__ __forceinline__ void gather_run(const T* data, const Layout& layout, int64_t start,
                                           int64_t numel, const Stage<S>& stage, S (&x)[N]) {
#pragma unroll 1
  for (int i = 0; i < N; ++i) {
    const int64_t index = start + element_of<T>(i);
    stage.at(i) = index < numel ? S(widen(data[offset_of(layout, index)])) : S(0);
  }
  stage.get(x);
}

// Stores a run, and leaves in x what was stored.
template <class T, class S, int N>
__device__ __forceinline__ void store_run(T* data, int64_t start, int64_t numel, S (&x)[N]) {
  const bool aligned = is_aligned(data);
#pragma unroll
  for (int i = 0; i < N; i += kVector<T>) {
    const int64_t index = start + element_of<T>(i);
    Vector<T> v;
#pragma unroll
    for (int j = 0; j < kVector<T>; ++j) {
      narrow(x[i + j], v.element[j]);
      x[i + j] = widen(v.element[j]);
    }
    if (aligned && index + kVector<T> <= numel) {
      store_global(reinterpret_cast<uint4*>(data + index), bit_cast<uint4>(v));
    } else {
#pragma unroll
      for (int j = 0; j < kVector<T>; ++j) {
        if (index + j < numel) data[index + j] = v.element[j];
      }
    }
  }
}

// ---- tiles ----

// Runs [0, runs) of a tensor, dealt to the warps of a grid that shape alone determines.
template <class S>
INITFAST_INLINE int64_t tiles_of(int64_t numel) {
  return ceil_div(numel, int64_t(kRun<S>) * kWarps);
}
template <class S>
int64_t blocks_of(int64_t numel) {
  const int64_t tiles = tiles_of<S>(numel);
  return tiles < 1 ? 1 : tiles > kMaxBlocks ? kMaxBlocks : tiles;
}

// Calls f(start, count) for every run of this warp, and after each 32 of them and at the end flush().
// In the last tile some warps of a block may have no run: f must not wait for the whole block.
template <class S, class F, class G>
__device__ __forceinline__ void for_each_run(int64_t numel, F f, G flush) {
  const int64_t tiles = tiles_of<S>(numel);
  int64_t tile = blockIdx.x;
  do {
#pragma unroll 1
    for (int n = 0; n < kWarp && tile < tiles; ++n, tile += gridDim.x) {
      const int64_t start = (tile * kWarps + warp_index()) * kRun<S>;
      const int64_t left = numel - start;
      if (left > 0) f(start, int32_t(left < kRun<S> ? left : kRun<S>));
    }
    flush();
  } while (tile < tiles);
}

}  // namespace initfast::cuda
