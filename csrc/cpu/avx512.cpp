#if defined(__x86_64__)
#define INITFAST_ISA avx512
#define INITFAST_LANES 16
#define INITFAST_HAS_FMA 1
#include "headers.h"

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")
#endif

#include "kernels.inl"

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
