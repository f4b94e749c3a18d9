// Large vectors for the hot paths: not cleared first, aligned for any vector load, in large pages where the system
// lends them. To touch pages of 4 KiB for the first time costs more than most of the arithmetic that fills them, and to
// read them in no order costs a look-up each.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <new>
#include <utility>
#include <vector>

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace annulus::kernels {

/// Of LargeVector.
template <typename T>
class LargeAllocator {
 public:
  using value_type = T;

  LargeAllocator() = default;
  template <typename Other>
  LargeAllocator(const LargeAllocator<Other>&) {}

  [[nodiscard]] T* allocate(std::size_t count) {
    if (count > (PTRDIFF_MAX - large_page) / sizeof(T)) throw std::bad_array_new_length();
    std::size_t bytes = count * sizeof(T);
    // (Small ones would waste most of a large page.)
    const std::size_t alignment = bytes >= large_page / 4 ? large_page : vector_bytes;
    bytes = (bytes + alignment - 1) / alignment * alignment;
    void* memory = std::aligned_alloc(alignment, bytes);
    if (memory == nullptr) throw std::bad_alloc();
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    if (alignment == large_page) (void)madvise(memory, bytes, MADV_HUGEPAGE);  // a wish that need not be granted
#endif
    return static_cast<T*>(memory);
  }
  void deallocate(T* memory, std::size_t) { std::free(memory); }

  template <typename Value>
  void construct(Value* place) {
    ::new (static_cast<void*>(place)) Value;
  }
  template <typename Value, typename... Arguments>
  void construct(Value* place, Arguments&&... arguments) {
    ::new (static_cast<void*>(place)) Value(std::forward<Arguments>(arguments)...);
  }

  bool operator==(const LargeAllocator&) const { return true; }

 private:
  static constexpr std::size_t vector_bytes = 64;
  static constexpr std::size_t large_page = std::size_t{2} << 20;
};

/// A vector whose values are not set, unless they are given.
template <typename T>
using LargeVector = std::vector<T, LargeAllocator<T>>;

}  // namespace annulus::kernels
