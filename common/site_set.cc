// The sites together: the prober thread and lookups.
#include "common/site_set.h"

#include <algorithm>

#include "common/log.h"

namespace datacloud {
namespace {

constexpr Duration kProbeDeadline = seconds(2);

// A failed check marks the site, unless report() has already, with a better reason.
void mark_away(Site& site, const Error& failure) {
  if (site.up()) site.set_away(std::string("its check failed: ") + failure.code().message());
}

}  // namespace

SiteSet::SiteSet(std::vector<Member> members, Duration probe_interval)
    : probe_interval_(probe_interval) {
  for (auto& member : members) {
    auto site = std::make_unique<Site>(member.id, member.name, std::move(member.store));
    site->wake_ = [this] { wake(); };
    site->probed_ = monotonic_now();
    sites_.push_back(std::move(site));
  }
  prober_ = std::thread([this] { probe_loop(); });
}

SiteSet::~SiteSet() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  prober_.join();
  // The stores wait for their calls, whose callbacks use the sites and the members of this.
  for (auto& site : sites_) site->store_.reset();
}

void SiteSet::check_all(Duration deadline) {
  struct Waiting {
    std::mutex mutex;
    std::condition_variable done;
    size_t left;
  };
  auto waiting = std::make_shared<Waiting>();
  waiting->left = sites_.size();
  const OpOptions options{monotonic_now() + deadline, Purpose::client};
  for (auto& site : sites_) {
    site->store().check(options, [&site = *site, waiting](result<void> r) {
      r ? site.set_up() : mark_away(site, r.error());
      std::lock_guard lock(waiting->mutex);
      if (--waiting->left == 0) waiting->done.notify_all();
    });
  }
  std::unique_lock lock(waiting->mutex);
  // A little more than the deadline: the stores answer at it by themselves.
  waiting->done.wait_until(lock, options.deadline + seconds(1), [&] { return waiting->left == 0; });
}

void SiteSet::on_change(std::function<void(Site&)> callback) {
  std::lock_guard lock(mutex_);
  on_change_ = std::move(callback);
}

Site* SiteSet::find(SiteId id) {
  for (auto& site : sites_) {
    if (site->id() == id) return site.get();
  }
  return nullptr;
}

Site* SiteSet::find(const std::string& name) {
  for (auto& site : sites_) {
    if (site->name() == name) return site.get();
  }
  return nullptr;
}

std::vector<Site*> SiteSet::all() {
  std::vector<Site*> out;
  for (auto& site : sites_) out.push_back(site.get());
  return out;
}

size_t SiteSet::live_count() const {
  return static_cast<size_t>(
      std::count_if(sites_.begin(), sites_.end(), [](const auto& site) { return site->up(); }));
}

std::string SiteSet::describe_away() const {
  std::string out;
  for (const auto& site : sites_) {
    if (site->up()) continue;
    if (!out.empty()) out += ", ";
    out += site->name() + " (away: " + site->away_reason() + ")";
  }
  return out;
}

void SiteSet::wake() {
  {
    std::lock_guard lock(mutex_);
    woken_ = true;
  }
  wake_.notify_all();
}

void SiteSet::probe_loop() {
  for (;;) {
    {
      std::unique_lock lock(mutex_);
      wake_.wait_for(lock, probe_interval_, [this] { return stop_ || woken_; });
      if (stop_) return;
      woken_ = false;
    }
    notify_changes();
    const auto now = monotonic_now();
    for (auto& site : sites_) {
      const Duration interval = site->up() ? kUpCheckInterval : probe_interval_;
      if (now - site->probed_ >= interval) probe(*site);
    }
  }
}

// At most one unanswered check per site.
void SiteSet::probe(Site& site) {
  if (site.probing_.exchange(true)) return;
  site.probed_ = monotonic_now();
  site.store().check({monotonic_now() + kProbeDeadline, Purpose::client}, [&site](result<void> r) {
    if (r && !site.up()) site.set_up();
    site.probing_ = false;
  });
}

void SiteSet::notify_changes() {
  std::function<void(Site&)> callback;
  {
    std::lock_guard lock(mutex_);
    callback = on_change_;
  }
  for (auto& site : sites_) {
    const bool up = site->up();
    if (up == site->notified_up_) continue;
    site->notified_up_ = up;
    if (up) {
      spdlog::info("site {} is back", site->name());
    } else {
      spdlog::warn("site {} is away: {}", site->name(), site->away_reason());
    }
    if (callback) callback(*site);
  }
}

}  // namespace datacloud
