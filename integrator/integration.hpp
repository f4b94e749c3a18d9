// Azimuthal integration of a scan's frames: everything that an engine needs, gathered once.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "integrator/corrections.hpp"
#include "integrator/geometry.hpp"
#include "integrator/units.hpp"
#include "kernels/engine.hpp"

namespace annulus::integrator {

/// What the user asks of the integration; all numbers in the user's units.
struct IntegrationSettings {
  std::uint32_t bins = 1000;
  std::string unit = "2th_deg";
  kernels::Splitting splitting = kernels::Splitting::bbox;
  kernels::ErrorModel error_model = kernels::ErrorModel::no;
  std::optional<std::pair<double, double>> radial_range;  ///< in `unit`
  CorrectionSettings corrections;
  std::optional<double> dummy;
  double delta_dummy = 0.0;
};

/// Geometry, settings and images that together define the result of any frame. Rank 0 makes it, all ranks get it.
struct IntegrationPlan {
  Geometry geometry;  ///< its detector has a shape
  IntegrationSettings settings;
  std::vector<std::uint8_t> mask;  ///< [pixels] the user's mask, or else the detector's; nonzero = unused
  std::vector<float> dark;         ///< [pixels] or empty
  std::vector<float> flat;         ///< [pixels] or empty; pixels whose flat is 0 or not finite are masked
};

/// An engine made ready for a plan: matrix built, corrections set.
class Integrator {
 public:
  /// Builds the matrix on the engine's device. Throws InputError when no pixel is left or q lacks a wavelength.
  Integrator(const IntegrationPlan& plan, std::unique_ptr<kernels::Engine> engine);

  [[nodiscard]] std::uint32_t bins() const { return axis_.bins; }
  [[nodiscard]] bool has_sigma() const { return sigma_; }
  /// Bin centres in the plan's unit, [bins].
  [[nodiscard]] std::vector<double> radial() const;
  [[nodiscard]] const kernels::Engine& engine() const { return *engine_; }

  /// As Engine::integrate.
  void integrate(const kernels::FrameBatch& batch, std::span<const double> monitor, std::span<float> intensity,
                 std::span<float> sigma) {
    engine_->integrate(batch, monitor, intensity, sigma);
  }

 private:
  std::unique_ptr<kernels::Engine> engine_;
  kernels::BinAxis axis_;
  double scale_ = 1.0;
  bool sigma_ = false;
};

}  // namespace annulus::integrator
