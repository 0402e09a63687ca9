// The sampler: random words become numbers in registers, then go to memory in whatever layout it
// has.

// Registers of block numbers that advance together: enough to hide the products' latency, few enough
// for the register file.
constexpr int kGroups = INITFAST_LANES == 16 ? 6 : 4;
constexpr int64_t kSampleRun = 1536;  // whole batches of these

// One register of random words as signed integers.
template <class Word>
using WordsOf = std::conditional_t<sizeof(Word) == 8, I64, I32>;

// number(words) of the next kBatch registers of blocks, in order of the elements, to `to`. Even
// lanes of `low` hold the first half of a register's blocks, odd lanes the second: interleaving words
// 0, 1 with words 2, 3 then leaves them in order.
template <int kBatch, class T, class F>
INITFAST_INLINE void write_blocks(const PhiloxKeys<U64>& key, U64& low, U64 high, T* to, F number) {
  U64 lanes[kBatch], front[kBatch], back[kBatch];
  INITFAST_UNROLL(8)
  for (int g = 0; g < kBatch; ++g) lanes[g] = low + uint64_t(g * kWideLanes);
  philox<kBatch>(key, lanes, high, front, back);
  low += uint64_t(kBatch * kWideLanes);
  INITFAST_UNROLL(8)
  for (int g = 0; g < kBatch; ++g) {
    const auto near = number(bit_cast<WordsOf<T>>(even_lanes(front[g], back[g])));
    const auto far = number(bit_cast<WordsOf<T>>(odd_lanes(front[g], back[g])));
    memcpy(to, &near, sizeof near);
    memcpy(to + sizeof near / sizeof(T), &far, sizeof far);
    to += 2 * sizeof near / sizeof(T);
  }
}

// number(words) of elements [first, first + count), all within 2^32 blocks, to `to`. Only the ends,
// which do not fill a batch, take a detour.
template <class T, class F>
INITFAST_INLINE void generate_span(const PhiloxKeys<U64>& key, uint64_t first, int64_t count, T* to,
                                   F number) {
  constexpr int64_t kPerBlock = 16 / sizeof(T);
  constexpr int64_t kPerRegister = kWideLanes * kPerBlock, kPerBatch = kGroups * kPerRegister;
  alignas(64) T spare[kPerBatch];
  U64 low{}, high{};
  for (int i = 0; i < kWideLanes; ++i) {
    low[i] = first / kPerBlock + (i % 2) * (kWideLanes / 2) + i / 2;
  }
  broadcast(high, first / kPerBlock >> 32);
  for (int64_t skip = first % kPerBlock; count > 0; skip = 0) {
    int64_t n = kPerBatch;
    if (skip == 0 && count >= kPerBatch) {
      write_blocks<kGroups>(key, low, high, to, number);
    } else {
      const int64_t registers = (min(skip + count, kPerBatch) + kPerRegister - 1) / kPerRegister;
      if (registers == 1) {
        write_blocks<1>(key, low, high, spare, number);
      } else if (registers <= kGroups / 2) {
        write_blocks<kGroups / 2>(key, low, high, spare, number);
      } else {
        write_blocks<kGroups>(key, low, high, spare, number);
      }
      n = min(count, kPerBatch - skip);
      memcpy(to, spare + skip, size_t(n) * sizeof(T));
    }
    to += n;
    count -= n;
  }
}

template <class T, class F>
INITFAST_INLINE void generate(const PhiloxKeys<U64>& key, uint64_t first, int64_t count, T* to,
                              F number) {
  constexpr uint64_t kSpan = (uint64_t(1) << 32) * (16 / sizeof(T));
  while (count > 0) {
    const int64_t n = int64_t(min(uint64_t(count), uint64_t(kSpan - first % kSpan)));
    generate_span(key, first, n, to, number);
    first += uint64_t(n);
    to += n;
    count -= n;
  }
}

template <class S>
struct Sampler {
  using V = typename VectorOf<S>::Type;

  const PhiloxKeys<U64> key;
  const Shape shape;
  const S* table;
  const Affine<S> affine;

  explicit Sampler(const SampleArgs& args)
      : key(args.key),
        shape(args.shape),
        table(static_cast<const S*>(args.table)),
        affine{S(args.scale), S(args.location), S(args.low), S(args.high)} {}

  // Elements [first, first + count) into `to`.
  void run(uint64_t first, int64_t count, S* to) const {
    with_distribution(shape, affine, [&](auto distribution) {
      generate(key, first, count, to, [&](auto w) {
        return decltype(distribution)::template number<V>(w, table, affine);
      });
    });
  }
};

// A place in a strided tensor, walked in logical order.
struct Walk {
  const SampleArgs& args;
  int64_t at[kMaxSampleDims];
  int64_t memory = 0;
  uint64_t index;

  Walk(const SampleArgs& a, int64_t element) : args(a), index(a.offset) {
    for (int d = a.dims; d-- > 0;) {
      at[d] = element % a.dim[d].size;
      element /= a.dim[d].size;
      memory += at[d] * a.dim[d].memory;
      index += uint64_t(at[d] * a.dim[d].global);
    }
  }

