// ACLs at the daemon: what setting one does to mode and records, what chmod does to it, and what
// directories hand down.
#include "daemon/records/inode_acls.h"

#include <sys/stat.h>

#include <cerrno>
#include <optional>
#include <string>

#include "common/base/inode_flags.h"
#include "daemon/metadata/record_keys.h"
#include "daemon/records/block_map.h"
#include "daemon/records/namespace_ops.h"
#include "tests/daemon/metadata/store_fixture.h"

namespace datacloud {
namespace {

const std::string kAccess(kAccessAclName), kDefault(kDefaultAclName);

class InodeAclsTest : public StoreTest {
 protected:
  pb::CreateRequest request_for(InodeId parent, const std::string& name, uint32_t mode) {
    pb::CreateRequest request;
    request.set_parent(parent);
    request.set_name(name);
    request.set_mode(mode);
    request.set_exclusive(true);
    request.set_now_ns(++now_);
    if (S_ISLNK(mode)) request.set_symlink_target("target");
    return request;
  }
  pb::Inode make(const pb::CreateRequest& request) {
    const auto made = apply([&](Transaction& txn) { return create(txn, request, next_ino_++); });
    EXPECT_TRUE(made) << made.error().message();
    return made ? made.value().inode : pb::Inode();
  }
  pb::Inode make(const std::string& name, uint32_t mode, InodeId parent = kRootInode) {
    return make(request_for(parent, name, mode));
  }
  int set(InodeId ino, const std::string& name, const std::string& value, bool drops = false) {
    pb::SetXattrRequest request;
    request.set_ino(ino);
    request.set_name(name);
    request.set_value(value);
    request.set_now_ns(++now_);
    request.set_drop_set_group_id(drops);
    const auto done = apply([&](Transaction& txn) { return set_xattr(txn, request); });
    return done ? 0 : done.error().errno_value();
  }
  int remove(InodeId ino, const std::string& name) {
    pb::RemoveXattrRequest request;
    request.set_ino(ino);
    request.set_name(name);
    request.set_now_ns(++now_);
    const auto done = apply([&](Transaction& txn) { return remove_xattr(txn, request); });
    return done ? 0 : done.error().errno_value();
  }
  void chmod(InodeId ino, uint32_t mode) {
    pb::SetAttrRequest request;
    request.set_ino(ino);
    request.set_mode(mode);
    ASSERT_TRUE(apply([&](Transaction& txn) { return set_attributes(txn, request); }));
  }
  pb::Inode inode(InodeId ino) { return get_inode(store_->begin(), ino).value(); }
  std::optional<std::string> stored(InodeId ino, const std::string& name) {
    return store_->begin().get(key::xattr(ino, name)).value();
  }
  static std::string acl(uint16_t owner, uint16_t group, uint16_t others,
                         std::optional<uint16_t> named = {}, uint16_t mask = 7) {
    PosixAcl out{{AclEntry::owner, owner, kAclNoId}};
    if (named) out.push_back({AclEntry::user, *named, 1000});
    out.push_back({AclEntry::owning_group, group, kAclNoId});
    if (named) out.push_back({AclEntry::mask, mask, kAclNoId});
    out.push_back({AclEntry::others, others, kAclNoId});
    return encode_acl(out);
  }

