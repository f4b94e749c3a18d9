#include "mpi_driver/output_lock.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <system_error>

#include <fmt/format.h>

#include "base/errors.hpp"

namespace annulus::driver {
namespace {
namespace fs = std::filesystem;

fs::path lock_file(const fs::path& output) { return output.string() + ".lock"; }

std::string host_name() {
  char name[256] = {};
  return gethostname(name, sizeof name - 1) == 0 ? name : "unknown";
}

/// The batch system's number of this job, which a requeued job keeps.
std::string batch_job() {
  for (const char* variable : {"SLURM_JOB_ID", "OAR_JOB_ID", "PBS_JOBID", "LSB_JOBID"}) {
    if (const char* value = std::getenv(variable); value != nullptr && *value != '\0') {
      return fmt::format("{}={}", variable, value);
    }
  }
  return "none";
}

/// False for a process that has ended, even if its parent has not been told yet.
bool is_alive(long process) {
  if (kill(static_cast<pid_t>(process), 0) != 0 && errno == ESRCH) return false;
  std::ifstream stat(fmt::format("/proc/{}/stat", process));
  std::string text;
  if (!std::getline(stat, text)) return true;
  const std::size_t name_end = text.rfind(')');
  return name_end == std::string::npos || name_end + 2 >= text.size() || text[name_end + 2] != 'Z';
}

struct Holder {
  std::string host;
  long process = 0;
  std::string job;
};

std::optional<Holder> read_holder(const fs::path& file) {
  std::ifstream stream(file);
  Holder holder;
  if (!(stream >> holder.host >> holder.process >> holder.job)) return std::nullopt;
  return holder;
}

bool has_ended(const Holder& holder) {
  if (holder.host == host_name()) return holder.process == getpid() || !is_alive(holder.process);
  return holder.job != "none" && holder.job == batch_job();
}

std::string message_of(const fs::path& output, const fs::path& file, const std::optional<Holder>& holder) {
  const std::string who =
      holder ? fmt::format("process {} on {} (batch job: {})", holder->process, holder->host, holder->job)
             : std::string("another job");
  return fmt::format("--output {}: {} works on it; if that job has ended, remove {}", output.string(), who,
                     file.string());
}

}  // namespace

std::optional<std::string> OutputLock::holder(const fs::path& output) {
  const fs::path file = lock_file(output);
  std::error_code error;
  if (!fs::exists(file, error)) return std::nullopt;
  const std::optional<Holder> holder = read_holder(file);
  if (holder && has_ended(*holder)) return std::nullopt;
  return message_of(output, file, holder);
}

OutputLock::OutputLock(const fs::path& output) : file_(lock_file(output)) {
  const std::string text = fmt::format("{} {} {}\n", host_name(), getpid(), batch_job());
  // Twice: once more after a lock that was left behind has been removed.
  for (int attempt = 0; attempt < 2; ++attempt) {
    const int descriptor = ::open(file_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (descriptor >= 0) {
      const bool written = ::write(descriptor, text.data(), text.size()) == static_cast<ssize_t>(text.size());
      ::close(descriptor);
      if (written) return;
      ::unlink(file_.c_str());
      throw IoError(fmt::format("{}: cannot be written", file_.string()));
    }
    const int reason = errno;
    if (reason != EEXIST) {
      throw InputError(fmt::format("--output {}: cannot make {} beside it: {}", output.string(), file_.string(),
                                   std::generic_category().message(reason)));
    }
    if (const std::optional<std::string> other = holder(output)) throw InputError(*other);
    ::unlink(file_.c_str());
  }
  throw InputError(message_of(output, file_, read_holder(file_)));
}

OutputLock::~OutputLock() { ::unlink(file_.c_str()); }

}  // namespace annulus::driver
