#include "mpi_driver/option_parsing.hpp"

#include <algorithm>
#include <boost/lexical_cast/try_lexical_convert.hpp>
#include <charconv>
#include <cmath>
#include <utility>

#include <fmt/format.h>

#include "base/errors.hpp"

namespace annulus::driver {
namespace po = boost::program_options;
namespace {

/// Lets "-3" and "-1e-4" pass as values instead of unknown options.
std::vector<po::option> take_numbers(std::vector<std::string>& arguments) {
  std::vector<po::option> taken;
  double number = 0.0;
  while (!arguments.empty() && boost::conversion::try_lexical_convert(arguments.front(), number)) {
    po::option value;
    value.position_key = static_cast<int>(taken.size());
    value.value.push_back(arguments.front());
    value.original_tokens.push_back(arguments.front());
    taken.push_back(std::move(value));
    arguments.erase(arguments.begin());
  }
  return taken;
}

}  // namespace

po::variables_map parse_arguments(std::vector<std::string> arguments, const po::options_description& options,
                                  const std::string& positional, const std::vector<std::string>& pairs,
                                  const std::vector<std::pair<std::string, std::string>>& optional_numbers) {
  for (std::size_t place = 0; place + 2 < arguments.size(); ++place) {
    if (std::find(pairs.begin(), pairs.end(), arguments[place]) == pairs.end()) continue;
    arguments[place] += "=" + arguments[place + 1] + "," + arguments[place + 2];
    arguments.erase(arguments.begin() + static_cast<std::ptrdiff_t>(place) + 1,
                    arguments.begin() + static_cast<std::ptrdiff_t>(place) + 3);
  }
  // Boost would take whatever follows for the value, a file of frames too.
  for (std::size_t place = 0; place < arguments.size(); ++place) {
    const auto option = std::find_if(optional_numbers.begin(), optional_numbers.end(),
                                     [&](const auto& known) { return known.first == arguments[place]; });
    if (option == optional_numbers.end()) continue;
    double number = 0.0;
    const bool given =
        place + 1 < arguments.size() && boost::conversion::try_lexical_convert(arguments[place + 1], number);
    arguments[place] += "=" + (given ? arguments[place + 1] : option->second);
    if (given) arguments.erase(arguments.begin() + static_cast<std::ptrdiff_t>(place) + 1);
  }
  po::positional_options_description positions;
  if (!positional.empty()) positions.add(positional.c_str(), -1);
  const int style = po::command_line_style::unix_style & ~po::command_line_style::allow_guessing;
  po::variables_map values;
  try {
    po::store(po::command_line_parser(arguments)
                  .options(options)
                  .positional(positions)
                  .style(style)
                  .extra_style_parser(take_numbers)
                  .run(),
              values);
    po::notify(values);
  } catch (const po::too_many_positional_options_error&) {
    throw InputError("an argument that belongs to no option was given, and this command takes none");
  } catch (const po::error& error) {
    throw InputError(error.what());
  }
  return values;
}

double parse_number(const std::string& text, std::string_view option) {
  double number = 0.0;
  if (!boost::conversion::try_lexical_convert(text, number)) {
    throw InputError(fmt::format("{}: found \"{}\", expected a number", option, text));
  }
  return number;
}

std::pair<double, double> parse_any_pair(const std::string& text, std::string_view option) {
  const std::size_t comma = text.find(',');
  double first = 0.0;
  double second = 0.0;
  if (comma == std::string::npos || !boost::conversion::try_lexical_convert(text.substr(0, comma), first) ||
      !boost::conversion::try_lexical_convert(text.substr(comma + 1), second)) {
    throw InputError(fmt::format("{}: found \"{}\", expected two numbers", option, text));
  }
  return {first, second};
}

std::pair<double, double> parse_pair(const std::string& text, std::string_view option) {
  const auto [low, high] = parse_any_pair(text, option);
  if (!(low < high) || !std::isfinite(low) || !std::isfinite(high)) {
    throw InputError(fmt::format("{}: found \"{}\", expected two numbers, the lower first", option, text));
  }
  return {low, high};
}

std::uint64_t parse_count(const std::string& text, std::string_view option, std::uint64_t lowest,
                          std::uint64_t highest) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || value < lowest || value > highest) {
    throw InputError(
        fmt::format("{}: found \"{}\", expected a whole number from {} to {}", option, text, lowest, highest));
  }
  return value;
}

}  // namespace annulus::driver
