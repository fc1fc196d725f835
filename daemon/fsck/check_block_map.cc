// Recounts everything the block map functions keep counted, over the whole store.
//
// Memory grows with the store (one bit per slot); meant for tests; fsck has bounded
// passes of its own (check_runs.cc and others).
#include <sys/stat.h>

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <tuple>
#include <utility>

#include "common/base/inode_flags.h"
#include "daemon/metadata/record_keys.h"
#include "daemon/records/block_map.h"
#include "daemon/records/inline_blocks.h"
#include "daemon/records/reservations.h"
#include "daemon/records/stripe_groups.h"

namespace datacloud {
namespace {

constexpr size_t kFindingsMax = 100;

struct SeenStripe {
  pb::Stripe record;
  std::vector<bool> mapped;  // by slot
  pb::StripeLive counted, stored;
  bool has_live = false;
};

struct SeenRecords {
  pb::Run run;  // of one block; empty: there is none that has such records
  uint32_t blocks = 0, patches = 0, early = 0;
};

struct SeenInode {
  pb::Inode record;
  uint64_t blocks = 0;
  reservations::Held held;
  uint64_t held_mapped = 0;
  uint64_t mapped_end = 0;  // end of the last run seen
  bool last_block = false;  // the block the file ends in is mapped
};

class Checker {
 public:
  explicit Checker(const Transaction& txn) : txn_(txn) {}

  result<std::vector<std::string>> run() {
    TRY(read_inodes());
    TRY(read_reservations());
    TRY(read_stripes());
    TRY(read_runs());
    TRY(read_inline());
    TRY(read_owners());
    TRY(read_former());
    TRY(read_references());
    check_counts();
    TRY(check_reserved());
    TRY(check_totals());
    return std::move(findings_);
  }

 private:
  void find(std::string what) {
    if (findings_.size() < kFindingsMax) findings_.push_back(std::move(what));
  }

  template <class Message, class Visit>
  result<void> each(char prefix, size_t key_bytes, const Visit& visit) {
    const std::string first(1, prefix);
    return txn_.scan(first, key::after_prefix(first), [&](std::string_view k, std::string_view v) {
      Message message;
      if (k.size() != key_bytes || !message.ParseFromArray(v.data(), static_cast<int>(v.size()))) {
        find(std::string("a record of kind ") + prefix + " does not parse");
      } else {
        visit(k, message);
      }
      return true;
    });
  }

  result<void> read_inodes() {
    return each<pb::Inode>('I', 9, [&](std::string_view k, const pb::Inode& inode) {
      const InodeId ino = key::u64_at(k, 1);
      if (inode.ino() != ino) find("inode " + std::to_string(ino) + " is stored under another id");
      inodes_[ino].record = inode;
      ++recount_.inodes;
    });
  }

  result<void> read_reservations() {
    return each<pb::Reservation>('H', 9, [&](std::string_view k, const pb::Reservation& record) {
      const InodeId ino = key::u64_at(k, 1);
      const std::string name = "the reservation of inode " + std::to_string(ino);
      const auto it = inodes_.find(ino);
      if (it == inodes_.end()) return find(name + ": the inode does not exist");
      it->second.held = reservations::Held::of(record);
      if (it->second.held.ranges().empty() ||
          it->second.held.record().SerializeAsString() != record.SerializeAsString())
        find(name + " has no ranges, or such as overlap, touch or are not in order");
    });
  }

  result<void> check_reserved() {
    std::map<std::pair<uint32_t, std::string>, uint64_t> sums;
    for (const auto& [ino, seen] : inodes_) {
      const auto& inode = seen.record;
      const bool any = !seen.held.ranges().empty();
      if (any != ((inode.flags() & kInodeReserved) != 0) ||
          seen.held.blocks() - seen.held_mapped != inode.blocks_reserved())
        find("inode " + std::to_string(ino) + " counts " + std::to_string(inode.blocks_reserved()) +
             " reserved blocks without contents, " +
             std::to_string(seen.held.blocks() - seen.held_mapped) + " there are");
      if (any)
        sums[{inode.tree(), inode.policy().code()}] +=
            seen.held.blocks() * inode.policy().block_bytes();
    }
    TRY(txn_.scan("h", key::after_prefix("h"), [&](std::string_view k, std::string_view v) {
      uint32_t tree = 0;
      std::string code;
      if (!reservations::parse_sum_key(k, tree, code) || v.size() != 8 ||
          key::u64_at(v, 0) != sums[{tree, code}] || key::u64_at(v, 0) == 0)
        find("a sum of reserved bytes is not what the files have reserved");
      sums.erase({tree, code});
      return true;
    }));
    if (!sums.empty()) find("a sum of reserved bytes is missing");
    return success();
  }

