#include "kernels/openmp/openmp_engine.hpp"

#include <omp.h>

#include <algorithm>
#include <cmath>
#include <exception>
#include <memory>
#include <mutex>
#include <utility>
#include <variant>

#include "kernels/bin_statistics.hpp"
#include "kernels/openmp/counts_product.hpp"
#include "kernels/openmp/matrix_builder.hpp"
#include "kernels/openmp/tile_product.hpp"
#include "kernels/openmp/tiled_matrix.hpp"

namespace annulus::kernels::openmp {
namespace {

/// Parts of the detector that are summed by themselves and then added in order: work for many threads in a small batch.
/// Fixed by the number of bins alone, since the order of summation follows from it; large outputs get fewer, for
/// memory.
constexpr std::size_t segments_for(std::size_t bins) { return bins <= 8192 ? 8 : 1; }

/// Keeps what is thrown inside a parallel loop, which nothing may leave.
class ParallelErrors {
 public:
  template <typename Action>
  void guard(Action&& action) noexcept {
    try {
      action();
    } catch (...) {
      const std::lock_guard lock(mutex_);
      if (!first_) first_ = std::current_exception();
    }
  }
  void rethrow() {
    if (first_) std::rethrow_exception(std::exchange(first_, nullptr));
  }

 private:
  std::mutex mutex_;
  std::exception_ptr first_;
};

/// Which sums a product needs.
struct SumsWanted {
  Moments moments = Moments::signal;
  bool dark = false;
  bool square = false;
  bool variance = false;
};

/// The sums of one group of frames over one segment; owner of what GroupSums points to.
class SegmentSums {
 public:
  void reset(std::size_t cells, const SumsWanted& wanted) {
    signal_.assign(cells, 0.0);
    variance_.assign(wanted.moments == Moments::signal ? 0 : cells, 0.0);
    cross_.assign(wanted.moments == Moments::scatter ? cells : 0, 0.0);
    removed_normalisation_.assign(cells, 0.0);
    removed_dark_.assign(wanted.dark ? cells : 0, 0.0);
    removed_square_.assign(wanted.square ? cells : 0, 0.0);
    removed_variance_.assign(wanted.variance ? cells : 0, 0.0);
    removed_entries_.assign(cells, 0);
  }
  [[nodiscard]] GroupSums view() {
    const auto data = [](std::vector<double>& values) { return values.empty() ? nullptr : values.data(); };
    return {data(signal_),
            data(variance_),
            data(cross_),
            data(removed_normalisation_),
            data(removed_dark_),
            data(removed_square_),
            data(removed_variance_),
            removed_entries_.data()};
  }

 private:
  std::vector<double> signal_, variance_, cross_;
  std::vector<double> removed_normalisation_, removed_dark_, removed_square_, removed_variance_;
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

  BinAxes build_matrix(const MatrixSpec& spec) override {
    BinAxes axes;
    matrix_ = openmp::build_matrix(spec, threads_, axes);
    forget_matrix();
    return axes;
  }

  void set_matrix(CsrMatrix matrix) override {
    matrix_ = TiledMatrix(matrix, threads_);
    forget_matrix();
  }

  [[nodiscard]] CsrMatrix matrix() const override { return matrix_.csr(); }

  void set_corrections(const Corrections& corrections) override {
    expect_sizes(corrections, matrix_.columns());
    normalisation_.assign(corrections.normalisation.begin(), corrections.normalisation.end());
    dark_.assign(corrections.dark.begin(), corrections.dark.end());
    variance_.assign(corrections.variance.begin(), corrections.variance.end());
    error_model_ = corrections.error_model;
    filter_ = corrections.filter;
    convention_ = corrections.convention;
    rules_ = corrections.bad_pixels;
    if (works_by_bin()) {
      if (rows_.rows == 0) rows_ = matrix_.csr();
      return;
    }

    if (works_by_counts() && counts_.tiles() == 0) counts_ = CountsProduct(matrix_, threads_);
    const std::size_t bins = matrix_.bins();
    bin_constants_.assign(bins, {});
    for (std::size_t index = 0; index < matrix_.tiles(); ++index) {
      const TiledMatrix::Tile tile = matrix_.tile(index);
      std::uint32_t entry = 0;
      for (const TileRow& row : tile.rows) {
        BinConstants& bin = bin_constants_[row.bin];
        for (; entry < row.end; ++entry) {
          const std::size_t pixel = index * tile_pixels + tile.pixels[entry];
          const double weight = tile.weights[entry];
          const double share = weight * normalisation_[pixel];
          bin.entries += weight != 0.0 ? 1 : 0;
          bin.normalisation += share;
          bin.square += share * share;
          if (!dark_.empty()) bin.dark += weight * dark_[pixel];
          if (!variance_.empty()) bin.variance += weight * weight * variance_[pixel];
        }
      }
    }
  }

