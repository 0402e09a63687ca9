// The operators on CUDA: checks, allocation, launches on the current stream. Nothing here waits for
// the device, so all of it can be captured in a CUDA graph. Schemas are defined in initfast/ops/schemas.py.
// Empty in a build without CUDA.
#if defined(USE_CUDA)

#include <algorithm>
#include <tuple>

#include "binding/act_operands.h"
#include "binding/cuda_device.h"
#include "binding/linear_operands.h"

namespace initfast {
namespace {

// ---- layouts ----

// The dimensions of t, those of the greatest `strides` outermost, merged where t allows it; no
// dimensions where t lies in one piece in that order. False where there are too many.
template <class Strides>
bool set_layout(cuda::Layout& layout, const Tensor& t, const Strides& strides) {
  layout.dims = 0;
  std::vector<int64_t> dims(t.dim());
  for (size_t d = 0; d < dims.size(); ++d) dims[d] = int64_t(d);
  std::stable_sort(dims.begin(), dims.end(), [&](int64_t a, int64_t b) {
    return strides[a] > strides[b];
  });
  for (int64_t d : dims) {
    if (t.size(d) == 1) continue;
    const int last = layout.dims - 1;
    if (last >= 0 && layout.stride[last] == t.size(d) * t.stride(d)) {
      layout.size[last] *= t.size(d);
      layout.stride[last] = t.stride(d);
      continue;
    }
    if (layout.dims == cuda::kMaxDims) return false;
    layout.size[layout.dims] = t.size(d);
    layout.stride[layout.dims++] = t.stride(d);
  }
  if (layout.dims == 1 && layout.stride[0] == 1) layout.dims = 0;
  return true;
}

// A dense tensor of t's shape, laid out as torch.empty_like lays out; t's layout read in its order.
// Where t is too irregular it is copied first.
Tensor dense_like(Tensor& t, cuda::Layout& layout) {
  Tensor dense = is_dense(t) ? new_like(t) : torch::stable::empty_like(t);
  if (!set_layout(layout, t, dense.strides())) {
    t = as_dense(t);
    layout.dims = 0;
  }
  return dense;
}

// ---- moments, act ----

void launch_moments(const Device& device, Tensor x, Dtype dtype, const cuda::Reduction& out) {
  cuda::MomentsArgs args{{dtype, nullptr, x.numel()}, {}, out};
  if (!is_dense(x) && !set_layout(args.layout, x, x.strides())) x = as_dense(x);
  args.x = x.const_data_ptr();
  device.check(cuda::moments(args, device.stream()), "the launch of moments");
}

Tensor moments(Tensor x) {
  const Dtype dtype = dtype_of(x, "moments", "x");
  const Device device(x, "moments", "x");
  const int64_t blocks = cuda::blocks_of(dtype, x.numel());
  Statistics statistics(device, x, 0, {kColumns}, blocks == 1);
  launch_moments(device, x, dtype, statistics.reduction(1, 0, blocks));
  return statistics.moments();
}

// The moments of the units of a dense tensor to `out`: [kUnitColumns, units].
void launch_unit_moments(const Device& device, const Tensor& x, Dtype dtype, int64_t units,
                         int64_t inner, double* out) {
  if (x.numel() == 0) return device.zero(out, size_t(kUnitColumns * units) * sizeof(double));
  const int64_t together = units == 1 ? x.numel() : inner;
  cuda::UnitMomentsArgs args{
      dtype, x.const_data_ptr(), x.numel() / (units * together), units, together, 1, nullptr, out};
  args.plan();
  const Tensor partial = new_tensor({args.partial_size()}, ScalarType::Double, x);
  args.partial = static_cast<double*>(partial.mutable_data_ptr());
  device.check(cuda::unit_moments(args, device.stream()), "the launch of unit_moments");
}

std::tuple<Tensor, Tensor> unit_moments(Tensor x, int64_t unit_dim, bool with_moments) {
  const Dtype dtype = dtype_of(x, "unit_moments", "x");
  const UnitDim dim = unit_dim_of(x, unit_dim, "unit_moments", "x");
  const Device device(x, "unit_moments", "x");
  const Tensor dense = as_dense(x);
  Tensor row = new_tensor({0}, ScalarType::Double, x);
  if (with_moments) {
    Statistics statistics(device, x, 0, {kColumns});
    launch_moments(device, dense, dtype, statistics.reduction(1));
    row = statistics.moments();
  }
  Tensor units = new_tensor({kUnitColumns, dim.units}, ScalarType::Double, x);
  launch_unit_moments(device, dense, dtype, dim.units, dim.inner(dense),
                      static_cast<double*>(units.mutable_data_ptr()));
  return {row, units};
}

// z, read as the layout says, activated into the dense y, which may be z.
std::tuple<Tensor, Tensor> act_into(const Device& device, const ActOperands& in, const Tensor& z,
                                    const cuda::Layout& layout, const Tensor& y) {
  Statistics statistics(device, z, in.units, {2, kColumns});
  const cuda::ActArgs args{in.work(z, y, statistics.live_flags()), layout, nullptr, nullptr,
                           statistics.reduction(2, 0, cuda::blocks_of(in.dtype, z.numel()))};
  device.check(cuda::act(args, device.stream()), "the launch of act");
  return {statistics.moments(), statistics.live()};
}

std::tuple<Tensor, Tensor, Tensor> act(Tensor z, std::string name, double alpha, double beta,
                                       int64_t unit_dim) {
  const ActOperands in = act_operands(z, name, alpha, beta, unit_dim, "act");
  const Device device(z, "act", "z");
  cuda::Layout layout{};
  const Tensor y = dense_like(z, layout);
  auto [moments, live] = act_into(device, in, z, layout, y);
  return {y, moments, live};
}

std::tuple<Tensor, Tensor> act_(Tensor z, std::string name, double alpha, double beta,
                                int64_t unit_dim) {
  const ActOperands in = act_operands(z, name, alpha, beta, unit_dim, "act_");
  const Device device(z, "act_", "z");
  if (is_dense(z)) return act_into(device, in, z, {}, z);
  Tensor read = z;
  cuda::Layout layout{};
  const Tensor y = dense_like(read, layout);
  auto results = act_into(device, in, read, layout, y);
  torch::stable::copy_(z, y);
  return results;
}

// ---- linear_act ----

// Our kernel is the faster up to so many rows, measured on an H200 at 256 to 4096 columns and depth, and
// but for float32's fewest rows not where the weight is large. (Beyond, another tile of rows would
// bring W and x through the cache once more.)
constexpr int64_t kFewRowsFloat32 = 16, kMostRowsFloat32 = 32, kMostRows16Bit = 64;
constexpr int64_t kLargeWeight = int64_t(1) << 22;
constexpr int64_t kMostDepth = int64_t(1) << 30;  // indices along depth are 32-bit

bool small_batch(const Device& device, const LinearOperands& in, Dtype dtype) {
  const bool along_depth = in.weight.stride(1) == 1 || in.depth <= 1;
  const bool wide = dtype == Dtype::kFloat32;
  const bool known = wide || (dtype != Dtype::kFloat64 && device.has_tensor_cores_for_bfloat16());
  const bool large = in.weight.numel() > kLargeWeight;
  const int64_t most_rows = wide ? (large ? kFewRowsFloat32 : kMostRowsFloat32)
                                 : (large ? 0 : kMostRows16Bit);
  return known && along_depth && in.rows <= most_rows && in.depth < kMostDepth &&
         in.weight.stride(0) < kMostDepth;
}

// Where a layer's statistics go: its first unit, and the first of its three rows of moments.
struct Place {
  Statistics& statistics;
  int64_t unit, row;
};

void linear_act_small(const Device& device, const LinearOperands& in, Dtype dtype,
                      const Activation& activation, const Tensor& y, const Tensor* z,
                      const Place& place) {
  uint8_t* live = place.statistics.live_flags(place.unit);
  cuda::LinearActArgs args{in.work<void>(activation, y, z, live), dtype, {}};
  args.out = place.statistics.reduction(3, place.row, cuda::linear_act_blocks(args));
  device.check(cuda::linear_act(args, device.stream()), "the launch of linear_act");
}

// The moments of the weight, which brings it into the cache, the library's product, then one kernel
// for bias, activation and moments. In 16 bits the library adds the bias, before its only rounding.
// Whether it may use TF32 is the user's setting, as for F.linear: the numbers are the net's own.
void linear_act_large(const Device& device, const LinearOperands& in, Dtype dtype,
                      const Activation& activation, const Tensor& y, const Tensor* z,
                      const Place& place) {
  const bool wide = dtype == Dtype::kFloat32 || dtype == Dtype::kFloat64;
  const Tensor& product = z ? *z : y;
  launch_moments(device, in.weight, dtype,
                 place.statistics.reduction(1, place.row + 2, cuda::blocks_of(dtype, in.weight.numel())));
  if (product.numel() > 0) {
    linear_out(in.x, in.weight, wide ? std::nullopt : in.bias, product);
  }
  const Units units{std::max<int64_t>(1, in.cols), 1, place.statistics.live_flags(place.unit)};
  const void* bias = wide && in.bias ? in.bias->const_data_ptr() : nullptr;
  const cuda::ActArgs args{{dtype, activation, product.const_data_ptr(), y.mutable_data_ptr(),
                            in.rows * in.cols, units},
                           {}, bias, bias && z ? z->mutable_data_ptr() : nullptr,
                           place.statistics.reduction(2, place.row,
                                                      cuda::blocks_of(dtype, in.rows * in.cols))};
  device.check(cuda::act(args, device.stream()), "the launch of act after the matrix product");
}

// y [rows, cols] and, where it is kept, z.
void linear_act_rows(const Device& device, const LinearOperands& in, Dtype dtype,
                     const Activation& activation, const Tensor& y, const Tensor* z,
                     const Place& place) {
  const bool small = in.rows > 0 && in.cols > 0 && small_batch(device, in, dtype);
  (small ? linear_act_small : linear_act_large)(device, in, dtype, activation, y, z, place);
}

std::tuple<Tensor, Tensor, Tensor, Tensor> linear_act(Tensor x, Tensor weight,
                                                      std::optional<Tensor> bias, std::string name,
                                                      double alpha, double beta, bool save_z) {
  const Activation activation = parse_activation(name, alpha, beta);
  const Dtype dtype = dtype_of(x, "linear_act", "x");
  const LinearOperands in = linear_operands(x, weight, bias);
  const Device device(x, "linear_act", "x");
  const std::vector<int64_t> sizes = in.output_sizes(x);
  Tensor y = new_tensor(sizes, x.scalar_type(), x);
  Tensor z = new_tensor(save_z ? sizes : std::vector<int64_t>{0}, x.scalar_type(), x);
  const Tensor y_rows = in.as_rows(y);
  const Tensor z_rows = save_z ? in.as_rows(z) : z;
  Statistics statistics(device, x, in.cols, {3, kColumns});
  linear_act_rows(device, in, dtype, activation, y_rows, save_z ? &z_rows : nullptr,
                  {statistics, 0, 0});
  return {y, z, statistics.moments(), statistics.live()};
}

// A chain of them, each the next one's input: one memset, and two kernels a layer where batches are
// small, the second of which measures the units.
std::tuple<Tensor, Tensor, Tensor, Tensor> linear_act_chain(
    Tensor x, std::vector<Tensor> weights, std::vector<std::optional<Tensor>> biases,
    std::vector<std::string> names, std::vector<double> alphas, std::vector<double> betas) {
  const Dtype dtype = dtype_of(x, "linear_act_chain", "x");
  const int64_t units = units_of_chain(weights, biases.size(), names.size(), alphas.size(), betas.size());
  const Device device(x, "linear_act_chain", "x");
  Statistics statistics(device, x, units, {int64_t(weights.size()), 3, kColumns});
  const Tensor of_units = new_tensor({kUnitColumns * units}, ScalarType::Double, x);
  double* unit_rows = static_cast<double*>(of_units.mutable_data_ptr());
  int64_t unit = 0;
  for (size_t i = 0; i < weights.size(); ++i) {
    const Activation activation = parse_activation(names[i], alphas[i], betas[i]);
    const LinearOperands in = linear_operands(x, weights[i], biases[i]);
    const Tensor y = new_tensor(in.output_sizes(x), x.scalar_type(), x);
    linear_act_rows(device, in, dtype, activation, in.as_rows(y), nullptr,
                    {statistics, unit, 3 * int64_t(i)});
    launch_unit_moments(device, y, dtype, in.cols, 1, unit_rows + kUnitColumns * unit);
    unit += in.cols;
    x = y;
  }
  return {x, statistics.moments(), statistics.live(), of_units};
}

}  // namespace
}  // namespace initfast

STABLE_TORCH_LIBRARY_IMPL(initfast, CUDA, m) {
  m.impl("moments", TORCH_BOX(&initfast::moments));
  m.impl("unit_moments", TORCH_BOX(&initfast::unit_moments));
  m.impl("act", TORCH_BOX(&initfast::act));
  m.impl("act_", TORCH_BOX(&initfast::act_));
  m.impl("linear_act", TORCH_BOX(&initfast::linear_act));
  m.impl("linear_act_chain", TORCH_BOX(&initfast::linear_act_chain));
}

#endif  // USE_CUDA
