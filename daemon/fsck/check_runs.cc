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

namespace datacloud {
namespace {

struct Use {  // of slots of a stripe by blocks of a file
  InodeId ino = 0;
  uint64_t first_block = 0, count = 0;
  StripeId stripe = 0;
  uint32_t first_slot = 0;
  ContentVersion version = 0;  // of the reverse map: 0 when it was written by an older daemon
};

std::optional<Use> run_at(std::string_view k, std::string_view v) {
  pb::Run run;
  if (!parses(v, run) || !is_run(k, run)) return std::nullopt;
  return Use{key::u64_at(k, 1), run.first_block(), run.count(),
             run.stripe(),      run.first_slot(),  run.version()};
}

std::optional<Use> owner_at(std::string_view k, std::string_view v) {
  pb::Owner owner;
  if (k.size() != 13 || !parses(v, owner)) return std::nullopt;
  return Use{owner.ino(),       owner.first_block(), owner.count(),
             key::u64_at(k, 1), key::u32_at(k, 9),   owner.version()};
}

bool same(const Use& run, const Use& owner) {
  return run.ino == owner.ino && run.first_block == owner.first_block && run.count == owner.count &&
         run.stripe == owner.stripe && run.first_slot == owner.first_slot &&
         (owner.version == 0 || owner.version == run.version);
}

// Some runs may be none: the daemon writes files of at most this many blocks.
constexpr uint64_t kBlocksMax = uint64_t{1} << 51;

class Runs {
 public:
  explicit Runs(RecordPasses& p) : p_(p) {}

  result<void> run() {
    TRY(sum('M', true));
    TRY(sum('R', false));
    if (!p_.runs.any() && !damaged_) return success();
    TRY(look_up_runs());
    TRY(look_up_owners());
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
      if (use->stripe == 0) continue;  // lost
      const auto words = {use->ino, use->first_block, use->count, use->stripe,
                          uint64_t{use->first_slot}};
      if (add) {
        p_.runs.add(use->stripe, words);
      } else {
        p_.runs.remove(use->stripe, words);
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
      if (!use || use->stripe == 0 || !p_.runs.differs(use->stripe)) continue;
      const std::string k = key::owner(use->stripe, use->first_slot);
      TRY(auto raw, p_.view.get(k));
      const auto owner = raw ? owner_at(k, *raw) : std::nullopt;
      if (owner && same(*owner, *use)) continue;
      StoredRun stored{use->ino, {}, std::string(at.value()), std::nullopt};
      parses(at.value(), stored.run);
      TRY(compare(*use, stored, k, std::move(raw), owner));
    }
    return at.status();
  }

  // `k`, `raw` and `owner`: of the reverse map, where it should tell of the run.
  result<void> compare(const Use& use, const StoredRun& stored, const std::string& k,
                       std::optional<std::string> raw, const std::optional<Use>& owner) {
    const std::string name = fmt::format("run {} of inode {}", use.first_block, use.ino);
    TRY(const auto stripe, p_.view.get(key::stripe(use.stripe)));
    if (!stripe) {
      p_.report.lost_stripes = true;
      TRY(p_.add_lost(stored, {{use.count, RunPart::Fate::lost}},
                      fmt::format("{} names stripe {}, which does not exist", name, use.stripe)));
      return success();
    }
    TRY(const uint64_t next, next_run(p_.view, use.ino, use.first_block));
    if (use.first_block + use.count > next) return success();  // cut first: check_inode_records.cc
    if (owner) {
      TRY(const bool other, has_run(*owner));
      if (other) {
        const uint64_t both = std::min(use.count, owner->count);
        TRY(p_.add_lost(stored,
                        {{both, RunPart::Fate::lost}, {use.count - both, RunPart::Fate::kept}},
                        fmt::format("{} and run {} of inode {} name the same slots of stripe {}, "
                                    "and the reverse map the latter",
                                    name, owner->first_block, owner->ino, use.stripe)));
        return success();
      }
      pb::Stripe record;
      const bool shorter = owner->ino == use.ino && owner->first_block == use.first_block &&
                           owner->count > 0 && owner->count < use.count;
      if (shorter && parses(*stripe, record) &&
          use.first_slot + use.count > static_cast<uint64_t>(record.slot_length_size())) {
        pb::Run right = stored.run;
        right.set_count(static_cast<uint32_t>(owner->count));
        if (written_.size() < p_.limits.findings_max) written_.insert(k);
        p_.add(
            {.kind = "block-map",
             .text = fmt::format("{} names slots that stripe {} does not have", name, use.stripe),
             .action = "it gets the length the reverse map tells",
             .records = {replaced(key::run(use.ino, use.first_block), stored.raw,
                                  right.SerializeAsString())}});
        return success();
      }
    }
    pb::Owner record;
    record.set_ino(use.ino);
    record.set_first_block(use.first_block);
    record.set_count(static_cast<uint32_t>(use.count));
    record.set_version(use.version);
    if (written_.size() < p_.limits.findings_max) written_.insert(k);
    p_.add({.kind = "block-map",
            .text = fmt::format("the reverse map of stripe {} lacks {}", use.stripe, name),
            .action = "it is completed",
            .records = {replaced(k, std::move(raw), record.SerializeAsString())}});
    return success();
  }

