// Memory that a node and the server of a site share while both are on one machine, so that the
// bytes of objects cross no socket (docs/nodes.md, "On the same machine").
//
// The client makes it and hands out its places (WindowRooms): data to put is copied in, and an
// answer comes where the request says. It can never shrink (a seal of the kernel's), so that
// neither side can make the other fault. Either side can change its bytes at any time: each copies
// or writes them once, and what is above authenticates.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>

#include "common/base/bytes.h"
#include "common/base/error.h"

namespace datacloud {

// Thread safety: any thread; the bytes are their users' to order.
class SiteWindow {
 public:
  // Pages are taken when they are first touched.
  static result<std::shared_ptr<SiteWindow>> make(size_t bytes);
  // The one that a peer has made; owns `fd`. invalid: not such memory, it may shrink, or it is
  // larger than that.
  static result<std::shared_ptr<SiteWindow>> adopt(int fd, size_t bytes_max);
  ~SiteWindow();
  SiteWindow(const SiteWindow&) = delete;
  SiteWindow& operator=(const SiteWindow&) = delete;

  int fd() const { return fd_; }
  size_t size() const { return bytes_.size(); }
  bool holds(uint64_t offset, uint64_t length) const {
    return offset <= size() && length <= size() - offset;
  }
  // These must be in it.
  MutableByteView at(uint64_t offset, uint64_t length) const {
    return bytes_.subspan(offset, length);
  }
  // Gives all pages back to the kernel; what was in them is zero.
  void release() const;

 private:
  SiteWindow(int fd, MutableByteView bytes) : fd_(fd), bytes_(bytes) {}
  static result<std::shared_ptr<SiteWindow>> map(int fd, size_t bytes);

  const int fd_;
  const MutableByteView bytes_;
};

// Which places of a window are taken; one thread. First fit, in whole pages.
class WindowRooms {
 public:
  explicit WindowRooms(size_t bytes) : bytes_(bytes) {}
  // nullopt: there is no such room now; with nothing taken there is one for up to all bytes.
  std::optional<uint64_t> take(uint64_t bytes);
  void give_back(uint64_t offset);
  bool empty() const { return taken_.empty(); }

 private:
  const uint64_t bytes_;
  std::map<uint64_t, uint64_t> taken_;  // offset to end
};

}  // namespace datacloud
