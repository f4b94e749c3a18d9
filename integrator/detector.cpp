#include "integrator/detector.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <limits>
#include <system_error>
#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/errors.hpp"
#include "integrator/detector_registry.hpp"
#include "integrator/detector_shapes.hpp"
#include "integrator/spline.hpp"

namespace annulus::integrator {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::string_view plain_name = "Detector";
constexpr std::string_view nexus_name = "NexusDetector";

/// Sizes of a pixel as two programs write them are the same when they differ by less than this part.
constexpr double same_size = 1e-4;

char lower(char letter) { return letter >= 'A' && letter <= 'Z' ? static_cast<char>(letter - 'A' + 'a') : letter; }

[[noreturn]] void throw_unknown(std::string_view name) {
  constexpr std::size_t longest_name = 64;  // far beyond any detector's: keep the message and the search short
  const std::string shown(name.substr(0, longest_name));
  if (is_hexagonal(shown)) {
    throw InputError(fmt::format("detector '{}': found hexagonal pixels, expected pixels of four corners", shown));
  }
  const std::vector<std::string> near = near_names(shown);
  std::string message = fmt::format("unknown detector '{}'", shown);
  for (std::size_t rank = 0; rank < near.size(); ++rank) {
    message += fmt::format("{}{}", rank == 0 ? "; did you mean " : ", ", near[rank]);
  }
  message += fmt::format(
      "{} Known are pyFAI's detectors by their names and aliases, and NeXus detector files; any other flat detector is "
      "'{}' with pixel1, pixel2 and max_shape",
      near.empty() ? "." : "?", plain_name);
  throw InputError(message);
}

[[noreturn]] void throw_bad_config(std::string_view detector, std::string_view key, const std::string& found,
                                   std::string_view expected) {
  constexpr std::size_t shown_at_most = 80;
  throw InputError(fmt::format("Detector_config of {}: {}: found {}, expected {}", detector, key,
                               found.substr(0, shown_at_most), expected));
}

// ----------------------------------------------------------------------------------------- what a config holds

/// Detector_config as it was written; what was not there or null is absent.
struct Config {
  std::optional<double> pixel1_m;
  std::optional<double> pixel2_m;
  std::optional<Shape> max_shape;
  std::optional<Orientation> orientation;
  std::optional<Sensor> sensor;
  std::optional<double> radius_m;
  std::optional<std::string> spline_file;
  std::optional<std::string> x_offset_file;
  std::optional<std::string> y_offset_file;
  std::optional<std::string> nexus_file;
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

Shape shape_of(std::string_view detector, std::string_view key, const Json& value) {
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

double length_of(std::string_view detector, std::string_view key, const Json& value, std::string_view expected) {
  const double length = value.is_number() ? value.get<double>() : 0.0;
  if (!(length > 0.0 && std::isfinite(length))) throw_bad_config(detector, key, value.dump(), expected);
  return length;
}

Orientation orientation_of(std::string_view detector, const Json& value) {
  const double number = value.is_number() ? value.get<double>() : -1.0;
  for (const Orientation orientation :
       {Orientation::top_left, Orientation::top_right, Orientation::bottom_right, Orientation::bottom_left}) {
    if (number == static_cast<double>(orientation)) return orientation;
  }
  throw_bad_config(detector, "orientation", value.dump(), "1, 2, 3 or 4");
}

Sensor sensor_of(std::string_view detector, const Json& value) {
  constexpr std::string_view expected = R"({"material": "Si", "thickness": 0.00032}, the thickness in m)";
  if (!value.is_object() || !value.contains("material") || !value["material"].is_string()) {
    throw_bad_config(detector, "sensor", value.dump(), expected);
  }
  Sensor sensor{value["material"].get<std::string>(), 0.0};
  for (const auto& [key, part] : value.items()) {
    if (key == "thickness") {
      if (!part.is_null()) sensor.thickness_m = length_of(detector, "sensor", part, expected);
    } else if (key != "material") {
      throw_bad_config(detector, "sensor", value.dump(), expected);
    }
  }
  return sensor;
}

std::string file_name_of(std::string_view detector, std::string_view key, const Json& value) {
  if (!value.is_string() || value.get<std::string>().empty()) {
    throw_bad_config(detector, key, value.dump(), "the name of a file");
  }
  return value.get<std::string>();
}

/// What the configuration of a detector may hold beside pixels, shape, orientation and sensor.
struct Allowed {
  bool radius = false;
  bool spline_file = false;
  bool offset_files = false;
  bool nexus_file = false;
  std::optional<Shape> module{};
};

Allowed allowed_for(std::string_view detector, const Model* model) {
  if (model == nullptr) return {.spline_file = detector == plain_name, .nexus_file = detector == nexus_name};
  const Family& family = family_of(*model);
  Allowed allowed{.radius = family.layout == Layout::cylinder,
                  .spline_file = family.layout == Layout::spline,
                  .offset_files = family.name == "Pilatus" || family.name == "PilatusCdTe"};
  if (family.has_modules()) allowed.module = Shape{family.module_rows, family.module_columns};
  return allowed;
}

Config parse_config(std::string_view detector, const Allowed& allowed, std::string_view text) {
  Config config;
  if (text.find_first_not_of(" \t\r\n") == std::string_view::npos) return config;
  const Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (json.is_null()) return config;
  if (!json.is_object()) {
    throw_bad_config(detector, "the whole", "'" + std::string(text) + "'", R"(a JSON object, as {"orientation": 3})");
  }
  constexpr std::string_view pixel_size = "the size of a pixel in m, a positive number";
  for (const auto& [written_key, value] : json.items()) {
    if (value.is_null()) continue;
    std::string key = written_key;
    std::ranges::transform(key, key.begin(), lower);
    if (key == "pixel1") {
      config.pixel1_m = length_of(detector, key, value, pixel_size);
    } else if (key == "pixel2") {
      config.pixel2_m = length_of(detector, key, value, pixel_size);
    } else if (key == "max_shape") {
      config.max_shape = shape_of(detector, key, value);
    } else if (key == "orientation") {
      const bool not_specified = value.is_number() && value.get<double>() == 0.0;
      if (!not_specified) config.orientation = orientation_of(detector, value);
    } else if (key == "sensor") {
      config.sensor = sensor_of(detector, value);
    } else if (key == "module_size" && allowed.module) {
      if (shape_of(detector, key, value) != *allowed.module) {
        throw_bad_config(
            detector, key, value.dump(),
            fmt::format("[{}, {}], as the detector is made", allowed.module->rows, allowed.module->columns));
      }
    } else if (key == "radius" && allowed.radius) {
      config.radius_m = length_of(detector, key, value, "the detector's radius in m, a positive number");
    } else if (key == "splinefile" && allowed.spline_file) {
      config.spline_file = file_name_of(detector, written_key, value);
    } else if (key == "x_offset_file" && allowed.offset_files) {
      config.x_offset_file = file_name_of(detector, key, value);
    } else if (key == "y_offset_file" && allowed.offset_files) {
      config.y_offset_file = file_name_of(detector, key, value);
    } else if (key == "filename" && allowed.nexus_file) {
      config.nexus_file = file_name_of(detector, key, value);
    } else if (key == "splinefile" || key == "x_offset_file" || key == "y_offset_file") {
      throw_bad_config(detector, written_key, value.dump(), "none: such files do not belong to this detector");
    } else {
      throw_bad_config(detector, "unknown key", "'" + written_key + "'",
                       "pixel1, pixel2, max_shape, orientation, sensor, or what this detector alone has");
    }
  }
  return config;
}

// ------------------------------------------------------------------------------------------- shapes of readouts

/// How many physical pixels one pixel of the given size stands for along one axis.
std::uint32_t line_binning(const Family& family, double pixel_m, double physical_pixel_m) {
  switch (family.readout) {
    case Readout::any_binning: {
      const double ratio = std::nearbyint(pixel_m / physical_pixel_m);  // half to even, as pyFAI rounds
      return ratio > 1.0 ? static_cast<std::uint32_t>(std::min(ratio, 4294967295.0)) : 1;
    }
    case Readout::listed:
      for (const BinnedPixel& listed : family.binned_pixels) {
        if (std::abs(pixel_m - listed.pixel_m) <= same_size * listed.pixel_m) return listed.binning;
      }
      return 1;
    case Readout::mar345:
    case Readout::cylinder:
    case Readout::fixed: break;
  }
  return 1;
}

/// How many physical pixels, along both axes, make a pixel of a detector of this family.
Binning binning_of(const Family& family, double pixel1_m, double pixel2_m) {
  return {line_binning(family, pixel1_m, family.pixel1_m), line_binning(family, pixel2_m, family.pixel2_m)};
}

/// The image's shape when the whole detector has `max_shape` physical pixels.
Shape readout_shape(const Family& family, Shape max_shape, double pixel1_m, double pixel2_m) {
  if (family.readout == Readout::mar345) {
    // The plate stays, its pixels become larger. 1e-6: for ratios that floating point puts just below a whole number.
    const auto scaled = [](std::uint32_t extent, double ratio) {
      const double result = std::floor(extent * ratio + 1e-6);
      return static_cast<std::uint32_t>(std::clamp(result, 0.0, 65535.0));
    };
    return {scaled(max_shape.rows, family.pixel1_m / pixel1_m), scaled(max_shape.columns, family.pixel2_m / pixel2_m)};
  }
  const Binning binning = binning_of(family, pixel1_m, pixel2_m);
  return {max_shape.rows / binning.rows, max_shape.columns / binning.columns};
}

/// The shape in physical pixels of which readout_shape() makes the detector's own.
Shape max_shape_of(const Model& model, const Detector& detector) {
  const Family& family = family_of(model);
  const Shape shape{detector.rows, detector.columns};
  const Shape all{model.rows, model.columns};
  if (readout_shape(family, all, detector.pixel1_m, detector.pixel2_m) == shape) return all;
  if (family.readout == Readout::mar345) {
    return {static_cast<std::uint32_t>(std::ceil(shape.rows * (detector.pixel1_m / family.pixel1_m) - 1e-6)),
            static_cast<std::uint32_t>(std::ceil(shape.columns * (detector.pixel2_m / family.pixel2_m) - 1e-6))};
  }
  const Binning binning = binning_of(family, detector.pixel1_m, detector.pixel2_m);
  return {shape.rows * binning.rows, shape.columns * binning.columns};
}

// --------------------------------------------------------------------------------------------- pixel positions

Flip flip1_of(Orientation orientation) {
  return orientation == Orientation::top_left || orientation == Orientation::top_right ? Flip::yes : Flip::no;
}

Flip flip2_of(Orientation orientation) {
  return orientation == Orientation::top_left || orientation == Orientation::bottom_left ? Flip::yes : Flip::no;
}

using Floats = std::shared_ptr<const std::vector<float>>;

Floats shared(std::vector<float> values) { return std::make_shared<const std::vector<float>>(std::move(values)); }

/// `vertices` of orientation 3 as the detector has them.
Floats oriented(std::vector<float> vertices, const Detector& detector) {
  if (detector.orientation == Orientation::bottom_right) return shared(std::move(vertices));
  return shared(flipped_vertices(vertices, {detector.rows, detector.columns}, flip1_of(detector.orientation),
                                 flip2_of(detector.orientation)));
}

/// Sets the vertices of a detector of the registry, if it is no regular flat grid.
void place_pixels(const Model& model, Shape max_shape, Detector& detector) {
  const Family& family = family_of(model);
  if (family.layout == Layout::grid || family.layout == Layout::spline || !detector.has_shape()) return;
  if (family.layout == Layout::cylinder) {
    detector.vertices = oriented(model_vertices(model, {detector.rows, detector.columns}, detector.pixel1_m,
                                                detector.pixel2_m, detector.radius_m),
                                 detector);
    return;
  }
  const Binning binning = binning_of(family, detector.pixel1_m, detector.pixel2_m);
  const std::array<std::pair<double, double>, 2> sizes = {
      {{detector.pixel1_m, binning.rows * family.pixel1_m}, {detector.pixel2_m, binning.columns * family.pixel2_m}}};
  for (const auto& [found, expected] : sizes) {
    if (std::abs(found - expected) > same_size * expected) {
      throw_bad_config(detector.name, "pixel1, pixel2", fmt::format("{} m", found),
                       fmt::format("{} m, or some times that of a binned image", family.pixel1_m));
    }
  }
  if (family.layout == Layout::cirpad && max_shape != Shape{model.rows, model.columns}) {
    throw_bad_config(detector.name, "max_shape", fmt::format("[{}, {}]", max_shape.rows, max_shape.columns),
                     fmt::format("[{}, {}], as the detector is made", model.rows, model.columns));
  }
  std::vector<float> vertices = model_vertices(model, max_shape, family.pixel1_m, family.pixel2_m, 0.0);
  if (binning != Binning{}) vertices = binned_vertices(vertices, max_shape, binning);
  detector.vertices = oriented(std::move(vertices), detector);
}

/// Takes shape, pixels, their places and, for a FReLoN, the mask from a spline file.
void distort_by_spline(const Config& config, const Model* model, const DetectorFiles& files, Detector& detector) {
  const std::filesystem::path file = files.locate(*config.spline_file);
  const SplineDistortion distortion = read_spline(file);
  const Shape shape = distortion.shape();
  const auto expect_same = [&](std::string_view key, const std::optional<double>& found, double expected) {
    if (found && std::abs(*found - expected) > same_size * expected) {
      throw_bad_config(detector.name, key, fmt::format("{} m", *found),
                       fmt::format("{} m, as {} says", expected, file.string()));
    }
  };
  expect_same("pixel1", config.pixel1_m, distortion.pixel_y_m);
  expect_same("pixel2", config.pixel2_m, distortion.pixel_x_m);
  if (config.max_shape && *config.max_shape != shape) {
    throw_bad_config(detector.name, "max_shape",
                     fmt::format("[{}, {}]", config.max_shape->rows, config.max_shape->columns),
                     fmt::format("[{}, {}], the valid region of {}", shape.rows, shape.columns, file.string()));
  }
  detector.pixel1_m = distortion.pixel_y_m;
  detector.pixel2_m = distortion.pixel_x_m;
  detector.rows = shape.rows;
  detector.columns = shape.columns;
  detector.file = file.string();
  detector.vertices = oriented(distortion.vertices(), detector);
  if (model != nullptr) {
    // The mask belongs to the taper, the image to the orientation.
    std::vector<std::uint8_t> mask = distortion.mask();
    if (flip1_of(detector.orientation) == Flip::yes) {
      for (std::size_t row = 0; row < shape.rows / 2; ++row) {
        std::swap_ranges(mask.begin() + static_cast<std::ptrdiff_t>(row * shape.columns),
                         mask.begin() + static_cast<std::ptrdiff_t>((row + 1) * shape.columns),
                         mask.begin() + static_cast<std::ptrdiff_t>((shape.rows - 1 - row) * shape.columns));
      }
    }
    if (flip2_of(detector.orientation) == Flip::yes) {
      for (std::size_t row = 0; row < shape.rows; ++row) {
        std::reverse(mask.begin() + static_cast<std::ptrdiff_t>(row * shape.columns),
                     mask.begin() + static_cast<std::ptrdiff_t>((row + 1) * shape.columns));
      }
    }
    detector.file_mask = std::make_shared<const std::vector<std::uint8_t>>(std::move(mask));
  }
}

void displace_by_images(const Config& config, const DetectorFiles& files, Detector& detector) {
  if (!config.x_offset_file || !config.y_offset_file) {
    throw_bad_config(detector.name, "x_offset_file, y_offset_file", "one of them", "both or none");
  }
  if (!files.offset) {
    throw_bad_config(detector.name, "x_offset_file", "'" + *config.x_offset_file + "'",
                     "none: images of offsets cannot be read here");
  }
  const auto read = [&](const std::string& name) {
    const std::filesystem::path file = files.locate(name);
    OffsetImage image = files.offset(file);
    if (image.rows != detector.rows || image.columns != detector.columns) {
      throw InputError(fmt::format("{}: found {} x {} pixels, expected {} x {} as {} has", file.string(), image.rows,
                                   image.columns, detector.rows, detector.columns, detector.name));
    }
    return image;
  };
  const OffsetImage offset1 = read(*config.y_offset_file);
  const OffsetImage offset2 = read(*config.x_offset_file);
  detector.vertices =
      shared(displaced_vertices(offset1.values, offset2.values, {detector.rows, detector.columns}, detector.pixel1_m,
                                detector.pixel2_m, flip1_of(detector.orientation), flip2_of(detector.orientation)));
  detector.offset1_file = files.locate(*config.y_offset_file).string();
  detector.offset2_file = files.locate(*config.x_offset_file).string();
}

Detector read_nexus(const std::string& name, const Config& config, const DetectorFiles& files) {
  if (!files.nexus) {
    throw InputError(fmt::format("detector file '{}': NeXus detector files cannot be read here", name));
  }
  const std::filesystem::path file = files.locate(name);
  Detector detector = files.nexus(file);
  detector.name = nexus_name;
  detector.file = file.string();
  const auto expect_same = [&](std::string_view key, const std::optional<double>& found, double expected) {
    if (found && std::abs(*found - expected) > same_size * expected) {
      throw_bad_config(nexus_name, key, fmt::format("{} m", *found),
                       fmt::format("{} m, as {} says", expected, file.string()));
    }
  };
  expect_same("pixel1", config.pixel1_m, detector.pixel1_m);
  expect_same("pixel2", config.pixel2_m, detector.pixel2_m);
  if (config.max_shape &&
      (config.max_shape->rows % detector.rows != 0 || config.max_shape->columns % detector.columns != 0)) {
    throw_bad_config(nexus_name, "max_shape",
                     fmt::format("[{}, {}]", config.max_shape->rows, config.max_shape->columns),
                     fmt::format("[{}, {}], as {} says", detector.rows, detector.columns, file.string()));
  }
  if (config.sensor) detector.sensor = config.sensor;
  if (config.orientation) detector = oriented_to(std::move(detector), *config.orientation);
  return detector;
}

/// True for names that can only be those of files.
bool names_a_file(std::string_view name) {
  if (name.find('/') != std::string_view::npos) return true;
  return std::ranges::any_of(std::array{".h5", ".hdf5", ".nxs"},
                             [&](std::string_view extension) { return name.ends_with(extension); });
}

/// As Python's json writes it, blanks included: what pyFAI's own files look like.
std::string python_json(const Json& value) {
  std::string text;
  if (value.is_object()) {
    for (const auto& [key, part] : value.items()) {
      text += fmt::format("{}\"{}\": {}", text.empty() ? "" : ", ", key, python_json(part));
    }
    return "{" + text + "}";
  }
  if (value.is_array()) {
    for (const Json& part : value) text += (text.empty() ? "" : ", ") + python_json(part);
    return "[" + text + "]";
  }
  return value.dump();
}

}  // namespace

std::filesystem::path DetectorFiles::locate(const std::string& name) const {
  std::error_code ignored;
  const std::filesystem::path file = name;
  if (file.is_relative() && !folder.empty() && !std::filesystem::exists(file, ignored) &&
      std::filesystem::exists(folder / file, ignored)) {
    return folder / file;
  }
  return file;
}

DetectorFiles DetectorFiles::beside(const std::filesystem::path& file) const {
  DetectorFiles files = *this;
  if (files.folder.empty()) files.folder = file.parent_path();
  return files;
}

std::vector<std::uint8_t> Detector::mask() const {
  if (file_mask) return *file_mask;
  const Shape shape{rows, columns};
  const Model* model = model_named(name);
  if (model == nullptr || shape.pixels() == 0) return std::vector<std::uint8_t>(shape.pixels(), 0);
  return model_mask(*model, shape, binning_of(family_of(*model), pixel1_m, pixel2_m));
}

Detector make_detector(std::string_view name, std::string_view config_json, const DetectorFiles& files) {
  const Model* model = find_model(name);
  const bool plain = search_key(name) == search_key(plain_name);
  const bool nexus = search_key(name) == search_key(nexus_name);
  if (model == nullptr && !plain && !nexus) {
    if (!names_a_file(name)) throw_unknown(name);
    return read_nexus(std::string(name), parse_config(nexus_name, allowed_for(nexus_name, nullptr), config_json),
                      files);
  }

  Detector detector;
  detector.name = model != nullptr ? model->name : (nexus ? nexus_name : plain_name);
  const Config config = parse_config(detector.name, allowed_for(detector.name, model), config_json);
  if (nexus) {
    if (!config.nexus_file) throw_bad_config(nexus_name, "filename", "none", "the name of a NeXus detector file");
    return read_nexus(*config.nexus_file, config, files);
  }
  detector.orientation = config.orientation.value_or(Orientation::bottom_right);
  detector.sensor = config.sensor;
  if (model == nullptr) {
    detector.pixel1_m = config.pixel1_m.value_or(0.0);
    detector.pixel2_m = config.pixel2_m.value_or(0.0);
    if (config.max_shape) {
      detector.rows = config.max_shape->rows;
      detector.columns = config.max_shape->columns;
    }
    if (config.spline_file) distort_by_spline(config, model, files, detector);
    return detector;
  }

  const Family& family = family_of(*model);
  detector.photon_counting = family.photon_counting;
  detector.dummy = family.dummy;
  detector.delta_dummy = family.delta_dummy;
  detector.radius_m = config.radius_m.value_or(family.radius_m);
  if (config.spline_file) {
    distort_by_spline(config, model, files, detector);
    return detector;
  }
  BinnedPixel usual{model->default_binning, 0.0};
  if (family.readout == Readout::listed) {
    usual = *std::ranges::find(family.binned_pixels, model->default_binning, &BinnedPixel::binning);
  }
  const auto usual_m = [&](double pixel_m) { return usual.pixel_m > 0.0 ? usual.pixel_m : usual.binning * pixel_m; };
  detector.pixel1_m = config.pixel1_m.value_or(usual_m(family.pixel1_m));
  detector.pixel2_m = config.pixel2_m.value_or(usual_m(family.pixel2_m));

  // A pixel some times larger than the physical one tells of an image that was binned: max_shape is that before it.
  const Shape max_shape = config.max_shape.value_or(Shape{model->rows, model->columns});
  if (max_shape.pixels() == 0) return detector;
  const Shape shape = readout_shape(family, max_shape, detector.pixel1_m, detector.pixel2_m);
  if (shape.pixels() == 0) {
    throw_bad_config(detector.name, "pixel1, pixel2", fmt::format("{} m, {} m", detector.pixel1_m, detector.pixel2_m),
                     fmt::format("{} m, or some times that of a binned image", family.pixel1_m));
  }
  detector.rows = shape.rows;
  detector.columns = shape.columns;
  if (config.x_offset_file || config.y_offset_file) {
    displace_by_images(config, files, detector);
  } else {
    place_pixels(*model, max_shape, detector);
  }
  return detector;
}

std::optional<Detector> binned_to(const Detector& detector, std::uint32_t rows, std::uint32_t columns) {
  if (rows == 0 || columns == 0) return std::nullopt;
  Detector result = detector;
  result.rows = rows;
  result.columns = columns;
  if (!detector.has_shape() || (detector.rows == rows && detector.columns == columns)) return result;
  const Model* model = model_named(detector.name);
  // What comes from a file is known for its own shape alone.
  if (model == nullptr || !detector.file.empty() || !detector.offset1_file.empty()) return std::nullopt;

  const Family& family = family_of(*model);
  Shape max_shape = max_shape_of(*model, detector);
  const Binning before = binning_of(family, detector.pixel1_m, detector.pixel2_m);
  // A listed readout may lack a line that the division gives: 1364 pixels of the SX165's 4096, binned threefold.
  const auto nearly = [](std::uint32_t extent, std::uint32_t all) { return extent == all || extent + 1 == all; };
  if (family.readout == Readout::listed && nearly(detector.rows, model->rows / before.rows) &&
      nearly(detector.columns, model->columns / before.columns)) {
    max_shape = {model->rows, model->columns};
  }
  const Binning binning{max_shape.rows / rows, max_shape.columns / columns};
  switch (family.readout) {
    case Readout::any_binning:
    case Readout::cylinder:
      if (binning.rows == 0 || binning.columns == 0 || max_shape.rows / binning.rows != rows ||
          max_shape.columns / binning.columns != columns) {
        return std::nullopt;
      }
      result.pixel1_m *= static_cast<double>(binning.rows) / before.rows;
      result.pixel2_m *= static_cast<double>(binning.columns) / before.columns;
      break;
    case Readout::listed: {
      const auto listed = [&](std::uint32_t wanted, std::uint32_t all, std::uint32_t factor) -> std::optional<double> {
        const auto found = std::ranges::find(family.binned_pixels, factor, &BinnedPixel::binning);
        if (found == family.binned_pixels.end() || !nearly(wanted, all / factor)) return std::nullopt;
        return found->pixel_m;
      };
      const auto pixel1_m = listed(rows, max_shape.rows, binning.rows);
      const auto pixel2_m = listed(columns, max_shape.columns, binning.columns);
      if (!pixel1_m || !pixel2_m) return std::nullopt;
      result.pixel1_m = *pixel1_m;
      result.pixel2_m = *pixel2_m;
      break;
    }
    case Readout::mar345: {
      const auto height = std::ranges::find(mar345_sizes(), rows, &Mar345Size::width);
      const auto width = std::ranges::find(mar345_sizes(), columns, &Mar345Size::width);
      if (height == mar345_sizes().end() || width == mar345_sizes().end()) return std::nullopt;
      result.pixel1_m = height->pixel_m;
      result.pixel2_m = width->pixel_m;
      break;
    }
    case Readout::fixed: return std::nullopt;
  }
  place_pixels(*model, max_shape, result);
  return result;
}

Detector oriented_to(Detector detector, Orientation orientation) {
  const auto turned = [&](auto flip_of) {
    return flip_of(detector.orientation) != flip_of(orientation) ? Flip::yes : Flip::no;
  };
  if (detector.vertices && detector.orientation != orientation) {
    detector.vertices = shared(
        flipped_vertices(*detector.vertices, {detector.rows, detector.columns}, turned(flip1_of), turned(flip2_of)));
  }
  detector.orientation = orientation;
  return detector;
}

std::string config_json_of(const Detector& detector) {
  Json config = Json::object();
  if (detector.pixel1_m > 0.0) config["pixel1"] = detector.pixel1_m;
  if (detector.pixel2_m > 0.0) config["pixel2"] = detector.pixel2_m;
  const Model* model = model_named(detector.name);
  const bool nexus = detector.name == nexus_name;
  if (detector.has_shape() && !nexus) {
    const Shape max_shape = model != nullptr ? max_shape_of(*model, detector) : Shape{detector.rows, detector.columns};
    if (model == nullptr || max_shape != Shape{model->rows, model->columns}) {
      config["max_shape"] = {max_shape.rows, max_shape.columns};
    }
  }
  // A NeXus detector file has an orientation of its own, which the configuration overrides.
  if (nexus || detector.orientation != Orientation::bottom_right) {
    config["orientation"] = static_cast<int>(detector.orientation);
  }
  if (model != nullptr && detector.radius_m != family_of(*model).radius_m) config["radius"] = detector.radius_m;
  if (detector.sensor) {
    config["sensor"]["material"] = detector.sensor->material;
    if (detector.sensor->thickness_m > 0.0) config["sensor"]["thickness"] = detector.sensor->thickness_m;
  }
  if (!detector.file.empty()) config[nexus ? "filename" : "splineFile"] = detector.file;
  if (!detector.offset1_file.empty()) {
    config["x_offset_file"] = detector.offset2_file;
    config["y_offset_file"] = detector.offset1_file;
  }
  return python_json(config);
}

std::vector<std::string> detector_names() {
  std::vector<std::string> names{std::string(plain_name)};
  for (const Model& model : models()) names.emplace_back(model.name);
  std::ranges::sort(names);
  return names;
}

std::vector<Sensor> known_sensors(const Detector& detector) {
  std::vector<Sensor> sensors;
  if (const Model* model = model_named(detector.name)) {
    for (const KnownSensor& sensor : family_of(*model).sensors) {
      sensors.push_back({std::string(sensor.material), sensor.thickness_m});
    }
  }
  return sensors;
}

}  // namespace annulus::integrator
