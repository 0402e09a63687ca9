// The sampler's operators as torch sees them.

#include <optional>
#include <string>
#include <vector>

#include "sample_arguments.h"
#include "threads.h"

namespace initfast {
namespace {

using namespace cpu;

void sample_(Tensor out, std::string shape, std::optional<Tensor> table, double scale,
             double location, double low, double high, int64_t key, int64_t offset,
             std::vector<int64_t> strides) {
  const Dtype dtype = dtype_of(out, "sample_", "out");
  const Shape kind = parse_shape(shape);
  SampleArgs args{};
  args.dtype = dtype;
  args.numel = out.numel();
  args.shape = kind;
  args.table = table_data(table, kind, dtype);
  args.scale = scale;
  args.location = location;
  args.low = low;
  args.high = high;
  args.key = uint64_t(key);
  args.offset = uint64_t(offset);
  args.dims = merge_dimensions(out, strides, args.dim);
  if (args.numel == 0) return;
  args.plan();
  args.out = out.mutable_data_ptr();
  run_tiles(kernels().sample, args, kRunsPerThread);
}

void zero_rows_(Tensor out, int64_t count, int64_t key) {
  const Dtype dtype = dtype_of(out, "zero_rows_", "out");
  STD_TORCH_CHECK(out.dim() == 2 && 0 <= count && count <= out.size(0), "initfast::zero_rows_: out has "
                  "shape ", shape_of(out), " and count is ", count,
                  "; expected a matrix and no more zeros than rows");
  if (out.numel() == 0) return;
  const ZeroRowsArgs args{dtype,         out.mutable_data_ptr(), out.size(0), out.size(1),
                          out.stride(0), out.stride(1),          count,       uint64_t(key)};
  run_tiles(kernels().zero_rows, args, ceil_div(kRun, args.rows));
}

}  // namespace
}  // namespace initfast

STABLE_TORCH_LIBRARY_IMPL(initfast, CPU, m) {
  m.impl("sample_", TORCH_BOX(&initfast::sample_));
  m.impl("zero_rows_", TORCH_BOX(&initfast::zero_rows_));
}
