#include "kernels/reference/reference_engine.hpp"

#include <algorithm>
#include <cmath>

namespace annulus::kernels::reference {

std::vector<RadialInterval> pixel_intervals(const PixelGeometry& geometry, RadialSpace space, Splitting splitting) {
  std::vector<RadialInterval> intervals;
  intervals.reserve(geometry.pixels());
  for (std::uint32_t row = 0; row < geometry.rows; ++row) {
    for (std::uint32_t column = 0; column < geometry.columns; ++column) {
      const auto corner = [&](double down, double right) {
        return static_cast<float>(radial_position(geometry, space, row + down, column + right));
      };
      const double centre = radial_position(geometry, space, row + 0.5, column + 0.5);
      intervals.push_back(splitting == Splitting::no
                              ? RadialInterval{centre, centre}
                              : bounding_interval(centre, corner(0, 0), corner(1, 0), corner(1, 1), corner(0, 1)));
    }
  }
  return intervals;
}

BinAxis bin_axis(const MatrixSpec& spec, std::span<const RadialInterval> intervals) {
  RadialExtent extent;
  for (std::size_t pixel = 0; pixel < intervals.size(); ++pixel) {
    if (spec.mask.empty() || spec.mask[pixel] == 0) extent.include(intervals[pixel]);
  }
  return make_bin_axis(spec, extent);
}

CsrMatrix build_matrix(const MatrixSpec& spec, std::span<const RadialInterval> intervals, const BinAxis& axis) {
  struct Entry {
    std::uint32_t pixel;
    float weight;
  };
  std::vector<std::vector<Entry>> rows(axis.bins);
  for (std::size_t pixel = 0; pixel < intervals.size(); ++pixel) {
    if (!spec.mask.empty() && spec.mask[pixel] != 0) continue;
    split_interval(intervals[pixel], axis, axis.width(), [&](std::uint32_t bin, float weight) {
      rows[bin].push_back({static_cast<std::uint32_t>(pixel), weight});
    });
  }
  CsrMatrix matrix;
  matrix.rows = axis.bins;
  matrix.columns = static_cast<std::uint32_t>(intervals.size());
  matrix.offsets.push_back(0);
  for (const std::vector<Entry>& row : rows) {
    for (const Entry& entry : row) {
      matrix.pixels.push_back(entry.pixel);
      matrix.weights.push_back(entry.weight);
    }
    matrix.offsets.push_back(matrix.weights.size());
  }
  return matrix;
}

Sums sum_frame(const CsrMatrix& matrix, const Corrections& corrections, const FrameBatch& batch, std::size_t frame) {
  Sums sums{std::vector<double>(matrix.rows), std::vector<double>(matrix.rows), std::vector<double>(matrix.rows)};
  visit_pixel_type(batch.type, [&]<typename Pixel>() {
    const Pixel* values = batch.frame<Pixel>(frame);
    for (std::uint32_t bin = 0; bin < matrix.rows; ++bin) {
      for (std::uint64_t entry = matrix.offsets[bin]; entry < matrix.offsets[bin + 1]; ++entry) {
        const std::uint32_t pixel = matrix.pixels[entry];
        if (is_bad(values[pixel], corrections.bad_pixels)) continue;
        const double weight = matrix.weights[entry];
        const double value = static_cast<double>(values[pixel]);
        const double dark = corrections.dark.empty() ? 0.0 : corrections.dark[pixel];
        sums.signal[bin] += weight * (value - dark);
        sums.variance[bin] += weight * weight * std::max(value, 1.0);
        sums.normalisation[bin] += weight * corrections.normalisation[pixel];
      }
    }
  });
  return sums;
}

namespace {

class ReferenceEngine final : public Engine {
 public:
  [[nodiscard]] Backend backend() const override { return Backend::reference; }
  [[nodiscard]] std::string device_name() const override { return "1 thread, float64"; }

  BinAxis build_matrix(const MatrixSpec& spec) override {
    const std::vector<RadialInterval> intervals = pixel_intervals(spec.geometry, spec.space, spec.splitting);
    const BinAxis axis = bin_axis(spec, intervals);
    matrix_ = reference::build_matrix(spec, intervals, axis);
    expect_entries(spec, matrix_.entries());
    return axis;
  }

  [[nodiscard]] CsrMatrix matrix() const override { return matrix_; }

  void set_corrections(const Corrections& corrections) override {
    ANNULUS_EXPECT(corrections.normalisation.size() == matrix_.columns);
    ANNULUS_EXPECT(corrections.dark.empty() || corrections.dark.size() == matrix_.columns);
    normalisation_.assign(corrections.normalisation.begin(), corrections.normalisation.end());
    dark_.assign(corrections.dark.begin(), corrections.dark.end());
    corrections_ = corrections;
    corrections_.normalisation = normalisation_;
    corrections_.dark = dark_;
  }

  void integrate(const FrameBatch& batch, std::span<const double> monitor, std::span<float> intensity,
                 std::span<float> sigma) override {
    const std::size_t bins = matrix_.rows;
    ANNULUS_EXPECT(batch.pixels == matrix_.columns && corrections_.normalisation.size() == matrix_.columns);
    ANNULUS_EXPECT(monitor.size() == batch.frames && intensity.size() == batch.frames * bins);
    ANNULUS_EXPECT(sigma.size() == (corrections_.error_model == ErrorModel::no ? 0 : intensity.size()));
    for (std::size_t frame = 0; frame < batch.frames; ++frame) {
      const Sums sums = sum_frame(matrix_, corrections_, batch, frame);
      for (std::size_t bin = 0; bin < bins; ++bin) {
        const double normalisation = monitor[frame] * sums.normalisation[bin];
        const bool empty = normalisation == 0.0;
        intensity[frame * bins + bin] = empty ? 0.0F : static_cast<float>(sums.signal[bin] / normalisation);
        if (sigma.empty()) continue;
        sigma[frame * bins + bin] =
            empty ? 0.0F : static_cast<float>(std::sqrt(sums.variance[bin]) / std::abs(normalisation));
      }
    }
  }

 private:
  CsrMatrix matrix_;
  std::vector<float> normalisation_;
  std::vector<float> dark_;
  Corrections corrections_;
};

}  // namespace

std::unique_ptr<Engine> make_engine(const DeviceChoice&) { return std::make_unique<ReferenceEngine>(); }

}  // namespace annulus::kernels::reference
