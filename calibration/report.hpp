// The evidence of a calibration, for people as one HTML page and for programs as JSON.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "calibration/calibration.hpp"

namespace annulus::calibration {

/// "good", "doubtful", "failed".
[[nodiscard]] std::string_view name_of(Verdict verdict);

/// What a report is about, besides the result.
struct ReportInput {
  std::string title;      ///< the image's name
  std::string calibrant;  ///< its name
  std::string reference;  ///< where its spacings come from
  std::string version;    ///< of the program
  std::vector<std::string> warnings;
};

/// Verdict, reasons and warnings, parameters with standard errors and correlations, rings, number of points and
/// residuals, as a JSON object; no points. Units are in the names of its members.
[[nodiscard]] std::string evidence_json(const CalibrationResult& result, const ReportInput& input);

/// One self-contained page: the verdict with its reasons; the first image (log scale) with the fitted rings and the
/// control points; the cake, azimuth against 2theta, with the rings' lines; residuals by ring and against azimuth; the
/// tables. Pictures are PNG within the page, drawings SVG; nothing is loaded from elsewhere.
/// @param images    as given to calibrate()
/// @param settings  the same
[[nodiscard]] std::string report_html(std::span<const CalibrationImage> images, const CalibrationSettings& settings,
                                      const CalibrationResult& result, const ReportInput& input);

/// A grey or coloured picture as a PNG file's bytes. `rgb` is [rows, columns, 3]. Throws IoError when libpng fails.
[[nodiscard]] std::vector<std::uint8_t> encode_png(std::uint32_t rows, std::uint32_t columns,
                                                   std::span<const std::uint8_t> rgb);

}  // namespace annulus::calibration
