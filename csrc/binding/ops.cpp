// The operators as torch sees them: checks, allocation, threads, dispatch. Schemas are defined in
// initfast/ops/schemas.py; the ops*.cpp alone include torch, through its stable ABI (2.10 and later).

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "binding/act_operands.h"
#include "binding/linear_operands.h"
#include "binding/moment_rows.h"
#include "binding/tile_chain.h"
#include "binding/unit_moments.h"

namespace initfast {
namespace {

using namespace cpu;

Tensor no_units_live(int64_t units, const Tensor& like) {
  Tensor live = new_tensor({units}, ScalarType::Bool, like);
  if (units > 0) memset(live.mutable_data_ptr(), 0, size_t(units));
  return live;
}

// ---- operators ----

Tensor moments(Tensor x) {
  return moment_rows<1>({measure(x, dtype_of(x, "moments", "x"))}, x);
}

// The moments of x, empty where they are not wanted, and those of its units.
std::tuple<Tensor, Tensor> unit_moments(Tensor x, int64_t unit_dim, bool with_moments) {
  const Dtype dtype = dtype_of(x, "unit_moments", "x");
  const UnitDim dim = unit_dim_of(x, unit_dim, "unit_moments", "x");
  const Tensor dense = as_dense(x);
  Tensor row = new_tensor({with_moments ? kColumns : 0}, ScalarType::Double, x);
  Tensor units = new_tensor({kUnitColumns, dim.units}, ScalarType::Double, x);
  UnitMeasure of_units(dense.const_data_ptr(), dense.numel(), dtype, dim.units, dim.inner(dense));
  double* out = static_cast<double*>(units.mutable_data_ptr());
  if (with_moments) {
    generic::write_row(of_units.run_with_moments(out), static_cast<double*>(row.mutable_data_ptr()));
  } else {
    of_units.run(out);
  }
  return {row, units};
}

// The dense z activated into y, laid out like it or z itself: moments of both, and the live units.
std::tuple<Tensor, Tensor> act_into(const ActOperands& in, const Tensor& z, const Tensor& y) {
  Tensor live = no_units_live(in.units, z);
  ActArgs args{in.work(z, y, static_cast<uint8_t*>(live.mutable_data_ptr())), nullptr};
  std::vector<Moments> partial(2 * args.tiles());
  args.partial = partial.data();
  run_tiles(kernels().act, args, kRunsPerThread);
  return {moment_rows(merged_pair(partial, int64_t(partial.size())), z), live};
}

std::tuple<Tensor, Tensor, Tensor> act(Tensor z, std::string name, double alpha, double beta,
                                       int64_t unit_dim) {
  const ActOperands in = act_operands(z, name, alpha, beta, unit_dim, "act");
  z = as_dense(z);
  Tensor y = new_like(z);
  auto [moments, live] = act_into(in, z, y);
  return {y, moments, live};
}

std::tuple<Tensor, Tensor> act_(Tensor z, std::string name, double alpha, double beta,
                                int64_t unit_dim) {
  const ActOperands in = act_operands(z, name, alpha, beta, unit_dim, "act_");
  Tensor dense = as_dense(z);
  auto results = act_into(in, dense, dense);
  if (dense.get() != z.get()) torch::stable::copy_(z, dense);
  return results;
}

// Measured on two cores with AVX-512, beside MKL: our tiles win while W's bandwidth is the limit and beyond,
// until a large batch lets the library's packing of W pay for itself.
constexpr int64_t kMostTileRows = 512;
constexpr int64_t kPanelRows = 1024;  // fewer, and the library packs W too often

// Whether the kernel of our own runs: float32, both operands read along depth.
bool runs_in_tiles(const LinearOperands& in, Dtype dtype) {
  const bool along_depth = in.weight.stride(1) == 1 || in.depth <= 1;
  const bool has_tiles = in.rows > 0 && in.cols > 0;
  return has_tiles && dtype == Dtype::kFloat32 && along_depth && in.rows <= kMostTileRows;
}

// The library's matrix product in panels of rows, each followed by the fused activation and
// moments while it is in cache.
LinearMoments linear_act_panels(const LinearOperands& in, const Activation& activation, Tensor& y,
                                Tensor* z, uint8_t* live, Dtype dtype) {
  std::vector<Moments> partial;
  for (int64_t row = 0; row < in.rows && in.cols > 0; row += kPanelRows) {
    const int64_t rows = std::min(kPanelRows, in.rows - row);
    Tensor y_panel = torch::stable::narrow(y, 0, row, rows);
    Tensor z_panel = z ? torch::stable::narrow(*z, 0, row, rows) : y_panel;
    Tensor x = in.x;  // narrow takes a reference it may change
    linear_out(torch::stable::narrow(x, 0, row, rows), in.weight, in.bias, z_panel);
    ActArgs args{{dtype, activation, z_panel.const_data_ptr(), y_panel.mutable_data_ptr(),
                  rows * in.cols, {in.cols, 1, live}},
                 nullptr};
    const size_t done = partial.size();
    partial.resize(done + 2 * args.tiles());
    args.partial = partial.data() + done;
    run_tiles(kernels().act, args, kRunsPerThread);
  }
  const auto [pre, post] = merged_pair(partial, int64_t(partial.size()));
  return {pre, post, measure(in.weight, dtype)};
}

// y [rows, cols] and, where it is kept, z.
LinearMoments linear_act_rows(const LinearOperands& in, const Activation& activation, Tensor y,
                              Tensor* z, uint8_t* live, Dtype dtype) {
  if (!runs_in_tiles(in, dtype)) return linear_act_panels(in, activation, y, z, live, dtype);
  TileChain alone;
  alone.add(in.work<float>(activation, y, z, live));
  return alone.run()[0];
}

std::tuple<Tensor, Tensor, Tensor, Tensor> linear_act(Tensor x, Tensor weight,
                                                      std::optional<Tensor> bias, std::string name,
                                                      double alpha, double beta, bool save_z) {
  const Activation activation = parse_activation(name, alpha, beta);
  const Dtype dtype = dtype_of(x, "linear_act", "x");
  const LinearOperands in = linear_operands(x, weight, bias);
  const std::vector<int64_t> sizes = in.output_sizes(x);
  Tensor y = new_tensor(sizes, x.scalar_type(), x);
  Tensor z = new_tensor(save_z ? sizes : std::vector<int64_t>{0}, x.scalar_type(), x);
  Tensor live = no_units_live(in.cols, x);
  Tensor z_rows = save_z ? in.as_rows(z) : z;
  const LinearMoments moments =
      linear_act_rows(in, activation, in.as_rows(y), save_z ? &z_rows : nullptr,
                      static_cast<uint8_t*>(live.mutable_data_ptr()), dtype);
  return {y, z, moment_rows(moments, x), live};
}

// A chain of them, each the next one's input, in one call: between small layers, the way through
// Python and the dispatcher costs as much as the layer.
std::tuple<Tensor, Tensor, Tensor, Tensor> linear_act_chain(
    Tensor x, std::vector<Tensor> weights, std::vector<std::optional<Tensor>> biases,
    std::vector<std::string> names, std::vector<double> alphas, std::vector<double> betas) {
  const Dtype dtype = dtype_of(x, "linear_act_chain", "x");
  const size_t n = weights.size();
  const int64_t units = units_of_chain(weights, biases.size(), names.size(), alphas.size(), betas.size());
  Tensor moments = new_tensor({int64_t(n), 3, kColumns}, ScalarType::Double, x);
  Tensor live = no_units_live(units, x);
  double* row = static_cast<double*>(moments.mutable_data_ptr());
  uint8_t* flags = static_cast<uint8_t*>(live.mutable_data_ptr());
  Tensor of_units = new_tensor({kUnitColumns * units}, ScalarType::Double, x);
  double* unit_rows = static_cast<double*>(of_units.mutable_data_ptr());
  const auto write = [&](const LinearMoments& layer) {
    for (const Moments& m : layer) generic::write_row(m, std::exchange(row, row + kColumns));
  };
  TileChain tiles;
  std::vector<LinearOperands> operands;  // alive until the tiles have run
  std::vector<Tensor> results;
  for (size_t i = 0; i < n; ++i) {
    const Activation activation = parse_activation(names[i], alphas[i], betas[i]);
    const LinearOperands in = linear_operands(x, weights[i], biases[i]);
    const std::vector<int64_t> sizes = in.output_sizes(x);
    // The result two layers back has been read by now.
    const bool reuse = i >= 2 && to_vector(results[i - 2].sizes()) == sizes;
    x = reuse ? results[i - 2] : new_tensor(sizes, x.scalar_type(), x);
    Tensor y = in.as_rows(x);
    if (runs_in_tiles(in, dtype)) {
      tiles.add(in.work<float>(activation, y, nullptr, flags), unit_rows);
    } else {
      for (const LinearMoments& layer : tiles.run()) write(layer);
      write(linear_act_panels(in, activation, y, nullptr, flags, dtype));
      UnitMeasure(y.const_data_ptr(), y.numel(), dtype, in.cols, 1).run(unit_rows);
    }
    flags += in.cols;
    unit_rows += kUnitColumns * in.cols;
    operands.push_back(in);
    results.push_back(x);
  }
  for (const LinearMoments& layer : tiles.run()) write(layer);
  return {x, moments, live, of_units};
}

}  // namespace
}  // namespace initfast

STABLE_TORCH_LIBRARY_IMPL(initfast, CPU, m) {
  m.impl("moments", TORCH_BOX(&initfast::moments));
  m.impl("unit_moments", TORCH_BOX(&initfast::unit_moments));
  m.impl("act", TORCH_BOX(&initfast::act));
  m.impl("act_", TORCH_BOX(&initfast::act_));
  m.impl("linear_act", TORCH_BOX(&initfast::linear_act));
  m.impl("linear_act_chain", TORCH_BOX(&initfast::linear_act_chain));
}
