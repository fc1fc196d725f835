// Applying replies in order; leases.
#include "fs/file/metadata_client.h"

#include <future>
#include <thread>

#include "common/base/log.h"

namespace datacloud {
namespace {

// Attempts to get a lease that is recalled again before it can be used.
constexpr int kLeaseAttemptsMax = 2000;
constexpr int kLeaseAttemptsQuick = 3;  // then with pauses

struct RequestFacts {
  uint64_t ticket = 0;
  InodeId parent = 0;  // of a lookup or create
  bool open = false;
  bool removes = false;
  pb::LeaseMode pin = pb::LEASE_NONE;
  std::vector<InodeId> changed;  // directories whose own attributes a success changes
  bool changes = false;          // names, attributes or extended attributes
};

bool changes_metadata(const pb::Request& request) {
  switch (request.op_case()) {
    case pb::Request::kCreate:
    case pb::Request::kLink:
    case pb::Request::kUnlink:
    case pb::Request::kRename:
    case pb::Request::kSetattr:
    case pb::Request::kSetxattr:
    case pb::Request::kRemovexattr:
      return true;
    default:
      return false;
  }
}

RequestFacts facts_of(const pb::Request& request) {
  RequestFacts facts;
  facts.changes = changes_metadata(request);
  switch (request.op_case()) {
    case pb::Request::kLookup:
      facts.parent = request.lookup().parent();
      break;
    case pb::Request::kCreate:
      facts.parent = request.create().parent();
      facts.open = request.create().open();
      facts.changed = {facts.parent};
      break;
    case pb::Request::kLink:
      facts.changed = {request.link().parent()};
      break;
    case pb::Request::kUnlink:
      facts.changed = {request.unlink().parent()};
      facts.removes = true;
      break;
    case pb::Request::kRename:
      facts.changed = {request.rename().parent(), request.rename().new_parent()};
      break;
    case pb::Request::kLease:
      facts.open = request.lease().open();
      break;
    default:
      break;
  }
  return facts;
}

void note_removal(Inode& inode) {
  std::lock_guard lock(inode.mutex);
  inode.removed_here = inode.removed_here || inode.attr.nlink() == 0;
}

void apply(InodeTable& table, uint64_t session, const RequestFacts& facts,
           MetadataClient::Answer& answer) {
  const pb::Reply& reply = answer.reply;
  const uint64_t sequence = reply.sequence();
  for (const InodeId directory : facts.changed) table.mark_stale(directory, sequence);
  switch (reply.op_case()) {
    case pb::Reply::kAttr:
      if (!reply.attr().has_inode()) break;
      answer.inode = table.apply(reply.attr().inode(), reply.attr().lease(), facts.open, sequence,
                                 session, facts.ticket);
      if (facts.removes) note_removal(*answer.inode);
      if (facts.pin != pb::LEASE_NONE) {
        std::lock_guard lock(answer.inode->mutex);
        answer.pinned = answer.inode->lease >= facts.pin && answer.inode->lease_session == session;
        if (answer.pinned) ++answer.inode->users;
      }
      if (facts.parent)
        table.apply_parent_lease(facts.parent, reply.attr().parent_lease(), session, facts.ticket);
      break;
    case pb::Reply::kRename:
      answer.inode = table.apply(reply.rename().moved(), pb::LEASE_NONE, false, sequence, session,
                                 facts.ticket);
      if (reply.rename().has_replaced()) {
        answer.replaced = table.apply(reply.rename().replaced(), pb::LEASE_NONE, false, sequence,
                                      session, facts.ticket);
        note_removal(*answer.replaced);
      }
      break;
    case pb::Reply::kReaddir:
      for (const auto& item : reply.readdir().items())
        answer.entries.push_back(item.has_inode() ? table.apply(item.inode(), item.lease(), false,
                                                                sequence, session, facts.ticket)
                                                  : nullptr);
      break;
    default:
      break;
  }
}

pb::Request lease_request(InodeId ino, pb::LeaseMode mode, bool open) {
  pb::Request request;
  auto* lease = request.mutable_lease();
  lease->set_ino(ino);
  lease->set_mode(mode);
  lease->set_open(open);
  return request;
}

Error unsteady(InodeId ino) {
  return Error(Errc::unavailable, "the lease on inode " + std::to_string(ino) +
                                      " is recalled again and again; try later");
}

}  // namespace

result<MetadataClient::Answer> MetadataClient::call(pb::Request request, pb::LeaseMode pin) {
  RequestFacts facts = facts_of(request);
  facts.pin = pin;
  facts.ticket = table_.begin_request();
  auto promise = std::make_shared<std::promise<result<Answer>>>();
  auto future = promise->get_future();
  client_.call(std::move(request), [this, facts, promise](result<pb::Reply> reply) {
    if (!reply) {
      promise->set_value(failure(reply.error()));
      return;
    }
    Answer answer;
    answer.reply = std::move(reply.value());
    apply(table_, client_.session(), facts, answer);
    promise->set_value(std::move(answer));
  });
  auto answer = future.get();
  table_.end_request(facts.ticket);
  if (answer && facts.changes && synchronous_) {
    pb::Request sync;
    sync.mutable_sync();
    TRY(run(std::move(sync)));
  }
  return answer;
}

result<void> MetadataClient::run(pb::Request request) {
  TRY(auto answer, call(std::move(request)));
  (void)answer;
  return success();
}

bool MetadataClient::holds(const Inode& inode, pb::LeaseMode mode) const {
  return inode.lease >= mode && inode.lease_session == client_.session() &&
         monotonic_now() < client_.lease_end();
}

result<void> MetadataClient::ensure_lease(const InodePtr& inode, pb::LeaseMode mode, bool open) {
  for (int attempt = 0; attempt < kLeaseAttemptsMax; ++attempt) {
    {
      std::lock_guard lock(inode->mutex);
      if (holds(*inode, mode) && inode->attr_known && !inode->attr_stale &&
          (!open || inode->open_registered))
        return success();
    }
    if (attempt >= kLeaseAttemptsQuick) std::this_thread::sleep_for(milliseconds(1));
    TRY(run(lease_request(inode->ino, mode, open)));
    std::lock_guard lock(inode->mutex);
    if (mode == pb::LEASE_READ && (!open || inode->open_registered)) return success();
  }
  return failure(unsteady(inode->ino));
}

result<void> MetadataClient::ensure_kept(const InodePtr& inode) {
  const auto kept = [&] {
    std::lock_guard lock(inode->mutex);
    return inode->open_registered || holds(*inode, pb::LEASE_READ);
  };
  if (kept()) return success();
  TRY(ensure_lease(inode, pb::LEASE_READ, false));
  if (kept()) return success();
  return ensure_lease(inode, pb::LEASE_READ, true);
}

void MetadataClient::hold_open(const InodePtr& inode) {
  {
    std::lock_guard lock(inode->mutex);
    if (inode->opens == 0 || inode->open_registered) return;
  }
  if (const auto done = run(lease_request(inode->ino, pb::LEASE_NONE, true)); !done)
    spdlog::warn("open inode {} is not kept if it is removed: {}", inode->ino,
                 done.error().message());
}

void MetadataClient::send_releases() {
  auto leases = table_.take_releases(512);
  if (leases.empty()) return;
  pb::Request request;
  for (const auto& held : leases) *request.mutable_release()->add_leases() = held;
  // A release that is lost costs the daemon memory until the session ends, nothing else.
  (void)run(std::move(request));
  table_.released(leases);
}

result<UseGuard> UseGuard::acquire(MetadataClient& client, const InodePtr& inode,
                                   pb::LeaseMode mode) {
  for (int attempt = 0; attempt < kLeaseAttemptsMax; ++attempt) {
    {
      std::lock_guard lock(inode->mutex);
      if (client.holds(*inode, mode) && inode->attr_known && !inode->attr_stale) {
        ++inode->users;
        if (inode->recalling) ++inode->served_while_recalled;
        return UseGuard(inode);
      }
    }
    if (attempt >= kLeaseAttemptsQuick) std::this_thread::sleep_for(milliseconds(1));
    TRY(auto answer, client.call(lease_request(inode->ino, mode, false), mode));
    if (answer.pinned) return UseGuard(answer.inode);
  }
  return failure(unsteady(inode->ino));
}

UseGuard::~UseGuard() {
  if (!inode_) return;
  std::lock_guard lock(inode_->mutex);
  if (--inode_->users == 0) inode_->changed.notify_all();
}

}  // namespace datacloud
