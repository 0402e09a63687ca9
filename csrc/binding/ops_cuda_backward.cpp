// The way back through a chain on CUDA, in one call: for each layer the kernel of act_backward, the
// library's products, and moments. Empty in a build without CUDA.
#if defined(USE_CUDA)

#include "binding/chain_backward.h"
#include "binding/cuda_device.h"

namespace initfast {
namespace {

ChainResults linear_act_chain_backward(Tensor grad_y, std::vector<Tensor> inputs,
                                       std::vector<Tensor> weights, std::vector<Tensor> zs,
                                       std::vector<std::string> names, std::vector<double> alphas,
                                       std::vector<double> betas, bool wants_x,
                                       std::vector<int64_t> weights_wanted,
                                       std::vector<bool> biases_wanted) {
  const Dtype dtype = dtype_of(grad_y, "linear_act_chain_backward", "grad_y");
  const std::vector<ChainLayer> layers = chain_layers(grad_y, inputs, weights, zs, names, alphas, betas,
                                                      weights_wanted, biases_wanted);
  const Device device(grad_y, "linear_act_chain_backward", "grad_y");
  const int64_t n = int64_t(layers.size());
  ChainGradients gradients(layers, grad_y);
  Statistics pairs(device, grad_y, 0, {n, 2, 8});  // of the gradients at z and at y
  Statistics results(device, grad_y, 0, {n, 2, 8});  // at y and at the weight
  Tensor grad = first_gradient(grad_y, layers);
  for (int64_t i = n - 1; i >= 0; --i) {
    const ChainLayer& layer = layers[size_t(i)];
    Tensor grad_z = new_tensor({layer.in.rows, layer.in.cols}, grad.scalar_type(), grad);
    const cuda::ActBackwardArgs back{{dtype, layer.act, grad.const_data_ptr(), layer.z.const_data_ptr(),
                                      grad_z.mutable_data_ptr(), grad_z.numel()},
                                     pairs.reduction(2, 2 * i)};
    device.check(cuda::act_backward(back, device.stream()), "the launch of act_backward");
    Tensor& found = gradients.weights[size_t(i)];
    const Tensor weight = layer.wants_weight_moments ? weight_gradient(layer, grad_z, found) : found;
    const cuda::MomentsArgs measure{{dtype, weight.const_data_ptr(), weight.numel()}, {},
                                    results.reduction(1, 2 * i + 1)};
    device.check(cuda::moments(measure, device.stream()), "the launch of moments");
    if (layer.wants_bias) bias_gradient(grad_z, gradients.biases[size_t(i)]);
    if (i > 0 || wants_x) grad = input_gradient(layer, grad_z);
  }
  Tensor moments = results.rows(), at_z_and_y = pairs.rows();
  Tensor at_y = torch::stable::narrow(moments, 1, 0, 1);
  torch::stable::copy_(at_y, torch::stable::narrow(at_z_and_y, 1, 1, 1));
  const Tensor grad_x = wants_x ? torch::stable::view(grad, to_vector(inputs[0].sizes()))
                                : new_tensor({0}, grad_y.scalar_type(), grad_y);
  return {grad_x, gradients.weights, gradients.biases, moments};
}

}  // namespace
}  // namespace initfast

STABLE_TORCH_LIBRARY_IMPL(initfast, CUDA, m) {
  m.impl("linear_act_chain_backward", TORCH_BOX(&initfast::linear_act_chain_backward));
}

#endif  // USE_CUDA
