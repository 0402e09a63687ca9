// The moments of what a kernel holds in registers, run by run, and their way to global memory.
//
// A run is what a warp holds at one time: N numbers in each lane. Its scale and centre are those of
// the whole run, by shuffles, and so are the sums of the powers of its deviations, which one lane then
// remembers, still in the kernel's own precision. Extremes and counts each lane keeps of its own
// numbers. When all lanes remember a run, or at the end, the warp turns what they have into float64
// Moments and merges those. So float64 arithmetic, which many cards have little of, happens once in
// 32 runs. Warps, then blocks, are merged in their order.
#pragma once

#include "math/moments.h"
#include "device.cuh"
#include "kernels.h"

namespace initfast::cuda {

// ---- merging: of a warp's lanes, all at once ----

// The moments of all lanes, in every lane. About the common mean, as Chan, Golub & LeVeque and Pébay
// (see moments.h) have it for two: mean = sum of n_i mean_i / n, and with d_i = mean_i - mean the sums
// of m2_i + n_i d_i^2, m3_i + 3 d_i m2_i + n_i d_i^3 and m4_i + 4 d_i m3_i + 6 d_i^2 m2_i + n_i d_i^4.
// Parts of one mean stay without deviation: it is taken from the first of them.
__device__ __forceinline__ Moments merge_warp(Moments m) {
  const double n = double(m.count - m.nonfinite);
  const unsigned filled = __ballot_sync(kAllLanes, n > 0);
  if (filled != 0) {
    const double first = from_lane(m.mean, __ffs(int(filled)) - 1);
    const double share = n / warp_sum(n);
    m.mean = n > 0 ? m.mean : first;
    const double mean = first + warp_sum((m.mean - first) * share);
    const double d = m.mean - mean, between = n * d * d;
    m.mean = mean;
    m.m4 = warp_sum(m.m4 + d * (4 * m.m3 + d * (6 * m.m2 + between)));
    m.m3 = warp_sum(m.m3 + d * (3 * m.m2 + between));
    m.m2 = warp_sum(m.m2 + between);
  }
#pragma unroll
  for (int lanes = kWarp / 2; lanes > 0; lanes /= 2) {
    m.count += from_lane_xor(m.count, lanes);
    m.nonfinite += from_lane_xor(m.nonfinite, lanes);
    m.nan += from_lane_xor(m.nan, lanes);
    m.zero += from_lane_xor(m.zero, lanes);
    m.saturated += from_lane_xor(m.saturated, lanes);
    m.min = lesser(from_lane_xor(m.min, lanes), m.min);
    m.max = greater(from_lane_xor(m.max, lanes), m.max);
    m.smallest = lesser(from_lane_xor(m.smallest, lanes), m.smallest);
  }
  return m;
}

// The moments of the first n of memory, n <= kWarp, in every lane.
__device__ __forceinline__ Moments merge_first(const Moments* m, int n) {
  return merge_warp(lane_index() < n ? m[lane_index()] : no_moments());
}

// ---- a run ----

// What a lane keeps of the runs since the last merge: the sums of one of them, in which all lanes
// have their part, and the extremes and counts of its own numbers in all of them.
template <class S>
struct LaneMoments {
  S scale, centre;
  Deviation<S, Values::kFinite> sums;
  S low, high, smallest;
  // Of fewer numbers than 2^10, which add() checks: they take two registers, not five.
  uint32_t finite : 10, saturated : 10;  // finite: in the run
  uint32_t zero : 10, nonfinite : 10, nan : 10;

  __device__ __forceinline__ LaneMoments()
      : scale(1), centre(0), low(INFINITY), high(-INFINITY), smallest(INFINITY), finite(0),
        saturated(0), zero(0), nonfinite(0), nan(0) {}

  template <Values kValues>
  __device__ __forceinline__ void add_extent(const Extent<S, kValues>& extent) {
    low = lesser(extent.low, low);
    high = greater(extent.high, high);
    smallest = lesser(extent.smallest, smallest);
    zero += uint32_t(extent.zero);
  }
};

template <class S>
__device__ __forceinline__ Moments to_moments(const LaneMoments<S>& lane) {
  Moments m = no_moments();
  m.count = lane.finite + lane.nonfinite;
  m.nonfinite = lane.nonfinite;
  m.nan = lane.nan;
  m.zero = lane.zero;
  m.saturated = lane.saturated;
  m.min = double(lane.low);
  m.max = double(lane.high);
  m.smallest = double(lane.smallest);
  if (lane.finite == 0) return m;
  Deviation<double, Values::kFinite> sums;
  sums.first = double(lane.sums.first);
  sums.second = double(lane.sums.second);
  sums.third = double(lane.sums.third);
  sums.fourth = double(lane.sums.fourth);
  set_central_moments(m, double(lane.finite), double(lane.scale), double(lane.centre), sums);
  return m;
}

// ---- a warp ----

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