  void integrate(const FrameBatch& batch, std::span<const double> monitor, const Patterns& patterns) override {
    expect_sizes(batch, monitor, patterns, error_model_, matrix_.columns(), matrix_.bins());
    ANNULUS_EXPECT(normalisation_.size() == matrix_.columns());
    if (works_by_bin()) return integrate_by_bin(batch, monitor, patterns);
    if (!works_by_counts() || !FrameLane::can_read(batch.type)) return integrate_by_tile(batch, monitor, patterns);
    std::vector<EncodedFrame> frames(batch.frames);
    for (std::size_t frame = 0; frame < batch.frames; ++frame) {
      frames[frame].bytes = {batch.data + frame * batch.frame_bytes(), batch.frame_bytes()};
    }
    std::vector<DecodeStatus> status(batch.frames);
    integrate_counts({batch.type, batch.pixels, frames}, monitor, patterns, status);
  }

  void collect(std::size_t slot, const Patterns& patterns, std::span<DecodeStatus> status) override {
    const EncodedBatch batch = submitted(slot).batch();
    const std::span<const double> monitor = submitted(slot).monitor;
    ANNULUS_EXPECT(status.size() == batch.frames.size());
    const FrameBatch shape{nullptr, batch.type, batch.frames.size(), batch.pixels};
    expect_sizes(shape, monitor, patterns, error_model_, matrix_.columns(), matrix_.bins());
    std::ranges::fill(status, DecodeStatus::ok);
    if (!works_by_bin() && works_by_counts() && FrameLane::can_read(batch.type)) {
      return integrate_counts(batch, monitor, patterns, status);
    }
    decoded_.resize(shape.frames * shape.frame_bytes());
#pragma omp parallel for num_threads(threads_) schedule(dynamic, 1)
    for (std::size_t frame = 0; frame < shape.frames; ++frame) {
      const std::span<std::byte> out(decoded_.data() + frame * shape.frame_bytes(), shape.frame_bytes());
      status[frame] = decode(batch.frames[frame], size_of(batch.type), out);
      if (status[frame] != DecodeStatus::ok) std::ranges::fill(out, std::byte{0});
    }
    integrate({decoded_.data(), shape.type, shape.frames, shape.pixels}, monitor, patterns);
  }

 private:
  /// What a bin's sums are without pixels that are bad in one frame only.
  struct BinConstants {
    double normalisation = 0.0;
    double dark = 0.0;
    double square = 0.0;
    double variance = 0.0;
    std::uint64_t entries = 0;
  };

  /// Whether pixels are judged within their bin, or summed in pyFAI's order.
  [[nodiscard]] bool works_by_bin() const {
    return !std::holds_alternative<std::monostate>(filter_) ||
           variance_of(error_model_, convention_, false) == Variance::sequential;
  }

  /// Whether frames of integers go through the paired matrix, whose sums are those of counts and their variance. A dark
  /// is taken from those sums: what little is left of them would show the rounding of float32.
  [[nodiscard]] bool works_by_counts() const { return moments() != Moments::scatter && dark_.empty(); }

  /// What was made of the matrix before the present one.
  void forget_matrix() {
    rows_ = {};
    counts_ = {};
  }

  [[nodiscard]] Moments moments() const {
    switch (error_model_) {
      case ErrorModel::poisson:
      case ErrorModel::hybrid: return Moments::poisson;
      case ErrorModel::azimuthal: return Moments::scatter;
      default: return Moments::signal;
    }
  }

