// The compute engine: one interface, three backends (reference, openmp, opencl) that must agree.
//
// An engine holds one integration matrix on its own device and multiplies batches of frames with it. With c the weights
// of a bin's row, x the raw frame, d the dark, w the pixel normalisation, v the variance of x and m the frame's
// monitor, over the pixels that are good in that frame:
//
//     S = sum c x - sum c d      N = m sum c w      V = sum c^2 v      W = m^2 sum c^2 w^2
//     intensity I = S / N        standard error of the mean sqrt(V) / N        standard deviation sqrt(V / W)
//
// What does not depend on the frame is summed once, when the corrections are set; a pixel that is bad in one frame is
// taken out through its own few weights. Sums are float64 or compensated, in an order fixed by (bin, frame) alone:
// results do not depend on the batch, on the number of threads or on the rank.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "kernels/bad_pixels.hpp"
#include "kernels/encoded_batch.hpp"
#include "kernels/frame_batch.hpp"
#include "kernels/matrix.hpp"

namespace annulus::kernels {

enum class Backend : std::uint8_t { reference, openmp, opencl };

/// Where the variance v of a pixel's counts comes from.
enum class ErrorModel : std::uint8_t {
  no,         ///< no errors
  variance,   ///< a given image
  poisson,    ///< the counts themselves, at least 1
  azimuthal,  ///< the scatter in the bin: (x - d - m w I)^2
  hybrid,     ///< azimuthal while outliers are clipped, Poisson for the result
};

/// Leaves out pixels far from their bin's mean, again and again until none is: |x - d - m w I| > k m w std, with k the
/// larger of `threshold` and Chauvenet's sqrt(2 ln(n / sqrt(2 pi))) for the n = sum c >= 3 pixels left.
struct SigmaClip {
  double threshold = 5.0;
  std::uint32_t cycles = 5;
};

/// Keeps the pixels that lie, in ascending order of (x - d) / (m w), between two quantiles of the bin's normalisation,
/// or around both: equal quantiles keep the pixel where they are reached (0.5: the median), or both at a tie.
struct QuantileRange {
  double lower = 0.5;
  double upper = 0.5;
};

/// What is left out of each bin; std::monostate = nothing.
using OutlierFilter = std::variant<std::monostate, SigmaClip, QuantileRange>;

[[nodiscard]] std::string_view name_of(Backend backend);
[[nodiscard]] std::string_view name_of(ErrorModel model);
[[nodiscard]] std::string_view name_of(Splitting splitting);
[[nodiscard]] std::string_view name_of(Convention convention);

/// Per-pixel corrections, constant over a scan, and how bins are made of pixels.
struct Corrections {
  std::span<const float> normalisation;  ///< [pixels] flat * solid angle * polarisation * ..., no unit
  std::span<const float> dark;           ///< [pixels] counts; empty = none
  std::span<const float> variance;       ///< [pixels] counts^2, for ErrorModel::variance alone
  ErrorModel error_model = ErrorModel::no;
  OutlierFilter filter;
  Convention convention = Convention::exact;
  BadPixelRules bad_pixels;
};

/// Where a batch's results go, each [frames, rows]; overwritten. An empty bin is 0.
struct Patterns {
  std::span<float> intensity;
  std::span<float> sem;  ///< standard error of the mean; empty without an error model
  std::span<float> std;  ///< standard deviation; empty when it is not wanted
};

/// Which patterns are wanted beside the intensity.
struct PatternKinds {
  bool sem = false;
  bool std = false;
};

/// Frames that are going to be integrated.
struct FrameKind {
  PixelType type = PixelType::u16;
  std::size_t batch = 1;  ///< how many at a time, as a rule

  bool operator==(const FrameKind&) const = default;
};

class Engine {
 public:
  virtual ~Engine();

  [[nodiscard]] virtual Backend backend() const = 0;
  /// What computes, for people: "2 threads", "NVIDIA H200".
  [[nodiscard]] virtual std::string device_name() const = 0;

  /// What people may want to know of how it works, found out while working; each told once, more may come.
  [[nodiscard]] virtual std::vector<std::string> notes() const { return {}; }

  /// Says what is coming: an engine whose device has to compile for it does so while the matrix is made, in threads of
  /// its own. Saves time and changes no result. Corrections that were set before are to be set again.
  /// @param corrections  as set_corrections() will get them; of the arrays only the dark, and it may be changed then
  virtual void prepare([[maybe_unused]] const Corrections& corrections,
                       [[maybe_unused]] std::span<const FrameKind> frames) {}

  /// Builds the matrix on the engine's device and returns the bins' edges. Replaces an earlier matrix.
  /// Throws InputError when no pixel is left, DeviceError when the device fails.
  virtual BinAxes build_matrix(const MatrixSpec& spec) = 0;

