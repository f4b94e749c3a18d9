// The OpenCL device as the engine uses it: one context, in-order queues for the way to the device, for its work and for
// the way back, buffers, programs built when first used.
//
// CLHPP throws cl::Error; Runtime::run turns it into DeviceError, which names the call, the error, what was being done
// and the device. Everything that calls OpenCL belongs inside a run().
#pragma once

#define CL_HPP_ENABLE_EXCEPTIONS
#define CL_HPP_MINIMUM_OPENCL_VERSION 120
#define CL_HPP_TARGET_OPENCL_VERSION 120
#include <CL/opencl.hpp>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <future>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "base/errors.hpp"
#include "kernels/engine.hpp"

namespace annulus::kernels::opencl {

/// "CL_OUT_OF_RESOURCES" for -5; "OpenCL error -12345" for a number that is not in the standard.
[[nodiscard]] std::string error_name(cl_int code);

/// Device memory, counted while it lives. Default-constructed it is empty: as a kernel's argument, a null pointer.
class Buffer {
 public:
  Buffer() = default;
  Buffer(cl::Buffer memory, std::uint64_t bytes, std::atomic<std::uint64_t>& allocated_bytes);
  Buffer(Buffer&& other) noexcept { swap(other); }
  Buffer& operator=(Buffer&& other) noexcept {
    Buffer(std::move(other)).swap(*this);
    return *this;
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer();

  [[nodiscard]] const cl::Buffer& memory() const { return memory_; }
  [[nodiscard]] std::uint64_t bytes() const { return bytes_; }

 private:
  void swap(Buffer& other) noexcept {
    std::swap(memory_, other.memory_);
    std::swap(bytes_, other.bytes_);
    std::swap(allocated_bytes_, other.allocated_bytes_);
  }

  cl::Buffer memory_;
  std::uint64_t bytes_ = 0;
  std::atomic<std::uint64_t>* allocated_bytes_ = nullptr;  ///< the runtime's count of what lives on the device
};

/// Host memory from which and to which the device copies fastest: page-locked, where the driver knows such. Aligned to
/// 64 bytes; mapped as long as it lives.
class HostMemory {
 public:
  HostMemory() = default;
  HostMemory(cl::Buffer memory, cl::CommandQueue queue, std::span<std::byte> bytes)
      : memory_(std::move(memory)), queue_(std::move(queue)), bytes_(bytes) {}
  HostMemory(HostMemory&& other) noexcept { swap(other); }
  HostMemory& operator=(HostMemory&& other) noexcept {
    HostMemory(std::move(other)).swap(*this);
    return *this;
  }
  HostMemory(const HostMemory&) = delete;
  HostMemory& operator=(const HostMemory&) = delete;
  ~HostMemory();

  [[nodiscard]] std::span<std::byte> bytes() const { return bytes_; }
  /// The memory from byte `first` on as an array.
  template <typename Value>
  [[nodiscard]] std::span<Value> as(std::size_t first, std::size_t count) const {
    ANNULUS_EXPECT(first % alignof(Value) == 0 && first + count * sizeof(Value) <= bytes_.size());
    return {reinterpret_cast<Value*>(bytes_.data() + first), count};
  }

 private:
  void swap(HostMemory& other) noexcept {
    std::swap(memory_, other.memory_);
    std::swap(queue_, other.queue_);
    std::swap(bytes_, other.bytes_);
  }

  cl::Buffer memory_;
  cl::CommandQueue queue_;
  std::span<std::byte> bytes_;
};

/// An OpenCL C source that was embedded at build time.
struct ProgramSource {
  std::string_view name;  ///< file name, for messages
  std::string_view text;
};

/// One device. Buffers and host memory must not outlive it; one thread at a time, but for grow_host_memory().
class Runtime {
 public:
  /// Throws InputError when the device has no float64, DeviceError when it cannot be opened.
  explicit Runtime(DeviceInfo info);
  Runtime(const Runtime&) = delete;
  Runtime& operator=(const Runtime&) = delete;

  [[nodiscard]] const DeviceInfo& info() const { return info_; }
  [[nodiscard]] bool is_cpu() const { return is_cpu_; }
  [[nodiscard]] std::uint64_t largest_buffer_bytes() const { return largest_buffer_bytes_; }
  [[nodiscard]] std::uint64_t local_bytes() const { return local_bytes_; }
  /// Work-items of a group that share nothing: enough to fill the lanes of any GPU.
  [[nodiscard]] std::size_t plain_group_size() const { return 64; }

  /// Calls `action` and returns what it returns. When it throws, waits for the queues, since the device may still be
  /// reading or writing the caller's memory, and turns a cl::Error into a DeviceError that names `doing`
  /// ("building the matrix").
  template <typename Action>
  decltype(auto) run(std::string_view doing, Action&& action) {
    try {
      return std::forward<Action>(action)();
    } catch (const cl::Error& error) {
      wait_quietly();
      throw_device_error(error, doing);
    } catch (...) {
      wait_quietly();
      throw;
    }
  }

