// What orders CUDA threads: barriers, warp operations, and fences around atomics.
#include "state.h"

namespace cuda_on_cpu {
namespace {

bool same(Place a, Place b) { return a.line == b.line && !strcmp(a.file, b.file); }

void check_mask(const Fiber& fiber, unsigned mask, Place place) {
  const Block& block = *fiber.block;
  if (!(mask >> fiber.thread.lane & 1)) {
    stop(at(place) + ": " + name(fiber) + " is not in its own mask");
  }
  for (unsigned lane = 0; lane < 32; ++lane) {
    const unsigned thread = fiber.thread.warp * 32 + lane;
    if (!(mask >> lane & 1)) continue;
    if (thread >= block.fibers.size() || block.fibers[thread].state == State::kDone) {
      stop(at(place) + ": " + name(fiber) + " waits for lane " + std::to_string(lane) +
           ", which has exited or does not exist");
    }
  }
}

// The running lane comes to a warp operation and goes on when every lane of the mask has.
std::shared_ptr<Rendezvous> meet(unsigned mask, uint32_t word, bool orders_memory, Place place) {
  Fiber* fiber = launch_now->running;
  Block* block = fiber->block;
  const unsigned warp = fiber->thread.warp, lane = fiber->thread.lane;
  fiber->waits_at = place;
  check_mask(*fiber, mask, place);
  auto& slot = block->meetings[{warp, mask}];
  if (!slot) slot = std::make_shared<Rendezvous>(Rendezvous{place, orders_memory});
  const std::shared_ptr<Rendezvous> meeting = slot;
  if (!same(meeting->place, place) || meeting->orders_memory != orders_memory) {
    stop(at(place) + ": warp divergence: " + name(*fiber) + " is here, other lanes at " +
         at(meeting->place));
  }
  meeting->word[lane] = word;
  meeting->arrived |= 1u << lane;
  if (orders_memory) release(meeting->clock.get());
  if (meeting->arrived == mask) {
    slot.reset();
    for (unsigned i = 0; i < 32; ++i) {
      if (mask >> i & 1 && i != lane) block->fibers[warp * 32 + i].state = State::kReady;
    }
  } else {
    fiber->state = State::kAtWarpOperation;
    to_host();
  }
  if (orders_memory) acquire(meeting->clock.get());
  return meeting;
}

// ---- fences and atomics: [atomics.fences] of C++, told to ThreadSanitizer ----

// A fence before an atomic publishes what came before the fence to whoever meets the atomic later
// and fences after.

char* keep_clock() {
  launch_now->clocks.push_back(new_clock());
  return launch_now->clocks.back().get();
}

char* clock_of_atomic(const void* p, unsigned scope) {
  char*& clock = launch_now->atomic_clock[{p, scope}];
  if (!clock) clock = keep_clock();
  return clock;
}

constexpr unsigned kDeviceScope = 0;
unsigned block_scope(const Fiber* fiber) { return 1 + fiber->block->serial; }

}  // namespace

void open_barrier(Block* block) {
  block->at_barrier = 0;
  block->barrier = {nullptr, 0};
  block->barrier_parity ^= 1;
  for (Fiber& fiber : block->fibers) {
    if (fiber.state == State::kAtBarrier) fiber.state = State::kReady;
  }
}

void block_barrier(Place place) {
  AsHost guard;
  Fiber* fiber = launch_now->running;
  Block* block = fiber->block;
  fiber->waits_at = place;
  if (!block->barrier.file) block->barrier = place;
  if (!same(block->barrier, place)) {
    stop(at(place) + ": barrier divergence: " + name(*fiber) + " is here, other threads at " +
         at(block->barrier));
  }
  char* clock = block->barrier_clock[block->barrier_parity].get();
  release(clock);
  if (++block->at_barrier == block->live) {
    open_barrier(block);
  } else {
    fiber->state = State::kAtBarrier;
    to_host();
  }
  acquire(clock);
}

void warp_barrier(unsigned mask, Place place) {
  AsHost guard;
  meet(mask, 0, true, place);
}

void warp_exchange(unsigned mask, uint32_t word, uint32_t (&all)[32], Place place) {
  AsHost guard;
  const auto meeting = meet(mask, word, false, place);
  for (int i = 0; i < 32; ++i) all[i] = meeting->word[i];
}

void fence(bool device_wide) {
  if (!under_tsan()) return;
  AsHost guard;
  Fiber* fiber = launch_now->running;
  for (const void* p : fiber->atomics_since_fence) {
    acquire(clock_of_atomic(p, block_scope(fiber)));
    if (device_wide) acquire(clock_of_atomic(p, kDeviceScope));
  }
  fiber->atomics_since_fence.clear();
  fiber->fenced[0] = keep_clock();
  release(fiber->fenced[0]);
  if (device_wide) fiber->fenced[1] = fiber->fenced[0];
}

void before_atomic(const void* p) {
  AsHost guard;
  if (schedule.seed && launch_now->random() % 4 == 0) to_host();
  if (!under_tsan()) return;
  Fiber* fiber = launch_now->running;
  if (fiber->fenced[0]) join_clock(fiber->fenced[0], clock_of_atomic(p, block_scope(fiber)));
  if (fiber->fenced[1]) join_clock(fiber->fenced[1], clock_of_atomic(p, kDeviceScope));
}

void after_atomic(const void* p) {
  if (!under_tsan()) return;
  AsHost guard;
  launch_now->running->atomics_since_fence.push_back(p);
}

}  // namespace cuda_on_cpu
