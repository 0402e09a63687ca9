// The operators of the way back, as torch sees them.

#include <string>
#include <tuple>
#include <vector>

#include "act_operands.h"
#include "moment_rows.h"

namespace initfast {
namespace {

using namespace cpu;

std::tuple<Tensor, Tensor> act_backward(Tensor grad_y, Tensor z, std::string name, double alpha,
                                        double beta) {
  ActBackwardOperands in = act_backward_operands(grad_y, z, name, alpha, beta);
  Tensor grad_z = in.lay_out();
  ActBackwardArgs args{in.work(grad_z), nullptr};
  std::vector<Moments> partial(2 * args.tiles());
  args.partial = partial.data();
  run_tiles(kernels().act_backward, args, kRunsPerThread);
  return {grad_z, moment_rows(merged_pair(partial, int64_t(partial.size())), z)};
}

}  // namespace
}  // namespace initfast

STABLE_TORCH_LIBRARY_IMPL(initfast, CPU, m) {
  m.impl("act_backward", TORCH_BOX(&initfast::act_backward));
}
