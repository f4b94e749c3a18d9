#include "integrator/geometry_files.hpp"

#include <algorithm>
#include <initializer_list>

#include <fmt/format.h>

#include "base/errors.hpp"
#include "integrator/entries.hpp"

namespace annulus::integrator {

using namespace detail;

Geometry parse_geometry(std::string_view text, std::string_view source, const GeometryFileOptions& options) {
  constexpr std::string_view expected = "a PONI file, or the parameters of Fit2D or ImageD11";
  const std::string_view plain = plain_text(text, source, expected);
  const bool is_json = trimmed(plain).starts_with('{');
  const auto has_all = [](const Entries& entries, std::initializer_list<std::string_view> keys) {
    return std::ranges::all_of(keys, [&](std::string_view key) { return entries.contains(key); });
  };
  // Two keys each that the others lack: a file with one of them missing is still told what it lacks.
  const Entries pairs = is_json ? entries_of_json(plain, source, expected) : entries_of_lines(plain, ":=");
  if (pairs.contains("directdist") || has_all(pairs, {"centerx", "centery"})) {
    return parse_fit2d(text, source, options);
  }
  if (pairs.contains("distance") || pairs.contains("dist") || pairs.contains("poni1") ||
      pairs.contains("poni_version") || pairs.contains("detector")) {
    return parse_poni(text, source, options.detector_files);
  }
  if (!is_json) {
    if (lower(plain).find("directbeamdist=") != std::string::npos) return parse_fit2d(text, source, options);
    const Entries columns = entries_of_lines(plain, " \t=");
    if (has_all(columns, {"o11", "o22"}) || has_all(columns, {"y_center", "z_center"})) {
      return parse_imaged11(text, source, options);
    }
  }
  throw InputError(fmt::format("{}: found none of the keys of {}", source, expected));
}

Geometry read_geometry(const std::filesystem::path& file, const GeometryFileOptions& options) {
  GeometryFileOptions beside = options;
  beside.detector_files = options.detector_files.beside(file);
  return parse_geometry(read_text_file(file, "a geometry file"), file.string(), beside);
}

}  // namespace annulus::integrator
