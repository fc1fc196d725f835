// Extended attributes. An inode without any (the rule) answers from its attributes: the kernel asks
// for security.capability at every write. What the daemon has answered of others stays here
// (xattr_cache.h).
//
// ACLs are asked for by the kernel at every check of permissions for which it does not have them
// cached. Flags of the inode say whether there is one.
#include <sys/xattr.h>

#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "common/base/inode_flags.h"
#include "common/base/posix_acl.h"
#include "fs/fuse/ops.h"
#include "fs/fuse/raw/kernel_channel.h"
#include "fs/fuse/reply.h"

namespace datacloud {
namespace {

constexpr std::array kPrefixes = {"user.", "trusted.", "security."};

// What the file systems of the kernel answer before they look.
int name_error(std::string_view name) {
  for (const std::string_view prefix : kPrefixes)
    if (name.starts_with(prefix)) return name.size() > prefix.size() ? 0 : EINVAL;
  return EOPNOTSUPP;
}

// Whether the inode is known, under a lease, to have no extended attributes.
result<bool> known_empty(Mount& mount, fuse_ino_t ino) {
  TRY(auto inode, known_inode(mount, ino));
  TRY(mount.metadata().ensure_lease(inode, pb::LEASE_READ, false));
  std::lock_guard lock(inode->mutex);
  return inode->attr.xattr_count() == 0;
}

void reply_value(fuse_req_t req, const std::string& value, size_t size) {
  if (size == 0)
    fuse_reply_xattr(req, value.size());
  else if (value.size() > size)
    fuse_reply_err(req, ERANGE);
  else
    fuse_reply_buf(req, value.data(), value.size());
}

uint32_t flag_of(AclKind kind) {
  return kind == AclKind::access ? kInodeAccessAcl : kInodeDefaultAcl;
}

Error no_attribute(const Inode& inode, const std::string& name) {
  return Error::posix(ENODATA, "no attribute " + name + " on inode " + std::to_string(inode.ino));
}

std::string shown(const Owners& owners, const std::string& name, const std::string& value) {
  if (!acl_kind(name)) return value;
  auto acl = parse_acl(value);
  return acl ? owners.shown_acl(std::move(acl.value())) : value;  // the kernel refuses it
}

// As the kernel takes it; ENODATA.
result<std::string> find_xattr(Mount& mount, const InodePtr& inode, const std::string& name) {
  uint64_t session = 0;
  bool leased = false;
  const auto holds = [&] { return mount.metadata().holds(*inode, pb::LEASE_READ); };
  {
    std::lock_guard lock(inode->mutex);
    leased = holds() && !inode->recalling;
    session = inode->lease_session;
  }
  std::optional<XattrCache::Known> known;
  if (leased) known = mount.xattrs().find(inode->ino, name, session);
  if (!known) {
    const uint64_t begun = mount.xattrs().begin();
    pb::Request request;
    request.mutable_getxattr()->set_ino(inode->ino);
    request.mutable_getxattr()->set_name(name);
    auto answer = mount.metadata().call(std::move(request));
    if (!answer && answer.error().errno_value() != ENODATA) return failure(answer.error());
    known.emplace();
    if (answer) known->value = shown(mount.owners(), name, answer.value().reply.xattr().value());
    std::lock_guard lock(inode->mutex);
    if (leased && holds() && inode->lease_session == session)
      mount.xattrs().keep(begun, inode->ino, name, session, *known);
  }
  if (!known->value) return failure(no_attribute(*inode, name));
  return std::move(*known->value);
}

bool has_acl(Inode& inode, AclKind kind) {
  std::lock_guard lock(inode.mutex);
  return inode.attr.flags() & flag_of(kind);
}

// Of an inode whose attributes are true.
void reply_found(fuse_req_t req, const InodePtr& inode, const std::string& name, size_t size) {
  const auto kind = acl_kind(name);
  if (kind && !has_acl(*inode, *kind)) return (void)fuse_reply_err(req, ENODATA);
  auto value = find_xattr(mount_of(req), inode, name);
  if (!value) return reply_error(req, value.error());
  reply_value(req, value.value(), size);
}

// Who only looks at the mount point, as df(1) does, waits for no daemon that does not answer: that
// the root has no ACL is then taken from what was known last, as its attributes are
// (ops_lookup.cc).
constexpr auto kRootAclPatience = seconds(2);

void get_acl_of_root(fuse_req_t req, AclKind kind, size_t size) {
  Mount& mount = mount_of(req);
  const InodePtr known = mount.table().find(mount.root());
  mount.metadata().ask(lease_request(mount.root(), pb::LEASE_READ, false), kRootAclPatience,
                       [&mount, req, known, kind, size](result<MetadataClient::Answer> answer) {
                         const InodePtr inode =
                             answer && answer.value().inode ? answer.value().inode : known;
                         if (!inode) return (void)fuse_reply_err(req, EIO);
                         if (!has_acl(*inode, kind)) return (void)fuse_reply_err(req, ENODATA);
                         mount.later([req, inode, kind, size] {
                           reply_found(req, inode, std::string(acl_name(kind)), size);
                         });
                       });
}

bool attributes_are_true(Mount& mount, Inode& inode) {
  std::lock_guard lock(inode.mutex);
  return inode.attr_known && !inode.attr_stale && mount.metadata().holds(inode, pb::LEASE_READ);
}

// ENODATA also in a cloud without the feature: the kernel hands other errors to whoever walks
// through a directory.
void get_acl(fuse_req_t req, fuse_ino_t ino, AclKind kind, size_t size) {
  Mount& mount = mount_of(req);
  auto inode = known_inode(mount, ino);
  if (!inode) return reply_error(req, inode.error());
  if (ino == mount.root() && !attributes_are_true(mount, *inode.value()))
    return get_acl_of_root(req, kind, size);
  if (auto held = mount.metadata().ensure_lease(inode.value(), pb::LEASE_READ, false); !held)
    return reply_error(req, held.error());
  reply_found(req, inode.value(), std::string(acl_name(kind)), size);
}

void op_getxattr(fuse_req_t req, fuse_ino_t ino, const char* name, size_t size) {
  if (const auto kind = acl_kind(name)) return get_acl(req, ino, *kind, size);
  auto empty = known_empty(mount_of(req), ino);
  if (!empty) return reply_error(req, empty.error());
  if (const int error = name_error(name)) return (void)fuse_reply_err(req, error);
  const InodePtr inode = empty.value() ? nullptr : mount_of(req).table().find(ino);
  if (!inode) return (void)fuse_reply_err(req, ENODATA);
  reply_found(req, inode, name, size);
}

void op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size) {
  auto empty = known_empty(mount_of(req), ino);
  if (!empty) return reply_error(req, empty.error());
  std::string names;
  if (!empty.value()) {
    pb::Request request;
    request.mutable_listxattr()->set_ino(ino);
    auto answer = mount_of(req).metadata().call(std::move(request));
    if (!answer) return reply_error(req, answer.error());
    // As on other file systems, only root sees what only root may read.
    const bool root = fuse_req_ctx(req)->uid == 0;
    for (const auto& name : answer.value().reply.xattr().names())
      if (root || !name.starts_with("trusted.")) names += name + '\0';
  }
  reply_value(req, names, size);
}

// The number of attributes and ctime change at the daemon: the copy here is no longer true.
result<void> change(Mount& mount, fuse_ino_t ino, pb::Request request) {
  TRY(auto inode, known_inode(mount, ino));
  auto made = mount.metadata().call(std::move(request));
  mount.xattrs().forget(ino);  // failed or not: perhaps it was made
  TRY(auto answer, std::move(made));
  mount.table().mark_stale(inode->ino, answer.reply.sequence(), mount.metadata().session());
  return success();
}

result<std::string> acl_to_keep(Mount& mount, std::string_view value) {
  TRY(auto acl, parse_acl(value));
  return mount.owners().kept_acl(std::move(acl));
}

void op_setxattr(fuse_req_t req, fuse_ino_t ino, const char* name, const char* value, size_t size,
                 int flags) {
  pb::Request request;
  auto* set = request.mutable_setxattr();
  set->set_ino(ino);
  set->set_name(name);
  if (acl_kind(name)) {
    auto kept = acl_to_keep(mount_of(req), {value, size});
    if (!kept) return reply_error(req, kept.error());
    set->set_value(std::move(kept.value()));
    set->set_drop_set_group_id(KernelChannel::kills_set_group_id());
  } else {
    set->set_value(value, size);
  }
  set->set_flags(static_cast<uint32_t>(flags));
  set->set_now_ns(wall_now_ns());
  reply_result(req, change(mount_of(req), ino, std::move(request)));
}

void op_removexattr(fuse_req_t req, fuse_ino_t ino, const char* name) {
  pb::Request request;
  auto* remove = request.mutable_removexattr();
  remove->set_ino(ino);
  remove->set_name(name);
  remove->set_now_ns(wall_now_ns());
  const auto done = change(mount_of(req), ino, std::move(request));
  // As on other file systems, removing an ACL that is not there succeeds.
  if (!done && acl_kind(name) && done.error().errno_value() == ENODATA)
    return (void)fuse_reply_err(req, 0);
  reply_result(req, done);
}

}  // namespace

void add_xattr_operations(fuse_lowlevel_ops& ops) {
  ops.getxattr = op_getxattr;
  ops.listxattr = op_listxattr;
  ops.setxattr = op_setxattr;
  ops.removexattr = op_removexattr;
}

}  // namespace datacloud
