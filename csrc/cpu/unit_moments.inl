// The moments of each unit, by spans of rows: sums for every unit in the span's slot, then the slots
// merged in order.
//
// Numbers of float32 and below are summed in float32, kChain at a time, and these sums in float64: half
// the instructions of float64 throughout (load, subtract, add, multiply and add, magnitude, largest for
// a vector of numbers, no conversion). The deviations are from one of the unit's own numbers, so that
// nothing cancels where that number lies among the others. Where squares leave float32's range, or a
// number is not finite, the same stretch is summed in float64.

INITFAST_INLINE double total(float x) { return x; }
INITFAST_INLINE double total(double x) { return x; }
template <class V>
INITFAST_INLINE double total(V x) {
  return sum_lanes(x);
}

// ---- what a slot holds of some units ----

// Add the sums of some units, of n rows each where all were finite, to what a slot holds of them.
template <class V, Values kValues>
INITFAST_INLINE void add_to_slot(UnitSlot slot, const UnitSums<V, kValues>& sums, int64_t n) {
  const V count = kValues == Values::kAny ? sums.count : splat<V>(double(n));
  const V largest = load_wide<V>(slot.largest());
  store<V>(slot.count(), load_wide<V>(slot.count()) + count);
  store<V>(slot.sum(), load_wide<V>(slot.sum()) + sums.sum);
  store<V>(slot.square(), load_wide<V>(slot.square()) + sums.square);
  store<V>(slot.largest(), greater(sums.largest, largest));
}

// Whether sums of squares are right in float32: every term counts that is not far below the others,
// and none was lost. Where the sum is 0 and a number reaches 2^-20, all are the same.
template <class V>
INITFAST_INLINE auto fits_float32(V square, V largest) {
  constexpr float kLeast = 0x1p-90f, kLeastOfSame = 0x1p-20f;
  const auto has_range = (square >= splat<V>(kLeast)) & is_finite(square);
  const auto same = (largest == splat<V>(0)) | (largest >= splat<V>(kLeastOfSame));
  return has_range | ((square == splat<V>(0)) & same);
}

template <class Mask>
INITFAST_INLINE bool all_hold(Mask mask) {
  if constexpr (std::is_integral_v<Mask>) {
    return mask;
  } else {
    return reduce(mask, [](auto a, auto b) { return a & b; }) != 0;
  }
}

// ---- units that lie one beside the other: columns of x [rows, cols] ----

// A chain of k additions in float32 is off by up to k 2^-24 of the sum: a unit's std stays within 1e-6.
constexpr int64_t kChain = 16;

// kVectors vectors of columns over at most kChain rows; false, and nothing done, where float32 does
// not do. V: of float32.
template <class V, int kVectors>
INITFAST_INLINE bool sum_columns_narrow(const float* x, int64_t rows, int64_t stride, UnitSlot slot) {
  constexpr int kWidth = Lane<V>::kLanes, kCols = kVectors * kWidth;
  alignas(64) float first[kCols], sum[kCols], square[kCols], largest[kCols];
  INITFAST_UNROLL(4)
  for (int i = 0; i < kCols; ++i) first[i] = float(slot.first()[i]);
  UnitSums<V, Values::kFinite> sums[kVectors];
  for (int64_t r = 0; r < rows; ++r, x += stride) {
    INITFAST_UNROLL(4)
    for (int v = 0; v < kVectors; ++v) sums[v].add(load<V>(x + v * kWidth), load<V>(first + v * kWidth));
  }
  for (int v = 0; v < kVectors; ++v) {
    if (!all_hold(fits_float32(sums[v].square, sums[v].largest))) return false;
  }
  for (int v = 0; v < kVectors; ++v) {
    memcpy(sum + v * kWidth, &sums[v].sum, sizeof(V));
    memcpy(square + v * kWidth, &sums[v].square, sizeof(V));
    memcpy(largest + v * kWidth, &sums[v].largest, sizeof(V));
  }
  using Wide = std::conditional_t<kWidth == 1, double, F64>;
  for (int i = 0; i < kCols; i += Lane<Wide>::kLanes) {
    UnitSums<Wide, Values::kFinite> wide;
    wide.sum = load_wide<Wide>(sum + i);
    wide.square = load_wide<Wide>(square + i);
    wide.largest = load_wide<Wide>(largest + i);
    add_to_slot(slot.from(i), wide, rows);
  }
  return true;
}

