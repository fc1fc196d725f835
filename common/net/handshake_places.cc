// See handshake_places.h.
#include "common/net/handshake_places.h"

#include <algorithm>

namespace datacloud {

std::unique_ptr<HandshakePlaces::Place> HandshakePlaces::take(const std::string& address,
                                                              std::function<void()> evict) {
  std::function<void()> tell;
  std::unique_ptr<Place> place;
  {
    std::lock_guard lock(mutex_);
    const auto mine = of_address_.find(address);
    const bool crowd = mine != of_address_.end() && mine->second >= of_address_max_;
    if (crowd || handshakes_.size() >= all_max_) {
      const auto victim = least_worth(crowd ? address : crowded(address));
      if (victim == handshakes_.end()) return nullptr;
      tell = std::move(victim->second.evict);
      const auto count = of_address_.find(victim->second.address);
      if (--count->second == 0) of_address_.erase(count);
      handshakes_.erase(victim);
      ++evictions_;
    }
    handshakes_[next_id_] = {address, monotonic_now(), false, std::move(evict)};
    ++of_address_[address];
    place = std::make_unique<Place>(shared_from_this(), next_id_++);
  }
  if (tell) tell();
  return place;
}

// The address with the most; a newcomer takes nothing from one that has fewer than its own.
std::string HandshakePlaces::crowded(const std::string& address) const {
  const auto most =
      std::max_element(of_address_.begin(), of_address_.end(),
                       [](const auto& a, const auto& b) { return a.second < b.second; });
  const auto mine = of_address_.find(address);
  return mine != of_address_.end() && mine->second == most->second ? address : most->first;
}

std::map<uint64_t, HandshakePlaces::Handshake>::iterator HandshakePlaces::least_worth(
    const std::string& address) {
  const auto idle_since = monotonic_now() - kHandshakeIdleMax;
  auto slow = handshakes_.end();
  for (auto it = handshakes_.begin(); it != handshakes_.end(); ++it) {
    if (it->second.address != address) continue;
    if (!it->second.greeted) return it;
    if (slow == handshakes_.end() && it->second.since < idle_since) slow = it;
  }
  return slow;
}

void HandshakePlaces::leave(uint64_t id) {
  std::lock_guard lock(mutex_);
  const auto it = handshakes_.find(id);
  if (it == handshakes_.end()) return;  // evicted
  const auto count = of_address_.find(it->second.address);
  if (--count->second == 0) of_address_.erase(count);
  handshakes_.erase(it);
}

void HandshakePlaces::greeted(uint64_t id) {
  std::lock_guard lock(mutex_);
  const auto it = handshakes_.find(id);
  if (it == handshakes_.end() || it->second.greeted) return;
  it->second.greeted = true;
  it->second.since = monotonic_now();
}

bool HandshakePlaces::evicted(uint64_t id) const {
  std::lock_guard lock(mutex_);
  return !handshakes_.contains(id);
}

size_t HandshakePlaces::count() const {
  std::lock_guard lock(mutex_);
  return handshakes_.size();
}

uint64_t HandshakePlaces::evictions() const {
  std::lock_guard lock(mutex_);
  return evictions_;
}

}  // namespace datacloud
