#include "mapping/hdf5_dataset_reader.hpp"

#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <exception>
#include <system_error>

#include "base/errors.hpp"
#include "mapping/hdf5_bitshuffle_filter.hpp"
#include "mapping/hdf5_chunk_address.hpp"
#include "mapping/hdf5_input.hpp"

namespace annulus::mapping::hdf5 {

namespace {

// HDF5's own default is 1 MiB: any chunk of several frames would be decoded once for each of them.
constexpr std::size_t max_chunk_cache_bytes = std::size_t{512} << 20;

}  // namespace

DatasetReader::DatasetReader(const FrameRun& run, std::uint32_t rows, std::uint32_t columns)
    : file_(run.file), dataset_name_(run.dataset) {
  std::error_code ignored;
  if (!std::filesystem::exists(file_, ignored)) {
    status_ = FrameStatus::missing;
    return;
  }
  try {
    open(run, rows, columns);
  } catch (const std::exception&) {
    status_ = FrameStatus::unreadable;
  }
}

void DatasetReader::open(const FrameRun& run, std::uint32_t rows, std::uint32_t columns) {
  const PropertyList access = locating_access();
  opened_ = open_for_reading(file_, access.get());
  dataset_ = open_dataset(opened_.get(), file_, dataset_name_);
  descriptor_ = std::make_shared<const FileDescriptor>(open_input(file_).descriptor);
  description_ = describe_dataset(dataset_.get(), shown(file_, dataset_name_));
  if (description_.rows != rows || description_.columns != columns || description_.type != run.type) {
    status_ = FrameStatus::wrong_shape;
    return;
  }
  const auto creation = own<PropertyList>(H5Dget_create_plist(dataset_.get()), "get a dataset's properties");
  if (H5Pget_layout(creation.get()) == H5D_CHUNKED) {
    chunk_.resize(description_.single ? 2 : 3);
    H5Pget_chunk(creation.get(), static_cast<int>(chunk_.size()), chunk_.data());
    // Decoding ends with filter 32008, which must give whole chunks.
    if (!description_.filters.empty() && description_.filters.front().id == bitshuffle_filter) {
      const auto type = own<Datatype>(H5Dget_type(dataset_.get()), "get a dataset's type");
      decoded_bytes_ = H5Tget_size(type.get());
      for (const hsize_t size : chunk_) decoded_bytes_ *= size;
    }
    if (description_.storage == Storage::hdf5) enlarge_chunk_cache();
  }
  if (description_.is_virtual) {
    virtual_map_ = virtual_map(dataset_.get(), description_);
    piece_is_complete_.resize(virtual_map_.pieces.size());
  }
  H5D_space_status_t space = H5D_SPACE_STATUS_NOT_ALLOCATED;
  check(H5Dget_space_status(dataset_.get(), &space), "ask for a dataset's allocation");
  allocated_ = space != H5D_SPACE_STATUS_NOT_ALLOCATED;
  if (description_.storage == Storage::contiguous && allocated_) {
    const haddr_t offset = H5Dget_offset(dataset_.get());
    allocated_ = offset != HADDR_UNDEF;
    data_offset_ = offset;
  }
  status_ = FrameStatus::ok;
}

/// Reopens the dataset with room for all chunks that one frame touches.
void DatasetReader::enlarge_chunk_cache() {
  const std::size_t axis = description_.single ? 0 : 1;
  std::size_t bytes = kernels::size_of(description_.type);
  for (const hsize_t size : chunk_) bytes *= size;
  const std::size_t across = (description_.rows + chunk_[axis] - 1) / chunk_[axis];
  const std::size_t along = (description_.columns + chunk_[axis + 1] - 1) / chunk_[axis + 1];
  if (across * along > max_chunk_cache_bytes / bytes) return;
  const auto access = own<PropertyList>(H5Pcreate(H5P_DATASET_ACCESS), "make a dataset access property list");
  // HDF5's advice: slots a prime, well above the number of chunks; here the chunks of a frame are few or neighbours.
  const std::size_t slots = std::max<std::size_t>(521, 10 * across * along + 1);
  check(H5Pset_chunk_cache(access.get(), slots, std::max<std::size_t>(across * along * bytes, 1 << 20), 1.0),
        "set a chunk cache");
  dataset_.reset();
  dataset_ = own<Dataset>(H5Dopen2(opened_.get(), dataset_name_.c_str(), access.get()), "open a dataset");
}

std::uint64_t DatasetReader::file_bytes() const {
  struct stat status {};
  return ::fstat(descriptor_->get(), &status) == 0 ? static_cast<std::uint64_t>(status.st_size) : 0;
}

DatasetReader::Place DatasetReader::locate(std::uint64_t frame) {
  Place place;
  place.status = status_;
  if (status_ != FrameStatus::ok) return place;
  place.status = FrameStatus::missing;
  if (frame >= description_.frames) return place;
  place.storage = description_.storage;
  const std::uint64_t frame_bytes =
      static_cast<std::uint64_t>(description_.rows) * description_.columns * kernels::size_of(description_.type);
  switch (description_.storage) {
    case Storage::contiguous:
      if (!allocated_) return place;
      place.offset = data_offset_ + frame * frame_bytes;
      place.bytes = frame_bytes;
      break;
    case Storage::chunk:
      try {
        const std::array<hsize_t, 3> corner{description_.single ? 0 : frame, 0, 0};
        const auto chunk = locate_chunk(dataset_.get(), corner.data(), file_bytes());
        if (!chunk) return place;
        // Filters may have been left out for this chunk: what is left of them is known, too.
        place.encoding =
            encoding_of(description_.filters, kernels::size_of(description_.type), chunk->filter_mask).value();
        place.offset = chunk->offset;
        place.bytes = chunk->bytes;
      } catch (const std::exception&) {
        place.status = FrameStatus::unreadable;
        return place;
      }
      if (place.encoding == kernels::Encoding::raw && place.bytes != frame_bytes) {
        place.status = FrameStatus::wrong_shape;
        return place;
      }
      break;
    case Storage::hdf5:
    case Storage::tiff: break;
  }
  place.status = FrameStatus::ok;
  return place;
}

/// Whether what HDF5 would read was ever written, since it gives the fill value for what was not, without a word; and
/// whether it can be let near it.
FrameStatus DatasetReader::presence(std::uint64_t frame) {
  if (description_.is_virtual) {
    bool covered = false;
    for (std::size_t index = 0; index < virtual_map_.pieces.size(); ++index) {
      const VirtualPiece& piece = virtual_map_.pieces[index];
      if (frame < piece.first || frame >= piece.first + piece.frames) continue;
      covered = true;
      std::optional<bool>& complete = piece_is_complete_[index];
      if (!complete) complete = piece.pattern || is_complete(piece.file, piece.dataset);
      if (!*complete) return FrameStatus::missing;
    }
    return covered ? FrameStatus::ok : FrameStatus::missing;
  }
  if (chunk_.empty()) return allocated_ ? FrameStatus::ok : FrameStatus::missing;

  const std::size_t axis = description_.single ? 0 : 1;
  std::array<hsize_t, 3> corner{};
  if (!description_.single) corner[0] = frame / chunk_[0] * chunk_[0];
  std::size_t present = 0;
  std::size_t absent = 0;
  const std::uint64_t size = file_bytes();
  // HDF5 1.10 takes the checksum off without a look at the chunk's length, and reads far outside of a shorter one.
  constexpr std::uint64_t checksum_bytes = 4;
  const bool has_checksum =
      std::ranges::find(description_.filters, H5Z_FILTER_FLETCHER32, &ChunkFilter::id) != description_.filters.end();
  for (hsize_t row = 0; row < description_.rows; row += chunk_[axis]) {
    for (hsize_t column = 0; column < description_.columns; column += chunk_[axis + 1]) {
      corner[axis] = row;
      corner[axis + 1] = column;
      const auto chunk = locate_chunk(dataset_.get(), corner.data(), size);
      if (has_checksum && chunk && chunk->bytes < checksum_bytes) return FrameStatus::unreadable;
      ++(chunk ? present : absent);
    }
  }
  if (present == 0) return FrameStatus::missing;
  return absent == 0 ? FrameStatus::ok : FrameStatus::unreadable;
}

FrameStatus DatasetReader::read(std::uint64_t frame, std::vector<std::byte>& bytes) {
  if (status_ != FrameStatus::ok) return status_;
  if (frame >= description_.frames) return FrameStatus::missing;
  try {
    if (const FrameStatus there = presence(frame); there != FrameStatus::ok) return there;
    const auto space = own<Dataspace>(H5Dget_space(dataset_.get()), "get a dataset's extent");
    const std::array<hsize_t, 3> start{frame, 0, 0};
    const std::array<hsize_t, 3> count{1, description_.rows, description_.columns};
    if (!description_.single) {
      check(H5Sselect_hyperslab(space.get(), H5S_SELECT_SET, start.data(), nullptr, count.data(), nullptr),
            "select a frame");
    }
    const auto memory = own<Dataspace>(H5Screate_simple(2, count.data() + 1, nullptr), "make a dataspace");
    bytes.resize(static_cast<std::size_t>(description_.rows) * description_.columns *
                 kernels::size_of(description_.type));
    const ExpectChunkBytes expect(decoded_bytes_);
    check(H5Dread(dataset_.get(), native_type(description_.type), memory.get(), space.get(), H5P_DEFAULT, bytes.data()),
          "read a frame");
    return FrameStatus::ok;
  } catch (const std::exception&) {
    return FrameStatus::unreadable;
  }
}

}  // namespace annulus::mapping::hdf5
