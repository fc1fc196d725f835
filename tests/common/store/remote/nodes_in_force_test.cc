// Revocation reaches the server of a site.
#include "common/store/remote/nodes_in_force.h"

#include <gmock/gmock.h>

#include <atomic>

#include "common/tls/organisation.h"
#include "tests/support/served_site.h"
#include "tests/support/store_calls.h"

namespace datacloud {
namespace {

using testing::HasSubstr;

// A daemon's answers.
struct Told {
  std::mutex mutex;
  NodesInForce::Serials serials;
  bool answers = true;
  std::atomic<int> asked{0};

  void set(NodesInForce::Serials now, bool answer = true) {
    std::lock_guard lock(mutex);
    serials = std::move(now);
    answers = answer;
  }
  NodesInForce::Options options(Duration interval, Duration age_max = seconds(3600)) {
    NodesInForce::Options out;
    out.ask = [this]() -> result<NodesInForce::Serials> {
      ++asked;
      std::lock_guard lock(mutex);
      if (!answers) return failure(Errc::unavailable, "no route");
      return serials;
    };
    out.interval = interval;
    out.age_max = age_max;
    return out;
  }
};

bool within(Duration patience, const std::function<bool()>& holds) {
  const auto until = monotonic_now() + patience;
  while (monotonic_now() < until) {
    if (holds()) return true;
    std::this_thread::sleep_for(milliseconds(10));
  }
  return holds();
}

// Signed by anybody: it counts as the daemon's records say, and as long as they do.
TEST(NodesInForce, AnOrganisationsCertificateIsWhoseTheRecordsSay) {
  ServedSite site;
  const TestCloud organisation("00000000-0000-4000-8000-00000000000a");
  auto credentials = organisation.credentials("whatever", NodeRole::admin);
  credentials.authority = site.cloud.authority.certificate();
  const Bytes fingerprint = certificate_fingerprint(credentials.certificate);
  Told told;
  site.nodes = std::make_shared<NodesInForce>(told.options(milliseconds(20)));
  site.certified = std::make_shared<CertifiedNodes>();
  site.start();
  auto options = site.options_for();
  options.context = [&] { return TlsContext::make(TlsContext::Side::client, credentials); };
  const auto store = make_remote_store(options);
  const auto stranger = check(*store);
  ASSERT_FALSE(stranger);
  EXPECT_THAT(stranger.error().text(), HasSubstr("not signed by this cloud's authority"));

  site.certified->set({{fingerprint, {"gpu07", NodeRole::mount_ro}}});
  told.set({{1}});
  EXPECT_FALSE(within(seconds(3), [&] { return bool(check(*store)); })) << "not in force";
  told.set({{1}, fingerprint});
  ASSERT_TRUE(within(seconds(20), [&] { return bool(check(*store)); }));
  EXPECT_EQ(put(*store, "one", {1}).error().errno_value(), EROFS) << "its role is the record's";
  told.set({{1}});
  EXPECT_TRUE(within(seconds(20), [&] { return !check(*store); })) << "revoked";

  auto old = organisation.credentials("whatever", NodeRole::admin, kTestDayNs, 2 * kTestDayNs);
  old.authority = site.cloud.authority.certificate();
  const Bytes expired = certificate_fingerprint(old.certificate);
  site.certified->set({{expired, {"gpu07", NodeRole::mount}}});
  told.set({{1}, expired});
  options.context = [&] { return TlsContext::make(TlsContext::Side::client, old); };
  const auto late = make_remote_store(options);
  result<void> last = success();
  EXPECT_TRUE(within(seconds(20), [&] {
    last = check(*late);
    return !last && last.error().text().find("has expired") != std::string::npos;
  })) << (last ? "" : last.error().text());
}

TEST(NodesInForce, ANewCertificateIsAskedForAtOnce) {
  Told told;
  told.set({{1}});
  NodesInForce nodes(told.options(seconds(1000)));
  EXPECT_TRUE(nodes.admit({1}));
  const auto unknown = nodes.admit({2});
  ASSERT_FALSE(unknown);
  EXPECT_EQ(unknown.error().errno_value(), EACCES);
  told.set({{1}, {2}});
  EXPECT_TRUE(nodes.admit({2}));
  EXPECT_TRUE(nodes.holds({2}));
  const int before = told.asked;
  for (int i = 0; i < 100; ++i) EXPECT_TRUE(nodes.admit({1}));
  EXPECT_EQ(told.asked, before) << "who is known costs no question";
}

TEST(NodesInForce, StrangersMakeItAskOnceASecond) {
  Told told;
  NodesInForce nodes(told.options(seconds(1000)));
  const auto began = monotonic_now();
  for (int i = 0; i < 3; ++i) EXPECT_FALSE(nodes.admit({9}));
  EXPECT_GE(monotonic_now() - began, milliseconds(1900));
  EXPECT_LE(told.asked, 5);
}

TEST(NodesInForce, WithoutTheDaemonTheLastListCountsForAWhile) {
  Told told;
  told.set({}, false);
  NodesInForce nodes(told.options(milliseconds(50), milliseconds(1500)));
  const auto none = nodes.admit({1});
  ASSERT_FALSE(none);
  EXPECT_TRUE(none.error().is(Errc::unavailable)) << none.error().message();
  EXPECT_THAT(none.error().text(), HasSubstr("no route"));
  told.set({{1}});
  EXPECT_TRUE(nodes.admit({1}));
  told.set({}, false);
  EXPECT_TRUE(within(seconds(1), [&] { return nodes.admit({1}).has_value(); }));
  EXPECT_TRUE(within(seconds(5), [&] { return !nodes.holds({1}); })) << "not for ever";
  EXPECT_FALSE(nodes.admit({1}));
}

TEST(NodesInForce, ARevokedNodeIsShutOut) {
  ServedSite site;
  Told told;
  const auto credentials = site.cloud.credentials("gpu07", NodeRole::mount);
  const auto shown = TlsContext::make(TlsContext::Side::client, credentials).value();
  const auto serial = judge_certificate(credentials.certificate, credentials.authority,
                                        CertificateUse::client, wall_now_ns())
                          .serial;
  told.set({serial});
  site.nodes = std::make_shared<NodesInForce>(told.options(milliseconds(100)));
  site.start();
  auto options = site.options_for();
  options.context = [shown]() -> result<std::shared_ptr<const TlsContext>> { return shown; };
  const auto store = make_remote_store(options);
  ASSERT_TRUE(put(*store, "one", {1}));
  NodeRoles of_daemon = NodeRole::daemon;
  of_daemon.add(NodeRole::mount);
  const auto daemon = site.open(of_daemon);
  EXPECT_TRUE(check(*daemon)) << "the daemon is in no list";
  told.set({});
  ASSERT_TRUE(within(seconds(10), [&] { return !check(*store); })) << "an open connection ends";
  EXPECT_THAT(check(*store).error().text(), HasSubstr("revoked"));
  EXPECT_TRUE(check(*daemon));
  EXPECT_GE(site.server->refusals().of(Refusal::revoked), 1u);
}

}  // namespace
}  // namespace datacloud
