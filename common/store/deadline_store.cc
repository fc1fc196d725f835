// DeadlineStore: answers timed_out at a call's deadline; whatever the store below says later is
// dropped. Exactly one of the two answers, decided by one atomic exchange per call.
#include "common/base/timer_thread.h"
#include "common/store/store_decorators.h"

namespace datacloud {
namespace {

template <class T>
struct Call {
  Callback<T> callback;
  std::atomic<bool> answered{false};

  bool answer(result<T> r) {
    if (answered.exchange(true)) return false;
    const auto callback_now = std::move(callback);  // releases what it holds on to
    callback_now(std::move(r));
    return true;
  }
};

class DeadlineStore final : public ObjectStore {
 public:
  explicit DeadlineStore(std::unique_ptr<ObjectStore> below) : below_(std::move(below)) {}
  // First the store below, while the timer still answers the callers of what hangs there.
  ~DeadlineStore() override { below_.reset(); }

  void put(const std::string& name, Payload data, Attributes attributes, OpOptions options,
           Callback<void> callback) override {
    if (auto timed = watch<void>("put", name, options, callback)) {
      below_->put(name, std::move(data), std::move(attributes), options, std::move(timed));
    }
  }
  void read(const std::string& name, std::vector<ByteRange> ranges, bool want_attributes,
            OpOptions options, Callback<ReadReply> callback) override {
    if (auto timed = watch<ReadReply>("read", name, options, callback)) {
      below_->read(name, std::move(ranges), want_attributes, options, std::move(timed));
    }
  }
  void derive(const std::string& name, Derivation derivation, OpOptions options,
              Callback<DeriveReply> callback) override {
    if (auto timed = watch<DeriveReply>("derive", name, options, callback)) {
      below_->derive(name, std::move(derivation), options, std::move(timed));
    }
  }
  void combine(const std::string& name, Combination combination, OpOptions options,
               Callback<CombineReply> callback) override {
    if (auto timed = watch<CombineReply>("combine", name, options, callback)) {
      below_->combine(name, std::move(combination), options, std::move(timed));
    }
  }
  void prove(const std::string& name, AuditChallenge challenge, OpOptions options,
             Callback<AuditProof> callback) override {
    if (auto timed = watch<AuditProof>("prove", name, options, callback)) {
      below_->prove(name, challenge, options, std::move(timed));
    }
  }
  void remove(const std::string& name, OpOptions options, Callback<void> callback) override {
    if (auto timed = watch<void>("remove", name, options, callback)) {
      below_->remove(name, options, std::move(timed));
    }
  }
  void list(const std::string& from, size_t count_max, OpOptions options,
            Callback<ListReply> callback) override {
    if (auto timed = watch<ListReply>("list", "", options, callback)) {
      below_->list(from, count_max, options, std::move(timed));
    }
  }
  void check(OpOptions options, Callback<void> callback) override {
    if (auto timed = watch<void>("check", "", options, callback)) {
      below_->check(options, std::move(timed));
    }
  }
  void capacity(OpOptions options, Callback<Capacity> callback) override {
    if (auto timed = watch<Capacity>("capacity", "", options, callback)) {
      below_->capacity(options, std::move(timed));
    }
  }
  std::string location(const std::string& name) const override { return below_->location(name); }

 private:
  // The callback to give to the store below; null when the deadline is past and `callback` has
  // been answered.
  template <class T>
  Callback<T> watch(const char* op, const std::string& name, const OpOptions& options,
                    Callback<T>& callback) {
    if (options.deadline == MonotonicTime::max()) return std::move(callback);
    if (options.deadline <= monotonic_now()) {
      callback(failure(late(op, name.empty() ? std::string("the site") : below_->location(name))));
      return nullptr;
    }
    auto call = std::make_shared<Call<T>>();
    call->callback = std::move(callback);
    const auto timer = timer_.schedule(
        options.deadline,
        [call, op, where = name.empty() ? std::string("the site") : below_->location(name)] {
          call->answer(failure(late(op, where)));
        });
    return [this, call, timer](result<T> r) {
      if (call->answered) return;
      timer_.cancel(timer);
      call->answer(std::move(r));
    };
  }

  static Error late(const char* op, const std::string& where) {
    return Error(Errc::timed_out, std::string(op) + " " + where + ": no answer by its deadline");
  }

  TimerThread timer_;
  std::unique_ptr<ObjectStore> below_;
};

}  // namespace

std::unique_ptr<ObjectStore> make_deadline_store(std::unique_ptr<ObjectStore> below) {
  return std::make_unique<DeadlineStore>(std::move(below));
}

}  // namespace datacloud
