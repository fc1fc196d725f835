// Making a cloud: what is refused leaves no trace, what fails is taken back, what succeeds can be
// opened.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <set>

#include "common/base/features.h"
#include "common/crypto/keys.h"
#include "common/site/site_set.h"
#include "daemon/metadata/metadata_store.h"
#include "daemon/metadata/record_keys.h"
#include "daemon/metadata/state_directory.h"
#include "daemon/records/cloud_features.h"
#include "tools/cloud_creation.h"

namespace datacloud {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class CreationTest : public ::testing::Test {
 protected:
  CreationTest() {
    // Memory, where there is: durability is not what is tested, and disks take their time.
    std::string pattern = fs::exists("/dev/shm") ? "/dev/shm" : "/tmp";
    pattern += "/datacloud-create-XXXXXX";
    root_ = ::mkdtemp(pattern.data());
    config_.cloud.name = "demo";
    config_.daemon.state = root_ / "var/state";
    config_.keys.data = root_ / "etc/data.key";
    config_.keys.service = root_ / "etc/service.key";
    for (int i = 1; i <= 5; i++) {
      SiteConfig site;
      site.name = "site" + std::to_string(i);
      site.store = "directory";
      site.path = root_ / "sites" / site.name;
      fs::create_directories(site.path);
      config_.sites.push_back(site);
    }
  }
  ~CreationTest() override { fs::remove_all(root_); }

  // Every path below the root.
  std::set<std::string> everything() const {
    std::set<std::string> paths;
    for (const auto& entry : fs::recursive_directory_iterator(root_)) paths.insert(entry.path());
    return paths;
  }
  std::string refusal() {
    auto created = create_cloud(config_, 0, 0);
    return created ? "created" : created.error().text();
  }

