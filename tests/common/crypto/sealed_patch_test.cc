// Sealed patches: they open on the state of the block they were made for, in their order, and
// applied they give what was written.
#include <gtest/gtest.h>

#include "common/base/hex.h"
#include "common/crypto/sealed_block.h"
#include "tests/common/crypto/sealed_block_peer.h"
#include "tests/support/seeded.h"

namespace datacloud {

namespace {

const char kUuid[] = "00112233-4455-6677-8899-aabbccddeeff";

SecretKey counting_key() {
  Bytes bytes(32);
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<uint8_t>(i);
  return SecretKey{ByteView(bytes)};
}

class SealedPatch : public testing::Test {
 protected:
  Bytes sealed(const BlockAddress& at, const BlockPatch& patch) {
    Bytes out;
    const auto length = sealer.seal_patch(at, patch, Compression::zstd, out);
    EXPECT_TRUE(length) << length.error().message();
    EXPECT_EQ(length.value(), out.size());
    return out;
  }
  void expect_corrupt(const BlockAddress& at, ContentVersion base, ByteView bytes) {
    const auto opened = sealer.open_patch(at, base, bytes);
    ASSERT_FALSE(opened);
    EXPECT_TRUE(opened.error().is(Errc::corrupt)) << opened.error().message();
  }

  BlockSealer sealer{counting_key(), kUuid};
  const BlockAddress address{0, 5, 7, 12, 3};
};

TEST_F(SealedPatch, ChainsOfPatchesGiveWhatWasWritten) {
  Seeded random;
  for (int round = 0; round < 200; ++round) {
    Bytes block = random.bytes(random.number(1, 5000));
    Bytes expected = block;
    ContentVersion version = 100;
    for (int i = 0; i < 8; ++i) {
      const auto length = static_cast<uint32_t>(random.number(1, 3000));
      const auto offset = static_cast<uint32_t>(random.number(0, 6000));
      const uint32_t end = offset + length;
      const Bytes plain = random.number(0, 1) == 0 ? random.bytes(length) : Bytes(length, 7);
      expected.resize(std::max<size_t>(expected.size(), end));
      std::copy(plain.begin(), plain.end(), expected.begin() + offset);
      BlockAddress at = address;
      at.version = version + 1;
      const Bytes bytes =
          sealed(at, {offset, static_cast<uint32_t>(expected.size()), version, plain});
      EXPECT_LE(bytes.size(), plain.size() + kSealedPatchOverheadBytes);
      const auto opened = sealer.open_patch(at, version, bytes);
      ASSERT_TRUE(opened) << opened.error().message();
      apply_patch(opened.value(), block);
      ASSERT_EQ(block, expected);
      ++version;
    }
  }
}

TEST_F(SealedPatch, MayShortenTheBlock) {
  Bytes block(100, 1);
  apply_patch({10, 20, 0, Bytes(5, 2)}, block);
  Bytes expected(20, 1);
  std::fill_n(expected.begin() + 10, 5, 2);
  EXPECT_EQ(block, expected);
}

TEST_F(SealedPatch, OpensOnItsBaseAndAtItsPlaceOnly) {
  const Bytes bytes = sealed(address, {5, 10, 9, Bytes(5, 3)});
  ASSERT_TRUE(sealer.open_patch(address, 9, bytes));
  expect_corrupt(address, 8, bytes);
  expect_corrupt(address, 12, bytes);
  for (BlockAddress wrong : {BlockAddress{1, 5, 7, 12, 3}, BlockAddress{0, 6, 7, 12, 3},
                             BlockAddress{0, 5, 8, 12, 3}, BlockAddress{0, 5, 7, 11, 3}}) {
    expect_corrupt(wrong, 9, bytes);
  }
}

TEST_F(SealedPatch, IsNoBlockAndABlockIsNoPatch) {
  const Bytes patch = sealed(address, {0, 100, 9, Bytes(100, 3)});
  EXPECT_TRUE(sealer.open(address, patch).error().is(Errc::corrupt));
  Bytes block;
  ASSERT_TRUE(sealer.seal(address, Bytes(100, 3), Compression::none, block));
  expect_corrupt(address, 9, block);
}

TEST_F(SealedPatch, EveryFlippedByteAndEveryCutIsFound) {
  const Bytes bytes = sealed(address, {5, 300, 9, Bytes(200, 3)});
  for (size_t i = 0; i < bytes.size(); ++i) {
    for (uint8_t mask : {0x01, 0x80, 0xff}) {
      Bytes damaged = bytes;
      damaged[i] ^= mask;
      expect_corrupt(address, 9, damaged);
    }
    expect_corrupt(address, 9, ByteView(bytes).first(i));
  }
}

TEST_F(SealedPatch, RefusesRangesOutsideOfTheBlock) {
  Bytes out;
  const auto refused = [&](const BlockPatch& patch) {
    const auto sealed = sealer.seal_patch(address, patch, Compression::none, out);
    return !sealed && sealed.error().is(Errc::invalid) && out.empty();
  };
  EXPECT_TRUE(refused({0, 10, 9, {}}));
  EXPECT_TRUE(refused({6, 10, 9, Bytes(5, 1)}));
  EXPECT_TRUE(refused({UINT32_MAX, 10, 9, Bytes(5, 1)}));
  EXPECT_TRUE(refused({0, kBlockBytesMax + 1, 9, Bytes(5, 1)}));
}

// The worked bytes of docs/format.md, computed independently of this code.
TEST_F(SealedPatch, BytesArePinned) {
  Bytes nonce(12);
  ASSERT_TRUE(from_hex("a0a1a2a3a4a5a6a7a8a9aaab", nonce));
  const std::string golden =
      "420000000300000005000000050000000a000000a0a1a2a3a4a5a6a7a8a9aaab"
      "7976a12cc89e11568fa802ac268ee5377c0788ff8d";
  const BlockPatch patch{5, 10, 9, to_bytes(as_bytes("Crowd"))};
  EXPECT_EQ(to_hex(SealedBlockTestPeer::seal_patch(sealer, address, patch, nonce)), golden);
  Bytes block = to_bytes(as_bytes("Data Cloud"));
  Bytes bytes(golden.size() / 2);
  ASSERT_TRUE(from_hex(golden, bytes));
  apply_patch(sealer.open_patch(address, 9, bytes).value(), block);
  EXPECT_EQ(as_text(block), "Data Crowd");
}

}  // namespace
}  // namespace datacloud
