#include "mpi_driver/configuration.hpp"

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>
#include <fstream>
#include <initializer_list>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <system_error>
#include <utility>

#include <fmt/format.h>

#include "base/errors.hpp"

namespace annulus::driver {
namespace {
namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr int newest_version = 5;
/// Version 5 keeps only settings that count; before, each had a switch beside it.
constexpr int without_switches = 5;
/// From this version on, the geometry is one entry, `poni`; before, its values stand among the others.
constexpr int with_nested_geometry = 4;

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char letter) { return static_cast<char>(std::tolower(letter)); });
  return text;
}

/// Takes the entries of a JSON object one by one; what nobody took is unknown. Null is the same as absent.
class Entries {
 public:
  /// @param name  what the object is called in messages: "settings.json", "settings.json: ai"
  Entries(Json object, std::string name, Problems& problems, std::vector<std::string>& warnings)
      : object_(std::move(object)), name_(std::move(name)), problems_(problems), warnings_(warnings) {
    if (object_.is_object()) return;
    problem(fmt::format("found {}, expected an object {{...}}", shown(object_)));
    object_ = Json::object();
  }

  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] bool has(const char* key) const { return object_.contains(key) && !object_.at(key).is_null(); }

  /// Null when it is absent.
  Json take(const char* key) {
    if (!object_.contains(key)) return nullptr;
    Json value = std::move(object_.at(key));
    object_.erase(key);
    return value;
  }

  /// The first of several names of one thing that is there; all are taken.
  Json take_any(std::initializer_list<const char*> keys) {
    Json found;
    for (const char* key : keys) {
      Json value = take(key);
      if (found.is_null()) found = std::move(value);
    }
    return found;
  }

  std::optional<double> number(const char* key) { return number_in(take(key), key); }
  std::optional<double> number_in(const Json& value, const char* key) {
    if (value.is_null()) return std::nullopt;
    if (value.is_number()) return value.get<double>();
    // Python's json module writes infinities and NaN as bare words, which are made text before parsing.
    if (value.is_string()) {
      if (value == "Infinity") return std::numeric_limits<double>::infinity();
      if (value == "-Infinity") return -std::numeric_limits<double>::infinity();
      if (value == "NaN") return std::numeric_limits<double>::quiet_NaN();
    }
    expected(key, value, "a number");
    return std::nullopt;
  }

  std::optional<std::int64_t> whole(const char* key) { return whole_in(take(key), key); }
  std::optional<std::int64_t> whole_in(const Json& value, const char* key) {
    if (value.is_null()) return std::nullopt;
    if (value.is_number()) {
      const double number = value.get<double>();
      if (number == std::floor(number) && std::abs(number) < 1e15) return static_cast<std::int64_t>(number);
    }
    expected(key, value, "a whole number");
    return std::nullopt;
  }

  std::optional<std::string> text(const char* key) { return text_in(take(key), key); }
  std::optional<std::string> text_in(const Json& value, const char* key) {
    if (value.is_null()) return std::nullopt;
    if (value.is_string()) return value.get<std::string>();
    expected(key, value, "a text");
    return std::nullopt;
  }

  /// True or false, or a number as Python takes it.
  std::optional<bool> flag(const char* key) {
    const Json value = take(key);
    if (value.is_null()) return std::nullopt;
    if (value.is_boolean()) return value.get<bool>();
    if (value.is_number()) return value.get<double>() != 0.0;
    expected(key, value, "true or false");
    return std::nullopt;
  }

  void problem(const std::string& text) { problems_.add(fmt::format("{}: {}", name_, text)); }
  void warning(const std::string& text) { warnings_.push_back(fmt::format("{}: {}", name_, text)); }
  void expected(const char* key, const Json& found, const char* expectation) {
    problem(fmt::format("{}: found {}, expected {}", key, shown(found), expectation));
  }

  /// To be called last.
  void refuse_others() {
    std::string keys;
    for (const auto& [key, value] : object_.items()) keys += (keys.empty() ? "" : ", ") + key;
    if (!keys.empty()) problem(fmt::format("unknown keys: {}", keys));
  }

  static std::string shown(const Json& value) {
    std::string text = value.dump(-1, ' ', false, Json::error_handler_t::replace);
    if (text.size() > 60) text = text.substr(0, 57) + "...";
    return text;
  }

 private:
  Json object_;
  std::string name_;
  Problems& problems_;
  std::vector<std::string>& warnings_;
};

/// The switches do_*: before version 5, `false` leaves out the settings beside it.
class Switches {
 public:
  Switches(Entries& entries, std::int64_t version) : entries_(entries), version_(version) {}

  /// Whether the setting `what` counts; takes the switch, and its other name if there is one.
  bool on(const char* key, bool there, const char* other_key = nullptr) {
    std::optional<bool> value = entries_.flag(key);
    if (other_key != nullptr) {
      const std::optional<bool> other = entries_.flag(other_key);
      if (!value) value = other;
    }
    if (!value || *value) return there;
    if (version_ < without_switches) return false;
    if (there)
      entries_.warning(fmt::format("{} is false, which has no part in version {}, as in pyFAI", key, version_));
    return there;
  }

 private:
  Entries& entries_;
  std::int64_t version_;
};

