// What the block map refuses, and how single changes look.
#include <ctime>

#include "tests/daemon/records/block_map_fixture.h"
#include "tests/support/slowdown.h"

namespace datacloud {
namespace {

class BlockMapRulesTest : public BlockMapFixture {
 protected:
  // Adds the stripe and maps `run` of it to the file.
  result<pb::Inode> write(InodeId ino, const pb::Stripe& stripe, const pb::Run& run,
                          uint64_t grow_to) {
    return apply([&](Transaction& txn) -> result<pb::Inode> {
      TRY(add_stripe(txn, stripe));
      pb::InodeUpdate update;
      update.set_ino(ino);
      *update.add_runs() = run;
      update.set_grow_to(grow_to);
      return update_inode(txn, update);
    });
  }
  result<pb::Inode> map_only(InodeId ino, const pb::Run& run) {
    return apply([&](Transaction& txn) {
      pb::InodeUpdate update;
      update.set_ino(ino);
      *update.add_runs() = run;
      return update_inode(txn, update);
    });
  }
  Totals totals() { return read_totals(store_->begin()).value(); }
};

using Change = std::function<void(pb::Stripe&)>;

TEST_F(BlockMapRulesTest, ValidateStripeNamesWhatIsWrong) {
  const pb::Stripe good = make_stripe(5, {100, 200, 300, 400});
  ASSERT_TRUE(validate_stripe(good));
  ASSERT_TRUE(validate_stripe(make_stripe(5, {100}))) << "two empty columns";
  const std::vector<std::pair<const char*, Change>> bad = {
      {"id 0", [](pb::Stripe& s) { s.set_id(0); }},
      {"id beyond 56 bits", [](pb::Stripe& s) { s.set_id(uint64_t{1} << 56); }},
      {"unknown code", [](pb::Stripe& s) { s.set_code("xor-9"); }},
      {"another code", [](pb::Stripe& s) { s.set_code("rs-4-2"); }},
      {"a shard less", [](pb::Stripe& s) { s.mutable_shards()->RemoveLast(); }},
      {"a shard more", [](pb::Stripe& s) { *s.add_shards() = s.shards(4); }},
      {"no slots",
       [](pb::Stripe& s) {
         s.clear_slot_column();
         s.clear_slot_offset();
         s.clear_slot_length();
       }},
      {"slot arrays differ", [](pb::Stripe& s) { s.add_slot_column(0); }},
      {"slot arrays differ", [](pb::Stripe& s) { s.mutable_slot_length()->RemoveLast(); }},
      {"too many slots",
       [](pb::Stripe& s) {
         for (int i = 0; i < 4096; ++i) {
           s.add_slot_column(0);
           s.add_slot_offset(0);
           s.add_slot_length(0);
         }
       }},
      {"slot in a parity column", [](pb::Stripe& s) { s.set_slot_column(0, 3); }},
      {"slot beyond the column", [](pb::Stripe& s) { s.set_slot_length(0, 5000); }},
      {"slot that wraps",
       [](pb::Stripe& s) {
         s.set_slot_offset(0, 0xffffffff);
         s.set_slot_length(0, 2);
       }},
      {"slots overlap", [](pb::Stripe& s) { s.set_slot_offset(1, 50); }},
      {"empty slot", [](pb::Stripe& s) { s.set_slot_length(0, 0); }},
      {"parity longer", [](pb::Stripe& s) { s.mutable_shards(3)->set_bytes(401); }},
      {"parity shorter than data", [](pb::Stripe& s) { s.set_parity_bytes(399); }},
      {"no parity length", [](pb::Stripe& s) { s.set_parity_bytes(0); }},
      {"shards of no size", [](pb::Stripe& s) { s.set_shard_bytes(96 << 10); }},
      {"shards larger than the largest", [](pb::Stripe& s) { s.set_shard_bytes(8 << 20); }},
      {"huge", [](pb::Stripe& s) { s.mutable_shards(0)->set_bytes(65u << 20); }},
      {"parity empty", [](pb::Stripe& s) { s.mutable_shards(4)->set_state(pb::SHARD_EMPTY); }},
      {"used column empty", [](pb::Stripe& s) { s.mutable_shards(0)->set_state(pb::SHARD_EMPTY); }},
      {"present without instance", [](pb::Stripe& s) { s.mutable_shards(0)->set_instance(0); }},
      {"present at no site", [](pb::Stripe& s) { s.mutable_shards(0)->set_site(0); }},
      {"unknown state",
       [](pb::Stripe& s) { s.mutable_shards(0)->set_state(static_cast<pb::ShardState>(9)); }},
  };
  for (const auto& [what, change] : bad) {
    pb::Stripe stripe = good;
    change(stripe);
    const auto valid = validate_stripe(stripe);
    ASSERT_FALSE(valid) << what;
    EXPECT_TRUE(valid.error().is(Errc::invalid)) << what;
    EXPECT_NE(valid.error().text().find("stripe "), std::string::npos);
  }
}

TEST_F(BlockMapRulesTest, BadUpdatesAreRefused) {
  const InodeId f = make_file("f"), g = make_file("g");
  ASSERT_TRUE(write(f, make_stripe(1, {100, 100, 100}), make_run(0, 2, 1, 0, 1), 8192));
  const auto refused = [&](InodeId ino, const pb::Run& run) {
    const auto done = map_only(ino, run);
    EXPECT_FALSE(done);
    return !done && done.error().is(Errc::invalid);
  };
  EXPECT_TRUE(refused(g, make_run(0, 1, 9, 0, 1))) << "unknown stripe";
  EXPECT_TRUE(refused(g, make_run(0, 2, 1, 2, 1))) << "slots beyond the end";
  EXPECT_TRUE(refused(g, make_run(0, 1, 1, 0xffffffff, 1))) << "slot that wraps";
  EXPECT_TRUE(refused(g, make_run(0, 1, 1, 0, 1))) << "slot of another file";
  EXPECT_TRUE(refused(g, make_run(0, 2, 1, 1, 1))) << "one slot of another file";
  EXPECT_TRUE(refused(f, make_run(8, 1, 1, 1, 1))) << "slot mapped elsewhere";
  EXPECT_TRUE(refused(g, make_run(0, 0, 1, 2, 1))) << "empty run";
  EXPECT_TRUE(refused(g, make_run(0, 5000, 1, 2, 1))) << "long run";
  EXPECT_TRUE(refused(g, make_run(0, 1, 1, 2, UINT64_MAX))) << "version that wraps";
  EXPECT_TRUE(refused(kRootInode, make_run(0, 1, 1, 2, 1))) << "a directory";
  EXPECT_EQ(map_only(g, make_run(UINT64_MAX, 1, 1, 2, 1)).error().errno_value(), EFBIG);
  EXPECT_EQ(map_only(999, make_run(0, 1, 1, 2, 1)).error().errno_value(), ENOENT);
  const auto again = write(g, make_stripe(1, {5}), make_run(0, 1, 1, 0, 1), 1);
  ASSERT_FALSE(again);
  EXPECT_TRUE(again.error().is(Errc::exists));
  EXPECT_TRUE(map_only(g, make_run(0, 1, 1, 2, 1)));
  expect_clean();
}

TEST_F(BlockMapRulesTest, OverwritingTheMiddleSplitsARun) {
  const InodeId f = make_file("f");
  ASSERT_TRUE(write(f, make_stripe(1, std::vector<uint32_t>(9, 100)), make_run(10, 9, 1, 0, 50),
                    19 * 4096));
  ASSERT_TRUE(write(f, make_stripe(2, {70, 80}), make_run(13, 2, 2, 0, 90), 0));
  pb::MapRequest request;
  request.set_ino(f);
  request.set_blocks(100);
  const auto reply = read_map(store_->begin(), request).value();
  ASSERT_EQ(reply.runs_size(), 3);
  EXPECT_EQ(reply.runs(0).SerializeAsString(), make_run(10, 3, 1, 0, 50).SerializeAsString());
  EXPECT_EQ(reply.runs(1).SerializeAsString(), make_run(13, 2, 2, 0, 90).SerializeAsString());
  EXPECT_EQ(reply.runs(2).SerializeAsString(), make_run(15, 4, 1, 5, 55).SerializeAsString());
  EXPECT_EQ(totals().live_bytes, 700u + 150u);
  EXPECT_EQ(totals().blocks_logical_bytes, 9u * 4096);
  expect_clean();
}

// A stripe that loses its last old slot and gains a new one in one update stays.
TEST_F(BlockMapRulesTest, AStripeThatReplacesItselfStays) {
  const InodeId f = make_file("f");
  ASSERT_TRUE(write(f, make_stripe(1, {100, 100}), make_run(0, 1, 1, 0, 1), 4096));
  ASSERT_TRUE(map_only(f, make_run(0, 1, 1, 1, 2)));
  EXPECT_TRUE(get_stripe(store_->begin(), 1).value());
  EXPECT_TRUE(pending().empty());
  expect_clean();
}

TEST_F(BlockMapRulesTest, TruncationKeepsTheBlockTheFileEndsIn) {
  const InodeId f = make_file("f");
  ASSERT_TRUE(write(f, make_stripe(1, {100, 100, 100}), make_run(0, 3, 1, 0, 1), 3 * 4096));
  pb::InodeUpdate update;
  update.set_ino(f);
  update.set_truncate_to(4097);
  update.set_mtime_ns(-5);
  update.set_ctime_ns(6);
  update.set_mode(S_IFREG | 0711);
  const auto inode = apply([&](Transaction& txn) { return update_inode(txn, update); });
  ASSERT_TRUE(inode);
  EXPECT_EQ(inode.value().blocks_mapped(), 2u);
  EXPECT_EQ(inode.value().size(), 4097u);
  EXPECT_EQ(inode.value().mtime_ns(), -5);
  EXPECT_EQ(inode.value().ctime_ns(), 6);
  EXPECT_EQ(inode.value().mode(), S_IFREG | 0711u);
  EXPECT_EQ(totals().blocks_logical_bytes, 4097u);
  update.set_truncate_to(0);
  ASSERT_TRUE(apply([&](Transaction& txn) { return update_inode(txn, update); }));
  EXPECT_EQ(totals(), Totals{.inodes = 2});
  EXPECT_EQ(pending().size(), 5u);
  update.set_truncate_to(uint64_t{1} << 63);
  EXPECT_EQ(
      apply([&](Transaction& txn) { return update_inode(txn, update); }).error().errno_value(),
      EFBIG);
  expect_clean();
}

TEST_F(BlockMapRulesTest, DamageIsKeptWhileItIsTrue) {
  const InodeId f = make_file("f");
  ASSERT_TRUE(write(f, make_stripe(1, {100}), make_run(0, 1, 1, 0, 1), 4096));
  pb::Damage damage;
  damage.set_stripe(1);
  damage.set_column(0);
  damage.set_instance(100);
  damage.set_reason(std::string(10000, 'r'));
  const auto report = [&] {
    return apply([&](Transaction& txn) { return record_damage(txn, damage); });
  };
  ASSERT_TRUE(report());
  pb::Damage stored;
  ASSERT_TRUE(store_->begin().get(key::damage(1, 0), stored).value());
  EXPECT_EQ(stored.reason().size(), 512u);
  damage.set_column(3);
  damage.set_instance(7);  // replaced since
  ASSERT_TRUE(report());
  EXPECT_FALSE(store_->begin().get(key::damage(1, 3)).value());
  damage.set_column(5);
  EXPECT_TRUE(report().error().is(Errc::invalid));
  damage.set_stripe(77);
  EXPECT_TRUE(report());
  pb::InodeUpdate update;
  update.set_ino(f);
  update.set_truncate_to(0);
  ASSERT_TRUE(apply([&](Transaction& txn) { return update_inode(txn, update); }));
  EXPECT_FALSE(store_->begin().get(key::damage(1, 0)).value());
  expect_clean();
}

TEST_F(BlockMapRulesTest, OnlyOrphansAreReclaimed) {
  const InodeId f = make_file("f");
  const auto refused = apply([&](Transaction& txn) { return reclaim_inode(txn, f, 10); });
  ASSERT_FALSE(refused);
  EXPECT_TRUE(refused.error().is(Errc::invalid));
  EXPECT_TRUE(apply([&](Transaction& txn) { return reclaim_inode(txn, 12345, 10); }).value());
}

// Steps free the runs from the front, also after a restart between them.
TEST_F(BlockMapRulesTest, ReclaimingGoesOnWhereItStopped) {
  const InodeId f = make_file("f");
  for (int i = 0; i < 10; ++i) {
    ASSERT_TRUE(write(f, make_stripe(i + 1, {100}), make_run(i * 3, 1, i + 1, 0, i + 1), 0));
  }
  pb::UnlinkRequest request;
  request.set_parent(kRootInode);
  request.set_name("f");
  ASSERT_TRUE(apply([&](Transaction& txn) { return unlink(txn, request); }));
  for (const uint64_t left : {6u, 2u}) {
    EXPECT_FALSE(apply([&](Transaction& txn) { return reclaim_inode(txn, f, 4); }).value());
    EXPECT_EQ(get_inode(store_->begin(), f).value().blocks_mapped(), left);
    expect_clean();
    open();
  }
  EXPECT_TRUE(apply([&](Transaction& txn) { return reclaim_inode(txn, f, 4); }).value());
  EXPECT_EQ(totals(), Totals{.inodes = 1});
  EXPECT_FALSE(store_->begin().get(key::orphan(f)).value());
  EXPECT_EQ(pending().size(), 30u);
  expect_clean();
}

TEST_F(BlockMapRulesTest, TheCheckFindsWhatIsBroken) {
  const InodeId f = make_file("f");
  ASSERT_TRUE(write(f, make_stripe(1, {100, 100}), make_run(0, 2, 1, 0, 1), 8192));
  const std::vector<std::function<void(Transaction&)>> breaks = {
      [&](Transaction& txn) { txn.erase(key::stripe(1)); },
      [&](Transaction& txn) { txn.erase(key::live(1)); },
      [&](Transaction& txn) { txn.erase(key::owner(1, 0)); },
      [&](Transaction& txn) { txn.erase(key::run(f, 0)); },
      [&](Transaction& txn) { txn.erase(key::inode(f)); },
      [&](Transaction& txn) { txn.put(key::run(f, 1), make_run(1, 1, 1, 1, 1)); },
      [&](Transaction& txn) { txn.put(key::run(f, 5), make_run(5, 1, 1, 7, 1)); },
      [&](Transaction& txn) { txn.put(key::stripe(9), make_stripe(9, {1})); },
      [&](Transaction& txn) { write_totals(txn, Totals{}); },
      [&](Transaction& txn) {
        pb::PendingDeletion p;
        p.set_stripe(1);
        p.set_instance(100);
        ASSERT_TRUE(add_pending_deletion(txn, p));
      },
  };
  for (size_t i = 0; i < breaks.size(); ++i) {
    auto txn = store_->begin();
    breaks[i](txn);
    const auto findings = check_block_map(txn);
    ASSERT_TRUE(findings);
    EXPECT_FALSE(findings.value().empty()) << "break " << i;
  }
  expect_clean();
}

int64_t thread_cpu_us() {
  timespec now{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return now.tv_sec * int64_t{1'000'000} + now.tv_nsec / 1000;
}

// The commit of a stripe that holds 100 small files takes well below a millisecond in a Release
// build; the bound here, of CPU time, only catches a change of its order.
TEST_F(BlockMapRulesTest, SmallFilesCommitQuickly) {
  std::vector<InodeId> files;
  for (int i = 0; i < 100; ++i) files.push_back(make_file(std::to_string(i)));
  constexpr int kRounds = 50;
  for (const char* what : {"first", "second"}) {
    const StripeId base = what[0] == 'f' ? 1 : 1000;
    const int64_t started = thread_cpu_us();
    for (int round = 0; round < kRounds; ++round) {
      const auto done = apply([&](Transaction& txn) -> result<void> {
        TRY(add_stripe(txn, make_stripe(base + round, std::vector<uint32_t>(192, 4136))));
        for (int i = 0; i < 100; ++i) {
          pb::InodeUpdate update;
          update.set_ino(files[i]);
          *update.add_runs() = make_run(round, 1, base + round, i, round * 100 + i);
          update.set_grow_to(4096 * (round + 1));
          TRY(update_inode(txn, update));
        }
        return success();
      });
      ASSERT_TRUE(done) << done.error().message();
    }
    const int64_t each_us = (thread_cpu_us() - started) / kRounds;
    std::printf("%s write: %lld us of CPU per commit\n", what, static_cast<long long>(each_us));
    EXPECT_LT(each_us, 20'000 * kSlowdown);
  }
  expect_clean();
}

}  // namespace
}  // namespace datacloud
