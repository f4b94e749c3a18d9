#include <fcntl.h>
#include <omp.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <ctime>
#include <exception>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iostream>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <thread>

#include <fmt/format.h>

#include "base/errors.hpp"
#include "kernels/bitshuffle.hpp"
#include "kernels/bslz4.hpp"
#include "kernels/reference/stock_bslz4.hpp"
#include "mapping/hdf5_setup.hpp"
#include "mpi_driver/bench_options.hpp"
#include "mpi_driver/clock.hpp"
#include "mpi_driver/commands.hpp"
#include "mpi_driver/device_binding.hpp"
#include "mpi_driver/make_integrator.hpp"
#include "mpi_driver/map_run.hpp"
#include "mpi_driver/version.hpp"
#include "mpi_driver/write_simulation.hpp"

namespace annulus::driver {
namespace {
namespace fs = std::filesystem;
using Json = nlohmann::json;

/// No batch that a program chooses by itself is cut at the end of a line then.
constexpr std::uint64_t points_a_line = 16;

/// A folder of its own, removed at the end with all that is in it.
class ScratchFolder {
 public:
  ScratchFolder() {
    std::string name = (fs::temp_directory_path() / "annulus_bench_XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) {
      throw IoError(fmt::format("{}: cannot make a temporary folder: {}; --folder names another place", name,
                                std::strerror(errno)));
    }
    path_ = name;
  }
  ~ScratchFolder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;
  [[nodiscard]] const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

/// Asks the system to drop a file from its page cache; what has not reached the disk yet would stay, so it goes first.
void forget(const fs::path& file) {
  const int descriptor = ::open(file.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) return;
  ::fdatasync(descriptor);
  ::posix_fadvise(descriptor, 0, 0, POSIX_FADV_DONTNEED);
  ::close(descriptor);
}

/// This rank's frames, as they lie in their files.
struct Chunks {
  std::vector<std::byte> memory;
  std::vector<mapping::EncodedFrame> frames;  ///< those that could be read; their bytes lie in `memory`
  kernels::PixelType type = kernels::PixelType::u16;
  std::size_t pixels = 0;
  std::uint64_t bytes = 0;  ///< of all of them

  [[nodiscard]] std::size_t frame_bytes() const { return pixels * kernels::size_of(type); }
};

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const std::size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : 0.5 * (values[middle - 1] + values[middle]);
}

/// Until all ranks are here; without a core, which is left to those that work.
void wait_asleep(MPI_Comm comm) {
  MPI_Request request = MPI_REQUEST_NULL;
  MPI_Ibarrier(comm, &request);
  for (int done = 0; MPI_Test(&request, &done, MPI_STATUS_IGNORE) == MPI_SUCCESS && done == 0;) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

/// One stage, measured once a round.
struct Stage {
  std::string name;
  std::string backend;  ///< "" = none computes
  std::string device;
  int cores = 0;             ///< that work on it, all ranks together; 0 = a device does
  std::uint64_t frames = 0;  ///< of a round, all ranks together
  std::vector<double> seconds;
  std::vector<double> alone_s;  ///< by rank 0 with its share, in the same rounds; empty where that was not asked for
  Json parts;                   ///< of the last round, where a stage tells them

  [[nodiscard]] double best_s() const { return *std::min_element(seconds.begin(), seconds.end()); }
  [[nodiscard]] double median_s() const { return median(seconds); }
  /// What one core would need for a frame; 0 where no core computes.
  [[nodiscard]] double core_ms_a_frame() const { return best_s() * cores / static_cast<double>(frames) * 1e3; }
};

std::string cpu_name() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    const std::size_t colon = line.find(':');
    if (line.starts_with("model name") && colon != std::string::npos)
      return line.substr(std::min(colon + 2, line.size()));
  }
  return "unknown";
}

std::string time_now() {
  const std::time_t now = std::time(nullptr);
  std::tm utc{};
  ::gmtime_r(&now, &utc);
  char text[32] = {};
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &utc);
  return text;
}

