// Verdicts, and the keyless check over all columns.
#include "common/stripe_challenge.h"

#include <fmt/format.h>

namespace datacloud {
namespace {

AuditChallenge challenge_for(const pb::Stripe& stripe, uint64_t samples) {
  const uint64_t blocks = audit_blocks_of(stripe.parity_bytes());
  return random_challenge(blocks, samples >= blocks ? 0 : samples);
}

// "column 3", "columns 0, 4".
std::string columns_text(ColumnSet columns) {
  std::string text = __builtin_popcount(columns) == 1 ? "column " : "columns ";
  bool first = true;
  for (int c = 0; c < 32; ++c) {
    if (!contains(columns, c)) continue;
    text += fmt::format("{}{}", first ? "" : ", ", c);
    first = false;
  }
  return text;
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
      answers_(static_cast<size_t>(stripe_.shards_size())) {}

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
  const ColumnSet column = ColumnSet{1} << c;
  if (proof.mu.size() == kAuditBlockBytes) answers_[static_cast<size_t>(c)] = proof.mu;
  failed_ |= column;
  if (proof.instance != 0 && proof.instance != shard.instance()) {
    return add(
        c, AuditVerdict::stale,
        fmt::format("the bytes of instance {} instead of {}", proof.instance, shard.instance()));
  }
  if (proof.object_size != shard.bytes()) {
    return add(c, AuditVerdict::corrupt,
               fmt::format("{} bytes instead of {}", proof.object_size, shard.bytes()));
  }
  if (tags_.tagger(shard.site()) == nullptr) {
    keyless_ |= column;
  } else if (auto verified = tags_.verify_proof(stripe_, c, challenge_, proof); !verified) {
    return add(c, AuditVerdict::corrupt, verified.error().message());
  }
  failed_ &= ~column;
}

// The smallest set of columns without which the answers are a codeword. redundant: there are more
// answers than a codeword has freedom.
std::optional<ColumnSet> StripeChallenge::columns_in_error_now(bool& redundant) const {
  redundant = false;
  const auto code = make_erasure_code(stripe_.code());
  if (!code || code.value()->packets() != 1 || code.value()->n() != stripe_.shards_size()) {
    return std::nullopt;
  }
  std::vector<Bytes> answers = answers_;
  ColumnSet present = 0;
  for (int c = 0; c < code.value()->n(); ++c) {
    auto& answer = answers[static_cast<size_t>(c)];
    if (stripe_.shards(c).state() == pb::SHARD_EMPTY) answer.resize(kAuditBlockBytes);
    if (!answer.empty()) present |= ColumnSet{1} << c;
  }
  redundant = __builtin_popcount(present) > code.value()->k();
  return redundant ? columns_in_error(*code.value(), present, answers) : std::nullopt;
}

void StripeChallenge::judge_without_key(std::optional<ColumnSet> wrong, bool redundant) {
  for (int c = 0; c < stripe_.shards_size(); ++c) {
    if (!contains(keyless_, c)) continue;
    if (!redundant || !wrong) {
      add(c, AuditVerdict::silent,
          "there is no audit key of its site, and the other columns' answers do not tell");
    } else if (contains(*wrong, c)) {
      add(c, AuditVerdict::corrupt, "its answer is not what the other columns' answers make it");
    }
  }
}

void StripeChallenge::finish() {
  bool redundant = false;
  const auto wrong = columns_in_error_now(redundant);
  judge_without_key(wrong, redundant);
  if (!redundant) return;
  const ColumnSet blamed = wrong ? *wrong & ~keyless_ : 0;
  if (failed_ == 0 && (!wrong || blamed != 0) && keyless_ == 0) {
    doubt_ = fmt::format(
        "stripe {}: every tag is right and the answers are no codeword{}: a site that knows its "
        "audit key, or the auditor's keys, cannot be trusted",
        stripe_.id(),
        blamed != 0 ? fmt::format(" (without {} they are)", columns_text(blamed)) : "");
  } else if (failed_ != 0 && wrong == ColumnSet{0}) {
    doubt_ = fmt::format(
        "stripe {}: {} fail their tags, and yet all answers are a codeword: only tags are damaged, "
        "the auditor's keys are not those they were made with, or sites have changed or gone back "
        "together",
        stripe_.id(), columns_text(failed_));
  } else if (failed_ != 0 && blamed != 0 && (blamed & failed_) == 0) {
    doubt_ = fmt::format(
        "stripe {}: {} fail their tags, and the codeword blames {}: keys and sites "
        "need a look",
        stripe_.id(), columns_text(failed_), columns_text(blamed));
  }
}

}  // namespace datacloud
