// The record of who leads is at every site, whatever the sites do meanwhile.
#include "daemon/leadership/leader_record_writer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "common/site/leader_record.h"
#include "common/store/memory_store.h"
#include "common/store/object_store_wait.h"
#include "tests/daemon/metadata/journal_rig.h"

namespace datacloud {
namespace {

const SecretKey kKey{Bytes(32, 7)};

class LeaderRecordWriterTest : public testing::Test {
 protected:
  LeaderRecordWriterTest() {
    std::vector<SiteSet::Member> members;
    for (SiteId id = 1; id <= 3; ++id) {
      members.push_back({id, "site" + std::to_string(id), make_memory_store(memory_[id - 1])});
      direct_.push_back(make_memory_store(memory_[id - 1]));
    }
    sites_ = std::make_unique<SiteSet>(std::move(members), milliseconds(5));
  }
  std::unique_ptr<LeaderRecordWriter> writer(uint64_t epoch) {
    return std::make_unique<LeaderRecordWriter>(
        *sites_, LeaderRecordWriter::Options{
                     .loop = loop_, .key = kKey, .epoch = {epoch, 1}, .retry = milliseconds(1)});
  }
  static std::vector<KnownDaemon> led_by(const std::string& address) {
    return {{.name = "one", .addresses = {"unix:/run/a", address}, .leads = true}};
  }
  template <class Condition>
  bool until(const Condition& condition) {
    const auto end = monotonic_now() + seconds(20);
    while (!condition()) {
      if (loop_->run()) continue;
      if (monotonic_now() > end) return false;
      std::this_thread::sleep_for(milliseconds(1));
    }
    return true;
  }
  std::vector<pb::LeaderRecord> records(size_t site) {
    std::vector<pb::LeaderRecord> out;
    for (int slot = 0; slot < kLeaderRecordSlots; ++slot) {
      auto reply = wait_for<ReadReply>([&](auto done) {
        direct_[site]->read(leader_record_name(slot), {{0, kLeaderRecordBytesMax}}, false, {},
                            done);
      });
      if (!reply) continue;
      auto record = open_leader_record(kKey, reply.value().ranges[0]);
      if (record) out.push_back(std::move(record).value());
    }
    std::sort(out.begin(), out.end(), [](auto& a, auto& b) { return is_newer(a, b); });
    return out;
  }
  // The newest at a site.
  std::string leader(size_t site) {
    const auto found = records(site);
    return found.empty() ? "" : found[0].daemons(0).addresses(0);
  }
  bool all_say(const std::string& address) {
    return leader(0) == address && leader(1) == address && leader(2) == address;
  }

  std::array<MemoryStoreControl, 3> memory_;
  std::vector<std::unique_ptr<ObjectStore>> direct_;
  std::unique_ptr<SiteSet> sites_;
  std::shared_ptr<QueueLoop> loop_ = std::make_shared<QueueLoop>();
};

TEST_F(LeaderRecordWriterTest, WritesToEverySiteAndKeepsOneWholeRecord) {
  auto one = writer(1);
  EXPECT_EQ(one->missing(), 3u);
  for (int i = 1; i <= 5; ++i) {
    const std::string address = "tls://a:" + std::to_string(i);
    one->set(led_by(address));
    ASSERT_TRUE(until([&] {
      for (size_t site = 0; i > 1 && site < 3; ++site) EXPECT_FALSE(records(site).empty());
      return one->missing() == 0;
    }));
    EXPECT_TRUE(all_say(address)) << "sockets of this machine are of no use to others";
    EXPECT_EQ(records(0).size(), i == 1 ? 1u : 2u);
  }
  EXPECT_EQ(memory_[0].names().size(), 2u);
}

TEST_F(LeaderRecordWriterTest, TheNewestSetCountsWhileOneIsBeingWritten) {
  auto one = writer(1);
  one->set(led_by("tls://a:1"));
  one->set(led_by("tls://a:2"));
  one->set(led_by("tls://a:3"));
  ASSERT_TRUE(until([&] { return one->missing() == 0; }));
  EXPECT_TRUE(all_say("tls://a:3"));
}

TEST_F(LeaderRecordWriterTest, ASiteThatWasAwayOrFullGetsItLater) {
  auto one = writer(1);
  memory_[1].set_full(true);
  memory_[2].set_away(true);
  ASSERT_TRUE(until([&] { return !sites_->at(2).up(); }));
  one->set(led_by("tls://a:1"));
  ASSERT_TRUE(until([&] { return leader(0) == "tls://a:1" && one->missing() == 1; }));
  memory_[1].set_full(false);
  ASSERT_TRUE(until([&] { return one->missing() == 0; }));
  memory_[2].set_away(false);
  ASSERT_TRUE(until([&] { return sites_->at(2).up(); }));
  one->on_site_change();
  ASSERT_TRUE(until([&] { return one->missing() == 0 && leader(2) == "tls://a:1"; }));
  EXPECT_TRUE(all_say("tls://a:1"));
}

TEST_F(LeaderRecordWriterTest, TheNextLeaderGoesOnAndTheOldOneChangesNothing) {
  auto old = writer(1);
  old->set(led_by("tls://old:1"));
  ASSERT_TRUE(until([&] { return old->missing() == 0; }));
  auto next = writer(2);
  next->set(led_by("tls://next:1"));
  ASSERT_TRUE(until([&] { return next->missing() == 0; }));
  ASSERT_TRUE(all_say("tls://next:1"));
  old->set(led_by("tls://old:2"));
  ASSERT_TRUE(until([&] { return old->missing() == 0; })) << "it leaves them alone";
  EXPECT_TRUE(all_say("tls://next:1"));
}

TEST_F(LeaderRecordWriterTest, DamagedRecordsAreReplaced) {
  auto one = writer(1);
  one->set(led_by("tls://a:1"));
  ASSERT_TRUE(until([&] { return one->missing() == 0; }));
  one->set(led_by("tls://a:2"));
  ASSERT_TRUE(until([&] { return one->missing() == 0; }));
  for (const auto& name : memory_[0].names()) ASSERT_TRUE(memory_[0].overwrite(name, Bytes(9, 1)));
  EXPECT_EQ(leader(0), "");
  auto next = writer(2);
  next->set(led_by("tls://b:1"));
  ASSERT_TRUE(until([&] { return next->missing() == 0; }));
  EXPECT_TRUE(all_say("tls://b:1"));
}

TEST_F(LeaderRecordWriterTest, AnswersAfterItsEndAreDropped) {
  auto one = writer(1);
  one->set(led_by("tls://a:1"));
  one.reset();
  while (loop_->run()) {
  }
}

}  // namespace
}  // namespace datacloud