std::string mpi_version() {
  char text[MPI_MAX_LIBRARY_VERSION_STRING] = {};
  int length = 0;
  MPI_Get_library_version(text, &length);
  const std::string all(text, static_cast<std::size_t>(length));
  return all.substr(0, all.find(','));
}

Json machine_json() {
  Json simd = Json::array();
  for (const kernels::SimdPath path : kernels::available_paths()) simd.push_back(kernels::name_of(path));
  Json devices = Json::array();
  for (const kernels::DeviceInfo& device : kernels::list_devices()) {
    devices.push_back({{"name", device.name},
                       {"gpu", device.gpu},
                       {"compute_units", device.compute_units},
                       {"memory_bytes", device.memory_bytes},
                       {"version", device.version},
                       {"platform", device.platform_name}});
  }
  return {{"cpu", cpu_name()},
          {"logical_cores", std::thread::hardware_concurrency()},
          {"memory_bytes",
           static_cast<std::uint64_t>(::sysconf(_SC_PHYS_PAGES)) * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE))},
          {"simd", simd},
          {"opencl_devices", devices}};
}

Json versions_json() {
  return {{"annulus", version},
          {"compiler", fmt::format("{}", __VERSION__)},
          {"hdf5", mapping::hdf5_version()},
          {"lz4", kernels::reference::stock_lz4_version()},
          {"mpi", mpi_version()}};
}

class Bench {
 public:
  Bench(const BenchOptions& options, MPI_Comm comm)
      : options_(options),
        comm_(comm),
        root_(rank_of(comm) == 0),
        ranks_(size_of(comm)),
        threads_(threads_for(options.map.compute)) {}

  void run() {
    together(comm_, [this] { expect_shares(options_.frames); });
    prepare_scan();
    load_chunks();
    add_host_stages();
    for (const std::string& backend : options_.backends) add_backend_stages(backend);
    // In turns: what else goes on in the machine falls on all alike. The first round warms up and is not counted.
    for (std::uint32_t round = 0; round <= options_.repeats; ++round) {
      for (const auto& [index, work] : work_) {
        measure(
            stages_[index], [&work = work] { work(Ranks::all); }, round > 0);
        if (options_.alone)
          measure_alone(
              stages_[index], [&work = work] { work(Ranks::first); }, round > 0);
      }
    }
    if (root_) report();
  }

 private:
  /// Who works; by what it has itself, one rank does the same in either case.
  enum class Ranks : std::uint8_t { all, first };
  using Work = std::function<void(Ranks)>;

  // ------------------------------------------------------------------------------------------------ the scan

  /// Where files go, on every rank.
  fs::path shared_folder() {
    std::vector<std::byte> name;
    together(comm_, [&] {
      if (!root_) return;
      if (options_.folder.empty()) {
        scratch_.emplace();
      } else {
        fs::create_directories(options_.folder);
      }
      const std::string text = scratch_ ? scratch_->path().string() : options_.folder.string();
      const auto* raw = reinterpret_cast<const std::byte*>(text.data());
      name.assign(raw, raw + text.size());
    });
    broadcast(comm_, name);
    const fs::path folder(std::string(reinterpret_cast<const char*>(name.data()), name.size()));
    together(comm_, [&] {
      if (!fs::is_directory(folder)) {
        throw InputError(
            fmt::format("{}: is not seen by all ranks: --folder names a place that all nodes share", folder.string()));
      }
    });
    return folder;
  }

