// The steps: collect live slots, read them, make new stripes, move the blocks.
#include "daemon/fold/stripe_merge.h"

#include <fmt/format.h>

#include <algorithm>

#include "daemon/fold/slot_users.h"
#include "daemon/jobs/shard_io.h"
#include "daemon/records/block_map.h"

namespace datacloud {
namespace {

constexpr size_t kPiecesMax = 65536;  // of one job

// A live slot: where its bytes are, and the blocks that are mapped to it (several when it is
// shared). In the order of its first user.
struct Piece {
  StripeId stripe = 0;
  uint32_t slot = 0;
  uint32_t length = 0;
  std::vector<SlotUser> users;  // sorted
  bool operator<(const Piece& o) const { return users.front() < o.users.front(); }
};

struct Source {
  pb::Stripe stripe;
  ColumnSet needed = 0;
  std::map<int, Bytes> columns;
};

class Merge {
 public:
  Merge(BackgroundContext& context, BackgroundIds& ids) : context_(context), ids_(ids) {}

  result<MergeOutcome> run(const std::vector<MergeCandidate>& candidates) {
    kind_ = candidates.front().kind;
    TRY(code_, make_erasure_code(kind_.code));
    TRY(context_.threads.on_loop<void>([&] { return gather(candidates); }));
    TRY(read_sources());
    std::sort(pieces_.begin(), pieces_.end());
    for (size_t first = 0; first < pieces_.size();) {
      const size_t count = blocks_for_stripe(*code_, kind_, first, pieces_.size(),
                                             [this](size_t i) { return pieces_[i].length; });
      if (count == 0) {
        return failure(Errc::corrupt, fmt::format("slot {} of stripe {} is larger than a column",
                                                  pieces_[first].slot, pieces_[first].stripe));
      }
      TRY(const bool made, write_stripe(first, count));
      if (!made) break;
      first += count;
    }
    outcome_.stripes_merged = sources_.size();
    return std::move(outcome_);
  }

 private:
  // On the loop: one snapshot of everything this job builds upon.
  result<void> gather(const std::vector<MergeCandidate>& candidates) {
    const Transaction txn = context_.store.begin();
    const auto duties = context_.duties();
    for (const auto& candidate : candidates) {
      TRY(auto stripe, get_stripe(txn, candidate.stripe));
      if (!stripe || stripe->code() != kind_.code) continue;
      TRY(const auto needs, stripe_needs(txn, *stripe, duties));
      if (needs.bad != 0) {
        outcome_.obstacle = fmt::format("stripe {} is to be repaired first", stripe->id());
        continue;
      }
      TRY(auto users, users_of_slots(txn, stripe->id()));
      if (!patched_slots(users).empty()) {
        outcome_.obstacle = fmt::format(
            "stripe {} has blocks with patches, which wait for being written whole", stripe->id());
        continue;
      }
      Source source;
      const size_t before = pieces_.size();
      gather_pieces(*stripe, std::move(users), source);
      if (pieces_.size() > kPiecesMax) {
        pieces_.resize(before);
        break;
      }
      source.stripe = std::move(*stripe);
      sources_[candidate.stripe] = std::move(source);
    }
    return success();
  }

  void gather_pieces(const pb::Stripe& stripe, std::map<uint32_t, std::vector<SlotUser>> users,
                     Source& source) {
    for (auto& [slot, of_slot] : users) {
      if (slot >= static_cast<uint32_t>(stripe.slot_length_size())) break;
      pieces_.push_back(
          {stripe.id(), slot, stripe.slot_length(static_cast<int>(slot)), std::move(of_slot)});
      source.needed |= ColumnSet{1} << stripe.slot_column(static_cast<int>(slot));
    }
  }

  result<void> read_sources() {
    for (auto it = sources_.begin(); it != sources_.end();) {
      Source& source = it->second;
      auto read = read_shards(context_, source.stripe, source.needed, Purpose::fold);
      for (const auto& [site, bytes] : read.bytes_by_site) outcome_.bytes_read += bytes;
      if (read.failures.empty()) {
        source.columns = std::move(read.columns);
        ++it;
        continue;
      }
      const auto& failed = read.failures.front();
      outcome_.obstacle =
          fmt::format("stripe {} column {}: {}", it->first, failed.column, failed.error.message());
      TRY(report_damage(source.stripe, read.failures));
      const StripeId id = it->first;
      std::erase_if(pieces_, [&](const Piece& p) { return p.stripe == id; });
      it = sources_.erase(it);
    }
    return success();
  }

