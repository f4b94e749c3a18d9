// Frames in HDF5 files: which dataset holds them, how it stores them, and where their bytes really are.
//
// All calls: one thread at a time in a process.
#pragma once

#include <hdf5.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "base/problems.hpp"
#include "kernels/pixel_type.hpp"
#include "mapping/frame_source.hpp"
#include "mapping/hdf5.hpp"

namespace annulus::mapping::hdf5 {

/// A dataset of frames, [frames, rows, columns], or one frame [rows, columns].
struct DatasetDescription {
  std::uint32_t rows = 0;
  std::uint32_t columns = 0;
  std::uint64_t frames = 0;
  bool single = false;  ///< 2-D: no axis of frames.
  bool is_virtual = false;
  kernels::PixelType type = kernels::PixelType::u16;
  Storage storage = Storage::hdf5;
};

/// Throws InputError naming `where`: another number of dimensions, a type that is no pixel type, a filter that HDF5 has
/// not. Registers filter 32008 when it is needed.
[[nodiscard]] DatasetDescription describe_dataset(hid_t dataset, const std::string& where);

/// A part of a virtual dataset and where it comes from.
struct VirtualPiece {
  std::uint64_t first = 0;  ///< First frame of the virtual dataset.
  std::uint64_t frames = 0;
  std::filesystem::path file;
  std::string dataset;
  std::uint64_t source_first = 0;
  bool pattern = false;  ///< The source's name is a pattern of an unlimited mapping: file and dataset do not exist.
};

/// The mappings of a virtual dataset.
struct VirtualMap {
  bool whole_frames = false;         ///< Each piece is whole consecutive frames, and no frame has two sources.
  std::vector<VirtualPiece> pieces;  ///< By first frame; frames outside all pieces were never taken.
};
[[nodiscard]] VirtualMap virtual_map(hid_t dataset, const DatasetDescription& description);

/// True when the dataset can be opened and, if it is virtual, all its sources can, at any depth.
[[nodiscard]] bool is_complete(const std::filesystem::path& file, const std::string& dataset);

/// Paths of the dataset or datasets that `wanted` means, "" = find the frames as open_frames() documents.
struct FrameDatasets {
  std::string input;               ///< The dataset, or the group of numbered datasets.
  std::vector<std::string> paths;  ///< In order; each leads somewhere or is a broken link.
};
/// Throws InputError when there is none, or several that could be meant.
[[nodiscard]] FrameDatasets locate_frames(hid_t file, const std::filesystem::path& name, const std::string& wanted);

/// A run with the shape of its frames; 0 x 0 when it is damaged and the shape is not known.
struct FoundRun {
  FrameRun run;
  std::uint32_t rows = 0;
  std::uint32_t columns = 0;
};

struct FoundFrames {
  std::string input;  ///< The dataset or group as found in the file.
  std::vector<FoundRun> runs;
};

/// All runs of a file. Problems go to `problems`; damaged virtual sources become runs instead when `damaged` says so,
/// but a broken link to a whole dataset is always a problem: nobody knows how many frames are behind it.
[[nodiscard]] FoundFrames find_frames(const std::filesystem::path& file, const std::string& dataset,
                                      DamagedFiles damaged, Problems& problems);

}  // namespace annulus::mapping::hdf5