  /// Takes a matrix that was built before, by any engine. Replaces an earlier one. Throws DeviceError.
  virtual void set_matrix(CsrMatrix matrix) = 0;

  /// The matrix that was built, copied to the host: for tests, caches and reports.
  [[nodiscard]] virtual CsrMatrix matrix() const = 0;

  /// Sets corrections and takes their sums over the bins. Needs a matrix; copies what it needs.
  virtual void set_corrections(const Corrections& corrections) = 0;

  /// Integrates a batch.
  /// @param batch    [frames, pixels] of any type, frames >= 1
  /// @param monitor  [frames] divisor of each frame, finite and not 0
  virtual void integrate(const FrameBatch& batch, std::span<const double> monitor, const Patterns& patterns) = 0;

  // Encoded batches go through slots, so that several are on their way at once: staging() gives a slot's memory to the
  // thread that loads, submit() starts its batch, collect() waits for it, each slot in that order and again.

  /// How many batches an engine can have on their way.
  [[nodiscard]] std::size_t slots() const;

  /// At least `bytes` of memory for the encoded frames of a slot's next batch, aligned to 64 bytes, from which the
  /// engine reads best. Valid until the slot's next call. Any one thread, also while other slots are on their way.
  /// Throws DeviceError.
  [[nodiscard]] virtual std::span<std::byte> staging(std::size_t slot, std::size_t bytes);

  /// Starts decoding and integrating; returns before it is done where a device works by itself. The encoded bytes need
  /// not lie in the slot's memory, but are used fastest from there: then they are the engine's from now on. Elsewhere
  /// they stay until the batch was collected.
  /// @param monitor  [frames] as for integrate(); copied
  /// @param wanted   what collect() will ask for: errors, standard deviations
  virtual void submit(std::size_t slot, const EncodedBatch& batch, std::span<const double> monitor,
                      PatternKinds wanted);

  /// Waits for a slot's batch.
  /// @param patterns  [frames, rows] as for integrate(); those of a frame that could not be decoded are undefined
  /// @param status    [frames] overwritten
  virtual void collect(std::size_t slot, const Patterns& patterns, std::span<DecodeStatus> status);

 protected:
  explicit Engine(std::size_t slots = 2);

  /// A batch as it was submitted.
  struct Submitted {
    PixelType type = PixelType::u16;
    std::size_t pixels = 0;
    std::vector<EncodedFrame> frames;
    std::vector<double> monitor;

    [[nodiscard]] EncodedBatch batch() const { return {type, pixels, frames}; }
  };
  [[nodiscard]] const Submitted& submitted(std::size_t slot) const;

 private:
  struct Slots;
  std::unique_ptr<Slots> slots_;
};

/// Which device an engine shall use.
struct DeviceChoice {
  std::string spec;   ///< "" = by node-local rank; "P:D" platform and device number; else part of a device's name
  int node_rank = 0;  ///< This rank's number among those of its node
  int threads = 0;    ///< Host threads; 0 = OpenMP's default
};

/// A device that OpenCL offers.
struct DeviceInfo {
  int platform = 0;
  int device = 0;
  std::string platform_name;
  std::string name;
  std::string version;
  bool gpu = false;
  std::uint64_t memory_bytes = 0;
  std::uint32_t compute_units = 0;
  bool float64 = false;
  /// The same for one piece of hardware, whichever process asks and however it is numbered there (a job queue may show
  /// each rank one GPU alone, all as 0:0); "" = the driver does not tell.
  std::string identity;
};

/// All OpenCL devices, GPUs first, in a stable order; empty where there is no OpenCL.
[[nodiscard]] std::vector<DeviceInfo> list_devices();

/// The device of list_devices() that `choice` means: by spec (ranks take devices whose names match in turn), or
/// node_rank modulo the GPUs with float64 (all devices with float64 where there is no such GPU).
/// Throws InputError when there is none, naming what was found.
[[nodiscard]] DeviceInfo choose_device(const std::vector<DeviceInfo>& devices, const DeviceChoice& choice);

/// Why the ranks of a node should not take these devices, one a rank in the order of the ranks: some of them would
/// share a GPU, which makes each of them slower and divides its memory. "" = they may; a CPU serves any number.
[[nodiscard]] std::string sharing_problem(std::span<const DeviceInfo> taken);

/// Throws InputError when the backend, its device, or the instruction set that ANNULUS_SIMD names is not to be had
/// here.
[[nodiscard]] std::unique_ptr<Engine> make_engine(Backend backend, const DeviceChoice& choice);

}  // namespace annulus::kernels
