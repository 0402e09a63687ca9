// The arguments of sample_, checked and in the kernels' form.
#pragma once

#include "distribution.h"
#include "tensors.h"

namespace initfast {

inline Shape parse_shape(const std::string& name) {
  if (name == "uniform") return Shape::kUniform;
  if (name == "symmetric") return Shape::kSymmetric;
  if (name == "skewed") return Shape::kSkewed;
  STD_TORCH_CHECK(name == "one_sided", "initfast::sample_: shape is '", name,
                  "'; expected uniform, symmetric, skewed or one_sided");
  return Shape::kOneSided;
}

// The table as numbers of the type that the kernel computes with.
inline const void* table_data(const std::optional<Tensor>& table, Shape shape, Dtype dtype) {
  if (shape == Shape::kUniform) return nullptr;
  const bool wide = dtype == Dtype::kFloat64;
  const int64_t size = wide ? generic::kTableSize<double> : generic::kTableSize<float>;
  const int64_t halves = shape == Shape::kSkewed ? 2 : 1;
  STD_TORCH_CHECK(table && table->is_cpu() && table->is_contiguous() &&
                      table->scalar_type() == (wide ? ScalarType::Double : ScalarType::Float) &&
                      table->numel() == halves * size,
                  "initfast::sample_: expected a contiguous table of ", halves * size, " numbers, ",
                  wide ? "float64" : "float32", ", on the CPU");
  return table->const_data_ptr();
}

// Dimensions of `out`, outermost first, merged where both strides allow it: {size, stride in memory,
// stride in the global tensor}. Returns how many; at least one.
template <class Dim, int kMax>
int merge_dimensions(const Tensor& out, const std::vector<int64_t>& strides, Dim (&dim)[kMax]) {
  STD_TORCH_CHECK(int64_t(strides.size()) == out.dim(), "initfast::sample_: ", strides.size(),
                  " strides for out of shape ", shape_of(out));
  int dims = 0;
  for (int64_t d = 0; d < out.dim(); ++d) {
    const int64_t size = out.size(d), memory = out.stride(d), global = strides[d];
    if (size == 1) continue;
    if (dims > 0) {
      Dim& last = dim[dims - 1];
      if (last.memory == size * memory && last.global == size * global) {
        last = {last.size * size, memory, global};
        continue;
      }
    }
    STD_TORCH_CHECK(dims < kMax, "initfast::sample_: out has shape ", shape_of(out),
                    "; expected at most ", kMax, " dimensions that cannot be merged");
    dim[dims++] = {size, memory, global};
  }
  if (dims == 0) dim[dims++] = {1, 1, 1};
  return dims;
}

}  // namespace initfast
