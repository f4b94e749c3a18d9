#include "mapping/frame_source.hpp"

#include <algorithm>
#include <cstddef>
#include <string_view>

namespace annulus::mapping {

namespace {

[[nodiscard]] bool is_digit(char c) { return c >= '0' && c <= '9'; }

/// The run of digits at `position`, without leading zeros; moves `position` behind it.
[[nodiscard]] std::string_view take_number(std::string_view text, std::size_t& position) {
  std::size_t end = position;
  while (end < text.size() && is_digit(text[end])) ++end;
  while (position < end && text[position] == '0') ++position;
  const std::string_view digits = text.substr(position, end - position);
  position = end;
  return digits;
}

/// The separator comes before all else, so that a folder's files stay together.
[[nodiscard]] int rank_of(char c) { return c == '/' ? -1 : static_cast<unsigned char>(c); }

/// Negative, 0, positive as strcmp. Numbers of any length are compared as text: without zeros, the longer is larger.
[[nodiscard]] int compare(std::string_view left, std::string_view right) {
  std::size_t l = 0;
  std::size_t r = 0;
  while (l < left.size() && r < right.size()) {
    if (is_digit(left[l]) && is_digit(right[r])) {
      const std::string_view left_number = take_number(left, l);
      const std::string_view right_number = take_number(right, r);
      if (left_number.size() != right_number.size()) return left_number.size() < right_number.size() ? -1 : 1;
      if (const int order = left_number.compare(right_number); order != 0) return order;
    } else {
      if (left[l] != right[r]) return rank_of(left[l]) - rank_of(right[r]);
      ++l;
      ++r;
    }
  }
  return static_cast<int>(l < left.size()) - static_cast<int>(r < right.size());
}

}  // namespace

std::vector<std::filesystem::path> natural_order(std::vector<std::filesystem::path> files) {
  std::stable_sort(files.begin(), files.end(),
                   [](const std::filesystem::path& left, const std::filesystem::path& right) {
                     return compare(left.native(), right.native()) < 0;
                   });
  return files;
}

}  // namespace annulus::mapping
