// Groups come back the cheapest way: inside the column's site where one shard is lost, across sites
// where a whole site is, with the reads the schedule of the CORE paper needs.
#include <condition_variable>
#include <thread>

#include "common/proto/admin.pb.h"
#include "tests/daemon/repair/group_rig.h"
#include "tests/support/forwarding_store.h"

namespace datacloud {
namespace {

class GroupRepairTest : public GroupTest {
 protected:
  // Bytes that background repair has read from the site.
  uint64_t repair_reads(SiteId site) {
    return sites_->find(site)->traffic().row(Purpose::repair).bytes_read;
  }
  static uint64_t bytes_read(const pb::RepairReply& reply) {
    uint64_t bytes = 0;
    for (const auto& line : reply.lines()) bytes += line.bytes_read();
    return bytes;
  }
  pb::RepairDetailsReply details(Client& client, const std::string& plan = "") {
    pb::AdminRequest admin;
    admin.mutable_repair_details()->set_plan(plan);
    admin.mutable_repair_details()->set_lines_until(~uint64_t{0});
    pb::Request request;
    request.set_admin(admin.SerializeAsString());
    const auto reply = call(client, request);
    EXPECT_EQ(reply.error(), 0) << reply.error_text();
    pb::AdminReply parsed;
    EXPECT_TRUE(parsed.ParseFromString(reply.admin()));
    return parsed.repair_details();
  }
  static std::map<std::string, int> methods(const pb::RepairReply& reply) {
    std::map<std::string, int> methods;
    for (const auto& line : reply.lines()) ++methods[line.method()];
    return methods;
  }
};

class AtSiteTwo : public GroupRepairTest {
  void SetUp() override {
    config_.site = "site2";
    GroupRepairTest::SetUp();
  }
};

TEST_F(AtSiteTwo, OneLostShardComesBackInsideItsSite) {
  auto client = mount(10);
  const Group group = make_group(client, {});
  lose(group, {{0, 1}});  // column 1 is at site 2
  auto asker = tool();
  const auto reply = repair_all(asker);
  expect_whole(group);
  ASSERT_EQ(reply.lines_size(), 1);
  EXPECT_EQ(reply.lines(0).method(), "vertical");
  EXPECT_EQ(reply.lines(0).to_site(), 2u);
  EXPECT_EQ(reply.lines(0).bytes_between_sites(), 0u);
  EXPECT_EQ(reply.lines(0).bytes_read(), 3 * 8192u);
  EXPECT_EQ(reply.lines(0).bytes_written(), 8192u);
  for (const SiteId site : {1, 3, 4, 5}) EXPECT_EQ(repair_reads(site), 0u) << "site " << site;
}

TEST_F(AtSiteTwo, AShardOfTheRowComesBackInsideItsSiteToo) {
  auto client = mount(10);
  const Group group = make_group(client, {.rotation = 3});
  const int column = 3;  // (3 + 3) % 5 + 1 = 2
  ASSERT_EQ(group.stripes[3].shards(column).site(), 2u);
  lose(group, {{3, column}});
  auto asker = tool();
  const auto reply = repair_all(asker);
  expect_whole(group);
  ASSERT_EQ(reply.lines_size(), 1);
  EXPECT_EQ(reply.lines(0).method(), "vertical");
  EXPECT_EQ(reply.lines(0).bytes_between_sites(), 0u);
}

TEST_F(AtSiteTwo, UnevenMembersReadOnlyWhatTheLostShardIsLong) {
  auto client = mount(10);
  const Group group = make_group(client, {.bytes = 64 << 10, .uneven = true, .rotation = 1});
  lose(group, {{1, 0}});  // at site 2, half as long as the others'
  auto asker = tool();
  const auto reply = repair_all(asker);
  expect_whole(group);
  ASSERT_EQ(reply.lines_size(), 1);
  EXPECT_EQ(reply.lines(0).method(), "vertical");
  EXPECT_EQ(reply.lines(0).bytes_read(), 3 * (32u << 10));
}

TEST_F(GroupRepairTest, MoreThanTheRowAllowsComesBackFromTheColumns) {
  auto client = mount(10);
  const Group group = make_group(client, {});
  lose(group, {{1, 0}, {1, 1}, {1, 2}, {1, 4}});
  auto asker = tool();
  const auto reply = repair_all(asker);
  EXPECT_EQ(reply.queued(), 0u);
  EXPECT_EQ(reply.lines_size(), 4);
  expect_whole(group);
}

TEST_F(GroupRepairTest, PlusAndStepTakeTheFewestReads) {
  auto client = mount(10);
  const Shape shape{.code = "rs-12-2", .members = 5, .bytes = 4096};
  const Group plus = make_group(client, shape), step = make_group(client, shape);
  auto asker = tool();
  lose(plus, {{0, 1}, {1, 0}, {1, 1}, {1, 2}, {2, 1}});
  auto reply = repair_all(asker);
  expect_whole(plus);
  EXPECT_EQ(bytes_read(reply), 34 * 4096u);
  EXPECT_EQ(methods(reply), (std::map<std::string, int>{{"decode", 3}, {"vertical", 2}}));
  const uint64_t before = bytes_read(reply);
  lose(step, {{0, 0}, {0, 1}, {1, 1}, {1, 2}});
  reply = repair_all(asker);
  expect_whole(step);
  EXPECT_EQ(bytes_read(reply) - before, 22 * 4096u);
}

// Figures of the CORE paper: what the orders that are known beforehand cost, and the cheapest.
TEST_F(GroupRepairTest, RowsOrColumnsComeFirstForComparison) {
  auto client = mount(10);
  auto asker = tool();
  const std::vector<std::pair<const char*, std::vector<Cell>>> patterns = {
      {"one", {{1, 1}}},
      {"two in a row", {{1, 1}, {1, 2}}},
      {"Plus", {{0, 1}, {1, 0}, {1, 1}, {1, 2}, {2, 1}}},
      {"Step", {{0, 0}, {0, 1}, {1, 1}, {1, 2}}},
  };
  const struct {
    const char* plan;
    std::vector<uint64_t> large, small;  // shards read: (14,12,5), (9,6,3)
  } rows[] = {{"row-first", {12, 12, 41, 24}, {6, 6, 18, 12}},
              {"column-first", {5, 10, 39, 27}, {3, 6, 21, 15}},
              {"exact", {5, 10, 34, 22}, {3, 6, 15, 12}}};
  uint64_t before = 0;
  for (const auto& row : rows) {
    EXPECT_EQ(details(asker, row.plan).plan(), row.plan);
    for (const Shape& shape : {Shape{.code = "rs-12-2", .members = 5, .bytes = 4096},
                               Shape{.code = "rs-6-3", .members = 3, .bytes = 4096}}) {
      const auto& expected = shape.members == 5 ? row.large : row.small;
      for (size_t i = 0; i < patterns.size(); ++i) {
        const Group group = make_group(client, shape);
        lose(group, patterns[i].second);
        const uint64_t after = bytes_read(repair_all(asker));
        expect_whole(group);
        EXPECT_EQ(after - before, expected[i] * 4096)
            << row.plan << ", " << shape.code << ", " << patterns[i].first;
        before = after;
      }
    }
  }
  pb::AdminRequest wrong;
  wrong.mutable_repair_details()->set_plan("backwards");
  pb::Request request;
  request.set_admin(wrong.SerializeAsString());
  EXPECT_NE(call(asker, request).error(), 0);
  EXPECT_EQ(details(asker).plan(), "exact");
}

TEST_F(GroupRepairTest, BytesAreToldBySite) {
  auto client = mount(10);
  auto asker = tool();
  const Group group = make_group(client, {});
  lose(group, {{0, 0}, {0, 1}, {0, 2}, {1, 2}});
  const auto reply = repair_all(asker);
  const auto told = details(asker);
  ASSERT_EQ(told.lines_size(), reply.lines_size());
  for (int i = 0; i < told.lines_size(); ++i) {
    const auto& line = reply.lines(i);
    uint64_t read = 0, written = 0;
    for (const auto& site : told.lines(i).sites()) {
      read += site.bytes_read();
      written += site.bytes_written();
      EXPECT_TRUE(site.bytes_written() == 0 || site.site() == line.to_site());
    }
    EXPECT_EQ(told.lines(i).number(), static_cast<uint64_t>(i));
    EXPECT_EQ(read, line.bytes_read());
    EXPECT_EQ(written, line.bytes_written());
  }
  uint64_t at_one = 0;
  for (const auto& line : told.lines()) {
    for (const auto& site : line.sites()) at_one += site.site() == 1 ? site.bytes_read() : 0;
  }
  EXPECT_GT(at_one, 0u);
  EXPECT_LE(at_one, repair_reads(1));  // proofs of what was written come on top
}

TEST_F(GroupRepairTest, AWholeLostSiteIsDecodedAcrossTheOthers) {
  auto client = mount(10);
  std::vector<Group> groups;
  for (uint64_t i = 0; i < 5; ++i) {
    groups.push_back(make_group(client, {.uneven = i % 2 == 1, .rotation = i}));
  }
  memory_[3].set_away(true);
  sites_->find(4)->set_away("burnt down");
  auto asker = tool();
  pb::Request lost;
  lost.mutable_site()->set_name("site4");
  lost.mutable_site()->set_action(pb::SITE_DECLARE_LOST);
  EXPECT_EQ(call(asker, lost).error(), 0);
  const auto reply = repair_all(asker);
  EXPECT_EQ(reply.queued(), 0u);
  for (const auto& group : groups) expect_whole(group, {4});
  EXPECT_GT(methods(reply)["decode"], 0);
}

TEST_F(GroupRepairTest, ARottenMemberIsGoneRoundAndMended) {
  auto client = mount(10);
  const Group group = make_group(client, {.members = 2});
  lose(group, {{0, 1}});
  corrupt(group, {1, 1});  // the vertical way leads over it
  auto asker = tool();
  const auto reply = repair_all(asker);
  EXPECT_EQ(reply.queued(), 0u);
  expect_whole(group);
}

TEST_F(GroupRepairTest, ADeadMemberIsKeptWholeForTheOthers) {
  auto client = mount(10);
  const Group group = make_group(client, {.members = 2, .bytes = 16384, .uneven = true});
  // The second member, half as long as the first, loses its blocks.
  pb::InodeUpdate update;
  update.set_ino(file_);
  update.set_truncate_to(static_cast<uint64_t>(group.stripes[0].slot_column_size()) * 4096);
  Transaction txn = store_->begin();
  ASSERT_TRUE(update_inode(txn, update));
  ASSERT_TRUE(store_->commit(std::move(txn)));
  ASSERT_EQ(record(group.stripes[1].id()).row(), group.stripes[2].id());
  lose(group, {{0, 0}, {0, 3}, {0, 4}, {1, 4}});
  auto asker = tool();
  const auto reply = repair_all(asker);
  EXPECT_EQ(reply.queued(), 0u);
  expect_whole(group);
}

TEST_F(GroupRepairTest, EveryPatternEndsWholeOrPutOffAsThePeelSays) {
  auto client = mount(10);
  const auto code = make_erasure_code("rs-3-2").value();
  auto asker = tool();
  for (int round = 0; round < 12; ++round) {
    const Group group = make_group(client, {.members = 3,
                                            .bytes = 4096,
                                            .uneven = round % 3 == 2,
                                            .rotation = static_cast<uint64_t>(round)});
    RepairProblem problem{.code = *code, .rows = {}, .has_xor_row = true};
    std::vector<Cell> cells;
    for (int r = 0; r < 4; ++r) {
      RepairRow row{.parity_bytes = group.stripes[static_cast<size_t>(r)].parity_bytes()};
      for (int c = 0; c < 5; ++c) {
        const auto& shard = group.stripes[static_cast<size_t>(r)].shards(c);
        row.shard_bytes.push_back(shard.bytes());
        row.sites.push_back(shard.site());
        if (shard.bytes() == 0 || random_() % 100 >= 30) continue;
        row.lost |= ColumnSet{1} << c;
        cells.push_back({r, c});
      }
      problem.rows.push_back(std::move(row));
    }
    const auto left = peel(problem);
    const bool comes_back =
        std::all_of(left.begin(), left.end(), [](ColumnSet lost) { return lost == 0; });
    lose(group, cells);
    const auto reply = repair_all(asker);
    if (comes_back) {
      expect_whole(group);
      EXPECT_EQ(reply.queued(), 0u);
      continue;
    }
    EXPECT_GT(reply.put_off(), 0u);
    break;  // this one stays in the queue
  }
}

TEST_F(GroupRepairTest, LocalSetsOfMsBasicReadHalfTheRow) {
  auto client = mount(10);
  const Group group =
      make_group(client, {.code = "basic-4-8", .members = 1, .bytes = 8192, .has_row = false});
  lose(group, {{0, 2}});
  auto asker = tool();
  const auto reply = repair_all(asker);
  expect_whole(group);
  ASSERT_EQ(reply.lines_size(), 1);
  EXPECT_EQ(reply.lines(0).method(), "local");
  EXPECT_EQ(reply.lines(0).bytes_read(), 2 * 8192u);
}

// --- MSR: helpers that combine at their sites

// A site whose store combines next to the data, as the OSD class does.
class CombiningStore final : public ForwardingStore {
 public:
  CombiningStore(std::unique_ptr<ObjectStore> below, std::atomic<bool>& lies)
      : ForwardingStore(std::move(below)), lies_(lies) {}
  void combine(const std::string& name, Combination combination, OpOptions options,
               Callback<CombineReply> done) override {
    below_->combine(name, std::move(combination), options,
                    [this, done = std::move(done)](result<CombineReply> reply) {
                      if (reply) {
                        auto& r = reply.value();
                        r.at_site = true;
                        r.bytes_transferred = 0;
                        for (const auto& output : r.outputs) r.bytes_transferred += output.size();
                        if (lies_) r.outputs[0][99] ^= 1;
                      }
                      done(std::move(reply));
                    });
  }
  void capacity(OpOptions options, Callback<Capacity> done) override {
    below_->capacity(options, [done = std::move(done)](result<Capacity> reply) {
      if (reply) reply.value().class_there = true;
      done(std::move(reply));
    });
  }

