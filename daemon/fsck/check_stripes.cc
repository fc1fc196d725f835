// Stripes with their live counts, the reverse map, former uses of slots, damage, the repair queue
// and their rows.
#include <fmt/format.h>

#include "daemon/fsck/record_passes.h"
#include "daemon/records/block_map.h"

namespace datacloud {
namespace {

using Cursor = RecordSnapshot::Cursor;
using Fate = RunPart::Fate;

// What a slot's user says that it holds; ino 0: an older record, which does not say.
struct SlotContent {
  InodeId sealed_ino = 0;
  uint64_t sealed_block = 0;
  ContentVersion version = 0;
  bool operator==(const SlotContent&) const = default;
};

SlotContent content_of(const pb::Owner& owner, uint64_t i) {
  if (owner.version() == 0) return {};
  const bool moved = owner.has_sealed_for();
  return {moved ? owner.sealed_for().ino() : owner.ino(),
          (moved ? owner.sealed_for().first_block() : owner.first_block()) + i,
          owner.version() + i};
}

struct Gathered {
  StripeId id = 0;
  std::optional<std::string> raw;
  bool parsed = false;
  pb::Stripe stripe;
  pb::StripeLive counted;
  std::vector<bool> taken;            // slots that are mapped, or have a former use
  std::vector<SlotContent> contents;  // by slot, of those that are mapped
  bool damaged = false;
};

class Stripes {
 public:
  explicit Stripes(RecordPasses& p) : p_(p) {}

  result<void> run() {
    TRY(read_queue());
    for (;;) {
      Gathered at;
      at.id = std::min({id_at(stripes_), id_at(lives_), id_at(owners_), id_at(shared_),
                        id_at(damages_), id_at(formers_)});
      if (at.id == ~uint64_t{0}) break;
      TRY(stripe(at));
      TRY(owners(at, owners_));
      TRY(owners(at, shared_));
      TRY(lives(at));
      TRY(damages(at));
      TRY(formers(at));
      if (at.parsed) {
        TRY(judge(at));
      }
    }
    for (const Cursor* cursor : {&stripes_, &lives_, &owners_, &shared_, &damages_, &formers_}) {
      TRY(cursor->status());
    }
    return success();
  }

 private:
  result<void> read_queue() {
    auto at = p_.view.scan_all('K');
    for (; at.valid(); at.next()) {
      TRY(p_.count());
      if (at.key().size() != 10) continue;
      if (p_.queued.size() == RecordPasses::kQueuedMax) p_.queued_whole = false;
      if (!p_.queued_whole) break;
      p_.queued.push_back(key::u64_at(at.key(), 2));
    }
    std::sort(p_.queued.begin(), p_.queued.end());
    return at.status();
  }

  result<void> stripe(Gathered& at) {
    for (; id_at(stripes_) == at.id && stripes_.valid(); stripes_.next()) {
      TRY(p_.count());
      at.raw = std::string(stripes_.value());
      at.parsed = stripes_.key().size() == 9 && parses(stripes_.value(), at.stripe) &&
                  at.stripe.id() == at.id && validate_stripe(at.stripe);
      if (!at.parsed) {
        damaged_record(at);
        continue;
      }
      p_.stripe_max = std::max(p_.stripe_max, at.id);
      ++p_.recount.stripes;
      p_.recount.stripes_weak += at.stripe.weak();
      for (const auto& shard : at.stripe.shards()) {
        p_.instance_max = std::max<InstanceId>(p_.instance_max, shard.instance());
        p_.recount.shards_missing += shard.state() == pb::SHARD_MISSING;
        if (shard.state() == pb::SHARD_PRESENT) p_.recount.stored_bytes += shard.bytes();
      }
    }
    return success();
  }

