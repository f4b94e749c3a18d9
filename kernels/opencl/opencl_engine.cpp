#include "kernels/opencl/opencl_engine.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <limits>
#include <string>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "kernels/bin_statistics.hpp"
#include "kernels/opencl/batch_product.cl.hpp"
#include "kernels/opencl/device_matrix.hpp"
#include "kernels/opencl/quantile.cl.hpp"
#include "kernels/opencl/runtime.hpp"

namespace annulus::kernels::opencl {
namespace {

constexpr ProgramSource batch_product_source{"batch_product.cl", batch_product_cl};
constexpr ProgramSource quantile_source{"quantile.cl", quantile_cl};

// Frames that share one reading of the matrix: the 16 values of 16-bit pixels that one gather brings are one sector (32
// bytes) of a GPU's memory. Batches of up to 4 take the small group and waste less.
constexpr std::uint32_t large_group_frames = 16;
constexpr std::uint32_t small_group_frames = 4;
constexpr std::uint32_t lane_frames = 4;  // frames that a work-item holds; fixed in batch_product.cl

const char* opencl_type(PixelType type) {
  switch (type) {
    case PixelType::u8: return "uchar";
    case PixelType::u16: return "ushort";
    case PixelType::u32: return "uint";
    case PixelType::i8: return "char";
    case PixelType::i16: return "short";
    case PixelType::i32: return "int";
    case PixelType::f32: return "float";
    case PixelType::f64: return "double";
  }
  throw InternalError("pixel type out of range");
}

// The rules of bad_pixels.hpp as defines of batch_product.cl.
std::string rule_options(PixelType type, const BadPixelRules& rules) {
  return visit_pixel_type(type, [&]<typename Pixel>() {
    std::string options;
    if constexpr (std::is_unsigned_v<Pixel>) {
      if (rules.type_maximum) options += fmt::format(" -DTYPE_MAXIMUM={}.0", std::numeric_limits<Pixel>::max());
      options += " -DNEGATIVE=0";
    } else {
      options += rules.negative ? " -DNEGATIVE=1" : " -DNEGATIVE=0";
    }
    options += rules.dummy_on ? " -DDUMMY=1" : " -DDUMMY=0";
    return options;
  });
}

// The numbers of VARIANCE in the kernels.
int variance_define(ErrorModel model, Convention convention, bool clipping) {
  switch (variance_of(model, convention, clipping)) {
    case Variance::scatter: return 3;
    case Variance::sequential: return 4;
    case Variance::given: break;
  }
  return model == ErrorModel::no ? 0 : model == ErrorModel::variance ? 1 : 2;
}

// Room for cycles of clipping, in few sizes, since each is compiled anew.
std::uint32_t cycle_capacity(std::uint32_t cycles) { return std::max<std::uint32_t>(8, std::bit_ceil(cycles)); }

class OpenclEngine final : public Engine {
 public:
  OpenclEngine(DeviceInfo device, std::uint64_t batch_bytes) : runtime_(std::move(device)), batch_bytes_(batch_bytes) {
    if (batch_bytes_ == 0) {
      batch_bytes_ = std::min(runtime_.largest_buffer_bytes(), runtime_.info().memory_bytes / 4);
    }
    // A CPU's core walks a row alone. On a GPU 32 work-items do: with the lanes of frames a group of 128 for a thousand
    // bins, which fills the device, and rows of a hundred entries still give each something to do.
    entry_lanes_ = runtime_.is_cpu() ? 1 : 32;
    // One item sorts a row on a CPU; on a GPU as many as a group may have everywhere.
    sort_items_ = runtime_.is_cpu() ? 1 : 256;
  }

  [[nodiscard]] Backend backend() const override { return Backend::opencl; }
  [[nodiscard]] std::string device_name() const override { return runtime_.info().name; }

  BinAxes build_matrix(const MatrixSpec& spec) override {
    return runtime_.run("building the matrix", [&] {
      const BinAxes axes = opencl::build_matrix(runtime_, spec, matrix_);
      has_corrections_ = false;
      return axes;
    });
  }

  void set_matrix(CsrMatrix matrix) override {
    runtime_.run("copying the matrix to the device", [&] {
      matrix_ = upload(runtime_, matrix);
      has_corrections_ = false;
    });
  }

