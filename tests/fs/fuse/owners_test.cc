// Owners here and in the cloud: the file of -o uidmap, what is shown, created and changed.
#include "fs/fuse/owners.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <fstream>
#include <string>

#include "tests/support/temporary_directory.h"

namespace datacloud {
namespace {

using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

Owners mapped(const std::string& text) {
  auto owners = Owners::mapped(text, "map");
  EXPECT_TRUE(owners) << owners.error().text();
  return owners ? owners.value() : Owners();
}

std::string refusal(const std::string& text) {
  auto owners = Owners::mapped(text, "map");
  EXPECT_FALSE(owners) << text;
  return owners ? "" : owners.error().text();
}

const std::string kMap =
    "# cloud  here\n"
    "uid 0 0\n"
    "\n"
    "  uid\t1000 2000 10   # ten users\r\n"
    "gid 0 0\n"
    "gid 3000 4000";

TEST(Owners, WithoutOptionsIdsAreTheSame) {
  const Owners owners;
  EXPECT_EQ(owners.shown({5, 6}), (Owner{5, 6}));
  EXPECT_EQ(owners.maker({5, 6}).value(), (Owner{5, 6}));
  EXPECT_EQ(owners.change({.uid = 7, .gid = {}}, {}).value(), (OwnerChange{.uid = 7, .gid = {}}));
  EXPECT_FALSE(owners.change_needs_owner());
}

TEST(Owners, AMapIsAppliedBothWaysForUsersAndGroupsApart) {
  const Owners owners = mapped(kMap);
  EXPECT_EQ(owners.shown({0, 0}), (Owner{0, 0}));
  EXPECT_EQ(owners.shown({1009, 3000}), (Owner{2009, 4000}));
  EXPECT_EQ(owners.shown({1010, 1000}), (Owner{kNoId, kNoId}));
  EXPECT_EQ(owners.maker({2000, 4000}).value(), (Owner{1000, 3000}));
  EXPECT_EQ(owners.change({.uid = 2001, .gid = {}}, {}).value(),
            (OwnerChange{.uid = 1001, .gid = {}}));
  EXPECT_EQ(owners.change({.uid = {}, .gid = 4000}, {}).value(),
            (OwnerChange{.uid = {}, .gid = 3000}));
  EXPECT_FALSE(owners.change_needs_owner());
}

TEST(Owners, WhatHasNoIdInTheCloudOverflows) {
  const Owners owners = mapped(kMap);
  for (const Owner local : {Owner{1000, 0}, {0, 3000}, {kNoId, 0}}) {
    EXPECT_EQ(owners.maker(local).error().errno_value(), EOVERFLOW);
    EXPECT_EQ(owners.change({local.uid, local.gid}, {}).error().errno_value(), EOVERFLOW);
  }
}

TEST(Owners, AWrongLineIsNamedWithItsNumberAndTheRemedy) {
  const std::pair<const char*, const char*> cases[] = {
      {"uid 0 0\nuser 1 2\n", "map:2: \"user\": write `uid CLOUD LOCAL [COUNT]`"},
      {"uid 0\n", "map:1: \"0\": write"},
      {"uid\n", "map:1: \"uid\": write"},
      {"\n\nuid 1 2 3 4\n", "map:3: \"4\": write"},
      {"uid -1 0\n", "map:1: \"-1\": write"},
      {"uid 1 0x10\n", "map:1: \"0x10\": write"},
      {"uid 1 4294967296\n", "map:1: \"4294967296\": write"},
      {"uid 1 4294967295\n", "map:1: the range goes beyond 4294967294"},
      {"uid 1 1 0\n", "map:1: a range needs at least one id"},
      {"uid 1 1 10\nuid 50 10\n", "map:2: local id 10 is mapped already"},
      {"gid 1 1 10\ngid 10 50\n", "map:2: id 10 of the cloud is mapped already"},
      {"uid 0 0\n", "map: no line begins with gid; `gid 0 0 4294967295`"},
      {"gid 0 0\n", "map: no line begins with uid"},
      {"", "map: no line begins with uid"},
  };
  for (const auto& [text, error] : cases) EXPECT_THAT(refusal(text), StartsWith(error)) << text;
  // Some other file by mistake: one short line of plain characters.
  EXPECT_THAT(refusal("\x7f"
                      "ELF\x01\x02" +
                      std::string(500, 'x')),
              Not(HasSubstr("\x01")));
  EXPECT_LT(refusal(std::string(500, 'x')).size(), 200u);
}

TEST(Owners, TheNumberOfLinesIsBounded) {
  std::string text = "gid 0 0\n";
  for (size_t i = 0; i < kIdMapRangesMax; ++i)
    text += "uid " + std::to_string(2 * i) + " " + std::to_string(2 * i) + "\n";
  EXPECT_EQ(mapped(text).shown({2 * kIdMapRangesMax - 2, 0}).uid, 2 * kIdMapRangesMax - 2);
  EXPECT_THAT(refusal(text + "uid 1 1\n"), HasSubstr("map:10002: more than 10000 lines"));
}

TEST(Owners, AMapIsReadFromAFile) {
  const TemporaryDirectory directory;
  const auto file = directory.path() / "map";
  EXPECT_THAT(Owners::mapped_by(file).error().text(), HasSubstr(file.string() + ": No such file"));
  EXPECT_THAT(Owners::mapped_by(directory.path()).error().text(), HasSubstr("not a regular file"));
  EXPECT_THAT(Owners::mapped_by("/dev/zero").error().text(), HasSubstr("not a regular file"));
  std::ofstream(file) << kMap;
  EXPECT_EQ(Owners::mapped_by(file).value().shown({1000, 0}), (Owner{2000, 0}));
  std::ofstream(file) << std::string(kIdMapBytesMax - kMap.size() - 1, '\n') << "\n" << kMap;
  EXPECT_TRUE(Owners::mapped_by(file));
  std::ofstream(file) << std::string(kIdMapBytesMax - kMap.size() + 1, '\n') << kMap;
  EXPECT_THAT(Owners::mapped_by(file).error().text(), HasSubstr("larger than 1 MiB"));
}

TEST(Owners, SquashedEverythingNewBelongsToTheUser) {
  const auto owners = Owners::squashed_to({1000, 100});
  EXPECT_EQ(owners.maker({0, 0}).value(), (Owner{1000, 100}));
  EXPECT_EQ(owners.maker({4711, 4711}).value(), (Owner{1000, 100}));
  EXPECT_EQ(owners.shown({5, 6}), (Owner{5, 6}));
}

// As a server of NFS with all_squash: what the user itself might do.
TEST(Owners, SquashedChownIsThatOfTheUser) {
  const auto owners = Owners::squashed_to({1000, 100});
  EXPECT_TRUE(owners.change_needs_owner());
  const OwnerChange nothing;
  EXPECT_EQ(owners.change({5, 6}, {5, 6}).value(), nothing);
  EXPECT_EQ(owners.change({.uid = {}, .gid = 6}, {5, 6}).value(), nothing);
  EXPECT_EQ(owners.change({.uid = {}, .gid = 100}, {1000, 6}).value(),
            (OwnerChange{.uid = {}, .gid = 100}));
  EXPECT_EQ(owners.change({.uid = {}, .gid = 100}, {5, 6}).error().errno_value(), EPERM);
  EXPECT_EQ(owners.change({.uid = {}, .gid = 7}, {1000, 6}).error().errno_value(), EPERM);
  EXPECT_EQ(owners.change({.uid = 1000, .gid = {}}, {5, 6}).error().errno_value(), EPERM);
  EXPECT_EQ(owners.change({.uid = 0, .gid = {}}, {1000, 100}).error().errno_value(), EPERM);
}

TEST(Owners, SquashNeedsTwoNumbers) {
  EXPECT_EQ(parse_owner("1000:100").value(), (Owner{1000, 100}));
  EXPECT_EQ(parse_owner("0:0").value(), (Owner{0, 0}));
  for (const char* wrong : {"", ":", "1000", "1000:", ":100", "a:b", "1:2:3", "-1:0", "1 :2",
                            "4294967295:0", "0:4294967295", "4294967296:0"})
    EXPECT_FALSE(parse_owner(wrong)) << wrong;
}

PosixAcl acl_of(uint32_t user, uint32_t group) {
  return {{AclEntry::owner, 7, kAclNoId},        {AclEntry::user, 6, user},
          {AclEntry::owning_group, 5, kAclNoId}, {AclEntry::group, 4, group},
          {AclEntry::mask, 7, kAclNoId},         {AclEntry::others, 0, kAclNoId}};
}

TEST(Owners, IdsInsideAclsAreMappedBothWays) {
  const Owners owners = mapped(kMap);
  EXPECT_EQ(owners.shown_acl(acl_of(1009, 3000)), encode_acl(acl_of(2009, 4000)));
  EXPECT_EQ(owners.kept_acl(acl_of(2009, 4000)).value(), encode_acl(acl_of(1009, 3000)));
  EXPECT_EQ(owners.kept_acl(acl_of(2010, 4000)).error().errno_value(), EOVERFLOW);
  EXPECT_EQ(owners.kept_acl(acl_of(2009, 1)).error().errno_value(), EOVERFLOW);
  EXPECT_EQ(Owners().shown_acl(acl_of(9, 8)), encode_acl(acl_of(9, 8)));
  EXPECT_EQ(Owners().kept_acl(acl_of(9, 8)).value(), encode_acl(acl_of(9, 8)));
}

// The kernel takes no ACL with its invalid id, and nobody may match what is shown instead.
TEST(Owners, AnAclShowsNobodyForWhoHasNoIdHere) {
  const Owners owners = mapped(kMap);
  const auto shown = parse_acl(owners.shown_acl(acl_of(5, 6)));
  ASSERT_TRUE(shown) << shown.error().text();
  EXPECT_EQ(shown.value(), acl_of(0xfffffffe, 0xfffffffe));
  EXPECT_EQ(owners.kept_acl(shown.value()).error().errno_value(), EOVERFLOW) << "and is not lost";
}

}  // namespace
}  // namespace datacloud
