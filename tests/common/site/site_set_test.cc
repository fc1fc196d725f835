// Site health: who is away, why, and how it comes back.
#include "common/site/site_set.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "common/store/memory_store.h"
#include "tests/support/store_calls.h"
#include "tests/support/temporary_directory.h"

namespace datacloud {
namespace {

namespace fs = std::filesystem;

template <class Condition>
bool eventually(Condition condition) {
  for (int i = 0; i < 2000; ++i) {
    if (condition()) return true;
    std::this_thread::sleep_for(milliseconds(5));
  }
  return condition();
}

OpOptions within(Duration time) { return {monotonic_now() + time, Purpose::client}; }

// One site in memory behind faults that can be changed while it runs.
class OneSite : public testing::Test {
 protected:
  Site& site() { return sites_.at(0); }
  void set_fault(Fault::Kind kind, Errc code = Errc::io) {
    std::lock_guard lock(mutex_);
    fault_.kind = kind;
    fault_.error = Error(code, "injected");
  }

  std::mutex mutex_;
  Fault fault_;
  MemoryStoreControl control_;
  SiteSet sites_{members(), milliseconds(10)};

 private:
  std::vector<SiteSet::Member> members() {
    std::vector<SiteSet::Member> members;
    members.push_back(
        {7, "seven",
         make_fault_store(make_memory_store(control_), [this](StoreOp, const std::string&) {
           std::lock_guard lock(mutex_);
           return fault_;
         })});
    return members;
  }
};

TEST_F(OneSite, AwayAtOnceAndBack) {
  EXPECT_TRUE(site().up());
  EXPECT_EQ(sites_.describe_away(), "");
  control_.set_away(true);
  auto answer = put(site().store(), "one", {1});
  EXPECT_TRUE(answer.error().is(Errc::away));
  EXPECT_THAT(answer.error().text(), testing::HasSubstr("site seven"));
  EXPECT_FALSE(site().up());
  EXPECT_EQ(sites_.live_count(), 0u);
  EXPECT_EQ(sites_.describe_away(), "seven (away: the memory store is set away)");
  control_.set_away(false);
  EXPECT_TRUE(eventually([&] { return site().up(); }));
  EXPECT_EQ(site().away_reason(), "");
}

TEST_F(OneSite, AnswersAreHealthWhateverTheySay) {
  for (const Errc code : {Errc::no_space, Errc::not_found, Errc::exists, Errc::corrupt, Errc::io}) {
    set_fault(Fault::Kind::fail_before, code);
    for (int i = 0; i < 5; ++i) EXPECT_FALSE(put(site().store(), "one", {1}));
    EXPECT_TRUE(site().up());
  }
}

// Only puts of that size and larger, and until one as large has succeeded.
TEST_F(OneSite, ARefusalForWantOfRoomIsRemembered) {
  set_fault(Fault::Kind::fail_before, Errc::no_space);
  EXPECT_FALSE(put(site().store(), "one", Bytes(1000)));
  ASSERT_TRUE(site().full_for(1000));
  EXPECT_TRUE(site().full_for(1000)->is(Errc::no_space));
  EXPECT_FALSE(site().full_for(999));
  EXPECT_TRUE(site().up());
  EXPECT_FALSE(sites_.out_of_space(999, 1));
  EXPECT_FALSE(sites_.out_of_space(1000, 2)) << "room would not make two sites of it";
  const auto full = sites_.out_of_space(1000, 1);
  ASSERT_TRUE(full);
  EXPECT_TRUE(full->is(Errc::no_space));
  EXPECT_THAT(full->text(), testing::HasSubstr("seven"));
  set_fault(Fault::Kind::none);
  EXPECT_TRUE(put(site().store(), "small", Bytes(999)));
  EXPECT_TRUE(site().full_for(1000));
  EXPECT_TRUE(put(site().store(), "large", Bytes(1000)));
  EXPECT_FALSE(site().full_for(1000));
}

TEST_F(OneSite, OtherFailuresSayNothingOfRoom) {
  set_fault(Fault::Kind::fail_before, Errc::io);
  EXPECT_FALSE(put(site().store(), "one", Bytes(1000)));
  EXPECT_FALSE(site().full_for(UINT64_MAX - 1));
}

TEST_F(OneSite, ThreeTimeoutsInARow) {
  const auto hang_once = [&] {
    set_fault(Fault::Kind::hang);
    EXPECT_TRUE(
        put(site().store(), "one", {1}, {}, within(milliseconds(5))).error().is(Errc::timed_out));
    set_fault(Fault::Kind::none);
  };
  hang_once();
  hang_once();
  EXPECT_TRUE(read(site().store(), "none", {}).error().is(Errc::not_found));
  hang_once();
  hang_once();
  EXPECT_TRUE(site().up()) << "an answer in between starts the count again";
  set_fault(Fault::Kind::hang);
  EXPECT_FALSE(put(site().store(), "one", {1}, {}, within(milliseconds(5))));
  EXPECT_FALSE(site().up());
  EXPECT_THAT(site().away_reason(), testing::HasSubstr("timed out"));
  set_fault(Fault::Kind::none);
  EXPECT_TRUE(eventually([&] { return site().up(); }));
}

TEST_F(OneSite, CheckAllWaitsNoLongerThanItsDeadline) {
  set_fault(Fault::Kind::hang);
  const auto start = monotonic_now();
  sites_.check_all(milliseconds(100));
  EXPECT_LT(monotonic_now() - start, seconds(10));
  EXPECT_FALSE(site().up());
  EXPECT_EQ(sites_.describe_away(), "seven (away: its check failed: timed out)");
  set_fault(Fault::Kind::none);
  sites_.check_all(seconds(10));
  EXPECT_TRUE(site().up());
}

TEST_F(OneSite, TellsAboutChanges) {
  std::mutex mutex;
  std::vector<bool> told;
  sites_.on_change([&](Site& changed) {
    std::lock_guard lock(mutex);
    EXPECT_EQ(changed.id(), 7u);
    told.push_back(changed.up());
  });
  const auto told_is = [&](std::vector<bool> expected) {
    return eventually([&] {
      std::lock_guard lock(mutex);
      return told == expected;
    });
  };
  control_.set_away(true);
  EXPECT_FALSE(check(site().store()));
  EXPECT_TRUE(told_is({false}));
  control_.set_away(false);
  EXPECT_TRUE(told_is({false, true}));
  sites_.on_change(nullptr);
}

TEST_F(OneSite, ForeignTrafficIsCounted) {
  ASSERT_TRUE(put(site().store(), "one", Bytes(10)));
  EXPECT_EQ(site().traffic().row(Purpose::client).bytes_written, 10u);
  site().reset_traffic();
  EXPECT_EQ(site().traffic().row(Purpose::client).bytes_written, 0u);
}

// A hanging call that nobody gave a deadline ends with the set.
TEST(SiteSetLife, DestroyedWithCallsInFlight) {
  std::atomic<int> answers{0};
  {
    std::vector<SiteSet::Member> members;
    Fault hang;
    hang.kind = Fault::Kind::hang;
    for (SiteId id = 1; id <= 3; ++id) {
      members.push_back({id, std::string("s").append(std::to_string(id)),
                         make_fault_store(make_memory_store(),
                                          [hang](StoreOp, const std::string&) { return hang; })});
    }
    SiteSet sites(std::move(members), milliseconds(5));
    for (Site* site : sites.all()) {
      site->store().check({}, [&](result<void>) { ++answers; });
    }
    std::this_thread::sleep_for(milliseconds(20));
  }
  EXPECT_EQ(answers, 3);
}

TEST(SiteSetLife, FindsSites) {
  std::vector<SiteSet::Member> members;
  members.push_back({3, "c", make_memory_store()});
  members.push_back({1, "a", make_memory_store()});
  SiteSet sites(std::move(members));
  EXPECT_EQ(sites.size(), 2u);
  EXPECT_EQ(sites.find(SiteId{1})->name(), "a");
  EXPECT_EQ(sites.find("c")->id(), 3u);
  EXPECT_EQ(sites.find(SiteId{2}), nullptr);
  EXPECT_EQ(sites.find("b"), nullptr);
}

TEST(SiteSetLife, SitesJoinAndLeaveUnderWay) {
  std::vector<SiteSet::Member> members;
  members.push_back({1, "a", make_memory_store()});
  SiteSet sites(std::move(members), milliseconds(5));
  std::atomic<bool> over{false};
  std::thread user([&] {
    while (!over) {
      for (Site* site : sites.all()) {
        if (Site* again = sites.find(site->id())) again->store().check({}, [](result<void>) {});
      }
      sites.check_all(milliseconds(100));
    }
  });
  for (SiteId id = 2; id <= 20; ++id) {
    ASSERT_TRUE(sites.add({id, std::string("s").append(std::to_string(id)), make_memory_store()}));
    EXPECT_FALSE(sites.add({id, "other", make_memory_store()}));
    if (id % 2 == 0) sites.retire(id);
  }
  EXPECT_TRUE(eventually([&] { return sites.live_count() == 10; }));  // each after its first check
  over = true;
  user.join();
  EXPECT_EQ(sites.size(), 10u);
  EXPECT_EQ(sites.find(SiteId{2}), nullptr);
  EXPECT_EQ(sites.find("s2"), nullptr);
  EXPECT_EQ(sites.find("s3")->id(), 3u);
  EXPECT_EQ(sites.describe_away(), "");
}

// The whole stack over real directories; nobody calls the site that vanishes.
TEST(SiteSetDirectories, AVanishedSiteIsNoticedWithoutTrafficAndComesBack) {
  TemporaryDirectory directory(TemporaryDirectory::fast_parent());
  std::vector<SiteSet::Member> members;
  for (SiteId id : {1u, 2u}) {
    const auto name = std::string("s").append(std::to_string(id));
    const SiteConfig config{name, "directory", directory.path() / name};
    ASSERT_TRUE(format_store(config, test_marker(id)));
    members.push_back({id, name, open_store(config, test_marker(id)).value()});
  }
  SiteSet sites(std::move(members), milliseconds(20));
  sites.check_all(seconds(5));
  EXPECT_EQ(sites.live_count(), 2u);
  const auto root = directory.path() / "s2", away = directory.path() / "s2.away";
  fs::rename(root, away);
  fs::create_directory(root);  // what an unmounted site looks like
  EXPECT_TRUE(eventually([&] { return sites.live_count() == 1; }));
  EXPECT_THAT(sites.describe_away(), testing::HasSubstr("s2 (away: no marker in " + root.string()));
  EXPECT_TRUE(put(sites.find("s2")->store(), "one", {1}).error().is(Errc::away));
  EXPECT_TRUE(fs::is_empty(root));
  fs::remove(root);
  fs::rename(away, root);
  EXPECT_TRUE(eventually([&] { return sites.live_count() == 2; }));
  EXPECT_TRUE(put(sites.find("s2")->store(), "one", {1}));
}

}  // namespace
}  // namespace datacloud
