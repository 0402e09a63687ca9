// What csrc/binding/ops_cuda.cpp asks of CUDA's own runtime, on the host: card.cpp answers. Whatever waits
// for the device is missing on purpose: an operator that calls it does not compile here.
#pragma once

#include <cstddef>

#include "runtime.h"

enum cudaDeviceAttr {
  cudaDevAttrComputeCapabilityMajor = 75,
  cudaDevAttrComputeCapabilityMinor = 76,
};

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr, int device);
cudaError_t cudaMemsetAsync(void* p, int value, size_t bytes, cudaStream_t);
cudaError_t cudaGetLastError();
const char* cudaGetErrorString(cudaError_t);
