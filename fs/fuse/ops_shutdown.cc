// What a shut-down mount does is in RequestLoop::dispatch; here is how it gets there.
//
// The number says that the argument is written by the file system (_IOR), so the kernel brings
// none: it is read from the program's memory. Where that cannot be done the default is meant, which
// loses nothing.
#include "fs/fuse/ops_shutdown.h"

#include <sys/ioctl.h>
#include <sys/uio.h>

#include <cerrno>
#include <cstdint>

#include "common/base/log.h"
#include "fs/fuse/mount.h"
#include "fs/fuse/ops.h"
#include "fs/fuse/reply.h"

namespace datacloud {
namespace {

constexpr unsigned kShutDownCommand = _IOR('X', 125, uint32_t);

uint32_t flags_of_caller(pid_t caller, const void* address) {
  uint32_t flags = 0;
  const iovec here{&flags, sizeof flags};
  const iovec there{const_cast<void*>(address), sizeof flags};
  if (::process_vm_readv(caller, &here, 1, &there, 1, 0) != sizeof flags) return 0;
  return flags;
}

}  // namespace

bool ioctl_of_shutdown(fuse_req_t req, unsigned command, const void* address) {
  if (command != kShutDownCommand) return false;
  const fuse_ctx& caller = *fuse_req_ctx(req);
  if (caller.uid != 0) return fuse_reply_err(req, EPERM), true;
  const uint32_t flags = flags_of_caller(caller.pid, address);
  if (flags > static_cast<uint32_t>(Mount::ShutDown::drop))
    return fuse_reply_err(req, EINVAL), true;
  Mount& mount = mount_of(req);
  if (auto done = mount.shut_down(static_cast<Mount::ShutDown>(flags)); !done) {
    reply_error(req, done.error());
    return true;
  }
  fuse_reply_ioctl(req, 0, nullptr, 0);
  return true;
}

result<void> Mount::shut_down(ShutDown how) {
  if (how == ShutDown::flush) {
    TRY(io_->flush_all());
  }
  if (how != ShutDown::drop) {
    pb::Request request;
    request.mutable_sync();
    TRY(metadata_->run(std::move(request)));
  }
  channel_.shut_down();
  spdlog::warn(
      "the mount was shut down by ioctl: every operation is an error until it is mounted "
      "again");
  io_->drop_everything();
  later([this] {
    for (const auto& inode : table_.all()) kernel_.forget_pages_and_attributes(inode->ino);
    kernel_.forget_entries();
  });
  return success();
}

}  // namespace datacloud
