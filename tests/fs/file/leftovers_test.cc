// What a mount has left in the records that has died, or lost its session: the first that sees it
// writes it into stripes.
#include <string>
#include <thread>

#include "tests/fs/file/records_rig.h"

namespace datacloud {
namespace {

class LeftoversTest : public RecordsTest {
 protected:
  LeftoversTest() : RecordsTest(100) {}
  // As another mount that knows nothing of the file yet.
  void become_another() {
    daemon_->end_session();
    {
      std::lock_guard lock(file_->mutex);
      file_->lease = pb::LEASE_NONE;
    }
    io_->store_due_records();  // finds that the lease is gone
    file_->records_at -= milliseconds(config_.inline_quiet_ms);
    for (int i = 0; i < 400 && io_->record_bytes() > 0; ++i) {
      io_->store_due_records();
      io_->wait_shared();
      std::this_thread::sleep_for(milliseconds(5));
    }
    EXPECT_EQ(io_->record_bytes(), 0u);
    reader_->invalidate(file_->ino);
  }
  // Until nothing of the file is in the records.
  void wait_adopted() {
    const auto end = monotonic_now() + seconds(60);
    while (inline_blocks() + patches() > 0 && monotonic_now() < end) {
      io_->store_due_records();
      io_->wait_shared();
      std::this_thread::sleep_for(milliseconds(5));
    }
    expect_in_stripes();
  }
};

TEST_F(LeftoversTest, WhoSeesThemMovesThem) {
  in_stripe(2);
  write_synced(kBlock + 5, "a patch");
  write_synced(4 * kBlock, "a block");
  write_synced(4 * kBlock + 3, "and its patch");
  const auto mtime = mtime_of(file_->attr);
  become_another();
  EXPECT_GT(inline_blocks() + patches(), 0u);
  EXPECT_EQ(read_all(file_, 0, model_.size()), model_);
  wait_adopted();
  EXPECT_EQ(mtime_of(file_->attr), mtime) << "nothing was written";
  expect_stored();
}

TEST_F(LeftoversTest, AMountThatIsToChangeNothingLeavesThem) {
  write_synced(0, "a block");
  become_another();
  io_->adopt_records(false);
  EXPECT_EQ(read_all(file_, 0, model_.size()), model_);
  std::this_thread::sleep_for(milliseconds(2 * config_.inline_quiet_ms));
  for (int i = 0; i < 10; ++i) {
    io_->store_due_records();
    io_->wait_shared();
  }
  EXPECT_EQ(inline_blocks(), 1u);
  expect_stored();
}

TEST_F(LeftoversTest, WhatIsWrittenMeanwhileWins) {
  write_synced(0, "a block");
  write_synced(kBlock, "another");
  become_another();
  EXPECT_EQ(read_all(file_, 0, model_.size()), model_);
  write(2, "written anew");
  io_->store_due_records();
  write_synced(kBlock + 1, "this too");
  wait_adopted();
  expect_stored();
}

}  // namespace
}  // namespace datacloud
