// Flags of inodes, as in their records (docs/format-metadata.md, "Flags of inodes").
//
// Those that programs set (chattr(1), FS_IOC_SETFLAGS) have the numbers of linux/fs.h, need the
// feature "file-flags", and are enforced by the daemon, and by mounts where the kernel shows only
// them what a program wants.
#pragma once

#include <cstdint>

namespace datacloud {

inline constexpr uint32_t kInodeImmutable = 0x10;  // +i: nothing of it changes
inline constexpr uint32_t kInodeAppend = 0x20;     // +a: grows at its end; entries are only added
// Kept and shown, without effect here.
inline constexpr uint32_t kInodeNoDump = 0x40;
inline constexpr uint32_t kInodeNoAtime = 0x80;
inline constexpr uint32_t kInodeFlagsOfPrograms =
    kInodeImmutable | kInodeAppend | kInodeNoDump | kInodeNoAtime;
// What is made in a directory gets them from it, as on ext4.
inline constexpr uint32_t kInodeFlagsInherited = kInodeNoDump | kInodeNoAtime;

// Made without a name (O_TMPFILE), and never given one: a link may still give it its first. Such a
// file has no links, and its record of being an orphan. Not shown to programs.
inline constexpr uint32_t kInodeUnnamed = 1u << 31;

// Whether it has an ACL among its extended attributes (posix_acl.h), so that most inodes are known
// to have none without a look. Feature "posix-acl". Not shown to programs.
inline constexpr uint32_t kInodeAccessAcl = 1u << 28;
inline constexpr uint32_t kInodeDefaultAcl = 1u << 29;
inline constexpr uint32_t kInodeFlagsOfAcls = kInodeAccessAcl | kInodeDefaultAcl;

// Blocks of it are reserved (feature "reservations"): it has a record that says which. Not shown to
// programs.
inline constexpr uint32_t kInodeReserved = 1u << 30;

inline constexpr uint32_t kInodeFlagsKnown =
    kInodeFlagsOfPrograms | kInodeUnnamed | kInodeFlagsOfAcls | kInodeReserved;

}  // namespace datacloud
