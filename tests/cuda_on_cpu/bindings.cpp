// The launchers of csrc/cuda for Python: every array is copied to a heap block of its exact size, at
// the misalignment asked for, so that a sanitizer sees the first byte outside it.

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <optional>
#include <string>
#include <vector>

#include "bugs.h"
#include "cuda/kernels.h"
#include "runtime.h"

namespace py = pybind11;
using namespace initfast;
using namespace initfast::cuda;

namespace {

// Memory of the "device".
class Memory {
 public:
  explicit Memory(size_t bytes, size_t misalignment = 0, int fill = 0xff) : bytes_(bytes) {
    void* p = nullptr;
    if (posix_memalign(&p, 256, misalignment + bytes + (misalignment + bytes == 0))) {
      throw std::bad_alloc();
    }
    block_ = static_cast<char*>(p);
    data_ = block_ + misalignment;
    memset(data_, fill, bytes);
  }
  Memory(const py::bytes& contents, size_t misalignment) : Memory(size(contents), misalignment) {
    memcpy(data_, std::string_view(contents).data(), bytes_);
  }
  Memory(const Memory&) = delete;
  ~Memory() { free(block_); }

  template <class T = void>
  T* as() {
    return reinterpret_cast<T*>(data_);
  }
  py::bytes bytes() const { return py::bytes(data_, bytes_); }