// Likewise in float64, over any number of rows; false where kFinite was not true.
template <class V, int kVectors, Values kValues, class S>
INITFAST_INLINE bool sum_columns(const S* x, int64_t rows, int64_t stride, UnitSlot slot) {
  constexpr int kWidth = Lane<V>::kLanes;
  UnitSums<V, kValues> sums[kVectors];
  for (int64_t r = 0; r < rows; ++r, x += stride) {
    INITFAST_UNROLL(4)
    for (int v = 0; v < kVectors; ++v) {
      sums[v].add(load_wide<V>(x + v * kWidth), load_wide<V>(slot.first() + v * kWidth));
    }
  }
  if constexpr (kValues == Values::kFinite) {
    double all = 0;
    for (int v = 0; v < kVectors; ++v) all += total(sums[v].sum);
    if (!is_finite(all)) return false;
  }
  for (int v = 0; v < kVectors; ++v) add_to_slot(slot.from(v * kWidth), sums[v], rows);
  return true;
}

// Columns from c on, in blocks of as many as V and kVectors say; the first column left.
template <class V, int kVectors, class S>
INITFAST_INLINE int64_t add_blocks(const S* x, int64_t rows, int64_t stride, int64_t c, int64_t cols,
                                   UnitSlot slot) {
  constexpr int kCols = kVectors * Lane<V>::kLanes;
  using Wide = std::conditional_t<Lane<V>::kLanes == 1, double, F64>;
  constexpr int kWide = kCols / Lane<Wide>::kLanes;
  for (; c + kCols <= cols; c += kCols) {
    const UnitSlot at = slot.from(c);
    if constexpr (std::is_same_v<S, float>) {
      if (sum_columns_narrow<V, kVectors>(x + c, rows, stride, at)) continue;
    }
    if (sum_columns<Wide, kWide, Values::kFinite>(x + c, rows, stride, at)) continue;
    sum_columns<Wide, kWide, Values::kAny>(x + c, rows, stride, at);
  }
  return c;
}

// As many sums at a time as sixteen registers hold.
constexpr int kUnitVectors = 4;

template <class S>
INITFAST_INLINE void add_strip(const S* x, int64_t rows, int64_t stride, int64_t cols, UnitSlot slot) {
  using V = typename VectorOf<S>::Type;
  int64_t c = add_blocks<V, kUnitVectors>(x, rows, stride, 0, cols, slot);
  c = add_blocks<V, 1>(x, rows, stride, c, cols, slot);
  add_blocks<S, 1>(x, rows, stride, c, cols, slot);
}

template <class T>
void add_columns(const T* x, int64_t rows, int64_t stride, int64_t cols, UnitSlot slot) {
  using S = typename ComputeOf<T>::Type;
  constexpr int64_t kStripCols = 64;
  for (int64_t r = 0; r < rows; r += kChain, x += kChain * stride) {
    const int64_t some = rows - r < kChain ? rows - r : kChain;
    if constexpr (kInPlace<T>) {
      add_strip<S>(x, some, stride, cols, slot);
    } else {
      alignas(64) S strip[kChain * kStripCols];
      for (int64_t c = 0; c < cols; c += kStripCols) {
        const int64_t width = cols - c < kStripCols ? cols - c : kStripCols;
        for (int64_t i = 0; i < some; ++i) {
          open_run(x + i * stride + c, strip + i * kStripCols, width);
        }
        add_strip<S>(strip, some, kStripCols, width, slot.from(c));
      }
    }
  }
}

// ---- units whose numbers lie one after the other ----

// n numbers of one unit, at most kPiece; the sums of all lanes. V: of float32 or float64.
template <class V, Values kValues, class S>
INITFAST_INLINE UnitSums<double, kValues> sum_stretch(const S* x, int64_t n, double first) {
  constexpr int kWidth = Lane<V>::kLanes;
  const V about = splat<V>(ScalarOf<V>(first));
  UnitSums<V, kValues> lanes[kUnitVectors];
  UnitSums<double, kValues> rest;
  int64_t i = 0;
  for (; i + kUnitVectors * kWidth <= n; i += kUnitVectors * kWidth) {
    INITFAST_UNROLL(4)
    for (int v = 0; v < kUnitVectors; ++v) lanes[v].add(load_as<V>(x + i + v * kWidth), about);
  }
  for (; i + kWidth <= n; i += kWidth) lanes[0].add(load_as<V>(x + i), about);
  for (; i < n; ++i) rest.add(double(x[i]), first);
  for (int v = 1; v < kUnitVectors; ++v) lanes[0].join(lanes[v]);
  rest.count += total(lanes[0].count);
  rest.sum += total(lanes[0].sum);
  rest.square += total(lanes[0].square);
  rest.largest =
      greater(rest.largest, double(reduce(lanes[0].largest, [](auto a, auto b) { return greater(a, b); })));
  return rest;
}

