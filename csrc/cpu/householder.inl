// The orthogonal factor of random normals, as initfast/init/orthogonal.py computes it: blocks of Householder
// reflections first, then strips of Q's columns, to each of which all blocks are applied in turn, so that
// no strip waits for another. Every number is a chain of multiply-adds in an order that the shape alone
// decides: neither threads nor the registers' width show in the bits.

constexpr int64_t kBlock = kReflections;            // columns of a strip, too
constexpr int kProductRows = kLanes == 16 ? 8 : 4;  // sums in registers: two vectors for each row

INITFAST_INLINE int64_t padded_rows(int64_t rows) {
  return ceil_div(rows, kProductRows) * kProductRows;
}

// Reflections k kBlock, ... of the matrix: I - V T V^T, from row `first` on.
template <class S>
struct Reflections {
  S* v;  // [height, kBlock], zeros above the diagonal; columns of squared norm 2
  S* t;  // [kBlock, kBlock], upper triangular
  int64_t first, height, count;

  Reflections(const HouseholderArgs& args, int64_t k)
      : first(k * kBlock), count(min(kBlock, args.cols - k * kBlock)) {
    const int64_t rows = padded_rows(args.rows);
    height = rows - first;
    v = static_cast<S*>(args.v) + kBlock * (k * rows - kBlock * k * (k - 1) / 2);
    t = static_cast<S*>(args.t) + k * kBlock * kBlock;
  }
};

// c[i, j] += or -= the sum over k of a[i * kAcross + k * kAlong] b[k, j], for kProductRows rows and two
// vectors of columns; rows of b and c lie kBlock numbers apart.
template <bool kSubtract, int kAcross, int kAlong, class S>
INITFAST_INLINE void add_product(const S* a, const S* b, int64_t depth, S* c) {
  using V = typename VectorOf<S>::Type;
  constexpr int kWidth = Lane<V>::kLanes;
  V sum[kProductRows][2];
  INITFAST_UNROLL(8)
  for (int i = 0; i < kProductRows; ++i) sum[i][0] = sum[i][1] = V{};
  for (int64_t k = 0; k < depth; ++k, a += kAlong, b += kBlock) {
    const V left = load<V>(b), right = load<V>(b + kWidth);
    INITFAST_UNROLL(8)
    for (int i = 0; i < kProductRows; ++i) {
      const V factor = splat<V>(a[i * kAcross]);
      sum[i][0] = mul_add(factor, left, sum[i][0]);
      sum[i][1] = mul_add(factor, right, sum[i][1]);
    }
  }
  INITFAST_UNROLL(8)
  for (int i = 0; i < kProductRows; ++i, c += kBlock) {
    const V left = load<V>(c), right = load<V>(c + kWidth);
    store<V>(c, kSubtract ? left - sum[i][0] : left + sum[i][0]);
    store<V>(c + kWidth, kSubtract ? right - sum[i][1] : right + sum[i][1]);
  }
}

// Likewise for any number of padded rows, and all columns.
template <bool kSubtract, int kAcross, int kAlong, class S>
void add_products(const S* a, const S* b, int64_t rows, int64_t depth, S* c) {
  constexpr int kColumns = 2 * Lane<typename VectorOf<S>::Type>::kLanes;
  for (int64_t i = 0; i < rows; i += kProductRows) {
    for (int64_t j = 0; j < kBlock; j += kColumns) {
      add_product<kSubtract, kAcross, kAlong>(a + i * kAcross, b + j, depth, c + i * kBlock + j);
    }
  }
}

// w = V^T x, kBlock rows of x at a time: short chains, and both operands stay in the nearest cache.
template <class S>
void project(const Reflections<S>& block, const S* x, S* w) {
  memset(w, 0, sizeof(S) * kBlock * kBlock);
  for (int64_t row = 0; row < block.height; row += kBlock) {
    add_products<false, 1, kBlock>(block.v + row * kBlock, x + row * kBlock, kBlock,
                                   min(kBlock, block.height - row), w);
  }
}

