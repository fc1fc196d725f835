// Sealed blocks: what was sealed comes back, anything else is refused, the bytes never change.
#include "common/crypto/sealed_block.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <thread>

#include "common/base/hex.h"
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

Bytes bytes_of(const std::string& hex) {
  Bytes out(hex.size() / 2);
  EXPECT_TRUE(from_hex(hex, out));
  return out;
}

Bytes text_of(size_t length) {
  Bytes text(length);
  for (size_t i = 0; i < length; ++i) text[i] = "the quick brown fox "[i % 20];
  return text;
}

Bytes sealed(const BlockSealer& sealer, const BlockAddress& address, const Bytes& plain,
             Compression compression = Compression::zstd) {
  Bytes out;
  const size_t length = sealer.seal(address, plain, compression, out).value();
  EXPECT_EQ(length, out.size());
  return out;
}

void expect_corrupt(const BlockSealer& sealer, const BlockAddress& address, ByteView bytes) {
  const auto opened = sealer.open(address, bytes);
  ASSERT_FALSE(opened);
  EXPECT_TRUE(opened.error().is(Errc::corrupt)) << opened.error().message();
}

class SealedBlock : public testing::Test {
 protected:
  const BlockSealer sealer{counting_key(), kUuid};
  const BlockAddress address{0, 5, 7, 9, 3};
};

TEST_F(SealedBlock, ComesBackForEverySizeAndKindOfContent) {
  Seeded random;
  for (size_t length : {1ul, 2ul, 15ul, 16ul, 17ul, 100ul, 4095ul, 4096ul, 65536ul, 100000ul,
                        size_t{kBlockBytesMax}})
    for (const Bytes& plain : {random.bytes(length), text_of(length), Bytes(length, 0)})
      for (auto compression : {Compression::none, Compression::zstd}) {
        const Bytes block = sealed(sealer, address, plain, compression);
        EXPECT_LE(block.size(), length + kSealedOverheadBytes);
        ASSERT_EQ(sealer.open(address, block).value(), plain);
      }
}

TEST_F(SealedBlock, CompressionIsKeptOnlyWhenItSavesASixteenth) {
  Seeded random;
  const Bytes noise = random.bytes(65536);
  EXPECT_EQ(sealed(sealer, address, noise).size(), noise.size() + kSealedOverheadBytes);
  // The first part of the block compresses to almost nothing, the rest not at all.
  auto with_zeros = [&](size_t zeros) {
    Bytes plain = noise;
    std::fill_n(plain.begin(), zeros, 0);
    return plain;
  };
  EXPECT_EQ(sealed(sealer, address, with_zeros(65536 / 32))[1], 0);
  EXPECT_EQ(sealed(sealer, address, with_zeros(65536 / 8))[1], 1);
  EXPECT_LT(sealed(sealer, address, text_of(65536)).size(), 1000u);
  EXPECT_EQ(sealed(sealer, address, text_of(65536), Compression::none).size(),
            65536 + kSealedOverheadBytes);
}

TEST_F(SealedBlock, IsAppendedWithoutReallocationWhenThereIsRoom) {
  Bytes out;
  out.reserve(3 * (4096 + kSealedOverheadBytes));
  const uint8_t* memory = out.data();
  std::vector<std::pair<size_t, size_t>> pieces;
  for (int i = 0; i < 3; ++i) {
    const size_t before = out.size();
    pieces.emplace_back(before,
                        sealer.seal(address, text_of(4096), Compression::none, out).value());
  }
  EXPECT_EQ(out.data(), memory);
  for (const auto& [offset, length] : pieces)
    EXPECT_EQ(sealer.open(address, ByteView(out).subspan(offset, length)).value(), text_of(4096));
}

TEST_F(SealedBlock, EveryFlippedByteIsFound) {
  for (auto compression : {Compression::none, Compression::zstd}) {
    const Bytes block = sealed(sealer, address, text_of(200), compression);
    for (size_t i = 0; i < block.size(); ++i)
      for (uint8_t mask : {0x01, 0x80, 0xff}) {
        Bytes damaged = block;
        damaged[i] ^= mask;
        expect_corrupt(sealer, address, damaged);
      }
  }
}

TEST_F(SealedBlock, EveryTruncationAndExtensionIsFound) {
  const Bytes block = sealed(sealer, address, text_of(200));
  for (size_t length = 0; length < block.size(); ++length)
    expect_corrupt(sealer, address, ByteView(block).first(length));
  Bytes longer = block;
  longer.push_back(0);
  expect_corrupt(sealer, address, longer);
  expect_corrupt(sealer, address, Bytes(1000, 0));
}

