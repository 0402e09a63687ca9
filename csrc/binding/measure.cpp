// Moments past torch's dispatcher, whose call costs more than a small tensor does: for a caller who
// knows the memory. The operator `moments` is the same function of a tensor.

#include "binding/moment_rows.h"

// Writes the moments of `count` numbers at `data`, one after the other, to the columns of `row`.
// `dtype` counts as dtype.h does; the caller has seen to it that there are kernels and memory.
extern "C" __attribute__((visibility("default"))) void initfast_measure(const void* data,
                                                                        int64_t count, int dtype,
                                                                        double* row) {
  const auto moments = initfast::measure(data, count, static_cast<initfast::Dtype>(dtype));
  initfast::generic::write_row(moments, row);
}
