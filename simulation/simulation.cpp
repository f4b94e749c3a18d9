#include "simulation/simulation.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <exception>
#include <limits>
#include <numbers>
#include <optional>
#include <span>
#include <utility>

#include "base/errors.hpp"
#include "base/problems.hpp"
#include "integrator/corrections.hpp"
#include "integrator/units.hpp"
#include "kernels/bslz4.hpp"
#include "mapping/hdf5_bitshuffle_filter.hpp"
#include "simulation/files.hpp"
#include "simulation/noise.hpp"
#include "simulation/phantom.hpp"
#include "simulation/powder.hpp"

namespace annulus::simulation {

namespace hdf5 = mapping::hdf5;

namespace {

/// The powders of pellet_phantom(), and how strong each is: share of `peak_counts` that its strongest ring reaches
/// where the beam's path in it is longest.
struct PowderOfPhantom {
  const char* name;
  double strength;
};
constexpr std::array<PowderOfPhantom, 3> powders_of_phantom{
    PowderOfPhantom{"CeO2", 1.0}, PowderOfPhantom{"alpha_Al2O3", 0.6}, PowderOfPhantom{"Ni", 0.8}};

/// The top of the calibrant image's strongest ring, in counts.
constexpr double calibrant_peak_counts = 1e4;

/// Random streams other than the frames', whose numbers count up from 0.
constexpr std::uint64_t monitor_stream = std::uint64_t{1} << 62;
constexpr std::uint64_t pixel_stream = std::uint64_t{2} << 62;
constexpr std::uint64_t calibrant_stream = std::uint64_t{3} << 62;

/// Bits of a Dectris pixel_mask.
constexpr std::uint32_t mask_gap = 1;
constexpr std::uint32_t mask_dead = 2;

constexpr hid_t no_link_settings = H5P_DEFAULT;

[[nodiscard]] std::string data_file_name(std::uint64_t index) { return fmt::format("data_{:06d}.h5", index + 1); }

/// Highest value of the frames' type: marks a pixel that has no count.
[[nodiscard]] std::uint64_t type_maximum(kernels::PixelType type) {
  return type == kernels::PixelType::u16 ? std::numeric_limits<std::uint16_t>::max()
                                         : std::numeric_limits<std::uint32_t>::max();
}

/// Detector pixel (row, column), both as edges count, that the beam hits: beside the middle, so that no ring is cut
/// alike on two sides, and on the larger module.
struct BeamCentre {
  double row = 0.0;
  double column = 0.0;
};

[[nodiscard]] BeamCentre beam_centre(const integrator::Detector& detector) {
  return {0.53 * detector.rows, 0.48 * detector.columns};
}

/// The PONI that lets the beam, at (0, 0, z), hit beam_centre(): there p1 = d tan(rot2) / cos(rot1), p2 = -d tan(rot1).
[[nodiscard]] integrator::Geometry make_geometry(const SimulationSettings& settings) {
  integrator::Geometry geometry;
  geometry.detector = integrator::make_detector(settings.detector);
  geometry.distance_m = settings.distance_m;
  geometry.rot1_rad = settings.rot1_rad;
  geometry.rot2_rad = settings.rot2_rad;
  geometry.wavelength_m = integrator::wavelength_m_of_energy_kev(settings.energy_kev);
  const BeamCentre centre = beam_centre(geometry.detector);
  geometry.poni1_m = centre.row * geometry.detector.pixel1_m -
                     settings.distance_m * std::tan(settings.rot2_rad) / std::cos(settings.rot1_rad);
  geometry.poni2_m = centre.column * geometry.detector.pixel2_m + settings.distance_m * std::tan(settings.rot1_rad);
  return geometry;
}

/// The largest 2theta on the detector. It is that of a corner: below 90 degrees the pixels within a cone are convex.
[[nodiscard]] double largest_two_theta_rad(const kernels::PixelGeometry& pixels) {
  double largest = 0.0;
  for (const double row : {0.0, static_cast<double>(pixels.rows)}) {
    for (const double column : {0.0, static_cast<double>(pixels.columns)}) {
      largest = std::max(largest, integrator::two_theta_rad(pixels, row, column));
    }
  }
  return largest;
}

void check_frame_list(const std::vector<std::uint64_t>& list, std::uint64_t frames, const char* what,
                      Problems& problems) {
  for (const std::uint64_t frame : list) {
    if (frame >= frames) problems.add(fmt::format("{}: frame {} is not among the {} of the scan", what, frame, frames));
  }
}

/// Throws InputError with all that is wrong with the settings.
void check_settings(const SimulationSettings& settings) {
  Problems problems;
  const auto expect = [&](bool good, const char* what, double found, const char* expected) {
    if (!good) problems.add(fmt::format("{}: found {}, expected {}", what, found, expected));
  };
  expect(settings.slow > 0, "number of slow positions", settings.slow, "at least 1");
  expect(settings.fast > 0, "number of fast positions", settings.fast, "at least 1");
  expect(settings.frames_per_file > 0, "frames in a file", settings.frames_per_file, "at least 1");
  expect(settings.rotation_range_deg == 180.0 || settings.rotation_range_deg == 360.0, "rotation range in degrees",
         settings.rotation_range_deg, "180 or 360");
  expect(settings.distance_m > 0.0 && settings.distance_m <= 100.0, "distance in m", settings.distance_m,
         "above 0, up to 100");
  expect(std::abs(settings.rot1_rad) <= 1.0, "rot1 in rad", settings.rot1_rad, "-1 to 1");
  expect(std::abs(settings.rot2_rad) <= 1.0, "rot2 in rad", settings.rot2_rad, "-1 to 1");
  expect(settings.energy_kev >= 1.0 && settings.energy_kev <= 1000.0, "energy in keV", settings.energy_kev,
         "1 to 1000");
  if (settings.polarisation_factor) {
    expect(std::abs(*settings.polarisation_factor) <= 1.0, "polarisation factor", *settings.polarisation_factor,
           "-1 (vertical) to 1 (horizontal)");
  }
  expect(settings.monitor_fluctuation >= 0.0 && settings.monitor_fluctuation <= 0.5, "fluctuation of the monitor",
         settings.monitor_fluctuation, "0 to 0.5");
  expect(settings.hot_pixels >= 0.0 && settings.hot_pixels <= 0.1, "share of hot pixels", settings.hot_pixels,
         "0 to 0.1");
  expect(settings.dead_pixels >= 0.0 && settings.dead_pixels <= 0.1, "share of dead pixels", settings.dead_pixels,
         "0 to 0.1");
  if (settings.type != kernels::PixelType::u16 && settings.type != kernels::PixelType::u32) {
    problems.add(fmt::format("pixel type: found {}, expected uint16 or uint32", kernels::name_of(settings.type)));
  } else {
    // A quarter leaves room for rings that overlap and for a bright monitor.
    const double most = 0.25 * static_cast<double>(type_maximum(settings.type));
    expect(settings.peak_counts > 0.0 && settings.peak_counts <= most, "counts at the strongest ring",
           settings.peak_counts,
           fmt::format("above 0, up to {:.0f} for {}", most, kernels::name_of(settings.type)).c_str());
    expect(settings.background_counts >= 0.0 && settings.background_counts <= most, "counts of the background",
           settings.background_counts,
           fmt::format("0 to {:.0f} for {}", most, kernels::name_of(settings.type)).c_str());
  }
  const std::uint64_t frames = static_cast<std::uint64_t>(settings.slow) * settings.fast;
  check_frame_list(settings.corrupt_frames, frames, "corrupt frames", problems);
  check_frame_list(settings.missing_frames, frames, "missing frames", problems);
  check_frame_list(settings.dead_monitor_frames, frames, "frames with a dead monitor", problems);
  problems.collect([&] {
    const integrator::Geometry geometry = make_geometry(settings);
    if (!geometry.detector.has_shape()) {
      throw InputError(fmt::format("detector '{}' has no shape of its own: expected one that has", settings.detector));
    }
    if (problems.any()) return;
    const double largest_deg = integrator::degrees_of(largest_two_theta_rad(integrator::pixel_geometry(geometry)));
    expect(largest_deg < 80.0, "largest 2theta on the detector in degrees", largest_deg, "below 80");
  });
  problems.throw_if_any();
}

/// `count` positions, `step` apart, about 0.
[[nodiscard]] std::vector<double> centred_positions(std::uint32_t count, double step) {
  std::vector<double> positions(count);
  for (std::uint32_t index = 0; index < count; ++index) positions[index] = (index - 0.5 * (count - 1.0)) * step;
  return positions;
}

/// The smooth background at `counts` near the beam: air scatter that falls with the angle, on a constant.
[[nodiscard]] std::vector<double> background_pattern(double counts, const TwoThetaGrid& grid) {
  std::vector<double> pattern(grid.channels);
  for (std::size_t channel = 0; channel < grid.channels; ++channel) {
    const double falling = static_cast<double>(channel) * grid.step_deg / 6.0;
    pattern[channel] = counts * (0.4 + 0.6 / (1.0 + falling * falling));
  }
  return pattern;
}

/// What each pixel would count under each pattern, [patterns, pixels], 0 where `mask` is set: the pattern's mean over
/// the area of the pixel, as a pixel counts all that falls on it, times the pixel's `factor`.
///
/// The mean is Gauss's rule of 3 x 3 points: for a line of 5 pixels FWHM it is right to 1e-5 of the line's height.
[[nodiscard]] std::vector<float> render(const kernels::PixelGeometry& pixels,
                                        std::span<const std::vector<double>> patterns, const TwoThetaGrid& grid,
                                        std::span<const float> factor, std::span<const std::uint8_t> mask) {
  constexpr std::array<double, 3> weights{5.0 / 18.0, 8.0 / 18.0, 5.0 / 18.0};
  const double reach = 0.5 * std::sqrt(0.6);
  const std::array<double, 3> places{0.5 - reach, 0.5, 0.5 + reach};
  const std::size_t count = patterns.size();
  ANNULUS_EXPECT(grid.channels >= 2);

  // Side by side, so that one place in memory serves all patterns of a point.
  std::vector<double> table(grid.channels * count);
  for (std::size_t pattern = 0; pattern < count; ++pattern) {
    for (std::size_t channel = 0; channel < grid.channels; ++channel) {
      table[channel * count + pattern] = patterns[pattern][channel];
    }
  }
  const double channels_per_rad = integrator::degrees_of(1.0) / grid.step_deg;
  const auto last = static_cast<double>(grid.channels - 2);

  std::vector<float> images(count * pixels.pixels(), 0.0F);
#pragma omp parallel
  {
    std::vector<double> sums(count);
#pragma omp for schedule(static)
    for (std::uint32_t row = 0; row < pixels.rows; ++row) {
      for (std::uint32_t column = 0; column < pixels.columns; ++column) {
        const std::size_t pixel = static_cast<std::size_t>(row) * pixels.columns + column;
        if (mask[pixel] != 0) continue;
        std::fill(sums.begin(), sums.end(), 0.0);
        for (std::size_t point1 = 0; point1 < 3; ++point1) {
          for (std::size_t point2 = 0; point2 < 3; ++point2) {
            const double place =
                integrator::two_theta_rad(pixels, row + places[point1], column + places[point2]) * channels_per_rad;
            const double channel = std::min(std::floor(place), last);
            const double upper = (place - channel) * weights[point1] * weights[point2];
            const double lower = weights[point1] * weights[point2] - upper;
            const double* values = table.data() + static_cast<std::size_t>(channel) * count;
            for (std::size_t pattern = 0; pattern < count; ++pattern) {
              sums[pattern] += lower * values[pattern] + upper * values[count + pattern];
            }
          }
        }
        for (std::size_t pattern = 0; pattern < count; ++pattern) {
          images[pattern * pixels.pixels() + pixel] = static_cast<float>(sums[pattern] * factor[pixel]);
        }
      }
    }
  }
  return images;
}

/// Makes sure that no LZ4 decoder accepts the chunk: its first block now begins with a match of bytes before the block,
/// which every decoder that checks its bounds must refuse. The chunk keeps its size and its header.
void corrupt_chunk(std::vector<std::byte>& chunk) {
  constexpr std::size_t block_data = 8 + 4 + 4;  // decoded size, block size, length of the first block
  ANNULUS_EXPECT(chunk.size() >= block_data + 3);
  constexpr std::array<std::byte, 3> match_before_start{std::byte{0x00}, std::byte{0xff}, std::byte{0xff}};
  std::copy(match_before_start.begin(), match_before_start.end(), chunk.begin() + block_data);
}

/// Creation properties of a frame dataset: one frame a chunk, filter bitshuffle with LZ4, space only for what is
/// written.
[[nodiscard]] hdf5::PropertyList frame_dataset_properties(const std::array<hsize_t, 3>& chunk) {
  hdf5::register_bitshuffle_filter();  // HDF5 makes no dataset whose filter it does not know
  hdf5::PropertyList properties = dataset_properties();
  hdf5::check(H5Pset_chunk(properties.get(), 3, chunk.data()), "set the chunk shape");
  hdf5::check(H5Pset_alloc_time(properties.get(), H5D_ALLOC_TIME_INCR), "set the allocation time");
  constexpr std::array<unsigned, 2> parameters{0, hdf5::bitshuffle_lz4};
  hdf5::check(H5Pset_filter(properties.get(), hdf5::bitshuffle_filter, H5Z_FLAG_MANDATORY, parameters.size(),
                            parameters.data()),
              "set the bitshuffle filter");
  return properties;
}

}  // namespace

struct Simulation::Impl {
  explicit Impl(SimulationSettings given);

