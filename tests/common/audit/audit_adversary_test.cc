// Sites that cheat, each against 10,000 challenges: how often they are caught is what the formula
// 1 - C(l-z, r) / C(l, r) says for r samples of l blocks of which z are bad, and always where it
// says so. The table is printed; docs/audit.md shows it.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "common/audit/shard_tags.h"
#include "common/tags/audit_tag.h"
#include "tests/support/seeded.h"
#include "tests/support/slowdown.h"

namespace datacloud {
namespace {

constexpr int kTrials = kSlowdown > 1 ? 100 : 10'000;

// What a site holds: the shard it should, until it cheats.
struct Held {
  Bytes data, tags;
};

class Adversary : public testing::Test {
 protected:
  Adversary() : tagger_(SecretKey(ByteView(random_.bytes(32)))) {}

  Held honest(const ShardFacts& facts) {
    Held held{random_.bytes(facts.bytes), {}};
    held.tags = tagger_.tags(facts.column, facts.instance, held.data);
    return held;
  }
  static ShardFacts facts_of(uint64_t blocks) {
    return {{77, 1}, 20, blocks * kAuditBlockBytes, {{0, 20}}};
  }
  AuditChallenge challenge(uint64_t blocks, uint64_t samples) {
    AuditChallenge c{{}, blocks, samples};
    const Bytes seed = random_.bytes(c.seed.size());
    std::copy(seed.begin(), seed.end(), c.seed.begin());
    return c;
  }
  static AuditProof answer(const AuditChallenge& challenge, const Held& held) {
    AuditResponse response(challenge);
    for (const auto& run : challenged_blocks(challenge, held.data.size() / kAuditBlockBytes)) {
      response.add(
          run,
          ByteView(held.data).subspan(run.first * kAuditBlockBytes, run.count * kAuditBlockBytes),
          ByteView(held.tags).subspan(run.first * kFieldBytes, run.count * kFieldBytes));
    }
    AuditProof proof;
    proof.mu = response.mu();
    proof.tag = response.tag();
    return proof;
  }
  uint64_t block() { return random_.number(0, blocks_ - 1); }
  static uint8_t* at(Bytes& bytes, uint64_t block, size_t unit) {
    return bytes.data() + block * unit;
  }
  static void swap_blocks(Bytes& bytes, uint64_t a, uint64_t b, size_t unit) {
    std::swap_ranges(at(bytes, a, unit), at(bytes, a, unit) + unit, at(bytes, b, unit));
  }

  // Counts how often `caught` is true; compares with the formula for `bad` blocks.
  void row(const char* name, uint64_t blocks, uint64_t bad, uint64_t samples,
           const std::function<bool()>& caught) {
    int found = 0;
    for (int trial = 0; trial < kTrials; ++trial) found += caught();
    const double formula = detection_probability(blocks, bad, samples);
    const double measured = double(found) / kTrials;
    fmt::print("| {:<58} | {:>3} | {:>3} | {:>3} | {:.4f} | {:.4f} |\n", name, blocks, bad, samples,
               formula, measured);
    const double deviation = std::sqrt(formula * (1 - formula) / kTrials);
    EXPECT_LE(std::abs(measured - formula), 5 * deviation) << name;
  }
  // A shard of `blocks_` blocks, damaged anew for every trial and mended after it.
  void damaged_row(const char* name, uint64_t bad, uint64_t samples,
                   const std::function<void(Held&)>& damage) {
    const auto facts = facts_of(blocks_);
    const Held good = honest(facts);
    row(name, blocks_, bad, samples, [&] {
      Held held = good;
      damage(held);
      const auto asked = challenge(blocks_, samples);
      return !tagger_.verify(facts, asked, answer(asked, held));
    });
  }