  void prepare_scan() {
    folder_ = shared_folder();
    MapOptions map = options_.map;
    map.fast = std::min<std::uint64_t>(map.compute.batch.value_or(points_a_line), options_.frames);
    if (map.frames.empty()) {
      std::optional<simulation::Simulation> simulated;
      const simulation::SimulationSettings settings = simulated_scan(options_, map.fast);
      together(comm_, [&] { simulated.emplace(settings); });
      if (root_)
        std::cerr << fmt::format("annulus: simulating {} frames in {}", simulated->frames(), folder_.string())
                  << std::endl;
      write_simulation(*simulated, settings.frames_per_file, folder_, comm_);
      map.frames = {folder_ / "scan_master.h5"};
      if (map.integration.poni.empty() && map.integration.geometry_json.empty()) {
        map.integration.poni = folder_ / "geometry.poni";
      }
      if (map.integration.masks.empty()) map.integration.masks = {(folder_ / "mask.tif").string()};
      simulated_ = true;
    }
    map.output = folder_ / "bench_volume.h5";
    map.output_mode = OutputMode::overwrite;
    map.most_frames = options_.frames;
    map.slow = (options_.frames + map.fast - 1) / map.fast;
    preparation_ = prepare_together(map, "annulus bench", Problems(), comm_);
    if (options_.alone) prepare_alone(map);
    std::vector<std::byte> bytes;
    if (root_) bytes = serialise(preparation_->experiment);
    broadcast(comm_, bytes);
    experiment_ = deserialise_experiment(bytes);
    for (const mapping::FrameRun& run : experiment_.frames.runs) files_.insert(run.file);
  }

  /// With --alone: throws InputError unless there are ranks to compare, and a frame for each.
  void expect_shares(std::uint64_t frames) const {
    if (options_.alone && (ranks_ < 2 || frames < static_cast<std::uint64_t>(ranks_))) {
      throw InputError("--alone needs more than one rank, and a frame for each");
    }
  }

  /// Rank 0's share as a scan of its own.
  void prepare_alone(MapOptions map) {
    first_rank_alone([&] {
      expect_shares(preparation_->experiment.frames.frames());
      const std::uint64_t frames = preparation_->experiment.frames.frames() / static_cast<std::uint64_t>(ranks_);
      map.output = folder_ / "bench_volume_alone.h5";
      map.most_frames = frames;
      map.slow = (frames + map.fast - 1) / map.fast;
      alone_ = prepare_together(map, "annulus bench", Problems(), MPI_COMM_SELF);
    });
  }

  /// This rank's part of the frames: as many as any other's, one after the other.
  [[nodiscard]] std::pair<std::uint64_t, std::uint64_t> share() const {
    const std::uint64_t frames = experiment_.frames.frames();
    const auto rank = static_cast<std::uint64_t>(rank_of(comm_));
    const auto ranks = static_cast<std::uint64_t>(ranks_);
    return {frames * rank / ranks, frames * (rank + 1) / ranks};
  }

  void load_chunks() {
    together(comm_, [&] {
      mapping::FrameReader reader(experiment_.frames);
      const auto [first, end] = share();
      read_.resize(end - first);
      reader.fetch(first, read_, chunks_.memory, threads_);
      chunks_.pixels = experiment_.frames.pixels();
      for (const mapping::EncodedFrame& frame : read_) {
        if (frame.status != mapping::FrameStatus::ok) continue;
        if (!chunks_.frames.empty() && frame.type != chunks_.type) {
          throw InputError("the frames have different pixel types: bench takes one");
        }
        chunks_.type = frame.type;
        chunks_.bytes += frame.bytes.size();
        chunks_.frames.push_back(frame);
      }
      if (chunks_.frames.empty()) throw InputError("a rank has no frame that can be read: fewer ranks, or more frames");
      for (const mapping::EncodedFrame& frame : chunks_.frames) {
        all_compressed_ = all_compressed_ && frame.encoding == kernels::Encoding::bslz4;
      }
    });
    std::uint64_t mine[3] = {chunks_.frames.size(), chunks_.bytes, all_compressed_ ? 0U : 1U};
    std::uint64_t all[3] = {};
    MPI_Allreduce(mine, all, 3, MPI_UINT64_T, MPI_SUM, comm_);
    frames_ = all[0];
    encoded_bytes_ = all[1];
    all_compressed_ = all[2] == 0;
  }