template <class S>
INITFAST_INLINE void add_piece(const S* x, int64_t n, UnitSlot slot) {
  const double first = *slot.first();
  if constexpr (std::is_same_v<S, float>) {
    const auto sums = sum_stretch<F32, Values::kFinite>(x, n, first);
    if (fits_float32(float(sums.square), float(sums.largest))) return add_to_slot(slot, sums, n);
  }
  const auto sums = sum_stretch<F64, Values::kFinite>(x, n, first);
  if (is_finite(sums.sum)) return add_to_slot(slot, sums, n);
  add_to_slot(slot, sum_stretch<F64, Values::kAny>(x, n, first), n);
}

template <class T>
INITFAST_INLINE void add_stretch(const T* x, int64_t n, UnitSlot slot) {
  using S = typename ComputeOf<T>::Type;
  constexpr int64_t kPiece = kChain * kUnitVectors * Lane<F32>::kLanes;
  alignas(64) S scratch[kInPlace<T> ? 1 : kPiece];
  for (int64_t i = 0; i < n; i += kPiece) {
    const int64_t count = n - i < kPiece ? n - i : kPiece;
    add_piece<S>(open_run(x + i, scratch, count), count, slot);
  }
}

// ---- the kernels ----

template <class T>
INITFAST_INLINE double as_number(const T* x) {
  typename ComputeOf<T>::Type scratch[1];
  return double(*open_run(x, scratch, 1));
}

// The finite one in the middle of three numbers; 0 where none is.
INITFAST_INLINE double middle(double a, double b, double c) {
  if (!is_finite(a)) a = is_finite(b) ? b : c;
  if (!is_finite(b)) b = a;
  if (!is_finite(c)) c = a;
  const double low = min(a, b), high = max(a, b), found = max(low, min(high, c));
  return is_finite(found) ? found : 0.0;
}

// The sums begin at nothing, about one of the unit's own numbers: the middle one of the first, the last
// and one between, so that no single outlier is chosen. `outers` rows of numbers lie `stride` apart.
template <class T>
void begin_slot(const T* x, int64_t outers, int64_t stride, int64_t inner, int64_t units, UnitSlot slot) {
  const T* half = x + outers / 2 * stride + inner / 2;
  const T* last = x + (outers - 1) * stride + inner - 1;
  for (int64_t u = 0; u < units; ++u) {
    const int64_t i = u * inner;
    slot.first()[u] = middle(as_number(x + i), as_number(half + i), as_number(last + i));
    slot.count()[u] = slot.sum()[u] = slot.square()[u] = slot.largest()[u] = 0;
  }
}

template <class T>
void add_units(const UnitMomentsArgs& a, const UnitRange& r) {
  const UnitSlot slot = a.slot(r.span).from(r.first_unit);
  const int64_t units = r.last_unit - r.first_unit, stride = a.units * a.inner;
  const int64_t first_of_span = r.span * a.outers_per_span;
  const T* x = static_cast<const T*>(a.x) + r.first_outer * stride + r.first_unit * a.inner;
  if (r.first_outer == first_of_span) begin_slot(x, a.outers(r.span), stride, a.inner, units, slot);
  if (a.inner == 1) return add_columns(x, r.last_outer - r.first_outer, stride, units, slot);
  for (int64_t o = r.first_outer; o < r.last_outer; ++o, x += stride) {
    for (int64_t u = 0; u < units; ++u) add_stretch(x + u * a.inner, a.inner, slot.from(u));
  }
}

void unit_sums(const UnitMomentsArgs& a, const UnitRange& range) {
  with_dtype(a.dtype, [&](auto* type) {
    add_units<std::remove_pointer_t<decltype(type)>>(a, range);
  });
}

template <class V>
INITFAST_INLINE void merge_units(const UnitMomentsArgs& a, int64_t u, double* out) {
  UnitMoments<V> all(splat<V>(0), splat<V>(0), splat<V>(0), splat<V>(0), splat<V>(0));
  for (int64_t span = 0; span < a.spans(); ++span) {
    const UnitSlot s = a.slot(span).from(u);
    all.join(UnitMoments<V>(load_wide<V>(s.count()), load_wide<V>(s.first()), load_wide<V>(s.sum()),
                            load_wide<V>(s.square()), load_wide<V>(s.largest())));
  }
  store<V>(out + u, all.count);
  store<V>(out + a.units + u, all.mean);
  store<V>(out + 2 * a.units + u, all.m2);
  store<V>(out + 3 * a.units + u, all.largest);
}

void unit_merge(const UnitMomentsArgs& a, double* out) {
  constexpr int kWidth = Lane<F64>::kLanes;
  int64_t u = 0;
  for (; u + kWidth <= a.units; u += kWidth) merge_units<F64>(a, u, out);
  for (; u < a.units; ++u) merge_units<double>(a, u, out);
}
