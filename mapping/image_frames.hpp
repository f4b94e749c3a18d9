// The frames of one image file, decoded one after the other: for commands that take images rather than a scan.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "kernels/pixel_type.hpp"
#include "mapping/frame_source.hpp"

namespace annulus::mapping {

/// Consecutive frames of one pixel type, as an engine takes them.
struct DecodedFrames {
  kernels::PixelType type = kernels::PixelType::u16;
  std::vector<std::byte> pixels;       ///< [frames, rows, columns] of the good frames alone
  std::vector<std::uint64_t> numbers;  ///< [frames] which ones these are
  /// What is wrong with the others, one message each.
  std::vector<std::string> problems;
};

/// An image, or a stack of images, in a file: TIFF and HDF5 with any number of frames, numpy .npy and EDF with one.
/// Pixels keep the type that they have in the file.
class ImageFrames {
 public:
  /// `url` is a file, or FILE::DATASET. Throws InputError when it is no image, or damaged.
  explicit ImageFrames(const std::string& url);
  ~ImageFrames();
  ImageFrames(ImageFrames&&) noexcept;
  ImageFrames& operator=(ImageFrames&&) noexcept;

  [[nodiscard]] std::uint32_t rows() const;
  [[nodiscard]] std::uint32_t columns() const;
  [[nodiscard]] std::uint64_t frames() const;
  /// The file, and where in it the frames lie ("" = not HDF5).
  [[nodiscard]] FrameList::Input input() const;

  /// Reads from frame `first` on, at most `most` and as many as have the same type, and returns how many; reuses the
  /// buffers in `out`. A frame that cannot be read is a message, never an exception. Calls HDF5: one thread at a time.
  std::uint64_t read(std::uint64_t first, std::uint64_t most, DecodedFrames& out);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace annulus::mapping
