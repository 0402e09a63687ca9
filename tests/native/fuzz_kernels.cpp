// Random work for the CPU kernels, without torch: every result against double, every array in
// guarded memory, at every alignment. Built and run by .ci/sanitize under AddressSanitizer and
// UndefinedBehaviorSanitizer.
//
// usage: fuzz_kernels [rounds] [seed]      INITFAST_ISA chooses the kernels.

#include <cstdarg>
#include <vector>

#include "cpu/isa.h"
#include "guarded.h"
#include "half.h"
#include "truth.h"

namespace {

using namespace initfast::cpu;
using initfast::Activation;
using initfast::ActivationKind;
using initfast::Dtype;
using initfast::Moments;
using initfast::generic::BFloat16;
using initfast::generic::Float16;

// ---- chance ----

uint64_t state;

uint64_t random_bits() {  // SplitMix64 (Steele, Lea & Flood 2014)
  uint64_t z = (state += 0x9e3779b97f4a7c15u);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}
int64_t below(int64_t n) { return int64_t(random_bits() % uint64_t(n)); }
double uniform() { return double(random_bits() >> 11) * 0x1p-53; }
double normal() { return std::sqrt(-2 * std::log(1 - uniform())) * std::cos(2 * M_PI * uniform()); }

int64_t random_size(int64_t most) {
  static const int64_t kEdges[] = {0, 1, 3, 4, 5, 8, 15, 16, 17, 33, 63, 64, 65, 127, 130, 255, 1025};
  const int64_t edge = kEdges[below(sizeof kEdges / sizeof *kEdges)];
  return below(3) == 0 ? below(most + 1) : std::min(edge, most);
}

struct Numbers {
  double scale = 1, mean = 0;
  int special = 0;  // one in so many is a special value; 0: none

