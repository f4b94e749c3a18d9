#include "mapping/frame_source.hpp"

#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <list>
#include <memory>
#include <utility>

#include "base/errors.hpp"
#include "mapping/hdf5_dataset_reader.hpp"
#include "mapping/input_file.hpp"
#include "mapping/tiff_frames.hpp"

namespace annulus::mapping {

namespace {

// Frames come in scan order, so one or two files are in use at a time; interleaved virtual datasets use a few more.
constexpr std::size_t max_open_files = 8;

/// The directories of a TIFF file of many pages: without them, reaching page n means reading n directories.
struct PageTable {
  std::filesystem::path file;
  std::vector<std::uint64_t> pages;  ///< Empty when the file is damaged.
};

/// Moves the element that fits to the front and returns it; nullptr when there is none.
template <typename Element, typename Fits>
[[nodiscard]] Element* use(std::list<Element>& recent, Fits&& fits) {
  const auto found = std::find_if(recent.begin(), recent.end(), fits);
  if (found == recent.end()) return nullptr;
  recent.splice(recent.begin(), recent, found);
  return &recent.front();
}

/// Frames begin at multiples of this: wide enough for any vector load.
constexpr std::size_t frame_alignment = 64;

/// Threads read a frame's bytes in pieces of this many, so that none waits for the last frame of another: 14 threads on
/// 16 cores copied 51 to 57 GB/s out of the page cache in pieces of 256 KiB, 41 to 49 with a frame (2.9 MB) a piece.
constexpr std::size_t piece_bytes = std::size_t{128} << 10;

/// How often this thread has given up its core to wait for something.
long sleeps_of_thread() {
  rusage usage{};
  ::getrusage(RUSAGE_THREAD, &usage);
  return usage.ru_nvcsw;
}

/// A part of one job, for one thread.
struct Piece {
  std::size_t job = 0;
  std::size_t first = 0;
  std::size_t bytes = 0;
};

}  // namespace

/// What is left to do for a frame when all HDF5 calls are done: work for any thread.
struct FrameReader::Plan::Job {
  enum class Kind : std::uint8_t { nothing, bytes, tiff, held };
  Kind kind = Kind::nothing;
  FrameStatus status = FrameStatus::missing;
  kernels::PixelType type = kernels::PixelType::u16;
  kernels::Encoding encoding;
  std::shared_ptr<const FileDescriptor> descriptor;  ///< bytes
  std::uint64_t offset = 0;                          ///< bytes: in the file; tiff: the page's directory
  std::vector<std::byte> held;                       ///< held: what came through HDF5
  const FrameRun* run = nullptr;
  std::size_t bytes = 0;
  std::size_t place = 0;  ///< in the memory to read into
};

struct FrameReader::Impl {
  using Job = Plan::Job;

  FrameList list;
  std::vector<std::uint64_t> ends;  ///< [runs] number of the frame behind each run.
  std::list<hdf5::DatasetReader> datasets;
  std::list<PageTable> tables;

  explicit Impl(FrameList frames) : list(std::move(frames)) {
    std::uint64_t end = 0;
    ends.reserve(list.runs.size());
    for (const FrameRun& run : list.runs) ends.push_back(end += run.frames);
  }

  /// Index of the run that holds a frame; list.runs.size() beyond the last.
  [[nodiscard]] std::size_t run_of(std::uint64_t frame) const {
    return static_cast<std::size_t>(std::upper_bound(ends.begin(), ends.end(), frame) - ends.begin());
  }

  [[nodiscard]] hdf5::DatasetReader& dataset(const FrameRun& run) {
    auto* found = use(datasets, [&](const hdf5::DatasetReader& reader) { return reader.is_for(run); });
    if (found != nullptr) return *found;
    if (datasets.size() >= max_open_files) datasets.pop_back();
    return datasets.emplace_front(run, list.rows, list.columns);
  }

  [[nodiscard]] const PageTable& pages(const FrameRun& run) {
    if (auto* found = use(tables, [&](const PageTable& table) { return table.file == run.file; })) return *found;
    if (tables.size() >= max_open_files) tables.pop_back();
    PageTable& table = tables.emplace_front();
    table.file = run.file;
    try {
      table.pages = describe_tiff(run.file, open_input(run.file)).pages;
    } catch (const InputError&) {
      table.pages.clear();
    }
    return table;
  }

