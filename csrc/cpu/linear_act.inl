// linear_act in float32: y = act(x W^T + b) by tiles of 64 x 64.
//
// A tile's pre-activations are sums over depth. W is read as it lies, unpacked, each row once for
// every 64 rows of x: for a small batch that is its bandwidth, the limit. A register block of
// kBlockRows x kBlockCols dot products keeps one vector of partial sums each, folded at the end of
// a stretch of depth that lets both operands stay in the nearest caches. The tile then is one run of
// kTileRows * kTileCols numbers in the L1 cache: bias, moments, activation and moments again are
// taken there. The weight's own moments are taken by the tiles of the first rows of x, a few rows of W
// at a time just before they are multiplied: that brings them into the cache where the product finds
// them.

#if INITFAST_LANES == 16
constexpr int kBlockRows = 4, kBlockCols = 4;  // 16 sums of 32 registers
#else
constexpr int kBlockRows = 4, kBlockCols = 3;  // 12 sums of 16 registers
#endif
constexpr int64_t kDepthStretch = 1024;
constexpr int64_t kAheadRows = 32;  // of W, asked for while the cores multiply

// Fold two vectors into one: of every 2 kHalf lanes the first half holds the sums of a's lanes
// kHalf apart, the second half those of b's.
template <int kHalf, size_t... I>
INITFAST_INLINE F32 fold_pair(F32 a, F32 b, std::index_sequence<I...>) {
  constexpr auto of_b = [](size_t i) { return i % (2 * kHalf) >= kHalf; };
  return __builtin_shufflevector(a, b, (of_b(I) ? kLanes + I - kHalf : I)...) +
         __builtin_shufflevector(a, b, (of_b(I) ? kLanes + I : I + kHalf)...);
}

// Lane i is the sum of v[i]'s lanes. Each step of this butterfly halves both the vectors and the
// lanes that are still to be added: kLanes - 1 foldings for kLanes sums.
template <int kVectors = kLanes>
INITFAST_INLINE F32 fold(F32* v) {
  if constexpr (kVectors == 1) {
    return v[0];
  } else {
    constexpr int kHalf = kVectors / 2;
    for (int i = 0; i < kHalf; ++i) {
      v[i] = fold_pair<kHalf>(v[i], v[i + kHalf], std::make_index_sequence<kLanes>{});
    }
    return fold<kHalf>(v);
  }
}

// z[r][c] += x[r] . w[c] over `depth` numbers, for kRows x kCols of them. kAhead: ask the second-level
// cache for the weights that follow; the hardware is slow to see such short rows coming.
template <int kRows, int kCols, bool kAhead = false>
INITFAST_INLINE void multiply_block(const float* x, int64_t x_stride, const float* w,
                                    int64_t w_stride, int64_t depth, float* z, int64_t z_stride) {
  F32 sum[kRows][kCols] = {};
  int64_t k = 0;
  for (; k + kLanes <= depth; k += kLanes) {
    F32 row[kRows];
    for (int r = 0; r < kRows; ++r) row[r] = load<F32>(x + r * x_stride + k);
    for (int c = 0; c < kCols; ++c) {
      const float* at = w + c * w_stride + k;
      if constexpr (kAhead) __builtin_prefetch(at + kAheadRows * w_stride, 0, 2);
      const F32 weight = load<F32>(at);
      for (int r = 0; r < kRows; ++r) sum[r][c] = mul_add(row[r], weight, sum[r][c]);
    }
  }
  if (k < depth) {
    const int left = int(depth - k);
    F32 row[kRows];
    for (int r = 0; r < kRows; ++r) row[r] = load_first(x + r * x_stride + k, left);
    for (int c = 0; c < kCols; ++c) {
      const F32 weight = load_first(w + c * w_stride + k, left);
      for (int r = 0; r < kRows; ++r) sum[r][c] = mul_add(row[r], weight, sum[r][c]);
    }
  }
  float flat[kRows * kCols + kLanes];
  for (int i = 0; i < kRows * kCols; i += kLanes) {
    F32 v[kLanes];
    for (int j = 0; j < kLanes; ++j) {
      v[j] = i + j < kRows * kCols ? sum[(i + j) / kCols][(i + j) % kCols] : F32{};
    }
    store<F32>(flat + i, fold(v));
  }
  for (int r = 0; r < kRows; ++r) {
    float row[kCols];  // read and written whole, in one vector
    memcpy(row, z + r * z_stride, sizeof row);
    for (int c = 0; c < kCols; ++c) row[c] += flat[r * kCols + c];
    memcpy(z + r * z_stride, row, sizeof row);
  }
}

