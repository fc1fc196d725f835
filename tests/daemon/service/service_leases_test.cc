// Two mounts: recalls, waiting, what a change tells others, and the life of orphans.
#include <cerrno>
#include <string>

#include "common/base/features.h"
#include "common/base/inode_flags.h"
#include "common/base/posix_acl.h"
#include "daemon/records/cloud_features.h"
#include "tests/daemon/service/service_rig.h"

namespace datacloud {
namespace {

class LeasesTest : public ServiceTest {
 protected:
  void SetUp() override {
    ServiceTest::SetUp();
    a = mount(11);
    b = mount(12);
    t = tool();
  }
  static pb::Request chmod_request(InodeId ino) {
    pb::Request request;
    request.mutable_setattr()->set_ino(ino);
    request.mutable_setattr()->set_mode(0600);
    return request;
  }
  bool inode_exists(InodeId ino) const { return get_inode(store_->begin(), ino).has_value(); }

  Client a, b, t;
};

TEST_F(LeasesTest, ALonelyMountNeverWaits) {
  EXPECT_EQ(call(a, lookup_request("f")).error(), ENOENT);
  const uint64_t id = send(a, create_request("f"));
  ASSERT_TRUE(answered(a, id)) << "answered in the same turn";
  const auto reply = await(a, id);
  EXPECT_EQ(reply.attr().lease(), pb::LEASE_WRITE);
  EXPECT_EQ(reply.attr().parent_lease(), pb::LEASE_READ);
  EXPECT_TRUE(answered(a, send(a, lookup_request("f"))));
  EXPECT_TRUE(answered(a, send(a, chmod_request(reply.attr().inode().ino()))));
  EXPECT_TRUE(a.connection->recalls.empty());
}

TEST_F(LeasesTest, NewDirectoriesAreLeasedForReading) {
  const auto reply = call(a, create_request("d", kRootInode, S_IFDIR | 0755));
  EXPECT_EQ(reply.attr().lease(), pb::LEASE_READ);
  const auto more = call(a, lease_request(reply.attr().inode().ino(), pb::LEASE_WRITE));
  EXPECT_EQ(more.attr().lease(), pb::LEASE_READ);
}

TEST_F(LeasesTest, LookingAtAFileBeingWrittenWaitsForItsWriter) {
  const InodeId ino = create(a, "f");
  const uint64_t id = send(b, lookup_request("f"));
  const auto asked = recall(a, false);
  EXPECT_EQ(asked.ino(), ino);
  EXPECT_EQ(asked.mode(), pb::LEASE_READ);
  EXPECT_FALSE(answered_now(b, id));
  write_block(a, ino);  // the writer flushes: its lease is still good
  finish(a, asked);
  const auto reply = await(b, id);
  EXPECT_EQ(reply.attr().inode().size(), 4096u) << "the size its writer has just committed";
  EXPECT_EQ(reply.attr().lease(), pb::LEASE_READ);
  const auto late =
      call(a, commit_request(put_stripe(grant(a, IdKind::stripe), grant(a, IdKind::instance)), ino,
                             grant(a, IdKind::version), 1));
  EXPECT_EQ(late.error(), -static_cast<int>(Errc::stale));
}

TEST_F(LeasesTest, ListingsDoNotDisturbWriters) {
  create(a, "written");
  const InodeId read = create(a, "read");
  call(a, release_request(read));
  pb::Request request;
  request.mutable_readdir()->set_ino(kRootInode);
  request.mutable_readdir()->set_plus(true);
  const auto reply = call(b, request);
  ASSERT_EQ(reply.readdir().items_size(), 2);
  EXPECT_EQ(reply.readdir().items(0).lease(), pb::LEASE_NONE);
  EXPECT_EQ(reply.readdir().items(1).lease(), pb::LEASE_READ);
  EXPECT_TRUE(a.connection->recalls.empty());
}

TEST_F(LeasesTest, NewNamesAreToldBeforeTheReply) {
  EXPECT_EQ(call(b, lease_request(kRootInode, pb::LEASE_READ)).attr().lease(), pb::LEASE_READ);
  const uint64_t id = send(a, create_request("f"));
  EXPECT_FALSE(answered_now(a, id));
  const auto asked = recall(b, false);
  EXPECT_EQ(asked.ino(), kRootInode);
  EXPECT_EQ(asked.mode(), pb::LEASE_READ);
  EXPECT_THAT(asked.names(), testing::ElementsAre("f"));
  finish(b, asked);
  EXPECT_EQ(await(a, id).error(), 0);
  // The lease stays: the next change is told again.
  const uint64_t gone = send(a, unlink_request("f"));
  EXPECT_THAT(recall(b).names(), testing::ElementsAre("f"));
  EXPECT_EQ(await(a, gone).error(), 0);
}

TEST_F(LeasesTest, RenamesTellBothNamesAndTheFile) {
  const InodeId ino = create(a, "f");
  call(a, release_request(ino));
  call(b, lease_request(kRootInode, pb::LEASE_READ));
  call(b, lookup_request("f"));
  pb::Request request;
  auto* rename = request.mutable_rename();
  rename->set_parent(kRootInode);
  rename->set_name("f");
  rename->set_new_parent(kRootInode);
  rename->set_new_name("g");
  const uint64_t id = send(a, request);
  std::map<InodeId, pb::Recall> asked;
  for (int i = 0; i < 2; ++i) {
    const auto one = recall(b);
    asked[one.ino()] = one;
  }
  EXPECT_THAT(asked[kRootInode].names(), testing::ElementsAre("f", "g"));
  EXPECT_EQ(asked[ino].mode(), pb::LEASE_NONE);
  EXPECT_EQ(await(a, id).error(), 0);
}

TEST_F(LeasesTest, AttributesChangeOnlyWhenReadersHaveLetGo) {
  const InodeId ino = create(a, "f");
  call(a, release_request(ino));
  EXPECT_EQ(call(b, lookup_request("f")).attr().lease(), pb::LEASE_READ);
  const uint64_t id = send(a, chmod_request(ino));
  const auto asked = recall(b, false);
  EXPECT_EQ(asked.mode(), pb::LEASE_NONE);
  // Asking again meanwhile queues behind the change.
  const uint64_t again = send(b, lookup_request("f"));
  EXPECT_FALSE(answered_now(b, again));
  finish(b, asked);
  EXPECT_EQ(await(a, id).attr().inode().mode() & 0777, 0600u);
  EXPECT_EQ(await(b, again).attr().inode().mode() & 0777, 0600u);
}

TEST_F(LeasesTest, WhatARecallNeedsIsNeverQueued) {
  const InodeId ino = create(a, "f");
  const uint64_t blocked = send(b, lease_request(ino, pb::LEASE_WRITE));
  const auto asked = recall(a, false);
  write_block(a, ino);
  pb::Request map, keepalive, sync;
  map.mutable_map()->set_ino(ino);
  map.mutable_map()->set_blocks(1);
  keepalive.mutable_keepalive();
  sync.mutable_sync();
  EXPECT_EQ(call(a, map).map().runs_size(), 1);
  EXPECT_EQ(call(a, keepalive).error(), 0);
  EXPECT_EQ(call(a, sync).error(), 0);
  EXPECT_FALSE(answered(b, blocked));
  finish(a, asked);
  EXPECT_EQ(await(b, blocked).attr().lease(), pb::LEASE_WRITE);
}

TEST_F(LeasesTest, TheEndOfAHolderReleasesWaiters) {
  const InodeId ino = create(a, "f");
  const uint64_t blocked = send(b, lease_request(ino, pb::LEASE_WRITE));
  recall(a, false);
  processes_.dead.insert(11);
  disconnect(a);
  EXPECT_EQ(await(b, blocked).attr().lease(), pb::LEASE_WRITE);
}

TEST_F(LeasesTest, RecallsAreSentAgainAfterAReconnect) {
  const InodeId ino = create(a, "f");
  disconnect(a);
  const uint64_t blocked = send(b, lookup_request("f"));
  EXPECT_FALSE(answered_now(b, blocked));
  connect(a, pb::CLIENT_MOUNT, {held(ino, pb::LEASE_WRITE)});
  EXPECT_TRUE(a.hello.resumed());
  recall(a);
  EXPECT_EQ(await(b, blocked).error(), 0);
  EXPECT_TRUE(a.connection->recalls.empty());
}

TEST_F(LeasesTest, ACallSurvivesTheReconnectOfItsMount) {
  create(a, "f");
  auto request = lookup_request("f");
  request.set_id(++b.last_id);
  service_->on_request(b.connection, request);
  disconnect(b);
  connect(b);
  service_->on_request(b.connection, request);
  recall(a);
  EXPECT_EQ(await(b, request.id()).error(), 0);
  EXPECT_EQ(b.connection->replies.size(), 1u) << "the two copies have one answer";
}

// A mount may answer a recall of the daemon before its restart to the one after it.
TEST_F(LeasesTest, AnAnswerFromBeforeARestartAnswersNothingNew) {
  const InodeId ino = create(a, "f");
  ASSERT_EQ(call(a, lease_request(ino, pb::LEASE_WRITE)).attr().lease(), pb::LEASE_WRITE);
  send(b, lease_request(ino, pb::LEASE_READ));
  const auto before = recall(a, false);
  restart();
  connect(b);
  a.connection = std::make_shared<FakeConnection>(a.pid);
  pb::Request request;
  auto* hello = request.mutable_hello();
  hello->set_protocol(kProtocolOldest);
  hello->mutable_session()->set_id(a.session);
  hello->add_leases()->set_ino(ino);
  hello->mutable_leases(0)->set_mode(pb::LEASE_WRITE);
  service_->on_request(a.connection, request);
  const uint64_t id = send(b, lease_request(ino, pb::LEASE_READ));
  const auto after = recall(a, false);
  EXPECT_EQ(after.ino(), ino);
  EXPECT_GT(after.id(), before.id());
  finish(a, before);
  EXPECT_FALSE(answered_now(b, id)) << "a has not given the lease up";
  finish(a, after);
  EXPECT_EQ(await(b, id).attr().lease(), pb::LEASE_READ);
}

TEST_F(LeasesTest, AFullTableStillServes) {
  config_.leases_max = 2;
  restart();
  for (Client* c : {&a, &b}) connect(*c);
  const InodeId one = create(a, "one");  // takes the file and the directory
  const auto two = call(a, create_request("two"));
  EXPECT_EQ(two.error(), 0);
  EXPECT_EQ(two.attr().lease(), pb::LEASE_NONE);
  auto open = create_request("three");
  open.mutable_create()->set_open(true);
  EXPECT_EQ(call(a, open).error(), ENFILE);
  EXPECT_EQ(call(a, lookup_request("three")).error(), ENOENT);
  call(a, release_request(one));
  EXPECT_EQ(call(a, open).error(), 0);
}

TEST_F(LeasesTest, AnOpenFileOutlivesItsName) {
  const InodeId ino = create(a, "f", true);
  const auto stripe = write_block(a, ino);
  call(b, lease_request(kRootInode, pb::LEASE_READ));
  const uint64_t id = send(b, unlink_request("f"));
  EXPECT_THAT(recall(a).names(), testing::ElementsAre("f"));
  const auto asked = recall(a, false);
  EXPECT_EQ(asked.ino(), ino);
  EXPECT_EQ(asked.mode(), pb::LEASE_NONE);
  EXPECT_FALSE(answered_now(b, id));
  finish(a, asked);
  EXPECT_EQ(await(b, id).attr().inode().nlink(), 0u);
  call(t, gc_request());
  EXPECT_TRUE(inode_exists(ino));
  EXPECT_EQ(objects(), 3u);
  EXPECT_EQ(call(a, lease_request(ino, pb::LEASE_WRITE)).attr().lease(), pb::LEASE_WRITE);
  write_block(a, ino, 1);

  call(a, release_request(ino, pb::LEASE_NONE, false));
  const auto reply = call(t, gc_request());
  EXPECT_FALSE(inode_exists(ino));
  EXPECT_EQ(objects(), 0u);
  EXPECT_EQ(reply.gc().objects_deleted(), 6u);
  EXPECT_EQ(reply.gc().bytes_deleted(), 600u);
}

// As a mount does it that has the directory open under a READ lease.
TEST_F(LeasesTest, AnOpenDirectoryOutlivesItsName) {
  const auto made = call(a, create_request("d", kRootInode, S_IFDIR | 0755));
  const InodeId ino = made.attr().inode().ino();
  auto removal = unlink_request("d");
  removal.mutable_unlink()->set_directory(true);
  const uint64_t id = send(b, removal);
  EXPECT_THAT(recall(a).names(), testing::ElementsAre("d"));
  const auto asked = recall(a, false);
  EXPECT_EQ(asked.ino(), ino);
  EXPECT_EQ(asked.mode(), pb::LEASE_NONE);
  EXPECT_EQ(call(a, lease_request(ino, pb::LEASE_NONE, true)).error(), 0);
  finish(a, asked);
  EXPECT_EQ(await(b, id).error(), 0);
  call(t, gc_request());
  EXPECT_EQ(call(a, lease_request(ino, pb::LEASE_READ)).attr().inode().nlink(), 0u);
  EXPECT_EQ(call(a, chmod_request(ino)).attr().inode().mode() & 0777, 0600u);
  pb::Request listing;
  listing.mutable_readdir()->set_ino(ino);
  EXPECT_EQ(call(a, listing).error(), ENOENT);
  EXPECT_EQ(call(a, create_request("f", ino)).error(), ENOENT);
  call(a, release_request(ino));
  call(t, gc_request());
  EXPECT_FALSE(inode_exists(ino));
}

// A holds leases on many files and does nothing more; b wants them all removed.
class SilentHolderTest : public LeasesTest {
 protected:
  static constexpr int kFiles = 40;
  void SetUp() override {
    LeasesTest::SetUp();
    for (int i = 0; i < kFiles; ++i) {
      call(b, release_request(create(b, "f" + std::to_string(i))));
    }
    for (int i = 0; i < kFiles; ++i) {
      EXPECT_EQ(call(a, lookup_request("f" + std::to_string(i))).attr().lease(), pb::LEASE_READ);
    }
  }
  Duration lease() const { return milliseconds(config_.lease_ms); }
  uint32_t keep_alive(Client& client, uint64_t bytes_written = 0, uint64_t flush_failures = 0) {
    pb::Request request;
    auto* keepalive = request.mutable_keepalive();
    keepalive->mutable_stats()->set_flush_failures(flush_failures);
    if (bytes_written > 0) {
      keepalive->add_traffic()->set_site(1);
      keepalive->mutable_traffic(0)->set_bytes_written(bytes_written);
    }
    return call(client, request).keepalive().lease_ms();
  }
  // The time until b has its answer; `a_lives` runs as often as a mount's keepalives.
  Duration wait_of_b(uint64_t id, const std::function<void()>& a_lives) {
    const auto began = loop_->now();
    while (!answered_now(b, id) && loop_->now() - began < 20 * lease()) {
      run_for(lease() / 8);
      EXPECT_EQ(keep_alive(b), config_.lease_ms) << "b owes nothing";
      if (!a.connection->closed) a_lives();
    }
    return loop_->now() - began;
  }
};

TEST_F(SilentHolderTest, OneThatIsStoppedIsWaitedForOnce) {
  std::vector<uint64_t> removals;
  for (int i = 0; i < kFiles / 2; ++i) {
    removals.push_back(send(b, unlink_request("f" + std::to_string(i))));
  }
  const auto first = wait_of_b(removals.front(), [] {});
  EXPECT_LE(first, lease() * 5 / 4);
  EXPECT_TRUE(a.connection->closed);
  for (const uint64_t id : removals) EXPECT_TRUE(answered_now(b, id)) << "all share one wait";
  for (int i = kFiles / 2; i < kFiles; ++i) {
    EXPECT_TRUE(answered_now(b, send(b, unlink_request("f" + std::to_string(i)))))
        << "what it held is free";
  }
}

TEST_F(SilentHolderTest, OneThatOnlySendsKeepalivesIsWaitedForOnce) {
  std::vector<uint64_t> removals;
  for (int i = 0; i < kFiles / 2; ++i) {
    removals.push_back(send(b, unlink_request("f" + std::to_string(i))));
  }
  bool refused = false;
  const auto first = wait_of_b(removals.front(), [&] { refused |= keep_alive(a) == 0; });
  EXPECT_TRUE(refused) << "it is told that its lease runs out";
  EXPECT_GE(first, lease()) << "not before its lease has run out there";
  EXPECT_LE(first, lease() * 5 / 2);
  EXPECT_TRUE(a.connection->closed);
  for (const uint64_t id : removals) EXPECT_TRUE(answered_now(b, id)) << "all share one wait";
  for (int i = kFiles / 2; i < kFiles; ++i) {
    EXPECT_TRUE(answered_now(b, send(b, unlink_request("f" + std::to_string(i)))));
  }
}

TEST_F(SilentHolderTest, OneThatWorksOnARecallKeepsItsSession) {
  const uint64_t removal = send(b, unlink_request("f0"));
  const auto asked = recall(a, false);
  uint64_t failures = 0;
  for (const auto& lives : std::vector<std::function<uint32_t()>>{
           [&] { return keep_alive(a, 4096); },           // it writes back
           [&] { return keep_alive(a, 0, ++failures); },  // it tries to
       }) {
    for (int i = 0; i < 40; ++i) {
      run_for(lease() / 8);
      keep_alive(b);
      ASSERT_EQ(lives(), config_.lease_ms);
    }
  }
  EXPECT_FALSE(answered_now(b, removal));
  finish(a, asked);
  while (!a.connection->recalls.empty()) recall(a);
  EXPECT_EQ(await(b, removal).error(), 0);
  EXPECT_FALSE(a.connection->closed);
  // Owing nothing, it needs no sign of work.
  for (int i = 0; i < 40; ++i) {
    run_for(lease() / 8);
    keep_alive(b);
    ASSERT_EQ(keep_alive(a, 0, failures), config_.lease_ms);
  }
}

TEST_F(LeasesTest, OrphansWaitForTheirMountAfterARestart) {
  const InodeId ino = create(a, "f", true);
  write_block(a, ino);
  EXPECT_EQ(call(a, unlink_request("f")).error(), 0);
  restart();
  connect(b);
  t = tool();
  call(t, gc_request());
  EXPECT_TRUE(inode_exists(ino)) << "a may still resume";
  connect(a, pb::CLIENT_MOUNT, {held(ino, pb::LEASE_WRITE, true)});
  call(t, gc_request());
  EXPECT_TRUE(inode_exists(ino));
  processes_.dead.insert(11);
  disconnect(a);
  call(t, gc_request());
  EXPECT_FALSE(inode_exists(ino));
  EXPECT_EQ(objects(), 0u);
}

TEST_F(LeasesTest, LargeOrphansAreFreedInSteps) {
  const InodeId ino = create(a, "f");
  for (uint64_t block = 0; block < 300; ++block) write_block(a, ino, block * 2);
  EXPECT_EQ(objects(), 900u);
  EXPECT_EQ(call(a, unlink_request("f")).error(), 0);
  call(a, release_request(ino));
  EXPECT_EQ(call(t, gc_request()).gc().objects_deleted(), 900u);
  EXPECT_EQ(objects(), 0u);
  EXPECT_FALSE(inode_exists(ino));
}

TEST_F(LeasesTest, OverwrittenDataIsDeletedOnlyWhereSitesAnswer) {
  const InodeId ino = create(a, "f");
  write_block(a, ino);
  memory_[3].set_away(true);
  sites_->check_all(seconds(5));
  // A second stripe without column 3.
  const auto ids = grant(a, IdKind::instance);
  pb::Stripe stripe;
  {
    memory_[3].set_away(false);
    stripe = put_stripe(grant(a, IdKind::stripe), ids);
    memory_[3].set_away(true);
    sites_->check_all(seconds(5));
  }
  ASSERT_EQ(call(a, commit_request(stripe, ino, grant(a, IdKind::version))).error(), 0);
  call(t, gc_request());
  EXPECT_EQ(objects(), 4u);
  pb::Request status;
  status.mutable_status();
  EXPECT_EQ(call(t, status).status().pending_deletions(), 1u);
  memory_[3].set_away(false);
  EXPECT_TRUE(until([&] { return sites_->find(4)->up(); }));
  service_->on_site_change();
  call(t, gc_request());
  EXPECT_EQ(objects(), 3u);
  EXPECT_EQ(call(t, status).status().pending_deletions(), 0u);
}

class AclTest : public ServiceTest {
 protected:
  pb::Request acl_request(InodeId ino) {
    pb::Request request;
    auto* set = request.mutable_setxattr();
    set->set_ino(ino);
    set->set_name(std::string(kAccessAclName));
    set->set_value(encode_acl({{AclEntry::owner, 6, kAclNoId},
                               {AclEntry::user, 7, 1000},
                               {AclEntry::owning_group, 0, kAclNoId},
                               {AclEntry::mask, 5, kAclNoId},
                               {AclEntry::others, 0, kAclNoId}}));
    return request;
  }
};

TEST_F(AclTest, ACloudWithoutTheFeatureKeepsNone) {
  Client a = mount(1);
  const InodeId ino = create(a, "f");
  const auto reply = call(a, acl_request(ino));
  EXPECT_EQ(reply.error(), EOPNOTSUPP);
  EXPECT_THAT(reply.error_text(), testing::HasSubstr("datacloud feature enable posix-acl"));
  EXPECT_EQ(get_inode(store_->begin(), ino).value().xattr_count(), 0u);
}

TEST_F(AclTest, WhoHasAnAclCachedLosesItBeforeItChanges) {
  Transaction txn = store_->begin();
  ASSERT_TRUE(enable_feature(txn, Feature::posix_acl, store_->sequence() + 1));
  ASSERT_TRUE(store_->commit(std::move(txn)));
  restart();
  const std::string name(describe(Feature::posix_acl).name);
  Client a = mount(1, {name}), b = mount(2, {name});
  const InodeId ino = create(a, "f");
  call(a, release_request(ino));
  EXPECT_EQ(call(b, lookup_request("f")).attr().lease(), pb::LEASE_READ);
  const uint64_t id = send(a, acl_request(ino));
  const auto asked = recall(b, false);
  EXPECT_EQ(asked.ino(), ino);
  EXPECT_EQ(asked.mode(), pb::LEASE_NONE);
  EXPECT_FALSE(answered_now(a, id));
  EXPECT_EQ(get_inode(store_->begin(), ino).value().xattr_count(), 0u);
  finish(b, asked);
  const auto reply = await(a, id);
  EXPECT_EQ(reply.error(), 0) << reply.error_text();
  EXPECT_EQ(reply.attr().inode().mode() & 07777, 0650u);
  EXPECT_EQ(reply.attr().inode().flags(), kInodeAccessAcl);
  pb::Request look;
  look.mutable_getxattr()->set_ino(ino);
  look.mutable_getxattr()->set_name(std::string(kAccessAclName));
  EXPECT_EQ(call(b, look).xattr().value(), acl_request(ino).setxattr().value());
}

}  // namespace
}  // namespace datacloud
