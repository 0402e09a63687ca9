// What every CPU kernel does with a run: up to kRun numbers, contiguous, in the nearest cache.

template <class S>
struct VectorOf;
template <>
struct VectorOf<float> {
  using Type = F32;
};
template <>
struct VectorOf<double> {
  using Type = F64;
};

// ---- moments of a run ----

// The lower half of the lanes with the upper half.
template <class V, class Combine, size_t... I>
INITFAST_INLINE auto halve(V v, Combine combine, std::index_sequence<I...>) {
  return combine(__builtin_shufflevector(v, v, I...),
                 __builtin_shufflevector(v, v, (I + sizeof...(I))...));
}
template <class V, class Combine>
INITFAST_INLINE auto halve(V v, Combine combine) {
  return halve(v, combine, std::make_index_sequence<sizeof(V) / sizeof(v[0]) / 2>{});
}

// All lanes in one number, by halving.
template <class V, class Combine>
INITFAST_INLINE auto reduce(V v, Combine combine) {
  if constexpr (sizeof(V) / sizeof(v[0]) == 2) {
    return combine(v[0], v[1]);
  } else {
    return reduce(halve(v, combine), combine);
  }
}

// Lanes in float64: a float's upper half is added to the lower.
INITFAST_INLINE F64 wide_lanes(F64 v) { return v; }
INITFAST_INLINE F64 wide_lanes(F32 v) {
  return halve(v, [](auto a, auto b) {
    return __builtin_convertvector(a, F64) + __builtin_convertvector(b, F64);
  });
}
template <class V>
INITFAST_INLINE double sum_lanes(V v) {
  return reduce(wide_lanes(v), [](auto a, auto b) { return a + b; });
}

// Counters of a run, too short a one for their sum to overflow a lane.
template <class I>
INITFAST_INLINE int64_t count_lanes(I counter) {
  return reduce(counter, [](auto a, auto b) { return a + b; });
}

// Both passes of a run in memory ask the second-level cache for the run that follows, half each:
// the two passes take about as long as memory needs to bring it, so neither waits for the other.
template <class S>
struct Prefetch {
  const S* next;
  INITFAST_INLINE void operator()(int64_t i) const { __builtin_prefetch(next + i / 2, 0, 2); }
};
struct NoPrefetch {
  INITFAST_INLINE explicit NoPrefetch(const void* = nullptr) {}
  INITFAST_INLINE void operator()(int64_t) const {}
};

// Two independent chains hide the latency of the additions, as long as what they sum stays in sixteen
// registers: where zeros are counted, one does. The numbers that do not fill a vector go through the
// same templates one at a time.
template <template <class, Values> class Pass, Values kValues>
constexpr int kChains = 2;
template <>
constexpr int kChains<Extent, Values::kFinite> = 1;

template <template <class, Values> class Pass, Values kValues, class V>
struct Chains {
  using S = ScalarOf<V>;
  Pass<V, kValues> lanes;
  Pass<S, kValues> rest;

  template <class Fetch, class... Args>
  INITFAST_INLINE Chains(const S* x, int64_t begin, int64_t end, Fetch fetch, Args... args) {
    constexpr int kWidth = Lane<V>::kLanes;
    constexpr int kLine = 64 / sizeof(S);
    constexpr int kOwn = kChains<Pass, kValues>;
    Pass<V, kValues> chain[kOwn];
    int64_t i = begin;
    for (; i + 4 * kWidth <= end; i += 4 * kWidth) {
      for (int ahead = 0; ahead < 4 * kWidth; ahead += 2 * kLine) fetch(i + ahead);
      for (int v = 0; v < 4; ++v) chain[v % kOwn].add(load<V>(x + i + v * kWidth), splat<V>(args)...);
    }
    for (; i + kWidth <= end; i += kWidth) chain[0].add(load<V>(x + i), splat<V>(args)...);
    for (; i < end; ++i) rest.add(x[i], args...);
    if constexpr (kOwn == 2) chain[0].join(chain[1]);
    lanes = chain[0];
  }
};

template <class S>
INITFAST_INLINE S scaled_sum_of_finite(const S* x, int64_t n, S scale) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) {
    if (is_finite(x[i])) sum += double(x[i] * scale);
  }
  return S(sum);
}

// The extent of a run in single numbers.
template <class S>
struct RunExtent {
  S low, high, smallest;
  double sum;
  int64_t zero, nonfinite, nan;

