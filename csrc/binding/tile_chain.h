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
  // A layer that reads what the one added before it wrote. units: for the moments of its units, or null.
  void add(const LinearActWork<float>& work, double* units = nullptr) {
    layers_.push_back({{work, nullptr, nullptr, nullptr}, units});
  }

  // Run all layers, and forget them; the moments of each.
  std::vector<LinearMoments> run() {
    int64_t tiles = 0, slots = 0, threads = 1, units = 0;
    for (const Layer& layer : layers_) {
      tiles += layer.args.tiles();
      slots += layer.slots();
      if (layer.units) units = std::max(units, layer.unit_args().slots_size());
      threads = std::max(threads, layer.args.tiles() / layer.grain());
    }
    std::vector<Moments> moments(slots);
    std::vector<double> unit_slots(units);  // one layer's at a time: merged before the next begins
    Moments* slot = moments.data();
    for (Layer& layer : layers_) {
      layer.args.partial = slot;
      layer.args.weight_partial = slot + 2 * layer.args.tiles();
      layer.args.unit_slots = layer.units ? unit_slots.data() : nullptr;
      slot += layer.slots();
    }
    std::vector<Progress> progress(layers_.size());
    std::atomic<int64_t> next{0};
    const cpu::Kernels& chosen = kernels();  // here: where the threads run, nothing may throw
    torch::stable::parallel_for(0, threads, 1,
                                [&](int64_t, int64_t) { work(chosen, tiles, next, progress); });
    std::vector<LinearMoments> all;
    for (const Layer& layer : layers_) all.push_back(layer.merged_slots());
    layers_.clear();
    return all;
  }

 private:
  static constexpr int kSpins = 1 << 12;  // some ten microseconds; then others may have the core

  struct Layer {
    cpu::LinearActArgs args;
    double* units;

    int64_t slots() const { return 2 * args.tiles() + args.tiles_across(); }
    int64_t grain() const {
      return product_grain(args.rows * args.cols * std::max<int64_t>(args.depth, 1), args.tiles());
    }
    cpu::UnitMomentsArgs unit_args() const {
      cpu::UnitMomentsArgs of_units{Dtype::kFloat32, args.y, args.rows, args.cols, 1, 0, args.unit_slots};
      of_units.outers_per_span = cpu::kTileRows;
      return of_units;
    }
    LinearMoments merged_slots() const {
      const int64_t count = 2 * args.tiles();
      return {merged(args.partial, count, 2), merged(args.partial + 1, count - 1, 2),
              merged(args.weight_partial, args.tiles_across())};
    }
  };

  // How many tiles of a layer are computed, and how many of them may be read.
  struct Progress {
    std::atomic<int64_t> computed{0}, done{0};
  };

  static void wait_for(const std::atomic<int64_t>& done, int64_t tiles) {
    for (int spins = 0; done.load(std::memory_order_acquire) < tiles; ++spins) {
      if (spins >= kSpins) std::this_thread::yield();
    }
  }

  void work(const cpu::Kernels& chosen, int64_t tiles, std::atomic<int64_t>& next,
            std::vector<Progress>& progress) const {
    size_t at = 0;
    int64_t first = 0;  // of the tiles of layer `at`
    for (int64_t tile; (tile = next.fetch_add(1, std::memory_order_relaxed)) < tiles;) {
      while (tile - first >= layers_[at].args.tiles()) first += layers_[at++].args.tiles();
      if (at > 0) wait_for(progress[at - 1].done, layers_[at - 1].args.tiles());
      const Layer& layer = layers_[at];
      chosen.linear_act(layer.args, tile - first, tile - first + 1);
      const int64_t before = progress[at].computed.fetch_add(1, std::memory_order_acq_rel);
      if (layer.units && before + 1 == layer.args.tiles()) {
        chosen.unit_merge(layer.unit_args(), layer.units);
      }
      progress[at].done.fetch_add(1, std::memory_order_release);
    }
  }

  std::vector<Layer> layers_;
};

}  // namespace initfast
