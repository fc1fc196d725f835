// Reed-Solomon: any k shards are enough, deltas equal re-encoding, and the code never changes.
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <thread>

#include "common/base/hex.h"
#include "common/codes/erasure_code.h"
#include "tests/support/seeded.h"

namespace datacloud {
namespace {

using Code = std::shared_ptr<const ErasureCode>;

Code code_of(const std::string& profile) { return make_erasure_code(profile).value(); }

ColumnSet all_columns(const Code& code) {
  return code->n() == 32 ? ~ColumnSet{0} : (ColumnSet{1} << code->n()) - 1;
}

// All n shards of a stripe with random data.
struct Stripe {
  Stripe(const Code& code, size_t length, Seeded& random) : shards(code->n(), Bytes(length)) {
    for (int c = 0; c < code->k(); ++c) shards[c] = random.bytes(length);
    encode(code);
  }
  void encode(const Code& code) {
    code->encode({shards.begin(), shards.begin() + code->k()},
                 {shards.begin() + code->k(), shards.end()});
  }
  std::vector<Bytes> shards;
};

// Decodes all lost columns from the others; lost shards are not handed to the decoder at all.
void expect_decodes(const Code& code, const Stripe& stripe, ColumnSet lost) {
  const ColumnSet present = all_columns(code) & ~lost;
  std::vector<ByteView> views(code->n());
  std::vector<Bytes> computed(std::popcount(lost), Bytes(stripe.shards[0].size(), 0xEE));
  std::vector<Bytes> expected;
  for (int c = 0; c < code->n(); ++c) {
    if (contains(lost, c))
      expected.push_back(stripe.shards[c]);
    else
      views[c] = stripe.shards[c];
  }
  auto decoded = code->decode(lost, present, views, {computed.begin(), computed.end()});
  ASSERT_TRUE(decoded) << decoded.error().message();
  ASSERT_EQ(computed, expected) << code->name() << " lost " << std::hex << lost;
}

TEST(ReedSolomon, DecodesEveryPatternOfUpToMLosses) {
  Seeded random;
  for (const char* profile : {"rs-3-2", "rs-2-1", "rs-6-3", "rs-4-2", "rs-1-2", "rs-1-1"}) {
    const Code code = code_of(profile);
    const Stripe stripe(code, 67, random);
    for (ColumnSet lost = 1; lost <= all_columns(code); ++lost)
      if (std::popcount(lost) <= code->m()) expect_decodes(code, stripe, lost);
  }
}

TEST(ReedSolomon, DecodesSampledPatternsOfLargeProfiles) {
  Seeded random;
  for (const char* profile : {"rs-10-4", "rs-20-12", "rs-31-1", "rs-16-16"}) {
    const Code code = code_of(profile);
    const Stripe stripe(code, 100, random);
    for (int round = 0; round < 300; ++round) {
      ColumnSet lost = 0;
      while (std::popcount(lost) < code->m())
        lost |= ColumnSet{1} << random.number(0, code->n() - 1);
      expect_decodes(code, stripe, lost);
    }
  }
}

TEST(ReedSolomon, DecodesEveryLengthAroundTheKernelsStrides) {
  Seeded random;
  const Code code = code_of("rs-3-2");
  for (size_t length : {0,  1,   2,   15,   16,   31,    32,    33,    63,    64,
                        65, 127, 129, 4095, 4097, 32767, 32768, 32769, 65537, 100003})
    expect_decodes(code, Stripe(code, length, random), 0b00101);
}

TEST(ReedSolomon, MoreThanMLossesAreAnError) {
  Seeded random;
  const Code code = code_of("rs-3-2");
  const Stripe stripe(code, 8, random);
  std::vector<ByteView> views(stripe.shards.begin(), stripe.shards.end());
  Bytes out(8);
  auto decoded = code->decode(0b00001, 0b11000, views, {MutableByteView(out)});
  ASSERT_FALSE(decoded);
  EXPECT_TRUE(decoded.error().is(Errc::unavailable));
}

TEST(ReedSolomon, ShardsOfUnequalLengthAreAnError) {
  Seeded random;
  const Code code = code_of("rs-3-2");
  Stripe stripe(code, 8, random);
  stripe.shards[2].pop_back();
  std::vector<ByteView> views(stripe.shards.begin(), stripe.shards.end());
  Bytes out(8);
  auto decoded = code->decode(0b00001, 0b01110, views, {MutableByteView(out)});
  ASSERT_FALSE(decoded);
  EXPECT_TRUE(decoded.error().is(Errc::invalid));
}

TEST(ReedSolomon, OneWantedColumnAmongManyPresentIsComputed) {
  Seeded random;
  const Code code = code_of("rs-6-3");
  const Stripe stripe(code, 500, random);
  std::vector<ByteView> views(stripe.shards.begin(), stripe.shards.end());
  for (int c = 0; c < code->n(); ++c) {
    Bytes out(500);
    const ColumnSet wanted = ColumnSet{1} << c;
    ASSERT_TRUE(code->decode(wanted, all_columns(code) & ~wanted, views, {MutableByteView(out)}));
    EXPECT_EQ(out, stripe.shards[c]);
  }
}

TEST(ReedSolomon, ARangeOfALostShardComesFromTheSameRangeOfOthers) {
  Seeded random;
  const Code code = code_of("rs-4-2");
  const Stripe stripe(code, 1000, random);
  std::vector<ByteView> views(6);
  for (int c : {0, 3, 4, 5}) views[c] = ByteView(stripe.shards[c]).subspan(123, 45);
  Bytes out(45);
  ASSERT_TRUE(code->decode(0b000010, 0b111001, views, {MutableByteView(out)}));
  EXPECT_TRUE(std::equal(out.begin(), out.end(), stripe.shards[1].begin() + 123));
}

TEST(ReedSolomon, DeltasEqualReencoding) {
  Seeded random;
  for (const char* profile : {"rs-3-2", "rs-6-3", "rs-10-4", "rs-1-2"}) {
    const Code code = code_of(profile);
    Stripe stripe(code, 777, random);
    for (int c = 0; c < code->k(); ++c) {
      const size_t offset = random.number(0, 700), length = random.number(1, 777 - offset);
      const Bytes delta = random.bytes(length);
      for (int p = 0; p < code->m(); ++p) {
        Bytes change(length);
        code->encode_delta(c, p, delta, change);
        ErasureCode::apply_delta(
            change, MutableByteView(stripe.shards[code->k() + p]).subspan(offset, length));
      }
      ErasureCode::apply_delta(delta, MutableByteView(stripe.shards[c]).subspan(offset, length));
    }
    const auto patched = stripe.shards;
    stripe.encode(code);
    EXPECT_EQ(patched, stripe.shards) << profile;
  }
}

TEST(ReedSolomon, MinimumToDecodeTakesTheCheapest) {
  const Code code = code_of("rs-3-2");
  // Column 0 is lost; 4 is the dearest of the four others.
  EXPECT_EQ(code->minimum_to_decode(0b00001, 0b11110, {0, 5, 5, 5, 9}).value(), 0b01110u);
  EXPECT_EQ(code->minimum_to_decode(0b00001, 0b11110, {0, 9, 5, 5, 5}).value(), 0b11100u);
  // Equal costs: data columns before parity.
  EXPECT_EQ(code->minimum_to_decode(0b00001, 0b11110, {}).value(), 0b01110u);
  // Wanted and available: read itself, whatever it costs, and nothing else.
  EXPECT_EQ(code->minimum_to_decode(0b00100, 0b11111, {0, 0, 99, 0, 0}).value(), 0b00100u);
  // A wanted available column counts among the k.
  EXPECT_EQ(code->minimum_to_decode(0b00011, 0b11110, {0, 99, 1, 1, 2}).value(), 0b01110u);
  EXPECT_EQ(code->minimum_to_decode(0, 0, {}).value(), 0u);
  auto impossible = code->minimum_to_decode(0b00001, 0b11000, {});
  ASSERT_FALSE(impossible);
  EXPECT_TRUE(impossible.error().is(Errc::unavailable));
  EXPECT_TRUE(code->minimum_to_decode(0b100000, 0b11111, {}).error().is(Errc::invalid));
}

TEST(ReedSolomon, MinimumToDecodeIsMinimalByEnumeration) {
  Seeded random;
  const Code code = code_of("rs-4-2");
  for (int round = 0; round < 500; ++round) {
    std::vector<uint32_t> cost(6);
    for (auto& c : cost) c = static_cast<uint32_t>(random.number(0, 9));
    const ColumnSet wanted = static_cast<ColumnSet>(random.number(1, 63));
    const ColumnSet available = static_cast<ColumnSet>(random.number(0, 63));
    auto total = [&](ColumnSet set) {
      uint64_t sum = 0;
      for (int c = 0; c < 6; ++c) sum += contains(set, c) ? cost[c] : 0;
      return sum;
    };
    uint64_t best = UINT64_MAX;
    for (ColumnSet set = 0; set < 64; ++set) {
      const bool inside = (set & ~available) == 0 && (wanted & available & ~set) == 0;
      const bool enough = (wanted & ~set) == 0 || std::popcount(set) >= 4;
      if (inside && enough) best = std::min(best, total(set));
    }
    const auto chosen = code->minimum_to_decode(wanted, available, cost);
    ASSERT_EQ(chosen.has_value(), best != UINT64_MAX);
    if (chosen) {
      EXPECT_EQ(total(chosen.value()), best);
    }
  }
}

TEST(ReedSolomon, WorksWithoutParity) {
  const Code code = code_of("rs-3-0");
  EXPECT_EQ(code->n(), 3);
  EXPECT_EQ(code->guaranteed_tolerance(), 0);
  code->encode({ByteView(), ByteView(), ByteView()}, {});
  EXPECT_EQ(code->minimum_to_decode(0b111, 0b111, {}).value(), 0b111u);
  EXPECT_FALSE(code->minimum_to_decode(0b001, 0b110, {}));
}

TEST(ReedSolomon, ManyThreadsShareOneCode) {
  Seeded random;
  const Code code = code_of("rs-10-4");
  const Stripe stripe(code, 64, random);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      // More signatures than the cache of decode tables holds.
      std::mt19937 engine(t);
      for (int round = 0; round < 400; ++round)
        expect_decodes(code, stripe, ColumnSet{1} << engine() % 14 | ColumnSet{1} << engine() % 14);
    });
  for (auto& thread : threads) thread.join();
}