  result<bool> has_run(const Use& use) const {
    const std::string k = key::run(use.ino, use.first_block);
    TRY(const auto raw, p_.view.get(k));
    const auto run = raw ? run_at(k, *raw) : std::nullopt;
    return run && same(*run, use);
  }

  result<void> look_up_owners() {
    auto at = p_.view.scan_all('R');
    for (; at.valid(); at.next()) {
      TRY(p_.count());
      const auto owner = owner_at(at.key(), at.value());
      if (owner && !p_.runs.differs(owner->stripe)) continue;
      if (written_.contains(std::string(at.key()))) continue;
      if (owner) {
        TRY(const bool named, has_run(*owner));
        if (named) continue;
        TRY(const bool mended, write_again(*owner));
        if (mended) continue;
      }
      p_.add({.kind = "block-map",
              .text = owner ? fmt::format("the reverse map of stripe {} slot {} names no run",
                                          owner->stripe, owner->first_slot)
                            : std::string("a record of the reverse map does not parse"),
              .action = "it is erased",
              .records = {erased(at)}});
    }
    return at.status();
  }

  // The run the owner tells of, if there is none and its blocks and slots are free for it.
  result<bool> write_again(const Use& owner) {
    const std::string k = key::run(owner.ino, owner.first_block);
    TRY(auto raw, p_.view.get(k));
    pb::Inode inode;
    TRY(const bool there, p_.view.get(key::inode(owner.ino), inode));
    TRY(const auto stripe, p_.view.get(key::stripe(owner.stripe)));
    if ((raw && !broken_.contains(k)) || !there || !S_ISREG(inode.mode()) || !stripe ||
        owner.version == 0 || owner.count == 0 || owner.first_block >= kBlocksMax) {
      return false;
    }
    TRY(const bool free, blocks_are_free(owner));
    if (!free) return false;
    pb::Run run;
    run.set_first_block(owner.first_block);
    run.set_count(static_cast<uint32_t>(owner.count));
    run.set_stripe(owner.stripe);
    run.set_first_slot(owner.first_slot);
    run.set_version(owner.version);
    const char* what = raw ? "does not parse" : "is missing";
    broken_.erase(k);
    p_.add({.kind = "block-map",
            .text = fmt::format("run {} of inode {} {}", owner.first_block, owner.ino, what),
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
      if (const auto run = run_at(at.key(), at.value())) sum += run->count;
    }
    TRY(at.status());
    return sum;
  }

  // Neither the run before nor one after reaches into them.
  result<bool> blocks_are_free(const Use& owner) const {
    const uint64_t end = owner.first_block + owner.count;
    auto at = p_.view.scan(key::run(owner.ino, 0), key::run(owner.ino, end));
    for (; at.valid(); at.next()) {
      TRY(p_.count());
      const auto run = run_at(at.key(), at.value());
      if (run && run->first_block + run->count > owner.first_block) return false;
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
