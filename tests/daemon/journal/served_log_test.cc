// The journal's log at a site that another machine serves: who may, and what a server that goes
// away does to a leader. The conformance suite is in log_conformance_test.cc.
#include "daemon/journal/served_log.h"

#include <cerrno>
#include <thread>

#include "daemon/journal/log_messages.h"
#include "tests/daemon/journal/served_log_site.h"

namespace datacloud::journal {
namespace {

TEST(ServedLog, IsTheDaemonsAlone) {
  ServedLogSite site;
  for (const NodeRole role : {NodeRole::mount, NodeRole::mount_ro, NodeRole::admin}) {
    const auto log = make_served_log(site.site.options_for(role), test_journal());
    const auto head = log->head();
    ASSERT_FALSE(head);
    EXPECT_EQ(head.error().errno_value(), EACCES) << head.error().message();
  }
  ServedSite none("oslo");
  none.start();
  EXPECT_REFUSED(Errc::unsupported,
                 make_served_log(none.options_for(daemon_roles()), test_journal())->head());
}

TEST(ServedLog, SettlesAfterItsServerWasAway) {
  ServedLogSite site;
  const auto log = site.open();
  Leader leader(*log, {1, 1});
  ASSERT_OK(leader.lead());
  ASSERT_OK(leader.append(3));
  site.stop();
  EXPECT_FALSE(leader.append(1));
  EXPECT_REFUSED(Errc::stale, leader.append(1));  // until it has settled
  site.start();
  result<LogHead> claimed = failure(Errc::away, "");
  for (int i = 0; i < 1000 && !claimed; ++i) {  // who was turned away waits before it tries again
    claimed = log->claim({1, 1});
    if (!claimed) std::this_thread::sleep_for(milliseconds(20));
  }
  ASSERT_OK(claimed);
  const auto head = log->settle({1, 1});
  ASSERT_OK(head);
  EXPECT_EQ(head.value().last, leader.last());
  ASSERT_OK(leader.append(2, 20'000));
  EXPECT_EQ(read_from(*log, 1).size(), 5u);
}

TEST(ServedLog, RefusesWhatIsNoCall) {
  EXPECT_REFUSED(Errc::invalid, journal_of(pb::StoreLog()));
  EXPECT_REFUSED(Errc::invalid, get_log_position("short"));
  EXPECT_FALSE(get_log_head(pb::StoreLogHead(), test_journal()));
  const auto entries = entries_after({}, {1, 1}, 3, 2000);
  const Bytes bytes = join_entries(entries);
  const auto back = split_entries(bytes, true);
  ASSERT_OK(back);
  ASSERT_EQ(back.value().size(), 3u);
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(back.value()[i].hash, entries[i].hash);
  for (const size_t cut : {size_t{1}, size_t{600}, bytes.size() - 1}) {
    EXPECT_REFUSED(Errc::corrupt, split_entries(ByteView(bytes).first(cut), false));
  }
  Bytes wrong = bytes;
  wrong[1000] ^= 1;
  EXPECT_REFUSED(Errc::corrupt, split_entries(wrong, true));
  const auto small = entries_after({}, {1, 1}, kBatchEntriesMax + 1);
  EXPECT_REFUSED(Errc::corrupt, split_entries(join_entries(small), true));
  EXPECT_TRUE(split_entries(join_entries(small), false));
}

}  // namespace
}  // namespace datacloud::journal
