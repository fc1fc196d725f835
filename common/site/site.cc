// One site: the stack of decorators in front of its back end, and its health.
#include "common/site/site_set.h"

#include "common/base/log.h"
#include "common/base/out_of_space.h"

namespace datacloud {
namespace {

// The outermost layer: tells the site how every call ended.
class ReportingStore final : public ObjectStore {
 public:
  ReportingStore(std::unique_ptr<ObjectStore> below, Site& site)
      : below_(std::move(below)), site_(site) {}

  void put(const std::string& name, Payload data, Attributes attributes, OpOptions options,
           Callback<void> callback) override {
    const uint64_t bytes = data.size();
    below_->put(name, std::move(data), std::move(attributes), options,
                reported<void>([this, bytes, callback = std::move(callback)](result<void> r) {
                  site_.report_room(bytes, r ? nullptr : &r.error());
                  callback(std::move(r));
                }));
  }
  void read(const std::string& name, std::vector<ByteRange> ranges, bool want_attributes,
            OpOptions options, Callback<ReadReply> callback) override {
    below_->read(name, std::move(ranges), want_attributes, options,
                 reported<ReadReply>(std::move(callback)));
  }
  void derive(const std::string& name, Derivation derivation, OpOptions options,
              Callback<DeriveReply> callback) override {
    below_->derive(name, std::move(derivation), options,
                   reported<DeriveReply>(std::move(callback)));
  }
  void combine(const std::string& name, Combination combination, OpOptions options,
               Callback<CombineReply> callback) override {
    below_->combine(name, std::move(combination), options,
                    reported<CombineReply>(std::move(callback)));
  }
  void prove(const std::string& name, AuditChallenge challenge, OpOptions options,
             Callback<AuditProof> callback) override {
    below_->prove(name, challenge, options, reported<AuditProof>(std::move(callback)));
  }
  void remove(const std::string& name, OpOptions options, Callback<void> callback) override {
    below_->remove(name, options, reported<void>(std::move(callback)));
  }
  void list(const std::string& from, size_t count_max, OpOptions options,
            Callback<ListReply> callback) override {
    below_->list(from, count_max, options, reported<ListReply>(std::move(callback)));
  }
  void check(OpOptions options, Callback<void> callback) override {
    below_->check(options, reported<void>(std::move(callback)));
  }
  void capacity(OpOptions options, Callback<Capacity> callback) override {
    below_->capacity(options, reported<Capacity>(std::move(callback)));
  }
  std::string location(const std::string& name) const override { return below_->location(name); }

 private:
  template <class T>
  Callback<T> reported(Callback<T> callback) {
    return [this, callback = std::move(callback)](result<T> r) {
      if (r) {
        site_.report(nullptr);
        return callback(std::move(r));
      }
      site_.report(&r.error());
      callback(failure(r.error().in("site " + site_.name())));
    };
  }

  const std::unique_ptr<ObjectStore> below_;
  Site& site_;
};

}  // namespace

Site::Site(SiteId id, std::string name, std::unique_ptr<ObjectStore> store)
    : id_(id), name_(std::move(name)) {
  store_ = std::make_unique<ReportingStore>(
      make_accounting_store(make_deadline_store(std::move(store)), traffic_), *this);
}

std::string Site::away_reason() const {
  std::lock_guard lock(mutex_);
  return away_reason_;
}

void Site::report(const Error* failure) {
  if (failure != nullptr && failure->is(Errc::away)) return set_away(failure->text());
  if (failure == nullptr || !failure->is(Errc::timed_out)) {
    // Also failures are answers: the site is there.
    if (timeouts_.load(std::memory_order_relaxed) != 0) timeouts_ = 0;
    return;
  }
  if (timeouts_.fetch_add(1) + 1 >= kTimeoutsMax) {
    set_away(std::to_string(kTimeoutsMax) + " calls in a row timed out, last: " + failure->text());
  }
}

void Site::report_room(uint64_t bytes, const Error* failure) {
  if (failure == nullptr) {
    if (full_.accepted(bytes)) spdlog::info("site {} has room again", name_);
  } else if (is_out_of_space(*failure) && full_.refused(bytes, *failure)) {
    spdlog::warn(
        "site {} has no room for a shard of {} bytes ({}); free space there or raise its quota: it "
        "is used again by itself",
        name_, bytes, failure->code().message());
  }
}

void Site::set_up() {
  {
    std::lock_guard lock(mutex_);
    timeouts_ = 0;
    if (up_) return;
    up_ = true;
    away_reason_.clear();
  }
  changed();
}

void Site::set_away(const std::string& reason) {
  {
    std::lock_guard lock(mutex_);
    if (!up_ && away_reason_ == reason) return;
    away_reason_ = reason;
    if (!up_) return;
    up_ = false;
  }
  changed();
}

void Site::changed() {
  if (wake_) wake_();
}

}  // namespace datacloud
