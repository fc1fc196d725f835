// Audit tags: known answers of an independent implementation, kernels, forgery, deltas, codewords.
#include "common/tags/audit_tag.h"

#include <gtest/gtest.h>
#include <openssl/sha.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <map>
#include <sstream>

#include "common/base/hex.h"
#include "common/tags/audit_kernels.h"
#include "common/tags/tag_sums.h"
#include "tests/support/seeded.h"

namespace datacloud {
namespace {

std::string numbered(std::string stem, uint64_t i) { return stem.append(std::to_string(i)); }

std::string sha256(ByteView bytes) {
  std::array<uint8_t, SHA256_DIGEST_LENGTH> digest;
  SHA256(bytes.data(), bytes.size(), digest.data());
  return to_hex(digest);
}

std::map<std::string, std::string> golden() {
  std::map<std::string, std::string> answers;
  std::ifstream in(DATACLOUD_SOURCE_DIR "/tests/common/tags/audit_golden.txt");
  for (std::string line; std::getline(in, line);) {
    const auto space = line.find(' ');
    answers[line.substr(0, space)] = line.substr(space + 1);
  }
  return answers;
}

SecretKey service_key() {
  Bytes bytes;
  for (uint8_t i = 0; i < 32; ++i) bytes.push_back(i);
  return SecretKey(bytes);
}

SecretKey audit_key() {
  return derive_audit_key(service_key(), "00112233-4455-6677-8899-aabbccddeeff", 3);
}

SecretKey random_key(Seeded& random) { return SecretKey(random.bytes(32)); }

Bytes worked_data() {
  Bytes data(10000);
  for (size_t i = 0; i < data.size(); ++i) data[i] = static_cast<uint8_t>(7 * i * i + 3 * i + 5);
  return data;
}

AuditChallenge worked_challenge(uint64_t total, uint64_t samples) {
  AuditChallenge challenge{{}, total, samples};
  for (uint8_t i = 0; i < 32; ++i) challenge.seed[i] = static_cast<uint8_t>(100 + i);
  return challenge;
}

FieldElement random_element(Seeded& random) { return field_element(random.bytes(16)); }

// What an honest site answers.
AuditProof honest(const AuditChallenge& challenge, ByteView data, ByteView tags) {
  AuditResponse response(challenge);
  for (const auto& run : challenged_blocks(challenge, audit_blocks_of(data.size()))) {
    const ByteView from = data.subspan(run.first * kAuditBlockBytes);
    response.add(run, from.first(std::min(from.size(), run.count * kAuditBlockBytes)),
                 tags.subspan(run.first * kFieldBytes, run.count * kFieldBytes));
  }
  AuditProof proof;
  proof.mu = response.mu();
  proof.tag = response.tag();
  return proof;
}

// ctest runs the known answers once for every set of kernels there is.
TEST(AuditTag, KnownAnswers) {
  if (const char* wanted = std::getenv("DATACLOUD_AUDIT_KERNELS")) {
    const auto& usable = usable_audit_kernels();
    const bool can = std::any_of(usable.begin(), usable.end(), [&](const auto* kernels) {
      return std::string(kernels->name) == wanted;
    });
    if (!can) GTEST_SKIP() << "this processor has no " << wanted;
    ASSERT_STREQ(usable.front()->name, wanted);
  }
  auto expected = golden();
  const auto check = [&](const std::string& name, const std::string& value) {
    ASSERT_TRUE(expected.count(name)) << name;
    EXPECT_EQ(expected[name], value) << name;
    expected.erase(name);
  };
  const auto element = [](unsigned n) {
    FieldElement e;
    for (unsigned i = 0; i < 16; ++i) e[i] = static_cast<uint8_t>(n * 37 + i * (2 * n + 11) + 5);
    return e;
  };
  for (unsigned i = 0; i < 4; ++i) {
    check(numbered("product-", i), to_hex(field_multiply(element(i), element(i + 7))));
  }
  FieldElement last{};
  last[15] = 1;
  check("square-of-last", to_hex(field_multiply(last, last)));

  check("audit-key", to_hex(audit_key().view()));
  const AuditTagger tagger(audit_key());
  check("prf-first", to_hex(tagger.prf({1, 0}, {0, 1}, 1)));
  check("prf-second", to_hex(tagger.prf({kStripeIdMax, 31}, {1023, 1}, UINT64_MAX)));
  const Bytes data = worked_data();
  const Bytes tags = tagger.tags({9, 2}, 77, data);
  ASSERT_EQ(tags.size(), 48u);
  for (size_t i = 0; i < 3; ++i) {
    check(numbered("tag-", i), to_hex(ByteView(tags).subspan(16 * i, 16)));
  }
  Bytes one(1, 1);
  check("tag-first-element", to_hex(tagger.tags({9, 2}, 77, one)));
  one.insert(one.begin(), 255 * 16, 0);
  check("tag-last-element", to_hex(tagger.tags({9, 2}, 77, one)));

  const auto indices = [](const AuditChallenge& challenge) {
    std::vector<uint32_t> out;
    for (const auto& run : challenged_blocks(challenge, challenge.blocks_total)) {
      for (uint64_t i = 0; i < run.count; ++i) out.push_back(uint32_t(run.first + i));
    }
    return out;
  };
  std::string few;
  for (const auto i : indices(worked_challenge(10, 4))) {
    if (!few.empty()) few.push_back(' ');
    few.append(std::to_string(i));
  }
  check("samples-10-4", few);
  Bytes many;
  for (const auto i : indices(worked_challenge(1024, 460))) {
    for (int b = 0; b < 4; ++b) many.push_back(static_cast<uint8_t>(i >> (8 * b)));
  }
  check("samples-1024-460-sha256", sha256(many));
  check("nu-0", to_hex(challenge_coefficients(worked_challenge(10, 4), {0, 1})[0]));
  check("nu-9", to_hex(challenge_coefficients(worked_challenge(10, 4), {2, 8})[7]));
  for (const auto& [total, samples] : {std::pair<int, int>{3, 0}, {6, 3}}) {
    const auto proof = honest(worked_challenge(total, samples), data, tags);
    const auto suffix = numbered(numbered("", total) + "-", samples);
    check("mu-" + suffix + "-start", to_hex(ByteView(proof.mu).first(32)));
    check("mu-" + suffix + "-sha256", sha256(proof.mu));
    check("sigma-" + suffix, to_hex(proof.tag));
  }
  const auto deltas =
      tagger.tag_deltas({9, 2}, {{0, 77}}, 78, 10000, 10000, {{4050, Bytes(100, 0xa5)}});
  ASSERT_EQ(deltas.size(), 1u) << "neighbours are one range";
  EXPECT_EQ(deltas[0].offset, 0u);
  check("delta-0", to_hex(ByteView(deltas[0].bytes).first(16)));
  check("delta-1", to_hex(ByteView(deltas[0].bytes).subspan(16)));
  EXPECT_TRUE(expected.empty()) << expected.begin()->first << " is not compared";
}

TEST(AuditField, IsAFieldOverTheCodesField) {
  Seeded random;
  FieldElement one{};
  one[0] = 1;
  for (int i = 0; i < 200; ++i) {
    const auto a = random_element(random), b = random_element(random), c = random_element(random);
    EXPECT_EQ(field_multiply(a, b), field_multiply(b, a));
    EXPECT_EQ(field_multiply(a, field_multiply(b, c)), field_multiply(field_multiply(a, b), c));
    EXPECT_EQ(field_multiply(a, field_add(b, c)),
              field_add(field_multiply(a, b), field_multiply(a, c)));
    EXPECT_EQ(field_multiply(a, one), a);
    // Bytes act byte by byte: what the erasure code does commutes with every sum of elements.
    FieldElement byte{}, scaled;
    byte[0] = static_cast<uint8_t>(random.number(0, 255));
    for (size_t j = 0; j < 16; ++j) scaled[j] = gf256_multiply(byte[0], a[j]);
    EXPECT_EQ(field_multiply(byte, a), scaled);
  }
}

TEST(AuditKernels, AllComputeTheSame) {
  Seeded random;
  ASSERT_FALSE(usable_audit_kernels().empty());
  for (const auto* kernels : usable_audit_kernels()) {
    SCOPED_TRACE(kernels->name);
    const auto alpha = random_element(random);
    const FieldPolynomial polynomial(alpha, kernels), plain(alpha, &kPortableAuditKernels);
    for (const size_t bytes : {0, 1, 15, 16, 4095, 4096, 4097, 40960, 300001}) {
      const Bytes data = random.bytes(bytes);
      Bytes a(16 * audit_blocks_of(bytes)), b(a.size());
      polynomial.evaluate(data, a);
      plain.evaluate(data, b);
      EXPECT_TRUE(a == b) << bytes;
    }
    for (const size_t outputs : {1, 2, 3, 4, 5, 8, 11, 16}) {
      for (const size_t length : {1, 16, 31, 64, 100, 4096, 5001}) {
        const size_t sources = random.number(1, 70);
        const Bytes coefficients = random.bytes(outputs * sources);
        std::vector<Bytes> in, first(outputs, random.bytes(length)), second = first;
        for (size_t i = 0; i < sources; ++i) in.push_back(random.bytes(length));
        std::vector<const uint8_t*> from;
        for (const auto& source : in) from.push_back(source.data());
        std::vector<uint8_t*> to, plain_to;
        for (auto& out : first) to.push_back(out.data());
        for (auto& out : second) plain_to.push_back(out.data());
        kernels->combine(coefficients.data(), outputs, sources, from.data(), to.data(), length);
        kPortableAuditKernels.combine(coefficients.data(), outputs, sources, from.data(),
                                      plain_to.data(), length);
        EXPECT_TRUE(first == second) << outputs << " outputs of " << length << " bytes";
      }
    }
    for (const size_t elements : {1, 3, 4, 256}) {
      Bytes components = random.bytes(16 * 16 * elements), copy = components;
      Bytes a(16 * elements), b(16 * elements);
      kernels->sum(components.data(), 16 * elements, elements, a.data());
      sum_components(copy.data(), 16 * elements, elements, b.data());
      EXPECT_TRUE(a == b) << elements;
    }
  }
}

// The portable kernels against the definition.
TEST(AuditKernels, PortableIsTheDefinition) {
  Seeded random;
  const auto alpha = random_element(random);
  const Bytes block = random.bytes(4096);
  FieldElement sum{}, power = alpha;
  for (size_t c = 0; c < 256; ++c, power = field_multiply(power, alpha)) {
    sum = field_add(sum, field_multiply(power, field_element(ByteView(block).subspan(16 * c))));
  }
  EXPECT_EQ(FieldPolynomial(alpha, &kPortableAuditKernels).evaluate(ByteView(block)), sum);

  Bytes components = random.bytes(16 * 32), expected(32), out(32);
  for (size_t j = 0; j < 16; ++j) {
    FieldElement basis{};
    basis[j] = 1;
    for (size_t e = 0; e < 2; ++e) {
      const auto product =
          field_multiply(basis, field_element(ByteView(components).subspan(j * 32 + e * 16)));
      for (size_t b = 0; b < 16; ++b) expected[16 * e + b] ^= product[b];
    }
  }
  sum_components(components.data(), 32, 2, out.data());
  EXPECT_EQ(out, expected);
}

TEST(AuditTag, PartsMakeNoDifference) {
  Seeded random;
  const AuditTagger tagger(random_key(random));
  for (int round = 0; round < 100; ++round) {
    const Bytes data = random.bytes(random.number(0, 50'000));
    std::vector<ByteView> parts;
    for (ByteView rest(data); !rest.empty();) {
      const size_t n = random.number(0, std::min<size_t>(rest.size(), round % 2 ? 20'000 : 500));
      parts.push_back(rest.first(n));
      rest = rest.subspan(n);
    }
    EXPECT_EQ(tagger.tags({1, 2}, 3, parts), tagger.tags({1, 2}, 3, data)) << round;
  }
}

TEST(AuditTag, BlocksVerifyAndNothingElseDoes) {
  Seeded random;
  const AuditTagger tagger(random_key(random)), other(random_key(random));
  const Bytes data = random.bytes(2 * 4096 + 100);
  const Bytes tags = tagger.tags({5, 1}, 9, data);
  const auto block = [&](size_t i) {
    return ByteView(data).subspan(4096 * i, std::min<size_t>(4096, data.size() - 4096 * i));
  };
  const auto tag = [&](size_t i) { return field_element(ByteView(tags).subspan(16 * i)); };
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_TRUE(tagger.verify_block({5, 1}, i, 9, block(i), tag(i)));
    EXPECT_FALSE(other.verify_block({5, 1}, i, 9, block(i), tag(i)));
    EXPECT_FALSE(tagger.verify_block({6, 1}, i, 9, block(i), tag(i)));
    EXPECT_FALSE(tagger.verify_block({5, 0}, i, 9, block(i), tag(i)));
    EXPECT_FALSE(tagger.verify_block({5, 1}, i + 1, 9, block(i), tag(i)));
    EXPECT_FALSE(tagger.verify_block({5, 1}, i, 8, block(i), tag(i)));
  }
  EXPECT_FALSE(tagger.verify_block({5, 1}, 0, 9, block(1), tag(1))) << "swapped blocks";
  EXPECT_TRUE(tagger.failing_blocks({5, 1}, {{0, 9}}, {0, 3}, data, tags).empty());
  Bytes damaged = data;
  damaged[4096 + 5] ^= 1;
  EXPECT_EQ(tagger.failing_blocks({5, 1}, {{0, 9}}, {0, 3}, damaged, tags),
            (std::vector<uint64_t>{1}));
  EXPECT_EQ(tagger.failing_blocks({5, 1}, {{0, 9}, {2, 10}}, {0, 3}, data, tags),
            (std::vector<uint64_t>{2}));
  EXPECT_EQ(tagger.failing_blocks({5, 1}, {{0, 9}}, {0, 3}, ByteView(data).first(4096), tags),
            (std::vector<uint64_t>{1, 2}))
      << "what is not there fails";
}

// A site that changes one element and adds the same to the tag, to hide it: with a coefficient of
// alpha^0 = 1 it would pass for the first element.
TEST(AuditTag, ForgingAnySingleElementFails) {
  Seeded random;
  const AuditTagger tagger(random_key(random));
  const Bytes data = random.bytes(4096);
  const Bytes tags = tagger.tags({5, 1}, 9, data);
  const ShardFacts facts{{5, 1}, 9, 4096, {{0, 9}}};
  for (size_t c = 0; c < 256; ++c) {
    const auto delta = random_element(random);
    Bytes forged = data, forged_tags = tags;
    for (size_t b = 0; b < 16; ++b) {
      forged[16 * c + b] ^= delta[b];
      forged_tags[b] ^= delta[b];
    }
    EXPECT_FALSE(tagger.verify_block({5, 1}, 0, 9, forged, field_element(forged_tags))) << c;
    const auto challenge = random_challenge(1, 0);
    EXPECT_TRUE(tagger.verify(facts, challenge, honest(challenge, data, tags)));
    EXPECT_FALSE(tagger.verify(facts, challenge, honest(challenge, forged, tags))) << c;
    EXPECT_FALSE(tagger.verify(facts, challenge, honest(challenge, forged, forged_tags))) << c;
  }
}

TEST(AuditChallenge, SamplesAreDistinctAndCoverEverything) {
  Seeded random;
  std::vector<int> hits(50);
  constexpr int kRounds = 4000;
  for (int round = 0; round < kRounds; ++round) {
    AuditChallenge challenge{{}, 50, 10};
    const Bytes seed = random.bytes(32);
    std::copy(seed.begin(), seed.end(), challenge.seed.begin());
    uint64_t count = 0, next = 0;
    for (const auto& run : challenged_blocks(challenge, 50)) {
      EXPECT_GE(run.first, next);
      next = run.first + run.count + 1;  // runs do not touch
      count += run.count;
      for (uint64_t i = 0; i < run.count; ++i) ++hits[run.first + i];
    }
    EXPECT_EQ(count, 10u);
  }
  for (const int n : hits) EXPECT_NEAR(n, kRounds / 5, 160) << "six standard deviations";
  const AuditChallenge some{{}, 50, 10};
  uint64_t below = 0, all = 0;
  for (const auto& run : challenged_blocks(some, 50)) {
    for (uint64_t i = 0; i < run.count; ++i) below += run.first + i < 20;
  }
  for (const auto& run : challenged_blocks(some, 20)) all += run.count;
  EXPECT_EQ(all, below) << "a shorter shard is asked for the same blocks as far as it goes";
}

TEST(AuditProof, HonestSitesPassWhateverTheVersions) {
  Seeded random;
  const AuditTagger tagger(random_key(random));
  for (int round = 0; round < 60; ++round) {
    ShardFacts facts{{random.number(1, 1000), 3}, 100, random.number(1, 150'000), {{0, 100}}};
    Bytes data = random.bytes(facts.bytes);
    Bytes tags = tagger.tags(facts.column, facts.instance, data);
    // Some derivations, of which some make it longer.
    for (uint64_t step = random.number(0, 5); step > 0; --step) {
      std::vector<XorRange> difference;
      const uint64_t longer = facts.bytes + random.number(0, 1) * random.number(0, 20'000);
      for (uint64_t i = random.number(0, 4); i > 0; --i) {
        const uint64_t offset = random.number(0, longer - 1);
        difference.push_back(
            {offset, random.bytes(random.number(0, std::min<uint64_t>(longer - offset, 9000)))});
      }
      const InstanceId instance = facts.instance + random.number(1, 3);
      const auto deltas = tagger.tag_deltas(facts.column, facts.versions, instance, facts.bytes,
                                            longer, difference);
      data.resize(longer);
      tags.resize(16 * audit_blocks_of(longer));
      std::vector<uint64_t> blocks;
      for (const auto& range : difference) {
        for (size_t i = 0; i < range.bytes.size(); ++i) data[range.offset + i] ^= range.bytes[i];
      }
      for (const auto& range : deltas) {
        for (size_t i = 0; i < range.bytes.size(); ++i) tags[range.offset + i] ^= range.bytes[i];
        for (uint64_t i = 0; i < range.bytes.size(); i += 16) {
          blocks.push_back((range.offset + i) / 16);
        }
      }
      facts.versions = rewritten(facts.versions, blocks, audit_blocks_of(longer), instance);
      facts.instance = instance;
      facts.bytes = longer;
    }
    const uint64_t blocks = audit_blocks_of(facts.bytes);
    EXPECT_TRUE(
        tagger.failing_blocks(facts.column, facts.versions, {0, blocks}, data, tags).empty());
    for (const uint64_t samples : {uint64_t{0}, uint64_t{1}, blocks / 2}) {
      const auto challenge = random_challenge(blocks + random.number(0, 5), samples);
      auto proof = honest(challenge, data, tags);
      EXPECT_TRUE(tagger.verify(facts, challenge, proof)) << round;
      if (challenged_blocks(challenge, blocks).empty()) continue;
      EXPECT_FALSE(tagger.verify(facts, random_challenge(blocks, 0), proof)) << "replayed";
      proof.mu[random.number(0, 4095)] ^= 1;
      EXPECT_FALSE(tagger.verify(facts, challenge, proof));
    }
  }
}

TEST(AuditProof, LiesAreFound) {
  Seeded random;
  const AuditTagger tagger(random_key(random));
  const ShardFacts facts{{7, 2}, 20, 10 * 4096, {{0, 20}}};
  const Bytes data = random.bytes(facts.bytes);
  const Bytes tags = tagger.tags(facts.column, 20, data);
  const Bytes old = random.bytes(facts.bytes);
  const Bytes old_tags = tagger.tags(facts.column, 19, old);
  const auto challenge = random_challenge(10, 0);
  const auto passes = [&](ByteView d, ByteView t) {
    return tagger.verify(facts, challenge, honest(challenge, d, t));
  };
  ASSERT_TRUE(passes(data, tags));
  EXPECT_FALSE(passes(old, old_tags)) << "an older instance with its own tags";
  EXPECT_FALSE(passes(old, tags));
  EXPECT_FALSE(passes(ByteView(data).first(9 * 4096), ByteView(tags).first(9 * 16))) << "cut short";
  Bytes shifted = data;
  for (auto& byte : shifted) byte ^= 0x11;
  EXPECT_FALSE(passes(shifted, tags)) << "all shifted by a constant";
  Bytes swapped = data, swapped_tags = tags;
  std::swap_ranges(swapped.begin(), swapped.begin() + 4096, swapped.begin() + 4096);
  EXPECT_FALSE(passes(swapped, tags));
  std::swap_ranges(swapped_tags.begin(), swapped_tags.begin() + 16, swapped_tags.begin() + 16);
  EXPECT_FALSE(passes(swapped, swapped_tags)) << "blocks swapped with their tags";
  AuditProof nothing;
  EXPECT_FALSE(tagger.verify(facts, challenge, nothing));
  nothing.mu = Bytes(4096);
  EXPECT_FALSE(tagger.verify(facts, challenge, nothing));
}

TEST(AuditVersions, AreRunsThatJoin) {
  const BlockVersions one{{0, 5}};
  EXPECT_EQ(rewritten(one, {}, 10, 6), one);
  EXPECT_EQ(rewritten(one, {3, 2, 3}, 10, 6), (BlockVersions{{0, 5}, {2, 6}, {4, 5}}));
  EXPECT_EQ(rewritten(one, {9, 10, 99}, 10, 6), (BlockVersions{{0, 5}, {9, 6}}));
  EXPECT_EQ(rewritten({{0, 5}, {2, 6}, {4, 5}}, {2, 3}, 10, 5), one);
  EXPECT_EQ(rewritten({}, {0, 1}, 2, 6), (BlockVersions{{0, 6}}));
  const BlockVersions runs{{0, 5}, {2, 6}, {4, 7}};
  EXPECT_EQ(version_of(runs, 1), 5u);
  EXPECT_EQ(version_of(runs, 2), 6u);
  EXPECT_EQ(version_of(runs, 400), 7u);
  EXPECT_EQ(version_of({}, 0), 0u);
}

// Answers of all columns under one challenge, keyless.
TEST(AuditCodeword, FindsTheColumnThatLies) {
  Seeded random;
  for (const std::string profile : {"rs-2-1", "rs-3-2", "rs-6-3", "rs-10-4"}) {
    const auto code = make_erasure_code(profile).value();
    const size_t length = 5 * 4096 + 70;
    std::vector<Bytes> shards;
    std::vector<ByteView> data;
    std::vector<MutableByteView> parity;
    for (int c = 0; c < code->n(); ++c) {
      shards.push_back(random.bytes(length));
      if (c == 0 && code->k() > 1) std::fill(shards[0].begin() + 4096, shards[0].end(), 0);
    }
    for (int c = 0; c < code->n(); ++c) {
      if (c < code->k()) {
        data.push_back(shards[static_cast<size_t>(c)]);
      } else {
        parity.push_back(shards[static_cast<size_t>(c)]);
      }
    }
    code->encode(data, parity);
    if (code->k() > 1) shards[0].resize(4096);  // stored as long as it is used
    const auto challenge = random_challenge(6, 4);
    const auto answers = [&] {
      std::vector<Bytes> mus;
      for (const auto& shard : shards) mus.push_back(honest(challenge, shard, Bytes(96)).mu);
      return mus;
    };
    auto mus = answers();
    const ColumnSet all = (ColumnSet{1} << code->n()) - 1;
    EXPECT_EQ(columns_in_error(*code, all, mus), std::optional<ColumnSet>(0)) << profile;
    for (int c = 0; c < code->n(); ++c) {
      auto wrong = mus;
      wrong[static_cast<size_t>(c)][random.number(0, 4095)] ^= 1;
      const auto found = columns_in_error(*code, all, wrong);
      if (code->m() == 1) {
        EXPECT_EQ(found, std::nullopt) << "noticed, not located";
      } else {
        EXPECT_EQ(found, std::optional<ColumnSet>(ColumnSet{1} << c)) << profile << " " << c;
      }
      EXPECT_EQ(columns_in_error(*code, all & ~(ColumnSet{1} << c), wrong),
                std::optional<ColumnSet>(0));
    }
    if (code->m() < 4) continue;
    auto wrong = mus;
    wrong[1][0] ^= 1;
    wrong[12][9] ^= 1;
    EXPECT_EQ(columns_in_error(*code, all, wrong),
              std::optional<ColumnSet>(ColumnSet{1} << 1 | ColumnSet{1} << 12));
  }
}

// The same for codes of several packets, whose answers are combinations of packets, side by side.
TEST(AuditCodeword, FindsTheColumnThatLiesInCodesOfSeveralPackets) {
  Seeded random;
  for (const std::string profile :
       {"basic-4-8", "basic-6-12", "basic-8-16", "msr-5-3", "msr-8-4"}) {
    const auto code = make_erasure_code(profile).value();
    const auto n = static_cast<size_t>(code->n()), k = static_cast<size_t>(code->k());
    std::vector<Bytes> answers;
    for (size_t c = 0; c < n; ++c) {
      answers.push_back(random.bytes(4096 * static_cast<size_t>(code->packets())));
    }
    std::vector<MutableByteView> parity(answers.begin() + static_cast<long>(k), answers.end());
    code->encode({answers.begin(), answers.begin() + static_cast<long>(k)}, parity);
    const ColumnSet all = static_cast<ColumnSet>((uint64_t{1} << n) - 1);
    EXPECT_EQ(columns_in_error(*code, all, answers), std::optional<ColumnSet>(0)) << profile;
    const auto damage = [&](std::vector<Bytes>& of, size_t c) {
      of[c][random.number(0, of[c].size() - 1)] ^= 1;
      return ColumnSet{1} << c;
    };
    for (size_t c = 0; c < n; ++c) {
      auto wrong = answers;
      const ColumnSet bad = damage(wrong, c);
      EXPECT_EQ(columns_in_error(*code, all, wrong), std::optional(bad)) << profile << " " << c;
      EXPECT_EQ(columns_in_error(*code, all & ~bad, wrong), std::optional<ColumnSet>(0));
      // With one answer less than that takes, it is noticed and not located.
      ColumnSet few = all;
      for (size_t lost = 0;
           few == all || __builtin_popcount(all & ~few) + 1 < code->guaranteed_tolerance();
           ++lost) {
        if (lost != c) few &= ~(ColumnSet{1} << lost);
      }
      EXPECT_EQ(columns_in_error(*code, few, wrong), std::nullopt) << profile << " " << c;
    }
    if (code->guaranteed_tolerance() < 4) continue;
    for (int round = 0; round < 20; ++round) {
      auto wrong = answers;
      const size_t first = random.number(0, n - 2);
      const ColumnSet bad = damage(wrong, first) | damage(wrong, random.number(first + 1, n - 1));
      EXPECT_EQ(columns_in_error(*code, all, wrong), std::optional(bad)) << profile;
    }
  }
}

// Bytes given in any pieces, from any memory, give the tags of the whole.
TEST(TagSums, PiecesGiveTheTagsOfTheWhole) {
  Seeded random;
  const AuditTagger tagger(audit_key());
  for (int round = 0; round < 60; ++round) {
    const Bytes shard = random.bytes(random.number(0, round % 2 ? 400'000 : 9000));
    const uint64_t piece_max = random.number(1, round % 3 ? 100'000 : 5000);
    TagSums sums(&tagger);
    std::vector<std::unique_ptr<Bytes>> elsewhere;
    for (size_t at = 0; at < shard.size();) {
      const auto piece = ByteView(shard).subspan(at).first(
          std::min<uint64_t>(shard.size() - at, random.number(1, piece_max)));
      at += piece.size();
      if (random.number(0, 2) == 0) {
        elsewhere.push_back(std::make_unique<Bytes>(to_bytes(piece)));
        sums.add(*elsewhere.back());
      } else {
        sums.add(piece);
      }
    }
    EXPECT_EQ(sums.bytes(), shard.size());
    EXPECT_EQ(tagger.tags_of_sums({9, 2}, 77, sums.finish()), tagger.tags({9, 2}, 77, shard));
    // By the definition: block by block.
    if (shard.empty()) continue;
    const uint64_t block = random.number(0, audit_blocks_of(shard.size()) - 1);
    const auto from = ByteView(shard).subspan(block * 4096);
    const Bytes tags = tagger.tags({9, 2}, 77, shard);
    EXPECT_TRUE(tagger.verify_block({9, 2}, block, 77,
                                    from.first(std::min<size_t>(4096, from.size())),
                                    field_element(ByteView(tags).subspan(block * 16))));
  }
  TagSums none(nullptr);
  none.add(Bytes(100));
  EXPECT_EQ(none.bytes(), 0u);
}

TEST(AuditSampling, ChancesAreTheFormula) {
  EXPECT_DOUBLE_EQ(detection_probability(10, 1, 1), 0.1);
  EXPECT_DOUBLE_EQ(detection_probability(10, 2, 3), 1 - 56.0 / 120);  // C(8,3) / C(10,3)
  EXPECT_DOUBLE_EQ(detection_probability(10, 10, 1), 1);
  EXPECT_DOUBLE_EQ(detection_probability(10, 0, 10), 0);
  EXPECT_DOUBLE_EQ(detection_probability(10, 1, 10), 1);
  EXPECT_NEAR(detection_probability(1'000'000, 10'000, 460), 0.9902, 0.0002);
  EXPECT_EQ(samples_to_detect(10, 1, 0.0999), 1u);
  EXPECT_EQ(samples_to_detect(10, 1, 1), 10u);
  const auto r = samples_to_detect(1'000'000, 10'000, 0.99);
  EXPECT_NEAR(static_cast<double>(r), 459, 1);
}

}  // namespace
}  // namespace datacloud
