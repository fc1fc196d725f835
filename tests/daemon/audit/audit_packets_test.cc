// The daemon's test without keys for codes of several packets: of one stripe in 16 the columns are
// compared. Sites that know their audit keys are caught as often as that, and sound stripes never,
// with columns that are short, empty or away.
#include <gtest/gtest.h>

#include <atomic>
#include <cmath>

#include "common/audit/stripe_challenge.h"
#include "tests/daemon/service/service_rig.h"
#include "tests/support/forwarding_store.h"
#include "tests/support/seeded.h"

namespace datacloud {
namespace {

using testing::HasSubstr;

constexpr int kAudits = 24;
constexpr uint64_t kStripes = 60;
constexpr int kNobody = -1;

class CountedStore final : public ForwardingStore {
 public:
  CountedStore(std::unique_ptr<ObjectStore> below, std::atomic<uint64_t>& combinations)
      : ForwardingStore(std::move(below)), combinations_(combinations) {}
  void combine(const std::string& name, Combination combination, OpOptions options,
               Callback<CombineReply> done) override {
    ++combinations_;
    below_->combine(name, std::move(combination), options, std::move(done));
  }

 private:
  std::atomic<uint64_t>& combinations_;
};

class AuditPacketsTest : public ServiceTest {
 protected:
  void SetUp() override {
    config_.audit_cycle_ms = 0;
    ServiceTest::SetUp();
    tags_ = ShardTags(ShardTags::derive_keys(service_key_, cloud_));
    client_ = mount(10);
    asker_ = tool();
    file_ = create(client_, "file", true);
    EXPECT_EQ(call(client_, lease_request(file_, pb::LEASE_WRITE, true)).error(), 0);
  }
  std::unique_ptr<ObjectStore> open_site(SiteId site) override {
    return std::make_unique<CountedStore>(make_memory_store(memory_[site - 1]), combinations_);
  }

  // A stripe at sites 1 to 5, data columns of these lengths (0: empty). The site of column `forger`
  // has changed a byte, and its tag with it.
  pb::Stripe write(const std::vector<uint32_t>& lengths, int forger) {
    std::vector<Bytes> columns(5, Bytes(kParity));
    pb::Stripe stripe;
    for (uint32_t c = 0; c < 3; ++c) {
      const Bytes data = random_.bytes(lengths[c]);
      std::copy(data.begin(), data.end(), columns[c].begin());
      if (lengths[c] == 0) continue;
      stripe.add_slot_column(c);
      stripe.add_slot_offset(0);
      stripe.add_slot_length(lengths[c]);
    }
    code_->encode({columns[0], columns[1], columns[2]}, {columns[3], columns[4]});
    stripe.set_id(grant(client_, IdKind::stripe, 1));
    stripe.set_code(code_->name());
    stripe.set_parity_bytes(kParity);
    const InstanceId first = grant(client_, IdKind::instance, 5);
    for (uint32_t c = 0; c < 5; ++c) {
      auto* shard = stripe.add_shards();
      shard->set_site(c + 1);
      shard->set_home_site(c + 1);
      if (c < 3) columns[c].resize(lengths[c]);
      if (columns[c].empty()) {
        shard->set_state(pb::SHARD_EMPTY);
        continue;
      }
      shard->set_instance(first + c);
      shard->set_bytes(static_cast<uint32_t>(columns[c].size()));
      if (forger == static_cast<int>(c)) {
        columns[c][random_.number(0, columns[c].size() - 1)] ^= 0x40;
      }
      const ShardName name{stripe.id(), static_cast<uint8_t>(c), first + c};
      const auto attributes = tags_.make(c + 1, name, {ByteView(columns[c])});
      EXPECT_TRUE(wait_for<void>([&](Callback<void> done) {
        sites_->find(c + 1)->store().put(object_name(name), Payload::from(columns[c]), attributes,
                                         {}, done);
      }));
    }
    const auto slots = static_cast<uint32_t>(stripe.slot_column_size());
    const uint64_t version = grant(client_, IdKind::version, slots);
    auto request = commit_request(stripe, file_, version, block_);
    request.mutable_commit()->mutable_updates(0)->mutable_runs(0)->set_count(slots);
    request.mutable_commit()->mutable_updates(0)->set_grow_to(1000 * 4096);
    block_ += slots;
    const auto reply = call(client_, request);
    EXPECT_EQ(reply.error(), 0) << reply.error_text();
    return stripe;
  }
  // Every shape in turn: whole columns, short ones, an empty one.
  void write_stripes(const std::function<int()>& forger) {
    const std::vector<std::vector<uint32_t>> shapes{
        {kParity, kParity, kParity}, {kParity, 700, kParity - 1}, {5000, kParity, 0}};
    for (uint64_t i = 0; i < kStripes; ++i) {
      const auto& shape = shapes[i % shapes.size()];
      int by = forger();
      if (by >= 0 && by < 3 && shape[static_cast<size_t>(by)] == 0) by = 4;
      forgers_[write(shape, by).id()] = by;
    }
  }