  // ------------------------------------------------------------------------------------------------ the stages

  std::size_t add(std::string name, int cores, Work work) {
    Stage stage;
    stage.name = std::move(name);
    stage.cores = cores;
    stage.frames = frames_;
    stages_.push_back(std::move(stage));
    work_.emplace_back(stages_.size() - 1, std::move(work));
    return stages_.size() - 1;
  }

  /// All ranks are ready; the files are as cold as was asked for.
  void start_together(const Stage& stage) const {
    if (options_.cold && stage.name != "decode" && root_) {
      for (const fs::path& file : files_) forget(file);
    }
    MPI_Barrier(comm_);
  }

  /// Runs a stage on all ranks at once; the slowest counts.
  void measure(Stage& stage, const std::function<void()>& work, bool counted) {
    start_together(stage);
    double seconds = now_s();
    together(comm_, work);
    seconds = now_s() - seconds;
    double slowest = 0.0;
    MPI_Allreduce(&seconds, &slowest, 1, MPI_DOUBLE, MPI_MAX, comm_);
    if (counted) stage.seconds.push_back(frames_s_.value_or(slowest));
    frames_s_.reset();
  }

  /// Runs a stage on rank 0, while the others sleep.
  void measure_alone(Stage& stage, const std::function<void()>& work, bool counted) {
    start_together(stage);
    double seconds = 0.0;
    first_rank_alone([&] {
      const double start = now_s();
      work();
      seconds = now_s() - start;
    });
    if (counted) stage.alone_s.push_back(frames_s_.value_or(seconds));
    frames_s_.reset();
  }

  /// Has rank 0 do something while the others sleep. Throws Stop on every rank when it fails. Collective.
  void first_rank_alone(const std::function<void()>& work) {
    std::exception_ptr failure;
    try {
      if (root_) work();
    } catch (const Stop&) {  // rank 0 has told its own reason
      failure = std::make_exception_ptr(IoError("the first rank cannot go on alone"));
    } catch (...) {
      failure = std::current_exception();
    }
    wait_asleep(comm_);
    together(comm_, [&] {
      if (failure) std::rethrow_exception(failure);
    });
  }

  void add_host_stages() {
    if (all_compressed_) {
      floor_ = add("floor: stock LZ4, unshuffle", ranks_, [this](Ranks) {
        const kernels::SimdPath path = kernels::available_paths().back();
        floor_out_.resize(chunks_.frame_bytes());
        for (const mapping::EncodedFrame& frame : chunks_.frames) {
          expect_decoded(
              kernels::reference::decode_stock_bslz4(path, frame.bytes, kernels::size_of(chunks_.type), floor_out_));
        }
      });
    }
    add("read", ranks_ * threads_, [this](Ranks) {
      mapping::FrameReader reader(experiment_.frames);  // new each time: opening files and finding chunks is part of it
      const auto [first, end] = share();
      for (std::uint64_t begin = first; begin < end; begin += experiment_.batch) {
        const std::uint64_t count = std::min<std::uint64_t>(experiment_.batch, end - begin);
        reader.fetch(begin, std::span(read_).subspan(begin - first, count), read_memory_, threads_);
      }
    });
    add("decode", ranks_ * threads_, [this](Ranks) {
      decoded_.resize(static_cast<std::size_t>(threads_));
      const auto count = static_cast<std::ptrdiff_t>(chunks_.frames.size());
      bool good = true;
#pragma omp parallel for num_threads(threads_) schedule(dynamic, 1) reduction(&& : good)
      for (std::ptrdiff_t index = 0; index < count; ++index) {
        std::vector<std::byte>& out = decoded_[static_cast<std::size_t>(omp_get_thread_num())];
        out.resize(chunks_.frame_bytes());
        good = good && kernels::decode(chunks_.frames[static_cast<std::size_t>(index)].view(),
                                       kernels::size_of(chunks_.type), out) == kernels::DecodeStatus::ok;
      }
      if (!good) throw InputError("a frame of the scan cannot be decoded: bench takes good frames");
    });
  }

