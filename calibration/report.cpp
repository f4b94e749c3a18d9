#include "calibration/report.hpp"

#include <png.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <limits>
#include <nlohmann/json.hpp>
#include <numbers>
#include <optional>
#include <utility>

#include <fmt/format.h>

#include "base/errors.hpp"
#include "calibration/refinement.hpp"
#include "integrator/geometry.hpp"
#include "integrator/integration.hpp"
#include "integrator/units.hpp"

namespace annulus::calibration {
namespace {

using integrator::degrees_of;
using Json = nlohmann::ordered_json;

std::string_view unit_of(Parameter parameter) {
  const bool angle = parameter == Parameter::rot1 || parameter == Parameter::rot2 || parameter == Parameter::rot3;
  return angle ? "rad" : "m";
}

/// A number that JSON can hold; null for none.
Json number_or_null(double value) { return std::isfinite(value) ? Json(value) : Json(nullptr); }

// ---------------------------------------------------------------------------------------------------- pictures

std::string base64(std::span<const std::uint8_t> bytes) {
  constexpr std::string_view digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  text.reserve(bytes.size() / 3 * 4 + 4);
  for (std::size_t place = 0; place < bytes.size(); place += 3) {
    const std::size_t count = std::min<std::size_t>(3, bytes.size() - place);
    std::uint32_t word = 0;
    for (std::size_t index = 0; index < 3; ++index) word = word << 8U | (index < count ? bytes[place + index] : 0U);
    for (std::size_t digit = 0; digit < 4; ++digit) {
      text.push_back(digit <= count ? digits[word >> (18U - 6U * digit) & 63U] : '=');
    }
  }
  return text;
}

/// Values on a grid, not a number where there is none.
struct Picture {
  std::uint32_t rows = 0;
  std::uint32_t columns = 0;
  std::vector<float> values;
};

/// The image made smaller by whole factors, each value the mean of the good pixels it stands for.
Picture reduced(const CalibrationImage& image, std::uint32_t rows, std::uint32_t columns, std::uint32_t most) {
  const std::uint32_t factor = std::max<std::uint32_t>(1, (std::max(rows, columns) + most - 1) / most);
  Picture picture{(rows + factor - 1) / factor, (columns + factor - 1) / factor, {}};
  picture.values.resize(std::size_t{picture.rows} * picture.columns);
  for (std::uint32_t row = 0; row < picture.rows; ++row) {
    for (std::uint32_t column = 0; column < picture.columns; ++column) {
      double sum = 0.0;
      std::uint32_t count = 0;
      for (std::uint32_t down = row * factor; down < std::min(rows, (row + 1) * factor); ++down) {
        for (std::uint32_t right = column * factor; right < std::min(columns, (column + 1) * factor); ++right) {
          const std::size_t pixel = std::size_t{down} * columns + right;
          const float counts = image.counts[pixel];
          if ((!image.mask.empty() && image.mask[pixel] != 0) || !std::isfinite(counts)) continue;
          sum += static_cast<double>(counts);
          ++count;
        }
      }
      picture.values[std::size_t{row} * picture.columns + column] =
          count > 0 ? static_cast<float>(sum / count) : std::numeric_limits<float>::quiet_NaN();
    }
  }
  return picture;
}

/// A PNG of the logarithm of what stands above the lowest values: dark is much. Places without a value are tinted.
std::string png_data(const Picture& picture) {
  std::vector<float> sorted;
  for (const float value : picture.values) {
    if (std::isfinite(value)) sorted.push_back(value);
  }
  std::sort(sorted.begin(), sorted.end());
  const auto quantile = [&](double share) {
    if (sorted.empty()) return 0.0;
    return static_cast<double>(sorted[static_cast<std::size_t>(share * static_cast<double>(sorted.size() - 1))]);
  };
  // One in a thousand on each side may be anything: hot pixels, the beam's edge.
  const double lowest = quantile(0.001);
  const double highest = std::max(quantile(0.999), lowest + 1e-30);
  // Where the logarithm bends into a line: at the noise of the background rather than at 1.
  const double knee = std::max(0.02 * (highest - lowest), 1e-30);
  const double range = std::log1p((highest - lowest) / knee);
  std::vector<std::uint8_t> rgb(picture.values.size() * 3);
  for (std::size_t place = 0; place < picture.values.size(); ++place) {
    const auto value = static_cast<double>(picture.values[place]);
    if (!std::isfinite(value)) {
      constexpr std::array<std::uint8_t, 3> none{226, 232, 240};
      std::copy(none.begin(), none.end(), rgb.begin() + static_cast<std::ptrdiff_t>(3 * place));
      continue;
    }
    const double share = std::clamp(std::log1p(std::max(value - lowest, 0.0) / knee) / range, 0.0, 1.0);
    const auto grey = static_cast<std::uint8_t>(std::lround(255.0 - 235.0 * share));
    std::fill_n(rgb.begin() + static_cast<std::ptrdiff_t>(3 * place), 3, grey);
  }
  return "data:image/png;base64," + base64(encode_png(picture.rows, picture.columns, rgb));
}

// ---------------------------------------------------------------------------------------------------- drawings

/// Text as HTML takes it.
std::string escaped(std::string_view text) {
  std::string result;
  for (const char letter : text) {
    switch (letter) {
      case '&': result += "&amp;"; break;
      case '<': result += "&lt;"; break;
      case '>': result += "&gt;"; break;
      case '"': result += "&quot;"; break;
      default: result.push_back(letter);
    }
  }
  return result;
}

/// 2theta on the corners of square cells over the detector.
struct AngleGrid {
  std::uint32_t step = 1;
  std::uint32_t rows = 0;  ///< of corners
  std::uint32_t columns = 0;
  std::vector<double> two_theta_rad;

