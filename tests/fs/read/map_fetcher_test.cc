// Maps that are asked for together with the lease: kept when the lease was there before the answer,
// else asked for once more.
#include "fs/read/map_fetcher.h"

#include <gtest/gtest.h>

#include <atomic>
#include <future>

#include "tests/fs/read/fake_map_daemon.h"

namespace datacloud {
namespace {

constexpr InodeId kIno = 7;

class MapFetcherTest : public testing::Test {
 protected:
  MapFetcherTest() {
    stripe_.set_id(1);
    for (int i = 0; i < 8; ++i) stripe_.add_slot_column(0);
    daemon_.map(kIno, 0, 4, 10, stripe_);
  }
  // Blocks until the daemon has answered, by a request behind it.
  void settle() {
    const auto other = fetcher_.blocks(kIno + 1, 0, 1, 0);
    ASSERT_TRUE(other);
  }
  std::vector<MappedBlock> blocks() {
    auto got = fetcher_.blocks(kIno, 0, 4, 0);
    EXPECT_TRUE(got) << got.error().message();
    return got ? got.value() : std::vector<MappedBlock>{};
  }

  pb::Stripe stripe_;
  FakeMapDaemon daemon_;
  MapFetcher fetcher_{daemon_};
  std::atomic<bool> held_{false};
};

TEST_F(MapFetcherTest, IsKeptWhenTheLeaseCameFirst) {
  std::atomic<int> asked{0};
  fetcher_.prefetch_with_lease(kIno, [&] {
    ++asked;
    return true;
  });
  settle();
  EXPECT_EQ(asked, 1) << "at the answer";
  EXPECT_EQ(daemon_.requests(), 2);
  EXPECT_EQ(blocks()[3].version, 13u);
  EXPECT_EQ(daemon_.requests(), 2) << "a reader has to ask for nothing";
}

TEST_F(MapFetcherTest, IsDroppedWhenItIsOlderThanTheLease) {
  fetcher_.prefetch_with_lease(kIno, [&] { return held_.load(); });
  settle();
  daemon_.map(kIno, 0, 4, 20, stripe_);  // what the lease's grant has waited for
  held_ = true;
  EXPECT_EQ(blocks()[0].version, 20u);
  EXPECT_EQ(daemon_.requests(), 3);
}

TEST_F(MapFetcherTest, AReaderThatWaitsForADroppedOneAsksAgain) {
  std::promise<void> go;
  std::atomic<int> replies{0};
  daemon_.before_reply([&, wait = go.get_future().share()] {
    if (replies++ == 0) wait.wait();
  });
  fetcher_.prefetch_with_lease(kIno, [&] { return held_.load(); });
  auto reader = std::async(std::launch::async, [&] { return blocks(); });
  go.set_value();
  EXPECT_EQ(reader.get()[0].version, 10u);
  EXPECT_EQ(daemon_.requests(), 2);
}

TEST_F(MapFetcherTest, IsDroppedAfterARecall) {
  std::promise<void> go;
  std::atomic<int> replies{0};
  daemon_.before_reply([&, wait = go.get_future().share()] {
    if (replies++ == 0) wait.wait();
  });
  fetcher_.prefetch_with_lease(kIno, [] { return true; });
  fetcher_.cache().invalidate(kIno);  // the lease has gone, and come back
  daemon_.map(kIno, 0, 4, 20, stripe_);
  go.set_value();
  EXPECT_EQ(blocks()[0].version, 20u);
}

TEST_F(MapFetcherTest, AFailureIsNobodysButTheNextRequests) {
  daemon_.fail_with(Error(Errc::unavailable, "no route"));
  std::promise<void> go;
  std::atomic<int> replies{0};
  daemon_.before_reply([&, wait = go.get_future().share()] {
    if (replies++ == 0) wait.wait();
  });
  fetcher_.prefetch_with_lease(kIno, [] { return true; });
  auto reader = std::async(std::launch::async, [&] { return fetcher_.blocks(kIno, 0, 4, 0); });
  daemon_.fail_with(std::nullopt);
  go.set_value();
  EXPECT_TRUE(reader.get());
}

}  // namespace
}  // namespace datacloud
