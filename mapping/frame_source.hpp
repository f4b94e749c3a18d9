// Where the frames of a scan lie, and how to get one.
//
// Two steps: open_frames() looks at every file once, on rank 0, and describes what is there in plain data that can be
// broadcast; a FrameReader on each rank then reads single frames by their number. Formats: TIFF (one frame a file) and
// HDF5 (3-D or 2-D datasets, external links, virtual datasets). HDF5 calls of a process all go through one thread at a
// time (the library holds one lock); the bytes of chunks do not: they are read with pread and decoded by any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/problems.hpp"
#include "kernels/encoded_batch.hpp"
#include "kernels/pixel_type.hpp"
#include "mapping/file_pages.hpp"

namespace annulus::mapping {

/// Status of a frame in the volume; the numbers are part of the file's contract.
enum class FrameStatus : std::uint8_t {
  not_processed = 0,
  ok = 1,
  missing = 2,
  unreadable = 3,
  wrong_shape = 4,
  monitor_invalid = 5,
};

/// For messages: "ok", "unreadable or corrupt".
[[nodiscard]] std::string_view name_of(FrameStatus status);

/// How the bytes of a dataset are stored.
enum class Storage : std::uint8_t {
  tiff,
  contiguous,  ///< HDF5, raw bytes at a known offset
  chunk,       ///< HDF5, one frame a chunk, in an encoding that kernels::decode() takes
  hdf5,        ///< HDF5, anything else: through H5Dread
};

/// What tells whether a file has changed.
struct FileState {
  std::uint64_t bytes = 0;
  std::int64_t changed_ns = 0;  ///< time of the last change, in the file clock of std::filesystem
};
/// Absent when the file is.
[[nodiscard]] std::optional<FileState> file_state(const std::filesystem::path& file);

/// A run of consecutive frames from one place. Plain data: serialised and broadcast.
struct FrameRun {
  std::filesystem::path file;  ///< the file that holds the data (links and virtual datasets resolved)
  std::string dataset;         ///< path inside `file`; "" for TIFF
  Storage storage = Storage::tiff;
  std::uint64_t first = 0;  ///< first frame's index in the dataset
  std::uint64_t frames = 0;
  kernels::PixelType type = kernels::PixelType::u16;
  std::optional<FileState> state{};  ///< of `file` at the first look; absent when it is not there
  kernels::Encoding encoding{};      ///< chunk: of its bytes, but for those that were stored without a filter
};

/// All frames of the input, in order.
struct FrameList {
  std::uint32_t rows = 0;
  std::uint32_t columns = 0;
  std::vector<FrameRun> runs;

  /// What the user gave, for the volume's links: a TIFF file, or an HDF5 file and the dataset (or group) as found in
  /// it.
  struct Input {
    std::filesystem::path file;
    std::string dataset;
    std::uint64_t frames = 0;
  };
  std::vector<Input> inputs;

  [[nodiscard]] std::uint64_t frames() const;
  [[nodiscard]] std::size_t pixels() const { return static_cast<std::size_t>(rows) * columns; }
};

/// Sorts by the numbers in the names, so that 2 comes before 10; stable.
[[nodiscard]] std::vector<std::filesystem::path> natural_order(std::vector<std::filesystem::path> files);

/// How to treat input files that turn out to be damaged when they are looked at first.
enum class DamagedFiles : std::uint8_t {
  refuse,         ///< a problem of the input
  become_status,  ///< their frames get a status, and the run goes on; where nobody knows how many frames are lost
                  ///< (a broken link to a dataset, a file among files of many frames) it stays a problem
};

/// Processes that look at files together. Opening 10^4 files takes a parallel file system minutes one by one.
struct SurveyCrew {
  int size = 1;
  /// Has questions[i] answered by process i with answer_survey(), all at once; [size] -> [size].
  std::function<std::vector<std::vector<std::byte>>(std::vector<std::vector<std::byte>> questions)> ask;
};

/// A process's answer to a part of the questions that open_frames() asks. Throws for what is no message of its own;
/// all that is wrong with files is part of the answer. Calls HDF5: one thread at a time.
[[nodiscard]] std::vector<std::byte> answer_survey(std::span<const std::byte> questions);

/// Looks at every file, in the order given, and adds all that is wrong with any to `problems`: file absent, not an
/// image, truncated, no dataset or several that could be meant, dataset path wrong, broken external link or virtual
/// source, files whose shapes differ. The result is complete when no problem was added.
/// @param dataset  path inside HDF5 inputs, "" = find the frames: the NeXus default or signal, /entry/data/data,
///                 /entry/data/data_000001..., /entry_0000/measurement/data, /entry/instrument/*/data, else the only
///                 3-D integer or float dataset
/// @param crew     shares the work; the result and what is told are the same whatever its size
[[nodiscard]] FrameList open_frames(std::span<const std::filesystem::path> files, const std::string& dataset,
                                    DamagedFiles damaged, Problems& problems, const SurveyCrew& crew = {});

/// Shortens a list to its first `frames` frames; its inputs stay.
void keep_first(FrameList& list, std::uint64_t frames);

/// A flat byte form of a FrameList, for a broadcast.
[[nodiscard]] std::vector<std::byte> serialise(const FrameList& list);
[[nodiscard]] FrameList deserialise_frames(std::span<const std::byte> bytes);

/// The bytes of one frame as they lie in the file: read by one thread, decoded by another.
struct EncodedFrame {
  FrameStatus status = FrameStatus::missing;  ///< ok = `bytes` holds the frame
  kernels::PixelType type = kernels::PixelType::u16;
  kernels::Encoding encoding{};  ///< raw for what HDF5 or libtiff has decoded
  std::span<const std::byte> bytes;

