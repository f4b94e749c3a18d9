#include <algorithm>
#include <iostream>
#include <optional>

#include <fmt/format.h>

#include "base/errors.hpp"
#include "mpi_driver/calibration_step.hpp"
#include "mpi_driver/clock.hpp"
#include "mpi_driver/commands.hpp"
#include "mpi_driver/make_integrator.hpp"
#include "mpi_driver/map_options.hpp"
#include "mpi_driver/map_run.hpp"
#include "mpi_driver/output_lock.hpp"
#include "mpi_driver/preparation.hpp"

namespace annulus::driver {
namespace {

/// What comes before and after the run itself, in seconds of wall time on rank 0.
struct Overheads {
  double launch_s = 0.0;   ///< from the system's start of the process: MPI, libraries
  double prepare_s = 0.0;  ///< rank 0 reads and checks, all look at the frames' files
  double tell_s = 0.0;     ///< the experiment goes to all ranks
  double matrix_s = 0.0;
  bool matrix_loaded = false;
  std::uint64_t peak_bytes = 0;  ///< of the rank that held most
};

void print_table(const MapRun& run, const Overheads& overheads, int ranks, const std::string& device) {
  const Statistics& all = run.all;
  const auto frames = static_cast<double>(std::max<std::uint64_t>(all.processed(), 1));
  std::string text = fmt::format("{:<28}{:>12}{:>18}\n", "stage", "seconds", "ms a frame, rank");
  const auto once = [&](const char* name, double seconds) { text += fmt::format("{:<28}{:>12.3f}\n", name, seconds); };
  const auto stage = [&](const char* name, double seconds) {
    text += fmt::format("{:<28}{:>12.3f}{:>18.3f}\n", name, seconds / ranks, seconds / frames * 1e3);
  };
  once("launch", overheads.launch_s);
  once("read and check input", overheads.prepare_s);
  once("tell all ranks", overheads.tell_s);
  once(overheads.matrix_loaded ? "load matrix" : "build matrix", overheads.matrix_s);
  once("create volume", run.create_s);
  stage("fetch", all.fetch_s);
  stage("decode and integrate", all.integrate_s);
  stage("write", all.write_s);
  once("all frames", all.total_s);
  once("close volume", run.close_s);
  text +=
      fmt::format("start to first frame {:.3f} s, last frame to exit {:.3f} s, at most {:.0f} MB of memory a rank\n",
                  overheads.launch_s + overheads.prepare_s + overheads.tell_s + overheads.matrix_s + run.create_s,
                  run.close_s, static_cast<double>(overheads.peak_bytes) / 1e6);
  text += fmt::format("{} frames by {} rank{} on {}: {:.1f} frames/s\n", all.processed(), ranks, ranks == 1 ? "" : "s",
                      device, static_cast<double>(all.processed()) / std::max(all.total_s, 1e-9));
  std::cout << text << std::flush;
}

void print_bad(const Statistics& all) {
  using mapping::FrameStatus;
  const auto count = [&](FrameStatus status) { return all.frames[static_cast<std::size_t>(status)]; };
  std::cerr << fmt::format(
                   "annulus: {} of {} frames are not ok: {} missing, {} unreadable, {} of wrong shape, {} without a "
                   "valid monitor (see frame_status in the volume)",
                   all.bad(), all.processed(), count(FrameStatus::missing), count(FrameStatus::unreadable),
                   count(FrameStatus::wrong_shape), count(FrameStatus::monitor_invalid))
            << std::endl;
}

std::string command_line_of(mapping::ScanKind kind, const std::vector<std::string>& arguments) {
  std::string line = kind == mapping::ScanKind::tomo ? "annulus tomo" : "annulus map";
  for (const std::string& argument : arguments) line += " " + argument;
  return line;
}

}  // namespace

ExitCode command_map(mapping::ScanKind kind, const std::vector<std::string>& arguments, MPI_Comm comm) {
  const bool root = rank_of(comm) == 0;
  const int ranks = size_of(comm);
  std::optional<std::string> help;
  MapOptions options;
  Overheads overheads;
  overheads.launch_s = process_age_s();

  // Rank 0 alone reads the command line and what it names; the others learn what they must from it.
  double start = now_s();
  Problems problems;
  together(comm, [&] {
    if (root) options = parse_map_options(kind, arguments, help, problems);
  });
  std::vector<std::byte> course = {std::byte{help.has_value()}, std::byte{options.dry_run},
                                   static_cast<std::byte>(options.output_mode)};
  broadcast(comm, course);
  if (course[0] != std::byte{0}) {
    if (root) std::cout << *help;
    return ExitCode::ok;
  }
  together(comm, [&] {
    if (root) calibrate_scan(options, problems);
  });
  std::optional<Preparation> preparation = prepare_together(options, command_line_of(kind, arguments), problems, comm);
  overheads.prepare_s = now_s() - start;
  if (root) {
    for (const std::string& warning : preparation->warnings) {
      std::cerr << "annulus: warning: " << warning << std::endl;
    }
  }
  if (course[1] != std::byte{0}) {
    if (root) std::cout << describe(*preparation, ranks);
    return ExitCode::ok;
  }
  std::optional<OutputLock> lock;
  together(comm, [&] {
    if (root) lock.emplace(preparation->experiment.output);
  });

  start = now_s();
  std::vector<std::byte> bytes;
  if (root) bytes = serialise(preparation->experiment);
  broadcast(comm, bytes);
  const Experiment experiment = deserialise_experiment(bytes);
  bytes = {};
  overheads.tell_s = now_s() - start;

  start = now_s();
  integrator::Integrator integrator =
      make_integrator(experiment.plan, experiment.compute, comm, frame_kinds(experiment));
  overheads.matrix_s = now_s() - start;
  overheads.matrix_loaded = integrator.matrix_loaded();

  const MapRun run = run_map(experiment, root ? &*preparation : nullptr, static_cast<OutputMode>(course[2]), integrator,
                             ShowProgress::yes, comm);
  const std::uint64_t peak_bytes = peak_memory_bytes();
  MPI_Reduce(&peak_bytes, &overheads.peak_bytes, 1, MPI_UINT64_T, MPI_MAX, 0, comm);
  if (root) {
    const kernels::Engine& engine = integrator.engine();
    for (const std::string& note : engine.notes()) std::cerr << "annulus: " << note << std::endl;
    print_table(run, overheads, ranks, fmt::format("{} ({})", name_of(engine.backend()), engine.device_name()));
    if (run.all.bad() > 0) print_bad(run.all);
  }
  return run.all.bad() > 0 ? ExitCode::finished_with_bad_frames : ExitCode::ok;
}

}  // namespace annulus::driver