  Seeded random_;
  const AuditTagger tagger_;
  const uint64_t blocks_ = 32;
};

TEST_F(Adversary, IsCaughtAsOftenAsTheFormulaSays) {
  fmt::print("| {:<58} | {:>3} | {:>3} | {:>3} | {:<7}| {:<7}|\n", "cheat", "l", "z", "r",
             "formula", "caught");
  const auto everything = facts_of(blocks_);
  damaged_row("honest", 0, 4, [](Held&) {});
  damaged_row("flipped bit", 1, 4, [&](Held& held) {
    *at(held.data, block(), kAuditBlockBytes) ^= static_cast<uint8_t>(1 << random_.number(0, 7));
  });
  damaged_row("zeroed block", 1, 4, [&](Held& held) {
    std::fill_n(at(held.data, block(), kAuditBlockBytes), kAuditBlockBytes, 0);
  });
  damaged_row("swapped blocks", 2, 4, [&](Held& held) {
    const uint64_t a = block(), b = (a + random_.number(1, blocks_ - 1)) % blocks_;
    swap_blocks(held.data, a, b, kAuditBlockBytes);
  });
  damaged_row("swapped blocks, their tags with them", 2, 4, [&](Held& held) {
    const uint64_t a = block(), b = (a + random_.number(1, blocks_ - 1)) % blocks_;
    swap_blocks(held.data, a, b, kAuditBlockBytes);
    swap_blocks(held.tags, a, b, kFieldBytes);
  });
  damaged_row("truncated by 5 blocks, tags kept, the size lied about", 5, 4, [&](Held& held) {
    std::fill(at(held.data, blocks_ - 5, kAuditBlockBytes), held.data.data() + held.data.size(), 0);
  });
  const Held other = [&] {
    Held held{random_.bytes(everything.bytes), {}};
    held.tags = tagger_.tags({78, 1}, 21, held.data);
    return held;
  }();
  damaged_row("replaced by another valid shard with its tags", blocks_, 1,
              [&](Held& held) { held = other; });
  damaged_row("all blocks shifted by a constant", blocks_, 1, [&](Held& held) {
    const auto shift = static_cast<uint8_t>(random_.number(1, 255));
    for (auto& byte : held.data) byte ^= shift;
  });
  for (const bool first : {true, false}) {
    damaged_row(
        first ? "first element forged, the tag with it" : "any element forged, the tag with it", 1,
        4, [&](Held& held) {
          const uint64_t b = block();
          const size_t element = first ? 0 : random_.number(0, kAuditElements - 1);
          const Bytes delta = random_.bytes(kFieldBytes);
          for (size_t i = 0; i < kFieldBytes; ++i) {
            at(held.data, b, kAuditBlockBytes)[element * kFieldBytes + i] ^= delta[i];
            at(held.tags, b, kFieldBytes)[i] ^= delta[i];
          }
        });
  }
}

TEST_F(Adversary, OlderStatesAndOldAnswersAreCaught) {
  // An instance derived from another: `bad` blocks were changed and carry its version.
  for (const uint64_t bad : {uint64_t{1}, uint64_t{6}, blocks_}) {
    auto facts = facts_of(blocks_);
    const Held old = honest(facts);
    std::vector<uint64_t> changed;
    for (uint64_t b = 0; b < bad; ++b) changed.push_back(b);
    facts.versions = rewritten(facts.versions, changed, blocks_, 30);
    facts.instance = 30;
    row("older instance replayed with its tags", blocks_, bad, 4, [&] {
      const auto asked = challenge(blocks_, 4);
      return !tagger_.verify(facts, asked, answer(asked, old));
    });
  }
  const auto facts = facts_of(blocks_);
  const Held held = honest(facts);
  const auto recorded_for = challenge(blocks_, 4);
  const auto recorded = answer(recorded_for, held);
  ASSERT_TRUE(tagger_.verify(facts, recorded_for, recorded));
  row("recorded answer replayed", blocks_, blocks_, 4,
      [&] { return !tagger_.verify(facts, challenge(blocks_, 4), recorded); });
}

TEST_F(Adversary, KeepingMostBlocksIsCaughtAsOftenAsTheFormulaSays) {
  const uint64_t blocks = 200, bad = 2, samples = 46;
  const auto facts = facts_of(blocks);
  const Held good = honest(facts);
  row("99 % of the blocks kept, zeros told for the rest", blocks, bad, samples, [&] {
    Held held = good;
    const uint64_t a = random_.number(0, blocks - 1);
    for (const uint64_t b : {a, (a + random_.number(1, blocks - 1)) % blocks}) {
      std::fill_n(at(held.data, b, kAuditBlockBytes), kAuditBlockBytes, 0);
    }
    const auto asked = challenge(blocks, samples);
    return !tagger_.verify(facts, asked, answer(asked, held));
  });
}

// Sites that together change a data shard and all parity shards, so that they stay a codeword: the
// keyless check sees nothing, the tags do.
TEST_F(Adversary, CollusionIsCaughtByTheTagsAlone) {
  const auto code = make_erasure_code("rs-3-2").value();
  const uint64_t blocks = 16, bad = 3, samples = 3;
  std::vector<ShardFacts> facts;
  std::vector<Held> good;
  const auto encode = [&](std::vector<Bytes>& columns) {
    std::vector<MutableByteView> parity{columns[3], columns[4]};
    code->encode({columns[0], columns[1], columns[2]}, parity);
  };
  std::vector<Bytes> columns(5, Bytes(blocks * kAuditBlockBytes));
  for (size_t c = 0; c < 3; ++c) columns[c] = random_.bytes(columns[c].size());
  encode(columns);
  for (uint8_t c = 0; c < 5; ++c) {
    facts.push_back({{77, c}, 20, columns[c].size(), {{0, 20}}});
    good.push_back({columns[c], tagger_.tags(facts[c].column, 20, columns[c])});
  }
  int consistent = 0;
  row("data and parity changed consistently by colluding sites", blocks, bad, samples, [&] {
    std::vector<Bytes> forged = columns;
    const uint64_t first = random_.number(0, blocks - bad);
    for (uint64_t b = first; b < first + bad; ++b) {
      const Bytes garbage = random_.bytes(kAuditBlockBytes);
      std::copy(garbage.begin(), garbage.end(), at(forged[0], b, kAuditBlockBytes));
    }
    encode(forged);
    const auto asked = challenge(blocks, samples);
    std::vector<Bytes> mus;
    bool caught = false;
    for (size_t c = 0; c < 5; ++c) {
      const auto proof = answer(asked, {forged[c], good[c].tags});
      caught |= !tagger_.verify(facts[c], asked, proof);
      mus.push_back(proof.mu);
    }
    consistent += columns_in_error(*code, 0b11111, mus) == std::optional<ColumnSet>(0);
    return caught;
  });
  EXPECT_EQ(consistent, kTrials) << "the keyless check cannot see this";
}

}  // namespace
}  // namespace datacloud
