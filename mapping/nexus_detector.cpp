#include "mapping/nexus_detector.hpp"

#include <hdf5.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <ctime>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "base/errors.hpp"
#include "integrator/detector_shapes.hpp"
#include "mapping/frame_source.hpp"
#include "mapping/hdf5.hpp"
#include "mapping/hdf5_input.hpp"
#include "mapping/nexus.hpp"

namespace annulus::mapping {
namespace {

namespace fs = std::filesystem;

using integrator::Binning;
using integrator::Detector;
using integrator::Orientation;
using integrator::Shape;

constexpr std::size_t floats_a_pixel = 12;  // four corners of z, y, x

/// The groups of class `nx_class` directly in `parent`, as paths, in the order of their names.
std::vector<std::string> groups_of_class(hid_t file, const std::string& parent, std::string_view nx_class) {
  std::vector<std::string> found;
  for (const std::string& name : hdf5::children(file, parent)) {
    std::string path = parent == "/" ? "/" + name : parent + "/" + name;
    if (hdf5::look(file, path) != hdf5::Target::group) continue;
    const auto group = hdf5::own<hdf5::Group>(H5Gopen2(file, path.c_str(), H5P_DEFAULT), "open " + path);
    if (hdf5::text_attribute(group.get(), "NX_class") == nx_class) found.push_back(std::move(path));
  }
  return found;
}

/// One group of a file, of which single datasets are read.
class GroupReader {
 public:
  GroupReader(hid_t file, fs::path name, std::string group)
      : file_(file), name_(std::move(name)), group_(std::move(group)) {}

  [[nodiscard]] bool has(const std::string& dataset) const {
    return hdf5::look(file_, path(dataset)) == hdf5::Target::dataset;
  }

  [[nodiscard]] std::string shown(const std::string& dataset) const { return hdf5::shown(name_, path(dataset)); }

  /// All numbers of a dataset, as HDF5 converts them to `Number`, and its extent.
  template <typename Number>
  [[nodiscard]] std::pair<std::vector<Number>, std::vector<hsize_t>> read(const std::string& dataset,
                                                                          hid_t type) const {
    const hdf5::Dataset data = hdf5::open_dataset(file_, name_, path(dataset));
    const auto stored = hdf5::own<hdf5::Datatype>(H5Dget_type(data.get()), "get the type of " + shown(dataset));
    const H5T_class_t kind = H5Tget_class(stored.get());
    if (kind != H5T_INTEGER && kind != H5T_FLOAT && kind != H5T_ENUM) {
      fail(dataset, hdf5::type_name(stored.get()), "numbers");
    }
    std::vector<hsize_t> extent = hdf5::extent(data.get());
    hsize_t count = 1;
    for (const hsize_t size : extent) {
      // 2^32 pixels of 12 numbers are the most that a detector has.
      constexpr hsize_t most = hsize_t{std::numeric_limits<std::uint32_t>::max()} * floats_a_pixel;
      if (size == 0 || count > most / size) fail(dataset, fmt::format("an extent of {}", size), "those of a detector");
      count *= size;
    }
    std::vector<Number> values(count);
    if (H5Dread(data.get(), type, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data()) < 0) {
      throw InputError(fmt::format("{}: cannot be read: {}", shown(dataset), hdf5::last_error()));
    }
    return {std::move(values), std::move(extent)};
  }

  [[nodiscard]] std::optional<double> number(const std::string& dataset) const {
    if (!has(dataset)) return std::nullopt;
    return read<double>(dataset, H5T_NATIVE_DOUBLE).first.front();
  }

  /// Two numbers that are whole and fit a shape.
  [[nodiscard]] std::optional<Shape> shape(const std::string& dataset) const {
    if (!has(dataset)) return std::nullopt;
    const std::vector<double> found = read<double>(dataset, H5T_NATIVE_DOUBLE).first;
    const auto fits = [](double size) {
      return size >= 1.0 && size <= std::numeric_limits<std::uint32_t>::max() && size == std::floor(size);
    };
    if (found.size() != 2 || !std::ranges::all_of(found, fits) ||
        found[0] * found[1] > std::numeric_limits<std::uint32_t>::max()) {
      fail(dataset, fmt::format("{} numbers from {}", found.size(), found.front()),
           "rows and columns, of together less than 2^32 pixels");
    }
    return Shape{static_cast<std::uint32_t>(found[0]), static_cast<std::uint32_t>(found[1])};
  }

