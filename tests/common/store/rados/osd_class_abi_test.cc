// The OSD class's structures: the worked bytes of docs/osd-class.md, round trips, and ranges.
#include "common/store/rados/osd_class_abi.h"

#include <gtest/gtest.h>

#include "common/base/hex.h"
#include "tests/support/seeded.h"

namespace datacloud {
namespace {

TEST(OsdClassAbi, WorkedBytes) {
  EXPECT_EQ(to_hex(encode_xor_request({"", 7, 8, 5, {{1, {0xa5}}}, {{0, {1}}}})),
            "010000000100000001000000070000000000000008000000000000000500000000000000"
            "010000000000000001000000a5"
            "00000000000000000100000001");
  EXPECT_EQ(to_hex(encode_combine_request({{{0, 3}, {9, 3}}, {{2, 1}}})),
            "0100000002000000010000000300000000000000"
            "000000000000000009000000000000000201");
  AuditChallenge challenge{{}, 1024, 460};
  for (uint8_t i = 0; i < 32; ++i) challenge.seed[i] = i;
  EXPECT_EQ(to_hex(encode_prove_request(challenge)),
            "0100000000000000"
            "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
            "0004000000000000cc01000000000000");
  AuditProof proof;
  proof.mu = Bytes(kAuditBlockBytes);
  proof.mu[0] = 0xaa;
  proof.tag[15] = 0xbb;
  proof.object_size = 5;
  proof.instance = 9;
  EXPECT_EQ(to_hex(encode_prove_reply(proof)),
            "010000001000000005000000000000000900000000000000"
            "000000000000000000000000000000bb"
            "aa000000000000000000000000000000");
  EXPECT_EQ(to_hex(encode_combine_reply({{1, 2}, {3, 4}})),
            "0100000002000000020000000000000001020304");
  EXPECT_EQ(to_hex(encode_class_version({1, "0.1"})), "0100000003000000302e31");
}

TEST(OsdClassAbi, RoundTrips) {
  Seeded random;
  Derivation d{"", 7, 8, 70'000, {}, {}}, d2;
  for (int i = 0; i < 5; ++i) {
    d.data.push_back({random.number(0, 60'000), random.bytes(random.number(0, 9000))});
    d.tags.push_back({16 * random.number(0, 16), random.bytes(16)});
  }
  ASSERT_TRUE(decode_xor_request(encode_xor_request(d), d2));
  EXPECT_EQ(encode_xor_request(d2), encode_xor_request(d));
  EXPECT_EQ(d2.data[4].bytes, d.data[4].bytes);

  for (const uint64_t size : {0, 1, 15, 16, 4095, 4096, 100'000}) {
    AuditProof proof, back;
    const size_t elements = std::min<size_t>(256, (size + 15) / 16);
    proof.mu = random.bytes(16 * elements);
    proof.mu.resize(kAuditBlockBytes);
    proof.object_size = size;
    proof.instance = 77;
    ASSERT_TRUE(decode_prove_reply(encode_prove_reply(proof), back)) << size;
    EXPECT_TRUE(back.mu == proof.mu) << size;
    EXPECT_EQ(back.instance, 77u);
    EXPECT_TRUE(back.at_site);
    EXPECT_EQ(back.bytes_transferred, encode_prove_reply(proof).size());
  }
  const Combination c{{{0, 3}, {9, 3}}, {{2, 1}, {0, 5}}};
  CombineReply reply;
  EXPECT_TRUE(decode_combine_reply(encode_combine_reply({{1, 2, 3}, {4, 5, 6}}), c, reply));
  EXPECT_EQ(reply.outputs[1], (Bytes{4, 5, 6}));
  EXPECT_FALSE(decode_combine_reply(encode_combine_reply({{1, 2, 3}}), c, reply)) << "too few";
  EXPECT_FALSE(decode_combine_reply(encode_combine_reply({{1, 2}, {4, 5}}), c, reply)) << "short";
}

TEST(CoalescedRanges, DoTheSameWithoutTouching) {
  Seeded random;
  for (int round = 0; round < 200; ++round) {
    std::vector<XorRange> ranges;
    for (uint64_t i = random.number(0, 12); i > 0; --i) {
      const uint64_t offset = random.number(0, 400);
      ranges.push_back({offset, random.bytes(random.number(0, 60))});
    }
    const auto apply = [](const std::vector<XorRange>& list) {
      Bytes out(500);
      for (const auto& range : list) {
        for (size_t i = 0; i < range.bytes.size(); ++i) out[range.offset + i] ^= range.bytes[i];
      }
      return out;
    };
    const auto joined = coalesce(ranges);
    EXPECT_EQ(apply(joined), apply(ranges));
    for (size_t i = 0; i < joined.size(); ++i) {
      EXPECT_FALSE(joined[i].bytes.empty());
      if (i > 0) {
        EXPECT_GT(joined[i].offset, joined[i - 1].offset + joined[i - 1].bytes.size());
      }
    }
  }
}

}  // namespace
}  // namespace datacloud
