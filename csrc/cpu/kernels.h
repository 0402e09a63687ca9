// The CPU kernels as the operators see them: plain pointers and sizes, no torch.
//
// Every kernel works on a range of tiles. Tiles are cut by shape alone, each leaves its moments in
// a slot of its own, and the slots are merged in order: the bits do not depend on who ran what.
#pragma once

#include "math/moments.h"
#include "math/unit_moments.h"
#include "math/work.h"

namespace initfast::cpu {

constexpr int64_t kRun = 4096;  // numbers measured together: 16 KB of float32, half of an L1 cache
constexpr int64_t kTileRows = 64;
constexpr int64_t kTileCols = 64;

INITFAST_INLINE constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// One tile per run, partial[tile].
struct MomentsArgs : MomentsWork {
  Moments* partial;
  INITFAST_INLINE int64_t tiles() const { return ceil_div(numel, kRun); }
};

// What is summed of each unit over a span of rows: arrays of doubles, one after the other.
constexpr int64_t kUnitSums = 5;
struct UnitSlot {
  double* at;
  int64_t units;
  INITFAST_INLINE double* count() const { return at; }
  INITFAST_INLINE double* first() const { return at + units; }
  INITFAST_INLINE double* sum() const { return at + 2 * units; }
  INITFAST_INLINE double* square() const { return at + 3 * units; }
  INITFAST_INLINE double* largest() const { return at + 4 * units; }
  INITFAST_INLINE UnitSlot from(int64_t unit) const { return {at + unit, units}; }
};

// x [outer, units, inner], one after the other: `inner` numbers of a unit lie together. Spans of
// outers_per_span are cut by shape alone, each with a slot of its own.
struct UnitMomentsArgs {
  Dtype dtype;
  const void* x;
  int64_t outer, units, inner;
  int64_t outers_per_span;
  double* slots;

  // Where few rows are, spans are as linear_act's tiles. Else they are large enough for their slots
  // to be small beside x, and enough for threads.
  void plan() {
    constexpr int64_t kNumbers = 1 << 16, kRows = 256, kMost = 64;
    const int64_t rows = outer * inner, by_size = rows * units / kNumbers, by_rows = rows / kRows;
    const int64_t wanted = by_size < by_rows ? by_size : by_rows;
    const int64_t spans = wanted < 1 ? 1 : wanted > kMost ? kMost : wanted;
    outers_per_span = inner == 1 && outer <= 8 * kTileRows ? kTileRows : ceil_div(outer, spans);
  }
  INITFAST_INLINE int64_t spans() const { return outer == 0 ? 0 : ceil_div(outer, outers_per_span); }
  INITFAST_INLINE int64_t outers(int64_t span) const {
    const int64_t left = outer - span * outers_per_span;
    return left < outers_per_span ? left : outers_per_span;
  }
  INITFAST_INLINE int64_t slots_size() const { return spans() * kUnitSums * units; }
  INITFAST_INLINE UnitSlot slot(int64_t span) const { return {slots + span * kUnitSums * units, units}; }
};

// Some units in some outers of one span; of a span's outers the first come first.
struct UnitRange {
  int64_t span, first_outer, last_outer, first_unit, last_unit;
};

// z and y contiguous; partial[2 tile] of z, partial[2 tile + 1] of y.
struct ActArgs : ActWork {
  Moments* partial;
  INITFAST_INLINE int64_t tiles() const { return ceil_div(numel, kRun); }
};

// partial[2 tile] of grad_z, partial[2 tile + 1] of grad_y.
struct ActBackwardArgs : ActBackwardWork {
  Moments* partial;
  INITFAST_INLINE int64_t tiles() const { return ceil_div(numel, kRun); }
};

// partial[2 tile] of z, partial[2 tile + 1] of y, weight_partial[col / kTileCols] of the weight's rows
// in that column of tiles. unit_slots: one for each row of tiles, of y's units; or null.
struct LinearActArgs : LinearActWork<float> {
  Moments* partial;
  Moments* weight_partial;
  double* unit_slots;
  INITFAST_INLINE int64_t tiles_across() const { return ceil_div(cols, kTileCols); }
  INITFAST_INLINE int64_t tiles() const { return ceil_div(rows, kTileRows) * tiles_across(); }
};

// From grad_z [rows, cols] at the pre-activation of a linear layer in float32, at most kTileRows rows:
//   grad_x = grad_z weight [rows, depth], the gradient at the output of the layer below, becomes that
//     at its pre-activation below_z (or y, where below_act says so); or stays where below_z is null.
//     grad_x null: not wanted.
//   grad_weight = grad_z^T x [cols, depth], written unless null; grad_weight_partial null: not wanted.
//   grad_bias [cols], or null.
// All contiguous but for the row strides of x and weight. grad_x_partial[column of tiles] of grad_x;
// grad_weight_partial[tile] of grad_weight. Tiles are kTileCols columns of grad_x or kTileRows x
// kTileCols of grad_weight: a column of them begins with grad_x.
struct LinearActBackwardArgs {
  const float* grad_z;
  const float* x;
  const float* weight;
  int64_t rows, cols, depth;
  int64_t x_stride, weight_stride;
  Activation below_act;
  const float* below_z;
  float* grad_x;
  float* grad_weight;
  float* grad_bias;
  Moments* grad_x_partial;
  Moments* grad_weight_partial;
  INITFAST_INLINE int64_t tiles_across() const { return ceil_div(depth, kTileCols); }
  INITFAST_INLINE int64_t tiles_down() const { return ceil_div(cols, kTileRows); }
  INITFAST_INLINE int64_t tiles() const { return tiles_across() * (1 + tiles_down()); }
};

constexpr int64_t kSampleTile = 4096;
constexpr int64_t kBoxElements = 9216;  // of float: most of an L1 cache
constexpr int64_t kBoxCols = 192;

// `segment` elements at a time are consecutive in the global tensor. Tiles follow the logical order,
// unless another dimension than the last, box_dim, is adjacent in memory and the last is consecutive
// in the global tensor: then they are boxes in those two.
struct SampleArgs : SampleWork {
  int64_t segment;
  int box_dim;
  int64_t box_rows, box_cols;

