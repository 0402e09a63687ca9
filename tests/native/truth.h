// The activations and the moments again, in double and long double, one number at a time and
// written from their definitions: what the kernels are compared with.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "math/activation_kind.h"
#include "math/moments.h"

namespace truth {

using initfast::Activation;
using Kind = initfast::ActivationKind;

inline double sigmoid(double z) { return 1 / (1 + std::exp(-z)); }
inline double normal_cdf(double z) { return 0.5 * std::erfc(-z / std::sqrt(2.0)); }
inline double softplus(double z) { return z > 0 ? z + std::log1p(std::exp(-z)) : std::log1p(std::exp(z)); }
inline double clamp(double z, double low, double high) {
  return std::isnan(z) ? z : std::min(std::max(z, low), high);
}

constexpr double kSeluScale = 1.0507009873554804934, kSeluAlpha = 1.6732632423543772848;

inline double value(const Activation& act, double z) {
  const double a = act.alpha, b = act.beta;
  switch (act.kind) {
    case Kind::kIdentity: return z;
    case Kind::kRelu: return std::isnan(z) ? z : std::max(z, 0.0);
    case Kind::kLeakyRelu: return z > 0 ? z : a * z;
    case Kind::kElu: return z > 0 ? z : a * std::expm1(z);
    case Kind::kSelu: return kSeluScale * (z > 0 ? z : kSeluAlpha * std::expm1(z));
    case Kind::kCelu: return z > 0 ? z : a * std::expm1(z / a);
    case Kind::kRelu6: return clamp(z, 0, 6);
    case Kind::kGelu: return z * normal_cdf(z);
    case Kind::kGeluTanh:
      return 0.5 * z * (1 + std::tanh(std::sqrt(2 / M_PI) * (z + 0.044715 * z * z * z)));
    case Kind::kSilu: return z * sigmoid(z);
    case Kind::kMish: return z * std::tanh(softplus(z));
    case Kind::kSoftplus: return z * a > b ? z : softplus(z * a) / a;
    case Kind::kSoftsign: return z / (1 + std::fabs(z));
    case Kind::kSigmoid: return sigmoid(z);
    case Kind::kLogSigmoid: return -softplus(-z);
    case Kind::kTanh: return std::tanh(z);
    case Kind::kHardtanh: return clamp(z, a, b);
    case Kind::kHardsigmoid: return clamp(z + 3, 0, 6) / 6;
    case Kind::kHardswish: return z * clamp(z + 3, 0, 6) / 6;
  }
  return NAN;
}

// By a central difference: enough to see a wrong formula, a wrong lane or a wrong place.
inline double slope(const Activation& act, double z) {
  const double h = 1e-5;
  return (value(act, z + h) - value(act, z - h)) / (2 * h);
}

// Whether a central difference at z straddles a kink.
inline bool near_kink(const Activation& act, double z) {
  for (double kink : {-3.0, 0.0, 3.0, 6.0, act.alpha, act.beta, act.beta / act.alpha}) {
    if (std::fabs(z - kink) < 1e-4) return true;
  }
  return false;
}

// 1 where the slope at the value y is surely under 6 % of the steepest, 0 where it surely is not,
// -1 next to the line.
inline int saturated(const Activation& act, double y) {
  const double a = act.alpha, near = 1e-5;
  double ratio = 1;
  switch (act.kind) {
    case Kind::kElu: ratio = y < 0 ? (y + a) / std::max(1.0, a) : 1; break;
    case Kind::kSelu:
      ratio = y < 0 ? (y + kSeluScale * kSeluAlpha) / (kSeluScale * kSeluAlpha) : 1; break;
    case Kind::kCelu: ratio = y < 0 ? (y + a) / a : 1; break;
    case Kind::kSoftsign: ratio = (1 - std::fabs(y)) * (1 - std::fabs(y)); break;
    case Kind::kSigmoid: ratio = 4 * y * (1 - y); break;
    case Kind::kTanh: ratio = 1 - y * y; break;
    case Kind::kRelu6: return y == 6;
    case Kind::kHardtanh: return y == act.alpha || y == act.beta;
    case Kind::kHardsigmoid: return y == 0 || y == 1;
    default: return 0;
  }
  if (std::isnan(y)) return 0;
  return ratio < 0.06 - near ? 1 : ratio < 0.06 + near ? -1 : 0;
}

struct Moments {
  int64_t count = 0, nonfinite = 0, nan = 0, zero = 0;
  long double mean = 0, m2 = 0, m3 = 0, m4 = 0, third = 0;  // third: of the deviations' magnitudes
  double min = INFINITY, max = -INFINITY, smallest = INFINITY;
};

inline Moments moments(const std::vector<double>& x) {
  Moments m;
  m.count = int64_t(x.size());
  long double origin = 0;
  for (double v : x) {
    m.zero += v == 0;
    if (!std::isfinite(v)) {
      ++m.nonfinite;
      m.nan += std::isnan(v);
      continue;
    }
    if (m.min > m.max) origin = v;
    m.mean += v - origin;  // exactly zero where all are equal
    m.min = std::min(m.min, v);
    m.max = std::max(m.max, v);
    if (v != 0) m.smallest = std::min(m.smallest, std::fabs(v));
  }
  const int64_t finite = m.count - m.nonfinite;
  if (finite == 0) return m;
  m.mean = origin + m.mean / finite;
  for (double v : x) {
    if (!std::isfinite(v)) continue;
    const long double d = v - m.mean;
    m.m2 += d * d;
    m.m3 += d * d * d;
    m.m4 += d * d * d * d;
    m.third += std::fabs(d * d * d);
  }
  return m;
}

}  // namespace truth
