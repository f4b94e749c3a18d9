#include "integrator/entries.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <fstream>
#include <system_error>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/errors.hpp"

namespace annulus::integrator::detail {

using Json = nlohmann::ordered_json;

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

std::string shown(std::string_view text) {
  constexpr std::size_t longest = 60;
  std::string result = "'";
  for (const char letter : text.substr(0, longest)) {
    result += static_cast<unsigned char>(letter) < 0x20 || letter == 0x7f ? '?' : letter;
  }
  return result + (text.size() > longest ? "...'" : "'");
}

Entries entries_of_lines(std::string_view text, std::string_view separators) {
  Entries entries;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find_first_of("\r\n"), text.size());
    const std::string_view line = trimmed(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
    const std::size_t separator = line.find_first_of(separators);
    if (line.starts_with('#') || separator == std::string_view::npos) continue;
    entries.insert_or_assign(lower(trimmed(line.substr(0, separator))),
                             std::string(trimmed(line.substr(separator + 1))));
  }
  return entries;
}

Entries entries_of_json(std::string_view text, std::string_view source, std::string_view expected) {
  const Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) {
    throw InputError(fmt::format("{}: begins with '{{' but is no valid JSON object; expected {}", source, expected));
  }
  Entries entries;
  for (const auto& [key, value] : json.items()) {
    entries.insert_or_assign(lower(key), value.is_null()     ? std::string("None")
                                         : value.is_string() ? value.get<std::string>()
                                                             : value.dump());
  }
  return entries;
}

std::optional<std::string_view> value_of(const Entries& entries, std::string_view key) {
  const auto found = entries.find(key);
  if (found == entries.end() || found->second.empty() || lower(found->second) == "none") return std::nullopt;
  return found->second;
}

std::optional<double> number_of(std::string_view text) {
  if (text.starts_with('+')) text.remove_prefix(1);
  double number = 0.0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(number)) return std::nullopt;
  return number;
}

std::string exact(double number) {
  std::array<char, 32> text{};
  const auto [end, error] = std::to_chars(text.data(), text.data() + text.size(), number);
  ANNULUS_EXPECT(error == std::errc());
  return {text.data(), end};
}

std::string read_text_file(const std::filesystem::path& file, std::string_view expected) {
  std::error_code error;
  if (std::filesystem::is_directory(file, error)) {
    throw InputError(fmt::format("{}: is a folder, expected {}", file.string(), expected));
  }
  errno = 0;
  std::ifstream stream(file, std::ios::binary);
  if (!stream) {
    throw InputError(fmt::format("{}: cannot be opened ({}), expected {}", file.string(),
                                 std::generic_category().message(errno), expected));
  }
  // Decades of appended calibrations stay far below this; an image given by mistake does not.
  constexpr std::size_t largest_bytes = std::size_t{8} << 20U;
  std::string text(largest_bytes + 1, '\0');
  stream.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (stream.bad()) throw InputError(fmt::format("{}: cannot be read", file.string()));
  text.resize(static_cast<std::size_t>(stream.gcount()));
  if (text.size() > largest_bytes) {
    throw InputError(
        fmt::format("{}: found more than {} MiB, expected {}", file.string(), largest_bytes >> 20U, expected));
  }
  static_cast<void>(plain_text(text, file.string(), expected));
  return text;
}

void write_text_file(std::string_view text, const std::filesystem::path& file) {
  errno = 0;
  std::ofstream stream(file, std::ios::binary | std::ios::trunc);
  stream << text;
  stream.close();
  if (!stream) {
    throw IoError(fmt::format("{}: cannot be written ({})", file.string(), std::generic_category().message(errno)));
  }
}

std::string_view plain_text(std::string_view text, std::string_view source, std::string_view expected) {
  if (text.find('\0') != std::string_view::npos) {
    throw InputError(fmt::format("{}: found binary data, expected {}", source, expected));
  }
  constexpr std::string_view byte_order_mark = "\xef\xbb\xbf";
  if (text.starts_with(byte_order_mark)) text.remove_prefix(byte_order_mark.size());
  return text;
}

std::optional<double> NumberReader::read(std::string_view key, std::string_view name, std::string_view unit,
                                         Sign sign) const {
  const auto text = value_of(entries_, key);
  if (!text) return std::nullopt;
  const auto number = number_of(*text);
  if (number && (sign == Sign::any || *number > 0.0)) return number;
  problems_.add(fmt::format("{}: {}: found {}, expected a {}number in {}", source_, name, shown(*text),
                            sign == Sign::positive ? "positive " : "", unit));
  return std::nullopt;
}

std::optional<double> NumberReader::require(std::string_view key, std::string_view name, std::string_view unit,
                                            Sign sign) const {
  if (!value_of(entries_, key)) {
    problems_.add(fmt::format("{}: {}: found none, expected a {}number in {}", source_, name,
                              sign == Sign::positive ? "positive " : "", unit));
  }
  return read(key, name, unit, sign);
}

}  // namespace annulus::integrator::detail
