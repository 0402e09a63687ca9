// A card that is not there: the operators of csrc/binding/ops_cuda.cpp take the CPU's tensors for its own.
//
// Stands in for the few functions of torch and CUDA that need a device. A test says what the card is
// and which launch fails, and reads how many there were.
#include <torch/csrc/inductor/aoti_torch/c/shim.h>

#include <cstring>
#include <stdexcept>

#include "cuda_runtime_api.h"

namespace {

constexpr cudaError_t kLaunchFailure = 719;

struct Card {
  int capability = 90;
  int failing_launch = -1;  // counted from 0
  int launches = 0;
  cudaError_t last_error = cudaSuccess;
} card;
int guards = 0;  // device guards alive

void check_guard(const char* what) {
  if (guards == 0) throw std::runtime_error(std::string(what) + " without a device guard");
}

cudaError_t on_launch() {
  check_guard("a launch");
  if (card.launches++ == card.failing_launch) card.last_error = kLaunchFailure;
  return card.last_error;
}

}  // namespace

// ---- for the tests ----

extern "C" {
#define EXPORT __attribute__((visibility("default")))
EXPORT void card_reset(int capability, int failing_launch) {
  card = {capability, failing_launch};
  cuda_on_cpu::before_launch = on_launch;
}
EXPORT int card_launches() { return card.launches; }
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
  memset(p, value, bytes);
  return cudaSuccess;
}

cudaError_t cudaGetLastError() {
  const cudaError_t error = card.last_error;
  card.last_error = cudaSuccess;
  return error;
}

const char* cudaGetErrorString(cudaError_t error) {
  return error == kLaunchFailure ? "unspecified launch failure" : "no error";
}

// ---- torch: these operators are linked to the functions here ----

extern "C" {
int32_t aoti_torch_device_type_cuda() { return aoti_torch_device_type_cpu(); }

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
