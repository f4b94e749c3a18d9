// The one owner for every C handle (hid_t, TIFF*, cl_mem, file descriptors, MPI_Comm): move-only, released once.
#pragma once

#include <utility>

namespace annulus {

/// Owns a C handle. Traits has: `using Type`, `static Type invalid() noexcept`, `static void release(Type) noexcept`.
template <typename Traits>
class UniqueHandle {
 public:
  using Type = typename Traits::Type;

  UniqueHandle() noexcept : handle_(Traits::invalid()) {}
  explicit UniqueHandle(Type handle) noexcept : handle_(handle) {}
  UniqueHandle(UniqueHandle&& other) noexcept : handle_(other.give_up()) {}
  UniqueHandle& operator=(UniqueHandle&& other) noexcept {
    if (this != &other) reset(other.give_up());
    return *this;
  }
  UniqueHandle(const UniqueHandle&) = delete;
  UniqueHandle& operator=(const UniqueHandle&) = delete;
  ~UniqueHandle() { reset(); }

  [[nodiscard]] Type get() const noexcept { return handle_; }
  [[nodiscard]] explicit operator bool() const noexcept { return handle_ != Traits::invalid(); }

  /// Returns the handle and owns nothing afterwards: the caller releases it.
  [[nodiscard]] Type give_up() noexcept { return std::exchange(handle_, Traits::invalid()); }

  /// Releases what is owned and takes `handle` instead.
  void reset(Type handle = Traits::invalid()) noexcept {
    const Type old = std::exchange(handle_, handle);
    if (old != Traits::invalid()) Traits::release(old);
  }

 private:
  Type handle_;
};

}  // namespace annulus
