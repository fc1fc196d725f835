// A move done: its reads, their verification, and the arithmetic.
#include <fmt/format.h>

#include <algorithm>

#include "common/base/log.h"
#include "common/tags/audit_field.h"
#include "daemon/records/block_map.h"
#include "daemon/repair/combined_reads.h"
#include "daemon/repair/stripe_repair.h"

namespace datacloud {
namespace {

// The sum of the cells read, as long as the lost shard.
Bytes sum_of(const std::map<Cell, Bytes>& cells, size_t length) {
  Bytes sum(length);
  for (const auto& [cell, bytes] : cells) {
    const size_t common = std::min(length, bytes.size());
    ErasureCode::apply_delta(ByteView(bytes).first(common), MutableByteView(sum).first(common));
  }
  return sum;
}

// Every rebuilt packet from the packets read (RepairMove::coefficients).
std::map<Cell, Bytes> joint_sums(const RepairMove& move, const ErasureCode& code, size_t length,
                                 std::map<Cell, Bytes>& cells) {
  const auto packets = static_cast<size_t>(code.packets());
  const size_t packet = length / packets;
  std::vector<ByteView> sources;
  for (const auto& read : move.reads) {
    Bytes& bytes = cells[read.cell];
    bytes.resize(length);
    for (size_t i = 0; i < packets; ++i)
      sources.push_back(ByteView(bytes).subspan(i * packet, packet));
  }
  std::map<Cell, Bytes> made;
  std::vector<MutableByteView> out;
  std::vector<uint8_t> coefficients;
  for (const auto& row : move.coefficients) {
    coefficients.insert(coefficients.end(), row.begin(), row.end());
  }
  for (const Cell& cell : move.rebuilt) {
    Bytes& bytes = made[cell] = Bytes(length);
    for (size_t i = 0; i < packets; ++i) {
      out.push_back(MutableByteView(bytes).subspan(i * packet, packet));
    }
  }
  gf256_combine(coefficients, sources, out);
  return made;
}

}  // namespace

result<StripeRepair::Made> StripeRepair::make(const Snapshot& now, const ErasureCode& code,
                                              const RepairMove& move, RepairOutcome& outcome) {
  Made made;
  if (move.helpers) {
    TRY(made.complete, ask_helpers(now, code, move, made, outcome));
    return made;
  }
  std::map<Cell, Bytes> cells;
  TRY(const bool read, read_cells(now, move.reads, cells, made, outcome));
  if (!read) return made;
  const auto bytes_of = [&](const Cell& cell) -> size_t {
    return now.stripes[static_cast<size_t>(cell.row)].shards(cell.column).bytes();
  };
  const Cell first = move.rebuilt.front();
  switch (move.kind) {
    case RepairMove::Kind::column:
      made.shards[first] = sum_of(cells, bytes_of(first));
      break;
    case RepairMove::Kind::row: {
      std::map<int, Bytes> have;
      for (auto& [cell, bytes] : cells) have[cell.column] = std::move(bytes);
      ColumnSet wanted = 0;
      for (const Cell& cell : move.rebuilt) wanted |= ColumnSet{1} << cell.column;
      TRY(auto fresh,
          rebuild_columns(code, now.stripes[static_cast<size_t>(first.row)], have, wanted));
      for (auto& [column, bytes] : fresh) made.shards[{first.row, column}] = std::move(bytes);
      break;
    }
    case RepairMove::Kind::joint: {
      size_t length = 0;
      for (const auto& stripe : now.stripes)
        length = std::max<size_t>(length, stripe.parity_bytes());
      made.shards = joint_sums(move, code, length, cells);
      for (auto& [cell, bytes] : made.shards) bytes.resize(bytes_of(cell));
      break;
    }
  }
  made.complete = true;
  return made;
}

// False: some of it failed, and is out of the next plan.
result<bool> StripeRepair::read_cells(const Snapshot& now, const std::vector<RepairRead>& reads,
                                      std::map<Cell, Bytes>& cells, Made& made,
                                      RepairOutcome& outcome) {
  const ReadingTurn turn(context_.threads);
  std::map<size_t, std::map<int, uint64_t>> columns_of_row;
  for (const auto& read : reads) {
    columns_of_row[static_cast<size_t>(read.cell.row)][read.cell.column] = read.bytes;
  }
  std::map<size_t, PrefixReads> under_way;  // of all rows at once: a column costs one round trip
  for (auto& [r, columns] : columns_of_row) {
    under_way.try_emplace(r, context_, now.stripes[r], std::move(columns), Purpose::repair);
  }
  bool whole = true;
  for (auto& [r, reading] : under_way) {
    ShardsRead read = reading.finish();
    for (const auto& [site, bytes] : read.bytes_by_site) {
      made.read[site] += bytes;
      outcome.bytes_read[site] += bytes;
    }
    for (auto& [column, bytes] : read.columns) {
      cells[{static_cast<int>(r), column}] = std::move(bytes);
    }
    if (read.failures.empty()) continue;
    TRY(record_failures(now.stripes[r], read.failures));
    outcome.reason = read.failures.front().error.message();
    whole = false;
  }
  return whole;
}

result<bool> StripeRepair::ask_helpers(const Snapshot& now, const ErasureCode& code,
                                       const RepairMove& move, Made& made, RepairOutcome& outcome) {
  const Cell lost = move.rebuilt.front();
  const pb::Stripe& stripe = now.stripes[static_cast<size_t>(lost.row)];
  CombinedRead read = [&] {
    const ReadingTurn turn(context_.threads);
    return read_combined(context_, code, stripe, *move.helpers);
  }();
  for (const auto& [site, bytes] : read.bytes_by_site) {
    made.read[site] += bytes;
    outcome.bytes_read[site] += bytes;
  }
  if (!read.failures.empty()) {
    TRY(record_failures(stripe, read.failures));
    outcome.reason = read.failures.front().error.message();
    return false;
  }
  Bytes bytes(stripe.parity_bytes());
  TRY(code.rebuild(*move.helpers, {read.outputs.begin(), read.outputs.end()}, bytes));
  bytes.resize(stripe.shards(lost.column).bytes());
  made.shards[lost] = std::move(bytes);
  return true;
}

result<void> StripeRepair::record_failures(const pb::Stripe& stripe,
                                           const std::vector<ShardFailure>& failures) {
  std::vector<pb::Damage> found;
  for (const auto& failed : failures) {
    const auto& shard = stripe.shards(failed.column);
    spdlog::warn("stripe {} column {} at site {}: {}", stripe.id(), failed.column,
                 context_.site_name(shard.site()), failed.error.message());
    silent_.insert({stripe.id(), failed.column});
    if (!failed.damaged) continue;
    found.push_back(damage_of(
        {stripe.id(), static_cast<uint8_t>(failed.column), shard.instance()}, shard.site(),
        failed.error.is(Errc::not_found) ? "missing" : failed.error.message()));
  }
  if (found.empty()) return success();
  return context_.threads.on_loop<void>([&]() -> result<void> {
    Transaction txn = context_.store.begin();
    for (const auto& damage : found) {
      TRY(record_damage(txn, damage));
    }
    return context_.committer.apply(std::move(txn));
  });
}

}  // namespace datacloud
