// The users of a stripe's slots: the blocks of files that are mapped to them. When a fold or a
// merge moves the bytes of a slot, all its users have to be changed together; a shared slot has
// several.
//
// Functions of the loop. The references say which inodes to look at, the map which blocks use the
// slot.
#pragma once

#include <map>
#include <set>
#include <vector>

#include "daemon/metadata/metadata_store.h"

namespace datacloud {

struct SlotUser {
  InodeId ino = 0;
  uint64_t block = 0;
  ContentVersion version = 0;
  // What the block was sealed for; ino 0: for this place.
  uint32_t sealed_realm = 0;
  InodeId sealed_ino = 0;
  uint64_t sealed_block = 0;
  uint32_t patches = 0;  // of the block: it has to stay where it is while there are any

  auto operator<=>(const SlotUser&) const = default;  // by inode and block
  // The run of this one block, mapped to that slot.
  pb::Run run_at(StripeId, uint32_t slot) const;
  // Whether this user's block continues the run: it was sealed for the place that follows the run's
  // last.
  bool sealed_goes_on(const pb::Run&) const;
};

// By slot, each in order.
result<std::map<uint32_t, std::vector<SlotUser>>> users_of_slots(const Transaction&, StripeId);
// The slots among them that have to stay where they are, because a user has patches for what they
// hold.
std::set<uint32_t> patched_slots(const std::map<uint32_t, std::vector<SlotUser>>&);
// All users of the slot that the inode's run (of one block) is mapped to.
result<std::vector<SlotUser>> users_with(const Transaction&, InodeId, const pb::Run&);

// The users of slots as of now, looked up once for each stripe.
class UsersNow {
 public:
  explicit UsersNow(const Transaction& txn) : txn_(txn) {}
  // Must be called before the transaction changes any of these runs.
  result<bool> are(StripeId, uint32_t slot, const std::vector<SlotUser>&);

 private:
  const Transaction& txn_;
  std::map<StripeId, std::map<uint32_t, std::vector<SlotUser>>> stripes_;
};

}  // namespace datacloud
