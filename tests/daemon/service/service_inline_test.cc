// Commits that bring bytes for the records: what makes one invalid, what is not taken and leaves
// the rest of the commit alone, and what maps give back.
#include "common/rpc/inline_limits.h"
#include "daemon/records/inline_blocks.h"
#include "tests/daemon/service/inline_rig.h"

namespace datacloud {
namespace {

using testing::ElementsAre;

TEST_F(ServiceInlineTest, ABlockAndItsPatchesComeBackWithTheMap) {
  EXPECT_THAT(put(0, false, sealed('a')), ElementsAre(Outcome::APPLIED));
  EXPECT_THAT(put(0, true, sealed('b')), ElementsAre(Outcome::APPLIED));
  write_block(a_, file_, 1);
  versions_ = grant(a_, IdKind::version, 1000);
  EXPECT_THAT(put(1, true, sealed('c')), ElementsAre(Outcome::APPLIED));
  EXPECT_EQ(record().blocks_mapped(), 2u);
  EXPECT_EQ(record().size(), 2 * 4096u);
  const auto reply = map_request(0, 10);
  ASSERT_EQ(reply.error(), 0) << reply.error_text();
  std::string all;
  for (const auto& piece : reply.map().pieces()) all += piece.sealed()[0];
  EXPECT_EQ(all, "abc");
  ASSERT_EQ(reply.map().runs_size(), 2);
  EXPECT_TRUE(reply.map().runs(0).inline_());
  EXPECT_EQ(reply.map().runs(1).patches(), 1u);
  EXPECT_EQ(reply.map().stripes_size(), 1);
  EXPECT_THAT(check_block_map(store_->begin()).value(), testing::IsEmpty());
  restart();
  connect(a_, pb::CLIENT_MOUNT, {held(file_, pb::LEASE_WRITE)});
  EXPECT_EQ(map_request(0, 10).map().pieces_size(), 3);
}

TEST_F(ServiceInlineTest, SentAgainACommitIsAnsweredFromTheStore) {
  put(0, false, sealed('a'));
  pb::Request request = piece_request(0, true, sealed('b'));
  const uint64_t id = send(a_, request);
  EXPECT_THAT(outcomes(await(a_, id)), ElementsAre(Outcome::APPLIED));
  a_.connection->replies.clear();
  request.set_id(id);
  service_->on_request(a_.connection, request);
  EXPECT_THAT(outcomes(await(a_, id)), ElementsAre(Outcome::APPLIED));
  EXPECT_EQ(map_of()[0].patches(), 1u) << "not patched twice";
}

TEST_F(ServiceInlineTest, WhatCannotBePatchedIsNotTakenAndTheRestIsMade) {
  EXPECT_THAT(put(0, true, sealed('a')), ElementsAre(Outcome::NOT_SHARED)) << "a hole";
  EXPECT_EQ(record().size(), 0u) << "nothing of the update is applied";
  put(0, false, sealed('a'));
  for (uint32_t i = 0; i < config_.block_patches_max; ++i) {
    EXPECT_THAT(put(0, true, sealed('p')), ElementsAre(Outcome::APPLIED));
  }
  EXPECT_THAT(put(0, true, sealed('p')), ElementsAre(Outcome::NOT_SHARED)) << "as many as allowed";
  put(0, false, sealed('b'));
  EXPECT_THAT(put(0, true, sealed('p', 3000)), ElementsAre(Outcome::NOT_SHARED))
      << "longer than half the block";
  auto older = piece_request(0, true, sealed('p'));
  const uint64_t low = versions_ - 900;
  older.mutable_commit()->mutable_updates(0)->mutable_runs(0)->set_version(low);
  older.mutable_commit()->mutable_pieces(0)->set_version(low);
  const auto reply = call(a_, older);
  EXPECT_NE(reply.error() == 0 && outcomes(reply)[0] == Outcome::APPLIED, true);
  EXPECT_THAT(put(0, true, sealed('p')), ElementsAre(Outcome::APPLIED));
}

TEST_F(ServiceInlineTest, OverTheBoundOfTheCloudBytesGoIntoStripes) {
  for (uint64_t block = 0; block < 16; ++block) {
    EXPECT_THAT(put(block, false, sealed('a', 4000)), ElementsAre(Outcome::APPLIED));
  }
  run_for(seconds(1));
  EXPECT_THAT(put(16, false, sealed('a', 4000)), ElementsAre(Outcome::NOT_SHARED));
  pb::Request cut;
  auto* update = cut.mutable_commit()->add_updates();
  update->set_ino(file_);
  update->set_truncate_to(4096);
  EXPECT_EQ(call(a_, cut).error(), 0);
  run_for(seconds(11));
  put(1, false, sealed('a', 4000));  // lets the records be counted
  run_for(seconds(1));
  EXPECT_THAT(put(1, false, sealed('a', 4000)), ElementsAre(Outcome::APPLIED));
}

TEST_F(ServiceInlineTest, ACommitIsInvalidAsAWhole) {
  put(0, false, sealed('a'));
  using Commit = pb::CommitRequest;
  const auto run_of = [](Commit& c) { return c.mutable_updates(0)->mutable_runs(0); };
  expect_invalid([](Commit& c) { c.clear_pieces(); }, "has no bytes");
  expect_invalid([](Commit& c) { c.mutable_updates(0)->clear_runs(); }, "have no run");
  expect_invalid([](Commit& c) { *c.add_pieces() = c.pieces(0); }, "comes twice");
  expect_invalid([](Commit& c) { *c.mutable_updates(0)->add_runs() = c.updates(0).runs(0); },
                 "is there twice");
  expect_invalid([](Commit& c) { c.mutable_pieces(0)->set_version(1); }, "has no bytes");
  expect_invalid([](Commit& c) { c.mutable_pieces(0)->set_patch(false); }, "has no bytes");
  expect_invalid([](Commit& c) { c.mutable_pieces(0)->set_sealed("short"); }, "no sealed patch");
  expect_invalid(
      [](Commit& c) { c.mutable_pieces(0)->set_sealed(sealed('x', kPieceBytesMax + 1)); },
      "at most");
  expect_invalid([](Commit& c) { c.mutable_updates(0)->clear_follows(); }, "follow any state");
  expect_invalid([&](Commit& c) { run_of(c)->set_count(2); }, "several blocks");
  expect_invalid([&](Commit& c) { run_of(c)->set_stripe(5); }, "names a slot");
  expect_invalid([&](Commit& c) { run_of(c)->set_patches(2); }, "more than one");
  expect_invalid([&](Commit& c) { run_of(c)->set_inline_(true); }, "more than one");
  constexpr ContentVersion kNotGranted = ContentVersion{1} << 40;
  const auto other = call(a_, [&] {
    auto request = piece_request(0, true, sealed('x'));
    run_of(*request.mutable_commit())->set_version(kNotGranted);
    request.mutable_commit()->mutable_pieces(0)->set_version(kNotGranted);
    return request;
  }());
  EXPECT_EQ(other.error(), -static_cast<int>(Errc::revoked)) << "a version that is not granted";
}

TEST_F(ServiceInlineTest, ALargeMapIsAnsweredInParts) {
  config_.inline_bytes_max = 64 << 20;
  restart();
  connect(a_, pb::CLIENT_MOUNT, {held(file_, pb::LEASE_WRITE)});
  const uint64_t blocks = kMapPieceBytes / 4000 + 20;
  for (uint64_t block = 0; block < blocks;) {
    auto request = piece_request(block, false, sealed('a', 4000));
    for (int i = 1; i < 100 && ++block < blocks; ++i)
      add_piece(request, block, false, sealed('a', 4000));
    EXPECT_EQ(call(a_, request).error(), 0);
    ++block;
  }
  const auto first = map_request(0, 1024);
  ASSERT_EQ(first.error(), 0) << first.error_text();
  EXPECT_LT(static_cast<uint64_t>(first.map().runs_size()), blocks);
  EXPECT_EQ(first.map().runs_size(), first.map().pieces_size());
  const auto rest = map_request(static_cast<uint64_t>(first.map().runs_size()), 1024);
  EXPECT_EQ(static_cast<uint64_t>(first.map().runs_size() + rest.map().runs_size()), blocks);
}

}  // namespace
}  // namespace datacloud
