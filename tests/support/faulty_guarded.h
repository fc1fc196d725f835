// Guarded objects whose operations fail as networks make them fail: not sent, answer lost, landing
// later. A test's rule decides for each operation.
#pragma once

#include <functional>
#include <mutex>
#include <vector>

#include "common/store/guarded_objects.h"

namespace datacloud {

enum class GuardedFault {
  none,
  lost_request,  // nothing happens; timed_out
  lost_answer,   // it happens; timed_out
  late           // timed_out; it happens at land_late()
};

class FaultyGuarded final : public GuardedObjects {
 public:
  // Called for everything that changes something.
  using Rule = std::function<GuardedFault(const std::string& name)>;
  // What has timed out and not landed, of all handles to a site.
  struct Late {
    std::mutex mutex;
    std::vector<std::function<void()>> waiting;
    // `pick` chooses among that many; all land when it is null.
    void land(const std::function<size_t(size_t)>& pick) {
      for (;;) {
        std::function<void()> next;
        {
          std::lock_guard lock(mutex);
          if (waiting.empty()) return;
          const size_t at = pick ? pick(waiting.size()) : 0;
          next = std::move(waiting[at]);
          waiting.erase(waiting.begin() + static_cast<std::ptrdiff_t>(at));
        }
        next();
        if (pick) return;
      }
    }
  };

  FaultyGuarded(std::shared_ptr<GuardedObjects> inner, std::shared_ptr<Late> late, Rule rule)
      : inner_(std::move(inner)), late_(std::move(late)), rule_(std::move(rule)) {}

  void create(const std::string& name, Attributes attributes, Callback<void> done) override {
    run(name, done, [inner = inner_, name, attributes](Callback<void> answer) {
      inner->create(name, attributes, answer);
    });
  }
  void change(const std::string& name, GuardedChange change, Callback<void> done) override {
    run(name, done, [inner = inner_, name, change](Callback<void> answer) {
      inner->change(name, change, answer);
    });
  }
  void view(const std::string& name, ByteRange range, Callback<ObjectView> done) override {
    inner_->view(name, range, std::move(done));
  }
  void remove(const std::string& name, Callback<void> done) override {
    run(name, done, [inner = inner_, name](Callback<void> answer) { inner->remove(name, answer); });
  }
  result<size_t> append_unit() override { return inner_->append_unit(); }
  std::string location() const override { return inner_->location(); }

 private:
  template <class Op>
  void run(const std::string& name, const Callback<void>& done, Op op) {
    const GuardedFault fault = rule_(name);
    if (fault == GuardedFault::none) return op(done);
    if (fault == GuardedFault::lost_answer) op([](result<void>) {});
    if (fault == GuardedFault::late) {
      std::lock_guard lock(late_->mutex);
      late_->waiting.push_back([op] { op([](result<void>) {}); });
    }
    done(failure(Errc::timed_out, "injected at " + name));
  }

  const std::shared_ptr<GuardedObjects> inner_;
  const std::shared_ptr<Late> late_;
  const Rule rule_;
};

}  // namespace datacloud
