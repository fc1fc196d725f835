// The daemon's disk full: what is kept free, what the reserve carries, and what the store says when
// that is used up, or when its directory cannot be written.
#include "daemon/metadata/state_space.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>

#include "daemon/metadata/metadata_store.h"
#include "tests/support/simulated_files.h"

namespace datacloud {
namespace {

using ::testing::HasSubstr;

constexpr uint64_t kDisk = 64u << 20;  // a floor of 4 MiB

// A disk of kDisk bytes, of which others hold as many as the test says. A write gets out what fits.
class SmallDisk final : public FileLayer {
 public:
  std::shared_ptr<SimulatedFiles> below = std::make_shared<SimulatedFiles>();

  void set_others(uint64_t bytes) { others_ = bytes; }
  uint64_t free() const { return kDisk - std::min(kDisk, used_ + others_); }
  void fill() { others_ = kDisk - used_; }

  result<std::unique_ptr<File>> open(const std::string& path, Open how) override {
    if (how == Open::truncate) used_ -= size_of(path);
    TRY(auto file, below->open(path, how));
    return std::unique_ptr<File>(new SmallFile(*this, std::move(file)));
  }
  result<Stat> stat(const std::string& path) override { return below->stat(path); }
  result<void> make_directory(const std::string& p) override { return below->make_directory(p); }
  result<void> remove_directory(const std::string& p) override {
    return below->remove_directory(p);
  }
  result<void> unlink(const std::string& path) override {
    const uint64_t size = size_of(path);
    TRY(below->unlink(path));
    used_ -= size;
    return success();
  }
  result<void> rename(const std::string& from, const std::string& to) override {
    const uint64_t replaced = size_of(to);
    TRY(below->rename(from, to));
    used_ -= replaced;
    return success();
  }
  result<void> link(const std::string& a, const std::string& b) override {
    return below->link(a, b);
  }
  result<void> sync_directory(const std::string& p) override { return below->sync_directory(p); }
  result<std::vector<std::string>> list(const std::string& p) override { return below->list(p); }
  result<void> lock(const std::string& path, std::unique_ptr<File>& held) override {
    return below->lock(path, held);
  }
  result<Space> space(const std::string&) override { return Space{kDisk, free()}; }

 private:
  class SmallFile final : public File {
   public:
    SmallFile(SmallDisk& disk, std::unique_ptr<File> below)
        : disk_(disk), below_(std::move(below)) {}
    result<void> append(ByteView data) override {
      const size_t fits = std::min<uint64_t>(data.size(), disk_.free());
      TRY(below_->append(data.first(fits)));
      disk_.used_ += fits;
      if (fits < data.size()) return failure(Error::posix(ENOSPC, "write"));
      return success();
    }
    result<size_t> pread(uint64_t offset, MutableByteView out) override {
      return below_->pread(offset, out);
    }
    result<void> sync() override { return below_->sync(); }
    result<uint64_t> size() override { return below_->size(); }

   private:
    SmallDisk& disk_;
    const std::unique_ptr<File> below_;
  };
  uint64_t size_of(const std::string& path) {
    const auto found = below->stat(path);
    return found ? found.value().size : 0;
  }

  std::atomic<uint64_t> used_{0}, others_{0};
};

class StateSpaceTest : public ::testing::Test {
 protected:
  StateSpaceTest() {
    if (!disk_->make_directory("/state") || !disk_->make_directory("/state/metadata")) std::abort();
  }
  void make_reserve() {
    while (space_->replenish()) {
    }
  }
  int pieces() {
    int count = 0;
    const auto names = disk_->list("/state/metadata").value();
    for (const auto& name : names) {
      count += name.starts_with("reserve.");
    }
    return count;
  }
  MetadataStore::Options options() {
    MetadataStore::Options options;
    options.directory = "/state/metadata";
    options.files = files_;
    options.write_buffer_bytes = 256 << 10;
    return options;
  }
  void open_store() {
    store_.reset();
    auto opened = MetadataStore::open(options());
    ASSERT_TRUE(opened) << opened.error().message();
    store_ = std::move(opened.value());
  }
  result<Sequence> commit(int number) {
    auto txn = store_->begin();
    txn.put("Z" + std::to_string(number), std::string(1000, 'v'));
    return store_->commit(std::move(txn));
  }

