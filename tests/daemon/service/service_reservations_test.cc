// What a commit reserves, and who may write while all that the sites have free is reserved.
#include "daemon/records/cloud_features.h"
#include "daemon/records/reservations.h"
#include "tests/daemon/service/service_rig.h"

namespace datacloud {
namespace {

using Outcome = pb::UpdateOutcome;

class ServiceReservationsTest : public ServiceTest {
 protected:
  void SetUp() override {
    ServiceTest::SetUp();
    Transaction txn = store_->begin();
    ASSERT_TRUE(enable_feature(txn, Feature::reservations, store_->sequence() + 1));
    ASSERT_TRUE(store_->commit(std::move(txn)));
    restart();
    a_ = mount(1, {std::string(describe(Feature::reservations).name)});
    file_ = create(a_, "file");
    other_ = create(a_, "other");
  }
  pb::Request reserve_request(uint64_t first, uint64_t count, uint64_t grow_to = 0) {
    pb::Request request;
    auto* update = request.mutable_commit()->add_updates();
    update->set_ino(file_);
    update->set_change_id(++change_);
    if (grow_to) update->set_grow_to(grow_to);
    update->add_reserve()->set_first(first);
    update->mutable_reserve(0)->set_count(count);
    return request;
  }
  pb::Inode record(InodeId ino) { return get_inode(store_->begin(), ino).value(); }
  pb::StatFsReply statfs() {
    run_for(seconds(3));  // the sites are asked anew
    pb::Request request;
    request.mutable_statfs();
    return call(a_, request).statfs();
  }
  // A commit of one block whose shards are at the sites already.
  pb::Request prepared(InodeId ino, uint64_t block) {
    return commit_request(put_stripe(grant(a_, IdKind::stripe, 1), grant(a_, IdKind::instance, 5)),
                          ino, grant(a_, IdKind::version, 1), block);
  }
  void set_full(bool full) {
    for (auto& site : memory_) site.set_full(full);
  }

