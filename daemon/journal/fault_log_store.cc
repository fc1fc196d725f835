// A log store that fails as told (fault_log_store.h).
#include "daemon/journal/fault_log_store.h"

#include <mutex>
#include <optional>

namespace datacloud::journal {
namespace {

auto timed_out() { return failure(Errc::timed_out, "injected"); }

class FaultyLog final : public FaultLogStore {
 public:
  FaultyLog(std::unique_ptr<LogStore> inner, Rule rule)
      : inner_(std::move(inner)), rule_(std::move(rule)) {}

  result<LogHead> head() override {
    const LogFault fault = rule_(LogCall::head);
    if (fault == LogFault::old_head) {
      std::lock_guard lock(mutex_);
      if (old_) return *old_;
    } else if (fault != LogFault::none) {
      return timed_out();
    }
    auto head = inner_->head();
    std::lock_guard lock(mutex_);
    if (head) old_ = head.value();
    return head;
  }
  result<LogHead> claim(const Epoch& epoch) override {
    return run(LogCall::claim, [&] { return inner_->claim(epoch); });
  }
  result<void> begin(const Epoch& epoch, const LogPosition& base, Base where) override {
    return run(LogCall::begin, [&] { return inner_->begin(epoch, base, where); });
  }
  void append(const Epoch& epoch, LogBatch batch, Done done) override {
    switch (rule_(LogCall::append)) {
      case LogFault::none:
      case LogFault::old_head:
        return inner_->append(epoch, std::move(batch), std::move(done));
      case LogFault::lost_answer:
        return inner_->append(epoch, std::move(batch),
                              [done](const result<void>&) { done(timed_out()); });
      case LogFault::late: {
        std::lock_guard lock(mutex_);
        late_.push_back({epoch, std::move(batch)});
        break;
      }
      case LogFault::lost_request:
        break;
    }
    done(timed_out());
  }
  result<LogHead> settle(const Epoch& epoch) override {
    return run(LogCall::settle, [&] { return inner_->settle(epoch); });
  }
  result<std::vector<LogEntry>> read(uint64_t from, size_t bytes_max) override {
    return run(LogCall::read, [&] { return inner_->read(from, bytes_max); });
  }
  result<void> trim(const Epoch& epoch, uint64_t floor) override {
    return run(LogCall::trim, [&] { return inner_->trim(epoch, floor); });
  }
  result<void> seal(const Epoch& epoch) override {
    return run(LogCall::seal, [&] { return inner_->seal(epoch); });
  }

  void land_late() override {
    std::vector<Late> late;
    {
      std::lock_guard lock(mutex_);
      late.swap(late_);
    }
    for (auto& append : late) (void)append_now(*inner_, append.epoch, std::move(append.batch));
  }

 private:
  struct Late {
    Epoch epoch;
    LogBatch batch;
  };

  template <class Call>
  auto run(LogCall call, Call make) -> decltype(make()) {
    const LogFault fault = rule_(call);
    if (fault == LogFault::lost_request || fault == LogFault::late) return timed_out();
    auto answer = make();
    if (fault == LogFault::lost_answer) return timed_out();
    return answer;
  }

  const std::unique_ptr<LogStore> inner_;
  const Rule rule_;
  std::mutex mutex_;
  std::optional<LogHead> old_;
  std::vector<Late> late_;
};

}  // namespace

std::unique_ptr<FaultLogStore> make_fault_log_store(std::unique_ptr<LogStore> inner,
                                                    FaultLogStore::Rule rule) {
  return std::make_unique<FaultyLog>(std::move(inner), std::move(rule));
}

}  // namespace datacloud::journal
