#include "simulation/calibration_image.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <exception>
#include <numbers>
#include <span>

#include "base/errors.hpp"
#include "integrator/corrections.hpp"
#include "simulation/noise.hpp"

namespace annulus::simulation {
namespace {

using std::numbers::pi;

/// Random streams of an image; row r of the noise has first_row + r.
constexpr std::uint64_t grain_stream = 1;
constexpr std::uint64_t spot_stream = 2;
constexpr std::uint64_t pixel_stream = 3;
constexpr std::uint64_t first_row = 1000;

/// A Gaussian is below 1e-10 of its top beyond this many standard deviations.
constexpr double reach_sigmas = 6.8;
constexpr double sigma_of_fwhm = 0.42466090014400953;  // 1 / sqrt(8 ln 2)

/// Gauss's rule of 4 points on [0, 1].
constexpr std::array<double, 4> gauss_places{0.06943184420297371, 0.33000947820757187, 0.6699905217924281,
                                             0.9305681557970263};
constexpr std::array<double, 4> gauss_weights{0.17392742256872692, 0.32607257743127305, 0.32607257743127305,
                                              0.17392742256872692};

/// A ring on the detector: 2theta, height, and how its strength changes along it.
struct Ring {
  double two_theta_rad = 0.0;
  double height = 0.0;
  std::vector<float> along;  ///< [azimuth_steps] factor; empty = 1 everywhere
};

constexpr std::size_t azimuth_steps = 8192;

std::vector<Ring> make_rings(const CalibrationImageSettings& settings, const TwoThetaRange& range) {
  const double wavelength_m = *settings.geometry.wavelength_m;
  const double margin = reach_sigmas * sigma_of_fwhm * settings.fwhm_rad;
  std::vector<Ring> rings;
  const auto append = [&](const std::vector<Line>& lines) {
    for (const Line& line : lines) {
      const double sine = wavelength_m * 1e10 / (2.0 * line.d_angstrom);
      if (sine >= 1.0 || line.intensity <= 0.0) continue;
      const double two_theta = 2.0 * std::asin(sine);
      if (two_theta < range.lowest_rad - margin || two_theta > range.highest_rad + margin) continue;
      rings.push_back({two_theta, line.intensity, {}});
    }
  };
  append(settings.lines);
  double strongest = 0.0;
  for (const Ring& ring : rings) {
    if (ring.two_theta_rad > range.lowest_rad && ring.two_theta_rad < range.highest_rad) {
      strongest = std::max(strongest, ring.height);
    }
  }
  append(settings.other_lines);
  if (strongest == 0.0) strongest = 1.0;
  for (Ring& ring : rings) ring.height *= settings.peak_counts / strongest;
  std::sort(rings.begin(), rings.end(),
            [](const Ring& left, const Ring& right) { return left.two_theta_rad < right.two_theta_rad; });
  return rings;
}

/// Spots along each ring, in the order of the rings; their mean is 1 over many rings.
void make_grains(const CalibrationImageSettings& settings, std::vector<Ring>& rings) {
  Random random(settings.seed, grain_stream);
  const PoissonSampler poisson;
  const double step = 2.0 * pi / static_cast<double>(azimuth_steps);
  const double height = 2.0 * pi / (settings.grains * settings.grain_sigma_rad * std::sqrt(2.0 * pi));
  const auto reach = static_cast<std::int64_t>(5.0 * settings.grain_sigma_rad / step) + 1;
  for (Ring& ring : rings) {
    ring.along.assign(azimuth_steps, 0.0F);
    const std::uint64_t grains = poisson(random, settings.grains);
    for (std::uint64_t grain = 0; grain < grains; ++grain) {
      const double strength = -std::log(1.0 - random.uniform()) * height;
      const double place = random.uniform() * static_cast<double>(azimuth_steps);
      const auto middle = static_cast<std::int64_t>(place);
      for (std::int64_t cell = middle - reach; cell <= middle + reach; ++cell) {
        const double away = (static_cast<double>(cell) + 0.5 - place) * step / settings.grain_sigma_rad;
        const auto count = static_cast<std::int64_t>(azimuth_steps);
        ring.along[static_cast<std::size_t>((cell % count + count) % count)] +=
            static_cast<float>(strength * std::exp(-0.5 * away * away));
      }
    }
  }
}

/// What falls on a point, per unit of solid angle.
class Scattering {
 public:
  Scattering(const CalibrationImageSettings& settings, std::vector<Ring> rings, const TwoThetaRange& range)
      : settings_(settings),
        rings_(std::move(rings)),
        sigma_rad_(settings.fwhm_rad * sigma_of_fwhm),
        lowest_rad_(range.lowest_rad),
        // Linear interpolation on sigma / 100 is right to 1e-5 of a line's height: h^2 / 8 / sigma^2.
        step_rad_(0.01 * sigma_rad_) {
    if (settings.grains > 0.0) return;
    table_.assign(static_cast<std::size_t>((range.highest_rad - range.lowest_rad) / step_rad_) + 3, 0.0F);
    for (const Ring& ring : rings_) {
      const auto cells = static_cast<double>(table_.size() - 1);
      const double first = (ring.two_theta_rad - reach_sigmas * sigma_rad_ - lowest_rad_) / step_rad_;
      const double last = (ring.two_theta_rad + reach_sigmas * sigma_rad_ - lowest_rad_) / step_rad_;
      if (last < 0.0 || first > cells) continue;
      for (auto cell = static_cast<std::size_t>(std::max(first, 0.0));
           cell <= static_cast<std::size_t>(std::min(last, cells)); ++cell) {
        const double away = (lowest_rad_ + static_cast<double>(cell) * step_rad_ - ring.two_theta_rad) / sigma_rad_;
        table_[cell] += static_cast<float>(ring.height * std::exp(-0.5 * away * away));
      }
    }
  }

