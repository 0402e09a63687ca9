// The floating-point types that the kernels work on, as the operators pass them on.
#pragma once

namespace initfast {

// X(Name, Type, TorchName): the type in memory, half.h's for 16 bits, and torch's ScalarType.
#define INITFAST_FOR_EACH_DTYPE(X) \
  X(Float32, float, Float)         \
  X(Float64, double, Double)       \
  X(BFloat16, BFloat16, BFloat16)  \
  X(Float16, Float16, Half)

constexpr const char* kDtypes = "float32, float64, bfloat16 or float16";

enum class Dtype {
#define X(Name, Type, TorchName) k##Name,
  INITFAST_FOR_EACH_DTYPE(X)
#undef X
};

}  // namespace initfast
