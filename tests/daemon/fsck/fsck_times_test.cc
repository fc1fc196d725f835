// Times that are in the wrong form, flags that cannot be, and features that records use and the
// cloud does not list.
#include <sys/stat.h>

#include "common/base/inode_flags.h"
#include "common/proto/file_time.h"
#include "daemon/records/cloud_features.h"
#include "daemon/records/namespace_ops.h"
#include "tests/daemon/fsck/fsck_rig.h"

namespace datacloud {
namespace {

constexpr int64_t kYear2300 = 10'413'792'000;

class FsckTimesTest : public FsckTest {
 protected:
  void SetUp() override {
    FsckTest::SetUp();
    damage([&](Transaction& txn) {
      ASSERT_TRUE(enable_feature(txn, Feature::times, store_->sequence() + 1));
      auto inode = get<pb::Inode>(key::inode(file_));
      set_mtime(inode, {kYear2300, 5});
      inode.set_btime_ns(1);
      txn.put(key::inode(file_), inode);
    });
    const auto clean = run(false);
    EXPECT_EQ(clean.findings_total(), 0u) << clean.DebugString();
  }
  void change(const std::function<void(pb::Inode&)>& change) {
    damage([&](Transaction& txn) {
      auto inode = get<pb::Inode>(key::inode(file_));
      change(inode);
      txn.put(key::inode(file_), inode);
    });
  }
  pb::Inode inode() { return get<pb::Inode>(key::inode(file_)); }
};

TEST_F(FsckTimesTest, ATimeInBothFormsStaysAsItIsShown) {
  change([](pb::Inode& inode) { inode.set_mtime_ns(77); });
  expect_mended("is there in nanoseconds too");
  EXPECT_EQ(mtime_of(inode()), (FileTime{kYear2300, 5}));
  EXPECT_EQ(inode().mtime_ns(), 0);
}

TEST_F(FsckTimesTest, ATimeThatFitsIntoNanosecondsGoesThere) {
  change([](pb::Inode& inode) {
    inode.mutable_atime()->set_seconds(-5);
    inode.mutable_atime()->set_nanos(999'999'999);
  });
  expect_mended("its atime of -5 s and 999999999 ns fits into nanoseconds");
  EXPECT_FALSE(inode().has_atime());
  EXPECT_EQ(inode().atime_ns(), -4'000'000'001);
}

TEST_F(FsckTimesTest, ATimeThatIsNoneGoes) {
  change([](pb::Inode& inode) {
    inode.set_ctime_ns(42);
    inode.mutable_ctime()->set_seconds(kYear2300);
    inode.mutable_ctime()->set_nanos(1'000'000'000);
    inode.mutable_mtime()->set_seconds(kFileSecondsMax + 1);
  });
  expect_mended("is none");
  EXPECT_FALSE(inode().has_ctime());
  EXPECT_EQ(inode().ctime_ns(), 42);
  EXPECT_FALSE(inode().has_mtime());
}

TEST_F(FsckTimesTest, FlagsThatAreNotForAnInodeGo) {
  change([](pb::Inode& inode) { inode.set_flags(kInodeUnnamed | 1u << 27); });
  expect_mended("has flags 0x88000000, which are not for it");
  EXPECT_EQ(inode().flags(), 0u) << "it has a name";
}

TEST_F(FsckTimesTest, FlagsOfProgramsNeedTheirFeature) {
  change([](pb::Inode& inode) { inode.set_flags(kInodeImmutable | kInodeNoDump); });
  expect_mended("needs the feature");
  EXPECT_EQ(inode().flags(), kInodeImmutable | kInodeNoDump) << "the list was wrong, not the file";
}

TEST_F(FsckTimesTest, AFileWithoutANameIsNoFinding) {
  damage([&](Transaction& txn) {
    pb::CreateRequest request;
    request.set_parent(kRootInode);
    request.set_mode(S_IFREG | 0600);
    request.set_unnamed(true);
    request.set_open(true);
    ASSERT_TRUE(create(txn, request, file_ + 1000));
  });
  const auto clean = run(false);
  EXPECT_EQ(clean.findings_total(), 0u) << clean.DebugString();
}

TEST_F(FsckTimesTest, MendingATimeLeavesOtherFieldsOfTheRecordToTheirOwnFinding) {
  change([](pb::Inode& inode) {
    inode.set_mtime_ns(77);
    inode.mutable_policy()->set_shard_bytes(5);
    inode.set_xattr_count(9);
  });
  expect_mended("is there in nanoseconds too");
  EXPECT_EQ(inode().policy().shard_bytes(), 0u);
  EXPECT_EQ(inode().xattr_count(), 0u);
}

TEST_F(FsckTimesTest, AFeatureInUseThatIsOffIsSwitchedOnAgain) {
  change([](pb::Inode& inode) { inode.set_btime_ns(1); });
  const auto features = get<pb::Features>(key::meta("features"));
  damage([](Transaction& txn) {
    txn.erase(key::meta("features"));
    pb::Cloud cloud;
    ASSERT_TRUE(txn.get(key::meta("cloud"), cloud).value());
    cloud.set_format_version(1);
    txn.put(key::meta("cloud"), cloud);
  });
  expect_mended("inode " + std::to_string(file_) + " needs the feature \\\"times\\\"");
  EXPECT_TRUE(includes(get<pb::Features>(key::meta("features")), Feature::times));
  EXPECT_EQ(get<pb::Cloud>(key::meta("cloud")).format_version(), kMetadataFormatFeatures);
  EXPECT_EQ(mtime_of(inode()), (FileTime{kYear2300, 5})) << "and the time is as it was";
}

TEST_F(FsckTimesTest, SeveralFeaturesAreSwitchedOnOneAfterTheOther) {
  const InodeId clone = make(kRootInode, "clone", S_IFREG | 0644);
  ASSERT_TRUE(apply([&](Transaction& txn) {
    return clone_range(txn, {file_, clone, 1, 7, 2, 9 * 4096, 1});
  }));
  EXPECT_THAT(run(false).ShortDebugString(), testing::HasSubstr("shared-slots"));
  damage([](Transaction& txn) { txn.put(key::meta("features"), std::string("\xff\xff garbage")); });
  EXPECT_THAT(run(false).ShortDebugString(), testing::HasSubstr("features does not parse"));
  run(true);
  expect_sound();
  const auto features = get<pb::Features>(key::meta("features"));
  EXPECT_TRUE(includes(features, Feature::times));
  EXPECT_TRUE(includes(features, Feature::shared_slots));
  EXPECT_FALSE(includes(features, Feature::trees)) << "which nothing uses";
}

TEST_F(FsckTimesTest, ARunningDaemonsFeaturesAreLeft) {
  damage([](Transaction& txn) { txn.erase(key::meta("features")); });
  const auto view = store_->snapshot();
  RecordCheckProgress progress;
  const auto report = check_records(*view, limits_, progress);
  ASSERT_TRUE(report);
  ASSERT_EQ(report.value().findings.size(), 1u);
  EXPECT_TRUE(report.value().findings[0].offline_only);
}

}  // namespace
}  // namespace datacloud
