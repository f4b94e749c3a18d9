#include "kernels/opencl/opencl_engine.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <string>
#include <type_traits>
#include <utility>

#include "kernels/opencl/batch_product.cl.hpp"
#include "kernels/opencl/device_matrix.hpp"
#include "kernels/opencl/runtime.hpp"

namespace annulus::kernels::opencl {
namespace {

constexpr ProgramSource batch_product_source{"batch_product.cl", batch_product_cl};

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

class OpenclEngine final : public Engine {
 public:
  OpenclEngine(DeviceInfo device, std::uint64_t batch_bytes) : runtime_(std::move(device)), batch_bytes_(batch_bytes) {
    if (batch_bytes_ == 0) {
      batch_bytes_ = std::min(runtime_.largest_buffer_bytes(), runtime_.info().memory_bytes / 4);
    }
    // A CPU's core walks a row alone. On a GPU 32 work-items do: with the lanes of frames a group of 128 for a thousand
    // bins, which fills the device, and rows of a hundred entries still give each something to do.
    entry_lanes_ = runtime_.is_cpu() ? 1 : 32;
  }

  [[nodiscard]] Backend backend() const override { return Backend::opencl; }
  [[nodiscard]] std::string device_name() const override { return runtime_.info().name; }

  BinAxis build_matrix(const MatrixSpec& spec) override {
    return runtime_.run("building the matrix", [&] {
      const BinAxis axis = opencl::build_matrix(runtime_, spec, matrix_);
      has_corrections_ = false;
      return axis;
    });
  }

  [[nodiscard]] CsrMatrix matrix() const override {
    ANNULUS_EXPECT(matrix_.rows > 0);
    return runtime_.run("copying the matrix to the host", [this] { return download(runtime_, matrix_); });
  }

  void set_corrections(const Corrections& corrections) override {
    ANNULUS_EXPECT(matrix_.rows > 0);
    ANNULUS_EXPECT(corrections.normalisation.size() == matrix_.columns);
    ANNULUS_EXPECT(corrections.dark.empty() || corrections.dark.size() == matrix_.columns);
    runtime_.run("setting the corrections", [&] {
      has_corrections_ = false;
      error_model_ = corrections.error_model;
      bad_pixels_ = corrections.bad_pixels;
      normalisation_ = runtime_.upload(corrections.normalisation, "the normalisation");
      dark_ = corrections.dark.empty() ? Buffer() : runtime_.upload(corrections.dark, "the dark");
      total_norm_ = runtime_.allocate(sizeof(double) * matrix_.rows, "the bins' norms");
      total_dark_ = runtime_.allocate(sizeof(double) * matrix_.rows, "the bins' darks");
      // The pixel type plays no part in this kernel.
      runtime_.launch(kernel("sum_corrections", PixelType::u16, small_group_frames),
                      cl::NDRange(std::size_t{matrix_.rows} * entry_lanes_), cl::NDRange(entry_lanes_), matrix_.offsets,
                      matrix_.pixels, matrix_.weights, normalisation_, dark_, total_norm_, total_dark_);
      runtime_.queue().finish();
      has_corrections_ = true;
    });
  }

  void integrate(const FrameBatch& batch, std::span<const double> monitor, std::span<float> intensity,
                 std::span<float> sigma) override {
    const std::size_t bins = matrix_.rows;
    ANNULUS_EXPECT(has_corrections_ && batch.frames > 0 && batch.pixels == matrix_.columns);
    ANNULUS_EXPECT(monitor.size() == batch.frames && intensity.size() == batch.frames * bins);
    ANNULUS_EXPECT(sigma.size() == (error_model_ == ErrorModel::no ? 0 : intensity.size()));
    const std::size_t part_frames = frames_at_a_time(batch);
    runtime_.run("integrating a batch of frames", [&] {
      for (std::size_t first = 0; first < batch.frames; first += part_frames) {
        const std::size_t frames = std::min(part_frames, batch.frames - first);
        const FrameBatch part{batch.data + first * batch.frame_bytes(), batch.type, frames, batch.pixels};
        enqueue_part(part, monitor.subspan(first, frames), intensity.subspan(first * bins, frames * bins),
                     sigma.empty() ? sigma : sigma.subspan(first * bins, frames * bins));
      }
      runtime_.queue().finish();
    });
  }

