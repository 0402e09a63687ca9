// A launch: its blocks, their memory, and whose turn it is.
#include "state.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <numeric>
#include <stdexcept>

namespace cuda_on_cpu {

Schedule schedule;
int taken_out = -1;
cudaError_t (*before_launch)() = nullptr;

std::string at(Place place) { return std::string(place.file) + ":" + std::to_string(place.line); }

std::string name(const Fiber& fiber) {
  const Thread& t = fiber.thread;
  return "block " + std::to_string(t.block_index.x) + " warp " + std::to_string(t.warp) + " lane " +
         std::to_string(t.lane);
}

void stop(const std::string& error) {
  launch_now->error = error;
  to_host();
  std::abort();
}

namespace {

// ---- memory ----

std::vector<Mapping> stack_pool;
std::vector<void*> tsan_pool;

Mapping map_memory(size_t bytes) {
  void* p = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) throw std::bad_alloc();
  return {static_cast<char*>(p), bytes};
}

char* new_shared(Block* block, size_t bytes) {
  const size_t rounded = (bytes + 127) / 128 * 128;
  if (block->shared_used + rounded > kMaxShared) stop("over 227 KiB of shared memory");
  char* p = block->arena.data + block->shared_used;
  block->shared_used += rounded;
  if (!under_tsan()) {  // its exact size, so that AddressSanitizer sees the first byte outside
    void* allocated = nullptr;
    if (posix_memalign(&allocated, 128, bytes) != 0) throw std::bad_alloc();
    p = static_cast<char*>(allocated);
    block->allocations.push_back(p);
  }
  for (size_t i = 0; i < bytes; ++i) const_cast<volatile char*>(p)[i] = char(0xff);
  return p;
}

// ---- blocks ----

Mapping take_stacks(size_t bytes) {
  if (under_tsan() || stack_pool.empty() || stack_pool.back().bytes != bytes) {
    return map_memory(bytes);
  }
  const Mapping stacks = stack_pool.back();
  stack_pool.pop_back();
  return stacks;
}

void* take_tsan_fiber() {
  if (tsan_pool.empty()) return new_tsan_fiber();
  void* fiber = tsan_pool.back();
  tsan_pool.pop_back();
  return fiber;
}

std::unique_ptr<Block> start_block(unsigned serial, dim3 grid, dim3 size, size_t dynamic_bytes) {
  const unsigned threads = size.x * size.y * size.z;
  auto block = std::make_unique<Block>();
  block->serial = serial;
  block->index = {serial % grid.x, serial / grid.x % grid.y, serial / grid.x / grid.y};
  block->live = threads;
  block->dynamic_bytes = dynamic_bytes;
  if (under_tsan()) block->arena = map_memory(kMaxShared);
  block->stacks = take_stacks(kStackBytes * threads);
  block->fibers.resize(threads);
  for (unsigned t = 0; t < threads; ++t) {
    Fiber& fiber = block->fibers[t];
    fiber.block = block.get();
    fiber.thread = {{t % size.x, t / size.x % size.y, t / size.x / size.y}, block->index, size, grid,
                    t % 32, t / 32};
    prepare_stack(&fiber, block->stacks.data + kStackBytes * t);
    if (under_tsan()) fiber.tsan = take_tsan_fiber();
  }
  host_release(block->start.get());
  return block;
}

// ThreadSanitizer's contexts serve again in the next launch, not in this one: a thread that takes
// over another's looks as if it had waited for it.
void free_block(Block* block, std::vector<void*>& retired) {
  for (char* p : block->allocations) free(p);
  if (under_tsan()) {
    for (Fiber& fiber : block->fibers) retired.push_back(fiber.tsan);
    munmap(block->arena.data, block->arena.bytes);
    munmap(block->stacks.data, block->stacks.bytes);
  } else {
    forget_stacks(block->stacks);
    stack_pool.push_back(block->stacks);
  }
}

// ---- turns ----

// One turn for every thread that can run. Returns whether any could.
bool run_block(Block* block) {
  const unsigned n = unsigned(block->fibers.size());
  unsigned first = 0, step = 1;
  if (schedule.seed) {
    first = launch_now->random() % n;
    do step = launch_now->random() % n | 1;
    while (std::gcd(step, n) != 1);
  }
  bool any = false;
  for (unsigned i = 0; i < n && launch_now->error.empty(); ++i) {
    Fiber* fiber = &block->fibers[(first + uint64_t(i) * step) % n];
    if (fiber->state != State::kReady) continue;
    any = true;
    to_fiber(fiber);
  }
  return any;
}

std::string describe_deadlock(const Block& block) {
  std::string text = "deadlock: no thread can run;";
  std::vector<Place> places;
  for (const Fiber& fiber : block.fibers) {
    const bool waits = fiber.state == State::kAtBarrier || fiber.state == State::kAtWarpOperation;
    const bool known = std::any_of(places.begin(), places.end(), [&](Place place) {
      return at(place) == at(fiber.waits_at);
    });
    if (!waits || known) continue;
    places.push_back(fiber.waits_at);
    text += " " + name(fiber) + " waits at " + at(fiber.waits_at) + ";";
  }
  return text;
}

// Leaks the blocks: their fibers still stand on their stacks. To ThreadSanitizer they have ended.
void abandon(std::vector<std::unique_ptr<Block>>& blocks) {
  for (auto& block : blocks) {
    for (Fiber& fiber : block->fibers) {
      launch_now->running = &fiber;
      release(launch_now->end.get());
    }
    block.release();
  }
}

void run_blocks(dim3 grid, dim3 size, size_t dynamic_bytes) {
  std::vector<unsigned> order(grid.x * grid.y * grid.z);
  std::iota(order.begin(), order.end(), 0u);
  if (schedule.seed) std::shuffle(order.begin(), order.end(), launch_now->random);
  std::vector<std::unique_ptr<Block>> resident, finished;
  std::vector<void*> retired;
  size_t next = 0;
  while (next < order.size() || !resident.empty()) {
    while (next < order.size() && resident.size() < size_t(schedule.resident)) {
      resident.push_back(start_block(order[next++], grid, size, dynamic_bytes));
    }
    bool any = false;
    for (auto& block : resident) any |= run_block(block.get());
    if (!any && launch_now->error.empty()) launch_now->error = describe_deadlock(*resident[0]);
    if (!launch_now->error.empty()) {
      abandon(resident);
      break;
    }
    for (auto& block : resident) {
      if (block->live > 0) continue;
      free_block(block.get(), retired);
      finished.push_back(std::move(block));
    }
    resident.erase(std::remove(resident.begin(), resident.end(), nullptr), resident.end());
  }
  host_acquire(launch_now->end.get());
  tsan_pool.insert(tsan_pool.end(), retired.begin(), retired.end());
}

}  // namespace

