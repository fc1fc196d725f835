// Deadlines, faults and accounting in front of a store.
#include "common/store/store_decorators.h"

#include <gtest/gtest.h>

#include <thread>

#include "common/store/directory_store.h"
#include "common/store/memory_store.h"
#include "tests/support/seeded.h"
#include "tests/support/store_calls.h"
#include "tests/support/temporary_directory.h"

namespace datacloud {
namespace {

Fault fault(Fault::Kind kind) {
  Fault f;
  f.kind = kind;
  f.error = Error(Errc::io, "injected");
  return f;
}

std::unique_ptr<ObjectStore> faulty(FaultRule rule, MemoryStoreControl control = {}) {
  return make_deadline_store(make_fault_store(make_memory_store(control), std::move(rule)));
}

OpOptions within(Duration time) { return {monotonic_now() + time, Purpose::client}; }

TEST(DeadlineStore, AnswersForAStoreThatHangs) {
  auto store = faulty([](StoreOp, const std::string&) { return fault(Fault::Kind::hang); });
  const auto start = monotonic_now();
  const auto soon = [] { return within(milliseconds(50)); };
  EXPECT_TRUE(put(*store, "one", {1}, {}, soon()).error().is(Errc::timed_out));
  EXPECT_TRUE(read(*store, "one", {}, false, soon()).error().is(Errc::timed_out));
  EXPECT_TRUE(remove(*store, "one", soon()).error().is(Errc::timed_out));
  EXPECT_TRUE(check(*store, soon()).error().is(Errc::timed_out));
  const auto took = monotonic_now() - start;
  EXPECT_GE(took, milliseconds(200));
  EXPECT_LT(took, seconds(20));
  const auto late = read(*store, "one", {}, false, soon());
  EXPECT_NE(late.error().text().find("memory:one"), std::string::npos) << late.error().text();
}

TEST(DeadlineStore, PastDeadlinesDoNothing) {
  MemoryStoreControl control;
  auto store = make_deadline_store(make_memory_store(control));
  EXPECT_TRUE(put(*store, "one", {1}, {}, within(-seconds(1))).error().is(Errc::timed_out));
  EXPECT_EQ(control.object_count(), 0u);
  EXPECT_TRUE(put(*store, "one", {1}, {}, within(seconds(60))));
}

TEST(DeadlineStore, DestructionAnswersWhatHangsWithoutDeadline) {
  auto store = faulty([](StoreOp, const std::string&) { return fault(Fault::Kind::hang); });
  std::atomic<int> answers{0};
  for (int i = 0; i < 10; ++i) {
    const OpOptions options = i % 2 == 0 ? OpOptions() : within(seconds(3600));
    store->check(options, [&](result<void> r) {
      EXPECT_TRUE(r.error().is(Errc::timed_out));
      ++answers;
    });
  }
  store.reset();
  EXPECT_EQ(answers, 10);
}

// The outcome of a put that timed out is unknown: this one lands afterwards.
TEST(DeadlineStore, ATimedOutPutMayLandLater) {
  MemoryStoreControl control;
  Fault late = fault(Fault::Kind::delay);
  late.delay = milliseconds(100);
  auto store =
      faulty([late](StoreOp op, const std::string&) { return op == StoreOp::put ? late : Fault(); },
             control);
  EXPECT_TRUE(put(*store, "one", contents_of("one", 1000), {}, within(milliseconds(20)))
                  .error()
                  .is(Errc::timed_out));
  EXPECT_TRUE(read(*store, "one", {}).error().is(Errc::not_found));
  for (int i = 0; i < 1000 && control.object_count() == 0; ++i) {
    std::this_thread::sleep_for(milliseconds(10));
  }
  EXPECT_TRUE(read_all(*store, "one").value() == contents_of("one", 1000)) << "memory kept alive";
}

// Deadlines and answers race for thousands of calls: each is answered exactly once.
TEST(DeadlineStore, AnswersOnceWhenDeadlinesAndAnswersRace) {
  Seeded random;
  constexpr size_t kCalls = 4000;
  std::vector<std::atomic<int>> answers(kCalls);
  std::atomic<uint64_t> turn{0};
  auto store = faulty([&](StoreOp, const std::string&) {
    Fault f = fault(Fault::Kind::delay);
    f.delay = std::chrono::microseconds((turn++ * 7919) % 3000);
    return f;
  });
  for (size_t i = 0; i < kCalls; ++i) {
    store->check(within(std::chrono::microseconds(random.number(0, 3000))),
                 [&answers, i](result<void>) { ++answers[i]; });
  }
  std::this_thread::sleep_for(milliseconds(2));  // destroyed in the middle of it
  store.reset();
  for (size_t i = 0; i < kCalls; ++i) ASSERT_EQ(answers[i], 1) << i;
}

TEST(FaultStore, FailsBeforeOrAfter) {
  MemoryStoreControl control;
  auto store = make_fault_store(make_memory_store(control), [](StoreOp, const std::string& name) {
    if (name == "before") return fault(Fault::Kind::fail_before);
    if (name == "after") return fault(Fault::Kind::fail_after);
    return Fault();
  });
  EXPECT_TRUE(put(*store, "before", {1}).error().is(Errc::io));
  EXPECT_EQ(control.object_count(), 0u);
  EXPECT_TRUE(put(*store, "after", {1}).error().is(Errc::io));
  EXPECT_EQ(control.names(), (std::vector<std::string>{"after"}));
  EXPECT_TRUE(put(*store, "neither", {1}));
}

TEST(FaultStore, DamagesWhatIsRead) {
  Fault::Kind kind = Fault::Kind::flip_byte;
  auto store = make_fault_store(make_memory_store(), [&kind](StoreOp op, const std::string&) {
    return op == StoreOp::read ? fault(kind) : Fault();
  });
  const Bytes data = contents_of("one", 1000);
  ASSERT_TRUE(put(*store, "one", data));
  const auto differing = [&] {
    const Bytes seen = read_all(*store, "one").value();
    EXPECT_EQ(seen.size(), data.size());
    size_t n = 0;
    for (size_t i = 0; i < data.size(); ++i) n += seen[i] != data[i];
    return n;
  };
  EXPECT_EQ(differing(), 1u);
  kind = Fault::Kind::garbage;
  EXPECT_EQ(differing(), data.size());
  kind = Fault::Kind::none;
  EXPECT_EQ(differing(), 0u);
}

TEST(AccountingStore, CountsBytesByPurpose) {
  TrafficCounters counters;
  auto store = make_accounting_store(make_memory_store(), counters);
  const auto repair = [] { return OpOptions{MonotonicTime::max(), Purpose::repair}; };
  ASSERT_TRUE(put(*store, "one", Bytes(100), {{"key", "value"}}, repair()));
  ASSERT_TRUE(read(*store, "one", {{0, 30}, {90, 50}}, true));
  EXPECT_FALSE(read(*store, "two", {{0, 30}}));
  ASSERT_TRUE(remove(*store, "one", repair()));
  EXPECT_EQ(counters.row(Purpose::repair).bytes_written, 108u);
  EXPECT_EQ(counters.row(Purpose::repair).bytes_read, 0u);
  EXPECT_EQ(counters.row(Purpose::repair).operations, 2u);
  EXPECT_EQ(counters.row(Purpose::client).bytes_read, 48u);
  EXPECT_EQ(counters.row(Purpose::client).operations, 2u);
  EXPECT_EQ(counters.row(Purpose::gc).operations, 0u);
  counters.reset();
  EXPECT_EQ(counters.row(Purpose::repair).bytes_written, 0u);
}

}  // namespace
}  // namespace datacloud
