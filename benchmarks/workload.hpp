// What the benchmarks work on: frames of powder rings on a 1-megapixel detector, and an engine made ready for them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "integrator/integration.hpp"
#include "kernels/encoded_batch.hpp"
#include "kernels/engine.hpp"

namespace annulus::benchmarks {

/// How much is in a frame, and with it how well it compresses.
enum class Content : std::uint8_t {
  dense,    ///< ratio about 3
  typical,  ///< ratio about 7: sharp rings on a dark ground
  sparse,   ///< ratio about 25
};

/// Frames of a 1-megapixel Eiger2 (1062 x 1028), uint16, each with its own noise; the same in every run.
struct Workload {
  explicit Workload(Content content, std::size_t frames);

  integrator::IntegrationPlan plan;  ///< 1,000 bins of 2theta, bounding box, Poisson errors, solid angle
  std::size_t pixels = 0;
  std::vector<std::byte> decoded;              ///< [frames, pixels] uint16
  std::vector<std::vector<std::byte>> chunks;  ///< [frames] bslz4
  std::vector<kernels::EncodedFrame> views;    ///< of the chunks
  std::vector<double> monitor;                 ///< [frames] ones

  [[nodiscard]] std::size_t frames() const { return chunks.size(); }
  [[nodiscard]] std::size_t frame_bytes() const { return pixels * sizeof(std::uint16_t); }
  [[nodiscard]] std::span<const std::byte> frame(std::size_t index) const {
    return std::span(decoded).subspan(index * frame_bytes(), frame_bytes());
  }
  /// Frames in their file's bytes over pixels.
  [[nodiscard]] double ratio() const;
};

/// An openmp integrator of `threads` threads for the workload's plan with another splitting and error model.
[[nodiscard]] integrator::Integrator make_integrator(const Workload& workload, kernels::Splitting splitting,
                                                     kernels::ErrorModel error_model, int threads);

/// Takes frames [0, count) through the engine, as the pipeline does: one batch in each slot.
class Runner {
 public:
  Runner(const Workload& workload, integrator::Integrator& integrator);
  /// Decoded frames.
  void multiply(std::size_t count);
  /// Chunks. Throws InternalError when one cannot be decoded.
  void decode_and_multiply(std::size_t count);

 private:
  [[nodiscard]] kernels::Patterns patterns(std::size_t count);

  const Workload& workload_;
  integrator::Integrator& integrator_;
  std::vector<float> intensity_;
  std::vector<float> errors_;
  std::vector<kernels::DecodeStatus> status_;
};

}  // namespace annulus::benchmarks
