#include "mpi_driver/pipeline.hpp"

#include <omp.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <functional>
#include <future>
#include <limits>
#include <memory>
#include <mutex>
#include <numeric>
#include <optional>
#include <thread>

namespace annulus::driver {
namespace {
using mapping::FrameStatus;

double now_s() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

/// Consecutive points of a block in the order of their frames.
struct BatchPlan {
  LineBlock block;
  std::uint64_t first = 0;  ///< point of the block, counted in the order of acquisition
  std::uint64_t points = 0;
  bool last = false;  ///< of its block
};

/// A batch on its way; its buffers are used again and again.
struct Batch {
  BatchPlan plan;
  std::vector<mapping::EncodedFrame> encoded;
  std::unique_ptr<std::byte[]> decoded;  ///< [points, pixels] of `type`; not zeroed, its pages come with the decoders
  std::size_t decoded_bytes = 0;
  std::vector<FrameStatus> status;  ///< [points]
  kernels::PixelType type = kernels::PixelType::u16;
  bool is_decoded = false;
};

/// Patterns of some frames, one behind the other; without errors or standard deviations those are empty.
struct Results {
  std::vector<float> intensity;
  std::vector<float> sem;
  std::vector<float> std;

  void resize(std::size_t values, bool with_errors, bool with_std) {
    intensity.resize(values);
    sem.resize(with_errors ? values : 0);
    std.resize(with_std ? values : 0);
  }

  void fill(std::size_t values, bool with_errors, bool with_std, float value) {
    intensity.assign(values, value);
    sem.assign(with_errors ? values : 0, value);
    std.assign(with_std ? values : 0, value);
  }

  /// Copies `values` numbers of each kind from other[source] to here[place].
  void take(std::size_t place, const Results& other, std::size_t source, std::size_t values) {
    std::copy_n(other.intensity.data() + source, values, intensity.data() + place);
    if (!sem.empty()) std::copy_n(other.sem.data() + source, values, sem.data() + place);
    if (!std.empty()) std::copy_n(other.std.data() + source, values, std.data() + place);
  }
};

/// One thread that runs one task at a time, for as long as it lives: OpenMP keeps a team of threads for each thread
/// that opens parallel regions, so a new thread for each batch would start a new team for each batch.
class LoaderThread {
 public:
  LoaderThread() : thread_([this](const std::stop_token& stop) { loop(stop); }) {}

  std::future<void> start(std::function<void()> work) {
    std::packaged_task<void()> task(std::move(work));
    std::future<void> done = task.get_future();
    {
      const std::lock_guard lock(mutex_);
      task_ = std::move(task);
    }
    wake_.notify_one();
    return done;
  }

 private:
  void loop(const std::stop_token& stop) {
    for (;;) {
      std::packaged_task<void()> task;
      {
        std::unique_lock lock(mutex_);
        if (!wake_.wait(lock, stop, [this] { return task_.has_value(); })) return;
        task = std::move(*task_);
        task_.reset();
      }
      task();
    }
  }

  std::mutex mutex_;
  std::condition_variable_any wake_;
  std::optional<std::packaged_task<void()>> task_;
  std::jthread thread_;  // last: it uses the members above
};

class Pipeline {
 public:
  Pipeline(const Experiment& experiment, integrator::Integrator& integrator, mapping::VolumeWriter& writer,
           SharedCounter& counter, Progress& progress)
      : experiment_(experiment),
        integrator_(integrator),
        writer_(writer),
        counter_(counter),
        progress_(progress),
        reader_(experiment.frames),
        threads_(experiment.compute.threads > 0 ? experiment.compute.threads : omp_get_max_threads()),
        loader_decodes_(integrator.engine().backend() == kernels::Backend::opencl) {}

  Statistics run() {
    const double start = now_s();
    Batch present;
    Batch next;
    const auto load = [this](Batch& batch) {
      fetch(batch);
      if (loader_decodes_) decode(batch);
    };
    bool more = plan_next(present.plan);
    if (more) load(present);
    while (more) {
      const bool another = plan_next(next.plan);
      std::future<void> loaded;
      if (another) loaded = loader_.start([&load, &next] { load(next); });
      // The loader works on `next`: it must have ended before an exception may unwind the batches.
      try {
        if (!present.is_decoded) decode(present);
        integrate(present);
        if (present.plan.last) write(present.plan.block);
      } catch (...) {
        if (another) loaded.wait();
        throw;
      }
      if (another) loaded.get();
      std::swap(present, next);
      more = another;
    }
    statistics_.total_s = now_s() - start;
    return statistics_;
  }