/// Images: a name, several with commas (version 1), or a list.
std::vector<std::string> images_of(Entries& entries, const Json& value, const char* key, bool commas) {
  std::vector<std::string> names;
  if (value.is_string()) {
    const auto all = value.get<std::string>();
    for (std::size_t begin = 0; begin <= all.size();) {
      const std::size_t comma = commas ? std::min(all.find(',', begin), all.size()) : all.size();
      std::string name = all.substr(begin, comma - begin);
      name.erase(0, name.find_first_not_of(' '));
      name.erase(name.find_last_not_of(' ') + 1);
      names.push_back(std::move(name));
      begin = comma + 1;
    }
  } else if (value.is_array()) {
    for (const Json& element : value) {
      if (const auto name = entries.text_in(element, key)) names.push_back(*name);
    }
  } else if (!value.is_null()) {
    entries.expected(key, value, "a file or a list of files");
  }
  std::erase(names, "");
  std::vector<std::string> urls;
  for (const std::string& name : names) {
    try {
      urls.push_back(image_url(name));
    } catch (const InputError& error) {
      entries.problem(fmt::format("{}: {}", key, error.what()));
    }
  }
  return urls;
}

// Geometry.

constexpr std::array geometry_keys = {"dist", "distance", "poni1",      "poni2",   "rot1",
                                      "rot2", "rot3",     "wavelength", "parallax"};

/// Versions 1 to 3, where the geometry's values stand beside the settings: a PONI dictionary of those that are there.
Json flat_geometry(Entries& entries, std::int64_t version, const Json& shape) {
  Json poni = Json::object();
  for (const char* key : geometry_keys) {
    if (Json value = entries.take(key); !value.is_null()) poni[key] = std::move(value);
  }
  const Json detector = entries.take("detector");
  const Json config = entries.take("detector_config");
  Json poni_version = entries.take("poni_version");
  const Json pixel1 = version == 1 ? entries.take_any({"pixel1", "pixelsize1"}) : Json();
  const Json pixel2 = version == 1 ? entries.take_any({"pixel2", "pixelsize2"}) : Json();
  const Json spline = version == 1 ? entries.take_any({"splineFile", "splinefile"}) : Json();
  if (version > 1 || !config.is_null()) {
    if (!detector.is_null()) poni["detector"] = detector;
    if (!detector.is_null() || !config.is_null()) {
      poni["detector_config"] = config.is_null() ? Json::object() : config;
      poni["poni_version"] = 2;
    }
    return poni;
  }

  Json own = Json::object();
  const std::string name = detector.is_string() ? detector.get<std::string>() : "";
  const bool plain = name.empty() || lower(name) == "detector";
  if (plain && !pixel1.is_null() && !pixel2.is_null()) {
    own["pixel1"] = pixel1;
    own["pixel2"] = pixel2;
    if (!shape.is_null()) own["max_shape"] = shape;
  } else if (!plain && (!pixel1.is_null() || !pixel2.is_null())) {
    entries.warning(fmt::format("pixel1 and pixel2 have no part: the detector {} has its own pixels", name));
  }
  if (spline.is_string() && !spline.get<std::string>().empty() && lower(spline.get<std::string>()) != "none") {
    own["splineFile"] = spline;
  }
  if (!name.empty() || !own.empty()) {
    poni["detector"] = name.empty() ? "Detector" : name;
    poni["detector_config"] = own;
    poni["poni_version"] = 2;
  }
  return poni;
}

void take_geometry(Entries& entries, std::int64_t version, const Json& shape, IntegrationOptions& options) {
  Json nested = entries.take("poni");
  Json poni = version < with_nested_geometry ? flat_geometry(entries, version, shape) : Json::object();
  if (nested.is_string()) {
    if (!nested.get<std::string>().empty()) options.poni = nested.get<std::string>();
  } else if (nested.is_object()) {
    nested.update(poni);
    poni = std::move(nested);
  } else if (!nested.is_null()) {
    entries.expected("poni", nested, "a file or an object {...}");
  }
  for (auto entry = poni.begin(); entry != poni.end();) entry = entry->is_null() ? poni.erase(entry) : std::next(entry);
  options.geometry_json = poni.empty() ? "" : poni.dump();
  options.geometry_source = entries.name();
}

// Method and filter.

