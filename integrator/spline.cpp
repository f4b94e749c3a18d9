#include "integrator/spline.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <functional>
#include <limits>
#include <string>
#include <utility>

#include <fmt/format.h>

#include "base/errors.hpp"
#include "integrator/entries.hpp"

namespace annulus::integrator {
namespace {

using namespace detail;

constexpr std::size_t order = 4;  // cubic: four coefficients have a part at each place

/// The four B-splines that are not 0 at one place, and the first one's index.
struct Basis {
  std::size_t first = 0;
  std::array<double, order> values{};
};

/// The recurrence of de Boor and Cox. `place` is moved to the nearest end of the knots' inner range.
Basis basis_at(std::span<const double> knots, double place) {
  const std::size_t last = knots.size() - order - 1;  // the last interval: [knots[last], knots[last + 1]]
  place = std::clamp(place, knots[order - 1], knots[last + 1]);
  const auto above =
      std::upper_bound(knots.begin() + order, knots.begin() + static_cast<std::ptrdiff_t>(last) + 1, place);
  const auto right = static_cast<std::size_t>(above - knots.begin());  // knots[right - 1] <= place < knots[right]
  Basis basis;
  basis.first = right - order;
  basis.values[0] = 1.0;
  for (std::size_t degree = 1; degree < order; ++degree) {
    const std::array<double, order> lower = basis.values;
    basis.values[0] = 0.0;
    for (std::size_t term = 0; term < degree; ++term) {
      const double upper_knot = knots[right + term];
      const double lower_knot = knots[right + term - degree];
      const double share = lower[term] / (upper_knot - lower_knot);
      basis.values[term] += share * (upper_knot - place);
      basis.values[term + 1] = share * (place - lower_knot);
    }
  }
  return basis;
}

std::vector<Basis> bases_at(std::span<const double> knots, std::span<const double> places) {
  std::vector<Basis> bases;
  bases.reserve(places.size());
  for (const double place : places) bases.push_back(basis_at(knots, place));
  return bases;
}

/// `count` places one apart, from `first` on.
std::vector<double> places_from(double first, std::size_t count) {
  std::vector<double> places(count);
  for (std::size_t index = 0; index < count; ++index) places[index] = first + static_cast<double>(index);
  return places;
}

/// Reads the sections of one spline file.
class Reader {
 public:
  Reader(std::string_view text, std::string_view source) : source_(source) {
    while (!text.empty()) {
      const std::size_t end = std::min(text.find('\n'), text.size());
      const std::string_view line = text.substr(0, end);
      lines_.push_back(line.substr(0, line.find_last_not_of(" \t\r") + 1));
      text.remove_prefix(std::min(end + 1, text.size()));
    }
  }

  /// The `count` numbers below `title`.
  [[nodiscard]] std::vector<double> numbers(std::string_view title, std::size_t count) const {
    const std::size_t line = line_below(title);
    std::vector<double> result;
    add_numbers(title, lines_[line], result);
    if (result.size() < count) fail(title, fmt::format("{} numbers", result.size()), fmt::format("{}", count));
    return result;
  }

  /// The two numbers of knots, the knots along x and y, and the coefficients, up to an empty line.
  [[nodiscard]] BicubicSpline spline(std::string_view title) const {
    std::size_t line = line_below(title);
    const auto [knots_x, knots_y] = counts(title, lines_[line]);
    std::vector<double> values;
    for (++line; line < lines_.size() && !lines_[line].empty(); ++line) add_numbers(title, lines_[line], values);
    const std::size_t expected = knots_x + knots_y + (knots_x - order) * (knots_y - order);
    if (values.size() != expected) {
      fail(title, fmt::format("{} numbers", values.size()),
           fmt::format("{}: {} and {} knots and their coefficients", expected, knots_x, knots_y));
    }
    const auto knots_y_begin = values.begin() + static_cast<std::ptrdiff_t>(knots_x);
    const auto coefficients_begin = knots_y_begin + static_cast<std::ptrdiff_t>(knots_y);
    BicubicSpline spline{
        {values.begin(), knots_y_begin}, {knots_y_begin, coefficients_begin}, {coefficients_begin, values.end()}};
    for (const auto& knots : {std::cref(spline.knots_x), std::cref(spline.knots_y)}) check_knots(title, knots.get());
    return spline;
  }

  [[noreturn]] void fail(std::string_view title, std::string_view found, std::string_view expected) const {
    throw InputError(fmt::format("{}: {}: found {}, expected {}", source_, title, found, expected));
  }

 private:
  /// The index of the line below the one that holds the title alone.
  [[nodiscard]] std::size_t line_below(std::string_view title) const {
    for (std::size_t line = 0; line + 1 < lines_.size(); ++line) {
      if (lower(trimmed(lines_[line])) == lower(title)) return line + 1;
    }
    throw InputError(fmt::format("{}: found no section '{}', expected a spline file of Fit2D", source_, title));
  }

  /// Numbers fill columns of 14 characters, with nothing between them when they are negative.
  void add_numbers(std::string_view title, std::string_view line, std::vector<double>& numbers) const {
    constexpr std::size_t width = 14;
    for (; !line.empty(); line.remove_prefix(std::min(width, line.size()))) {
      std::string_view field = trimmed(line.substr(0, width));
      if (field.starts_with('+')) field.remove_prefix(1);
      double number = 0.0;
      const auto [end, error] = std::from_chars(field.data(), field.data() + field.size(), number);
      if (error != std::errc() || end != field.data() + field.size() || !std::isfinite(number)) {
        fail(title, fmt::format("'{}'", field.substr(0, width)), "numbers in columns of 14 characters");
      }
      numbers.push_back(number);
    }
  }

