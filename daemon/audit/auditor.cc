// Runs, the continuous one among them.
#include "daemon/audit/auditor.h"

#include <fmt/format.h>

#include <algorithm>
#include <random>

#include "common/base/log.h"
#include "daemon/metadata/counters.h"
#include "daemon/metadata/record_keys.h"
#include "daemon/metadata/totals.h"

namespace datacloud {
namespace {

constexpr uint64_t kContinuous = 0;
constexpr size_t kRunsMax = 8;
constexpr size_t kRunsKept = 16;
constexpr int kFindingsMax = 10'000;
constexpr int kDoubtsMax = 100;
constexpr size_t kSamplesMax = 1'000'000;
constexpr size_t kScanStep = 1000;
constexpr auto kTick = seconds(1);
constexpr auto kSave = seconds(30);  // cursor and history
constexpr double kCreditMax = 64;
constexpr const char* kCursor = "audit_cursor";
constexpr const char* kLog = "audit_log";

std::string history_key(SiteId site) { return key::meta(fmt::format("audit_site/{}", site)); }

const char* kind_of(const Auditor::Scope& scope) {
  if (scope.shard_samples > 0) return "sample";
  return scope.everything ? "full" : "paths";
}

pb::AuditLog::PerSite& entry_of(pb::AuditLog::Entry& entry, SiteId site) {
  for (auto& known : *entry.mutable_sites()) {
    if (known.site() == site) return known;
  }
  auto* added = entry.add_sites();
  added->set_site(site);
  return *added;
}

// The counter of a verdict, in histories and logs alike.
template <class Counts>
void count(Counts& counts, AuditVerdict verdict) {
  switch (verdict) {
    case AuditVerdict::missing:
      return counts.set_missing(counts.missing() + 1);
    case AuditVerdict::corrupt:
      return counts.set_corrupt(counts.corrupt() + 1);
    case AuditVerdict::stale:
      return counts.set_stale(counts.stale() + 1);
    case AuditVerdict::silent:
      return counts.set_silent(counts.silent() + 1);
  }
}

uint64_t stripes_total(const BackgroundContext& context) {
  const auto totals = read_totals(context.store.begin());
  return totals ? totals.value().stripes : 0;
}

}  // namespace

Auditor::Auditor(BackgroundContext& context, std::shared_ptr<EventLoop> loop, Duration cycle,
                 int jobs_max, std::function<void()> found)
    : context_(context),
      loop_(std::move(loop)),
      cycle_(cycle),
      jobs_max_(static_cast<size_t>(std::max(1, jobs_max))),
      found_(std::move(found)) {}

result<void> Auditor::open(const Transaction& txn) {
  for (Site* site : context_.sites.all()) {
    pb::AuditHistory& history = history_[site->id()];
    TRY(txn.get(history_key(site->id()), history));
    history.set_site(site->id());
  }
  TRY(txn.get(key::meta(kLog), log_));
  if (cycle_ == Duration::zero()) return success();
  Run& run = runs_[kContinuous];
  run.entry.set_started_ns(wall_now_ns());
  TRY(run.cursor, read_counter(txn, kCursor, 0));
  ticked_ = saved_ = loop_->now();
  loop_->after(kTick, [this] { tick(); });
  return success();
}

result<uint64_t> Auditor::start(Scope scope) {
  const auto active = std::count_if(runs_.begin(), runs_.end(), [](const auto& r) {
    return r.first != kContinuous && !r.second.reply.done();
  });
  if (active >= static_cast<long>(kRunsMax)) {
    return failure(Errc::unavailable,
                   fmt::format("{} audits are running already; wait for one to end", active));
  }
  const uint64_t id = next_run_++;
  Run& run = runs_[id];
  run.scope = std::move(scope);
  run.entry.set_started_ns(wall_now_ns());
  run.entry.set_kind(kind_of(run.scope));
  for (const StripeId stripe : run.scope.stripes) run.items.push_back({stripe});
  run.stripes_total = run.scope.everything ? stripes_total(context_) : run.items.size();
  if (run.scope.shard_samples > 0) choose_sample(id);
  while (runs_.size() > kRunsKept + 1) {
    auto oldest = std::find_if(runs_.begin(), runs_.end(),
                               [](const auto& r) { return r.first != kContinuous; });
    if (!oldest->second.reply.done()) break;
    runs_.erase(oldest);
  }
  loop_->post([this] { pump(); });
  return id;
}

result<void> Auditor::describe(uint64_t id, pb::AuditReply& reply) const {
  const auto it = id == kContinuous ? runs_.end() : runs_.find(id);
  if (it == runs_.end()) {
    return failure(Errc::not_found, fmt::format("there is no audit number {}", id));
  }
  reply = it->second.reply;
  reply.set_run(id);
  reply.set_stripes_done(it->second.stripes_done);
  reply.set_stripes_total(it->second.stripes_total);
  return success();
}

uint64_t Auditor::findings(SiteId site) const {
  const auto it = history_.find(site);
  if (it == history_.end()) return 0;
  return it->second.corrupt() + it->second.stale() + it->second.missing();
}

bool Auditor::suspect(SiteId site) const {
  const auto it = history_.find(site);
  if (it == history_.end() || findings(site) < kSuspectFindings) return false;
  const auto age = std::chrono::nanoseconds(wall_now_ns() - it->second.last_finding_ns());
  return age < kSuspectFor;
}

double Auditor::cycle_progress() const {
  const auto it = runs_.find(kContinuous);
  if (it == runs_.end()) return 0;
  const uint64_t total = stripes_total(context_);
  return total == 0 ? 1 : std::min(1.0, double(it->second.stripes_done) / double(total));
}

// Draws shards with equal chances from all there are (reservoir sampling), in a job.
void Auditor::choose_sample(uint64_t id) {
  Run& run = runs_[id];
  run.choosing = true;
  run.scope.everything = false;
  const size_t wanted = std::min<uint64_t>(run.scope.shard_samples, kSamplesMax);
  const auto given = run.scope.stripes;
  context_.threads.submit([this, id, wanted, given, loop = loop_] {
    auto chosen = std::make_shared<Batch>();
    std::mt19937_64 random(std::random_device{}());
    uint64_t seen = 0;
    StripeId from = 0;
    const auto consider = [&](const pb::Stripe& stripe) {
      for (int c = 0; c < stripe.shards_size(); ++c) {
        if (stripe.shards(c).state() != pb::SHARD_PRESENT) continue;
        const AuditItem item{stripe.id(), ColumnSet{1} << c};
        ++seen;
        if (chosen->size() < wanted) {
          chosen->push_back(item);
        } else if (const uint64_t i = random() % seen; i < wanted) {
          (*chosen)[i] = item;
        }
      }
    };
    const std::string end = key::after_prefix(key::stripe(0).substr(0, 1));
    for (bool more = true; more;) {
      const auto step = context_.threads.on_loop<bool>([&]() -> result<bool> {
        size_t count = 0;
        TRY(context_.store.begin().scan(
            key::stripe(from), end, [&](std::string_view, std::string_view v) {
              pb::Stripe stripe;
              if (stripe.ParseFromArray(v.data(), static_cast<int>(v.size()))) {
                from = stripe.id() + 1;
                if (given.empty() || std::binary_search(given.begin(), given.end(), stripe.id())) {
                  consider(stripe);
                }
              }
              return ++count < kScanStep;
            }));
        return count == kScanStep;
      });
      if (!step) {
        loop->post([this, id, text = step.error().message()] { give_up(id, text); });
        return;
      }
      more = step.value();
    }
    loop->post([this, id, chosen] {
      const auto it = runs_.find(id);
      if (it == runs_.end()) return;
      it->second.items = std::move(*chosen);
      it->second.stripes_total = it->second.items.size();
      it->second.choosing = false;
      pump();
    });
  });
}

void Auditor::give_up(uint64_t id, const std::string& why) {
  const auto it = runs_.find(id);
  if (it == runs_.end()) return;
  it->second.reply.set_failures(it->second.reply.failures() + 1);
  it->second.reply.set_last_failure(why);
  over(id);
}

std::vector<StripeId> Auditor::stripes_from(StripeId from, size_t count) const {
  std::vector<StripeId> found;
  const std::string end = key::after_prefix(key::stripe(0).substr(0, 1));
  (void)context_.store.begin().scan(key::stripe(from), end,
                                    [&](std::string_view k, std::string_view) {
                                      found.push_back(key::u64_at(k, 1));
                                      return found.size() < count;
                                    });
  return found;
}

// Empty: nothing is left, or a sample is still being drawn.
Auditor::Batch Auditor::next_batch(Run& run, size_t count) {
  Batch batch;
  if (run.choosing || run.exhausted) return batch;
  if (run.scope.everything) {
    for (const StripeId stripe : stripes_from(run.cursor, count)) batch.push_back({stripe});
    if (!batch.empty()) run.cursor = batch.back().stripe + 1;
    return batch;
  }
  while (batch.size() < count && run.next < run.items.size()) {
    batch.push_back(run.items[run.next++]);
  }
  return batch;
}

void Auditor::pump() {
  std::vector<uint64_t> ended;
  for (auto& [id, run] : runs_) {
    if (run.reply.done()) continue;
    while (in_flight_ < jobs_max_) {
      const size_t allowed =
          id == kContinuous ? std::min(kAuditBatchMax, static_cast<size_t>(std::max(0.0, credit_)))
                            : kAuditBatchMax;
      if (allowed == 0) break;
      Batch batch = next_batch(run, allowed);
      if (batch.empty()) {
        run.exhausted = !run.choosing;
        break;
      }
      if (id == kContinuous) credit_ -= static_cast<double>(batch.size());
      begin(id, std::move(batch));
    }
    if (run.exhausted && run.in_flight.empty()) ended.push_back(id);
  }
  for (const uint64_t id : ended) over(id);
}

// A run's end; the continuous one begins its next cycle.
void Auditor::over(uint64_t id) {
  Run& run = runs_[id];
  auto& entry = run.entry;
  entry.set_ended_ns(wall_now_ns());
  entry.set_stripes(run.stripes_done);
  entry.set_bytes_covered(run.reply.bytes_covered());
  entry.set_bytes_transferred(run.reply.bytes_transferred());
  entry.set_failures(run.reply.failures());
  if (id == kContinuous) entry.set_kind("cycle");
  if (run.stripes_done > 0) *log_.add_audits() = entry;
  if (log_.audits_size() > kLogMax) log_.mutable_audits()->DeleteSubrange(0, 1);
  if (id != kContinuous) {
    run.reply.set_done(true);
    return save(false);
  }
  run.cursor = 0;
  run.stripes_done = 0;
  run.exhausted = false;
  run.reply.Clear();
  entry.Clear();
  entry.set_started_ns(wall_now_ns());
  credit_ = 0;
  save(true);
}

void Auditor::begin(uint64_t id, Batch batch) {
  ++in_flight_;
  runs_[id].in_flight.insert(batch.front().stripe);
  const uint64_t samples = runs_[id].scope.block_samples;
  context_.threads.submit([this, id, batch = std::move(batch), samples, loop = loop_] {
    auto report = std::make_shared<result<AuditReport>>(audit_stripes(context_, batch, samples));
    loop->post([this, id, batch, report] { finished(id, batch, std::move(*report)); });
  });
}

void Auditor::finished(uint64_t id, const Batch& batch, result<AuditReport> outcome) {
  --in_flight_;
  const auto it = runs_.find(id);
  if (it == runs_.end()) return pump();
  Run& run = it->second;
  run.in_flight.erase(run.in_flight.find(batch.front().stripe));
  run.stripes_done += batch.size();
  dirty_ = true;
  if (!outcome) {
    run.reply.set_failures(run.reply.failures() + batch.size());
    run.reply.set_last_failure(outcome.error().message());
    return pump();
  }
  const auto& report = outcome.value();
  auto& reply = run.reply;
  reply.set_shards_checked(reply.shards_checked() + report.totals.shards_checked);
  reply.set_bytes_covered(reply.bytes_covered() + report.totals.bytes_covered);
  reply.set_bytes_transferred(reply.bytes_transferred() + report.totals.bytes_transferred);
  reply.set_read_remotely(reply.read_remotely() + report.totals.read_remotely);
  reply.set_bad_total(reply.bad_total() + report.findings.size());
  for (const auto& doubt : report.doubts) {
    if (reply.doubts_size() < kDoubtsMax) reply.add_doubts(doubt);
  }
  for (const auto& finding : report.findings) {
    if (reply.bad_size() >= kFindingsMax) break;
    auto* bad = reply.add_bad();
    bad->set_stripe(finding.stripe);
    bad->set_column(static_cast<uint32_t>(finding.column));
    bad->set_site(finding.site);
    bad->set_reason(verdict_name(finding.verdict));
    bad->set_detail(finding.detail);
  }
  add_findings(report, run.entry);
  pump();
}

void Auditor::add_findings(const AuditReport& report, pb::AuditLog::Entry& entry) {
  const int64_t now = wall_now_ns();
  for (const auto& [site, count] : report.checked_by_site) {
    auto& history = history_[site];
    history.set_shards_checked(history.shards_checked() + count);
    history.set_last_checked_ns(now);
    auto& logged = entry_of(entry, site);
    logged.set_shards_checked(logged.shards_checked() + count);
  }
  for (const auto& [site, bytes] : report.transferred_by_site) {
    history_[site].set_bytes_transferred(history_[site].bytes_transferred() + bytes);
  }
  for (const auto& finding : report.findings) {
    auto& history = history_[finding.site];
    count(history, finding.verdict);
    count(entry_of(entry, finding.site), finding.verdict);
    if (finding.verdict == AuditVerdict::silent) continue;
    history.set_last_finding_ns(now);
    spdlog::warn("audit: stripe {} column {} at site {} is {}{}{}", finding.stripe, finding.column,
                 context_.site_name(finding.site), verdict_name(finding.verdict),
                 finding.detail.empty() ? "" : ": ", finding.detail);
  }
  if (!report.findings.empty() && found_) found_();
}

// The continuous audit's share of time: all stripes in one cycle.
void Auditor::tick() {
  const auto now = loop_->now();
  const double passed = std::chrono::duration<double>(now - ticked_).count();
  ticked_ = now;
  const double cycle = std::chrono::duration<double>(cycle_).count();
  credit_ = std::min(kCreditMax, credit_ + passed * double(stripes_total(context_)) / cycle);
  pump();
  if (dirty_ && now - saved_ > kSave) save(false);
  loop_->after(kTick, [this] { tick(); });
}

void Auditor::save(bool cycle_over) {
  saved_ = loop_->now();
  dirty_ = false;
  Transaction txn = context_.store.begin();
  for (auto& [site, history] : history_) {
    if (cycle_over) history.set_cycles(history.cycles() + 1);
    history.set_site(site);
    txn.put(history_key(site), history);
  }
  // What is in flight is asked again after a crash.
  if (const auto it = runs_.find(kContinuous); it != runs_.end()) {
    const Run& run = it->second;
    put_counter(txn, kCursor, run.in_flight.empty() ? run.cursor : *run.in_flight.begin());
  }
  txn.put(key::meta(kLog), log_);
  (void)context_.committer.apply(std::move(txn));
}

}  // namespace datacloud
