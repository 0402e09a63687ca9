// Which activation, as the operators pass it on.
#pragma once

namespace initfast {

// X(Type, "name"): the class template in activation.h and the name in torch.nn.functional.
#define INITFAST_FOR_EACH_ACTIVATION(X)                                                       \
  X(Identity, "identity") X(Relu, "relu") X(LeakyRelu, "leaky_relu") X(Elu, "elu")            \
  X(Selu, "selu") X(Celu, "celu") X(Relu6, "relu6") X(Gelu, "gelu") X(GeluTanh, "gelu_tanh")  \
  X(Silu, "silu") X(Mish, "mish") X(Softplus, "softplus") X(Softsign, "softsign")             \
  X(Sigmoid, "sigmoid") X(LogSigmoid, "logsigmoid") X(Tanh, "tanh") X(Hardtanh, "hardtanh")   \
  X(Hardsigmoid, "hardsigmoid") X(Hardswish, "hardswish")

enum class ActivationKind {
#define X(Type, name) k##Type,
  INITFAST_FOR_EACH_ACTIVATION(X)
#undef X
};

// alpha and beta: what the activation's class template says they are.
struct Activation {
  ActivationKind kind;
  double alpha;
  double beta;
};

}  // namespace initfast
