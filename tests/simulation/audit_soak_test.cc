// Audits flat out beside writes, repairs, folds, merges, failing puts and crashes of the daemon: no
// finding, because nothing is ever damaged; and no input of the tags' PRF covers two contents,
// whatever was interrupted. Seconds long; DATACLOUD_SOAK_SECONDS=3600 for the hour.
#include <gtest/gtest.h>

#include <cstdlib>

#include "common/audit/shard_tags.h"
#include "common/base/log.h"
#include "tests/daemon/service/service_rig.h"
#include "tests/support/audit_ledger.h"
#include "tests/support/seeded.h"
#include "tests/support/slowdown.h"

namespace datacloud {
namespace {

constexpr uint32_t kBase = 12;    // blocks of a large stripe
constexpr uint64_t kBlocks = 60;  // of the file

Duration soak_time() {
  const char* given = std::getenv("DATACLOUD_SOAK_SECONDS");
  return seconds(given != nullptr ? std::strtol(given, nullptr, 10) : 6);
}

class SoakTest : public ServiceTest {
 protected:
  void SetUp() override {
    spdlog::set_level(spdlog::level::warn);  // every repair is told otherwise
    config_.gc_interval_ms = 200;
    config_.audit_cycle_ms = 3'000;
    ServiceTest::SetUp();
    tags_ = ShardTags(ShardTags::derive_keys(service_key_, cloud_));
  }

  // Some puts fail, before or after they have had their effect.
  std::unique_ptr<ObjectStore> open_site(SiteId site) override {
    auto faulty =
        make_fault_store(make_memory_store(memory_[site - 1]), [this](StoreOp op, const auto&) {
          Fault fault;
          if (op != StoreOp::put && op != StoreOp::derive) return fault;
          const uint64_t dice = puts_++ * 2654435761u % 41;
          if (!faults_ || dice > 1) return fault;
          fault.kind = dice == 0 ? Fault::Kind::fail_before : Fault::Kind::fail_after;
          fault.error = Error(dice == 0 ? Errc::io : Errc::timed_out, "injected");
          return fault;
        });
    return std::make_unique<RecordingStore>(std::move(faulty), site, namer_, ledger_);
  }

  // As a mount writes, `slots` blocks: a new instance for every attempt; what fails is missing.
  void write(Client& client, uint64_t first_block, uint32_t slots) {
    const auto code = make_erasure_code("rs-3-2").value();
    pb::Stripe stripe;
    std::vector<Bytes> columns(5);
    for (uint32_t slot = 0; slot < slots; ++slot) {
      const uint32_t column = slot * 2 / slots;
      const Bytes block = random_.bytes(random_.number(900, 2000));
      stripe.add_slot_column(column);
      stripe.add_slot_offset(static_cast<uint32_t>(columns[column].size()));
      stripe.add_slot_length(static_cast<uint32_t>(block.size()));
      columns[column].insert(columns[column].end(), block.begin(), block.end());
    }
    const size_t length = std::max(columns[0].size(), columns[1].size());
    columns[3].resize(length);
    columns[4].resize(length);
    std::vector<Bytes> padded(columns.begin(), columns.begin() + 3);
    for (auto& column : padded) column.resize(length);
    std::vector<MutableByteView> parity{columns[3], columns[4]};
    code->encode({padded[0], padded[1], padded[2]}, parity);
    stripe.set_id(grant(client, IdKind::stripe, 1));
    stripe.set_code("rs-3-2");
    stripe.set_parity_bytes(static_cast<uint32_t>(length));
    const InstanceId first = grant(client, IdKind::instance, 5);
    const auto shift = static_cast<uint32_t>(random_.number(0, 4));
    bool missing = random_.number(0, 3) == 0;
    for (uint32_t c = 0; c < 5; ++c) {
      auto* shard = stripe.add_shards();
      const SiteId home = 1 + (c + shift) % kSites;
      shard->set_site(home);
      shard->set_home_site(home);
      if (columns[c].empty()) {
        shard->set_state(pb::SHARD_EMPTY);
        continue;
      }
      // Now and then a stand-in, or a shard that is left to the repair.
      if (c == 3 && random_.number(0, 4) == 0) shard->set_site(1 + (2 + shift) % kSites);
      shard->set_bytes(static_cast<uint32_t>(columns[c].size()));
      const ShardName name{stripe.id(), static_cast<uint8_t>(c), first + c};
      const bool there = !(c == 4 && missing) && put_shard(shard->site(), name, columns[c]);
      if (there) {
        shard->set_instance(name.instance);
        continue;
      }
      if (c != 4 && missing) return;  // two are missing: this stripe is given up
      missing = true;
      shard->set_state(pb::SHARD_MISSING);
      shard->set_site(home);
    }
    auto request =
        commit_request(stripe, file_, grant(client, IdKind::version, slots), first_block);
    request.mutable_commit()->mutable_updates(0)->mutable_runs(0)->set_count(slots);
    request.mutable_commit()->mutable_updates(0)->set_grow_to(kBlocks * 4096);
    const auto reply = call(client, request);
    ASSERT_EQ(reply.error(), 0) << reply.error_text();
    ++writes_;
  }
  void write(Client& client) {
    if (random_.number(0, 7) == 0) {
      write(client, kBase * random_.number(0, kBlocks / kBase - 1), kBase);
    } else {  // an update, to be folded into such a base
      const auto slots = static_cast<uint32_t>(random_.number(1, 2));
      write(client, random_.number(0, kBlocks - slots), slots);
    }
  }
  bool put_shard(SiteId site, const ShardName& name, const Bytes& bytes) {
    return wait_for<void>([&](Callback<void> done) {
             sites_->find(site)->store().put(object_name(name), Payload::from(bytes),
                                             tags_.make(site, name, {ByteView(bytes)}), {},
                                             std::move(done));
           })
        .has_value();
  }

