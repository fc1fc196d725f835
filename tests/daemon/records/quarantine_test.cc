// Quarantine: what fsck puts aside is told with when and why, keeps objects as long as it is there,
// and once dropped leaves them to the collector, whatever happens in between.
#include "daemon/records/quarantine.h"

#include "tests/daemon/fsck/fsck_rig.h"
#include "tests/daemon/service/service_rig.h"

namespace datacloud {
namespace {

pb::QuarantineReply list(const Transaction& txn, const pb::QuarantineRequest& request = {}) {
  const auto reply = list_quarantine(txn, request);
  EXPECT_TRUE(reply) << reply.error().message();
  return reply ? reply.value() : pb::QuarantineReply();
}

const pb::QuarantineReply::Record* find(const pb::QuarantineReply& reply, const std::string& key) {
  for (const auto& record : reply.records()) {
    if (record.key() == key) return &record;
  }
  return nullptr;
}

pb::QuarantineRequest drop_request(const std::vector<std::string>& keys) {
  pb::QuarantineRequest request;
  request.set_change(pb::QuarantineRequest::DROP);
  for (const auto& key : keys) request.add_keys(key);
  return request;
}

class QuarantineTest : public FsckTest {
 protected:
  pb::QuarantineReply drop(const std::vector<std::string>& keys) {
    Transaction txn = store_->begin();
    const auto reply = drop_from_quarantine(txn, drop_request(keys));
    EXPECT_TRUE(reply) << reply.error().message();
    EXPECT_TRUE(store_->commit(std::move(txn)));
    return reply ? reply.value() : pb::QuarantineReply();
  }
};

TEST_F(QuarantineTest, ItIsToldWhatIsThereWhenAndWhy) {
  const auto before = wall_now_ns();
  damage([](Transaction& txn) { txn.put(key::stripe(5), std::string("\xff\xff garbage")); });
  EXPECT_GT(run(true).mended_total(), 0u);
  auto all = list(store_->begin());
  const auto* stripe = find(all, key::stripe(5));
  ASSERT_NE(stripe, nullptr) << all.ShortDebugString();
  EXPECT_EQ(stripe->what(), "stripe 5");
  EXPECT_THAT(stripe->why(), testing::HasSubstr("does not parse"));
  EXPECT_GE(stripe->since_ns(), before);
  EXPECT_EQ(stripe->protects(), 5u);
  EXPECT_EQ(stripe->objects_bytes(), 0u) << "the record tells nothing";
  EXPECT_EQ(stripe->value_bytes(), 10u);
  EXPECT_TRUE(stripe->value().empty()) << "only where asked for";
  const auto* run = find(all, key::run(file_, 0));
  ASSERT_NE(run, nullptr);
  EXPECT_EQ(run->what(), "run of inode " + std::to_string(file_) + " from block 0");
  EXPECT_EQ(run->protects(), 0u);

  pb::QuarantineRequest request;
  request.add_keys(key::stripe(5));
  request.add_keys("nothing");
  all = list(store_->begin(), request);
  ASSERT_EQ(all.records_size(), 1);
  EXPECT_EQ(all.records(0).value(), "\xff\xff garbage");
}

TEST_F(QuarantineTest, WhatTheObjectsTakeIsToldWhereTheRecordCanBeRead) {
  // Nothing names what stripe 9 holds.
  damage([](Transaction& txn) { txn.put(key::stripe(9), make_stripe(9, {100, 200, 300})); });
  EXPECT_GT(run(true).mended_total(), 0u);
  const auto all = list(store_->begin());
  const auto* stripe = find(all, key::stripe(9));
  ASSERT_NE(stripe, nullptr);
  EXPECT_EQ(stripe->protects(), 9u);
  EXPECT_EQ(stripe->objects_bytes(), 100u + 200 + 300 + 300 + 300);
}

TEST_F(QuarantineTest, OnlyTheStripeItselfReleasesItsObjects) {
  damage([](Transaction& txn) { txn.erase(key::stripe(5)); });
  EXPECT_GT(run(true).mended_total(), 0u);
  EXPECT_EQ(drop({key::run(file_, 0)}).released(), 0u);
  EXPECT_TRUE(is_kept(store_->begin(), 5).value());
  const auto dropped = drop({key::stripe(5), key::stripe(4711)});
  EXPECT_EQ(dropped.dropped(), 1u);
  EXPECT_EQ(dropped.released(), 1u);
  EXPECT_FALSE(is_kept(store_->begin(), 5).value());
  EXPECT_EQ(drop({key::stripe(5)}).dropped(), 0u) << "told again";
  expect_sound();
}

TEST_F(QuarantineTest, ARecordThatHasBeenSetRightReleasesNothing) {
  pb::Stripe wrong = get<pb::Stripe>(key::stripe(5));
  wrong.set_parity_bytes(7);
  damage([&](Transaction& txn) { txn.put(key::stripe(5), wrong); });
  expect_mended("parity");
  const auto all = list(store_->begin());
  const auto* old = find(all, key::stripe(5));
  ASSERT_NE(old, nullptr);
  EXPECT_EQ(old->protects(), 0u);
  EXPECT_EQ(drop({key::stripe(5)}).released(), 0u);
  EXPECT_TRUE(get_stripe(store_->begin(), 5).value());
  expect_sound();
}

TEST_F(QuarantineTest, BlocksThatStillNameTheStripeKeepItsObjects) {
  damage([](Transaction& txn) {
    put_in_quarantine(txn, key::stripe(5), "", "test");
    txn.erase(key::stripe(5));
  });
  const auto dropped = drop({key::stripe(5)});
  EXPECT_EQ(dropped.dropped(), 1u);
  EXPECT_EQ(dropped.released(), 0u);
  EXPECT_TRUE(is_kept(store_->begin(), 5).value()) << "fsck has not mended it yet";
}

TEST_F(QuarantineTest, AnyNumberIsToldPageByPage) {
  constexpr uint64_t kRecords = 1'234;
  damage([](Transaction& txn) {
    for (uint64_t i = 0; i < kRecords; ++i) {
      put_in_quarantine(txn, key::stripe(1000 + i), std::string(i % 7, 'x'), "test");
    }
  });
  std::set<std::string> keys;
  pb::QuarantineRequest request;
  int pages = 0;
  do {
    const auto page = list(store_->begin(), request);
    EXPECT_LE(page.records_size(), kQuarantinePageMax);
    for (const auto& record : page.records()) keys.insert(record.key());
    request.set_after(page.next());
  } while (!request.after().empty() && ++pages < 10);
  EXPECT_EQ(keys.size(), kRecords);
  EXPECT_EQ(pages, 2);

  pb::QuarantineRequest many = drop_request(std::vector<std::string>(kQuarantinePageMax + 1, "k"));
  Transaction txn = store_->begin();
  EXPECT_TRUE(drop_from_quarantine(txn, many).error().is(Errc::invalid));
}

TEST(DescribeRecord, SaysWhatAnyKeyNames) {
  EXPECT_EQ(describe_record(key::entry(7, "a name")), "name \"a name\" in directory 7");
  EXPECT_EQ(describe_record(key::owner(5, 3)), "owner in stripe 5 from slot 3");
  EXPECT_EQ(describe_record(key::damage(5, 3)), "damage of stripe 5 column 3");
  EXPECT_EQ(describe_record(key::repair(1, 5)), "repair of stripe 5");
  EXPECT_EQ(describe_record(""), "record");
  for (int kind = 0; kind < 256; ++kind) {
    for (size_t length = 0; length < 20; ++length) {
      std::string odd(length + 1, '\xff');
      odd[0] = static_cast<char>(kind);
      EXPECT_FALSE(describe_record(odd).empty());
    }
  }
}

// Through the daemon, with objects at sites.
class QuarantinedObjectsTest : public ServiceTest {
 protected:
  void SetUp() override {
    ServiceTest::SetUp();
    Client user = mount(100);
    lost_ = write_block(user, ServiceTest::create(user, "lost"));
    whole_ = write_block(user, ServiceTest::create(user, "whole"));
    pb::Request goodbye;
    goodbye.mutable_goodbye();
    call(user, goodbye);
    disconnect(user);
    Transaction txn = store_->begin();
    txn.put(key::stripe(lost_.id()), std::string("\xff garbage"));
    ASSERT_TRUE(store_->commit(std::move(txn)));
    restart();
    mend();
    admin_ = tool();
    collect();
    EXPECT_EQ(objects(), 6u) << "what is in quarantine was collected";
  }
  void mend() {
    for (int round = 0; round < 5; ++round) {
      LocalFsck fsck(*store_);
      RecordCheckProgress progress;
      auto reply = fsck.check(progress);
      ASSERT_TRUE(reply) << reply.error().message();
      if (reply.value().findings_total() == 0) return;
      std::vector<uint64_t> numbers;
      for (const auto& finding : reply.value().findings()) numbers.push_back(finding.number());
      ASSERT_TRUE(fsck.mend(numbers, reply.value()));
    }
    ADD_FAILURE() << "mending does not end";
  }
  void collect() { EXPECT_EQ(call(admin_, gc_request()).error(), 0); }
  pb::QuarantineReply ask(const pb::QuarantineRequest& quarantine) {
    pb::AdminRequest admin;
    *admin.mutable_quarantine() = quarantine;
    pb::Request request;
    request.set_admin(admin.SerializeAsString());
    const auto reply = call(admin_, request);
    EXPECT_EQ(reply.error(), 0) << reply.error_text();
    pb::AdminReply answer;
    EXPECT_TRUE(answer.ParseFromString(reply.admin()));
    return answer.quarantine();
  }
  void expect_only_the_whole_stripe_left() {
    EXPECT_EQ(objects(), 3u);
    for (const int column : {0, 3, 4}) {
      const InstanceId instance = whole_.shards(column).instance();
      EXPECT_TRUE(object_exists(
          column + 1, object_name({whole_.id(), static_cast<uint8_t>(column), instance})));
    }
    EXPECT_EQ(ask({}).records_size(), 0);
  }
  std::vector<std::string> everything() {
    std::vector<std::string> keys;
    const auto all = ask({});
    for (const auto& record : all.records()) keys.push_back(record.key());
    return keys;
  }

