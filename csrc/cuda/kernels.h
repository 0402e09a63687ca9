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

#include "math/moments.h"
#include "math/unit_moments.h"
#include "math/work.h"

namespace initfast::cuda {

// Where the elements of a tensor lie, counted in elements; dims == 0 says one after the other.
constexpr int kMaxDims = 8;
struct Layout {
  int dims;
  int64_t size[kMaxDims];
  int64_t stride[kMaxDims];
};

// Room for the moments on their way from the blocks to the result.
#ifndef INITFAST_CUDA_MAX_BLOCKS
#define INITFAST_CUDA_MAX_BLOCKS 768
#endif
constexpr int64_t kMaxBlocks = INITFAST_CUDA_MAX_BLOCKS;
struct Reduction {
  Moments* partial;  // one of each block for each row of moments; of one block alone: not used
  unsigned* ticket;  // 0 before the first launch; a launch leaves 0 behind; of one block: not used
  double* moments;   // rows of kColumns
};

struct MomentsArgs : MomentsWork {
  Layout layout;
  Reduction out;
};
cudaError_t moments(const MomentsArgs&, cudaStream_t);
// How many blocks one of these kernels will launch for so many elements; act's and its backward's, too.
int64_t blocks_of(Dtype dtype, int64_t numel);

// x [outer, units, inner], dense and not empty; out [kUnitColumns, units]; partial: room of
// partial_size() numbers. One launch where there is one span, else two.
struct UnitMomentsArgs {
  Dtype dtype;
  const void* x;
  int64_t outer, units, inner, spans;
  double* partial;
  double* out;

  // A block has 32 units that lie one beside the other, or one. Spans are long beside what merging
  // them costs, and no more than make kMaxBlocks blocks.
  INITFAST_INLINE int64_t groups() const { return inner == 1 ? (units + 31) / 32 : units; }
  void plan() {
    const int64_t numbers = outer * inner, by_length = numbers / (inner == 1 ? 512 : 8192);
    const int64_t by_blocks = kMaxBlocks / groups(), most = by_length < by_blocks ? by_length : by_blocks;
    spans = most < 1 ? 1 : most;
  }
  INITFAST_INLINE int64_t numbers_per_span() const { return (outer * inner + spans - 1) / spans; }
  int64_t partial_size() const { return spans == 1 ? 0 : spans * kUnitColumns * units; }
};
cudaError_t unit_moments(const UnitMomentsArgs&, cudaStream_t);

// y = act(z + bias), y contiguous; layout: of z, none where y is z. The first row of moments is of
// z + bias, rounded to the dtype, which goes to z_out where that is not null. bias[unit] may be null.
struct ActArgs : ActWork {
  Layout layout;
  const void* bias;
  void* z_out;
  Reduction out;
};
cudaError_t act(const ActArgs&, cudaStream_t);

// Rows: grad_z, grad_y.
struct ActBackwardArgs : ActBackwardWork {
  Reduction out;
};
cudaError_t act_backward(const ActBackwardArgs&, cudaStream_t);

// rows, cols >= 1. Rows of moments: of z, of y, of the weight.
// float32: exact, no TF32. bfloat16 and float16: tensor cores, sm_80 and later.
struct LinearActArgs : LinearActWork<void> {
  Dtype dtype;
  Reduction out;
};
cudaError_t linear_act(const LinearActArgs&, cudaStream_t);
// How many blocks it will launch, each with one slot per row in out.partial.
int64_t linear_act_blocks(const LinearActArgs&);

// The table is read before the launch returns.
using SampleArgs = SampleWork;
cudaError_t sample(const SampleArgs&, cudaStream_t);

// chosen: all_rows x cols zeros, to work in.
struct ZeroRowsArgs : ZeroRowsWork {
  uint8_t* chosen;
};
cudaError_t zero_rows(const ZeroRowsArgs&, cudaStream_t);

}  // namespace initfast::cuda
