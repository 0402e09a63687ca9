// The kernels of linear layers, forwards and backwards, on random work: see fuzz_kernels.cpp.
#pragma once

#include "fuzz.h"

namespace {

// x [rows, depth] and weight [cols, depth], each with a row stride of its own, and an activation.
struct Linear {
  int64_t rows, cols, depth, x_stride, weight_stride;
  Activation act;
  Array<float> x, weight;

  Linear(int64_t rows, int64_t cols, int64_t depth, const Numbers& of_x)
      : rows(rows),
        cols(cols),
        depth(depth),
        x_stride(depth + below(3)),
        weight_stride(depth + below(3)),
        act(random_activation()),
        x(extent(rows, depth, x_stride)),
        weight(extent(cols, depth, weight_stride)) {
    fill_rows(x, rows, depth, x_stride, of_x);
    fill_rows(weight, cols, depth, weight_stride, Numbers{});
  }
  double x_at(int64_t r, int64_t k) { return x[r * x_stride + k]; }
  double weight_at(int64_t c, int64_t k) { return weight[c * weight_stride + k]; }
};

// A sum of products, and of their sizes.
struct Sum {
  double value = 0, size = 0;

  void add(double a, double b) {
    value += a * b;
    size += std::fabs(a * b);
  }
  // The rounding of so many terms in any order.
  double bound(int64_t terms) const { return (8 + double(terms) / 16) * 0x1p-23 * size; }
  void expect_is(double got, int64_t terms, const char* claim) const {
    expect(std::fabs(got - value) <= bound(terms) + 1e-40, claim, got, value);
  }
};

Moments merged(Array<Moments>& slots) {
  Moments total = initfast::generic::no_moments();
  for (int64_t i = 0; i < slots.size(); ++i) initfast::generic::merge(total, slots[i]);
  return total;
}

// ---- linear_act ----

// z: null where it was not kept.
void expect_output(const Activation& act, const Sum& sum, int64_t depth, double y, const float* z) {
  if (!std::isfinite(sum.value)) {
    expect_number<float>(y, truth::value(act, sum.value), 1, "y of what is not finite");
    return;
  }
  const double bound = sum.bound(depth), middle = truth::value(act, sum.value);
  const double low = truth::value(act, sum.value - bound), high = truth::value(act, sum.value + bound);
  // None bends twice within a rounding.
  const double reach = std::max(std::fabs(low - middle), std::fabs(high - middle));
  expect(std::fabs(y - middle) <= reach + 1e-5 * (1 + std::fabs(middle)), "y", y, middle);
  if (z) sum.expect_is(*z, depth, "z");
}

void fuzz_linear_act(const Kernels& kernels) {
  const int64_t rows = 1 + random_size(140), cols = 1 + random_size(140);
  const int64_t depth = random_size(below(4) ? 70 : 2100);
  const Numbers numbers{1, 0, below(3) ? 0 : 500};
  Linear in(rows, cols, depth, numbers);
  const bool with_bias = below(2), with_z = below(2);
  Array<float> bias(with_bias ? cols : 0, numbers), z(with_z ? rows * cols : 0), y(rows * cols);
  Array<uint8_t> live(cols);
  for (int64_t c = 0; c < cols; ++c) live[c] = 0;
  describe("linear_act %d, %lld x %lld x %lld, strides %lld %lld, bias %d", int(in.act.kind),
           (long long)rows, (long long)depth, (long long)cols, (long long)in.x_stride,
           (long long)in.weight_stride, with_bias);
  Array<Moments> of_weight(ceil_div(cols, kTileCols));
  const LinearActArgs args{in.act, in.x.data(), in.weight.data(), with_bias ? bias.data() : nullptr,
                           with_z ? z.data() : nullptr, y.data(), rows, cols, depth, in.x_stride,
                           in.weight_stride, live.data(), nullptr, of_weight.data()};
  const std::vector<Moments> got = run(kernels.linear_act, args, 2);
  std::vector<double> weights;
  for (int64_t c = 0; c < cols; ++c) {
    bool marked = false;
    for (int64_t k = 0; k < depth; ++k) weights.push_back(in.weight_at(c, k));
    for (int64_t r = 0; r < rows; ++r) {
      Sum sum;
      if (with_bias) sum.add(bias[c], 1);
      for (int64_t k = 0; k < depth; ++k) sum.add(in.x_at(r, k), in.weight_at(c, k));
      const int64_t at = r * cols + c;
      expect_output(in.act, sum, depth, y[at], with_z ? &z[at] : nullptr);
      marked |= y[at] != 0;
    }
    expect(live[c] == marked, "live", live[c], marked);
  }
  expect_moments(merged(of_weight), weights);
  expect_moments(got[1], y.wide());
  if (with_z) expect_moments(got[0], z.wide());
}

// ---- linear_act_backward ----

// The moments of products that the kernel rounded differently: the count is exact, the spread near.
void expect_near(const Moments& got, const std::vector<double>& products, const char* claim) {
  const truth::Moments exact = truth::moments(products);
  const double n = double(got.count), wanted = std::sqrt(double(exact.m2) / n);
  expect(got.count == exact.count, claim, n, double(exact.count));
  const double std = std::sqrt(got.m2 / n);
  expect(std::fabs(std - wanted) <= 1e-4 * (wanted + 1), claim, std, wanted);
}

// What is asked for: `measured` and `written` are of the weight's gradient.
struct Backward {
  Linear in;
  bool with_below, with_x, written, measured, with_bias;
  Array<float> grad_z, below_z, grad_x, grad_weight, grad_bias;
  Array<Moments> of_x, of_weight;

