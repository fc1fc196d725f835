// Codes with several packets: which patterns decode, what a repair costs, deltas, pinned bytes.
#include "common/codes/linear_code.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <functional>
#include <map>

#include "common/base/hex.h"
#include "tests/support/seeded.h"

namespace datacloud {
namespace {

using Code = std::shared_ptr<const ErasureCode>;
using Shards = std::vector<Bytes>;

const std::vector<std::string> kProfiles = {"basic-4-8", "basic-6-12", "basic-8-16",
                                            "msr-5-3",   "msr-8-4",    "rs-3-2"};

Code code_of(const std::string& profile) { return make_erasure_code(profile).value(); }
ColumnSet all_columns(const Code& code) { return (ColumnSet{1} << code->n()) - 1; }

Shards stripe_of(const Code& code, size_t length, Seeded& random) {
  Shards shards(code->n(), Bytes(length));
  for (int c = 0; c < code->k(); ++c) shards[c] = random.bytes(length);
  code->encode({shards.begin(), shards.begin() + code->k()},
               {shards.begin() + code->k(), shards.end()});
  return shards;
}

// Decodes the lost columns from all others; false when the code says it cannot.
bool decodes(const Code& code, const Shards& shards, ColumnSet lost) {
  std::vector<ByteView> views(code->n());
  Shards computed(std::popcount(lost), Bytes(shards[0].size(), 0xEE)), expected;
  for (int c = 0; c < code->n(); ++c) {
    if (contains(lost, c))
      expected.push_back(shards[c]);
    else
      views[c] = shards[c];
  }
  const auto decoded =
      code->decode(lost, all_columns(code) & ~lost, views, {computed.begin(), computed.end()});
  if (!decoded) {
    EXPECT_TRUE(decoded.error().is(Errc::unavailable)) << decoded.error().message();
    return false;
  }
  EXPECT_EQ(computed, expected) << code->name() << " lost " << std::hex << lost;
  return true;
}

bool determined(const Code& code, ColumnSet available) {
  return code->minimum_to_decode(all_columns(code), available, {}).has_value();
}

// By number of lost columns up to `most`: patterns whose other columns span everything. All of
// them, with the span carried along from column to column.
std::vector<int> decodable_patterns(const Code& code, size_t most) {
  const int packets = code->packets(), width = code->k() * packets;
  std::vector<int> counts(most + 1);
  std::function<void(int, const RowSpace&, size_t)> choose = [&](int column, const RowSpace& span,
                                                                 size_t lost) {
    if (column == code->n()) {
      counts[lost] += span.rank() == width;
      return;
    }
    if (lost < most) choose(column + 1, span, lost + 1);
    RowSpace with = span;
    for (int i = 0; i < packets; ++i) {
      Bytes row;
      for (int d = 0; d < width; ++d) row.push_back(code->coefficient(column * packets + i, d));
      with.add(row);
    }
    choose(column + 1, with, lost);
  };
  choose(0, RowSpace(width), 0);
  return counts;
}

TEST(LinearCode, CountsOfDecodablePatternsAreThoseOfTheConstruction) {
  const std::map<std::string, std::vector<int>> counts = {
      {"basic-4-8", {1, 8, 28, 52, 46}},
      {"basic-6-12", {1, 12, 66, 220, 488, 726, 641}},
      {"basic-8-16", {1, 16, 120, 560, 1820, 4360, 7896, 10725, 10003}},
      {"msr-5-3", {1, 5, 10, 0}},
      {"msr-8-4", {1, 8, 28, 56, 70, 0}},
      {"rs-6-3", {1, 9, 36, 84, 0}},
  };
  for (const auto& [profile, expected] : counts) {
    const Code code = code_of(profile);
    EXPECT_EQ(decodable_patterns(code, expected.size() - 1), expected) << profile;
  }
}

// Rank alone, without what the definition claims to know about the code.
TEST(LinearCode, TheGuaranteedToleranceIsWhatEnumerationFinds) {
  std::vector<CodeDefinition> definitions = {
      basic_code(4),  basic_code(6),           basic_code(8),           msr_code(5, 3),
      msr_code(8, 4), reed_solomon_code(3, 2), reed_solomon_code(6, 3), reed_solomon_code(10, 4)};
  for (const auto& d : definitions) {
    const int n = d.k + d.m;
    auto survives_any = [&](int losses) {
      for (ColumnSet lost = 0; lost >> n == 0; ++lost) {
        if (std::popcount(lost) != losses) continue;
        RowSpace space(d.generator.columns());
        for (int c = 0; c < n; ++c)
          for (int i = 0; i < d.packets && !contains(lost, c); ++i)
            space.add(d.generator.row(c * d.packets + i));
        if (space.rank() != d.generator.columns()) return false;
      }
      return true;
    };
    EXPECT_TRUE(survives_any(d.guaranteed_tolerance)) << d.name;
    EXPECT_FALSE(survives_any(d.guaranteed_tolerance + 1)) << d.name;
    EXPECT_EQ(code_of(d.name)->guaranteed_tolerance(), d.guaranteed_tolerance);
  }
}

TEST(LinearCode, DecodesExactlyTheDeterminedPatterns) {
  Seeded random;
  for (const auto& profile : kProfiles) {
    const Code code = code_of(profile);
    const Shards shards = stripe_of(code, 60, random);
    for (int round = 0; round < 400; ++round) {
      const auto lost = static_cast<ColumnSet>(random.number(1, all_columns(code)));
      const ColumnSet available = all_columns(code) & ~lost;
      ASSERT_EQ(decodes(code, shards, lost), determined(code, available))
          << profile << " lost " << std::hex << lost;
    }
  }
}

TEST(LinearCode, DecodesPacketsAroundTheKernelsStrides) {
  Seeded random;
  for (const auto& profile : kProfiles)
    for (size_t packet : {0, 1, 15, 31, 33, 63, 65, 127, 4097, 16385, 33000}) {
      const Code code = code_of(profile);
      const Shards shards = stripe_of(code, packet * code->packets(), random);
      ASSERT_TRUE(decodes(code, shards, 0b00011)) << profile << " packets of " << packet;
    }
}

TEST(LinearCode, ARangeInsideThePacketsIsDecodedFromTheSameRanges) {
  Seeded random;
  const Code code = code_of("msr-8-4");
  const size_t packet = 1000, offset = 123, length = 45;
  const Shards shards = stripe_of(code, 3 * packet, random);
  auto inside = [&](const Bytes& shard) {
    Bytes out;
    for (int i = 0; i < 3; ++i)
      out.insert(out.end(), shard.begin() + i * packet + offset,
                 shard.begin() + i * packet + offset + length);
    return out;
  };
  Shards parts;
  for (const auto& shard : shards) parts.push_back(inside(shard));
  EXPECT_TRUE(decodes(code, parts, 0b00010110));
}

TEST(LinearCode, PacketsApartEncodeTheSame) {
  Seeded random;
  for (const auto& profile : kProfiles) {
    const Code code = code_of(profile);
    const size_t packet = 1000, a = code->packets();
    const Shards shards = stripe_of(code, packet * a, random);
    Shards parity(code->m(), Bytes(packet * a));
    for (size_t done = 0; done < packet; done += 300) {
      const size_t slice = std::min<size_t>(300, packet - done);
      std::vector<ByteView> data;
      std::vector<MutableByteView> out;
      for (int c = 0; c < code->k(); ++c)
        for (size_t i = 0; i < a; ++i)
          data.push_back(ByteView(shards[c]).subspan(i * packet + done, slice));
      for (auto& p : parity)
        for (size_t i = 0; i < a; ++i)
          out.push_back(MutableByteView(p).subspan(i * packet + done, slice));
      code->encode_packets(data, out);
    }
    EXPECT_EQ(parity, Shards(shards.begin() + code->k(), shards.end())) << profile;
  }
}

TEST(LinearCode, ShardsThatAreNotWholePacketsAreRefused) {
  const Code code = code_of("basic-4-8");
  const Shards shards(8, Bytes(7));
  std::vector<ByteView> views(shards.begin(), shards.end());
  Bytes out(7);
  EXPECT_TRUE(code->decode(1, 0b11111110, views, {MutableByteView(out)}).error().is(Errc::invalid));
}

TEST(LinearCode, MinimumToDecodeIsMinimalByEnumeration) {
  Seeded random;
  const Code code = code_of("basic-4-8");
  for (int round = 0; round < 300; ++round) {
    std::vector<uint32_t> cost(8);
    for (auto& c : cost) c = static_cast<uint32_t>(random.number(0, 5));
    const auto wanted = static_cast<ColumnSet>(random.number(1, 255));
    const auto available = static_cast<ColumnSet>(random.number(0, 255));
    auto total = [&](ColumnSet set) {
      uint64_t sum = 0;
      for (int c = 0; c < 8; ++c) sum += contains(set, c) ? cost[c] : 0;
      return sum;
    };
    uint64_t best = UINT64_MAX;
    for (ColumnSet set = 0; set < 256; ++set) {
      if ((set & ~available) != 0 || (wanted & available & ~set) != 0) continue;
      if (total(set) < best && code->minimum_to_decode(wanted, set, {})) best = total(set);
    }
    const auto chosen = code->minimum_to_decode(wanted, available, cost);
    ASSERT_EQ(chosen.has_value(), best != UINT64_MAX);
    if (!chosen) continue;
    ASSERT_EQ(chosen.value() & ~available, 0u);
    ASSERT_TRUE(code->minimum_to_decode(wanted, chosen.value(), {}));
    ASSERT_EQ(total(chosen.value()), best);
  }
}

TEST(LinearCode, TheLongestSearchEnds) {
  Seeded random;
  const Code code = code_of("basic-8-16");
  for (int round = 0; round < 200; ++round) {
    std::vector<uint32_t> cost(16);
    for (auto& c : cost) c = static_cast<uint32_t>(random.number(0, 1000));
    const auto lost = static_cast<ColumnSet>(random.number(0, 0xffff));
    (void)code->minimum_to_decode(lost & 0xff, ~lost & 0xffff, cost);
  }
}

// What the helpers of a plan send, as a site's combine computes it.
Shards outputs_of(const Code& code, const RepairPlan& plan, const Shards& shards) {
  Shards outputs;
  for (const auto& helper : plan.helpers)
    for (const auto& coefficients : helper.coefficients) {
      const auto ranges = code->packet_ranges(shards[0].size());
      Bytes output(ranges[0].length);
      for (size_t i = 0; i < ranges.size(); ++i)
        gf_add_scaled(coefficients[i],
                      ByteView(shards[helper.column]).subspan(ranges[i].offset, output.size()),
                      output);
      outputs.push_back(std::move(output));
    }
  return outputs;
}

void expect_rebuilds(const Code& code, const RepairPlan& plan, const Shards& shards) {
  const Shards outputs = outputs_of(code, plan, shards);
  Bytes out(shards[0].size(), 0xEE);
  const auto rebuilt = code->rebuild(plan, {outputs.begin(), outputs.end()}, out);
  ASSERT_TRUE(rebuilt) << rebuilt.error().message();
  ASSERT_EQ(out, shards[plan.lost]) << code->name() << " column " << plan.lost;
}

TEST(Repair, ReadsWhatTheConstructionPromises) {
  Seeded random;
  // Packets that travel for one lost column; a shard is packets() of them.
  const std::map<std::string, uint64_t> packets = {{"basic-4-8", 2 * 2},  {"basic-6-12", 3 * 4},
                                                   {"basic-8-16", 4 * 4}, {"msr-5-3", 4},
                                                   {"msr-8-4", 6},        {"rs-6-3", 6}};
  for (const auto& [profile, expected] : packets) {
    const Code code = code_of(profile);
    const Shards shards = stripe_of(code, 60, random);
    for (int lost = 0; lost < code->n(); ++lost) {
      const auto plan = code->repair_plan(lost, all_columns(code), {}).value();
      EXPECT_EQ(plan.packet_cost, expected) << profile << " column " << lost;
      EXPECT_EQ(plan.rebuild[0].size(), expected);
      expect_rebuilds(code, plan, shards);
    }
  }
}

TEST(Repair, OfMsrCostsTwoShardsInsteadOfK) {
  const Code small = code_of("msr-5-3"), large = code_of("msr-8-4");
  EXPECT_EQ(small->repair_plan(1, all_columns(small), {}).value().packet_cost,
            2u * small->packets());
  EXPECT_EQ(large->repair_plan(6, all_columns(large), {}).value().packet_cost,
            2u * large->packets());
  // Fewer helpers than d live: k whole columns.
  const auto plan = large->repair_plan(0, 0b11111000, {}).value();
  EXPECT_EQ(plan.packet_cost, 4u * large->packets());
  for (const auto& helper : plan.helpers) EXPECT_TRUE(RepairPlan::is_plain(helper));
}

TEST(Repair, OfBasicHasAsManyLocalSetsAsItShould) {
  const Code code = code_of("basic-6-12");
  // P1 sums D1, D2, D3 (columns 0, 1, 2): nothing cheaper, and any other way reads more columns.
  EXPECT_EQ(code->minimum_to_decode(1 << 6, 0xfff & ~(1 << 6), {}).value(), 0b111u);
  for (int data = 0; data < 6; ++data) {
    int sets = 0;
    for (int parity = 6; parity < 12; ++parity) {
      const ColumnSet others = 0b111111u & ~(1u << data);
      const auto set = code->minimum_to_decode(1u << data, others | 1u << parity, {});
      sets += set && std::popcount(set.value()) == 3;
    }
    EXPECT_EQ(sets, 3) << "data column " << data;
  }
}

TEST(Repair, TakesTheCheapestHelpersAndWorksForEveryChoice) {
  Seeded random;
  for (const auto& profile : kProfiles) {
    const Code code = code_of(profile);
    const Shards shards = stripe_of(code, 120, random);
    for (int round = 0; round < 100; ++round) {
      const int lost = static_cast<int>(random.number(0, code->n() - 1));
      const auto available = static_cast<ColumnSet>(random.number(0, all_columns(code)));
      std::vector<uint32_t> cost(code->n());
      for (auto& c : cost) c = static_cast<uint32_t>(random.number(0, 20));
      const ColumnSet others = available & ~(ColumnSet{1} << lost);
      const auto plan = code->repair_plan(lost, available, cost);
      const auto columns = code->minimum_to_decode(ColumnSet{1} << lost, others, cost);
      ASSERT_EQ(plan.has_value(), columns.has_value());
      if (!plan) continue;
      uint64_t whole = 0, sent = 0;
      for (int c = 0; c < code->n(); ++c)
        if (contains(columns.value(), c)) whole += uint64_t{cost[c]} * code->packets();
      for (const auto& helper : plan.value().helpers) {
        ASSERT_TRUE(contains(others, helper.column));
        sent += cost[helper.column] * helper.coefficients.size();
      }
      EXPECT_EQ(plan.value().packet_cost, sent);
      EXPECT_LE(sent, whole);
      expect_rebuilds(code, plan.value(), shards);
    }
  }
}

TEST(Repair, RefusesWhatDoesNotFitThePlan) {
  const Code code = code_of("msr-5-3");
  const auto plan = code->repair_plan(0, 0b11110, {}).value();
  Shards outputs(plan.rebuild[0].size(), Bytes(10));
  Bytes out(20);
  EXPECT_TRUE(code->rebuild(plan, {outputs.begin(), outputs.end()}, out));
  EXPECT_FALSE(code->rebuild(plan, {outputs.begin() + 1, outputs.end()}, out));
  Bytes odd(21);
  EXPECT_FALSE(code->rebuild(plan, {outputs.begin(), outputs.end()}, odd));
  outputs[2].pop_back();
  EXPECT_FALSE(code->rebuild(plan, {outputs.begin(), outputs.end()}, out));
  EXPECT_TRUE(code->repair_plan(5, 0b11111, {}).error().is(Errc::invalid));
  EXPECT_TRUE(code->repair_plan(0, 0b11000, {}).error().is(Errc::unavailable));
  EXPECT_TRUE(code->repair_plan(0, 0b11110, {1, 2}).error().is(Errc::invalid));
}

TEST(Delta, EqualsReencoding) {
  Seeded random;
  for (const auto& profile : kProfiles) {
    const Code code = code_of(profile);
    const size_t length = 600;
    Shards shards = stripe_of(code, length, random);
    for (int round = 0; round < 60; ++round) {
      const int c = static_cast<int>(random.number(0, code->k() - 1));
      const size_t offset = random.number(0, length);
      const ByteRange change{offset, random.number(0, length - offset)};
      const Bytes delta = random.bytes(change.length);
      for (int p = 0; p < code->m(); ++p) {
        const auto ranges = code->delta_ranges(c, p, change, length);
        Shards out;
        uint64_t end = 0;
        for (const auto& r : ranges) {
          ASSERT_TRUE(r.length > 0 || change.length == 0);
          ASSERT_TRUE(out.empty() || r.offset > end) << "ascending and apart";
          end = r.offset + r.length;
          ASSERT_LE(end, length);
          out.emplace_back(r.length, 0xEE);
        }
        code->encode_delta(c, p, change, length, delta, {out.begin(), out.end()});
        for (size_t i = 0; i < ranges.size(); ++i)
          ErasureCode::apply_delta(
              out[i],
              MutableByteView(shards[code->k() + p]).subspan(ranges[i].offset, ranges[i].length));
      }
      ErasureCode::apply_delta(delta,
                               MutableByteView(shards[c]).subspan(change.offset, change.length));
    }
    const Shards patched = shards;
    code->encode({shards.begin(), shards.begin() + code->k()},
                 {shards.begin() + code->k(), shards.end()});
    EXPECT_EQ(patched, shards) << profile;
  }
}

TEST(Delta, TouchesOneRangeOfReedSolomonAndNoneOfParitiesThatDoNotDepend) {
  EXPECT_EQ(code_of("rs-3-2")->delta_ranges(1, 0, {100, 50}, 1000),
            (std::vector<ByteRange>{{100, 50}}));
  const Code basic = code_of("basic-4-8");
  // P1 = D1 + z D2, P3 = D3 + D4: column 0 is in P1 as it is and in P4 shifted, in no other.
  EXPECT_EQ(basic->delta_ranges(0, 0, {100, 50}, 1000), (std::vector<ByteRange>{{100, 50}}));
  EXPECT_TRUE(basic->delta_ranges(0, 1, {100, 50}, 1000).empty());
  EXPECT_TRUE(basic->delta_ranges(0, 2, {100, 50}, 1000).empty());
  // z takes packet 0 to packets 0 (through the implicit one) and 1.
  EXPECT_EQ(basic->delta_ranges(0, 3, {100, 50}, 1000),
            (std::vector<ByteRange>{{100, 50}, {600, 50}}));
  // Over the end of a packet: both in-packet places, of every dependent packet.
  EXPECT_EQ(basic->delta_ranges(0, 3, {450, 100}, 1000),
            (std::vector<ByteRange>{{0, 50}, {450, 50}, {950, 50}}));
}

// Shards on disk were written with these codes: the bytes may never change. Computed
// independently: MS-BASIC by polynomials with the implicit packet, product-matrix MSR by solving
// for S1 and S2.
TEST(LinearCode, ParityBytesArePinned) {
  const std::map<std::string, std::vector<std::string>> golden = {
      {"basic-4-8",
       {"5d6daff329219be72b5bc7afab8b8f97", "49b9998989a969f936b6189c82ea1420",
        "1f1f1313773713732f2f13f317173333", "0010a2265c148efa7585956dadcd4de5"}},
      {"basic-6-12",
       {"ce964ac267ff8be3b8e0027ef4e4ce62", "f9b9d3e7321a16b6554d778319e999c9",
        "07474b9bc6c620743a12f696928a0450", "7f67a9e51bcb25594d05ed7d36aec23a",
        "16365004a24afc382e1e88ec1a521440", "e098500803fbef7f154d4f5bc131bbff"}},
      {"basic-8-16",
       {"be3698c45b8b25090880124eccbcb4fc", "a91923f77b739d1980b050d098587ade",
        "e14973ff5404d45c6484269ae2aa84d0", "10c048f84b2b25d9268e40acc1b18b4f",
        "0404045cccdc0cc40444044cfc0c7cc4", "b74ff1bdc434ee02b9f143bff050c8d8",
        "9a5a2c809cb48eda74c4344c89594b7f", "12fab47048c8b8b89dfd3fb32b933531"}},
      {"msr-5-3", {"3a2961217d00f28c9ba933b1fed0e13c", "e4d94e751e78833459df83f0a4d4a70a"}},
      {"msr-8-4",
       {"24f6f500e39e46c4db02d0e0", "88ffd1a8e57e398c7781e20b", "06a9d93f9bbf7486950080fa",
        "787034572c89e37eceefba90"}},
  };
  for (const auto& [profile, parity] : golden) {
    const Code code = code_of(profile);
    const size_t length = parity[0].size() / 2;
    Shards shards(code->n(), Bytes(length));
    for (int c = 0; c < code->k(); ++c)
      for (size_t i = 0; i < length; ++i)
        shards[c][i] = static_cast<uint8_t>(17 * c + 31 * i + 5 + i * i);
    code->encode({shards.begin(), shards.begin() + code->k()},
                 {shards.begin() + code->k(), shards.end()});
    for (int p = 0; p < code->m(); ++p)
      EXPECT_EQ(to_hex(shards[code->k() + p]), parity[p]) << profile << " parity " << p;
  }
}

TEST(LinearCode, NamesOfTheFamily) {
  for (const auto& profile : kProfiles) EXPECT_EQ(code_of(profile)->name(), profile);
  EXPECT_EQ(code_of("basic-8-16")->packets(), 4);
  EXPECT_EQ(code_of("msr-8-4")->packets(), 3);
  EXPECT_EQ(code_of("msr-5-3")->n(), 5);
  EXPECT_EQ(code_of("msr-5-3")->k(), 3);
  for (const char* bad : {"basic-5-10", "basic-4-9", "msr-4-8", "msr-8", "basic-04-8", "msr-5-3 "})
    EXPECT_TRUE(make_erasure_code(bad).error().is(Errc::invalid)) << bad;
}

}  // namespace
}  // namespace datacloud