  void integrate_counts(const EncodedBatch& batch, std::span<const double> monitor, const Patterns& patterns,
                        std::span<DecodeStatus> status) {
    const std::size_t frames = batch.frames.size();
    const std::size_t groups = (frames + lane_count - 1) / lane_count;
    const std::size_t segments = segments_for(matrix_.bins());
    const SimdPath path = best_path();
    const CountCorrections corrections{
        normalisation_, variance_, moments() == Moments::poisson ? PairMoments::poisson : PairMoments::signal, rules_};
    const auto first_tile = [&](std::size_t segment) { return counts_.tiles() * segment / segments; };
    ParallelErrors errors;

    // A thread takes a group from its first tile to its last, and adds up the segments while they are in its cache,
    // where that leaves no other thread waiting for it at the end. Otherwise segments of a group go to different
    // threads; then somebody has to find out where they begin in each chunk.
    constexpr std::size_t groups_a_thread = 4;
    const bool by_group = threads_ == 1 || groups >= groups_a_thread * static_cast<std::size_t>(threads_);
    count_sums_.resize(by_group ? groups : groups * segments);
    count_scratch_.resize(static_cast<std::size_t>(threads_));
    segment_sums_.resize(static_cast<std::size_t>(threads_));
    std::vector<FrameLane> lanes(by_group ? frames : frames * segments);  // [frames] or [segments, frames]
#pragma omp parallel for num_threads(threads_) schedule(dynamic, 1)
    for (std::size_t frame = 0; frame < frames; ++frame) {
      errors.guard([&] {
        FrameLane lane;
        status[frame] = lane.open(batch.frames[frame], batch.type, batch.pixels, path);
        if (by_group) {
          lanes[frame] = std::move(lane);
          return;
        }
        for (std::size_t segment = 0; segment < segments; ++segment) {
          lanes[segment * frames + frame] = lane;
          const std::size_t parts = pair_tile_pixels / tile_pixels;
          for (std::size_t part = 0; part < (first_tile(segment + 1) - first_tile(segment)) * parts; ++part) {
            if (segment + 1 < segments) lane.skip();
          }
        }
      });
    }
    const auto add_segment = [&](std::size_t group, std::size_t segment, CountSums& sums) {
      const std::size_t first = group * lane_count;
      const std::size_t count = std::min(lane_count, frames - first);
      Scratch& scratch = count_scratch_[static_cast<std::size_t>(omp_get_thread_num())];
      if (!scratch) scratch = std::make_unique<CountsProduct::Scratch>();
      sums.reset(matrix_.bins());
      DecodeStatus found[lane_count];
      std::fill_n(found, lane_count, DecodeStatus::ok);
      counts_.add(std::span(lanes).subspan((by_group ? 0 : segment * frames) + first, count), first_tile(segment),
                  first_tile(segment + 1), matrix_.used(), corrections, path, *scratch, sums, {found, count});
      for (std::size_t lane = 0; lane < count; ++lane) {
        if (found[lane] == DecodeStatus::ok) continue;
#pragma omp critical(annulus_frame_status)
        status[first + lane] = found[lane];
      }
    };
#pragma omp parallel for num_threads(threads_) schedule(dynamic, 1)
    for (std::size_t task = 0; task < (by_group ? groups : groups * segments); ++task) {
      errors.guard([&] {
        CountSums& total = count_sums_[task];
        if (!by_group) return add_segment(task / segments, task % segments, total);
        add_segment(task, 0, total);
        CountSums& sums = segment_sums_[static_cast<std::size_t>(omp_get_thread_num())];
        for (std::size_t segment = 1; segment < segments; ++segment) {
          add_segment(task, segment, sums);
          total.add(sums);
        }
      });
    }
    errors.rethrow();

#pragma omp parallel for num_threads(threads_) schedule(dynamic, 1)
    for (std::size_t group = 0; group < groups; ++group) {
      errors.guard([&] {
        CountSums& total = count_sums_[by_group ? group : group * segments];
        for (std::size_t segment = 1; segment < segments && !by_group; ++segment) {
          total.add(count_sums_[group * segments + segment]);
        }
        const std::size_t first = group * lane_count;
        for (std::size_t frame = first; frame < std::min(frames, first + lane_count); ++frame) {
          normalise(total, frame - first, monitor[frame], patterns, frame * matrix_.bins());
        }
      });
    }
    errors.rethrow();
  }

