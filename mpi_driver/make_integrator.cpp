#include "mpi_driver/make_integrator.hpp"

#include <omp.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "mapping/matrix_cache.hpp"
#include "mpi_driver/collective.hpp"

namespace annulus::driver {

integrator::Integrator make_integrator(const integrator::IntegrationPlan& plan, const ComputeSettings& compute,
                                       MPI_Comm comm) {
  using mapping::MatrixCache;
  const int node_rank = node_rank_of(comm);
  std::optional<MatrixCache> cache;
  if (!compute.matrix_cache.empty()) {
    cache.emplace(compute.matrix_cache, node_rank == 0 ? MatrixCache::Access::read_and_save : MatrixCache::Access::read,
                  compute.threads > 0 ? compute.threads : omp_get_max_threads());
  }
  std::optional<integrator::Integrator> integrator;
  together(comm, [&] { integrator.emplace(plan, engine_for(compute, node_rank), cache ? &*cache : nullptr); });
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
