// moments, act and act_backward: one read of the input, one write of the output, the statistics
// taken while the run is in the nearest cache.

template <class T>
void moments_tiles(const MomentsArgs& a, int64_t begin, int64_t end) {
  using S = typename ComputeOf<T>::Type;
  alignas(64) S scratch[kRun];
  for (int64_t tile = begin; tile < end; ++tile) {
    const int64_t start = tile * kRun;
    const int64_t n = a.numel - start < kRun ? a.numel - start : kRun;
    const S* x = open_run(static_cast<const T*>(a.x) + start, scratch, n);
    a.partial[tile] = run_moments<kInPlace<T>>(x, n);
  }
}

void moments(const MomentsArgs& a, int64_t begin, int64_t end) {
  with_dtype(a.dtype, [&](auto* type) {
    moments_tiles<std::remove_pointer_t<decltype(type)>>(a, begin, end);
  });
}

// Mark the units of flat elements [start, start + n) that are not zero in y.
template <class S>
void mark_units(const Units& units, const S* y, int64_t start, int64_t n, bool has_zero) {
  int64_t i = 0;
  while (i < n) {  // a stretch: elements of one unit (inner > 1), or units in sequence
    const int64_t unit = (start + i) / units.inner % units.count;
    const int64_t stretch = units.inner > 1 ? units.inner - (start + i) % units.inner : units.count - unit;
    const int64_t length = stretch < n - i ? stretch : n - i;
    const int64_t flags = units.inner > 1 ? 1 : length;
    if (!all_live(units.live + unit, flags)) {
      uint8_t mark[kRun];
      if (has_zero && units.inner > 1) {
        mark[0] = 0;
        for (int64_t j = 0; j < length; ++j) mark[0] |= y[i + j] != S(0);
      } else if (has_zero) {
        for (int64_t j = 0; j < length; ++j) mark[j] = y[i + j] != S(0);
      }
      mark_live(units.live + unit, has_zero ? mark : nullptr, flags);
    }
    i += length;
  }
}

template <class T>
void act_tiles(const ActArgs& a, int64_t begin, int64_t end) {
  using S = typename ComputeOf<T>::Type;
  alignas(64) S z_scratch[kRun];
  alignas(64) S y_scratch[kRun];
  for (int64_t tile = begin; tile < end; ++tile) {
    const int64_t start = tile * kRun;
    const int64_t n = a.numel - start < kRun ? a.numel - start : kRun;
    T* stored = static_cast<T*>(a.y) + start;
    const S* z = open_run(static_cast<const T*>(a.z) + start, z_scratch, n);
    S* y = result_run(stored, y_scratch);
    a.partial[2 * tile] = run_moments<kInPlace<T>>(z, n);
    int64_t saturated = run_activation(a.act, z, y, n);
    close_run(y, stored, n);
    a.partial[2 * tile + 1] = run_moments<false>(y, n);
    a.partial[2 * tile + 1].saturated = saturated;
    mark_units(a.units, y, start, n, a.partial[2 * tile + 1].zero > 0);
  }
}

void act(const ActArgs& a, int64_t begin, int64_t end) {
  with_dtype(a.dtype, [&](auto* type) {
    act_tiles<std::remove_pointer_t<decltype(type)>>(a, begin, end);
  });
}

template <class T>
void act_backward_tiles(const ActBackwardArgs& a, int64_t begin, int64_t end) {
  using S = typename ComputeOf<T>::Type;
  alignas(64) S grad_y_scratch[kRun];
  alignas(64) S z_scratch[kRun];
  alignas(64) S grad_z_scratch[kRun];
  for (int64_t tile = begin; tile < end; ++tile) {
    const int64_t start = tile * kRun;
    const int64_t n = a.numel - start < kRun ? a.numel - start : kRun;
    T* stored = static_cast<T*>(a.grad_z) + start;
    const S* grad_y = open_run(static_cast<const T*>(a.grad_y) + start, grad_y_scratch, n);
    const S* z = open_run(static_cast<const T*>(a.z) + start, z_scratch, n);
    S* grad_z = result_run(stored, grad_z_scratch);
    a.partial[2 * tile + 1] = run_moments<kInPlace<T>>(grad_y, n);
    run_activation_backward(a.act, grad_y, z, grad_z, n);
    close_run(grad_z, stored, n);
    a.partial[2 * tile] = run_moments<false>(grad_z, n);
  }
}

void act_backward(const ActBackwardArgs& a, int64_t begin, int64_t end) {
  with_dtype(a.dtype, [&](auto* type) {
    act_backward_tiles<std::remove_pointer_t<decltype(type)>>(a, begin, end);
  });
}
