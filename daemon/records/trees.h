// Trees: directories that were declared to be one, with all that is below them. A tree has an id,
// counters and a border; inodes carry its id (Inode.tree, 0: the cloud's root tree).
//
// Invariants, once no conversion runs: an inode carries the tree of the directories that name it,
// but for the root directory of a tree, which carries the tree's id while its entry belongs to the
// tree around it (Tree.parent). So nothing has names in two trees, and two directories of one tree
// may exchange any of their entries. Tree 0 has no records and costs nothing.
//
// While a directory is made a tree, or a tree is dissolved, what is below it carries either of two
// ids (TreeArea). The border counts from the first moment to the last, and is told by the way up
// from the directories concerned.
//
// Errors are POSIX (Error::posix). Threads: as the transaction's.
#pragma once

#include <optional>

#include "common/proto/records.pb.h"
#include "daemon/metadata/metadata_store.h"
#include "daemon/records/inode_set.h"

namespace datacloud {

// A conversion that is running.
struct TreeArea {
  uint32_t id = 0;       // of the tree that is made or dissolved
  uint32_t outside = 0;  // the tree around it
  InodeId root = 0;
  pb::TreeState state = pb::TREE_READY;  // TREE_CHECKING, TREE_CONVERTING or TREE_REMOVING
  // Of a tree that is made: its files that carry the outer tree's id, as a file does not tell the
  // way to its names. Null while they are being gathered.
  const InodeSet* members = nullptr;

  bool removing() const { return state == pb::TREE_REMOVING; }
  bool changing() const { return state != pb::TREE_CHECKING; }
  uint32_t from() const { return removing() ? id : outside; }
  uint32_t to() const { return removing() ? outside : id; }
};

namespace trees {

inline constexpr size_t kTreesMax = 65'536;

bool is_running(const pb::Tree&);  // a conversion of it
TreeArea area_of(const pb::Tree&);

result<std::optional<pb::Tree>> find(const Transaction&, uint32_t id);
void put(Transaction&, const pb::Tree&);
result<pb::TreeCounters> read_counters(const Transaction&, uint32_t id);
// Adds to the tree's counters, modulo 2^64; of tree 0 there are none. A tree that was dissolved
// goes with its last inode.
result<void> count(Transaction&, uint32_t id, uint64_t inodes, uint64_t logical_bytes);
// Lets the inode carry another id, and counts it there; the caller puts it.
result<void> move_inode(Transaction&, pb::Inode&, uint32_t to);

// The tree that the directory's entries belong to.
result<uint32_t> tree_of_entries(const Transaction&, const pb::Inode& directory, const TreeArea*);

// EXDEV: an entry cannot go from one of the directories to the other.
result<void> check_move(const Transaction&, const pb::Inode& from, const pb::Inode& to,
                        const TreeArea*);
// May the file (no directory) have a further name there? unknown: not before the conversion's
// members are known.
enum class LinkBorder { within, across, unknown };
result<LinkBorder> link_border(const Transaction&, const pb::Inode& file,
                               const pb::Inode& directory, const TreeArea*);
// EBUSY: the directory cannot be removed, as a conversion of it is running.
result<void> check_removal(const pb::Inode&, const TreeArea*);

// `child` has got a name in `directory` by rename or link: the conversion's walk may never meet it
// there. So it is converted now; a directory makes the walk look once more. Changes `child` (the
// caller puts it).
result<void> entered(Transaction&, pb::Inode& child, const pb::Inode& directory, const TreeArea*);
// The directory has lost its name: a tree whose root it was is dissolved, and lasts as long as
// inodes carry its id.
result<void> directory_removed(Transaction&, const pb::Inode&);

// Makes a tree of the directory: ready when that is empty, else TREE_CHECKING, with a conversion
// that is to be run. `path` is for the texts. invalid: not a directory, the cloud's root, or there
// are too many trees; exists: it is a tree already.
result<pb::Tree> create_tree(Transaction&, pb::Inode directory, const std::string& path,
                             int64_t now_ns);
// Begins to dissolve the tree: TREE_REMOVING. not_found: the directory is no tree's root; invalid:
// trees are nested in it.
result<pb::Tree> remove_tree(Transaction&, const pb::Inode& directory, const std::string& path);

}  // namespace trees
}  // namespace datacloud
