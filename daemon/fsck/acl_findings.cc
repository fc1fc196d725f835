#include "daemon/fsck/acl_findings.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <string>
#include <string_view>

#include "common/base/inode_flags.h"
#include "common/base/posix_acl.h"
#include "daemon/records/inode_acls.h"

namespace datacloud {
namespace {

constexpr uint32_t kGroupBits = 070;

// Why the ACL cannot stay; empty: it can.
std::string why_not(AclKind kind, const result<PosixAcl>& acl, uint32_t mode) {
  if (!acl) return acl.error().text();
  if (acl.value().empty()) return "it has no entries";
  if (S_ISLNK(mode)) return "the inode is a symlink";
  if (kind == AclKind::defaulting && !S_ISDIR(mode)) return "the inode is no directory";
  if (kind == AclKind::access && acl_is_minimal(acl.value()))
    return "it says no more than the mode";
  return "";
}

}  // namespace

void check_acl(RecordPasses& p, const RecordSnapshot::Cursor& cursor, pb::Inode& inode,
               const std::optional<std::string>& raw, uint32_t& flags, uint64_t& count) {
  const std::string_view name = cursor.key().substr(key::xattr(inode.ino(), "").size());
  const auto kind = acl_kind(name);
  if (!kind) return;
  auto acl = parse_acl(cursor.value());
  if (const std::string why = why_not(*kind, acl, inode.mode()); !why.empty()) {
    --count;
    Finding finding{.kind = "namespace",
                    .text = fmt::format("{} of inode {}: {}", name, inode.ino(), why),
                    .action = "it is erased",
                    .records = {erased(cursor)}};
    if (*kind == AclKind::access && !acl && (inode.mode() & kGroupBits) != 0) {
      // These bits were its mask: what the group itself was granted nobody knows.
      inode.set_mode(inode.mode() & ~kGroupBits);
      inode.set_flags(inode.flags() & ~kInodeAccessAcl);
      finding.action = "it is erased, and the group may do nothing until the owner says so";
      finding.records.push_back(replaced(key::inode(inode.ino()), raw, inode.SerializeAsString()));
    }
    return p.add(std::move(finding));
  }
  flags |= acls::flag_of(*kind);
  if (*kind == AclKind::defaulting || acl_mode(acl.value()) == (inode.mode() & 0777)) return;
  acl_follow_mode(acl.value(), inode.mode());
  p.add({.kind = "namespace",
         .text = fmt::format("{} of inode {} and its mode {:o} differ", name, inode.ino(),
                             inode.mode() & 07777),
         .action = "owner, mask and others of the ACL become those of the mode",
         .records = {replaced(std::string(cursor.key()), std::string(cursor.value()),
                              encode_acl(acl.value()))}});
}

}  // namespace datacloud