  result<void> read_stripes() {
    TRY(each<pb::Stripe>('S', 9, [&](std::string_view k, const pb::Stripe& stripe) {
      const StripeId id = key::u64_at(k, 1);
      const std::string name = "stripe " + std::to_string(id);
      if (stripe.id() != id) find(name + " is stored under another id");
      if (auto valid = validate_stripe(stripe); !valid) find(valid.error().text());
      auto& seen = stripes_[id];
      seen.record = stripe;
      seen.mapped.resize(stripe.slot_length_size());
      ++recount_.stripes;
      recount_.stripes_weak += stripe.weak();
      for (const auto& shard : stripe.shards()) {
        recount_.shards_missing += shard.state() == pb::SHARD_MISSING;
        if (shard.state() == pb::SHARD_PRESENT) recount_.stored_bytes += shard.bytes();
      }
    }));
    return each<pb::StripeLive>('L', 9, [&](std::string_view k, const pb::StripeLive& live) {
      const auto it = stripes_.find(key::u64_at(k, 1));
      if (it == stripes_.end()) {
        return find("live counts of stripe " + std::to_string(key::u64_at(k, 1)) +
                    ", which does not exist");
      }
      it->second.stored = live;
      it->second.has_live = true;
    });
  }

  result<void> read_runs() {
    return each<pb::Run>('M', 17, [&](std::string_view k, const pb::Run& run) {
      const InodeId ino = key::u64_at(k, 1);
      const std::string name =
          "run " + std::to_string(run.first_block()) + " of inode " + std::to_string(ino);
      const auto it = inodes_.find(ino);
      if (it == inodes_.end()) return find(name + ": the inode does not exist");
      if (run.first_block() != key::u64_at(k, 9)) find(name + " is stored under another block");
      SeenInode& inode = it->second;
      if (run.count() == 0) find(name + " is empty");
      if (run.first_block() < inode.mapped_end) find(name + " overlaps the run before it");
      inode.mapped_end = run.first_block() + run.count();
      inode.blocks += run.count();
      inode.held_mapped += inode.held.overlap(run.first_block(), inode.mapped_end);
      const uint64_t block = inode.record.policy().block_bytes();
      const uint64_t last = block == 0 ? 0 : inode.record.size() / block;
      inode.last_block |= last >= run.first_block() && last < inode.mapped_end;
      if (const char* why = inline_blocks::malformed(run)) find(name + " " + why);
      if (run.inline_() && names_slots(run)) find(name + " is inline and names a stripe");
      if (inline_blocks::has_records(run)) with_records_[{ino, run.first_block()}].run = run;
      if (!names_slots(run)) {
        if (run.has_sealed_for()) find(name + " is lost and says what it was sealed for");
        return;
      }
      runs_.insert({{run.stripe(), run.first_slot(), ino, run.first_block()}, run});
      count_slots(run, name);
    });
  }

  // Inline bytes and patches have runs which say so, and these have all of theirs.
  result<void> read_inline() {
    TRY(txn_.scan("V", key::after_prefix("V"), [&](std::string_view k, std::string_view) {
      if (k.size() == 17) ++with_records_[{key::u64_at(k, 1), key::u64_at(k, 9)}].blocks;
      return true;
    }));
    TRY(txn_.scan("W", key::after_prefix("W"), [&](std::string_view k, std::string_view) {
      if (k.size() != 25) return true;
      auto& seen = with_records_[{key::u64_at(k, 1), key::u64_at(k, 9)}];
      ++seen.patches;
      if (key::u64_at(k, 17) <= seen.run.version()) ++seen.early;
      return true;
    }));
    for (const auto& [place, seen] : with_records_) {
      if (seen.blocks == seen.run.inline_() && seen.patches == seen.run.patches() &&
          seen.early == 0 && seen.patches <= kBlockPatchesMax) {
        continue;
      }
      find("block " + std::to_string(place.second) + " of inode " + std::to_string(place.first) +
           " has other inline bytes or patches than its run says");
    }
    return success();
  }

