#include "mapping/file_pages.hpp"

#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <initializer_list>
#include <mutex>
#include <utility>

namespace annulus::mapping {

/// Where one FilePages has mapped; read by the signal handler while its owner's threads use it.
struct FilePages::Window {
  std::atomic<bool> taken = false;
  std::atomic<std::uintptr_t> begin = 0;
  std::atomic<std::uintptr_t> end = 0;
  std::atomic<bool> lost = false;  ///< a page

  /// Owners live as long as a rank's work does: one or two at a time.
  static inline std::array<Window, 64>& all() {
    static std::array<Window, 64> windows;
    return windows;
  }
};

namespace {

/// Parts of a file with no more than this between them are mapped as one; nobody touches what lies between.
constexpr std::uint64_t largest_gap = std::uint64_t{1} << 20;

const std::size_t page_bytes = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
struct sigaction former_action;

/// Parts [first, last] of a map(), and the pages of the file that hold them.
struct Run {
  int descriptor = -1;
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
  std::size_t first = 0;
  std::size_t last = 0;
};

std::uint64_t rounded_up(std::uint64_t bytes) { return (bytes + page_bytes - 1) / page_bytes * page_bytes; }

/// File systems by the numbers of statfs(2).
bool is_one_of(int descriptor, std::initializer_list<std::uint64_t> types) {
  struct statfs status {};
  if (::fstatfs(descriptor, &status) != 0) return false;
  return std::ranges::find(types, static_cast<std::uint64_t>(status.f_type) & 0xFFFFFFFFU) != types.end();
}

/// tmpfs, ramfs.
bool is_in_memory(int descriptor) { return is_one_of(descriptor, {0x01021994, 0x858458F6}); }

/// ext2 to ext4, XFS, Btrfs, F2FS, overlayfs.
bool is_on_own_disk(int descriptor) {
  return is_one_of(descriptor, {0xEF53, 0x58465342, 0x9123683E, 0xF2F52010, 0x794C7630});
}

/// Whether the page cache holds a byte of a file.
bool is_cached(int descriptor, std::uint64_t offset) {
  std::byte byte{};
  const iovec place{&byte, 1};
  return ::preadv2(descriptor, &place, 1, static_cast<off_t>(offset), RWF_NOWAIT) == 1;
}

/// Looks at some of the bytes [begin, end): pages come and go in order, many at a time.
bool seem_cached(int descriptor, std::uint64_t begin, std::uint64_t end) {
  constexpr std::uint64_t step = std::uint64_t{256} << 10;
  for (std::uint64_t offset = begin; offset < end; offset += step) {
    if (!is_cached(descriptor, offset)) return false;
  }
  return is_cached(descriptor, end - 1);
}

bool reaches(int descriptor, std::uint64_t end) {
  struct stat status {};
  return ::fstat(descriptor, &status) == 0 && static_cast<std::uint64_t>(status.st_size) >= end;
}

void on_bus_error(int, siginfo_t* info, void*) {
  const int error = errno;
  const auto address = reinterpret_cast<std::uintptr_t>(info->si_addr);
  // Sent by the kernel, for an access of this thread.
  const bool by_access = info->si_code > 0;
  if (by_access && FilePages::replace_lost_page(address)) {
    errno = error;
    return;
  }
  ::sigaction(SIGBUS, &former_action, nullptr);
  if (!by_access) ::raise(SIGBUS);  // an access repeats itself
}

}  // namespace

bool FilePages::replace_lost_page(std::uintptr_t address) noexcept {
  for (Window& window : Window::all()) {
    if (address < window.begin || address >= window.end) continue;
    window.lost = true;
    void* const page = reinterpret_cast<void*>(address / page_bytes * page_bytes);
    return ::mmap(page, page_bytes, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != MAP_FAILED;
  }
  return false;
}

FilePages::FilePages() = default;

FilePages::~FilePages() {
  clear();
  if (window_ != nullptr) window_->taken = false;
}

FilePages::FilePages(FilePages&& other) noexcept
    : window_(std::exchange(other.window_, nullptr)),
      memory_(std::exchange(other.memory_, nullptr)),
      bytes_(std::exchange(other.bytes_, 0)),
      extents_(std::exchange(other.extents_, {})),
      places_(std::exchange(other.places_, {})) {}

FilePages& FilePages::operator=(FilePages&& other) noexcept {
  FilePages taken(std::move(other));
  std::swap(window_, taken.window_);
  std::swap(memory_, taken.memory_);
  std::swap(bytes_, taken.bytes_);
  std::swap(extents_, taken.extents_);
  std::swap(places_, taken.places_);
  return *this;
}

bool FilePages::take_window() {
  static std::once_flag once;
  std::call_once(once, [] {
    static_cast<void>(Window::all());  // made here, not in the handler
    struct sigaction action {};
    action.sa_sigaction = on_bus_error;
    action.sa_flags = SA_SIGINFO | SA_RESTART;
    ::sigaction(SIGBUS, &action, &former_action);
  });
  for (Window& window : Window::all()) {
    if (window_ != nullptr) break;
    if (!window.taken.exchange(true)) window_ = &window;
  }
  return window_ != nullptr;
}

bool FilePages::map(std::span<const FilePart> parts) {
  clear();
  std::vector<Run> runs;
  std::size_t bytes = 0;
  for (std::size_t part = 0; part < parts.size(); ++part) {
    const FilePart& next = parts[part];
    const std::uint64_t end = next.offset + next.bytes;
    if (end < next.offset) return clear(), false;
    Run* const run = runs.empty() ? nullptr : &runs.back();
    if (run != nullptr && run->descriptor == next.descriptor && next.offset >= run->begin &&
        next.offset <= run->end + largest_gap) {
      run->end = std::max(run->end, end);
      run->last = part;
    } else {
      runs.push_back({next.descriptor, next.offset / page_bytes * page_bytes, end, part, part});
    }
  }
  for (const Run& run : runs) {
    bytes += rounded_up(run.end - run.begin);
    const auto known = std::ranges::find(extents_, run.descriptor, &Extent::descriptor);
    if (known != extents_.end()) {
      known->end = std::max(known->end, run.end);
    } else {
      extents_.push_back({run.descriptor, run.end});
    }
  }
  const auto serves = [](const Run& run) {
    return is_in_memory(run.descriptor) ||
           (is_on_own_disk(run.descriptor) && seem_cached(run.descriptor, run.begin, run.end));
  };
  if (bytes == 0 || !intact() || !std::ranges::all_of(runs, serves) || !take_window()) return clear(), false;

  void* const memory = ::mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) return clear(), false;
  memory_ = static_cast<std::byte*>(memory);
  bytes_ = bytes;
  places_.resize(parts.size());
  std::byte* at = memory_;
  for (const Run& run : runs) {
    const auto length = static_cast<std::size_t>(run.end - run.begin);
    if (::mmap(at, length, PROT_READ, MAP_SHARED | MAP_FIXED, run.descriptor, static_cast<off_t>(run.begin)) ==
        MAP_FAILED) {
      return clear(), false;
    }
    for (std::size_t part = run.first; part <= run.last; ++part) {
      places_[part] = {at + (parts[part].offset - run.begin), parts[part].bytes};
    }
    at += rounded_up(length);
  }
  window_->lost = false;
  window_->begin = reinterpret_cast<std::uintptr_t>(memory_);
  window_->end = reinterpret_cast<std::uintptr_t>(memory_) + bytes_;
  return true;
}

void FilePages::clear() noexcept {
  if (window_ != nullptr) window_->begin = window_->end = 0;
  if (memory_ != nullptr) ::munmap(memory_, bytes_);
  memory_ = nullptr;
  bytes_ = 0;
  extents_.clear();
  places_.clear();
}

bool FilePages::intact() const {
  if (memory_ != nullptr && window_->lost) return false;
  return std::ranges::all_of(extents_, [](const Extent& file) { return reaches(file.descriptor, file.end); });
}

}  // namespace annulus::mapping
