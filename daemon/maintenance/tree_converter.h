// Runs the conversions of trees: one at a time, in steps between requests.
//
// A directory with contents becomes a tree in two stages. First (TREE_CHECKING) a background thread
// reads a snapshot: what files are there, and does one have a name outside? Then nothing has
// changed yet, and the tree is given up with both names. Then (TREE_CONVERTING) the walk gives what
// is below its id. To dissolve a tree (TREE_REMOVING) is the walk alone. After a restart either
// stage goes on; of the second the files are gathered again meanwhile.
//
// The border is shut from the first moment: whoever changes names passes area() to
// daemon/records. Links of files whose side is not known yet wait (hold); when the files cannot be
// read after a restart, links that might cross the border are refused.
//
// Threads: the loop's, besides the scan. Must outlive the background threads.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "common/base/error.h"
#include "daemon/jobs/background.h"
#include "daemon/loop/event_loop.h"
#include "daemon/metadata/committer.h"
#include "daemon/records/tree_scan.h"
#include "daemon/records/tree_walk.h"
#include "daemon/records/trees.h"

namespace datacloud {

class TreeConverter {
 public:
  struct Hooks {
    std::function<bool()> may_grow;  // false: the disk of the metadata is full, steps wait
  };
  TreeConverter(MetadataStore& store, Committer& committer, std::shared_ptr<EventLoop> loop,
                Background& background, Hooks hooks)
      : store_(store),
        committer_(committer),
        loop_(std::move(loop)),
        background_(background),
        hooks_(std::move(hooks)) {}

  result<void> open(const Transaction&);  // a conversion that an earlier run of the daemon began
  void start();
  void stop();  // the scan ends soon

  // Of the conversion that is running, for daemon/records; null: none is.
  const TreeArea* area() const { return area_ ? &*area_ : nullptr; }
  // The transaction that began it has been applied.
  void begin(const pb::Tree&);
  // It is not known yet on which side of the border files are, and will be soon.
  bool gathering() const { return scan_ != nullptr; }
  // Runs the function when that is known.
  void hold(std::function<void()> f) { held_.push_back(std::move(f)); }
  // A file has been made in the directory.
  result<void> created(const Transaction&, const pb::Inode& file, InodeId directory);

  // Inodes that the conversion under way has converted since the daemon's start; during the check
  // entries seen.
  uint64_t converted() const;
  // Why the conversion of this tree was given up; empty: it was not, or that is long ago.
  std::string failure_of(uint32_t id) const;

 private:
  struct ScanRun;
  void scan();
  void scanned(const std::shared_ptr<ScanRun>&);
  void schedule(Duration);
  void step();
  result<void> step_once();
  result<void> begin_walk();
  void give_up(const std::string& why);
  void end();
  void release_held();

  MetadataStore& store_;
  Committer& committer_;
  std::shared_ptr<EventLoop> loop_;
  Background& background_;
  const Hooks hooks_;
  std::optional<TreeArea> area_;
  std::optional<TreeWalk> walk_;
  std::shared_ptr<ScanRun> scan_;  // under way
  InodeSet members_;
  std::deque<std::function<void()>> held_;
  std::map<uint32_t, std::string> failures_;  // the latest, by tree
};

}  // namespace datacloud
