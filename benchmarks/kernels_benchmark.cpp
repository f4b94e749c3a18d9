// The kernels one by one, with Google Benchmark: see README.md for how to run and read them.
#include <benchmark/benchmark.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "benchmarks/workload.hpp"
#include "kernels/bitshuffle.hpp"
#include "kernels/bslz4.hpp"
#include "kernels/reference/stock_bslz4.hpp"

namespace annulus::benchmarks {
namespace {

using kernels::ErrorModel;
using kernels::SimdPath;
using kernels::Splitting;

constexpr std::size_t most_frames = 32;

/// Made when it is first asked for, and kept: seconds of work.
const Workload& workload(Content content) {
  static std::map<Content, Workload> all;
  const auto found = all.find(content);
  return found != all.end() ? found->second : all.try_emplace(content, content, most_frames).first->second;
}

std::string name_of(Content content) {
  return content == Content::dense ? "dense" : content == Content::typical ? "typical" : "sparse";
}

/// Frames/s and bytes/s of decoded pixels.
void count_frames(benchmark::State& state, const Workload& work, std::size_t frames_a_turn) {
  const auto frames = static_cast<std::int64_t>(frames_a_turn) * state.iterations();
  state.SetItemsProcessed(frames);
  state.SetBytesProcessed(frames * static_cast<std::int64_t>(work.frame_bytes()));
  state.counters["ratio"] = work.ratio();
}

void unshuffle(benchmark::State& state, SimdPath path, std::size_t element_size) {
  const std::vector<std::byte> planes(8192);  // a block, as detectors write them
  std::vector<std::byte> elements(planes.size());
  for (auto turn : state) {
    kernels::bit_unshuffle(path, planes, element_size, elements);
    benchmark::DoNotOptimize(elements.data());
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(static_cast<std::int64_t>(planes.size()) * state.iterations());
}

void decode(benchmark::State& state, Content content) {
  const Workload& work = workload(content);
  std::vector<std::byte> out(work.frame_bytes());
  std::size_t frame = 0;
  for (auto turn : state) {
    benchmark::DoNotOptimize(kernels::decode_bslz4(work.chunks[frame], sizeof(std::uint16_t), out));
    frame = (frame + 1) % work.frames();
  }
  count_frames(state, work, 1);
}

void stock_decode(benchmark::State& state, SimdPath path, Content content) {
  const Workload& work = workload(content);
  std::vector<std::byte> out(work.frame_bytes());
  std::size_t frame = 0;
  for (auto turn : state) {
    benchmark::DoNotOptimize(
        kernels::reference::decode_stock_bslz4(path, work.chunks[frame], sizeof(std::uint16_t), out));
    frame = (frame + 1) % work.frames();
  }
  count_frames(state, work, 1);
}

void product(benchmark::State& state, Splitting splitting, ErrorModel error_model) {
  const Workload& work = workload(Content::typical);
  const auto batch = static_cast<std::size_t>(state.range(0));
  integrator::Integrator integrator = make_integrator(work, splitting, error_model, 1);
  Runner runner(work, integrator);
  for (auto turn : state) runner.multiply(batch);
  count_frames(state, work, batch);
}

void decode_and_product(benchmark::State& state, Content content, ErrorModel error_model) {
  const Workload& work = workload(content);
  const auto batch = static_cast<std::size_t>(state.range(0));
  integrator::Integrator integrator = make_integrator(work, Splitting::bbox, error_model, 1);
  Runner runner(work, integrator);
  for (auto turn : state) runner.decode_and_multiply(batch);
  count_frames(state, work, batch);
}

void build_matrix(benchmark::State& state, Splitting splitting) {
  const Workload& work = workload(Content::sparse);
  for (auto turn : state) {
    benchmark::DoNotOptimize(make_integrator(work, splitting, ErrorModel::no, 1).rows());
  }
}

void add_all() {
  using benchmark::kMicrosecond;
  using benchmark::kMillisecond;
  for (const SimdPath path : kernels::available_paths()) {
    for (const std::size_t element_size : {2U, 4U}) {
      benchmark::RegisterBenchmark(
          ("unshuffle/" + std::string(kernels::name_of(path)) + "/" + std::to_string(element_size)).c_str(), unshuffle,
          path, element_size);
    }
  }
  for (const Content content : {Content::dense, Content::typical, Content::sparse}) {
    const std::string kind = name_of(content);
    benchmark::RegisterBenchmark(("decode/" + kind).c_str(), decode, content)->Unit(kMicrosecond);
    for (const SimdPath path : kernels::available_paths()) {
      benchmark::RegisterBenchmark(("stock_decode/" + std::string(kernels::name_of(path)) + "/" + kind).c_str(),
                                   stock_decode, path, content)
          ->Unit(kMicrosecond);
    }
  }
  for (const Splitting splitting : {Splitting::no, Splitting::bbox, Splitting::full}) {
    const std::string name(kernels::name_of(splitting));
    for (const ErrorModel model : {ErrorModel::no, ErrorModel::poisson, ErrorModel::azimuthal}) {
      benchmark::RegisterBenchmark(("product/" + name + "/" + std::string(kernels::name_of(model))).c_str(), product,
                                   splitting, model)
          ->ArgName("batch")
          ->Arg(1)
          ->Arg(16)
          ->Arg(32)
          ->Unit(kMillisecond);
    }
    benchmark::RegisterBenchmark(("build_matrix/" + name).c_str(), build_matrix, splitting)->Unit(kMillisecond);
  }
  for (const Content content : {Content::dense, Content::typical, Content::sparse}) {
    for (const ErrorModel model : {ErrorModel::no, ErrorModel::poisson}) {
      benchmark::RegisterBenchmark(
          ("decode_and_product/" + name_of(content) + "/" + std::string(kernels::name_of(model))).c_str(),
          decode_and_product, content, model)
          ->ArgName("batch")
          ->Arg(32)
          ->Unit(kMillisecond);
    }
  }
}

}  // namespace
}  // namespace annulus::benchmarks

int main(int argc, char** argv) {
  annulus::benchmarks::add_all();
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::AddCustomContext("simd", std::string(annulus::kernels::name_of(annulus::kernels::best_path())));
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}