  // What can be told from the rest of it is set right. Otherwise it makes room: the next round
  // tells whose blocks were there.
  void damaged_record(const Gathered& at) {
    p_.report.lost_stripes = true;
    Finding finding{.kind = "stripe",
                    .text = fmt::format("the record of stripe {} does not parse", at.id)};
    pb::Stripe stripe;
    std::optional<pb::Stripe> right;
    if (stripes_.key().size() == 9 && parses(stripes_.value(), stripe)) {
      if (auto valid = validate_stripe(stripe); !valid) finding.text = valid.error().text();
      right = corrected(std::move(stripe), at.id);
    }
    if (right) {
      finding.action = "what the rest of the record tells is set right";
      finding.records = {replaced(std::string(stripes_.key()), at.raw, right->SerializeAsString())};
    } else {
      finding.action =
          "it is put into quarantine, and what is at the sites stays there; the blocks "
          "of files in it are lost: restore a backup of the state if there is one";
      finding.records = {erased(stripes_)};
    }
    p_.add(std::move(finding));
  }

  // Counts the slots that the reverse map gives to blocks: the runs have been compared with it.
  // A slot that several name is shared if all mean the same sealed block, and all but the first of
  // them are `J` records.
  result<void> owners(Gathered& at, Cursor& cursor) {
    const bool further = &cursor == &shared_;
    auto& mapped = at.taken;
    const auto slots = static_cast<size_t>(at.stripe.slot_length_size());
    mapped.resize(slots);
    at.contents.resize(slots);
    for (; id_at(cursor) == at.id && cursor.valid(); cursor.next()) {
      TRY(p_.count());
      pb::Owner owner;
      if (cursor.key().size() != (further ? 29u : 13u) || !parses(cursor.value(), owner)) continue;
      if (!at.raw) p_.report.lost_stripes = true;
      if (!at.raw && !p_.runs.differs(at.id)) {  // otherwise the runs' pass has said so
        TRY(tell_lost(cursor, owner, {{owner.count(), Fate::lost}},
                      fmt::format("names stripe {}, which does not exist", at.id)));
      }
      if (!at.parsed) continue;
      if (further) at.counted.set_shared(at.counted.shared() + 1);
      TRY(owner_of_slots(at, cursor, owner));
    }
    if (further) p_.recount.live_bytes += at.counted.bytes();
    return success();
  }

  result<void> owner_of_slots(Gathered& at, const Cursor& cursor, const pb::Owner& owner) {
    auto& mapped = at.taken;
    const uint64_t first = key::u32_at(cursor.key(), 9);
    std::vector<RunPart> parts;
    std::optional<uint64_t> wrong;
    bool shares = false;
    for (uint64_t slot = first; slot < first + owner.count(); ++slot) {
      if (slot >= mapped.size()) {
        if (!wrong) wrong = slot;
        parts.push_back({first + owner.count() - slot, Fate::lost});
        break;
      }
      const SlotContent content = content_of(owner, slot - first);
      if (mapped[slot]) {
        const bool same = content.sealed_ino != 0 && content == at.contents[slot];
        shares |= same;
        if (!same && !wrong) wrong = slot;
        parts.push_back({1, same ? Fate::kept : Fate::lost});
        continue;
      }
      parts.push_back({1, Fate::kept});
      mapped[slot] = true;
      at.contents[slot] = content;
      at.counted.set_slots(at.counted.slots() + 1);
      at.counted.set_bytes(at.counted.bytes() + at.stripe.slot_length(static_cast<int>(slot)));
    }
    if (p_.runs.differs(at.id)) return success();  // the reverse map is repaired first
    if (wrong) {
      return tell_lost(
          cursor, owner, parts,
          fmt::format("names slot {} of stripe {}, {}", *wrong, at.id,
                      *wrong >= mapped.size() ? "which it does not have" : "as another run does"));
    }
    if (shares && &cursor == &owners_) make_further(at.id, cursor, owner);
    return success();
  }

  // Two first users of one slot: the later one becomes a further one.
  void make_further(StripeId id, const Cursor& cursor, const pb::Owner& owner) {
    const uint32_t slot = key::u32_at(cursor.key(), 9);
    p_.add({.kind = "block-map",
            .text = fmt::format("slot {} of stripe {} has two first users", slot, id),
            .action = "the second becomes one that shares it",
            .records = {erased(cursor),
                        {key::shared(id, slot, owner.ino(), owner.first_block()), std::nullopt,
                         std::string(cursor.value())}}});
  }

