// One job at a time on an output, and no lock of a dead job in the way.
#include "mpi_driver/output_lock.hpp"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "base/errors.hpp"

namespace annulus::driver {
namespace {
namespace fs = std::filesystem;

class OutputLockTest : public testing::Test {
 protected:
  OutputLockTest() { fs::remove(lock_); }
  ~OutputLockTest() override { fs::remove(lock_); }

  void write_lock(const std::string& host, long process) const {
    std::ofstream(lock_) << host << ' ' << process << " none\n";
  }

  static std::string host() {
    char name[256] = {};
    return gethostname(name, sizeof name - 1) == 0 ? name : "unknown";
  }

  const fs::path output_ = fs::path(testing::TempDir()) / ("annulus_lock_test_" + std::to_string(getpid()) + ".h5");
  const fs::path lock_ = output_.string() + ".lock";
};

TEST_F(OutputLockTest, IsThereAsLongAsItsOwner) {
  {
    const OutputLock lock(output_);
    EXPECT_TRUE(fs::exists(lock_));
  }
  EXPECT_FALSE(fs::exists(lock_));
}

TEST_F(OutputLockTest, OfALivingJobIsRespected) {
  write_lock(host(), getppid());
  EXPECT_TRUE(OutputLock::holder(output_).has_value());
  EXPECT_THROW(OutputLock lock(output_), InputError);
  EXPECT_TRUE(fs::exists(lock_));
}

TEST_F(OutputLockTest, OfAnotherHostIsRespectedAndTellsHow) {
  write_lock("some-other-host", 1);
  const auto message = OutputLock::holder(output_);
  ASSERT_TRUE(message.has_value());
  EXPECT_NE(message->find("some-other-host"), std::string::npos);
  EXPECT_NE(message->find(lock_.string()), std::string::npos);
}

TEST_F(OutputLockTest, OfADeadJobIsTakenOver) {
  const pid_t child = fork();
  if (child == 0) _exit(0);
  // Ended, but not yet told to its parent: a zombie is dead, too.
  siginfo_t info;
  ASSERT_EQ(waitid(P_PID, static_cast<id_t>(child), &info, WEXITED | WNOWAIT), 0);
  write_lock(host(), child);
  EXPECT_FALSE(OutputLock::holder(output_).has_value());
  ASSERT_EQ(waitpid(child, nullptr, 0), child);
  EXPECT_FALSE(OutputLock::holder(output_).has_value());
  const OutputLock lock(output_);
  EXPECT_TRUE(fs::exists(lock_));
}

}  // namespace
}  // namespace annulus::driver