  [[nodiscard]] std::pair<std::size_t, std::size_t> counts(std::string_view title, std::string_view line) const {
    std::array<std::size_t, 2> result{};
    std::string_view rest = trimmed(line);
    for (std::size_t& count : result) {
      const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), count);
      constexpr std::size_t most_knots = 100'000;  // far beyond any file's, and its square fits
      if (error != std::errc() || count < 2 * order || count > most_knots) {
        fail(title, fmt::format("'{}'", trimmed(line).substr(0, 60)), "two numbers of knots, 8 or more each");
      }
      rest = trimmed(rest.substr(static_cast<std::size_t>(end - rest.data())));
    }
    return {result[0], result[1]};
  }

  /// Knots may coincide, but must not fall, and where the spline ends there must be an interval to end in.
  void check_knots(std::string_view title, std::span<const double> knots) const {
    const std::size_t end = knots.size() - order;
    if (!std::ranges::is_sorted(knots) || !(knots[end] > knots[end - 1])) {
      fail(title,
           fmt::format("knots from {} to {} that fall, or leave no interval at the end", knots[order - 1], knots[end]),
           "knots in ascending order");
    }
  }

  std::string_view source_;
  std::vector<std::string_view> lines_;
};

}  // namespace

std::vector<double> BicubicSpline::on_grid(std::span<const double> x, std::span<const double> y) const {
  const std::size_t stride = knots_y.size() - order;
  const std::vector<Basis> bases_x = bases_at(knots_x, x);
  std::vector<double> result(x.size() * y.size());
  std::vector<double> sums(knots_x.size() - order);  // over y, for each B-spline of x
  for (std::size_t row = 0; row < y.size(); ++row) {
    const Basis basis = basis_at(knots_y, y[row]);
    for (std::size_t term = 0; term < sums.size(); ++term) {
      sums[term] = 0.0;
      for (std::size_t part = 0; part < order; ++part) {
        sums[term] += coefficients[term * stride + basis.first + part] * basis.values[part];
      }
    }
    for (std::size_t column = 0; column < x.size(); ++column) {
      double value = 0.0;
      for (std::size_t part = 0; part < order; ++part) {
        value += sums[bases_x[column].first + part] * bases_x[column].values[part];
      }
      result[row * x.size() + column] = value;
    }
  }
  return result;
}

Shape SplineDistortion::shape() const {
  return {static_cast<std::uint32_t>(y_max - y_min), static_cast<std::uint32_t>(x_max - x_min)};
}

std::vector<float> SplineDistortion::vertices() const {
  const std::vector<double> columns = places_from(0.0, std::size_t{shape().columns} + 1);
  const std::vector<double> rows = places_from(0.0, std::size_t{shape().rows} + 1);
  std::vector<double> x_m = displacement_x.on_grid(columns, rows);
  std::vector<double> y_m = displacement_y.on_grid(columns, rows);
  for (std::size_t row = 0; row < rows.size(); ++row) {
    for (std::size_t column = 0; column < columns.size(); ++column) {
      double& x = x_m[row * columns.size() + column];
      double& y = y_m[row * columns.size() + column];
      x = pixel_x_m * (columns[column] + x);
      y = pixel_y_m * (rows[row] + y);
    }
  }
  return vertices_of_nodes(y_m, x_m, shape());
}

std::vector<std::uint8_t> SplineDistortion::mask() const {
  const std::vector<double> columns = places_from(0.5, shape().columns);
  const std::vector<double> rows = places_from(0.5, shape().rows);
  const std::vector<double> shift_x = displacement_x.on_grid(columns, rows);
  const std::vector<double> shift_y = displacement_y.on_grid(columns, rows);
  std::vector<std::uint8_t> mask(shift_x.size());
  for (std::size_t pixel = 0; pixel < mask.size(); ++pixel) {
    const double x = columns[pixel % columns.size()] + shift_x[pixel];
    const double y = rows[pixel / columns.size()] + shift_y[pixel];
    mask[pixel] = x < x_min || x > x_max || y < y_min || y > y_max ? 1 : 0;
  }
  return mask;
}

SplineDistortion parse_spline(std::string_view text, std::string_view source) {
  const Reader reader(text, source);
  SplineDistortion distortion;
  constexpr std::string_view region_title = "VALID REGION";
  const auto region = reader.numbers(region_title, 4);
  distortion.x_min = region[0];
  distortion.y_min = region[1];
  distortion.x_max = region[2];
  distortion.y_max = region[3];
  const double width = distortion.x_max - distortion.x_min;
  const double height = distortion.y_max - distortion.y_min;
  if (!(width >= 1.0 && height >= 1.0 && width * height <= std::numeric_limits<std::uint32_t>::max())) {
    reader.fail(region_title, fmt::format("{} x {} pixels", width, height), "an image, of less than 2^32 pixels");
  }
  constexpr std::string_view pixel_title = "GRID SPACING, X-PIXEL SIZE, Y-PIXEL SIZE";
  const auto sizes = reader.numbers(pixel_title, 3);
  if (!(sizes[1] > 0.0 && sizes[2] > 0.0)) {
    reader.fail(pixel_title, fmt::format("pixels of {} x {} um", sizes[1], sizes[2]), "positive sizes");
  }
  constexpr double metres_a_micrometre = 1e-6;
  distortion.pixel_x_m = sizes[1] * metres_a_micrometre;
  distortion.pixel_y_m = sizes[2] * metres_a_micrometre;
  distortion.displacement_x = reader.spline("X-DISTORTION");
  distortion.displacement_y = reader.spline("Y-DISTORTION");
  return distortion;
}

SplineDistortion read_spline(const std::filesystem::path& file) {
  return parse_spline(read_text_file(file, "a spline file"), file.string());
}

}  // namespace annulus::integrator
