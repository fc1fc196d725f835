#include "common/base/posix_acl.h"

#include <algorithm>
#include <cerrno>

namespace datacloud {
namespace {

constexpr uint32_t kAclVersion = 2;
constexpr size_t kAclHeaderBytes = 4, kAclEntryBytes = 8;
constexpr uint32_t kAclPermissions = 7;

uint32_t little_endian(std::string_view bytes, size_t at, size_t count) {
  uint32_t value = 0;
  for (size_t i = count; i-- > 0;) value = value << 8 | static_cast<uint8_t>(bytes[at + i]);
  return value;
}

void append_little_endian(std::string& out, uint32_t value, size_t count) {
  for (size_t i = 0; i < count; ++i) out.push_back(static_cast<char>(value >> (8 * i)));
}

Error bad_acl(const char* what) {
  return Error::posix(EINVAL, std::string("no valid POSIX ACL: ") + what);
}

bool is_named(AclEntry::Tag tag) { return tag == AclEntry::user || tag == AclEntry::group; }

AclEntry* entry_of(PosixAcl& acl, AclEntry::Tag tag) {
  const auto it =
      std::find_if(acl.begin(), acl.end(), [&](const AclEntry& entry) { return entry.tag == tag; });
  return it != acl.end() ? &*it : nullptr;
}

// The entry that limits the group's bits of the mode.
AclEntry* group_class(PosixAcl& acl) {
  AclEntry* const mask = entry_of(acl, AclEntry::mask);
  return mask != nullptr ? mask : entry_of(acl, AclEntry::owning_group);
}

result<void> check_entries(const PosixAcl& acl) {
  size_t counts[33] = {};
  AclEntry::Tag last = AclEntry::owner;
  for (const auto& entry : acl) {
    if (entry.permissions > kAclPermissions) return failure(bad_acl("a permission beside rwx"));
    if (entry.tag < last) return failure(bad_acl("entries are out of order"));
    if (is_named(entry.tag) && entry.id == kAclNoId)
      return failure(bad_acl("an entry names nobody"));
    last = entry.tag;
    ++counts[entry.tag];
  }
  for (const auto tag : {AclEntry::owner, AclEntry::owning_group, AclEntry::others})
    if (counts[tag] != 1)
      return failure(bad_acl("owner, owning group and others need one entry each"));
  if (counts[AclEntry::mask] > 1) return failure(bad_acl("two masks"));
  if (counts[AclEntry::user] + counts[AclEntry::group] > 0 && counts[AclEntry::mask] == 0)
    return failure(bad_acl("named entries need a mask"));
  return success();
}

}  // namespace

std::optional<AclKind> acl_kind(std::string_view name) {
  if (name == kAccessAclName) return AclKind::access;
  if (name == kDefaultAclName) return AclKind::defaulting;
  return std::nullopt;
}

std::string_view acl_name(AclKind kind) {
  return kind == AclKind::access ? kAccessAclName : kDefaultAclName;
}

result<PosixAcl> parse_acl(std::string_view bytes) {
  if (bytes.size() > kAclBytesMax)
    return failure(Error::posix(E2BIG, "a POSIX ACL of more than 511 entries"));
  if (bytes.size() < kAclHeaderBytes || (bytes.size() - kAclHeaderBytes) % kAclEntryBytes != 0)
    return failure(bad_acl("its length is none"));
  if (little_endian(bytes, 0, 4) != kAclVersion) return failure(bad_acl("its version is not 2"));
  PosixAcl acl;
  for (size_t at = kAclHeaderBytes; at < bytes.size(); at += kAclEntryBytes) {
    const uint32_t tag = little_endian(bytes, at, 2);
    switch (tag) {
      case AclEntry::owner:
      case AclEntry::user:
      case AclEntry::owning_group:
      case AclEntry::group:
      case AclEntry::mask:
      case AclEntry::others:
        break;
      default:
        return failure(bad_acl("an unknown kind of entry"));
    }
    AclEntry entry{static_cast<AclEntry::Tag>(tag),
                   static_cast<uint16_t>(little_endian(bytes, at + 2, 2)), kAclNoId};
    // The id of the others means nothing, whatever a program has left there.
    if (is_named(entry.tag)) entry.id = little_endian(bytes, at + 4, 4);
    acl.push_back(entry);
  }
  if (acl.empty()) return acl;
  TRY(check_entries(acl));
  return acl;
}

std::string encode_acl(const PosixAcl& acl) {
  std::string out;
  out.reserve(kAclHeaderBytes + acl.size() * kAclEntryBytes);
  append_little_endian(out, kAclVersion, 4);
  for (const auto& entry : acl) {
    append_little_endian(out, entry.tag, 2);
    append_little_endian(out, entry.permissions, 2);
    append_little_endian(out, entry.id, 4);
  }
  return out;
}

uint32_t acl_mode(const PosixAcl& acl) {
  uint32_t mode = 0;
  for (const auto& entry : acl) {
    if (entry.tag == AclEntry::owner) mode |= uint32_t{entry.permissions} << 6;
    if (entry.tag == AclEntry::others) mode |= entry.permissions;
    // The mask, if there is one, comes after the owning group.
    if (entry.tag == AclEntry::owning_group || entry.tag == AclEntry::mask)
      mode = (mode & ~uint32_t{070}) | uint32_t{entry.permissions} << 3;
  }
  return mode;
}

bool acl_is_minimal(const PosixAcl& acl) {
  return std::none_of(acl.begin(), acl.end(), [](const AclEntry& entry) {
    return is_named(entry.tag) || entry.tag == AclEntry::mask;
  });
}

void acl_follow_mode(PosixAcl& acl, uint32_t mode) {
  if (acl.empty()) return;
  entry_of(acl, AclEntry::owner)->permissions = mode >> 6 & kAclPermissions;
  group_class(acl)->permissions = mode >> 3 & kAclPermissions;
  entry_of(acl, AclEntry::others)->permissions = mode & kAclPermissions;
}

uint32_t acl_restrict_new(PosixAcl& acl, uint32_t mode) {
  if (acl.empty()) return mode;
  entry_of(acl, AclEntry::owner)->permissions &= mode >> 6;
  group_class(acl)->permissions &= mode >> 3;
  entry_of(acl, AclEntry::others)->permissions &= mode;
  return (mode & ~uint32_t{0777}) | acl_mode(acl);
}

}  // namespace datacloud
