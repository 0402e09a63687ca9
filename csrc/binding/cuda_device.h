// What a CUDA operator needs beside its operands: its device, and memory for its statistics.
#pragma once

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>

#include <cuda_runtime_api.h>

#include <optional>
#include <vector>

#include "cuda/kernels.h"
#include "binding/tensors.h"

namespace initfast {

// The device of a tensor made current, and its current stream.
class Device {
 public:
  Device(const Tensor& t, const char* op, const char* argument)
      : index_(checked_index(t, op, argument)), guard_(index_), op_(op) {
    void* stream = nullptr;
    STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(index_, &stream));
    stream_ = static_cast<cudaStream_t>(stream);
    capability_ = 10 * attribute(cudaDevAttrComputeCapabilityMajor) +
                  attribute(cudaDevAttrComputeCapabilityMinor);
    STD_TORCH_CHECK(capability_ >= 75, "initfast::", op, ": cuda:", index_, " has compute capability ",
                    capability_ / 10, ".", capability_ % 10, "; expected 7.5 or later");
  }

  cudaStream_t stream() const { return stream_; }
  bool has_tensor_cores_for_bfloat16() const { return capability_ >= 80; }

  void check(cudaError_t error, const char* what) const {
    if (error != cudaSuccess) (void)cudaGetLastError();  // or the next operator of torch's finds it
    STD_TORCH_CHECK(error == cudaSuccess, "initfast::", op_, ": ", what, " failed on cuda:", index_,
                    ": ", cudaGetErrorString(error));
  }
  void zero(void* p, size_t bytes) const {
    if (bytes > 0) check(cudaMemsetAsync(p, 0, bytes, stream_), "zeroing memory");
  }

 private:
  static int32_t checked_index(const Tensor& t, const char* op, const char* argument) {
    STD_TORCH_CHECK(t.is_cuda(), "initfast::", op, ": ", argument,
                    " is not on a CUDA device, but another argument is; expected one device");
    return int32_t(t.get_device_index());
  }
  int attribute(cudaDeviceAttr which) const {
    int value = 0;
    check(cudaDeviceGetAttribute(&value, which, index_), "asking for the compute capability");
    return value;
  }

  int32_t index_;
  torch::stable::accelerator::DeviceGuard guard_;
  const char* op_;
  cudaStream_t stream_ = nullptr;
  int capability_ = 0;
};

// Live units and a ticket, zeroed by one memset; the moments of the result; partial moments. Kernels
// of one block, which look at no ticket, and that mark no units have nothing zeroed.
class Statistics {
 public:
  Statistics(const Device& device, const Tensor& like, int64_t units, std::vector<int64_t> moments_sizes,
             bool alone = false)
      : zeroed_(new_tensor({ticket_place(units) + kTicketBytes}, ScalarType::Bool, like)),
        moments_(new_tensor(moments_sizes, ScalarType::Double, like)),
        units_(units) {
    if (!alone || units > 0) device.zero(zeroed_.mutable_data_ptr(), size_t(zeroed_.numel()));
  }

  Tensor moments() const { return moments_; }
  Tensor live() { return torch::stable::narrow(zeroed_, 0, 0, units_); }
  uint8_t* live_flags(int64_t unit = 0) {
    return static_cast<uint8_t*>(zeroed_.mutable_data_ptr()) + unit;
  }
  // For a kernel of so many blocks that makes `count` rows of moments, the first of them `row`.
  // Kernels of one stream may use the same room one after the other.
  cuda::Reduction reduction(int64_t count, int64_t row = 0, int64_t blocks = cuda::kMaxBlocks) {
    const int64_t bytes = blocks > 1 ? blocks * count * int64_t(sizeof(Moments)) : 0;
    if (bytes > room_) {
      partial_ = new_tensor({bytes}, ScalarType::Byte, zeroed_);
      room_ = bytes;
    }
    return {partial_ ? static_cast<Moments*>(partial_->mutable_data_ptr()) : nullptr,
            reinterpret_cast<unsigned*>(live_flags(ticket_place(units_))),
            static_cast<double*>(moments_.mutable_data_ptr()) + kColumns * row};
  }

 private:
  static constexpr int64_t kTicketBytes = 4;
  static int64_t ticket_place(int64_t units) { return (units + 3) / 4 * 4; }

  Tensor zeroed_, moments_;
  std::optional<Tensor> partial_;
  int64_t units_, room_ = 0;
};

}  // namespace initfast
