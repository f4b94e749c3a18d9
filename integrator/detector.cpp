#include "integrator/detector.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <limits>
#include <tuple>
#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/errors.hpp"

namespace annulus::integrator {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::string_view plain_name = "Detector";

/// What the modules of a family look like, in pixels, and the size of a pixel.
struct Family {
  std::string_view name;
  std::uint32_t module_rows;
  std::uint32_t module_columns;
  std::uint32_t gap_rows;
  std::uint32_t gap_columns;
  double pixel_m;
  /// A CdTe module has a seam of wider pixels along its middle column (module_columns / 2), which are not used:
  /// `seam_before` columns left of it, and `seam_after` from it on to the right.
  std::uint32_t seam_before;
  std::uint32_t seam_after;
};

struct Model {
  std::string_view name;
  std::string_view family;
  std::uint32_t rows;
  std::uint32_t columns;
};

// Names and numbers as in pyFAI 2026.9, detectors/_dectris.py; tests/unit/pyfai_reference.py compares all masks.
constexpr auto families = std::to_array<Family>({
    {"Eiger", 514, 1030, 37, 10, 75e-6, 0, 0},
    {"Eiger2", 512, 1028, 38, 12, 75e-6, 0, 0},
    {"Eiger2CdTe", 512, 1028, 38, 12, 75e-6, 1, 1},
    {"Pilatus", 195, 487, 17, 7, 172e-6, 0, 0},
    {"PilatusCdTe", 195, 487, 17, 7, 172e-6, 1, 2},
    {"Pilatus4", 255, 513, 20, 7, 150e-6, 0, 0},
    {"Pilatus4_CdTe", 255, 513, 20, 7, 150e-6, 0, 1},
});

// A family's own name (shape 0 x 0) is a detector of any shape, which its Detector_config gives.
constexpr auto models = std::to_array<Model>({
    {"Eiger", "Eiger", 0, 0},
    {"Eiger500k", "Eiger", 514, 1030},
    {"Eiger1M", "Eiger", 1065, 1030},
    {"Eiger4M", "Eiger", 2167, 2070},
    {"Eiger9M", "Eiger", 3269, 3110},
    {"Eiger16M", "Eiger", 4371, 4150},
    {"Eiger2", "Eiger2", 0, 0},
    {"Eiger2_250k", "Eiger2", 512, 512},
    {"Eiger2_500k", "Eiger2", 512, 1028},
    {"Eiger2_1M", "Eiger2", 1062, 1028},
    {"Eiger2_1MW", "Eiger2", 512, 2068},
    {"Eiger2_2MW", "Eiger2", 512, 4148},
    {"Eiger2_4M", "Eiger2", 2162, 2068},
    {"Eiger2_9M", "Eiger2", 3262, 3108},
    {"Eiger2_16M", "Eiger2", 4362, 4148},
    {"Eiger2CdTe", "Eiger2CdTe", 0, 0},
    {"Eiger2CdTe_500k", "Eiger2CdTe", 512, 1028},
    {"Eiger2CdTe_1M", "Eiger2CdTe", 1062, 1028},
    {"Eiger2CdTe_1MW", "Eiger2CdTe", 512, 2068},
    {"Eiger2CdTe_2MW", "Eiger2CdTe", 512, 4148},
    {"Eiger2CdTe_4M", "Eiger2CdTe", 2162, 2068},
    {"Eiger2CdTe_9M", "Eiger2CdTe", 3262, 3108},
    {"Eiger2CdTe_16M", "Eiger2CdTe", 4362, 4148},
    {"Pilatus", "Pilatus", 0, 0},
    {"Pilatus100k", "Pilatus", 195, 487},
    {"Pilatus200k", "Pilatus", 407, 487},
    {"Pilatus300k", "Pilatus", 619, 487},
    {"Pilatus300kw", "Pilatus", 195, 1475},
    {"Pilatus900k", "Pilatus", 619, 1475},
    {"Pilatus1M", "Pilatus", 1043, 981},
    {"Pilatus2M", "Pilatus", 1679, 1475},
    {"Pilatus6M", "Pilatus", 2527, 2463},
    {"PilatusCdTe", "PilatusCdTe", 0, 0},
    {"PilatusCdTe300k", "PilatusCdTe", 619, 487},
    {"PilatusCdTe300kw", "PilatusCdTe", 195, 1475},
    {"PilatusCdTe900kw", "PilatusCdTe", 195, 4439},
    {"PilatusCdTe1M", "PilatusCdTe", 1043, 981},
    {"PilatusCdTe2M", "PilatusCdTe", 1679, 1475},
    {"Pilatus4", "Pilatus4", 0, 0},
    {"Pilatus4_260k", "Pilatus4", 530, 513},
    {"Pilatus4_260kw", "Pilatus4", 255, 1033},
    {"Pilatus4_1M", "Pilatus4", 1080, 1033},
    {"Pilatus4_2M", "Pilatus4", 1630, 1553},
    {"Pilatus4_4M", "Pilatus4", 2180, 2073},
    {"Pilatus4_CdTe", "Pilatus4_CdTe", 0, 0},
    {"Pilatus4_CdTe_260k", "Pilatus4_CdTe", 530, 513},
    {"Pilatus4_CdTe_260kw", "Pilatus4_CdTe", 255, 1033},
    {"Pilatus4_CdTe_1M", "Pilatus4_CdTe", 1080, 1033},
    {"Pilatus4_CdTe_2M", "Pilatus4_CdTe", 1630, 1553},
    {"Pilatus4_CdTe_4M", "Pilatus4_CdTe", 2180, 2073},
});

const Family& family_of(const Model& model) {
  const auto found = std::ranges::find(families, model.family, &Family::name);
  ANNULUS_EXPECT(found != families.end());
  return *found;
}

/// The model with exactly this class name; nullptr for the plain detector and for names that we do not know.
const Model* model_named(std::string_view name) {
  const auto found = std::ranges::find(models, name, &Model::name);
  return found == models.end() ? nullptr : &*found;
}

char lower(char letter) { return letter >= 'A' && letter <= 'Z' ? static_cast<char>(letter - 'A' + 'a') : letter; }

/// What is compared of a name: lower case, no blanks, '-' or '_', and "cdte" last, since both "Pilatus CdTe 2M" and
/// "Pilatus 2M CdTe" are in use.
std::string search_key(std::string_view name) {
  std::string key;
  for (const char letter : name) {
    if (letter != ' ' && letter != '-' && letter != '_') key += lower(letter);
  }
  constexpr std::string_view cdte = "cdte";
  if (const std::size_t place = key.find(cdte); place != std::string::npos) {
    key.erase(place, cdte.size());
    key += cdte;
  }
  return key;
}

/// Levenshtein's distance: single-letter insertions, deletions and replacements between two words.
std::size_t edit_distance(std::string_view from, std::string_view to) {
  std::vector<std::size_t> costs(to.size() + 1);
  for (std::size_t place = 0; place < costs.size(); ++place) costs[place] = place;
  for (std::size_t row = 1; row <= from.size(); ++row) {
    std::size_t diagonal = std::exchange(costs[0], row);
    for (std::size_t column = 1; column <= to.size(); ++column) {
      const std::size_t replaced = diagonal + (from[row - 1] == to[column - 1] ? 0 : 1);
      diagonal = costs[column];
      costs[column] = std::min({replaced, costs[column] + 1, costs[column - 1] + 1});
    }
  }
  return costs.back();
}

[[noreturn]] void throw_unknown(std::string_view name) {
  constexpr std::size_t longest_name = 64;  // far beyond any detector's: keep the message and the search short
  const std::string shown(name.substr(0, longest_name));
  const std::string key = search_key(shown);
  std::vector<std::pair<std::size_t, std::string>> near;
  for (const std::string& known : detector_names()) {
    const std::size_t distance = edit_distance(key, search_key(known));
    // A third of the letters wrong is no longer a slip of the keyboard.
    if (distance <= std::max<std::size_t>(2, key.size() / 3)) near.emplace_back(distance, known);
  }
  std::ranges::sort(near);
  constexpr std::size_t shown_at_most = 5;
  if (near.size() > shown_at_most) near.resize(shown_at_most);
  std::string message = fmt::format("unknown detector '{}'", shown);
  for (std::size_t rank = 0; rank < near.size(); ++rank) {
    message += fmt::format("{}{}", rank == 0 ? "; did you mean " : ", ", near[rank].second);
  }
  message += fmt::format(
      "{} Known are the families Eiger, Eiger2, Eiger2CdTe, Pilatus, PilatusCdTe, Pilatus4, "
      "Pilatus4_CdTe; any other flat detector is '{}' with pixel1, pixel2 and max_shape",
      near.empty() ? "." : "?", plain_name);
  throw InputError(message);
}

[[noreturn]] void throw_bad_config(std::string_view detector, std::string_view key, const std::string& found,
                                   std::string_view expected) {
  constexpr std::size_t shown_at_most = 80;
  throw InputError(fmt::format("Detector_config of {}: {}: found {}, expected {}", detector, key,
                               found.substr(0, shown_at_most), expected));
}

/// Detector_config as it was written; what was not there or null is absent.
struct Config {
  std::optional<double> pixel1_m;
  std::optional<double> pixel2_m;
  std::optional<std::pair<std::uint32_t, std::uint32_t>> max_shape;
  Orientation orientation = Orientation::bottom_right;
};

/// A whole number from 1 to what 32 bits hold, also written as 2070.0; absent for anything else.
std::optional<std::uint32_t> extent_of(const Json& value) {
  if (!value.is_number()) return std::nullopt;
  const double number = value.get<double>();
  if (!(number >= 1.0 && number <= std::numeric_limits<std::uint32_t>::max()) || number != std::floor(number)) {
    return std::nullopt;
  }
  return static_cast<std::uint32_t>(number);
}

std::pair<std::uint32_t, std::uint32_t> shape_of(std::string_view detector, std::string_view key, const Json& value) {
  if (value.is_array() && value.size() == 2) {
    const auto rows = extent_of(value[0]);
    const auto columns = extent_of(value[1]);
    // Pixels are counted in 32 bits throughout.
    if (rows && columns && std::uint64_t{*rows} * *columns <= std::numeric_limits<std::uint32_t>::max()) {
      return {*rows, *columns};
    }
  }
  throw_bad_config(detector, key, value.dump(), "[rows, columns], two whole numbers of together less than 2^32 pixels");
}

double pixel_size_of(std::string_view detector, std::string_view key, const Json& value) {
  const double size = value.is_number() ? value.get<double>() : 0.0;
  if (!(size > 0.0 && std::isfinite(size))) {
    throw_bad_config(detector, key, value.dump(), "the size of a pixel in m, a positive number");
  }
  return size;
}

Orientation orientation_of(std::string_view detector, const Json& value) {
  const double number = value.is_number() ? value.get<double>() : -1.0;
  if (number == 0.0) return Orientation::bottom_right;  // "not specified"
  for (const Orientation orientation :
       {Orientation::top_left, Orientation::top_right, Orientation::bottom_right, Orientation::bottom_left}) {
    if (number == static_cast<double>(orientation)) return orientation;
  }
  throw_bad_config(detector, "orientation", value.dump(), "1, 2, 3 or 4");
}

Config parse_config(std::string_view detector, const Model* model, std::string_view text) {
  Config config;
  if (text.find_first_not_of(" \t\r\n") == std::string_view::npos) return config;
  const Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (json.is_null()) return config;
  if (!json.is_object()) {
    throw_bad_config(detector, "the whole", "'" + std::string(text) + "'", R"(a JSON object, as {"orientation": 3})");
  }
  for (const auto& [written_key, value] : json.items()) {
    if (value.is_null()) continue;
    std::string key = written_key;
    std::ranges::transform(key, key.begin(), lower);
    if (key == "pixel1") {
      config.pixel1_m = pixel_size_of(detector, key, value);
    } else if (key == "pixel2") {
      config.pixel2_m = pixel_size_of(detector, key, value);
    } else if (key == "max_shape") {
      config.max_shape = shape_of(detector, key, value);
    } else if (key == "orientation") {
      config.orientation = orientation_of(detector, value);
    } else if (key == "sensor") {
      // Material and thickness enter the correction of parallax alone, which a PONI file asks for in its own key.
    } else if (key == "module_size" && model != nullptr) {
      const Family& family = family_of(*model);
      if (shape_of(detector, key, value) != std::pair{family.module_rows, family.module_columns}) {
        throw_bad_config(detector, key, value.dump(),
                         fmt::format("[{}, {}], as the detector is made", family.module_rows, family.module_columns));
      }
    } else if (key == "splinefile" || key == "x_offset_file" || key == "y_offset_file") {
      throw_bad_config(detector, written_key, value.dump(), "none: distorted detectors are not supported");
    } else {
      throw_bad_config(detector, "unknown key", "'" + written_key + "'",
                       "pixel1, pixel2, max_shape, orientation or sensor");
    }
  }
  return config;
}

/// How many physical pixels one pixel of the given size stands for, rounded (half to even) as pyFAI does.
std::uint32_t binning_of(double pixel_m, double physical_pixel_m) {
  const double ratio = std::nearbyint(pixel_m / physical_pixel_m);
  return ratio > 1.0 ? static_cast<std::uint32_t>(std::min(ratio, 4294967295.0)) : 1;
}

/// 1 for each row (or column) that lies, in part, in a gap or a seam; `extent` pixels of `binning` physical ones each.
std::vector<std::uint8_t> masked_lines(std::uint32_t extent, std::uint32_t binning, std::uint32_t module,
                                       std::uint32_t gap, std::uint32_t seam_before, std::uint32_t seam_after) {
  const std::uint64_t physical_extent = std::uint64_t{extent} * binning;
  std::vector<std::uint8_t> lines(extent, 0);
  const auto mask = [&](std::uint64_t first, std::uint64_t end) {
    for (std::uint64_t line = first; line < std::min(end, physical_extent); ++line) lines[line / binning] = 1;
  };
  const std::uint64_t period = std::uint64_t{module} + gap;
  for (std::uint64_t start = 0; start < physical_extent; start += period) {
    mask(start + module, start + period);
    const std::uint64_t middle = start + module / 2;
    if (middle < physical_extent) mask(middle - seam_before, middle + seam_after);
  }
  return lines;
}

}  // namespace

