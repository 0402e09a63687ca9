// The operands of an activation and of its backward, checked.
#pragma once

#include <algorithm>

#include "binding/tensors.h"
#include "math/work.h"

namespace initfast {

struct ActOperands {
  Dtype dtype;
  Activation act;
  int64_t unit_dim, units;

  // z activated into y, dense; live: a flag for each unit.
  ActWork work(const Tensor& z, const Tensor& y, uint8_t* live) const {
    const int64_t inner = units <= 1 ? y.numel() : y.stride(unit_dim);
    return {dtype, act, z.const_data_ptr(), y.mutable_data_ptr(), y.numel(),
            {std::max<int64_t>(1, units), std::max<int64_t>(1, inner), live}};
  }
};

inline ActOperands act_operands(const Tensor& z, const std::string& name, double alpha, double beta,
                                int64_t unit_dim, const char* op) {
  const Activation activation = parse_activation(name, alpha, beta);
  const Dtype dtype = dtype_of(z, op, "z");
  const UnitDim found = unit_dim_of(z, unit_dim, op, "z");
  return {dtype, activation, found.dim, found.units};
}

struct ActBackwardOperands {
  Dtype dtype;
  Activation act;
  Tensor grad_y, z;

  // Bring both into one dense layout, which grad_z has too.
  Tensor lay_out() {
    z = as_dense(z);
    if (!same_strides(grad_y, z)) {
      Tensor like_z = new_like(z);
      grad_y = torch::stable::copy_(like_z, grad_y);
    }
    return new_like(z);
  }
  ActBackwardWork work(const Tensor& grad_z) const {
    return {dtype, act, grad_y.const_data_ptr(), z.const_data_ptr(), grad_z.mutable_data_ptr(),
            z.numel()};
  }
};

inline ActBackwardOperands act_backward_operands(const Tensor& grad_y, const Tensor& z,
                                                 const std::string& name, double alpha, double beta) {
  const Activation activation = parse_activation(name, alpha, beta);
  const Dtype dtype = dtype_of(z, "act_backward", "z");
  check_same(z, grad_y, "act_backward", "z", "grad_y");
  STD_TORCH_CHECK(shape_of(grad_y) == shape_of(z), "initfast::act_backward: grad_y has shape ",
                  shape_of(grad_y), " but z has shape ", shape_of(z));
  return {dtype, activation, grad_y, z};
}

}  // namespace initfast
