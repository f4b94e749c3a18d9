#include "mpi_driver/plan.hpp"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>

#include <fmt/format.h>

#include "base/errors.hpp"
#include "integrator/geometry_files.hpp"
#include "integrator/image_combination.hpp"
#include "integrator/sensor.hpp"
#include "mapping/nexus_detector.hpp"

namespace annulus::driver {
namespace {
namespace fs = std::filesystem;
using Json = nlohmann::json;

std::string shape_text(std::uint64_t rows, std::uint64_t columns) { return fmt::format("{} x {}", rows, columns); }

/// FNV-1a, 64 bit: tells images apart in the fingerprint of a run.
template <typename Element>
std::string checksum(const std::vector<Element>& elements) {
  std::uint64_t hash = 0xcbf29ce484222325U;
  const auto* bytes = reinterpret_cast<const unsigned char*>(elements.data());
  for (std::size_t place = 0; place < elements.size() * sizeof(Element); ++place) {
    hash = (hash ^ bytes[place]) * 0x100000001b3U;
  }
  return fmt::format("{:016x}", hash);
}

integrator::GeometryFileOptions file_options(const PlanFrames& frames, const fs::path& folder) {
  integrator::GeometryFileOptions options;
  options.image_rows = frames.rows;
  options.image_columns = frames.columns;
  options.detector_files = mapping::detector_files();
  options.detector_files.folder = folder;
  return options;
}

/// The geometry file, or the configuration's PONI dictionary, or the former with the latter's entries in their places.
integrator::Geometry geometry_of(const IntegrationOptions& options, const PlanFrames& frames) {
  const integrator::GeometryFileOptions reading = file_options(frames, options.poni.parent_path());
  if (options.geometry_json.empty()) return integrator::read_geometry(options.poni, reading);
  if (options.poni.empty()) {
    return integrator::parse_geometry(options.geometry_json, options.geometry_source, reading);
  }
  Json poni = Json::parse(integrator::poni_json(integrator::read_geometry(options.poni, reading)));
  Json own = Json::parse(options.geometry_json);
  if (own.contains("distance")) {
    own["dist"] = own["distance"];
    own.erase("distance");
  }
  poni.update(own);
  return integrator::parse_geometry(poni.dump(), options.geometry_source, reading);
}

std::string geometry_name(const IntegrationOptions& options) {
  return options.geometry_json.empty() ? options.poni.string() : options.geometry_source;
}

void fit_detector(const IntegrationOptions& options, const PlanFrames& frames, integrator::Detector& detector,
                  Problems& problems) {
  if (frames.rows == 0) return;
  if (std::optional<integrator::Detector> fitting = integrator::binned_to(detector, frames.rows, frames.columns)) {
    detector = std::move(*fitting);
  } else {
    problems.add(fmt::format("{}: found frames of {} pixels, expected {} as the detector {} in {} has", frames.source,
                             shape_text(frames.rows, frames.columns), shape_text(detector.rows, detector.columns),
                             detector.name, geometry_name(options)));
  }
}

/// An image that has the detector's shape.
mapping::Image detector_image(const std::string& url, const char* option, const integrator::Detector& detector) {
  mapping::Image image = mapping::read_image(url);
  if (image.rows != detector.rows || image.columns != detector.columns) {
    throw InputError(fmt::format("{} {}: found {} pixels, expected {} as the detector {} has", option, url,
                                 shape_text(image.rows, image.columns), shape_text(detector.rows, detector.columns),
                                 detector.name));
  }
  return image;
}

std::vector<float> as_float(const mapping::Image& image) {
  std::vector<float> values(image.values.size());
  std::transform(image.values.begin(), image.values.end(), values.begin(),
                 [](double value) { return static_cast<float>(value); });
  return values;
}

/// Several images of the detector's shape as one, [pixels]; empty for none.
std::vector<float> combined(const std::vector<std::string>& urls, ImageFilter filter, const char* option,
                            const integrator::Detector& detector, Problems& problems) {
  if (urls.empty()) return {};
  if (urls.size() == 1 && filter != ImageFilter::mean) {
    problems.add(fmt::format("{}-filter needs several images: the frames of one file are averaged", option));
  }
  integrator::CombinationSettings settings;
  switch (filter) {
    case ImageFilter::mean: settings.how = integrator::Combination::mean; break;
    case ImageFilter::median: settings.how = integrator::Combination::median; break;
    case ImageFilter::clipped: settings.how = integrator::Combination::clipped_mean; break;
  }
  // Every image is looked at first, so that all that is wrong is told; the last one read stays at hand, which is all
  // that the mean needs.
  Problems found;
  std::size_t at_hand = urls.size();
  std::vector<float> values;
  const auto load = [&](std::size_t index) {
    if (at_hand == index) return;
    values = as_float(detector_image(urls[index], option, detector));
    at_hand = index;
  };
  if (urls.size() > 1) {
    for (std::size_t index = urls.size(); index-- > 0;) found.collect([&] { load(index); });
  }
  for (const std::string& message : found.messages()) problems.add(message);
  if (found.any()) return {};
  std::vector<float> result;
  problems.collect([&] {
    integrator::ImageStack stack{urls.size(), detector.rows, detector.columns, {}};
    stack.read = [&](std::size_t index, std::uint32_t first_row, std::span<float> out) {
      load(index);
      std::copy_n(values.begin() + static_cast<std::ptrdiff_t>(first_row) * detector.columns, out.size(), out.begin());
    };
    result = integrator::combine_images(stack, settings);
  });
  return result;
}

/// The pixel mask in the first input in HDF5: where NeXus and Dectris have it.
std::vector<std::uint8_t> pixel_mask_of(const std::vector<mapping::FrameList::Input>& inputs,
                                        const integrator::Detector& detector) {
  const auto input =
      std::find_if(inputs.begin(), inputs.end(), [](const auto& candidate) { return !candidate.dataset.empty(); });
  if (input == inputs.end()) throw InputError("--pixel-mask: the inputs are no HDF5 files");
  mapping::PixelMask mask = mapping::read_pixel_mask(input->file.string());
  if (mask.rows != detector.rows || mask.columns != detector.columns) {
    throw InputError(fmt::format("--pixel-mask {}: found {} pixels, expected {} as the detector {} has",
                                 input->file.string(), shape_text(mask.rows, mask.columns),
                                 shape_text(detector.rows, detector.columns), detector.name));
  }
  return std::move(mask.pixels);
}

std::vector<std::uint8_t> mask_of(const IntegrationOptions& options, const PlanFrames& frames,
                                  const integrator::Detector& detector, Problems& problems) {
  const std::size_t pixels = std::size_t{detector.rows} * detector.columns;
  const bool own = options.masks.empty() && options.detector_mask;
  std::vector<std::uint8_t> mask = own ? detector.mask() : std::vector<std::uint8_t>();
  mask.resize(pixels);
  for (const std::string& url : options.masks) {
    problems.collect([&] {
      const mapping::Image image = detector_image(url, "--mask", detector);
      for (std::size_t pixel = 0; pixel < pixels; ++pixel) {
        if (image.values[pixel] != 0.0) mask[pixel] = 1;
      }
    });
  }
  if (options.pixel_mask && frames.rows != 0) {
    problems.collect([&] {
      const std::vector<std::uint8_t> more = pixel_mask_of(frames.inputs, detector);
      for (std::size_t pixel = 0; pixel < pixels; ++pixel) mask[pixel] |= more[pixel];
    });
  }
  if (std::find(mask.begin(), mask.end(), std::uint8_t{0}) == mask.end()) {
    std::string names;
    for (const std::string& url : options.masks) names += " " + url;
    problems.add(fmt::format("{}: it masks every pixel", names.empty() ? "the mask" : "--mask" + names));
  }
  return mask;
}

/// The transmission of the detector's sensor at normal incidence.
double sensor_transmission_of(const integrator::Geometry& geometry, const std::string& source) {
  const integrator::Detector& detector = geometry.detector;
  if (!geometry.wavelength_m) throw InputError(fmt::format("--absorption needs a wavelength: {} has none", source));
  if (!detector.sensor || !(detector.sensor->thickness_m > 0.0)) {
    std::string known;
    for (const integrator::Sensor& sensor : integrator::known_sensors(detector)) {
      known += fmt::format("{}{} {:g} um", known.empty() ? " (this detector comes with " : ", ", sensor.material,
                           sensor.thickness_m * 1e6);
    }
    throw InputError(fmt::format("--absorption needs the sensor's material and thickness: {} names none for {}{}",
                                 source, detector.name, known.empty() ? "" : known + ")"));
  }
  const double energy_kev = integrator::wavelength_m_of_energy_kev(1.0) / *geometry.wavelength_m;
  return integrator::sensor_transmission(*detector.sensor, energy_kev);
}

std::string filter_text(const kernels::OutlierFilter& filter) {
  if (const auto* clip = std::get_if<kernels::SigmaClip>(&filter)) {
    return fmt::format("sigma clipping at {:g}, {} cycles", clip->threshold, clip->cycles);
  }
  if (const auto* range = std::get_if<kernels::QuantileRange>(&filter)) {
    return range->lower == 0.5 && range->upper == 0.5
               ? "median"
               : fmt::format("quantiles {:g} to {:g}", range->lower, range->upper);
  }
  return "";
}

template <typename Value>
Json optional_json(const std::optional<Value>& value) {
  return value ? Json(*value) : Json(nullptr);
}

}  // namespace

integrator::IntegrationPlan make_plan(const IntegrationOptions& options, const PlanFrames& frames, Problems& problems) {
  integrator::IntegrationPlan plan;
  plan.settings = options.settings;
  integrator::CorrectionSettings& corrections = plan.settings.corrections;
  corrections.convention = plan.settings.convention;
  if (options.poni.empty() && options.geometry_json.empty()) return plan;  // told already
  bool geometry_known = false;
  problems.collect([&] {
    plan.geometry = geometry_of(options, frames);
    geometry_known = true;
  });
  if (!geometry_known) return plan;

  integrator::Detector& detector = plan.geometry.detector;
  fit_detector(options, frames, detector, problems);
  const auto expect_wavelength = [&](const char* option, const std::string& name) {
    if (!integrator::radial_unit(name).needs_wavelength || plan.geometry.wavelength_m) return;
    problems.add(fmt::format("{} {} needs a wavelength: {} has none", option, name, geometry_name(options)));
  };
  expect_wavelength("--unit", plan.settings.unit);
  expect_wavelength("--azimuthal-unit", plan.settings.azimuthal_unit);
  // A detector with a distortion file has pixels of different sizes, which count as in pyFAI.
  if (fs::path(detector.file).extension() == ".spline") corrections.pixel_area = integrator::PixelArea::own;
  if (options.absorption) {
    problems.collect(
        [&] { corrections.transmission_normal = sensor_transmission_of(plan.geometry, geometry_name(options)); });
  }
  if (!detector.has_shape()) return plan;

  plan.mask = mask_of(options, frames, detector, problems);
  plan.dark = combined(options.dark, options.dark_filter, "--dark", detector, problems);
  plan.flat = combined(options.flat, options.flat_filter, "--flat", detector, problems);
  if (options.dark.empty() && detector.dark) plan.dark = *detector.dark;
  if (options.flat.empty() && detector.flat) plan.flat = *detector.flat;
  if (!options.variance.empty()) {
    problems.collect([&] {
      const mapping::Image image = detector_image(options.variance, "--variance", detector);
      if (std::any_of(image.values.begin(), image.values.end(), [](double value) { return value < 0.0; })) {
        throw InputError(fmt::format("--variance {}: found negative values, expected variances", options.variance));
      }
      plan.variance = as_float(image);
    });
  }
  return plan;
}

std::vector<fs::path> plan_sources(const IntegrationOptions& options) {
  std::vector<fs::path> files = {options.poni};
  const auto add = [&](const std::string& url) { files.emplace_back(url.substr(0, url.find("::"))); };
  for (const std::string& url : options.dark) add(url);
  for (const std::string& url : options.flat) add(url);
  for (const std::string& url : options.masks) add(url);
  add(options.variance);
  std::erase(files, fs::path());
  return files;
}

std::string worker_configuration(const IntegrationOptions& options, const integrator::IntegrationPlan& plan,
                                 const std::string& monitor) {
  const integrator::IntegrationSettings& settings = plan.settings;
  const integrator::CorrectionSettings& corrections = settings.corrections;
  const auto list_or_null = [](const std::vector<std::string>& urls) { return urls.empty() ? Json() : Json(urls); };
  const auto pair_or_null = [](const std::optional<std::pair<double, double>>& range) {
    return range ? Json::array({range->first, range->second}) : Json();
  };
  std::string method = settings.azimuthal_bins > 0 ? "integrate2d_ng" : "integrate1d_ng";
  Json extra;
  if (const auto* clip = std::get_if<kernels::SigmaClip>(&settings.filter)) {
    method = "sigma_clip_ng";
    extra = {{"thres", clip->threshold}, {"max_iter", clip->cycles}};
  } else if (const auto* range = std::get_if<kernels::QuantileRange>(&settings.filter)) {
    method = "medfilt1d_ng";
    extra = {{"percentile", {100.0 * range->lower, 100.0 * range->upper}}};
  }
  Json json = {{"application", "worker"},
               {"version", 5},
               {"poni", Json::parse(integrator::poni_json(plan.geometry))},
               {"nbpt_rad", settings.bins},
               {"nbpt_azim", settings.azimuthal_bins > 0 ? Json(settings.azimuthal_bins) : Json()},
               {"unit", settings.azimuthal_unit == "chi_deg" ? Json(settings.unit)
                                                             : Json::array({settings.unit, settings.azimuthal_unit})},
               {"chi_discontinuity_at_0", settings.azimuth_cut == kernels::AzimuthCut::at_zero},
               {"polarization_description",
                corrections.polarisation_factor
                    ? Json::array({*corrections.polarisation_factor, corrections.polarisation_offset_rad})
                    : Json()},
               {"normalization_factor", settings.normalisation_factor},
               {"val_dummy", optional_json(settings.dummy)},
               {"delta_dummy", settings.dummy ? Json(settings.delta_dummy) : Json()},
               {"correct_solid_angle", corrections.solid_angle},
               {"dark_current", list_or_null(options.dark)},
               {"flat_field", list_or_null(options.flat)},
               // pyFAI knows one mask.
               {"mask_file", options.masks.empty() ? Json() : Json(options.masks.front())},
               {"error_model", name_of(settings.error_model)},
               {"method", {name_of(settings.splitting), "csr", "cython"}},
               {"opencl_device", nullptr},
               {"azimuth_range", pair_or_null(settings.azimuth_range)},
               {"radial_range", pair_or_null(settings.radial_range)},
               {"integrator_class", "AzimuthalIntegrator"},
               {"integrator_method", method},
               {"extra_options", extra},
               {"monitor_name", monitor.empty() ? Json() : Json(monitor)},
               {"shape", {plan.geometry.detector.rows, plan.geometry.detector.columns}}};
  if (settings.sample != integrator::SamplePose{}) {
    json["incident_angle"] = settings.sample.incident_angle_rad;
    json["tilt_angle"] = settings.sample.tilt_angle_rad;
    json["sample_orientation"] = settings.sample.orientation;
  }
  return json.dump(2);
}

std::string plan_fingerprint(const integrator::IntegrationPlan& plan) {
  const integrator::IntegrationSettings& settings = plan.settings;
  const integrator::CorrectionSettings& corrections = settings.corrections;
  const integrator::Detector& detector = plan.geometry.detector;
  const Json json = {
      {"geometry", Json::parse(integrator::poni_json(plan.geometry))},
      {"pixel positions", detector.vertices ? Json(checksum(*detector.vertices)) : Json()},
      {"bins", settings.bins},
      {"azimuthal bins", settings.azimuthal_bins},
      {"unit", settings.unit},
      {"azimuthal unit", settings.azimuthal_unit},
      {"sample", {settings.sample.incident_angle_rad, settings.sample.tilt_angle_rad, settings.sample.orientation}},
      {"radial range", optional_json(settings.radial_range)},
      {"azimuth range", optional_json(settings.azimuth_range)},
      {"azimuth cut", settings.azimuth_cut == kernels::AzimuthCut::at_zero ? "0" : "180"},
      {"negative radii", optional_json(settings.negative_radial)},
      {"splitting", name_of(settings.splitting)},
      {"convention", name_of(settings.convention)},
      {"error model", name_of(settings.error_model)},
      {"filter", filter_text(settings.filter)},
      {"solid angle", corrections.solid_angle},
      {"polarisation", corrections.polarisation_factor
                           ? Json::array({*corrections.polarisation_factor, corrections.polarisation_offset_rad})
                           : Json()},
      {"transmission", optional_json(corrections.transmission_normal)},
      {"pixel area", corrections.pixel_area == integrator::PixelArea::own ? "own" : "equal"},
      {"normalisation factor", settings.normalisation_factor},
      {"dummy", settings.dummy ? Json::array({*settings.dummy, settings.delta_dummy}) : Json()},
      {"mask", checksum(plan.mask)},
      {"dark", checksum(plan.dark)},
      {"flat", checksum(plan.flat)},
      {"variance", checksum(plan.variance)}};
  return json.dump();
}

std::string describe_plan(const integrator::IntegrationPlan& plan) {
  const integrator::IntegrationSettings& settings = plan.settings;
  const integrator::CorrectionSettings& corrections = settings.corrections;
  const integrator::Geometry& geometry = plan.geometry;
  std::string text = fmt::format(
      "geometry  {} ({} x {}), distance {:.6g} m, PONI {:.6g} {:.6g} m, rotations {:.6g} {:.6g} {:.6g} rad{}{}\n",
      geometry.detector.name, geometry.detector.rows, geometry.detector.columns, geometry.distance_m, geometry.poni1_m,
      geometry.poni2_m, geometry.rot1_rad, geometry.rot2_rad, geometry.rot3_rad,
      geometry.wavelength_m ? fmt::format(", wavelength {:.6g} m", *geometry.wavelength_m) : "",
      geometry.parallax == integrator::Parallax::on ? ", with parallax" : "");
  const auto masked = std::count_if(plan.mask.begin(), plan.mask.end(), [](std::uint8_t value) { return value != 0; });
  text += fmt::format("pixels    {} masked of {}\n", masked, plan.mask.size());

  const auto range = [](const std::optional<std::pair<double, double>>& ends) {
    return ends ? fmt::format(" from {:g} to {:g}", ends->first, ends->second) : std::string();
  };
  text += fmt::format("bins      {} in {}{}", settings.bins, settings.unit, range(settings.radial_range));
  if (settings.azimuthal_unit == "chi_deg") {
    if (settings.azimuthal_bins > 0) text += fmt::format(" x {} azimuths", settings.azimuthal_bins);
    if (settings.azimuth_range) text += fmt::format(", azimuths{} degrees", range(settings.azimuth_range));
  } else if (settings.azimuthal_bins > 0) {
    text +=
        fmt::format(" x {} in {}{}", settings.azimuthal_bins, settings.azimuthal_unit, range(settings.azimuth_range));
  } else if (settings.azimuth_range) {
    text += fmt::format(", {}{}", settings.azimuthal_unit, range(settings.azimuth_range));
  }
  text += fmt::format(", {} splitting, {} error model", name_of(settings.splitting), name_of(settings.error_model));
  if (const std::string filter = filter_text(settings.filter); !filter.empty()) text += ", " + filter;
  text += '\n';
  if (const integrator::SamplePose& sample = settings.sample; sample != integrator::SamplePose{}) {
    text += fmt::format("sample    incident angle {:g}, tilt angle {:g} degrees, orientation {}\n",
                        integrator::degrees_of(sample.incident_angle_rad),
                        integrator::degrees_of(sample.tilt_angle_rad), sample.orientation);
  }

  std::string list;
  const auto add = [&](const std::string& correction) { list += (list.empty() ? "" : ", ") + correction; };
  if (corrections.solid_angle) add("solid angle");
  if (corrections.polarisation_factor) add(fmt::format("polarisation {:g}", *corrections.polarisation_factor));
  if (corrections.transmission_normal) add(fmt::format("transmission {:.4g}", *corrections.transmission_normal));
  if (!plan.dark.empty()) add("dark");
  if (!plan.flat.empty()) add("flat");
  if (settings.normalisation_factor != 1.0) add(fmt::format("factor {:g}", settings.normalisation_factor));
  text += fmt::format("corrected {}\n", list.empty() ? "nothing" : list);
  return text;
}

}  // namespace annulus::driver