  [[nodiscard]] std::uint64_t frames() const { return static_cast<std::uint64_t>(settings.slow) * settings.fast; }

  /// Grid point (slow * fast + fast position) that the scan is at when it takes the frame.
  [[nodiscard]] std::uint64_t point_of(std::uint64_t frame) const {
    const std::uint64_t line = frame / settings.fast;
    const std::uint64_t step = frame % settings.fast;
    return line * settings.fast + (settings.zigzag && line % 2 == 1 ? settings.fast - 1 - step : step);
  }

  /// The powder's share in the frame at a grid point, in mm.
  [[nodiscard]] double path_mm(std::size_t powder, std::uint64_t point) const {
    return paths_mm[powder * frames() + point];
  }

  void make_monitor();
  void make_positions();
  void choose_bad_pixels();
  void make_patterns();

  /// Fills `counts` [pixels] with one exposure. Any thread.
  template <typename T>
  void expose(std::uint64_t frame, std::span<T> counts) const;
  [[nodiscard]] std::vector<std::byte> encoded_frame(std::uint64_t frame) const;

  [[nodiscard]] std::vector<std::int32_t> calibrant_image() const;
  void write_master(const std::filesystem::path& file) const;
  void write_truth(const std::filesystem::path& file) const;
  void write_detector_group(hid_t instrument) const;
  void write_geometry_group(hid_t parent) const;

