// What the subcommands share in reading their command lines (on top of Boost.Program_options).
#pragma once

#include <boost/program_options.hpp>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace annulus::driver {

/// Parses arguments (without program and subcommand name) strictly: no abbreviations, negative numbers are values, and
/// an option named in `pairs` takes two values ("--radial-range LO HI" arrives as "LO,HI"), one in `optional_numbers`
/// (name and default) a number or none. Positional arguments go to `positional` ("" = none are allowed). Throws
/// InputError telling what was found.
[[nodiscard]] boost::program_options::variables_map parse_arguments(
    std::vector<std::string> arguments, const boost::program_options::options_description& options,
    const std::string& positional, const std::vector<std::string>& pairs,
    const std::vector<std::pair<std::string, std::string>>& optional_numbers = {});

/// A number. Throws InputError naming `option`.
[[nodiscard]] double parse_number(const std::string& text, std::string_view option);

/// Two numbers out of "LO,HI" in any order. Throws InputError naming `option`.
[[nodiscard]] std::pair<double, double> parse_any_pair(const std::string& text, std::string_view option);

/// Two finite numbers, the lower first, out of "LO,HI". Throws InputError naming `option`.
[[nodiscard]] std::pair<double, double> parse_pair(const std::string& text, std::string_view option);

/// A whole number with an upper bound; Boost would take "-1" for a large unsigned. Throws InputError naming `option`.
[[nodiscard]] std::uint64_t parse_count(const std::string& text, std::string_view option, std::uint64_t lowest,
                                        std::uint64_t highest);

}  // namespace annulus::driver