/// The splitting that a method means. Where it names none: what pyFAI 2026.9 takes on a CPU, the first of the
/// integrators with that algorithm.
std::optional<kernels::Splitting> splitting_of(Entries& entries, const Json& method, bool two_dimensional) {
  using kernels::Splitting;
  const auto name_of_method = [&] { return Entries::shown(method); };
  const auto guessed = [&](Splitting splitting) {
    entries.warning(fmt::format("method {} names no pixel splitting: {} is used, --split chooses", name_of_method(),
                                name_of(splitting)));
    return splitting;
  };
  if (method.is_null()) return std::nullopt;
  if (method.is_string()) {
    const std::string name = lower(method.get<std::string>());
    const auto holds = [&](const char* part) { return name.find(part) != std::string::npos; };
    if (holds("nosplit")) return Splitting::no;
    if (holds("bbox")) return Splitting::bbox;
    if (holds("pseudo")) return Splitting::pseudo;
    if (holds("full")) return Splitting::full;
    if (holds("lut")) return guessed(Splitting::bbox);
    if (holds("csr") || holds("csc") || holds("ocl") || holds("histo") || name.starts_with("splitpixel") ||
        name == "numpy" || name == "python" || name == "cython" || name == "no" || name.empty()) {
      return guessed(Splitting::no);
    }
    entries.expected("method", method, "a method of pyFAI");
    return std::nullopt;
  }
  Json split;
  Json algorithm;
  if (method.is_array() && method.size() >= 3 && method.size() <= 5) {
    // (split, algorithm, implementation), or the same behind the number of dimensions; a device may follow.
    const bool long_form = method.size() > 3 && (method[0].is_number() || method[0].is_null());
    split = method[long_form ? 1 : 0];
    algorithm = method[long_form ? 2 : 1];
  } else if (method.is_object()) {
    split = method.value("split", method.value("pixel_splitting", Json()));
    algorithm = method.value("algo", method.value("algorithm", Json()));
  } else {
    entries.expected("method", method, "(splitting, algorithm, implementation)");
    return std::nullopt;
  }
  const std::string name = split.is_string() ? lower(split.get<std::string>()) : "";
  if (split.is_null() || name.empty() || name == "*" || name == "any" || name == "all") {
    return guessed(algorithm == "lut" ? Splitting::bbox : Splitting::no);
  }
  if (name == "nosplit") return Splitting::no;
  if (name == "pseudo" && !two_dimensional) {
    entries.warning("method: pyFAI has no pseudo splitting in one dimension and takes bbox, and so does this run");
    return Splitting::bbox;
  }
  try {
    return parse_splitting(name, "method");
  } catch (const InputError& error) {
    entries.problem(error.what());
    return std::nullopt;
  }
}

std::optional<kernels::ErrorModel> error_model_of(Entries& entries, const Json& value) {
  using kernels::ErrorModel;
  if (value.is_null()) return std::nullopt;
  if (value.is_number_integer() && value >= 0 && value <= 4) {
    constexpr std::array models = {ErrorModel::no, ErrorModel::variance, ErrorModel::poisson, ErrorModel::azimuthal,
                                   ErrorModel::hybrid};
    return models[value.get<std::size_t>()];
  }
  if (value.is_string()) {
    const std::string name = lower(value.get<std::string>());
    if (name.empty() || name == "none") return ErrorModel::no;
    // pyFAI takes the first model that begins with the text.
    for (const auto model :
         {ErrorModel::no, ErrorModel::variance, ErrorModel::poisson, ErrorModel::azimuthal, ErrorModel::hybrid}) {
      if (name_of(model).starts_with(name)) return model;
    }
  }
  entries.expected("error_model", value, "no, variance, poisson, azimuthal or hybrid");
  return std::nullopt;
}

enum class Integrator { plain, sigma_clip, median };

Integrator integrator_of(Entries& entries) {
  const Json value = entries.take_any({"integrator_method", "integrator_name"});
  const auto name = entries.text_in(value, "integrator_method");
  if (!name || name->empty()) return Integrator::plain;
  for (const char* plain : {"integrate1d", "integrate2d", "integrate1d_ng", "integrate2d_ng"}) {
    if (*name == plain) return Integrator::plain;
  }
  if (*name == "sigma_clip_ng" || *name == "sigma_clip") return Integrator::sigma_clip;
  if (*name == "medfilt1d_ng") return Integrator::median;
  entries.expected("integrator_method", value,
                   "integrate1d_ng, integrate2d_ng, sigma_clip_ng or medfilt1d_ng; others are not supported");
  return Integrator::plain;
}

/// A range with one end alone (or none) is none, as pyFAI has it.
std::optional<std::pair<double, double>> range_of(Entries& entries, const Json& value, const char* key) {
  if (value.is_null()) return std::nullopt;
  if (!value.is_array() || value.size() != 2) {
    entries.expected(key, value, "two numbers");
    return std::nullopt;
  }
  const double infinity = std::numeric_limits<double>::infinity();
  const double low = entries.number_in(value[0], key).value_or(-infinity);
  const double high = entries.number_in(value[1], key).value_or(infinity);
  if (std::isfinite(low) && std::isfinite(high)) return std::pair{low, high};
  if (std::isfinite(low) || std::isfinite(high)) {
    entries.warning(fmt::format("{}: a range with one end alone has no part, as in pyFAI", key));
  }
  return std::nullopt;
}