  static Numbers any() {
    static const double kScales[] = {1, 1, 3, 30, 1e-3, 1e-30, 1e15, 1e30};
    return {kScales[below(8)], below(4) ? 0.0 : normal() * 100, below(2) ? int(1 + below(40)) : 0};
  }
  double draw() const {
    static const double kSpecials[] = {NAN, INFINITY, -INFINITY, 0., -0., 1e-45, -1e-40, 3., -3., 6.};
    return special && below(special) == 0 ? kSpecials[below(10)] : (normal() + mean) * scale;
  }
};

// ---- storage types ----

double widened(float v) { return v; }
double widened(double v) { return v; }
template <class T>
double widened(T v) {
  return initfast::generic::to_float(v);
}
void set(float& v, double x) { v = float(x); }
void set(double& v, double x) { v = x; }
void set(BFloat16& v, double x) { v = initfast::generic::to_bfloat16(float(x)); }
void set(Float16& v, double x) { v = initfast::generic::to_float16(float(x)); }

template <class T>
struct Type;
template <>
struct Type<float> {
  static constexpr Dtype kDtype = Dtype::kFloat32;
  static constexpr double kEpsilon = 0, kSmallest = 0, kOverflow = INFINITY;
};
template <>
struct Type<double> : Type<float> {
  static constexpr Dtype kDtype = Dtype::kFloat64;
};
template <>
struct Type<BFloat16> : Type<float> {
  static constexpr Dtype kDtype = Dtype::kBFloat16;
  static constexpr double kEpsilon = 0x1p-8, kSmallest = 0x1p-133;
};
template <>
struct Type<Float16> {
  static constexpr Dtype kDtype = Dtype::kFloat16;
  static constexpr double kEpsilon = 0x1p-11, kSmallest = 0x1p-24, kOverflow = 65519;
};

template <class T>
class Array : public Guarded<T> {
 public:
  explicit Array(int64_t size) : Guarded<T>(size, below(2), below(17)) {}
  Array(int64_t size, const Numbers& numbers) : Array(size) {
    for (int64_t i = 0; i < size; ++i) set((*this)[i], numbers.draw());
  }
  std::vector<double> wide() {
    std::vector<double> w;
    for (int64_t i = 0; i < this->size(); ++i) w.push_back(widened((*this)[i]));
    return w;
  }
};

// ---- verdicts ----

char what[200];  // what runs, for the message

void describe(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(what, sizeof what, format, arguments);
  va_end(arguments);
}

void expect(bool holds, const char* claim, double got, double wanted) {
  if (holds) return;
  std::fprintf(stderr, "FAILED: %s: %s: got %.17g, expected %.17g\n", what, claim, got, wanted);
  std::exit(1);
}

void expect_moments(const Moments& got, const std::vector<double>& x) {
  const truth::Moments wanted = truth::moments(x);
  expect(got.count == wanted.count, "count", double(got.count), double(wanted.count));
  expect(got.nonfinite == wanted.nonfinite, "nonfinite", double(got.nonfinite), double(wanted.nonfinite));
  expect(got.zero == wanted.zero, "zero", double(got.zero), double(wanted.zero));
  expect(got.min == wanted.min, "min", got.min, wanted.min);
  expect(got.max == wanted.max, "max", got.max, wanted.max);
  const double finite = double(got.count - got.nonfinite);
  const double std = finite ? std::sqrt(double(wanted.m2) / finite) : 0;
  const double mean = double(wanted.mean);
  expect(std::fabs(got.mean - mean) <= 1e-6 * std + 1e-15 * std::fabs(mean), "mean", got.mean, mean);
  const double got_std = finite ? std::sqrt(got.m2 / finite) : 0;
  // The mean is a rounded number: a spread below its last place is known no better than that.
  expect(std::fabs(got_std - std) <= 1e-6 * std + 1e-16 * std::fabs(mean) + 1e-300, "std", got_std, std);
}

template <class T>
void expect_number(double got, double wanted, double z, const char* claim) {
  if (std::isnan(wanted) || std::isnan(got)) {
    expect(std::isnan(wanted) && std::isnan(got), claim, got, wanted);
  } else if (std::isinf(wanted) || std::fabs(wanted) >= Type<T>::kOverflow) {
    expect(std::isinf(got) && std::signbit(got) == std::signbit(wanted), claim, got, wanted);
  } else {
    const double reach = std::min(1.0, std::fabs(z));
    const double bound = (Type<T>::kEpsilon + 2e-5) * std::fabs(wanted) + 1e-6 * reach +
                         Type<T>::kSmallest + 0x1p-126 * std::max(1.0, std::fabs(z));
    expect(std::fabs(got - wanted) <= bound, claim, got, wanted);
  }
}

// ---- running ----

// Tiles in two parts, the later first, as threads might. The partials merge in order.
template <class Args>
std::vector<Moments> run(void (*kernel)(const Args&, int64_t, int64_t), Args args, int64_t rows) {
  Array<Moments> partial(rows * args.tiles());
  args.partial = partial.data();
  const int64_t cut = below(args.tiles() + 1);
  kernel(args, cut, args.tiles());
  kernel(args, 0, cut);
  std::vector<Moments> total(size_t(rows), initfast::generic::no_moments());
  for (int64_t i = 0; i < partial.size(); ++i) {
    initfast::generic::merge(total[size_t(i % rows)], partial[i]);
  }
  return total;
}

Activation random_activation() {
  const auto kind = ActivationKind(below(int(ActivationKind::kHardswish) + 1));
  switch (kind) {
    case ActivationKind::kLeakyRelu: return {kind, 0.01 + uniform(), 0};
    case ActivationKind::kElu:
    case ActivationKind::kCelu: return {kind, 0.5 + uniform(), 0};
    case ActivationKind::kSoftplus: return {kind, 1, 20};
    case ActivationKind::kHardtanh: return {kind, -0.5, 0.25};
    default: return {kind, 0, 0};
  }
}

template <class T>
void fuzz_moments(const Kernels& kernels) {
  Array<T> x(random_size(20000), Numbers::any());
  describe("moments, dtype %d, %lld numbers", int(Type<T>::kDtype), (long long)x.size());
  expect_moments(run(kernels.moments, MomentsArgs{Type<T>::kDtype, x.data(), x.size(), nullptr}, 1)[0],
                 x.wide());
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

// Rows of `depth` numbers, `stride` apart; what lies between is NaN, which must not be read.
void fill_rows(Array<float>& a, int64_t rows, int64_t depth, int64_t stride, const Numbers& numbers) {
  for (int64_t i = 0; i < a.size(); ++i) a[i] = NAN;
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t k = 0; k < depth; ++k) a[r * stride + k] = float(numbers.draw());
  }
}

