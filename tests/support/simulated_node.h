// A file or directory of the simulated disk, in both its states. For its two .cc files only.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "tests/support/simulated_files.h"

namespace datacloud {

struct SimulatedFiles::Node {
  bool directory = false;
  uint64_t inode = 0;
  int64_t modified_ns = 0;
  // Files: what programs see, and what is on the platter.
  Bytes contents, durable;
  bool unsynced = false;   // contents differ from what the platter has
  bool truncated = false;  // emptied since the last sync: old contents may still come back
  // Directories: the same for names.
  std::map<std::string, NodePtr> entries, durable_entries;
};

}  // namespace datacloud
