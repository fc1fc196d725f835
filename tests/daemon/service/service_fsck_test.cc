// fsck through a serving daemon: requests are answered while it reads, records are mended only when
// nothing has been mounted since, a few findings per request, and only those asked for.
#include <gmock/gmock.h>

#include "common/proto/admin.pb.h"
#include "daemon/metadata/counters.h"
#include "daemon/metadata/record_keys.h"
#include "daemon/metadata/totals.h"
#include "daemon/records/namespace_records.h"
#include "tests/daemon/service/service_rig.h"
#include "tests/support/slowdown.h"

namespace datacloud {
namespace {

class ServiceFsckTest : public ServiceTest {
 protected:
  pb::FsckReply ask(Client& client, const pb::FsckRequest& fsck) {
    pb::AdminRequest admin;
    *admin.mutable_fsck() = fsck;
    pb::Request request;
    request.set_admin(admin.SerializeAsString());
    const auto reply = call(client, request);
    EXPECT_EQ(reply.error(), 0) << reply.error_text();
    pb::AdminReply answer;
    EXPECT_TRUE(answer.ParseFromString(reply.admin()));
    return answer.fsck();
  }
  pb::FsckReply poll(Client& client, uint64_t run) {
    pb::FsckRequest request;
    request.set_run(run);
    return ask(client, request);
  }
  // A whole check; `meanwhile` runs between two questions.
  pb::FsckReply check(
      Client& client, const std::function<void()>& meanwhile = [] {}) {
    auto reply = ask(client, {});
    const auto end = monotonic_now() + kSlowdown * seconds(60);
    while (!reply.done() && monotonic_now() < end) {
      meanwhile();
      while (loop_->run_one()) {  // what the check posts; polls are answered at once
      }
      reply = poll(client, reply.run());
    }
    EXPECT_TRUE(reply.done()) << "the check does not end";
    return reply;
  }
  pb::FsckReply mend(Client& client, uint64_t run, const std::vector<uint64_t>& numbers) {
    pb::FsckRequest request;
    request.set_run(run);
    for (const uint64_t number : numbers) request.add_mend(number);
    return ask(client, request);
  }
  // `files` in the root, the first of them with wrong link counts.
  void fill(uint64_t files, uint64_t wrong) {
    Transaction txn = store_->begin();
    pb::Inode root;
    ASSERT_TRUE(txn.get(key::inode(kRootInode), root).value());
    for (uint64_t i = 0; i < files; ++i) {
      pb::Inode file;
      file.set_ino(1000 + i);
      file.set_mode(S_IFREG | 0644);
      file.set_nlink(i < wrong ? 5 : 1);
      file.set_generation(1);
      *file.mutable_policy() = root.policy();
      names::add_entry(txn, root, "file" + std::to_string(i), file);
      names::put_inode(txn, file);
    }
    names::put_inode(txn, root);
    auto totals = read_totals(txn).value();
    totals.inodes += files;
    write_totals(txn, totals);
    put_counter(txn, "next_id/inode", 1'000'000);
    ASSERT_TRUE(store_->commit(std::move(txn)));
    restart();
  }
};

TEST_F(ServiceFsckTest, RequestsAreAnsweredWhileItReads) {
  constexpr uint64_t kFiles = 100'000 / kSlowdown;
  fill(kFiles, 0);
  Client user = mount(100);
  Client admin = tool();
  uint64_t answered = 0;
  bool records_seen = false;
  const auto reply = check(admin, [&] {
    const auto found = call(user, lookup_request("file" + std::to_string(answered++ % kFiles)));
    EXPECT_EQ(found.error(), 0);
  });
  records_seen = reply.records_checked() > 3 * kFiles;
  EXPECT_EQ(reply.findings_total(), 0u) << reply.ShortDebugString();
  EXPECT_TRUE(records_seen) << reply.records_checked();
  EXPECT_GT(answered, 50u) << "the daemon did not serve meanwhile";
}

TEST_F(ServiceFsckTest, MendsWhatIsAskedForAndNothingElse) {
  fill(10, 3);
  Client admin = tool();
  auto reply = check(admin);
  ASSERT_EQ(reply.findings_total(), 3u) << reply.ShortDebugString();
  const auto mended = mend(admin, reply.run(), {2});
  ASSERT_EQ(mended.findings_size(), 1);
  EXPECT_TRUE(mended.findings(0).mended());
  reply = check(admin);
  EXPECT_EQ(reply.findings_total(), 2u);
  mend(admin, reply.run(), {1, 2, 99});
  EXPECT_EQ(check(admin).findings_total(), 0u);
}

TEST_F(ServiceFsckTest, NothingIsMendedOnceSomethingWasMounted) {
  fill(10, 1);
  Client admin = tool();
  auto reply = check(admin);
  ASSERT_EQ(reply.findings_total(), 1u);
  Client user = mount(100);
  auto tried = mend(admin, reply.run(), {1});
  EXPECT_FALSE(tried.findings(0).mended());
  EXPECT_THAT(tried.findings(0).obstacle(), testing::HasSubstr("nothing is mounted"));
  pb::Request goodbye;
  goodbye.mutable_goodbye();
  call(user, goodbye);
  disconnect(user);
  tried = mend(admin, reply.run(), {1});
  EXPECT_FALSE(tried.findings(0).mended()) << "it may have changed since";
  reply = check(admin);
  EXPECT_TRUE(mend(admin, reply.run(), {1}).findings(0).mended());
}

TEST_F(ServiceFsckTest, WhatTheDaemonHoldsInMemoryIsMendedWithoutIt) {
  fill(10, 0);
  Transaction txn = store_->begin();
  put_counter(txn, "next_id/inode", 5);
  ASSERT_TRUE(store_->commit(std::move(txn)));
  Client admin = tool();
  const auto reply = check(admin);
  ASSERT_EQ(reply.findings_total(), 1u) << reply.ShortDebugString();
  EXPECT_THAT(mend(admin, reply.run(), {1}).findings(0).obstacle(),
              testing::HasSubstr("no daemon"));
  txn = store_->begin();
  put_counter(txn, "next_id/inode", 1'000'000);
  ASSERT_TRUE(store_->commit(std::move(txn)));
}

}  // namespace
}  // namespace datacloud