  // Settle what follows from the dimensions.
  void plan() {
    const SampleDim& last = dim[dims - 1];
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

// One tile per strip of columns, chosen kZeroCols at a time.
constexpr int64_t kZeroCols = 16;
constexpr int64_t kStripCols = 16 * kZeroCols;
struct ZeroRowsArgs : ZeroRowsWork {
  INITFAST_INLINE int64_t tiles() const { return ceil_div(cols, kStripCols); }
};

// x, [rows, cols] numbers with rows >= cols, becomes Q of its QR factorisation, R's diagonal positive:
// householder_blocks draws the reflections from x, then householder_strips writes Q. A tile is a block of
// kReflections, and as many columns of Q; both kernels take tiles from `next`, which starts at zero.
constexpr int64_t kReflections = 64;
struct HouseholderArgs {
  Dtype dtype;
  void* x;
  int64_t rows, cols;
  void *v, *t, *signs;  // scratch, of v_size(), tiles() kReflections^2 and `cols` numbers
  int64_t* next;
  INITFAST_INLINE int64_t tiles() const { return ceil_div(cols, kReflections); }
  INITFAST_INLINE int64_t v_size() const {
    const int64_t n = tiles(), padded = ceil_div(rows, 8) * 8;
    return kReflections * (n * padded - kReflections * n * (n - 1) / 2);
  }
};

// One instruction set's kernels; each runs tiles [begin, end).
struct Kernels {
  const char* name;
  void (*moments)(const MomentsArgs&, int64_t begin, int64_t end);
  void (*unit_sums)(const UnitMomentsArgs&, const UnitRange&);
  void (*unit_merge)(const UnitMomentsArgs&, double* out);  // [kUnitColumns, units]
  void (*act)(const ActArgs&, int64_t begin, int64_t end);
  void (*act_backward)(const ActBackwardArgs&, int64_t begin, int64_t end);
  void (*linear_act)(const LinearActArgs&, int64_t begin, int64_t end);
  void (*linear_act_backward)(const LinearActBackwardArgs&, int64_t begin, int64_t end);
  void (*sample)(const SampleArgs&, int64_t begin, int64_t end);
  void (*zero_rows)(const ZeroRowsArgs&, int64_t begin, int64_t end);
  void (*householder_blocks)(const HouseholderArgs&, int64_t begin, int64_t end);
  void (*householder_strips)(const HouseholderArgs&, int64_t begin, int64_t end);
};

}  // namespace initfast::cpu
