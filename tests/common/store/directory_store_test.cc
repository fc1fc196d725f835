// What is particular to a site that is a directory: its marker, its files, several processes, a
// disk that fails.
#include "common/store/directory_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <functional>

#include "common/base/crc32c.h"
#include "common/base/out_of_space.h"
#include "common/site/site_set.h"
#include "tests/support/seeded.h"
#include "tests/support/simulated_files.h"
#include "tests/support/store_calls.h"
#include "tests/support/temporary_directory.h"

namespace datacloud {
namespace {

namespace fs = std::filesystem;

SiteConfig config_of(const fs::path& path) { return {"a", "directory", path}; }

std::string slurp(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(in), {});
}

void spill(const fs::path& path, const std::string& text) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << text;
}

TEST(Crc32c, KnownValue) {
  EXPECT_EQ(crc32c(as_bytes("123456789")), 0xe3069283u);
  EXPECT_EQ(crc32c(as_bytes("6789"), crc32c(as_bytes("12345"))), 0xe3069283u);
}

TEST(SiteMarker, RoundTripAndDamage) {
  const SiteMarker marker{"uuid", "na\nme %", "site", 7, 1};
  const auto text = marker.encode();
  ASSERT_TRUE(SiteMarker::decode(text));
  EXPECT_EQ(SiteMarker::decode(text).value(), marker);
  for (size_t i = 0; i < text.size(); ++i) {
    EXPECT_FALSE(SiteMarker::decode(text.substr(0, i))) << i;
    for (int c = 0; c < 256; ++c) {
      auto damaged = text;
      damaged[i] = static_cast<char>(c);
      EXPECT_EQ(bool(SiteMarker::decode(damaged)), damaged == text) << i;
    }
  }
}

TEST(SiteMarker, AnyBytesAreSurvived) {
  Seeded random;
  for (int i = 0; i < 2000; ++i) {
    const Bytes bytes = random.bytes(random.number(0, 200));
    EXPECT_FALSE(SiteMarker::decode(as_text(bytes)));
    EXPECT_FALSE(SiteMarker::decode("datacloud-site " + std::string(as_text(bytes))));
  }
}

class DirectoryStore : public testing::Test {
 protected:
  DirectoryStore() {
    auto formatted = format_store(config_of(root_), test_marker());
    EXPECT_TRUE(formatted) << formatted.error().message();
    store_ = open_store(config_of(root_), test_marker()).value();
  }

  TemporaryDirectory directory_{TemporaryDirectory::fast_parent()};
  const fs::path root_ = directory_.path() / "deep" / "site";
  std::unique_ptr<ObjectStore> store_;
};

TEST_F(DirectoryStore, FormatRefusesWhatIsInUse) {
  EXPECT_EQ(read_store_marker(config_of(root_)).value(), test_marker());
  EXPECT_TRUE(format_store(config_of(root_), test_marker()).error().is(Errc::exists));
  const auto used = directory_.path() / "used";
  fs::create_directory(used);
  spill(used / "something", "x");
  EXPECT_TRUE(format_store(config_of(used), test_marker()).error().is(Errc::invalid));
  EXPECT_TRUE(read_store_marker(config_of(used)).error().is(Errc::not_found));
  EXPECT_EQ(std::distance(fs::directory_iterator(used), {}), 1) << "left as it was";
  // Objects of a site whose marker was lost must not become another cloud's.
  ASSERT_TRUE(put(*store_, "one", {1}));
  fs::remove(root_ / "datacloud-site");
  EXPECT_TRUE(format_store(config_of(root_), test_marker(2)).error().is(Errc::invalid));
  EXPECT_TRUE(format_store({"a", "tape", root_}, test_marker()).error().is(Errc::invalid));
  EXPECT_TRUE(format_store({"a", "directory", "x/y"}, test_marker()).error().is(Errc::invalid));
}