  static void expect_decoded(kernels::DecodeStatus status) {
    if (status != kernels::DecodeStatus::ok) {
      throw InputError("a frame of the scan cannot be decoded: bench takes good frames");
    }
  }

  /// What belongs to one backend; stays where it is for as long as its stages are run.
  struct Contender {
    Experiment experiment;
    Experiment alone;  ///< rank 0's share, where that is asked for
    integrator::Integrator integrator;
    std::vector<std::vector<float>> results;  ///< [slots]
    std::vector<std::byte> resident;          ///< [batch, pixels]
    std::size_t resident_frames = 0;
  };

  void add_backend_stages(const std::string& name) {
    Experiment experiment = experiment_;
    experiment.compute.backend = std::nullopt;
    for (const auto backend : {kernels::Backend::reference, kernels::Backend::openmp, kernels::Backend::opencl}) {
      if (name == kernels::name_of(backend)) experiment.compute.backend = backend;
    }
    const double start = now_s();
    integrator::Integrator integrator =
        make_integrator(experiment.plan, experiment.compute, comm_, frame_kinds(experiment));
    const double matrix_s = now_s() - start;
    contenders_.push_back(
        std::make_unique<Contender>(Contender{std::move(experiment), {}, std::move(integrator), {}, {}, 0}));
    Contender& contender = *contenders_.back();
    if (alone_) {
      contender.alone = alone_->experiment;
      contender.alone.compute = contender.experiment.compute;
    }
    const bool device = contender.integrator.engine().backend() == kernels::Backend::opencl;
    const bool serial = contender.integrator.engine().backend() == kernels::Backend::reference;
    const int cores = device ? 0 : serial ? ranks_ : ranks_ * threads_;
    const auto describe = [&](std::size_t index) {
      stages_[index].backend = kernels::name_of(contender.integrator.engine().backend());
      stages_[index].device = contender.integrator.engine().device_name();
      stages_[index].parts["matrix_s"] = matrix_s;
    };
    describe(
        add("decode + product", cores, [this, &contender, device](Ranks) { decode_and_multiply(contender, device); }));
    describe(add("product", cores, [this, &contender](Ranks) { multiply(contender); }));
    const std::size_t whole = add("file to volume", cores, {});
    stages_[whole].frames = experiment_.frames.frames();
    work_.back().second = [this, &contender, whole](Ranks ranks) { whole_chain(contender, stages_[whole], ranks); };
    describe(whole);
  }

  [[nodiscard]] kernels::Patterns patterns_of(Contender& contender, std::vector<float>& values,
                                              std::size_t frames) const {
    const std::size_t each = frames * contender.integrator.rows();
    const bool errors = contender.integrator.has_errors();
    values.resize(each * (1U + (errors ? 1U : 0U) + (experiment_.std ? 1U : 0U)));
    const std::span all(values);
    return {all.first(each), errors ? all.subspan(each, each) : std::span<float>(),
            experiment_.std ? all.last(each) : std::span<float>()};
  }

