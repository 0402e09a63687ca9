#include "bugs.h"

#include <stdexcept>

#include "cuda/device.cuh"

// Every kernel sums x over a grid of kBlocks blocks in the way that csrc/cuda does: lanes by
// shuffles, warps through shared memory, blocks by a ticket. One step goes wrong if `bug` asks for it.
namespace bugs {
namespace {

using namespace initfast::cuda;

constexpr unsigned kBlocks = 3;

enum Bug {
  kNone,
  kMissingBarrier,        // between writing and reading shared memory
  kMissingBarrierInLoop,  // before shared memory is written again
  kShuffleAsFence,        // shared memory passed between lanes with a shuffle for order
  kMissingWriterFence,    // before the ticket is taken
  kMissingReaderFence,    // after it
  kDivergentShuffle,      // in a branch that only some lanes take
  kDivergentBarrier,      // likewise, by some threads of a block
  kUninitialisedShared,   // read where no warp has written
  kOutOfBounds,           // a 16-byte load past the end
  kMisaligned,            // a 16-byte load at an odd element
  kSharedOutOfBounds,     // one element past a shared array
  kStaleTicket,           // not set back for the next launch
};

struct Args {
  Bug bug;
  const float* x;
  int64_t numel;
  float* partial;
  unsigned* ticket;
  float* out;
};

float load(const Args& a, int64_t i) {
  const int64_t first = a.bug == kMisaligned ? 1 : 0;
  const int64_t left = a.numel - first - i;
  const float* p = a.x + first + i;
  const bool whole = left >= 4 || (a.bug == kOutOfBounds && left > 0);
  float sum = 0;
  if (whole) {
    const uint4 v = *reinterpret_cast<const uint4*>(p);
    sum = bit_cast<float>(v.x) + bit_cast<float>(v.y) + bit_cast<float>(v.z) + bit_cast<float>(v.w);
  } else {
    for (int64_t j = 0; j < left; ++j) sum += p[j];
  }
  return sum;
}

float sum_block(const Args& a, float value) {
  INITFAST_SHARED_ARRAY(float, of_warp, kWarps);
  INITFAST_SHARED_ARRAY(float, of_lane, kThreads);
  value = warp_sum(value);
  if (a.bug == kShuffleAsFence) {
    of_lane[threadIdx.x] = value;
    (void)from_lane_xor(value, 1);
    value = of_lane[threadIdx.x ^ 1];
  }
  const bool silent = a.bug == kUninitialisedShared && warp_index() == 1;
  const int slot = a.bug == kSharedOutOfBounds ? warp_index() + 1 : warp_index();
  if (lane_index() == 0 && !silent) (&of_warp[0])[slot] = value;
  if (a.bug != kMissingBarrier) __syncthreads();
  value = 0;
  for (int w = 0; w < kWarps; ++w) value += of_warp[w];
  if (a.bug != kMissingBarrierInLoop) __syncthreads();
  return value;
}

void sum_kernel(Args a) {
  float value = 0;
  for (int64_t first = 0; first < a.numel; first += kBlocks * kThreads * 4) {
    value += sum_block(a, load(a, first + (blockIdx.x * kThreads + threadIdx.x) * 4));
  }
  if (a.bug == kDivergentShuffle && lane_index() < 16) value += 0 * from_lane_xor(value, 1);
  if (a.bug == kDivergentBarrier && threadIdx.x < kThreads / 2) __syncthreads();
  INITFAST_SHARED_ARRAY(bool, last, 1);
  if (threadIdx.x == 0) {
    a.partial[blockIdx.x] = value;
    if (a.bug != kMissingWriterFence) __threadfence();
    last[0] = atomicAdd(a.ticket, 1u) == gridDim.x - 1;
    if (a.bug != kMissingReaderFence) __threadfence();
    if (last[0] && a.bug != kStaleTicket) atomicExch(a.ticket, 0u);
  }
  __syncthreads();
  if (!last[0] || threadIdx.x != 0) return;
  float total = 0;
  for (unsigned block = 0; block < gridDim.x; ++block) total += a.partial[block];
  *a.out = total + (a.bug == kMisaligned ? 1.f : 0.f);
}

Bug bug_of(const std::string& name) {
  const char* names[] = {"none", "missing barrier", "missing barrier in a loop", "shuffle as a fence",
                         "missing fence before the ticket", "missing fence after the ticket",
                         "divergent shuffle", "divergent barrier", "uninitialised shared memory",
                         "out of bounds", "misaligned", "shared memory out of bounds", "stale ticket"};
  for (int i = 0; i <= kStaleTicket; ++i) {
    if (name == names[i]) return Bug(i);
  }
  throw std::runtime_error("no bug named " + name);
}

}  // namespace

void run(const std::string& name, bool injected, const float* x, int64_t numel, float* partial,
         unsigned* ticket, float* out) {
  for (int launch_number = 0; launch_number < 2; ++launch_number) {
    const Bug bug = injected ? bug_of(name) : (bug_of(name), kNone);
    launch(sum_kernel, kBlocks, nullptr, Args{bug, x, numel, partial, ticket, out + launch_number});
  }
}

}  // namespace bugs