// z[rows][cols] += x w^T over `depth` numbers, block by block.
template <int kCols>
INITFAST_INLINE void multiply_columns(const float* x, int64_t x_stride, const float* w,
                                      int64_t w_stride, int64_t depth, float* z, int64_t z_stride,
                                      int64_t rows) {
  int64_t r = 0;
  if (rows >= kBlockRows) {
    multiply_block<kBlockRows, kCols, true>(x, x_stride, w, w_stride, depth, z, z_stride);
    r = kBlockRows;
  }
  for (; r + kBlockRows <= rows; r += kBlockRows) {
    multiply_block<kBlockRows, kCols>(x + r * x_stride, x_stride, w, w_stride, depth,
                                      z + r * z_stride, z_stride);
  }
  for (; r < rows; ++r) {
    multiply_block<1, kCols>(x + r * x_stride, x_stride, w, w_stride, depth, z + r * z_stride,
                             z_stride);
  }
}

// Merge the moments of rows of W into `total`.
void measure_weight(const float* w, int64_t w_stride, int64_t rows, int64_t depth, Moments& total) {
  const bool contiguous = w_stride == depth;
  const int64_t pieces = contiguous ? 1 : rows, length = contiguous ? rows * depth : depth;
  for (int64_t piece = 0; piece < pieces; ++piece, w += w_stride) {
    for (int64_t i = 0; i < length; i += kRun) {
      merge(total, run_moments<true>(w + i, length - i < kRun ? length - i : kRun));
    }
  }
}

// Whole blocks of rows of W that are about one run.
INITFAST_INLINE int64_t rows_measured_together(int64_t depth) {
  const int64_t blocks = kRun / (depth * kBlockCols);
  return (blocks > 1 ? blocks : 1) * kBlockCols;
}

// weight_total: where to merge the moments of the weights read, or null.
void multiply_tile(const LinearActArgs& a, int64_t row, int64_t col, int64_t rows, int64_t cols,
                   float* z, Moments* weight_total) {
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < cols; ++c) z[r * cols + c] = a.bias ? a.bias[col + c] : 0.f;
  }
  for (int64_t k = 0; k < a.depth; k += kDepthStretch) {
    const int64_t depth = a.depth - k < kDepthStretch ? a.depth - k : kDepthStretch;
    const float* x = a.x + row * a.x_stride + k;
    const int64_t group = weight_total && k == 0 ? rows_measured_together(a.depth) : cols;
    for (int64_t first = 0; first < cols; first += group) {
      const int64_t last = first + group < cols ? first + group : cols;
      const float* w = a.weight + (col + first) * a.weight_stride + k;
      if (weight_total && k == 0) measure_weight(w, a.weight_stride, last - first, a.depth, *weight_total);
      int64_t c = first;
      for (; c + kBlockCols <= last; c += kBlockCols, w += kBlockCols * a.weight_stride) {
        multiply_columns<kBlockCols>(x, a.x_stride, w, a.weight_stride, depth, z + c, cols, rows);
      }
      for (; c < last; ++c, w += a.weight_stride) {
        multiply_columns<1>(x, a.x_stride, w, a.weight_stride, depth, z + c, cols, rows);
      }
    }
  }
}

INITFAST_INLINE void copy_tile(const float* from, float* to, int64_t rows, int64_t cols,
                               int64_t to_stride) {
  for (int64_t r = 0; r < rows; ++r) memcpy(to + r * to_stride, from + r * cols, cols * sizeof(float));
}

void mark_columns(const float* y, int64_t rows, int64_t cols, bool has_zero, uint8_t* live) {
  if (all_live(live, cols)) return;
  uint8_t mark[kTileCols] = {};
  for (int64_t r = 0; r < rows && has_zero; ++r) {
    for (int64_t c = 0; c < cols; ++c) mark[c] |= y[r * cols + c] != 0.f;
  }
  mark_live(live, has_zero ? mark : nullptr, cols);
}

void linear_act(const LinearActArgs& a, int64_t begin, int64_t end) {
  alignas(64) float z[kTileRows * kTileCols];
  alignas(64) float y[kTileRows * kTileCols];
  const int64_t across = a.tiles_across();
  for (int64_t tile = begin; tile < end; ++tile) {
    const int64_t row = tile / across * kTileRows, col = tile % across * kTileCols;
    const int64_t rows = a.rows - row < kTileRows ? a.rows - row : kTileRows;
    const int64_t cols = a.cols - col < kTileCols ? a.cols - col : kTileCols;
    Moments* weight = row == 0 ? a.weight_partial + tile : nullptr;
    if (weight) *weight = no_moments();
    multiply_tile(a, row, col, rows, cols, z, weight);
    Moments& pre = a.partial[2 * tile] = run_moments<false>(z, rows * cols);
    Moments& post = a.partial[2 * tile + 1] = pre;
    const float* result = z;
    if (a.act.kind != ActivationKind::kIdentity) {
      const int64_t saturated = run_activation<float>(a.act, z, y, rows * cols);
      post = run_moments<false>(y, rows * cols);
      post.saturated = saturated;
      result = y;
    }
    mark_columns(result, rows, cols, post.zero > 0, a.live + col);
    copy_tile(result, a.y + row * a.cols + col, rows, cols, a.cols);
    if (a.z) copy_tile(z, a.z + row * a.cols + col, rows, cols, a.cols);
  }
}
