// The activations: their names, their limits, their slopes, and where they saturate, over float,
// double or a SIMD vector.
//
// Adding one takes its class and its line in the list here, and its entry in
// initfast/ops/activations.py, which has the same table in plain PyTorch and what torch calls it.
//
// Values at infinities and NaN, and slopes at kinks, follow torch.nn.functional and its backwards. So
// do the zeros of tails: where torch's formula rounds to zero, so that a unit is dead in the net, the
// value here is zero; short of that it is accurate, as torch's is not.
#pragma once

#include <limits>
#include <type_traits>

#include "math/elementary.h"

namespace initfast::INITFAST_ISA {

// Each activation is a class template over V with
//   value(z)      the activation
//   slope(z)      its derivative
//   slope_at_result(y)  the same where the value is y, where torch's backward has it from there too,
//                 and so keeps y and not z; only of these
//   saturated(y)  whether the slope where the value is y is under 6 % of the steepest; the
//                 rectifiers, whose flat side is zero rather than a plateau, never saturate
// built from its parameters alpha and beta.
constexpr double kSaturatedSlope = 0.06;

template <class V>
struct NeverSaturates {};
template <class A, class V>
constexpr bool kSaturates = !std::is_base_of_v<NeverSaturates<V>, A>;

template <class A, class = void>
constexpr bool kHasSlopeAtResult = false;
template <class A>
constexpr bool kHasSlopeAtResult<A, std::void_t<decltype(&A::slope_at_result)>> = true;

// The derivative at z, or where the value is y, which `at` then is.
template <class A, class V>
INITFAST_INLINE V slope(const A& activation, V at, bool is_result) {
  if constexpr (kHasSlopeAtResult<A>) {
    if (is_result) return activation.slope_at_result(at);
  }
  return activation.slope(at);
}

// X(Type, "name"): the class template below and the name in torch.nn.functional. Where alpha and
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

template <class V>
struct Identity : NeverSaturates<V> {
  using S = ScalarOf<V>;
  INITFAST_INLINE Identity(S, S) {}
  INITFAST_INLINE V value(V z) const { return z; }
  INITFAST_INLINE V slope(V) const { return splat<V>(1); }
};

template <class V>
struct Relu : NeverSaturates<V> {
  using S = ScalarOf<V>;
  INITFAST_INLINE Relu(S, S) {}
  INITFAST_INLINE V value(V z) const { return max(z, splat<V>(0)); }
  INITFAST_INLINE V slope(V z) const { return select(z <= S(0), splat<V>(0), splat<V>(1)); }
  INITFAST_INLINE V slope_at_result(V y) const { return slope(y); }
};

template <class V>
struct LeakyRelu : NeverSaturates<V> {  // alpha: negative_slope
  using S = ScalarOf<V>;
  S alpha;
  INITFAST_INLINE LeakyRelu(S a, S) : alpha(a) {}
  INITFAST_INLINE V value(V z) const { return select(z > S(0), z, z * alpha); }
  INITFAST_INLINE V slope(V z) const { return select(z > S(0), splat<V>(1), splat<V>(alpha)); }
};

// scale * z above zero, scale * alpha * (e^(z / width) - 1) below: elu, selu and celu.
template <class V>
struct ExponentialLinear {
  using S = ScalarOf<V>;
  S scale, depth, width;  // the plateau is at -depth
  INITFAST_INLINE ExponentialLinear(S scale, S depth, S width)
      : scale(scale), depth(depth), width(width) {}
  INITFAST_INLINE V value(V z) const {
    return select(z > S(0), z * scale, depth * expm1_nonpositive(min(z / width, splat<V>(0))));
  }
  INITFAST_INLINE V slope(V z) const {
    return select(z > S(0), splat<V>(scale), depth / width * exp(min(z / width, splat<V>(0))));
  }
  INITFAST_INLINE auto saturated(V y) const {
    const S left = depth / width;
    const S steepest = left > scale ? left : scale;
    return (y < S(0)) & ((y + depth) / width < S(kSaturatedSlope) * steepest);
  }
};

template <class V>
struct Elu : ExponentialLinear<V> {  // alpha
  using S = ScalarOf<V>;
  INITFAST_INLINE Elu(S alpha, S) : ExponentialLinear<V>(1, alpha, 1) {}
};

template <class V>
struct Celu : ExponentialLinear<V> {  // alpha
  using S = ScalarOf<V>;
  INITFAST_INLINE Celu(S alpha, S) : ExponentialLinear<V>(1, alpha, alpha) {}
};

template <class V>
struct Selu : ExponentialLinear<V> {  // Klambauer et al. 2017
  using S = ScalarOf<V>;
  INITFAST_INLINE Selu(S, S)
      : ExponentialLinear<V>(S(1.0507009873554804934), S(1.7580993408473768599), 1) {}
};

// z clamped to [low, high]: hardtanh and relu6.
template <class V>
struct Clamped {
  using S = ScalarOf<V>;
  S low, high;
  INITFAST_INLINE Clamped(S low, S high) : low(low), high(high) {}
  INITFAST_INLINE V value(V z) const { return min(max(z, splat<V>(low)), splat<V>(high)); }
  INITFAST_INLINE V slope(V z) const {
    return select((z > low) & (z < high), splat<V>(1), splat<V>(0));
  }
  INITFAST_INLINE auto saturated(V y) const { return (y <= low) | (y >= high); }
};

template <class V>
struct Hardtanh : Clamped<V> {  // alpha: min_val, beta: max_val
  using S = ScalarOf<V>;
  INITFAST_INLINE Hardtanh(S low, S high) : Clamped<V>(low, high) {}
};

template <class V>
struct Relu6 : Clamped<V> {  // its zeros are zeros, as ReLU's are; it saturates at 6
  using S = ScalarOf<V>;
  INITFAST_INLINE Relu6(S, S) : Clamped<V>(0, 6) {}
  INITFAST_INLINE auto saturated(V y) const { return y >= S(6); }
};

template <class V>
struct Hardsigmoid {
  using S = ScalarOf<V>;
  INITFAST_INLINE Hardsigmoid(S, S) {}
  INITFAST_INLINE V value(V z) const {
    return min(max(z + S(3), splat<V>(0)), splat<V>(6)) / S(6);
  }
  INITFAST_INLINE V slope(V z) const {
    return select((z > S(-3)) & (z < S(3)), splat<V>(S(1) / S(6)), splat<V>(0));
  }
  INITFAST_INLINE auto saturated(V y) const { return (y <= S(0)) | (y >= S(1)); }
};

template <class V>
struct Hardswish : NeverSaturates<V> {
  using S = ScalarOf<V>;
  INITFAST_INLINE Hardswish(S, S) {}
  INITFAST_INLINE V value(V z) const {
    return z * min(max(z + S(3), splat<V>(0)), splat<V>(6)) / S(6);
  }
  INITFAST_INLINE V slope(V z) const {
    const V inside = z / S(3) + S(0.5);
    return select(z <= S(-3), splat<V>(0), select(z >= S(3), splat<V>(1), inside));
  }
};

template <class V>
struct Gelu : NeverSaturates<V> {  // Hendrycks & Gimpel 2016
  using S = ScalarOf<V>;
  // From here on down torch's erf (SLEEF's) is -1, and its gelu z (1 + erf) / 2.
  static constexpr S kGone = sizeof(S) == 8 ? S(-8.374388923067523) : S(-5.5430408f);
  INITFAST_INLINE Gelu(S, S) {}
  INITFAST_INLINE V value(V z) const {
    return z * select(z <= splat<V>(kGone), splat<V>(0), normal_cdf(z));
  }
  INITFAST_INLINE V slope(V z) const { return normal_cdf(z) + z * normal_pdf(z); }
};

template <class V>
struct GeluTanh : NeverSaturates<V> {  // the same paper's approximation
  using S = ScalarOf<V>;
  static constexpr S kRoot2OverPi = S(0.79788456080286535588), kCubic = S(0.044715);
  // Beyond, torch's tanh (SLEEF's) is 1.
  static constexpr S kFlat = sizeof(S) == 8 ? S(18.714973875) : S(8.664339742);
  INITFAST_INLINE GeluTanh(S, S) {}
  INITFAST_INLINE V gate(V z) const {
    const V inside = kRoot2OverPi * (z + kCubic * z * z * z);
    return select(abs(inside) > splat<V>(kFlat), copysign(splat<V>(1), inside), tanh(inside));
  }
  INITFAST_INLINE V value(V z) const { return S(0.5) * z * (S(1) + gate(z)); }
  INITFAST_INLINE V slope(V z) const {
    const V t = gate(z);
    const V inner = kRoot2OverPi * (S(1) + S(3) * kCubic * z * z);
    return S(0.5) * (S(1) + t) + S(0.5) * z * (S(1) - t * t) * inner;
  }
};

template <class V>
struct Silu : NeverSaturates<V> {
  using S = ScalarOf<V>;
  INITFAST_INLINE Silu(S, S) {}
  INITFAST_INLINE V value(V z) const { return z * sigmoid(z); }
  INITFAST_INLINE V slope(V z) const {
    const V s = sigmoid(z);
    return s * (S(1) + z * (S(1) - s));
  }
};

// z tanh(softplus(z)) (Misra 2019) = z n / (n + 2) with n = e^z (e^z + 2); past 20 the gate is 1.
template <class V>
struct Mish : NeverSaturates<V> {
  using S = ScalarOf<V>;
  INITFAST_INLINE Mish(S, S) {}
  INITFAST_INLINE V gate(V z) const {
    V e = exp(min(z, splat<V>(20)));
    constexpr S kLeast = S(sizeof(S) == 4 ? 0x1p-149 : 0x1p-1074);  // the least above zero
    e = select(e <= splat<V>(kLeast), splat<V>(0), e);
    const V n = e * (e + S(2));
    return n / (n + S(2));
  }
  INITFAST_INLINE V value(V z) const { return z * gate(z); }
  INITFAST_INLINE V slope(V z) const {
    const V g = gate(z);
    return g + z * sigmoid(z) * (S(1) - g * g);
  }
};

template <class V>
struct Softplus : NeverSaturates<V> {  // alpha: beta, beta: threshold, as torch names them
  using S = ScalarOf<V>;
  S sharpness, threshold;
  INITFAST_INLINE Softplus(S beta, S threshold) : sharpness(beta), threshold(threshold) {}
  INITFAST_INLINE V value(V z) const {
    return select(z * sharpness > threshold, z, softplus(z * sharpness) / sharpness);
  }
  INITFAST_INLINE V slope(V z) const {
    return select(z * sharpness > threshold, splat<V>(1), sigmoid(z * sharpness));
  }
};

template <class V>
struct Softsign {
  using S = ScalarOf<V>;
  INITFAST_INLINE Softsign(S, S) {}
  INITFAST_INLINE V value(V z) const { return z / (S(1) + abs(z)); }
  INITFAST_INLINE V slope(V z) const {
    const V d = S(1) + abs(z);
    return S(1) / (d * d);
  }
  INITFAST_INLINE auto saturated(V y) const {  // the slope is (1 - |y|)^2
    const V d = S(1) - abs(y);
    return d * d < S(kSaturatedSlope);
  }
};

template <class V>
struct Sigmoid {
  using S = ScalarOf<V>;
  INITFAST_INLINE Sigmoid(S, S) {}
  INITFAST_INLINE V value(V z) const { return sigmoid(z); }
  INITFAST_INLINE V slope(V z) const { return slope_at_result(sigmoid(z)); }
  INITFAST_INLINE V slope_at_result(V y) const { return y * (S(1) - y); }  // at most 1/4
  INITFAST_INLINE auto saturated(V y) const {
    return slope_at_result(y) < S(kSaturatedSlope / 4);
  }
};

template <class V>
struct LogSigmoid : NeverSaturates<V> {
  using S = ScalarOf<V>;
  INITFAST_INLINE LogSigmoid(S, S) {}
  INITFAST_INLINE V value(V z) const { return -softplus(-z); }
  INITFAST_INLINE V slope(V z) const { return sigmoid(-z); }
};

template <class V>
struct Tanh {
  using S = ScalarOf<V>;
  INITFAST_INLINE Tanh(S, S) {}
  INITFAST_INLINE V value(V z) const { return tanh(z); }
  INITFAST_INLINE V slope(V z) const { return slope_at_result(tanh(z)); }
  INITFAST_INLINE V slope_at_result(V y) const { return S(1) - y * y; }
  INITFAST_INLINE auto saturated(V y) const { return slope_at_result(y) < S(kSaturatedSlope); }
};

}  // namespace initfast::INITFAST_ISA
