// Block runs with the reverse map. Sums of both are compared (record_passes.h); only where they
// differ is each run looked up in the reverse map, and the other way round.
#include <fmt/format.h>

#include <set>

#include "daemon/record_passes.h"

namespace datacloud {
namespace {

struct Use {  // of slots of a stripe by blocks of a file
  InodeId ino = 0;
  uint64_t first_block = 0, count = 0;
  StripeId stripe = 0;
  uint32_t first_slot = 0;
};

std::optional<Use> run_at(std::string_view k, std::string_view v) {
  pb::Run run;
  if (k.size() != 17 || !parses(v, run)) return std::nullopt;
  return Use{key::u64_at(k, 1), run.first_block(), run.count(), run.stripe(), run.first_slot()};
}

std::optional<Use> owner_at(std::string_view k, std::string_view v) {
  pb::Owner owner;
  if (k.size() != 13 || !parses(v, owner)) return std::nullopt;
  return Use{owner.ino(), owner.first_block(), owner.count(), key::u64_at(k, 1), key::u32_at(k, 9)};
}

bool same(const Use& a, const Use& b) {
  return a.ino == b.ino && a.first_block == b.first_block && a.count == b.count &&
         a.stripe == b.stripe && a.first_slot == b.first_slot;
}

class Runs {
 public:
  explicit Runs(RecordPasses& p) : p_(p) {}

  result<void> run() {
    TRY(sum('M', true));
    TRY(sum('R', false));
    if (!p_.runs.any()) return success();
    TRY(look_up_runs());
    return look_up_owners();
  }

 private:
  result<void> sum(char kind, bool add) {
    auto at = p_.view.scan_all(kind);
    for (; at.valid(); at.next()) {
      TRY(p_.count());
      const auto use = add ? run_at(at.key(), at.value()) : owner_at(at.key(), at.value());
      if (!use) continue;
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

  RecordPasses& p_;
  std::set<std::string> written_;  // keys of the reverse map that are completed
};

}  // namespace

result<void> check_runs(RecordPasses& passes) { return Runs(passes).run(); }

}  // namespace datacloud