std::vector<std::uint8_t> Detector::mask() const {
  std::vector<std::uint8_t> pixels(static_cast<std::size_t>(rows) * columns, 0);
  const Model* model = model_named(name);
  if (model == nullptr || pixels.empty()) return pixels;
  const Family& family = family_of(*model);
  const auto masked_rows =
      masked_lines(rows, binning_of(pixel1_m, family.pixel_m), family.module_rows, family.gap_rows, 0, 0);
  const auto masked_columns = masked_lines(columns, binning_of(pixel2_m, family.pixel_m), family.module_columns,
                                           family.gap_columns, family.seam_before, family.seam_after);
  for (std::size_t row = 0; row < rows; ++row) {
    std::uint8_t* line = pixels.data() + row * columns;
    if (masked_rows[row] != 0) {
      std::fill_n(line, columns, std::uint8_t{1});
    } else {
      std::ranges::copy(masked_columns, line);
    }
  }
  return pixels;
}

Detector make_detector(std::string_view name, std::string_view config_json) {
  const std::string key = search_key(name);
  const auto found = std::ranges::find_if(models, [&](const Model& model) { return search_key(model.name) == key; });
  const Model* model = found == models.end() ? nullptr : &*found;
  if (model == nullptr && key != search_key(plain_name)) throw_unknown(name);

  Detector detector;
  detector.name = model != nullptr ? model->name : plain_name;
  detector.photon_counting = model != nullptr;
  const Config config = parse_config(detector.name, model, config_json);
  detector.orientation = config.orientation;
  const double physical_pixel_m = model != nullptr ? family_of(*model).pixel_m : 0.0;
  detector.pixel1_m = config.pixel1_m.value_or(physical_pixel_m);
  detector.pixel2_m = config.pixel2_m.value_or(physical_pixel_m);
  if (config.max_shape) {
    std::tie(detector.rows, detector.columns) = *config.max_shape;
  } else if (model != nullptr) {
    detector.rows = model->rows;
    detector.columns = model->columns;
  }
  if (model == nullptr || !detector.has_shape()) return detector;

  // A pixel some times larger than the physical one tells of an image that was binned: max_shape is that before it.
  detector.rows /= binning_of(detector.pixel1_m, physical_pixel_m);
  detector.columns /= binning_of(detector.pixel2_m, physical_pixel_m);
  if (!detector.has_shape()) {
    throw_bad_config(detector.name, "pixel1, pixel2", fmt::format("{} m, {} m", detector.pixel1_m, detector.pixel2_m),
                     fmt::format("{} m, or some times that of a binned image", physical_pixel_m));
  }
  return detector;
}

