// The sampler's operators as torch sees them.

#include <optional>
#include <string>
#include <vector>

#include "binding/sample_arguments.h"
#include "binding/threads.h"

namespace initfast {
namespace {

using namespace cpu;

void sample_(Tensor out, std::string shape, std::optional<Tensor> table, double scale,
             double location, double low, double high, int64_t key, int64_t offset,
             std::vector<int64_t> strides) {
  SampleArgs args{
      sample_work(out, shape, table, scale, location, low, high, key, offset, strides), 0, 0, 0, 0};
  if (args.numel == 0) return;
  args.plan();
  run_tiles(kernels().sample, args, kRunsPerThread);
}

void zero_rows_(Tensor out, int64_t count, int64_t key, int64_t rows, int64_t first_row,
                int64_t first_col) {
  const ZeroRowsArgs args{zero_rows_work(out, count, key, rows, first_row, first_col)};
  if (out.numel() == 0) return;
  run_tiles(kernels().zero_rows, args, ceil_div(kRun, args.all_rows));
}

void householder_q_(Tensor x) {
  const Dtype dtype = dtype_of(x, "householder_q_", "x");
  STD_TORCH_CHECK(dtype == Dtype::kFloat32 || dtype == Dtype::kFloat64, "initfast::householder_q_: x is ",
                  torch::headeronly::toString(x.scalar_type()), "; expected float32 or float64");
  STD_TORCH_CHECK(x.dim() == 2 && x.size(0) >= x.size(1) && x.is_contiguous(),
                  "initfast::householder_q_: x has shape ", shape_of(x),
                  "; expected a contiguous matrix with no more columns than rows");
  if (x.numel() == 0) return;
  int64_t next = 0;
  HouseholderArgs args{dtype,   x.mutable_data_ptr(), x.size(0), x.size(1),
                       nullptr, nullptr,              nullptr,   &next};
  Tensor v = new_tensor({args.v_size()}, x.scalar_type(), x);
  Tensor t = new_tensor({args.tiles() * kReflections * kReflections}, x.scalar_type(), x);
  Tensor signs = new_tensor({args.cols}, x.scalar_type(), x);
  args.v = v.mutable_data_ptr();
  args.t = t.mutable_data_ptr();
  args.signs = signs.mutable_data_ptr();
  run_tiles(kernels().householder_blocks, args, 1);
  next = 0;
  run_tiles(kernels().householder_strips, args, 1);
}

}  // namespace
}  // namespace initfast

STABLE_TORCH_LIBRARY_IMPL(initfast, CPU, m) {
  m.impl("sample_", TORCH_BOX(&initfast::sample_));
  m.impl("zero_rows_", TORCH_BOX(&initfast::zero_rows_));
  m.impl("householder_q_", TORCH_BOX(&initfast::householder_q_));
}
