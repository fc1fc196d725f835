// A printed key comes back exactly; every slip of a typist is found, in its line.
#include "tools/key_backup.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/support/seeded.h"

namespace datacloud {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr char kUuid[] = "01234567-89ab-4def-8123-456789abcdef";

KeyFile key_of(KeyFileKind kind) { return {kind, kUuid, SecretKey::random()}; }

std::string printed(const KeyFile& key) {
  auto text = print_key_backup(key, "demo", "/etc/demo.key");
  EXPECT_TRUE(text);
  return text ? text.value() : "";
}

bool same(const KeyFile& a, const KeyFile& b) {
  return a.kind == b.kind && a.cloud_uuid == b.cloud_uuid &&
         std::ranges::equal(a.key.view(), b.key.view());
}

// The six numbered lines alone, as somebody types them.
std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  for (int n = 1; n <= 6; n++) {
    const size_t at = text.find("  " + std::to_string(n) + ":");
    lines.push_back(text.substr(at, text.find('\n', at) - at));
  }
  return lines;
}

std::string join(const std::vector<std::string>& lines) {
  std::string text;
  for (const auto& line : lines) text += line + "\n";
  return text;
}

std::string refusal(const std::string& text) {
  auto keys = read_key_backup(text);
  return keys ? "accepted" : keys.error().text();
}

TEST(KeyBackup, BothKindsComeBackFromOnePage) {
  const KeyFile data = key_of(KeyFileKind::data), service = key_of(KeyFileKind::service);
  auto keys =
      read_key_backup("Title\n\n" + printed(data) + "\nmore words: 3 of them\n" + printed(service));
  ASSERT_TRUE(keys) << keys.error().text();
  ASSERT_EQ(keys.value().size(), 2u);
  EXPECT_TRUE(same(keys.value()[0], data));
  EXPECT_TRUE(same(keys.value()[1], service));
}

TEST(KeyBackup, TheFormatIsPinned) {
  std::array<uint8_t, 32> bytes;
  for (size_t i = 0; i < 32; i++) bytes[i] = static_cast<uint8_t>(i);
  const auto lines = lines_of(printed({KeyFileKind::service, kUuid, SecretKey(bytes)}));
  // Computed by another program from the description in key_backup.h.
  EXPECT_THAT(
      lines,
      ElementsAre("  1: 040G-28T5-CY4T-PKFF  check 3QTP", "  2: G4HM-ASW9-NF6Y-Y001  check MYD8",
                  "  3: 081G-8186-0W40-J2GB  check HFV3", "  4: 1G6G-W3RG-2491-650N  check J9A4",
                  "  5: 2RBH-G68T-3CE1-T7GZ  check WDHR", "  6: 0DRA-TCRH-KXCT-1ET8  check WDGB"));
}

TEST(KeyBackup, TypingMayBeSloppyWhereItCannotMatter) {
  const KeyFile key = key_of(KeyFileKind::data);
  std::string text = join(lines_of(printed(key)));
  for (char& c : text) {
    c = static_cast<char>(std::tolower(c));
    if (c == '0') c = 'o';
    if (c == '-') c = ' ';
  }
  for (size_t at = 0; (at = text.find('1', at)) != std::string::npos; at++) {
    if (text.compare(at, 2, "1:") != 0) text[at] = 'l';
  }
  for (size_t at; (at = text.find("check ")) != std::string::npos;) text.erase(at, 6);
  auto keys = read_key_backup(text);
  ASSERT_TRUE(keys) << keys.error().text() << "\n" << text;
  EXPECT_TRUE(same(keys.value().at(0), key));
}

TEST(KeyBackup, EveryWrongCharacterIsFoundInItsLine) {
  const auto lines = lines_of(printed(key_of(KeyFileKind::data)));
  for (size_t i = 0; i < lines.size(); i++) {
    for (size_t at = 5; at < lines[i].size(); at++) {
      if (!std::isalnum(static_cast<unsigned char>(lines[i][at])) || std::islower(lines[i][at]))
        continue;
      auto wrong = lines;
      wrong[i][at] = wrong[i][at] == '7' ? '8' : '7';
      EXPECT_THAT(refusal(join(wrong)), HasSubstr("line " + std::to_string(i + 1) + ":"))
          << "character " << at;
    }
  }
}

TEST(KeyBackup, TwoWrongLinesAreBothNamedAndNothingOfTheKeyIs) {
  auto lines = lines_of(printed(key_of(KeyFileKind::data)));
  std::swap(lines[1][5], lines[1][6]);
  if (lines[1][5] == lines[1][6]) lines[1][5] = lines[1][5] == 'A' ? 'B' : 'A';
  lines[3] += "7";
  const auto text = refusal(join(lines));
  EXPECT_THAT(text, HasSubstr("line 2:"));
  EXPECT_THAT(text, HasSubstr("line 4:"));
  EXPECT_THAT(text, Not(HasSubstr(lines[3].substr(5, 9))));
}

TEST(KeyBackup, LinesOutOfPlaceAreRefused) {
  const auto lines = lines_of(printed(key_of(KeyFileKind::data)));
  const auto others = lines_of(printed(key_of(KeyFileKind::data)));
  auto swapped = lines;
  std::swap(swapped[2], swapped[3]);
  EXPECT_THAT(refusal(join(swapped)), HasSubstr("in their order"));
  auto renumbered = swapped;
  renumbered[2][2] = '3';
  renumbered[3][2] = '4';
  EXPECT_THAT(refusal(join(renumbered)), HasSubstr("check does not match"));
  auto mixed = lines;
  mixed[4] = others[4];
  EXPECT_THAT(refusal(join(mixed)), HasSubstr("different backups"));
  EXPECT_THAT(refusal(join({lines.begin(), lines.begin() + 5})), HasSubstr("ends before line 6:"));
  EXPECT_THAT(refusal("nothing"), HasSubstr("no line"));
}

TEST(KeyBackup, RandomDamageNeverGivesAnotherKey) {
  Seeded random;
  const KeyFile key = key_of(KeyFileKind::service);
  const std::string text = printed(key);
  for (int round = 0; round < 2000; round++) {
    std::string damaged = text;
    for (int i = 0; i < 3; i++)
      damaged[random.number(0, damaged.size() - 1)] = static_cast<char>(random.number(0, 255));
    if (auto keys = read_key_backup(damaged); keys) {
      for (const auto& read : keys.value()) EXPECT_TRUE(same(read, key));
    }
  }
}

TEST(KeyBackup, FingerprintsDifferAndHoldNoKey) {
  const auto a = SecretKey::random(), b = SecretKey::random();
  EXPECT_EQ(key_fingerprint(a), key_fingerprint(a));
  EXPECT_NE(key_fingerprint(a), key_fingerprint(b));
}

}  // namespace
}  // namespace datacloud