  // Move n elements on, without passing the end of the last dimension.
  void advance(int64_t n) {
    for (int d = args.dims - 1; d >= 0; --d) {
      const auto& dim = args.dim[d];
      at[d] += n;
      memory += n * dim.memory;
      index += uint64_t(n * dim.global);
      if (at[d] < dim.size) return;
      memory -= dim.size * dim.memory;
      index -= uint64_t(dim.size * dim.global);
      at[d] = 0;
      n = 1;
    }
  }

  int64_t left_in_row() const { return args.dim[args.dims - 1].size - at[args.dims - 1]; }
};

// Numbers as they are stored.
template <class T>
INITFAST_INLINE const T* as_stored(const float* from, T* scratch, int64_t n) {
  narrow(from, scratch, n);
  return scratch;
}
INITFAST_INLINE const float* as_stored(const float* from, float*, int64_t) { return from; }
INITFAST_INLINE const double* as_stored(const double* from, double*, int64_t) { return from; }

// Elements [begin, end) in logical order. Consecutive elements of the global tensor are sampled
// together, whatever their place in memory.
template <class T>
void sample_elements(const SampleArgs& args, int64_t begin, int64_t end) {
  using S = typename ComputeOf<T>::Type;
  const Sampler<S> sampler(args);
  alignas(64) S numbers[kSampleRun];
  T scratch[kSampleRun];
  T* const out = static_cast<T*>(args.out);
  Walk walk(args, begin);
  const int64_t row_memory = args.dim[args.dims - 1].memory;
  while (begin < end) {
    int64_t n = min(end - begin, args.segment - begin % args.segment);
    const bool adjacent = row_memory == 1 && n <= walk.left_in_row();
    if (!(adjacent && kInPlace<T>)) n = min(n, kSampleRun);
    begin += n;
    if (adjacent) {
      T* const to = out + walk.memory;
      if constexpr (kInPlace<T>) {
        sampler.run(walk.index, n, to);
      } else {
        sampler.run(walk.index, n, numbers);
        narrow(numbers, to, n);
      }
      walk.advance(n);
      continue;
    }
    sampler.run(walk.index, n, numbers);
    const T* const stored = as_stored(numbers, scratch, n);
    for (int64_t i = 0; i < n;) {
      const int64_t piece = min(n - i, walk.left_in_row());
      T* const to = out + walk.memory;
      for (int64_t j = 0; j < piece; ++j) to[j * row_memory] = stored[i + j];
      walk.advance(piece);
      i += piece;
    }
  }
}

// One box of a tensor whose last dimension is not the one that is adjacent in memory: drawn along
// the last, where the stream is consecutive, and stored along the other.
template <class T>
void sample_box(const SampleArgs& args, int64_t tile) {
  using S = typename ComputeOf<T>::Type;
  const Sampler<S> sampler(args);
  alignas(64) S numbers[kBoxElements];
  T scratch[kBoxElements];
  const SampleDim &rows = args.dim[args.box_dim], &cols = args.dim[args.dims - 1];
  const int64_t col = tile % ceil_div(cols.size, args.box_cols) * args.box_cols;
  tile /= ceil_div(cols.size, args.box_cols);
  const int64_t row = tile % ceil_div(rows.size, args.box_rows) * args.box_rows;
  tile /= ceil_div(rows.size, args.box_rows);
  const int64_t height = min(args.box_rows, rows.size - row);
  const int64_t width = min(args.box_cols, cols.size - col);
  uint64_t index = args.offset + uint64_t(row * rows.global + col);
  T* to = static_cast<T*>(args.out) + row * rows.memory + col * cols.memory;
  for (int d = args.dims - 1; d-- > 0;) {
    if (d == args.box_dim) continue;
    const int64_t at = tile % args.dim[d].size;
    tile /= args.dim[d].size;
    index += uint64_t(at * args.dim[d].global);
    to += at * args.dim[d].memory;
  }
  const int64_t run = rows.global == width ? height * width : width;
  for (int64_t i = 0; i < height * width; i += run, index += uint64_t(rows.global)) {
    sampler.run(index, run, numbers + i);
  }
  const T* const stored = as_stored(numbers, scratch, height * width);
  for (int64_t j = 0; j < width; ++j, to += cols.memory) {
    for (int64_t i = 0; i < height; ++i) to[i * rows.memory] = stored[i * width + j];
  }
}

void sample(const SampleArgs& args, int64_t begin, int64_t end) {
  with_dtype(args.dtype, [&](auto* typed) {
    using T = std::remove_pointer_t<decltype(typed)>;
    if (!args.boxed()) {
      return sample_elements<T>(args, begin * kSampleTile, min(end * kSampleTile, args.numel));
    }
    for (int64_t tile = begin; tile < end; ++tile) sample_box<T>(args, tile);
  });
}
