// The CUDA kernels as the operators see them: plain pointers and sizes, no torch.
//
// Each function launches one kernel on the stream and returns the launch's error; nothing here
// waits. What the work is cut into depends on shapes alone, not on the card, and the last block to
// finish merges the blocks' moments in their order: the bits are the same on every card.
#pragma once

#if defined(INITFAST_CUDA_ON_CPU)
#include "runtime.h"
#else
#include <cuda_runtime_api.h>
#endif

#include "../activation_kind.h"
#include "../distribution.h"
#include "../dtype.h"
#include "../moments.h"

namespace initfast::cuda {

// Where the elements of a tensor lie, counted in elements; dims == 0 says one after the other.
constexpr int kMaxDims = 8;
struct Layout {
  int dims;
  int64_t size[kMaxDims];
  int64_t stride[kMaxDims];
};

// The unit (feature, channel) of element i is (i / inner) % count. live[unit] is set where a value
// of the unit is not zero.
struct Units {
  int64_t count;
  int64_t inner;
  uint8_t* live;
};

// Room for the moments on their way from the blocks to the result.
#ifndef INITFAST_CUDA_MAX_BLOCKS
#define INITFAST_CUDA_MAX_BLOCKS 1024
#endif
constexpr int64_t kMaxBlocks = INITFAST_CUDA_MAX_BLOCKS;
struct Reduction {
  Moments* partial;  // kMaxBlocks (linear_act: its blocks) for each row of the result
  unsigned* ticket;  // 0 before the first launch; a launch leaves 0 behind
  double* rows;      // [rows, 8], as initfast/ops.py describes a row
};

struct MomentsArgs {
  Dtype dtype;
  const void* x;
  int64_t numel;
  Layout layout;
  Reduction out;
};
cudaError_t moments(const MomentsArgs&, cudaStream_t);

// y = act(z + bias), y contiguous, y may be z; the first row of moments is of z + bias, rounded to
// the dtype, which goes to z_out where that is not null. bias[unit] may be null.
struct ActArgs {
  Dtype dtype;
  Activation act;
  const void* z;
  int64_t numel;
  Layout layout;
  const void* bias;
  void* z_out;
  void* y;
  Units units;
  Reduction out;
};
cudaError_t act(const ActArgs&, cudaStream_t);

// grad_z = grad_y act'(z), all contiguous; rows: grad_z, grad_y.
struct ActBackwardArgs {
  Dtype dtype;
  Activation act;
  const void* grad_y;
  const void* z;
  void* grad_z;
  int64_t numel;
  Reduction out;
};
cudaError_t act_backward(const ActBackwardArgs&, cudaStream_t);

// y = act(x weight^T + bias): x [rows, depth], weight [cols, depth], y and z [rows, cols], contiguous
// but for the row strides of x and weight; bias and z may be null. rows, cols >= 1. Rows of moments: of
// z, of y, of the weight.
struct LinearActArgs {
  Dtype dtype;
  Activation act;
  const void* x;
  const void* weight;
  const void* bias;
  void* z;
  void* y;
  int64_t rows, cols, depth;
  int64_t x_stride, weight_stride;
  uint8_t* live;
  Reduction out;
};
// float32: exact, no TF32. bfloat16 and float16: tensor cores, sm_80 and later.
cudaError_t linear_act(const LinearActArgs&, cudaStream_t);
// How many blocks it will launch, each with one slot per row in out.partial.
int64_t linear_act_blocks(const LinearActArgs&);

// Elements of `out` are drawn from the stream of `key`. A dimension has its size, its stride in
// memory and its stride in the global tensor, where the first element has index `offset`.
// table: on the host, read before the launch returns; see distribution.h, of float for 16-bit dtypes.
constexpr int kMaxSampleDims = 16;
struct SampleDim {
  int64_t size, memory, global;
};
struct SampleArgs {
  Dtype dtype;
  void* out;
  Shape shape;
  const void* table;
  double scale, location, low, high;
  uint64_t key, offset;
  int dims;
  SampleDim dim[kMaxSampleDims];
};
cudaError_t sample(const SampleArgs&, cudaStream_t);

// Zero `count` elements in each column of `out`. chosen: rows x cols zeros, to work in.
struct ZeroRowsArgs {
  Dtype dtype;
  void* out;
  int64_t rows, cols, row_stride, col_stride;
  int64_t count;
  uint64_t key;
  uint8_t* chosen;
};
cudaError_t zero_rows(const ZeroRowsArgs&, cudaStream_t);

}  // namespace initfast::cuda
