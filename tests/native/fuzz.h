// What every fuzzed kernel needs: random shapes and numbers in guarded memory, and verdicts.
#pragma once

#include <cstdarg>
#include <vector>

#include "cpu/isa.h"
#include "guarded.h"
#include "math/half.h"
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
  expect(got.nan == wanted.nan, "nan", double(got.nan), double(wanted.nan));
  expect(got.smallest == wanted.smallest, "smallest", got.smallest, wanted.smallest);
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
  if (std <= 1e-8 * std::fabs(mean) || std < 1e-70 || std > 1e70) return;
  const double third = double(wanted.third), m3 = double(wanted.m3), m4 = double(wanted.m4);
  expect(std::fabs(got.m3 - m3) <= 4e-6 * third, "m3", got.m3, m3);
  expect(std::fabs(got.m4 - m4) <= 4e-6 * m4, "m4", got.m4, m4);
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

}  // namespace
