#include "mpi_driver/write_simulation.hpp"

#include "mpi_driver/collective.hpp"
#include "mpi_driver/progress.hpp"

namespace annulus::driver {

std::uint64_t write_simulation(const simulation::Simulation& simulated, std::uint64_t frames_per_file,
                               const std::filesystem::path& folder, MPI_Comm comm) {
  const bool root = rank_of(comm) == 0;
  std::uint64_t bytes = 0;
  SharedCounter counter(comm);
  Progress progress(simulated.frames(), root);
  together(comm, [&] {
    if (root) simulated.write_companions(folder);
    for (std::uint64_t file = counter.take(); file < simulated.data_files(); file = counter.take()) {
      progress.update(file * frames_per_file);
      bytes += simulated.write_data_file(file, folder);
    }
  });
  progress.finish();
  std::uint64_t all_bytes = 0;
  MPI_Reduce(&bytes, &all_bytes, 1, MPI_UINT64_T, MPI_SUM, 0, comm);
  return all_bytes;
}

}  // namespace annulus::driver
