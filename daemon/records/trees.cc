// Records of trees, their counters and borders.
#include "daemon/records/trees.h"

#include <fmt/format.h>

#include <cerrno>

#include "daemon/metadata/counters.h"
#include "daemon/metadata/record_keys.h"
#include "daemon/records/block_map.h"
#include "daemon/records/namespace_ops.h"
#include "daemon/records/namespace_records.h"
#include "daemon/records/reservations.h"

namespace datacloud::trees {
namespace {

constexpr char kNextId[] = "next_id/tree";

// The tree whose root the directory is.
result<std::optional<pb::Tree>> tree_rooted_at(const Transaction& txn, const pb::Inode& directory) {
  if (directory.tree() == 0) return std::optional<pb::Tree>();
  TRY(auto tree, find(txn, directory.tree()));
  if (!tree || tree->root() != directory.ino()) return std::optional<pb::Tree>();
  return tree;
}

// The first trees directly inside, by path, and how many there are.
struct Nested {
  std::vector<std::string> paths;
  size_t count = 0;
};
constexpr size_t kNestedNamed = 3;

result<Nested> nested_in(const Transaction& txn, uint32_t id) {
  std::vector<InodeId> roots;
  Nested nested;
  TRY(txn.scan("T", "U", [&](std::string_view, std::string_view value) {
    pb::Tree tree;
    if (!tree.ParseFromArray(value.data(), static_cast<int>(value.size()))) return true;
    if (tree.parent() != id || tree.state() == pb::TREE_REMOVED) return true;
    if (roots.size() < kNestedNamed) roots.push_back(tree.root());
    ++nested.count;
    return true;
  }));
  for (const InodeId root : roots) {
    auto path = directory_path(txn, root);
    nested.paths.push_back(path ? std::move(path).value() : fmt::format("inode {}", root));
  }
  return nested;
}

result<void> check_room(const Transaction& txn) {
  size_t trees = 0;
  TRY(txn.scan("T", "U", [&](std::string_view, std::string_view) { return ++trees < kTreesMax; }));
  if (trees < kTreesMax) return success();
  return failure(Errc::invalid,
                 fmt::format("the cloud has {} trees, as many as it can have: remove one with "
                             "`datacloud tree remove DIR`",
                             trees));
}

result<uint32_t> take_id(Transaction& txn) {
  TRY(const uint64_t id, read_counter(txn, kNextId, 1));
  if (id > UINT32_MAX) return failure(Errc::invalid, "all ids of trees are used up");
  put_counter(txn, kNextId, id + 1);
  return static_cast<uint32_t>(id);
}

}  // namespace

bool is_running(const pb::Tree& tree) {
  return tree.state() == pb::TREE_CHECKING || tree.state() == pb::TREE_CONVERTING ||
         tree.state() == pb::TREE_REMOVING;
}

TreeArea area_of(const pb::Tree& tree) {
  return {.id = tree.id(), .outside = tree.parent(), .root = tree.root(), .state = tree.state()};
}

result<std::optional<pb::Tree>> find(const Transaction& txn, uint32_t id) {
  pb::Tree tree;
  TRY(const bool found, txn.get(key::tree(id), tree));
  return found ? std::optional(std::move(tree)) : std::nullopt;
}

void put(Transaction& txn, const pb::Tree& tree) { txn.put(key::tree(tree.id()), tree); }

result<pb::TreeCounters> read_counters(const Transaction& txn, uint32_t id) {
  pb::TreeCounters counters;
  TRY(txn.get(key::tree_counters(id), counters));
  return counters;
}

result<void> count(Transaction& txn, uint32_t id, uint64_t inodes, uint64_t logical_bytes) {
  if (id == 0 || (inodes == 0 && logical_bytes == 0)) return success();
  TRY(auto counters, read_counters(txn, id));
  counters.set_inodes(counters.inodes() + inodes);
  counters.set_logical_bytes(counters.logical_bytes() + logical_bytes);
  txn.put(key::tree_counters(id), counters);
  if (counters.inodes() != 0) return success();
  TRY(const auto tree, find(txn, id));
  if (tree && tree->state() == pb::TREE_REMOVED) {
    txn.erase(key::tree(id));
    txn.erase(key::tree_counters(id));
  }
  return success();
}

result<void> move_inode(Transaction& txn, pb::Inode& inode, uint32_t to) {
  TRY(const uint64_t bytes, logical_bytes(txn, inode));
  TRY(count(txn, to, 1, bytes));
  TRY(reservations::move(txn, inode, to));
  TRY(count(txn, inode.tree(), ~uint64_t{0}, ~bytes + 1));
  inode.set_tree(to);
  return success();
}

result<uint32_t> tree_of_entries(const Transaction& txn, const pb::Inode& directory,
                                 const TreeArea* area) {
  if (area == nullptr || directory.tree() != area->outside) return directory.tree();
  TRY(const bool inside, names::is_at_or_above(txn, area->root, directory.ino()));
  return inside ? area->id : area->outside;
}

result<void> check_move(const Transaction& txn, const pb::Inode& from, const pb::Inode& to,
                        const TreeArea* area) {
  if (area == nullptr && from.tree() == to.tree()) return success();
  TRY(const uint32_t of_from, tree_of_entries(txn, from, area));
  TRY(const uint32_t of_to, tree_of_entries(txn, to, area));
  if (of_from == of_to) return success();
  return failure(Error::posix(
      EXDEV, fmt::format("directories {} and {} are in different trees", from.ino(), to.ino())));
}

result<LinkBorder> link_border(const Transaction& txn, const pb::Inode& file,
                               const pb::Inode& directory, const TreeArea* area) {
  TRY(const uint32_t of_directory, tree_of_entries(txn, directory, area));
  // Of a tree that is dissolved, what carries the outer id may have any names in both: they will
  // be one.
  const bool either = area != nullptr && file.tree() == area->outside &&
                      (of_directory == area->id || of_directory == area->outside);
  if (!either) return file.tree() == of_directory ? LinkBorder::within : LinkBorder::across;
  if (area->removing()) return LinkBorder::within;
  if (area->members == nullptr) return LinkBorder::unknown;
  const bool inside = area->members->contains(file.ino());
  return inside == (of_directory == area->id) ? LinkBorder::within : LinkBorder::across;
}

result<void> check_removal(const pb::Inode& directory, const TreeArea* area) {
  if (area == nullptr || area->root != directory.ino()) return success();
  return failure(Error::posix(EBUSY, fmt::format("directory {} is being made a tree, or tree {} is "
                                                 "being dissolved",
                                                 directory.ino(), area->id)));
}

result<void> entered(Transaction& txn, pb::Inode& child, const pb::Inode& directory,
                     const TreeArea* area) {
  if (area == nullptr || !area->changing() || child.tree() == area->to()) return success();
  TRY(const uint32_t of_directory, tree_of_entries(txn, directory, area));
  if (of_directory != area->id) return success();
  if (child.tree() == area->from()) {
    if (!names::is_directory(child)) return move_inode(txn, child, area->to());
    TRY(auto tree, find(txn, area->id));
    if (!tree) return failure(Errc::corrupt, fmt::format("tree {} has no record", area->id));
    tree->set_again(true);
    put(txn, *tree);
    return success();
  }
  TRY(auto nested, tree_rooted_at(txn, child));
  if (nested && nested->parent() == area->from()) {
    nested->set_parent(area->to());
    put(txn, *nested);
  }
  return success();
}

result<void> directory_removed(Transaction& txn, const pb::Inode& directory) {
  TRY(auto tree, tree_rooted_at(txn, directory));
  if (!tree) return success();
  tree->set_state(pb::TREE_REMOVED);
  tree->clear_root();
  put(txn, *tree);
  return success();
}

result<pb::Tree> create_tree(Transaction& txn, pb::Inode directory, const std::string& path,
                             int64_t now_ns) {
  if (!names::is_directory(directory)) {
    return failure(Errc::invalid,
                   fmt::format("{} is no directory: trees are made of directories", path));
  }
  if (directory.ino() == kRootInode) {
    return failure(Errc::invalid,
                   "the cloud's root is the root of all trees: name a directory below it");
  }
  if (directory.nlink() == 0) {
    return failure(Error::posix(ENOENT, fmt::format("{} was removed", path)));
  }
  TRY(const auto already, tree_rooted_at(txn, directory));
  if (already) {
    return failure(Errc::exists, fmt::format("{} is tree {} already", path, already->id()));
  }
  TRY(check_room(txn));
  pb::Tree tree;
  TRY(const uint32_t id, take_id(txn));
  tree.set_id(id);
  tree.set_root(directory.ino());
  tree.set_parent(directory.tree());
  tree.set_created_ns(now_ns);
  TRY(const bool occupied, names::has_entries(txn, directory.ino()));
  txn.put(key::tree_counters(id), pb::TreeCounters());
  if (occupied) {
    tree.set_state(pb::TREE_CHECKING);
  } else {
    TRY(move_inode(txn, directory, id));
    names::put_inode(txn, directory);
  }
  put(txn, tree);
  return tree;
}

result<pb::Tree> remove_tree(Transaction& txn, const pb::Inode& directory,
                             const std::string& path) {
  TRY(auto tree, tree_rooted_at(txn, directory));
  if (!tree) {
    return failure(
        Errc::not_found,
        fmt::format("{} is not the root of a tree; `datacloud tree list` shows them", path));
  }
  TRY(const auto nested, nested_in(txn, tree->id()));
  if (nested.count > 0) {
    return failure(Errc::invalid,
                   fmt::format("trees are inside of {}, which have to be removed first: {}{}", path,
                               fmt::join(nested.paths, ", "),
                               nested.count > nested.paths.size()
                                   ? fmt::format(" and {} more", nested.count - nested.paths.size())
                                   : ""));
  }
  tree->set_state(pb::TREE_REMOVING);
  tree->clear_cursor();
  tree->set_again(false);
  put(txn, *tree);
  return *tree;
}

}  // namespace datacloud::trees
