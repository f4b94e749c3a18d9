// Which of the listed devices is meant: no OpenCL call here, so that it can be tried on made-up lists.
#include "kernels/engine.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <iterator>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "base/errors.hpp"

namespace annulus::kernels {
namespace {

std::string lower_case(std::string_view text) {
  std::string lower(text);
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](unsigned char letter) { return static_cast<char>(std::tolower(letter)); });
  return lower;
}

std::optional<int> number_in(std::string_view text) {
  int number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return number;
}

// "1:0" is platform 1, device 0.
std::optional<std::pair<int, int>> numbers_in(std::string_view spec) {
  const std::size_t colon = spec.find(':');
  if (colon == std::string_view::npos) return std::nullopt;
  const std::optional<int> platform = number_in(spec.substr(0, colon));
  const std::optional<int> device = number_in(spec.substr(colon + 1));
  if (!platform || !device) return std::nullopt;
  return std::pair(*platform, *device);
}

std::string found_text(const std::vector<DeviceInfo>& devices) {
  if (devices.empty()) return "no OpenCL device was found (is a driver installed for this node?)";
  std::string text = "found:";
  for (const DeviceInfo& device : devices) {
    text += fmt::format("\n  {}:{} {} ({}{}{})", device.platform, device.device, device.name, device.platform_name,
                        device.gpu ? ", GPU" : "", device.float64 ? "" : ", no float64");
  }
  return text;
}

}  // namespace

DeviceInfo choose_device(const std::vector<DeviceInfo>& devices, const DeviceChoice& choice) {
  ANNULUS_EXPECT(choice.node_rank >= 0);
  std::vector<DeviceInfo> candidates;
  const auto keep = [&](const auto& condition) {
    std::copy_if(devices.begin(), devices.end(), std::back_inserter(candidates), condition);
  };
  if (choice.spec.empty()) {
    keep([](const DeviceInfo& device) { return device.gpu && device.float64; });
    if (candidates.empty()) keep([](const DeviceInfo& device) { return device.float64; });
    if (candidates.empty()) {
      throw InputError("the OpenCL backend needs a device with float64; " + found_text(devices));
    }
  } else if (const auto numbers = numbers_in(choice.spec)) {
    keep([&](const DeviceInfo& device) { return std::pair(device.platform, device.device) == *numbers; });
  } else {
    const std::string part = lower_case(choice.spec);
    keep([&](const DeviceInfo& device) { return lower_case(device.name).find(part) != std::string::npos; });
  }
  if (candidates.empty()) {
    throw InputError(fmt::format("OpenCL device \"{}\" is not here (expected platform:device, or part of a name); {}",
                                 choice.spec, found_text(devices)));
  }
  return candidates[static_cast<std::size_t>(choice.node_rank) % candidates.size()];
}

std::string sharing_problem(std::span<const DeviceInfo> taken) {
  std::map<std::string, std::vector<std::size_t>> ranks_of;
  for (std::size_t rank = 0; rank < taken.size(); ++rank) {
    const DeviceInfo& device = taken[rank];
    if (!device.gpu) continue;
    const std::string number = fmt::format("{}:{} {}", device.platform, device.device, device.name);
    ranks_of[device.identity.empty() ? number : device.identity].push_back(rank);
  }
  const auto crowded = std::max_element(ranks_of.begin(), ranks_of.end(), [](const auto& left, const auto& right) {
    return left.second.size() < right.second.size();
  });
  if (crowded == ranks_of.end() || crowded->second.size() < 2) return "";
  const std::vector<std::size_t>& ranks = crowded->second;
  const DeviceInfo& device = taken[ranks.front()];
  return fmt::format(
      "{} ranks of a node would share one GPU ({}:{} {}; local ranks {}): start one rank for each GPU, here {} "
      "(mpirun --map-by ppr:{}:node, srun --ntasks-per-node={}), or allow it with --share-device",
      ranks.size(), device.platform, device.device, device.name, fmt::join(ranks, ", "), ranks_of.size(),
      ranks_of.size(), ranks_of.size());
}

}  // namespace annulus::kernels
