// The blocks of files that are mapped to slots of a stripe: what has to follow when folding or
// merging moves a slot's bytes. A slot that is shared has several, and they move together.
//
// Functions of the loop. The references say which inodes to look at, the map which blocks use the
// slot.
#pragma once

#include <map>
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

  auto operator<=>(const SlotUser&) const = default;  // by inode and block
  // The run of this one block, mapped to that slot.
  pb::Run run_at(StripeId, uint32_t slot) const;
  // The run's sealing says of the block after its last one what this user says of its own.
  bool sealed_goes_on(const pb::Run&) const;
};

// By slot, each in order.
result<std::map<uint32_t, std::vector<SlotUser>>> users_of_slots(const Transaction&, StripeId);
// All users of the slot that the inode's run (of one block) is mapped to.
result<std::vector<SlotUser>> users_with(const Transaction&, InodeId, const pb::Run&);

// The users of slots as of now, looked up once for each stripe.
class UsersNow {
 public:
  explicit UsersNow(const Transaction& txn) : txn_(txn) {}
  // Before the transaction changes any of these.
  result<bool> are(StripeId, uint32_t slot, const std::vector<SlotUser>&);

 private:
  const Transaction& txn_;
  std::map<StripeId, std::map<uint32_t, std::vector<SlotUser>>> stripes_;
};

}  // namespace datacloud
