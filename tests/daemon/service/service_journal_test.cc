// A cloud with a journal: what waits for a quorum and what does not, requests that wait while too
// much is at none, and switching a journal on.
#include <filesystem>

#include "daemon/metadata/journal_records.h"
#include "daemon/metadata/journal_start.h"
#include "daemon/records/block_map.h"
#include "daemon/records/cloud_features.h"
#include "daemon/records/inline_blocks.h"
#include "daemon/records/namespace_ops.h"
#include "tests/daemon/metadata/memory_journal.h"
#include "tests/daemon/service/service_rig.h"

namespace datacloud {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

int wire(Errc e) { return -static_cast<int>(e); }

class JournalServiceTest : public ServiceTest {
 protected:
  void SetUp() override {
    ServiceTest::SetUp();
    journal_ = std::make_shared<journal::MemoryJournal>(journal_id(cloud_.uuid()).value());
  }
  void TearDown() override {
    ServiceTest::TearDown();
    journal_->changed = {};
  }
  void adapt(MetadataService::Dependencies& deps) override {
    deps.format_journal = [this](const pb::JournalSet& set) -> result<void> {
      formatted_.push_back(set);
      if (format_failure_.empty()) return success();
      return failure(Errc::away, format_failure_);
    };
    deps.start_anew = [this] { ++started_anew_; };
    if (!store_->journaled()) return;
    journal_->changed = [loop = loop_, journal = journal_.get()] {
      loop->post([journal] { journal->deliver(); });
    };
    auto started = start_journal(*store_, {.loop = loop_,
                                           .log = journal_->claim(),
                                           .journal = journal_->id(),
                                           .metadata_key = SecretKey(Bytes(32, 7)),
                                           .uncommitted_bytes_max = kUncommittedMax,
                                           .fatal = deps.fatal});
    ASSERT_TRUE(started) << started.error().message();
    deps.journal = std::move(started.value().committer);
  }

  pb::JournalStatus ask(Client& client, const pb::JournalRequest& wanted = {}) {
    pb::AdminRequest admin;
    *admin.mutable_journal() = wanted;
    pb::Request request;
    request.set_admin(admin.SerializeAsString());
    const auto reply = call(client, request);
    error_ = reply.error();
    text_ = reply.error_text();
    pb::AdminReply answer;
    EXPECT_TRUE(answer.ParseFromString(reply.admin()));
    return answer.journal().status();
  }
  pb::JournalRequest enable(std::vector<uint32_t> sites = {}, bool accept_weaker = false) {
    pb::JournalRequest request;
    request.set_action(pb::JOURNAL_ENABLE);
    for (const uint32_t site : sites) request.add_sites(site);
    request.set_accept_weaker(accept_weaker);
    return request;
  }
  void switch_on() {
    Client t = tool();
    (void)ask(t, enable());
    ASSERT_EQ(error_, 0) << text_;
    restart();
  }
  // Creates files until a request has to wait; the ids of all that were sent.
  std::vector<uint64_t> fill(Client& client) {
    std::vector<uint64_t> sent;
    for (int i = 0; i < 200; ++i) {
      sent.push_back(send(client, create_request("f" + std::to_string(i))));
      if (!answered_now(client, sent.back())) return sent;
    }
    ADD_FAILURE() << "nothing ever waited";
    return sent;
  }

