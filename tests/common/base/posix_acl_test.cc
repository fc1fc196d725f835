// POSIX ACLs: bytes that are taken and refused, and the arithmetic with permission bits, against
// the rules of acl(5).
#include "common/base/posix_acl.h"

#include <gtest/gtest.h>

#include <array>
#include <cerrno>
#include <initializer_list>
#include <string>

#include "tests/support/seeded.h"

namespace datacloud {
namespace {

using Entry = AclEntry;

std::string bytes_of(std::initializer_list<std::array<uint32_t, 3>> entries, uint32_t version = 2) {
  std::string out;
  const auto add = [&](uint32_t value, int bytes) {
    for (int i = 0; i < bytes; ++i) out.push_back(static_cast<char>(value >> (8 * i)));
  };
  add(version, 4);
  for (const auto& [tag, permissions, id] : entries) {
    add(tag, 2);
    add(permissions, 2);
    add(id, 4);
  }
  return out;
}

int refusal(const std::string& bytes) {
  const auto acl = parse_acl(bytes);
  return acl ? 0 : acl.error().errno_value();
}

constexpr uint32_t kNone = kAclNoId;

TEST(PosixAcl, WhatLinuxTakesIsTakenAndKeepsItsBytes) {
  const std::string minimal = bytes_of({{1, 6, kNone}, {4, 4, kNone}, {32, 0, kNone}});
  const std::string full = bytes_of({{1, 7, kNone},
                                     {2, 6, 1000},
                                     {2, 0, 5},
                                     {4, 5, kNone},
                                     {8, 4, 1000},
                                     {16, 5, kNone},
                                     {32, 1, kNone}});
  const std::string masked =
      bytes_of({{1, 6, kNone}, {4, 4, kNone}, {16, 0, kNone}, {32, 4, kNone}});
  for (const auto& bytes : {minimal, full, masked}) {
    const auto acl = parse_acl(bytes);
    ASSERT_TRUE(acl) << acl.error().text();
    EXPECT_EQ(encode_acl(acl.value()), bytes);
  }
  EXPECT_TRUE(acl_is_minimal(parse_acl(minimal).value()));
  EXPECT_FALSE(acl_is_minimal(parse_acl(full).value()));
  EXPECT_FALSE(acl_is_minimal(parse_acl(masked).value()));
  EXPECT_EQ(acl_mode(parse_acl(minimal).value()), 0640u);
  EXPECT_EQ(acl_mode(parse_acl(full).value()), 0751u);
  EXPECT_EQ(acl_mode(parse_acl(masked).value()), 0604u);
  EXPECT_TRUE(parse_acl(bytes_of({})).value().empty());
}

TEST(PosixAcl, IdsOfEntriesWithoutOneMeanNothing) {
  const auto acl = parse_acl(bytes_of({{1, 6, 17}, {4, 4, 0}, {32, 0, 3}}));
  ASSERT_TRUE(acl);
  EXPECT_EQ(encode_acl(acl.value()), bytes_of({{1, 6, kNone}, {4, 4, kNone}, {32, 0, kNone}}));
}

TEST(PosixAcl, WhatIsNoneIsRefused) {
  const std::initializer_list<std::array<uint32_t, 3>> entries = {
      {1, 6, kNone}, {4, 4, kNone}, {32, 0, kNone}};
  EXPECT_EQ(refusal(bytes_of(entries)), 0);
  EXPECT_EQ(refusal(bytes_of(entries, 1)), EINVAL) << "another version";
  EXPECT_EQ(refusal(""), EINVAL);
  EXPECT_EQ(refusal("abc"), EINVAL);
  EXPECT_EQ(refusal(bytes_of(entries) + "x"), EINVAL) << "part of an entry";
  EXPECT_EQ(refusal(bytes_of({{1, 6, kNone}, {4, 4, kNone}})), EINVAL) << "no others";
  EXPECT_EQ(refusal(bytes_of({{4, 6, kNone}, {32, 4, kNone}})), EINVAL) << "no owner";
  EXPECT_EQ(refusal(bytes_of({{1, 6, kNone}, {1, 6, kNone}, {4, 4, kNone}, {32, 0, kNone}})),
            EINVAL);
  EXPECT_EQ(refusal(bytes_of({{1, 8, kNone}, {4, 4, kNone}, {32, 0, kNone}})), EINVAL);
  EXPECT_EQ(refusal(bytes_of({{4, 4, kNone}, {1, 6, kNone}, {32, 0, kNone}})), EINVAL) << "order";
  EXPECT_EQ(refusal(bytes_of({{1, 6, kNone}, {2, 4, 5}, {4, 4, kNone}, {32, 0, kNone}})), EINVAL)
      << "a named user without a mask";
  EXPECT_EQ(refusal(bytes_of(
                {{1, 6, kNone}, {2, 4, kNone}, {4, 4, kNone}, {16, 7, kNone}, {32, 0, kNone}})),
            EINVAL)
      << "it names nobody";
  EXPECT_EQ(refusal(bytes_of(
                {{1, 6, kNone}, {4, 4, kNone}, {16, 7, kNone}, {16, 7, kNone}, {32, 0, kNone}})),
            EINVAL);
  EXPECT_EQ(refusal(bytes_of({{1, 6, kNone}, {3, 4, 1}, {4, 4, kNone}, {32, 0, kNone}})), EINVAL);
  EXPECT_EQ(refusal(bytes_of(entries) + std::string(4096, '\0')), E2BIG);
}

TEST(PosixAcl, ChmodChangesOwnerMaskAndOthers) {
  auto acl =
      parse_acl(
          bytes_of({{1, 7, kNone}, {2, 6, 1000}, {4, 5, kNone}, {16, 7, kNone}, {32, 1, kNone}}))
          .value();
  acl_follow_mode(acl, 0100640);
  EXPECT_EQ(encode_acl(acl),
            bytes_of({{1, 6, kNone}, {2, 6, 1000}, {4, 5, kNone}, {16, 4, kNone}, {32, 0, kNone}}));
  auto minimal = parse_acl(bytes_of({{1, 6, kNone}, {4, 4, kNone}, {32, 0, kNone}})).value();
  acl_follow_mode(minimal, 0751);
  EXPECT_EQ(acl_mode(minimal), 0751u);
}

TEST(PosixAcl, WhatIsMadeKeepsWhatModeAndDefaultAclBothPermit) {
  auto acl =
      parse_acl(
          bytes_of({{1, 7, kNone}, {2, 7, 1000}, {4, 7, kNone}, {16, 5, kNone}, {32, 6, kNone}}))
          .value();
  EXPECT_EQ(acl_restrict_new(acl, 0102664), 0102644u);
  EXPECT_EQ(encode_acl(acl),
            bytes_of({{1, 6, kNone}, {2, 7, 1000}, {4, 7, kNone}, {16, 4, kNone}, {32, 4, kNone}}));
}

TEST(PosixAcl, RandomBytesAreRefusedOrEncodedTheSame) {
  Seeded rng;
  for (int round = 0; round < 20'000; ++round) {
    std::string bytes =
        bytes_of({{1, 6, kNone}, {2, 1, 7}, {4, 4, kNone}, {16, 3, kNone}, {32, 0, kNone}});
    const uint64_t changes = rng.number(1, 3);
    for (uint64_t i = 0; i < changes; ++i) {
      const uint64_t becomes = rng.number(0, 3) == 0 ? rng.number(0, 255) : 1u << rng.number(0, 5);
      bytes[rng.number(0, bytes.size() - 1)] = static_cast<char>(becomes);
    }
    if (rng.number(0, 3) == 0) bytes.resize(rng.number(0, bytes.size()));
    auto acl = parse_acl(bytes);
    if (!acl || acl.value().empty()) continue;
    const auto again = parse_acl(encode_acl(acl.value()));
    ASSERT_TRUE(again);
    ASSERT_EQ(again.value(), acl.value());
    const uint32_t mode = static_cast<uint32_t>(rng.number(0, 07777));
    acl_follow_mode(acl.value(), mode);
    ASSERT_EQ(acl_mode(acl.value()), mode & 0777);
    const auto asked = static_cast<uint32_t>(rng.number(0, 07777));
    const uint32_t made = acl_restrict_new(acl.value(), asked);
    ASSERT_EQ(made & 0777, acl_mode(acl.value()));
    ASSERT_EQ(made, asked & (07000 | mode)) << "what both permit";
  }
}

}  // namespace
}  // namespace datacloud
