// A third party's questions: what it computes from a shard that it reads is what the site would
// have answered, and each shard crosses the network once.
#include "tools/audit/shard_question.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "common/store/memory_store.h"
#include "common/store/object_compute.h"
#include "common/tags/audit_tag.h"
#include "tests/support/forwarding_store.h"
#include "tests/support/seeded.h"

namespace datacloud {
namespace {

constexpr uint64_t kPacket = 2 * 4096 + 333, kPackets = 5;
constexpr InstanceId kInstance = 77;

class CountingStore final : public ForwardingStore {
 public:
  using ForwardingStore::ForwardingStore;
  void read(const std::string& name, std::vector<ByteRange> ranges, bool want_attributes,
            OpOptions options, Callback<ReadReply> done) override {
    ++reads;
    below_->read(name, std::move(ranges), want_attributes, options, std::move(done));
  }
  void combine(const std::string& name, Combination combination, OpOptions options,
               Callback<CombineReply> done) override {
    ++combinations;
    below_->combine(name, std::move(combination), options, std::move(done));
  }
  void prove(const std::string& name, AuditChallenge challenge, OpOptions options,
             Callback<AuditProof> done) override {
    ++proofs;
    below_->prove(name, challenge, options, std::move(done));
  }
  int reads = 0, combinations = 0, proofs = 0;
};

class ShardQuestionTest : public testing::Test {
 protected:
  void put(const Bytes& data) {
    const AuditTagger tagger(SecretKey(Bytes(32, 3)));
    put(data, shard_attributes(kInstance, tagger.tags({9, 2}, kInstance, data)));
  }
  void put(const Bytes& data, Attributes attributes) {
    name_ = "shard" + std::to_string(++number_);
    const auto stored = wait_for<void>([&](Callback<void> done) {
      store_.put(name_, Payload::from(data), std::move(attributes), {}, done);
    });
    ASSERT_TRUE(stored);
  }
  // A place or two of every packet.
  Combination combination() {
    Combination combination;
    combination.coefficients.assign(kPackets, std::vector<uint8_t>(2 * kPackets));
    for (size_t p = 0; p < kPackets; ++p) {
      for (const uint64_t at : {uint64_t{0}, kPacket - 4096}) {
        combination.coefficients[p][combination.ranges.size()] =
            static_cast<uint8_t>(random_.number(1, 255));
        combination.ranges.push_back({p * kPacket + at, 4096});
      }
    }
    return combination;
  }
  ShardQuestion question(uint64_t bytes, uint64_t samples = 0) {
    return {name_, bytes, random_challenge(audit_blocks_of(kPackets * kPacket), samples),
            combination()};
  }
  ShardAnswer ask(ShardQuestion question, bool read) {
    question.read = read;
    return ask_shard(store_, std::move(question), {})();
  }
  // Both ways give the same.
  void expect_equal(const ShardQuestion& question) {
    const auto theirs = ask(question, false), ours = ask(question, true);
    ASSERT_TRUE(theirs.proof) << theirs.proof.error().message();
    ASSERT_TRUE(ours.proof) << ours.proof.error().message();
    EXPECT_EQ(ours.proof.value().mu, theirs.proof.value().mu);
    EXPECT_EQ(ours.proof.value().tag, theirs.proof.value().tag);
    EXPECT_EQ(ours.proof.value().object_size, theirs.proof.value().object_size);
    EXPECT_EQ(ours.proof.value().instance, kInstance);
    EXPECT_FALSE(ours.proof.value().at_site);
    EXPECT_EQ(ours.combined->value().outputs, theirs.combined->value().outputs);
    EXPECT_EQ(ours.combined->value().bytes_transferred, 0u);
  }

  Seeded random_;
  CountingStore store_{make_memory_store()};
  std::string name_;
  int number_ = 0;
};

TEST_F(ShardQuestionTest, WhatIsReadGivesTheSitesOwnAnswers) {
  for (const uint64_t bytes :
       {kPackets * kPacket, kPackets * kPacket - 1, kPacket + 5, uint64_t{4096}, uint64_t{1}}) {
    put(random_.bytes(bytes));
    for (const uint64_t samples : {0, 1, 4}) expect_equal(question(bytes, samples));
  }
}

TEST_F(ShardQuestionTest, AShardIsReadOnce) {
  put(random_.bytes(kPackets * kPacket));
  ask(question(kPackets * kPacket), true);
  EXPECT_EQ(store_.reads, 1);
  EXPECT_EQ(store_.proofs + store_.combinations, 0);
  auto alone = question(kPackets * kPacket);
  alone.combination.reset();
  EXPECT_FALSE(ask(alone, false).combined);
  EXPECT_EQ(store_.proofs, 1);
  EXPECT_EQ(store_.combinations, 0);
}

TEST_F(ShardQuestionTest, SizesAndFailuresAreTold) {
  put(random_.bytes(20'000));
  // A record that knows another size: the answer says so, and is no answer to the challenge.
  for (const uint64_t recorded : {19'999, 20'001, 0}) {
    const auto answer = ask(question(recorded), true);
    ASSERT_TRUE(answer.proof);
    EXPECT_EQ(answer.proof.value().object_size, 20'000u);
    EXPECT_EQ(answer.proof.value().instance, kInstance);
    EXPECT_TRUE(answer.proof.value().mu.empty());
  }
  put(random_.bytes(20'000), {});
  for (const bool read : {false, true}) {
    EXPECT_TRUE(ask(question(20'000), read).proof.error().is(Errc::corrupt)) << "no tags";
  }
  name_ = "nowhere";
  for (const bool read : {false, true}) {
    EXPECT_TRUE(ask(question(20'000), read).proof.error().is(Errc::not_found));
  }
  put(random_.bytes(20'000));
  auto senseless = question(20'000);
  senseless.combination->coefficients.clear();
  for (const bool read : {false, true}) {
    const auto answer = ask(senseless, read);
    EXPECT_TRUE(answer.proof);
    EXPECT_FALSE(*answer.combined);
  }
}

// A site may send anything.
TEST_F(ShardQuestionTest, RepliesThatAreNoShard) {
  const auto asked = question(20'000);
  ReadReply reply;
  EXPECT_TRUE(answer_from_shard(asked, reply).proof.error().is(Errc::corrupt));
  reply.object_size = 20'000;
  reply.attributes = shard_attributes(kInstance, Bytes(5 * 16));
  for (const size_t bytes : {0, 1, 4096, 19'999}) {
    reply.ranges = {Bytes(bytes)};
    EXPECT_TRUE(answer_from_shard(asked, reply).proof.error().is(Errc::corrupt)) << bytes;
  }
  reply.ranges = {Bytes(30'000)};
  EXPECT_TRUE(answer_from_shard(asked, reply).proof) << "more than it says: not looked at";
}

}  // namespace
}  // namespace datacloud
