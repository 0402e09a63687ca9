// The arguments of sample_ and zero_rows_, checked and in the kernels' form.
#pragma once

#include "binding/tensors.h"
#include "math/work.h"

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
  check_memory(*table, "sample_", "table");
  return table->const_data_ptr();
}

// Dimensions of `out`, outermost first, merged where both strides allow it: {size, stride in memory,
// stride in the global tensor}. Returns how many; at least one.
inline int merge_dimensions(const Tensor& out, const std::vector<int64_t>& strides,
                            SampleDim (&dim)[kMaxSampleDims]) {
  STD_TORCH_CHECK(int64_t(strides.size()) == out.dim(), "initfast::sample_: ", strides.size(),
                  " strides for out of shape ", shape_of(out));
  int dims = 0;
  for (int64_t d = 0; d < out.dim(); ++d) {
    const int64_t size = out.size(d), memory = out.stride(d), global = strides[d];
    if (size == 1) continue;
    if (dims > 0) {
      SampleDim& last = dim[dims - 1];
      if (last.memory == size * memory && last.global == size * global) {
        last = {last.size * size, memory, global};
        continue;
      }
    }
    STD_TORCH_CHECK(dims < kMaxSampleDims, "initfast::sample_: out has shape ", shape_of(out),
                    "; expected at most ", kMaxSampleDims, " dimensions that cannot be merged");
    dim[dims++] = {size, memory, global};
  }
  if (dims == 0) dim[dims++] = {1, 1, 1};
  return dims;
}

inline SampleWork sample_work(const Tensor& out, const std::string& shape,
                              const std::optional<Tensor>& table, double scale, double location,
                              double low, double high, int64_t key, int64_t offset,
                              const std::vector<int64_t>& strides) {
  SampleWork work{};
  work.dtype = dtype_of(out, "sample_", "out");
  work.numel = out.numel();
  work.shape = parse_shape(shape);
  work.table = table_data(table, work.shape, work.dtype);
  work.scale = scale;
  work.location = location;
  work.low = low;
  work.high = high;
  work.key = uint64_t(key);
  work.offset = uint64_t(offset);
  work.dims = merge_dimensions(out, strides, work.dim);
  work.out = out.mutable_data_ptr();
  return work;
}

inline ZeroRowsWork zero_rows_work(const Tensor& out, int64_t count, int64_t key, int64_t rows,
                                   int64_t first_row, int64_t first_col) {
  const Dtype dtype = dtype_of(out, "zero_rows_", "out");
  STD_TORCH_CHECK(out.dim() == 2 && 0 <= first_row && first_row <= rows - out.size(0) && 0 <= first_col &&
                      0 <= count && count <= rows,
                  "initfast::zero_rows_: out has shape ", shape_of(out), " from row ", first_row,
                  " and column ", first_col, " on, and count is ", count, "; expected a part of a matrix "
                  "of ", rows, " rows, and no more zeros than rows");
  STD_TORCH_CHECK(rows <= int64_t(1) << 31, "initfast::zero_rows_: the matrix has ", rows,
                  " rows; expected at most 2^31, between which a word of the stream can choose");
  return {dtype, out.mutable_data_ptr(), out.size(0), out.size(1), out.stride(0), out.stride(1), count,
          uint64_t(key), rows, first_row, first_col};
}

}  // namespace initfast
