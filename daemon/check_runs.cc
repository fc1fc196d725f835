// Block runs with the reverse map. Sums of both are compared (record_passes.h); only where they
// differ is each run looked up in the reverse map, and the other way round.
//
// The reverse map says all that a run does: a run that is lost or damaged is written again from it,
// unless its blocks or slots have got another use.
#include <fmt/format.h>
#include <sys/stat.h>

#include <set>

#include "daemon/record_passes.h"

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
  // One stored under another block is damaged too: nobody finds what it says.
  if (k.size() != 17 || !parses(v, run) || run.first_block() != key::u64_at(k, 9)) {
    return std::nullopt;
  }
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
      p_.add({.kind = "block-map",
              .text = fmt::format("a block run of inode {} does not parse",
                                  k.size() < 9 ? 0 : key::u64_at(k, 1))});
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
      if (!use || !p_.runs.differs(use->stripe)) continue;
      const std::string k = key::owner(use->stripe, use->first_slot);
      TRY(auto raw, p_.view.get(k));
      const auto owner = raw ? owner_at(k, *raw) : std::nullopt;
      if (owner && same(*owner, *use)) continue;
      TRY(compare(*use, k, std::move(raw), owner));
    }
    return at.status();
  }

  result<void> compare(const Use& use, const std::string& k, std::optional<std::string> raw,
                       const std::optional<Use>& owner) {
    const std::string name = fmt::format("run {} of inode {}", use.first_block, use.ino);
    TRY(const auto stripe, p_.view.get(key::stripe(use.stripe)));
    if (!stripe) {
      p_.report.lost_stripes = true;
      p_.add({.kind = "block-map",
              .text = fmt::format("{} names stripe {}, which does not exist", name, use.stripe)});
      return success();
    }
    if (owner) {
      TRY(const bool other, has_run(*owner));
      if (other) {
        p_.add({.kind = "block-map",
                .text = fmt::format("{} and run {} of inode {} name the same slots of stripe {}",
                                    name, owner->first_block, owner->ino, use.stripe)});
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