  Backward(int64_t rows, int64_t cols, int64_t depth)
      : in(rows, cols, depth, Numbers{}),
        with_below(below(2)),
        with_x(below(4)),
        written(below(2)),
        measured(written || below(2)),
        with_bias(below(2)),
        grad_z(rows * cols, Numbers{}),
        below_z(rows * depth, Numbers{}),
        grad_x(with_x ? rows * depth : 0),
        grad_weight(written ? cols * depth : 0),
        grad_bias(with_bias ? cols : 0),
        of_x(with_x && with_below ? args().tiles_across() : 0),
        of_weight(measured ? args().tiles_across() * args().tiles_down() : 0) {}

  // Without the slots of the moments.
  LinearActBackwardArgs args() {
    return {grad_z.data(), in.x.data(), in.weight.data(), in.rows, in.cols, in.depth, in.x_stride,
            in.weight_stride, in.act, with_below ? below_z.data() : nullptr,
            with_x ? grad_x.data() : nullptr, written ? grad_weight.data() : nullptr,
            with_bias ? grad_bias.data() : nullptr, nullptr, nullptr};
  }

  void run(const Kernels& kernels) {
    LinearActBackwardArgs args = this->args();
    if (of_x.size() > 0) args.grad_x_partial = of_x.data();
    if (measured) args.grad_weight_partial = of_weight.data();
    const int64_t cut = below(args.tiles() + 1);
    kernels.linear_act_backward(args, cut, args.tiles());
    kernels.linear_act_backward(args, 0, cut);
  }

  void check_bias() {
    for (int64_t c = 0; c < in.cols; ++c) {
      Sum sum;
      for (int64_t r = 0; r < in.rows; ++r) sum.add(grad_z[r * in.cols + c], 1);
      sum.expect_is(grad_bias[c], in.rows * 16, "grad_bias");
    }
  }

  void check_weight() {
    std::vector<double> products;
    for (int64_t c = 0; c < in.cols; ++c) {
      for (int64_t k = 0; k < in.depth; ++k) {
        Sum sum;
        for (int64_t r = 0; r < in.rows; ++r) sum.add(grad_z[r * in.cols + c], in.x_at(r, k));
        products.push_back(sum.value);
        if (written) sum.expect_is(grad_weight[c * in.depth + k], in.rows, "grad_weight");
      }
    }
    if (written) {
      expect_moments(merged(of_weight), grad_weight.wide());
    } else if (measured) {
      expect_near(merged(of_weight), products, "moments of grad_weight");
    }
  }

  void check_x() {
    std::vector<double> products;
    for (int64_t r = 0; r < in.rows; ++r) {
      for (int64_t k = 0; k < in.depth; ++k) {
        Sum sum;
        for (int64_t c = 0; c < in.cols; ++c) sum.add(grad_z[r * in.cols + c], in.weight_at(c, k));
        products.push_back(sum.value);
        check_x_at(sum, grad_x[r * in.depth + k], below_z[r * in.depth + k]);
      }
    }
    if (with_below) expect_near(merged(of_x), products, "moments of grad_x");
  }

  // With a layer below, it is the gradient at that one's z.
  void check_x_at(const Sum& sum, double got, double z) {
    if (!with_below) {
      sum.expect_is(got, in.cols, "grad_x");
    } else if (!truth::near_kink(in.act, z)) {
      const double bound = 1e-5 * (1 + sum.size * (1 + std::fabs(z)));
      const double wanted = sum.value * truth::slope(in.act, z);
      expect(std::fabs(got - wanted) <= bound, "grad_z of the layer below", got, wanted);
    }
  }
};

void fuzz_linear_act_backward(const Kernels& kernels) {
  const int64_t rows = 1 + below(kTileRows), cols = 1 + random_size(140), depth = 1 + random_size(200);
  Backward it(rows, cols, depth);
  describe("linear_act_backward %d, %lld x %lld x %lld, strides %lld %lld, below %d, written %d",
           int(it.in.act.kind), (long long)rows, (long long)depth, (long long)cols,
           (long long)it.in.x_stride, (long long)it.in.weight_stride, it.with_below, it.written);
  it.run(kernels);
  if (it.with_bias) it.check_bias();
  it.check_weight();
  if (it.with_x) it.check_x();
}

}  // namespace