  AngleGrid(const kernels::PixelGeometry& pixels, std::uint32_t cells) {
    step = std::max<std::uint32_t>(1, std::max(pixels.rows, pixels.columns) / cells);
    rows = pixels.rows / step + 1;
    columns = pixels.columns / step + 1;
    two_theta_rad.reserve(std::size_t{rows} * columns);
    for (std::uint32_t row = 0; row < rows; ++row) {
      for (std::uint32_t column = 0; column < columns; ++column) {
        two_theta_rad.push_back(integrator::two_theta_rad(pixels, row * step, column * step));
      }
    }
  }

  /// The line of one angle as an SVG path in pixel coordinates, by marching squares: it needs no formula of the ring,
  /// so it is right for bent detectors and with parallax.
  [[nodiscard]] std::string path(double angle_rad) const {
    std::string text;
    for (std::uint32_t row = 0; row + 1 < rows; ++row) {
      for (std::uint32_t column = 0; column + 1 < columns; ++column) {
        const auto value = [&](std::uint32_t down, std::uint32_t right) {
          return two_theta_rad[std::size_t{row + down} * columns + column + right] - angle_rad;
        };
        const std::array<double, 4> corner{value(0, 0), value(0, 1), value(1, 1), value(1, 0)};
        constexpr std::array<std::array<double, 2>, 4> place{{{0, 0}, {1, 0}, {1, 1}, {0, 1}}};
        std::array<std::array<double, 2>, 4> crossing{};
        std::size_t crossings = 0;
        for (std::size_t edge = 0; edge < 4; ++edge) {
          const std::size_t next = (edge + 1) % 4;
          if ((corner[edge] < 0.0) == (corner[next] < 0.0)) continue;
          const double share = corner[edge] / (corner[edge] - corner[next]);
          crossing[crossings++] = {column + place[edge][0] + share * (place[next][0] - place[edge][0]),
                                   row + place[edge][1] + share * (place[next][1] - place[edge][1])};
        }
        for (std::size_t pair = 0; pair + 1 < crossings; pair += 2) {
          text += fmt::format("M{:.1f} {:.1f}L{:.1f} {:.1f}", crossing[pair][0] * step, crossing[pair][1] * step,
                              crossing[pair + 1][0] * step, crossing[pair + 1][1] * step);
        }
      }
    }
    return text;
  }
};

/// Two colours in turn tell neighbouring rings apart.
std::string_view colour_of(std::uint32_t ring) { return ring % 2 == 0 ? "#1f8fff" : "#f97316"; }

/// Round numbers between `low` and `high`, some five of them.
std::vector<double> ticks_between(double low, double high) {
  const double span = high - low;
  const double magnitude = std::pow(10.0, std::floor(std::log10(span / 5.0)));
  double step = magnitude;
  for (const double factor : {1.0, 2.0, 5.0, 10.0}) {
    step = factor * magnitude;
    if (span / step <= 6.0) break;
  }
  std::vector<double> ticks;
  for (double tick = std::ceil(low / step) * step; tick <= high + 1e-9 * span; tick += step) {
    ticks.push_back(std::abs(tick) < 1e-9 * span ? 0.0 : tick);
  }
  return ticks;
}

/// A frame with axes; what is drawn within is given in the axes' units.
class Chart {
 public:
  Chart(std::pair<double, double> x_range, std::pair<double, double> y_range, std::string x_label, std::string y_label,
        double height = 300.0)
      : x_range_(x_range), y_range_(y_range), height_(height) {
    text_ = fmt::format("<svg viewBox=\"0 0 {} {}\" role=\"img\">", width_, height_);
    body_ = fmt::format("<rect class=\"frame\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"/>", left_, top_,
                        width_ - left_ - right_, height_ - top_ - bottom_);
    for (const double tick : ticks_between(x_range_.first, x_range_.second)) {
      body_ += fmt::format(
          "<line class=\"grid\" x1=\"{0:.1f}\" x2=\"{0:.1f}\" y1=\"{1}\" y2=\"{2}\"/>"
          "<text class=\"tick\" x=\"{0:.1f}\" y=\"{3}\" text-anchor=\"middle\">{4:g}</text>",
          x(tick), top_, height_ - bottom_, height_ - bottom_ + 16, tick);
    }
    for (const double tick : ticks_between(y_range_.first, y_range_.second)) {
      body_ += fmt::format(
          "<line class=\"grid\" y1=\"{0:.1f}\" y2=\"{0:.1f}\" x1=\"{1}\" x2=\"{2}\"/>"
          "<text class=\"tick\" x=\"{3}\" y=\"{4:.1f}\" text-anchor=\"end\">{5:g}</text>",
          y(tick), left_, width_ - right_, left_ - 6, y(tick) + 4, tick);
    }
    labels_ = fmt::format(
        "<text class=\"axis\" x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>"
        "<text class=\"axis\" transform=\"translate(14 {}) rotate(-90)\" "
        "text-anchor=\"middle\">{}</text>",
        0.5 * (left_ + width_ - right_), height_ - 8, x_label, 0.5 * (top_ + height_ - bottom_), y_label);
  }

