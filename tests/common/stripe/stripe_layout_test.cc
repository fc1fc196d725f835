// Slot layout: order kept, no column longer than need be, hostile slot lists refused.
#include "common/stripe/stripe_layout.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <numeric>

#include "tests/support/seeded.h"

namespace datacloud {
namespace {

// The least possible longest column, by dynamic programming over all ways to cut the sequence.
uint64_t shortest_longest(const std::vector<uint32_t>& lengths, int k) {
  const size_t n = lengths.size();
  std::vector<uint64_t> best(n + 1, std::numeric_limits<uint64_t>::max());
  best[0] = 0;
  for (int column = 0; column < k; ++column) {
    auto next = best;
    for (size_t end = 1; end <= n; ++end) {
      uint64_t sum = 0;
      for (size_t begin = end; begin-- > 0;) {
        sum += lengths[begin];
        if (best[begin] != std::numeric_limits<uint64_t>::max())
          next[end] = std::min(next[end], std::max(best[begin], sum));
      }
    }
    best = next;
  }
  return best[n];
}

void expect_sound(const StripeLayout& layout, const std::vector<uint32_t>& lengths, int k,
                  int packets) {
  ASSERT_EQ(layout.slots.size(), lengths.size());
  ASSERT_EQ(layout.data_lengths.size(), static_cast<size_t>(k));
  std::vector<uint32_t> used(k, 0);
  uint32_t column = 0;
  for (size_t i = 0; i < lengths.size(); ++i) {
    const Slot& slot = layout.slots[i];
    ASSERT_EQ(slot.length, lengths[i]);
    ASSERT_GE(slot.column, column) << "columns are filled one after the other";
    column = slot.column;
    ASSERT_LT(column, static_cast<uint32_t>(k));
    ASSERT_EQ(slot.offset, used[column]) << "no holes";
    used[column] += slot.length;
  }
  EXPECT_EQ(layout.data_lengths, used);
  const uint32_t longest = *std::max_element(used.begin(), used.end());
  EXPECT_GE(layout.parity_length, longest);
  const uint64_t blocks = uint64_t{static_cast<uint32_t>(packets)} * kPacketBlockBytes;
  const bool large = packets > 1 && longest >= kAlignedBlocksMin * blocks;
  EXPECT_LT(layout.parity_length, longest + (large ? blocks : static_cast<uint64_t>(packets)));
  EXPECT_EQ(layout.parity_length % (large ? blocks : static_cast<uint64_t>(packets)), 0u);
  EXPECT_TRUE(validate_slots(layout.slots, k, layout.data_lengths));
}

TEST(StripeLayout, IsSoundAndOptimalForRandomBlocks) {
  Seeded random;
  for (int round = 0; round < 300; ++round) {
    const int k = static_cast<int>(random.number(1, 10));
    const int packets = static_cast<int>(random.number(1, 4));
    std::vector<uint32_t> lengths(random.number(1, 60));
    const uint64_t longest = random.number(1, 70000);
    for (auto& length : lengths) length = static_cast<uint32_t>(random.number(1, longest));
    const auto layout = lay_out_stripe(lengths, k, packets, 0);
    ASSERT_TRUE(layout);
    expect_sound(layout.value(), lengths, k, packets);
    const auto& used = layout.value().data_lengths;
    EXPECT_EQ(*std::max_element(used.begin(), used.end()), shortest_longest(lengths, k));
  }
}

TEST(StripeLayout, EqualBlocksSpreadEvenly) {
  const auto layout = lay_out_stripe(std::vector<uint32_t>(192, 65576), 3, 1, 0).value();
  EXPECT_EQ(layout.data_lengths, std::vector<uint32_t>(3, 64 * 65576));
  EXPECT_EQ(layout.parity_length, 64u * 65576u);
}

TEST(StripeLayout, SmallTotalsStayInOneColumn) {
  const auto layout = lay_out_stripe({1000, 2000, 3000}, 3, 1, 6000).value();
  EXPECT_EQ(layout.data_lengths, (std::vector<uint32_t>{6000, 0, 0}));
  EXPECT_EQ(layout.parity_length, 6000u);
  const auto spread = lay_out_stripe({1000, 2000, 3000}, 3, 1, 5999).value();
  EXPECT_EQ(spread.data_lengths, (std::vector<uint32_t>{3000, 3000, 0}));
}

TEST(StripeLayout, ParityIsRoundedToPackets) {
  EXPECT_EQ(lay_out_stripe({10}, 4, 4, 0).value().parity_length, 12u);
  EXPECT_EQ(lay_out_stripe({12}, 4, 4, 0).value().parity_length, 12u);
}

TEST(StripeLayout, PacketsOfLargeShardsAreWholeAuditBlocks) {
  // 60 blocks of 64 KiB, sealed: 20 for each column, 1,311,520 bytes.
  const auto two = lay_out_stripe(std::vector<uint32_t>(60, 65576), 3, 2, 0).value();
  EXPECT_EQ(two.parity_length, 1'318'912u);  // 161 times 8 KiB
  EXPECT_EQ(two.data_lengths, (std::vector<uint32_t>{1'311'520, 1'311'520, 1'311'520}));
  const auto one = lay_out_stripe(std::vector<uint32_t>(60, 65576), 3, 1, 0).value();
  EXPECT_EQ(one.parity_length, 1'311'520u);
  const auto small = lay_out_stripe({100'000}, 1, 4, 0).value();
  EXPECT_EQ(small.parity_length, 100'000u);
}

TEST(StripeLayout, TakesTheMostSlotsAndRefusesMore) {
  Seeded random;
  std::vector<uint32_t> lengths(kStripeSlotsMax);
  for (auto& length : lengths) length = static_cast<uint32_t>(random.number(1, 5000));
  expect_sound(lay_out_stripe(lengths, 6, 1, 0).value(), lengths, 6, 1);
  lengths.push_back(1);
  EXPECT_TRUE(lay_out_stripe(lengths, 6, 1, 0).error().is(Errc::invalid));
  EXPECT_TRUE(lay_out_stripe({}, 6, 1, 0).error().is(Errc::invalid));
  EXPECT_TRUE(lay_out_stripe({5, 0}, 6, 1, 0).error().is(Errc::invalid));
  EXPECT_TRUE(lay_out_stripe({5}, 0, 1, 0).error().is(Errc::invalid));
  EXPECT_TRUE(lay_out_stripe({UINT32_MAX, UINT32_MAX}, 1, 1, 0).error().is(Errc::invalid));
}

TEST(ValidateSlots, RefusesWhatWouldReadOutsideOrTwice) {
  const std::vector<uint32_t> columns = {100, 50, 0};
  auto refused = [&](std::vector<Slot> slots) {
    auto checked = validate_slots(slots, 3, columns);
    return !checked && checked.error().is(Errc::invalid) && !checked.error().text().empty();
  };
  EXPECT_TRUE(validate_slots({}, 3, columns));
  EXPECT_TRUE(validate_slots({{0, 50, 50}, {0, 0, 50}, {1, 0, 50}}, 3, columns));
  EXPECT_TRUE(validate_slots({{0, 90, 10}}, 3, columns)) << "holes are allowed";
  EXPECT_TRUE(refused({{3, 0, 1}}));
  EXPECT_TRUE(refused({{0, 0, 101}}));
  EXPECT_TRUE(refused({{0, 100, 1}}));
  EXPECT_TRUE(refused({{2, 0, 1}}));
  EXPECT_TRUE(refused({{0, 0, 0}}));
  EXPECT_TRUE(refused({{0, UINT32_MAX, 2}})) << "offset + length must not wrap";
  EXPECT_TRUE(refused({{0, 2, UINT32_MAX}}));
  EXPECT_TRUE(refused({{0, 0, 10}, {0, 9, 10}}));
  EXPECT_TRUE(refused({{0, 9, 10}, {1, 0, 5}, {0, 0, 10}}));
  EXPECT_TRUE(refused({{0, 5, 5}, {0, 5, 5}}));
  EXPECT_TRUE(refused(std::vector<Slot>(kStripeSlotsMax + 1, Slot{0, 0, 1})));
  EXPECT_FALSE(validate_slots({}, 2, columns));
  EXPECT_FALSE(validate_slots({}, 0, {}));
}

// Where whole audit blocks would not fit into 32 bits, packets stay as they are.
TEST(StripeLayout, ParityCoversTheLongestColumnThereIs) {
  const uint32_t longest = UINT32_MAX - 70'000;
  const auto layout = lay_out_stripe({longest}, 1, 16'384, 0);
  ASSERT_TRUE(layout) << layout.error().message();
  EXPECT_GE(layout.value().parity_length, longest);
  EXPECT_EQ(layout.value().parity_length % 16'384, 0u);
}

}  // namespace
}  // namespace datacloud
