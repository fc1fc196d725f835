// The bytes of docs/format-sites.md, computed there independently of the code.
#include <gtest/gtest.h>

#include "common/store/directory_layout.h"
#include "common/store/object_file.h"

namespace datacloud {
namespace {

std::string hex(ByteView bytes) {
  static const char digits[] = "0123456789abcdef";
  std::string out;
  for (const uint8_t b : bytes) {
    out.push_back(digits[b >> 4]);
    out.push_back(digits[b & 15]);
  }
  return out;
}

TEST(ObjectFormat, WorkedBytes) {
  const std::string footer = "44436f310b0000000500000000000000c6b3a95f684ce721";
  EXPECT_EQ(hex(encode_object_trailer(5, {{"tag", "v1"}}).value()),
            "0300020000007461677631" + footer + footer);
  const std::string bare = "44436f31000000000500000000000000000000007b129e73";
  EXPECT_EQ(hex(encode_object_trailer(5, {}).value()), bare + bare);
}

TEST(ObjectFormat, FanOut) {
  const DirectoryLayout layout("/srv");
  EXPECT_EQ(layout.object("one"), "/srv/objects/6b/one");
  EXPECT_EQ(layout.object("0123456789abcdef0123456789abcdef"),
            "/srv/objects/ae/0123456789abcdef0123456789abcdef");
  EXPECT_EQ(layout.marker(), "/srv/datacloud-site");
}

TEST(ObjectFormat, Marker) {
  const SiteMarker marker{"00112233-4455-6677-8899-aabbccddeeff", "demo", "a\nb", 3, 1};
  const std::string text =
      "datacloud-site 1\n"
      "cloud_uuid=00112233-4455-6677-8899-aabbccddeeff\n"
      "cloud_name=demo\n"
      "site_name=a%0ab\n"
      "site_id=3\n"
      "crc32c=6347659f\n";
  EXPECT_EQ(marker.encode(), text);
  EXPECT_EQ(SiteMarker::decode(text).value(), marker);
}

}  // namespace
}  // namespace datacloud
