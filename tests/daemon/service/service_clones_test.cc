// Clones that mounts ask for: what makes a commit invalid, what is not shared and leaves the rest
// of the commit alone, and that a clone is made once however often it is sent.
#include <functional>

#include "common/rpc/clone_limits.h"
#include "daemon/records/cloud_features.h"
#include "daemon/records/slot_references.h"
#include "tests/daemon/service/service_rig.h"

namespace datacloud {
namespace {

using Outcome = pb::UpdateOutcome;

class ServiceClonesTest : public ServiceTest {
 protected:
  void SetUp() override {
    ServiceTest::SetUp();
    change([&](Transaction& txn) {
      ASSERT_TRUE(enable_feature(txn, Feature::shared_slots, store_->sequence() + 1));
    });
    restart();
    a_ = mount(1, {std::string(describe(Feature::shared_slots).name)});
    source_ = create(a_, "source");
    target_ = create(a_, "target");
    for (uint64_t block = 0; block < 3; ++block) write_block(a_, source_, block);
  }

  void change(const std::function<void(Transaction&)>& make) {
    Transaction txn = store_->begin();
    make(txn);
    ASSERT_TRUE(store_->commit(std::move(txn)));
  }
  void change_inode(InodeId ino, const std::function<void(pb::Inode&)>& make) {
    change([&](Transaction& txn) {
      pb::Inode inode = record(ino);
      make(inode);
      txn.put("I" + big_endian(ino), inode);
    });
  }
  static std::string big_endian(uint64_t number) {
    std::string out;
    for (int shift = 56; shift >= 0; shift -= 8) out += static_cast<char>(number >> shift);
    return out;
  }
  pb::Inode record(InodeId ino) { return get_inode(store_->begin(), ino).value(); }
  std::vector<pb::Run> map_of(InodeId ino) {
    return runs_of(store_->begin(), ino, 0, 1u << 20).value();
  }

  pb::Request clone_request(uint64_t from, uint64_t to, uint32_t blocks, uint64_t change_id = 77) {
    pb::Request request;
    auto* update = request.mutable_commit()->add_updates();
    update->set_ino(target_);
    update->set_change_id(change_id);
    update->set_grow_to((to + blocks) * 4096);
    update->set_mtime_ns(5);
    update->set_ctime_ns(6);
    add_clone(*update, from, to, blocks);
    return request;
  }
  void add_clone(pb::InodeUpdate& update, uint64_t from, uint64_t to, uint32_t blocks) {
    auto* clone = update.add_clones();
    clone->set_from_ino(source_);
    clone->set_from_block(from);
    clone->set_to_block(to);
    clone->set_blocks(blocks);
    clone->set_from_change_id(record(source_).change_id());
  }
  static pb::Clone& clone_of(pb::Request& request) {
    return *request.mutable_commit()->mutable_updates(0)->mutable_clones(0);
  }
  void expect_refused(const pb::Request& request, Errc error, const std::string& why) {
    const auto reply = call(a_, request);
    EXPECT_EQ(reply.error(), -static_cast<int>(error)) << reply.error_text();
    EXPECT_THAT(reply.error_text(), testing::HasSubstr(why));
    EXPECT_TRUE(map_of(target_).empty());
  }
  void expect_not_shared(const pb::Request& request) {
    const auto reply = call(a_, request);
    ASSERT_EQ(reply.error(), 0) << reply.error_text();
    EXPECT_THAT(outcomes(reply), testing::ElementsAre(Outcome::NOT_SHARED));
    EXPECT_TRUE(map_of(target_).empty());
    EXPECT_EQ(record(target_).size(), 0u) << "nothing of the update is applied";
  }

