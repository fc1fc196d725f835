// The front of stripe reads: checks the record, starts a StripeReadJob, and holds what reads share.
#include "fs/read/stripe_reader.h"

#include <fmt/format.h>

#include "fs/read/stripe_read_job.h"

namespace datacloud {
namespace {

constexpr size_t kReportedMax = 4096;
constexpr seconds kReportAgainAfter{60};

}  // namespace

result<std::shared_ptr<const ErasureCode>> ReadShared::code(const std::string& profile) {
  {
    std::lock_guard lock(mutex);
    if (const auto it = codes.find(profile); it != codes.end()) return it->second;
  }
  TRY(auto made, make_erasure_code(profile));
  std::lock_guard lock(mutex);
  return codes.emplace(profile, std::move(made)).first->second;  // few profiles exist
}

void ReadShared::report(std::vector<pb::Damage> found) {
  const MonotonicTime now = monotonic_now();
  {
    std::lock_guard lock(mutex);
    if (reported.size() > kReportedMax) reported.clear();
    std::erase_if(found, [&](const pb::Damage& d) {
      const std::string key =
          fmt::format("{}/{}/{}/{}", d.stripe(), d.column(), d.instance(), d.reason());
      const auto [it, first_time] = reported.emplace(key, now);
      if (!first_time && it->second + kReportAgainAfter > now) return true;
      it->second = now;
      return false;
    });
  }
  if (!found.empty() && deps.on_damage) deps.on_damage(std::move(found));
}

struct StripeReader::Impl {
  explicit Impl(Dependencies deps) : shared(std::make_shared<ReadShared>(std::move(deps))) {
    shared->timer = &timer;
  }
  TimerThread timer;
  std::shared_ptr<ReadShared> shared;
};

StripeReader::StripeReader(Dependencies deps) : impl_(std::make_unique<Impl>(std::move(deps))) {}

StripeReader::~StripeReader() {
  std::unique_lock lock(impl_->shared->mutex);
  impl_->shared->idle.wait(lock, [this] { return impl_->shared->reads == 0; });
}

void StripeReader::read_each(std::shared_ptr<const pb::Stripe> stripe, std::vector<Want> wants,
                             NotFound not_found, OnBlock on_block) {
  if (wants.empty()) return;
  const auto& shared = impl_->shared;
  auto code = shared->code(stripe->code());
  std::optional<Error> wrong;
  if (!code)
    wrong = code.error().in(fmt::format("stripe {}", stripe->id()));
  else if (auto checked = check_stripe_record(*stripe, *code.value()); !checked)
    wrong = checked.error();
  if (wrong) {
    shared->deps.executor.post([count = wants.size(), error = *wrong, on_block] {
      for (size_t i = 0; i < count; ++i) on_block(i, failure(error));
    });
    return;
  }
  std::make_shared<StripeReadJob>(shared, std::move(stripe), code.value(), std::move(wants),
                                  not_found, std::move(on_block))
      ->start();
}

void StripeReader::read(std::shared_ptr<const pb::Stripe> stripe, std::vector<Want> wants,
                        std::function<void(std::vector<result<Bytes>>)> done, NotFound not_found) {
  if (wants.empty()) {
    impl_->shared->deps.executor.post([done = std::move(done)] { done({}); });
    return;
  }
  struct Gathered {
    std::mutex mutex;
    std::vector<result<Bytes>> results;
    size_t missing;
    std::function<void(std::vector<result<Bytes>>)> done;
  };
  auto all = std::make_shared<Gathered>();
  all->results.resize(wants.size(), result<Bytes>(Bytes()));
  all->missing = wants.size();
  all->done = std::move(done);
  read_each(std::move(stripe), std::move(wants), not_found, [all](size_t i, result<Bytes> r) {
    {
      std::lock_guard lock(all->mutex);
      all->results[i] = std::move(r);
      if (--all->missing > 0) return;
    }
    all->done(std::move(all->results));
  });
}

uint64_t StripeReader::degraded_reads() const { return impl_->shared->degraded_reads; }

}  // namespace datacloud
