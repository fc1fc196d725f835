// What is said of a stripe's shards, and where tags and codeword check each other.
#include "common/audit/stripe_challenge.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "common/store/object_compute.h"
#include "common/stripe/write_quorum.h"
#include "tests/support/seeded.h"

namespace datacloud {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;

constexpr uint32_t kBytes = 5 * 4096 + 100;

std::vector<std::string> told(const StripeChallenge& challenge) {
  std::vector<std::string> texts;
  for (const auto& f : challenge.faults()) {
    texts.push_back(std::to_string(f.column) + " " + verdict_name(f.verdict));
  }
  return texts;
}

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

// Codes of several packets: combinations besides the proofs, made by sites as they are asked.
class PacketsChallengeTest : public testing::TestWithParam<std::string> {
 protected:
  PacketsChallengeTest() {
    const auto k = static_cast<size_t>(code_->k()), n = static_cast<size_t>(code_->n());
    const size_t packets = static_cast<size_t>(code_->packets());
    for (size_t c = 0; c < n; ++c) columns_.push_back(random_.bytes(packets * kPacket));
    std::fill(columns_[0].begin() + kPacket / 2, columns_[0].end(), 0);
    std::vector<MutableByteView> parity(columns_.begin() + static_cast<long>(k), columns_.end());
    code_->encode({columns_.begin(), columns_.begin() + static_cast<long>(k)}, parity);
    columns_[0].resize(kPacket / 2);  // stored as long as it is used
    stripe_.set_id(7);
    stripe_.set_code(GetParam());
    stripe_.set_parity_bytes(static_cast<uint32_t>(packets * kPacket));
    for (size_t c = 0; c < n; ++c) {
      auto* shard = stripe_.add_shards();
      shard->set_site(c + 1);
      shard->set_instance(100 + c);
      shard->set_bytes(static_cast<uint32_t>(columns_[c].size()));
      keys_.emplace(c + 1, SecretKey(Bytes(32, static_cast<uint8_t>(c))));
    }
  }
  // As a site does that holds `columns`, and tags of what was written. Those of `away` are missing.
  void ask(StripeChallenge& challenge, const std::vector<Bytes>& columns, ColumnSet away = 0) {
    for (size_t c = 0; c < columns.size(); ++c) {
      if (contains(away, static_cast<int>(c))) {
        const Error absent(Errc::not_found, "no such object");
        challenge.judge(static_cast<int>(c), failure(absent));
        challenge.judge_combined(static_cast<int>(c), failure(absent));
        continue;
      }
      const AuditTagger tagger(keys_.at(c + 1));
      const Bytes tags = tagger.tags({7, static_cast<uint8_t>(c)}, 100 + c, columns_[c]);
      const auto read = [&](const auto& ranges) {
        std::vector<Bytes> bytes;
        for (const ByteRange range : ranges) {
          const ByteView all(columns[c]);
          const ByteView from = all.subspan(std::min<size_t>(all.size(), range.offset));
          bytes.push_back(to_bytes(from.first(std::min<size_t>(from.size(), range.length))));
        }
        return bytes;
      };
      const auto plan =
          plan_proof(challenge.challenge(), columns[c].size(), shard_attributes(100 + c, tags));
      challenge.judge(static_cast<int>(c), plan.value().prove(read(plan.value().ranges)));
      ASSERT_TRUE(challenge.combination());
      ASSERT_EQ(fault_of(*challenge.combination()), nullptr);
      const auto& combination = *challenge.combination();
      challenge.judge_combined(static_cast<int>(c),
                               combine_ranges(read(combination.ranges), combination));
    }
    challenge.finish();
  }
  static std::vector<int> corrupt(const StripeChallenge& challenge) {
    std::vector<int> columns;
    for (const auto& fault : challenge.faults()) {
      if (fault.verdict == AuditVerdict::corrupt) columns.push_back(fault.column);
    }
    return columns;
  }
  Bytes damaged(size_t c) {
    Bytes bytes = columns_[c];
    bytes[random_.number(0, bytes.size() - 1)] ^= 1;
    return bytes;
  }