void take_extra_options(Entries& parent, const Json& value, Integrator integrator, bool two_dimensional,
                        IntegrationOptions& options, Problems& problems, std::vector<std::string>& warnings) {
  Entries extra(value.is_null() ? Json::object() : value, parent.name() + ": extra_options", problems, warnings);
  integrator::IntegrationSettings& settings = options.settings;
  const auto no_part = [&](const char* key, const char* integrators) {
    extra.warning(fmt::format("{} has no part, it belongs to {}", key, integrators));
  };
  const auto model = error_model_of(extra, extra.take("error_model"));
  if (model && settings.error_model == kernels::ErrorModel::no) settings.error_model = *model;

  const auto threshold = extra.number("thres");
  const auto cycles = extra.whole("max_iter");
  if (integrator == Integrator::sigma_clip) {
    kernels::SigmaClip clip;
    if (threshold && !(*threshold >= 0.0)) {
      extra.problem(fmt::format("thres: found {}, expected 0 or more", *threshold));
    }
    if (cycles && (*cycles < 1 || *cycles > 1000)) {
      extra.problem(fmt::format("max_iter: found {}, expected 1 to 1000", *cycles));
    }
    clip.threshold = threshold.value_or(clip.threshold);
    clip.cycles = static_cast<std::uint32_t>(std::clamp<std::int64_t>(cycles.value_or(clip.cycles), 1, 1000));
    settings.filter = clip;
  } else {
    if (threshold) no_part("thres", "sigma_clip_ng");
    if (cycles) no_part("max_iter", "sigma_clip_ng");
  }

  const Json percentile = extra.take("percentile");
  const auto lowest = extra.number("quant_min");
  const auto highest = extra.number("quant_max");
  if (integrator == Integrator::median) {
    kernels::QuantileRange range;
    double lower_quantile = lowest.value_or(range.lower);
    double upper_quantile = highest.value_or(std::max(range.upper, lower_quantile));
    if (lowest || highest)
      extra.warning("quant_min and quant_max are taken as quantiles, 0 to 1; pyFAI's is percentile");
    if (percentile.is_number()) {
      lower_quantile = upper_quantile = percentile.get<double>() / 100.0;
    } else if (percentile.is_array() && percentile.size() == 2 && percentile[0].is_number() &&
               percentile[1].is_number()) {
      const std::pair ends{percentile[0].get<double>(), percentile[1].get<double>()};
      lower_quantile = std::min(ends.first, ends.second) / 100.0;
      upper_quantile = std::max(ends.first, ends.second) / 100.0;
    } else if (!percentile.is_null()) {
      extra.expected("percentile", percentile, "one or two numbers from 0 to 100");
    }
    try {
      range = checked_quantiles(lower_quantile, upper_quantile, "percentile");
    } catch (const InputError& error) {
      extra.problem(error.what());
    }
    settings.filter = range;
  } else {
    if (!percentile.is_null()) no_part("percentile", "medfilt1d_ng");
    if (lowest || highest) no_part("quant_min, quant_max", "medfilt1d_ng");
  }
  if (integrator == Integrator::median && two_dimensional) {
    extra.warning("the median is taken in each azimuthal bin; pyFAI has no medfilt1d_ng in two dimensions");
  }
  if (integrator == Integrator::sigma_clip && two_dimensional) {
    extra.warning("outliers are clipped in each azimuthal bin; pyFAI's sigma_clip_ng has one dimension alone");
  }
  if (!extra.take("npt_azim").is_null()) no_part("npt_azim", "filters that pyFAI has given up");

  const auto radial = range_of(extra, extra.take("radial_range"), "radial_range");
  if (radial && !settings.radial_range) settings.radial_range = radial;
  const auto azimuth = range_of(extra, extra.take("azimuth_range"), "azimuth_range");
  if (azimuth && !settings.azimuth_range) settings.azimuth_range = azimuth;
  extra.refuse_others();
}

void take_polarisation(Entries& entries, Switches& switches, integrator::CorrectionSettings& corrections) {
  const bool there = entries.has("polarization_description") || entries.has("polarization_factor");
  const bool on = switches.on("do_polarization", there);
  const Json description = entries.take_any({"polarization_description", "polarization_factor"});
  std::optional<double> offset_rad = entries.number("polarization_offset");
  if (!on) return;
  if (description.is_number()) {
    corrections.polarisation_factor = description.get<double>();
  } else if (description.is_array() && (description.size() == 1 || description.size() == 2)) {
    corrections.polarisation_factor = entries.number_in(description[0], "polarization_description");
    if (description.size() == 2) offset_rad = entries.number_in(description[1], "polarization_description");
  } else if (description.is_object()) {
    const auto entry = [&](const char* key) { return entries.number_in(description.value(key, Json()), key); };
    corrections.polarisation_factor = entry("polarization_factor");
    offset_rad = entry("axis_offset");
  } else {
    entries.expected("polarization_description", description, "a factor, or [factor, offset in rad]");
    return;
  }
  corrections.polarisation_offset_rad = offset_rad.value_or(0.0);
  if (corrections.polarisation_offset_rad != 0.0) {
    entries.warning("the offset of the polarisation counts; pyFAI's worker leaves it out");
  }
}

/// [low, high], or the two ends under names of their own.
std::optional<std::pair<double, double>> take_range(Entries& entries, bool on, const char* key,
                                                    std::initializer_list<const char*> low_keys,
                                                    std::initializer_list<const char*> high_keys) {
  Json range = entries.take(key);
  Json low = entries.take_any(low_keys);
  Json high = entries.take_any(high_keys);
  // The switch is for the separate ends alone.
  if (on && (!low.is_null() || !high.is_null())) {
    if (!range.is_array() || range.size() != 2) range = Json::array({nullptr, nullptr});
    if (!low.is_null()) range[0] = std::move(low);
    if (!high.is_null()) range[1] = std::move(high);
  }
  return range_of(entries, range, key);
}

/// How the sample lies, in rad as pyFAI has it.
void take_sample_pose(Entries& entries, integrator::SamplePose& sample) {
  sample.incident_angle_rad = entries.number("incident_angle").value_or(sample.incident_angle_rad);
  sample.tilt_angle_rad = entries.number("tilt_angle").value_or(sample.tilt_angle_rad);
  if (const auto orientation = entries.whole("sample_orientation")) {
    if (*orientation >= 1 && *orientation <= 8) {
      sample.orientation = static_cast<int>(*orientation);
    } else {
      entries.problem(fmt::format("sample_orientation: found {}, expected 1 to 8", *orientation));
    }
  }
}

