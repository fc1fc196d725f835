// Changes of names and attributes under -o sync and -o dirsync.
#include "fs/file/metadata_client.h"

#include <gtest/gtest.h>

#include <vector>

namespace datacloud {
namespace {

// Answers everything with success and notes what it was asked.
class NotingDaemon final : public RpcSession {
 public:
  void call(pb::Request request, std::function<void(result<pb::Reply>)> done) override {
    asked.push_back(request.op_case());
    if (request.op_case() == pb::Request::kSync && refuse_sync)
      return done(failure(Errc::unavailable, "no disk"));
    done(pb::Reply());
  }
  void call_until_known(pb::Request request, Callback callback, Callback) override {
    call(std::move(request), std::move(callback));
  }
  Duration silence() const override { return Duration{}; }
  uint64_t session() const override { return 1; }
  bool connected() const override { return true; }
  MonotonicTime lease_end() const override { return monotonic_now() + seconds(60); }

  std::vector<pb::Request::OpCase> asked;
  bool refuse_sync = false;
};

pb::Request request_of(pb::Request::OpCase op) {
  pb::Request request;
  const auto* field = pb::Request::descriptor()->FindFieldByNumber(op);
  request.GetReflection()->MutableMessage(&request, field);
  return request;
}

const std::vector<pb::Request::OpCase> kChanges = {
    pb::Request::kCreate,  pb::Request::kLink,     pb::Request::kUnlink,     pb::Request::kRename,
    pb::Request::kSetattr, pb::Request::kSetxattr, pb::Request::kRemovexattr};

TEST(MetadataClient, ChangesAreDurableWhenSynchronous) {
  NotingDaemon daemon;
  InodeTable table;
  MetadataClient client(daemon, table);
  for (const auto change : kChanges) {
    daemon.asked.clear();
    ASSERT_TRUE(client.run(request_of(change)));
    EXPECT_EQ(daemon.asked, std::vector{change});
    client.set_synchronous(true);
    daemon.asked.clear();
    ASSERT_TRUE(client.run(request_of(change)));
    EXPECT_EQ(daemon.asked, (std::vector{change, pb::Request::kSync}));
    daemon.refuse_sync = true;
    EXPECT_FALSE(client.run(request_of(change)));
    daemon.refuse_sync = false;
    client.set_synchronous(false);
  }
}

TEST(MetadataClient, QuestionsAreNot) {
  NotingDaemon daemon;
  InodeTable table;
  MetadataClient client(daemon, table);
  client.set_synchronous(true);
  for (const auto question :
       {pb::Request::kLookup, pb::Request::kReaddir, pb::Request::kGetxattr}) {
    daemon.asked.clear();
    ASSERT_TRUE(client.run(request_of(question)));
    EXPECT_EQ(daemon.asked, std::vector{question});
  }
}

}  // namespace
}  // namespace datacloud
