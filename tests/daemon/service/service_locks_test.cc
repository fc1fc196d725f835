// Locks as requests: delegation and its recall, waiting and cancelling over connections, what a
// restart of the daemon keeps; and listings that bring those of subdirectories along.
#include "common/rpc/protocol_versions.h"
#include "tests/daemon/service/service_rig.h"

namespace datacloud {
namespace {

class LocksTest : public ServiceTest {
 protected:
  void SetUp() override {
    ServiceTest::SetUp();
    a = mount(11);
    b = mount(12);
    ino = create(a, "f");
    call(a, release_request(ino));
  }
  static pb::Request lock_request(InodeId ino, uint32_t type, uint64_t owner = 1) {
    pb::Request request;
    auto* lock = request.mutable_lock()->mutable_lock();
    lock->set_ino(ino);
    lock->set_owner(owner);
    lock->set_end(INT64_MAX);
    lock->set_type(type);
    return request;
  }
  pb::Request wait_request(uint64_t name) const {
    auto request = lock_request(ino, 1);
    request.mutable_lock()->set_wait(true);
    request.mutable_lock()->set_cancel(name);
    return request;
  }
  pb::Reply delegate(Client& client) {
    auto request = lease_request(ino, pb::LEASE_NONE);
    request.mutable_lease()->set_locks(true);
    return call(client, request);
  }

