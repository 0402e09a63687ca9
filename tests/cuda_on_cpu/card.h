// Included before csrc/binding/ops_cuda*.cpp: their operators register for a device that no torch has, so that
// they meet neither the CPU's nor a real card's.
#pragma once

#include <torch/csrc/stable/library.h>

#undef STABLE_TORCH_LIBRARY_IMPL
#define STABLE_TORCH_LIBRARY_IMPL(ns, key, m) \
  _STABLE_TORCH_LIBRARY_IMPL(ns, PrivateUse1, m, C10_UID)
