#include "mapping/volume.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <hdf5.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <ctime>
#include <limits>
#include <random>
#include <set>
#include <system_error>

#include "mapping/hdf5.hpp"
#include "mapping/nexus.hpp"

namespace annulus::mapping {
namespace {

namespace fs = std::filesystem;

constexpr const char* entry_path = "/entry_0000";
constexpr const char* process_path = "/entry_0000/annulus";
constexpr const char* result_path = "/entry_0000/annulus/result";
constexpr const char* program_name = "annulus";

/// "2026-01-31T23:59:59+01:00" has 25 characters; room for a longer year or a fraction.
constexpr std::size_t time_length = 32;

/// One transfer stays below this: MPI counts bytes in an int, which ends at 2 GiB.
constexpr std::uint64_t transfer_bytes = std::uint64_t{1} << 30;

/// Data is checked for NaN in blocks of this size: large enough for a disk, small enough for any login node.
constexpr std::uint64_t check_bytes = std::uint64_t{64} << 20;

/// Bytes written at once when a new volume is filled.
constexpr std::size_t fill_bytes = std::size_t{4} << 20;

/// What the metadata of a volume takes at most, apart from long lists of input files: 1,000 mappings are 0.1 MB.
constexpr std::size_t metadata_bytes = std::size_t{4} << 20;

/// Reading all of `map` through one mapping a channel reads every page of the volume once per channel. Up to this many
/// bytes that takes 3 to 4 s (4.5 GB/s from page cache); beyond it `intensity` is the signal: see DESIGN.md, Volume.
constexpr std::uint64_t whole_map_bytes = std::uint64_t{16'000'000'000};

[[noreturn]] void throw_errno(const std::string& what, int error) {
  const std::string message = "cannot " + what + ": " + std::generic_category().message(error);
  switch (error) {
    case EACCES:
    case EPERM:
    case EROFS:
    case ENOENT:
    case ENOTDIR:
    case ENAMETOOLONG:
    case EISDIR:
    case ELOOP:
    case EEXIST: throw InputError(message);
    default: throw IoError(message);
  }
}

struct DescriptorTraits {
  using Type = int;
  static Type invalid() noexcept { return -1; }
  static void release(Type descriptor) noexcept { ::close(descriptor); }
};
using Descriptor = UniqueHandle<DescriptorTraits>;

/// Brings a file's bytes, or a folder's names, to the disk: an error that was delayed shows here.
void sync_to_disk(const fs::path& path, int flags) {
  const Descriptor descriptor(::open(path.c_str(), flags | O_CLOEXEC));
  if (!descriptor) throw_errno("open '" + path.string() + "'", errno);
  // Some file systems cannot sync a folder (EINVAL): then the name is as safe as they make it.
  if (::fsync(descriptor.get()) != 0 && errno != EINVAL) throw_errno("write '" + path.string() + "' to disk", errno);
}

fs::path folder_of(const fs::path& file) { return file.has_parent_path() ? file.parent_path() : fs::path("."); }

InputError exists_error(const fs::path& file) {
  return InputError("output file '" + file.string() + "' exists: give another name, --overwrite or --resume");
}

/// A new file beside its final name: removed again unless publish() gives it that name.
class TemporaryFile {
 public:
  explicit TemporaryFile(fs::path target) : target_(std::move(target)) {
    // Not the process number: two nodes may share the folder, and the number. Short: the target's own name may be long.
    std::random_device random;
    const std::uint64_t number = std::uint64_t{random()} << 32 | random();
    path_ = folder_of(target_) / fmt::format(".annulus-{:016x}.part", number);
    const Descriptor descriptor(::open(path_.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
    if (!descriptor) {
      const int error = errno;
      path_.clear();
      throw_errno("create output file '" + target_.string() + "'", error);
    }
  }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;
  ~TemporaryFile() {
    if (!path_.empty()) ::unlink(path_.c_str());
  }

  [[nodiscard]] const fs::path& path() const { return path_; }

  /// Refuses at once what would run out of space, or of the quota, in the middle of filling the volume.
  void check_space(std::uint64_t bytes) const {
    const Descriptor descriptor = open_again();
    int error = 0;
    // Some file systems cannot allocate ahead (EOPNOTSUPP), and are asked by writing a little: HDF5 crashes at the end
    // of the process when it could not write its metadata, so at least that must fit.
    if (::fallocate(descriptor.get(), 0, 0, static_cast<off_t>(bytes)) != 0) error = errno;
    if (error == EOPNOTSUPP) {
      const std::vector<char> sample(metadata_bytes);
      const ssize_t written = ::pwrite(descriptor.get(), sample.data(), sample.size(), 0);
      error = written < 0 ? errno : written < static_cast<ssize_t>(sample.size()) ? ENOSPC : 0;
    }
    if (error != 0) {
      const double megabytes = static_cast<double>(bytes) * 1e-6;
      throw_errno(fmt::format("make output file '{}' of {:.0f} MB", target_.string(), megabytes), error);
    }
    empty();
  }

  /// Gives all space back, so that HDF5 can close a file on a disk that is full.
  void empty() const { static_cast<void>(::truncate(path_.c_str(), 0)); }

  /// Writes `bytes` bytes of `pattern`, over and over, from `offset` on.
  void fill(std::uint64_t offset, std::uint64_t bytes, std::span<const std::byte> pattern) const {
    const Descriptor descriptor = open_again();
    while (bytes > 0) {
      const auto written = ::pwrite(descriptor.get(), pattern.data(), std::min<std::uint64_t>(bytes, pattern.size()),
                                    static_cast<off_t>(offset));
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) throw_errno("fill output file '" + target_.string() + "'", errno);
      offset += static_cast<std::uint64_t>(written);
      bytes -= static_cast<std::uint64_t>(written);
    }
  }

  /// Gives the file its final name, complete and on disk. Without `overwrite` a file that has appeared there stays.
  void publish(bool overwrite) {
    sync_to_disk(path_, O_RDWR);
    if (overwrite || !link_to_target()) {
      if (::rename(path_.c_str(), target_.c_str()) != 0) {
        throw_errno("name output file '" + target_.string() + "'", errno);
      }
    } else {
      ::unlink(path_.c_str());
    }
    path_.clear();
    sync_to_disk(folder_of(target_), O_RDONLY | O_DIRECTORY);
  }

 private:
  [[nodiscard]] Descriptor open_again() const {
    Descriptor descriptor(::open(path_.c_str(), O_RDWR | O_CLOEXEC));
    if (!descriptor) throw_errno("open output file '" + target_.string() + "'", errno);
    return descriptor;
  }

  /// A hard link never replaces a file, on any file system that has them; false where there are none.
  bool link_to_target() {
    if (::link(path_.c_str(), target_.c_str()) == 0) return true;
    if (errno == EEXIST) throw exists_error(target_);
    std::error_code ignored;
    if (fs::exists(fs::symlink_status(target_, ignored))) throw exists_error(target_);
    return false;
  }

  fs::path target_;
  fs::path path_;
};

std::string time_now() {
  const std::time_t now = std::time(nullptr);
  std::tm local = {};
  ::localtime_r(&now, &local);
  char text[time_length];
  const std::size_t length = std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S%z", &local);
  std::string result(text, length);
  result.insert(result.size() - 2, ":");  // ISO 8601's extended form: +01:00, where strftime has +0100
  return result;
}

/// File access of one process. No locks: some parallel file systems refuse them, and a viewer that has the file open
/// must not keep a run from resuming or ending. Metadata never changes after creation, so a reader sees no torn state.
hdf5::PropertyList serial_access() {
  auto access = hdf5::own<hdf5::PropertyList>(H5Pcreate(H5P_FILE_ACCESS), "make file access properties");
  hdf5::check(H5Pset_file_locking(access.get(), false, true), "switch off file locking");
  return access;
}

void link_soft(hid_t parent, const std::string& target, const std::string& name) {
  hdf5::check(H5Lcreate_soft(target.c_str(), parent, name.c_str(), H5P_DEFAULT, H5P_DEFAULT),
              "link '" + name + "' to '" + target + "'");
}

bool reads_whole_in_seconds(const VolumeDescription& description) {
  const std::uint64_t points = description.scan.points();
  const std::uint64_t bins = description.radial.size();
  if (points <= bins) return true;
  return static_cast<double>(points) * static_cast<double>(bins) * static_cast<double>(bins) * sizeof(float) <=
         static_cast<double>(whole_map_bytes);
}

/// `map` [bins, slow, fast] as a view of `intensity` [slow, fast, bins]. A mapping pairs elements in C order, so one
/// covers either one channel of all points or all channels of one point; the fewer of these are written.
void make_map(hid_t result, std::uint64_t slow, std::uint64_t fast, std::uint64_t bins) {
  const hdf5::Dataspace view = nexus::dataspace({bins, slow, fast});
  const hdf5::Dataspace source = nexus::dataspace({slow, fast, bins});
  const hdf5::PropertyList properties = nexus::dataset_properties();
  const float fill = std::numeric_limits<float>::quiet_NaN();
  hdf5::check(H5Pset_fill_value(properties.get(), H5T_NATIVE_FLOAT, &fill), "set the fill value of 'map'");
  const std::string source_name = std::string(result_path) + "/intensity";

  using Index = hsize_t[3];
  const auto select = [](hid_t space, const Index& start, const Index& count) {
    hdf5::check(H5Sselect_hyperslab(space, H5S_SELECT_SET, start, nullptr, count, nullptr), "map 'map'");
  };
  const auto add = [&](const Index& view_start, const Index& view_count, const Index& source_start,
                       const Index& source_count) {
    select(view.get(), view_start, view_count);
    select(source.get(), source_start, source_count);
    hdf5::check(H5Pset_virtual(properties.get(), view.get(), ".", source_name.c_str(), source.get()), "map 'map'");
  };
  if (bins < slow * fast) {
    for (hsize_t bin = 0; bin < bins; ++bin) add({bin, 0, 0}, {1, slow, fast}, {0, 0, bin}, {slow, fast, 1});
  } else {
    for (hsize_t line = 0; line < slow; ++line) {
      for (hsize_t column = 0; column < fast; ++column) {
        add({0, line, column}, {bins, 1, 1}, {line, column, 0}, {1, 1, bins});
      }
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

void write_result(hid_t process, const VolumeDescription& description, const std::string& title,
                  std::vector<Unwritten>& data) {
  const Scan& scan = description.scan;
  const std::vector<hsize_t> grid = {scan.slow, scan.fast};
  const std::uint64_t bins = description.radial.size();
  const std::vector<hsize_t> shape = {scan.slow, scan.fast, bins};
  const float nan = std::numeric_limits<float>::quiet_NaN();

  const hdf5::Group result = nexus::make_group(process, "result", "NXdata");
  const bool signal_is_map = reads_whole_in_seconds(description);
  const std::vector<std::string> map_axes = {description.radial_name, "slow", "fast"};
  nexus::set_attribute(result.get(), "signal", signal_is_map ? "map" : "intensity");
  nexus::set_attribute(result.get(), "axes",
                       signal_is_map ? map_axes : std::vector<std::string>{"slow", "fast", description.radial_name});
  nexus::set_attribute(result.get(), "title", title);

  const std::int64_t first_grid_dimension = signal_is_map ? 2 : 1;
  write_axis(result.get(), "slow", scan.slow_axis.positions, scan.slow_axis.name, scan.slow_axis.units,
             first_grid_dimension);
  write_axis(result.get(), "fast", scan.fast_axis.positions, scan.fast_axis.name, scan.fast_axis.units,
             first_grid_dimension + 1);
  write_axis(result.get(), description.radial_name, description.radial, description.radial_label,
             description.radial_unit, signal_is_map ? 1 : 3);

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

  const hdf5::Dataset intensity = nexus::make_unwritten<float>(result.get(), "intensity", shape, nan);
  nexus::set_attribute(intensity.get(), "interpretation", "spectrum");
  nexus::set_attribute(intensity.get(), "long_name", "Intensity");
  data = {unwritten(status.get(), false), unwritten(intensity.get(), true)};
  if (description.errors) {
    const hdf5::Dataset errors = nexus::make_unwritten<float>(result.get(), "errors", shape, nan);
    nexus::set_attribute(errors.get(), "interpretation", "spectrum");
    nexus::set_attribute(errors.get(), "long_name", "Standard error of the intensity");
    data.push_back(unwritten(errors.get(), true));
  }
  make_map(result.get(), scan.slow, scan.fast, bins);

  // What viewers open at once. A group of its own: silx takes `errors` in an NXdata for those of its signal and refuses
  // the group when the shapes differ; and a slice of `map` stays quick in volumes whose signal is `intensity`.
  const hdf5::Group maps = nexus::make_group(process, "maps", "NXdata");
  nexus::set_attribute(maps.get(), "signal", "map");
  nexus::set_attribute(maps.get(), "axes", map_axes);
  nexus::set_attribute(maps.get(), "title", title);
  link_soft(maps.get(), std::string(result_path) + "/map", "map");
  for (const std::string& name : map_axes) link_soft(maps.get(), std::string(result_path) + "/" + name, name);
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

  write_dimension(process.get(), "dim0", scan.slow, scan.slow_axis.name, scan.slow_axis.positions);
  write_dimension(process.get(), "dim1", scan.fast, scan.fast_axis.name, scan.fast_axis.positions);
  write_dimension(process.get(), "dim2", description.radial.size(), "diffraction", {});
  nexus::write_array<std::int64_t>(process.get(), "offset", std::span(&scan.offset, 1), {});

  const hdf5::Group configuration = nexus::make_group(process.get(), "configuration", "NXnote");
  nexus::write_text(configuration.get(), "type", "text/json");
  nexus::write_text(configuration.get(), "data", description.configuration_json);

  const hdf5::Group source = nexus::make_group(process.get(), "source", "NXcollection");
  link_inputs(source.get(), description, folder_of(target));
  write_result(process.get(), description, title, data);
}

/// Writes all metadata and the small arrays, and returns what is still to be filled.
std::vector<Unwritten> write_volume(hid_t file, const fs::path& target, const VolumeDescription& description) {
  const std::string time = time_now();
  const bool tomo = description.scan.kind == ScanKind::tomo;
  unsigned major = 0, minor = 0, release = 0;
  hdf5::check(H5get_libversion(&major, &minor, &release), "read the version of HDF5");

  nexus::set_attribute(file, "NX_class", "NXroot");
  nexus::set_attribute(file, "file_name", fs::absolute(target).lexically_normal().string());
  nexus::set_attribute(file, "file_time", time);
  nexus::set_attribute(file, "HDF5_Version", fmt::format("{}.{}.{}", major, minor, release));
  nexus::set_attribute(file, "creator", program_name);
  nexus::set_attribute(file, "default", "entry_0000");

  const hdf5::Group entry = nexus::make_group(file, "entry_0000", "NXentry");
  nexus::set_attribute(entry.get(), "default", std::string(program_name) + "/maps");
  nexus::write_text(entry.get(), "title", tomo ? "diff_tomo" : "diff_map");
  nexus::write_text(entry.get(), "program_name", program_name);
  nexus::write_text(entry.get(), "start_time", time);
  nexus::make_fixed_text(entry.get(), "end_time", "", time_length);  // "" until finish_volume()
  link_soft(entry.get(), process_path, "pyFAI");

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
  static const std::set<std::string> taken = {"",        "map",          "intensity", "errors", "map_ptr",
                                              "monitor", "frame_status", "slow",      "fast"};
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

/// Selects a block of a [slow, fast] or [slow, fast, bins] dataset and the memory that goes with it.
struct Selection {
  hdf5::Dataspace file, memory;
  Selection(hid_t dataset, const Block& block) {
    file = hdf5::own<hdf5::Dataspace>(H5Dget_space(dataset), "read the shape of a dataset");
    hsize_t shape[3] = {0, 0, 1};
    const int rank = H5Sget_simple_extent_dims(file.get(), shape, nullptr);
    ANNULUS_EXPECT(rank == 2 || rank == 3);
    const hsize_t start[3] = {block.line, block.column, 0};
    const hsize_t count[3] = {block.lines, block.columns, shape[2]};
    hdf5::check(H5Sselect_hyperslab(file.get(), H5S_SELECT_SET, start, nullptr, count, nullptr), "select points");
    memory = nexus::dataspace({block.points() * count[2]});
  }
};

std::uint64_t points_within(std::uint64_t bytes, std::uint64_t bins) {
  return std::max<std::uint64_t>(1, bytes / (bins * sizeof(float)));
}

/// Clears the status of points marked ok that hold a NaN. An integrated frame has none (an empty bin is 0), so its data
/// never reached the disk: the machine went down between writing data and status back.
void clear_points_without_data(hid_t dataset, std::uint64_t fast, std::uint64_t bins,
                               std::vector<std::uint8_t>& status) {
  constexpr auto ok = static_cast<std::uint8_t>(FrameStatus::ok);
  const std::uint64_t most = points_within(check_bytes, bins);
  std::vector<float> values;
  for_each_block(0, status.size(), fast, most, [&](const Block& block, std::uint64_t first) {
    const auto begin = status.begin() + static_cast<std::ptrdiff_t>(first);
    const auto end = begin + static_cast<std::ptrdiff_t>(block.points());
    if (std::find(begin, end, ok) == end) return;
    values.resize(block.points() * bins);
    const Selection selection(dataset, block);
    hdf5::check(
        H5Dread(dataset, H5T_NATIVE_FLOAT, selection.memory.get(), selection.file.get(), H5P_DEFAULT, values.data()),
        "read the points that are marked ok");
    for (std::uint64_t point = 0; point < block.points(); ++point) {
      const float* frame = values.data() + point * bins;
      if (begin[static_cast<std::ptrdiff_t>(point)] == ok &&
          std::any_of(frame, frame + bins, [](float value) { return std::isnan(value); })) {
        begin[static_cast<std::ptrdiff_t>(point)] = static_cast<std::uint8_t>(FrameStatus::not_processed);
      }
    }
  });
}

hdf5::Dataset open_dataset(hid_t file, const std::string& path) {
  return hdf5::own<hdf5::Dataset>(H5Dopen2(file, path.c_str(), H5P_DEFAULT), "open dataset '" + path + "'");
}

bool has_errors(hid_t file) {
  const std::string path = std::string(result_path) + "/errors";
  const htri_t found = H5Lexists(file, path.c_str(), H5P_DEFAULT);
  hdf5::check(found, "look for dataset '" + path + "'");
  return found > 0;
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
  hdf5::Dataset intensity, errors, status;  ///< `errors` is invalid where the volume has none
  std::uint64_t slow = 0, fast = 0, bins = 0;

  /// The datasets first: HDF5 closes a file with its last open object.
  void close_datasets() {
    intensity.reset();
    errors.reset();
    status.reset();
  }

  void open_datasets() {
    const std::string result = result_path;
    intensity = open_dataset(file.get(), result + "/intensity");
    status = open_dataset(file.get(), result + "/frame_status");
    if (has_errors(file.get())) errors = open_dataset(file.get(), result + "/errors");

    const std::vector<std::uint64_t> shape = shape_of(intensity.get());
    if (shape.size() != 3) {
      throw IoError(fmt::format("'{}/intensity' has {} dimensions, expected [slow, fast, bins]", result, shape.size()));
    }
    slow = shape[0], fast = shape[1], bins = shape[2];
    const std::vector<std::uint64_t> grid = {slow, fast};
    if (shape_of(status.get()) != grid || (errors && shape_of(errors.get()) != shape)) {
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
  const fs::file_status existing = fs::symlink_status(file);
  if (fs::is_directory(existing)) throw InputError("output file '" + file.string() + "' is a folder");
  if (!overwrite && fs::exists(existing)) throw exists_error(file);

  const std::uint64_t values = description.scan.points() * description.radial.size() * (description.errors ? 2 : 1);
  // Beside the values, a point has a frame index, a monitor and a status.
  const std::uint64_t bytes = values * sizeof(float) + description.scan.points() * 13 + metadata_bytes;
  TemporaryFile temporary(file);
  temporary.check_space(bytes);
  std::vector<Unwritten> data;
  hdf5::File handle;
  try {
    const hdf5::PropertyList access = serial_access();
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
    volume.file = hdf5::own<hdf5::File>(H5Fopen(file.c_str(), H5F_ACC_RDONLY, serial_access().get()), "open the file");
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
  state.errors = static_cast<bool>(volume.errors);
  state.status.resize(state.slow * state.fast);
  try {
    hdf5::check(H5Dread(volume.status.get(), H5T_NATIVE_UINT8, H5S_ALL, H5S_ALL, H5P_DEFAULT, state.status.data()),
                "read 'frame_status'");
    for (const hdf5::Dataset* dataset : {&volume.intensity, &volume.errors}) {
      if (*dataset) clear_points_without_data(dataset->get(), state.fast, state.bins, state.status);
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
          const Descriptor descriptor(::open(file.c_str(), O_RDWR | O_CLOEXEC));
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

void VolumeWriter::write(std::uint64_t first_point, std::span<const float> intensity, std::span<const float> sigma,
                         std::span<const FrameStatus> status) {
  ANNULUS_EXPECT(impl_ && impl_->volume.file);
  static_assert(sizeof(FrameStatus) == sizeof(std::uint8_t));
  OpenVolume& volume = impl_->volume;
  ANNULUS_EXPECT(first_point + status.size() <= volume.slow * volume.fast);
  ANNULUS_EXPECT(intensity.size() == status.size() * volume.bins);
  ANNULUS_EXPECT(sigma.size() == (volume.errors ? intensity.size() : 0));
  try {
    const std::uint64_t most = points_within(transfer_bytes, volume.bins);
    for_each_block(first_point, status.size(), volume.fast, most, [&](const Block& block, std::uint64_t before) {
      impl_->write_block(volume.intensity.get(), block, intensity.data() + before * volume.bins);
      if (volume.errors) impl_->write_block(volume.errors.get(), block, sigma.data() + before * volume.bins);
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
    auto handle = hdf5::own<hdf5::File>(H5Fopen(file.c_str(), H5F_ACC_RDWR, serial_access().get()), "open the file");
    hdf5::Dataset end_time = open_dataset(handle.get(), std::string(entry_path) + "/end_time");
    nexus::set_fixed_text(end_time.get(), time_now());
    end_time.reset();
    hdf5::check(H5Fclose(handle.give_up()), "close the file");
  } catch (const IoError& error) {
    throw IoError("volume '" + file.string() + "': " + error.what());
  }
}

}  // namespace annulus::mapping
