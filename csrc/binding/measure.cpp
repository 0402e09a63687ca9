// Moments past torch's dispatcher, whose call costs more than a small tensor does: for a caller who
// knows the memory. The operators `moments` and `unit_moments` are the same functions of a tensor.

#include "binding/moment_rows.h"
#include "binding/unit_moments.h"

// Writes the moments of `count` numbers at `data`, one after the other, to the columns of `row`, unless
// that is null; and those of `units` units, of which `inner` numbers lie together, to the rows of
// `unit_rows`, unless there are no units. `dtype` counts as dtype.h does; the caller has seen to it
// that there are kernels and memory.
extern "C" __attribute__((visibility("default"))) void initfast_measure(
    const void* data, int64_t count, int dtype, double* row, int64_t units, int64_t inner,
    double* unit_rows) {
  using namespace initfast;
  const auto number = static_cast<Dtype>(dtype);
  if (units == 0) return generic::write_row(measure(data, count, number), row);
  UnitMeasure of_units(data, count, number, units, inner);
  if (row == nullptr) return of_units.run(unit_rows);
  generic::write_row(of_units.run_with_moments(unit_rows), row);
}