  // A run: the numbers that are present (bit i of the mask), and how many of the lane's are saturated.
  template <int N>
  __device__ __forceinline__ void add(const S (&x)[N], uint32_t present, int32_t saturated = 0) {
    static_assert(N * kWarp < 1 << 10, "the counts of a run, and of a lane's runs, fit their bits");
    lane_.saturated += uint32_t(saturated);
    constexpr uint32_t kAll = (1u << N) - 1;
    if (__all_sync(kAllLanes, present == kAll)) {
      add_whole(x);
    } else {
      // What is absent counts as NaN, and then not at all: code for one case less.
      S all[N];
#pragma unroll
      for (int i = 0; i < N; ++i) all[i] = present >> i & 1 ? x[i] : S(NAN);
      add_any(all);
      const uint32_t absent = uint32_t(__popc(~present & kAll));
      lane_.nonfinite -= absent;
      lane_.nan -= absent;
    }
    ++runs_;
  }

  __device__ __forceinline__ void flush() {
    if (runs_ == 0) return;
    Moments m = merge_warp(to_moments(lane_));
    keep_within_extremes(m);
    if (lane_index() == 0) merge(total_, m);
    lane_ = LaneMoments<S>();
    runs_ = 0;
  }

 private:
  template <int N>
  __device__ __forceinline__ void add_whole(const S (&x)[N]) {
    Extent<S, Values::kNoZero> extent;
#pragma unroll
    for (int i = 0; i < N; ++i) extent.add(x[i]);
    const S sum = warp_sum(extent.sum);
    if (!is_finite(sum)) return add_any(x);
    if (extent.smallest == S(0)) {
      Extent<S, Values::kFinite> with_zeros;
#pragma unroll
      for (int i = 0; i < N; ++i) with_zeros.add(x[i]);
      extent.smallest = with_zeros.smallest;
      extent.zero = with_zeros.zero;
    }
    lane_.add_extent(extent);
    const S scale = scale_of(extent);
    add_deviations<Values::kFinite>(x, scale, sum * scale * (S(1) / S(N * kWarp)), N * kWarp);
  }

  template <int N>
  __device__ __forceinline__ void add_any(const S (&x)[N]) {
    Extent<S, Values::kAny> extent;
#pragma unroll
    for (int i = 0; i < N; ++i) extent.add(x[i]);
    lane_.add_extent(extent);
    lane_.nonfinite += uint32_t(extent.nonfinite);
    lane_.nan += uint32_t(extent.nan);
    const int finite = warp_sum(N - int(extent.nonfinite));
    if (finite == 0) return;
    const S scale = scale_of(extent);
    S sum = S(0);
#pragma unroll
    for (int i = 0; i < N; ++i) sum += is_finite(x[i]) ? x[i] * scale : S(0);
    add_deviations<Values::kAny>(x, scale, warp_sum(sum) / S(finite), finite);
  }

  // By the largest magnitude in the warp.
  template <Values kValues>
  static __device__ __forceinline__ S scale_of(const Extent<S, kValues>& extent) {
    const bool any = extent.low <= extent.high;
    return power_of_two_scale(
        warp_max_magnitude(any ? greater(abs(extent.low), abs(extent.high)) : S(0)));
  }

  template <Values kValues, int N>
  __device__ __forceinline__ void add_deviations(const S (&x)[N], S scale, S centre, int finite) {
    Deviation<S, kValues> d;
#pragma unroll
    for (int i = 0; i < N; ++i) d.add(x[i], scale, centre);
    d.first = warp_sum(d.first);
    d.second = warp_sum(d.second);
    d.third = warp_sum(d.third);
    d.fourth = warp_sum(d.fourth);
    if (lane_index() != runs_) return;
    lane_.scale = scale;
    lane_.centre = centre;
    lane_.sums.first = d.first;
    lane_.sums.second = d.second;
    lane_.sums.third = d.third;
    lane_.sums.fourth = d.fourth;
    lane_.finite = uint32_t(finite);
  }

  Moments& total_;
  LaneMoments<S> lane_;
  int runs_ = 0;
};

// ---- a block, and the grid ----

// Whether this block is the last to get here. What the blocks wrote before is then seen by the last
// one's threads: by the barrier thread 0's fence is one for its whole block. Leaves the ticket at 0.
__device__ __forceinline__ bool is_last_block(unsigned* ticket) {
  INITFAST_SHARED_ARRAY(bool, last, 1);
  __syncthreads();
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
#pragma unroll 1
  for (int row = warp_index(); row < kRows; row += kWarps) {
    const Moments m = merge_first(merged + row * kShares, kShares);
    if (lane_index() == 0) write_row(m, out.moments + kColumns * row);
  }
}

// The end of a kernel: warp_total[row][warp] of every block to out.moments.
template <int kRows>
__device__ __forceinline__ void reduce_grid(const Moments (&warp_total)[kRows * kWarps],
                                            const Reduction& out) {
  const bool alone = gridDim.x == 1;
  __syncthreads();
#pragma unroll 1
  for (int row = warp_index(); row < kRows; row += kWarps) {
    const Moments m = merge_first(warp_total + row * kWarps, kWarps);
    if (lane_index() != 0) continue;
    if (alone) {
      write_row(m, out.moments + kColumns * row);
    } else {
      out.partial[int64_t(blockIdx.x) * kRows + row] = m;
    }
  }
  if (!alone && is_last_block(out.ticket)) merge_blocks<kRows>(out);
}

}  // namespace initfast::cuda
