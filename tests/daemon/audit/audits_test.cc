// The daemon's audits: sites that answer with recordings, late, or not at all; findings that are
// overtaken by a change; the continuous audit that proves everything in a cycle and over restarts.
#include <gtest/gtest.h>

#include "common/audit/shard_tags.h"
#include "common/proto/admin.pb.h"
#include "daemon/metadata/record_keys.h"
#include "tests/daemon/service/service_rig.h"
#include "tests/support/prove_store.h"
#include "tests/support/seeded.h"

namespace datacloud {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

constexpr auto kCycle = std::chrono::seconds(20);

class AuditsTest : public ServiceTest {
 protected:
  void SetUp() override {
    config_.audit_cycle_ms = 0;
    ServiceTest::SetUp();
    tags_ = ShardTags(ShardTags::derive_keys(service_key_, cloud_));
  }
  std::unique_ptr<ObjectStore> open_site(SiteId site) override {
    return std::make_unique<ProveStore>(
        make_memory_store(memory_[site - 1]),
        [this, site](ObjectStore& below, const std::string& name, const AuditChallenge& challenge,
                     OpOptions options, Callback<AuditProof> done) {
          ProveStore::Prove cheat;
          {
            std::lock_guard lock(mutex_);
            ++asked_[name];
            if (site == 1) cheat = cheat_;
          }
          if (cheat) return cheat(below, name, challenge, options, std::move(done));
          below.prove(name, challenge, options, std::move(done));
        });
  }
  void cheat(ProveStore::Prove how) {
    std::lock_guard lock(mutex_);
    cheat_ = std::move(how);
  }

  // A coded and tagged stripe: column c at site c + 1.
  pb::Stripe write(Client& client, uint64_t block) {
    if (file_ == 0) {
      file_ = create(client, "file", true);
      EXPECT_EQ(call(client, lease_request(file_, pb::LEASE_WRITE, true)).error(), 0);
    }
    std::vector<Bytes> columns(5, Bytes(9000));
    for (size_t c = 0; c < 3; ++c) columns[c] = random_.bytes(9000);
    std::vector<MutableByteView> parity{columns[3], columns[4]};
    make_erasure_code("rs-3-2").value()->encode({columns[0], columns[1], columns[2]}, parity);
    pb::Stripe stripe;
    stripe.set_id(grant(client, IdKind::stripe, 1));
    stripe.set_code("rs-3-2");
    stripe.set_parity_bytes(9000);
    const InstanceId first = grant(client, IdKind::instance, 5);
    for (uint32_t c = 0; c < 5; ++c) {
      if (c < 3) {
        stripe.add_slot_column(c);
        stripe.add_slot_offset(0);
        stripe.add_slot_length(9000);
      }
      auto* shard = stripe.add_shards();
      shard->set_site(c + 1);
      shard->set_home_site(c + 1);
      shard->set_instance(first + c);
      shard->set_bytes(9000);
      const ShardName name{stripe.id(), static_cast<uint8_t>(c), first + c};
      const auto attributes = tags_.make(c + 1, name, {ByteView(columns[c])});
      EXPECT_TRUE(wait_for<void>([&](Callback<void> done) {
        sites_->find(c + 1)->store().put(object_name(name), Payload::from(columns[c]), attributes,
                                         {}, done);
      }));
    }
    auto request = commit_request(stripe, file_, grant(client, IdKind::version, 3), block);
    request.mutable_commit()->mutable_updates(0)->mutable_runs(0)->set_count(3);
    request.mutable_commit()->mutable_updates(0)->set_grow_to(1000 * 4096);
    const auto reply = call(client, request);
    EXPECT_EQ(reply.error(), 0) << reply.error_text();
    return stripe;
  }
  std::string object_of(const pb::Stripe& stripe, int column) const {
    return object_name(
        {stripe.id(), static_cast<uint8_t>(column), stripe.shards(column).instance()});
  }

