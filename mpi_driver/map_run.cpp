#include "mpi_driver/map_run.hpp"

#include <sys/resource.h>
#include <unistd.h>

#include <ctime>
#include <fstream>
#include <iostream>
#include <iterator>
#include <optional>
#include <sstream>
#include <string>

#include "mpi_driver/clock.hpp"
#include "mpi_driver/collective.hpp"
#include "mpi_driver/device_binding.hpp"
#include "mpi_driver/progress.hpp"

namespace annulus::driver {
namespace {

/// Sums and maxima of all ranks' statistics, on every rank. Collective.
Statistics total_of(const Statistics& mine, MPI_Comm comm) {
  Statistics all;
  const double times[3] = {mine.fetch_s, mine.integrate_s, mine.write_s};
  double sums[3] = {};
  MPI_Allreduce(times, sums, 3, MPI_DOUBLE, MPI_SUM, comm);
  all.fetch_s = sums[0];
  all.integrate_s = sums[1];
  all.write_s = sums[2];
  MPI_Allreduce(&mine.total_s, &all.total_s, 1, MPI_DOUBLE, MPI_MAX, comm);
  MPI_Allreduce(mine.frames.data(), all.frames.data(), static_cast<int>(all.frames.size()), MPI_UINT64_T, MPI_SUM,
                comm);
  return all;
}

}  // namespace

double process_age_s() {
  // Field 22 of /proc/self/stat, counted behind the name in parentheses, which may hold blanks: clock ticks from the
  // system's start to the process's.
  std::ifstream file("/proc/self/stat");
  const std::string text((std::istreambuf_iterator<char>(file)), {});
  std::istringstream fields(text.substr(std::min(text.size(), text.rfind(')') + 1)));
  std::string field;
  for (int number = 3; number <= 22; ++number) fields >> field;
  timespec now{};
  if (!fields || ::clock_gettime(CLOCK_BOOTTIME, &now) != 0) return 0.0;
  const double start_s = std::stod(field) / static_cast<double>(::sysconf(_SC_CLK_TCK));
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec) - start_s;
}

std::uint64_t peak_memory_bytes() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return static_cast<std::uint64_t>(usage.ru_maxrss) * 1024;
}

std::optional<Preparation> prepare_together(const MapOptions& options, const std::string& command_line,
                                            const Problems& problems, MPI_Comm comm) {
  std::optional<Preparation> preparation;
  const int node_ranks = node_place_of(comm).ranks;
  together(comm, [&] {
    if (rank_of(comm) != 0) {
      Crew::serve(comm, mapping::answer_survey);
      return;
    }
    const Crew crew(comm);
    const mapping::SurveyCrew survey{size_of(comm), [&](const std::vector<std::vector<std::byte>>& questions) {
                                       return crew.ask(questions, mapping::answer_survey);
                                     }};
    preparation = prepare(options, size_of(comm), node_ranks, command_line, problems, survey);
  });
  return preparation;
}

MapRun run_map(const Experiment& experiment, Preparation* preparation, OutputMode mode,
               integrator::Integrator& integrator, ShowProgress show, MPI_Comm comm) {
  const bool root = rank_of(comm) == 0;
  MapRun run;
  double start = now_s();
  together(comm, [&] {
    if (!root || mode == OutputMode::resume) return;
    preparation->description.radial = integrator.radial();
    preparation->description.azimuthal = integrator.azimuthal();
    mapping::create_volume(experiment.output, preparation->description, mode == OutputMode::overwrite);
  });
  std::optional<mapping::VolumeWriter> writer;
  together(comm, [&] { writer.emplace(experiment.output, comm); });
  run.create_s = now_s() - start;

  Statistics mine;
  std::uint64_t to_do = 0;
  for (const LineBlock& block : experiment.blocks) to_do += block.lines * experiment.scan.fast;
  {
    SharedCounter counter(comm);
    Progress progress(to_do, root && show == ShowProgress::yes);
    // A rank that fails stops; the others finish what is left, so that a resumed run has little to do.
    try {
      together(comm, [&] { mine = run_pipeline(experiment, integrator, *writer, counter, progress); });
    } catch (const Stop&) {
      if (root) std::cerr << "annulus: the volume holds what was done until then; --resume goes on" << std::endl;
      throw;
    }
    start = now_s();
    progress.finish();
  }
  together(comm, [&] { writer->close(); });
  together(comm, [&] {
    if (root) mapping::finish_volume(experiment.output);
  });
  run.close_s = now_s() - start;
  run.all = total_of(mine, comm);
  double totals_s = 0.0;
  MPI_Allreduce(&mine.total_s, &totals_s, 1, MPI_DOUBLE, MPI_SUM, comm);
  run.idle_s = run.all.total_s - totals_s / size_of(comm);
  return run;
}

}  // namespace annulus::driver
