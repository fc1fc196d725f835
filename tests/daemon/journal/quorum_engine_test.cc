// What leads the journal, in thousands of random schedules: leaders that crash, sleep and wake up
// as leaders of the past, sites that are down, answers that are lost or late, checkpoints and
// trims. Broken leaders must be found out.
#include "daemon/journal/quorum_engine.h"

#include "tests/daemon/journal/quorum_world.h"

namespace datacloud::journal {
namespace {

constexpr uint64_t kEntriesMax = 60;
constexpr int kSteps = 120;
constexpr int kStepsToFinish = 4000;

void run_leaders(SimulatedWorld& world, int steps = kSteps) {
  Seeded& random = world.random;
  world.fault_percent = world.chance(50) ? 0 : random.number(1, 20);
  world.audits = true;
  // Short lives, another site away in each: what few sites have meets what few others have.
  const bool short_lives = world.chance(40);
  const uint64_t crash_percent = random.number(0, 3), down_percent = random.number(0, 4);
  const int turn = static_cast<int>(random.number(10, 80));
  std::vector<std::unique_ptr<SimulatedLeader>> leaders(2);
  const auto drop = [](std::unique_ptr<SimulatedLeader>& leader) {
    leader->crash();
    leader.reset();
  };
  uint64_t life = 0;
  for (int step = 0; step < steps && world.broken.empty(); ++step) {
    // One runs for a while, the other sleeps: it wakes up as a leader of the past.
    auto& leader = leaders[static_cast<size_t>(step / turn) % 2];
    if (!leader) {
      leader = std::make_unique<SimulatedLeader>(world);
      if (short_lives) {
        life = random.number(5, 40);
        world.down.assign(world.down.size(), false);
        world.down[random.number(0, world.down.size() - 1)] = true;
      }
    }
    const bool dies = short_lives ? life-- == 0 : world.chance(crash_percent);
    if (!leader->step(kEntriesMax) || dies) drop(leader);
    if (world.chance(3)) world.wake_the_dead();
    const size_t at = random.number(0, world.sites.size() - 1);
    if (!short_lives && world.chance(down_percent)) world.down[at] = !world.down[at];
  }
  for (auto& leader : leaders) {
    if (leader) drop(leader);
  }
}

// All are well again: one leader gets everybody there.
void finish_leaders(SimulatedWorld& world) {
  world.fault_percent = 0;
  world.down.assign(world.down.size(), false);
  std::unique_ptr<SimulatedLeader> leader;
  const uint64_t more = world.committed.empty() ? 5 : world.committed.rbegin()->first + 5;
  for (int step = 0; step < kStepsToFinish && world.broken.empty(); ++step) {
    world.audits = step < kSteps;
    if (!leader) leader = std::make_unique<SimulatedLeader>(world);
    if (!leader->step(more)) leader.reset();
    if (world.chance(3)) world.wake_the_dead();
    if (!leader || !leader->done()) continue;
    for (const auto& view : world.views) {
      const auto head = view->head();
      world.require(head && head.value().last == leader->engine().last(), "a site ends elsewhere");
    }
    return;
  }
  std::string why = "never done";
  for (size_t i = 0; leader && i < world.sites.size(); ++i) {
    const auto state = leader->engine().state(i, world.now);
    why += std::string("; ") + member_state_text(state.state) + " " + state.reason;
  }
  world.require(false, why);
}

TEST(QuorumSchedules, KeepOneHistoryAndLoseNothing) {
  Seeded random;
  size_t commits = 0, adoptions = 0, trims = 0, checkpoints = 0, pipelined = 0, read_back = 0,
         rewrites = 0;
  for (int round = 0; round < 10'000; ++round) {
    const int sites = static_cast<int>(random.number(1, 5));
    SimulatedWorld world{random, quorum_rules(sites, static_cast<int>(random.number(0, 2)))};
    run_leaders(world);
    if (world.broken.empty()) finish_leaders(world);
    ASSERT_EQ(world.broken, "") << "round " << round << ", " << sites << " sites";
    commits += world.commits;
    adoptions += world.adoptions;
    trims += world.trims;
    checkpoints += world.checkpoints;
    pipelined += world.pipelined;
    read_back += world.read_back;
    rewrites += world.rewrites;
  }
  std::cout << commits << " commits, " << adoptions << " adoptions, " << trims << " trims, "
            << checkpoints << " bases at checkpoints, " << pipelined << " pipelined appends, "
            << read_back << " reads for others, " << rewrites << " logs begun anew" << std::endl;
  EXPECT_GT(commits, 20'000u) << "the schedules get somewhere";
  EXPECT_GT(adoptions, 10'000u);
  EXPECT_GT(trims, 1'000u);
  EXPECT_GT(checkpoints, 50u);
  EXPECT_GT(pipelined, 500u);
  EXPECT_GT(read_back, 1'000u);
  EXPECT_GT(rewrites, 100u);
}

// What the first schedule that finds it says of leaders with this flaw.
std::string flaw_found(Flaw flaw, QuorumRules rules) {
  Seeded random;
  for (int round = 0; round < 20'000; ++round) {
    SimulatedWorld world{random, rules, flaw};
    run_leaders(world, 5 * kSteps);
    if (!world.broken.empty()) return world.broken;
  }
  return "";
}

TEST(QuorumSchedules, FindLeadersThatCommitTooSoon) {
  EXPECT_NE(flaw_found(Flaw::commits_less, quorum_rules(3, 1)), "");
}

TEST(QuorumSchedules, FindLeadersThatTakeFromASiteWhatOthersDoNotHave) {
  EXPECT_NE(flaw_found(Flaw::rewrites_always, quorum_rules(3, 1)), "");
}

TEST(QuorumSchedules, FindLeadersThatClaimTooFewSites) {
  EXPECT_NE(flaw_found(Flaw::claims_less, quorum_rules(3, 1)), "");
}

TEST(QuorumSchedules, FindLeadersThatCountWhatOthersWrote) {
  EXPECT_NE(flaw_found(Flaw::counts_old, quorum_rules(3, 1)), "");
}

TEST(QuorumSchedules, FindLeadersThatServeBeforeTheirOpening) {
  EXPECT_NE(flaw_found(Flaw::serves_early, quorum_rules(3, 1)), "");
}

// Sites are put back from backups, or get new and empty logs, while a leader runs: one at a time,
// when the others have everything.
TEST(QuorumSchedules, CatchUpSitesThatWerePutBack) {
  Seeded random;
  size_t restored = 0;
  for (int round = 0; round < 300; ++round) {
    SimulatedWorld world{random, quorum_rules(static_cast<int>(random.number(2, 4)), 1)};
    SimulatedLeader leader(world);
    std::vector<std::shared_ptr<GuardedMemory>> backups;
    for (const auto& site : world.sites) backups.push_back(copy_guarded_memory(*site));
    uint64_t entries = 10;
    for (int step = 0; step < kStepsToFinish && entries < 60; ++step) {
      ASSERT_TRUE(leader.step(entries)) << leader.engine().over()->message();
      ASSERT_EQ(world.broken, "") << "round " << round;
      if (!leader.done() || leader.engine().last().sequence < entries) continue;
      entries += 10;
      const size_t at = random.number(0, world.sites.size() - 1);
      if (world.chance(30)) {
        backups[at] = copy_guarded_memory(*world.sites[at]);
      } else {
        restore_guarded_memory(*world.sites[at], *backups[at]);
        ++restored;
      }
    }
    std::string states;
    for (size_t i = 0; i < world.sites.size(); ++i) {
      const auto state = leader.engine().state(i, world.now);
      states += std::string("; ") + member_state_text(state.state) + " " + state.reason;
    }
    ASSERT_GE(entries, 60u) << "round " << round << states;
    for (int step = 0; step < kStepsToFinish && !leader.done(); ++step) leader.step(entries);
    ASSERT_TRUE(leader.done()) << "round " << round;
  }
  EXPECT_GT(restored, 300u);
}

TEST(CommonSearch, FindsWhereLogsPart) {
  for (uint64_t low = 0; low < 4; ++low) {
    for (uint64_t high = low; high < 20; ++high) {
      for (uint64_t same = low; same <= high + 1; ++same) {  // the first at which they differ
        CommonSearch search(low, high);
        int compared = 0;
        while (const auto at = search.next()) {
          ASSERT_LE(low, *at);
          ASSERT_LE(*at, high);
          ASSERT_LT(++compared, 10);
          search.compared(*at < same);
        }
        if (same == low) {
          EXPECT_EQ(search.common(), std::nullopt);
        } else {
          EXPECT_EQ(search.common(), same - 1);
        }
      }
    }
  }
  EXPECT_EQ(CommonSearch(3, 2).next(), std::nullopt);
}

TEST(KeptEntries, KeepsWhatIsNotCommittedAndSoMuchOfTheRest) {
  const auto entries = entries_after({}, {1, 1}, 20);
  const uint64_t size = entries[0].bytes->size();
  KeptEntries kept(5 * size);
  kept.start(1);
  for (const auto& entry : entries) kept.push(entry);
  kept.drop(0, 0);
  EXPECT_EQ(kept.first(), 1u);
  EXPECT_EQ(kept.bytes_after(0), 20 * size);
  kept.drop(12, 0);
  EXPECT_EQ(kept.first(), 8u) << "five of those that are committed";
  EXPECT_EQ(kept.bytes_after(12), 8 * size);
  EXPECT_EQ(kept.bytes_after(3), 13 * size);
  kept.drop(12, 10);
  EXPECT_EQ(kept.first(), 11u) << "all sites have the others";
  EXPECT_FALSE(kept.has(10));
  EXPECT_EQ(kept.at(11).hash, entries[10].hash);
  kept.drop(20, 20);
  EXPECT_EQ(kept.first(), 21u);
  EXPECT_EQ(kept.bytes_after(20), 0u);
}

}  // namespace
}  // namespace datacloud::journal
