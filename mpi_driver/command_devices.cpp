#include <iostream>

#include <fmt/format.h>

#include "base/errors.hpp"
#include "kernels/engine.hpp"
#include "mpi_driver/commands.hpp"
#include "mpi_driver/device_binding.hpp"
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

  const NodePlace place = node_place_of(comm);
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
  bool any = false;
  kernels::DeviceInfo mine;
  together(comm, [&] {
    any = !devices.empty();
    if (any) mine = kernels::choose_device(devices, {spec, place.rank, 0});
  });
  const std::vector<kernels::DeviceInfo> taken = devices_taken(comm, mine);
  if (!root || !any) return ExitCode::ok;
  for (std::size_t rank = 0; rank < taken.size(); ++rank) {
    std::cout << fmt::format("local rank {} would take {}:{} {}\n", rank, taken[rank].platform, taken[rank].device,
                             taken[rank].name);
  }
  if (const std::string problem = kernels::sharing_problem(taken); !problem.empty()) {
    std::cout << "refused as it stands: " << problem << '\n';
  }
  return ExitCode::ok;
}

}  // namespace annulus::driver