  static constexpr size_t kPacket = 3 * 4096 + 700;
  Seeded random_;
  const std::shared_ptr<const ErasureCode> code_ = make_erasure_code(GetParam()).value();
  std::map<SiteId, SecretKey> keys_;
  std::vector<Bytes> columns_;
  pb::Stripe stripe_;
};

TEST_P(PacketsChallengeTest, AKeyThatIsNotAtHandIsReplacedByTheCodeword) {
  for (size_t c = 0; c < columns_.size(); ++c) {
    auto keys = keys_;
    keys.erase(c + 1);
    const ShardTags tags(keys);
    StripeChallenge good(tags, stripe_, 0);
    EXPECT_TRUE(good.combination_needed());
    ask(good, columns_);
    EXPECT_THAT(told(good), IsEmpty()) << c;
    StripeChallenge bad(tags, stripe_, 0);
    auto columns = columns_;
    columns[c] = damaged(c);
    ask(bad, columns);
    EXPECT_THAT(corrupt(bad), testing::ElementsAre(static_cast<int>(c)));
    EXPECT_EQ(bad.doubt(), "");
  }
}

TEST_P(PacketsChallengeTest, TagsAndCodewordCheckEachOther) {
  const ShardTags tags(keys_);
  StripeChallenge good(tags, stripe_, 0);
  EXPECT_FALSE(good.combination_needed());
  ask(good, columns_);
  EXPECT_THAT(corrupt(good), IsEmpty());
  EXPECT_EQ(good.doubt(), "");
  // A site that knows its key makes right tags for wrong bytes.
  columns_[1] = damaged(1);
  StripeChallenge forged(tags, stripe_, 0);
  ask(forged, columns_);
  EXPECT_THAT(corrupt(forged), IsEmpty());
  EXPECT_THAT(forged.doubt(), HasSubstr("without column 1"));
  const auto name = [](SiteId site) { return "site" + std::to_string(site); };
  EXPECT_THAT(forged.doubt_at(name), HasSubstr("; column 1 is at site2"));
  // Without an answer to the combination nothing is said about the codeword.
  StripeChallenge alone(tags, stripe_, 0);
  alone.finish();
  EXPECT_EQ(alone.doubt(), "");
  EXPECT_FALSE(alone.compared());
}

// As many missing as leave one answer too many: sound ones raise no doubt, forged ones do.
TEST_P(PacketsChallengeTest, MissingColumnsRaiseNoDoubt) {
  const ShardTags tags(keys_);
  const int n = code_->n(), spare = code_->guaranteed_tolerance();
  for (int lost = 1; lost <= spare; ++lost) {
    ColumnSet away = 0;
    while (__builtin_popcount(away) < lost) away |= ColumnSet{1} << random_.number(0, n - 1);
    const ColumnSet there = ((ColumnSet{1} << n) - 1) & ~away;
    StripeChallenge good(tags, stripe_, 0);
    const bool enough = good.comparable(there);
    EXPECT_TRUE(enough || lost == spare);
    ask(good, columns_, away);
    EXPECT_EQ(good.faults().size(), static_cast<size_t>(lost));
    EXPECT_EQ(good.doubt(), "");
    EXPECT_EQ(good.compared(), enough);
    // Tagged with the right key by its site: seen where the others tell what it should be, which in
    // a code that is not MDS need not be so for every column.
    size_t c = 0;
    while (c < static_cast<size_t>(n) &&
           (!contains(there, static_cast<int>(c)) ||
            (enough && !decodes(*code_, there & ~(ColumnSet{1} << c))))) {
      ++c;
    }
    ASSERT_LT(c, static_cast<size_t>(n));
    const Bytes sound = std::exchange(columns_[c], damaged(c));
    StripeChallenge forged(tags, stripe_, 0);
    ask(forged, columns_, away);
    EXPECT_EQ(forged.doubt() != "", enough) << forged.doubt();
    EXPECT_EQ(forged.faults().size(), static_cast<size_t>(lost));
    columns_[c] = sound;
  }
}

// Blocks that were not sampled for the proofs, and are in the combination.
TEST_P(PacketsChallengeTest, WhatSamplesLeaveOutIsDamage) {
  const ShardTags tags(keys_);
  columns_[1] = damaged(1);
  StripeChallenge sampled(tags, stripe_, 1);
  ask(sampled, columns_);
  EXPECT_THAT(corrupt(sampled), testing::ElementsAre(1));
  EXPECT_EQ(sampled.doubt(), "");
}

// Of a shard above 1 MiB a forged byte is seen when its place is chosen.
TEST_P(PacketsChallengeTest, PartOfALargeShardFindsItsShareOfForgeries) {
  if (code_->n() > 8) GTEST_SKIP() << "the same with more columns";
  const auto packets = static_cast<size_t>(code_->packets());
  const size_t places = 256 / packets, stored = 2 * places;
  const size_t packet = stored * 4096;
  const auto k = static_cast<size_t>(code_->k());
  for (size_t c = 0; c < columns_.size(); ++c) {
    columns_[c] = c == 0 ? random_.bytes(packets * packet) : Bytes(packets * packet);
    stripe_.mutable_shards(static_cast<int>(c))->set_bytes(static_cast<uint32_t>(packets * packet));
  }
  std::vector<MutableByteView> parity(columns_.begin() + static_cast<long>(k), columns_.end());
  code_->encode({columns_.begin(), columns_.begin() + static_cast<long>(k)}, parity);
  stripe_.set_parity_bytes(static_cast<uint32_t>(packets * packet));
  columns_[1] = damaged(1);
  const ShardTags tags(keys_);
  constexpr int kRounds = 30;
  int caught = 0;
  for (int round = 0; round < kRounds; ++round) {
    StripeChallenge challenge(tags, stripe_, 0);
    ask(challenge, columns_);
    EXPECT_THAT(told(challenge), IsEmpty());
    caught += challenge.doubt() != "";
  }
  EXPECT_GE(caught, 2) << "half of 30; fewer than 2, or more than 28, once in 17 million rounds";
  EXPECT_LE(caught, 28);
}

// 256 ranges are at most 1 MiB: of longer shards some places are taken, and they are all there.
TEST_P(PacketsChallengeTest, PlacesAreTheSameInEveryPacket) {
  const size_t packets = static_cast<size_t>(code_->packets());
  const uint64_t packet = (1 << 20) + 20;
  stripe_.set_parity_bytes(static_cast<uint32_t>(packets * packet));
  const ShardTags none;
  const StripeChallenge challenge(none, stripe_, 0);
  ASSERT_TRUE(challenge.combination());
  const auto& ranges = challenge.combination()->ranges;
  EXPECT_EQ(fault_of(*challenge.combination()), nullptr);
  ASSERT_EQ(ranges.size(), 256 / packets * packets);
  const size_t places = ranges.size() / packets;
  for (size_t i = 0; i < ranges.size(); ++i) {
    EXPECT_EQ(ranges[i].length, 4096u);
    EXPECT_EQ(ranges[i].offset, ranges[i % places].offset + i / places * packet);
    EXPECT_LE(ranges[i % places].offset + 4096, packet);
  }
}

INSTANTIATE_TEST_SUITE_P(Codes, PacketsChallengeTest,
                         testing::Values("basic-4-8", "basic-6-12", "msr-5-3", "msr-8-4"),
                         [](const auto& info) {
                           std::string name = info.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace datacloud
