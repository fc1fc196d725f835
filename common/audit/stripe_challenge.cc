// Verdicts, and the keyless check over all columns.
#include "common/audit/stripe_challenge.h"

#include <fmt/format.h>

#include <algorithm>
#include <random>

namespace datacloud {
namespace {

AuditChallenge challenge_for(const pb::Stripe& stripe, uint64_t samples) {
  const uint64_t blocks = audit_blocks_of(stripe.parity_bytes());
  return random_challenge(blocks, samples >= blocks ? 0 : samples);
}

struct Places {
  Combination combination;
  bool all = false;
};

// Places of 4 KiB, as many as a combination may have ranges, the same ones in every packet; or all.
// A factor for each that is not zero, so that one wrong place alone is always seen.
std::optional<Places> random_places(uint64_t shard_bytes, size_t packets) {
  const uint64_t packet = shard_bytes / packets;
  if (packet == 0 || shard_bytes % packets != 0) return std::nullopt;
  const uint64_t length = std::min<uint64_t>(packet, kAuditBlockBytes);
  std::vector<uint64_t> starts;
  for (uint64_t at = 0; at < packet; at += length) starts.push_back(std::min(at, packet - length));
  const size_t most = kCombinationRangesMax / packets;
  Places places{{}, starts.size() <= most};
  std::random_device random;
  if (!places.all) {
    std::shuffle(starts.begin(), starts.end(), random);
    starts.resize(most);
  }
  const size_t ranges = starts.size() * packets;
  places.combination.coefficients.assign(packets, std::vector<uint8_t>(ranges));
  std::vector<uint8_t> factors;
  std::uniform_int_distribution<int> nonzero(1, 255);
  for (size_t i = 0; i < starts.size(); ++i)
    factors.push_back(static_cast<uint8_t>(nonzero(random)));
  for (size_t p = 0; p < packets; ++p) {
    for (size_t i = 0; i < starts.size(); ++i) {
      places.combination.coefficients[p][p * starts.size() + i] = factors[i];
      places.combination.ranges.push_back({p * packet + starts[i], length});
    }
  }
  return places;
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
      answers_(static_cast<size_t>(stripe_.shards_size())) {
  auto code = make_erasure_code(stripe_.code());
  if (!code || code.value()->n() != stripe_.shards_size()) return;
  code_ = code.value();
  if (code_->packets() == 1) return;
  if (auto places = random_places(stripe_.parity_bytes(), static_cast<size_t>(code_->packets()))) {
    combination_ = std::move(places->combination);
    combined_all_ = places->all;
  }
}

bool StripeChallenge::combination_needed() const {
  if (!combination_) return false;
  const auto keyless = [this](const pb::Shard& shard) {
    return shard.state() == pb::SHARD_PRESENT && tags_.tagger(shard.site()) == nullptr;
  };
  return std::any_of(stripe_.shards().begin(), stripe_.shards().end(), keyless);
}

bool StripeChallenge::comparable(ColumnSet asked) const {
  if (!code_ || (code_->packets() > 1 && !combination_)) return false;
  ColumnSet known = 0;
  for (int c = 0; c < code_->n(); ++c) {
    const auto state = stripe_.shards(c).state();
    if (state == pb::SHARD_EMPTY || (state == pb::SHARD_PRESENT && contains(asked, c))) {
      known |= ColumnSet{1} << c;
    }
  }
  return redundant(known);
}

bool StripeChallenge::redundant(ColumnSet known) const {
  const ColumnSet data = (ColumnSet{1} << code_->k()) - 1;
  return __builtin_popcount(known) > code_->k() &&
         code_->minimum_to_decode(data, known, {}).has_value();
}

// Silence is no verdict: the proof is asked for at the same time.
void StripeChallenge::judge_combined(int c, const result<CombineReply>& answer) {
  if (!answer || !combination_) return;
  totals_.bytes_transferred += answer.value().bytes_transferred;
  Bytes joined;
  for (const Bytes& output : answer.value().outputs) {
    joined.insert(joined.end(), output.begin(), output.end());
  }
  if (joined.size() != combination_->coefficients.size() * combination_->ranges[0].length) return;
  answers_[static_cast<size_t>(c)] = std::move(joined);
}

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
  if (!combination_ && proof.mu.size() == kAuditBlockBytes) {
    answers_[static_cast<size_t>(c)] = proof.mu;
  }
  answered_ |= column;
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

// The smallest set of columns without which the answers are a codeword, if they can tell.
std::optional<ColumnSet> StripeChallenge::compare() {
  if (!comparable(~ColumnSet{0})) return std::nullopt;
  const size_t length = combination_
                            ? combination_->coefficients.size() * combination_->ranges[0].length
                            : kAuditBlockBytes;
  std::vector<Bytes> answers = answers_;
  ColumnSet present = 0;
  for (int c = 0; c < code_->n(); ++c) {
    auto& answer = answers[static_cast<size_t>(c)];
    if (!contains(answered_, c)) answer.clear();  // nothing is known of its tag
    if (stripe_.shards(c).state() == pb::SHARD_EMPTY) answer.assign(length, 0);
    if (!answer.empty()) present |= ColumnSet{1} << c;
  }
  compared_ = redundant(present);
  return compared_ ? columns_in_error(*code_, present, answers) : std::nullopt;
}

void StripeChallenge::judge_without_key(std::optional<ColumnSet> wrong) {
  for (int c = 0; c < stripe_.shards_size(); ++c) {
    if (!contains(keyless_, c)) continue;
    if (!wrong) {
      add(c, AuditVerdict::silent,
          "there is no audit key of its site, and the other columns' answers do not tell");
    } else if (contains(*wrong, c)) {
      add(c, AuditVerdict::corrupt, "its answer is not what the other columns' answers make it");
    }
  }
}

// A combination may have places that were not sampled for the proofs: what is wrong there is plain
// damage. One that leaves out places says nothing of what the tags found elsewhere.
void StripeChallenge::finish() {
  const auto wrong = compare();
  judge_without_key(wrong);
  if (!compared_) return;
  blamed_ = wrong ? *wrong & ~keyless_ : 0;
  if (combination_ && challenge_.samples != 0) {
    for (int c = 0; c < stripe_.shards_size(); ++c) {
      if (contains(blamed_ & ~failed_, c)) {
        add(c, AuditVerdict::corrupt,
            "the other columns make other bytes than its combination has");
      }
    }
    return;
  }
  if (failed_ == 0 && (!wrong || blamed_ != 0) && keyless_ == 0) {
    doubt_ = fmt::format(
        "stripe {}: every tag is right and the answers are no codeword{}: a site that knows its "
        "audit key, or the auditor's keys, cannot be trusted",
        stripe_.id(),
        blamed_ != 0 ? fmt::format(" (without {} they are)", columns_text(blamed_)) : "");
  } else if (failed_ != 0 && wrong == ColumnSet{0} && (!combination_ || combined_all_)) {
    doubt_ = fmt::format(
        "stripe {}: {} fail their tags, and yet all answers are a codeword: only tags are damaged, "
        "the auditor's keys are not those they were made with, or sites have changed or gone back "
        "together",
        stripe_.id(), columns_text(failed_));
  } else if (failed_ != 0 && blamed_ != 0 && (blamed_ & failed_) == 0) {
    doubt_ = fmt::format(
        "stripe {}: {} fail their tags, and the codeword blames {}: keys and sites "
        "need a look",
        stripe_.id(), columns_text(failed_), columns_text(blamed_));
  }
}

std::string StripeChallenge::doubt_at(const std::function<std::string(SiteId)>& name) const {
  std::string text = doubt_;
  if (text.empty()) return text;
  for (int c = 0; c < stripe_.shards_size(); ++c) {
    if (contains(blamed_, c)) {
      text += fmt::format("; column {} is at {}", c, name(stripe_.shards(c).site()));
    }
  }
  return text;
}

}  // namespace datacloud
