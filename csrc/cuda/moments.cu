// moments: one read of any tensor, and a row of numbers.

#include "elements.cuh"
#include "warp_moments.cuh"

namespace initfast::cuda {
namespace {

template <class S>
__global__ void __launch_bounds__(kThreads, kIsDouble<S> ? 2 : 3) moments_kernel(MomentsArgs a) {
  INITFAST_SHARED_ARRAY(Moments, total, kWarps);
  INITFAST_SHARED_ARRAY(S, stage_memory, kStage<S>);
  const Stage<S> stage(stage_memory);
  LaneMoments<S> of_x[1];
  clear<1>(total);
  for_each_run<S>(
      a.numel,
      [&](int64_t start, int32_t count) {
        S x[kPerLane<S>];
        uint32_t present = 0;
        with_storage<S>(a.dtype, [&](auto type) {
          using T = decltype(type);
          const T* data = static_cast<const T*>(a.x);
          if (a.layout.dims > 0) {
            gather_run(data, a.layout, start, a.numel, stage, x);
          } else {
            load_run(data, start, a.numel, x);
          }
          present = present_of<T, kPerLane<S>>(count);
        });
        of_x[0].add(x, present);
      },
      [&] { merge_lanes(of_x, total); });
  reduce_grid<1>(total, a.out);
}

}  // namespace

cudaError_t moments(const MomentsArgs& a, cudaStream_t stream) {
  const auto kernel = a.dtype == Dtype::kFloat64 ? moments_kernel<double> : moments_kernel<float>;
  return launch(kernel, blocks_of(a.dtype, a.numel), stream, a);
}

int64_t blocks_of(Dtype dtype, int64_t numel) {
  return dtype == Dtype::kFloat64 ? blocks_of<double>(numel) : blocks_of<float>(numel);
}

}  // namespace initfast::cuda
