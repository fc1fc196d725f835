// See site_share.h.
#include "common/store/remote/site_share.h"

#include "common/base/log.h"

namespace datacloud {
namespace {

constexpr int kLogLinesMax = 10;  // a second: of what peers can cause

void leave(std::map<std::string, size_t>& counts, const std::string& key) {
  const auto found = counts.find(key);
  if (found != counts.end() && --found->second == 0) counts.erase(found);
}

}  // namespace

result<std::shared_ptr<ObjectStore>> SiteShare::store_for(const SiteMarker& marker) {
  if (marker.cloud_uuid != options.cloud_uuid || marker.site_name != options.site) {
    return failure(Errc::away, "site " + options.site + " of cloud " + options.cloud_uuid +
                                   " is served here, and site " + marker.site_name + " of cloud " +
                                   marker.cloud_uuid + " is asked for");
  }
  std::lock_guard lock(mutex_);
  const std::string key = marker.encode();
  if (const auto known = stores_.find(key); known != stores_.end())
    if (auto store = known->second.lock()) return store;
  std::erase_if(stores_, [](const auto& entry) { return entry.second.expired(); });
  if (stores_.size() >= options.limits.stores_max)
    return failure(Errc::away, "the site is asked for under too many numbers at once");
  TRY(auto opened, options.open(marker));
  std::shared_ptr<ObjectStore> store(std::move(opened));
  stores_[key] = store;
  last_ = store;
  return store;
}

void SiteShare::close_stores() {
  std::shared_ptr<ObjectStore> last;
  std::lock_guard lock(mutex_);
  last.swap(last_);
  stores_.clear();
}

std::shared_ptr<SiteShare::Reservation> SiteShare::reserve(const std::shared_ptr<SiteShare>& share,
                                                           uint64_t bytes) {
  const auto& limits = share->options.limits;
  const bool fits = share->requests_.fetch_add(1) < limits.requests_max;
  const bool room = share->bytes_.fetch_add(bytes) + bytes <= limits.bytes_max;
  auto reserved = std::make_shared<Reservation>(share, bytes);
  return fits && room ? reserved : nullptr;
}

void SiteShare::release(uint64_t bytes) {
  requests_ -= 1;
  bytes_ -= bytes;
}

bool SiteShare::take_window(uint64_t bytes) {
  if (windows_bytes_.fetch_add(bytes) + bytes <= options.limits.windows_bytes_max) return true;
  windows_bytes_ -= bytes;
  return false;
}

bool SiteShare::begin_node(const std::string& name) {
  std::lock_guard lock(mutex_);
  if (nodes_[name] >= options.limits.connections_of_node_max) return false;
  ++nodes_[name];
  return true;
}

void SiteShare::end_node(const std::string& name) {
  std::lock_guard lock(mutex_);
  leave(nodes_, name);
}

void SiteShare::log_refusal(Refusal refusal, const std::string& address, const std::string& why) {
  refusals.count(refusal);
  {
    std::lock_guard lock(mutex_);
    const auto now = monotonic_now();
    if (now > log_window_ + seconds(1)) {
      log_window_ = now;
      log_lines_ = 0;
    }
    if (++log_lines_ > kLogLinesMax) return;
  }
  spdlog::warn("site {}: {} turned away ({}): {}", options.site, address, refusal_name(refusal),
               why);
}

}  // namespace datacloud
