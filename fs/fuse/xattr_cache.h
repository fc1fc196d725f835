// What the daemon has answered about extended attributes, ACLs among them, as the kernel gets it:
// values, and that there are none.
//
// The kernel keeps no attribute but ACLs, these only as long as the attributes of their file, and
// those of the root never; ls(1) asks for two or three of every file. An answer is kept here as
// long as the mount's READ lease on the inode: who uses find() holds it, and whoever loses it, or
// changes an attribute or a mode, calls forget().
//
// Bounded by kBytesMax; beyond, all is forgotten and asked for again.
//
// Thread safety: all methods from any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>

#include "common/base/ids.h"

namespace datacloud {

class XattrCache {
 public:
  static constexpr size_t kBytesMax = 8u << 20;   // of names and values, and kEntryBytes for each
  static constexpr size_t kValueBytesMax = 4096;  // of one that is kept
  static constexpr size_t kEntryBytes = 150;      // what keeping an entry costs

  struct Known {
    std::optional<std::string> value;  // none: there is no such attribute
  };
  // `session`: that of the lease; what was kept under another one is not found.
  std::optional<Known> find(InodeId, const std::string& name, uint64_t session) const;
  // Before the daemon is asked, with the lease held.
  uint64_t begin() const;
  // Its answer. It is not kept if anything was forgotten since begin().
  void keep(uint64_t begun, InodeId, const std::string& name, uint64_t session, Known);
  void forget(InodeId);
  size_t bytes() const;

 private:
  struct OfInode {
    uint64_t session = 0;
    std::map<std::string, Known> by_name;
  };
  static size_t cost(const std::string& name, const Known& known) {
    return kEntryBytes + name.size() + (known.value ? known.value->size() : 0);
  }
  void drop(InodeId);

  mutable std::mutex mutex_;
  uint64_t forgotten_ = 0;  // counts calls of forget()
  size_t bytes_ = 0;
  std::unordered_map<InodeId, OfInode> kept_;
};

}  // namespace datacloud
