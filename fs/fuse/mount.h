// One mount: everything a FUSE operation needs, wired together, and the background threads:
// flusher (dirty data by age, closing and memory pressure; lease releases), keepalive (session
// lease, traffic and health reports), recall workers.
//
// Life: open() connects, start() runs the threads once the kernel is attached, stop() writes
// back everything and says goodbye.
#pragma once

#include <atomic>
#include <condition_variable>
#include <future>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "common/base/executor.h"
#include "common/base/features.h"
#include "common/config/config.h"
#include "common/crypto/keys.h"
#include "common/proto/file_time.h"
#include "common/site/metrics.h"
#include "common/site/site_set.h"
#include "fs/file/file_io.h"
#include "fs/file/file_locks.h"
#include "fs/fuse/kernel_notifier.h"
#include "fs/fuse/last_known_space.h"
#include "fs/fuse/owners.h"
#include "fs/fuse/page_invalidator.h"
#include "fs/fuse/raw/kernel_channel.h"
#include "fs/fuse/raw/pending_requests.h"

namespace datacloud {

class Mount {
 public:
  // Connects to the daemon, checks key and sites. Errors name the thing and the remedy.
  static result<std::unique_ptr<Mount>> open(const Config&, const std::string& site_name,
                                             const std::string& mountpoint);
  ~Mount();

  void start(fuse_session* session);
  // Serves the mount's metrics there until stop().
  result<void> serve_metrics(const std::string& address);
  // -o dirsync: changes of names and attributes are durable when they return.
  void set_synchronous_names(bool always) { dirsync_ = always; }
  // -o uidmap, -o squash. Before start().
  void set_owners(Owners owners) { owners_ = std::move(owners); }
  const Owners& owners() const { return owners_; }
  // -o nolock: locks stay on this machine. Before start().
  void keep_locks_local() { locks_shared_ = false; }
  bool locks_shared() const { return locks_shared_; }
  FileLocks& locks() { return *locks_; }
  // -o known_names_max. Before start().
  void set_known_names_max(size_t names) { table_.set_known_max(names); }
  // -o sync is the kernel's flag, which mount -o remount changes without telling: it is read from
  // the kernel's table once mounted and at each fsync of the root directory, which a remount ends
  // with.
  void read_flags();
  // Writes back what is dirty (bounded by time); false when something could not be written.
  bool stop();

  InodeTable& table() { return table_; }
  MetadataClient& metadata() { return *metadata_; }
  FileIo& io() { return *io_; }
  KernelNotifier& kernel() { return kernel_; }
  KernelChannel& channel() { return channel_; }
  PageInvalidator& invalidator() { return invalidator_; }
  LastKnownSpace& space() { return space_; }
  // When requests of the kernel have to end, for their loop.
  PendingRequests::Options request_options();
  // The daemon takes no changes from this node: the kernel shall refuse them.
  bool read_only() const { return read_only_; }
  const MountConfig& config() const { return config_.mount; }
  // What the cloud uses, as the daemon told last. Any thread.
  FeatureSet features() const { return features_; }
  TimeRange time_range() const {
    return features().has(Feature::times) ? TimeRange::wide : TimeRange::narrow;
  }

  // How long the kernel may use attributes (or entries) it gets now, in seconds.
  double cache_seconds(const Inode&) const;  // the caller holds the inode's mutex
  double entry_cache_seconds(const InodePtr& parent) const;
  void count_operation() { ++operations_; }
  // Runs something that talks to the kernel, off the calling thread.
  void later(std::function<void()> work) { recalls_->post(std::move(work)); }

 private:
  Mount(const Config& config, SecretKey data_key);
  result<void> connect(const std::string& mountpoint);
  result<void> build(const std::string& site_name);

  void on_push(const pb::Push& push);
  void on_session(const pb::HelloReply& hello);
  void present_leases(pb::HelloRequest& hello);
  // unsupported: the cloud uses what this program does not know.
  result<void> adopt_features(const pb::Features& features);
  void remember_root_and_space();
  void tell_kernel(const MetadataClient::Unwitnessed&);
  void handle_recall(const pb::Recall& recall);
  void forget_names(const InodePtr& directory);
  bool drop_kernel_pages(InodeId ino);
  void reduce_lease(const InodePtr& inode, pb::LeaseMode mode);
  void session_lost();
  void flusher_loop();
  void flush_due(bool pressure);
  void keepalive_loop();
  void send_keepalive();
  void keep_certificate();

  // mount_sites.cc
  void apply_duties(const google::protobuf::RepeatedPtrField<pb::SiteInfo>&);
  void follow_sites(const google::protobuf::RepeatedPtrField<pb::SiteInfo>&);
  result<SiteSet::Member> open_site(const Config&, const pb::SiteInfo&) const;
  result<void> join_site(const pb::SiteInfo&);

  const Config config_;
  SecretKey data_key_;
  InodeTable table_;
  KernelNotifier kernel_;
  KernelChannel channel_;
  PageInvalidator invalidator_{kernel_};
  LastKnownSpace space_;
  std::unique_ptr<Executor> recalls_;
  std::unique_ptr<RpcSession> client_;
  std::unique_ptr<MetadataClient> metadata_;
  std::unique_ptr<FileLocks> locks_;
  bool locks_shared_ = true;
  pb::Cloud cloud_;
  std::atomic<FeatureSet> features_;
  std::unique_ptr<ShardNamer> namer_;
  std::shared_ptr<ShardTags> tags_;
  std::unique_ptr<BlockSealer> sealer_;
  std::unique_ptr<SiteSet> sites_;
  std::unique_ptr<Executor> cpu_;
  std::unique_ptr<BlockCache> cache_;
  std::unique_ptr<IdPool> ids_;
  std::unique_ptr<StripeReader> stripe_reader_;
  std::unique_ptr<BlockReader> reader_;
  std::unique_ptr<FileIo> io_;
  std::unique_ptr<WritePipeline> pipeline_;

  std::atomic<uint64_t> operations_{0};
  std::mutex mutex_;
  std::condition_variable wake_;
  bool nudged_ = false, stop_ = false;
  std::vector<std::future<void>> kernel_calls_;  // still waiting in the kernel
  std::map<std::pair<uint32_t, int>, TrafficCounters::Row> reported_;
  std::map<SiteId, MonotonicTime> ask_again_;  // the keepalive thread's: sites not usable here
  std::thread flusher_, keepalive_;
  std::string mountpoint_;
  bool dirsync_ = false;
  Owners owners_;
  bool read_only_ = false;
  Duration lease_ = seconds(20);               // as the daemon has said at the first hello
  MonotonicTime look_at_certificate_{};        // the keepalive thread's
  std::unique_ptr<MetricsExporter> exporter_;  // before all it shows goes
};

}  // namespace datacloud
