// By hand, and for tools/bench_repair.sh: what repairs move between sites and how long they take,
// as Markdown tables. Sites are in memory behind one link of the daemon's, 35 ms away and 1 Gbit/s
// each way (DATACLOUD_BENCH_MBIT); bytes are what crossed it, audit tags and proofs included.
//
//   BenchRepair.Groups   the CORE paper's cases, ours beside Reed-Solomon's two ways
//   BenchRepair.Codes    one lost shard of codes with the same k and n
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <optional>

#include "common/base/log.h"
#include "daemon/jobs/shard_io.h"
#include "tests/daemon/fold/fold_group_rig.h"
#include "tests/support/linked_store.h"

namespace datacloud {
namespace {

constexpr size_t kShardBytes = 1020 * 4096;  // whole audit blocks in 2 and in 3 packets
constexpr auto kRoundTrip = milliseconds(35);

struct Cost {
  double shards = 0;  // that crossed the link, read and written
  double milliseconds = 0;
};
std::string text_of(const std::optional<Cost>& cost) {
  if (!cost) return "lost";
  char line[80];
  std::snprintf(line, sizeof line, "%.1f, %.0f ms", std::abs(cost->shards), cost->milliseconds);
  return line;
}

class BenchRepair : public FoldGroupRig {
 protected:
  void SetUp() override { spdlog::set_level(spdlog::level::err); }
  void TearDown() override { remove_cloud(); }

  std::unique_ptr<ObjectStore> open_site(SiteId site) override {
    return std::make_unique<LinkedStore>(FoldGroupRig::open_site(site), site, link_);
  }
  static double bytes_per_second() {
    const char* given = std::getenv("DATACLOUD_BENCH_MBIT");
    return (given != nullptr ? std::atof(given) : 1000) * 1e6 / 8;
  }
  template <class Work>
  Cost measured(const Work& work) {
    link_.set(kRoundTrip, bytes_per_second());
    const uint64_t before = link_.bytes();
    const auto began = monotonic_now();
    work();
    Cost cost;
    cost.milliseconds = std::chrono::duration<double, std::milli>(monotonic_now() - began).count();
    cost.shards = static_cast<double>(link_.bytes() - before) / double(kShardBytes);
    link_.set(Duration::zero(), 0);
    return cost;
  }

  std::vector<StripeId> write_rows(int rows) {
    std::vector<StripeId> ids;
    for (int r = 0; r < rows; ++r) {
      const auto k = static_cast<size_t>(code_->k());
      ids.push_back(write(random_blocks(static_cast<uint64_t>(r) * k, k, kShardBytes)));
    }
    return ids;
  }
  void lose(const std::vector<StripeId>& rows, const std::vector<Cell>& cells) {
    for (const Cell& cell : cells) {
      const auto stripe = *record(rows[static_cast<size_t>(cell.row)]);
      const SiteId site = stripe.shards(cell.column).site();
      const auto store = make_memory_store(memory_[site - 1]);
      EXPECT_TRUE(wait_for<void>(
          [&](Callback<void> done) { store->remove(object_name(stripe, cell.column), {}, done); }));
      commit([&](Transaction& txn) {
        return record_damage(txn, damage_of({stripe.id(), static_cast<uint8_t>(cell.column),
                                             stripe.shards(cell.column).instance()},
                                            site, "lost by the benchmark"));
      });
    }
  }
  // As the repairer does: the most endangered stripe first, until none is left.
  void repair_all() {
    for (int round = 0; round < 20; ++round) {
      std::vector<QueuedRepair> queued;
      on_loop([&] { queued = queued_repairs(store_->begin(), "", 1).value(); });
      if (queued.empty()) return;
      const auto outcome = StripeRepair(*context_, *ids_, queued[0].stripe).run();
      ASSERT_TRUE(outcome) << outcome.error().message();
      ASSERT_TRUE(outcome.value().kind == RepairOutcome::Kind::whole) << outcome.value().reason;
      commit([&](Transaction& txn) -> result<void> {
        txn.erase(queued[0].key);
        return success();
      });
    }
    ADD_FAILURE() << "something is left to repair";
  }
  Cost repair(const std::vector<StripeId>& rows, const std::vector<Cell>& cells,
              RepairStrategy strategy = RepairStrategy::cheapest, SiteId at = 0) {
    lose(rows, cells);
    context_->repair_strategy = [strategy] { return strategy; };
    context_->local_site = at;
    link_.stand_at(at);
    const Cost cost = measured([&] { repair_all(); });
    link_.stand_at(0);
    context_->local_site = 0;
    return cost;
  }
  // HDFS-RAID: a row is decoded from all that survives of it; without proof of what was written.
  std::optional<Cost> all_survivors(const std::vector<StripeId>& rows,
                                    const std::vector<Cell>& cells) {
    std::map<int, ColumnSet> lost;
    for (const Cell& cell : cells) lost[cell.row] |= ColumnSet{1} << cell.column;
    for (const auto& [row, columns] : lost) {
      if (__builtin_popcount(columns) > code_->m()) return std::nullopt;
    }
    return measured([&] {
      for (const auto& [row, columns] : lost) {
        const auto stripe = *record(rows[static_cast<size_t>(row)]);
        const ColumnSet all = (ColumnSet{1} << code_->n()) - 1;
        const auto have = read_shards(*context_, stripe, all & ~columns, Purpose::repair).columns;
        const auto fresh = rebuild_columns(*code_, stripe, have, columns).value();
        const InstanceId first =
            ids_->take(IdKind::instance, static_cast<uint32_t>(fresh.size())).value();
        std::vector<NewShard> shards;
        for (const auto& [c, bytes] : fresh) {
          shards.push_back({c, static_cast<SiteId>(c + 1), first + shards.size(),
                            std::make_shared<const Bytes>(bytes)});
        }
        ASSERT_TRUE(put_shards(*context_, stripe.id(), shards, Purpose::repair).failed.empty());
      }
    });
  }

