// The moments of what a kernel holds in registers, run by run, and their way to global memory.
//
// A run is what a warp holds at one time: N numbers in each lane. Its scale and centre are those of
// the whole run, by shuffles, and so are the sums of the powers of its deviations, which one lane then
// remembers, still in the kernel's own precision. The centre is the mean of the run before, and where
// that proves to lie too far away, the run's own. Extremes and counts each lane keeps of its own
// numbers. When all lanes remember a run, or at the end, the warp turns what they have into float64
// Moments and merges those. So float64 arithmetic, which many cards have little of, happens once in
// 32 runs. Warps, then blocks, are merged in their order.
//
// What small tensors wait for is the code itself, on its first way into the instruction cache: so
// whatever does not run for every number is a loop that is not unrolled, and stands in one place.
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
    const double mean = first + warp_sum(n > 0 ? (m.mean - first) * share : 0.0);
    const double d = n > 0 ? m.mean - mean : 0.0, between = n * d * d;
    m.mean = mean;
    m.m4 += d * (4 * m.m3 + d * (6 * m.m2 + between));
    m.m3 += d * (3 * m.m2 + between);
    m.m2 += between;
  }
#pragma unroll 1
  for (int lanes = kWarp / 2; lanes > 0; lanes /= 2) {
    const Moments other = from_lane_xor(m, lanes);
    m.count += other.count;
    m.nonfinite += other.nonfinite;
    m.nan += other.nan;
    m.zero += other.zero;
    m.saturated += other.saturated;
    m.m2 += other.m2;
    m.m3 += other.m3;
    m.m4 += other.m4;
    m.min = lesser(other.min, m.min);
    m.max = greater(other.max, m.max);
    m.smallest = lesser(other.smallest, m.smallest);
  }
  return m;
}

// The moments of the first n of memory, n <= kWarp, in every lane.
__device__ __forceinline__ Moments merge_first(const Moments* m, int n) {
  return merge_warp(lane_index() < n ? m[lane_index()] : no_moments());
}

// ---- a lane ----

// What a lane keeps of at most 32 runs: the sums of one of them, in which all lanes have their part,
// and the extremes and counts of its own numbers in all of them.
template <class S>
class LaneMoments {
 public:
  // A run: the numbers that are present (bit i of the mask), and how many of the lane's are saturated.
  template <int N>
  __device__ __forceinline__ void add(const S (&x)[N], uint32_t present, int32_t saturated = 0) {
    static_assert(N * kWarp < 1 << 10, "the counts of a run, and of a lane's runs, fit their bits");
    constexpr uint32_t kAll = (1u << N) - 1;
    saturated_ += uint32_t(saturated);
    if (!(__all_sync(kAllLanes, present == kAll) && add_finite(x))) add_any(x, present);
    ++runs_;
  }

  __device__ __forceinline__ Moments moments() const {
    Moments m = no_moments();
    m.count = finite_ + nonfinite_;
    m.nonfinite = nonfinite_;
    m.nan = nan_;
    m.zero = zero_;
    m.saturated = saturated_;
    m.min = double(low_);
    m.max = double(high_);
    m.smallest = double(smallest_);
    if (finite_ == 0) return m;
    Deviation<double, Values::kFinite> sums;
    sums.first = double(sums_.first);
    sums.second = double(sums_.second);
    sums.third = double(sums_.third);
    sums.fourth = double(sums_.fourth);
    set_central_moments(m, double(finite_), double(scale_), double(centre_), sums);
    return m;
  }

 private:
  // Whether all numbers of the run are finite, and then counted.
  template <int N>
  __device__ __forceinline__ bool add_finite(const S (&x)[N]) {
    constexpr S kCount = S(N * kWarp);
    Extent<S, Values::kNoZero> extent;
#pragma unroll
    for (int i = 0; i < N; ++i) extent.add(x[i]);
    const S largest = largest_of(extent);
    if (!is_finite(largest)) return false;
    const S scale = power_of_two_scale(largest);
    S centre = mean_ * scale, sums[4];
#pragma unroll 1
    for (bool own = false;; own = true) {
      sum_deviations<Values::kFinite>(x, scale, centre, sums);
      // Nearer to the mean than a quarter of the standard deviation, hardly a bit is lost.
      if (own || sums[0] * sums[0] <= sums[1] * (kCount / 16)) break;
      S sum = S(0);
#pragma unroll
      for (int i = 0; i < N; ++i) sum += x[i] * scale;
      centre = warp_sum(sum) * (1 / kCount);
      if (!is_finite(centre)) return false;  // of NaN
    }
    if (extent.smallest == S(0)) {
      Extent<S, Values::kFinite> with_zeros;
#pragma unroll
      for (int i = 0; i < N; ++i) with_zeros.add(x[i]);
      extent.smallest = with_zeros.smallest;
      extent.zero = with_zeros.zero;
    }
    add_extent(extent);
    remember(scale, centre, sums, N * kWarp);
    mean_ = (centre + sums[0] * (1 / kCount)) * power_of_two_scale(scale);
    return true;
  }

