// The operators of the way back, as torch sees them.

#include <algorithm>
#include <array>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "binding/act_operands.h"
#include "binding/chain_backward.h"
#include "binding/moment_rows.h"

namespace initfast {
namespace {

using namespace cpu;

// ---- act_backward ----

std::tuple<Tensor, Tensor> act_backward(Tensor grad_y, Tensor z, std::string name, double alpha,
                                        double beta) {
  ActBackwardOperands in = act_backward_operands(grad_y, z, name, alpha, beta);
  Tensor grad_z = in.lay_out();
  ActBackwardArgs args{in.work(grad_z), nullptr};
  std::vector<Moments> partial(2 * args.tiles());
  args.partial = partial.data();
  run_tiles(kernels().act_backward, args, kRunsPerThread);
  return {grad_z, moment_rows(merged_pair(partial, int64_t(partial.size())), z)};
}

// ---- linear_act_chain_backward ----

// The kernel of our own takes batches of one row of tiles; beyond, the library's products are good.
bool fits_tiles(const ChainLayer& layer, Dtype dtype) {
  const LinearOperands& in = layer.in;
  const bool along_depth = in.weight.stride(1) == 1 || in.depth <= 1;
  return dtype == Dtype::kFloat32 && along_depth && 0 < in.rows && in.rows <= kTileRows &&
         in.cols > 0 && in.depth > 0;
}

// The gradient at a layer's output or, where the layer above has seen to it, at its pre-activation.
struct Gradient {
  Tensor value;  // [rows, cols], contiguous
  bool at_z;
};

struct LayerGradients {
  Tensor weight, bias;
};

// grad at y = act(z) becomes that at z; its moments go to `row`.
void through_activation(Gradient& grad, const ChainLayer& layer, Dtype dtype, double* row) {
  Tensor grad_z = new_tensor({layer.in.rows, layer.in.cols}, grad.value.scalar_type(), grad.value);
  const ActBackwardWork work{dtype, layer.act, grad.value.const_data_ptr(), layer.z.const_data_ptr(),
                             grad_z.mutable_data_ptr(), grad_z.numel()};
  ActBackwardArgs args{work, nullptr};
  std::vector<Moments> partial(2 * args.tiles());
  args.partial = partial.data();
  run_tiles(kernels().act_backward, args, kRunsPerThread);
  write_moments(merged_pair(partial, int64_t(partial.size()))[1], row);
  grad = {grad_z, true};
}

// The kernel of our own. below: the layer whose output is this one's input, and its row; or null.
void backward_by_tiles(Gradient& grad, const ChainLayer& layer, const ChainLayer* below, bool wants_x,
                       LayerGradients& found, double* weight_row, double* below_row) {
  const LinearOperands& in = layer.in;
  Tensor grad_x = new_tensor({wants_x ? in.rows : 0, in.depth}, grad.value.scalar_type(), grad.value);
  LinearActBackwardArgs args{};
  args.grad_z = static_cast<const float*>(grad.value.const_data_ptr());
  args.x = static_cast<const float*>(in.x.const_data_ptr());
  args.weight = static_cast<const float*>(in.weight.const_data_ptr());
  args.rows = in.rows;
  args.cols = in.cols;
  args.depth = in.depth;
  args.x_stride = in.x.stride(0);
  args.weight_stride = in.weight.stride(0);
  if (wants_x) args.grad_x = static_cast<float*>(grad_x.mutable_data_ptr());
  if (below) {
    args.below_act = below->act;
    args.below_z = static_cast<const float*>(below->z.const_data_ptr());
  }
  if (layer.wants_weight) args.grad_weight = static_cast<float*>(found.weight.mutable_data_ptr());
  if (layer.wants_bias) args.grad_bias = static_cast<float*>(found.bias.mutable_data_ptr());
  const int64_t across = args.tiles_across(), weight_tiles = across * args.tiles_down();
  std::vector<Moments> slots(across + (layer.wants_weight_moments ? weight_tiles : 0));
  args.grad_x_partial = slots.data();
  if (layer.wants_weight_moments) args.grad_weight_partial = slots.data() + across;
  run_tiles(kernels().linear_act_backward, args,
            product_grain(2 * in.rows * in.cols * in.depth, args.tiles()));
  if (below) write_moments(merged(args.grad_x_partial, across), below_row);
  if (layer.wants_weight_moments) {
    write_moments(merged(args.grad_weight_partial, weight_tiles), weight_row);
  }
  grad = {grad_x, below != nullptr};
}

// The library's products, measured afterwards.
void backward_by_products(Gradient& grad, const ChainLayer& layer, bool wants_x, LayerGradients& found,
                          Dtype dtype, double* weight_row) {
  const Tensor grad_z = grad.value;
  if (layer.wants_weight_moments) {
    write_moments(measure(weight_gradient(layer, grad_z, found.weight), dtype), weight_row);
  }
  if (layer.wants_bias) bias_gradient(grad_z, found.bias);
  if (wants_x) grad = {input_gradient(layer, grad_z), false};
}

ChainResults linear_act_chain_backward(
    Tensor grad_y, std::vector<Tensor> inputs, std::vector<Tensor> weights, std::vector<Tensor> zs,
    std::vector<std::string> names, std::vector<double> alphas, std::vector<double> betas,
    bool wants_x, std::vector<int64_t> weights_wanted, std::vector<bool> biases_wanted) {
  const Dtype dtype = dtype_of(grad_y, "linear_act_chain_backward", "grad_y");
  const std::vector<ChainLayer> layers = chain_layers(grad_y, inputs, weights, zs, names, alphas, betas,
                                                      weights_wanted, biases_wanted);
  const int64_t n = int64_t(layers.size());
  Tensor moments = new_tensor({n, 2, 8}, ScalarType::Double, grad_y);
  ChainGradients gradients(layers, grad_y);
  Gradient grad{first_gradient(grad_y, layers), false};
  for (int64_t i = n - 1; i >= 0; --i) {
    const ChainLayer& layer = layers[size_t(i)];
    double* row = static_cast<double*>(moments.mutable_data_ptr()) + 16 * i;
    write_moments(generic::no_moments(), row + 8);
    LayerGradients found{gradients.weights[size_t(i)], gradients.biases[size_t(i)]};
    if (!grad.at_z) through_activation(grad, layer, dtype, row);
    const bool further = i > 0 || wants_x;
    if (fits_tiles(layer, dtype)) {
      const ChainLayer* below = i > 0 ? &layers[size_t(i - 1)] : nullptr;
      backward_by_tiles(grad, layer, below, further, found, row + 8, row - 16);
    } else {
      backward_by_products(grad, layer, further, found, dtype, row + 8);
    }
  }
  Tensor grad_x = wants_x ? torch::stable::view(grad.value, to_vector(inputs[0].sizes()))
                          : new_tensor({0}, grad_y.scalar_type(), grad_y);
  return {grad_x, gradients.weights, gradients.biases, moments};
}

}  // namespace
}  // namespace initfast

STABLE_TORCH_LIBRARY_IMPL(initfast, CPU, m) {
  m.impl("act_backward", TORCH_BOX(&initfast::act_backward));
  m.impl("linear_act_chain_backward", TORCH_BOX(&initfast::linear_act_chain_backward));
}
