#include "mpi_driver/make_integrator.hpp"

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/errors.hpp"
#include "mapping/matrix_cache.hpp"
#include "mpi_driver/collective.hpp"
#include "mpi_driver/device_binding.hpp"

namespace annulus::driver {
namespace {

/// Refuses several ranks on one GPU, before any of them takes memory there. Throws Stop on all ranks. Collective.
void check_sharing(kernels::Backend backend, const kernels::DeviceChoice& choice, bool share, MPI_Comm comm) {
  kernels::DeviceInfo mine;
  together(comm, [&] {
    if (backend == kernels::Backend::opencl) mine = kernels::choose_device(kernels::list_devices(), choice);
  });
  const std::vector<kernels::DeviceInfo> taken = devices_taken(comm, mine);
  together(comm, [&] {
    const std::string problem = share ? "" : kernels::sharing_problem(taken);
    if (!problem.empty()) throw InputError(problem);
  });
}

}  // namespace

integrator::Integrator make_integrator(const integrator::IntegrationPlan& plan, const ComputeSettings& compute,
                                       MPI_Comm comm, std::span<const kernels::FrameKind> frames) {
  using mapping::MatrixCache;
  const int node_rank = node_place_of(comm).rank;
  std::optional<MatrixCache> cache;
  if (!compute.matrix_cache.empty()) {
    cache.emplace(compute.matrix_cache, node_rank == 0 ? MatrixCache::Access::read_and_save : MatrixCache::Access::read,
                  threads_for(compute));
  }
  const kernels::Backend backend = backend_for(compute);
  const kernels::DeviceChoice choice = device_choice_for(compute, node_rank);
  check_sharing(backend, choice, compute.share_device, comm);
  std::optional<integrator::Integrator> integrator;
  together(comm,
           [&] { integrator.emplace(plan, kernels::make_engine(backend, choice), cache ? &*cache : nullptr, frames); });
  if (cache) {
    std::vector<std::string> warnings = cache->warnings();
    if (integrator->engine().backend() == kernels::Backend::reference) {
      warnings.emplace_back("--matrix-cache: has no use for the reference backend, whose weights are float64");
    }
    tell_warnings(comm, warnings);
  }
  return std::move(*integrator);
}

}  // namespace annulus::driver
