#include <algorithm>
#include <iostream>

#include <fmt/format.h>

#include "base/errors.hpp"
#include "kernels/engine.hpp"
#include "mpi_driver/commands.hpp"
#include "mpi_driver/option_parsing.hpp"

namespace annulus::driver {
namespace po = boost::program_options;

ExitCode command_devices(const std::vector<std::string>& arguments, MPI_Comm comm) {
  const bool root = rank_of(comm) == 0;
  po::options_description options("Options");
  options.add_options()("device", po::value<std::string>()->default_value(""), "as for map and tomo")("help,h",
                                                                                                      "show this help");
  bool help = false;
  std::string spec;
  together(comm, [&] {
    const po::variables_map given = parse_arguments(arguments, options, "", {});
    help = given.count("help") > 0;
    spec = given["device"].as<std::string>();
  });
  if (help) {
    if (root) std::cout << "usage: annulus devices [options]\n" << options;
    return ExitCode::ok;
  }

  const int node_rank = node_rank_of(comm);
  const std::vector<kernels::DeviceInfo> devices = kernels::list_devices();
  if (root) {
    if (devices.empty()) std::cout << "no OpenCL device: the backends openmp and reference remain\n";
    for (const kernels::DeviceInfo& device : devices) {
      std::cout << fmt::format("{}:{}  {}  {}  {} units  {:.1f} GB  {}{}  ({})\n", device.platform, device.device,
                               device.name, device.gpu ? "GPU" : "CPU", device.compute_units,
                               static_cast<double>(device.memory_bytes) / 1e9, device.version,
                               device.float64 ? "" : ", no float64", device.platform_name);
    }
  }
  int ranks_here = 0;
  const int last = node_rank + 1;
  MPI_Allreduce(&last, &ranks_here, 1, MPI_INT, MPI_MAX, comm);
  together(comm, [&] {
    if (!root || devices.empty()) return;
    for (int rank = 0; rank < ranks_here; ++rank) {
      kernels::DeviceChoice choice;
      choice.spec = spec;
      choice.node_rank = rank;
      const kernels::DeviceInfo chosen = kernels::choose_device(devices, choice);
      std::cout << fmt::format("local rank {} would take {}:{} {}\n", rank, chosen.platform, chosen.device,
                               chosen.name);
    }
  });
  return ExitCode::ok;
}

}  // namespace annulus::driver
