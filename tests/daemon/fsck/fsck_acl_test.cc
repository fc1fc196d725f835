// ACLs that are none, that are not for their inode, that its mode contradicts, and flags that say
// something else than what is there.
#include <sys/stat.h>

#include <optional>
#include <string>

#include "common/base/inode_flags.h"
#include "common/base/posix_acl.h"
#include "daemon/records/cloud_features.h"
#include "daemon/records/namespace_ops.h"
#include "tests/daemon/fsck/fsck_rig.h"

namespace datacloud {
namespace {

const std::string kAccess(kAccessAclName), kDefault(kDefaultAclName);

class FsckAclTest : public FsckTest {
 protected:
  void SetUp() override {
    FsckTest::SetUp();
    damage([&](Transaction& txn) {
      ASSERT_TRUE(enable_feature(txn, Feature::posix_acl, store_->sequence() + 1));
      set(txn, file_, kAccess, acl(6, 5));
      set(txn, directory_, kAccess, acl(7, 5));
      set(txn, directory_, kDefault, acl(7, 7));
      set(txn, file_, "user.other", "stays");
    });
    const auto clean = run(false);
    EXPECT_EQ(clean.findings_total(), 0u) << clean.DebugString();
  }
  static std::string acl(uint16_t owner, uint16_t mask) {
    return encode_acl({{AclEntry::owner, owner, kAclNoId},
                       {AclEntry::user, 7, 1000},
                       {AclEntry::owning_group, 4, kAclNoId},
                       {AclEntry::mask, mask, kAclNoId},
                       {AclEntry::others, 4, kAclNoId}});
  }
  static void set(Transaction& txn, InodeId ino, const std::string& name,
                  const std::string& value) {
    pb::SetXattrRequest request;
    request.set_ino(ino);
    request.set_name(name);
    request.set_value(value);
    const auto done = set_xattr(txn, request);
    ASSERT_TRUE(done) << done.error().message();
  }
  void replace(InodeId ino, const std::string& name, const std::string& value) {
    damage([&](Transaction& txn) { txn.put(key::xattr(ino, name), value); });
  }
  void change(InodeId ino, const std::function<void(pb::Inode&)>& change) {
    damage([&](Transaction& txn) {
      auto inode = get<pb::Inode>(key::inode(ino));
      change(inode);
      txn.put(key::inode(ino), inode);
    });
  }
  pb::Inode inode(InodeId ino) { return get<pb::Inode>(key::inode(ino)); }
  std::optional<std::string> stored(InodeId ino, const std::string& name) {
    return store_->begin().get(key::xattr(ino, name)).value();
  }
};

TEST_F(FsckAclTest, OneThatIsNoneGoesAndWithItWhatTheGroupMay) {
  replace(file_, kAccess, "damaged");
  expect_mended("system.posix_acl_access of inode " + std::to_string(file_));
  EXPECT_FALSE(stored(file_, kAccess));
  EXPECT_EQ(inode(file_).mode(), S_IFREG | 0604u) << "nobody knows what the group was granted";
  EXPECT_EQ(inode(file_).flags(), 0u);
  EXPECT_EQ(inode(file_).xattr_count(), 1u);
  EXPECT_EQ(stored(file_, "user.other"), "stays");
}

TEST_F(FsckAclTest, ADefaultThatIsNoneGoes) {
  replace(directory_, kDefault, acl(7, 9));
  expect_mended("a permission beside rwx");
  EXPECT_FALSE(stored(directory_, kDefault));
  EXPECT_EQ(inode(directory_).flags(), kInodeAccessAcl);
  EXPECT_EQ(inode(directory_).mode(), S_IFDIR | 0754u);
}

TEST_F(FsckAclTest, OneThatSaysNoMoreThanTheModeGoes) {
  replace(file_, kAccess,
          encode_acl({{AclEntry::owner, 7, kAclNoId},
                      {AclEntry::owning_group, 7, kAclNoId},
                      {AclEntry::others, 7, kAclNoId}}));
  expect_mended("it says no more than the mode");
  EXPECT_FALSE(stored(file_, kAccess));
  EXPECT_EQ(inode(file_).mode(), S_IFREG | 0654u) << "as the mode was";
}

TEST_F(FsckAclTest, ADefaultOfAFileGoes) {
  damage([&](Transaction& txn) {
    txn.put(key::xattr(file_, kDefault), acl(7, 7));
    auto record = get<pb::Inode>(key::inode(file_));
    record.set_xattr_count(record.xattr_count() + 1);
    record.set_flags(record.flags() | kInodeDefaultAcl);
    txn.put(key::inode(file_), record);
  });
  expect_mended("the inode is no directory");
  EXPECT_FALSE(stored(file_, kDefault));
  EXPECT_EQ(inode(file_).flags(), kInodeAccessAcl);
  EXPECT_EQ(inode(file_).xattr_count(), 2u);
}

TEST_F(FsckAclTest, WhereTheModeDiffersItHolds) {
  change(file_, [](pb::Inode& inode) { inode.set_mode(S_IFREG | 04600); });
  expect_mended("and its mode 4600 differ");
  EXPECT_EQ(inode(file_).mode(), S_IFREG | 04600u);
  EXPECT_EQ(acl_mode(parse_acl(*stored(file_, kAccess)).value()), 0600u);
}

TEST_F(FsckAclTest, FlagsSayWhatIsThere) {
  change(file_, [](pb::Inode& inode) { inode.set_flags(0); });
  change(directory_, [](pb::Inode& inode) { inode.set_flags(kInodeFlagsOfAcls); });
  change(other_, [](pb::Inode& inode) { inode.set_flags(kInodeAccessAcl | kInodeNoDump); });
  expect_mended("says 0x0 of its ACLs");
  EXPECT_EQ(inode(file_).flags(), kInodeAccessAcl);
  EXPECT_EQ(inode(directory_).flags(), kInodeFlagsOfAcls);
  EXPECT_EQ(inode(other_).flags(), kInodeNoDump);
}

TEST_F(FsckAclTest, OneThatIsMissingIsNotCounted) {
  damage([&](Transaction& txn) { txn.erase(key::xattr(directory_, kDefault)); });
  expect_mended("counts 2 attributes and has 1");
  EXPECT_EQ(inode(directory_).flags(), kInodeAccessAcl);
}

TEST_F(FsckAclTest, TheyNeedTheirFeature) {
  damage([](Transaction& txn) { txn.erase(key::meta("features")); });
  expect_mended("more need the feature");
  EXPECT_TRUE(includes(get<pb::Features>(key::meta("features")), Feature::posix_acl));
}

TEST_F(FsckAclTest, AnInodeThatIsMadeAnewHasItsAcls) {
  replace(file_, "user.other", "stays");
  damage([&](Transaction& txn) { txn.put(key::inode(file_), std::string("damaged")); });
  expect_mended("the record of inode " + std::to_string(file_) + " is damaged");
  EXPECT_EQ(inode(file_).flags(), kInodeAccessAcl);
  EXPECT_EQ(inode(file_).mode() & 07777, 0600u);
  EXPECT_EQ(acl_mode(parse_acl(*stored(file_, kAccess)).value()), 0600u);
}

}  // namespace
}  // namespace datacloud
