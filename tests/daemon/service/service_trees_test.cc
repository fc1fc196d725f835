// Trees as the administrator makes and removes them: conversions between requests, across restarts
// and beside renames; df; what is refused.
#include <cerrno>
#include <random>

#include "common/proto/admin.pb.h"
#include "daemon/records/tree_walk.h"
#include "tests/daemon/metadata/store_fixture.h"
#include "tests/daemon/service/service_rig.h"

namespace datacloud {
namespace {

using testing::HasSubstr;

class ServiceTreesTest : public ServiceTest {
 protected:
  struct Told {
    pb::TreeReply reply;
    std::string error;
    pb::TreeReply::State state() const { return reply.trees(0); }
  };
  static pb::Request wrap(const pb::AdminRequest& admin) {
    pb::Request request;
    request.set_admin(admin.SerializeAsString());
    return request;
  }
  static pb::Request tree_request(pb::TreeRequest::Change change, const std::string& path,
                                  uint32_t id = 0) {
    pb::AdminRequest admin;
    admin.mutable_tree()->set_change(change);
    admin.mutable_tree()->set_path(path);
    admin.mutable_tree()->set_id(id);
    return wrap(admin);
  }
  Told ask(pb::TreeRequest::Change change, const std::string& path, uint32_t id = 0) {
    auto asker = tool();
    const auto reply = call(asker, tree_request(change, path, id));
    pb::AdminReply admin;
    EXPECT_TRUE(admin.ParseFromString(reply.admin()));
    return {admin.tree(), reply.error_text()};
  }
  Told create_tree(const std::string& path) { return ask(pb::TreeRequest::CREATE, path); }
  Told remove_tree(const std::string& path) { return ask(pb::TreeRequest::REMOVE, path); }
  pb::TreeReply::State show(uint32_t id) { return ask(pb::TreeRequest::SHOW, "", id).state(); }
  void enable() {
    pb::AdminRequest admin;
    admin.mutable_feature()->add_enable("trees");
    auto asker = tool();
    const auto reply = call(asker, wrap(admin));
    EXPECT_EQ(reply.error(), 0) << reply.error_text();
  }
  std::optional<pb::Tree> tree(uint32_t id) { return trees::find(store_->begin(), id).value(); }
  bool ready(uint32_t id) {
    const auto now = tree(id);
    return now && now->state() == pb::TREE_READY;
  }

