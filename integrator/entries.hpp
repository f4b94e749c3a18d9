// The text that geometry files are made of: keys and values, a pair a line or as a JSON object.
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "base/problems.hpp"

namespace annulus::integrator::detail {

/// The last value of each key; keys in lower case. An absent key and the value None mean the same: see value_of().
using Entries = std::map<std::string, std::string, std::less<>>;

[[nodiscard]] std::string lower(std::string_view text);
[[nodiscard]] std::string_view trimmed(std::string_view text);

/// A value as errors show it: quoted, not longer than a line, without control characters.
[[nodiscard]] std::string shown(std::string_view text);

/// Lines of a key and a value with any of `separators` between them; lines that begin with '#' or have no separator say
/// nothing.
[[nodiscard]] Entries entries_of_lines(std::string_view text, std::string_view separators);

/// The pairs of a JSON object; values that are no text are kept as JSON, null as None. Throws InputError when it is no
/// such object, with `expected` ("a PONI file").
[[nodiscard]] Entries entries_of_json(std::string_view text, std::string_view source, std::string_view expected);

/// Absent when there is no such key, or when its value is empty or None, which pyFAI writes for what is not set.
[[nodiscard]] std::optional<std::string_view> value_of(const Entries& entries, std::string_view key);

/// The whole text as one finite number, in C's notation whatever the locale.
[[nodiscard]] std::optional<double> number_of(std::string_view text);

/// The shortest decimal that reads back as the same double.
[[nodiscard]] std::string exact(double number);

/// A whole text file. Throws InputError, with `expected` ("a PONI file"), when it cannot be read, is a folder, larger
/// than any such file or binary.
[[nodiscard]] std::string read_text_file(const std::filesystem::path& file, std::string_view expected);

/// Replaces the file. Throws IoError when it cannot be written.
void write_text_file(std::string_view text, const std::filesystem::path& file);

/// The text without its byte order mark. Throws InputError when it holds binary data.
[[nodiscard]] std::string_view plain_text(std::string_view text, std::string_view source, std::string_view expected);

enum class Sign { any, positive };

/// Reads the numbers of one geometry; what is wrong with them goes to `problems`.
class NumberReader {
 public:
  NumberReader(const Entries& entries, std::string_view source, Problems& problems)
      : entries_(entries), source_(source), problems_(problems) {}

  /// The number under `key` (lower case), named `name` in errors; absent when it is not set or no number.
  [[nodiscard]] std::optional<double> read(std::string_view key, std::string_view name, std::string_view unit,
                                           Sign sign = Sign::any) const;

  /// The same for a number that must be there.
  [[nodiscard]] std::optional<double> require(std::string_view key, std::string_view name, std::string_view unit,
                                              Sign sign = Sign::any) const;

 private:
  const Entries& entries_;
  std::string_view source_;
  Problems& problems_;
};

}  // namespace annulus::integrator::detail
