// Looking things up and changing attributes.
#include <limits.h>
#include <sys/stat.h>

#include <string_view>

#include "common/proto/file_time.h"
#include "fs/fuse/ops.h"
#include "fs/fuse/ops_flags.h"
#include "fs/fuse/ops_handles.h"
#include "fs/fuse/reply.h"

namespace datacloud {
namespace {

// "Not there" is kept by the kernel as long as the directory's lease holds; without a parent it is
// not kept.
void reply_absent(fuse_req_t req, const InodePtr& parent) {
  fuse_entry_param none{};
  none.entry_timeout = mount_of(req).entry_cache_seconds(parent);
  if (none.entry_timeout > 0)
    fuse_reply_entry(req, &none);
  else
    fuse_reply_err(req, ENOENT);
}

// Whether it was answered from what is known of the directory's names.
bool reply_known(fuse_req_t req, const InodePtr& parent, const char* name) {
  MetadataClient& metadata = mount_of(req).metadata();
  auto known = metadata.known_entry(parent, name);
  if (!known) {
    const auto fetched = metadata.fetch_names(parent);
    if (!fetched || !fetched.value()) return false;  // a failure is met again by asking
    known = metadata.known_entry(parent, name);
  }
  if (!known) return false;
  if (*known)
    reply_entry(req, parent, *known);
  else
    reply_absent(req, parent);
  return true;
}

void op_lookup(fuse_req_t req, fuse_ino_t parent_ino, const char* name) {
  Mount& mount = mount_of(req);
  const std::string_view text(name);
  if (text == "." || text == "..") return lookup_by_number(req, parent_ino, text);
  auto parent = known_inode(mount, parent_ino);
  if (!parent) return reply_error(req, parent.error());
  // What can be no name is not absent: the daemon says what is wrong with it.
  const bool is_name = text.size() <= NAME_MAX;
  if (is_name && reply_known(req, parent.value(), name)) return;
  pb::Request request;
  request.mutable_lookup()->set_parent(parent_ino);
  request.mutable_lookup()->set_name(name);
  const uint64_t changes = entry_changes(*parent.value());
  auto answer = mount.metadata().call(std::move(request));
  // A change of a name may have overtaken the answer, which the daemon holds back while it shows
  // what is not durable: the kernel asks again.
  const InodePtr kept = entry_changes(*parent.value()) == changes ? parent.value() : InodePtr();
  if (!answer && answer.error().errno_value() == ENOENT) return reply_absent(req, kept);
  if (!answer) return reply_error(req, answer.error());
  if (!answer.value().inode) return (void)fuse_reply_err(req, EIO);
  reply_entry(req, kept, answer.value().inode);
}

void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t count) {
  mount_of(req).table().forget(ino, count);
  fuse_reply_none(req);
}

void op_forget_multi(fuse_req_t req, size_t count, fuse_forget_data* forgets) {
  for (size_t i = 0; i < count; ++i)
    mount_of(req).table().forget(forgets[i].ino, forgets[i].nlookup);
  fuse_reply_none(req);
}

// df(1) and whoever looks for mounts asks for the root directory's attributes and for free space.
// Neither waits for a daemon that does not answer: what was known last is answered then, and not
// kept by the kernel. They hold no thread while they wait (fs/fuse/raw/request_loop.h).
constexpr auto kLastKnownPatience = seconds(2);

bool is_known(Inode& inode) {
  std::lock_guard lock(inode.mutex);
  return inode.attr_known;
}

void getattr_of_root(fuse_req_t req) {
  Mount& mount = mount_of(req);
  mount.count_operation();
  const InodePtr known = mount.table().find(mount.root());
  if (known) {
    std::unique_lock lock(known->mutex);
    const bool usable =
        known->attr_known && !known->attr_stale && mount.metadata().holds(*known, pb::LEASE_READ);
    lock.unlock();
    if (usable) return reply_attr(req, known);
  }
  mount.metadata().ask(lease_request(mount.root(), pb::LEASE_READ, false), kLastKnownPatience,
                       [req, known](result<MetadataClient::Answer> answer) {
                         if (answer && answer.value().inode)
                           return reply_attr(req, answer.value().inode);
                         if (known && is_known(*known)) return reply_attr(req, known);
                         if (!answer) return reply_error(req, answer.error());
                         fuse_reply_err(req, EIO);
                       });
}

void op_getattr(fuse_req_t req, fuse_ino_t ino, fuse_file_info*) {
  Mount& mount = mount_of(req);
  if (ino == mount.root()) return getattr_of_root(req);
  auto inode = known_inode(mount, ino);
  if (!inode) return reply_error(req, inode.error());
  if (auto held = mount.metadata().ensure_lease(inode.value(), pb::LEASE_READ, false); !held)
    return reply_error(req, held.error());
  reply_attr(req, inode.value());
}

// Everything but the size: a change at the daemon. `attr` has the owner as the cloud knows it.
pb::Request setattr_request(fuse_ino_t ino, const struct stat& attr, int to_set, TimeRange range) {
  pb::Request request;
  auto* set = request.mutable_setattr();
  const int64_t now = wall_now_ns();
  set->set_ino(ino);
  set->set_ctime_ns(now);
  if (to_set & FUSE_SET_ATTR_MODE) set->set_mode(attr.st_mode & 07777);
  if (to_set & FUSE_SET_ATTR_UID) set->set_uid(attr.st_uid);
  if (to_set & FUSE_SET_ATTR_GID) set->set_gid(attr.st_gid);
  if (to_set & FUSE_SET_ATTR_ATIME_NOW)
    set->set_atime_ns(now);
  else if (to_set & FUSE_SET_ATTR_ATIME)
    set_atime(*set, kept_time(attr.st_atim, range));
  if (to_set & FUSE_SET_ATTR_MTIME_NOW)
    set->set_mtime_ns(now);
  else if (to_set & FUSE_SET_ATTR_MTIME)
    set_mtime(*set, kept_time(attr.st_mtim, range));
  return request;
}

constexpr int kDaemonAttributes = FUSE_SET_ATTR_MODE | FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID |
                                  FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_MTIME |
                                  FUSE_SET_ATTR_ATIME_NOW | FUSE_SET_ATTR_MTIME_NOW;

result<void> set_daemon_attributes(Mount& mount, const InodePtr& inode, const struct stat& attr,
                                   int to_set) {
  constexpr int kMtime = FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_MTIME_NOW;
  if (to_set & kMtime) {
    // With writes not committed yet the time goes with them: theirs must not come back later.
    const FileTime mtime = to_set & FUSE_SET_ATTR_MTIME_NOW
                               ? from_ns(wall_now_ns())
                               : kept_time(attr.st_mtim, mount.time_range());
    if (mount.io().set_mtime_if_changed(inode, mtime)) to_set &= ~kMtime;
    if (!(to_set & kDaemonAttributes)) return success();
  }
  const bool sets_mtime = to_set & kMtime;
  auto made = mount.metadata().call(setattr_request(inode->ino, attr, to_set, mount.time_range()));
  if (to_set & FUSE_SET_ATTR_MODE)
    mount.xattrs().forget(inode->ino);  // failed or not: perhaps made
  TRY(auto answer, std::move(made));
  if (sets_mtime && answer.inode) {
    std::lock_guard lock(inode->mutex);
    set_mtime(inode->attr, mtime_of(answer.reply.attr().inode()));
  }
  return success();
}

// From the owner that the kernel sets to what that means in the cloud.
result<void> map_owner(Mount& mount, const InodePtr& inode, struct stat& attr, int& to_set) {
  OwnerChange local;
  if (to_set & FUSE_SET_ATTR_UID) local.uid = attr.st_uid;
  if (to_set & FUSE_SET_ATTR_GID) local.gid = attr.st_gid;
  if (local == OwnerChange{}) return success();
  Owner now;
  if (mount.owners().change_needs_owner()) {
    TRY(mount.metadata().ensure_lease(inode, pb::LEASE_READ, false));
    std::lock_guard lock(inode->mutex);
    now = {inode->attr.uid(), inode->attr.gid()};
  }
  TRY(const auto cloud, mount.owners().change(local, now));
  to_set &= ~(FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID);
  if (cloud.uid) {
    attr.st_uid = *cloud.uid;
    to_set |= FUSE_SET_ATTR_UID;
  }
  if (cloud.gid) {
    attr.st_gid = *cloud.gid;
    to_set |= FUSE_SET_ATTR_GID;
  }
  return success();
}

void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat* attr, int to_set, fuse_file_info*) {
  Mount& mount = mount_of(req);
  auto inode = known_inode(mount, ino);
  if (!inode) return reply_error(req, inode.error());
  if (auto may = may_set_attributes(mount, inode.value(), to_set); !may)
    return reply_error(req, may.error());
  if (auto done = map_owner(mount, inode.value(), *attr, to_set); !done)
    return reply_error(req, done.error());
  if (to_set & FUSE_SET_ATTR_SIZE) {
    auto dropped = drop_set_group_id(req, inode.value());
    if (!dropped) return reply_error(req, dropped.error());
    // The mode that comes along when set-user-id goes was made before.
    if (dropped.value()) attr->st_mode &= ~static_cast<mode_t>(S_ISGID);
    auto done = mount.io().truncate(inode.value(), static_cast<uint64_t>(attr->st_size));
    if (!done) return reply_error(req, done.error());
    // ftruncate(2) asks for the time as well: truncating has set it.
    if (to_set & FUSE_SET_ATTR_MTIME_NOW)
      to_set &= ~(FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_MTIME_NOW);
  }
  // A chown that changes nothing still changes ctime.
  const bool only_ctime = !(to_set & (kDaemonAttributes | FUSE_SET_ATTR_SIZE));
  if (only_ctime || (to_set & kDaemonAttributes)) {
    auto done = set_daemon_attributes(mount, inode.value(), *attr, to_set);
    if (!done) return reply_error(req, done.error());
  }
  if (auto held = mount.metadata().ensure_lease(inode.value(), pb::LEASE_READ, false); !held)
    return reply_error(req, held.error());
  reply_changed(req, inode.value());
}

