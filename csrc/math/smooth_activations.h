// The activations made of exponentials and quotients. What each class has: activation.h.
#pragma once

#include "math/activation.h"
#include "math/elementary.h"

namespace initfast::INITFAST_ISA {

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
  INITFAST_INLINE V backward(V grad, V z) const {
    // In torch's order: where the exponential is subnormal, the slope alone may be zero.
    const V steepest = select(z > S(0), splat<V>(scale), splat<V>(depth / width));
    return grad * steepest * exp(min(z / width, splat<V>(0)));
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

template <class V>
struct Gelu : NeverSaturates<V> {  // Hendrycks & Gimpel 2016
  using S = ScalarOf<V>;
  // From here on down torch's erf (SLEEF's) is -1, and its gelu z (1 + erf) / 2.
  static constexpr S kGone = sizeof(S) == 8 ? S(-8.374388923067523) : S(-5.5430408f);
  INITFAST_INLINE Gelu(S, S) {}
  INITFAST_INLINE V value(V z) const {
    return z * select(z <= splat<V>(kGone), splat<V>(0), normal_cdf(z));
  }
  INITFAST_INLINE V backward(V grad, V z) const {
    return grad * (normal_cdf(z) + z * normal_pdf(z));
  }
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
  INITFAST_INLINE V backward(V grad, V z) const {
    const V t = gate(z);
    const V inner = kRoot2OverPi * (S(1) + S(3) * kCubic * z * z);
    return grad * (S(0.5) * (S(1) + t) + S(0.5) * z * (S(1) - t * t) * inner);
  }
};

template <class V>
struct Silu : NeverSaturates<V> {
  using S = ScalarOf<V>;
  INITFAST_INLINE Silu(S, S) {}
  INITFAST_INLINE V value(V z) const { return z * sigmoid(z); }
  INITFAST_INLINE V backward(V grad, V z) const {
    const V s = sigmoid(z);
    return grad * (s * (S(1) + z * (S(1) - s)));
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
  INITFAST_INLINE V backward(V grad, V z) const {
    const V g = gate(z);
    return grad * (g + z * sigmoid(z) * (S(1) - g * g));
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
  INITFAST_INLINE V backward(V grad, V z) const {
    return select(z * sharpness > threshold, grad, grad * logistic(z * sharpness));
  }
};

template <class V>
struct Softsign {
  using S = ScalarOf<V>;
  INITFAST_INLINE Softsign(S, S) {}
  INITFAST_INLINE V value(V z) const { return z / (S(1) + abs(z)); }
  // torch takes the quotient rule's two terms apart: infinity less infinity, of grad and of z.
  INITFAST_INLINE V backward(V grad, V z) const {
    const V d = S(1) + abs(z);
    return grad * (S(1) / (d * d)) + ((grad - grad) + (z - z));
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
  INITFAST_INLINE V backward(V grad, V z) const { return backward_at_result(grad, sigmoid(z)); }
  INITFAST_INLINE V backward_at_result(V grad, V y) const { return grad * slope_at_result(y); }
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
  INITFAST_INLINE V backward(V grad, V z) const { return grad * logistic(-z); }
};

template <class V>
struct Tanh {
  using S = ScalarOf<V>;
  INITFAST_INLINE Tanh(S, S) {}
  INITFAST_INLINE V value(V z) const { return tanh(z); }
  INITFAST_INLINE V backward(V grad, V z) const { return backward_at_result(grad, tanh(z)); }
  INITFAST_INLINE V backward_at_result(V grad, V y) const { return grad * slope_at_result(y); }
  INITFAST_INLINE V slope_at_result(V y) const { return S(1) - y * y; }
  INITFAST_INLINE auto saturated(V y) const { return slope_at_result(y) < S(kSaturatedSlope); }
};

}  // namespace initfast::INITFAST_ISA
