// What this mount knows of a directory's names, while it holds a READ lease on the directory: pages
// of a listing, less the names that have changed since.
//
// Invariant: a name that is `present` has that inode, and one that is `absent` does not exist, as
// long as the lease holds and every change that is told (recalls with names, answers to changes of
// this mount) has been passed to forget(). Pages are added in the order of the daemon's messages; a
// change that is told after a page was added may be older than the page: then the name is only
// asked for again.
//
// Thread safety: none; the directory's inode locks.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "common/base/ids.h"
#include "common/proto/rpc.pb.h"

namespace datacloud {

class KnownListing {
 public:
  explicit KnownListing(uint64_t session) : session_(session) {}

  enum class State { unknown, absent, present };
  struct Found {
    State state = State::unknown;
    InodeId ino = 0;
  };

  // A page of the names with a cookie above `from`; one that does not follow what is known is left
  // out. `added`: the inodes of new names.
  void add(uint64_t from, const pb::ReadDirReply& page, std::vector<InodeId>& added);
  // False: so many names have changed that the whole is worth nothing any more.
  bool forget(const std::string& name, std::vector<InodeId>& dropped);
  Found find(const std::string& name) const;

  // The page that the daemon would answer; false when that is not known.
  bool page(uint64_t from, size_t count_max, uint64_t end_cookie, pb::ReadDirReply& out) const;
  // The position of a child; 0: not known.
  uint64_t cookie_of(InodeId child) const;

  uint64_t session() const { return session_; }
  bool complete() const { return complete_; }
  uint64_t next() const { return next_; }  // where the next page begins
  uint64_t end_cookie() const { return end_cookie_; }
  size_t size() const { return names_.size(); }
  std::vector<InodeId> inodes() const;

 private:
  const uint64_t session_;
  std::unordered_map<std::string, pb::Entry> names_;
  std::map<uint64_t, const std::string*> by_cookie_;  // names of names_
  std::unordered_set<std::string> changed_;
  uint64_t next_ = 0, end_cookie_ = 0;
  bool complete_ = false;
};

}  // namespace datacloud
