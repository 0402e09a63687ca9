// The operators of the way back on CUDA: launches on the current stream, as in ops_cuda.cpp. Empty in
// a build without CUDA.
#if defined(USE_CUDA)

#include <string>
#include <tuple>
#include <vector>

#include "binding/act_operands.h"
#include "binding/chain_backward.h"
#include "binding/cuda_device.h"

namespace initfast {
namespace {

// Writes grad_z; the moments of it and of grad_y, all of one layout, go to `out`.
void through_activation(const Device& device, const ActBackwardOperands& in, const Tensor& grad_z,
                        const cuda::Reduction& out) {
  const cuda::ActBackwardArgs args{in.work(grad_z), out};
  device.check(cuda::act_backward(args, device.stream()), "the launch of act_backward");
}

std::tuple<Tensor, Tensor> act_backward(Tensor grad_y, Tensor z, std::string name, double alpha,
                                        double beta) {
  ActBackwardOperands in = act_backward_operands(grad_y, z, name, alpha, beta);
  const Device device(z, "act_backward", "z");
  const Tensor grad_z = in.lay_out();
  Statistics statistics(device, z, 0, {2, kColumns});
  through_activation(device, in, grad_z,
                     statistics.reduction(2, 0, cuda::blocks_of(in.dtype, z.numel())));
  return {grad_z, statistics.moments()};
}

// For each layer the kernel of act_backward, the library's products, and moments.
class CudaChain {
 public:
  CudaChain(const std::vector<ChainLayer>& layers, Dtype dtype, const Tensor& grad_y)
      : layers_(layers),
        dtype_(dtype),
        device_(grad_y, "linear_act_chain_backward", "grad_y"),
        at_z_and_y_(device_, grad_y, 0, {int64_t(layers.size()), 2, kColumns}),
        at_y_and_weight_(device_, grad_y, 0, {int64_t(layers.size()), 2, kColumns}) {}

  Tensor backward(size_t i, const Tensor& grad, bool further, LayerGradients found) {
    const ChainLayer& layer = layers_[i];
    const Tensor grad_z = layer.room_for_grad_z();
    through_activation(device_, {dtype_, layer.act, grad, layer.z}, grad_z,
                       at_z_and_y_.reduction(2, 2 * int64_t(i)));
    return backward_by_products(layer, grad_z, further, found, [&](const Tensor& weight) {
      const cuda::MomentsArgs args{{dtype_, weight.const_data_ptr(), weight.numel()}, {},
                                   at_y_and_weight_.reduction(1, 2 * int64_t(i) + 1)};
      device_.check(cuda::moments(args, device_.stream()), "the launch of moments");
    });
  }

  Tensor moments() const {
    Tensor moments = at_y_and_weight_.moments(), pairs = at_z_and_y_.moments();
    Tensor at_y = torch::stable::narrow(moments, 1, 0, 1);
    torch::stable::copy_(at_y, torch::stable::narrow(pairs, 1, 1, 1));
    return moments;
  }

 private:
  const std::vector<ChainLayer>& layers_;
  Dtype dtype_;
  Device device_;
  Statistics at_z_and_y_, at_y_and_weight_;
};

}  // namespace
}  // namespace initfast

STABLE_TORCH_LIBRARY_IMPL(initfast, CUDA, m) {
  m.impl("act_backward", TORCH_BOX(&initfast::act_backward));
  m.impl("linear_act_chain_backward",
         TORCH_BOX(&initfast::linear_act_chain_backward<initfast::CudaChain>));
}

#endif  // USE_CUDA
