// FaultStore: does to each call what a test's rule says.
#include <functional>
#include <mutex>
#include <random>
#include <vector>

#include "common/base/timer_thread.h"
#include "common/store/store_decorators.h"

namespace datacloud {
namespace {

class FaultStore final : public ObjectStore {
 public:
  FaultStore(std::unique_ptr<ObjectStore> below, FaultRule rule)
      : below_(std::move(below)), rule_(std::move(rule)) {}

  ~FaultStore() override {
    std::vector<std::function<void()>> hanging;
    {
      std::lock_guard lock(mutex_);
      closing_ = true;
      hanging.swap(hanging_);
    }
    for (auto& answer : hanging) answer();
    timer_.reset();  // delayed calls answer now
    below_.reset();
  }

  void put(const std::string& name, Payload data, Attributes attributes, OpOptions options,
           Callback<void> callback) override {
    apply<void>(StoreOp::put, name, std::move(callback),
                [this, name, data = std::move(data), attributes = std::move(attributes),
                 options](Callback<void> done) mutable {
                  below_->put(name, std::move(data), std::move(attributes), options,
                              std::move(done));
                });
  }
  void read(const std::string& name, std::vector<ByteRange> ranges, bool want_attributes,
            OpOptions options, Callback<ReadReply> callback) override {
    apply<ReadReply>(StoreOp::read, name, std::move(callback),
                     [this, name, ranges = std::move(ranges), want_attributes,
                      options](Callback<ReadReply> done) mutable {
                       below_->read(name, std::move(ranges), want_attributes, options,
                                    std::move(done));
                     });
  }
  void derive(const std::string& name, Derivation derivation, OpOptions options,
              Callback<DeriveReply> callback) override {
    apply<DeriveReply>(StoreOp::derive, name, std::move(callback),
                       [this, name, derivation = std::move(derivation),
                        options](Callback<DeriveReply> done) mutable {
                         below_->derive(name, std::move(derivation), options, std::move(done));
                       });
  }
  void combine(const std::string& name, Combination combination, OpOptions options,
               Callback<CombineReply> callback) override {
    apply<CombineReply>(StoreOp::combine, name, std::move(callback),
                        [this, name, combination = std::move(combination),
                         options](Callback<CombineReply> done) mutable {
                          below_->combine(name, std::move(combination), options, std::move(done));
                        });
  }
  void prove(const std::string& name, AuditChallenge challenge, OpOptions options,
             Callback<AuditProof> callback) override {
    apply<AuditProof>(StoreOp::prove, name, std::move(callback),
                      [this, name, challenge, options](Callback<AuditProof> done) {
                        below_->prove(name, challenge, options, std::move(done));
                      });
  }
  void remove(const std::string& name, OpOptions options, Callback<void> callback) override {
    apply<void>(StoreOp::remove, name, std::move(callback),
                [this, name, options](Callback<void> done) {
                  below_->remove(name, options, std::move(done));
                });
  }
  void list(const std::string& from, size_t count_max, OpOptions options,
            Callback<ListReply> callback) override {
    apply<ListReply>(StoreOp::list, "", std::move(callback),
                     [this, from, count_max, options](Callback<ListReply> done) {
                       below_->list(from, count_max, options, std::move(done));
                     });
  }
  void check(OpOptions options, Callback<void> callback) override {
    apply<void>(StoreOp::check, "", std::move(callback),
                [this, options](Callback<void> done) { below_->check(options, std::move(done)); });
  }
  void capacity(OpOptions options, Callback<Capacity> callback) override {
    apply<Capacity>(
        StoreOp::capacity, "", std::move(callback),
        [this, options](Callback<Capacity> done) { below_->capacity(options, std::move(done)); });
  }
  std::string location(const std::string& name) const override { return below_->location(name); }

 private:
  template <class T, class Forward>
  void apply(StoreOp op, const std::string& name, Callback<T> callback, Forward forward) {
    const Fault fault = rule_(op, name);
    switch (fault.kind) {
      case Fault::Kind::none:
        return forward(std::move(callback));
      case Fault::Kind::fail_before:
        return callback(failure(fault.error));
      case Fault::Kind::fail_after:
        return forward([callback, error = fault.error](result<T>) { callback(failure(error)); });
      case Fault::Kind::hang:
        return hang<T>(std::move(callback));
      case Fault::Kind::delay:
        return delay<T>(fault.delay, std::move(callback), std::move(forward));
      case Fault::Kind::fail_late:
        return delay<T>(fault.delay, std::move(callback),
                        [error = fault.error](Callback<T> late) { late(failure(error)); });
      case Fault::Kind::flip_byte:
      case Fault::Kind::garbage:
        return forward([callback, kind = fault.kind, name](result<T> r) {
          if constexpr (std::is_same_v<T, ReadReply>) {
            if (r) damage(r.value().ranges, kind, name);
          } else if constexpr (std::is_same_v<T, CombineReply>) {
            if (r) damage(r.value().outputs, kind, name);
          } else if constexpr (std::is_same_v<T, AuditProof>) {
            if (r) {
              std::vector<Bytes> mu{std::move(r.value().mu)};
              damage(mu, kind, name);
              r.value().mu = std::move(mu[0]);
            }
          }
          callback(std::move(r));
        });
    }
  }

  template <class T>
  void hang(Callback<T> callback) {
    auto answer = [callback] { callback(failure(Errc::timed_out, "injected hang, store closed")); };
    {
      std::lock_guard lock(mutex_);
      if (!closing_) return hanging_.push_back(answer);
    }
    answer();
  }

  template <class T, class Forward>
  void delay(Duration delay, Callback<T> callback, Forward forward) {
    timer_->schedule(monotonic_now() + delay, [this, callback, forward]() mutable {
      {
        std::lock_guard lock(mutex_);
        if (!closing_) return forward(std::move(callback));
      }
      callback(failure(Errc::timed_out, "injected delay, store closed"));
    });
  }

  static void damage(std::vector<Bytes>& ranges, Fault::Kind kind, const std::string& name) {
    std::mt19937 random(static_cast<uint32_t>(std::hash<std::string>()(name)));
    for (auto& range : ranges) {
      if (range.empty()) continue;
      if (kind == Fault::Kind::flip_byte) {
        range[random() % range.size()] ^= static_cast<uint8_t>(1 + random() % 255);
        return;
      }
      for (auto& byte : range) byte ^= static_cast<uint8_t>(1 + random() % 255);
    }
  }

  std::unique_ptr<ObjectStore> below_;
  const FaultRule rule_;
  std::mutex mutex_;
  bool closing_ = false;
  std::vector<std::function<void()>> hanging_;
  std::unique_ptr<TimerThread> timer_ = std::make_unique<TimerThread>();
};

}  // namespace

std::unique_ptr<ObjectStore> make_fault_store(std::unique_ptr<ObjectStore> below, FaultRule rule) {
  return std::make_unique<FaultStore>(std::move(below), std::move(rule));
}

}  // namespace datacloud
