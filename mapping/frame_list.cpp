#include "mapping/frame_source.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <exception>
#include <string_view>
#include <utility>

#include "base/errors.hpp"
#include "mapping/hdf5_frames.hpp"
#include "mapping/input_file.hpp"
#include "mapping/tiff_frames.hpp"

namespace annulus::mapping {

namespace {

namespace fs = std::filesystem;

// Looking at 10^5 files is waiting for a file system, not computing: many more threads than cores shorten it.
constexpr int look_threads = 16;

/// What the first look at a file gave.
struct Look {
  FileFormat format = FileFormat::unknown;
  TiffDescription tiff;
  std::string problem;  ///< "" = none so far; HDF5 files are opened later, one by one.
};

[[nodiscard]] Look look_at(const fs::path& file) noexcept {
  Look look;
  try {
    try {
      InputFile input = open_input(file);
      look.format = format_of(input);
      if (look.format == FileFormat::tiff) look.tiff = describe_tiff(file, std::move(input));
      if (look.format != FileFormat::tiff && look.format != FileFormat::hdf5) {
        look.problem = file.string() + ": is neither a TIFF nor an HDF5 file (by its first bytes)";
      }
    } catch (const std::exception& error) {
      look.problem = error.what();
    }
  } catch (...) {  // No memory even for the message: an empty one would mean a good file.
    look.format = FileFormat::unknown;
  }
  return look;
}

[[nodiscard]] std::vector<Look> look_at_all(std::span<const fs::path> files) {
  std::vector<Look> looks(files.size());
  const auto count = static_cast<std::ptrdiff_t>(files.size());
#pragma omp parallel for schedule(dynamic, 8) num_threads(look_threads) if (count > look_threads)
  for (std::ptrdiff_t index = 0; index < count; ++index) {
    looks[static_cast<std::size_t>(index)] = look_at(files[static_cast<std::size_t>(index)]);
  }
  return looks;
}

/// Puts the runs of all files together and compares their shapes with the first that is known.
class Collector {
 public:
  Collector(DamagedFiles damaged, Problems& problems) : damaged_(damaged), problems_(problems) {}

  void add(hdf5::FoundRun found) {
    if (found.rows != 0) {
      if (list.rows == 0) {
        type_ = found.run.type;
        list.rows = found.rows;
        list.columns = found.columns;
        model_ = name_of(found.run);
      } else if ((found.rows != list.rows || found.columns != list.columns) && damaged_ == DamagedFiles::refuse) {
        problems_.add(fmt::format("{}: frames of {} x {} pixels, expected {} x {} as in {}", name_of(found.run),
                                  found.rows, found.columns, list.rows, list.columns, model_));
      }
    }
    if (found.run.frames > 0) list.runs.push_back(std::move(found.run));
  }

  /// Adds a file that cannot be looked into, but would have been one frame: its place in the scan is kept.
  void add_lost(const fs::path& file) {
    lost_.push_back(list.runs.size());
    list.runs.push_back({file, "", Storage::tiff, 0, 1, kernels::PixelType::u16});
  }

  /// The list; lost frames have the others' type, so that batches need not be cut at them.
  [[nodiscard]] FrameList finish() {
    for (const std::size_t run : lost_) list.runs[run].type = type_;
    return std::move(list);
  }

  FrameList list;

 private:
  [[nodiscard]] static std::string name_of(const FrameRun& run) {
    return run.dataset.empty() ? run.file.string() : fmt::format("{}::{}", run.file.string(), run.dataset);
  }

  DamagedFiles damaged_;
  Problems& problems_;
  std::string model_;
  kernels::PixelType type_ = kernels::PixelType::u16;
  std::vector<std::size_t> lost_;
};

// ---------------------------------------------------------------------------------------------------- byte form

class Writer {
 public:
  template <typename Number>
  void number(Number value) {
    const auto* raw = reinterpret_cast<const std::byte*>(&value);
    bytes.insert(bytes.end(), raw, raw + sizeof value);
  }
  void text(std::string_view value) {
    number<std::uint64_t>(value.size());
    const auto* raw = reinterpret_cast<const std::byte*>(value.data());
    bytes.insert(bytes.end(), raw, raw + value.size());
  }
  std::vector<std::byte> bytes;
};

class Reader {
 public:
  explicit Reader(std::span<const std::byte> bytes) : left_(bytes) {}
  template <typename Number>
  [[nodiscard]] Number number() {
    ANNULUS_EXPECT(left_.size() >= sizeof(Number));
    Number value;
    std::memcpy(&value, left_.data(), sizeof value);
    left_ = left_.subspan(sizeof value);
    return value;
  }
  [[nodiscard]] std::string text() {
    const auto size = number<std::uint64_t>();
    ANNULUS_EXPECT(left_.size() >= size);
    std::string value(reinterpret_cast<const char*>(left_.data()), size);
    left_ = left_.subspan(size);
    return value;
  }
  [[nodiscard]] bool at_end() const { return left_.empty(); }

