// Filters: what was applied is undone, and the bytes in between never change.
#include "common/crypto/byte_filter.h"

#include <gtest/gtest.h>

#include "common/base/hex.h"
#include "tests/support/seeded.h"

namespace datacloud {
namespace {

std::string filtered(ByteFilter filter, const Bytes& plain) {
  Bytes out(plain.size());
  apply_filter(filter, plain, out);
  return to_hex(out);
}

TEST(ByteFilter, EveryCodeIsOneFilterOrNone) {
  int known = 0;
  for (int code = 0; code < 256; ++code) {
    const auto filter = filter_of(static_cast<uint8_t>(code));
    if (!filter) continue;
    ++known;
    EXPECT_EQ(filter_code(*filter), code);
  }
  EXPECT_EQ(known, 7);
}

TEST(ByteFilter, IsUndoneForEveryLength) {
  Seeded random;
  for (uint8_t code : {0, 1, 2, 3, 9, 10, 11}) {
    const ByteFilter filter = filter_of(code).value();
    for (size_t length : {0, 1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 100, 4095, 65536}) {
      const Bytes plain = random.bytes(length);
      Bytes between(length), back(length);
      apply_filter(filter, plain, between);
      undo_filter(filter, between, back);
      ASSERT_EQ(back, plain) << "code " << int{code} << ", " << length << " bytes";
    }
  }
}

// The worked bytes of docs/format.md, computed independently of this code.
TEST(ByteFilter, BytesArePinned) {
  Bytes plain(19);
  for (size_t i = 0; i < plain.size(); ++i) plain[i] = static_cast<uint8_t>(7 * i * i + 3 * i + 5);
  EXPECT_EQ(filtered({2, false}, plain), "05278113dddf198b350f4dc3715775cb591f17");
  EXPECT_EQ(filtered({2, true}, plain), "05225a92ca023a72aa0f3e76ade61e558ec517");
  EXPECT_EQ(filtered({4, false}, plain), "0581dd190fc357cb2713df8b4d717559351f17");
  EXPECT_EQ(filtered({4, true}, plain), "057c5c3c0fb4947327eccbac4d2304e3351f17");
  EXPECT_EQ(filtered({8, false}, plain), "05dd0f5727df4d758119c3cb138b7159351f17");
  EXPECT_EQ(filtered({8, true}, plain), "05d80f4827b84d288198c307137871e8351f17");
}

}  // namespace
}  // namespace datacloud
