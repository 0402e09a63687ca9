// The floating-point types that the kernels work on, as the operators pass them on.
#pragma once

namespace initfast {

enum class Dtype { kFloat32, kFloat64, kBFloat16, kFloat16 };

}  // namespace initfast
