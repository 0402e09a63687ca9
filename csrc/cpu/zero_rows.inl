// Zeros at random places, so many in each column: Floyd's method (Bentley & Floyd 1987).

// Mark `count` of the column's rows: bit `bit` of chosen[row].
inline void choose_rows(const ZeroRowsArgs& args, const PhiloxKeys<U64>& key, int64_t column, int bit,
                        uint16_t* chosen) {
  alignas(64) uint32_t words[kSampleRun];
  const uint64_t start = uint64_t(args.first_col + column) * uint64_t(args.all_rows);
  for (int64_t last = args.all_rows - args.count; last < args.all_rows;) {
    const uint64_t index = start + uint64_t(last);
    const int64_t n = min(kSampleRun, args.all_rows - last);
    generate(key, index, n, words, [&](I32 word) { return word; });
    for (int64_t i = 0; i < n; ++i, ++last) {
      const uint64_t row = uint64_t(words[i]) * uint64_t(last + 1) >> 32;
      const bool taken = chosen[row] >> bit & 1;
      chosen[taken ? uint64_t(last) : row] |= uint16_t(1u << bit);
    }
  }
}

// Zero those of kZeroCols numbers whose bit is set.
template <class T>
INITFAST_INLINE void zero_chosen(T* row, int64_t stride, uint32_t chosen) {
#if INITFAST_LANES == 16
  if (std::is_same_v<T, float> && stride == 1) {
    return _mm512_mask_storeu_ps(row, __mmask16(chosen), _mm512_setzero_ps());
  }
#endif
  for (; chosen != 0; chosen &= chosen - 1) memset(row + __builtin_ctz(chosen) * stride, 0, sizeof(T));
}

// The columns of a strip lie side by side in memory, as a rule: they are chosen first, in an array
// that the nearest cache holds, and gathered row by row; then each row of the strip is visited once.
template <class T>
void zero_strips(const ZeroRowsArgs& args, int64_t begin, int64_t end) {
  constexpr int64_t kGroupsOfStrip = kStripCols / kZeroCols;
  const PhiloxKeys<U64> key(args.key);
  uint16_t* const chosen = new uint16_t[size_t(args.all_rows)];
  uint16_t* const strip = new uint16_t[size_t(args.rows * kGroupsOfStrip)];
  T* const out = static_cast<T*>(args.out);
  for (int64_t first = begin * kStripCols; first < min(end * kStripCols, args.cols); first += kStripCols) {
    const int64_t groups = ceil_div(min(kStripCols, args.cols - first), kZeroCols);
    for (int64_t g = 0; g < groups; ++g) {
      const int64_t column = first + g * kZeroCols, columns = min(kZeroCols, args.cols - column);
      memset(chosen, 0, size_t(args.all_rows) * sizeof(uint16_t));
      for (int c = 0; c < columns; ++c) choose_rows(args, key, column + c, c, chosen);
      for (int64_t row = 0; row < args.rows; ++row) {
        strip[row * groups + g] = chosen[args.first_row + row];
      }
    }
    for (int64_t row = 0; row < args.rows; ++row) {
      T* const to = out + row * args.row_stride + first * args.col_stride;
      for (int64_t g = 0; g < groups; ++g) {
        zero_chosen(to + g * kZeroCols * args.col_stride, args.col_stride, strip[row * groups + g]);
      }
    }
  }
  delete[] strip;
  delete[] chosen;
}

void zero_rows(const ZeroRowsArgs& args, int64_t begin, int64_t end) {
  with_dtype(args.dtype, [&](auto* typed) {
    zero_strips<std::remove_pointer_t<decltype(typed)>>(args, begin, end);
  });
}