  Client a, b;
  InodeId ino = 0;
};

TEST_F(LocksTest, LocksExcludeOtherMounts) {
  EXPECT_EQ(call(a, lock_request(ino, 1)).error(), 0);
  EXPECT_EQ(call(b, lock_request(ino, 0)).error(), EAGAIN);
  auto test = lock_request(ino, 0);
  test.mutable_lock()->set_test(true);
  EXPECT_EQ(call(b, test).lock().held().type(), 1u);
  EXPECT_FALSE(call(a, test).lock().has_held()) << "its own is not in the way";
  EXPECT_EQ(call(a, lock_request(ino, 2)).error(), 0);
  EXPECT_EQ(call(b, lock_request(ino, 1)).error(), 0);
}

TEST_F(LocksTest, WhatIsNoLockIsRefused) {
  EXPECT_NE(call(a, lock_request(ino, 3)).error(), 0);
  EXPECT_EQ(call(a, lock_request(123456, 1)).error(), ENOENT);
  auto inverted = lock_request(ino, 1);
  inverted.mutable_lock()->mutable_lock()->set_start(9);
  inverted.mutable_lock()->mutable_lock()->set_end(8);
  EXPECT_NE(call(a, inverted).error(), 0);
}

TEST_F(LocksTest, AWaitEndsByItsGrantOrItsName) {
  call(a, lock_request(ino, 1));
  const uint64_t first = send(b, wait_request(5));
  EXPECT_FALSE(answered_now(b, first));
  pb::Request cancel;
  cancel.mutable_lock()->set_cancel(5);
  EXPECT_EQ(call(b, cancel).error(), 0);
  EXPECT_EQ(await(b, first).error(), EINTR);
  const uint64_t second = send(b, wait_request(6));
  call(a, lock_request(ino, 2));
  EXPECT_EQ(await(b, second).error(), 0);
}

TEST_F(LocksTest, ADelegationIsRecalledWithItsLocks) {
  EXPECT_EQ(delegate(a).error(), 0);
  EXPECT_EQ(delegate(b).error(), EAGAIN);
  const uint64_t id = send(b, lock_request(ino, 1));
  const auto asked = recall(a, false);
  EXPECT_TRUE(asked.locks());
  EXPECT_EQ(asked.ino(), ino);
  EXPECT_FALSE(answered_now(b, id));
  pb::Request told;
  told.mutable_recall_done()->set_id(asked.id());
  *told.mutable_recall_done()->add_locks() = lock_request(ino, 1).lock().lock();
  EXPECT_EQ(call(a, told).error(), 0);
  EXPECT_EQ(await(b, id).error(), EAGAIN) << "the daemon knows what the first one holds";
  call(a, lock_request(ino, 2));
  EXPECT_EQ(delegate(b).error(), 0);
}

TEST_F(LocksTest, ARecallWaitsForAMountThatIsAway) {
  delegate(a);
  disconnect(a);
  const uint64_t id = send(b, lock_request(ino, 1));
  EXPECT_FALSE(answered_now(b, id));
  connect(a);
  EXPECT_TRUE(recall(a, false).locks()) << "sent again";
  processes_.dead.insert(11);
  disconnect(a);
  EXPECT_EQ(await(b, id).error(), 0) << "its end gives up what it held";
}

TEST_F(LocksTest, ARestartKeepsWhatMountsPresent) {
  call(a, lock_request(ino, 1));
  const InodeId other = create(a, "g");
  call(a, release_request(other));
  auto lease = lease_request(other, pb::LEASE_NONE);
  lease.mutable_lease()->set_locks(true);
  EXPECT_EQ(call(a, lease).error(), 0);
  restart();
  connect(b);
  const uint64_t early = send(b, lock_request(ino, 0));
  EXPECT_FALSE(answered_now(b, early)) << "not before the first mount is back";
  a.connection = std::make_shared<FakeConnection>(a.pid);
  pb::Request request;
  auto* hello = request.mutable_hello();
  hello->set_protocol(kProtocolOldest);
  hello->mutable_session()->set_id(a.session);
  *hello->add_locks() = lock_request(ino, 1).lock().lock();
  hello->add_leases()->set_ino(other);
  hello->mutable_leases(0)->set_locks(true);
  service_->on_request(a.connection, request);
  EXPECT_EQ(await(b, early).error(), EAGAIN);
  const uint64_t later = send(b, lock_request(other, 1));
  EXPECT_TRUE(recall(a, false).locks()) << "the delegation is known again";
  EXPECT_FALSE(answered_now(b, later));
}

TEST_F(LocksTest, ListingsBringThoseBelow) {
  const auto make = [&](const std::string& name, InodeId parent, uint32_t mode) {
    return call(a, create_request(name, parent, mode)).attr().inode().ino();
  };
  const InodeId top = make("top", kRootInode, S_IFDIR | 0755);
  const InodeId first = make("first", top, S_IFDIR | 0755);
  const InodeId deep = make("deep", first, S_IFDIR | 0755);
  const InodeId file = make("file", deep, S_IFREG | 0644);
  const InodeId second = make("second", top, S_IFDIR | 0755);
  pb::Request request;
  request.mutable_readdir()->set_ino(top);
  request.mutable_readdir()->set_plus(true);
  EXPECT_EQ(call(b, request).readdir().below_size(), 0) << "only when asked for";
  request.mutable_readdir()->set_below_max(100);
  const auto listing = call(b, request).readdir();
  EXPECT_EQ(listing.lease(), pb::LEASE_READ);
  ASSERT_EQ(listing.below_size(), 2);
  EXPECT_EQ(listing.below(0).ino(), first);
  EXPECT_EQ(listing.below(1).ino(), second);
  EXPECT_TRUE(listing.below(1).listing().end());
  EXPECT_EQ(listing.below(1).listing().items_size(), 0);
  ASSERT_EQ(listing.below(0).listing().below_size(), 1);
  const auto& inner = listing.below(0).listing().below(0);
  EXPECT_EQ(inner.ino(), deep);
  EXPECT_EQ(inner.listing().lease(), pb::LEASE_READ);
  EXPECT_EQ(inner.listing().items(0).inode().ino(), file);
  EXPECT_EQ(inner.listing().items(0).lease(), pb::LEASE_NONE) << "its creator writes it";
  EXPECT_TRUE(a.connection->recalls.empty()) << "and is not disturbed";
  request.mutable_readdir()->set_below_max(3);
  const auto less = call(b, request).readdir();
  ASSERT_EQ(less.below_size(), 1) << "as many as fit, in order";
  EXPECT_EQ(less.below(0).ino(), first);
  EXPECT_EQ(less.below(0).listing().below_size(), 0);
  // What changes there is told like anything else under a lease.
  const uint64_t id = send(a, create_request("new", second));
  const auto told = recall(b);
  EXPECT_EQ(told.ino(), second);
  EXPECT_THAT(told.names(), testing::ElementsAre("new"));
  EXPECT_EQ(await(a, id).error(), 0);
}

}  // namespace
}  // namespace datacloud
