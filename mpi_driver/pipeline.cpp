#include "mpi_driver/pipeline.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <condition_variable>
#include <deque>
#include <functional>
#include <future>
#include <limits>
#include <memory>
#include <mutex>
#include <numeric>
#include <optional>
#include <thread>
#include <utility>

#include "kernels/lz4_block.hpp"
#include "mpi_driver/clock.hpp"

namespace annulus::driver {
namespace {
using mapping::FrameStatus;

/// How many threads of a rank read.
struct Readers {
  /// While others compute. Beside a device that computes by itself stand this thread, which waits for it wide awake,
  /// and the driver's own: readers that lose their core to them keep the whole team waiting. On a CPU all threads
  /// decode, so one reads for four of them, which is about what both cost: a second team on the same cores would make
  /// each wait for the other.
  int ahead = 1;
  /// By turns with computing; 0 = never, because a device computes.
  int in_turn = 0;
};

Readers readers_for(const ComputeSettings& compute) {
  const int threads = threads_for(compute);
  if (backend_for(compute) == kernels::Backend::opencl) return {threads > 4 ? threads - 2 : threads, 0};
  return {std::max(1, threads / 4), threads};
}

/// Consecutive points of a block in the order of their frames.
struct BatchPlan {
  LineBlock block;
  std::uint64_t first = 0;  ///< point of the block, counted in the order of acquisition
  std::uint64_t points = 0;
  bool last = false;  ///< of its block
  mapping::FrameReader::Plan where;
};

/// A batch on its way; its buffers are used again and again.
struct Batch {
  BatchPlan plan;
  bool waited = false;  ///< for the storage, while it was read
  bool mapped = false;  ///< not read: its bytes are those of `pages`
  mapping::FilePages pages;
  std::vector<mapping::EncodedFrame> encoded;  ///< [points]
  std::vector<FrameStatus> status;             ///< [points]
  kernels::PixelType type = kernels::PixelType::u16;
  // Of the points that go through the engine:
  std::vector<std::uint64_t> points;
  std::vector<kernels::EncodedFrame> frames;
  std::vector<double> monitor;
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

/// One thread that runs tasks one after the other, for as long as it lives: OpenMP keeps a team of threads for each
/// thread that opens parallel regions, so a new thread for each batch would start a new team for each batch.
class LoaderThread {
 public:
  LoaderThread() : thread_([this](const std::stop_token& stop) { loop(stop); }) {}

  std::future<void> start(std::function<void()> work) {
    std::packaged_task<void()> task(std::move(work));
    std::future<void> done = task.get_future();
    {
      const std::lock_guard lock(mutex_);
      tasks_.push_back(std::move(task));
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
        wake_.wait(lock, stop, [this] { return !tasks_.empty(); });
        if (stop.stop_requested()) return;
        task = std::move(tasks_.front());
        tasks_.pop_front();
      }
      task();
    }
  }

  std::mutex mutex_;
  std::condition_variable_any wake_;
  std::deque<std::packaged_task<void()>> tasks_;
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
        readers_(readers_for(experiment.compute)),
        read_ahead_(readers_.in_turn == 0) {}

  Statistics run() {
    const double start = now_s();
    batches_.resize(integrator_.slots());
    // Batch k goes through slot k modulo the slots. While it is started, batch k + 1 is being loaded and batch k + 2
    // waits for the loader, which so never waits for this thread; then batch k - lag is collected, which empties the
    // slot of batch k + 2. By turns there is one batch at a time.
    const std::uint64_t slots = batches_.size();
    const std::uint64_t lag = slots - 2;
    std::deque<std::future<void>> loads;
    std::uint64_t planned = 0;
    std::uint64_t started = 0;
    std::uint64_t collected = 0;
    const auto start_loads = [&] {
      // Nothing is on its way: the caches may still hold the first slot's memory.
      if (collected == planned) planned = started = collected = 0;
      while (loads.size() < (read_ahead_ ? 2 : 1) && planned - collected < slots && plan_next()) {
        const std::size_t slot = planned++ % slots;
        batches_[slot].plan = *std::exchange(following_, std::nullopt);
        loads.push_back(start_loading(slot));
      }
      if (read_ahead_) plan_next();  // the loader need not wait for HDF5 then
    };
    start_loads();
    while (!loads.empty()) {
      loads.front().get();
      loads.pop_front();
      if (reads_ahead(batches_[started % slots])) start_loads();
      submit(started % slots);
      if (started - collected >= lag) collect(collected++ % slots);
      ++started;
      start_loads();
    }
    while (collected < started) collect(collected++ % slots);
    statistics_.total_s = now_s() - start;
    statistics_.fetch_s = fetch_s_;
    return statistics_;
  }

