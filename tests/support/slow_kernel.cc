// Preloaded into mount.datacloud by mount tests: a machine so busy that what is told to the kernel,
// or a reply to a lookup, comes late. The file $DATACLOUD_SLOW_KERNEL holds two numbers of
// milliseconds, read at each call: how long to wait before an inode is invalidated, and before an
// entry is replied.
#include <dlfcn.h>
#include <fuse3/fuse_lowlevel.h>

#include <chrono>
#include <cstdlib>
#include <fstream>
#include <thread>

namespace {

struct Delays {
  int invalidation_ms = 0;
  int entry_ms = 0;
};

Delays delays() {
  Delays found;
  const char* path = std::getenv("DATACLOUD_SLOW_KERNEL");
  if (path != nullptr) std::ifstream(path) >> found.invalidation_ms >> found.entry_ms;
  return found;
}

void pass(int ms) { std::this_thread::sleep_for(std::chrono::milliseconds(ms)); }

template <class Function>
Function* next(Function*, const char* name) {
  return reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
}

}  // namespace

extern "C" int fuse_lowlevel_notify_inval_inode(fuse_session* session, fuse_ino_t ino, off_t offset,
                                                off_t length) {
  pass(delays().invalidation_ms);
  static const auto real =
      next(&fuse_lowlevel_notify_inval_inode, "fuse_lowlevel_notify_inval_inode");
  return real(session, ino, offset, length);
}

extern "C" int fuse_reply_entry(fuse_req_t request, const fuse_entry_param* entry) {
  pass(delays().entry_ms);
  static const auto real = next(&fuse_reply_entry, "fuse_reply_entry");
  return real(request, entry);
}
