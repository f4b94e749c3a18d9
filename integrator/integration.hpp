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
#include "integrator/matrix_store.hpp"
#include "integrator/units.hpp"
#include "kernels/engine.hpp"

namespace annulus::integrator {

/// What the user asks of the integration; all numbers in the user's units.
struct IntegrationSettings {
  std::uint32_t bins = 1000;
  std::uint32_t azimuthal_bins = 0;  ///< 0 = one pattern of all azimuths
  std::string unit = "2th_deg";
  std::string azimuthal_unit = "chi_deg";  ///< of the second axis: any unit
  SamplePose sample;                       ///< for the units that are seen from it
  kernels::Splitting splitting = kernels::Splitting::bbox;
  std::optional<std::pair<double, double>> radial_range;  ///< in `unit`
  /// In `azimuthal_unit`; of an azimuth an upper end below the lower one goes around the cut.
  std::optional<std::pair<double, double>> azimuth_range;
  kernels::AzimuthCut azimuth_cut = kernels::AzimuthCut::at_pi;
  std::optional<bool> negative_radial;  ///< none = as the unit allows
  kernels::Convention convention = kernels::Convention::exact;
  kernels::ErrorModel error_model = kernels::ErrorModel::no;
  kernels::OutlierFilter filter;
  CorrectionSettings corrections;
  double normalisation_factor = 1.0;  ///< divisor of all frames, beside their monitor
  std::optional<double> dummy;        ///< none = as the detector has it
  double delta_dummy = 0.0;
};

/// Geometry, settings and images that together define the result of any frame. Rank 0 makes it, all ranks get it.
struct IntegrationPlan {
  Geometry geometry;  ///< its detector has a shape
  IntegrationSettings settings;
  std::vector<std::uint8_t> mask;  ///< [pixels] the user's mask, or else the detector's; nonzero = unused
  std::vector<float> dark;         ///< [pixels] or empty
  std::vector<float> variance;     ///< [pixels] for the error model `variance`, else empty
  std::vector<float> flat;         ///< [pixels] or empty; pixels whose flat is 0 or not finite are masked
};

/// An engine made ready for a plan: matrix built, corrections set.
class Integrator {
 public:
  /// Takes the matrix from `store`, or else builds it on the engine's device and saves it there; the results are the
  /// same, to the last bit. The reference backend always builds. `store` is needed during this call only. What frames
  /// will come lets a device get ready for them meanwhile. Throws InputError when no pixel is left or q lacks a
  /// wavelength.
  Integrator(const IntegrationPlan& plan, std::unique_ptr<kernels::Engine> engine, MatrixStore* store = nullptr,
             std::span<const kernels::FrameKind> frames = {});

  /// Numbers in one frame's pattern: radial bins times azimuthal ones.
  [[nodiscard]] std::uint32_t rows() const { return axes_.rows(); }
  [[nodiscard]] bool has_errors() const { return errors_; }
  /// Whether the matrix came from the store.
  [[nodiscard]] bool matrix_loaded() const { return matrix_loaded_; }
  /// Bin centres in the plan's unit, [bins].
  [[nodiscard]] std::vector<double> radial() const;
  /// Bin centres in the plan's azimuthal unit, [azimuthal bins]; empty without azimuthal binning.
  [[nodiscard]] std::vector<double> azimuthal() const;
  [[nodiscard]] const kernels::Engine& engine() const { return *engine_; }

  /// As Engine::integrate; `monitor` without the plan's normalisation factor.
  void integrate(const kernels::FrameBatch& batch, std::span<const double> monitor, const kernels::Patterns& patterns);

  /// As those of Engine, for encoded frames; `monitor` without the plan's normalisation factor.
  [[nodiscard]] std::size_t slots() const { return engine_->slots(); }
  [[nodiscard]] std::span<std::byte> staging(std::size_t slot, std::size_t bytes) {
    return engine_->staging(slot, bytes);
  }
  void submit(std::size_t slot, const kernels::EncodedBatch& batch, std::span<const double> monitor,
              kernels::PatternKinds wanted) {
    engine_->submit(slot, batch, divisors(monitor), wanted);
  }
  void collect(std::size_t slot, const kernels::Patterns& patterns, std::span<kernels::DecodeStatus> status) {
    engine_->collect(slot, patterns, status);
  }

 private:
  /// The monitor times the normalisation factor.
  [[nodiscard]] std::span<const double> divisors(std::span<const double> monitor);
  /// The matrix and axes_, from `store` (none: nullptr) or built.
  void take_matrix(const kernels::MatrixSpec& spec, MatrixStore* store);

  std::unique_ptr<kernels::Engine> engine_;
  kernels::BinAxes axes_;
  double scale_ = 1.0;
  double azimuthal_scale_ = 1.0;
  double normalisation_factor_ = 1.0;
  bool errors_ = false;
  bool matrix_loaded_ = false;
  std::vector<double> divisors_;  // [frames] of the last batch
};

}  // namespace annulus::integrator
