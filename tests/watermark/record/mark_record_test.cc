// Records and keys: strict decoding, and no answer to a wrong key.
#include "watermark/record/mark_record.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <string>

#include "common/base/hex.h"
#include "tests/support/seeded.h"
#include "tests/support/temporary_directory.h"

namespace datacloud::watermark {
namespace {

MarkRecord example() {
  MarkRecord record;
  record.profile = Profile::notice;
  record.strength = {153, 4, 8};
  record.place = {Placement::at, 10, 20, 250};
  for (size_t i = 0; i < record.uuid.size(); ++i) record.uuid[i] = static_cast<uint8_t>(i);
  record.mark_width = 3;
  record.mark_height = 2;
  record.mark_hash.fill(0xaa);
  record.samples_mac.fill(0xbb);
  return record;
}

SealedPart secret() {
  SealedPart part;
  part.original_mac.fill(1);
  part.original_sha256.fill(2);
  part.original_bytes = 12345;
  part.mark = Bytes(7, 3);
  part.recipe = Bytes(100'000, 4);
  return part;
}

const SecretKey kKey{ByteView(Bytes(32, 9))};

TEST(MarkRecord, ComesBackAndOpensWithItsKeyOnly) {
  MarkRecord record = example();
  const PictureKeys keys = derive_picture_keys(kKey, record.bound_bytes());
  ASSERT_TRUE(seal_record(keys, secret(), record));
  const Bytes bytes = encode_record(record);
  EXPECT_LT(bytes.size(), 600u);  // the recipe is packed
  const auto parsed = parse_record(bytes);
  ASSERT_TRUE(parsed) << parsed.error().text();
  EXPECT_EQ(encode_record(parsed.value()), bytes);
  EXPECT_EQ(parsed.value().uuid_text(), "00010203-0405-0607-0809-0a0b0c0d0e0f");
  const auto opened = open_record(keys, parsed.value());
  ASSERT_TRUE(opened);
  EXPECT_EQ(opened.value().recipe, secret().recipe);
  EXPECT_EQ(opened.value().original_bytes, 12345u);
  const SecretKey other{ByteView(Bytes(32, 8))};
  EXPECT_FALSE(open_record(derive_picture_keys(other, record.bound_bytes()), parsed.value()));
}

TEST(MarkRecord, NoBitOfItCanBeChanged) {
  MarkRecord record = example();
  ASSERT_TRUE(seal_record(derive_picture_keys(kKey, record.bound_bytes()), secret(), record));
  const Bytes bytes = encode_record(record);
  for (size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    Bytes changed = bytes;
    changed[bit / 8] ^= static_cast<uint8_t>(1 << bit % 8);
    const auto parsed = parse_record(changed);
    if (!parsed) continue;
    ASSERT_FALSE(
        open_record(derive_picture_keys(kKey, parsed.value().bound_bytes()), parsed.value()))
        << bit;
  }
}

TEST(MarkRecord, EveryPrefixIsRefused) {
  MarkRecord record = example();
  ASSERT_TRUE(seal_record(derive_picture_keys(kKey, record.bound_bytes()), secret(), record));
  Bytes bytes = encode_record(record);
  while (!bytes.empty()) {
    bytes.pop_back();
    ASSERT_FALSE(parse_record(bytes)) << bytes.size();
  }
}

// docs/format-watermark.md shows these.
TEST(MarkRecord, TheBytesAreAsDocumented) {
  MarkRecord record = example();
  record.sealed = Bytes(28, 0xcc);
  EXPECT_EQ(to_hex(encode_record(record)),
            "4443574d41524b31"
            "98000000"
            "01010408"
            "000102030405060708090a0b0c0d0e0f"
            "99000600"
            "0a00000014000000fa0000000300000002000000"
            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
            "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
            "1c000000"
            "cccccccccccccccccccccccccccccccccccccccccccccccccccccccc");
}

TEST(WatermarkKey, FilesAreMadeOnceAndReadStrictly) {
  const TemporaryDirectory directory;
  const auto path = directory.path() / "k";
  const auto key = create_watermark_key(path);
  ASSERT_TRUE(key);
  struct stat info {};
  ASSERT_EQ(::stat(path.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
  const auto again = create_watermark_key(path);
  ASSERT_FALSE(again);
  EXPECT_TRUE(again.error().is(Errc::exists));
  EXPECT_EQ(to_bytes(read_watermark_key(path).value().view()), to_bytes(key.value().view()));
  ASSERT_EQ(::chmod(path.c_str(), 0640), 0);
  const auto open_to_group = read_watermark_key(path);
  ASSERT_FALSE(open_to_group);
  EXPECT_NE(open_to_group.error().text().find("chmod 600"), std::string::npos);
  EXPECT_FALSE(read_watermark_key(directory.path() / "absent"));
  const std::string text = encode_watermark_key(key.value());
  for (size_t i = 0; i < text.size(); ++i) {
    std::string changed = text;
    changed[i] = changed[i] == 'x' ? 'y' : 'x';
    ASSERT_FALSE(parse_watermark_key(changed, "k")) << i;
    ASSERT_FALSE(parse_watermark_key(text.substr(0, i), "k")) << i;
  }
  EXPECT_FALSE(parse_watermark_key(text + "\n", "k"));
}

TEST(WatermarkKey, EachPictureHasKeysOfItsOwn) {
  MarkRecord one = example(), two = example();
  two.uuid[0] ^= 1;
  const auto a = derive_picture_keys(kKey, one.bound_bytes());
  const auto b = derive_picture_keys(kKey, two.bound_bytes());
  EXPECT_NE(to_bytes(a.stream.view()), to_bytes(b.stream.view()));
  EXPECT_NE(to_bytes(a.stream.view()), to_bytes(a.mac.view()));
}

}  // namespace
}  // namespace datacloud::watermark