/// A unit's name, or pyFAI's object of a unit that is seen from the sample: {name, incident_angle, tilt_angle,
/// sample_orientation}.
void take_unit(Entries& entries, Json value, const char* key, std::string& unit, integrator::SamplePose& sample,
               Problems& problems, std::vector<std::string>& warnings) {
  if (value.is_object()) {
    Entries object(std::move(value), fmt::format("{}: {}", entries.name(), key), problems, warnings);
    value = object.take("name");
    take_sample_pose(object, sample);
    object.refuse_others();
  }
  const auto name = entries.text_in(value, key);
  if (!name || name->empty()) return;
  try {
    unit = integrator::radial_unit(*name).name;
  } catch (const InputError& error) {
    entries.problem(error.what());
  }
}

/// The axes of pyFAI's FiberIntegrator: in the plane of the sample and out of it. In one dimension the other axis
/// selects whole pixels, where pyFAI adds up the bins of two.
void take_fiber_axes(Entries& entries, integrator::IntegrationSettings& settings, Problems& problems,
                     std::vector<std::string>& warnings) {
  struct Axis {
    std::string unit;
    std::uint32_t bins = 1000;
    std::optional<std::pair<double, double>> range;
  };
  const auto take_axis = [&](const char* unit_key, const char* bins_key, const char* range_key, const char* low_key,
                             const char* high_key, const char* usual_unit) {
    Axis axis;
    axis.unit = usual_unit;
    take_unit(entries, entries.take(unit_key), unit_key, axis.unit, settings.sample, problems, warnings);
    if (const auto bins = entries.whole(bins_key)) {
      if (*bins >= 1 && *bins <= 1'000'000) {
        axis.bins = static_cast<std::uint32_t>(*bins);
      } else {
        entries.problem(fmt::format("{}: found {}, expected 1 to 1000000", bins_key, *bins));
      }
    }
    axis.range = take_range(entries, true, range_key, {low_key}, {high_key});
    return axis;
  };
  // How the sample lies is what unit_ip says, so it comes last.
  Axis across = take_axis("unit_oop", "npt_oop", "oop_range", "oop_range_min", "oop_range_max", "qoop_nm^-1");
  Axis along = take_axis("unit_ip", "npt_ip", "ip_range", "ip_range_min", "ip_range_max", "qip_nm^-1");
  const bool one_dimensional = entries.flag("integration_1d").value_or(false);
  const bool vertical = entries.flag("vertical_integration").value_or(true);
  if (one_dimensional && vertical) std::swap(along, across);
  settings.unit = along.unit;
  settings.bins = along.bins;
  settings.radial_range = along.range;
  settings.azimuthal_unit = across.unit;
  settings.azimuthal_bins = one_dimensional ? 0 : across.bins;
  settings.azimuth_range = across.range;
}

