#include "mapping/tiff_frames.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <tiffio.h>

#include <algorithm>
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <limits>
#include <optional>
#include <string>
#include <utility>

#include "base/errors.hpp"

namespace annulus::mapping {

namespace {

using kernels::PixelType;

struct TiffTraits {
  using Type = TIFF*;
  static Type invalid() noexcept { return nullptr; }
  static void release(Type tiff) noexcept { TIFFClose(tiff); }
};
using Tiff = UniqueHandle<TiffTraits>;

/// What libtiff said last on this thread.
std::string& last_message() {
  thread_local std::string message;
  return message;
}

void keep_message(thandle_t, const char*, const char* format, va_list arguments) {
  char text[256];
  std::vsnprintf(text, sizeof text, format, arguments);
  last_message() = text;
}

/// Keeps libtiff off the terminal; its handlers belong to the process, so they are set once.
void quieten_libtiff() {
  [[maybe_unused]] static const bool done = [] {
    TIFFSetWarningHandler(nullptr);
    TIFFSetWarningHandlerExt(nullptr);
    TIFFSetErrorHandler(nullptr);
    TIFFSetErrorHandlerExt(keep_message);
    return true;
  }();
}

/// Opens without memory mapping ("m"): a mapped file that shrinks would end the process with SIGBUS.
[[nodiscard]] Tiff open_tiff(const std::filesystem::path& file, FileDescriptor descriptor) {
  quieten_libtiff();
  last_message().clear();
  Tiff tiff(TIFFFdOpen(descriptor.get(), file.c_str(), "rm"));
  if (tiff) static_cast<void>(descriptor.give_up());  // TIFFClose() closes it.
  return tiff;
}

/// The page that is current in `tiff`, as its directory tells.
struct Page {
  std::uint32_t rows = 0;
  std::uint32_t columns = 0;
  std::uint16_t samples = 1;
  std::uint16_t bits = 1;
  std::uint16_t format = SAMPLEFORMAT_UINT;
  std::uint16_t compression = COMPRESSION_NONE;

  explicit Page(TIFF* tiff) {
    TIFFGetField(tiff, TIFFTAG_IMAGELENGTH, &rows);
    TIFFGetField(tiff, TIFFTAG_IMAGEWIDTH, &columns);
    TIFFGetFieldDefaulted(tiff, TIFFTAG_SAMPLESPERPIXEL, &samples);
    TIFFGetFieldDefaulted(tiff, TIFFTAG_BITSPERSAMPLE, &bits);
    TIFFGetFieldDefaulted(tiff, TIFFTAG_SAMPLEFORMAT, &format);
    TIFFGetFieldDefaulted(tiff, TIFFTAG_COMPRESSION, &compression);
  }