  [[nodiscard]] CsrMatrix matrix() const override {
    ANNULUS_EXPECT(matrix_.rows > 0);
    return runtime_.run("copying the matrix to the host", [this] { return download(runtime_, matrix_); });
  }

  void set_corrections(const Corrections& corrections) override {
    ANNULUS_EXPECT(matrix_.rows > 0);
    expect_sizes(corrections, matrix_.columns);
    runtime_.run("setting the corrections", [&] {
      has_corrections_ = false;
      error_model_ = corrections.error_model;
      filter_ = corrections.filter;
      convention_ = corrections.convention;
      bad_pixels_ = corrections.bad_pixels;
      const auto uploaded = [&](std::span<const float> values, const char* purpose) {
        return values.empty() ? Buffer() : runtime_.upload(values, purpose);
      };
      normalisation_ = uploaded(corrections.normalisation, "the normalisation");
      dark_ = uploaded(corrections.dark, "the dark");
      variance_ = uploaded(corrections.variance, "the variance");
      key_offsets_ = Buffer();
      if (std::holds_alternative<QuantileRange>(filter_)) set_key_offsets();
      totals_ = runtime_.allocate(4 * sizeof(double) * matrix_.rows, "the bins' sums of corrections");
      // The pixel type plays no part in this kernel.
      runtime_.launch(kernel("sum_corrections", PixelType::u16, small_group_frames, entry_lanes_),
                      cl::NDRange(std::size_t{matrix_.rows} * entry_lanes_), cl::NDRange(entry_lanes_), matrix_.offsets,
                      matrix_.pixels, matrix_.weights, normalisation_, dark_, variance_, totals_);
      runtime_.queue().finish();
      has_corrections_ = true;
    });
  }

  void integrate(const FrameBatch& batch, std::span<const double> monitor, const Patterns& patterns) override {
    const std::size_t rows = matrix_.rows;
    ANNULUS_EXPECT(has_corrections_);
    expect_sizes(batch, monitor, patterns, error_model_, matrix_.columns, rows);
    const std::size_t part_frames = frames_at_a_time(batch);
    runtime_.run("integrating a batch of frames", [&] {
      for (std::size_t first = 0; first < batch.frames; first += part_frames) {
        const std::size_t frames = std::min(part_frames, batch.frames - first);
        const FrameBatch part{batch.data + first * batch.frame_bytes(), batch.type, frames, batch.pixels};
        const auto of_part = [&](std::span<float> values) {
          return values.empty() ? values : values.subspan(first * rows, frames * rows);
        };
        enqueue_part(part, monitor.subspan(first, frames),
                     {of_part(patterns.intensity), of_part(patterns.sem), of_part(patterns.std)});
      }
      runtime_.queue().finish();
    });
  }

 private:
  [[nodiscard]] cl::Kernel kernel(const char* name, PixelType type, std::uint32_t group_frames,
                                  std::uint32_t entry_lanes) {
    const auto* clip = std::get_if<SigmaClip>(&filter_);
    return runtime_.kernel(
        batch_product_source,
        fmt::format("-DPIXEL={} -DGROUP_FRAMES={} -DENTRY_LANES={} -DVARIANCE={} -DCLIP_VARIANCE={} -DCYCLES={}{}",
                    opencl_type(type), group_frames, entry_lanes, variance_define(error_model_, convention_, false),
                    variance_define(error_model_, convention_, true),
                    cycle_capacity(clip != nullptr ? clip->cycles : 0), rule_options(type, bad_pixels_)),
        name);
  }

  [[nodiscard]] cl::Kernel quantile_kernel(const char* name, PixelType type) {
    const bool pyfai = convention_ == Convention::pyfai;
    // pyFAI has no scatter here: its variance stays 0.
    const int variance =
        pyfai && error_model_ == ErrorModel::azimuthal ? 0 : variance_define(error_model_, Convention::exact, false);
    return runtime_.kernel(quantile_source,
                           fmt::format("-DPIXEL={} -DVARIANCE={} -DITEMS={} -DPYFAI={}{}", opencl_type(type), variance,
                                       sort_items_, pyfai ? 1 : 0, rule_options(type, bad_pixels_)),
                           name);
  }

