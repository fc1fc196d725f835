// Amending the INIT reply on its way from libfuse to the kernel.
#include "fs/fuse/raw/kernel_channel.h"

#include <linux/fuse.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <vector>

namespace datacloud {
namespace {

// The part of fuse_init_in that every kernel of protocol 7 sends; flags2 came with INIT_EXT.
constexpr size_t kInitBytesMin = offsetof(fuse_init_in, flags2);

}  // namespace

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

void KernelChannel::received(ByteView request) {
  fuse_in_header header{};
  if (request.size() < sizeof header) return;
  std::memcpy(&header, request.data(), sizeof header);
  if (header.opcode != FUSE_INIT || request.size() < sizeof header + kInitBytesMin) return;
  fuse_init_in init{};
  std::memcpy(&init, request.data() + sizeof header,
              std::min(sizeof init, request.size() - sizeof header));
  offered_.flags = init.flags;
  offered_.flags2 = init.flags & FUSE_INIT_EXT ? init.flags2 : 0;
  init_unique_ = header.unique;
}

ssize_t KernelChannel::send(int fd, const iovec* parts, int count) {
  const uint64_t unique = init_unique_;
  if (unique != 0 && count > 1 && parts[0].iov_len == sizeof(fuse_out_header)) {
    fuse_out_header header{};
    std::memcpy(&header, parts[0].iov_base, sizeof header);
    if (header.unique == unique && header.error == 0) return send_init(fd, parts, count);
  }
  return ::writev(fd, parts, count);
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
  return ::writev(fd, amended.data(), count);
}

ssize_t KernelChannel::read_some(int fd, void* buffer, size_t size) {
  return ::read(fd, buffer, size);
}

}  // namespace datacloud
