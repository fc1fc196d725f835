// A file handle names an inode by its number and generation, which the kernel compares with those
// of our reply. Numbers are not used twice, unless records were restored from an older copy; then
// the generation, made of the time of creation, differs.
//
// The daemon keeps a node that is limited to a directory within it. A mount that shows less of the
// cloud than its node may see finds directories below its root alone: these tell the way up, files
// do not.
#include "fs/fuse/ops_handles.h"

#include <sys/stat.h>

#include <string>

#include "fs/fuse/mount.h"
#include "fs/fuse/reply.h"

namespace datacloud {
namespace {

constexpr int kDepthMax = 10'000;

result<InodePtr> find(Mount& mount, InodeId ino, std::string_view name) {
  pb::Request request;
  request.mutable_lookup()->set_parent(ino);
  request.mutable_lookup()->set_name(std::string(name));
  TRY(auto answer, mount.metadata().call(std::move(request)));
  if (!answer.inode)
    return failure(Errc::corrupt, "the daemon sent no inode " + std::to_string(ino));
  return answer.inode;
}

// A directory's parent; 0: it is none.
InodeId above(Inode& inode) {
  std::lock_guard lock(inode.mutex);
  return S_ISDIR(inode.attr.mode()) ? inode.attr.parent() : 0;
}

result<bool> below_root(Mount& mount, const InodePtr& inode) {
  InodeId at = inode->ino, next = above(*inode);
  for (int depth = 0; depth < kDepthMax; ++depth) {
    if (at == mount.root()) return true;
    if (next == 0 || next == at) return false;
    at = next;
    if (at == mount.root()) return true;
    TRY(const auto found, find(mount, at, "."));
    next = above(*found);
    mount.table().release_if_unused(found);
  }
  return false;
}

}  // namespace

void lookup_by_number(fuse_req_t req, fuse_ino_t ino, std::string_view name) {
  Mount& mount = mount_of(req);
  mount.count_operation();
  // Nothing is above the root.
  if (ino == mount.root()) name = ".";
  auto found = find(mount, ino, name);
  if (!found) return reply_told(req, failure(found.error()));
  if (mount.shows_part()) {
    const auto below = below_root(mount, found.value());
    if (!below || !below.value()) {
      mount.table().release_if_unused(found.value());
      return (void)fuse_reply_err(req, below ? ESTALE : below.error().errno_value());
    }
  }
  reply_entry(req, nullptr, found.value());
}

}  // namespace datacloud
