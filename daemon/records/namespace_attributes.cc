// Attributes and extended attributes.
//
// Which bits a caller may change, and dropping set-user-id on chown, is the kernel's part
// (default_permissions); here changes are applied as they come. Attributes that are ACLs change
// with the mode (inode_acls.h).
#include <sys/stat.h>

#include <cerrno>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/inode_flags.h"
#include "common/proto/file_time.h"
#include "daemon/metadata/record_keys.h"
#include "daemon/records/inode_acls.h"
#include "daemon/records/namespace_ops.h"
#include "daemon/records/namespace_records.h"

namespace datacloud {
namespace {

using namespace names;

constexpr size_t kXattrNameBytesMax = 255;
constexpr size_t kXattrValueBytesMax = 65536;  // as the kernel (XATTR_SIZE_MAX)
// Of one inode. The first: with their NULs, as a listing that the kernel passes on
// (XATTR_LIST_MAX). The second bounds what one look at them reads.
constexpr size_t kXattrNamesBytesMax = 65536;
constexpr size_t kXattrValuesBytesMax = 16u << 20;
// So many are within both bounds whatever they are.
constexpr uint32_t kXattrsUncounted = 256;
static_assert(kXattrsUncounted * (kXattrNameBytesMax + 1) <= kXattrNamesBytesMax &&
              kXattrsUncounted * kXattrValueBytesMax <= kXattrValuesBytesMax);
constexpr uint32_t kXattrCreate = 1, kXattrReplace = 2;

result<void> check_xattr_name(const std::string& name) {
  if (name.empty() || name.size() > kXattrNameBytesMax || name.find('\0') != std::string::npos) {
    return failure(Error::posix(ERANGE, "an attribute name of " + std::to_string(name.size()) +
                                            " bytes; 1 to 255 are allowed"));
  }
  if (acl_kind(name)) return success();
  for (const std::string_view space : {"user.", "trusted.", "security."}) {
    if (!name.starts_with(space)) continue;
    if (name.size() > space.size()) return success();
    return failure(Error::posix(EINVAL, "an attribute name needs more than '" + name + "'"));
  }
  return failure(Error::posix(
      EOPNOTSUPP, "attribute " + name + ": only user., trusted., security. and ACLs are kept"));
}

Error no_attribute(InodeId ino, const std::string& name) {
  return Error::posix(ENODATA, "no attribute " + name + " on inode " + std::to_string(ino));
}

using XattrVisit = std::function<bool(std::string_view name, std::string_view value)>;
result<void> scan_xattrs(const Transaction& txn, InodeId ino, const XattrVisit& visit) {
  const std::string first = key::xattr(ino, "");
  return txn.scan(first, key::after_prefix(first), [&](std::string_view k, std::string_view value) {
    return visit(k.substr(first.size()), value);
  });
}

// ENOSPC: with the attribute the inode would have more than it may. `existing`: its value now.
result<void> check_room(const Transaction& txn, const pb::Inode& inode, const std::string& name,
                        size_t value_bytes, const std::optional<std::string>& existing) {
  const uint32_t count = inode.xattr_count() + (existing ? 0 : 1);
  if (count <= kXattrsUncounted) return success();
  size_t names = existing ? 0 : name.size() + 1;
  size_t values = value_bytes - (existing ? existing->size() : 0);  // modulo 2^64
  TRY(scan_xattrs(txn, inode.ino(), [&](std::string_view known, std::string_view value) {
    names += known.size() + 1;
    values += value.size();
    return true;
  }));
  if (names <= kXattrNamesBytesMax && values <= kXattrValuesBytesMax) return success();
  return failure(Error::posix(
      ENOSPC, "inode " + std::to_string(inode.ino()) +
                  " has no room for another attribute: the names of all may have 64 KiB, their "
                  "values 16 MiB"));
}

// The caller puts the inode.
void drop_xattr(Transaction& txn, pb::Inode& inode, const std::string& name) {
  txn.erase(key::xattr(inode.ino(), name));
  inode.set_xattr_count(inode.xattr_count() - 1);
  if (const auto kind = acl_kind(name)) inode.set_flags(inode.flags() & ~acls::flag_of(*kind));
}

}  // namespace

result<pb::Inode> set_attributes(Transaction& txn, const pb::SetAttrRequest& request) {
  TRY(auto inode, get_inode(txn, request.ino()));
  const bool owns = request.has_mode() || request.has_uid() || request.has_gid();
  if (!request.has_flags() || owns) {
    TRY(owns ? check_no_flags(inode) : check_not_immutable(inode));
  }
  if (request.has_flags()) {
    if ((request.flags() & ~kInodeFlagsOfPrograms) ||
        !(S_ISREG(inode.mode()) || S_ISDIR(inode.mode()))) {
      return failure(
          Error::posix(EOPNOTSUPP, "these flags of inode " + std::to_string(inode.ino())));
    }
    inode.set_flags((inode.flags() & ~kInodeFlagsOfPrograms) | request.flags());
  }
  if (request.has_mode()) {
    inode.set_mode((inode.mode() & S_IFMT) | (request.mode() & 07777));
    TRY(acls::follow_mode(txn, inode));
  }
  if (request.has_uid()) inode.set_uid(request.uid());
  if (request.has_gid()) inode.set_gid(request.gid());
  take_atime(request, inode);
  take_mtime(request, inode);
  set_ctime(inode, from_ns(request.ctime_ns()));
  put_inode(txn, inode);
  return inode;
}

result<std::string> get_xattr(const Transaction& txn, InodeId ino, const std::string& name) {
  TRY(check_xattr_name(name));
  TRY(const auto inode, get_inode(txn, ino));
  if (inode.xattr_count() == 0) return failure(no_attribute(ino, name));
  TRY(auto value, txn.get(key::xattr(ino, name)));
  if (!value) return failure(no_attribute(ino, name));
  return std::move(*value);
}

result<std::vector<std::string>> list_xattrs(const Transaction& txn, InodeId ino) {
  TRY(const auto inode, get_inode(txn, ino));
  std::vector<std::string> names;
  if (inode.xattr_count() == 0) return names;
  TRY(scan_xattrs(txn, ino, [&](std::string_view name, std::string_view) {
    names.emplace_back(name);
    return true;
  }));
  return names;
}

result<bool> erase_xattrs(Transaction& txn, pb::Inode& inode, uint32_t count_max,
                          size_t bytes_max) {
  std::vector<std::string> names;
  size_t bytes = 0;
  bool all = true;
  TRY(scan_xattrs(txn, inode.ino(), [&](std::string_view name, std::string_view value) {
    if (names.size() >= count_max || bytes >= bytes_max) return all = false;
    names.emplace_back(name);
    bytes += name.size() + value.size();
    return true;
  }));
  for (const auto& name : names) drop_xattr(txn, inode, name);
  return all;
}

result<pb::Inode> set_xattr(Transaction& txn, const pb::SetXattrRequest& request) {
  TRY(check_xattr_name(request.name()));
  if (request.flags() & ~(kXattrCreate | kXattrReplace)) {
    return failure(Error::posix(EINVAL, "setxattr flags " + std::to_string(request.flags())));
  }
  if (request.value().size() > kXattrValueBytesMax) {
    return failure(Error::posix(E2BIG, "attribute " + request.name() + ": more than 64 KiB"));
  }
  TRY(auto inode, get_inode(txn, request.ino()));
  TRY(check_no_flags(inode));
  const std::string key = key::xattr(request.ino(), request.name());
  TRY(const auto existing, txn.get(key));
  if (existing && (request.flags() & kXattrCreate)) {
    return failure(Error::posix(EEXIST, "attribute " + request.name()));
  }
  if (!existing && (request.flags() & kXattrReplace)) {
    return failure(no_attribute(request.ino(), request.name()));
  }
  std::optional<std::string> value = request.value();
  const auto acl = acl_kind(request.name());
  if (acl) {
    TRY(value, acls::accepted(inode, *acl, request.value()));
    if (*acl == AclKind::access && request.drop_set_group_id())
      inode.set_mode(inode.mode() & ~static_cast<uint32_t>(S_ISGID));
  }
  // As on ext4, setting what is there already is no change and leaves ctime alone.
  if (!acl && existing && *existing == *value) return inode;
  if (value) {
    TRY(check_room(txn, inode, request.name(), value->size(), existing));
    txn.put(key, *value);
    if (!existing) inode.set_xattr_count(inode.xattr_count() + 1);
    if (acl) inode.set_flags(inode.flags() | acls::flag_of(*acl));
  } else if (existing) {
    drop_xattr(txn, inode, request.name());
  }
  set_ctime(inode, from_ns(request.now_ns()));
  put_inode(txn, inode);
  return inode;
}

result<pb::Inode> remove_xattr(Transaction& txn, const pb::RemoveXattrRequest& request) {
  TRY(check_xattr_name(request.name()));
  TRY(auto inode, get_inode(txn, request.ino()));
  TRY(check_no_flags(inode));
  const std::string key = key::xattr(request.ino(), request.name());
  TRY(const auto existing, txn.get(key));
  if (!existing) return failure(no_attribute(request.ino(), request.name()));
  drop_xattr(txn, inode, request.name());
  set_ctime(inode, from_ns(request.now_ns()));
  put_inode(txn, inode);
  return inode;
}

}  // namespace datacloud
