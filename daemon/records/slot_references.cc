// References as records; see slot_references.h.
#include "daemon/records/slot_references.h"

#include <algorithm>

#include "daemon/metadata/record_keys.h"

namespace datacloud::stripes {
namespace {

Error damaged(StripeId stripe) {
  return Error(Errc::corrupt, "a reference to slots of stripe " + std::to_string(stripe) +
                                  " does not parse; stop the daemon and run `datacloud fsck`");
}

result<void> collect(const Transaction& txn, const std::string& first, size_t key_bytes,
                     StripeId stripe, std::vector<Reference>& out) {
  bool whole = true;
  const std::string prefix = first.substr(0, 9);
  TRY(txn.scan(prefix, key::after_prefix(prefix), [&](std::string_view k, std::string_view v) {
    Reference found;
    whole =
        k.size() == key_bytes && found.owner.ParseFromArray(v.data(), static_cast<int>(v.size()));
    if (!whole) return false;
    found.first_slot = key::u32_at(k, 9);
    out.push_back(std::move(found));
    return true;
  }));
  return whole ? result<void>(success()) : result<void>(damaged(stripe));
}

std::string shared_key(InodeId ino, const pb::Run& run) {
  return key::shared(run.stripe(), run.first_slot(), ino, run.first_block());
}

}  // namespace

pb::Owner owner_of(InodeId ino, const pb::Run& run) {
  pb::Owner owner;
  owner.set_ino(ino);
  owner.set_first_block(run.first_block());
  owner.set_count(run.count());
  owner.set_version(run.version());
  if (run.has_sealed_for()) *owner.mutable_sealed_for() = run.sealed_for();
  return owner;
}

result<ErasedReference> erase_reference(Transaction& txn, InodeId ino, const pb::Run& run) {
  pb::StripeLive live;
  TRY(txn.get(key::live(run.stripe()), live));
  const std::string first = key::owner(run.stripe(), run.first_slot());
  if (live.shared() == 0) {
    txn.erase(first);
    return ErasedReference{};
  }
  pb::Owner owner;
  TRY(const bool found, txn.get(first, owner));
  if (found && owner.ino() == ino && owner.first_block() == run.first_block()) {
    txn.erase(first);
    return ErasedReference{.shared = true};
  }
  txn.erase(shared_key(ino, run));
  live.set_shared(live.shared() - 1);
  txn.put(key::live(run.stripe()), live);
  return ErasedReference{.further = true, .shared = true};
}

result<void> keep_reference(Transaction& txn, InodeId ino, const pb::Run& part,
                            const ErasedReference& was) {
  if (!was.further) {
    txn.put(key::owner(part.stripe(), part.first_slot()), owner_of(ino, part));
    return success();
  }
  pb::StripeLive live;
  TRY(txn.get(key::live(part.stripe()), live));
  live.set_shared(live.shared() + 1);
  txn.put(key::live(part.stripe()), live);
  txn.put(shared_key(ino, part), owner_of(ino, part));
  return success();
}

result<std::vector<Reference>> references(const Transaction& txn, StripeId stripe, bool shared) {
  std::vector<Reference> found;
  TRY(collect(txn, key::owner(stripe, 0), 13, stripe, found));
  if (!shared) return found;
  TRY(collect(txn, key::shared(stripe, 0, 0, 0), 29, stripe, found));
  std::stable_sort(found.begin(), found.end(),
                   [](const auto& a, const auto& b) { return a.first_slot < b.first_slot; });
  return found;
}

result<std::vector<bool>> covered_slots(const Transaction& txn, StripeId stripe, uint32_t first,
                                        size_t count, bool shared) {
  std::vector<bool> covered(count);
  const uint64_t end = uint64_t{first} + count;
  bool whole = true;
  const auto cover = [&](std::string_view k, std::string_view v) {
    pb::Owner owner;
    whole = k.size() >= 13 && owner.ParseFromArray(v.data(), static_cast<int>(v.size()));
    if (!whole) return false;
    const uint64_t from = key::u32_at(k, 9), to = std::min(end, from + owner.count());
    for (uint64_t slot = std::max<uint64_t>(first, from); slot < to; ++slot) {
      covered[slot - first] = true;
    }
    return true;
  };
  // `R`s do not overlap: only the one before can reach into the range. `J`s may begin anywhere.
  const auto last = static_cast<uint32_t>(std::min<uint64_t>(end, UINT32_MAX));
  TRY(const auto before, txn.last(key::owner(stripe, 0), key::owner(stripe, first)));
  if (before) cover(before->first, before->second);
  TRY(txn.scan(key::owner(stripe, first), key::owner(stripe, last), cover));
  if (shared && whole) {
    TRY(txn.scan(key::shared(stripe, 0, 0, 0), key::shared(stripe, last, 0, 0), cover));
  }
  if (!whole) return failure(damaged(stripe));
  return covered;
}

}  // namespace datacloud::stripes
