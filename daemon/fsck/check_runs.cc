// Block runs with the reverse map. Sums of both are compared (record_passes.h); only where they
// differ is each run looked up in the reverse map, and the other way round.
//
// The reverse map says all that a run does: a run that is lost or damaged is written again from it,
// unless its blocks or slots have got another use.
#include <fmt/format.h>
#include <sys/stat.h>

#include <set>

#include "common/stripe/stripe_layout.h"
#include "daemon/fsck/lost_runs.h"
#include "daemon/fsck/record_passes.h"
#include "daemon/records/block_map.h"
#include "daemon/records/slot_references.h"

namespace datacloud {
namespace {

// A run, or what the reverse map tells of one.
struct Use {
  InodeId ino = 0;
  pb::Run run;  // of the reverse map: version 0 when it was written by an older daemon
};

std::optional<Use> run_at(std::string_view k, std::string_view v) {
  Use use;
  if (!parses(v, use.run) || !is_run(k, use.run)) return std::nullopt;
  use.ino = key::u64_at(k, 1);
  return use;
}

// Of `R` and of `J` records.
std::optional<Use> owner_at(std::string_view k, std::string_view v) {
  pb::Owner owner;
  if ((k.size() != 13 && k.size() != 29) || !parses(v, owner)) return std::nullopt;
  if (k.size() == 29 &&
      (owner.ino() != key::u64_at(k, 13) || owner.first_block() != key::u64_at(k, 21))) {
    return std::nullopt;
  }
  Use use{owner.ino(), {}};
  use.run.set_first_block(owner.first_block());
  use.run.set_count(owner.count());
  use.run.set_stripe(key::u64_at(k, 1));
  use.run.set_first_slot(key::u32_at(k, 9));
  use.run.set_version(owner.version());
  if (owner.has_sealed_for()) *use.run.mutable_sealed_for() = owner.sealed_for();
  return use;
}

bool same(const Use& run, const Use& owner) {
  const auto &a = run.run, &b = owner.run;
  return run.ino == owner.ino && a.first_block() == b.first_block() && a.count() == b.count() &&
         a.stripe() == b.stripe() && a.first_slot() == b.first_slot() &&
         (b.version() == 0 || b.version() == a.version()) &&
         a.has_sealed_for() == b.has_sealed_for() && a.sealed_for().ino() == b.sealed_for().ino() &&
         a.sealed_for().realm() == b.sealed_for().realm() &&
         a.sealed_for().first_block() == b.sealed_for().first_block();
}

// Some runs may be none: the daemon writes files of at most this many blocks.
constexpr uint64_t kBlocksMax = uint64_t{1} << 51;

class Runs {
 public:
  explicit Runs(RecordPasses& p) : p_(p) {}

  result<void> run() {
    TRY(sum('M', true));
    TRY(sum('R', false));
    TRY(sum('J', false));
    if (!p_.runs.any() && !damaged_) return success();
    TRY(look_up_runs());
    TRY(look_up_owners('R'));
    TRY(look_up_owners('J'));
    for (const auto& k : broken_) {
      TRY(tell_broken(k));
    }
    return success();
  }

 private:
  result<void> sum(char kind, bool add) {
    auto at = p_.view.scan_all(kind);
    for (; at.valid(); at.next()) {
      TRY(p_.count());
      const auto use = add ? run_at(at.key(), at.value()) : owner_at(at.key(), at.value());
      if (!use) {
        damaged_ = damaged_ || add;
        continue;
      }
      const auto& run = use->run;
      if (run.has_sealed_for() || kind == 'J') {
        p_.note_use("shared-slots", [&] {
          return fmt::format("{} {} of inode {}", add ? "run" : "the reference of run",
                             run.first_block(), use->ino);
        });
      }
      if (!names_slots(run) || run.inline_()) continue;  // if both: check_inline.cc
      const auto& sealed = run.sealed_for();
      const auto words = {use->ino,     run.first_block(),          uint64_t{run.count()},
                          run.stripe(), uint64_t{run.first_slot()}, uint64_t{sealed.realm()},
                          sealed.ino(), sealed.first_block()};
      if (add) {
        p_.runs.add(run.stripe(), words);
      } else {
        p_.runs.remove(run.stripe(), words);
      }
    }
    return at.status();
  }

