#include "simulation/calibration_cases.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <string>
#include <vector>

#include "base/errors.hpp"
#include "integrator/detector.hpp"
#include "integrator/units.hpp"
#include "simulation/noise.hpp"

namespace annulus::simulation {
namespace {

using integrator::Geometry;
using integrator::radians_of;
using std::numbers::pi;

constexpr std::array kinds{CaseKind::plain,
                           CaseKind::orientations,
                           CaseKind::beam_outside,
                           CaseKind::large_angle,
                           CaseKind::tilted,
                           CaseKind::one_module,
                           CaseKind::gaps_and_stop,
                           CaseKind::spotty,
                           CaseKind::second_phase,
                           CaseKind::strong_background,
                           CaseKind::low_dose,
                           CaseKind::thick_sensor,
                           CaseKind::wrong_wavelength,
                           CaseKind::wrong_calibrant,
                           CaseKind::blank,
                           CaseKind::single_crystal};

/// Uniform in [low, high).
double between(Random& random, double low, double high) { return low + (high - low) * random.uniform(); }

template <std::size_t count>
const char* one_of(Random& random, const std::array<const char*, count>& choices) {
  return choices[random.below(count)];
}

integrator::Detector choose_detector(CaseKind kind, std::uint32_t number, CaseSize size, Random& random) {
  if (kind == CaseKind::one_module)
    return integrator::make_detector(size == CaseSize::small ? "Pilatus100k" : "Pilatus300kw");
  const std::uint32_t orientation = kind == CaseKind::orientations ? number % 4 + 1 : 3;
  if (size == CaseSize::small) {
    if (kind == CaseKind::gaps_and_stop) return integrator::make_detector("Pilatus300k");
    const double pixel_m = between(random, 0.5, 2.0) * 1e-4;
    const auto rows = static_cast<std::uint32_t>(between(random, 384.0, 512.0));
    const auto columns = static_cast<std::uint32_t>(between(random, 384.0, 512.0));
    const std::string sensor =
        kind == CaseKind::thick_sensor ? R"(, "sensor": {"material": "Si", "thickness": 0.00045})" : "";
    return integrator::make_detector(
        "Detector", fmt::format(R"({{"pixel1": {0}, "pixel2": {0}, "max_shape": [{1}, {2}], "orientation": {3}{4}}})",
                                pixel_m, rows, columns, orientation, sensor));
  }
  const std::string config = fmt::format(R"({{"orientation": {}}})", orientation);
  if (kind == CaseKind::thick_sensor) {
    return integrator::make_detector("Pilatus1M", R"({"sensor": {"material": "Si", "thickness": 0.001}})");
  }
  if (kind == CaseKind::gaps_and_stop) {
    return integrator::make_detector(one_of(random, std::array{"Pilatus1M", "Eiger2CdTe_1M", "Pilatus2M"}), config);
  }
  return integrator::make_detector(
      one_of(random, std::array{"Pilatus1M", "Eiger2_1M", "Eiger2CdTe_500k", "Pilatus300k", "Pilatus2M"}), config);
}

/// Distance and point of normal incidence such that the beam (tilt and all) meets the detector's plane at pixel
/// coordinates (row, column).
void aim_beam(Geometry& geometry, double row, double column) {
  const integrator::Detector& detector = geometry.detector;
  using integrator::Orientation;
  const bool flip1 = detector.orientation == Orientation::top_left || detector.orientation == Orientation::top_right;
  const bool flip2 = detector.orientation == Orientation::top_left || detector.orientation == Orientation::bottom_left;
  const double place1_m = (flip1 ? detector.rows - row : row) * detector.pixel1_m;
  const double place2_m = (flip2 ? detector.columns - column : column) * detector.pixel2_m;
  geometry.poni1_m = place1_m - geometry.distance_m * std::tan(geometry.rot2_rad) / std::cos(geometry.rot1_rad);
  geometry.poni2_m = place2_m + geometry.distance_m * std::tan(geometry.rot1_rad);
}

void turn(Geometry& geometry, double tilt_rad, double direction_rad) {
  geometry.rot1_rad = tilt_rad * std::cos(direction_rad);
  geometry.rot2_rad = tilt_rad * std::sin(direction_rad);
}

/// Lines that can be told apart on the detector: rings of which a fifth of the detector's shorter side or more is seen.
std::size_t clear_rings(const CalibrationImageSettings& image) {
  const std::vector<double> parallax = integrator::parallax_table_m(image.geometry);
  const kernels::PixelGeometry pixels = integrator::pixel_geometry(image.geometry, parallax);
  const std::uint32_t side = std::min(pixels.rows, pixels.columns);
  std::vector<double> angles;
  std::vector<double> intensities;
  for (const Line& line : image.lines) {
    const double sine = *image.geometry.wavelength_m * 1e10 / (2.0 * line.d_angstrom);
    if (sine < 1.0) angles.push_back(2.0 * std::asin(sine)), intensities.push_back(line.intensity);
  }
  // The length of a ring is the number of steps of a grid whose interval of 2theta holds it.
  std::vector<std::uint32_t> lengths(angles.size(), 0);
  constexpr std::uint32_t step = 8;
  const auto count_between = [&](double first, double second) {
    const auto [low, high] = std::minmax(first, second);
    for (auto at = std::lower_bound(angles.begin(), angles.end(), low); at != angles.end() && *at < high; ++at) {
      ++lengths[static_cast<std::size_t>(at - angles.begin())];
    }
  };
  for (std::uint32_t row = 0; row + step < pixels.rows; row += step) {
    for (std::uint32_t column = 0; column + step < pixels.columns; column += step) {
      const double here = integrator::two_theta_rad(pixels, row, column);
      count_between(here, integrator::two_theta_rad(pixels, row, column + step));
      count_between(here, integrator::two_theta_rad(pixels, row + step, column));
    }
  }
  double strongest = 0.0;
  for (std::size_t ring = 0; ring < angles.size(); ++ring) {
    if (lengths[ring] > 0) strongest = std::max(strongest, intensities[ring]);
  }
  std::size_t clear = 0;
  for (std::size_t ring = 0; ring < angles.size(); ++ring) {
    const double before = ring == 0 ? angles[ring] : angles[ring] - angles[ring - 1];
    const double after = ring + 1 == angles.size() ? pi : angles[ring + 1] - angles[ring];
    // A ring at 45 degrees to the grid is counted in both directions.
    const bool long_enough = lengths[ring] * step > side / 5;
    if (long_enough && intensities[ring] > 0.03 * strongest && std::min(before, after) > 2.0 * image.fwhm_rad) ++clear;
  }
  return clear;
}

/// The compounds that calibrate most beamlines.
constexpr std::array compounds{"CeO2", "LaB6", "Si", "alpha_Al2O3"};

/// One draw; whether it is fit for use is for make_case() to say.
CalibrationCase draw(CaseKind kind, std::uint32_t number, CaseSize size, Random& random) {
  CalibrationCase drawn;
  drawn.kind = kind;
  CalibrationImageSettings& image = drawn.image;
  Geometry& geometry = image.geometry;
  geometry.detector = choose_detector(kind, number, size, random);
  if (kind == CaseKind::thick_sensor) geometry.parallax = integrator::Parallax::on;
  const integrator::Detector& detector = geometry.detector;

  const bool soft = kind == CaseKind::large_angle || kind == CaseKind::thick_sensor;
  const double energy_kev = soft ? between(random, 12.0, 25.0) : between(random, 20.0, 80.0);
  geometry.wavelength_m = integrator::wavelength_m_of_energy_kev(energy_kev);
  const char* compound = one_of(random, compounds);
  const calibration::Calibrant calibrant = calibration::make_calibrant(compound);

  // So many rings fit within half of the shorter side, the detector being hit at its middle.
  const double half_m = 0.5 * std::min(detector.rows * detector.pixel1_m, detector.columns * detector.pixel2_m);
  const std::vector<double> angles = calibrant.two_theta_rad(*geometry.wavelength_m);
  const auto ring = std::min<std::size_t>(4 + random.below(9), angles.size() - 1);
  double reach_m = half_m;
  if (kind == CaseKind::one_module) reach_m = 0.5 * detector.columns * detector.pixel2_m;
  if (kind == CaseKind::beam_outside) reach_m = between(random, 1.2, 1.9) * half_m;
  geometry.distance_m = reach_m / std::tan(std::min(angles[ring], radians_of(55.0)));

  double row = between(random, 0.35, 0.65) * detector.rows;
  double column = between(random, 0.35, 0.65) * detector.columns;
  if (kind == CaseKind::one_module) row = between(random, -0.5, 1.5) * detector.rows;
  if (kind == CaseKind::beam_outside) {
    const double beyond = between(random, 0.05, 0.6);
    const std::uint64_t side = random.below(4);
    if (side == 0) row = -beyond * detector.rows;
    if (side == 1) row = (1.0 + beyond) * detector.rows;
    if (side == 2) column = -beyond * detector.columns;
    if (side == 3) column = (1.0 + beyond) * detector.columns;
  }
  const double tilt_rad =
      kind == CaseKind::tilted ? radians_of(between(random, 10.0, 30.0)) : radians_of(between(random, 0.0, 2.0));
  turn(geometry, tilt_rad, between(random, 0.0, 2.0 * pi));
  aim_beam(geometry, row, column);
  if (kind == CaseKind::large_angle) {
    // An arm carries the detector to the side or up; the normal then meets its middle.
    turn(geometry, radians_of(between(random, 50.0, 80.0)), 0.5 * pi * static_cast<double>(random.below(4)));
    geometry.rot1_rad += radians_of(between(random, -2.0, 2.0));
    geometry.rot2_rad += radians_of(between(random, -2.0, 2.0));
    geometry.distance_m = half_m / std::tan(radians_of(between(random, 8.0, 18.0)));
    geometry.poni1_m = between(random, 0.4, 0.6) * detector.rows * detector.pixel1_m;
    geometry.poni2_m = between(random, 0.4, 0.6) * detector.columns * detector.pixel2_m;
  }

  const TwoThetaRange range = two_theta_range(geometry);
  image.lines = calibrant_lines(calibrant, *geometry.wavelength_m, std::min(range.highest_rad + 0.05, 0.99 * pi));
  const double pixel_rad = detector.pixel1_m / geometry.distance_m;
  image.fwhm_rad = between(random, 2.2, 4.0) * pixel_rad;
  image.background = {.flat = 50.0, .falling = 150.0, .falling_rad = 0.3 * range.highest_rad};
  image.polarisation_factor = 0.95;
  image.seed = random.bits();
  drawn.calibrant = calibrant;
  drawn.wavelength_m = *geometry.wavelength_m;

  switch (kind) {
    case CaseKind::gaps_and_stop:
      image.beam_stop = {.radius_pixels = between(random, 0.04, 0.08) * detector.rows,
                         .holder_pixels = between(random, 6.0, 14.0),
                         .holder_rad = between(random, 0.0, 2.0 * pi),
                         .masked = number % 2 == 0};
      image.hot_pixels = 2e-4;
      image.dead_pixels = 2e-4;
      break;
    case CaseKind::spotty:
      image.grains = between(random, 150.0, 600.0);
      image.grain_sigma_rad = 0.008;
      break;
    case CaseKind::second_phase:
      image.other_lines = calibrant_lines(calibration::make_calibrant("ZnO"), *geometry.wavelength_m, 0.99 * pi);
      for (Line& line : image.other_lines) line.intensity *= 0.33;
      break;
    case CaseKind::strong_background:
      image.background = {.flat = 1.5 * image.peak_counts,
                          .falling = 1.5 * image.peak_counts,
                          .falling_rad = 0.4 * range.highest_rad,
                          .slope1 = 0.5 * image.peak_counts,
                          .slope2 = -0.4 * image.peak_counts,
                          .hump = image.peak_counts,
                          .hump_two_theta_rad = 0.5 * range.highest_rad,
                          .hump_sigma_rad = 0.1 * range.highest_rad};
      break;
    case CaseKind::low_dose:
      image.peak_counts = 20.0;
      image.background = {.flat = 0.5, .falling = 1.0, .falling_rad = 0.3 * range.highest_rad};
      break;
    case CaseKind::wrong_wavelength: drawn.wavelength_m *= number % 2 == 0 ? 1.01 : 0.99; break;
    case CaseKind::wrong_calibrant:
      // A cubic pattern for a hexagonal one and the other way round: no change of scale makes them the same.
      drawn.calibrant =
          calibration::make_calibrant(std::string_view(compound) == "alpha_Al2O3" ? "LaB6" : "alpha_Al2O3");
      break;
    case CaseKind::blank: image.background.falling = 500.0; break;
    case CaseKind::single_crystal: image.crystal_spots = 60; break;
    default: break;
  }
  drawn.detector = detector;
  return drawn;
}

}  // namespace

std::span<const CaseKind> case_kinds() { return kinds; }

std::string_view name_of(CaseKind kind) {
  switch (kind) {
    case CaseKind::plain: return "plain";
    case CaseKind::orientations: return "orientations";
    case CaseKind::beam_outside: return "beam_outside";
    case CaseKind::large_angle: return "large_angle";
    case CaseKind::tilted: return "tilted";
    case CaseKind::one_module: return "one_module";
    case CaseKind::gaps_and_stop: return "gaps_and_stop";
    case CaseKind::spotty: return "spotty";
    case CaseKind::second_phase: return "second_phase";
    case CaseKind::strong_background: return "strong_background";
    case CaseKind::low_dose: return "low_dose";
    case CaseKind::thick_sensor: return "thick_sensor";
    case CaseKind::wrong_wavelength: return "wrong_wavelength";
    case CaseKind::wrong_calibrant: return "wrong_calibrant";
    case CaseKind::blank: return "blank";
    case CaseKind::single_crystal: return "single_crystal";
  }
  throw InternalError("a kind of calibration case without a name");
}

Expectation expectation_of(CaseKind kind) {
  switch (kind) {
    case CaseKind::wrong_calibrant:
    case CaseKind::blank:
    case CaseKind::single_crystal: return Expectation::refused;
    case CaseKind::wrong_wavelength: return Expectation::not_good;
    default: return Expectation::found;
  }
}

CalibrationCase make_case(CaseKind kind, std::uint32_t number, CaseSize size) {
  Random random(static_cast<std::uint64_t>(kind) + 1,
                (static_cast<std::uint64_t>(number) << 1) + static_cast<std::uint64_t>(size));
  constexpr std::size_t enough_rings = 4;
  for (int attempt = 0; attempt < 1000; ++attempt) {
    CalibrationCase drawn = draw(kind, number, size, random);
    if (clear_rings(drawn.image) < enough_rings) continue;
    if (kind == CaseKind::large_angle && two_theta_range(drawn.image.geometry).lowest_rad < radians_of(40.0)) continue;
    // The rings served to choose a geometry that would show some.
    if (kind == CaseKind::blank || kind == CaseKind::single_crystal) drawn.image.lines.clear();
    return drawn;
  }
  throw InternalError(fmt::format("no geometry with {} rings for case {} {}", enough_rings, name_of(kind), number));
}

}  // namespace annulus::simulation
