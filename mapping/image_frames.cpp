#include "mapping/image_frames.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <span>
#include <utility>

#include "base/errors.hpp"
#include "base/problems.hpp"
#include "mapping/input_file.hpp"

namespace annulus::mapping {
namespace {

/// The pixels as they lie in the file: read_image() tells a type only where it holds each value exactly.
std::vector<std::byte> pixels_of(const Image& image) {
  std::vector<std::byte> bytes(image.values.size() * kernels::size_of(image.type));
  kernels::visit_pixel_type(image.type, [&]<typename Pixel>() {
    for (std::size_t pixel = 0; pixel < image.values.size(); ++pixel) {
      const auto value = static_cast<Pixel>(image.values[pixel]);
      std::memcpy(bytes.data() + pixel * sizeof value, &value, sizeof value);
    }
  });
  return bytes;
}

}  // namespace

struct ImageFrames::Impl {
  std::string url;
  FrameList::Input input;
  std::optional<FrameReader> reader;  // of TIFF and HDF5
  Image image;                        // of all others
  std::vector<EncodedFrame> encoded;  // the frames of one read()
  std::vector<std::byte> memory;      // their bytes

  explicit Impl(const std::string& image_url) : url(image_url) {
    const auto [file, dataset] = split_url(url);
    const FileFormat format = format_of(open_input(file));
    if (format == FileFormat::tiff || format == FileFormat::hdf5) {
      if (format == FileFormat::tiff && !dataset.empty()) {
        throw InputError(fmt::format("{}: a dataset is given, but {} is no HDF5 file", url, file.string()));
      }
      Problems problems;
      FrameList list = open_frames(std::span(&file, 1), dataset, DamagedFiles::refuse, problems);
      problems.throw_if_any();
      if (list.frames() == 0) throw InputError(url + ": holds no image");
      input = list.inputs.front();
      reader.emplace(std::move(list));
      return;
    }
    image = read_image(url);
    input = {file, "", 1};
    if (image.frames != 1) {
      throw InputError(
          fmt::format("{}: holds {} images, expected one (TIFF and HDF5 may hold several)", url, image.frames));
    }
  }

  /// Frames [first, first + result) have one type, at most `most`.
  [[nodiscard]] std::uint64_t of_one_type(std::uint64_t first, std::uint64_t most) const {
    const std::uint64_t end = std::min(first + most, reader->list().frames());
    std::uint64_t next = first + 1;
    while (next < end && reader->type_of(next) == reader->type_of(first)) ++next;
    return next - first;
  }
};

ImageFrames::ImageFrames(const std::string& url) : impl_(std::make_unique<Impl>(url)) {}
ImageFrames::~ImageFrames() = default;
ImageFrames::ImageFrames(ImageFrames&&) noexcept = default;
ImageFrames& ImageFrames::operator=(ImageFrames&&) noexcept = default;

std::uint32_t ImageFrames::rows() const { return impl_->reader ? impl_->reader->list().rows : impl_->image.rows; }
std::uint32_t ImageFrames::columns() const {
  return impl_->reader ? impl_->reader->list().columns : impl_->image.columns;
}
std::uint64_t ImageFrames::frames() const { return impl_->reader ? impl_->reader->list().frames() : 1; }
FrameList::Input ImageFrames::input() const { return impl_->input; }

std::uint64_t ImageFrames::read(std::uint64_t first, std::uint64_t most, DecodedFrames& out) {
  ANNULUS_EXPECT(first < frames() && most > 0);
  out.numbers.clear();
  out.problems.clear();
  if (!impl_->reader) {
    out.type = impl_->image.type;
    out.pixels = pixels_of(impl_->image);
    out.numbers.push_back(0);
    return 1;
  }
  FrameReader& reader = *impl_->reader;
  const std::uint64_t count = impl_->of_one_type(first, most);
  out.type = reader.type_of(first);
  const std::size_t frame_bytes = reader.list().pixels() * kernels::size_of(out.type);
  out.pixels.resize(count * frame_bytes);
  impl_->encoded.resize(count);
  reader.fetch(first, impl_->encoded, impl_->memory);
  for (std::uint64_t index = 0; index < count; ++index) {
    // Good frames close up: a bad one's place is taken by the next.
    const std::span<std::byte> place(out.pixels.data() + out.numbers.size() * frame_bytes, frame_bytes);
    const EncodedFrame& frame = impl_->encoded[index];
    const FrameStatus status = frame.status == FrameStatus::ok ? decode(frame, place) : frame.status;
    if (status == FrameStatus::ok) {
      out.numbers.push_back(first + index);
    } else {
      out.problems.push_back(
          fmt::format("{}: frame {} of {} is {}", impl_->url, first + index, frames(), name_of(status)));
    }
  }
  out.pixels.resize(out.numbers.size() * frame_bytes);
  return count;
}

}  // namespace annulus::mapping
