// linear_act for small batches: y = act(x W^T + b), bound by the one read of W.
//
// A block computes kRows rows of some columns of y, over all of depth; blocks that share columns are
// neighbours, so that W comes from memory once and from the second-level cache after. x goes through
// shared memory in stretches of depth; W goes straight to registers, 16 bytes a lane and row. Where
// columns are few, warps share the depth between them.
// The tile's sums meet in shared memory, where slices are added in their order; bias, moments,
// activation and moments again follow there, so that z is never read back.
// The weight's own moments are taken by one more block for the same columns, first of those
// neighbours: the sums of a product leave no registers to measure in.

#include "../activation.h"
#include "elements.cuh"
#include "warp_moments.cuh"

namespace initfast::cuda {
namespace {

INITFAST_INLINE int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

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
using WarpTotals = Moments[kMomentRows * kWarps];

// Rows [col, col + kCols) of the weight. Where they lie one after the other they are one piece, to be
// cut into runs; else each is.
template <class T, int kCols>
__device__ __forceinline__ void measure_weight(const LinearActArgs& a, int64_t col, WarpTotals& total) {
  if (lane_index() == 0) total[warp_index()] = total[kWarps + warp_index()] = no_moments();
  WarpMoments<float> of_weight(total[2 * kWarps + warp_index()]);
  const int64_t rows = a.cols - col < kCols ? a.cols - col : kCols;
  const bool together = a.weight_stride == a.depth;
  const int64_t pieces = together ? 1 : rows, length = together ? rows * a.depth : a.depth;
  const int64_t runs = ceil_div(length, kRun<float>);
  const T* data = static_cast<const T*>(a.weight) + col * a.weight_stride;
  for (int64_t run = warp_index(); run < pieces * runs; run += kWarps) {
    const int64_t piece = run / runs, start = (run - piece * runs) * kRun<float>;
    const int64_t left = length - start;
    float x[kPerLane<float>];
    load_run(data + piece * a.weight_stride, start, length, x);
    of_weight.add(x, present_of<T, kPerLane<float>>(left),
                  int32_t(left < kRun<float> ? left : kRun<float>));
  }
  of_weight.flush();
}

// ---- from sums to y, z, live units and moments ----

// sums[slice][kRows][kCols] of the tile at (row, col); the slices are added in order.
template <class T, int kSlices, int kRows, int kCols>
__device__ __forceinline__ void finish_tile(const LinearActArgs& a, int64_t row, int64_t col,
                                            const float* sums, WarpTotals& total) {
  if (lane_index() == 0) total[2 * kWarps + warp_index()] = no_moments();
  constexpr int kTile = kRows * kCols;
  constexpr int N = (kTile + kThreads - 1) / kThreads;
  WarpMoments<float> of_z(total[warp_index()]), of_y(total[kWarps + warp_index()]);
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
  int32_t count = 0, saturated = 0;
#pragma unroll
  for (int i = 0; i < N; ++i) count += int32_t(present >> i & 1);
  count = warp_sum(count);
  of_z.add(z, present, count);
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
    uint8_t* flag = a.live + place[i] % a.cols;
    if (y[i] != 0.f && !read_flag(flag)) set_flag(flag);
  }
  of_y.add(y, present, count, warp_sum(saturated));
  of_z.flush();
  of_y.flush();
}

// ---- float32: exact multiplications and additions, no TF32 ----

constexpr int kExactRows = 16, kExactDepth = 512;
constexpr int kWarpCols = 4;
constexpr int kWarpDepth = kWarp * kVector<float>;  // a lane holds 4 numbers along depth
constexpr int kFewWarps = kWarps / 4 > 0 ? kWarps / 4 : 1;
constexpr int kManyCols = 2048;  // enough for a block of 32 columns on half of the multiprocessors

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
                                           WarpTotals& total) {
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
  constexpr int kCols = kColumnWarps * kWarpCols;
  const Tile tile = tile_of_block<kExactRows, kCols>(a);
  if (tile.measures_weight) {
    measure_weight<float, kCols>(a, tile.col, total);
  } else {
    exact_tile<kColumnWarps>(a, tile, total);
  }
  reduce_grid<kMomentRows>(total, a.out);
}

// ---- bfloat16 and float16: tensor cores, float32 accumulators ----

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
                                                 WarpTotals& total) {
  constexpr int kDepth = kRows == 16 ? 1024 : 256;
  constexpr int kStride = kDepth + 32;  // 64 bytes of padding: 8 lanes then read 8 different banks
  constexpr int kStep = kWarps * kMmaDepth;
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
  Vector<T> next[2];
  const auto prefetch = [&](int k) {
    next[0] = weight.load(w_row[0], k);
    next[1] = weight.load(w_row[1], k);
  };
  prefetch(lane_depth);
  for (int k = 0; k < x.depth; k += kDepth) {
    __syncthreads();
    stage_rows<kRows, kDepth, kStride>(x, tile.row, k, staged);
    __syncthreads();
    for (int offset = lane_depth; offset < kDepth && k + offset - along * kVector<T> < x.depth;
         offset += kStep) {
      const Pairs low = bit_cast<Pairs>(next[0]), high = bit_cast<Pairs>(next[1]);
      prefetch(k + offset + kStep);
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
  const Tile tile = tile_of_block<kRows, kMmaCols>(a);
  if (tile.measures_weight) {
    measure_weight<T, kMmaCols>(a, tile.col, total);
  } else {
    tensor_core_tile<T, kRows>(a, tile, total);
  }
  reduce_grid<kMomentRows>(total, a.out);
}

// ---- choice ----

struct Choice {
  void (*kernel)(LinearActArgs);
  int64_t blocks;
};

template <class T>
Choice choose_tensor_core(const LinearActArgs& a) {
  const int64_t across = ceil_div(a.cols, kMmaCols);
  if (a.rows <= 16) return {tensor_core_kernel<T, 16>, across * blocks_down<16>(a.rows)};
  return {tensor_core_kernel<T, 64>, across * blocks_down<64>(a.rows)};
}

template <int kColumnWarps>
Choice choose_exact(const LinearActArgs& a) {
  const int64_t across = ceil_div(a.cols, kColumnWarps * kWarpCols);
  return {exact_kernel<kColumnWarps>, across * blocks_down<kExactRows>(a.rows)};
}

Choice choose(const LinearActArgs& a) {
  if (a.dtype == Dtype::kBFloat16) return choose_tensor_core<BFloat16>(a);
  if (a.dtype == Dtype::kFloat16) return choose_tensor_core<Float16>(a);
  return a.cols >= kManyCols ? choose_exact<kWarps>(a) : choose_exact<kFewWarps>(a);
}

}  // namespace

int64_t linear_act_blocks(const LinearActArgs& a) { return choose(a).blocks; }

cudaError_t linear_act(const LinearActArgs& a, cudaStream_t stream) {
  const Choice choice = choose(a);
  return launch(choice.kernel, choice.blocks, stream, a);
}

}  // namespace initfast::cuda