  template <Values kValues, class V>
  INITFAST_INLINE explicit RunExtent(const Chains<Extent, kValues, V>& of)
      : low(min(reduce(of.lanes.low, [](auto a, auto b) { return min(a, b); }), of.rest.low)),
        high(max(reduce(of.lanes.high, [](auto a, auto b) { return max(a, b); }), of.rest.high)),
        smallest(min(reduce(of.lanes.smallest, [](auto a, auto b) { return min(a, b); }),
                     of.rest.smallest)),
        sum(sum_lanes(of.lanes.sum) + double(of.rest.sum)),
        zero(count_lanes(of.lanes.zero) + of.rest.zero),
        nonfinite(count_lanes(of.lanes.nonfinite) + of.rest.nonfinite),
        nan(count_lanes(of.lanes.nan) + of.rest.nan) {}
};

// The sums of the run's deviations, in float64.
template <Values kValues, class S, class Fetch>
INITFAST_INLINE Deviation<double, Values::kFinite> sum_deviations(const S* x, int64_t n, S scale,
                                                                  S centre, Fetch fetch) {
  using V = typename VectorOf<S>::Type;
  // A chain of k additions in float32 is off by up to k 2^-24 of the sum, and is where deviations
  // are alike (two values, say): chains of 32 keep std within 1e-6 whatever the numbers.
  constexpr int64_t kStretch = 32 * kChains<Deviation, kValues> * Lane<V>::kLanes;
  Deviation<F64, Values::kFinite> lanes;
  Deviation<double, Values::kFinite> sums;
  for (int64_t begin = 0; begin < n; begin += kStretch) {
    const int64_t end = n - begin < kStretch ? n : begin + kStretch;
    const Chains<Deviation, kValues, V> part(x, begin, end, fetch, scale, centre);
    lanes.first += wide_lanes(part.lanes.first);
    lanes.second += wide_lanes(part.lanes.second);
    lanes.third += wide_lanes(part.lanes.third);
    lanes.fourth += wide_lanes(part.lanes.fourth);
    sums.first += double(part.rest.first);
    sums.second += double(part.rest.second);
    sums.third += double(part.rest.third);
    sums.fourth += double(part.rest.fourth);
  }
  sums.first += sum_lanes(lanes.first);
  sums.second += sum_lanes(lanes.second);
  sums.third += sum_lanes(lanes.third);
  sums.fourth += sum_lanes(lanes.fourth);
  return sums;
}

template <Values kValues, class S, class Fetch>
INITFAST_INLINE Moments finish_run(const S* x, int64_t n, const RunExtent<S>& extent, Fetch fetch) {
  Moments m = no_moments();
  m.count = n;
  m.zero = extent.zero;
  m.nonfinite = extent.nonfinite;
  m.nan = extent.nan;
  const double finite = double(n - m.nonfinite);
  if (finite == 0) return m;
  m.min = double(extent.low);
  m.max = double(extent.high);
  m.smallest = double(extent.smallest);
  const S largest = abs(extent.low) > abs(extent.high) ? abs(extent.low) : abs(extent.high);
  const S scale = power_of_two_scale(largest);
  const S total = kValues == Values::kAny ? scaled_sum_of_finite(x, n, scale)
                                          : S(extent.sum * double(scale));
  const S centre = total / S(finite);
  set_central_moments(m, finite, double(scale), double(centre),
                      sum_deviations<kValues>(x, n, scale, centre, fetch));
  keep_within_extremes(m);
  return m;
}

// Whether zeros are to be expected in a run: some of its first numbers are.
template <class S>
INITFAST_INLINE bool begins_with_zeros(const S* x, int64_t n) {
  using V = typename VectorOf<S>::Type;
  IntOf<V> zero{};
  for (int64_t i = 0; i < 4 * Lane<V>::kLanes && i + Lane<V>::kLanes <= n; i += Lane<V>::kLanes) {
    tally(zero, load<V>(x + i) == splat<V>(0));
  }
  return count_lanes(zero) > 0;
}

