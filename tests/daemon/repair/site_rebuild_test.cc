// A site with many small stripes is lost and rebuilt while somebody reads: the most endangered
// stripes first, everything readable all the time. DATACLOUD_STRIPES: how many (20,000 by hand).
#include <cstdio>

#include "common/proto/admin.pb.h"
#include "tests/daemon/repair/group_rig.h"

namespace datacloud {
namespace {

class SiteRebuildTest : public GroupTest {
 protected:
  void SetUp() override {
    config_.fold = "manual";  // small stripes stay what they are
    GroupTest::SetUp();
  }
  static int stripes_wanted() {
    const char* given = std::getenv("DATACLOUD_STRIPES");
    return given != nullptr ? std::max(200, std::atoi(given)) : 2000;
  }
  pb::Reply change_site(Client& client, const std::string& name, pb::SiteAction action) {
    pb::Request request;
    request.mutable_site()->set_name(name);
    request.mutable_site()->set_action(action);
    return call(client, request);
  }
  void pause(Client& client, bool paused) {
    pb::AdminRequest admin;
    admin.mutable_background()->set_pause(paused);
    pb::Request request;
    request.set_admin(admin.SerializeAsString());
    EXPECT_EQ(call(client, request).error(), 0);
  }
  // The loop as a daemon runs it: what is posted runs at once. run_for() sleeps in between.
  void run_loop(Duration d) {
    loop_->advance(d);
    const auto end = monotonic_now() + d;
    while (monotonic_now() < end) {
      if (!loop_->run_one()) std::this_thread::sleep_for(std::chrono::microseconds(20));
    }
  }
  // What a reader does: any stripe decodes to what was written.
  void read_one(const Group& group, size_t r) {
    const auto code = make_erasure_code("rs-3-2").value();
    for (int attempt = 0; attempt < 5; ++attempt) {
      const auto stripe = record(group.stripes[r].id());
      std::vector<Bytes> found(5);
      std::vector<ByteView> views(5);
      ColumnSet present = 0;
      for (int c = 0; c < 5 && __builtin_popcount(present) < 3; ++c) {
        const auto& shard = stripe.shards(c);
        if (shard.state() != pb::SHARD_PRESENT || !sites_->find(shard.site())->up()) continue;
        auto reply = read_object(shard.site(), name_of(stripe, c));
        if (!reply) continue;  // replaced since, or lost
        found[static_cast<size_t>(c)] = std::move(reply.value().ranges[0]);
        views[static_cast<size_t>(c)] = found[static_cast<size_t>(c)];
        present |= ColumnSet{1} << c;
      }
      if (__builtin_popcount(present) < 3) continue;
      for (int c = 0; c < 5; ++c) {
        if (contains(present, c)) {
          EXPECT_TRUE(found[static_cast<size_t>(c)] == group.cells[r][static_cast<size_t>(c)]);
          continue;
        }
        Bytes out(found[static_cast<size_t>(__builtin_ctz(present))].size());
        ASSERT_TRUE(code->decode(ColumnSet{1} << c, present, views, {MutableByteView(out)}));
        EXPECT_TRUE(out == group.cells[r][static_cast<size_t>(c)]) << "column " << c;
      }
      return;
    }
    ADD_FAILURE() << "stripe " << group.stripes[r].id() << " cannot be read";
  }
};

TEST_F(SiteRebuildTest, ManyStripesOfALostSiteWhileSomebodyReads) {
  auto client = mount(10);
  std::vector<Group> groups;
  const int wanted = stripes_wanted();
  for (int made = 0; made < wanted; made += 100) {
    groups.push_back(make_group(client, {.members = 100,
                                         .bytes = 600,
                                         .has_row = false,
                                         .rotation = static_cast<uint64_t>(made / 100)}));
  }
  // Two stripes in the middle have lost a shard besides.
  auto asker = tool();
  pause(asker, true);
  const size_t middle = groups.size() / 2;
  std::set<StripeId> endangered;
  for (const int r : {40, 60}) {
    const auto& stripe = groups[middle].stripes[static_cast<size_t>(r)];
    endangered.insert(stripe.id());
    int column = 0;
    while (stripe.shards(column).site() == 2) ++column;
    lose(groups[middle], {{r, column}});
  }
  memory_[1].set_away(true);
  sites_->find(2)->set_away("burnt down");
  EXPECT_EQ(change_site(asker, "site2", pb::SITE_DECLARE_LOST).error(), 0);
  run_for(seconds(1));  // the sweep queues what the site held
  const auto began = monotonic_now();
  pause(asker, false);
  auto reply = ask(asker, true);
  size_t reads = 0;
  while (!reply.idle() && monotonic_now() < began + seconds(200)) {
    run_loop(milliseconds(10));
    const auto& group = groups[random_() % groups.size()];
    read_one(group, random_() % group.stripes.size());
    ++reads;
    if (reads % 20 == 0) reply = ask(asker, false);
  }
  const auto took = std::chrono::duration<double>(monotonic_now() - began).count();
  reply = repair_all(asker);
  EXPECT_EQ(reply.queued(), 0u);
  std::printf("%d stripes, %d shards rebuilt in %.1f s, %zu reads meanwhile\n", wanted,
              reply.lines_size(), took, reads);
  EXPECT_GE(reply.lines_size(), std::min(10'000, wanted));
  std::set<StripeId> first;
  for (int i = 0; i < 16; ++i) first.insert(reply.lines(i).stripe());
  if (wanted < 10'000) {
    for (const StripeId id : endangered) EXPECT_TRUE(first.contains(id)) << "stripe " << id;
  }
  for (size_t i = 0; i < groups.size(); i += 5) expect_whole(groups[i], {2});
}

}  // namespace
}  // namespace datacloud
