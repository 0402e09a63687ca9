// The host runtime's own state: one launch, its resident blocks, their fibers.
//
// What stops a kernel, with the place in its source:
//   - threads of a block that meet at different __syncthreads, lanes of a warp at different shuffles;
//   - a mask without the lane itself, or with a lane that has exited or does not exist;
//   - a deadlock.
// What it makes visible:
//   - shared memory has its exact size and starts as NaN;
//   - to ThreadSanitizer every CUDA thread is a thread of its own, and only __syncthreads,
//     __syncwarp, the launch, and a fence before and after an atomic order two of them. A shuffle
//     orders nothing. So a race is found whatever order the fibers happened to run in.
//
// The runtime is compiled without sanitizers; fibers.cpp tells them what happens.
#pragma once

#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "runtime.h"

#undef threadIdx
#undef blockIdx
#undef blockDim
#undef gridDim

namespace cuda_on_cpu {

constexpr size_t kStackBytes = 256 << 10;
constexpr size_t kMaxShared = 227 << 10;
// ThreadSanitizer has 256 clocks. Where more threads share them it takes some for one another, and
// races hide: a larger launch is refused.
constexpr unsigned kMaxTsanThreads = 224;

// An address that ThreadSanitizer attaches a clock to.
using Clock = std::unique_ptr<char>;
inline Clock new_clock() { return Clock(new char); }

enum class State { kReady, kAtBarrier, kAtWarpOperation, kDone };

struct Block;

struct Fiber {
  Thread thread;
  Block* block = nullptr;
  State state = State::kReady;
  Place waits_at{"", 0};
  void* stack_pointer = nullptr;
  char* stack = nullptr;
  void* tsan = nullptr;
  void* asan_fake_stack = nullptr;
  // The clock at the last fence, by scope (block, device), and atomics met since.
  char* fenced[2] = {nullptr, nullptr};
  std::vector<const void*> atomics_since_fence;
};

struct Mapping {
  char* data;
  size_t bytes;
};

// The lanes of one mask on their way through one warp operation.
struct Rendezvous {
  Place place;
  bool orders_memory;
  unsigned arrived = 0;
  uint32_t word[32] = {};
  Clock clock = new_clock();
};

struct Block {
  uint3 index;
  unsigned serial;
  std::vector<Fiber> fibers;
  Mapping stacks;
  unsigned live = 0, at_barrier = 0;
  Place barrier{nullptr, 0};
  int barrier_parity = 0;
  Clock barrier_clock[2] = {new_clock(), new_clock()};
  Clock start = new_clock();
  std::map<std::pair<unsigned, unsigned>, std::shared_ptr<Rendezvous>> meetings;  // by warp, mask
  std::map<const void*, char*> shared;
  Mapping arena{nullptr, 0};  // ThreadSanitizer: shared memory, mapped before the fibers exist
  size_t shared_used = 0;
  std::vector<char*> allocations;
  size_t dynamic_bytes = 0;
};

struct Launch {
  const std::function<void()>* kernel;
  std::string error;
  Fiber* running = nullptr;
  void* host_stack_pointer = nullptr;
  void* host_tsan = nullptr;
  void* host_fake_stack = nullptr;
  const void* host_stack = nullptr;
  size_t host_stack_bytes = 0;
  std::mt19937 random;
  Clock end = new_clock();
  std::vector<Clock> clocks;
  std::map<std::pair<const void*, unsigned>, char*> atomic_clock;  // by address and scope
};
extern Launch* launch_now;

// ---- fibers.cpp: switching, and what the sanitizers are told ----

bool under_tsan();
void prepare_stack(Fiber* fiber, char* stack);  // so that the first switch enters fiber_main
void fiber_main();
void to_fiber(Fiber* fiber);
void to_host();
void* new_tsan_fiber();
void* current_tsan_fiber();
void forget_stacks(Mapping stacks);

// For the scope of a runtime function ThreadSanitizer sees the runtime, not the CUDA thread that
// called it: the runtime's own use of the heap is no race.
struct AsHost {
  AsHost();
  ~AsHost();
};
void be_fiber();
void be_host();
// What the running CUDA thread (or the host) has seen, taken from and given to a clock.
void acquire(void* clock);
void release(void* clock);
void host_acquire(void* clock);
void host_release(void* clock);
// to := max(to, from), without the clock of anybody else.
void join_clock(char* from, char* to);

// ---- order.cpp: barriers, warp operations, fences ----

void open_barrier(Block* block);

// ---- runtime.cpp ----

// Give the launch up. The fibers are abandoned where they stand.
[[noreturn]] void stop(const std::string& error);
std::string at(Place place);
std::string name(const Fiber& fiber);

}  // namespace cuda_on_cpu