  Client admin_;
  pb::Stripe lost_, whole_;
};

TEST_F(QuarantinedObjectsTest, DroppedOnesAreCollectedAndNothingElse) {
  const auto dropped = ask(drop_request(everything()));
  EXPECT_GE(dropped.dropped(), 2u) << "the stripe and its run";
  EXPECT_EQ(dropped.released(), 1u);
  collect();
  expect_only_the_whole_stripe_left();
}

TEST_F(QuarantinedObjectsTest, TheyAreCollectedAfterACrashToo) {
  memory_[0].set_away(true);  // so that the collector cannot have got to all of it before
  sites_->check_all(seconds(5));
  ask(drop_request(everything()));
  restart();
  EXPECT_GE(objects(), 4u);
  memory_[0].set_away(false);
  sites_->check_all(seconds(5));
  admin_ = tool();
  collect();
  expect_only_the_whole_stripe_left();
}

TEST_F(QuarantinedObjectsTest, ASiteThatIsAwayIsLookedAtWhenItReturns) {
  memory_[0].set_away(true);
  sites_->check_all(seconds(5));
  ask(drop_request(everything()));
  collect();
  EXPECT_EQ(objects(), 4u);
  memory_[0].set_away(false);
  sites_->check_all(seconds(5));
  collect();
  expect_only_the_whole_stripe_left();
}

}  // namespace
}  // namespace datacloud
