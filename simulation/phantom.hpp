// The sample: powders in disks, ellipses and rings, and what a beam sees of them.
//
// Coordinates: x and y in mm in the plane of the cross-section, the rotation axis at (0, 0). At rotation angle w the
// beam at translation t runs along the line x cos w + y sin w = t.
#pragma once

#include <cstddef>
#include <vector>

namespace annulus::simulation {

/// An ellipse filled evenly with one powder; a disk has equal axes, a ring is hollow.
struct Shape {
  std::size_t powder = 0;  ///< index of the powder
  double x_mm = 0.0;       ///< centre
  double y_mm = 0.0;
  double semi_axis1_mm = 0.0;  ///< along the direction `angle_rad`
  double semi_axis2_mm = 0.0;  ///< across it
  double angle_rad = 0.0;      ///< from x towards y
  double hollow = 0.0;         ///< axes of the empty inside as a share of the outer ones; 0 = filled
  double density = 1.0;        ///< share of the volume that is powder
};

/// Several shapes; where shapes of one powder overlap, their densities add up.
class Phantom {
 public:
  /// Throws InputError for an axis that is not above zero, a `hollow` outside [0, 1), a negative density or a powder
  /// index >= `powders`.
  Phantom(std::size_t powders, const std::vector<Shape>& shapes);

  [[nodiscard]] std::size_t powders() const { return powders_; }

  /// Radius in mm of a circle about the rotation axis that holds all shapes.
  [[nodiscard]] double radius_mm() const { return radius_mm_; }

  /// Integral of the powder's density along the beam at (rotation, translation), in mm, exact: the chord of an ellipse
  /// with axes a, b at distance t from its centre is 2 a b sqrt(w^2 - t^2) / w^2, w^2 = a^2 cos^2 + b^2 sin^2 of the
  /// angle between its first axis and the direction of translation.
  [[nodiscard]] double path_mm(std::size_t powder, double rotation_rad, double translation_mm) const;

  /// Density of the powder at a point.
  [[nodiscard]] double density(std::size_t powder, double x_mm, double y_mm) const;

  /// Mean density in a cell centred at (x, y), by 8 x 8 points: a cell that an edge cuts is right to some percent.
  [[nodiscard]] double mean_density(std::size_t powder, double x_mm, double y_mm, double width_mm,
                                    double height_mm) const;

  /// The longest path through the powder among 180 rotations x 401 translations: a measure of the phantom that does not
  /// depend on the scan. 0 for a powder that is nowhere.
  [[nodiscard]] double longest_path_mm(std::size_t powder) const;

  /// The highest density of any one shape of the powder.
  [[nodiscard]] double highest_density(std::size_t powder) const;

 private:
  /// A shape with cosine and sine of its angle.
  struct Placed {
    Shape shape;
    double cosine;
    double sine;
  };

  std::size_t powders_;
  std::vector<Placed> shapes_;
  double radius_mm_ = 0.0;
};

/// The sample of the simulated scans, 1 mm across, like a catalyst pellet in cross-section: powder 0 in grains (disks
/// and an ellipse), powder 1 the body (an ellipse), powder 2 a shell and a small ring. No place holds more than its
/// volume.
[[nodiscard]] Phantom pellet_phantom();

}  // namespace annulus::simulation
