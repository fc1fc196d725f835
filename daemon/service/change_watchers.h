// Who watches changes (`datacloud watch`): for each a queue of what mounts have changed since, from
// which it is sent by long polling.
//
// Bounded: kWatchersMax of them, each with a queue of kEventsMax events; one that is full is
// emptied, and its watcher is told of the overflow. A watcher that does not ask for kIdleMax is
// dropped. Costs nothing while there is none. Nothing is kept over a start of the daemon.
//
// Functions of the loop.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>

#include "common/base/error.h"
#include "common/proto/admin.pb.h"
#include "common/proto/rpc.pb.h"
#include "daemon/loop/event_loop.h"

namespace datacloud {

class ChangeWatchers {
 public:
  static constexpr size_t kWatchersMax = 64;
  static constexpr size_t kEventsMax = 16384;  // of each; names of up to 255 bytes
  static constexpr size_t kReplyEventsMax = 4096;
  static constexpr Duration kWaitMax = seconds(20);
  static constexpr Duration kIdleMax = seconds(60);

  using Answer = std::function<void(const pb::WatchReply&)>;
  // `loop` outlives this; what it runs afterwards does nothing.
  explicit ChangeWatchers(EventLoop& loop) : loop_(loop) {}

  bool any() const { return !watchers_.empty(); }
  // What a mount's request has changed, once it is applied.
  void note(const pb::Request&, const pb::Reply&);
  // `answer` is called once, now or later. An earlier one of the same watcher that still waits is
  // answered with nothing. not_found: there is no such watcher (any more). unavailable: too many.
  result<void> poll(const pb::WatchRequest&, Answer answer);

 private:
  struct Watcher {
    std::deque<pb::WatchEvent> events;
    bool overflow = false;
    Answer waiting;
    uint64_t waits = 0;  // counts them
    MonotonicTime asked_at{};
  };
  void drop_idle();
  void add(const pb::WatchEvent&);
  void reply(uint64_t number, Watcher&);
  void wake();

  EventLoop& loop_;
  const std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  std::map<uint64_t, Watcher> watchers_;
  uint64_t last_number_ = 0, last_cookie_ = 0;
  bool waking_ = false;
};

}  // namespace datacloud
