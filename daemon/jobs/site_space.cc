// Asking every live site for its capacity.
#include "daemon/jobs/site_space.h"

#include <algorithm>
#include <atomic>
#include <mutex>
#include <utility>

namespace datacloud {
namespace {

constexpr auto kFresh = seconds(2);
constexpr auto kDeadline = seconds(2);

}  // namespace

uint64_t logical_capacity(const std::vector<uint64_t>& site_bytes, int k, int n) {
  if (site_bytes.empty() || k <= 0 || n < k) return 0;
  const auto sites = site_bytes.size();
  const uint64_t columns_max = (n + sites - 1) / sites;
  const auto fits = [&](uint64_t per_column) {
    unsigned __int128 room = 0;
    for (const uint64_t bytes : site_bytes) {
      room += std::min<unsigned __int128>(bytes, (unsigned __int128)columns_max * per_column);
    }
    return room >= (unsigned __int128)per_column * n;
  };
  uint64_t low = 0, high = uint64_t{1} << 58;
  while (low < high) {
    const uint64_t middle = low + (high - low + 1) / 2;
    if (fits(middle)) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  return low * k;
}

struct SiteSpace::Round {
  std::mutex mutex;
  std::map<SiteId, ObjectStore::Capacity> sites;
  std::atomic<size_t> left{0};
};

SiteSpace::SiteSpace(SiteSet& sites, std::shared_ptr<EventLoop> loop,
                     std::shared_ptr<const ErasureCode> code)
    : sites_(sites), loop_(std::move(loop)), code_(std::move(code)) {}

void SiteSpace::get(std::function<void(const Report&)> done, Age age) {
  if (age == Age::recent && loop_->now() < fresh_until_) return done(report_);
  waiting_.push_back(std::move(done));
  if (waiting_.size() > 1) return;  // asked already
  since_asked_.clear();
  auto round = std::make_shared<Round>();
  const auto sites = sites_.all();
  round->left = sites.size() + 1;
  const auto arrived = [this, round, loop = loop_] {
    if (--round->left == 0) loop->post([this, round] { finish(*round); });
  };
  const OpOptions options{monotonic_now() + kDeadline, Purpose::client};
  for (Site* site : sites) {
    if (!site->up()) {
      arrived();
      continue;
    }
    site->store().capacity(options,
                           [round, arrived, id = site->id()](result<ObjectStore::Capacity> c) {
                             if (c) {
                               std::lock_guard lock(round->mutex);
                               round->sites[id] = c.value();
                             }
                             arrived();
                           });
  }
  arrived();
}

void SiteSpace::finish(const Round& round) {
  report_.sites = round.sites;
  since_report_ = std::exchange(since_asked_, {});
  for (const auto& [id, capacity] : round.sites) report_.sites_last[id] = capacity;
  std::vector<uint64_t> total, free;
  for (const auto& [id, capacity] : report_.sites) {
    total.push_back(capacity.bytes_total);
    free.push_back(std::min(capacity.bytes_free, capacity.bytes_total));
  }
  report_.bytes_free = logical_capacity(free, code_->k(), code_->n());
  report_.bytes_total =
      std::max(logical_capacity(total, code_->k(), code_->n()), report_.bytes_free);
  fresh_until_ = loop_->now() + kFresh;
  for (auto& done : std::exchange(waiting_, {})) done(report_);
}

void SiteSpace::stored(SiteId site, uint64_t bytes) {
  since_report_[site] += bytes;
  if (!waiting_.empty()) since_asked_[site] += bytes;
}

std::map<SiteId, uint64_t> SiteSpace::free_now() const {
  std::map<SiteId, uint64_t> out;
  for (const auto& [id, capacity] : report_.sites_last) {
    if (sites_.find(id) == nullptr) continue;  // it has left the cloud
    const uint64_t free = std::min(capacity.bytes_free, capacity.bytes_total);
    const auto since = since_report_.find(id);
    out[id] = free - std::min(free, since == since_report_.end() ? 0 : since->second);
  }
  return out;
}

std::set<SiteId> SiteSpace::combining() const {
  std::set<SiteId> sites;
  for (const auto& [id, capacity] : report_.sites_last) {
    if (capacity.class_there.value_or(false)) sites.insert(id);
  }
  return sites;
}

}  // namespace datacloud
