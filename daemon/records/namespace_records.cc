// Inode and entry records of the namespace operations.
#include "daemon/records/namespace_records.h"

#include <sys/stat.h>

#include <cerrno>

#include "common/base/inode_flags.h"
#include "common/crypto/sealed_block.h"
#include "common/proto/file_time.h"
#include "common/stripe/shard_size.h"
#include "daemon/metadata/record_keys.h"
#include "daemon/records/namespace_ops.h"

namespace datacloud::names {

bool is_directory(const pb::Inode& inode) { return S_ISDIR(inode.mode()); }

bool validate_inode(InodeId ino, const pb::Inode& inode) {
  if (inode.ino() != ino) return false;
  switch (inode.mode() & S_IFMT) {
    case S_IFDIR:
      return true;
    case S_IFREG:
    case S_IFLNK:
    case S_IFCHR:
    case S_IFBLK:
    case S_IFIFO:
    case S_IFSOCK:
      return ino != kRootInode;
    default:
      return false;
  }
}

bool has_block_size(const pb::Inode& inode) {
  if (!S_ISREG(inode.mode()) && !S_ISDIR(inode.mode())) return true;
  const uint32_t bytes = inode.policy().block_bytes();
  return bytes >= kBlockBytesMin && bytes <= kBlockBytesMax && (bytes & (bytes - 1)) == 0;
}

bool has_shard_size(const pb::Inode& inode) {
  const uint32_t bytes = inode.policy().shard_bytes();
  return is_recorded_shard_bytes(bytes) && inode.policy().block_bytes() <= shard_bytes_of(bytes);
}

result<void> validate_record(InodeId ino, const pb::Inode& inode) {
  if (validate_inode(ino, inode) && has_block_size(inode)) return success();
  return failure(Errc::corrupt, "the record of inode " + std::to_string(ino) +
                                    " is damaged: run \"datacloud fsck\"");
}

result<void> check_not_immutable(const pb::Inode& inode) {
  if (!(inode.flags() & kInodeImmutable)) return success();
  return failure(Error::posix(EPERM, "inode " + std::to_string(inode.ino()) + " is immutable"));
}

result<void> check_no_flags(const pb::Inode& inode) {
  TRY(check_not_immutable(inode));
  if (!(inode.flags() & kInodeAppend)) return success();
  return failure(Error::posix(EPERM, "inode " + std::to_string(inode.ino()) + " is append-only"));
}

result<void> check_name(const std::string& name) {
  if (name.empty()) return failure(Error::posix(ENOENT, "the empty name"));
  if (name.size() > kNameBytesMax) {
    return failure(Error::posix(
        ENAMETOOLONG, "a name of " + std::to_string(name.size()) + " bytes; 255 are allowed"));
  }
  if (name == "." || name == ".." || name.find('/') != std::string::npos ||
      name.find('\0') != std::string::npos) {
    return failure(Error::posix(EINVAL, "not a name: " + name));
  }
  return success();
}

result<pb::Inode> get_directory(const Transaction& txn, InodeId ino) {
  TRY(auto inode, get_inode(txn, ino));
  if (!is_directory(inode)) {
    return failure(Error::posix(ENOTDIR, "inode " + std::to_string(ino)));
  }
  return inode;
}

result<pb::Inode> get_live_directory(const Transaction& txn, InodeId ino) {
  TRY(auto inode, get_directory(txn, ino));
  if (inode.nlink() == 0) {
    return failure(Error::posix(ENOENT, "directory " + std::to_string(ino) + " was removed"));
  }
  return inode;
}

result<bool> is_at_or_above(const Transaction& txn, InodeId ancestor, InodeId directory) {
  for (uint32_t depth = 0; depth < kDirectoryDepthMax; ++depth) {
    if (directory == ancestor) return true;
    if (directory == kRootInode) return false;
    TRY(const auto inode, get_directory(txn, directory));
    directory = inode.parent();
  }
  return failure(Errc::corrupt, "directory " + std::to_string(directory) +
                                    " does not lead to the root; stop the daemon");
}

result<std::optional<pb::Entry>> find_entry(const Transaction& txn, InodeId parent,
                                            const std::string& name) {
  pb::Entry entry;
  TRY(const bool found, txn.get(key::entry(parent, name), entry));
  return found ? std::optional(entry) : std::nullopt;
}

result<pb::Entry> get_entry(const Transaction& txn, InodeId parent, const std::string& name) {
  TRY(auto entry, find_entry(txn, parent, name));
  if (!entry) {
    return failure(
        Error::posix(ENOENT, "no entry '" + name + "' in directory " + std::to_string(parent)));
  }
  return *entry;
}

result<bool> has_entries(const Transaction& txn, InodeId directory) {
  bool any = false;
  const std::string first = key::entry(directory, "");
  TRY(txn.scan(first, key::after_prefix(first), [&](std::string_view, std::string_view) {
    any = true;
    return false;
  }));
  return any;
}

void put_inode(Transaction& txn, const pb::Inode& inode) {
  txn.put(key::inode(inode.ino()), inode);
}

void add_entry(Transaction& txn, pb::Inode& directory, const std::string& name,
               const pb::Inode& child) {
  pb::Entry entry;
  entry.set_cookie(directory.next_cookie());
  directory.set_next_cookie(entry.cookie() + 1);
  txn.put(key::cookie(directory.ino(), entry.cookie()), name);
  replace_entry(txn, directory.ino(), name, std::move(entry), child);
}

void rename_entry(Transaction& txn, pb::Inode& directory, const std::string& name, pb::Entry entry,
                  const pb::Inode& child) {
  entry.set_renamed(directory.next_cookie());
  directory.set_next_cookie(entry.renamed() + 1);
  txn.put(key::cookie(directory.ino(), entry.cookie()), name);
  replace_entry(txn, directory.ino(), name, std::move(entry), child);
}

void replace_entry(Transaction& txn, InodeId directory, const std::string& name, pb::Entry entry,
                   const pb::Inode& child) {
  entry.set_ino(child.ino());
  entry.set_type(child.mode() & S_IFMT);
  txn.put(key::entry(directory, name), entry);
}

void remove_entry(Transaction& txn, InodeId directory, const std::string& name,
                  const pb::Entry& entry) {
  txn.erase(key::entry(directory, name));
  txn.erase(key::cookie(directory, entry.cookie()));
}

void touch_directory(pb::Inode& directory, int64_t now_ns) {
  set_mtime(directory, from_ns(now_ns));
  set_ctime(directory, from_ns(now_ns));
}

void add_links(pb::Inode& inode, int change) {
  inode.set_nlink(static_cast<uint32_t>(static_cast<int64_t>(inode.nlink()) + change));
}

void drop_name(Transaction& txn, pb::Inode& inode, int64_t now_ns) {
  set_ctime(inode, from_ns(now_ns));
  if (is_directory(inode)) {
    inode.set_nlink(0);
    inode.set_size(0);
  } else if (inode.nlink() > 0) {
    inode.set_nlink(inode.nlink() - 1);
  }
  if (inode.nlink() == 0) txn.put(key::orphan(inode.ino()), std::string());
  put_inode(txn, inode);
}

}  // namespace datacloud::names