 private:
  [[nodiscard]] cl::Kernel kernel(const char* name, PixelType type, std::uint32_t group_frames) {
    return runtime_.kernel(
        batch_product_source,
        fmt::format("-DPIXEL={} -DGROUP_FRAMES={} -DENTRY_LANES={} -DPOISSON={}{}", opencl_type(type), group_frames,
                    entry_lanes_, error_model_ == ErrorModel::poisson ? 1 : 0, rule_options(type, bad_pixels_)),
        name);
  }

  [[nodiscard]] std::size_t frames_at_a_time(const FrameBatch& batch) const {
    const std::uint64_t frames = batch_bytes_ / batch.frame_bytes();
    // Whole groups, so that the interleaved copy is no larger than the raw frames (but for the last 1 to 3).
    if (frames >= large_group_frames) return frames - frames % large_group_frames;
    return std::clamp<std::uint64_t>(frames, 1, small_group_frames);
  }

  // Queues upload, product and download of frames that fit on the device; nothing is ready before the queue is done.
  void enqueue_part(const FrameBatch& part, std::span<const double> monitor, std::span<float> intensity,
                    std::span<float> sigma) {
    const std::uint32_t group_frames = part.frames <= small_group_frames ? small_group_frames : large_group_frames;
    const std::size_t groups = (part.frames + group_frames - 1) / group_frames;
    const std::size_t raw_bytes = part.frames * part.frame_bytes();
    const auto pixels = static_cast<cl_uint>(part.pixels);
    const auto frames = static_cast<cl_uint>(part.frames);
    const cl_uint bins = matrix_.rows;

    runtime_.grow(raw_, raw_bytes, "the raw frames");
    runtime_.grow(interleaved_, groups * group_frames * part.frame_bytes(), "the interleaved frames");
    runtime_.grow(monitor_, monitor.size_bytes(), "the monitor");
    runtime_.grow(intensity_, intensity.size_bytes(), "the intensities");
    if (!sigma.empty()) runtime_.grow(sigma_, sigma.size_bytes(), "the errors");

    cl::CommandQueue& queue = runtime_.queue();
    queue.enqueueWriteBuffer(raw_.memory(), CL_FALSE, 0, raw_bytes, part.data);
    queue.enqueueWriteBuffer(monitor_.memory(), CL_FALSE, 0, monitor.size_bytes(), monitor.data());
    runtime_.launch(kernel("interleave", part.type, group_frames), cl::NDRange(runtime_.padded(part.pixels), groups),
                    cl::NDRange(runtime_.plain_group_size(), 1), pixels, frames, raw_, interleaved_);
    const std::size_t work_group = std::size_t{group_frames} / lane_frames * entry_lanes_;
    runtime_.launch(kernel("integrate", part.type, group_frames), cl::NDRange(bins * work_group, groups),
                    cl::NDRange(work_group, 1), pixels, frames, bins, bad_pixels_.dummy, bad_pixels_.delta_dummy,
                    matrix_.offsets, matrix_.pixels, matrix_.weights, normalisation_, dark_, total_norm_, total_dark_,
                    interleaved_, monitor_, intensity_, sigma_);
    queue.enqueueReadBuffer(intensity_.memory(), CL_FALSE, 0, intensity.size_bytes(), intensity.data());
    if (!sigma.empty()) queue.enqueueReadBuffer(sigma_.memory(), CL_FALSE, 0, sigma.size_bytes(), sigma.data());
    queue.flush();
  }

  // First, so that it outlives the buffers; mutable, because copying the matrix to the host changes nothing to see.
  mutable Runtime runtime_;
  std::uint64_t batch_bytes_;
  std::uint32_t entry_lanes_;
  DeviceMatrix matrix_;
  bool has_corrections_ = false;
  ErrorModel error_model_ = ErrorModel::no;
  BadPixelRules bad_pixels_;
  Buffer normalisation_;  ///< float [pixels]
  Buffer dark_;           ///< float [pixels]; empty = none
  Buffer total_norm_;     ///< double [bins]
  Buffer total_dark_;     ///< double [bins]
  // Of the largest batch so far.
  Buffer raw_;          ///< [frames, pixels]
  Buffer interleaved_;  ///< [groups, pixels, frames of a group]
  Buffer monitor_;      ///< double [frames]
  Buffer intensity_;    ///< float [frames, bins]
  Buffer sigma_;        ///< float [frames, bins]
};

}  // namespace

std::unique_ptr<Engine> make_engine(const DeviceChoice& choice, std::uint64_t batch_bytes) {
  return std::make_unique<OpenclEngine>(choose_device(list_devices(), choice), batch_bytes);
}

}  // namespace annulus::kernels::opencl