TEST_F(DirectoryStore, LocationIsTheFile) {
  ASSERT_TRUE(put(*store_, "one", contents_of("one", 100)));
  const auto whole = slurp(store_->location("one"));
  EXPECT_EQ(whole.substr(0, 100), as_text(contents_of("one", 100)));
}

// Wherever one byte of the file changes, data that did not change is still read.
TEST_F(DirectoryStore, AnyFlippedByteLeavesTheRestReadable) {
  const std::string data = "0123456789";
  ASSERT_TRUE(put(*store_, "one", to_bytes(as_bytes(data)), {{"tag", "value"}}));
  const auto path = store_->location("one");
  const std::string whole = slurp(path);
  for (size_t i = 0; i < whole.size(); ++i) {
    auto damaged = whole;
    damaged[i] ^= 0x40;
    spill(path, damaged);
    auto reply = read(*store_, "one", {{0, 100}});
    ASSERT_TRUE(reply) << i;
    EXPECT_EQ(reply.value().object_size, data.size()) << i;
    EXPECT_EQ(as_text(reply.value().ranges[0]), damaged.substr(0, data.size())) << i;
    auto attributes = read(*store_, "one", {}, true);
    if (attributes) {
      EXPECT_EQ(attributes.value().attributes, (Attributes{{"tag", "value"}})) << i;
    } else {
      EXPECT_TRUE(attributes.error().is(Errc::corrupt)) << attributes.error().message();
    }
  }
}

TEST_F(DirectoryStore, TruncatedAndGarbledFilesAreShortOrWrongNeverFatal) {
  Seeded random;
  ASSERT_TRUE(put(*store_, "one", contents_of("one", 500)));
  const auto path = store_->location("one");
  const std::string whole = slurp(path);
  for (size_t size = 0; size < whole.size(); ++size) {
    spill(path, whole.substr(0, size));
    auto reply = read(*store_, "one", {{0, 1000}, {499, 1}});
    ASSERT_TRUE(reply);
    EXPECT_EQ(as_text(reply.value().ranges[0]), whole.substr(0, reply.value().object_size));
    EXPECT_TRUE(read(*store_, "one", {}, true).error().is(Errc::corrupt)) << size;
  }
  for (int i = 0; i < 200; ++i) {  // same length, all garbage: as many bytes as there were
    spill(path, std::string(as_text(random.bytes(whole.size()))));
    auto reply = read(*store_, "one", {{0, 500}});
    ASSERT_TRUE(reply);
    EXPECT_EQ(reply.value().ranges[0].size(), 500u);
    EXPECT_FALSE(read(*store_, "one", {}, true));
  }
}

TEST_F(DirectoryStore, HostileThingsInTheWayOfAnObject) {
  const fs::path path = store_->location("one");
  fs::create_directory(path);
  EXPECT_FALSE(read(*store_, "one", {{0, 10}}));
  EXPECT_TRUE(put(*store_, "one", {1}).error().is(Errc::exists));
  fs::remove(path);
  ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
  auto fifo = read(*store_, "one", {{0, 10}});  // must not wait for a writer
  EXPECT_FALSE(fifo);
  fs::remove(path);
  spill(path, "");
  fs::resize_file(path, uint64_t{1} << 40);  // sparse and huge
  EXPECT_TRUE(read(*store_, "one", {{0, UINT64_MAX}}).error().is(Errc::corrupt));
  EXPECT_TRUE(read(*store_, "one", {{5, 10}}));
}

