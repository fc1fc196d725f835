// The data path of a mount without the kernel, for tests: five memory sites whose puts can be made
// to fail, a local daemon, and everything of fs/ from FileIo down.
#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "common/store/memory_store.h"
#include "common/store/store_decorators.h"
#include "fs/file/file_io.h"
#include "tests/fs/file/local_daemon.h"

namespace datacloud {

inline constexpr uint32_t kBlock = 4096;

class FileRig {
 protected:
  explicit FileRig(uint64_t cache_bytes, uint32_t inline_quiet_ms = 5'000) {
    config_.inline_quiet_ms = inline_quiet_ms;
    char pattern[] = "/tmp/datacloud-file-io-XXXXXX";
    directory_ = ::mkdtemp(pattern);
    cloud_.set_uuid("0f0e0d0c-0b0a-0908-0706-050403020100");
    cloud_.set_name("test");
    cloud_.set_format_version(1);
    cloud_.mutable_root_policy()->set_code("rs-3-2");
    cloud_.mutable_root_policy()->set_block_bytes(kBlock);
    cloud_.mutable_root_policy()->set_compression(1);
    cloud_.set_write_sites_min(3);
    std::vector<SiteSet::Member> members;
    for (uint32_t id = 1; id <= 5; ++id) {
      auto* site = cloud_.add_sites();
      site->set_id(id);
      site->set_name("site" + std::to_string(id));
      members.push_back({id, site->name(), make_store(id)});
    }
    daemon_ = std::make_unique<LocalDaemon>(directory_ + "/metadata", cloud_);
    sites_ = std::make_unique<SiteSet>(std::move(members), milliseconds(20));
    config_.dirty_bytes_max = 4 << 20;
    config_.put_deadline_ms = 2000;
    sealer_ = std::make_unique<BlockSealer>(SecretKey::random(), cloud_.uuid());
    cpu_ = std::make_unique<Executor>(2, 256);
    cache_ = std::make_unique<BlockCache>(cache_bytes);
    ids_ = std::make_unique<IdPool>(*daemon_);
    metadata_ = std::make_unique<MetadataClient>(*daemon_, table_);
    stripes_ = std::make_unique<StripeReader>(StripeReader::Dependencies{
        *sites_, namer_, *sealer_, *cpu_, config_, 0, [](std::vector<pb::Damage>) {}});
    reader_ = std::make_unique<BlockReader>(
        BlockReader::Dependencies{*daemon_, *cache_, *stripes_, *sites_, config_, sealer_.get()});
    pipeline_ = std::make_unique<WritePipeline>(
        WritePipeline::Dependencies{*daemon_, *sites_, namer_, *sealer_, *ids_, cloud_, config_});
    io_ = std::make_unique<FileIo>(FileIo::Dependencies{
        *metadata_, *reader_, *pipeline_, *sites_, config_, 3, [] {}, [](InodeId) {},
        [this](const InodePtr& inode) { pages_to_drop_.push_back(inode); },
        [this] { return time_range_.load(); }, [this] { return records_.load(); }});
  }
  virtual ~FileRig() {
    io_->wait_shared();
    pipeline_.reset();
    std::filesystem::remove_all(directory_);
  }

  void flush_in_time(const InodePtr& inode) {
    for (int tries = 0; !io_->flush(inode, true); ++tries) {
      ASSERT_LT(tries, 300);
      std::this_thread::sleep_for(milliseconds(10));
    }
  }

  // The puts of a site (1 to 5) end so, until changed.
  void set_put_fault(uint32_t site, Fault fault) {
    std::lock_guard lock(fault_mutex_);
    put_faults_[site - 1] = std::move(fault);
  }

  InodePtr open_new(const std::string& name) {
    pb::Request request;
    request.mutable_lease()->set_ino(daemon_->create_file(name));
    auto answer = metadata_->call(std::move(request));
    auto inode = answer.value().inode;
    table_.add_lookup(inode);
    return inode;
  }
  std::string read_all(const InodePtr& inode, uint64_t offset, size_t size, int tries = 1) {
    FileHandle handle;
    handle.inode = inode;
    auto pieces = io_->read(handle, offset, size);
    if (!pieces && pieces.error().is(Errc::unavailable) && tries > 1) {
      std::this_thread::sleep_for(milliseconds(10));
      return read_all(inode, offset, size, tries - 1);
    }
    EXPECT_TRUE(pieces) << pieces.error().message();
    std::string out;
    if (pieces)
      for (const auto& view : pieces.value().views) out += as_text(view);
    return out;
  }

  // Where at most two sites are away at any moment: a read can meet a third as they change.
  std::string read_in_time(const InodePtr& inode, uint64_t offset, size_t size) {
    return read_all(inode, offset, size, 300);
  }

  std::unique_ptr<ObjectStore> make_store(uint32_t id) {
    return make_fault_store(make_memory_store(controls_[id - 1]),
                            [this, id](StoreOp op, const std::string&) {
                              if (op != StoreOp::put) return Fault{};
                              ++puts_seen_;
                              std::lock_guard lock(fault_mutex_);
                              return put_faults_[id - 1];
                            });
  }

  std::atomic<bool> records_{false};                    // the cloud uses "inline"
  std::atomic<TimeRange> time_range_{TimeRange::wide};  // of the cloud
  // What the kernel would be asked to drop.
  std::vector<InodePtr> pages_to_drop_;
  std::mutex fault_mutex_;
  Fault put_faults_[5];
  std::atomic<int> puts_seen_{0};
  std::string directory_;
  pb::Cloud cloud_;
  MemoryStoreControl controls_[5];
  MountConfig config_;
  InodeTable table_;
  ShardNamer namer_{as_bytes("0123456789abcdef")};
  std::unique_ptr<LocalDaemon> daemon_;
  std::unique_ptr<SiteSet> sites_;
  std::unique_ptr<BlockSealer> sealer_;
  std::unique_ptr<Executor> cpu_;
  std::unique_ptr<BlockCache> cache_;
  std::unique_ptr<IdPool> ids_;
  std::unique_ptr<MetadataClient> metadata_;
  std::unique_ptr<StripeReader> stripes_;
  std::unique_ptr<BlockReader> reader_;
  std::unique_ptr<FileIo> io_;
  std::unique_ptr<WritePipeline> pipeline_;
};

}  // namespace datacloud
