// Verdicts, and the keyless check over all columns.
#include "common/stripe_challenge.h"

#include <fmt/format.h>

namespace datacloud {
namespace {

AuditChallenge challenge_for(const pb::Stripe& stripe, uint64_t samples) {
  const uint64_t blocks = audit_blocks_of(stripe.parity_bytes());
  return random_challenge(blocks, samples >= blocks ? 0 : samples);
}

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

StripeChallenge::StripeChallenge(const ShardTags& tags, pb::Stripe stripe, uint64_t samples)
    : tags_(tags),
      stripe_(std::move(stripe)),
      challenge_(challenge_for(stripe_, samples)),
      proven_(static_cast<size_t>(stripe_.shards_size())) {}

void StripeChallenge::add(int column, AuditVerdict verdict, std::string detail) {
  faults_.push_back({column, verdict, std::move(detail)});
}

void StripeChallenge::silent(int column, std::string why) {
  add(column, AuditVerdict::silent, std::move(why));
}

void StripeChallenge::judge(int c, const result<AuditProof>& answer) {
  const auto& shard = stripe_.shards(c);
  ++totals_.shards_checked;
  if (!answer) {
    const Error& error = answer.error();
    if (error.is(Errc::not_found)) return add(c, AuditVerdict::missing, "");
    const bool bad = error.is(Errc::corrupt) || error.is(Errc::io);
    return add(c, bad ? AuditVerdict::corrupt : AuditVerdict::silent, error.message());
  }
  const AuditProof& proof = answer.value();
  totals_.bytes_transferred += proof.bytes_transferred;
  totals_.read_remotely += !proof.at_site;
  const uint64_t blocks = audit_blocks_of(shard.bytes());
  uint64_t asked = blocks;
  if (challenge_.samples != 0) {
    asked = 0;
    for (const auto& run : challenged_blocks(challenge_, blocks)) asked += run.count;
  }
  totals_.bytes_covered += std::min<uint64_t>(shard.bytes(), asked * kAuditBlockBytes);
  if (proof.instance != 0 && proof.instance != shard.instance()) {
    return add(
        c, AuditVerdict::stale,
        fmt::format("the bytes of instance {} instead of {}", proof.instance, shard.instance()));
  }
  if (proof.object_size != shard.bytes()) {
    return add(c, AuditVerdict::corrupt,
               fmt::format("{} bytes instead of {}", proof.object_size, shard.bytes()));
  }
  const auto verified = tags_.verify_proof(stripe_, c, challenge_, proof);
  if (!verified) return add(c, AuditVerdict::corrupt, verified.error().message());
  proven_[static_cast<size_t>(c)] = proof.mu;
}

std::string StripeChallenge::doubt() const {
  const auto code = make_erasure_code(stripe_.code());
  if (!code || code.value()->packets() != 1 || !faults_.empty()) return {};
  const int n = code.value()->n();
  if (n != stripe_.shards_size()) return {};
  std::vector<Bytes> answers = proven_;
  for (int c = 0; c < n; ++c) {
    auto& answer = answers[static_cast<size_t>(c)];
    if (stripe_.shards(c).state() == pb::SHARD_EMPTY) answer.resize(kAuditBlockBytes);
    if (answer.empty()) return {};
  }
  const ColumnSet all = n == 32 ? ~ColumnSet{0} : (ColumnSet{1} << n) - 1;
  const auto wrong = columns_in_error(*code.value(), all, answers);
  if (wrong && *wrong == 0) return {};
  std::string columns;
  for (int c = 0; wrong && c < n; ++c) {
    if (contains(*wrong, c)) columns += fmt::format("{}{}", columns.empty() ? "" : ", ", c);
  }
  return fmt::format(
      "stripe {}: every tag is right and the answers are no codeword{}: a site that knows its "
      "audit key, or the auditor's keys, cannot be trusted",
      stripe_.id(), columns.empty() ? "" : fmt::format(" (without column {} they are)", columns));
}

}  // namespace datacloud