  result<void> look_up_runs() {
    auto at = p_.view.scan_all('M');
    for (; at.valid(); at.next()) {
      TRY(p_.count());
      const auto use = run_at(at.key(), at.value());
      if (!use && broken_.size() < p_.limits.findings_max) broken_.insert(std::string(at.key()));
      if (!use || !names_slots(use->run) || use->run.inline_() ||
          !p_.runs.differs(use->run.stripe()))
        continue;
      TRY(auto reference, find_reference(p_.view, use->ino, use->run));
      const auto owner = reference.raw ? owner_at(reference.key, *reference.raw) : std::nullopt;
      if (owner && same(*use, *owner)) continue;
      const StoredRun stored{use->ino, use->run, std::string(at.value()), std::nullopt};
      TRY(compare(stored, std::move(reference), owner));
    }
    return at.status();
  }

  // `reference` and `owner`: of the reverse map, where it should tell of the run.
  result<void> compare(const StoredRun& stored, FoundReference reference,
                       const std::optional<Use>& owner) {
    const pb::Run& run = stored.run;
    const std::string name = fmt::format("run {} of inode {}", run.first_block(), stored.ino);
    TRY(const auto stripe, p_.view.get(key::stripe(run.stripe())));
    if (!stripe) {
      p_.report.lost_stripes = true;
      TRY(p_.add_lost(stored, {{run.count(), RunPart::Fate::lost}},
                      fmt::format("{} names stripe {}, which does not exist", name, run.stripe())));
      return success();
    }
    TRY(const uint64_t next, next_run(p_.view, stored.ino, run.first_block()));
    if (run.first_block() + run.count() > next) {
      return success();  // cut first: check_inode_records.cc
    }
    if (owner) {
      const bool others = owner->ino != stored.ino || owner->run.first_block() != run.first_block();
      TRY(const bool named, has_run(*owner));
      if (others && named && same_content(stored.ino, run, owner->ino, owner->run)) {
        reference = {key::shared(run.stripe(), run.first_slot(), stored.ino, run.first_block()),
                     std::nullopt, true};
      } else if (named) {
        const uint64_t both = std::min(run.count(), owner->run.count());
        TRY(p_.add_lost(stored,
                        {{both, RunPart::Fate::lost}, {run.count() - both, RunPart::Fate::kept}},
                        fmt::format("{} and run {} of inode {} name the same slots of stripe {}, "
                                    "and the reverse map the latter",
                                    name, owner->run.first_block(), owner->ino, run.stripe())));
        return success();
      } else {
        TRY(const bool cut, cut_to_length(stored, reference.key, *owner, *stripe, name));
        if (cut) return success();
      }
    }
    if (written_.size() < p_.limits.findings_max) written_.insert(reference.key);
    p_.add({.kind = "block-map",
            .text = fmt::format("the reverse map of stripe {} lacks {}", run.stripe(), name),
            .action = "it is completed",
            .records = {replaced(reference.key, std::move(reference.raw),
                                 stripes::owner_of(stored.ino, run).SerializeAsString())}});
    return success();
  }

  // A run beyond its stripe's end gets the length the reverse map tells, if that is shorter.
  result<bool> cut_to_length(const StoredRun& stored, const std::string& k, const Use& owner,
                             const std::string& stripe, const std::string& name) {
    const pb::Run& run = stored.run;
    pb::Stripe record;
    const bool shorter = owner.ino == stored.ino && owner.run.first_block() == run.first_block() &&
                         owner.run.count() > 0 && owner.run.count() < run.count();
    if (!shorter || !parses(stripe, record) ||
        uint64_t{run.first_slot()} + run.count() <=
            static_cast<uint64_t>(record.slot_length_size())) {
      return false;
    }
    pb::Run right = run;
    right.set_count(owner.run.count());
    if (written_.size() < p_.limits.findings_max) written_.insert(k);
    p_.add({.kind = "block-map",
            .text = fmt::format("{} names slots that stripe {} does not have", name, run.stripe()),
            .action = "it gets the length the reverse map tells",
            .records = {replaced(key::run(stored.ino, run.first_block()), stored.raw,
                                 right.SerializeAsString())}});
    return true;
  }

  result<bool> has_run(const Use& use) const {
    const std::string k = key::run(use.ino, use.run.first_block());
    TRY(const auto raw, p_.view.get(k));
    const auto run = raw ? run_at(k, *raw) : std::nullopt;
    return run && same(*run, use);
  }

