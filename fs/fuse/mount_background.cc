// The flusher and keepalive threads.
#include <algorithm>

#include "common/base/log.h"
#include "common/config/node_certificate.h"
#include "fs/fuse/mount.h"

namespace datacloud {
namespace {

constexpr auto kFlusherTick = milliseconds(50);
constexpr Duration kCertificateLook = seconds(60);

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

void Mount::keepalive_loop() {
  for (;;) {
    {
      std::unique_lock lock(mutex_);
      if (wake_.wait_for(lock, lease_ / 8, [this] { return stop_; })) return;
    }
    send_keepalive();
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

void Mount::send_keepalive() {
  pb::Request request;
  auto* keepalive = request.mutable_keepalive();
  auto now = reported_;
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
      now[{site.id(), p}] = row;
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
  const auto sent = monotonic_now();
  const auto reply = client_->call(std::move(request));
  if (!reply) return;
  round_trip_us_ = static_cast<uint64_t>(
      std::chrono::duration_cast<std::chrono::microseconds>(monotonic_now() - sent).count());
  reported_ = std::move(now);
  follow_sites(reply.value().keepalive().sites());
  if (auto known = adopt_features(reply.value().keepalive().features()); !known) {
    spdlog::error("{}", known.error().message());
  }
}

}  // namespace datacloud
