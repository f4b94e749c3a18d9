// TIFF files of detectors: one sample a pixel, integers of 8, 16 or 32 bits or floats, each page a frame.
//
// libtiff's warnings and errors never reach the terminal: errors become messages of ours, warnings (private tags of
// wrong length, common in detectors' files) are dropped.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <vector>

#include "kernels/pixel_type.hpp"
#include "mapping/frame_source.hpp"
#include "mapping/input_file.hpp"

namespace annulus::mapping {

/// What a TIFF file holds, from its directories alone.
struct TiffDescription {
  std::uint32_t rows = 0;
  std::uint32_t columns = 0;
  kernels::PixelType type = kernels::PixelType::u16;
  std::vector<std::uint64_t> pages;  ///< Offset of each frame's directory; thumbnails and masks are left out.
};

/// Reads all directories and checks that the image data lie inside the file. Takes `input` over. Any thread.
/// Throws InputError naming the file: no TIFF, several samples a pixel, a type we do not know, pages that differ,
/// truncated, a compression that libtiff lacks.
[[nodiscard]] TiffDescription describe_tiff(const std::filesystem::path& file, InputFile input);

/// Reads the page whose directory is at `page_offset` (0 = the first that is a frame) into `bytes`, native byte order.
/// Returns ok, missing (no file), unreadable or wrong_shape; never throws for bad data. Any thread.
[[nodiscard]] FrameStatus read_tiff_frame(const std::filesystem::path& file, std::uint64_t page_offset,
                                          std::uint32_t rows, std::uint32_t columns, kernels::PixelType type,
                                          std::vector<std::byte>& bytes);

}  // namespace annulus::mapping
