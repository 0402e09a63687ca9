// Which activation, as the operators pass it on, and from there to its class.
#pragma once

#include "math/piecewise_activations.h"
#include "math/smooth_activations.h"

namespace initfast {

enum class ActivationKind {
#define X(Type, ...) k##Type,
  INITFAST_FOR_EACH_ACTIVATION(X)
#undef X
};

// alpha and beta: what the activation's class template says they are. slope_at_result: whether a
// backward gets y in the place of z.
struct Activation {
  ActivationKind kind;
  double alpha;
  double beta;
  bool slope_at_result = false;
};

}  // namespace initfast

namespace initfast::INITFAST_ISA {

// A class template as a value: `typename decltype(family)::template Over<V>` is the class.
template <template <class> class A>
struct ActivationFamily {
  template <class V>
  using Over = A<V>;
};

// Call f with the activation's family: the switch that every kernel shares.
template <class F>
INITFAST_INLINE void with_activation(ActivationKind kind, F f) {
  switch (kind) {
#define X(Type, ...)            \
  case ActivationKind::k##Type: \
    return f(ActivationFamily<Type>{});
    INITFAST_FOR_EACH_ACTIVATION(X)
#undef X
  }
}

// Whether the activation has a backward_at_result.
INITFAST_INLINE bool has_slope_at_result(ActivationKind kind) {
  bool has = false;
  with_activation(kind, [&](auto family) {
    has = kHasSlopeAtResult<typename decltype(family)::template Over<double>>;
  });
  return has;
}

}  // namespace initfast::INITFAST_ISA