 private:
  /// The next points to do: of the block at hand, or of the next one that nobody has claimed. False at the end.
  bool plan_next(BatchPlan& plan) {
    if (!claimed_ || claimed_done_ == claimed_->lines * experiment_.scan.fast) {
      const std::uint64_t index = counter_.take();
      if (index >= experiment_.blocks.size()) return false;
      claimed_ = experiment_.blocks[index];
      claimed_done_ = 0;
      progress_.update(index * claimed_->lines * experiment_.scan.fast);
    }
    const std::uint64_t points = claimed_->lines * experiment_.scan.fast;
    plan.block = *claimed_;
    plan.first = claimed_done_;
    plan.points = std::min<std::uint64_t>(experiment_.compute.batch, points - claimed_done_);
    // A batch holds one pixel type.
    const std::int64_t frame = frame_of(plan.block, plan.first);
    for (std::uint64_t point = 1; point < plan.points; ++point) {
      if (type_of(frame + static_cast<std::int64_t>(point)) != type_of(frame)) plan.points = point;
    }
    claimed_done_ += plan.points;
    plan.last = claimed_done_ == points;
    return true;
  }

  [[nodiscard]] std::int64_t frame_of(const LineBlock& block, std::uint64_t point) const {
    return static_cast<std::int64_t>(block.first * experiment_.scan.fast + point) + experiment_.scan.offset;
  }

  [[nodiscard]] kernels::PixelType type_of(std::int64_t frame) const {
    const bool exists = frame >= 0 && static_cast<std::uint64_t>(frame) < reader_.list().frames();
    return exists ? reader_.type_of(static_cast<std::uint64_t>(frame)) : kernels::PixelType::u16;
  }

  /// Where a point of a block, counted in the order of acquisition, lies in the block's grid.
  [[nodiscard]] std::uint64_t cell_of(const LineBlock& block, std::uint64_t point) const {
    const mapping::Scan& scan = experiment_.scan;
    const std::uint64_t line = point / scan.fast;
    const std::uint64_t step = point % scan.fast;
    const bool backwards = scan.zigzag && (block.first + line) % 2 == 1;
    return line * scan.fast + (backwards ? scan.fast - 1 - step : step);
  }

  void fetch(Batch& batch) {
    const double start = now_s();
    const BatchPlan& plan = batch.plan;
    batch.is_decoded = false;
    batch.encoded.resize(plan.points);
    batch.status.resize(plan.points);
    const std::int64_t first = frame_of(plan.block, plan.first);
    const std::uint64_t before =
        std::min<std::uint64_t>(plan.points, first < 0 ? static_cast<std::uint64_t>(-first) : 0);
    for (std::uint64_t point = 0; point < before; ++point) batch.encoded[point].status = FrameStatus::missing;
    batch.type = type_of(first);
    if (before < plan.points) {
      // HDF5 takes one thread at a time: not while the other one writes.
      const std::lock_guard lock(hdf5_);
      reader_.fetch(static_cast<std::uint64_t>(first + static_cast<std::int64_t>(before)),
                    std::span(batch.encoded).subspan(before), threads_);
    }
    fetch_s_ += now_s() - start;
  }

  void decode(Batch& batch) {
    const double start = now_s();
    const std::size_t frame_bytes = reader_.list().pixels() * kernels::size_of(batch.type);
    if (batch.decoded_bytes < batch.plan.points * frame_bytes) {
      batch.decoded_bytes = batch.plan.points * frame_bytes;
      batch.decoded = std::make_unique_for_overwrite<std::byte[]>(batch.decoded_bytes);
    }
    const auto points = static_cast<std::int64_t>(batch.plan.points);
#pragma omp parallel for num_threads(threads_) schedule(dynamic, 1)
    for (std::int64_t point = 0; point < points; ++point) {
      const auto index = static_cast<std::size_t>(point);
      batch.status[index] =
          batch.encoded[index].status == FrameStatus::ok
              ? mapping::decode(batch.encoded[index], {batch.decoded.get() + index * frame_bytes, frame_bytes})
              : batch.encoded[index].status;
    }
    for (std::uint64_t point = 0; point < batch.plan.points; ++point) {
      const double monitor = monitor_of(batch.plan, point);
      const bool valid = std::isfinite(monitor) && monitor > 0.0;
      if (batch.status[point] == FrameStatus::ok && !valid) batch.status[point] = FrameStatus::monitor_invalid;
    }
    batch.is_decoded = true;
    decode_s_ += now_s() - start;
  }