  Client a_;
  InodeId file_ = 0, other_ = 0;
  uint64_t change_ = 100;
};

TEST_F(ServiceReservationsTest, AreShownAsTaken) {
  const auto before = statfs();
  EXPECT_EQ(before.bytes_reserved(), 0u);
  const auto reply = call(a_, reserve_request(0, 1000, 1000 * 4096));
  EXPECT_THAT(outcomes(reply), testing::ElementsAre(Outcome::APPLIED)) << reply.error_text();
  EXPECT_EQ(reply.commit().outcomes(0).blocks_reserved(), 1000u);
  EXPECT_EQ(reply.commit().outcomes(0).size(), 1000u * 4096);
  const auto after = statfs();
  EXPECT_EQ(after.bytes_reserved(), 1000u * 4096);
  EXPECT_EQ(after.bytes_total(), before.bytes_total());
  EXPECT_LE(after.bytes_free() + 1000 * 4096, before.bytes_free());
  EXPECT_GE(after.bytes_free() + 1100 * 4096, before.bytes_free());
}

TEST_F(ServiceReservationsTest, WhatDoesNotFitChangesNothing) {
  const uint64_t too_many = statfs().bytes_free() / 4096 + 1;
  const auto reply = call(a_, reserve_request(5, too_many, 77));
  EXPECT_THAT(outcomes(reply), testing::ElementsAre(Outcome::NO_SPACE)) << reply.error_text();
  EXPECT_EQ(record(file_).size(), 0u);
  EXPECT_EQ(record(file_).blocks_reserved(), 0u);
  const auto most = call(a_, reserve_request(5, too_many / 10 * 9));
  EXPECT_THAT(outcomes(most), testing::ElementsAre(Outcome::APPLIED));
  EXPECT_THAT(outcomes(call(a_, reserve_request(5, too_many / 10 * 9))),
              testing::ElementsAre(Outcome::APPLIED))
      << "the same again takes nothing more";
  auto elsewhere = reserve_request(0, too_many / 10 * 2);
  elsewhere.mutable_commit()->mutable_updates(0)->set_ino(other_);
  EXPECT_THAT(outcomes(call(a_, elsewhere)), testing::ElementsAre(Outcome::NO_SPACE))
      << "others have less";
}

TEST_F(ServiceReservationsTest, OnlyReservedBlocksAreWrittenWhereTheSitesHaveNoMore) {
  ASSERT_THAT(outcomes(call(a_, reserve_request(0, 4))), testing::ElementsAre(Outcome::APPLIED));
  const auto inside = prepared(file_, 2), beside = prepared(file_, 4),
             elsewhere = prepared(other_, 0);
  auto cut = pb::Request();
  cut.mutable_commit()->add_updates()->set_ino(other_);
  cut.mutable_commit()->mutable_updates(0)->set_truncate_to(5);
  set_full(true);
  EXPECT_EQ(statfs().bytes_free(), 0u);
  EXPECT_THAT(outcomes(call(a_, elsewhere)), testing::ElementsAre(Outcome::NO_SPACE));
  EXPECT_EQ(record(other_).blocks_mapped(), 0u);
  EXPECT_THAT(outcomes(call(a_, beside)), testing::ElementsAre(Outcome::NO_SPACE));
  EXPECT_THAT(outcomes(call(a_, inside)), testing::ElementsAre(Outcome::APPLIED));
  EXPECT_THAT(outcomes(call(a_, cut)), testing::ElementsAre(Outcome::APPLIED)) << "needs no room";
  EXPECT_EQ(record(file_).blocks_reserved(), 3u);
  // Given back, nothing is refused on account of it any more: the sites know best.
  pb::Request back;
  auto* update = back.mutable_commit()->add_updates();
  update->set_ino(file_);
  update->add_unreserve()->set_count(4);
  ASSERT_THAT(outcomes(call(a_, back)), testing::ElementsAre(Outcome::APPLIED));
  EXPECT_EQ(record(file_).blocks_mapped(), 0u);
  set_full(false);
  const auto again = prepared(other_, 0);
  EXPECT_THAT(outcomes(call(a_, again)), testing::ElementsAre(Outcome::APPLIED));
  EXPECT_EQ(statfs().bytes_reserved(), 0u);
}

TEST_F(ServiceReservationsTest, AreMadeOnceHoweverOftenTheyAreSent) {
  auto request = reserve_request(0, 4, 100);
  request.set_id(++a_.last_id);
  for (int i = 0; i < 2; ++i) {
    service_->on_request(a_.connection, request);
    EXPECT_THAT(outcomes(await(a_, request.id())), testing::ElementsAre(Outcome::APPLIED));
  }
  EXPECT_EQ(reservations::total(reservations::demand(store_->begin()).value()), 4u * 4096);
}

TEST_F(ServiceReservationsTest, InvalidOnesAreRefused) {
  auto none = reserve_request(0, 0);
  EXPECT_NE(call(a_, none).error(), 0);
  EXPECT_NE(call(a_, reserve_request(UINT64_MAX, 1)).error(), 0);
  EXPECT_NE(call(a_, reserve_request(1, UINT64_MAX)).error(), 0);
  auto many = reserve_request(0, 1);
  for (int i = 0; i < 100; ++i)
    *many.mutable_commit()->mutable_updates(0)->add_reserve() = many.commit().updates(0).reserve(0);
  EXPECT_NE(call(a_, many).error(), 0);
  EXPECT_EQ(record(file_).blocks_reserved(), 0u);
}

TEST_F(ServiceTest, ReservationsNeedTheirFeature) {
  Client a = mount(1);
  pb::Request request;
  request.mutable_commit()->add_updates()->set_ino(create(a, "file"));
  request.mutable_commit()->mutable_updates(0)->add_unreserve()->set_count(1);
  const auto reply = call(a, request);
  EXPECT_NE(reply.error(), 0);
  EXPECT_THAT(reply.error_text(), testing::HasSubstr("feature enable reservations"));
}

}  // namespace
}  // namespace datacloud
