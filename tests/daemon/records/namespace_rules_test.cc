// The rules of single namespace operations, one by one: rename's table, names, links, types,
// set-group-id, extended attributes.
#include <sys/stat.h>

#include <cerrno>
#include <functional>

#include "common/base/inode_flags.h"
#include "daemon/metadata/record_keys.h"
#include "daemon/metadata/totals.h"
#include "daemon/records/namespace_ops.h"
#include "tests/daemon/metadata/store_fixture.h"

namespace datacloud {
namespace {

class NamespaceRulesTest : public StoreTest {
 protected:
  result<Created> try_create(InodeId parent, const std::string& name, uint32_t mode,
                             bool exclusive = true) {
    pb::CreateRequest request;
    request.set_parent(parent);
    request.set_name(name);
    request.set_mode(mode);
    request.set_uid(7);
    request.set_gid(8);
    request.set_exclusive(exclusive);
    request.set_now_ns(++now_);
    if (S_ISLNK(mode)) request.set_symlink_target("target");
    return apply([&](Transaction& txn) { return create(txn, request, next_ino_++); });
  }
  InodeId make(InodeId parent, const std::string& name, uint32_t mode) {
    const auto made = try_create(parent, name, mode);
    EXPECT_TRUE(made) << made.error().message();
    return made ? made.value().inode.ino() : 0;
  }
  InodeId file(InodeId parent, const std::string& name) {
    return make(parent, name, S_IFREG | 0644);
  }
  InodeId directory(InodeId parent, const std::string& name) {
    return make(parent, name, S_IFDIR | 0755);
  }

  int move(InodeId from, const std::string& name, InodeId to, const std::string& new_name,
           uint32_t flags = 0) {
    pb::RenameRequest request;
    request.set_parent(from);
    request.set_name(name);
    request.set_new_parent(to);
    request.set_new_name(new_name);
    request.set_flags(flags);
    request.set_now_ns(++now_);
    const auto done = apply([&](Transaction& txn) { return rename(txn, request); });
    return done ? 0 : done.error().errno_value();
  }
  int add_link(InodeId ino, InodeId parent, const std::string& name) {
    pb::LinkRequest request;
    request.set_ino(ino);
    request.set_parent(parent);
    request.set_name(name);
    request.set_now_ns(++now_);
    const auto done = apply([&](Transaction& txn) { return link(txn, request); });
    return done ? 0 : done.error().errno_value();
  }
  int set(InodeId ino, const std::string& name, const std::string& value, uint32_t flags = 0) {
    pb::SetXattrRequest request;
    request.set_ino(ino);
    request.set_name(name);
    request.set_value(value);
    request.set_flags(flags);
    request.set_now_ns(++now_);
    const auto done = apply([&](Transaction& txn) { return set_xattr(txn, request); });
    return done ? 0 : done.error().errno_value();
  }

  pb::Inode inode(InodeId ino) { return get_inode(store_->begin(), ino).value(); }
  InodeId at(InodeId parent, const std::string& name) {
    const auto found = lookup(store_->begin(), parent, name);
    return found ? found.value().ino() : 0;
  }