  [[nodiscard]] double x(double value) const {
    return left_ + (value - x_range_.first) / (x_range_.second - x_range_.first) * (width_ - left_ - right_);
  }
  [[nodiscard]] double y(double value) const {
    const double bottom = height_ - bottom_;
    return bottom - (value - y_range_.first) / (y_range_.second - y_range_.first) * (bottom - top_);
  }

  void add(const std::string& element) { body_ += element; }

  /// A point that is clamped to the frame, so that an outlier shows at its edge.
  void dot(double at_x, double at_y, double radius, std::string_view colour, double opacity = 1.0) {
    body_ += fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"{}\" fill=\"{}\" fill-opacity=\"{}\"/>", x(at_x),
                         y(std::clamp(at_y, y_range_.first, y_range_.second)), radius, colour, opacity);
  }

  /// A picture that fills the frame.
  void picture(const std::string& data) {
    text_ += fmt::format(
        "<image x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" preserveAspectRatio=\"none\" "
        "href=\"{}\"/>",
        left_, top_, width_ - left_ - right_, height_ - top_ - bottom_, data);
  }

  [[nodiscard]] std::string svg() const { return text_ + body_ + labels_ + "</svg>"; }

 private:
  static constexpr double width_ = 900.0;
  static constexpr double left_ = 64.0;
  static constexpr double right_ = 12.0;
  static constexpr double top_ = 10.0;
  static constexpr double bottom_ = 44.0;
  std::pair<double, double> x_range_;
  std::pair<double, double> y_range_;
  double height_;
  std::string text_;
  std::string body_;
  std::string labels_;
};

/// The image with the rings that have points, and the points.
std::string image_section(const CalibrationImage& image, const integrator::Geometry& geometry,
                          const kernels::PixelGeometry& pixels, const CalibrationResult& result,
                          const Calibrant& calibrant) {
  constexpr std::uint32_t largest_picture = 1000;
  const integrator::Detector& detector = geometry.detector;
  std::string text = fmt::format(
      "<svg class=\"picture\" viewBox=\"0 0 {0} {1}\" role=\"img\"><image width=\"{0}\" height=\"{1}\" "
      "preserveAspectRatio=\"none\" href=\"{2}\"/>",
      detector.columns, detector.rows, png_data(reduced(image, detector.rows, detector.columns, largest_picture)));
  if (!result.points.empty()) {
    const AngleGrid grid(pixels, 160);
    const double line = std::max(detector.rows, detector.columns) / 900.0;
    const std::vector<double> angles =
        calibrant.two_theta_rad(geometry.wavelength_m.value_or(std::numeric_limits<double>::infinity()));
    for (const RingEvidence& ring : result.rings) {
      if (ring.image != 0 || ring.ring >= angles.size()) continue;
      text +=
          fmt::format("<path d=\"{}\" fill=\"none\" stroke=\"{}\" stroke-opacity=\"0.65\" stroke-width=\"{:.2f}\"/>",
                      grid.path(angles[ring.ring]), colour_of(ring.ring), line);
    }
    // More points than this hide the rings and fill the page.
    constexpr std::size_t most_points = 3000;
    const std::size_t stride = std::max<std::size_t>(1, result.points.size() / most_points);
    for (std::size_t index = 0; index < result.points.size(); index += stride) {
      const ControlPoint& point = result.points[index];
      if (point.image != 0) continue;
      text += fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"{:.2f}\" fill=\"{}\"/>", point.column, point.row,
                          1.8 * line, point.weight > 0.5 ? "#15803d" : "#dc2626");
    }
    text += fmt::format(
        "<path d=\"M{0:.1f} {1:.1f}h{2:.1f}m{3:.1f} {3:.1f}v{2:.1f}\" stroke=\"#dc2626\" "
        "stroke-width=\"{4:.2f}\"/>",
        result.beam_column - 8.0 * line, result.beam_row, 16.0 * line, -8.0 * line, 1.5 * line);
  }
  return text +
         "</svg><p class=\"note\">Logarithmic, dark is much. Lines: the calibrant's rings by the fitted geometry, "
         "in two colours in turn. Points: where a ring was found (green), or was and hardly counted (red). "
         "Cross: the direct beam.</p>";
}

