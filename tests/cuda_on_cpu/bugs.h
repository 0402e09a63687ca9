// Kernels with a bug that can be put in: what the harness must see.
#pragma once

#include <cstdint>
#include <string>

namespace bugs {

// Runs the kernel of that name twice, with its bug or without. x holds `numel` ones; out[0] and
// out[1] receive the two results, `numel` where all is well. partial: 8 numbers; ticket: 0.
void run(const std::string& name, bool injected, const float* x, int64_t numel, float* partial,
         unsigned* ticket, float* out);

}  // namespace bugs
