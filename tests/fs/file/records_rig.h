// A file whose little fsyncs go into the daemon's records, beside a model of what it holds.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <string>
#include <thread>

#include "tests/fs/file/file_rig.h"

namespace datacloud {

class RecordsTest : public FileRig, public ::testing::Test {
 protected:
  explicit RecordsTest(uint32_t quiet_ms = 5'000) : FileRig(2 << 20, quiet_ms) {
    records_ = true;
    file_ = open_new("file");
    handle_.inode = file_;
    file_->opens = 1;
  }
  ~RecordsTest() override { EXPECT_THAT(daemon_->check(), testing::IsEmpty()); }

  void write(uint64_t offset, const std::string& data) {
    const auto written = io_->write(file_, offset, as_bytes(data), false);
    ASSERT_TRUE(written) << written.error().message();
    if (model_.size() < offset + data.size()) model_.resize(offset + data.size());
    model_.replace(offset, data.size(), data);
  }
  void fsync() {
    const auto done = io_->fsync(handle_);
    ASSERT_TRUE(done) << done.error().message();
  }
  void write_synced(uint64_t offset, const std::string& data) {
    write(offset, data);
    fsync();
  }
  void cut(uint64_t size) {
    ASSERT_TRUE(io_->truncate(file_, size));
    model_.resize(size);
  }
  // So many blocks in a stripe.
  void in_stripe(size_t blocks) {
    write(0, std::string(blocks * kBlock, 's'));
    ASSERT_TRUE(io_->flush(file_, true));
    ASSERT_EQ(inline_blocks(), 0u);
  }
  // What the records and the sites hold, read by somebody who knows nothing yet.
  void expect_stored() {
    BlockCache empty(1 << 20);
    BlockReader other(
        BlockReader::Dependencies{*daemon_, empty, *stripes_, *sites_, config_, sealer_.get()});
    EXPECT_EQ(file_->attr.size(), model_.size());
    std::string stored;
    for (uint64_t block = 0; block * kBlock < model_.size(); ++block) {
      const auto read = other.read({file_->ino, 0, kBlock, model_.size()}, block, 1);
      ASSERT_TRUE(read) << read.error().message();
      if (read.value()[0]) stored += as_text(*read.value()[0]);
      stored.resize(std::min<size_t>((block + 1) * kBlock, model_.size()));
    }
    EXPECT_TRUE(stored == model_)
        << "they differ first at "
        << std::mismatch(stored.begin(), stored.end(), model_.begin(), model_.end()).first -
               stored.begin();
  }
  size_t count_runs(const std::function<bool(const pb::Run&)>& which) {
    const auto runs = daemon_->runs(file_->ino);
    return static_cast<size_t>(std::count_if(runs.begin(), runs.end(), which));
  }
  size_t inline_blocks() {
    return count_runs([](const pb::Run& run) { return run.inline_(); });
  }
  uint64_t patches() {
    uint64_t sum = 0;
    for (const auto& run : daemon_->runs(file_->ino)) sum += run.patches();
    return sum;
  }
  void expect_in_stripes() {
    EXPECT_EQ(inline_blocks(), 0u);
    EXPECT_EQ(patches(), 0u);
  }
  // What the flusher does, until nothing is left to do.
  void store_due() {
    for (int round = 0; round < 400 && io_->record_bytes() > 0; ++round) {
      io_->store_due_records();
      io_->wait_shared();
      std::this_thread::sleep_for(milliseconds(5));
    }
  }

  InodePtr file_;
  FileHandle handle_;
  std::string model_;
};

}  // namespace datacloud
