// The flusher and keepalive threads.
#include <sys/stat.h>

#include <algorithm>

#include "common/base/log.h"
#include "common/config/node_certificate.h"
#include "common/proto/file_time.h"
#include "fs/fuse/mount.h"

namespace datacloud {
namespace {

constexpr auto kFlusherTick = milliseconds(50);
constexpr Duration kCertificateLook = seconds(60);
constexpr Duration kAccessPatience = seconds(10);
constexpr int64_t kDayNs = 24ll * 3600 * kNsPerSecond;

}  // namespace

void Mount::flusher_loop() {
  for (;;) {
    bool pressure = false;
    {
      std::unique_lock lock(mutex_);
      wake_.wait_for(lock, kFlusherTick, [this] { return nudged_ || stop_; });
      if (stop_) return;
      nudged_ = false;
    }
    pressure = io_->budget().under_pressure();
    flush_due(pressure);
    io_->store_due_records();
    for (const InodeId ino : table_.sweep()) reader_->invalidate(ino);
    metadata_->send_releases();
  }
}

// Starts flushes by age, after closing, and (oldest first) under memory pressure.
void Mount::flush_due(bool pressure) {
  struct Due {
    InodePtr inode;
    MonotonicTime since;
  };
  const auto now = monotonic_now();
  const auto age = milliseconds(config_.mount.flush_after_ms);
  const auto closed_age = milliseconds(config_.mount.close_flush_after_ms);
  std::vector<Due> due, young;
  std::vector<InodePtr> unlinked;
  for (const auto& inode : io_->dirty_inodes()) {
    std::lock_guard lock(inode->mutex);
    if (!inode->has_changes() || now < inode->retry_at) continue;
    if (inode->attr_known && inode->attr.nlink() == 0 && inode->opens == 0) {
      unlinked.push_back(inode);
      continue;
    }
    const bool closed = inode->opens == 0 && now - inode->closed_at >= closed_age;
    (closed || now - inode->dirty_since >= age ? due : young)
        .push_back({inode, inode->dirty_since});
  }
  for (const auto& inode : unlinked) io_->discard(inode);
  if (pressure) {
    std::sort(young.begin(), young.end(), [](auto& a, auto& b) { return a.since < b.since; });
    young.resize((young.size() + 1) / 2);
    due.insert(due.end(), young.begin(), young.end());
  }
  if (due.empty()) return;
  for (const auto& d : due)
    io_->start_flush(d.inode, FileIo::Take::everything, Urgency::batch, false);
  pipeline_->flush();
}

// By the daemon alone: the kernel keeps the time it knows until it asks for the attributes again.
void Mount::note_access(const InodePtr& inode) {
  if (!daily_atimes_ || read_only_) return;
  const int64_t now = wall_now_ns();
  pb::Request request;
  auto* set = request.mutable_setattr();
  {
    std::lock_guard lock(inode->mutex);
    const FileTime ctime = ctime_of(inode->attr);
    const int64_t known = std::max(to_ns(atime_of(inode->attr)), inode->access_told_ns);
    if (!S_ISREG(inode->attr.mode()) || now - known < kDayNs || !fits_ns(ctime)) return;
    inode->access_told_ns = now;
    set->set_ctime_ns(to_ns(ctime));  // reading does not change it
  }
  set->set_ino(inode->ino);
  set->set_atime_ns(now);
  metadata_->ask(std::move(request), kAccessPatience, [](const auto&) {});
}

// Keepalives, and what their answers bring. A keepalive that is not answered is sent again by the
// RPC when there is a connection; meanwhile this thread sees to the end of the lease.
void Mount::keepalive_loop() {
  MonotonicTime next = monotonic_now() + lease_ / 8;
  for (;;) {
    std::optional<result<pb::Reply>> answer;
    std::optional<TrafficRows> rows;
    {
      const auto end = client_->lease_end();
      const auto until = lease_over_ ? next : std::min(next, end);
      std::unique_lock lock(mutex_);
      wake_.wait_until(lock, until, [this] { return stop_ || keepalive_answer_; });
      if (stop_) return;
      answer.swap(keepalive_answer_);
      if (answer) rows.swap(keepalive_rows_);
    }
    if (answer) keepalive_answered(*answer, std::move(*rows));
    watch_lease();
    if (monotonic_now() < next) continue;
    next = monotonic_now() + lease_ / 8;
    ask_for_lease();
    keep_certificate();
  }
}

// A node renews its certificate over the running connection, long before it ends. Looked at now and
// then: the clock may have been set.
void Mount::keep_certificate() {
  const auto now = monotonic_now();
  if (!config_.node.joined() || now < look_at_certificate_) return;
  look_at_certificate_ = now + std::min<Duration>(kCertificateLook, lease_);
  if (!renewal_is_due(config_.node)) return;
  if (auto renewed = renew_node_certificate(config_.node, *client_); !renewed) {
    spdlog::warn("this node's certificate cannot be renewed yet: {}", renewed.error().message());
  } else {
    spdlog::info("this node's certificate is renewed");
  }
}

pb::Request Mount::keepalive_request(TrafficRows& rows) {
  pb::Request request;
  auto* keepalive = request.mutable_keepalive();
  rows = reported_;
  for (Site* listed : sites_->all()) {
    Site& site = *listed;
    for (int p = 0; p < kPurposeCount; ++p) {
      const auto row = site.traffic().row(static_cast<Purpose>(p));
      const auto before = reported_[{site.id(), p}];
      if (row.operations == before.operations) continue;
      auto* traffic = keepalive->add_traffic();
      traffic->set_site(site.id());
      traffic->set_purpose(static_cast<uint32_t>(p));
      traffic->set_bytes_read(row.bytes_read - before.bytes_read);
      traffic->set_bytes_written(row.bytes_written - before.bytes_written);
      traffic->set_operations(row.operations - before.operations);
      rows[{site.id(), p}] = row;
    }
    auto* health = keepalive->add_health();
    health->set_site(site.id());
    health->set_up(site.up());
    health->set_reason(site.away_reason());
  }
  auto* stats = keepalive->mutable_stats();
  stats->set_dirty_bytes(io_->budget().used());
  stats->set_cache_bytes(cache_->bytes());
  stats->set_operations(operations_);
  stats->set_degraded_reads(stripe_reader_->degraded_reads());
  stats->set_flush_failures(io_->failures());
  stats->set_data_losses(io_->data_losses());
  stats->set_last_failure(io_->last_failure());
  stats->set_round_trip_us(round_trip_us_);
  return request;
}

void Mount::ask_for_lease() {
  TrafficRows rows;
  {
    std::lock_guard lock(mutex_);
    if (keepalive_rows_) return;  // one is under way
  }
  pb::Request request = keepalive_request(rows);
  const auto sent = monotonic_now();
  {
    std::lock_guard lock(mutex_);
    keepalive_rows_ = std::move(rows);
  }
  client_->call(std::move(request), [this, sent](result<pb::Reply> reply) {
    {
      std::lock_guard lock(mutex_);
      if (reply) {
        const auto took =
            std::chrono::duration_cast<std::chrono::microseconds>(monotonic_now() - sent);
        round_trip_us_ = static_cast<uint64_t>(took.count());
      }
      keepalive_answer_.emplace(std::move(reply));
    }
    wake_.notify_all();
  });
}

void Mount::keepalive_answered(const result<pb::Reply>& reply, TrafficRows rows) {
  if (!reply) return;
  reported_ = std::move(rows);
  follow_sites(reply.value().keepalive().sites());
  if (auto known = adopt_features(reply.value().keepalive().features()); !known) {
    spdlog::error("{}", known.error().message());
  }
}

void Mount::watch_lease() {
  const bool over = monotonic_now() >= client_->lease_end();
  if (over && !lease_over_) later([this] { lease_over(); });
  lease_over_ = over;
}

// From now on others may change what the kernel has cached here. Attributes and entries run out by
// themselves, but not while the machine is suspended; pages never do, and only files that are open
// are read without asking first. The daemon waits a tenth of the lease longer than we do.
void Mount::lease_over() {
  spdlog::warn("the daemon has not been heard for the whole lease: reading waits for it");
  kernel_.forget_entries();
  for (const auto& inode : table_.all()) {
    bool open = false;
    {
      std::lock_guard lock(inode->mutex);
      open = inode->opens > 0;
    }
    if (open)
      (void)drop_kernel_pages(inode);
    else
      kernel_.forget_attributes(inode->ino);
  }
}

}  // namespace datacloud