// A column x from the diagonal down is reflected to -s |x| e_1, s being the sign of its first number, by
// v = x + s |x| e_1; a column of zeros to -e_1. Q's column takes the sign -s.
template <class S>
void draw_reflections(const HouseholderArgs& args, const Reflections<S>& block, S* signs) {
  const S* from = static_cast<const S*>(args.x) + block.first * (args.cols + 1);
  double scale[kBlock] = {};
  memset(block.v, 0, sizeof(S) * size_t(block.height * kBlock));
  for (int64_t row = 0; row < args.rows - block.first; ++row, from += args.cols) {
    S* const v = block.v + row * kBlock;
    for (int64_t c = 0; c < min(block.count, row + 1); ++c) {
      v[c] = from[c];
      scale[c] += double(from[c]) * double(from[c]);
    }
  }
  for (int64_t c = 0; c < block.count; ++c) {
    S& first = block.v[c * (kBlock + 1)];
    const double size = first < 0 ? -double(first) : double(first);
    const double norm = scale[c] > 0 ? __builtin_sqrt(scale[c]) : 1;
    signs[c] = S(first < 0 ? 1 : -1);
    first = S(double(first) - double(signs[c]) * norm);
    scale[c] = scale[c] > 0 ? 1 / __builtin_sqrt(norm * (norm + size)) : __builtin_sqrt(2.0);
  }
  for (int64_t row = 0; row < block.height; ++row) {
    S* const v = block.v + row * kBlock;
    for (int64_t c = 0; c < kBlock; ++c) v[c] = S(double(v[c]) * scale[c]);
  }
}

// T of V^T V: its inverse is that matrix's upper triangle with half the diagonal.
template <class S>
void invert_triangle(const S* gram, int64_t count, S* t) {
  double column[kBlock] = {};
  for (int64_t j = 0; j < kBlock; ++j) {
    for (int64_t i = kBlock; i-- > 0;) {
      double sum = i == j ? 1 : 0;
      for (int64_t k = i + 1; k <= j; ++k) sum -= double(gram[i * kBlock + k]) * column[k];
      column[i] = i <= j && j < count ? 2 * sum / double(gram[i * kBlock + i]) : 0;
      t[i * kBlock + j] = S(column[i]);
    }
  }
}

template <class S>
void prepare_block(const HouseholderArgs& args, int64_t k) {
  const Reflections<S> block(args, k);
  alignas(64) S gram[kBlock * kBlock];
  draw_reflections(args, block, static_cast<S*>(args.signs) + block.first);
  project(block, block.v, gram);
  invert_triangle(gram, block.count, block.t);
}

// Columns index kBlock, ... of Q; q is scratch for them.
template <class S>
void fill_strip(const HouseholderArgs& args, int64_t index, S* q) {
  const int64_t first = index * kBlock, count = min(kBlock, args.cols - first);
  const S* const signs = static_cast<const S*>(args.signs) + first;
  alignas(64) S w[kBlock * kBlock], tw[kBlock * kBlock];
  memset(q, 0, sizeof(S) * size_t(padded_rows(args.rows) * kBlock));
  for (int64_t c = 0; c < count; ++c) q[(first + c) * kBlock + c] = signs[c];
  for (int64_t k = index; k >= 0; --k) {
    const Reflections<S> block(args, k);
    S* const x = q + block.first * kBlock;
    project(block, x, w);
    memset(tw, 0, sizeof tw);
    add_products<false, kBlock, 1>(block.t, w, kBlock, kBlock, tw);
    add_products<true, kBlock, 1>(block.v, tw, block.height, kBlock, x);
  }
  S* to = static_cast<S*>(args.x) + first;
  for (int64_t row = 0; row < args.rows; ++row, to += args.cols) {
    memcpy(to, q + row * kBlock, sizeof(S) * size_t(count));
  }
}

// Blocks and strips are of unequal work: a thread takes the next, the heaviest first, until none is left.
template <class F>
INITFAST_INLINE void take_turns(const HouseholderArgs& args, F f) {
  for (int64_t i; (i = __atomic_fetch_add(args.next, 1, __ATOMIC_RELAXED)) < args.tiles();) f(i);
}

template <class S>
void fill_strips(const HouseholderArgs& args) {
  const size_t size = sizeof(S) * size_t(padded_rows(args.rows) * kBlock);
  char* const scratch = new char[size + 64];
  S* const q = reinterpret_cast<S*>(scratch + (64 - reinterpret_cast<uintptr_t>(scratch) % 64));
  take_turns(args, [&](int64_t i) { fill_strip<S>(args, args.tiles() - 1 - i, q); });
  delete[] scratch;
}

void householder_blocks(const HouseholderArgs& args, int64_t, int64_t) {
  take_turns(args, [&](int64_t k) {
    args.dtype == Dtype::kFloat64 ? prepare_block<double>(args, k) : prepare_block<float>(args, k);
  });
}

void householder_strips(const HouseholderArgs& args, int64_t, int64_t) {
  args.dtype == Dtype::kFloat64 ? fill_strips<double>(args) : fill_strips<float>(args);
}