/// Azimuth against 2theta, by the engine that integrates scans.
std::string cake_section(const CalibrationImage& image, const integrator::Geometry& geometry,
                         const CalibrationResult& result, const Calibrant& calibrant) {
  integrator::IntegrationPlan plan;
  plan.geometry = geometry;
  plan.settings.bins = 900;
  plan.settings.azimuthal_bins = 180;
  plan.settings.unit = "2th_deg";
  const integrator::Detector& detector = geometry.detector;
  plan.mask.assign(std::size_t{detector.rows} * detector.columns, 0);
  std::copy(image.mask.begin(), image.mask.end(), plan.mask.begin());
  integrator::Integrator engine(plan, kernels::make_engine(kernels::Backend::openmp, {}));
  Picture cake{plan.settings.azimuthal_bins, plan.settings.bins, std::vector<float>(engine.rows())};
  const std::array monitor{1.0};
  engine.integrate(
      {reinterpret_cast<const std::byte*>(image.counts.data()), kernels::PixelType::f32, 1, image.counts.size()},
      monitor, {cake.values, {}, {}});
  // Bins without a pixel are 0, which no mean of counts above a background is.
  for (float& value : cake.values) {
    if (value == 0.0F) value = std::numeric_limits<float>::quiet_NaN();
  }
  // The first azimuth at the bottom, as a chart has it.
  for (std::uint32_t row = 0; row < cake.rows / 2; ++row) {
    const auto begin = cake.values.begin() + static_cast<std::ptrdiff_t>(std::size_t{row} * cake.columns);
    const auto other =
        cake.values.begin() + static_cast<std::ptrdiff_t>(std::size_t{cake.rows - 1 - row} * cake.columns);
    std::swap_ranges(begin, begin + cake.columns, other);
  }

  const std::vector<double> radial = engine.radial();
  const std::vector<double> azimuthal = engine.azimuthal();
  const auto edges = [](const std::vector<double>& centres) {
    const double half = 0.5 * (centres.back() - centres.front()) / static_cast<double>(centres.size() - 1);
    return std::pair{centres.front() - half, centres.back() + half};
  };
  Chart chart(edges(radial), edges(azimuthal), "2theta (degrees)", "azimuth (degrees)", 420.0);
  chart.picture(png_data(cake));
  const std::vector<double> angles =
      calibrant.two_theta_rad(geometry.wavelength_m.value_or(std::numeric_limits<double>::infinity()));
  const auto [lowest, highest] = edges(radial);
  for (std::size_t ring = 0; ring < angles.size(); ++ring) {
    const double angle = degrees_of(angles[ring]);
    if (angle < lowest || angle > highest) continue;
    const bool used = std::any_of(result.rings.begin(), result.rings.end(), [&](const RingEvidence& evidence) {
      return evidence.image == 0 && evidence.ring == ring;
    });
    chart.add(fmt::format(
        "<line x1=\"{0:.1f}\" x2=\"{0:.1f}\" y1=\"10\" y2=\"376\" stroke=\"{1}\" "
        "stroke-width=\"0.7\" stroke-dasharray=\"{2}\"/>",
        chart.x(angle), used ? colour_of(static_cast<std::uint32_t>(ring)) : "#64748b", used ? "none" : "2 4"));
  }
  return chart.svg() +
         "<p class=\"note\">With a right geometry the rings are straight and stand on their lines. Dashed: "
         "rings of the calibrant that were not used.</p>";
}

