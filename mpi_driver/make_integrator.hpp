// The step that makes every rank ready to integrate: engine, matrix (kept from an earlier run, or built), corrections.
#pragma once

#include <mpi.h>

#include <span>

#include "integrator/integration.hpp"
#include "mpi_driver/compute_options.hpp"

namespace annulus::driver {

/// With a matrix cache every rank looks there, and the first rank of each node saves what it had to build; what is
/// wrong with the cache is told as a warning. `frames`: see Engine::prepare(). Throws Stop on all ranks. Collective.
[[nodiscard]] integrator::Integrator make_integrator(const integrator::IntegrationPlan& plan,
                                                     const ComputeSettings& compute, MPI_Comm comm,
                                                     std::span<const kernels::FrameKind> frames = {});

}  // namespace annulus::driver
