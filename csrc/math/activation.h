// The activations: their names, their limits, their slopes, and where they saturate, over float,
// double or a SIMD vector.
//
// Adding one takes its line in the list here, its class in piecewise_activations.h or
// smooth_activations.h, and its entry in initfast/ops/activations.py, which has the same table in
// plain PyTorch and what torch calls it.
//
// Values at infinities and NaN, slopes at kinks, and what an infinite gradient becomes, follow
// torch.nn.functional and its backwards (at NaN those of its vectors, as its remainders differ). So
// do the zeros of tails: where torch's formula rounds to zero, so that a unit is dead in the net, the
// value here is zero; short of that it is accurate, as torch's is not.
#pragma once

#include <type_traits>

#include "math/portable.h"

namespace initfast::INITFAST_ISA {

// Each activation is a class template over V with
//   value(z)           the activation
//   backward(grad, z)  grad times the derivative at z, and 0, not NaN, of an infinite grad where
//                      torch's backward writes 0 without multiplying
//   backward_at_result(grad, y)  the same where the value is y, where torch's backward has it from
//                      there too, and so keeps y and not z; only of these
//   saturated(y)       whether the slope where the value is y is under 6 % of the steepest; the
//                      rectifiers, whose flat side is zero rather than a plateau, never saturate
// built from its parameters alpha and beta.
constexpr double kSaturatedSlope = 0.06;

template <class V>
struct NeverSaturates {};
template <class A, class V>
constexpr bool kSaturates = !std::is_base_of_v<NeverSaturates<V>, A>;

template <class A, class = void>
constexpr bool kHasSlopeAtResult = false;
template <class A>
constexpr bool kHasSlopeAtResult<A, std::void_t<decltype(&A::backward_at_result)>> = true;

// The gradient at z, or where the value is y, which `at` then is.
template <class A, class V>
INITFAST_INLINE V backward(const A& activation, V grad, V at, bool is_result) {
  if constexpr (kHasSlopeAtResult<A>) {
    if (is_result) return activation.backward_at_result(grad, at);
  }
  return activation.backward(grad, at);
}

// X(Type, "name"): the class template and the name in torch.nn.functional. Where alpha and
// beta have limits there follow the limits and, in parts, what is said of numbers beyond them.
#define INITFAST_FOR_EACH_ACTIVATION(X)                                                \
  X(Identity, "identity")                                                              \
  X(Relu, "relu")                                                                      \
  X(LeakyRelu, "leaky_relu")                                                           \
  X(Elu, "elu")                                                                        \
  X(Selu, "selu")                                                                      \
  X(Celu, "celu", alpha > 0, "celu's alpha is ", alpha, "; expected a number above 0") \
  X(Relu6, "relu6")                                                                    \
  X(Gelu, "gelu")                                                                      \
  X(GeluTanh, "gelu_tanh")                                                             \
  X(Silu, "silu")                                                                      \
  X(Mish, "mish")                                                                      \
  X(Softplus, "softplus")                                                              \
  X(Softsign, "softsign")                                                              \
  X(Sigmoid, "sigmoid")                                                                \
  X(LogSigmoid, "logsigmoid")                                                          \
  X(Tanh, "tanh")                                                                      \
  X(Hardtanh, "hardtanh", alpha <= beta, "hardtanh's range is [", alpha, ", ", beta,   \
    "]; expected min_val <= max_val")                                                  \
  X(Hardsigmoid, "hardsigmoid")                                                        \
  X(Hardswish, "hardswish")

}  // namespace initfast::INITFAST_ISA