/// The spread that a chart of residuals should show, in mrad.
double residual_range(const CalibrationResult& result) {
  std::vector<double> sizes;
  for (const ControlPoint& point : result.points) sizes.push_back(1e3 * std::abs(point.residual_rad));
  std::sort(sizes.begin(), sizes.end());
  // The outermost hundredth is drawn at the edge.
  const double most =
      sizes.empty() ? 0.0 : sizes[static_cast<std::size_t>(0.99 * static_cast<double>(sizes.size() - 1))];
  return std::max(1.1 * most, 1e-6);
}

std::string azimuth_section(const kernels::PixelGeometry& pixels, const CalibrationResult& result) {
  const double range = residual_range(result);
  Chart chart({-180.0, 180.0}, {-range, range}, "azimuth (degrees)", "residual (mrad)");
  constexpr std::size_t most_points = 4000;
  const std::size_t stride = std::max<std::size_t>(1, result.points.size() / most_points);
  constexpr std::size_t sectors = 36;
  std::array<double, sectors> weight{};
  std::array<double, sectors> sum{};
  std::size_t index = 0;
  for (const ControlPoint& point : result.points) {
    if (point.image != 0) continue;
    const double azimuth = degrees_of(integrator::chi_rad(pixels, point.row, point.column));
    const auto sector = std::min(static_cast<std::size_t>((azimuth + 180.0) / 360.0 * sectors), sectors - 1);
    weight[sector] += point.weight;
    sum[sector] += point.weight * point.residual_rad;
    if (index++ % stride == 0) chart.dot(azimuth, 1e3 * point.residual_rad, 1.4, colour_of(point.ring), 0.45);
  }
  for (std::size_t sector = 0; sector < sectors; ++sector) {
    if (weight[sector] <= 0.0) continue;
    const double middle = (static_cast<double>(sector) + 0.5) * 360.0 / sectors - 180.0;
    chart.dot(middle, 1e3 * sum[sector] / weight[sector], 4.0, "#0f172a");
  }
  return chart.svg() +
         "<p class=\"note\">Small: points, coloured by ring. Large: means over 10 degrees; a wave with one "
         "period is a wrong beam centre, one with two a wrong tilt.</p>";
}

std::string ring_section(const CalibrationResult& result) {
  double range = 1e-6;
  double lowest = std::numeric_limits<double>::infinity();
  double highest = 0.0;
  for (const RingEvidence& ring : result.rings) {
    range = std::max(range, 1e3 * (std::abs(ring.mean_residual_rad) + ring.rms_residual_rad));
    lowest = std::min(lowest, degrees_of(ring.two_theta_rad));
    highest = std::max(highest, degrees_of(ring.two_theta_rad));
  }
  const double margin = 0.05 * std::max(highest - lowest, 0.1);
  Chart chart({lowest - margin, highest + margin}, {-1.1 * range, 1.1 * range}, "2theta (degrees)", "residual (mrad)");
  for (const RingEvidence& ring : result.rings) {
    const double angle = degrees_of(ring.two_theta_rad);
    const double mean = 1e3 * ring.mean_residual_rad;
    const double spread = 1e3 * ring.rms_residual_rad;
    chart.add(
        fmt::format("<line x1=\"{0:.1f}\" x2=\"{0:.1f}\" y1=\"{1:.1f}\" y2=\"{2:.1f}\" stroke=\"{3}\" "
                    "stroke-width=\"2\"/>",
                    chart.x(angle), chart.y(mean - spread), chart.y(mean + spread), colour_of(ring.ring)));
    chart.dot(angle, mean, 3.5, colour_of(ring.ring));
    if (ring.held_out && std::isfinite(ring.predicted_residual_rad)) {
      const double predicted = std::clamp(1e3 * ring.predicted_residual_rad, -1.1 * range, 1.1 * range);
      chart.add(fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"5.5\" fill=\"none\" stroke=\"#0f172a\"/>",
                            chart.x(angle), chart.y(predicted)));
    }
  }
  return chart.svg() +
         "<p class=\"note\">Mean and rms of each ring's points. Circles: the mean against a fit that had "
         "not seen the ring.</p>";
}

