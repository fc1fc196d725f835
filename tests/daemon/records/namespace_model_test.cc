// Random namespace operations against the model: every errno and, regularly, every inode, entry,
// readdir position and orphan.
#include <set>

#include "daemon/metadata/record_keys.h"
#include "daemon/records/block_map.h"
#include "daemon/records/namespace_ops.h"
#include "tests/daemon/metadata/store_fixture.h"
#include "tests/daemon/records/namespace_model.h"

namespace datacloud {
namespace {

class NamespaceModelTest : public StoreTest {
 protected:
  void SetUp() override {
    StoreTest::SetUp();
    auto root = get_inode(store_->begin(), kRootInode).value();
    root.set_atime_ns(0);
    root.set_mtime_ns(0);
    root.set_ctime_ns(0);
    ASSERT_TRUE(apply([&](Transaction& txn) -> result<void> {
      txn.put(key::inode(kRootInode), root);
      return success();
    }));
  }

  // Applies `change` and compares its errno with the model's.
  template <class Change>
  void expect(int model_errno, const std::string& what, const Change& change) {
    const auto outcome = apply(change);
    ++outcomes_[what][model_errno];
    ASSERT_EQ(outcome ? 0 : outcome.error().errno_value(), model_errno)
        << what << (outcome ? "" : ": " + outcome.error().message());
  }

  uint64_t pick_directory() {
    for (int i = 0; i < 4; ++i) {
      const uint64_t ino = pick_inode();
      if (model_.is_directory(ino) && (model_.nodes[ino].nlink > 0 || random_() % 8 == 0)) {
        return ino;
      }
    }
    return random_() % 50 == 0 ? pick_inode() : 1;
  }
  uint64_t pick_inode() {
    auto it = model_.nodes.begin();
    std::advance(it, static_cast<long>(random_() % model_.nodes.size()));
    return it->first;
  }
  std::string pick_name() { return std::string(1, static_cast<char>('a' + random_() % 6)); }

  void step() {
    ++now_;
    switch (random_() % 10) {
      case 0:
      case 1:
      case 2:
        return do_create();
      case 3:
        return do_link();
      case 4:
      case 5:
        return do_unlink();
      case 6:
      case 7:
        return do_rename();
      case 8:
        return do_attributes();
      default:
        return do_xattr();
    }
  }

  void do_create() {
    static constexpr uint32_t kTypes[] = {S_IFREG, S_IFDIR, S_IFDIR, S_IFLNK, S_IFIFO, S_IFSOCK};
    pb::CreateRequest request;
    request.set_parent(pick_directory());
    request.set_name(pick_name());
    request.set_mode(kTypes[random_() % 6] | (random_() % 010000));
    if (S_ISLNK(request.mode())) request.set_symlink_target("to\xff/there");
    request.set_uid(random_() % 3);
    request.set_gid(random_() % 3);
    request.set_now_ns(now_);
    request.set_exclusive(true);
    const uint64_t ino = next_ino_++;
    const int e = model_.create(request.parent(), request.name(), request.mode(), request.uid(),
                                request.gid(), request.symlink_target(), ino, now_);
    expect(e, "create", [&](Transaction& txn) { return create(txn, request, ino); });
  }

  void do_link() {
    pb::LinkRequest request;
    request.set_ino(pick_inode());
    request.set_parent(pick_directory());
    request.set_name(pick_name());
    request.set_now_ns(now_);
    const int e = model_.link(request.ino(), request.parent(), request.name(), now_);
    expect(e, "link", [&](Transaction& txn) { return link(txn, request); });
  }

  void do_unlink() {
    pb::UnlinkRequest request;
    request.set_parent(pick_directory());
    request.set_name(pick_name());
    request.set_directory(random_() % 2 == 0);
    request.set_now_ns(now_);
    const int e = model_.unlink(request.parent(), request.name(), request.directory(), now_);
    expect(e, "unlink", [&](Transaction& txn) { return unlink(txn, request); });
  }

  void do_rename() {
    pb::RenameRequest request;
    request.set_parent(pick_directory());
    request.set_name(pick_name());
    request.set_new_parent(pick_directory());
    request.set_new_name(pick_name());
    request.set_flags(static_cast<uint32_t>(random_() % 3));
    request.set_now_ns(now_);
    const int e =
        model_.rename(request.parent(), request.name(), request.new_parent(), request.new_name(),
                      request.flags() == 1, request.flags() == 2, now_);
    expect(e, "rename", [&](Transaction& txn) { return rename(txn, request); });
  }