  void plan_tiff(std::uint64_t index, Job& job) {
    const FrameRun& run = *job.run;
    if (run.frames > 1 || run.first > 0) {
      const PageTable& table = pages(run);
      if (index >= table.pages.size()) {
        job.status = table.pages.empty() ? FrameStatus::unreadable : FrameStatus::missing;
        return;
      }
      job.offset = table.pages[index];
    }
    job.kind = Job::Kind::tiff;
    job.bytes = list.pixels() * kernels::size_of(job.type);
  }

  void plan_hdf5(std::uint64_t index, Job& job) {
    hdf5::DatasetReader& reader = dataset(*job.run);
    const hdf5::DatasetReader::Place place = reader.locate(index);
    job.encoding = place.encoding;
    job.status = place.status;
    if (place.status != FrameStatus::ok) return;
    if (place.storage == Storage::hdf5) {
      job.status = reader.read(index, job.held);
      if (job.status != FrameStatus::ok) return;
      job.kind = Job::Kind::held;
      job.bytes = job.held.size();
      return;
    }
    job.kind = Job::Kind::bytes;
    job.descriptor = reader.descriptor();
    job.offset = place.offset;
    job.bytes = place.bytes;
  }

  /// Everything that needs HDF5, and where the rest is to be found.
  [[nodiscard]] Job plan(std::uint64_t frame) {
    Job job;
    const std::size_t number = run_of(frame);
    if (number == list.runs.size()) return job;
    const FrameRun& run = list.runs[number];
    const std::uint64_t index = run.first + (frame - (ends[number] - run.frames));
    job.run = &run;
    job.type = run.type;
    try {
      run.storage == Storage::tiff ? plan_tiff(index, job) : plan_hdf5(index, job);
    } catch (const std::exception&) {
      job.status = FrameStatus::unreadable;
      job.kind = Job::Kind::nothing;
      job.bytes = 0;
    }
    return job;
  }

