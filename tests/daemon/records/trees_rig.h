// A store with trees: names by short calls, conversions step by step, and fsck as the judge.
#pragma once

#include <gmock/gmock.h>

#include <cerrno>
#include <memory>
#include <optional>
#include <string>

#include "daemon/fsck/record_check.h"
#include "daemon/metadata/record_snapshot.h"
#include "daemon/records/cloud_features.h"
#include "daemon/records/tree_scan.h"
#include "daemon/records/tree_walk.h"
#include "tests/daemon/records/block_map_fixture.h"

namespace datacloud {

class TreesTest : public BlockMapFixture {
 protected:
  void SetUp() override {
    BlockMapFixture::SetUp();
    ASSERT_TRUE(apply([](Transaction& txn) -> result<void> {
      TRY(enable_feature(txn, Feature::trees, 1));
      put_ids(txn);
      return success();
    }));
  }

  void TearDown() override {
    view_.reset();
    BlockMapFixture::TearDown();
  }

  InodeId dir(InodeId parent, const std::string& name) {
    return make(parent, name, S_IFDIR | 0755);
  }
  InodeId file(InodeId parent, const std::string& name) {
    return make(parent, name, S_IFREG | 0644);
  }
  void map(InodeId ino, StripeId stripe) { map_three(ino, stripe, 96); }
  static constexpr uint64_t kMapped = 3 * 4096 - 96;

  template <class Outcome>
  static int errno_of(const Outcome& outcome) {
    return outcome ? 0 : outcome.error().errno_value();
  }
  int move(InodeId from, const std::string& name, InodeId to, const std::string& new_name,
           uint32_t flags = 0) {
    pb::RenameRequest request;
    request.set_parent(from);
    request.set_name(name);
    request.set_new_parent(to);
    request.set_new_name(new_name);
    request.set_flags(flags);
    return errno_of(apply([&](Transaction& txn) { return rename(txn, request, area()); }));
  }
  int add_link(InodeId ino, InodeId parent, const std::string& name) {
    pb::LinkRequest request;
    request.set_ino(ino);
    request.set_parent(parent);
    request.set_name(name);
    return errno_of(apply([&](Transaction& txn) { return link(txn, request, area()); }));
  }
  int remove(InodeId parent, const std::string& name, bool directory = false) {
    pb::UnlinkRequest request;
    request.set_parent(parent);
    request.set_name(name);
    request.set_directory(directory);
    return errno_of(apply([&](Transaction& txn) { return unlink(txn, request, area()); }));
  }
  bool reclaim(InodeId ino) {
    return apply([&](Transaction& txn) { return reclaim_inode(txn, ino, 10); }).value();
  }

  uint32_t tree_of(InodeId ino) { return get_inode(store_->begin(), ino).value().tree(); }
  std::optional<pb::Tree> tree(uint32_t id) { return trees::find(store_->begin(), id).value(); }
  pb::TreeCounters counters(uint32_t id) {
    return trees::read_counters(store_->begin(), id).value();
  }

  const TreeArea* area() const { return area_ ? &*area_ : nullptr; }
  result<pb::Tree> try_create(InodeId root) {
    return apply([&](Transaction& txn) -> result<pb::Tree> {
      TRY(const auto inode, get_inode(txn, root));
      return trees::create_tree(txn, inode, "/it", 5);
    });
  }
  result<pb::Tree> try_remove(InodeId root) {
    return apply([&](Transaction& txn) -> result<pb::Tree> {
      TRY(const auto inode, get_inode(txn, root));
      return trees::remove_tree(txn, inode, "/it");
    });
  }
  // Begins a conversion; of a new tree with the snapshot that its check will see.
  uint32_t begin(const result<pb::Tree>& begun) {
    EXPECT_TRUE(begun) << begun.error().message();
    if (!begun) return 0;
    if (trees::is_running(begun.value())) {
      area_ = trees::area_of(begun.value());
      members_ = InodeSet();
      if (!area_->removing()) view_ = store_->snapshot();
    }
    return begun.value().id();
  }
  // The check: nullopt, and the walk may begin, or the obstacle, and the tree is given up.
  std::optional<std::string> check(TreeScanLimits limits = {}) {
    TreeScanProgress progress;
    auto found = members_of(*view_, *area_, progress);
    EXPECT_TRUE(found) << found.error().message();
    members_ = std::move(found).value();
    for (const InodeId ino : created_) members_.insert(ino);
    created_.clear();
    const auto across = link_across(*view_, *area_, members_, progress, limits);
    EXPECT_TRUE(across) << across.error().message();
    view_.reset();
    EXPECT_TRUE(apply([&](Transaction& txn) -> result<void> {
      TRY(auto tree, trees::find(txn, area_->id));
      if (across.value()) {
        txn.erase(key::tree(area_->id));
        txn.erase(key::tree_counters(area_->id));
        return success();
      }
      tree->set_state(pb::TREE_CONVERTING);
      trees::put(txn, *tree);
      return success();
    }));
    if (across.value()) {
      area_.reset();
    } else {
      area_->state = pb::TREE_CONVERTING;
      area_->members = &members_;
    }
    return across.value();
  }
  // A step of the walk; true when that ended the conversion.
  bool step(uint32_t entries) {
    if (!walk_) walk_.emplace(*tree(area_->id));
    const auto done = apply([&](Transaction& txn) { return walk_->step(txn, entries); });
    EXPECT_TRUE(done) << done.error().message();
    if (!done || !done.value()) return !done;
    walk_.reset();
    area_.reset();
    return true;
  }
  void finish(uint32_t entries = 512) {
    while (!step(entries)) {
    }
  }
  uint32_t create_tree(InodeId root) {
    const uint32_t id = begin(try_create(root));
    if (area_) {
      EXPECT_EQ(check(), std::nullopt);
      finish();
    }
    return id;
  }
  void remove_tree(InodeId root) {
    begin(try_remove(root));
    finish();
  }

  void expect_sound() {
    RecordCheckProgress progress;
    const auto report =
        check_records(*store_->snapshot(), {.table_inodes = 7, .buckets = 4}, progress);
    ASSERT_TRUE(report) << report.error().message();
    for (const auto& finding : report.value().findings) ADD_FAILURE() << finding.text;
    expect_clean();
  }

  std::optional<TreeArea> area_;
  std::optional<TreeWalk> walk_;
  InodeSet members_;
  std::vector<InodeId> created_;
  std::unique_ptr<RecordSnapshot> view_;
};

}  // namespace datacloud
