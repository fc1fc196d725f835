// Reading directories, and paths to inodes and back.
//
// A readdir position is the cookie of the last entry seen. Cookies only grow and are never given
// out twice in a directory, so a position stays valid whatever is removed meanwhile. A listing ends
// where the directory ended when it began: below that no entry is ever added, so that it returns no
// more entries than there were, and each that stays in the directory once.
#include <algorithm>
#include <cerrno>

#include "daemon/metadata/record_keys.h"
#include "daemon/records/namespace_ops.h"
#include "daemon/records/namespace_records.h"

namespace datacloud {
namespace {

using namespace names;

// With names of 255 bytes and the longest symlinks a reply stays below 10 MiB.
constexpr size_t kReadDirItemsMax = 2048;

struct Position {
  std::string name;
  uint64_t cookie = 0;
};

result<std::string> name_in(const Transaction& txn, InodeId parent, InodeId child) {
  std::string name;
  bool damaged = false;
  const std::string first = key::entry(parent, "");
  TRY(txn.scan(first, key::after_prefix(first), [&](std::string_view k, std::string_view v) {
    pb::Entry entry;
    damaged = !entry.ParseFromArray(v.data(), static_cast<int>(v.size()));
    if (!damaged && entry.ino() == child) name = k.substr(first.size());
    return !damaged && name.empty();
  }));
  if (damaged || name.empty()) {
    return failure(Errc::corrupt, "directory " + std::to_string(parent) +
                                      " does not name its child " + std::to_string(child));
  }
  return name;
}

}  // namespace

result<pb::ReadDirReply> read_directory(const Transaction& txn, const pb::ReadDirRequest& request) {
  TRY(const auto directory, get_live_directory(txn, request.ino()));
  const size_t wanted = request.count_max() == 0
                            ? kReadDirItemsMax
                            : std::min<size_t>(request.count_max(), kReadDirItemsMax);
  const uint64_t end_cookie =
      request.end_cookie() == 0 ? directory.next_cookie() : request.end_cookie();
  pb::ReadDirReply reply;
  reply.set_end(true);
  reply.set_end_cookie(end_cookie);
  if (request.cookie() >= end_cookie) return reply;
  std::vector<Position> positions;
  TRY(txn.scan(key::cookie(request.ino(), request.cookie() + 1),
               key::cookie(request.ino(), end_cookie),
               [&](std::string_view k, std::string_view name) {
                 if (positions.size() == wanted) {
                   reply.set_end(false);
                   return false;
                 }
                 positions.push_back({std::string(name), key::u64_at(k, 9)});
                 return true;
               }));
  for (auto& position : positions) {
    auto* item = reply.add_items();
    TRY(*item->mutable_entry(), get_entry(txn, request.ino(), position.name));
    if (item->entry().cookie() != position.cookie) {
      return failure(Errc::corrupt, "directory " + std::to_string(request.ino()) + ": entry '" +
                                        position.name + "' and its position disagree");
    }
    if (request.plus()) {
      TRY(*item->mutable_inode(), get_inode(txn, item->entry().ino()));
    }
    item->set_name(std::move(position.name));
  }
  return reply;
}

result<pb::Inode> resolve_path(const Transaction& txn, const std::string& path) {
  if (path.empty() || path.front() != '/') {
    return failure(Error::posix(EINVAL, "a path inside the cloud starts with '/': " + path));
  }
  TRY(auto inode, get_inode(txn, kRootInode));
  for (size_t at = 0; at < path.size();) {
    const size_t end = std::min(path.find('/', at), path.size());
    if (end > at) {
      auto next = lookup(txn, inode.ino(), path.substr(at, end - at));
      if (!next) return failure(next.error().in(path));
      inode = std::move(next.value());
    }
    at = end + 1;
  }
  return inode;
}

result<std::string> directory_path(const Transaction& txn, InodeId directory) {
  TRY(auto inode, get_inode(txn, directory));
  if (!is_directory(inode)) return std::string();
  if (inode.ino() == kRootInode) return std::string("/");
  std::string path;
  for (uint32_t depth = 0; inode.ino() != kRootInode; ++depth) {
    if (depth == kDirectoryDepthMax) {
      return failure(Errc::corrupt,
                     "directory " + std::to_string(directory) + " does not lead to the root");
    }
    if (inode.nlink() == 0) return failure(Error::posix(ENOENT, "the directory was removed"));
    TRY(const std::string name, name_in(txn, inode.parent(), inode.ino()));
    path.insert(0, name).insert(0, 1, '/');
    TRY(inode, get_directory(txn, inode.parent()));
  }
  return path;
}

}  // namespace datacloud
