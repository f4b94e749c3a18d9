#include "simulation/phantom.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numbers>

#include "base/errors.hpp"

namespace annulus::simulation {
namespace {

/// Chord in mm of the filled ellipse whose axes are `scale` times the shape's.
double chord_mm(const Shape& shape, double scale, double cosine, double sine, double distance_mm) {
  const double along_mm = scale * shape.semi_axis1_mm * cosine;
  const double across_mm = scale * shape.semi_axis2_mm * sine;
  const double half_width2 = along_mm * along_mm + across_mm * across_mm;
  const double inside2 = half_width2 - distance_mm * distance_mm;
  if (inside2 <= 0.0) return 0.0;
  return 2.0 * scale * scale * shape.semi_axis1_mm * shape.semi_axis2_mm * std::sqrt(inside2) / half_width2;
}

}  // namespace

Phantom::Phantom(std::size_t powders, const std::vector<Shape>& shapes) : powders_(powders) {
  for (const Shape& shape : shapes) {
    const bool good = shape.powder < powders_ && shape.semi_axis1_mm > 0.0 && shape.semi_axis2_mm > 0.0 &&
                      shape.hollow >= 0.0 && shape.hollow < 1.0 && shape.density >= 0.0;
    if (!good) {
      throw InputError(
          fmt::format("phantom: a shape of powder {} of {} with axes {} and {} mm, hollow {}, density {}: "
                      "expected axes > 0, 0 <= hollow < 1, density >= 0",
                      shape.powder, powders_, shape.semi_axis1_mm, shape.semi_axis2_mm, shape.hollow, shape.density));
    }
    const double reach_mm = std::hypot(shape.x_mm, shape.y_mm) + std::max(shape.semi_axis1_mm, shape.semi_axis2_mm);
    radius_mm_ = std::max(radius_mm_, reach_mm);
    shapes_.push_back({shape, std::cos(shape.angle_rad), std::sin(shape.angle_rad)});
  }
}

double Phantom::path_mm(std::size_t powder, double rotation_rad, double translation_mm) const {
  const double rotation_cosine = std::cos(rotation_rad);
  const double rotation_sine = std::sin(rotation_rad);
  double path_mm = 0.0;
  for (const auto& [shape, shape_cosine, shape_sine] : shapes_) {
    if (shape.powder != powder) continue;
    const double distance_mm = translation_mm - (shape.x_mm * rotation_cosine + shape.y_mm * rotation_sine);
    const double cosine = rotation_cosine * shape_cosine + rotation_sine * shape_sine;
    const double sine = rotation_sine * shape_cosine - rotation_cosine * shape_sine;
    double chord = chord_mm(shape, 1.0, cosine, sine, distance_mm);
    if (shape.hollow > 0.0) chord -= chord_mm(shape, shape.hollow, cosine, sine, distance_mm);
    path_mm += shape.density * chord;
  }
  return path_mm;
}

double Phantom::density(std::size_t powder, double x_mm, double y_mm) const {
  double density = 0.0;
  for (const auto& [shape, cosine, sine] : shapes_) {
    if (shape.powder != powder) continue;
    const double dx_mm = x_mm - shape.x_mm;
    const double dy_mm = y_mm - shape.y_mm;
    const double along = (dx_mm * cosine + dy_mm * sine) / shape.semi_axis1_mm;
    const double across = (dy_mm * cosine - dx_mm * sine) / shape.semi_axis2_mm;
    const double radius2 = along * along + across * across;
    if (radius2 < 1.0 && radius2 >= shape.hollow * shape.hollow) density += shape.density;
  }
  return density;
}

double Phantom::mean_density(std::size_t powder, double x_mm, double y_mm, double width_mm, double height_mm) const {
  constexpr int points = 8;
  double sum = 0.0;
  for (int row = 0; row < points; ++row) {
    for (int column = 0; column < points; ++column) {
      sum += density(powder, x_mm + width_mm * ((column + 0.5) / points - 0.5),
                     y_mm + height_mm * ((row + 0.5) / points - 0.5));
    }
  }
  return sum / (points * points);
}

double Phantom::longest_path_mm(std::size_t powder) const {
  double longest_mm = 0.0;
  for (int degree = 0; degree < 180; ++degree) {
    for (int step = -200; step <= 200; ++step) {
      longest_mm = std::max(longest_mm, path_mm(powder, degree * std::numbers::pi / 180.0, step * radius_mm_ / 200.0));
    }
  }
  return longest_mm;
}

double Phantom::highest_density(std::size_t powder) const {
  double highest = 0.0;
  for (const auto& [shape, cosine, sine] : shapes_) {
    if (shape.powder == powder) highest = std::max(highest, shape.density);
  }
  return highest;
}

Phantom pellet_phantom() {
  // clang-format off: a table
  return Phantom(
      3, {
             // Grains within the body.
             {.powder = 0, .x_mm = 0.18, .y_mm = 0.10, .semi_axis1_mm = 0.09, .semi_axis2_mm = 0.09, .density = 0.5},
             {.powder = 0, .x_mm = -0.05, .y_mm = -0.20, .semi_axis1_mm = 0.06, .semi_axis2_mm = 0.06, .density = 0.5},
             {.powder = 0, .x_mm = -0.24, .y_mm = -0.02, .semi_axis1_mm = 0.03, .semi_axis2_mm = 0.03, .density = 0.5},
             {.powder = 0,
              .x_mm = 0.10,
              .y_mm = -0.12,
              .semi_axis1_mm = 0.10,
              .semi_axis2_mm = 0.04,
              .angle_rad = 0.6,
              .density = 0.5},
             // The porous body.
             {.powder = 1,
              .x_mm = 0.01,
              .y_mm = -0.01,
              .semi_axis1_mm = 0.41,
              .semi_axis2_mm = 0.34,
              .angle_rad = 0.45,
              .density = 0.5},
             // A shell around it, and a ring inside it.
             {.powder = 2, .semi_axis1_mm = 0.50, .semi_axis2_mm = 0.50, .hollow = 0.88, .density = 0.8},
             {.powder = 2,
              .x_mm = -0.13,
              .y_mm = 0.16,
              .semi_axis1_mm = 0.10,
              .semi_axis2_mm = 0.10,
              .hollow = 0.6,
              .density = 0.4},
         });
  // clang-format on
}

}  // namespace annulus::simulation
