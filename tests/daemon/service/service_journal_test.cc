// A cloud with a journal: what waits for a quorum and what does not, requests that wait while too
// much is at none, and switching a journal on.
#include "daemon/metadata/journal_records.h"
#include "daemon/metadata/journal_start.h"
#include "daemon/records/cloud_features.h"
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

}  // namespace
}  // namespace datacloud
