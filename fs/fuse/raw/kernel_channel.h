// The channel to the kernel below libfuse: what it cannot say for us is put into its bytes here.
//
// libfuse 3.14 agrees with the kernel on less than both can do. Its INIT reply passes through
// send(), where the capabilities of `InitAmendment` are added that the kernel has offered. Without
// PARALLEL_DIROPS, which libfuse takes in `want` and never sends, the kernel lets one lookup of a
// directory run at a time, so that a slow one blocks all others.
//
// A mount may show one directory of the cloud instead of its root. The kernel calls the root of
// every file system inode 1; named_root() puts the directory's own number there, before libfuse
// gets the request, so that nothing else has to know. (The other way: KernelNotifier. Replies name
// it nowhere.)
//
// Two requests that libfuse does not know are given to it as ones that it does: O_TMPFILE as a
// creation, which has the same body and reply, with a name that no other creation has; statx as
// getattr, whose request it begins with, and whose reply is put into its own form here, with the
// time of birth, on its way out. Where the kernel sends its longer setxattr (SETXATTR_EXT), what
// libfuse does not know is cut out, and kept for the operation: kills_set_group_id().
//
// Invariant: nothing is claimed that the kernel did not offer in its INIT request, and no other
// message is changed.
//
// Thread safety: all methods from any thread; the kernel sends nothing before INIT is answered.
#pragma once

#include <fuse3/fuse_lowlevel.h>
#include <sys/uio.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string_view>
#include <unordered_set>
#include <utility>

#include "common/base/bytes.h"
#include "common/base/ids.h"

namespace datacloud {

struct InitAmendment {
  uint32_t flags = 0;   // FUSE_* of linux/fuse.h, bits 0..31
  uint32_t flags2 = 0;  // bits 32..63, counted from 0
};

class KernelChannel {
 public:
  explicit KernelChannel(InitAmendment wanted) : wanted_(wanted) {}

  // Before the first request.
  void set_root(InodeId root) { root_ = root; }
  // In a request from the kernel: the root's own number instead of 1.
  void name_root(MutableByteView request) const;
  // To be shown every request before libfuse gets it, which gets what is returned: the request, or
  // most of it.
  MutableByteView received(MutableByteView request);
  // Of the setxattr that the calling thread serves: an access ACL is set by somebody who may not
  // keep set-group-id.
  static bool kills_set_group_id();
  // From now on requests get EIO and reach no operation, but for those that only let go.
  void shut_down() { shut_down_ = true; }
  bool is_shut_down() const { return shut_down_; }
  // The name in the creation of a file without one.
  static constexpr std::string_view kUnnamed = "/";
  // FUSE_STATX, which our headers do not have.
  static constexpr uint32_t kStatx = 52;
  // `done` runs once, on the thread that has answered INIT, when the kernel has the answer. Before
  // the first request.
  void when_agreed(std::function<void()> done) { when_agreed_ = std::move(done); }
  // Of the attributes that the calling thread replies next, in nanoseconds since 1970; 0: unknown.
  static void tell_birth(int64_t ns);
  // writev(2) of a reply or notification: one message, the header in the first part.
  ssize_t send(int fd, const iovec* parts, int count);

  // Makes libfuse send through `channel` of the session's user data, an `Owner`. `fd`: the
  // session's, which is closed with it. Returns 0 or a negative errno.
  template <class Owner, KernelChannel& (Owner::*channel)()>
  static int attach(fuse_session* session, int fd) {
    fuse_custom_io io{};
    io.writev = [](int to, iovec* parts, int count, void* owner) {
      return (static_cast<Owner*>(owner)->*channel)().send(to, parts, count);
    };
    io.read = [](int from, void* buffer, size_t size, void*) {
      return read_some(from, buffer, size);
    };
    return fuse_session_custom_io(session, &io, fd);
  }

 private:
  static ssize_t read_some(int fd, void* buffer, size_t size);
  ssize_t send_init(int fd, const iovec* parts, int count);
  MutableByteView shorten_setxattr(MutableByteView request) const;
  ssize_t send_statx(int fd, const iovec* parts, int count);
  bool was_statx(uint64_t unique);

  const InitAmendment wanted_;
  std::atomic<bool> shut_down_{false};
  InodeId root_ = kRootInode;
  std::atomic<uint64_t> init_unique_{0};  // of the INIT request to be answered; 0: none
  InitAmendment offered_;                 // by the kernel, set before init_unique_
  std::function<void()> when_agreed_;
  std::atomic<size_t> statx_count_{0};  // of `statx_`, to be looked at without the lock
  std::mutex mutex_;
  std::unordered_set<uint64_t> statx_;  // requests for statx that have no reply yet
};

}  // namespace datacloud
