// The directory store and the site stack, as their users see them.
#include "common/directory_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "common/crc32c.h"
#include "common/site_set.h"

namespace datacloud {
namespace {

namespace fs = std::filesystem;

class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    std::string pattern = fs::temp_directory_path() / "datacloud-store-XXXXXX";
    path_ = ::mkdtemp(pattern.data());
  }
  ~TemporaryDirectory() { fs::remove_all(path_); }
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

SiteMarker marker(uint32_t id = 1) {
  return {"uuid-1", "demo", std::string("site").append(std::to_string(id)), id, 1};
}

SiteConfig config_of(const fs::path& path) { return {"a", "directory", path}; }

result<void> put(ObjectStore& store, const std::string& name, const std::string& data,
                 Attributes attributes = {}) {
  return wait_for<void>([&](auto done) {
    store.put(name, Payload::from(to_bytes(as_bytes(data))), attributes, {}, done);
  });
}

result<ReadReply> read(ObjectStore& store, const std::string& name, std::vector<ByteRange> ranges,
                       bool attributes = false) {
  return wait_for<ReadReply>([&](auto done) { store.read(name, ranges, attributes, {}, done); });
}

std::string text(const Bytes& bytes) { return std::string(as_text(bytes)); }

TEST(Crc32c, KnownValue) {
  EXPECT_EQ(crc32c(as_bytes("123456789")), 0xe3069283u);
  EXPECT_EQ(crc32c(as_bytes("6789"), crc32c(as_bytes("12345"))), 0xe3069283u);
}

TEST(SiteMarker, RoundTripAndDamage) {
  SiteMarker m{"uuid", "na\nme %", "site", 7, 1};
  const auto text = m.encode();
  ASSERT_TRUE(SiteMarker::decode(text));
  EXPECT_EQ(SiteMarker::decode(text).value(), m);
  for (size_t i = 0; i < text.size(); ++i) {
    EXPECT_FALSE(SiteMarker::decode(text.substr(0, i))) << i;
    for (char c : {'\0', '\n', '%', '9', '='}) {
      auto damaged = text;
      damaged[i] = c;
      EXPECT_EQ(bool(SiteMarker::decode(damaged)), damaged == text) << i;
    }
  }
}

TEST(DirectoryStore, FormatRefusesWhatIsInUse) {
  TemporaryDirectory dir;
  const auto root = dir.path() / "deep" / "site";
  ASSERT_TRUE(format_store(config_of(root), marker()));
  EXPECT_EQ(read_store_marker(config_of(root)).value(), marker());
  EXPECT_TRUE(format_store(config_of(root), marker()).error().is(Errc::exists));
  std::ofstream(dir.path() / "something") << "x";
  EXPECT_TRUE(format_store(config_of(dir.path()), marker()).error().is(Errc::invalid));
  EXPECT_TRUE(read_store_marker(config_of(dir.path())).error().is(Errc::not_found));
}

TEST(DirectoryStore, PutReadRemove) {
  TemporaryDirectory dir;
  ASSERT_TRUE(format_store(config_of(dir.path()), marker()));
  auto store = open_store(config_of(dir.path()), marker()).value();
  ASSERT_TRUE(put(*store, "one", "hello world", {{"tag", "value"}}));
  EXPECT_TRUE(put(*store, "one", "again").error().is(Errc::exists));
  auto reply = read(*store, "one", {{0, 5}, {6, 100}, {50, 1}}, true);
  ASSERT_TRUE(reply) << reply.error().message();
  EXPECT_EQ(text(reply.value().ranges[0]), "hello");
  EXPECT_EQ(text(reply.value().ranges[1]), "world");
  EXPECT_TRUE(reply.value().ranges[2].empty());
  EXPECT_EQ(reply.value().object_size, 11u);
  EXPECT_EQ(reply.value().attributes, (Attributes{{"tag", "value"}}));
  EXPECT_TRUE(fs::exists(store->location("one")));
  auto removed = wait_for<void>([&](auto done) { store->remove("one", {}, done); });
  ASSERT_TRUE(removed);
  EXPECT_TRUE(read(*store, "one", {}).error().is(Errc::not_found));
}

// Wherever one byte of the file changes, data that did not change is still read.
TEST(DirectoryStore, AnyFlippedByteLeavesTheRestReadable) {
  TemporaryDirectory dir;
  ASSERT_TRUE(format_store(config_of(dir.path()), marker()));
  auto store = open_store(config_of(dir.path()), marker()).value();
  const std::string data = "0123456789";
  ASSERT_TRUE(put(*store, "one", data, {{"tag", "value"}}));
  const auto path = store->location("one");
  std::ifstream in(path, std::ios::binary);
  const std::string whole((std::istreambuf_iterator<char>(in)), {});
  for (size_t i = 0; i < whole.size(); ++i) {
    auto damaged = whole;
    damaged[i] ^= 0x40;
    std::ofstream(path, std::ios::binary | std::ios::trunc) << damaged;
    auto reply = read(*store, "one", {{0, 100}});
    ASSERT_TRUE(reply) << i;
    EXPECT_EQ(reply.value().object_size, data.size()) << i;
    EXPECT_EQ(text(reply.value().ranges[0]), damaged.substr(0, data.size())) << i;
    auto attributes = read(*store, "one", {}, true);
    if (attributes) {
      EXPECT_EQ(attributes.value().attributes, (Attributes{{"tag", "value"}})) << i;
    } else {
      EXPECT_TRUE(attributes.error().is(Errc::corrupt)) << attributes.error().message();
    }
  }
  for (size_t size = 0; size < whole.size(); ++size) {  // cut short anywhere
    std::ofstream(path, std::ios::binary | std::ios::trunc) << whole.substr(0, size);
    auto reply = read(*store, "one", {{0, 1000}});
    ASSERT_TRUE(reply);
    EXPECT_EQ(text(reply.value().ranges[0]),
              whole.substr(0, size).substr(0, reply.value().object_size));
    EXPECT_TRUE(read(*store, "one", {}, true).error().is(Errc::corrupt)) << size;
  }
}

TEST(SiteSet, AwayAndBack) {
  TemporaryDirectory dir;
  std::vector<SiteSet::Member> members;
  for (uint32_t id : {1u, 2u}) {
    const auto path = dir.path() / std::to_string(id);
    ASSERT_TRUE(format_store(config_of(path), marker(id)));
    members.push_back({id, std::string("s").append(std::to_string(id)),
                       open_store(config_of(path), marker(id)).value()});
  }
  SiteSet sites(std::move(members), milliseconds(20));
  sites.check_all(seconds(5));
  EXPECT_EQ(sites.live_count(), 2u);
  fs::rename(dir.path() / "2", dir.path() / "2.away");
  fs::create_directory(dir.path() / "2");  // what an unmounted site looks like
  auto answer = put(sites.find(2)->store(), "one", "data");
  ASSERT_FALSE(answer);
  EXPECT_TRUE(answer.error().is(Errc::away)) << answer.error().message();
  EXPECT_FALSE(sites.find(2)->up());
  EXPECT_THAT(sites.describe_away(), testing::HasSubstr("s2 (away: "));
  EXPECT_TRUE(fs::is_empty(dir.path() / "2"));
  fs::remove(dir.path() / "2");
  fs::rename(dir.path() / "2.away", dir.path() / "2");
  for (int i = 0; i < 500 && !sites.find(2)->up(); ++i)
    std::this_thread::sleep_for(milliseconds(10));
  EXPECT_TRUE(sites.find(2)->up());
  EXPECT_TRUE(put(sites.find(2)->store(), "one", "data"));
  EXPECT_EQ(sites.find(2)->traffic().row(Purpose::client).bytes_written, 8u);
}

}  // namespace
}  // namespace datacloud
