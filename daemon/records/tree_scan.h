// What lies below a directory that is to become a tree, read from a snapshot: which files are
// there, and whether one of them has a further name outside.
//
// Memory: a bit for each inode number (inode_set.h), and a table of bounded size for files with
// several names: of more than fit, names are counted in further passes.
//
// Threads: any; see RecordSnapshot.
#pragma once

#include <atomic>
#include <optional>
#include <string>

#include "daemon/metadata/record_snapshot.h"
#include "daemon/records/inode_set.h"
#include "daemon/records/trees.h"

namespace datacloud {

struct TreeScanLimits {
  size_t table_files = 1u << 20;  // of several names, counted at a time: about 32 bytes each
};

struct TreeScanProgress {
  std::atomic<uint64_t> entries{0};  // seen, in all passes
  std::atomic<bool> stop{false};
};

// All that is no directory below the area's root; nested trees are left out. unavailable: `stop`
// was set. corrupt, io: the store cannot be read.
result<InodeSet> members_of(const RecordSnapshot&, const TreeArea&, TreeScanProgress&);

// Why the directory cannot become a tree, with both names: a file below it has a further name
// outside. Nullopt: nothing is in the way.
result<std::optional<std::string>> link_across(const RecordSnapshot&, const TreeArea&,
                                               const InodeSet& members, TreeScanProgress&,
                                               const TreeScanLimits& = {});

}  // namespace datacloud
