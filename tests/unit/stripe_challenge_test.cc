// What is said of a stripe's shards, and where tags and codeword check each other.
#include "common/stripe_challenge.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/object_compute.h"
#include "tests/support/seeded.h"

namespace datacloud {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;

constexpr uint32_t kBytes = 5 * 4096 + 100;

class StripeChallengeTest : public testing::Test {
 protected:
  StripeChallengeTest() {
    for (SiteId site = 1; site <= 5; ++site) {
      keys_.emplace(site, SecretKey(Bytes(32, static_cast<uint8_t>(site))));
    }
    for (auto& column : columns_) column = random_.bytes(kBytes);
    encode(columns_);
    stripe_.set_id(7);
    stripe_.set_code("rs-3-2");
    stripe_.set_parity_bytes(kBytes);
    for (uint32_t c = 0; c < 5; ++c) {
      auto* shard = stripe_.add_shards();
      shard->set_site(c + 1);
      shard->set_instance(100 + c);
      shard->set_bytes(kBytes);
    }
  }
  static void encode(std::vector<Bytes>& columns) {
    std::vector<MutableByteView> parity{columns[3], columns[4]};
    make_erasure_code("rs-3-2").value()->encode({columns[0], columns[1], columns[2]}, parity);
  }
  // What a site with these bytes, and tags for them, says.
  result<AuditProof> answer(const StripeChallenge& challenge, int c, const Bytes& data,
                            const Bytes& tagged, InstanceId instance = 0) {
    if (instance == 0) instance = 100 + static_cast<InstanceId>(c);
    const AuditTagger tagger(keys_.at(static_cast<SiteId>(c + 1)));
    const Bytes tags = tagger.tags({7, static_cast<uint8_t>(c)}, instance, tagged);
    TRY(const auto plan,
        plan_proof(challenge.challenge(), data.size(), shard_attributes(instance, tags)));
    std::vector<Bytes> read;
    for (const auto& range : plan.ranges) {
      const auto part = ByteView(data).subspan(range.offset, range.length);
      read.push_back(to_bytes(part));
    }
    return plan.prove(read);
  }
  // Every column answers honestly for `columns`, but those of `said`.
  void ask(StripeChallenge& challenge, const std::vector<Bytes>& columns,
           const std::map<int, result<AuditProof>>& said = {}) {
    for (int c = 0; c < 5; ++c) {
      const auto other = said.find(c);
      const auto& bytes = columns[static_cast<size_t>(c)];
      challenge.judge(c, other != said.end() ? other->second : answer(challenge, c, bytes, bytes));
    }
    challenge.finish();
  }
  static std::vector<std::string> told(const StripeChallenge& challenge) {
    std::vector<std::string> texts;
    for (const auto& f : challenge.faults()) {
      texts.push_back(std::to_string(f.column) + " " + verdict_name(f.verdict));
    }
    return texts;
  }
  Bytes damaged(int c) {
    Bytes bytes = columns_[static_cast<size_t>(c)];
    bytes[random_.number(0, bytes.size() - 1)] ^= 1;
    return bytes;
  }

