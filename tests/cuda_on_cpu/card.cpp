// A card that is not there: the operators of csrc/binding/ops_cuda.cpp take the CPU's tensors for its own.
//
// Stands in for the few functions of torch and CUDA that need a device. A test says what the card is
// and which launch fails, and reads how many there were.
#include <torch/csrc/inductor/aoti_torch/c/shim.h>

#include <dlfcn.h>

#include <cstring>
#include <stdexcept>

#include "cuda_runtime_api.h"

namespace {

constexpr cudaError_t kInvalidHandle = 400, kLaunchFailure = 719;

struct Card {
  int capability = 90;
  int failing_launch = -1;  // counted from 0
  int failing_allocation = -1;
  bool stream_is_destroyed = false;
  int launches = 0, allocations = 0;
  cudaError_t last_error = cudaSuccess;
} card;
int guards = 0;  // device guards alive

void check_guard(const char* what) {
  if (guards == 0) throw std::runtime_error(std::string(what) + " without a device guard");
}

cudaError_t on_launch() {
  check_guard("a launch");
  if (card.launches++ == card.failing_launch) card.last_error = kLaunchFailure;
  if (card.stream_is_destroyed) card.last_error = kInvalidHandle;
  return card.last_error;
}

}  // namespace

// ---- for the tests ----

extern "C" {
#define EXPORT __attribute__((visibility("default")))
EXPORT void card_reset(int capability, int failing_launch, int failing_allocation,
                       bool stream_is_destroyed) {
  card = {capability, failing_launch, failing_allocation, stream_is_destroyed};
  cuda_on_cpu::before_launch = on_launch;
}
EXPORT int card_launches() { return card.launches; }
EXPORT int card_allocations() { return card.allocations; }
EXPORT int card_last_error() { return card.last_error; }
EXPORT int card_guards() { return guards; }
#undef EXPORT
}

// ---- CUDA ----

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr which, int) {
  *value = which == cudaDevAttrComputeCapabilityMajor ? card.capability / 10 : card.capability % 10;
  return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void* p, int value, size_t bytes, cudaStream_t) {
  check_guard("a memset");
  if (card.stream_is_destroyed) return card.last_error = kInvalidHandle;
  memset(p, value, bytes);
  return cudaSuccess;
}

cudaError_t cudaGetLastError() {
  const cudaError_t error = card.last_error;
  card.last_error = cudaSuccess;
  return error;
}

const char* cudaGetErrorString(cudaError_t error) {
  return error == kLaunchFailure   ? "unspecified launch failure"
         : error == kInvalidHandle ? "invalid resource handle"
                                   : "no error";
}

// ---- torch: these operators are linked to the functions here ----

extern "C" {
int32_t aoti_torch_device_type_cuda() { return aoti_torch_device_type_cpu(); }

AOTITorchError aoti_torch_empty_strided(int64_t dims, const int64_t* sizes, const int64_t* strides,
                                        int32_t dtype, int32_t device_type, int32_t device,
                                        AtenTensorHandle* tensor) {
  if (card.allocations++ == card.failing_allocation) return 1;
  static const auto torchs =
      reinterpret_cast<decltype(&aoti_torch_empty_strided)>(dlsym(RTLD_NEXT, __func__));
  return torchs(dims, sizes, strides, dtype, device_type, device, tensor);
}
AOTITorchError aoti_torch_get_current_cuda_stream(int32_t, void** stream) {
  *stream = nullptr;
  return 0;
}
AOTITorchError aoti_torch_create_device_guard(int32_t, DeviceGuardHandle* guard) {
  ++guards;
  *guard = reinterpret_cast<DeviceGuardHandle>(&guards);
  return 0;
}
AOTITorchError aoti_torch_delete_device_guard(DeviceGuardHandle) {
  --guards;
  return 0;
}
}
