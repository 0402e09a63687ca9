// The samplers' bits as one line a case, for a machine to compare with another's: the same on every
// instruction set and architecture. Built and run by .ci/aarch64.
//
// usage: stream_digest      INITFAST_ISA chooses the kernels.

#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <vector>

#include "cpu/isa.h"
#include "cpu/kernels.h"
#include "math/distribution.h"

namespace {

using namespace initfast;
using namespace initfast::cpu;

// FNV-1a, 64 bits.
uint64_t digest(const std::vector<unsigned char>& bytes) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (unsigned char byte : bytes) hash = (hash ^ byte) * 0x100000001b3u;
  return hash;
}

// Not the normal's: any numbers, exact and of either sign, show whether the arithmetic is the same.
template <class T>
std::vector<T> table() {
  std::vector<T> t(2 * generic::kTableSize<T>);
  for (size_t i = 0; i < t.size(); ++i) t[i] = (T(i * 2654435761u % 8191) - T(4095)) / T(3);
  return t;
}

template <class T>
void sample(const Kernels& kernels, Dtype dtype, int bytes) {
  const std::vector<T> numbers = table<T>();
  const Shape shapes[] = {Shape::kUniform, Shape::kSymmetric, Shape::kSkewed, Shape::kOneSided};
  const int64_t rows = 67, cols = 129;
  for (Shape shape : shapes) {
    for (bool transposed : {false, true}) {
      for (uint64_t offset : {uint64_t(0), uint64_t(3), ~uint64_t(0) / 2}) {
        std::vector<unsigned char> out(rows * cols * bytes);
        SampleArgs args{};
        args.dtype = dtype;
        args.out = out.data();
        args.numel = rows * cols;
        args.shape = shape;
        args.table = shape == Shape::kUniform ? nullptr : numbers.data();
        args.scale = shape == Shape::kUniform ? 0x1p-31 / 3 : 1.0 / 3;
        args.location = 1.0 / 7;
        args.low = -1e4;
        args.high = 1e4;
        args.key = 0x0123456789abcdefu;
        args.offset = offset;
        args.dims = transposed ? 2 : 1;
        args.dim[0] = transposed ? SampleDim{rows, 1, cols} : SampleDim{rows * cols, 1, 1};
        args.dim[1] = {cols, rows, 1};
        args.plan();
        kernels.sample(args, 0, args.tiles());
        std::printf("sample: shape %d, dtype %d, offset %" PRIu64 "%s: %016" PRIx64 "\n", int(shape),
                    int(dtype), offset, transposed ? ", transposed" : "", digest(out));
      }
    }
  }
  std::vector<unsigned char> out(rows * cols * bytes, 0x3c);
  const ZeroRowsArgs args{{dtype, out.data(), rows, cols, cols, 1, 31, 0xfedcba9876543210u, rows, 0, 0}};
  kernels.zero_rows(args, 0, args.tiles());
  std::printf("zero_rows: dtype %d: %016" PRIx64 "\n", int(dtype), digest(out));
}

}  // namespace

int main() {
  const Kernels* kernels = chosen_kernels();
  if (kernels == nullptr) {
    std::fprintf(stderr, "%s\n", isa_error());
    return 2;
  }
  sample<float>(*kernels, Dtype::kFloat32, 4);
  sample<double>(*kernels, Dtype::kFloat64, 8);
  sample<float>(*kernels, Dtype::kBFloat16, 2);
  sample<float>(*kernels, Dtype::kFloat16, 2);
}