  // One after the other, without a pause. False: a false alarm.
  bool audit_step(Client& asker) {
    pb::Request request;
    request.mutable_audit()->set_run(run_);
    const auto reply = call(asker, request);
    EXPECT_EQ(reply.error(), 0) << reply.error_text();
    for (const auto& bad : reply.audit().bad()) {
      ADD_FAILURE() << "false alarm: stripe " << bad.stripe() << " column " << bad.column()
                    << " at site " << bad.site() << ": " << bad.reason() << " " << bad.detail();
    }
    for (const auto& doubt : reply.audit().doubts()) ADD_FAILURE() << doubt;
    EXPECT_EQ(reply.audit().failures(), 0u) << reply.audit().last_failure();
    run_ = reply.audit().done() ? 0 : reply.audit().run();
    audits_ += reply.audit().done();
    checked_ += reply.audit().done() ? reply.audit().shards_checked() : 0;
    return !HasFailure();
  }
  pb::FoldReply fold(Client& asker, bool start) {
    pb::Request request;
    request.mutable_fold()->set_start(start);
    const auto reply = call(asker, request);
    EXPECT_EQ(reply.error(), 0);
    return reply.fold();
  }
  void count_folds(Client& asker) {  // they count since the daemon's start
    const auto now = fold(asker, false);
    merged_ += now.stripes_merged();
    folded_ += now.stripes_folded();
  }
  void start_repair(Client& asker) {
    pb::Request request;
    request.mutable_repair()->set_start(true);
    request.mutable_repair()->set_scrub(random_.number(0, 1) == 0);
    EXPECT_EQ(call(asker, request).error(), 0);
  }
  void crash(Client& writer, Client& asker) {
    count_folds(asker);
    restart();
    connect(writer, pb::CLIENT_MOUNT, {held(file_, pb::LEASE_WRITE, true)});
    asker = tool();
    run_ = 0;
    ++crashes_;
  }

  Seeded random_;
  const ShardNamer namer_{Bytes(16, 7)};
  AuditLedger ledger_;
  ShardTags tags_;
  std::atomic<uint64_t> puts_{0};
  std::atomic<bool> faults_{true};
  InodeId file_ = 0;
  uint64_t run_ = 0, audits_ = 0, checked_ = 0, writes_ = 0, crashes_ = 0, merged_ = 0, folded_ = 0;
};

TEST_F(SoakTest, NoFalseAlarmAndNoPrfInputTwice) {
  auto writer = mount(10);
  auto asker = tool();
  file_ = create(writer, "file", true);
  ASSERT_EQ(call(writer, lease_request(file_, pb::LEASE_WRITE, true)).error(), 0);
  const auto end = monotonic_now() + soak_time();
  while (monotonic_now() < end && audit_step(asker)) {
    const uint64_t dice = random_.number(0, 99);
    if (dice < 60) write(writer);
    if (dice >= 60 && dice < 75) fold(asker, true);
    if (dice >= 75 && dice < 90) start_repair(asker);
    if (dice >= 97) crash(writer, asker);
    run_for(milliseconds(static_cast<int64_t>(random_.number(1, 300))));
    if (HasFatalFailure()) return;
  }
  faults_ = false;
  start_repair(asker);
  fold(asker, true);
  for (const uint64_t before = audits_; audits_ < before + 2;) {
    if (!audit_step(asker)) break;
    run_for(milliseconds(50));
  }
  count_folds(asker);
  std::cout << writes_ << " stripes written, " << audits_ << " audits of " << checked_
            << " shards, " << merged_ << " stripes merged, " << folded_
            << " folds by parity delta, " << crashes_ << " crashes, " << ledger_.inputs()
            << " PRF inputs" << std::endl;
  EXPECT_GT(writes_, 20u);
  EXPECT_GT(checked_, 100u);
  EXPECT_GT(merged_, 0u);
  EXPECT_GT(folded_, 0u);
  EXPECT_GT(ledger_.inputs(), 200u);
  for (const auto& violation : ledger_.violations()) ADD_FAILURE() << violation;
}

}  // namespace
}  // namespace datacloud
