// The activations made of straight lines and parabolas. What each class has: activation.h.
#pragma once

#include "math/activation.h"

namespace initfast::INITFAST_ISA {

template <class V>
struct Identity : NeverSaturates<V> {
  using S = ScalarOf<V>;
  INITFAST_INLINE Identity(S, S) {}
  INITFAST_INLINE V value(V z) const { return z; }
  INITFAST_INLINE V backward(V grad, V) const { return grad; }
};

template <class V>
struct Relu : NeverSaturates<V> {
  using S = ScalarOf<V>;
  INITFAST_INLINE Relu(S, S) {}
  INITFAST_INLINE V value(V z) const { return max(z, splat<V>(0)); }
  INITFAST_INLINE V backward(V grad, V z) const { return select(z <= S(0), splat<V>(0), grad); }
  INITFAST_INLINE V backward_at_result(V grad, V y) const { return backward(grad, y); }
};

template <class V>
struct LeakyRelu : NeverSaturates<V> {  // alpha: negative_slope
  using S = ScalarOf<V>;
  S alpha;
  INITFAST_INLINE LeakyRelu(S a, S) : alpha(a) {}
  INITFAST_INLINE V value(V z) const { return select(z > S(0), z, z * alpha); }
  INITFAST_INLINE V backward(V grad, V z) const { return select(z > S(0), grad, grad * alpha); }
};

// z clamped to [low, high]: hardtanh and relu6.
template <class V>
struct Clamped {
  using S = ScalarOf<V>;
  S low, high;
  INITFAST_INLINE Clamped(S low, S high) : low(low), high(high) {}
  INITFAST_INLINE V value(V z) const { return min(max(z, splat<V>(low)), splat<V>(high)); }
  INITFAST_INLINE V backward(V grad, V z) const {
    return select((z > low) & (z < high), grad, splat<V>(0));
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
  INITFAST_INLINE V backward(V grad, V z) const {
    return select((z > S(-3)) & (z < S(3)), grad * (S(1) / S(6)), splat<V>(0));
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
  INITFAST_INLINE V backward(V grad, V z) const {
    const V inside = z / S(3) + S(0.5);
    return select(z <= S(-3), splat<V>(0), select(z >= S(3), grad, grad * inside));
  }
};

}  // namespace initfast::INITFAST_ISA
