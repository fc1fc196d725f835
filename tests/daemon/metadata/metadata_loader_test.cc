// A store that was loaded is the one that records and changes say, whole or not there.
#include "daemon/metadata/metadata_loader.h"

#include <gtest/gtest.h>

#include <cerrno>

#include "daemon/metadata/record_keys.h"
#include "tests/daemon/metadata/store_fixture.h"
#include "tests/support/seeded.h"
#include "tests/support/simulated_files.h"

namespace datacloud {
namespace {

using Records = std::map<std::string, std::string>;

Records all_of(const MetadataStore& store) {
  Records records;
  EXPECT_TRUE(store.begin().scan("", std::string(64, '\xff'), [&](auto key, auto value) {
    records.emplace(key, value);
    return true;
  }));
  return records;
}

class MetadataLoaderTest : public StoreTest {
 protected:
  MetadataStore::Options loaded() const { return {.directory = root_ + "/loaded"}; }
};

TEST_F(MetadataLoaderTest, MakesTheStoreThatTheRecordsSay) {
  auto wanted = all_of(*store_);
  auto loader = MetadataLoader::create(loaded()).value();
  for (const auto& [key, value] : wanted) ASSERT_TRUE(loader->put(key, value));
  for (int i = 0; i < 3000; ++i) {
    ASSERT_TRUE(loader->put(key::inode(1000 + i), std::string(1000, 'x')));
  }
  ASSERT_TRUE(loader->apply({{key::inode(1000), std::nullopt}, {key::inode(1001), "y"}}, 77));
  EXPECT_EQ(loader->get(key::inode(1001)).value(), "y");
  EXPECT_FALSE(loader->get(key::inode(1000)).value());
  journal::LogPosition position{{3, 4}, 5, {}};
  ASSERT_TRUE(loader->finish(position));
  loader.reset();
  const auto store = MetadataStore::open(loaded()).value();
  EXPECT_EQ(store->sequence(), 77u);
  const auto records = all_of(*store);
  EXPECT_EQ(records.size(), wanted.size() + 2999 + 1);
  EXPECT_EQ(records.at(key::inode(1001)), "y");
  EXPECT_EQ(records.at(key::inode(3999)), std::string(1000, 'x'));
  EXPECT_EQ(records.at(key::meta("journal_position")).size(), 56u);
}

// Much more than is gathered at once; the same few records over and over, and erased ones.
TEST_F(MetadataLoaderTest, TheNewestOfManyChangesCounts) {
  Seeded random;
  Records wanted = all_of(*store_);
  auto loader = MetadataLoader::create(loaded()).value();
  for (const auto& [key, value] : wanted) ASSERT_TRUE(loader->put(key, value));
  const std::string filling(8 << 10, 'x');
  const auto key_of = [&] { return key::inode(1000 + random.number(0, 9000)); };
  for (Sequence sequence = 100; sequence < 5100; ++sequence) {
    RecordChanges changes;
    for (int i = 0; i < 3; ++i) {
      std::optional<std::string> value;
      if (random.number(0, 3) > 0) value = std::to_string(sequence) + filling;
      changes[key_of()] = value;
    }
    for (const auto& [key, value] : changes) {
      if (value) {
        wanted[key] = *value;
      } else {
        wanted.erase(key);
      }
    }
    ASSERT_TRUE(loader->apply(std::move(changes), sequence));
    if (random.number(0, 999) == 0) {
      const std::string key = key_of();
      const auto got = loader->get(key).value();
      EXPECT_EQ(got.has_value(), wanted.contains(key));
      if (got) {
        EXPECT_EQ(*got, wanted[key]);
      }
    }
    if (random.number(0, 999) == 0) {
      const std::string key = key_of();
      ASSERT_TRUE(loader->put(key, "put")) << "behind what was gathered";
      wanted[key] = "put";
    }
  }
  ASSERT_TRUE(loader->finish({}));
  loader.reset();
  const auto store = MetadataStore::open(loaded()).value();
  EXPECT_EQ(store->sequence(), 5099u);
  Records records = all_of(*store);
  for (const char* name : {"sequence", "journal_position"}) {
    records.erase(key::meta(name));
    wanted.erase(key::meta(name));
  }
  EXPECT_TRUE(records == wanted);
}

TEST_F(MetadataLoaderTest, LeavesWhatIsThereAlone) {
  std::filesystem::create_directory(loaded().directory);
  const auto refused = MetadataLoader::create(loaded());
  ASSERT_FALSE(refused);
  EXPECT_TRUE(refused.error().is(Errc::exists));
}

TEST_F(MetadataLoaderTest, RefusesWhatIsNoCloud) {
  auto loader = MetadataLoader::create(loaded()).value();
  ASSERT_TRUE(loader->put("I", "x"));
  const auto refused = loader->finish({});
  ASSERT_FALSE(refused);
  EXPECT_TRUE(refused.error().is(Errc::corrupt));
}

TEST_F(MetadataLoaderTest, IsDurableWhenItHasFinishedAndSaysWhenItCannotBe) {
  const auto wanted = all_of(*store_);
  for (const bool full : {false, true}) {
    auto disk = std::make_shared<SimulatedFiles>();
    ASSERT_TRUE(disk->make_directory("/state"));
    ASSERT_TRUE(disk->sync_directory("/"));
    MetadataStore::Options options{.directory = "/state/loaded", .files = disk};
    auto loader = MetadataLoader::create(options).value();
    if (full) {
      disk->set_failure_rule([](SimulatedFiles::Call call, const std::string& path) {
        return call == SimulatedFiles::Call::append && path.ends_with(".log") ? ENOSPC : 0;
      });
    }
    result<void> outcome = success();
    for (const auto& [key, value] : wanted) {
      if (outcome) outcome = loader->put(key, value);
    }
    for (int i = 0; i < 2000 && outcome; ++i) {
      outcome = loader->put(key::inode(1000 + i), std::string(1000, 'x'));
    }
    if (outcome) outcome = loader->finish({});
    EXPECT_EQ(outcome.has_value(), !full);
    EXPECT_EQ(full ? outcome.error().errno_value() : ENOSPC, ENOSPC);
    loader.reset();
  }
}

}  // namespace
}  // namespace datacloud