/// pyFAI-integrate's configuration, which pyFAI-diffmap's holds as `ai`.
void take_integration(Json object, const std::string& name, MapOptions& options, Problems& problems) {
  Entries entries(std::move(object), name, problems, options.warnings);
  IntegrationOptions& integration = options.integration;
  integrator::IntegrationSettings& settings = integration.settings;

  std::int64_t version = entries.whole("version").value_or(1);
  if (version == 0) version = 1;
  if (version < 1 || version > newest_version) {
    entries.problem(fmt::format("version: found {}, expected 1 to {}", version, newest_version));
    return;
  }
  Switches switches(entries, version);
  const Json application = entries.take("application");
  if (!application.is_null() && application != "pyfai-integrate" && application != "worker" && application != "poni") {
    entries.warning(
        fmt::format("application: found {}, expected \"worker\" or \"pyfai-integrate\"", Entries::shown(application)));
  }

  const Json shape = entries.take("shape");
  if (shape.is_array() && shape.size() == 2 && shape[0].is_number_unsigned() && shape[1].is_number_unsigned()) {
    options.expected.shape = {shape[0].get<std::uint32_t>(), shape[1].get<std::uint32_t>()};
  } else if (!shape.is_null()) {
    entries.expected("shape", shape, "[rows, columns]");
  }
  take_geometry(entries, version, shape, integration);

  // Bins.
  const Json kind = entries.take("integrator_class");
  const bool fiber = kind == "FiberIntegrator";
  if (!kind.is_null() && !fiber && kind != "AzimuthalIntegrator") {
    entries.expected("integrator_class", kind, "AzimuthalIntegrator or FiberIntegrator; others are not supported");
  }
  if (const auto bins = entries.whole("nbpt_rad")) {
    if (*bins >= 1 && *bins <= 10'000'000) {
      settings.bins = static_cast<std::uint32_t>(*bins);
    } else {
      entries.problem(fmt::format("nbpt_rad: found {}, expected 1 to 10000000", *bins));
    }
  }
  const std::int64_t azimuthal_bins = entries.whole("nbpt_azim").value_or(1);
  const std::optional<bool> two = entries.flag("do_2D");
  if (azimuthal_bins < 0 || azimuthal_bins > 1'000'000) {
    entries.problem(fmt::format("nbpt_azim: found {}, expected 1 to 1000000", azimuthal_bins));
  } else if (azimuthal_bins > 1 && two == false && version < without_switches) {
    entries.warning(
        fmt::format("do_2D is false: one pattern of all azimuths; newer versions of pyFAI make {}", azimuthal_bins));
  } else if (azimuthal_bins > 1) {
    if (two == false) entries.warning(fmt::format("do_2D is false, which has no part in version {}", version));
    settings.azimuthal_bins = static_cast<std::uint32_t>(azimuthal_bins);
  }
  take_sample_pose(entries, settings.sample);
  Json unit = entries.take("unit");
  if (unit.is_array() && unit.size() == 2) {
    take_unit(entries, unit[1], "unit", settings.azimuthal_unit, settings.sample, problems, options.warnings);
    unit = Json(unit[0]);
  }
  take_unit(entries, unit, "unit", settings.unit, settings.sample, problems, options.warnings);
  const bool radial_on = switches.on("do_radial_range", true);
  settings.radial_range = take_range(entries, radial_on, "radial_range", {"radial_range_min"}, {"radial_range_max"});
  if (settings.radial_range && !(settings.radial_range->first < settings.radial_range->second)) {
    entries.problem(fmt::format("radial_range: found {} to {}, expected the lower end first",
                                settings.radial_range->first, settings.radial_range->second));
    settings.radial_range.reset();
  }
  const bool azimuth_on = switches.on("do_azimuthal_range", true, "do_azimuth_range");
  settings.azimuth_range =
      take_range(entries, azimuth_on, "azimuth_range", {"azimuth_range_min", "azimuthal_range_min"},
                 {"azimuth_range_max", "azimuthal_range_max"});
  if (entries.flag("chi_discontinuity_at_0").value_or(false)) settings.azimuth_cut = kernels::AzimuthCut::at_zero;
  if (fiber) take_fiber_axes(entries, settings, problems, options.warnings);
  const bool two_dimensional = settings.azimuthal_bins > 0;

  // How.
  Json method = entries.take("method");
  if (entries.flag("do_OpenCL").value_or(false) && method.is_null()) method = "csr_ocl";
  if (method.is_null() && version == 1) method = "splitbbox";
  if (const auto splitting = splitting_of(entries, method, two_dimensional)) settings.splitting = *splitting;
  if (!entries.take("opencl_device").is_null()) {
    entries.warning("opencl_device is not used: devices are chosen by rank, or with --device");
  }
  if (const auto model = error_model_of(entries, entries.take("error_model"))) settings.error_model = *model;
  if (entries.flag("do_poisson").value_or(false)) settings.error_model = kernels::ErrorModel::poisson;
  const Integrator integrator = integrator_of(entries);
  take_extra_options(entries, entries.take("extra_options"), integrator, two_dimensional, integration, problems,
                     options.warnings);
  if (settings.azimuth_range) {
    try {
      settings.azimuth_range = checked_azimuth_range(*settings.azimuth_range, settings.azimuthal_unit, "azimuth_range");
    } catch (const InputError& error) {
      entries.problem(error.what());
      settings.azimuth_range.reset();
    }
  }

  // Corrections.
  const auto solid_angle = entries.flag("correct_solid_angle");
  const auto do_solid_angle = entries.flag("do_solid_angle");
  if (solid_angle) {
    settings.corrections.solid_angle = *solid_angle;
  } else if (do_solid_angle == false) {
    settings.corrections.solid_angle = false;
    entries.warning("do_solid_angle is false: no correction; newer versions of pyFAI correct nevertheless");
  }
  take_polarisation(entries, switches, settings.corrections);
  // pyFAI takes 0 for none.
  if (const auto factor = entries.number("normalization_factor"); factor && *factor != 0.0) {
    settings.normalisation_factor = *factor;
  }
  if (const auto monitor = entries.text("monitor_name"); monitor && !monitor->empty()) {
    options.monitor = *monitor;
    entries.warning(
        fmt::format("monitor_name: frames are divided by {} in the HDF5 input; pyFAI-diffmap does not", *monitor));
  }

  // Pixels.
  const bool dark_on = switches.on("do_dark", entries.has("dark_current") || entries.has("dark_current_image"));
  const Json dark = entries.take_any({"dark_current", "dark_current_image"});
  if (dark_on) integration.dark = images_of(entries, dark, "dark_current", version == 1);
  const bool flat_on = switches.on("do_flat", entries.has("flat_field") || entries.has("flat_field_image"));
  const Json flat = entries.take_any({"flat_field", "flat_field_image"});
  if (flat_on) integration.flat = images_of(entries, flat, "flat_field", version == 1);
  const bool mask_on = switches.on("do_mask", entries.has("mask_file") || entries.has("mask_image"));
  const Json mask = entries.take_any({"mask_file", "mask_image"});
  if (mask_on) integration.masks = images_of(entries, mask, "mask_file", false);
  const bool dummy_on =
      switches.on("do_dummy", entries.has("val_dummy") || entries.has("dummy") || entries.has("delta_dummy"));
  const auto dummy = entries.number_in(entries.take_any({"val_dummy", "dummy"}), "val_dummy");
  const auto delta = entries.number("delta_dummy");
  if (dummy_on && dummy) {
    settings.dummy = dummy;
    settings.delta_dummy = delta.value_or(0.0);
    if (*dummy != 0.0) entries.warning("val_dummy: bins without pixels are 0, where pyFAI writes the dummy value");
  } else if (dummy_on && delta) {
    entries.warning("delta_dummy has no part without val_dummy");
  }
  entries.refuse_others();
}

// pyFAI-diffmap.

struct Motor {
  MotorRange range;
  std::optional<std::uint64_t> points;
};