  InodeId make(Client& client, InodeId parent, const std::string& name, uint32_t mode) {
    const auto reply = call(client, create_request(name, parent, mode));
    EXPECT_EQ(reply.error(), 0) << reply.error_text();
    return reply.attr().inode().ino();
  }
  InodeId dir(Client& client, InodeId parent, const std::string& name) {
    return make(client, parent, name, S_IFDIR | 0755);
  }
  // Directories and files for `transactions` steps of a conversion.
  InodeId populate(Client& client, const std::string& name, uint32_t transactions) {
    const InodeId top = dir(client, kRootInode, name);
    InodeId at = top;
    for (uint32_t i = 0; i < transactions * TreeWalk::kEntriesPerStep; ++i) {
      if (i % 100 == 0) at = dir(client, i % 200 ? top : at, "d" + std::to_string(i));
      make(client, at, "f" + std::to_string(i), S_IFREG | 0644);
    }
    return top;
  }
  pb::Request link(InodeId ino, InodeId parent, const std::string& name) {
    pb::Request request;
    request.mutable_link()->set_ino(ino);
    request.mutable_link()->set_parent(parent);
    request.mutable_link()->set_name(name);
    return request;
  }
  pb::Request rename(InodeId from, const std::string& name, InodeId to, const std::string& new_name,
                     uint32_t flags = 0) {
    pb::Request request;
    auto* r = request.mutable_rename();
    r->set_parent(from);
    r->set_name(name);
    r->set_new_parent(to);
    r->set_new_name(new_name);
    r->set_flags(flags);
    return request;
  }
  pb::StatFsReply df(Client& client, InodeId ino) {
    pb::Request request;
    request.mutable_statfs()->set_ino(ino);
    const auto reply = call(client, request);
    EXPECT_EQ(reply.error(), 0) << reply.error_text();
    return reply.statfs();
  }
};

TEST_F(ServiceTreesTest, RefusalsNameTheRemedy) {
  auto client = mount(10, {"trees"});
  dir(client, kRootInode, "d");
  create(client, "f");
  EXPECT_THAT(create_tree("/d").error, HasSubstr("datacloud feature enable trees"));
  enable();
  EXPECT_THAT(create_tree("/f").error, HasSubstr("/f is no directory"));
  EXPECT_THAT(create_tree("/").error, HasSubstr("cloud's root"));
  EXPECT_NE(create_tree("/none").error, "");
  EXPECT_THAT(remove_tree("/d").error, HasSubstr("not the root of a tree"));
  EXPECT_THAT(ask(pb::TreeRequest::SHOW, "/d").error, HasSubstr("/d is in no tree"));
  EXPECT_EQ(create_tree("/d").error, "");
  EXPECT_THAT(create_tree("/d").error, HasSubstr("/d is tree 1 already"));
}

TEST_F(ServiceTreesTest, ListedShownAndWithADfOfItsOwn) {
  auto client = mount(10, {"trees"});
  enable();
  const InodeId d = dir(client, kRootInode, "d");
  const auto made = create_tree("/d");
  ASSERT_EQ(made.error, "");
  EXPECT_EQ(made.state().tree().state(), pb::TREE_READY);
  const auto before = df(client, kRootInode);
  const InodeId f = make(client, d, "f", S_IFREG | 0644);
  write_block(client, f);
  write_block(client, create(client, "outside"));
  const auto inside = df(client, f), outside = df(client, kRootInode);
  EXPECT_EQ(inside.inodes(), 2u);
  EXPECT_EQ(outside.inodes(), before.inodes() + 2);
  EXPECT_EQ(inside.bytes_total() - inside.bytes_free(), 4096u);
  EXPECT_EQ(df(client, 4711).inodes(), outside.inodes());
  pb::Request old;  // of programs from before there were trees
  old.mutable_statfs();
  EXPECT_EQ(call(client, old).statfs().inodes(), outside.inodes());

  const auto list = ask(pb::TreeRequest::LIST, "");
  ASSERT_EQ(list.reply.trees_size(), 1);
  EXPECT_EQ(list.state().path(), "/d");
  EXPECT_EQ(list.state().counters().inodes(), 2u);
  EXPECT_EQ(list.state().counters().logical_bytes(), 4096u);
  EXPECT_EQ(ask(pb::TreeRequest::LIST, "", 2).reply.trees_size(), 0) << "pages begin at an id";
  EXPECT_EQ(ask(pb::TreeRequest::SHOW, "/d/f").state().tree().root(), d);
}

TEST_F(ServiceTreesTest, AConversionLetsRequestsThrough) {
  auto client = mount(10, {"trees"});
  enable();
  const InodeId top = populate(client, "d", 3);
  const InodeId out = dir(client, kRootInode, "out"), f = create(client, "f");
  clock_stands_ = true;  // and with it the conversion, however long answers take
  const auto made = create_tree("/d");
  ASSERT_EQ(made.error, "");
  const uint32_t id = made.state().tree().id();
  EXPECT_THAT(create_tree("/out").error, HasSubstr("wait until that is done"));
  EXPECT_THAT(remove_tree("/d").error, HasSubstr("is being made"));
  clock_stands_ = false;
  int between = 0;
  while (!ready(id)) {
    const std::string name = "new" + std::to_string(between++);
    make(client, top, name, S_IFREG | 0644);
    EXPECT_EQ(call(client, rename(top, name, out, name)).error(), EXDEV);
    EXPECT_EQ(call(client, link(f, top, "in" + name)).error(), EXDEV);
    EXPECT_EQ(call(client, link(f, out, name)).error(), 0);
    ASSERT_TRUE(loop_->run_one() || (loop_->advance(milliseconds(1)), true));
    ASSERT_LT(between, 10'000);
  }
  EXPECT_GT(between, 0);
  EXPECT_EQ(show(id).counters().inodes(), 3 * TreeWalk::kEntriesPerStep + 1 +
                                              (3 * TreeWalk::kEntriesPerStep + 99) / 100 +
                                              static_cast<uint64_t>(between));
  expect_sound();
}

TEST_F(ServiceTreesTest, LinksOfFilesOnAnUnknownSideWait) {
  auto client = mount(10, {"trees"});
  enable();
  const InodeId d = dir(client, kRootInode, "d"), in = make(client, d, "in", S_IFREG | 0644);
  const InodeId out = create(client, "out");
  auto asker = tool();
  const uint64_t made = send(asker, tree_request(pb::TreeRequest::CREATE, "/d"));
  const uint64_t within = send(client, link(out, kRootInode, "out2"));
  const uint64_t inside = send(client, link(in, d, "in2"));
  const uint64_t across = send(client, link(in, kRootInode, "across"));
  for (const uint64_t id : {within, inside, across}) EXPECT_FALSE(answered(client, id));
  EXPECT_EQ(await(client, within).error(), 0);
  EXPECT_EQ(await(client, inside).error(), 0);
  EXPECT_EQ(await(client, across).error(), EXDEV);
  await(asker, made);
  EXPECT_TRUE(until([&] { return ready(1); }));
  EXPECT_EQ(get_inode(store_->begin(), in).value().tree(), 1u);
  EXPECT_EQ(get_inode(store_->begin(), out).value().tree(), 0u);
}

TEST_F(ServiceTreesTest, AFileWithANameOutsideIsTold) {
  auto client = mount(10, {"trees"});
  enable();
  const InodeId d = dir(client, kRootInode, "d"), f = make(client, d, "f", S_IFREG | 0644);
  ASSERT_EQ(call(client, link(f, kRootInode, "g")).error(), 0);
  const uint32_t id = create_tree("/d").state().tree().id();
  EXPECT_TRUE(until([&] { return !tree(id); }));
  EXPECT_THAT(show(id).failure(), testing::AllOf(HasSubstr("/d/f"), HasSubstr("/g")));
  EXPECT_EQ(ask(pb::TreeRequest::LIST, "").reply.trees_size(), 0);
  // Nothing is shut any more.
  EXPECT_EQ(call(client, rename(d, "f", kRootInode, "f")).error(), 0);
}

TEST_F(ServiceTreesTest, RestartsAtEveryTransaction) {
  enable();
  {
    auto client = mount(10, {"trees"});
    populate(client, "d", 10);
  }
  const auto each_transaction = [&](uint32_t id, const std::function<bool()>& done) {
    int restarts = 0;
    while (!done() && restarts < 100) {
      restart();
      ++restarts;
      const Sequence before = store_->sequence();
      until([&] { return store_->sequence() > before || done(); });
      const auto now = tree(id);
      if (now) {
        EXPECT_EQ(now->root() != 0, true);
      }
      expect_sound();
      if (HasFailure()) return restarts;
    }
    return restarts;
  };
  const uint32_t id = create_tree("/d").state().tree().id();
  EXPECT_GT(each_transaction(id, [&] { return ready(id); }), 4);
  const uint64_t inodes = show(id).counters().inodes();
  EXPECT_GT(inodes, 10 * TreeWalk::kEntriesPerStep);
  ASSERT_EQ(remove_tree("/d").error, "");
  EXPECT_GT(each_transaction(id, [&] { return !tree(id); }), 3);
  EXPECT_EQ(show(id).tree().state(), pb::TREE_REMOVED);
  bool any = false;
  ASSERT_TRUE(store_->begin().scan("T", "V", [&](auto, auto) { return any = true; }));
  EXPECT_FALSE(any);
}

// Whatever happens meanwhile, all below is in the tree in the end, and nothing else is.
TEST_F(ServiceTreesTest, RandomNamesBesideConversions) {
  std::mt19937_64 random(test_seed());
  enable();
  auto client = mount(10, {"trees"});
  std::vector<InodeId> directories{kRootInode, populate(client, "d", 2)};
  const InodeId top = directories[1];
  for (int i = 0; i < 20; ++i) {
    const InodeId in = directories[1 + random() % (directories.size() - 1)];
    directories.push_back(dir(client, random() % 2 ? in : kRootInode, "x" + std::to_string(i)));
  }
  std::vector<InodeId> files;
  const auto act = [&] {
    const auto any_directory = [&] { return directories[random() % directories.size()]; };
    const auto any_name = [&] { return "x" + std::to_string(random() % 25); };
    switch (random() % 4) {
      case 0: {
        const auto reply = call(client, create_request(any_name(), any_directory()));
        if (reply.error() == 0) files.push_back(reply.attr().inode().ino());
        break;
      }
      case 1:
        if (!files.empty()) {
          call(client, link(files[random() % files.size()], any_directory(), any_name()));
        }
        break;
      default:
        call(client, rename(any_directory(), any_name(), any_directory(), any_name(),
                            random() % 3 ? 0 : 2));
    }
  };
  for (int round = 0; round < 6; ++round) {
    for (int i = 0; i < 50; ++i) act();
    const auto path = directory_path(store_->begin(), top);
    ASSERT_TRUE(path) << path.error().message();
    const bool making = round % 2 == 0;
    const auto begun = making ? create_tree(path.value()) : remove_tree(path.value());
    if (!begun.error.empty()) continue;  // none to be removed: it was given up
    const uint32_t id = begun.state().tree().id();
    const auto over = [&] {
      const auto now = tree(id);
      return !now || now->state() == pb::TREE_READY || now->state() == pb::TREE_REMOVED;
    };
    for (int i = 0; !over() && i < 100'000; ++i) {
      act();
      if (!loop_->run_one()) loop_->advance(milliseconds(1));
      if (i % 50 == 49) {
        restart();
        connect(client);
      }
    }
    ASSERT_TRUE(over());
    expect_sound();
    if (HasFailure()) return;
  }
}

}  // namespace
}  // namespace datacloud
