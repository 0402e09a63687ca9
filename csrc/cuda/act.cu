// act and act_backward: one read of each input, one write of the output, the moments on the way.

#include "math/activation_kind.h"
#include "elements.cuh"
#include "units.cuh"
#include "warp_moments.cuh"

namespace initfast::cuda {
namespace {

// One float64 number at a time: several would take the registers of the moments that wait.
template <class S>
constexpr int kAtOnce = kIsDouble<S> ? 1 : kGroup;

// Replaces every number on the stage by f(activation, number, its index).
template <class S, class F>
__device__ __forceinline__ void transform(const Activation& act, const Stage<S>& stage, F f) {
  with_activation(act.kind, [&](auto family) {
    const typename decltype(family)::template Over<S> activation(S(act.alpha), S(act.beta));
#pragma unroll 1
    for (int i = 0; i < kPerLane<S>; i += kGroup) {
#pragma unroll kAtOnce<S>
      for (int j = 0; j < kGroup; ++j) stage.at(i + j) = f(activation, stage.at(i + j), i + j);
    }
  });
}

// ---- y = act(z + bias) ----

struct ActKernelArgs {
  ActArgs a;
  UnitsOfElements units;
  bool unchanged;  // y is z: one measurement is enough, and no write
};

template <class T, class S, int N>
__device__ __forceinline__ void add_bias(const ActKernelArgs& k, int64_t start, uint32_t present,
                                         const Stage<S>& stage, S (&z)[N]) {
  const T* bias = static_cast<const T*>(k.a.bias);
  stage.put(z);
#pragma unroll 1
  for (int i = 0; i < N; ++i) {
    if (!(present >> i & 1)) continue;
    stage.at(i) += S(widen(bias[k.units.unit_of(start + element_of<T>(i))]));
  }
  stage.get(z);
}

template <class S>
__global__ void __launch_bounds__(kThreads) act_kernel(ActKernelArgs k) {
  INITFAST_SHARED_ARRAY(Moments, total, 2 * kWarps);
  INITFAST_SHARED_ARRAY(S, stage_memory, kStage<S>);
  const Stage<S> stage(stage_memory);
  LaneMoments<S> of_z_and_y[2];
  clear<2>(total);
  const ActArgs& a = k.a;
  const auto run = [&](int64_t start, int32_t count) {
    S z[kPerLane<S>], y[kPerLane<S>];
    uint32_t present = 0;
    with_storage<S>(a.dtype, [&](auto type) {
      using T = decltype(type);
      const T* data = static_cast<const T*>(a.z);
      present = present_of<T, kPerLane<S>>(count);
      if (a.layout.dims > 0) {
        gather_run(data, a.layout, start, a.numel, stage, z);
      } else {
        load_run(data, start, a.numel, z);
      }
      if (a.bias) add_bias<T>(k, start, present, stage, z);
      if (a.z_out) store_run(static_cast<T*>(a.z_out), start, a.numel, z);
    });
    of_z_and_y[0].add(z, present);
    if (k.unchanged) {
      with_storage<S>(a.dtype, [&](auto type) { mark_run<decltype(type)>(k.units, start, z, present); });
      return;
    }
    int32_t saturated = 0;
    stage.put(z);
    transform(a.act, stage, [&](const auto& activation, S x, int i) {
      const S value = activation.value(x);
      if constexpr (kSaturates<std::decay_t<decltype(activation)>, S>) {
        saturated += int32_t(activation.saturated(value) && (present >> i & 1));
      }
      return value;
    });
    stage.get(y);
    with_storage<S>(a.dtype, [&](auto type) {
      using T = decltype(type);
      store_run(static_cast<T*>(a.y), start, a.numel, y);
      mark_run<T>(k.units, start, y, present);
    });
    of_z_and_y[1].add(y, present, saturated);
  };
  for_each_run<S>(a.numel, run, [&] { merge_lanes(of_z_and_y, total); });
  if (k.unchanged && lane_index() == 0) total[kWarps + warp_index()] = total[warp_index()];
  reduce_grid<2>(total, a.out);
}

// ---- grad_z = grad_y act'(z) ----

template <class S>
__global__ void __launch_bounds__(kThreads) act_backward_kernel(ActBackwardArgs a) {
  INITFAST_SHARED_ARRAY(Moments, total, 2 * kWarps);
  INITFAST_SHARED_ARRAY(S, stage_memory, kStage<S>);
  const Stage<S> stage(stage_memory);
  LaneMoments<S> of_grads[2];  // of grad_z, of grad_y
  clear<2>(total);
  const auto run = [&](int64_t start, int32_t count) {
    S z[kPerLane<S>], grad[kPerLane<S>];
    uint32_t present = 0;
    with_storage<S>(a.dtype, [&](auto type) {
      using T = decltype(type);
      load_run(static_cast<const T*>(a.z), start, a.numel, z);
      load_run(static_cast<const T*>(a.grad_y), start, a.numel, grad);
      present = present_of<T, kPerLane<S>>(count);
    });
    stage.put(z);
    of_grads[1].add(grad, present);
    transform(a.act, stage, [&](const auto& activation, S x, int) {
      return slope(activation, x, a.act.slope_at_result);
    });
    stage.get(z);
#pragma unroll
    for (int i = 0; i < kPerLane<S>; ++i) grad[i] = grad[i] * z[i];
    with_storage<S>(a.dtype, [&](auto type) {
      store_run(static_cast<decltype(type)*>(a.grad_z), start, a.numel, grad);
    });
    of_grads[0].add(grad, present);
  };
  for_each_run<S>(a.numel, run, [&] { merge_lanes(of_grads, total); });
  reduce_grid<2>(total, a.out);
}

}  // namespace

cudaError_t act(const ActArgs& a, cudaStream_t stream) {
  const bool unchanged = a.act.kind == ActivationKind::kIdentity && a.z == a.y && !a.bias;
  const ActKernelArgs k{a, UnitsOfElements(a.units), unchanged};
  const auto kernel = a.dtype == Dtype::kFloat64 ? act_kernel<double> : act_kernel<float>;
  return launch(kernel, blocks_of(a.dtype, a.numel), stream, k);
}

cudaError_t act_backward(const ActBackwardArgs& a, cudaStream_t stream) {
  const bool wide = a.dtype == Dtype::kFloat64;
  const auto kernel = wide ? act_backward_kernel<double> : act_backward_kernel<float>;
  return launch(kernel, blocks_of(a.dtype, a.numel), stream, a);
}

}  // namespace initfast::cuda
