// What lies below the directories that nodes are limited to (docs/nodes.md, "Limited to a
// directory").
//
// A directory tells the way up by itself. A file does not: it has any number of names, and no
// record says in which directories. So for each such directory (a root) the files are remembered
// that were met below it: what a request of a limited node was answered with, and, after a start,
// what a walk through the root's entries finds. Whoever changes names tells, so that a file that
// has left is forgotten in the same moment. Inode numbers are not used twice.
//
// Invariant: a file is remembered only while one of its names lies below the root, or while it has
// none and the last one did. In doubt it is forgotten: a lookup by name brings it back.
//
// In memory only. Memory: at most a quarter of a byte per inode number ever given out and root.
//
// Threads: one at a time (the service's).
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "common/proto/records.pb.h"
#include "daemon/metadata/metadata_store.h"
#include "daemon/records/inode_set.h"

namespace datacloud {

class LimitedDirectories {
 public:
  static constexpr size_t kEntriesPerStep = 10'000;

  // unknown: the file was not met yet, and a walk could still find it.
  enum class Verdict { inside, outside, unknown };
  // Errors: as of the records on the way up; ENOENT when a directory there is gone.
  result<Verdict> judge(const Transaction&, InodeId root, const pb::Inode&);
  // The file was found by a name below the root.
  void met(InodeId root, const pb::Inode&);

  // After a change of names that has been made, by whomever. `file` as it is now.
  void linked(const Transaction&, const pb::Inode& file, InodeId parent);
  void lost_name(const Transaction&, const pb::Inode& file, InodeId parent);
  void moved(const Transaction&, const pb::Inode& moved, InodeId from, InodeId to);
  // No node is limited to the root any more.
  void forget(InodeId root) { roots_.erase(root); }

  // Asks for a walk of the root. False: one has been through, or is on its way.
  bool begin_walk(InodeId root);
  // Goes on with the walks by one step; the roots whose walk ended with it.
  std::vector<InodeId> walk_on(const Transaction&);
  bool walking() const;

 private:
  struct Place {
    InodeId directory = 0;
    std::string after;  // the last name seen; empty: none yet
  };
  struct Root {
    InodeSet files;
    InodeSet whole;  // of these: all names are known to lie below the root
    enum class Walk { none, running, done } walk = Walk::none;
    std::vector<Place> places;  // still to be walked
  };
  using Chain = std::set<InodeId>;
  // A directory and all above it; on failure everything is forgotten, and false.
  bool chain_of(const Transaction&, InodeId directory, Chain&);
  static void start_over(InodeId ino, Root&);
  result<void> walk_some(const Transaction&, Root&, size_t& left);

  std::map<InodeId, Root> roots_;
};

}  // namespace datacloud