TEST_F(SealedBlock, EveryPartOfTheAddressIsBound) {
  const Bytes block = sealed(sealer, address, text_of(200));
  for (BlockAddress wrong : {BlockAddress{1, 5, 7, 9, 3}, BlockAddress{0, 6, 7, 9, 3},
                             BlockAddress{0, 5, 8, 9, 3}, BlockAddress{0, 5, 7, 10, 3}})
    expect_corrupt(sealer, wrong, block);
  expect_corrupt(BlockSealer(counting_key(), "00112233-4455-6677-8899-aabbccddeefe"), address,
                 block);
  expect_corrupt(BlockSealer(SecretKey::random(), kUuid), address, block);
  // The generation comes from the block, not from the caller.
  BlockAddress other_generation = address;
  other_generation.generation = 77;
  EXPECT_TRUE(sealer.open(other_generation, block));
}

TEST_F(SealedBlock, ClaimedLengthsAreBoundedBeforeAnythingIsAllocated) {
  Bytes block = sealed(sealer, address, text_of(200));
  for (size_t i = 8; i < 12; ++i) block[i] = 0xff;
  expect_corrupt(sealer, address, block);
}

TEST_F(SealedBlock, RefusesBlocksOutOfBounds) {
  Bytes out;
  EXPECT_TRUE(sealer.seal(address, {}, Compression::none, out).error().is(Errc::invalid));
  EXPECT_TRUE(sealer.seal(address, Bytes(kBlockBytesMax + 1), Compression::none, out)
                  .error()
                  .is(Errc::invalid));
  EXPECT_TRUE(out.empty());
}

TEST_F(SealedBlock, NoncesDoNotRepeat) {
  std::set<Bytes> nonces;
  for (int i = 0; i < 5000; ++i) {
    const Bytes block = sealed(sealer, address, {1}, Compression::none);
    nonces.emplace(block.begin() + kSealedHeaderBytes,
                   block.begin() + kSealedHeaderBytes + kSealedNonceBytes);
  }
  EXPECT_EQ(nonces.size(), 5000u);
}

TEST_F(SealedBlock, ManyThreadsShareOneSealer) {
  std::vector<std::thread> threads;
  for (uint64_t t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      // More inodes than keys are cached.
      for (uint64_t i = 0; i < 1500; ++i) {
        const BlockAddress at{static_cast<uint32_t>(i % 70), i, t, i, 0};
        const Bytes plain = text_of(64 + i % 50);
        ASSERT_EQ(sealer.open(at, sealed(sealer, at, plain)).value(), plain);
      }
    });
  for (auto& thread : threads) thread.join();
}

// The worked bytes of docs/format.md, computed independently of this code.
TEST_F(SealedBlock, BytesArePinned) {
  const std::string plain = "Data Cloud";
  const Bytes nonce = bytes_of("a0a1a2a3a4a5a6a7a8a9aaab");
  const std::string golden =
      "01000000030000000a000000a0a1a2a3a4a5a6a7a8a9aaab"
      "7e65ba3a8c44393842e3165572cacafa5c7537361595b95069e7";
  EXPECT_EQ(
      to_hex(SealedBlockTestPeer::seal(sealer, address, as_bytes(plain), Compression::none, nonce)),
      golden);
  EXPECT_EQ(as_text(sealer.open(address, bytes_of(golden)).value()), plain);
}

// zstd may compress better one day; what it wrote in the past must still open.
TEST_F(SealedBlock, CompressedBytesOfThePastOpen) {
  const std::string golden =
      "0101000003000000c8000000a0a1a2a3a4a5a6a7a8a9aaab12b1e1a6ac0788573727d1d4e152b328b0f758958b84"
      "aefc2ad4e24e142defcb46d3638358cbfe550c12cc5157a79d29c554768a";
  EXPECT_EQ(sealer.open(address, bytes_of(golden)).value(), text_of(200));
}

// Samples as of a raster: neighbours differ little.
Bytes samples_of(size_t count) {
  Bytes plain;
  for (size_t i = 0; i < count; ++i) {
    const auto sample = static_cast<uint16_t>(1000 + i % 50);
    plain.push_back(static_cast<uint8_t>(sample));
    plain.push_back(static_cast<uint8_t>(sample >> 8));
  }
  return plain;
}