  // Damage found here is repaired first; this job leaves the stripe out.
  result<void> report_damage(const pb::Stripe& stripe, const std::vector<ShardFailure>& failures) {
    return context_.threads.on_loop<void>([&]() -> result<void> {
      Transaction txn = context_.store.begin();
      for (const auto& failed : failures) {
        if (!failed.damaged) continue;
        const auto& shard = stripe.shards(failed.column);
        TRY(record_damage(
            txn, damage_of({stripe.id(), static_cast<uint8_t>(failed.column), shard.instance()},
                           shard.site(), failed.error.message())));
      }
      return txn.empty() ? success() : context_.committer.apply(std::move(txn));
    });
  }

  ByteView bytes_of(const Piece& piece) const {
    const Source& source = sources_.at(piece.stripe);
    const auto slot = static_cast<int>(piece.slot);
    const Bytes& column = source.columns.at(static_cast<int>(source.stripe.slot_column(slot)));
    return ByteView(column).subspan(source.stripe.slot_offset(slot), piece.length);
  }

  // False when the sites do not accept it now; blocks that were not moved stay where they are.
  result<bool> write_stripe(size_t first, size_t count) {
    std::vector<ByteView> blocks;
    for (size_t i = first; i < first + count; ++i) blocks.push_back(bytes_of(pieces_[i]));
    TRY(const auto made, make_stripe(context_, ids_, *code_, kind_, blocks, outcome_.obstacle));
    if (!made) return false;
    outcome_.bytes_written += made->bytes_written;
    TRY(context_.threads.on_loop<void>([&] { return move(made->record, first, count); }));
    ++outcome_.stripes_made;
    return true;
  }

  // On the loop: compare and move, slot by slot, each with all its users or not at all.
  result<void> move(const pb::Stripe& stripe, size_t first, size_t count) {
    Transaction txn = context_.store.begin();
    TRY(add_stripe(txn, stripe));
    UsersNow now(txn);
    std::map<InodeId, pb::InodeUpdate> updates;
    bool shared = false;
    for (size_t i = first; i < first + count; ++i) {
      const Piece& piece = pieces_[i];
      TRY(const bool same, now.are(piece.stripe, piece.slot, piece.users));
      if (!same) {
        outcome_.blocks_changed += piece.users.size();
        continue;
      }
      for (const auto& user : piece.users) {
        add_block(updates[user.ino], user, stripe.id(), static_cast<uint32_t>(i - first));
      }
      outcome_.blocks_moved += piece.users.size();
      shared |= piece.users.size() > 1;
    }
    for (auto& [ino, update] : updates) {
      update.set_ino(ino);
      TRY(update_inode(txn, update, Displaced::moved, shared ? SlotUse::shared : SlotUse::alone));
    }
    TRY(drop_unmapped_stripes(txn, {stripe.id()}));
    TRY(context_.committer.apply(std::move(txn)));
    context_.collect();
    return success();
  }

  static void add_block(pb::InodeUpdate& update, const SlotUser& user, StripeId stripe,
                        uint32_t slot) {
    if (update.runs_size() > 0) {
      auto& last = *update.mutable_runs(update.runs_size() - 1);
      if (last.first_block() + last.count() == user.block &&
          last.first_slot() + last.count() == slot &&
          last.version() + last.count() == user.version && user.sealed_goes_on(last)) {
        last.set_count(last.count() + 1);
        return;
      }
    }
    *update.add_runs() = user.run_at(stripe, slot);
  }

  BackgroundContext& context_;
  BackgroundIds& ids_;
  StripeKind kind_;
  std::shared_ptr<const ErasureCode> code_;
  std::map<StripeId, Source> sources_;
  std::vector<Piece> pieces_;
  MergeOutcome outcome_;
};

}  // namespace

result<MergeOutcome> merge_stripes(BackgroundContext& context, BackgroundIds& ids,
                                   const std::vector<MergeCandidate>& candidates) {
  if (candidates.empty()) return MergeOutcome();
  std::vector<std::unique_ptr<StripeLock>> locks;
  std::vector<MergeCandidate> held;
  for (const auto& candidate : candidates) {
    auto lock = std::make_unique<StripeLock>(context.threads, candidate.stripe);
    if (!*lock) continue;
    locks.push_back(std::move(lock));
    held.push_back(candidate);
  }
  if (held.empty()) return MergeOutcome();
  return Merge(context, ids).run(held);
}

}  // namespace datacloud