// Shards on disk were written with this code: these bytes may never change. Computed
// independently: row p of the generator is 1 / ((k + p) xor c) over polynomial 0x11D.
TEST(ReedSolomon, ParityBytesArePinned) {
  const std::vector<std::pair<std::string, std::vector<std::string>>> golden = {
      {"rs-3-2", {"2fb478616622d5249860ec3d2175f2d0", "91d004de5d0ae8e1caf6366e678a1920"}},
      {"rs-2-1", {"758e6e6453945862aa925abb776b3c66"}},
      {"rs-6-3",
       {"ad804e906ffba7880fd34fbd94b620e9", "7e53f571c29ea58244e74dcb14366bb7",
        "2baa3951b34e150dce81c72dbf82d6b6"}},
      {"rs-4-2", {"99a7c4ec71413c29da77ced5bd489ad0", "aa946a1132eac11fa3fd9782c035e8a8"}},
      {"rs-10-4",
       {"5b07467db0b9d8ca78a7f1483b2d412a", "cc90f0382aee950c5e7d2320e6eb6363",
        "cdc86bae5f79c947b807dfd11119899f", "9396486f00d91f13ab1d9942db4397c0"}},
      {"rs-1-2", {"0525476b91b9e30f3d6d9fd309417bb7", "8c9cadbbc6d2ff8990b8c1e78aaeb3d5"}},
  };
  for (const auto& [profile, parity] : golden) {
    const Code code = code_of(profile);
    std::vector<Bytes> shards(code->n(), Bytes(16));
    for (int c = 0; c < code->k(); ++c)
      for (int i = 0; i < 16; ++i) shards[c][i] = static_cast<uint8_t>(17 * c + 31 * i + 5 + i * i);
    code->encode({shards.begin(), shards.begin() + code->k()},
                 {shards.begin() + code->k(), shards.end()});
    for (int p = 0; p < code->m(); ++p)
      EXPECT_EQ(to_hex(shards[code->k() + p]), parity[p]) << profile << " parity " << p;
  }
}

TEST(ErasureCodeNames, KnownOnesAreMadeAndOthersExplained) {
  EXPECT_EQ(code_of("rs-3-2")->name(), "rs-3-2");
  EXPECT_EQ(code_of("rs-32-0")->n(), 32);
  for (const char* bad : {"", "rs", "rs-", "rs-3", "rs-3-", "rs-0-2", "rs-3-2x", "rs-03-2",
                          "rs--3-2", "rs-3--2", "rs-30-3", "rs-99999999999-1", "RS-3-2", "rs-3-2-1",
                          " rs-3-2", "rs-+3-2", "xor-3-1", "rs-2147483647-2147483647"}) {
    const auto code = make_erasure_code(bad);
    ASSERT_FALSE(code) << bad;
    EXPECT_TRUE(code.error().is(Errc::invalid));
    EXPECT_NE(code.error().text().find(bad), std::string::npos);
    EXPECT_NE(code.error().text().find("rs-K-M"), std::string::npos);
  }
}

}  // namespace
}  // namespace datacloud
