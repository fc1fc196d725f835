// Nodes that are limited to a directory, before peers that name whatever they like.
#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>
#include <stdio.h>

#include <functional>
#include <map>
#include <set>

#include "common/proto/admin.pb.h"
#include "daemon/metadata/record_keys.h"
#include "tests/daemon/service/nodes_rig.h"
#include "tests/support/seeded.h"

namespace datacloud {
namespace {

using testing::HasSubstr;

class LimitsTest : public NodesTest {
 protected:
  void SetUp() override {
    NodesTest::SetUp();
    local_ = mount(11);
    one_ = make("one", kRootInode, S_IFDIR | 0755);
    sub_ = make("sub", one_, S_IFDIR | 0755);
    two_ = make("two", kRootInode, S_IFDIR | 0755);
    f_ = make("f", one_);
    g_ = make("g", sub_);
    secret_ = make("secret", two_);
    forget_leases(local_);
    machine_ = joined("gpu07", {"mount"}, "/one");
    const auto reply = hello(machine_);
    ASSERT_EQ(reply.error(), 0) << reply.error_text();
  }
  Client& node() { return machine_.client; }

  InodeId make(const std::string& name, InodeId parent, uint32_t mode = S_IFREG | 0644) {
    const auto reply = call(local_, create_request(name, parent, mode));
    EXPECT_EQ(reply.error(), 0) << reply.error_text();
    made_.push_back(reply.attr().inode().ino());
    return made_.back();
  }
  // So that nobody has to answer recalls.
  void forget_leases(Client& client) {
    pb::Request request;
    for (const InodeId ino : made_)
      *request.mutable_release()->add_leases() = held(ino, pb::LEASE_NONE);
    *request.mutable_release()->add_leases() = held(kRootInode, pb::LEASE_NONE);
    call(client, request);
  }
  // Answers the recalls of both until the reply is there.
  pb::Reply settle(Client& client, pb::Request request) {
    const uint64_t id = send(client, std::move(request));
    EXPECT_TRUE(until([&] {
      for (Client* c : {&local_, &node()})
        while (c->connection && !c->connection->recalls.empty()) recall(*c);
      return answered(client, id);
    }));
    return await(client, id);
  }
  int tried(pb::Request request) { return settle(node(), std::move(request)).error(); }
  int done(pb::Request request) { return settle(local_, std::move(request)).error(); }

  static pb::Request rename_request(InodeId from, const std::string& name, InodeId to,
                                    const std::string& new_name, uint32_t flags = 0) {
    pb::Request request;
    auto* rename = request.mutable_rename();
    rename->set_parent(from);
    rename->set_name(name);
    rename->set_new_parent(to);
    rename->set_new_name(new_name);
    rename->set_flags(flags);
    rename->set_now_ns(1);
    return request;
  }
  static pb::Request link_request(InodeId ino, InodeId parent, const std::string& name) {
    pb::Request request;
    request.mutable_link()->set_ino(ino);
    request.mutable_link()->set_parent(parent);
    request.mutable_link()->set_name(name);
    request.mutable_link()->set_now_ns(1);
    return request;
  }
  static pb::Request unlink_in(InodeId parent, const std::string& name, bool directory = false) {
    pb::Request request = unlink_request(name);
    request.mutable_unlink()->set_parent(parent);
    request.mutable_unlink()->set_directory(directory);
    return request;
  }
  static pb::Request list_request(InodeId ino) {
    pb::Request request;
    request.mutable_readdir()->set_ino(ino);
    request.mutable_readdir()->set_plus(true);
    return request;
  }
  static pb::Request xattr_request(InodeId ino) {
    pb::Request request;
    request.mutable_listxattr()->set_ino(ino);
    return request;
  }
  int reached(InodeId ino) { return tried(xattr_request(ino)); }