  InodeId next_ino_ = 100;
  int64_t now_ = 1000;
};

TEST_F(InodeAclsTest, SettingOneChangesTheMode) {
  const InodeId f = make("f", S_IFREG | 02644).ino();
  ASSERT_EQ(set(f, kAccess, acl(7, 5, 1, 6, 4)), 0);
  EXPECT_EQ(inode(f).mode(), S_IFREG | 02741u) << "the group's bits are the mask";
  EXPECT_EQ(inode(f).flags(), kInodeAccessAcl);
  EXPECT_EQ(inode(f).xattr_count(), 1u);
  EXPECT_EQ(get_xattr(store_->begin(), f, kAccess).value(), acl(7, 5, 1, 6, 4));
  EXPECT_EQ(list_xattrs(store_->begin(), f).value(), std::vector<std::string>{kAccess});
  ASSERT_EQ(set(f, kAccess, acl(7, 5, 1, 6, 4), true), 0);
  EXPECT_EQ(inode(f).mode(), S_IFREG | 0741u) << "set-group-id goes when the kernel says so";
}

TEST_F(InodeAclsTest, AMinimalOneIsTheModeAlone) {
  const InodeId f = make("f", S_IFREG | 0600).ino();
  ASSERT_EQ(set(f, kAccess, acl(6, 4, 4)), 0);
  EXPECT_EQ(inode(f).mode(), S_IFREG | 0644u);
  EXPECT_EQ(inode(f).flags(), 0u);
  EXPECT_FALSE(stored(f, kAccess));
  ASSERT_EQ(set(f, kAccess, acl(6, 4, 4, 7)), 0);
  ASSERT_EQ(set(f, kAccess, acl(6, 0, 0)), 0);
  EXPECT_EQ(inode(f).mode(), S_IFREG | 0600u);
  EXPECT_EQ(inode(f).flags(), 0u);
  EXPECT_EQ(inode(f).xattr_count(), 0u);
  EXPECT_FALSE(stored(f, kAccess));
}

TEST_F(InodeAclsTest, RemovingOneLeavesTheMode) {
  const InodeId f = make("f", S_IFREG | 0600).ino();
  ASSERT_EQ(set(f, kAccess, acl(6, 4, 4, 7, 5)), 0);
  EXPECT_EQ(remove(f, kAccess), 0);
  EXPECT_EQ(inode(f).mode(), S_IFREG | 0654u);
  EXPECT_EQ(inode(f).flags(), 0u);
  EXPECT_EQ(inode(f).xattr_count(), 0u);
  EXPECT_EQ(remove(f, kAccess), ENODATA);
  ASSERT_EQ(set(f, kAccess, acl(6, 4, 4, 7, 5)), 0);
  EXPECT_EQ(set(f, kAccess, encode_acl({})), 0) << "one without entries removes it";
  EXPECT_FALSE(stored(f, kAccess));
}

TEST_F(InodeAclsTest, WhatIsNoAclChangesNothing) {
  const auto f = make("f", S_IFREG | 0640), d = make("d", S_IFDIR | 0755);
  const auto l = make("l", S_IFLNK | 0777);
  EXPECT_EQ(set(f.ino(), kAccess, "no acl"), EINVAL);
  EXPECT_EQ(set(f.ino(), kAccess, acl(8, 4, 4)), EINVAL);
  EXPECT_EQ(set(f.ino(), kAccess, acl(6, 4, 4) + std::string(4096, '\0')), E2BIG);
  EXPECT_EQ(set(f.ino(), kDefault, acl(6, 4, 4)), EACCES) << "no directory";
  EXPECT_EQ(set(f.ino(), kDefault, encode_acl({})), 0) << "there is none to remove";
  EXPECT_EQ(set(l.ino(), kAccess, acl(6, 4, 4)), EOPNOTSUPP);
  EXPECT_EQ(set(f.ino(), "system.other", "x"), EOPNOTSUPP);
  EXPECT_EQ(inode(f.ino()).mode(), f.mode());
  EXPECT_EQ(inode(f.ino()).xattr_count(), 0u);
  EXPECT_EQ(set(d.ino(), kDefault, acl(6, 4, 4)), 0) << "a minimal default ACL says something";
  EXPECT_EQ(inode(d.ino()).flags(), kInodeDefaultAcl);
  EXPECT_EQ(inode(d.ino()).mode(), d.mode());
}

TEST_F(InodeAclsTest, ChmodChangesTheMask) {
  const InodeId f = make("f", S_IFREG | 0600).ino();
  ASSERT_EQ(set(f, kAccess, acl(6, 5, 4, 7, 7)), 0);
  chmod(f, 04750);
  EXPECT_EQ(inode(f).mode(), S_IFREG | 04750u);
  EXPECT_EQ(stored(f, kAccess), acl(7, 5, 0, 7, 5));
  pb::InodeUpdate update;
  update.set_ino(f);
  update.set_mode(0710);
  ASSERT_TRUE(apply([&](Transaction& txn) { return update_inode(txn, update); }));
  EXPECT_EQ(stored(f, kAccess), acl(7, 5, 0, 7, 1));
}

TEST_F(InodeAclsTest, DirectoriesHandTheirDefaultDown) {
  const InodeId d = make("d", S_IFDIR | 0755).ino();
  ASSERT_EQ(set(d, kDefault, acl(7, 5, 4, 6, 7)), 0);
  auto request = request_for(d, "f", S_IFREG | 0664);
  request.set_umask(077);
  const auto f = make(request);
  EXPECT_EQ(f.mode(), S_IFREG | 0664u) << "the umask is not applied";
  EXPECT_EQ(stored(f.ino(), kAccess), acl(6, 5, 4, 6, 6));
  EXPECT_EQ(f.flags(), kInodeAccessAcl);
  EXPECT_EQ(f.xattr_count(), 1u);
  const auto below = make("below", S_IFDIR | 0700, d);
  EXPECT_EQ(below.mode(), S_IFDIR | 0700u);
  EXPECT_EQ(stored(below.ino(), kAccess), acl(7, 5, 0, 6, 0));
  EXPECT_EQ(stored(below.ino(), kDefault), acl(7, 5, 4, 6, 7));
  EXPECT_EQ(below.flags(), kInodeFlagsOfAcls);
  EXPECT_EQ(below.xattr_count(), 2u);
  const auto pipe = make("pipe", S_IFIFO | 0666, below.ino());
  EXPECT_EQ(stored(pipe.ino(), kAccess), acl(6, 5, 4, 6, 6));
  const auto symlink = make("symlink", S_IFLNK | 0777, d);
  EXPECT_EQ(symlink.mode(), S_IFLNK | 0777u);
  EXPECT_EQ(symlink.xattr_count(), 0u);
  auto unnamed = request_for(d, "", S_IFREG | 0640);
  unnamed.set_unnamed(true);
  unnamed.set_open(true);
  const auto nameless = make(unnamed);
  EXPECT_EQ(stored(nameless.ino(), kAccess), acl(6, 5, 0, 6, 4));
  EXPECT_EQ(nameless.flags(), kInodeAccessAcl | kInodeUnnamed);
}

TEST_F(InodeAclsTest, AMinimalDefaultIsTheModeOfFilesAlone) {
  const InodeId d = make("d", S_IFDIR | 0755).ino();
  ASSERT_EQ(set(d, kDefault, acl(6, 4, 0)), 0);
  auto request = request_for(d, "f", S_IFREG | 0666);
  request.set_umask(0);
  const auto f = make(request);
  EXPECT_EQ(f.mode(), S_IFREG | 0640u);
  EXPECT_EQ(f.flags(), 0u);
  EXPECT_EQ(f.xattr_count(), 0u);
}

TEST_F(InodeAclsTest, WithoutADefaultTheUmaskIsApplied) {
  auto request = request_for(kRootInode, "f", S_IFREG | 06777);
  request.set_umask(07027);
  EXPECT_EQ(make(request).mode(), S_IFREG | 06750u) << "only of rwx";
  request = request_for(kRootInode, "link", S_IFLNK | 0777);
  request.set_umask(022);
  EXPECT_EQ(make(request).mode(), S_IFLNK | 0777u);
  EXPECT_EQ(make("by an older mount", S_IFREG | 0666).mode(), S_IFREG | 0666u);
}

TEST_F(InodeAclsTest, ADamagedDefaultLetsNothingBeMade) {
  const InodeId d = make("d", S_IFDIR | 0755).ino();
  ASSERT_EQ(set(d, kDefault, acl(7, 5, 4, 6, 7)), 0);
  ASSERT_TRUE(apply([&](Transaction& txn) -> result<void> {
    txn.put(key::xattr(d, kDefault), "damaged");
    return success();
  }));
  const auto made = apply(
      [&](Transaction& txn) { return create(txn, request_for(d, "f", S_IFREG | 0666), 999); });
  ASSERT_FALSE(made);
  EXPECT_TRUE(made.error().is(Errc::corrupt));
  EXPECT_FALSE(get_inode(store_->begin(), 999));
}

// The kernel passes on 64 KiB of names at most.
TEST_F(InodeAclsTest, AsManyAttributesAsAListingHolds) {
  const InodeId f = make("f", S_IFREG | 0644).ino();
  const auto name = [](int i) {
    std::string digits = std::to_string(i);
    return "user." + std::string(10 - digits.size(), '0') + digits;  // 16 bytes with its NUL
  };
  constexpr int kFull = 4096;
  ASSERT_TRUE(apply([&](Transaction& txn) -> result<void> {
    for (int i = 0; i < kFull; ++i) {
      pb::SetXattrRequest request;
      request.set_ino(f);
      request.set_name(name(i));
      request.set_value(std::to_string(i));
      if (i < 300 || i == kFull - 1) {
        TRY(set_xattr(txn, request));
        continue;
      }
      txn.put(key::xattr(f, name(i)), request.value());
      TRY(auto changed, get_inode(txn, f));
      changed.set_xattr_count(changed.xattr_count() + 1);
      txn.put(key::inode(f), changed);
    }
    return success();
  }));
  EXPECT_EQ(inode(f).xattr_count(), static_cast<uint32_t>(kFull));
  EXPECT_EQ(list_xattrs(store_->begin(), f).value().size(), static_cast<size_t>(kFull));
  EXPECT_EQ(set(f, "user.m", "1"), ENOSPC);
  EXPECT_EQ(set(f, kAccess, acl(6, 4, 4, 7)), ENOSPC);
  EXPECT_EQ(set(f, kAccess, acl(6, 4, 4)), 0) << "the mode alone needs no room";
  EXPECT_EQ(set(f, name(7), std::string(65536, 'v')), 0) << "a value may grow";
  ASSERT_EQ(remove(f, name(3)), 0);
  EXPECT_EQ(set(f, "user.m", "1"), 0);
  // It goes in steps, each of a bounded transaction.
  pb::UnlinkRequest gone;
  gone.set_parent(kRootInode);
  gone.set_name("f");
  ASSERT_TRUE(apply([&](Transaction& txn) { return unlink(txn, gone); }));
  int steps = 1;
  for (;; ++steps) {
    const auto done = apply([&](Transaction& txn) -> result<bool> {
      TRY(const bool all, reclaim_inode(txn, f, 100));
      EXPECT_LT(txn.bytes(), 100'000u);
      return all;
    });
    ASSERT_TRUE(done) << done.error().message();
    if (done.value()) break;
    EXPECT_EQ(inode(f).xattr_count(), list_xattrs(store_->begin(), f).value().size());
  }
  EXPECT_GE(steps, 4);
  const std::string first = key::xattr(f, "");
  bool any = false;
  ASSERT_TRUE(store_->begin().scan(first, key::after_prefix(first),
                                   [&](auto, auto) { return any = true, false; }));
  EXPECT_FALSE(any);
}

TEST_F(InodeAclsTest, TheValuesOfAllAreBoundedToo) {
  const InodeId f = make("f", S_IFREG | 0644).ino();
  for (int i = 0; i < 256; ++i) ASSERT_EQ(set(f, "user." + std::to_string(i), "x"), 0);
  ASSERT_TRUE(apply([&](Transaction& txn) -> result<void> {
    for (int i = 0; i < 255; ++i)
      txn.put(key::xattr(f, "user." + std::to_string(i)), std::string(65536, 'v'));
    return success();
  }));
  EXPECT_EQ(set(f, "user.more", std::string(65536 - 1, 'v')), 0) << "16 MiB in all";
  EXPECT_EQ(set(f, "user.more", std::string(65536, 'v')), ENOSPC);
  EXPECT_EQ(set(f, "user.last", "v"), ENOSPC);
  EXPECT_EQ(set(f, "user.more", "v"), 0) << "less is no question of room";
}

TEST_F(InodeAclsTest, AnythingThatHasANameIsFoundByItsNumber) {
  const auto f = make("f", S_IFREG | 0644), d = make("d", S_IFDIR | 0755);
  EXPECT_EQ(lookup(store_->begin(), f.ino(), ".").value().ino(), f.ino());
  EXPECT_EQ(lookup(store_->begin(), d.ino(), ".").value().ino(), d.ino());
  EXPECT_EQ(lookup(store_->begin(), d.ino(), "..").value().ino(), kRootInode);
  EXPECT_EQ(lookup(store_->begin(), f.ino(), "..").error().errno_value(), ENOTDIR);
  EXPECT_EQ(lookup(store_->begin(), 4711, ".").error().errno_value(), ENOENT);
  pb::UnlinkRequest gone;
  gone.set_parent(kRootInode);
  gone.set_name("f");
  ASSERT_TRUE(apply([&](Transaction& txn) { return unlink(txn, gone); }));
  EXPECT_EQ(lookup(store_->begin(), f.ino(), ".").error().errno_value(), ENOENT);
}

}  // namespace
}  // namespace datacloud
