// By hand: what folding moves between sites, and how long it takes, beside the two ways of the CORE
// paper: re-encoding, and a parity update that reads the old parity over the network. Prints
// Markdown tables for docs/benchmarks.md; DATACLOUD_BENCH_SHARD is the bytes of a block.
#include "common/plan/fold_planner.h"
#include "tests/daemon/fold/fold_group_rig.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "daemon/fold/fold_scheduler.h"
#include "daemon/jobs/shard_io.h"
#include "tests/support/deriving_store.h"

namespace datacloud {
namespace {

struct Cost {
  double read = 0, written = 0, copied = 0;  // in blocks
  double milliseconds = 0;
};

class BenchFold : public FoldGroupRig {
 protected:
  void TearDown() override { remove_cloud(); }
  std::unique_ptr<ObjectStore> open_site(SiteId site) override {
    return std::make_unique<DerivingStore>(FoldGroupRig::open_site(site));
  }

  static size_t block_bytes() {
    const char* given = std::getenv("DATACLOUD_BENCH_SHARD");
    return given != nullptr ? std::strtoull(given, nullptr, 10) : size_t{4} << 20;
  }
  void set_round_trip(int ms) {
    on_operation = nullptr;
    if (ms == 0) return;
    on_operation = [ms](SiteId, StoreOp, const std::string&) {
      return Fault{Fault::Kind::delay, {}, milliseconds(ms)};
    };
  }
  template <class Work>
  static double timed(const Work& work) {
    const auto began = monotonic_now();
    work();
    return std::chrono::duration<double, std::milli>(monotonic_now() - began).count();
  }

  // Reads the other data columns and the new blocks, encodes, puts what changed.
  Cost reencode(const pb::Stripe& base, const std::vector<StripeId>& updates, int u) {
    Cost cost;
    cost.milliseconds = timed([&] {
      const int k = code_->k();
      ColumnSet others = 0;
      for (int c = u; c < k; ++c) others |= ColumnSet{1} << c;
      auto columns = read_shards(*context_, base, others, Purpose::fold).columns;
      for (int c = 0; c < u; ++c) {
        const auto stripe = *record(updates[static_cast<size_t>(c)]);
        columns[c] = read_shards(*context_, stripe, 1, Purpose::fold).columns.at(0);
      }
      ColumnSet parity = 0;
      for (int c = k; c < code_->n(); ++c) parity |= ColumnSet{1} << c;
      auto fresh = rebuild_columns(*code_, base, columns, parity).value();
      for (int c = 0; c < u; ++c) fresh[c] = std::move(columns[c]);
      put(base.id(), fresh);
      cost.read = k;
      cost.written = static_cast<double>(fresh.size());
    });
    return cost;
  }
  // Reads old and new blocks and the old parity, puts the new.
  Cost parity_update(const pb::Stripe& base, const std::vector<StripeId>& updates, int u) {
    Cost cost;
    cost.milliseconds = timed([&] {
      ColumnSet old = 0;
      for (int c = 0; c < u; ++c) old |= ColumnSet{1} << c;
      for (int c = code_->k(); c < code_->n(); ++c) old |= ColumnSet{1} << c;
      auto columns = read_shards(*context_, base, old, Purpose::fold).columns;
      std::map<int, Bytes> fresh;
      for (int c = 0; c < u; ++c) {
        const auto stripe = *record(updates[static_cast<size_t>(c)]);
        Bytes delta = read_shards(*context_, stripe, 1, Purpose::fold).columns.at(0);
        fresh[c] = delta;
        ErasureCode::apply_delta(columns[c], delta);
        for (int p = 0; p < code_->m(); ++p) {
          Bytes change(delta.size());
          code_->encode_delta(c, p, delta, change);
          ErasureCode::apply_delta(change, columns[code_->k() + p]);
        }
      }
      for (int c = code_->k(); c < code_->n(); ++c) fresh[c] = std::move(columns[c]);
      put(base.id(), fresh);
      cost.read = 2 * u + code_->m();
      cost.written = static_cast<double>(fresh.size());
    });
    return cost;
  }
  void put(StripeId stripe, const std::map<int, Bytes>& columns) {
    const InstanceId first =
        ids_->take(IdKind::instance, static_cast<uint32_t>(columns.size())).value();
    std::vector<NewShard> shards;
    for (const auto& [c, bytes] : columns) {
      shards.push_back({c, static_cast<SiteId>(c + 1), first + shards.size(),
                        std::make_shared<const Bytes>(bytes)});
    }
    ASSERT_TRUE(put_shards(*context_, stripe, shards, Purpose::fold).failed.empty());
    ASSERT_TRUE(abandon_shards(*context_, stripe, shards));
  }
  Cost ours(StripeId base, size_t bytes) {
    Cost cost;
    FoldOutcome outcome;
    cost.milliseconds = timed([&] { outcome = fold(base); });
    EXPECT_EQ(outcome.kind, FoldOutcome::Kind::folded) << outcome.reason;
    cost.read = static_cast<double>(outcome.bytes_read) / static_cast<double>(bytes);
    cost.written = static_cast<double>(outcome.change_bytes) / static_cast<double>(bytes);
    cost.copied = static_cast<double>(outcome.bytes_copied_at_sites) / static_cast<double>(bytes);
    return cost;
  }

