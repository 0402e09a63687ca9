// Switching between fibers, and what the sanitizers are told about it: through hooks that are absent
// (weak) in a build without them.
#include "state.h"

#include <cstdlib>

extern "C" {
#define WEAK __attribute__((weak))
WEAK void* __tsan_get_current_fiber();
WEAK void* __tsan_create_fiber(unsigned);
WEAK void __tsan_destroy_fiber(void*);
WEAK void __tsan_switch_to_fiber(void*, unsigned);
WEAK void __tsan_acquire(void*);
WEAK void __tsan_release(void*);
WEAK void __sanitizer_start_switch_fiber(void**, const void*, size_t);
WEAK void __sanitizer_finish_switch_fiber(void*, const void**, size_t*);
WEAK void __asan_unpoison_memory_region(const volatile void*, size_t);
#undef WEAK

// Saves the callee-saved registers on the stack, stores the stack pointer in *from and goes on
// where `to` was left (System V ABI, x86-64).
void cuda_on_cpu_switch(void** from, void* to);
}
asm(R"(
.text
.globl cuda_on_cpu_switch
.hidden cuda_on_cpu_switch
.type cuda_on_cpu_switch, @function
cuda_on_cpu_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size cuda_on_cpu_switch, .-cuda_on_cpu_switch
)");

namespace cuda_on_cpu {

const Thread* current_thread = nullptr;
Launch* launch_now = nullptr;

namespace {

constexpr int kSavedRegisters = 6;
constexpr unsigned kNoOrder = 1;  // __tsan_switch_to_fiber_no_sync

bool under_asan() { return __sanitizer_start_switch_fiber != nullptr && !under_tsan(); }

}  // namespace

bool under_tsan() { return __tsan_create_fiber != nullptr; }

void prepare_stack(Fiber* fiber, char* stack) {
  fiber->stack = stack;
  void** top = reinterpret_cast<void**>(stack + kStackBytes - 64);
  *--top = nullptr;  // where fiber_main would return to
  *--top = reinterpret_cast<void*>(fiber_main);
  for (int i = 0; i < kSavedRegisters; ++i) *--top = nullptr;
  fiber->stack_pointer = top;
}

void fiber_main() {
  Launch* launch = launch_now;
  if (under_asan()) {
    __sanitizer_finish_switch_fiber(nullptr, &launch->host_stack, &launch->host_stack_bytes);
  }
  Fiber* fiber = launch->running;
  acquire(fiber->block->start.get());
  if (under_tsan()) be_fiber();
  (*launch->kernel)();
  if (under_tsan()) be_host();
  release(launch->end.get());
  fiber->state = State::kDone;
  Block* block = fiber->block;
  --block->live;
  if (block->live > 0 && block->at_barrier == block->live) open_barrier(block);
  to_host();
  std::abort();
}

void to_host() {
  Fiber* fiber = launch_now->running;
  if (under_asan()) {
    __sanitizer_start_switch_fiber(
        fiber->state == State::kDone ? nullptr : &fiber->asan_fake_stack, launch_now->host_stack,
        launch_now->host_stack_bytes);
  }
  cuda_on_cpu_switch(&fiber->stack_pointer, launch_now->host_stack_pointer);
  if (under_asan()) {
    __sanitizer_finish_switch_fiber(fiber->asan_fake_stack, &launch_now->host_stack,
                                    &launch_now->host_stack_bytes);
  }
}

void to_fiber(Fiber* fiber) {
  launch_now->running = fiber;
  current_thread = &fiber->thread;
  if (under_asan()) {
    __sanitizer_start_switch_fiber(&launch_now->host_fake_stack, fiber->stack, kStackBytes);
  }
  cuda_on_cpu_switch(&launch_now->host_stack_pointer, fiber->stack_pointer);
  if (under_asan()) __sanitizer_finish_switch_fiber(launch_now->host_fake_stack, nullptr, nullptr);
}

void forget_stacks(Mapping stacks) {
  if (under_asan()) __asan_unpoison_memory_region(stacks.data, stacks.bytes);
}

void* new_tsan_fiber() { return __tsan_create_fiber(0); }
void* current_tsan_fiber() { return under_tsan() ? __tsan_get_current_fiber() : nullptr; }

void be_fiber() { __tsan_switch_to_fiber(launch_now->running->tsan, kNoOrder); }
void be_host() { __tsan_switch_to_fiber(launch_now->host_tsan, kNoOrder); }

AsHost::AsHost() {
  if (under_tsan()) be_host();
}
AsHost::~AsHost() {
  if (under_tsan()) be_fiber();
}

void host_acquire(void* clock) {
  if (under_tsan()) __tsan_acquire(clock);
}
void host_release(void* clock) {
  if (under_tsan()) __tsan_release(clock);
}

void acquire(void* clock) {
  if (!under_tsan()) return;
  be_fiber();
  __tsan_acquire(clock);
  be_host();
}
void release(void* clock) {
  if (!under_tsan()) return;
  be_fiber();
  __tsan_release(clock);
  be_host();
}

void join_clock(char* from, char* to) {
  void* carrier = __tsan_create_fiber(0);
  __tsan_switch_to_fiber(carrier, kNoOrder);
  __tsan_acquire(from);
  __tsan_release(to);
  be_host();
  __tsan_destroy_fiber(carrier);
}

}  // namespace cuda_on_cpu
