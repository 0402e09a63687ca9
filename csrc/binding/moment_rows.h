// Moments on the way from the CPU kernels' slots to the rows that the operators return.
#pragma once

#include <array>
#include <vector>

#include "binding/threads.h"

namespace initfast {

// Every step-th of `count` slots, merged in order.
inline Moments merged(const Moments* slots, int64_t count, int64_t step = 1) {
  Moments total = generic::no_moments();
  for (int64_t i = 0; i < count; i += step) generic::merge(total, slots[i]);
  return total;
}

// The same of slots that belong to two tensors in turn.
inline std::array<Moments, 2> merged_pair(const std::vector<Moments>& slots, int64_t count) {
  if (count == 0) return {generic::no_moments(), generic::no_moments()};
  return {merged(slots.data(), count, 2), merged(slots.data() + 1, count - 1, 2)};
}

// A row for each, on the device of `like`; a single one has no dimension of rows.
template <size_t kRows>
Tensor moment_rows(const std::array<Moments, kRows>& rows, const Tensor& like) {
  std::vector<int64_t> sizes{int64_t(kRows), kColumns};
  if (kRows == 1) sizes.erase(sizes.begin());
  Tensor out = new_tensor(sizes, ScalarType::Double, like);
  double* data = static_cast<double*>(out.mutable_data_ptr());
  for (size_t row = 0; row < kRows; ++row) generic::write_row(rows[row], data + kColumns * row);
  return out;
}

// The moments of numbers that lie one after the other. Few fit one slot, which needs no memory.
inline Moments measure(const void* data, int64_t count, Dtype dtype) {
  cpu::MomentsArgs args{{dtype, data, count}, nullptr};
  Moments one;
  std::vector<Moments> several;
  if (args.tiles() > 1) several.resize(args.tiles());
  args.partial = several.empty() ? &one : several.data();
  run_tiles(kernels().moments, args, kRunsPerThread);
  return merged(args.partial, args.tiles());
}

// The moments of any tensor.
inline Moments measure(const Tensor& x, Dtype dtype) {
  const Tensor dense = as_dense(x);
  return measure(dense.const_data_ptr(), dense.numel(), dtype);
}

}  // namespace initfast
