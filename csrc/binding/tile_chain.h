// Linear layers with their activations, one after another, in one parallel region: between small
// layers, sending the threads home and calling them back takes longer than the threads' own waiting.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <thread>
#include <vector>

#include "binding/moment_rows.h"
#include "binding/threads.h"

namespace initfast {

// Of z, of y and of the weight.
using LinearMoments = std::array<Moments, 3>;

// Every thread claims the next tile of the chain, waits until the layer before that tile's is done,
// and runs it. What it waits for was claimed before, by a thread that is running: so the wait ends,
// even if torch lends one thread only or lends them one by one. Tiles keep slots of their own, and
// the bits do not depend on who ran them.
class TileChain {
 public:
  // A layer that reads what the one added before it wrote.
  void add(const LinearActWork<float>& work) { layers_.push_back({{work, nullptr, nullptr}}); }

  // Run all layers, and forget them; the moments of each.
  std::vector<LinearMoments> run() {
    int64_t tiles = 0, slots = 0, threads = 1;
    for (const Layer& layer : layers_) {
      tiles += layer.args.tiles();
      slots += layer.slots();
      threads = std::max(threads, layer.args.tiles() / layer.grain());
    }
    std::vector<Moments> moments(slots);
    Moments* slot = moments.data();
    for (Layer& layer : layers_) {
      layer.args.partial = slot;
      layer.args.weight_partial = slot + 2 * layer.args.tiles();
      slot += layer.slots();
    }
    std::vector<std::atomic<int64_t>> done(layers_.size());
    std::atomic<int64_t> next{0};
    const auto kernel = kernels().linear_act;  // here: where the threads run, nothing may throw
    torch::stable::parallel_for(0, threads, 1,
                                [&](int64_t, int64_t) { work(kernel, tiles, next, done); });
    std::vector<LinearMoments> all;
    for (const Layer& layer : layers_) all.push_back(layer.merged_slots());
    layers_.clear();
    return all;
  }

 private:
  static constexpr int kSpins = 1 << 12;  // some ten microseconds; then others may have the core

  struct Layer {
    cpu::LinearActArgs args;

    int64_t slots() const { return 2 * args.tiles() + args.tiles_across(); }
    int64_t grain() const {
      return product_grain(args.rows * args.cols * std::max<int64_t>(args.depth, 1), args.tiles());
    }
    LinearMoments merged_slots() const {
      const int64_t count = 2 * args.tiles();
      return {merged(args.partial, count, 2), merged(args.partial + 1, count - 1, 2),
              merged(args.weight_partial, args.tiles_across())};
    }
  };

  static void wait_for(const std::atomic<int64_t>& done, int64_t tiles) {
    for (int spins = 0; done.load(std::memory_order_acquire) < tiles; ++spins) {
      if (spins >= kSpins) std::this_thread::yield();
    }
  }

  void work(void (*kernel)(const cpu::LinearActArgs&, int64_t, int64_t), int64_t tiles,
            std::atomic<int64_t>& next, std::vector<std::atomic<int64_t>>& done) const {
    size_t at = 0;
    int64_t first = 0;  // of the tiles of layer `at`
    for (int64_t tile; (tile = next.fetch_add(1, std::memory_order_relaxed)) < tiles;) {
      while (tile - first >= layers_[at].args.tiles()) first += layers_[at++].args.tiles();
      if (at > 0) wait_for(done[at - 1], layers_[at - 1].args.tiles());
      kernel(layers_[at].args, tile - first, tile - first + 1);
      done[at].fetch_add(1, std::memory_order_release);
    }
  }

  std::vector<Layer> layers_;
};

}  // namespace initfast
