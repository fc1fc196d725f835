// Features: switched on once all mounts know them, refused to those that do not, in every order of
// upgrades of the daemon and its mounts.
#include <fmt/format.h>

#include <algorithm>

#include "common/base/features.h"
#include "common/proto/admin.pb.h"
#include "common/rpc/protocol_versions.h"
#include "daemon/metadata/record_keys.h"
#include "daemon/records/cloud_features.h"
#include "tests/daemon/service/service_rig.h"

namespace datacloud {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

int wire(Errc e) { return -static_cast<int>(e); }

std::vector<std::string> all_names() {
  std::vector<std::string> names;
  for (const auto& known : known_features()) names.push_back(std::string(known.name));
  return names;
}

class FeaturesTest : public ServiceTest {
 protected:
  // The reply, and its failure's text.
  pb::FeatureReply ask(Client& client, const std::vector<std::string>& enable, bool all = false) {
    pb::AdminRequest admin;
    for (const auto& name : enable) admin.mutable_feature()->add_enable(name);
    admin.mutable_feature()->set_all(all);
    pb::Request request;
    request.set_admin(admin.SerializeAsString());
    const auto reply = call(client, request);
    error_ = reply.error();
    text_ = reply.error_text();
    pb::AdminReply answer;
    EXPECT_TRUE(answer.ParseFromString(reply.admin()));
    return answer.feature();
  }
  // What the hello of such a mount is refused with; empty: it is taken.
  std::string refusal(pid_t pid, const std::vector<std::string>& features,
                      const std::string& version) {
    auto connection = std::make_shared<FakeConnection>(pid);
    pb::Request request;
    auto* hello = request.mutable_hello();
    hello->set_protocol(kProtocolOldest);
    hello->mutable_session()->set_version(version);
    for (const auto& name : features) hello->mutable_session()->add_features(name);
    service_->on_request(connection, request);
    EXPECT_TRUE(until([&] { return !connection->replies.empty(); }));
    EXPECT_TRUE(connection->replies[0].error() == 0 ||
                connection->replies[0].error() == wire(Errc::unsupported));
    return connection->replies[0].error_text();
  }
  uint32_t format() {
    pb::Cloud cloud;
    EXPECT_TRUE(store_->begin().get(key::meta("cloud"), cloud).value());
    return cloud.format_version();
  }
  void leave(Client& client) {
    pb::Request request;
    request.mutable_goodbye();
    EXPECT_EQ(call(client, request).error(), 0);
  }
  pb::Features keepalive(Client& client) {
    pb::Request request;
    request.mutable_keepalive();
    return call(client, request).keepalive().features();
  }

