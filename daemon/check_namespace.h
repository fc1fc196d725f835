// Do inodes, entries, positions, link counts and attributes agree? For fsck and tests.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "daemon/metadata_store.h"

namespace datacloud {

struct NamespaceFinding {
  std::string text;
  std::string action;  // what mends it; empty: nothing does without losing something
};

// Memory grows with the number of inodes (about 100 bytes each). With `mend` the actions are taken
// in the transaction. Nothing with contents is ever removed: inodes without a name are linked into
// /lost+found under their numbers. `now_ns` is the time of what is made; `new_ino` gives the id of
// /lost+found, called at most once.
result<std::vector<NamespaceFinding>> check_namespace(Transaction&, bool mend, int64_t now_ns,
                                                      const std::function<InodeId()>& new_ino);

}  // namespace datacloud
