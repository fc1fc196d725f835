// Object names: look random, can be turned back, and are the same for ever.
#include "common/base/ids.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <set>
#include <thread>

#include "common/base/hex.h"
#include "common/crypto/keys.h"
#include "tests/support/seeded.h"

namespace datacloud {
namespace {

const char kUuid[] = "00112233-4455-6677-8899-aabbccddeeff";

ShardNamer namer() {
  Bytes bytes(32);
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<uint8_t>(i);
  return ShardNamer(derive_name_key(SecretKey{ByteView(bytes)}, kUuid));
}

TEST(ShardNamer, NamesTurnBackIntoIds) {
  Seeded random;
  const ShardNamer names = namer();
  for (int i = 0; i < 5000; ++i) {
    const ShardName shard{random.number(0, kStripeIdMax),
                          static_cast<uint8_t>(random.number(0, 255)),
                          random.number(0, UINT64_MAX)};
    const std::string name = names.object_name(shard);
    ASSERT_EQ(name.size(), 32u);
    ASSERT_EQ(name.find_first_not_of("0123456789abcdef"), std::string::npos);
    ASSERT_EQ(names.parse(name), shard);
  }
}

TEST(ShardNamer, NeighboursLookUnrelated) {
  const ShardNamer names = namer();
  std::set<std::string> all;
  std::array<int, 16> digits{};
  for (uint64_t stripe = 1; stripe <= 400; ++stripe)
    for (uint8_t column = 0; column < 5; ++column) {
      const std::string name = names.object_name({stripe, column, stripe * 5 + column});
      all.insert(name);
      for (char c : name) ++digits[c <= '9' ? c - '0' : c - 'a' + 10];
    }
  EXPECT_EQ(all.size(), 2000u);
  // 64,000 digits, 4,000 of each expected; the standard deviation is 61.
  for (int count : digits) EXPECT_NEAR(count, 4000, 6 * 61);
  // On average half of the bits differ between two names that follow one another.
  int differing = 0;
  for (uint64_t i = 0; i < 100; ++i) {
    Bytes a(16), b(16);
    ASSERT_TRUE(from_hex(names.object_name({1, 0, i}), a));
    ASSERT_TRUE(from_hex(names.object_name({1, 0, i + 1}), b));
    for (int j = 0; j < 16; ++j) differing += std::popcount(static_cast<uint8_t>(a[j] ^ b[j]));
  }
  EXPECT_NEAR(differing, 6400, 6 * 57);
}

TEST(ShardNamer, OtherTextIsNotAName) {
  const ShardNamer names = namer();
  const std::string name = names.object_name({1, 0, 1});
  std::string upper = name;
  std::transform(upper.begin(), upper.end(), upper.begin(), ::toupper);
  for (const std::string& bad :
       {std::string(), name.substr(1), name + "0", upper, name.substr(1) + "g", name + "\n"})
    EXPECT_FALSE(names.parse(bad)) << bad;
}

TEST(ShardNamer, AStripeIdThatDoesNotFitHasNoName) {
  EXPECT_EQ(namer().object_name({kStripeIdMax + 1, 0, 1}), "");
  EXPECT_NE(namer().object_name({kStripeIdMax, 0, 1}), "");
}

TEST(ShardNamer, AnotherKeyGivesOtherNames) {
  const ShardNamer other(derive_name_key(SecretKey::random(), kUuid));
  EXPECT_NE(other.object_name({1, 0, 1}), namer().object_name({1, 0, 1}));
}

TEST(ShardNamer, ManyThreadsShareOne) {
  const ShardNamer names = namer();
  std::vector<std::thread> threads;
  for (uint64_t t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      for (uint64_t i = 0; i < 2000; ++i) {
        const ShardName shard{i, static_cast<uint8_t>(t), i};
        ASSERT_EQ(names.parse(names.object_name(shard)), shard);
      }
    });
  for (auto& thread : threads) thread.join();
}

// The worked bytes of docs/format.md, computed independently of this code.
TEST(ShardNamer, NamesArePinned) {
  const ShardNamer names = namer();
  EXPECT_EQ(names.object_name({1, 0, 1}), "bc47ebf6ce4c486fb8498443e518b038");
  EXPECT_EQ(names.object_name({1, 1, 2}), "7237aea42ae3a83e200c058046f3f620");
  EXPECT_EQ(names.object_name({kStripeIdMax, 31, UINT64_MAX}), "1168582927111772fa0f6b3916be35f7");
}

}  // namespace
}  // namespace datacloud