// ---------------------------------------------------------------------------------------------------- tables

std::string parameter_table(const CalibrationResult& result) {
  std::string text = "<table><thead><tr><th>parameter</th><th>value</th><th>standard error</th><th>unit</th>";
  for (std::size_t index = 0; index < parameter_count; ++index) {
    if (result.fitted[index]) text += fmt::format("<th>corr. {}</th>", name_of(static_cast<Parameter>(index)));
  }
  text += "</tr></thead><tbody>";
  for (std::size_t row = 0; row < parameter_count; ++row) {
    const auto parameter = static_cast<Parameter>(row);
    const double number = value_of(result.geometry, parameter);
    const std::string value =
        parameter == Parameter::wavelength ? fmt::format("{:.8e}", number) : fmt::format("{:.9f}", number);
    const std::string error = !result.fitted[row]       ? "fixed"
                              : !result.determined[row] ? "not determined"
                                                        : fmt::format("{:.2e}", result.standard_error[row]);
    text += fmt::format("<tr><th>{}</th><td>{}</td><td>{}</td><td class=\"left\">{}</td>", name_of(parameter), value,
                        error, unit_of(parameter));
    for (std::size_t column = 0; column < parameter_count; ++column) {
      if (!result.fitted[column]) continue;
      text += result.fitted[row] ? fmt::format("<td>{:.3f}</td>", result.correlation[row][column]) : "<td></td>";
    }
    text += "</tr>";
  }
  return text + "</tbody></table>";
}

std::string ring_table(const CalibrationResult& result, const Calibrant& calibrant) {
  std::string text =
      "<table><thead><tr><th>image</th><th>ring</th><th>reflection</th><th>2theta (deg)</th><th>points</th>"
      "<th>mean (mrad)</th><th>rms (mrad)</th><th>strain (ppm)</th><th>coverage</th><th>predicted (mrad)</th></tr>"
      "</thead><tbody>";
  for (const RingEvidence& ring : result.rings) {
    text += fmt::format(
        "<tr><td>{}</td><td>{}</td><td>{}</td><td>{:.4f}</td><td>{}</td><td>{:.4f}</td><td>{:.4f}</td><td>{:.1f}</td>"
        "<td>{:.0f} %</td><td>{}</td></tr>",
        ring.image, ring.ring,
        ring.ring < calibrant.reflections.size() ? escaped(calibrant.reflections[ring.ring]) : "",
        degrees_of(ring.two_theta_rad), ring.points, 1e3 * ring.mean_residual_rad, 1e3 * ring.rms_residual_rad,
        ring.strain_ppm, 100.0 * ring.azimuth_coverage,
        ring.held_out && std::isfinite(ring.predicted_residual_rad)
            ? fmt::format("{:.4f}", 1e3 * ring.predicted_residual_rad)
            : "");
  }
  return text + "</tbody></table>";
}

std::string list_of(std::string_view title, const std::vector<std::string>& lines) {
  if (lines.empty()) return "";
  std::string text = fmt::format("<h3>{}</h3><ul>", title);
  for (const std::string& line : lines) text += fmt::format("<li>{}</li>", escaped(line));
  return text + "</ul>";
}

constexpr std::string_view style = R"(
:root { color-scheme: light; }
body { font: 15px/1.45 system-ui, sans-serif; color: #0f172a; background: #fff; max-width: 980px; margin: 24px auto;
  padding: 0 16px; }
