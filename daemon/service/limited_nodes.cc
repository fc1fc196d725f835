// Nodes that are limited to a directory: every inode that a request names has to lie below it
// (docs/nodes.md). What this file does not know is refused.
//
// A request whose answer depends on a walk waits for it, as a whole; nothing that the walk needs
// waits for a request.
#include <fmt/format.h>
#include <stdio.h>
#include <sys/stat.h>

#include <algorithm>

#include "common/base/log.h"
#include "common/proto/admin.pb.h"
#include "daemon/records/namespace_ops.h"
#include "daemon/service/service.h"

namespace datacloud {
namespace {

using Verdict = LimitedDirectories::Verdict;

// The inodes that a request names; nullopt: it is none that a limited node may send.
std::optional<std::vector<InodeId>> inodes_named(const pb::Request& request) {
  using R = pb::Request;
  std::vector<InodeId> out;
  switch (request.op_case()) {
    case R::kKeepalive:
    case R::kGrant:
    case R::kGoodbye:
    case R::kRenew:
    case R::kRelease:  // of what the session holds
    case R::kRecallDone:
    case R::kAbandon:  // objects of its own
    case R::kDamage:   // of shards, which are looked at before anything is done
    case R::kSync:
      return out;
    case R::kLookup:
      return {{request.lookup().parent()}};
    case R::kLease:
      return {{request.lease().ino()}};
    case R::kSetattr:
      return {{request.setattr().ino()}};
    case R::kCreate:
      return {{request.create().parent()}};
    case R::kLink:
      return {{request.link().ino(), request.link().parent()}};
    case R::kUnlink:
      return {{request.unlink().parent()}};
    case R::kRename:
      return {{request.rename().parent(), request.rename().new_parent()}};
    case R::kReaddir:
      return {{request.readdir().ino()}};
    case R::kGetxattr:
      return {{request.getxattr().ino()}};
    case R::kSetxattr:
      return {{request.setxattr().ino()}};
    case R::kListxattr:
      return {{request.listxattr().ino()}};
    case R::kRemovexattr:
      return {{request.removexattr().ino()}};
    case R::kStatfs:
      return {{request.statfs().ino()}};
    case R::kLock:
      return {{request.lock().lock().ino()}};
    case R::kMap:
      return {{request.map().ino()}};
    case R::kCommit:
      for (const auto& update : request.commit().updates()) {
        out.push_back(update.ino());
        for (const auto& clone : update.clones()) out.push_back(clone.from_ino());
      }
      return out;
    case R::kAdmin: {
      pb::AdminRequest admin;
      if (admin.ParseFromString(request.admin()) && admin.has_site_key()) return out;
      return std::nullopt;
    }
    default:
      return std::nullopt;
  }
}

}  // namespace

InodeId MetadataService::limit_of(const Call& call) const {
  const auto& node = call.connection->peer().node;
  const pb::Node* known = node.empty() ? nullptr : nodes_.find(node);
  return known != nullptr ? known->root() : 0;
}

// False: the call was refused, or waits for a walk.
bool MetadataService::within_limit(const CallPtr& call) {
  const InodeId limit = limit_of(*call);
  if (limit == 0) return true;
  const auto& node = call->connection->peer().node;
  auto& request = call->request;
  if (request.has_statfs() && request.statfs().ino() == 0) request.mutable_statfs()->set_ino(limit);
  const auto named = inodes_named(request);
  const bool up =
      request.has_lookup() && request.lookup().name() == ".." && request.lookup().parent() == limit;
  if (!named || up) {
    refuse(call,
           Error::posix(EACCES, fmt::format("node {} is limited to a directory and may not ask for "
                                            "this",
                                            node)));
    return false;
  }
  const Transaction txn = store_.begin();
  for (const InodeId ino : *named) {
    auto inode = get_inode(txn, ino);
    if (!inode && inode.error().errno_value() == ENOENT) continue;  // for the handler to say
    auto verdict =
        inode ? limits_.judge(txn, limit, inode.value()) : result<Verdict>(failure(inode.error()));
    if (!verdict) {
      refuse(call, verdict.error());
      return false;
    }
    if (verdict.value() == Verdict::inside) continue;
    if (verdict.value() == Verdict::unknown) {
      limit_waiters_.push_back(call);
      walk_limit(limit);
      return false;
    }
    // ESTALE: the kernel asks for the name again, which finds a file that is inside after all.
    refuse(call, Error::posix(ESTALE, fmt::format("inode {} is not below the directory that node "
                                                  "{} is limited to",
                                                  ino, node)));
    return false;
  }
  return true;
}

void MetadataService::walk_limit(InodeId limit) {
  const bool walking = limits_.walking();
  if (limits_.begin_walk(limit) && !walking) loop_.post([this] { walk_limits_on(); });
}

void MetadataService::walk_limits_on() {
  const Transaction txn = store_.begin();
  const auto ended = limits_.walk_on(txn);
  for (const InodeId limit : ended) {
    for (const auto& [session, ino] : std::exchange(limit_credit_[limit], {})) {
      const auto inode = get_inode(txn, ino);
      const auto verdict =
          inode ? limits_.judge(txn, limit, inode.value()) : result<Verdict>(Verdict::outside);
      if (verdict && verdict.value() == Verdict::inside) continue;
      pb::HeldLease nothing;
      nothing.set_ino(ino);
      leases_.release(session, nothing);
    }
    limit_credit_.erase(limit);
  }
  if (limits_.walking()) loop_.post([this] { walk_limits_on(); });
  if (ended.empty()) return;
  for (const auto& call : std::exchange(limit_waiters_, {})) dispatch(call);
  pump();
}

// May the session have back what its mount says it holds? A file that is not known yet it gets on
// credit, until a walk has told.
bool MetadataService::may_resume_with(const Call& call, SessionId session, InodeId ino) {
  const InodeId limit = limit_of(call);
  if (limit == 0) return true;
  const Transaction txn = store_.begin();
  const auto inode = get_inode(txn, ino);
  if (!inode) return false;
  const auto verdict = limits_.judge(txn, limit, inode.value());
  if (!verdict || verdict.value() == Verdict::outside) return false;
  if (verdict.value() == Verdict::inside) return true;
  limit_credit_[limit].emplace_back(session, ino);
  walk_limit(limit);
  return true;
}

// What a limited node was just shown below its directory.
void MetadataService::note_met(const Call& call, const pb::Reply& reply) {
  const InodeId limit = limit_of(call);
  if (limit == 0) return;
  const auto& request = call.request;
  if (request.has_lookup() || request.has_create()) {
    if (reply.attr().has_inode()) limits_.met(limit, reply.attr().inode());
  } else if (request.has_rename()) {
    if (reply.rename().has_moved()) limits_.met(limit, reply.rename().moved());
  } else if (reply.has_readdir()) {
    const auto met_in = [&](const auto& self, const pb::ReadDirReply& listing) -> void {
      for (const auto& item : listing.items())
        if (item.has_inode()) limits_.met(limit, item.inode());
      for (const auto& below : listing.below()) self(self, below.listing());
    };
    met_in(met_in, reply.readdir());
  }
}

void MetadataService::renamed_within_limits(const pb::RenameRequest& request,
                                            const pb::RenameReply& done) {
  const Transaction txn = store_.begin();
  limits_.moved(txn, done.moved(), request.parent(), request.new_parent());
  if (!done.has_replaced()) return;
  if (request.flags() & RENAME_EXCHANGE)
    limits_.moved(txn, done.replaced(), request.new_parent(), request.parent());
  else
    limits_.lost_name(txn, done.replaced(), request.new_parent());
}

// For this node nothing is above its directory.
void MetadataService::hide_above_limit(const Call& call, pb::Reply& reply) const {
  if (!reply.has_attr() || !reply.attr().has_inode()) return;
  auto& inode = *reply.mutable_attr()->mutable_inode();
  if (const InodeId limit = limit_of(call); limit != 0 && inode.ino() == limit)
    inode.set_parent(limit);
}

void MetadataService::forget_limit_of(const std::string& node) {
  const pb::Node* revoked = nodes_.find(node);
  if (revoked == nullptr || revoked->root() == 0) return;
  const auto& all = nodes_.all();
  const bool needed = std::any_of(all.begin(), all.end(), [&](const auto& entry) {
    return entry.second.state() != pb::NODE_REVOKED && entry.second.root() == revoked->root();
  });
  if (!needed) limits_.forget(revoked->root());
}

// Of a node's record, for people; the directory may be gone.
std::string MetadataService::limit_path(InodeId limit) const {
  if (limit == 0) return "";
  auto path = directory_path(store_.begin(), limit);
  return path && !path.value().empty() ? std::move(path).value() : "(removed)";
}

result<InodeId> MetadataService::limit_for(const pb::NodeRequest& request, NodeRoles roles) const {
  if (request.directory().empty()) return InodeId{0};
  if (!may_be_limited(roles))
    return failure(Errc::invalid,
                   "--directory limits mounts: the only role beside it is mount or "
                   "mount-ro");
  TRY(const auto inode, resolve_path(store_.begin(), request.directory()));
  if (!S_ISDIR(inode.mode()))
    return failure(Error::posix(ENOTDIR, request.directory() + " is not a directory of the cloud"));
  if (inode.ino() == kRootInode)
    return failure(Errc::invalid, "/ is the whole cloud: leave --directory out");
  return InodeId{inode.ino()};
}

}  // namespace datacloud