  Client a_;
  InodeId source_ = 0, target_ = 0;
};

TEST_F(ServiceClonesTest, BlocksSizeTimesAndChangeIdAreOneChange) {
  const auto before = read_totals(store_->begin()).value();
  const auto reply = call(a_, clone_request(0, 1, 3));
  ASSERT_EQ(reply.error(), 0) << reply.error_text();
  EXPECT_THAT(outcomes(reply), testing::ElementsAre(Outcome::APPLIED));
  EXPECT_EQ(reply.commit().outcomes(0).blocks_mapped(), 3u);
  EXPECT_EQ(reply.commit().outcomes(0).size(), 4 * 4096u);
  const pb::Inode inode = record(target_);
  EXPECT_EQ(inode.change_id(), 77u);
  EXPECT_EQ(inode.mtime_ns(), 5);
  EXPECT_EQ(inode.ctime_ns(), 6);
  const auto runs = map_of(target_);
  ASSERT_EQ(runs.size(), 3u);
  EXPECT_EQ(runs[0].first_block(), 1u);
  EXPECT_EQ(runs[0].sealed_for().ino(), source_);
  const auto after = read_totals(store_->begin()).value();
  EXPECT_EQ(after.live_bytes, before.live_bytes);
  EXPECT_EQ(after.blocks_logical_bytes, before.blocks_logical_bytes + 3 * 4096);
}

TEST_F(ServiceClonesTest, SourceGoesTheCloneStays) {
  ASSERT_THAT(outcomes(call(a_, clone_request(0, 0, 3))), testing::ElementsAre(Outcome::APPLIED));
  const size_t stored = objects();
  EXPECT_EQ(call(a_, unlink_request("source")).error(), 0);
  call(a_, release_request(source_));
  Client t = tool();
  call(t, gc_request());
  EXPECT_EQ(objects(), stored);
  EXPECT_EQ(map_of(target_).size(), 3u);
  EXPECT_EQ(call(a_, unlink_request("target")).error(), 0);
  call(a_, release_request(target_));
  run_for(seconds(2));
  call(t, gc_request());
  EXPECT_EQ(objects(), 0u);
}

TEST_F(ServiceClonesTest, SentAgainItIsAnsweredFromTheStore) {
  pb::Request request = clone_request(0, 0, 3);
  const uint64_t id = send(a_, request);
  const auto first = await(a_, id);
  EXPECT_THAT(outcomes(first), testing::ElementsAre(Outcome::APPLIED));
  // The mount has overwritten a block since; the answer had been lost on its way.
  write_block(a_, target_, 1);
  const auto written = map_of(target_);
  a_.connection->replies.clear();
  request.set_id(id);
  service_->on_request(a_.connection, request);
  const auto again = await(a_, id);
  EXPECT_THAT(outcomes(again), testing::ElementsAre(Outcome::APPLIED));
  ASSERT_EQ(map_of(target_).size(), written.size());
  EXPECT_EQ(map_of(target_)[1].stripe(), written[1].stripe()) << "not cloned twice";
  // The same after the daemon's death.
  restart();
  connect(a_, pb::CLIENT_MOUNT, {held(source_, pb::LEASE_READ), held(target_, pb::LEASE_WRITE)});
  service_->on_request(a_.connection, request);
  EXPECT_THAT(outcomes(await(a_, id)), testing::ElementsAre(Outcome::APPLIED));
  EXPECT_EQ(map_of(target_)[1].stripe(), written[1].stripe());
}

TEST_F(ServiceClonesTest, ACommitIsInvalidAsAWhole) {
  auto request = clone_request(0, 0, 3);
  clone_of(request).set_blocks(0);
  expect_refused(request, Errc::invalid, "no blocks");
  request = clone_request(UINT64_MAX - 1, 0, 3);
  expect_refused(request, Errc::invalid, "beyond 2^64");
  request = clone_request(0, UINT64_MAX - 1, 3);
  expect_refused(request, Errc::invalid, "beyond 2^64");
  request = clone_request(0, 0, kCloneBlocksMax + 1);
  expect_refused(request, Errc::invalid, "65537 blocks");
  request = clone_request(0, 0, 1);
  for (int i = 0; i < kClonesMax; ++i)
    add_clone(*request.mutable_commit()->mutable_updates(0), 0, 9, 1);
  expect_refused(request, Errc::invalid, "65 clones");
  request = clone_request(0, 0, 1);
  *request.mutable_commit()->add_updates() = request.commit().updates(0);
  expect_refused(request, Errc::invalid, "2 updates");
  request = clone_request(0, uint64_t{1} << 62, 1);
  request.mutable_commit()->mutable_updates(0)->clear_grow_to();
  const auto reply = call(a_, request);
  EXPECT_EQ(reply.error(), EFBIG) << reply.error_text();
}

TEST_F(ServiceClonesTest, WithinOneFileRangesMayNotOverlap) {
  auto request = clone_request(0, 2, 3);
  request.mutable_commit()->mutable_updates(0)->set_ino(source_);
  expect_refused(request, Errc::invalid, "overlap");
  request = clone_request(0, 10, 3);
  auto* update = request.mutable_commit()->mutable_updates(0);
  update->set_ino(source_);
  update->set_truncate_to(0);
  expect_refused(request, Errc::invalid, "only change");
  update->clear_truncate_to();
  EXPECT_THAT(outcomes(call(a_, request)), testing::ElementsAre(Outcome::APPLIED));
  EXPECT_EQ(map_of(source_).size(), 6u);
}

TEST_F(ServiceClonesTest, WithoutTheWriteLeaseOfTheTargetTheCommitFails) {
  auto request = clone_request(0, 0, 3);
  call(a_, release_request(target_));
  const auto reply = call(a_, request);
  EXPECT_EQ(reply.error(), -static_cast<int>(Errc::stale)) << reply.error_text();
}

TEST_F(ServiceClonesTest, WithoutALeaseOnTheSourceItIsNotShared) {
  const auto request = clone_request(0, 0, 3);
  call(a_, release_request(source_));
  expect_not_shared(request);
}

TEST_F(ServiceClonesTest, AnotherStateOfTheSourceIsNotShared) {
  auto request = clone_request(0, 0, 3);
  write_block(a_, source_, 7);
  expect_not_shared(request);
  clone_of(request).set_from_change_id(record(source_).change_id());
  EXPECT_THAT(outcomes(call(a_, request)), testing::ElementsAre(Outcome::APPLIED));
}

TEST_F(ServiceClonesTest, ASourceOlderThanChangeIdsIsShared) {
  change_inode(source_, [](pb::Inode& inode) { inode.set_change_id(0); });
  EXPECT_THAT(outcomes(call(a_, clone_request(0, 0, 3))), testing::ElementsAre(Outcome::APPLIED));
}

TEST_F(ServiceClonesTest, WhatIsKeptDifferentlyIsNotShared) {
  const auto request = clone_request(0, 0, 3);
  const pb::Inode whole = record(target_);
  change_inode(target_, [](pb::Inode& inode) { inode.set_realm(1); });
  expect_not_shared(request);
  change_inode(target_, [&](pb::Inode& inode) {
    inode = whole;
    inode.set_generation(2);
  });
  expect_not_shared(request);
  change_inode(target_, [&](pb::Inode& inode) {
    inode = whole;
    inode.mutable_policy()->set_block_bytes(8192);
  });
  expect_not_shared(request);
  change_inode(target_, [&](pb::Inode& inode) { inode = whole; });
  EXPECT_THAT(outcomes(call(a_, request)), testing::ElementsAre(Outcome::APPLIED));
}

TEST_F(ServiceClonesTest, ASourceThatIsGoneIsNotShared) {
  const auto request = clone_request(0, 0, 3);
  EXPECT_EQ(call(a_, unlink_request("source")).error(), 0);
  call(a_, release_request(source_));
  run_for(seconds(2));
  expect_not_shared(request);
}

TEST_F(ServiceClonesTest, LostBlocksAreNotShared) {
  change([&](Transaction& txn) {
    pb::Run lost;
    lost.set_first_block(9);
    lost.set_count(1);
    txn.put("M" + big_endian(source_) + big_endian(9), lost);
    pb::Inode inode = record(source_);
    inode.set_blocks_mapped(inode.blocks_mapped() + 1);
    inode.set_size(10 * 4096);
    txn.put("I" + big_endian(source_), inode);
    auto totals = read_totals(txn).value();
    totals.blocks_logical_bytes += 4096;
    write_totals(txn, totals);
  });
  expect_not_shared(clone_request(0, 0, 10));
  EXPECT_THAT(outcomes(call(a_, clone_request(0, 0, 9))), testing::ElementsAre(Outcome::APPLIED));
}

TEST_F(ServiceClonesTest, AStripeIsSharedSoOftenAndNotMore) {
  auto request = clone_request(0, 0, 1);
  auto* update = request.mutable_commit()->mutable_updates(0);
  uint64_t made = 0;
  while (made < stripes::kSharedReferencesMax) {
    update->clear_clones();
    for (int i = 0; i < kClonesMax && made < stripes::kSharedReferencesMax; ++i)
      add_clone(*update, 0, 2 * made++, 1);
    ASSERT_THAT(outcomes(call(a_, request)), testing::ElementsAre(Outcome::APPLIED)) << made;
  }
  const uint64_t blocks = record(target_).blocks_mapped();
  update->clear_clones();
  add_clone(*update, 0, 2 * made, 1);
  EXPECT_THAT(outcomes(call(a_, request)), testing::ElementsAre(Outcome::NOT_SHARED));
  EXPECT_EQ(record(target_).blocks_mapped(), blocks);
  update->clear_clones();
  add_clone(*update, 1, 2 * made, 1);
  EXPECT_THAT(outcomes(call(a_, request)), testing::ElementsAre(Outcome::APPLIED)) << "another one";
}

TEST_F(ServiceClonesTest, RangesOfManyRunsAreAskedForInParts) {
  for (uint64_t made = 0; made < kCloneRunsMax; made += kClonesMax) {
    pb::Request request = clone_request(0, 0, 1);
    auto* update = request.mutable_commit()->mutable_updates(0);
    update->clear_clones();
    for (uint64_t i = made; i < made + kClonesMax; ++i) add_clone(*update, i % 2, i, 1);
    ASSERT_THAT(outcomes(call(a_, request)), testing::ElementsAre(Outcome::APPLIED));
  }
  // Now from the file that has so many.
  std::swap(source_, target_);
  auto request = clone_request(0, 10'000, kCloneRunsMax);
  EXPECT_THAT(outcomes(call(a_, request)), testing::ElementsAre(Outcome::APPLIED));
  request = clone_request(0, 10'000, kCloneRunsMax);
  EXPECT_THAT(outcomes(call(a_, request)), testing::ElementsAre(Outcome::NOT_SHARED))
      << "as many are in its place";
  request = clone_request(0, 10'000, kCloneBlocksSure);
  EXPECT_THAT(outcomes(call(a_, request)), testing::ElementsAre(Outcome::APPLIED));
}

// Stripes that came for an update which is left out are garbage; other updates are made.
TEST_F(ServiceClonesTest, TheRestOfTheCommitIsMade) {
  const InodeId other = create(a_, "other");
  auto request = clone_request(0, 0, 1, 78);
  clone_of(request).set_from_change_id(12345);
  auto* update = request.mutable_commit()->add_updates();
  update->set_ino(other);
  update->set_grow_to(5);
  EXPECT_THAT(outcomes(call(a_, request)),
              testing::ElementsAre(Outcome::NOT_SHARED, Outcome::APPLIED));
  EXPECT_EQ(record(other).size(), 5u);
}

class ServiceWithoutClonesTest : public ServiceTest {};

TEST_F(ServiceWithoutClonesTest, WhereTheFeatureIsOffNothingIsShared) {
  Client a = mount(1);
  const InodeId source = create(a, "source"), target = create(a, "target");
  write_block(a, source);
  pb::Request request;
  auto* update = request.mutable_commit()->add_updates();
  update->set_ino(target);
  auto* clone = update->add_clones();
  clone->set_from_ino(source);
  clone->set_blocks(1);
  clone->set_from_change_id(get_inode(store_->begin(), source).value().change_id());
  const auto reply = call(a, request);
  EXPECT_EQ(reply.error(), -static_cast<int>(Errc::invalid));
  EXPECT_THAT(reply.error_text(), testing::HasSubstr("datacloud feature enable shared-slots"));
  EXPECT_EQ(get_inode(store_->begin(), target).value().blocks_mapped(), 0u);
}

}  // namespace
}  // namespace datacloud
