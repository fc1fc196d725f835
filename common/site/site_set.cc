// The sites together: the prober thread and lookups.
#include "common/site/site_set.h"

#include "common/base/log.h"
#include "common/base/out_of_space.h"

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
    append(std::make_unique<Site>(member.id, member.name, std::move(member.store)));
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
  for (size_t i = 0; i < count_; ++i) sites_[i]->store_.reset();
}

template <class F>
void SiteSet::each(F visit) const {
  const size_t count = count_.load(std::memory_order_acquire);
  for (size_t i = 0; i < count; ++i) {
    if (!sites_[i]->retired()) visit(*sites_[i]);
  }
}

void SiteSet::append(std::unique_ptr<Site> site) {
  site->wake_ = [this] { wake(); };
  site->probed_ = monotonic_now();
  const size_t count = count_.load(std::memory_order_relaxed);
  sites_.at(count) = std::move(site);
  count_.store(count + 1, std::memory_order_release);
}

bool SiteSet::add(Member member) {
  std::lock_guard lock(joining_);
  if (count_ == kSitesMax || find(member.id) != nullptr) return false;
  auto site = std::make_unique<Site>(member.id, member.name, std::move(member.store));
  site->set_away("it has just joined");
  site->notified_up_ = false;
  append(std::move(site));
  wake();
  return true;
}

void SiteSet::retire(SiteId id) {
  if (Site* site = find(id)) {
    site->set_takes_shards(false);
    site->retired_ = true;
  }
}

size_t SiteSet::size() const {
  size_t count = 0;
  each([&](Site&) { ++count; });
  return count;
}

void SiteSet::check_all(Duration deadline) {
  struct Waiting {
    std::mutex mutex;
    std::condition_variable done;
    size_t left;
  };
  auto waiting = std::make_shared<Waiting>();
  const auto sites = all();
  waiting->left = sites.size();
  const OpOptions options{monotonic_now() + deadline, Purpose::client};
  for (Site* site : sites) {
    site->store().check(options, [site, waiting](result<void> r) {
      r ? site->set_up() : mark_away(*site, r.error());
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
  Site* found = nullptr;
  each([&](Site& site) {
    if (site.id() == id) found = &site;
  });
  return found;
}

Site* SiteSet::find(const std::string& name) {
  Site* found = nullptr;
  each([&](Site& site) {
    if (site.name() == name) found = &site;
  });
  return found;
}

std::vector<Site*> SiteSet::all() {
  std::vector<Site*> out;
  each([&](Site& site) { out.push_back(&site); });
  return out;
}

size_t SiteSet::live_count() const {
  size_t live = 0;
  each([&](Site& site) { live += site.up(); });
  return live;
}

std::optional<Error> SiteSet::out_of_space(uint64_t bytes, size_t needed) const {
  std::map<std::string, Error> refusals;
  size_t with_room = 0;
  each([&](Site& site) {
    if (!site.up() || !site.takes_shards()) return;
    if (auto refusal = site.full_for(bytes)) {
      refusals.emplace(site.name(), std::move(*refusal));
    } else {
      ++with_room;
    }
  });
  if (with_room >= needed || with_room + refusals.size() < needed) return std::nullopt;
  return no_room_error(refusals);
}

std::string SiteSet::describe_away() const {
  std::string out;
  each([&](Site& site) {
    if (site.up()) return;
    if (!out.empty()) out += ", ";
    out += site.name() + " (away: " + site.away_reason() + ")";
  });
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
    each([&](Site& site) {
      const Duration interval = site.up() ? kUpCheckInterval : probe_interval_;
      if (now - site.probed_ >= interval) probe(site);
    });
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
  each([&](Site& site) {
    const bool up = site.up();
    if (up == site.notified_up_) return;
    site.notified_up_ = up;
    if (up) {
      spdlog::info("site {} is back", site.name());
    } else {
      spdlog::warn("site {} is away: {}", site.name(), site.away_reason());
    }
    if (callback) callback(site);
  });
}

Error no_room_error(const std::map<std::string, Error>& refusals) {
  std::string names;
  bool quotas = true;
  for (const auto& [name, refusal] : refusals) {
    names += (names.empty() ? "" : ", ") + name;
    quotas = quotas && is_quota(refusal);
  }
  return quotas ? quota_error("the quota of " + names +
                              " is used up; delete files, raise the quota, or add a site")
                : Error(Errc::no_space,
                        "no room at " + names + "; delete files, free space there, or add a site");
}

}  // namespace datacloud