h1 { font-size: 22px; margin: 0 0 4px; overflow-wrap: anywhere; } h2 { font-size: 17px; margin: 28px 0 8px; }
h3 { font-size: 15px; margin: 12px 0 4px; }
.verdict { display: inline-block; padding: 3px 12px; border-radius: 4px; color: #fff; font-weight: 600; }
.good { background: #15803d; } .doubtful { background: #b45309; } .failed { background: #b91c1c; }
svg { width: 100%; height: auto; display: block; } .picture { border: 1px solid #cbd5e1; }
.frame { fill: none; stroke: #94a3b8; } .grid { stroke: #94a3b8; stroke-opacity: 0.35; stroke-width: 0.7; }
.tick { font-size: 12px; fill: #334155; } .axis { font-size: 13px; fill: #0f172a; }
.note, .small { color: #475569; font-size: 13px; margin: 4px 0; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; }
th, td { padding: 2px 9px; border-bottom: 1px solid #e2e8f0; text-align: right; white-space: nowrap; }
th:first-child { text-align: left; } td.left { text-align: left; }
)";

}  // namespace

std::string_view name_of(Verdict verdict) {
  switch (verdict) {
    case Verdict::good: return "good";
    case Verdict::doubtful: return "doubtful";
    case Verdict::failed: return "failed";
  }
  throw InternalError("a verdict without a name");
}

std::string evidence_json(const CalibrationResult& result, const ReportInput& input) {
  const auto determined_or_null = [](double value) { return value > 0.0 ? Json(value) : Json(nullptr); };
  Json parameters = Json::object();
  for (std::size_t index = 0; index < parameter_count; ++index) {
    const auto parameter = static_cast<Parameter>(index);
    Json entry = {{"value", number_or_null(value_of(result.geometry, parameter))}, {"unit", unit_of(parameter)}};
    entry["fitted"] = result.fitted[index];
    if (result.fitted[index]) {
      entry["determined"] = result.determined[index];
      entry["standard_error"] = number_or_null(result.standard_error[index]);
      for (std::size_t other = 0; other < index; ++other) {
        if (result.fitted[other]) {
          entry["correlation"][name_of(static_cast<Parameter>(other))] =
              number_or_null(result.correlation[index][other]);
        }
      }
    }
    parameters[name_of(parameter)] = std::move(entry);
  }
  Json rings = Json::array();
  for (const RingEvidence& ring : result.rings) {
    rings.push_back(
        {{"image", ring.image},
         {"ring", ring.ring},
         {"two_theta_rad", ring.two_theta_rad},
         {"points", ring.points},
         {"mean_residual_rad", number_or_null(ring.mean_residual_rad)},
         {"rms_residual_rad", number_or_null(ring.rms_residual_rad)},
         {"strain_ppm", number_or_null(ring.strain_ppm)},
         {"azimuth_coverage", ring.azimuth_coverage},
         {"predicted_residual_rad", ring.held_out ? number_or_null(ring.predicted_residual_rad) : Json(nullptr)}});
  }
  const Json json = {{"program", "annulus " + input.version},
                     {"image", input.title},
                     {"calibrant", input.calibrant},
                     {"calibrant_reference", input.reference},
                     {"verdict", name_of(result.verdict)},
                     {"reasons", result.reasons},
                     {"warnings", input.warnings},
                     {"points", result.points.size()},
                     {"rms_residual_rad", number_or_null(result.rms_residual_rad)},
                     {"reduced_chi_squared", number_or_null(result.reduced_chi_squared)},
                     {"excess_pixel", number_or_null(result.excess_px)},
                     {"explained_share", number_or_null(result.explained_share)},
                     {"rings_listed", result.rings_listed},
                     {"rings_seen", result.rings_seen},
                     {"rings_chance_share", number_or_null(result.rings_chance)},
                     {"ring_evidence_nats", number_or_null(result.ring_evidence)},
                     {"wavelength_ratio", determined_or_null(result.wavelength_ratio)},
                     {"wavelength_ratio_error", determined_or_null(result.wavelength_ratio_error)},
                     {"harmonics_rad", result.harmonics_rad},
                     {"beam_row_pixel", number_or_null(result.beam_row)},
                     {"beam_column_pixel", number_or_null(result.beam_column)},
                     {"tilt_rad", number_or_null(result.tilt_rad)},
                     {"parameters", std::move(parameters)},
                     {"rings", std::move(rings)}};
  return json.dump(1, ' ', false, Json::error_handler_t::replace);
}

std::vector<std::uint8_t> encode_png(std::uint32_t rows, std::uint32_t columns, std::span<const std::uint8_t> rgb) {
  ANNULUS_EXPECT(rgb.size() == std::size_t{rows} * columns * 3 && !rgb.empty());
  png_image image{};
  image.version = PNG_IMAGE_VERSION;
  image.width = columns;
  image.height = rows;
  image.format = PNG_FORMAT_RGB;
  png_alloc_size_t size = 0;
  const auto fail = [&] {
    throw IoError(fmt::format("cannot make a PNG of {} x {}: {}", rows, columns, image.message));
  };
  if (png_image_write_to_memory(&image, nullptr, &size, 0, rgb.data(), 0, nullptr) == 0) fail();
  std::vector<std::uint8_t> bytes(size);
  if (png_image_write_to_memory(&image, bytes.data(), &size, 0, rgb.data(), 0, nullptr) == 0) fail();
  bytes.resize(size);
  return bytes;
}

std::string report_html(std::span<const CalibrationImage> images, const CalibrationSettings& settings,
                        const CalibrationResult& result, const ReportInput& input) {
  ANNULUS_EXPECT(!images.empty());
  // A failed calibration may have left no geometry: the image is shown all the same.
  integrator::Geometry geometry = result.geometry;
  const bool has_geometry = !result.points.empty() && geometry.detector.has_shape();
  if (!has_geometry) {
    geometry = {};
    geometry.detector = settings.detector;
  }
  const std::vector<double> parallax = integrator::parallax_table_m(geometry);
  const kernels::PixelGeometry pixels = integrator::pixel_geometry(geometry, parallax);

  std::string text = fmt::format(
      "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><title>Calibration of {0}</title>"
      "<style>{1}</style></head><body>\n<h1>{0}</h1><p><span class=\"verdict {2}\">{2}</span></p>"
      "<p class=\"small\">{3}{4}; detector {5}; annulus {6}</p>\n",
      escaped(input.title), style, name_of(result.verdict), escaped(input.calibrant),
      input.reference.empty() ? "" : " (" + escaped(input.reference) + ")", escaped(settings.detector.name),
      escaped(input.version));
  text += list_of("Reasons", result.reasons) + list_of("Warnings", input.warnings);
  if (has_geometry) {
    const std::string wavelength =
        result.wavelength_ratio > 0.0
            ? fmt::format(" The rings by themselves would have {:.6f} &plusmn; {:.6f} of the wavelength.",
                          result.wavelength_ratio, result.wavelength_ratio_error)
            : "";
    text += fmt::format(
        "<p>{} points on {} rings; residual {:.4f} mrad (rms), reduced chi squared {:.2f}. Direct beam at column "
        "{:.3f}, "
        "row {:.3f}; tilt {:.4f} degrees. Scatter that counting does not explain: {:.3f} pixels; {:.0f} % of the "
        "crests in "
        "the image lie on the calibrant's rings. Of {} rings that should be on the detector {} are seen; {:.1f} would "
        "be "
        "by chance (evidence {:.1f} nats).{}</p>\n",
        result.points.size(), result.rings.size(), 1e3 * result.rms_residual_rad, result.reduced_chi_squared,
        result.beam_column, result.beam_row, degrees_of(result.tilt_rad), result.excess_px,
        100.0 * result.explained_share, result.rings_listed, result.rings_seen,
        result.rings_chance * static_cast<double>(result.rings_listed), result.ring_evidence, wavelength);
    text += "<h2>Parameters</h2><div class=\"scroll\">" + parameter_table(result) + "</div>\n";
  }
  text += "<h2>Image</h2>" + image_section(images.front(), geometry, pixels, result, settings.calibrant) + "\n";
  if (has_geometry) {
    text += "<h2>Cake</h2>" + cake_section(images.front(), geometry, result, settings.calibrant) + "\n";
    text += "<h2>Residuals against azimuth</h2>" + azimuth_section(pixels, result) + "\n";
    text += "<h2>Residuals of the rings</h2>" + ring_section(result) + "<div class=\"scroll\">" +
            ring_table(result, settings.calibrant) + "</div>\n";
  }
  return text + "</body></html>\n";
}

}  // namespace annulus::calibration
