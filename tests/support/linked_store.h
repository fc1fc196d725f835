// Sites behind one link: a round trip, and a rate each way that all calls of a daemon share. What
// crosses is counted as it does on a wire: payloads, attributes, answers. For benchmarks.
#pragma once

#include <algorithm>
#include <atomic>
#include <mutex>

#include "common/base/clock.h"
#include "common/base/ids.h"
#include "common/base/timer_thread.h"
#include "tests/support/forwarding_store.h"

namespace datacloud {

class Link {
 public:
  // bytes_per_second 0: no limit.
  void set(Duration round_trip, double bytes_per_second) {
    std::lock_guard lock(mutex_);
    round_trip_ = round_trip;
    bytes_per_second_ = bytes_per_second;
    up_free_ = down_free_ = MonotonicTime();
  }
  // The site beside the daemon: nothing to and from it crosses the link.
  void stand_at(SiteId site) { here_ = site; }
  uint64_t bytes() const { return bytes_; }

  // Runs `answer` when a call that carries `up` bytes and is answered with `down` would be back.
  void cross(SiteId site, uint64_t up, uint64_t down, std::function<void()> answer) {
    if (site == here_) return answer();
    bytes_ += up + down;
    MonotonicTime back;
    {
      std::lock_guard lock(mutex_);
      const auto there = passed(up_free_, monotonic_now(), up) + round_trip_ / 2;
      back = passed(down_free_, there, down) + round_trip_ / 2;
    }
    if (back <= monotonic_now()) return answer();
    timer_.schedule(back, std::move(answer));
  }

 private:
  MonotonicTime passed(MonotonicTime& free, MonotonicTime from, uint64_t bytes) const {
    if (bytes_per_second_ <= 0) return from;
    free = std::max(free, from) +
           std::chrono::duration_cast<Duration>(
               std::chrono::duration<double>(static_cast<double>(bytes) / bytes_per_second_));
    return free;
  }

  std::mutex mutex_;
  Duration round_trip_{};
  double bytes_per_second_ = 0;
  MonotonicTime up_free_, down_free_;
  std::atomic<SiteId> here_{0};
  std::atomic<uint64_t> bytes_{0};
  TimerThread timer_;
};

// A site at the far end, which combines and proves next to the data. `link` outlives it.
class LinkedStore final : public ForwardingStore {
 public:
  LinkedStore(std::unique_ptr<ObjectStore> below, SiteId site, Link& link)
      : ForwardingStore(std::move(below)), site_(site), link_(link) {}

  void put(const std::string& name, Payload data, Attributes attributes, OpOptions options,
           Callback<void> done) override {
    const uint64_t up = data.size() + bytes_of(attributes);
    below_->put(name, std::move(data), std::move(attributes), options, crossing(up, done));
  }
  void read(const std::string& name, std::vector<ByteRange> ranges, bool want_attributes,
            OpOptions options, Callback<ReadReply> done) override {
    below_->read(name, std::move(ranges), want_attributes, options,
                 [this, done = std::move(done)](result<ReadReply> reply) mutable {
                   uint64_t down = 0;
                   if (reply) {
                     down = bytes_of(reply.value().attributes);
                     for (const auto& range : reply.value().ranges) down += range.size();
                   }
                   answer<ReadReply>(0, down, std::move(done), std::move(reply));
                 });
  }
  void combine(const std::string& name, Combination combination, OpOptions options,
               Callback<CombineReply> done) override {
    below_->combine(name, std::move(combination), options,
                    [this, done = std::move(done)](result<CombineReply> reply) mutable {
                      uint64_t down = 0;
                      if (reply) {
                        for (const auto& output : reply.value().outputs) down += output.size();
                        reply.value().at_site = true;
                        reply.value().bytes_transferred = down;
                      }
                      answer<CombineReply>(0, down, std::move(done), std::move(reply));
                    });
  }
  void prove(const std::string& name, AuditChallenge challenge, OpOptions options,
             Callback<AuditProof> done) override {
    below_->prove(name, challenge, options,
                  [this, done = std::move(done)](result<AuditProof> reply) mutable {
                    answer<AuditProof>(0, kProofBytes, std::move(done), std::move(reply));
                  });
  }

 private:
  static constexpr uint64_t kProofBytes = 4112;

  static uint64_t bytes_of(const Attributes& attributes) {
    uint64_t bytes = 0;
    for (const auto& [name, value] : attributes) bytes += name.size() + value.size();
    return bytes;
  }
  template <class T>
  void answer(uint64_t up, uint64_t down, Callback<T> done, result<T> reply) {
    auto kept = std::make_shared<result<T>>(std::move(reply));
    link_.cross(site_, up, down, [done = std::move(done), kept] { done(std::move(*kept)); });
  }
  Callback<void> crossing(uint64_t up, Callback<void> done) {
    return [this, up, done = std::move(done)](result<void> reply) mutable {
      answer<void>(up, 0, std::move(done), std::move(reply));
    };
  }

  const SiteId site_;
  Link& link_;
};

}  // namespace datacloud
