// Random work for the CPU kernels, without torch: every result against double, every array in
// guarded memory, at every alignment. Built and run by .ci/sanitize under AddressSanitizer and
// UndefinedBehaviorSanitizer.
//
// usage: fuzz_kernels [rounds] [seed]      INITFAST_ISA chooses the kernels.

#include "fuzz.h"
#include "fuzz_linear.h"

namespace {

template <class T>
void fuzz_moments(const Kernels& kernels) {
  Array<T> x(random_size(20000), Numbers::any());
  describe("moments, dtype %d, %lld numbers", int(Type<T>::kDtype), (long long)x.size());
  expect_moments(run(kernels.moments, MomentsArgs{Type<T>::kDtype, x.data(), x.size(), nullptr}, 1)[0],
                 x.wide());
}

template <class T>
void fuzz_unit_moments(const Kernels& kernels) {
  const int64_t outer = 1 + random_size(700), units = 1 + random_size(80);
  const int64_t inner = below(2) ? 1 : 1 + random_size(40);
  describe("unit_moments, dtype %d, %lld x %lld x %lld", int(Type<T>::kDtype), (long long)outer,
           (long long)units, (long long)inner);
  Array<T> x(outer * units * inner, Numbers::any());
  UnitMomentsArgs args{Type<T>::kDtype, x.data(), outer, units, inner, 1, nullptr};
  args.plan();
  Array<double> slots(args.slots_size()), out(initfast::kUnitColumns * units);
  args.slots = slots.data();
  for (int64_t span = 0; span < args.spans(); ++span) {
    const int64_t first = span * args.outers_per_span, most = first + args.outers_per_span;
    const int64_t last = most < outer ? most : outer, middle = below(units + 1);
    kernels.unit_sums(args, {span, first, last, 0, middle});
    kernels.unit_sums(args, {span, first, last, middle, units});
  }
  kernels.unit_merge(args, out.data());
  for (int64_t u = 0; u < units; ++u) {
    double count = 0, sum = 0, largest = 0, square = 0;
    const auto each = [&](auto f) {
      for (int64_t i = 0; i < outer * inner; ++i) {
        const double value = widened(x[(i / inner * units + u) * inner + i % inner]);
        if (std::isfinite(value)) f(value);
      }
    };
    each([&](double v) { ++count, sum += v, largest = std::max(largest, std::fabs(v)); });
    const double mean = count > 0 ? sum / count : 0;
    each([&](double v) { square += (v - mean) * (v - mean); });
    double far = 0;  // the sums are about numbers that lie so far from the mean
    for (int64_t span = 0; span < args.spans(); ++span) {
      far = std::max(far, std::fabs(args.slot(span).first()[u] - mean));
    }
    expect(out[u] == count, "count of a unit", out[u], count);
    expect(out[3 * units + u] == largest, "largest of a unit", out[3 * units + u], largest);
    const double rel = std::is_same_v<T, double> ? 1e-9 : 4e-6;
    const double about = square + count * far * far, off = rel * std::sqrt(about / std::max(1.0, count));
    expect(std::fabs(out[units + u] - mean) <= off + 1e-14 * largest, "mean of a unit", out[units + u], mean);
    const double m2 = out[2 * units + u];
    expect(std::fabs(m2 - square) <= rel * about + 1e-25 * count * largest * largest, "m2 of a unit", m2, square);
  }
}

template <class T>
void fuzz_act(const Kernels& kernels) {
  const int64_t outer = random_size(60), units = random_size(200), inner = 1 + random_size(30);
  const int64_t n = outer * units * inner;
  const Activation act = random_activation();
  Array<T> z(n, Numbers::any()), apart(n);
  Array<uint8_t> live(units);
  for (int64_t u = 0; u < units; ++u) live[u] = 0;
  const std::vector<double> before = z.wide();
  T* y = below(3) ? apart.data() : z.data();  // in place, too
  describe("act %d, dtype %d, %lld x %lld x %lld", int(act.kind), int(Type<T>::kDtype),
           (long long)outer, (long long)units, (long long)inner);
  const ActArgs args{Type<T>::kDtype, act, z.data(), y, n, {units, inner, live.data()}, nullptr};
  const std::vector<Moments> got = run(kernels.act, args, 2);
  std::vector<double> after;
  int64_t surely = 0, perhaps = 0;
  std::vector<uint8_t> marked(size_t(units), 0);
  for (int64_t i = 0; i < n; ++i) {
    after.push_back(widened(y[i]));
    const double wanted = truth::value(act, before[i]);
    expect_number<T>(after[i], wanted, before[i], "value");
    // 16-bit values are judged before they are rounded.
    const int saturated = truth::saturated(act, Type<T>::kEpsilon > 0 ? float(wanted) : after[i]);
    surely += saturated == 1;
    perhaps += saturated != 0;
    if (after[i] != 0) marked[i / inner % units] = 1;
  }
  expect_moments(got[0], before);
  expect_moments(got[1], after);
  expect(surely <= got[1].saturated && got[1].saturated <= perhaps, "saturated",
         double(got[1].saturated), double(surely));
  for (int64_t u = 0; u < units; ++u) expect(live[u] == marked[u], "live", live[u], marked[u]);
}

template <class T>
void fuzz_act_backward(const Kernels& kernels) {
  const int64_t n = random_size(9000);
  const Activation act = random_activation();
  const Numbers numbers{below(2) ? 1.0 : 8.0, 0, below(2) ? 30 : 0};
  Array<T> z(n, numbers), grad_y(n, Numbers{3, 0, 0}), grad_z(n);
  describe("act_backward %d, dtype %d, %lld numbers", int(act.kind), int(Type<T>::kDtype), (long long)n);
  const ActBackwardArgs args{Type<T>::kDtype, act, grad_y.data(), z.data(), grad_z.data(), n, nullptr};
  const std::vector<Moments> got = run(kernels.act_backward, args, 2);
  expect_moments(got[0], grad_z.wide());
  expect_moments(got[1], grad_y.wide());
  for (int64_t i = 0; i < n; ++i) {
    const double at = widened(z[i]), up = widened(grad_y[i]);
    if (!std::isfinite(at) || truth::near_kink(act, at)) continue;
    const double wanted = up * truth::slope(act, at), got_here = widened(grad_z[i]);
    const double bound = 1e-5 * (1 + std::fabs(up) * (1 + std::fabs(at))) +
                         2 * Type<T>::kEpsilon * std::fabs(wanted);
    expect(std::fabs(got_here - wanted) <= bound, "gradient", got_here, wanted);
  }
}

// A part of a matrix has the zeros of the whole, which has `count` in each column, and no others.
template <class T>
void fuzz_zero_rows(const Kernels& kernels) {
  const int64_t all_rows = 1 + random_size(130), all_cols = 1 + random_size(600), count = below(all_rows + 1);
  const int64_t rows = below(all_rows + 1), cols = below(all_cols + 1);
  const int64_t row = below(all_rows - rows + 1), col = below(all_cols - cols + 1);
  const uint64_t key = random_bits();
  describe("zero_rows %lld of %lld x %lld from %lld, %lld: %lld x %lld", (long long)count,
           (long long)all_rows, (long long)all_cols, (long long)row, (long long)col, (long long)rows,
           (long long)cols);
  Array<T> whole(all_rows * all_cols), part(rows * cols);
  for (int64_t i = 0; i < whole.size(); ++i) set(whole[i], 1);
  for (int64_t i = 0; i < part.size(); ++i) set(part[i], 1);
  const ZeroRowsArgs of_whole{
      {Type<T>::kDtype, whole.data(), all_rows, all_cols, all_cols, 1, count, key, all_rows, 0, 0}};
  // The part lies column by column.
  const ZeroRowsArgs of_part{
      {Type<T>::kDtype, part.data(), rows, cols, 1, rows, count, key, all_rows, row, col}};
  kernels.zero_rows(of_whole, 0, of_whole.tiles());
  kernels.zero_rows(of_part, 0, of_part.tiles());
  for (int64_t c = 0; c < all_cols; ++c) {
    int64_t zeros = 0;
    for (int64_t r = 0; r < all_rows; ++r) zeros += widened(whole[r * all_cols + c]) == 0;
    expect(zeros == count, "zeros in a column", double(zeros), double(count));
  }
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < cols; ++c) {
      const double got = widened(part[c * rows + r]);
      const double wanted = widened(whole[(row + r) * all_cols + col + c]);
      expect(got == wanted, "a part's number", got, wanted);
    }
  }
}

