// The kernels of one instruction set: included by baseline.cpp, avx2.cpp and avx512.cpp, each with
// its own INITFAST_ISA, INITFAST_LANES and compiler target.

#include "simd.h"
#include "simd_words.h"

#include "math/activation_kind.h"
#include "math/distribution.h"
#include "math/half.h"
#include "math/moments.h"
#include "math/philox.h"
#include "math/unit_moments.h"
#include "kernels.h"

namespace initfast::cpu::INITFAST_ISA {

using namespace initfast::INITFAST_ISA;

namespace {

#include "run.inl"
#include "storage.inl"
#include "unit_moments.inl"

#include "householder.inl"
#include "matrix_product.inl"
#include "linear_act.inl"
#include "linear_act_backward.inl"
#include "pointwise.inl"
#include "sample.inl"
#include "zero_rows.inl"

}  // namespace

const Kernels& kernels() {
  static const Kernels table = {INITFAST_STRING(INITFAST_ISA), moments, unit_sums, unit_merge, act,
                                act_backward, linear_act, linear_act_backward, sample, zero_rows,
                                householder_blocks, householder_strips};
  return table;
}

}  // namespace initfast::cpu::INITFAST_ISA
