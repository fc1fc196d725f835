// The journal of configured sites: a directory's is beside its objects and none of them.
#include "daemon/journal/site_logs.h"

#include <filesystem>

#include "common/site/site_set.h"
#include "common/store/object_store.h"
#include "tests/daemon/journal/log_site.h"
#include "tests/support/temporary_directory.h"

namespace datacloud::journal {
namespace {

constexpr uint64_t kSegmentBytes = 1 << 20;

class SiteLogsTest : public testing::Test {
 protected:
  void SetUp() override {
    site_.name = "tsukuba";
    site_.store = "directory";
    site_.path = directory_.path() / "site";
    std::filesystem::create_directory(site_.path);
    marker_.cloud_uuid = "11111111-1111-1111-1111-111111111111";
    marker_.cloud_name = "c";
    marker_.site_name = "tsukuba";
    marker_.site_id = 1;
  }
  TemporaryDirectory directory_{TemporaryDirectory::fast_parent()};
  SiteConfig site_;
  SiteMarker marker_;
};

TEST_F(SiteLogsTest, IsBesideTheObjectsOfADirectory) {
  EXPECT_FALSE(format_site_log(site_, marker_, test_journal(), kSegmentBytes));
  EXPECT_FALSE(std::filesystem::exists(site_.path / "journal")) << "nothing is mounted there";
  ASSERT_OK(format_store(site_, marker_));
  SiteMarker other = marker_;
  other.site_id = 2;
  EXPECT_REFUSED(Errc::invalid, format_site_log(site_, other, test_journal(), kSegmentBytes));
  ASSERT_OK(format_site_log(site_, marker_, test_journal(), kSegmentBytes));
  ASSERT_OK(format_site_log(site_, marker_, test_journal(), kSegmentBytes));  // empty as it is
  EXPECT_FALSE(has_journal_entries(site_, test_journal()));

  auto log = open_site_log(site_, marker_, test_journal(), kSegmentBytes);
  ASSERT_TRUE(log);
  Leader leader(*log.value(), {1, 1});
  ASSERT_OK(leader.lead());
  ASSERT_OK(leader.append(3));
  EXPECT_EQ(
      read_from(*open_site_log(site_, marker_, test_journal(), kSegmentBytes).value(), 1).size(),
      3u);

  EXPECT_REFUSED(Errc::exists, format_site_log(site_, marker_, test_journal(), kSegmentBytes));
  EXPECT_TRUE(has_journal_entries(site_, test_journal()));

  auto store = open_store(site_, marker_);
  ASSERT_TRUE(store);
  const auto listed =
      wait_for<ListReply>([&](auto done) { store.value()->list("", 100, OpOptions(), done); });
  ASSERT_OK(listed);
  EXPECT_TRUE(listed.value().names.empty());
  // Another cloud does not take the directory for its own.
  std::filesystem::remove(site_.path / "datacloud-site");
  EXPECT_REFUSED(Errc::invalid, format_store(site_, marker_));
  std::filesystem::rename(site_.path, directory_.path() / "elsewhere");
  EXPECT_REFUSED(Errc::away,
                 open_site_log(site_, marker_, test_journal(), kSegmentBytes).value()->head());
}

TEST_F(SiteLogsTest, IsOnlyAtSitesThatCanHoldOne) {
  site_.store = "tape";
  EXPECT_REFUSED(Errc::unsupported, open_site_log(site_, marker_, test_journal(), kSegmentBytes));
  EXPECT_REFUSED(Errc::unsupported, format_site_log(site_, marker_, test_journal(), kSegmentBytes));
  const auto absent = make_absent_log("site tsukuba is not configured");
  EXPECT_REFUSED(Errc::away, absent->head());
  EXPECT_REFUSED(Errc::away, append_now(*absent, {1, 1}, LogBatch()));
}

}  // namespace
}  // namespace datacloud::journal
