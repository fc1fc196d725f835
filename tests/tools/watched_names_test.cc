// What is told of changes below a directory, by a tree of names that the test keeps.
#include "tools/watched_names.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>

namespace datacloud {
namespace {

using Event = pb::WatchEvent;
using Lines = std::vector<std::string>;

class WatchedNamesTest : public testing::Test {
 protected:
  // /top (1): file (10), sub (2): deep (20), low (3)
  std::map<std::string, std::vector<WatchedNames::Entry>> tree_{
      {"/top/", {{"file", 10, false}, {"sub", 2, true}}},
      {"/top/sub/", {{"deep", 20, false}, {"low", 3, true}}},
      {"/top/sub/low/", {}},
      {"/top/came/", {{"inside", 50, false}}}};
  WatchedNames::List list_ = [this](const std::string& path) { return tree_[path]; };

  static Event named(Event::Kind kind, uint64_t parent, const std::string& name, uint64_t ino,
                     bool directory = false, uint64_t cookie = 0) {
    Event event;
    event.set_kind(kind);
    event.set_parent(parent);
    event.set_name(name);
    event.set_ino(ino);
    event.set_directory(directory);
    event.set_cookie(cookie);
    return event;
  }
  static Event of(Event::Kind kind, uint64_t ino) { return named(kind, 0, "", ino); }
  static Lines told(WatchedNames& names, const std::vector<Event>& events) {
    Lines out;
    for (const auto& event : events) {
      const auto lines = names.apply(event).value();
      for (const auto& line : lines)
        out.push_back(line.directory + " " + fmt::format("{}", fmt::join(line.events, ",")) +
                      (line.name.empty() ? "" : " " + line.name));
    }
    return out;
  }
};

TEST_F(WatchedNamesTest, TellsChangesOfOneDirectory) {
  WatchedNames names(list_, false);
  ASSERT_TRUE(names.add_directory(1, "/top"));
  EXPECT_EQ(told(names, {named(Event::CREATE, 1, "new", 11), of(Event::MODIFY, 11),
                         of(Event::ATTRIB, 10), of(Event::MODIFY, 20),
                         named(Event::CREATE, 2, "below", 12), of(Event::MODIFY, 12),
                         named(Event::DELETE, 1, "new", 11), of(Event::MODIFY, 11)}),
            (Lines{"/top/ CREATE new", "/top/ MODIFY new", "/top/ CLOSE_WRITE,CLOSE new",
                   "/top/ ATTRIB file", "/top/ DELETE new"}));
}

TEST_F(WatchedNamesTest, FollowsDirectoriesBelow) {
  WatchedNames names(list_, true);
  ASSERT_TRUE(names.add_directory(1, "/top"));
  EXPECT_EQ(
      told(names, {named(Event::CREATE, 3, "d", 4, true), named(Event::CREATE, 4, "f", 40),
                   of(Event::ATTRIB, 20)}),
      (Lines{"/top/sub/low/ CREATE,ISDIR d", "/top/sub/low/d/ CREATE f", "/top/sub/ ATTRIB deep"}));
  // Within: paths change. Out: silent from then on.
  EXPECT_EQ(told(names, {named(Event::MOVED_FROM, 2, "low", 3, true, 7),
                         named(Event::MOVED_TO, 1, "high", 3, true, 7), of(Event::ATTRIB, 40)}),
            (Lines{"/top/sub/ MOVED_FROM,ISDIR low", "/top/ MOVED_TO,ISDIR high",
                   "/top/high/d/ ATTRIB f"}));
  EXPECT_EQ(told(names, {named(Event::MOVED_FROM, 1, "high", 3, true, 8),
                         named(Event::MOVED_TO, 99, "x", 3, true, 8), of(Event::ATTRIB, 40),
                         named(Event::CREATE, 4, "g", 41)}),
            (Lines{"/top/ MOVED_FROM,ISDIR high"}));
  // In: what it brings is looked up.
  EXPECT_EQ(told(names, {named(Event::MOVED_FROM, 99, "y", 5, true, 9),
                         named(Event::MOVED_TO, 1, "came", 5, true, 9), of(Event::ATTRIB, 50)}),
            (Lines{"/top/ MOVED_TO,ISDIR came", "/top/came/ ATTRIB inside"}));
}

TEST_F(WatchedNamesTest, ARenameOverANameTakesItsPlace) {
  WatchedNames names(list_, true);
  ASSERT_TRUE(names.add_directory(1, "/top"));
  EXPECT_EQ(told(names, {named(Event::MOVED_FROM, 2, "deep", 20, false, 1),
                         named(Event::MOVED_TO, 1, "file", 20, false, 1), of(Event::ATTRIB, 10),
                         of(Event::ATTRIB, 20)}),
            (Lines{"/top/sub/ MOVED_FROM deep", "/top/ MOVED_TO file", "/top/ ATTRIB file"}));
}

TEST_F(WatchedNamesTest, TellsAllNamesOfAFile) {
  WatchedNames names(list_, true);
  ASSERT_TRUE(names.add_directory(1, "/top"));
  EXPECT_EQ(told(names, {named(Event::CREATE, 2, "link", 10), of(Event::ATTRIB, 10)}),
            (Lines{"/top/sub/ CREATE link", "/top/ ATTRIB file", "/top/sub/ ATTRIB link"}));
}

TEST_F(WatchedNamesTest, WatchesOneFile) {
  WatchedNames names(list_, false);
  names.add_file(10, "/top/file");
  EXPECT_EQ(
      told(names, {of(Event::MODIFY, 10), of(Event::ATTRIB, 11), named(Event::CREATE, 1, "x", 12)}),
      (Lines{"/top/file MODIFY", "/top/file CLOSE_WRITE,CLOSE"}));
}

TEST_F(WatchedNamesTest, LooksAgainWhenChangesWereLost) {
  WatchedNames names(list_, true);
  ASSERT_TRUE(names.add_directory(1, "/top"));
  tree_["/top/"] = {{"other", 60, false}};
  ASSERT_TRUE(names.look_again());
  EXPECT_EQ(names.size(), 1u);
  EXPECT_EQ(told(names, {of(Event::ATTRIB, 10), of(Event::ATTRIB, 20), of(Event::ATTRIB, 60)}),
            (Lines{"/top/ ATTRIB other"}));
}

}  // namespace
}  // namespace datacloud