/// {start, stop, points, name}, a list of these, or the older separate keys, which win where both are there.
Motor take_motor(Entries& entries, const std::string& axis, Problems& problems, std::vector<std::string>& warnings) {
  const std::string key = axis + "_motor";
  Json value = entries.take(key.c_str());
  if (value.is_array()) {
    constexpr std::array names = {"start", "stop", "points", "name"};
    Json object = Json::object();
    for (std::size_t index = 0; index < std::min(value.size(), names.size()); ++index) {
      object[names[index]] = value[index];
    }
    value = std::move(object);
  }
  Entries motor(value.is_null() ? Json::object() : value, entries.name() + ": " + key, problems, warnings);
  Motor result;
  auto start = motor.number("start");
  auto stop = motor.number("stop");
  auto points = motor.whole("points");
  result.range.name = motor.text("name").value_or("");
  motor.refuse_others();

  for (const std::string& old_key : {key + "_points", "npt_" + axis, "nbpt_" + axis}) {
    if (const auto old = entries.whole(old_key.c_str())) points = old;
  }
  if (const auto name = entries.text((key + "_name").c_str())) result.range.name = *name;
  const std::string range_key = key + "_range";
  if (const Json range = entries.take(range_key.c_str()); range.is_array() && range.size() >= 2) {
    start = entries.number_in(range.front(), range_key.c_str());
    stop = entries.number_in(range.back(), range_key.c_str());
  } else if (!range.is_null()) {
    entries.expected(range_key.c_str(), range, "two positions");
  }
  if (start && stop && std::isfinite(*start) && std::isfinite(*stop)) {
    result.range.range = {*start, *stop};
  } else if (start || stop) {
    entries.warning(fmt::format("{}: one position alone has no part", key));
  }
  // 0 is what pyFAI writes for a number that is not known yet.
  if (points && *points != 0) {
    if (*points < 0 || *points > std::int64_t{1} << 31U) {
      entries.problem(fmt::format("{}: found {} points, expected 1 to 2^31", key, *points));
    } else {
      result.points = static_cast<std::uint64_t>(*points);
    }
  }
  return result;
}

/// [[path, h5, nframes, shape], ...], where `h5` is a dataset, or true or false or null; a path may be FILE::DATASET.
void take_input(Entries& entries, MapOptions& options, Problems& problems) {
  const Json value = entries.take("input_data");
  if (value.is_null()) return;
  if (!value.is_array()) {
    entries.expected("input_data", value, "a list of files");
    return;
  }
  std::optional<std::string> dataset;
  std::uint64_t frames = 0;
  bool all_counted = !value.empty();
  for (const Json& element : value) {
    Json item = element;
    if (element.is_string()) item = Json{{"path", element}};
    if (element.is_array()) {
      constexpr std::array names = {"path", "h5", "nframes", "shape"};
      item = Json::object();
      for (std::size_t index = 0; index < std::min(element.size(), names.size()); ++index) {
        item[names[index]] = element[index];
      }
      if (element.size() > names.size()) entries.expected("input_data", element, "[path, h5, nframes, shape]");
    }
    Entries input(item, entries.name() + ": input_data", problems, options.warnings);
    std::string path = input.text("path").value_or("");
    std::string inside;
    if (const Json h5 = input.take("h5"); h5.is_string()) {
      inside = h5.get<std::string>();
    } else if (!h5.is_null() && !h5.is_boolean()) {
      input.expected("h5", h5, "a dataset");
    }
    const auto count = input.whole("nframes");
    if (count && *count > 0) {
      frames += static_cast<std::uint64_t>(*count);
    } else {
      all_counted = false;
    }
    const Json shape = input.take("shape");
    if (shape.is_array() && shape.size() >= 2 && shape[shape.size() - 2].is_number_unsigned() &&
        shape.back().is_number_unsigned()) {
      options.expected.shape = {shape[shape.size() - 2].get<std::uint32_t>(), shape.back().get<std::uint32_t>()};
    } else if (!shape.is_null()) {
      input.expected("shape", shape, "[rows, columns]");
    }
    input.refuse_others();
    std::error_code error;
    if (const std::size_t colons = path.find("::"); colons != std::string::npos && !fs::exists(path, error)) {
      inside = path.substr(colons + 2);
      path.resize(colons);
    }
    if (path.empty()) {
      input.problem("an input without a path");
      continue;
    }
    if (dataset && *dataset != inside) {
      input.problem(fmt::format("datasets {} and {}: different ones in one scan are not supported", *dataset, inside));
    }
    dataset = inside;
    options.frames.emplace_back(path);
  }
  if (dataset && !dataset->empty()) options.data = *dataset;
  if (all_counted) options.expected.frames = frames;
}

