// What the operators of every device need of torch: reading arguments, and memory.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <optional>
#include <string>
#include <vector>

#include "math/activation_kind.h"
#include "math/dtype.h"

#ifndef STABLE_TORCH_ERROR_CODE_CHECK  // torch 2.10 has it without the message of the error
#define STABLE_TORCH_ERROR_CODE_CHECK TORCH_ERROR_CODE_CHECK
#endif

namespace initfast {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

// ---- arguments ----

// The limits of an activation's numbers, as its line in the list gives them.
inline void check_limits() {}
template <class... Words>
void check_limits(bool kept, const Words&... words) {
  STD_TORCH_CHECK(kept, "initfast: ", words...);
}

inline Activation parse_activation(const std::string& name, double alpha, double beta) {
#define X(Type, spelling, ...)                     \
  if (name == spelling) {                          \
    check_limits(__VA_ARGS__);                     \
    return {ActivationKind::k##Type, alpha, beta}; \
  }
  INITFAST_FOR_EACH_ACTIVATION(X)
#undef X
  std::string known;
#define X(Type, spelling, ...) known += known.empty() ? spelling : ", " spelling;
  INITFAST_FOR_EACH_ACTIVATION(X)
#undef X
  STD_TORCH_CHECK(false, "initfast: unknown activation '", name, "'; expected one of ", known);
}

template <class Sizes>
std::string shape_text(const Sizes& sizes) {
  std::string s;
  for (const int64_t size : sizes) s += (s.empty() ? "" : ", ") + std::to_string(size);
  return "[" + s + "]";
}
inline std::string shape_of(const Tensor& t) { return shape_text(t.sizes()); }

// A tensor whose elements lie beyond its storage, or that has none, is an error and not a crash: FSDP
// takes the memory of weights away, and untyped_storage().resize_() that of anything.
inline void check_memory(const Tensor& t, const char* op, const char* argument) {
  int64_t bytes = 0, last = 0;
  STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_get_storage_size(t.get(), &bytes));
  STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_get_storage_offset(t.get(), &last));
  const auto sizes = t.sizes(), strides = t.strides();
  for (size_t d = 0; d < sizes.size(); ++d) {
    if (sizes[d] == 0) return;
    last += (sizes[d] - 1) * strides[d];
  }
  const int64_t needed = (last + 1) * int64_t(t.element_size());
  STD_TORCH_CHECK(needed <= bytes, "initfast::", op, ": ", argument, " has shape ", shape_of(t),
                  " and needs ", needed, " bytes of memory, but its storage has ", bytes,
                  "; expected a tensor whose memory was not given away");
}

// Of a tensor that a kernel can read.
inline Dtype dtype_of(const Tensor& t, const char* op, const char* argument) {
  check_memory(t, op, argument);
  switch (t.scalar_type()) {
#define X(Name, Type, TorchName) \
  case ScalarType::TorchName:    \
    return Dtype::k##Name;
    INITFAST_FOR_EACH_DTYPE(X)
#undef X
    default:
      STD_TORCH_CHECK(false, "initfast::", op, ": ", argument, " has an unsupported dtype (",
                      torch::headeronly::toString(t.scalar_type()), "); expected ", kDtypes);
  }
}

// b beside a, which was checked: that a kernel can read both.
inline void check_same(const Tensor& a, const Tensor& b, const char* op, const char* a_name,
                const char* b_name) {
  STD_TORCH_CHECK(a.scalar_type() == b.scalar_type(), "initfast::", op, ": ", a_name, " is ",
                  torch::headeronly::toString(a.scalar_type()), " but ", b_name, " is ",
                  torch::headeronly::toString(b.scalar_type()), "; expected one dtype");
  STD_TORCH_CHECK(a.device() == b.device(), "initfast::", op, ": ", a_name, " and ", b_name,
                  " are on different devices; expected one device");
  check_memory(b, op, b_name);
}

// Which dimension of x counts its units, from 0, and how many they are.
struct UnitDim {
  int64_t dim, units;

  // How far apart in memory units of a dense x lie.
  int64_t inner(const Tensor& x) const { return units <= 1 ? x.numel() : x.stride(dim); }
};

inline UnitDim unit_dim_of(const Tensor& x, int64_t unit_dim, const char* op, const char* argument) {
  const int64_t dims = x.dim();
  STD_TORCH_CHECK(dims == 0 || (-dims <= unit_dim && unit_dim < dims), "initfast::", op,
                  ": unit_dim is ", unit_dim, " but ", argument, " has shape ", shape_of(x));
  const int64_t dim = unit_dim < 0 ? unit_dim + dims : unit_dim;
  return {dim, dims == 0 ? 1 : x.size(dim)};
}

// ---- memory ----

// A tensor of its own memory, on the device of `like`.
inline Tensor new_tensor(const std::vector<int64_t>& sizes, const std::vector<int64_t>& strides,
                         ScalarType dtype, const Tensor& like) {
  int32_t device_type = 0;
  STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_type(like.get(), &device_type));
  AtenTensorHandle handle = nullptr;
  const auto failed = aoti_torch_empty_strided(
      int64_t(sizes.size()), sizes.data(), strides.data(),
      int32_t(dtype), device_type, like.get_device_index(), &handle);
  // Of torch's exception there is only that there was one: torch prints the rest.
  STD_TORCH_CHECK(!failed, "initfast: torch has no memory for a tensor of shape ", shape_text(sizes));
  return Tensor(handle);
}

// Likewise, contiguous.
inline Tensor new_tensor(const std::vector<int64_t>& sizes, ScalarType dtype, const Tensor& like) {
  std::vector<int64_t> strides(sizes.size());
  int64_t stride = 1;
  for (size_t d = sizes.size(); d-- > 0;) {
    strides[d] = stride;
    stride *= sizes[d] > 1 ? sizes[d] : 1;
  }
  return new_tensor(sizes, strides, dtype, like);
}

template <class Array>
std::vector<int64_t> to_vector(const Array& a) {
  return std::vector<int64_t>(a.begin(), a.end());
}

// A tensor of its own memory, laid out as t, which is dense.
inline Tensor new_like(const Tensor& t) {
  return new_tensor(to_vector(t.sizes()), to_vector(t.strides()), t.scalar_type(), t);
}

// Whether the tensor fills one block of memory, each number once, in whatever order of dimensions.
inline bool is_dense(const Tensor& t) {
  if (t.is_contiguous()) return true;
  int64_t expected = 1;
  std::vector<bool> seen(t.dim(), false);
  for (int64_t found = 0; found < t.dim(); ++found) {
    int64_t next = -1;
    for (int64_t d = 0; d < t.dim() && next < 0; ++d) {
      if (!seen[d] && (t.size(d) == 1 || t.stride(d) == expected)) next = d;
    }
    if (next < 0) return false;
    seen[next] = true;
    if (t.size(next) != 1) expected *= t.size(next);
  }
  return true;
}

// The tensor, or a copy of it laid out as torch.empty_like lays out: what the fakes promise.
inline Tensor as_dense(const Tensor& t) {
  if (is_dense(t)) return t;
  Tensor dense = torch::stable::empty_like(t);
  return torch::stable::copy_(dense, t);
}

inline bool same_strides(const Tensor& a, const Tensor& b) {
  for (int64_t d = 0; d < a.dim(); ++d) {
    if (a.size(d) != 1 && a.stride(d) != b.stride(d)) return false;
  }
  return true;
}

}  // namespace initfast
