// The cases that a calibration must master, or refuse: kinds of difficulty, and any number of geometries of each.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "calibration/calibrant.hpp"
#include "simulation/calibration_image.hpp"

namespace annulus::simulation {

enum class CaseKind : std::uint8_t {
  plain,              ///< the beam on the detector, little tilt
  orientations,       ///< the four ways of pixel indices
  beam_outside,       ///< the beam beside the detector
  large_angle,        ///< a detector on an arm, 2theta above 40 degrees: arcs alone
  tilted,             ///< 10 to 30 degrees
  one_module,         ///< a wide, low detector
  gaps_and_stop,      ///< modules, gaps, a beam stop and its holder that no mask tells of, hot and dead pixels
  spotty,             ///< few grains
  second_phase,       ///< a second compound that nobody told of, a third as strong
  strong_background,  ///< three times the strongest ring, falling and sloped, with a halo
  low_dose,           ///< 20 counts at the strongest ring
  thick_sensor,       ///< parallax
  wrong_wavelength,   ///< the wavelength given is 1 % off
  wrong_calibrant,    ///< another compound is in the beam
  blank,              ///< background alone
  single_crystal,     ///< spots alone
};

[[nodiscard]] std::span<const CaseKind> case_kinds();
[[nodiscard]] std::string_view name_of(CaseKind kind);

/// What a right answer is.
enum class Expectation : std::uint8_t {
  found,     ///< the truth
  refused,   ///< failed, with the reason
  not_good,  ///< anything but a wrong geometry called good
};
[[nodiscard]] Expectation expectation_of(CaseKind kind);

enum class CaseSize : std::uint8_t {
  small,  ///< 384 x 384 to 512 x 512 pixels, and one module of 195 x 487
  full,   ///< 0.3 to 4.5 megapixels of detectors in use
};

/// An image, and what a program is told about it.
struct CalibrationCase {
  CaseKind kind = CaseKind::plain;
  CalibrationImageSettings image;    ///< with the true geometry
  calibration::Calibrant calibrant;  ///< as told
  double wavelength_m = 0.0;         ///< as told
  integrator::Detector detector;     ///< as told; its mask is what is told of bad pixels, besides the picture's mask
};

/// Case `number` of a kind, the same whenever asked for: at least four rings of the compound are on the detector, apart
/// from each other by two widths, over a fifth of the detector's side or more.
[[nodiscard]] CalibrationCase make_case(CaseKind kind, std::uint32_t number, CaseSize size);

}  // namespace annulus::simulation
