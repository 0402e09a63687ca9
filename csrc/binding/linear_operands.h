// The operands of a linear layer, checked; and the library's matrix product of them.
#pragma once

#include <array>

#include "binding/tensors.h"
#include "math/work.h"

namespace initfast {

struct LinearOperands {
  Tensor x;  // [rows, depth], its last dimension contiguous
  Tensor weight;
  std::optional<Tensor> bias;
  int64_t rows, cols, depth;

  // Of y, where x has this shape.
  std::vector<int64_t> output_sizes(const Tensor& shaped) const {
    std::vector<int64_t> sizes = to_vector(shaped.sizes());
    sizes.back() = cols;
    return sizes;
  }
  // A result as the kernels see it.
  Tensor as_rows(const Tensor& y) const {
    return y.dim() == 2 ? y : torch::stable::view(y, {rows, cols});
  }
  // Into y [rows, cols] and, where it is kept, z.
  template <class Number>
  LinearActWork<Number> work(const Activation& act, const Tensor& y, const Tensor* z,
                             uint8_t* live) const {
    return {act,
            static_cast<const Number*>(x.const_data_ptr()),
            static_cast<const Number*>(weight.const_data_ptr()),
            bias ? static_cast<const Number*>(bias->const_data_ptr()) : nullptr,
            z ? static_cast<Number*>(z->mutable_data_ptr()) : nullptr,
            static_cast<Number*>(y.mutable_data_ptr()),
            rows, cols, depth, x.stride(0), weight.stride(0), live};
  }
};

inline LinearOperands linear_operands(const Tensor& x, const Tensor& weight,
                                      const std::optional<Tensor>& bias) {
  check_same(x, weight, "linear_act", "x", "weight");
  STD_TORCH_CHECK(weight.dim() == 2, "initfast::linear_act: weight has shape ", shape_of(weight),
                  "; expected [out_features, in_features]");
  STD_TORCH_CHECK(x.dim() >= 1 && x.size(x.dim() - 1) == weight.size(1),
                  "initfast::linear_act: x has shape ", shape_of(x), " but weight has shape ",
                  shape_of(weight), "; expected x's last dimension to be ", weight.size(1));
  if (bias) {
    check_same(x, *bias, "linear_act", "x", "bias");
    STD_TORCH_CHECK(bias->dim() == 1 && bias->size(0) == weight.size(0),
                    "initfast::linear_act: bias has shape ", shape_of(*bias), "; expected [",
                    weight.size(0), "]");
  }
  LinearOperands in{x, weight, bias, 1, weight.size(0), weight.size(1)};
  for (int64_t d = 0; d + 1 < x.dim(); ++d) in.rows *= x.size(d);
  const bool rows_lie_apart = x.dim() == 2 && (x.stride(1) == 1 || x.size(1) == 1);
  if (!rows_lie_apart) in.x = torch::stable::view(torch::stable::contiguous(x), {in.rows, in.depth});
  if (bias) in.bias = torch::stable::contiguous(*bias);
  return in;
}

// How many units a chain of layers has; there must be as many of each argument, and at least one.
inline int64_t units_of_chain(const std::vector<Tensor>& weights, size_t biases, size_t names,
                              size_t alphas, size_t betas) {
  const size_t n = weights.size();
  STD_TORCH_CHECK(n > 0 && biases == n && names == n && alphas == n && betas == n,
                  "initfast::linear_act_chain: ", n, " weights, ", biases, " biases, ", names,
                  " activations, ", alphas, " alphas and ", betas,
                  " betas; expected as many of each, and at least one");
  int64_t units = 0;
  for (const Tensor& weight : weights) units += weight.dim() > 0 ? weight.size(0) : 0;
  return units;
}

// out = x weight^T + bias by the library's matrix product.
inline void linear_out(const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias,
                       const Tensor& out) {
  std::array<StableIValue, 4> stack{
      torch::stable::detail::from(x), torch::stable::detail::from(weight),
      torch::stable::detail::from(bias), torch::stable::detail::from(out)};
  STABLE_TORCH_ERROR_CODE_CHECK(
      torch_call_dispatcher("aten::linear", "out", stack.data(), TORCH_ABI_VERSION));
  (void)torch::stable::detail::to<Tensor>(stack[0]);
}

}  // namespace initfast
