// SSE2 on x86-64, NEON on aarch64: what every machine of the architecture has.
#define INITFAST_ISA baseline
#define INITFAST_LANES 4
#include "headers.h"

#include "kernels.inl"