  pb::AuditReply audit(Client& asker) {
    pb::Request request;
    request.mutable_audit();
    auto reply = call(asker, request);
    request.mutable_audit()->set_run(reply.audit().run());
    const auto end = monotonic_now() + seconds(20);
    while (!reply.audit().done() && monotonic_now() < end) {
      run_for(milliseconds(1));
      reply = call(asker, request);
    }
    EXPECT_TRUE(reply.audit().done());
    return reply.audit();
  }
  static std::vector<std::string> told(const pb::AuditReply& audit) {
    std::vector<std::string> texts;
    for (const auto& bad : audit.bad()) {
      texts.push_back(std::to_string(bad.stripe()) + "/" + std::to_string(bad.column()) + " at " +
                      std::to_string(bad.site()) + " " + bad.reason());
    }
    std::sort(texts.begin(), texts.end());
    return texts;
  }
  static std::string at_site_1(const pb::Stripe& stripe, const char* reason) {
    return std::to_string(stripe.id()) + "/0 at 1 " + reason;
  }
  pb::StatusDetails details(Client& asker) {
    pb::Request request;
    request.mutable_status();
    pb::StatusDetails details;
    EXPECT_TRUE(details.ParseFromString(call(asker, request).status().details()));
    return details;
  }

  Seeded random_;
  ShardTags tags_;
  InodeId file_ = 0;
  std::mutex mutex_;
  ProveStore::Prove cheat_;           // of site 1
  std::map<std::string, int> asked_;  // object -> challenges
};

TEST_F(AuditsTest, RecordedAnswersAreCorrupt) {
  auto client = mount(10);
  auto asker = tool();
  const auto stripe = write(client, 0);
  auto recorded = std::make_shared<std::map<std::string, AuditProof>>();
  cheat([recorded](ObjectStore& below, const std::string& name, const AuditChallenge& challenge,
                   OpOptions options, Callback<AuditProof> done) {
    if (const auto known = recorded->find(name); known != recorded->end()) {
      return done(known->second);
    }
    below.prove(name, challenge, options, [recorded, name, done](result<AuditProof> r) {
      if (r) (*recorded)[name] = r.value();
      done(std::move(r));
    });
  });
  EXPECT_THAT(told(audit(asker)), IsEmpty()) << "an honest answer, recorded";
  EXPECT_THAT(told(audit(asker)), ElementsAre(at_site_1(stripe, "corrupt")));
}

TEST_F(AuditsTest, LateAnswersAreNone) {
  auto client = mount(10);
  auto asker = tool();
  const auto stripe = write(client, 0);
  std::vector<std::function<void()>> kept;
  cheat([&](ObjectStore& below, const std::string& name, const AuditChallenge& challenge,
            OpOptions options, Callback<AuditProof> done) {
    EXPECT_LT(options.deadline, monotonic_now() + seconds(60)) << "every challenge has a deadline";
    below.prove(name, challenge, options, [&, done](result<AuditProof> r) {
      kept.push_back([done, r] { done(r); });  // the right one, but too late
      done(failure(Errc::timed_out, "no answer by its deadline"));
    });
  });
  const auto report = audit(asker);
  EXPECT_THAT(told(report), ElementsAre(at_site_1(stripe, "silent")));
  EXPECT_EQ(details(asker).repair_queued(), 0u) << "silence is no damage";
}

TEST_F(AuditsTest, WhatWasReplacedMeanwhileIsNoFinding) {
  auto client = mount(10);
  auto asker = tool();
  const auto stripe = write(client, 0);
  const InstanceId newer = grant(client, IdKind::instance, 1);
  // The object is gone when it is asked for, because a new instance has just taken its place. The
  // repair of what is found in the end may ask, too, after this test.
  const auto changed = std::make_shared<std::atomic<bool>>(false);
  cheat([this, changed, newer, id = stripe.id()](ObjectStore&, const std::string&,
                                                 const AuditChallenge&, OpOptions,
                                                 Callback<AuditProof> done) {
    if (changed->exchange(true)) return done(failure(Errc::not_found, "no such object"));
    loop_->post([this, newer, id] {
      Transaction txn = store_->begin();
      auto record = get_stripe(txn, id).value().value();
      record.mutable_shards(0)->set_instance(newer);
      txn.put(key::stripe(id), record);
      ASSERT_TRUE(store_->commit(std::move(txn)));
    });
    done(failure(Errc::not_found, "no such object"));
  });
  EXPECT_THAT(told(audit(asker)), IsEmpty());
  const auto again = audit(asker);
  EXPECT_THAT(told(again), ElementsAre(at_site_1(stripe, "missing"))) << "this one stands";
}

TEST_F(AuditsTest, ManyFindingsMakeASiteSuspect) {
  auto client = mount(10);
  auto asker = tool();
  for (uint64_t i = 0; i < 9; ++i) write(client, 3 * i);
  cheat([](ObjectStore&, const std::string&, const AuditChallenge&, OpOptions,
           Callback<AuditProof> done) { done(failure(Errc::io, "a bad disk")); });
  EXPECT_EQ(audit(asker).bad_total(), 9u);
  EXPECT_FALSE(details(asker).audits(0).suspect());
  // Repair goes elsewhere: what it writes to this site cannot be proved there either.
  for (uint64_t i = 9; i < 18; ++i) write(client, 3 * i);
  audit(asker);
  auto now = details(asker);
  EXPECT_TRUE(now.audits(0).suspect());
  EXPECT_EQ(now.audits(0).history().corrupt(), 18u);
  EXPECT_FALSE(now.audits(1).suspect());
  cheat(nullptr);
  restart();
  asker = tool();
  EXPECT_TRUE(details(asker).audits(0).suspect()) << "remembered";
}

TEST_F(AuditsTest, AHundredStripesAreAskedTogether) {
  auto client = mount(10);
  auto asker = tool();
  for (uint64_t i = 0; i < 100; ++i) write(client, 3 * i);
  // Answers are held back until there are 50: audits one by one would never get on.
  std::vector<std::function<void()>> held;
  std::mutex mutex;
  cheat([&](ObjectStore& below, const std::string& name, const AuditChallenge& challenge,
            OpOptions options, Callback<AuditProof> done) {
    std::vector<std::function<void()>> now;
    {
      std::lock_guard lock(mutex);
      held.push_back([&below, name, challenge, options, done] {
        below.prove(name, challenge, options, done);
      });
      if (held.size() == 50) now.swap(held);
    }
    for (const auto& answer : now) answer();
  });
  const auto report = audit(asker);
  EXPECT_EQ(report.shards_checked(), 500u);
  EXPECT_THAT(told(report), IsEmpty());
}

TEST_F(AuditsTest, TheContinuousAuditProvesEverythingInACycle) {
  stop();
  config_.audit_cycle_ms = std::chrono::milliseconds(kCycle).count();
  start();
  auto client = mount(10);
  std::vector<pb::Stripe> stripes;
  for (uint64_t i = 0; i < 60; ++i) stripes.push_back(write(client, 3 * i));
  memory_[2].overwrite(object_of(stripes[50], 2), Bytes(9000));
  run_for(kCycle / 2);
  const auto proven = [&] {
    std::lock_guard lock(mutex_);
    return asked_.size();
  };
  EXPECT_TRUE(until([&] { return proven() > 100; })) << "at an even pace: " << proven();
  EXPECT_LT(proven(), 220u);
  auto asker = tool();
  EXPECT_TRUE(until([&] { return details(asker).audit_cycle_done() > 0.3; }));
  EXPECT_LT(details(asker).audit_cycle_done(), 0.7);
  run_for(std::chrono::seconds(31));  // the cursor is saved now and then
  restart();
  {
    std::lock_guard lock(mutex_);
    asked_.clear();
  }
  run_for(2 * kCycle);
  EXPECT_TRUE(until([&] { return proven() == 300; }))
      << "every shard, across a restart: " << proven();
  asker = tool();
  // What it found was repaired, though nobody asked.
  const auto repaired = [&] {
    const auto record = get_stripe(store_->begin(), stripes[50].id()).value().value();
    return record.shards(2).instance() != stripes[50].shards(2).instance();
  };
  EXPECT_TRUE(until(repaired));
  EXPECT_EQ(details(asker).audits(2).history().corrupt(), 1u);
  EXPECT_GE(details(asker).audits(0).history().cycles(), 1u);
}

}  // namespace
}  // namespace datacloud
