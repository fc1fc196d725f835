// Fold costs: the paper's table, our target numbers, crossovers by exact set, and what blocks a
// fold.
#include "common/plan/fold_planner.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>

#include "tests/support/seeded.h"

namespace datacloud {
namespace {

std::shared_ptr<const ErasureCode> code_of(const std::string& profile) {
  return make_erasure_code(profile).value();
}

constexpr uint32_t kBlock = 1200;

// A full stripe: every data column has `slots` blocks of kBlock bytes. Column c is at site c + 1,
// none of them here, and so is its XOR row's column; all sites can do work.
FoldProblem base_of(const ErasureCode& code, bool in_group, uint32_t slots = 1) {
  FoldProblem problem{.code = code};
  problem.base.parity_bytes = slots * kBlock;
  problem.base.shard_bytes.assign(code.n(), slots * kBlock);
  for (int c = 0; c < code.n(); ++c) problem.base.sites.push_back(static_cast<SiteId>(c + 1));
  problem.working_sites = problem.base.sites;
  if (in_group) problem.xor_row = problem.base;
  for (uint32_t c = 0; c < static_cast<uint32_t>(code.k()); ++c)
    for (uint32_t s = 0; s < slots; ++s) problem.live.push_back({c, s * kBlock, kBlock});
  return problem;
}

// The newest block is at a site of its own.
FoldBlock& update(FoldProblem& problem, uint32_t column, uint32_t slot = 0,
                  uint32_t bytes = kBlock) {
  const Slot superseded{column, slot * kBlock, kBlock};
  std::erase(problem.live, superseded);
  problem.updates.push_back({.slot = superseded, .new_bytes = bytes, .new_site = 99});
  return problem.updates.back();
}

void have_all_at_hand(FoldProblem& problem) {
  for (auto& b : problem.updates) b.old_at_hand = b.new_at_hand = true;
}

const FoldAlternative& of(const FoldPlan& plan, FoldKind kind) {
  return plan.alternatives[static_cast<size_t>(kind)];
}

std::vector<Cell> in_row(int u) {
  std::vector<Cell> cells;
  for (int i = 0; i < u; ++i) cells.push_back({0, i});
  return cells;
}
std::vector<Cell> in_column(int u) {
  std::vector<Cell> cells;
  for (int i = 0; i < u; ++i) cells.push_back({i, 0});
  return cells;
}

TEST(PaperCost, TableOneIsReproduced) {
  struct Profile {
    int n, k, t;
  };
  for (const Profile f : {Profile{9, 6, 3}, {14, 12, 5}, {5, 3, 3}, {9, 6, 2}}) {
    const uint64_t k = f.k, t = f.t, m = f.n - f.k;
    const int mi = f.n - f.k;
    for (uint64_t u = 1; u <= t; ++u) {
      const auto alone = paper_update_reads(f.k, 0, f.t, in_column(static_cast<int>(u)));
      EXPECT_EQ(alone.reencode, t);
      EXPECT_EQ(alone.parity_update, 2 * u + 1);
      const auto full = paper_update_reads(f.k, mi, f.t, in_column(static_cast<int>(u)));
      EXPECT_EQ(full.reencode, u * k + t + m * t);
      EXPECT_EQ(full.parity_update, 2 * u + 1 + (u + 1) * m);
      EXPECT_LT(full.parity_update, full.reencode) << "one column: it always wins";
    }
    for (uint64_t u = 1; u <= k; ++u) {
      const auto alone = paper_update_reads(f.k, mi, 0, in_row(static_cast<int>(u)));
      EXPECT_EQ(alone.reencode, k);
      EXPECT_EQ(alone.parity_update, 2 * u + m);
      // Not u < k/2.
      EXPECT_EQ(alone.parity_update < alone.reencode, 2 * u + static_cast<uint64_t>(f.n) < 2 * k);
      const auto full = paper_update_reads(f.k, mi, f.t, in_row(static_cast<int>(u)));
      EXPECT_EQ(full.reencode, k + u * t + m * t);
      EXPECT_EQ(full.parity_update, 3 * u + 2 * m);
      // One row: it wins, but for t = 2 and the whole row, where both cost the same.
      EXPECT_EQ(full.parity_update < full.reencode, !(t == 2 && u == k));
      EXPECT_LE(full.parity_update, full.reencode);
    }
  }
  const auto one = paper_update_reads(6, 3, 3, {{1, 4}});
  EXPECT_EQ(one.reencode, 18u);
  EXPECT_EQ(one.parity_update, 9u);
}

TEST(PaperCost, OfAGeneralSetCountsItsRowsAndColumns) {
  // Four blocks in two rows and three columns; a block named twice is one.
  const auto reads = paper_update_reads(6, 3, 3, {{0, 0}, {0, 1}, {1, 1}, {1, 2}, {0, 0}});
  EXPECT_EQ(reads.reencode, 2u * 6 + 3 * 3 + 3 * 3);
  EXPECT_EQ(reads.parity_update, 2u * 4 + 2 * 3 + 3 + 3);
}

TEST(FoldPlanner, OneBlockCostsOnePlusMBlocksBetweenSites) {
  for (const auto& [profile, blocks] : {std::pair("rs-6-3", 4u), {"rs-12-2", 3u}}) {
    const auto code = code_of(profile);
    FoldProblem problem = base_of(*code, true);
    update(problem, 2);
    have_all_at_hand(problem);
    auto plan = plan_fold(problem).value();
    EXPECT_EQ(plan.chosen, FoldKind::parity_delta);
    auto cost = of(plan, FoldKind::parity_delta).cost;
    EXPECT_EQ(cost.inter_site_bytes(), blocks * kBlock) << profile;
    EXPECT_EQ(cost.inside_site_bytes, blocks * kBlock) << "the XOR row's, apart";
    EXPECT_EQ(cost.copied_bytes, 2 * blocks * kBlock) << "shards of one block, the row's, too";
    // With nothing at hand the old and the new block are read.
    problem.updates[0].old_at_hand = problem.updates[0].new_at_hand = false;
    plan = plan_fold(problem).value();
    cost = of(plan, FoldKind::parity_delta).cost;
    EXPECT_EQ(cost.inter_site_read_bytes, 2u * kBlock);
    EXPECT_EQ(cost.inter_site_written_bytes, blocks * kBlock);
  }
}

TEST(FoldPlanner, WhatSitesCopyIsWholeShardsAndIsToldButNeverCompared) {
  const auto code = code_of("rs-3-2");
  FoldProblem problem = base_of(*code, false, 100);
  update(problem, 1, 7);
  const auto plan = plan_fold(problem).value();
  EXPECT_EQ(plan.chosen, FoldKind::parity_delta);
  const auto& delta = of(plan, FoldKind::parity_delta).cost;
  EXPECT_EQ(delta.copied_bytes, 3u * 100 * kBlock);  // the data column and two parity columns
  EXPECT_EQ(of(plan, FoldKind::reencode).cost.copied_bytes, 0u);
  EXPECT_EQ(of(plan, FoldKind::merge).cost.copied_bytes, 0u);
  EXPECT_NE(explain(plan)[0].find("360000 copied at the sites"), std::string::npos);
  FoldCost other = delta;
  other.copied_bytes = 0;
  EXPECT_EQ(other, delta);
}

TEST(FoldPlanner, WithoutWorkAtTheSitesTheRowsChangesTravelAgain) {
  const auto code = code_of("rs-6-3");
  FoldProblem problem = base_of(*code, true);
  update(problem, 2);
  have_all_at_hand(problem);
  problem.working_sites.clear();
  const auto cost = of(plan_fold(problem).value(), FoldKind::parity_delta).cost;
  EXPECT_EQ(cost.inter_site_bytes(), 8u * kBlock);
  EXPECT_EQ(cost.inside_site_bytes, 0u);
  // A row's column somewhere else is never beside.
  problem.working_sites = problem.base.sites;
  problem.xor_row->sites[2] = 50;
  EXPECT_EQ(of(plan_fold(problem).value(), FoldKind::parity_delta).cost.inter_site_bytes(),
            5u * kBlock);
}

TEST(FoldPlanner, WhatIsHereDoesNotCrossALink) {
  const auto code = code_of("rs-6-3");
  FoldProblem problem = base_of(*code, false);
  update(problem, 2).new_site = 3;
  problem.local_site = 3;  // data column 2's site
  const auto cost = of(plan_fold(problem).value(), FoldKind::parity_delta).cost;
  EXPECT_EQ(cost.inter_site_read_bytes, 0u);
  EXPECT_EQ(cost.inter_site_written_bytes, 3u * kBlock);
}

TEST(FoldPlanner, TheCrossoverIsWhereTheBytesAreEqual) {
  const auto code = code_of("rs-6-3");
  for (uint32_t u = 1; u <= 6; ++u) {
    FoldProblem problem = base_of(*code, false);
    for (uint32_t c = 0; c < u; ++c) update(problem, c);
    const auto plan = plan_fold(problem).value();
    const auto delta = of(plan, FoldKind::parity_delta).cost,
               reencode = of(plan, FoldKind::reencode).cost;
    // Old, new, change, parity; against the other columns, new, new columns, parity.
    EXPECT_EQ(delta.inter_site_bytes(), (3 * u + 3) * kBlock);
    EXPECT_EQ(reencode.inter_site_bytes(), ((6 - u) + 2 * u + 3) * kBlock);
    EXPECT_EQ(*plan.chosen == FoldKind::parity_delta, u < 3) << "u = " << u;
  }
  // Blocks at different places of their shards change different places of the parity: three updates
  // in one place cost the parity once, in three places three times.
  FoldProblem same = base_of(*code, false, 8), apart = base_of(*code, false, 8);
  for (uint32_t c = 0; c < 3; ++c) {
    update(same, c, 5);
    update(apart, c, c);
  }
  EXPECT_EQ(of(plan_fold(same).value(), FoldKind::parity_delta).cost.inter_site_written_bytes,
            (3u + 3) * kBlock);
  EXPECT_EQ(of(plan_fold(apart).value(), FoldKind::parity_delta).cost.inter_site_written_bytes,
            (3u + 9) * kBlock);
}

TEST(FoldPlanner, EqualBytesBetweenSitesAreDecidedByTheDisks) {
  const auto code = code_of("rs-6-3");
  FoldProblem problem = base_of(*code, false);
  for (uint32_t c = 0; c < 3; ++c) update(problem, c);  // 12 blocks either way
  const auto plan = plan_fold(problem).value();
  const auto &delta = of(plan, FoldKind::parity_delta).cost,
             &reencode = of(plan, FoldKind::reencode).cost;
  EXPECT_EQ(delta.inter_site_bytes(), reencode.inter_site_bytes());
  EXPECT_GT(delta.disk_bytes, reencode.disk_bytes) << "a derive copies a shard";
  EXPECT_EQ(plan.chosen, FoldKind::reencode);
}

// Bytes of a parity delta over one-packet codes, counted byte by byte.
uint64_t delta_bytes_by_marking(const FoldProblem& p) {
  uint64_t bytes = 0;
  std::vector<bool> parity(p.base.parity_bytes);
  for (const auto& b : p.updates) {
    const SiteId site = p.base.sites[b.slot.column];
    if (!b.old_at_hand && site != p.local_site) bytes += b.new_bytes;
    if (!b.new_at_hand && b.new_site != p.local_site) bytes += b.new_bytes;
    if (site != p.local_site) bytes += b.new_bytes;
    std::fill_n(parity.begin() + b.slot.offset, b.new_bytes, true);
  }
  for (int c = p.code.k(); c < p.code.n(); ++c)
    if (p.base.sites[c] != p.local_site) bytes += std::count(parity.begin(), parity.end(), true);
  return bytes;
}

TEST(FoldPlanner, RandomSetsAreCountedExactlyAndTheCheapestIsChosen) {
  Seeded random;
  for (int round = 0; round < 400; ++round) {
    const auto code = code_of(round % 3 == 0 ? "rs-3-2" : round % 3 == 1 ? "rs-6-3" : "rs-12-2");
    const auto slots = static_cast<uint32_t>(random.number(1, 12));
    FoldProblem problem = base_of(*code, random.number(0, 1) != 0, slots);
    problem.local_site = static_cast<SiteId>(random.number(0, 5));
    for (uint32_t c = 0; c < static_cast<uint32_t>(code->k()); ++c)
      for (uint32_t s = 0; s < slots; ++s)
        if (random.number(0, 3) == 0 || (c == 0 && s == 0)) {
          FoldBlock& b = update(problem, c, s, static_cast<uint32_t>(random.number(1, kBlock)));
          b.old_at_hand = random.number(0, 1) != 0;
          b.new_at_hand = random.number(0, 1) != 0;
          b.new_site = static_cast<SiteId>(random.number(1, 9));
        }
    const auto plan = plan_fold(problem).value();
    const auto& delta = of(plan, FoldKind::parity_delta).cost;
    ASSERT_EQ(delta.inter_site_bytes(), delta_bytes_by_marking(problem));
    ASSERT_TRUE(plan.chosen);
    const auto& chosen = of(plan, *plan.chosen);
    for (const auto& a : plan.alternatives)
      ASSERT_TRUE(!a.impossible.empty() || chosen.cost <= a.cost);
    ASSERT_LE(chosen.cost.inter_site_bytes(), of(plan, FoldKind::reencode).cost.inter_site_bytes());
    ASSERT_EQ(explain(plan).size(), 4u);
  }
}

TEST(FoldPlanner, SeesFromTheMatrixWhatAnUpdateOfMsrTouches) {
  const auto msr = code_of("msr-5-3"), rs = code_of("rs-3-2");
  auto written = [](const ErasureCode& code) {
    FoldProblem problem = base_of(code, false);
    update(problem, 0, 0, 100);
    have_all_at_hand(problem);
    return of(plan_fold(problem).value(), FoldKind::parity_delta).cost.inter_site_written_bytes;
  };
  EXPECT_EQ(written(*rs), 100u + 2 * 100);
  uint64_t expected = 100;
  for (int p = 0; p < 2; ++p)
    for (const auto& r : msr->delta_ranges(0, p, {0, 100}, kBlock)) expected += r.length;
  EXPECT_EQ(written(*msr), expected);
  EXPECT_GT(expected, 300u);
}

TEST(FoldPlanner, BlocksThatDoNotFitGoToANewStripe) {
  const auto code = code_of("rs-3-2");
  FoldProblem problem = base_of(*code, false, 100);
  update(problem, 0, 0);
  update(problem, 1, 3, kBlock + 1);
  have_all_at_hand(problem);
  auto plan = plan_fold(problem).value();
  EXPECT_EQ(plan.chosen, FoldKind::parity_delta);
  EXPECT_EQ(plan.folded, std::vector<size_t>{0});
  EXPECT_EQ(plan.leftovers, std::vector<size_t>{1});
  // 1 + m for the one, 1 + m for a stripe of the other.
  EXPECT_EQ(of(plan, FoldKind::parity_delta).cost.inter_site_bytes(),
            3u * kBlock + 3u * (kBlock + 1));
  EXPECT_NE(explain(plan)[0].find("1 blocks do not fit"), std::string::npos);
  problem.updates.erase(problem.updates.begin());
  plan = plan_fold(problem).value();
  EXPECT_EQ(plan.chosen, FoldKind::merge_updates);
  EXPECT_TRUE(plan.folded.empty());
}

TEST(FoldPlanner, DamageIsRepairedFirstAndMergedAroundOnlyWhenItLasts) {
  const auto code = code_of("rs-3-2");
  FoldProblem problem = base_of(*code, true, 10);
  update(problem, 0);
  problem.base.damaged = 0b00001;
  auto plan = plan_fold(problem).value();
  EXPECT_FALSE(plan.chosen);
  EXPECT_NE(explain(plan)[0].find("repair first: damaged column 0"), std::string::npos);
  problem.blocked_too_long = true;
  EXPECT_EQ(plan_fold(problem).value().chosen, FoldKind::merge_updates);
  // A data column that is not touched does not hinder a delta, a parity column does.
  problem.base.damaged = 0b00010;
  EXPECT_EQ(plan_fold(problem).value().chosen, FoldKind::parity_delta);
  problem.base.damaged = 0b10000;
  EXPECT_FALSE(of(plan_fold(problem).value(), FoldKind::parity_delta).impossible.empty());
  // And so does the XOR row's.
  problem.base.damaged = 0;
  problem.xor_row->damaged = 0b01000;
  EXPECT_FALSE(of(plan_fold(problem).value(), FoldKind::parity_delta).impossible.empty());
}

TEST(FoldPlanner, SparseStripesAreMerged) {
  const auto code = code_of("rs-3-2");
  FoldProblem problem = base_of(*code, false, 10);
  update(problem, 0);
  problem.live.resize(5);
  problem.live_share_min = 0.5;
  auto plan = plan_fold(problem).value();
  EXPECT_EQ(plan.chosen, FoldKind::merge);
  // Six live blocks in a new stripe: five and the new one read, two in each data and parity column.
  EXPECT_EQ(of(plan, FoldKind::merge).cost.inter_site_bytes(), (6u + 10) * kBlock);
  problem.live_share_min = 0.1;
  EXPECT_EQ(plan_fold(problem).value().chosen, FoldKind::parity_delta);
}

TEST(FoldPlanner, WhatDoesNotFitTogetherIsRefused) {
  const auto code = code_of("rs-3-2");
  auto refused = [&](auto change) {
    FoldProblem problem = base_of(*code, true, 4);
    update(problem, 1, 2);
    change(problem);
    const auto plan = plan_fold(problem);
    return !plan && plan.error().is(Errc::invalid);
  };
  EXPECT_FALSE(refused([](auto&) {}));
  EXPECT_TRUE(refused([](auto& p) { p.updates.clear(); }));
  EXPECT_TRUE(refused([](auto& p) { p.updates[0].new_bytes = 0; }));
  EXPECT_TRUE(refused([](auto& p) { p.updates.push_back(p.updates[0]); }));
  EXPECT_TRUE(refused([](auto& p) { p.updates[0].slot.column = 3; }));
  EXPECT_TRUE(refused([](auto& p) { p.updates[0].slot.offset = 4 * kBlock; }));
  EXPECT_TRUE(refused([](auto& p) { p.live.push_back(p.updates[0].slot); }));
  EXPECT_TRUE(refused([](auto& p) { p.base.sites.pop_back(); }));
  EXPECT_TRUE(refused([](auto& p) { p.base.shard_bytes[0] = 5 * kBlock; }));
  EXPECT_TRUE(refused([](auto& p) { p.xor_row->shard_bytes.clear(); }));
  EXPECT_TRUE(refused([](auto& p) { p.base.damaged = 1u << 5; }));
}

}  // namespace
}  // namespace datacloud
