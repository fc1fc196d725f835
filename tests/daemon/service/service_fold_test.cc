// Updates of a coded file as the daemon meets them: commits are held back, never refused, while
// more of them wait for folding than the configuration allows, and are quick again once they are
// folded.
#include <numeric>
#include <random>

#include "common/audit/shard_tags.h"
#include "common/stripe/stripe_layout.h"
#include "daemon/metadata/record_keys.h"
#include "tests/daemon/service/service_rig.h"

namespace datacloud {
namespace {

constexpr uint32_t kBlock = 4096;

class ServiceFoldTest : public ServiceTest {
 protected:
  void SetUp() override {
    config_.fold_backlog_bytes_max = 3 * kBlock;
    config_.gc_interval_ms = 100;
    ServiceTest::SetUp();
    tags_ = ShardTags(ShardTags::derive_keys(service_key_, cloud_));
    mount_ = mount(11);
    tool_ = tool();
    file_ = create(mount_, "file", true);
    EXPECT_EQ(call(mount_, lease_request(file_, pb::LEASE_WRITE, true)).error(), 0);
    std::vector<uint64_t> base(150);
    std::iota(base.begin(), base.end(), 0);
    ASSERT_EQ(call(mount_, write(base)).error(), 0);
  }

  // These blocks of the file in a stripe, coded, tagged and put at the sites; the commit for it.
  pb::Request write(const std::vector<uint64_t>& blocks) {
    const auto code = make_erasure_code("rs-3-2").value();
    const auto layout =
        lay_out_stripe(std::vector<uint32_t>(blocks.size(), kBlock), 3, 1, 0).value();
    std::vector<Bytes> columns(5, Bytes(layout.parity_length));
    for (const Slot& slot : layout.slots) {
      for (uint32_t i = 0; i < slot.length; ++i) {
        columns[slot.column][slot.offset + i] = static_cast<uint8_t>(random_());
      }
    }
    std::vector<MutableByteView> parity{columns[3], columns[4]};
    code->encode({columns[0], columns[1], columns[2]}, parity);
    pb::Stripe stripe;
    stripe.set_id(grant(mount_, IdKind::stripe, 1));
    stripe.set_code("rs-3-2");
    stripe.set_parity_bytes(layout.parity_length);
    for (const Slot& slot : layout.slots) {
      stripe.add_slot_column(slot.column);
      stripe.add_slot_offset(slot.offset);
      stripe.add_slot_length(slot.length);
    }
    const InstanceId first = grant(mount_, IdKind::instance, 5);
    for (uint32_t c = 0; c < 5; ++c) {
      if (c < 3) columns[c].resize(layout.data_lengths[c]);
      auto* shard = stripe.add_shards();
      shard->set_site(c + 1);
      shard->set_home_site(c + 1);
      if (columns[c].empty()) {
        shard->set_state(pb::SHARD_EMPTY);
        continue;
      }
      shard->set_bytes(static_cast<uint32_t>(columns[c].size()));
      shard->set_instance(first + c);
      put_shard(c + 1, {stripe.id(), static_cast<uint8_t>(c), first + c}, columns[c]);
    }
    pb::Request request;
    auto* commit = request.mutable_commit();
    *commit->add_stripes() = stripe;
    auto* update = commit->add_updates();
    update->set_ino(file_);
    uint64_t version = grant(mount_, IdKind::version, static_cast<uint32_t>(blocks.size()));
    for (uint32_t i = 0; i < blocks.size(); ++i) {
      auto* run = update->add_runs();
      run->set_first_block(blocks[i]);
      run->set_count(1);
      run->set_stripe(stripe.id());
      run->set_first_slot(i);
      run->set_version(version++);
      update->set_grow_to(std::max(update->grow_to(), (blocks[i] + 1) * kBlock));
    }
    return request;
  }
  void put_shard(SiteId site, const ShardName& name, const Bytes& bytes) {
    const auto stored = wait_for<void>([&](Callback<void> done) {
      sites_->find(site)->store().put(object_name(name), Payload::from(bytes),
                                      tags_.make(site, name, {ByteView(bytes)}), {}, done);
    });
    ASSERT_TRUE(stored) << stored.error().message();
  }
  // How long the commit of one more block that is overwritten was held back.
  Duration overwrite(bool durable = false) {
    auto request = write({block_++});
    request.mutable_commit()->set_durable(durable);
    const auto began = loop_->now();
    const auto reply = call(mount_, std::move(request));
    EXPECT_EQ(reply.error(), 0) << reply.error_text();
    return loop_->now() - began;
  }
  // The longest, of one every second: the folder's passes are ten seconds apart.
  Duration overwrite_for(int seconds_max, Duration enough) {
    Duration longest{};
    for (int i = 0; i < seconds_max && longest < enough; ++i) {
      let_pass(seconds(1));
      longest = std::max(longest, overwrite());
    }
    return longest;
  }
  pb::FoldReply folds() {
    pb::Request request;
    request.mutable_fold()->set_start(false);
    return call(tool_, request).fold();
  }
  std::string problems() {
    pb::Request request;
    request.mutable_status();
    const auto reply = call(tool_, request);
    std::string all;
    for (const auto& problem : reply.status().problems()) all += problem + "\n";
    return all;
  }
  // The background works for this long.
  void let_pass(Duration time) {
    for (; time > Duration::zero(); time -= seconds(1)) {
      run_for(seconds(1));
      EXPECT_TRUE(until([&] { return folds().idle(); }));
    }
  }

