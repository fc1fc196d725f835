// By hand: what folding moves between sites, and how long it takes, beside the two ways of the CORE
// paper: re-encoding, and a parity update that reads the old parity over the network. Prints
// Markdown tables for docs/benchmarks.md; DATACLOUD_BENCH_SHARD is the bytes of a block.
#include "daemon/fold_rig.h"

#include <cmath>
#include <cstdio>

#include "daemon/folder.h"
#include "daemon/shard_io.h"

namespace datacloud {
namespace {

struct Cost {
  double read = 0, written = 0;  // in blocks
  double milliseconds = 0;
};

class BenchFold : public FoldRig {
 protected:
  void TearDown() override { remove_cloud(); }

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
    return cost;
  }

  // The bytes of puts of the stripes that carry updates, per byte of these.
  void replay(const char* name, const std::function<uint64_t()>& next_block, uint64_t blocks,
              size_t bytes, int updates, int per_pass) {
    make_cloud("rs-6-3");
    for (uint64_t at = 0; at < blocks; at += 1536) write(random_blocks(at, 1536, bytes));
    Folder folder(*context_, *ids_, loop_, {.jobs_max = 1, .automatic = false});
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
  std::printf("| u | round trip | re-encode read + written, ms | parity update | ours |\n");
  std::printf("|---:|---:|---:|---:|---:|\n");
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
      const std::string c = text(ours(base, bytes));
      std::printf("| %d | %d ms | %s | %s | %s |\n", u, rtt, text(a).c_str(), text(b).c_str(),
                  c.c_str());
      set_round_trip(0);
      remove_cloud();
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
