#include "integrator/geometry.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <fstream>
#include <map>
#include <system_error>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/errors.hpp"
#include "base/problems.hpp"

namespace annulus::integrator {
namespace {

using Json = nlohmann::ordered_json;

/// The last value of each key; keys in lower case. An absent key and the value None mean the same: see value_of().
using Entries = std::map<std::string, std::string, std::less<>>;

std::string lower(std::string_view text) {
  std::string result(text);
  for (char& letter : result) {
    if (letter >= 'A' && letter <= 'Z') letter = static_cast<char>(letter - 'A' + 'a');
  }
  return result;
}

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view blanks = " \t\r\n\v\f";
  const std::size_t first = text.find_first_not_of(blanks);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(blanks) - first + 1);
}

/// A value as errors show it: quoted, not longer than a line, without control characters.
std::string shown(std::string_view text) {
  constexpr std::size_t longest = 60;
  std::string result = "'";
  for (const char letter : text.substr(0, longest)) {
    result += static_cast<unsigned char>(letter) < 0x20 || letter == 0x7f ? '?' : letter;
  }
  return result + (text.size() > longest ? "...'" : "'");
}

/// "Key: value" lines; lines that begin with '#' or have no ':' say nothing.
Entries entries_of_lines(std::string_view text) {
  Entries entries;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find_first_of("\r\n"), text.size());
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    const std::size_t colon = line.find(':');
    if (line.starts_with('#') || colon == std::string_view::npos) continue;
    entries.insert_or_assign(lower(trimmed(line.substr(0, colon))), std::string(trimmed(line.substr(colon + 1))));
  }
  return entries;
}

/// The dictionary form: the same keys in a JSON object, "dist" for "Distance".
Entries entries_of_json(std::string_view text, std::string_view source) {
  const Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) {
    throw InputError(fmt::format("{}: begins with '{{' but is no valid JSON object; expected a PONI file", source));
  }
  Entries entries;
  for (const auto& [key, value] : json.items()) {
    entries.insert_or_assign(lower(key), value.is_null()     ? std::string("None")
                                         : value.is_string() ? value.get<std::string>()
                                                             : value.dump());
  }
  return entries;
}

/// Absent when there is no such key, or when its value is empty or None, which pyFAI writes for what is not set.
std::optional<std::string_view> value_of(const Entries& entries, std::string_view key) {
  const auto found = entries.find(key);
  if (found == entries.end() || found->second.empty() || lower(found->second) == "none") return std::nullopt;
  return found->second;
}

/// The whole text as one finite number, in C's notation whatever the locale.
std::optional<double> number_of(std::string_view text) {
  if (text.starts_with('+')) text.remove_prefix(1);
  double number = 0.0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(number)) return std::nullopt;
  return number;
}

enum class Sign { any, positive };

/// Reads the numbers of one PONI text; what is wrong with them goes to `problems`.
class NumberReader {
 public:
  NumberReader(const Entries& entries, std::string_view source, Problems& problems)
      : entries_(entries), source_(source), problems_(problems) {}

  /// The number under `key` (lower case), named `name` in errors; absent when it is not set or no number.
  [[nodiscard]] std::optional<double> read(std::string_view key, std::string_view name, std::string_view unit,
                                           Sign sign = Sign::any) {
    const auto text = value_of(entries_, key);
    if (!text) return std::nullopt;
    const auto number = number_of(*text);
    if (number && (sign == Sign::any || *number > 0.0)) return number;
    problems_.add(fmt::format("{}: {}: found {}, expected a {}number in {}", source_, name, shown(*text),
                              sign == Sign::positive ? "positive " : "", unit));
    return std::nullopt;
  }

 private:
  const Entries& entries_;
  std::string_view source_;
  Problems& problems_;
};

