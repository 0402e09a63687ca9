// What a kernel is asked to do, on any device: plain pointers and sizes, no torch. cpu/kernels.h and
// cuda/kernels.h add how their kernels cut the work and where the moments go.
#pragma once

#include <cstdint>

#include "math/activation_kind.h"
#include "math/distribution.h"
#include "math/dtype.h"

namespace initfast {

// The unit (feature, channel) of element i is (i / inner) % count. live[unit] is set where a value
// of the unit is not zero.
struct Units {
  int64_t count;
  int64_t inner;
  uint8_t* live;
};

struct MomentsWork {
  Dtype dtype;
  const void* x;
  int64_t numel;
};

// y = act(z), y may be z.
struct ActWork {
  Dtype dtype;
  Activation act;
  const void* z;
  void* y;
  int64_t numel;
  Units units;
};

// grad_z = grad_y act'(z), all contiguous; z is y where act says so.
struct ActBackwardWork {
  Dtype dtype;
  Activation act;
  const void* grad_y;
  const void* z;
  void* grad_z;
  int64_t numel;
};

// y = act(x weight^T + bias): x [rows, depth], weight [cols, depth], y and z [rows, cols], contiguous
// but for the row strides of x and weight; bias and z may be null. live[col] is set where a value is
// not zero. Number: float, or void where a dtype says it.
template <class Number>
struct LinearActWork {
  Activation act;
  const Number* x;
  const Number* weight;
  const Number* bias;
  Number* z;
  Number* y;
  int64_t rows, cols, depth;
  int64_t x_stride, weight_stride;
  uint8_t* live;
};

// Elements of `out` are drawn from the stream of `key`. A dimension has its size, its stride in
// memory and its stride in the global tensor, where the first element has index `offset`.
// table: see distribution.h, of float for 16-bit dtypes; on the host.
constexpr int kMaxSampleDims = 16;
struct SampleDim {
  int64_t size, memory, global;
};
struct SampleWork {
  Dtype dtype;
  void* out;
  int64_t numel;
  Shape shape;
  const void* table;
  double scale, location, low, high;
  uint64_t key, offset;
  int dims;
  SampleDim dim[kMaxSampleDims];
};

// Zero `count` elements in each column of a matrix with `all_rows` rows, of which `out` holds
// [first_row, first_row + rows) x [first_col, first_col + cols).
struct ZeroRowsWork {
  Dtype dtype;
  void* out;
  int64_t rows, cols, row_stride, col_stride;
  int64_t count;
  uint64_t key;
  int64_t all_rows, first_row, first_col;
};

}  // namespace initfast