  /// Every chunk through the engine, as many batches on their way as it has slots.
  void decode_and_multiply(Contender& contender, bool device) {
    integrator::Integrator& integrator = contender.integrator;
    const std::size_t slots = integrator.slots();
    contender.results.resize(slots);
    std::vector<std::size_t> waiting(slots, 0);  // frames on their way in each slot
    std::vector<kernels::EncodedFrame> views;
    std::vector<kernels::DecodeStatus> status;
    const std::vector<double> monitor(experiment_.batch, 1.0);
    const auto collect = [&](std::size_t slot) {
      if (waiting[slot] == 0) return;
      status.resize(waiting[slot]);
      integrator.collect(slot, patterns_of(contender, contender.results[slot], waiting[slot]), status);
      waiting[slot] = 0;
      for (const kernels::DecodeStatus each : status) expect_decoded(each);
    };
    std::size_t slot = 0;
    for (std::size_t begin = 0; begin < chunks_.frames.size(); begin += experiment_.batch) {
      collect(slot);
      const std::size_t count = std::min<std::size_t>(experiment_.batch, chunks_.frames.size() - begin);
      views.clear();
      for (std::size_t index = 0; index < count; ++index) views.push_back(chunks_.frames[begin + index].view());
      // A device takes them from its own memory on the host, where reading would have put them; a CPU from anywhere.
      if (device) stage(integrator, slot, views);
      integrator.submit(slot, {chunks_.type, chunks_.pixels, views}, std::span(monitor).first(count),
                        {integrator.has_errors(), experiment_.std});
      waiting[slot] = count;
      slot = (slot + 1) % slots;
    }
    for (std::size_t turn = 0; turn < slots; ++turn) collect((slot + turn) % slots);
  }

  void stage(integrator::Integrator& integrator, std::size_t slot, std::vector<kernels::EncodedFrame>& views) const {
    constexpr std::size_t alignment = 64;
    std::vector<std::size_t> places;
    std::size_t bytes = 0;
    for (const kernels::EncodedFrame& view : views) {
      places.push_back(bytes);
      bytes += (view.bytes.size() + alignment - 1) / alignment * alignment;
    }
    const std::span<std::byte> memory = integrator.staging(slot, bytes);
    const auto count = static_cast<std::ptrdiff_t>(views.size());
#pragma omp parallel for num_threads(threads_) schedule(dynamic, 1)
    for (std::ptrdiff_t index = 0; index < count; ++index) {
      const auto number = static_cast<std::size_t>(index);
      const std::span<std::byte> to = memory.subspan(places[number], views[number].bytes.size());
      std::memcpy(to.data(), views[number].bytes.data(), to.size());
      views[number].bytes = to;
    }
  }

  /// Decoded frames in the host's memory times the matrix: one batch, again and again.
  void multiply(Contender& contender) {
    if (contender.resident.empty()) {  // in the first round, which is not counted
      contender.resident_frames = std::min<std::size_t>(experiment_.batch, chunks_.frames.size());
      contender.resident.resize(contender.resident_frames * chunks_.frame_bytes());
      for (std::size_t frame = 0; frame < contender.resident_frames; ++frame) {
        expect_decoded(kernels::decode(
            chunks_.frames[frame].view(), kernels::size_of(chunks_.type),
            std::span(contender.resident).subspan(frame * chunks_.frame_bytes(), chunks_.frame_bytes())));
      }
    }
    contender.results.resize(std::max<std::size_t>(contender.results.size(), 1));
    const std::vector<double> monitor(contender.resident_frames, 1.0);
    for (std::size_t begin = 0; begin < chunks_.frames.size(); begin += contender.resident_frames) {
      const std::size_t count = std::min(contender.resident_frames, chunks_.frames.size() - begin);
      contender.integrator.integrate({contender.resident.data(), chunks_.type, count, chunks_.pixels},
                                     std::span(monitor).first(count),
                                     patterns_of(contender, contender.results[0], count));
    }
  }

  /// As map does it; its own frames alone are timed, since the volume's making is not per frame.
  void whole_chain(Contender& contender, Stage& stage, Ranks ranks) {
    const bool alone = ranks == Ranks::first;
    std::optional<Preparation>& preparation = alone ? alone_ : preparation_;
    const MapRun run =
        run_map(alone ? contender.alone : contender.experiment, root_ ? &*preparation : nullptr, OutputMode::overwrite,
                contender.integrator, ShowProgress::no, alone ? MPI_COMM_SELF : comm_);
    frames_s_ = run.all.total_s;
    if (alone) return;
    stage.parts["create_volume_s"] = run.create_s;
    stage.parts["close_volume_s"] = run.close_s;
    stage.parts["idle_at_end_s"] = run.idle_s;
    stage.parts["fetch_s"] = run.all.fetch_s / ranks_;
    stage.parts["integrate_s"] = run.all.integrate_s / ranks_;
    stage.parts["write_s"] = run.all.write_s / ranks_;
  }