  pb::AuditReply audit() {
    pb::Request request;
    request.mutable_audit();
    auto reply = call(asker_, request);
    request.mutable_audit()->set_run(reply.audit().run());
    EXPECT_TRUE(until([&] {
      reply = call(asker_, request);
      return reply.audit().done();
    }));
    return reply.audit();
  }
  // Within six standard deviations: once in half a billion runs it is not.
  static void expect_binomial(uint64_t count, double trials, double chance) {
    const double sigma = std::sqrt(trials * chance * (1 - chance));
    EXPECT_NEAR(static_cast<double>(count), trials * chance, 6 * sigma);
  }

  static constexpr uint32_t kParity = 9 * 1000;
  const std::shared_ptr<const ErasureCode> code_ = make_erasure_code("msr-5-3").value();
  std::atomic<uint64_t> combinations_{0};
  Seeded random_;
  ShardTags tags_;
  Client client_, asker_;
  InodeId file_ = 0;
  uint64_t block_ = 0;
  std::map<StripeId, int> forgers_;  // column
};

TEST_F(AuditPacketsTest, ForgersAreCaughtInOneAuditOfSixteen) {
  ASSERT_EQ(kParity % static_cast<uint32_t>(code_->packets()), 0u);
  write_stripes([this] { return static_cast<int>(random_.number(0, 4)); });
  uint64_t doubts = 0;
  std::set<StripeId> caught;
  for (int i = 0; i < kAudits; ++i) {
    const auto report = audit();
    EXPECT_EQ(report.bad_total(), 0u) << "every tag is right";
    EXPECT_EQ(report.shards_checked(), 5 * kStripes - kStripes / 3);
    for (const auto& doubt : report.doubts()) {
      ++doubts;
      const StripeId stripe = std::stoull(doubt.substr(doubt.find(' ') + 1));
      caught.insert(stripe);
      const auto column = std::to_string(forgers_.at(stripe));
      const auto site = "site" + std::to_string(forgers_.at(stripe) + 1);
      EXPECT_THAT(doubt, HasSubstr("column " + column + " is at " + site));
    }
  }
  const double one_in = kComparedOneIn;
  expect_binomial(doubts, kAudits * kStripes, 1 / one_in);
  expect_binomial(caught.size(), kStripes, 1 - std::pow(1 - 1 / one_in, kAudits));
}

TEST_F(AuditPacketsTest, SoundStripesRaiseNoDoubt) {
  write_stripes([] { return kNobody; });
  for (int i = 0; i < kAudits; ++i) {
    const auto report = audit();
    EXPECT_EQ(report.bad_total(), 0u);
    EXPECT_THAT(report.doubts(), testing::IsEmpty());
  }
  EXPECT_GT(combinations_, 0u) << "of sound ones as well";
  expect_binomial(combinations_ / 5, kAudits * (kStripes - kStripes / 15.0), 1.0 / kComparedOneIn);
}

// With one column away four are left, one more than a codeword is free in: a forger is noticed, not
// located. With two away nothing can be compared, and nothing is asked for.
TEST_F(AuditPacketsTest, AwaySitesRaiseNoDoubt) {
  write_stripes([n = 0]() mutable { return n++ % 2 == 0 ? 4 : kNobody; });
  const auto leave = [&](SiteId site) {
    memory_[site - 1].set_away(true);
    EXPECT_TRUE(until([&] { return !sites_->find(site)->up(); }));
  };
  leave(1);
  uint64_t doubts = 0;
  for (int i = 0; i < kAudits; ++i) {
    const auto report = audit();
    EXPECT_EQ(report.bad_total(), kStripes) << "silent";
    for (const auto& doubt : report.doubts()) {
      ++doubts;
      EXPECT_EQ(forgers_.at(std::stoull(doubt.substr(doubt.find(' ') + 1))), 4) << doubt;
    }
  }
  expect_binomial(doubts, kAudits * kStripes / 2, 1.0 / kComparedOneIn);
  leave(2);
  const auto asked = combinations_.load();
  for (int i = 0; i < 8; ++i) EXPECT_THAT(audit().doubts(), testing::IsEmpty());
  EXPECT_EQ(combinations_, asked);
  memory_[0].set_away(false);
  memory_[1].set_away(false);
}

}  // namespace
}  // namespace datacloud
