// Attributes and extended attributes.
//
// Which bits a caller may change, and dropping set-user-id on chown, is the kernel's part
// (default_permissions); here changes are applied as they come.
#include <sys/stat.h>

#include <cerrno>

#include "common/base/inode_flags.h"
#include "common/proto/file_time.h"
#include "daemon/metadata/record_keys.h"
#include "daemon/records/namespace_ops.h"
#include "daemon/records/namespace_records.h"

namespace datacloud {
namespace {

using namespace names;

constexpr size_t kXattrNameBytesMax = 255;
constexpr size_t kXattrValueBytesMax = 65536;  // as the kernel (XATTR_SIZE_MAX)
// With names of at most 255 bytes a listing then fits the kernel's 64 KiB.
constexpr uint32_t kXattrsMax = 256;
constexpr uint32_t kXattrCreate = 1, kXattrReplace = 2;

result<void> check_xattr_name(const std::string& name) {
  if (name.empty() || name.size() > kXattrNameBytesMax || name.find('\0') != std::string::npos) {
    return failure(Error::posix(ERANGE, "an attribute name of " + std::to_string(name.size()) +
                                            " bytes; 1 to 255 are allowed"));
  }
  for (const std::string_view space : {"user.", "trusted.", "security."}) {
    if (!name.starts_with(space)) continue;
    if (name.size() > space.size()) return success();
    return failure(Error::posix(EINVAL, "an attribute name needs more than '" + name + "'"));
  }
  return failure(Error::posix(
      EOPNOTSUPP, "attribute " + name + ": only user., trusted. and security. are kept"));
}

Error no_attribute(InodeId ino, const std::string& name) {
  return Error::posix(ENODATA, "no attribute " + name + " on inode " + std::to_string(ino));
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
  if (request.has_mode()) inode.set_mode((inode.mode() & S_IFMT) | (request.mode() & 07777));
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
  const std::string first = key::xattr(ino, "");
  TRY(txn.scan(first, key::after_prefix(first), [&](std::string_view k, std::string_view) {
    names.emplace_back(k.substr(first.size()));
    return names.size() < kXattrsMax;
  }));
  return names;
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
  if (!existing && inode.xattr_count() >= kXattrsMax) {
    return failure(Error::posix(ENOSPC, "inode " + std::to_string(request.ino()) + " has " +
                                            std::to_string(kXattrsMax) + " attributes already"));
  }
  // As on ext4, setting what is there already is no change and leaves ctime alone.
  if (existing && *existing == request.value()) return inode;
  txn.put(key, request.value());
  if (!existing) inode.set_xattr_count(inode.xattr_count() + 1);
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
  txn.erase(key);
  inode.set_xattr_count(inode.xattr_count() - 1);
  set_ctime(inode, from_ns(request.now_ns()));
  put_inode(txn, inode);
  return inode;
}

}  // namespace datacloud