/// 1, 2, 2.1 or 3. As pyFAI does, what only a later version can hold makes a text one of that version.
double version_of(const Entries& entries, std::string_view source) {
  double version = 1.0;
  if (const auto text = value_of(entries, "poni_version")) {
    const auto number = number_of(*text);
    if (!number || (*number != 1.0 && *number != 2.0 && *number != 2.1 && *number != 3.0)) {
      throw InputError(fmt::format("{}: poni_version: found {}, expected 1, 2, 2.1 or 3", source, shown(*text)));
    }
    version = *number;
  }
  return value_of(entries, "detector_config") ? std::max(version, 2.0) : version;
}

/// Version 1: the detector's name is optional, and pixel sizes stand beside it.
Detector detector_of_version_1(const Entries& entries, NumberReader& numbers) {
  const auto pixel1_m = numbers.read("pixelsize1", "PixelSize1", "m", Sign::positive);
  const auto pixel2_m = numbers.read("pixelsize2", "PixelSize2", "m", Sign::positive);
  Json config = Json::object();
  if (pixel1_m) config["pixel1"] = *pixel1_m;
  if (pixel2_m) config["pixel2"] = *pixel2_m;
  if (const auto spline = value_of(entries, "splinefile")) {
    throw InputError(
        fmt::format("SplineFile: found {}, expected None: distorted detectors are not supported", shown(*spline)));
  }
  return make_detector(value_of(entries, "detector").value_or("Detector"), config.dump());
}

void refuse_parallax(const Entries& entries, std::string_view source, Problems& problems) {
  const auto parallax = value_of(entries, "parallax");
  if (!parallax || lower(*parallax) == "false") return;
  problems.add(fmt::format("{}: Parallax: found {}, expected False: the correction of parallax is not supported",
                           source, shown(*parallax)));
}

/// The shortest decimal that reads back as the same double.
std::string exact(double number) {
  std::array<char, 32> text{};
  const auto [end, error] = std::to_chars(text.data(), text.data() + text.size(), number);
  ANNULUS_EXPECT(error == std::errc());
  return {text.data(), end};
}

}  // namespace

Geometry parse_poni(std::string_view text, std::string_view source) {
  constexpr std::string_view byte_order_mark = "\xef\xbb\xbf";
  if (text.starts_with(byte_order_mark)) text.remove_prefix(byte_order_mark.size());
  if (text.find('\0') != std::string_view::npos) {
    throw InputError(fmt::format("{}: found binary data, expected a PONI file (lines 'Key: value')", source));
  }
  const Entries entries = trimmed(text).starts_with('{') ? entries_of_json(text, source) : entries_of_lines(text);
  const auto is_known = [&](std::string_view key) { return entries.contains(key); };
  if (std::ranges::none_of(std::array{"distance", "dist", "poni1", "poni2", "detector", "poni_version"}, is_known)) {
    throw InputError(
        fmt::format("{}: found none of the keys of a PONI file (Distance, Poni1, Poni2, Detector, ...)", source));
  }

  const double version = version_of(entries, source);
  Problems problems;
  NumberReader numbers(entries, source, problems);
  Geometry geometry;
  const std::string_view distance_key = value_of(entries, "distance") ? "distance" : "dist";
  if (!value_of(entries, distance_key)) {
    problems.add(fmt::format("{}: Distance: found none, expected a positive number in m", source));
  }
  geometry.distance_m = numbers.read(distance_key, "Distance", "m", Sign::positive).value_or(1.0);
  geometry.poni1_m = numbers.read("poni1", "Poni1", "m").value_or(0.0);
  geometry.poni2_m = numbers.read("poni2", "Poni2", "m").value_or(0.0);
  geometry.rot1_rad = numbers.read("rot1", "Rot1", "rad").value_or(0.0);
  geometry.rot2_rad = numbers.read("rot2", "Rot2", "rad").value_or(0.0);
  geometry.rot3_rad = numbers.read("rot3", "Rot3", "rad").value_or(0.0);
  geometry.wavelength_m = numbers.read("wavelength", "Wavelength", "m", Sign::positive);
  refuse_parallax(entries, source, problems);

  try {
    geometry.detector = version < 2.0 ? detector_of_version_1(entries, numbers)
                                      : make_detector(value_of(entries, "detector").value_or("Detector"),
                                                      value_of(entries, "detector_config").value_or(""));
    if (!problems.any() && !(geometry.detector.pixel1_m > 0.0 && geometry.detector.pixel2_m > 0.0)) {
      problems.add(fmt::format("{}: found no pixel size, expected {}", source,
                               version < 2.0 ? "PixelSize1 and PixelSize2, or the Detector's name"
                                             : "pixel1 and pixel2 in Detector_config, or the Detector's name"));
    }
  } catch (const InputError& error) {
    problems.add(fmt::format("{}: {}", source, error.what()));
  }
  problems.throw_if_any();
  return geometry;
}