  [[nodiscard]] std::optional<PixelType> type() const {
    if (samples != 1) return std::nullopt;
    switch (format) {
      case SAMPLEFORMAT_UINT:
      case SAMPLEFORMAT_VOID:
        if (bits == 8) return PixelType::u8;
        if (bits == 16) return PixelType::u16;
        if (bits == 32) return PixelType::u32;
        break;
      case SAMPLEFORMAT_INT:
        if (bits == 8) return PixelType::i8;
        if (bits == 16) return PixelType::i16;
        if (bits == 32) return PixelType::i32;
        break;
      case SAMPLEFORMAT_IEEEFP:
        if (bits == 32) return PixelType::f32;
        if (bits == 64) return PixelType::f64;
        break;
      default: break;
    }
    return std::nullopt;
  }
};

/// Thumbnails and transparency masks are pages too, but no frames.
[[nodiscard]] bool is_frame(TIFF* tiff) {
  std::uint32_t kind = 0;
  TIFFGetFieldDefaulted(tiff, TIFFTAG_SUBFILETYPE, &kind);
  return (kind & (FILETYPE_REDUCEDIMAGE | FILETYPE_MASK)) == 0;
}

[[nodiscard]] std::uint32_t strip_count(TIFF* tiff) {
  return TIFFIsTiled(tiff) != 0 ? TIFFNumberOfTiles(tiff) : TIFFNumberOfStrips(tiff);
}

/// Decoded bytes of strip or tile `index`; the last strip may be shorter than the others.
[[nodiscard]] std::uint64_t decoded_bytes(TIFF* tiff, const Page& page, std::uint32_t index) {
  if (TIFFIsTiled(tiff) != 0) return TIFFTileSize64(tiff);
  std::uint32_t rows_per_strip = page.rows;
  TIFFGetFieldDefaulted(tiff, TIFFTAG_ROWSPERSTRIP, &rows_per_strip);
  rows_per_strip = std::clamp<std::uint32_t>(rows_per_strip, 1, page.rows);
  const std::uint64_t first_row = static_cast<std::uint64_t>(index) * rows_per_strip;
  if (first_row >= page.rows) return 0;
  return TIFFVStripSize64(tiff,
                          static_cast<std::uint32_t>(std::min<std::uint64_t>(rows_per_strip, page.rows - first_row)));
}

void check_page(TIFF* tiff, const Page& page, const std::string& name, std::uint64_t file_bytes) {
  if (page.rows == 0 || page.columns == 0) throw InputError(name + ": holds no image (0 pixels)");
  if (static_cast<std::uint64_t>(page.rows) * page.columns > std::numeric_limits<std::uint32_t>::max()) {
    throw InputError(fmt::format("{}: {} x {} pixels, more than a frame can have", name, page.rows, page.columns));
  }
  if (page.samples != 1) {
    throw InputError(fmt::format("{}: {} samples per pixel (a colour image?), expected 1", name, page.samples));
  }
  if (!page.type()) {
    throw InputError(
        fmt::format("{}: pixels of {} bits with sample format {}, expected integers of 8, 16 or 32 bits "
                    "or floats of 32 or 64 bits",
                    name, page.bits, page.format));
  }
  if (TIFFIsCODECConfigured(page.compression) == 0) {
    throw InputError(fmt::format("{}: compression {} is not supported by this libtiff", name, page.compression));
  }
  const std::uint32_t strips = strip_count(tiff);
  for (std::uint32_t strip = 0; strip < strips; ++strip) {
    const std::uint64_t offset = TIFFGetStrileOffset(tiff, strip);
    std::uint64_t bytes = TIFFGetStrileByteCount(tiff, strip);
    if (page.compression == COMPRESSION_NONE) {
      const std::uint64_t expected = decoded_bytes(tiff, page, strip);
      if (bytes < expected) {
        throw InputError(fmt::format("{}: strip {} holds {} bytes, expected {}", name, strip, bytes, expected));
      }
      bytes = expected;
    }
    if (offset == 0 || bytes == 0) throw InputError(fmt::format("{}: strip {} was never written", name, strip));
    if (offset > file_bytes || bytes > file_bytes - offset) {
      throw InputError(fmt::format("{}: truncated: the file has {} bytes, its image data end at byte {}", name,
                                   file_bytes, offset + bytes));
    }
  }
}

/// Reads the current page through libtiff's decoders.
[[nodiscard]] bool read_decoded(TIFF* tiff, const Page& page, std::size_t pixel_bytes, std::span<std::byte> out) {
  const std::uint32_t strips = strip_count(tiff);
  if (TIFFIsTiled(tiff) == 0) {
    std::size_t position = 0;
    for (std::uint32_t strip = 0; strip < strips; ++strip) {
      const std::uint64_t bytes = decoded_bytes(tiff, page, strip);
      if (bytes > out.size() - position) return false;
      if (TIFFReadEncodedStrip(tiff, strip, out.data() + position, static_cast<tmsize_t>(bytes)) !=
          static_cast<tmsize_t>(bytes)) {
        return false;
      }
      position += static_cast<std::size_t>(bytes);
    }
    return position == out.size();
  }

  std::uint32_t tile_rows = 0;
  std::uint32_t tile_columns = 0;
  TIFFGetField(tiff, TIFFTAG_TILELENGTH, &tile_rows);
  TIFFGetField(tiff, TIFFTAG_TILEWIDTH, &tile_columns);
  const std::size_t tile_row_bytes = tile_columns * pixel_bytes;
  if (tile_rows == 0 || tile_columns == 0 || TIFFTileSize64(tiff) != tile_rows * tile_row_bytes) return false;
  std::vector<std::byte> tile(tile_rows * tile_row_bytes);
  std::uint32_t index = 0;
  for (std::uint64_t row = 0; row < page.rows; row += tile_rows) {
    for (std::uint64_t column = 0; column < page.columns; column += tile_columns, ++index) {
      const auto bytes = static_cast<tmsize_t>(tile.size());
      if (index >= strips || TIFFReadEncodedTile(tiff, index, tile.data(), bytes) != bytes) return false;
      const std::uint64_t rows = std::min<std::uint64_t>(tile_rows, page.rows - row);
      const std::uint64_t columns = std::min<std::uint64_t>(tile_columns, page.columns - column);
      for (std::uint64_t line = 0; line < rows; ++line) {
        std::memcpy(out.data() + ((row + line) * page.columns + column) * pixel_bytes,
                    tile.data() + line * tile_row_bytes, columns * pixel_bytes);
      }
    }
  }
  return true;
}

/// Where the page's pixels lie as one piece in the machine's own byte order: readable at once, past libtiff.
[[nodiscard]] std::optional<std::uint64_t> plain_offset(TIFF* tiff, const Page& page) {
  std::uint16_t fill_order = FILLORDER_MSB2LSB;
  TIFFGetFieldDefaulted(tiff, TIFFTAG_FILLORDER, &fill_order);
  if (page.compression != COMPRESSION_NONE || fill_order != FILLORDER_MSB2LSB || TIFFIsTiled(tiff) != 0) {
    return std::nullopt;
  }
  if (page.bits > 8 && TIFFIsByteSwapped(tiff) != 0) return std::nullopt;
  const std::uint32_t strips = strip_count(tiff);
  const std::uint64_t start = TIFFGetStrileOffset(tiff, 0);
  std::uint64_t end = start;
  for (std::uint32_t strip = 0; strip < strips; ++strip) {
    if (TIFFGetStrileOffset(tiff, strip) != end) return std::nullopt;
    end += decoded_bytes(tiff, page, strip);
  }
  return start;
}

}  // namespace

TiffDescription describe_tiff(const std::filesystem::path& file, InputFile input) {
  const std::string name = file.string();
  const std::uint64_t file_bytes = input.bytes;
  const Tiff tiff = open_tiff(file, std::move(input.descriptor));
  if (!tiff) throw InputError(fmt::format("{}: is no readable TIFF image: {}", name, last_message()));

  TiffDescription description;
  std::size_t number = 0;
  do {
    ++number;
    if (!is_frame(tiff.get())) continue;
    const Page page(tiff.get());
    check_page(tiff.get(), page, number == 1 ? name : fmt::format("{}, page {}", name, number), file_bytes);
    if (description.pages.empty()) {
      description.rows = page.rows;
      description.columns = page.columns;
      description.type = *page.type();
    } else if (page.rows != description.rows || page.columns != description.columns ||
               *page.type() != description.type) {
      throw InputError(fmt::format("{}, page {}: {} x {} pixels of {}, expected {} x {} of {} as on the first page",
                                   name, number, page.rows, page.columns, kernels::name_of(*page.type()),
                                   description.rows, description.columns, kernels::name_of(description.type)));
    }
    description.pages.push_back(TIFFCurrentDirOffset(tiff.get()));
  } while (TIFFLastDirectory(tiff.get()) == 0 && TIFFReadDirectory(tiff.get()) != 0);
  // Stopping before the last directory means that one could not be read: the file is damaged.
  if (TIFFLastDirectory(tiff.get()) == 0) {
    throw InputError(fmt::format("{}: page {} cannot be read: {}", name, number + 1, last_message()));
  }
  if (description.pages.empty()) throw InputError(name + ": holds no image but thumbnails or masks");
  return description;
}

FrameStatus read_tiff_frame(const std::filesystem::path& file, std::uint64_t page_offset, std::uint32_t rows,
                            std::uint32_t columns, PixelType type, std::vector<std::byte>& bytes) {
  FileDescriptor descriptor(::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!descriptor) return errno == ENOENT ? FrameStatus::missing : FrameStatus::unreadable;
  const int number = descriptor.get();
  const Tiff tiff = open_tiff(file, std::move(descriptor));
  if (!tiff) return FrameStatus::unreadable;
  if (page_offset != 0 && TIFFSetSubDirectory(tiff.get(), page_offset) == 0) return FrameStatus::unreadable;
  while (page_offset == 0 && !is_frame(tiff.get())) {
    if (TIFFReadDirectory(tiff.get()) == 0) return FrameStatus::unreadable;
  }
  const Page page(tiff.get());
  if (page.rows != rows || page.columns != columns || page.type() != type) return FrameStatus::wrong_shape;

  bytes.resize(static_cast<std::size_t>(rows) * columns * kernels::size_of(type));
  const std::optional<std::uint64_t> offset = plain_offset(tiff.get(), page);
  const bool good =
      offset ? read_exactly(number, *offset, bytes) : read_decoded(tiff.get(), page, size_of(type), bytes);
  return good ? FrameStatus::ok : FrameStatus::unreadable;
}

}  // namespace annulus::mapping
