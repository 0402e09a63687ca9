// The moments of what a kernel holds in registers, run by run, and their way to global memory.
//
// A run is what a warp holds at one time: N numbers in each lane. It is measured by the two passes of
// moments.h, folded across lanes by shuffles. Each lane remembers one run's sums, still in the
// kernel's own precision; when all 32 do, or at the end, the warp turns them into float64 Moments and
// merges those in a tree. So float64 arithmetic, which many cards have little of, happens once in 32
// runs. Warps, then blocks, are merged in their order.
#pragma once

#include "math/moments.h"
#include "device.cuh"
#include "kernels.h"

namespace initfast::cuda {

// ---- a run ----

template <class S>
struct RunSums {
  S scale, centre, low, high, smallest;
  Deviation<S, Values::kFinite> sums;
  // Of fewer numbers than 2^10, which measure_run checks: the counts take two registers, not five.
  uint32_t count : 10, nonfinite : 10, nan : 10;
  uint32_t zero : 10, saturated : 10;
};

template <class Pass>
__device__ __forceinline__ Pass join_warp(Pass pass) {
#pragma unroll
  for (int lanes = kWarp / 2; lanes > 0; lanes /= 2) pass.join(from_lane_xor(pass, lanes));
  return pass;
}

// Calls f(i) for the numbers that are present: bit i of the mask.
template <int N, class F>
__device__ __forceinline__ void for_present(uint32_t present, F f) {
  if (present == (1u << N) - 1) {
#pragma unroll
    for (int i = 0; i < N; ++i) f(i);
  } else {
#pragma unroll
    for (int i = 0; i < N; ++i) {
      if (present >> i & 1) f(i);
    }
  }
}

template <Values kValues, class S, int N>
__device__ __forceinline__ Extent<S, kValues> measure_extent(const S (&x)[N], uint32_t present) {
  Extent<S, kValues> extent;
  for_present<N>(present, [&](int i) { extent.add(x[i]); });
  return join_warp(extent);
}

template <Values kValues, class S, int N>
__device__ __forceinline__ void finish_run(RunSums<S>& run, const Extent<S, kValues>& extent,
                                           const S (&x)[N], uint32_t present) {
  run.zero = uint32_t(extent.zero);
  run.nonfinite = uint32_t(extent.nonfinite);
  run.nan = uint32_t(extent.nan);
  run.low = extent.low;
  run.high = extent.high;
  run.smallest = extent.smallest;
  const S finite = S(run.count - run.nonfinite);
  if (finite == S(0)) return;
  const S largest = abs(run.low) > abs(run.high) ? abs(run.low) : abs(run.high);
  run.scale = power_of_two_scale(largest);
  S total = extent.sum * run.scale;
  if constexpr (kValues == Values::kAny) {
    total = S(0);
    for_present<N>(present, [&](int i) { total += is_finite(x[i]) ? x[i] * run.scale : S(0); });
    total = warp_sum(total);
  }
  run.centre = total / finite;
  Deviation<S, kValues> deviation;
  for_present<N>(present, [&](int i) { deviation.add(x[i], run.scale, run.centre); });
  deviation = join_warp(deviation);
  run.sums.first = deviation.first;
  run.sums.second = deviation.second;
  run.sums.third = deviation.third;
  run.sums.fourth = deviation.fourth;
}

// The sums of the warp's run, the same in every lane.
template <class S, int N>
__device__ __forceinline__ RunSums<S> measure_run(const S (&x)[N], uint32_t present,
                                                  int32_t count, int32_t saturated) {
  static_assert(N * kWarp < 1 << 10, "the counts of a run fit their bits");
  RunSums<S> run{};
  run.count = uint32_t(count);
  run.saturated = uint32_t(saturated);
  const auto extent = measure_extent<Values::kFinite>(x, present);
  if (is_finite(extent.sum)) {
    finish_run(run, extent, x, present);
  } else {
    finish_run(run, measure_extent<Values::kAny>(x, present), x, present);
  }
  return run;
}

template <class S>
__device__ __forceinline__ Moments to_moments(const RunSums<S>& run) {
  Moments m = no_moments();
  m.count = run.count;
  m.nonfinite = run.nonfinite;
  m.nan = run.nan;
  m.zero = run.zero;
  m.saturated = run.saturated;
  if (run.count == run.nonfinite) return m;
  m.min = double(run.low);
  m.max = double(run.high);
  m.smallest = double(run.smallest);
  Deviation<double, Values::kFinite> sums;
  sums.first = double(run.sums.first);
  sums.second = double(run.sums.second);
  sums.third = double(run.sums.third);
  sums.fourth = double(run.sums.fourth);
  set_central_moments(m, double(run.count - run.nonfinite), double(run.scale), double(run.centre),
                      sums);
  return m;
}

// ---- a warp ----

// The moments of all lanes, in lane 0.
__device__ __forceinline__ Moments merge_warp(Moments m) {
#pragma unroll 1
  for (int lanes = kWarp / 2; lanes > 0; lanes /= 2) merge(m, from_lane_below(m, lanes));
  return m;
}

// Collects a warp's runs. `total` is the warp's slot in shared memory; lane 0 alone touches it.
template <class S>
class WarpMoments {
 public:
  __device__ __forceinline__ explicit WarpMoments(Moments& total) : total_(total) {
    if (lane_index() == 0) total_ = no_moments();
  }

