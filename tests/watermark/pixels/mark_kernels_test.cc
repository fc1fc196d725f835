// The mapping is a bijection, and every set of kernels computes it.
#include "watermark/pixels/mark_kernels.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "tests/support/seeded.h"
#include "watermark/pixels/compound_map.h"

namespace datacloud::watermark {
namespace {

TEST(CompoundMap, IsABijectionForEveryPairOfBytes) {
  for (uint32_t x = 0; x < 256; ++x) {
    std::vector<bool> seen(256);
    for (uint32_t p = 0; p < 256; ++p) {
      const uint32_t rank = distance_rank(x, p, 255);
      ASSERT_LT(rank, 256u) << x << " " << p;
      ASSERT_FALSE(seen[rank]) << x << " " << p;
      seen[rank] = true;
      ASSERT_EQ(value_of_rank(x, rank, 255), p) << x;
    }
    ASSERT_EQ(distance_rank(x, x, 255), 0u);
  }
}

TEST(CompoundMap, NearValuesHaveLowRanks) {
  for (uint32_t x = 0; x < 256; ++x)
    for (uint32_t p = 0; p < 255; ++p)
      for (const uint32_t other : {p + 1, 255 - p}) {
        const auto distance = [x](uint32_t v) { return v > x ? v - x : x - v; };
        if (distance(p) < distance(other)) {
          ASSERT_LT(distance_rank(x, p, 255), distance_rank(x, other, 255)) << x;
        }
      }
}

TEST(CompoundMap, IsABijectionOfSixteenBits) {
  Seeded random;
  std::vector<uint32_t> centres = {0, 1, 2, 32766, 32767, 32768, 65533, 65534, 65535};
  for (int i = 0; i < 30; ++i) centres.push_back(static_cast<uint32_t>(random.number(0, 65535)));
  for (const uint32_t x : centres) {
    std::vector<bool> seen(65536);
    for (uint32_t p = 0; p < 65536; ++p) {
      const uint32_t rank = distance_rank(x, p, 65535);
      ASSERT_LT(rank, 65536u);
      ASSERT_FALSE(seen[rank]) << x << " " << p;
      seen[rank] = true;
      ASSERT_EQ(value_of_rank(x, rank, 65535), p) << x;
    }
  }
}

// The definition, sample by sample.
template <class Sample>
void reference(const MarkRow<Sample>& in, const MarkStrength& strength, bool marking) {
  constexpr uint32_t kBits = 8 * sizeof(Sample);
  constexpr uint32_t kMaximum = (1u << kBits) - 1;
  for (size_t i = 0; i < in.count; ++i) {
    if (in.mask[i] == 0) continue;
    uint32_t a = 1u << (kBits - 1);
    if (in.above != nullptr) {
      const Sample* above = in.above + i;
      const auto channels = static_cast<ptrdiff_t>(in.channels);
      a = (above[-channels] + 2u * above[0] + above[channels] + 2) >> 2;
    }
    const uint32_t stream = in.keystream[i];
    int64_t b = (strength.opacity * in.mark[i] + (256 - strength.opacity) * a + 128) >> 8;
    const uint64_t high = stream >> strength.noise_bits;
    b += static_cast<int64_t>((high * (2 * strength.spread + 1)) >> (kBits - strength.noise_bits)) -
         strength.spread;
    b = std::clamp<int64_t>(b, 0, kMaximum);
    const uint32_t noise = stream & ((1u << strength.noise_bits) - 1);
    const uint32_t from = marking ? a : static_cast<uint32_t>(b);
    const uint32_t to = marking ? static_cast<uint32_t>(b) : a;
    const uint32_t rank = distance_rank(from, in.row[i], kMaximum) ^ noise;
    in.row[i] = static_cast<Sample>(value_of_rank(to, rank, kMaximum));
  }
}

template <class Sample>
std::vector<Sample> random_samples(Seeded& random, size_t count) {
  std::vector<Sample> out(count);
  const uint64_t shape = random.number(0, 2);  // anything, dark, or extremes
  for (auto& value : out)
    value = static_cast<Sample>(shape == 0   ? random.number(0, 65535)
                                : shape == 1 ? random.number(0, 7)
                                             : random.number(0, 1) * 65535);
  return out;
}

template <class Sample>
class Kernels : public testing::Test {};
using Samples = testing::Types<uint8_t, uint16_t>;
TYPED_TEST_SUITE(Kernels, Samples);

TYPED_TEST(Kernels, ComputeTheDefinitionAndItsInverse) {
  using Sample = TypeParam;
  Seeded random;
  for (int round = 0; round < 400; ++round) {
    const size_t channels = random.number(1, 5);
    const size_t count = channels * random.number(1, 70);
    const auto original = random_samples<Sample>(random, count);
    const auto above = random_samples<Sample>(random, count + 2 * channels);
    const auto mark = random_samples<Sample>(random, count);
    const auto stream = random_samples<Sample>(random, count);
    std::vector<Sample> mask(count);
    for (auto& value : mask) value = static_cast<Sample>(random.number(0, 3) == 0 ? 0 : -1);
    MarkStrength strength;
    strength.opacity = static_cast<uint32_t>(random.number(0, 256));
    strength.noise_bits = static_cast<uint32_t>(random.number(0, 8 * sizeof(Sample)));
    strength.spread = static_cast<uint32_t>(random.number(0, sizeof(Sample) == 1 ? 127 : 32767));
    const auto run = [&](std::vector<Sample> samples, auto how) {
      MarkRow<Sample> row;
      row.row = samples.data();
      row.above = round % 3 == 0 ? nullptr : above.data() + channels;
      row.mark = mark.data();
      row.mask = mask.data();
      row.keystream = stream.data();
      row.count = count;
      row.channels = channels;
      how(row);
      return samples;
    };
    const auto expected = run(original, [&](auto& row) { reference(row, strength, true); });
    ASSERT_EQ(run(expected, [&](auto& row) { reference(row, strength, false); }), original);
    for (const auto* kernels : usable_mark_kernels()) {
      const auto marked = run(original, [&](const MarkRow<Sample>& row) {
        if constexpr (sizeof(Sample) == 1)
          kernels->mark8(row, strength);
        else
          kernels->mark16(row, strength);
      });
      ASSERT_EQ(marked, expected) << kernels->name << ", round " << round;
      const auto back = run(marked, [&](const MarkRow<Sample>& row) {
        if constexpr (sizeof(Sample) == 1)
          kernels->unmark8(row, strength);
        else
          kernels->unmark16(row, strength);
      });
      ASSERT_EQ(back, original) << kernels->name << ", round " << round;
    }
  }
}

TEST(MarkKernels, ThePortableOnesAreAlwaysThere) {
  EXPECT_STREQ(usable_mark_kernels().back()->name, "portable");
}

// All 256 x 256 pairs of an estimate and a sample, through every set of kernels.
TEST(MarkKernels, EveryPairOfBytesComesBack) {
  std::vector<uint8_t> all(256), mark(256, 200), mask(256, 255), stream(256, 0xa5);
  for (size_t p = 0; p < 256; ++p) all[p] = static_cast<uint8_t>(p);
  for (const auto* kernels : usable_mark_kernels()) {
    for (uint32_t a = 0; a < 256; ++a) {
      const std::vector<uint8_t> above(258, static_cast<uint8_t>(a));
      auto samples = all;
      const MarkRow<uint8_t> row{
          samples.data(), above.data() + 1, mark.data(), mask.data(), stream.data(), 256, 1};
      kernels->mark8(row, {256, 4, 8});
      auto sorted = samples;
      std::sort(sorted.begin(), sorted.end());
      ASSERT_EQ(sorted, all) << kernels->name << " " << a;
      kernels->unmark8(row, {256, 4, 8});
      ASSERT_EQ(samples, all) << kernels->name << " " << a;
    }
  }
}

}  // namespace
}  // namespace datacloud::watermark
