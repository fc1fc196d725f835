// The walk of a conversion: from a tree's root down, each inode below it gets the tree's id, or
// that of the tree around it. In steps of bounded size, each in a transaction of its own.
//
// Directories are converted before what is in them, so that what is made in a converted one is
// converted. Nothing enters or leaves meanwhile (the border is shut). What is renamed or linked
// within is converted by that (trees::entered), besides directories: these make the walk look once
// more, until it has gone through without.
//
// The place of the walk is the way there from the root. It is kept in the tree's record with each
// step, so that another walk goes on there after a restart; from very deep ways it begins again
// instead.
//
// Threads: as the transactions'. One walk of a tree at a time.
#pragma once

#include <vector>

#include "daemon/records/trees.h"

namespace datacloud {

class TreeWalk {
 public:
  static constexpr uint32_t kEntriesPerStep = 512;
  static constexpr size_t kWayKept = 512;  // in the record

  // Of a tree that is TREE_CONVERTING or TREE_REMOVING.
  explicit TreeWalk(const pb::Tree&);

  // Goes on by up to `entries` entries. True when the conversion is done, which the transaction
  // then makes so: the tree is ready, or gone.
  result<bool> step(Transaction&, uint32_t entries = kEntriesPerStep);
  uint64_t converted() const { return converted_; }  // inodes, by this walk

 private:
  struct Place {
    InodeId directory = 0;
    uint64_t cookie = 0;  // of the last entry seen
  };
  result<void> begin(Transaction&);
  result<uint32_t> some_of_directory(Transaction&, uint32_t entries);
  result<void> visit(Transaction&, InodeId directory, const std::string& name);
  void keep_place(pb::Tree&) const;
  result<void> finish(Transaction&, pb::Tree&) const;

  TreeArea area_;
  std::vector<Place> way_;  // from the root down; empty: at the beginning
  uint64_t converted_ = 0;
};

}  // namespace datacloud
