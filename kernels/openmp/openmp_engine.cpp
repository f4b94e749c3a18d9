#include "kernels/openmp/openmp_engine.hpp"

#include <omp.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "kernels/openmp/tile_product.hpp"
#include "kernels/openmp/tiled_matrix.hpp"

namespace annulus::kernels::openmp {
namespace {

/// Parts of the detector that are summed by themselves and then added in order: work for many threads in a small batch.
/// Fixed by the number of bins alone, since the order of summation follows from it; large outputs get fewer, for
/// memory.
constexpr std::size_t segments_for(std::size_t bins) { return bins <= 8192 ? 8 : 1; }

/// The sums of one group of frames over one segment; owner of what GroupSums points to.
class SegmentSums {
 public:
  void reset(std::size_t cells, bool with_variance, bool with_dark) {
    signal_.assign(cells, 0.0);
    variance_.assign(with_variance ? cells : 0, 0.0);
    removed_normalisation_.assign(cells, 0.0);
    removed_dark_.assign(with_dark ? cells : 0, 0.0);
    removed_entries_.assign(cells, 0);
  }
  [[nodiscard]] GroupSums view() {
    return {signal_.data(), variance_.empty() ? nullptr : variance_.data(), removed_normalisation_.data(),
            removed_dark_.empty() ? nullptr : removed_dark_.data(), removed_entries_.data()};
  }

 private:
  std::vector<double> signal_, variance_, removed_normalisation_, removed_dark_;
  std::vector<std::uint32_t> removed_entries_;
};

class OpenmpEngine final : public Engine {
 public:
  explicit OpenmpEngine(const DeviceChoice& choice)
      : threads_(choice.threads > 0 ? choice.threads : omp_get_max_threads()),
        scratch_(static_cast<std::size_t>(threads_)) {}

  [[nodiscard]] Backend backend() const override { return Backend::openmp; }
  [[nodiscard]] std::string device_name() const override {
    return std::to_string(threads_) + (threads_ == 1 ? " thread" : " threads");
  }

  BinAxis build_matrix(const MatrixSpec& spec) override {
    BinAxis axis;
    matrix_ = TiledMatrix(openmp::build_matrix(spec, threads_, axis));
    return axis;
  }

  [[nodiscard]] CsrMatrix matrix() const override { return matrix_.csr(); }

  void set_corrections(const Corrections& corrections) override {
    ANNULUS_EXPECT(corrections.normalisation.size() == matrix_.columns());
    ANNULUS_EXPECT(corrections.dark.empty() || corrections.dark.size() == matrix_.columns());
    normalisation_.assign(corrections.normalisation.begin(), corrections.normalisation.end());
    dark_.assign(corrections.dark.begin(), corrections.dark.end());
    error_model_ = corrections.error_model;
    rules_ = corrections.bad_pixels;

    const std::size_t bins = matrix_.bins();
    bin_normalisation_.assign(bins, 0.0);
    bin_dark_.assign(bins, 0.0);
    bin_entries_.assign(bins, 0);
    for (std::size_t index = 0; index < matrix_.tiles(); ++index) {
      const TiledMatrix::Tile tile = matrix_.tile(index);
      std::uint32_t entry = 0;
      for (const TileRow& row : tile.rows) {
        bin_entries_[row.bin] += row.end - entry;
        for (; entry < row.end; ++entry) {
          const std::size_t pixel = index * tile_pixels + tile.pixels[entry];
          const double weight = tile.weights[entry];
          bin_normalisation_[row.bin] += weight * normalisation_[pixel];
          if (!dark_.empty()) bin_dark_[row.bin] += weight * dark_[pixel];
        }
      }
    }
  }

