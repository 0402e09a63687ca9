#include "isa.h"

#include <cstdlib>
#include <string>

namespace initfast::cpu {

namespace baseline {
const Kernels& kernels();
}
namespace avx2 {
const Kernels& kernels();
}
namespace avx512 {
const Kernels& kernels();
}

namespace {

struct InstructionSet {
  const char* name;
  bool supported;
  const Kernels& (*kernels)();
};

struct Choice {
  const Kernels* kernels = nullptr;
  std::string error;
};

Choice choose() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                        __builtin_cpu_supports("f16c");
  const bool has_avx512 = has_avx2 && __builtin_cpu_supports("avx512f") &&
                          __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
                          __builtin_cpu_supports("avx512vl");
  const InstructionSet sets[] = {{"avx512", has_avx512, avx512::kernels},
                                 {"avx2", has_avx2, avx2::kernels},
                                 {"baseline", true, baseline::kernels}};
#else
  const InstructionSet sets[] = {{"baseline", true, baseline::kernels}};
#endif
  const char* asked = std::getenv("INITFAST_ISA");
  const bool any = asked == nullptr || *asked == '\0';
  std::string known;
  for (const InstructionSet& set : sets) {
    if (any ? set.supported : set.name == std::string(asked)) {
      if (set.supported) return {&set.kernels(), ""};
      return {nullptr, "INITFAST_ISA=" + std::string(asked) + ": this machine lacks that instruction set"};
    }
    known += (known.empty() ? "" : ", ") + std::string(set.name);
  }
  return {nullptr, "INITFAST_ISA=" + std::string(asked) + ": expected one of " + known};
}

const Choice& choice() {
  static const Choice made = choose();
  return made;
}

}  // namespace

const Kernels* chosen_kernels() { return choice().kernels; }

const char* isa_error() { return choice().kernels ? nullptr : choice().error.c_str(); }

}  // namespace initfast::cpu

extern "C" {
__attribute__((visibility("default"))) const char* initfast_isa() {
  const auto* kernels = initfast::cpu::chosen_kernels();
  return kernels ? kernels->name : nullptr;
}
__attribute__((visibility("default"))) const char* initfast_isa_error() {
  return initfast::cpu::isa_error();
}
}
