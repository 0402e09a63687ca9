// The sampler: the numbers that the CPU draws, bit for bit.
//
// Philox and the conversion to numbers are the CPU's own headers. Compiled without contraction
// (--fmad=false), they hold only operations that IEEE 754 rounds exactly.
//
// A thread draws whole blocks of the stream: the 4 words (2 of 64 bits for double) of one Philox
// call. They are consecutive along the dimension whose stride in the global tensor is 1, the "row",
// wherever that lies in memory.

#include "math/distribution.h"
#include "math/philox.h"
#include "elements.cuh"

namespace initfast::cuda {
namespace {

// Several waves on any card; more would only load the table more often.
constexpr int64_t kMaxSampleBlocks = 4 * kMaxBlocks;

template <class S>
constexpr int kWordsPerBlock = 16 / int(sizeof(typename WordOf<S>::Type));

template <class S>
struct SampleKernelArgs {
  Dtype dtype;
  void* out;
  Shape shape;
  Affine<S> affine;
  uint64_t key, offset;
  int64_t row_size, row_memory;
  int64_t rows, blocks_per_row;  // a row may begin and end within a block
  int64_t plain;  // so many blocks lie in memory as in the stream, aligned, from the first on
  int outer_dims;
  SampleDim outer[kMaxSampleDims];
  int table_size;
  S table[2 * kTableSize<S>];  // travels with the launch: no copy to wait for
};

// ---- numbers of one block ----

template <class S>
struct Numbers {
  S x[kWordsPerBlock<S>];
};

template <class D, class S>
__device__ __forceinline__ Numbers<S> draw(const SampleKernelArgs<S>& a, const S* table,
                                           const PhiloxKeys<uint64_t>& key, uint64_t block) {
  using Word = typename WordOf<S>::Type;
  const uint64_t low[1] = {block};
  uint64_t front[1], back[1];
  philox<1>(key, low, block >> 32, front, back);
  const uint64_t words[2] = {front[0], back[0]};
  Numbers<S> n;
#pragma unroll
  for (int i = 0; i < kWordsPerBlock<S>; ++i) {
    const uint64_t half = words[i * int(sizeof(Word)) / 8];
    const Word word = Word(sizeof(Word) == 8 ? half : half >> 32 * (i % 2));
    n.x[i] = D::template number<S>(IntOf<S>(word), table, a.affine);
  }
  return n;
}

// ---- and where they go ----

// One block's numbers, stored at once.
template <class T, int N>
struct alignas(sizeof(T) * N) Packed {
  T element[N];
};

template <class T, class S>
__device__ __forceinline__ Packed<T, kWordsPerBlock<S>> pack(const Numbers<S>& n) {
  Packed<T, kWordsPerBlock<S>> packed;
#pragma unroll
  for (int i = 0; i < kWordsPerBlock<S>; ++i) narrow(n.x[i], packed.element[i]);
  return packed;
}

// Blocks [0, a.plain), one after the other.
template <class D, class T, class S>
__device__ __forceinline__ void fill_plain(const SampleKernelArgs<S>& a, const S* table,
                                           const PhiloxKeys<uint64_t>& key, T* out) {
  constexpr int N = kWordsPerBlock<S>;
  auto* packed = reinterpret_cast<Packed<T, N>*>(out);
  const uint64_t first = a.offset / N;
  for (int64_t item = int64_t(blockIdx.x) * kThreads + threadIdx.x; item < a.plain;
       item += int64_t(gridDim.x) * kThreads) {
    packed[item] = pack<T>(draw<D>(a, table, key, first + uint64_t(item)));
  }
}

// The blocks of rows, from item `begin` on, wherever they lie.
template <class D, class T, class S>
__device__ __forceinline__ void fill_rows(const SampleKernelArgs<S>& a, const S* table,
                                          const PhiloxKeys<uint64_t>& key, T* out, int64_t begin) {
  constexpr int N = kWordsPerBlock<S>;
  const int64_t items = a.rows * a.blocks_per_row;
  for (int64_t item = begin + int64_t(blockIdx.x) * kThreads + threadIdx.x; item < items;
       item += int64_t(gridDim.x) * kThreads) {
    int64_t row = a.rows > 1 ? item / a.blocks_per_row : 0;
    const int64_t block_in_row = item - row * a.blocks_per_row;
    int64_t memory = 0;
    uint64_t start = a.offset;  // the row's first index in the stream
    for (int d = a.outer_dims - 1; d >= 0; --d) {
      const int64_t outer = row / a.outer[d].size;
      const int64_t at = row - outer * a.outer[d].size;
      memory += at * a.outer[d].memory;
      start += uint64_t(at * a.outer[d].global);
      row = outer;
    }
    const int64_t first = block_in_row * N - int64_t(start % N);  // word 0's place in the row
    const auto packed = pack<T>(draw<D>(a, table, key, start / N + uint64_t(block_in_row)));
    T* to = out + memory + first * a.row_memory;
#pragma unroll
    for (int i = 0; i < N; ++i) {
      if (0 <= first + i && first + i < a.row_size) to[i * a.row_memory] = packed.element[i];
    }
  }
}

template <class S>
__global__ void __launch_bounds__(kThreads) sample_kernel(const SampleKernelArgs<S> a) {
  INITFAST_SHARED_ARRAY(S, table, 2 * kTableSize<S>);
  for (int i = int(threadIdx.x); i < a.table_size; i += kThreads) table[i] = a.table[i];
  __syncthreads();
  const PhiloxKeys<uint64_t> key(a.key);
  with_storage<S>(a.dtype, [&](auto type) {
    auto* out = static_cast<decltype(type)*>(a.out);
    with_distribution(a.shape, a.affine, [&](auto distribution) {
      using D = decltype(distribution);
      if (a.plain > 0) fill_plain<D>(a, table, key, out);
      fill_rows<D>(a, table, key, out, a.plain);
    });
  });
}

template <class S>
cudaError_t launch_sample(const SampleArgs& a, cudaStream_t stream) {
  SampleKernelArgs<S> k{};
  k.dtype = a.dtype;
  k.out = a.out;
  k.shape = a.shape;
  k.affine = {S(a.scale), S(a.location), S(a.low), S(a.high)};
  k.key = a.key;
  k.offset = a.offset;
  k.row_size = k.row_memory = k.rows = 1;
  bool found = false;
  for (int d = a.dims - 1; d >= 0; --d) {
    const SampleDim& dim = a.dim[d];
    if (dim.global == 1 && !found) {
      found = true;
      k.row_size = dim.size;
      k.row_memory = dim.memory;
    } else {
      k.rows *= dim.size;
      k.outer[k.outer_dims++] = dim;
    }
  }
  k.blocks_per_row = k.row_size == 1 ? 1 : ceil_div(k.row_size, kWordsPerBlock<S>) + 1;
  const int64_t stored = a.dtype == Dtype::kFloat64 || a.dtype == Dtype::kFloat32 ? sizeof(S) : 2;
  const bool in_order = k.rows == 1 && k.row_memory == 1 && a.offset % kWordsPerBlock<S> == 0 &&
                        reinterpret_cast<uintptr_t>(a.out) % (stored * kWordsPerBlock<S>) == 0;
  k.plain = in_order ? k.row_size / kWordsPerBlock<S> : 0;
  const int halves = a.shape == Shape::kUniform ? 0 : a.shape == Shape::kSkewed ? 2 : 1;
  k.table_size = halves * kTableSize<S>;
  if (halves > 0) memcpy(k.table, a.table, size_t(k.table_size) * sizeof(S));
  const int64_t blocks = ceil_div(k.rows * k.blocks_per_row, kThreads);
  return launch(sample_kernel<S>, blocks < kMaxSampleBlocks ? blocks : kMaxSampleBlocks, stream, k);
}

// ---- zeros at random places, so many in each column: Floyd's method (Bentley & Floyd 1987) ----

template <class T>
__device__ __forceinline__ void zero_column(const ZeroRowsArgs& a, const PhiloxKeys<uint64_t>& key,
                                            int64_t column) {
  const uint64_t start = uint64_t(a.first_col + column) * uint64_t(a.all_rows);
  for (int64_t last = a.all_rows - a.count; last < a.all_rows; ++last) {
    const uint64_t word = stream_word<uint32_t>(key, start + uint64_t(last));
    const int64_t drawn = int64_t(word * uint64_t(last + 1) >> 32);
    const int64_t row = a.chosen[drawn * a.cols + column] ? last : drawn;
    a.chosen[row * a.cols + column] = 1;
    const int64_t held = row - a.first_row;
    if (held < 0 || held >= a.rows) continue;
    static_cast<T*>(a.out)[held * a.row_stride + column * a.col_stride] = T{};
  }
}

// A thread for each column: what a column draws depends on what it drew before.
__global__ void __launch_bounds__(kThreads) zero_rows_kernel(const ZeroRowsArgs a) {
  const PhiloxKeys<uint64_t> key(a.key);
  const int64_t column = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (column >= a.cols) return;
  switch (a.dtype) {
    case Dtype::kFloat64: return zero_column<uint64_t>(a, key, column);
    case Dtype::kFloat32: return zero_column<uint32_t>(a, key, column);
    default: return zero_column<uint16_t>(a, key, column);
  }
}

}  // namespace

cudaError_t sample(const SampleArgs& a, cudaStream_t stream) {
  return a.dtype == Dtype::kFloat64 ? launch_sample<double>(a, stream) : launch_sample<float>(a, stream);
}

cudaError_t zero_rows(const ZeroRowsArgs& a, cudaStream_t stream) {
  return launch(zero_rows_kernel, ceil_div(a.cols, kThreads), stream, a);
}

}  // namespace initfast::cuda