  [[nodiscard]] std::string text(const std::string& dataset) const {
    const auto group = hdf5::own<hdf5::Group>(H5Gopen2(file_, group_.c_str(), H5P_DEFAULT), "open " + group_);
    return nexus::read_text(group.get(), dataset);
  }

  /// An image, whose extent must be `expected` unless that is not known yet.
  template <typename Number>
  [[nodiscard]] std::vector<Number> image(const std::string& dataset, hid_t type,
                                          std::optional<Shape>& expected) const {
    auto [values, extent] = read<Number>(dataset, type);
    if (extent.size() != 2) fail(dataset, fmt::format("{} dimensions", extent.size()), "an image");
    if (values.size() > std::numeric_limits<std::uint32_t>::max()) fail(dataset, "2^32 pixels or more", "fewer");
    const Shape found{static_cast<std::uint32_t>(extent[0]), static_cast<std::uint32_t>(extent[1])};
    if (!expected) expected = found;
    if (found != *expected) {
      fail(dataset, fmt::format("{} x {} pixels", found.rows, found.columns),
           fmt::format("{} x {}", expected->rows, expected->columns));
    }
    return std::move(values);
  }

  [[noreturn]] void fail(const std::string& dataset, std::string_view found, std::string_view expected) const {
    throw InputError(fmt::format("{}: found {}, expected {}", shown(dataset), found, expected));
  }

 private:
  [[nodiscard]] std::string path(const std::string& dataset) const { return group_ + "/" + dataset; }

