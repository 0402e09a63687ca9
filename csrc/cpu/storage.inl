// Between the dtypes in memory and the numbers the kernels compute with: 16-bit floats are widened
// to float32 in a scratch run, float32 and float64 are used where they lie.

template <class T>
struct ComputeOf {
  using Type = float;
};
template <>
struct ComputeOf<double> {
  using Type = double;
};

// Whether numbers of this dtype are used where they lie.
template <class T>
constexpr bool kInPlace = std::is_same_v<T, typename ComputeOf<T>::Type>;

INITFAST_INLINE void widen(const BFloat16* from, float* to, int64_t n) {
  for (int64_t i = 0; i < n; ++i) to[i] = to_float(from[i]);
}

INITFAST_INLINE void narrow(const float* from, BFloat16* to, int64_t n) {
  for (int64_t i = 0; i < n; ++i) to[i] = to_bfloat16(from[i]);
}

INITFAST_INLINE void widen(const Float16* from, float* to, int64_t n) {
  int64_t i = 0;
#if INITFAST_LANES == 16
  for (; i + 16 <= n; i += 16) {
    _mm512_storeu_ps(to + i, _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)(from + i))));
  }
#elif INITFAST_LANES == 8
  for (; i + 8 <= n; i += 8) {
    _mm256_storeu_ps(to + i, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)(from + i))));
  }
#endif
  for (; i < n; ++i) to[i] = to_float(from[i]);
}

INITFAST_INLINE void narrow(const float* from, Float16* to, int64_t n) {
  int64_t i = 0;
#if INITFAST_LANES == 16
  for (; i + 16 <= n; i += 16) {
    _mm256_storeu_si256((__m256i*)(to + i),
                        _mm512_cvtps_ph(_mm512_loadu_ps(from + i), _MM_FROUND_TO_NEAREST_INT));
  }
#elif INITFAST_LANES == 8
  for (; i + 8 <= n; i += 8) {
    _mm_storeu_si128((__m128i*)(to + i),
                     _mm256_cvtps_ph(_mm256_loadu_ps(from + i), _MM_FROUND_TO_NEAREST_INT));
  }
#endif
  for (; i < n; ++i) to[i] = to_float16(from[i]);
}

// The run at `from` as numbers to compute with.
template <class T>
INITFAST_INLINE const float* open_run(const T* from, float* scratch, int64_t n) {
  widen(from, scratch, n);
  return scratch;
}
INITFAST_INLINE const float* open_run(const float* from, float*, int64_t) { return from; }
INITFAST_INLINE const double* open_run(const double* from, double*, int64_t) { return from; }

// Where to compute a run that will be stored at `to`: there, or in scratch.
template <class T>
INITFAST_INLINE float* result_run(T*, float* scratch) {
  return scratch;
}
INITFAST_INLINE float* result_run(float* to, float*) { return to; }
INITFAST_INLINE double* result_run(double* to, double*) { return to; }

// Store a computed run. A 16-bit run is rounded, and read back so that what is measured is what
// was stored.
template <class T>
INITFAST_INLINE void close_run(float* scratch, T* to, int64_t n) {
  narrow(scratch, to, n);
  widen(to, scratch, n);
}
INITFAST_INLINE void close_run(float*, float*, int64_t) {}
INITFAST_INLINE void close_run(double*, double*, int64_t) {}

// Call f with a null pointer of the dtype's type.
template <class F>
INITFAST_INLINE void with_dtype(Dtype dtype, F f) {
  switch (dtype) {
#define X(Name, Type, TorchName) \
  case Dtype::k##Name:           \
    return f(static_cast<Type*>(nullptr));
    INITFAST_FOR_EACH_DTYPE(X)
#undef X
  }
}
