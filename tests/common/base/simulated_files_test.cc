// The simulated disk forgets exactly what it says it forgets: otherwise the power cut tests over it
// would prove nothing.
#include "tests/support/simulated_files.h"

#include <gtest/gtest.h>

#include <set>

namespace datacloud {
namespace {

using Open = FileLayer::Open;
constexpr uint64_t kSeeds = 200;

void write(FileLayer& files, const std::string& path, const std::string& text, bool sync) {
  auto file = files.open(path, Open::truncate).value();
  ASSERT_TRUE(file->append(as_bytes(text)));
  if (sync) {
    ASSERT_TRUE(file->sync());
  }
}

std::string contents(FileLayer& files, const std::string& path) {
  auto file = files.open(path, Open::read);
  if (!file) return "<none>";
  Bytes bytes(file.value()->size().value());
  EXPECT_EQ(file.value()->pread(0, bytes).value(), bytes.size());
  return std::string(as_text(bytes));
}

// Everything `look` sees over many seeds of a cut after `make`.
template <class Make, class Look>
std::set<std::string> outcomes(Make make, Look look) {
  std::set<std::string> seen;
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    SimulatedFiles files;
    make(files);
    files.power_cut(seed);
    seen.insert(look(files));
  }
  return seen;
}

TEST(SimulatedFiles, SyncedFileAndNameStay) {
  const auto seen = outcomes(
      [](auto& files) {
        write(files, "/a", "text", true);
        ASSERT_TRUE(files.sync_directory("/"));
      },
      [](auto& files) { return contents(files, "/a"); });
  EXPECT_EQ(seen, (std::set<std::string>{"text"}));
}

TEST(SimulatedFiles, NameWithoutDirectorySyncMayGo) {
  const auto seen = outcomes([](auto& files) { write(files, "/a", "text", true); },
                             [](auto& files) { return contents(files, "/a"); });
  EXPECT_EQ(seen, (std::set<std::string>{"text", "<none>"}));
}

TEST(SimulatedFiles, ContentsWithoutSyncAreLostTornOrKept) {
  const std::string text = std::string(512, 'a') + std::string(512, 'b');
  const auto seen = outcomes(
      [&](auto& files) {
        write(files, "/a", text, false);
        ASSERT_TRUE(files.sync_directory("/"));
      },
      [](auto& files) { return contents(files, "/a"); });
  EXPECT_TRUE(seen.count(text));
  EXPECT_TRUE(seen.count(""));
  EXPECT_GT(seen.size(), 10u);
  EXPECT_FALSE(seen.count("<none>"));
}

TEST(SimulatedFiles, RenameLeavesOldNewOrBothNeverNeither) {
  const auto seen = outcomes(
      [](auto& files) {
        write(files, "/a", "new", true);
        write(files, "/b", "old", true);
        ASSERT_TRUE(files.sync_directory("/"));
        ASSERT_TRUE(files.rename("/a", "/b"));
      },
      [](auto& files) { return contents(files, "/a") + " " + contents(files, "/b"); });
  EXPECT_EQ(seen, (std::set<std::string>{"new old", "new new", "<none> new"}));
}

TEST(SimulatedFiles, ChangesOfNamesAreIndependent) {
  const auto seen = outcomes(
      [](auto& files) {
        write(files, "/a", "", true);
        write(files, "/b", "", true);
      },
      [](auto& files) { return contents(files, "/a") + contents(files, "/b"); });
  EXPECT_EQ(seen, (std::set<std::string>{"", "<none>", "<none><none>"}));
}

TEST(SimulatedFiles, DirectoryNeedsItsParentsSync) {
  const auto seen = outcomes(
      [](auto& files) {
        ASSERT_TRUE(files.make_directory("/d"));
        write(files, "/d/a", "text", true);
        ASSERT_TRUE(files.sync_directory("/d"));
      },
      [](auto& files) { return contents(files, "/d/a"); });
  EXPECT_EQ(seen, (std::set<std::string>{"text", "<none>"}));
}

TEST(SimulatedFiles, IgnoredSyncHasNoEffect) {
  const auto seen = outcomes(
      [](auto& files) {
        files.ignore_sync(1);
        write(files, "/a", "text", true);
        ASSERT_TRUE(files.sync_directory("/"));
        EXPECT_EQ(files.sync_log(), (std::vector<std::string>{"file /a", "directory /"}));
      },
      [](auto& files) { return contents(files, "/a"); });
  EXPECT_EQ(seen, (std::set<std::string>{"text", "<none>"}));
}

TEST(SimulatedFiles, PowerFailsAtACallAndHandlesDie) {
  SimulatedFiles files;
  auto file = files.open("/a", Open::create_exclusive).value();
  files.fail_power_at(files.change_count() + 1);
  EXPECT_TRUE(file->append(as_bytes("x")));
  EXPECT_FALSE(file->append(as_bytes("y")));
  EXPECT_FALSE(files.stat("/"));
  files.power_cut(1);
  EXPECT_TRUE(files.stat("/"));
  EXPECT_FALSE(file->sync());
}

TEST(SimulatedFiles, LockIsExclusiveUntilReleased) {
  SimulatedFiles files;
  std::unique_ptr<File> first, second;
  ASSERT_TRUE(files.lock("/lock", first));
  EXPECT_FALSE(files.lock("/lock", second));
  first.reset();
  EXPECT_TRUE(files.lock("/lock", second));
}

}  // namespace
}  // namespace datacloud
