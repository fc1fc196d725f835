// Checkpoints at memory sites: what is written is read again, whatever columns are lost, damaged or
// lied about as long as enough are left, and never anything else.
#include "daemon/checkpoint/checkpoint.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <numeric>

#include "daemon/checkpoint/checkpoint_piece.h"
#include "daemon/journal/quorum_rules.h"
#include "tests/daemon/checkpoint/checkpoint_rig.h"

namespace datacloud {
namespace {

pb::CheckpointRecord record_of(const WrittenCheckpoint& written, const CheckpointWrite& how) {
  pb::CheckpointRecord record;
  record.set_number(how.number);
  record.set_columns(static_cast<uint32_t>(how.code->n()));
  record.set_pieces(static_cast<uint32_t>(written.root.pieces_size()));
  record.set_scattered(written.scattered);
  for (const SiteId site : how.over) record.add_sites(site);
  return record;
}

TEST_F(CheckpointTest, ReadsWhatWasWrittenForEveryCodeAndNumberOfSites) {
  add_records(200, 300, 5);
  auto txn = store_->begin();
  txn.put(std::string("u12345678"), std::string("what undoes"));
  ASSERT_TRUE(store_->commit(std::move(txn)));
  for (const std::string code : {"rs-2-1", "rs-3-2", "rs-6-3", "basic-4-8", "msr-5-3", "msr-8-4"}) {
    for (int sites = 1; sites <= 6; ++sites) {
      make_sites(sites);
      const auto write_how = how(code, 0);
      auto written = write(write_how);
      ASSERT_TRUE(written) << code << ": " << written.error().message();
      EXPECT_EQ(
          written.value().losses_survived,
          journal::site_losses(sites, write_how.code->n(), write_how.code->guaranteed_tolerance()))
          << code << " over " << sites;
      EXPECT_FALSE(written.value().scattered);
      EXPECT_EQ(written.value().root.position(), position_text(test_position(5)));
      EXPECT_EQ(written.value().root.sequence(), store_->sequence());
      const auto records = read(written.value().root);
      ASSERT_TRUE(records) << records.error().message();
      EXPECT_TRUE(records.value() == stored()) << code << " over " << sites;
    }
  }
}

TEST_F(CheckpointTest, SurvivesTheLossOfAsManySitesAsItSays) {
  add_records(50, 400'000, 5);  // of noise: several pieces
  make_sites(5);
  auto written = write(how("rs-3-2", 2));
  ASSERT_TRUE(written) << written.error().message();
  const auto& root = written.value().root;
  EXPECT_GE(root.pieces_size(), 3);
  EXPECT_EQ(written.value().losses_survived, 2);
  std::vector<size_t> order(5);
  std::iota(order.begin(), order.end(), 0);
  std::shuffle(order.begin(), order.end(), seeded_.engine());
  set_away(order[0], true);
  set_away(order[1], true);
  const auto records = read(root);
  ASSERT_TRUE(records) << records.error().message();
  EXPECT_TRUE(records.value() == stored());
  const auto health = verify_checkpoint(root, place()).value();
  EXPECT_EQ(health.losses_survived, 0);
  EXPECT_EQ(health.missing, 2u * static_cast<uint64_t>(root.pieces_size()));
  set_away(order[2], true);
  const auto lost = read(root);
  ASSERT_FALSE(lost);
  EXPECT_TRUE(lost.error().is(Errc::unavailable));
  EXPECT_NE(lost.error().text().find(sites_->at(order[2]).name()), std::string::npos)
      << lost.error().text();
  EXPECT_EQ(verify_checkpoint(root, place()).value().losses_survived, -1);
}

TEST_F(CheckpointTest, DamagedColumnsAreFoundByTheirHash) {
  add_records(30, 400'000, 5);
  make_sites(5);
  const auto write_how = how("rs-3-2", 2);
  const auto written = write(write_how).value();
  const auto& root = written.root;
  const auto column = [&](int piece, int c) {
    return std::pair(static_cast<size_t>(root.pieces(piece).sites(c) - 1),
                     column_name(root.number(), static_cast<size_t>(piece), c));
  };
  // A flipped byte, one byte too many, and a column of the other piece: in one piece two at a time.
  const auto [site0, name0] = column(0, 0);
  Bytes bytes = wait_for<ReadReply>([&, s = site0, n = name0](auto done) {
                  sites_->at(s).store().read(n, {{0, UINT64_MAX}}, false, {}, done);
                })
                    .value()
                    .ranges[0];
  Bytes flipped = bytes;
  flipped[seeded_.number(0, flipped.size() - 1)] ^= 1;
  ASSERT_TRUE(controls_[site0].overwrite(name0, flipped));
  const auto [site1, name1] = column(1, 1);
  ASSERT_TRUE(controls_[site1].overwrite(name1, bytes));
  const auto [site2, name2] = column(1, 2);
  ASSERT_TRUE(controls_[site2].overwrite(name2, Bytes(root.pieces(1).column_bytes() + 1)));
  CheckpointReading told;
  const auto records = read(root, &told);
  ASSERT_TRUE(records) << records.error().message();
  EXPECT_TRUE(records.value() == stored());
  EXPECT_EQ(told.problems.size(), 3u);
  EXPECT_EQ(told.records, root.records());
  const auto health = verify_checkpoint(root, place()).value();
  EXPECT_EQ(health.damaged, 3u);
  EXPECT_EQ(health.missing, 0u);
  EXPECT_EQ(health.losses_survived, 0);
  // One more in the second piece is too many.
  const auto [site3, name3] = column(1, 4);
  ASSERT_TRUE(controls_[site3].overwrite(name3, Bytes()));
  const auto lost = read(root);
  ASSERT_FALSE(lost);
  EXPECT_TRUE(lost.error().is(Errc::unavailable));
}

TEST_F(CheckpointTest, NothingIsReadUnderAnotherKeyOrFromAnotherRoot) {
  add_records(30, 100, 5);
  make_sites(3);
  const auto written = write(how("rs-2-1", 1)).value();
  CheckpointPlace other = place();
  other.metadata_key = SecretKey::random();
  const auto nothing = [](auto, auto) -> result<void> { return success(); };
  auto outcome = read_checkpoint(written.root, other, nothing);
  ASSERT_FALSE(outcome);
  EXPECT_TRUE(outcome.error().is(Errc::corrupt));
  CheckpointPlace elsewhere = place();
  elsewhere.journal[0] ^= 1;
  EXPECT_FALSE(read_checkpoint(written.root, elsewhere, nothing));
  // Roots that cannot be: refused, and no more.
  const std::vector<std::function<void(pb::CheckpointRoot&)>> changes{
      [](auto& r) { r.set_code("rs-0-9"); },
      [](auto& r) { r.set_position("short"); },
      [](auto& r) { r.clear_pieces(); },
      [](auto& r) { r.mutable_pieces(0)->set_bytes(UINT64_MAX); },
      [](auto& r) { r.mutable_pieces(0)->set_column_bytes(0); },
      [](auto& r) { r.mutable_pieces(0)->clear_sites(); },
      [](auto& r) { r.mutable_pieces(0)->add_column_hashes("x"); },
      [](auto& r) { r.mutable_pieces(0)->mutable_hash()->at(0) ^= 1; },
      [](auto& r) { r.set_records(r.records() + 1); }};
  for (const auto& change : changes) {
    pb::CheckpointRoot root = written.root;
    change(root);
    outcome = read_checkpoint(root, place(), nothing);
    ASSERT_FALSE(outcome);
    EXPECT_TRUE(outcome.error().is(Errc::corrupt)) << outcome.error().message();
  }
}

TEST_F(CheckpointTest, WithoutAPositionThereIsNone) {
  make_sites(3);
  const auto refused = write(how("rs-2-1", 1));
  ASSERT_FALSE(refused);
  EXPECT_TRUE(refused.error().is(Errc::corrupt));
  EXPECT_EQ(objects(), 0u);
}

TEST_F(CheckpointTest, ColumnsOfSitesThatAreAwayGoToOthers) {
  add_records(30, 400'000, 5);
  make_sites(5);
  set_away(2, true);
  const auto write_how = how("rs-3-2", 2);
  const auto written = write(write_how).value();
  EXPECT_EQ(written.losses_survived, 1);
  EXPECT_TRUE(written.scattered);
  ASSERT_EQ(written.problems.size(), 1u);
  EXPECT_NE(written.problems[0].find("site s3"), std::string::npos) << written.problems[0];
  EXPECT_TRUE(read(written.root).value() == stored());
  set_away(2, false);
  ASSERT_TRUE(remove_checkpoint(record_of(written, write_how), place()));
  EXPECT_EQ(objects(), 0u);
}

TEST_F(CheckpointTest, ASiteThatFailsOnceIsDoneWithout) {
  add_records(50, 400'000, 5);
  std::atomic<int> puts{0};
  // From some put on one column fails, always.
  const int from = static_cast<int>(seeded_.number(1, 10));
  make_sites(5, [&](StoreOp op, const std::string& name) -> Fault {
    if (op != StoreOp::put || ++puts < from || !name.ends_with("-1")) return {};
    return {.kind = Fault::Kind::fail_before, .error = Error(Errc::no_space, "full")};
  });
  const auto write_how = how("rs-3-2", 2);
  const auto written = write(write_how);
  // Wherever column 1 is tried it fails: five sites fail one after the other, or it is left out.
  if (written) {
    EXPECT_TRUE(written.value().scattered);
    EXPECT_TRUE(read(written.value().root).value() == stored());
    ASSERT_TRUE(remove_checkpoint(record_of(written.value(), write_how), place()));
  } else {
    EXPECT_TRUE(written.error().is(Errc::unavailable)) << written.error().message();
    pb::CheckpointRecord record = record_of({}, write_how);
    record.set_scattered(true);
    ASSERT_TRUE(remove_checkpoint(record, place()));
  }
  EXPECT_EQ(objects(), 0u);
}

TEST_F(CheckpointTest, OneSiteThatRefusesEverything) {
  add_records(50, 400'000, 5);
  make_sites(5);
  controls_[1].set_full(true);
  const auto write_how = how("rs-3-2", 2);
  const auto written = write(write_how);
  ASSERT_TRUE(written) << written.error().message();
  EXPECT_EQ(written.value().losses_survived, 1);
  ASSERT_EQ(written.value().problems.size(), 1u);
  for (const auto& piece : written.value().root.pieces()) {
    for (const auto site : piece.sites()) EXPECT_NE(site, 2u);
  }
  EXPECT_TRUE(read(written.value().root).value() == stored());
}

TEST_F(CheckpointTest, TooFewSitesAreNoCheckpoint) {
  add_records(10, 100, 5);
  make_sites(3);
  for (size_t i = 0; i < 3; ++i) set_away(i, true);
  const auto written = write(how("rs-2-1", 1));
  ASSERT_FALSE(written);
  EXPECT_TRUE(written.error().is(Errc::unavailable));
  EXPECT_NE(written.error().text().find("s3"), std::string::npos) << written.error().text();
}

TEST_F(CheckpointTest, WhatWasCutOffAnywhereIsRemoved) {
  add_records(60, 400'000, 5);
  for (const int sites : {1, 3, 7}) {
    // Sites stop taking objects after some; which ones is up to the threads.
    std::atomic<int> puts{0};
    const int last = static_cast<int>(seeded_.number(0, 20));
    make_sites(sites, [&](StoreOp op, const std::string&) -> Fault {
      if (op != StoreOp::put || ++puts <= last) return {};
      return {.kind = Fault::Kind::fail_before, .error = Error(Errc::io, "gone")};
    });
    const auto write_how = how("rs-2-1", 1);
    const auto written = write(write_how);
    pb::CheckpointRecord record = record_of({}, write_how);
    const bool whole = written.has_value();
    if (sites > 1) {
      // One of the sites is away at first: the others' objects go, its own at the second attempt.
      const size_t away = seeded_.number(0, static_cast<uint64_t>(sites) - 1);
      set_away(away, true);
      const auto removed = remove_checkpoint(record, place());
      ASSERT_FALSE(removed);
      EXPECT_TRUE(removed.error().is(Errc::away)) << removed.error().message();
      set_away(away, false);
    }
    const auto removed = remove_checkpoint(record, place());
    ASSERT_TRUE(removed) << removed.error().message();
    EXPECT_EQ(objects(), 0u) << sites << " sites, " << last << " puts, whole: " << whole;
    ASSERT_TRUE(remove_checkpoint(record, place()));
  }
}

TEST_F(CheckpointTest, ARemovalThatWasCutOffGoesOn) {
  add_records(60, 400'000, 5);
  std::atomic<int> left{1 << 20};
  make_sites(3, [&](StoreOp op, const std::string&) -> Fault {
    if (op != StoreOp::remove || --left >= 0) return {};
    return {.kind = Fault::Kind::fail_before, .error = Error(Errc::io, "gone")};
  });
  const auto write_how = how("rs-2-1", 1);
  const auto written = write(write_how).value();
  pb::CheckpointRecord record = record_of(written, write_how);
  if (seeded_.number(0, 1) == 0) record.set_pieces(0);  // as if nobody knew how many
  left = static_cast<int>(seeded_.number(0, objects() - 1));
  EXPECT_FALSE(remove_checkpoint(record, place()));
  EXPECT_GT(objects(), 0u);
  left = 1 << 20;
  ASSERT_TRUE(remove_checkpoint(record, place()));
  EXPECT_EQ(objects(), 0u);
}

TEST_F(CheckpointTest, GivesUpWhenTold) {
  add_records(60, 400'000, 5);
  make_sites(3);
  auto where = place();
  std::atomic<int> asked{0};
  where.stop = [&] { return ++asked > 2; };
  auto write_how = how("rs-2-1", 1);
  write_how.bytes_per_second = 1;  // it would take months
  const auto snapshot = store_->snapshot();
  const auto written = write_checkpoint(*snapshot, where, write_how);
  ASSERT_FALSE(written);
  EXPECT_TRUE(written.error().is(Errc::unavailable));
}

TEST_F(CheckpointTest, NoListingShowsItsObjects) {
  add_records(10, 100, 5);
  make_sites(3);
  ASSERT_TRUE(write(how("rs-2-1", 1)));
  EXPECT_EQ(objects(), 3u);
  for (Site* site : sites_->all()) {
    const auto listed =
        wait_for<ListReply>([&](auto done) { site->store().list("", 10, {}, done); }).value();
    EXPECT_TRUE(listed.names.empty());
    EXPECT_TRUE(listed.next.empty());
  }
}

TEST(SurvivedLosses, AreThoseOfTheWorstSites) {
  Seeded seeded;
  for (int round = 0; round < 1000; ++round) {
    std::vector<int> sites(seeded.number(1, 8));
    int columns = 0;
    for (int& site : sites) columns += site = static_cast<int>(seeded.number(0, 4));
    const int tolerance = static_cast<int>(seeded.number(0, 12)) - 2;
    // The most sites any choice of which may be lost, by trying all choices.
    int survived = 0;
    for (int f = 1; f <= static_cast<int>(sites.size()); ++f) {
      bool all = true;
      for (uint32_t lost = 0; lost < (1u << sites.size()); ++lost) {
        if (std::popcount(lost) != f) continue;
        int gone = 0;
        for (size_t i = 0; i < sites.size(); ++i) gone += (lost >> i & 1) != 0 ? sites[i] : 0;
        all = all && gone <= tolerance;
      }
      if (!all) break;
      survived = f;
    }
    EXPECT_EQ(survived_losses(sites, tolerance), survived) << columns << ", " << tolerance;
  }
}

TEST(CheckpointPiece, OpensOnlyAsWhatItIs) {
  Seeded seeded;
  const SecretKey key = SecretKey::random();
  const journal::JournalId journal{9};
  PieceSealer sealer(key, journal, 77);
  const Bytes plain = seeded.bytes(1000);
  const Bytes sealed = sealer.seal(3, plain).value();
  EXPECT_TRUE(sealer.open(3, sealed).value() == plain);
  EXPECT_FALSE(sealer.open(4, sealed));
  EXPECT_FALSE(PieceSealer(key, journal, 78).open(3, sealed));
  for (int round = 0; round < 200; ++round) {
    Bytes changed = sealed;
    if (round % 2 == 0) {
      changed[seeded.number(0, changed.size() - 1)] ^= static_cast<uint8_t>(seeded.number(1, 255));
    } else {
      changed.resize(seeded.number(0, changed.size() - 1));
    }
    const auto opened = sealer.open(3, changed);
    ASSERT_FALSE(opened);
    EXPECT_TRUE(opened.error().is(Errc::corrupt));
  }
}

TEST(CheckpointPiece, RecordsEndWhereTheyEnd) {
  Seeded seeded;
  Bytes piece;
  std::vector<std::pair<std::string, std::string>> records{{"", ""}, {"a", ""}, {"bc", "def"}};
  std::vector<size_t> ends{0};
  for (const auto& [key, value] : records) {
    append_record(piece, key, value);
    ends.push_back(piece.size());
  }
  for (size_t size = 0; size <= piece.size(); ++size) {
    std::vector<std::pair<std::string, std::string>> seen;
    const auto visited = visit_records(ByteView(piece).first(size), [&](auto k, auto v) {
      seen.emplace_back(k, v);
      return result<void>(success());
    });
    const bool whole = std::find(ends.begin(), ends.end(), size) != ends.end();
    EXPECT_EQ(visited.has_value(), whole) << size;
    EXPECT_TRUE(std::equal(seen.begin(), seen.end(), records.begin()));
  }
  EXPECT_TRUE(fits_into_piece({}, "", std::string(kPiecePlainBytesMax - 8, 'x')));
  EXPECT_FALSE(fits_into_piece({}, "", std::string(kPiecePlainBytesMax - 7, 'x')));
}

}  // namespace
}  // namespace datacloud