  hid_t file_;
  fs::path name_;
  std::string group_;
};

/// The detectors of a file, those of the entry that began last first.
std::vector<std::string> detectors_of(hid_t file) {
  std::vector<std::pair<std::string, std::string>> entries;  // start time (ISO 8601, which sorts as text), path
  for (const std::string& entry : groups_of_class(file, "/", "NXentry")) {
    std::string start;
    if (hdf5::look(file, entry + "/start_time") == hdf5::Target::dataset) {
      const auto group = hdf5::own<hdf5::Group>(H5Gopen2(file, entry.c_str(), H5P_DEFAULT), "open " + entry);
      start = nexus::read_text(group.get(), "start_time");
    }
    entries.emplace_back(std::move(start), entry);
  }
  std::ranges::stable_sort(entries, [](const auto& left, const auto& right) { return left.first > right.first; });
  std::vector<std::string> detectors;
  for (const auto& [start, entry] : entries) {
    for (const std::string_view instrument_class : {"NXsubentry", "NXinstrument"}) {
      for (const std::string& instrument : groups_of_class(file, entry, instrument_class)) {
        const auto found = groups_of_class(file, instrument, "NXdetector");
        detectors.insert(detectors.end(), found.begin(), found.end());
      }
    }
  }
  return detectors;
}

template <typename Number>
std::shared_ptr<const std::vector<Number>> shared(std::vector<Number> values) {
  return std::make_shared<const std::vector<Number>>(std::move(values));
}

/// Masks the pixels of which a corner is not finite, and gives them corners that no calculation trips over.
void mask_broken_corners(std::vector<float>& vertices, std::optional<std::vector<std::uint8_t>>& mask) {
  for (std::size_t pixel = 0; pixel < vertices.size() / floats_a_pixel; ++pixel) {
    const auto corners = std::span(vertices).subspan(pixel * floats_a_pixel, floats_a_pixel);
    if (std::ranges::all_of(corners, [](float value) { return std::isfinite(value); })) continue;
    if (!mask) mask.emplace(vertices.size() / floats_a_pixel, std::uint8_t{0});
    (*mask)[pixel] = 1;
    std::ranges::fill(corners, 0.0F);
  }
}

/// [shape, 4, 3] `pixel_corners`, binned when the file has them for the detector before binning.
std::vector<float> read_corners(const GroupReader& group, std::optional<Shape>& shape) {
  const std::string dataset = "pixel_corners";
  auto [vertices, extent] = group.read<float>(dataset, H5T_NATIVE_FLOAT);
  if (extent.size() != 4 || extent[2] != 4 || extent[3] != 3) {
    group.fail(dataset, fmt::format("{} dimensions", extent.size()), "[rows, columns, 4 corners, 3 coordinates]");
  }
  const Shape found{static_cast<std::uint32_t>(extent[0]), static_cast<std::uint32_t>(extent[1])};
  if (!shape) shape = found;
  if (found == *shape) return std::move(vertices);
  const Binning binning{found.rows / shape->rows, found.columns / shape->columns};
  if (binning.rows == 0 || binning.columns == 0 || found.rows / binning.rows != shape->rows ||
      found.columns / binning.columns != shape->columns) {
    group.fail(dataset, fmt::format("{} x {} pixels", found.rows, found.columns),
               fmt::format("{} x {}", shape->rows, shape->columns));
  }
  return integrator::binned_vertices(vertices, found, binning);
}

Orientation read_orientation(const GroupReader& group) {
  const std::string dataset = "orientation";
  const double found = group.number(dataset).value_or(0.0);
  if (found == 0.0) return Orientation::bottom_right;  // not specified
  for (const Orientation orientation :
       {Orientation::top_left, Orientation::top_right, Orientation::bottom_right, Orientation::bottom_left}) {
    if (found == static_cast<double>(orientation)) return orientation;
  }
  group.fail(dataset, fmt::format("{}", found), "1, 2, 3 or 4");
}

/// 1 where a mask's value is not 0.
template <typename Number>
std::vector<std::uint8_t> masked_pixels(const std::vector<Number>& values) {
  std::vector<std::uint8_t> pixels(values.size());
  std::ranges::transform(values, pixels.begin(), [](Number value) { return value != 0 ? 1 : 0; });
  return pixels;
}

Detector read_detector(const fs::path& name) {
  const hdf5::File file = hdf5::open_for_reading(name);
  const std::vector<std::string> paths = detectors_of(file.get());
  if (paths.empty()) {
    throw InputError(fmt::format(
        "{}: found no detector, expected a group of class NXdetector in an NXsubentry or NXinstrument", name.string()));
  }
  const GroupReader group(file.get(), name, paths.front());
  if (const auto corners = group.number("CORNERS"); corners && *corners != 4.0) {
    group.fail("CORNERS", fmt::format("pixels of {} corners", *corners), "4");
  }
  Detector detector;
  detector.name = "NexusDetector";
  detector.file = name.string();
  if (!group.has("pixel_size")) group.fail("pixel_size", "nothing", "the two sizes of a pixel in m");
  const auto sizes = group.read<double>("pixel_size", H5T_NATIVE_DOUBLE).first;
  if (sizes.size() != 2 || !(sizes[0] > 0.0 && sizes[1] > 0.0 && std::isfinite(sizes[0] * sizes[1]))) {
    group.fail("pixel_size", fmt::format("{} numbers from {}", sizes.size(), sizes.front()), "two sizes in m");
  }
  detector.pixel1_m = sizes[0];
  detector.pixel2_m = sizes[1];
  detector.orientation = read_orientation(group);
  detector.dummy = group.number("dummy");
  detector.delta_dummy = group.number("delta_dummy").value_or(0.0);
  if (group.has("sensor_material")) {
    detector.sensor = {group.text("sensor_material"), group.number("sensor_thickness").value_or(0.0)};
  }

  std::optional<Shape> shape = group.shape("shape");
  if (const auto all = group.shape("max_shape"); !shape && all) {
    const Shape binning = group.shape("binning").value_or(Shape{1, 1});
    shape = Shape{all->rows / binning.rows, all->columns / binning.columns};
  }
  std::optional<std::vector<std::uint8_t>> mask;
  if (group.has("mask")) {
    // pyFAI's masks are of a signed type: HDF5 would make 0 of -1 when it converts to an unsigned one.
    mask = masked_pixels(group.image<std::int32_t>("mask", H5T_NATIVE_INT32, shape));
  }
  if (group.has("darkcurrent")) detector.dark = shared(group.image<float>("darkcurrent", H5T_NATIVE_FLOAT, shape));
  if (group.has("flatfield")) detector.flat = shared(group.image<float>("flatfield", H5T_NATIVE_FLOAT, shape));
  if (group.has("pixel_corners")) {
    std::vector<float> vertices = read_corners(group, shape);
    mask_broken_corners(vertices, mask);
    detector.vertices = shared(std::move(vertices));
  } else if (const auto flat = group.number("IS_FLAT"); flat && *flat == 0.0) {
    group.fail("pixel_corners", "nothing", "the corners of a detector that is not flat");
  }
  if (!shape || shape->pixels() == 0) group.fail("shape", "nothing", "rows and columns");
  detector.rows = shape->rows;
  detector.columns = shape->columns;
  if (mask) detector.file_mask = shared(*std::move(mask));
  return detector;
}

// ------------------------------------------------------------------------------------------------------ writing

/// Writes an array in chunks of whole rows, shuffled and compressed.
template <typename Number>
void write_compressed(hid_t parent, const std::string& name, hid_t file_type, hid_t memory_type,
                      std::span<const Number> values, const std::vector<hsize_t>& extent,
                      const std::string& interpretation) {
  const hdf5::Dataspace space = nexus::dataspace(extent);
  const hdf5::PropertyList properties = nexus::dataset_properties();
  constexpr std::size_t chunk_bytes = std::size_t{1} << 20U;
  std::vector<hsize_t> chunk = extent;
  const std::size_t row_bytes = values.size_bytes() / extent[0];
  chunk[0] = std::clamp<hsize_t>(chunk_bytes / row_bytes, 1, extent[0]);
  hdf5::check(H5Pset_chunk(properties.get(), static_cast<int>(chunk.size()), chunk.data()), "lay out " + name);
  hdf5::check(H5Pset_shuffle(properties.get()), "shuffle " + name);
  constexpr unsigned level = 6;
  hdf5::check(H5Pset_deflate(properties.get(), level), "compress " + name);
  const auto dataset = hdf5::own<hdf5::Dataset>(
      H5Dcreate2(parent, name.c_str(), file_type, space.get(), H5P_DEFAULT, properties.get(), H5P_DEFAULT),
      "create dataset " + name);
  hdf5::check(H5Dwrite(dataset.get(), memory_type, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data()), "write " + name);
  nexus::set_attribute(dataset.get(), "interpretation", interpretation);
}

void write_number(hid_t parent, const std::string& name, double number) {
  nexus::write_array<double>(parent, name, std::span(&number, 1), {});
}

void write_pair(hid_t parent, const std::string& name, std::uint32_t first, std::uint32_t second) {
  const std::array<std::int32_t, 2> values = {static_cast<std::int32_t>(first), static_cast<std::int32_t>(second)};
  nexus::write_array<std::int32_t>(parent, name, values, {2});
}

std::string now() {
  const std::time_t time = std::time(nullptr);
  std::tm fields{};
  gmtime_r(&time, &fields);
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}+00:00", fields.tm_year + 1900, fields.tm_mon + 1,
                     fields.tm_mday, fields.tm_hour, fields.tm_min, fields.tm_sec);
}

