#include "kernels/opencl/runtime.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>

#include "base/errors.hpp"

namespace annulus::kernels::opencl {
namespace {

std::string trimmed(const std::string& text) {
  // Some drivers pad names with blanks, some let the closing null through.
  const std::string_view padding(" \t\n\0", 4);
  const std::size_t first = text.find_first_not_of(padding);
  if (first == std::string::npos) return {};
  return text.substr(first, text.find_last_not_of(padding) - first + 1);
}

std::string readable_bytes(std::uint64_t bytes) {
  constexpr double mebi = 1024.0 * 1024.0;
  return fmt::format("{} bytes ({:.1f} MiB)", bytes, static_cast<double>(bytes) / mebi);
}

// A platform without devices throws, and a broken driver must not hide those of its neighbours.
std::vector<cl::Device> devices_of(const cl::Platform& platform) {
  std::vector<cl::Device> devices;
  try {
    platform.getDevices(CL_DEVICE_TYPE_ALL, &devices);
  } catch (const cl::Error&) {
    devices.clear();
  }
  return devices;
}

/// The device's UUID, or else its place on the bus: by extensions that a driver may lack, "" then. Their numbers come
/// from the Khronos registry (cl_khr_device_uuid, cl_khr_pci_bus_info) and NVIDIA's cl_nv_device_attribute_query.
std::string identity_of(const cl::Device& device) {
  constexpr cl_device_info device_uuid = 0x106A;
  constexpr cl_device_info pci_bus_info = 0x410F;
  constexpr cl_device_info nvidia_pci_bus = 0x4008;
  constexpr cl_device_info nvidia_pci_slot = 0x4009;
  const auto ask = [&](cl_device_info what, auto& value) {
    return clGetDeviceInfo(device(), what, sizeof value, value.data(), nullptr) == CL_SUCCESS;
  };
  std::array<std::uint8_t, 16> uuid{};
  if (ask(device_uuid, uuid)) return fmt::format("uuid {:02x}", fmt::join(uuid, ""));
  std::array<cl_uint, 4> place{};  // domain, bus, device, function
  if (ask(pci_bus_info, place)) return fmt::format("pci {:x}", fmt::join(place, ":"));
  std::array<cl_uint, 1> bus{};
  std::array<cl_uint, 1> slot{};
  if (ask(nvidia_pci_bus, bus) && ask(nvidia_pci_slot, slot)) return fmt::format("pci {:x}:{:x}", bus[0], slot[0]);
  return "";
}

// The loader reports "no platform" as an error.
std::vector<cl::Platform> all_platforms() {
  std::vector<cl::Platform> platforms;
  try {
    cl::Platform::get(&platforms);
  } catch (const cl::Error&) {
    platforms.clear();
  }
  return platforms;
}

std::string program_key(const ProgramSource& source, const std::string& options) {
  return std::string(source.name) + ' ' + options;
}

bool is_out_of_memory(cl_int code) {
  return code == CL_MEM_OBJECT_ALLOCATION_FAILURE || code == CL_OUT_OF_RESOURCES || code == CL_OUT_OF_HOST_MEMORY ||
         code == CL_INVALID_BUFFER_SIZE;
}

}  // namespace

std::string error_name(cl_int code) {
  switch (code) {
#define ANNULUS_CL_ERROR(name) \
  case name: return #name
    ANNULUS_CL_ERROR(CL_SUCCESS);
    ANNULUS_CL_ERROR(CL_DEVICE_NOT_FOUND);
    ANNULUS_CL_ERROR(CL_DEVICE_NOT_AVAILABLE);
    ANNULUS_CL_ERROR(CL_COMPILER_NOT_AVAILABLE);
    ANNULUS_CL_ERROR(CL_MEM_OBJECT_ALLOCATION_FAILURE);
    ANNULUS_CL_ERROR(CL_OUT_OF_RESOURCES);
    ANNULUS_CL_ERROR(CL_OUT_OF_HOST_MEMORY);
    ANNULUS_CL_ERROR(CL_PROFILING_INFO_NOT_AVAILABLE);
    ANNULUS_CL_ERROR(CL_MEM_COPY_OVERLAP);
    ANNULUS_CL_ERROR(CL_IMAGE_FORMAT_MISMATCH);
    ANNULUS_CL_ERROR(CL_IMAGE_FORMAT_NOT_SUPPORTED);
    ANNULUS_CL_ERROR(CL_BUILD_PROGRAM_FAILURE);
    ANNULUS_CL_ERROR(CL_MAP_FAILURE);
    ANNULUS_CL_ERROR(CL_MISALIGNED_SUB_BUFFER_OFFSET);
    ANNULUS_CL_ERROR(CL_EXEC_STATUS_ERROR_FOR_EVENTS_IN_WAIT_LIST);
    ANNULUS_CL_ERROR(CL_COMPILE_PROGRAM_FAILURE);
    ANNULUS_CL_ERROR(CL_LINKER_NOT_AVAILABLE);
    ANNULUS_CL_ERROR(CL_LINK_PROGRAM_FAILURE);
    ANNULUS_CL_ERROR(CL_DEVICE_PARTITION_FAILED);
    ANNULUS_CL_ERROR(CL_KERNEL_ARG_INFO_NOT_AVAILABLE);
    ANNULUS_CL_ERROR(CL_INVALID_VALUE);
    ANNULUS_CL_ERROR(CL_INVALID_DEVICE_TYPE);
    ANNULUS_CL_ERROR(CL_INVALID_PLATFORM);
    ANNULUS_CL_ERROR(CL_INVALID_DEVICE);
    ANNULUS_CL_ERROR(CL_INVALID_CONTEXT);
    ANNULUS_CL_ERROR(CL_INVALID_QUEUE_PROPERTIES);
    ANNULUS_CL_ERROR(CL_INVALID_COMMAND_QUEUE);
    ANNULUS_CL_ERROR(CL_INVALID_HOST_PTR);
    ANNULUS_CL_ERROR(CL_INVALID_MEM_OBJECT);
    ANNULUS_CL_ERROR(CL_INVALID_IMAGE_FORMAT_DESCRIPTOR);
    ANNULUS_CL_ERROR(CL_INVALID_IMAGE_SIZE);
    ANNULUS_CL_ERROR(CL_INVALID_SAMPLER);
    ANNULUS_CL_ERROR(CL_INVALID_BINARY);
    ANNULUS_CL_ERROR(CL_INVALID_BUILD_OPTIONS);
    ANNULUS_CL_ERROR(CL_INVALID_PROGRAM);
    ANNULUS_CL_ERROR(CL_INVALID_PROGRAM_EXECUTABLE);
    ANNULUS_CL_ERROR(CL_INVALID_KERNEL_NAME);
    ANNULUS_CL_ERROR(CL_INVALID_KERNEL_DEFINITION);
    ANNULUS_CL_ERROR(CL_INVALID_KERNEL);
    ANNULUS_CL_ERROR(CL_INVALID_ARG_INDEX);
    ANNULUS_CL_ERROR(CL_INVALID_ARG_VALUE);
    ANNULUS_CL_ERROR(CL_INVALID_ARG_SIZE);
    ANNULUS_CL_ERROR(CL_INVALID_KERNEL_ARGS);
    ANNULUS_CL_ERROR(CL_INVALID_WORK_DIMENSION);
    ANNULUS_CL_ERROR(CL_INVALID_WORK_GROUP_SIZE);
    ANNULUS_CL_ERROR(CL_INVALID_WORK_ITEM_SIZE);
    ANNULUS_CL_ERROR(CL_INVALID_GLOBAL_OFFSET);
    ANNULUS_CL_ERROR(CL_INVALID_EVENT_WAIT_LIST);
    ANNULUS_CL_ERROR(CL_INVALID_EVENT);
    ANNULUS_CL_ERROR(CL_INVALID_OPERATION);
    ANNULUS_CL_ERROR(CL_INVALID_GL_OBJECT);
    ANNULUS_CL_ERROR(CL_INVALID_BUFFER_SIZE);
    ANNULUS_CL_ERROR(CL_INVALID_MIP_LEVEL);
    ANNULUS_CL_ERROR(CL_INVALID_GLOBAL_WORK_SIZE);
    ANNULUS_CL_ERROR(CL_INVALID_PROPERTY);
    ANNULUS_CL_ERROR(CL_INVALID_IMAGE_DESCRIPTOR);
    ANNULUS_CL_ERROR(CL_INVALID_COMPILER_OPTIONS);
    ANNULUS_CL_ERROR(CL_INVALID_LINKER_OPTIONS);
    ANNULUS_CL_ERROR(CL_INVALID_DEVICE_PARTITION_COUNT);
#undef ANNULUS_CL_ERROR
    case -1001: return "CL_PLATFORM_NOT_FOUND_KHR";
    default: return fmt::format("OpenCL error {}", code);
  }
}

Buffer::Buffer(cl::Buffer memory, std::uint64_t bytes, std::atomic<std::uint64_t>& allocated_bytes)
    : memory_(std::move(memory)), bytes_(bytes), allocated_bytes_(&allocated_bytes) {
  allocated_bytes += bytes;
}

Buffer::~Buffer() {
  if (allocated_bytes_ != nullptr) *allocated_bytes_ -= bytes_;
}

HostMemory::~HostMemory() {
  // Non-throwing; the driver keeps the memory until the unmapping is done.
  if (!bytes_.empty()) clEnqueueUnmapMemObject(queue_(), memory_(), bytes_.data(), 0, nullptr, nullptr);
}

Runtime::Runtime(DeviceInfo info) : info_(std::move(info)) {
  if (!info_.float64) {
    throw InputError(
        fmt::format("OpenCL device {}:{} ({}) has no float64 (cl_khr_fp64), which annulus needs: choose "
                    "another device, or --backend openmp",
                    info_.platform, info_.device, info_.name));
  }
  run("opening the device", [this] {
    const std::vector<cl::Platform> platforms = all_platforms();
    ANNULUS_EXPECT(info_.platform >= 0 && static_cast<std::size_t>(info_.platform) < platforms.size());
    const std::vector<cl::Device> devices = devices_of(platforms[info_.platform]);
    ANNULUS_EXPECT(info_.device >= 0 && static_cast<std::size_t>(info_.device) < devices.size());
    device_ = devices[info_.device];
    is_cpu_ = (device_.getInfo<CL_DEVICE_TYPE>() & CL_DEVICE_TYPE_CPU) != 0;
    largest_buffer_bytes_ = device_.getInfo<CL_DEVICE_MAX_MEM_ALLOC_SIZE>();
    context_ = cl::Context(device_);
    local_bytes_ = device_.getInfo<CL_DEVICE_LOCAL_MEM_SIZE>();
    for (cl::CommandQueue* queue : {&queue_, &upload_queue_, &download_queue_, &mapping_queue_}) {
      *queue = cl::CommandQueue(context_, device_);
    }
  });
}

Buffer Runtime::allocate(std::uint64_t bytes, std::string_view purpose) {
  bytes = std::max<std::uint64_t>(bytes, 1);
  // Checked here, because a driver may grant what it cannot give, and fail only when a kernel needs it.
  if (bytes > largest_buffer_bytes_) {
    throw DeviceError(
        fmt::format("OpenCL device {}: no room for {}: {} asked for, but the device grants at most {} a "
                    "buffer and has {} of memory",
                    info_.name, purpose, readable_bytes(bytes), readable_bytes(largest_buffer_bytes_),
                    readable_bytes(info_.memory_bytes)));
  }
  try {
    return Buffer(cl::Buffer(context_, CL_MEM_READ_WRITE, bytes), bytes, allocated_bytes_);
  } catch (const cl::Error& error) {
    throw DeviceError(
        fmt::format("OpenCL device {}: no room for {}: {} asked for, {} allocated so far, {} of device "
                    "memory ({}: {})",
                    info_.name, purpose, readable_bytes(bytes), readable_bytes(allocated_bytes_.load()),
                    readable_bytes(info_.memory_bytes), error.what(), error_name(error.err())));
  }
}

void Runtime::grow(Buffer& buffer, std::uint64_t bytes, std::string_view purpose) {
  if (buffer.bytes() >= bytes && buffer.bytes() > 0) return;
  buffer = Buffer();  // first, so that the old and the new need not fit side by side
  buffer = allocate(bytes, purpose);
}

void Runtime::grow_host_memory(HostMemory& memory, std::uint64_t bytes, std::string_view purpose) {
  if (memory.bytes().size() >= bytes && !memory.bytes().empty()) return;
  memory = HostMemory();  // first, so that the old and the new need not fit side by side
  bytes = std::max<std::uint64_t>(bytes, 1);
  try {
    cl::Buffer buffer(context_, CL_MEM_READ_WRITE | CL_MEM_ALLOC_HOST_PTR, bytes);
    void* const address = mapping_queue_.enqueueMapBuffer(buffer, CL_TRUE, CL_MAP_READ | CL_MAP_WRITE, 0, bytes);
    memory = HostMemory(std::move(buffer), mapping_queue_, {static_cast<std::byte*>(address), bytes});
  } catch (const cl::Error& error) {
    throw DeviceError(fmt::format("OpenCL device {}: no page-locked memory for {}: {} asked for ({}: {})", info_.name,
                                  purpose, readable_bytes(bytes), error.what(), error_name(error.err())));
  }
}

cl::Kernel Runtime::kernel(const ProgramSource& source, const std::string& options, const char* name) {
  const std::string key = program_key(source, options);
  auto found = programs_.find(key);
  if (found == programs_.end()) {
    auto ahead = programs_ahead_.extract(key);  // taken once, also when it failed: then the next call builds again
    found = programs_.emplace(key, ahead ? ahead.mapped().get() : build(source, options)).first;
  }
  return cl::Kernel(found->second, name);
}

void Runtime::build_ahead(const ProgramSource& source, const std::string& options) {
  const std::string key = program_key(source, options);
  if (programs_.contains(key) || programs_ahead_.contains(key)) return;
  programs_ahead_.emplace(key,
                          std::async(std::launch::async, [this, source, options] { return build(source, options); }));
}

cl::Program Runtime::build(const ProgramSource& source, const std::string& options) const {
  cl::Program program(context_, std::string(source.text));
  try {
    program.build({device_}, ("-cl-std=CL1.2 " + options).c_str());
  } catch (const cl::BuildError& error) {
    std::string message = fmt::format("OpenCL device {}: building {} with \"{}\" failed with {}", info_.name,
                                      source.name, options, error_name(error.err()));
    for (const auto& [device, log] : error.getBuildLog()) message += "\ncompiler log:\n" + trimmed(log);
    throw DeviceError(message);
  }
  return program;
}

void Runtime::finish() {
  for (const cl::CommandQueue* queue : {&upload_queue_, &queue_, &download_queue_}) queue->finish();
}

void Runtime::wait_quietly() noexcept {
  for (const cl::CommandQueue* queue : {&upload_queue_, &queue_, &download_queue_}) {
    if ((*queue)() != nullptr) clFinish((*queue)());
  }
}

void Runtime::throw_device_error(const cl::Error& error, std::string_view doing) const {
  std::string message = fmt::format("OpenCL device {}: {} failed with {} while {}", info_.name, error.what(),
                                    error_name(error.err()), doing);
  if (is_out_of_memory(error.err())) {
    message += fmt::format("; {} allocated of {} of device memory", readable_bytes(allocated_bytes_.load()),
                           readable_bytes(info_.memory_bytes));
  }
  throw DeviceError(message);
}

}  // namespace annulus::kernels::opencl