  // ------------------------------------------------------------------------------------------------ the report

  [[nodiscard]] double ratio() const {
    return static_cast<double>(frames_) * static_cast<double>(chunks_.frame_bytes()) /
           static_cast<double>(std::max<std::uint64_t>(encoded_bytes_, 1));
  }

  /// How many times the floor a core takes for a frame; nothing where either is not known.
  [[nodiscard]] std::optional<double> times_floor(const Stage& stage) const {
    if (!floor_ || stage.cores == 0) return std::nullopt;
    return stage.core_ms_a_frame() / stages_[*floor_].core_ms_a_frame();
  }

  /// How many times the frames of rank 0 alone all ranks do in the same time, the median of the rounds.
  [[nodiscard]] std::optional<double> times_one_rank(const Stage& stage) const {
    if (stage.alone_s.empty()) return std::nullopt;
    std::vector<double> times;
    for (std::size_t round = 0; round < stage.seconds.size(); ++round) {
      times.push_back(stage.alone_s[round] / stage.seconds[round]);
    }
    const std::uint64_t frames = experiment_.frames.frames();
    return median(times) * static_cast<double>(frames) /
           static_cast<double>(frames / static_cast<std::uint64_t>(ranks_));
  }

  void report() const {
    const integrator::IntegrationSettings& settings = experiment_.plan.settings;
    std::string text = fmt::format(
        "{} frames of {} x {} {}, {:.2f} MB each in the file, ratio {:.2f}, {}\n{} bins{}, {} splitting, {} error "
        "model; "
        "{}; {} rank{}, {} thread{} each, batches of {}; best and median of {} rounds\n\n",
        frames_, experiment_.frames.rows, experiment_.frames.columns, kernels::name_of(chunks_.type),
        static_cast<double>(encoded_bytes_) / static_cast<double>(frames_) / 1e6, ratio(),
        options_.cold ? "page cache dropped as far as the system does" : "in page cache", settings.bins,
        settings.azimuthal_bins > 0 ? fmt::format(" x {} azimuths", settings.azimuthal_bins) : "",
        kernels::name_of(settings.splitting), kernels::name_of(settings.error_model), cpu_name(), ranks_,
        ranks_ == 1 ? "" : "s", threads_, threads_ == 1 ? "" : "s", experiment_.batch, options_.repeats);
    text += fmt::format("{:<28}{:<11}{:>9}{:>10}{:>12}{:>17}{:>13}{}\n", "stage", "backend", "best s", "median s",
                        "frames/s", "ms a frame, core", "times floor", options_.alone ? "  times one rank" : "");
    Json stages = Json::array();
    for (const Stage& stage : stages_) {
      const std::optional<double> times = times_floor(stage);
      const std::optional<double> scaling = times_one_rank(stage);
      const double rate = static_cast<double>(stage.frames) / stage.best_s();
      text += fmt::format(
          "{:<28}{:<11}{:>9.3f}{:>10.3f}{:>12.1f}{:>17}{:>13}{}\n", stage.name, stage.backend, stage.best_s(),
          stage.median_s(), rate, stage.cores > 0 ? fmt::format("{:.3f}", stage.core_ms_a_frame()) : "-",
          times ? fmt::format("{:.2f}", *times) : "-", scaling ? fmt::format("{:>16.2f}", *scaling) : "");
      Json json = {{"stage", stage.name},
                   {"frames", stage.frames},
                   {"cores", stage.cores},
                   {"seconds", stage.seconds},
                   {"best_s", stage.best_s()},
                   {"median_s", stage.median_s()},
                   {"frames_per_s", rate},
                   {"core_ms_a_frame", stage.cores > 0 ? Json(stage.core_ms_a_frame()) : Json()},
                   {"times_floor", times ? Json(*times) : Json()}};
      if (scaling) json.update({{"alone_s", stage.alone_s}, {"times_one_rank", *scaling}});
      if (!stage.backend.empty())
        json.update({{"backend", stage.backend}, {"device", stage.device}, {"parts", stage.parts}});
      stages.push_back(std::move(json));
    }
    std::cout << text << std::flush;
    if (!options_.json.empty()) write_json(stages);
  }