  void count_slots(const pb::Run& run, const std::string& name) {
    const auto it = stripes_.find(run.stripe());
    if (it == stripes_.end()) {
      return find(name + " names stripe " + std::to_string(run.stripe()) +
                  ", which does not exist");
    }
    SeenStripe& stripe = it->second;
    for (uint64_t slot = run.first_slot(); slot < uint64_t{run.first_slot()} + run.count();
         ++slot) {
      if (slot >= stripe.mapped.size()) return find(name + " names a slot beyond its stripe");
      if (stripe.mapped[slot]) continue;  // shared: read_owners() says whether that is right
      stripe.mapped[slot] = true;
      const uint64_t bytes = stripe.record.slot_length(static_cast<int>(slot));
      stripe.counted.set_slots(stripe.counted.slots() + 1);
      stripe.counted.set_bytes(stripe.counted.bytes() + bytes);
      recount_.live_bytes += bytes;
    }
  }

  // Each run has one reference: the first user of a slot `R`, further ones `J`.
  result<void> read_owners() {
    size_t owners = 0;
    StripeId stripe = 0;
    uint64_t taken_until = 0;
    TRY(each<pb::Owner>('R', 13, [&](std::string_view k, const pb::Owner& owner) {
      ++owners;
      const StripeId id = key::u64_at(k, 1);
      const uint32_t slot = key::u32_at(k, 9);
      if (id != stripe) taken_until = 0;
      stripe = id;
      if (slot < taken_until) find(reference(id, slot) + " overlaps the one before it");
      taken_until = uint64_t{slot} + owner.count();
      check_reference(id, slot, owner);
    }));
    std::map<StripeId, uint32_t> shared;
    TRY(each<pb::Owner>('J', 29, [&](std::string_view k, const pb::Owner& owner) {
      ++owners;
      const StripeId id = key::u64_at(k, 1);
      ++shared[id];
      check_reference(id, key::u32_at(k, 9), owner);
      if (owner.ino() != key::u64_at(k, 13) || owner.first_block() != key::u64_at(k, 21)) {
        find(reference(id, key::u32_at(k, 9)) + " is stored under another user");
      }
    }));
    for (const auto& [id, seen] : stripes_) {
      if (seen.stored.shared() != shared[id]) {
        find("stripe " + std::to_string(id) + " has " + std::to_string(shared[id]) +
             " further references, " + std::to_string(seen.stored.shared()) + " are counted");
      }
    }
    if (owners != runs_.size()) {
      find(std::to_string(runs_.size()) + " runs but " + std::to_string(owners) +
           " reverse map records");
    }
    return success();
  }

  static std::string reference(StripeId id, uint32_t slot) {
    return "reverse map of stripe " + std::to_string(id) + " slot " + std::to_string(slot);
  }

  void check_reference(StripeId id, uint32_t slot, const pb::Owner& owner) {
    const auto it = runs_.find({id, slot, owner.ino(), owner.first_block()});
    if (it == runs_.end() || it->second.count() != owner.count()) {
      return find(reference(id, slot) + " names no run");
    }
    if (it->second.sealed_for().SerializeAsString() != owner.sealed_for().SerializeAsString()) {
      find(reference(id, slot) + " is sealed for something else than its run");
    }
  }

  // What slots held before: hints for folds, of slots that are dead.
  result<void> read_former() {
    return each<pb::Owner>('F', 13, [&](std::string_view k, const pb::Owner& owner) {
      const std::string name = "former owner of stripe " + std::to_string(key::u64_at(k, 1)) +
                               " slot " + std::to_string(key::u32_at(k, 9));
      const auto it = stripes_.find(key::u64_at(k, 1));
      if (it == stripes_.end()) {
        return find(name + ": the stripe does not exist");
      }
      const auto& mapped = it->second.mapped;
      const uint64_t first = key::u32_at(k, 9), end = first + owner.count();
      if (owner.count() == 0 || end > mapped.size() ||
          std::find(mapped.begin() + static_cast<std::ptrdiff_t>(first),
                    mapped.begin() + static_cast<std::ptrdiff_t>(end),
                    true) != mapped.begin() + static_cast<std::ptrdiff_t>(end)) {
        find(name + " names slots that are mapped or not there");
      }
    });
  }