namespace annulus::kernels {

std::vector<DeviceInfo> list_devices() {
  using opencl::all_platforms;
  using opencl::devices_of;
  using opencl::trimmed;

  std::vector<std::pair<int, DeviceInfo>> ranked;
  const std::vector<cl::Platform> platforms = all_platforms();
  for (std::size_t platform = 0; platform < platforms.size(); ++platform) {
    const std::vector<cl::Device> devices = devices_of(platforms[platform]);
    for (std::size_t number = 0; number < devices.size(); ++number) {
      const cl::Device& device = devices[number];
      try {
        const cl_device_type type = device.getInfo<CL_DEVICE_TYPE>();
        DeviceInfo info;
        info.platform = static_cast<int>(platform);
        info.device = static_cast<int>(number);
        info.platform_name = trimmed(platforms[platform].getInfo<CL_PLATFORM_NAME>());
        info.name = trimmed(device.getInfo<CL_DEVICE_NAME>());
        info.version = trimmed(device.getInfo<CL_DEVICE_VERSION>());
        info.gpu = (type & CL_DEVICE_TYPE_GPU) != 0;
        info.memory_bytes = device.getInfo<CL_DEVICE_GLOBAL_MEM_SIZE>();
        info.compute_units = device.getInfo<CL_DEVICE_MAX_COMPUTE_UNITS>();
        info.float64 = trimmed(device.getInfo<CL_DEVICE_EXTENSIONS>()).find("cl_khr_fp64") != std::string::npos;
        info.identity = opencl::identity_of(device);
        const int rank = info.gpu ? 0 : (type & CL_DEVICE_TYPE_CPU) != 0 ? 2 : 1;
        ranked.emplace_back(rank, std::move(info));
      } catch (const cl::Error&) {
        // A device that does not even tell its name is no device for us.
      }
    }
  }
  std::stable_sort(ranked.begin(), ranked.end(),
                   [](const auto& left, const auto& right) { return left.first < right.first; });
  std::vector<DeviceInfo> devices;
  for (auto& [rank, info] : ranked) devices.push_back(std::move(info));
  return devices;
}

}  // namespace annulus::kernels
