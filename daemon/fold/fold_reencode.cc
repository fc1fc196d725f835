// Reads whole columns and writes whole columns; no block moves within its column.
#include <algorithm>

#include "daemon/fold/fold_switch.h"

namespace datacloud {
namespace {

class Reencoding {
 public:
  Reencoding(BackgroundContext& context, BackgroundIds& ids, const FoldSnapshot& now,
             const std::vector<size_t>& folded, FoldOutcome& outcome)
      : context_(context), ids_(ids), now_(now), folded_(folded), outcome_(outcome) {}

  result<void> run() {
    for (const size_t i : folded_) touched_ |= ColumnSet{1} << now_.updates[i].place.column;
    TRY(const bool good, read());
    if (!good) return success();
    compute();
    return put();
  }

 private:
  // What is read: the live blocks of columns that change, the other columns whole, and the new
  // blocks.
  result<bool> read() {
    for (int c = 0; c < now_.code->k(); ++c) {
      const auto& shard = now_.base.shards(c);
      if (shard.state() == pb::SHARD_EMPTY) continue;
      ShardParts part{&now_.base, c, {}, {}, {}};
      if (!contains(touched_, c)) part.wanted.push_back({0, shard.bytes()});
      for (const Slot& slot : now_.live) {
        if (contains(touched_, c) && static_cast<int>(slot.column) == c) {
          part.wanted.push_back({slot.offset, slot.length});
        }
      }
      if (part.wanted.empty()) continue;
      part_of_column_[c] = parts_.size();
      parts_.push_back(std::move(part));
    }
    for (const size_t i : folded_) {
      const auto& update = now_.updates[i];
      const auto& source = now_.sources.at(update.source);
      const int slot = static_cast<int>(update.source_slot);
      const int column = static_cast<int>(source.slot_column(slot));
      const auto [it, added] = part_of_source_.try_emplace({update.source, column}, parts_.size());
      if (added) parts_.push_back({&source, column, {}, {}, {}});
      parts_[it->second].wanted.push_back({source.slot_offset(slot), update.new_bytes});
    }
    const auto read = read_parts(context_, parts_, Purpose::fold);
    outcome_.bytes_read += read.bytes;
    outcome_.bytes_between_sites += read.bytes_between_sites;
    return accept_parts(context_, parts_, outcome_);
  }

  void compute() {
    const int k = now_.code->k(), n = now_.code->n();
    std::vector<Bytes> columns(static_cast<size_t>(n), Bytes(now_.base.parity_bytes()));
    for (const auto& [c, part] : part_of_column_) {
      for (const auto& [offset, bytes] : parts_[part].read) {
        std::copy(bytes.begin(), bytes.end(),
                  columns[static_cast<size_t>(c)].begin() + static_cast<std::ptrdiff_t>(offset));
      }
    }
    for (const size_t i : folded_) {
      const auto& update = now_.updates[i];
      const auto& source = now_.sources.at(update.source);
      const int slot = static_cast<int>(update.source_slot);
      const auto part =
          part_of_source_.at({update.source, static_cast<int>(source.slot_column(slot))});
      const ByteView fresh = parts_[part].at({source.slot_offset(slot), update.new_bytes});
      std::copy(fresh.begin(), fresh.end(),
                columns[update.place.column].begin() + update.place.offset);
    }
    parts_.clear();
    std::vector<ByteView> data(columns.begin(), columns.begin() + k);
    std::vector<MutableByteView> parity(columns.begin() + k, columns.end());
    now_.code->encode(data, parity);
    for (int c = 0; c < n; ++c) {
      if (c < k && !contains(touched_, c)) continue;
      auto& column = columns[static_cast<size_t>(c)];
      column.resize(now_.base.shards(c).bytes());
      const SiteId site = now_.base.shards(c).site();
      outcome_.change_bytes += column.size();
      if (site != context_.local_site) outcome_.bytes_between_sites += column.size();
      shards_.push_back({c, site, 0, std::make_shared<const Bytes>(std::move(column))});
    }
  }

  result<void> put() {
    TRY(const InstanceId first, ids_.take(IdKind::instance, static_cast<uint32_t>(shards_.size())));
    std::vector<FoldedColumn> objects;
    for (size_t i = 0; i < shards_.size(); ++i) {
      shards_[i].instance = first + i;
      objects.push_back({&now_.base, shards_[i].column, first + i, {{0, first + i}}});
    }
    const auto put = put_shards(context_, now_.base.id(), shards_, Purpose::fold);
    if (put.failed.empty()) return switch_fold(context_, now_, folded_, objects, outcome_);
    outcome_.kind = FoldOutcome::Kind::blocked;
    outcome_.reason = put.reasons;
    return abandon_fold(context_, now_, objects);
  }

  BackgroundContext& context_;
  BackgroundIds& ids_;
  const FoldSnapshot& now_;
  const std::vector<size_t>& folded_;
  FoldOutcome& outcome_;
  ColumnSet touched_ = 0;
  std::vector<ShardParts> parts_;
  std::map<int, size_t> part_of_column_;
  std::map<std::pair<StripeId, int>, size_t> part_of_source_;
  std::vector<NewShard> shards_;
};

}  // namespace

result<void> reencode_stripe(BackgroundContext& context, BackgroundIds& ids,
                             const FoldSnapshot& now, const std::vector<size_t>& folded,
                             FoldOutcome& outcome) {
  return Reencoding(context, ids, now, folded, outcome).run();
}

}  // namespace datacloud