  void normalise(const CountSums& sums, std::size_t lane, double monitor, const Patterns& patterns,
                 std::size_t first_place) const {
    for (std::size_t bin = 0; bin < matrix_.bins(); ++bin) {
      const BinConstants& constants = bin_constants_[bin];
      const CountSums::Removed* found = sums.removed(bin, lane);
      const CountSums::Removed removed = found != nullptr ? *found : CountSums::Removed{};
      // Counted, since a difference of sums over the same pixels need not be exactly zero.
      const bool empty = removed.entries == constants.entries;
      const double normalisation = empty ? 0.0 : constants.normalisation - removed.normalisation;
      const double variance =
          error_model_ == ErrorModel::variance ? constants.variance - removed.variance : sums.variance(bin, lane);
      write_bin(sums.signal(bin, lane), normalisation, variance, constants.square - removed.square, monitor, patterns,
                first_place + bin);
    }
  }

  void integrate_by_tile(const FrameBatch& batch, std::span<const double> monitor, const Patterns& patterns) {
    const std::size_t bins = matrix_.bins();
    const std::size_t segments = segments_for(bins);
    const std::size_t groups = (batch.frames + max_lanes - 1) / max_lanes;
    const auto frames_of = [&](std::size_t group) { return std::min(max_lanes, batch.frames - group * max_lanes); };
    const SumsWanted wanted{moments(), !dark_.empty(), error_model_ != ErrorModel::no, !variance_.empty()};
    sums_.resize(groups * segments);
    for (std::size_t task = 0; task < sums_.size(); ++task) {
      sums_[task].reset(bins * lanes_for(frames_of(task / segments)), wanted);
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
                monitor[frame], patterns, frame * bins);
    }
  }

  /// Adds the products of tiles [tile, end_tile) for a group of frames.
  void add_segment(const FrameBatch& batch, std::size_t first_frame, std::size_t frames, std::size_t tile,
                   std::size_t end_tile, TileScratch& scratch, const GroupSums& sums) const {
    const std::byte* places[max_lanes];
    const auto part_of = [](const std::vector<float>& values, std::size_t first) {
      return values.empty() ? nullptr : values.data() + first;
    };
    for (; tile < end_tile; ++tile) {
      const std::size_t first_pixel = tile * tile_pixels;
      const std::size_t pixels = std::min(tile_pixels, batch.pixels - first_pixel);
      for (std::size_t lane = 0; lane < frames; ++lane) {
        places[lane] = batch.data + (first_frame + lane) * batch.frame_bytes() + first_pixel * size_of(batch.type);
      }
      multiply_tile(
          batch.type, moments(), matrix_.tile(tile), {places, frames}, lanes_for(frames), pixels,
          matrix_.used().data() + first_pixel, rules_,
          {part_of(normalisation_, first_pixel), part_of(dark_, first_pixel), part_of(variance_, first_pixel)}, scratch,
          sums);
    }
  }

  /// Adds up the segments of one frame in order and divides.
  void normalise(std::span<SegmentSums> segments, std::size_t lane, std::size_t lanes, double monitor,
                 const Patterns& patterns, std::size_t first_place) const {
    for (std::size_t bin = 0; bin < matrix_.bins(); ++bin) {
      const BinConstants& constants = bin_constants_[bin];
      const std::size_t place = bin * lanes + lane;
      double signal = 0.0;
      double squares = 0.0;
      double cross = 0.0;
      double removed_normalisation = 0.0;
      double removed_dark = 0.0;
      double removed_square = 0.0;
      double removed_variance = 0.0;
      std::uint64_t removed_entries = 0;
      for (SegmentSums& segment : segments) {
        const GroupSums sums = segment.view();
        signal += sums.signal[place];
        if (sums.variance != nullptr) squares += sums.variance[place];
        if (sums.cross != nullptr) cross += sums.cross[place];
        // Most bins lose nothing: then the other arrays, far apart in memory, need not be read.
        if (sums.removed_entries[place] == 0) continue;
        removed_entries += sums.removed_entries[place];
        removed_normalisation += sums.removed_normalisation[place];
        if (sums.removed_dark != nullptr) removed_dark += sums.removed_dark[place];
        if (sums.removed_square != nullptr) removed_square += sums.removed_square[place];
        if (sums.removed_variance != nullptr) removed_variance += sums.removed_variance[place];
      }
      // Counted, since a difference of sums over the same pixels need not be exactly zero.
      const bool empty = removed_entries == constants.entries;
      const double normalisation = empty ? 0.0 : constants.normalisation - removed_normalisation;
      const double square = constants.square - removed_square;
      signal -= constants.dark - removed_dark;
      double variance = squares;
      if (error_model_ == ErrorModel::variance) variance = constants.variance - removed_variance;
      if (error_model_ == ErrorModel::azimuthal && normalisation != 0.0) {
        const double mean = signal / normalisation;
        variance = squares - mean * (2.0 * cross - mean * square);
        // What rounding leaves of a difference of sums of 10^4 terms: all values are the same.
        if (variance < 1e-12 * squares) variance = 0.0;
      }
      write_bin(signal, normalisation, variance, square, monitor, patterns, first_place + bin);
    }
  }

