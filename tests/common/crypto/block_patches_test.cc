// Patches put onto their base: what is accepted is what a plain model of the block makes of it, and
// nothing that lacks, exceeds or exchanges a patch is.
#include "common/crypto/block_patches.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "tests/support/seeded.h"

namespace datacloud {
namespace {

constexpr uint32_t kBlock = 4096;

VersionedPatch patch(ContentVersion version, ContentVersion base, uint32_t offset,
                     const std::string& text, uint32_t block_bytes) {
  return {version, {offset, block_bytes, base, to_bytes(as_bytes(text))}};
}

std::string text_of(const result<Bytes>& bytes) {
  return bytes ? std::string(as_text(bytes.value())) : bytes.error().message();
}

class BlockPatches : public testing::Test {
 protected:
  result<Bytes> put_together(uint32_t count) const {
    return patched_block(to_bytes(as_bytes("Data Cloud")), 9, patches_, count, kBlock);
  }
  result<Bytes> put_together() const {
    return put_together(static_cast<uint32_t>(patches_.size()));
  }
  void expect_corrupt(const std::string& text) const {
    const auto made = put_together();
    ASSERT_FALSE(made) << text_of(made);
    EXPECT_TRUE(made.error().is(Errc::corrupt));
    EXPECT_NE(made.error().message().find(text), std::string::npos) << made.error().message();
  }

  std::vector<VersionedPatch> patches_;
};

TEST_F(BlockPatches, ApplyInTheirOrder) {
  EXPECT_EQ(text_of(put_together()), "Data Cloud") << "none";
  patches_ = {patch(12, 9, 5, "Crowd", 10), patch(13, 12, 8, "ss", 10), patch(20, 13, 0, "d", 12)};
  EXPECT_EQ(text_of(put_together()), std::string("data Cross\0\0", 12));
  patches_.push_back(patch(21, 20, 14, "end", 17));
  EXPECT_EQ(text_of(put_together()), std::string("data Cross\0\0\0\0end", 17)) << "zeros between";
  patches_.push_back(patch(22, 21, 0, "D", 4));
  EXPECT_EQ(text_of(put_together()), "Data") << "shorter afterwards";
}

TEST_F(BlockPatches, OneThatLacksOrIsTooMuchMakesTheBlockUnusable) {
  patches_ = {patch(12, 9, 5, "Crowd", 10), patch(13, 12, 8, "ss", 10)};
  EXPECT_FALSE(put_together(3));
  EXPECT_FALSE(put_together(1));
  EXPECT_FALSE(put_together(0));
  patches_.erase(patches_.begin());
  expect_corrupt("for version 12 behind 9");
  EXPECT_FALSE(put_together(2));
}

TEST_F(BlockPatches, TheirVersionsGrow) {
  patches_ = {patch(9, 9, 5, "Crowd", 10)};
  expect_corrupt("has patch 9 behind 9");
  patches_ = {patch(8, 9, 5, "Crowd", 10)};
  expect_corrupt("has patch 8 behind 9");
  patches_ = {patch(12, 9, 5, "Crowd", 10), patch(11, 12, 0, "d", 10)};
  expect_corrupt("has patch 11 behind 12");
  patches_ = {patch(13, 12, 8, "ss", 10), patch(12, 9, 5, "Crowd", 10)};
  expect_corrupt("for version 12 behind 9");
}

TEST_F(BlockPatches, LieInTheirBlock) {
  patches_ = {patch(12, 9, 5, "Crowd", 9)};
  expect_corrupt("of bytes 5+5 in a block of 9");
  patches_ = {patch(12, 9, UINT32_MAX, "x", kBlock)};
  expect_corrupt("in a block of 4096");
  patches_ = {patch(12, 9, 0, "x", kBlock + 1)};
  expect_corrupt("in a block of 4097 (of 4096 at most)");
  patches_ = {patch(12, 9, 0, "", 10)};
  expect_corrupt("of bytes 0+0");
  EXPECT_FALSE(patched_block(Bytes(kBlock + 1), 9, {}, 0, kBlock)) << "the base itself is too long";
  EXPECT_FALSE(patched_block(Bytes(1), 9, {}, 0, kBlockBytesMax + 1));
}

TEST_F(BlockPatches, ThereAreAtMostSixtyFour) {
  for (ContentVersion v = 10; v < 74; ++v) patches_.push_back(patch(v, v - 1, 0, "d", 10));
  EXPECT_EQ(patches_.size(), kBlockPatchesMax);
  EXPECT_EQ(text_of(put_together()), "data Cloud");
  patches_.push_back(patch(74, 73, 0, "D", 10));
  expect_corrupt("has 65 patches");
}

// Sealed in one chain and opened as a reader will: with the version before, each.
TEST_F(BlockPatches, SealedOnesOpenAsAChainOnly) {
  const BlockSealer sealer(SecretKey(Bytes(32, 9)), "00112233-4455-6677-8899-aabbccddeeff");
  Seeded random;
  Bytes expected = random.bytes(random.number(1, kBlock));
  const Bytes base = expected;
  std::vector<Bytes> sealed;
  const auto count = static_cast<uint32_t>(random.number(1, kBlockPatchesMax));
  for (uint32_t i = 0; i < count; ++i) {
    BlockPatch one;
    one.base = 100 + i;
    one.block_bytes = static_cast<uint32_t>(random.number(1, kBlock));
    one.offset = static_cast<uint32_t>(random.number(0, one.block_bytes - 1));
    one.plain = random.bytes(random.number(1, one.block_bytes - one.offset));
    expected.resize(one.block_bytes);
    std::copy(one.plain.begin(), one.plain.end(), expected.begin() + one.offset);
    Bytes out;
    ASSERT_TRUE(sealer.seal_patch({0, 5, 7, 101 + i, 0}, one, Compression::zstd, out));
    sealed.push_back(std::move(out));
  }
  for (uint32_t i = 0; i < count; ++i) {
    auto opened = sealer.open_patch({0, 5, 7, 101 + i, 0}, 100 + i, sealed[i]);
    ASSERT_TRUE(opened) << opened.error().message();
    patches_.push_back({101 + i, std::move(opened.value())});
    EXPECT_FALSE(sealer.open_patch({0, 5, 7, 101 + i, 0}, 99 + i, sealed[i])) << "another base";
  }
  const auto made = patched_block(base, 100, patches_, count, kBlock);
  ASSERT_TRUE(made) << made.error().message();
  EXPECT_EQ(made.value(), expected);
}

}  // namespace
}  // namespace datacloud
