// XOR rows in the records: what a row may be, what keeps its dead members, and when a group goes.
#include "daemon/records/stripe_groups.h"

#include <algorithm>

#include "daemon/records/stripe_records.h"
#include "tests/daemon/records/block_map_fixture.h"

namespace datacloud {
namespace {

class StripeGroupsTest : public BlockMapFixture {
 protected:
  // A stripe of these slots, all mapped from `block` on.
  pb::Stripe write(InodeId ino, StripeId id, const std::vector<uint32_t>& lengths, uint64_t block) {
    const pb::Stripe stripe = make_stripe(id, lengths);
    const auto written = apply([&](Transaction& txn) -> result<pb::Inode> {
      TRY(add_stripe(txn, stripe));
      return map(txn, ino, make_run(block, static_cast<uint32_t>(lengths.size()), id, 0, id * 100));
    });
    EXPECT_TRUE(written) << written.error().message();
    return stripe;
  }
  static result<pb::Inode> map(Transaction& txn, InodeId ino, const pb::Run& run) {
    pb::InodeUpdate update;
    update.set_ino(ino);
    *update.add_runs() = run;
    update.set_grow_to((run.first_block() + run.count()) * 4096);
    return update_inode(txn, update);
  }
  // Unmaps everything from the block on.
  void truncate(InodeId ino, uint64_t block) {
    const auto cut = apply([&](Transaction& txn) {
      pb::InodeUpdate update;
      update.set_ino(ino);
      update.set_truncate_to(block * 4096);
      return update_inode(txn, update);
    });
    EXPECT_TRUE(cut) << cut.error().message();
  }
  static pb::Stripe make_row(StripeId id, const std::vector<pb::Stripe>& members) {
    pb::Stripe row;
    row.set_id(id);
    row.set_code("rs-3-2");
    for (const auto& member : members) {
      row.add_members(member.id());
      row.set_parity_bytes(std::max(row.parity_bytes(), member.parity_bytes()));
    }
    for (int c = 0; c < 5; ++c) {
      auto* shard = row.add_shards();
      for (const auto& member : members) {
        shard->set_bytes(std::max(shard->bytes(), member.shards(c).bytes()));
      }
      if (shard->bytes() == 0) {
        shard->set_state(pb::SHARD_EMPTY);
        continue;
      }
      shard->set_site(static_cast<uint32_t>(c) + 1);
      shard->set_home_site(static_cast<uint32_t>(c) + 1);
      shard->set_instance(id * 100 + static_cast<uint64_t>(c));
    }
    return row;
  }
  result<bool> add(const pb::Stripe& row) {
    return apply([&](Transaction& txn) {
      return add_row(txn, row, [](const pb::Stripe&) { return true; });
    });
  }
  std::optional<pb::Stripe> record(StripeId id) { return get_stripe(store_->begin(), id).value(); }
  size_t pending_of(StripeId id) {
    const auto all = pending();
    return static_cast<size_t>(
        std::count_if(all.begin(), all.end(), [&](const auto& p) { return p.stripe() == id; }));
  }
};

TEST_F(StripeGroupsTest, ARowMayBeOnlyWhatItsMembersMakeIt) {
  const InodeId file = make_file("f");
  const std::vector<pb::Stripe> members = {write(file, 5, {100, 100, 100}, 0),
                                           write(file, 6, {300}, 3)};
  const pb::Stripe good = make_row(7, members);
  ASSERT_TRUE(validate_stripe(good));
  const std::vector<std::pair<const char*, std::function<void(pb::Stripe&)>>> bad = {
      {"slots",
       [](pb::Stripe& s) {
         s.add_slot_column(0);
         s.add_slot_offset(0);
         s.add_slot_length(1);
       }},
      {"one member", [](pb::Stripe& s) { s.mutable_members()->RemoveLast(); }},
      {"a member twice", [](pb::Stripe& s) { s.set_members(1, 5); }},
      {"itself", [](pb::Stripe& s) { s.set_members(1, 7); }},
      {"no stripe", [](pb::Stripe& s) { s.set_members(1, 0); }},
      {"sixteen members",
       [](pb::Stripe& s) {
         for (uint64_t id = 100; s.members_size() < 16; ++id) s.add_members(id);
       }},
      {"in a group itself", [](pb::Stripe& s) { s.set_row(5); }},
      {"shorter than its members",
       [](pb::Stripe& s) {
         s.set_parity_bytes(200);
         for (int c : {0, 3, 4}) s.mutable_shards(c)->set_bytes(200);
       }},
      {"longer than its members", [](pb::Stripe& s) { s.mutable_shards(1)->set_bytes(101); }},
      {"another code",
       [](pb::Stripe& s) {
         s.set_code("rs-2-3");
         s.mutable_shards(2)->set_bytes(s.parity_bytes());
       }},
  };
  for (const auto& [name, change] : bad) {
    pb::Stripe row = good;
    change(row);
    EXPECT_FALSE(add(row)) << name;
  }
  EXPECT_EQ(record(5)->row(), 0u);
  const auto added = add(good);
  ASSERT_TRUE(added) << added.error().message();
  EXPECT_TRUE(added.value());
  EXPECT_EQ(record(5)->row(), 7u);
  EXPECT_EQ(record(6)->row(), 7u);
  const auto group = group_of(store_->begin(), *record(6));
  ASSERT_TRUE(group) << group.error().message();
  ASSERT_EQ(group.value().size(), 3u);
  EXPECT_EQ(group.value()[0].id(), 5u);
  EXPECT_EQ(group.value()[2].id(), 7u);
  expect_clean();
}

TEST_F(StripeGroupsTest, ARowOfAMemberThatHasGoneIsGarbage) {
  const InodeId file = make_file("f");
  const std::vector<pb::Stripe> members = {write(file, 5, {100}, 0), write(file, 6, {100}, 1)};
  truncate(file, 1);
  ASSERT_FALSE(record(6));
  const auto added = add(make_row(7, members));
  ASSERT_TRUE(added) << added.error().message();
  EXPECT_FALSE(added.value());
  EXPECT_FALSE(record(7));
  EXPECT_EQ(record(5)->row(), 0u);
  EXPECT_EQ(pending_of(7), 3u) << "column 0 and two parity shards";
  expect_clean();
}

TEST_F(StripeGroupsTest, ARowOfWhatHasChangedOrIsGroupedIsGarbage) {
  const InodeId file = make_file("f");
  const std::vector<pb::Stripe> members = {write(file, 5, {100}, 0), write(file, 6, {100}, 1)};
  const auto changed = apply([&](Transaction& txn) {
    return add_row(txn, make_row(7, members), [](const pb::Stripe& m) { return m.id() != 6; });
  });
  ASSERT_TRUE(changed);
  EXPECT_FALSE(changed.value());
  ASSERT_TRUE(add(make_row(8, members)).value());
  EXPECT_FALSE(add(make_row(9, members)).value());
  EXPECT_EQ(record(5)->row(), 8u);
  expect_clean();
}

// Three members of one size and a row twice as large, so that one dead member is kept.
TEST_F(StripeGroupsTest, ADeadMemberStaysUntilTheDeadOutweighTheRow) {
  const InodeId file = make_file("f"), large = make_file("g");
  const std::vector<pb::Stripe> members = {write(file, 5, {100}, 0), write(file, 6, {100}, 1),
                                           write(large, 7, {200}, 0)};
  ASSERT_TRUE(add(make_row(8, members)).value());
  const Totals before = read_totals(store_->begin()).value();
  truncate(file, 1);
  ASSERT_TRUE(record(6)) << "the row counts it";
  EXPECT_EQ(record(6)->row(), 8u);
  EXPECT_EQ(pending().size(), 0u);
  EXPECT_EQ(read_totals(store_->begin()).value().stored_bytes, before.stored_bytes);
  const auto bytes = measure_group(store_->begin(), *record(8));
  ASSERT_TRUE(bytes);
  EXPECT_EQ(bytes.value().row, 600u);
  EXPECT_EQ(bytes.value().dead, 300u);
  expect_clean();
  truncate(file, 0);
  EXPECT_FALSE(record(5));
  EXPECT_FALSE(record(6));
  EXPECT_FALSE(record(8));
  EXPECT_EQ(record(7)->row(), 0u);
  EXPECT_EQ(pending_of(5) + pending_of(6) + pending_of(8), 9u);
  EXPECT_EQ(pending_of(7), 0u);
  const Totals after = read_totals(store_->begin()).value();
  EXPECT_EQ(after.stripes, 1u);
  EXPECT_EQ(after.stored_bytes, 600u);
  expect_clean();
}

TEST_F(StripeGroupsTest, RandomGroupsAndTruncatesKeepTheRecordsSound) {
  const uint64_t seed = test_seed();
  std::mt19937_64 random(seed);
  std::vector<InodeId> files;
  for (int i = 0; i < 4; ++i)
    files.push_back(make_file(std::string(1, static_cast<char>('a' + i))));
  StripeId next = 10;
  for (int round = 0; round < 60; ++round) {
    std::vector<pb::Stripe> members;
    for (uint64_t i = 0; i < 2 + random() % 3; ++i) {
      std::vector<uint32_t> lengths(1 + random() % 4);
      for (auto& length : lengths) length = static_cast<uint32_t>(1 + random() % 300);
      members.push_back(write(files[random() % 4], next++, lengths, random() % 20));
    }
    const auto added = add(make_row(next++, members));
    ASSERT_TRUE(added) << added.error().message();
    if (random() % 2) truncate(files[random() % 4], random() % 20);
    if (round % 10 == 9) expect_clean();
  }
  for (const InodeId file : files) truncate(file, 0);
  EXPECT_EQ(read_totals(store_->begin()).value().stripes, 0u);
  EXPECT_EQ(read_totals(store_->begin()).value().stored_bytes, 0u);
  expect_clean();
}

TEST_F(StripeGroupsTest, TheCheckSeesWhatDoesNotFit) {
  const InodeId file = make_file("f");
  write(file, 5, {100}, 0);
  auto txn = store_->begin();
  pb::Stripe stripe = *record(5);
  stripe.set_row(99);
  txn.put(key::stripe(5), stripe);
  ASSERT_TRUE(store_->commit(std::move(txn)));
  const auto findings = check_block_map(store_->begin());
  ASSERT_TRUE(findings);
  EXPECT_EQ(findings.value().size(), 1u);
}

}  // namespace
}  // namespace datacloud