  // What is absent counts as NaN, and then not at all.
  template <int N>
  __device__ __forceinline__ void add_any(const S (&given)[N], uint32_t present) {
    S x[N];
#pragma unroll
    for (int i = 0; i < N; ++i) x[i] = present >> i & 1 ? given[i] : S(NAN);
    Extent<S, Values::kAny> extent;
#pragma unroll
    for (int i = 0; i < N; ++i) extent.add(x[i]);
    const uint32_t absent = uint32_t(N - __popc(present));
    nonfinite_ += uint32_t(extent.nonfinite) - absent;
    nan_ += uint32_t(extent.nan) - absent;
    add_extent(extent);
    const S scale = power_of_two_scale(largest_of(extent));
    S sum = S(0);
#pragma unroll
    for (int i = 0; i < N; ++i) sum += is_finite(x[i]) ? x[i] * scale : S(0);
    const int finite = warp_sum(N - int(extent.nonfinite));
    if (finite == 0) return;
    const S centre = warp_sum(sum) / S(finite);
    S sums[4];
    sum_deviations<Values::kAny>(x, scale, centre, sums);
    remember(scale, centre, sums, finite);
  }

  // The largest magnitude in the warp.
  template <Values kValues>
  static __device__ __forceinline__ S largest_of(const Extent<S, kValues>& extent) {
    const S largest = greater(abs(extent.low), abs(extent.high));
    return warp_max_magnitude(extent.low <= extent.high ? largest : S(0));
  }

  template <Values kValues>
  __device__ __forceinline__ void add_extent(const Extent<S, kValues>& extent) {
    low_ = lesser(extent.low, low_);
    high_ = greater(extent.high, high_);
    smallest_ = lesser(extent.smallest, smallest_);
    zero_ += uint32_t(extent.zero);
  }

  // The warp's sums of the powers of its deviations, from the first on.
  template <Values kValues, int N>
  static __device__ __forceinline__ void sum_deviations(const S (&x)[N], S scale, S centre,
                                                        S (&sums)[4]) {
    Deviation<S, kValues> d;
#pragma unroll
    for (int i = 0; i < N; ++i) d.add(x[i], scale, centre);
    sums[0] = d.first;
    sums[1] = d.second;
    sums[2] = d.third;
    sums[3] = d.fourth;
    warp_sums(sums);
  }

  // In the lane whose turn it is.
  __device__ __forceinline__ void remember(S scale, S centre, const S (&sums)[4], int finite) {
    if (lane_index() != runs_) return;
    scale_ = scale;
    centre_ = centre;
    sums_.first = sums[0];
    sums_.second = sums[1];
    sums_.third = sums[2];
    sums_.fourth = sums[3];
    finite_ = uint32_t(finite);
  }

  S scale_ = 1, centre_ = 0;
  Deviation<S, Values::kFinite> sums_;
  S low_ = INFINITY, high_ = -INFINITY, smallest_ = INFINITY;
  S mean_ = 0;  // of the run before
  // Of fewer numbers than 2^10, which add() checks: they take two registers, not five.
  uint32_t finite_ : 10 = 0, saturated_ : 10 = 0;  // finite_: in the run
  uint32_t zero_ : 10 = 0, nonfinite_ : 10 = 0, nan_ : 10 = 0;
  int runs_ = 0;
};

// ---- a warp ----

// The moments of a kernel's rows (of z, of y, ...) as its warps have found them, in shared memory.
template <int kRows>
using WarpTotals = Moments[kRows * kWarps];

template <int kRows>
__device__ __forceinline__ void clear(WarpTotals<kRows>& total) {
  if (lane_index() < kRows) total[lane_index() * kWarps + warp_index()] = no_moments();
  __syncwarp();
}

// Merges what the lanes keep of rows [first, first + K) into their totals; the lanes start anew.
template <int K, class S>
__device__ __forceinline__ void merge_lanes(LaneMoments<S> (&kept)[K], Moments* total, int first = 0) {
  static_assert(K <= 2);
  LaneMoments<S> lane = kept[0];
#pragma unroll 1
  for (int row = first; row < first + K; ++row) {
    Moments m = merge_warp(lane.moments());
    keep_within_extremes(m);
    if (lane_index() == 0) merge(total[row * kWarps + warp_index()], m);
    lane = kept[K - 1];
  }
#pragma unroll
  for (LaneMoments<S>& k : kept) k = LaneMoments<S>();
}

// ---- a block, and the grid ----

// Whether this block is the last to get here. What the blocks wrote before is then seen by the last
// one's threads: by the barrier thread 0's fence is one for its whole block. Leaves the ticket at 0.
__device__ __forceinline__ bool is_last_block(unsigned* ticket) {
  INITFAST_SHARED_ARRAY(bool, last, 1);
  __syncthreads();
  if (threadIdx.x == 0) {
    __threadfence();
    last[0] = atomicAdd(ticket, 1u) == gridDim.x - 1;
    if (last[0]) {
      __threadfence();
      atomicExch(ticket, 0u);
    }
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
__device__ __forceinline__ void reduce_grid(const WarpTotals<kRows>& warp_total,
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
