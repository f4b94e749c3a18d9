// Bytes of files without a copy: their pages in the kernel's cache, mapped into the address space.
//
// A copy out of the page cache costs a CPU as much as a third of decoding what was copied; a mapping costs nearly
// nothing, since the decoder brings in the bytes when it needs them. The price: a file that shrinks, or whose device
// fails, is no failed read but a SIGBUS. A handler of ours then puts zeros in place of the lost page and notes it, so
// that the work goes on, and whoever has used the bytes asks intact() before believing what came out. SIGBUS for any
// other address goes to whoever had it before, or ends the process as ever.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace annulus::mapping {

/// Bytes [offset, offset + bytes) of an open file.
struct FilePart {
  int descriptor = -1;
  std::uint64_t offset = 0;
  std::size_t bytes = 0;
};

/// Parts of files that are mapped together, one batch after the other.
class FilePages {
 public:
  FilePages();
  ~FilePages();
  FilePages(FilePages&&) noexcept;
  FilePages& operator=(FilePages&&) noexcept;

  /// Maps all parts in place of those before, which end; false, and nothing is mapped, when that would not do for one
  /// of them: its file ends before it does; its pages are not in the cache, so that they would come one by one (looked
  /// at here and there); or its file lies in no file system of this machine's own, of which alone we know that pages
  /// are the kernel's, and cheap. The files stay open for as long as intact() may be asked.
  [[nodiscard]] bool map(std::span<const FilePart> parts);
  /// Where part `index` lies; any thread may read it, until the next map() or clear().
  [[nodiscard]] std::span<const std::byte> operator[](std::size_t index) const { return places_[index]; }
  /// Ends the mapping.
  void clear() noexcept;

  /// Whether all that was read so far were the files' bytes. A file that shrank may have given zeros.
  [[nodiscard]] bool intact() const;

  /// For the signal handler: puts zeros in place of a page that belongs to a mapping; false when it belongs to none.
  [[nodiscard]] static bool replace_lost_page(std::uintptr_t address) noexcept;

 private:
  struct Window;  // what the signal handler knows of
  /// A file, and up to where parts of it are mapped.
  struct Extent {
    int descriptor = -1;
    std::uint64_t end = 0;
  };

  [[nodiscard]] bool take_window();

  Window* window_ = nullptr;
  std::byte* memory_ = nullptr;
  std::size_t bytes_ = 0;
  std::vector<Extent> extents_;
  std::vector<std::span<const std::byte>> places_;  ///< [parts]
};

}  // namespace annulus::mapping