  static constexpr uint64_t kUncommittedMax = 20 << 10;
  std::shared_ptr<journal::MemoryJournal> journal_;
  std::vector<pb::JournalSet> formatted_;
  std::string format_failure_;
  int started_anew_ = 0;
  int error_ = 0;
  std::string text_;
};

TEST_F(JournalServiceTest, ACloudWithoutAJournalSaysSo) {
  Client t = tool();
  EXPECT_FALSE(ask(t).used());
  EXPECT_EQ(error_, 0) << text_;
}

TEST_F(JournalServiceTest, SwitchedOnItIsRecordedAndTheDaemonStartsAnew) {
  Client t = tool();
  (void)ask(t, enable());
  ASSERT_EQ(error_, 0) << text_;
  ASSERT_EQ(formatted_.size(), 1u);
  EXPECT_THAT(formatted_[0].sites(), ElementsAre(1, 2, 3, 4, 5));
  EXPECT_EQ(formatted_[0].losses(), 2u);
  EXPECT_TRUE(service_->features().has(Feature::journal) ||
              includes(read_features(store_->begin()).value(), Feature::journal));
  run_for(seconds(1));
  EXPECT_EQ(started_anew_, 1);
  restart();
  t = tool();
  const auto status = ask(t);
  EXPECT_TRUE(status.used());
  EXPECT_EQ(status.commit_sites(), 3);
  EXPECT_EQ(status.losses_survived(), 2);
  (void)ask(t, enable());
  EXPECT_EQ(error_, 0) << "once more changes nothing";
  EXPECT_EQ(formatted_.size(), 1u);
}

TEST_F(JournalServiceTest, MountsNeedNotKnowOfIt) {
  switch_on();
  const Client old = mount(11);  // that knows no features
  EXPECT_EQ(old.hello.features().features_size(), 0);
}

TEST_F(JournalServiceTest, AJournalThatSurvivesLessThanFilesHasToBeAccepted) {
  Client t = tool();
  (void)ask(t, enable({1, 2}));
  EXPECT_EQ(error_, wire(Errc::invalid));
  EXPECT_THAT(text_, HasSubstr("--accept-weaker"));
  (void)ask(t, enable({1, 9}));
  EXPECT_EQ(error_, wire(Errc::not_found));
  EXPECT_TRUE(formatted_.empty());
  (void)ask(t, enable({2, 1}, true));
  EXPECT_EQ(error_, 0) << text_;
  EXPECT_THAT(formatted_.at(0).sites(), ElementsAre(1, 2));
}

TEST_F(JournalServiceTest, ASiteThatCannotTakeItLeavesTheCloudAsItWas) {
  Client t = tool();
  format_failure_ = "site3 is away";
  (void)ask(t, enable());
  EXPECT_EQ(error_, wire(Errc::away));
  EXPECT_THAT(text_, HasSubstr("site3 is away"));
  restart();
  EXPECT_FALSE(store_->journaled());
  t = tool();
  format_failure_.clear();
  (void)ask(t, enable());
  EXPECT_EQ(error_, 0) << text_;
}

TEST_F(JournalServiceTest, AChangeIsToldAtOnceAndSyncedByAQuorum) {
  switch_on();
  Client a = mount(11);
  journal_->hold(true);
  EXPECT_EQ(call(a, create_request("one")).error(), 0);
  pb::Request sync;
  sync.mutable_sync();
  const uint64_t id = send(a, sync);
  EXPECT_FALSE(answered_now(a, id));
  journal_->release();
  EXPECT_EQ(await(a, id).error(), 0);
  journal_->hold(false);
}

TEST_F(JournalServiceTest, ChangesWaitWhileTooMuchIsAtNoQuorumAndNoneFails) {
  switch_on();
  Client a = mount(11);
  journal_->hold(true);
  auto sent = fill(a);
  ASSERT_GT(sent.size(), 3u);
  for (int i = 0; i < 3; ++i) sent.push_back(send(a, create_request("g" + std::to_string(i))));
  EXPECT_FALSE(answered_now(a, sent.back()));
  // What only reads goes on, and the daemon tells why.
  Client t = tool();
  const auto status = ask(t);
  EXPECT_EQ(status.waiting(), 4u);
  EXPECT_GT(status.uncommitted_bytes(), kUncommittedMax);
  EXPECT_TRUE(answered_now(a, send(a, lookup_request("f0"))));
  const uint64_t entries = journal_->entries().size();
  journal_->hold(false);
  journal_->release();
  for (const uint64_t id : sent) EXPECT_EQ(await(a, id).error(), 0);
  EXPECT_GE(journal_->entries().size(), entries + 4);
  EXPECT_EQ(ask(t).waiting(), 0u);
}

TEST_F(JournalServiceTest, AMountThatWaitsMayLeave) {
  switch_on();
  Client a = mount(11);
  journal_->hold(true);
  (void)fill(a);
  pb::Request bye;
  bye.mutable_goodbye();
  (void)send(a, bye);
  journal_->hold(false);
  journal_->release();
  Client t = tool();
  EXPECT_TRUE(until([&] { return ask(t).waiting() == 0; }));
}

TEST_F(JournalServiceTest, WhatWasToldIsThereAfterAKillThoughNoQuorumHadIt) {
  switch_on();
  Client a = mount(11);
  journal_->hold(true);
  const auto made = call(a, create_request("one"));
  ASSERT_EQ(made.error(), 0);
  journal_->lose(journal_->uncommitted());
  journal_->hold(false);
  restart();
  connect(a);
  EXPECT_TRUE(a.hello.resumed());
  // The same request again: the answer that was stored with its change.
  auto request = create_request("one");
  request.set_id(a.last_id);
  a.connection->replies.clear();
  service_->on_request(a.connection, request);
  const auto again = await(a, a.last_id);
  EXPECT_EQ(again.error(), 0);
  EXPECT_EQ(again.attr().inode().ino(), made.attr().inode().ino());
}

// Little data that is fsynced, in a cloud that keeps it in the records.
class InlineJournalTest : public JournalServiceTest {
 protected:
  void SetUp() override {
    JournalServiceTest::SetUp();
    Transaction txn = store_->begin();
    ASSERT_TRUE(enable_feature(txn, Feature::inline_data, store_->sequence() + 1));
    ASSERT_TRUE(store_->commit(std::move(txn)));
    switch_on();
    a_.pid = 11;
    a_.secret = "secret of a mount of today";
    a_.protocol = kProtocolNewest;
    a_.features = {std::string(describe(Feature::inline_data).name)};
    connect(a_);
    file_ = create(a_, "file");
    version_ = grant(a_, IdKind::version, 100);
    state_ = get_inode(store_->begin(), file_).value().change_id();
    pb::Request sync;
    sync.mutable_sync();
    EXPECT_EQ(call(a_, sync).error(), 0);
  }
  // The next state of the file: one more block 0, or a patch of it.
  pb::Request piece(bool patch, bool durable) {
    pb::Request request;
    auto* commit = request.mutable_commit();
    commit->set_durable(durable);
    auto* update = commit->add_updates();
    update->set_ino(file_);
    update->set_grow_to(4096);
    update->add_follows(state_);
    update->set_change_id(++state_);
    auto* run = update->add_runs();
    run->set_count(1);
    run->set_version(version_++);
    patch ? run->set_patches(1) : run->set_inline_(true);
    auto* bytes = commit->add_pieces();
    bytes->set_ino(file_);
    bytes->set_version(run->version());
    bytes->set_patch(patch);
    bytes->set_sealed(std::string(100, patch ? 'p' : 'b'));
    return request;
  }
  std::vector<pb::Run> runs() { return runs_of(store_->begin(), file_, 0, 10).value(); }

