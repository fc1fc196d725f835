// What an auditor can learn: with as many challenges as there are blocks the answers add up to
// exactly the bytes that the site holds, and those are ciphertext. There is nothing else in them:
// answers are computed from the stored bytes and the seed alone, and the tags' part from those
// bytes and the audit keys.
#include <gtest/gtest.h>

#include <algorithm>

#include "common/audit/audit_bundle.h"
#include "common/audit/shard_tags.h"
#include "common/crypto/sealed_block.h"
#include "common/store/object_compute.h"
#include "common/tags/audit_tag.h"
#include "tests/support/seeded.h"

namespace datacloud {
namespace {

constexpr size_t kBlocks = 6;

// a^(2^128 - 2).
FieldElement inverse(const FieldElement& a) {
  FieldElement result{1}, power = a;
  for (int bit = 1; bit < 128; ++bit) {
    power = field_multiply(power, power);
    result = field_multiply(result, power);
  }
  return result;
}

using Row = std::vector<FieldElement>;

// Solves rows * blocks = answers (elements along each row) by elimination; false: singular.
bool solve(std::vector<Row>& rows, std::vector<Row>& answers) {
  const size_t n = rows.size();
  const auto add_scaled = [](Row& to, const Row& from, const FieldElement& by) {
    for (size_t i = 0; i < to.size(); ++i) to[i] = field_add(to[i], field_multiply(by, from[i]));
  };
  for (size_t i = 0; i < n; ++i) {
    size_t pivot = i;
    while (pivot < n && rows[pivot][i] == FieldElement{}) ++pivot;
    if (pivot == n) return false;
    std::swap(rows[i], rows[pivot]);
    std::swap(answers[i], answers[pivot]);
    const auto scale = inverse(rows[i][i]);
    for (auto* row : {&rows[i], &answers[i]}) {
      for (auto& element : *row) element = field_multiply(scale, element);
    }
    for (size_t j = 0; j < n; ++j) {
      if (j == i) continue;
      const auto factor = rows[j][i];
      add_scaled(rows[j], rows[i], factor);
      add_scaled(answers[j], answers[i], factor);
    }
  }
  return true;
}

Row elements_of(ByteView bytes) {
  Row row;
  for (size_t at = 0; at < bytes.size(); at += kFieldBytes) {
    row.push_back(field_element(bytes.subspan(at, kFieldBytes)));
  }
  return row;
}

class SecrecyTest : public testing::Test {
 protected:
  // A shard of sealed blocks that all hold the same, most regular plaintext.
  Bytes sealed_shard(const Bytes& plain) {
    const BlockSealer sealer(data_key_, "cloud");
    Bytes shard;
    for (uint64_t block = 0; block * plain.size() < kBlocks * kAuditBlockBytes; ++block) {
      const BlockAddress address{.inode = 3, .block = block, .version = block + 1};
      EXPECT_TRUE(sealer.seal(address, plain, Compression::none, shard));
    }
    shard.resize(kBlocks * kAuditBlockBytes);
    return shard;
  }
  // The site's answer: of the object and the challenge, nothing else goes in.
  static AuditProof answer(const AuditChallenge& challenge, const Bytes& data,
                           const Attributes& attributes) {
    const auto plan = plan_proof(challenge, data.size(), attributes).value();
    std::vector<Bytes> read;
    for (const auto& range : plan.ranges) {
      read.emplace_back(data.begin() + static_cast<std::ptrdiff_t>(range.offset),
                        data.begin() + static_cast<std::ptrdiff_t>(range.offset + range.length));
    }
    return plan.prove(read).value();
  }