std::string config_json_of(const Detector& detector) {
  Json config = Json::object();
  if (detector.pixel1_m > 0.0) config["pixel1"] = detector.pixel1_m;
  if (detector.pixel2_m > 0.0) config["pixel2"] = detector.pixel2_m;
  const Model* model = model_named(detector.name);
  const double physical_pixel_m = model != nullptr ? family_of(*model).pixel_m : 0.0;
  const std::uint32_t binning1 = model != nullptr ? binning_of(detector.pixel1_m, physical_pixel_m) : 1;
  const std::uint32_t binning2 = model != nullptr ? binning_of(detector.pixel2_m, physical_pixel_m) : 1;
  const bool shape_is_known =
      model != nullptr && model->rows / binning1 == detector.rows && model->columns / binning2 == detector.columns;
  if (detector.has_shape() && !shape_is_known) {
    config["max_shape"] = {std::uint64_t{detector.rows} * binning1, std::uint64_t{detector.columns} * binning2};
  }
  if (detector.orientation != Orientation::bottom_right) {
    config["orientation"] = static_cast<int>(detector.orientation);
  }
  // Python's separators, as pyFAI writes them.
  std::string text;
  for (const auto& [key, value] : config.items()) {
    std::string shown = value.dump();
    if (value.is_array()) shown = fmt::format("[{}, {}]", value[0].dump(), value[1].dump());
    text += fmt::format("{}\"{}\": {}", text.empty() ? "" : ", ", key, shown);
  }
  return "{" + text + "}";
}

std::vector<std::string> detector_names() {
  std::vector<std::string> names{std::string(plain_name)};
  for (const Model& model : models) names.emplace_back(model.name);
  std::ranges::sort(names);
  return names;
}

}  // namespace annulus::integrator
