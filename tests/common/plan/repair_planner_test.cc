// Repair schedules: the published examples, every recoverable pattern, optimal by brute force, and
// right when performed on real bytes.
#include "common/plan/repair_planner.h"

#include <gtest/gtest.h>

#include <bit>
#include <ctime>
#include <functional>
#include <map>

#include "tests/support/repair_data.h"

namespace datacloud {
namespace {

std::shared_ptr<const ErasureCode> code_of(const std::string& profile) {
  return make_erasure_code(profile).value();
}

// t stripes and their XOR row (none for t = 0), all shards of one length, each on a site of its
// own, none of them here.
RepairProblem group_of(const ErasureCode& code, int t, uint64_t bytes = 1) {
  RepairProblem problem{.code = code, .has_xor_row = t > 0};
  SiteId site = 1;
  for (int r = 0; r < (t > 0 ? t + 1 : 1); ++r) {
    RepairRow row{.parity_bytes = bytes};
    row.shard_bytes.assign(code.n(), bytes);
    for (int c = 0; c < code.n(); ++c) row.sites.push_back(site++);
    problem.rows.push_back(row);
  }
  return problem;
}

void lose(RepairProblem& problem, const std::vector<Cell>& cells) {
  for (const Cell& cell : cells) problem.rows[cell.row].lost |= ColumnSet{1} << cell.column;
}

// Column c of every row at site c + 1.
void put_columns_on_sites(RepairProblem& problem) {
  for (auto& row : problem.rows)
    for (size_t c = 0; c < row.sites.size(); ++c) row.sites[c] = static_cast<SiteId>(c + 1);
}

const std::vector<Cell> kPlus = {{0, 1}, {1, 0}, {1, 1}, {1, 2}, {2, 1}};
const std::vector<Cell> kStep = {{0, 0}, {0, 1}, {1, 1}, {1, 2}};

struct Reads {
  uint64_t row_first, column_first, cheapest;
};

void expect_reads(const std::string& profile, int t, const std::vector<Cell>& lost,
                  const Reads& expected) {
  const auto code = code_of(profile);
  RepairProblem problem = group_of(*code, t);
  lose(problem, lost);
  auto reads = [&](RepairStrategy strategy) {
    const auto schedule = plan_repair(problem, strategy).value();
    EXPECT_TRUE(schedule.unrecoverable.empty());
    return schedule.cost.total_bytes - lost.size();  // each is written once
  };
  EXPECT_EQ(reads(RepairStrategy::row_first), expected.row_first);
  EXPECT_EQ(reads(RepairStrategy::column_first), expected.column_first);
  EXPECT_EQ(reads(RepairStrategy::cheapest), expected.cheapest);
}

TEST(RepairPlanner, ThePublishedExamplesCostWhatTheySay) {
  expect_reads("rs-12-2", 5, kPlus, {41, 39, 34});
  expect_reads("rs-12-2", 5, kStep, {24, 27, 22});
  expect_reads("rs-6-3", 3, kPlus, {18, 21, 15});
  expect_reads("rs-6-3", 3, kStep, {12, 15, 12});
}

TEST(RepairPlanner, PlusNeedsTheGroup) {
  const auto code = code_of("rs-12-2");
  RepairProblem alone = group_of(*code, 0);
  alone.rows[0].lost = 0b111;  // row 1 of Plus
  const auto schedule = plan_repair(alone).value();
  EXPECT_EQ(schedule.unrecoverable.size(), 3u);
  EXPECT_TRUE(schedule.moves.empty());
}

TEST(RepairPlanner, TheOptimumOfPlusIsTwoRowsAndTwoColumns) {
  const auto code = code_of("rs-12-2");
  RepairProblem problem = group_of(*code, 5);
  lose(problem, kPlus);
  int rows = 0, columns = 0;
  const auto schedule = plan_repair(problem).value();
  for (const auto& move : schedule.moves) {
    rows += move.kind == RepairMove::Kind::row;
    columns += move.kind == RepairMove::Kind::column;
    EXPECT_FALSE(describe(move).empty());
  }
  EXPECT_EQ(rows, 2);
  EXPECT_EQ(columns, 2);
}

// Patterns of `losses` lost cells that peeling cannot clear, over all patterns: columns are
// interchangeable, so each multiset of column patterns is tried once and counted as often as it
// occurs.
uint64_t unpeelable_patterns(const std::string& profile, int t, int losses) {
  const auto code = code_of(profile);
  RepairProblem problem = group_of(*code, t);
  const int n = code->n();
  uint64_t count = 0;
  std::vector<unsigned> columns;  // not empty, descending
  std::function<void(int, unsigned)> extend = [&](int left, unsigned largest) {
    if (left == 0) {
      for (auto& row : problem.rows) row.lost = 0;
      for (size_t c = 0; c < columns.size(); ++c)
        for (int r = 0; r <= t; ++r)
          if (columns[c] >> r & 1u) problem.rows[r].lost |= ColumnSet{1} << c;
      const auto rest = peel(problem);
      if (std::all_of(rest.begin(), rest.end(), [](ColumnSet s) { return s == 0; })) return;
      uint64_t arrangements = 1;
      std::map<unsigned, uint64_t> seen;
      for (size_t c = 0; c < columns.size(); ++c)
        arrangements = arrangements * (n - c) / ++seen[columns[c]];
      count += arrangements;
      EXPECT_FALSE(plan_repair(problem).value().unrecoverable.empty())
          << "peeling is exact for so few cells";
      return;
    }
    for (unsigned column = largest; column > 0 && columns.size() < static_cast<size_t>(n); --column)
      if (std::popcount(column) <= left) {
        columns.push_back(column);
        extend(left - std::popcount(column), column);
        columns.pop_back();
      }
  };
  extend(losses, (1u << (t + 1)) - 1);
  return count;
}

TEST(RepairPlanner, UnrecoverablePatternsAreAsManyAsCounted) {
  for (int losses = 1; losses <= 5; ++losses)
    EXPECT_EQ(unpeelable_patterns("rs-3-2", 3, losses), 0u) << losses;
  EXPECT_EQ(unpeelable_patterns("rs-3-2", 3, 6), 60u);
  EXPECT_EQ(unpeelable_patterns("rs-3-2", 3, 7), 840u);
  for (int losses = 1; losses <= 7; ++losses)
    EXPECT_EQ(unpeelable_patterns("rs-6-3", 3, losses), 0u) << losses;
  EXPECT_EQ(unpeelable_patterns("rs-6-3", 3, 8), 756u);
  for (int losses = 1; losses <= 5; ++losses)
    EXPECT_EQ(unpeelable_patterns("rs-12-2", 5, losses), 0u) << losses;
  EXPECT_EQ(unpeelable_patterns("rs-12-2", 5, 6), 5460u);
}

// The least reads by trying every order of moves, with nothing of the planner's code.
uint64_t least_reads(int k, int m, int t, const std::vector<ColumnSet>& lost,
                     std::map<std::vector<ColumnSet>, uint64_t>& known) {
  constexpr uint64_t kNone = UINT64_MAX / 2;
  if (std::all_of(lost.begin(), lost.end(), [](ColumnSet s) { return s == 0; })) return 0;
  const auto [it, is_new] = known.try_emplace(lost, kNone);
  if (!is_new) return it->second;
  uint64_t best = kNone;
  for (size_t r = 0; r < lost.size(); ++r) {
    if (lost[r] == 0 || std::popcount(lost[r]) > m) continue;
    auto next = lost;
    next[r] = 0;
    best = std::min(best, k + least_reads(k, m, t, next, known));
  }
  for (int c = 0; c < k + m; ++c) {
    int rows = 0;
    size_t row = 0;
    for (size_t r = 0; r < lost.size(); ++r)
      if (contains(lost[r], c)) {
        ++rows;
        row = r;
      }
    if (rows != 1) continue;
    auto next = lost;
    next[row] &= ~(ColumnSet{1} << c);
    best = std::min(best, t + least_reads(k, m, t, next, known));
  }
  return known[lost] = best;
}

TEST(RepairPlanner, IsOptimalByBruteForce) {
  Seeded random;
  struct Shape {
    const char* profile;
    int t;
  };
  for (const Shape shape : {Shape{"rs-2-1", 2}, {"rs-3-2", 3}, {"rs-6-3", 3}, {"rs-12-2", 5}}) {
    const auto code = code_of(shape.profile);
    std::map<std::vector<ColumnSet>, uint64_t> known;
    for (int round = 0; round < 150; ++round) {
      RepairProblem problem = group_of(*code, shape.t);
      const uint64_t losses = random.number(1, 10);
      uint64_t written = 0;
      for (uint64_t i = 0; i < losses; ++i)
        lose(problem, {{static_cast<int>(random.number(0, shape.t)),
                        static_cast<int>(random.number(0, std::min(code->n() - 1, 5)))}});
      std::vector<ColumnSet> lost;
      for (const auto& row : problem.rows) {
        lost.push_back(row.lost);
        written += std::popcount(row.lost);
      }
      const uint64_t best = least_reads(code->k(), code->m(), shape.t, lost, known);
      const auto cheapest = plan_repair(problem).value();
      ASSERT_EQ(cheapest.unrecoverable.empty(), best < UINT64_MAX / 2);
      if (!cheapest.unrecoverable.empty()) continue;
      ASSERT_EQ(cheapest.cost.total_bytes, best + written);
      ASSERT_EQ(cheapest.cost.inter_site_bytes, best + written);
      for (const auto strategy : {RepairStrategy::row_first, RepairStrategy::column_first}) {
        const auto other = plan_repair(problem, strategy).value();
        ASSERT_TRUE(other.unrecoverable.empty());
        ASSERT_GE(other.cost, cheapest.cost);
      }
    }
  }
}

// The same with sites and lengths, for work at one place: rows as a whole or one cell, columns.
class CheapestByTrying {
 public:
  explicit CheapestByTrying(const RepairProblem& problem) : p_(problem) {}

