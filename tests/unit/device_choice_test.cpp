// choose_device on made-up lists: what a rank gets on nodes that the test machine is not.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "base/errors.hpp"
#include "kernels/engine.hpp"

namespace annulus::kernels {
namespace {

DeviceInfo device(int platform, int number, const std::string& name, bool gpu, bool float64 = true) {
  DeviceInfo info;
  info.platform = platform;
  info.device = number;
  info.platform_name = "platform " + std::to_string(platform);
  info.name = name;
  info.gpu = gpu;
  info.float64 = float64;
  return info;
}

// As list_devices() orders them: GPUs before others.
std::vector<DeviceInfo> two_gpus_and_a_cpu() {
  return {device(1, 0, "NVIDIA H200", true), device(1, 1, "NVIDIA H200", true), device(0, 0, "cpu-Xeon", false)};
}

DeviceChoice choice(const std::string& spec, int node_rank = 0) {
  DeviceChoice wanted;
  wanted.spec = spec;
  wanted.node_rank = node_rank;
  return wanted;
}

std::string place_of(const DeviceInfo& info) {
  return std::to_string(info.platform) + ":" + std::to_string(info.device);
}

std::string refusal(const std::vector<DeviceInfo>& devices, const DeviceChoice& wanted) {
  try {
    static_cast<void>(choose_device(devices, wanted));
  } catch (const InputError& error) {
    return error.what();
  }
  return "nothing was thrown";
}

TEST(DeviceChoice, RanksOfANodeTakeItsGpusInTurn) {
  const std::vector<DeviceInfo> devices = two_gpus_and_a_cpu();
  const std::vector<std::string> expected{"1:0", "1:1", "1:0", "1:1", "1:0"};
  for (int node_rank = 0; node_rank < 5; ++node_rank) {
    EXPECT_EQ(place_of(choose_device(devices, choice("", node_rank))), expected[node_rank]) << "rank " << node_rank;
  }
}

TEST(DeviceChoice, WithoutAGpuRanksTakeAllDevicesInTurn) {
  const std::vector<DeviceInfo> devices{device(0, 0, "cpu-Xeon", false), device(2, 0, "other cpu", false)};
  EXPECT_EQ(place_of(choose_device(devices, choice("", 0))), "0:0");
  EXPECT_EQ(place_of(choose_device(devices, choice("", 1))), "2:0");
  EXPECT_EQ(place_of(choose_device(devices, choice("", 2))), "0:0");
}

TEST(DeviceChoice, AGpuWithoutFloat64IsPassedOverUnlessAskedFor) {
  const std::vector<DeviceInfo> devices{device(0, 0, "Arc", true, false), device(1, 0, "cpu-Xeon", false)};
  EXPECT_EQ(choose_device(devices, choice("")).name, "cpu-Xeon");
  EXPECT_EQ(choose_device(devices, choice("arc")).name, "Arc");
}

TEST(DeviceChoice, NumbersMeanPlatformAndDevice) {
  const std::vector<DeviceInfo> devices = two_gpus_and_a_cpu();
  EXPECT_EQ(place_of(choose_device(devices, choice("0:0"))), "0:0");
  EXPECT_EQ(place_of(choose_device(devices, choice("1:1"))), "1:1");
  EXPECT_EQ(place_of(choose_device(devices, choice("1:1", 7))), "1:1") << "numbers name one device, whatever the rank";
}

TEST(DeviceChoice, APartOfANameIsEnoughInAnyCase) {
  const std::vector<DeviceInfo> devices = two_gpus_and_a_cpu();
  EXPECT_EQ(choose_device(devices, choice("xeon")).name, "cpu-Xeon");
  EXPECT_EQ(choose_device(devices, choice("nvidia h2")).name, "NVIDIA H200");
}

TEST(DeviceChoice, RanksSpreadOverDevicesOfTheSameName) {
  const std::vector<DeviceInfo> devices = two_gpus_and_a_cpu();
  EXPECT_EQ(place_of(choose_device(devices, choice("H200", 0))), "1:0");
  EXPECT_EQ(place_of(choose_device(devices, choice("H200", 1))), "1:1");
  EXPECT_EQ(place_of(choose_device(devices, choice("H200", 2))), "1:0");
}

TEST(DeviceChoice, RefusalNamesWhatWasAskedForAndWhatWasFound) {
  const std::vector<DeviceInfo> devices = two_gpus_and_a_cpu();
  for (const char* spec : {"MI300", "1:2", "2:0", "1:", ":0", "1:0x", "-1:0"}) {
    const std::string message = refusal(devices, choice(spec));
    EXPECT_NE(message.find(std::string("\"") + spec + "\""), std::string::npos) << message;
    EXPECT_NE(message.find("1:1 NVIDIA H200"), std::string::npos) << message;
    EXPECT_NE(message.find("0:0 cpu-Xeon"), std::string::npos) << message;
  }
}

TEST(DeviceChoice, WithoutAnyDeviceTheRefusalSaysSo) {
  EXPECT_NE(refusal({}, choice("")).find("no OpenCL device was found"), std::string::npos);
  EXPECT_NE(refusal({}, choice("0:0")).find("no OpenCL device was found"), std::string::npos);
}

TEST(DeviceChoice, WithoutFloat64AnywhereTheRefusalSaysSo) {
  const std::string message = refusal({device(0, 0, "Arc", true, false)}, choice(""));
  EXPECT_NE(message.find("needs a device with float64"), std::string::npos) << message;
  EXPECT_NE(message.find("0:0 Arc"), std::string::npos) << message;
}

// What the ranks of a node take when each sees `devices`.
std::vector<DeviceInfo> taken_by(int ranks, const std::vector<DeviceInfo>& devices, const std::string& spec = "") {
  std::vector<DeviceInfo> taken;
  for (int rank = 0; rank < ranks; ++rank) taken.push_back(choose_device(devices, choice(spec, rank)));
  return taken;
}

TEST(DeviceSharing, OneRankToAGpuIsFine) {
  EXPECT_EQ(sharing_problem(taken_by(1, two_gpus_and_a_cpu())), "");
  EXPECT_EQ(sharing_problem(taken_by(2, two_gpus_and_a_cpu())), "");
}

TEST(DeviceSharing, MoreRanksThanGpusIsRefusedWithTheWayOut) {
  const std::string message = sharing_problem(taken_by(3, two_gpus_and_a_cpu()));
  for (const char* part :
       {"2 ranks", "1:0 NVIDIA H200", "local ranks 0, 2", "here 2", "ppr:2:node", "--share-device"}) {
    EXPECT_NE(message.find(part), std::string::npos) << part << " in: " << message;
  }
}

TEST(DeviceSharing, AGpuNamedByNumberForAllRanksIsRefused) {
  EXPECT_NE(sharing_problem(taken_by(2, two_gpus_and_a_cpu(), "1:1")), "");
}

TEST(DeviceSharing, ACpuServesAnyNumberOfRanks) {
  EXPECT_EQ(sharing_problem(taken_by(8, {device(0, 0, "cpu-Xeon", false)})), "");
  EXPECT_EQ(sharing_problem(taken_by(8, two_gpus_and_a_cpu(), "xeon")), "");
}

// A job queue that shows each rank one GPU alone, as 0:0 everywhere: what it is tells them apart.
TEST(DeviceSharing, TheHardwareCountsNotItsNumber) {
  std::vector<DeviceInfo> taken{device(0, 0, "NVIDIA H200", true), device(0, 0, "NVIDIA H200", true)};
  taken[0].identity = "uuid 01";
  taken[1].identity = "uuid 02";
  EXPECT_EQ(sharing_problem(taken), "");
  taken[1].identity = "uuid 01";
  EXPECT_NE(sharing_problem(taken), "");
  taken[0].identity = taken[1].identity = "";
  EXPECT_NE(sharing_problem(taken), "") << "with nothing else to go by, the number does";
}

TEST(DeviceSharing, NoDeviceIsNoProblem) {
  EXPECT_EQ(sharing_problem({}), "");
  EXPECT_EQ(sharing_problem(std::vector<DeviceInfo>(4)), "") << "backends without a device";
}

TEST(DeviceList, IsTheSameEachTimeWithGpusFirst) {
  const std::vector<DeviceInfo> devices = list_devices();
  const std::vector<DeviceInfo> again = list_devices();
  ASSERT_EQ(devices.size(), again.size());
  bool others_began = false;
  for (std::size_t number = 0; number < devices.size(); ++number) {
    EXPECT_EQ(place_of(devices[number]), place_of(again[number]));
    EXPECT_FALSE(devices[number].name.empty());
    if (!devices[number].gpu) others_began = true;
    EXPECT_FALSE(others_began && devices[number].gpu) << devices[number].name;
  }
  if (devices.empty()) GTEST_SKIP() << "no OpenCL device here";
}

}  // namespace
}  // namespace annulus::kernels