void write_detector(const Detector& detector, hid_t file) {
  nexus::set_attribute(file, "NX_class", "NXroot");
  nexus::set_attribute(file, "default", "entry_0000");
  const hdf5::Group entry = nexus::make_group(file, "entry_0000", "NXentry");
  nexus::write_text(entry.get(), "title", "description of detector " + detector.name);
  nexus::write_text(entry.get(), "program_name", "annulus");
  nexus::write_text(entry.get(), "start_time", now());
  const hdf5::Group subentry = nexus::make_group(entry.get(), "pyFAI", "NXsubentry");
  nexus::write_text(subentry.get(), "definition_local", "pyFAI");
  const hdf5::Group group = nexus::make_group(subentry.get(), detector.name, "NXdetector");
  const hid_t id = group.get();
  nexus::write_text(id, "API_VERSION", "1.2");
  const bool flat =
      !detector.vertices || std::ranges::all_of(*detector.vertices, [index = std::size_t{0}](float value) mutable {
        return index++ % 3 != 0 || value == 0.0F;
      });
  nexus::write_flag(id, "IS_FLAT", flat);
  nexus::write_flag(id, "IS_CONTIGUOUS", detector.vertices == nullptr);
  nexus::write_flag(id, "force_pixel", false);
  const std::int32_t corners = 4;
  nexus::write_array<std::int32_t>(id, "CORNERS", std::span(&corners, 1), {});
  const std::array<double, 2> sizes = {detector.pixel1_m, detector.pixel2_m};
  nexus::set_attribute(nexus::write_array<double>(id, "pixel_size", sizes, {2}).get(), "unit", "m");
  write_pair(id, "shape", detector.rows, detector.columns);
  write_pair(id, "max_shape", detector.rows, detector.columns);
  write_pair(id, "binning", 1, 1);
  const auto orientation = static_cast<std::int32_t>(detector.orientation);
  nexus::write_array<std::int32_t>(id, "orientation", std::span(&orientation, 1), {});
  if (detector.dummy) {
    write_number(id, "dummy", *detector.dummy);
    write_number(id, "delta_dummy", detector.delta_dummy);
  }
  if (detector.sensor) {
    nexus::write_text(id, "sensor_material", detector.sensor->material);
    if (detector.sensor->thickness_m > 0.0) write_number(id, "sensor_thickness", detector.sensor->thickness_m);
  }
  const std::vector<hsize_t> image = {detector.rows, detector.columns};
  const std::vector<std::uint8_t> mask = detector.mask();
  write_compressed<std::uint8_t>(id, "mask", H5T_STD_I8LE, H5T_NATIVE_UINT8, mask, image, "image");
  if (detector.flat) {
    write_compressed<float>(id, "flatfield", H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, *detector.flat, image, "image");
  }
  if (detector.dark) {
    write_compressed<float>(id, "darkcurrent", H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, *detector.dark, image, "image");
  }
  if (detector.vertices) {
    write_compressed<float>(id, "pixel_corners", H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, *detector.vertices,
                            {detector.rows, detector.columns, 4, 3}, "vertex");
  }
}

