// Memory that notices: an array of exact size between two pages that nobody may touch.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

// The array lies against the page before it or the page after it, shifted by any number of its
// elements, so that it has every alignment. What is left of its own pages is poisoned under
// AddressSanitizer, and holds a pattern that is checked in the end.
template <class T>
class Guarded {
 public:
  Guarded(int64_t size, bool at_the_end, int64_t shift) : size_(size) {
    const size_t page = size_t(sysconf(_SC_PAGESIZE));
    const size_t bytes = size_t(size) * sizeof(T), slack = size_t(shift) * sizeof(T);
    inner_ = (bytes + slack + page) / page * page;
    mapped_ = inner_ + 2 * page;
    base_ = static_cast<char*>(
        mmap(nullptr, mapped_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (base_ == MAP_FAILED) std::abort();
    inside_ = base_ + page;
    mprotect(inside_, inner_, PROT_READ | PROT_WRITE);
    memset(inside_, kPattern, inner_);
    char* start = at_the_end ? inside_ + inner_ - bytes : inside_ + slack;
    data_ = reinterpret_cast<T*>(start);
    before_ = size_t(start - inside_);
    after_ = inner_ - before_ - bytes;
#if defined(__SANITIZE_ADDRESS__)
    __asan_poison_memory_region(inside_, before_);
    __asan_poison_memory_region(start + bytes, after_);
#endif
  }
  Guarded(const Guarded&) = delete;
  Guarded& operator=(const Guarded&) = delete;

  ~Guarded() {
#if defined(__SANITIZE_ADDRESS__)
    __asan_unpoison_memory_region(inside_, inner_);
#endif
    check(inside_, before_);
    check(inside_ + inner_ - after_, after_);
    munmap(base_, mapped_);
  }

  T* data() { return data_; }
  int64_t size() const { return size_; }
  T& operator[](int64_t i) { return data_[i]; }

 private:
  static constexpr unsigned char kPattern = 0xA5;

  static void check(const char* p, size_t n) {
    for (size_t i = 0; i < n; ++i) {
      if (static_cast<unsigned char>(p[i]) == kPattern) continue;
      std::fprintf(stderr, "FAILED: written outside an array\n");
      std::abort();
    }
  }

  int64_t size_;
  size_t inner_, mapped_, before_, after_;
  char *base_, *inside_;
  T* data_;
};
