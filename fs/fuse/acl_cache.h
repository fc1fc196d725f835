// POSIX ACLs that this mount has asked for, as the kernel gets them.
//
// The kernel forgets an ACL with the attributes of its file, and never keeps that of the root, so
// it asks again at every walk through such a directory. An ACL is kept here as long as the mount's
// READ lease on its inode: who uses find() holds it, and whoever loses it, or changes an ACL or a
// mode, calls forget().
//
// Bounded: kInodesMax inodes; beyond, all are forgotten and asked for again.
//
// Thread safety: all methods from any thread.
#pragma once

#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>

#include "common/base/ids.h"
#include "common/base/posix_acl.h"

namespace datacloud {

class AclCache {
 public:
  static constexpr size_t kInodesMax = 1024;  // 8 MiB, with two ACLs of 4 KiB each

  // `session`: that of the lease; what was kept under another one is not found.
  std::optional<std::string> find(InodeId, AclKind, uint64_t session) const;
  // Before the daemon is asked, with the lease held.
  uint64_t begin() const;
  // Its answer. It is not kept if anything was forgotten since begin().
  void keep(uint64_t begun, InodeId, AclKind, uint64_t session, std::string value);
  void forget(InodeId);
  size_t size() const;

 private:
  struct Kept {
    uint64_t session = 0;
    std::optional<std::string> access, defaulting;
  };
  static std::optional<std::string>& of(Kept& kept, AclKind kind) {
    return kind == AclKind::access ? kept.access : kept.defaulting;
  }

  mutable std::mutex mutex_;
  uint64_t forgotten_ = 0;  // counts calls of forget()
  std::unordered_map<InodeId, Kept> kept_;
};

}  // namespace datacloud
