// linear_act in float32 for small batches: exact multiplications and additions, no TF32.
//
// Bound by the one read of W, which goes straight to registers, 16 bytes a lane and row; x goes
// through shared memory in stretches of depth. Where columns are few, warps share the depth.

#include "linear_act.cuh"

namespace initfast::cuda {
namespace {

constexpr int kExactRows = 16, kExactDepth = 512;
constexpr int kWarpCols = 4;
constexpr int kWarpDepth = kWarp * kVector<float>;  // a lane holds 4 numbers along depth
constexpr int kFewWarps = kWarps / 4 > 0 ? kWarps / 4 : 1;
// A race checker that can tell few threads apart builds with fewer.
#ifndef INITFAST_CUDA_MANY_COLS
#define INITFAST_CUDA_MANY_COLS 2048
#endif
constexpr int kManyCols = INITFAST_CUDA_MANY_COLS;  // enough for a block of 32 columns on half of the multiprocessors

// Sums each of 2 kWarp values over the warp; lane l keeps those of values 2 l and 2 l + 1.
// Every step sends half of what is left: 62 shuffles in place of 320.
template <int kLanes = kWarp / 2>
__device__ __forceinline__ void sum_and_scatter(float (&v)[2 * kWarp]) {
  const bool upper = lane_index() & kLanes;
#pragma unroll
  for (int i = 0; i < 2 * kLanes; ++i) {
    const float give = upper ? v[i] : v[i + 2 * kLanes];
    const float keep = upper ? v[i + 2 * kLanes] : v[i];
    v[i] = keep + from_lane_xor(give, kLanes);
  }
  if constexpr (kLanes > 1) sum_and_scatter<kLanes / 2>(v);
}

// A warp has 256 multiply-adds in each lane for 4 loads of W: the 16 warps of a multiprocessor hide
// each other's loads.
// kColumnWarps warps side by side, each kWarpCols columns wide; the others take slices of depth.
template <int kColumnWarps>
__device__ __forceinline__ void exact_tile(const LinearActArgs& a, const Tile& tile,
                                           Totals& total) {
  constexpr int kSlices = kWarps / kColumnWarps;
  constexpr int kCols = kColumnWarps * kWarpCols;
  constexpr int kStep = kSlices * kWarpDepth;
  INITFAST_SHARED_ARRAY(float, staged, kExactRows * kExactDepth);
  INITFAST_SHARED_ARRAY(float, sums, kSlices * kExactRows * kCols);
  const Operand<float> x(a.x, a.rows, a.depth, a.x_stride);
  const Operand<float> weight(a.weight, a.cols, a.depth, a.weight_stride);
  const int column = warp_index() % kColumnWarps * kWarpCols;
  const int lane_depth = warp_index() / kColumnWarps * kWarpDepth + lane_index() * kVector<float>;

  float sum[kExactRows * kWarpCols] = {};
  const float* w_row[kWarpCols];
#pragma unroll
  for (int c = 0; c < kWarpCols; ++c) w_row[c] = weight.row(tile.col + column + c);
  for (int k = 0; k < x.depth; k += kExactDepth) {
    __syncthreads();
    stage_rows<kExactRows, kExactDepth, kExactDepth>(x, tile.row, k, staged);
    __syncthreads();
    for (int offset = lane_depth; offset < kExactDepth && k + offset < x.depth; offset += kStep) {
      Vector<float> w[kWarpCols];
#pragma unroll
      for (int c = 0; c < kWarpCols; ++c) w[c] = weight.load(w_row[c], k + offset);
#pragma unroll
      for (int r = 0; r < kExactRows; ++r) {
        const Vector<float> row = load_vector(staged + r * kExactDepth + offset);
#pragma unroll
        for (int c = 0; c < kWarpCols; ++c) {
#pragma unroll
          for (int i = 0; i < kVector<float>; ++i) {
            float& s = sum[r * kWarpCols + c];
            s = fma(row.element[i], w[c].element[i], s);
          }
        }
      }
    }
  }
  sum_and_scatter(sum);
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int value = 2 * lane_index() + i;
    const int r = value / kWarpCols, c = column + value % kWarpCols;
    sums[(warp_index() / kColumnWarps * kExactRows + r) * kCols + c] = sum[i];
  }
  __syncthreads();
  finish_tile<float, kSlices, kExactRows, kCols>(a, tile.row, tile.col, sums, total);
}

template <int kColumnWarps>
__global__ void __launch_bounds__(kThreads, 2) exact_kernel(LinearActArgs a) {
  INITFAST_SHARED_ARRAY(Moments, total, kMomentRows * kWarps);
  clear<kMomentRows>(total);
  constexpr int kCols = kColumnWarps * kWarpCols;
  const Tile tile = tile_of_block<kExactRows, kCols>(a);
  if (tile.measures_weight) {
    measure_weight<float, kCols>(a, tile.col, total);
  } else {
    exact_tile<kColumnWarps>(a, tile, total);
  }
  reduce_grid<kMomentRows>(total, a.out);
}

template <int kColumnWarps>
LinearActChoice choose(const LinearActArgs& a) {
  const int64_t across = ceil_div(a.cols, kColumnWarps * kWarpCols);
  return {exact_kernel<kColumnWarps>, across * blocks_down<kExactRows>(a.rows)};
}

}  // namespace

LinearActChoice choose_exact(const LinearActArgs& a) {
  return a.cols >= kManyCols ? choose<kWarps>(a) : choose<kFewWarps>(a);
}

}  // namespace initfast::cuda
