// The way back through a chain of linear layers and their activations: the operator on any device,
// but for what the device's kernels do within one layer.
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
  Tensor z;  // or the result, where act says so; [rows, cols], contiguous
  Activation act;
  bool wants_weight_moments, wants_weight, wants_bias;

  Tensor room_for_grad_z() const { return new_tensor({in.rows, in.cols}, z.scalar_type(), z); }
};

// What is wanted of a weight's gradient.
enum : int64_t { kNothing, kMoments, kGradient };

inline std::vector<ChainLayer> chain_layers(const Tensor& grad_y, const std::vector<Tensor>& inputs,
                                     const std::vector<Tensor>& weights, const std::vector<Tensor>& zs,
                                     const std::vector<std::string>& names,
                                     const std::vector<double>& alphas,
                                     const std::vector<double>& betas,
                                     const std::vector<bool>& slope_at_result,
                                     const std::vector<int64_t>& weights_wanted,
                                     const std::vector<bool>& biases_wanted) {
  const size_t n = weights.size();
  STD_TORCH_CHECK(n > 0 && inputs.size() == n && zs.size() == n && names.size() == n &&
                      alphas.size() == n && betas.size() == n && slope_at_result.size() == n &&
                      weights_wanted.size() == n && biases_wanted.size() == n,
                  "initfast::linear_act_chain_backward: ", inputs.size(), " inputs, ", n, " weights, ",
                  zs.size(), " pre-activations, ", names.size(), " activations, ", alphas.size(),
                  " alphas, ", betas.size(), " betas, ", slope_at_result.size(), " slopes at results, ",
                  weights_wanted.size(), " weights wanted and ", biases_wanted.size(),
                  " biases wanted; expected as many of each, and at least one");
  check_memory(inputs[0], "linear_act_chain_backward", "an input");
  std::vector<ChainLayer> layers;
  for (size_t i = 0; i < n; ++i) {
    Activation act = parse_activation(names[i], alphas[i], betas[i]);
    act.slope_at_result = slope_at_result[i];
    STD_TORCH_CHECK(!act.slope_at_result || INITFAST_ISA::has_slope_at_result(act.kind),
                    "initfast::linear_act_chain_backward: the slope of ", names[i],
                    " is wanted at its result; expected its pre-activation");
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

// ---- one layer, by the library's products ----

inline void mm_out(const Tensor& a, const Tensor& b, const Tensor& out) {
  std::array<StableIValue, 3> stack{torch::stable::detail::from(a), torch::stable::detail::from(b),
                                    torch::stable::detail::from(out)};
  STABLE_TORCH_ERROR_CODE_CHECK(
      torch_call_dispatcher("aten::mm", "out", stack.data(), TORCH_ABI_VERSION));
  (void)torch::stable::detail::to<Tensor>(stack[0]);
}

// Room for a layer's gradients, empty where they are not wanted.
struct LayerGradients {
  Tensor weight, bias;
};

// From the gradient at z to those that are wanted; measure(weight's gradient, or nothing) is called
// while it is in the cache. Returns the gradient at the layer's input where it goes further.
template <class Measure>
Tensor backward_by_products(const ChainLayer& layer, Tensor grad_z, bool further,
                            LayerGradients found, const Measure& measure) {
  const LinearOperands& in = layer.in;
  const auto room = [&](int64_t rows, int64_t cols) {
    return new_tensor({rows, cols}, grad_z.scalar_type(), grad_z);
  };
  if (layer.wants_weight_moments) {
    if (!layer.wants_weight) found.weight = room(in.cols, in.depth);
    mm_out(torch::stable::transpose(grad_z, 0, 1), in.x, found.weight);
  }
  measure(found.weight);
  if (layer.wants_bias) {
    const int64_t over_rows[] = {0};
    torch::stable::copy_(found.bias, torch::stable::sum(grad_z, over_rows));
  }
  if (!further) return grad_z;
  Tensor grad_x = room(in.rows, in.depth);
  mm_out(grad_z, in.weight, grad_x);
  return grad_x;
}

// ---- the operator ----

// The gradients of x, of weights and of biases; the moments of the gradient at each result and weight.
using ChainResults = std::tuple<Tensor, std::vector<Tensor>, std::vector<Tensor>, Tensor>;

// The Chain of a device is made of the layers, their dtype and grad_y. It has
// - backward(i, grad, further, found): takes the gradient at the result of layer i to its input, where
//   it goes further, and finds the layer's own; called from the last layer to the first;
// - moments() of what it has found.
template <class Chain>
ChainResults linear_act_chain_backward(
    Tensor grad_y, std::vector<Tensor> inputs, std::vector<Tensor> weights, std::vector<Tensor> zs,
    std::vector<std::string> names, std::vector<double> alphas, std::vector<double> betas,
    std::vector<bool> slope_at_result, bool wants_x, std::vector<int64_t> weights_wanted,
    std::vector<bool> biases_wanted) {
  const Dtype dtype = dtype_of(grad_y, "linear_act_chain_backward", "grad_y");
  const std::vector<ChainLayer> layers = chain_layers(grad_y, inputs, weights, zs, names, alphas, betas,
                                                      slope_at_result, weights_wanted, biases_wanted);
  Chain chain(layers, dtype, grad_y);
  const auto room = [&](const std::vector<int64_t>& sizes) {
    return new_tensor(sizes, grad_y.scalar_type(), grad_y);
  };
  std::vector<Tensor> grad_weights, grad_biases;
  for (const ChainLayer& layer : layers) {
    const LinearOperands& in = layer.in;
    grad_weights.push_back(layer.wants_weight ? room({in.cols, in.depth}) : room({0}));
    grad_biases.push_back(room({layer.wants_bias ? in.cols : 0}));
  }
  const LinearOperands& last = layers.back().in;
  Tensor grad = torch::stable::view(torch::stable::contiguous(grad_y), {last.rows, last.cols});
  for (size_t i = layers.size(); i-- > 0;) {
    grad = chain.backward(i, grad, i > 0 || wants_x, {grad_weights[i], grad_biases[i]});
  }
  Tensor grad_x = wants_x ? torch::stable::view(grad, to_vector(inputs[0].sizes())) : room({0});
  return {grad_x, grad_weights, grad_biases, chain.moments()};
}

}  // namespace initfast
