#include "kernels/opencl/opencl_engine.hpp"

#include <fmt/format.h>
#include <omp.h>

#include <algorithm>
#include <bit>
#include <chrono>
#include <deque>
#include <exception>
#include <limits>
#include <mutex>
#include <numeric>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "kernels/bin_statistics.hpp"
#include "kernels/bslz4.hpp"
#include "kernels/opencl/batch_product.cl.hpp"
#include "kernels/opencl/bslz4_decode.cl.hpp"
#include "kernels/opencl/decode_plan.hpp"
#include "kernels/opencl/device_matrix.hpp"
#include "kernels/opencl/device_tiles.hpp"
#include "kernels/opencl/pixel_rules.cl.hpp"
#include "kernels/opencl/quantile.cl.hpp"
#include "kernels/opencl/runtime.hpp"
#include "kernels/opencl/tile_product.cl.hpp"

namespace annulus::kernels::opencl {
namespace {

constexpr ProgramSource batch_product_source{"batch_product.cl", batch_product_cl};
constexpr ProgramSource quantile_source{"quantile.cl", quantile_cl};

// pixel_rules.cl and the kernels that use it.
ProgramSource tile_product_source() {
  static const std::string text = fmt::format("{}{}", pixel_rules_cl, tile_product_cl);
  return {"tile_product.cl", text};
}
ProgramSource decode_source() {
  static const std::string text = fmt::format("{}{}", pixel_rules_cl, bslz4_decode_cl);
  return {"bslz4_decode.cl", text};
}

// Frames that share one reading of the matrix: the 16 values of 16-bit pixels
// that one gather brings are one sector (32 bytes) of a GPU's memory. Batches
// of up to 4 take the small group and waste less.
constexpr std::uint32_t large_group_frames = 16;
constexpr std::uint32_t small_group_frames = 4;
constexpr std::uint32_t lane_frames = 4;  // frames that a work-item holds; fixed in batch_product.cl

std::uint32_t row_group_frames(std::size_t frames) {
  return frames <= small_group_frames ? small_group_frames : large_group_frames;
}

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

// The defines of pixel_rules.cl.
std::string pixel_options(PixelType type, const BadPixelRules& rules) {
  const int kind = visit_pixel_type(type, []<typename Pixel>() {
    return std::is_floating_point_v<Pixel> ? 2 : std::is_signed_v<Pixel> ? 1 : 0;
  });
  return fmt::format("-DPIXEL={} -DPIXEL_BYTES={} -DKIND={}{}", opencl_type(type), size_of(type), kind,
                     rule_options(type, rules));
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

// Work-items that share the segments of a row in tile_product.cl: a row has
// some 45.
constexpr std::uint32_t segment_lanes = 8;

// Frames that share one reading of a tile: as many as fill 32 KiB of local
// memory, which every GPU has. Half of that for batches that would not fill it.
std::uint32_t tile_group_frames(PixelType type, std::size_t frames) {
  return size_of(type) <= 2 && frames > 8 ? 16 : 8;
}

// Frames that a work-item of tile_product.cl holds: what it reads from local memory at once, 16 bytes; half of that
// where a group has few frames, so that there are enough work-items.
std::uint32_t tile_lane_frames(PixelType type, std::uint32_t group_frames) {
  return size_of(type) <= 2 && group_frames > 8 ? 8 : 4;
}

// The matrix in tiles on the device, and the rows' sums of corrections in their
// order.
struct DeviceTiles {
  std::uint32_t tiles = 0;
  std::size_t slices = 0;
  std::uint32_t segments = 0;  ///< 0: the matrix does not suit tiles
  Buffer slice_table;
  Buffer slice_steps;
  Buffer slice_runs;
  Buffer weights;
  Buffer places;
  Buffer slice_segments;
  Buffer row_segments;
  Buffer run_places;
  Buffer totals;  ///< double4 [rows], see row_totals
};

// Frames begin at multiples of this on the device, so that kernels may read and
// write 16 bytes at a time and memory comes in whole lines.
constexpr std::size_t frame_alignment = 64;

// Work-items that decode a block: they run in step on NVIDIA's and Intel's
// devices; AMD's, with 64 in step, idle half. Measured on an H200: 64 are 7 %
// faster on dense frames, 33 % slower on sparse rings.
constexpr std::uint32_t decode_lanes = 32;

// Batches of which one is loaded, one is on the bus, one is computed, and one
// waits to be collected.
constexpr std::size_t batches_on_their_way = 4;

// Where an encoded frame is decoded.
enum class DecodedBy : std::uint8_t {
  device,
  host,        ///< before it goes to the device
  host_later,  ///< when all else is done: its blocks do not lie in its bytes
  nothing,     ///< it holds pixels as they are, or cannot be decoded
};

// Device memory of what depends on the frames' numbers, for the largest batch
// so far.
struct DeviceResults {
  Buffer monitor;    ///< double [frames]
  Buffer intensity;  ///< float [frames, rows]
  Buffer sem;        ///< float [frames, rows]; empty = not wanted
  Buffer std;        ///< float [frames, rows]; empty = not wanted
};

// Decoded frames on the device.
struct DeviceFrames {
  PixelType type = PixelType::u16;
  std::size_t frames = 0;
  std::size_t pixels = 0;
  std::size_t stride = 0;  ///< pixels from frame to frame

  [[nodiscard]] std::size_t stride_bytes() const { return stride * size_of(type); }
  [[nodiscard]] cl_uint runs() const { return static_cast<cl_uint>(stride / run_pixels); }
};

[[nodiscard]] DeviceFrames on_device(PixelType type, std::size_t frames, std::size_t pixels) {
  const std::size_t unit = std::max<std::size_t>(frame_alignment / size_of(type), run_pixels);
  return {type, frames, pixels, (pixels + unit - 1) / unit * unit};
}

class Stopwatch {
 public:
  [[nodiscard]] double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

class OpenclEngine final : public Engine {
 public:
  OpenclEngine(DeviceInfo device, int threads, const EngineOptions& options)
      : Engine(batches_on_their_way),
        runtime_(std::move(device)),
        threads_(threads > 0 ? threads : omp_get_max_threads()),
        batch_bytes_(options.batch_bytes),
        slots_(batches_on_their_way) {
    if (batch_bytes_ == 0) {
      // Decoded frames, the same interleaved, and the encoded ones of each
      // slot, which may be as large.
      batch_bytes_ =
          std::min(runtime_.largest_buffer_bytes(), runtime_.info().memory_bytes / (2 * (2 + batches_on_their_way)));
    }
    by_tiles_ = options.product == Product::by_tiles || (options.product == Product::chosen && !runtime_.is_cpu());
    if (options.decoder == Decoder::device) host_sixteenths_ = 0;
    // A CPU decodes faster by the vector code of its host program.
    if (options.decoder == Decoder::host || (!host_sixteenths_ && runtime_.is_cpu())) host_sixteenths_ = 16;
    // A CPU's core walks a row alone. On a GPU 32 work-items do: with the lanes
    // of frames a group of 128 for a thousand bins, which fills the device, and
    // rows of a hundred entries still give each something to do.
    entry_lanes_ = runtime_.is_cpu() ? 1 : 32;
    // One item sorts a row on a CPU; on a GPU as many as a group may have
    // everywhere.
    sort_items_ = runtime_.is_cpu() ? 1 : 256;
    while (decode_buffer_bytes(largest_block_ + 1024) <= runtime_.local_bytes() && largest_block_ < (1U << 20)) {
      largest_block_ += 1024;
    }
  }

  ~OpenclEngine() override { runtime_.wait_quietly(); }
  OpenclEngine(const OpenclEngine&) = delete;
  OpenclEngine& operator=(const OpenclEngine&) = delete;

  [[nodiscard]] Backend backend() const override { return Backend::opencl; }
  [[nodiscard]] std::string device_name() const override { return runtime_.info().name; }

  void prepare(const Corrections& corrections, std::span<const FrameKind> frames) override {
    has_corrections_ = false;
    take_rules(corrections);
    runtime_.build_ahead(batch_product_source, sum_corrections_options());
    if (sums_by_tiles()) runtime_.build_ahead(tile_product_source(), tile_totals_options());
    for (const FrameKind& kind : frames) {
      if (std::holds_alternative<QuantileRange>(filter_)) {
        runtime_.build_ahead(quantile_source, quantile_options(kind.type));
      } else if (sums_by_tiles() && size_of(kind.type) <= 4) {
        runtime_.build_ahead(tile_product_source(), tile_options(kind.type, tile_group_frames(kind.type, kind.batch)));
      } else {
        runtime_.build_ahead(batch_product_source,
                             product_options(kind.type, row_group_frames(kind.batch), entry_lanes_));
      }
      if (!all_on_host() && size_of(kind.type) <= 4) {
        runtime_.build_ahead(decode_source(), decode_options(kind.type));
      }
    }
  }

  BinAxes build_matrix(const MatrixSpec& spec) override {
    return runtime_.run("building the matrix", [&] {
      const BinAxes axes = opencl::build_matrix(runtime_, spec, matrix_);
      has_corrections_ = false;
      tiles_.reset();
      return axes;
    });
  }

  void set_matrix(CsrMatrix matrix) override {
    runtime_.run("copying the matrix to the device", [&] {
      matrix_ = upload(runtime_, matrix);
      has_corrections_ = false;
      tiles_.reset();
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
      take_rules(corrections);
      const auto uploaded = [&](std::span<const float> values, const char* purpose) {
        return values.empty() ? Buffer() : runtime_.upload(values, purpose);
      };
      normalisation_ = uploaded(corrections.normalisation, "the normalisation");
      dark_ = uploaded(corrections.dark, "the dark");
      variance_ = uploaded(corrections.variance, "the variance");
      key_offsets_ = Buffer();
      if (std::holds_alternative<QuantileRange>(filter_)) set_key_offsets();
      totals_ = runtime_.allocate(4 * sizeof(double) * matrix_.rows, "the bins' sums of corrections");
      runtime_.launch(runtime_.kernel(batch_product_source, sum_corrections_options(), "sum_corrections"),
                      cl::NDRange(std::size_t{matrix_.rows} * entry_lanes_), cl::NDRange(entry_lanes_), matrix_.offsets,
                      matrix_.pixels, matrix_.weights, normalisation_, dark_, variance_, totals_);
      if (sums_by_tiles()) set_tiles();
      runtime_.queue().finish();
      has_corrections_ = true;
    });
  }

  void integrate(const FrameBatch& batch, std::span<const double> monitor, const Patterns& patterns) override {
    const std::size_t rows = matrix_.rows;
    ANNULUS_EXPECT(has_corrections_);
    expect_sizes(batch, monitor, patterns, error_model_, matrix_.columns, rows);
    const std::size_t part_frames = frames_at_a_time(on_device(batch.type, batch.frames, batch.pixels));
    runtime_.run("integrating a batch of frames", [&] {
      for (std::size_t first = 0; first < batch.frames; first += part_frames) {
        const std::size_t frames = std::min(part_frames, batch.frames - first);
        const FrameBatch part{batch.data + first * batch.frame_bytes(), batch.type, frames, batch.pixels};
        const auto of_part = [&](std::span<float> values) {
          return values.empty() ? values : values.subspan(first * rows, frames * rows);
        };
        enqueue_decoded(part, monitor.subspan(first, frames),
                        {of_part(patterns.intensity), of_part(patterns.sem), of_part(patterns.std)});
      }
      runtime_.queue().finish();
    });
  }

  [[nodiscard]] std::vector<std::string> notes() const override { return notes_; }

  [[nodiscard]] std::span<std::byte> staging(std::size_t slot, std::size_t bytes) override {
    ANNULUS_EXPECT(slot < slots());
    Staging& own = runtime_.run("sending a batch of encoded frames", [&]() -> Staging& {
      Staging& taken = take_staging(slots_[slot]);
      if (taken.sent() != nullptr) taken.sent.wait();
      return taken;
    });
    // Compressed sizes vary, and page-locked memory takes its time: an eighth
    // more than asked for serves the scan.
    if (own.memory.bytes().size() < bytes) {
      runtime_.grow_host_memory(own.memory, bytes + bytes / 8, "a batch of encoded frames");
    }
    return own.memory.bytes();
  }

  void submit(std::size_t slot, const EncodedBatch& batch, std::span<const double> monitor,
              PatternKinds wanted) override {
    ANNULUS_EXPECT(has_corrections_);
    ANNULUS_EXPECT(!batch.frames.empty() && batch.pixels == matrix_.columns);
    ANNULUS_EXPECT(error_model_ != ErrorModel::no || !(wanted.sem || wanted.std));
    Engine::submit(slot, batch, monitor, wanted);
    runtime_.run("integrating a batch of encoded frames", [&] { start(slots_[slot], submitted(slot), wanted); });
  }

  void collect(std::size_t slot, const Patterns& patterns, std::span<DecodeStatus> status) override {
    const Submitted& batch = submitted(slot);
    const std::size_t frames = batch.frames.size();
    const std::size_t rows = matrix_.rows;
    Slot& own = slots_[slot];
    ANNULUS_EXPECT(frames > 0 && status.size() == frames && patterns.intensity.size() == frames * rows);
    ANNULUS_EXPECT(patterns.sem.empty() || (own.wanted.sem && patterns.sem.size() == frames * rows));
    ANNULUS_EXPECT(patterns.std.empty() || (own.wanted.std && patterns.std.size() == frames * rows));
    runtime_.run("waiting for a batch of frames", [&] {
      own.done.wait();
      std::size_t place = 0;
      const auto copy_out = [&](bool was_wanted, std::span<float> target) {
        if (!was_wanted) return;
        const auto values = own.results.as<float>(place, frames * rows);
        if (!target.empty()) std::copy(values.begin(), values.end(), target.begin());
        place += values.size_bytes();
      };
      copy_out(true, patterns.intensity);
      copy_out(own.wanted.sem, patterns.sem);
      copy_out(own.wanted.std, patterns.std);
      const auto failed = own.results.as<cl_uint>(place, frames);
      std::copy(own.status.begin(), own.status.end(), status.begin());
      for (std::size_t frame = 0; frame < frames; ++frame) {
        const DecodedBy by = own.decoded_by[frame];
        if (by != DecodedBy::host_later && (by != DecodedBy::device || failed[frame] == 0)) continue;
        const auto of_frame = [&](std::span<float> all) { return all.empty() ? all : all.subspan(frame * rows, rows); };
        status[frame] =
            judge(slot, frame, {of_frame(patterns.intensity), of_frame(patterns.sem), of_frame(patterns.std)});
      }
    });
    give_back_staging(own, {});
  }

 private:
  // What programs depend on, beside the pixel type.
  void take_rules(const Corrections& corrections) {
    error_model_ = corrections.error_model;
    filter_ = corrections.filter;
    convention_ = corrections.convention;
    bad_pixels_ = corrections.bad_pixels;
    has_dark_ = !corrections.dark.empty();
  }

  [[nodiscard]] std::string product_options(PixelType type, std::uint32_t group_frames,
                                            std::uint32_t entry_lanes) const {
    const auto* clip = std::get_if<SigmaClip>(&filter_);
    return fmt::format(
        "-DPIXEL={} -DGROUP_FRAMES={} -DENTRY_LANES={} "
        "-DVARIANCE={} -DCLIP_VARIANCE={} -DCYCLES={}{}",
        opencl_type(type), group_frames, entry_lanes, variance_define(error_model_, convention_, false),
        variance_define(error_model_, convention_, true), cycle_capacity(clip != nullptr ? clip->cycles : 0),
        rule_options(type, bad_pixels_));
  }

  // Neither pixel type nor group play a part in this kernel.
  [[nodiscard]] std::string sum_corrections_options() const {
    return product_options(PixelType::u16, small_group_frames, entry_lanes_);
  }

  [[nodiscard]] cl::Kernel kernel(const char* name, PixelType type, std::uint32_t group_frames,
                                  std::uint32_t entry_lanes) {
    return runtime_.kernel(batch_product_source, product_options(type, group_frames, entry_lanes), name);
  }

  [[nodiscard]] std::string quantile_options(PixelType type) const {
    const bool pyfai = convention_ == Convention::pyfai;
    // pyFAI has no scatter here: its variance stays 0.
    const int variance =
        pyfai && error_model_ == ErrorModel::azimuthal ? 0 : variance_define(error_model_, Convention::exact, false);
    return fmt::format("-DPIXEL={} -DVARIANCE={} -DITEMS={} -DPYFAI={}{}", opencl_type(type), variance, sort_items_,
                       pyfai ? 1 : 0, rule_options(type, bad_pixels_));
  }

  [[nodiscard]] cl::Kernel quantile_kernel(const char* name, PixelType type) {
    return runtime_.kernel(quantile_source, quantile_options(type), name);
  }

  [[nodiscard]] std::string decode_options(PixelType type) const {
    return fmt::format("-DLANES={} -DRUN={} {}", decode_lanes, run_pixels, pixel_options(type, bad_pixels_));
  }

  // Tiles serve where every pixel is seen once and judged by itself.
  [[nodiscard]] bool sums_by_tiles() const {
    return by_tiles_ && std::holds_alternative<std::monostate>(filter_) &&
           variance_of(error_model_, convention_, false) == Variance::given;
  }

  // Cuts the matrix into tiles, where that was not done before, and sums the
  // corrections in their order.
  void set_tiles() {
    if (!tiles_) {
      tiles_.emplace();
      const TiledRows cut = cut_into_tiles(download(runtime_, matrix_));
      if (cut.slices.empty()) return;
      const auto send = [&](const auto& values) {
        return runtime_.upload(std::span(values), "the matrix cut into tiles");
      };
      tiles_->tiles = cut.tiles;
      tiles_->slices = cut.slices.size();
      tiles_->segments = static_cast<std::uint32_t>(cut.segments.size());
      tiles_->slice_table = send(cut.slices);
      tiles_->slice_steps = send(cut.slice_steps);
      tiles_->slice_runs = send(cut.slice_runs);
      tiles_->weights = send(cut.weights);
      tiles_->places = send(cut.places);
      tiles_->slice_segments = send(cut.segments);
      tiles_->row_segments = send(cut.row_segments);
      tiles_->run_places = send(cut.run_places);
      tiles_->totals = runtime_.allocate(4 * sizeof(double) * matrix_.rows, "the bins' sums of corrections");
    }
    if (tiles_->segments == 0) return;
    runtime_.grow(tile_sums_, std::uint64_t{4} * sizeof(double) * tiles_->segments, "the tiles' sums");
    const auto kernel = [&](const char* name) {
      return runtime_.kernel(tile_product_source(), tile_totals_options(), name);
    };
    runtime_.launch(kernel("tile_totals"), cl::NDRange(tiles_->slices * slice_pieces * 4),
                    cl::NDRange(slice_pieces * 4), tiles_->slice_table, tiles_->slice_steps, tiles_->slice_runs,
                    tiles_->weights, tiles_->places, tiles_->slice_segments, normalisation_, dark_, variance_,
                    tile_sums_);
    runtime_.launch(kernel("row_totals"), cl::NDRange(std::size_t{matrix_.rows} * segment_lanes),
                    cl::NDRange(segment_lanes), tiles_->row_segments, tile_sums_, tiles_->totals);
  }

  // Whether frames of this type go through tiles: side by side in interleaved_
  // instead of one behind the other in raw_.
  [[nodiscard]] bool go_by_tiles(PixelType type) const {
    return sums_by_tiles() && tiles_->segments > 0 && size_of(type) <= 4;
  }

  // Sums of counts, all of one sign, can do with float32 in short runs; what a
  // dark leaves of them would show it, and so would sums of values that may be
  // negative.
  [[nodiscard]] bool sums_single(PixelType type) const {
    return !has_dark_ && visit_pixel_type(type, [this]<typename Pixel>() {
      return std::is_integral_v<Pixel> && (std::is_unsigned_v<Pixel> || bad_pixels_.negative);
    });
  }

  [[nodiscard]] std::string tile_options(PixelType type, std::uint32_t group_frames) const {
    return fmt::format(
        "{} -DGROUP_FRAMES={} -DLANE_FRAMES={} -DSINGLE={} "
        "-DVARIANCE={} -DPIECES={} "
        "-DRUN={} -DTILE_RUNS={} -DSTEP={} -DSEGMENT_LANES={}",
        pixel_options(type, bad_pixels_), group_frames, tile_lane_frames(type, group_frames), sums_single(type) ? 1 : 0,
        variance_define(error_model_, convention_, false), slice_pieces, run_pixels, tile_runs, step_entries,
        segment_lanes);
  }

  // Neither pixel type nor group play a part in the kernels of totals.
  [[nodiscard]] std::string tile_totals_options() const { return tile_options(PixelType::u16, large_group_frames); }

  [[nodiscard]] cl::Kernel tile_kernel(const char* name, PixelType type, std::uint32_t group_frames) {
    return runtime_.kernel(tile_product_source(), tile_options(type, group_frames), name);
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

  [[nodiscard]] std::size_t frames_at_a_time(const DeviceFrames& batch) const {
    std::uint64_t frames = batch_bytes_ / batch.stride_bytes();
    if (std::holds_alternative<QuantileRange>(filter_)) {
      frames = std::min(frames, batch_bytes_ / std::max<std::uint64_t>(8 * keys_per_frame_, 1));
      return std::max<std::uint64_t>(frames, 1);
    }
    // Whole groups, so that the interleaved copy is no larger than the raw
    // frames (but for the last 1 to 3).
    if (frames >= large_group_frames) return frames - frames % large_group_frames;
    return std::clamp<std::uint64_t>(frames, 1, small_group_frames);
  }

  // Makes room for the results of `frames` frames. An array that is not wanted
  // is a null pointer on the device.
  void fit(DeviceResults& results, std::size_t frames, PatternKinds wanted) {
    const std::size_t bytes = frames * matrix_.rows * sizeof(float);
    runtime_.grow(results.monitor, frames * sizeof(double), "the monitor");
    runtime_.grow(results.intensity, bytes, "the intensities");
    const auto fit_wanted = [&](Buffer& buffer, bool is_wanted, const char* purpose) {
      if (is_wanted) {
        runtime_.grow(buffer, bytes, purpose);
      } else {
        buffer = Buffer();
      }
    };
    fit_wanted(results.sem, wanted.sem, "the errors");
    fit_wanted(results.std, wanted.std, "the standard deviations");
  }

  // Queues upload, product and download of frames that fit on the device;
  // nothing is ready before the queue is done.
  void enqueue_decoded(const FrameBatch& part, std::span<const double> monitor, const Patterns& patterns) {
    const DeviceFrames frames = on_device(part.type, part.frames, part.pixels);
    runtime_.grow(raw_, frames.frames * frames.stride_bytes(), "the raw frames");
    fit(own_results_, part.frames, {!patterns.sem.empty(), !patterns.std.empty()});
    cl::CommandQueue& queue = runtime_.queue();
    for (std::size_t frame = 0; frame < part.frames; ++frame) {
      queue.enqueueWriteBuffer(raw_.memory(), CL_FALSE, frame * frames.stride_bytes(), part.frame_bytes(),
                               part.data + frame * part.frame_bytes());
    }
    queue.enqueueWriteBuffer(own_results_.monitor.memory(), CL_FALSE, 0, monitor.size_bytes(), monitor.data());
    if (go_by_tiles(frames.type)) {
      fit_tiles(frames);
      enqueue_side_by_side(frames, 0, frames.frames);
    }
    enqueue_sums(frames, own_results_);
    const auto fetch = [&](const Buffer& buffer, std::span<float> values) {
      if (!values.empty()) queue.enqueueReadBuffer(buffer.memory(), CL_FALSE, 0, values.size_bytes(), values.data());
    };
    fetch(own_results_.intensity, patterns.intensity);
    fetch(own_results_.sem, patterns.sem);
    fetch(own_results_.std, patterns.std);
    queue.flush();
  }

  // The results of the frames in raw_, or in interleaved_ where they go by
  // tiles.
  void enqueue_sums(const DeviceFrames& frames, const DeviceResults& results) {
    if (const auto* quantiles = std::get_if<QuantileRange>(&filter_)) {
      enqueue_quantiles(frames, *quantiles, results);
    } else if (go_by_tiles(frames.type)) {
      enqueue_tiles(frames, results);
    } else {
      enqueue_product(frames, results);
    }
  }

  void enqueue_product(const DeviceFrames& part, const DeviceResults& results) {
    const std::uint32_t group_frames = row_group_frames(part.frames);
    const std::size_t groups = (part.frames + group_frames - 1) / group_frames;
    const auto pixels = static_cast<cl_uint>(part.pixels);
    const auto stride = static_cast<cl_uint>(part.stride);
    const auto frames = static_cast<cl_uint>(part.frames);
    const cl_uint rows = matrix_.rows;
    runtime_.grow(interleaved_, groups * group_frames * part.pixels * size_of(part.type), "the interleaved frames");
    runtime_.launch(kernel("interleave", part.type, group_frames, entry_lanes_),
                    cl::NDRange(runtime_.padded(part.pixels), groups), cl::NDRange(runtime_.plain_group_size(), 1),
                    pixels, stride, frames, raw_, interleaved_);
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
                      matrix_.weights, normalisation_, dark_, variance_, interleaved_, results.monitor,
                      results.intensity, results.sem, results.std);
    } else {
      runtime_.launch(kernel("integrate", part.type, group_frames, entry_lanes), global, local, pixels, frames, rows,
                      bad_pixels_.dummy, bad_pixels_.delta_dummy, matrix_.offsets, matrix_.pixels, matrix_.weights,
                      normalisation_, dark_, variance_, totals_, interleaved_, results.monitor, results.intensity,
                      results.sem, results.std);
    }
  }

  [[nodiscard]] static std::uint32_t groups_of(const DeviceFrames& part) {
    const std::size_t group_frames = tile_group_frames(part.type, part.frames);
    return static_cast<std::uint32_t>((part.frames + group_frames - 1) / group_frames);
  }

  // Makes room for frames that go by tiles, of which none has a bad pixel yet.
  void fit_tiles(const DeviceFrames& part) {
    const std::uint64_t groups = groups_of(part);
    const std::uint64_t places = groups * tile_group_frames(part.type, part.frames);
    runtime_.grow(interleaved_, places * part.stride_bytes(), "the frames side by side");
    runtime_.grow(bad_frames_, groups * tiles_->tiles * sizeof(cl_uint), "the tiles' frames with bad pixels");
    runtime_.queue().enqueueFillBuffer(bad_frames_.memory(), cl_uint{0}, 0, groups * tiles_->tiles * sizeof(cl_uint));
  }

  // Queues what brings frames [first, first + count) of raw_ side by side.
  void enqueue_side_by_side(const DeviceFrames& part, std::size_t first, std::size_t count) {
    const std::size_t vectors = part.stride_bytes() / 16;
    runtime_.launch(tile_kernel("side_by_side", part.type, tile_group_frames(part.type, part.frames)),
                    cl::NDRange(runtime_.padded(vectors), count), cl::NDRange(runtime_.plain_group_size(), 1),
                    static_cast<cl_uint>(first), static_cast<cl_uint>(part.stride), tiles_->tiles, bad_pixels_.dummy,
                    bad_pixels_.delta_dummy, tiles_->run_places, raw_, interleaved_, bad_frames_);
  }

  void enqueue_tiles(const DeviceFrames& part, const DeviceResults& results) {
    const std::uint32_t group_frames = tile_group_frames(part.type, part.frames);
    const cl_uint groups = groups_of(part);
    const auto frames = static_cast<cl_uint>(part.frames);
    const cl_uint rows = matrix_.rows;
    const std::uint64_t sums = std::uint64_t{groups} * tiles_->segments;
    runtime_.grow(tile_sums_, 2 * sums * group_frames * sizeof(double), "the tiles' sums");
    runtime_.grow(removed_sums_, 3 * sums * group_frames * sizeof(double), "the tiles' sums of bad pixels");
    runtime_.grow(has_removed_, sums * sizeof(cl_uint), "the segments' frames with bad pixels");
    const std::size_t items = slice_pieces * group_frames / tile_lane_frames(part.type, group_frames);
    runtime_.launch(tile_kernel("tile_sums", part.type, group_frames), cl::NDRange(tiles_->slices * groups * items),
                    cl::NDRange(items), part.runs(), groups, tiles_->tiles, tiles_->segments, bad_pixels_.dummy,
                    bad_pixels_.delta_dummy, tiles_->slice_table, tiles_->slice_steps, tiles_->slice_runs,
                    tiles_->weights, tiles_->places, tiles_->slice_segments, normalisation_, dark_, variance_,
                    interleaved_, bad_frames_, tile_sums_, removed_sums_, has_removed_);
    const std::size_t row_items = std::size_t{segment_lanes} * group_frames;
    runtime_.launch(tile_kernel("row_results", part.type, group_frames), cl::NDRange(rows * row_items, groups),
                    cl::NDRange(row_items, 1), frames, rows, tiles_->segments, tiles_->row_segments, tiles_->totals,
                    tile_sums_, removed_sums_, has_removed_, results.monitor, results.intensity, results.sem,
                    results.std);
  }

  void enqueue_quantiles(const DeviceFrames& part, const QuantileRange& quantiles, const DeviceResults& results) {
    const auto stride = static_cast<cl_uint>(part.stride);
    const cl_uint rows = matrix_.rows;
    runtime_.grow(keys_, part.frames * 8 * keys_per_frame_, "the keys to sort");
    const cl::NDRange global(std::size_t{rows} * sort_items_, part.frames);
    const cl::NDRange local(sort_items_, 1);
    runtime_.launch(quantile_kernel("sort_row", part.type), global, local, stride, rows, bad_pixels_.dummy,
                    bad_pixels_.delta_dummy, matrix_.offsets, matrix_.pixels, normalisation_, dark_, raw_, key_offsets_,
                    keys_);
    runtime_.launch(quantile_kernel("sum_quantiles", part.type), global, local, stride, rows, quantiles.lower,
                    quantiles.upper, matrix_.offsets, matrix_.pixels, matrix_.weights, normalisation_, dark_, variance_,
                    raw_, key_offsets_, keys_, results.monitor, results.intensity, results.sem, results.std);
  }

  // Memory for whoever loads encoded frames: mostly two, not one a slot, since
  // it is free again when its frames are on the device. The fewer bytes are
  // written and read in turn, the more of them stay in the last cache.
  struct Staging {
    HostMemory memory;
    cl::Event sent;  ///< what was loaded last is on the device; empty = nothing is on its way
  };

  // A batch on its way. Its memory lives as long as the engine and holds the
  // largest batch so far.
  struct Slot {
    Staging* staging = nullptr;         ///< from staging() until the frames are on their way
    HostMemory decoded;                 ///< frames that the host decoded, one behind the other
    HostMemory tables;                  ///< of a part: DeviceFrame [frames], monitor double
                                        ///< [frames], block_starts uint
    HostMemory results;                 ///< of the batch: intensity, sem and std as wanted,
                                        ///< float [frames, rows]; failed uint [frames]
    Buffer encoded;                     ///< bytes of frames, whoever decodes them
    std::vector<std::uint64_t> places;  ///< [frames] where each begins in `encoded`; empty for a batch in parts
    Buffer frame_table;                 ///< DeviceFrame [frames]
    Buffer block_starts;
    Buffer failed;  ///< uint [frames]
    DeviceResults device;
    PatternKinds wanted;
    std::vector<DecodedBy> decoded_by;  ///< [frames]
    std::vector<DecodeStatus> status;   ///< [frames] ok where the device has yet to say
    cl::Event done;
  };

  // Sends a batch on its way. One that does not fit goes in parts, each waited
  // for.
  void start(Slot& slot, const Submitted& batch, PatternKinds wanted) {
    const std::size_t frames = batch.frames.size();
    slot.wanted = wanted;
    slot.decoded_by.assign(frames, DecodedBy::nothing);
    slot.status.assign(frames, DecodeStatus::ok);
    runtime_.grow_host_memory(slot.results, frames * (pattern_bytes(wanted) + sizeof(cl_uint)), "a batch's patterns");
    slot.places.clear();
    const std::size_t part_frames = frames_at_a_time(on_device(batch.type, frames, batch.pixels));
    for (std::size_t first = 0; first < frames; first += part_frames) {
      const cl::Event sent = enqueue_part(slot, batch, first, std::min(part_frames, frames - first));
      if (first + part_frames < frames) slot.done.wait();
      if (part_frames >= frames) give_back_staging(slot, sent);
    }
  }

  // Memory for a slot's next batch: what was used last, of that whose frames are
  // on the device, since the caches know it best; else what will be free first.
  [[nodiscard]] Staging& take_staging(Slot& slot) {
    const std::lock_guard lock(staging_mutex_);
    if (slot.staging != nullptr) return *slot.staging;
    if (free_staging_.empty()) {
      slot.staging = &all_staging_.emplace_back();
      return *slot.staging;
    }
    const auto is_sent = [](const Staging* staging) {
      return staging->sent() == nullptr || staging->sent.getInfo<CL_EVENT_COMMAND_EXECUTION_STATUS>() == CL_COMPLETE;
    };
    const auto latest = std::find_if(free_staging_.rbegin(), free_staging_.rend(), is_sent);
    const auto chosen = latest == free_staging_.rend() ? free_staging_.begin() : std::prev(latest.base());
    slot.staging = *chosen;
    free_staging_.erase(chosen);
    return *slot.staging;
  }

  // A slot needs its memory no more once `sent` is reached.
  void give_back_staging(Slot& slot, const cl::Event& sent) {
    const std::lock_guard lock(staging_mutex_);
    if (slot.staging == nullptr) return;
    slot.staging->sent = sent;
    free_staging_.push_back(std::exchange(slot.staging, nullptr));
  }

  // The patterns of a frame, as they lie in a slot's results.
  [[nodiscard]] std::size_t pattern_bytes(PatternKinds wanted) const {
    return (1 + (wanted.sem ? 1 : 0) + (wanted.std ? 1 : 0)) * matrix_.rows * sizeof(float);
  }

  // Frames [first, first + count) of a batch: decoded where it is best, to the
  // device, multiplied, and back. With `measure` every stage is waited for and
  // timed. Returns what is reached when the host's bytes are no more needed.
  cl::Event enqueue_part(Slot& slot, const Submitted& batch, std::size_t first, std::size_t count) {
    const auto frames = std::span(batch.frames).subspan(first, count);
    const std::size_t frame_bytes = batch.batch().frame_bytes();
    const DeviceFrames decoded = on_device(batch.type, count, batch.pixels);
    DecodePlan plan = plan_decoding(frames, batch.pixels, size_of(batch.type), largest_block_);
    const bool measure = is_to_be_measured(plan);
    StageTimes times;
    if (measure) {
      times.host_decode = time_host_decoding(slot, frames, size_of(batch.type), frame_bytes);
      runtime_.finish();
    }
    auto sources = decode_on_host(slot, batch, first, frames, plan);
    runtime_.grow(slot.failed, count * sizeof(cl_uint), "the decoder's verdicts");
    fit(slot.device, count, slot.wanted);

    const Stopwatch upload;
    std::vector<std::uint64_t> places = enqueue_uploads(slot, sources);
    cl::Event sent;
    runtime_.upload_queue().enqueueMarkerWithWaitList(nullptr, &sent);
    runtime_.upload_queue().flush();
    if (measure) {
      runtime_.finish();
      times.upload_encoded = upload.seconds();
      const std::size_t encoded_bytes = places.back() + sources.back().size();
      times.upload_decoded = times.upload_encoded * static_cast<double>(count * frame_bytes) /
                             static_cast<double>(std::max<std::size_t>(encoded_bytes, 1));
    }
    // While the frames are on the bus.
    find_blocks(frames, plan);
    for (std::size_t frame = 0; frame < count; ++frame) {
      if (slot.decoded_by[first + frame] != DecodedBy::device || plan.frames[frame].blocks > 0) continue;
      slot.decoded_by[first + frame] = DecodedBy::host_later;
      sources[frame] = {};
    }
    enqueue_tables(slot, std::span(batch.monitor).subspan(first, count), places, plan);
    wait_for(runtime_.upload_queue(), runtime_.queue());
    if (measure) runtime_.finish();
    const Stopwatch decoding;
    enqueue_decoding(slot, decoded, frame_bytes, sources, places, plan);
    if (measure) {
      runtime_.finish();
      times.device_decode = decoding.seconds();
    }
    const Stopwatch product;
    enqueue_sums(decoded, slot.device);
    if (measure) {
      runtime_.finish();
      times.product = product.seconds();
    }
    wait_for(runtime_.queue(), runtime_.download_queue());
    enqueue_downloads(slot, batch.frames.size(), first, count);
    if (measure) share_decoding(times, count);
    if (count == batch.frames.size()) slot.places = std::move(places);
    return sent;
  }

  // Holds `later` until `earlier` has done what it was given so far.
  static void wait_for(cl::CommandQueue& earlier, cl::CommandQueue& later) {
    cl::Event reached;
    earlier.enqueueMarkerWithWaitList(nullptr, &reached);
    earlier.flush();
    const std::vector<cl::Event> events{reached};
    later.enqueueBarrierWithWaitList(&events);
  }

  // Decodes what the device shall not or cannot decode. Returns the bytes that
  // go to the device for each frame: encoded ones, or decoded ones; none where
  // a frame cannot be decoded.
  [[nodiscard]] std::vector<std::span<const std::byte>> decode_on_host(Slot& slot, const Submitted& batch,
                                                                       std::size_t first,
                                                                       std::span<const EncodedFrame> frames,
                                                                       DecodePlan& plan) {
    const std::size_t frame_bytes = batch.batch().frame_bytes();
    std::vector<std::span<const std::byte>> sources(frames.size());
    std::vector<std::size_t> on_host;
    std::vector<bool> cannot;  // [on_host]
    for (std::size_t frame = 0; frame < frames.size(); ++frame) {
      sources[frame] = frames[frame].bytes;
      if (frames[frame].encoding == Encoding::raw && frames[frame].bytes.size() == frame_bytes) continue;
      if (plan.frames[frame].blocks > 0 && !host_decodes(frame, host_sixteenths_.value_or(0))) {
        slot.decoded_by[first + frame] = DecodedBy::device;
        continue;
      }
      cannot.push_back(plan.frames[frame].blocks == 0 && !all_on_host());
      plan.frames[frame].blocks = 0;
      slot.decoded_by[first + frame] = DecodedBy::host;
      on_host.push_back(frame);
    }
    if (on_host.empty()) return sources;
    runtime_.grow_host_memory(slot.decoded, on_host.size() * frame_bytes, "frames decoded on the host");
    decode_frames(frames, on_host, size_of(batch.type), slot.decoded.bytes(), frame_bytes,
                  std::span(slot.status).subspan(first, frames.size()));
    for (std::size_t place = 0; place < on_host.size(); ++place) {
      const bool ok = slot.status[first + on_host[place]] == DecodeStatus::ok;
      sources[on_host[place]] =
          ok ? slot.decoded.bytes().subspan(place * frame_bytes, frame_bytes) : std::span<const std::byte>();
      if (ok && cannot[place] && !told_of_host_) {
        told_of_host_ = true;
        notes_.push_back(
            fmt::format("{}: frames of a kind that its decoder does not take "
                        "are decoded on the host (it takes bslz4 of 1, 2 or 4 "
                        "bytes a pixel in blocks of {} to {} bytes)",
                        device_name(), smallest_device_block, largest_block_));
      }
    }
    return sources;
  }

  // Decodes `chosen` frames with all host threads, one behind the other into
  // `out`.
  void decode_frames(std::span<const EncodedFrame> frames, std::span<const std::size_t> chosen,
                     std::size_t element_size, std::span<std::byte> out, std::size_t frame_bytes,
                     std::span<DecodeStatus> status) const {
    std::exception_ptr failure;
#pragma omp parallel for schedule(dynamic) num_threads(threads_)
    for (std::size_t place = 0; place < chosen.size(); ++place) {
      try {
        status[chosen[place]] =
            decode(frames[chosen[place]], element_size, out.subspan(place * frame_bytes, frame_bytes));
      } catch (...) {
#pragma omp critical
        failure = std::current_exception();
      }
    }
    if (failure) std::rethrow_exception(failure);
  }

  // Queues the copies of the frames' bytes to the device. Returns where each
  // begins there.
  [[nodiscard]] std::vector<std::uint64_t> enqueue_uploads(Slot& slot,
                                                           std::span<const std::span<const std::byte>> sources) {
    // Frames that lie close together in memory of ours go as one copy, gaps and
    // all.
    struct Run {
      std::span<const std::byte> bytes;
      std::uint64_t place = 0;
    };
    constexpr std::size_t largest_gap = 4096;
    const auto is_ours = [&](std::span<const std::byte> bytes) {
      const auto staging = slot.staging != nullptr ? slot.staging->memory.bytes() : std::span<std::byte>();
      return !staging.empty() && bytes.data() >= staging.data() &&
             bytes.data() + bytes.size() <= staging.data() + staging.size();
    };
    std::vector<Run> runs;
    std::vector<std::uint64_t> places;
    std::uint64_t end = 0;
    for (const std::span<const std::byte> source : sources) {
      if (!runs.empty() && !source.empty()) {
        Run& last = runs.back();
        const std::byte* const last_end = last.bytes.data() + last.bytes.size();
        const bool adjacent = source.data() == last_end;
        const bool close = is_ours(last.bytes) && is_ours(source) && source.data() >= last_end &&
                           source.data() - last_end <= static_cast<std::ptrdiff_t>(largest_gap);
        if (adjacent || close) {
          places.push_back(last.place + static_cast<std::size_t>(source.data() - last.bytes.data()));
          last.bytes = {last.bytes.data(), source.data() + source.size()};
          end = last.place + last.bytes.size();
          continue;
        }
      }
      places.push_back(end);
      if (!source.empty()) runs.push_back({source, end});
      end += source.size();
    }
    runtime_.grow(slot.encoded, end + 16,
                  "the encoded frames");  // the decoder reads whole vectors
    for (const Run& run : runs) {
      runtime_.upload_queue().enqueueWriteBuffer(slot.encoded.memory(), CL_FALSE, run.place, run.bytes.size(),
                                                 run.bytes.data());
    }
    return places;
  }

  // Queues the copy of what kernels must know of the frames.
  void enqueue_tables(Slot& slot, std::span<const double> monitor, std::span<const std::uint64_t> places,
                      DecodePlan& plan) {
    const std::size_t count = monitor.size();
    for (std::size_t frame = 0; frame < count; ++frame) plan.frames[frame].chunk = places[frame];
    const std::size_t monitor_at = count * sizeof(DeviceFrame);
    const std::size_t starts_at = monitor_at + count * sizeof(double);
    runtime_.grow_host_memory(slot.tables, starts_at + plan.block_starts.size() * sizeof(cl_uint),
                              "the places of the frames' blocks");
    std::copy(plan.frames.begin(), plan.frames.end(), slot.tables.as<DeviceFrame>(0, count).begin());
    std::copy(monitor.begin(), monitor.end(), slot.tables.as<double>(monitor_at, count).begin());
    std::copy(plan.block_starts.begin(), plan.block_starts.end(),
              slot.tables.as<cl_uint>(starts_at, plan.block_starts.size()).begin());
    const auto send = [&](Buffer& buffer, std::size_t from, std::size_t bytes, const char* purpose) {
      runtime_.grow(buffer, bytes, purpose);
      if (bytes == 0) return;
      runtime_.upload_queue().enqueueWriteBuffer(buffer.memory(), CL_FALSE, 0, bytes,
                                                 slot.tables.bytes().data() + from);
    };
    send(slot.device.monitor, monitor_at, count * sizeof(double), "the monitor");
    send(slot.frame_table, 0, count * sizeof(DeviceFrame), "the places of the frames");
    send(slot.block_starts, starts_at, plan.block_starts.size() * sizeof(cl_uint), "the places of the frames' blocks");
  }

  // Queues what brings the frames to where the product looks for them, whoever
  // decodes them.
  void enqueue_decoding(Slot& slot, const DeviceFrames& decoded, std::size_t frame_bytes,
                        std::span<const std::span<const std::byte>> sources, std::span<const std::uint64_t> places,
                        const DecodePlan& plan) {
    cl::CommandQueue& queue = runtime_.queue();
    queue.enqueueFillBuffer(slot.failed.memory(), cl_uint{0}, 0, decoded.frames * sizeof(cl_uint));
    const bool by_tiles = go_by_tiles(decoded.type);
    const auto for_device = static_cast<std::size_t>(
        std::ranges::count_if(plan.frames, [](const DeviceFrame& frame) { return frame.blocks > 0; }));
    if (by_tiles) fit_tiles(decoded);
    if (!by_tiles || for_device < decoded.frames) {
      runtime_.grow(raw_, decoded.frames * decoded.stride_bytes(), "the decoded frames");
    }
    for (std::size_t frame = 0; frame < decoded.frames; ++frame) {
      if (plan.frames[frame].blocks > 0 || sources[frame].size() != frame_bytes) continue;
      queue.enqueueCopyBuffer(slot.encoded.memory(), raw_.memory(), places[frame], frame * decoded.stride_bytes(),
                              frame_bytes);
      if (by_tiles) enqueue_side_by_side(decoded, frame, 1);
    }
    if (for_device == 0) return;
    const std::size_t buffer_bytes = decode_buffer_bytes(plan.largest_block);
    const auto kernel = runtime_.kernel(decode_source(), decode_options(decoded.type), "decode_blocks");
    const Buffer none;
    runtime_.launch(kernel, cl::NDRange(decoded.frames * plan.most_blocks * decode_lanes), cl::NDRange(decode_lanes),
                    slot.encoded, static_cast<cl_uint>(decoded.frames), slot.frame_table, slot.block_starts,
                    static_cast<cl_uint>(decoded.pixels), decoded.runs(),
                    by_tiles ? tile_group_frames(decoded.type, decoded.frames) : cl_uint{1},
                    by_tiles ? tiles_->tiles : cl_uint{0}, bad_pixels_.dummy, bad_pixels_.delta_dummy,
                    by_tiles ? tiles_->run_places : none, by_tiles ? interleaved_ : raw_, bad_frames_, slot.failed,
                    static_cast<cl_uint>(buffer_bytes), cl::Local(buffer_bytes));
  }

  // Queues the way back, to the places of frames [first, first + count) of all
  // `frames` in the slot's results.
  void enqueue_downloads(Slot& slot, std::size_t frames, std::size_t first, std::size_t count) {
    cl::CommandQueue& queue = runtime_.download_queue();
    std::size_t array = 0;
    const auto fetch = [&](const Buffer& buffer, std::size_t frame_bytes) {
      queue.enqueueReadBuffer(buffer.memory(), CL_FALSE, 0, count * frame_bytes,
                              slot.results.bytes().data() + array + first * frame_bytes);
      array += frames * frame_bytes;
    };
    const std::size_t row_bytes = matrix_.rows * sizeof(float);
    fetch(slot.device.intensity, row_bytes);
    if (slot.wanted.sem) fetch(slot.device.sem, row_bytes);
    if (slot.wanted.std) fetch(slot.device.std, row_bytes);
    fetch(slot.failed, sizeof(cl_uint));
    queue.enqueueMarkerWithWaitList(nullptr, &slot.done);
    queue.flush();
  }

  // The host's word on a frame that the device's decoder found not plainly
  // valid, and its patterns if it is valid. The host's copy of a frame may be
  // gone once it was sent.
  [[nodiscard]] DecodeStatus judge(std::size_t slot, std::size_t frame, const Patterns& patterns) {
    const Submitted& batch = submitted(slot);
    EncodedFrame encoded = batch.frames[frame];
    std::vector<std::byte> copy;
    if (const Slot& own = slots_[slot]; !own.places.empty()) {
      copy.resize(encoded.bytes.size());
      runtime_.queue().enqueueReadBuffer(own.encoded.memory(), CL_TRUE, own.places[frame], copy.size(), copy.data());
      encoded.bytes = copy;
    }
    std::vector<std::byte> decoded(batch.batch().frame_bytes());
    const DecodeStatus status = decode(encoded, size_of(batch.type), decoded);
    if (status == DecodeStatus::ok) {
      integrate({decoded.data(), batch.type, 1, batch.pixels}, std::span(batch.monitor).subspan(frame, 1), patterns);
    }
    return status;
  }

  // The second batch of some size that the device can decode: the first
  // compiles kernels and touches memory.
  [[nodiscard]] bool is_to_be_measured(const DecodePlan& plan) {
    if (host_sixteenths_) return false;
    const auto for_device =
        std::ranges::count_if(plan.frames, [](const DeviceFrame& frame) { return frame.blocks > 0; });
    return for_device == std::ssize(plan.frames) && for_device >= 4 && ++batches_seen_ > 1;
  }

  [[nodiscard]] bool all_on_host() const { return host_sixteenths_ == 16U; }

  // Seconds a frame with all host threads.
  [[nodiscard]] double time_host_decoding(Slot& slot, std::span<const EncodedFrame> frames, std::size_t element_size,
                                          std::size_t frame_bytes) {
    std::vector<std::size_t> chosen(std::min<std::size_t>(frames.size(), 2 * static_cast<std::size_t>(threads_)));
    std::iota(chosen.begin(), chosen.end(), std::size_t{0});
    runtime_.grow_host_memory(slot.decoded, chosen.size() * frame_bytes, "frames decoded on the host");
    std::vector<DecodeStatus> status(frames.size());
    const Stopwatch decoding;
    decode_frames(frames, chosen, element_size, slot.decoded.bytes(), frame_bytes, status);
    return decoding.seconds() / static_cast<double>(chosen.size());
  }

  void share_decoding(StageTimes times, std::size_t frames) {
    for (double* time : {&times.upload_encoded, &times.upload_decoded, &times.device_decode, &times.product}) {
      *time /= static_cast<double>(frames);
    }
    host_sixteenths_ = host_sixteenths(times);
    constexpr double us = 1e6;
    notes_.push_back(
        fmt::format("{}: of 16 frames the device decodes {}, the host {} "
                    "(measured a frame: upload {:.0f} us, decoding on the "
                    "device {:.0f} us, product {:.0f} us, decoding by {} host "
                    "threads {:.0f} us)",
                    device_name(), 16 - *host_sixteenths_, *host_sixteenths_, us * times.upload_encoded,
                    us * times.device_decode, us * times.product, threads_, us * times.host_decode));
  }

  // First, so that it outlives the buffers; mutable, because copying the matrix
  // to the host changes nothing to see.
  mutable Runtime runtime_;
  int threads_;
  std::uint64_t batch_bytes_;
  std::optional<unsigned> host_sixteenths_;  ///< of 16 frames the host decodes so many; not yet
                                             ///< measured when absent
  unsigned batches_seen_ = 0;                ///< that could have been measured
  std::uint32_t largest_block_ = 0;          ///< decoded bytes of a block for which a group has local memory
  bool told_of_host_ = false;
  std::vector<std::string> notes_;
  std::uint32_t entry_lanes_;
  std::uint32_t sort_items_;
  bool by_tiles_ = false;
  DeviceMatrix matrix_;
  std::optional<DeviceTiles> tiles_;  ///< of matrix_, once they were asked for
  bool has_corrections_ = false;
  ErrorModel error_model_ = ErrorModel::no;
  OutlierFilter filter_;
  Convention convention_ = Convention::exact;
  BadPixelRules bad_pixels_;
  bool has_dark_ = false;
  Buffer normalisation_;  ///< float [pixels]
  Buffer dark_;           ///< float [pixels]; empty = none
  Buffer variance_;       ///< float [pixels]; empty = none
  Buffer totals_;         ///< double4 [rows], see sum_corrections
  Buffer key_offsets_;    ///< ulong [rows + 1], for quantiles
  std::uint64_t keys_per_frame_ = 0;
  // Of the largest batch so far.
  Buffer raw_;          ///< [frames, stride of DeviceFrames]
  Buffer interleaved_;  ///< [groups, pixels, frames of a group]; for tiles
                        ///< [groups, runs, frames of a group, run]
  Buffer keys_;         ///< ulong [frames, keys_per_frame_]
  Buffer bad_frames_;   ///< uint [groups, tiles], see tile_product.cl
  Buffer tile_sums_;    ///< double, see tile_product.cl, as the next ones
  Buffer removed_sums_;
  ///< group]
  Buffer has_removed_;         ///< uint [groups, segments]
  DeviceResults own_results_;  ///< of integrate()
  std::vector<Slot> slots_;
  std::mutex staging_mutex_;  ///< whoever loads and whoever submits are two threads
  std::deque<Staging> all_staging_;
  std::vector<Staging*> free_staging_;  ///< in the order in which it was given back
};

}  // namespace

std::unique_ptr<Engine> make_engine(const DeviceChoice& choice, const EngineOptions& options) {
  return std::make_unique<OpenclEngine>(choose_device(list_devices(), choice), choice.threads, options);
}

}  // namespace annulus::kernels::opencl
