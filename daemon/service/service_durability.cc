// What survives a power cut: who waits for it, who is told, and what is told to nobody before.
//
// Mounts keep their changes until they are durable, and send them again after a restart that has
// lost them (docs/protocol.md, "Requests"). For that to be right in any order among several mounts,
// a reply that shows what another session has changed waits until that is durable.
#include <algorithm>

#include "common/rpc/protocol_versions.h"
#include "daemon/service/service.h"

namespace datacloud {

// Runs the function when everything applied so far is durable.
void MetadataService::when_durable(std::function<void()> f) {
  ++durability_waiters_;
  committer_.tell_when_durable([this, sequence = store_.sequence(), f = std::move(f)] {
    --durability_waiters_;
    note_durable(sequence);
    f();
  });
}

// Whether everything is durable, and nobody who waited for that is still to be told.
bool MetadataService::all_durable() {
  if (durability_waiters_ > 0 || !committer_.durable()) return false;
  note_durable(store_.sequence());
  return true;
}

void MetadataService::note_durable(Sequence sequence) {
  if (sequence <= durable_) return;
  durable_ = sequence;
  undurable_.durable(sequence);
}

void MetadataService::note_change(const Call& call, const pb::Reply& reply) {
  session_of(call).changed = store_.sequence();
  undurable_.note(call.session, store_.sequence(), inodes_concerned(call.request, reply));
  if (undurable_.full()) tell_committed();
  watchers_.note(call.request, reply);
}

bool MetadataService::shows_undurable(const Call& call, const pb::Reply& reply) const {
  if (call.session == 0 || call.session >= kToolSession || !undurable_.has_others(call.session))
    return false;
  return undurable_.by_others(call.session, inodes_concerned(call.request, reply));
}

// The reply has waited, and a recall may have overtaken what it grants.
void MetadataService::limit_leases(const Call& call, pb::Reply& reply) {
  const auto held = [&](InodeId ino) {
    return leases_.offer(call.session, ino, pb::LEASE_NONE);  // asks for nothing
  };
  const auto limit = [&](pb::ReadDirReply& listing, InodeId directory) {
    listing.set_lease(std::min(listing.lease(), held(directory)));
    for (auto& item : *listing.mutable_items())
      if (item.lease() != pb::LEASE_NONE)
        item.set_lease(std::min(item.lease(), held(item.inode().ino())));
  };
  if (reply.has_attr()) {
    auto& attr = *reply.mutable_attr();
    attr.set_lease(std::min(attr.lease(), held(attr.inode().ino())));
    const auto& request = call.request;
    const InodeId parent =
        request.has_lookup() ? request.lookup().parent() : request.create().parent();
    if (attr.parent_lease() != pb::LEASE_NONE)
      attr.set_parent_lease(std::min(attr.parent_lease(), held(parent)));
  }
  if (reply.has_readdir()) {
    auto& listing = *reply.mutable_readdir();
    limit(listing, call.request.readdir().ino());
    for (auto& below : *listing.mutable_below()) limit(*below.mutable_listing(), below.ino());
  }
}

// Mounts that have changed something learn that it is durable, also when they ask for nothing more:
// they keep their requests until then.
void MetadataService::tell_committed() {
  if (telling_committed_ || store_.sequence() == durable_) return;
  bool owed = !undurable_.empty();
  for (const auto& [id, session] : sessions_.all()) owed = owed || session->changed > session->told;
  if (!owed) return;
  telling_committed_ = true;
  when_durable([this] {
    telling_committed_ = false;
    for (const auto& [id, session] : sessions_.all()) {
      if (session->changed <= session->told || !session->connection ||
          session->record.protocol() < kProtocolRejoin) {
        continue;
      }
      pb::Push push;
      push.set_committed(durable_);
      session->told = durable_;
      push_out(*session, std::move(push));
    }
  });
}

}  // namespace datacloud