  [[nodiscard]] double monitor_of(const BatchPlan& plan, std::uint64_t point) const {
    return experiment_.monitor[plan.block.first * experiment_.scan.fast + cell_of(plan.block, plan.first + point)];
  }

  /// Integrates the batch's good frames and puts the results in their places of the block.
  void integrate(const Batch& batch) {
    const double start = now_s();
    const BatchPlan& plan = batch.plan;
    const std::size_t points = plan.block.lines * experiment_.scan.fast;
    if (plan.first == 0) {
      block_.fill(points * integrator_.rows(), integrator_.has_errors(), experiment_.std,
                  std::numeric_limits<float>::quiet_NaN());
      block_status_.assign(points, FrameStatus::not_processed);
    }
    for (std::uint64_t point = 0; point < plan.points; ++point) {
      block_status_[cell_of(plan.block, plan.first + point)] = batch.status[point];
      ++statistics_.frames[static_cast<std::size_t>(batch.status[point])];
    }
    const std::size_t frame_bytes = reader_.list().pixels() * kernels::size_of(batch.type);
    std::uint64_t begin = 0;
    while (begin < plan.points) {
      std::uint64_t end = begin;
      while (end < plan.points && batch.status[end] == FrameStatus::ok) ++end;
      if (end > begin) integrate_run(batch, begin, end, frame_bytes);
      begin = end + 1;
    }
    statistics_.integrate_s += now_s() - start;
  }

  void integrate_run(const Batch& batch, std::uint64_t begin, std::uint64_t end, std::size_t frame_bytes) {
    const std::size_t rows = integrator_.rows();
    const std::size_t frames = end - begin;
    monitor_.resize(frames);
    for (std::size_t frame = 0; frame < frames; ++frame) monitor_[frame] = monitor_of(batch.plan, begin + frame);
    run_.resize(frames * rows, integrator_.has_errors(), experiment_.std);
    integrator_.integrate({batch.decoded.get() + begin * frame_bytes, batch.type, frames, reader_.list().pixels()},
                          monitor_, {run_.intensity, run_.sem, run_.std});
    for (std::size_t frame = 0; frame < frames; ++frame) {
      const std::uint64_t cell = cell_of(batch.plan.block, batch.plan.first + begin + frame);
      block_.take(cell * rows, run_, frame * rows, rows);
    }
  }

  void write(const LineBlock& block) {
    const double start = now_s();
    const std::lock_guard lock(hdf5_);
    writer_.write(block.first * experiment_.scan.fast, {block_.intensity, block_.sem, block_.std, block_status_});
    statistics_.write_s += now_s() - start;
    statistics_.fetch_s = fetch_s_;
    statistics_.decode_s = decode_s_;
  }

  const Experiment& experiment_;
  integrator::Integrator& integrator_;
  mapping::VolumeWriter& writer_;
  SharedCounter& counter_;
  Progress& progress_;
  mapping::FrameReader reader_;
  int threads_;
  bool loader_decodes_;

  std::optional<LineBlock> claimed_;
  std::uint64_t claimed_done_ = 0;
  std::mutex hdf5_;
  std::vector<double> monitor_;
  Results run_;    // [frames of a run, rows]
  Results block_;  // [points of the block, rows]
  std::vector<FrameStatus> block_status_;
  std::atomic<double> fetch_s_ = 0.0;
  std::atomic<double> decode_s_ = 0.0;
  Statistics statistics_;
  LoaderThread loader_;  // last: ends before what it works on
};

}  // namespace

std::uint64_t Statistics::processed() const { return std::accumulate(frames.begin(), frames.end(), std::uint64_t{0}); }

std::uint64_t Statistics::bad() const { return processed() - frames[static_cast<std::size_t>(FrameStatus::ok)]; }

Statistics run_pipeline(const Experiment& experiment, integrator::Integrator& integrator, mapping::VolumeWriter& writer,
                        SharedCounter& counter, Progress& progress) {
  return Pipeline(experiment, integrator, writer, counter, progress).run();
}

}  // namespace annulus::driver
