#include "mapping/frame_source.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/errors.hpp"
#include "mapping/byte_form.hpp"
#include "mapping/hdf5_frames.hpp"
#include "mapping/input_file.hpp"
#include "mapping/input_survey.hpp"

namespace annulus::mapping {

namespace {

namespace fs = std::filesystem;

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

}  // namespace

std::uint64_t FrameList::frames() const {
  std::uint64_t total = 0;
  for (const FrameRun& run : runs) total += run.frames;
  return total;
}

FrameList open_frames(std::span<const fs::path> files, const std::string& dataset, DamagedFiles damaged,
                      Problems& problems, const SurveyCrew& crew) {
  if (files.empty()) {
    problems.add("no input files were given");
    return {};
  }
  Survey survey(damaged, crew);
  std::vector<FileFindings> looks = survey.look_at(files, dataset);
  // Where every file that can be read is one frame, so is a damaged one; else nobody knows how many it held.
  const bool one_frame_each = std::all_of(looks.begin(), looks.end(), [](const FileFindings& look) {
    return !look.problem.empty() || (look.format == FileFormat::tiff && look.frames.runs.front().run.frames == 1);
  });
  Collector collector(damaged, problems);
  for (std::size_t number = 0; number < files.size(); ++number) {
    const fs::path& file = files[number];
    FileFindings& look = looks[number];
    FrameList::Input input{file, "", 0};
    if (look.problem.empty()) {
      for (std::string& problem : look.problems) problems.add(std::move(problem));
      input.dataset = std::move(look.frames.input);
      for (hdf5::FoundRun& run : look.frames.runs) {
        input.frames += run.run.frames;
        collector.add(std::move(run));
      }
    } else if (damaged == DamagedFiles::refuse || !one_frame_each) {
      problems.add(look.problem);
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

void keep_first(FrameList& list, std::uint64_t frames) {
  std::uint64_t left = frames;
  for (FrameRun& run : list.runs) {
    run.frames = std::min(run.frames, left);
    left -= run.frames;
  }
  std::erase_if(list.runs, [](const FrameRun& run) { return run.frames == 0; });
}

std::vector<std::byte> serialise(const FrameList& list) {
  ByteWriter writer;
  writer.number(list.rows);
  writer.number(list.columns);
  writer.number<std::uint64_t>(list.runs.size());
  for (const FrameRun& run : list.runs) write(writer, run);
  writer.number<std::uint64_t>(list.inputs.size());
  for (const FrameList::Input& input : list.inputs) {
    writer.text(input.file.native());
    writer.text(input.dataset);
    writer.number(input.frames);
  }
  return std::move(writer).bytes();
}

FrameList deserialise_frames(std::span<const std::byte> bytes) {
  ByteReader reader(bytes);
  FrameList list;
  list.rows = reader.number<std::uint32_t>();
  list.columns = reader.number<std::uint32_t>();
  const auto runs = reader.number<std::uint64_t>();
  list.runs.reserve(runs);
  for (std::uint64_t index = 0; index < runs; ++index) list.runs.push_back(read_run(reader));
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
