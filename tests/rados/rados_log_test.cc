// The journal at one site, on real pools: the conformance suite on a replicated and on an
// erasure-coded one, and an OSD that is stopped under a pipeline of appends.
#include <condition_variable>
#include <csignal>

#include "common/store/rados/rados_guarded.h"
#include "daemon/journal/guarded_log.h"
#include "tests/daemon/journal/log_conformance.h"
#include "tests/rados/ceph_site.h"

namespace datacloud::journal {
namespace {

struct Pool {
  explicit Pool(bool coded)
      : name(coded ? ceph.erasure_coded_pool() : "datacloud"),
        options(ceph.options(name, "test-*")) {}
  CephSite ceph;
  std::string name;
  RadosOptions options;
};

template <bool coded>
class RadosLogSite final : public LogSite {
 public:
  RadosLogSite() : options_(pool().options) {
    options_.nspace = CephSite::fresh_namespace();
    io_ = pool().ceph.open(pool().name, options_.nspace);
    auto formatted = format_rados(options_);
    if (!formatted) throw std::runtime_error(formatted.error().message());
    auto objects = make_rados_guarded(options_);
    auto made = format_guarded_log(*objects, {test_journal(), kSegmentBytes});
    if (!made) throw std::runtime_error(made.error().message());
    auto again = format_guarded_log(*objects, {test_journal(), kSegmentBytes});
    EXPECT_TRUE(!again && again.error().is(Errc::exists));
  }
  ~RadosLogSite() override {
    for (auto it = io_.nobjects_begin(); it != io_.nobjects_end(); ++it) io_.remove(it->get_oid());
  }
  std::unique_ptr<LogStore> open() override {
    return make_guarded_log(make_rados_guarded(options_), {test_journal(), kSegmentBytes});
  }
  size_t pieces() override {
    size_t count = 0;
    for (auto it = io_.nobjects_begin(); it != io_.nobjects_end(); ++it) ++count;
    return count;
  }
  const RadosOptions& options() const { return options_; }
  static Pool& pool() {
    static Pool pool(coded);
    return pool;
  }

 private:
  RadosOptions options_;
  librados::IoCtx io_;
};

INSTANTIATE_TEST_SUITE_P(
    , LogConformance,
    testing::Values(
        LogCase{"pool_of_size_1", [] { return std::make_unique<RadosLogSite<false>>(); }},
        LogCase{"erasure_coded_pool", [] { return std::make_unique<RadosLogSite<true>>(); }}),
    log_case_name);

// The objects of a journal are not objects of the site.
TEST(RadosLog, IsNotListedAmongTheSitesObjects) {
  RadosLogSite<false> site;
  auto log = site.open();
  Leader leader(*log, {1, 1});
  ASSERT_OK(leader.lead());
  ASSERT_OK(leader.append(3));
  auto store = make_rados_store(site.options());
  const auto listed =
      wait_for<ListReply>([&](auto done) { store->list("", 1000, {}, std::move(done)); });
  ASSERT_TRUE(listed) << listed.error().message();
  EXPECT_TRUE(listed.value().names.empty());
  EXPECT_GE(site.pieces(), 4u);  // marker, anchor, two segments
}

// The OSD sleeps with a pipeline of appends in its socket; another leader claims once it wakes up.
// Everything acknowledged is there, nothing of the first leader lands after that claim.
TEST(RadosLog, KeepsOrderOverAnOsdThatSleeps) {
  RadosLogSite<false> site;
  auto store = site.open(), other = site.open();
  const Epoch epoch{1, 1};
  ASSERT_OK(store->claim(epoch));
  ASSERT_OK(store->begin(epoch, {}, Base::in_log));
  ASSERT_OK(other->head());  // connected
  const auto osds = RadosLogSite<false>::pool().ceph.osd_processes();
  const auto entries = entries_after({}, epoch, 60, 1000);
  std::mutex mutex;
  std::condition_variable answered;
  size_t answers = 0;
  uint64_t acknowledged = 0;
  for (const auto& entry : entries) {
    if (entry.header.sequence == 20) {
      for (const pid_t osd : osds) ASSERT_EQ(::kill(osd, SIGSTOP), 0);
    }
    store->append(epoch, LogBatch::of({entry}).value(),
                  [&, at = entry.header.sequence](result<void> r) {
                    std::lock_guard lock(mutex);
                    if (r) acknowledged = std::max(acknowledged, at);
                    if (++answers == entries.size()) answered.notify_one();
                  });
  }
  auto claim = std::async(std::launch::async, [&] { return other->claim({2, 2}); });
  std::this_thread::sleep_for(milliseconds(300));
  for (const pid_t osd : osds) ASSERT_EQ(::kill(osd, SIGCONT), 0);
  const auto claimed = claim.get();
  ASSERT_TRUE(claimed) << claimed.error().message();
  std::unique_lock lock(mutex);
  answered.wait(lock, [&] { return answers == entries.size(); });
  const auto all = read_from(*other, 1);
  EXPECT_EQ(all.size(), claimed.value().last.sequence) << "nothing landed after the claim";
  ASSERT_GE(all.size(), acknowledged);
  for (const auto& entry : all) EXPECT_EQ(entry.hash, entries[entry.header.sequence - 1].hash);
}

}  // namespace
}  // namespace datacloud::journal
