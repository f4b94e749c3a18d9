#include "mpi_driver/device_binding.hpp"

#include <cstddef>
#include <string>

#include "mpi_driver/collective.hpp"

namespace annulus::driver {
namespace {

/// What is sent of a device: everything of one length, so that one call is enough.
struct Sent {
  int platform = 0;
  int device = 0;
  int gpu = 0;
  char name[128] = {};
  char identity[128] = {};
};

void copy_text(const std::string& text, char (&to)[128]) { text.copy(to, sizeof to - 1); }

/// Calls use(communicator of this rank's node). Collective.
template <typename Use>
void on_node(MPI_Comm comm, Use&& use) {
  MPI_Comm node = MPI_COMM_NULL;
  MPI_Comm_split_type(comm, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &node);
  use(node);
  MPI_Comm_free(&node);
}

}  // namespace

NodePlace node_place_of(MPI_Comm comm) {
  NodePlace place;
  on_node(comm, [&](MPI_Comm node) { place = {rank_of(node), size_of(node)}; });
  return place;
}

std::vector<kernels::DeviceInfo> devices_taken(MPI_Comm comm, const kernels::DeviceInfo& mine) {
  Sent sent;
  sent.platform = mine.platform;
  sent.device = mine.device;
  sent.gpu = mine.gpu ? 1 : 0;
  copy_text(mine.name, sent.name);
  copy_text(mine.identity, sent.identity);
  std::vector<Sent> all;
  on_node(comm, [&](MPI_Comm node) {
    all.resize(static_cast<std::size_t>(size_of(node)));
    MPI_Allgather(&sent, sizeof sent, MPI_BYTE, all.data(), sizeof sent, MPI_BYTE, node);
  });
  std::vector<kernels::DeviceInfo> taken;
  for (const Sent& received : all) {
    kernels::DeviceInfo& device = taken.emplace_back();
    device.platform = received.platform;
    device.device = received.device;
    device.gpu = received.gpu != 0;
    device.name = received.name;
    device.identity = received.identity;
  }
  return taken;
}

}  // namespace annulus::driver