 private:
  static size_t size(const py::bytes& contents) { return std::string_view(contents).size(); }
  char* block_;
  char* data_;
  size_t bytes_;
};

std::optional<Memory> optional_memory(const std::optional<py::bytes>& contents, size_t misalignment) {
  if (!contents) return std::nullopt;
  return std::optional<Memory>(std::in_place, *contents, misalignment);
}

// Partial moments, a ticket and the result, as the operators allocate them.
struct Workspace {
  Workspace(int64_t blocks, int rows)
      : partial(size_t(blocks * rows) * sizeof(Moments)), ticket(sizeof(unsigned), 0, 0),
        result(size_t(rows) * initfast::kColumns * sizeof(double)) {}
  Reduction reduction() {
    return {partial.as<Moments>(), ticket.as<unsigned>(), result.as<double>()};
  }
  py::bytes rows() {
    if (*ticket.as<unsigned>() != 0) throw std::runtime_error("the ticket was not left at 0");
    return result.bytes();
  }
  Memory partial, ticket, result;
};

size_t element_bytes(int dtype) { return dtype == 1 ? 8 : dtype == 0 ? 4 : 2; }

Layout layout_of(const std::vector<int64_t>& sizes, const std::vector<int64_t>& strides) {
  Layout layout{};
  layout.dims = int(sizes.size());
  for (int d = 0; d < layout.dims; ++d) {
    layout.size[d] = sizes[d];
    layout.stride[d] = strides[d];
  }
  return layout;
}

Activation activation_of(const std::string& name, double alpha, double beta) {
#define X(Type, spelling, ...) \
  if (name == spelling) return {ActivationKind::k##Type, alpha, beta};
  INITFAST_FOR_EACH_ACTIVATION(X)
#undef X
  throw std::runtime_error("no activation " + name);
}

py::bytes run_moments(int dtype, py::bytes x, int64_t numel, std::vector<int64_t> sizes,
                      std::vector<int64_t> strides, size_t misalignment) {
  Memory data(x, misalignment);
  Workspace work(kMaxBlocks, 1);
  cuda::moments({{Dtype(dtype), data.as(), numel}, layout_of(sizes, strides), work.reduction()},
                nullptr);
  return work.rows();
}

py::bytes run_unit_moments(int dtype, py::bytes x, int64_t outer, int64_t units, int64_t inner,
                           size_t misalignment) {
  Memory data(x, misalignment), out(size_t(kUnitColumns * units) * sizeof(double));
  UnitMomentsArgs args{Dtype(dtype), data.as(), outer, units, inner, 1, nullptr, out.as<double>()};
  args.plan();
  Memory partial(size_t(args.partial_size()) * sizeof(double));
  args.partial = partial.as<double>();
  cuda::unit_moments(args, nullptr);
  return out.bytes();
}

py::tuple run_act(int dtype, std::string act, double alpha, double beta, py::bytes z, int64_t numel,
                  std::vector<int64_t> sizes, std::vector<int64_t> strides,
                  std::optional<py::bytes> bias, bool keep_z, int64_t units, int64_t inner,
                  size_t misalignment, bool in_place) {
  const size_t bytes = size_t(numel) * element_bytes(dtype);
  Memory data(z, misalignment), apart(in_place ? 0 : bytes, misalignment), z_out(keep_z ? bytes : 0);
  Memory& y = in_place ? data : apart;
  Memory live(size_t(units), 0, 0);
  auto offset = optional_memory(bias, 0);
  Workspace work(kMaxBlocks, 2);
  cuda::act({{Dtype(dtype), activation_of(act, alpha, beta), data.as(), y.as(), numel,
              {units, inner, live.as<uint8_t>()}},
             layout_of(sizes, strides), offset ? offset->as() : nullptr,
             keep_z ? z_out.as() : nullptr, work.reduction()},
            nullptr);
  return py::make_tuple(y.bytes(), z_out.bytes(), work.rows(), live.bytes());
}

py::tuple run_act_backward(int dtype, std::string act, double alpha, double beta, py::bytes grad_y,
                           py::bytes z, int64_t numel, size_t misalignment) {
  Memory grad(grad_y, misalignment), data(z, 0), out(size_t(numel) * element_bytes(dtype));
  Workspace work(kMaxBlocks, 2);
  cuda::act_backward({{Dtype(dtype), activation_of(act, alpha, beta), grad.as(), data.as(),
                       out.as(), numel},
                      work.reduction()},
                     nullptr);
  return py::make_tuple(out.bytes(), work.rows());
}

py::tuple run_linear_act(int dtype, std::string act, double alpha, double beta, py::bytes x,
                         py::bytes weight, std::optional<py::bytes> bias, bool keep_z, int64_t rows,
                         int64_t cols, int64_t depth, int64_t x_stride, int64_t weight_stride,
                         size_t misalignment) {
  const size_t bytes = size_t(rows * cols) * element_bytes(dtype);
  Memory x_data(x, misalignment), weight_data(weight, misalignment);
  Memory y(bytes), z(keep_z ? bytes : 0), live(size_t(cols), 0, 0);
  auto offset = optional_memory(bias, 0);
  LinearActArgs args{{activation_of(act, alpha, beta), x_data.as(), weight_data.as(),
                      offset ? offset->as() : nullptr, keep_z ? z.as() : nullptr, y.as(), rows, cols,
                      depth, x_stride, weight_stride, live.as<uint8_t>()},
                     Dtype(dtype), {}};
  Workspace work(linear_act_blocks(args), 3);
  args.out = work.reduction();
  cuda::linear_act(args, nullptr);
  return py::make_tuple(y.bytes(), z.bytes(), work.rows(), live.bytes());
}

// out: what the memory holds before. dims: (size, stride in memory, stride in the stream) each.
py::bytes run_sample(int dtype, py::bytes out, std::string shape, py::bytes table,
                     std::array<double, 4> affine, uint64_t key, uint64_t offset,
                     std::vector<std::array<int64_t, 3>> dims, size_t misalignment) {
  Memory data(out, misalignment), coefficients(table, 0);
  SampleArgs args{};
  args.dtype = Dtype(dtype);
  args.out = data.as();
  args.shape = shape == "uniform"     ? Shape::kUniform
               : shape == "symmetric" ? Shape::kSymmetric
               : shape == "skewed"    ? Shape::kSkewed
                                      : Shape::kOneSided;
  args.table = coefficients.as();
  args.scale = affine[0];
  args.location = affine[1];
  args.low = affine[2];
  args.high = affine[3];
  args.key = key;
  args.offset = offset;
  for (const auto& dim : dims) args.dim[args.dims++] = {dim[0], dim[1], dim[2]};
  cuda::sample(args, nullptr);
  return data.bytes();
}

py::bytes run_zero_rows(int dtype, py::bytes out, int64_t rows, int64_t cols, int64_t row_stride,
                        int64_t col_stride, int64_t count, uint64_t key, int64_t all_rows,
                        int64_t first_row, int64_t first_col) {
  Memory data(out, 0), chosen(size_t(all_rows * cols), 0, 0);
  cuda::zero_rows({{Dtype(dtype), data.as(), rows, cols, row_stride, col_stride, count, key, all_rows,
                    first_row, first_col},
                   chosen.as<uint8_t>()},
                  nullptr);
  return data.bytes();
}

py::bytes run_bug(std::string name, bool injected) {
  constexpr int64_t kNumel = 4093;
  Memory x(kNumel * sizeof(float)), out(2 * sizeof(float), 0, 0), partial(8 * sizeof(float));
  Memory ticket(sizeof(unsigned), 0, 0);
  for (int64_t i = 0; i < kNumel; ++i) x.as<float>()[i] = 1.f;
  bugs::run(name, injected, x.as<float>(), kNumel, partial.as<float>(), ticket.as<unsigned>(),
            out.as<float>());
  return out.bytes();
}

}  // namespace

PYBIND11_MODULE(INITFAST_MODULE, m) {
  m.def("schedule", [](unsigned seed, int resident) {
    cuda_on_cpu::schedule = {seed, resident};
  });
  m.def("take_out", [](int number) { cuda_on_cpu::taken_out = number; });
  m.def("moments", run_moments);
  m.def("unit_moments", run_unit_moments);
  m.def("act", run_act);
  m.def("act_backward", run_act_backward);
  m.def("linear_act", run_linear_act);
  m.def("sample", run_sample);
  m.def("zero_rows", run_zero_rows);
  m.def("bug", run_bug);
}
