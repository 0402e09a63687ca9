// The sampler's operators on CUDA. Empty in a build without CUDA.
#if defined(USE_CUDA)

#include <string>
#include <vector>

#include "binding/cuda_device.h"
#include "binding/sample_arguments.h"

namespace initfast {
namespace {

void sample_(Tensor out, std::string shape, std::optional<Tensor> table, double scale,
             double location, double low, double high, int64_t key, int64_t offset,
             std::vector<int64_t> strides) {
  const cuda::SampleArgs args =
      sample_work(out, shape, table, scale, location, low, high, key, offset, strides);
  const Device device(out, "sample_", "out");
  if (args.numel == 0) return;
  device.check(cuda::sample(args, device.stream()), "the launch of sample");
}

void zero_rows_(Tensor out, int64_t count, int64_t key, int64_t rows, int64_t first_row,
                int64_t first_col) {
  cuda::ZeroRowsArgs args{zero_rows_work(out, count, key, rows, first_row, first_col), nullptr};
  const Device device(out, "zero_rows_", "out");
  if (out.numel() == 0 || count == 0) return;
  Tensor chosen = new_tensor({rows * args.cols}, ScalarType::Byte, out);
  device.zero(chosen.mutable_data_ptr(), size_t(chosen.numel()));
  args.chosen = static_cast<uint8_t*>(chosen.mutable_data_ptr());
  device.check(cuda::zero_rows(args, device.stream()), "the launch of zero_rows");
}

}  // namespace
}  // namespace initfast

STABLE_TORCH_LIBRARY_IMPL(initfast, CUDA, m) {
  m.impl("sample_", TORCH_BOX(&initfast::sample_));
  m.impl("zero_rows_", TORCH_BOX(&initfast::zero_rows_));
}

#endif  // USE_CUDA