  /// Of the rings, at a laboratory position (y, x, z).
  [[nodiscard]] double rings_at(const std::array<double, 3>& place_m) const {
    const auto [y, x, z] = place_m;
    const double two_theta = std::atan2(std::sqrt(x * x + y * y), z);
    if (!table_.empty()) {
      const double cell =
          std::clamp((two_theta - lowest_rad_) / step_rad_, 0.0, static_cast<double>(table_.size() - 2));
      const auto index = static_cast<std::size_t>(cell);
      const double upper = cell - static_cast<double>(index);
      return (1.0 - upper) * static_cast<double>(table_[index]) + upper * static_cast<double>(table_[index + 1]);
    }
    const double reach = reach_sigmas * sigma_rad_;
    auto ring = std::lower_bound(rings_.begin(), rings_.end(), two_theta - reach,
                                 [](const Ring& left, double angle) { return left.two_theta_rad < angle; });
    double sum = 0.0;
    std::size_t azimuth = azimuth_steps;
    for (; ring != rings_.end() && ring->two_theta_rad < two_theta + reach; ++ring) {
      if (azimuth == azimuth_steps) {
        const double turn = (std::atan2(y, x) + pi) / (2.0 * pi);
        azimuth = std::min(static_cast<std::size_t>(turn * static_cast<double>(azimuth_steps)), azimuth_steps - 1);
      }
      const double away = (two_theta - ring->two_theta_rad) / sigma_rad_;
      sum += ring->height * static_cast<double>(ring->along[azimuth]) * std::exp(-0.5 * away * away);
    }
    return sum;
  }

  /// Of all else at a pixel's centre; `down` and `right` run from -0.5 to 0.5 over the detector.
  [[nodiscard]] double background_at(double two_theta, double down, double right) const {
    const ImageBackground& ground = settings_.background;
    const double falling = two_theta / ground.falling_rad;
    const double hump = (two_theta - ground.hump_two_theta_rad) / ground.hump_sigma_rad;
    const double sum = ground.flat + ground.falling / (1.0 + falling * falling) + ground.slope1 * down +
                       ground.slope2 * right + ground.hump * std::exp(-0.5 * hump * hump);
    return std::max(sum, 0.0);
  }

