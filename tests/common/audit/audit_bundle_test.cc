// Bundles and reports: what is written is read, refreshes lead to the newest state, and nothing
// that was changed, cut or signed by another is believed.
#include "common/audit/audit_bundle.h"

#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "common/base/hex.h"
#include "tests/support/seeded.h"
#include "tests/support/temporary_directory.h"

namespace datacloud {
namespace {

using State = std::map<StripeId, std::string>;

class BundleTest : public testing::Test {
 protected:
  static SigningKey key(uint8_t seed) { return SigningKey(SecretKey(Bytes(32, seed))); }

  std::string record(StripeId id) {
    pb::Stripe stripe;
    stripe.set_id(id);
    stripe.set_code("rs-3-2");
    stripe.set_parity_bytes(10'000);
    stripe.add_slot_column(0);
    stripe.add_slot_length(4711);
    for (uint32_t c = 0; c < 5; ++c) {
      auto* shard = stripe.add_shards();
      shard->set_site(c + 1);
      shard->set_instance(random_.number(1, 1u << 30));
      shard->set_bytes(10'000);
      if (c == 2) shard->set_state(pb::SHARD_EMPTY);
      if (c == 3) {
        for (uint64_t first : {0, 2}) {
          auto* run = shard->add_versions();
          run->set_first_block(first);
          run->set_version(5 + first);
        }
      }
    }
    return audit_record(stripe, namer_);
  }

  // `changes` empty: the whole state.
  std::filesystem::path write(const std::string& name, const State& state,
                              const std::map<StripeId, std::string>* changes = nullptr,
                              const std::string& base = {}) {
    const std::filesystem::path path = directory_.path() / name;
    auto writer = AuditBundleWriter::create(path);
    EXPECT_TRUE(writer);
    pb::AuditBundleHeader header;
    header.set_format(kAuditBundleFormat);
    header.set_cloud_uuid("uuid");
    header.set_sequence(42);
    header.set_base(base);
    auto* site = header.add_sites();
    site->set_id(1);
    site->set_audit_key(std::string(32, 'k'));
    pb::AuditBundleFrame frame;
    frame.set_header(header.SerializeAsString());
    EXPECT_TRUE(writer.value()->add(frame));
    const std::string header_bytes = frame.header();
    AuditStateDigest digest;
    for (const auto& [id, bytes] : state) digest.add(id, bytes);
    pb::AuditBundleFrame page;
    for (const auto& [id, bytes] : changes != nullptr ? *changes : state) {
      auto* change = page.mutable_page()->add_changes();
      change->set_stripe(id);
      change->set_record(bytes);
      if (page.page().changes_size() < 3) continue;
      EXPECT_TRUE(writer.value()->add(page));
      page.Clear();
    }
    if (page.has_page()) {
      EXPECT_TRUE(writer.value()->add(page));
    }
    pb::AuditBundleFrame end;
    *end.mutable_end() = seal_audit_bundle(signer_, header_bytes, std::move(digest));
    EXPECT_TRUE(writer.value()->add(end));
    EXPECT_TRUE(writer.value()->finish());
    last_state_ = end.end().state();
    return path;
  }
  static State read(const AuditBundle& bundle) {
    State state;
    EXPECT_TRUE(bundle.for_each([&](StripeId id, const std::string& bytes) -> result<void> {
      state[id] = bytes;
      return success();
    }));
    return state;
  }
  static std::string slurp(const std::filesystem::path& path) {
    std::ifstream in(path, std::ios::binary);
    std::stringstream text;
    text << in.rdbuf();
    return text.str();
  }

  Seeded random_;
  TemporaryDirectory directory_;
  const ShardNamer namer_{Bytes(16, 7)};
  const SigningKey signer_ = key(1);
  std::string last_state_;
};

TEST_F(BundleTest, SignaturesAreEd25519) {
  // RFC 8032, section 7.1, test 2.
  Bytes seed(32);
  ASSERT_TRUE(from_hex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb", seed));
  const SigningKey key{SecretKey(ByteView(seed))};
  EXPECT_EQ(to_hex(key.public_key()),
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c");
  const Bytes message{0x72};
  const Bytes signature = key.sign(message);
  EXPECT_EQ(to_hex(signature),
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
            "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00");
  EXPECT_TRUE(signature_valid(key.public_key(), message, signature));
  EXPECT_FALSE(signature_valid(key.public_key(), Bytes{0x73}, signature));
  EXPECT_FALSE(signature_valid(key.public_key(), message, Bytes(64)));
  EXPECT_FALSE(signature_valid(Bytes(31), message, signature));
}

TEST_F(BundleTest, WhatIsWrittenIsRead) {
  State state;
  for (StripeId id : {5, 6, 9, 100, 101, 102, 7000}) state[id] = record(id);
  const auto path = write("whole", state);
  const auto bundle = AuditBundle::open(path, {}, signer_.public_key());
  ASSERT_TRUE(bundle) << bundle.error().message();
  EXPECT_EQ(read(bundle.value()), state);
  EXPECT_EQ(bundle.value().end().stripes(), 7u);
  EXPECT_EQ(bundle.value().header().sequence(), 42u);
  EXPECT_EQ(std::filesystem::status(path).permissions() & std::filesystem::perms::all,
            std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);
  const auto stripe = audited_stripe(5, state[5]);
  ASSERT_TRUE(stripe) << stripe.error().message();
  EXPECT_EQ(stripe.value().stripe.slot_length_size(), 0) << "what is in a stripe is not told";
  EXPECT_EQ(stripe.value().objects[0],
            namer_.object_name({5, 0, stripe.value().stripe.shards(0).instance()}));
  EXPECT_EQ(stripe.value().stripe.shards(3).versions_size(), 2);
  EXPECT_FALSE(audited_stripe(6, state[5])) << "another stripe's record";
}

TEST_F(BundleTest, AnEmptyCloudHasABundle) {
  const auto bundle = AuditBundle::open(write("empty", {}), {}, signer_.public_key());
  ASSERT_TRUE(bundle) << bundle.error().message();
  EXPECT_TRUE(read(bundle.value()).empty());
}

TEST_F(BundleTest, RandomRefreshesLeadToTheNewestState) {
  for (int round = 0; round < 30; ++round) {
    State before, after;
    std::map<StripeId, std::string> changes;
    for (StripeId id = 1; id <= 40; ++id) {
      const auto dice = random_.number(0, 5);
      if (dice < 4) before[id] = record(id);
      if (dice < 2) {
        after[id] = before[id];
      } else if (dice == 2 || dice == 4) {
        after[id] = changes[id] = record(id);
      } else if (dice == 3) {
        changes[id] = "";
      }
    }
    const auto n = std::to_string(round);
    const auto whole = write("whole" + n, before);
    const auto refresh = write("refresh" + n, after, &changes, last_state_);
    const auto bundle = AuditBundle::open(whole, refresh, signer_.public_key());
    ASSERT_TRUE(bundle) << bundle.error().message();
    EXPECT_EQ(read(bundle.value()), after);
    EXPECT_FALSE(AuditBundle::open(refresh, {}, signer_.public_key())) << "a refresh alone";
    EXPECT_FALSE(AuditBundle::open(whole, whole, signer_.public_key())) << "no refresh";
    before[999] = record(999);
    const auto other = write("other" + n, before);
    EXPECT_FALSE(AuditBundle::open(other, refresh, signer_.public_key())) << "another's refresh";
  }
}

TEST_F(BundleTest, NothingChangedOrForeignIsBelieved) {
  State state;
  for (StripeId id = 1; id < 8; ++id) state[id] = record(id);
  const auto path = write("whole", state);
  EXPECT_FALSE(AuditBundle::open(path, {}, key(2).public_key())) << "another signer";
  const std::string good = slurp(path);
  const auto changed = directory_.path() / "changed";
  const auto open_as = [&](const std::string& text) {
    std::ofstream(changed, std::ios::binary | std::ios::trunc) << text;
    return AuditBundle::open(changed, {}, signer_.public_key()).has_value();
  };
  ASSERT_TRUE(open_as(good));
  for (int i = 0; i < 300; ++i) {
    std::string bad = good;
    bad[random_.number(0, bad.size() - 1)] ^= static_cast<char>(1 << random_.number(0, 7));
    EXPECT_FALSE(open_as(bad));
    EXPECT_FALSE(open_as(good.substr(0, random_.number(0, good.size() - 1))));
  }
  // A stripe left out, the rest sound.
  state.erase(4);
  const auto shorter = slurp(write("shorter", state));
  EXPECT_TRUE(open_as(shorter)) << "signed as well: the bundle of another moment";
  EXPECT_FALSE(open_as(shorter.substr(0, shorter.size() - 80) + good.substr(good.size() - 80)));
}

}  // namespace
}  // namespace datacloud