  // The owner's run, if it is as the reverse map says: else the runs' pass has told of it.
  result<void> tell_lost(const Cursor& cursor, const pb::Owner& owner,
                         const std::vector<RunPart>& parts, const std::string& text) {
    StoredRun stored{owner.ino(), {}, {}, std::string(cursor.value()), &cursor == &shared_};
    TRY(auto raw, p_.view.get(key::run(owner.ino(), owner.first_block())));
    const bool same =
        raw && parses(*raw, stored.run) && stored.run.stripe() == key::u64_at(cursor.key(), 1) &&
        stored.run.first_slot() == key::u32_at(cursor.key(), 9) &&
        stored.run.first_block() == owner.first_block() && stored.run.count() == owner.count();
    if (!same) return success();
    stored.raw = std::move(*raw);
    return p_.add_lost(
        stored, parts,
        fmt::format("run {} of inode {} {}", owner.first_block(), owner.ino(), text));
  }

  result<void> lives(const Gathered& at) {
    const bool row = at.parsed && at.stripe.members_size() > 0;
    bool found = false;
    for (; id_at(lives_) == at.id && lives_.valid(); lives_.next()) {
      TRY(p_.count());
      found = true;
      if (!at.raw || row) {
        p_.add({.kind = "stripe",
                .text = row ? fmt::format("stripe {} is a row and has live counts", at.id)
                            : fmt::format("live counts of stripe {}, which does not exist", at.id),
                .action = "they are erased",
                .records = {erased(lives_)}});
        continue;
      }
      pb::StripeLive live;
      const bool same = parses(lives_.value(), live) && live.slots() == at.counted.slots() &&
                        live.bytes() == at.counted.bytes() && live.shared() == at.counted.shared();
      if (at.parsed && !same) wrong_count(at, live, std::string(lives_.value()));
    }
    if (at.parsed && !row && !found) wrong_count(at, {}, std::nullopt);
    return success();
  }

  void wrong_count(const Gathered& at, const pb::StripeLive& stored,
                   std::optional<std::string> was) {
    if (p_.runs.differs(at.id)) {  // the reverse map is mended first
      p_.recount_whole = false;
      return;
    }
    // Nothing is mapped: counting again would let the collector take the stripe.
    if (at.counted.slots() == 0 && at.stripe.row() == 0) return;
    p_.add(
        {.kind = "stripe",
         .text = fmt::format("stripe {}: {} slots are mapped and shared {} times, counted are {} "
                             "and {}",
                             at.id, at.counted.slots(), at.counted.shared(), stored.slots(),
                             stored.shared()),
         .action = "they are counted anew",
         .records = {replaced(key::live(at.id), std::move(was), at.counted.SerializeAsString())}});
  }

  result<void> damages(Gathered& at) {
    for (; id_at(damages_) == at.id && damages_.valid(); damages_.next()) {
      TRY(p_.count());
      pb::Damage damage;
      const bool whole = damages_.key().size() == 13 && parses(damages_.value(), damage);
      const bool fits =
          whole && at.parsed &&
          key::u32_at(damages_.key(), 9) < static_cast<uint32_t>(at.stripe.shards_size());
      at.damaged |= fits;
      if (fits || (at.raw && !at.parsed)) continue;
      p_.add({.kind = "stripe",
              .text = at.parsed
                          ? fmt::format("damage of a column that stripe {} does not have", at.id)
                          : fmt::format("damage of stripe {}, which does not exist", at.id),
              .action = "it is erased",
              .records = {erased(damages_)}});
    }
    return success();
  }

