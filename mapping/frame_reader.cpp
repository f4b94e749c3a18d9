#include "mapping/frame_source.hpp"

#include <algorithm>
#include <cstring>
#include <exception>
#include <list>
#include <memory>
#include <utility>

#include "base/errors.hpp"
#include "kernels/bslz4.hpp"
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

/// What is left to do for a frame when all HDF5 calls are done: work for any thread.
struct Job {
  enum class Kind : std::uint8_t { nothing, bytes, tiff };
  Kind kind = Kind::nothing;
  std::shared_ptr<const FileDescriptor> descriptor;  ///< bytes
  std::uint64_t offset = 0;                          ///< bytes: in the file; tiff: the page's directory
  std::uint64_t bytes = 0;
  const FrameRun* run = nullptr;
};

/// Moves the element that fits to the front and returns it; nullptr when there is none.
template <typename Element, typename Fits>
[[nodiscard]] Element* use(std::list<Element>& recent, Fits&& fits) {
  const auto found = std::find_if(recent.begin(), recent.end(), fits);
  if (found == recent.end()) return nullptr;
  recent.splice(recent.begin(), recent, found);
  return &recent.front();
}

}  // namespace

struct FrameReader::Impl {
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

  [[nodiscard]] Job plan_tiff(const FrameRun& run, std::uint64_t index, EncodedFrame& out) {
    Job job;
    job.run = &run;
    if (run.frames > 1 || run.first > 0) {
      const PageTable& table = pages(run);
      if (index >= table.pages.size()) {
        out.status = table.pages.empty() ? FrameStatus::unreadable : FrameStatus::missing;
        return job;
      }
      job.offset = table.pages[index];
    }
    job.kind = Job::Kind::tiff;
    return job;
  }

  [[nodiscard]] Job plan_hdf5(const FrameRun& run, std::uint64_t index, EncodedFrame& out) {
    Job job;
    job.run = &run;
    hdf5::DatasetReader& reader = dataset(run);
    const hdf5::DatasetReader::Place place = reader.locate(index);
    out.storage = place.storage;
    out.status = place.status;
    if (place.status != FrameStatus::ok) return job;
    if (place.storage == Storage::hdf5) {
      out.status = reader.read(index, out.bytes);
      return job;
    }
    job.kind = Job::Kind::bytes;
    job.descriptor = reader.descriptor();
    job.offset = place.offset;
    job.bytes = place.bytes;
    return job;
  }

  /// Everything that needs HDF5, and where the rest is to be found.
  [[nodiscard]] Job plan(std::uint64_t frame, EncodedFrame& out) {
    out.status = FrameStatus::missing;
    const std::size_t number = run_of(frame);
    if (number == list.runs.size()) return {};
    const FrameRun& run = list.runs[number];
    const std::uint64_t index = run.first + (frame - (ends[number] - run.frames));
    out.storage = run.storage;
    out.type = run.type;
    try {
      return run.storage == Storage::tiff ? plan_tiff(run, index, out) : plan_hdf5(run, index, out);
    } catch (const std::exception&) {
      out.status = FrameStatus::unreadable;
      return {};
    }
  }

  void carry_out(const Job& job, EncodedFrame& out) const noexcept {
    try {
      if (job.kind == Job::Kind::tiff) {
        out.status = read_tiff_frame(job.run->file, job.offset, list.rows, list.columns, out.type, out.bytes);
      } else if (job.kind == Job::Kind::bytes) {
        out.bytes.resize(job.bytes);
        out.status =
            read_exactly(job.descriptor->get(), job.offset, out.bytes) ? FrameStatus::ok : FrameStatus::unreadable;
      }
    } catch (const std::exception&) {  // Nothing may leave a thread's work.
      out.status = FrameStatus::unreadable;
    }
    if (out.status != FrameStatus::ok) out.bytes.clear();
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

void FrameReader::fetch(std::uint64_t first, std::span<EncodedFrame> out, int threads) {
  std::vector<Job> jobs;
  jobs.reserve(out.size());
  for (std::size_t index = 0; index < out.size(); ++index) jobs.push_back(impl_->plan(first + index, out[index]));

  const auto count = static_cast<std::ptrdiff_t>(out.size());
#pragma omp parallel for schedule(dynamic) num_threads(std::max(threads, 1)) if (threads > 1)
  for (std::ptrdiff_t index = 0; index < count; ++index) {
    const auto number = static_cast<std::size_t>(index);
    impl_->carry_out(jobs[number], out[number]);
  }
}

FrameStatus decode(const EncodedFrame& frame, std::span<std::byte> out) {
  if (frame.status != FrameStatus::ok) return frame.status;
  if (frame.storage == Storage::chunk_bslz4) {
    switch (kernels::decode_bslz4(frame.bytes, kernels::size_of(frame.type), out)) {
      case kernels::DecodeStatus::ok: return FrameStatus::ok;
      case kernels::DecodeStatus::wrong_size: return FrameStatus::wrong_shape;
      case kernels::DecodeStatus::truncated:
      case kernels::DecodeStatus::corrupt: return FrameStatus::unreadable;
    }
    return FrameStatus::unreadable;
  }
  if (frame.bytes.size() != out.size()) return FrameStatus::wrong_shape;
  std::memcpy(out.data(), frame.bytes.data(), out.size());
  return FrameStatus::ok;
}

}  // namespace annulus::mapping
