// Products of rows of x and rows of W, for linear_act in float32.
//
// W is read as it lies, unpacked, each row once for every 64 rows of x: for a small batch that is
// its bandwidth, the limit. The rows of x are packed, so that a vector holds one column of them: a
// register block of kPackVectors vectors of rows and kPackCols rows of W keeps a sum for each pair,
// and multiplies with single numbers of W. Rows that fill no vector are dot products instead: a
// block of kBlockRows x kBlockCols keeps one vector of partial sums each, folded at the end of a
// stretch of depth. A stretch lets both operands stay in the nearest caches, and keeps chains of
// additions short.

#if INITFAST_LANES == 16
constexpr int kBlockRows = 4, kBlockCols = 4;    // 16 sums of 32 registers
constexpr int kPackVectors = 2, kPackCols = 12;  // 24 sums
#else
constexpr int kBlockRows = 4, kBlockCols = 3;   // 12 sums of 16 registers
constexpr int kPackVectors = 2, kPackCols = 6;  // likewise
#endif
constexpr int64_t kDepthStretch = 256;
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

// z[r][c] += x[r] . w[c] over `depth` numbers, for kRows x kCols of them. kAhead: ask the
// second-level cache for the weights that follow; the hardware is slow to see such short rows
// coming.
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

// Swap blocks of kHalf x kHalf lanes, of half as many, ..., of single ones: lane j of v[i] becomes
// lane i of v[j].
template <int kHalf, size_t... I>
INITFAST_INLINE void swap_blocks(F32& a, F32& b, std::index_sequence<I...>) {
  constexpr auto is_second = [](size_t i) { return i % (2 * kHalf) >= kHalf; };
  const F32 first = __builtin_shufflevector(a, b, (is_second(I) ? kLanes + I - kHalf : I)...);
  b = __builtin_shufflevector(a, b, (is_second(I) ? kLanes + I : I + kHalf)...);
  a = first;
}
template <int kHalf = kLanes / 2>
INITFAST_INLINE void transpose(F32* v) {
  if constexpr (kHalf > 0) {
    for (int i = 0; i < kLanes; ++i) {
      if (i % (2 * kHalf) < kHalf) {
        swap_blocks<kHalf>(v[i], v[i + kHalf], std::make_index_sequence<kLanes>{});
      }
    }
    transpose<kHalf / 2>(v);
  }
}

// Up to kLanes rows of x, `depth` numbers each, into columns of kLanes numbers that lie `step`
// apart; rows that are not there are zero.
INITFAST_INLINE void pack_rows(const float* x, int64_t x_stride, int64_t rows, int64_t depth,
                               float* packed, int64_t step) {
  for (int64_t k = 0; k < depth; k += kLanes) {
    const int64_t left = depth - k < kLanes ? depth - k : kLanes;
    F32 v[kLanes];
    for (int64_t r = 0; r < kLanes; ++r) {
      const float* at = x + r * x_stride + k;
      v[r] = r >= rows ? F32{} : left == kLanes ? load<F32>(at) : load_first(at, int(left));
    }
    transpose(v);
    for (int64_t i = 0; i < left; ++i) store<F32>(packed + (k + i) * step, v[i]);
  }
}

// The packed rows of a tile: groups of kPackVectors vectors, then of one. Each is [depth][its
// lanes].
struct PackedRows {
  alignas(64) float data[kTileRows * kDepthStretch];
  int64_t rows = 0;  // a multiple of kLanes

  void pack(const float* x, int64_t x_stride, int64_t count, int64_t depth) {
    rows = (count + kLanes - 1) / kLanes * kLanes;
    for (int64_t r = 0; r < rows; r += kLanes) {
      const int64_t in_group = r % kGroup, lanes = group_at(r - in_group);
      pack_rows(x + r * x_stride, x_stride, count - r, depth,
                data + (r - in_group) * depth + in_group, lanes);
    }
  }
  static constexpr int64_t kGroup = kPackVectors * kLanes;
  // How many rows the group has that begins with this one.
  int64_t group_at(int64_t row) const { return row + kGroup <= rows ? kGroup : kLanes; }
};

