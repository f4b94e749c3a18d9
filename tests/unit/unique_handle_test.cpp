#include "base/unique_handle.hpp"

#include <gtest/gtest.h>

#include <utility>
#include <vector>

namespace {

/// A fake C library that counts what is released.
struct CountingTraits {
  using Type = int;
  static int invalid() noexcept { return -1; }
  static void release(int handle) noexcept { released().push_back(handle); }
  static std::vector<int>& released() {
    static std::vector<int> list;
    return list;
  }
};
using Handle = annulus::UniqueHandle<CountingTraits>;

class UniqueHandle : public ::testing::Test {
 protected:
  void SetUp() override { CountingTraits::released().clear(); }
  static const std::vector<int>& released() { return CountingTraits::released(); }
};

TEST_F(UniqueHandle, ReleasesOnceAtTheEndOfItsLife) {
  { const Handle handle(7); }
  EXPECT_EQ(released(), std::vector<int>{7});
}

TEST_F(UniqueHandle, AnEmptyOneReleasesNothing) {
  { const Handle handle; }
  EXPECT_TRUE(released().empty());
}

TEST_F(UniqueHandle, MovedFromReleasesNothing) {
  {
    Handle first(7);
    const Handle second(std::move(first));
    EXPECT_EQ(second.get(), 7);
    EXPECT_FALSE(first);  // NOLINT(bugprone-use-after-move): that is the claim
  }
  EXPECT_EQ(released(), std::vector<int>{7});
}

TEST_F(UniqueHandle, MoveAssignmentReleasesWhatWasOwned) {
  {
    Handle first(7);
    Handle second(8);
    second = std::move(first);
    EXPECT_EQ(released(), std::vector<int>{8});
  }
  EXPECT_EQ(released(), (std::vector<int>{8, 7}));
}

TEST_F(UniqueHandle, SelfMoveKeepsTheHandle) {
  {
    Handle handle(7);
    Handle& same = handle;
    handle = std::move(same);
    EXPECT_EQ(handle.get(), 7);
  }
  EXPECT_EQ(released(), std::vector<int>{7});
}

TEST_F(UniqueHandle, GivenUpIsTheCallersToRelease) {
  {
    Handle handle(7);
    EXPECT_EQ(handle.give_up(), 7);
  }
  EXPECT_TRUE(released().empty());
}

}  // namespace
