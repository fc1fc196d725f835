// Mounts that come back: by their secret, after their lease has ended, after restarts that have
// lost what was not durable; and inode numbers that stay the same through all of it.
#include <filesystem>

#include "daemon/metadata/record_keys.h"
#include "tests/daemon/service/service_rig.h"

namespace datacloud {
namespace {

constexpr uint32_t kLeaseMs = 10'000;

class RejoinTest : public ServiceTest {
 protected:
  void SetUp() override {
    config_.lease_ms = kLeaseMs;
    ServiceTest::SetUp();
    config_.lease_ms = kLeaseMs;
    restart();
  }
  // Past the lease of everybody who says nothing.
  void pass_the_lease() { run_for(milliseconds(kLeaseMs + kLeaseMs / 10 + 2000)); }
  void come_back(Client& client, std::vector<pb::HeldLease> leases = {}) {
    disconnect(client);
    connect(client, pb::CLIENT_MOUNT, std::move(leases));
  }
  // Sends exactly this, as a mount does that has had no answer.
  pb::Reply send_again(Client& client, const pb::Request& request) {
    auto& replies = client.connection->replies;
    std::erase_if(replies, [&](const auto& reply) { return reply.id() == request.id(); });
    service_->on_request(client.connection, request);
    return await(client, request.id());
  }
  pb::Request numbered(Client& client, pb::Request request) {
    request.set_id(++client.last_id);
    return request;
  }
  // So that others change the directory without asking this one.
  void give_up_root(Client& client) {
    EXPECT_EQ(call(client, release_request(kRootInode)).error(), 0);
  }
  void end_of_resending(Client& client) {
    pb::Request sync;
    sync.mutable_sync();
    EXPECT_EQ(call(client, sync).error(), 0);
  }
  // What the disk has when the power fails now: everything applied so far is lost by fail().
  void remember_disk() {
    stop();
    std::filesystem::remove_all(root_ + "/copy");
    std::filesystem::copy(root_ + "/meta", root_ + "/copy",
                          std::filesystem::copy_options::recursive);
    start();
  }
  void fail_power() {
    stop();
    std::filesystem::remove_all(root_ + "/meta");
    std::filesystem::rename(root_ + "/copy", root_ + "/meta");
    start();
  }
};

TEST_F(RejoinTest, ASessionBelongsToWhoHasItsSecret) {
  Client a = mount_with_secret(11);
  const SessionId session = a.session;
  EXPECT_EQ(a.hello.protocol(), kProtocolNewest);
  a.pid = 12;  // another process, another connection
  come_back(a);
  EXPECT_TRUE(a.hello.resumed());
  EXPECT_EQ(a.session, session);
  restart();
  a.pid = 13;
  connect(a);
  EXPECT_TRUE(a.hello.resumed());
  EXPECT_EQ(a.session, session);

  Client thief;
  thief.pid = 13;
  thief.session = session;
  thief.protocol = kProtocolNewest;
  for (const char* secret : {"", "another secret of a mount"}) {
    thief.session = session;
    thief.secret = secret;
    connect(thief);
    EXPECT_NE(thief.session, session);
    EXPECT_FALSE(thief.hello.resumed());
  }
  pb::Session record;
  ASSERT_TRUE(store_->begin().get(key::session(session), record).value());
  EXPECT_EQ(record.secret().size(), 32u);
  EXPECT_EQ(record.DebugString().find("secret of the mount"), std::string::npos);
}

TEST_F(RejoinTest, AProcessThatIsGoneIsNotWaitedFor) {
  Client a = mount_with_secret(11), b = mount_with_secret(12);
  const InodeId ino = create(a, "f");
  processes_.dead.insert(11);
  disconnect(a);
  EXPECT_EQ(call(b, lease_request(ino, pb::LEASE_WRITE)).attr().lease(), pb::LEASE_WRITE);
  connect(a);
  EXPECT_FALSE(a.hello.resumed()) << "nothing is kept for the dead";
}

TEST_F(RejoinTest, AHelloWhoseAnswerWasLostIsAnsweredAgain) {
  Client a = mount_with_secret(11);
  const SessionId session = a.session;
  a.session = 0;  // it never got the number
  come_back(a);
  EXPECT_EQ(a.session, session);
  EXPECT_FALSE(a.hello.resumed()) << "it asked for a new one";
}

TEST_F(RejoinTest, RequestsOfASessionThatHasEndedAreExecutedOnce) {
  Client a = mount_with_secret(11);
  const auto made = numbered(a, create_request("made"));
  const InodeId ino = send_again(a, made).attr().inode().ino();
  const auto never = numbered(a, create_request("never"));
  for (const bool restarted : {false, true}) {
    SCOPED_TRACE(restarted);
    disconnect(a);
    pass_the_lease();
    if (restarted) restart();
    const SessionId before = a.session;
    connect(a);
    EXPECT_TRUE(a.hello.resumed());
    EXPECT_NE(a.session, before) << "its leases are gone";
    const auto again = send_again(a, made);
    EXPECT_EQ(again.error(), 0) << again.error_text();
    EXPECT_EQ(again.attr().inode().ino(), ino);
  }
  EXPECT_EQ(send_again(a, never).error(), 0) << "it had not arrived";
  EXPECT_EQ(call(a, create_request("made")).error(), EEXIST);
  EXPECT_EQ(call(a, create_request("never")).error(), EEXIST);
}

TEST_F(RejoinTest, TheAnswerToARejoinMayBeLost) {
  Client a = mount_with_secret(11);
  const auto made = numbered(a, create_request("made"));
  EXPECT_EQ(send_again(a, made).error(), 0);
  disconnect(a);
  pass_the_lease();
  const SessionId former = a.session;
  connect(a);
  const SessionId next = a.session;
  a.session = former;  // it never got the number
  come_back(a);
  EXPECT_EQ(a.session, next);
  EXPECT_TRUE(a.hello.resumed());
  EXPECT_EQ(send_again(a, made).error(), 0);
}

TEST_F(RejoinTest, ProgramsFromBeforeBeginAnew) {
  Client a = mount(11);
  disconnect(a);
  pass_the_lease();
  connect(a);
  EXPECT_FALSE(a.hello.resumed());
  EXPECT_EQ(a.hello.protocol(), kProtocolOldest);
}

TEST_F(RejoinTest, EndedSessionsAreForgottenInTime) {
  Client a = mount_with_secret(11);
  grant(a, IdKind::inode);
  EXPECT_EQ(call(a, create_request("f")).error(), 0);
  disconnect(a);
  pass_the_lease();
  const auto records = [&] {
    size_t count = 0;
    for (const char* prefix : {"C", "G", "Q"}) {
      EXPECT_TRUE(store_->begin().scan(prefix, key::after_prefix(prefix), [&](auto k, auto) {
        count += k != key::pending_fence();
        return true;
      }));
    }
    return count;
  };
  EXPECT_EQ(records(), 3u) << "the session, its inode numbers, its reply";
  loop_->advance(kRetiredFor);
  run_for(seconds(3));
  EXPECT_EQ(records(), 0u);
  connect(a);
  EXPECT_FALSE(a.hello.resumed());
}

TEST_F(RejoinTest, RetiredSessionsAreBounded) {
  std::vector<Client> clients;
  for (size_t i = 0; i < kRetiredMax + 3; ++i) {
    clients.push_back(mount_with_secret(static_cast<pid_t>(1000 + i)));
    disconnect(clients.back());
  }
  pass_the_lease();
  run_for(seconds(2));
  size_t known = 0;
  for (auto& client : clients) {
    connect(client);
    known += client.hello.resumed();
  }
  EXPECT_EQ(known, kRetiredMax);
}

TEST_F(RejoinTest, InodeNumbersAreTheMounts) {
  Client a = mount_with_secret(11), b = mount_with_secret(12);
  const uint64_t first = grant(a, IdKind::inode, 10);
  const auto with_number = [](const std::string& name, InodeId ino) {
    auto request = create_request(name);
    request.mutable_create()->set_ino(ino);
    return request;
  };
  EXPECT_EQ(call(a, with_number("f", first + 3)).attr().inode().ino(), first + 3);
  const InodeId chosen = call(a, with_number("g", first + 3)).attr().inode().ino();
  EXPECT_GE(chosen, first + 10) << "never twice";
  EXPECT_EQ(call(a, unlink_request("f")).error(), 0);
  EXPECT_EQ(call(a, release_request(first + 3)).error(), 0);
  run_for(seconds(2));
  EXPECT_NE(call(a, with_number("h", first + 3)).attr().inode().ino(), first + 3)
      << "also when the file is gone";
  give_up_root(a);
  EXPECT_NE(call(b, with_number("of-b", first + 4)).attr().inode().ino(), first + 4)
      << "not another mount's";
  give_up_root(b);
  EXPECT_NE(call(a, with_number("never", first + 10)).attr().inode().ino(), first + 10)
      << "not one that was never granted";
  // A restart does not know which were used: the mount says so.
  restart();
  a.inodes = {{first + 5, 5}, {first + 1000, 10}, {UINT64_MAX - 1, 10}};
  connect(a);
  connect(b);
  end_of_resending(a);
  end_of_resending(b);
  EXPECT_NE(call(a, with_number("used", first + 4)).attr().inode().ino(), first + 4);
  EXPECT_EQ(call(a, with_number("unused", first + 5)).attr().inode().ino(), first + 5);
  // With the session's lease they do not go: its mount may come back and send creates again.
  disconnect(a);
  pass_the_lease();
  come_back(a);
  come_back(b);
  EXPECT_EQ(call(a, with_number("later", first + 6)).attr().inode().ino(), first + 6);
  pb::Request goodbye;
  goodbye.mutable_goodbye();
  EXPECT_EQ(call(a, goodbye).error(), 0);
  std::set<InodeId> all;
  for (int i = 0; i < 20; ++i) {
    const InodeId ino = create(b, "more" + std::to_string(i));
    EXPECT_TRUE(all.insert(ino).second);
    EXPECT_TRUE(ino < first || ino >= first + 10) << "granted numbers are not given again";
  }
}

TEST_F(RejoinTest, WhatIsDurableIsTold) {
  Client a = mount_with_secret(11), old = mount(12);
  const auto made = call(a, create_request("f"));
  EXPECT_LT(made.committed(), made.sequence()) << "not before it is";
  give_up_root(a);
  EXPECT_EQ(call(old, create_request("g", kRootInode)).error(), 0);
  run_for(seconds(2));
  ASSERT_TRUE(until([&] { return a.connection->committed >= made.sequence(); }))
      << "also without a request";
  EXPECT_EQ(old.connection->committed, 0u) << "it would not understand that";
  EXPECT_GE(call(a, lookup_request("f")).committed(), made.sequence());
}

TEST_F(RejoinTest, OthersSeeAChangeWhenItIsDurable) {
  Client a = mount_with_secret(11), b = mount_with_secret(12);
  pb::Request sync;
  sync.mutable_sync();
  call(a, sync);
  const InodeId ino = create(a, "f");
  call(a, release_request(ino));
  const uint64_t own = send(a, lookup_request("f"));
  EXPECT_TRUE(answered(a, own)) << "its author sees it at once";
  const uint64_t others = send(b, lookup_request("f"));
  EXPECT_FALSE(answered(b, others)) << "before a sync could have happened";
  const auto reply = await(b, others);
  EXPECT_EQ(reply.error(), 0);
  EXPECT_GE(reply.committed(), reply.sequence());
  const uint64_t absent = send(b, lookup_request("not-there"));
  EXPECT_TRUE(answered(b, absent)) << "nothing is in the way any more";
}

TEST_F(RejoinTest, WhatAPowerCutTookIsMadeAgain) {
  Client a = mount_with_secret(11), b = mount_with_secret(12);
  const uint64_t numbers = grant(a, IdKind::inode, 10);
  const uint64_t stripes = grant(a, IdKind::stripe), instances = grant(a, IdKind::instance),
                 versions = grant(a, IdKind::version);
  const InodeId before = create(a, "before", true);
  give_up_root(a);
  const InodeId of_b = create(b, "of-b");
  remember_disk();
  a.inodes = {{numbers, 10}};
  connect(a, pb::CLIENT_MOUNT, {held(before, pb::LEASE_WRITE, true)});
  connect(b);
  end_of_resending(a);
  end_of_resending(b);

  auto make = create_request("made");
  make.mutable_create()->set_ino(numbers);
  make = numbered(a, make);
  EXPECT_EQ(send_again(a, make).attr().inode().ino(), numbers);
  const auto stripe = put_stripe(stripes, instances);
  auto commit = commit_request(stripe, numbers, versions);
  commit.mutable_commit()->mutable_updates(0)->set_change_id(77);
  const uint64_t fresh = send_again(a, make).attr().inode().change_id();
  commit.mutable_commit()->mutable_updates(0)->add_follows(fresh);
  commit = numbered(a, commit);
  EXPECT_EQ(send_again(a, commit).error(), 0);
  EXPECT_EQ(call(a, release_request(numbers)).error(), 0);
  fail_power();

  // B is back first, and asks for the file that A has made.
  connect(b);
  end_of_resending(b);
  const uint64_t asked = send(b, lookup_request("made"));
  run_for(seconds(1));
  EXPECT_FALSE(answered(b, asked));
  connect(a, pb::CLIENT_MOUNT, {held(before, pb::LEASE_WRITE, true)});
  EXPECT_TRUE(a.hello.resumed());
  EXPECT_EQ(send_again(a, make).attr().inode().ino(), numbers) << "the same number";
  const auto again = send_again(a, commit);
  EXPECT_EQ(again.error(), 0) << again.error_text();
  EXPECT_THAT(outcomes(again), testing::ElementsAre(pb::UpdateOutcome::APPLIED));
  EXPECT_FALSE(answered(b, asked)) << "more may come";
  end_of_resending(a);
  ASSERT_TRUE(until([&] {
    while (!a.connection->recalls.empty()) recall(a);
    return answered(b, asked);
  }));
  const auto seen = await(b, asked);
  EXPECT_EQ(seen.attr().inode().ino(), numbers);
  EXPECT_EQ(seen.attr().inode().change_id(), 77u);
  EXPECT_NE(of_b, numbers);
  // Afterwards a commit needs its lease again.
  const auto late = put_stripe(stripes + 1, instances + 10);
  auto without = commit_request(late, numbers, versions + 1);
  without.mutable_commit()->mutable_updates(0)->add_follows(77);
  EXPECT_EQ(call(a, without).error(), -static_cast<int>(Errc::stale));
}

TEST_F(RejoinTest, RestoredRecordsKnowNoRequests) {
  Client a = mount_with_secret(11);
  create(a, "f");
  remember_disk();
  connect(a);
  pb::Request sync;
  sync.mutable_sync();
  call(a, create_request("durable"));
  a.sequence = call(a, sync).committed();
  fail_power();  // but that was durable: it is an older copy
  connect(a);
  EXPECT_FALSE(a.hello.resumed());
}

TEST_F(RejoinTest, LeasesRunOutWhileTheDaemonSleeps) {
  Duration slept{};
  service_->count_suspension([&] { return slept; });
  Client a = mount_with_secret(11), b = mount_with_secret(12);
  const InodeId ino = create(a, "f");
  disconnect(a);
  run_for(seconds(2));
  slept = std::chrono::hours(5);
  const uint64_t waiting = send(b, lease_request(ino, pb::LEASE_WRITE));
  run_for(seconds(2));
  // It could not have heard them: each gets the time of a lease.
  connect(a);
  EXPECT_TRUE(a.hello.resumed());
  disconnect(a);
  for (int i = 0; i < 6; ++i) {
    run_for(seconds(2));
    pb::Request keepalive;
    keepalive.mutable_keepalive();
    call(b, keepalive);
  }
  EXPECT_TRUE(answered(b, waiting)) << "and not more";
}

}  // namespace
}  // namespace datacloud
