// The rules of trees one by one: what becomes one, its border, its counters, nested trees, and how
// it ends.
#include "tests/daemon/records/trees_rig.h"

namespace datacloud {
namespace {

using testing::HasSubstr;

class TreesRulesTest : public TreesTest {};

TEST_F(TreesRulesTest, AnEmptyDirectoryIsATreeAtOnce) {
  const InodeId a = dir(kRootInode, "a");
  const uint32_t id = begin(try_create(a));
  EXPECT_EQ(area(), nullptr);
  EXPECT_EQ(tree(id)->state(), pb::TREE_READY);
  EXPECT_EQ(tree(id)->root(), a);
  EXPECT_EQ(tree(id)->parent(), 0u);
  EXPECT_EQ(counters(id).inodes(), 1u);
  // What is made below carries its id, and counts.
  const InodeId b = dir(a, "b"), f = file(b, "f");
  map(f, 5);
  EXPECT_EQ(tree_of(b), id);
  EXPECT_EQ(tree_of(f), id);
  EXPECT_EQ(counters(id).inodes(), 3u);
  EXPECT_EQ(counters(id).logical_bytes(), kMapped);
  expect_sound();
  pb::InodeUpdate cut;
  cut.set_ino(f);
  cut.set_truncate_to(4096);
  ASSERT_TRUE(apply([&](Transaction& txn) { return update_inode(txn, cut); }));
  EXPECT_EQ(counters(id).logical_bytes(), 4096u);
  EXPECT_EQ(remove(b, "f"), 0);
  EXPECT_EQ(counters(id).inodes(), 3u) << "until it is reclaimed";
  EXPECT_TRUE(reclaim(f));
  EXPECT_EQ(counters(id).inodes(), 2u);
  EXPECT_EQ(counters(id).logical_bytes(), 0u);
  expect_sound();
}

TEST_F(TreesRulesTest, ACloudWithoutTreesHasNoRecordsOfThem) {
  const InodeId a = dir(kRootInode, "a");
  map(file(a, "f"), 5);
  bool any = false;
  ASSERT_TRUE(store_->begin().scan("T", "V", [&](auto, auto) { return any = true; }));
  EXPECT_FALSE(any);
}

TEST_F(TreesRulesTest, WhatCannotBecomeATree) {
  const InodeId a = dir(kRootInode, "a"), f = file(kRootInode, "f");
  EXPECT_THAT(try_create(f).error().message(), HasSubstr("is no directory"));
  EXPECT_THAT(try_create(kRootInode).error().message(), HasSubstr("the root of all trees"));
  EXPECT_THAT(try_remove(a).error().message(), HasSubstr("not the root of a tree"));
  const uint32_t id = create_tree(a);
  EXPECT_THAT(try_create(a).error().message(),
              HasSubstr("is tree " + std::to_string(id) + " already"));
  const InodeId b = dir(a, "b");
  EXPECT_THAT(try_remove(b).error().message(), HasSubstr("not the root of a tree"));
}

TEST_F(TreesRulesTest, IdsAreNotGivenTwice) {
  const InodeId a = dir(kRootInode, "a");
  const uint32_t first = create_tree(a);
  remove_tree(a);
  EXPECT_EQ(tree(first), std::nullopt);
  EXPECT_EQ(create_tree(a), first + 1);
}

TEST_F(TreesRulesTest, TheBorderIsThatOfAFileSystem) {
  const InodeId a = dir(kRootInode, "a"), out = dir(kRootInode, "out");
  create_tree(a);
  const InodeId in = dir(a, "in"), inner = file(in, "f"), outer = file(out, "f");
  dir(in, "d");
  dir(out, "d");
  for (const uint32_t flags : {0u, 2u}) {  // with and without RENAME_EXCHANGE
    EXPECT_EQ(move(in, "f", out, "f", flags), EXDEV);
    EXPECT_EQ(move(out, "f", in, "f", flags), EXDEV);
    EXPECT_EQ(move(in, "d", out, "d", flags), EXDEV);
    EXPECT_EQ(move(out, "d", a, "in", flags), EXDEV);
  }
  EXPECT_EQ(move(in, "f", out, "g"), EXDEV);
  EXPECT_EQ(move(out, "d", a, "g"), EXDEV);
  EXPECT_EQ(add_link(inner, out, "g"), EXDEV);
  EXPECT_EQ(add_link(outer, in, "g"), EXDEV);
  EXPECT_EQ(add_link(outer, a, "g"), EXDEV);
  // Within a tree all is as ever.
  EXPECT_EQ(add_link(inner, a, "g"), 0);
  EXPECT_EQ(move(a, "g", in, "h"), 0);
  EXPECT_EQ(move(in, "d", a, "d"), 0);
  EXPECT_EQ(move(a, "d", in, "f", 2), 0);
  expect_sound();
}

TEST_F(TreesRulesTest, TheRootItselfBelongsToTheTreeAround) {
  const InodeId a = dir(kRootInode, "a"), out = dir(kRootInode, "out");
  const uint32_t id = create_tree(a);
  EXPECT_EQ(move(kRootInode, "a", out, "b"), 0);
  EXPECT_EQ(tree_of(a), id);
  dir(kRootInode, "c");
  EXPECT_EQ(move(out, "b", kRootInode, "c", 2), 0);
  EXPECT_EQ(tree(id)->root(), a);
  // Not into another tree, nor into itself.
  const uint32_t other = create_tree(dir(out, "other"));
  EXPECT_EQ(tree(other)->parent(), 0u);
  EXPECT_EQ(move(kRootInode, "c", tree(other)->root(), "c"), EXDEV);
  EXPECT_NE(move(kRootInode, "c", a, "c"), 0);
  expect_sound();
}

TEST_F(TreesRulesTest, TreesNest) {
  const InodeId a = dir(kRootInode, "a"), b = dir(a, "b"), c = dir(b, "c"), d = dir(c, "d");
  const InodeId f = file(d, "f");
  map(f, 5);
  // The inner one first, then the one around it, then one between.
  const uint32_t of_c = create_tree(c), of_a = create_tree(a);
  EXPECT_EQ(tree(of_c)->parent(), of_a);
  EXPECT_EQ(counters(of_a).inodes(), 2u);
  EXPECT_EQ(counters(of_c).inodes(), 3u);
  const uint32_t of_b = create_tree(b);
  EXPECT_EQ(tree(of_c)->parent(), of_b);
  EXPECT_EQ(tree(of_b)->parent(), of_a);
  EXPECT_EQ(tree_of(f), of_c);
  EXPECT_EQ(counters(of_c).logical_bytes(), kMapped);
  expect_sound();
  EXPECT_EQ(move(b, "c", a, "c"), EXDEV);
  EXPECT_EQ(move(b, "c", b, "x"), 0);
  // Directories with trees inside move as a whole within theirs.
  const InodeId e = dir(a, "e");
  EXPECT_EQ(move(a, "b", e, "b"), 0);
  expect_sound();
  EXPECT_THAT(try_remove(a).error().message(), HasSubstr("/a/e/b"));
  remove_tree(c);
  EXPECT_EQ(tree_of(f), of_b);
  EXPECT_EQ(counters(of_b).logical_bytes(), kMapped);
  remove_tree(b);
  remove_tree(a);
  EXPECT_EQ(tree_of(f), 0u);
  for (const uint32_t id : {of_a, of_b, of_c}) EXPECT_EQ(tree(id), std::nullopt);
  expect_sound();
}

TEST_F(TreesRulesTest, ATreeGoesWithItsRoot) {
  const InodeId a = dir(kRootInode, "a");
  const uint32_t id = create_tree(a);
  const InodeId f = file(a, "f");
  EXPECT_EQ(remove(kRootInode, "a", true), ENOTEMPTY);
  EXPECT_EQ(remove(a, "f"), 0);
  EXPECT_EQ(remove(kRootInode, "a", true), 0);
  EXPECT_EQ(tree(id)->state(), pb::TREE_REMOVED);
  expect_sound();
  EXPECT_TRUE(reclaim(a));
  EXPECT_EQ(tree(id)->state(), pb::TREE_REMOVED) << "an open file is left";
  expect_sound();
  EXPECT_TRUE(reclaim(f));
  EXPECT_EQ(tree(id), std::nullopt);
  EXPECT_FALSE(store_->begin().get(key::tree_counters(id)).value());
  expect_sound();
}

TEST_F(TreesRulesTest, ARenameOverAnEmptyTreeEndsIt) {
  const InodeId a = dir(kRootInode, "a"), b = dir(kRootInode, "b");
  const uint32_t id = create_tree(a);
  EXPECT_EQ(move(kRootInode, "b", kRootInode, "a"), 0);
  EXPECT_EQ(tree(id)->state(), pb::TREE_REMOVED);
  EXPECT_EQ(tree_of(b), 0u);
  expect_sound();
  // And a tree's root over an empty directory keeps its tree.
  const InodeId c = dir(kRootInode, "c");
  const uint32_t of_c = create_tree(c);
  EXPECT_EQ(move(kRootInode, "c", kRootInode, "a"), 0);
  EXPECT_EQ(tree(of_c)->root(), c);
  EXPECT_EQ(tree_of(c), of_c);
  EXPECT_TRUE(reclaim(a));
  EXPECT_TRUE(reclaim(b));
  EXPECT_EQ(tree(id), std::nullopt);
  expect_sound();
}

TEST_F(TreesRulesTest, ConversionsTakeSteps) {
  const InodeId a = dir(kRootInode, "a");
  std::vector<InodeId> all{a};
  for (int i = 0; i < 5; ++i) {
    all.push_back(dir(a, "d" + std::to_string(i)));
    const InodeId d = all.back();
    for (int j = 0; j < 4; ++j) all.push_back(file(d, "f" + std::to_string(j)));
    map(all.back(), 5 + static_cast<StripeId>(i));
  }
  EXPECT_EQ(add_link(all[2], all[6], "twice"), 0);  // both inside
  const uint32_t id = begin(try_create(a));
  EXPECT_EQ(tree_of(a), 0u) << "nothing changes before the check";
  EXPECT_EQ(check({.table_files = 1}), std::nullopt);
  int steps = 0;
  for (bool done = false; !done; ++steps) {
    expect_sound();
    done = step(1);
    walk_.reset();  // as after a restart
  }
  EXPECT_GT(steps, 25);
  for (const InodeId ino : all) EXPECT_EQ(tree_of(ino), id);
  EXPECT_EQ(counters(id).inodes(), all.size());
  EXPECT_EQ(counters(id).logical_bytes(), 5 * kMapped);
  EXPECT_EQ(tree(id)->cursor_size(), 0);
  expect_sound();
  begin(try_remove(a));
  for (bool done = false; !done;) {
    expect_sound();
    done = step(1);
    walk_.reset();
  }
  for (const InodeId ino : all) EXPECT_EQ(tree_of(ino), 0u);
  EXPECT_EQ(tree(id), std::nullopt);
  expect_sound();
}

TEST_F(TreesRulesTest, AFileWithANameOutsideStopsItBeforeAnythingChanges) {
  const InodeId a = dir(kRootInode, "a"), b = dir(a, "b"), out = dir(kRootInode, "out");
  for (int i = 0; i < 3; ++i) {  // files with two names inside are no obstacle
    const std::string n = std::to_string(i);
    EXPECT_EQ(add_link(file(b, "pair" + n), a, "pair" + n), 0);
  }
  EXPECT_EQ(add_link(file(b, "f"), out, "g"), 0);
  for (const size_t table : {size_t{1}, size_t{100}}) {
    const uint32_t id = begin(try_create(a));
    const auto obstacle = check({.table_files = table});
    ASSERT_TRUE(obstacle);
    EXPECT_THAT(*obstacle, HasSubstr("/a/b/f"));
    EXPECT_THAT(*obstacle, HasSubstr("/out/g"));
    EXPECT_EQ(tree(id), std::nullopt);
    EXPECT_EQ(tree_of(b), 0u);
    expect_sound();
  }
  EXPECT_EQ(remove(out, "g"), 0);
  create_tree(a);
  expect_sound();
}

TEST_F(TreesRulesTest, TheBorderIsShutFromTheFirstMoment) {
  const InodeId a = dir(kRootInode, "a"), b = dir(a, "b"), out = dir(kRootInode, "out");
  const InodeId in = file(b, "f"), outer = file(out, "f"), far = file(kRootInode, "far");
  begin(try_create(a));
  EXPECT_EQ(move(b, "f", out, "g"), EXDEV);
  EXPECT_EQ(move(out, "f", b, "g"), EXDEV);
  EXPECT_EQ(move(b, "f", a, "f"), 0);
  EXPECT_EQ(move(a, "f", b, "f"), 0);
  EXPECT_EQ(move(kRootInode, "a", out, "a"), 0) << "the directory itself may move";
  EXPECT_EQ(move(out, "a", kRootInode, "a"), 0);
  // Which files are inside is not known yet.
  const auto border = [&](InodeId file, InodeId directory) {
    const auto txn = store_->begin();
    return trees::link_border(txn, get_inode(txn, file).value(), get_inode(txn, directory).value(),
                              area())
        .value();
  };
  EXPECT_EQ(border(in, b), trees::LinkBorder::unknown);
  EXPECT_EQ(border(outer, out), trees::LinkBorder::unknown);
  EXPECT_EQ(add_link(outer, out, "g"), EXDEV) << "refused when nobody waits";
  EXPECT_EQ(check(), std::nullopt);
  EXPECT_EQ(border(in, b), trees::LinkBorder::within);
  EXPECT_EQ(border(in, out), trees::LinkBorder::across);
  EXPECT_EQ(border(far, out), trees::LinkBorder::within);
  EXPECT_EQ(border(far, b), trees::LinkBorder::across);
  EXPECT_EQ(move(b, "f", out, "g"), EXDEV);
  EXPECT_EQ(add_link(in, out, "g"), EXDEV);
  EXPECT_EQ(add_link(far, out, "far"), 0);
  EXPECT_EQ(remove(kRootInode, "a", true), ENOTEMPTY);
  // Emptied, it is busy until the conversion has ended.
  EXPECT_EQ(remove(b, "f"), 0);
  EXPECT_EQ(remove(a, "b", true), 0);
  EXPECT_EQ(remove(kRootInode, "a", true), EBUSY);
  EXPECT_EQ(move(kRootInode, "out", kRootInode, "a"), EBUSY);
  finish();
  EXPECT_EQ(remove(kRootInode, "a", true), 0);
  expect_sound();
}

// What is renamed or linked while the walk runs is not missed, wherever the walk is.
TEST_F(TreesRulesTest, RenamesBehindTheWalkAreFound) {
  for (uint32_t before = 0; before < 12; ++before) {
    SCOPED_TRACE("after steps: " + std::to_string(before));
    const std::string n = std::to_string(before);
    const InodeId a = dir(kRootInode, "a" + n), first = dir(a, "first"), last = dir(a, "last");
    file(first, "x");
    const InodeId moved = file(last, "moved"), linked = file(last, "linked");
    const InodeId deep = dir(last, "deep"), below = file(deep, "below");
    const InodeId inner = dir(last, "inner");
    const uint32_t nested = create_tree(inner);
    const uint32_t id = begin(try_create(a));
    EXPECT_EQ(check(), std::nullopt);
    for (uint32_t i = 0; i < before && area_; ++i) step(1);
    EXPECT_EQ(move(last, "moved", first, "x"), 0);  // over a name: keeps its position
    EXPECT_EQ(add_link(linked, first, "linked"), 0);
    EXPECT_EQ(remove(last, "linked"), 0);
    EXPECT_EQ(move(last, "deep", first, "deep"), 0);
    EXPECT_EQ(move(last, "inner", first, "inner"), 0);
    expect_sound();
    if (area_) finish(1);
    for (const InodeId ino : {a, first, last, moved, linked, deep, below}) {
      EXPECT_EQ(tree_of(ino), id) << ino;
    }
    EXPECT_EQ(tree(nested)->parent(), id);
    expect_sound();
  }
}

TEST_F(TreesRulesTest, OpenFilesWithoutANameKeepTheirTree) {
  const InodeId a = dir(kRootInode, "a"), f = file(a, "f"), g = file(a, "g");
  const uint32_t id = create_tree(a);
  EXPECT_EQ(remove(a, "f"), 0);
  remove_tree(a);
  EXPECT_EQ(tree_of(g), 0u);
  EXPECT_EQ(tree_of(f), id);
  EXPECT_EQ(tree(id)->state(), pb::TREE_REMOVED);
  EXPECT_EQ(counters(id).inodes(), 1u);
  expect_sound();
  // The directory may become a tree again meanwhile.
  const uint32_t again = create_tree(a);
  EXPECT_NE(again, id);
  EXPECT_TRUE(reclaim(f));
  EXPECT_EQ(tree(id), std::nullopt);
  expect_sound();
}

// A way longer than what is kept in the record: after a restart the walk begins again.
TEST_F(TreesRulesTest, VeryDeepDirectories) {
  const InodeId a = dir(kRootInode, "a");
  InodeId at = a;
  for (size_t i = 0; i < TreeWalk::kWayKept + 50; ++i) at = dir(at, "d");
  const InodeId f = file(at, "f");
  const uint32_t id = begin(try_create(a));
  EXPECT_EQ(check(), std::nullopt);
  for (size_t i = 0; i < TreeWalk::kWayKept + 20; ++i) ASSERT_FALSE(step(1));
  EXPECT_EQ(tree(id)->cursor_size(), 0);
  EXPECT_EQ(tree_of(f), 0u);
  walk_.reset();
  finish();
  EXPECT_EQ(tree_of(f), id);
  EXPECT_EQ(counters(id).inodes(), TreeWalk::kWayKept + 52);
  expect_sound();
}

}  // namespace
}  // namespace datacloud