// -------------------------------------------------------------------------------------------------- pixel masks

PixelMask read_mask(const fs::path& file, const std::string& dataset) {
  const hdf5::File opened = hdf5::open_for_reading(file);
  const std::size_t slash = dataset.rfind('/');
  const bool has_folder = slash != std::string::npos;
  const GroupReader group(opened.get(), file, has_folder ? dataset.substr(0, slash) : "");
  std::optional<Shape> shape;
  // Reasons are bits, up to the 31st.
  const auto reasons =
      group.image<std::int64_t>(has_folder ? dataset.substr(slash + 1) : dataset, H5T_NATIVE_INT64, shape);
  return {shape->rows, shape->columns, masked_pixels(reasons)};
}

std::string find_pixel_mask(const fs::path& file) {
  const hdf5::File opened = hdf5::open_for_reading(file);
  for (const std::string& detector : detectors_of(opened.get())) {
    for (const char* place : {"/pixel_mask", "/detectorSpecific/pixel_mask"}) {
      if (hdf5::look(opened.get(), detector + place) == hdf5::Target::dataset) return detector + place;
    }
  }
  throw InputError(
      fmt::format("{}: found no pixel_mask in a detector (NXdetector), expected one, or the path of a mask as {}::PATH",
                  file.string(), file.string()));
}

}  // namespace

Detector read_nexus_detector(const fs::path& file) {
  return hdf5::as_input(file, [&] { return read_detector(file); });
}

void write_nexus_detector(const Detector& detector, const fs::path& file) {
  ANNULUS_EXPECT(detector.has_shape());
  std::error_code ignored;
  if (fs::exists(file, ignored)) throw InputError(file.string() + ": exists already");
  auto opened =
      hdf5::own<hdf5::File>(H5Fcreate(file.c_str(), H5F_ACC_EXCL, H5P_DEFAULT, H5P_DEFAULT), "create " + file.string());
  write_detector(detector, opened.get());
  hdf5::check(H5Fclose(opened.give_up()), "write " + file.string());
}

PixelMask read_pixel_mask(const std::string& url) {
  fs::path file = url;
  std::string dataset;
  std::error_code ignored;
  if (const std::size_t separator = url.rfind("::"); separator != std::string::npos && !fs::exists(file, ignored)) {
    file = url.substr(0, separator);
    dataset = url.substr(separator + 2);
  }
  return hdf5::as_input(file, [&] { return read_mask(file, dataset.empty() ? find_pixel_mask(file) : dataset); });
}

integrator::DetectorFiles detector_files() {
  integrator::DetectorFiles files;
  files.nexus = read_nexus_detector;
  files.offset = [](const fs::path& file) {
    Image image = read_image(file.string());
    return integrator::OffsetImage{image.rows, image.columns, std::move(image.values)};
  };
  return files;
}

}  // namespace annulus::mapping
