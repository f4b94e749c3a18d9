#include "mapping/image_metadata.hpp"

#include <hdf5.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "integrator/entries.hpp"
#include "integrator/units.hpp"
#include "mapping/frame_source.hpp"
#include "mapping/hdf5.hpp"
#include "mapping/hdf5_input.hpp"
#include "mapping/input_file.hpp"

namespace annulus::mapping {
namespace {

namespace fs = std::filesystem;
using integrator::detail::lower;
using integrator::detail::number_of;

struct Unit {
  std::string_view name;
  double factor;
};
constexpr std::array lengths{Unit{"m", 1.0},   Unit{"cm", 1e-2},        Unit{"mm", 1e-3}, Unit{"um", 1e-6},
                             Unit{"nm", 1e-9}, Unit{"angstrom", 1e-10}, Unit{"a", 1e-10}, Unit{"å", 1e-10}};
constexpr std::array energies_kev{Unit{"kev", 1.0}, Unit{"ev", 1e-3}};

/// `value` in the unit's terms; absent for another unit, or a value that cannot be.
template <std::size_t count>
std::optional<double> converted(std::optional<double> value, std::string_view unit,
                                const std::array<Unit, count>& units) {
  if (!value || !(*value > 0.0)) return std::nullopt;
  const std::string name = lower(unit);
  for (const Unit& known : units) {
    if (known.name == name) return *value * known.factor;
  }
  return std::nullopt;
}

std::vector<std::string_view> words_of(std::string_view line) {
  constexpr std::string_view between = " \t\r,():=";
  std::vector<std::string_view> words;
  for (std::size_t begin = line.find_first_not_of(between); begin != std::string_view::npos;) {
    const std::size_t end = std::min(line.find_first_of(between, begin), line.size());
    words.push_back(line.substr(begin, end - begin));
    begin = line.find_first_not_of(between, end);
  }
  return words;
}

/// Lines "# Key value unit" among the first bytes of a file.
ImageMetadata dectris_header(const InputFile& file) {
  // Dectris reserves 4 kB for all that comes before the pixels; headers of others are longer.
  std::vector<std::byte> bytes(std::min<std::uint64_t>(file.bytes, 16384));
  ImageMetadata metadata;
  if (!read_exactly(file.descriptor.get(), 0, bytes)) return metadata;
  std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  for (std::size_t hash = text.find("# "); hash != std::string_view::npos; hash = text.find("# ", hash + 2)) {
    const std::string_view line =
        text.substr(hash + 2, text.substr(hash + 2).find_first_of(std::string_view("\n\0", 2)));
    const std::vector<std::string_view> words = words_of(line.substr(0, 200));
    if (words.size() < 3) continue;
    if (words[0] == "Detector_distance") metadata.distance_m = converted(number_of(words[1]), words[2], lengths);
    if (words[0] == "Wavelength") metadata.wavelength_m = converted(number_of(words[1]), words[2], lengths);
    if (words[0] == "Beam_xy") {
      const std::optional<double> x = number_of(words[1]);
      const std::optional<double> y = number_of(words[2]);
      // 0, 0 is what stands there when nobody set it.
      if (x && y && (*x != 0.0 || *y != 0.0)) metadata.beam_column = x, metadata.beam_row = y;
    }
  }
  return metadata;
}

/// Numbers in the groups of an HDF5 file, by the NeXus class of the group.
class NexusSearch {
 public:
  explicit NexusSearch(const fs::path& file) : file_(hdf5::open_for_reading(file)) { visit("/", 0); }

  [[nodiscard]] ImageMetadata metadata() const { return metadata_; }

 private:
  void visit(const std::string& group, int depth) {
    constexpr int deepest = 4;  // /entry/instrument/detector, and one group more
    for (const std::string& name : hdf5::children(file_.get(), group)) {
      const std::string path = group == "/" ? "/" + name : group + "/" + name;
      if (hdf5::is_external_link(file_.get(), path) || hdf5::look(file_.get(), path) != hdf5::Target::group) continue;
      const auto opened = hdf5::own<hdf5::Group>(H5Gopen2(file_.get(), path.c_str(), H5P_DEFAULT), "open " + path);
      const std::string kind = hdf5::text_attribute(opened.get(), "NX_class");
      if (kind == "NXdetector") take_detector(path);
      if (kind == "NXbeam" || kind == "NXmonochromator") take_beam(path);
      if (depth + 1 < deepest) visit(path, depth + 1);
    }
  }

  void take_detector(const std::string& group) {
    const auto keep = [](std::optional<double>& place, std::optional<double> value) {
      if (!place) place = value;
    };
    for (const char* name : {"detector_distance", "distance"}) {
      const auto [value, unit] = number(group, name);
      keep(metadata_.distance_m, converted(value, unit.empty() ? "m" : unit, lengths));
    }
    keep(metadata_.beam_column, number(group, "beam_center_x").first);
    keep(metadata_.beam_row, number(group, "beam_center_y").first);
  }

  void take_beam(const std::string& group) {
    if (metadata_.wavelength_m) return;
    for (const char* name : {"incident_wavelength", "wavelength"}) {
      const auto [value, unit] = number(group, name);
      if (const auto length = converted(value, unit.empty() ? "angstrom" : unit, lengths))
        metadata_.wavelength_m = length;
    }
    for (const char* name : {"incident_energy", "energy"}) {
      if (metadata_.wavelength_m) return;
      const auto [value, unit] = number(group, name);
      if (const auto kev = converted(value, unit.empty() ? "ev" : unit, energies_kev)) {
        metadata_.wavelength_m = integrator::wavelength_m_of_energy_kev(*kev);
      }
    }
  }

  /// A dataset's first number and its unit.
  [[nodiscard]] std::pair<std::optional<double>, std::string> number(const std::string& group,
                                                                     const std::string& name) const {
    const std::string path = group + "/" + name;
    if (hdf5::look(file_.get(), path) != hdf5::Target::dataset) return {};
    const auto data = hdf5::own<hdf5::Dataset>(H5Dopen2(file_.get(), path.c_str(), H5P_DEFAULT), "open " + path);
    const auto type = hdf5::own<hdf5::Datatype>(H5Dget_type(data.get()), "get the type of " + path);
    const H5T_class_t kind = H5Tget_class(type.get());
    const std::vector<hsize_t> extent = hdf5::extent(data.get());
    if ((kind != H5T_INTEGER && kind != H5T_FLOAT) ||
        std::any_of(extent.begin(), extent.end(), [](hsize_t size) { return size != 1; })) {
      return {};
    }
    double value = 0.0;
    if (H5Dread(data.get(), H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, &value) < 0) return {};
    if (!std::isfinite(value)) return {};
    return {value, hdf5::text_attribute(data.get(), "units")};
  }

  hdf5::File file_;
  ImageMetadata metadata_;
};

}  // namespace

ImageMetadata read_image_metadata(const std::string& url) {
  const fs::path file = split_url(url).file;
  const InputFile input = open_input(file);
  if (format_of(input) != FileFormat::hdf5) return dectris_header(input);
  return hdf5::as_input(file, [&] { return NexusSearch(file).metadata(); });
}

}  // namespace annulus::mapping
