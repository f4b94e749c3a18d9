// The program `annulus`: starts MPI, runs a subcommand, returns its exit status. It alone may end the process.

#include <mpi.h>

#include <exception>
#include <iostream>
#include <string>
#include <vector>

#include "base/errors.hpp"
#include "mapping/hdf5_setup.hpp"
#include "mpi_driver/commands.hpp"
#include "mpi_driver/version.hpp"

namespace annulus::driver {
namespace {

constexpr const char* usage =
    "usage: annulus COMMAND [options]\n"
    "\n"
    "  map       integrates a raster scan into (slow, fast, radial)\n"
    "  tomo      the same for a tomography: slow = rotation, fast = translation\n"
    "  calibrate finds the geometry from the rings of a reference compound\n"
    "  integrate single images to patterns: text (.xy) or HDF5\n"
    "  simulate  writes a scan with known truth, as a detector would\n"
    "  bench     times each stage alone and the whole chain, on a simulated or a given scan\n"
    "  devices   lists the OpenCL devices and which one each local rank would take\n"
    "\n"
    "annulus COMMAND --help tells a command's options; annulus --version the version.\n"
    "Every command works alone and under mpirun or srun.\n";

ExitCode run(const std::vector<std::string>& arguments, MPI_Comm comm) {
  const bool root = rank_of(comm) == 0;
  const std::string command = arguments.empty() ? "" : arguments.front();
  const std::vector<std::string> rest(arguments.empty() ? arguments.end() : arguments.begin() + 1, arguments.end());
  if (command == "map") return command_map(mapping::ScanKind::map, rest, comm);
  if (command == "tomo") return command_map(mapping::ScanKind::tomo, rest, comm);
  if (command == "calibrate") return command_calibrate(rest, comm);
  if (command == "integrate") return command_integrate(rest, comm);
  if (command == "simulate") return command_simulate(rest, comm);
  if (command == "bench") return command_bench(rest, comm);
  if (command == "devices") return command_devices(rest, comm);
  if (command == "--version" || command == "-V") {
    if (root) std::cout << "annulus " << version << '\n';
    return ExitCode::ok;
  }
  if (command == "--help" || command == "-h") {
    if (root) std::cout << usage;
    return ExitCode::ok;
  }
  if (root) {
    std::cerr << (command.empty() ? "annulus: no command given\n" : "annulus: unknown command \"" + command + "\"\n")
              << usage;
  }
  return ExitCode::bad_input;
}

}  // namespace
}  // namespace annulus::driver

int main(int argc, char** argv) {
  using annulus::driver::ExitCode;
  // HDF5 and MPI are called by the main thread, and HDF5 alone by the loader, never both at once.
  int provided = MPI_THREAD_SINGLE;
  MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &provided);
  ExitCode code = ExitCode::failed;
  try {
    annulus::mapping::setup_hdf5();
    code = annulus::driver::run({argv + 1, argv + argc}, MPI_COMM_WORLD);
  } catch (const annulus::driver::Stop& stop) {
    code = stop.code;
  } catch (const std::exception& error) {
    // Outside every collective step: the other ranks cannot know, so the job must end here.
    std::cerr << "annulus: " << annulus::driver::message_of(error) << std::endl;
    MPI_Abort(MPI_COMM_WORLD, static_cast<int>(ExitCode::failed));
  }
  MPI_Finalize();
  return static_cast<int>(code);
}
