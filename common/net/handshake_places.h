// Who may do a TLS handshake now: bounded in all and for each address, and fair to newcomers.
//
// Handshakes cost nothing until the peer has sent its ClientHello, and an honest peer sends it at
// once. So when an address (or the server) has no place left, a newcomer gets that of the oldest
// handshake of the address (of the one with the most) that has sent none yet; else that of the
// oldest whose peer has not gone on for kHandshakeIdleMax; else it is refused. Silent connections,
// however many, thus do not shut out others behind the same address.
//
// Thread safety: any thread.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "common/base/clock.h"

namespace datacloud {

inline constexpr Duration kHandshakeIdleMax = seconds(2);

class HandshakePlaces : public std::enable_shared_from_this<HandshakePlaces> {
 public:
  HandshakePlaces(size_t all_max, size_t of_address_max)
      : all_max_(all_max), of_address_max_(of_address_max) {}

  // Given back by its destruction.
  class Place {
   public:
    Place(std::shared_ptr<HandshakePlaces> places, uint64_t id)
        : places_(std::move(places)), id_(id) {}
    ~Place() { places_->leave(id_); }
    Place(const Place&) = delete;
    Place& operator=(const Place&) = delete;
    // The peer has sent its ClientHello.
    void greeted() { places_->greeted(id_); }
    // Somebody else has it now: end.
    bool evicted() const { return places_->evicted(id_); }

   private:
    const std::shared_ptr<HandshakePlaces> places_;
    const uint64_t id_;
  };

  // Null: refused. `evict`, if any, is called on the thread of whoever takes the place, under no
  // lock; it must not block.
  std::unique_ptr<Place> take(const std::string& address, std::function<void()> evict = {});
  size_t count() const;
  uint64_t evictions() const;

 private:
  struct Handshake {
    std::string address;
    MonotonicTime since{};
    bool greeted = false;
    std::function<void()> evict;
  };
  void leave(uint64_t id);
  void greeted(uint64_t id);
  bool evicted(uint64_t id) const;
  std::string crowded(const std::string& address) const;
  std::map<uint64_t, Handshake>::iterator least_worth(const std::string& address);

  const size_t all_max_, of_address_max_;
  mutable std::mutex mutex_;
  std::map<uint64_t, Handshake> handshakes_;  // the oldest first
  std::map<std::string, size_t> of_address_;
  uint64_t next_id_ = 1, evictions_ = 0;
};

}  // namespace datacloud
