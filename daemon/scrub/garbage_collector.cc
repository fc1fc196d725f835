// Passes over the pending deletions.
#include "daemon/scrub/garbage_collector.h"

#include <fmt/format.h>

#include <atomic>
#include <map>

#include "common/base/log.h"
#include "daemon/metadata/record_keys.h"
#include "daemon/records/block_map.h"
#include "daemon/repair/site_jobs.h"

namespace datacloud {
namespace {

constexpr size_t kBatch = 64;             // deletions in flight
constexpr size_t kScanned = 4096;         // records looked at per step
constexpr auto kDeadline = seconds(10);   // of one deletion
constexpr auto kPause = milliseconds(1);  // between batches: requests go first
// Between passes: small overwrites that are each made durable would have one each, whose scan and
// transaction cost more than the deletions.
constexpr auto kPassPause = milliseconds(20);

}  // namespace

struct GarbageCollector::Item {
  uint64_t number = 0;
  pb::PendingDeletion record;
  Site* site = nullptr;  // null: erase the record, leave the object
  bool done = false;
  std::string problem;
};

struct GarbageCollector::Batch {
  std::vector<Item> items;
  std::atomic<size_t> left{0};
  bool more = false;
};

GarbageCollector::GarbageCollector(MetadataStore& store, Committer& committer, SiteSet& sites,
                                   const ShardNamer& namer, std::shared_ptr<EventLoop> loop)
    : store_(store), committer_(committer), sites_(sites), namer_(namer), loop_(std::move(loop)) {}

void GarbageCollector::kick() {
  if (running_) {
    again_ = true;
    return;
  }
  running_ = true;
  const Duration rested = loop_->now() - ended_;
  if (rested >= kPassPause) return loop_->post([this] { step(); });
  loop_->after(kPassPause - rested, [this] { step(); });
}

void GarbageCollector::restart() {
  cursor_ = 0;
  failures_ = {};
  kick();
}

void GarbageCollector::retry() {
  if (failures_.objects > 0 && !running_) restart();
}

void GarbageCollector::step() {
  auto batch = next_batch();
  if (!batch) {
    spdlog::error("pending deletions: {}", batch.error().message());
    running_ = false;
    return;
  }
  if (batch.value()->items.empty() && !batch.value()->more) {
    running_ = false;
    ended_ = loop_->now();
    if (std::exchange(again_, false)) kick();
    return;
  }
  if (batch.value()->items.empty()) {
    loop_->post([this] { step(); });
    return;
  }
  committer_.when_durable([this, b = batch.value()] { remove_all(b); });
}

// The next records whose sites live or have left the cloud, with all that is there; the cursor
// moves past all that were looked at.
result<std::shared_ptr<GarbageCollector::Batch>> GarbageCollector::next_batch() {
  auto batch = std::make_shared<Batch>();
  const Transaction txn = store_.begin();
  const std::string end = key::after_prefix(key::pending(0).substr(0, 1));
  size_t scanned = 0;
  std::vector<Item> without_site;
  TRY(txn.scan(key::pending(cursor_), end, [&](std::string_view k, std::string_view v) {
    if (batch->items.size() >= kBatch || scanned >= kScanned) {
      batch->more = true;
      return false;
    }
    ++scanned;
    if (k.size() != 9) return true;
    Item item;
    item.number = key::u64_at(k, 1);
    cursor_ = item.number + 1;
    if (!item.record.ParseFromArray(v.data(), static_cast<int>(v.size()))) return true;
    item.site = sites_.find(item.record.site());
    if (item.site == nullptr) {
      without_site.push_back(std::move(item));
    } else if (item.site->up()) {
      batch->items.push_back(std::move(item));
    }
    return true;
  }));
  std::map<SiteId, bool> left;
  for (auto& item : without_site) {
    const SiteId id = item.record.site();
    if (!left.contains(id)) {
      TRY(left[id], has_left(txn, [id](const auto& site) { return site.id() == id; }));
    }
    if (left[id]) batch->items.push_back(std::move(item));
  }
  for (auto& item : batch->items) {
    const ShardName name{item.record.stripe(), static_cast<uint8_t>(item.record.column()),
                         item.record.instance()};
    TRY(const bool named, is_named(txn, name));
    if (!named) continue;
    spdlog::error("stripe {} still names column {} instance {}: it is not deleted", name.stripe,
                  name.column, name.instance);
    item.site = nullptr;
  }
  return batch;
}

result<bool> GarbageCollector::is_named(const Transaction& txn, const ShardName& name) const {
  TRY(const auto stripe, get_stripe(txn, name.stripe));
  if (!stripe || name.column >= stripe->shards_size()) return false;
  const auto& shard = stripe->shards(name.column);
  return shard.state() == pb::SHARD_PRESENT && shard.instance() == name.instance;
}

void GarbageCollector::remove_all(const std::shared_ptr<Batch>& batch) {
  batch->left = batch->items.size() + 1;
  const auto arrived = [this, batch, loop = loop_] {
    if (--batch->left == 0) loop->post([this, batch] { finish(batch); });
  };
  const OpOptions options{monotonic_now() + kDeadline, Purpose::gc};
  for (auto& item : batch->items) {
    if (item.site == nullptr) {
      item.done = true;
      arrived();
      continue;
    }
    const auto& record = item.record;
    const std::string name = namer_.object_name(
        {record.stripe(), static_cast<uint8_t>(record.column()), record.instance()});
    item.site->store().remove(name, options, [&item, arrived](result<void> removed) {
      item.done = removed || removed.error().is(Errc::not_found);
      if (!item.done) item.problem = removed.error().message();
      arrived();
    });
  }
  arrived();
}

void GarbageCollector::finish(const std::shared_ptr<Batch>& batch) {
  Transaction txn = store_.begin();
  for (const auto& item : batch->items) {
    if (!item.done) {
      if (failures_.objects++ == 0) {
        failures_.problem = fmt::format("site {}: {}", item.site->name(), item.problem);
        spdlog::warn("a deletion failed and will be tried again: {}", failures_.problem);
      }
      continue;
    }
    txn.erase(key::pending(item.number));
    if (item.site == nullptr) continue;
    ++counts_.objects;
    counts_.bytes += item.record.bytes();
  }
  if (!txn.empty() && !committer_.apply(std::move(txn))) {
    running_ = false;
    return;
  }
  loop_->after(kPause, [this] { step(); });
}

}  // namespace datacloud
