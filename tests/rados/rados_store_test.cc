// What the RADOS back end does when its cluster is not as it should be: absent, refusing, without
// the pool, full, silent. Nothing here may take longer than its deadline.
#include "common/store/rados/rados_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <fstream>
#include <thread>

#include "common/store/store_decorators.h"
#include "tests/rados/ceph_site.h"

namespace datacloud {
namespace {

using testing::HasSubstr;

OpOptions within(Duration time) { return {monotonic_now() + time, Purpose::client}; }

template <class T>
testing::AssertionResult fails_as(const result<T>& answer, Errc code) {
  if (answer) return testing::AssertionFailure() << "it succeeded";
  if (answer.error().is(code)) return testing::AssertionSuccess();
  return testing::AssertionFailure() << answer.error().message();
}

double seconds_since(MonotonicTime start) {
  return std::chrono::duration<double>(monotonic_now() - start).count();
}

class RadosStoreTest : public testing::Test {
 protected:
  // A site in the pool "datacloud", formatted.
  RadosOptions formatted_site() {
    auto options = ceph_.options("datacloud", CephSite::fresh_namespace());
    auto formatted = format_rados(options);
    EXPECT_TRUE(formatted) << formatted.error().message();
    return options;
  }
  // What check() says once it has stopped saying `not_yet`, within `time`.
  static result<void> eventually(ObjectStore& store, bool up, Duration time = seconds(15)) {
    const auto end = monotonic_now() + time;
    for (;;) {
      auto answer = check(store);
      if (answer.has_value() == up || monotonic_now() > end) return answer;
      std::this_thread::sleep_for(milliseconds(50));
    }
  }

  CephSite ceph_;
  TemporaryDirectory directory_;
};

TEST_F(RadosStoreTest, AnUnreachableClusterIsAwayAndNobodyWaits) {
  const std::string conf = directory_.path() / "ceph.conf";
  std::ofstream(conf) << "[global]\nmon_host = v2:127.0.0.1:1\n";
  auto options = ceph_.options("datacloud", "none");
  options.conf = conf;
  const auto start = monotonic_now();
  auto store = make_deadline_store(make_rados_store(options));
  EXPECT_LT(seconds_since(start), 0.5);
  EXPECT_TRUE(fails_as(check(*store, within(milliseconds(300))), Errc::timed_out));
  const auto answer = check(*store);  // the first attempt ends
  EXPECT_LT(seconds_since(start), 8);
  ASSERT_FALSE(answer);
  EXPECT_TRUE(answer.error().is(Errc::away)) << answer.error().message();
  EXPECT_THAT(answer.error().text(), HasSubstr(conf));
  EXPECT_THAT(answer.error().text(), HasSubstr("no monitor"));
  const auto again = monotonic_now();  // from now on at once
  EXPECT_TRUE(fails_as(put(*store, "one", {1}), Errc::away));
  EXPECT_LT(seconds_since(again), 0.2);
}

TEST_F(RadosStoreTest, AUserWithoutAKeyIsToldHowToGetOne) {
  auto options = formatted_site();
  options.user = "client.nobody";
  options.keyring = directory_.path() / "keyring";
  std::ofstream(options.keyring)
      << "[client.nobody]\n\tkey = AQC4vBlnAAAAABAAxQ4Ct9yOG0Yl3nFnQwBYcQ==\n";
  auto store = make_rados_store(options);
  const auto answer = check(*store);
  ASSERT_FALSE(answer);
  EXPECT_TRUE(answer.error().is(Errc::away)) << answer.error().message();
  EXPECT_THAT(answer.error().text(),
              HasSubstr("ceph auth get-or-create client.nobody mon 'allow r' osd 'allow rwx "
                        "pool=datacloud namespace=" +
                        options.nspace + "'"));
}

TEST_F(RadosStoreTest, AUserWithoutCapabilitiesIsToldWhich) {
  auto options = formatted_site();
  ceph_.use(options, "client.datacloud-elsewhere", "elsewhere");
  auto store = make_rados_store(options);
  const auto answer = check(*store);
  ASSERT_FALSE(answer);
  EXPECT_TRUE(answer.error().is(Errc::away)) << answer.error().message();
  EXPECT_THAT(answer.error().text(), HasSubstr("ceph auth caps client.datacloud-elsewhere"));
  EXPECT_TRUE(fails_as(put(*store, "one", {1}), Errc::away));
}

TEST_F(RadosStoreTest, APoolMadeAnewIsNotTheSite) {
  const std::string pool = "datacloud-short-lived";
  ceph_.command({{"prefix", "config set"},
                 {"who", "mon"},
                 {"name", "mon_allow_pool_delete"},
                 {"value", "true"}});
  const auto make = [&] {
    ceph_.command({{"prefix", "osd pool create"}, {"pool", pool}, {"pg_num", 1}});
  };
  const auto remove_pool = [&] {
    ceph_.command({{"prefix", "osd pool delete"},
                   {"pool", pool},
                   {"pool2", pool},
                   {"yes_i_really_really_mean_it", true}});
  };
  auto options = ceph_.options(pool, CephSite::fresh_namespace());
  auto store = make_rados_store(options);
  const auto absent = check(*store);
  ASSERT_FALSE(absent);
  EXPECT_TRUE(absent.error().is(Errc::away)) << absent.error().message();
  EXPECT_THAT(absent.error().text(), HasSubstr("no pool " + pool));

  make();
  ASSERT_TRUE(format_rados(options));
  auto up = eventually(*store, true);
  ASSERT_TRUE(up) << up.error().message();
  ASSERT_TRUE(put(*store, "one", {1}));

  remove_pool();
  EXPECT_FALSE(eventually(*store, false)) << "OSDs learn of it a moment later";
  const auto gone = read(*store, "one", {{0, 1}});
  ASSERT_FALSE(gone);
  EXPECT_TRUE(gone.error().is(Errc::away)) << gone.error().message();
  make();
  for (int i = 0; i < 30; ++i) {
    EXPECT_FALSE(put(*store, std::string("two-").append(std::to_string(i)), {1}));
    std::this_thread::sleep_for(milliseconds(100));
  }
  auto io = ceph_.open(pool, options.nspace);
  EXPECT_EQ(io.nobjects_begin(), io.nobjects_end()) << "something was put into the new pool";
  remove_pool();
}

TEST_F(RadosStoreTest, AFullPoolAnswersAndCanBeEmptied) {
  auto store = make_deadline_store(make_rados_store(formatted_site()));
  ASSERT_TRUE(put(*store, "one", {1, 2, 3}));
  const auto full = [&](double ratio) {
    ceph_.command({{"prefix", "osd set-nearfull-ratio"}, {"ratio", ratio * 0.8}});
    ceph_.command({{"prefix", "osd set-backfillfull-ratio"}, {"ratio", ratio * 0.9}});
    ceph_.command({{"prefix", "osd set-full-ratio"}, {"ratio", ratio}});
  };
  full(1e-6);
  result<void> answer = success();
  for (int i = 0; i < 300 && answer; ++i) {
    answer = put(*store, std::string("more-").append(std::to_string(i)), Bytes(1000), {},
                 within(seconds(10)));
    std::this_thread::sleep_for(milliseconds(100));
  }
  const auto read_back = read_all(*store, "one");
  const auto removed = remove(*store, "one", within(seconds(10)));
  full(0.95);
  ASSERT_FALSE(answer) << "the OSD did not become full";
  EXPECT_TRUE(answer.error().is(Errc::no_space)) << answer.error().message();
  EXPECT_EQ(read_back.value(), (Bytes{1, 2, 3}));
  EXPECT_TRUE(removed) << removed.error().message();
  auto again = put(*store, "again", {1}, {}, within(seconds(10)));
  for (int i = 0; i < 100 && !again; ++i) {
    std::this_thread::sleep_for(milliseconds(100));
    again =
        put(*store, std::string("again-").append(std::to_string(i)), {1}, {}, within(seconds(10)));
  }
  EXPECT_TRUE(again) << again.error().message();
}

// A stopped OSD is like one behind a cut link: nothing is answered, and nothing is lost.
class StoppedOsd {
 public:
  explicit StoppedOsd(const CephSite& site) : processes_(site.osd_processes()) { send(SIGSTOP); }
  ~StoppedOsd() { send(SIGCONT); }

