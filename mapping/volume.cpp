#include "mapping/volume.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <hdf5.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <limits>
#include <set>
#include <system_error>

#include "mapping/hdf5.hpp"
#include "mapping/hdf5_frames.hpp"
#include "mapping/hdf5_input.hpp"
#include "mapping/input_file.hpp"
#include "mapping/nexus.hpp"
#include "mapping/output_file.hpp"

namespace annulus::mapping {
namespace {

namespace fs = std::filesystem;

constexpr const char* entry_path = "/entry_0000";
constexpr const char* process_path = "/entry_0000/annulus";
constexpr const char* result_path = "/entry_0000/annulus/result";
constexpr const char* program_name = "annulus";

/// One transfer stays below this: MPI counts bytes in an int, which ends at 2 GiB.
constexpr std::uint64_t transfer_bytes = std::uint64_t{1} << 30;

/// Data is checked for NaN in blocks of this size: large enough for a disk, small enough for any login node.
constexpr std::uint64_t check_bytes = std::uint64_t{64} << 20;

/// Bytes written at once when a new volume is filled.
constexpr std::size_t fill_bytes = std::size_t{4} << 20;

/// What the metadata of a volume takes at most, apart from long lists of input files and the mappings of `map`.
constexpr std::size_t metadata_bytes = std::size_t{4} << 20;

/// What one mapping of a virtual dataset takes at most: two selections in four dimensions, and names.
constexpr std::uint64_t mapping_bytes = 256;

/// pyFAI's name and label of the azimuthal axis.
constexpr const char* azimuthal_name = "azimuthal";

/// Reading all of `map` through one mapping a channel reads every page of the volume once per channel. Up to this many
/// bytes that takes 3 to 4 s (4.5 GB/s from page cache); beyond it `intensity` is the signal: see DESIGN.md, Volume.
constexpr std::uint64_t whole_map_bytes = std::uint64_t{16'000'000'000};

bool reads_whole_in_seconds(const VolumeDescription& description) {
  const std::uint64_t points = description.scan.points();
  const std::uint64_t bins = description.rows();
  if (points <= bins) return true;
  return static_cast<double>(points) * static_cast<double>(bins) * static_cast<double>(bins) * sizeof(float) <=
         static_cast<double>(whole_map_bytes);
}

/// The number of mappings that make_map() writes.
std::uint64_t mappings_of(const VolumeDescription& description) {
  return std::min(description.rows(), description.scan.points());
}

/// The shape of one pattern: [radial] or [azimuthal, radial].
std::vector<hsize_t> pattern_shape(const VolumeDescription& description) {
  if (description.azimuthal.empty()) return {description.radial.size()};
  return {description.azimuthal.size(), description.radial.size()};
}

std::vector<hsize_t> joined(std::vector<hsize_t> front, const std::vector<hsize_t>& back) {
  front.insert(front.end(), back.begin(), back.end());
  return front;
}

/// `map` [(azimuthal,) radial, slow, fast] as a view of `intensity` [slow, fast, (azimuthal,) radial]. A mapping pairs
/// elements in C order, so one covers either one channel of all points or all channels of one point; the fewer of these
/// are written.
void make_map(hid_t result, const VolumeDescription& description) {
  const std::vector<hsize_t> grid = {description.scan.slow, description.scan.fast};
  const std::vector<hsize_t> pattern = pattern_shape(description);
  const hdf5::Dataspace view = nexus::dataspace(joined(pattern, grid));
  const hdf5::Dataspace source = nexus::dataspace(joined(grid, pattern));
  const hdf5::PropertyList properties = nexus::dataset_properties();
  const float fill = std::numeric_limits<float>::quiet_NaN();
  hdf5::check(H5Pset_fill_value(properties.get(), H5T_NATIVE_FLOAT, &fill), "set the fill value of 'map'");
  const std::string source_name = std::string(result_path) + "/intensity";

  const auto select = [](hid_t space, const std::vector<hsize_t>& start, const std::vector<hsize_t>& count) {
    hdf5::check(H5Sselect_hyperslab(space, H5S_SELECT_SET, start.data(), nullptr, count.data(), nullptr), "map 'map'");
  };
  const auto add = [&](const std::vector<hsize_t>& channel, const std::vector<hsize_t>& channels,
                       const std::vector<hsize_t>& point, const std::vector<hsize_t>& points) {
    select(view.get(), joined(channel, point), joined(channels, points));
    select(source.get(), joined(point, channel), joined(points, channels));
    hdf5::check(H5Pset_virtual(properties.get(), view.get(), ".", source_name.c_str(), source.get()), "map 'map'");
  };
  const std::uint64_t bins = description.radial.size();
  if (description.rows() < description.scan.points()) {
    const std::vector<hsize_t> one(pattern.size(), 1);
    for (hsize_t row = 0; row < description.rows(); ++row) {
      add(description.azimuthal.empty() ? std::vector<hsize_t>{row} : std::vector<hsize_t>{row / bins, row % bins}, one,
          {0, 0}, grid);
    }
  } else {
    const std::vector<hsize_t> first(pattern.size(), 0);
    for (hsize_t line = 0; line < description.scan.slow; ++line) {
      for (hsize_t column = 0; column < description.scan.fast; ++column) add(first, pattern, {line, column}, {1, 1});
    }
  }
  hdf5::check(H5Sselect_all(view.get()), "map 'map'");
  const auto map = hdf5::own<hdf5::Dataset>(
      H5Dcreate2(result, "map", H5T_IEEE_F32LE, view.get(), H5P_DEFAULT, properties.get(), H5P_DEFAULT),
      "create virtual dataset 'map'");
  nexus::set_attribute(map.get(), "interpretation", "image");
  nexus::set_attribute(map.get(), "long_name", "Intensity");
}

/// A position or bin axis. `dimension` is its place among the signal's dimensions, from 1, as older readers want it.
void write_axis(hid_t result, const std::string& name, std::span<const double> values, const std::string& label,
                const std::string& unit, std::int64_t dimension) {
  const hdf5::Dataset axis = nexus::write_array<double>(result, name, values, {values.size()});
  nexus::set_attribute(axis.get(), "interpretation", "scalar");
  nexus::set_attribute(axis.get(), "long_name", label);
  nexus::set_attribute(axis.get(), "axes", dimension);
  if (unit.empty()) return;
  nexus::set_attribute(axis.get(), "units", unit);  // NeXus
  nexus::set_attribute(axis.get(), "unit", unit);   // pyFAI
}

void write_dimension(hid_t process, const std::string& name, std::uint64_t points, const std::string& axis,
                     const std::vector<double>& positions) {
  const auto count = static_cast<std::int64_t>(points);
  const hdf5::Dataset dataset = nexus::write_array<std::int64_t>(process, name, std::span(&count, 1), {});
  nexus::set_attribute(dataset.get(), "axis", axis);
  if (positions.empty()) return;
  const double range[2] = {positions.front(), positions.back()};
  nexus::set_attribute(dataset.get(), "range", std::span<const double>(range));
}

/// The frame at every point, as pyFAI counts them: negative or beyond the last frame where there is none.
std::vector<std::int32_t> frame_pointers(const Scan& scan) {
  std::vector<std::int32_t> frames;
  frames.reserve(scan.points());
  for (std::uint64_t line = 0; line < scan.slow; ++line) {
    for (std::uint64_t column = 0; column < scan.fast; ++column) {
      const std::int64_t frame = scan.frame_at(line, column);
      if (frame < std::numeric_limits<std::int32_t>::min() || frame > std::numeric_limits<std::int32_t>::max()) {
        throw InputError(fmt::format("the scan reaches frame {}, but the volume's map_ptr ends at {}", frame,
                                     std::numeric_limits<std::int32_t>::max()));
      }
      frames.push_back(static_cast<std::int32_t>(frame));
    }
  }
  return frames;
}

/// A dataset that has its place in the file, and must still get its bytes: NaN, or 0 for the status.
struct Unwritten {
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;
  bool nan = false;
};

Unwritten unwritten(hid_t dataset, bool nan) {
  const haddr_t offset = H5Dget_offset(dataset);
  if (offset == HADDR_UNDEF) throw IoError("cannot find the place of a dataset: " + hdf5::last_error());
  return {offset, H5Dget_storage_size(dataset), nan};
}

/// One of the float32 arrays [slow, fast, (azimuthal,) radial], which the ranks fill.
Unwritten make_patterns(hid_t result, const std::string& name, const VolumeDescription& description,
                        const std::string& label) {
  const std::vector<hsize_t> shape = joined({description.scan.slow, description.scan.fast}, pattern_shape(description));
  const hdf5::Dataset dataset =
      nexus::make_unwritten<float>(result, name, shape, std::numeric_limits<float>::quiet_NaN());
  nexus::set_attribute(dataset.get(), "interpretation", description.azimuthal.empty() ? "spectrum" : "image");
  nexus::set_attribute(dataset.get(), "long_name", label);
  return unwritten(dataset.get(), true);
}

void write_result(hid_t process, const VolumeDescription& description, const std::string& title,
                  std::vector<Unwritten>& data) {
  const Scan& scan = description.scan;
  const std::vector<hsize_t> grid = {scan.slow, scan.fast};
  std::vector<std::string> pattern_axes = {description.radial_name};
  if (!description.azimuthal.empty()) pattern_axes.insert(pattern_axes.begin(), azimuthal_name);
  std::vector<std::string> map_axes = pattern_axes;
  map_axes.insert(map_axes.end(), {"slow", "fast"});
  std::vector<std::string> intensity_axes = {"slow", "fast"};
  intensity_axes.insert(intensity_axes.end(), pattern_axes.begin(), pattern_axes.end());

  const hdf5::Group result = nexus::make_group(process, "result", "NXdata");
  const bool signal_is_map = reads_whole_in_seconds(description);
  const std::vector<std::string>& axes = signal_is_map ? map_axes : intensity_axes;
  nexus::set_attribute(result.get(), "signal", signal_is_map ? "map" : "intensity");
  nexus::set_attribute(result.get(), "axes", axes);
  nexus::set_attribute(result.get(), "title", title);

  const auto add_axis = [&](const std::string& name, std::span<const double> values, const std::string& label,
                            const std::string& unit) {
    const auto place = std::find(axes.begin(), axes.end(), name) - axes.begin();
    write_axis(result.get(), name, values, label, unit, place + 1);
  };
  add_axis("slow", scan.slow_axis.positions, scan.slow_axis.name, scan.slow_axis.units);
  add_axis("fast", scan.fast_axis.positions, scan.fast_axis.name, scan.fast_axis.units);
  add_axis(description.radial_name, description.radial, description.radial_label, description.radial_unit);
  if (!description.azimuthal.empty()) {
    add_axis(azimuthal_name, description.azimuthal, description.azimuthal_label, description.azimuthal_unit);
  }

  const hdf5::Dataset map_ptr = nexus::write_array<std::int32_t>(result.get(), "map_ptr", frame_pointers(scan), grid);
  nexus::set_attribute(map_ptr.get(), "interpretation", "image");
  nexus::set_attribute(map_ptr.get(), "long_name", "Frame index of each point");

  const hdf5::Dataset monitor = nexus::write_array<double>(result.get(), "monitor", description.monitor, grid);
  nexus::set_attribute(monitor.get(), "interpretation", "image");
  nexus::set_attribute(monitor.get(), "long_name", "Monitor");

  const hdf5::Dataset status = nexus::make_unwritten<std::uint8_t>(
      result.get(), "frame_status", grid, static_cast<std::uint8_t>(FrameStatus::not_processed));
  nexus::set_attribute(status.get(), "interpretation", "image");
  nexus::set_attribute(status.get(), "long_name", "Status of each frame");
  nexus::set_attribute(status.get(), "meaning",
                       "0 not processed, 1 ok, 2 missing, 3 unreadable or corrupt, "
                       "4 wrong shape or type, 5 monitor invalid");

  data = {unwritten(status.get(), false), make_patterns(result.get(), "intensity", description, "Intensity")};
  if (description.errors) {
    data.push_back(make_patterns(result.get(), "errors", description, "Standard error of the intensity"));
  }
  if (description.std) {
    data.push_back(make_patterns(result.get(), "std", description, "Standard deviation of the intensity"));
  }
  make_map(result.get(), description);

  // What viewers open at once. A group of its own: silx takes `errors` in an NXdata for those of its signal and refuses
  // the group when the shapes differ; and a slice of `map` stays quick in volumes whose signal is `intensity`.
  const hdf5::Group maps = nexus::make_group(process, "maps", "NXdata");
  nexus::set_attribute(maps.get(), "signal", "map");
  nexus::set_attribute(maps.get(), "axes", map_axes);
  nexus::set_attribute(maps.get(), "title", title);
  nexus::link_soft(maps.get(), std::string(result_path) + "/map", "map");
  for (const std::string& name : map_axes) nexus::link_soft(maps.get(), std::string(result_path) + "/" + name, name);
}

/// `file` as seen from `folder`, both with their symbolic links resolved: an external link's ".." goes by real folders.
/// The last name stays as given.
std::string relative_path(const fs::path& file, const fs::path& folder) {
  const fs::path parent = fs::weakly_canonical(fs::absolute(folder_of(file)));
  return (parent / file.filename()).lexically_relative(fs::weakly_canonical(fs::absolute(folder))).generic_string();
}

/// External links to the HDF5 inputs, numbered from 1 in the order of their frames; returns how many.
std::size_t link_inputs(hid_t group, const VolumeDescription& description, const fs::path& folder) {
  // pyFAI's viewer sorts the names as text: as many digits as the last one needs, and four as pyFAI has.
  const std::size_t digits = std::max<std::size_t>(4, std::to_string(description.inputs.size()).size());
  std::size_t links = 0;
  for (const FrameList::Input& input : description.inputs) {
    if (input.dataset.empty()) continue;  // TIFF: HDF5 cannot link to it
    const std::string name = fmt::format("images_{:0{}}", ++links, digits);
    const std::string dataset = input.dataset.front() == '/' ? input.dataset : "/" + input.dataset;
    hdf5::check(H5Lcreate_external(relative_path(input.file, folder).c_str(), dataset.c_str(), group, name.c_str(),
                                   H5P_DEFAULT, H5P_DEFAULT),
                "link '" + name + "' to '" + input.file.string() + "'");
    if (links == 1) nexus::set_attribute(group, "signal", name);
  }
  return links;
}

/// An image's FILE or FILE::DATASET as silx's DataUrl, which pyFAI-diffmap-view reads the mask through.
std::string silx_url(const std::string& url) {
  auto [name, dataset] = split_url(url);
  const std::string file = fs::absolute(name).lexically_normal().string();
  if (dataset.empty() && format_of(open_input(file)) == FileFormat::hdf5) {
    const hdf5::File opened = hdf5::open_for_reading(file);
    const hdf5::FrameDatasets found = hdf5::locate_frames(opened.get(), file, "");
    if (!found.paths.empty()) dataset = found.paths.front();
  }
  if (dataset.empty()) return "fabio://" + file;
  return "silx://" + file + "?path=" + (dataset.front() == '/' ? "" : "/") + dataset;
}

void write_process(hid_t entry, const fs::path& target, const VolumeDescription& description, const std::string& time,
                   const std::string& title, std::vector<Unwritten>& data) {
  const Scan& scan = description.scan;
  const hdf5::Group process = nexus::make_group(entry, program_name, "NXprocess");
  nexus::set_attribute(process.get(), "default", "maps");
  nexus::write_text(process.get(), "program", program_name);
  nexus::write_text(process.get(), "version", description.version);
  nexus::write_text(process.get(), "date", time);
  nexus::write_text(process.get(), "command_line", description.command_line);
  nexus::write_text(process.get(), "fingerprint", description.fingerprint);
  std::vector<std::string> files;
  files.reserve(description.inputs.size());
  for (const FrameList::Input& input : description.inputs) {
    files.push_back(fs::absolute(input.file).lexically_normal().string());
  }
  nexus::write_texts(process.get(), "inputfiles", files);
  if (!description.mask_file.empty()) nexus::write_text(process.get(), "maskfile", silx_url(description.mask_file));

  write_dimension(process.get(), "dim0", scan.slow, scan.slow_axis.name, scan.slow_axis.positions);
  write_dimension(process.get(), "dim1", scan.fast, scan.fast_axis.name, scan.fast_axis.positions);
  write_dimension(process.get(), "dim2", description.radial.size(), "diffraction", {});
  nexus::write_array<std::int64_t>(process.get(), "offset", std::span(&scan.offset, 1), {});

  const hdf5::Group configuration = nexus::make_group(process.get(), "configuration", "NXnote");
  nexus::write_text(configuration.get(), "type", "text/json");
  nexus::write_text(configuration.get(), "data", description.configuration_json);
  if (!description.calibration_json.empty()) {
    const hdf5::Group calibration = nexus::make_group(process.get(), "calibration", "NXnote");
    nexus::write_text(calibration.get(), "type", "text/json");
    nexus::write_text(calibration.get(), "data", description.calibration_json);
  }

  const hdf5::Group source = nexus::make_group(process.get(), "source", "NXcollection");
  link_inputs(source.get(), description, folder_of(target));
  write_result(process.get(), description, title, data);
}

/// Writes all metadata and the small arrays, and returns what is still to be filled.
std::vector<Unwritten> write_volume(hid_t file, const fs::path& target, const VolumeDescription& description) {
  const std::string time = nexus::time_now();
  const bool tomo = description.scan.kind == ScanKind::tomo;
  nexus::set_root_attributes(file, target, time, program_name, "entry_0000");

  const hdf5::Group entry = nexus::make_group(file, "entry_0000", "NXentry");
  nexus::set_attribute(entry.get(), "default", std::string(program_name) + "/maps");
  nexus::write_text(entry.get(), "title", tomo ? "diff_tomo" : "diff_map");
  nexus::write_text(entry.get(), "program_name", program_name);
  nexus::write_text(entry.get(), "start_time", time);
  nexus::make_fixed_text(entry.get(), "end_time", "", nexus::time_length);  // "" until finish_volume()
  nexus::link_soft(entry.get(), process_path, "pyFAI");

  const bool links = std::any_of(description.inputs.begin(), description.inputs.end(),
                                 [](const FrameList::Input& input) { return !input.dataset.empty(); });
  // An NXdata needs a signal, and TIFF frames give none.
  const hdf5::Group measurement = nexus::make_group(entry.get(), "measurement", links ? "NXdata" : "NXcollection");
  link_inputs(measurement.get(), description, folder_of(target));
  std::vector<Unwritten> data;
  write_process(entry.get(), target, description, time, tomo ? "Diffraction tomography" : "Diffraction map", data);
  return data;
}

/// Names of the axes would collide with datasets of the layout.
void check_description(const VolumeDescription& description) {
  const Scan& scan = description.scan;
  ANNULUS_EXPECT(scan.slow > 0 && scan.fast > 0 && !description.radial.empty());
  ANNULUS_EXPECT(scan.slow_axis.positions.size() == scan.slow && scan.fast_axis.positions.size() == scan.fast);
  ANNULUS_EXPECT(description.monitor.size() == scan.points());
  static const std::set<std::string> taken = {
      "", "map", "intensity", "errors", "std", "map_ptr", "monitor", "frame_status", "slow", "fast", azimuthal_name};
  ANNULUS_EXPECT(taken.count(description.radial_name) == 0);
}

/// A box of whole points in the grid.
struct Block {
  std::uint64_t line = 0, column = 0, lines = 0, columns = 0;
  [[nodiscard]] std::uint64_t points() const { return lines * columns; }
};

/// Splits points [first, first + count) of a grid in C order into boxes of at most `most` points, and calls
/// `use(block, offset)` with each and the number of points before it.
template <typename Use>
void for_each_block(std::uint64_t first, std::uint64_t count, std::uint64_t fast, std::uint64_t most, Use&& use) {
  for (std::uint64_t done = 0; done < count;) {
    const std::uint64_t left = count - done;
    Block block = {(first + done) / fast, (first + done) % fast, 1, 0};
    if (block.column == 0 && left >= fast && most >= fast) {
      block.lines = std::min(left, most) / fast;
      block.columns = fast;
    } else {
      block.columns = std::min({left, fast - block.column, most});
    }
    use(block, done);
    done += block.points();
  }
}

/// Selects a block of a [slow, fast] or [slow, fast, (azimuthal,) bins] dataset and the memory that goes with it.
struct Selection {
  hdf5::Dataspace file, memory;
  Selection(hid_t dataset, const Block& block) {
    file = hdf5::own<hdf5::Dataspace>(H5Dget_space(dataset), "read the shape of a dataset");
    hsize_t shape[4] = {0, 0, 1, 1};
    const int rank = H5Sget_simple_extent_ndims(file.get());
    ANNULUS_EXPECT(rank >= 2 && rank <= 4);
    H5Sget_simple_extent_dims(file.get(), shape, nullptr);
    const hsize_t start[4] = {block.line, block.column, 0, 0};
    const hsize_t count[4] = {block.lines, block.columns, shape[2], shape[3]};
    hdf5::check(H5Sselect_hyperslab(file.get(), H5S_SELECT_SET, start, nullptr, count, nullptr), "select points");
    memory = nexus::dataspace({block.points() * count[2] * count[3]});
  }
};

std::uint64_t points_within(std::uint64_t bytes, std::uint64_t rows) {
  return std::max<std::uint64_t>(1, bytes / (rows * sizeof(float)));
}

/// Clears the status of points marked ok that hold a NaN. An integrated frame has none (an empty bin is 0), so its data
/// never reached the disk: the machine went down between writing data and status back.
void clear_points_without_data(hid_t dataset, std::uint64_t fast, std::uint64_t rows,
                               std::vector<std::uint8_t>& status) {
  constexpr auto ok = static_cast<std::uint8_t>(FrameStatus::ok);
  const std::uint64_t most = points_within(check_bytes, rows);
  std::vector<float> values;
  for_each_block(0, status.size(), fast, most, [&](const Block& block, std::uint64_t first) {
    const auto begin = status.begin() + static_cast<std::ptrdiff_t>(first);
    const auto end = begin + static_cast<std::ptrdiff_t>(block.points());
    if (std::find(begin, end, ok) == end) return;
    values.resize(block.points() * rows);
    const Selection selection(dataset, block);
    hdf5::check(
        H5Dread(dataset, H5T_NATIVE_FLOAT, selection.memory.get(), selection.file.get(), H5P_DEFAULT, values.data()),
        "read the points that are marked ok");
    for (std::uint64_t point = 0; point < block.points(); ++point) {
      const float* frame = values.data() + point * rows;
      if (begin[static_cast<std::ptrdiff_t>(point)] == ok &&
          std::any_of(frame, frame + rows, [](float value) { return std::isnan(value); })) {
        begin[static_cast<std::ptrdiff_t>(point)] = static_cast<std::uint8_t>(FrameStatus::not_processed);
      }
    }
  });
}

hdf5::Dataset open_dataset(hid_t file, const std::string& path) {
  return hdf5::own<hdf5::Dataset>(H5Dopen2(file, path.c_str(), H5P_DEFAULT), "open dataset '" + path + "'");
}

/// A dataset that not every volume has; an invalid handle when this one has not.
hdf5::Dataset open_dataset_if_there(hid_t file, const std::string& path) {
  const htri_t found = H5Lexists(file, path.c_str(), H5P_DEFAULT);
  hdf5::check(found, "look for dataset '" + path + "'");
  return found > 0 ? open_dataset(file, path) : hdf5::Dataset();
}

std::vector<std::uint64_t> shape_of(hid_t dataset) {
  const auto space = hdf5::own<hdf5::Dataspace>(H5Dget_space(dataset), "read the shape of a dataset");
  hsize_t shape[H5S_MAX_RANK];
  const int rank = H5Sget_simple_extent_dims(space.get(), shape, nullptr);
  return {shape, shape + std::max(rank, 0)};
}

/// A file that is open, with its datasets: what writer and reader have in common.
struct OpenVolume {
  hdf5::File file;
  hdf5::Dataset intensity, errors, std, status;  ///< `errors` and `std` are invalid where the volume has none
  std::uint64_t slow = 0, fast = 0, azimuthal_bins = 0, bins = 0;

  [[nodiscard]] std::uint64_t rows() const { return bins * std::max<std::uint64_t>(azimuthal_bins, 1); }

  /// The datasets first: HDF5 closes a file with its last open object.
  void close_datasets() {
    for (hdf5::Dataset* dataset : {&intensity, &errors, &std, &status}) dataset->reset();
  }

  void open_datasets() {
    const std::string result = result_path;
    intensity = open_dataset(file.get(), result + "/intensity");
    status = open_dataset(file.get(), result + "/frame_status");
    errors = open_dataset_if_there(file.get(), result + "/errors");
    std = open_dataset_if_there(file.get(), result + "/std");

    const std::vector<std::uint64_t> shape = shape_of(intensity.get());
    if (shape.size() != 3 && shape.size() != 4) {
      throw IoError(
          fmt::format("'{}/intensity' has {} dimensions, expected [slow, fast, bins] or "
                      "[slow, fast, azimuthal bins, bins]",
                      result, shape.size()));
    }
    slow = shape[0], fast = shape[1], bins = shape.back();
    azimuthal_bins = shape.size() == 4 ? shape[2] : 0;
    const auto fits = [](const hdf5::Dataset& dataset, const std::vector<std::uint64_t>& expected) {
      return !dataset || shape_of(dataset.get()) == expected;
    };
    if (!fits(status, {slow, fast}) || !fits(errors, shape) || !fits(std, shape)) {
      throw IoError("the datasets of '" + result + "' have shapes that do not fit together");
    }
  }
};

/// Brings all ranks of `comm` to one verdict: throws IoError on every rank, with the words of the first rank that has a
/// problem, or returns on every rank. Collective.
void agree(MPI_Comm comm, const std::string& problem) {
  int rank = 0, size = 0;
  MPI_Comm_rank(comm, &rank);
  MPI_Comm_size(comm, &size);
  const int mine = problem.empty() ? size : rank;
  int first = size;
  MPI_Allreduce(&mine, &first, 1, MPI_INT, MPI_MIN, comm);
  if (first == size) return;
  int length = static_cast<int>(problem.size());
  MPI_Bcast(&length, 1, MPI_INT, first, comm);
  std::string words = problem;
  words.resize(static_cast<std::size_t>(length));
  MPI_Bcast(words.data(), length, MPI_CHAR, first, comm);
  throw IoError(fmt::format("{} (on rank {} of {})", words, first, size));
}

/// Runs a step of this rank and returns what went wrong, "" = nothing: an exception must not pass a collective step.
template <typename Step>
std::string problem_of(Step&& step) {
  try {
    step();
    return {};
  } catch (const std::exception& error) {
    return error.what();
  }
}

}  // namespace

void create_volume(const fs::path& file, const VolumeDescription& description, bool overwrite) {
  hdf5::silence();
  check_description(description);
  check_output(file, overwrite);

  const std::uint64_t arrays = 1U + description.errors + description.std;
  const std::uint64_t values = description.scan.points() * description.rows() * arrays;
  // Beside the values, a point has a frame index, a monitor and a status.
  const std::uint64_t bytes = values * sizeof(float) + description.scan.points() * 13 + metadata_bytes +
                              mappings_of(description) * mapping_bytes;
  TemporaryFile temporary(file);
  temporary.check_space(bytes);
  std::vector<Unwritten> data;
  hdf5::File handle;
  try {
    const hdf5::PropertyList access = nexus::unlocked_access();
    // Data on pages of its own: writing it never makes the kernel write a page again that holds metadata.
    hdf5::check(H5Pset_alignment(access.get(), 4096, 4096), "align datasets");
    const auto creation = hdf5::own<hdf5::PropertyList>(H5Pcreate(H5P_FILE_CREATE), "make file properties");
    hdf5::check(H5Pset_obj_track_times(creation.get(), false), "switch off time stamps");
    handle = hdf5::own<hdf5::File>(H5Fcreate(temporary.path().c_str(), H5F_ACC_TRUNC, creation.get(), access.get()),
                                   "create the file");
    data = write_volume(handle.get(), file, description);
    hdf5::check(H5Fflush(handle.get(), H5F_SCOPE_LOCAL), "write the file");
    hdf5::check(H5Fclose(handle.give_up()), "close the file");
  } catch (const IoError& error) {
    temporary.empty();
    throw IoError("output file '" + file.string() + "': " + error.what());
  }

  // By our own hand rather than HDF5's: a disk that fills up now is an error like any other.
  const std::vector<float> nan(fill_bytes / sizeof(float), std::numeric_limits<float>::quiet_NaN());
  const std::vector<float> zero(fill_bytes / sizeof(float), 0.0f);
  for (const Unwritten& dataset : data) {
    temporary.fill(dataset.offset, dataset.bytes, std::as_bytes(std::span(dataset.nan ? nan : zero)));
  }
  temporary.publish(overwrite);
}

VolumeState read_volume_state(const fs::path& file) {
  hdf5::silence();
  std::error_code error;
  if (!fs::exists(file, error)) throw InputError("volume '" + file.string() + "' is not there");
  VolumeState state;
  OpenVolume volume;
  try {
    volume.file =
        hdf5::own<hdf5::File>(H5Fopen(file.c_str(), H5F_ACC_RDONLY, nexus::unlocked_access().get()), "open the file");
    const auto process = hdf5::own<hdf5::Group>(H5Gopen2(volume.file.get(), process_path, H5P_DEFAULT),
                                                std::string("find '") + process_path + "'");
    state.fingerprint = nexus::read_text(process.get(), "fingerprint");
    volume.open_datasets();
  } catch (const IoError& reason) {
    throw InputError("'" + file.string() + "' is no volume of annulus: " + reason.what());
  }
  state.slow = volume.slow;
  state.fast = volume.fast;
  state.bins = volume.bins;
  state.azimuthal_bins = volume.azimuthal_bins;
  state.errors = static_cast<bool>(volume.errors);
  state.std = static_cast<bool>(volume.std);
  state.status.resize(state.slow * state.fast);
  try {
    hdf5::check(H5Dread(volume.status.get(), H5T_NATIVE_UINT8, H5S_ALL, H5S_ALL, H5P_DEFAULT, state.status.data()),
                "read 'frame_status'");
    for (const hdf5::Dataset* dataset : {&volume.intensity, &volume.errors, &volume.std}) {
      if (*dataset) clear_points_without_data(dataset->get(), state.fast, volume.rows(), state.status);
    }
  } catch (const IoError& reason) {
    throw IoError("volume '" + file.string() + "': " + reason.what());
  }
  return state;
}

struct VolumeWriter::Impl {
  std::string name;
  MPI_Comm comm = MPI_COMM_NULL;
  OpenVolume volume;
  hdf5::PropertyList transfer;

