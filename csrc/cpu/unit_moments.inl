// The moments of each unit, by spans of rows: sums for every unit in the span's slot, then the slots
// merged in order.

typedef float HalfF32 __attribute__((vector_size(2 * INITFAST_LANES)));

// Numbers as float64, as many as V has lanes.
template <class V, class S>
INITFAST_INLINE V load_wide(const S* p) {
  if constexpr (Lane<V>::kLanes == 1) {
    return V(*p);
  } else if constexpr (std::is_same_v<S, double>) {
    return load<V>(p);
  } else {
    HalfF32 half;
    memcpy(&half, p, sizeof half);
    return __builtin_convertvector(half, V);
  }
}

INITFAST_INLINE double total(double x) { return x; }
INITFAST_INLINE double total(F64 x) { return sum_lanes(x); }

template <class V>
INITFAST_INLINE void store_wide(double* p, V v) {
  memcpy(p, &v, sizeof v);
}

// Add the sums of some units, of n rows each where all were finite, to what a slot holds of them.
template <class V, Values kValues>
INITFAST_INLINE void add_to_slot(UnitSlot slot, const UnitSums<V, kValues>& sums, int64_t n) {
  const V count = kValues == Values::kAny ? sums.count : splat<V>(double(n));
  const V largest = load_wide<V>(slot.largest());
  store_wide(slot.count(), load_wide<V>(slot.count()) + count);
  store_wide(slot.sum(), load_wide<V>(slot.sum()) + sums.sum);
  store_wide(slot.square(), load_wide<V>(slot.square()) + sums.square);
  store_wide(slot.largest(), select(sums.largest > largest, sums.largest, largest));
}

// kVectors vectors of columns over all rows; false, and nothing done, where kFinite was not true.
template <class V, int kVectors, Values kValues, class T>
INITFAST_INLINE bool sum_columns(const T* x, int64_t rows, int64_t stride, UnitSlot slot) {
  using S = typename ComputeOf<T>::Type;
  constexpr int kWidth = Lane<V>::kLanes;
  alignas(64) S scratch[kVectors * kWidth];
  UnitSums<V, kValues> sums[kVectors];
  for (int64_t r = 0; r < rows; ++r, x += stride) {
    const S* numbers = open_run(x, scratch, kVectors * kWidth);
    INITFAST_UNROLL(4)
    for (int v = 0; v < kVectors; ++v) {
      sums[v].add(load_wide<V>(numbers + v * kWidth), load_wide<V>(slot.first() + v * kWidth));
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

// Columns from c on, in blocks; the first column left.
template <class V, int kVectors, class T>
int64_t add_blocks(const T* x, int64_t rows, int64_t stride, int64_t c, int64_t cols, UnitSlot slot) {
  constexpr int kCols = kVectors * Lane<V>::kLanes;
  for (; c + kCols <= cols; c += kCols) {
    if (!sum_columns<V, kVectors, Values::kFinite>(x + c, rows, stride, slot.from(c))) {
      sum_columns<V, kVectors, Values::kAny>(x + c, rows, stride, slot.from(c));
    }
  }
  return c;
}

// As many sums at a time as sixteen registers hold, or 32.
constexpr int kUnitVectors = INITFAST_LANES == 16 ? 4 : 2;

// Units that lie one beside the other: x [rows, cols].
template <class T>
void add_columns(const T* x, int64_t rows, int64_t stride, int64_t cols, UnitSlot slot) {
  int64_t c = add_blocks<F64, kUnitVectors>(x, rows, stride, 0, cols, slot);
  c = add_blocks<F64, 1>(x, rows, stride, c, cols, slot);
  c = add_blocks<double, 2>(x, rows, stride, c, cols, slot);
  add_blocks<double, 1>(x, rows, stride, c, cols, slot);
}

// n numbers of one unit, one after the other.
template <Values kValues, class T>
INITFAST_INLINE bool sum_stretch(const T* x, int64_t n, UnitSlot slot) {
  using S = typename ComputeOf<T>::Type;
  constexpr int kWidth = Lane<F64>::kLanes;
  constexpr int64_t kPiece = 1024;
  alignas(64) S scratch[kPiece];
  const double first = *slot.first();
  UnitSums<F64, kValues> lanes[kUnitVectors];
  UnitSums<double, kValues> rest;
  for (int64_t begin = 0; begin < n; begin += kPiece) {
    const int64_t count = n - begin < kPiece ? n - begin : kPiece;
    const S* numbers = open_run(x + begin, scratch, count);
    int64_t i = 0;
    for (; i + kUnitVectors * kWidth <= count; i += kUnitVectors * kWidth) {
      INITFAST_UNROLL(4)
      for (int v = 0; v < kUnitVectors; ++v) {
        lanes[v].add(load_wide<F64>(numbers + i + v * kWidth), splat<F64>(first));
      }
    }
    for (; i + kWidth <= count; i += kWidth) lanes[0].add(load_wide<F64>(numbers + i), splat<F64>(first));
    for (; i < count; ++i) rest.add(double(numbers[i]), first);
  }
  for (int v = 1; v < kUnitVectors; ++v) lanes[0].join(lanes[v]);
  rest.sum += total(lanes[0].sum);
  if (kValues == Values::kFinite && !is_finite(rest.sum)) return false;
  rest.count += total(lanes[0].count);
  rest.square += total(lanes[0].square);
  rest.largest = max(rest.largest, reduce(lanes[0].largest, [](auto a, auto b) { return max(a, b); }));
  add_to_slot(slot, rest, n);
  return true;
}

// The sums begin at nothing, about the units' first values.
template <class T>
void begin_slot(const T* x, int64_t inner, int64_t units, UnitSlot slot) {
  using S = typename ComputeOf<T>::Type;
  for (int64_t u = 0; u < units; ++u) {
    S scratch[1];
    const double value = double(*open_run(x + u * inner, scratch, 1));
    slot.first()[u] = is_finite(value) ? value : 0.0;
    slot.count()[u] = slot.sum()[u] = slot.square()[u] = slot.largest()[u] = 0;
  }
}

template <class T>
void add_units(const UnitMomentsArgs& a, const UnitRange& r) {
  const UnitSlot slot = a.slot(r.span).from(r.first_unit);
  const int64_t units = r.last_unit - r.first_unit;
  const T* x = static_cast<const T*>(a.x) + (r.first_outer * a.units + r.first_unit) * a.inner;
  if (r.first_outer == r.span * a.outers_per_span) begin_slot(x, a.inner, units, slot);
  if (a.inner == 1) return add_columns(x, r.last_outer - r.first_outer, a.units, units, slot);
  for (int64_t o = r.first_outer; o < r.last_outer; ++o, x += a.units * a.inner) {
    for (int64_t u = 0; u < units; ++u) {
      const T* stretch = x + u * a.inner;
      if (!sum_stretch<Values::kFinite>(stretch, a.inner, slot.from(u))) {
        sum_stretch<Values::kAny>(stretch, a.inner, slot.from(u));
      }
    }
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
  store_wide(out + u, all.count);
  store_wide(out + a.units + u, all.mean);
  store_wide(out + 2 * a.units + u, all.m2);
  store_wide(out + 3 * a.units + u, all.largest);
}

void unit_merge(const UnitMomentsArgs& a, double* out) {
  constexpr int kWidth = Lane<F64>::kLanes;
  int64_t u = 0;
  for (; u + kWidth <= a.units; u += kWidth) merge_units<F64>(a, u, out);
  for (; u < a.units; ++u) merge_units<double>(a, u, out);
}
