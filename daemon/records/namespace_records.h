// What the namespace operations share: reading and writing inodes and entries.
//
// Invariant kept by add_entry and remove_entry: an entry and its cookie record exist together and
// name each other.
#pragma once

#include <optional>
#include <string>

#include "common/proto/records.pb.h"
#include "daemon/metadata/metadata_store.h"
#include "daemon/records/namespace_ops.h"

namespace datacloud::names {

inline constexpr size_t kNameBytesMax = 255;
inline constexpr uint32_t kLinksMax = 65000;             // of one file, as ext4
inline constexpr uint64_t kDirectorySize = 4096;         // what stat shows, as ext4
inline constexpr uint64_t kFirstCookie = 3;              // 1 and 2 are "." and ".."
inline constexpr uint32_t kDirectoryDepthMax = 1 << 20;  // bounds every walk to the root

bool is_directory(const pb::Inode&);

// A record that cannot be used would be misread further on: corrupt, naming it and fsck.
result<void> validate_record(InodeId, const pb::Inode&);
// Its two halves, for fsck, which mends them in different ways. The first: the id it is stored
// under, a type stat knows, a root that is a directory.
bool validate_inode(InodeId, const pb::Inode&);
// Files and directories: a power of two within the bounds of blocks.
bool has_block_size(const pb::Inode&);
bool has_shard_size(const pb::Inode&);  // one that is none counts as 4 MiB

// EPERM: +i, or +a, forbids it.
result<void> check_not_immutable(const pb::Inode&);
result<void> check_no_flags(const pb::Inode&);  // neither of both

// ENOENT, ENAMETOOLONG, EINVAL: a name that can stand in a directory.
result<void> check_name(const std::string& name);
result<pb::Inode> get_directory(const Transaction&, InodeId);  // ENOENT, ENOTDIR
// ENOENT also when it was removed: nothing can be added to it any more.
result<pb::Inode> get_live_directory(const Transaction&, InodeId);

// True when `ancestor` is `directory` or above it.
result<bool> is_at_or_above(const Transaction&, InodeId ancestor, InodeId directory);

result<std::optional<pb::Entry>> find_entry(const Transaction&, InodeId parent,
                                            const std::string& name);
result<pb::Entry> get_entry(const Transaction&, InodeId parent, const std::string& name);  // ENOENT
result<bool> has_entries(const Transaction&, InodeId directory);

void put_inode(Transaction&, const pb::Inode&);
// Adds `name` under the directory's next cookie; changes `directory` (the caller puts it).
void add_entry(Transaction&, pb::Inode& directory, const std::string& name, const pb::Inode& child);
// Adds an entry that was just removed from the same directory under another name: its cookie stays.
void rename_entry(Transaction&, pb::Inode& directory, const std::string& name, pb::Entry entry,
                  const pb::Inode& child);
// Lets an existing name stand for another inode; its cookie stays.
void replace_entry(Transaction&, InodeId directory, const std::string& name, pb::Entry entry,
                   const pb::Inode& child);
void remove_entry(Transaction&, InodeId directory, const std::string& name, const pb::Entry&);

// The character device 0:0 that RENAME_WHITEOUT leaves behind, for the caller to give its name.
result<pb::Inode> make_whiteout(Transaction&, const pb::Inode& parent, const pb::RenameRequest&,
                                InodeId, BirthTime);

// mtime and ctime of a directory whose entries changed.
void touch_directory(pb::Inode& directory, int64_t now_ns);
void add_links(pb::Inode&, int change);
// One name less: link count, ctime, and the orphan record when it was the last.
void drop_name(Transaction&, pb::Inode&, int64_t now_ns);

}  // namespace datacloud::names
