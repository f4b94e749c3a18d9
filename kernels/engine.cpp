#include "kernels/engine.hpp"

#include <algorithm>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "base/errors.hpp"
#include "kernels/bslz4.hpp"
#include "kernels/large_vector.hpp"
#include "kernels/opencl/opencl_engine.hpp"
#include "kernels/openmp/openmp_engine.hpp"
#include "kernels/reference/reference_engine.hpp"
#include "kernels/simd_path.hpp"

namespace annulus::kernels {

/// Memory and batch of each slot; engines that work otherwise leave them unused.
struct Engine::Slots {
  struct Slot {
    LargeVector<std::byte> memory;
    Submitted batch;
  };
  std::vector<Slot> all;
  std::vector<std::byte> decoded;  ///< [frames, pixels] of the batch at hand
};

Engine::Engine(std::size_t slots) : slots_(std::make_unique<Slots>()) { slots_->all.resize(slots); }
Engine::~Engine() = default;

std::size_t Engine::slots() const { return slots_->all.size(); }

const Engine::Submitted& Engine::submitted(std::size_t slot) const { return slots_->all[slot].batch; }

std::span<std::byte> Engine::staging(std::size_t slot, std::size_t bytes) {
  ANNULUS_EXPECT(slot < slots());
  LargeVector<std::byte>& memory = slots_->all[slot].memory;
  if (memory.size() < bytes) {
    memory = {};  // first: the peak is one buffer, not two
    memory.resize(bytes);
  }
  return memory;
}

void Engine::submit(std::size_t slot, const EncodedBatch& batch, std::span<const double> monitor, PatternKinds) {
  ANNULUS_EXPECT(slot < slots());
  ANNULUS_EXPECT(monitor.size() == batch.frames.size());
  slots_->all[slot].batch = {
      batch.type, batch.pixels, {batch.frames.begin(), batch.frames.end()}, {monitor.begin(), monitor.end()}};
}

void Engine::collect(std::size_t slot, const Patterns& patterns, std::span<DecodeStatus> status) {
  const Submitted& batch = submitted(slot);
  ANNULUS_EXPECT(status.size() == batch.frames.size());
  const std::size_t frame_bytes = batch.batch().frame_bytes();
  slots_->decoded.resize(frame_bytes);
  for (std::size_t frame = 0; frame < batch.frames.size(); ++frame) {
    status[frame] = decode(batch.frames[frame], size_of(batch.type), slots_->decoded);
    if (status[frame] != DecodeStatus::ok) continue;
    const std::size_t rows = patterns.intensity.size() / batch.frames.size();
    const auto part = [&](std::span<float> all) { return all.empty() ? all : all.subspan(frame * rows, rows); };
    integrate({slots_->decoded.data(), batch.type, 1, batch.pixels}, std::span(batch.monitor).subspan(frame, 1),
              {part(patterns.intensity), part(patterns.sem), part(patterns.std)});
  }
}

std::string_view name_of(Backend backend) {
  switch (backend) {
    case Backend::reference: return "reference";
    case Backend::openmp: return "openmp";
    case Backend::opencl: return "opencl";
  }
  return "?";
}

std::string_view name_of(ErrorModel model) {
  switch (model) {
    case ErrorModel::no: return "no";
    case ErrorModel::variance: return "variance";
    case ErrorModel::poisson: return "poisson";
    case ErrorModel::azimuthal: return "azimuthal";
    case ErrorModel::hybrid: return "hybrid";
  }
  return "?";
}

std::string_view name_of(Splitting splitting) {
  switch (splitting) {
    case Splitting::no: return "no";
    case Splitting::bbox: return "bbox";
    case Splitting::pseudo: return "pseudo";
    case Splitting::full: return "full";
  }
  return "?";
}

std::string_view name_of(Convention convention) {
  switch (convention) {
    case Convention::exact: return "exact";
    case Convention::pyfai: return "pyfai";
  }
  return "?";
}

std::unique_ptr<Engine> make_engine(Backend backend, const DeviceChoice& choice) {
  static_cast<void>(available_paths());  // whatever ANNULUS_SIMD asks for is refused here, before any work
  switch (backend) {
    case Backend::reference: return reference::make_engine(choice);
    case Backend::openmp: return openmp::make_engine(choice);
    case Backend::opencl: return opencl::make_engine(choice);
  }
  throw InternalError("backend out of range");
}

}  // namespace annulus::kernels
