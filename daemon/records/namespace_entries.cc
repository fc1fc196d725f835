// lookup, create, link and unlink.
#include <sys/stat.h>

#include <cerrno>
#include <optional>

#include "common/base/inode_flags.h"
#include "common/proto/file_time.h"
#include "daemon/metadata/record_keys.h"
#include "daemon/metadata/totals.h"
#include "daemon/records/inode_acls.h"
#include "daemon/records/namespace_ops.h"
#include "daemon/records/namespace_records.h"

namespace datacloud {
namespace {

using namespace names;

constexpr size_t kSymlinkBytesMax = 4095;

result<void> check_create(const pb::CreateRequest& request) {
  TRY(check_name(request.name()));
  switch (request.mode() & S_IFMT) {
    case S_IFREG:
    case S_IFDIR:
    case S_IFCHR:
    case S_IFBLK:
    case S_IFIFO:
    case S_IFSOCK:
      return success();
    case S_IFLNK: {
      const std::string& target = request.symlink_target();
      if (target.empty()) return failure(Error::posix(ENOENT, "a symlink to the empty path"));
      if (target.size() > kSymlinkBytesMax) {
        return failure(Error::posix(ENAMETOOLONG, "a symlink target of more than 4095 bytes"));
      }
      if (target.find('\0') != std::string::npos) {
        return failure(Error::posix(EINVAL, "a symlink target with a NUL byte"));
      }
      return success();
    }
    default:
      return failure(Error::posix(
          EINVAL, "mode " + std::to_string(request.mode()) + " has no known file type"));
  }
}

// Below a set-group-id directory the group is inherited, and by directories the bit too. The bit of
// other types is left to the caller's kernel (vfs_prepare_mode strips it where it must go; only
// there are the caller's groups and capabilities known).
void inherit(const pb::Inode& parent, const pb::CreateRequest& request, pb::Inode& inode) {
  inode.set_mode(request.mode() & (S_IFMT | 07777));
  inode.set_uid(request.uid());
  inode.set_gid(request.gid());
  if (parent.mode() & S_ISGID) {
    inode.set_gid(parent.gid());
    if (is_directory(inode)) inode.set_mode(inode.mode() | S_ISGID);
  }
  inode.set_realm(parent.realm());
  inode.set_tree(parent.tree());
  inode.set_flags(parent.flags() & kInodeFlagsInherited);
  *inode.mutable_policy() = parent.policy();
}

pb::Inode make_inode(const pb::Inode& parent, const pb::CreateRequest& request, InodeId ino,
                     BirthTime birth) {
  pb::Inode inode;
  inode.set_ino(ino);
  inherit(parent, request, inode);
  inode.set_nlink(1);
  inode.set_generation(1);
  const FileTime now = from_ns(request.now_ns());
  set_atime(inode, now);
  set_mtime(inode, now);
  set_ctime(inode, now);
  if (birth == BirthTime::kept) inode.set_btime_ns(request.now_ns());
  switch (inode.mode() & S_IFMT) {
    case S_IFREG:
      // Differs from that of a file which had this inode number in records that were replaced by
      // an older copy.
      inode.set_change_id(static_cast<uint64_t>(request.now_ns()));
      break;
    case S_IFDIR:
      inode.set_nlink(2);
      inode.set_size(kDirectorySize);
      inode.set_parent(parent.ino());
      inode.set_next_cookie(kFirstCookie);
      break;
    case S_IFLNK:
      inode.set_symlink_target(request.symlink_target());
      inode.set_size(request.symlink_target().size());
      break;
    case S_IFCHR:
    case S_IFBLK:
      inode.set_rdev(request.rdev());
      break;
    default:
      break;
  }
  return inode;
}

std::optional<uint32_t> umask_of(const pb::CreateRequest& request) {
  return request.has_umask() ? std::optional(request.umask()) : std::nullopt;
}

// Of a file that is made without a name: an orphan from the beginning, which whoever holds it open
// keeps.
result<Created> create_unnamed(Transaction& txn, const pb::CreateRequest& request, InodeId new_ino,
                               BirthTime birth) {
  if (!S_ISREG(request.mode()) || !request.open())
    return failure(Error::posix(EINVAL, "what has no name is a regular file, and open"));
  TRY(const auto parent, get_directory(txn, request.parent()));
  if (parent.nlink() == 0)  // as ext4
    return failure(
        Error::posix(EPERM, "directory " + std::to_string(parent.ino()) + " was removed"));
  TRY(check_not_immutable(parent));
  auto inode = make_inode(parent, request, new_ino, birth);
  TRY(acls::inherit(txn, parent, umask_of(request), inode));
  inode.set_nlink(0);
  inode.set_flags(inode.flags() | kInodeUnnamed);
  put_inode(txn, inode);
  txn.put(key::orphan(new_ino), std::string());
  TRY(auto totals, read_totals(txn));
  ++totals.inodes;
  TRY(trees::count(txn, inode.tree(), 1, 0));
  write_totals(txn, totals);
  return Created{std::move(inode), false};
}

result<Created> open_existing(const Transaction& txn, const pb::CreateRequest& request,
                              const pb::Entry& entry) {
  if (request.exclusive() || !S_ISREG(request.mode())) {
    return failure(Error::posix(EEXIST, "'" + request.name() + "'"));
  }
  TRY(auto inode, get_inode(txn, entry.ino()));
  if (is_directory(inode)) return failure(Error::posix(EISDIR, "'" + request.name() + "'"));
  if (!S_ISREG(inode.mode())) return failure(Error::posix(EEXIST, "'" + request.name() + "'"));
  return Created{std::move(inode), true};
}

}  // namespace

result<pb::Inode> get_inode(const Transaction& txn, InodeId ino) {
  pb::Inode inode;
  TRY(const bool found, txn.get(key::inode(ino), inode));
  if (!found) return failure(Error::posix(ENOENT, "no inode " + std::to_string(ino)));
  TRY(names::validate_record(ino, inode));
  return inode;
}

result<pb::Inode> lookup(const Transaction& txn, InodeId parent, const std::string& name) {
  if (name == ".") {
    TRY(auto inode, get_inode(txn, parent));
    if (inode.nlink() == 0)
      return failure(Error::posix(ENOENT, "inode " + std::to_string(parent) + " was removed"));
    return inode;
  }
  TRY(auto directory, get_directory(txn, parent));
  if (name == "..") return get_inode(txn, directory.parent());
  TRY(check_name(name));
  TRY(const auto entry, get_entry(txn, parent, name));
  return get_inode(txn, entry.ino());
}

result<Created> create(Transaction& txn, const pb::CreateRequest& request, InodeId new_ino,
                       BirthTime birth) {
  if (request.unnamed()) return create_unnamed(txn, request, new_ino, birth);
  TRY(check_create(request));
  TRY(auto parent, get_live_directory(txn, request.parent()));
  TRY(const auto existing, find_entry(txn, parent.ino(), request.name()));
  if (existing) return open_existing(txn, request, *existing);
  TRY(check_not_immutable(parent));

  auto inode = make_inode(parent, request, new_ino, birth);
  TRY(acls::inherit(txn, parent, umask_of(request), inode));
  add_entry(txn, parent, request.name(), inode);
  touch_directory(parent, request.now_ns());
  if (is_directory(inode)) add_links(parent, 1);
  put_inode(txn, parent);
  put_inode(txn, inode);
  TRY(auto totals, read_totals(txn));
  ++totals.inodes;
  TRY(trees::count(txn, inode.tree(), 1, 0));
  write_totals(txn, totals);
  return Created{std::move(inode), false};
}

result<pb::Inode> names::make_whiteout(Transaction& txn, const pb::Inode& parent,
                                       const pb::RenameRequest& request, InodeId ino,
                                       BirthTime birth) {
  pb::CreateRequest device;
  device.set_mode(S_IFCHR);
  device.set_uid(request.uid());
  device.set_gid(request.gid());
  device.set_now_ns(request.now_ns());
  auto inode = make_inode(parent, device, ino, birth);
  put_inode(txn, inode);
  TRY(auto totals, read_totals(txn));
  ++totals.inodes;
  TRY(trees::count(txn, inode.tree(), 1, 0));
  write_totals(txn, totals);
  return inode;
}

result<pb::Inode> link(Transaction& txn, const pb::LinkRequest& request, const TreeArea* area) {
  TRY(check_name(request.name()));
  TRY(auto inode, get_inode(txn, request.ino()));
  TRY(auto parent, get_live_directory(txn, request.parent()));
  TRY(const auto existing, find_entry(txn, parent.ino(), request.name()));
  if (existing) return failure(Error::posix(EEXIST, "'" + request.name() + "'"));
  TRY(check_not_immutable(parent));
  TRY(check_no_flags(inode));
  if (is_directory(inode)) return failure(Error::posix(EPERM, "hard link to a directory"));
  const bool unnamed = inode.flags() & kInodeUnnamed;
  if (inode.nlink() == 0 && !unnamed) {
    return failure(Error::posix(ENOENT, "inode " + std::to_string(inode.ino()) + " was removed"));
  }
  if (inode.nlink() >= kLinksMax) {
    return failure(Error::posix(EMLINK, "inode " + std::to_string(inode.ino())));
  }
  if (area != nullptr || inode.tree() != parent.tree()) {
    TRY(const auto border, trees::link_border(txn, inode, parent, area));
    if (border != trees::LinkBorder::within) {
      return failure(Error::posix(EXDEV, "inode " + std::to_string(inode.ino()) +
                                             " and directory " + std::to_string(parent.ino()) +
                                             " are in different trees"));
    }
    TRY(trees::entered(txn, inode, parent, area));
  }
  add_entry(txn, parent, request.name(), inode);
  touch_directory(parent, request.now_ns());
  put_inode(txn, parent);
  add_links(inode, 1);
  if (unnamed) {
    inode.set_flags(inode.flags() & ~kInodeUnnamed);
    txn.erase(key::orphan(inode.ino()));
  }
  set_ctime(inode, from_ns(request.now_ns()));
  put_inode(txn, inode);
  return inode;
}

result<pb::Inode> unlink(Transaction& txn, const pb::UnlinkRequest& request, const TreeArea* area) {
  TRY(check_name(request.name()));
  TRY(auto parent, get_directory(txn, request.parent()));
  TRY(const auto entry, get_entry(txn, parent.ino(), request.name()));
  TRY(auto inode, get_inode(txn, entry.ino()));
  TRY(check_no_flags(parent));
  TRY(check_no_flags(inode));
  if (request.directory()) {
    if (!is_directory(inode)) return failure(Error::posix(ENOTDIR, "'" + request.name() + "'"));
    TRY(const bool occupied, has_entries(txn, inode.ino()));
    if (occupied) return failure(Error::posix(ENOTEMPTY, "'" + request.name() + "'"));
    TRY(trees::check_removal(inode, area));
  } else if (is_directory(inode)) {
    return failure(Error::posix(EISDIR, "'" + request.name() + "'"));
  }
  remove_entry(txn, parent.ino(), request.name(), entry);
  touch_directory(parent, request.now_ns());
  if (is_directory(inode)) {
    add_links(parent, -1);
    TRY(trees::directory_removed(txn, inode));
  }
  put_inode(txn, parent);
  drop_name(txn, inode, request.now_ns());
  return inode;
}

}  // namespace datacloud
