// The way back through linear_act in float32, for batches that fit one row of tiles.
//
// Both products are sums of outer products: a number of grad_z times a vector of the other matrix, W
// for grad_x and x for grad_W, each read along its rows as it lies. A tile of 64 columns is finished
// in the L1 cache. grad_x is the gradient at the output of the layer below: it is measured there and
// multiplied by that activation's slope, so that the layer below begins with its own grad_z. grad_W
// is measured there, and written to memory only where it is asked for: at a small batch that write
// would take as long as the product.

#if INITFAST_LANES == 16
constexpr int kOuterRows = 4, kOuterVectors = 4;  // 16 sums of 32 registers
#else
constexpr int kOuterRows = 4, kOuterVectors = 2;  // 8 sums of 16 registers
#endif
constexpr int64_t kOuterStretch = 64;  // outer products summed in registers; W's part stays in L1

// A matrix that is read number by number: (i, j) is at data[i * down + j * across].
struct Factor {
  const float* data;
  int64_t down, across;
};

// out[i][v] += sum over j < count of a(i, j) b[j][v], for kRows x kVectors vectors; kLast: of the
// only vector, the first `left` lanes.
template <int kRows, int kVectors, bool kLast>
INITFAST_INLINE void add_outer_products(Factor a, const float* b, int64_t b_stride, int64_t count,
                                        int left, float* out, int64_t out_stride) {
  F32 sum[kRows][kVectors] = {};
  for (int64_t j = 0; j < count; ++j) {
    F32 row[kVectors];
    for (int v = 0; v < kVectors; ++v) {
      const float* at = b + j * b_stride + v * kLanes;
      row[v] = kLast ? load_first(at, left) : load<F32>(at);
    }
    for (int i = 0; i < kRows; ++i) {
      const F32 factor = splat<F32>(a.data[i * a.down + j * a.across]);
      for (int v = 0; v < kVectors; ++v) sum[i][v] = mul_add(factor, row[v], sum[i][v]);
    }
  }
  for (int i = 0; i < kRows; ++i) {
    for (int v = 0; v < kVectors; ++v) {
      float* at = out + i * out_stride + v * kLanes;
      if (kLast) {
        for (int lane = 0; lane < left; ++lane) at[lane] += sum[i][v][lane];
      } else {
        store<F32>(at, load<F32>(at) + sum[i][v]);
      }
    }
  }
}

template <int kVectors, bool kLast>
INITFAST_INLINE void add_to_columns(Factor a, int64_t rows, const float* b, int64_t b_stride,
                                    int64_t count, int left, float* out, int64_t out_stride) {
  int64_t i = 0;
  for (; i + kOuterRows <= rows; i += kOuterRows) {
    add_outer_products<kOuterRows, kVectors, kLast>({a.data + i * a.down, a.down, a.across}, b,
                                                    b_stride, count, left, out + i * out_stride,
                                                    out_stride);
  }
  for (; i < rows; ++i) {
    add_outer_products<1, kVectors, kLast>({a.data + i * a.down, a.down, a.across}, b, b_stride, count,
                                           left, out + i * out_stride, out_stride);
  }
}

// out = a b, contiguous: a [rows, count], b [count, cols].
void product_tile(Factor a, int64_t rows, const float* b, int64_t b_stride, int64_t count, int64_t cols,
                  float* out) {
  memset(out, 0, size_t(rows * cols) * sizeof(float));
  for (int64_t j = 0; j < count; j += kOuterStretch) {
    const int64_t n = count - j < kOuterStretch ? count - j : kOuterStretch;
    const Factor part{a.data + j * a.across, a.down, a.across};
    const float* from = b + j * b_stride;
    int64_t c = 0;
    for (; c + kOuterVectors * kLanes <= cols; c += kOuterVectors * kLanes) {
      add_to_columns<kOuterVectors, false>(part, rows, from + c, b_stride, n, 0, out + c, cols);
    }
    for (; c + kLanes <= cols; c += kLanes) {
      add_to_columns<1, false>(part, rows, from + c, b_stride, n, 0, out + c, cols);
    }
    if (c < cols) {
      add_to_columns<1, true>(part, rows, from + c, b_stride, n, int(cols - c), out + c, cols);
    }
  }
}

// `cols` columns of grad_x, from `col` on, and what the layer below makes of them.
void input_gradient_tile(const LinearActBackwardArgs& a, int64_t tile, int64_t col, int64_t cols) {
  alignas(64) float grad[kTileRows * kTileCols];
  alignas(64) float z[kTileRows * kTileCols];
  alignas(64) float grad_z[kTileRows * kTileCols];
  product_tile({a.grad_z, a.cols, 1}, a.rows, a.weight + col, a.weight_stride, a.cols, cols, grad);
  float* out = a.grad_x + col;
  if (a.below_z == nullptr) return copy_tile(grad, out, a.rows, cols, a.depth);
  a.grad_x_partial[tile] = run_moments<false>(grad, a.rows * cols);
  for (int64_t r = 0; r < a.rows; ++r) {
    memcpy(z + r * cols, a.below_z + r * a.depth + col, size_t(cols) * sizeof(float));
  }
  run_activation_backward(a.below_act, grad, z, grad_z, a.rows * cols);
  copy_tile(grad_z, out, a.rows, cols, a.depth);
}

// The rows of grad_W from `row` on, in these columns.
void weight_gradient_tile(const LinearActBackwardArgs& a, int64_t tile, int64_t row, int64_t rows,
                          int64_t col, int64_t cols) {
  alignas(64) float grad[kTileRows * kTileCols];
  product_tile({a.grad_z + row, 1, a.cols}, rows, a.x + col, a.x_stride, a.rows, cols, grad);
  a.grad_weight_partial[tile] = run_moments<false>(grad, rows * cols);
  if (a.grad_weight) copy_tile(grad, a.grad_weight + row * a.depth + col, rows, cols, a.depth);
}

void bias_gradient(const LinearActBackwardArgs& a, int64_t row, int64_t rows) {
  for (int64_t i = row; i < row + rows; ++i) {
    float sum = 0;
    for (int64_t r = 0; r < a.rows; ++r) sum += a.grad_z[r * a.cols + i];
    a.grad_bias[i] = sum;
  }
}

void linear_act_backward(const LinearActBackwardArgs& a, int64_t begin, int64_t end) {
  const int64_t down = a.tiles_down(), parts = down + 1;
  for (int64_t i = begin; i < end; ++i) {
    const int64_t across = i / parts, part = i % parts;
    const int64_t col = across * kTileCols, row = (part - 1) * kTileRows;
    const int64_t cols = a.depth - col < kTileCols ? a.depth - col : kTileCols;
    const int64_t rows = a.cols - row < kTileRows ? a.cols - row : kTileRows;
    if (part == 0) {
      if (a.grad_x) input_gradient_tile(a, across, col, cols);
      continue;
    }
    if (a.grad_weight_partial) {
      weight_gradient_tile(a, across * down + part - 1, row, rows, col, cols);
    }
    if (a.grad_bias && col == 0) bias_gradient(a, row, rows);
  }
}