  fs::path root_;
  Config config_;
};

TEST_F(CreationTest, MakesKeysSitesAndMetadata) {
  auto created = create_cloud(config_, 1000, 100);
  ASSERT_TRUE(created) << created.error().message();
  const pb::Cloud& cloud = created.value().cloud;
  EXPECT_THAT(created.value().tolerance.text, HasSubstr("2 of 5 sites"));
  EXPECT_NEAR(created.value().overhead, 1.667, 0.001);
  EXPECT_EQ(cloud.write_sites_min(), 3u);
  for (size_t i = 0; i < 5; i++) {
    auto marker = read_store_marker(config_.sites[i]);
    ASSERT_TRUE(marker) << marker.error().message();
    EXPECT_EQ(marker.value().cloud_uuid, cloud.uuid());
    EXPECT_EQ(marker.value().site_id, i + 1);
    EXPECT_EQ(marker.value().site_name, config_.sites[i].name);
  }
  struct stat st {};
  ASSERT_EQ(::stat(config_.keys.data.c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 0777, 0600u);
  auto data = read_key_file(config_.keys.data, KeyFileKind::data);
  auto service = read_key_file(config_.keys.service, KeyFileKind::service);
  ASSERT_TRUE(data);
  ASSERT_TRUE(service);
  EXPECT_EQ(data.value().cloud_uuid, cloud.uuid());
  MetadataStore::Options options;
  options.directory = metadata_directory(config_.daemon);
  auto store = MetadataStore::open(options);
  EXPECT_TRUE(store) << store.error().message();
}

TEST_F(CreationTest, RefusesWhatHoldsACloud) {
  ASSERT_TRUE(create_cloud(config_, 0, 0));
  const auto uuid = read_store_marker(config_.sites[0]).value().cloud_uuid;
  Config other = config_;
  config_.cloud.name = "second";
  config_.daemon.state = root_ / "var/other";
  config_.keys.data = root_ / "etc/other.data.key";
  config_.keys.service = root_ / "etc/other.service.key";
  const auto before = everything();
  const std::string text = refusal();
  EXPECT_THAT(text, HasSubstr("cloud demo"));
  EXPECT_THAT(text, HasSubstr(uuid));
  for (const auto& site : config_.sites) EXPECT_THAT(text, HasSubstr(site.path.string()));
  EXPECT_EQ(everything(), before);
}

TEST_F(CreationTest, RefusesExistingKeysAndMetadata) {
  fs::create_directories(root_ / "etc");
  ASSERT_TRUE(write_key_file(
      config_.keys.service, KeyFile{KeyFileKind::service, "uuid-of-another", SecretKey::random()}));
  fs::create_directories(metadata_directory(config_.daemon));
  std::ofstream(metadata_directory(config_.daemon) / "CURRENT") << "x";
  const auto before = everything();
  const std::string text = refusal();
  EXPECT_THAT(text, HasSubstr("uuid-of-another"));
  EXPECT_THAT(text, HasSubstr("already holds metadata"));
  EXPECT_EQ(everything(), before);
}

TEST_F(CreationTest, RefusesSitesThatAreNotThere) {
  fs::remove(config_.sites[1].path);
  fs::remove(config_.sites[2].path);
  std::ofstream(config_.sites[2].path) << "a file";
  config_.sites[4].path = config_.sites[3].path / ".." / "site4";
  const auto before = everything();
  const std::string text = refusal();
  EXPECT_THAT(text, HasSubstr("site2"));
  EXPECT_THAT(text, HasSubstr("does not exist"));
  EXPECT_THAT(text, HasSubstr("site3"));
  EXPECT_THAT(text, HasSubstr("is not a directory"));
  EXPECT_THAT(text, HasSubstr("same directory as site site4"));
  EXPECT_EQ(everything(), before);
}

TEST_F(CreationTest, TakesBackWhatAFailureLeft) {
  std::ofstream(config_.sites[3].path / "holiday.jpg") << "not ours";
  const std::string text = refusal();
  EXPECT_THAT(text, HasSubstr("site4"));
  for (size_t i = 0; i < 5; i++) {
    if (i != 3) {
      EXPECT_THAT(fs::is_empty(config_.sites[i].path), true);
    }
  }
  EXPECT_TRUE(fs::exists(config_.sites[3].path / "holiday.jpg"));
  EXPECT_FALSE(fs::exists(config_.keys.data));
  EXPECT_FALSE(fs::exists(config_.keys.service));
  fs::remove(config_.sites[3].path / "holiday.jpg");
  EXPECT_TRUE(create_cloud(config_, 0, 0));
}

TEST_F(CreationTest, UndoNeverRemovesAnObject) {
  ASSERT_TRUE(create_cloud(config_, 0, 0));
  const auto object = config_.sites[0].path / "objects/00/0123";
  std::ofstream(object) << "data";
  EXPECT_FALSE(undo_format(config_.sites[0], {}));
  EXPECT_TRUE(fs::exists(object));
}

TEST(RandomUuid, LooksLikeOneAndDiffers) {
  std::set<std::string> seen;
  for (int i = 0; i < 100; i++) {
    const std::string uuid = random_uuid().value();
    ASSERT_EQ(uuid.size(), 36u);
    EXPECT_EQ(uuid[14], '4');
    EXPECT_EQ(uuid[8], '-');
    seen.insert(uuid);
  }
  EXPECT_EQ(seen.size(), 100u);
}

TEST_F(CreationTest, ANewCloudUsesTheFeaturesThatAreChosen) {
  const auto all = chosen_features("all");
  ASSERT_TRUE(all);
  EXPECT_EQ(all.value().features_size(),
            std::count_if(known_features().begin(), known_features().end(),
                          [](const auto& known) { return known.command.empty(); }) -
                1)
      << "without inline, which needs a journal";
  const auto little = chosen_features("inline");
  ASSERT_FALSE(little);
  EXPECT_THAT(little.error().text(), HasSubstr("datacloud feature enable inline"));
  const auto journal = chosen_features("journal");
  ASSERT_FALSE(journal);
  EXPECT_THAT(journal.error().text(), HasSubstr("create --journal"));
  EXPECT_EQ(chosen_features("none").value().features_size(), 0);
  const auto two = chosen_features("trees,times,trees");
  ASSERT_TRUE(two);
  ASSERT_EQ(two.value().features_size(), 2);
  EXPECT_EQ(two.value().features(0).name(), "times");
  for (const char* wrong : {"", "Trees", "trees,", "all,none"}) {
    const auto refused = chosen_features(wrong);
    ASSERT_FALSE(refused) << wrong;
    EXPECT_THAT(refused.error().text(), HasSubstr("trees, all or none")) << wrong;
  }
  const auto created = create_cloud(config_, 0, 0, two.value());
  ASSERT_TRUE(created) << created.error().text();
  auto store = MetadataStore::open({.directory = metadata_directory(config_.daemon)});
  ASSERT_TRUE(store) << store.error().text();
  pb::Cloud cloud;
  ASSERT_TRUE(store.value()->begin().get(key::meta("cloud"), cloud).value());
  EXPECT_EQ(cloud.format_version(), kMetadataFormatFeatures);
  const auto on = known_set(read_features(store.value()->begin()).value());
  ASSERT_TRUE(on);
  EXPECT_TRUE(on.value().has(Feature::times));
  EXPECT_FALSE(on.value().has(Feature::shared_slots));
}

TEST_F(CreationTest, AJournalIsMadeAtEverySiteAndNotedInTheMetadata) {
  const auto created = create_cloud(config_, 0, 0, {}, {.wanted = true});
  ASSERT_TRUE(created) << created.error().text();
  ASSERT_TRUE(created.value().journal);
  EXPECT_EQ(created.value().journal->sites_size(), 5);
  EXPECT_EQ(created.value().journal->losses(), 2u);
  for (const auto& site : config_.sites) EXPECT_TRUE(fs::exists(site.path / "journal"));
  auto store = MetadataStore::open({.directory = metadata_directory(config_.daemon)});
  ASSERT_TRUE(store) << store.error().text();
  EXPECT_TRUE(store.value()->journaled());
  EXPECT_EQ(store.value()->journal_position(), journal::LogPosition());
  pb::JournalSet set;
  ASSERT_TRUE(store.value()->begin().get(key::meta("journal"), set).value());
  EXPECT_EQ(set.SerializeAsString(), created.value().journal->SerializeAsString());
  const auto features = read_features(store.value()->begin()).value();
  EXPECT_TRUE(includes(features, Feature::journal));
  EXPECT_FALSE(includes(features, Feature::inline_data)) << "not asked for";
}

TEST_F(CreationTest, ACloudWithAJournalKeepsLittleDataInTheMetadata) {
  const auto created = create_cloud(config_, 0, 0, chosen_features("all").value(),
                                    {.wanted = true, .with_inline = true});
  ASSERT_TRUE(created) << created.error().text();
  auto store = MetadataStore::open({.directory = metadata_directory(config_.daemon)});
  ASSERT_TRUE(store) << store.error().text();
  const auto features = read_features(store.value()->begin()).value();
  for (const auto& known : known_features()) EXPECT_TRUE(includes(features, known.feature));
}

TEST_F(CreationTest, WithoutAJournalNothingIsKeptInTheMetadata) {
  const auto created = create_cloud(config_, 0, 0, {}, {.with_inline = true});
  ASSERT_TRUE(created) << created.error().text();
  auto store = MetadataStore::open({.directory = metadata_directory(config_.daemon)});
  ASSERT_TRUE(store) << store.error().text();
  EXPECT_FALSE(includes(read_features(store.value()->begin()).value(), Feature::inline_data));
}

TEST_F(CreationTest, AJournalThatCannotBeMadeLeavesNoTrace) {
  const auto before = everything();
  config_.sites[4].store = "memory";
  const auto refused = create_cloud(config_, 0, 0, {}, {.wanted = true});
  EXPECT_FALSE(refused);
  EXPECT_EQ(everything(), before);
}

// They need the cloud first: entered in the records, formatted by `create --finish`.
TEST_F(CreationTest, SitesThatOtherMachinesServeAreAwaited) {
  config_.sites[1].store = "remote";
  config_.sites[1].address = "tls://b.example:7501";
  const auto refused = create_cloud(config_, 0, 0);
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().text().find("tls://HOST:PORT"), std::string::npos)
      << refused.error().text();
  config_.daemon.listen.push_back("tls://0.0.0.0:7411");
  const auto created = create_cloud(config_, 0, 0, {}, {.wanted = true});
  ASSERT_TRUE(created) << created.error().text();
  EXPECT_EQ(created.value().awaited, std::vector<std::string>{config_.sites[1].name});
  EXPECT_TRUE(created.value().journal_awaited);
  EXPECT_FALSE(created.value().journal);
  EXPECT_EQ(created.value().cloud.sites_size(), 5);
  EXPECT_FALSE(fs::exists(config_.sites[1].path / "datacloud-site"));
  EXPECT_TRUE(fs::exists(config_.sites[0].path / "datacloud-site"));
  EXPECT_FALSE(fs::exists(config_.sites[0].path / "journal"));
  auto store = MetadataStore::open({.directory = metadata_directory(config_.daemon)});
  ASSERT_TRUE(store) << store.error().text();
  EXPECT_FALSE(store.value()->journaled());
}

}  // namespace
}  // namespace datacloud