 private:
  std::span<const std::byte> left_;
};

}  // namespace

std::uint64_t FrameList::frames() const {
  std::uint64_t total = 0;
  for (const FrameRun& run : runs) total += run.frames;
  return total;
}

FrameList open_frames(std::span<const fs::path> files, const std::string& dataset, DamagedFiles damaged,
                      Problems& problems) {
  if (files.empty()) {
    problems.add("no input files were given");
    return {};
  }
  const std::vector<Look> looks = look_at_all(files);
  // Where every file that can be read is one frame, so is a damaged one; else nobody knows how many it held.
  const bool one_frame_each = std::all_of(looks.begin(), looks.end(), [](const Look& look) {
    return !look.problem.empty() || (look.format == FileFormat::tiff && look.tiff.pages.size() == 1);
  });
  Collector collector(damaged, problems);
  for (std::size_t number = 0; number < files.size(); ++number) {
    const fs::path& file = files[number];
    const Look& look = looks[number];
    FrameList::Input input{file, "", 0};
    if (look.format == FileFormat::hdf5 && look.problem.empty()) {
      hdf5::FoundFrames found = hdf5::find_frames(file, dataset, damaged, problems);
      input.dataset = std::move(found.input);
      for (hdf5::FoundRun& run : found.runs) {
        input.frames += run.run.frames;
        collector.add(std::move(run));
      }
    } else if (look.format == FileFormat::tiff && look.problem.empty()) {
      hdf5::FoundRun found;
      found.run = {file, "", Storage::tiff, 0, look.tiff.pages.size(), look.tiff.type};
      found.rows = look.tiff.rows;
      found.columns = look.tiff.columns;
      input.frames = look.tiff.pages.size();
      collector.add(std::move(found));
    } else if (damaged == DamagedFiles::refuse || !one_frame_each) {
      problems.add(look.problem.empty() ? file.string() + ": cannot be looked at" : look.problem);
    } else {
      input.frames = 1;
      collector.add_lost(file);
    }
    collector.list.inputs.push_back(std::move(input));
  }
  FrameList list = collector.finish();
  if (list.rows == 0 && !problems.any()) {
    problems.add(fmt::format("{}{}: no frames in the input", files.front().string(),
                             files.size() > 1 ? fmt::format(" and {} more files", files.size() - 1) : ""));
  }
  return list;
}

std::vector<std::byte> serialise(const FrameList& list) {
  Writer writer;
  writer.number(list.rows);
  writer.number(list.columns);
  writer.number<std::uint64_t>(list.runs.size());
  for (const FrameRun& run : list.runs) {
    writer.text(run.file.native());
    writer.text(run.dataset);
    writer.number(run.storage);
    writer.number(run.first);
    writer.number(run.frames);
    writer.number(run.type);
  }
  writer.number<std::uint64_t>(list.inputs.size());
  for (const FrameList::Input& input : list.inputs) {
    writer.text(input.file.native());
    writer.text(input.dataset);
    writer.number(input.frames);
  }
  return std::move(writer.bytes);
}

FrameList deserialise_frames(std::span<const std::byte> bytes) {
  Reader reader(bytes);
  FrameList list;
  list.rows = reader.number<std::uint32_t>();
  list.columns = reader.number<std::uint32_t>();
  const auto runs = reader.number<std::uint64_t>();
  for (std::uint64_t index = 0; index < runs; ++index) {
    FrameRun run;
    run.file = reader.text();
    run.dataset = reader.text();
    run.storage = reader.number<Storage>();
    run.first = reader.number<std::uint64_t>();
    run.frames = reader.number<std::uint64_t>();
    run.type = reader.number<kernels::PixelType>();
    list.runs.push_back(std::move(run));
  }
  const auto inputs = reader.number<std::uint64_t>();
  for (std::uint64_t index = 0; index < inputs; ++index) {
    FrameList::Input input;
    input.file = reader.text();
    input.dataset = reader.text();
    input.frames = reader.number<std::uint64_t>();
    list.inputs.push_back(std::move(input));
  }
  ANNULUS_EXPECT(reader.at_end());
  return list;
}

}  // namespace annulus::mapping