  // Records that must name an existing (damage) or no longer existing (pending) stripe.
  result<void> read_references() {
    TRY(each<pb::Damage>('B', 13, [&](std::string_view k, const pb::Damage&) {
      if (!stripes_.contains(key::u64_at(k, 1))) {
        find("damage of stripe " + std::to_string(key::u64_at(k, 1)) + ", which does not exist");
      }
    }));
    return each<pb::PendingDeletion>('P', 9, [&](std::string_view, const pb::PendingDeletion& p) {
      const auto it = stripes_.find(p.stripe());
      if (it == stripes_.end()) return;
      for (const auto& shard : it->second.record.shards()) {
        if (shard.state() != pb::SHARD_PRESENT || shard.instance() != p.instance()) continue;
        if (it->second.record.shards(static_cast<int>(p.column())).instance() == p.instance()) {
          find("a shard of stripe " + std::to_string(p.stripe()) + " is to be deleted");
        }
      }
    });
  }

  // Rows and members name each other; only what a row counts may be without live slots.
  void check_group(StripeId id, const SeenStripe& stripe) {
    const std::string name = "stripe " + std::to_string(id);
    for (const StripeId member : stripe.record.members()) {
      const auto it = stripes_.find(member);
      if (it == stripes_.end() || it->second.record.row() != id) {
        find("row " + std::to_string(id) + " counts stripe " + std::to_string(member) +
             ", which does not name it");
      }
    }
    if (stripe.record.row() == 0) {
      if (!is_row(stripe.record) && stripe.counted.slots() == 0) find(name + " has no live slot");
      return;
    }
    const auto row = stripes_.find(stripe.record.row());
    const bool counts =
        row != stripes_.end() && std::count(row->second.record.members().begin(),
                                            row->second.record.members().end(), id) > 0;
    if (counts) return;
    find(name + " names row " + std::to_string(stripe.record.row()) + ", which does not count it");
  }

  void check_counts() {
    for (const auto& [id, stripe] : stripes_) {
      const std::string name = "stripe " + std::to_string(id);
      check_group(id, stripe);
      if (is_row(stripe.record)) {
        if (stripe.has_live) find(name + " is a row and has live counts");
        continue;
      }
      if (!stripe.has_live || stripe.stored.slots() != stripe.counted.slots() ||
          stripe.stored.bytes() != stripe.counted.bytes()) {
        find(name + ": " + std::to_string(stripe.counted.slots()) + " slots are mapped, " +
             std::to_string(stripe.stored.slots()) + " are counted");
      }
    }
    for (const auto& [ino, inode] : inodes_) {
      if (inode.blocks != inode.record.blocks_mapped()) {
        find("inode " + std::to_string(ino) + ": " + std::to_string(inode.blocks) +
             " blocks are mapped, " + std::to_string(inode.record.blocks_mapped()) +
             " are counted");
      }
      const uint64_t block = inode.record.policy().block_bytes();
      recount_.blocks_logical_bytes += inode.blocks * block;
      if (block != 0 && inode.last_block && inode.record.size() % block != 0) {
        recount_.blocks_logical_bytes -= block - inode.record.size() % block;
      }
    }
  }

  result<void> check_totals() {
    TRY(const auto totals, read_totals(txn_));
    const auto compare = [&](const char* what, uint64_t stored, uint64_t counted) {
      if (stored == counted) return;
      find(std::string("totals: ") + what + " are " + std::to_string(stored) + ", counted " +
           std::to_string(counted));
    };
    compare("inodes", totals.inodes, recount_.inodes);
    compare("logical bytes", totals.blocks_logical_bytes, recount_.blocks_logical_bytes);
    compare("live bytes", totals.live_bytes, recount_.live_bytes);
    compare("stored bytes", totals.stored_bytes, recount_.stored_bytes);
    compare("stripes", totals.stripes, recount_.stripes);
    compare("weak stripes", totals.stripes_weak, recount_.stripes_weak);
    compare("missing shards", totals.shards_missing, recount_.shards_missing);
    return success();
  }

  const Transaction& txn_;
  std::vector<std::string> findings_;
  std::map<InodeId, SeenInode> inodes_;
  std::map<StripeId, SeenStripe> stripes_;
  std::map<std::pair<InodeId, uint64_t>, SeenRecords> with_records_;  // by first block
  // By stripe, first slot, inode, first block.
  std::map<std::tuple<StripeId, uint32_t, InodeId, uint64_t>, pb::Run> runs_;
  Totals recount_;
};

}  // namespace

result<std::vector<std::string>> check_block_map(const Transaction& txn) {
  return Checker(txn).run();
}

}  // namespace datacloud
