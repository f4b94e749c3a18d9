#include "mpi_driver/memory_need.hpp"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>
#include <memory>
#include <utility>
#include <variant>

#include <fmt/format.h>

#include "base/errors.hpp"
#include "kernels/engine.hpp"

namespace annulus::driver {
namespace {

/// Program, libraries and their buffers: 100 to 110 MB were seen with Open MPI 4.1, HDF5 1.10 and PoCL's list of
/// devices; MPI's shared memory grows with the ranks of a node.
constexpr std::uint64_t process_bytes = 160'000'000;

/// Matrix builders keep the corners of all pixels, the coordinates of their centres and the tiles in the making.
constexpr std::uint64_t building_bytes_a_pixel = 48;

/// An entry as rows (4 + 4), twice while they are copied; or in tiles (2 + 4), twice, and once more in slots of a pixel
/// and two weights (14).
constexpr std::uint64_t building_bytes_an_entry = 26;
/// What stays of them: in tiles, and in slots or as rows.
constexpr std::uint64_t bytes_an_entry = 20;

/// The rows of a tile: a bin with an end (8), and its slots, filled up to eight of 14 bytes.
constexpr std::uint64_t bytes_a_tile_row = 8 + 8 * 14;
constexpr std::uint64_t pixels_a_tile = 4096;

/// Mask (as given, and with the pixels that flat and dark cannot serve), normalisation, and solid angle or parallax in
/// float64 while it is made; thrice, because rank 0 holds the experiment, its message and what comes out of it.
constexpr std::uint64_t image_bytes_a_pixel = 24;

/// Frames side by side in one group of a product, and the sums that each bin has for one of them: signal, variance,
/// cross terms, and what is removed, in float64.
constexpr std::uint64_t lanes = 16;
constexpr std::uint64_t sum_bytes = 8 * 8;
/// The engines sum this many parts of the detector by themselves when bins are few, else one.
constexpr std::uint64_t segments = 8;
constexpr std::uint64_t most_segmented_rows = 8192;

/// Monitor (experiment, its message, the volume's description), frame numbers, status, as doubles and flags; and the
/// lines of the grid.
constexpr std::uint64_t bytes_a_point = 96;
/// A run of frames: two texts, as object, message and JSON.
constexpr std::uint64_t bytes_a_run = 1'500;

/// Scratch of a thread: a tile of 16 frames, decoded, with its bookkeeping.
constexpr std::uint64_t thread_bytes = 4'000'000;

/// Batches on their way: as many as OpenCL has slots; on CPUs one is computed while the next one is read.
constexpr std::uint64_t opencl_slots = 4;
constexpr std::uint64_t cpu_slots = 2;
/// Batches that came through HDF5 stay with their plans: those of the slots, and the one behind them.
constexpr std::uint64_t held_batches = 1;

std::uint64_t rows_of(const integrator::IntegrationSettings& settings) {
  return std::uint64_t{settings.bins} * std::max<std::uint32_t>(settings.azimuthal_bins, 1);
}

std::uint64_t pixels_of(const integrator::IntegrationPlan& plan) {
  return std::uint64_t{plan.geometry.detector.rows} * plan.geometry.detector.columns;
}

/// A number in a file of its own or behind a name; nothing when it is not there or says "max".
std::uint64_t number_in(const char* path, const std::string& name) {
  std::ifstream file(path);
  std::string word;
  if (!name.empty()) {
    while (file >> word && word != name) {
    }
  }
  std::uint64_t number = 0;
  return file >> number ? number : 0;
}

std::string gigabytes(std::uint64_t bytes) { return fmt::format("{:.2f} GB", static_cast<double>(bytes) / 1e9); }

std::uint64_t decoded_bytes(const mapping::FrameList& frames) {
  std::size_t widest = 1;
  for (const mapping::FrameRun& run : frames.runs) widest = std::max(widest, kernels::size_of(run.type));
  return frames.pixels() * widest;
}

/// What an encoder may add to a frame of `bytes`, and the room up to where the next one begins.
std::uint64_t with_encoder_bytes(std::uint64_t bytes) { return bytes + bytes / 100 + 128; }

}  // namespace

std::uint64_t most_stored_bytes(const mapping::FrameList& frames) { return with_encoder_bytes(decoded_bytes(frames)); }

StoredFrames stored_frames(const mapping::FrameList& frames, std::uint64_t looks) {
  std::uint64_t compressed = 0;
  StoredFrames stored;
  double sum = 0.0;
  for (const mapping::FrameRun& run : frames.runs) {
    if (run.storage == mapping::Storage::chunk) {
      compressed += run.frames;
      continue;
    }
    const std::uint64_t bytes = frames.pixels() * kernels::size_of(run.type);
    sum += static_cast<double>(run.frames) * static_cast<double>(bytes);
    stored.most = std::max(stored.most, bytes);
  }
  // Every so many compressed frames one is looked at; of those that are not there none is known.
  looks = std::min(looks, compressed);
  mapping::FrameReader reader(frames);
  std::uint64_t found = 0;
  std::uint64_t found_bytes = 0;
  std::uint64_t largest = 0;
  std::uint64_t before = 0;  // frames of the runs before, and the compressed ones of them
  std::uint64_t compressed_before = 0;
  for (const mapping::FrameRun& run : frames.runs) {
    if (run.storage == mapping::Storage::chunk) {
      while (stored.looked_at < looks && stored.looked_at * compressed / looks < compressed_before + run.frames) {
        const std::uint64_t place = stored.looked_at++ * compressed / looks - compressed_before;
        const std::uint64_t bytes = reader.plan(before + place, 1).bytes();
        found += bytes > 0 ? 1 : 0;
        found_bytes += bytes;
        largest = std::max(largest, bytes);
      }
      compressed_before += run.frames;
    }
    before += run.frames;
  }
  if (compressed > 0) {
    const std::uint64_t bound = most_stored_bytes(frames);
    sum += static_cast<double>(compressed) * static_cast<double>(found > 0 ? found_bytes / found : bound);
    stored.most = std::max(stored.most, found > 0 ? std::min(bound, largest + largest / 4) : bound);
  }
  const std::uint64_t count = frames.frames();
  stored.mean = count > 0 ? static_cast<std::uint64_t>(sum / static_cast<double>(count)) : 0;
  return stored;
}

MemoryNeed memory_need(const Experiment& experiment, std::uint64_t entries, std::uint64_t stored_bytes) {
  const integrator::IntegrationPlan& plan = experiment.plan;
  const std::uint64_t pixels = pixels_of(plan);
  const std::uint64_t rows = rows_of(plan.settings);
  const std::uint64_t batch = experiment.batch;
  const std::uint64_t kinds =
      1U + (plan.settings.error_model != kernels::ErrorModel::no ? 1U : 0U) + (experiment.std ? 1U : 0U);

  MemoryNeed need;
  need.process = process_bytes;
  const std::uint64_t tile_rows = std::min(entries, (pixels / pixels_a_tile + 1) * rows);
  need.building =
      pixels * building_bytes_a_pixel + entries * building_bytes_an_entry + tile_rows * bytes_a_tile_row + rows * 128;
  const bool opencl = experiment.compute.backend.value_or(kernels::Backend::opencl) == kernels::Backend::opencl;
  // (What a driver keeps of what was freed on its device is not known.)
  need.matrix = opencl ? need.building : entries * bytes_an_entry + tile_rows * bytes_a_tile_row + rows * 128;

  const integrator::Detector& detector = plan.geometry.detector;
  need.images = pixels * image_bytes_a_pixel + 3 * 4 * (plan.dark.size() + plan.flat.size() + plan.variance.size());
  if (detector.vertices) need.images += 3 * 4 * detector.vertices->size();

  // Beside the slots, a batch is decoded as a whole where frames cannot go tile by tile, and OpenCL interleaves it.
  const std::uint64_t frame = decoded_bytes(experiment.frames);
  const std::uint64_t slots = opencl ? opencl_slots : cpu_slots;
  const bool held = std::ranges::any_of(
      experiment.frames.runs, [](const mapping::FrameRun& run) { return run.storage == mapping::Storage::hdf5; });
  need.batches = batch * (slots * stored_bytes + (held ? slots + held_batches : 0) * frame + (opencl ? 3 : 1) * frame);

  std::uint64_t most_lines = 1;
  for (const LineBlock& block : experiment.blocks) most_lines = std::max(most_lines, block.lines);
  const std::uint64_t groups = (batch + lanes - 1) / lanes;
  const auto threads = static_cast<std::uint64_t>(threads_for(experiment.compute));
  need.results = groups * (rows <= most_segmented_rows ? segments : 1) * rows * lanes * sum_bytes +
                 (batch + most_lines * experiment.scan.fast) * rows * 4 * kinds + threads * thread_bytes;

  need.scan = experiment.scan.points() * bytes_a_point +
              (experiment.frames.runs.size() + experiment.frames.inputs.size()) * bytes_a_run;
  return need;
}

std::uint64_t matrix_entries(const integrator::IntegrationPlan& plan) {
  constexpr std::size_t step = 61;  // a prime: no pattern of the detector's modules repeats with it
  const std::uint64_t pixels = pixels_of(plan);
  if (pixels < 1000 * step) return std::min(most_matrix_entries(plan), pixels * rows_of(plan.settings));
  // Pixels whose flat is 0 are there, so that the bins reach over them, but have no share.
  integrator::IntegrationPlan sample = plan;
  sample.dark.clear();
  sample.variance.clear();
  sample.settings.filter = std::monostate();
  if (sample.settings.error_model == kernels::ErrorModel::variance)
    sample.settings.error_model = kernels::ErrorModel::no;
  sample.flat.assign(pixels, 0.0F);
  std::uint64_t sampled = 0;
  for (std::size_t pixel = 0; pixel < pixels; pixel += step) {
    const bool used = plan.flat.empty() || (plan.flat[pixel] != 0.0F && std::isfinite(plan.flat[pixel]));
    sample.flat[pixel] = used ? 1.0F : 0.0F;
    ++sampled;
  }
  const integrator::Integrator integrator(sample, kernels::make_engine(kernels::Backend::openmp, {}));
  const double share = static_cast<double>(pixels) / static_cast<double>(sampled);
  // The sample's own scatter: entries of a pixel differ by about one, so three deviations of the mean are small.
  const double scatter = 3.0 * share * std::sqrt(static_cast<double>(sampled));
  return static_cast<std::uint64_t>(share * static_cast<double>(integrator.engine().matrix().entries()) + scatter);
}

std::uint64_t most_matrix_entries(const integrator::IntegrationPlan& plan) {
  // A pixel reaches over at most all rows. Usual ones reach over one to four; a bin is hardly ever finer than a quarter
  // of a pixel.
  const std::uint64_t reach = plan.settings.splitting == kernels::Splitting::no ? 1 : 16;
  return pixels_of(plan) * std::min(reach, rows_of(plan.settings));
}

std::uint64_t memory_available_bytes() {
  std::uint64_t available = number_in("/proc/meminfo", "MemAvailable:") * 1024;
  const auto limited = [&](const char* limit_file, const char* used_file) {
    const std::uint64_t limit = number_in(limit_file, "");
    const std::uint64_t used = number_in(used_file, "");
    // Without a limit version 1 gives a number near 2^63.
    if (limit > 0 && limit < std::uint64_t{1} << 60U) available = std::min(available, limit > used ? limit - used : 1);
  };
  limited("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current");
  limited("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes");
  return available;
}

std::string fit_batch(Experiment& experiment, std::uint64_t available_bytes) {
  if (available_bytes == 0) return "";
  // The bound that costs nothing is enough nearly always.
  std::uint64_t entries = most_matrix_entries(experiment.plan);
  std::uint64_t stored = most_stored_bytes(experiment.frames);
  if (memory_need(experiment, entries, stored).total() <= available_bytes) return "";
  entries = matrix_entries(experiment.plan);
  stored = stored_frames(experiment.frames, usual_looks).most;
  const std::uint64_t asked = memory_need(experiment, entries, stored).total();
  if (asked <= available_bytes) return "";
  const std::uint32_t batch = experiment.batch;
  while (experiment.batch > 1 && memory_need(experiment, entries, stored).total() > available_bytes) {
    experiment.batch = (experiment.batch + 1) / 2;
  }
  const std::uint64_t least = memory_need(experiment, entries, stored).total();
  if (least > available_bytes) {
    throw InputError(fmt::format(
        "not enough memory: found {} for each rank, expected {} even with batches of one frame; fewer ranks a node, or "
        "fewer bins, need less",
        gigabytes(available_bytes), gigabytes(least)));
  }
  return fmt::format(
      "--batch {}: would need up to {} a rank of {}; batches of {} frames are taken, which change no result", batch,
      gigabytes(asked), gigabytes(available_bytes), experiment.batch);
}

}  // namespace annulus::driver
