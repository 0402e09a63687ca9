// linear_act in float32: y = act(x W^T + b) by tiles of 64 x 64.
//
// A tile is one run of kTileRows * kTileCols numbers in the L1 cache: bias, products, moments,
// activation and moments again are taken there. The weight's own moments are taken by the tiles of
// the first rows of x, a few rows of W at a time just before they are multiplied: that brings them
// into the cache where the product finds them.

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
  const int64_t blocks = kRun / (depth * kPackCols);
  return (blocks > 1 ? blocks : 1) * kPackCols;
}

// weight_total: where to merge the moments of the weights read, or null.
void multiply_tile(const LinearActArgs& a, int64_t row, int64_t col, int64_t rows, int64_t cols,
                   PackedRows& packed, float* z, Moments* weight_total) {
  alignas(64) float zt[kTileCols * kTileRows];
  const int64_t first_rows = rows_packed(rows);
  if (first_rows > 0) memset(zt, 0, sizeof(float) * size_t(cols * kTileRows));
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < cols; ++c) z[r * cols + c] = a.bias ? a.bias[col + c] : 0.f;
  }
  for (int64_t k = 0; k < a.depth; k += kDepthStretch) {
    const int64_t depth = a.depth - k < kDepthStretch ? a.depth - k : kDepthStretch;
    const float* x = a.x + row * a.x_stride + k;
    if (first_rows > 0) packed.pack(x, a.x_stride, first_rows, depth);
    const int64_t group = weight_total && k == 0 ? rows_measured_together(a.depth) : cols;
    for (int64_t first = 0; first < cols; first += group) {
      const int64_t count = first + group < cols ? group : cols - first;
      const float* w = a.weight + (col + first) * a.weight_stride + k;
      if (weight_total && k == 0) measure_weight(w, a.weight_stride, count, a.depth, *weight_total);
      multiply_stretch(packed, first_rows, x + first_rows * a.x_stride, a.x_stride,
                       rows - first_rows, w, a.weight_stride, count, depth,
                       z + first_rows * cols + first, cols, zt + first * kTileRows);
    }
  }
  if (first_rows > 0) add_transposed(zt, first_rows, cols, z);
}

INITFAST_INLINE void copy_tile(const float* from, float* to, int64_t rows, int64_t cols,
                               int64_t to_stride) {
  for (int64_t r = 0; r < rows; ++r)
    memcpy(to + r * to_stride, from + r * cols, cols * sizeof(float));
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
  PackedRows packed;
  alignas(64) float z[kTileRows * kTileCols];
  alignas(64) float y[kTileRows * kTileCols];
  const int64_t across = a.tiles_across();
  for (int64_t tile = begin; tile < end; ++tile) {
    const int64_t row = tile / across * kTileRows, col = tile % across * kTileCols;
    const int64_t rows = a.rows - row < kTileRows ? a.rows - row : kTileRows;
    const int64_t cols = a.cols - col < kTileCols ? a.cols - col : kTileCols;
    Moments* weight = row == 0 ? a.weight_partial + tile : nullptr;
    if (weight) *weight = no_moments();
    multiply_tile(a, row, col, rows, cols, packed, z, weight);
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
    if (a.unit_slots) {
      const UnitSlot slot{a.unit_slots + tile / across * kUnitSums * a.cols + col, a.cols};
      begin_slot(result, rows, cols, 1, cols, slot);
      add_columns(result, rows, cols, cols, slot);
    }
    copy_tile(result, a.y + row * a.cols + col, rows, cols, a.cols);
    if (a.z) copy_tile(z, a.z + row * a.cols + col, rows, cols, a.cols);
  }
}