  ShardTags tags_;
  Client mount_, tool_;
  InodeId file_ = 0;
  uint64_t block_ = 0;  // the next to be overwritten, of 150
  std::mt19937 random_{7};
};

// Of the test's clock, which moves a little while another thread is waited for.
constexpr auto kQuick = milliseconds(10), kHeldBack = milliseconds(15);
constexpr auto kPasses = seconds(24);  // two passes of the folder

TEST_F(ServiceFoldTest, CommitsAreDelayedByWhatWaitsAndNeverRefused) {
  for (int i = 0; i < 5; ++i) EXPECT_LT(overwrite(), kQuick);
  const auto little = overwrite_for(24, kHeldBack);
  EXPECT_GT(little, kHeldBack);
  let_pass(kPasses);  // age does not count then
  EXPECT_GE(folds().blocks_folded(), 5u);
  EXPECT_LT(overwrite(), kQuick);

  for (int i = 0; i < 30; ++i) overwrite();
  const auto much = overwrite_for(24, 2 * little);
  EXPECT_GT(much, little) << "it does not grow with what waits";
  EXPECT_LT(much, milliseconds(600));
  EXPECT_GT(overwrite(true), little) << "durable commits are not";
  EXPECT_THAT(problems(), testing::HasSubstr("every commit is held back for"));
  let_pass(kPasses);
  EXPECT_EQ(problems(), "");
  EXPECT_LT(overwrite(), kQuick);
  EXPECT_GE(folds().blocks_folded(), 36u);
  EXPECT_EQ(folds().failures(), 0u) << folds().last_failure();
}

// A mount that loses its connection while its commit is held back sends it again: it has happened.
TEST_F(ServiceFoldTest, ADelayedCommitOutlivesItsConnection) {
  ASSERT_GT(overwrite_for(60, kHeldBack), kHeldBack);
  auto request = write({block_});
  const uint64_t version = request.commit().updates(0).runs(0).version();
  request.set_id(++mount_.last_id);
  service_->on_request(mount_.connection, request);
  EXPECT_FALSE(answered_now(mount_, request.id())) << "it was not held back";
  for (const bool daemon_restarted : {false, true}) {
    if (daemon_restarted) {
      restart();
    } else {
      disconnect(mount_);
    }
    connect(mount_, pb::CLIENT_MOUNT, {held(file_, pb::LEASE_WRITE, true)});
    service_->on_request(mount_.connection, request);
    const auto reply = await(mount_, request.id());
    EXPECT_EQ(reply.error(), 0) << reply.error_text();
    const auto runs = runs_of(store_->begin(), file_, block_, 1);
    ASSERT_TRUE(runs);
    EXPECT_EQ(runs.value().at(0).version(), version);
  }
}

TEST_F(ServiceFoldTest, NothingIsDelayedWhereFoldingIsByHand) {
  config_.fold = "manual";
  restart();
  connect(mount_, pb::CLIENT_MOUNT, {held(file_, pb::LEASE_WRITE, true)});
  tool_ = tool();
  EXPECT_LT(overwrite_for(40, kQuick), kQuick);
  EXPECT_EQ(folds().blocks_folded(), 0u);
}

}  // namespace
}  // namespace datacloud