  void do_attributes() {
    pb::SetAttrRequest request;
    request.set_ino(pick_inode());
    request.set_ctime_ns(now_);
    auto& node = model_.nodes[request.ino()];
    if (random_() % 2) {
      request.set_mode(random_() % 010000);
      node.mode = (node.mode & S_IFMT) | request.mode();
    }
    if (random_() % 2) request.set_uid(node.uid = random_() % 3);
    if (random_() % 2) request.set_gid(node.gid = random_() % 3);
    if (random_() % 2) request.set_atime_ns(node.atime = -now_);
    if (random_() % 2) request.set_mtime_ns(node.mtime = now_ + 5);
    node.ctime = now_;
    expect(0, "setattr", [&](Transaction& txn) { return set_attributes(txn, request); });
  }

  void do_xattr() {
    const uint64_t ino = pick_inode();
    auto& node = model_.nodes[ino];
    std::string name = "user." + pick_name();
    if (random_() % 3 == 0) {
      if (!node.xattrs.empty() && random_() % 4) name = node.xattrs.begin()->first;
      pb::RemoveXattrRequest request;
      request.set_ino(ino);
      request.set_name(name);
      request.set_now_ns(now_);
      const int e = node.xattrs.erase(name) ? 0 : ENODATA;
      if (e == 0) node.ctime = now_;
      return expect(e, "removexattr", [&](Transaction& txn) { return remove_xattr(txn, request); });
    }
    pb::SetXattrRequest request;
    request.set_ino(ino);
    request.set_name(name);
    request.set_value(std::to_string(random_()));
    request.set_flags(static_cast<uint32_t>(random_() % 3));
    request.set_now_ns(now_);
    const bool there = node.xattrs.contains(name);
    const int e = request.flags() == 1 && there    ? EEXIST
                  : request.flags() == 2 && !there ? ENODATA
                                                   : 0;
    if (e == 0) {
      node.xattrs[name] = request.value();
      node.ctime = now_;
    }
    expect(e, "setxattr", [&](Transaction& txn) { return set_xattr(txn, request); });
  }

  void compare_inode(const Transaction& txn, uint64_t ino, const ModelNode& node) {
    const auto got = get_inode(txn, ino);
    ASSERT_TRUE(got) << got.error().message();
    const pb::Inode& inode = got.value();
    EXPECT_EQ(inode.mode(), node.mode);
    EXPECT_EQ(inode.nlink(), node.nlink);
    EXPECT_EQ(inode.uid(), node.uid);
    EXPECT_EQ(inode.gid(), node.gid);
    EXPECT_EQ(inode.size(), node.size);
    EXPECT_EQ(inode.symlink_target(), node.target);
    EXPECT_EQ(inode.atime_ns(), node.atime);
    EXPECT_EQ(inode.mtime_ns(), node.mtime);
    EXPECT_EQ(inode.ctime_ns(), node.ctime);
    EXPECT_EQ(inode.policy().code(), "rs-3-2");
    if (S_ISDIR(node.mode) && node.nlink > 0) {
      EXPECT_EQ(inode.parent(), model_.parent_of(ino));
    }
    EXPECT_EQ(txn.get(key::orphan(ino)).value().has_value(), node.nlink == 0);
    std::map<std::string, std::string> xattrs;
    const auto listed = list_xattrs(txn, ino);
    ASSERT_TRUE(listed);
    for (const auto& name : listed.value()) xattrs[name] = get_xattr(txn, ino, name).value();
    EXPECT_EQ(xattrs, node.xattrs);
  }

  void compare_directory(const Transaction& txn, uint64_t ino, const ModelNode& node) {
    std::map<std::string, uint64_t> listed;
    pb::ReadDirRequest request;
    request.set_ino(ino);
    request.set_count_max(2);
    request.set_plus(true);
    if (node.nlink == 0) {
      const auto removed = read_directory(txn, request);
      ASSERT_FALSE(removed);
      EXPECT_EQ(removed.error().errno_value(), ENOENT);
      return;
    }
    for (bool end = false; !end;) {
      const auto page = read_directory(txn, request);
      ASSERT_TRUE(page) << page.error().message();
      end = page.value().end();
      for (const auto& item : page.value().items()) {
        EXPECT_GT(item.entry().cookie(), std::max<uint64_t>(request.cookie(), 2));
        EXPECT_EQ(item.entry().ino(), item.inode().ino());
        EXPECT_EQ(item.entry().type(), item.inode().mode() & S_IFMT);
        EXPECT_TRUE(listed.emplace(item.name(), item.entry().ino()).second) << "listed twice";
        request.set_cookie(item.entry().cookie());
        const auto found = lookup(txn, ino, item.name());
        ASSERT_TRUE(found);
        EXPECT_EQ(found.value().ino(), item.entry().ino());
      }
    }
    EXPECT_EQ(listed, node.entries);
    const auto path = directory_path(txn, ino);
    ASSERT_TRUE(path) << path.error().message();
    EXPECT_EQ(resolve_path(txn, path.value()).value().ino(), ino) << path.value();
  }