  void integrate_by_bin(const FrameBatch& batch, std::span<const double> monitor, const Patterns& patterns) {
    const std::size_t bins = rows_.rows;
    visit_pixel_type(batch.type, [&]<typename Pixel>() {
#pragma omp parallel num_threads(threads_)
      {
        std::vector<BinEntry> entries;
        std::vector<std::uint8_t> flags;
        std::vector<std::uint32_t> order;
#pragma omp for schedule(dynamic, 4)
        for (std::size_t bin = 0; bin < bins; ++bin) {
          for (std::size_t frame = 0; frame < batch.frames; ++frame) {
            gather(batch.frame<Pixel>(frame), bin, entries);
            const BinSums sums = filtered_sums(entries, filter_, error_model_, convention_, order, flags);
            write_bin(sums.signal, sums.normalisation, sums.variance, sums.square, monitor[frame], patterns,
                      frame * bins + bin);
          }
        }
      }
    });
  }

  /// The good pixels of one bin.
  template <typename Pixel>
  void gather(const Pixel* frame, std::size_t bin, std::vector<BinEntry>& entries) const {
    const bool by_counts = error_model_ == ErrorModel::poisson || error_model_ == ErrorModel::hybrid;
    entries.clear();
    for (std::uint64_t entry = rows_.offsets[bin]; entry < rows_.offsets[bin + 1]; ++entry) {
      const std::uint32_t pixel = rows_.pixels[entry];
      if (is_bad(frame[pixel], rules_)) continue;
      const auto value = static_cast<double>(frame[pixel]);
      const double variance = by_counts ? std::max(value, 1.0) : variance_.empty() ? 0.0 : variance_[pixel];
      entries.push_back(
          {rows_.weights[entry], value - (dark_.empty() ? 0.0 : dark_[pixel]), normalisation_[pixel], variance});
    }
  }

  int threads_;
  TiledMatrix matrix_;
  CsrMatrix rows_;  // the same by rows, when the work goes by bin
  std::vector<float> normalisation_;
  std::vector<float> dark_;
  std::vector<float> variance_;
  ErrorModel error_model_ = ErrorModel::no;
  OutlierFilter filter_;
  Convention convention_ = Convention::exact;
  BadPixelRules rules_;
  std::vector<BinConstants> bin_constants_;  // [bins]
  std::vector<SegmentSums> sums_;            // [groups, segments] kept from batch to batch
  std::vector<TileScratch> scratch_;         // [threads]
  using Scratch = std::unique_ptr<CountsProduct::Scratch>;
  CountsProduct counts_;                 // the matrix once more, for frames of integers
  std::vector<CountSums> count_sums_;    // [groups] or [groups, segments], kept from batch to batch
  std::vector<CountSums> segment_sums_;  // [threads]
  std::vector<Scratch> count_scratch_;   // [threads] made by the thread that uses it
  std::vector<std::byte> decoded_;       // frames of a batch that cannot go tile by tile
};

}  // namespace

std::unique_ptr<Engine> make_engine(const DeviceChoice& choice) { return std::make_unique<OpenmpEngine>(choice); }

}  // namespace annulus::kernels::openmp
