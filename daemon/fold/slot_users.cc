// References, then the map; see slot_users.h.
#include "daemon/fold/slot_users.h"

#include <algorithm>

#include "daemon/metadata/record_keys.h"
#include "daemon/records/block_map.h"
#include "daemon/records/slot_references.h"

namespace datacloud {
namespace {

SlotUser user_of(InodeId ino, const pb::Run& run, uint32_t i) {
  SlotUser user{ino, run.first_block() + i, run.version() + i};
  user.patches = run.patches();
  if (run.has_sealed_for()) {
    user.sealed_realm = run.sealed_for().realm();
    user.sealed_ino = run.sealed_for().ino();
    user.sealed_block = run.sealed_for().first_block() + i;
  }
  return user;
}

}  // namespace

pb::Run SlotUser::run_at(StripeId stripe, uint32_t slot) const {
  pb::Run run;
  run.set_first_block(block);
  run.set_count(1);
  run.set_stripe(stripe);
  run.set_first_slot(slot);
  run.set_version(version);
  if (sealed_ino != 0) {
    auto& sealed = *run.mutable_sealed_for();
    sealed.set_realm(sealed_realm);
    sealed.set_ino(sealed_ino);
    sealed.set_first_block(sealed_block);
  }
  return run;
}

bool SlotUser::sealed_goes_on(const pb::Run& run) const {
  if (!run.has_sealed_for()) return sealed_ino == 0;
  const auto& sealed = run.sealed_for();
  return sealed.realm() == sealed_realm && sealed.ino() == sealed_ino &&
         sealed.first_block() + run.count() == sealed_block;
}

result<std::map<uint32_t, std::vector<SlotUser>>> users_of_slots(const Transaction& txn,
                                                                 StripeId stripe) {
  std::map<uint32_t, std::vector<SlotUser>> users;
  pb::StripeLive live;
  TRY(txn.get(key::live(stripe), live));
  TRY(const auto references, stripes::references(txn, stripe, live.shared() > 0));
  for (const auto& [first_slot, owner] : references) {
    TRY(const auto runs, runs_of(txn, owner.ino(), owner.first_block(), owner.count()));
    for (const auto& run : runs) {
      if (run.stripe() != stripe) continue;
      for (uint32_t i = 0; i < run.count(); ++i) {
        users[run.first_slot() + i].push_back(user_of(owner.ino(), run, i));
      }
    }
  }
  for (auto& [slot, of_slot] : users) {
    std::sort(of_slot.begin(), of_slot.end());
    of_slot.erase(std::unique(of_slot.begin(), of_slot.end()), of_slot.end());
  }
  return users;
}

std::set<uint32_t> patched_slots(const std::map<uint32_t, std::vector<SlotUser>>& users) {
  std::set<uint32_t> slots;
  for (const auto& [slot, of_slot] : users) {
    if (std::any_of(of_slot.begin(), of_slot.end(),
                    [](const SlotUser& user) { return user.patches > 0; })) {
      slots.insert(slot);
    }
  }
  return slots;
}

result<std::vector<SlotUser>> users_with(const Transaction& txn, InodeId ino, const pb::Run& run) {
  pb::StripeLive live;
  TRY(txn.get(key::live(run.stripe()), live));
  if (live.shared() == 0) return std::vector<SlotUser>{user_of(ino, run, 0)};
  TRY(auto users, users_of_slots(txn, run.stripe()));
  return std::move(users[run.first_slot()]);
}

result<bool> UsersNow::are(StripeId stripe, uint32_t slot, const std::vector<SlotUser>& users) {
  auto it = stripes_.find(stripe);
  if (it == stripes_.end()) {
    TRY(auto now, users_of_slots(txn_, stripe));
    it = stripes_.emplace(stripe, std::move(now)).first;
  }
  const auto at = it->second.find(slot);
  return at != it->second.end() && at->second == users;
}

}  // namespace datacloud