int64_t extent(int64_t rows, int64_t depth, int64_t stride) {
  return rows && depth ? (rows - 1) * stride + depth : 0;
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

void fuzz_linear_act(const Kernels& kernels) {
  const int64_t rows = 1 + random_size(140), cols = 1 + random_size(140);
  const int64_t depth = random_size(below(4) ? 70 : 2100);
  const int64_t x_stride = depth + below(3), weight_stride = depth + below(3);
  const Activation act = random_activation();
  Numbers numbers{1, 0, below(3) ? 0 : 500};
  Array<float> x(extent(rows, depth, x_stride)), weight(extent(cols, depth, weight_stride));
  fill_rows(x, rows, depth, x_stride, numbers);
  fill_rows(weight, cols, depth, weight_stride, Numbers{});
  const bool with_bias = below(2), with_z = below(2);
  Array<float> bias(with_bias ? cols : 0, numbers), z(with_z ? rows * cols : 0), y(rows * cols);
  Array<uint8_t> live(cols);
  for (int64_t c = 0; c < cols; ++c) live[c] = 0;
  describe("linear_act %d, %lld x %lld x %lld, strides %lld %lld, bias %d", int(act.kind),
           (long long)rows, (long long)depth, (long long)cols, (long long)x_stride,
           (long long)weight_stride, with_bias);
  Array<Moments> of_weight(ceil_div(cols, kTileCols));
  const LinearActArgs args{act, x.data(), weight.data(), with_bias ? bias.data() : nullptr,
                           with_z ? z.data() : nullptr, y.data(), rows, cols, depth, x_stride,
                           weight_stride, live.data(), nullptr, of_weight.data()};
  const std::vector<Moments> got = run(kernels.linear_act, args, 2);
  expect_moments(got[1], y.wide());
  Moments weight_total = initfast::generic::no_moments();
  for (int64_t i = 0; i < of_weight.size(); ++i) initfast::generic::merge(weight_total, of_weight[i]);
  std::vector<double> weights;
  for (int64_t c = 0; c < cols; ++c) {
    for (int64_t k = 0; k < depth; ++k) weights.push_back(double(weight[c * weight_stride + k]));
  }
  expect_moments(weight_total, weights);
  if (with_z) expect_moments(got[0], z.wide());
  std::vector<uint8_t> marked(size_t(cols), 0);
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < cols; ++c) {
      double sum = with_bias ? bias[c] : 0, size = std::fabs(sum);
      for (int64_t k = 0; k < depth; ++k) {
        const double product = double(x[r * x_stride + k]) * weight[c * weight_stride + k];
        sum += product;
        size += std::fabs(product);
      }
      const double bound = (8 + depth / 16.) * 0x1p-23 * size, y_here = y[r * cols + c];
      if (std::isfinite(sum)) {
        const double low = truth::value(act, sum - bound), high = truth::value(act, sum + bound);
        const double middle = truth::value(act, sum);  // none bends twice within a rounding
        const double reach = std::max(std::fabs(low - middle), std::fabs(high - middle));
        expect(std::fabs(y_here - middle) <= reach + 1e-5 * (1 + std::fabs(middle)), "y", y_here, middle);
        if (with_z) {
          expect(std::fabs(z[r * cols + c] - sum) <= bound + 1e-40, "z", z[r * cols + c], sum);
        }
      } else {
        expect_number<float>(y_here, truth::value(act, sum), 1, "y of what is not finite");
      }
      if (y_here != 0) marked[c] = 1;
    }
  }
  for (int64_t c = 0; c < cols; ++c) expect(live[c] == marked[c], "live", live[c], marked[c]);
}

template <class T>
void fuzz_dtype(const Kernels& kernels) {
  fuzz_moments<T>(kernels);
  fuzz_act<T>(kernels);
  fuzz_act_backward<T>(kernels);
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
    fuzz_householder(*kernels);
  }
  std::printf("%s: %d rounds passed\n", kernels->name, rounds);
}
