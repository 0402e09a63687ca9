// Which instruction set's kernels run: the widest the machine has, or what INITFAST_ISA names.
#pragma once

#include "kernels.h"

namespace initfast::cpu {

// The chosen kernels, or null when INITFAST_ISA asks for what cannot be had; isa_error() says why.
const Kernels* chosen_kernels();
const char* isa_error();

}  // namespace initfast::cpu
