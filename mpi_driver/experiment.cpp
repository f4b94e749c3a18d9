#include "mpi_driver/experiment.hpp"

#include <algorithm>
#include <cstring>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>
#include <variant>

namespace annulus::driver {
namespace {
using Json = nlohmann::json;

template <typename Element>
Json binary(const std::vector<Element>& elements) {
  static_assert(std::is_trivially_copyable_v<Element>);
  std::vector<std::uint8_t> bytes(elements.size() * sizeof(Element));
  if (!bytes.empty()) std::memcpy(bytes.data(), elements.data(), bytes.size());
  return Json::binary(std::move(bytes));
}

template <typename Element>
std::vector<Element> elements_of(const Json& json) {
  const auto& bytes = json.get_binary();
  std::vector<Element> elements(bytes.size() / sizeof(Element));
  if (!bytes.empty()) std::memcpy(elements.data(), bytes.data(), bytes.size());
  return elements;
}

template <typename Value>
Json optional_json(const std::optional<Value>& value) {
  return value ? Json(*value) : Json(nullptr);
}

template <typename Value>
std::optional<Value> optional_of(const Json& json) {
  return json.is_null() ? std::nullopt : std::optional<Value>(json.get<Value>());
}

template <typename Element>
Json shared_binary(const std::shared_ptr<const std::vector<Element>>& elements) {
  return elements ? binary(*elements) : Json(nullptr);
}

template <typename Element>
std::shared_ptr<const std::vector<Element>> shared_elements_of(const Json& json) {
  return json.is_null() ? nullptr : std::make_shared<const std::vector<Element>>(elements_of<Element>(json));
}

/// All of the detector: no rank but the first reads the files that it comes from.
Json detector_json(const integrator::Detector& detector) {
  return {{"name", detector.name},
          {"rows", detector.rows},
          {"columns", detector.columns},
          {"pixel1", detector.pixel1_m},
          {"pixel2", detector.pixel2_m},
          {"orientation", static_cast<int>(detector.orientation)},
          {"photon_counting", detector.photon_counting},
          {"sensor", detector.sensor ? Json::array({detector.sensor->material, detector.sensor->thickness_m}) : Json()},
          {"dummy", optional_json(detector.dummy)},
          {"delta_dummy", detector.delta_dummy},
          {"vertices", shared_binary(detector.vertices)},
          {"file_mask", shared_binary(detector.file_mask)},
          {"flat", shared_binary(detector.flat)},
          {"dark", shared_binary(detector.dark)},
          {"file", detector.file},
          {"radius", detector.radius_m},
          {"offset1_file", detector.offset1_file},
          {"offset2_file", detector.offset2_file}};
}

integrator::Detector detector_of(const Json& json) {
  integrator::Detector detector;
  detector.name = json.at("name");
  detector.rows = json.at("rows");
  detector.columns = json.at("columns");
  detector.pixel1_m = json.at("pixel1");
  detector.pixel2_m = json.at("pixel2");
  detector.orientation = static_cast<integrator::Orientation>(json.at("orientation").get<int>());
  detector.photon_counting = json.at("photon_counting");
  if (const Json& sensor = json.at("sensor"); !sensor.is_null()) {
    detector.sensor = integrator::Sensor{sensor.at(0).get<std::string>(), sensor.at(1).get<double>()};
  }
  detector.dummy = optional_of<double>(json.at("dummy"));
  detector.delta_dummy = json.at("delta_dummy");
  detector.vertices = shared_elements_of<float>(json.at("vertices"));
  detector.file_mask = shared_elements_of<std::uint8_t>(json.at("file_mask"));
  detector.flat = shared_elements_of<float>(json.at("flat"));
  detector.dark = shared_elements_of<float>(json.at("dark"));
  detector.file = json.at("file");
  detector.radius_m = json.at("radius");
  detector.offset1_file = json.at("offset1_file");
  detector.offset2_file = json.at("offset2_file");
  return detector;
}

Json geometry_json(const integrator::Geometry& geometry) {
  return {{"detector", detector_json(geometry.detector)},
          {"distance", geometry.distance_m},
          {"poni", {geometry.poni1_m, geometry.poni2_m}},
          {"rotations", {geometry.rot1_rad, geometry.rot2_rad, geometry.rot3_rad}},
          {"wavelength", optional_json(geometry.wavelength_m)},
          {"parallax", geometry.parallax == integrator::Parallax::on}};
}

integrator::Geometry geometry_of(const Json& json) {
  integrator::Geometry geometry;
  geometry.detector = detector_of(json.at("detector"));
  geometry.distance_m = json.at("distance");
  geometry.poni1_m = json.at("poni").at(0);
  geometry.poni2_m = json.at("poni").at(1);
  geometry.rot1_rad = json.at("rotations").at(0);
  geometry.rot2_rad = json.at("rotations").at(1);
  geometry.rot3_rad = json.at("rotations").at(2);
  geometry.wavelength_m = optional_of<double>(json.at("wavelength"));
  geometry.parallax = json.at("parallax").get<bool>() ? integrator::Parallax::on : integrator::Parallax::off;
  return geometry;
}

Json filter_json(const kernels::OutlierFilter& filter) {
  if (const auto* clip = std::get_if<kernels::SigmaClip>(&filter)) {
    return {{"threshold", clip->threshold}, {"cycles", clip->cycles}};
  }
  if (const auto* range = std::get_if<kernels::QuantileRange>(&filter)) {
    return {{"lower", range->lower}, {"upper", range->upper}};
  }
  return nullptr;
}

kernels::OutlierFilter filter_of(const Json& json) {
  if (json.is_null()) return std::monostate{};
  if (json.contains("threshold")) {
    return kernels::SigmaClip{json.at("threshold").get<double>(), json.at("cycles").get<std::uint32_t>()};
  }
  return kernels::QuantileRange{json.at("lower").get<double>(), json.at("upper").get<double>()};
}

Json settings_json(const integrator::IntegrationSettings& settings) {
  const integrator::CorrectionSettings& corrections = settings.corrections;
  return {{"bins", settings.bins},
          {"azimuthal_bins", settings.azimuthal_bins},
          {"unit", settings.unit},
          {"azimuthal_unit", settings.azimuthal_unit},
          {"sample", {settings.sample.incident_angle_rad, settings.sample.tilt_angle_rad, settings.sample.orientation}},
          {"splitting", static_cast<int>(settings.splitting)},
          {"radial_range", optional_json(settings.radial_range)},
          {"azimuth_range", optional_json(settings.azimuth_range)},
          {"azimuth_cut", static_cast<int>(settings.azimuth_cut)},
          {"negative_radial", optional_json(settings.negative_radial)},
          {"convention", static_cast<int>(settings.convention)},
          {"error_model", static_cast<int>(settings.error_model)},
          {"filter", filter_json(settings.filter)},
          {"solid_angle", corrections.solid_angle},
          {"polarisation", optional_json(corrections.polarisation_factor)},
          {"polarisation_offset", corrections.polarisation_offset_rad},
          {"transmission", optional_json(corrections.transmission_normal)},
          {"pixel_area", static_cast<int>(corrections.pixel_area)},
          {"correction_convention", static_cast<int>(corrections.convention)},
          {"normalisation_factor", settings.normalisation_factor},
          {"dummy", optional_json(settings.dummy)},
          {"delta_dummy", settings.delta_dummy}};
}

integrator::IntegrationSettings settings_of(const Json& json) {
  using Range = std::pair<double, double>;
  integrator::IntegrationSettings settings;
  settings.bins = json.at("bins");
  settings.azimuthal_bins = json.at("azimuthal_bins");
  settings.unit = json.at("unit");
  settings.azimuthal_unit = json.at("azimuthal_unit");
  settings.sample.incident_angle_rad = json.at("sample").at(0);
  settings.sample.tilt_angle_rad = json.at("sample").at(1);
  settings.sample.orientation = json.at("sample").at(2);
  settings.splitting = static_cast<kernels::Splitting>(json.at("splitting").get<int>());
  settings.radial_range = optional_of<Range>(json.at("radial_range"));
  settings.azimuth_range = optional_of<Range>(json.at("azimuth_range"));
  settings.azimuth_cut = static_cast<kernels::AzimuthCut>(json.at("azimuth_cut").get<int>());
  settings.negative_radial = optional_of<bool>(json.at("negative_radial"));
  settings.convention = static_cast<kernels::Convention>(json.at("convention").get<int>());
  settings.error_model = static_cast<kernels::ErrorModel>(json.at("error_model").get<int>());
  settings.filter = filter_of(json.at("filter"));
  integrator::CorrectionSettings& corrections = settings.corrections;
  corrections.solid_angle = json.at("solid_angle");
  corrections.polarisation_factor = optional_of<double>(json.at("polarisation"));
  corrections.polarisation_offset_rad = json.at("polarisation_offset");
  corrections.transmission_normal = optional_of<double>(json.at("transmission"));
  corrections.pixel_area = static_cast<integrator::PixelArea>(json.at("pixel_area").get<int>());
  corrections.convention = static_cast<kernels::Convention>(json.at("correction_convention").get<int>());
  settings.normalisation_factor = json.at("normalisation_factor");
  settings.dummy = optional_of<double>(json.at("dummy"));
  settings.delta_dummy = json.at("delta_dummy");
  return settings;
}

Json scan_json(const mapping::Scan& scan) {
  return {{"kind", static_cast<int>(scan.kind)},
          {"slow", scan.slow},
          {"fast", scan.fast},
          {"zigzag", scan.zigzag},
          {"offset", scan.offset}};
}

mapping::Scan scan_of(const Json& json) {
  mapping::Scan scan;
  scan.kind = static_cast<mapping::ScanKind>(json.at("kind").get<int>());
  scan.slow = json.at("slow");
  scan.fast = json.at("fast");
  scan.zigzag = json.at("zigzag");
  scan.offset = json.at("offset");
  return scan;
}

Json compute_json(const ComputeSettings& compute) {
  return {{"backend", compute.backend ? Json(static_cast<int>(*compute.backend)) : Json(nullptr)},
          {"device", compute.device},
          {"share_device", compute.share_device},
          {"batch", compute.batch ? Json(*compute.batch) : Json(nullptr)},
          {"threads", compute.threads},
          {"matrix_cache", compute.matrix_cache.string()}};
}

ComputeSettings compute_of(const Json& json) {
  ComputeSettings compute;
  if (const auto backend = optional_of<int>(json.at("backend"))) {
    compute.backend = static_cast<kernels::Backend>(*backend);
  }
  compute.device = json.at("device");
  compute.share_device = json.at("share_device");
  compute.batch = optional_of<std::uint32_t>(json.at("batch"));
  compute.threads = json.at("threads");
  compute.matrix_cache = json.at("matrix_cache").get<std::string>();
  return compute;
}

}  // namespace

std::vector<kernels::FrameKind> frame_kinds(const Experiment& experiment) {
  std::vector<kernels::FrameKind> kinds;
  for (const mapping::FrameRun& run : experiment.frames.runs) {
    const kernels::FrameKind kind{run.type, experiment.batch};
    if (std::ranges::find(kinds, kind) == kinds.end()) kinds.push_back(kind);
  }
  return kinds;
}

std::vector<std::byte> serialise(const Experiment& experiment) {
  const Json json = {{"geometry", geometry_json(experiment.plan.geometry)},
                     {"settings", settings_json(experiment.plan.settings)},
                     {"mask", binary(experiment.plan.mask)},
                     {"dark", binary(experiment.plan.dark)},
                     {"variance", binary(experiment.plan.variance)},
                     {"flat", binary(experiment.plan.flat)},
                     {"frames", binary(mapping::serialise(experiment.frames))},
                     {"scan", scan_json(experiment.scan)},
                     {"monitor", binary(experiment.monitor)},
                     {"blocks", binary(experiment.blocks)},
                     {"output", experiment.output.string()},
                     {"std", experiment.std},
                     {"compute", compute_json(experiment.compute)},
                     {"batch", experiment.batch}};
  const std::vector<std::uint8_t> cbor = Json::to_cbor(json);
  std::vector<std::byte> bytes(cbor.size());
  std::memcpy(bytes.data(), cbor.data(), cbor.size());
  return bytes;
}

Experiment deserialise_experiment(std::span<const std::byte> bytes) {
  const auto* begin = reinterpret_cast<const std::uint8_t*>(bytes.data());
  const Json json = Json::from_cbor(begin, begin + bytes.size());
  Experiment experiment;
  experiment.plan.geometry = geometry_of(json.at("geometry"));
  experiment.plan.settings = settings_of(json.at("settings"));
  experiment.plan.mask = elements_of<std::uint8_t>(json.at("mask"));
  experiment.plan.dark = elements_of<float>(json.at("dark"));
  experiment.plan.variance = elements_of<float>(json.at("variance"));
  experiment.plan.flat = elements_of<float>(json.at("flat"));
  experiment.frames = mapping::deserialise_frames(elements_of<std::byte>(json.at("frames")));
  experiment.scan = scan_of(json.at("scan"));
  experiment.monitor = elements_of<double>(json.at("monitor"));
  experiment.blocks = elements_of<LineBlock>(json.at("blocks"));
  experiment.std = json.at("std");
  experiment.output = json.at("output").get<std::string>();
  experiment.compute = compute_of(json.at("compute"));
  experiment.batch = json.at("batch");
  return experiment;
}

}  // namespace annulus::driver