  // Where each row's keys lie: rows are padded to powers of two.
  void set_key_offsets() {
    std::vector<std::uint64_t> offsets(std::size_t{matrix_.rows} + 1);
    runtime_.download(matrix_.offsets, std::span(offsets));
    std::uint64_t keys = 0;
    std::uint64_t first_entry = 0;
    for (std::size_t row = 0; row < matrix_.rows; ++row) {
      const std::uint64_t entries = offsets[row + 1] - first_entry;
      first_entry = std::exchange(offsets[row + 1], 0);
      offsets[row] = keys;
      keys += entries == 0 ? 0 : std::bit_ceil(entries);
    }
    offsets[matrix_.rows] = keys;
    keys_per_frame_ = keys;
    key_offsets_ = runtime_.upload(std::span<const std::uint64_t>(offsets), "the places of the rows' keys");
  }

  [[nodiscard]] std::size_t frames_at_a_time(const FrameBatch& batch) const {
    std::uint64_t frames = batch_bytes_ / batch.frame_bytes();
    if (std::holds_alternative<QuantileRange>(filter_)) {
      frames = std::min(frames, batch_bytes_ / std::max<std::uint64_t>(8 * keys_per_frame_, 1));
      return std::max<std::uint64_t>(frames, 1);
    }
    // Whole groups, so that the interleaved copy is no larger than the raw frames (but for the last 1 to 3).
    if (frames >= large_group_frames) return frames - frames % large_group_frames;
    return std::clamp<std::uint64_t>(frames, 1, small_group_frames);
  }

  // Queues upload, product and download of frames that fit on the device; nothing is ready before the queue is done.
  void enqueue_part(const FrameBatch& part, std::span<const double> monitor, const Patterns& patterns) {
    const std::size_t raw_bytes = part.frames * part.frame_bytes();
    runtime_.grow(raw_, raw_bytes, "the raw frames");
    runtime_.grow(monitor_, monitor.size_bytes(), "the monitor");
    runtime_.grow(intensity_, patterns.intensity.size_bytes(), "the intensities");
    // An array that is not wanted is a null pointer on the device.
    const auto fit = [&](Buffer& buffer, std::span<const float> wanted, const char* purpose) {
      if (wanted.empty()) {
        buffer = Buffer();
      } else {
        runtime_.grow(buffer, wanted.size_bytes(), purpose);
      }
    };
    fit(sem_, patterns.sem, "the errors");
    fit(std_, patterns.std, "the standard deviations");

    cl::CommandQueue& queue = runtime_.queue();
    queue.enqueueWriteBuffer(raw_.memory(), CL_FALSE, 0, raw_bytes, part.data);
    queue.enqueueWriteBuffer(monitor_.memory(), CL_FALSE, 0, monitor.size_bytes(), monitor.data());
    if (const auto* quantiles = std::get_if<QuantileRange>(&filter_)) {
      enqueue_quantiles(part, *quantiles);
    } else {
      enqueue_product(part);
    }
    const auto fetch = [&](const Buffer& buffer, std::span<float> values) {
      if (!values.empty()) queue.enqueueReadBuffer(buffer.memory(), CL_FALSE, 0, values.size_bytes(), values.data());
    };
    fetch(intensity_, patterns.intensity);
    fetch(sem_, patterns.sem);
    fetch(std_, patterns.std);
    queue.flush();
  }