  Client a_;
  InodeId file_ = 0;
  uint64_t version_ = 0, state_ = 0;
};

// One append at each site, one round trip, and nothing before it is at a quorum.
TEST_F(InlineJournalTest, AnFsyncIsOneEntryOfTheJournal) {
  for (const bool patch : {false, true, true}) {
    journal_->hold(true);
    const size_t before = journal_->entries().size();
    const uint64_t id = send(a_, piece(patch, true));
    EXPECT_FALSE(answered_now(a_, id));
    EXPECT_EQ(journal_->entries().size(), before + 1);
    journal_->hold(false);
    journal_->release();
    EXPECT_THAT(outcomes(await(a_, id)), ElementsAre(pb::UpdateOutcome::APPLIED));
    EXPECT_EQ(journal_->entries().size(), before + 1);
  }
  EXPECT_EQ(runs().at(0).patches(), 2u);
  EXPECT_EQ(objects(), 0u);
}

// What was answered and was at no quorum yet is gone after a power cut; sent again it is made once,
// under the same content versions, however often it is sent.
TEST_F(InlineJournalTest, WhatAPowerCutTookIsMadeAgainOnce) {
  stop();
  std::filesystem::copy(root_ + "/meta", root_ + "/copy", std::filesystem::copy_options::recursive);
  start();
  connect(a_, pb::CLIENT_MOUNT, {held(file_, pb::LEASE_WRITE)});
  pb::Request sync;
  sync.mutable_sync();
  EXPECT_EQ(call(a_, sync).error(), 0);  // nothing is to be sent again
  journal_->hold(true);
  std::vector<pb::Request> sent{piece(false, false), piece(true, false), piece(true, false)};
  for (auto& request : sent) {
    const uint64_t id = send(a_, request);
    EXPECT_THAT(outcomes(await(a_, id)), ElementsAre(pb::UpdateOutcome::APPLIED));
    request.set_id(id);
  }
  const auto before = runs();
  stop();
  journal_->lose(journal_->uncommitted());
  journal_->hold(false);
  std::filesystem::remove_all(root_ + "/meta");
  std::filesystem::rename(root_ + "/copy", root_ + "/meta");
  start();
  EXPECT_TRUE(runs().empty()) << "the power cut has taken it";
  connect(a_, pb::CLIENT_MOUNT, {held(file_, pb::LEASE_WRITE)});
  for (int times = 0; times < 3; ++times) {
    for (const auto& request : sent) {
      a_.connection->replies.clear();
      service_->on_request(a_.connection, request);
      EXPECT_THAT(outcomes(await(a_, request.id())), ElementsAre(pb::UpdateOutcome::APPLIED));
    }
    ASSERT_EQ(runs().size(), 1u);
    EXPECT_EQ(runs()[0].DebugString(), before[0].DebugString());
    const auto records = inline_blocks::read_records(store_->begin(), file_, runs()[0]);
    ASSERT_TRUE(records);
    ASSERT_EQ(records.value().patches.size(), 2u);
    EXPECT_EQ(records.value().patches[0].version, before[0].version() + 1);
    EXPECT_EQ(records.value().patches[1].version, before[0].version() + 2);
    if (times == 1) {  // kill -9 besides
      restart();
      connect(a_, pb::CLIENT_MOUNT, {held(file_, pb::LEASE_WRITE)});
    }
  }
}

}  // namespace
}  // namespace datacloud
