// Who watches is told what mounts change, in order, within bounds, and nothing else.
#include "tests/daemon/service/service_rig.h"

#include "daemon/service/change_watchers.h"

namespace datacloud {
namespace {

class ServiceWatchTest : public ServiceTest {
 protected:
  static pb::Request poll_request(uint64_t watcher, uint32_t wait_ms) {
    pb::AdminRequest admin;
    admin.mutable_watch()->set_watcher(watcher);
    admin.mutable_watch()->set_wait_ms(wait_ms);
    pb::Request request;
    request.set_admin(admin.SerializeAsString());
    return request;
  }
  static pb::WatchReply told(const pb::Reply& reply) {
    pb::AdminReply admin;
    EXPECT_TRUE(admin.ParseFromString(reply.admin()));
    return admin.watch();
  }
  pb::WatchReply poll(Client& client, uint64_t watcher, uint32_t wait_ms = 0) {
    const auto reply = call(client, poll_request(watcher, wait_ms));
    EXPECT_EQ(reply.error(), 0) << reply.error_text();
    return told(reply);
  }
  static std::vector<std::string> texts(const pb::WatchReply& reply) {
    std::vector<std::string> out;
    for (const auto& event : reply.events())
      out.push_back(pb::WatchEvent::Kind_Name(event.kind()) + " " + event.name());
    return out;
  }
};

TEST_F(ServiceWatchTest, TellsWhatMountsChange) {
  Client a = mount(1), t = tool();
  const InodeId before = create(a, "before");
  const uint64_t watcher = poll(t, 0).watcher();
  ASSERT_NE(watcher, 0u);
  EXPECT_EQ(poll(t, watcher).events_size(), 0) << "nothing since";
  const InodeId ino = create(a, "f");
  auto request = commit_request(put_stripe(grant(a, IdKind::stripe), grant(a, IdKind::instance)),
                                ino, grant(a, IdKind::version));
  request.mutable_commit()->mutable_updates(0)->set_mtime_ns(5);
  call(a, request);
  pb::Request moves_only;  // out of the records: no change of contents
  moves_only.mutable_commit()->add_updates()->set_ino(ino);
  call(a, moves_only);
  pb::Request mode;
  mode.mutable_setattr()->set_ino(before);
  mode.mutable_setattr()->set_mode(0600);
  call(a, mode);
  pb::Request rename;
  rename.mutable_rename()->set_parent(kRootInode);
  rename.mutable_rename()->set_name("f");
  rename.mutable_rename()->set_new_parent(kRootInode);
  rename.mutable_rename()->set_new_name("g");
  call(a, rename);
  call(a, unlink_request("g"));
  const auto all = poll(t, watcher);
  EXPECT_THAT(texts(all), testing::ElementsAre("CREATE f", "MODIFY ", "ATTRIB ", "MOVED_FROM f",
                                               "MOVED_TO g", "DELETE g"));
  EXPECT_EQ(all.events(1).ino(), ino);
  EXPECT_EQ(all.events(2).ino(), before);
  EXPECT_EQ(all.events(3).cookie(), all.events(4).cookie());
  EXPECT_EQ(poll(t, watcher).events_size(), 0) << "told once";
}

TEST_F(ServiceWatchTest, WaitsForAChange) {
  Client a = mount(1), t = tool();
  const uint64_t watcher = poll(t, 0).watcher();
  const uint64_t waiting = send(t, poll_request(watcher, 10'000));
  EXPECT_FALSE(answered_now(t, waiting));
  create(a, "f");
  EXPECT_THAT(texts(told(await(t, waiting))), testing::ElementsAre("CREATE f"));
  const uint64_t in_vain = send(t, poll_request(watcher, 1000));
  EXPECT_FALSE(answered_now(t, in_vain));
  run_for(milliseconds(1500));
  EXPECT_EQ(told(await(t, in_vain)).events_size(), 0) << "its time is over";
  // A second one ends the first.
  const uint64_t first = send(t, poll_request(watcher, 10'000));
  const uint64_t second = send(t, poll_request(watcher, 10'000));
  EXPECT_TRUE(answered_now(t, first));
  EXPECT_FALSE(answered_now(t, second));
}

TEST(ChangeWatchers, AreBounded) {
  FakeLoop loop;
  ChangeWatchers watchers(loop);
  const auto poll = [&](uint64_t number) -> result<pb::WatchReply> {
    pb::WatchRequest request;
    request.set_watcher(number);
    pb::WatchReply out;
    TRY(watchers.poll(request, [&](const pb::WatchReply& reply) { out = reply; }));
    return out;
  };
  pb::Request change;
  change.mutable_setattr()->set_ino(77);
  EXPECT_FALSE(watchers.any());
  watchers.note(change, {});  // nobody hears it
  const uint64_t number = poll(0).value().watcher();
  for (size_t i = 0; i < ChangeWatchers::kEventsMax; ++i) watchers.note(change, {});
  auto reply = poll(number).value();
  EXPECT_FALSE(reply.overflow());
  EXPECT_EQ(reply.events_size(), static_cast<int>(ChangeWatchers::kReplyEventsMax));
  for (size_t i = 0; i < ChangeWatchers::kReplyEventsMax; ++i) watchers.note(change, {});
  watchers.note(change, {});  // one too many
  reply = poll(number).value();
  EXPECT_TRUE(reply.overflow());
  EXPECT_EQ(reply.events_size(), 1) << "what came after that";
  EXPECT_FALSE(poll(number).value().overflow());
  for (size_t i = 1; i < ChangeWatchers::kWatchersMax; ++i) EXPECT_TRUE(poll(0));
  const auto too_many = poll(0);
  ASSERT_FALSE(too_many);
  EXPECT_TRUE(too_many.error().is(Errc::unavailable));
  loop.advance(ChangeWatchers::kIdleMax + seconds(1));
  EXPECT_TRUE(poll(0)) << "who does not ask is forgotten";
  const auto gone = poll(number);
  ASSERT_FALSE(gone);
  EXPECT_TRUE(gone.error().is(Errc::not_found));
}

}  // namespace
}  // namespace datacloud
