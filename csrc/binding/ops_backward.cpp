// The operators of the way back, as torch sees them.

#include <algorithm>
#include <array>
#include <string>
#include <tuple>
#include <vector>

#include "binding/act_operands.h"
#include "binding/chain_backward.h"
#include "binding/moment_rows.h"

namespace initfast {
namespace {

using namespace cpu;

// The moments of grad_z, which is written, and of grad_y, all of one layout.
std::array<Moments, 2> through_activation(const ActBackwardOperands& in, const Tensor& grad_z) {
  ActBackwardArgs args{in.work(grad_z), nullptr};
  std::vector<Moments> partial(2 * args.tiles());
  args.partial = partial.data();
  run_tiles(kernels().act_backward, args, kRunsPerThread);
  return merged_pair(partial, int64_t(partial.size()));
}

std::tuple<Tensor, Tensor> act_backward(Tensor grad_y, Tensor z, std::string name, double alpha,
                                        double beta) {
  ActBackwardOperands in = act_backward_operands(grad_y, z, name, alpha, beta);
  Tensor grad_z = in.lay_out();
  return {grad_z, moment_rows(through_activation(in, grad_z), z)};
}

// The kernel of our own takes batches of one row of tiles; beyond, the library's products are good.
bool fits_tiles(const ChainLayer& layer, Dtype dtype) {
  const LinearOperands& in = layer.in;
  const bool along_depth = in.weight.stride(1) == 1 || in.depth <= 1;
  return dtype == Dtype::kFloat32 && along_depth && 0 < in.rows && in.rows <= kTileRows &&
         in.cols > 0 && in.depth > 0;
}

class CpuChain {
 public:
  CpuChain(const std::vector<ChainLayer>& layers, Dtype dtype, const Tensor& like)
      : layers_(layers),
        dtype_(dtype),
        moments_(new_tensor({int64_t(layers.size()), 2, kColumns}, ScalarType::Double, like)) {}

  Tensor moments() const { return moments_; }

  Tensor backward(size_t i, Tensor grad, bool further, LayerGradients found) {
    const ChainLayer& layer = layers_[i];
    if (!at_z_) {
      const ActBackwardOperands in{dtype_, layer.act, grad, layer.z};
      grad = layer.room_for_grad_z();
      generic::write_row(through_activation(in, grad)[1], result_row(i));
    }
    at_z_ = false;
    if (fits_tiles(layer, dtype_)) return backward_by_tiles(i, grad, further, found);
    return backward_by_products(layer, grad, further, found, [&](const Tensor& weight) {
      generic::write_row(measure(weight, dtype_), weight_row(i));
    });
  }

 private:
  // The kernel of our own goes on through the activation of the layer below.
  Tensor backward_by_tiles(size_t i, const Tensor& grad_z, bool further, LayerGradients found) {
    const ChainLayer& layer = layers_[i];
    const LinearOperands& in = layer.in;
    Tensor grad_x = new_tensor({further ? in.rows : 0, in.depth}, grad_z.scalar_type(), grad_z);
    LinearActBackwardArgs args{};
    args.grad_z = static_cast<const float*>(grad_z.const_data_ptr());
    args.x = static_cast<const float*>(in.x.const_data_ptr());
    args.weight = static_cast<const float*>(in.weight.const_data_ptr());
    args.rows = in.rows;
    args.cols = in.cols;
    args.depth = in.depth;
    args.x_stride = in.x.stride(0);
    args.weight_stride = in.weight.stride(0);
    if (further) args.grad_x = static_cast<float*>(grad_x.mutable_data_ptr());
    at_z_ = i > 0;
    if (at_z_) {
      const ChainLayer& below = layers_[i - 1];
      args.below_act = below.act;
      args.below_z = static_cast<const float*>(below.z.const_data_ptr());
    }
    if (layer.wants_weight) args.grad_weight = static_cast<float*>(found.weight.mutable_data_ptr());
    if (layer.wants_bias) args.grad_bias = static_cast<float*>(found.bias.mutable_data_ptr());
    const int64_t x_slots = args.tiles_across();
    const int64_t weight_slots = layer.wants_weight_moments ? x_slots * args.tiles_down() : 0;
    std::vector<Moments> slots(x_slots + weight_slots);
    args.grad_x_partial = slots.data();
    if (layer.wants_weight_moments) args.grad_weight_partial = slots.data() + x_slots;
    run_tiles(kernels().linear_act_backward, args,
              product_grain(2 * in.rows * in.cols * in.depth, args.tiles()));
    if (at_z_) generic::write_row(merged(slots.data(), x_slots), result_row(i - 1));
    generic::write_row(merged(slots.data() + x_slots, weight_slots), weight_row(i));
    return grad_x;
  }

  double* result_row(size_t i) {
    return static_cast<double*>(moments_.mutable_data_ptr()) + 2 * kColumns * i;
  }
  double* weight_row(size_t i) { return result_row(i) + kColumns; }

  const std::vector<ChainLayer>& layers_;
  Dtype dtype_;
  Tensor moments_;  // of the gradients at each layer's result and weight, [layers, 2, columns]
  bool at_z_ = false;  // whether the gradient is at z already, and measured: the layer above saw to it
};

}  // namespace
}  // namespace initfast

STABLE_TORCH_LIBRARY_IMPL(initfast, CPU, m) {
  m.impl("act_backward", TORCH_BOX(&initfast::act_backward));
  m.impl("linear_act_chain_backward",
         TORCH_BOX(&initfast::linear_act_chain_backward<initfast::CpuChain>));
}
