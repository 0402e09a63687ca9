// The moments of a tensor's units by the CPU kernels, alone or with those of the whole tensor.
#pragma once

#include <algorithm>
#include <vector>

#include "binding/moment_rows.h"

namespace initfast {

// The units of `count` numbers that lie one after the other.
class UnitMeasure {
 public:
  UnitMeasure(const void* x, int64_t count, Dtype dtype, int64_t units, int64_t inner)
      : args_{dtype, x, 0, units, inner, 1, nullptr}, count_(count) {
    if (count > 0) {
      // A single unit's numbers lie together; but few are summed as linear_act sums them.
      if (units == 1) args_.inner = count > 8 * cpu::kTileRows ? count : 1;
      args_.outer = count / (units * args_.inner);
    }
    args_.plan();
    slots_.resize(size_t(args_.slots_size()));
    args_.slots = slots_.data();
  }

  // Writes [kUnitColumns, units]. A tile is a block of units in a span.
  void run(double* out) {
    const cpu::Kernels& chosen = kernels();
    const int64_t numbers = std::max<int64_t>(1, args_.outers_per_span * args_.inner);
    const int64_t width = kUnitBlock * std::max<int64_t>(1, kTile / numbers / kUnitBlock);
    const int64_t blocks = cpu::ceil_div(args_.units, width);
    if (args_.spans() * blocks == 1) {  // the most: small outputs, where a call of the pool is felt
      chosen.unit_sums(args_, {0, 0, args_.outer, 0, args_.units});
      return chosen.unit_merge(args_, out);
    }
    torch::stable::parallel_for(0, args_.spans() * blocks, 1, [&](int64_t begin, int64_t end) {
      for (int64_t tile = begin; tile < end; ++tile) {
        const int64_t span = tile / blocks, first = tile % blocks * width;
        const int64_t begin_outer = span * args_.outers_per_span;
        const int64_t last = std::min(args_.units, first + width);
        chosen.unit_sums(args_, {span, begin_outer, begin_outer + args_.outers(span), first, last});
      }
    });
    chosen.unit_merge(args_, out);
  }

  // The same but for rounding, and the moments of the whole, in one read of memory.
  Moments run_with_moments(double* out) {
    if (count_ < kFused || args_.spans() < kFewestSpans) {  // in the cache, or too few for threads
      const Moments all = measure(args_.x, count_, args_.dtype);
      run(out);
      return all;
    }
    const cpu::Kernels& chosen = kernels();
    cpu::MomentsArgs whole{{args_.dtype, args_.x, count_}, nullptr};
    std::vector<Moments> partial(size_t(whole.tiles()));
    whole.partial = partial.data();
    torch::stable::parallel_for(0, args_.spans(), 1, [&](int64_t begin, int64_t end) {
      for (int64_t span = begin; span < end; ++span) fuse(chosen, whole, span);
    });
    chosen.unit_merge(args_, out);
    return merged(partial.data(), whole.tiles());
  }

 private:
  static constexpr int64_t kUnitBlock = 32;          // units: whole cache lines
  static constexpr int64_t kTile = 1 << 14;          // numbers: a few microseconds
  static constexpr int64_t kChunk = 1 << 16;         // numbers that the second-level cache holds
  static constexpr int64_t kFused = 1 << 19;         // fewer numbers are in some cache still
  static constexpr int64_t kFewestSpans = 8;

  // Chunk by chunk of a span: the runs that begin there, then its units. A run that begins in a chunk
  // may end beyond it.
  void fuse(const cpu::Kernels& chosen, const cpu::MomentsArgs& whole, int64_t span) const {
    const int64_t row = args_.units * args_.inner;
    const int64_t outer_step = std::max<int64_t>(1, kChunk / row);
    const int64_t unit_step = row <= kChunk ? args_.units : std::max<int64_t>(1, kChunk / args_.inner);
    const int64_t begin = span * args_.outers_per_span, end = begin + args_.outers(span);
    for (int64_t o = begin; o < end; o += outer_step) {
      const int64_t last_outer = std::min(end, o + outer_step);
      for (int64_t u = 0; u < args_.units; u += unit_step) {
        const int64_t last_unit = std::min(args_.units, u + unit_step);
        const int64_t from = o * row + u * args_.inner;
        const int64_t to = (last_outer - 1) * row + last_unit * args_.inner;
        chosen.moments(whole, cpu::ceil_div(from, cpu::kRun), cpu::ceil_div(to, cpu::kRun));
        chosen.unit_sums(args_, {span, o, last_outer, u, last_unit});
      }
    }
  }

  cpu::UnitMomentsArgs args_;
  int64_t count_;
  std::vector<double> slots_;
};

}  // namespace initfast
