// unit_moments: one read of a dense tensor [outer, units, inner], and the moments of each unit.
//
// A block sums some units over a span of their numbers. Where units lie one beside the other, each lane
// has a unit and the warps share the rows; else a block has one unit, whose numbers its threads share.
// All deviations are from the unit's first value in the tensor, so that what blocks have summed is
// simply added, in the order of the spans, by a second kernel. Sums are in float64, a handful of
// operations for each number: memory is the limit, but on cards that have hardly any float64.

#include "elements.cuh"
#include "units.cuh"
#include "math/unit_moments.h"

namespace initfast::cuda {
namespace {

using Sums = UnitSums<double, Values::kAny>;

// Sums in memory, which begins without a constructor.
struct StoredSums {
  double count, sum, square, largest;

  __device__ __forceinline__ void store(const Sums& s) {
    count = s.count;
    sum = s.sum;
    square = s.square;
    largest = s.largest;
  }
  __device__ __forceinline__ Sums load() const {
    Sums s;
    s.count = count;
    s.sum = sum;
    s.square = square;
    s.largest = largest;
    return s;
  }
};

struct UnitKernelArgs : UnitMomentsArgs {
  Divisor divisor;  // by inner
  explicit UnitKernelArgs(const UnitMomentsArgs& a) : UnitMomentsArgs(a), divisor(a.inner) {}
};

// What the deviations of a unit are taken from.
template <class T>
__device__ __forceinline__ double first_of(const UnitMomentsArgs& a, int64_t unit) {
  const double value = double(widen(static_cast<const T*>(a.x)[unit * a.inner]));
  return is_finite(value) ? value : 0.0;
}

__device__ __forceinline__ void write_unit(const UnitMomentsArgs& a, int64_t unit, double first,
                                           const Sums& sums) {
  const UnitMoments<double> m(sums.count, first, sums.sum, sums.square, sums.largest);
  a.out[unit] = m.count;
  a.out[a.units + unit] = m.mean;
  a.out[2 * a.units + unit] = m.m2;
  a.out[3 * a.units + unit] = m.largest;
}

// The only span's sums are the result.
__device__ __forceinline__ void write_sums(const UnitMomentsArgs& a, int64_t span, int64_t unit,
                                           double first, const Sums& sums) {
  if (a.spans == 1) return write_unit(a, unit, first, sums);
  reinterpret_cast<StoredSums*>(a.partial)[span * a.units + unit].store(sums);
}

// Numbers [begin, end) of a unit, where those of a unit are one row's each.
template <class T>
__device__ __forceinline__ void sum_columns(const UnitKernelArgs& a, int64_t group, int64_t span,
                                            int64_t begin, int64_t end, StoredSums* shared) {
  const T* x = static_cast<const T*>(a.x);
  const int64_t unit = group * kWarp + lane_index();
  const bool is_there = unit < a.units;
  const double first = is_there ? first_of<T>(a, unit) : 0.0;
  Sums sums;
#pragma unroll 4
  for (int64_t row = begin + warp_index(); row < end; row += kWarps) {
    if (is_there) sums.add(double(widen(x[row * a.units + unit])), first);
  }
  shared[threadIdx.x].store(sums);
  __syncthreads();
  if (warp_index() > 0 || !is_there) return;
  for (int warp = 1; warp < kWarps; ++warp) sums.join(shared[warp * kWarp + lane_index()].load());
  write_sums(a, span, unit, first, sums);
}

// Likewise, where `inner` of them lie together in each row.
template <class T>
__device__ __forceinline__ void sum_stretches(const UnitKernelArgs& a, int64_t unit, int64_t span,
                                              int64_t begin, int64_t end, StoredSums* shared) {
  const T* x = static_cast<const T*>(a.x);
  const double first = first_of<T>(a, unit);
  Sums sums;
#pragma unroll 4
  for (int64_t i = begin + threadIdx.x; i < end; i += kThreads) {
    const int64_t outer = a.divisor.divide(i);
    sums.add(double(widen(x[(outer * (a.units - 1) + unit) * a.inner + i])), first);
  }
#pragma unroll
  for (int lanes = kWarp / 2; lanes > 0; lanes /= 2) sums.join(from_lane_xor(sums, lanes));
  if (lane_index() == 0) shared[warp_index()].store(sums);
  __syncthreads();
  if (threadIdx.x > 0) return;
  for (int warp = 1; warp < kWarps; ++warp) sums.join(shared[warp].load());
  write_sums(a, span, unit, first, sums);
}

template <class S>
__global__ void __launch_bounds__(kThreads) unit_sums_kernel(UnitKernelArgs a) {
  INITFAST_SHARED_ARRAY(StoredSums, shared, kThreads);
  const int64_t group = blockIdx.x % a.groups(), span = blockIdx.x / a.groups();
  const int64_t begin = span * a.numbers_per_span(), last = begin + a.numbers_per_span();
  const int64_t end = last < a.outer * a.inner ? last : a.outer * a.inner;
  with_storage<S>(a.dtype, [&](auto type) {
    using T = decltype(type);
    if (a.inner == 1) {
      sum_columns<T>(a, group, span, begin, end, shared);
    } else {
      sum_stretches<T>(a, group, span, begin, end, shared);
    }
  });
}

template <class S>
__global__ void __launch_bounds__(kThreads) unit_merge_kernel(UnitKernelArgs a) {
  const int64_t unit = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (unit >= a.units) return;
  double first = 0;
  with_storage<S>(a.dtype, [&](auto type) { first = first_of<decltype(type)>(a, unit); });
  Sums all;
  for (int64_t span = 0; span < a.spans; ++span) {
    all.join(reinterpret_cast<const StoredSums*>(a.partial)[span * a.units + unit].load());
  }
  write_unit(a, unit, first, all);
}

template <class S>
cudaError_t launch_both(const UnitKernelArgs& a, cudaStream_t stream) {
  const cudaError_t error = launch(unit_sums_kernel<S>, a.groups() * a.spans, stream, a);
  if (error != cudaSuccess || a.spans == 1) return error;
  return launch(unit_merge_kernel<S>, ceil_div(a.units, kThreads), stream, a);
}

}  // namespace

cudaError_t unit_moments(const UnitMomentsArgs& a, cudaStream_t stream) {
  const UnitKernelArgs args(a);
  if (a.dtype == Dtype::kFloat64) return launch_both<double>(args, stream);
  return launch_both<float>(args, stream);
}

}  // namespace initfast::cuda
