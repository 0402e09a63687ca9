// What linear_act's kernels have in common: reading the operands, which tile a block computes, and the
// way from a tile's sums to y, z, live units and moments.
//
// A block computes kRows rows of some columns of y, over all of depth; blocks that share columns are
// neighbours, so that W comes from memory once and from the second-level cache after. The tile's sums
// meet in shared memory, where slices are added in their order; bias, moments, activation and moments
// again follow there, so that z is never read back.
// The weight's own moments are taken by one more block for the same columns, first of those
// neighbours: the sums of a product leave no registers to measure in.
#pragma once

#include "math/activation_kind.h"
#include "elements.cuh"
#include "warp_moments.cuh"

namespace initfast::cuda {

struct LinearActChoice {
  void (*kernel)(LinearActArgs);
  int64_t blocks;
};
LinearActChoice choose_exact(const LinearActArgs&);
LinearActChoice choose_tensor_core(const LinearActArgs&);

// ---- operands ----

template <class T>
struct Operand {
  const T* data;
  int64_t rows, stride;
  int depth;
  bool aligned;

  __device__ __forceinline__ Operand(const void* p, int64_t rows, int64_t depth, int64_t stride)
      : data(static_cast<const T*>(p)), rows(rows), stride(stride), depth(int(depth)),
        aligned(is_aligned(p) && stride % kVector<T> == 0) {}

  // Below the matrix lies its last row again: what comes of it is not stored.
  __device__ __forceinline__ const T* row(int64_t r) const {
    return data + (r < rows ? r : rows - 1) * stride;
  }
  // [k, k + W) of a row, zeros past its end.
  __device__ __forceinline__ Vector<T> load(const T* row, int k) const {
    return load_first(row + k, depth - k, aligned);
  }
};

// [row, row + kRows) x [k, k + kDepth) of x, to shared memory with rows kStride apart.
template <int kRows, int kDepth, int kStride, class T>
__device__ __forceinline__ void stage_rows(const Operand<T>& x, int64_t row, int k, T* staged) {
  constexpr int kAcross = kDepth / kVector<T>;
#pragma unroll 2
  for (int v = int(threadIdx.x); v < kRows * kAcross; v += kThreads) {
    const int r = v / kAcross, offset = v % kAcross * kVector<T>;
    store_vector(staged + r * kStride + offset, x.load(x.row(row + r), k + offset));
  }
}

// ---- which tile ----

struct Tile {
  bool measures_weight;  // and then has no row
  int64_t row, col;
};
template <int kRows>
INITFAST_INLINE int64_t blocks_down(int64_t rows) {
  return 1 + ceil_div(rows, kRows);
}
template <int kRows, int kCols>
__device__ __forceinline__ Tile tile_of_block(const LinearActArgs& a) {
  const int64_t down = blocks_down<kRows>(a.rows), place = int64_t(blockIdx.x) % down;
  return {place == 0, (place - 1) * kRows, int64_t(blockIdx.x) / down * kCols};
}

constexpr int kMomentRows = 3;  // of z, of y, of the weight
using Totals = WarpTotals<kMomentRows>;

// Rows [col, col + kCols) of the weight. Where they lie one after the other they are one piece, to be
// cut into runs; else each is.
template <class T, int kCols>
__device__ __forceinline__ void measure_weight(const LinearActArgs& a, int64_t col, Totals& total) {
  LaneMoments<float> of_weight[1];
  const int64_t rows = a.cols - col < kCols ? a.cols - col : kCols;
  const bool together = a.weight_stride == a.depth;
  const int64_t pieces = together ? 1 : rows, length = together ? rows * a.depth : a.depth;
  const int64_t runs = ceil_div(length, kRun<float>);
  const T* data = static_cast<const T*>(a.weight) + col * a.weight_stride;
  int64_t run = warp_index();
  do {
#pragma unroll 1
    for (int n = 0; n < kWarp && run < pieces * runs; ++n, run += kWarps) {
      const int64_t piece = run / runs, start = (run - piece * runs) * kRun<float>;
      float x[kPerLane<float>];
      load_run(data + piece * a.weight_stride, start, length, x);
      of_weight[0].add(x, present_of<T, kPerLane<float>>(length - start));
    }
    merge_lanes(of_weight, total, 2);
  } while (run < pieces * runs);
}

// ---- from sums to y, z, live units and moments ----

// sums[slice][kRows][kCols] of the tile at (row, col); the slices are added in order.
template <class T, int kSlices, int kRows, int kCols>
__device__ __forceinline__ void finish_tile(const LinearActArgs& a, int64_t row, int64_t col,
                                            const float* sums, Totals& total) {
  constexpr int kTile = kRows * kCols;
  constexpr int N = (kTile + kThreads - 1) / kThreads;
  LaneMoments<float> of_z_and_y[2];
  float z[N], y[N];
  int64_t place[N];  // in y and z; negative outside the matrix
  uint32_t present = 0;
#pragma unroll
  for (int i = 0; i < N; ++i) {
    const int e = i * kThreads + int(threadIdx.x);
    const int64_t r = row + e / kCols, c = col + e % kCols;
    place[i] = e < kTile && r < a.rows && c < a.cols ? r * a.cols + c : -1;
    z[i] = 0.f;
    if (place[i] < 0) continue;
    present |= 1u << i;
    for (int slice = 0; slice < kSlices; ++slice) z[i] += sums[slice * kTile + e];
    if (a.bias) z[i] += widen(static_cast<const T*>(a.bias)[c]);
    T stored;
    narrow(z[i], stored);
    if (a.z) static_cast<T*>(a.z)[place[i]] = stored;
    z[i] = widen(stored);
  }
  int32_t saturated = 0;
  of_z_and_y[0].add(z, present);
  with_activation(a.act.kind, [&](auto family) {
    using A = typename decltype(family)::template Over<float>;
    const A activation(float(a.act.alpha), float(a.act.beta));
#pragma unroll
    for (int i = 0; i < N; ++i) {
      y[i] = activation.value(z[i]);
      if constexpr (kSaturates<A, float>) {
        saturated += int32_t(activation.saturated(y[i]) && (present >> i & 1));
      }
    }
  });
#pragma unroll
  for (int i = 0; i < N; ++i) {
    if (place[i] < 0) continue;
    T stored;
    narrow(y[i], stored);
    static_cast<T*>(a.y)[place[i]] = stored;
    y[i] = widen(stored);
    uint8_t* flag = a.live + col + (i * kThreads + int(threadIdx.x)) % kCols;
    if (y[i] != 0.f && !read_flag(flag)) set_flag(flag);
  }
  of_z_and_y[1].add(y, present, saturated);
  merge_lanes(of_z_and_y, total);
}

}  // namespace initfast::cuda