  // Before each run but the first, and before its numbers are loaded: the merge in float64 then has
  // their registers.
  __device__ __forceinline__ void make_room() {
    if (runs_ == kWarp) flush();
  }

  template <int N>
  __device__ __forceinline__ void add(const S (&x)[N], uint32_t present, int32_t count,
                                      int32_t saturated = 0) {
    const RunSums<S> run = measure_run(x, present, count, saturated);
    if (lane_index() == runs_) remembered_ = run;
    ++runs_;
  }

  __device__ __forceinline__ void flush() {
    const Moments m = merge_warp(to_moments(remembered_));
    if (lane_index() == 0) merge(total_, m);
    remembered_ = RunSums<S>{};
    runs_ = 0;
  }

 private:
  Moments& total_;
  RunSums<S> remembered_{};
  int runs_ = 0;
};

// ---- a block, and the grid ----

// Whether this block is the last to get here. What its thread 0 wrote before is then seen by the
// last block's threads. Leaves the ticket at 0.
__device__ __forceinline__ bool is_last_block(unsigned* ticket) {
  INITFAST_SHARED_ARRAY(bool, last, 1);
  if (threadIdx.x == 0) {
    __threadfence();
    last[0] = atomicAdd(ticket, 1u) == gridDim.x - 1;
    __threadfence();
    if (last[0]) atomicExch(ticket, 0u);
  }
  __syncthreads();
  return last[0];
}

// The warps share the rows of moments, and a row's blocks where there are more warps than rows: a lane
// of them takes every 32nd block of its warp's share.
template <int kRows>
__device__ __forceinline__ void merge_blocks(const Reduction& out) {
  constexpr int kShares = kWarps > kRows ? kWarps / kRows : 1;
  INITFAST_SHARED_ARRAY(Moments, merged, kRows * kShares);
#pragma unroll 1
  for (int part = warp_index(); part < kRows * kShares; part += kWarps) {
    const int row = part / kShares, share = part % kShares;
    Moments m = no_moments();
    for (int64_t block = share * kWarp + lane_index(); block < gridDim.x; block += kShares * kWarp) {
      merge(m, out.partial[block * kRows + row]);
    }
    m = merge_warp(m);
    if (lane_index() == 0) merged[part] = m;
  }
  __syncthreads();
  const int row = int(threadIdx.x);
  if (row >= kRows) return;
  Moments m = merged[row * kShares];
  for (int share = 1; share < kShares; ++share) merge(m, merged[row * kShares + share]);
  write_row(m, out.moments + kColumns * row);
}

// The end of a kernel: warp_total[row][warp] of every block to out.moments.
template <int kRows>
__device__ __forceinline__ void reduce_grid(const Moments (&warp_total)[kRows * kWarps],
                                            const Reduction& out) {
  __syncthreads();
  if (threadIdx.x == 0) {
    for (int row = 0; row < kRows; ++row) {
      Moments m = warp_total[row * kWarps];
      for (int warp = 1; warp < kWarps; ++warp) merge(m, warp_total[row * kWarps + warp]);
      out.partial[int64_t(blockIdx.x) * kRows + row] = m;
    }
  }
  if (is_last_block(out.ticket)) merge_blocks<kRows>(out);
}

}  // namespace initfast::cuda
