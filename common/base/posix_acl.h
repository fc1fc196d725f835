// POSIX access control lists (acl(5)) as the extended attributes in which kernel and programs
// exchange them, and the arithmetic between them and permission bits.
//
//     acl    := u32 2, entry*                         little-endian, 8 bytes an entry
//     entry  := u16 tag, u16 permissions, u32 id      id: of a named user or group, else 2^32 - 1
//     tag    := 1 owner, 2 named user, 4 owning group, 8 named group, 16 mask, 32 others
//
// Valid is what Linux takes (posix_acl_valid): one entry for owner, owning group and others each,
// in the order of the tags, at most one mask, and one where a user or group is named. The rules of
// creation and chmod are those of Linux too (posix_acl_create, posix_acl_chmod).
//
// Thread safety: functions of their arguments.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/error.h"

namespace datacloud {

inline constexpr std::string_view kAccessAclName = "system.posix_acl_access";
inline constexpr std::string_view kDefaultAclName = "system.posix_acl_default";
// More than a page is passed on by no FUSE mount: 511 entries.
inline constexpr size_t kAclBytesMax = 4096;
inline constexpr uint32_t kAclNoId = 0xffffffff;

enum class AclKind {
  access,      // who may do what with the inode
  defaulting,  // of a directory: what is made in it gets
};
// nullopt: the attribute is no ACL.
std::optional<AclKind> acl_kind(std::string_view name);
std::string_view acl_name(AclKind);

struct AclEntry {
  enum Tag : uint16_t { owner = 1, user = 2, owning_group = 4, group = 8, mask = 16, others = 32 };
  Tag tag = owner;
  uint16_t permissions = 0;  // of rwx: 4, 2, 1
  uint32_t id = kAclNoId;
  friend bool operator==(const AclEntry&, const AclEntry&) = default;
};

// An ACL without entries stands for none.
using PosixAcl = std::vector<AclEntry>;

// EINVAL: the bytes are no valid ACL; E2BIG: more than kAclBytesMax.
result<PosixAcl> parse_acl(std::string_view bytes);
std::string encode_acl(const PosixAcl&);

// The nine permission bits that belong to it: those of the group are the mask, where there is one.
uint32_t acl_mode(const PosixAcl&);
// It says no more than these bits do.
bool acl_is_minimal(const PosixAcl&);
// chmod: owner, mask (or owning group) and others become what the mode says.
void acl_follow_mode(PosixAcl&, uint32_t mode);
// A directory's default ACL becomes that of what is made there with `mode`: both keep what both
// permit. The new mode; other bits than the nine are as they were.
uint32_t acl_restrict_new(PosixAcl&, uint32_t mode);

}  // namespace datacloud