  result<void> look_up_owners(char kind) {
    auto at = p_.view.scan_all(kind);
    for (; at.valid(); at.next()) {
      TRY(p_.count());
      const auto owner = owner_at(at.key(), at.value());
      if (owner && !p_.runs.differs(owner->run.stripe())) continue;
      if (written_.contains(std::string(at.key()))) continue;
      if (owner) {
        TRY(const bool named, has_run(*owner));
        if (named) {
          // A run has one reference: with both kinds, the further one goes.
          TRY(const auto first,
              p_.view.get(key::owner(owner->run.stripe(), owner->run.first_slot())));
          const auto other =
              first ? owner_at(key::owner(owner->run.stripe(), 0), *first) : std::nullopt;
          const bool twice = kind == 'J' && other && other->ino == owner->ino &&
                             other->run.first_block() == owner->run.first_block();
          if (!twice) continue;
        } else {
          TRY(const bool restored, write_again(*owner));
          if (restored) continue;
        }
      }
      p_.add({.kind = "block-map",
              .text = owner ? fmt::format("the reverse map of stripe {} slot {} names no run",
                                          owner->run.stripe(), owner->run.first_slot())
                            : std::string("a record of the reverse map does not parse"),
              .action = "it is erased",
              .records = {erased(at)}});
    }
    return at.status();
  }

  // The run the owner tells of, if there is none and its blocks and slots are free for it.
  result<bool> write_again(const Use& owner) {
    const pb::Run& run = owner.run;
    const std::string k = key::run(owner.ino, run.first_block());
    TRY(auto raw, p_.view.get(k));
    pb::Inode inode;
    TRY(const bool there, p_.view.get(key::inode(owner.ino), inode));
    TRY(const auto stripe, p_.view.get(key::stripe(run.stripe())));
    if ((raw && !broken_.contains(k)) || !there || !S_ISREG(inode.mode()) || !stripe ||
        run.version() == 0 || run.count() == 0 || run.first_block() >= kBlocksMax) {
      return false;
    }
    TRY(const bool free, blocks_are_free(owner.ino, run));
    if (!free) return false;
    const char* what = raw ? "does not parse" : "is missing";
    broken_.erase(k);
    p_.add({.kind = "block-map",
            .text = fmt::format("run {} of inode {} {}", run.first_block(), owner.ino, what),
            .action = "it is written again from the reverse map",
            .records = {replaced(k, std::move(raw), run.SerializeAsString())}});
    return true;
  }

  // What it said is gone, and the reverse map does not tell either: its blocks are lost, up to the
  // next run, but no more than the file counts besides its other runs.
  result<void> tell_broken(const std::string& k) {
    const InodeId ino = k.size() < 9 ? 0 : key::u64_at(k, 1);
    TRY(auto raw, p_.view.get(k));
    Finding finding{.kind = "block-map",
                    .text = fmt::format("a block run of inode {} does not parse", ino),
                    .action = "it is erased: no block of the file can be its"};
    pb::Inode inode;
    TRY(const bool found, p_.view.get(key::inode(ino), inode));
    std::optional<std::string> becomes;
    if (k.size() == 17 && found && S_ISREG(inode.mode())) {
      const uint64_t first = key::u64_at(k, 9);
      TRY(const uint64_t end, end_of_loss(p_.view, ino, first));
      TRY(const uint64_t others, blocks_of(ino));
      const uint64_t counted = inode.blocks_mapped() > others ? inode.blocks_mapped() - others : 1;
      if (end > first) {
        pb::Run lost;
        lost.set_first_block(first);
        lost.set_count(
            static_cast<uint32_t>(std::min({end - first, counted, uint64_t{kStripeSlotsMax}})));
        becomes = lost.SerializeAsString();
        finding.action = fmt::format("{} blocks from {} on are marked as lost: {}", lost.count(),
                                     first, kLostMeans);
      }
    }
    finding.records = {{k, std::move(raw), std::move(becomes)}};
    p_.add(std::move(finding));
    return success();
  }

  result<uint64_t> blocks_of(InodeId ino) const {
    uint64_t sum = 0;
    const std::string first = key::run(ino, 0);
    auto at = p_.view.scan(first, key::after_prefix(first.substr(0, 9)));
    for (; at.valid(); at.next()) {
      TRY(p_.count());
      if (const auto use = run_at(at.key(), at.value())) sum += use->run.count();
    }
    TRY(at.status());
    return sum;
  }

  // Neither the run before nor one after reaches into them.
  result<bool> blocks_are_free(InodeId ino, const pb::Run& wanted) const {
    const uint64_t end = wanted.first_block() + wanted.count();
    auto at = p_.view.scan(key::run(ino, 0), key::run(ino, end));
    for (; at.valid(); at.next()) {
      TRY(p_.count());
      const auto use = run_at(at.key(), at.value());
      if (use && use->run.first_block() + use->run.count() > wanted.first_block()) return false;
    }
    TRY(at.status());
    return true;
  }

  RecordPasses& p_;
  bool damaged_ = false;           // some runs do not parse
  std::set<std::string> broken_;   // their keys
  std::set<std::string> written_;  // keys of the reverse map that are completed
};

}  // namespace

result<void> check_runs(RecordPasses& passes) { return Runs(passes).run(); }

}  // namespace datacloud