  void integrate(const FrameBatch& batch, std::span<const double> monitor, std::span<float> intensity,
                 std::span<float> sigma) override {
    const std::size_t bins = matrix_.bins();
    const bool with_variance = error_model_ == ErrorModel::poisson;
    ANNULUS_EXPECT(batch.frames > 0 && batch.pixels == matrix_.columns());
    ANNULUS_EXPECT(normalisation_.size() == matrix_.columns() && monitor.size() == batch.frames);
    ANNULUS_EXPECT(intensity.size() == batch.frames * bins && sigma.size() == (with_variance ? intensity.size() : 0));

    const std::size_t segments = segments_for(bins);
    const std::size_t groups = (batch.frames + max_lanes - 1) / max_lanes;
    const auto frames_of = [&](std::size_t group) { return std::min(max_lanes, batch.frames - group * max_lanes); };
    sums_.resize(groups * segments);
    for (std::size_t task = 0; task < sums_.size(); ++task) {
      sums_[task].reset(bins * lanes_for(frames_of(task / segments)), with_variance, !dark_.empty());
    }

#pragma omp parallel for num_threads(threads_) schedule(dynamic, 1)
    for (std::size_t task = 0; task < groups * segments; ++task) {
      const std::size_t group = task / segments;
      const std::size_t segment = task % segments;
      add_segment(batch, group * max_lanes, frames_of(group), matrix_.tiles() * segment / segments,
                  matrix_.tiles() * (segment + 1) / segments, scratch_[static_cast<std::size_t>(omp_get_thread_num())],
                  sums_[task].view());
    }

#pragma omp parallel for num_threads(threads_) schedule(static)
    for (std::size_t frame = 0; frame < batch.frames; ++frame) {
      const std::size_t group = frame / max_lanes;
      normalise(std::span(sums_).subspan(group * segments, segments), frame % max_lanes, lanes_for(frames_of(group)),
                monitor[frame], intensity.data() + frame * bins, sigma.empty() ? nullptr : sigma.data() + frame * bins);
    }
  }

 private:
  /// Adds the products of tiles [tile, end_tile) for a group of frames.
  void add_segment(const FrameBatch& batch, std::size_t first_frame, std::size_t frames, std::size_t tile,
                   std::size_t end_tile, TileScratch& scratch, const GroupSums& sums) const {
    const std::byte* places[max_lanes];
    for (; tile < end_tile; ++tile) {
      const std::size_t first_pixel = tile * tile_pixels;
      const std::size_t pixels = std::min(tile_pixels, batch.pixels - first_pixel);
      for (std::size_t lane = 0; lane < frames; ++lane) {
        places[lane] = batch.data + (first_frame + lane) * batch.frame_bytes() + first_pixel * size_of(batch.type);
      }
      multiply_tile(batch.type, matrix_.tile(tile), {places, frames}, lanes_for(frames), pixels,
                    matrix_.used().data() + first_pixel, rules_,
                    {normalisation_.data() + first_pixel, dark_.empty() ? nullptr : dark_.data() + first_pixel},
                    scratch, sums);
    }
  }

  /// Adds up the segments of one frame in order and divides.
  void normalise(std::span<SegmentSums> segments, std::size_t lane, std::size_t lanes, double monitor, float* intensity,
                 float* sigma) const {
    for (std::size_t bin = 0; bin < matrix_.bins(); ++bin) {
      const std::size_t place = bin * lanes + lane;
      double signal = 0.0;
      double variance = 0.0;
      double removed_normalisation = 0.0;
      double removed_dark = 0.0;
      std::uint64_t removed_entries = 0;
      for (SegmentSums& segment : segments) {
        const GroupSums sums = segment.view();
        signal += sums.signal[place];
        if (sums.variance != nullptr) variance += sums.variance[place];
        removed_normalisation += sums.removed_normalisation[place];
        if (sums.removed_dark != nullptr) removed_dark += sums.removed_dark[place];
        removed_entries += sums.removed_entries[place];
      }
      const double normalisation = monitor * (bin_normalisation_[bin] - removed_normalisation);
      // Counted, since a difference of sums over the same pixels need not be exactly zero.
      const bool empty = removed_entries == bin_entries_[bin] || normalisation == 0.0;
      intensity[bin] = empty ? 0.0F : static_cast<float>((signal - (bin_dark_[bin] - removed_dark)) / normalisation);
      if (sigma == nullptr) continue;
      sigma[bin] = empty ? 0.0F : static_cast<float>(std::sqrt(std::max(variance, 0.0)) / std::abs(normalisation));
    }
  }

  int threads_;
  TiledMatrix matrix_;
  std::vector<float> normalisation_;
  std::vector<float> dark_;
  ErrorModel error_model_ = ErrorModel::no;
  BadPixelRules rules_;
  std::vector<double> bin_normalisation_;   // [bins] sum c w over all pixels
  std::vector<double> bin_dark_;            // [bins] sum c d
  std::vector<std::uint64_t> bin_entries_;  // [bins]
  std::vector<SegmentSums> sums_;           // [groups, segments] kept from batch to batch
  std::vector<TileScratch> scratch_;        // [threads]
};

}  // namespace

std::unique_ptr<Engine> make_engine(const DeviceChoice& choice) { return std::make_unique<OpenmpEngine>(choice); }

}  // namespace annulus::kernels::openmp