  void enqueue_product(const FrameBatch& part) {
    const std::uint32_t group_frames = part.frames <= small_group_frames ? small_group_frames : large_group_frames;
    const std::size_t groups = (part.frames + group_frames - 1) / group_frames;
    const auto pixels = static_cast<cl_uint>(part.pixels);
    const auto frames = static_cast<cl_uint>(part.frames);
    const cl_uint rows = matrix_.rows;
    runtime_.grow(interleaved_, groups * group_frames * part.frame_bytes(), "the interleaved frames");
    runtime_.launch(kernel("interleave", part.type, group_frames, entry_lanes_),
                    cl::NDRange(runtime_.padded(part.pixels), groups), cl::NDRange(runtime_.plain_group_size(), 1),
                    pixels, frames, raw_, interleaved_);
    const auto* clip = std::get_if<SigmaClip>(&filter_);
    const bool in_order = variance_of(error_model_, convention_, clip != nullptr) == Variance::sequential;
    const std::uint32_t entry_lanes = in_order ? 1 : entry_lanes_;
    const std::size_t work_group = std::size_t{group_frames} / lane_frames * entry_lanes;
    const cl::NDRange global(rows * work_group, groups);
    const cl::NDRange local(work_group, 1);
    if (clip != nullptr || in_order) {
      const cl_double threshold = clip != nullptr ? clip->threshold : 0.0;
      const cl_uint cycles = clip != nullptr ? clip->cycles : 0;
      runtime_.launch(kernel("clip", part.type, group_frames, entry_lanes), global, local, pixels, frames, rows,
                      bad_pixels_.dummy, bad_pixels_.delta_dummy, threshold, cycles, matrix_.offsets, matrix_.pixels,
                      matrix_.weights, normalisation_, dark_, variance_, interleaved_, monitor_, intensity_, sem_,
                      std_);
    } else {
      runtime_.launch(kernel("integrate", part.type, group_frames, entry_lanes), global, local, pixels, frames, rows,
                      bad_pixels_.dummy, bad_pixels_.delta_dummy, matrix_.offsets, matrix_.pixels, matrix_.weights,
                      normalisation_, dark_, variance_, totals_, interleaved_, monitor_, intensity_, sem_, std_);
    }
  }

  void enqueue_quantiles(const FrameBatch& part, const QuantileRange& quantiles) {
    const auto pixels = static_cast<cl_uint>(part.pixels);
    const cl_uint rows = matrix_.rows;
    runtime_.grow(keys_, part.frames * 8 * keys_per_frame_, "the keys to sort");
    const cl::NDRange global(std::size_t{rows} * sort_items_, part.frames);
    const cl::NDRange local(sort_items_, 1);
    runtime_.launch(quantile_kernel("sort_row", part.type), global, local, pixels, rows, bad_pixels_.dummy,
                    bad_pixels_.delta_dummy, matrix_.offsets, matrix_.pixels, normalisation_, dark_, raw_, key_offsets_,
                    keys_);
    runtime_.launch(quantile_kernel("sum_quantiles", part.type), global, local, pixels, rows, quantiles.lower,
                    quantiles.upper, matrix_.offsets, matrix_.pixels, matrix_.weights, normalisation_, dark_, variance_,
                    raw_, key_offsets_, keys_, monitor_, intensity_, sem_, std_);
  }

  // First, so that it outlives the buffers; mutable, because copying the matrix to the host changes nothing to see.
  mutable Runtime runtime_;
  std::uint64_t batch_bytes_;
  std::uint32_t entry_lanes_;
  std::uint32_t sort_items_;
  DeviceMatrix matrix_;
  bool has_corrections_ = false;
  ErrorModel error_model_ = ErrorModel::no;
  OutlierFilter filter_;
  Convention convention_ = Convention::exact;
  BadPixelRules bad_pixels_;
  Buffer normalisation_;  ///< float [pixels]
  Buffer dark_;           ///< float [pixels]; empty = none
  Buffer variance_;       ///< float [pixels]; empty = none
  Buffer totals_;         ///< double4 [rows], see sum_corrections
  Buffer key_offsets_;    ///< ulong [rows + 1], for quantiles
  std::uint64_t keys_per_frame_ = 0;
  // Of the largest batch so far.
  Buffer raw_;          ///< [frames, pixels]
  Buffer interleaved_;  ///< [groups, pixels, frames of a group]
  Buffer keys_;         ///< ulong [frames, keys_per_frame_]
  Buffer monitor_;      ///< double [frames]
  Buffer intensity_;    ///< float [frames, rows]
  Buffer sem_;          ///< float [frames, rows]
  Buffer std_;          ///< float [frames, rows]
};

}  // namespace

std::unique_ptr<Engine> make_engine(const DeviceChoice& choice, std::uint64_t batch_bytes) {
  return std::make_unique<OpenclEngine>(choose_device(list_devices(), choice), batch_bytes);
}

}  // namespace annulus::kernels::opencl