TEST_F(DirectoryStore, ForeignFilesAreNotListed) {
  ASSERT_TRUE(put(*store_, "one", {1}));
  const auto folder = fs::path(store_->location("one")).parent_path();
  spill(folder / ".tmp-young", "x");
  spill(folder / ".tmp-old", "x");
  spill(folder / "bad name", "x");
  const auto other = root_ / "objects" / (folder.filename() == "00" ? "01" : "00");
  spill(other / "one", "not where its name belongs");
  fs::last_write_time(folder / ".tmp-old",
                      fs::file_time_type::clock::now() - std::chrono::hours(2));
  EXPECT_EQ(list(*store_, "", 100).value().names, (std::vector<std::string>{"one"}));
  EXPECT_FALSE(fs::exists(folder / ".tmp-old"));
  EXPECT_TRUE(fs::exists(folder / ".tmp-young")) << "may be another process's put";
  for (const char* from : {"x", "zz/one", "00one", "ff", "0/", "000/x"}) {
    EXPECT_TRUE(list(*store_, from, 10).error().is(Errc::invalid)) << from;
  }
}

TEST_F(DirectoryStore, AnotherMarkerIsAway) {
  ASSERT_TRUE(put(*store_, "one", {1}));
  const auto marker = root_ / "datacloud-site";
  const auto ours = slurp(marker);
  auto other_cloud = test_marker();
  other_cloud.cloud_uuid = "uuid-2";
  const std::vector<std::string> others{other_cloud.encode(), test_marker(2).encode(), "garbage",
                                        "", std::string(1 << 20, 'x')};
  for (const auto& text : others) {
    spill(marker, text);
    auto answer = put(*store_, "two", {2});
    ASSERT_FALSE(answer);
    EXPECT_TRUE(answer.error().is(Errc::away)) << answer.error().message();
    EXPECT_THAT(answer.error().text(), testing::HasSubstr(root_.string()));
    EXPECT_TRUE(read(*store_, "nothing", {}).error().is(Errc::away));
  }
  spill(marker, ours);
  EXPECT_TRUE(put(*store_, "two", {2}));
  auto renamed = test_marker();
  renamed.site_name = "renamed";  // cloud and site id decide
  spill(marker, renamed.encode());
  EXPECT_TRUE(check(*store_));
}

TEST_F(DirectoryStore, AMissingFolderIsDamageNotAbsence) {
  const auto folder = fs::path(store_->location("one")).parent_path();
  fs::remove(folder);
  auto answer = put(*store_, "one", {1});
  ASSERT_FALSE(answer);
  EXPECT_TRUE(answer.error().is(Errc::io)) << answer.error().message();
  EXPECT_FALSE(fs::exists(folder)) << "never remade";
  EXPECT_TRUE(list(*store_, "", 10).error().is(Errc::io));
}

// Processes race for the same names: one winner each, whole, and the others are told.
TEST_F(DirectoryStore, OneWinnerOfARaceOfProcesses) {
  constexpr int kProcesses = 4, kNames = 150;
  store_.reset();  // no threads of ours when forking
  int results[2], start[2];
  ASSERT_EQ(::pipe(results), 0);
  ASSERT_EQ(::pipe(start), 0);
  std::vector<pid_t> children;
  for (int p = 0; p < kProcesses; ++p) {
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      ::close(start[1]);
      auto store = open_store(config_of(root_), test_marker()).value();
      char byte;
      (void)!::read(start[0], &byte, 1);  // until the parent closes it
      char won[kNames];
      for (int i = 0; i < kNames; ++i) {
        auto answer = put(*store, std::string("race-").append(std::to_string(i)),
                          Bytes(2000, static_cast<uint8_t>(p)));
        won[i] = answer ? 'w' : answer.error().is(Errc::exists) ? 'l' : '?';
      }
      const bool told = ::write(results[1], won, sizeof won) == sizeof won;
      ::_exit(told ? p : 100);
    }
    children.push_back(child);
  }
  ::close(start[0]);
  ::close(start[1]);
  ::close(results[1]);
  std::vector<int> wins(kNames), losses(kNames);
  for (const pid_t child : children) {
    char won[kNames];  // one write of less than a pipe's atomic size
    ASSERT_EQ(::read(results[0], won, sizeof won), ssize_t{sizeof won});
    for (int i = 0; i < kNames; ++i) {
      wins[static_cast<size_t>(i)] += won[i] == 'w';
      losses[static_cast<size_t>(i)] += won[i] == 'l';
    }
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
  }
  ::close(results[0]);
  store_ = open_store(config_of(root_), test_marker()).value();
  for (size_t i = 0; i < kNames; ++i) {
    EXPECT_EQ(wins[i], 1) << i;
    EXPECT_EQ(losses[i], kProcesses - 1) << i;
    const auto data = read_all(*store_, std::string("race-").append(std::to_string(i))).value();
    ASSERT_EQ(data.size(), 2000u);
    EXPECT_EQ(data, Bytes(2000, data[0])) << "one process's bytes";
  }
}

