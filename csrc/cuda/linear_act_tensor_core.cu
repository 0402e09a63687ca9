// linear_act in bfloat16 and float16 for small batches: tensor cores, float32 accumulators.
//
// Bound by the one read of W, which goes straight to registers, 16 bytes a lane and row, a stretch of
// depth ahead; x goes through shared memory in such stretches. The warps share the depth.

#include "linear_act.cuh"

namespace initfast::cuda {
namespace {

// mma.m16n8k16 with W as its 16 x 16 matrix and x as its 16 x 8: y^T = W x^T, so that a batch of 8
// fills it. The order of depth within an instruction is free, the same for both operands: each lane
// takes 8 consecutive numbers of its rows by one 16-byte load and feeds two instructions.
constexpr int kMmaCols = 16;
constexpr int kMmaDepth = 32;  // per warp: four lanes along depth, 8 numbers each

struct Pairs {
  uint32_t pair[4];
};

template <class T, int kRows>
__device__ __forceinline__ void tensor_core_tile(const LinearActArgs& a, const Tile& tile,
                                                 Totals& total) {
  constexpr int kDepth = kRows == 16 ? 512 : 256;
  constexpr int kStride = kDepth + 32;  // 64 bytes of padding: 8 lanes then read 8 different banks
  constexpr int kStep = kWarps * kMmaDepth;
  constexpr int kSteps = kDepth / kStep;
  constexpr int kRowTiles = kRows / 8;
  constexpr int kStagedBytes = kRows * kStride * int(sizeof(T));
  constexpr int kSumsBytes = kWarps * kRows * kMmaCols * int(sizeof(float));
  INITFAST_SHARED_ARRAY(uint4, memory, (kStagedBytes > kSumsBytes ? kStagedBytes : kSumsBytes) / 16);
  T* staged = reinterpret_cast<T*>(memory);
  float* sums = reinterpret_cast<float*>(memory);
  const Operand<T> x(a.x, a.rows, a.depth, a.x_stride);
  const Operand<T> weight(a.weight, a.cols, a.depth, a.weight_stride);
  const int group = lane_index() / 4, along = lane_index() % 4;
  const int lane_depth = warp_index() * kMmaDepth + along * kVector<T>;

  float sum[kRowTiles][4] = {};
  const T* w_row[2] = {weight.row(tile.col + group), weight.row(tile.col + group + 8)};
  // What a stretch needs of W is loaded while the one before is multiplied.
  Vector<T> next[kSteps][2];
  const auto prefetch = [&](Vector<T>(&to)[2], int k) {
    to[0] = weight.load(w_row[0], k);
    to[1] = weight.load(w_row[1], k);
  };
#pragma unroll
  for (int step = 0; step < kSteps; ++step) prefetch(next[step], lane_depth + step * kStep);
  for (int k = 0; k < x.depth; k += kDepth) {
    __syncthreads();
    stage_rows<kRows, kDepth, kStride>(x, tile.row, k, staged);
    __syncthreads();
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      const int offset = lane_depth + step * kStep;
      if (k + offset - along * kVector<T> >= x.depth) continue;
      const Pairs low = bit_cast<Pairs>(next[step][0]), high = bit_cast<Pairs>(next[step][1]);
      prefetch(next[step], k + kDepth + offset);
#pragma unroll
      for (int t = 0; t < kRowTiles; ++t) {
        const Pairs row = bit_cast<Pairs>(load_vector(staged + (t * 8 + group) * kStride + offset));
#pragma unroll
        for (int half = 0; half < 4; half += 2) {
          const uint32_t w[4] = {low.pair[half], high.pair[half], low.pair[half + 1],
                                 high.pair[half + 1]};
          const uint32_t v[2] = {row.pair[half], row.pair[half + 1]};
          mma_m16n8k16(T(), sum[t], w, v);
        }
      }
    }
  }
  __syncthreads();
#pragma unroll
  for (int t = 0; t < kRowTiles; ++t) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int r = t * 8 + along * 2 + i % 2, c = group + i / 2 * 8;
      sums[(warp_index() * kRows + r) * kMmaCols + c] = sum[t][i];
    }
  }
  __syncthreads();
  finish_tile<T, kWarps, kRows, kMmaCols>(a, tile.row, tile.col, sums, total);
}

template <class T, int kRows>
__global__ void __launch_bounds__(kThreads, 2) tensor_core_kernel(LinearActArgs a) {
  INITFAST_SHARED_ARRAY(Moments, total, kMomentRows * kWarps);
  clear<kMomentRows>(total);
  const Tile tile = tile_of_block<kRows, kMmaCols>(a);
  if (tile.measures_weight) {
    measure_weight<T, kMmaCols>(a, tile.col, total);
  } else {
    tensor_core_tile<T, kRows>(a, tile, total);
  }
  reduce_grid<kMomentRows>(total, a.out);
}

template <class T>
LinearActChoice choose(const LinearActArgs& a) {
  const int64_t across = ceil_div(a.cols, kMmaCols);
  if (a.rows <= 16) return {tensor_core_kernel<T, 16>, across * blocks_down<16>(a.rows)};
  return {tensor_core_kernel<T, 64>, across * blocks_down<64>(a.rows)};
}

}  // namespace

LinearActChoice choose_tensor_core(const LinearActArgs& a) {
  return a.dtype == Dtype::kBFloat16 ? choose<BFloat16>(a) : choose<Float16>(a);
}

}  // namespace initfast::cuda