void take_diffmap(Json object, const std::string& name, MapOptions& options, Problems& problems) {
  Entries entries(std::move(object), name, problems, options.warnings);
  if (const auto version = entries.whole("diffmap_config_version"); version && *version != 1) {
    entries.problem(fmt::format("diffmap_config_version: found {}, expected 1", *version));
  }
  Json ai = entries.take("ai");
  if (!ai.is_null()) take_integration(std::move(ai), name + ": ai", options, problems);
  const Motor slow = take_motor(entries, "slow", problems, options.warnings);
  const Motor fast = take_motor(entries, "fast", problems, options.warnings);
  options.slow = slow.points.value_or(options.slow);
  options.fast = fast.points.value_or(options.fast);
  options.slow_range = slow.range;
  options.fast_range = fast.range;
  if (const auto bins = entries.whole("npt_rad"); bins && *bins >= 1 && *bins <= 10'000'000) {
    options.integration.settings.bins = static_cast<std::uint32_t>(*bins);
  }
  if (const auto bins = entries.whole("npt_azim"); bins && *bins >= 0 && *bins <= 1'000'000) {
    options.integration.settings.azimuthal_bins = *bins > 1 ? static_cast<std::uint32_t>(*bins) : 0;
  }
  options.offset = entries.whole("offset").value_or(options.offset);
  if (const auto zigzag = entries.flag("zigzag_scan")) options.zigzag = *zigzag;
  if (const auto output = entries.text("output_file"); output && !output->empty()) options.output = *output;
  // What pyFAI writes by itself is no title that anybody would miss.
  if (const auto title = entries.text("experiment_title");
      title && !title->empty() && *title != "Diffraction Mapping") {
    entries.warning(fmt::format("experiment_title \"{}\" is not written", *title));
  }
  take_input(entries, options, problems);
  entries.refuse_others();
}

/// Python's json module writes bare NaN, Infinity and -Infinity, which JSON does not have: made text here.
std::string quoted_numbers(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  bool in_string = false;
  for (std::size_t place = 0; place < text.size(); ++place) {
    const char letter = text[place];
    if (in_string) {
      out += letter;
      if (letter == '\\' && place + 1 < text.size())
        out += text[++place];
      else if (letter == '"')
        in_string = false;
      continue;
    }
    bool word_found = false;
    for (const std::string_view word : {"-Infinity", "Infinity", "NaN"}) {
      if (!text.substr(place).starts_with(word)) continue;
      out += '"';
      out += word;
      out += '"';
      place += word.size() - 1;
      word_found = true;
      break;
    }
    if (word_found) continue;
    in_string = letter == '"';
    out += letter;
  }
  return out;
}

}  // namespace

std::string image_url(std::string_view url) {
  std::error_code error;
  if (fs::exists(fs::path(url), error)) return std::string(url);
  std::string_view rest = url;
  std::string_view scheme;
  for (const std::string_view known : {"silx:", "fabio:", "file:"}) {
    if (!rest.starts_with(known)) continue;
    scheme = known;
    rest.remove_prefix(known.size());
    if (rest.starts_with("//")) rest.remove_prefix(2);
    break;
  }
  if (scheme.empty() && rest.find("://") != std::string_view::npos) {
    throw InputError(fmt::format("found \"{}\", expected a file, or silx:, fabio: or file: before it", url));
  }
  const std::size_t question = rest.find('?');
  std::string file(rest.substr(0, question));
  std::string dataset;
  if (const std::size_t colons = file.find("::"); colons != std::string::npos) {
    dataset = file.substr(colons + 2);
    file.resize(colons);
  }
  std::string_view query = question == std::string_view::npos ? std::string_view{} : rest.substr(question + 1);
  while (!query.empty()) {
    const std::size_t end = std::min(query.find('&'), query.size());
    const std::string_view part = query.substr(0, end);
    query.remove_prefix(std::min(end + 1, query.size()));
    if (part.starts_with("path=")) {
      dataset = part.substr(5);
    } else if (part.starts_with("slice=")) {
      // The only image of a file of one image.
      if (scheme == "fabio:" && part == "slice=0") continue;
      throw InputError(fmt::format("found \"{}\", expected a whole image: slices are not supported", url));
    } else if (part.find('=') == std::string_view::npos) {
      dataset = part;  // silx: a query without a name is the dataset
    } else {
      throw InputError(fmt::format("found \"{}\", expected path=DATASET behind the question mark", url));
    }
  }
  if (file.empty()) throw InputError(fmt::format("found \"{}\", expected the name of a file in it", url));
  return dataset.empty() ? file : file + "::" + dataset;
}

void apply_configuration_text(std::string_view text, const std::string& source, MapOptions& options) {
  Json json;
  try {
    json = Json::parse(quoted_numbers(text));
  } catch (const Json::parse_error& error) {
    throw InputError(fmt::format("{}: is no JSON: {}", source, error.what()));
  }
  if (!json.is_object()) throw InputError(fmt::format("{}: found no object, expected {{...}}", source));
  constexpr std::array of_diffmap = {"ai",         "diffmap_config_version",
                                     "slow_motor", "fast_motor",
                                     "nbpt_slow",  "nbpt_fast",
                                     "npt_slow",   "npt_fast",
                                     "input_data"};
  const bool diffmap =
      std::any_of(of_diffmap.begin(), of_diffmap.end(), [&](const char* key) { return json.contains(key); });
  Problems problems;
  if (diffmap) {
    take_diffmap(std::move(json), source, options, problems);
  } else {
    take_integration(std::move(json), source, options, problems);
  }
  problems.throw_if_any();
}

void apply_configuration(const fs::path& file, MapOptions& options) {
  std::error_code error;
  if (!fs::is_regular_file(file, error)) {
    throw InputError(fmt::format("--config {}: found {}, expected a JSON file", file.string(),
                                 fs::exists(file, error) ? "something that is no file" : "nothing"));
  }
  std::ifstream stream(file, std::ios::binary);
  const std::string text((std::istreambuf_iterator<char>(stream)), std::istreambuf_iterator<char>());
  if (!stream) throw InputError(fmt::format("--config {}: cannot be read", file.string()));
  apply_configuration_text(text, file.string(), options);
}

}  // namespace annulus::driver
