// Damage to trees, made by hand: their records, counters, the ids that inodes carry, and names
// across borders. Each is found, told and mended, and nothing that was sound is lost.
#include "daemon/records/cloud_features.h"
#include "daemon/records/namespace_records.h"
#include "daemon/records/tree_walk.h"
#include "tests/daemon/fsck/fsck_rig.h"

namespace datacloud {
namespace {

using testing::HasSubstr;

// /dir is tree 1 and has the tree /dir/below, 2, with the file; /other is in none.
class FsckTreesTest : public FsckTest {
 protected:
  void SetUp() override {
    FsckTest::SetUp();
    ASSERT_TRUE(apply([](Transaction& txn) { return enable_feature(txn, Feature::trees, 1); }));
    beside_ = make(directory_, "beside", S_IFDIR | 0755);
    outer_ = make_tree(directory_);
    inner_ = make_tree(below_);
    ASSERT_EQ(tree(inner_).parent(), outer_);
    EXPECT_EQ(run(false).findings_total(), 0u) << run(false).ShortDebugString();
  }
  uint32_t make_tree(InodeId root) {
    const auto made = apply([&](Transaction& txn) -> result<uint32_t> {
      TRY(const auto inode, get_inode(txn, root));
      TRY(auto tree, trees::create_tree(txn, inode, "/it", 5));
      if (tree.state() == pb::TREE_READY) return tree.id();
      tree.set_state(pb::TREE_CONVERTING);
      trees::put(txn, tree);
      TreeWalk walk(tree);
      TRY(const bool done, walk.step(txn));
      EXPECT_TRUE(done);
      return tree.id();
    });
    EXPECT_TRUE(made) << made.error().message();
    return made.value();
  }
  pb::Tree tree(uint32_t id) { return get<pb::Tree>(key::tree(id)); }
  bool has_tree(uint32_t id) { return trees::find(store_->begin(), id).value().has_value(); }
  uint32_t tree_of(InodeId ino) { return get<pb::Inode>(key::inode(ino)).tree(); }
  void put_tree(const pb::Tree& tree) {
    damage([&](Transaction& txn) { trees::put(txn, tree); });
  }
  void set_tree(InodeId ino, uint32_t id) {
    auto inode = get<pb::Inode>(key::inode(ino));
    inode.set_tree(id);
    damage([&](Transaction& txn) { names::put_inode(txn, inode); });
  }
  // All is as SetUp has made it.
  void expect_as_before() {
    EXPECT_EQ(tree(outer_).root(), directory_);
    EXPECT_EQ(tree(outer_).parent(), 0u);
    EXPECT_EQ(tree(outer_).state(), pb::TREE_READY);
    EXPECT_EQ(tree(inner_).root(), below_);
    EXPECT_EQ(tree(inner_).parent(), outer_);
    EXPECT_EQ(tree_of(directory_), outer_);
    EXPECT_EQ(tree_of(beside_), outer_);
    EXPECT_EQ(tree_of(below_), inner_);
    EXPECT_EQ(tree_of(file_), inner_);
    EXPECT_EQ(tree_of(other_), 0u);
    EXPECT_EQ(get<pb::TreeCounters>(key::tree_counters(outer_)).inodes(), 2u);
    EXPECT_EQ(get<pb::TreeCounters>(key::tree_counters(inner_)).inodes(), 2u);
    EXPECT_EQ(get<pb::TreeCounters>(key::tree_counters(inner_)).logical_bytes(), 3u * 4096);
  }

