// Stripe reads with every allowed set of shards missing, slow or lying: exact bytes, and only the
// guilty reported.
#include <set>

#include "fs/read/read_times.h"
#include "tests/fs/read/read_rig.h"

namespace datacloud {
namespace {

using Made = ReadRig::Made;

enum class Harm { removed, garbage, flipped, shortened, away, recorded_missing };

void inflict(ReadRig& rig, Made& made, int column, Harm harm, std::mt19937_64& random) {
  Bytes bytes = made.shards[column];
  switch (harm) {
    case Harm::removed:
      return rig.remove(*made.record, column);
    case Harm::garbage:
      return rig.overwrite(*made.record, column, ReadRig::random_bytes(random, bytes.size()));
    case Harm::flipped:
      for (size_t i = 0; i < bytes.size(); i += 1 + random() % 999)
        bytes[i] ^= static_cast<uint8_t>(1 + random() % 255);
      return rig.overwrite(*made.record, column, bytes);
    case Harm::shortened:
      bytes.resize(bytes.size() / 2);
      return rig.overwrite(*made.record, column, bytes);
    case Harm::away:
      return rig.controls[column].set_away(true);
    case Harm::recorded_missing:
      return made.record->mutable_shards(column)->set_state(pb::SHARD_MISSING);
  }
}

std::string reason_of(Harm harm) {
  if (harm == Harm::removed) return "missing";
  return harm == Harm::away || harm == Harm::recorded_missing ? "" : "corrupt";
}

TEST(StripeReader, ReadsAdjacentBlocksOfAColumnWithOneCall) {
  ReadRig rig;
  std::mt19937_64 random(test_seed());
  const Made made = rig.make_stripe(7, 1, 0, 100, rig.random_blocks(random, 12, 8192));
  rig.expect_exact(made, rig.read(made));
  for (int site = 0; site < 5; ++site) EXPECT_EQ(rig.reads(site), site < 3 ? 1u : 0u);
  EXPECT_TRUE(rig.take_damage().empty());
  EXPECT_EQ(rig.reader->degraded_reads(), 0u);
}

TEST(StripeReader, SmallStripeWithEmptyColumns) {
  ReadRig rig;
  std::mt19937_64 random(test_seed());
  const Made made =
      rig.make_stripe(7, 1, 0, 100, rig.random_blocks(random, 3, 500), "rs-3-2", 1u << 20);
  ASSERT_EQ(made.record->shards(1).state(), pb::SHARD_EMPTY);
  rig.expect_exact(made, rig.read(made));
  rig.remove(*made.record, 0);
  rig.remove(*made.record, 3);
  rig.expect_exact(made, rig.read(made));
  const std::map<int, std::string> lost{{0, "missing"}, {3, "missing"}};
  EXPECT_EQ(rig.take_damage(), lost);
}

// Two columns in all combinations of harm; the reads needed decide whether a bad parity column is
// met, so the bad data columns must be named and no good column may be.
TEST(StripeReader, AnyTwoColumnsHarmed) {
  std::mt19937_64 random(test_seed());
  const Harm harms[] = {Harm::removed,   Harm::garbage, Harm::flipped,
                        Harm::shortened, Harm::away,    Harm::recorded_missing};
  for (int a = 0; a < 5; ++a) {
    for (int b = a + 1; b < 5; ++b) {
      for (const Harm first : harms) {
        for (const Harm second : harms) {
          ReadRig rig;
          Made made = rig.make_stripe(7, 1, 0, 100, rig.random_blocks(random, 7, 5000));
          inflict(rig, made, a, first, random);
          inflict(rig, made, b, second, random);
          SCOPED_TRACE(testing::Message()
                       << a << "/" << int(first) << " " << b << "/" << int(second));
          rig.expect_exact(made, rig.read(made));
          const auto damage = rig.take_damage();
          for (const auto& [column, reason] : damage) {
            ASSERT_TRUE(column == a || column == b) << "column " << column << " is innocent";
            ASSERT_EQ(reason, reason_of(column == a ? first : second));
          }
          for (const auto& [column, harm] : {std::pair(a, first), std::pair(b, second)}) {
            const bool met = column < 3 && !reason_of(harm).empty();
            ASSERT_TRUE(!met || damage.count(column)) << "column " << column << " goes unreported";
          }
        }
      }
    }
  }
}

TEST(StripeReader, EveryBlockHasItsOwnTwoBadColumns) {
  const uint64_t seed = test_seed();
  std::mt19937_64 random(seed);
  for (int round = 0; round < 40; ++round) {
    ReadRig rig;
    const auto code = make_erasure_code(round % 2 ? "rs-3-2" : "rs-2-2").value();
    const size_t blocks = 1 + random() % 20;
    std::vector<Bytes> plain;
    for (size_t i = 0; i < blocks; ++i)
      plain.push_back(ReadRig::random_bytes(random, 1 + random() % 6000));
    Made made = rig.make_stripe(7, 1, 0, 100, plain, code->name());
    std::vector<Bytes> shards = made.shards;
    std::set<int> bad;
    // Stretches of the columns, each with two bad columns; slots may span two stretches, so the
    // second stretch keeps the pair of the first for a while.
    for (size_t at = 0; at < made.record->parity_bytes(); at += 13000) {
      const int x = static_cast<int>(random() % code->n()),
                y = static_cast<int>(random() % code->n());
      for (const int c : {x, y}) {
        for (int flips = 0; flips < 3; ++flips) {
          const size_t where = at + random() % 500;
          if (where >= shards[c].size()) continue;
          shards[c][where] ^= static_cast<uint8_t>(1 + random() % 255);
          bad.insert(c);
        }
      }
    }
    for (const int c : bad) rig.overwrite(*made.record, c, shards[c]);
    SCOPED_TRACE(testing::Message() << "seed " << seed << " round " << round);
    rig.expect_exact(made, rig.read(made));
    for (const auto& [column, reason] : rig.take_damage()) ASSERT_TRUE(bad.count(column)) << column;
  }
}

TEST(StripeReader, CodesOfSeveralPacketsAreDecodedWithSitesAway) {
  std::mt19937_64 random(test_seed());
  for (const char* profile : {"msr-5-3", "msr-8-4", "basic-4-8", "basic-8-16"}) {
    ReadRig rig;
    const Made made = rig.make_stripe(7, 1, 0, 100, rig.random_blocks(random, 30, 3000), profile);
    for (int site = 0; site < 5; ++site) {
      SCOPED_TRACE(testing::Message() << profile << " without site " << site);
      rig.controls[site].set_away(true);
      rig.expect_exact(made, rig.read(made));
      rig.controls[site].set_away(false);
      rig.sites->check_all(seconds(1));
    }
  }
}

TEST(StripeReader, ThreeSitesAwayIsUnavailableAtOnceAndNamesThem) {
  ReadRig rig;
  std::mt19937_64 random(1);
  const Made made = rig.make_stripe(7, 1, 0, 100, rig.random_blocks(random, 6, 4096));
  for (const int site : {0, 2, 4}) rig.controls[site].set_away(true);
  const auto begin = monotonic_now();
  const auto got = rig.read(made);
  EXPECT_LT(monotonic_now() - begin, seconds(1));
  for (const size_t i : {0, 5}) {
    ASSERT_FALSE(got[i]);
    EXPECT_TRUE(got[i].error().is(Errc::unavailable));
    for (const char* text : {"stripe 7", "site1", "site3", "site5"})
      EXPECT_NE(got[i].error().text().find(text), std::string::npos) << got[i].error().text();
  }
  for (const int site : {0, 2, 4}) rig.controls[site].set_away(false);
  rig.sites->check_all(seconds(1));
  rig.expect_exact(made, rig.read(made));
}

TEST(StripeReader, ThreeColumnsOfGarbageAreCorruptAndNobodyIsBlamed) {
  ReadRig rig;
  std::mt19937_64 random(test_seed());
  const Made made = rig.make_stripe(7, 1, 0, 100, rig.random_blocks(random, 3, 4096));
  for (const int c : {0, 1, 3})
    rig.overwrite(*made.record, c, ReadRig::random_bytes(random, made.shards[c].size()));
  const auto got = rig.read(made);
  ASSERT_FALSE(got[0]);
  EXPECT_TRUE(got[0].error().is(Errc::corrupt)) << got[0].error().message();
  ASSERT_TRUE(got[2]);  // its own column is good
  EXPECT_TRUE(rig.take_damage().empty());
}

TEST(StripeReader, AHungSiteCostsOneHedgeThenNothing) {
  MountConfig config;
  config.hedge_after_ms = 100;
  config.read_deadline_ms = 1500;
  ReadRig rig(config);
  std::mt19937_64 random(2);
  const Made made = rig.make_stripe(7, 1, 0, 100, rig.random_blocks(random, 9, 4096));
  rig.set_reading(1, {Fault::Kind::hang});
  auto begin = monotonic_now();
  rig.expect_exact(made, rig.read(made));
  EXPECT_GE(monotonic_now() - begin, milliseconds(100));
  EXPECT_LT(monotonic_now() - begin, milliseconds(900));
  begin = monotonic_now();
  rig.expect_exact(made, rig.read(made));  // the site is known to be slow
  EXPECT_LT(monotonic_now() - begin, milliseconds(90));
  EXPECT_TRUE(rig.take_damage().empty());
}

TEST(StripeReader, ASiteThatIsUsuallyLateIsLeftAlone) {
  ReadRig rig;
  std::mt19937_64 random(2);
  const Made made = rig.make_stripe(7, 1, 0, 100, rig.random_blocks(random, 9, 4096));
  rig.set_reading(1, {Fault::Kind::delay, {}, milliseconds(80)});
  for (const bool away : {true, false}) {  // every site has answered, parity too
    for (const int site : {0, 2}) rig.controls[site].set_away(away);
    rig.sites->check_all(seconds(1));
    for (size_t i = 0; i < ReadTimes::kAnswersMin; ++i) rig.expect_exact(made, rig.read(made));
  }
  const auto begin = monotonic_now();
  const uint64_t asked = rig.reads(1);
  for (int i = 0; i < 10; ++i) rig.expect_exact(made, rig.read(made));
  EXPECT_LT(monotonic_now() - begin, milliseconds(400));  // 800 if each waited for it
  EXPECT_LE(rig.reads(1), asked + 2);
  // It is asked now and then, and used again once it is as quick as the others.
  rig.set_reading(1, {});
  bool used = false;
  for (int i = 0; i < 400 && !used; ++i) {
    std::this_thread::sleep_for(milliseconds(10));
    const uint64_t before = rig.reads(1);
    for (int j = 0; j < 10; ++j) rig.expect_exact(made, rig.read(made));
    used = rig.reads(1) >= before + 10;
  }
  EXPECT_TRUE(used);
}

TEST(StripeReader, AHungHelperIsReplaced) {
  MountConfig config;
  config.hedge_after_ms = 100;
  config.read_deadline_ms = 3000;
  ReadRig rig(config);
  std::mt19937_64 random(2);
  const Made made = rig.make_stripe(7, 1, 0, 100, rig.random_blocks(random, 9, 4096));
  rig.remove(*made.record, 0);
  rig.set_reading(1, {Fault::Kind::hang});
  const auto begin = monotonic_now();
  rig.expect_exact(made, rig.read(made));
  EXPECT_LT(monotonic_now() - begin, milliseconds(1000));
}

TEST(StripeReader, ThreeHungSitesEndWithTheDeadline) {
  MountConfig config;
  config.hedge_after_ms = 50;
  config.read_deadline_ms = 400;
  ReadRig rig(config);
  std::mt19937_64 random(3);
  const Made made = rig.make_stripe(7, 1, 0, 100, rig.random_blocks(random, 3, 4096));
  for (const int site : {0, 1, 4}) rig.set_reading(site, {Fault::Kind::hang});
  const auto begin = monotonic_now();
  const auto got = rig.read(made);
  EXPECT_LT(monotonic_now() - begin, milliseconds(1500));
  ASSERT_FALSE(got[0]);
  EXPECT_TRUE(got[0].error().is(Errc::unavailable)) << got[0].error().message();
  ASSERT_TRUE(got[2]);
}

TEST(StripeReader, ALateAnswerStillCountsWhenNothingElseCan) {
  MountConfig config;
  config.hedge_after_ms = 50;
  config.read_deadline_ms = 3000;
  ReadRig rig(config);
  std::mt19937_64 random(3);
  const Made made = rig.make_stripe(7, 1, 0, 100, rig.random_blocks(random, 3, 4096));
  for (const int site : {3, 4}) rig.controls[site].set_away(true);
  rig.set_reading(0, {Fault::Kind::delay, {}, milliseconds(300)});
  rig.expect_exact(made, rig.read(made));
}

TEST(StripeReader, NotFoundIsStaleUntilTheMapIsConfirmed) {
  ReadRig rig;
  std::mt19937_64 random(4);
  const Made made = rig.make_stripe(7, 1, 0, 100, rig.random_blocks(random, 3, 4096));
  rig.remove(*made.record, 1);
  const auto got = rig.read(made, StripeReader::NotFound::refetch);
  EXPECT_TRUE(got[0]);
  ASSERT_FALSE(got[1]);
  EXPECT_TRUE(got[1].error().is(Errc::stale));
  EXPECT_TRUE(rig.take_damage().empty());
  rig.expect_exact(made, rig.read(made, StripeReader::NotFound::erasure));
  const std::map<int, std::string> lost{{1, "missing"}};
  EXPECT_EQ(rig.take_damage(), lost);
}

TEST(StripeReader, HostileRecordsGiveErrors) {
  ReadRig rig;
  std::mt19937_64 random(5);
  const Made good = rig.make_stripe(7, 1, 0, 100, rig.random_blocks(random, 3, 4096));
  const auto spoiled = [&](const std::function<void(Made&)>& spoil) {
    Made bad = good;
    bad.record = std::make_shared<pb::Stripe>(*good.record);
    spoil(bad);
    return rig.read(bad);
  };
  EXPECT_FALSE(spoiled([](Made& m) { m.record->set_code("rs-9-9-9"); })[0]);
  EXPECT_FALSE(spoiled([](Made& m) { m.record->mutable_shards()->RemoveLast(); })[0]);
  EXPECT_FALSE(spoiled([](Made& m) { m.record->mutable_slot_length()->RemoveLast(); })[0]);
  EXPECT_FALSE(spoiled([](Made& m) { m.record->set_slot_column(0, 3); })[0]);
  EXPECT_FALSE(spoiled([](Made& m) { m.record->set_slot_offset(0, UINT32_MAX); })[0]);
  EXPECT_FALSE(spoiled([](Made& m) { m.record->set_slot_length(0, UINT32_MAX); })[0]);
  EXPECT_FALSE(spoiled([](Made& m) { m.wants[0].slot = 77; })[0]);
  EXPECT_FALSE(spoiled([](Made& m) { m.record->mutable_shards(0)->set_bytes(UINT32_MAX); })[0]);
  // An unknown site is an erasure like any other.
  EXPECT_TRUE(spoiled([](Made& m) { m.record->mutable_shards(0)->set_site(99); })[0]);
}

TEST(StripeReader, ManyReadersAtOnceWithFaults) {
  MountConfig config;
  config.hedge_after_ms = 30;
  config.read_deadline_ms = 2000;
  ReadRig rig(config);
  std::mt19937_64 random(test_seed());
  Made made = rig.make_stripe(7, 1, 0, 100, rig.random_blocks(random, 30, 3000));
  rig.overwrite(*made.record, 1, ReadRig::random_bytes(random, made.shards[1].size()));
  rig.set_reading(2, {Fault::Kind::delay, {}, milliseconds(40)});
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&] {
      for (int i = 0; i < 10; ++i) rig.expect_exact(made, rig.read(made));
    });
  for (auto& t : threads) t.join();
  const std::map<int, std::string> lying{{1, "corrupt"}};
  EXPECT_EQ(rig.take_damage(), lying);
}

}  // namespace
}  // namespace datacloud
