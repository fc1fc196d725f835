// One step after the other through what is below a tree's root.
#include "daemon/records/tree_walk.h"

#include <fmt/format.h>

#include <algorithm>

#include "daemon/metadata/record_keys.h"
#include "daemon/records/namespace_ops.h"
#include "daemon/records/namespace_records.h"

namespace datacloud {
namespace {

struct Position {
  uint64_t cookie = 0;
  std::string name;
};

// The directory's next entries, in the order of their positions.
result<std::vector<Position>> positions_after(const Transaction& txn, InodeId directory,
                                              uint64_t cookie, size_t count_max) {
  std::vector<Position> found;
  const std::string end = key::after_prefix(key::cookie(directory, 0).substr(0, 9));
  TRY(txn.scan(key::cookie(directory, cookie + 1), end, [&](std::string_view k, auto name) {
    if (k.size() == 17) found.push_back({key::u64_at(k, 9), std::string(name)});
    return found.size() < count_max;
  }));
  return found;
}

}  // namespace

TreeWalk::TreeWalk(const pb::Tree& tree) : area_(trees::area_of(tree)) {
  for (const auto& step : tree.cursor()) way_.push_back({step.directory(), step.cookie()});
}

result<bool> TreeWalk::step(Transaction& txn, uint32_t entries) {
  TRY(auto tree, trees::find(txn, area_.id));
  if (!tree || tree->state() != area_.state) return true;  // fsck has taken it away
  if (way_.empty()) {
    TRY(begin(txn));
  }
  for (uint32_t left = entries; left > 0 && !way_.empty();) {
    TRY(const uint32_t seen, some_of_directory(txn, left));
    left -= std::min(left, std::max(seen, 1u));
  }
  // What it has changed itself is in the transaction.
  TRY(tree, trees::find(txn, area_.id));
  if (!tree) return failure(Errc::corrupt, fmt::format("tree {} has lost its record", area_.id));
  if (!way_.empty() || tree->again()) {
    if (way_.empty()) tree->set_again(false);
    keep_place(*tree);
    trees::put(txn, *tree);
    return false;
  }
  TRY(finish(txn, *tree));
  return true;
}

result<void> TreeWalk::begin(Transaction& txn) {
  TRY(auto root, get_inode(txn, area_.root));
  if (root.tree() == area_.from()) {
    TRY(trees::move_inode(txn, root, area_.to()));
    names::put_inode(txn, root);
    ++converted_;
  }
  way_.push_back({area_.root, 0});
  return success();
}

// Entries of the directory at the end of the way, up to and into the first subdirectory; back up
// behind the last one. Returns how many it has looked at.
result<uint32_t> TreeWalk::some_of_directory(Transaction& txn, uint32_t entries) {
  const Place at = way_.back();
  TRY(const auto positions, positions_after(txn, at.directory, at.cookie, entries));
  if (positions.empty()) {
    way_.pop_back();
    return uint32_t{0};
  }
  const size_t depth = way_.size();
  uint32_t seen = 0;
  for (const auto& position : positions) {
    way_.back().cookie = position.cookie;
    ++seen;
    TRY(visit(txn, at.directory, position.name));
    if (way_.size() != depth) break;  // down into a subdirectory
  }
  return seen;
}

result<void> TreeWalk::visit(Transaction& txn, InodeId directory, const std::string& name) {
  TRY(const auto entry, names::find_entry(txn, directory, name));
  if (!entry) return success();
  pb::Inode inode;
  TRY(const bool found, txn.get(key::inode(entry->ino()), inode));
  if (!found) return success();  // fsck tells of it
  if (inode.tree() == area_.from()) {
    TRY(trees::move_inode(txn, inode, area_.to()));
    names::put_inode(txn, inode);
    ++converted_;
  }
  if (!names::is_directory(inode)) return success();
  if (inode.tree() == area_.to()) {
    way_.push_back({inode.ino(), 0});
    return success();
  }
  TRY(auto nested, trees::find(txn, inode.tree()));
  if (nested && nested->root() == inode.ino() && nested->parent() == area_.from()) {
    nested->set_parent(area_.to());
    trees::put(txn, *nested);
  }
  return success();
}

// A part of the way would not do: what is moved from behind it is not met again.
void TreeWalk::keep_place(pb::Tree& tree) const {
  tree.clear_cursor();
  if (way_.size() > kWayKept) return;
  for (const auto& place : way_) {
    auto* step = tree.add_cursor();
    step->set_directory(place.directory);
    step->set_cookie(place.cookie);
  }
}

result<void> TreeWalk::finish(Transaction& txn, pb::Tree& tree) const {
  tree.clear_cursor();
  tree.set_again(false);
  if (!area_.removing()) {
    tree.set_state(pb::TREE_READY);
    trees::put(txn, tree);
    return success();
  }
  TRY(const auto counters, trees::read_counters(txn, tree.id()));
  if (counters.inodes() == 0) {
    txn.erase(key::tree(tree.id()));
    txn.erase(key::tree_counters(tree.id()));
    return success();
  }
  tree.set_state(pb::TREE_REMOVED);  // files without a name that are open
  tree.clear_root();
  trees::put(txn, tree);
  return success();
}

}  // namespace datacloud