// Each call of a put fails in turn: the answer says why, nothing stays behind that a later listing
// would show, and the store goes on.
TEST(DirectoryStoreFaults, EveryCallOfAPutMayFail) {
  using Call = SimulatedFiles::Call;
  const std::pair<int, std::error_code> kinds[] = {{ENOSPC, Errc::no_space},
                                                   {EDQUOT, quota_error("").code()},
                                                   {EIO, Errc::io},
                                                   {EROFS, Errc::io}};
  auto files = std::make_shared<SimulatedFiles>();
  ASSERT_TRUE(format_directory(*files, "/site", test_marker()));
  auto store = make_directory_store({"/site", test_marker(), 1, files});
  ASSERT_TRUE(check(*store));  // the marker is known: no put opens it again
  int number = 0;
  for (const auto& [error, code] : kinds) {
    for (const Call failing :
         {Call::open, Call::append, Call::sync, Call::link, Call::sync_directory}) {
      files->set_failure_rule([failing = failing, error = error](Call call, const std::string&) {
        return call == failing ? error : 0;
      });
      const auto name = std::string("put-").append(std::to_string(number++));
      auto answer = put(*store, name, contents_of(name, 100));
      files->set_failure_rule(nullptr);
      ASSERT_FALSE(answer) << name;
      EXPECT_EQ(answer.error().code(), code) << answer.error().message();
      EXPECT_THAT(answer.error().message(), testing::HasSubstr(store->location(name)));
      EXPECT_TRUE(read(*store, name, {}).error().is(Errc::not_found)) << name;
    }
  }
  EXPECT_TRUE(put(*store, "after", {1}));
  EXPECT_EQ(list(*store, "", 100).value().names, (std::vector<std::string>{"after"}));
  for (int i = 0; i < 256; ++i) {
    char folder[32];
    std::snprintf(folder, sizeof folder, "/site/objects/%02x", i);
    const auto names = files->list(folder).value();
    for (const auto& name : names) EXPECT_EQ(name, "after") << folder;
  }
}

TEST(DirectoryStoreFaults, FailingReadsAndMarkers) {
  using Call = SimulatedFiles::Call;
  auto files = std::make_shared<SimulatedFiles>();
  ASSERT_TRUE(format_directory(*files, "/site", test_marker()));
  auto store = make_directory_store({"/site", test_marker(), 1, files});
  ASSERT_TRUE(put(*store, "one", {1, 2, 3}, {{"a", "b"}}));
  for (const Call failing : {Call::open, Call::size, Call::pread}) {
    files->set_failure_rule(
        [failing](Call call, const std::string&) { return call == failing ? EIO : 0; });
    EXPECT_TRUE(read(*store, "one", {{0, 3}}).error().is(Errc::io));
  }
  files->set_failure_rule(
      [](Call call, const std::string&) { return call == Call::stat ? EIO : 0; });
  EXPECT_TRUE(check(*store).error().is(Errc::away)) << "a marker that cannot be read";
  EXPECT_TRUE(read(*store, "one", {}).error().is(Errc::away));
  files->set_failure_rule(nullptr);
  EXPECT_EQ(read_all(*store, "one").value(), (Bytes{1, 2, 3}));
}

