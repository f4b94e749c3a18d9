// Frames in HDF5 files: which dataset holds them, how it stores them, and where their bytes really are.
//
// All calls: one thread at a time in a process.
#pragma once

#include <hdf5.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/problems.hpp"
#include "kernels/pixel_type.hpp"
#include "mapping/frame_source.hpp"
#include "mapping/hdf5.hpp"
#include "mapping/hdf5_pipeline.hpp"

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
  std::vector<ChunkFilter> filters;  ///< Of its chunks.
  kernels::Encoding encoding;        ///< Storage::chunk: what they amount to.
};

/// Throws InputError naming `where`: another number of dimensions, a type that is no pixel type, a filter that neither
/// we nor HDF5 have. Registers filter 32008 when it is needed.
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

/// A source of a virtual dataset.
struct SourceName {
  std::filesystem::path file;
  std::string dataset;
  auto operator<=>(const SourceName&) const = default;
};

/// What a look at a source gave.
struct SourceRuns {
  std::string why;  ///< Why it cannot be opened; "" when it can.
  std::vector<FoundRun> runs;
  std::uint64_t frames = 0;
  std::vector<std::string> problems;  ///< Of its own sources.
};

/// Looks at many sources, perhaps on many ranks: an answer for each.
using AskSources = std::function<std::vector<SourceRuns>(std::span<const SourceName>)>;

/// Turns datasets into runs, following virtual datasets to their sources; each source is opened once.
class RunFinder {
 public:
  /// @param ask  looks at the sources of the datasets themselves; empty = this finder does
  RunFinder(DamagedFiles damaged, Problems& problems, AskSources ask = {})
      : damaged_(damaged), problems_(problems), ask_(std::move(ask)) {}

  /// Throws InputError when the dataset holds no frames.
  [[nodiscard]] std::vector<FoundRun> runs_of(hid_t dataset, const std::string& where, int depth = 0);

  /// Looks at one source; its problems are added, too.
  [[nodiscard]] SourceRuns look_at(const SourceName& name, int depth = 0);

 private:
  void foresee(const VirtualMap& map);
  const SourceRuns& source(const VirtualPiece& piece, int depth);
  /// Appends the runs behind a virtual dataset; false when frames must be read through HDF5. Tells broken sources.
  [[nodiscard]] bool follow(const VirtualMap& map, const FoundRun& whole, const std::string& where, int depth,
                            std::vector<FoundRun>& runs);
  void append_slice(const VirtualPiece& piece, const SourceRuns& from, const FoundRun& whole, const std::string& where,
                    std::vector<FoundRun>& runs);

  DamagedFiles damaged_;
  Problems& problems_;
  AskSources ask_;
  std::map<SourceName, SourceRuns> sources_;
  std::map<SourceName, SourceRuns> foreseen_;
};

/// Appends a run, joined to the last one when it goes on where that ends.
void append(std::vector<FoundRun>& runs, FoundRun found);

/// What to do about a virtual dataset of several mappings.
enum class VirtualSources : std::uint8_t {
  follow,
  postpone,  ///< Its runs are left out: others shall share the work on its sources.
};

struct DatasetRuns {
  std::vector<FoundRun> runs;
  bool postponed = false;
};

/// The runs of one dataset of an opened file. Problems go to `problems`; damaged virtual sources become runs instead
/// when `damaged` says so, but a broken link to a whole dataset is always a problem: nobody knows how many frames are
/// behind it.
[[nodiscard]] DatasetRuns find_runs(const std::filesystem::path& file, hid_t opened, const std::string& path,
                                    DamagedFiles damaged, VirtualSources sources, Problems& problems,
                                    const AskSources& ask = {});

struct FoundFrames {
  std::string input;               ///< The dataset or group as found in the file.
  std::vector<std::string> paths;  ///< Datasets that are still to be looked at, for find_runs(): of several, all.
  std::vector<FoundRun> runs;      ///< Else those of the only one.
};

/// Finds the frames of a file, and looks at them where they are one dataset. Problems as in find_runs().
[[nodiscard]] FoundFrames find_frames(const std::filesystem::path& file, const std::string& dataset,
                                      DamagedFiles damaged, VirtualSources sources, Problems& problems);

}  // namespace annulus::mapping::hdf5