  /// Uninitialised device memory; at least one byte, so that an empty array is no special case. `purpose` is for the
  /// DeviceError when there is not enough ("the raw frames").
  [[nodiscard]] Buffer allocate(std::uint64_t bytes, std::string_view purpose);

  /// Makes `buffer` hold at least `bytes`; what it held is lost when it has to grow.
  void grow(Buffer& buffer, std::uint64_t bytes, std::string_view purpose);

  /// Makes `memory` hold at least `bytes` (what it held is lost when it has to grow). From any thread. Throws
  /// DeviceError.
  void grow_host_memory(HostMemory& memory, std::uint64_t bytes, std::string_view purpose);

  /// A device copy of `values`. Returns when they have been read.
  template <typename Value>
  [[nodiscard]] Buffer upload(std::span<const Value> values, std::string_view purpose) {
    Buffer buffer = allocate(values.size_bytes(), purpose);
    if (!values.empty()) queue_.enqueueWriteBuffer(buffer.memory(), CL_TRUE, 0, values.size_bytes(), values.data());
    return buffer;
  }

  /// Copies the first values of `buffer` to the host, after all earlier work. Returns when they are there.
  template <typename Value>
  void download(const Buffer& buffer, std::span<Value> values) {
    if (!values.empty()) queue_.enqueueReadBuffer(buffer.memory(), CL_TRUE, 0, values.size_bytes(), values.data());
  }

  /// The kernel of `source` built with `options` ("-DSPACE=0"); built once, then kept. Throws DeviceError with the
  /// compiler's log.
  [[nodiscard]] cl::Kernel kernel(const ProgramSource& source, const std::string& options, const char* name);

  /// Starts building what kernel() will be asked for, in a thread of its own; kernel() waits for it then, and throws
  /// what went wrong. What is never asked for never fails.
  void build_ahead(const ProgramSource& source, const std::string& options);

  /// Enqueues `kernel` with `arguments` in order: Buffers, local memory, cl_ scalars or structs.
  template <typename... Arguments>
  void launch(cl::Kernel kernel, const cl::NDRange& global, const cl::NDRange& local, const Arguments&... arguments) {
    cl_uint index = 0;
    (set_argument(kernel, index++, arguments), ...);
    queue_.enqueueNDRangeKernel(kernel, cl::NullRange, global, local);
  }

  /// Enqueues `kernel` for at least `items` work-items in one dimension.
  template <typename... Arguments>
  void launch_items(cl::Kernel kernel, std::size_t items, const Arguments&... arguments) {
    launch(std::move(kernel), cl::NDRange(padded(items)), cl::NDRange(plain_group_size()), arguments...);
  }

  /// `items` rounded up to whole plain groups.
  [[nodiscard]] std::size_t padded(std::size_t items) const {
    return (items + plain_group_size() - 1) / plain_group_size() * plain_group_size();
  }

  /// Waits until all queues are empty.
  void finish();
  void wait_quietly() noexcept;

  /// The queue of kernels, and of all that waits for them.
  [[nodiscard]] cl::CommandQueue& queue() { return queue_; }
  /// Queues for copies to the device and back that go on while kernels run; ordered against the others by events.
  [[nodiscard]] cl::CommandQueue& upload_queue() { return upload_queue_; }
  [[nodiscard]] cl::CommandQueue& download_queue() { return download_queue_; }

 private:
  static void set_argument(cl::Kernel& kernel, cl_uint index, const Buffer& buffer) {
    kernel.setArg(index, buffer.memory());
  }
  template <typename Value>
  static void set_argument(cl::Kernel& kernel, cl_uint index, const Value& value) {
    kernel.setArg(index, value);
  }

  static void set_argument(cl::Kernel& kernel, cl_uint index, const cl::LocalSpaceArg& local) {
    kernel.setArg(index, local);
  }

  [[noreturn]] void throw_device_error(const cl::Error& error, std::string_view doing) const;

  /// From any thread.
  [[nodiscard]] cl::Program build(const ProgramSource& source, const std::string& options) const;

  DeviceInfo info_;
  bool is_cpu_ = false;
  std::uint64_t largest_buffer_bytes_ = 0;
  std::uint64_t local_bytes_ = 0;
  std::atomic<std::uint64_t> allocated_bytes_ = 0;
  cl::Device device_;
  cl::Context context_;
  cl::CommandQueue queue_;
  cl::CommandQueue upload_queue_;
  cl::CommandQueue download_queue_;
  cl::CommandQueue mapping_queue_;               ///< for memory that is mapped while others work
  std::map<std::string, cl::Program> programs_;  ///< by source name and options
  /// Those that are being built; last, since it waits for its threads, which use the members above.
  std::map<std::string, std::future<cl::Program>> programs_ahead_;
};

}  // namespace annulus::kernels::opencl