void run_grid(dim3 grid, dim3 size, size_t dynamic_bytes, const std::function<void()>& kernel) {
  const unsigned threads = size.x * size.y * size.z;
  if (threads == 0 || threads > 1024 || grid.x * grid.y * grid.z == 0) {
    throw std::runtime_error("a launch with no thread, or with over 1024 in a block");
  }
  if (under_tsan() && threads * grid.x * grid.y * grid.z > kMaxTsanThreads) {
    throw std::runtime_error("over " + std::to_string(kMaxTsanThreads) +
                             " threads: ThreadSanitizer would miss races");
  }
  Launch launch;
  launch.kernel = &kernel;
  launch.random.seed(schedule.seed);
  launch.host_tsan = current_tsan_fiber();
  launch_now = &launch;
  run_blocks(grid, size, dynamic_bytes);
  launch_now = nullptr;
  if (!launch.error.empty()) throw std::runtime_error(launch.error);
}

void* shared_variable(const void* key, size_t bytes) {
  AsHost guard;
  Block* block = launch_now->running->block;
  char*& p = block->shared[key];
  if (!p) p = new_shared(block, bytes);
  return p;
}

void* dynamic_shared() {
  return shared_variable(nullptr, launch_now->running->block->dynamic_bytes);
}

}  // namespace cuda_on_cpu
