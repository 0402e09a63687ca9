// The CPU kernels as the operators see them: plain pointers and sizes, no torch.
//
// Every kernel works on a range of tiles. Tiles are cut by shape alone, each leaves its moments in
// a slot of its own, and the slots are merged in order: the bits do not depend on who ran what.
#pragma once

#include "../activation_kind.h"
#include "../distribution.h"
#include "../dtype.h"
#include "../moments.h"

namespace initfast::cpu {

constexpr int64_t kRun = 4096;  // numbers measured together: 16 KB of float32, half of an L1 cache
constexpr int64_t kTileRows = 64;
constexpr int64_t kTileCols = 64;

INITFAST_INLINE constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// The unit (feature, channel) of flat element i is (i / inner) % count. live[unit] is set where a
// value of the unit is not zero.
struct Units {
  int64_t count;
  int64_t inner;
  uint8_t* live;
};

// moments of the contiguous x; one tile per run, partial[tile].
struct MomentsArgs {
  Dtype dtype;
  const void* x;
  int64_t numel;
  Moments* partial;
  INITFAST_INLINE int64_t tiles() const { return ceil_div(numel, kRun); }
};

// y = act(z), both contiguous, y may be z; partial[2 tile] of z, partial[2 tile + 1] of y.
struct ActArgs {
  Dtype dtype;
  Activation act;
  const void* z;
  void* y;
  int64_t numel;
  Units units;
  Moments* partial;
  INITFAST_INLINE int64_t tiles() const { return ceil_div(numel, kRun); }
};

// grad_z = grad_y act'(z), all contiguous; partial[2 tile] of grad_z, partial[2 tile + 1] of grad_y.
struct ActBackwardArgs {
  Dtype dtype;
  Activation act;
  const void* grad_y;
  const void* z;
  void* grad_z;
  int64_t numel;
  Moments* partial;
  INITFAST_INLINE int64_t tiles() const { return ceil_div(numel, kRun); }
};

// y = act(x weight^T + bias) in float32: x [rows, depth], weight [cols, depth], y and z [rows, cols]
// contiguous but for the row strides of x and weight; bias and z may be null.
// partial[2 tile] of z, partial[2 tile + 1] of y, weight_partial[col / kTileCols] of the weight's rows
// in that column of tiles; live[col] is set where a value is not zero.
struct LinearActArgs {
  Activation act;
  const float* x;
  const float* weight;
  const float* bias;
  float* z;
  float* y;
  int64_t rows, cols, depth;
  int64_t x_stride, weight_stride;
  uint8_t* live;
  Moments* partial;
  Moments* weight_partial;
  INITFAST_INLINE int64_t tiles_across() const { return ceil_div(cols, kTileCols); }
  INITFAST_INLINE int64_t tiles() const { return ceil_div(rows, kTileRows) * tiles_across(); }
};

constexpr int64_t kSampleTile = 4096;
constexpr int64_t kBoxElements = 9216;  // of float: most of an L1 cache
constexpr int64_t kBoxCols = 192;
constexpr int kMaxDims = 16;

// Elements of `out` are drawn from the stream of `key`. A dimension has its size, its stride in
// memory and its stride in the global tensor, where the first element has index `offset`; `segment`
// elements at a time are consecutive there. table: see distribution.h, of float for 16-bit dtypes.
//
// Tiles follow the logical order, unless another dimension than the last, box_dim, is adjacent in
// memory and the last is consecutive in the global tensor: then they are boxes in those two.
struct SampleArgs {
  Dtype dtype;
  void* out;
  int64_t numel;
  Shape shape;
  const void* table;
  double scale, location, low, high;
  uint64_t key;
  uint64_t offset;
  int64_t segment;
  int dims;
  struct Dim {
    int64_t size, memory, global;
  } dim[kMaxDims];
  int box_dim;
  int64_t box_rows, box_cols;

  // Settle what follows from the dimensions.
  void plan() {
    const Dim& last = dim[dims - 1];
    segment = 1;
    for (int d = dims - 1; d >= 0 && dim[d].global == segment; --d) segment *= dim[d].size;
    box_dim = dims - 1;
    for (int d = dims - 1; d >= 0 && last.global == 1; --d) {
      if (dim[d].memory < dim[box_dim].memory) box_dim = d;
    }
    box_cols = last.size < kBoxCols ? last.size : kBoxCols;
    box_rows = kBoxElements / box_cols;
  }
  INITFAST_INLINE bool boxed() const { return box_dim != dims - 1; }
  INITFAST_INLINE int64_t tiles() const {
    if (!boxed()) return ceil_div(numel, kSampleTile);
    const int64_t rows = dim[box_dim].size, cols = dim[dims - 1].size;
    return numel / (rows * cols) * ceil_div(rows, box_rows) * ceil_div(cols, box_cols);
  }
};

// Zero `count` elements in each column of `out`; one tile per strip of columns, chosen kZeroCols at a
// time.
constexpr int64_t kZeroCols = 16;
constexpr int64_t kStripCols = 16 * kZeroCols;
struct ZeroRowsArgs {
  Dtype dtype;
  void* out;
  int64_t rows, cols, row_stride, col_stride;
  int64_t count;
  uint64_t key;
  INITFAST_INLINE int64_t tiles() const { return ceil_div(cols, kStripCols); }
};

// One instruction set's kernels; each runs tiles [begin, end).
struct Kernels {
  const char* name;
  void (*moments)(const MomentsArgs&, int64_t begin, int64_t end);
  void (*act)(const ActArgs&, int64_t begin, int64_t end);
  void (*act_backward)(const ActBackwardArgs&, int64_t begin, int64_t end);
  void (*linear_act)(const LinearActArgs&, int64_t begin, int64_t end);
  void (*sample)(const SampleArgs&, int64_t begin, int64_t end);
  void (*zero_rows)(const ZeroRowsArgs&, int64_t begin, int64_t end);
};

}  // namespace initfast::cpu
