// Which OpenCL device each rank of a node takes, and whether that is one rank to a GPU.
#pragma once

#include <mpi.h>

#include <vector>

#include "kernels/engine.hpp"

namespace annulus::driver {

/// This rank's place among the ranks of its node.
struct NodePlace {
  int rank = 0;
  int ranks = 1;
};
/// Collective.
[[nodiscard]] NodePlace node_place_of(MPI_Comm comm);

/// The devices that the ranks of this rank's node take, in the order of the ranks, on each of them. `mine` is this
/// rank's; what is not needed to compare devices is left out. Collective.
[[nodiscard]] std::vector<kernels::DeviceInfo> devices_taken(MPI_Comm comm, const kernels::DeviceInfo& mine);

}  // namespace annulus::driver