  Seeded random_;
  const SecretKey data_key_{ByteView(random_.bytes(32))};
  const SecretKey service_key_{ByteView(random_.bytes(32))};
};

TEST_F(SecrecyTest, AnyNumberOfChallengesRevealsTheCiphertextAndNoMore) {
  const Bytes plain(4096, 'A');
  const Bytes shard = sealed_shard(plain);
  const AuditTagger tagger(derive_audit_key(service_key_, "cloud", 1));
  const Bytes tags = tagger.tags({7, 0}, 9, shard);
  const Attributes attributes = shard_attributes(9, tags);
  std::vector<Row> coefficients, mus, sigmas;
  std::vector<std::pair<AuditChallenge, AuditProof>> all;
  for (size_t i = 0; i < 40; ++i) {
    const auto challenge = random_challenge(kBlocks, 0);
    const auto proof = answer(challenge, shard, attributes);
    all.emplace_back(challenge, proof);
    if (i >= kBlocks) continue;
    coefficients.push_back(challenge_coefficients(challenge, {0, kBlocks}));
    mus.push_back(elements_of(proof.mu));
    sigmas.push_back({proof.tag});
  }
  auto again = coefficients;
  ASSERT_TRUE(solve(coefficients, mus));
  ASSERT_TRUE(solve(again, sigmas));
  Bytes learnt, learnt_tags;
  for (size_t block = 0; block < kBlocks; ++block) {
    for (const auto& e : mus[block]) learnt.insert(learnt.end(), e.begin(), e.end());
    learnt_tags.insert(learnt_tags.end(), sigmas[block][0].begin(), sigmas[block][0].end());
  }
  EXPECT_EQ(learnt, shard) << "exactly what the site holds";
  EXPECT_EQ(learnt_tags, tagger.tags({7, 0}, 9, learnt)) << "which the auditor computes himself";
  // All answers, also those to come, follow from the ciphertext and the audit key.
  for (const auto& [challenge, proof] : all) {
    const auto simulated =
        answer(challenge, learnt, shard_attributes(9, tagger.tags({7, 0}, 9, learnt)));
    EXPECT_EQ(simulated.mu, proof.mu);
    EXPECT_EQ(simulated.tag, proof.tag);
  }
  // And the ciphertext has nothing of the plaintext, nor do the answers.
  const Bytes run(plain.begin(), plain.begin() + 8);
  for (const Bytes* bytes : {&shard, static_cast<const Bytes*>(&all.front().second.mu)}) {
    EXPECT_EQ(std::search(bytes->begin(), bytes->end(), run.begin(), run.end()), bytes->end());
  }
  EXPECT_FALSE(BlockSealer(service_key_, "cloud")
                   .open({.inode = 3, .block = 0, .version = 1},
                         ByteView(shard).first(plain.size() + kSealedOverheadBytes)));
}

TEST_F(SecrecyTest, EqualPlaintextsHaveUnrelatedAnswers) {
  const Bytes plain(4096, 'A');
  const Bytes one = sealed_shard(plain), two = sealed_shard(plain);
  const AuditTagger tagger(derive_audit_key(service_key_, "cloud", 1));
  const auto challenge = random_challenge(kBlocks, 0);
  const auto first = answer(challenge, one, shard_attributes(9, tagger.tags({7, 0}, 9, one)));
  const auto second = answer(challenge, two, shard_attributes(10, tagger.tags({8, 0}, 10, two)));
  int equal = 0;
  for (size_t i = 0; i < kAuditBlockBytes; ++i) equal += first.mu[i] == second.mu[i];
  EXPECT_LT(equal, 60) << "as often as random bytes agree: 16 of 4096";
}

// A bundle's record is made of a stripe's record alone, and drops what tells of its contents.
TEST_F(SecrecyTest, ABundleHasNoKeysAndTellsNothingOfContents) {
  pb::Stripe stripe;
  stripe.set_id(7);
  stripe.set_code("rs-2-1");
  stripe.set_parity_bytes(9000);
  for (uint32_t slot = 0; slot < 5; ++slot) {
    stripe.add_slot_column(0);
    stripe.add_slot_offset(slot * 1234);
    stripe.add_slot_length(1234);
  }
  for (uint32_t c = 0; c < 3; ++c) {
    stripe.add_shards()->set_site(c + 1);
    stripe.mutable_shards(static_cast<int>(c))->set_instance(100 + c);
    stripe.mutable_shards(static_cast<int>(c))->set_bytes(9000);
  }
  const Bytes name_key = derive_name_key(service_key_, "cloud");
  const std::string record = audit_record(stripe, ShardNamer(name_key));
  pb::Stripe other = stripe;
  other.clear_slot_column();
  other.clear_slot_offset();
  other.clear_slot_length();
  EXPECT_EQ(record, audit_record(other, ShardNamer(name_key))) << "nothing of the slots is in it";
  for (const auto& key :
       {Bytes(data_key_.view().begin(), data_key_.view().end()),
        Bytes(service_key_.view().begin(), service_key_.view().end()), name_key}) {
    EXPECT_EQ(record.find(std::string(as_text(key))), std::string::npos);
  }
  // Audit keys lead to no other key: the derivation is one-way, and different for each site.
  EXPECT_NE(to_bytes(derive_audit_key(service_key_, "cloud", 1).view()),
            to_bytes(derive_audit_key(service_key_, "cloud", 2).view()));
}

}  // namespace
}  // namespace datacloud