TEST_F(SealedBlock, ComesBackThroughEveryFilter) {
  Seeded random;
  for (uint8_t code : {0, 1, 2, 3, 9, 10, 11}) {
    for (const Bytes& plain : {random.bytes(5000), samples_of(2501), Bytes(17, 1), Bytes(3, 0)}) {
      Bytes block;
      ASSERT_TRUE(sealer.seal(address, plain, {Compression::zstd, filter_of(code).value()}, block));
      ASSERT_EQ(sealer.open(address, block).value(), plain);
      // Format 2 only where format 1 cannot say it.
      EXPECT_EQ(block[0], block[1] >> 4 == 0 ? 1 : 2);
    }
  }
}

TEST_F(SealedBlock, NothingIsFilteredThatDoesNotCompress) {
  Seeded random;
  const Bytes noise = random.bytes(4096);
  Bytes block;
  ASSERT_TRUE(sealer.seal(address, noise, {Compression::zstd, {2, true}}, block));
  EXPECT_EQ(block[0], 1);
  EXPECT_EQ(block[1], 0);
  block.clear();
  ASSERT_TRUE(sealer.seal(address, samples_of(100), {Compression::none, {2, true}}, block));
  EXPECT_EQ(block[1], 0);
}

TEST_F(SealedBlock, EveryFlippedByteOfFormatTwoIsFound) {
  BlockSealer keyed(counting_key(), kUuid);
  keyed.add_realm_key(0, 4, SecretKey(Bytes(32, 1)));
  keyed.add_realm_key(0, 5, SecretKey(Bytes(32, 2)));
  BlockAddress at = address;
  at.realm_generation = 4;
  Bytes block;
  ASSERT_TRUE(keyed.seal(at, samples_of(300), {Compression::zstd, {2, true}}, block));
  EXPECT_EQ(keyed.open(address, block).value(), samples_of(300));  // the header says which key
  for (size_t i = 0; i < block.size(); ++i) {
    for (uint8_t mask : {0x01, 0x10, 0x80, 0xff}) {
      Bytes damaged = block;
      damaged[i] ^= mask;
      expect_corrupt(keyed, at, damaged);
    }
  }
}

TEST_F(SealedBlock, AGenerationWhoseKeyIsNotHereNeitherSealsNorOpens) {
  BlockSealer keyed(counting_key(), kUuid);
  keyed.add_realm_key(0, 4, SecretKey(Bytes(32, 1)));
  BlockAddress at = address;
  at.realm_generation = 4;
  Bytes block, none;
  ASSERT_TRUE(keyed.seal(at, text_of(100), Compression::none, block));
  expect_corrupt(sealer, at, block);
  EXPECT_NE(sealer.open(at, block).error().message().find("generation 4 of the key of realm 0"),
            std::string::npos);
  const auto refused = sealer.seal(at, text_of(100), Compression::none, none);
  ASSERT_FALSE(refused);
  EXPECT_TRUE(refused.error().is(Errc::invalid));
  EXPECT_TRUE(none.empty());
  // Another generation's key opens nothing of this one.
  BlockSealer other(counting_key(), kUuid);
  other.add_realm_key(0, 4, SecretKey(Bytes(32, 2)));
  expect_corrupt(other, at, block);
}

// Computed independently of this code, as those above.
TEST_F(SealedBlock, BytesOfFormatTwoArePinned) {
  Bytes realm_key(32);
  for (size_t i = 0; i < realm_key.size(); ++i) realm_key[i] = static_cast<uint8_t>(0x20 + i);
  BlockSealer keyed(counting_key(), kUuid);
  keyed.add_realm_key(0, 4, SecretKey(ByteView(realm_key)));
  BlockAddress at = address;
  at.realm_generation = 4;
  const std::string golden =
      "02000400030000000a000000a0a1a2a3a4a5a6a7a8a9aaab"
      "b4f744a8709fd4390865b9f1c6754f187714464e4f06effcc292";
  EXPECT_EQ(to_hex(SealedBlockTestPeer::seal(keyed, at, as_bytes("Data Cloud"), Compression::none,
                                             bytes_of("a0a1a2a3a4a5a6a7a8a9aaab"))),
            golden);
  EXPECT_EQ(as_text(keyed.open(at, bytes_of(golden)).value()), "Data Cloud");
  // 16-bit samples, delta and shuffle, zstd.
  const std::string filtered =
      "029100000300000090010000a0a1a2a3a4a5a6a7a8a9aaab12b1e1a6ac4f985737074dbd4b730d5c169530b516f6"
      "3e8bbbf48c756e0dcb9e719582a8d1eb0a1dfe586c9f2e7cbb92dfb4";
  EXPECT_EQ(sealer.open(address, bytes_of(filtered)).value(), samples_of(200));
}

}  // namespace
}  // namespace datacloud