  Client local_;
  Machine machine_;
  InodeId one_ = 0, sub_ = 0, two_ = 0, f_ = 0, g_ = 0, secret_ = 0;
  std::vector<InodeId> made_;
};

TEST_F(LimitsTest, TheDirectoryIsCheckedWhenTheNodeIsAdded) {
  const SecretKey secret = SecretKey::random();
  const auto error = [&](const std::string& directory, std::vector<std::string> roles = {"mount"}) {
    const auto added = add("other", secret, std::move(roles), 3'600'000, directory);
    return added ? std::string("added") : added.error().text();
  };
  EXPECT_THAT(error("/none"), HasSubstr("none"));
  EXPECT_THAT(error("/one/f"), HasSubstr("not a directory"));
  EXPECT_THAT(error("one"), HasSubstr("starts with '/'"));
  EXPECT_THAT(error("/"), HasSubstr("whole cloud"));
  for (const std::string role : {"admin", "auditor", "site"})
    EXPECT_THAT(error("/one", {"mount", role}), HasSubstr("the only role"));
  EXPECT_EQ(error("/one/sub", {"mount-ro"}), "added");
  const auto listed = ask({});
  ASSERT_TRUE(listed);
  ASSERT_EQ(listed.value().nodes_size(), 2);
  EXPECT_EQ(listed.value().nodes(0).directory(), "/one");
  EXPECT_EQ(listed.value().nodes(1).directory(), "/one/sub");
}

TEST_F(LimitsTest, TheDirectoryIsTheRootAndNothingIsAboveIt) {
  EXPECT_EQ(node().hello.root(), one_);
  const auto root = call(node(), lease_request(one_, pb::LEASE_READ));
  EXPECT_EQ(root.error(), 0);
  EXPECT_EQ(root.attr().inode().parent(), one_) << "not even the number of what is above";
  EXPECT_EQ(tried(lookup_request("..", one_)), EACCES);
  EXPECT_EQ(call(node(), lookup_request("..", sub_)).attr().inode().ino(), one_);
  EXPECT_EQ(tried(lookup_request("f", one_)), 0);
  EXPECT_EQ(tried(lookup_request("one")), ESTALE);
  const auto listing = call(node(), list_request(one_));
  EXPECT_EQ(listing.readdir().items_size(), 2);
  pb::Request space;
  space.mutable_statfs();
  EXPECT_EQ(tried(space), 0);
  EXPECT_EQ(local_.hello.root(), 0u);
}

TEST_F(LimitsTest, NoRequestReachesWhatIsOutside) {
  ASSERT_EQ(tried(lookup_request("f", one_)), 0);
  const Sequence before = store_->sequence();
  std::vector<pb::Request> all;
  for (const InodeId outside : {kRootInode, two_, secret_}) {
    all.push_back(lookup_request("secret", outside));
    all.push_back(lookup_request(".", outside));
    all.push_back(lookup_request("..", outside));
    for (const auto mode : {pb::LEASE_NONE, pb::LEASE_READ, pb::LEASE_WRITE}) {
      all.push_back(lease_request(outside, mode));
      all.push_back(lease_request(outside, mode, true));
    }
    all.push_back(create_request("new", outside));
    all.push_back(create_request("secret", outside));
    all.back().mutable_create()->set_exclusive(false);
    all.push_back(link_request(outside, one_, "stolen"));
    all.push_back(link_request(f_, outside, "lost"));
    all.push_back(unlink_in(outside, "secret"));
    all.push_back(rename_request(outside, "secret", one_, "stolen"));
    all.push_back(rename_request(one_, "f", outside, "secret"));
    all.push_back(rename_request(one_, "f", outside, "secret", RENAME_EXCHANGE));
    all.push_back(list_request(outside));
    all.push_back(xattr_request(outside));
    pb::Request request;
    request.mutable_map()->set_ino(outside);
    all.push_back(request);
    request.mutable_commit()->add_updates()->set_ino(outside);
    request.mutable_commit()->mutable_updates(0)->set_truncate_to(0);
    all.push_back(request);
    request.mutable_commit()->mutable_updates(0)->set_ino(f_);
    request.mutable_commit()->mutable_updates(0)->add_clones()->set_from_ino(outside);
    all.push_back(request);
  }
  for (const auto& request : all) EXPECT_EQ(tried(request), ESTALE) << request.DebugString();
  EXPECT_EQ(store_->sequence(), before);
}

// Requests that are added to the table later as well.
TEST_F(LimitsTest, EveryKindOfRequestIsRefusedOrNamesNothing) {
  using R = pb::Request;
  const std::set<R::OpCase> harmless = {R::kKeepalive, R::kGrant,   R::kGoodbye,
                                        R::kRenew,     R::kRelease, R::kRecallDone,
                                        R::kAbandon,   R::kDamage,  R::kSync};
  const std::function<void(google::protobuf::Message&, InodeId)> name =
      [&](google::protobuf::Message& message, InodeId ino) {
        const auto* r = message.GetReflection();
        const auto* d = message.GetDescriptor();
        for (int i = 0; i < d->field_count(); ++i) {
          const auto* field = d->field(i);
          if (field->cpp_type() == field->CPPTYPE_UINT64 && !field->is_repeated()) {
            if (field->name().ends_with("ino") || field->name().ends_with("parent"))
              r->SetUInt64(&message, field, ino);
          } else if (field->cpp_type() == field->CPPTYPE_MESSAGE) {
            if (field->name() == "policy") continue;
            name(field->is_repeated() ? *r->AddMessage(&message, field)
                                      : *r->MutableMessage(&message, field),
                 ino);
          }
        }
      };
  size_t refused = 0;
  for (const auto& operation : MetadataService::operations()) {
    if (harmless.contains(operation.request)) continue;
    for (const InodeId outside : {two_, secret_, kRootInode}) {
      pb::Request request;
      const auto* field = R::descriptor()->FindFieldByNumber(operation.request);
      if (field->cpp_type() == field->CPPTYPE_MESSAGE)
        name(*request.GetReflection()->MutableMessage(&request, field), outside);
      else
        request.set_admin("");
      const int error = tried(request);
      EXPECT_TRUE(error == ESTALE || error == EACCES || error == -static_cast<int>(Errc::invalid))
          << field->name() << ": " << error;
      ++refused;
    }
  }
  EXPECT_GT(refused, 60u);
}

TEST_F(LimitsTest, FilesAreReachedByNumberOnceTheyAreKnownToBeInside) {
  EXPECT_EQ(tried(lookup_request("f", one_)), 0);
  EXPECT_EQ(reached(f_), 0);
  EXPECT_EQ(reached(g_), 0) << "no lookup yet: the walk finds it";
  EXPECT_EQ(reached(secret_), ESTALE);
  EXPECT_EQ(reached(1'000'000), ENOENT) << "there is none";
  const InodeId made = call(node(), create_request("made", sub_)).attr().inode().ino();
  EXPECT_EQ(reached(made), 0);
  EXPECT_EQ(tried(rename_request(sub_, "made", one_, "renamed")), 0);
  EXPECT_EQ(reached(made), 0);
  ASSERT_EQ(settle(node(), lease_request(made, pb::LEASE_WRITE)).attr().lease(), pb::LEASE_WRITE);
  write_block(node(), made);
}

TEST_F(LimitsTest, WhatIsMovedOutIsRefusedFromThatMoment) {
  ASSERT_EQ(tried(lookup_request("f", one_)), 0);
  ASSERT_EQ(reached(g_), 0);
  ASSERT_EQ(done(rename_request(one_, "f", two_, "f")), 0);
  EXPECT_EQ(reached(f_), ESTALE);
  ASSERT_EQ(done(rename_request(one_, "sub", two_, "sub")), 0);
  EXPECT_EQ(reached(sub_), ESTALE);
  EXPECT_EQ(reached(g_), ESTALE);
  EXPECT_EQ(tried(lookup_request("g", sub_)), ESTALE);
  ASSERT_EQ(done(rename_request(two_, "sub", one_, "sub")), 0);
  EXPECT_EQ(tried(lookup_request("g", sub_)), 0);
  EXPECT_EQ(reached(g_), 0);
  ASSERT_EQ(done(rename_request(one_, "sub", two_, "secret", RENAME_EXCHANGE)), 0);
  EXPECT_EQ(reached(g_), ESTALE);
  EXPECT_EQ(tried(lookup_request("sub", one_)), 0) << "what came in by the exchange";
  EXPECT_EQ(reached(secret_), 0);
}

TEST_F(LimitsTest, OfFilesWithSeveralNamesOneInsideCounts) {
  ASSERT_EQ(done(link_request(f_, two_, "outside")), 0);
  ASSERT_EQ(tried(lookup_request("f", one_)), 0);
  EXPECT_EQ(reached(f_), 0);
  ASSERT_EQ(done(unlink_in(one_, "f")), 0);
  EXPECT_EQ(reached(f_), ESTALE);
  ASSERT_EQ(done(link_request(f_, sub_, "again")), 0);
  EXPECT_EQ(tried(lookup_request("again", sub_)), 0);
  EXPECT_EQ(reached(f_), 0);
  ASSERT_EQ(done(unlink_in(two_, "outside")), 0);
  EXPECT_EQ(reached(f_), 0);
  // A name taken away while it is open: as everywhere.
  ASSERT_EQ(settle(node(), lease_request(f_, pb::LEASE_READ, true)).error(), 0);
  ASSERT_EQ(done(unlink_in(sub_, "again")), 0);
  EXPECT_EQ(reached(f_), 0);
}

// How programs put a whole file in place: the open file stays theirs.
TEST_F(LimitsTest, AFileThatIsLinkedAndUnlinkedInsideStaysReachable) {
  const InodeId draft = call(node(), create_request("draft", one_)).attr().inode().ino();
  ASSERT_EQ(tried(link_request(draft, sub_, "final")), 0);
  ASSERT_EQ(tried(unlink_in(one_, "draft")), 0);
  EXPECT_EQ(reached(draft), 0);
}

TEST_F(LimitsTest, TheLimitFollowsItsDirectoryAndEndsWithIt) {
  ASSERT_EQ(tried(lookup_request("f", one_)), 0);
  ASSERT_EQ(done(rename_request(kRootInode, "one", two_, "moved")), 0);
  EXPECT_EQ(reached(f_), 0);
  EXPECT_EQ(tried(lookup_request("g", sub_)), 0);
  EXPECT_EQ(reached(two_), ESTALE);
  EXPECT_EQ(ask({}).value().nodes(0).directory(), "/two/moved");
  ASSERT_EQ(done(unlink_in(sub_, "g")), 0);
  ASSERT_EQ(done(unlink_in(one_, "f")), 0);
  ASSERT_EQ(done(unlink_in(one_, "sub", true)), 0);
  ASSERT_EQ(done(unlink_in(two_, "moved", true)), 0);
  EXPECT_EQ(ask({}).value().nodes(0).directory(), "(removed)");
  EXPECT_EQ(tried(create_request("x", one_)), ENOENT);
  EXPECT_EQ(tried(lookup_request("secret", two_)), ESTALE);
  Machine again = machine_;
  again.client = Client();
  EXPECT_THAT(hello(again, pb::CLIENT_MOUNT, std::string(32, 't')).error_text(),
              HasSubstr("was removed"));
}

TEST_F(LimitsTest, AfterARestartOnlyLeasesInsideAreTakenBack) {
  ASSERT_EQ(tried(lookup_request("f", one_)), 0);
  const SessionId session = node().session;
  restart();
  local_.connection.reset();
  connect(local_);
  EXPECT_TRUE(local_.hello.resumed());
  std::vector<pb::HeldLease> claims = {held(f_, pb::LEASE_READ, true), held(g_, pb::LEASE_WRITE),
                                       held(secret_, pb::LEASE_WRITE, true),
                                       held(two_, pb::LEASE_READ),
                                       held(kRootInode, pb::LEASE_READ)};
  const auto reply = hello(machine_, pb::CLIENT_MOUNT, std::string(32, 's'), claims);
  ASSERT_EQ(reply.error(), 0) << reply.error_text();
  EXPECT_TRUE(reply.hello().resumed());
  EXPECT_EQ(node().session, session);
  node().connection->recalls.clear();  // a hostile one answers none
  EXPECT_EQ(call(local_, lease_request(secret_, pb::LEASE_WRITE)).attr().lease(), pb::LEASE_WRITE)
      << "nobody holds it";
  EXPECT_EQ(reached(secret_), ESTALE);
  EXPECT_EQ(reached(f_), 0);
  EXPECT_EQ(reached(g_), 0);
}

// No record says that it was inside: the daemon knew from its memory.
TEST_F(LimitsTest, AFileThatWasRemovedWhileOpenIsLostByARestart) {
  ASSERT_EQ(tried(lookup_request("f", one_)), 0);
  ASSERT_EQ(settle(node(), lease_request(f_, pb::LEASE_READ, true)).error(), 0);
  ASSERT_EQ(done(unlink_in(one_, "f")), 0);
  EXPECT_EQ(reached(f_), 0) << "as long as it is open";
  restart();
  local_.connection.reset();
  connect(local_);
  std::vector<pb::HeldLease> claims = {held(f_, pb::LEASE_READ, true),
                                       held(g_, pb::LEASE_READ, true)};
  const auto reply = hello(machine_, pb::CLIENT_MOUNT, std::string(32, 's'), claims);
  ASSERT_EQ(reply.error(), 0) << reply.error_text();
  EXPECT_TRUE(reply.hello().resumed());
  EXPECT_EQ(reached(f_), ESTALE);
  EXPECT_EQ(reached(g_), 0) << "which has a name";
  run_for(seconds(2));
  Client t = tool();
  call(t, gc_request());
  EXPECT_FALSE(get_inode(store_->begin(), f_).has_value()) << "and takes no space";
}

// Whatever others do to names: what has no name inside is never reached, what has one is once it
// was looked up.
TEST_F(LimitsTest, ItHoldsWhateverOthersDo) {
  Seeded random;
  std::vector<InodeId> directories = {kRootInode, one_, sub_, two_}, files = {f_, g_, secret_};
  const auto pick = [&](const std::vector<InodeId>& all) {
    return all[random.number(0, all.size() - 1)];
  };
  const auto name = [&] { return std::string(1, static_cast<char>('a' + random.number(0, 5))); };
  size_t inside_seen = 0, refused = 0;
  for (int i = 0; i < 400; ++i) {
    const InodeId from = pick(directories), to = pick(directories);
    switch (random.number(0, 9)) {
      case 0: {
        const auto reply = settle(local_, create_request(name(), from));
        if (reply.error() == 0) files.push_back(reply.attr().inode().ino());
        break;
      }
      case 1: {
        if (directories.size() > 20) break;
        const auto reply = settle(local_, create_request(name(), from, S_IFDIR | 0755));
        if (reply.error() == 0) directories.push_back(reply.attr().inode().ino());
        break;
      }
      case 2:
        done(unlink_in(from, name()));
        break;
      case 3:
      case 4:
        done(link_request(pick(files), to, name()));
        break;
      case 5:
        done(rename_request(from, name(), to, name(), RENAME_EXCHANGE));
        break;
      default:
        done(rename_request(from, name(), to, name()));
    }
    // What is inside, from the records.
    std::map<InodeId, std::pair<InodeId, std::string>> inside;
    std::vector<InodeId> left = {one_};
    while (!left.empty()) {
      const InodeId directory = left.back();
      left.pop_back();
      pb::ReadDirRequest request;
      request.set_ino(directory);
      const auto listing = read_directory(store_->begin(), request);
      ASSERT_TRUE(listing) << listing.error().text();
      for (const auto& item : listing.value().items()) {
        if (S_ISDIR(item.entry().type())) left.push_back(item.entry().ino());
        inside[item.entry().ino()] = {directory, item.name()};
      }
    }
    const InodeId probe = random.number(0, 3) ? pick(files) : pick(directories);
    const auto at = inside.find(probe);
    const auto inode = get_inode(store_->begin(), probe);
    if (probe == one_ || !inode || inode.value().nlink() == 0) continue;
    if (at == inside.end()) {
      EXPECT_EQ(reached(probe), ESTALE) << "step " << i << ", inode " << probe;
      ++refused;
    } else {
      EXPECT_EQ(tried(lookup_request(at->second.second, at->second.first)), 0);
      EXPECT_EQ(reached(probe), 0) << "step " << i << ", inode " << probe;
      ++inside_seen;
    }
  }
  EXPECT_GT(inside_seen, 30u);
  EXPECT_GT(refused, 30u);
}

}  // namespace
}  // namespace datacloud
