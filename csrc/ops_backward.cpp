// The operators of the way back, as torch sees them.

#include <string>
#include <tuple>
#include <vector>

#include "moment_rows.h"

namespace initfast {
namespace {

using namespace cpu;

std::tuple<Tensor, Tensor> act_backward(Tensor grad_y, Tensor z, std::string name, double alpha,
                                        double beta) {
  const Activation activation = parse_activation(name, alpha, beta);
  const Dtype dtype = dtype_of(z, "act_backward", "z");
  check_same(z, grad_y, "act_backward", "z", "grad_y");
  STD_TORCH_CHECK(shape_of(grad_y) == shape_of(z), "initfast::act_backward: grad_y has shape ",
                  shape_of(grad_y), " but z has shape ", shape_of(z));
  z = as_dense(z);
  if (!same_strides(grad_y, z)) {
    Tensor like_z = new_tensor(to_vector(z.sizes()), to_vector(z.strides()), z.scalar_type(), z);
    grad_y = torch::stable::copy_(like_z, grad_y);
  }
  Tensor grad_z = new_tensor(to_vector(z.sizes()), to_vector(z.strides()), z.scalar_type(), z);
  ActBackwardArgs args{dtype, activation, grad_y.const_data_ptr(), z.const_data_ptr(),
                       grad_z.mutable_data_ptr(), z.numel(), nullptr};
  std::vector<Moments> partial(2 * args.tiles());
  args.partial = partial.data();
  run_tiles(kernels().act_backward, args, kRunsPerThread);
  return {grad_z, moment_rows(merged_pair(partial, int64_t(partial.size())), z)};
}

}  // namespace
}  // namespace initfast

STABLE_TORCH_LIBRARY_IMPL(initfast, CPU, m) {
  m.impl("act_backward", TORCH_BOX(&initfast::act_backward));
}