  InodeId beside_ = 0;
  uint32_t outer_ = 0, inner_ = 0;
};

TEST_F(FsckTreesTest, CountersAreCountedAnew) {
  const std::string k = key::tree_counters(inner_);
  pb::TreeCounters wrong;
  wrong.set_inodes(77);
  damage([&](Transaction& txn) { txn.put(k, wrong); });
  expect_mended("counts 77 inodes and 0 bytes, and has 2 and 12288");
  damage([&](Transaction& txn) { txn.erase(k); });
  expect_mended("has no counters");
  damage([&](Transaction& txn) { txn.put(k, std::string("\xff\xff garbage")); });
  expect_mended("the counters of tree 2 do not parse");
  expect_as_before();
}

TEST_F(FsckTreesTest, CountersOfNothingGo) {
  damage([&](Transaction& txn) {
    txn.put(key::tree_counters(99), pb::TreeCounters());
    txn.put("U??", std::string());
  });
  expect_mended("counters of a tree that does not exist");
  expect_as_before();
  EXPECT_FALSE(store_->begin().get(key::tree_counters(99)).value());
}

TEST_F(FsckTreesTest, InodesGetTheTreeTheyAreIn) {
  set_tree(file_, outer_);
  expect_mended("carries tree 1 and is in 2");
  expect_as_before();
  set_tree(beside_, 0);
  expect_mended("carries tree 0 and is in 1");
  expect_as_before();
  set_tree(other_, inner_);
  expect_mended("carries tree 2 and is in 0");
  expect_as_before();
  set_tree(file_, 4711);  // which no record and no other inode knows
  expect_mended("carries tree 4711 and is in 2");
  expect_as_before();
  EXPECT_FALSE(has_tree(4711));
  set_tree(kRootInode, outer_);
  expect_mended("which the root of the cloud is never in");
  expect_as_before();
}

TEST_F(FsckTreesTest, ARootGetsItsId) {
  set_tree(directory_, 0);
  expect_mended("carries tree 0 and is in 1");
  expect_as_before();
  set_tree(below_, outer_);
  expect_mended("carries tree 1 and is in 2");
  expect_as_before();
}

TEST_F(FsckTreesTest, ALostRecordIsMadeFromTheTopmostDirectory) {
  for (const uint32_t id : {outer_, inner_}) {
    damage([&](Transaction& txn) { txn.erase(key::tree(id)); });
    expect_mended("has no record");
    expect_as_before();
    damage([&](Transaction& txn) { txn.put(key::tree(id), std::string("\xff\xff garbage")); });
    expect_mended("does not parse");
    expect_as_before();
    auto wrong = tree(id);
    wrong.set_id(4711);
    damage([&](Transaction& txn) { txn.put(key::tree(id), wrong); });
    expect_mended("does not parse");
    expect_as_before();
  }
}

TEST_F(FsckTreesTest, ATreeWithoutARoot) {
  auto wrong = tree(inner_);
  for (const InodeId root : {InodeId{4711}, file_, kRootInode, InodeId{0}}) {
    wrong.set_root(root);
    put_tree(wrong);
    expect_mended("has no root");
    expect_as_before();
  }
  wrong.set_root(beside_);
  put_tree(wrong);
  expect_mended("which is not in it");
  expect_as_before();
}

TEST_F(FsckTreesTest, TwoTreesOfOneRoot) {
  pb::Tree second = tree(inner_);
  second.set_id(3);
  damage([&](Transaction& txn) {
    trees::put(txn, second);
    put_counter(txn, "next_id/tree", 4);
  });
  expect_mended("has no root: directory");
  EXPECT_FALSE(has_tree(3));
  expect_as_before();
}

TEST_F(FsckTreesTest, WrongParentsAndTheirCycles) {
  auto wrong = tree(inner_);
  wrong.set_parent(0);
  put_tree(wrong);
  expect_mended("counts as inside of tree 0 and is in 1");
  expect_as_before();
  auto outer = tree(outer_);
  outer.set_parent(inner_);  // each in the other
  put_tree(outer);
  expect_mended("counts as inside of tree 2 and is in 0");
  expect_as_before();
  wrong.set_parent(inner_);  // in itself
  put_tree(wrong);
  expect_mended("counts as inside of tree 2 and is in 1");
  expect_as_before();
}

TEST_F(FsckTreesTest, ANameAcrossABorderGoes) {
  auto file = get<pb::Inode>(key::inode(file_));
  file.set_nlink(2);
  auto beside = get<pb::Inode>(key::inode(beside_));
  damage([&](Transaction& txn) {
    names::put_inode(txn, file);
    names::add_entry(txn, beside, "across", file);
    names::put_inode(txn, beside);
  });
  expect_mended("of tree 2 has a name in tree 1");
  expect_as_before();
  EXPECT_TRUE(resolve_path(store_->begin(), "/dir/below/file"));
  EXPECT_FALSE(resolve_path(store_->begin(), "/dir/beside/across"));
  EXPECT_TRUE(store_->begin().get(key::quarantine(key::entry(beside_, "across"))).value());
}

TEST_F(FsckTreesTest, KeysThatAreNone) {
  damage([](Transaction& txn) { txn.put("T12345", pb::Tree()); });
  expect_mended("a key that is none");
  damage([](Transaction& txn) { txn.put(key::tree(0), pb::Tree()); });
  expect_mended("tree 0 does not parse, and nothing carries its id");
  expect_as_before();
}

TEST_F(FsckTreesTest, DissolvedTreesGoWithTheirLastInode) {
  pb::Tree gone;
  gone.set_id(3);
  gone.set_state(pb::TREE_REMOVED);
  gone.set_root(beside_);
  damage([&](Transaction& txn) {
    trees::put(txn, gone);
    txn.put(key::tree_counters(3), pb::TreeCounters());
    put_counter(txn, "next_id/tree", 4);
  });
  expect_mended("and nothing carries its id");
  EXPECT_FALSE(has_tree(3));
  gone.clear_root();
  put_tree(gone);
  expect_mended("nothing is left of it");
  EXPECT_FALSE(has_tree(3));
  expect_as_before();
}

// Files without a name may be the last that carry an id.
TEST_F(FsckTreesTest, OrphansOfATreeWithoutARecord) {
  const InodeId f = make(beside_, "f", S_IFREG | 0644);
  pb::UnlinkRequest request;
  request.set_parent(beside_);
  request.set_name("f");
  ASSERT_TRUE(apply([&](Transaction& txn) { return unlink(txn, request); }));
  set_tree(f, 99);
  expect_mended("carries tree 99, which does not exist");
  EXPECT_EQ(tree_of(f), 0u);
  pb::TreeCounters one;
  one.set_inodes(1);
  set_tree(f, 3);
  damage([&](Transaction& txn) {
    txn.put(key::tree_counters(3), one);
    put_counter(txn, "next_id/tree", 4);
  });
  expect_mended("tree 3 has no record");
  EXPECT_EQ(tree(3).state(), pb::TREE_REMOVED);
  ASSERT_TRUE(apply([&](Transaction& txn) { return reclaim_inode(txn, f, 10); }));
  EXPECT_FALSE(has_tree(3));
  EXPECT_EQ(run(false).findings_total(), 0u);
}

TEST_F(FsckTreesTest, TheFeatureIsSwitchedOn) {
  damage([](Transaction& txn) { txn.erase(key::meta("features")); });
  expect_mended("which is not switched on");
  EXPECT_TRUE(known_set(read_features(store_->begin()).value()).value().has(Feature::trees));
  expect_as_before();
}

TEST_F(FsckTreesTest, IdsAreNotGivenAgain) {
  damage([](Transaction& txn) { put_counter(txn, "next_id/tree", 2); });
  expect_mended("the counter of tree ids would give 2 again");
  EXPECT_GT(read_counter(store_->begin(), "next_id/tree", 1).value(), 2u);
}

// What is linked into /lost+found is in no tree; a tree that is found keeps what is in it.
TEST_F(FsckTreesTest, LostAndFoundIsInNoTree) {
  const auto entry = get<pb::Entry>(key::entry(below_, "file"));
  damage([&](Transaction& txn) {
    txn.erase(key::entry(below_, "file"));
    txn.erase(key::cookie(below_, entry.cookie()));
  });
  expect_mended("has no name");
  EXPECT_EQ(tree_of(file_), 0u);
  const auto whole = get<pb::Entry>(key::entry(kRootInode, "dir"));
  damage([&](Transaction& txn) {
    txn.erase(key::entry(kRootInode, "dir"));
    txn.erase(key::cookie(kRootInode, whole.cookie()));
  });
  expect_mended("has no name");
  EXPECT_EQ(tree_of(directory_), outer_);
  EXPECT_EQ(tree_of(below_), inner_);
  EXPECT_EQ(tree(outer_).root(), directory_);
}

}  // namespace
}  // namespace datacloud