  void write_json(const Json& stages) const {
    const integrator::IntegrationSettings& settings = experiment_.plan.settings;
    Json files = Json::array();
    for (const fs::path& file : options_.map.frames) files.push_back(file.string());
    const Json json = {{"program", "annulus bench"},
                       {"date", time_now()},
                       {"machine", machine_json()},
                       {"versions", versions_json()},
                       {"scan",
                        {{"simulated", simulated_},
                         {"files", files},
                         {"frames", frames_},
                         {"rows", experiment_.frames.rows},
                         {"columns", experiment_.frames.columns},
                         {"type", kernels::name_of(chunks_.type)},
                         {"encoded_bytes", encoded_bytes_},
                         {"ratio", ratio()}}},
                       {"integration",
                        {{"bins", settings.bins},
                         {"azimuthal_bins", settings.azimuthal_bins},
                         {"unit", settings.unit},
                         {"splitting", kernels::name_of(settings.splitting)},
                         {"error_model", kernels::name_of(settings.error_model)},
                         {"standard_deviation", experiment_.std},
                         {"detector", experiment_.plan.geometry.detector.name}}},
                       {"run",
                        {{"ranks", ranks_},
                         {"threads", threads_},
                         {"batch", experiment_.batch},
                         {"repeats", options_.repeats},
                         {"cache", options_.cold ? "cold" : "warm"}}},
                       {"stages", stages}};
    std::ofstream file(options_.json);
    file << json.dump(2) << '\n';
    if (!file.flush()) throw IoError(fmt::format("--json {}: cannot be written", options_.json.string()));
  }

  const BenchOptions& options_;
  MPI_Comm comm_;
  bool root_;
  int ranks_;
  int threads_;

  std::optional<ScratchFolder> scratch_;  // rank 0
  fs::path folder_;
  bool simulated_ = false;
  std::optional<Preparation> preparation_;  // rank 0
  std::optional<Preparation> alone_;        // rank 0: its share, where that is asked for
  Experiment experiment_;
  std::set<fs::path> files_;

  Chunks chunks_;
  bool all_compressed_ = true;
  std::uint64_t frames_ = 0;         // good ones, of all ranks
  std::uint64_t encoded_bytes_ = 0;  // of those
  std::vector<mapping::EncodedFrame> read_;
  std::vector<std::byte> read_memory_;
  std::vector<std::byte> floor_out_;
  std::vector<std::vector<std::byte>> decoded_;  // [threads]

  std::vector<Stage> stages_;
  std::vector<std::pair<std::size_t, Work>> work_;  // (stage, what it does)
  std::optional<double> frames_s_;                  // what counts of the stage at hand, where that is not all of it
  std::optional<std::size_t> floor_;                // index of its stage
  std::vector<std::unique_ptr<Contender>> contenders_;
};

}  // namespace

ExitCode command_bench(const std::vector<std::string>& arguments, MPI_Comm comm) {
  std::optional<std::string> help;
  BenchOptions options;
  together(comm, [&] {
    Problems problems;
    options = parse_bench_options(arguments, help, problems);
    problems.throw_if_any();
  });
  if (help) {
    if (rank_of(comm) == 0) std::cout << *help;
    return ExitCode::ok;
  }
  Bench(options, comm).run();
  return ExitCode::ok;
}

}  // namespace annulus::driver
