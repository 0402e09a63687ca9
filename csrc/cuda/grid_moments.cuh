// The way of the moments from the warps of a grid to global memory: warps, then blocks, are merged in
// their order, the blocks by the last of them to finish.
#pragma once

#include "warp_moments.cuh"

namespace initfast::cuda {

// Whether this block is the last to get here. What the blocks wrote before is then seen by the last
// one's threads: by the barrier thread 0's fence is one for its whole block. Leaves the ticket at 0.
__device__ __forceinline__ bool is_last_block(unsigned* ticket) {
  INITFAST_SHARED_ARRAY(bool, last, 1);
  __syncthreads();
  if (threadIdx.x == 0) {
    __threadfence();
    last[0] = atomicAdd(ticket, 1u) == gridDim.x - 1;
    if (last[0]) {
      __threadfence();
      atomicExch(ticket, 0u);
    }
  }
  __syncthreads();
  return last[0];
}

// The warps share the rows of moments, and a row's blocks where there are more warps than rows: a lane
// of them takes every 32nd block of its warp's share.
template <int kRows>
__device__ __forceinline__ void merge_blocks(const Reduction& out) {
  constexpr int kShares = kWarps > kRows ? kWarps / kRows : 1;
  INITFAST_SHARED_ARRAY(Moments, merged, kRows * kShares);
#pragma unroll 1
  for (int part = warp_index(); part < kRows * kShares; part += kWarps) {
    const int row = part / kShares, share = part % kShares;
    Moments m = no_moments();
    for (int64_t block = share * kWarp + lane_index(); block < gridDim.x; block += kShares * kWarp) {
      merge(m, out.partial[block * kRows + row]);
    }
    m = merge_warp(m);
    if (lane_index() == 0) merged[part] = m;
  }
  __syncthreads();
#pragma unroll 1
  for (int row = warp_index(); row < kRows; row += kWarps) {
    const Moments m = merge_first(merged + row * kShares, kShares);
    if (lane_index() == 0) write_row(m, out.moments + kColumns * row);
  }
}

// The end of a kernel: warp_total[row][warp] of every block to out.moments.
template <int kRows>
__device__ __forceinline__ void reduce_grid(const WarpTotals<kRows>& warp_total,
                                            const Reduction& out) {
  const bool alone = gridDim.x == 1;
  __syncthreads();
#pragma unroll 1
  for (int row = warp_index(); row < kRows; row += kWarps) {
    const Moments m = merge_first(warp_total + row * kWarps, kWarps);
    if (lane_index() != 0) continue;
    if (alone) {
      write_row(m, out.moments + kColumns * row);
    } else {
      out.partial[int64_t(blockIdx.x) * kRows + row] = m;
    }
  }
  if (!alone && is_last_block(out.ticket)) merge_blocks<kRows>(out);
}

}  // namespace initfast::cuda