  Seeded random_;
  std::map<SiteId, SecretKey> keys_;
  std::vector<Bytes> columns_{5, Bytes()};
  pb::Stripe stripe_;
};

TEST_F(StripeChallengeTest, NothingIsSaidOfAnHonestStripe) {
  const ShardTags tags(keys_);
  for (const uint64_t samples : {0, 1, 4, 6, 100}) {
    StripeChallenge challenge(tags, stripe_, samples);
    ask(challenge, columns_);
    EXPECT_THAT(told(challenge), IsEmpty());
    EXPECT_EQ(challenge.doubt(), "");
    EXPECT_EQ(challenge.totals().shards_checked, 5u);
    if (samples == 0) {
      EXPECT_EQ(challenge.totals().bytes_covered, 5u * kBytes);
    }
  }
}

TEST_F(StripeChallengeTest, EachFaultHasItsName) {
  const ShardTags tags(keys_);
  StripeChallenge challenge(tags, stripe_, 0);
  const Bytes longer = random_.bytes(kBytes + 1);
  std::map<int, result<AuditProof>> said;
  said.emplace(0, failure(Errc::not_found, "no such object"));
  said.emplace(1, answer(challenge, 1, damaged(1), columns_[1]));
  said.emplace(2, answer(challenge, 2, random_.bytes(kBytes), random_.bytes(kBytes), 99));
  said.emplace(3, failure(Errc::timed_out, "late"));
  said.emplace(4, answer(challenge, 4, longer, longer));
  ask(challenge, columns_, said);
  EXPECT_THAT(told(challenge),
              testing::ElementsAre("0 missing", "1 corrupt", "2 stale", "3 silent", "4 corrupt"));
  EXPECT_THAT(challenge.faults()[2].detail, HasSubstr("99"));
}

TEST_F(StripeChallengeTest, AKeyThatIsNotAtHandIsReplacedByTheCodeword) {
  for (int c = 0; c < 5; ++c) {
    auto keys = keys_;
    keys.erase(static_cast<SiteId>(c + 1));
    const ShardTags tags(keys);
    StripeChallenge good(tags, stripe_, 0);
    ask(good, columns_);
    EXPECT_THAT(told(good), IsEmpty());
    StripeChallenge bad(tags, stripe_, 0);
    std::map<int, result<AuditProof>> said;
    said.emplace(c, answer(bad, c, damaged(c), columns_[static_cast<size_t>(c)]));
    ask(bad, columns_, said);
    EXPECT_THAT(told(bad), testing::ElementsAre(std::to_string(c) + " corrupt"));
    EXPECT_EQ(bad.doubt(), "");
  }
  const ShardTags none;  // no key at all, and one column of five lies
  StripeChallenge bad(none, stripe_, 3);
  std::map<int, result<AuditProof>> said;
  Bytes other = random_.bytes(kBytes);
  said.emplace(2, answer(bad, 2, other, other));
  ask(bad, columns_, said);
  EXPECT_THAT(told(bad), testing::ElementsAre("2 corrupt"));
  // Too few answers to tell.
  StripeChallenge few(none, stripe_, 0);
  for (int c = 0; c < 3; ++c) {
    few.judge(c, answer(few, c, columns_[static_cast<size_t>(c)], columns_[0]));
  }
  few.finish();
  EXPECT_THAT(told(few), testing::ElementsAre("0 silent", "1 silent", "2 silent"));
}

TEST_F(StripeChallengeTest, ASiteThatKnowsItsKeyIsSeenByTheCodeword) {
  const ShardTags tags(keys_);
  StripeChallenge challenge(tags, stripe_, 0);
  const Bytes forged = damaged(3);
  std::map<int, result<AuditProof>> said;
  said.emplace(3, answer(challenge, 3, forged, forged));
  ask(challenge, columns_, said);
  EXPECT_THAT(told(challenge), IsEmpty());
  EXPECT_THAT(challenge.doubt(), HasSubstr("without column 3 they are"));
}

TEST_F(StripeChallengeTest, WrongKeysOfTheAuditorAreSeenByTheCodeword) {
  auto keys = keys_;
  keys.at(4) = SecretKey(Bytes(32, 99));
  const ShardTags tags(keys);
  StripeChallenge challenge(tags, stripe_, 0);
  ask(challenge, columns_);
  EXPECT_THAT(told(challenge), testing::ElementsAre("3 corrupt"));
  EXPECT_THAT(challenge.doubt(), HasSubstr("column 3 fail"));
  EXPECT_THAT(challenge.doubt(), HasSubstr("keys"));
}

TEST_F(StripeChallengeTest, SitesThatGoBackTogetherFailTheirTags) {
  const ShardTags tags(keys_);
  std::vector<Bytes> old(5, Bytes(kBytes));
  for (auto& column : old) column = random_.bytes(kBytes);
  encode(old);
  StripeChallenge challenge(tags, stripe_, 0);
  std::map<int, result<AuditProof>> said;
  for (int c = 0; c < 5; ++c) {
    const auto& bytes = old[static_cast<size_t>(c)];
    auto proof = answer(challenge, c, bytes, bytes, 50 + static_cast<InstanceId>(c));
    if (c != 1) proof.value().instance = 100 + static_cast<InstanceId>(c);  // four lie about it
    said.emplace(c, proof);
  }
  ask(challenge, columns_, said);
  EXPECT_THAT(told(challenge),
              testing::ElementsAre("0 corrupt", "1 stale", "2 corrupt", "3 corrupt", "4 corrupt"));
  EXPECT_THAT(challenge.doubt(), HasSubstr("gone back together"));
}

}  // namespace
}  // namespace datacloud