  InodeId next_ino_ = 100;
  int64_t now_ = 1000;
};

TEST_F(NamespaceRulesTest, RenameTypeTable) {
  directory(1, "empty");
  file(directory(1, "full"), "x");
  directory(1, "d");
  file(1, "f");
  EXPECT_EQ(move(1, "f", 1, "d"), EISDIR);
  EXPECT_EQ(move(1, "d", 1, "f"), ENOTDIR);
  EXPECT_EQ(move(1, "d", 1, "full"), ENOTEMPTY);
  EXPECT_EQ(move(1, "d", 1, "empty"), 0);
  EXPECT_EQ(move(1, "nothing", 1, "f"), ENOENT);
  EXPECT_EQ(move(1, "f", at(1, "f"), "g"), ENOTDIR);
  EXPECT_EQ(move(1, "f", 1, "f", 1), EEXIST);
  EXPECT_EQ(move(1, "f", 1, "g", 3), EINVAL);
  EXPECT_EQ(move(1, "f", 1, "g", 8), EINVAL);
  EXPECT_EQ(move(1, "f", 1, "g", 2), ENOENT);
  EXPECT_EQ(move(1, "f", 1, "g", 1), 0);
}

TEST_F(NamespaceRulesTest, RenameIntoOwnSubtree) {
  const InodeId a = directory(1, "a"), b = directory(a, "b"), c = directory(b, "c");
  EXPECT_EQ(move(1, "a", a, "x"), EINVAL);
  EXPECT_EQ(move(1, "a", c, "x"), EINVAL);
  EXPECT_EQ(move(1, "a", c, "x", 2), ENOENT);
  file(c, "f");
  EXPECT_EQ(move(1, "a", c, "f", 2), EINVAL);
  EXPECT_EQ(move(b, "c", 1, "a"), ENOTEMPTY);
  EXPECT_EQ(move(c, "f", 1, "a"), ENOTEMPTY);
  EXPECT_EQ(move(c, "f", 1, "a", 2), EINVAL);
  EXPECT_EQ(move(b, "c", 1, "c"), 0);
  EXPECT_EQ(inode(c).parent(), 1u);
  EXPECT_EQ(inode(b).nlink(), 2u);
  EXPECT_EQ(inode(1).nlink(), 4u);
}

TEST_F(NamespaceRulesTest, RenameOfTwoNamesOfOneFileChangesNothing) {
  const InodeId f = file(1, "f"), d = directory(1, "d");
  ASSERT_EQ(add_link(f, d, "g"), 0);
  const auto before = inode(f), parent = inode(1);
  EXPECT_EQ(move(1, "f", d, "g"), 0);
  EXPECT_EQ(at(1, "f"), f);
  EXPECT_EQ(at(d, "g"), f);
  EXPECT_EQ(inode(f).SerializeAsString(), before.SerializeAsString());
  EXPECT_EQ(inode(1).SerializeAsString(), parent.SerializeAsString());
}

TEST_F(NamespaceRulesTest, RenameReplacesAndOrphans) {
  const InodeId f = file(1, "f"), g = file(1, "g");
  EXPECT_EQ(move(1, "f", 1, "g"), 0);
  EXPECT_EQ(at(1, "f"), 0u);
  EXPECT_EQ(at(1, "g"), f);
  EXPECT_EQ(inode(g).nlink(), 0u);
  EXPECT_EQ(inode(g).ctime_ns(), now_);
  EXPECT_EQ(inode(f).ctime_ns(), now_);
  EXPECT_EQ(inode(1).mtime_ns(), now_);
  EXPECT_TRUE(store_->begin().get(key::orphan(g)).value());
}

TEST_F(NamespaceRulesTest, ExchangeAcrossDirectories) {
  const InodeId a = directory(1, "a"), b = directory(1, "b");
  const InodeId sub = directory(a, "x"), f = file(b, "y");
  EXPECT_EQ(inode(a).nlink(), 3u);
  EXPECT_EQ(move(a, "x", b, "y", 2), 0);
  EXPECT_EQ(at(a, "x"), f);
  EXPECT_EQ(at(b, "y"), sub);
  EXPECT_EQ(inode(a).nlink(), 2u);
  EXPECT_EQ(inode(b).nlink(), 3u);
  EXPECT_EQ(inode(sub).parent(), b);
  EXPECT_EQ(at(sub, ".."), b);
  const InodeId other = directory(a, "z");
  EXPECT_EQ(move(a, "z", b, "y", 2), 0);
  EXPECT_EQ(inode(other).parent(), b);
  EXPECT_EQ(inode(sub).parent(), a);
  EXPECT_EQ(inode(a).nlink(), 3u);
  EXPECT_EQ(inode(b).nlink(), 3u);
}

TEST_F(NamespaceRulesTest, AWhiteoutTakesTheOldName) {
  constexpr uint32_t kWhiteout = 4;
  const InodeId d = directory(1, "d"), f = file(d, "f"), g = file(1, "g");
  const auto cookie_of = [&](InodeId parent, const std::string& name) {
    pb::Entry entry;
    EXPECT_TRUE(store_->begin().get(key::entry(parent, name), entry).value());
    return entry.cookie();
  };
  const auto rename_as = [&](const std::string& name, InodeId to, const std::string& new_name) {
    pb::RenameRequest request;
    request.set_parent(d);
    request.set_name(name);
    request.set_new_parent(to);
    request.set_new_name(new_name);
    request.set_flags(kWhiteout);
    request.set_now_ns(++now_);
    request.set_uid(7);
    request.set_gid(8);
    return apply([&](Transaction& txn) {
      return rename(txn, request, nullptr, next_ino_++, BirthTime::kept);
    });
  };
  const auto inodes = [&] { return read_totals(store_->begin()).value().inodes; };
  const auto count = inodes();
  const uint64_t position = cookie_of(d, "f");
  const auto done = rename_as("f", d, "h");
  ASSERT_TRUE(done) << done.error().message();
  ASSERT_TRUE(done.value().whiteout);
  EXPECT_EQ(at(d, "h"), f);
  const pb::Inode left = inode(at(d, "f"));
  EXPECT_EQ(left.SerializeAsString(), done.value().whiteout->SerializeAsString());
  EXPECT_EQ(left.mode(), static_cast<uint32_t>(S_IFCHR));
  EXPECT_EQ(left.rdev(), 0u);
  EXPECT_EQ(left.nlink(), 1u);
  EXPECT_EQ(left.uid(), 7u);
  EXPECT_EQ(left.gid(), 8u);
  EXPECT_EQ(left.btime_ns(), now_);
  EXPECT_EQ(inodes(), count + 1);
  EXPECT_EQ(cookie_of(d, "f"), position) << "a listing under way meets the name once";
  EXPECT_GT(cookie_of(d, "h"), position);
  ASSERT_TRUE(rename_as("h", 1, "g"));
  EXPECT_EQ(at(1, "g"), f);
  EXPECT_EQ(inode(g).nlink(), 0u);
  EXPECT_EQ(inode(at(d, "h")).mode(), static_cast<uint32_t>(S_IFCHR));
  const InodeId sub = directory(d, "sub");
  ASSERT_TRUE(rename_as("sub", 1, "sub"));
  EXPECT_EQ(inode(sub).parent(), 1u);
  EXPECT_EQ(inode(d).nlink(), 2u);
  EXPECT_EQ(move(d, "f", 1, "g", kWhiteout | 2), EINVAL);
  EXPECT_EQ(move(d, "f", 1, "g", kWhiteout | 1), EEXIST);
  EXPECT_EQ(move(d, "f", 1, "new", 8), EINVAL);
}

TEST_F(NamespaceRulesTest, NamesAndTypes) {
  const auto error = [](const auto& r) { return r ? 0 : r.error().errno_value(); };
  EXPECT_EQ(error(try_create(1, std::string(255, 'n'), S_IFREG)), 0);
  EXPECT_EQ(error(try_create(1, std::string(256, 'n'), S_IFREG)), ENAMETOOLONG);
  EXPECT_EQ(error(try_create(1, "", S_IFREG)), ENOENT);
  EXPECT_EQ(error(try_create(1, "a/b", S_IFREG)), EINVAL);
  EXPECT_EQ(error(try_create(1, std::string("a\0b", 3), S_IFREG)), EINVAL);
  EXPECT_EQ(error(try_create(1, "..", S_IFREG)), EINVAL);
  EXPECT_EQ(error(try_create(1, "x", 0644)), EINVAL);
  EXPECT_EQ(error(try_create(999, "x", S_IFREG)), ENOENT);
  EXPECT_EQ(error(lookup(store_->begin(), 1, std::string(256, 'n'))), ENAMETOOLONG);
  EXPECT_EQ(at(1, "\xff\xfe"), 0u);
  const InodeId odd = file(1, "\xff\xfe");
  EXPECT_EQ(at(1, "\xff\xfe"), odd);
  EXPECT_EQ(error(try_create(odd, "x", S_IFREG)), ENOTDIR);
}

TEST_F(NamespaceRulesTest, NonExclusiveCreateOpensFilesOnly) {
  const InodeId f = file(1, "f");
  directory(1, "d");
  make(1, "l", S_IFLNK | 0777);
  const auto opened = try_create(1, "f", S_IFREG | 0600, false);
  ASSERT_TRUE(opened);
  EXPECT_TRUE(opened.value().existed);
  EXPECT_EQ(opened.value().inode.ino(), f);
  EXPECT_EQ(opened.value().inode.mode(), S_IFREG | 0644u);
  EXPECT_EQ(try_create(1, "d", S_IFREG, false).error().errno_value(), EISDIR);
  EXPECT_EQ(try_create(1, "l", S_IFREG, false).error().errno_value(), EEXIST);
  EXPECT_EQ(try_create(1, "f", S_IFDIR, false).error().errno_value(), EEXIST);
}

TEST_F(NamespaceRulesTest, SetGroupIdIsInherited) {
  const InodeId d = make(1, "d", S_IFDIR | S_ISGID | 0775);
  pb::SetAttrRequest chown;
  chown.set_ino(d);
  chown.set_gid(42);
  ASSERT_TRUE(apply([&](Transaction& txn) { return set_attributes(txn, chown); }));
  EXPECT_EQ(inode(file(d, "f")).gid(), 42u);
  EXPECT_EQ(inode(at(d, "f")).mode(), S_IFREG | 0644u);
  const auto sub = inode(directory(d, "s"));
  EXPECT_EQ(sub.gid(), 42u);
  EXPECT_EQ(sub.mode(), S_IFDIR | S_ISGID | 0755u);
  EXPECT_EQ(inode(file(1, "g")).gid(), 8u);
}

TEST_F(NamespaceRulesTest, LinksAreLimited) {
  const InodeId f = file(1, "f"), d = directory(1, "d");
  EXPECT_EQ(add_link(d, 1, "e"), EPERM);
  auto txn = store_->begin();
  pb::Inode many = inode(f);
  many.set_nlink(64999);
  txn.put(key::inode(f), many);
  ASSERT_TRUE(store_->commit(std::move(txn)));
  EXPECT_EQ(add_link(f, 1, "g"), 0);
  EXPECT_EQ(add_link(f, 1, "h"), EMLINK);
}

TEST_F(NamespaceRulesTest, RemovedDirectoriesTakeNothing) {
  const InodeId d = directory(1, "d");
  pb::UnlinkRequest request;
  request.set_parent(1);
  request.set_name("d");
  request.set_directory(true);
  ASSERT_TRUE(apply([&](Transaction& txn) { return unlink(txn, request); }));
  EXPECT_EQ(inode(d).nlink(), 0u);
  EXPECT_EQ(try_create(d, "f", S_IFREG).error().errno_value(), ENOENT);
  file(1, "f");
  EXPECT_EQ(move(1, "f", d, "f"), ENOENT);
  EXPECT_EQ(add_link(at(1, "f"), d, "f"), ENOENT);
  pb::ReadDirRequest list;
  list.set_ino(d);
  const auto listed = read_directory(store_->begin(), list);
  ASSERT_FALSE(listed);
  EXPECT_EQ(listed.error().errno_value(), ENOENT) << "as getdents of ext4";
}

// O_TMPFILE: no entry, an orphan from the beginning, and one link that may be its first.
TEST_F(NamespaceRulesTest, AFileWithoutANameGetsItsFirstOnce) {
  const InodeId d = directory(kRootInode, "d");
  const auto before = store_->begin();
  pb::CreateRequest request;
  request.set_parent(d);
  request.set_mode(S_IFREG | 0600);
  request.set_unnamed(true);
  const auto made = [&](pb::CreateRequest wanted) {
    return apply([&](Transaction& txn) { return create(txn, wanted, next_ino_++); });
  };
  EXPECT_EQ(made(request).error().errno_value(), EINVAL) << "nobody would hold it";
  request.set_open(true);
  request.set_mode(S_IFDIR | 0700);
  EXPECT_EQ(made(request).error().errno_value(), EINVAL);
  request.set_mode(S_IFREG | 0600);
  request.set_name("/");
  const auto done = made(request);
  ASSERT_TRUE(done) << done.error().message();
  const InodeId ino = done.value().inode.ino();
  EXPECT_EQ(done.value().inode.nlink(), 0u);
  const auto orphan = [&] { return store_->begin().get(key::orphan(ino)).value().has_value(); };
  EXPECT_TRUE(orphan());
  EXPECT_EQ(get_inode(store_->begin(), d).value().SerializeAsString(),
            get_inode(before, d).value().SerializeAsString())
      << "the directory is as it was";
  EXPECT_EQ(add_link(ino, d, "first"), 0);
  EXPECT_FALSE(orphan());
  EXPECT_EQ(get_inode(store_->begin(), ino).value().nlink(), 1u);
  EXPECT_EQ(get_inode(store_->begin(), ino).value().flags(), 0u);
  EXPECT_EQ(lookup(store_->begin(), d, "first").value().ino(), ino);
  pb::UnlinkRequest gone;
  gone.set_parent(d);
  gone.set_name("first");
  ASSERT_TRUE(apply([&](Transaction& txn) { return unlink(txn, gone); }));
  EXPECT_TRUE(orphan());
  EXPECT_EQ(add_link(ino, d, "again"), ENOENT) << "as any file that was removed";
  gone.set_parent(kRootInode);
  gone.set_name("d");
  gone.set_directory(true);
  ASSERT_TRUE(apply([&](Transaction& txn) { return unlink(txn, gone); }));
  EXPECT_EQ(made(request).error().errno_value(), EPERM) << "as ext4 in a directory that is gone";
}

// +i and +a, against every operation that changes something.
TEST_F(NamespaceRulesTest, FlagsForbidChanges) {
  const InodeId d = directory(kRootInode, "d"), f = file(d, "f"), other = file(kRootInode, "other");
  const auto change = [&](InodeId ino, const std::function<void(pb::SetAttrRequest&)>& what) {
    pb::SetAttrRequest request;
    request.set_ino(ino);
    request.set_ctime_ns(++now_);
    what(request);
    const auto done = apply([&](Transaction& txn) { return set_attributes(txn, request); });
    return done ? 0 : done.error().errno_value();
  };
  const auto flag = [&](InodeId ino, uint32_t flags) {
    return change(ino, [&](auto& request) { request.set_flags(flags); });
  };
  const auto chmod = [&](InodeId ino) {
    return change(ino, [](auto& request) { request.set_mode(0700); });
  };
  const auto touch = [&](InodeId ino) {
    return change(ino, [](auto& request) { request.set_mtime_ns(5); });
  };
  const auto remove = [&](InodeId parent, const std::string& name) {
    pb::UnlinkRequest request;
    request.set_parent(parent);
    request.set_name(name);
    request.set_now_ns(++now_);
    const auto done = apply([&](Transaction& txn) { return unlink(txn, request); });
    return done ? 0 : done.error().errno_value();
  };
  EXPECT_EQ(flag(f, 1), EOPNOTSUPP);
  EXPECT_EQ(flag(f, kInodeUnnamed), EOPNOTSUPP) << "not for programs";
  for (const uint32_t flags : {kInodeImmutable, kInodeAppend}) {
    ASSERT_EQ(flag(f, flags | kInodeNoDump), 0);
    EXPECT_EQ(chmod(f), EPERM);
    EXPECT_EQ(touch(f), flags == kInodeImmutable ? EPERM : 0);
    EXPECT_EQ(set(f, "user.x", "1"), EPERM);
    EXPECT_EQ(add_link(f, kRootInode, "second"), EPERM);
    EXPECT_EQ(remove(d, "f"), EPERM);
    EXPECT_EQ(move(d, "f", kRootInode, "g"), EPERM);
    EXPECT_EQ(move(kRootInode, "other", d, "f"), EPERM) << "it would lose its name";
    EXPECT_EQ(move(d, "f", kRootInode, "other", 2), EPERM) << "an exchange";
    ASSERT_EQ(flag(f, 0), 0);
    EXPECT_EQ(chmod(f), 0);

    ASSERT_EQ(flag(d, flags), 0);
    const bool adds = flags == kInodeAppend;
    EXPECT_EQ(try_create(d, "new" + std::to_string(flags), S_IFREG | 0644).has_value(), adds);
    EXPECT_EQ(add_link(other, d, "link" + std::to_string(flags)), adds ? 0 : EPERM);
    EXPECT_EQ(remove(d, "f"), EPERM);
    EXPECT_EQ(move(d, "f", d, "g"), EPERM);
    EXPECT_EQ(move(d, "f", kRootInode, "g"), EPERM);
    EXPECT_EQ(move(kRootInode, "d", kRootInode, "e"), EPERM);
    EXPECT_EQ(chmod(d), EPERM);
    ASSERT_EQ(flag(d, 0), 0);
  }
  ASSERT_EQ(flag(d, kInodeAppend | kInodeNoDump | kInodeNoAtime), 0);
  const InodeId below = file(d, "below");
  EXPECT_EQ(get_inode(store_->begin(), below).value().flags(), kInodeFlagsInherited);
  ASSERT_EQ(flag(d, 0), 0);
  EXPECT_EQ(remove(d, "f"), 0);
}

TEST_F(NamespaceRulesTest, ExtendedAttributes) {
  const InodeId f = file(1, "f");
  EXPECT_EQ(set(f, "user.a", ""), 0);
  EXPECT_EQ(get_xattr(store_->begin(), f, "user.a").value(), "");
  EXPECT_EQ(set(f, "user.a", "1", 1), EEXIST);
  EXPECT_EQ(set(f, "user.b", "1", 2), ENODATA);
  EXPECT_EQ(set(f, "user.b", "1", 4), EINVAL);
  EXPECT_EQ(set(f, "user.", "1"), EINVAL);
  EXPECT_EQ(set(f, "user." + std::string(251, 'x'), "1"), ERANGE);
  EXPECT_EQ(set(f, "user." + std::string(250, 'x'), "1"), 0);
  EXPECT_EQ(set(f, "security.selinux", std::string(65536, 'v')), 0);
  EXPECT_EQ(set(f, "trusted.t", std::string(65537, 'v')), E2BIG);
  EXPECT_EQ(set(f, "system.posix_acl_access", "1"), EINVAL);
  EXPECT_EQ(set(f, "system.nfs4_acl", "1"), EOPNOTSUPP);
  EXPECT_EQ(set(f, "other.x", "1"), EOPNOTSUPP);
  EXPECT_EQ(list_xattrs(store_->begin(), f).value().size(), 3u);
  EXPECT_EQ(inode(f).xattr_count(), 3u);
  EXPECT_EQ(get_xattr(store_->begin(), f, "user.none").error().errno_value(), ENODATA);
  EXPECT_EQ(set(f, "user.a", "2"), 0);
}

}  // namespace
}  // namespace datacloud
