// Which checkpoints are kept, against the rule written down once more.
#include "daemon/checkpoint/checkpoint_rules.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "tests/daemon/checkpoint/checkpoint_rig.h"

namespace datacloud {
namespace {

pb::CheckpointRecord whole(uint64_t number, uint64_t entry, uint32_t survived) {
  pb::CheckpointRecord record;
  record.set_number(number);
  record.set_state(pb::CHECKPOINT_WHOLE);
  record.set_position(position_text(test_position(entry)));
  record.set_losses(2);
  record.set_losses_survived(survived);
  return record;
}

TEST(KeptCheckpoints, AreTheNewestTwo) {
  const auto chosen = choose_kept({whole(1, 10, 2), whole(3, 30, 2), whole(2, 20, 2)}, false);
  EXPECT_EQ(chosen.kept, (std::vector<uint64_t>{3, 2}));
  EXPECT_EQ(chosen.retired, std::vector<uint64_t>{1});
  EXPECT_EQ(chosen.floor, 21u);
}

TEST(KeptCheckpoints, AStrongOneStaysBehindWeakOnesUnlessTheJournalIsFull) {
  const std::vector<pb::CheckpointRecord> all{whole(1, 10, 2), whole(2, 20, 2), whole(3, 30, 1),
                                              whole(4, 40, 0)};
  const auto chosen = choose_kept(all, false);
  EXPECT_EQ(chosen.kept, (std::vector<uint64_t>{4, 3, 2}));
  EXPECT_EQ(chosen.retired, std::vector<uint64_t>{1});
  EXPECT_EQ(chosen.floor, 21u);
  const auto full = choose_kept(all, true);
  EXPECT_EQ(full.kept, (std::vector<uint64_t>{4, 3}));
  EXPECT_EQ(full.floor, 31u);
}

TEST(KeptCheckpoints, NoneKeepTheWholeJournal) {
  EXPECT_EQ(choose_kept({}, false).floor, 0u);
  const auto one = choose_kept({whole(1, 10, 0)}, false);
  EXPECT_EQ(one.kept, std::vector<uint64_t>{1});
  EXPECT_EQ(one.floor, 11u);
}

TEST(KeptCheckpoints, AtRandom) {
  Seeded seeded;
  for (int round = 0; round < 2000; ++round) {
    std::vector<pb::CheckpointRecord> all;
    const uint64_t count = seeded.number(1, 7);
    std::set<uint64_t> entries;
    while (entries.size() < count) entries.insert(seeded.number(1, 1000));
    for (const uint64_t entry : entries) {
      all.push_back(whole(entry, entry, static_cast<uint32_t>(seeded.number(0, 2))));
    }
    std::shuffle(all.begin(), all.end(), seeded.engine());
    const bool full = seeded.number(0, 1) == 1;
    const auto chosen = choose_kept(all, full);
    EXPECT_EQ(chosen.kept.size() + chosen.retired.size(), all.size());
    EXPECT_EQ(chosen.kept.front(), *entries.rbegin());
    EXPECT_EQ(chosen.floor, chosen.kept.back() + 1);
    const auto strong = [&](uint64_t number) {
      return std::any_of(all.begin(), all.end(), [&](const auto& record) {
        return record.number() == number && record.losses_survived() == 2;
      });
    };
    const bool any = std::any_of(entries.begin(), entries.end(), strong);
    const bool kept = std::any_of(chosen.kept.begin(), chosen.kept.end(), strong);
    EXPECT_EQ(kept, full ? kept : any);
    EXPECT_LE(chosen.kept.size(), full ? 2u : 3u);
    if (chosen.kept.size() == 3) {
      EXPECT_FALSE(strong(chosen.kept[0]) || strong(chosen.kept[1]));
      EXPECT_TRUE(strong(chosen.kept[2]));
    }
  }
}

}  // namespace
}  // namespace datacloud