Geometry read_poni(const std::filesystem::path& file) {
  std::error_code error;
  if (std::filesystem::is_directory(file, error)) {
    throw InputError(fmt::format("{}: is a folder, expected a PONI file", file.string()));
  }
  errno = 0;
  std::ifstream stream(file, std::ios::binary);
  if (!stream) {
    throw InputError(fmt::format("{}: cannot be opened ({}), expected a PONI file", file.string(),
                                 std::generic_category().message(errno)));
  }
  // Decades of appended calibrations stay far below this; an image given by mistake does not.
  constexpr std::size_t largest_bytes = std::size_t{8} << 20U;
  std::string text(largest_bytes + 1, '\0');
  stream.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (stream.bad()) throw InputError(fmt::format("{}: cannot be read", file.string()));
  text.resize(static_cast<std::size_t>(stream.gcount()));
  if (text.size() > largest_bytes) {
    throw InputError(
        fmt::format("{}: found more than {} MiB, expected a PONI file", file.string(), largest_bytes >> 20U));
  }
  return parse_poni(text, file.string());
}

std::string poni_text(const Geometry& geometry) {
  const bool oriented = geometry.detector.orientation != Orientation::bottom_right;
  std::string text = "# Geometry, written by annulus\n";
  text += fmt::format("poni_version: {}\n", oriented ? "2.1" : "2");
  text += fmt::format("Detector: {}\n", geometry.detector.name);
  text += fmt::format("Detector_config: {}\n", config_json_of(geometry.detector));
  text += fmt::format("Distance: {}\n", exact(geometry.distance_m));
  text += fmt::format("Poni1: {}\n", exact(geometry.poni1_m));
  text += fmt::format("Poni2: {}\n", exact(geometry.poni2_m));
  text += fmt::format("Rot1: {}\n", exact(geometry.rot1_rad));
  text += fmt::format("Rot2: {}\n", exact(geometry.rot2_rad));
  text += fmt::format("Rot3: {}\n", exact(geometry.rot3_rad));
  if (geometry.wavelength_m) text += fmt::format("Wavelength: {}\n", exact(*geometry.wavelength_m));
  return text;
}

void write_poni(const Geometry& geometry, const std::filesystem::path& file) {
  const std::string text = poni_text(geometry);
  errno = 0;
  std::ofstream stream(file, std::ios::binary | std::ios::trunc);
  stream << text;
  stream.close();
  if (!stream) {
    throw IoError(fmt::format("{}: cannot be written ({})", file.string(), std::generic_category().message(errno)));
  }
}

std::string poni_json(const Geometry& geometry) {
  Json config = Json::parse(config_json_of(geometry.detector));
  config["orientation"] = static_cast<int>(geometry.detector.orientation);
  Json json = {
      {"poni_version", 2.1},       {"dist", geometry.distance_m},        {"poni1", geometry.poni1_m},
      {"poni2", geometry.poni2_m}, {"rot1", geometry.rot1_rad},          {"rot2", geometry.rot2_rad},
      {"rot3", geometry.rot3_rad}, {"detector", geometry.detector.name}, {"detector_config", std::move(config)}};
  if (geometry.wavelength_m) json["wavelength"] = *geometry.wavelength_m;
  return json.dump();
}

}  // namespace annulus::integrator
