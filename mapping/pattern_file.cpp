#include "mapping/pattern_file.hpp"

#include <fmt/format.h>
#include <hdf5.h>

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <sstream>
#include <string_view>

#include "base/errors.hpp"
#include "mapping/hdf5.hpp"
#include "mapping/nexus.hpp"
#include "mapping/output_file.hpp"

namespace annulus::mapping {
namespace {

namespace fs = std::filesystem;

constexpr const char* program_name = "annulus";

/// What a file's metadata take at most, apart from names of images.
constexpr std::uint64_t metadata_bytes = std::uint64_t{1} << 20;

std::uint64_t rows_of(const PatternDescription& description) {
  return description.radial.size() * std::max<std::size_t>(description.azimuthal.size(), 1);
}

void check_pattern(const PatternDescription& description, const Pattern& pattern) {
  const std::uint64_t rows = rows_of(description);
  ANNULUS_EXPECT(rows > 0 && pattern.intensity.size() == rows);
  ANNULUS_EXPECT(pattern.sem.empty() || pattern.sem.size() == rows);
  ANNULUS_EXPECT(pattern.std.empty() || pattern.std.size() == rows);
}

// ---------------------------------------------------------------------------------------------------- text

std::string files_or_false(const std::vector<std::string>& files) {
  return files.empty() ? "False" : fmt::format("{}", fmt::join(files, ", "));
}

/// The header without its '#'. A name that holds a line break must not end the comment: it is split over lines.
std::string header_text(const PatternDescription& description, const Pattern& pattern, const std::string& file) {
  std::string text;
  const auto add = [&](std::string_view name, const std::string& value) {
    text += fmt::format("{}: {}\n", name, value);
  };
  text += "== Geometry (PONI) ==\n";
  std::istringstream poni(description.poni_text);
  for (std::string line; std::getline(poni, line);) {
    if (!line.starts_with('#')) text += line + '\n';
  }
  text += "\n== Integration ==\n";
  add("Program", fmt::format("{} {}", program_name, description.version));
  add("Image", pattern.source);
  add("Mask applied", description.mask.empty() ? "False" : description.mask);
  add("Dark current applied", files_or_false(description.dark));
  add("Flat field applied", files_or_false(description.flat));
  add("Solid angle correction", description.solid_angle ? "True" : "False");
  add("Polarization factor",
      description.polarisation_factor ? fmt::format("{}", *description.polarisation_factor) : "None");
  add("Normalization factor", fmt::format("{}", pattern.normalisation_factor));
  add("Pixel splitting", description.splitting);
  add("Error model", description.error_model);
  add("Command", description.command_line);
  text += fmt::format("--> {}\n", file);
  return text;
}

/// Nine digits, two more than pyFAI has: a float32 comes back bit by bit (FLT_DECIMAL_DIG), and a bin's centre to 1e-9.
void append_number(std::string& text, double value) { fmt::format_to(std::back_inserter(text), "  {:15.8e}", value); }

std::string pattern_text(const PatternDescription& description, const Pattern& pattern, const std::string& file) {
  std::string text;
  std::istringstream header(header_text(description, pattern, file));
  for (std::string line; std::getline(header, line);) text += line.empty() ? "#\n" : "# " + line + '\n';
  std::vector<const std::vector<float>*> columns = {&pattern.intensity};
  text += fmt::format("#{:>16}  {:>15}", description.unit, "I");
  if (!pattern.sem.empty()) {
    columns.push_back(&pattern.sem);
    text += fmt::format("  {:>15}", "sigma");
  }
  if (!pattern.std.empty()) {
    columns.push_back(&pattern.std);
    text += fmt::format("  {:>15}", "std");
  }
  text += '\n';
  for (std::size_t bin = 0; bin < description.radial.size(); ++bin) {
    append_number(text, description.radial[bin]);
    for (const std::vector<float>* column : columns) append_number(text, static_cast<double>((*column)[bin]));
    text += '\n';
  }
  return text;
}

// ---------------------------------------------------------------------------------------------------- HDF5

/// The names of NXazint1d and NXazint2d for quantities and units; those that they do not have stay ours.
std::string long_name_of(const PatternDescription& description) {
  if (description.radial_name == "2th") return "2theta";
  if (description.radial_name == "q" || description.radial_label.empty()) return description.radial_name;
  return description.radial_label;
}

std::string nexus_unit(const std::string& unit) {
  static const std::pair<std::string_view, std::string_view> names[] = {
      {"deg", "degrees"}, {"rad", "radians"}, {"nm^-1", "1/nm"}, {"A^-1", "1/angstrom"}};
  for (const auto& [ours, theirs] : names) {
    if (unit == ours) return std::string(theirs);
  }
  return unit;
}

void write_axis(hid_t data, const std::string& name, std::span<const double> values, const std::string& label,
                const std::string& unit) {
  const hdf5::Dataset axis = nexus::write_array<double>(data, name, values, {values.size()});
  nexus::set_attribute(axis.get(), "long_name", label);
  if (!unit.empty()) nexus::set_attribute(axis.get(), "units", unit);
}

/// One of the arrays [images, (azimuthal,) radial], a chunk an image, to which more can be appended as pyFAI does.
void write_patterns(hid_t data, const std::string& name, const PatternDescription& description,
                    std::span<const Pattern> patterns, std::vector<float> Pattern::*array, const std::string& label) {
  std::vector<hsize_t> chunk = {1};
  if (!description.azimuthal.empty()) chunk.push_back(description.azimuthal.size());
  chunk.push_back(description.radial.size());
  std::vector<float> values;
  values.reserve(patterns.size() * rows_of(description));
  for (const Pattern& pattern : patterns) {
    const std::vector<float>& rows = pattern.*array;
    values.insert(values.end(), rows.begin(), rows.end());
  }
  const hdf5::Dataset dataset = nexus::write_growing<float>(data, name, values, chunk);
  nexus::set_attribute(dataset.get(), "long_name", label);
  nexus::set_attribute(dataset.get(), "units", "arbitrary units");
}

void write_data(hid_t entry, const PatternDescription& description, std::span<const Pattern> patterns) {
  const bool cakes = !description.azimuthal.empty();
  const hdf5::Group data = nexus::make_group(entry, "data", "NXdata");
  nexus::set_attribute(data.get(), "signal", "I");
  nexus::set_attribute(data.get(), "axes",
                       cakes ? std::vector<std::string>{".", "azimuthal_axis", "radial_axis"}
                             : std::vector<std::string>{".", "radial_axis"});
  nexus::set_attribute(data.get(), "interpretation", cakes ? "image" : "spectrum");
  write_axis(data.get(), "radial_axis", description.radial, long_name_of(description),
             nexus_unit(description.radial_unit));
  if (cakes) {
    write_axis(data.get(), "azimuthal_axis", description.azimuthal, description.azimuthal_label,
               nexus_unit(description.azimuthal_unit));
  }
  write_patterns(data.get(), "I", description, patterns, &Pattern::intensity, "intensity");
  if (!patterns.front().sem.empty()) {
    write_patterns(data.get(), "I_errors", description, patterns, &Pattern::sem, "estimated errors on intensity");
  }
  if (!patterns.front().std.empty()) {
    write_patterns(data.get(), "I_std", description, patterns, &Pattern::std, "standard deviation of the intensity");
  }
}

/// What neither the images nor the geometry tell stays "unknown": the definitions want the fields.
void write_instrument(hid_t entry, const PatternDescription& description) {
  const hdf5::Group instrument = nexus::make_group(entry, "instrument", "NXinstrument");
  nexus::write_text(instrument.get(), "name", "unknown");
  const hdf5::Group source = nexus::make_group(instrument.get(), "source", "NXsource");
  nexus::write_text(source.get(), "name", "unknown");
  nexus::write_text(source.get(), "type", "unknown");
  nexus::write_text(source.get(), "probe", "x-ray");
  if (!description.wavelength_m) return;
  const hdf5::Group monochromator = nexus::make_group(instrument.get(), "monochromator", "NXmonochromator");
  const auto write = [&](const std::string& name, double value, const std::string& unit) {
    const hdf5::Dataset dataset = nexus::write_array<double>(monochromator.get(), name, std::span(&value, 1), {});
    nexus::set_attribute(dataset.get(), "units", unit);
  };
  write("wavelength", *description.wavelength_m * 1e10, "angstrom");
  if (description.energy_kev) write("energy", *description.energy_kev, "keV");
}

/// A number, or the text "None" as pyFAI has it.
void write_number_or_none(hid_t parent, const std::string& name, std::optional<double> number) {
  if (number) {
    nexus::write_array<double>(parent, name, std::span(&*number, 1), {});
  } else {
    nexus::write_text(parent, name, "None");
  }
}

/// How the patterns came about: pyFAI's groups `poni` and `integrate`, and `input`, the definitions' NXparameters, in
/// which GSAS-II looks for the unit.
void write_process(hid_t entry, const PatternDescription& description, std::span<const Pattern> patterns,
                   const std::string& time) {
  const hdf5::Group process = nexus::make_group(entry, program_name, "NXprocess");
  const std::int64_t first = 1;
  nexus::write_array<std::int64_t>(process.get(), "sequence_index", std::span(&first, 1), {});
  nexus::write_text(process.get(), "program", program_name);
  nexus::write_text(process.get(), "version", description.version);
  nexus::write_text(process.get(), "date", time);
  nexus::write_text(process.get(), "command_line", description.command_line);

  const hdf5::Group poni = nexus::make_group(process.get(), "poni", "NXnote");
  nexus::write_text(poni.get(), "data", description.poni_json);
  nexus::write_text(poni.get(), "format", "text/json");
  if (!description.configuration_json.empty()) {
    const hdf5::Group configuration = nexus::make_group(process.get(), "configuration", "NXnote");
    nexus::write_text(configuration.get(), "type", "text/json");
    nexus::write_text(configuration.get(), "data", description.configuration_json);
  }

  const hdf5::Group integrate = nexus::make_group(process.get(), "integrate", "NXcollection");
  write_number_or_none(integrate.get(), "polarization_factor", description.polarisation_factor);
  const double normalisation = patterns.front().normalisation_factor;
  nexus::write_array<double>(integrate.get(), "normalization_factor", std::span(&normalisation, 1), {});
  nexus::write_text(integrate.get(), "has_mask_applied", description.mask.empty() ? "False" : description.mask);
  nexus::write_flag(integrate.get(), "has_dark_correction", !description.dark.empty());
  nexus::write_flag(integrate.get(), "has_flat_correction", !description.flat.empty());
  nexus::write_flag(integrate.get(), "has_solidangle_correction", description.solid_angle);
  nexus::write_flag(integrate.get(), "weighted_average", true);
  nexus::write_text(integrate.get(), "error_model", description.error_model);
  nexus::write_text(integrate.get(), "compute_engine", description.engine);

  const hdf5::Group input = nexus::make_group(process.get(), "input", "NXparameters");
  nexus::write_text(input.get(), "unit", description.radial_name);
  nexus::write_text(input.get(), "splitting", description.splitting);
  if (description.polarisation_factor)
    write_number_or_none(input.get(), "polarization_factor", description.polarisation_factor);
  // One text, a line an image: GSAS-II takes any 1-D array of that length for numbers.
  std::string images;
  for (const Pattern& pattern : patterns) images += (images.empty() ? "" : "\n") + pattern.source;
  nexus::write_text(input.get(), "images", images);
}

void write_entry(hid_t file, const fs::path& target, const PatternDescription& description,
                 std::span<const Pattern> patterns) {
  const std::string time = nexus::time_now();
  nexus::set_root_attributes(file, target, time, program_name, "entry");
  const hdf5::Group entry = nexus::make_group(file, "entry", "NXentry");
  nexus::set_attribute(entry.get(), "default", "data");
  nexus::write_text(entry.get(), "definition", description.azimuthal.empty() ? "NXazint1d" : "NXazint2d");
  nexus::write_text(entry.get(), "program_name", program_name);
  nexus::write_text(entry.get(), "start_time", time);
  nexus::write_text(entry.get(), "end_time", time);
  std::vector<double> monitor;
  for (const Pattern& pattern : patterns) monitor.push_back(pattern.normalisation_factor);
  const bool monitored = std::any_of(monitor.begin(), monitor.end(), [](double value) { return value != 1.0; });
  nexus::write_flag(entry.get(), "solid_angle_applied", description.solid_angle);
  nexus::write_flag(entry.get(), "polarization_applied", description.polarisation_factor.has_value());
  nexus::write_flag(entry.get(), "normalization_applied", true);  // the average is always the weighted one
  nexus::write_flag(entry.get(), "monitor_applied", monitored);
  write_instrument(entry.get(), description);
  write_process(entry.get(), description, patterns, time);
  nexus::link_soft(entry.get(), fmt::format("/entry/{}", program_name), "pyFAI");
  write_data(entry.get(), description, patterns);
  if (!monitored) return;
  const hdf5::Group group = nexus::make_group(entry.get(), "monitor", "NXmonitor");
  nexus::write_growing<double>(group.get(), "data", monitor, {monitor.size()});
}

}  // namespace

void write_xy(const fs::path& file, const PatternDescription& description, const Pattern& pattern, bool overwrite) {
  ANNULUS_EXPECT(description.azimuthal.empty());
  check_pattern(description, pattern);
  check_output(file, overwrite);
  const std::string text = pattern_text(description, pattern, file.string());
  TemporaryFile temporary(file);
  temporary.fill(0, text.size(), std::as_bytes(std::span(text)));
  temporary.publish(overwrite);
}

void write_nxazint(const fs::path& file, const PatternDescription& description, std::span<const Pattern> patterns,
                   bool overwrite) {
  hdf5::silence();
  ANNULUS_EXPECT(!patterns.empty());
  std::uint64_t bytes = metadata_bytes;
  for (const Pattern& pattern : patterns) {
    check_pattern(description, pattern);
    ANNULUS_EXPECT(pattern.sem.empty() == patterns.front().sem.empty());
    ANNULUS_EXPECT(pattern.std.empty() == patterns.front().std.empty());
    // A chunk's place in the index takes some 100 bytes.
    bytes += (pattern.intensity.size() + pattern.sem.size() + pattern.std.size()) * sizeof(float) + 1024 +
             pattern.source.size();
  }
  check_output(file, overwrite);
  TemporaryFile temporary(file);
  temporary.check_space(bytes);
  try {
    const hdf5::PropertyList access = nexus::unlocked_access();
    hdf5::File handle = hdf5::own<hdf5::File>(
        H5Fcreate(temporary.path().c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, access.get()), "create the file");
    write_entry(handle.get(), file, description, patterns);
    hdf5::check(H5Fflush(handle.get(), H5F_SCOPE_LOCAL), "write the file");
    hdf5::check(H5Fclose(handle.give_up()), "close the file");
  } catch (const IoError& error) {
    temporary.empty();
    throw IoError("output file '" + file.string() + "': " + error.what());
  }
  temporary.publish(overwrite);
}

}  // namespace annulus::mapping
