// The storage of a joining site: what an attempt that was cut off has left is taken over, and
// nothing else is touched.
#include "tools/site_storage.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "common/site/site_set.h"
#include "tests/support/store_calls.h"
#include "tests/support/temporary_directory.h"

namespace datacloud {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

class SiteStorageTest : public ::testing::Test {
 protected:
  SiteStorageTest() {
    cloud_.set_uuid("uuid");
    cloud_.set_name("demo");
    for (uint32_t id : {1, 2, 3}) {
      auto* site = cloud_.add_sites();
      site->set_id(id);
      site->set_name("site" + std::to_string(id));
    }
    site_.name = "extra";
    site_.store = "directory";
    site_.path = directory_.path() / "extra";
  }
  static SiteMarker marker(const std::string& name, uint32_t id, const std::string& uuid = "uuid") {
    return {uuid, "demo", name, id, 1};
  }
  result<void> prepare(uint32_t id) { return prepare_storage(site_, marker("extra", id), cloud_); }
  // The storage carries `left`; preparing it fails so, and changes nothing.
  void expect_refused(const SiteMarker& left, Errc code, const std::string& because) {
    const auto refused = prepare(4);
    ASSERT_FALSE(refused);
    EXPECT_TRUE(refused.error().is(code)) << refused.error().message();
    EXPECT_THAT(refused.error().message(), HasSubstr(because));
    EXPECT_EQ(read_store_marker(site_).value(), left);
  }

  TemporaryDirectory directory_{TemporaryDirectory::fast_parent()};
  pb::Cloud cloud_;
  SiteConfig site_;
};

TEST_F(SiteStorageTest, EmptyStorageIsFormattedOnce) {
  ASSERT_TRUE(prepare(4));
  EXPECT_EQ(read_store_marker(site_).value(), marker("extra", 4));
  EXPECT_TRUE(prepare(4)) << "told again";
}

TEST_F(SiteStorageTest, TheMarkerOfAnAttemptThatWasCutOffIsReplaced) {
  // Number 3 went to another site before this one was entered.
  ASSERT_TRUE(format_store(site_, marker("extra", 3)));
  ASSERT_TRUE(prepare(4));
  EXPECT_EQ(read_store_marker(site_).value(), marker("extra", 4));
  const auto store = open_store(site_, marker("extra", 4)).value();
  EXPECT_TRUE(put(*store, "one", {1}));
}

TEST_F(SiteStorageTest, WhatACutOffReplacementLeavesIsCompleted) {
  ASSERT_TRUE(format_store(site_, marker("extra", 3)));
  fs::rename(site_.path / "datacloud-site", site_.path / ".tmp-retired");
  ASSERT_TRUE(prepare(4));
  EXPECT_EQ(read_store_marker(site_).value(), marker("extra", 4));
}

TEST_F(SiteStorageTest, ASiteOfTheCloudIsLeftAlone) {
  // The path of a site that is in use, given to a new one by mistake.
  const auto used = marker("site2", 2);
  ASSERT_TRUE(format_store(site_, used));
  expect_refused(used, Errc::exists, "holds site site2 (number 2) of cloud demo");
}

TEST_F(SiteStorageTest, ASiteKnownByThatNumberAndNameIsLeftAlone) {
  auto* known = cloud_.add_sites();
  known->set_id(9);
  known->set_name("extra");
  const auto used = marker("extra", 9);
  ASSERT_TRUE(format_store(site_, used));
  expect_refused(used, Errc::exists, "(number 9)");
}

TEST_F(SiteStorageTest, AnotherCloudsSiteIsLeftAlone) {
  const auto foreign = marker("extra", 3, "another");
  ASSERT_TRUE(format_store(site_, foreign));
  expect_refused(foreign, Errc::exists, "(another)");
}

TEST_F(SiteStorageTest, StorageWithObjectsIsLeftAlone) {
  const auto left = marker("extra", 3);
  ASSERT_TRUE(format_store(site_, left));
  const auto store = open_store(site_, left).value();
  ASSERT_TRUE(put(*store, "one", {1, 2, 3}));
  expect_refused(left, Errc::invalid, "not empty");
  EXPECT_EQ(read_all(*store, "one").value(), (Bytes{1, 2, 3}));
}

TEST_F(SiteStorageTest, ADamagedMarkerIsLeftAlone) {
  ASSERT_TRUE(format_store(site_, marker("extra", 3)));
  std::ofstream(site_.path / "datacloud-site", std::ios::app) << "x";
  EXPECT_FALSE(prepare(4));
  EXPECT_TRUE(read_store_marker(site_).error().is(Errc::corrupt));
}

}  // namespace
}  // namespace datacloud