 private:
  std::atomic<bool>& lies_;
};

class CombiningSitesTest : public GroupRepairTest {
 protected:
  std::unique_ptr<ObjectStore> open_site(SiteId site) override {
    return std::make_unique<CombiningStore>(GroupRepairTest::open_site(site), lies_[site]);
  }
  std::array<std::atomic<bool>, kSites + 1> lies_{};
};

TEST_F(CombiningSitesTest, MsrRepairsMoveTwoShardsWorth) {
  auto client = mount(10);
  auto asker = tool();
  pb::Request status;
  status.mutable_status();
  EXPECT_EQ(call(asker, status).error(), 0);  // tells the daemon what the sites can do
  uint64_t before = 0;
  for (const char* code : {"msr-5-3", "msr-8-4"}) {
    const uint32_t bytes = 3 * 2 * 8192;  // packets are whole audit blocks
    const Group group =
        make_group(client, {.code = code, .members = 1, .bytes = bytes, .has_row = false});
    lose(group, {{0, 1}});
    const auto reply = repair_all(asker);
    expect_whole(group);
    const auto& line = reply.lines(reply.lines_size() - 1);
    EXPECT_EQ(line.method(), "helpers") << code;
    EXPECT_EQ(bytes_read(reply) - before, 2 * bytes) << code;
    before = bytes_read(reply);
  }
}

TEST_F(CombiningSitesTest, ALyingHelperIsFoundOut) {
  auto client = mount(10);
  auto asker = tool();
  pb::Request status;
  status.mutable_status();
  EXPECT_EQ(call(asker, status).error(), 0);
  const Group group =
      make_group(client, {.code = "msr-5-3", .members = 1, .bytes = 2 * 8192, .has_row = false});
  lies_[3] = true;
  lose(group, {{0, 0}});
  const auto reply = repair_all(asker);
  EXPECT_EQ(reply.queued(), 0u);
  EXPECT_EQ(reply.lines_size(), 2) << "the liar's shard is made anew, too";
  expect_whole(group);
}

TEST_F(GroupRepairTest, MsrWithoutCombiningSitesIsDecodedFromKShards) {
  auto client = mount(10);
  const Group group =
      make_group(client, {.code = "msr-5-3", .members = 1, .bytes = 2 * 8192, .has_row = false});
  lose(group, {{0, 3}});
  auto asker = tool();
  const auto reply = repair_all(asker);
  expect_whole(group);
  EXPECT_EQ(bytes_read(reply), 3 * 2 * 8192u);
}

// --- Crashes

// Stops the first background thread that comes to the given operation until it is let go.
class Tripwire {
 public:
  void arm(int at) {
    std::lock_guard lock(mutex_);
    left_ = at;
    tripped_ = released_ = false;
    test_ = std::this_thread::get_id();
  }
  Fault rule(StoreOp, const std::string&) {
    std::unique_lock lock(mutex_);
    if (left_ <= 0 || std::this_thread::get_id() == test_ || --left_ > 0) return {};
    tripped_ = true;
    changed_.wait(lock, [&] { return released_; });
    return {};
  }
  bool tripped() {
    std::lock_guard lock(mutex_);
    return tripped_;
  }
  void release() {
    std::lock_guard lock(mutex_);
    left_ = 0;
    released_ = true;
    changed_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  int left_ = 0;
  bool tripped_ = false, released_ = false;
  std::thread::id test_;
};

class CrashingRepairTest : public GroupRepairTest {
 protected:
  void SetUp() override {
    config_.background_threads = 1;
    GroupRepairTest::SetUp();
  }
  std::unique_ptr<ObjectStore> open_site(SiteId site) override {
    return make_fault_store(
        GroupRepairTest::open_site(site),
        [this](StoreOp op, const std::string& name) { return wire_.rule(op, name); });
  }
  Tripwire wire_;
};

// Nothing is committed from the given object operation of the repair on; the daemon starts anew.
TEST_F(CrashingRepairTest, AStopAtAnyStepLosesNothing) {
  auto client = mount(10);
  const Group group = make_group(client, {.members = 2, .bytes = 4096});
  const size_t objects_whole = objects();
  int crashes = 0;
  for (int step = 1;; ++step) {
    SCOPED_TRACE("crash at operation " + std::to_string(step));
    lose(group, {{0, 0}, {0, 1}, {1, 1}, {2, static_cast<int>(random_() % 3) + 2}});
    wire_.arm(step);
    auto asker = tool();
    pb::Request request;
    request.mutable_repair()->set_start(true);
    send(asker, request);
    bool over = false;
    ASSERT_TRUE(until([&] {
      over = wire_.tripped() || ask(asker, false).idle();
      return over;
    }));
    const bool crashed = wire_.tripped();
    loop_->close();
    wire_.release();
    stop();
    start();
    expect_sound();
    crashes += crashed;
    asker = tool();
    const auto reply = repair_all(asker);
    EXPECT_EQ(reply.queued(), 0u);
    expect_whole(group);
    EXPECT_EQ(call(asker, gc_request()).error(), 0);
    EXPECT_EQ(objects(), objects_whole);
    if (!crashed || testing::Test::HasFailure()) break;
  }
  EXPECT_GT(crashes, 10);
}

}  // namespace
}  // namespace datacloud