  // The bytes of puts of the stripes that carry updates, per byte of these.
  void replay(const char* name, const std::function<uint64_t()>& next_block, uint64_t blocks,
              size_t bytes, int updates, int per_pass) {
    make_cloud("rs-6-3");
    for (uint64_t at = 0; at < blocks; at += 1536) write(random_blocks(at, 1536, bytes));
    FoldScheduler folder(*context_, *ids_, loop_, {.jobs_max = 1, .automatic = false});
    uint64_t moved = 0, folded = 0;
    for (int i = 0; i < updates; i += per_pass) {
      for (int j = 0; j < per_pass; ++j) write({{next_block(), random_bytes(bytes)}});
      std::vector<StripeId> bases;
      on_loop([&] {
        const auto txn = store_->begin();
        for (auto id = next_fold_base(txn, 0).value(); id;
             id = next_fold_base(txn, *id + 1).value()) {
          bases.push_back(*id);
        }
      });
      for (const StripeId id : bases) {
        const auto outcome = fold(id);
        moved += outcome.bytes_read + outcome.change_bytes;
        folded += outcome.blocks_folded;
      }
    }
    const double logical = double(updates) * double(bytes);
    const double written = logical * (1 + code_->m());  // a small stripe: the block and its parity
    std::printf("| %s | %zu KiB | %d | %llu | %.2f | %.2f | %.2f |\n", name, bytes >> 10, updates,
                static_cast<unsigned long long>(folded), written / logical, double(moved) / logical,
                (written + double(moved)) / logical);
    remove_cloud();
  }
};

TEST_F(BenchFold, OneRowBlockByBlock) {
  std::printf(
      "| u | round trip | re-encode read + written, ms | parity update | ours | copied |\n");
  std::printf("|---:|---:|---:|---:|---:|---:|\n");
  const size_t bytes = block_bytes();
  for (const int rtt : {0, 35}) {
    for (int u = 1; u <= 5; ++u) {
      make_cloud("rs-6-3");
      const StripeId base = write(random_blocks(0, 6, bytes));
      std::vector<StripeId> updates;
      for (int c = 0; c < u; ++c) {
        updates.push_back(write({{static_cast<uint64_t>(c), random_bytes(bytes)}}));
      }
      set_round_trip(rtt);
      const auto stripe = *record(base);
      const Cost a = reencode(stripe, updates, u);
      const Cost b = parity_update(stripe, updates, u);
      const auto text = [](const Cost& cost) {
        char line[80];
        std::snprintf(line, sizeof line, "%.0f + %.0f, %.0f ms", cost.read, cost.written,
                      cost.milliseconds);
        return std::string(line);
      };
      const Cost c = ours(base, bytes);
      std::printf("| %d | %d ms | %s | %s | %s | %.0f |\n", u, rtt, text(a).c_str(),
                  text(b).c_str(), text(c).c_str(), c.copied);
      set_round_trip(0);
      remove_cloud();
    }
  }
}

// Blocks of the members of a group, three rows of six and the XOR row, are overwritten. The paper's
// ways read and write between sites what its Table I says; of ours the change that goes to the XOR
// row's columns, which lie at the same sites as the members' columns, is shown apart.
TEST_F(BenchFold, FullMatrix) {
  std::printf("| blocks | re-encode | parity update | ours | and to the XOR row |\n");
  std::printf("|---|---:|---:|---:|---:|\n");
  const size_t bytes = std::min<size_t>(block_bytes(), 256 << 10);
  using Cells = std::vector<Cell>;
  const auto in_row = [](int count) {
    Cells cells;
    for (int c = 0; c < count; ++c) cells.push_back({0, c});
    return cells;
  };
  std::vector<std::pair<std::string, Cells>> sets;
  for (int u = 1; u <= 5; ++u) sets.push_back({std::to_string(u) + " in one row", in_row(u)});
  sets.push_back({"2 in one column", {{0, 0}, {1, 0}}});
  sets.push_back({"3 in one column", {{0, 0}, {1, 0}, {2, 0}}});
  sets.push_back({"6 in two rows", {{0, 0}, {0, 1}, {0, 2}, {1, 0}, {1, 1}, {1, 2}}});
  for (const auto& [name, cells] : sets) {
    make_cloud("rs-6-3");
    std::vector<StripeId> members;
    for (uint64_t r = 0; r < 3; ++r) members.push_back(write(random_blocks(6 * r, 6, bytes)));
    add_row_of(members);
    std::set<int> rows, columns;
    for (const auto& cell : cells) {
      rows.insert(cell.row);
      columns.insert(cell.column);
      write({{static_cast<uint64_t>(6 * cell.row + cell.column), random_bytes(bytes)}});
    }
    double read = 0, written_by_us = 0, to_row = 0;
    bool merged = false;
    for (const int r : rows) {
      const auto outcome = fold(members[static_cast<size_t>(r)]);
      if (outcome.kind == FoldOutcome::Kind::merge) {  // all live blocks into a new stripe
        merged = true;
        read += code_->k();
        written_by_us += code_->n();
        continue;
      }
      EXPECT_EQ(outcome.kind, FoldOutcome::Kind::folded) << outcome.reason;
      read += static_cast<double>(outcome.bytes_read) / static_cast<double>(bytes);
      const double half =
          static_cast<double>(outcome.change_bytes) / static_cast<double>(bytes) / 2;
      written_by_us += half;
      to_row += half;
    }
    const int m = code_->m();
    const auto paper = paper_update_reads(code_->k(), m, 3, cells);
    // New blocks, their rows' parities, the XOR row's blocks and parities.
    const auto written = cells.size() + rows.size() * static_cast<size_t>(m) + columns.size() +
                         static_cast<size_t>(m);
    const auto reencode = static_cast<unsigned long long>(paper.reencode);
    const auto update = static_cast<unsigned long long>(paper.parity_update);
    std::printf("| %s | %llu + %zu | %llu + %zu | %.0f + %.0f%s | %.0f |\n", name.c_str(), reencode,
                written, update, written, read, written_by_us, merged ? ", merged" : "", to_row);
    if (!merged) {
      EXPECT_DOUBLE_EQ(read, 2.0 * static_cast<double>(cells.size()));
      EXPECT_DOUBLE_EQ(written_by_us, static_cast<double>(cells.size() + rows.size() * 3));
    }
    EXPECT_LT(read + written_by_us + to_row, static_cast<double>(paper.parity_update + written));
    expect_readable();
    remove_cloud();
  }
}

// One page of a database, in stripes as full as their policy lets them be: what crosses links, and
// what sites copy by themselves. Exact, whatever the machine does meanwhile.
TEST_F(BenchFold, OnePage) {
  std::printf(
      "| code | shards of | between sites | copied inside | in a group of 3 | copied inside |\n");
  std::printf("|---|---:|---:|---:|---:|---:|\n");
  constexpr size_t kPage = 4096;
  for (const char* code : {"rs-3-2", "rs-6-3"}) {
    for (uint32_t shard = kShardPlainBytesMax; shard >= kShardPlainBytesMin; shard /= 2) {
      std::string cells;
      uint64_t longest = 0;
      for (const uint64_t count : {1, 3}) {
        make_cloud(code);
        shard_bytes_ = recorded_shard_bytes(shard);
        const uint64_t pages =
            std::min<uint64_t>(kStripeSlotsMax, static_cast<uint64_t>(code_->k()) * shard / kPage);
        std::vector<StripeId> members;
        for (uint64_t r = 0; r < count; ++r) {
          members.push_back(write(random_blocks(r * pages, pages, kPage)));
        }
        if (count > 1) add_row_of(members);
        write({{7, random_bytes(kPage)}});
        const auto outcome = fold(members[0]);
        EXPECT_EQ(outcome.kind, FoldOutcome::Kind::folded) << outcome.reason;
        longest = record(members[0])->parity_bytes();
        char cell[80];
        std::snprintf(cell, sizeof cell, " %.1f KiB | %.0f KiB |",
                      double(outcome.bytes_between_sites) / 1024,
                      double(outcome.bytes_copied_at_sites) / 1024);
        cells += cell;
        remove_cloud();
      }
      std::printf("| %s | %llu KiB |%s\n", code, static_cast<unsigned long long>(longest >> 10),
                  cells.c_str());
    }
  }
}

TEST_F(BenchFold, Traces) {
  std::printf("| trace | block | updates | folded | written at once | by folds | in all |\n");
  std::printf("|---|---:|---:|---:|---:|---:|---:|\n");
  const uint64_t blocks = 3 * 1536;
  const auto skewed = [&] {  // 80 % of updates to 20 % of the blocks
    return random_() % 10 < 8 ? random_() % (blocks / 5)
                              : blocks / 5 + random_() % (blocks - blocks / 5);
  };
  std::vector<double> weights(blocks);
  for (uint64_t i = 0; i < blocks; ++i) weights[i] = std::pow(double(i + 1), -0.99);
  std::discrete_distribution<uint64_t> zipf(weights.begin(), weights.end());
  std::vector<uint64_t> place(blocks);
  for (uint64_t i = 0; i < blocks; ++i) place[i] = i;
  std::shuffle(place.begin(), place.end(), random_);
  for (const size_t bytes : {size_t{4096}, size_t{16384}}) {
    replay("80/20", skewed, blocks, bytes, 2000, 500);
    replay(
        "Zipf 0.99", [&] { return place[zipf(random_)]; }, blocks, bytes, 2000, 500);
  }
}

}  // namespace
}  // namespace datacloud