  int error_ = 0;
  std::string text_;
};

TEST_F(FeaturesTest, ACloudOfNoFeaturesIsOfFormatOneAndServesEveryMount) {
  Client t = tool();
  const auto listed = ask(t, {});
  const auto switched = std::count_if(known_features().begin(), known_features().end(),
                                      [](const auto& known) { return known.command.empty(); });
  EXPECT_EQ(listed.features_size(), switched);
  for (const auto& feature : listed.features()) EXPECT_EQ(feature.since(), 0u) << feature.name();
  EXPECT_EQ(format(), 1u);
  EXPECT_FALSE(store_->begin().get(key::meta("features")).value());
  EXPECT_EQ(refusal(11, {}, "0.1.0"), "");
  EXPECT_EQ(refusal(12, all_names(), "0.2.0"), "");
}

TEST_F(FeaturesTest, ASessionThatDoesNotKnowAFeatureKeepsItOff) {
  Client old = mount(11);  // as 0.1.0 says hello
  Client young = mount(12, all_names());
  Client t = tool();
  const auto listed = ask(t, {});
  for (const auto& feature : listed.features()) {
    if (feature.name() != "trees") continue;
    ASSERT_THAT(feature.obstacles(), SizeIs(1));
    EXPECT_THAT(feature.obstacles(0), HasSubstr("install version 0.2.0"));
  }
  ask(t, {"trees"});
  EXPECT_EQ(error_, wire(Errc::unavailable));
  EXPECT_THAT(text_, HasSubstr("\"trees\" cannot be switched on while"));
  EXPECT_THAT(text_, HasSubstr("process 11"));
  EXPECT_EQ(format(), 1u);
  // Nor while it is away and may come back.
  disconnect(old);
  ask(t, {}, true);
  EXPECT_EQ(error_, wire(Errc::unavailable));
  restart();
  connect(young);
  t = tool();
  ask(t, {"trees"});
  EXPECT_EQ(error_, wire(Errc::unavailable)) << "the old mount may resume after a restart";
  connect(old);
  leave(old);
  const auto now = ask(t, {"trees"});
  EXPECT_EQ(error_, 0) << text_;
  EXPECT_TRUE(service_->features().has(Feature::trees));
  EXPECT_FALSE(service_->features().has(Feature::times));
  for (const auto& feature : now.features()) {
    EXPECT_EQ(feature.since() != 0, feature.name() == "trees") << feature.name();
    EXPECT_THAT(feature.obstacles(), SizeIs(feature.name() == "inline" ? 1 : 0));
  }
}

TEST_F(FeaturesTest, OnceOnItStaysOnAndOlderMountsAreRefusedByName) {
  Client young = mount(12, all_names());
  EXPECT_EQ(young.hello.features().features_size(), 0);
  Client t = tool();
  const auto first = ask(t, {"times"});
  EXPECT_EQ(error_, 0) << text_;
  EXPECT_EQ(format(), 2u) << "programs of 0.1.0 refuse the records by this number";
  // The mount hears of it without a new session.
  EXPECT_EQ(keepalive(young).features_size(), 1);
  EXPECT_EQ(keepalive(young).features(0).name(), "times");
  EXPECT_THAT(refusal(13, {}, "0.1.0"),
              HasSubstr("uses \"times\", which this mount (version 0.1.0) does not know; install "
                        "version 0.2.0"));
  EXPECT_EQ(refusal(14, {"times"}, "0.2.0"), "");

  const auto again = ask(t, {"times"});
  EXPECT_EQ(error_, 0) << text_;
  EXPECT_EQ(again.DebugString(), ask(t, {}).DebugString());
  restart();
  connect(young);
  EXPECT_TRUE(young.hello.resumed());
  EXPECT_EQ(young.hello.features().features_size(), 1);
  EXPECT_TRUE(service_->features().has(Feature::times));
  EXPECT_THAT(refusal(15, {"trees"}, "0.1.9"), HasSubstr("install version 0.2.0"));
}

TEST_F(FeaturesTest, AllOrNoneOfWhatIsAskedForIsSwitchedOn) {
  Client half = mount(11, {"times"});
  Client t = tool();
  ask(t, {"times", "trees"});
  EXPECT_EQ(error_, wire(Errc::unavailable));
  EXPECT_TRUE(service_->features().empty());
  EXPECT_EQ(format(), 1u);
  ask(t, {"times", "flying"});
  EXPECT_EQ(error_, wire(Errc::not_found));
  EXPECT_THAT(text_, HasSubstr("knows no feature \"flying\""));
  EXPECT_TRUE(service_->features().empty());
  leave(half);
  const auto all = ask(t, {}, true);
  EXPECT_EQ(error_, 0) << text_;
  for (const auto& feature : all.features())
    EXPECT_EQ(feature.since() != 0, feature.name() != "inline") << feature.name();
}

// What fsync has stored must not be on one disk alone.
TEST_F(FeaturesTest, BytesOfFilesAreKeptInTheRecordsOnlyWithAJournal) {
  Client t = tool();
  ask(t, {"inline"});
  EXPECT_EQ(error_, wire(Errc::invalid));
  EXPECT_THAT(text_, HasSubstr("needs the feature \"journal\""));
  EXPECT_THAT(text_, HasSubstr("datacloud journal enable"));
  EXPECT_FALSE(service_->features().has(Feature::inline_data));
  Transaction txn = store_->begin();
  ASSERT_TRUE(enable_feature(txn, Feature::journal, store_->sequence() + 1));
  ASSERT_TRUE(store_->commit(std::move(txn)));
  restart();
  t = tool();
  ask(t, {"inline"});
  EXPECT_EQ(error_, 0) << text_;
  EXPECT_TRUE(service_->features().has(Feature::inline_data));
  // There is no journal behind the name, which fsck would tell.
  auto features = read_features(store_->begin()).value();
  features.mutable_features()->DeleteSubrange(0, 1);
  Transaction without = store_->begin();
  without.put(key::meta("features"), features);
  ASSERT_TRUE(store_->commit(std::move(without)));
}

TEST_F(FeaturesTest, WhatNeedsACommandOfItsOwnIsRefusedWithThatCommand) {
  Client t = tool();
  ask(t, {"journal"});
  EXPECT_EQ(error_, wire(Errc::invalid));
  EXPECT_THAT(text_, HasSubstr("datacloud journal enable"));
  ask(t, {}, true);
  EXPECT_EQ(error_, 0) << text_;
  EXPECT_FALSE(service_->features().has(Feature::journal));
}

// A cloud that a later version has written to.
TEST_F(FeaturesTest, AFeatureOfTheFutureIsRefusedWithTheVersionToInstall) {
  auto txn = store_->begin();
  pb::Features features;
  auto* feature = features.add_features();
  feature->set_name("telepathy");
  feature->set_version("9.1.0");
  txn.put(key::meta("features"), features);
  ASSERT_TRUE(store_->commit(std::move(txn)));
  stop();
  auto opened = MetadataStore::open({.directory = root_ + "/meta"});
  ASSERT_TRUE(opened) << opened.error().message();
  const auto record = read_features(opened.value()->begin());
  ASSERT_TRUE(record);
  const auto set = known_set(record.value());
  ASSERT_FALSE(set);
  EXPECT_TRUE(set.error().is(Errc::unsupported));
  EXPECT_THAT(set.error().text(), HasSubstr("uses \"telepathy\""));
  EXPECT_THAT(set.error().text(), HasSubstr("install version 9.1.0 or later"));
  auto repair = opened.value()->begin();
  repair.erase(key::meta("features"));
  ASSERT_TRUE(opened.value()->commit(std::move(repair)));
  opened.value().reset();
  start();
}

}  // namespace
}  // namespace datacloud