  std::shared_ptr<SmallDisk> disk_ = std::make_shared<SmallDisk>();
  std::shared_ptr<StateSpace> space_ = std::make_shared<StateSpace>(disk_, "/state/metadata");
  std::shared_ptr<FileLayer> files_ = make_reserving_files(disk_, space_);
  std::unique_ptr<MetadataStore> store_;
};

TEST_F(StateSpaceTest, TheReserveIsMadeWhereThereIsRoomForIt) {
  disk_->set_others(kDisk - (6u << 20));  // the floor twice is more
  EXPECT_FALSE(space_->replenish());
  disk_->set_others(0);
  make_reserve();
  EXPECT_EQ(pieces(), StateSpace::kPieces);
  EXPECT_EQ(disk_->free(), kDisk - (4u << 20));
}

TEST_F(StateSpaceTest, RecordsAreRefusedBelowTheFloor) {
  EXPECT_FALSE(space_->refusal());
  disk_->set_others(kDisk - (3u << 20));
  std::this_thread::sleep_for(milliseconds(150));
  const auto full = space_->refusal();
  ASSERT_TRUE(full);
  EXPECT_EQ(full->errno_value(), ENOSPC);
  EXPECT_THAT(full->text(), HasSubstr("/state/metadata"));
  disk_->set_others(0);
  std::this_thread::sleep_for(milliseconds(150));
  EXPECT_FALSE(space_->refusal());
}

TEST_F(StateSpaceTest, AWriteOnAFullDiskIsCompletedFromTheReserve) {
  make_reserve();
  auto file = files_->open("/state/metadata/file", FileLayer::Open::truncate);
  ASSERT_TRUE(file);
  disk_->set_others(kDisk - (4u << 20) - 1000);
  Bytes data(700'000);
  for (size_t i = 0; i < data.size(); ++i) data[i] = static_cast<uint8_t>(i * 7 >> 3);
  ASSERT_TRUE(file.value()->append(data)) << "the first thousand bytes fit without";
  Bytes read(data.size() + 1);
  EXPECT_EQ(file.value()->pread(0, read).value(), data.size());
  read.resize(data.size());
  EXPECT_EQ(read, data);
  EXPECT_EQ(pieces(), StateSpace::kPieces - 3);
}

TEST_F(StateSpaceTest, TheStoreGoesOnOnADiskThatOthersHaveFilled) {
  ASSERT_TRUE(MetadataStore::create(options(), pb::Cloud(), 0, 0));
  open_store();
  make_reserve();
  disk_->fill();
  for (int i = 0; i < 1000; ++i) ASSERT_TRUE(commit(i)) << i;  // with its logs and tables
  ASSERT_TRUE(store_->wait_durable(store_->sequence()));
  disk_->fill();
  open_store();
  for (int i = 0; i < 1000; ++i) ASSERT_TRUE(store_->begin().get("Z" + std::to_string(i)).value());
  EXPECT_LT(pieces(), StateSpace::kPieces);
  disk_->set_others(0);
  make_reserve();
  EXPECT_EQ(pieces(), StateSpace::kPieces);
}

TEST_F(StateSpaceTest, WithTheReserveUsedUpNothingDurableIsLostAndTheReasonIsTold) {
  ASSERT_TRUE(MetadataStore::create(options(), pb::Cloud(), 0, 0));
  open_store();
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(commit(i));
  ASSERT_TRUE(store_->wait_durable(store_->sequence()));
  EXPECT_TRUE(space_->writable());
  disk_->fill();
  const auto refused = commit(100);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().errno_value(), ENOSPC) << refused.error().message();
  EXPECT_TRUE(cannot_write(refused.error()));
  EXPECT_THAT(refused.error().text(), HasSubstr("/state/metadata"));
  EXPECT_THAT(refused.error().text(), HasSubstr("make room"));
  EXPECT_TRUE(store_->begin().get("Z99").value()) << "reading goes on";
  EXPECT_FALSE(space_->writable());
  disk_->set_others(0);
  EXPECT_TRUE(space_->writable());
  open_store();
  for (int i = 0; i < 100; ++i) EXPECT_TRUE(store_->begin().get("Z" + std::to_string(i)).value());
  EXPECT_TRUE(commit(100));
}

TEST_F(StateSpaceTest, AReadOnlyDirectoryIsNamedWithTheRemedy) {
  ASSERT_TRUE(MetadataStore::create(options(), pb::Cloud(), 0, 0));
  open_store();
  ASSERT_TRUE(commit(1));
  disk_->below->set_failure_rule([](SimulatedFiles::Call call, const std::string&) {
    return call == SimulatedFiles::Call::append || call == SimulatedFiles::Call::open ? EROFS : 0;
  });
  const auto refused = commit(2);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().errno_value(), EROFS);
  EXPECT_THAT(refused.error().text(), HasSubstr("remount,rw"));
  EXPECT_FALSE(space_->writable());
  disk_->below->set_failure_rule(nullptr);
  open_store();
  EXPECT_TRUE(store_->begin().get("Z1").value());
}

}  // namespace
}  // namespace datacloud
