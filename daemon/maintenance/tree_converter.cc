// Scan, walk, end.
#include "daemon/maintenance/tree_converter.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <utility>

#include "common/base/log.h"
#include "daemon/metadata/record_keys.h"
#include "daemon/records/namespace_ops.h"

namespace datacloud {
namespace {

constexpr auto kPause = milliseconds(1);  // requests are served between two steps
constexpr auto kNoSpacePause = seconds(1);
constexpr size_t kFailuresKept = 64;

}  // namespace

// The job has `view` and `members` while it runs.
struct TreeConverter::ScanRun {
  TreeArea area;
  std::unique_ptr<RecordSnapshot> view;
  TreeScanProgress progress;
  InodeSet members;
  std::vector<InodeId> created;  // meanwhile; on the loop
  std::optional<std::string> obstacle;
  std::optional<Error> failed;

  void work() {
    auto found = members_of(*view, area, progress);
    if (!found) {
      failed = found.error();
      return;
    }
    members = std::move(found).value();
    if (area.state != pb::TREE_CHECKING) return;  // it was checked before
    auto across = link_across(*view, area, members, progress);
    if (!across) {
      failed = across.error();
      return;
    }
    obstacle = std::move(across).value();
  }
};

result<void> TreeConverter::open(const Transaction& txn) {
  return txn.scan("T", "U", [this](std::string_view, std::string_view value) {
    pb::Tree tree;
    if (!tree.ParseFromArray(value.data(), static_cast<int>(value.size()))) return true;
    if (trees::is_running(tree)) area_ = trees::area_of(tree);
    return !area_;
  });
}

void TreeConverter::start() {
  if (!area_) return;
  spdlog::info("the conversion of tree {} goes on", area_->id);
  if (!area_->removing()) scan();
  if (area_->changing()) schedule(kPause);
}

void TreeConverter::stop() {
  if (scan_) scan_->progress.stop = true;
}

void TreeConverter::begin(const pb::Tree& tree) {
  area_ = trees::area_of(tree);
  if (area_->changing()) {
    schedule(kPause);
  } else {
    scan();
  }
}

void TreeConverter::scan() {
  scan_ = std::make_shared<ScanRun>();
  scan_->area = *area_;
  scan_->view = store_.snapshot();
  background_.submit_prompt([this, run = scan_] {
    run->work();
    (void)background_.on_loop<void>([this, run]() -> result<void> {
      run->view.reset();
      scanned(run);
      return success();
    });
  });
}

// On the loop.
void TreeConverter::scanned(const std::shared_ptr<ScanRun>& run) {
  if (scan_ != run) return;  // the conversion has ended before
  scan_.reset();
  if (run->failed && !area_->changing()) return give_up(run->failed->message());
  if (run->failed) {
    // Links that might cross the border are refused then.
    spdlog::error("the files of tree {} are not known: {}", area_->id, run->failed->message());
    return release_held();
  }
  if (run->obstacle) return give_up(*run->obstacle);
  members_ = std::move(run->members);
  for (const InodeId ino : run->created) members_.insert(ino);
  area_->members = &members_;
  if (area_->changing()) return release_held();
  const auto begun = begin_walk();
  if (!begun) return give_up(begun.error().message());
  release_held();
  schedule(kPause);
}

result<void> TreeConverter::begin_walk() {
  Transaction txn = store_.begin();
  TRY(auto tree, trees::find(txn, area_->id));
  if (!tree) return failure(Errc::not_found, "its record is gone");
  tree->set_state(pb::TREE_CONVERTING);
  trees::put(txn, *tree);
  TRY(committer_.apply(std::move(txn)));
  area_->state = pb::TREE_CONVERTING;
  return success();
}

// Nothing carries its id yet: its records go.
void TreeConverter::give_up(const std::string& why) {
  spdlog::warn("tree {} is given up: {}", area_->id, why);
  Transaction txn = store_.begin();
  txn.erase(key::tree(area_->id));
  txn.erase(key::tree_counters(area_->id));
  const auto erased = committer_.apply(std::move(txn));
  if (!erased) spdlog::error("tree {}: {}", area_->id, erased.error().message());
  failures_[area_->id] = why;
  if (failures_.size() > kFailuresKept) failures_.erase(failures_.begin());
  end();
}

void TreeConverter::end() {
  area_.reset();
  walk_.reset();
  if (scan_) scan_->progress.stop = true;
  scan_.reset();
  members_ = InodeSet();
  release_held();
}

void TreeConverter::release_held() {
  for (auto& f : std::exchange(held_, {})) loop_->post(std::move(f));
}

void TreeConverter::schedule(Duration pause) {
  loop_->after(pause, [this] { step(); });
}

void TreeConverter::step() {
  if (!area_) return;
  if (!hooks_.may_grow()) return schedule(kNoSpacePause);
  const auto done = step_once();
  if (done) {
    if (area_) schedule(kPause);
    return;
  }
  // Tried again at the daemon's next start; the border stays as it is until then.
  spdlog::error("the conversion of tree {} stops: {}", area_->id, done.error().message());
  failures_[area_->id] = done.error().message();
}

result<void> TreeConverter::step_once() {
  Transaction txn = store_.begin();
  if (!walk_) {
    TRY(const auto tree, trees::find(txn, area_->id));
    if (!tree || tree->state() != area_->state) {
      end();
      return success();
    }
    walk_.emplace(*tree);
  }
  TRY(const bool ended, walk_->step(txn));
  if (!txn.empty()) {
    TRY(committer_.apply(std::move(txn)));
  }
  if (!ended) return success();
  spdlog::info("tree {} is {}", area_->id, area_->removing() ? "dissolved" : "ready");
  end();
  return success();
}

result<void> TreeConverter::created(const Transaction& txn, const pb::Inode& file,
                                    InodeId directory) {
  if (!area_ || area_->removing() || S_ISDIR(file.mode()) || file.tree() != area_->outside) {
    return success();
  }
  TRY(const auto inode, get_inode(txn, directory));
  TRY(const uint32_t tree, trees::tree_of_entries(txn, inode, &*area_));
  if (tree != area_->id) return success();
  if (scan_) {
    scan_->created.push_back(file.ino());
  } else {
    members_.insert(file.ino());
  }
  return success();
}

uint64_t TreeConverter::converted() const {
  if (walk_) return walk_->converted();
  return scan_ ? scan_->progress.entries.load() : 0;
}

std::string TreeConverter::failure_of(uint32_t id) const {
  const auto it = failures_.find(id);
  return it != failures_.end() ? it->second : std::string();
}

}  // namespace datacloud
