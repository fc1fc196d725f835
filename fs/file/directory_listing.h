// One listing of a directory, from opendir or rewinddir on: where it ends, and which entries of the
// daemon's pages belong to it.
//
// Invariants, whatever is created, renamed or removed meanwhile, here or by other mounts: it ends;
// a name that stays is returned once; no name is returned more than twice (once for the file that
// had it when the listing began, once for one that was renamed to it since).
//
// Thread safety: none; the owner locks.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>

#include "common/proto/rpc.pb.h"

namespace datacloud {

class DirectoryListing {
 public:
  // Names of files renamed since the listing began that are remembered (about 1 MiB at most).
  // Beyond that such names are returned as they are met.
  static constexpr size_t kRenamedNamesMax = 4096;

  // Adds to the request for a page what ties it to this listing; takes note of what the reply says.
  void ask(pb::ReadDirRequest&) const;
  void learn(const pb::ReadDirReply&);

  // Whether the entry is to be returned. Asked again for the same entry, after seekdir or for a
  // buffer that was full, the answer is the same.
  bool shows(const pb::ReadDirReply::Item&);

 private:
  uint64_t end_cookie_ = 0;                            // 0: not begun
  std::unordered_map<std::string, uint64_t> renamed_;  // name -> the cookie it was returned for
};

}  // namespace datacloud
