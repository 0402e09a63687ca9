// linear_act for small batches: y = act(x W^T + b), by the kernel for the dtype.

#include "linear_act.cuh"

namespace initfast::cuda {
namespace {

LinearActChoice choose(const LinearActArgs& a) {
  return a.dtype == Dtype::kFloat32 ? choose_exact(a) : choose_tensor_core(a);
}

}  // namespace

int64_t linear_act_blocks(const LinearActArgs& a) { return choose(a).blocks; }

cudaError_t linear_act(const LinearActArgs& a, cudaStream_t stream) {
  const LinearActChoice choice = choose(a);
  return launch(choice.kernel, choice.blocks, stream, a);
}

}  // namespace initfast::cuda
