// The phases of a walk (begin, list page by page, look up, end) are jobs with a rest in between.
#include "daemon/scrub/continuous_scrub.h"

#include <fmt/format.h>

#include <algorithm>

#include "common/base/log.h"
#include "daemon/jobs/fan_out.h"
#include "daemon/metadata/record_keys.h"
#include "daemon/metadata/totals.h"
#include "daemon/scrub/garbage_scrub.h"

namespace datacloud {
namespace {

constexpr auto kRetry = seconds(60);  // after a failure
constexpr auto kDeadline = seconds(30);
constexpr size_t kRemovedAtOnce = 64;
constexpr uint64_t kNameBytes = 40;  // of an answer

std::string walk_key(SiteId site) { return key::meta(fmt::format("scrub_walk/{}", site)); }

}  // namespace

// The state a job works on: copied from the loop's, and stored back when the job has ended.
struct ContinuousScrub::Job {
  pb::ScrubWalk walk;
  std::unique_ptr<ListedNames> names;
  bool begun = false;  // from the start
  bool save = false;
  uint64_t missing = 0;
};

ContinuousScrub::ContinuousScrub(BackgroundContext& context, const IdRanges& ranges,
                                 std::shared_ptr<EventLoop> loop, Options options,
                                 std::function<void()> found)
    : context_(context),
      ranges_(ranges),
      loop_(std::move(loop)),
      options_(std::move(options)),
      found_(std::move(found)) {}

result<void> ContinuousScrub::open(const Transaction& txn) {
  for (Site* site : context_.sites.all()) {
    pb::ScrubWalk walk;
    TRY(const bool known, txn.get(walk_key(site->id()), walk));
    if (known) walks_[site->id()] = std::move(walk);
  }
  if (options_.cycle > Duration::zero()) loop_->after(options_.tick, [this] { tick(); });
  return success();
}

std::optional<double> ContinuousScrub::listed_share(SiteId site) const {
  const auto walk = walks_.find(site);
  if (walk == walks_.end() || walk->second.began_ns() == 0) return std::nullopt;
  if (walk->second.listed()) return 1;
  const auto expected = static_cast<double>(std::max<uint64_t>(1, objects_expected()));
  return std::min(0.99, static_cast<double>(walk->second.names()) / expected);
}

std::string ContinuousScrub::names_path(SiteId site) const {
  return options_.directory / fmt::format("walk-{}.names", site);
}

// --- On the loop --------------------------------------------------------------------------------

void ContinuousScrub::tick() {
  loop_->after(options_.tick, [this] { tick(); });
  if (busy_) return;
  if (Site* site = next_site()) begin(*site);
}

// The live site that has been due for the longest time.
Site* ContinuousScrub::next_site() {
  Site* next = nullptr;
  MonotonicTime earliest = loop_->now();
  const auto duties = context_.duties();
  for (Site* site : context_.sites.all()) {
    const auto duty = duty_of(duties, site->id());
    if (!site->up() || duty == pb::SITE_LOST || duty == pb::SITE_REMOVED) continue;
    State& state = states_[site->id()];
    if (state.next_at > earliest) continue;
    const auto walk = walks_.find(site->id());
    if (walk != walks_.end() &&
        walk->second.began_ns() == 0) {  // resting, by the clock on the wall
      const auto rested = std::chrono::nanoseconds(wall_now_ns() - walk->second.ended_ns());
      if (rested >= std::chrono::nanoseconds::zero() && rested < options_.cycle / 2) continue;
    }
    earliest = state.next_at;
    next = site;
  }
  return next;
}

void ContinuousScrub::begin(Site& site) {
  busy_ = true;
  auto job = std::make_shared<Job>();
  const auto walk = walks_.find(site.id());
  if (walk != walks_.end()) job->walk = walk->second;
  State& state = states_[site.id()];
  job->names = std::move(state.names);
  job->save = loop_->now() - state.saved >= options_.save;
  context_.threads.submit([this, &site, job] {
    const auto done = run(site, *job);
    (void)context_.threads.on_loop<void>([this, &site, job, &done]() -> result<void> {
      finished(site, *job, done);
      return success();
    });
  });
}

void ContinuousScrub::finished(Site& site, Job& job, const result<void>& done) {
  busy_ = false;
  State& state = states_[site.id()];
  state.names = std::move(job.names);
  const auto now = loop_->now();
  if (!done) {
    spdlog::warn("scrubbing site {}: {}; it continues there later", site.name(),
                 done.error().message());
    state.names.reset();  // opened again, at what the walk says
    state.next_at = now + kRetry;
    if (!job.begun) return;
  } else {
    state.next_at = now + pause_after(job.walk);
  }
  walks_[site.id()] = job.walk;
  if (job.missing > 0) found_();
  if (!job.save) return;
  state.saved = now;
  save(job.walk);
}

void ContinuousScrub::save(const pb::ScrubWalk& walk) {
  Transaction txn = context_.store.begin();
  txn.put(walk_key(walk.site()), walk);
  if (auto saved = context_.committer.apply(std::move(txn)); !saved) {
    spdlog::warn("the position of the scrub cannot be saved: {}", saved.error().message());
  }
}

uint64_t ContinuousScrub::objects_expected() const {
  const auto totals = read_totals(context_.store.begin());
  return totals ? totals.value().stripes : 0;
}

Duration ContinuousScrub::pause_after(const pb::ScrubWalk& walk) const {
  if (walk.began_ns() == 0 || walk.listed()) return options_.pause_min;
  const uint64_t pages = 1 + objects_expected() / options_.page;
  return std::clamp<Duration>(options_.cycle / 2 / static_cast<int64_t>(pages), options_.pause_min,
                              options_.pause_max);
}

// --- In a job -----------------------------------------------------------------------------------

result<void> ContinuousScrub::run(Site& site, Job& job) {
  if (job.walk.began_ns() == 0) {
    TRY(begin_walk(site, job));
  } else if (!job.names) {
    auto names =
        ListedNames::resume(make_posix_file_layer(), names_path(site.id()), job.walk.names());
    if (names) {
      job.names = std::make_unique<ListedNames>(std::move(names).value());
    } else {
      spdlog::warn("scrubbing site {}: {}; it starts from the beginning", site.name(),
                   names.error().message());
      TRY(begin_walk(site, job));
    }
  }
  return job.walk.listed() ? look_up(site, job) : list_page(site, job);
}

result<void> ContinuousScrub::begin_walk(Site& site, Job& job) {
  TRY(auto names, ListedNames::create(make_posix_file_layer(), names_path(site.id())));
  job.names = std::make_unique<ListedNames>(std::move(names));
  pb::ScrubWalk& walk = job.walk;
  walk.set_site(site.id());
  walk.set_began_ns(wall_now_ns());
  walk.clear_cursor();
  walk.set_listed(false);
  walk.set_names(0);
  walk.set_unknown(0);
  TRY(const InstanceId end, context_.threads.on_loop<InstanceId>([this] {
    return result<InstanceId>(ranges_.high_water(IdKind::instance));
  }));
  walk.set_instance_end(end);
  job.begun = job.save = true;
  return success();
}

result<void> ContinuousScrub::list_page(Site& site, Job& job) {
  context_.threads.spend(site.id(), options_.page * kNameBytes);
  auto page = wait_for<ListReply>([&](Callback<ListReply> done) {
    site.store().list(job.walk.cursor(), options_.page, {monotonic_now() + kDeadline, Purpose::gc},
                      std::move(done));
  });
  if (!page) {
    // A cursor the store does not know any more: of another store, or from before its upgrade.
    if (page.error().is(Errc::invalid)) {
      TRY(begin_walk(site, job));
    }
    return failure(page.error());
  }
  auto& listed = page.value();
  TRY(job.names->add(listed.names));
  TRY(const auto judged, judge(listed.names));
  TRY(const uint64_t removed, remove(site, judged.garbage));
  pb::ScrubWalk& walk = job.walk;
  walk.set_orphans(walk.orphans() + removed);
  walk.set_unknown(walk.unknown() + judged.unknown);
  walk.set_objects(walk.objects() + listed.names.size());
  walk.set_names(job.names->size());
  walk.set_cursor(listed.next);
  walk.set_listed(listed.next.empty());
  job.save |= walk.listed();
  return job.save ? job.names->sync() : success();
}

result<ContinuousScrub::PageJudged> ContinuousScrub::judge(const std::vector<std::string>& names) {
  return context_.threads.on_loop<PageJudged>([&]() -> result<PageJudged> {
    PageJudged judged;
    const Transaction txn = context_.store.begin();
    for (const auto& name : names) {
      const auto one = judge_listed(txn, context_.namer, ranges_, name);
      if (!one) continue;  // its stripe's record is damaged
      if (one.value() == ListedObject::unknown) ++judged.unknown;
      if (one.value() == ListedObject::garbage) judged.garbage.push_back(name);
    }
    return judged;
  });
}

// Answers how many were removed.
result<uint64_t> ContinuousScrub::remove(Site& site, const std::vector<std::string>& garbage) {
  if (garbage.empty()) return uint64_t{0};
  // What nobody names now may still be named by the records from before a power cut.
  TRY(context_.threads.await<void>([this](std::function<void(result<void>)> done) {
    context_.committer.when_durable([done = std::move(done)] { done(success()); });
  }));
  uint64_t removed = 0;
  for (size_t first = 0; first < garbage.size(); first += kRemovedAtOnce) {
    const size_t end = std::min(garbage.size(), first + kRemovedAtOnce);
    FanOut<uint64_t> answers;
    for (size_t i = first; i < end; ++i) {
      context_.threads.spend(site.id(), 0);
      remove_listed(site, garbage[i], answers.slot());
    }
    for (size_t i = 0; i < end - first; ++i) {
      const auto bytes = answers.answer(i);
      if (!bytes) continue;  // gone already, or listed again by the next walk
      ++removed;
      ++deleted_objects_;
      deleted_bytes_ += bytes.value();
    }
  }
  return removed;
}

result<void> ContinuousScrub::look_up(Site& site, Job& job) {
  auto options = options_.looking_up;
  options.instance_end = job.walk.instance_end();
  uint64_t missing = 0;
  MissingShardFinder search(context_, site, options, [&](const std::vector<pb::Damage>& found) {
    missing += found.size();
    return record_missing(context_, found);
  });
  std::atomic<uint64_t> checked{0};
  TRY(search.look_up(*job.names, checked));
  TRY(job.names->remove());
  job.names.reset();
  job.missing = missing;
  pb::ScrubWalk& walk = job.walk;
  walk.set_shards(walk.shards() + checked);
  walk.set_missing(walk.missing() + missing);
  walk.set_walks(walk.walks() + 1);
  walk.set_ended_ns(wall_now_ns());
  walk.set_unknown_before(walk.unknown());
  walk.set_began_ns(0);
  job.save = true;
  if (missing > 0) {
    spdlog::warn("site {} lacks {} of the {} shards it should have", site.name(), missing,
                 checked.load());
  }
  return success();
}

}  // namespace datacloud
