// The ledger of PRF inputs finds a reuse, and none in a random life of puts, derivations, failures
// and crashes that keeps the rules: a new instance for every attempt.
#include "tests/support/audit_ledger.h"

#include <gtest/gtest.h>

#include "common/store/memory_store.h"
#include "common/tags/audit_tag.h"
#include "tests/support/seeded.h"
#include "tests/support/store_calls.h"

namespace datacloud {
namespace {

class LedgerTest : public testing::Test {
 protected:
  std::unique_ptr<ObjectStore> open(FaultRule rule) {
    return std::make_unique<RecordingStore>(
        make_fault_store(make_memory_store(control_), std::move(rule)), 1, namer_, ledger_);
  }
  std::string name(InstanceId instance) const { return namer_.object_name({9, 2, instance}); }
  Attributes tagged(InstanceId instance, const Bytes& data) const {
    return shard_attributes(instance, tagger_.tags({9, 2}, instance, data));
  }

  MemoryStoreControl control_;
  AuditLedger ledger_;
  const ShardNamer namer_{Bytes(16, 7)};
  const AuditTagger tagger_{SecretKey(Bytes(32, 9))};
  Seeded random_;
};

TEST_F(LedgerTest, NoticesTwoContentsUnderOneInput) {
  auto store = open([](StoreOp, const std::string&) {
    Fault fault;
    fault.kind = Fault::Kind::fail_before;
    fault.error = Error(Errc::io, "injected");
    return fault;
  });
  const Bytes one = random_.bytes(9000), two = random_.bytes(9000);
  EXPECT_FALSE(put(*store, name(5), one, tagged(5, one)));
  EXPECT_TRUE(ledger_.violations().empty());
  EXPECT_FALSE(put(*store, name(5), one, tagged(5, one))) << "the same again is no reuse";
  EXPECT_TRUE(ledger_.violations().empty());
  EXPECT_FALSE(put(*store, name(5), two, tagged(5, two)));
  EXPECT_EQ(ledger_.violations().size(), 3u) << "each block, though neither put succeeded";
}

TEST_F(LedgerTest, NoticesWhatHasNoTagOfItsOwn) {
  auto store = open([](StoreOp, const std::string&) { return Fault(); });
  const Bytes data = random_.bytes(9000);
  ASSERT_TRUE(put(*store, name(5), data, tagged(5, data)));
  ASSERT_TRUE(derive(*store, name(6), {name(5), 5, 6, 9000, {{0, {1}}}, {}}));
  EXPECT_EQ(ledger_.violations().size(), 1u) << "changed data under the old version";
  ASSERT_TRUE(put(*store, name(7), data, {}));
  EXPECT_EQ(ledger_.violations().size(), 3u) << "neither instance nor tags";
}

TEST_F(LedgerTest, ALongLifeReusesNothing) {
  auto store = open([this](StoreOp op, const std::string&) {
    Fault fault;
    if (op != StoreOp::put && op != StoreOp::derive) return fault;
    const auto dice = random_.number(0, 9);
    if (dice < 2) fault.kind = dice == 0 ? Fault::Kind::fail_before : Fault::Kind::fail_after;
    fault.error = Error(Errc::timed_out, "injected");
    return fault;
  });
  InstanceId next = 1;
  Bytes data;
  InstanceId current = 0;
  BlockVersions versions;
  for (int step = 0; step < 600; ++step) {
    const InstanceId instance = next++;  // for this attempt alone
    if (current == 0 || random_.number(0, 19) == 0) {
      Bytes fresh = random_.bytes(random_.number(1, 30'000));
      if (!put(*store, name(instance), fresh, tagged(instance, fresh))) continue;
      data = std::move(fresh);
      versions = {{0, instance}};
      current = instance;
      continue;
    }
    Derivation d{name(current), current, instance, data.size(), {}, {}};
    if (random_.number(0, 3) == 0) d.size += random_.number(0, 9000);
    const uint64_t offset = random_.number(0, d.size - 1);
    d.data.push_back(
        {offset, random_.bytes(random_.number(0, std::min<uint64_t>(d.size - offset, 6000)))});
    d.tags = tagger_.tag_deltas({9, 2}, versions, instance, data.size(), d.size, d.data);
    if (!derive(*store, name(instance), d)) continue;  // perhaps it is there: abandoned
    std::vector<uint64_t> blocks;
    for (const auto& range : d.tags) {
      for (uint64_t at = 0; at < range.bytes.size(); at += kFieldBytes) {
        blocks.push_back((range.offset + at) / kFieldBytes);
      }
    }
    versions = rewritten(versions, blocks, audit_blocks_of(d.size), instance);
    data.resize(d.size);
    for (size_t i = 0; i < d.data[0].bytes.size(); ++i) data[offset + i] ^= d.data[0].bytes[i];
    current = instance;
    const auto challenge = random_challenge(audit_blocks_of(data.size()), 0);
    const auto proof = prove(*store, name(current), challenge);
    ASSERT_TRUE(proof) << proof.error().message();
    EXPECT_TRUE(tagger_.verify({{9, 2}, current, data.size(), versions}, challenge, proof.value()));
  }
  EXPECT_TRUE(ledger_.violations().empty()) << ledger_.violations()[0];
  EXPECT_GT(ledger_.inputs(), 1000u);
}

}  // namespace
}  // namespace datacloud