  /// Does one piece of a job: all of it, unless its bytes lie in a file.
  [[nodiscard]] FrameStatus carry_out(const Job& job, const Piece& piece, std::span<std::byte> memory) const noexcept {
    const std::span<std::byte> bytes = memory.subspan(job.place + piece.first, piece.bytes);
    try {
      if (job.kind == Job::Kind::tiff) {
        std::vector<std::byte> page;
        const FrameStatus status = read_tiff_frame(job.run->file, job.offset, list.rows, list.columns, job.type, page);
        if (status == FrameStatus::ok) std::copy(page.begin(), page.end(), bytes.begin());
        return status;
      }
      if (job.kind == Job::Kind::bytes) {
        const bool all = read_exactly(job.descriptor->get(), job.offset + piece.first, bytes);
        return all ? FrameStatus::ok : FrameStatus::unreadable;
      }
      if (job.kind == Job::Kind::held) std::copy(job.held.begin(), job.held.end(), bytes.begin());
      return job.status;
    } catch (const std::exception&) {  // Nothing may leave a thread's work.
      return FrameStatus::unreadable;
    }
  }
};

FrameReader::FrameReader(FrameList list) : impl_(std::make_unique<Impl>(std::move(list))) {}
FrameReader::~FrameReader() = default;
FrameReader::FrameReader(FrameReader&&) noexcept = default;
FrameReader& FrameReader::operator=(FrameReader&&) noexcept = default;

const FrameList& FrameReader::list() const { return impl_->list; }

kernels::PixelType FrameReader::type_of(std::uint64_t frame) const {
  const std::size_t number = impl_->run_of(frame);
  ANNULUS_EXPECT(number < impl_->list.runs.size());
  return impl_->list.runs[number].type;
}

FrameReader::Plan FrameReader::plan(std::uint64_t first, std::size_t count) {
  Plan plan;
  plan.jobs_ = std::make_shared<std::vector<Plan::Job>>();
  plan.jobs_->reserve(count);
  for (std::size_t index = 0; index < count; ++index) {
    Plan::Job job = impl_->plan(first + index);
    job.place = plan.bytes_;
    plan.bytes_ += (job.bytes + frame_alignment - 1) / frame_alignment * frame_alignment;
    plan.jobs_->push_back(std::move(job));
  }
  return plan;
}

bool FrameReader::read(const Plan& plan, std::span<std::byte> memory, std::span<EncodedFrame> out, int threads) const {
  ANNULUS_EXPECT(plan.jobs_ != nullptr && plan.jobs_->size() == out.size() && memory.size() >= plan.bytes());
  const std::vector<Plan::Job>& jobs = *plan.jobs_;
  std::vector<Piece> pieces;
  for (std::size_t job = 0; job < jobs.size(); ++job) {
    const std::size_t step = jobs[job].kind == Plan::Job::Kind::bytes ? piece_bytes : jobs[job].bytes;
    std::size_t first = 0;
    do {
      pieces.push_back({job, first, std::min(step, jobs[job].bytes - first)});
      first += step;
    } while (first < jobs[job].bytes);
  }
  std::vector<std::atomic<FrameStatus>> status(jobs.size());
  for (auto& one : status) one = FrameStatus::ok;
  const auto count = static_cast<std::ptrdiff_t>(pieces.size());
  bool slept = false;
#pragma omp parallel num_threads(std::max(threads, 1)) if (threads > 1) reduction(|| : slept)
  {
    const long sleeps = sleeps_of_thread();
#pragma omp for schedule(dynamic) nowait
    for (std::ptrdiff_t index = 0; index < count; ++index) {
      const Piece& piece = pieces[static_cast<std::size_t>(index)];
      const FrameStatus found = impl_->carry_out(jobs[piece.job], piece, memory);
      if (found != FrameStatus::ok) status[piece.job] = found;
    }
    slept = sleeps_of_thread() != sleeps;
  }
  for (std::size_t job = 0; job < jobs.size(); ++job) {
    out[job] = {status[job], jobs[job].type, jobs[job].encoding, {}};
    if (status[job] == FrameStatus::ok) out[job].bytes = memory.subspan(jobs[job].place, jobs[job].bytes);
  }
  return slept;
}

bool FrameReader::map(const Plan& plan, FilePages& pages, std::span<EncodedFrame> out) const {
  ANNULUS_EXPECT(plan.jobs_ != nullptr && plan.jobs_->size() == out.size());
  std::vector<FilePart> parts;
  for (const Plan::Job& job : *plan.jobs_) {
    if (job.kind == Plan::Job::Kind::nothing) continue;
    // Pixels are read as they lie there.
    const std::size_t alignment = job.encoding == kernels::Encoding::raw ? kernels::size_of(job.type) : 1;
    if (job.kind != Plan::Job::Kind::bytes || job.offset % alignment != 0) return false;
    parts.push_back({job.descriptor->get(), job.offset, job.bytes});
  }
  if (!pages.map(parts)) return false;
  std::size_t part = 0;
  for (std::size_t index = 0; index < out.size(); ++index) {
    const Plan::Job& job = (*plan.jobs_)[index];
    const bool exists = job.kind != Plan::Job::Kind::nothing;
    out[index] = {exists ? FrameStatus::ok : job.status, job.type, job.encoding, {}};
    if (exists) out[index].bytes = pages[part++];
  }
  return true;
}

void FrameReader::fetch(std::uint64_t first, std::span<EncodedFrame> out, std::vector<std::byte>& memory, int threads) {
  const Plan planned = plan(first, out.size());
  memory.resize(std::max(memory.size(), planned.bytes()));
  read(planned, memory, out, threads);
}

FrameStatus status_of(kernels::DecodeStatus status) {
  switch (status) {
    case kernels::DecodeStatus::ok: return FrameStatus::ok;
    case kernels::DecodeStatus::wrong_size: return FrameStatus::wrong_shape;
    case kernels::DecodeStatus::truncated:
    case kernels::DecodeStatus::corrupt: return FrameStatus::unreadable;
  }
  return FrameStatus::unreadable;
}

FrameStatus decode(const EncodedFrame& frame, std::span<std::byte> out) {
  if (frame.status != FrameStatus::ok) return frame.status;
  return status_of(kernels::decode(frame.view(), kernels::size_of(frame.type), out));
}

}  // namespace annulus::mapping