  void compare_all() {
    const auto txn = store_->begin();
    for (const auto& [ino, node] : model_.nodes) {
      SCOPED_TRACE("inode " + std::to_string(ino));
      compare_inode(txn, ino, node);
      if (S_ISDIR(node.mode)) compare_directory(txn, ino, node);
      if (HasFailure()) return;
    }
    EXPECT_EQ(read_totals(txn).value().inodes, model_.nodes.size());
  }

  // Forgets some removed inodes, as the daemon does after their last close.
  void reclaim_some() {
    std::vector<uint64_t> removed;
    for (const auto& [ino, node] : model_.nodes) {
      if (node.nlink == 0 && random_() % 2) removed.push_back(ino);
    }
    for (const uint64_t ino : removed) {
      const auto done = apply([&](Transaction& txn) { return reclaim_inode(txn, ino, 10); });
      ASSERT_TRUE(done) << done.error().message();
      EXPECT_TRUE(done.value());
      model_.nodes.erase(ino);
      EXPECT_FALSE(get_inode(store_->begin(), ino));
    }
  }

  std::map<std::string, std::map<int, int>> outcomes_;  // operation -> errno -> how often
  NamespaceModel model_;
  std::mt19937_64 random_{test_seed()};
  uint64_t next_ino_ = 100;
  int64_t now_ = 0;
};

TEST_F(NamespaceModelTest, BehavesLikeTheModel) {
  for (int round = 0; round < 6000; ++round) {
    step();
    if (round % 100 == 0) compare_all();
    if (round % 250 == 0) reclaim_some();
    if (round == 3000) open();
    ASSERT_FALSE(HasFailure()) << "step " << round;
  }
  compare_all();
  const auto findings = check_block_map(store_->begin());
  ASSERT_TRUE(findings);
  EXPECT_EQ(findings.value(), std::vector<std::string>());
  // The walk met what it is meant to meet.
  for (const int e : {0, EEXIST, ENOENT, ENOTDIR, EINVAL, EISDIR, ENOTEMPTY}) {
    EXPECT_GT(outcomes_["rename"][e], 0) << "rename never gave errno " << e;
  }
  for (const auto& [what, by_errno] : outcomes_) {
    EXPECT_GT(by_errno.at(0), 20) << what << " hardly ever succeeded";
  }
}

// Entries present during a whole listing are seen exactly once, whatever happens to the others.
TEST_F(NamespaceModelTest, ListingsSurviveChanges) {
  const auto add = [&](const std::string& name) {
    pb::CreateRequest request;
    request.set_parent(kRootInode);
    request.set_name(name);
    request.set_mode(S_IFREG | 0644);
    request.set_exclusive(true);
    expect(0, name, [&](Transaction& txn) { return create(txn, request, next_ino_++); });
  };
  std::set<std::string> lasting, passing;
  for (int i = 0; i < 200; ++i) {
    const std::string name = std::to_string(i);
    add(name);
    (i % 2 ? lasting : passing).insert(name);
  }
  std::multiset<std::string> seen;
  pb::ReadDirRequest request;
  request.set_ino(kRootInode);
  request.set_count_max(7);
  for (bool end = false; !end;) {
    const auto page = read_directory(store_->begin(), request);
    ASSERT_TRUE(page);
    end = page.value().end();
    for (const auto& item : page.value().items()) {
      if (lasting.contains(item.name())) seen.insert(item.name());
      request.set_cookie(item.entry().cookie());
    }
    for (int i = 0; i < 5 && !passing.empty(); ++i) {
      pb::UnlinkRequest gone;
      gone.set_parent(kRootInode);
      gone.set_name(*passing.begin());
      passing.erase(passing.begin());
      expect(0, "unlink", [&](Transaction& txn) { return unlink(txn, gone); });
    }
    if (seen.size() < 50) add("new" + std::to_string(next_ino_));
  }
  EXPECT_EQ(seen, std::multiset<std::string>(lasting.begin(), lasting.end()));
}

}  // namespace
}  // namespace datacloud