  /// As the engines take it.
  [[nodiscard]] kernels::EncodedFrame view() const { return {bytes, encoding}; }
};

/// Reads frames of a FrameList. One reader a process; it keeps the last few files open, never all.
class FrameReader {
 public:
  explicit FrameReader(FrameList list);
  ~FrameReader();
  FrameReader(FrameReader&&) noexcept;
  FrameReader& operator=(FrameReader&&) noexcept;

  [[nodiscard]] const FrameList& list() const;
  [[nodiscard]] kernels::PixelType type_of(std::uint64_t frame) const;

  /// Where the bytes of some frames are to be found.
  class Plan {
   public:
    /// Memory that read() needs.
    [[nodiscard]] std::size_t bytes() const { return bytes_; }

   private:
    friend class FrameReader;
    struct Job;
    std::shared_ptr<std::vector<Job>> jobs_;
    std::size_t bytes_ = 0;
  };

  /// Finds frames [first, first + count). Frames beyond the list are `missing`; a chunk that was never written is
  /// `missing`; anything that cannot be read is `unreadable`, never an exception. Calls HDF5: one thread at a time in
  /// a process.
  [[nodiscard]] Plan plan(std::uint64_t first, std::size_t count);

  /// Reads what was planned into `memory`, by `threads` threads; no HDF5. Each frame begins at a multiple of 64 bytes.
  /// Returns whether any of them slept meanwhile, as they do when bytes come from a device or a network; what lies in
  /// the page cache is copied without a rest.
  bool read(const Plan& plan, std::span<std::byte> memory, std::span<EncodedFrame> out, int threads) const;

  /// Instead of read(): the frames as they lie in the page cache, without a copy, for as long as `pages` holds them.
  /// What was made of them counts if `pages.intact()` afterwards, asked while `plan` lives. False, and nothing is done,
  /// where that cannot be: read() then.
  [[nodiscard]] bool map(const Plan& plan, FilePages& pages, std::span<EncodedFrame> out) const;

  /// plan() and read(), into `memory`, which grows as it must.
  void fetch(std::uint64_t first, std::span<EncodedFrame> out, std::vector<std::byte>& memory, int threads = 1);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// Decodes a fetched frame into `out` (rows * columns * size_of(type) bytes). Returns ok, or unreadable for a corrupt
/// chunk, or wrong_shape for bytes of another size; never throws for bad data. Any thread.
[[nodiscard]] FrameStatus decode(const EncodedFrame& frame, std::span<std::byte> out);

/// What a decoder's verdict makes of a frame.
[[nodiscard]] FrameStatus status_of(kernels::DecodeStatus status);

/// An image's file and, where FILE::DATASET was given, its dataset. A file may have "::" in its name: one that exists
/// as it stands is meant.
struct ImageUrl {
  std::filesystem::path file;
  std::string dataset;
};
[[nodiscard]] ImageUrl split_url(const std::string& url);

/// A single image as float64, [rows, columns]: masks, darks, flats. `url` is a file, or file::dataset (HDF5), of 2-D
/// data or 3-D data of which the frames are averaged; TIFF, HDF5 and numpy .npy. Throws InputError.
struct Image {
  std::uint32_t rows = 0;
  std::uint32_t columns = 0;
  std::vector<double> values;
  std::uint64_t frames = 1;  ///< how many are averaged
  /// That of the pixels in the file, where it holds each value exactly; f64 for averages and for types no frame has.
  kernels::PixelType type = kernels::PixelType::f64;
};
[[nodiscard]] Image read_image(const std::string& url);

/// A 1-D series of numbers in an HDF5 file (monitor, motor positions), with its units attribute ("" = none).
struct Series {
  std::vector<double> values;
  std::string units;
};
/// Throws InputError when the file or the dataset is not there or is no 1-D number series. `file` as in the input list.
[[nodiscard]] Series read_series(const std::filesystem::path& file, const std::string& dataset);

}  // namespace annulus::mapping
