// Challenge, verify, and look again before anything is said.
#include "daemon/audit/stripe_audit.h"

#include <fmt/format.h>

#include <memory>
#include <random>

#include "common/base/log.h"
#include "daemon/jobs/fan_out.h"
#include "daemon/records/block_map.h"

namespace datacloud {
namespace {

constexpr auto kDeadline = seconds(30);
constexpr uint64_t kAnswerBytes = kAuditBlockBytes + kFieldBytes;
constexpr uint64_t kWindowBytesMax = 64u << 20;  // of shards under challenge at once, per job

uint64_t stored_bytes(const pb::Stripe& stripe, ColumnSet columns) {
  uint64_t bytes = 0;
  for (int c = 0; c < stripe.shards_size(); ++c) {
    if (contains(columns, c)) bytes += stripe.shards(c).bytes();
  }
  return bytes;
}

class StripesAudit {
 public:
  StripesAudit(BackgroundContext& context, uint64_t samples)
      : context_(context), samples_(samples) {}

  result<AuditReport> run(const std::vector<AuditItem>& items) {
    TRY(auto stripes, fetch(items));
    uint64_t window = 0;
    for (size_t i = 0; i < items.size(); ++i) {
      if (!stripes[i]) {
        ++report_.gone;
        continue;
      }
      const uint64_t bytes = stored_bytes(*stripes[i], items[i].columns);
      if (!asked_.empty() && window + bytes > kWindowBytesMax) {
        judge_all();
        window = 0;
      }
      window += bytes;
      ask(std::move(*stripes[i]), items[i].columns);
    }
    judge_all();
    if (!report_.findings.empty()) {
      TRY(record());
    }
    return std::move(report_);
  }

 private:
  using Records = std::vector<std::optional<pb::Stripe>>;
  struct Asked {
    std::unique_ptr<StripeChallenge> challenge;
    std::vector<int> columns;
    FanOut<AuditProof> answers;
    bool compared = false;
    FanOut<CombineReply> combined;
  };

  result<Records> fetch(const std::vector<AuditItem>& items) {
    return context_.threads.on_loop<Records>([&]() -> result<Records> {
      Records records;
      const Transaction txn = context_.store.begin();
      for (const auto& item : items) {
        TRY(records.emplace_back(), get_stripe(txn, item.stripe));
      }
      return records;
    });
  }

  void ask(pb::Stripe stripe, ColumnSet columns) {
    auto& asked = asked_.emplace_back();
    asked.challenge = std::make_unique<StripeChallenge>(context_.tags, std::move(stripe), samples_);
    auto& challenge = *asked.challenge;
    const auto& combination = challenge.combination();
    asked.compared = combination && challenge.comparable(columns & reachable(challenge.stripe())) &&
                     (challenge.combination_needed() || random_() % kComparedOneIn == 0);
    for (int c = 0; c < challenge.stripe().shards_size(); ++c) {
      const auto& shard = challenge.stripe().shards(c);
      if (!contains(columns, c) || shard.state() != pb::SHARD_PRESENT) continue;
      Site* site = context_.sites.find(shard.site());
      if (site == nullptr || !site->up()) {
        challenge.silent(c, site == nullptr ? "not configured" : site->away_reason());
        continue;
      }
      context_.threads.spend(shard.site(), kAnswerBytes);
      asked.columns.push_back(c);
      site->store().prove(context_.namer.object_name(challenge.name_of(c)), challenge.challenge(),
                          {monotonic_now() + kDeadline, Purpose::audit}, asked.answers.slot());
      if (!asked.compared) continue;
      context_.threads.spend(shard.site(),
                             combination->coefficients.size() * combination->ranges[0].length);
      site->store().combine(context_.namer.object_name(challenge.name_of(c)), *combination,
                            {monotonic_now() + kDeadline, Purpose::audit}, asked.combined.slot());
    }
  }

  ColumnSet reachable(const pb::Stripe& stripe) {
    ColumnSet columns = 0;
    for (int c = 0; c < stripe.shards_size(); ++c) {
      const Site* site = context_.sites.find(stripe.shards(c).site());
      if (site != nullptr && site->up()) columns |= ColumnSet{1} << c;
    }
    return columns;
  }

  void judge_all() {
    for (auto& asked : asked_) judge(asked);
    asked_.clear();
  }

  void judge(Asked& asked) {
    auto& challenge = *asked.challenge;
    for (size_t i = 0; i < asked.columns.size(); ++i) {
      const auto answer = asked.answers.answer(i);
      const SiteId site = challenge.stripe().shards(asked.columns[i]).site();
      ++report_.checked_by_site[site];
      challenge.judge(asked.columns[i], answer);
      if (asked.compared) {
        const auto combined = asked.combined.answer(i);
        challenge.judge_combined(asked.columns[i], combined);
        if (combined) report_.transferred_by_site[site] += combined.value().bytes_transferred;
      }
      if (!answer) continue;
      const uint64_t bytes = answer.value().bytes_transferred;
      report_.transferred_by_site[site] += bytes;
      // A shard that had to be read weighs on the site's budget for later challenges.
      if (bytes > kAnswerBytes) context_.threads.spend(site, bytes - kAnswerBytes, 0);
    }
    challenge.finish();
    const auto& totals = challenge.totals();
    report_.totals.shards_checked += totals.shards_checked;
    report_.totals.bytes_covered += totals.bytes_covered;
    report_.totals.bytes_transferred += totals.bytes_transferred;
    report_.totals.read_remotely += totals.read_remotely;
    for (const auto& fault : challenge.faults()) {
      const auto& shard = challenge.stripe().shards(fault.column);
      report_.findings.push_back({challenge.stripe().id(), fault.column, shard.instance(),
                                  shard.site(), fault.verdict, fault.detail});
    }
    if (!challenge.doubt().empty()) {
      report_.doubts.push_back(challenge.doubt_at([this](SiteId id) {
        const Site* site = context_.sites.find(id);
        return site != nullptr ? site->name() : fmt::format("site {}", id);
      }));
      spdlog::error("audit: {}", report_.doubts.back());
    }
  }

  // What was replaced meanwhile is no finding.
  result<void> record() {
    using Findings = std::vector<AuditFinding>;
    TRY(report_.findings, context_.threads.on_loop<Findings>([&]() -> result<Findings> {
      Findings real;
      Transaction txn = context_.store.begin();
      for (const auto& finding : report_.findings) {
        TRY(const auto current, get_stripe(txn, finding.stripe));
        if (!current || finding.column >= current->shards_size() ||
            current->shards(finding.column).instance() != finding.instance) {
          continue;
        }
        real.push_back(finding);
        if (finding.verdict == AuditVerdict::silent) continue;
        std::string reason = verdict_name(finding.verdict);
        if (!finding.detail.empty()) reason += ": " + finding.detail;
        const ShardName name{finding.stripe, static_cast<uint8_t>(finding.column),
                             finding.instance};
        TRY(record_damage(txn, damage_of(name, finding.site, reason)));
      }
      if (!txn.empty()) {
        TRY(context_.committer.apply(std::move(txn)));
      }
      return real;
    }));
    return success();
  }

  BackgroundContext& context_;
  const uint64_t samples_;
  std::minstd_rand random_{std::random_device{}()};
  std::vector<Asked> asked_;
  AuditReport report_;
};

}  // namespace

result<AuditReport> audit_stripes(BackgroundContext& context, const std::vector<AuditItem>& items,
                                  uint64_t samples) {
  return StripesAudit(context, samples).run(items);
}

}  // namespace datacloud
