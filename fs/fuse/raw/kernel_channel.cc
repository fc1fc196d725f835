// Amending the INIT reply on its way from libfuse to the kernel.
#include "fs/fuse/raw/kernel_channel.h"

#include <linux/fuse.h>
#include <linux/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

namespace datacloud {
namespace {

// The part of fuse_init_in that every kernel of protocol 7 sends; flags2 came with INIT_EXT.
constexpr size_t kInitBytesMin = offsetof(fuse_init_in, flags2);

// Of protocol 7.37 and 7.39 (Linux 6.2, 6.6); our headers are older.
constexpr uint32_t kOpcodeTmpfile = 51;
struct StatxTime {
  int64_t seconds;
  uint32_t nanos;
  int32_t reserved;
};
struct StatxReply {  // fuse_statx_out
  uint64_t attr_valid;
  uint32_t attr_valid_nsec, flags;
  uint64_t spare[2];
  uint32_t mask, block_bytes;
  uint64_t attributes;
  uint32_t nlink, uid, gid;
  uint16_t mode, spare_mode;
  uint64_t ino, size, blocks, attributes_mask;
  StatxTime atime, btime, ctime, mtime;
  uint32_t rdev_major, rdev_minor, dev_major, dev_minor;
  uint64_t spare_end[14];
};
static_assert(sizeof(StatxReply) == 32 + 256);
constexpr int64_t kSecondNs = 1'000'000'000;

thread_local int64_t told_birth_ns = 0;
thread_local bool told_kill_set_group_id = false;

StatxTime statx_time(uint64_t seconds, uint32_t nanos) {
  return {static_cast<int64_t>(seconds), nanos, 0};
}

void set_opcode(MutableByteView request, uint32_t opcode) {
  std::memcpy(request.data() + offsetof(fuse_in_header, opcode), &opcode, sizeof opcode);
}

}  // namespace

void KernelChannel::tell_birth(int64_t ns) { told_birth_ns = ns; }

void KernelChannel::name_root(MutableByteView request) const {
  if (root_ == FUSE_ROOT_ID || request.size() < sizeof(fuse_in_header)) return;
  const auto replace = [&](size_t at) {
    uint64_t node = 0;
    if (request.size() < at + sizeof node) return;
    std::memcpy(&node, request.data() + at, sizeof node);
    if (node == FUSE_ROOT_ID) std::memcpy(request.data() + at, &root_, sizeof root_);
  };
  fuse_in_header header{};
  std::memcpy(&header, request.data(), sizeof header);
  if (header.opcode == FUSE_INIT) return;
  replace(offsetof(fuse_in_header, nodeid));
  // Of all other numbers in requests only this can be one of a directory that is not forgotten.
  if (header.opcode == FUSE_RENAME) replace(sizeof header + offsetof(fuse_rename_in, newdir));
  if (header.opcode == FUSE_RENAME2) replace(sizeof header + offsetof(fuse_rename2_in, newdir));
}

bool KernelChannel::kills_set_group_id() { return told_kill_set_group_id; }

// The request's first part is moved over the eight bytes that libfuse does not expect.
MutableByteView KernelChannel::shorten_setxattr(MutableByteView request) const {
  constexpr size_t kLong = sizeof(fuse_in_header) + sizeof(fuse_setxattr_in);
  constexpr size_t kExcess = sizeof(fuse_setxattr_in) - FUSE_COMPAT_SETXATTR_IN_SIZE;
  told_kill_set_group_id = false;
  if (!(wanted_.flags & offered_.flags & FUSE_SETXATTR_EXT) || request.size() < kLong)
    return request;
  fuse_setxattr_in in{};
  std::memcpy(&in, request.data() + sizeof(fuse_in_header), sizeof in);
  told_kill_set_group_id = in.setxattr_flags & FUSE_SETXATTR_ACL_KILL_SGID;
  std::memmove(request.data() + kExcess, request.data(), kLong - kExcess);
  const MutableByteView shorter = request.subspan(kExcess);
  const auto size = static_cast<uint32_t>(shorter.size());
  std::memcpy(shorter.data() + offsetof(fuse_in_header, len), &size, sizeof size);
  return shorter;
}

MutableByteView KernelChannel::received(MutableByteView request) {
  fuse_in_header header{};
  if (request.size() < sizeof header) return request;
  std::memcpy(&header, request.data(), sizeof header);
  if (header.opcode == FUSE_SETXATTR) return shorten_setxattr(request);
  if (header.opcode == kOpcodeTmpfile) {
    set_opcode(request, FUSE_CREATE);
    return request;
  }
  if (header.opcode == kStatx && request.size() >= sizeof header + sizeof(fuse_getattr_in)) {
    std::lock_guard lock(mutex_);
    statx_.insert(header.unique);
    statx_count_ = statx_.size();
    set_opcode(request, FUSE_GETATTR);
    return request;
  }
  if (header.opcode != FUSE_INIT || request.size() < sizeof header + kInitBytesMin) return request;
  fuse_init_in init{};
  std::memcpy(&init, request.data() + sizeof header,
              std::min(sizeof init, request.size() - sizeof header));
  offered_.flags = init.flags;
  offered_.flags2 = init.flags & FUSE_INIT_EXT ? init.flags2 : 0;
  init_unique_ = header.unique;
  return request;
}

ssize_t KernelChannel::send(int fd, const iovec* parts, int count) {
  const uint64_t unique = init_unique_;
  if (unique != 0 && count > 1 && parts[0].iov_len == sizeof(fuse_out_header)) {
    fuse_out_header header{};
    std::memcpy(&header, parts[0].iov_base, sizeof header);
    if (header.unique == unique && header.error == 0) return send_init(fd, parts, count);
  }
  if (statx_count_ > 0 && count > 0 && parts[0].iov_len == sizeof(fuse_out_header)) {
    fuse_out_header header{};
    std::memcpy(&header, parts[0].iov_base, sizeof header);
    if (was_statx(header.unique) && header.error == 0 && count == 2)
      return send_statx(fd, parts, count);
  }
  return ::writev(fd, parts, count);
}

bool KernelChannel::was_statx(uint64_t unique) {
  if (unique == 0) return false;  // a notification
  std::lock_guard lock(mutex_);
  const bool found = statx_.erase(unique) > 0;
  statx_count_ = statx_.size();
  return found;
}

ssize_t KernelChannel::send_statx(int fd, const iovec* parts, int count) {
  fuse_attr_out got{};
  if (parts[1].iov_len < sizeof got) return ::writev(fd, parts, count);
  std::memcpy(&got, parts[1].iov_base, sizeof got);
  const int64_t birth = std::exchange(told_birth_ns, 0);
  StatxReply out{};
  out.attr_valid = got.attr_valid;
  out.attr_valid_nsec = got.attr_valid_nsec;
  const fuse_attr& attr = got.attr;
  out.mask = STATX_BASIC_STATS | (birth != 0 ? STATX_BTIME : 0);
  out.block_bytes = attr.blksize;
  out.nlink = attr.nlink;
  out.uid = attr.uid;
  out.gid = attr.gid;
  out.mode = static_cast<uint16_t>(attr.mode);
  out.ino = attr.ino;
  out.size = attr.size;
  out.blocks = attr.blocks;
  out.atime = statx_time(attr.atime, attr.atimensec);
  out.mtime = statx_time(attr.mtime, attr.mtimensec);
  out.ctime = statx_time(attr.ctime, attr.ctimensec);
  if (birth != 0) {
    const int64_t seconds = birth / kSecondNs - (birth % kSecondNs < 0 ? 1 : 0);
    out.btime = {seconds, static_cast<uint32_t>(birth - seconds * kSecondNs), 0};
  }
  // As the kernel packs device numbers in replies (new_encode_dev).
  out.rdev_major = (attr.rdev >> 8) & 0xfff;
  out.rdev_minor = (attr.rdev & 0xff) | ((attr.rdev >> 12) & 0xfff00);
  fuse_out_header header{};
  std::memcpy(&header, parts[0].iov_base, sizeof header);
  header.len = sizeof header + sizeof out;
  const iovec whole[] = {{&header, sizeof header}, {&out, sizeof out}};
  const ssize_t sent = ::writev(fd, whole, 2);
  // libfuse compares with what it has given.
  return sent == static_cast<ssize_t>(header.len)
             ? static_cast<ssize_t>(parts[0].iov_len + parts[1].iov_len)
             : sent;
}

ssize_t KernelChannel::send_init(int fd, const iovec* parts, int count) {
  init_unique_ = 0;
  fuse_init_out init{};
  if (parts[1].iov_len > sizeof init ||
      parts[1].iov_len < offsetof(fuse_init_out, flags) + sizeof init.flags)
    return ::writev(fd, parts, count);  // no INIT reply that we know
  std::memcpy(&init, parts[1].iov_base, parts[1].iov_len);
  init.flags |= wanted_.flags & offered_.flags;
  // The kernel looks at flags2 only where the reply says that it is there.
  const bool has_flags2 = parts[1].iov_len >= offsetof(fuse_init_out, flags2) + sizeof init.flags2;
  if (const uint32_t more = wanted_.flags2 & offered_.flags2; more != 0 && has_flags2) {
    init.flags |= FUSE_INIT_EXT;
    init.flags2 |= more;
  }
  std::vector<iovec> amended(parts, parts + count);
  amended[1].iov_base = &init;
  const ssize_t sent = ::writev(fd, amended.data(), count);
  if (sent > 0 && when_agreed_) std::exchange(when_agreed_, {})();
  return sent;
}

ssize_t KernelChannel::read_some(int fd, void* buffer, size_t size) {
  return ::read(fd, buffer, size);
}

}  // namespace datacloud