// zt[c][r] += x[r] . w[c] over `depth` numbers, for kVectors vectors of packed rows. A function of
// its own: its loop needs the registers that would keep what is around it.
template <int kVectors, int kCols>
__attribute__((noinline)) void multiply_packed(const float* packed, const float* w,
                                               int64_t w_stride, int64_t depth, float* zt) {
  F32 sum[kCols][kVectors] = {};
  const float* at[kCols];
  for (int c = 0; c < kCols; ++c) at[c] = w + c * w_stride;
  for (int64_t k = 0; k < depth; ++k, packed += kVectors * kLanes) {
    F32 row[kVectors];
    for (int v = 0; v < kVectors; ++v) row[v] = load<F32>(packed + v * kLanes);
    for (int c = 0; c < kCols; ++c) {
      const F32 weight = repeat(at[c][k]);
      for (int v = 0; v < kVectors; ++v) sum[c][v] = mul_add(row[v], weight, sum[c][v]);
    }
  }
  for (int c = 0; c < kCols; ++c) {
    for (int v = 0; v < kVectors; ++v) {
      float* at = zt + c * kTileRows + v * kLanes;
      store<F32>(at, load<F32>(at) + sum[c][v]);
    }
  }
}

// The same for all packed rows and kCols rows of W; meanwhile asks the second-level cache for the
// weights that follow: the hardware is slow to see such short rows coming.
template <int kCols>
INITFAST_INLINE void multiply_packed_columns(const PackedRows& x, const float* w, int64_t w_stride,
                                             int64_t depth, float* zt) {
  for (int c = 0; c < kCols; ++c) {
    const float* ahead = w + (c + kAheadRows) * w_stride;
    for (int64_t k = 0; k < depth; k += 16) __builtin_prefetch(ahead + k, 0, 2);
  }
  for (int64_t r = 0; r < x.rows;) {
    const int64_t lanes = x.group_at(r);
    if (lanes > kLanes) {
      multiply_packed<kPackVectors, kCols>(x.data + r * depth, w, w_stride, depth, zt + r);
    } else {
      multiply_packed<1, kCols>(x.data + r * depth, w, w_stride, depth, zt + r);
    }
    r += lanes;
  }
}

// z[r][c] += zt[c][r].
INITFAST_INLINE void add_transposed(const float* zt, int64_t rows, int64_t cols, float* z) {
  for (int64_t r = 0; r < rows; r += kLanes) {
    for (int64_t c = 0; c < cols; c += kLanes) {
      const int64_t down = rows - r < kLanes ? rows - r : kLanes;
      const int64_t across = cols - c < kLanes ? cols - c : kLanes;
      F32 v[kLanes];
      for (int64_t i = 0; i < kLanes; ++i)
        v[i] = i < across ? load<F32>(zt + (c + i) * kTileRows + r) : F32{};
      transpose(v);
      for (int64_t i = 0; i < down; ++i) {
        float* at = z + (r + i) * cols + c;
        if (across == kLanes) {
          store<F32>(at, load<F32>(at) + v[i]);
        } else {
          for (int64_t j = 0; j < across; ++j) at[j] += v[i][j];
        }
      }
    }
  }
}

// How many of a tile's rows are packed: a vector is filled up with zeros where that costs less than
// dot products.
INITFAST_INLINE int64_t rows_packed(int64_t rows) {
  const int64_t left = rows % kLanes;
  return left > kLanes / 2 ? rows : rows - left;
}

// One stretch of depth of some rows of W: z[r][c] of the rows that are not packed, zt[c][r] of
// those that are, grow by their products.
void multiply_stretch(const PackedRows& packed, int64_t packed_rows, const float* x,
                      int64_t x_stride, int64_t rows, const float* w, int64_t w_stride,
                      int64_t count, int64_t depth, float* z, int64_t z_stride, float* zt) {
  if (packed_rows > 0) {
    int64_t c = 0;
    for (; c + kPackCols <= count; c += kPackCols) {
      multiply_packed_columns<kPackCols>(packed, w + c * w_stride, w_stride, depth,
                                         zt + c * kTileRows);
    }
    for (; c < count; ++c) {
      multiply_packed_columns<1>(packed, w + c * w_stride, w_stride, depth, zt + c * kTileRows);
    }
  }
  if (rows == 0) return;
  int64_t c = 0;
  for (; c + kBlockCols <= count; c += kBlockCols) {
    multiply_columns<kBlockCols>(x, x_stride, w + c * w_stride, w_stride, depth, z + c, z_stride,
                                 rows);
  }
  for (; c < count; ++c) {
    multiply_columns<1>(x, x_stride, w + c * w_stride, w_stride, depth, z + c, z_stride, rows);
  }
}
