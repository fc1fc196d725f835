// Names, attributes, extended attributes: sessions and leases around namespace_ops.
//
// A change of a directory's entries is applied first; then other holders are told, and then the
// author gets the reply: whoever looks again sees the change. A change of an inode's attributes
// first recalls the leases of other holders (a writer among them has newer times) and is applied
// when they have answered; nobody else has to be told.
#include <sys/stat.h>

#include <algorithm>

#include "common/base/posix_acl.h"
#include "daemon/maintenance/maintenance.h"
#include "daemon/records/block_map.h"
#include "daemon/records/namespace_ops.h"
#include "daemon/service/service.h"

namespace datacloud {
namespace {

constexpr uint32_t kDirectoryItemsMax = 4096;
constexpr size_t kReplyBytesMax = 8u << 20;
constexpr uint32_t kBelowItemsMax = 4096;
constexpr int kBelowDepthMax = 32;

// The complete listings of subdirectories, and of theirs, in the order in which a program that
// walks through the tree comes to them, until one does not fit into what is left. A directory
// counts as one more. False: that is so.
result<bool> add_below(const Transaction& txn, pb::ReadDirReply& listing, size_t& left,
                       int depth_left) {
  for (const auto& item : listing.items()) {
    if (!S_ISDIR(item.entry().type()) || !item.has_inode()) continue;
    if (left < 2 || depth_left == 0) return false;
    pb::ReadDirRequest request;
    request.set_ino(item.entry().ino());
    request.set_count_max(static_cast<uint32_t>(left - 1));
    request.set_plus(true);
    TRY(auto below, read_directory(txn, request));
    if (!below.end()) return false;
    left -= 1 + static_cast<size_t>(below.items_size());
    auto* added = listing.add_below();
    added->set_ino(request.ino());
    *added->mutable_listing() = std::move(below);
    TRY(const bool all, add_below(txn, *added->mutable_listing(), left, depth_left - 1));
    if (!all) return false;
  }
  return true;
}

pb::Reply attr_reply(pb::Inode inode) {
  pb::Reply reply;
  *reply.mutable_attr()->mutable_inode() = std::move(inode);
  return reply;
}

}  // namespace

Answer MetadataService::lookup(const CallPtr& call) {
  const auto& request = call->request.lookup();
  TRY(auto inode, datacloud::lookup(store_.begin(), request.parent(), request.name()));
  const InodeId ino = inode.ino();
  const bool unwritten = show_unwritten(*call, inode);
  if (!unwritten && !admitted(call, ino, pb::LEASE_READ, LeaseTable::Wants::attributes)) {
    return later();
  }
  pb::Reply reply = attr_reply(std::move(inode));
  reply.mutable_attr()->set_lease(
      leases_.grant(call->session, ino, unwritten ? pb::LEASE_NONE : pb::LEASE_READ, false));
  reply.mutable_attr()->set_parent_lease(
      leases_.offer(call->session, request.parent(), pb::LEASE_READ));
  return std::optional(std::move(reply));
}

Answer MetadataService::setattr(const CallPtr& call) {
  const auto& request = call->request.setattr();
  TRY(check_sent_time(request.has_atime(), request.atime(), request.has_atime_ns(), time_range()));
  TRY(check_sent_time(request.has_mtime(), request.mtime(), request.has_mtime_ns(), time_range()));
  TRY(get_inode(store_.begin(), request.ino()));
  if (request.has_flags() && !features_.has(Feature::file_flags)) {
    return failure(Error::posix(EOPNOTSUPP,
                                "the cloud does not use file-flags; `datacloud feature "
                                "enable file-flags`"));
  }
  if (!admitted(call, request.ino(), pb::LEASE_NONE)) return later();
  Transaction txn = store_.begin();
  TRY(auto inode, set_attributes(txn, request));
  pb::Reply reply = attr_reply(std::move(inode));
  TRY(commit(std::move(txn), *call, reply));
  reply.mutable_attr()->set_lease(
      leases_.grant(call->session, request.ino(), pb::LEASE_READ, false));
  return std::optional(std::move(reply));
}

// A number of the mount's own is the same when the request is executed again. One that has been
// revoked meanwhile is as none.
bool MetadataService::is_number_of(const Call& call, const Transaction& txn, InodeId ino) const {
  return ranges_.inode_unused(call.session, ino) && !get_inode(txn, ino);
}

BirthTime MetadataService::birth_times() const {
  return features_.has(Feature::times) ? BirthTime::kept : BirthTime::unknown;
}

Answer MetadataService::create(const CallPtr& call) {
  const auto& request = call->request.create();
  Transaction txn = store_.begin();
  const bool has_number = is_number_of(*call, txn, request.ino());
  TRY(auto created,
      datacloud::create(txn, request, has_number ? request.ino() : inode_ids_.peek(txn),
                        birth_times()));
  const InodeId ino = created.inode.ino();
  const bool unwritten = created.existed && show_unwritten(*call, created.inode);
  if (created.existed && !unwritten &&
      !admitted(call, ino, pb::LEASE_READ, LeaseTable::Wants::attributes)) {
    return later();
  }
  if (request.open() && !leases_.has_room(call->session, ino)) {
    return failure(Error::posix(ENFILE, "too many leases; raise daemon.leases_max"));
  }
  const bool writer = !created.existed && S_ISREG(created.inode.mode());
  pb::Reply reply = attr_reply(std::move(created.inode));
  if (!created.existed) {
    TRY(commit(std::move(txn), *call, reply));
    has_number ? ranges_.inode_used(ino) : inode_ids_.take();
    if (request.unnamed()) maintenance_->file_removed(ino);  // freed when nobody holds it
    TRY(maintenance_->trees().created(store_.begin(), reply.attr().inode(), request.parent()));
  }
  auto* attr = reply.mutable_attr();
  const auto mode = writer ? pb::LEASE_WRITE : unwritten ? pb::LEASE_NONE : pb::LEASE_READ;
  attr->set_lease(leases_.grant(call->session, ino, mode, request.open()));
  if (request.unnamed()) return std::optional(std::move(reply));  // the directory is as it was
  attr->set_parent_lease(leases_.offer(call->session, request.parent(), pb::LEASE_READ));
  LeaseTable::NoticePtr notice;
  if (!created.existed) {
    leases_.notify(call->session, request.parent(), pb::LEASE_READ, {request.name()}, notice);
  }
  return after_notice(call, notice, std::move(reply));
}

// While the files below a directory that becomes a tree are being gathered, links of files that may
// be on either side of its border wait.
result<bool> MetadataService::held_by_conversion(const CallPtr& call,
                                                 const pb::LinkRequest& request) {
  auto& conversion = maintenance_->trees();
  if (!conversion.gathering()) return false;
  const Transaction txn = store_.begin();
  TRY(const auto inode, get_inode(txn, request.ino()));
  TRY(const auto parent, get_inode(txn, request.parent()));
  if (!S_ISDIR(parent.mode()) || S_ISDIR(inode.mode())) return false;
  TRY(const auto border, trees::link_border(txn, inode, parent, conversion.area()));
  if (border != trees::LinkBorder::unknown) return false;
  conversion.hold([this, call] {
    dispatch(call);
    pump();
  });
  return true;
}

Answer MetadataService::link(const CallPtr& call) {
  const auto& request = call->request.link();
  TRY(const auto before, get_inode(store_.begin(), request.ino()));
  TRY(const bool held, held_by_conversion(call, request));
  if (held || !admitted(call, request.ino(), pb::LEASE_NONE)) return later();
  Transaction txn = store_.begin();
  TRY(auto inode, datacloud::link(txn, request, maintenance_->trees().area()));
  pb::Reply reply = attr_reply(std::move(inode));
  TRY(commit(std::move(txn), *call, reply));
  if (before.nlink() == 0) maintenance_->file_named(request.ino());
  reply.mutable_attr()->set_lease(
      leases_.grant(call->session, request.ino(), pb::LEASE_READ, false));
  limits_.linked(store_.begin(), reply.attr().inode(), request.parent());
  LeaseTable::NoticePtr notice;
  leases_.notify(call->session, request.parent(), pb::LEASE_READ, {request.name()}, notice);
  return after_notice(call, notice, std::move(reply));
}

// An inode has lost a name: others forget its attributes, an orphan is freed when nobody holds it.
void MetadataService::notice_removed(SessionId author, const pb::Inode& inode,
                                     LeaseTable::NoticePtr& notice) {
  leases_.notify(author, inode.ino(), pb::LEASE_NONE, {}, notice);
  if (inode.nlink() == 0) maintenance_->file_removed(inode.ino());
}

Answer MetadataService::unlink(const CallPtr& call) {
  const auto& request = call->request.unlink();
  Transaction txn = store_.begin();
  TRY(auto removed, datacloud::unlink(txn, request, maintenance_->trees().area()));
  LeaseTable::NoticePtr notice;
  pb::Reply reply = attr_reply(std::move(removed));
  TRY(commit(std::move(txn), *call, reply));
  limits_.lost_name(store_.begin(), reply.attr().inode(), request.parent());
  leases_.notify(call->session, request.parent(), pb::LEASE_READ, {request.name()}, notice);
  notice_removed(call->session, reply.attr().inode(), notice);
  reply.mutable_attr()->set_lease(
      leases_.offer(call->session, reply.attr().inode().ino(), pb::LEASE_NONE));
  return after_notice(call, notice, std::move(reply));
}

Answer MetadataService::rename(const CallPtr& call) {
  const auto& request = call->request.rename();
  Transaction txn = store_.begin();
  const bool has_number = is_number_of(*call, txn, request.whiteout());
  const bool needs_number = (request.flags() & RENAME_WHITEOUT) && !has_number;
  TRY(auto renamed,
      datacloud::rename(txn, request, maintenance_->trees().area(),
                        needs_number ? inode_ids_.peek(txn) : request.whiteout(), birth_times()));
  pb::Reply reply;
  *reply.mutable_rename()->mutable_moved() = std::move(renamed.moved);
  if (renamed.replaced) *reply.mutable_rename()->mutable_replaced() = std::move(*renamed.replaced);
  TRY(commit(std::move(txn), *call, reply));
  if (renamed.whiteout) {
    needs_number ? inode_ids_.take() : ranges_.inode_used(request.whiteout());
    TRY(maintenance_->trees().created(store_.begin(), *renamed.whiteout, request.parent()));
  }
  renamed_within_limits(request, reply.rename());
  LeaseTable::NoticePtr notice;
  std::vector<std::string> names{request.name()};
  if (request.new_parent() == request.parent()) {
    names.push_back(request.new_name());
  } else {
    leases_.notify(call->session, request.new_parent(), pb::LEASE_READ, {request.new_name()},
                   notice);
  }
  leases_.notify(call->session, request.parent(), pb::LEASE_READ, std::move(names), notice);
  leases_.notify(call->session, reply.rename().moved().ino(), pb::LEASE_NONE, {}, notice);
  if (reply.rename().has_replaced()) {
    notice_removed(call->session, reply.rename().replaced(), notice);
  }
  return after_notice(call, notice, std::move(reply));
}

// Writers are not recalled for a listing: their files come without a lease, and whoever needs
// their true size looks them up.
Answer MetadataService::readdir(const CallPtr& call) {
  pb::ReadDirRequest request = call->request.readdir();
  if (request.count_max() == 0 || request.count_max() > kDirectoryItemsMax) {
    request.set_count_max(kDirectoryItemsMax);
  }
  pb::Reply reply;
  for (;;) {
    TRY(auto listing, read_directory(store_.begin(), request));
    *reply.mutable_readdir() = std::move(listing);
    if (reply.ByteSizeLong() <= kReplyBytesMax || request.count_max() == 1) break;
    request.set_count_max(request.count_max() / 2);
  }
  auto& listing = *reply.mutable_readdir();
  if (request.plus() && request.below_max() > 0) {
    const Transaction txn = store_.begin();
    size_t left = std::min(request.below_max(), kBelowItemsMax);
    TRY(const bool all, add_below(txn, listing, left, kBelowDepthMax));
    (void)all;
    if (reply.ByteSizeLong() > kReplyBytesMax) listing.clear_below();
  }
  offer_leases(*call, request.ino(), listing);
  return std::optional(std::move(reply));
}

// Nobody is disturbed: what another session writes, or waits for, comes without a lease.
void MetadataService::offer_leases(const Call& call, InodeId directory, pb::ReadDirReply& listing) {
  listing.set_lease(leases_.offer(call.session, directory, pb::LEASE_READ));
  for (auto& item : *listing.mutable_items()) {
    if (!item.has_inode()) continue;
    const InodeId ino = item.inode().ino();
    if (show_unwritten(call, *item.mutable_inode())) continue;
    if (!leases_.admits(call.session, ino, pb::LEASE_READ)) continue;
    item.set_lease(leases_.offer(call.session, ino, pb::LEASE_READ));
  }
  for (auto& below : *listing.mutable_below()) {
    offer_leases(call, below.ino(), *below.mutable_listing());
  }
}

Answer MetadataService::getxattr(const CallPtr& call) {
  return answer_apart(
      call, [request = call->request.getxattr()](const Transaction& txn) -> result<pb::Reply> {
        TRY(auto value, get_xattr(txn, request.ino(), request.name()));
        pb::Reply reply;
        reply.mutable_xattr()->set_value(std::move(value));
        return reply;
      });
}

Answer MetadataService::listxattr(const CallPtr& call) {
  return answer_apart(
      call, [ino = call->request.listxattr().ino()](const Transaction& txn) -> result<pb::Reply> {
        TRY(const auto names, list_xattrs(txn, ino));
        pb::Reply reply;
        for (const auto& name : names) reply.mutable_xattr()->add_names(name);
        return reply;
      });
}

Answer MetadataService::setxattr(const CallPtr& call) {
  const auto& request = call->request.setxattr();
  if (acl_kind(request.name()) && !features_.has(Feature::posix_acl)) {
    return failure(Error::posix(EOPNOTSUPP,
                                "the cloud does not use posix-acl; `datacloud feature enable "
                                "posix-acl`"));
  }
  if (!admitted(call, request.ino(), pb::LEASE_NONE)) return later();
  Transaction txn = store_.begin();
  TRY(auto inode, set_xattr(txn, request));
  pb::Reply reply = attr_reply(std::move(inode));
  TRY(commit(std::move(txn), *call, reply));
  reply.mutable_attr()->set_lease(
      leases_.grant(call->session, request.ino(), pb::LEASE_READ, false));
  return std::optional(std::move(reply));
}

Answer MetadataService::removexattr(const CallPtr& call) {
  const auto& request = call->request.removexattr();
  if (!admitted(call, request.ino(), pb::LEASE_NONE)) return later();
  Transaction txn = store_.begin();
  TRY(auto inode, remove_xattr(txn, request));
  pb::Reply reply = attr_reply(std::move(inode));
  TRY(commit(std::move(txn), *call, reply));
  reply.mutable_attr()->set_lease(
      leases_.grant(call->session, request.ino(), pb::LEASE_READ, false));
  return std::optional(std::move(reply));
}

}  // namespace datacloud
