// The operators on CUDA: checks, allocation, launches on the current stream. Nothing here waits for
// the device, so all of it can be captured in a CUDA graph. Schemas are defined in initfast/ops.py.
// Empty in a build without CUDA.
#if defined(USE_CUDA)

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>

#include <cuda_runtime_api.h>

#include <algorithm>
#include <tuple>

#include "cuda/kernels.h"
#include "linear_operands.h"
#include "sample_arguments.h"
#include "tensors.h"

namespace initfast {
namespace {

// ---- the device ----

// The device of a tensor made current, and its current stream.
class Device {
 public:
  Device(const Tensor& t, const char* op, const char* argument)
      : index_(checked_index(t, op, argument)), guard_(index_), op_(op) {
    void* stream = nullptr;
    STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(index_, &stream));
    stream_ = static_cast<cudaStream_t>(stream);
    capability_ = 10 * attribute(cudaDevAttrComputeCapabilityMajor) +
                  attribute(cudaDevAttrComputeCapabilityMinor);
    STD_TORCH_CHECK(capability_ >= 75, "initfast::", op, ": cuda:", index_, " has compute capability ",
                    capability_ / 10, ".", capability_ % 10, "; expected 7.5 or later");
  }

  cudaStream_t stream() const { return stream_; }
  bool has_tensor_cores_for_bfloat16() const { return capability_ >= 80; }

  void check(cudaError_t error, const char* what) const {
    STD_TORCH_CHECK(error == cudaSuccess, "initfast::", op_, ": ", what, " failed on cuda:", index_,
                    ": ", cudaGetErrorString(error));
  }
  void zero(void* p, size_t bytes) const {
    if (bytes > 0) check(cudaMemsetAsync(p, 0, bytes, stream_), "zeroing memory");
  }

 private:
  static int32_t checked_index(const Tensor& t, const char* op, const char* argument) {
    STD_TORCH_CHECK(t.is_cuda(), "initfast::", op, ": ", argument,
                    " is not on a CUDA device, but another argument is; expected one device");
    return int32_t(t.get_device_index());
  }
  int attribute(cudaDeviceAttr which) const {
    int value = 0;
    check(cudaDeviceGetAttribute(&value, which, index_), "asking for the compute capability");
    return value;
  }

  int32_t index_;
  torch::stable::accelerator::DeviceGuard guard_;
  const char* op_;
  cudaStream_t stream_ = nullptr;
  int capability_ = 0;
};

// ---- results ----

// Live units and a ticket, zeroed by one memset; partial moments; the rows of the result.
struct Statistics {
  static constexpr int64_t kTicketBytes = 4;
  Tensor zeroed, partial, rows;
  int64_t units, ticket_at;

  Statistics(const Device& device, const Tensor& like, int64_t units, int rows_count, int64_t blocks)
      : zeroed(new_tensor({ticket_place(units) + kTicketBytes}, ScalarType::Bool, like)),
        partial(new_tensor({blocks * rows_count * int64_t(sizeof(Moments))}, ScalarType::Byte, like)),
        rows(new_tensor(rows_count == 1 ? std::vector<int64_t>{8} : std::vector<int64_t>{rows_count, 8},
                        ScalarType::Double, like)),
        units(units),
        ticket_at(ticket_place(units)) {
    device.zero(zeroed.mutable_data_ptr(), size_t(zeroed.numel()));
  }

  uint8_t* live_flags() { return static_cast<uint8_t*>(zeroed.mutable_data_ptr()); }
  Tensor live() { return torch::stable::narrow(zeroed, 0, 0, units); }
  // For a kernel whose first row of moments is this one.
  cuda::Reduction reduction(int row = 0) {
    return {static_cast<Moments*>(partial.mutable_data_ptr()),
            reinterpret_cast<unsigned*>(live_flags() + ticket_at),
            static_cast<double*>(rows.mutable_data_ptr()) + 8 * row};
  }