void reply_statfs(fuse_req_t req, const pb::StatFsReply& fs) {
  struct statvfs st {};
  st.f_bsize = st.f_frsize = 4096;
  st.f_blocks = fs.bytes_total() / 4096;
  st.f_bfree = st.f_bavail = fs.bytes_free() / 4096;
  st.f_files = fs.inodes() + (uint64_t{1} << 32);  // inodes are limited by space only
  st.f_ffree = st.f_favail = uint64_t{1} << 32;
  st.f_namemax = 255;
  fuse_reply_statfs(req, &st);
}

// In a cloud with trees the numbers are those of the tree that the inode is in; without any they
// are the cloud's, as those of the root always are.
void op_statfs(fuse_req_t req, fuse_ino_t ino) {
  Mount& mount = mount_of(req);
  mount.count_operation();
  const InodeId asked = mount.features().has(Feature::trees) ? ino : mount.root();
  pb::Request request;
  request.mutable_statfs()->set_ino(asked);
  mount.metadata().ask(std::move(request), kLastKnownPatience,
                       [&mount, req, asked](result<MetadataClient::Answer> answer) {
                         if (answer) mount.space().remember(asked, answer.value().reply.statfs());
                         const auto known = mount.space().last(asked);
                         if (!known) return reply_error(req, answer.error());
                         reply_statfs(req, *known);
                       });
}

}  // namespace

void add_lookup_operations(fuse_lowlevel_ops& ops) {
  ops.lookup = op_lookup;
  ops.forget = op_forget;
  ops.forget_multi = op_forget_multi;
  ops.getattr = op_getattr;
  ops.setattr = op_setattr;
  ops.statfs = op_statfs;
}

}  // namespace datacloud
