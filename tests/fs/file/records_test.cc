// Little data of an fsync in the daemon's records: which fsyncs go there, what they leave, and that
// everything that can happen to a file afterwards finds its bytes.
#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "tests/fs/file/records_rig.h"
#include "tests/support/seeded.h"

namespace datacloud {
namespace {

TEST_F(RecordsTest, ASmallNewFileNeedsNoStripe) {
  write_synced(0, "hello");
  EXPECT_EQ(inline_blocks(), 1u);
  EXPECT_EQ(puts_seen_, 0);
  EXPECT_EQ(pipeline_->stats().record_blocks, 1u);
  EXPECT_EQ(io_->blocks_used(file_).blocks, 1u);
  expect_stored();
}

TEST_F(RecordsTest, SmallChangesOfAStripesBlockAreItsPatches) {
  in_stripe(4);
  const int puts = puts_seen_;
  write_synced(kBlock + 10, "patched");
  write_synced(kBlock + 12, "again");
  write_synced(3 * kBlock, "another block");
  EXPECT_EQ(puts_seen_, puts);
  EXPECT_EQ(patches(), 3u);
  EXPECT_EQ(io_->blocks_used(file_).blocks, 4u);
  expect_stored();
}

TEST_F(RecordsTest, AppendsArePatchesToo) {
  std::string line = "a line of a log\n";
  for (int i = 0; i < 5; ++i) write_synced(model_.size(), line);
  EXPECT_EQ(puts_seen_, 0);
  EXPECT_EQ(inline_blocks(), 1u);
  expect_stored();
  cut(20);
  fsync();
  expect_stored();
  write_synced(3 * kBlock + 5, "behind holes");
  EXPECT_EQ(io_->seek(file_, kBlock, true).value(), 3u * kBlock) << "the next data";
  EXPECT_EQ(io_->seek(file_, 0, false).value(), uint64_t{kBlock}) << "the first hole";
  EXPECT_EQ(inline_blocks(), 2u);
  expect_stored();
}

TEST_F(RecordsTest, MoreThanFitsGoesIntoAStripe) {
  write_synced(0, std::string(config_.inline_flush_bytes_max + kBlock, 'x'));
  EXPECT_GT(puts_seen_, 0);
  expect_in_stripes();
  expect_stored();
}

TEST_F(RecordsTest, WithoutTheFeatureOrWithTheOptionOffNothingDoes) {
  records_ = false;
  write_synced(0, "hello");
  EXPECT_GT(puts_seen_, 0);
  expect_in_stripes();
}

TEST_F(RecordsTest, OnlySyncsGoThere) {
  write(0, "hello");
  ASSERT_TRUE(io_->flush(file_, false));
  expect_in_stripes();
  EXPECT_GT(puts_seen_, 0);
}

TEST_F(RecordsTest, ABlockWithAsManyPatchesAsItMayHaveIsSentWhole) {
  in_stripe(1);
  for (uint32_t i = 0; i < kBlockPatchesDefault; ++i) write_synced(i * 100, "patch");
  EXPECT_EQ(patches(), kBlockPatchesDefault);
  write_synced(7, "one more");
  EXPECT_EQ(patches(), 0u);
  EXPECT_EQ(inline_blocks(), 1u) << "small enough to be there as a whole";
  expect_stored();
}

TEST_F(RecordsTest, WhatTheDaemonDoesNotTakeGoesIntoAStripeWithoutAnError) {
  daemon_->refuse_pieces = true;
  write_synced(0, "hello");
  expect_in_stripes();
  EXPECT_GT(puts_seen_, 0);
  EXPECT_EQ(io_->failures(), 0u);
  const uint32_t asked = daemon_->commits_with_pieces;
  write_synced(0, "Hello");
  EXPECT_EQ(daemon_->commits_with_pieces, asked) << "not asked again at once";
  expect_stored();
}

TEST_F(RecordsTest, ADaemonThatTakesFewerPatchesIsBelieved) {
  daemon_->patches_max = 1;
  in_stripe(1);
  write_synced(10, "one");
  write_synced(20, "two");
  EXPECT_EQ(patches(), 0u);
  expect_stored();
}

TEST_F(RecordsTest, QuietFilesGoIntoStripesUnasked) {
  write_synced(0, "hello");
  write_synced(5 * kBlock, std::string(200, 'y'));
  const auto mtime = mtime_of(file_->attr);
  const uint64_t bytes = io_->record_bytes();
  EXPECT_GT(bytes, 205u);
  io_->store_due_records();
  io_->wait_shared();
  EXPECT_EQ(io_->record_bytes(), bytes) << "not quiet for long enough";
  file_->records_at -= milliseconds(config_.inline_quiet_ms);
  store_due();
  EXPECT_EQ(io_->record_bytes(), 0u);
  expect_in_stripes();
  EXPECT_EQ(mtime_of(file_->attr), mtime) << "nothing was written";
  expect_stored();
}

TEST_F(RecordsTest, ManyPatchesOfABlockAreDueAtOnce) {
  in_stripe(1);
  for (uint32_t i = 0; i < kBlockPatchesDefault - 1; ++i) write_synced(i * 100, "patch");
  store_due();
  expect_in_stripes();
  expect_stored();
}

TEST_F(RecordsTest, OthersGetStripes) {
  write_synced(0, "hello");
  io_->store_records_for_others(file_);
  expect_in_stripes();
  write_synced(0, "J");
  io_->store_all_records();
  expect_in_stripes();
  expect_stored();
}

TEST_F(RecordsTest, WithSitesAwaySyncsWorkAndTheBytesStay) {
  write_synced(0, "hello");
  for (auto& control : controls_) control.set_away(true);
  std::this_thread::sleep_for(milliseconds(600));  // older checks of the sites do not count
  write_synced(5, " world");
  io_->store_records_for_others(file_);
  EXPECT_EQ(inline_blocks(), 1u);
  EXPECT_TRUE(file_->clean());
  EXPECT_EQ(io_->data_losses(), 0u);
  expect_stored();
  for (auto& control : controls_) control.set_away(false);
  std::this_thread::sleep_for(milliseconds(600));
  io_->store_records_for_others(file_);
  expect_in_stripes();
  expect_stored();
}

TEST_F(RecordsTest, WhatCannotBeMovedIsNoLoss) {
  write_synced(0, "hello");
  for (uint32_t site = 1; site <= 5; ++site)
    set_put_fault(site, Fault{Fault::Kind::fail_before, Error(Errc::io, "the test refuses")});
  file_->records_at -= milliseconds(config_.inline_quiet_ms);
  io_->store_due_records();
  io_->wait_shared();
  {
    std::unique_lock lock(file_->mutex);
    file_->changed.wait(lock, [&] { return file_->units.empty(); });
  }
  EXPECT_TRUE(file_->clean()) << "there is nothing to be written again";
  EXPECT_EQ(inline_blocks(), 1u);
  fsync();
  EXPECT_EQ(io_->data_losses(), 0u);
  for (uint32_t site = 1; site <= 5; ++site) set_put_fault(site, {});
  expect_stored();
}

// After a commit of unknown outcome a patch could be for another state than the stored one.
TEST_F(RecordsTest, ACommitOfUnknownOutcomeIsFollowedByWholeBlocks) {
  in_stripe(2);
  for (int round = 0; round < 6; ++round) {
    write(round * 50, "lost answer");
    daemon_->lose_session_every_commit = 2;  // every other one of these is executed before
    fsync();
    daemon_->lose_session_every_commit = 0;
    write_synced(kBlock + round * 50, "after it");
    expect_stored();
  }
  EXPECT_EQ(io_->data_losses(), 0u);
}

TEST_F(RecordsTest, RevokedIdsAreReplaced) {
  in_stripe(1);
  daemon_->revoke_commits = 3;
  write_synced(5, "patch");
  EXPECT_EQ(patches(), 1u);
  daemon_->revoke_commits = 1;
  write_synced(9 * kBlock, "block");
  EXPECT_EQ(inline_blocks(), 1u);
  expect_stored();
}

TEST_F(RecordsTest, ManyThreadsSyncOneFile) {
  in_stripe(2);
  constexpr int kThreads = 4, kRounds = 30;
  std::vector<std::thread> threads;
  std::atomic<int> failures{0};
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([this, t, &failures] {
      FileHandle handle;
      handle.inode = file_;
      for (int i = 0; i < kRounds; ++i) {
        const std::string text(100, static_cast<char>('a' + (t * kRounds + i) % 26));
        const uint64_t at = static_cast<uint64_t>(t * kRounds + i) * 60;
        if (!io_->write(file_, at, as_bytes(text).first(60), false) || !io_->fsync(handle))
          ++failures;
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(failures, 0);
  for (int i = 0; i < kThreads * kRounds; ++i)
    model_.replace(static_cast<size_t>(i) * 60, 60,
                   std::string(60, static_cast<char>('a' + i % 26)));
  expect_stored();
}

// Nothing but its commit is sent, and nothing to a site.
TEST_F(RecordsTest, AnFsyncOfLittleIsOneRequest) {
  in_stripe(1);
  write_synced(3 * kBlock, "ids for both kinds are there");
  const int puts = puts_seen_;
  for (int i = 1; i <= 4; ++i) {
    write(static_cast<uint64_t>(i) * 200, "a patch");
    write(3 * kBlock + static_cast<uint64_t>(i), "a block");
    const uint32_t before = daemon_->requests;
    fsync();
    EXPECT_EQ(daemon_->requests - before, 1u);
  }
  EXPECT_EQ(puts_seen_, puts);
  expect_stored();
}

TEST_F(RecordsTest, CutsAndHolesOfInlineBlocks) {
  for (uint64_t block : {0, 1, 3}) write_synced(block * kBlock, std::string(kBlock, 'i'));
  EXPECT_EQ(inline_blocks(), 3u);
  EXPECT_EQ(io_->blocks_used(file_).blocks, 3u);
  cut(kBlock + 100);
  fsync();
  EXPECT_EQ(io_->blocks_used(file_).blocks, 2u);
  expect_stored();
  cut(2 * kBlock);  // grows again: zeros, not what was there
  fsync();
  expect_stored();
  cut(0);
  fsync();
  EXPECT_EQ(inline_blocks(), 0u);
  EXPECT_EQ(patches(), 0u);
  write_synced(10, "after all");
  expect_stored();
}

TEST_F(RecordsTest, ClonesAreOfStripes) {
  write_synced(0, std::string(2 * kBlock, 'c'));
  EXPECT_EQ(inline_blocks(), 2u);
  FileHandle copy;
  copy.inode = open_new("copy");
  const auto copied =
      io_->copy_range(handle_, 0, copy, 0, 2 * kBlock, FileIo::Copying::share_or_copy);
  ASSERT_TRUE(copied) << copied.error().message();
  EXPECT_EQ(copied.value().bytes, 2u * kBlock);
  EXPECT_EQ(read_all(copy.inode, 0, 2 * kBlock), model_);
  expect_stored();
}

TEST_F(RecordsTest, AnotherMountsChangeDropsWhatWasHere) {
  write_synced(0, "hello");
  write(0, "J");
  daemon_->end_session();
  daemon_->cut_elsewhere(file_->ino, 2);
  EXPECT_FALSE(io_->fsync(handle_)) << "told";
  EXPECT_TRUE(io_->fsync(handle_)) << "once";
  model_ = "he";
  expect_stored();
}

// Everything together, against a model: syncs of little and of much, cuts, holes, lost answers,
// refusals, and the way into stripes.
TEST_F(RecordsTest, RandomChangesAreNeverLostNorMixed) {
  Seeded random;
  for (int step = 0; step < 300; ++step) {
    SCOPED_TRACE("step " + std::to_string(step));
    const uint64_t at = random.number(0, 12 * kBlock);
    switch (random.number(0, 11)) {
      case 0: {
        const Bytes data = random.bytes(random.number(1, 8 * kBlock));
        write(at, std::string(as_text(data)));
        break;
      }
      case 1:
        cut(at);
        break;
      case 2:
        ASSERT_TRUE(io_->flush(file_, false));
        break;
      case 3:
        io_->store_records_for_others(file_);
        break;
      case 4:
        file_->records_at -= milliseconds(config_.inline_quiet_ms);
        io_->store_due_records();
        break;
      case 5:
        daemon_->refuse_pieces = random.number(0, 3) == 0;
        daemon_->patches_max = static_cast<uint32_t>(random.number(1, kBlockPatchesDefault));
        break;
      case 6:
        daemon_->lose_session_every_commit = static_cast<uint32_t>(random.number(0, 1) * 3);
        break;
      default:
        write(at, std::string(as_text(random.bytes(random.number(1, 700)))));
    }
    if (random.number(0, 2) > 0) fsync();
    if (random.number(0, 9) == 0) {
      EXPECT_EQ(read_in_time(file_, 0, model_.size() + 1), model_);
    }
    if (random.number(0, 29) == 0) {
      fsync();
      expect_stored();
    }
    if (testing::Test::HasFailure()) break;
  }
  daemon_->lose_session_every_commit = 0;
  fsync();
  expect_stored();
  EXPECT_EQ(io_->data_losses(), 0u);
}

}  // namespace
}  // namespace datacloud
