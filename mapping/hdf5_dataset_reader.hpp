// One open dataset of frames: where each frame's bytes lie, or the frame itself where HDF5 must decode it.
#pragma once

#include <hdf5.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "mapping/frame_source.hpp"
#include "mapping/hdf5.hpp"
#include "mapping/hdf5_frames.hpp"
#include "mapping/input_file.hpp"

namespace annulus::mapping::hdf5 {

/// Opens the dataset of a run. Nothing here throws because of bad data; all calls but for copies of descriptor():
/// one thread at a time in a process.
class DatasetReader {
 public:
  /// @param rows, columns  what a frame must have, else all frames are `wrong_shape`
  DatasetReader(const FrameRun& run, std::uint32_t rows, std::uint32_t columns);

  [[nodiscard]] bool is_for(const FrameRun& run) const { return run.file == file_ && run.dataset == dataset_name_; }

  /// Where a frame lies: `bytes` at `offset` of descriptor().
  struct Place {
    FrameStatus status = FrameStatus::unreadable;
    Storage storage = Storage::hdf5;  ///< hdf5: there is no such place, read() has it.
    kernels::Encoding encoding;
    std::uint64_t offset = 0;
    std::uint64_t bytes = 0;
  };
  [[nodiscard]] Place locate(std::uint64_t frame);

  /// Reads a frame through HDF5, native byte order.
  [[nodiscard]] FrameStatus read(std::uint64_t frame, std::vector<std::byte>& bytes);

  /// The file, for reads past HDF5 by any thread; stays open as long as a copy of this is kept.
  [[nodiscard]] const std::shared_ptr<const FileDescriptor>& descriptor() const { return descriptor_; }

 private:
  void open(const FrameRun& run, std::uint32_t rows, std::uint32_t columns);
  void enlarge_chunk_cache();
  [[nodiscard]] FrameStatus presence(std::uint64_t frame);
  [[nodiscard]] std::uint64_t file_bytes() const;

  std::filesystem::path file_;
  std::string dataset_name_;
  FrameStatus status_ = FrameStatus::unreadable;  ///< Of the dataset: ok, or why none of its frames can be had.
  DatasetDescription description_;
  std::shared_ptr<const FileDescriptor> descriptor_;
  File opened_;
  Dataset dataset_;
  bool allocated_ = false;         ///< Contiguous storage was written at all.
  std::uint64_t data_offset_ = 0;  ///< Contiguous: of the first frame.
  std::vector<hsize_t> chunk_;     ///< Extent of a chunk; empty when not chunked.
  std::size_t decoded_bytes_ = 0;  ///< What filter 32008 must make of a chunk, 0 = not known.
  VirtualMap virtual_map_;
  std::vector<std::optional<bool>> piece_is_complete_;  ///< [pieces], looked at when first needed.
};

}  // namespace annulus::mapping::hdf5
