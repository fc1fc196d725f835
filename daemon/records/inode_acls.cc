#include "daemon/records/inode_acls.h"

#include <sys/stat.h>

#include <cerrno>

#include "common/base/inode_flags.h"
#include "daemon/metadata/record_keys.h"

namespace datacloud::acls {
namespace {

constexpr uint32_t kPermissionBits = 0777;

result<PosixAcl> stored_acl(const Transaction& txn, const pb::Inode& inode, AclKind kind) {
  const std::string name(acl_name(kind));
  TRY(const auto value, txn.get(key::xattr(inode.ino(), name)));
  auto acl = value ? parse_acl(*value) : result<PosixAcl>(PosixAcl());
  if (!acl || acl.value().empty()) {
    return failure(Errc::corrupt, "inode " + std::to_string(inode.ino()) + " has no usable " +
                                      name + " though it should; run datacloud fsck");
  }
  return acl;
}

void store_acl(Transaction& txn, pb::Inode& inode, AclKind kind, const PosixAcl& acl) {
  txn.put(key::xattr(inode.ino(), std::string(acl_name(kind))), encode_acl(acl));
  if (inode.flags() & flag_of(kind)) return;
  inode.set_flags(inode.flags() | flag_of(kind));
  inode.set_xattr_count(inode.xattr_count() + 1);
}

}  // namespace

uint32_t flag_of(AclKind kind) {
  return kind == AclKind::access ? kInodeAccessAcl : kInodeDefaultAcl;
}

result<std::optional<std::string>> accepted(pb::Inode& inode, AclKind kind,
                                            const std::string& value) {
  const std::string ino = std::to_string(inode.ino());
  if (S_ISLNK(inode.mode())) return failure(Error::posix(EOPNOTSUPP, "an ACL of symlink " + ino));
  TRY(const auto acl, parse_acl(value));
  std::optional<std::string> out;
  if (kind == AclKind::defaulting) {
    if (!acl.empty() && !S_ISDIR(inode.mode()))
      return failure(Error::posix(EACCES, "a default ACL of inode " + ino + ", no directory"));
    if (!acl.empty()) out = encode_acl(acl);
    return out;
  }
  if (acl.empty()) return out;
  inode.set_mode((inode.mode() & ~kPermissionBits) | acl_mode(acl));
  if (!acl_is_minimal(acl)) out = encode_acl(acl);
  return out;
}

result<void> follow_mode(Transaction& txn, const pb::Inode& inode) {
  if (!(inode.flags() & kInodeAccessAcl)) return success();
  TRY(auto acl, stored_acl(txn, inode, AclKind::access));
  if (acl_mode(acl) == (inode.mode() & kPermissionBits)) return success();
  acl_follow_mode(acl, inode.mode());
  txn.put(key::xattr(inode.ino(), std::string(kAccessAclName)), encode_acl(acl));
  return success();
}

result<void> inherit(Transaction& txn, const pb::Inode& parent, std::optional<uint32_t> umask,
                     pb::Inode& inode) {
  if (S_ISLNK(inode.mode())) return success();
  if (!(parent.flags() & kInodeDefaultAcl)) {
    if (umask) inode.set_mode(inode.mode() & ~(*umask & kPermissionBits));
    return success();
  }
  TRY(const auto given, stored_acl(txn, parent, AclKind::defaulting));
  PosixAcl access = given;
  inode.set_mode(acl_restrict_new(access, inode.mode()));
  if (!acl_is_minimal(access)) store_acl(txn, inode, AclKind::access, access);
  if (S_ISDIR(inode.mode())) store_acl(txn, inode, AclKind::defaulting, given);
  return success();
}

}  // namespace datacloud::acls