  SimulationSettings settings;
  integrator::Geometry geometry;
  kernels::PixelGeometry pixels;
  Phantom phantom;
  PoissonSampler poisson;
  std::vector<std::string> powder_names;
  std::vector<double> slow_positions;     ///< [slow] degrees of rotation, or mm
  std::vector<double> fast_positions;     ///< [fast] mm
  std::vector<double> phase_maps;         ///< [powders, y, x] mean density in each cell of the grid
  std::vector<double> map_x_mm;           ///< [x]
  std::vector<double> map_y_mm;           ///< [y]
  std::vector<double> paths_mm;           ///< [powders, slow, fast]
  std::vector<double> monitor;            ///< [frames] relative incident flux, 1 on average
  std::vector<std::uint32_t> pixel_mask;  ///< [pixels] mask_gap, mask_dead
  std::vector<std::uint8_t> mask;         ///< [pixels] 1 where pixel_mask is set
  std::vector<std::uint64_t> hot;         ///< pixel indices, rising
  std::vector<std::uint64_t> dead;
  std::vector<std::uint64_t> saturated;  ///< gaps and hot pixels: the type's maximum in every frame
  std::vector<float> factor;             ///< [pixels] solid angle (and polarisation) that shape the images
  LineWidth line_width;
  TwoThetaGrid grid;
  std::vector<std::vector<double>> patterns;  ///< powders in counts per pixel and mm, then the background in counts
  std::vector<float> images;                  ///< [powders + 1, pixels] what pixels count under `patterns`
};

Simulation::Impl::Impl(SimulationSettings given) : settings(std::move(given)), phantom(pellet_phantom()) {
  check_settings(settings);
  geometry = make_geometry(settings);
  pixels = integrator::pixel_geometry(geometry);
  for (const PowderOfPhantom& powder : powders_of_phantom) powder_names.emplace_back(powder.name);
  ANNULUS_EXPECT(powder_names.size() == phantom.powders());
  make_monitor();
  make_positions();
  choose_bad_pixels();
  make_patterns();
}

void Simulation::Impl::make_monitor() {
  // Log-normal: its mean is 1 and it never reaches 0.
  const double sigma = settings.monitor_fluctuation;
  Random random(settings.seed, monitor_stream);
  monitor.resize(frames());
  for (double& value : monitor) value = std::exp(sigma * random.normal() - 0.5 * sigma * sigma);
}

void Simulation::Impl::make_positions() {
  // A tenth more than the sample: its edge is seen on both sides, as FBP needs.
  const double width_mm = 2.2 * phantom.radius_mm();
  const double fast_step_mm = width_mm / settings.fast;
  fast_positions = centred_positions(settings.fast, fast_step_mm);
  map_x_mm = fast_positions;
  const bool tomo = settings.kind == mapping::ScanKind::tomo;
  if (tomo) {
    slow_positions.resize(settings.slow);
    for (std::uint32_t line = 0; line < settings.slow; ++line) {
      slow_positions[line] = line * settings.rotation_range_deg / settings.slow;
    }
    map_y_mm = fast_positions;  // the cells of a reconstruction: as many and as wide as the translations
  } else {
    slow_positions = centred_positions(settings.slow, width_mm / settings.slow);
    map_y_mm = slow_positions;
  }

  const double slow_step_mm = tomo ? fast_step_mm : width_mm / settings.slow;
  const std::size_t lines = phantom.powders() * map_y_mm.size();
  phase_maps.resize(lines * map_x_mm.size());
#pragma omp parallel for
  for (std::size_t line = 0; line < lines; ++line) {
    const std::size_t powder = line / map_y_mm.size();
    const double y_mm = map_y_mm[line % map_y_mm.size()];
    for (std::size_t x = 0; x < map_x_mm.size(); ++x) {
      phase_maps[line * map_x_mm.size() + x] =
          phantom.mean_density(powder, map_x_mm[x], y_mm, fast_step_mm, slow_step_mm);
    }
  }
  if (tomo) {
    for (std::size_t powder = 0; powder < phantom.powders(); ++powder) {
      for (const double rotation_deg : slow_positions) {
        for (const double translation_mm : fast_positions) {
          paths_mm.push_back(phantom.path_mm(powder, integrator::radians_of(rotation_deg), translation_mm));
        }
      }
    }
  } else {
    // A map looks at a slice 1 mm thick whose density does not change along the beam: the path is the cell's density.
    paths_mm = phase_maps;
  }
}

void Simulation::Impl::choose_bad_pixels() {
  const std::vector<std::uint8_t> gaps = geometry.detector.mask();
  ANNULUS_EXPECT(gaps.size() == pixels.pixels());
  pixel_mask.resize(pixels.pixels());
  std::vector<std::uint64_t> live;
  for (std::uint64_t pixel = 0; pixel < gaps.size(); ++pixel) {
    pixel_mask[pixel] = gaps[pixel] != 0 ? mask_gap : 0;
    if (gaps[pixel] == 0) live.push_back(pixel);
  }

  Random random(settings.seed, pixel_stream);
  const auto choose = [&](double share) {
    std::vector<std::uint64_t> chosen;
    const auto count = static_cast<std::size_t>(std::llround(share * static_cast<double>(gaps.size())));
    while (chosen.size() < count && !live.empty()) {
      std::swap(live[random.below(live.size())], live.back());
      chosen.push_back(live.back());
      live.pop_back();
    }
    std::sort(chosen.begin(), chosen.end());
    return chosen;
  };
  hot = choose(settings.hot_pixels);
  dead = choose(settings.dead_pixels);

  for (const std::uint64_t pixel : dead) pixel_mask[pixel] = mask_dead;
  mask.resize(pixels.pixels());
  saturated = hot;
  for (std::uint64_t pixel = 0; pixel < mask.size(); ++pixel) {
    mask[pixel] = pixel_mask[pixel] != 0 ? 1 : 0;
    if (pixel_mask[pixel] == mask_gap) saturated.push_back(pixel);
  }
}

void Simulation::Impl::make_patterns() {
  const double wavelength_angstrom = *geometry.wavelength_m * 1e10;
  // 5 pixels at least, so that a pixel and a bin take little off a line; 0.16 degrees, as a sample of some size gives.
  const double pixel_deg = integrator::degrees_of(std::max(pixels.pixel1_m, pixels.pixel2_m) / pixels.distance_m);
  const double fwhm_deg = std::max(0.16, 5.0 * pixel_deg);
  line_width = {.u = 0.6 * fwhm_deg * fwhm_deg, .v = 0.0, .w = fwhm_deg * fwhm_deg};
  // Linear interpolation on FWHM / 240 is right to 1e-5 of a line's height: h^2 / 8 * f'', f'' = 8 ln 2 / FWHM^2.
  grid.step_deg = fwhm_deg / 240.0;
  const double largest_rad = largest_two_theta_rad(pixels);
  grid.channels = static_cast<std::size_t>(integrator::degrees_of(largest_rad) / grid.step_deg) + 3;

  for (std::size_t powder = 0; powder < powder_names.size(); ++powder) {
    // Lines a little beyond the detector still reach it with their tails.
    const std::vector<Line> lines =
        powder_lines(make_crystal(powder_names[powder]), wavelength_angstrom, largest_rad + 0.02);
    patterns.push_back(powder_pattern(lines, wavelength_angstrom, line_width, grid));
    const double scale =
        settings.peak_counts * powders_of_phantom[powder].strength /
        (settings.kind == mapping::ScanKind::tomo ? phantom.longest_path_mm(powder) : phantom.highest_density(powder));
    for (double& value : patterns.back()) value *= scale;
  }
  patterns.push_back(background_pattern(settings.background_counts, grid));

  factor = integrator::pixel_normalisation(
      pixels, {.solid_angle = true, .polarisation_factor = settings.polarisation_factor}, {});
  images = render(pixels, patterns, grid, factor, mask);
}

template <typename T>
void Simulation::Impl::expose(std::uint64_t frame, std::span<T> counts) const {
  constexpr std::size_t block = 1024;  // the means of a block stay in the first-level cache
  constexpr std::uint64_t highest = std::numeric_limits<T>::max();
  const std::size_t pixel_count = pixels.pixels();
  const std::uint64_t point = point_of(frame);
  Random random(settings.seed, frame);
  std::array<float, block> means;

  for (std::size_t begin = 0; begin < pixel_count; begin += block) {
    const std::size_t size = std::min(block, pixel_count - begin);
    const auto flux = static_cast<float>(monitor[frame]);
    const float* background = images.data() + powder_names.size() * pixel_count + begin;
    for (std::size_t pixel = 0; pixel < size; ++pixel) means[pixel] = flux * background[pixel];
    for (std::size_t powder = 0; powder < powder_names.size(); ++powder) {
      const auto weight = static_cast<float>(monitor[frame] * path_mm(powder, point));
      if (weight == 0.0F) continue;
      const float* image = images.data() + powder * pixel_count + begin;
      for (std::size_t pixel = 0; pixel < size; ++pixel) means[pixel] += weight * image[pixel];
    }
    for (std::size_t pixel = 0; pixel < size; ++pixel) {
      counts[begin + pixel] = static_cast<T>(std::min(poisson(random, means[pixel]), highest));
    }
  }
  for (const std::uint64_t pixel : saturated) counts[pixel] = std::numeric_limits<T>::max();
}

std::vector<std::byte> Simulation::Impl::encoded_frame(std::uint64_t frame) const {
  const auto expose_as = [&]<typename T>() {
    std::vector<T> counts(pixels.pixels());
    expose(frame, std::span<T>(counts));
    return kernels::encode_bslz4(std::as_bytes(std::span<const T>(counts)), sizeof(T));
  };
  std::vector<std::byte> chunk = settings.type == kernels::PixelType::u16
                                     ? expose_as.template operator()<std::uint16_t>()
                                     : expose_as.template operator()<std::uint32_t>();
  const auto& corrupt = settings.corrupt_frames;
  if (std::find(corrupt.begin(), corrupt.end(), frame) != corrupt.end()) corrupt_chunk(chunk);
  return chunk;
}

std::vector<std::int32_t> Simulation::Impl::calibrant_image() const {
  const double wavelength_angstrom = *geometry.wavelength_m * 1e10;
  const std::vector<Line> lines =
      powder_lines(make_crystal("LaB6"), wavelength_angstrom, largest_two_theta_rad(pixels) + 0.02);
  std::vector<double> pattern = powder_pattern(lines, wavelength_angstrom, line_width, grid);
  const std::vector<double> background = background_pattern(0.01 * calibrant_peak_counts, grid);
  for (std::size_t channel = 0; channel < grid.channels; ++channel) {
    pattern[channel] = calibrant_peak_counts * pattern[channel] + background[channel];
  }
  const std::vector<float> expected = render(pixels, std::span(&pattern, 1), grid, factor, mask);

  Random random(settings.seed, calibrant_stream);
  std::vector<std::int32_t> image(pixels.pixels());
  for (std::size_t pixel = 0; pixel < image.size(); ++pixel) {
    image[pixel] = static_cast<std::int32_t>(poisson(random, expected[pixel]));
    // As Dectris does in signed images: -1 no pixel, -2 a pixel not to be used.
    if (pixel_mask[pixel] == mask_gap) image[pixel] = -1;
  }
  for (const std::uint64_t pixel : dead) image[pixel] = -2;
  for (const std::uint64_t pixel : hot) image[pixel] = -2;
  return image;
}

void Simulation::Impl::write_detector_group(hid_t instrument) const {
  const integrator::Detector& detector = geometry.detector;
  const hdf5::Group group = create_group(instrument, "detector", "NXdetector");
  const BeamCentre centre = beam_centre(detector);
  write_text(group.get(), "description", "simulated " + detector.name);
  write_scalar(group.get(), "x_pixel_size", detector.pixel2_m, "m");
  write_scalar(group.get(), "y_pixel_size", detector.pixel1_m, "m");
  write_scalar(group.get(), "detector_distance", geometry.distance_m, "m");
  write_scalar(group.get(), "beam_center_x", centre.column, "pixel");
  write_scalar(group.get(), "beam_center_y", centre.row, "pixel");
  write_text(group.get(), "sensor_material", detector.name.find("CdTe") != std::string::npos ? "CdTe" : "Si");
  write_scalar(group.get(), "bit_depth_image", static_cast<std::uint32_t>(8 * kernels::size_of(settings.type)));
  write_scalar(group.get(), "saturation_value", type_maximum(settings.type) - 1);
  write_array(group.get(), "pixel_mask", std::span(pixel_mask), {detector.rows, detector.columns});
  const hdf5::Group specific = create_group(group.get(), "detectorSpecific", "NXcollection");
  write_scalar(specific.get(), "x_pixels_in_detector", detector.columns);
  write_scalar(specific.get(), "y_pixels_in_detector", detector.rows);
  write_scalar(specific.get(), "nimages", frames());
  write_scalar(specific.get(), "photon_energy", 1e3 * settings.energy_kev, "eV");
  hdf5::check(
      H5Lcreate_hard(group.get(), "pixel_mask", specific.get(), "pixel_mask", no_link_settings, no_link_settings),
      "link pixel_mask");
}

void Simulation::Impl::write_master(const std::filesystem::path& path) const {
  hdf5::File file = create_file(path);
  write_attribute(file.get(), "NX_class", std::string("NXroot"));
  write_attribute(file.get(), "default", std::string("entry"));
  {
    const hdf5::Group entry = create_group(file.get(), "entry", "NXentry");
    write_attribute(entry.get(), "default", std::string("data"));
    const bool tomo = settings.kind == mapping::ScanKind::tomo;
    write_text(entry.get(), "title", tomo ? "simulated diffraction tomography" : "simulated diffraction map");

    const hdf5::Group data = create_group(entry.get(), "data", "NXdata");
    write_attribute(data.get(), "signal", std::string("data_000001"));
    const std::uint64_t files = (frames() + settings.frames_per_file - 1) / settings.frames_per_file;
    for (std::uint64_t index = 0; index < files; ++index) {
      const std::string name = data_file_name(index);
      const std::string link = name.substr(0, name.size() - 3);
      hdf5::check(H5Lcreate_external(name.c_str(), "/entry/data/data", data.get(), link.c_str(), no_link_settings,
                                     no_link_settings),
                  fmt::format("link '{}' in '{}'", name, path.string()));
    }

    const hdf5::Group instrument = create_group(entry.get(), "instrument", "NXinstrument");
    const hdf5::Group beam = create_group(instrument.get(), "beam", "NXbeam");
    write_scalar(beam.get(), "incident_wavelength", *geometry.wavelength_m * 1e10, "angstrom");
    write_scalar(beam.get(), "incident_energy", settings.energy_kev, "keV");
    write_detector_group(instrument.get());

    std::vector<double> slow_motor(frames());
    std::vector<double> fast_motor(frames());
    std::vector<double> counted = monitor;
    for (std::uint64_t frame = 0; frame < frames(); ++frame) {
      slow_motor[frame] = slow_positions[point_of(frame) / settings.fast];
      fast_motor[frame] = fast_positions[point_of(frame) % settings.fast];
    }
    for (const std::uint64_t frame : settings.dead_monitor_frames) counted[frame] = 0.0;
    const hdf5::Group sample = create_group(entry.get(), "sample", "NXsample");
    write_array<double>(sample.get(), tomo ? "rotation" : "slow", slow_motor, {frames()}, tomo ? "deg" : "mm");
    write_array<double>(sample.get(), tomo ? "translation" : "fast", fast_motor, {frames()}, "mm");
    const hdf5::Group monitor_group = create_group(entry.get(), "monitor", "NXmonitor");
    write_array<double>(monitor_group.get(), "data", counted, {frames()});
  }
  close_file(std::move(file), path);
}

void Simulation::Impl::write_geometry_group(hid_t parent) const {
  const hdf5::Group group = create_group(parent, "geometry", "NXcollection");
  write_text(group.get(), "detector", geometry.detector.name);
  write_text(group.get(), "poni", integrator::poni_text(geometry));
  write_scalar(group.get(), "distance", geometry.distance_m, "m");
  write_scalar(group.get(), "poni1", geometry.poni1_m, "m");
  write_scalar(group.get(), "poni2", geometry.poni2_m, "m");
  write_scalar(group.get(), "rot1", geometry.rot1_rad, "rad");
  write_scalar(group.get(), "rot2", geometry.rot2_rad, "rad");
  write_scalar(group.get(), "rot3", geometry.rot3_rad, "rad");
  write_scalar(group.get(), "wavelength", *geometry.wavelength_m, "m");
  write_scalar(group.get(), "pixel1", geometry.detector.pixel1_m, "m");
  write_scalar(group.get(), "pixel2", geometry.detector.pixel2_m, "m");
}

void Simulation::Impl::write_truth(const std::filesystem::path& path) const {
  hdf5::File file = create_file(path);
  {
    const hid_t root = file.get();
    const hsize_t powders = powder_names.size();
    const hsize_t slow = settings.slow;
    const hsize_t fast = settings.fast;
    write_attribute(root, "description",
                    std::string("integrated intensity / monitor at grid point (slow, fast) = sum over powders of "
                                "path_integrals[powder, slow, fast] * patterns[powder] + background"));
    write_texts(root, "names", powder_names);
    write_scalar(root, "seed", settings.seed);
    write_scalar(root, "solid_angle", std::uint8_t{1});
    if (settings.polarisation_factor) write_scalar(root, "polarisation_factor", *settings.polarisation_factor);

    std::vector<double> two_theta_axis_deg(grid.channels);
    for (std::size_t channel = 0; channel < grid.channels; ++channel) {
      two_theta_axis_deg[channel] = static_cast<double>(channel) * grid.step_deg;
    }
    std::vector<double> powder_values;
    for (std::size_t powder = 0; powder < powders; ++powder) {
      powder_values.insert(powder_values.end(), patterns[powder].begin(), patterns[powder].end());
    }
    write_array<double>(root, "two_theta_deg", two_theta_axis_deg, {grid.channels}, "deg");
    write_array<double>(root, "patterns", powder_values, {powders, grid.channels}, "counts/mm");
    write_array<double>(root, "background", patterns.back(), {grid.channels}, "counts");

    const hdf5::Group images_group = create_group(root, "images", "NXcollection");
    for (std::size_t powder = 0; powder <= powders; ++powder) {
      write_array(images_group.get(), powder < powders ? powder_names[powder] : "background",
                  std::span(images).subspan(powder * pixels.pixels(), pixels.pixels()), {pixels.rows, pixels.columns},
                  powder < powders ? "counts/mm" : "counts");
    }
    const double wavelength_angstrom = *geometry.wavelength_m * 1e10;
    const hdf5::Group lines_group = create_group(root, "lines", "NXcollection");
    for (const std::string& name : powder_names) {
      std::vector<double> d_angstrom;
      std::vector<double> intensity;
      for (const Line& line : powder_lines(make_crystal(name), wavelength_angstrom, largest_two_theta_rad(pixels))) {
        d_angstrom.push_back(line.d_angstrom);
        intensity.push_back(line.intensity);
      }
      const hdf5::Group group = create_group(lines_group.get(), name, "NXcollection");
      write_array<double>(group.get(), "d", d_angstrom, {d_angstrom.size()}, "angstrom");
      write_array<double>(group.get(), "intensity", intensity, {intensity.size()});
    }

    // By grid point, not by frame: a zigzag scan takes them in another order.
    std::vector<double> monitor_map(frames());
    for (std::uint64_t frame = 0; frame < frames(); ++frame) monitor_map[point_of(frame)] = monitor[frame];
    const bool tomo = settings.kind == mapping::ScanKind::tomo;
    write_array<double>(root, "path_integrals", paths_mm, {powders, slow, fast}, "mm");
    write_array<double>(root, "monitor", monitor_map, {slow, fast});
    write_array<double>(root, "slow", slow_positions, {slow}, tomo ? "deg" : "mm");
    write_array<double>(root, "fast", fast_positions, {fast}, "mm");
    write_array<double>(root, "phase_maps", phase_maps, {powders, map_y_mm.size(), map_x_mm.size()});
    write_array<double>(root, "map_x", map_x_mm, {map_x_mm.size()}, "mm");
    write_array<double>(root, "map_y", map_y_mm, {map_y_mm.size()}, "mm");
    if (tomo) {
      write_attribute(root, "projection",
                      std::string("the beam at (rotation, translation) is the line x cos(rotation) + y sin(rotation) = "
                                  "translation"));
    }

    write_geometry_group(root);
    write_array<std::uint64_t>(root, "hot_pixels", hot, {hot.size()});
    write_array<std::uint64_t>(root, "dead_pixels", dead, {dead.size()});
    write_array<std::uint64_t>(root, "corrupt_frames", settings.corrupt_frames, {settings.corrupt_frames.size()});
    write_array<std::uint64_t>(root, "missing_frames", settings.missing_frames, {settings.missing_frames.size()});
    write_array<std::uint64_t>(root, "dead_monitor_frames", settings.dead_monitor_frames,
                               {settings.dead_monitor_frames.size()});
  }
  close_file(std::move(file), path);
}

Simulation::Simulation(SimulationSettings settings) : impl_(std::make_unique<Impl>(std::move(settings))) {}
Simulation::~Simulation() = default;
Simulation::Simulation(Simulation&&) noexcept = default;
Simulation& Simulation::operator=(Simulation&&) noexcept = default;

std::uint64_t Simulation::frames() const { return impl_->frames(); }

std::uint64_t Simulation::data_files() const {
  return (frames() + impl_->settings.frames_per_file - 1) / impl_->settings.frames_per_file;
}

std::uint64_t Simulation::write_data_file(std::uint64_t index, const std::filesystem::path& folder) const {
  ANNULUS_EXPECT(index < data_files());
  const Impl& simulation = *impl_;
  const std::uint64_t first = index * simulation.settings.frames_per_file;
  const std::uint64_t end = std::min(first + simulation.settings.frames_per_file, frames());
  std::filesystem::create_directories(folder);
  const std::filesystem::path path = folder / data_file_name(index);

  hdf5::File file = create_file(path);
  {
    write_attribute(file.get(), "NX_class", std::string("NXroot"));
    const hdf5::Group entry = create_group(file.get(), "entry", "NXentry");
    const hdf5::Group data = create_group(entry.get(), "data", "NXdata");
    write_attribute(data.get(), "signal", std::string("data"));
    const std::array<hsize_t, 3> shape{end - first, simulation.pixels.rows, simulation.pixels.columns};
    const auto space = hdf5::own<hdf5::Dataspace>(H5Screate_simple(3, shape.data(), nullptr), "make a dataspace");
    const hdf5::PropertyList properties = frame_dataset_properties({1, shape[1], shape[2]});
    const hid_t type = simulation.settings.type == kernels::PixelType::u16 ? H5T_STD_U16LE : H5T_STD_U32LE;
    const auto frames_dataset = hdf5::own<hdf5::Dataset>(
        H5Dcreate2(data.get(), "data", type, space.get(), H5P_DEFAULT, properties.get(), H5P_DEFAULT),
        fmt::format("create the frames of '{}'", path.string()));
    write_attribute(frames_dataset.get(), "image_nr_low", first + 1);
    write_attribute(frames_dataset.get(), "image_nr_high", end);

    // Threads make frames at once and write them in turn: one frame a thread is held, and the file is the same for any
    // number of threads. After a failure the rest is skipped; an exception must not leave the region.
    const auto& missing = simulation.settings.missing_frames;
    std::exception_ptr failure;
    bool failed = false;
#pragma omp parallel for ordered schedule(static, 1)
    for (std::uint64_t frame = first; frame < end; ++frame) {
      std::vector<std::byte> chunk;
      std::exception_ptr failure_here;
      const bool written = std::find(missing.begin(), missing.end(), frame) == missing.end();
      try {
        if (written) chunk = simulation.encoded_frame(frame);
      } catch (...) {
        failure_here = std::current_exception();
      }
#pragma omp ordered
      {
        if (!failed && written) {
          try {
            if (failure_here) std::rethrow_exception(failure_here);
            const std::array<hsize_t, 3> offset{frame - first, 0, 0};
            hdf5::check(H5Dwrite_chunk(frames_dataset.get(), H5P_DEFAULT, 0, offset.data(), chunk.size(), chunk.data()),
                        fmt::format("write frame {} to '{}'", frame, path.string()));
          } catch (...) {
            failure = std::current_exception();
            failed = true;
          }
        }
      }
    }
    if (failure) std::rethrow_exception(failure);
  }
  close_file(std::move(file), path);
  return std::filesystem::file_size(path);
}

void Simulation::write_companions(const std::filesystem::path& folder) const {
  const Impl& simulation = *impl_;
  std::filesystem::create_directories(folder);
  simulation.write_master(folder / "scan_master.h5");
  simulation.write_truth(folder / "truth.h5");
  integrator::write_poni(simulation.geometry, folder / "geometry.poni");
  write_tiff(folder / "mask.tif", simulation.pixels.rows, simulation.pixels.columns,
             std::span<const std::uint8_t>(simulation.mask));
  write_tiff(folder / "calibrant.tif", simulation.pixels.rows, simulation.pixels.columns,
             std::span<const std::int32_t>(simulation.calibrant_image()));
}

}  // namespace annulus::simulation
