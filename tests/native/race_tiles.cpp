// Chains of linear layers and Householder factorisations by several threads, for ThreadSanitizer: no
// race, and the bits that one thread makes. Built and run by .ci/sanitize; torch's headers are
// needed, its library is not.
//
// usage: race_tiles [rounds] [seed]      INITFAST_ISA chooses the kernels.

#include "binding/tile_chain.h"

#include "fuzz.h"

namespace {

int64_t threads_lent = 1;

}  // namespace

// Torch's threads, as few or many of them as it likes to lend, each with its part of the range.
AOTITorchError torch_parallel_for(int64_t begin, int64_t end, int64_t grain,
                                  void (*f)(int64_t, int64_t, void*), void* context) {
  const int64_t most = ceil_div(end - begin, std::max<int64_t>(1, grain));
  const int64_t count = std::min(threads_lent, most);
  std::vector<std::thread> threads;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t first = begin + (end - begin) * i / count, last = begin + (end - begin) * (i + 1) / count;
    threads.emplace_back([=] { f(first, last, context); });
  }
  for (std::thread& thread : threads) thread.join();
  return 0;
}

namespace {

using Floats = std::vector<float>;

Floats normals(int64_t n, double scale = 1) {
  Floats out(n);
  for (float& v : out) v = float(normal() * scale);
  return out;
}

bool same_bits(const void* a, const void* b, size_t bytes) { return std::memcmp(a, b, bytes) == 0; }

struct ChainResult {
  Floats y;
  std::vector<double> rows;
  std::vector<uint8_t> live;
};

// Results take turns in three buffers, the input's among them, as linear_act_chain has them do.
ChainResult run_chain(const Activation& act, int64_t batch, const std::vector<int64_t>& widths,
                      const std::vector<Floats>& weights, const Floats& x, int64_t threads) {
  threads_lent = threads;
  ChainResult result;
  int64_t units = 0, widest = 0;
  for (int64_t width : widths) widest = std::max(widest, width);
  for (size_t i = 1; i < widths.size(); ++i) units += widths[i];
  result.live.assign(units, 0);
  Floats buffers[2] = {Floats(batch * widest), Floats(batch * widest)};
  const float* input = x.data();
  uint8_t* live = result.live.data();
  initfast::TileChain chain;
  for (size_t i = 0; i + 1 < widths.size(); ++i) {
    float* y = buffers[i % 2].data();
    chain.add({act, input, weights[i].data(), nullptr, nullptr, y, batch, widths[i + 1], widths[i],
               widths[i], widths[i], live});
    live += widths[i + 1];
    input = y;
  }
  for (const initfast::LinearMoments& layer : chain.run()) {
    for (const Moments& m : layer) {
      result.rows.resize(result.rows.size() + initfast::kColumns);
      initfast::generic::write_row(m, &result.rows.back() - (initfast::kColumns - 1));
    }
  }
  result.y.assign(input, input + batch * widths.back());
  return result;
}

void race_chain() {
  const int64_t layers = 1 + below(12), batch = 1 + below(130), threads = 2 + below(3);
  const Activation act = random_activation();
  std::vector<int64_t> widths;
  for (int64_t i = 0; i <= layers; ++i) widths.push_back(1 + random_size(260));
  std::vector<Floats> weights;
  for (int64_t i = 0; i < layers; ++i) {
    weights.push_back(normals(widths[i] * widths[i + 1], 1 / std::sqrt(double(widths[i]))));
  }
  const Floats x = normals(batch * widths[0]);
  describe("chain of %lld, batch %lld, activation %d, %lld threads", (long long)layers, (long long)batch,
           int(act.kind), (long long)threads);
  const ChainResult alone = run_chain(act, batch, widths, weights, x, 1);
  const ChainResult together = run_chain(act, batch, widths, weights, x, threads);
  expect(same_bits(alone.y.data(), together.y.data(), alone.y.size() * sizeof(float)), "y", 0, 1);
  expect(same_bits(alone.rows.data(), together.rows.data(), alone.rows.size() * sizeof(double)),
         "moments", 0, 1);
  expect(alone.live == together.live, "live", 0, 1);
}

Floats run_householder(Floats x, int64_t rows, int64_t cols, int64_t threads) {
  threads_lent = threads;
  int64_t next = 0;
  HouseholderArgs args{Dtype::kFloat32, x.data(), rows, cols, nullptr, nullptr, nullptr, &next};
  Floats v(args.v_size()), t(args.tiles() * kReflections * kReflections), signs(cols);
  args.v = v.data();
  args.t = t.data();
  args.signs = signs.data();
  initfast::run_tiles(initfast::kernels().householder_blocks, args, 1);
  next = 0;
  initfast::run_tiles(initfast::kernels().householder_strips, args, 1);
  return x;
}

void race_householder() {
  const int64_t cols = 65 + below(130), rows = cols + below(70), threads = 2 + below(3);
  describe("householder %lld x %lld, %lld threads", (long long)rows, (long long)cols, (long long)threads);
  const Floats x = normals(rows * cols);
  const Floats alone = run_householder(x, rows, cols, 1);
  const Floats together = run_householder(x, rows, cols, threads);
  expect(same_bits(alone.data(), together.data(), x.size() * sizeof(float)), "q", 0, 1);
}

}  // namespace

int main(int argc, char** argv) {
  const int rounds = argc > 1 ? std::atoi(argv[1]) : 30;
  const uint64_t seed = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 1;
  for (int round = 0; round < rounds; ++round) {
    state = seed * 1000003 + uint64_t(round);
    race_chain();
    race_householder();
  }
  std::printf("%s: %d rounds without a race\n", initfast::kernels().name, rounds);
}
