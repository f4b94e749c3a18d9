#include "mpi_driver/integration_options.hpp"

#include <array>
#include <cmath>
#include <filesystem>
#include <numbers>
#include <system_error>

#include <fmt/format.h>

#include "base/errors.hpp"
#include "mpi_driver/option_parsing.hpp"

namespace annulus::driver {
namespace po = boost::program_options;
namespace {

std::string unit_names() {
  std::string names;
  for (const integrator::RadialUnit& unit : integrator::radial_units()) {
    names += names.empty() ? "" : ", ";
    names += unit.name;
  }
  return names;
}

/// Images as pyFAI-diffmap takes them, too: one list with commas. A file whose name holds a comma is one image.
std::vector<std::string> split_at_commas(const std::vector<std::string>& given) {
  std::vector<std::string> all;
  for (const std::string& text : given) {
    std::error_code error;
    if (text.find(',') == std::string::npos || std::filesystem::exists(text, error)) {
      if (!text.empty()) all.push_back(text);
      continue;
    }
    for (std::size_t begin = 0; begin <= text.size();) {
      const std::size_t comma = std::min(text.find(',', begin), text.size());
      if (comma > begin) all.push_back(text.substr(begin, comma - begin));
      begin = comma + 1;
    }
  }
  return all;
}

ImageFilter parse_image_filter(const std::string& name, std::string_view option) {
  if (name == "mean") return ImageFilter::mean;
  if (name == "median") return ImageFilter::median;
  if (name == "clipped") return ImageFilter::clipped;
  throw InputError(fmt::format("{}: found \"{}\", expected mean, median or clipped", option, name));
}

kernels::Convention parse_convention(const std::string& name) {
  for (const auto convention : {kernels::Convention::exact, kernels::Convention::pyfai}) {
    if (name == kernels::name_of(convention)) return convention;
  }
  throw InputError(fmt::format("--convention: found \"{}\", expected exact or pyfai", name));
}

}  // namespace

kernels::Splitting parse_splitting(std::string_view name, std::string_view option) {
  using kernels::Splitting;
  for (const auto splitting : {Splitting::no, Splitting::bbox, Splitting::pseudo, Splitting::full}) {
    if (name == kernels::name_of(splitting)) return splitting;
  }
  throw InputError(fmt::format("{}: found \"{}\", expected no, bbox, pseudo or full", option, name));
}

kernels::ErrorModel parse_error_model(std::string_view name, std::string_view option) {
  using kernels::ErrorModel;
  for (const auto model :
       {ErrorModel::no, ErrorModel::variance, ErrorModel::poisson, ErrorModel::azimuthal, ErrorModel::hybrid}) {
    if (name == kernels::name_of(model)) return model;
  }
  throw InputError(fmt::format("{}: found \"{}\", expected no, variance, poisson, azimuthal or hybrid", option, name));
}

std::pair<double, double> checked_azimuth_range(std::pair<double, double> range, std::string_view azimuthal_unit,
                                                std::string_view option) {
  const auto [low, high] = range;
  const integrator::RadialUnit& unit = integrator::radial_unit(azimuthal_unit);
  if (!is_azimuth(unit.space)) {
    if (std::isfinite(low) && std::isfinite(high) && low < high) return range;
    throw InputError(
        fmt::format("{}: found {} to {} in {}, expected the lower end first", option, low, high, unit.name));
  }
  const double circle = unit.scale * 2.0 * std::numbers::pi;
  if (!std::isfinite(low) || !std::isfinite(high) || low == high || std::abs(high - low) > circle) {
    throw InputError(fmt::format("{}: found {} to {} {}, expected a range that is not empty and at most {} wide",
                                 option, low, high, unit.scale == 1.0 ? "rad" : "degrees",
                                 unit.scale == 1.0 ? "2 pi" : "360 degrees"));
  }
  return range;
}

kernels::QuantileRange checked_quantiles(double lower, double upper, std::string_view option) {
  if (!(lower >= 0.0 && lower <= upper && upper <= 1.0)) {
    throw InputError(
        fmt::format("{}: found {} and {}, expected two numbers from 0 to 1, the lower first", option, lower, upper));
  }
  return {lower, upper};
}

po::options_description integration_option_group() {
  const auto text = [] { return po::value<std::string>(); };
  const auto number = [] { return po::value<double>(); };
  const auto list = [] { return po::value<std::vector<std::string>>()->composing(); };
  po::options_description group("Integration");
  auto add = group.add_options();
  add("config", text(), "settings of pyFAI-diffmap or pyFAI-integrate (JSON); options given here win");
  add("poni,p", text(), "geometry (PONI, Fit2D or ImageD11 file)");
  add("npt,c", text(), "number of radial bins (default: 1000)");
  add("npt-azim", text(), "number of azimuthal bins (default: one pattern of all azimuths)");
  add("unit", text(), fmt::format("radial unit (default: 2th_deg): {}", unit_names()).c_str());
  add("azimuthal-unit", text(),
      "unit of the other axis, of --npt-azim and --azimuth-range (default: chi_deg): the same");
  add("incident-angle", number(), "of the beam to the sample's surface, degrees: for the units qip, qoop, ...");
  add("tilt-angle", number(), "of the sample's surface about the beam, degrees");
  add("sample-orientation", text(), "of the sample in the image, 1 to 8 as EXIF has them (default: 1)");
  add("radial-range", text(), "LO HI in the radial unit (default: the whole detector)");
  add("azimuth-range", text(), "LO HI in the azimuthal unit (default: all azimuths)");
  add("chi-disc-at-zero", "azimuths from 0 to 360 degrees instead of -180 to 180");
  add("allow-negative", "bins may reach below 0 of the radial unit");
  add("split", text(), "pixel splitting (default: bbox): no, bbox, pseudo, full");
  add("convention", text(), "exact (default), or pyfai with the defects of its bins");
  add("error-model", text(), "error model (default: no): no, variance, poisson, azimuthal, hybrid");
  add("variance", text(), "image of the counts' variance, for the error model variance");
  add("std", "write the standard deviation, too");
  add("sigma-clip", text(),
      "[THRES] leave out pixels so many standard deviations from their bin's mean (default: 5; errors are Poisson's "
      "unless "
      "--error-model says otherwise)");
  add("sigma-clip-cycles", text(), "at most so many rounds of it (default: 5)");
  add("median", "the median of each bin's pixels instead of their mean");
  add("quantiles", text(), "LO HI from 0 to 1: the mean of the pixels between two quantiles");
  add("no-solid-angle", "do not correct for the solid angle");
  add("polarization", number(), "degree of linear polarisation, -1 to 1 (default: no correction)");
  add("polarization-offset", number(), "angle from the horizontal to its plane, degrees");
  add("absorption", "correct for what the sensor absorbs; the geometry names sensor and wavelength");
  add("transmission", number(), "the same with this transmission of the sensor at normal incidence, 0 to 1");
  add("normalization", number(), "divisor of all frames, beside the monitor");
  add("dark,d", list(), "dark image; several are combined");
  add("dark-filter", text(), "how: mean (default), median, clipped");
  add("flat,f", list(), "flat-field image; several are combined");
  add("flat-filter", text(), "how: mean (default), median, clipped");
  add("mask,m", list(), "mask image, nonzero = unused; several are or-ed; they replace the detector's own mask");
  add("pixel-mask", "leave out what the pixel_mask of the first HDF5 input (NXdetector) marks");
  add("no-detector-mask", "use the pixels that the detector's own mask leaves out");
  add("dummy", number(), "value of pixels to leave out");
  add("delta-dummy", number(), "leave out values this close to --dummy");
  return group;
}

const std::vector<std::string>& integration_pairs() {
  static const std::vector<std::string> pairs = {"--radial-range", "--azimuth-range", "--quantiles"};
  return pairs;
}

const std::vector<std::pair<std::string, std::string>>& integration_optional_numbers() {
  static const std::vector<std::pair<std::string, std::string>> options = {{"--sigma-clip", "5"}};
  return options;
}

void apply_integration_options(const po::variables_map& given, IntegrationOptions& options, Problems& problems) {
  integrator::IntegrationSettings& settings = options.settings;
  const auto has = [&](const char* name) { return given.count(name) > 0; };
  const auto text = [&](const char* name) { return given[name].as<std::string>(); };
  const auto number = [&](const char* name) { return given[name].as<double>(); };
  /// Runs `apply` for an option that is given.
  const auto when = [&](const char* name, const auto& apply) {
    if (has(name)) problems.collect(apply);
  };

  when("poni", [&] {
    options.poni = text("poni");
    options.geometry_json.clear();
    if (options.poni.empty()) throw InputError("--poni is empty, expected the geometry, a PONI file");
  });
  when("npt", [&] { settings.bins = static_cast<std::uint32_t>(parse_count(text("npt"), "--npt", 1, 10'000'000)); });
  when("npt-azim", [&] {
    const std::uint64_t bins = parse_count(text("npt-azim"), "--npt-azim", 1, 1'000'000);
    settings.azimuthal_bins = bins == 1 ? 0 : static_cast<std::uint32_t>(bins);  // 1 is a pattern of all azimuths
  });
  when("unit", [&] { settings.unit = integrator::radial_unit(text("unit")).name; });
  when("radial-range", [&] { settings.radial_range = parse_pair(text("radial-range"), "--radial-range"); });
  when("azimuthal-unit", [&] { settings.azimuthal_unit = integrator::radial_unit(text("azimuthal-unit")).name; });
  when("azimuth-range", [&] {
    settings.azimuth_range = checked_azimuth_range(parse_any_pair(text("azimuth-range"), "--azimuth-range"),
                                                   settings.azimuthal_unit, "--azimuth-range");
  });
  if (has("incident-angle")) settings.sample.incident_angle_rad = integrator::radians_of(number("incident-angle"));
  if (has("tilt-angle")) settings.sample.tilt_angle_rad = integrator::radians_of(number("tilt-angle"));
  when("sample-orientation", [&] {
    settings.sample.orientation =
        static_cast<int>(parse_count(text("sample-orientation"), "--sample-orientation", 1, 8));
  });
  if (has("chi-disc-at-zero")) settings.azimuth_cut = kernels::AzimuthCut::at_zero;
  if (has("allow-negative")) settings.negative_radial = true;
  when("split", [&] { settings.splitting = parse_splitting(text("split"), "--split"); });
  when("convention", [&] { settings.convention = parse_convention(text("convention")); });
  when("error-model", [&] {
    settings.error_model = parse_error_model(text("error-model"), "--error-model");
    options.error_model_given = true;
  });
  when("variance", [&] {
    options.variance = text("variance");
    if (options.variance.empty()) throw InputError("--variance is empty, expected an image");
    if (!has("error-model")) {
      settings.error_model = kernels::ErrorModel::variance;
      options.error_model_given = true;
    }
  });
  if (has("std")) options.std = true;

  constexpr std::array filters = {"sigma-clip", "median", "quantiles"};
  int filters_given = 0;
  for (const char* filter : filters) filters_given += has(filter) ? 1 : 0;
  if (filters_given > 1) problems.add("--sigma-clip, --median and --quantiles exclude each other");
  when("sigma-clip", [&] {
    kernels::SigmaClip clip;
    clip.threshold = parse_number(text("sigma-clip"), "--sigma-clip");
    if (!(clip.threshold >= 0.0)) {
      throw InputError(fmt::format("--sigma-clip: found {}, expected a threshold of 0 or more", clip.threshold));
    }
    settings.filter = clip;
  });
  when("sigma-clip-cycles", [&] {
    const auto cycles =
        static_cast<std::uint32_t>(parse_count(text("sigma-clip-cycles"), "--sigma-clip-cycles", 1, 1000));
    auto* clip = std::get_if<kernels::SigmaClip>(&settings.filter);
    if (clip == nullptr) throw InputError("--sigma-clip-cycles is given without --sigma-clip");
    clip->cycles = cycles;
  });
  if (has("median")) settings.filter = kernels::QuantileRange{};
  when("quantiles", [&] {
    const auto [lower, upper] = parse_any_pair(text("quantiles"), "--quantiles");
    settings.filter = checked_quantiles(lower, upper, "--quantiles");
  });

  integrator::CorrectionSettings& corrections = settings.corrections;
  if (has("no-solid-angle")) corrections.solid_angle = false;
  if (has("polarization")) corrections.polarisation_factor = number("polarization");
  if (has("polarization-offset")) {
    corrections.polarisation_offset_rad = integrator::radians_of(number("polarization-offset"));
    if (!corrections.polarisation_factor) problems.add("--polarization-offset is given without --polarization");
  }
  if (has("absorption") && has("transmission")) problems.add("--absorption and --transmission exclude each other");
  if (has("absorption")) options.absorption = true;
  if (has("transmission")) corrections.transmission_normal = number("transmission");
  if (has("normalization")) settings.normalisation_factor = number("normalization");
  if (has("dark")) options.dark = split_at_commas(given["dark"].as<std::vector<std::string>>());
  if (has("flat")) options.flat = split_at_commas(given["flat"].as<std::vector<std::string>>());
  when("dark-filter", [&] { options.dark_filter = parse_image_filter(text("dark-filter"), "--dark-filter"); });
  when("flat-filter", [&] { options.flat_filter = parse_image_filter(text("flat-filter"), "--flat-filter"); });
  if (has("dark-filter") && options.dark.empty()) problems.add("--dark-filter is given without --dark");
  if (has("flat-filter") && options.flat.empty()) problems.add("--flat-filter is given without --flat");
  if (has("mask")) options.masks = split_at_commas(given["mask"].as<std::vector<std::string>>());
  if (has("pixel-mask")) options.pixel_mask = true;
  if (has("no-detector-mask")) options.detector_mask = false;
  if (has("dummy")) settings.dummy = number("dummy");
  if (has("delta-dummy")) {
    settings.delta_dummy = number("delta-dummy");
    if (!settings.dummy) problems.add("--delta-dummy is given without --dummy");
  }
}

void settle_integration_options(IntegrationOptions& options, Problems& problems) {
  integrator::IntegrationSettings& settings = options.settings;
  const integrator::CorrectionSettings& corrections = settings.corrections;
  if (std::holds_alternative<kernels::SigmaClip>(settings.filter) && settings.error_model == kernels::ErrorModel::no) {
    // As in pyFAI, where clipping without an error model takes Poisson's.
    if (options.error_model_given) problems.add("--sigma-clip needs an error model, but --error-model is no");
    settings.error_model = kernels::ErrorModel::poisson;
  }
  if (settings.error_model == kernels::ErrorModel::variance && options.variance.empty()) {
    problems.add("the error model variance needs --variance, an image of the counts' variance");
  }
  if (settings.error_model != kernels::ErrorModel::variance && !options.variance.empty()) {
    problems.add(fmt::format("--variance is for the error model variance, but --error-model is {}",
                             name_of(settings.error_model)));
  }
  if (options.std && settings.error_model == kernels::ErrorModel::no) problems.add("--std needs an error model");
  const integrator::SamplePose& sample = settings.sample;
  if (!std::isfinite(sample.incident_angle_rad) || !std::isfinite(sample.tilt_angle_rad)) {
    problems.add("--incident-angle, --tilt-angle: expected finite angles");
  }
  const integrator::RadialUnit& unit = integrator::radial_unit(settings.unit);
  const integrator::RadialUnit& azimuthal_unit = integrator::radial_unit(settings.azimuthal_unit);
  if (sample != integrator::SamplePose{} && unit.frame == integrator::UnitFrame::laboratory &&
      azimuthal_unit.frame == integrator::UnitFrame::laboratory) {
    problems.add(
        fmt::format("--incident-angle, --tilt-angle and --sample-orientation have no part in --unit {}: they "
                    "are for units that are seen from the sample",
                    unit.name));
  }
  if (settings.azimuthal_bins > 0 && unit.axis_name == azimuthal_unit.axis_name) {
    problems.add(fmt::format("--unit {} and --azimuthal-unit {}: expected two different coordinates with --npt-azim",
                             unit.name, azimuthal_unit.name));
  }
  constexpr std::uint64_t most_rows = std::uint64_t{1} << 31U;
  if (std::uint64_t{settings.bins} * std::max<std::uint32_t>(settings.azimuthal_bins, 1) > most_rows) {
    problems.add(fmt::format("--npt {} times --npt-azim {}: expected at most 2^31 bins", settings.bins,
                             settings.azimuthal_bins));
  }
  if (corrections.polarisation_factor &&
      !(*corrections.polarisation_factor >= -1.0 && *corrections.polarisation_factor <= 1.0)) {
    problems.add(
        fmt::format("--polarization: found {}, expected a number from -1 to 1", *corrections.polarisation_factor));
  }
  if (!std::isfinite(corrections.polarisation_offset_rad)) {
    problems.add("--polarization-offset: expected a finite angle");
  }
  if (corrections.transmission_normal &&
      !(*corrections.transmission_normal >= 0.0 && *corrections.transmission_normal <= 1.0)) {
    problems.add(
        fmt::format("--transmission: found {}, expected a number from 0 to 1", *corrections.transmission_normal));
  }
  if (!std::isfinite(settings.normalisation_factor) || settings.normalisation_factor == 0.0) {
    problems.add(
        fmt::format("--normalization: found {}, expected a number other than 0", settings.normalisation_factor));
  }
  if (settings.dummy && !(settings.delta_dummy >= 0.0)) {
    problems.add(fmt::format("--delta-dummy: found {}, expected 0 or more", settings.delta_dummy));
  }
  if (!options.detector_mask && !options.masks.empty()) {
    problems.add("--no-detector-mask is given with --mask, which replaces the detector's mask anyway");
  }
}

}  // namespace annulus::driver
