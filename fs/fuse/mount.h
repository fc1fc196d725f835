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
#include "fs/base/timer_queue.h"
#include "fs/file/file_io.h"
#include "fs/file/file_locks.h"
#include "fs/file/inode_numbers.h"
#include "fs/fuse/kernel_notifier.h"
#include "fs/fuse/last_known_space.h"
#include "fs/fuse/owners.h"
#include "fs/fuse/page_invalidator.h"
#include "fs/fuse/raw/kernel_channel.h"
#include "fs/fuse/raw/pending_requests.h"
#include "fs/fuse/xattr_cache.h"

namespace datacloud {

class Mount {
 public:
  // Connects to the daemon, checks key and sites. `directory`: a path below what this node may see,
  // which becomes the mount's root; empty: all of that. Errors name the thing and the remedy.
  static result<std::unique_ptr<Mount>> open(const Config&, const std::string& site_name,
                                             const std::string& mountpoint,
                                             const std::string& directory);
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
  void keep_daily_atimes() { daily_atimes_ = true; }
  // Without waiting: the file was opened for reading.
  void note_access(const InodePtr&);
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
  XattrCache& xattrs() { return xattrs_; }
  LastKnownSpace& space() { return space_; }
  InodeNumbers& inode_numbers() { return *inode_numbers_; }
  // When requests of the kernel have to end, for their loop.
  PendingRequests::Options request_options();
  // The daemon takes no changes from this node: the kernel shall refuse them.
  bool read_only() const { return read_only_; }
  // What other mounts have left in the metadata is not moved: this one is to change nothing.
  void leave_records_alone();
  // The directory of the cloud that is the root here.
  InodeId root() const { return root_; }
  // Less than this node may see.
  bool shows_part() const { return root_ != seen_; }
  const MountConfig& config() const { return config_.mount; }
  // FS_IOC_SHUTDOWN (ops_shutdown.cc). Afterwards every operation is EIO, and nothing is written.
  enum class ShutDown { flush = 0, keep_committed = 1, drop = 2 };
  result<void> shut_down(ShutDown);
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
  result<void> connect(const std::string& mountpoint, const std::string& directory);
  result<void> find_root(InodeId root, const std::string& directory);
  result<void> build(const std::string& site_name);

  void on_push(const pb::Push& push);
  void on_session(const pb::HelloReply& hello);
  void present_leases(pb::HelloRequest& hello);
  // unsupported: the cloud uses what this program does not know.
  result<void> adopt_features(const pb::Features& features);
  void remember_root_and_space();
  void tell_kernel(const MetadataClient::Unwitnessed&);
  struct Reduction;
  void handle_recall(const pb::Recall& recall, uint64_t session);
  void reduce(const std::shared_ptr<Reduction>&);
  bool reduce_lease(Reduction&);
  bool store_for_others(Reduction&);
  void put_off(const std::shared_ptr<Reduction>&);
  void answer_recall(uint64_t id);
  void forget_names(const InodePtr& directory);
  void forget_attributes(const InodePtr&);
  bool drop_kernel_pages(const InodePtr&);
  void session_lost();
  void redone(const pb::Request&, const result<pb::Reply>&);
  void watch_lease();
  void lease_over();
  void flusher_loop();
  void flush_due(bool pressure);
  void keepalive_loop();
  using TrafficRows = std::map<std::pair<uint32_t, int>, TrafficCounters::Row>;
  pb::Request keepalive_request(TrafficRows& rows);
  void keepalive_answered(const result<pb::Reply>&, TrafficRows rows);
  void ask_for_lease();
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
  XattrCache xattrs_;
  LastKnownSpace space_;
  std::unique_ptr<Executor> recalls_;
  TimerQueue recalls_put_off_;
  std::unique_ptr<RpcSession> client_;
  std::unique_ptr<InodeNumbers> inode_numbers_;
  std::unique_ptr<MetadataClient> metadata_;
  std::unique_ptr<FileLocks> locks_;
  bool locks_shared_ = true;
  bool daily_atimes_ = false;
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
  TrafficRows reported_;
  // The keepalive under way, if any, and its answer, for its thread to take.
  std::optional<TrafficRows> keepalive_rows_;
  std::optional<result<pb::Reply>> keepalive_answer_;
  bool lease_over_ = false;      // the keepalive thread's: the lease has run out
  uint64_t session_before_ = 0;  // the I/O thread's
  uint64_t daemon_start_ = 0;
  std::map<SiteId, MonotonicTime> ask_again_;  // the keepalive thread's: sites not usable here
  std::thread flusher_, keepalive_;
  std::string mountpoint_;
  bool dirsync_ = false;
  Owners owners_;
  bool read_only_ = false;
  InodeId root_ = kRootInode;
  InodeId seen_ = kRootInode;                  // the root of what this node may see
  std::atomic<uint64_t> round_trip_us_{0};     // of the last keepalive
  Duration lease_ = seconds(5);                // as the daemon has said at the first hello
  MonotonicTime look_at_certificate_{};        // the keepalive thread's
  std::unique_ptr<MetricsExporter> exporter_;  // before all it shows goes
};

}  // namespace datacloud