  Link link_;
};

struct Pattern {
  const char* name;
  std::vector<Cell> cells;
};
const std::vector<Pattern>& patterns() {
  static const std::vector<Pattern> all = {
      {"one", {{1, 1}}},
      {"two in a row", {{1, 1}, {1, 2}}},
      {"Step", {{0, 0}, {0, 1}, {1, 1}, {1, 2}}},
      {"Plus", {{0, 1}, {1, 0}, {1, 1}, {1, 2}, {2, 1}}},
  };
  return all;
}
bool rows_decode(const Pattern& pattern, int m) {
  std::map<int, int> lost;
  for (const Cell& cell : pattern.cells) ++lost[cell.row];
  return std::all_of(lost.begin(), lost.end(), [m](const auto& row) { return row.second <= m; });
}

TEST_F(BenchRepair, Groups) {
  std::printf(
      "| code | lost | RS, k reads | RS, all survivors | row first | column first | ours | ours, "
      "at the column's site |\n|---|---|---:|---:|---:|---:|---:|---:|\n");
  const struct {
    const char *name, *code;
    int t;
  } shapes[] = {{"(9,6,3)", "rs-6-3", 3}, {"(14,12,5)", "rs-12-2", 5}};
  for (const auto& shape : shapes) {
    make_cloud(shape.code);
    const auto alone = write_rows(3);
    std::vector<std::string> lines;
    for (const auto& pattern : patterns()) {
      const bool decodes = rows_decode(pattern, code_->m());
      std::optional<Cost> rs;
      if (decodes) rs = repair(alone, pattern.cells);
      lines.push_back(std::string("| ") + shape.name + " | " + pattern.name + " | " + text_of(rs) +
                      " | " + text_of(all_survivors(alone, pattern.cells)));
    }
    remove_cloud();
    make_cloud(shape.code);
    auto rows = write_rows(shape.t);
    rows.push_back(add_row_of(rows));
    for (size_t i = 0; i < patterns().size(); ++i) {
      const auto& cells = patterns()[i].cells;
      for (const auto strategy :
           {RepairStrategy::row_first, RepairStrategy::column_first, RepairStrategy::cheapest}) {
        lines[i] += " | " + text_of(repair(rows, cells, strategy));
      }
      const auto near = static_cast<SiteId>(cells.back().column + 1);
      lines[i] +=
          " | " + (cells.size() == 1 ? text_of(repair(rows, cells, RepairStrategy::cheapest, near))
                                     : std::string());
      std::printf("%s |\n", lines[i].c_str());
      std::fflush(stdout);
    }
    remove_cloud();
  }
}

TEST_F(BenchRepair, Codes) {
  std::printf("| code | shards between sites | MiB | time |\n|---|---:|---:|---:|\n");
  for (const char* code : {"rs-4-4", "msr-8-4", "basic-4-8"}) {
    make_cloud(code);
    const auto rows = write_rows(1);
    context_->combining = [this] {
      std::set<SiteId> all;
      for (Site* site : sites_->all()) all.insert(site->id());
      return all;
    };
    const Cost cost = repair(rows, {{0, 1}});
    std::printf("| %s | %.2f | %.1f | %.0f ms |\n", code, cost.shards,
                cost.shards * double(kShardBytes) / (1 << 20), cost.milliseconds);
    remove_cloud();
  }
}

}  // namespace
}  // namespace datacloud
