#include <omp.h>

#include <chrono>
#include <iostream>
#include <optional>

#include <fmt/format.h>

#include "base/errors.hpp"
#include "mapping/volume.hpp"
#include "mpi_driver/commands.hpp"
#include "mpi_driver/make_integrator.hpp"
#include "mpi_driver/map_options.hpp"
#include "mpi_driver/output_lock.hpp"
#include "mpi_driver/pipeline.hpp"
#include "mpi_driver/preparation.hpp"

namespace annulus::driver {
namespace {

double now_s() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

/// Sums and maxima of all ranks' statistics, on every rank. Collective.
Statistics total_of(const Statistics& mine, MPI_Comm comm) {
  Statistics all;
  const double times[4] = {mine.fetch_s, mine.decode_s, mine.integrate_s, mine.write_s};
  double sums[4] = {};
  MPI_Allreduce(times, sums, 4, MPI_DOUBLE, MPI_SUM, comm);
  all.fetch_s = sums[0];
  all.decode_s = sums[1];
  all.integrate_s = sums[2];
  all.write_s = sums[3];
  MPI_Allreduce(&mine.total_s, &all.total_s, 1, MPI_DOUBLE, MPI_MAX, comm);
  MPI_Allreduce(mine.frames.data(), all.frames.data(), static_cast<int>(all.frames.size()), MPI_UINT64_T, MPI_SUM,
                comm);
  return all;
}

struct Preliminaries {
  double prepare_s = 0.0;
  double matrix_s = 0.0;
  bool matrix_loaded = false;
  double create_s = 0.0;
};

void print_table(const Statistics& all, const Preliminaries& before, int ranks, const std::string& device) {
  const auto frames = static_cast<double>(std::max<std::uint64_t>(all.processed(), 1));
  std::string text = fmt::format("{:<28}{:>12}{:>18}\n", "stage", "seconds", "ms a frame, rank");
  const auto once = [&](const char* name, double seconds) { text += fmt::format("{:<28}{:>12.3f}\n", name, seconds); };
  const auto stage = [&](const char* name, double seconds) {
    text += fmt::format("{:<28}{:>12.3f}{:>18.3f}\n", name, seconds / ranks, seconds / frames * 1e3);
  };
  once("read and check input", before.prepare_s);
  once(before.matrix_loaded ? "load matrix" : "build matrix", before.matrix_s);
  once("create volume", before.create_s);
  stage("fetch", all.fetch_s);
  stage("decode", all.decode_s);
  stage("integrate", all.integrate_s);
  stage("write", all.write_s);
  once("all frames", all.total_s);
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
  std::optional<Preparation> preparation;
  MapOptions options;
  Preliminaries before;

  // Rank 0 alone reads the command line and what it names; the others learn what they must from it.
  double start = now_s();
  Problems problems;
  together(comm, [&] {
    if (root) options = parse_map_options(kind, arguments, help, problems);
  });
  std::vector<std::byte> course = {std::byte{help.has_value()}, std::byte{options.dry_run}};
  broadcast(comm, course);
  if (course[0] != std::byte{0}) {
    if (root) std::cout << *help;
    return ExitCode::ok;
  }
  together(comm, [&] {
    if (root) preparation = prepare(options, ranks, command_line_of(kind, arguments), problems);
  });
  before.prepare_s = now_s() - start;
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

  std::vector<std::byte> bytes;
  if (root) bytes = serialise(preparation->experiment);
  broadcast(comm, bytes);
  const Experiment experiment = deserialise_experiment(bytes);
  bytes = {};

  start = now_s();
  integrator::Integrator integrator = make_integrator(experiment.plan, experiment.compute, comm);
  before.matrix_s = now_s() - start;
  before.matrix_loaded = integrator.matrix_loaded();

  start = now_s();
  together(comm, [&] {
    if (!root || options.output_mode == OutputMode::resume) return;
    preparation->description.radial = integrator.radial();
    preparation->description.azimuthal = integrator.azimuthal_deg();
    mapping::create_volume(experiment.output, preparation->description, options.output_mode == OutputMode::overwrite);
  });
  std::optional<mapping::VolumeWriter> writer;
  together(comm, [&] { writer.emplace(experiment.output, comm); });
  before.create_s = now_s() - start;

  Statistics mine;
  std::uint64_t to_do = 0;
  for (const LineBlock& block : experiment.blocks) to_do += block.lines * experiment.scan.fast;
  {
    SharedCounter counter(comm);
    Progress progress(to_do, root);
    // A rank that fails stops; the others finish what is left, so that a resumed run has little to do.
    try {
      together(comm, [&] { mine = run_pipeline(experiment, integrator, *writer, counter, progress); });
    } catch (const Stop&) {
      if (root) std::cerr << "annulus: the volume holds what was done until then; --resume goes on" << std::endl;
      throw;
    }
    progress.finish();
  }
  together(comm, [&] { writer->close(); });
  together(comm, [&] {
    if (root) mapping::finish_volume(experiment.output);
  });

  const Statistics all = total_of(mine, comm);
  if (root) {
    const kernels::Engine& engine = integrator.engine();
    print_table(all, before, ranks, fmt::format("{} ({})", name_of(engine.backend()), engine.device_name()));
    if (all.bad() > 0) print_bad(all);
  }
  return all.bad() > 0 ? ExitCode::finished_with_bad_frames : ExitCode::ok;
}

}  // namespace annulus::driver