// Columns of Q are orthonormal.
void fuzz_householder(const Kernels& kernels) {
  const int64_t cols = 1 + random_size(140), rows = cols + random_size(70);
  describe("householder %lld x %lld", (long long)rows, (long long)cols);
  Array<float> x(rows * cols, Numbers{});
  int64_t next = 0;
  HouseholderArgs args{Dtype::kFloat32, x.data(), rows, cols, nullptr, nullptr, nullptr, &next};
  Array<float> v(args.v_size()), t(args.tiles() * kReflections * kReflections), signs(cols);
  args.v = v.data();
  args.t = t.data();
  args.signs = signs.data();
  kernels.householder_blocks(args, 0, args.tiles());
  next = 0;
  kernels.householder_strips(args, 0, args.tiles());
  for (int64_t a = 0; a < cols; ++a) {
    for (int64_t b = 0; b <= a; ++b) {
      double dot = 0;
      for (int64_t r = 0; r < rows; ++r) dot += double(x[r * cols + a]) * x[r * cols + b];
      expect(std::fabs(dot - (a == b)) < 1e-5, "orthonormal columns", dot, a == b);
    }
  }
}

template <class T>
void fuzz_dtype(const Kernels& kernels) {
  fuzz_moments<T>(kernels);
  fuzz_unit_moments<T>(kernels);
  fuzz_act<T>(kernels);
  fuzz_act_backward<T>(kernels);
  fuzz_zero_rows<T>(kernels);
}

}  // namespace

int main(int argc, char** argv) {
  const Kernels* kernels = chosen_kernels();
  if (kernels == nullptr) {
    std::fprintf(stderr, "%s\n", isa_error());
    return 2;
  }
  const int rounds = argc > 1 ? std::atoi(argv[1]) : 300;
  const uint64_t seed = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 1;
  for (int round = 0; round < rounds; ++round) {
    state = seed * 1000003 + uint64_t(round);
    fuzz_dtype<float>(*kernels);
    fuzz_dtype<double>(*kernels);
    fuzz_dtype<BFloat16>(*kernels);
    fuzz_dtype<Float16>(*kernels);
    fuzz_linear_act(*kernels);
    fuzz_linear_act_backward(*kernels);
    fuzz_householder(*kernels);
  }
  std::printf("%s: %d rounds passed\n", kernels->name, rounds);
}
