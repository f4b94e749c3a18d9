#include "mpi_driver/compute_options.hpp"

#include <omp.h>

#include <algorithm>
#include <bit>
#include <system_error>

#include <fmt/format.h>

#include "base/errors.hpp"
#include "mpi_driver/option_parsing.hpp"

namespace annulus::driver {
namespace po = boost::program_options;
namespace fs = std::filesystem;
namespace {

std::optional<kernels::Backend> parse_backend(const std::string& name) {
  for (const auto backend : {kernels::Backend::reference, kernels::Backend::openmp, kernels::Backend::opencl}) {
    if (name == kernels::name_of(backend)) return backend;
  }
  if (name == "auto") return std::nullopt;
  throw InputError(fmt::format("--backend: found \"{}\", expected auto, reference, openmp or opencl", name));
}

/// opencl where a GPU is, else openmp: on a CPU our own code is faster than any OpenCL driver's.
kernels::Backend automatic_backend() {
  for (const kernels::DeviceInfo& device : kernels::list_devices()) {
    if (device.gpu && device.float64) return kernels::Backend::opencl;
  }
  return kernels::Backend::openmp;
}

}  // namespace

std::uint32_t cpu_batch(int threads) {
  // Measured on 16 cores, ms a frame of 4 megapixels (uint16, ratio 3.0; 4.9; 28.7) by one rank, frames in page cache:
  // 16 threads in batches of 32: 0.31; 0.28; 0.24, of 64: 0.28; 0.27; 0.22, of 128: 0.28; 0.24; 0.19, of 256: 0.25;
  // 0.23; 0.18. 8 threads 32: 0.52; 0.44; 0.38, 64: 0.45; 0.43; 0.34, 128: 0.44; 0.41; 0.33. Four threads gain up to 8
  // % by more than 32, two and one nothing by more than 16. Each frame takes memory, and blocks of a batch are what
  // ranks share: hence eight a thread, and no more than 128.
  constexpr unsigned frames_a_thread = 8;
  return std::clamp(std::bit_ceil(static_cast<unsigned>(std::max(threads, 1)) * frames_a_thread), 16U, 128U);
}

std::uint32_t opencl_batch(std::uint64_t encoded_bytes) {
  // Measured on an H200 with 16 cores, frames/s with frames of 4 megapixels of uint16 in batches of 8, 16 and 32: 3.0
  // MB encoded: 14,600 to 17,100, 11,200 to 15,100, 11,000 (what was read falls out of the cache before it is sent);
  // 1.8 MB: 17,700, 19,600, 17,000; 0.45 MB: 18,800, 21,500, 22,800. Groups of the product have 8 or 16 frames: powers
  // of two leave none half empty.
  constexpr std::uint64_t batch_bytes = 30'000'000;
  const std::uint64_t fit = batch_bytes / std::max<std::uint64_t>(encoded_bytes, 1);
  return static_cast<std::uint32_t>(std::bit_floor(std::clamp<std::uint64_t>(fit, 8, usual_batch)));
}

po::options_description compute_option_group() {
  const auto text = [] { return po::value<std::string>(); };
  po::options_description group("Computation");
  auto add = group.add_options();
  add("backend", text()->default_value("auto"), "auto, reference, openmp, opencl");
  add("device", text(), "OpenCL device: PLATFORM:DEVICE or part of its name (default: by rank)");
  add("share-device", "several ranks of a node may take one GPU (otherwise refused: each would be slower)");
  add("batch", text(),
      "frames that go through the matrix together (default: 16 to 128, by the threads; OpenCL: 8, 16 or 32, by their "
      "size "
      "in the file)");
  add("threads", text(), "threads of each rank (default: OMP_NUM_THREADS, or all cores)");
  add("matrix-cache", text(), "folder that keeps integration matrices for later runs; made when it is not there");
  return group;
}

ComputeSettings parse_compute_options(const po::variables_map& given, Problems& problems) {
  ComputeSettings compute;
  const auto text = [&](const char* name) { return given[name].as<std::string>(); };
  problems.collect([&] { compute.backend = parse_backend(text("backend")); });
  if (given.count("device") > 0) {
    compute.device = text("device");
    if (text("backend") != "auto" && text("backend") != "opencl") {
      problems.add(fmt::format("--device is for OpenCL, but --backend is {}", text("backend")));
    }
    if (!compute.backend) compute.backend = kernels::Backend::opencl;
  }
  compute.share_device = given.count("share-device") > 0;
  if (given.count("batch") > 0) {
    problems.collect(
        [&] { compute.batch = static_cast<std::uint32_t>(parse_count(text("batch"), "--batch", 1, 4096)); });
  }
  if (given.count("threads") > 0) {
    problems.collect([&] { compute.threads = static_cast<int>(parse_count(text("threads"), "--threads", 1, 4096)); });
  }
  if (given.count("matrix-cache") > 0) {
    compute.matrix_cache = text("matrix-cache");
    std::error_code ignored;
    if (compute.matrix_cache.empty()) {
      problems.add("--matrix-cache is empty, expected a folder");
    } else if (fs::exists(compute.matrix_cache, ignored) && !fs::is_directory(compute.matrix_cache, ignored)) {
      problems.add(fmt::format("--matrix-cache {}: is no folder", compute.matrix_cache.string()));
    }
  }
  return compute;
}

int threads_for(const ComputeSettings& compute) {
  return compute.threads > 0 ? compute.threads : omp_get_max_threads();
}

kernels::Backend backend_for(const ComputeSettings& compute) { return compute.backend.value_or(automatic_backend()); }

kernels::DeviceChoice device_choice_for(const ComputeSettings& compute, int node_rank) {
  kernels::DeviceChoice choice;
  choice.spec = compute.device;
  choice.node_rank = node_rank;
  choice.threads = compute.threads;
  return choice;
}

}  // namespace annulus::driver