  /// Closing a file of several ranks waits for all of them, and a rank that gives up cannot count on the others: the
  /// file is left to the end of the process, which HDF5 sees to. All that was written is in the file already.
  ~Impl() { static_cast<void>(volume.file.give_up()); }

  template <typename Number>
  void write_block(hid_t dataset, const Block& block, const Number* values) {
    const Selection selection(dataset, block);
    hdf5::check(H5Dwrite(dataset, nexus::NumberType<Number>::in_memory(), selection.memory.get(), selection.file.get(),
                         transfer.get(), values),
                fmt::format("write points from line {}, column {}", block.line, block.column));
  }
};

VolumeWriter::VolumeWriter(const fs::path& file, MPI_Comm comm) : impl_(std::make_unique<Impl>()) {
  hdf5::silence();
  impl_->name = file.string();
  impl_->comm = comm;
  OpenVolume& volume = impl_->volume;
  hdf5::PropertyList access;

  // MPI_File_open need not return on the other ranks when one of them cannot open the file: each looks by itself first.
  agree(comm, problem_of([&] {
          const FileDescriptor descriptor(::open(file.c_str(), O_RDWR | O_CLOEXEC));
          if (!descriptor) throw_errno("open volume '" + impl_->name + "' for writing", errno);
          access = hdf5::own<hdf5::PropertyList>(H5Pcreate(H5P_FILE_ACCESS), "make file access properties");
          impl_->transfer = hdf5::own<hdf5::PropertyList>(H5Pcreate(H5P_DATASET_XFER), "make transfer properties");
          hdf5::check(H5Pset_dxpl_mpio(impl_->transfer.get(), H5FD_MPIO_INDEPENDENT), "set independent transfer");
        }));
  // H5Pset_fapl_mpio duplicates the communicator: collective, like the opening.
  agree(comm, problem_of([&] { hdf5::check(H5Pset_fapl_mpio(access.get(), comm, MPI_INFO_NULL), "set MPI-IO"); }));
  agree(comm, problem_of([&] {
          volume.file = hdf5::own<hdf5::File>(H5Fopen(file.c_str(), H5F_ACC_RDWR, access.get()),
                                              "open volume '" + impl_->name + "' through MPI-IO");
        }));
  try {
    agree(comm, problem_of([&] { volume.open_datasets(); }));
  } catch (const IoError& error) {
    volume.close_datasets();
    volume.file.reset();  // open on every rank, so that all can close it
    throw IoError("volume '" + impl_->name + "': " + error.what());
  }
}

VolumeWriter::~VolumeWriter() = default;
VolumeWriter::VolumeWriter(VolumeWriter&&) noexcept = default;
VolumeWriter& VolumeWriter::operator=(VolumeWriter&&) noexcept = default;

void VolumeWriter::write(std::uint64_t first_point, const VolumeRows& rows) {
  ANNULUS_EXPECT(impl_ && impl_->volume.file);
  static_assert(sizeof(FrameStatus) == sizeof(std::uint8_t));
  OpenVolume& volume = impl_->volume;
  const std::span<const FrameStatus> status = rows.status;
  const std::pair<const hdf5::Dataset*, std::span<const float>> arrays[] = {
      {&volume.intensity, rows.intensity}, {&volume.errors, rows.errors}, {&volume.std, rows.std}};
  ANNULUS_EXPECT(first_point + status.size() <= volume.slow * volume.fast);
  for (const auto& [dataset, values] : arrays) {
    ANNULUS_EXPECT(values.size() == (*dataset ? status.size() * volume.rows() : 0));
  }
  try {
    const std::uint64_t most = points_within(transfer_bytes, volume.rows());
    for_each_block(first_point, status.size(), volume.fast, most, [&](const Block& block, std::uint64_t before) {
      for (const auto& [dataset, values] : arrays) {
        if (*dataset) impl_->write_block(dataset->get(), block, values.data() + before * volume.rows());
      }
    });
    // Every value lies in the file before the first status says so.
    const auto* bytes = reinterpret_cast<const std::uint8_t*>(status.data());
    for_each_block(first_point, status.size(), volume.fast, transfer_bytes, [&](const Block& block, auto before) {
      impl_->write_block(volume.status.get(), block, bytes + before);
    });
  } catch (const IoError& error) {
    throw IoError("volume '" + impl_->name + "': " + error.what());
  }
}

void VolumeWriter::close() {
  ANNULUS_EXPECT(impl_ && impl_->volume.file);
  OpenVolume& volume = impl_->volume;
  const auto checked = [&](herr_t (*call)(hid_t), hid_t id, const std::string& what) {
    return problem_of([&] { hdf5::check(call(id), what + " volume '" + impl_->name + "'"); });
  };
  agree(impl_->comm, checked([](hid_t id) { return H5Fflush(id, H5F_SCOPE_LOCAL); }, volume.file.get(), "flush"));
  volume.close_datasets();
  agree(impl_->comm, checked(H5Fclose, volume.file.give_up(), "close"));
}

void finish_volume(const fs::path& file) {
  hdf5::silence();
  try {
    auto handle =
        hdf5::own<hdf5::File>(H5Fopen(file.c_str(), H5F_ACC_RDWR, nexus::unlocked_access().get()), "open the file");
    hdf5::Dataset end_time = open_dataset(handle.get(), std::string(entry_path) + "/end_time");
    nexus::set_fixed_text(end_time.get(), nexus::time_now());
    end_time.reset();
    hdf5::check(H5Fclose(handle.give_up()), "close the file");
  } catch (const IoError& error) {
    throw IoError("volume '" + file.string() + "': " + error.what());
  }
}

}  // namespace annulus::mapping