  std::optional<RepairCost> of(const std::vector<ColumnSet>& lost) {
    const auto [it, is_new] = known_.try_emplace(lost);
    if (!is_new) return it->second;
    std::optional<RepairCost> best;
    auto consider = [&](size_t row, ColumnSet targets, RepairCost cost) {
      auto next = lost;
      next[row] &= ~targets;
      const auto rest = of(next);
      if (!rest) return;
      cost += *rest;
      if (!best || cost < *best) best = cost;
    };
    if (std::all_of(lost.begin(), lost.end(), [](ColumnSet s) { return s == 0; })) best.emplace();
    for (size_t r = 0; r < lost.size(); ++r)
      for (int c = 0; c < p_.code.n(); ++c) {
        if (!contains(lost[r], c)) continue;
        if (std::popcount(lost[r]) <= p_.code.m()) {
          consider(r, lost[r], row_cost(r, lost[r], lost[r]));
          consider(r, 1u << c, row_cost(r, lost[r], 1u << c));
        }
        int in_column = 0;
        RepairCost cost = one(r, c, UINT64_MAX);
        for (size_t other = 0; other < lost.size(); ++other) {
          in_column += contains(lost[other], c);
          if (other != r) cost += one(other, c, p_.rows[r].shard_bytes[c]);
        }
        if (in_column == 1) consider(r, 1u << c, cost);
      }
    return known_[lost] = best;
  }

