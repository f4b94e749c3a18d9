#include "mpi_driver/experiment.hpp"

#include <cstring>
#include <nlohmann/json.hpp>
#include <utility>

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

Json settings_json(const integrator::IntegrationSettings& settings) {
  return {{"bins", settings.bins},
          {"unit", settings.unit},
          {"splitting", static_cast<int>(settings.splitting)},
          {"error_model", static_cast<int>(settings.error_model)},
          {"radial_range", optional_json(settings.radial_range)},
          {"solid_angle", settings.corrections.solid_angle},
          {"polarisation", optional_json(settings.corrections.polarisation_factor)},
          {"dummy", optional_json(settings.dummy)},
          {"delta_dummy", settings.delta_dummy}};
}

integrator::IntegrationSettings settings_of(const Json& json) {
  integrator::IntegrationSettings settings;
  settings.bins = json.at("bins");
  settings.unit = json.at("unit");
  settings.splitting = static_cast<kernels::Splitting>(json.at("splitting").get<int>());
  settings.error_model = static_cast<kernels::ErrorModel>(json.at("error_model").get<int>());
  settings.radial_range = optional_of<std::pair<double, double>>(json.at("radial_range"));
  settings.corrections.solid_angle = json.at("solid_angle");
  settings.corrections.polarisation_factor = optional_of<double>(json.at("polarisation"));
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
          {"batch", compute.batch},
          {"threads", compute.threads}};
}

ComputeSettings compute_of(const Json& json) {
  ComputeSettings compute;
  if (const auto backend = optional_of<int>(json.at("backend"))) {
    compute.backend = static_cast<kernels::Backend>(*backend);
  }
  compute.device = json.at("device");
  compute.batch = json.at("batch");
  compute.threads = json.at("threads");
  return compute;
}

}  // namespace

std::vector<std::byte> serialise(const Experiment& experiment) {
  const Json json = {{"poni", integrator::poni_text(experiment.plan.geometry)},
                     {"settings", settings_json(experiment.plan.settings)},
                     {"mask", binary(experiment.plan.mask)},
                     {"dark", binary(experiment.plan.dark)},
                     {"flat", binary(experiment.plan.flat)},
                     {"frames", binary(mapping::serialise(experiment.frames))},
                     {"scan", scan_json(experiment.scan)},
                     {"monitor", binary(experiment.monitor)},
                     {"blocks", binary(experiment.blocks)},
                     {"output", experiment.output.string()},
                     {"compute", compute_json(experiment.compute)}};
  const std::vector<std::uint8_t> cbor = Json::to_cbor(json);
  std::vector<std::byte> bytes(cbor.size());
  std::memcpy(bytes.data(), cbor.data(), cbor.size());
  return bytes;
}

Experiment deserialise_experiment(std::span<const std::byte> bytes) {
  const auto* begin = reinterpret_cast<const std::uint8_t*>(bytes.data());
  const Json json = Json::from_cbor(begin, begin + bytes.size());
  Experiment experiment;
  experiment.plan.geometry = integrator::parse_poni(json.at("poni").get<std::string>(), "broadcast geometry");
  experiment.plan.settings = settings_of(json.at("settings"));
  experiment.plan.mask = elements_of<std::uint8_t>(json.at("mask"));
  experiment.plan.dark = elements_of<float>(json.at("dark"));
  experiment.plan.flat = elements_of<float>(json.at("flat"));
  experiment.frames = mapping::deserialise_frames(elements_of<std::byte>(json.at("frames")));
  experiment.scan = scan_of(json.at("scan"));
  experiment.monitor = elements_of<double>(json.at("monitor"));
  experiment.blocks = elements_of<LineBlock>(json.at("blocks"));
  experiment.output = json.at("output").get<std::string>();
  experiment.compute = compute_of(json.at("compute"));
  return experiment;
}

}  // namespace annulus::driver