  // What dead slots held, for folds: each slot has one former use at most, and none that is mapped.
  result<void> formers(Gathered& at) {
    for (; id_at(formers_) == at.id && formers_.valid(); formers_.next()) {
      TRY(p_.count());
      pb::Owner owner;
      std::string wrong;
      if (!at.raw) {
        wrong = "which does not exist";
      } else if (formers_.key().size() != 13 || !parses(formers_.value(), owner)) {
        wrong = "which does not parse";
      } else if (at.parsed && !p_.runs.differs(at.id) &&  // the reverse map is mended first
                 !take(at, key::u32_at(formers_.key(), 9), owner.count())) {
        wrong = "which names slots that are mapped, not there, or named twice";
      }
      if (wrong.empty()) continue;
      p_.add({.kind = "stripe",
              .text = fmt::format("a former use of slots of stripe {}, {}", at.id, wrong),
              .action = "it is erased",
              .records = {erased(formers_)}});
    }
    return success();
  }

  static bool take(Gathered& at, uint64_t first, uint64_t count) {
    if (count == 0 || first + count > at.taken.size()) return false;
    const auto begin = at.taken.begin() + static_cast<std::ptrdiff_t>(first);
    const auto end = begin + static_cast<std::ptrdiff_t>(count);
    if (std::find(begin, end, true) != end) return false;
    std::fill(begin, end, true);
    return true;
  }

  result<void> judge(const Gathered& at) {
    const bool dead = at.counted.slots() == 0 && at.stripe.members_size() == 0;
    if (dead && at.stripe.row() == 0 && !p_.runs.differs(at.id)) {
      p_.add({.kind = "stripe",
              .text = fmt::format("stripe {} has no live slot: no file names what it holds", at.id),
              .action = "its record is put into quarantine; what is at the sites stays there",
              .records = {{key::stripe(at.id), at.raw, std::nullopt}}});
    }
    bool incomplete = at.damaged;
    for (const auto& shard : at.stripe.shards()) incomplete |= shard.state() == pb::SHARD_MISSING;
    if (incomplete && p_.queued_whole &&
        !std::binary_search(p_.queued.begin(), p_.queued.end(), at.id)) {
      p_.add({.kind = "stripe",
              .text = fmt::format("stripe {} needs repair and is not queued for it", at.id),
              .action = "it is queued",
              .requeue = at.id});
    }
    if (at.stripe.row() != 0) {
      TRY(check_row_of(at));
    }
    if (at.stripe.members_size() > 0) {
      TRY(check_members_of(at));
    }
    return success();
  }

  result<void> check_row_of(const Gathered& at) {
    pb::Stripe row;
    TRY(const bool found, p_.view.get(key::stripe(at.stripe.row()), row));
    const auto& members = row.members();
    if (found && std::find(members.begin(), members.end(), at.id) != members.end()) {
      return success();
    }
    pb::Stripe alone = at.stripe;
    alone.set_row(0);
    p_.add({.kind = "stripe",
            .text = fmt::format("stripe {} names row {}, which does not count it", at.id,
                                at.stripe.row()),
            .action = "it is in no group any more",
            .records = {replaced(key::stripe(at.id), at.raw, alone.SerializeAsString())}});
    return success();
  }

  result<void> check_members_of(const Gathered& at) {
    Finding finding{
        .kind = "stripe",
        .action = "the row is put into quarantine, its members are in no group any more",
        .records = {{key::stripe(at.id), at.raw, std::nullopt}}};
    for (const StripeId member : at.stripe.members()) {
      TRY(auto raw, p_.view.get(key::stripe(member)));
      pb::Stripe record;
      if (raw && parses(*raw, record) && record.row() == at.id) {
        record.set_row(0);
        auto alone = record.SerializeAsString();
        finding.records.push_back(replaced(key::stripe(member), std::move(raw), std::move(alone)));
      } else if (finding.text.empty()) {
        finding.text =
            fmt::format("row {} counts stripe {}, which does not name it", at.id, member);
      }
    }
    if (!finding.text.empty()) p_.add(std::move(finding));
    return success();
  }

  RecordPasses& p_;
  Cursor stripes_ = p_.view.scan_all('S'), lives_ = p_.view.scan_all('L'),
         owners_ = p_.view.scan_all('R'), shared_ = p_.view.scan_all('J'),
         damages_ = p_.view.scan_all('B'), formers_ = p_.view.scan_all('F');
};

}  // namespace

result<void> check_stripes(RecordPasses& passes) { return Stripes(passes).run(); }

}  // namespace datacloud
