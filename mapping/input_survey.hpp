// The first look at all input files, shared among the ranks.
//
// Three rounds of questions, each split into as many parts as there are ranks: what is every file; what is in each
// dataset where a file has many; what is in each source where a dataset is a virtual one of many. Between the rounds
// rank 0 puts the answers together, so that they stand in one order, and so do the problems.
#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "mapping/frame_source.hpp"
#include "mapping/hdf5_frames.hpp"
#include "mapping/input_file.hpp"

namespace annulus::mapping {

/// What a look at a file gave.
struct FileFindings {
  FileFormat format = FileFormat::unknown;
  std::string problem;                ///< Why it cannot be looked at as a file of any format; "" when it can.
  hdf5::FoundFrames frames;           ///< TIFF: one run.
  std::vector<std::string> problems;  ///< With its frames, in order.
};

class Survey {
 public:
  /// `crew` must outlive the survey.
  Survey(DamagedFiles damaged, const SurveyCrew& crew) : damaged_(damaged), crew_(crew) {}

  /// All findings, complete, in the order of the files. @param dataset  as for open_frames()
  [[nodiscard]] std::vector<FileFindings> look_at(std::span<const std::filesystem::path> files,
                                                  const std::string& dataset);

 private:
  void finish(const std::filesystem::path& file, FileFindings& findings);

  DamagedFiles damaged_;
  const SurveyCrew& crew_;
};

}  // namespace annulus::mapping