 private:
  /// Has a batch read into its slot: by the loader, or by this thread in the moment that it asks for it; or mapped.
  [[nodiscard]] std::future<void> start_loading(std::size_t slot) {
    if (read_ahead_) return loader_.start([this, slot] { load(slot, readers_.ahead); });
    return std::async(std::launch::deferred, [this, slot] {
      if (!map(slot)) load(slot, readers_.in_turn);
    });
  }

  /// Whether those behind a batch are read while it is computed. Copies out of the page cache take cores that would
  /// rather compute, and two threads that share a core lose its caches to each other: then the bytes are not copied at
  /// all, or the same threads read and compute by turns. Where somebody had to wait, the storage works by itself
  /// meanwhile.
  bool reads_ahead(const Batch& batch) {
    read_ahead_ = readers_.in_turn == 0 || batch.waited;
    return read_ahead_;
  }

  /// Finds the next points to do, unless they are known: of the block at hand, or of the next one that nobody has
  /// claimed. False at the end.
  bool plan_next() {
    if (following_) return true;
    if (!claimed_ || claimed_done_ == claimed_->lines * experiment_.scan.fast) {
      const std::uint64_t index = counter_.take();
      if (index >= experiment_.blocks.size()) return false;
      claimed_ = experiment_.blocks[index];
      claimed_done_ = 0;
      progress_.update(index * claimed_->lines * experiment_.scan.fast);
    }
    const std::uint64_t points = claimed_->lines * experiment_.scan.fast;
    BatchPlan& plan = following_.emplace();
    plan.block = *claimed_;
    plan.first = claimed_done_;
    plan.points = std::min<std::uint64_t>(experiment_.batch, points - claimed_done_);
    // A batch holds one pixel type.
    const std::int64_t frame = frame_of(plan.block, plan.first);
    for (std::uint64_t point = 1; point < plan.points; ++point) {
      if (type_of(frame + static_cast<std::int64_t>(point)) != type_of(frame)) plan.points = point;
    }
    claimed_done_ += plan.points;
    plan.last = claimed_done_ == points;
    locate(plan);
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

  /// Points of a batch before the first frame.
  [[nodiscard]] std::uint64_t points_before(const BatchPlan& plan) const {
    const std::int64_t first = frame_of(plan.block, plan.first);
    return std::min<std::uint64_t>(plan.points, first < 0 ? static_cast<std::uint64_t>(-first) : 0);
  }

  /// Finds a batch's frames in their files.
  void locate(BatchPlan& plan) {
    plan.where = {};
    const std::uint64_t before = points_before(plan);
    if (before == plan.points) return;
    const auto first = static_cast<std::uint64_t>(frame_of(plan.block, plan.first + before));
    // HDF5 takes one thread at a time.
    const std::lock_guard lock(hdf5_);
    plan.where = reader_.plan(first, plan.points - before);
  }

  /// Begins a batch; returns those of its points for which there may be frames.
  std::span<mapping::EncodedFrame> begin(Batch& batch) const {
    const BatchPlan& plan = batch.plan;
    batch.waited = false;
    batch.mapped = false;
    batch.encoded.assign(plan.points, {});
    const std::uint64_t before = points_before(plan);
    batch.type = type_of(frame_of(plan.block, plan.first + before));
    return std::span(batch.encoded).subspan(before);
  }

  /// Maps a batch's frames where they lie in the page cache; false where they do not, or may not be mapped.
  bool map(std::size_t slot) {
    if (!may_map_) return false;
    Batch& batch = batches_[slot];
    const std::span<mapping::EncodedFrame> existing = begin(batch);
    batch.mapped = !existing.empty() && reader_.map(batch.plan.where, batch.pages, existing);
    return batch.mapped;
  }

  /// Reads a batch into its slot's memory.
  void load(std::size_t slot, int threads) {
    Batch& batch = batches_[slot];
    const BatchPlan& plan = batch.plan;
    const std::span<mapping::EncodedFrame> existing = begin(batch);
    const std::span<std::byte> memory = integrator_.staging(slot, plan.where.bytes() + kernels::lz4_slack);
    const double start = now_s();
    batch.waited = !existing.empty() && reader_.read(plan.where, memory, existing, threads);
    fetch_s_ = fetch_s_ + (now_s() - start);
  }

  /// Hands the good frames of a loaded batch to the engine.
  void submit(std::size_t slot) {
    const double start = now_s();
    Batch& batch = batches_[slot];
    batch.status.resize(batch.plan.points);
    batch.points.clear();
    batch.frames.clear();
    batch.monitor.clear();
    for (std::uint64_t point = 0; point < batch.plan.points; ++point) {
      const double monitor = monitor_of(batch.plan, point);
      batch.status[point] = batch.encoded[point].status;
      if (batch.status[point] != FrameStatus::ok) continue;
      if (!std::isfinite(monitor) || monitor <= 0.0) {
        batch.status[point] = FrameStatus::monitor_invalid;
        continue;
      }
      batch.points.push_back(point);
      batch.frames.push_back(batch.encoded[point].view());
      batch.monitor.push_back(monitor);
    }
    if (!batch.frames.empty()) {
      integrator_.submit(slot, {batch.type, reader_.list().pixels(), batch.frames}, batch.monitor,
                         {integrator_.has_errors(), experiment_.std});
    }
    statistics_.integrate_s += now_s() - start;
  }

  [[nodiscard]] double monitor_of(const BatchPlan& plan, std::uint64_t point) const {
    return experiment_.monitor[plan.block.first * experiment_.scan.fast + cell_of(plan.block, plan.first + point)];
  }

  /// Waits for a batch, puts its results in their places of the block, and writes a block that is complete.
  void collect(std::size_t slot) {
    const double start = now_s();
    Batch& batch = batches_[slot];
    const BatchPlan& plan = batch.plan;
    const std::size_t points = plan.block.lines * experiment_.scan.fast;
    const std::size_t rows = integrator_.rows();
    if (plan.first == 0) {
      block_.fill(points * rows, integrator_.has_errors(), experiment_.std, std::numeric_limits<float>::quiet_NaN());
      block_status_.assign(points, FrameStatus::not_processed);
    }
    if (!batch.frames.empty()) {
      compute(slot);
      if (batch.mapped && !give_pages_back(batch)) {
        load(slot, readers_.in_turn);
        submit(slot);
        if (!batch.frames.empty()) compute(slot);
      }
      for (std::size_t frame = 0; frame < batch.frames.size(); ++frame) {
        const std::uint64_t point = batch.points[frame];
        batch.status[point] = mapping::status_of(decoded_[frame]);
        if (batch.status[point] != FrameStatus::ok) continue;
        block_.take(cell_of(plan.block, plan.first + point) * rows, results_, frame * rows, rows);
      }
    }
    for (std::uint64_t point = 0; point < plan.points; ++point) {
      block_status_[cell_of(plan.block, plan.first + point)] = batch.status[point];
      ++statistics_.frames[static_cast<std::size_t>(batch.status[point])];
    }
    statistics_.integrate_s += now_s() - start;
    if (plan.last) write(plan.block);
  }

  /// Ends a batch's mapping. False when its results are void, since a file shrank or its device failed: reading tells
  /// of which frames.
  bool give_pages_back(Batch& batch) {
    may_map_ = batch.pages.intact();
    batch.pages.clear();
    return may_map_;
  }

  /// Waits for the patterns of a batch that was handed to the engine.
  void compute(std::size_t slot) {
    const std::size_t frames = batches_[slot].frames.size();
    const std::size_t values = frames * integrator_.rows();
    results_.resize(values, integrator_.has_errors(), experiment_.std);
    decoded_.resize(frames);
    integrator_.collect(slot, {results_.intensity, results_.sem, results_.std}, decoded_);
  }

  void write(const LineBlock& block) {
    const double start = now_s();
    const std::lock_guard lock(hdf5_);
    writer_.write(block.first * experiment_.scan.fast, {block_.intensity, block_.sem, block_.std, block_status_});
    statistics_.write_s += now_s() - start;
  }

  const Experiment& experiment_;
  integrator::Integrator& integrator_;
  mapping::VolumeWriter& writer_;
  SharedCounter& counter_;
  Progress& progress_;
  mapping::FrameReader reader_;
  Readers readers_;
  bool read_ahead_;
  bool may_map_ = true;

  std::optional<LineBlock> claimed_;
  std::uint64_t claimed_done_ = 0;
  std::optional<BatchPlan> following_;  // the batch to be read next, where that is known
  std::mutex hdf5_;
  std::vector<Batch> batches_;                  // [slots]
  Results results_;                             // [frames of a batch, rows]
  std::vector<kernels::DecodeStatus> decoded_;  // [frames of a batch]
  Results block_;                               // [points of the block, rows]
  std::vector<FrameStatus> block_status_;
  std::atomic<double> fetch_s_ = 0.0;
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
