// Calls that fail under the metadata store: the first failure ends all changes, says so, and a
// restart brings back every commit that was reported durable.
#include <gtest/gtest.h>

#include <atomic>
#include <cerrno>

#include "daemon/metadata/metadata_store.h"
#include "tests/support/simulated_files.h"

namespace datacloud {
namespace {

using Call = SimulatedFiles::Call;

class MetadataFailures : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(disk_->make_directory("/state"));
    pb::Cloud cloud;
    cloud.set_name("failing");
    ASSERT_TRUE(MetadataStore::create(options(), cloud, 0, 0));
    open();
  }
  MetadataStore::Options options() {
    MetadataStore::Options options;
    options.directory = "/state/metadata";
    options.files = disk_;
    options.write_buffer_bytes = 64 << 10;
    return options;
  }
  void open() {
    store_.reset();
    auto opened = MetadataStore::open(options());
    ASSERT_TRUE(opened) << opened.error().message();
    store_ = std::move(opened.value());
  }
  result<Sequence> commit(const std::string& key, size_t bytes = 100) {
    auto txn = store_->begin();
    txn.put(key, std::string(bytes, 'v'));
    return store_->commit(std::move(txn));
  }
  // Fails `call` on files whose name ends so, until told otherwise.
  void fail(Call call, const std::string& ending, int error) {
    disk_->set_failure_rule([=, this](Call c, const std::string& path) {
      return failing_ && c == call && path.ends_with(ending) ? error : 0;
    });
    failing_ = true;
  }

  std::shared_ptr<SimulatedFiles> disk_ = std::make_shared<SimulatedFiles>();
  std::atomic<bool> failing_{false};
  std::unique_ptr<MetadataStore> store_;
};

TEST_F(MetadataFailures, AFullDiskEndsAllChanges) {
  const auto before = commit("Z1");
  ASSERT_TRUE(before);
  ASSERT_TRUE(store_->wait_durable(before.value()));
  fail(Call::append, ".log", ENOSPC);
  const auto refused = commit("Z2");
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().text().find("/state/metadata"), std::string::npos);
  EXPECT_NE(refused.error().text().find("make room on its disk"), std::string::npos);
  EXPECT_EQ(refused.error().errno_value(), ENOSPC);
  failing_ = false;
  EXPECT_FALSE(commit("Z3")) << "the log has a hole now";
  EXPECT_FALSE(store_->wait_durable(before.value()));
  EXPECT_TRUE(store_->begin().get("Z1").value()) << "reads go on";
  open();
  EXPECT_EQ(store_->sequence(), before.value());
  EXPECT_TRUE(commit("Z3"));
}

TEST_F(MetadataFailures, AFailedSyncIsReportedAndFinal) {
  ASSERT_TRUE(commit("Z1"));
  fail(Call::sync, ".log", EIO);
  const auto waited = store_->wait_durable(store_->sequence());
  ASSERT_FALSE(waited);
  EXPECT_TRUE(waited.error().is(Errc::io)) << waited.error().message();
  failing_ = false;
  EXPECT_FALSE(store_->wait_durable(store_->sequence())) << "a second fsync proves nothing";
  EXPECT_FALSE(commit("Z2"));
}

// LevelDB ignores failures of the log it leaves; the next commit must not.
TEST_F(MetadataFailures, AFailedSyncAtALogSwitchMeetsTheNextCommit) {
  fail(Call::sync, ".log", EIO);
  int committed = 0;
  while (committed < 1000 && commit("Z", 1000)) ++committed;
  EXPECT_GT(committed, 10);
  EXPECT_LT(committed, 200);
}

// Unsynced commits become durable without anybody waiting.
TEST_F(MetadataFailures, CommitsAreSyncedWithinSeconds) {
  const auto sequence = commit("Z1");
  ASSERT_TRUE(sequence);
  const uint64_t syncs = disk_->sync_count();
  for (int i = 0; i < 300 && disk_->sync_count() == syncs; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  EXPECT_GT(disk_->sync_count(), syncs);
}

// Waiters that come while a sync runs share the next one.
TEST_F(MetadataFailures, WaitersShareSyncs) {
  ASSERT_TRUE(commit("Z0"));
  ASSERT_TRUE(store_->wait_durable(store_->sequence()));
  disk_->set_failure_rule([](Call c, const std::string&) {
    if (c == Call::sync) std::this_thread::sleep_for(std::chrono::milliseconds(20));
    return 0;
  });
  const uint64_t syncs = disk_->sync_count();
  std::atomic<int> answered{0};
  for (int i = 0; i < 100; ++i) {
    const auto sequence = commit("Z1");
    ASSERT_TRUE(sequence);
    store_->when_durable(sequence.value(), [&](result<void> r) { answered += bool(r); });
  }
  ASSERT_TRUE(store_->wait_durable(store_->sequence()));
  EXPECT_EQ(answered, 100);
  EXPECT_LT(disk_->sync_count() - syncs, 100u);
  store_.reset();
}

}  // namespace
}  // namespace datacloud
