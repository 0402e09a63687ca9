// What the way back through a chain of linear layers takes and gives, on any device.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "binding/linear_operands.h"

namespace initfast {

struct ChainLayer {
  LinearOperands in;
  Tensor z;  // [rows, cols], contiguous
  Activation act;
  bool wants_weight_moments, wants_weight, wants_bias;
};

// What is wanted of a weight's gradient.
enum : int64_t { kNothing, kMoments, kGradient };

inline std::vector<ChainLayer> chain_layers(const Tensor& grad_y, const std::vector<Tensor>& inputs,
                                     const std::vector<Tensor>& weights, const std::vector<Tensor>& zs,
                                     const std::vector<std::string>& names,
                                     const std::vector<double>& alphas,
                                     const std::vector<double>& betas,
                                     const std::vector<int64_t>& weights_wanted,
                                     const std::vector<bool>& biases_wanted) {
  const size_t n = weights.size();
  STD_TORCH_CHECK(n > 0 && inputs.size() == n && zs.size() == n && names.size() == n &&
                      alphas.size() == n && betas.size() == n && weights_wanted.size() == n &&
                      biases_wanted.size() == n,
                  "initfast::linear_act_chain_backward: ", inputs.size(), " inputs, ", n, " weights, ",
                  zs.size(), " pre-activations, ", names.size(), " activations, ", alphas.size(),
                  " alphas, ", betas.size(), " betas, ", weights_wanted.size(), " weights wanted and ",
                  biases_wanted.size(), " biases wanted; expected as many of each, and at least one");
  std::vector<ChainLayer> layers;
  for (size_t i = 0; i < n; ++i) {
    const Activation act = parse_activation(names[i], alphas[i], betas[i]);
    const LinearOperands in = linear_operands(inputs[i], weights[i], std::nullopt);
    const Tensor& y = i + 1 < n ? inputs[i + 1] : grad_y;
    std::vector<int64_t> sizes = to_vector(inputs[i].sizes());
    sizes.back() = in.cols;
    check_same(inputs[i], zs[i], "linear_act_chain_backward", "an input", "a pre-activation");
    check_same(inputs[i], y, "linear_act_chain_backward", "an input", "what follows it");
    STD_TORCH_CHECK(to_vector(zs[i].sizes()) == sizes && to_vector(y.sizes()) == sizes,
                    "initfast::linear_act_chain_backward: layer ", i, " has a pre-activation of shape ",
                    shape_of(zs[i]), " and its result has shape ", shape_of(y), "; expected ",
                    shape_of(inputs[i]), " with a last dimension of ", in.cols);
    const Tensor z = torch::stable::view(torch::stable::contiguous(zs[i]), {in.rows, in.cols});
    const int64_t wanted = weights_wanted[i];
    STD_TORCH_CHECK(kNothing <= wanted && wanted <= kGradient,
                    "initfast::linear_act_chain_backward: of a weight's gradient ", wanted,
                    " is wanted; expected 0 (nothing), 1 (its moments) or 2 (the gradient as well)");
    layers.push_back({in, z, act, wanted >= kMoments, wanted == kGradient, biases_wanted[i]});
  }
  return layers;
}

// Room for the gradients that are wanted; empty tensors for the others.
struct ChainGradients {
  std::vector<Tensor> weights, biases;

  ChainGradients(const std::vector<ChainLayer>& layers, const Tensor& like) {
    for (const ChainLayer& layer : layers) {
      const LinearOperands& in = layer.in;
      weights.push_back(layer.wants_weight ? new_tensor({in.cols, in.depth}, like.scalar_type(), like)
                                           : new_tensor({0}, like.scalar_type(), like));
      biases.push_back(new_tensor({layer.wants_bias ? in.cols : 0}, like.scalar_type(), like));
    }
  }
};

// The gradients of x, of weights and of biases; the moments of the gradient at each result and weight.
using ChainResults = std::tuple<Tensor, std::vector<Tensor>, std::vector<Tensor>, Tensor>;

// The gradient at the last result, as its layer sees it.
inline Tensor first_gradient(const Tensor& grad_y, const std::vector<ChainLayer>& layers) {
  const LinearOperands& last = layers.back().in;
  return torch::stable::view(torch::stable::contiguous(grad_y), {last.rows, last.cols});
}

inline void mm_out(const Tensor& a, const Tensor& b, const Tensor& out) {
  std::array<StableIValue, 3> stack{torch::stable::detail::from(a), torch::stable::detail::from(b),
                                    torch::stable::detail::from(out)};
  STABLE_TORCH_ERROR_CODE_CHECK(
      torch_call_dispatcher("aten::mm", "out", stack.data(), TORCH_ABI_VERSION));
  (void)torch::stable::detail::to<Tensor>(stack[0]);
}

// ---- the library's products ----

// grad_z^T x: in `found` where it is wanted itself, else in memory of its own.
inline Tensor weight_gradient(const ChainLayer& layer, const Tensor& grad_z, const Tensor& found) {
  const LinearOperands& in = layer.in;
  const Tensor weight =
      layer.wants_weight ? found : new_tensor({in.cols, in.depth}, grad_z.scalar_type(), grad_z);
  Tensor rows = grad_z;  // transpose takes a reference it may change
  mm_out(torch::stable::transpose(rows, 0, 1), in.x, weight);
  return weight;
}

inline void bias_gradient(const Tensor& grad_z, Tensor& found) {
  const int64_t over_rows[] = {0};
  torch::stable::copy_(found, torch::stable::sum(grad_z, over_rows));
}

inline Tensor input_gradient(const ChainLayer& layer, const Tensor& grad_z) {
  const Tensor grad_x =
      new_tensor({layer.in.rows, layer.in.depth}, grad_z.scalar_type(), grad_z);
  mm_out(grad_z, layer.in.weight, grad_x);
  return grad_x;
}

}  // namespace initfast