 private:
  RepairCost one(size_t r, int c, uint64_t limit) const {
    const uint64_t bytes = std::min(limit, p_.rows[r].shard_bytes[c]);
    return {p_.rows[r].sites[c] == p_.local_site ? 0 : bytes, bytes, 1};
  }
  RepairCost row_cost(size_t r, ColumnSet lost, ColumnSet targets) const {
    RepairCost sum;
    uint64_t longest = 0;
    std::vector<RepairCost> others;
    for (int c = 0; c < p_.code.n(); ++c)
      if (contains(targets, c)) {
        sum += one(r, c, UINT64_MAX);
        longest = std::max(longest, p_.rows[r].shard_bytes[c]);
      }
    for (int c = 0; c < p_.code.n(); ++c)
      if (!contains(lost, c)) others.push_back(one(r, c, longest));
    std::sort(others.begin(), others.end());
    for (int i = 0; i < p_.code.k(); ++i) sum += others[i];
    return sum;
  }

  const RepairProblem& p_;
  std::map<std::vector<ColumnSet>, std::optional<RepairCost>> known_;
};

TEST(RepairPlanner, IsOptimalByBruteForceWithSitesAndLengths) {
  Seeded random;
  for (int round = 0; round < 200; ++round) {
    const auto code = code_of(round % 2 ? "rs-3-2" : "rs-4-2");
    const int t = static_cast<int>(random.number(1, 3));
    RepairProblem problem = group_of(*code, t, 100);
    problem.local_site = static_cast<SiteId>(random.number(1, 3));
    const bool by_column = random.number(0, 1) != 0;
    for (auto& row : problem.rows)
      for (int c = 0; c < code->n(); ++c) {
        row.sites[c] = static_cast<SiteId>(by_column ? c % 4 + 1 : random.number(1, 4));
        row.shard_bytes[c] = random.number(1, 100);
      }
    std::vector<ColumnSet> lost(t + 1);
    for (uint64_t i = random.number(1, 8); i > 0; --i)
      lost[random.number(0, t)] |= ColumnSet{1} << random.number(0, code->n() - 1);
    for (int r = 0; r <= t; ++r) problem.rows[r].lost = lost[r];
    const auto best = CheapestByTrying(problem).of(lost);
    const auto schedule = plan_repair(problem).value();
    if (!best) continue;  // a joint move at best
    ASSERT_TRUE(schedule.unrecoverable.empty());
    ASSERT_EQ(schedule.cost, *best) << "round " << round;
  }
}

// What linear algebra over the whole group says can be known: independent of moves.
std::vector<Cell> beyond_recovery(const RepairProblem& p) {
  const int k = p.code.k(), n = p.code.n(), a = p.code.packets();
  const int members = static_cast<int>(p.rows.size()) - p.has_xor_row;
  RowSpace known(members * k * a);
  auto row_of = [&](Cell cell, int packet) {
    Bytes row(members * k * a);
    for (int r = 0; r < members; ++r)
      for (int d = 0; d < k * a && (r == cell.row || cell.row == members); ++d)
        row[r * k * a + d] = p.code.coefficient(cell.column * a + packet, d);
    return row;
  };
  std::vector<Cell> lost, beyond;
  for (int r = 0; r < static_cast<int>(p.rows.size()); ++r)
    for (int c = 0; c < n; ++c) {
      if (contains(p.rows[r].lost, c)) lost.push_back({r, c});
      for (int i = 0; i < a && !contains(p.rows[r].lost | p.rows[r].unreachable, c); ++i)
        known.add(row_of({r, c}, i));
    }
  for (const Cell& cell : lost)
    for (int i = 0; i < a; ++i)
      if (!known.contains(row_of(cell, i))) {
        beyond.push_back(cell);
        break;
      }
  return beyond;
}

void expect_performs(const RepairProblem& problem, const RepairSchedule& schedule, Seeded& random) {
  RepairData data(problem, random);
  RepairCost sum;
  size_t rebuilt = 0, lost = 0;
  for (const auto& move : schedule.moves) {
    ASSERT_TRUE(data.perform(move)) << problem.code.name() << ": " << describe(move);
    sum += move.cost;
    rebuilt += move.rebuilt.size();
  }
  for (const auto& row : problem.rows)
    for (int c = 0; c < problem.code.n(); ++c)
      lost += contains(row.lost, c) && row.shard_bytes[c] > 0;
  EXPECT_EQ(sum, schedule.cost);
  EXPECT_EQ(rebuilt + schedule.unrecoverable.size(), lost);
}

TEST(RepairPlanner, SchedulesWorkAndRecoverAllThatCanBe) {
  Seeded random;
  for (const char* profile : {"rs-2-1", "rs-3-2", "rs-4-2", "basic-4-8", "msr-5-3", "msr-8-4"})
    for (int round = 0; round < 60; ++round) {
      const auto code = code_of(profile);
      const int t = static_cast<int>(random.number(0, 4));
      RepairProblem problem = group_of(*code, t, 12);
      if (round % 2 == 0) put_columns_on_sites(problem);
      problem.local_site = static_cast<SiteId>(random.number(0, 3));
      problem.combine_at_sites = random.number(0, 1) != 0;
      for (uint64_t site = random.number(0, 4); site > 0; --site)
        problem.working_sites.push_back(static_cast<SiteId>(site));
      const uint64_t losses = random.number(1, (t + 1) * code->n() * 6 / 10);
      for (uint64_t i = 0; i < losses; ++i) {
        RepairRow& row = problem.rows[random.number(0, problem.rows.size() - 1)];
        const ColumnSet cell = ColumnSet{1} << random.number(0, code->n() - 1);
        if (random.number(0, 9) == 0)
          row.unreachable |= cell & ~row.lost;
        else
          row.lost |= cell & ~row.unreachable;
      }
      for (const auto strategy : {RepairStrategy::cheapest, RepairStrategy::row_first}) {
        const auto schedule = plan_repair(problem, strategy).value();
        const auto beyond = beyond_recovery(problem);
        // Without a group there is no joint decode, and none is needed.
        ASSERT_EQ(schedule.unrecoverable, beyond) << profile << " t " << t;
        expect_performs(problem, schedule, random);
      }
    }
}

TEST(RepairPlanner, MembersOfDifferentLengthAndEmptyColumnsAreReadAsFarAsNeeded) {
  Seeded random;
  const auto code = code_of("rs-3-2");
  for (int round = 0; round < 200; ++round) {
    RepairProblem problem = group_of(*code, 3);
    put_columns_on_sites(problem);
    problem.local_site = static_cast<SiteId>(random.number(0, 5));
    auto& xor_row = problem.rows.back();
    xor_row.shard_bytes.assign(5, 0);
    xor_row.parity_bytes = 0;
    for (int r = 0; r < 3; ++r) {
      RepairRow& row = problem.rows[r];
      row.parity_bytes = 0;
      for (int c = 0; c < 5; ++c) {
        if (c < 3) row.shard_bytes[c] = random.number(0, 2) * random.number(0, 40) + (c == 0);
        if (c < 3) row.parity_bytes = std::max(row.parity_bytes, row.shard_bytes[c]);
        if (c >= 3) row.shard_bytes[c] = row.parity_bytes;
        xor_row.shard_bytes[c] = std::max(xor_row.shard_bytes[c], row.shard_bytes[c]);
      }
      xor_row.parity_bytes = std::max(xor_row.parity_bytes, row.parity_bytes);
    }
    for (uint64_t i = random.number(1, 6); i > 0; --i)
      lose(problem,
           {{static_cast<int>(random.number(0, 3)), static_cast<int>(random.number(0, 4))}});
    const auto schedule = plan_repair(problem).value();
    expect_performs(problem, schedule, random);
  }
}

TEST(RepairPlanner, AShortLostShardCostsShortReads) {
  const auto code = code_of("rs-3-2");
  RepairProblem problem = group_of(*code, 0, 1000);
  problem.rows[0].shard_bytes[0] = 10;
  problem.rows[0].lost = 1;
  EXPECT_EQ(plan_repair(problem).value().cost, (RepairCost{40, 40, 4}));
  // A column that is not stored is known without reading.
  problem.rows[0].shard_bytes[1] = 0;
  EXPECT_EQ(plan_repair(problem).value().cost, (RepairCost{30, 30, 3}));
}

TEST(RepairPlanner, OneLostShardOfAGroupMovesNothingBetweenSites) {
  const auto code = code_of("rs-6-3");
  RepairProblem problem = group_of(*code, 3, 100);
  put_columns_on_sites(problem);
  lose(problem, {{1, 4}});
  problem.working_sites = {5};
  auto schedule = plan_repair(problem).value();
  ASSERT_EQ(schedule.moves.size(), 1u);
  EXPECT_EQ(schedule.moves[0].kind, RepairMove::Kind::column);
  EXPECT_EQ(schedule.moves[0].computed_at, 5u);
  EXPECT_EQ(schedule.cost, (RepairCost{0, 400, 4}));
  // Work can be done nowhere but here: what crosses is counted, and is still the least.
  problem.working_sites.clear();
  problem.local_site = 1;
  schedule = plan_repair(problem).value();
  EXPECT_EQ(schedule.moves[0].kind, RepairMove::Kind::column);
  EXPECT_EQ(schedule.cost, (RepairCost{400, 400, 4}));
  // Here is where the shard is: nothing crosses either.
  problem.local_site = 5;
  EXPECT_EQ(plan_repair(problem).value().cost.inter_site_bytes, 0u);
}

TEST(RepairPlanner, HelpersHalveWhatARowCosts) {
  const auto msr = code_of("msr-8-4"), basic = code_of("basic-4-8"), rs = code_of("rs-4-4");
  auto between_sites = [](const ErasureCode& code, bool combine) {
    RepairProblem problem = group_of(code, 0, 1200);
    problem.rows[0].lost = 0b100;
    problem.combine_at_sites = combine;
    const auto schedule = plan_repair(problem).value();
    EXPECT_EQ(schedule.moves.size(), 1u);
    return schedule.cost.inter_site_bytes - 1200;  // without the new shard
  };
  EXPECT_EQ(between_sites(*rs, true), 4u * 1200);
  EXPECT_EQ(between_sites(*msr, true), 2u * 1200);
  EXPECT_EQ(between_sites(*msr, false), 4u * 1200);
  EXPECT_EQ(between_sites(*basic, true), 2u * 1200);
  EXPECT_EQ(between_sites(*basic, false), 2u * 1200);
}

TEST(RepairPlanner, LocalShardsAreReadBeforeRemoteOnes) {
  const auto code = code_of("rs-4-4");
  RepairProblem problem = group_of(*code, 0, 1000);
  problem.rows[0].lost = 1;
  problem.rows[0].sites = {9, 1, 2, 3, 9, 9, 4, 9};
  problem.local_site = 9;
  const auto schedule = plan_repair(problem).value();
  EXPECT_EQ(schedule.cost, (RepairCost{1000, 5000, 5}));
}

TEST(RepairPlanner, JointDecodeRecoversWhatPeelingCannot) {
  Seeded random;
  // Three lost in each of four rows and two in each column: no row has at most m = 2, no column
  // one.
  const auto code = code_of("rs-4-2");
  int joint = 0;
  for (int round = 0; round < 200 && joint == 0; ++round) {
    RepairProblem problem = group_of(*code, 3, 10);
    for (int c = 0; c < 6; ++c) {
      const auto first = static_cast<int>(random.number(0, 3));
      const auto second = (first + static_cast<int>(random.number(1, 3))) % 4;
      lose(problem, {{first, c}, {second, c}});
    }
    const auto rest = peel(problem);
    if (std::any_of(rest.begin(), rest.end(), [](ColumnSet s) { return std::popcount(s) != 3; }))
      continue;
    const auto schedule = plan_repair(problem).value();
    EXPECT_EQ(schedule.unrecoverable, beyond_recovery(problem));
    expect_performs(problem, schedule, random);
    for (const auto& move : schedule.moves) joint += move.kind == RepairMove::Kind::joint;
  }
  EXPECT_GT(joint, 0) << "no pattern of this kind was drawn";
}

TEST(RepairPlanner, UnreachableCellsAreNeitherReadNorRebuilt) {
  const auto code = code_of("rs-3-2");
  RepairProblem problem = group_of(*code, 2);
  lose(problem, {{0, 0}});
  problem.rows[1].unreachable = 0b00001;  // the column move would need it
  const auto schedule = plan_repair(problem).value();
  ASSERT_EQ(schedule.moves.size(), 1u);
  EXPECT_EQ(schedule.moves[0].kind, RepairMove::Kind::row);
  problem.rows[0].unreachable = 0b11000;  // and the row, too
  const auto two_left = plan_repair(problem).value();
  EXPECT_EQ(two_left.unrecoverable, beyond_recovery(problem));
}

TEST(RepairPlanner, TheHardestPartsArePlannedInTime) {
  Seeded random;
  const auto code = code_of("rs-12-2");
  for (int round = 0; round < 6; ++round) {
    RepairProblem problem = group_of(*code, 5);
    const bool connected = round < 3;  // 20 cells as one part; else as many as will ever be lost
    while (true) {
      size_t lost = 0;
      for (const auto& row : problem.rows) lost += std::popcount(row.lost);
      if (lost == (connected ? 20u : 60u)) break;
      lose(problem, {{static_cast<int>(random.number(0, 5)),
                      static_cast<int>(random.number(0, connected ? 8 : 13))}});
    }
    const std::clock_t start = std::clock();  // of this process: other load does not count
    const auto schedule = plan_repair(problem).value();
    EXPECT_LT((std::clock() - start) / CLOCKS_PER_SEC, 20);
    EXPECT_EQ(schedule.unrecoverable, beyond_recovery(problem));
  }
  // A lost site that held two columns: decode all rows but one, whose two cells are column sums.
  RepairProblem site = group_of(*code, 5);
  for (auto& row : site.rows) row.lost = 0b1000001;
  EXPECT_EQ(plan_repair(site).value().cost.total_bytes, 5u * 12 + 2 * 5 + 12);
}

TEST(RepairPlanner, ShapesThatDoNotFitAreRefused) {
  const auto code = code_of("rs-3-2");
  auto refused = [&](const std::function<void(RepairProblem&)>& change) {
    RepairProblem problem = group_of(*code, 2);
    change(problem);
    const auto schedule = plan_repair(problem);
    return !schedule && schedule.error().is(Errc::invalid);
  };
  EXPECT_FALSE(refused([](auto&) {}));
  EXPECT_TRUE(refused([](auto& p) { p.rows.clear(); }));
  EXPECT_TRUE(refused([](auto& p) { p.has_xor_row = false; }));
  EXPECT_TRUE(refused([](auto& p) { p.rows.resize(1); }));
  EXPECT_TRUE(refused([](auto& p) { p.rows.resize(kGroupRowsMax + 1, p.rows[0]); }));
  EXPECT_TRUE(refused([](auto& p) { p.rows[1].sites.pop_back(); }));
  EXPECT_TRUE(refused([](auto& p) { p.rows[1].shard_bytes.push_back(1); }));
  EXPECT_TRUE(refused([](auto& p) { p.rows[1].shard_bytes[0] = 2; }));
  EXPECT_TRUE(refused([](auto& p) { p.rows[0].lost = 1u << 5; }));
  EXPECT_TRUE(refused([](auto& p) { p.rows[0].lost = p.rows[0].unreachable = 1; }));
}

}  // namespace
}  // namespace datacloud