// A simulated disk on which something happens just before a given call.
class DisturbedFiles final : public FileLayer {
 public:
  explicit DisturbedFiles(std::shared_ptr<SimulatedFiles> disk) : disk_(std::move(disk)) {}
  std::function<void(const std::string& call)> before = [](const std::string&) {};

  result<std::unique_ptr<File>> open(const std::string& path, Open how) override {
    before("open");
    return disk_->open(path, how);
  }
  result<Stat> stat(const std::string& path) override { return disk_->stat(path); }
  result<void> make_directory(const std::string& path) override {
    return disk_->make_directory(path);
  }
  result<void> remove_directory(const std::string& path) override {
    return disk_->remove_directory(path);
  }
  result<void> unlink(const std::string& path) override {
    before("unlink");
    return disk_->unlink(path);
  }
  result<void> rename(const std::string& from, const std::string& to) override {
    return disk_->rename(from, to);
  }
  result<void> link(const std::string& from, const std::string& to) override {
    before("link");
    return disk_->link(from, to);
  }
  result<void> sync_directory(const std::string& path) override {
    before("sync_directory");
    return disk_->sync_directory(path);
  }
  result<std::vector<std::string>> list(const std::string& path) override {
    before("list");
    return disk_->list(path);
  }
  result<void> lock(const std::string& path, std::unique_ptr<File>& held) override {
    return disk_->lock(path, held);
  }
  result<Space> space(const std::string& path) override { return disk_->space(path); }

 private:
  const std::shared_ptr<SimulatedFiles> disk_;
};

// The site moves away between the marker check and the calls that follow: every operation says
// away, and what stands in its place is not touched.
TEST(DirectoryStoreFaults, SiteMovesAwayDuringACall) {
  auto disk = std::make_shared<SimulatedFiles>();
  ASSERT_TRUE(format_directory(*disk, "/site", test_marker()));
  auto files = std::make_shared<DisturbedFiles>(disk);
  auto store = make_directory_store({"/site", test_marker(), 1, files});
  ASSERT_TRUE(put(*store, "one", {1}));
  const auto move_before = [&](const char* when) {
    files->before = [&disk, when, done = false](const std::string& call) mutable {
      if (done || call != when) return;
      done = true;
      ASSERT_TRUE(disk->rename("/site", "/away"));
      ASSERT_TRUE(disk->make_directory("/site"));
    };
  };
  const auto expect_away_and_undo = [&](auto answer, const std::string& what) {
    ASSERT_FALSE(answer) << what;
    EXPECT_TRUE(answer.error().is(Errc::away)) << what << ": " << answer.error().message();
    EXPECT_TRUE(disk->list("/site").value().empty()) << what;
    ASSERT_TRUE(disk->remove_directory("/site"));
    ASSERT_TRUE(disk->rename("/away", "/site"));
  };
  int number = 0;
  for (const char* when : {"open", "link", "unlink", "sync_directory"}) {
    move_before(when);
    const auto name = std::string("new-").append(std::to_string(number++));
    expect_away_and_undo(put(*store, name, {1}), std::string("put, ") + when);
  }
  move_before("open");
  expect_away_and_undo(read(*store, "one", {}), "read");
  move_before("list");
  expect_away_and_undo(list(*store, "", 10), "list");
  for (const char* when : {"unlink", "sync_directory"}) {
    move_before(when);
    expect_away_and_undo(remove(*store, "one"), std::string("remove, ") + when);
  }
}

TEST_F(DirectoryStore, ExpiredCallsAreNotPerformed) {
  const OpOptions past{monotonic_now() - seconds(1), Purpose::client};
  EXPECT_TRUE(put(*store_, "one", {1}, {}, past).error().is(Errc::timed_out));
  EXPECT_TRUE(read(*store_, "one", {}).error().is(Errc::not_found));
}

}  // namespace
}  // namespace datacloud
