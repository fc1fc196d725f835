// Challenge, verify, and look again before anything is said.
#include "daemon/stripe_audit.h"

#include <fmt/format.h>

#include "common/log.h"
#include "daemon/block_map.h"
#include "daemon/fan_out.h"

namespace datacloud {
namespace {

constexpr auto kDeadline = seconds(30);

class StripeAudit {
 public:
  StripeAudit(BackgroundContext& context, pb::Stripe stripe, uint64_t samples)
      : context_(context), stripe_(std::move(stripe)) {
    const uint64_t blocks = audit_blocks_of(stripe_.parity_bytes());
    challenge_ = random_challenge(blocks, samples >= blocks ? 0 : samples);
  }

  result<StripeAuditReport> run(ColumnSet columns) {
    ask(columns);
    for (size_t i = 0; i < asked_.size(); ++i) judge(asked_[i], answers_.answer(i));
    check_codeword();
    if (!report_.findings.empty()) {
      TRY(record());
    }
    return std::move(report_);
  }

 private:
  void ask(ColumnSet columns) {
    for (int c = 0; c < stripe_.shards_size(); ++c) {
      const auto& shard = stripe_.shards(c);
      if (!contains(columns, c) || shard.state() != pb::SHARD_PRESENT) continue;
      Site* site = context_.sites.find(shard.site());
      if (site == nullptr || !site->up()) {
        add(c, AuditVerdict::silent, site == nullptr ? "not configured" : site->away_reason());
        continue;
      }
      context_.threads.spend(shard.site(), kAuditBlockBytes);
      asked_.push_back(c);
      site->store().prove(context_.namer.object_name(name_of(c)), challenge_,
                          {monotonic_now() + kDeadline, Purpose::audit}, answers_.slot());
    }
  }

  void judge(int c, result<AuditProof> answer) {
    const auto& shard = stripe_.shards(c);
    ++report_.shards_checked;
    ++report_.checked_by_site[shard.site()];
    if (!answer) {
      const Error& error = answer.error();
      if (error.is(Errc::not_found)) return add(c, AuditVerdict::missing, "");
      const bool bad = error.is(Errc::corrupt) || error.is(Errc::io);
      return add(c, bad ? AuditVerdict::corrupt : AuditVerdict::silent, error.message());
    }
    const AuditProof& proof = answer.value();
    report_.bytes_transferred += proof.bytes_transferred;
    report_.read_remotely += !proof.at_site;
    const uint64_t blocks = audit_blocks_of(shard.bytes());
    uint64_t held = blocks;
    if (challenge_.samples != 0) {
      held = 0;
      for (const auto& run : challenged_blocks(challenge_, blocks)) held += run.count;
    }
    report_.bytes_covered += std::min<uint64_t>(shard.bytes(), held * kAuditBlockBytes);
    if (proof.instance != 0 && proof.instance != shard.instance()) {
      return add(
          c, AuditVerdict::stale,
          fmt::format("the bytes of instance {} instead of {}", proof.instance, shard.instance()));
    }
    if (proof.object_size != shard.bytes()) {
      return add(c, AuditVerdict::corrupt,
                 fmt::format("{} bytes instead of {}", proof.object_size, shard.bytes()));
    }
    const auto verified = context_.tags.verify_proof(stripe_, c, challenge_, proof);
    if (!verified) return add(c, AuditVerdict::corrupt, verified.error().message());
    proven_[c] = proof.mu;
  }

  // Every column answered well, or is zero by definition: their answers must be a codeword.
  void check_codeword() {
    const auto code = make_erasure_code(stripe_.code());
    if (!code || code.value()->packets() != 1 || !report_.findings.empty()) return;
    const int n = code.value()->n();
    std::vector<Bytes> answers(static_cast<size_t>(n), Bytes(kAuditBlockBytes));
    for (int c = 0; c < n; ++c) {
      if (stripe_.shards(c).state() == pb::SHARD_EMPTY) continue;
      if (!proven_.contains(c)) return;
      answers[static_cast<size_t>(c)] = proven_[c];
    }
    const ColumnSet all = n == 32 ? ~ColumnSet{0} : (ColumnSet{1} << n) - 1;
    const auto wrong = columns_in_error(*code.value(), all, answers);
    if (wrong && *wrong == 0) return;
    report_.doubt = fmt::format(
        "stripe {}: every tag is right and the answers are no codeword{}: a site that knows its "
        "audit key, or the daemon's keys, cannot be trusted",
        stripe_.id(), wrong ? fmt::format(" (column set {:#x})", *wrong) : "");
    spdlog::error("audit: {}", report_.doubt);
  }

  // What was replaced meanwhile is no finding.
  result<void> record() {
    TRY(const auto kept,
        context_.threads.on_loop<std::vector<AuditFinding>>(
            [&]() -> result<std::vector<AuditFinding>> {
              std::vector<AuditFinding> real;
              Transaction txn = context_.store.begin();
              TRY(const auto current, get_stripe(txn, stripe_.id()));
              for (const auto& finding : report_.findings) {
                if (!current || finding.column >= current->shards_size() ||
                    current->shards(finding.column).instance() != finding.instance) {
                  continue;
                }
                real.push_back(finding);
                if (finding.verdict == AuditVerdict::silent) continue;
                std::string reason = verdict_name(finding.verdict);
                if (!finding.detail.empty()) reason += ": " + finding.detail;
                TRY(record_damage(txn, damage_of(name_of(finding.column), finding.site, reason)));
              }
              if (!txn.empty()) {
                TRY(context_.commit(std::move(txn)));
              }
              return real;
            }));
    report_.findings = kept;
    return success();
  }

  ShardName name_of(int c) const {
    return {stripe_.id(), static_cast<uint8_t>(c), stripe_.shards(c).instance()};
  }
  void add(int c, AuditVerdict verdict, std::string detail) {
    const auto& shard = stripe_.shards(c);
    report_.findings.push_back(
        {stripe_.id(), c, shard.instance(), shard.site(), verdict, std::move(detail)});
  }

  BackgroundContext& context_;
  const pb::Stripe stripe_;
  AuditChallenge challenge_;
  std::vector<int> asked_;  // columns
  FanOut<AuditProof> answers_;
  std::map<int, Bytes> proven_;
  StripeAuditReport report_;
};

}  // namespace

const char* verdict_name(AuditVerdict verdict) {
  switch (verdict) {
    case AuditVerdict::missing:
      return "missing";
    case AuditVerdict::corrupt:
      return "corrupt";
    case AuditVerdict::stale:
      return "stale";
    case AuditVerdict::silent:
      break;
  }
  return "silent";
}

result<StripeAuditReport> audit_stripe(BackgroundContext& context, StripeId id, ColumnSet columns,
                                       uint64_t samples) {
  TRY(auto stripe, context.threads.on_loop<std::optional<pb::Stripe>>(
                       [&] { return get_stripe(context.store.begin(), id); }));
  if (!stripe) {
    StripeAuditReport report;
    report.gone = true;
    return report;
  }
  return StripeAudit(context, std::move(*stripe), samples).run(columns);
}

}  // namespace datacloud
