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
  SampleArgs args{
      sample_work(out, shape, table, scale, location, low, high, key, offset, strides), 0, 0, 0, 0};
  if (args.numel == 0) return;
  args.plan();
  run_tiles(kernels().sample, args, kRunsPerThread);
}

void zero_rows_(Tensor out, int64_t count, int64_t key) {
  const ZeroRowsArgs args{zero_rows_work(out, count, key)};
  if (out.numel() == 0) return;
  run_tiles(kernels().zero_rows, args, ceil_div(kRun, args.rows));
}

}  // namespace
}  // namespace initfast

STABLE_TORCH_LIBRARY_IMPL(initfast, CPU, m) {
  m.impl("sample_", TORCH_BOX(&initfast::sample_));
  m.impl("zero_rows_", TORCH_BOX(&initfast::zero_rows_));
}