 private:
  void send(int signal) {
    for (const pid_t process : processes_) ::kill(process, signal);
  }
  const std::vector<pid_t> processes_;
};

TEST_F(RadosStoreTest, ASilentClusterTimesOutAndComesBack) {
  const auto options = formatted_site();
  auto store = make_deadline_store(make_rados_store(options));
  auto doomed = make_deadline_store(make_rados_store(options));
  ASSERT_TRUE(put(*store, "one", {1, 2, 3}));
  ASSERT_TRUE(check(*doomed));
  auto stopped = std::make_unique<StoppedOsd>(ceph_);
  const auto start = monotonic_now();
  EXPECT_TRUE(fails_as(put(*store, "two", {2}, {}, within(seconds(1))), Errc::timed_out));
  EXPECT_TRUE(fails_as(read(*store, "one", {{0, 3}}, false, within(seconds(1))), Errc::timed_out));
  EXPECT_TRUE(fails_as(check(*store, within(seconds(1))), Errc::timed_out));
  EXPECT_LT(seconds_since(start), 5);
  std::atomic<int> answers{0};
  for (int i = 0; i < 100; ++i) {
    doomed->put(std::string("doomed-").append(std::to_string(i)), Payload::from(Bytes(10'000)), {},
                {}, [&](result<void> r) {
                  EXPECT_TRUE(fails_as(r, Errc::timed_out));
                  ++answers;
                });
  }
  const auto destroyed = monotonic_now();
  doomed.reset();
  EXPECT_EQ(answers, 100);
  EXPECT_LT(seconds_since(destroyed), 5) << "destroying a store does not wait for its cluster";
  stopped.reset();
  auto up = eventually(*store, true);
  EXPECT_TRUE(up) << up.error().message();
  EXPECT_EQ(read_all(*store, "one").value(), (Bytes{1, 2, 3}));
  EXPECT_TRUE(put(*store, "three", {3}));
}

TEST_F(RadosStoreTest, FormatsOnceAndTakesBackOnlyItsOwn) {
  auto options = formatted_site();
  EXPECT_EQ(read_rados_marker(options).value(), test_marker());
  EXPECT_TRUE(fails_as(format_rados(options), Errc::exists));
  auto other = options;
  other.expected = test_marker(2);
  EXPECT_TRUE(fails_as(unformat_rados(other), Errc::invalid));
  auto store = make_rados_store(options);
  ASSERT_TRUE(put(*store, "one", {1}));
  EXPECT_TRUE(fails_as(unformat_rados(options), Errc::invalid)) << "an object is there";
  ASSERT_TRUE(remove(*store, "one"));
  EXPECT_TRUE(unformat_rados(options));
  EXPECT_TRUE(fails_as(read_rados_marker(options), Errc::not_found));
  librados::bufferlist bytes;
  bytes.append("x");
  ASSERT_EQ(ceph_.open("datacloud", options.nspace).write_full("stray", bytes), 0);
  EXPECT_TRUE(fails_as(format_rados(options), Errc::invalid)) << "it is not empty";
}

}  // namespace
}  // namespace datacloud
