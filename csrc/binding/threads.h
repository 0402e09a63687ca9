// The CPU kernels, and torch's threads to run them.
#pragma once

#include <algorithm>

#include "cpu/isa.h"
#include "binding/tensors.h"

namespace initfast {

inline const cpu::Kernels& kernels() {
  const cpu::Kernels* chosen = cpu::chosen_kernels();
  STD_TORCH_CHECK(chosen != nullptr, cpu::isa_error());
  return *chosen;
}

constexpr int64_t kRunsPerThread = 4;  // 16,384 numbers: a few microseconds
constexpr int64_t kMultiplyAddsPerThread = 1 << 18;  // likewise

// The least tiles of a matrix product that are worth a thread.
inline int64_t product_grain(int64_t multiply_adds, int64_t tiles) {
  return cpu::ceil_div(kMultiplyAddsPerThread, std::max<int64_t>(1, multiply_adds / tiles));
}

// Run the kernel on all its tiles, at least `grain` of them to a thread.
template <class Args>
void run_tiles(void (*kernel)(const Args&, int64_t, int64_t), const Args& args, int64_t grain) {
  torch::stable::parallel_for(0, args.tiles(), grain, [&](int64_t begin, int64_t end) {
    kernel(args, begin, end);
  });
}

}  // namespace initfast