 private:
  const CalibrationImageSettings& settings_;
  std::vector<Ring> rings_;
  double sigma_rad_;
  double lowest_rad_;
  double step_rad_;
  std::vector<float> table_;  ///< of the sum of all rings when none changes along itself
};

/// Where the direct beam meets the detector's plane, (row, column).
std::array<double, 2> beam_place(const kernels::PixelGeometry& pixels) {
  const std::array<double, 9>& matrix = pixels.rotation;
  // The detector's coordinates of the beam's direction (0, 0, 1) are the last row of the rotation.
  const double p1 = pixels.distance_m * matrix[6] / matrix[8] + pixels.poni1_m;
  const double p2 = pixels.distance_m * matrix[7] / matrix[8] + pixels.poni2_m;
  const double row = p1 / pixels.pixel1_m;
  const double column = p2 / pixels.pixel2_m;
  return {pixels.flip1 ? pixels.rows - row : row, pixels.flip2 ? pixels.columns - column : column};
}

/// Share of the light that the beam stop lets through to each pixel; empty without one.
std::vector<float> shadow(const CalibrationImageSettings& settings, const kernels::PixelGeometry& pixels) {
  const BeamStop& stop = settings.beam_stop;
  if (stop.radius_pixels <= 0.0 && stop.holder_pixels <= 0.0) return {};
  const auto [beam_row, beam_column] = beam_place(pixels);
  std::vector<float> open(pixels.pixels(), 1.0F);
  for (std::uint32_t row = 0; row < pixels.rows; ++row) {
    for (std::uint32_t column = 0; column < pixels.columns; ++column) {
      const double down = row + 0.5 - beam_row;
      const double right = column + 0.5 - beam_column;
      const double along = right * std::cos(stop.holder_rad) + down * std::sin(stop.holder_rad);
      const double across = down * std::cos(stop.holder_rad) - right * std::sin(stop.holder_rad);
      if (std::hypot(down, right) < stop.radius_pixels ||
          (along > 0.0 && 2.0 * std::abs(across) < stop.holder_pixels)) {
        open[static_cast<std::size_t>(row) * pixels.columns + column] = static_cast<float>(stop.transmission);
      }
    }
  }
  return open;
}

void add_crystal_spots(const CalibrationImageSettings& settings, const kernels::PixelGeometry& pixels,
                       std::vector<float>& expected) {
  Random random(settings.seed, spot_stream);
  const double pixel_rad = pixels.pixel1_m / pixels.distance_m;
  const double sigma = std::max(settings.fwhm_rad / pixel_rad * sigma_of_fwhm, 0.8);
  const auto reach = static_cast<std::int64_t>(5.0 * sigma) + 1;
  for (std::uint32_t spot = 0; spot < settings.crystal_spots; ++spot) {
    const double middle_row = random.uniform() * pixels.rows;
    const double middle_column = random.uniform() * pixels.columns;
    const double top = -std::log(1.0 - random.uniform()) * settings.spot_counts;
    const auto near_row = static_cast<std::int64_t>(middle_row);
    const auto near_column = static_cast<std::int64_t>(middle_column);
    for (std::int64_t row = std::max<std::int64_t>(near_row - reach, 0);
         row < std::min<std::int64_t>(near_row + reach, pixels.rows); ++row) {
      for (std::int64_t column = std::max<std::int64_t>(near_column - reach, 0);
           column < std::min<std::int64_t>(near_column + reach, pixels.columns); ++column) {
        const double away =
            std::hypot(static_cast<double>(row) + 0.5 - middle_row, static_cast<double>(column) + 0.5 - middle_column) /
            sigma;
        expected[static_cast<std::size_t>(row) * pixels.columns + static_cast<std::size_t>(column)] +=
            static_cast<float>(top * std::exp(-0.5 * away * away));
      }
    }
  }
}

}  // namespace

TwoThetaRange two_theta_range(const integrator::Geometry& geometry) {
  const std::vector<double> parallax = integrator::parallax_table_m(geometry);
  const kernels::PixelGeometry pixels = integrator::pixel_geometry(geometry, parallax);
  TwoThetaRange range{pi, 0.0};
  constexpr int steps = 64;
  for (int down = 0; down <= steps; ++down) {
    for (int right = 0; right <= steps; ++right) {
      const double angle = integrator::two_theta_rad(pixels, pixels.rows * static_cast<double>(down) / steps,
                                                     pixels.columns * static_cast<double>(right) / steps);
      range.lowest_rad = std::min(range.lowest_rad, angle);
      range.highest_rad = std::max(range.highest_rad, angle);
    }
  }
  // The beam itself may fall between the grid's points.
  const auto [row, column] = beam_place(pixels);
  if (pixels.vertices.empty() && row >= 0.0 && row <= pixels.rows && column >= 0.0 && column <= pixels.columns) {
    range.lowest_rad = 0.0;
  }
  return range;
}

CalibrationPicture make_calibration_image(const CalibrationImageSettings& settings) {
  const integrator::Geometry& geometry = settings.geometry;
  if (!geometry.wavelength_m) throw InputError("simulated calibration image: the geometry has no wavelength");
  if (!geometry.detector.has_shape()) throw InputError("simulated calibration image: the detector has no shape");
  if (!(settings.fwhm_rad > 0.0)) throw InputError("simulated calibration image: the width of lines is not above 0");
  const std::vector<double> parallax = integrator::parallax_table_m(geometry);
  const kernels::PixelGeometry pixels = integrator::pixel_geometry(geometry, parallax);
  TwoThetaRange range = two_theta_range(geometry);
  // Between the points of the coarse grid, 2theta may pass what they have by less than a cell.
  const double margin_rad = 0.05 * (range.highest_rad - range.lowest_rad);
  range = {std::max(range.lowest_rad - margin_rad, 0.0), std::min(range.highest_rad + margin_rad, pi)};
  std::vector<Ring> rings = make_rings(settings, range);
  if (settings.grains > 0.0) make_grains(settings, rings);
  const Scattering scattering(settings, std::move(rings), range);

  CalibrationPicture picture;
  picture.mask = geometry.detector.mask();
  const std::vector<std::uint8_t> gaps = picture.mask;
  const std::vector<float> factor = integrator::pixel_normalisation(
      pixels, {.solid_angle = settings.solid_angle, .polarisation_factor = settings.polarisation_factor}, {});
  const std::vector<float> open = shadow(settings, pixels);

  picture.expected.assign(pixels.pixels(), 0.0F);
#pragma omp parallel for schedule(static)
  for (std::uint32_t row = 0; row < pixels.rows; ++row) {
    for (std::uint32_t column = 0; column < pixels.columns; ++column) {
      const std::size_t pixel = static_cast<std::size_t>(row) * pixels.columns + column;
      double sum = 0.0;
      for (std::size_t down = 0; down < gauss_places.size(); ++down) {
        for (std::size_t right = 0; right < gauss_places.size(); ++right) {
          const auto place_m = integrator::position_m(pixels, row + gauss_places[down], column + gauss_places[right]);
          sum += gauss_weights[down] * gauss_weights[right] * scattering.rings_at(place_m);
        }
      }
      picture.expected[pixel] = static_cast<float>(sum) * factor[pixel];
    }
  }
  // Solid angle and polarisation leave less of the strongest ring where the detector sees it.
  const float highest = *std::max_element(picture.expected.begin(), picture.expected.end());
  const double scale = settings.grains > 0.0 || highest <= 0.0F ? 1.0 : settings.peak_counts / highest;
#pragma omp parallel for schedule(static)
  for (std::uint32_t row = 0; row < pixels.rows; ++row) {
    for (std::uint32_t column = 0; column < pixels.columns; ++column) {
      const std::size_t pixel = static_cast<std::size_t>(row) * pixels.columns + column;
      const double background =
          scattering.background_at(integrator::two_theta_rad(pixels, row + 0.5, column + 0.5),
                                   (row + 0.5) / pixels.rows - 0.5, (column + 0.5) / pixels.columns - 0.5);
      picture.expected[pixel] = static_cast<float>(scale * static_cast<double>(picture.expected[pixel]) +
                                                   background * static_cast<double>(factor[pixel]));
    }
  }
  add_crystal_spots(settings, pixels, picture.expected);
  for (std::size_t pixel = 0; pixel < open.size(); ++pixel) picture.expected[pixel] *= open[pixel];

  picture.counts.resize(pixels.pixels());
  const PoissonSampler poisson;
#pragma omp parallel for schedule(static)
  for (std::uint32_t row = 0; row < pixels.rows; ++row) {
    Random random(settings.seed, first_row + row);
    for (std::uint32_t column = 0; column < pixels.columns; ++column) {
      const std::size_t pixel = static_cast<std::size_t>(row) * pixels.columns + column;
      picture.counts[pixel] = static_cast<float>(poisson(random, static_cast<double>(picture.expected[pixel])));
    }
  }
  Random random(settings.seed, pixel_stream);
  const auto spoil = [&](double share, float value) {
    const auto count = static_cast<std::size_t>(std::llround(share * static_cast<double>(pixels.pixels())));
    for (std::size_t index = 0; index < count; ++index) picture.counts[random.below(pixels.pixels())] = value;
  };
  spoil(settings.dead_pixels, 0.0F);
  spoil(settings.hot_pixels, static_cast<float>(1000.0 * settings.peak_counts));
  for (std::size_t pixel = 0; pixel < gaps.size(); ++pixel) {
    if (gaps[pixel] != 0) picture.counts[pixel] = -1.0F;
    if (!open.empty() && open[pixel] < 1.0F && settings.beam_stop.masked) picture.mask[pixel] = 1;
  }
  return picture;
}

std::vector<Line> calibrant_lines(const calibration::Calibrant& calibrant, double wavelength_m,
                                  double two_theta_max_rad) {
  std::vector<Line> known;
  for (const char* name : {"LaB6", "CeO2", "Ni", "Si", "alpha_Al2O3"}) {
    // "Si_SRM640c" is silicon, with the cell of its own certificate.
    const std::string_view own = calibrant.name;
    const std::string_view compound = name;
    if (own == compound || (own.starts_with(compound) && own.substr(compound.size()).starts_with("_SRM"))) {
      // A little beyond, so that a cell that is a little larger loses no line.
      known = powder_lines(make_crystal(name), wavelength_m * 1e10, std::min(1.01 * two_theta_max_rad, pi));
    }
  }
  std::vector<Line> lines;
  double strongest = 0.0;
  for (std::size_t ring = 0; ring < calibrant.d_spacings_m.size(); ++ring) {
    const double d_angstrom = calibrant.d_spacings_m[ring] * 1e10;
    const double sine = wavelength_m / (2.0 * calibrant.d_spacings_m[ring]);
    if (sine >= 1.0 || 2.0 * std::asin(sine) > two_theta_max_rad) break;
    double intensity = 0.0;
    if (known.empty()) {
      std::uint64_t state = ring;
      const double variation = static_cast<double>(splitmix64(state) >> 11) * 0x1p-53;
      intensity = (0.1 + 0.9 * variation) * std::exp(-static_cast<double>(ring) / 15.0);
    } else {
      for (const Line& line : known) {
        if (std::abs(line.d_angstrom / d_angstrom - 1.0) < 1e-3) intensity += line.intensity;
      }
    }
    if (intensity <= 0.0) continue;
    strongest = std::max(strongest, intensity);
    lines.push_back({d_angstrom, intensity});
  }
  for (Line& line : lines) line.intensity /= strongest;
  return lines;
}

}  // namespace annulus::simulation