// kStreaming: the run lies in memory and the next one follows it.
template <bool kStreaming, class S>
Moments run_moments(const S* x, int64_t n) {
  using V = typename VectorOf<S>::Type;
  using Fetch = std::conditional_t<kStreaming, Prefetch<S>, NoPrefetch>;
  const Fetch first_half{x + n}, second_half{x + n + n / 2};
  if (!begins_with_zeros(x, n)) {
    const RunExtent<S> extent(Chains<Extent, Values::kNoZero, V>(x, 0, n, first_half));
    if (is_finite(extent.sum) && extent.smallest > S(0)) {
      return finish_run<Values::kFinite>(x, n, extent, second_half);
    }
  }
  const RunExtent<S> extent(Chains<Extent, Values::kFinite, V>(x, 0, n, first_half));
  if (is_finite(extent.sum)) return finish_run<Values::kFinite>(x, n, extent, second_half);
  const RunExtent<S> any(Chains<Extent, Values::kAny, V>(x, 0, n, NoPrefetch{}));
  return finish_run<Values::kAny>(x, n, any, second_half);
}

// ---- activation of a run ----

// y = act(z); how many values of y are saturated.
template <class S>
int64_t run_activation(const Activation& act, const S* z, S* y, int64_t n) {
  using V = typename VectorOf<S>::Type;
  int64_t saturated = 0;
  with_activation(act.kind, [&](auto family) {
    using Family = decltype(family);
    const typename Family::template Over<V> lanes(S(act.alpha), S(act.beta));
    const typename Family::template Over<S> single(S(act.alpha), S(act.beta));
    constexpr bool kCounts = kSaturates<typename Family::template Over<S>, S>;
    constexpr int kWidth = Lane<V>::kLanes;
    IntOf<V> counter{};
    int64_t i = 0;
    for (; i + kWidth <= n; i += kWidth) {
      const V value = lanes.value(load<V>(z + i));
      store<V>(y + i, value);
      if constexpr (kCounts) tally(counter, lanes.saturated(value));
    }
    for (; i < n; ++i) {
      y[i] = single.value(z[i]);
      if constexpr (kCounts) saturated += single.saturated(y[i]);
    }
    saturated += count_lanes(counter);
  });
  return saturated;
}

// grad_z = grad_y act'(z); act says whether it gets y for z.
template <class S>
void run_activation_backward(const Activation& act, const S* grad_y, const S* z, S* grad_z,
                             int64_t n) {
  using V = typename VectorOf<S>::Type;
  with_activation(act.kind, [&](auto family) {
    using Family = decltype(family);
    const typename Family::template Over<V> lanes(S(act.alpha), S(act.beta));
    const typename Family::template Over<S> single(S(act.alpha), S(act.beta));
    constexpr int kWidth = Lane<V>::kLanes;
    const bool is_result = act.slope_at_result;
    int64_t i = 0;
    for (; i + kWidth <= n; i += kWidth) {
      store<V>(grad_z + i, load<V>(grad_y + i) * slope(lanes, load<V>(z + i), is_result));
    }
    for (; i < n; ++i) grad_z[i] = grad_y[i] * slope(single, z[i], is_result);
  });
}

// ---- live units ----

// Mark flags [0, n) live where mark[i] is set (all of them where mark is null). Several threads may
// mark the same flag, so it is read first and written atomically; after the first runs of a healthy
// net nothing is left to write.
INITFAST_INLINE void mark_live(uint8_t* flags, const uint8_t* mark, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    if ((mark == nullptr || mark[i]) && !__atomic_load_n(flags + i, __ATOMIC_RELAXED)) {
      __atomic_store_n(flags + i, uint8_t(1), __ATOMIC_RELAXED);
    }
  }
}

// Eight flags, read as one number.
typedef uint64_t Flags __attribute__((may_alias));

INITFAST_INLINE bool is_live(const uint8_t* flag) { return __atomic_load_n(flag, __ATOMIC_RELAXED); }

INITFAST_INLINE bool all_live(const uint8_t* flags, int64_t n) {
  int64_t i = 0;
  for (; i < n && reinterpret_cast<uintptr_t>(flags + i) % 8 != 0; ++i) {
    if (!is_live(flags + i)) return false;
  }
  for (; i + 8 <= n; i += 8) {
    const auto* eight = reinterpret_cast<const Flags*>(flags + i);
    if (__atomic_load_n(eight, __ATOMIC_RELAXED) != 0x0101010101010101ull) return false;
  }
  for (; i < n; ++i) {
    if (!is_live(flags + i)) return false;
  }
  return true;
}