 private:
  static int64_t ticket_place(int64_t units) { return (units + 3) / 4 * 4; }
};

// ---- layouts ----

// The dimensions of t in the order in which `order` lies in memory, merged where t allows it; no
// dimensions where t lies in one piece in that order. False where there are too many.
bool set_layout(cuda::Layout& layout, const Tensor& t, const Tensor& order) {
  layout.dims = 0;
  if (same_strides(t, order)) return true;
  std::vector<int64_t> dims(t.dim());
  for (size_t d = 0; d < dims.size(); ++d) dims[d] = int64_t(d);
  std::stable_sort(dims.begin(), dims.end(), [&](int64_t a, int64_t b) {
    return order.stride(a) > order.stride(b);
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
  Tensor dense = is_dense(t) ? new_tensor(to_vector(t.sizes()), to_vector(t.strides()), t.scalar_type(), t)
                             : torch::stable::empty_like(t);
  if (!set_layout(layout, t, dense)) {
    t = as_dense(t);
    layout.dims = 0;
  }
  return dense;
}

// ---- moments, act ----

void launch_moments(const Device& device, Tensor x, Dtype dtype, const cuda::Reduction& out) {
  cuda::MomentsArgs args{dtype, nullptr, x.numel(), {}, out};
  if (!is_dense(x) && !set_layout(args.layout, x, torch::stable::empty_like(x))) x = as_dense(x);
  args.x = x.const_data_ptr();
  device.check(cuda::moments(args, device.stream()), "the launch of moments");
}

Tensor moments(Tensor x) {
  const Dtype dtype = dtype_of(x, "moments", "x");
  const Device device(x, "moments", "x");
  Statistics statistics(device, x, 0, 1, cuda::kMaxBlocks);
  launch_moments(device, x, dtype, statistics.reduction());
  return statistics.rows;
}

std::tuple<Tensor, Tensor, Tensor> act(Tensor z, std::string name, double alpha, double beta,
                                       int64_t unit_dim) {
  const Activation activation = parse_activation(name, alpha, beta);
  const Dtype dtype = dtype_of(z, "act", "z");
  const int64_t dims = z.dim();
  STD_TORCH_CHECK(dims == 0 || (-dims <= unit_dim && unit_dim < dims), "initfast::act: unit_dim is ",
                  unit_dim, " but z has shape ", shape_of(z));
  const int64_t dim = unit_dim < 0 ? unit_dim + dims : unit_dim;
  const int64_t units = dims == 0 ? 1 : z.size(dim);
  const Device device(z, "act", "z");
  cuda::ActArgs args{};
  args.dtype = dtype;
  args.act = activation;
  args.numel = z.numel();
  Tensor y = dense_like(z, args.layout);
  args.z = z.const_data_ptr();
  args.y = y.mutable_data_ptr();
  Statistics statistics(device, z, units, 2, cuda::kMaxBlocks);
  const int64_t inner = units <= 1 ? std::max<int64_t>(1, z.numel()) : y.stride(dim);
  args.units = {std::max<int64_t>(1, units), std::max<int64_t>(1, inner), statistics.live_flags()};
  args.out = statistics.reduction();
  device.check(cuda::act(args, device.stream()), "the launch of act");
  return {y, statistics.rows, statistics.live()};
}

std::tuple<Tensor, Tensor> act_backward(Tensor grad_y, Tensor z, std::string name, double alpha,
                                        double beta) {
  const Activation activation = parse_activation(name, alpha, beta);
  const Dtype dtype = dtype_of(z, "act_backward", "z");
  check_same(z, grad_y, "act_backward", "z", "grad_y");
  STD_TORCH_CHECK(shape_of(grad_y) == shape_of(z), "initfast::act_backward: grad_y has shape ",
                  shape_of(grad_y), " but z has shape ", shape_of(z));
  const Device device(z, "act_backward", "z");
  z = as_dense(z);
  if (!same_strides(grad_y, z)) {
    Tensor like_z = new_tensor(to_vector(z.sizes()), to_vector(z.strides()), z.scalar_type(), z);
    grad_y = torch::stable::copy_(like_z, grad_y);
  }
  Tensor grad_z = new_tensor(to_vector(z.sizes()), to_vector(z.strides()), z.scalar_type(), z);
  Statistics statistics(device, z, 0, 2, cuda::kMaxBlocks);
  const cuda::ActBackwardArgs args{dtype, activation, grad_y.const_data_ptr(), z.const_data_ptr(),
                                   grad_z.mutable_data_ptr(), z.numel(), statistics.reduction()};
  device.check(cuda::act_backward(args, device.stream()), "the launch of act_backward");
  return {grad_z, statistics.rows};
}

// ---- linear_act ----

// Up to here our kernel is to be the faster: predicted from the bytes and operations of both, not
// measured. Beyond, float32 is bound by its reads of shared memory; 16 bits would take two tiles.
constexpr int64_t kMostRowsFloat32 = 32;
constexpr int64_t kMostRows16Bit = 64;
constexpr int64_t kMostDepth = int64_t(1) << 30;  // indices along depth are 32-bit

bool small_batch(const Device& device, const LinearOperands& in, Dtype dtype) {
  const bool along_depth = in.weight.stride(1) == 1 || in.depth <= 1;
  const bool known = dtype == Dtype::kFloat32 ||
                     (dtype != Dtype::kFloat64 && device.has_tensor_cores_for_bfloat16());
  const int64_t most_rows = dtype == Dtype::kFloat32 ? kMostRowsFloat32 : kMostRows16Bit;
  return known && along_depth && in.rows <= most_rows && in.depth < kMostDepth &&
         in.weight.stride(0) < kMostDepth;
}

struct LinearResult {
  Tensor rows, live;
};

LinearResult linear_act_small(const Device& device, const LinearOperands& in, Dtype dtype,
                              const Activation& activation, const Tensor& y, const Tensor* z) {
  cuda::LinearActArgs args{dtype, activation, in.x.const_data_ptr(), in.weight.const_data_ptr(),
                           in.bias ? in.bias->const_data_ptr() : nullptr,
                           z ? z->mutable_data_ptr() : nullptr, y.mutable_data_ptr(),
                           in.rows, in.cols, in.depth, in.x.stride(0), in.weight.stride(0),
                           nullptr, {}};
  Statistics statistics(device, y, in.cols, 3, cuda::linear_act_blocks(args));
  args.live = statistics.live_flags();
  args.out = statistics.reduction();
  device.check(cuda::linear_act(args, device.stream()), "the launch of linear_act");
  return {statistics.rows, statistics.live()};
}

// The moments of the weight, which brings it into the cache, the library's product, then one kernel
// for bias, activation and moments. In 16 bits the library adds the bias, before its only rounding.
LinearResult linear_act_large(const Device& device, const LinearOperands& in, Dtype dtype,
                              const Activation& activation, const Tensor& y, const Tensor* z) {
  const bool wide = dtype == Dtype::kFloat32 || dtype == Dtype::kFloat64;
  const Tensor& product = z ? *z : y;
  Statistics statistics(device, y, in.cols, 3, cuda::kMaxBlocks);
  launch_moments(device, in.weight, dtype, statistics.reduction(2));
  if (product.numel() > 0) {
    linear_out(in.x, in.weight, wide ? std::nullopt : in.bias, product);
  }
  cuda::ActArgs args{};
  args.dtype = dtype;
  args.act = activation;
  args.z = product.const_data_ptr();
  args.numel = in.rows * in.cols;
  args.bias = wide && in.bias ? in.bias->const_data_ptr() : nullptr;
  args.z_out = args.bias && z ? z->mutable_data_ptr() : nullptr;
  args.y = y.mutable_data_ptr();
  args.units = {std::max<int64_t>(1, in.cols), 1, statistics.live_flags()};
  args.out = statistics.reduction();
  device.check(cuda::act(args, device.stream()), "the launch of act after the matrix product");
  return {statistics.rows, statistics.live()};
}

std::tuple<Tensor, Tensor, Tensor, Tensor> linear_act(Tensor x, Tensor weight,
                                                      std::optional<Tensor> bias, std::string name,
                                                      double alpha, double beta, bool save_z) {
  const Activation activation = parse_activation(name, alpha, beta);
  const Dtype dtype = dtype_of(x, "linear_act", "x");
  const LinearOperands in = linear_operands(x, weight, bias);
  const Device device(x, "linear_act", "x");
  std::vector<int64_t> sizes = to_vector(x.sizes());
  sizes.back() = in.cols;
  Tensor y = new_tensor(sizes, x.scalar_type(), x);
  Tensor z = new_tensor(save_z ? sizes : std::vector<int64_t>{0}, x.scalar_type(), x);
  const Tensor y_rows = torch::stable::view(y, {in.rows, in.cols});
  const Tensor z_rows = save_z ? torch::stable::view(z, {in.rows, in.cols}) : z;
  const Tensor* kept = save_z ? &z_rows : nullptr;
  const bool small = in.rows > 0 && in.cols > 0 && small_batch(device, in, dtype);
  const LinearResult result = small ? linear_act_small(device, in, dtype, activation, y_rows, kept)
                                    : linear_act_large(device, in, dtype, activation, y_rows, kept);
  return {y, z, result.rows, result.live};
}

// ---- the sampler ----

void sample_(Tensor out, std::string shape, std::optional<Tensor> table, double scale,
             double location, double low, double high, int64_t key, int64_t offset,
             std::vector<int64_t> strides) {
  cuda::SampleArgs args{};
  args.dtype = dtype_of(out, "sample_", "out");
  args.shape = parse_shape(shape);
  args.table = table_data(table, args.shape, args.dtype);
  args.scale = scale;
  args.location = location;
  args.low = low;
  args.high = high;
  args.key = uint64_t(key);
  args.offset = uint64_t(offset);
  args.dims = merge_dimensions(out, strides, args.dim);
  const Device device(out, "sample_", "out");
  if (out.numel() == 0) return;
  args.out = out.mutable_data_ptr();
  device.check(cuda::sample(args, device.stream()), "the launch of sample");
}

void zero_rows_(Tensor out, int64_t count, int64_t key) {
  const Dtype dtype = dtype_of(out, "zero_rows_", "out");
  STD_TORCH_CHECK(out.dim() == 2 && 0 <= count && count <= out.size(0), "initfast::zero_rows_: out has "
                  "shape ", shape_of(out), " and count is ", count,
                  "; expected a matrix and no more zeros than rows");
  const Device device(out, "zero_rows_", "out");
  if (out.numel() == 0 || count == 0) return;
  Tensor chosen = new_tensor({out.numel()}, ScalarType::Byte, out);
  device.zero(chosen.mutable_data_ptr(), size_t(chosen.numel()));
  const cuda::ZeroRowsArgs args{dtype, out.mutable_data_ptr(), out.size(0), out.size(1),
                                out.stride(0), out.stride(1), count, uint64_t(key),
                                static_cast<uint8_t*>(chosen.mutable_data_ptr())};
  device.check(cuda::zero_rows(args, device.stream()), "the launch of zero_rows");
}

}  // namespace
}  // namespace initfast

STABLE_TORCH_LIBRARY_IMPL(initfast, CUDA, m) {
  m.impl("moments", TORCH_BOX(&initfast::moments));
  m.impl("act", TORCH_BOX(&initfast::act));
  m.impl("act_backward", TORCH_BOX(&initfast::act_backward));
  m.impl("linear_act", TORCH_BOX(&initfast::linear_act));
  m.impl("sample_", TORCH_BOX(&initfast::sample_));
  m.impl("zero_rows_", TORCH_BOX(&initfast::zero_rows_));
}

#endif  // USE_CUDA
